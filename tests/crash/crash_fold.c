/* crash_fold.c - an engine killed at each step of a session's end: what the session has counted is in the totals
 * once, neither lost nor twice, whoever dies afterwards. */
#include "../kit/t_step.h"
#include "../proc/traffic.h"

static void fold_killed_at(const char *mark)
{
	char once[T_PATH_BYTES], order[T_PATH_BYTES + 64];
	struct total want = {0};
	struct client c[3];

	(void)snprintf(once, sizeof once, "%s", t_path(mark));
	FILE *f = fopen(once, "we");
	CHECK(f != NULL);
	fclose(f);
	(void)snprintf(order, sizeof order, "HC_STEP=kill:%s:1:%s", mark, once);
	struct t_daemon *d = t_daemon_start(NULL, (const char *[]){order, NULL});
	pid_t engine = t_daemon_engine(d);
	for (uint32_t i = 0; i < 3; i++)
		c[i] = client_start(d, i);
	order_all(c, 3, (struct order){.sets = 2, .hits = 100, .misses = 9}, &want);
	client_end(&c[0], SIGKILL);
	engine = t_daemon_wait_engine(d, engine);
	CHECK_EQ(access(once, F_OK), -1);
	wait_sessions(d, 2);
	check_total(d, &want);
	order_all(c + 1, 2, (struct order){.hits = 7, .misses = 1}, &want);
	CHECK_EQ(t_daemon_kill_engine(d, SIGKILL), engine);
	client_end(&c[1], SIGKILL);
	(void)t_daemon_wait_engine(d, engine);
	wait_sessions(d, 1);
	check_total(d, &want);
	client_order(&c[2], (struct order){.hits = 1, .end = true});
	want.hits++;
	client_end(&c[2], 0);
	wait_sessions(d, 0);
	check_total(d, &want);
	check_status(d, 0, ARGS("fsck"));
	t_step_killed(mark);
	t_daemon_stop(d);
}

TEST(a_sessions_counts_are_in_the_totals_once_wherever_the_engine_dies)
{
	static const char *const marks[] = {"fold:intended", "fold:counted", "fold:shown",
		"session:unscanned", "session:ended"};

	for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
		fold_killed_at(marks[i]);
}
