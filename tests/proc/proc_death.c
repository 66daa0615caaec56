/* proc_death.c - clients that end, or half end, in uncommon ways: exec, fork, vfork, under a debugger.
 *
 * A session is over exactly when the kernel says that nobody has its memory any more (rule P18): not before,
 * as long as somebody could still read through a pin, and at once then.  Each client here holds a view; what
 * it holds is not reused while it counts, and is free afterwards. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "atomic.h"
#include "hc_i.h"
#include "hypercache.h"

enum { WAIT_MS = 20000, BIG = 100000, READABLE = 1 /* POLLIN */ };

struct world {
	struct t_daemon *d;
	struct hc *hc;
	struct hc_store *s;
	int told[2], go[2]; /* pipes: the client says that it is where it should be; it may go on */
	pid_t client;
};

static struct hc_store *client_open(const struct t_daemon *d, struct hc **hc)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct hc_store *s;

	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(WAIT_MS);
	CHECK_EQ(hc_open(hc, &o), HC_OK);
	CHECK_EQ(hc_store(*hc, "default", &s), HC_OK);
	return s;
}

static void say(const struct world *w) { CHECK_EQ(write(w->told[1], "x", 1), 1); }

static void await(int fd)
{
	char c;

	CHECK(t_wait_fd(fd, READABLE, WAIT_MS));
	CHECK_EQ(read(fd, &c, 1), 1);
}

/* A daemon, and a client that has a view and does `then`. */
static void begin(struct world *w, void (*then)(struct world *w))
{
	static char value[BIG];
	struct hc_view v;
	struct hc *hc;

	w->d = t_daemon_start("heartbeat: 100ms\n", NULL);
	w->s = client_open(w->d, &w->hc);
	CHECK_EQ(hc_set(w->s, "k", 1, value, sizeof value, NULL), HC_OK);
	CHECK_EQ(pipe(w->told), 0);
	CHECK_EQ(pipe(w->go), 0);
	w->client = fork();
	CHECK(w->client >= 0);
	if (w->client == 0) {
		struct hc_store *s = client_open(w->d, &hc);
		CHECK_EQ(hc_view(s, "k", 1, &v), HC_OK);
		then(w);
		_exit(0);
	}
	await(w->told[0]);
	CHECK_EQ(hc_delete(w->s, "k", 1), HC_OK);
}

static uint64_t counter(const struct world *w, enum shm_daemon_counter i)
{
	return shm_load_rlx(&w->hc->ctl->counter[i]);
}

static uint64_t limbo(const struct world *w)
{
	return shm_load_rlx(&w->hc->ctl->pool[0].counter[SHM_PC_limbo_bytes]);
}

/* The engine has had every reason to look, and the session is there. */
static void check_holds(const struct world *w)
{
	uint64_t beat = shm_load_rlx(&w->hc->ctl->heartbeat_ns);
	uint64_t end_ns = t_now_ns() + WAIT_MS * UINT64_C(1000000);

	for (int beats = 0; beats < 3; beats += shm_load_rlx(&w->hc->ctl->heartbeat_ns) != beat) {
		beat = shm_load_rlx(&w->hc->ctl->heartbeat_ns);
		CHECK(t_now_ns() < end_ns);
		CHECK_EQ(hc_ping(w->hc), HC_OK);
	}
	CHECK_EQ(counter(w, SHM_DC_sessions), 2);
	CHECK(limbo(w) >= BIG);
}

static void check_over(const struct world *w)
{
	uint64_t end_ns = t_now_ns() + WAIT_MS * UINT64_C(1000000);

	while (counter(w, SHM_DC_sessions) != 1 || limbo(w) != 0) {
		CHECK(t_now_ns() < end_ns);
		CHECK_EQ(hc_ping(w->hc), HC_OK);
	}
	CHECK_EQ(counter(w, SHM_DC_sessions_dead), 1);
}

static void end(struct world *w)
{
	for (int i = 0; i < 2; i++) {
		(void)close(w->told[i]);
		(void)close(w->go[i]);
	}
	hc_close(w->hc);
	t_daemon_stop(w->d);
}

static void kill_client(const struct world *w)
{
	CHECK_EQ(kill(w->client, SIGKILL), 0);
	CHECK(WIFSIGNALED(t_wait_child(w->client, WAIT_MS)));
}

/* ------------------------------------------------------------------------ exec */

