/* crash_daemon.c - the real binaries: an engine killed at every STEP that a life of
 * sets, deletes, growth, eviction and restart passes, and a client killed at every
 * STEP of a read.
 *
 * The life is lived once with the marks recorded, then twice for each mark: with a
 * kill at its first pass, and at a later one.  The client knows what it was
 * answered, so after each death it knows what has to be there:
 *
 *   - every mutation was acknowledged, by whichever engine came after
 *   - every key has the value that was acknowledged last, or was evicted: never another
 *   - a view taken before the death still holds its bytes
 *   - the checker finds nothing; a new client can read and write
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "../kit/t_step.h"
#include "atomic.h"
#include "hc_i.h"
#include "hypercache.h"
#include "step.h"

enum {
	N_KEYS = 400, /* enough for the index to grow from its first size */
	N_AGAIN = 64, /* of them, overwritten while it may be growing */
	VALUE_BYTES = 600,
	BIG_BYTES = 300000, /* takes a run of pages */
	N_BIG = 24,         /* more than the pool holds */
	N_FILL = 3000,      /* fills it with one size, of which most go again */
	FILL_BYTES = 1000,
	N_OTHER = 300, /* of a size that only compaction makes room for */
	OTHER_BYTES = 1900,
	CLIENT_MS = 30000,
};

static const char config[] = "heartbeat: 100ms\nlimbo_cap: 512KiB\npools:\n  main: {size: 4MiB, "
			     "huge_pages: \"off\", " T_DAEMON_ALL "}\n"
			     "stores: {default: {}, cleared: {}}\n";

/* ------------------------------------------------------------------ values */

/* A value names its key and version all over, so that no mix of two goes unnoticed. */
static size_t value_of(int key, int version, size_t bytes, char *buf)
{
	char word[32];
	int n = snprintf(word, sizeof word, "<%d.%d>", key, version);

	for (size_t i = 0; i < bytes; i++)
		buf[i] = word[i % (size_t)n];
	return bytes;
}

static size_t key_of(int key, char *buf) { return (size_t)sprintf(buf, "key-%d", key); }

struct life {
	struct hc *hc;
	struct hc_store *s;
	int version[N_KEYS + N_BIG]; /* acknowledged last; 0: deleted, or never set */
};

static size_t bytes_of(int key) { return key < N_KEYS ? VALUE_BYTES : BIG_BYTES; }

static void set(struct life *l, int key, int version)
{
	static char value[BIG_BYTES];
	char name[32];

	size_t n = value_of(key, version, bytes_of(key), value);
	CHECK_EQ(hc_set(l->s, name, key_of(key, name), value, n, NULL), HC_OK);
	l->version[key] = version;
}

static void del(struct life *l, int key)
{
	char name[32];
	int r = hc_delete(l->s, name, key_of(key, name));

	CHECK(r == HC_OK || r == HC_MISS);
	l->version[key] = 0;
}

/* Every key is as it was acknowledged last, or evicted.  Returns how many were there. */
static int check_all(struct life *l, struct hc_store *s)
{
	static char want[BIG_BYTES], got[BIG_BYTES];
	char name[32];
	int there = 0;

	for (int key = 0; key < N_KEYS + N_BIG; key++) {
		size_t n = 0;
		int r = hc_get(s, name, key_of(key, name), got, sizeof got, &n);
		if (r == HC_MISS)
			continue;
		CHECK_EQ(r, HC_OK);
		CHECK(l->version[key] != 0);
		CHECK_EQ(n, value_of(key, l->version[key], bytes_of(key), want));
		CHECK(memcmp(want, got, n) == 0);
		there++;
	}
	return there;
}

static void open_client(const struct t_daemon *d, struct hc **hc, struct hc_store **s)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);

	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(CLIENT_MS);
	CHECK_EQ(hc_open(hc, &o), HC_OK);
	CHECK_EQ(hc_store(*hc, "default", s), HC_OK);
}

