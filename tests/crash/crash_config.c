/* crash_config.c - the engine killed at every STEP of a change of the configuration: its successor has the
 * old one or the new one, whole, and nothing else notices.
 *
 * The change: store `a` gets another time to live and another policy, `b`, which holds entries, is dropped, `x` and `y` are
 * created, and a pool with store `z` comes.  It is made once with the marks recorded, then once for each mark.
 */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "../kit/t_step.h"
#include "hypercache.h"

enum { LIMIT_MS = 20000, N = 700, KEPT = 20 };

#define POOL(more) \
	"restart_limit: 1000\npools: { " more \
	"main: { size: 16MiB, huge_pages: \"off\", feed: 256KiB } }\n"
static const char before[] = POOL("") "stores: { a: { ttl: 100s, pool: main }, b: {} }";
static const char after[] = POOL(
	"added: { size: 8MiB, huge_pages: \"off\" }, ") "stores: { y: { ttl: 3s, pool: main }, a: "
							"{ ttl: 200s, policy: session, pool: main "
							"}, "
							"x: { pool: main }, z: { pool: added } }";

static char *out, *err;

static int cli(const struct t_daemon *d, const char *a, const char *b, const char *c)
{
	free(out);
	free(err);
	return t_run((const char *[]){t_bin("hypercache"), "--socket", d->socket, "--admin",
			     d->admin, a, b, c, NULL},
		NULL, 0, &out, NULL, &err, LIMIT_MS);
}

static struct hc *client(const struct t_daemon *d)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct hc *hc;

	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(LIMIT_MS);
	CHECK_EQ(hc_open(&hc, &o), HC_OK);
	return hc;
}

static bool has(struct hc *hc, const char *name)
{
	struct hc_store *s;

	return hc_store(hc, name, &s) == HC_OK;
}

/* The seconds that a new entry of store `a` lives. */
static uint32_t ttl_s(struct hc *hc)
{
	struct hc_meta m = HC_OPTS(hc_meta);
	struct hc_store *s;

	CHECK_EQ(hc_store(hc, "a", &s), HC_OK);
	CHECK_EQ(hc_set(s, "t", 1, "v", 1, NULL), HC_OK); /* waits for an engine */
	CHECK_EQ(hc_meta(s, "t", 1, &m), HC_OK);
	return m.ttl_ms / 1000;
}

/* All of one or all of the other: which. */
static bool is_new(struct hc *hc)
{
	bool changed = ttl_s(hc) == 200;

	if (!changed)
		CHECK_EQ(ttl_s(hc), 100);
	CHECK_EQ(has(hc, "b"), !changed);
	CHECK_EQ(has(hc, "x"), changed);
	CHECK_EQ(has(hc, "y"), changed);
	CHECK_EQ(has(hc, "z"), changed);
	return changed;
}

/* The pool that came is one for a client of before: it reads and writes there, and its views keep what they show
 * when the engine dies. */
static void use_added(struct t_daemon *d, struct hc *hc)
{
	struct hc_store *z;
	struct hc_view v;

	CHECK_EQ(hc_store(hc, "z", &z), HC_OK);
	CHECK_EQ(hc_set(z, "k", 1, "first", 5, NULL), HC_OK);
	CHECK_EQ(hc_view(z, "k", 1, &v), HC_OK);
	(void)t_daemon_wait_engine(d, t_daemon_kill_engine(d, SIGKILL));
	for (int i = 0; i < N; i++)
		CHECK_EQ(hc_set(z, "k", 1, "other", 5, NULL), HC_OK);
	CHECK(v.value_bytes == 5 && memcmp(v.value, "first", 5) == 0);
	CHECK_EQ(hc_view_release(&v), HC_OK);
}

static void fill(struct hc *hc)
{
	struct hc_store *b, *a;
	char key[16];

	CHECK_EQ(hc_store(hc, "a", &a), HC_OK);
	CHECK_EQ(hc_store(hc, "b", &b), HC_OK);
	for (int i = 0; i < N; i++) {
		int n = snprintf(key, sizeof key, "%d", i);
		CHECK_EQ(hc_set(b, key, (size_t)n, "value", 5, NULL), HC_OK);
	}
	for (int i = 0; i < KEPT; i++) {
		int n = snprintf(key, sizeof key, "kept-%d", i);
		CHECK_EQ(hc_set(a, key, (size_t)n, "v", 1, NULL), HC_OK);
	}
}

/* What `a` has stays, before, in and behind the moment in which each entry goes over to the new policy. */
static bool all_kept(struct hc_store *a)
{
	char key[16];
	int n_kept = 0;

	for (int i = 0; i < KEPT; i++) {
		int n = snprintf(key, sizeof key, "kept-%d", i);
		n_kept += hc_exists(a, key, (size_t)n) == HC_OK;
	}
	return n_kept == KEPT;
}

/* Until what was dropped is gone: the entries of `a` are left. */
static void wait_purged(const struct t_daemon *d)
{
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(LIMIT_MS) * 1000000;
	char left[32];

	(void)snprintf(left, sizeof left, "\"entries\":%d,", KEPT + 1);
	do {
		CHECK(t_now_ns() < end_ns);
		CHECK_EQ(cli(d, "pool", "list", "--json"), 0);
	} while (!strstr(out, left));
}

