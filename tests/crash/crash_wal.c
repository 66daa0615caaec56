/* crash_wal.c - is everything there that was staged, at whichever STEP of the log its process dies?
 *
 * The world of wal_world.h lies in shared memory.  A child lives in it and is killed; this process is the next engine.
 * And between any two instructions: then a copy of staging is adopted, as it is at that moment. */
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../../daemon/wal/wal_stage.h"
#include "../../shm/atomic.h"
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

/* --------------------------------------------------------- any instruction */

enum {
	INSTRUCTIONS_MAX = 40000, /* of the child that are looked at; it goes on without */
	LOOK_EVERY = 64,          /* instructions, if the positions have not changed */
	OPERATIONS = 8,
};

static uint8_t copy[WORLD_STAGE] __attribute__((aligned(4096)));

/* The records of the staging that was copied, which follow those that are durable, have to be the end of the list; and
 * behind it may be the one that is pending. */
static void check_records(const struct world *x, uint64_t durable_lsn)
{
	struct wal_stage *s = (struct wal_stage *)copy;
	uint32_t at = 0;

	while (at < x->n && x->lsn[at] <= durable_lsn)
		at++;
	for (uint64_t n = shm_load_rlx(&s->head); n < shm_load_rlx(&s->tail); n++) {
		const struct wal_stage_frame *f = wal_stage_at(s, n);
		const struct wal_record *r;
		for (uint64_t off = WAL_SECTOR; off < shm_load_rlx(&f->bytes); off += r->bytes) {
			r = (const struct wal_record *)(wal_stage_ring(s, f->at) + off);
			if (r->lsn != x->pending)
				CHECK_EQ(r->lsn, at < x->n ? x->lsn[at] : 0);
			at++;
		}
	}
	/* The child may be between counting the pending one and forgetting it. */
	CHECK(at >= x->n - (x->pending && x->n &&
				   (x->lsn[x->n - 1] == x->pending || !x->lsn[x->n - 1])));
}

static void look(struct world *x)
{
	struct wal_opts o = world_opts(x);
	struct wal_adopted found, again;
	struct wal *w;

	memcpy(copy, x->stage, sizeof copy);
	o.stage = copy;
	CHECK_EQ(wal_adopt(&o, &w, &found), 0);
	CHECK(found.durable_lsn >= x->said);
	check_records(x, found.durable_lsn);
	if (found.unsettled_lsn) {
		CHECK_EQ(found.unsettled_lsn, x->pending);
		wal_adopt_decide(w, false);
		wal_free(w);
		CHECK_EQ(wal_adopt(&o, &w, &again), 0);
		CHECK(again.unsettled_lsn == 0 && again.n_records == found.n_records - 1);
		CHECK(again.last_lsn < found.last_lsn);
	}
	wal_free(w);
}

/* Instructions are counted from one of these to the next. */
static void watch(bool on) { CHECK_EQ(raise(on ? SIGUSR1 : SIGUSR2), 0); }

/* Of a short record, so that most instructions are the log's own. */
static void watched_append(struct world *x)
{
	static struct world_record r;

	do
		world_record(x->next_lsn++, &r);
	while (r.c.key_bytes + r.c.head_bytes + r.c.tail_bytes > 100);
	x->pending = r.c.lsn;
	watch(true);
	CHECK_EQ(wal_append(x->wal, &r.c), 0);
}

static void child_is_watched(struct world *x)
{
	CHECK_EQ(ptrace(PTRACE_TRACEME, 0, NULL, NULL), 0);
	for (int i = 0; i < OPERATIONS; i++) {
		watched_append(x);
		if (i == 2)
			wal_take_back(x->wal);
		else
			wal_settle(x->wal);
		watch(false);
		world_happened(x, i != 2);
		watch(true);
		if (i % 3 == 1)
			(void)wal_submit(x->wal);
		if (i % 3 == 2)
			(void)t_disk_turn(&x->disk);
		watch(false);
		if (i == 1) { /* an engine that adopts what another one has left in the middle */
			watched_append(x);
			watch(false);
			free(x->wal);
			t_disk_abandon(&x->disk);
			watch(true);
			world_adopt(x);
			watch(false);
		}
		world_give(x);
	}
	_exit(0);
}

TEST_LIMIT(killed_at_any_instruction, 120)
{
	static uint8_t before[sizeof(struct wal_stage)];
	struct world *x = world_new(t_random());
	struct wal *mine = x->wal;
	long n = 0, n_looks = 0;
	int status;

	fflush(NULL);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0)
		child_is_watched(x);
	bool on = false;
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	while (WIFSTOPPED(status) && n < INSTRUCTIONS_MAX) {
		int signal = WSTOPSIG(status);
		CHECK(signal == SIGTRAP || signal == SIGUSR1 || signal == SIGUSR2);
		on = signal == SIGTRAP ? on : signal == SIGUSR1;
		if (on && (memcmp(before, x->stage, sizeof before) != 0 || n % LOOK_EVERY == 0)) {
			memcpy(before, x->stage, sizeof before);
			look(x);
			n_looks++;
		}
		n += on;
		CHECK_EQ(ptrace(on ? PTRACE_SINGLESTEP : PTRACE_CONT, pid, NULL, NULL), 0);
		CHECK_EQ(waitpid(pid, &status, 0), pid);
	}
	while (WIFSTOPPED(status)) { /* it was long enough */
		CHECK_EQ(ptrace(PTRACE_CONT, pid, NULL, NULL), 0);
		CHECK_EQ(waitpid(pid, &status, 0), pid);
	}
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	printf("  %ld instructions, %ld adoptions\n", n, n_looks);
	CHECK(n_looks > 100);
	free(mine);
	world_adopt(x);
	all_is_durable(x);
	world_end(x);
}
