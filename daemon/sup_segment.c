/* sup_segment.c - memfds and what backs them. */
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/err.h"
#include "step.h"
#include "sup_segment.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* since Linux 6.3 */
#endif

/* What must stay available to everything else on the machine. */
#define SPARE_BYTES (UINT64_C(16) << 20)
#define HUGE_2M_BYTES (UINT64_C(2) << 20)
#define HUGE_1G_BYTES (UINT64_C(1) << 30)

static const struct {
	uint64_t bytes;
	uint32_t flags, backing;
	const char *text;
	const char *how; /* the command that sets the number of pages, with a %llu in it */
} sizes[SUP_HUGE_N] = {
	[SUP_HUGE_2M] = {HUGE_2M_BYTES, MFD_HUGE_2MB, SHM_BACK_HUGE_2M, "2 MiB",
		"sysctl vm.nr_hugepages=%llu"},
	[SUP_HUGE_1G] = {HUGE_1G_BYTES, MFD_HUGE_1GB, SHM_BACK_HUGE_1G, "1 GiB",
		"echo %llu >/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages"},
};

static uint64_t round_up(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }

static uint64_t base_page_bytes(void) { return (uint64_t)sysconf(_SC_PAGESIZE); }

/* The unit of a segment's mappings. */
static uint64_t page_bytes(uint32_t backing)
{
	for (int i = 0; i < SUP_HUGE_N; i++)
		if (sizes[i].backing == backing)
			return sizes[i].bytes;
	return base_page_bytes();
}

uint64_t sup_segment_pool_bytes(const struct config_pool *p, uint32_t backing)
{
	return round_up(p->size_bytes, backing == SHM_BACK_HUGE_1G ? HUGE_1G_BYTES : HUGE_2M_BYTES);
}

void sup_segment_close(struct sup_segment *s)
{
	cleanup_closep_(&s->fd);
	s->fd = -1;
}

int sup_segment_reopen(int fd)
{
	char path[32];

	if (MUTANT(73)) /* 73: the same description, which may write and keeps a lock */
		return fcntl(fd, F_DUPFD_CLOEXEC, 0);
	(void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	int ro = open(path, O_RDONLY | O_CLOEXEC);
	return ro >= 0 ? ro : err_new(-errno);
}

int sup_segment_map(const struct sup_segment *s, uint64_t bytes, void **ret, uint64_t *ret_bytes)
{
	bytes = round_up(bytes, page_bytes(s->backing));
	if (bytes > s->bytes)
		return err_new(-EINVAL);
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);
	if (p == MAP_FAILED)
		return err_new(-errno);
	(void)madvise(p, bytes, MADV_DONTDUMP);
	(void)madvise(p, bytes, MADV_DONTFORK);
	*ret = p;
	*ret_bytes = bytes;
	return 0;
}

/* A sealable memfd of this size, without memory yet.  -errno and why. */
static int memfd_make(const char *name, uint64_t bytes, unsigned flags, char why[SUP_WHY_BYTES])
{
	_cleanup_close_ int fd = -1;
	const char *call = "memfd_create";

	flags |= MFD_CLOEXEC | MFD_ALLOW_SEALING;
	fd = memfd_create(name, flags | MFD_NOEXEC_SEAL);
	if (fd < 0 && errno == EINVAL)
		fd = memfd_create(name, flags);
	if (fd >= 0) {
		call = "fchmod";
		if (fchmod(fd, 0600) == 0) {
			call = "ftruncate";
			if (ftruncate(fd, (off_t)bytes) == 0)
				return steal_fd(fd);
		}
	}
	int r = err_new(-errno);
	(void)snprintf(why, SUP_WHY_BYTES, "%s of %llu MiB failed: %s", call,
		(unsigned long long)(bytes >> 20), strerror(-r));
	return r;
}

