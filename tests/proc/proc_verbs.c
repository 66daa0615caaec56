/* proc_verbs.c - every mutation against the real daemon: what it does to the entry, what the caller
 * is told, and that many who try at once find each version once. */
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "atomic.h"
#include "hc_i.h"
#include "hypercache.h"
#include "layout/l_item.h"

enum { WAIT_MS = 10000 };

struct client {
	struct hc *hc;
	struct hc_store *s;
};

static struct client client_open(const struct t_daemon *d)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct client c;

	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(WAIT_MS);
	CHECK_EQ(hc_open(&c.hc, &o), HC_OK);
	CHECK_EQ(hc_store(c.hc, "default", &c.s), HC_OK);
	return c;
}

static uint64_t store_counter(const struct client *c, enum shm_store_counter i)
{
	return shm_load_rlx(&c->hc->ctl->store[0].counter[i]);
}

static int set(const struct client *c, const char *key, const char *value, struct hc_set_opts o)
{
	o.size = sizeof o;
	return hc_set(c->s, key, strlen(key), value, strlen(value), &o);
}

/* The value as a string, or NULL for a miss.  Static memory. */
static const char *get(const struct client *c, const char *key)
{
	static char buf[4096];
	size_t n = 0;
	int r = hc_get(c->s, key, strlen(key), buf, sizeof buf - 1, &n);

	CHECK(r == HC_OK || r == HC_MISS);
	buf[r == HC_OK ? n : 0] = 0;
	return r == HC_OK ? buf : NULL;
}

static struct hc_view view_of(const struct client *c, const char *key)
{
	struct hc_view v;

	CHECK_EQ(hc_view(c->s, key, strlen(key), &v), HC_OK);
	CHECK_EQ(hc_view_release(&v), HC_OK);
	return v;
}

/* What is known of an entry, which a view of it says as well. */
static struct hc_meta meta_of(const struct client *c, const char *key)
{
	struct hc_meta m = HC_OPTS(hc_meta);
	struct hc_view v;
	uint64_t created_ns = 0, modified_ns = 0;

	CHECK_EQ(hc_meta(c->s, key, strlen(key), &m), HC_OK);
	CHECK_EQ(hc_view(c->s, key, strlen(key), &v), HC_OK);
	CHECK_EQ(hc_view_times(&v, NULL, &modified_ns), HC_E_INVAL);
	CHECK_EQ(hc_view_times(&v, &created_ns, &modified_ns), HC_OK);
	CHECK(created_ns == m.created_ns && modified_ns == m.modified_ns);
	CHECK(created_ns > 0 && modified_ns >= created_ns);
	CHECK_EQ(hc_view_release(&v), HC_OK);
	CHECK_EQ(hc_view_times(&v, &created_ns, &modified_ns), HC_E_INVAL);
	return m;
}

/* ------------------------------------------------------------------ conditions */

TEST(add_replace_and_compare_and_set)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct client c = client_open(d);
	uint64_t v = 0, first;
	struct hc_set_opts add = {.mode = HC_ADD, .ret_version = &v},
			   replace = {.mode = HC_REPLACE, .ret_version = &v};

	CHECK_EQ(set(&c, "k", "one", replace), HC_MISS);
	CHECK_EQ(v, 0);
	CHECK(get(&c, "k") == NULL);
	CHECK_EQ(set(&c, "k", "one", add), HC_OK);
	CHECK_EQ(v, view_of(&c, "k").version);
	first = v;
	v = 0;
	CHECK_EQ(set(&c, "k", "two", add), HC_EXISTS);
	CHECK_EQ(v, first);
	CHECK_STR(get(&c, "k"), "one");
	CHECK_EQ(set(&c, "k", "two", replace), HC_OK);
	CHECK(v > first);
	CHECK_STR(get(&c, "k"), "two");

	struct hc_set_opts cas = {.mode = HC_IF_VERSION, .version = first, .ret_version = &v};
	CHECK_EQ(set(&c, "k", "three", cas), HC_CONFLICT);
	CHECK_EQ(v, view_of(&c, "k").version);
	CHECK_STR(get(&c, "k"), "two");
	cas.version = v;
	CHECK_EQ(set(&c, "k", "three", cas), HC_OK);
	CHECK_STR(get(&c, "k"), "three");
	CHECK_EQ(set(&c, "absent", "x", cas), HC_MISS);
	CHECK_EQ(hc_delete_if(c.s, "k", 1, first), HC_CONFLICT);
	CHECK_STR(get(&c, "k"), "three");
	CHECK_EQ(hc_delete_if(c.s, "k", 1, v), HC_OK);
	CHECK_EQ(hc_delete_if(c.s, "k", 1, v), HC_MISS);
	CHECK_EQ(store_counter(&c, SHM_SC_sets), 3);
	CHECK_EQ(store_counter(&c, SHM_SC_set_refused), 0);
	CHECK_EQ(store_counter(&c, SHM_SC_entries), 0);
	hc_close(c.hc);
	t_daemon_stop(d);
}

