/* proc_clear.c - a store is cleared: at once for every reader, without harm to what comes afterwards, with
 * all memory given back in steps that keep nobody waiting, wherever the engine dies. */
#include <signal.h>
#include <string.h>
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "atomic.h"
#include "hc_i.h"
#include "hypercache.h"

enum { WAIT_MS = 20000, MSET = 4096, KEY_BYTES = 24 };

static const char config[] = "restart_limit: 1000\nrestart_backoff_max: 100ms\n"
			     "pools:\n  main: {size: 64MiB, huge_pages: \"off\"}\n"
			     "stores: {kept: {}, gone: {}}\n";
enum { KEPT = 0, GONE = 1 };

struct client {
	struct hc *hc;
	struct hc_store *kept, *gone;
};

static struct client client_open(const struct t_daemon *d)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct client c;

	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(WAIT_MS);
	CHECK_EQ(hc_open(&c.hc, &o), HC_OK);
	CHECK_EQ(hc_store(c.hc, "kept", &c.kept), HC_OK);
	CHECK_EQ(hc_store(c.hc, "gone", &c.gone), HC_OK);
	return c;
}

static uint64_t counter(const struct client *c, uint32_t store, enum shm_store_counter i)
{
	return shm_load_rlx(&c->hc->ctl->store[store].counter[i]);
}

static uint64_t pool_counter(const struct client *c, enum shm_pool_counter i)
{
	return shm_load_rlx(&c->hc->ctl->pool[0].counter[i]);
}

/* Sets n entries, with their numbers as keys and values. */
static void fill(struct hc_store *s, uint64_t n)
{
	static char key[MSET][KEY_BYTES];
	static struct hc_mset_item it[MSET];

	for (uint64_t at = 0; at < n; at += MSET) {
		size_t some = n - at < MSET ? n - at : MSET;
		for (size_t i = 0; i < some; i++) {
			size_t k = (size_t)snprintf(
				key[i], KEY_BYTES, "%llu", (unsigned long long)(at + i));
			it[i] = (struct hc_mset_item){
				.key = key[i], .key_bytes = k, .value = key[i], .value_bytes = k};
		}
		CHECK_EQ(hc_mset(s, it, some, NULL), HC_OK);
	}
}

static int look(struct hc_store *s, uint64_t i)
{
	char key[KEY_BYTES], buf[KEY_BYTES];
	size_t k = (size_t)snprintf(key, KEY_BYTES, "%llu", (unsigned long long)i), n = 0;
	int r = hc_get(s, key, k, buf, sizeof buf, &n);

	CHECK(r == HC_MISS || (r == HC_OK && n == k && memcmp(buf, key, k) == 0));
	return r;
}

static uint64_t found(struct hc_store *s, uint64_t n)
{
	uint64_t there = 0;

	for (uint64_t i = 0; i < n; i++)
		there += look(s, i) == HC_OK;
	return there;
}

/* Until nothing of what was cleared takes memory. */
static void wait_purged(const struct client *c)
{
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(WAIT_MS) * 1000000;

	while (counter(c, GONE, SHM_SC_void_entries) && t_now_ns() < end_ns)
		CHECK_EQ(hc_ping(c->hc), HC_OK);
	CHECK_EQ(counter(c, GONE, SHM_SC_void_entries), 0);
}

static void check_memory(const struct t_daemon *d)
{
	char *out;
	int e = t_run((const char *[]){t_bin("hypercache"), "--admin", d->admin, "fsck", NULL},
		NULL, 0, &out, NULL, NULL, WAIT_MS);

	if (e != 0)
		fprintf(stderr, "%s", out);
	CHECK_EQ(e, 0);
	free(out);
}

/* ------------------------------------------------------------------ what is cleared */

