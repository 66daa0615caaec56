/* hc_map.c - the segments of a session: checked, mapped, unmapped.
 *
 * Order: control first, because it says how large the others are; then our own
 * segment; then each pool.  A pool's address space is reserved as a whole, and its
 * regions are laid into it, so that an offset of the pool is an offset from base.
 *
 * Nothing here writes to shared memory but to the session's own segment, and
 * nothing touches a page of a pool beyond the header of each region (rule P30).
 *
 * A descriptor is never duplicated, and closed by the caller once mapped (rule
 * P18): the mapping alone keeps the lock by which the engine knows that we live.
 * Between mmap and MADV_DONTFORK another thread's fork would inherit the segment;
 * its child then keeps the session's memory from being reused until it ends.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/err.h"
#include "hc_i.h"
#include "step.h"

#define ADDRESS_BYTES_MAX (1ull << 46) /* of one pool */

static uint64_t align_up(uint64_t n, uint64_t to) { return (n + to - 1) & ~(to - 1); }

/* Size of the file behind fd.  0 or -errno. */
static int file_bytes(int fd, uint64_t *ret)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_new(-errno);
	if (!S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof(struct shm_segment))
		return err_new(-EPROTO);
	*ret = (uint64_t)st.st_size;
	return 0;
}

/* What mmap's errno means here. */
static int map_error(int e)
{
	switch (e) {
	case ENOMEM:
	case EAGAIN:
		return -ENOMEM;
	case EACCES:
	case EPERM:
	case EINVAL:
	case ENODEV:
		return -EPROTO; /* the descriptor is not what it should be */
	default:
		return -e;
	}
}

/* The header of a mapped segment.  0; -EPROTO; -EPROTONOSUPPORT. */
static int header_check(const struct shm_segment *s, uint32_t kind, uint32_t instance,
	uint64_t bytes, uint64_t daemon_id)
{
	if (shm_load_acq(&s->magic) != SHM_MAGIC) /* acq:segment.magic */
		return err_new(-EPROTO);
	if (s->byte_order != SHM_BYTE_ORDER)
		return err_new(-EPROTO);
	if (s->major != SHM_LAYOUT_MAJOR)
		return err_new(-EPROTONOSUPPORT);
	if (s->kind != kind || s->instance != instance || s->total_bytes != bytes)
		return err_new(-EPROTO);
	if (s->daemon_id != daemon_id && !MUTANT(49))
		return err_new(-EPROTO);
	return 0;
}

/* The only descriptor of a kind.  0 or -EPROTO. */
static int find_one(const struct hc_handed *h, uint32_t kind, int *ret_fd)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < h->n_fds; i++) {
		if (h->answer.fd[i].kind == kind) {
			*ret_fd = h->fd[i];
			n++;
		}
	}
	return n == 1 ? 0 : err_new(-EPROTO);
}

static int map_control(struct hc *hc, const struct hc_handed *h)
{
	uint64_t bytes;
	int fd = -1;

	int r = find_one(h, SHM_KIND_CONTROL, &fd);
	if (r == 0)
		r = file_bytes(fd, &bytes);
	if (r < 0)
		return err_fwd(r);
	if (bytes < sizeof(struct shm_control))
		return err_new(-EPROTO);
	void *p = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return err_new(map_error(errno));
	hc->ctl = p;
	hc->ctl_bytes = bytes;
	return err_fwd(
		header_check(&hc->ctl->seg, SHM_KIND_CONTROL, 0, bytes, hc->ctl->seg.daemon_id));
}

static int map_client(struct hc *hc, const struct hc_handed *h)
{
	const struct wire_answer *a = &h->answer;
	uint64_t bytes;
	int fd = -1;

	int r = find_one(h, SHM_KIND_CLIENT, &fd);
	if (r == 0)
		r = file_bytes(fd, &bytes);
	if (r < 0)
		return err_fwd(r);
	if (bytes < sizeof(struct shm_client) || a->slot >= SHM_SESSIONS_MAX)
		return err_new(-EPROTO);
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return err_new(map_error(errno));
	hc->seg = p;
	hc->seg_bytes = bytes;
	if (madvise(p, bytes, MADV_DONTFORK) < 0)
		return err_new(-errno);
	r = header_check(
		&hc->seg->seg, SHM_KIND_CLIENT, (uint32_t)a->slot, bytes, hc->ctl->seg.daemon_id);
	if (r < 0)
		return err_fwd(r);
	hc->n_blocks = hc->seg->n_blocks;
	if (hc->seg->session_id != a->session || a->session == 0 || hc->n_blocks == 0 ||
		hc->n_blocks > SHM_BLOCKS_MAX ||
		bytes < sizeof(struct shm_client) + hc->n_blocks * sizeof(struct shm_block))
		return err_new(-EPROTO);
	hc->slot = (uint32_t)a->slot;
	hc->session_id = a->session;
	hc->full_fence = hc->full_fence || a->fence == SHM_FENCE_FULL;
	shm_store32_rlx(&hc->seg->fence, hc->full_fence ? SHM_FENCE_FULL : SHM_FENCE_COMPILER);
	return 0;
}

