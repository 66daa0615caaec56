/* proc_feed.c - the change feed with the real daemon: several who follow what is written while engines die, who are too slow,
 * who wait, who look for a part of it, who go on later; why entries go; and `hypercache monitor`. */
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "cli_run.h"
#include "feed_read.h"
#include "hc_i.h"
#include "hypercache.h"

enum { WAIT_MS = 20000, FOLLOWERS = 3, OPS = 4000, DEATHS = 5, KEYS = 50 };

#define POOL(feed) \
	"restart_limit: 1000\nrestart_backoff_max: 100ms\nheartbeat: 100ms\n" \
	"pools: {main: {size: 8MiB, huge_pages: \"off\", feed: " feed "}}\n"

static struct hc *session(const struct t_daemon *d)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct hc *hc;

	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(WAIT_MS);
	CHECK_EQ(hc_open(&hc, &o), HC_OK);
	return hc;
}

static struct hc_store *store(struct hc *hc, const char *name)
{
	struct hc_store *s;

	CHECK_EQ(hc_store(hc, name, &s), HC_OK);
	return s;
}

static struct hc_feed *subscribe(
	struct hc *hc, struct hc_store *s, const char *prefix, uint64_t from)
{
	struct hc_feed_opts o = HC_OPTS(hc_feed_opts);
	struct hc_feed *f;

	o.store = s;
	o.prefix = prefix;
	o.prefix_bytes = prefix ? strlen(prefix) : 0;
	o.from = from;
	CHECK_EQ(hc_subscribe(hc, &o, &f), HC_OK);
	return f;
}

static void set(struct hc_store *s, const char *key, size_t value_bytes)
{
	static const char value[300000];

	CHECK_EQ(hc_set(s, key, strlen(key), value, value_bytes, NULL), HC_OK);
}

static int next(struct hc_feed *f, int ms, struct hc_event *ev)
{
	*ev = (struct hc_event)HC_OPTS(hc_event);
	return hc_feed_next(f, ms ? (uint32_t)t_limit_ms(ms) : 0, ev);
}

/* The next event is this, about that key. */
static void expect(struct hc_feed *f, uint32_t what, uint32_t why, const char *key)
{
	struct hc_event ev;

	CHECK_EQ(next(f, WAIT_MS, &ev), HC_OK);
	CHECK_EQ(ev.what, what);
	CHECK_EQ(ev.why, why);
	CHECK_EQ(ev.key_bytes, strlen(key));
	CHECK(memcmp(ev.key, key, ev.key_bytes) == 0);
}

static void expect_none(struct hc_feed *f)
{
	struct hc_event ev;

	CHECK_EQ(next(f, 0, &ev), HC_MISS);
}

/* ------------------------------------------------------------------ exactly once */

/* What was written, for those who follow to compare. */
static struct log {
	shm_u32 n_ready;
	struct {
		uint32_t what, key;
		uint64_t version; /* of a set */
	} op[OPS];
} * told;

static void follow(const struct t_daemon *d)
{
	struct hc *hc = session(d);
	struct hc_feed *f = subscribe(hc, store(hc, "default"), NULL, 0);
	struct {
		uint64_t sequence, version;
		uint32_t what;
		char key[16];
	} got[OPS];
	struct hc_event ev;

	__atomic_add_fetch(&told->n_ready.v, 1, __ATOMIC_SEQ_CST);
	for (int i = 0; i < OPS; i++) {
		CHECK_EQ(next(f, WAIT_MS, &ev), HC_OK);
		got[i].sequence = ev.sequence;
		got[i].version = ev.version;
		got[i].what = ev.what;
		CHECK(ev.key_bytes < sizeof got[i].key);
		(void)snprintf(got[i].key, sizeof got[i].key, "%.*s", (int)ev.key_bytes,
			(const char *)ev.key);
	}
	set(store(hc, "other"), "done",
		1); /* the writer's last answer has come by then, or comes */
	for (int i = 0; i < OPS; i++) {
		char key[16];
		(void)snprintf(key, sizeof key, "k%u", told->op[i].key);
		CHECK_EQ(got[i].sequence, got[0].sequence + (uint64_t)i);
		CHECK_EQ(got[i].what, told->op[i].what);
		CHECK_STR(got[i].key, key);
		if (i < OPS - 1 && got[i].what == HC_EVENT_SET)
			CHECK_EQ(got[i].version, told->op[i].version);
	}
	hc_feed_close(f);
	hc_close(hc);
}

