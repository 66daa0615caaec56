/* unit_lock.c - what an engine that is locked down can still do, and what nobody can make it do. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../../daemon/eng_lock.h"
#include "../../daemon/eng_loop.h"
#include "../../shm/barrier.h"
#include "../kit/t.h"

enum { NOBODY = 65534, WAIT_MS = 20000 };

/* Runs f in a process that is locked down; as of waitpid(2). */
static int locked(void (*f)(void), uid_t uid)
{
	char what[ENG_LOCK_TEXT_BYTES];

	fflush(NULL);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		CHECK(setresuid(uid, uid, uid) == 0);
		CHECK_EQ(eng_lock_rights(true), 0);
		if (!strstr(eng_lock_calls(what), "are allowed"))
			_exit(T_SKIPPED);
		f();
		_exit(0);
	}
	int status = t_wait_child(pid, WAIT_MS);
	if (WIFEXITED(status) && WEXITSTATUS(status) == T_SKIPPED)
		SKIP("this build does not filter system calls");
	return status;
}

static int reopen(int fd, int flags)
{
	char path[32];

	(void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	return open(path, flags | O_CLOEXEC);
}

/* ------------------------------------------------------------ what it needs */

static int pair[2], ep, huge;

static void segments(void)
{
	enum { BYTES = 8192 };
	char byte = 'x';
	struct stat st;

	int fd = memfd_create("session", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	CHECK(fd >= 0);
	CHECK_EQ(fchmod(fd, 0600), 0);
	CHECK_EQ(ftruncate(fd, BYTES), 0);
	CHECK_EQ(fallocate(fd, 0, 0, BYTES), 0);
	CHECK_EQ(pwrite(fd, &byte, 1, 0), 1);
	CHECK_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
	CHECK_EQ(fstat(fd, &st), 0);
	int given = reopen(fd, O_RDWR), look = reopen(fd, O_RDONLY);
	CHECK(given >= 0 && look >= 0);
	CHECK_EQ(flock(given, LOCK_EX | LOCK_NB), 0);
	CHECK(flock(look, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK);
	char *m = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, fd, 0);
	CHECK(m != MAP_FAILED && m[0] == 'x');
	CHECK_EQ(munmap(m, BYTES), 0);
	(void)close(given);
	CHECK_EQ(flock(look, LOCK_EX | LOCK_NB), 0);
	if (huge >= 0)
		CHECK(reopen(huge, O_RDONLY) >= 0);
}

static void peers(void)
{
	struct ucred cred;
	socklen_t n = sizeof cred;
	uint32_t groups[64];

	CHECK_EQ(getsockopt(pair[0], SOL_SOCKET, SO_PEERCRED, &cred, &n), 0);
	n = sizeof groups;
	CHECK_EQ(getsockopt(pair[0], SOL_SOCKET, SO_PEERGROUPS, groups, &n), 0);
	int pidfd = (int)syscall(SYS_pidfd_open, cred.pid, 0);
	CHECK(pidfd >= 0);
	CHECK_EQ(send(pair[0], "a", 1, MSG_NOSIGNAL), 1);
	char byte;
	CHECK_EQ(recv(pair[1], &byte, 1, MSG_DONTWAIT), 1);
	struct epoll_event ev = {.events = EPOLLIN}, got;
	CHECK_EQ(epoll_ctl(ep, EPOLL_CTL_ADD, pair[1], &ev), 0);
	CHECK_EQ(epoll_wait(ep, &got, 1, 0), 0);
	CHECK_EQ(shutdown(pair[0], SHUT_RDWR), 0);
}

static void memory_and_time(void)
{
	for (size_t n = 16; n < 256 << 20; n *= 4) {
		char *p = malloc(n), *q = p ? realloc(p, 2 * n) : NULL;
		CHECK(q);
		q[n] = 1;
		free(q);
	}
	uint64_t id;
	CHECK_EQ(getrandom(&id, sizeof id, 0), (ssize_t)sizeof id);
	CHECK(t_now_ns() > 0);
	(void)shm_barrier();
	CHECK(poll(NULL, 0, 1) == 0);
	fprintf(stderr, "  a line for the log\n");
}

static void needs(void)
{
	segments();
	peers();
	memory_and_time();
}

TEST(what_the_engine_needs_goes_on)
{
	const uid_t users[] = {geteuid(), NOBODY}; /* to the other /proc/self does not belong */

	for (int i = 0; i < (geteuid() == 0 ? 2 : 1); i++) {
		CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
		ep = epoll_create1(EPOLL_CLOEXEC);
		CHECK(ep >= 0);
		huge = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB);
		if (huge >= 0)
			CHECK_EQ(fchown(huge, users[i], (gid_t)-1), 0);
		CHECK_EQ(locked(needs, users[i]), 0);
		(void)close(pair[0]);
		(void)close(pair[1]);
		(void)close(ep);
		(void)close(huge);
	}
}

/* ------------------------------------------------------------ what it must not do */

static char made[256], there[256];
static bool landlock;

/* The call fails with EPERM. */
#define DENIED(call) \
	do { \
		errno = 0; \
		if ((long)(call) >= 0 || errno != EPERM) \
			t_fail(__FILE__, __LINE__, "%s: errno %d, not EPERM", #call, errno); \
	} while (0)

static void forbidden(void)
{
	static char code[4096] __attribute__((aligned(4096)));

	if (landlock) {
		CHECK(open(there, O_RDONLY) < 0 && errno == EACCES);
		CHECK(open(there, O_RDWR) < 0 && errno == EACCES);
		CHECK(open("/dev/null", O_RDWR) < 0 && errno == EACCES);
	}
	DENIED(open(made, O_CREAT | O_RDWR, 0600));
	DENIED(open(there, O_WRONLY | O_TRUNC));
	DENIED(open(there, O_WRONLY | O_APPEND));
	DENIED(open("/", O_TMPFILE | O_RDWR, 0600));
	DENIED(mkdir(made, 0700));
	DENIED(rename(there, made));
	DENIED(chmod(there, 0777));
	DENIED(socket(AF_UNIX, SOCK_STREAM, 0));
	DENIED(socket(AF_INET, SOCK_STREAM, 0));
	DENIED(connect(0, NULL, 0));
	DENIED(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
	DENIED(kill(getppid(), 0));
	DENIED(syscall(SYS_tgkill, getppid(), getppid(), 0));
	DENIED(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
	DENIED(syscall(SYS_io_uring_setup, 1, NULL));
	DENIED(mprotect(code, sizeof code, PROT_READ | PROT_EXEC));
	CHECK(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
			MAP_FAILED &&
		errno == EPERM);
	CHECK_EQ(mprotect(code, sizeof code, PROT_READ), 0);
}

TEST(what_serving_does_not_take_answers_eperm)
{
	(void)snprintf(made, sizeof made, "%s", t_path("made"));
	(void)snprintf(there, sizeof there, "%s", t_path("there"));
	int fd = open(there, O_CREAT | O_WRONLY | O_CLOEXEC, 0666);
	CHECK(fd >= 0 && write(fd, "x", 1) == 1);
	(void)close(fd);
	landlock = syscall(SYS_landlock_create_ruleset, NULL, 0, 1) > 0;
	CHECK_EQ(locked(forbidden, geteuid()), 0);
	CHECK(access(made, F_OK) != 0);
}

static void exec_it(void) { (void)execl("/bin/true", "true", NULL); }
static void trace_it(void) { (void)syscall(SYS_ptrace, 0, 0, 0, 0); }
static void unshare_it(void) { (void)syscall(SYS_unshare, 0); }

TEST(what_only_foreign_code_would_do_ends_it)
{
	void (*const deadly[])(void) = {exec_it, trace_it, unshare_it};

	for (size_t i = 0; i < sizeof deadly / sizeof *deadly; i++) {
		int status = locked(deadly[i], geteuid());
		CHECK(WIFSIGNALED(status));
		CHECK_EQ(WTERMSIG(status), SIGSYS);
	}
}

/* ------------------------------------------------------------ rights */

static uint64_t status_of(const char *name)
{
	char line[256];
	uint64_t n = UINT64_MAX;
	FILE *f = fopen("/proc/self/status", "re");

	CHECK(f);
	while (fgets(line, sizeof line, f))
		if (strncmp(line, name, strlen(name)) == 0)
			n = strtoull(line + strlen(name) + 1, NULL, 16);
	fclose(f);
	return n;
}

TEST(rights_go_and_do_not_come_back)
{
	for (int all = 0; all < 2; all++) {
		fflush(NULL);
		pid_t pid = fork();
		CHECK(pid >= 0);
		if (pid == 0) {
			CHECK_EQ(eng_lock_rights(all), 0);
			CHECK_EQ(status_of("CapEff"), 0);
			CHECK_EQ(status_of("CapPrm"), 0);
			CHECK_EQ(status_of("NoNewPrivs"), 1);
			CHECK_EQ(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), !all);
			_exit(0);
		}
		CHECK_EQ(t_wait_child(pid, WAIT_MS), 0);
	}
}

/* The ring would be a way around the filter. */
TEST(the_ring_takes_no_other_operations)
{
	struct eng_loop *l;
	const char *why;
	char path[64], text[64];
	int ring = -1;

	if (eng_loop_new(CONFIG_IO_URING, 8, &l, &why) < 0)
		SKIP("io_uring is not to be had");
	for (int fd = 0; fd < 256 && ring < 0; fd++) {
		(void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
		ssize_t n = readlink(path, text, sizeof text - 1);
		text[n > 0 ? n : 0] = 0;
		if (strstr(text, "[io_uring]"))
			ring = fd;
	}
	CHECK(ring >= 0);
	errno = 0;
	CHECK(syscall(SYS_io_uring_register, ring, 8 /* IORING_REGISTER_PROBE */, NULL, 0) < 0);
	CHECK_EQ(errno, EACCES);
	eng_loop_free(l);
}