TEST(the_newer_stamp_wins_whoever_comes_first)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct client c = client_open(d);
	struct hc_set_opts o = {.mode = HC_IF_NEWER};

	for (uint64_t i = 0; i < 100; i++) {
		static const uint64_t stamps[] = {3, 9, 4, 9, 1, 8};
		char value[24];
		o.stamp = stamps[i % 6];
		(void)snprintf(value, sizeof value, "%llu", (unsigned long long)o.stamp);
		int r = set(&c, "k", value, o);
		CHECK_EQ(r, i < 2 ? HC_OK : HC_OLDER);
	}
	CHECK_STR(get(&c, "k"), "9");
	CHECK_EQ(set(&c, "k", "plain", (struct hc_set_opts){.stamp = 2}), HC_OK);
	o.stamp = 2;
	CHECK_EQ(set(&c, "k", "as old", o), HC_OLDER);
	o.stamp = 3;
	CHECK_EQ(set(&c, "k", "newer", o), HC_OK);
	CHECK_EQ(set(&c, "k", "unstamped", (struct hc_set_opts){0}), HC_OK);
	o.stamp = 0;
	CHECK_EQ(set(&c, "k", "zero", o), HC_OLDER);
	o.stamp = 1;
	CHECK_EQ(set(&c, "k", "one", o), HC_OK);
	hc_close(c.hc);
	t_daemon_stop(d);
}

/* What has expired is absent to every condition. */
TEST(an_expired_entry_is_absent_to_conditions)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct client c = client_open(d);
	struct hc_set_opts brief = {.ttl_ms = 1};
	uint64_t version;

	brief.ret_version = &version;
	for (int i = 0; i < 4; i++) {
		CHECK_EQ(set(&c, "k", "brief", brief), HC_OK);
		while (get(&c, "k"))
			CHECK_EQ(hc_ping(c.hc), HC_OK);
		struct hc_set_opts cas = {.mode = HC_IF_VERSION, .version = version};
		int r = i == 0   ? set(&c, "k", "x", (struct hc_set_opts){.mode = HC_REPLACE})
		        : i == 1 ? set(&c, "k", "x", cas)
		        : i == 2 ? hc_append(c.s, "k", 1, "x", 1, NULL)
		                 : hc_delete_if(c.s, "k", 1, version);
		CHECK_EQ(r, HC_MISS);
	}
	CHECK_EQ(set(&c, "k", "brief", brief), HC_OK);
	while (get(&c, "k"))
		CHECK_EQ(hc_ping(c.hc), HC_OK);
	CHECK_EQ(set(&c, "k", "added", (struct hc_set_opts){.mode = HC_ADD}), HC_OK);
	CHECK_STR(get(&c, "k"), "added");
	hc_close(c.hc);
	t_daemon_stop(d);
}

