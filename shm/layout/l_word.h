/* l_word.h - the packed 64-bit words: slots, pins, hints, table words.
 *
 *            63        48 47                              4 3    0
 *   slot     |   tag     |  item offset, in units          | flags |
 *   link     |    0      |  overflow bucket, in units      | flags |
 *   table    | log2(n)   |  struct shm_table, in units     |   0   |
 *   pin      | pin gen   |  pinned offset, in units        | pool  |
 *   hint     |  hits     |  item offset, in units          | pool  |
 *
 * One word each, so that publish, replace, delete, pin and unpin are each one
 * atomic store (rules P1, P3), and so that the engine finds out whether an item
 * is pinned by comparing bits 47..0 of pins (rule P14: it never follows them).
 *
 * hits of a hint: 0: one, which the policy is to hear of; else so many, of an item that it has heard of a
 * moment ago: they count for the hot keys alone.
 *
 * tag: the hash's low 16 bits.  Bucket number: the hash's high log2(n) bits
 * (rule P9), so growth splits bucket b into 2b and 2b+1.
 */
#ifndef HC_LAYOUT_WORD_H
#define HC_LAYOUT_WORD_H

#include "l_base.h"

#define SHM_WORD_OFF_SHIFT 4
#define SHM_WORD_OFF_BITS 44
#define SHM_WORD_OFF_MASK (((1ull << SHM_WORD_OFF_BITS) - 1) << SHM_WORD_OFF_SHIFT)
#define SHM_WORD_TOP_SHIFT 48
#define SHM_WORD_LOW_MASK 0xfull

#define SHM_SLOT_MOVED 1ull /* look in the next table; a word with it names no item */

/* Bytes from the pool's start that a word names; 0: none.  The low four bits of
 * a byte offset are zero, so bits 47..4 *are* the byte offset. */
static inline uint64_t shm_word_off(uint64_t w) { return w & SHM_WORD_OFF_MASK; }
static inline uint64_t shm_word_top(uint64_t w) { return w >> SHM_WORD_TOP_SHIFT; }
static inline uint64_t shm_word_low(uint64_t w) { return w & SHM_WORD_LOW_MASK; }

static inline uint64_t shm_word_make(uint64_t top, uint64_t off, uint64_t low)
{
	return top << SHM_WORD_TOP_SHIFT | off | low;
}

static inline uint64_t shm_hash_tag(uint64_t hash) { return hash & 0xffff; }
static inline uint64_t shm_hash_bucket(uint64_t hash, uint32_t log2_buckets)
{
	return hash >> 1 >> (63 - log2_buckets); /* in two steps: 0 of them for one bucket */
}

#endif
