/* proc_engine.c - the real daemon, seen through the library: what a client is promised
 * while entries are evicted, expire, and while the engine and other clients die.
 *
 * The engine's counters are read where every client sees them, in the control
 * segment.  A condition that the engine brings about at a later turn or tick is
 * awaited by pings: each is a round trip through its loop. */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "atomic.h"
#include "hc_i.h"
#include "hypercache.h"

enum { WAIT_MS = 10000, SMALL_VALUE = 100 };

struct client {
	struct hc *hc;
	struct hc_store *s;
};

static struct client client_open_at(const char *socket, const char *store)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct client c;

	o.socket = socket;
	o.timeout_ms = (uint32_t)t_limit_ms(WAIT_MS);
	CHECK_EQ(hc_open(&c.hc, &o), HC_OK);
	CHECK_EQ(hc_store(c.hc, store, &c.s), HC_OK);
	return c;
}

static struct client client_open(const struct t_daemon *d)
{
	return client_open_at(d->socket, "default");
}

static uint64_t counter(const struct client *c, enum shm_daemon_counter i)
{
	return shm_load_rlx(&c->hc->ctl->counter[i]);
}

static uint64_t pool_counter(const struct client *c, enum shm_pool_counter i)
{
	return shm_load_rlx(&c->hc->ctl->pool[0].counter[i]);
}

static uint64_t store_counter(const struct client *c, enum shm_store_counter i)
{
	return shm_load_rlx(&c->hc->ctl->store[0].counter[i]);
}

/* Pings until *word is `want`. */
static void wait_word(const struct client *c, const shm_u64 *word, uint64_t want)
{
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(WAIT_MS) * 1000000;

	while (shm_load_rlx(word) != want) {
		if (t_now_ns() > end_ns)
			t_fail(__FILE__, __LINE__, "still %llu, not %llu",
				(unsigned long long)shm_load_rlx(word), (unsigned long long)want);
		CHECK_EQ(hc_ping(c->hc), HC_OK);
	}
}

static void wait_counter(const struct client *c, enum shm_daemon_counter i, uint64_t want)
{
	wait_word(c, &c->hc->ctl->counter[i], want);
}

static void set_text(const struct client *c, const char *key, const char *value)
{
	CHECK_EQ(hc_set(c->s, key, strlen(key), value, strlen(value), NULL), HC_OK);
}

/* The value as a string, or NULL for a miss.  Static memory. */
static const char *get_text(const struct client *c, const char *key)
{
	static char buf[256];
	size_t n = 0;
	int r = hc_get(c->s, key, strlen(key), buf, sizeof buf - 1, &n);

	CHECK(r == HC_OK || r == HC_MISS);
	buf[r == HC_OK ? n : 0] = 0;
	return r == HC_OK ? buf : NULL;
}

/* ------------------------------------------------------------ set, get, delete */

TEST(what_one_client_has_set_another_one_reads)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct client a = client_open(d), b = client_open(d);

	CHECK(get_text(&b, "k") == NULL);
	set_text(&a, "k", "one");
	CHECK_STR(get_text(&b, "k"), "one");
	set_text(&b, "k", "two");
	CHECK_STR(get_text(&a, "k"), "two");
	CHECK_EQ(hc_delete(a.s, "k", 1), HC_OK);
	CHECK(get_text(&b, "k") == NULL);
	CHECK_EQ(hc_delete(b.s, "k", 1), HC_MISS);
	CHECK_EQ(store_counter(&a, SHM_SC_sets), 2);
	CHECK_EQ(store_counter(&a, SHM_SC_deletes), 1);
	CHECK_EQ(store_counter(&a, SHM_SC_delete_misses), 1);
	CHECK_EQ(store_counter(&a, SHM_SC_entries), 0);
	CHECK_EQ(store_counter(&a, SHM_SC_live_bytes), 0);
	hc_close(a.hc);
	hc_close(b.hc);
	t_daemon_stop(d);
}