static void write_one(struct hc_store *s, int i, bool *there)
{
	uint32_t k = (uint32_t)t_random_below(KEYS);
	struct hc_set_opts o = HC_OPTS(hc_set_opts);
	char key[16];
	int n = snprintf(key, sizeof key, "k%u", k);

	told->op[i].key = k;
	if (there[k] && t_random_below(3) == 0) {
		told->op[i].what = HC_EVENT_DELETE;
		CHECK_EQ(hc_delete(s, key, (size_t)n), HC_OK);
		there[k] = false;
		return;
	}
	told->op[i].what = HC_EVENT_SET;
	o.ret_version = &told->op[i].version;
	CHECK_EQ(hc_set(s, key, (size_t)n, key, (size_t)n, &o), HC_OK);
	there[k] = true;
}

TEST_LIMIT(all_who_follow_get_each_change_once_and_in_order_while_engines_die, 200)
{
	struct t_daemon *d = t_daemon_start(
		POOL("1MiB") "stores: {default: {}, other: {}}\n", NULL);
	struct hc *hc = session(d);
	struct hc_store *s = store(hc, "default");
	bool there[KEYS] = {0};
	pid_t pid[FOLLOWERS];

	told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(told != MAP_FAILED);
	fflush(NULL);
	for (int i = 0; i < FOLLOWERS; i++) {
		pid[i] = fork();
		CHECK(pid[i] >= 0);
		if (pid[i] == 0) {
			follow(d);
			_exit(0);
		}
	}
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(WAIT_MS) * 1000000;
	while (__atomic_load_n(&told->n_ready.v, __ATOMIC_SEQ_CST) < FOLLOWERS)
		CHECK(t_now_ns() < end_ns);
	for (int i = 0; i < OPS; i++) {
		if (i % (OPS / DEATHS) == OPS / DEATHS / 2)
			(void)t_daemon_wait_engine(d, t_daemon_kill_engine(d, SIGKILL));
		write_one(s, i, there);
	}
	for (int i = 0; i < FOLLOWERS; i++)
		CHECK_EQ(t_wait_child(pid[i], WAIT_MS), 0);
	hc_close(hc);
	t_daemon_stop(d);
}

TEST_LIMIT(who_is_too_slow_is_told_and_goes_on, 100)
{
	struct t_daemon *d = t_daemon_start(POOL("64KiB"), NULL);
	struct hc *hc = session(d);
	struct hc_store *s = store(hc, "default");
	struct hc_feed *f = subscribe(hc, s, NULL, 0);
	uint64_t seen = 0, missed = 0, last = 0;
	struct hc_event ev;
	int r;

	for (int i = 0; i < 3000; i++) {
		char key[16];
		(void)snprintf(key, sizeof key, "%d", i % 7);
		set(s, key, 1);
	}
	while ((r = next(f, 0, &ev)) != HC_MISS) {
		CHECK(r == HC_OK || r == HC_LAPPED);
		missed += r == HC_LAPPED ? ev.missed : 0;
		seen += r == HC_OK;
		CHECK(r == HC_LAPPED || last == 0 || ev.sequence == last + 1);
		last = r == HC_OK ? ev.sequence : 0;
	}
	CHECK(missed > 0 && seen > 100);
	CHECK_EQ(seen + missed, 3000);
	set(s, "k", 1);
	expect(f, HC_EVENT_SET, 0, "k");
	hc_feed_close(f);
	hc_close(hc);
	t_daemon_stop(d);
}

/* ------------------------------------------------------------------ waiting */

