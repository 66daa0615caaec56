/* proc_kernels.c - the daemon where the kernel, or whoever runs it, offers less: without
 * io_uring, without its newer flags, without SO_PEERPIDFD.  And that it is quiet, however it waits.
 *
 * A filter (seccomp) that the test installs in itself is inherited by the daemon. */
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include "raw.h"

/* What stands in the log and in `hypercache stat` for each value of `io`. */
static const struct way {
	const char *io, *log;
	enum { RING, POLL } on;
} ways[] = {
	{"io_uring", "loop: io_uring, completions deferred to the loop", RING},
	{"io_uring-plain", "loop: io_uring, plain", RING},
	{"epoll", "loop: epoll and plain system calls", POLL},
};

/* io_uring_setup returns this error in this process and what it starts. */
static void forbid_io_uring(uint32_t error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};

	CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	CHECK_EQ(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
	CHECK_EQ(syscall(SYS_io_uring_setup, 1, NULL), -1);
	CHECK_EQ(errno, (int)error);
}

static bool io_uring_is_allowed(void)
{
	struct io_uring_params p = {0};
	int fd = (int)syscall(SYS_io_uring_setup, 1, &p);

	if (fd >= 0)
		(void)close(fd);
	return fd >= 0;
}

static struct t_daemon *start(const char *key, const char *word)
{
	char more[128];

	(void)snprintf(more, sizeof more, "%s: \"%s\"\n", key, word);
	return t_daemon_start(more, NULL);
}

static void serves(const struct t_daemon *d)
{
	struct raw r = session_open(d);
	struct wire_request req = set(&r, 1, "k", "v");

	CHECK_EQ(raw_call(&r, &req).status, HC_OK);
	ping(&r);
	raw_close(&r);
}

static void stat_says(const struct t_daemon *d, const char *io)
{
	char *out, want[64];

	(void)snprintf(want, sizeof want, ", waits with %s\n", io);
	CHECK_EQ(t_run((const char *[]){t_bin("hypercache"), "--admin", d->admin, "stat", NULL},
			 NULL, 0, &out, NULL, NULL, WAIT_MS),
		0);
	if (!strstr(out, want))
		t_fail(__FILE__, __LINE__, "no \"%s\" in %s", want, out);
	free(out);
}

/* -------------------------------------------------------------- how it waits */

TEST(how_it_waits_is_as_configured_and_named_in_log_and_stat)
{
	if (!io_uring_is_allowed())
		SKIP("io_uring is not allowed here");
	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
		struct t_daemon *d = start("io", ways[i].io);
		for (int engines = 0; engines < 2; engines++) {
			if (engines > 0)
				(void)t_daemon_kill_engine(d, SIGKILL);
			free(t_proc_line(d->proc, ways[i].log, WAIT_MS));
			serves(d);
			stat_says(d, ways[i].io);
		}
		t_daemon_stop(d);
	}
}

static void falls_back(uint32_t error, const char *reason)
{
	forbid_io_uring(error);
	struct t_daemon *d = start("io", "auto");
	char *line = t_proc_line(d->proc, "loop: epoll and plain system calls (", WAIT_MS);

	CHECK(strstr(line, reason) != NULL);
	free(line);
	serves(d);
	stat_says(d, "epoll");
	t_daemon_stop(d);
}

TEST(a_container_that_forbids_io_uring_gets_epoll) { falls_back(EPERM, "seccomp"); }

TEST(a_kernel_without_io_uring_gets_epoll) { falls_back(ENOSYS, "no io_uring"); }

TEST(io_uring_by_name_where_it_is_forbidden_does_not_start_and_says_why)
{
	forbid_io_uring(EPERM);
	struct t_daemon *d = t_daemon_launch("io: io_uring\nrestart_limit: 1\n", NULL);

	free(t_proc_line(d->proc, "io_uring is forbidden here", WAIT_MS));
	CHECK_EQ(t_proc_exit(d->proc, WAIT_MS), 3);
	t_daemon_free(d);
}

