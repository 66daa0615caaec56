/* sup_memory.c - all segments of a daemon: made together, given up together.
 *
 * They live as long as the supervisor, whatever happens to engines.  With hardening: strict the
 * engine closes them to later writers (F_SEAL_FUTURE_WRITE), so its death is theirs:
 * they are given up, and the next engine gets new ones.  Who still maps the old ones sees the
 * supervisor's word as a death leaves it, reads on by its policy (rule P21), and is told
 * HC_E_STALE when it comes back with its session.  The kernel frees the old memory when the last of
 * those has gone; until then there may be too little for the new.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "atomic.h"
#include "base/err.h"
#include "journal.h"
#include "log.h"
#include "step.h"
#include "sup.h"
#include "sup_control.h"
#include "sup_life.h"

/* The huge page size that a pool asks for, and the backing that this would be. */
static int huge_size(const struct config_pool *p)
{
	return p->huge_page_size == CONFIG_HUGE_1GIB ? SUP_HUGE_1G : SUP_HUGE_2M;
}

static uint32_t huge_backing(const struct config_pool *p)
{
	return huge_size(p) == SUP_HUGE_1G ? SHM_BACK_HUGE_1G : SHM_BACK_HUGE_2M;
}

/* Huge pages that it takes to have all of the pool in them. */
static uint64_t huge_pages(const struct config_pool *p)
{
	if (p->huge_pages == CONFIG_HUGE_OFF)
		return 0;
	return sup_segment_pool_bytes(p, huge_backing(p)) / config_huge_page_bytes(p);
}

/* Makes region 0 of each pool. */
static int regions_new(struct sup *sup)
{
	const struct config *c = &sup->config;
	uint64_t n_pages[SUP_HUGE_N] = {0}; /* wanted and not got yet: what the advice adds up to */
	char why[SUP_WHY_BYTES];
	struct sup_host host;

	for (uint32_t i = 0; i < c->n_pools; i++)
		n_pages[huge_size(&c->pool[i])] += huge_pages(&c->pool[i]);
	for (uint32_t i = 0; i < c->n_pools; i++) {
		const struct config_pool *p = &c->pool[i];
		struct sup_segment *s = &sup->region[i][0];
		sup_host_read(&host);
		int r = sup_segment_pool_new(p, &host, n_pages, s, why);
		if (r < 0)
			return log_fail(r, "pool %s: %s", p->name, why);
		log_info("pool %s: %llu MiB of %s", p->name, (unsigned long long)(s->bytes >> 20),
			s->why);
		if (s->backing == huge_backing(p))
			n_pages[huge_size(p)] -= huge_pages(p);
	}
	return 0;
}

static int segments_new(struct sup *sup)
{
	char why[SUP_WHY_BYTES];
	struct sup_host host;
	int r;

	r = regions_new(sup);
	if (r < 0)
		return err_fwd(r);
	sup_host_read(&host);
	r = sup_segment_new(
		"hypercache-control", sizeof(struct shm_control), &host, &sup->control, why);
	if (r == 0)
		r = sup_segment_new("hypercache-journal",
			shm_journal_bytes_staged(sup->config.max_clients,
				sup->data.wal >= 0 ? sup->config.wal_staging_bytes : 0),
			&host, &sup->journal, why);
	return r < 0 ? log_fail(r, "control segments: %s", why) : 0;
}

/* Writes what stands at the beginning of each segment; the control segment stays mapped. */
static int segments_format(struct sup *sup)
{
	void *map;
	uint64_t bytes;
	int r;

	r = sup_segment_map(&sup->control, sizeof *sup->ctl, &map, &sup->ctl_bytes);
	if (r < 0)
		return log_fail(r, "cannot map the control segment");
	sup->ctl = map;
	r = sup_control_format(sup->ctl, &sup->config, &sup->control, sup->region);
	if (r < 0)
		return log_fail(r, "no random numbers for the control segment");
	sup->next_id = sup->config.store[sup->config.n_stores - 1].id + 1;
	r = sup_segment_map(&sup->journal, sizeof(struct shm_journal), &map, &bytes);
	if (r < 0)
		return log_fail(r, "cannot map the journal");
	sup_control_journal_format(map, sup->ctl, &sup->journal);
	sup->jrn = map;
	sup->jrn_bytes = bytes;
	for (uint32_t i = 0; i < sup->config.n_pools; i++) {
		r = sup_segment_map(&sup->region[i][0], SHM_PAGE, &map, &bytes);
		if (r < 0)
			return log_fail(r, "cannot map pool %s", sup->config.pool[i].name);
		sup_control_pool_format(map, sup->ctl, i, 0, &sup->region[i][0]);
		(void)munmap(map, bytes);
	}
	sup->born = malloc(sizeof *sup->born);
	if (!sup->born)
		return log_fail(err_new(-ENOMEM), "no memory for a copy of the directory");
	memcpy(sup->born, sup->ctl, sizeof *sup->born);
	r = sup_life_claim(&sup->ctl->sup_word);
	return r < 0 ? log_fail(r, "this kernel has no robust futexes") : 0;
}