/* Nothing but the engine's word ends this wait, where the library would look again by itself. */
TEST_LIMIT(the_engine_wakes_who_waits, 100)
{
	struct t_daemon *d = t_daemon_start(POOL("64KiB"), NULL);
	struct hc *hc = session(d);
	struct shm_feed_reader r;
	uint64_t lost;

	CHECK_EQ(shm_feed_find(hc->pool[0].base, shm_load_rlx(&hc->pool[0].bytes), &r), 0);
	CHECK_EQ(shm_feed_seek(&r, FEED_FROM_END, &lost), 0);
	fflush(NULL);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		const int ms = t_limit_ms(WAIT_MS);
		struct timespec t = {.tv_sec = ms / 1000};
		int w = (int)syscall(
			SYS_futex, shm_feed_futex(&r), FUTEX_WAIT, (uint32_t)r.pos, &t, NULL, 0);
		_exit(w == 0 || errno == EAGAIN ? 0 : 1);
	}
	char path[64], state = 0;
	(void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(WAIT_MS) * 1000000;
	while (state != 'S') { /* it sleeps: only in its wait */
		FILE *p = fopen(path, "re");
		CHECK(p && fscanf(p, "%*d (%*[^)]) %c", &state) == 1);
		(void)fclose(p);
		CHECK(t_now_ns() < end_ns);
	}
	set(store(hc, "default"), "k", 1);
	CHECK_EQ(t_wait_child(pid, 2 * WAIT_MS), 0);
	hc_close(hc);
	t_daemon_stop(d);
}

static void *wait_long(void *arg)
{
	struct hc_event ev;

	return (void *)(intptr_t)next(arg, WAIT_MS, &ev);
}

TEST_LIMIT(a_wait_ends_by_an_event_an_interrupt_or_the_daemons_end, 100)
{
	struct t_daemon *d = t_daemon_start(POOL("64KiB"), NULL);
	struct hc *hc = session(d), *writer = session(d);
	struct hc_feed *f = subscribe(hc, NULL, NULL, 0);
	struct hc_event ev;
	pthread_t t;
	void *r;

	CHECK_EQ(pthread_create(&t, NULL, wait_long, f), 0);
	set(store(writer, "default"), "k", 1);
	CHECK(pthread_join(t, &r) == 0 && (intptr_t)r == HC_OK);
	CHECK_EQ(hc_feed_next(f, 50, &ev), HC_MISS);
	CHECK_EQ(pthread_create(&t, NULL, wait_long, f), 0);
	CHECK_EQ(hc_interrupt(hc, 1), HC_OK);
	CHECK(pthread_join(t, &r) == 0 && (intptr_t)r == HC_E_CANCELLED);
	CHECK_EQ(next(f, 0, &ev), HC_MISS);
	CHECK_EQ(hc_interrupt(hc, 0), HC_OK);
	set(store(writer, "default"), "last", 1);
	hc_close(writer);
	t_daemon_kill(d);
	expect(f, HC_EVENT_SET, 0, "last"); /* what is there is given */
	CHECK_EQ(next(f, WAIT_MS, &ev), HC_E_STALE);
	hc_feed_close(f);
	hc_close(hc);
}

/* ------------------------------------------------------------------ what comes */

TEST_LIMIT(a_subscription_is_of_a_store_and_a_prefix, 100)
{
	struct t_daemon *d = t_daemon_start(POOL("64KiB") "stores: {a: {}, b: {}}\n", NULL);
	struct hc *hc = session(d);
	struct hc_store *a = store(hc, "a"), *b = store(hc, "b");
	struct hc_feed *all = subscribe(hc, NULL, NULL, 0), *of_a = subscribe(hc, a, NULL, 0);
	struct hc_feed *user = subscribe(hc, a, "user/", 0);
	struct hc_event ev;

	set(a, "user/1", 1);
	set(b, "user/2", 1);
	set(a, "use", 1);
	CHECK_EQ(hc_clear(a, NULL), HC_OK);
	set(b, "x", 1);
	for (int i = 0; i < 5; i++)
		CHECK_EQ(next(all, 0, &ev), HC_OK);
	CHECK_STR(ev.store, "b");
	expect(of_a, HC_EVENT_SET, 0, "user/1");
	expect(of_a, HC_EVENT_SET, 0, "use");
	expect(of_a, HC_EVENT_CLEAR, 0, "");
	expect(user, HC_EVENT_SET, 0, "user/1");
	expect(user, HC_EVENT_CLEAR, 0, "");
	expect_none(all);
	expect_none(of_a);
	expect_none(user);
	hc_feed_close(all);
	hc_feed_close(of_a);
	hc_feed_close(user);
	hc_close(hc);
	t_daemon_stop(d);
}

