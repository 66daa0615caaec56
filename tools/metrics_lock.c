/* metrics_lock.c - what hypercache-metrics gives up, because strangers talk to it.
 *
 * As eng_lock.c does it for the engine: a call that is not listed answers EPERM, what no library would do here ends
 * the process, and Landlock closes all names but those below /proc (health.c looks whether the engine is
 * stopped).  What the kernel or the build does not offer is said, and done without.
 */
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
#include "metrics.h"

#ifdef HC_SECCOMP
#include <seccomp.h>
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

static bool rights_drop(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};

	return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 &&
	       prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && syscall(SYS_capset, &head, none) == 0;
}

#if defined(HC_SECCOMP) && !defined(SANITIZED)

/* clang-format off */

/* X(call): what it makes while it serves.  Those with a condition stand in rules_add(). */
#define CALLS(X) \
	X(epoll_ctl) X(epoll_wait) X(epoll_pwait) X(poll) X(ppoll) X(restart_syscall) \
	X(accept) X(accept4) X(recvfrom) X(recvmsg) X(sendto) X(sendmsg) X(getsockopt) X(setsockopt) \
	X(getsockname) X(shutdown) X(close) X(fcntl) X(fstat) X(newfstatat) X(statx) X(ioctl) \
	X(read) X(readv) X(write) X(writev) X(lseek) X(pread64) \
	X(brk) X(munmap) X(mremap) X(madvise) X(futex) \
	X(clock_gettime) X(clock_getres) X(gettimeofday) X(time) X(getrandom) X(getpid) X(gettid) \
	X(geteuid) X(getuid) X(sched_yield) X(membarrier) \
	X(rt_sigreturn) X(rt_sigaction) X(rt_sigprocmask) X(exit) X(exit_group)

/* X(call): what nothing of ours would ever do.  The process ends. */
#define DEADLY(X) \
	X(execve) X(execveat) X(ptrace) X(process_vm_readv) X(process_vm_writev) X(mount) X(umount2) \
	X(pivot_root) X(setns) X(unshare) X(bpf) X(init_module) X(finit_module) X(kexec_load)

/* clang-format on */

enum { LANDLOCK_FIRST_BITS = 13 /* rights of the first version */ };

/* Files can be read below /proc, and nothing else can be done by a name. */
static bool names_closed(void)
{
	const uint64_t read = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
	struct landlock_ruleset_attr all = {.handled_access_fs = (1ULL << LANDLOCK_FIRST_BITS) - 1};
	int fd = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof all, 0);
	int proc = open("/proc", O_PATH | O_CLOEXEC);
	struct landlock_path_beneath_attr below = {.allowed_access = read, .parent_fd = proc};

	bool closed = fd >= 0 && proc >= 0 &&
	              syscall(SYS_landlock_add_rule, fd, LANDLOCK_RULE_PATH_BENEATH, &below, 0) ==
	                      0 &&
	              syscall(SYS_landlock_restrict_self, fd, 0) == 0;
	if (fd >= 0)
		(void)close(fd);
	if (proc >= 0)
		(void)close(proc);
	return closed;
}

#define NUMBER_(name) SCMP_SYS(name),
static const int calls[] = {CALLS(NUMBER_)};
static const int deadly[] = {DEADLY(NUMBER_)};

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
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1,
			SCMP_A2(SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY));
	/* abort(), and nobody else's signals. */
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
			SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0));
	return r;
}

static int calls_filter(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int r = filter ? rules_add(filter) : -ENOMEM;

	if (r == 0) {
		(void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_LOG, 1);
		r = seccomp_load(filter);
	}
	if (filter)
		seccomp_release(filter);
	return r;
}

const char *metrics_lock(char to[METRICS_TEXT_BYTES])
{
	bool rights = rights_drop(), names = names_closed();
	int r = calls_filter();

	(void)snprintf(to, METRICS_TEXT_BYTES, "%s, %s, %s",
		rights ? "it has no rights" : "it keeps its rights",
		names ? "it can open nothing but /proc" : "it can open files: there is no Landlock",
		r == 0 ? "its system calls are filtered" : "its system calls are not filtered");
	return to;
}

#else

const char *metrics_lock(char to[METRICS_TEXT_BYTES])
{
#ifdef HC_SECCOMP
	const char *why = "the sanitizer of this build makes calls of its own";
#else
	const char *why = "built without libseccomp";
#endif
	(void)snprintf(to, METRICS_TEXT_BYTES, "%s, its system calls are not filtered: %s",
		rights_drop() ? "it has no rights" : "it keeps its rights", why);
	return to;
}

#endif
