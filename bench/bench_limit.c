/* bench_limit.c - see bench_limit.h. */
#include "bench_limit.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "key.h"
#include "layout/l_table.h"

enum { PER_BUCKET = 5, SLOTS = 7, LINE = 64 }; /* as shm/index_write.c */

#define HUGE_BYTES ((uint64_t)2 << 20)
#define SEED 0x1234567890abcdefull

struct bucket {
	uint64_t slot[SLOTS], link;
};
_Static_assert(sizeof(struct bucket) == sizeof(struct shm_bucket), "the same shape");

struct limit {
	uint8_t *mem; /* buckets, overflow buckets, items */
	uint64_t mem_bytes, item_end, overflow_end, overflow_max;
	uint32_t log2;
};

static uint64_t round_up(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }

struct limit *limit_new(uint64_t n, size_t key_bytes, size_t value_bytes, unsigned page_kb)
{
	uint64_t each = round_up(shm_item_bytes(key_bytes, value_bytes), SHM_UNIT);
	struct limit *l = calloc(1, sizeof *l);
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE;

	if (!l)
		return NULL;
	while ((uint64_t)PER_BUCKET << l->log2 < n)
		l->log2++;
	uint64_t n_buckets = 1ull << l->log2;
	l->overflow_end = n_buckets * sizeof(struct bucket);
	l->overflow_max = l->overflow_end + (n_buckets / 4 + 64) * sizeof(struct bucket);
	l->item_end = l->overflow_max;
	l->mem_bytes = round_up(l->item_end + n * each, HUGE_BYTES);
	if (page_kb == HUGE_BYTES >> 10)
		flags |= MAP_HUGETLB | 21 << 26; /* MAP_HUGE_2MB */
	void *mem = mmap(NULL, l->mem_bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
	if (mem == MAP_FAILED) {
		free(l);
		return NULL;
	}
	if (page_kb != HUGE_BYTES >> 10)
		(void)madvise(mem, l->mem_bytes, MADV_NOHUGEPAGE);
	l->mem = mem;
	return l;
}

void limit_free(struct limit *l)
{
	if (!l)
		return;
	(void)munmap(l->mem, l->mem_bytes);
	free(l);
}

void limit_span(const struct limit *l, uint64_t *ret_begin, uint64_t *ret_end)
{
	*ret_begin = (uint64_t)(uintptr_t)l->mem;
	*ret_end = *ret_begin + l->mem_bytes;
}

static inline struct bucket *bucket_at(const struct limit *l, uint64_t off)
{
	return (struct bucket *)(void *)(l->mem + off);
}

static inline struct shm_item *item_at(const struct limit *l, uint64_t off)
{
	return (struct shm_item *)(void *)(l->mem + off);
}

/* A free slot in the chain of the hash; NULL: no overflow bucket is left. */
static uint64_t *slot_free(struct limit *l, uint64_t hash)
{
	struct bucket *b = bucket_at(l, 0) + shm_hash_bucket(hash, l->log2);

	for (;;) {
		for (int i = 0; i < SLOTS; i++)
			if (b->slot[i] == 0)
				return &b->slot[i];
		if (b->link == 0) {
			if (l->overflow_end == l->overflow_max)
				return NULL;
			b->link = l->overflow_end;
			l->overflow_end += sizeof *b;
		}
		b = bucket_at(l, b->link);
	}
}

bool limit_put(
	struct limit *l, const void *key, size_t key_bytes, const void *value, size_t value_bytes)
{
	uint64_t hash = XXH3_64bits_withSeed(key, key_bytes, SEED);
	uint64_t bytes = round_up(shm_item_bytes(key_bytes, value_bytes), SHM_UNIT);
	uint64_t *slot = slot_free(l, hash);

	if (!slot || bytes > l->mem_bytes - l->item_end)
		return false;
	struct shm_item *it = item_at(l, l->item_end);
	*it = (struct shm_item){.hash = hash, .lens = shm_lens_make(key_bytes, value_bytes)};
	memcpy(it + 1, key, key_bytes);
	if (value_bytes)
		memcpy((uint8_t *)it + shm_item_value_off(key_bytes), value, value_bytes);
	*slot = shm_word_make(shm_hash_tag(hash), l->item_end, 0);
	l->item_end += bytes;
	return true;
}

static inline const struct shm_item *find(const struct limit *l, const void *key, size_t key_bytes)
{
	uint64_t hash = XXH3_64bits_withSeed(key, key_bytes, SEED), tag = shm_hash_tag(hash);
	const struct bucket *b = bucket_at(l, 0) + shm_hash_bucket(hash, l->log2);

	for (;;) {
		for (int i = 0; i < SLOTS; i++) {
			if (shm_word_top(b->slot[i]) != tag || b->slot[i] == 0)
				continue;
			const struct shm_item *it = item_at(l, shm_word_off(b->slot[i]));
			if (it->hash == hash && shm_lens_key(it->lens) == key_bytes &&
				shm_key_equal(it + 1, key, key_bytes))
				return it;
		}
		if (b->link == 0)
			return NULL;
		b = bucket_at(l, b->link);
	}
}

const uint8_t *limit_view(
	const struct limit *l, const void *key, size_t key_bytes, size_t *ret_bytes)
{
	const struct shm_item *it = find(l, key, key_bytes);

	if (!it)
		return NULL;
	*ret_bytes = shm_lens_value(it->lens);
	return (const uint8_t *)it + shm_item_value_off(key_bytes);
}

bool limit_get(const struct limit *l, const void *key, size_t key_bytes, void *buf,
	size_t buf_bytes, size_t *ret_bytes)
{
	size_t n;
	const uint8_t *value = limit_view(l, key, key_bytes, &n);

	if (!value || n > buf_bytes)
		return false;
	memcpy(buf, value, n);
	*ret_bytes = n;
	return true;
}