TEST_LIMIT(each_change_says_what_it_was_and_each_eviction_why, 100)
{
	struct t_daemon *d = t_daemon_start(
		POOL("64KiB") "stores: {few: {max_entries: 2, policy: fifo}, big: {}}\n", NULL);
	struct hc *hc = session(d);
	struct hc_store *few = store(hc, "few"), *big = store(hc, "big");
	struct hc_feed *f = subscribe(hc, few, NULL, 0), *g = subscribe(hc, big, NULL, 0);
	struct hc_set_opts soon = HC_OPTS(hc_set_opts);
	struct hc_event ev;
	uint32_t why = 0;

	set(few, "a", 1);
	CHECK_EQ(hc_touch(few, "a", 1, 100000), HC_OK);
	CHECK_EQ(hc_incr(few, "n", 1, 5, NULL, NULL), HC_OK);
	CHECK_EQ(hc_append(few, "n", 1, "0", 1, NULL), HC_OK);
	set(few, "b", 1);
	CHECK_EQ(hc_delete(few, "b", 1), HC_OK);
	soon.ttl_ms = 1;
	CHECK_EQ(hc_set(few, "t", 1, "v", 1, &soon), HC_OK);
	expect(f, HC_EVENT_SET, 0, "a");
	expect(f, HC_EVENT_TOUCH, 0, "a");
	expect(f, HC_EVENT_INCR, 0, "n");
	expect(f, HC_EVENT_SET, 0, "n");
	expect(f, HC_EVENT_SET, 0, "b");
	expect(f, HC_EVENT_EVICT, HC_WHY_LIMIT, "a");
	expect(f, HC_EVENT_DELETE, 0, "b");
	expect(f, HC_EVENT_SET, 0, "t");
	expect(f, HC_EVENT_EXPIRE, 0, "t");
	for (int i = 0; i < 100; i++) {
		char key[16];
		(void)snprintf(key, sizeof key, "big%d", i);
		set(big, key, 200000);
	}
	while (next(g, 0, &ev) == HC_OK)
		why |= ev.what == HC_EVENT_EVICT ? 1u << ev.why : 0;
	CHECK(why & (1u << HC_WHY_FULL | 1u << HC_WHY_PRESSURE | 1u << HC_WHY_ASIDE));
	CHECK(!(why & 1u << HC_WHY_NONE));
	check_status(d, 0, ARGS("store", "drop", "few", "--force"));
	while (next(f, 0, &ev) == HC_OK && ev.what == HC_EVENT_EVICT)
		CHECK(ev.why != HC_WHY_NONE);
	CHECK_EQ(ev.what, HC_EVENT_DROP);
	CHECK_STR(ev.store, "few");
	hc_feed_close(f);
	hc_feed_close(g);
	hc_close(hc);
	t_daemon_stop(d);
}

