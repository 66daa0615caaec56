/* eng_fold.c - what an ended session has counted goes to the totals: once, whoever dies meanwhile.
 *
 *   what the totals are to be, written down     STEP fold:intended      (journal; private to engines)
 *   totals stored                               STEP fold:counted
 *   the session's segment marked, the fold over STEP fold:shown         (shm/fold.h: what tools see)
 *   forgotten
 *
 * A new engine that finds one written down does the rest of it first thing, with the same numbers.  That a
 * session's counts are in is also noted beside its results in the journal: it may be found dead again by an
 * engine that does not know that its predecessor has ended it.
 *
 * What a client says that it has counted is clipped, so that a liar spoils no total for ever.
 */
#include "eng.h"
#include <stddef.h>
#include <unistd.h>
#include "fold.h"
#include "step.h"

#define READS_MAX (1ull << 48) /* what one client can claim to have read of a store */
#define BYTES_MAX (1ull << 52)

static uint64_t clipped(uint64_t sum, const shm_u64 *x, uint64_t max)
{
	uint64_t v = shm_load_rlx(x), room = max - sum;

	return sum + (v < room || MUTANT(57) ? v : room); /* 57: a client's counts are believed */
}

static const struct shm_block *block_of(const struct eng_session *s, uint32_t i)
{
	return (const struct shm_block *)(const void *)(s->seg + 1) + i;
}

void eng_fold_reads(
	const struct eng_session *s, uint32_t n_blocks, uint32_t i, struct eng_reads *ret)
{
	*ret = (struct eng_reads){0};
	for (uint32_t k = 0; k < n_blocks; k++) {
		const struct shm_store_reads *r = &block_of(s, k)->store[i];
		ret->hits = clipped(ret->hits, &r->hits, READS_MAX);
		ret->misses = clipped(ret->misses, &r->misses, READS_MAX);
		ret->hit_bytes = clipped(ret->hit_bytes, &r->hit_bytes, BYTES_MAX);
	}
}

static uint64_t block_counter(const struct eng_session *s, uint32_t c)
{
	uint64_t sum = 0;

	for (uint32_t k = 0; k < s->n_blocks; k++)
		sum = clipped(sum, &block_of(s, k)->counter[c], READS_MAX);
	return sum;
}

/* Which counter of the daemon has the sums of a counter of the clients. */
static const enum shm_daemon_counter folded[SHM_BC_N] = {
#define FOLDED_ROW_(n, u, k, m) SHM_DC_folded_##n,
	SHM_BLOCK_COUNTERS(FOLDED_ROW_)};
SHM_ASSERT(SHM_BC_N <= SHM_FOLD_BLOCK);

static struct shm_journal_session *journal_of(const struct eng *e, uint32_t slot)
{
	return (struct shm_journal_session *)(uintptr_t)(e->journal + 1) + slot;
}

/* Tools do not add it up any more.  The memory is the client's: one that takes the mark away shows its
 * counts twice, as it could by counting twice. */
static void session_mark(const struct eng_session *s)
{
	const uint64_t one = 1;

	if (s->memfd >= 0 && pwrite(s->memfd, &one, sizeof one,
				     offsetof(struct shm_client, folded)) != (ssize_t)sizeof one)
		log_warn("session %016llx: cannot be marked as ended; tools may count it twice",
			(unsigned long long)s->id);
}

/* What is written down happens; so much of it as may have happened before is the same. */
static void fold_carry_out(struct eng *e)
{
	struct shm_fold *f = &e->journal->fold;
	struct shm_control *c = e->ctl;
	struct eng_session *s = f->slot < e->n_sessions ? &e->session[f->slot] : NULL;

	shm_fold_begin(c);
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
		shm_store_rlx(&c->store[i].counter[SHM_SC_folded_hits], f->hits[i]);
		shm_store_rlx(&c->store[i].counter[SHM_SC_folded_misses], f->misses[i]);
		shm_store_rlx(&c->store[i].counter[SHM_SC_folded_hit_bytes], f->hit_bytes[i]);
	}
	for (uint32_t i = 0; i < SHM_BC_N; i++)
		shm_store_rlx(&c->counter[folded[i]], f->block[i]);
	STEP("fold:counted");
	if (s && s->id == shm_load_rlx(&f->session_id))
		session_mark(s);
	if (s)
		shm_store_rlx(&journal_of(e, f->slot)->folded, shm_load_rlx(&f->session_id));
	shm_fold_end(c);
	STEP("fold:shown");
	shm_store_rel(&f->session_id, 0); /* rel:fold.intent */
}

void eng_fold(struct eng_session *s)
{
	struct eng *e = s->e;
	struct shm_fold *f = &e->journal->fold;
	struct eng_reads r = {0};

	/* 325: a session that the last engine has ended is counted again */
	if (shm_load_rlx(&journal_of(e, s->slot)->folded) == s->id && !MUTANT(325))
		return;
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
		const shm_u64 *counter = e->ctl->store[i].counter;
		if (e->store[i].id)
			eng_fold_reads(s, s->n_blocks, i, &r);
		else
			r = (struct eng_reads){0};
		f->hits[i] = shm_load_rlx(&counter[SHM_SC_folded_hits]) + r.hits;
		f->misses[i] = shm_load_rlx(&counter[SHM_SC_folded_misses]) + r.misses;
		f->hit_bytes[i] = shm_load_rlx(&counter[SHM_SC_folded_hit_bytes]) + r.hit_bytes;
	}
	for (uint32_t i = 0; i < SHM_BC_N; i++)
		f->block[i] = shm_load_rlx(&e->ctl->counter[folded[i]]) + block_counter(s, i);
	f->slot = s->slot;
	shm_store_rel(&f->session_id, s->id); /* rel:fold.intent */
	STEP("fold:intended");
	fold_carry_out(e);
}

void eng_fold_adopt(struct eng *e)
{
	/* acq:fold.intent; 326: what was written down is forgotten */
	if (shm_load_acq(&e->journal->fold.session_id) != 0 && !MUTANT(326))
		fold_carry_out(e);
}

void eng_fold_forget(struct eng *e, uint32_t i)
{
	shm_u64 *counter = e->ctl->store[i].counter;
	struct eng_reads r;

	for (uint32_t n = 0; n < e->n_scan; n++) {
		const struct eng_session *s = &e->session[e->scan_slot[n]];
		if (shm_load_rlx(&journal_of(e, s->slot)->folded) == s->id)
			continue; /* the last engine has ended it: it will not be added again */
		eng_fold_reads(s, s->n_blocks, i, &r);
		shm_count(&counter[SHM_SC_folded_hits], -r.hits);
		shm_count(&counter[SHM_SC_folded_misses], -r.misses);
		shm_count(&counter[SHM_SC_folded_hit_bytes], -r.hit_bytes);
	}
}