/* Gets the memory that the file still lacks, then fixes its size for ever. */
static int memfd_fill_and_seal(int fd, uint64_t bytes, char why[SUP_WHY_BYTES])
{
	int r;

	do {
		r = MUTANT(72) || fallocate(fd, 0, 0, (off_t)bytes) == 0 ? 0 : -errno;
	} while (r == -EINTR);       /* starts anew only after a signal: bounded by their number */
	if (r == 0 && !MUTANT(71) && /* 71: its size may change, 72: its memory is not there */
		fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0)
		r = -errno;
	if (r < 0) {
		(void)snprintf(why, SUP_WHY_BYTES, "allocating %llu MiB failed: %s",
			(unsigned long long)(bytes >> 20), strerror(-r));
		return err_new(r);
	}
	return 0;
}

int sup_segment_seal(const struct sup_segment *s)
{
	return fcntl(s->fd, F_ADD_SEALS, F_SEAL_SEAL) == 0 ? 0 : err_new(-errno);
}

bool sup_segment_is_closed(const struct sup_segment *s)
{
	int seals = s->fd >= 0 ? fcntl(s->fd, F_GET_SEALS) : 0;

	return seals > 0 && (seals & F_SEAL_FUTURE_WRITE);
}

/* Refuses before the kernel's OOM killer would. */
static int memory_check(const struct sup_host *host, uint64_t bytes, char why[SUP_WHY_BYTES])
{
	const char *what = "the machine has";
	uint64_t have = host->available_bytes;

	if (host->cgroup_limit_bytes < have) {
		what = "its control group (memory.max) allows";
		have = host->cgroup_limit_bytes;
	}
	if (bytes + SPARE_BYTES <= have)
		return 0;
	(void)snprintf(why, SUP_WHY_BYTES,
		"%llu MiB are needed, and %llu MiB to spare for others, but %s only %llu MiB; "
		"make `size` smaller, or give it more memory",
		(unsigned long long)(bytes >> 20), (unsigned long long)(SPARE_BYTES >> 20), what,
		(unsigned long long)(have >> 20));
	return err_new(-ENOMEM);
}

int sup_segment_new(const char *name, uint64_t bytes, const struct sup_host *host,
	struct sup_segment *ret, char why[SUP_WHY_BYTES])
{
	_cleanup_close_ int fd = -1;
	int r;

	bytes = round_up(bytes, base_page_bytes());
	r = memory_check(host, bytes, why);
	if (r < 0)
		return err_fwd(r);
	fd = memfd_make(name, bytes, 0, why);
	if (fd < 0)
		return err_fwd(fd);
	r = memfd_fill_and_seal(fd, bytes, why);
	if (r < 0)
		return err_fwd(r);
	*ret = (struct sup_segment){.fd = steal_fd(fd), .bytes = bytes, .backing = SHM_BACK_BASE};
	(void)snprintf(ret->why, sizeof ret->why, "base pages");
	return 0;
}

/* ------------------------------------------------------------------- hugetlb */

/* The command that would make enough pages, for this pool and those to come. */
static void huge_advice(int size, const struct sup_huge *h, uint64_t n_pages, char *to, size_t n)
{
	uint64_t lacking = n_pages > h->n_usable ? n_pages - h->n_usable : 0;

	(void)snprintf(to, n, sizes[size].how, (unsigned long long)(h->n_total + lacking));
}

/* A pool of hugetlb pages.  0; -errno and in `why` half a sentence: why there are none. */
static int huge_new(const struct config_pool *p, int size, const struct sup_host *host,
	struct sup_segment *ret, char why[SUP_WHY_BYTES])
{
	const struct sup_huge *h = &host->huge[size];
	uint64_t bytes = sup_segment_pool_bytes(p, sizes[size].backing),
		 n = bytes / sizes[size].bytes;
	_cleanup_close_ int fd = -1;
	char name[SHM_NAME_BYTES + 16], kernel[SUP_WHY_BYTES];

