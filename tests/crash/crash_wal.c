/* crash_wal.c - is everything there that was staged, at whichever STEP of the log its process dies?
 *
 * The world of wal_world.h lies in shared memory.  A child lives in it and is killed; this process is the next engine. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../kit/t_step.h"
#include "../unit/wal_world.h"

enum { STEPS_OF_CHILD = 400 };

static void child_lives(struct world *x)
{
	for (int i = 0; i < STEPS_OF_CHILD; i++) {
		uint64_t what = world_below(x, 100);
		if (what < 60)
			world_set(x);
		else if (what < 80)
			(void)wal_submit(x->wal);
		else
			(void)t_disk_turn(&x->disk);
		if (what == 99)
			world_checkpoint(x);
		if (what == 98) { /* an engine that adopts what it finds */
			(void)world_append(x);
			free(x->wal);
			world_adopt(x);
		}
		world_give(x);
	}
}

static void all_is_durable(struct world *x)
{
	struct wal_read_result got;

	for (int i = 0; i < 100000 && wal_durable_lsn(x->wal) < wal_last_lsn(x->wal); i++) {
		world_give(x);
		if (wal_submit(x->wal) == WAL_NO_SEGMENT)
			world_checkpoint(x);
		(void)t_disk_turn(&x->disk);
		(void)t_disk_land(&x->disk);
	}
	CHECK_EQ(wal_durable_lsn(x->wal), wal_last_lsn(x->wal));
	while (t_disk_turn(&x->disk))
		;
	CHECK_EQ(world_check(x, &got), x->n);
}

/* A child that dies at the nth pass of this mark; false: it did not come there. */
static bool dies_at(const char *name, long nth, uint64_t seed)
{
	struct world *x = world_new(seed);
	struct wal *mine = x->wal; /* the child may write another one there */
	int status;

	fflush(NULL);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		t_step_kill_at(name, nth);
		child_lives(x);
		_exit(0);
	}
	status = t_wait_child(pid, t_limit_ms(20000));
	bool died = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
	CHECK(died || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
	free(mine);
	world_adopt(x);
	all_is_durable(x);
	world_end(x);
	return died;
}

TEST_LIMIT(killed_at_each_mark_of_the_log, 120)
{
	static struct t_steps steps;
	struct world *x = world_new(t_seed());

	t_steps_record(&steps);
	child_lives(x);
	all_is_durable(x);
	t_steps_end();
	world_end(x);
	CHECK(steps.n > 0);
	for (int i = 0; i < steps.n; i++) {
		long n_died = 0;
		for (long nth = 1; nth <= 200; nth = nth * 3 + 1)
			n_died += dies_at(steps.name[i], nth, t_random());
		if (n_died == 0)
			t_fail(__FILE__, __LINE__, "nobody died at %s", steps.name[i]);
		t_step_killed(steps.name[i]);
	}
}
