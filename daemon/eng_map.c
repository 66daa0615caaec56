/* eng_map.c - the engine's mappings: control, journal, pools; and new descriptions.
 *
 * A pool's regions stand one behind the other at one base, so that a pool offset
 * is an address difference.  Pools are left out of core dumps (rule P20: a dump of
 * a large pool would delay the kernel's word on our death).
 */
#include "eng.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "base/err.h"
#include "step.h"

#define HUGE_2M (2ull << 20)
#define HUGE_1G (1ull << 30)

int eng_map_reopen(int fd, int flags)
{
	char path[32];

	(void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	int r = open(path, flags | O_CLOEXEC);
	return r < 0 ? err_new(-errno) : r;
}

/* The header that the supervisor wrote (rule I1). */
static int check_segment(const struct shm_segment *seg, enum shm_kind kind, uint64_t bytes)
{
	/* acq:segment.magic */
	if (shm_load_acq(&seg->magic) != SHM_MAGIC || seg->byte_order != SHM_BYTE_ORDER ||
		seg->major != SHM_LAYOUT_MAJOR || seg->kind != (uint32_t)kind ||
		seg->total_bytes != bytes)
		return err_new(-EBADMSG);
	return 0;
}

int eng_map_segment(int fd, uint64_t min_bytes, enum shm_kind kind, void **ret)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_new(-errno);
	if ((uint64_t)st.st_size < min_bytes)
		return err_new(-EBADMSG);
	void *m = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (m == MAP_FAILED)
		return err_new(-errno);
	int r = check_segment(m, kind, (uint64_t)st.st_size);
	if (r < 0) {
		(void)munmap(m, (size_t)st.st_size);
		return err_fwd(r);
	}
	*ret = m;
	return 0;
}

uint64_t eng_map_page_bytes(const struct shm_region *g)
{
	if (g->backing == SHM_BACK_HUGE_1G)
		return HUGE_1G;
	return g->backing == SHM_BACK_BASE ? SHM_PAGE : HUGE_2M;
}

/* Sizes of the pool's regions as the control segment tells them, against the files (rule I3). */
static int check_regions(struct eng *e, uint32_t pool_idx, uint64_t *ret_bytes)
{
	const struct shm_pool_entry *pe = &e->ctl->pool[pool_idx];
	uint32_t n = shm_load32_rlx(&pe->n_regions);
	uint64_t at = 0;

	if (n == 0 || n > SHM_REGIONS_MAX)
		return err_new(-EBADMSG);
	for (uint32_t i = 0; i < n; i++) {
		const struct shm_region *g = &pe->region[i];
		struct stat st;
		if (fstat(e->h->region_fd[pool_idx][i], &st) < 0)
			return err_new(-errno);
		if (g->base_off != at || g->bytes != (uint64_t)st.st_size || g->bytes % SHM_PAGE)
			return err_new(-EBADMSG);
		at += g->bytes;
	}
	*ret_bytes = at;
	return 0;
}

/* Address space for the pool, aligned to the largest pages there are. */
static int reserve(uint64_t bytes, uint64_t align, uint8_t **ret)
{
	uint8_t *m = mmap(
		NULL, bytes + align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (m == MAP_FAILED)
		return err_new(-errno);
	uint64_t skip = -(uintptr_t)m & (align - 1);
	if (skip)
		(void)munmap(m, skip);
	if (align - skip)
		(void)munmap(m + skip + bytes, align - skip);
	*ret = m + skip;
	return 0;
}

int eng_map_region(const struct shm_region *g, int fd, uint8_t *base)
{
	/* MAP_NORESERVE: huge pages that were given back are not there to be set aside (rule P30). */
	void *m = mmap(base + g->base_off, g->bytes, PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, 0);

	if (m == MAP_FAILED)
		return err_new(-errno);
	(void)madvise(m, g->bytes, MADV_DONTDUMP);
	if (g->backing == SHM_BACK_THP)
		(void)madvise(m, g->bytes, MADV_HUGEPAGE);
	return 0;
}

int eng_map_pool(struct eng *e, uint32_t pool_idx, uint8_t **ret_base, uint64_t *ret_bytes)
{
	const struct shm_pool_entry *pe = &e->ctl->pool[pool_idx];
	uint64_t bytes = 0;
	uint8_t *base = NULL;
	int r = check_regions(e, pool_idx, &bytes);

	uint64_t room = pe->reserve_bytes > bytes ? pe->reserve_bytes : bytes;
	if (r == 0)
		r = reserve(room, eng_map_page_bytes(&pe->region[0]), &base);
	if (r < 0)
		return err_fwd(r);
	for (uint32_t i = 0; i < shm_load32_rlx(&pe->n_regions); i++) {
		r = eng_map_region(&pe->region[i], e->h->region_fd[pool_idx][i], base);
		if (r < 0) {
			(void)munmap(base, room);
			return err_fwd(r);
		}
	}
	r = check_segment((const void *)base, SHM_KIND_POOL, pe->region[0].bytes);
	if (r < 0) {
		(void)munmap(base, room);
		return err_fwd(r);
	}
	*ret_base = base;
	*ret_bytes = bytes;
	return 0;
}

void eng_map_ahead(struct eng *e, uint32_t pool_idx)
{
	const struct eng_pool *p = &e->pool[pool_idx];
	const uint64_t step = UINT64_C(1) << 28;

	if (shm_load_rlx(&e->ctl->pool[pool_idx].counter[SHM_PC_hole_bytes]))
		return;
	for (uint64_t at = 0; at < p->bytes; at += step) {
		uint64_t n = p->bytes - at < step ? p->bytes - at : step;
		if (madvise(p->base + at, n, MADV_POPULATE_READ) != 0)
			return; /* before 5.14 */
		shm_store_rlx(&e->ctl->heartbeat_ns, eng_clock_ns());
	}
}

int eng_map_seal(struct eng *e)
{
	const int seals = MUTANT(89) ? 0 : F_SEAL_FUTURE_WRITE; /* 89: only said to be strict */
	int r = 0;

	for (uint32_t i = 0; i < e->config->n_pools; i++)
		for (uint32_t k = 0; k < shm_load32_rlx(&e->ctl->pool[i].n_regions) && r == 0; k++)
			r = fcntl(e->h->region_fd[i][k], F_ADD_SEALS, seals | F_SEAL_SEAL);
	STEP("engine:half-sealed");
	if (r == 0)
		r = fcntl(e->h->journal_fd, F_ADD_SEALS, seals | F_SEAL_SEAL);
	if (r == 0)
		r = fcntl(e->h->control_fd, F_ADD_SEALS, seals | F_SEAL_SEAL);
	return r < 0 ? err_new(-errno) : 0;
}
