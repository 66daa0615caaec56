/* sup_control.c - the directory of everything, as the supervisor leaves it at start. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include "atomic.h"
#include "base/err.h"
#include "hypercache.h"
#include "journal.h"
#include "layout/l_item.h"
#include "pol.h"
#include "step.h"
#include "sup_control.h"

/* A pool's address space, so that regions can be added to it later without moving it. */
enum { RESERVE_TIMES = 4 };

/* A use is told again when this part of the time has gone in which the policy has to hear of it. */
enum { TELL_PARTS = 8 };

/* One line of each counter table. */
#define DESC_DAEMON_(n, u, k, m) {#n, u, SHM_SCOPE_DAEMON, SHM_COUNTER_##k, SHM_DC_##n, 0, m},
#define DESC_POOL_(n, u, k, m) {#n, u, SHM_SCOPE_POOL, SHM_COUNTER_##k, SHM_PC_##n, 0, m},
#define DESC_STORE_(n, u, k, m) {#n, u, SHM_SCOPE_STORE, SHM_COUNTER_##k, SHM_SC_##n, 0, m},
#define DESC_BLOCK_(n, u, k, m) {#n, u, SHM_SCOPE_BLOCK, SHM_COUNTER_##k, SHM_BC_##n, 0, m},
#define DESC_HIST_(n, u, k, m) {#n, u, SHM_SCOPE_HIST, SHM_COUNTER_##k, SHM_HG_##n, 0, m},
static const struct shm_counter_desc descs[] = {SHM_DAEMON_COUNTERS(DESC_DAEMON_)
		SHM_POOL_COUNTERS(DESC_POOL_) SHM_STORE_COUNTERS(DESC_STORE_)
			SHM_BLOCK_COUNTERS(DESC_BLOCK_) SHM_HISTOGRAM_COUNTERS(DESC_HIST_)};
SHM_ASSERT(sizeof descs / sizeof *descs < SHM_DESCS_MAX); /* the last one stays 0: the end */

#define DESC_FITS_(n, u, k, m) \
	SHM_ASSERT(sizeof #n <= sizeof descs->name && sizeof u <= sizeof descs->unit && \
		   sizeof m <= sizeof descs->meaning);
SHM_DAEMON_COUNTERS(DESC_FITS_)
SHM_POOL_COUNTERS(DESC_FITS_)
SHM_STORE_COUNTERS(DESC_FITS_)
SHM_BLOCK_COUNTERS(DESC_FITS_)
SHM_HISTOGRAM_COUNTERS(DESC_FITS_)
SHM_ASSERT(SHM_HG_N <= SHM_HISTS_MAX);

SHM_ASSERT((int)CONFIG_POOLS_MAX == SHM_POOLS_MAX && (int)CONFIG_STORES_MAX == SHM_STORES_MAX);
SHM_ASSERT((int)CONFIG_NAME_BYTES <= SHM_NAME_BYTES);

/* All of a header but its magic. */
static void header_fill(struct shm_segment *seg, uint32_t kind, uint32_t instance,
	uint64_t daemon_id, const struct sup_segment *s)
{
	seg->byte_order = SHM_BYTE_ORDER;
	seg->major = SHM_LAYOUT_MAJOR;
	seg->minor = SHM_LAYOUT_MINOR;
	seg->kind = kind;
	seg->instance = instance;
	seg->total_bytes = s->bytes;
	seg->daemon_id = daemon_id;
	seg->created_ns = sup_host_real_ns();
	seg->backing = s->backing;
}

static void header_publish(struct shm_segment *seg)
{
	shm_store_rel(&seg->magic, SHM_MAGIC); /* rel:segment.magic */
}

/* What is wanted of reads. */
static uint64_t store_wants(const struct config_store *s)
{
	const struct pol_ops *ops = pol_find(s->policy);
	uint64_t told_ms = 0, slides = s->sliding ? SHM_STORE_SLIDES : 0;

	if (ops && ops->told_ns) {
		const struct pol_values v = config_params_values(s);
		told_ms = ops->told_ns(&v) / TELL_PARTS / 1000000;
	}
	return slides | (told_ms > UINT32_MAX ? UINT32_MAX : told_ms) << SHM_STORE_TOLD_SHIFT;
}

/* What a reload may change. */
static void store_entry_update(struct shm_store_entry *e, const struct config_store *s)
{
	shm_store_rlx(&e->default_ttl_ns, s->ttl_ns);
	shm_store_rlx(&e->sliding, store_wants(s));
	SHM_ASSERT(sizeof e->policy == sizeof s->policy);
	for (size_t i = 0; i < sizeof e->policy; i += sizeof(uint64_t)) {
		uint64_t word;
		memcpy(&word, s->policy + i, sizeof word);
		shm_store_rlx((shm_u64 *)(void *)(e->policy + i), word);
	}
	shm_store_rlx(&e->guaranteed_bytes, s->guaranteed_bytes);
	shm_store_rlx(&e->limit_bytes, s->limit_bytes == CONFIG_AUTO ? 0 : s->limit_bytes);
	shm_store_rlx(&e->limit_entries, s->max_entries == CONFIG_AUTO32 ? 0 : s->max_entries);
}

