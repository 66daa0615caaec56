/* hc_read_i.h - what every read begins with.  Internal to libclient. */
#ifndef HC_READ_I_H
#define HC_READ_I_H

#include "hc_thread.h"
#include "hypercache.h"

enum { HC_COPY_TRIES = 8 }; /* reads that a revocation may spoil before HC_E_BUSY */

/* What every read tests first.  0 or an error. */
static inline int hc_may_read(const struct hc_store *s)
{
	if (__builtin_expect(*s->fork_word == 0, 0))
		return HC_E_FORKED;
	if (__builtin_expect(s->stale_fails, 0) &&
		(shm_load32_rlx(&s->hc->ctl->sup_word) & SHM_FUTEX_OWNER_DIED))
		return HC_E_STALE;
	return 0;
}

static inline bool hc_key_is_bad(const void *key, size_t key_bytes)
{
	return !key || key_bytes == 0 || key_bytes > HC_KEY_BYTES_MAX;
}

/* The key as the store is now.  0, or HC_E_NO_STORE. */
static inline __attribute__((always_inline)) int hc_key_of(
	const struct hc_store *s, const void *key, size_t n, struct shm_key *ret)
{
	/* acq:entry.id */
	if (__builtin_expect(shm_load_acq(&s->entry->id) != s->id, 0))
		return HC_E_NO_STORE;
	*ret = (struct shm_key){.bytes = key,
		.n_bytes = (uint32_t)n,
		.store_id = s->id,
		.epoch = (uint32_t)shm_load_rlx(&s->entry->epoch),
		.hash = shm_key_hash_seeded(key, n, s->seed)};
	return 0;
}

static inline int hc_read_result(int e)
{
	switch (e) {
	case 0:
		return HC_OK;
	case READ_MISS:
	case READ_ABSENT:
		return HC_MISS;
	case READ_BUSY:
		return HC_E_BUSY;
	default:
		return HC_E_DAMAGED;
	}
}

/* What every read of a key begins with: may it, this thread's block, the key.  0 or an error. */
static inline int hc_read_begin(const struct hc_store *s, const void *key, size_t key_bytes,
	struct hc_thread **ret_thread, struct shm_key *ret_key)
{
	int r = hc_may_read(s);

	if (r == 0)
		r = hc_thread_of(s->hc, s->serial, ret_thread);
	return r == 0 ? hc_key_of(s, key, key_bytes, ret_key) : r;
}

static inline struct shm_map hc_map_of(const struct hc_store *s)
{
	return (struct shm_map){.base = s->pool->base,
		.bytes = shm_load_acq(&s->pool->bytes), /* acq:pool.mapped */
		.pool_idx = s->pool->pool_idx};
}

/* A look-up met a place beyond what is mapped, or damage (e < 0): may it be memory that was added to
 * the pool?  True: it is mapped now, look again.  Else *ret is what the caller answers. */
static inline bool hc_read_more(const struct hc_store *s, int e, int *ret)
{
	int r = e < 0 ? hc_map_more(s->hc, s->pool) : 0;

	*ret = r < 0 ? hc_border(r) : r > 0 ? HC_E_BUSY : hc_read_result(e);
	return r > 0;
}

/* The same for what shm_read_find() said, which has counted it as damage. */
static inline bool hc_find_more(struct hc_thread *th, const struct hc_store *s, int e, int *ret)
{
	bool more = hc_read_more(s, e, ret);

	if (e < 0 && *ret != HC_E_DAMAGED)
		shm_count(&th->reader.block->counter[SHM_BC_damage_seen], -(uint64_t)1);
	return more;
}

/* opaque[]: whose it is, pin cell, pin word, whole pin generation, the item.  Its times stand in a line
 * that a look-up does not touch, so they are read only if they are asked for. */
enum { V_THREAD = 0, V_CELL = 1, V_PIN = 2, V_GEN = 3, V_ITEM = 4 };

/* A miss: was it an entry that says that the key is absent?  HC_ABSENT, HC_MISS, HC_OK (there is a value now),
 * or an error. */
int hc_absent(struct hc_store *s, const void *key, size_t key_bytes);

/* A free view cell of this thread; NULL: none.  Only this thread takes cells of its block; any
 * thread may free one. */
shm_u64 *hc_free_cell(struct hc_thread *th);

#endif
