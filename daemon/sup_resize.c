/* sup_resize.c - pools of other sizes, and pools that come, while others serve: what the supervisor does of it.
 *
 * Larger than its regions: a further one is made beforehand, and published when the change holds:
 *
 *   region[n] in the directory      nobody looks there yet
 *   its descriptor to the engine    SUP_MSG_REGION
 *   n_regions                       from here on clients may find something there, and ask for it
 *
 * Whoever dies in between: the next engine has all descriptors in its heritage, and formats a page
 * table that nobody has written.  All else is a word, wanted_bytes, and the engine's work (eng_resize.c).
 *
 * A pool that comes:
 *
 *   its entry of the directory, without an id       nobody sees it
 *   its descriptor to the engine    SUP_MSG_REGION, before the change itself
 *   the engine has it ready         CONFIG_TAKEN
 *   its id                          given by the engine when it takes the change over, and by us when it holds
 *
 * If the change does not come to hold, the memory is given up, and the next one makes another.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include "atomic.h"
#include "base/err.h"
#include "log.h"
#include "step.h"
#include "sup.h"
#include "sup_control.h"

/* Bytes of all regions that the pool has. */
static uint64_t regions_bytes(const struct sup *sup, uint32_t idx, uint32_t *ret_n)
{
	uint64_t bytes = 0;
	uint32_t n = 0;

	while (n < SHM_REGIONS_MAX && sup->region[idx][n].fd >= 0)
		bytes += sup->region[idx][n++].bytes;
	*ret_n = n;
	return bytes;
}

static uint64_t wanted(const struct sup *sup, const struct config_pool *p, uint32_t idx)
{
	return sup_segment_pool_bytes(p, sup->region[idx][0].backing);
}

/* A pool whose address everybody has chosen for pages of its first region's size. */
static struct config_pool alike(const struct config_pool *p, uint32_t backing, uint64_t bytes)
{
	struct config_pool as = *p;

	as.size_bytes = bytes;
	if (backing == SHM_BACK_BASE)
		as.huge_pages = CONFIG_HUGE_OFF;
	else if (backing != SHM_BACK_HUGE_1G)
		as.huge_page_size = CONFIG_HUGE_2MIB;
	return as;
}

static int grow_prepare(struct sup *sup, const struct config_pool *p, uint32_t idx, uint64_t bytes,
	char why[SUP_WHY_BYTES])
{
	const uint64_t none[SUP_HUGE_N] = {0};
	struct sup_host host;
	uint32_t n;
	uint64_t has = regions_bytes(sup, idx, &n);
	uint64_t reserve = sup->ctl->pool[idx].reserve_bytes;

	if (bytes <= has)
		return 0;
	if (n == SHM_REGIONS_MAX || bytes > reserve) {
		(void)snprintf(why, SUP_WHY_BYTES,
			"it has %u of %u regions, and clients have set aside %llu MiB of address "
			"space; restart for more",
			n, SHM_REGIONS_MAX, (unsigned long long)(reserve >> 20));
		return err_new(-ENOSPC);
	}
	struct config_pool as = alike(p, sup->region[idx][0].backing, bytes - has);
	sup_host_read(&host);
	return err_fwd(sup_segment_pool_new(&as, &host, none, &sup->grown[idx], why));
}

void sup_memory_held(uint64_t bytes, char why[SUP_WHY_BYTES])
{
	uint64_t least = bytes / (SUP_SHRINK_PART - 1) * SUP_SHRINK_PART;

	(void)snprintf(why, SUP_WHY_BYTES,
		"readers and the index hold %llu KiB of it, which cannot go; use at least %llu "
		"MiB, or "
		"end who holds most: see `hypercache clients`",
		(unsigned long long)(bytes >> 10), (unsigned long long)((least >> 20) + 1));
}

static int shrink_prepare(
	const struct sup *sup, uint32_t idx, uint64_t bytes, char why[SUP_WHY_BYTES])
{
	const shm_u64 *c = sup->ctl->pool[idx].counter;
	uint64_t limbo = shm_load_rlx(&c[SHM_PC_limbo_bytes]);
	uint64_t index = shm_load_rlx(&c[SHM_PC_index_bytes]);

	if (bytes >= shm_load_rlx(&c[SHM_PC_limit_bytes]))
		return 0;
	if (sup->config.hardening == CONFIG_HARDENING_STRICT) {
		(void)snprintf(why, SUP_WHY_BYTES,
			"hardening: strict seals memory against being given back; restart "
			"for less");
		return err_new(-EPERM);
	}
	if (limbo + index > bytes - bytes / SUP_SHRINK_PART) {
		sup_memory_held(limbo + index, why);
		return err_new(-EBUSY);
	}
	return 0;
}

static int size_prepare(
	struct sup *sup, const struct config_pool *p, uint32_t idx, char why[SUP_WHY_BYTES])
{
	uint64_t bytes = wanted(sup, p, idx);
	int r = grow_prepare(sup, p, idx, bytes, why);

	return r < 0 ? err_fwd(r) : err_fwd(shrink_prepare(sup, idx, bytes, why));
}

/* ---------------------------------------------------------------- pools that come */

static int pool_make(
	struct sup *sup, const struct config_pool *p, uint32_t idx, char why[SUP_WHY_BYTES])
{
	const uint64_t none[SUP_HUGE_N] = {0};
	struct sup_segment *s = &sup->grown[idx];
	struct sup_host host;
	uint64_t mapped;
	void *map;