TEST(append_and_prepend_keep_what_the_entry_has)
{
	struct t_daemon *d = t_daemon_start(
		"pools:\n  main: {size: 8MiB, huge_pages: \"off\", max_value: 1000B}\n", NULL);
	struct client c = client_open(d);
	struct hc_set_opts o = HC_OPTS(hc_set_opts), first = {.flags = 7, .ttl_ms = 3600000};
	uint64_t version = 0;
	static char big[1001];

	memset(big, 'b', sizeof big - 1);
	CHECK_EQ(hc_append(c.s, "k", 1, "x", 1, NULL), HC_MISS);
	first.stamp = 5;
	CHECK_EQ(set(&c, "k", "middle", first), HC_OK);
	uint64_t created_ns = meta_of(&c, "k").created_ns;
	struct hc_view old;
	CHECK_EQ(hc_view(c.s, "k", 1, &old), HC_OK);
	o.ret_version = &version;
	CHECK_EQ(hc_append(c.s, "k", 1, " end", 4, &o), HC_OK);
	o.version = version;
	CHECK_EQ(hc_prepend(c.s, "k", 1, "begin ", 6, &o), HC_OK);
	CHECK(version > o.version);
	CHECK_EQ(hc_prepend(c.s, "k", 1, "never ", 6, &o), HC_CONFLICT);
	CHECK_STR(get(&c, "k"), "begin middle end");
	CHECK_EQ(hc_append(c.s, "k", 1, NULL, 0, NULL), HC_OK);
	CHECK_STR(get(&c, "k"), "begin middle end");
	CHECK_EQ(view_of(&c, "k").flags, 7);
	CHECK_EQ(meta_of(&c, "k").created_ns, created_ns);
	struct hc_set_opts older = {.mode = HC_IF_NEWER, .stamp = 5};
	CHECK_EQ(set(&c, "k", "x", older), HC_OLDER);
	CHECK(old.value_bytes == 6 && memcmp(old.value, "middle", 6) == 0);
	CHECK_EQ(hc_view_release(&old), HC_OK);

	CHECK_EQ(hc_append(c.s, "k", 1, big, 1000 - 16, NULL), HC_OK);
	CHECK_EQ(hc_append(c.s, "k", 1, "x", 1, NULL), HC_E_TOO_LARGE);
	CHECK_EQ(hc_append(c.s, "k", 1, big, 1001, NULL), HC_E_TOO_LARGE);
	CHECK_EQ(view_of(&c, "k").value_bytes, 1000);
	CHECK_EQ(store_counter(&c, SHM_SC_entries), 1);
	CHECK_EQ(store_counter(&c, SHM_SC_live_bytes), 1001);
	hc_close(c.hc);
	t_daemon_stop(d);
}

/* In a full pool the entry that grows, though the oldest and never read, is not what goes for its
 * own room. */
TEST(an_entry_that_grows_does_not_make_room_for_itself)
{
	enum { FIRST = 100000, MORE = 200000, FILLER = 1000 };
	struct t_daemon *d = t_daemon_start(
		"pools:\n  main: {size: 4MiB, huge_pages: \"off\", " T_DAEMON_ALL "}\n", NULL);
	struct client c = client_open(d);
	const shm_u64 *free_bytes = &c.hc->ctl->pool[0].counter[SHM_PC_free_bytes];
	static char value[FIRST + MORE];
	struct hc_view v;

	for (int i = 0; i < FIRST + MORE; i++)
		value[i] = (char)('a' + i % 23);
	CHECK_EQ(hc_set(c.s, "log", 3, value, FIRST, NULL), HC_OK);
	for (int i = 0; shm_load_rlx(free_bytes) > MORE; i++) {
		char key[16];
		int k = snprintf(key, sizeof key, "fill%d", i);
		CHECK_EQ(hc_set(c.s, key, (size_t)k, value, FILLER, NULL), HC_OK);
	}
	CHECK_EQ(store_counter(&c, SHM_SC_evicted), 0);
	CHECK_EQ(hc_append(c.s, "log", 3, value + FIRST, MORE, NULL), HC_OK);
	CHECK(store_counter(&c, SHM_SC_evicted) > 0);
	CHECK_EQ(hc_view(c.s, "log", 3, &v), HC_OK);
	CHECK_EQ(v.value_bytes, sizeof value);
	CHECK(memcmp(v.value, value, sizeof value) == 0);
	CHECK_EQ(hc_view_release(&v), HC_OK);
	hc_close(c.hc);
	t_daemon_stop(d);
}

/* ------------------------------------------------------------------ time */

/* The item behind a view. */
static const struct shm_item *item_of(const struct hc_view *v, const char *key)
{
	const struct shm_item *it = (const void *)((const char *)v->value -
						   shm_item_value_off(strlen(key)));

	CHECK_EQ(it->version, v->version);
	CHECK(memcmp(it + 1, key, strlen(key)) == 0);
	return it;
}

