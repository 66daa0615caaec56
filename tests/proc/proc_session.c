/* proc_session.c - does the real daemon keep the sessions that are in use?
 *
 * Planted bugs (shm/step.h) that this file must catch: 293, 297, 298.
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "cli_run.h"
#include "hypercache.h"

enum { WAIT_MS = 30000, SESSIONS = 60, IDLE_MS = 2000 };

static const char yaml[] =
	"heartbeat: 100ms\nstores:\n"
	"  s: {type: session, max_entries: 60, policy_params: {idle: 2s, grace: 0}}\n";

static struct hc_store *store_open(const struct t_daemon *d, struct hc **ret)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct hc_store *s;

	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(WAIT_MS);
	CHECK_EQ(hc_open(ret, &o), HC_OK);
	CHECK_EQ(hc_store(*ret, "s", &s), HC_OK);
	return s;
}

static void set(struct hc_store *s, const char *kind, int i)
{
	char key[32];
	int n = snprintf(key, sizeof key, "%s-%d", kind, i);

	CHECK_EQ(hc_set(s, key, (size_t)n, "value", 5, NULL), HC_OK);
}

static bool is_there(struct hc_store *s, const char *kind, int i)
{
	char key[32];
	int n = snprintf(key, sizeof key, "%s-%d", kind, i);

	return hc_exists(s, key, (size_t)n) == HC_OK;
}

static int read_one(struct hc_store *s, const char *kind, int i)
{
	char key[32], buf[16];
	int n = snprintf(key, sizeof key, "%s-%d", kind, i);

	return hc_get(s, key, (size_t)n, buf, sizeof buf, NULL);
}

/* Time itself is what is waited for. */
static void wait_until(uint64_t at_ns)
{
	for (uint64_t now; (now = t_now_ns()) < at_ns;)
		(void)poll(NULL, 0, (int)((at_ns - now) / 1000000) + 1);
}

/* Reads one session, so seldom that its hints would wait for others: fewer than are given together. */
static void use_for_longer_than_idle(struct hc_store *s, const char *kind, int i)
{
	uint64_t begin_ns = t_now_ns();

	for (uint64_t at_ms = 0; at_ms < IDLE_MS + 500; at_ms += 300) {
		wait_until(begin_ns + at_ms * 1000000);
		CHECK_EQ(read_one(s, kind, i), HC_OK);
	}
}

/* The oldest of all is used, the others are not: then they go, one for each that comes. */
TEST_LIMIT(who_is_used_stays_and_who_is_idle_goes, 60)
{
	struct t_daemon *d = t_daemon_start(yaml, NULL);
	struct hc *hc;
	struct hc_store *s = store_open(d, &hc);

	for (int i = 0; i < SESSIONS; i++)
		set(s, "old", i);
	use_for_longer_than_idle(s, "old", 0);
	for (int i = 0; i < SESSIONS - 1; i++)
		set(s, "new", i);
	for (int i = 0; i < SESSIONS; i++)
		CHECK_EQ(is_there(s, "old", i), i == 0);
	hc_close(hc);
	t_daemon_stop(d);
}

/* A new engine knows from the entries who was used, and since when they are there. */
TEST_LIMIT(the_next_engine_knows_who_is_idle, 60)
{
	struct t_daemon *d = t_daemon_start(yaml, NULL);
	struct hc *hc;
	struct hc_store *s = store_open(d, &hc);

	for (int i = 0; i < SESSIONS; i++)
		set(s, "old", i);
	use_for_longer_than_idle(s, "old", 0);
	pid_t engine = t_daemon_kill_engine(d, SIGKILL);
	(void)t_daemon_wait_engine(d, engine);
	for (int i = 0; i < SESSIONS - 1; i++)
		set(s, "new", i);
	for (int i = 0; i < SESSIONS; i++)
		CHECK_EQ(is_there(s, "old", i), i == 0);
	hc_close(hc);
	t_daemon_stop(d);
}

/* Many sessions at once, more than a ring of hints holds, each read once in its time. */
TEST_LIMIT(more_sessions_than_a_ring_holds_are_told_of, 120)
{
	enum { MANY = 1500 };
	struct t_daemon *d = t_daemon_start(
		"heartbeat: 100ms\nstores:\n"
		"  s: {type: session, max_entries: 3000, policy_params: {idle: 6s, grace: 0}}\n",
		NULL);
	struct hc *hc;
	struct hc_store *s = store_open(d, &hc);
	uint64_t begin_ns = t_now_ns();

	for (int i = 0; i < MANY; i++)
		set(s, "used", i);
	for (int i = 0; i < MANY; i++)
		set(s, "idle", i);
	wait_until(begin_ns + UINT64_C(4000000000));
	for (int i = 0; i < MANY; i++)
		CHECK_EQ(read_one(s, "used", i), HC_OK);
	wait_until(begin_ns + UINT64_C(7000000000));
	for (int i = 0; i < MANY; i++)
		set(s, "new", i);
	int left = 0;
	for (int i = 0; i < MANY; i++)
		left += is_there(s, "used", i);
	CHECK_EQ(left, MANY);
	CHECK(!is_there(s, "idle", 0) && !is_there(s, "idle", MANY - 1));
	hc_close(hc);
	t_daemon_stop(d);
}

/* The type brings its policy, and a time to live that is not the policy's business. */
TEST(the_type_brings_the_policy)
{
	struct t_daemon *d = t_daemon_start(
		"stores:\n  s: {type: session}\n  t: {type: session, policy: lru}\n", NULL);
	struct result r = run(d, ARGS("config", "show"));

	check_says(&r, "stores.s.policy", "session", "stores.t.policy", "lru", NULL);
	result_free(&r);
	check_status(d, 5, ARGS("store", "create", "x", "type=session", "policy_params=idle=31m"));
	check_status(d, 5, ARGS("store", "create", "x", "type=session", "policy_params=idle=1s"));
	check_status(d, 0, ARGS("store", "create", "x", "type=session", "policy_params=idle=20m"));
	t_daemon_stop(d);
}