static void wait_and_exec(struct world *w)
{
	char *argv[] = {(char[]){"cat"}, NULL};

	say(w);
	await(w->go[0]);
	CHECK_EQ(dup2(w->go[0], 0), 0);
	(void)close(w->go[1]); /* it ends with ours */
	(void)execv("/bin/cat", argv);
	_exit(1);
}

TEST(a_client_that_calls_exec_is_over_and_its_process_lives)
{
	struct world w;

	begin(&w, wait_and_exec);
	check_holds(&w);
	CHECK_EQ(write(w.go[1], "x", 1), 1);
	check_over(&w);
	CHECK_EQ(kill(w.client, 0), 0);
	CHECK_EQ(waitpid(w.client, NULL, WNOHANG), 0);
	kill_client(&w);
	end(&w);
}

/* ------------------------------------------------------------------- fork, vfork */

static void fork_and_wait(struct world *w)
{
	pid_t child = fork();

	CHECK(child >= 0);
	if (child > 0)
		for (;;)
			(void)pause();
	say(w);
	await(w->go[0]);
}

TEST(a_client_is_over_when_it_is_killed_though_its_child_lives)
{
	struct world w;

	begin(&w, fork_and_wait);
	check_holds(&w);
	kill_client(&w);
	check_over(&w);
	CHECK_EQ(write(w.go[1], "x", 1), 1); /* the child ends now */
	end(&w);
}

/* Calls of a child of vfork() are few: it shares its parent's memory. */
static void vfork_and_wait(struct world *w)
{
	char c;
	int told = w->told[1], go = w->go[0];
	pid_t child = vfork();

	if (child == 0) {
		ssize_t n = write(told, "x", 1);
		n += read(go, &c, 1);
		_exit(n == 2 ? 0 : 1);
	}
}

/* The child has the same memory, the session's too, until it ends. */
TEST(a_client_that_is_killed_in_vfork_is_over_when_its_child_has_gone)
{
	struct world w;

	begin(&w, vfork_and_wait);
	check_holds(&w);
	kill_client(&w);
	check_holds(&w);
	CHECK_EQ(write(w.go[1], "x", 1), 1);
	check_over(&w);
	end(&w);
}

/* -------------------------------------------------------------------- a debugger */

static void be_debugged(struct world *w)
{
	say(w);
	for (;;)
		(void)pause();
}

/* Stopped where a debugger stops it; it costs the others nothing but what it holds. */
TEST(a_client_that_a_debugger_holds_is_alive_until_it_is_killed)
{
	struct world w;
	int st;

	begin(&w, be_debugged);
	CHECK_EQ(ptrace(PTRACE_SEIZE, w.client, NULL, NULL), 0);
	CHECK_EQ(ptrace(PTRACE_INTERRUPT, w.client, NULL, NULL), 0);
	CHECK_EQ(waitpid(w.client, &st, __WALL), w.client);
	CHECK(WIFSTOPPED(st));
	check_holds(&w);
	CHECK_EQ(kill(w.client, SIGKILL), 0); /* and nobody waits for it yet */
	check_over(&w);
	CHECK_EQ(waitpid(w.client, &st, __WALL), w.client);
	CHECK(WIFSIGNALED(st));
	end(&w);
}

/* A debugger may hold it on its way out: its memory is still there, so it is not over. */
TEST(a_client_that_a_debugger_holds_at_its_end_is_not_over)
{
	struct world w;
	int st;

	begin(&w, be_debugged);
	CHECK_EQ(ptrace(PTRACE_SEIZE, w.client, NULL, (void *)(uintptr_t)PTRACE_O_TRACEEXIT), 0);
	CHECK_EQ(kill(w.client, SIGTERM), 0);
	CHECK_EQ(waitpid(w.client, &st, __WALL), w.client);
	CHECK(WIFSTOPPED(st) && WSTOPSIG(st) == SIGTERM);
	CHECK_EQ(ptrace(PTRACE_CONT, w.client, NULL, (void *)(uintptr_t)SIGTERM), 0);
	CHECK_EQ(waitpid(w.client, &st, __WALL), w.client);
	CHECK(st >> 8 == (SIGTRAP | PTRACE_EVENT_EXIT << 8));
	check_holds(&w);
	CHECK_EQ(ptrace(PTRACE_CONT, w.client, NULL, NULL), 0);
	check_over(&w);
	CHECK_EQ(waitpid(w.client, &st, __WALL), w.client);
	end(&w);
}
