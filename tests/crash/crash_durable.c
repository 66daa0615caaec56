/* crash_durable.c - durable stores: whoever dies at whatever STEP, what was acknowledged is there.
 *
 * A life of sets, deletes, numbers, touches, clears and batches on a store with durability: sync and one with async; its engine is killed
 * once, and then all processes at once, so that the next daemon has nothing but the disk.  Each mark that this passes is then
 * killed at.  The oracle is what the client was answered:
 *
 *   - after the death of an engine every key is as it was acknowledged last
 *   - after the death of all, the same of the sync store, and what was deleted or cleared does not come back; the
 *     async store has a state that it once had: of what came behind it there is nothing
 *   - the checker finds nothing
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "../kit/t_step.h"
#include "hypercache.h"

enum { N_KEYS = 48, N_ASYNC = 200, N_BATCH = 32, CLIENT_MS = 30000, LIMIT_MS = 20000 };

static const char config[] =
	"heartbeat: 100ms\nrestart_limit: 1000\nwal_segment: 1MiB\nwal_staging: 1MiB\npools:\n"
	"  main: {size: 8MiB, huge_pages: \"off\", feed: 256KiB}\n"
	"stores:\n  sure: {durability: sync}\n  gone: {durability: sync}\n"
	"  soon: {durability: async, loss_window: 200ms}\n  default: {}\n";

struct life {
	struct t_daemon *d;
	const char *const *env;
	struct hc *hc;
	struct hc_store *sure, *gone, *soon, *none;
	int version[N_KEYS]; /* acknowledged last; 0: absent */
	int64_t number;
	int n_async; /* keys of the async store that were acknowledged, in this order */
	int round;
};

/* ------------------------------------------------------------------ client */

static void client(struct life *l)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);

	o.socket = l->d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(CLIENT_MS);
	CHECK_EQ(hc_open(&l->hc, &o), HC_OK);
	CHECK_EQ(hc_store(l->hc, "sure", &l->sure), HC_OK);
	CHECK_EQ(hc_store(l->hc, "gone", &l->gone), HC_OK);
	CHECK_EQ(hc_store(l->hc, "soon", &l->soon), HC_OK);
	CHECK_EQ(hc_store(l->hc, "default", &l->none), HC_OK);
}

static size_t key_of(int key, char *buf) { return (size_t)sprintf(buf, "key-%d", key); }

/* Long enough that a life takes more than one segment. */
static size_t value_of(int key, int version, char *buf)
{
	int n = 0;

	while (n < 3000)
		n += sprintf(buf + n, "<%d.%d>", key, version);
	return (size_t)n;
}

static void set(struct life *l, int key, int version)
{
	char name[32], value[4096];
	size_t n = value_of(key, version, value);

	CHECK_EQ(hc_set(l->sure, name, key_of(key, name), value, n, NULL), HC_OK);
	l->version[key] = version;
}

static void del(struct life *l, int key)
{
	char name[32];
	int r = hc_delete(l->sure, name, key_of(key, name));

	CHECK_EQ(r, l->version[key] ? HC_OK : HC_MISS);
	l->version[key] = 0;
}

static void batch(struct life *l, int version)
{
	static char name[N_BATCH][32], value[N_BATCH][4096];
	struct hc_mset_item it[N_BATCH];

	for (int i = 0; i < N_BATCH; i++)
		it[i] = (struct hc_mset_item){.key = name[i],
			.key_bytes = key_of(i, name[i]),
			.value = value[i],
			.value_bytes = value_of(i, version, value[i])};
	CHECK_EQ(hc_mset(l->sure, it, N_BATCH, NULL), HC_OK);
	for (int i = 0; i < N_BATCH; i++)
		l->version[i] = version;
}

static void count(struct life *l)
{
	int64_t got;

	CHECK_EQ(hc_incr(l->sure, "number", 6, 1, NULL, &got), HC_OK);
	l->number++;
	CHECK_EQ(got, l->number);
}

/* ------------------------------------------------------------------ oracle */

static void check_sure(struct life *l)
{
	char name[32], want[4096], got[4096];

	for (int key = 0; key < N_KEYS; key++) {
		size_t n = 0;
		int r = hc_get(l->sure, name, key_of(key, name), got, sizeof got, &n);
		CHECK_EQ(r, l->version[key] ? HC_OK : HC_MISS);
		if (r != HC_OK)
			continue;
		CHECK_EQ(n, value_of(key, l->version[key], want));
		CHECK(memcmp(want, got, n) == 0);
	}
	if (l->number) {
		struct hc_meta m = HC_OPTS(hc_meta);
		size_t n = 0;
		CHECK_EQ(hc_get(l->sure, "number", 6, got, sizeof got - 1, &n), HC_OK);
		got[n] = 0;
		CHECK_EQ(atoll(got), l->number);
		CHECK_EQ(hc_meta(l->sure, "touched", 7, &m), HC_OK);
		CHECK(m.expires_in_ms > 0);
	}
	CHECK_EQ(hc_exists(l->gone, "cleared", 7), HC_MISS);
	CHECK_EQ(hc_exists(l->gone, "later", 5), l->round ? HC_OK : HC_MISS);
}

/* How many of the async store's keys are there: the first ones, and none behind them. */
static int check_soon(struct life *l)
{
	char name[32];
	int there = 0;

	for (int i = 0; i < l->n_async; i++) {
		int r = hc_exists(l->soon, name, key_of(i, name));
		CHECK(r == HC_OK || r == HC_MISS);
		if (r == HC_OK)
			CHECK_EQ(there++, i);
	}
	return there;
}

