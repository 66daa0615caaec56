/* eng_hint.c - drains the clients' touch rings: what readers found, told late and lossily.
 *
 * Every word of a ring is hostile.  A hint is obeyed only if its session was given that pool,
 * and the allocator's private memory says that the place is taken and its note says that the entry is
 * live; it then moves one entry of a policy, nothing else.  A drain looks at
 * a bounded number of rings, beginning where the last one stopped, and at no more of
 * each than fits into it.
 */
#include "eng.h"
#include "step.h"

#define ACCESS_COUNT_MASK ((1ull << 20) - 1)
#define MS_NS 1000000ull
#define LOST_MAX (1ull << 32) /* what one ring can claim to have lost at a time */

/* Bits 63..20 of the word are ms, 19..0 count, saturating (layout/l_item.h). */
void eng_hint_stamp(struct shm_item *it, uint64_t now_ms)
{
	uint64_t n = shm_load_rlx(&it->access) & ACCESS_COUNT_MASK;

	n += n < ACCESS_COUNT_MASK;
	shm_store_rlx(&it->access, now_ms << SHM_ACCESS_MS_SHIFT | n);
}

/* Rule P29: who reads it gives it its time again, if he may change it.  What is over stays so.  The
 * wheel is not told: when the former time has come, it looks. */
static void hint_slide(struct shm_item *it, uint64_t now_ns)
{
	uint64_t expiry = shm_load_rlx(&it->expiry_ns), next = now_ns + it->ttl_ms * MS_NS;

	if (expiry > now_ns && next > expiry)
		shm_store_rlx(&it->expiry_ns, next);
	STEP("hint:slid");
}

/* scale: what each of its hits stands for.  False: it names nothing. */
static bool hint_obey(
	struct eng *e, const struct eng_session *from, uint64_t word, double scale, uint64_t now_ms)
{
	uint64_t pool_idx = shm_word_low(word), off = shm_word_off(word);
	struct eng_pool *p = &e->pool[pool_idx]; /* four bits: SHM_POOLS_MAX */

	/* 143: a pool that is not there */
	if ((!p->base && !MUTANT(143)) || !(from->peer.read_pools >> pool_idx & 1) ||
		(!shm_alloc_is_taken(p->w.alloc, off) && !MUTANT(56))) /* 56: hints are believed */
		return false;
	uint32_t note = *shm_alloc_note(p->w.alloc, off);
	if (note == POL_NONE)
		return false;
	eng_at(e, (uint32_t)pool_idx);
	struct shm_item *it = shm_pool_item(&p->w, off);
	struct eng_store *s = eng_store_by_id(e, it->store_id);
	eng_hot_hit(p, s, it->hash, eng_hot_hits(word), scale);
	if (shm_word_top(word)) /* its policy has heard of it a moment ago */
		return true;
	if (!MUTANT(55)) /* 55: reads do not count */
		s->pol->ops->touch(s->pol, note, now_ms);
	eng_hint_stamp(it, now_ms);
	eng_curve_use(p, s, POL_SHADOW_HIT, off, now_ms);
	if ((shm_load_rlx(&s->entry->sliding) & SHM_STORE_SLIDES) && it->ttl_ms &&
		!(it->lens & SHM_LENS_ABSENT) && /* lasts as long as it was said */
		(from->peer.write_pools >> pool_idx & 1 || MUTANT(190)) && /* 190: readers may */
		!MUTANT(189))                                              /* 189: nothing slides */
		hint_slide(it, now_ms * MS_NS);
	return true;
}

static void hint_drain_block(struct eng *e, struct eng_session *s, uint32_t idx, uint64_t now_ms)
{
	const struct shm_block *b = (const struct shm_block *)(const void *)(s->seg + 1) + idx;
	uint64_t *pos = &s->hint_pos[idx];
	/* acq:hint.head */
	uint64_t head = shm_load_acq(&b->hint_head), n = head - *pos, bad = 0, hits = 0;
	uint64_t word[SHM_HINTS];

	if (n == 0)
		return;
	if (n > SHM_HINTS) {
		uint64_t lost = n - SHM_HINTS;
		eng_count(e, SHM_DC_hints_lost,
			lost < LOST_MAX || MUTANT(142) ? lost : LOST_MAX); /* 142: believed */
		n = SHM_HINTS;
	}
	for (uint64_t i = 0; i < n; i++) {
		word[i] = shm_load_rlx(&b->hint[(head - n + i) % SHM_HINTS]);
		hits += eng_hot_hits(word[i]);
	}
	double scale = eng_hot_scale(s, idx, hits, now_ms);
	for (uint64_t i = 0; i < n; i++)
		bad += !hint_obey(e, s, word[i], scale, now_ms);
	*pos = head;
	eng_count(e, SHM_DC_hints, n);
	eng_count(e, SHM_DC_hints_bad, bad);
}

/* Returns how many rings were looked at. */
static uint32_t hint_drain_session(struct eng *e, struct eng_session *s, uint64_t now_ms)
{
	uint32_t used = shm_load32_rlx(&s->seg->blocks_used);

	if (used > s->n_blocks && !MUTANT(141)) /* 141: the number of blocks is believed */
		used = s->n_blocks;
	for (uint32_t i = 0; i < used; i++)
		hint_drain_block(e, s, i, now_ms);
	return used + 1;
}

void eng_hint_drain(struct eng *e, uint32_t n_blocks)
{
	uint64_t now_ms = eng_clock_ns() / 1000000;
	uint32_t looked = 0;

	e->sets_since_drain = 0;
	for (uint32_t i = 0; i < e->n_scan && looked < n_blocks; i++) {
		uint32_t at = e->hint_scan++ % e->n_scan;
		looked += hint_drain_session(e, &e->session[e->scan_slot[at]], now_ms);
	}
}
