/* hot_keys.c - see hot_keys.h. */
#include "hot_keys.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "atomic.h"
#include "base/cleanup.h"
#include "hot.h"
#include "key.h"
#include "layout/l_table.h"
#include "step.h"

enum { COPY_TRIES = 100, FIND_TRIES = 4, DEVIATIONS = 3 };

/* What is looked for. */
struct find {
	const struct hypercache_admin *a;
	uint32_t pool_idx, epoch;
	uint64_t store_id, hash;
	uint8_t *scratch; /* SHM_KEY_BYTES_MAX */
	struct hypercache_hot_key *ret;
	bool moved;
};

/* ------------------------------------------------------------ the index */

/* n bytes at a pool's offset.  False: there are not so many. */
static bool pool_read(const struct find *f, uint64_t off, void *to, uint64_t n)
{
	const struct shm_pool_entry *e = &f->a->ctl->pool[f->pool_idx];
	uint32_t n_regions = shm_load32_rlx(&e->n_regions);

	for (uint32_t i = 0; i < n_regions && i < SHM_REGIONS_MAX; i++) {
		uint64_t base = e->region[i].base_off, bytes = e->region[i].bytes;
		if (off < base || off - base >= bytes)
			continue;
		return n <= bytes - (off - base) && pread(f->a->pool_fd[f->pool_idx][i], to, n,
							    (off_t)(off - base)) == (ssize_t)n;
	}
	return false;
}

/* Is it the entry at off?  Then its key is kept. */
static bool item_take(const struct find *f, uint64_t off)
{
	struct shm_item it;

	if (!pool_read(f, off, &it, sizeof it) || it.hash != f->hash ||
		it.store_id != f->store_id || it.epoch != f->epoch)
		return false;
	uint64_t n = shm_lens_key(it.lens);
	if (n > SHM_KEY_BYTES_MAX || !pool_read(f, off + sizeof it, f->scratch, n) ||
		shm_key_hash(f->scratch, n, f->a->ctl->hash_seed, f->store_id) != f->hash)
		return false;
	f->ret->key = malloc(n + 1);
	if (!f->ret->key)
		return false;
	memcpy(f->ret->key, f->scratch, n);
	((char *)f->ret->key)[n] = 0;
	f->ret->key_bytes = n;
	f->ret->value_bytes = shm_lens_value(it.lens);
	return true;
}

/* In the chain of the table of this word. */
static bool chain_find(struct find *f, uint64_t word)
{
	uint64_t log2 = shm_word_top(word), off = shm_word_off(word) + sizeof(struct shm_table);
	struct shm_bucket b;

	if (log2 == 0 || log2 > SHM_LOG2_BUCKETS_MAX)
		return false;
	off += shm_hash_bucket(f->hash, (uint32_t)log2) * sizeof b;
	for (int n = 0; n < SHM_CHAIN_MAX && pool_read(f, off, &b, sizeof b); n++) {
		for (int i = 0; i < SHM_BUCKET_SLOTS; i++) {
			uint64_t w = shm_load_rlx(&b.slot[i]);
			f->moved |= w & SHM_SLOT_MOVED;
			if (shm_word_off(w) && !(w & SHM_SLOT_MOVED) &&
				shm_word_top(w) == shm_hash_tag(f->hash) &&
				item_take(f, shm_word_off(w)))
				return true;
		}
		off = shm_word_off(shm_load_rlx(&b.link));
		if (off == 0)
			break;
	}
	return false;
}

static void key_find(struct find *f)
{
	struct shm_pool head;
	struct shm_table t;

	for (int n = 0; n < FIND_TRIES; n++) { /* it may change while we look */
		f->moved = false;
		if (!pool_read(f, 0, &head, offsetof(struct shm_pool, pool_id)))
			return;
		uint64_t word = shm_load_rlx(&head.table);
		if (chain_find(f, word))
			return;
		if (f->moved && pool_read(f, shm_word_off(word), &t, sizeof t) &&
			chain_find(f, shm_load_rlx(&t.next)))
			return;
	}
}

/* ------------------------------------------------------------ what the engine says */

static void hot_copy(const struct shm_pool *p, uint32_t store_idx, double noise, uint32_t n,
	struct hypercache_hot *ret)
{
	ret->n = 0;
	for (uint32_t i = 0; i < SHM_HOT_KEYS && ret->n < n && ret->n < SHM_HOT_STORE_KEYS; i++) {
		uint32_t over = shm_load32_rlx(&p->hot[i].over);
		if ((over & SHM_HOT_STORE_MASK) != store_idx + 1)
			continue;
		double share = shm_hot_share_of(shm_load32_rlx(&p->hot[i].share));
		double most = share + shm_hot_over_of(over);
		double spread = most < 0.5 ? 2 * sqrt(most * (1 - most)) : 1;
		ret->key[ret->n++] = (struct hypercache_hot_key){
			.hash = shm_load_rlx(&p->hot[i].hash),
			.share = share,
			.error = most - share + DEVIATIONS * spread * noise};
	}
}

int hypercache_hot(struct hypercache_admin *a, uint32_t store_idx, uint32_t n,
	struct hypercache_hot *ret, char why[HYPERCACHE_ADMIN_WHY_BYTES])
{
	const struct shm_store_entry *e = &a->ctl->store[store_idx];
	uint32_t pool_idx = e->pool_idx % SHM_POOLS_MAX;
	_cleanup_free_ uint8_t *scratch = malloc(SHM_KEY_BYTES_MAX);
	uint64_t looked;
	int tries = 0;

	int r = a->pool[pool_idx].base ? 0 : hypercache_admin_pool_map(a, pool_idx, why);
	if (r)
		return r;
	const struct shm_pool *p = (const struct shm_pool *)(const void *)a->pool[pool_idx].base;
	*ret = (struct hypercache_hot){.hits = shm_load_rlx(&e->counter[SHM_SC_hot_hits])};
	double noise = 1e-6 * (double)shm_load_rlx(&e->counter[SHM_SC_hot_noise]);
	ret->rest = 1e-6 * (double)shm_load_rlx(&e->counter[SHM_SC_hot_rest]);
	ret->rest += DEVIATIONS * 2 * sqrt(ret->rest) * noise;
	do { /* the engine may have died while it wrote: then what is there is shown */
		looked = shm_hot_look(p);
		hot_copy(p, store_idx, noise, ret->hits ? n : 0, ret);
	} while (!shm_hot_same(p, looked) && ++tries < COPY_TRIES);
	for (uint32_t i = 0; i < ret->n && scratch; i++) {
		struct find f = {.a = a,
			.pool_idx = pool_idx,
			.epoch = (uint32_t)shm_load_rlx(&e->epoch),
			.store_id = shm_load_acq(&e->id), /* acq:entry.id */
			.hash = ret->key[i].hash,
			.scratch = scratch,
			.ret = &ret->key[i]};
		key_find(&f);
	}
	return 0;
}

void hypercache_hot_free(struct hypercache_hot *h)
{
	for (uint32_t i = 0; i < h->n; i++)
		free(h->key[i].key);
	h->n = 0;
}