/* ------------------------------------------------------------------ pools */

/* What a mapping has to be aligned to for this backing, in memory and in the pool. */
static uint64_t backing_align(uint32_t backing)
{
	switch (backing) {
	case SHM_BACK_HUGE_1G:
		return 1ull << 30;
	case SHM_BACK_HUGE_2M:
	case SHM_BACK_THP:
		return 2ull << 20;
	default:
		return SHM_PAGE;
	}
}

/* Address space of a pool, nothing mapped in it. */
static int pool_reserve(struct hc_pool *p, uint64_t bytes, uint64_t align)
{
	if (bytes == 0 || bytes > ADDRESS_BYTES_MAX)
		return err_new(-EPROTO);
	bytes = align_up(bytes, align);
	uint64_t all = bytes + (align > SHM_PAGE ? align : 0);
	uint8_t *at = mmap(
		NULL, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED)
		return err_new(map_error(errno));
	uint8_t *base = (uint8_t *)align_up((uint64_t)(uintptr_t)at, align);
	if (base > at)
		(void)munmap(at, (size_t)(base - at));
	if (at + all > base + bytes)
		(void)munmap(base + bytes, (size_t)(at + all - (base + bytes)));
	p->base = base;
	p->reserved_bytes = bytes;
	return 0;
}

/* Lays one region into the reserved space. */
static int region_map(const struct hc *hc, struct hc_pool *p, uint32_t region_idx, int fd)
{
	const struct shm_region *region = &hc->ctl->pool[p->pool_idx].region[region_idx];
	uint64_t base_off = region->base_off, bytes = region->bytes, file = 0;

	int r = file_bytes(fd, &file);
	if (r < 0)
		return err_fwd(r);
	uint64_t mapped = shm_load_rlx(&p->bytes);
	uint64_t reserve_bytes = hc->ctl->pool[p->pool_idx].reserve_bytes;
	if (file != bytes || base_off != mapped || bytes < sizeof(struct shm_pool) ||
		bytes > reserve_bytes || base_off > reserve_bytes - bytes ||
		base_off + bytes > p->reserved_bytes)
		return err_new(-EPROTO);
	if (((base_off | bytes) & (SHM_PAGE - 1)) != 0)
		return err_new(-EPROTO);
	void *want = (void *)(uintptr_t)(p->base + base_off);
	if (mmap(want, bytes, PROT_READ, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, 0) != want)
		return err_new(map_error(errno));
	r = header_check(
		want, SHM_KIND_POOL, p->pool_idx << 8 | region_idx, bytes, hc->ctl->seg.daemon_id);
	if (r == 0 && madvise(want, bytes, MADV_DONTDUMP) < 0)
		r = -errno;
	if (r < 0)
		return err_fwd(r);
	p->n_regions = region_idx + 1;
	shm_store_rel(&p->bytes, mapped + bytes); /* rel:pool.mapped */
	return 0;
}

/* The descriptors of one pool, by region; fd[] is -1 where there is none.  The number of
 * regions, without a gap; -EPROTO. */
static int pool_descriptors(const struct hc_handed *h, uint32_t pool_idx, int fd[SHM_REGIONS_MAX])
{
	int n = 0;

	for (uint32_t i = 0; i < SHM_REGIONS_MAX; i++)
		fd[i] = -1;
	for (uint32_t i = 0; i < h->n_fds; i++) {
		const struct wire_fd *f = &h->answer.fd[i];
		if (f->kind != SHM_KIND_POOL || f->pool_idx != pool_idx)
			continue;
		if (f->region_idx >= SHM_REGIONS_MAX || fd[f->region_idx] >= 0)
			return err_new(-EPROTO);
		fd[f->region_idx] = h->fd[i];
		n++;
	}
	for (int i = 0; i < n; i++)
		if (fd[i] < 0)
			return err_new(-EPROTO);
	return n;
}

static int map_pool(struct hc *hc, const struct hc_handed *h, uint32_t pool_idx)
{
	const struct shm_pool_entry *e = &hc->ctl->pool[pool_idx];
	struct hc_pool *p = &hc->pool[pool_idx];
	int fd[SHM_REGIONS_MAX];
	uint64_t align = SHM_PAGE;

	p->pool_idx = pool_idx;
	int n = pool_descriptors(h, pool_idx, fd);
	if (n <= 0)
		return err_fwd(n);
	uint64_t id = shm_load_acq(&e->id); /* acq:entry.id */
	if (id == 0 || (uint32_t)n > shm_load32_rlx(&e->n_regions))
		return err_new(-EPROTO);
	for (int i = 0; i < n; i++)
		if (align < backing_align(e->region[i].backing))
			align = backing_align(e->region[i].backing);
	int r = pool_reserve(p, e->reserve_bytes, align);
	for (int i = 0; i < n && r == 0; i++)
		r = region_map(hc, p, (uint32_t)i, fd[i]);
	if (r < 0)
		return err_fwd(r);
	p->mapped = true;
	return 0;
}

/* ------------------------------------------------------------------ regions that come later */