static void check_memory(const struct t_daemon *d)
{
	char *out;
	int e = t_run((const char *[]){t_bin("hypercache"), "--admin", d->admin, "fsck", NULL},
		NULL, 0, &out, NULL, NULL, 20000);

	if (e != 0)
		fprintf(stderr, "%s", out);
	CHECK_EQ(e, 0);
	free(out);
}

/* -------------------------------------------------------------------- life */

/* Entries that nobody asks for again, in batches; what they hold does not matter. */
static void fill(struct life *l, int first, int n, size_t bytes)
{
	enum { BATCH = 100 };
	static char name[BATCH][32], value[OTHER_BYTES];
	struct hc_mset_item it[BATCH];

	for (int at = 0; at < n; at += BATCH) {
		for (int i = 0; i < BATCH; i++)
			it[i] = (struct hc_mset_item){.key = name[i],
				.key_bytes = (size_t)sprintf(name[i], "fill-%d", first + at + i),
				.value = value,
				.value_bytes = bytes};
		CHECK_EQ(hc_mset(l->s, it, BATCH, NULL), HC_OK);
	}
}

/* One size fills the pool, most of it goes, another size needs the pages. */
static void shift_sizes(struct life *l)
{
	char name[32];

	fill(l, 0, N_FILL, FILL_BYTES);
	for (int i = 0; i < N_FILL; i++)
		if (i % 8)
			CHECK(hc_delete(l->s, name, (size_t)sprintf(name, "fill-%d", i)) >= 0);
	fill(l, N_FILL, N_OTHER, OTHER_BYTES);
}

/* Small entries everywhere, some of them pinned where the oldest are: what the policy gives up leaves no run
 * of pages, so room for a large one is made elsewhere, in a stretch that is emptied as a whole. */
static void break_room(const struct t_daemon *d, struct life *l)
{
	enum { VIEWS = 10, APART = 100, FIRST = 2 * N_FILL };
	struct hc_view view[VIEWS];
	struct hc_store *s;
	struct hc *hc;
	char name[32];
	int held = 0;

	fill(l, FIRST, N_FILL, FILL_BYTES);
	open_client(d, &hc, &s);
	for (int i = 0; i < N_FILL && held < VIEWS; i += APART) {
		size_t n = (size_t)sprintf(name, "fill-%d", FIRST + i);
		held += hc_view(s, name, n, &view[held]) == HC_OK;
	}
	CHECK(held > 0); /* an engine that adopted the entries does not know their age */
	for (int i = 0; i < 2; i++)
		set(l, N_KEYS + i, 4);
	for (int i = 0; i < held; i++)
		(void)hc_view_release(&view[i]);
	hc_close(hc);
}

/* A client that holds more than it may loses its pins; nobody else does. */
static void hoard(const struct t_daemon *d, struct life *l)
{
	struct hc *hc;
	struct hc_store *s;
	struct hc_view view[3];
	char name[32];

	open_client(d, &hc, &s);
	for (int i = 0; i < 3; i++) { /* held at once: the next one may push it out */
		set(l, N_KEYS + i, 5);
		CHECK_EQ(hc_view(s, name, key_of(N_KEYS + i, name), &view[i]), HC_OK);
	}
	for (int i = 0; i < 3; i++)
		set(l, N_KEYS + i, 6);
	for (int key = N_KEYS + 3; key < N_KEYS + N_BIG; key++)
		set(l, key, 6);
	/* A new engine may have found no reason to look at pins yet: its ticks do. */
	uint64_t end_ns = t_now_ns() + CLIENT_MS * 1000000ull;
	while (hc_view_ok(&view[0]) == 1) {
		CHECK(t_now_ns() < end_ns);
		CHECK_EQ(hc_ping(l->hc), HC_OK);
	}
	for (int i = 0; i < 3; i++)
		CHECK_EQ(hc_view_release(&view[i]), HC_E_REVOKED);
	hc_close(hc);
}

