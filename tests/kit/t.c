/* t.c - what a test calls: checks, random numbers, times, folders (t.h). */
#include "t.h"
#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "t_kit.h"

enum { WHY_BYTES = 256, DEFAULT_SEED = 20240229 };

struct kept {
	struct kept *next;
	char *text;
};

/* What a test tells the runner: shared, so that it outlives the test's process. */
struct told {
	char skip_why[WHY_BYTES];
};

static struct told *told;
static char dir_name[PATH_MAX];
static bool dir_made;
static uint64_t random_state;
static struct kept *kept_list;
void (*t_kit_fail_hook)(void);

void t_kit_next(void)
{
	static int n;
	const char *tmp = getenv("TMPDIR");

	if (!told)
		told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			-1, 0);
	if (told == MAP_FAILED)
		t_fail(__FILE__, __LINE__, "mmap: %s", strerror(errno));
	told->skip_why[0] = 0;
	/* A number may come again: in another pid namespace, or after a run that was killed. */
	(void)snprintf(dir_name, sizeof dir_name, "%s/hc-t.%d.%d.%x", tmp && *tmp ? tmp : "/tmp",
		(int)getpid(), n++, (unsigned)(t_now_ns() >> 10 & 0xffff));
	dir_made = false;
}

void t_kit_begin(const char *name)
{
	uint64_t h = 0xcbf29ce484222325ull; /* FNV-1a of the name */

	for (; *name; name++)
		h = (h ^ (uint8_t)*name) * 0x100000001b3ull;
	random_state = t_seed() ^ h;
}

const char *t_kit_skip_why(void) { return told->skip_why; }

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	(void)remove(path);
	return 0;
}

