/* crash_sup.c - the supervisor killed at every STEP of its life: its engine ends by itself, nothing of it
 * is in the way of another daemon on the same folder and sockets, and no tool or client hangs. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "../kit/t_proc.h"
#include "../kit/t_step.h"

enum { LIMIT_MS = 20000, CHILDREN_MAX = 8 };

static const char *hardening; /* of the daemons that are started */

/* Starts the daemon of this test's folder; order: what HC_STEP says, or NULL. */
static struct t_proc *daemon_start(const char *order)
{
	char step[512];
	FILE *f = fopen(t_path("c.yaml"), "we");

	CHECK(f != NULL);
	fprintf(f, "socket: %s\n", t_path("s"));
	fprintf(f, "data_dir: %s\n", t_path("data"));
	fprintf(f, "hardening: %s\n", hardening);
	fputs("pools: { main: { size: 8MiB, huge_pages: off } }\n", f);
	fputs("wal_segment: 1MiB\nwal_staging: 1MiB\n"
	      "stores: { default: {}, kept: { durability: sync } }\n",
		f);
	t_config_write(f, NULL);
	CHECK_EQ(fclose(f), 0);
	(void)snprintf(step, sizeof step, "HC_STEP=%s", order ? order : "");
	return t_spawn((const char *[]){t_bin("hypercached"), "--config", t_path("c.yaml"), NULL},
		&(struct t_spawn_opts){.env = (const char *[]){order ? step : "HC_STEP", NULL}});
}

/* The command line; its exit status, whatever it is: it ends. */
static int cli(const char *verb, const char *key, const char *value)
{
	return t_run((const char *[]){t_bin("hypercache"), "--socket", t_path("s"), "--timeout",
			     "2s", verb, key, value, NULL},
		NULL, 0, NULL, NULL, NULL, LIMIT_MS);
}

static bool has_ended(const struct t_proc *p) { return t_wait_fd(p->pidfd, POLLIN, 0); }

/* Until it answers, or has ended. */
static void wait_answer(const struct t_proc *p)
{
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(LIMIT_MS) * 1000000;

	while (!has_ended(p) && cli("ping", NULL, NULL) != 0)
		CHECK(t_now_ns() < end_ns);
}

/* Takes the supervisor past all its marks, as far as it lives. */
static void live(struct t_proc *p)
{
	pid_t engine[CHILDREN_MAX];

	wait_answer(p);
	(void)cli("set", "key", "value");
	(void)cli("stat", NULL, NULL);
	(void)cli("store", "create", "more");
	(void)cli("reload", NULL, NULL);
	(void)cli("client", "revoke", "1f");
	(void)cli("upgrade", NULL, NULL);
	(void)cli("fsck", "--repair", NULL);
	if (t_children(p->pid, engine, CHILDREN_MAX) == 1)
		(void)kill(engine[0], SIGKILL);
	wait_answer(p);
	(void)cli("get", "key", NULL);
	if (!has_ended(p))
		t_proc_signal(p, SIGTERM);
}

/* Whatever was left behind, another daemon starts there and works. */
static void survive(void)
{
	struct t_proc *p = daemon_start(NULL);

	free(t_proc_line(p, "hypercached: ready on ", LIMIT_MS));
	CHECK_EQ(cli("get", "key", NULL), 1); /* memory of its own */
	CHECK_EQ(cli("set", "key", "value"), 0);
	CHECK_EQ(cli("fsck", NULL, NULL), 0);
	t_proc_signal(p, SIGTERM);
	CHECK_EQ(t_proc_exit(p, LIMIT_MS), 0);
	t_proc_free(p);
}

/* A file that whoever dies removes: only one does. */
static void once(void)
{
	int fd = open(t_path("once"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	CHECK(fd >= 0);
	close(fd);
}

/* Kills a supervisor at each of its marks; how many there are. */
static int sweep(const char *as)
{
	static struct t_steps steps;
	char order[512];
	int n = 0;

	hardening = as;
	(void)snprintf(order, sizeof order, "record:%s", t_path("steps"));
	struct t_proc *p = daemon_start(order);
	live(p);
	CHECK_EQ(t_proc_exit(p, LIMIT_MS), 0);
	t_proc_free(p);
	t_steps_load(&steps, t_path("steps"));
	for (int i = 0; i < steps.n; i++) {
		if (strncmp(steps.name[i], "sup:", 4) != 0)
			continue;
		once();
		fprintf(stderr, "  killed at %s\n", steps.name[i]);
		(void)snprintf(order, sizeof order, "kill:%s:1:%s", steps.name[i], t_path("once"));
		p = daemon_start(order);
		live(p);
		CHECK_EQ(t_proc_exit(p, LIMIT_MS), 128 + SIGKILL);
		t_proc_free(p);
		survive();
		t_step_killed(steps.name[i]);
		n++;
	}
	CHECK_EQ(unlink(t_path("steps")), 0);
	return n;
}

TEST_LIMIT(supervisor_is_killed_at_every_step_of_its_life, 200) { CHECK(sweep("none") >= 7); }

TEST_LIMIT(and_where_an_engine_takes_the_memory_with_it, 200) { CHECK(sweep("strict") >= 9); }

/* Some segments are closed to later writers, some are not: the next engine gets new ones. */
TEST(engine_is_killed_while_it_closes_the_memory)
{
	char order[512];

	hardening = "strict";
	once();
	(void)snprintf(order, sizeof order, "kill:engine:half-sealed:1:%s", t_path("once"));
	struct t_proc *p = daemon_start(order);
	free(t_proc_line(p, "hardening is strict", LIMIT_MS));
	free(t_proc_line(p, "hypercached: ready on ", LIMIT_MS));
	CHECK_EQ(cli("set", "key", "value"), 0);
	CHECK_EQ(cli("fsck", NULL, NULL), 0);
	t_proc_signal(p, SIGTERM);
	CHECK_EQ(t_proc_exit(p, LIMIT_MS), 0);
	t_proc_free(p);
	t_step_killed("engine:half-sealed");
}
