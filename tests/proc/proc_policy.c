/* proc_policy - does the policy that the configuration names decide in the real daemon?
 *
 * Hot keys are read again and again while others are set, until the pool has been filled several times
 * over.  What is said of each policy is what its hot keys live to see.
 *
 * Planted bugs (shm/step.h) that this file must catch: 239, 240, 270.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "../../daemon/pol.h"
#include "../../libclient/hc_i.h"
#include "atomic.h"
#include "hypercache.h"

enum { SETS = 30000, HOT = 64, VALUE_BYTES = 100, WAIT_MS = 10000 };

struct client {
	struct hc *hc;
	struct hc_store *s;
};

static struct t_daemon *start(const char *policy)
{
	char yaml[256];

	(void)snprintf(yaml, sizeof yaml,
		"pools:\n  main: {size: 4MiB, huge_pages: \"off\"}\nstores:\n"
		"  default: {pool: main, policy: %s}\n",
		policy);
	return t_daemon_start(yaml, NULL);
}

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

static bool read_hot(const struct client *c, int i)
{
	char name[32], buf[VALUE_BYTES];
	int n = snprintf(name, sizeof name, "hot-%d", i);

	return hc_get(c->s, name, (size_t)n, buf, sizeof buf, NULL) == HC_OK;
}

static void set_named(const struct client *c, const char *kind, int i)
{
	char name[32], value[VALUE_BYTES] = {0};
	int n = snprintf(name, sizeof name, "%s-%d", kind, i);

	CHECK_EQ(hc_set(c->s, name, (size_t)n, value, sizeof value, NULL), HC_OK);
}

/* Sets so many cold keys and reads the hot ones beside; returns the share of hot reads that hit. */
static double press(const struct client *c, int from, int n)
{
	int hits = 0, reads = 0;

	for (int i = from; i < from + n; i++) {
		set_named(c, "cold", i);
		for (int hot = 0; i % 4 == 0 && hot < HOT; hot++, reads++)
			hits += read_hot(c, hot);
	}
	return (double)hits / reads;
}

/* The share of hot reads that hit, before and after the engine's death. */
static void hot_hits(const char *policy, double *ret_before, double *ret_after)
{
	struct t_daemon *d = start(policy);
	struct client c = client_open(d);

	for (int i = 0; i < HOT; i++)
		set_named(&c, "hot", i);
	*ret_before = press(&c, 0, SETS);
	for (int i = 0; i < HOT; i++)
		set_named(&c, "hot", i);
	pid_t engine = t_daemon_kill_engine(d, SIGKILL);
	(void)t_daemon_wait_engine(d, engine);
	*ret_after = press(&c, SETS, SETS / 2);
	printf("     %-10s hot keys hit: %.3f, with the next engine %.3f\n", policy, *ret_before,
		*ret_after);
	hc_close(c.hc);
	t_daemon_stop(d);
}

TEST_LIMIT(each_policy_keeps_what_it_is_there_to_keep, 120)
{
	double before, after;

	for (const struct pol_ops *const *o = pol_all(); *o; o++) {
		/* Sessions that are all new stay as long as the pool is not quite full, and a write may be refused
		 * meanwhile: proc_session. */
		if ((*o)->keeps || strcmp((*o)->name, "session") == 0)
			continue;
		bool fifo = strcmp((*o)->name, "fifo") == 0;
		hot_hits((*o)->name, &before, &after);
		CHECK(fifo ? before < 0.7 : before > 0.9);
		CHECK(fifo || after > 0.9);
	}
}

/* Nothing goes before its time: who comes too late is refused, also by a neighbour's writes, and gets
 * room when something is over. */
TEST_LIMIT(a_store_that_keeps_refuses_when_it_is_full, 120)
{
	struct t_daemon *d = t_daemon_start(
		"heartbeat: 100ms\npools:\n  main: {size: 4MiB, huge_pages: \"off\"}\nstores:\n"
		"  default: {pool: main, policy: ttl, ttl: 0}\n  other: {pool: main}\n",
		NULL);
	struct client c = client_open(d);
	struct hc_set_opts o = HC_OPTS(hc_set_opts);
	char name[32], value[VALUE_BYTES] = {0};
	struct hc_store *other;
	int n = 0, r;

	o.ttl_ms = 4000;
	CHECK_EQ(hc_store(c.hc, "other", &other), HC_OK);
	while ((r = hc_set(c.s, name, (size_t)snprintf(name, sizeof name, "k-%d", n), value,
			sizeof value, n < 1000 ? &o : NULL)) == HC_OK)
		CHECK(++n < SETS);
	CHECK_EQ(r, HC_E_FULL);
	CHECK(n > 4000);
	for (int i = 0; i < 1000; i++) { /* a neighbour gets nothing either */
		r = hc_set(other, name, (size_t)snprintf(name, sizeof name, "o-%d", i), value,
			sizeof value, NULL);
		CHECK(r == HC_OK || r == HC_E_FULL);
	}
	for (int i = 1000; i < n; i++)
		CHECK_EQ(hc_exists(c.s, name, (size_t)snprintf(name, sizeof name, "k-%d", i)),
			HC_OK);
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(WAIT_MS) * 1000000;
	while (hc_set(c.s, "late", 4, value, sizeof value, NULL) != HC_OK)
		CHECK(t_now_ns() < end_ns);
	hc_close(c.hc);
	t_daemon_stop(d);
}

/* ------------------------------------------------------------------ between stores */

/* As a cache is read: what is not there is fetched and written. */
static void ask(struct hc_store *s, uint64_t key)
{
	char value[VALUE_BYTES] = {0};
	size_t n;

	if (hc_get(s, &key, sizeof key, value, sizeof value, &n) == HC_OK)
		return;
	CHECK_EQ(hc_set(s, &key, sizeof key, value, sizeof value, NULL), HC_OK);
}

static uint64_t entries(const struct hc *hc, uint32_t store)
{
	return shm_load_rlx(&hc->ctl->store[store].counter[SHM_SC_entries]);
}

/* With the thresholds as they are by default; unit_worth asks for the rest. */
TEST_LIMIT(memory_goes_to_the_store_whose_readers_miss_it, 120)
{
	enum { SET = 9000 }; /* they fit, if the others have no more than a third of the pool */
	struct t_daemon *d = t_daemon_start(
		"heartbeat: 100ms\npools:\n  main: {size: 4MiB, huge_pages: \"off\"}\nstores:\n"
		"  again: {}\n  once: {}\n",
		NULL);
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct hc_store *again, *once;
	struct hc *hc;
	uint64_t next = 1 << 20, end_ns;

	o.socket = d->socket;
	CHECK_EQ(hc_open(&hc, &o), HC_OK);
	CHECK_EQ(hc_store(hc, "again", &again), HC_OK);
	CHECK_EQ(hc_store(hc, "once", &once), HC_OK);
	for (int i = 0; i < 2 * SETS; i++) {
		ask(again, next++);
		ask(once, next++);
	}
	end_ns = t_now_ns() + (uint64_t)t_limit_ms(6 * WAIT_MS) * 1000000;
	while (entries(hc, 0) < SET * 19 / 20) {
		for (int i = 0; i < 1000; i++) {
			ask(again, t_random_below(SET));
			ask(once, next++);
		}
		if (t_now_ns() > end_ns)
			t_fail(__FILE__, __LINE__, "%llu entries that are read again, %llu others",
				(unsigned long long)entries(hc, 0),
				(unsigned long long)entries(hc, 1));
	}
	hc_close(hc);
	t_daemon_stop(d);
}