TEST(touch_changes_the_time_and_nothing_else)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct client c = client_open(d);
	struct hc_view v;
	char buf[8];
	size_t n = 0;

	CHECK_EQ(hc_touch(c.s, "k", 1, 1000), HC_MISS);
	CHECK_EQ(set(&c, "k", "value", (struct hc_set_opts){.ttl_ms = 3600000}), HC_OK);
	CHECK_EQ(hc_view(c.s, "k", 1, &v), HC_OK);
	CHECK_EQ(hc_touch(c.s, "k", 1, 1), HC_OK);
	while (get(&c, "k"))
		CHECK_EQ(hc_ping(c.hc), HC_OK);
	CHECK_EQ(hc_touch(c.s, "k", 1, 1000), HC_MISS); /* it is over, and does not come back */
	CHECK(memcmp(v.value, "value", 5) == 0);
	CHECK_EQ(hc_view_release(&v), HC_OK);

	CHECK_EQ(set(&c, "k", "brief", (struct hc_set_opts){.ttl_ms = 300}), HC_OK);
	CHECK_EQ(hc_view(c.s, "k", 1, &v), HC_OK);
	const struct shm_item *it = item_of(&v, "k");
	uint64_t modified_ns = it->modified_ns;
	uint64_t soon = shm_load_rlx(&it->expiry_ns);
	CHECK_EQ(hc_touch(c.s, "k", 1, 3600000), HC_OK);
	CHECK(shm_load_rlx(&it->expiry_ns) > soon + 3000ull * 1000000000);
	CHECK_EQ(hc_touch(c.s, "k", 1, HC_TTL_NEVER), HC_OK);
	CHECK_EQ(shm_load_rlx(&it->expiry_ns), 0);
	CHECK_EQ(view_of(&c, "k").version, v.version);
	CHECK_EQ(meta_of(&c, "k").modified_ns, modified_ns);
	CHECK_EQ(hc_view_release(&v), HC_OK);

	CHECK_EQ(hc_get_touch(c.s, "none", 4, 1000, buf, sizeof buf, &n), HC_MISS);
	CHECK_EQ(hc_get_touch(c.s, "k", 1, 1000, buf, 2, &n), HC_TOO_SMALL);
	CHECK_EQ(n, 5);
	CHECK_EQ(hc_get_touch(c.s, "k", 1, 1, buf, sizeof buf, &n), HC_OK);
	CHECK(n == 5 && memcmp(buf, "brief", 5) == 0);
	while (get(&c, "k"))
		CHECK_EQ(hc_ping(c.hc), HC_OK);
	hc_close(c.hc);
	t_daemon_stop(d);
}

TEST(touch_0_gives_the_time_of_the_store)
{
	struct t_daemon *d = t_daemon_start("stores:\n  default: {ttl: 1h}\n", NULL);
	struct client c = client_open(d);
	struct hc_view v;

	CHECK_EQ(set(&c, "k", "value", (struct hc_set_opts){.ttl_ms = HC_TTL_NEVER}), HC_OK);
	CHECK_EQ(hc_view(c.s, "k", 1, &v), HC_OK);
	const struct shm_item *it = item_of(&v, "k");
	CHECK_EQ(shm_load_rlx(&it->expiry_ns), 0);
	CHECK_EQ(hc_touch(c.s, "k", 1, 0), HC_OK);
	uint64_t left_ns = shm_load_rlx(&it->expiry_ns) - t_now_ns();
	CHECK(left_ns > 3000ull * 1000000000 && left_ns <= 3601ull * 1000000000);
	CHECK_EQ(hc_view_release(&v), HC_OK);
	hc_close(c.hc);
	t_daemon_stop(d);
}

/* ------------------------------------------------------------------ numbers */

static int64_t incr(const struct client *c, const char *key, int64_t delta, uint32_t wrap)
{
	struct hc_incr_opts o = HC_OPTS(hc_incr_opts);
	int64_t sum = -77;

	o.wrap = wrap;
	CHECK_EQ(hc_incr(c->s, key, strlen(key), delta, &o, &sum), HC_OK);
	return sum;
}

