/* bench_host.c - see bench_host.h. */
#include "bench_host.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static cpu_set_t all_cpus; /* as they were before the first host_pin() */
static bool all_cpus_known;

uint64_t host_now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

uint64_t host_thread_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

double host_ns_per_tick(void)
{
	uint64_t ns = host_now_ns(), ticks = host_ticks(), now;

	do
		now = host_now_ns();
	while (now - ns < 20000000);
	return (double)(now - ns) / (double)(host_ticks() - ticks);
}

uint64_t host_number(const char *text, uint64_t min, uint64_t max)
{
	char *end;
	uint64_t n = strtoull(text, &end, 10);

	if (end == text || *end || *text == '-' || n < min || n > max) {
		fprintf(stderr, "%s: \"%s\" is no number from %llu to %llu\n",
			program_invocation_short_name, text, (unsigned long long)min,
			(unsigned long long)max);
		exit(2);
	}
	return n;
}

void *host_take(size_t bytes)
{
	size_t round = (bytes + 63) / 64 * 64;
	void *p = aligned_alloc(64, round ? round : 64);

	if (!p) {
		fprintf(stderr, "bench: no memory for %zu bytes\n", bytes);
		exit(1);
	}
	memset(p, 0, round);
	return p;
}

static void cpus_read(void)
{
	if (!all_cpus_known)
		all_cpus_known = sched_getaffinity(0, sizeof all_cpus, &all_cpus) == 0;
}

unsigned host_cpus(void)
{
	cpus_read();
	return (unsigned)CPU_COUNT(&all_cpus);
}

static bool pin(pid_t tid, unsigned n)
{
	cpu_set_t one;

	cpus_read();
	for (int i = 0; i < CPU_SETSIZE; i++) {
		if (!CPU_ISSET(i, &all_cpus) || n-- > 0)
			continue;
		CPU_ZERO(&one);
		CPU_SET(i, &one);
		return sched_setaffinity(tid, sizeof one, &one) == 0;
	}
	return false;
}

bool host_pin(unsigned n) { return pin(0, n); }

/* The next thread of a process, by its folder; 0: no more. */
static pid_t thread_next(DIR *tasks)
{
	struct dirent *e;

	while (tasks && (e = readdir(tasks)))
		if (e->d_name[0] != '.')
			return (pid_t)strtol(e->d_name, NULL, 10);
	return 0;
}

static DIR *threads_open(pid_t pid)
{
	char path[64];

	(void)snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
	return opendir(path);
}

bool host_pin_process(pid_t pid, unsigned n)
{
	DIR *tasks = threads_open(pid);
	bool all = tasks != NULL;
	pid_t tid;

	while ((tid = thread_next(tasks)))
		all &= pin(tid, n);
	if (tasks)
		(void)closedir(tasks);
	return all;
}

/* The first number in a file of /proc; 0: none. */
static uint64_t first_number(const char *path)
{
	unsigned long long n = 0;
	FILE *f = fopen(path, "re");

	if (f && fscanf(f, "%llu", &n) != 1)
		n = 0;
	if (f)
		(void)fclose(f);
	return n;
}

uint64_t host_cpu_ns(pid_t pid)
{
	char path[96];
	DIR *tasks = threads_open(pid);
	uint64_t sum = 0;
	pid_t tid;

	while ((tid = thread_next(tasks))) {
		(void)snprintf(path, sizeof path, "/proc/%d/task/%d/schedstat", (int)pid, (int)tid);
		sum += first_number(path);
	}
	if (tasks)
		(void)closedir(tasks);
	return sum;
}

pid_t host_child(pid_t pid)
{
	char path[96];

	(void)snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)pid);
	return (pid_t)first_number(path);
}

unsigned host_page_kb(const void *p, bool *ret_thp)
{
	char line[1024];
	bool inside = false;
	unsigned long begin, end, n;
	unsigned kb = 0;
	FILE *f = fopen("/proc/self/smaps", "re");

	*ret_thp = false;
	if (!f)
		return 0;
	while (fgets(line, sizeof line, f)) {
		char *at;
		begin = strtoul(line, &at, 16);
		if (at > line + 4 && *at == '-') {
			end = strtoul(at + 1, NULL, 16);
			inside = (uintptr_t)p >= begin && (uintptr_t)p < end;
			continue;
		}
		at = strchr(line, ':');
		if (!inside || !at)
			continue;
		n = strtoul(at + 1, NULL, 10);
		if (strncmp(line, "KernelPageSize:", 15) == 0)
			kb = (unsigned)n;
		else if (strncmp(line, "ShmemPmdMapped:", 15) == 0)
			*ret_thp = n > 0;
	}
	(void)fclose(f);
	return kb;
}

void host_cpu_name(char ret[HOST_TEXT_BYTES])
{
	char line[1024];
	FILE *f = fopen("/proc/cpuinfo", "re");

	(void)snprintf(ret, HOST_TEXT_BYTES, "unknown");
	while (f && fgets(line, sizeof line, f)) {
		char *colon = strchr(line, ':');
		if (!colon || strncmp(line, "model name", 10) != 0)
			continue;
		line[strcspn(line, "\n")] = 0;
		(void)snprintf(ret, HOST_TEXT_BYTES, "%.*s", HOST_TEXT_BYTES - 1, colon + 2);
		break;
	}
	if (f)
		(void)fclose(f);
}