TEST(stores_keep_equal_keys_apart)
{
	struct t_daemon *d = t_daemon_start("stores:\n  one: {}\n  two: {ttl: 1h}\n", NULL);
	struct client a = client_open_at(d->socket, "one"), b = client_open_at(d->socket, "two");

	set_text(&a, "k", "first");
	set_text(&b, "k", "second");
	CHECK_STR(get_text(&a, "k"), "first");
	CHECK_STR(get_text(&b, "k"), "second");
	CHECK_EQ(hc_delete(a.s, "k", 1), HC_OK);
	CHECK(get_text(&a, "k") == NULL);
	CHECK_STR(get_text(&b, "k"), "second");
	hc_close(a.hc);
	hc_close(b.hc);
	t_daemon_stop(d);
}

TEST(what_is_out_of_range_is_refused_and_changes_nothing)
{
	static char big[5 << 20];
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct client c = client_open(d);
	struct hc_set_opts o = HC_OPTS(hc_set_opts);

	set_text(&c, "k", "as it was");
	CHECK_EQ(hc_set(c.s, "k", 1, big, sizeof big, NULL), HC_E_TOO_LARGE);
	o.ttl_ms = 11ull * 365 * 24 * 3600 * 1000;
	CHECK_EQ(hc_set(c.s, "k", 1, "x", 1, &o), HC_E_INVAL);
	CHECK_STR(get_text(&c, "k"), "as it was");
	hc_close(c.hc);
	t_daemon_stop(d);
}

TEST(a_large_value_arrives_whole)
{
	enum { BYTES = 12 << 20 };
	struct t_daemon *d = t_daemon_start(
		"pools:\n  main: {size: 64MiB, huge_pages: \"off\"}\n", NULL);
	struct client c = client_open(d);
	uint64_t *sent = malloc(BYTES), *got = malloc(BYTES);
	size_t n = 0;

	CHECK(sent && got);
	for (int round = 0; round < 8; round++) { /* more than the pool holds */
		for (size_t i = 0; i < BYTES / 8; i++)
			sent[i] = t_random();
		CHECK_EQ(hc_set(c.s, &round, sizeof round, sent, BYTES, NULL), HC_OK);
		CHECK_EQ(hc_get(c.s, &round, sizeof round, got, BYTES, &n), HC_OK);
		CHECK_EQ(n, BYTES);
		CHECK(memcmp(sent, got, BYTES) == 0);
	}
	free(sent);
	free(got);
	hc_close(c.hc);
	t_daemon_stop(d);
}

/* -------------------------------------------------------------------- eviction */

/* Value bytes of key i, for pools in which sizes are mixed: most are small. */
static size_t mixed_bytes(uint64_t random, size_t max)
{
	size_t scale = (size_t)1 << random % 20;

	return (random >> 8) % (scale < max ? scale : max) + 1;
}

static void set_random(const struct client *c, const uint8_t *bytes, int key, size_t n)
{
	char name[32];
	int name_n = sprintf(name, "key-%d", key);

	CHECK_EQ(hc_set(c->s, name, (size_t)name_n, bytes + key % 251, n, NULL), HC_OK);
}

/* Gauges of a pool are written at the end of a turn, those of a store at once: while the engine evicts in
 * the background they agree only between turns. */
static void check_accounts(const struct client *c)
{
	enum { TRIES = 1000 };

	for (int i = 0; i < TRIES; i++) {
		CHECK_EQ(hc_ping(c->hc), HC_OK);
		if (pool_counter(c, SHM_PC_entries) == store_counter(c, SHM_SC_entries) &&
			pool_counter(c, SHM_PC_live_bytes) == store_counter(c, SHM_SC_live_bytes))
			break;
	}
	CHECK_EQ(pool_counter(c, SHM_PC_limit_bytes),
		pool_counter(c, SHM_PC_live_bytes) + pool_counter(c, SHM_PC_overhead_bytes) +
			pool_counter(c, SHM_PC_free_bytes) + pool_counter(c, SHM_PC_limbo_bytes) +
			pool_counter(c, SHM_PC_unusable_bytes));
	CHECK_EQ(pool_counter(c, SHM_PC_entries), store_counter(c, SHM_SC_entries));
	CHECK_EQ(pool_counter(c, SHM_PC_live_bytes), store_counter(c, SHM_SC_live_bytes));
}