TEST(numbers_are_added_and_end_at_64_bits)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct client c = client_open(d);
	struct hc_incr_opts o = HC_OPTS(hc_incr_opts);
	int64_t sum = 5;

	o.must_exist = 1;
	CHECK_EQ(hc_incr(c.s, "n", 1, 1, &o, &sum), HC_MISS);
	CHECK_EQ(sum, 5);
	CHECK(get(&c, "n") == NULL);
	CHECK_EQ(incr(&c, "n", 1, 0), 1);
	CHECK_EQ(incr(&c, "n", -3, 0), -2);
	CHECK_STR(get(&c, "n"), "-2");
	o = (struct hc_incr_opts){.size = sizeof o, .initial = 100};
	CHECK_EQ(hc_incr(c.s, "m", 1, 5, &o, &sum), HC_OK);
	CHECK_EQ(sum, 105);
	CHECK_EQ(hc_incr(c.s, "m", 1, 5, &o, &sum), HC_OK);
	CHECK_EQ(sum, 110);

	CHECK_EQ(set(&c, "n", "9223372036854775806", (struct hc_set_opts){0}), HC_OK);
	CHECK_EQ(incr(&c, "n", 1, 0), INT64_MAX);
	CHECK_EQ(incr(&c, "n", 1, 0), INT64_MAX);
	CHECK_EQ(incr(&c, "n", INT64_MAX, 0), INT64_MAX);
	CHECK_EQ(incr(&c, "n", 1, 1), INT64_MIN);
	CHECK_STR(get(&c, "n"), "-9223372036854775808");
	CHECK_EQ(incr(&c, "n", -1, 0), INT64_MIN);
	CHECK_EQ(incr(&c, "n", INT64_MIN, 0), INT64_MIN);
	CHECK_EQ(incr(&c, "n", -1, 1), INT64_MAX);
	CHECK_EQ(incr(&c, "n", 0, 0), INT64_MAX);
	hc_close(c.hc);
	t_daemon_stop(d);
}

TEST(what_is_no_number_stays_as_it_is)
{
	static const struct {
		const char *bytes;
		size_t n;
	} no_numbers[] = {{"", 0}, {"-", 1}, {"+1", 2}, {" 1", 2}, {"1 ", 2}, {"1x", 2}, {"0x1", 3},
		{"1\0", 2}, {"--1", 3}, {"1.5", 3}, {"9223372036854775808", 19},
		{"-9223372036854775809", 20}, {"000000000000000000001", 21}, {"\xff", 1}};
	static const char *const numbers[] = {"0", "-0", "007", "-5", "00000000000000000001"};
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct client c = client_open(d);
	int64_t sum = 5;

	for (size_t i = 0; i < sizeof no_numbers / sizeof no_numbers[0]; i++) {
		const char *bytes = no_numbers[i].bytes;
		CHECK_EQ(hc_set(c.s, "n", 1, bytes, no_numbers[i].n, NULL), HC_OK);
		uint64_t version = view_of(&c, "n").version;
		CHECK_EQ(hc_incr(c.s, "n", 1, 1, NULL, &sum), HC_E_NOT_NUMBER);
		CHECK_EQ(sum, 5);
		CHECK_EQ(view_of(&c, "n").version, version);
	}
	for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
		CHECK_EQ(set(&c, "n", numbers[i], (struct hc_set_opts){0}), HC_OK);
		CHECK_EQ(incr(&c, "n", 1, 0), atoi(numbers[i]) + 1);
	}
	CHECK_EQ(store_counter(&c, SHM_SC_set_refused), 0);
	hc_close(c.hc);
	t_daemon_stop(d);
}

TEST(a_number_keeps_what_its_entry_has)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct client c = client_open(d);
	struct hc_incr_opts o = HC_OPTS(hc_incr_opts);
	int64_t sum;

	CHECK_EQ(set(&c, "n", "1", (struct hc_set_opts){.flags = 9, .stamp = 4}), HC_OK);
	uint64_t created_ns = meta_of(&c, "n").created_ns, version = view_of(&c, "n").version;
	o.ttl_ms = 1; /* of a new one only */
	CHECK_EQ(hc_incr(c.s, "n", 1, 1, &o, &sum), HC_OK);
	CHECK_EQ(view_of(&c, "n").flags, 9);
	CHECK_EQ(meta_of(&c, "n").created_ns, created_ns);
	CHECK(view_of(&c, "n").version > version);
	CHECK_EQ(
		set(&c, "n", "x", (struct hc_set_opts){.mode = HC_IF_NEWER, .stamp = 4}), HC_OLDER);
	CHECK_EQ(hc_incr(c.s, "brief", 5, 1, &o, &sum), HC_OK);
	while (get(&c, "brief"))
		CHECK_EQ(hc_ping(c.hc), HC_OK);
	CHECK_STR(get(&c, "n"), "2");
	CHECK_EQ(hc_incr(c.s, "brief", 5, 1, &o, &sum), HC_OK); /* begins anew */
	CHECK_EQ(sum, 1);
	hc_close(c.hc);
	t_daemon_stop(d);
}

/* ------------------------------------------------------------------ many at once */

enum { RACERS = 4, ROUNDS = 200 };

