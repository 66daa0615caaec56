/* proc_verbs.c - every mutation against the real daemon: what it does to the entry, what the caller
 * is told, and that many who try at once find each version once. */
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "atomic.h"
#include "hc_i.h"
#include "hypercache.h"

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
	uint64_t created_ns = view_of(&c, "k").created_ns;
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
	CHECK_EQ(view_of(&c, "k").created_ns, created_ns);
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
		"pools:\n  main: {size: 4MiB, huge_pages: \"off\"}\n", NULL);
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

/* ------------------------------------------------------------------ many at once */

enum { RACERS = 4, ROUNDS = 200 };

/* Adds 1 to a number by compare-and-set, as often as it is told. */
static _Noreturn void race_child(const struct t_daemon *d)
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

TEST(each_version_is_replaced_by_one_of_many)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct client c = client_open(d);
	pid_t pid[RACERS];

	CHECK_EQ(set(&c, "n", "0", (struct hc_set_opts){0}), HC_OK);
	for (int i = 0; i < RACERS; i++) {
		pid[i] = fork();
		if (pid[i] == 0)
			race_child(d);
	}
	for (int i = 0; i < RACERS; i++)
		CHECK_EQ(t_wait_child(pid[i], 40000), 0);
	CHECK_EQ(atoi(get(&c, "n")), RACERS * ROUNDS);
	hc_close(c.hc);
	t_daemon_stop(d);
}