/* Entries whose time is over go without being asked for. */
static void fade(struct life *l)
{
	const shm_u64 *expired = &l->hc->ctl->store[0].counter[SHM_SC_expired];
	uint64_t before = shm_load_rlx(expired), end_ns = t_now_ns() + CLIENT_MS * 1000000ull;
	struct hc_set_opts o = HC_OPTS(hc_set_opts);
	char name[32];

	o.ttl_ms = 20;
	for (int i = 0; i < 10; i++)
		CHECK_EQ(
			hc_set(l->s, name, (size_t)sprintf(name, "fade-%d", i), "x", 1, &o), HC_OK);
	while (shm_load_rlx(expired) == before) {
		CHECK(t_now_ns() < end_ns);
		CHECK_EQ(hc_ping(l->hc), HC_OK);
	}
}

/* A store is filled and cleared, a few times; what is set after a clear is what is found. */
static void clear_often(struct life *l)
{
	enum { N = 1000, LATER = 50 };
	struct hc_store *s;
	char name[16];

	CHECK_EQ(hc_store(l->hc, "cleared", &s), HC_OK);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < N; i++)
			CHECK_EQ(hc_set(s, name, (size_t)sprintf(name, "%d", i), name, 4, NULL),
				HC_OK);
		CHECK_EQ(hc_clear(s, NULL), HC_OK);
		for (int i = 0; i < LATER; i++)
			CHECK_EQ(hc_set(s, name, (size_t)sprintf(name, "%d", i), name, 4, NULL),
				HC_OK);
		for (int i = 0; i < N; i++) {
			size_t n = (size_t)sprintf(name, "%d", i);
			int r = hc_exists(s, name, n);
			CHECK(i < LATER ? r == HC_OK || r == HC_MISS : r == HC_MISS);
		}
	}
}

/* A lease is taken, and another one told to wait; it is filled, dropped, or ended by a change.  Whoever dies
 * meanwhile: who has it has it, and nobody else does. */
static void lease_often(const struct t_daemon *d, struct life *l)
{
	enum { ROUNDS = 8 };
	struct hc_lease_opts o = HC_OPTS(hc_lease_opts);
	struct hc_set_opts fill = HC_OPTS(hc_set_opts);
	struct hc_lease lease, none;
	struct hc_store *s;
	struct hc *hc;

	open_client(d, &hc, &s);
	o.no_wait = 1;
	o.lease_ms = 3600000;
	for (int round = 0; round < ROUNDS; round++) {
		bool dropped = round % 4 == 1, deleted = round % 4 == 2;
		CHECK_EQ(hc_get_or_lease(l->s, "leased", 6, NULL, 0, NULL, &o, &lease), HC_LEASE);
		CHECK_EQ(hc_get_or_lease(s, "leased", 6, NULL, 0, NULL, &o, &none), HC_LEASED);
		fill.lease = lease.token;
		fill.absent = round % 4 == 3;
		if (dropped)
			CHECK(hc_lease_drop(l->s, "leased", 6, lease.token, 0) >= HC_OK);
		if (deleted)
			CHECK_EQ(hc_delete(s, "leased", 6), HC_MISS);
		CHECK_EQ(hc_set(l->s, "leased", 6, NULL, 0, &fill),
			dropped || deleted ? HC_LEASE_LOST : HC_OK);
		if (!dropped && !deleted) {
			CHECK_EQ(hc_set(l->s, "leased", 6, NULL, 0, &fill), HC_LEASE_LOST);
			CHECK_EQ(hc_delete(l->s, "leased", 6), fill.absent ? HC_MISS : HC_OK);
		}
	}
	hc_close(hc);
}