/* A key of the longest kind is cut, and still told apart. */
TEST(a_long_key_is_cut)
{
	static char key[HC_KEY_BYTES_MAX];
	struct t_daemon *d = t_daemon_start(POOL("64KiB"), NULL);
	struct hc *hc = session(d);
	struct hc_feed *f = subscribe(hc, NULL, NULL, 0);
	struct hc_event ev;
	uint64_t hash;

	CHECK_EQ(hc_set(store(hc, "default"), key, sizeof key, "v", 1, NULL), HC_OK);
	key[sizeof key - 1] = 1;
	CHECK_EQ(hc_set(store(hc, "default"), key, sizeof key, "v", 1, NULL), HC_OK);
	CHECK_EQ(next(f, 0, &ev), HC_OK);
	CHECK(ev.key_bytes == sizeof key && ev.kept_bytes == HC_FEED_KEY_MAX);
	CHECK(memcmp(ev.key, key, ev.kept_bytes) == 0);
	hash = ev.key_hash;
	CHECK_EQ(next(f, 0, &ev), HC_OK);
	CHECK(hash != ev.key_hash);
	hc_feed_close(f);
	hc_close(hc);
	t_daemon_stop(d);
}

/* ------------------------------------------------------------------ beginning */

TEST_LIMIT(a_position_holds_across_sessions_and_engines_but_not_across_daemons, 100)
{
	struct t_daemon *d = t_daemon_start(POOL("64KiB"), NULL);
	struct hc *hc = session(d);
	struct hc_store *s = store(hc, "default");
	struct hc_feed *f = subscribe(hc, s, NULL, 0);
	struct hc_feed_opts o = HC_OPTS(hc_feed_opts);

	set(s, "1", 1);
	set(s, "2", 1);
	expect(f, HC_EVENT_SET, 0, "1");
	CHECK_EQ(hc_feed_position(f, &o.from, &o.memory), HC_OK);
	hc_feed_close(f);
	hc_close(hc);
	(void)t_daemon_wait_engine(d, t_daemon_kill_engine(d, SIGKILL));
	hc = session(d);
	set(store(hc, "default"), "3", 1);
	CHECK_EQ(hc_subscribe(hc, &o, &f), HC_OK);
	expect(f, HC_EVENT_SET, 0, "2");
	expect(f, HC_EVENT_SET, 0, "3");
	expect_none(f);
	hc_feed_close(f);
	f = subscribe(hc, NULL, NULL, HC_FEED_OLDEST);
	expect(f, HC_EVENT_SET, 0, "1");
	hc_feed_close(f);
	o.from += 10;
	CHECK_EQ(hc_subscribe(hc, &o, &f), HC_E_STALE); /* no such number yet */
	o.from -= 10;
	o.memory++;
	CHECK_EQ(hc_subscribe(hc, &o, &f), HC_E_STALE);
	CHECK(f == NULL);
	hc_close(hc);
	t_daemon_stop(d);
}

static void in_child(struct hc *hc, struct hc_feed *f)
{
	struct hc_event ev;
	uint64_t a, b;

	CHECK_EQ(next(f, 0, &ev), HC_E_FORKED);
	CHECK_EQ(hc_feed_position(f, &a, &b), HC_E_FORKED);
	hc_feed_close(f);
	CHECK_EQ(hc_subscribe(hc, NULL, &f), HC_E_FORKED);
	_exit(0);
}

