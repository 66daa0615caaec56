/* eng_lock.c - see eng_lock.h.
 *
 * A call that is not listed answers EPERM instead of ending the engine: a C library that begins to
 * make another call some day must not take a cache down, and whoever has taken the engine over does not
 * get what he asked for.  What no library would ever do here ends it at once, so that it is noticed.
 *
 * What is opened by name is closed by Landlock where the kernel has it: a filter cannot see paths.
 *
 * The ring of io_uring is a way around this filter: eng_loop_uring.c restricts it to the
 * operations of the loop.
 */
#include "eng_lock.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/err.h"

#ifdef HC_SECCOMP
#include <seccomp.h>
#endif

int eng_lock_rights(bool all)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};

	if (all && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
		return err_new(-errno);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || syscall(SYS_capset, &head, none) != 0)
		return err_new(-errno);
	return 0;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

#if defined(HC_SECCOMP) && !defined(SANITIZED)

/* clang-format off */

/* X(call): what the engine makes while it serves.  Those with a condition stand in rules_add(). */
#define CALLS(X) \
	/* the loop, on io_uring or epoll */ \
	X(io_uring_enter) X(epoll_ctl) X(epoll_wait) X(epoll_pwait) X(epoll_pwait2) \
	X(poll) X(ppoll) X(clock_nanosleep) X(nanosleep) X(restart_syscall) \
	/* connections and the channel */ \
	X(accept) X(accept4) X(recvfrom) X(recvmsg) X(sendto) X(sendmsg) X(getsockopt) X(shutdown) \
	/* descriptors, and the segments of sessions */ \
	X(close) X(fcntl) X(fstat) X(newfstatat) X(statx) X(flock) X(memfd_create) X(fchmod) \
	X(ftruncate) X(fallocate) X(pread64) X(pwrite64) X(pidfd_open) \
	/* the log and last words; what durable stores write, where io_uring does not */ \
	X(read) X(readv) X(write) X(writev) X(lseek) X(pwritev2) \
	/* memory */ \
	X(brk) X(munmap) X(mremap) X(madvise) \
	/* readers: barriers before reuse, waking who waits */ \
	X(membarrier) X(futex) \
	/* time, random ids, ourselves */ \
	X(clock_gettime) X(clock_getres) X(gettimeofday) X(time) X(getrandom) X(getpid) X(gettid) \
	X(geteuid) X(getuid) X(sched_yield) X(getrusage) X(sched_getaffinity) \
	/* signals, the end */ \
	X(rt_sigreturn) X(rt_sigaction) X(rt_sigprocmask) X(sigaltstack) X(exit) X(exit_group)

/* X(call): what nothing of ours would ever do.  The process ends. */
#define DEADLY(X) \
	X(execve) X(execveat) X(ptrace) X(process_vm_readv) X(process_vm_writev) X(mount) X(umount2) \
	X(pivot_root) X(setns) X(unshare) X(bpf) X(init_module) X(finit_module) X(kexec_load)

/* clang-format on */

/* A flag of open(2) that makes, empties or changes something under a name. */
#define OPEN_CHANGES (O_CREAT | O_TRUNC | O_APPEND | (O_TMPFILE & ~O_DIRECTORY))

#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (1ULL << 13) /* of its second version */
#endif
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14) /* of its third */
#endif
enum { LANDLOCK_FIRST_BITS = 13 }; /* rights of the first version */

/* No file can be opened by its name any more, whatever it is: memory without one can, through
 * /proc/self/fd.  True: so it is; false: this kernel has no Landlock (5.13), or it is off. */
static bool names_closed(void)
{
	long version = syscall(
		SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	struct landlock_ruleset_attr all = {.handled_access_fs = (1ULL << LANDLOCK_FIRST_BITS) - 1};

	if (version < 1)
		return false;
	if (version >= 2)
		all.handled_access_fs |= LANDLOCK_ACCESS_FS_REFER;
	if (version >= 3)
		all.handled_access_fs |= LANDLOCK_ACCESS_FS_TRUNCATE;
#ifdef HC_STEPS /* a planned death removes the file that orders it */
	all.handled_access_fs &= ~(uint64_t)LANDLOCK_ACCESS_FS_REMOVE_FILE;
#endif
	int fd = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof all, 0);
	if (fd < 0)
		return false;
	bool closed = syscall(SYS_landlock_restrict_self, fd, 0) == 0;
	(void)close(fd);
	return closed;
}

#define NUMBER_(name) SCMP_SYS(name),
static const int calls[] = {CALLS(NUMBER_)};
static const int deadly[] = {DEADLY(NUMBER_)};

/* 0 or -errno.  A call that this machine does not have is passed over. */
static int rules_add(scmp_filter_ctx filter)
{
	const int with_exec[] = {SCMP_SYS(mmap), SCMP_SYS(mprotect)};
	int r = 0;

	for (size_t i = 0; i < sizeof calls / sizeof *calls && r == 0; i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
	for (size_t i = 0; i < sizeof deadly / sizeof *deadly && r == 0; i++)
		r = seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, deadly[i], 0);
	/* No memory becomes code. */
	for (size_t i = 0; i < sizeof with_exec / sizeof *with_exec && r == 0; i++)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, with_exec[i], 1,
			SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	/* Descriptions of our own files, through /proc/self/fd: nothing is made by a name. */
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1,
			SCMP_A2(SCMP_CMP_MASKED_EQ, OPEN_CHANGES, 0));
	/* abort(), and nobody else's signals. */
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
			SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0));
#ifdef HC_STEPS /* a planned death removes the file that orders it */
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(unlink), 0);
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(unlinkat), 0);
#endif
	return r;
}

const char *eng_lock_calls(char to[ENG_LOCK_TEXT_BYTES])
{
	const char *names = names_closed() ? "no file can be opened by its name"
	                                   : "files can be opened by name: there is no Landlock";
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int r = filter ? 0 : -ENOMEM;

	if (r == 0)
		r = rules_add(filter);
	if (r == 0) {
		/* Both are older kernels' and libraries' to refuse. */
		(void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_LOG, 1);
		(void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
		/* The epoll loop may have a thread that writes (eng_loop_writer.c). */
		(void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
		r = seccomp_load(filter);
	}
	if (filter)
		seccomp_release(filter);
	if (r < 0)
		(void)snprintf(to, ENG_LOCK_TEXT_BYTES, "%s, system calls are not filtered: %s",
			names, strerror(-r));
	else
		(void)snprintf(to, ENG_LOCK_TEXT_BYTES, "%s, %zu system calls are allowed", names,
			sizeof calls / sizeof *calls + 4);
	return to;
}

#else

const char *eng_lock_calls(char to[ENG_LOCK_TEXT_BYTES])
{
#ifdef HC_SECCOMP
	const char *why = "the sanitizer of this build makes calls of its own";
#else
	const char *why = "built without libseccomp";
#endif
	(void)snprintf(to, ENG_LOCK_TEXT_BYTES, "system calls are not filtered: %s", why);
	return to;
}

#endif
