/* k.h - what the tests of kernel facts share.
 *
 * A child tells its parent that it is somewhere by a byte through a pipe, never by time.  All waits
 * have the deadline K_LIMIT_MS.  Everything here fails the test when the kernel refuses what is only
 * preparation; what is in question is called by the test itself.
 *
 * Threads: none.  Fork: a child ends by _exit(), or is killed by k_kill().
 */
#ifndef HC_K_H
#define HC_K_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../kit/t.h"

enum {
	K_LIMIT_MS = 10000,
	K_NOBODY = 65534, /* a uid that is not ours */
};

#define K_HUGE_BYTES ((size_t)2 << 20)
#define K_HUGE_FLAGS (MFD_HUGETLB | 21u << 26) /* MFD_HUGE_2MB */

/* One direction; both ends are open in both processes until k_pipe_close. */
struct k_pipe {
	int fd[2];
};

static inline struct k_pipe k_pipe_open(void)
{
	struct k_pipe p;

	CHECK(pipe2(p.fd, O_CLOEXEC) == 0);
	return p;
}

static inline void k_pipe_close(struct k_pipe *p)
{
	close(p->fd[0]);
	close(p->fd[1]);
}

static inline void k_tell(const struct k_pipe *p) { CHECK(write(p->fd[1], "x", 1) == 1); }

/* Waits for a k_tell() of the other process. */
static inline void k_await(const struct k_pipe *p)
{
	struct pollfd pfd = {.fd = p->fd[0], .events = POLLIN};
	char c;

	CHECK(poll(&pfd, 1, t_limit_ms(K_LIMIT_MS)) == 1);
	CHECK(read(p->fd[0], &c, 1) == 1);
}

/* For the end of a child that is to be killed: it stays until then. */
static inline void k_stay(void)
{
	for (;;)
		pause();
}

/* fork(); the child is killed when its parent ends, so that nothing is left behind. */
static inline pid_t k_fork(void)
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0)
		CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
	return pid;
}

/* SIGKILL, and waits until the kernel has taken everything away from it. */
static inline void k_kill(pid_t pid)
{
	CHECK(kill(pid, SIGKILL) == 0);
	CHECK(WIFSIGNALED(t_wait_child(pid, K_LIMIT_MS)));
}

/* Waits for a child that must have ended by _exit(0). */
static inline void k_wait_ok(pid_t pid) { CHECK_EQ(t_wait_child(pid, K_LIMIT_MS), 0); }

/* In a child: becomes another program that stays alive and echoes; k_echo_await sees that it runs. */
static inline void k_exec_echo(const struct k_pipe *to, const struct k_pipe *from)
{
	CHECK(dup2(to->fd[0], 0) == 0 && dup2(from->fd[1], 1) == 1);
	execl("/bin/cat", "cat", "-u", (char *)NULL);
	_exit(127);
}

static inline void k_echo_await(const struct k_pipe *to, const struct k_pipe *from)
{
	k_tell(to);
	k_await(from);
}

/* A memfd of this size, sealable, without memory yet. */
static inline int k_memfd(unsigned flags, size_t bytes)
{
	int fd = memfd_create("k", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);

	CHECK(fd >= 0);
	CHECK(ftruncate(fd, (off_t)bytes) == 0);
	return fd;
}

/* A new open file description of the same file, as the daemon makes them.  Returns -1 and errno. */
static inline int k_reopen(int fd, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, flags | O_CLOEXEC);
}

static inline void *k_map(int fd, size_t bytes, int prot)
{
	void *p = mmap(NULL, bytes, prot, MAP_SHARED, fd, 0);

	CHECK(p != MAP_FAILED);
	return p;
}

/* Whether flock(LOCK_EX) could be taken at this moment, through a description of its own. */
static inline bool k_lock_is_free(int fd)
{
	int probe = k_reopen(fd, O_RDWR);
	bool is_free;

	CHECK(probe >= 0);
	is_free = flock(probe, LOCK_EX | LOCK_NB) == 0;
	CHECK(is_free || errno == EWOULDBLOCK);
	close(probe);
	return is_free;
}

/* Whether a pidfd says that the process has ended. */
static inline bool k_pidfd_says_dead(int pidfd)
{
	struct pollfd pfd = {.fd = pidfd, .events = POLLIN};

	return poll(&pfd, 1, 0) == 1;
}

static inline int k_pidfd_open(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	CHECK(fd >= 0);
	return fd;
}

/* The first number behind `field` in the mapping at p, in /proc/self/smaps; -1 if it has no such line.
 * *ret_flags, if asked for, is whether `flag` (two letters) stands in its VmFlags. */
static inline long k_smaps(const void *p, const char *field, const char *flag, bool *ret_flag)
{
	char line[512], start[32];
	bool inside = false;
	long n = -1;
	FILE *f = fopen("/proc/self/smaps", "re");

	CHECK(f);
	snprintf(start, sizeof(start), "%lx-", (unsigned long)p);
	while (fgets(line, sizeof(line), f)) {
		if (strchr(line, '-') && strspn(line, "0123456789abcdef") > 4 &&
			line[strspn(line, "0123456789abcdef")] == '-')
			inside = strncmp(line, start, strlen(start)) == 0;
		else if (inside && field && strncmp(line, field, strlen(field)) == 0)
			n = strtol(line + strlen(field) + 1, NULL, 10);
		else if (inside && flag && strncmp(line, "VmFlags:", 8) == 0)
			*ret_flag = strstr(line, flag) != NULL;
	}
	fclose(f);
	return n;
}

#endif