TEST(nobody_finds_what_was_there_and_what_comes_afterwards_stays)
{
	enum { N = 30000, LATER = 100 };
	struct t_daemon *d = t_daemon_start(config, NULL);
	struct client c = client_open(d), other = client_open(d);
	uint64_t n = 0;
	struct hc_view v;

	fill(c.gone, N);
	fill(c.kept, 1000);
	CHECK_EQ(hc_view(other.gone, "77", 2, &v), HC_OK);
	CHECK_EQ(hc_clear(c.gone, &n), HC_OK);
	CHECK_EQ(n, N);
	CHECK_EQ(look(other.gone, 0), HC_MISS); /* of another session, at once */
	CHECK_EQ(hc_exists(other.gone, "5", 1), HC_MISS);
	CHECK_EQ(counter(&c, GONE, SHM_SC_entries), 0);
	CHECK_EQ(counter(&c, GONE, SHM_SC_live_bytes), 0);
	CHECK_EQ(counter(&c, GONE, SHM_SC_cleared), N);
	CHECK_EQ(hc_set(c.gone, "5", 1, "5", 1,
			 &(struct hc_set_opts){.size = sizeof(struct hc_set_opts), .mode = HC_ADD}),
		HC_OK);
	fill(c.gone, LATER); /* over what is void, while it goes */
	CHECK_EQ(found(other.gone, N), LATER);
	CHECK_EQ(found(other.kept, 1000), 1000);
	CHECK_EQ(counter(&c, GONE, SHM_SC_entries), LATER);
	wait_purged(&c);
	CHECK_EQ(found(other.gone, N), LATER);
	CHECK_EQ(counter(&c, GONE, SHM_SC_entries), LATER);
	CHECK_EQ(counter(&c, GONE, SHM_SC_evicted), 0);
	CHECK_EQ(counter(&c, GONE, SHM_SC_expired), 0);
	CHECK_EQ(pool_counter(&c, SHM_PC_entries), LATER + 1000);
	CHECK(v.value_bytes == 2 && memcmp(v.value, "77", 2) == 0);
	CHECK_EQ(hc_view_ok(&v), 1);
	CHECK_EQ(hc_view_release(&v), HC_OK);
	CHECK_EQ(hc_clear(c.gone, NULL), HC_OK);
	CHECK_EQ(hc_clear(c.gone, &n), HC_OK);
	CHECK_EQ(n, 0);
	CHECK_EQ(hc_clear(NULL, &n), HC_E_INVAL);
	wait_purged(&c);
	check_memory(d);
	hc_close(other.hc);
	hc_close(c.hc);
	t_daemon_stop(d);
}

/* Every verb that looks at what is there finds nothing. */
TEST(what_is_void_is_absent_to_every_condition)
{
	struct t_daemon *d = t_daemon_start(config, NULL);
	struct client c = client_open(d);
	struct hc_set_opts o = HC_OPTS(hc_set_opts);
	struct hc_incr_opts must = HC_OPTS(hc_incr_opts);
	struct hc_scan scan = HC_OPTS(hc_scan);
	uint64_t version = 0;
	int64_t sum = 0;

	must.must_exist = 1;
	for (int verb = 0; verb < 7; verb++) {
		fill(c.gone, 20000); /* enough that a purge is under way */
		CHECK_EQ(hc_set(c.gone, "7", 1, "7", 1, NULL), HC_OK);
		o = (struct hc_set_opts){.size = sizeof o, .ret_version = &version};
		CHECK_EQ(hc_set(c.gone, "7", 1, "7", 1, &o), HC_OK);
		o.ret_version = NULL;
		CHECK_EQ(hc_clear(c.gone, NULL), HC_OK);
		if (verb == 0) {
			o.mode = HC_REPLACE;
			CHECK_EQ(hc_set(c.gone, "7", 1, "8", 1, &o), HC_MISS);
		} else if (verb == 1) {
			o.mode = HC_IF_VERSION;
			o.version = version;
			CHECK_EQ(hc_set(c.gone, "7", 1, "8", 1, &o), HC_MISS);
		} else if (verb == 2) {
			CHECK_EQ(hc_append(c.gone, "7", 1, "8", 1, NULL), HC_MISS);
		} else if (verb == 3) {
			CHECK_EQ(hc_delete_if(c.gone, "7", 1, version), HC_MISS);
		} else if (verb == 4) {
			CHECK_EQ(hc_touch(c.gone, "7", 1, 1000), HC_MISS);
		} else if (verb == 5) {
			CHECK_EQ(hc_incr(c.gone, "7", 1, 1, &must, &sum), HC_MISS);
		} else {
			CHECK_EQ(hc_incr(c.gone, "7", 1, 1, NULL, &sum), HC_OK);
			CHECK_EQ(sum, 1);
		}
		CHECK_EQ(counter(&c, GONE, SHM_SC_entries), verb == 6);
		wait_purged(&c);
	}
	CHECK_EQ(hc_clear(c.gone, NULL), HC_OK);
	CHECK_EQ(hc_scan(c.gone, &scan, NULL, NULL), HC_E_INVAL);
	check_memory(d);
	hc_close(c.hc);
	t_daemon_stop(d);
}