void sup_control_update(struct shm_control *c, const struct config *config)
{
	for (uint32_t i = 0; i < config->n_pools; i++) {
		const struct config_pool *p = &config->pool[i];
		shm_u32 *ppm = c->pool[i].pressure_ppm;
		shm_store_rlx(&c->pool[i].max_value_bytes, p->max_value_bytes + SHM_KEY_BYTES_MAX);
		shm_store32_rlx(&ppm[SHM_PRESSURE_END], p->pressure_end_ppm);
		shm_store32_rlx(&ppm[SHM_PRESSURE_LOW], p->pressure_low_ppm);
		shm_store32_rlx(&ppm[SHM_PRESSURE_HIGH], p->pressure_high_ppm);
		shm_store32_rlx(&ppm[SHM_PRESSURE_FULL], p->pressure_full_ppm);
	}
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
		uint64_t id = shm_load_rlx(&c->store[i].id);
		for (uint32_t k = 0; id && k < config->n_stores; k++)
			if (config->store[k].id == id)
				store_entry_update(&c->store[i], &config->store[k]);
	}
}

void sup_control_pool_put(
	struct shm_pool_entry *e, const struct config_pool *p, const struct sup_segment *s)
{
	memcpy(e->name, p->name, sizeof p->name);
	e->reserve_bytes = s->bytes * RESERVE_TIMES;
	e->region[0] = (struct shm_region){.bytes = s->bytes, .backing = s->backing};
	memcpy(e->backing_why, s->why, sizeof e->backing_why);
	e->flags = p->scrub ? SHM_POOL_SCRUB : 0;
	e->feed_bytes = p->feed_bytes;
	shm_store32_rlx(&e->n_regions, 1);
	shm_store_rlx(&e->counter[SHM_PC_limit_bytes], s->bytes);
	shm_store_rlx(&e->wanted_bytes, s->bytes);
}

void sup_control_pool_enter(struct shm_pool_entry *e, uint64_t id)
{
	shm_store_rel(&e->id, id); /* rel:entry.id */
}

void sup_control_store_put(struct shm_store_entry *e, const struct config_store *s)
{
	memcpy(e->name, s->name, sizeof s->name);
	e->pool_idx = s->pool_idx;
	e->type = s->type;
	store_entry_update(e, s);
	shm_store_rel(&e->id, s->id); /* rel:entry.id */
}

int sup_control_format(struct shm_control *c, struct config *config, const struct sup_segment *self,
	const struct sup_segment region[][SHM_REGIONS_MAX])
{
	struct {
		uint64_t daemon_id, hash_seed, id;
	} rnd;

	if (getrandom(&rnd, sizeof rnd, 0) != (ssize_t)sizeof rnd)
		return err_new(-errno);
	/* Ids begin anywhere in 48 bits, so that those of two memories differ, and leave 2^63 to
	 * come. */
	uint64_t id = (rnd.id & ((UINT64_C(1) << 48) - 1)) + 1;

	header_fill(&c->seg, SHM_KIND_CONTROL, 0, rnd.daemon_id | 1, self);
	c->hash_seed = rnd.hash_seed;
	c->n_sessions = config->max_clients;
	c->n_blocks = config->threads_per_client;
	c->time_off_ns = (uint64_t)sup_host_time_off_ns();
	c->started_ns = sup_host_real_ns();
	c->version = HC_VERSION_MAJOR << 16 | HC_VERSION_MINOR << 8 | HC_VERSION_PATCH;
	memcpy(c->desc, descs, sizeof descs);
	sup_control_update(c, config);
	for (uint32_t i = 0; i < config->n_pools; i++) {
		sup_control_pool_put(&c->pool[i], &config->pool[i], &region[i][0]);
		sup_control_pool_enter(&c->pool[i], id++);
	}
	for (uint32_t i = 0; i < config->n_stores; i++) {
		config->store[i].id = id++;
		sup_control_store_put(&c->store[i], &config->store[i]);
	}
	header_publish(&c->seg);
	return 0;
}

void sup_control_take(struct shm_control *c)
{
	c->seg.minor = SHM_LAYOUT_MINOR;
	c->version = HC_VERSION_MAJOR << 16 | HC_VERSION_MINOR << 8 | HC_VERSION_PATCH;
	for (size_t i = 0; i < sizeof descs / sizeof *descs; i++)
		if (memcmp(&c->desc[i], &descs[i], sizeof descs[i]) != 0)
			c->desc[i] = descs[i];
}

/* What of the journal's memory is behind all else belongs to the log. */
static void frames_of(const struct shm_control *c, const struct sup_segment *s, uint64_t *ret_off,
	uint64_t *ret_bytes)
{
	uint64_t off = shm_journal_bytes_staged(c->n_sessions, 0);

	*ret_off = off;
	*ret_bytes = s->bytes > off ? s->bytes - off : 0;
}