/* ---------------------------------------------------------------- no membarrier */

TEST(a_client_that_lies_about_its_fences_keeps_nobody_waiting)
{
	struct t_daemon *d = t_daemon_start("membarrier: \"off\"\n", NULL);
	struct raw liar = session_open(d);
	size_t bytes;
	struct shm_client *seg = segment_of(&liar, &bytes);

	/* An engine without membarrier must wait for who relies on it. */
	shm_store32_rlx(&seg->fence, SHM_FENCE_COMPILER);
	(void)t_daemon_kill_engine(d, SIGKILL);
	serves(d);
	CHECK_EQ(shm_load_rlx(&liar.ctl->engine_gen), 2);
	(void)munmap(seg, bytes);
	raw_close(&liar);
	t_daemon_stop(d);
}

/* --------------------------------------------------------- the client's process */

/* A process with a session of its own; the connection stays open here when it dies. */
static pid_t client_start(const struct t_daemon *d, int sock)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int ready[2];
	char byte;

	CHECK_EQ(pipe(ready), 0);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) { /* who calls connect(2) is whom the kernel names to the engine */
		struct raw r = {.sock = sock};
		memcpy(a.sun_path, d->socket, strnlen(d->socket, sizeof a.sun_path - 1));
		CHECK_EQ(connect(sock, (struct sockaddr *)&a, sizeof a), 0);
		CHECK_EQ(raw_hello(&r, 0).status, HC_OK);
		ping(&r);
		CHECK_EQ(write(ready[1], "r", 1), 1);
		for (;;)
			(void)pause();
	}
	(void)close(ready[1]);
	CHECK(t_wait_fd(ready[0], POLLIN, WAIT_MS));
	CHECK_EQ(read(ready[0], &byte, 1), 1);
	(void)close(ready[0]);
	return pid;
}

/* The session must end before the engine's first tick, which would look anyway. */
static void death_is_noticed(const char *peer_pidfd)
{
	char more[128];

	(void)snprintf(more, sizeof more, "heartbeat: 5s\npeer_pidfd: \"%s\"\n", peer_pidfd);
	struct t_daemon *d = t_daemon_start(more, NULL);
	struct raw good = session_open(d);
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pid_t pid = client_start(d, sock);

	uint64_t beat = shm_load_rlx(&good.ctl->heartbeat_ns);
	CHECK_EQ(counter(&good, SHM_DC_sessions), 2);
	CHECK_EQ(kill(pid, SIGKILL), 0);
	(void)t_wait_child(pid, WAIT_MS);
	wait_counter(&good, SHM_DC_sessions, 1);
	CHECK_EQ(shm_load_rlx(&good.ctl->heartbeat_ns), beat);
	CHECK_EQ(counter(&good, SHM_DC_sessions_dead), 1);
	(void)close(sock);
	raw_close(&good);
	t_daemon_stop(d);
}

TEST(a_death_is_noticed_by_the_pidfd_of_the_socket) { death_is_noticed("auto"); }

TEST(a_death_is_noticed_by_the_pidfd_of_the_number) { death_is_noticed("off"); }

/* ------------------------------------------------------------------------ idle */

struct used {
	uint64_t sleeps, ticks; /* voluntary context switches; processor time, 1/100 s */
	int n_read;             /* files that said so */
};

static void used_add_task(struct used *u, pid_t pid, const char *tid)
{
	char path[300], line[1024];
	unsigned long user = 0, sys = 0;

	(void)snprintf(path, sizeof path, "/proc/%d/task/%s/status", (int)pid, tid);
	FILE *f = fopen(path, "re");
	while (f && fgets(line, sizeof line, f))
		if (strncmp(line, "voluntary_ctxt_switches:", 24) == 0) {
			u->sleeps += strtoull(line + 24, NULL, 10);
			u->n_read++;
		}
	if (f)
		(void)fclose(f);
	(void)snprintf(path, sizeof path, "/proc/%d/task/%s/stat", (int)pid, tid);
	f = fopen(path, "re");
	if (f && fgets(line, sizeof line, f) && strrchr(line, ')') &&
		sscanf(strrchr(line, ')'), ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
			&user, &sys) == 2) {
		u->ticks += user + sys;
		u->n_read++;
	}
	if (f)
		(void)fclose(f);
}