/* Adds 1 to a number by compare-and-set, as often as it is told. */
static _Noreturn void cas_child(const struct t_daemon *d)
{
	struct client c = client_open(d);

	for (int won = 0; won < ROUNDS;) {
		struct hc_view v;
		char text[16];
		CHECK_EQ(hc_view(c.s, "n", 1, &v), HC_OK);
		CHECK(v.value_bytes < sizeof text);
		memcpy(text, v.value, v.value_bytes);
		text[v.value_bytes] = 0;
		struct hc_set_opts o = {.mode = HC_IF_VERSION, .version = v.version};
		CHECK_EQ(hc_view_release(&v), HC_OK);
		(void)snprintf(text, sizeof text, "%d", atoi(text) + 1);
		int r = set(&c, "n", text, o);
		CHECK(r == HC_OK || r == HC_CONFLICT);
		won += r == HC_OK;
	}
	hc_close(c.hc);
	_exit(0);
}

/* Counts, and sees only sums that grow. */
static _Noreturn void incr_child(const struct t_daemon *d)
{
	struct client c = client_open(d);
	int64_t sum, before = 0;

	for (int i = 0; i < ROUNDS; i++, before = sum) {
		CHECK_EQ(hc_incr(c.s, "n", 1, 1, NULL, &sum), HC_OK);
		CHECK(sum > before);
	}
	hc_close(c.hc);
	_exit(0);
}

static void race(const struct t_daemon *d, void (*child)(const struct t_daemon *d))
{
	pid_t pid[RACERS];

	for (int i = 0; i < RACERS; i++) {
		pid[i] = fork();
		if (pid[i] == 0)
			child(d);
	}
	for (int i = 0; i < RACERS; i++)
		CHECK_EQ(t_wait_child(pid[i], 40000), 0);
}

TEST(what_many_add_at_once_is_all_there)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct client c = client_open(d);

	race(d, incr_child);
	CHECK_EQ(incr(&c, "n", 0, 0), RACERS * ROUNDS);
	hc_close(c.hc);
	t_daemon_stop(d);
}

TEST(each_version_is_replaced_by_one_of_many)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct client c = client_open(d);

	CHECK_EQ(set(&c, "n", "0", (struct hc_set_opts){0}), HC_OK);
	race(d, cas_child);
	CHECK_EQ(atoi(get(&c, "n")), RACERS * ROUNDS);
	hc_close(c.hc);
	t_daemon_stop(d);
}

/* CPU time of this thread while it waits in vain for the engine. */
static uint64_t busy_ns(const struct t_daemon *d, uint32_t spin_us)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct timespec before, after;
	struct hc *hc;

	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(WAIT_MS);
	o.spin_us = spin_us;
	CHECK_EQ(hc_open(&hc, &o), HC_OK);
	hc->timeout_ns = 50 * 1000000ull;
	CHECK_EQ(kill(t_daemon_engine(d), SIGSTOP), 0);
	CHECK_EQ(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before), 0);
	CHECK_EQ(hc_ping(hc), HC_E_TIMEOUT);
	CHECK_EQ(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after), 0);
	CHECK_EQ(kill(t_daemon_engine(d), SIGCONT), 0);
	hc_close(hc);
	return (uint64_t)(after.tv_sec - before.tv_sec) * 1000000000 + (uint64_t)after.tv_nsec -
	       (uint64_t)before.tv_nsec;
}

TEST(a_client_that_spins_looks_for_its_answer_and_gives_up_in_time)
{
	enum {
		TRIES = 20,
		SPUN_NS = 2000000
	}; /* others may want the processor: so the busiest wait of several */
	struct t_daemon *d = t_daemon_start("", NULL);
	uint64_t spun_ns = 0;

	for (int i = 0; i < TRIES && spun_ns < SPUN_NS; i++) {
		uint64_t ns = busy_ns(d, HC_SPIN_US_MAX);
		spun_ns = ns > spun_ns ? ns : spun_ns;
	}
	CHECK(spun_ns >= SPUN_NS && spun_ns < 50 * 1000000ull);
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct client c;
	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(WAIT_MS);
	o.spin_us = HC_SPIN_US_MAX;
	CHECK_EQ(hc_open(&c.hc, &o), HC_OK);
	CHECK_EQ(hc_store(c.hc, "default", &c.s), HC_OK);
	CHECK_EQ(hc_set(c.s, "k", 1, "v", 1, NULL), HC_OK);
	hc_close(c.hc);
	t_daemon_stop(d);
}