void t_kit_remove_dir(void)
{
	if (dir_name[0])
		(void)nftw(dir_name, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

const char *t_kit_keep(char *text)
{
	struct kept *k = malloc(sizeof *k);

	if (!k || !text)
		t_fail(__FILE__, __LINE__, "out of memory");
	*k = (struct kept){.next = kept_list, .text = text};
	kept_list = k;
	return text;
}

bool t_kit_wait(int fd, short events, int limit_ms)
{
	uint64_t end_ns = t_now_ns() + (uint64_t)limit_ms * 1000000;

	for (;;) {
		struct pollfd p = {.fd = fd, .events = events};
		uint64_t now_ns = t_now_ns();
		int left_ms = now_ns < end_ns ? (int)((end_ns - now_ns + 999999) / 1000000) : 0;
		int r = poll(&p, 1, left_ms);
		if (r > 0)
			return true;
		if (r == 0 || errno != EINTR)
			return false;
	}
}

_Noreturn void t_fail(const char *file, int line, const char *format, ...)
{
	va_list args;

	fflush(stdout);
	fprintf(stderr, "  %s:%d: ", file, line);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	if (t_kit_fail_hook) {
		void (*hook)(void) = t_kit_fail_hook;
		t_kit_fail_hook = NULL; /* it may fail in its turn */
		hook();
	}
	fflush(NULL);
	abort();
}

_Noreturn void t_skip(const char *why)
{
	fprintf(stderr, "  skipped: %s\n", why);
	if (told)
		(void)snprintf(told->skip_why, sizeof told->skip_why, "%s", why);
	fflush(NULL);
	_exit(T_SKIPPED);
}

void t_check_eq(const char *file, int line, const char *a_text, const char *b_text, t_integer a,
	t_integer b)
{
	if (a == b)
		return;
	t_fail(file, line, "CHECK_EQ(%s, %s) failed: %s%llu (%#llx), %s%llu (%#llx)", a_text,
		b_text, a < 0 ? "-" : "", (unsigned long long)(a < 0 ? -a : a),
		(unsigned long long)a, b < 0 ? "-" : "", (unsigned long long)(b < 0 ? -b : b),
		(unsigned long long)b);
}

void t_check_str(const char *file, int line, const char *a_text, const char *b_text, const char *a,
	const char *b)
{
	if (a && b && strcmp(a, b) == 0)
		return;
	t_fail(file, line, "CHECK_STR(%s, %s) failed:\n    \"%s\"\n    \"%s\"", a_text, b_text,
		a ? a : "(null)", b ? b : "(null)");
}

__attribute__((weak)) _Noreturn void check_failed(
	const char *expr, const char *func, const char *file, int line)
{
	t_fail(file, line, "CHECK(%s) failed in %s()", expr, func);
}

uint64_t t_seed(void)
{
	const char *text = getenv("T_SEED");

	return text && *text ? strtoull(text, NULL, 0) : DEFAULT_SEED;
}

uint64_t t_random_from(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

uint64_t t_random(void) { return t_random_from(&random_state); }

uint64_t t_random_below(uint64_t n) { return t_random() % n; }

uint64_t t_now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

int t_limit_ms(int ms)
{
	const char *text = getenv("T_LIMIT_X");
	int x = text ? atoi(text) : 1;

	return x > 1 && x < 1000 ? ms * x : ms;
}

const char *t_dir(void)
{
	if (!dir_made && mkdir(dir_name, 0700) != 0)
		t_fail(__FILE__, __LINE__, "%s: %s", dir_name, strerror(errno));
	dir_made = true;
	return dir_name;
}

static const char *join(const char *dir, const char *name)
{
	char *path = NULL;

	if (asprintf(&path, "%s/%s", dir, name) < 0)
		path = NULL;
	return t_kit_keep(path);
}

const char *t_path(const char *name) { return join(t_dir(), name); }

const char *t_bin(const char *name)
{
	const char *dir = getenv("HC_BINDIR"), *path;

	if (!dir)
		SKIP("HC_BINDIR is not set");
	path = join(dir, name);
	if (access(path, X_OK) != 0)
		t_fail(__FILE__, __LINE__, "%s: %s", path, strerror(errno));
	return path;
}

const char *t_data(const char *name)
{
	const char *dir = getenv("HC_DATA"), *path;

	if (!dir || !*dir)
		SKIP("no recorded data (-Ddata=FOLDER)");
	path = join(dir, name);
	if (access(path, R_OK) != 0)
		SKIP("this recording is not in the folder of recorded data");
	return path;
}

int t_wait_child(pid_t pid, int limit_ms)
{
	int status = 0, pidfd = pidfd_open(pid, 0);
	bool ended = t_kit_wait(pidfd, POLLIN, t_limit_ms(limit_ms));

	if (pidfd >= 0)
		(void)close(pidfd);
	if (!ended)
		(void)kill(pid, SIGKILL);
	if (waitpid(pid, &status, 0) != pid)
		t_fail(__FILE__, __LINE__, "waitpid(%d): %s", (int)pid, strerror(errno));
	if (!ended)
		t_fail(__FILE__, __LINE__, "child %d did not end within %d ms", (int)pid, limit_ms);
	return status;
}

static int children_of_task(const char *task_dir, pid_t *ret_pids, int max)
{
	char path[160];
	int n = 0, pid;

	(void)snprintf(path, sizeof path, "%s/children", task_dir);
	FILE *f = fopen(path, "re");
	if (!f)
		return 0;
	while (n < max && fscanf(f, "%d", &pid) == 1)
		ret_pids[n++] = pid;
	fclose(f);
	return n;
}

int t_children(pid_t pid, pid_t *ret_pids, int max)
{
	char tasks[64], task[128];
	int n = 0;

	(void)snprintf(tasks, sizeof tasks, "/proc/%d/task", (int)pid);
	DIR *d = opendir(tasks);
	if (!d)
		return 0;
	for (struct dirent *e = readdir(d); e; e = readdir(d)) {
		if (e->d_name[0] == '.')
			continue;
		(void)snprintf(task, sizeof task, "%s/%.32s", tasks, e->d_name);
		n += children_of_task(task, ret_pids + n, max - n);
	}
	closedir(d);
	return n;
}