/* Of all threads of the process, the kernel's helpers among them. */
static struct used used_by(pid_t pid)
{
	char path[64];
	struct used u = {0};
	const struct dirent *e;

	(void)snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
	DIR *dir = opendir(path);
	CHECK(dir != NULL);
	while ((e = readdir(dir)))
		if (e->d_name[0] != '.')
			used_add_task(&u, pid, e->d_name);
	(void)closedir(dir);
	CHECK(u.n_read >= 2);
	return u;
}

/* The session of a process that is dead, alive because a forked child maps it.  Its pidfd can be
 * read from now on, and nobody is to be woken by that. */
static void session_of_the_dead(const struct t_daemon *d, const int stay[2])
{
	int ready[2];
	char byte;

	CHECK_EQ(pipe(ready), 0);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		size_t bytes;
		struct raw r = session_open(d);
		CHECK(segment_of(&r, &bytes) != NULL);
		ping(&r);
		if (fork() == 0) {
			CHECK_EQ(write(ready[1], "r", 1), 1);
			(void)close(ready[1]);
			(void)close(stay[1]);
			_exit(read(stay[0], &byte, 1) == 0 ? 0 : 1);
		}
		_exit(0);
	}
	(void)close(ready[1]);
	CHECK_EQ(t_wait_child(pid, WAIT_MS), 0);
	CHECK(t_wait_fd(ready[0], POLLIN, WAIT_MS));
	CHECK_EQ(read(ready[0], &byte, 1), 1);
	(void)close(ready[0]);
}

TEST(an_idle_daemon_is_quiet_however_it_waits)
{
	enum { WINDOW_MS = 2000, SLEEPS_PER_S = 4, TICKS_PER_S = 5 };

	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
		if (ways[i].on == RING && !io_uring_is_allowed())
			continue; /* how_it_waits_... says that it is skipped */
		struct t_daemon *d = start("io", ways[i].io);
		struct raw idle = session_open(d);
		pid_t engine = t_daemon_engine(d);
		int stay[2], quiet[2];

		CHECK_EQ(pipe(quiet), 0);
		CHECK_EQ(pipe2(stay, O_CLOEXEC), 0);
		session_of_the_dead(d, stay);
		ping(&idle);
		struct used e = used_by(engine), s = used_by(d->proc->pid);
		uint64_t begun_ns = t_now_ns();
		/* Not a wait for anything: so long is it watched while nothing happens. */
		CHECK(!t_wait_fd(quiet[0], POLLIN, WINDOW_MS));
		struct used e2 = used_by(engine), s2 = used_by(d->proc->pid);
		uint64_t window_ns = t_now_ns() - begun_ns;
		uint64_t sleeps = e2.sleeps - e.sleeps + s2.sleeps - s.sleeps;
		uint64_t ticks = e2.ticks - e.ticks + s2.ticks - s.ticks;
		fprintf(stderr, "  %s: %llu wake-ups, %llu ticks in %llu ms\n", ways[i].io,
			(unsigned long long)sleeps, (unsigned long long)ticks,
			(unsigned long long)(window_ns / 1000000));
		CHECK(sleeps > 0); /* its heartbeat */
		CHECK(sleeps * 1000000000 <= window_ns * SLEEPS_PER_S);
		CHECK(ticks * 1000000000 <= window_ns * TICKS_PER_S);
		CHECK_EQ(counter(&idle, SHM_DC_sessions), 2);
		(void)close(stay[1]);
		(void)close(stay[0]);
		(void)close(quiet[0]);
		(void)close(quiet[1]);
		wait_counter(&idle, SHM_DC_sessions, 1);
		raw_close(&idle);
		t_daemon_stop(d);
	}
}