void sup_control_journal_format(
	struct shm_journal *j, const struct shm_control *c, const struct sup_segment *s)
{
	header_fill(&j->seg, SHM_KIND_JOURNAL, 0, c->seg.daemon_id, s);
	j->n_sessions = c->n_sessions;
	j->leases_off = shm_journal_bytes(c->n_sessions);
	j->n_leases = SHM_LEASES;
	j->slow_off = shm_journal_slow_off(c->n_sessions);
	j->n_slow = SHM_SLOWS;
	frames_of(c, s, &j->frames_off, &j->frames_bytes);
	header_publish(&j->seg);
}

void sup_control_pool_format(struct shm_segment *seg, const struct shm_control *c,
	uint32_t pool_idx, uint32_t region_idx, const struct sup_segment *s)
{
	header_fill(seg, SHM_KIND_POOL, pool_idx << 8 | region_idx, c->seg.daemon_id, s);
	header_publish(seg);
}

/* ---------------------------------------------------------------------- mending */

/* Words [from, to) of *at as in *was.  Bytes that differed. */
static uint64_t mend(void *at, const void *was, size_t from, size_t to)
{
	uint64_t n = 0;

	for (size_t i = from; i < to; i += sizeof(uint64_t)) {
		shm_u64 *word = (shm_u64 *)(void *)((uint8_t *)at + i);
		const shm_u64 *right = (const shm_u64 *)(const void *)((const uint8_t *)was + i);
		if (shm_load_rlx(word) == shm_load_rlx(right))
			continue;
		shm_store_rlx(word, shm_load_rlx(right));
		n += sizeof(uint64_t);
	}
	return n;
}

uint64_t sup_control_mend(struct shm_control *c, const struct shm_control *born)
{
	uint64_t n = mend(c, born, 0, offsetof(struct shm_control, sup_word)) +
	             mend(c, born, offsetof(struct shm_control, hash_seed),
			     offsetof(struct shm_control, counter)) +
	             mend(c, born, offsetof(struct shm_control, desc),
			     offsetof(struct shm_control, hist));

	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++) {
		void *e = &c->pool[i];
		const void *was = &born->pool[i];
		n += mend(e, was, 0, offsetof(struct shm_pool_entry, max_value_bytes));
		n += mend(e, was, offsetof(struct shm_pool_entry, n_regions),
			offsetof(struct shm_pool_entry, wanted_bytes));
		n += mend(e, was, offsetof(struct shm_pool_entry, feed_bytes),
			offsetof(struct shm_pool_entry, counter));
		n += mend(e, was, offsetof(struct shm_pool_entry, backing_why),
			sizeof(struct shm_pool_entry));
	}
	return n;
}

/* The header as header_fill() would make it, but for the time. */
static uint64_t header_mend(struct shm_segment *seg, uint32_t kind, uint32_t instance,
	const struct shm_control *c, const struct sup_segment *s)
{
	struct shm_segment was = {.created_ns = seg->created_ns};
	uint64_t created_ns = seg->created_ns;

	header_fill(&was, kind, instance, c->seg.daemon_id, s);
	was.created_ns = created_ns;
	shm_store_rlx(&was.magic, SHM_MAGIC);
	return mend(seg, &was, 0, sizeof was);
}

uint64_t sup_control_journal_mend(
	struct shm_journal *j, const struct shm_control *c, const struct sup_segment *s)
{
	uint64_t n = header_mend(&j->seg, SHM_KIND_JOURNAL, 0, c, s);
	/* One that was made before there were leases, or the slow log, has no room for them. */
	bool room = s->bytes >= shm_journal_slow_off(c->n_sessions);
	bool slow = s->bytes >= shm_journal_bytes_all(c->n_sessions);
	struct shm_journal is = {.n_sessions = c->n_sessions,
		.leases_off = room ? shm_journal_bytes(c->n_sessions) : 0,
		.n_leases = room ? SHM_LEASES : 0,
		.slow_off = slow ? shm_journal_slow_off(c->n_sessions) : 0,
		.n_slow = slow ? SHM_SLOWS : 0};

	if (j->n_sessions != is.n_sessions)
		n += sizeof j->n_sessions;
	j->n_sessions = is.n_sessions;
	if (MUTANT(770)) /* 770: where leases stand is left as it is */
		return n;
	if (j->leases_off != is.leases_off || j->n_leases != is.n_leases)
		n += sizeof j->leases_off + sizeof j->n_leases;
	if (j->slow_off != is.slow_off || j->n_slow != is.n_slow)
		n += sizeof j->slow_off + sizeof j->n_slow;
	j->leases_off = is.leases_off;
	j->n_leases = is.n_leases;
	j->slow_off = is.slow_off;
	j->n_slow = is.n_slow;
	uint64_t off, bytes;
	frames_of(c, s, &off, &bytes);
	if (j->frames_off != off || j->frames_bytes != bytes)
		n += sizeof j->frames_off + sizeof j->frames_bytes;
	j->frames_off = off;
	j->frames_bytes = bytes;
	return n;
}

uint64_t sup_control_pool_mend(struct shm_segment *seg, const struct shm_control *c,
	uint32_t pool_idx, uint32_t region_idx, const struct sup_segment *s)
{
	return header_mend(seg, SHM_KIND_POOL, pool_idx << 8 | region_idx, c, s);
}