/* Without `strict` no seal comes behind those that the segments have. */
static int segments_seal(struct sup *sup)
{
	int r = 0;

	if (sup->config.hardening == CONFIG_HARDENING_STRICT)
		return 0;
	for (uint32_t i = 0; i < sup->config.n_pools && r == 0; i++)
		r = sup_segment_seal(&sup->region[i][0]);
	if (r == 0)
		r = sup_segment_seal(&sup->journal);
	if (r == 0)
		r = sup_segment_seal(&sup->control);
	return r < 0 ? log_fail(r, "a segment cannot be sealed") : 0;
}

int sup_memory_make(struct sup *sup)
{
	int r = segments_new(sup);

	if (r == 0)
		r = segments_format(sup);
	if (r == 0)
		r = segments_seal(sup);
	return err_fwd(r);
}

void sup_memory_born(struct sup *sup, uint32_t pool_idx, uint32_t region_idx)
{
	struct shm_pool_entry *was = &sup->born->pool[pool_idx];

	was->region[region_idx] = sup->ctl->pool[pool_idx].region[region_idx];
	shm_store32_rlx(&was->n_regions, region_idx + 1);
}

/* Bytes of the headers that were not as they were made. */
static uint64_t headers_mend(struct sup *sup)
{
	uint64_t n = sup_control_journal_mend(sup->jrn, sup->ctl, &sup->journal), bytes;
	void *map;

	for (uint32_t p = 0; p < sup->config.n_pools; p++) {
		for (uint32_t r = 0; r < SHM_REGIONS_MAX && sup->region[p][r].fd >= 0; r++) {
			if (sup_segment_map(&sup->region[p][r], SHM_PAGE, &map, &bytes) < 0)
				continue;
			n += sup_control_pool_mend(map, sup->ctl, p, r, &sup->region[p][r]);
			(void)munmap(map, bytes);
		}
	}
	return n;
}

void sup_memory_restamp(struct sup *sup) { (void)headers_mend(sup); }

void sup_memory_mend(struct sup *sup)
{
	if (!sup->ctl || MUTANT(343)) /* 343: a directory that was scribbled over stays so */
		return;
	uint64_t n = sup_control_mend(sup->ctl, sup->born) + headers_mend(sup);
	STEP("sup:mended");
	if (n)
		log_error("%llu bytes of the directory and of headers were not as they were made: "
			  "the "
			  "engine scribbled over them; they are as before",
			(unsigned long long)n);
}

bool sup_memory_is_closed(const struct sup *sup)
{
	bool closed = sup_segment_is_closed(&sup->control) || sup_segment_is_closed(&sup->journal);

	for (uint32_t i = 0; i < sup->config.n_pools; i++)
		closed |= sup_segment_is_closed(&sup->region[i][0]);
	return closed;
}

void sup_memory_close(struct sup *sup)
{
	if (sup->ctl)
		(void)munmap(sup->ctl, sup->ctl_bytes);
	sup->ctl = NULL;
	if (sup->jrn)
		(void)munmap(sup->jrn, sup->jrn_bytes);
	sup->jrn = NULL;
	free(sup->born);
	sup->born = NULL;
	for (int i = 0; i < SHM_POOLS_MAX; i++)
		for (int r = 0; r < SHM_REGIONS_MAX; r++)
			sup_segment_close(&sup->region[i][r]);
	sup_segment_close(&sup->journal);
	sup_segment_close(&sup->control);
}

void sup_memory_abandon(struct sup *sup)
{
	shm_u32 *word = &sup->ctl->sup_word;

	shm_store32_rlx(word, shm_load32_rlx(word) | SHM_FUTEX_OWNER_DIED);
	STEP("sup:memory-abandoned");
	sup_session_close_all(sup);
	sup_memory_close(sup);
}