TEST(what_cannot_be_is_refused_by_name)
{
	struct t_daemon *d = t_daemon_start(
		"pools:\n"
		"  main: {size: 4MiB, huge_pages: \"off\", feed: 64KiB}\n"
		"  silent: {size: 4MiB, huge_pages: \"off\", feed: 0B}\n"
		"stores: {default: {}, s: {pool: silent}}\n",
		NULL);
	struct hc *hc = session(d), *other = session(d);
	struct hc_feed_opts o = HC_OPTS(hc_feed_opts);
	struct hc_event ev = {.size = 4};
	struct hc_feed *f;

	CHECK_EQ(hc_subscribe(NULL, NULL, &f), HC_E_INVAL);
	CHECK_EQ(hc_subscribe(hc, NULL, NULL), HC_E_INVAL);
	o.pool = "nowhere";
	CHECK_EQ(hc_subscribe(hc, &o, &f), HC_E_NO_STORE);
	o.pool = "silent";
	CHECK_EQ(hc_subscribe(hc, &o, &f), HC_E_NO_FEED);
	o.pool = "main";
	o.prefix_bytes = 1;
	CHECK_EQ(hc_subscribe(hc, &o, &f), HC_E_INVAL);
	o.prefix_bytes = 0;
	o.store = store(hc, "default");
	CHECK_EQ(hc_subscribe(hc, &o, &f), HC_E_INVAL); /* a store and a pool */
	o.pool = NULL;
	o.store = store(other, "default");
	CHECK_EQ(hc_subscribe(hc, &o, &f), HC_E_INVAL); /* of another session */
	o.store = store(hc, "s");
	CHECK_EQ(hc_subscribe(hc, &o, &f), HC_E_NO_FEED);
	o.store = NULL;
	o.reserved = 1;
	CHECK_EQ(hc_subscribe(hc, &o, &f), HC_E_INVAL);
	CHECK_EQ(hc_subscribe(hc, NULL, &f), HC_OK);
	CHECK_EQ(hc_feed_next(f, 0, &ev), HC_E_INVAL);
	CHECK_EQ(hc_feed_next(f, 0, NULL), HC_E_INVAL);
	CHECK_EQ(hc_feed_next(NULL, 0, &ev), HC_E_INVAL);
	fflush(NULL);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0)
		in_child(hc, f);
	CHECK_EQ(t_wait_child(pid, WAIT_MS), 0);
	hc_feed_close(f);
	hc_feed_close(NULL);
	hc_close(hc);
	hc_close(other);
	t_daemon_stop(d);
}

/* ------------------------------------------------------------------ hypercache monitor */

TEST_LIMIT(monitor_prints_what_happens_and_ends_as_asked, 100)
{
	struct t_daemon *d = t_daemon_start(POOL("64KiB"), NULL);
	struct hc *hc = session(d);
	struct hc_store *s = store(hc, "default");
	struct result r;

	set(s, "plain", 3);
	CHECK_EQ(hc_set(s, "\x1b[2J\xff\\", 6, "v", 1, NULL), HC_OK);
	CHECK_EQ(hc_delete(s, "plain", 5), HC_OK);
	r = run(d, ARGS("monitor", "--from", "oldest", "--limit", "3"));
	CHECK_EQ(r.status, 0);
	CHECK(strstr(r.out, "set") && strstr(r.out, "plain  3 B") && strstr(r.out, "delete"));
	check_says(&r, "\\x1b[2J\\xff\\\\  1 B", NULL);
	result_free(&r);
	r = run(d, ARGS("monitor", "default", "--json", "--from", "1", "--limit", "1", "--prefix",
			   "pl"));
	CHECK_EQ(r.status, 0);
	CHECK(strstr(r.out, "{\"event\":\"set\",\"sequence\":1,\"lsn\":1,") &&
		strstr(r.out, "\"key\":\"plain\",\"key_bytes\":5,\"value_bytes\":3}\n"));
	result_free(&r);
	check_status(d, 2, ARGS("monitor", "--from", "77"));
	check_status(d, 2, ARGS("monitor", "--from", "0"));
	check_status(d, 5, ARGS("monitor", "nowhere"));
	for (int i = 0; i < 2; i++) { /* an interrupt; an output that nobody reads */
		char line[256];
		int out[2];
		CHECK_EQ(pipe(out), 0);
		fflush(NULL);
		pid_t pid = fork();
		CHECK(pid >= 0);
		if (pid == 0) {
			CHECK(dup2(out[1], 1) == 1 && close(out[0]) == 0 && close(out[1]) == 0);
			(void)execl(t_bin("hypercache"), "hypercache", "--socket", d->socket,
				"monitor", "--from", "oldest", NULL);
			_exit(99);
		}
		CHECK_EQ(close(out[1]), 0);
		CHECK(read(out[0], line, sizeof line) > 0); /* it has begun */
		if (i == 0)
			CHECK_EQ(kill(pid, SIGINT), 0);
		if (i == 1)
			CHECK_EQ(close(out[0]), 0);
		CHECK_EQ(t_wait_child(pid, WAIT_MS), 0);
		if (i == 0)
			CHECK_EQ(close(out[0]), 0);
	}
	hc_close(hc);
	t_daemon_stop(d);
}