TEST(a_full_pool_evicts_and_takes_every_set)
{
	enum { N = 60000 };
	static uint8_t bytes[SMALL_VALUE + 256];
	struct t_daemon *d = t_daemon_start(
		"pools:\n  main: {size: 8MiB, huge_pages: \"off\", " T_DAEMON_ALL "}\n", NULL);
	struct client c = client_open(d);
	char buf[SMALL_VALUE];
	size_t n;

	for (int i = 0; i < N; i++)
		set_random(&c, bytes, i, SMALL_VALUE);
	CHECK(store_counter(&c, SHM_SC_evicted) > 0);
	CHECK_EQ(store_counter(&c, SHM_SC_evicted) + store_counter(&c, SHM_SC_entries), N);
	check_accounts(&c);
	/* Three quarters of the pool hold entries of 208 bytes with everything. */
	CHECK(store_counter(&c, SHM_SC_entries) > (8u << 20) * 3 / 4 / 208);
	CHECK_EQ(hc_get(c.s, "key-59999", 9, buf, sizeof buf, &n), HC_OK);
	CHECK_EQ(n, SMALL_VALUE);
	hc_close(c.hc);
	t_daemon_stop(d);
}

TEST(most_of_what_is_read_again_and_again_stays_while_others_are_evicted)
{
	enum { N = 30000, HOT = 64 };
	static uint8_t bytes[SMALL_VALUE + 256];
	struct t_daemon *d = t_daemon_start(
		"pools:\n  main: {size: 4MiB, huge_pages: \"off\", " T_DAEMON_ALL "}\n", NULL);
	struct client c = client_open(d);
	int hits = 0;
	char name[32];

	for (int i = 0; i < N; i++) {
		set_random(&c, bytes, i, SMALL_VALUE);
		for (int hot = 0; hot < HOT && i >= HOT; hot++) {
			char buf[SMALL_VALUE];
			int k = sprintf(name, "key-%d", hot);
			hits += hc_get(c.s, name, (size_t)k, buf, sizeof buf, NULL) == HC_OK;
		}
	}
	CHECK(counter(&c, SHM_DC_hints) > 0);
	CHECK(store_counter(&c, SHM_SC_evicted) > N / 3);
	/* First in, first out would lose all of them when the pool is full: a third and more. */
	CHECK(hits > (N - HOT) * HOT / 10 * 9);
	hc_close(c.hc);
	t_daemon_stop(d);
}

TEST_LIMIT(every_size_finds_room_whatever_stands_there, 120)
{
	enum { N = 6000 };
	static uint8_t bytes[(1 << 20) + 256];
	struct t_daemon *d = t_daemon_start(
		"pools:\n  main: {size: 4MiB, huge_pages: \"off\"}\n", NULL);
	struct client c = client_open(d);
	size_t max = 1 << 20, n; /* a quarter of the pool: as large as it accepts */

	for (int i = 0; i < (int)sizeof bytes; i++)
		bytes[i] = (uint8_t)t_random();
	for (int i = 0; i < N; i++) {
		set_random(&c, bytes, i, mixed_bytes(t_random(), max));
		if (i % 100 == 0)
			check_accounts(&c);
	}
	/* One size alone, then the largest into it, then the smallest among those. */
	for (int i = 0; i < 20000; i++)
		set_random(&c, bytes, i, 64);
	for (int i = 0; i < 20; i++)
		set_random(&c, bytes, i, max);
	for (int i = 0; i < 20000; i++)
		set_random(&c, bytes, i, 1);
	CHECK_EQ(pool_counter(&c, SHM_PC_alloc_failed), 0);
	CHECK_EQ(hc_get(c.s, "key-19999", 9, bytes, sizeof bytes, &n), HC_OK);
	check_accounts(&c);
	hc_close(c.hc);
	t_daemon_stop(d);
}