/* What a client does, in an order that takes the engine past its marks. */
static void live(struct t_daemon *d, struct life *l)
{
	struct hc_view view;
	static char was[VALUE_BYTES];

	open_client(d, &l->hc, &l->s);
	set(l, 0, 1);
	CHECK_EQ(hc_view(l->s, "key-0", 5, &view), HC_OK);
	memcpy(was, view.value, view.value_bytes);
	for (int key = 1; key < N_KEYS; key++) /* the index grows */
		set(l, key, 1);
	for (int key = 0; key < N_AGAIN; key++)
		set(l, key, 2);
	for (int key = N_AGAIN; key < 2 * N_AGAIN; key++)
		del(l, key);
	del(l, 2 * N_AGAIN - 1);                            /* a miss */
	(void)t_daemon_kill_engine(d, SIGKILL);             /* adoption's marks are passed too */
	for (int key = N_KEYS; key < N_KEYS + N_BIG; key++) /* eviction, runs of pages */
		set(l, key, 1);
	for (int key = 0; key < N_KEYS; key += 3)
		set(l, key, 3);
	CHECK_EQ(hc_set(l->s, "large", 5, was, sizeof was,
			 &(struct hc_set_opts){
				 .size = sizeof(struct hc_set_opts), .ttl_ms = UINT64_MAX - 1}),
		HC_E_INVAL);
	fade(l);
	shift_sizes(l);
	break_room(d, l);
	hoard(d, l);
	clear_often(l);
	lease_often(d, l);
	CHECK(memcmp(was, view.value, sizeof was) == 0);
	CHECK_EQ(hc_view_ok(&view), 1);
	CHECK_EQ(hc_view_release(&view), HC_OK);
	(void)check_all(l, l->s);
}

static void survive(struct t_daemon *d, struct life *l)
{
	struct hc *other;
	struct hc_store *s;
	char c;

	open_client(d, &other, &s);
	CHECK(check_all(l, s) > 0);
	CHECK_EQ(hc_set(s, "survivor", 8, "x", 1, NULL), HC_OK);
	CHECK_EQ(hc_get(l->s, "survivor", 8, &c, 1, NULL), HC_OK);
	hc_close(other);
	check_memory(d);
}

static void record(struct t_steps *steps)
{
	char order[512];
	struct life l = {0};

	(void)snprintf(order, sizeof order, "HC_STEP=record:%s", t_path("steps"));
	struct t_daemon *d = t_daemon_start(config, (const char *[]){order, NULL});
	live(d, &l);
	survive(d, &l);
	hc_close(l.hc);
	t_daemon_stop(d);
	t_steps_load(steps, t_path("steps"));
}