void host_kernel(char ret[HOST_TEXT_BYTES])
{
	struct utsname u;

	(void)snprintf(ret, HOST_TEXT_BYTES, "unknown");
	if (uname(&u) == 0)
		(void)snprintf(ret, HOST_TEXT_BYTES, "%.100s %.20s", u.release, u.machine);
}

void host_folder_make(char ret[HOST_TEXT_BYTES])
{
	const char *tmp = getenv("TMPDIR");

	if (!tmp) /* in memory, if that can be had: else the kernel writes pages of LMDB's back while others run */
		tmp = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
	(void)snprintf(ret, HOST_TEXT_BYTES, "%.60s/hypercache-bench.XXXXXX", tmp);
	if (!mkdtemp(ret)) {
		fprintf(stderr, "bench: %s: %s\n", ret, strerror(errno));
		exit(1);
	}
}

void host_folder_remove(const char *folder)
{
	if (rmdir(folder) != 0)
		fprintf(stderr, "bench: %s: %s\n", folder, strerror(errno));
}

/* ------------------------------------------------------------ a daemon */

static int config_write(const struct host_daemon *d, const char *path, const struct host_config *c)
{
	FILE *f = fopen(path, "we");

	if (!f)
		return -1;
	fprintf(f, "socket: \"%s\"\nadmin_socket: \"%s/a\"\ndata_dir: \"%s/data\"\n", d->socket,
		d->dir, d->dir);
	fprintf(f, "log_level: warn\npools:\n  main:\n    size: %lluMiB\n    huge_pages: %s\n",
		(unsigned long long)(c->pool_bytes + (1 << 20) - 1) >> 20, c->huge ? "try" : "off");
	fprintf(f, "%sstores:\n  default:\n    pool: main\n%s", c->pool ? c->pool : "",
		c->stores ? c->stores : "");
	return fclose(f);
}

static _Noreturn void daemon_exec(const char *bindir, const char *config, int out, pid_t parent)
{
	char path[2 * HOST_TEXT_BYTES];

	(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
	(void)snprintf(path, sizeof path, "%s/hypercached", bindir);
	if (getppid() == parent && dup2(out, STDOUT_FILENO) >= 0)
		(void)execl(path, path, "--config", config, (char *)NULL);
	fprintf(stderr, "bench: cannot run %s: %s\n", path, strerror(errno));
	_exit(127);
}

/* Waits for the daemon's line. */
static int ready_wait(int fd)
{
	char text[1024];
	size_t n = 0;
	uint64_t deadline = host_now_ns() + HOST_READY_MS * 1000000ull;

	while (n < sizeof text - 1) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		uint64_t now = host_now_ns();
		if (now >= deadline || poll(&p, 1, (int)((deadline - now) / 1000000 + 1)) < 0)
			return -1;
		if (!p.revents)
			continue;
		ssize_t got = read(fd, text + n, sizeof text - 1 - n);
		if (got <= 0)
			return -1;
		n += (size_t)got;
		text[n] = 0;
		if (strstr(text, "hypercached: ready on "))
			return 0;
	}
	return -1;
}

int host_daemon_start(struct host_daemon *d, const char *bindir, const struct host_config *c)
{
	char path[HOST_TEXT_BYTES + 32];
	int out[2];

	*d = (struct host_daemon){0};
	host_folder_make(d->dir);
	(void)snprintf(d->socket, sizeof d->socket, "%.90s/s", d->dir);
	(void)snprintf(path, sizeof path, "%s/c.yaml", d->dir);
	if (config_write(d, path, c) != 0 || pipe2(out, O_CLOEXEC) != 0)
		return fprintf(stderr, "bench: %s: %s\n", path, strerror(errno)), -1;
	pid_t self = getpid();
	(void)fflush(NULL);
	d->pid = fork();
	if (d->pid == 0)
		daemon_exec(bindir, path, out[1], self);
	(void)close(out[1]);
	int r = d->pid > 0 ? ready_wait(out[0]) : -1;
	(void)close(out[0]); /* it says nothing else there */
	if (r != 0) {
		fprintf(stderr, "bench: the daemon did not start\n");
		(void)host_daemon_stop(d);
	}
	return r;
}

static void folder_remove(const struct host_daemon *d)
{
	static const char *const names[] = {"c.yaml", "s", "a", "data/lock"};
	char path[HOST_TEXT_BYTES + 32];

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		(void)snprintf(path, sizeof path, "%s/%s", d->dir, names[i]);
		(void)unlink(path);
	}
	(void)snprintf(path, sizeof path, "%s/data", d->dir);
	(void)rmdir(path);
	host_folder_remove(d->dir);
}

int host_daemon_stop(struct host_daemon *d)
{
	uint64_t deadline = host_now_ns() + HOST_END_MS * 1000000ull;
	int status = 0;

	if (d->pid > 0) {
		(void)kill(d->pid, SIGTERM);
		while (waitpid(d->pid, &status, WNOHANG) == 0) {
			(void)poll(NULL, 0, 10);
			if (host_now_ns() > deadline)
				(void)kill(d->pid, SIGKILL);
		}
	}
	if (d->dir[0])
		folder_remove(d);
	*d = (struct host_daemon){0};
	return status == 0 ? 0 : -1;
}