/* ------------------------------------------------------------------------ time */

TEST(an_entry_ends_with_its_time_and_not_before)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct client c = client_open(d);
	struct hc_set_opts o = HC_OPTS(hc_set_opts);
	uint64_t begun_ns = t_now_ns(), end_ns = begun_ns + 20000000000ull;

	o.ttl_ms = 300;
	CHECK_EQ(hc_set(c.s, "short", 5, "v", 1, &o), HC_OK);
	o.ttl_ms = HC_TTL_NEVER;
	CHECK_EQ(hc_set(c.s, "long", 4, "v", 1, &o), HC_OK);
	while (get_text(&c, "short")) {
		CHECK(t_now_ns() < end_ns);
		sched_yield();
	}
	CHECK(t_now_ns() - begun_ns >= 300000000);
	CHECK(get_text(&c, "long") != NULL);
	/* Over, so no longer to be deleted; and counted as what it is. */
	CHECK_EQ(hc_delete(c.s, "short", 5), HC_MISS);
	CHECK_EQ(store_counter(&c, SHM_SC_expired), 1);
	hc_close(c.hc);
	t_daemon_stop(d);
}

/* ------------------------------------------------------------- the engine dies */

/* What is over goes by itself, with its memory; and nobody sees it before, be the engine stopped. */
TEST(what_is_over_is_taken_away_unasked)
{
	enum { N = 5000 };
	struct t_daemon *d = t_daemon_start("heartbeat: 100ms\n", NULL);
	struct client c = client_open(d);
	struct hc_set_opts o = HC_OPTS(hc_set_opts);
	char name[32];

	set_text(&c, "stays", "v");
	o.ttl_ms = 100;
	for (int i = 0; i < N; i++)
		CHECK_EQ(hc_set(c.s, name, (size_t)sprintf(name, "k%d", i), "v", 1, &o), HC_OK);
	o.ttl_ms = 3600000;
	CHECK_EQ(hc_set(c.s, "k1", 2, "v", 1, &o), HC_OK); /* again, for longer */
	wait_word(&c, &c.hc->ctl->store[0].counter[SHM_SC_entries], 2);
	CHECK(store_counter(&c, SHM_SC_expired) >= N - 1);
	CHECK_EQ(store_counter(&c, SHM_SC_evicted), 0);
	CHECK(get_text(&c, "stays") && get_text(&c, "k1"));
	CHECK_EQ(hc_touch(c.s, "k1", 2, 50), HC_OK); /* and for less */
	wait_word(&c, &c.hc->ctl->store[0].counter[SHM_SC_entries], 1);
	pid_t engine = t_daemon_engine(d);
	o.ttl_ms = 50;
	CHECK_EQ(hc_set(c.s, "short", 5, "v", 1, &o), HC_OK);
	uint64_t over_ns = t_now_ns() + 50 * 1000000ull;
	CHECK_EQ(kill(engine, SIGSTOP), 0);
	while (t_now_ns() < over_ns)
		sched_yield();
	CHECK(!get_text(&c, "short"));
	CHECK_EQ(kill(engine, SIGCONT), 0);
	hc_close(c.hc);
	t_daemon_stop(d);
}

