/* sup_host.c - reads /proc and /sys; changes nothing but our own limit of descriptors. */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "sup_host.h"

enum { TEXT_BYTES = 8192, CGROUP_DEPTH_MAX = 64 };

static const char *const huge_dirs[SUP_HUGE_N] = {
	[SUP_HUGE_2M] = "/sys/kernel/mm/hugepages/hugepages-2048kB",
	[SUP_HUGE_1G] = "/sys/kernel/mm/hugepages/hugepages-1048576kB",
};

/* The beginning of a file, as a string; false if there is none. */
static bool text_read(const char *path, char text[TEXT_BYTES])
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	ssize_t n = read(fd, text, TEXT_BYTES - 1);
	if (n < 0)
		return false;
	text[n] = 0;
	return true;
}

static bool number_read(const char *dir, const char *name, uint64_t *ret)
{
	char path[PATH_MAX + TEXT_BYTES], text[TEXT_BYTES];

	(void)snprintf(path, sizeof path, "%s/%s", dir, name);
	if (!text_read(path, text) || text[0] < '0' || text[0] > '9')
		return false;
	*ret = strtoull(text, NULL, 10);
	return true;
}

static void huge_read(const char *dir, struct sup_huge *ret)
{
	uint64_t n_free = 0, n_reserved = 0, n_over = 0, n_surplus = 0;

	*ret = (struct sup_huge){.exists = number_read(dir, "nr_hugepages", &ret->n_total)};
	if (!ret->exists || !number_read(dir, "free_hugepages", &n_free))
		return;
	(void)number_read(dir, "resv_hugepages", &n_reserved);
	(void)number_read(dir, "nr_overcommit_hugepages", &n_over);
	(void)number_read(dir, "surplus_hugepages", &n_surplus);
	ret->n_usable = n_free > n_reserved ? n_free - n_reserved : 0;
	ret->n_usable += n_over > n_surplus ? n_over - n_surplus : 0;
	(void)number_read(dir, "nr_hugepages", &ret->n_total);
}

/* The word in brackets is the one that holds. */
static enum sup_shmem shmem_read(void)
{
	static const struct {
		const char *word;
		enum sup_shmem is;
	} words[] = {
		{"[never]", SUP_SHMEM_NEVER},
		{"[deny]", SUP_SHMEM_NEVER},
		{"[advise]", SUP_SHMEM_ADVISE},
		{"[within_size]", SUP_SHMEM_WITHIN_SIZE},
		{"[always]", SUP_SHMEM_ALWAYS},
		{"[force]", SUP_SHMEM_ALWAYS},
	};
	char text[TEXT_BYTES];

	if (!text_read("/sys/kernel/mm/transparent_hugepage/shmem_enabled", text))
		return SUP_SHMEM_UNKNOWN;
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (strstr(text, words[i].word))
			return words[i].is;
	return SUP_SHMEM_UNKNOWN;
}

static uint64_t available_read(void)
{
	char text[TEXT_BYTES];
	const char *at;

	if (!text_read("/proc/meminfo", text) || !(at = strstr(text, "MemAvailable:")))
		return UINT64_MAX;
	return strtoull(at + strlen("MemAvailable:"), NULL, 10) * 1024;
}

/* The least memory.max from our own control group up to the root (version 2 only). */
static uint64_t cgroup_limit_read(void)
{
	char text[TEXT_BYTES], path[PATH_MAX];
	uint64_t least = UINT64_MAX, here;
	const char *at;

	if (!text_read("/proc/self/cgroup", text) || !(at = strstr(text, "0::/")))
		return least;
	at += strlen("0::");
	(void)snprintf(path, sizeof path, "/sys/fs/cgroup%.*s", (int)strcspn(at, "\n"), at);
	for (int i = 0; i < CGROUP_DEPTH_MAX && strlen(path) > strlen("/sys/fs/cgroup"); i++) {
		if (number_read(path, "memory.max", &here) && here < least)
			least = here;
		*strrchr(path, '/') = 0;
	}
	return number_read("/sys/fs/cgroup", "memory.max", &here) && here < least ? here : least;
}

void sup_host_read(struct sup_host *ret)
{
	for (int i = 0; i < SUP_HUGE_N; i++)
		huge_read(huge_dirs[i], &ret->huge[i]);
	ret->shmem = shmem_read();
	ret->available_bytes = available_read();
	ret->cgroup_limit_bytes = cgroup_limit_read();
}

int64_t sup_host_time_off_ns(void)
{
	char text[TEXT_BYTES];
	const char *at;
	long long s, ns;

	if (!text_read("/proc/self/timens_offsets", text) || !(at = strstr(text, "monotonic")) ||
		sscanf(at, "monotonic %lld %lld", &s, &ns) != 2)
		return 0;
	return (int64_t)s * 1000000000 + ns;
}

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec t = {0};

	(void)clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t sup_host_mono_ns(void) { return clock_ns(CLOCK_MONOTONIC); }
uint64_t sup_host_real_ns(void) { return clock_ns(CLOCK_REALTIME); }

uint64_t sup_host_files_raise(uint64_t n)
{
	struct rlimit was, want;

	if (getrlimit(RLIMIT_NOFILE, &was) != 0)
		return 0;
	if (was.rlim_cur >= n)
		return was.rlim_cur;
	want = (struct rlimit){.rlim_cur = n, .rlim_max = was.rlim_max > n ? was.rlim_max : n};
	if (setrlimit(RLIMIT_NOFILE, &want) == 0)
		return n;
	want = (struct rlimit){.rlim_cur = was.rlim_max, .rlim_max = was.rlim_max};
	return setrlimit(RLIMIT_NOFILE, &want) == 0 ? want.rlim_cur : was.rlim_cur;
}