/* What a clear left gives its memory back, also what is too large for a slab, again and again. */
TEST(all_memory_of_a_cleared_store_comes_back)
{
	enum { ROUNDS = 5, BIG_BYTES = 3 << 20 };
	struct t_daemon *d = t_daemon_start(config, NULL);
	struct client c = client_open(d);
	static char big[BIG_BYTES];
	uint64_t free_bytes = 0;

	for (int round = 0; round < ROUNDS; round++) {
		char key[8];
		fill(c.gone, 50000);
		for (int i = 0; i < 8; i++)
			CHECK_EQ(hc_set(c.gone, key, (size_t)sprintf(key, "big%d", i), big,
					 sizeof big, NULL),
				HC_OK);
		CHECK_EQ(counter(&c, GONE, SHM_SC_evicted), 0);
		CHECK_EQ(hc_clear(c.gone, NULL), HC_OK);
		wait_purged(&c);
		uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(WAIT_MS) * 1000000;
		while (pool_counter(&c, SHM_PC_limbo_entries) && t_now_ns() < end_ns)
			CHECK_EQ(hc_ping(c.hc), HC_OK);
		CHECK_EQ(pool_counter(&c, SHM_PC_limbo_bytes), 0);
		CHECK_EQ(pool_counter(&c, SHM_PC_live_bytes), 0);
		if (round) /* the first one has made the index grow */
			CHECK_EQ(pool_counter(&c, SHM_PC_free_bytes), free_bytes);
		free_bytes = pool_counter(&c, SHM_PC_free_bytes);
	}
	check_memory(d);
	hc_close(c.hc);
	t_daemon_stop(d);
}

static void tool(const struct t_daemon *d, const char *option, const char *verb, const char *what,
	const char *name)
{
	const char *argv[] = {
		t_bin("hypercache"), "--admin", d->admin, option, verb, what, name, NULL};
	char *out, *err;

	int e = t_run(argv, NULL, 0, &out, NULL, &err, WAIT_MS);
	if (e != 0)
		t_fail(__FILE__, __LINE__, "%s %s: %s%s", verb, what, out, err);
	free(out);
	free(err);
}

/* An engine that is stopped in the middle leaves accounts that close; a store may be dropped then. */
TEST(a_store_that_is_being_emptied_can_be_checked_and_dropped)
{
	enum { N = 60000 };
	struct t_daemon *d = t_daemon_start(config, NULL);
	struct client c = client_open(d);
	struct hc_store *s;
	int halfway = 0;

	fill(c.kept, 1000);
	for (int round = 0; round < 8; round++) {
		tool(d, "--json", "store", "create", "brief");
		CHECK_EQ(hc_store(c.hc, "brief", &s), HC_OK);
		fill(s, N);
		CHECK_EQ(hc_clear(s, NULL), HC_OK);
		CHECK_EQ(kill(t_daemon_engine(d), SIGSTOP), 0);
		halfway += pool_counter(&c, SHM_PC_entries) > 1000 + 200;
		check_memory(d);
		CHECK_EQ(kill(t_daemon_engine(d), SIGCONT), 0);
		fill(s, 200); /* some that live, when it goes */
		CHECK_EQ(hc_clear(s, NULL), HC_OK);
		tool(d, "--json", "store", "drop", "brief");
		uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(WAIT_MS) * 1000000;
		while (pool_counter(&c, SHM_PC_entries) > 1000 && t_now_ns() < end_ns)
			CHECK_EQ(hc_ping(c.hc), HC_OK);
		CHECK_EQ(pool_counter(&c, SHM_PC_entries), 1000);
	}
	CHECK(halfway > 0);
	CHECK_EQ(found(c.kept, 1000), 1000);
	CHECK_EQ(shm_load_rlx(&c.hc->ctl->engine_gen), 1);
	check_memory(d);
	hc_close(c.hc);
	t_daemon_stop(d);
}

/* ------------------------------------------------------------------ deaths */