TEST(an_engine_dies_and_nothing_is_lost)
{
	enum { N = 2000 };
	static uint8_t bytes[SMALL_VALUE + 256];
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct client c = client_open(d);
	uint64_t id = c.hc->session_id, opened = counter(&c, SHM_DC_sessions_opened);
	struct hc_view v;
	char name[32], buf[SMALL_VALUE];

	for (int i = 0; i < N; i++)
		set_random(&c, bytes, i, SMALL_VALUE);
	set_text(&c, "viewed", "old");
	CHECK_EQ(hc_view(c.s, "viewed", 6, &v), HC_OK);
	for (int deaths = 1; deaths <= 3; deaths++) {
		pid_t former = t_daemon_kill_engine(d, SIGKILL);
		CHECK_EQ(hc_get(c.s, "key-1", 5, buf, sizeof buf, NULL), HC_OK); /* meanwhile */
		set_text(&c, "viewed", "new"); /* waits for the next engine */
		CHECK(t_daemon_engine(d) != former);
		CHECK_EQ(shm_load_rlx(&c.hc->ctl->engine_gen), 1 + deaths);
		CHECK(memcmp(v.value, "old", 3) == 0);
		CHECK_EQ(hc_view_ok(&v), 1);
	}
	for (int i = 0; i < N; i++) {
		int k = sprintf(name, "key-%d", i);
		CHECK_EQ(hc_get(c.s, name, (size_t)k, buf, sizeof buf, NULL), HC_OK);
	}
	CHECK_EQ(hc_view_release(&v), HC_OK);
	CHECK_EQ(c.hc->session_id, id); /* resumed, not opened anew */
	CHECK_EQ(counter(&c, SHM_DC_sessions_opened), opened);
	CHECK_EQ(counter(&c, SHM_DC_engine_starts), 4);
	CHECK_EQ(counter(&c, SHM_DC_adopt_dropped), 0);
	CHECK_EQ(store_counter(&c, SHM_SC_entries), N + 1);
	check_accounts(&c);
	hc_close(c.hc);
	t_daemon_stop(d);
}

TEST(an_adopted_pool_evicts_on)
{
	enum { N = 40000 };
	static uint8_t bytes[SMALL_VALUE + 256];
	struct t_daemon *d = t_daemon_start(
		"pools:\n  main: {size: 4MiB, huge_pages: \"off\"}\n", NULL);
	struct client c = client_open(d);

	for (int i = 0; i < N; i++) {
		set_random(&c, bytes, i, SMALL_VALUE);
		if (i == N / 2)
			(void)t_daemon_kill_engine(d, SIGKILL);
	}
	CHECK_EQ(shm_load_rlx(&c.hc->ctl->engine_gen), 2);
	CHECK(store_counter(&c, SHM_SC_evicted) > N / 3);
	check_accounts(&c);
	hc_close(c.hc);
	t_daemon_stop(d);
}

/* -------------------------------------------------------------- a client dies */

/* A process that opens a session, reads `hits` times, and waits to be killed. */
static pid_t reader_start(const struct t_daemon *d, int hits)
{
	int pipe_fd[2];
	char byte;

	CHECK_EQ(pipe(pipe_fd), 0);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		struct client c = client_open(d);
		struct hc_view v;
		for (int i = 0; i < hits; i++)
			CHECK(get_text(&c, "k") != NULL);
		CHECK_EQ(hc_view(c.s, "k", 1, &v), HC_OK);
		CHECK_EQ(write(pipe_fd[1], "r", 1), 1);
		for (;;)
			(void)pause();
	}
	(void)close(pipe_fd[1]);
	CHECK(t_wait_fd(pipe_fd[0], 1 /* POLLIN */, WAIT_MS));
	CHECK_EQ(read(pipe_fd[0], &byte, 1), 1);
	(void)close(pipe_fd[0]);
	return pid;
}

TEST(a_killed_client_leaves_its_counts_and_nothing_else)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct client c = client_open(d);

	set_text(&c, "k", "v");
	for (int i = 1; i <= 3; i++) {
		pid_t pid = reader_start(d, 10);
		CHECK_EQ(counter(&c, SHM_DC_sessions), 2);
		CHECK_EQ(kill(pid, SIGKILL), 0);
		(void)t_wait_child(pid, WAIT_MS);
		wait_counter(&c, SHM_DC_sessions, 1);
		CHECK_EQ(counter(&c, SHM_DC_sessions_dead), i);
		CHECK_EQ(store_counter(&c, SHM_SC_folded_hits), 11 * i); /* the view is one */
	}
	/* What it had pinned is free again. */
	CHECK_EQ(hc_delete(c.s, "k", 1), HC_OK);
	wait_word(&c, &c.hc->ctl->pool[0].counter[SHM_PC_limbo_bytes], 0);
	wait_counter(&c, SHM_DC_connections, 1);
	hc_close(c.hc);
	t_daemon_stop(d);
}