	if (!h->exists) {
		(void)snprintf(why, SUP_WHY_BYTES, "this kernel has no huge pages of %s",
			sizes[size].text);
		return err_new(-EOPNOTSUPP);
	}
	(void)snprintf(why, SUP_WHY_BYTES, "%llu huge pages of %s are needed and %llu are free",
		(unsigned long long)n, sizes[size].text, (unsigned long long)h->n_usable);
	if (h->n_usable < n)
		return err_new(-ENOMEM);
	(void)snprintf(name, sizeof name, "hypercache-%s", p->name);
	fd = memfd_make(name, bytes, MFD_HUGETLB | sizes[size].flags, kernel);
	int r = fd < 0 ? fd : memfd_fill_and_seal(fd, bytes, kernel);
	if (r < 0) { /* somebody else was faster, or a control group limits them */
		size_t at = strlen(why);
		(void)snprintf(why + at, SUP_WHY_BYTES - at, ", but %.128s", kernel);
		return err_fwd(r);
	}
	*ret = (struct sup_segment){
		.fd = steal_fd(fd), .bytes = bytes, .backing = sizes[size].backing};
	(void)snprintf(ret->why, sizeof ret->why, "huge pages of %s, %llu of them",
		sizes[size].text, (unsigned long long)n);
	return 0;
}

/* -------------------------------------------------- transparent and base pages */

/* How much of the mapping that begins at `at` the kernel backs with huge pages, bytes. */
static uint64_t mapping_huge_bytes(const void *at)
{
	char line[512], begin[32];
	uint64_t kib = 0;
	bool inside = false;
	FILE *f = fopen("/proc/self/smaps", "re");

	if (!f)
		return 0;
	(void)snprintf(begin, sizeof begin, "%lx-", (unsigned long)(uintptr_t)at);
	while (fgets(line, sizeof line, f)) { /* bounded by our own mappings */
		if (!inside)
			inside = strncmp(line, begin, strlen(begin)) == 0;
		else if (sscanf(line, "ShmemPmdMapped: %lu kB", &kib) == 1)
			break;
	}
	(void)fclose(f);
	return kib * 1024;
}

/* Fills a file through a mapping that asks for huge pages; an order that fallocate() cannot take.
 * *ret_huge_bytes: how much is huge. */
