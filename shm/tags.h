/* tags.h - which slots of a bucket have a tag: all at once, without a branch.
 *
 * Where the key stands in its bucket is what a processor cannot guess; a loop over the slots
 * costs a wrong guess in most look-ups, and with it what had been begun of the next one.
 *
 * A hint only: the words are looked at here as bytes in passing, and the slot that is chosen is
 * loaded for good afterwards (acquire, rule P2).
 */
#ifndef HC_SHM_TAGS_H
#define HC_SHM_TAGS_H

#include "atomic.h"
#include "layout/l_table.h"

#if defined(__SANITIZE_THREAD__)
#define TAGS_SIMD 0 /* it sees each access, and knows only atomic ones to be right */
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TAGS_SIMD 0
#endif
#endif
#if !defined(TAGS_SIMD) && defined(__SSE2__)
#define TAGS_SIMD 1
#include <emmintrin.h>
#endif

#if TAGS_SIMD
/* Upper 32 bits of four slots, tags in the low half of each. */
static inline __m128i shm_tags_of_four(const __m128i *two, __m128i tag)
{
	__m128 a = _mm_castsi128_ps(_mm_load_si128(two)),
	       b = _mm_castsi128_ps(_mm_load_si128(two + 1));
	__m128i high = _mm_castps_si128(_mm_shuffle_ps(a, b, _MM_SHUFFLE(3, 1, 3, 1)));

	return _mm_cmpeq_epi32(_mm_srli_epi32(high, 16), tag);
}

/* Two bits for each slot, slot 0 lowest: has it this tag?  Free slots have tag 0. */
static inline uint32_t shm_bucket_tags(const struct shm_bucket *b, uint64_t tag)
{
	const __m128i *pair = (const __m128i *)(const void *)b->slot;
	__m128i want = _mm_set1_epi32((int)tag);
	__m128i low = shm_tags_of_four(pair, want), high = shm_tags_of_four(pair + 2, want);
	uint32_t all = (uint32_t)_mm_movemask_epi8(_mm_packs_epi32(low, high));

	return all & ((1u << 2 * SHM_BUCKET_SLOTS) - 1);
}
#else
static inline uint32_t shm_bucket_tags(const struct shm_bucket *b, uint64_t tag)
{
	uint32_t all = 0;

	for (uint32_t i = 0; i < SHM_BUCKET_SLOTS; i++)
		all |= (uint32_t)(shm_word_top(shm_load_rlx(&b->slot[i])) == tag) << 2 * i;
	return all;
}
#endif

/* The first of these slots; there is one. */
static inline const shm_u64 *shm_bucket_first(const struct shm_bucket *b, uint32_t tags)
{
	return &b->slot[(uint32_t)__builtin_ctz(tags) / 2];
}

#endif