TEST(a_dead_engines_successor_goes_on)
{
	enum { N = 100000 };
	struct t_daemon *d = t_daemon_start(config, NULL);
	struct client c = client_open(d);

	fill(c.kept, 1000);
	for (int i = 0; i < 5; i++) {
		fill(c.gone, N);
		CHECK_EQ(hc_clear(c.gone, NULL), HC_OK);
		(void)t_daemon_kill_engine(d, SIGKILL);
		CHECK_EQ(found(c.gone, N), 0);
		fill(c.gone, 10);
		CHECK_EQ(found(c.gone, N), 10);
		CHECK_EQ(counter(&c, GONE, SHM_SC_entries), 10);
		CHECK_EQ(counter(&c, GONE, SHM_SC_void_entries), 0);
		CHECK_EQ(found(c.kept, 1000), 1000);
		check_memory(d);
	}
	hc_close(c.hc);
	t_daemon_stop(d);
}

/* ------------------------------------------------------------------ how long */

/* T_ENTRIES=10000000 T_POOL=2GiB measures a large one; the numbers are in daemon/README.md. */
static struct t_daemon *large_begin(struct client *c, uint64_t *ret_n)
{
	const char *entries = getenv("T_ENTRIES"), *pool = getenv("T_POOL");
	char text[256];

	*ret_n = entries ? strtoull(entries, NULL, 10) : 50000;
	(void)snprintf(text, sizeof text,
		"pools:\n  main: {size: %s, huge_pages: \"off\"}\nstores: {kept: {}, gone: {}}\n",
		pool ? pool : "64MiB");
	struct t_daemon *d = t_daemon_start(text, NULL);
	*c = client_open(d);
	fill(c->gone, *ret_n);
	CHECK_EQ(counter(c, GONE, SHM_SC_entries), *ret_n);
	return d;
}

/* Says how long it took; not what a quiet machine needs is asked for, but far below one turn for all. */
static void large_end(struct t_daemon *d, struct client *c, uint64_t n, uint64_t begun_ns,
	uint64_t answered_ns, uint64_t longest_ns)
{
	uint64_t all_ns = t_now_ns() - begun_ns;
	uint64_t turn_ns = shm_load_rlx(&c->hc->ctl->counter[SHM_DC_purge_turn_ns]);

	fprintf(stderr,
		"  %llu entries: answered after %.3f ms, memory back after %.1f ms; longest turn "
		"%.3f ms, longest ping meanwhile %.3f ms\n",
		(unsigned long long)n, (double)answered_ns / 1e6, (double)all_ns / 1e6,
		(double)turn_ns / 1e6, (double)longest_ns / 1e6);
	CHECK(turn_ns > 0);
	CHECK(answered_ns < (uint64_t)t_limit_ms(100) * 1000000);
	CHECK(turn_ns < (uint64_t)t_limit_ms(100) * 1000000);
	hc_close(c->hc);
	t_daemon_stop(d);
}

static uint64_t ping_ns(const struct client *c)
{
	uint64_t ns = t_now_ns();

	CHECK_EQ(hc_ping(c->hc), HC_OK);
	return t_now_ns() - ns;
}

TEST_LIMIT(the_answer_and_the_turns_after_it_are_short, 240)
{
	uint64_t n, cleared = 0, longest_ns = 0;
	struct client c;
	struct t_daemon *d = large_begin(&c, &n);
	uint64_t begun_ns = t_now_ns();

	CHECK_EQ(hc_clear(c.gone, &cleared), HC_OK);
	uint64_t answered_ns = t_now_ns() - begun_ns;
	CHECK_EQ(cleared, n);
	while (counter(&c, GONE, SHM_SC_void_entries)) {
		uint64_t ns = ping_ns(&c);
		longest_ns = ns > longest_ns ? ns : longest_ns;
	}
	large_end(d, &c, n, begun_ns, answered_ns, longest_ns);
}

/* The engine's own memory for the entries goes too. */
TEST_LIMIT(so_they_are_after_a_drop, 240)
{
	uint64_t n, longest_ns = 0;
	struct client c;
	struct t_daemon *d = large_begin(&c, &n);
	uint64_t begun_ns = t_now_ns();

	tool(d, "--force", "store", "drop", "gone");
	uint64_t answered_ns = t_now_ns() - begun_ns; /* of a program that had to be started */
	while (pool_counter(&c, SHM_PC_entries) || shm_load_rlx(&c.hc->ctl->dropped_id[GONE])) {
		uint64_t ns = ping_ns(&c);
		longest_ns = ns > longest_ns ? ns : longest_ns;
	}
	CHECK_EQ(hc_ping(c.hc), HC_OK);
	large_end(d, &c, n, begun_ns, answered_ns, longest_ns);
}