static int thp_fill(int fd, uint64_t bytes, uint64_t *ret_huge_bytes)
{
	uint64_t room = bytes + HUGE_2M_BYTES;
	uint8_t *at = mmap(
		NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int r = 0;

	if (at == MAP_FAILED)
		return err_new(-errno);
	void *want = at + (HUGE_2M_BYTES - (uintptr_t)at % HUGE_2M_BYTES) % HUGE_2M_BYTES;
	void *map = mmap(want, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	if (map == MAP_FAILED) {
		r = err_new(-errno);
	} else {
		(void)madvise(map, bytes, MADV_DONTDUMP);
		(void)madvise(map, bytes, MADV_HUGEPAGE); /* what it did is measured below */
		if (madvise(map, bytes, MADV_POPULATE_WRITE) != 0)
			r = err_new(-errno);
		*ret_huge_bytes = r == 0 ? mapping_huge_bytes(map) : 0;
	}
	(void)munmap(at, room);
	return r;
}

static const char *shmem_text(enum sup_shmem s)
{
	static const char *const words[] = {
		"not there", "never", "advise", "within_size", "always"};
	return words[s];
}

/* A pool of base pages, with transparent huge ones where `thp`.  ret->why is the first half. */
static int base_new(const struct config_pool *p, bool thp, const struct sup_host *host,
	struct sup_segment *ret, char why[SUP_WHY_BYTES])
{
	uint64_t bytes = sup_segment_pool_bytes(p, SHM_BACK_BASE), huge_bytes = 0;
	_cleanup_close_ int fd = -1;
	char name[SHM_NAME_BYTES + 16];
	int r;

	r = memory_check(host, bytes, why);
	if (r < 0)
		return err_fwd(r);
	(void)snprintf(name, sizeof name, "hypercache-%s", p->name);
	fd = memfd_make(name, bytes, 0, why);
	if (fd < 0)
		return err_fwd(fd);
	thp = thp && host->shmem > SUP_SHMEM_NEVER;
	if (thp) {
		r = thp_fill(fd, bytes, &huge_bytes);
		if (r < 0) {
			(void)snprintf(why, SUP_WHY_BYTES, "filling %llu MiB failed: %s",
				(unsigned long long)(bytes >> 20), strerror(-r));
			return err_fwd(r);
		}
	}
	r = memfd_fill_and_seal(fd, bytes, why);
	if (r < 0)
		return err_fwd(r);
	*ret = (struct sup_segment){.fd = steal_fd(fd),
		.bytes = bytes,
		.backing = huge_bytes ? SHM_BACK_THP : SHM_BACK_BASE};
	if (huge_bytes)
		(void)snprintf(ret->why, sizeof ret->why,
			"transparent huge pages for %llu of %llu MiB",
			(unsigned long long)(huge_bytes >> 20), (unsigned long long)(bytes >> 20));
	else
		(void)snprintf(ret->why, sizeof ret->why, "base pages of %llu KiB",
			(unsigned long long)(base_page_bytes() >> 10));
	return 0;
}

/* The second half of the sentence of a pool that did not get hugetlb pages. */
static void fallback_explain(struct sup_segment *s, const struct sup_host *host,
	const char *huge_why, const char *advice)
{
	char thp_why[128] = "", thp_how[80] = "";

	if (s->backing == SHM_BACK_BASE) {
		if (host->shmem <= SUP_SHMEM_NEVER) {
			(void)snprintf(thp_why, sizeof thp_why,
				", and transparent ones are off for shared memory (shmem_enabled "
				"is "
				"%s, so madvise does nothing)",
				shmem_text(host->shmem));
		} else {
			(void)snprintf(thp_why, sizeof thp_why,
				", and the kernel found no transparent ones (memory is in pieces)");
		}
		if (host->shmem == SUP_SHMEM_NEVER)
			(void)snprintf(thp_how, sizeof thp_how,
				", or echo advise "
				">/sys/kernel/mm/transparent_hugepage/shmem_enabled");
	}
	size_t at = strlen(s->why);
	(void)snprintf(s->why + at, sizeof s->why - at,
		", because %s%s; better: %s%s, then restart", huge_why, thp_why, advice, thp_how);
}

int sup_segment_pool_new(const struct config_pool *p, const struct sup_host *host,
	const uint64_t n_pages[SUP_HUGE_N], struct sup_segment *ret, char why[SUP_WHY_BYTES])
{
	int first = p->huge_page_size == CONFIG_HUGE_1GIB ? SUP_HUGE_1G : SUP_HUGE_2M;
	char huge_why[SUP_WHY_BYTES] = "", advice[128];
	int r;

	if (p->huge_pages == CONFIG_HUGE_OFF) {
		r = base_new(p, false, host, ret, why);
		if (r < 0)
			return err_fwd(r);
		size_t at = strlen(ret->why);
		(void)snprintf(ret->why + at, sizeof ret->why - at, ", because huge_pages is off");
		return 0;
	}
	r = huge_new(p, first, host, ret, huge_why);
	if (r == 0)
		return 0;
	huge_advice(first, &host->huge[first], n_pages[first], advice, sizeof advice);
	if (p->huge_pages == CONFIG_HUGE_ON) {
		(void)snprintf(why, SUP_WHY_BYTES, "huge_pages is on, but %.200s; run `%s`%s",
			huge_why, advice, ", or say `huge_pages: try`");
		return err_fwd(r);
	}
	if (first == SUP_HUGE_1G) {
		char small_why[SUP_WHY_BYTES];
		r = huge_new(p, SUP_HUGE_2M, host, ret, small_why);
		if (r == 0) {
			size_t at = strlen(ret->why);
			(void)snprintf(ret->why + at, sizeof ret->why - at,
				", because %.180s; better: %s, then restart", huge_why, advice);
			return 0;
		}
	}
	r = base_new(p, true, host, ret, why);
	if (r < 0)
		return err_fwd(r);
	fallback_explain(ret, host, huge_why, advice);
	return 0;
}