/* Lives with a kill at the nth pass of a mark.  True: it came to pass. */
static bool live_and_die(const char *step, int nth)
{
	char order[512];
	const char *once = t_path("once");
	struct life l = {0};

	int fd = open(once, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	CHECK(fd >= 0);
	(void)close(fd);
	(void)snprintf(order, sizeof order, "HC_STEP=kill:%s:%d:%s", step, nth, once);
	struct t_daemon *d = t_daemon_start(config, (const char *[]){order, NULL});
	live(d, &l);
	survive(d, &l);
	hc_close(l.hc);
	t_daemon_stop(d);
	bool died = access(once, F_OK) != 0;
	(void)unlink(once);
	return died;
}

/* T_STEP=module:moment:N repeats one life: killed at the Nth pass of that mark. */
static bool repeat_one(void)
{
	const char *order = getenv("T_STEP");
	char name[T_STEP_BYTES];

	if (!order)
		return false;
	const char *nth = strrchr(order, ':');
	CHECK(nth && nth > order && (size_t)(nth - order) < sizeof name);
	memcpy(name, order, (size_t)(nth - order));
	name[nth - order] = 0;
	fprintf(stderr, "  %s, pass %d: %s\n", name, atoi(nth + 1),
		live_and_die(name, atoi(nth + 1)) ? "killed" : "not passed");
	return true;
}

TEST_LIMIT(engine_is_killed_at_every_step_of_its_life, 300)
{
	static struct t_steps steps;

	if (repeat_one())
		return;
	record(&steps);
	CHECK(steps.n > 30);
	for (int i = 0; i < steps.n; i++) {
		const char *name = steps.name[i];
		if (strncmp(name, "sup:", 4) == 0) /* the supervisor's: crash_sup.c */
			continue;
		int nth = 2 + (int)t_random_below(20);
		fprintf(stderr, "  T_STEP=%s:%d\n", name, nth);
		bool first = live_and_die(name, 1), later = live_and_die(name, nth);
		CHECK(first || later);
		CHECK(first);
		t_step_killed(name);
	}
}

/* ------------------------------------------------------------- dying reader */

static int scanned(void *arg, const struct hc_scan_entry *e)
{
	(void)e;
	++*(int *)arg;
	return 0;
}

/* Every way to look at an entry: past all marks of a read. */
static void look(struct hc_store *s, bool check)
{
	struct hc_scan scan = HC_OPTS(hc_scan);
	struct hc_lease_opts o = HC_OPTS(hc_lease_opts);
	struct hc_lease lease;
	struct hc_view view;
	char buf[VALUE_BYTES];
	int n = 0, r[5];

	r[0] = hc_get(s, "key-1", 5, buf, sizeof buf, NULL);
	r[1] = hc_view(s, "key-1", 5, &view);
	r[2] = hc_view_release(&view);
	do
		r[3] = hc_scan(s, &scan, scanned, &n);
	while (r[3] == HC_OK);
	o.wait_ms = 10; /* somebody else has it */
	r[4] = hc_get_or_lease(s, "leased", 6, buf, sizeof buf, NULL, &o, &lease);
	CHECK(!check || (r[0] == HC_OK && r[1] == HC_OK && r[2] == HC_OK && r[3] == HC_MISS &&
				n == 1 && r[4] == HC_LEASED));
}

_Noreturn static void reader_child(const struct t_daemon *d, const char *step)
{
	struct hc *hc;
	struct hc_store *s;

	open_client(d, &hc, &s);
	t_step_kill_at(step, 1);
	look(s, false);
	_exit(1);
}

static uint64_t sessions_of(const struct hc *hc)
{
	return shm_load_rlx(&hc->ctl->counter[SHM_DC_sessions]);
}

TEST_LIMIT(client_is_killed_at_every_step_of_a_read, 120)
{
	static struct t_steps steps;
	struct t_daemon *d = t_daemon_start(config, NULL);
	struct life l = {0};
	struct hc_lease_opts lease_opts = HC_OPTS(hc_lease_opts);
	struct hc_lease lease;

	open_client(d, &l.hc, &l.s);
	set(&l, 1, 1);
	lease_opts.lease_ms = 3600000;
	CHECK_EQ(hc_get_or_lease(l.s, "leased", 6, NULL, 0, NULL, &lease_opts, &lease), HC_LEASE);
	t_steps_record(&steps);
	look(l.s, true);
	t_steps_end();
	CHECK(steps.n >= 6);
	for (int i = 0; i < steps.n; i++) {
		pid_t pid = fork();
		if (pid == 0)
			reader_child(d, steps.name[i]);
		int st = t_wait_child(pid, 20000);
		CHECK(WIFSIGNALED(st) && WTERMSIG(st) == SIGKILL);
		t_step_killed(steps.name[i]);
		/* The kernel's word reaches the engine; nothing else tells it. */
		uint64_t until = t_now_ns() + 10ull * 1000000000;
		while (sessions_of(l.hc) != 1 && t_now_ns() < until)
			CHECK_EQ(hc_ping(l.hc), HC_OK);
		CHECK_EQ(sessions_of(l.hc), 1);
		for (int v = 2; v < 40; v++) /* what it pinned is reused */
			set(&l, 1, v);
		CHECK_EQ(check_all(&l, l.s), 1);
		check_memory(d);
	}
	hc_close(l.hc);
	t_daemon_stop(d);
}