static void check_memory(const struct life *l)
{
	char *out;
	int e = t_run((const char *[]){t_bin("hypercache"), "--admin", l->d->admin, "fsck", NULL},
		NULL, 0, &out, NULL, NULL, LIMIT_MS);

	if (e != 0)
		fprintf(stderr, "%s", out);
	CHECK_EQ(e, 0);
	free(out);
}

/* -------------------------------------------------------------------- life */

static void work(struct life *l, int version)
{
	struct hc_set_opts brief = HC_OPTS(hc_set_opts);
	char name[32];

	for (int key = 0; key < N_KEYS; key++)
		set(l, key, version);
	batch(l, version + 1);
	for (int key = 0; key < N_KEYS; key += 5)
		del(l, key);
	del(l, 0); /* absent: its record comes all the same */
	count(l);
	brief.ttl_ms = 3600000;
	CHECK_EQ(hc_set(l->sure, "touched", 7, "x", 1, NULL), HC_OK);
	CHECK_EQ(hc_touch(l->sure, "touched", 7, 3600000), HC_OK);
	CHECK_EQ(hc_set(l->gone, "cleared", 7, "x", 1, &brief), HC_OK);
	CHECK_EQ(hc_clear(l->gone, NULL), HC_OK);
	CHECK_EQ(hc_set(l->gone, "later", 5, "x", 1, NULL), HC_OK);
	for (int i = 0; i < N_ASYNC / 4; i++, l->n_async++)
		CHECK_EQ(hc_set(l->soon, name, key_of(l->n_async, name), "x", 1, NULL), HC_OK);
	CHECK_EQ(hc_set(l->none, "fleeting", 8, "x", 1, NULL), HC_OK);
	l->round++;
}

/* All die; the next daemon has the disk. */
static void all_die(struct life *l)
{
	hc_close(l->hc);
	t_daemon_all_die(l->d);
	t_daemon_again(l->d, NULL, l->env);
	t_daemon_wait_ready(l->d);
	client(l);
	check_sure(l);
	l->n_async = check_soon(l);
	CHECK_EQ(hc_exists(l->none, "fleeting", 8), HC_MISS);
}

static void live(struct life *l)
{
	client(l);
	work(l, 1);
	(void)t_daemon_kill_engine(l->d, SIGKILL);
	check_sure(l);
	CHECK_EQ(check_soon(l), l->n_async);
	work(l, 3);
	all_die(l);
	work(l, 5);
	check_sure(l);
}

static void survive(struct life *l)
{
	check_memory(l);
	l->env = (const char *[]){"HC_STEP", NULL};
	all_die(l);
	set(l, 1, 99);
	check_sure(l);
	check_memory(l);
	hc_close(l->hc);
	t_daemon_stop(l->d);
}

static void record(struct t_steps *steps)
{
	char order[512];
	struct life l = {0};

	(void)snprintf(order, sizeof order, "HC_STEP=record:%s", t_path("steps"));
	const char *env[] = {order, NULL};
	l.env = env;
	l.d = t_daemon_start(config, env);
	live(&l);
	survive(&l);
	t_steps_load(steps, t_path("steps"));
}

/* True: the kill came to pass. */
static bool live_and_die(const char *step, int nth)
{
	char order[512];
	const char *once = t_path("once");
	struct life l = {0};

	int fd = open(once, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	CHECK(fd >= 0 && step && once);
	(void)close(fd);
	(void)snprintf(order, sizeof order, "HC_STEP=kill:%s:%d:%s", step, nth, once);
	const char *env[] = {order, NULL};
	l.env = env;
	l.d = t_daemon_start(config, env);
	live(&l);
	survive(&l);
	bool died = access(once, F_OK) != 0;
	(void)unlink(once);
	return died;
}

/* The marks that only durable stores pass. */
static bool is_ours(const char *name)
{
	static const char *const ours[] = {"log:", "wal:", "recover:", "conn:", "segment:"};

	for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
		if (strncmp(name, ours[i], strlen(ours[i])) == 0)
			return true;
	return false;
}

/* ... and those of a change, which stands between a record and its commit. */
static bool is_between(const char *name)
{
	static const char *const between[] = {"set:intended", "set:published", "delete:intended",
		"clear:intended", "clear:published", "touch:intended", "journal:resulted",
		"journal:cleared", "batch:item"};

	for (size_t i = 0; i < sizeof between / sizeof *between; i++)
		if (strcmp(name, between[i]) == 0)
			return true;
	return false;
}

TEST_LIMIT(what_was_acknowledged_survives_a_death_at_every_step, 300)
{
	static struct t_steps steps;
	const char *order = getenv("T_STEP");

	if (order) { /* module:moment:N repeats one life */
		char name[T_STEP_BYTES];
		const char *nth = strrchr(order, ':');
		CHECK(nth && nth > order && (size_t)(nth - order) < sizeof name);
		memcpy(name, order, (size_t)(nth - order));
		name[nth - order] = 0;
		fprintf(stderr, "  %s\n",
			live_and_die(name, atoi(nth + 1)) ? "killed" : "not passed");
		return;
	}
	record(&steps);
	for (int i = 0; i < steps.n; i++) {
		const char *name = steps.name[i];
		int nth = 2 + (int)t_random_below(30);
		if (!is_ours(name) && !is_between(name))
			continue;
		fprintf(stderr, "  T_STEP=%s:%d\n", name, nth);
		CHECK(live_and_die(name, 1));
		if (i % 3 == 0) /* some are passed once */
			(void)live_and_die(name, nth);
		t_step_killed(name);
	}
}