enum { MORE_MS = 1000, MORE_RETRY_MS = 100 };

/* Maps those of `h` that are new, one behind the other. */
static int map_new(const struct hc *hc, struct hc_pool *p, const struct hc_handed *h, uint32_t n)
{
	int fd[SHM_REGIONS_MAX], r = 0;
	int have = pool_descriptors(h, p->pool_idx, fd);

	for (uint32_t i = p->n_regions; have >= 0 && i < n && i < (uint32_t)have && r == 0; i++)
		r = region_map(hc, p, i, fd[i]);
	return have < 0 ? err_fwd(have) : err_fwd(r);
}

static int ask_for_more(const struct hc *hc, struct hc_pool *p, uint32_t n)
{
	struct hc_handed h = {0};
	uint64_t now_ns = hc_now_ns();
	uint32_t had = p->n_regions;

	if (now_ns < p->retry_ns)
		return -ETIMEDOUT;
	int r = hc_hello_regions(&hc->conn, p->pool_idx, now_ns + MORE_MS * 1000000ull, &h);
	if (r == 0)
		r = map_new(hc, p, &h, n);
	hc_handed_close(&h);
	STEP("reader:region-mapped");
	if (r == 0 && p->n_regions == had)
		r = -ETIMEDOUT; /* the engine has not taken it yet */
	if (r < 0)
		p->retry_ns = hc_now_ns() + MORE_RETRY_MS * 1000000ull;
	return r < 0 ? err_fwd(r) : 1;
}

int hc_map_more(struct hc *hc, struct hc_pool *p)
{
	uint64_t had = shm_load_rlx(&p->bytes);
	/* acq:pool.regions */
	uint32_t n = shm_load32_acq(&hc->ctl->pool[p->pool_idx].n_regions);

	if (n > SHM_REGIONS_MAX)
		return 0;
	(void)pthread_mutex_lock(&hc->map_lock);
	int r = 0;
	if (shm_load_rlx(&p->bytes) != had)
		r = 1; /* another thread was faster */
	else if (n > p->n_regions)
		r = ask_for_more(hc, p, n);
	(void)pthread_mutex_unlock(&hc->map_lock);
	return r;
}

/* Asks for a pool that is not mapped.  0; -EPERM: it may not be read; -EBADMSG: there is none; -errno. */
static int ask_for_pool(struct hc *hc, struct hc_pool *p)
{
	struct hc_handed h = {0};
	uint64_t now_ns = hc_now_ns();

	if (shm_load_acq(&hc->ctl->pool[p->pool_idx].id) == 0) /* acq:entry.id */
		return err_new(-EBADMSG);
	if (now_ns < p->retry_ns)
		return p->retry_error;
	int r = hc_hello_regions(&hc->conn, p->pool_idx, now_ns + MORE_MS * 1000000ull, &h);
	if (r == 0)
		r = map_pool(hc, &h, p->pool_idx);
	hc_handed_close(&h);
	STEP("reader:pool-mapped");
	if (r == 0 && !p->mapped)
		r = err_new(-EPROTO);
	if (r < 0) {
		if (p->base)
			(void)munmap((void *)(uintptr_t)p->base, p->reserved_bytes);
		*p = (struct hc_pool){.pool_idx = p->pool_idx,
			.retry_ns = hc_now_ns() + MORE_RETRY_MS * 1000000ull,
			.retry_error = r};
	}
	return err_fwd(r);
}

int hc_map_late(struct hc *hc, uint32_t pool_idx)
{
	struct hc_pool *p = &hc->pool[pool_idx];

	(void)pthread_mutex_lock(&hc->map_lock);
	int r = p->mapped ? 0 : ask_for_pool(hc, p);
	(void)pthread_mutex_unlock(&hc->map_lock);
	return err_fwd(r);
}

int hc_map(struct hc *hc, const struct hc_handed *h)
{
	for (uint32_t i = 0; i < h->n_fds; i++) {
		const struct wire_fd *f = &h->answer.fd[i];
		if (f->kind != SHM_KIND_CONTROL && f->kind != SHM_KIND_CLIENT &&
			(f->kind != SHM_KIND_POOL || f->pool_idx >= SHM_POOLS_MAX))
			return err_new(-EPROTO);
	}
	int r = map_control(hc, h);
	if (r == 0)
		r = map_client(hc, h);
	for (uint32_t i = 0; i < SHM_POOLS_MAX && r == 0; i++)
		r = map_pool(hc, h, i);
	return err_fwd(r);
}

void hc_unmap(struct hc *hc)
{
	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++) {
		struct hc_pool *p = &hc->pool[i];
		if (p->base)
			(void)munmap((void *)(uintptr_t)p->base, p->reserved_bytes);
		*p = (struct hc_pool){.pool_idx = i};
	}
	if (hc->seg && !hc_forked(hc)) /* rule P20: a child has something else there, or nothing */
		(void)munmap(hc->seg, hc->seg_bytes);
	hc->seg = NULL;
	if (hc->ctl)
		(void)munmap((void *)(uintptr_t)hc->ctl, hc->ctl_bytes);
	hc->ctl = NULL;
}
