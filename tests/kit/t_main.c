/* t_main.c - runs the tests of one program, each in a process of its own (t.h).
 *
 * The runner and each test are sub-reapers: whatever a test starts, however deep, becomes a child of
 * the test, or of the runner when the test is dead, and can be found and ended. */
#include "t.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../../shm/step.h"
#include "t_kit.h"

enum { FDS_MAX = 1024, LEFT_MAX = 64, KILL_TURNS = 1000, FAULT = 1 };

extern const struct t_test __start_tests, __stop_tests;

/* Present in a build with the address sanitizer only. */
extern int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

struct fd_set_open {
	bool open[FDS_MAX];
};

static void fds_list(struct fd_set_open *ret_set)
{
	DIR *d = opendir("/proc/self/fd");

	memset(ret_set, 0, sizeof *ret_set);
	if (!d)
		t_fail(__FILE__, __LINE__, "/proc/self/fd: %s", strerror(errno));
	for (struct dirent *e = readdir(d); e; e = readdir(d)) {
		int fd = atoi(e->d_name);
		if (e->d_name[0] != '.' && fd != dirfd(d) && fd < FDS_MAX)
			ret_set->open[fd] = true;
	}
	closedir(d);
}

static int report_open_fds(const struct fd_set_open *before)
{
	struct fd_set_open after;
	int n = 0;

	fds_list(&after);
	for (int fd = 0; fd < FDS_MAX; fd++) {
		char link[64], target[256];
		if (!after.open[fd] || before->open[fd])
			continue;
		(void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
		ssize_t len = readlink(link, target, sizeof target - 1);
		target[len > 0 ? len : 0] = 0;
		fprintf(stderr, "  descriptor %d is still open: %s\n", fd, target);
		n++;
	}
	return n;
}

/* Orphans that came to us and have ended are waited for; the living are an error of the test. */
static int report_children(void)
{
	pid_t left[LEFT_MAX];

	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	int n = t_children(getpid(), left, LEFT_MAX);
	for (int i = 0; i < n; i++) {
		char path[64], comm[64] = "?";
		(void)snprintf(path, sizeof path, "/proc/%d/comm", (int)left[i]);
		FILE *f = fopen(path, "re");
		if (f && fgets(comm, sizeof comm, f))
			comm[strcspn(comm, "\n")] = 0;
		if (f)
			fclose(f);
		fprintf(stderr, "  process %d (%s) is still running\n", (int)left[i], comm);
	}
	return n;
}

static void kill_children(void)
{
	pid_t left[LEFT_MAX];

	for (int turn = 0; turn < KILL_TURNS; turn++) {
		int n = t_children(getpid(), left, LEFT_MAX);
		if (n == 0)
			return;
		for (int i = 0; i < n; i++) {
			(void)kill(left[i], SIGKILL);
			(void)waitpid(left[i], NULL, 0);
		}
	}
}

/* In the test's process.  Returns 0, or FAULT if it left something behind. */
static int run_here(const struct t_test *t)
{
	struct fd_set_open before;
	int n_left;

	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
	fds_list(&before);
	t_kit_begin(t->name);
	t->run();
	fflush(NULL);
	n_left = report_open_fds(&before) + report_children();
	if (__lsan_do_recoverable_leak_check && __lsan_do_recoverable_leak_check()) {
		fprintf(stderr, "  memory is still allocated and nothing points to it\n");
		n_left++;
	}
	return n_left ? FAULT : 0;
}

static _Noreturn void run_forked(const struct t_test *t)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
	int r = run_here(t);
	fflush(NULL);
	_exit(r);
}

/* Returns the status as of waitpid(2). */
static int wait_forked(const struct t_test *t, pid_t pid)
{
	int status = 0, limit_ms = t_limit_ms(t->limit_s * 1000), pidfd = pidfd_open(pid, 0);

	if (!t_kit_wait(pidfd, POLLIN, limit_ms)) {
		fprintf(stderr, "  no end within %d s\n", limit_ms / 1000);
		(void)kill(pid, SIGKILL);
	}
	if (pidfd >= 0)
		(void)close(pidfd);
	(void)waitpid(pid, &status, 0);
	kill_children();
	return status;
}

static void print_repeat(const char *program, const struct t_test *t)
{
	static const char *const names[] = {"HC_BINDIR", "HC_SOURCE_ROOT", "HC_DATA", "HC_MUTANT"};
	char path[PATH_MAX];

	printf("     repeat: T_SEED=%#llx", (unsigned long long)t_seed());
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		const char *value = getenv(names[i]);
		if (value && *value)
			printf(" %s=%s", names[i], value);
	}
	printf(" %s %s\n", realpath(program, path) ? path : program, t->name);
}

struct tally {
	int passed, failed, skipped;
};

static void run_and_count(const char *program, const struct t_test *t, struct tally *tally)
{
	uint64_t begun_ns = t_now_ns();

	t_kit_next();
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0)
		run_forked(t);
	int status = pid > 0 ? wait_forked(t, pid) : -1;
	t_kit_remove_dir();
	if (WIFEXITED(status) && WEXITSTATUS(status) == T_SKIPPED) {
		tally->skipped++;
		printf("skip %s: %s\n", t->name, t_kit_skip_why());
	} else if (status == 0) {
		tally->passed++;
		printf("ok   %s (%llu ms)\n", t->name,
			(unsigned long long)(t_now_ns() - begun_ns) / 1000000);
	} else {
		tally->failed++;
		printf("FAIL %s", t->name);
		if (WIFSIGNALED(status))
			printf(" (%s)", strsignal(WTERMSIG(status)));
		printf("\n");
		print_repeat(program, t);
	}
	fflush(stdout);
}

static int verdict(const struct tally *tally)
{
	printf("%d passed, %d failed, %d skipped\n", tally->passed, tally->failed, tally->skipped);
	if (tally->passed + tally->failed + tally->skipped == 0)
		return 2;
	if (tally->failed)
		return 1;
	return tally->passed ? 0 : T_SKIPPED;
}

/* Unforked, for gdb: a CHECK that fails aborts under its eyes. */
static int run_named(const char *name)
{
	for (const struct t_test *t = &__start_tests; t < &__stop_tests; t++) {
		if (strcmp(name, t->name) != 0)
			continue;
		t_kit_next();
		int r = run_here(t);
		t_kit_remove_dir();
		return verdict(&(struct tally){.passed = r == 0, .failed = r != 0});
	}
	fprintf(stderr, "no test is called %s (--list names them)\n", name);
	return 2;
}

int main(int argc, char **argv)
{
	struct tally tally = {0};

	step_from_env();
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (argc > 1 && strcmp(argv[1], "--list") == 0) {
		for (const struct t_test *t = &__start_tests; t < &__stop_tests; t++)
			printf("%s\n", t->name);
		return 0;
	}
	printf("seed %#llx\n", (unsigned long long)t_seed());
	const char *only = argc > 2 && strcmp(argv[1], "--only") == 0 ? argv[2] : NULL;
	if (argc > 1 && !only)
		return run_named(argv[1]);
	for (const struct t_test *t = &__start_tests; t < &__stop_tests; t++)
		if (!only || strcmp(only, t->name) == 0)
			run_and_count(argv[0], t, &tally);
	return verdict(&tally);
}