TEST(a_client_that_died_with_its_engine_is_noticed_by_the_next_one)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct client c = client_open(d);

	set_text(&c, "k", "v");
	pid_t pid = reader_start(d, 0);
	CHECK_EQ(kill(t_daemon_engine(d), SIGSTOP), 0); /* so that it cannot see the death */
	CHECK_EQ(kill(pid, SIGKILL), 0);
	(void)t_wait_child(pid, WAIT_MS);
	(void)t_daemon_kill_engine(d, SIGKILL);
	CHECK_EQ(hc_ping(c.hc), HC_OK);
	wait_counter(&c, SHM_DC_sessions, 1);
	CHECK_EQ(counter(&c, SHM_DC_sessions_dead), 1);
	CHECK_EQ(shm_load_rlx(&c.hc->ctl->engine_gen), 2);
	hc_close(c.hc);
	t_daemon_stop(d);
}

TEST(too_much_held_by_one_client_is_taken_back)
{
	static char big[200 << 10], other[200 << 10];
	struct t_daemon *d = t_daemon_start("limbo_cap: 64KiB\n", NULL);
	struct client c = client_open(d), modest = client_open(d);
	struct hc_view v, small;

	set_text(&modest, "small", "held");
	CHECK_EQ(hc_view(modest.s, "small", 5, &small), HC_OK);
	memset(other, 1, sizeof other);
	CHECK_EQ(hc_set(c.s, "k", 1, big, sizeof big, NULL), HC_OK);
	CHECK_EQ(hc_view(c.s, "k", 1, &v), HC_OK);
	CHECK_EQ(hc_view_ok(&v), 1);
	CHECK_EQ(hc_delete(modest.s, "small", 5), HC_OK); /* in limbo too, but little */
	CHECK_EQ(hc_set(c.s, "k", 1, other, sizeof other, NULL), HC_OK);
	wait_counter(&modest, SHM_DC_revocations, 1);
	CHECK_EQ(hc_view_ok(&v), 0);
	CHECK_EQ(hc_view_release(&v), HC_E_REVOKED);
	CHECK_EQ(hc_view_ok(&small), 1);
	CHECK(memcmp(small.value, "held", 4) == 0);
	CHECK_EQ(hc_view_release(&small), HC_OK);
	/* The session itself goes on. */
	CHECK_EQ(hc_view(c.s, "k", 1, &v), HC_OK);
	CHECK_EQ(hc_view_ok(&v), 1);
	CHECK_EQ(hc_view_release(&v), HC_OK);
	CHECK_EQ(counter(&c, SHM_DC_revocations), 1);
	wait_word(&c, &c.hc->ctl->pool[0].counter[SHM_PC_limbo_bytes], 0);
	hc_close(modest.hc);
	hc_close(c.hc);
	t_daemon_stop(d);
}

/* ----------------------------------------------------------------- beginning, end */

TEST(without_membarrier_every_reader_is_told_to_fence)
{
	struct t_daemon *d = t_daemon_start("membarrier: \"off\"\n", NULL);
	struct client c = client_open(d);
	struct hc_info info = HC_OPTS(hc_info);

	CHECK_EQ(hc_info(c.hc, &info), HC_OK);
	CHECK_EQ(info.full_fence, 1);
	set_text(&c, "k", "v");
	CHECK_STR(get_text(&c, "k"), "v");
	(void)t_daemon_kill_engine(d, SIGKILL);
	set_text(&c, "k", "w"); /* the next engine adopts it without a barrier of its own */
	CHECK_STR(get_text(&c, "k"), "w");
	hc_close(c.hc);
	t_daemon_stop(d);
}