/* The feed has said once that a store was dropped. */
static void is_said_once(struct hc *hc)
{
	struct hc_feed_opts o = HC_OPTS(hc_feed_opts);
	struct hc_event ev = HC_OPTS(hc_event);
	struct hc_feed *f;
	int n = 0, r;

	o.from = HC_FEED_OLDEST;
	CHECK_EQ(hc_subscribe(hc, &o, &f), HC_OK);
	while ((r = hc_feed_next(f, 0, &ev)) == HC_OK)
		n += ev.what == HC_EVENT_DROP;
	CHECK_EQ(r, HC_MISS);
	CHECK_EQ(n, 1);
	hc_feed_close(f);
}

/* The change, and whoever dies in it, what there is then.  order: as HC_STEP. */
static void change(const char *order, const char *mark)
{
	char step[512];

	(void)snprintf(step, sizeof step, "HC_STEP=%s", order);
	struct t_daemon *d = t_daemon_start(before, (const char *[]){step, NULL});
	struct hc *hc = client(d);
	struct hc_store *a;

	CHECK_EQ(hc_store(hc, "a", &a), HC_OK);
	fill(hc);
	t_daemon_configure(d, after);
	int status = cli(d, "reload", "--force", NULL);
	bool changed = is_new(hc);
	CHECK_EQ(status, changed ? 0 : 5);
	if (!changed)
		CHECK(strstr(err, "engine-died"));
	if (mark && strcmp(mark, "config:prepared") != 0 && strncmp(mark, "pool:", 5) != 0)
		CHECK(changed); /* it had been taken */
	CHECK(all_kept(a));
	status = cli(d, "reload", "--force", NULL);
	if (mark && status == 5 &&
		strstr(err, "engine-died")) /* memory goes back in parts: it died only now */
		status = cli(d, "reload", "--force", NULL);
	CHECK_EQ(status, 0); /* whatever was: now it holds */
	CHECK(is_new(hc));
	wait_purged(d);
	CHECK_EQ(cli(d, "fsck", NULL, NULL), 0);
	CHECK(all_kept(a));
	is_said_once(hc);
	use_added(d, hc);
	CHECK_EQ(cli(d, "fsck", NULL, NULL), 0);
	if (mark)
		CHECK_EQ(access(t_path("once"), F_OK), -1); /* somebody died */
	hc_close(hc);
	t_daemon_stop(d);
}

TEST_LIMIT(a_change_is_whole_wherever_the_engine_dies, 200)
{
	static struct t_steps steps;
	char order[512];
	int n = 0;

	(void)snprintf(order, sizeof order, "record:%s", t_path("steps"));
	change(order, NULL);
	t_steps_load(&steps, t_path("steps"));
	for (int i = 0; i < steps.n; i++) {
		const char *mark = steps.name[i];
		if (strncmp(mark, "config:", 7) != 0 && strncmp(mark, "store:", 6) != 0 &&
			strncmp(mark, "pool:", 5) != 0 && strcmp(mark, "session:granted") != 0 &&
			strcmp(mark, "drop:intended") != 0)
			continue;
		int fd = open(t_path("once"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
		CHECK(fd >= 0 && close(fd) == 0);
		(void)snprintf(order, sizeof order, "kill:%s:1:%s", mark, t_path("once"));
		fprintf(stderr, "  killed at %s\n", mark);
		change(order, mark);
		t_step_killed(mark);
		n++;
	}
	CHECK(n >= 8);
}

/* The entry has its former time or its new one, and in both cases it is there. */
TEST(an_engine_dies_where_a_read_extends_an_entry)
{
	char order[512];
	int fd = open(t_path("once"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	CHECK(fd >= 0 && close(fd) == 0);
	(void)snprintf(order, sizeof order, "HC_STEP=kill:hint:slid:1:%s", t_path("once"));
	struct t_daemon *d = t_daemon_start(
		"heartbeat: 100ms\nstores: { a: { ttl: 1h, sliding: true } }",
		(const char *[]){order, NULL});
	pid_t engine = t_daemon_engine(d);
	struct hc *hc = client(d);
	struct hc_meta m = HC_OPTS(hc_meta);
	struct hc_store *a;
	char buf[8];

	CHECK_EQ(hc_store(hc, "a", &a), HC_OK);
	CHECK_EQ(hc_set(a, "k", 1, "v", 1, NULL), HC_OK);
	for (int i = 0; i < 40; i++) /* hints, due or not */
		CHECK_EQ(hc_get(a, "k", 1, buf, sizeof buf, NULL), HC_OK);
	(void)t_daemon_wait_engine(d, engine);
	CHECK_EQ(access(t_path("once"), F_OK), -1);
	CHECK_EQ(hc_meta(a, "k", 1, &m), HC_OK);
	CHECK(m.expires_in_ms > 0 && m.ttl_ms == 3600000);
	CHECK_EQ(hc_set(a, "k", 1, "w", 1, NULL), HC_OK);
	CHECK_EQ(cli(d, "fsck", NULL, NULL), 0);
	t_step_killed("hint:slid");
	hc_close(hc);
	t_daemon_stop(d);
}