	sup_host_read(&host);
	int r = sup_segment_pool_new(p, &host, none, s, why);
	if (r < 0)
		return err_fwd(r);
	r = sup_segment_map(s, SHM_PAGE, &map, &mapped);
	if (r < 0) {
		(void)snprintf(why, SUP_WHY_BYTES, "it cannot be mapped: %s", strerror(-r));
		return err_fwd(r);
	}
	sup_control_pool_format(map, sup->ctl, idx, 0, s);
	(void)munmap(map, mapped);
	sup_control_pool_put(&sup->ctl->pool[idx], p, s);
	if (sup->config.hardening != CONFIG_HARDENING_STRICT)
		(void)sup_segment_seal(s);
	STEP("sup:pool-made");
	return 0;
}

static void pool_enter(struct sup *sup, uint32_t idx)
{
	struct sup_segment *s = &sup->grown[idx];

	sup_control_pool_enter(
		&sup->ctl->pool[idx], sup->change.pool_id + idx - sup->config.n_pools);
	sup->born->pool[idx] = sup->ctl->pool[idx];
	sup->region[idx][0] = *s;
	*s = (struct sup_segment){.fd = -1};
	STEP("sup:pool-entered");
	log_info("pool %s: %llu MiB of %s", sup->ctl->pool[idx].name,
		(unsigned long long)(sup->region[idx][0].bytes >> 20), sup->region[idx][0].why);
}

/* -------------------------------------------------------------------- all of them */

int sup_memory_prepare(struct sup *sup, const struct config *next, char why[SUP_WHY_BYTES])
{
	char half[SUP_WHY_BYTES];
	int r = 0;

	for (uint32_t i = 0; i < next->n_pools && sup->ctl && r == 0; i++) {
		const struct config_pool *p = &next->pool[i];
		bool comes = i >= sup->config.n_pools;
		if (comes)
			r = pool_make(sup, p, i, half);
		else if (p->size_bytes != sup->config.pool[i].size_bytes)
			r = size_prepare(sup, p, i, half);
		if (r < 0)
			(void)snprintf(why, SUP_WHY_BYTES, "pool %s cannot be %s: %.300s", p->name,
				comes ? "added" : "resized", half);
	}
	if (r < 0)
		sup_memory_forget(sup);
	return err_fwd(r);
}

void sup_memory_forget(struct sup *sup)
{
	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++) {
		if (sup->grown[i].fd < 0)
			continue;
		sup_segment_close(&sup->grown[i]);
		if (i >= sup->config.n_pools && sup->ctl)
			memset(&sup->ctl->pool[i], 0, sizeof sup->ctl->pool[i]);
	}
}

/* 0 or -errno. */
static int region_send(const struct sup *sup, uint32_t idx, uint32_t r, int fd)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
	struct sup_msg m = {.kind = SUP_MSG_REGION, .slot = idx, .id = r, .n_fds = 1};
	struct iovec part = {.iov_base = &m, .iov_len = sizeof m};
	struct msghdr h = {.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof control};
	struct cmsghdr *c = CMSG_FIRSTHDR(&h);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	ssize_t n = sendmsg(sup->engine.channel, &h, MSG_DONTWAIT | MSG_NOSIGNAL);
	return n == (ssize_t)sizeof m ? 0 : -errno;
}

static void region_publish(struct sup *sup, uint32_t idx)
{
	struct shm_pool_entry *e = &sup->ctl->pool[idx];
	struct sup_segment *s = &sup->grown[idx];
	uint64_t mapped, off;
	uint32_t r;
	void *map;

	off = regions_bytes(sup, idx, &r);
	if (sup_segment_map(s, SHM_PAGE, &map, &mapped) < 0) {
		log_warn("pool %s: a new region cannot be mapped: it stays as large as it is",
			e->name);
		sup_segment_close(s);
		return;
	}
	sup_control_pool_format(map, sup->ctl, idx, r, s);
	(void)munmap(map, mapped);
	if (sup->config.hardening != CONFIG_HARDENING_STRICT)
		(void)sup_segment_seal(s);
	e->region[r] = (struct shm_region){
		.base_off = off, .bytes = s->bytes, .backing = s->backing};
	sup->region[idx][r] = *s;
	*s = (struct sup_segment){.fd = -1};
	sup_store_sync(sup);
	STEP("sup:region-made");
	if (sup->engine.channel >= 0 && region_send(sup, idx, r, sup->region[idx][r].fd) < 0)
		log_warn("pool %s: the engine does not take messages now; the next one has the "
			 "new region",
			e->name);
	/* rel:pool.regions: region[r] is whole. */
	shm_store32_rel(&e->n_regions, r + 1);
	sup_memory_born(sup, idx, r);
	sup_store_sync(sup);
	log_info("pool %s: another %llu MiB of %s", e->name,
		(unsigned long long)(sup->region[idx][r].bytes >> 20), sup->region[idx][r].why);
	STEP("sup:region-published");
}

void sup_memory_commit(struct sup *sup, const struct config *next)
{
	for (uint32_t i = 0; i < next->n_pools && sup->ctl; i++) {
		if (i >= sup->config.n_pools) {
			pool_enter(sup, i);
			continue;
		}
		if (sup->grown[i].fd >= 0)
			region_publish(sup, i);
		if (next->pool[i].size_bytes != sup->config.pool[i].size_bytes)
			shm_store_rlx(
				&sup->ctl->pool[i].wanted_bytes, wanted(sup, &next->pool[i], i));
	}
}

int sup_memory_send(struct sup *sup)
{
	int r = 0;

	for (uint32_t i = sup->config.n_pools; i < sup->change.next.n_pools && r == 0; i++)
		r = region_send(sup, i, 0, sup->grown[i].fd);
	return err_fwd(r);
}