TEST(an_ended_daemon_says_so_in_memory)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct client c = client_open(d);

	set_text(&c, "k", "v");
	t_daemon_stop(d);
	CHECK_EQ(shm_load_rlx(&c.hc->ctl->state), SHM_ENGINE_ENDED);
	CHECK_STR(get_text(&c, "k"), "v");
	hc_close(c.hc);
}

TEST(an_engine_ends_when_its_supervisor_was_killed)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct client c = client_open(d);

	set_text(&c, "k", "v");
	t_daemon_kill(d); /* waits for the engine's end */
	CHECK_EQ(shm_load_rlx(&c.hc->ctl->state), SHM_ENGINE_ENDED);
	CHECK_STR(get_text(&c, "k"), "v");
	hc_close(c.hc);
}

/* The number behind `name:` in the process's status, in this base. */
static uint64_t status_of(pid_t pid, const char *name, int base)
{
	char path[64], line[256];
	uint64_t n = UINT64_MAX;

	(void)snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
	FILE *f = fopen(path, "re");
	CHECK(f != NULL);
	while (fgets(line, sizeof line, f))
		if (strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ':')
			n = strtoull(line + strlen(name) + 1, NULL, base);
	fclose(f);
	CHECK(n != UINT64_MAX);
	return n;
}

TEST(an_engine_has_no_rights_but_its_users)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);

	char *line = t_proc_line(d->proc, "locked down: ", WAIT_MS);
	bool filtered = strstr(line, "system calls are allowed") != NULL;

	CHECK(filtered || strstr(line, "system calls are not filtered: "));
	free(line);
	for (int i = 0; i < 2; i++) { /* the next engine, too */
		pid_t engine = t_daemon_engine(d);
		CHECK_EQ(status_of(engine, "Seccomp", 10), filtered ? 2 : 0);
		CHECK_EQ(status_of(engine, "CapEff", 16), 0);
		CHECK_EQ(status_of(engine, "CapPrm", 16), 0);
		CHECK_EQ(status_of(engine, "NoNewPrivs", 10), 1);
		if (i == 0)
			(void)t_daemon_wait_engine(d, t_daemon_kill_engine(d, SIGKILL));
	}
	t_daemon_stop(d);
}

TEST(an_engine_that_is_not_locked_down_can_be_debugged)
{
	struct t_daemon *d = t_daemon_start("lockdown: off\n", NULL);
	pid_t engine = t_daemon_engine(d);

	CHECK_EQ(status_of(engine, "Seccomp", 10), 0);
	CHECK_EQ(status_of(engine, "CapEff", 16), 0);
	t_daemon_stop(d);
}

TEST(an_idle_daemon_wakes_up_only_for_its_heartbeat)
{
	/* A process that wakes up falls asleep again: once each. */
	static const char sleeps[] = "voluntary_ctxt_switches";
	struct t_daemon *d = t_daemon_start("heartbeat: 500ms\n", NULL);
	struct client c = client_open(d);
	pid_t engine = t_daemon_engine(d);
	int quiet[2];

	CHECK_EQ(pipe(quiet), 0);
	uint64_t beat = shm_load_rlx(&c.hc->ctl->heartbeat_ns);
	uint64_t eng = status_of(engine, sleeps, 10), sup = status_of(d->proc->pid, sleeps, 10);
	CHECK(!t_wait_fd(quiet[0], 1 /* POLLIN */, 3000)); /* nothing comes: so long is it idle */
	eng = status_of(engine, sleeps, 10) - eng;
	sup = status_of(d->proc->pid, sleeps, 10) - sup;
	CHECK(shm_load_rlx(&c.hc->ctl->heartbeat_ns) > beat);
	CHECK(eng >= 4 && eng <= 10 * (uint64_t)t_limit_ms(1)); /* two beats a second */
	CHECK(sup <= 1); /* none; one if it was still about to fall asleep at the beginning */
	(void)close(quiet[0]);
	(void)close(quiet[1]);
	hc_close(c.hc);
	t_daemon_stop(d);
}
