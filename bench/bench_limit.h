/* bench_limit.h - the limit: what a look-up would cost if nobody else had to be thought of.
 *
 * A private table of one process in the shape of the shared one, with nothing that protects it: the
 * same hash, the same buckets of one cache line with seven tagged slots and a link, the same item
 * (header, key, value at a multiple of 8), the same size of pages.  No pin, no second look at a slot,
 * no bounds, no expiry, no counters, no hints, no handle: one hash, two cache misses, one comparison of
 * the key; and the copy.
 *
 *   struct limit ── bucket[2^k] ── slot: tag 16 | offset 48 ──> item
 *                   behind them overflow buckets
 *
 * Keys are only added.  One thread; after a fork the child reads its own copy.
 */
#ifndef HC_BENCH_LIMIT_H
#define HC_BENCH_LIMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct limit;

/* A table for n entries of these sizes, in one mapping of pages of page_kb (4 or 2048; 2048 needs
 * reserved huge pages).  NULL: not to be had, errno says why. */
struct limit *limit_new(uint64_t n, size_t key_bytes, size_t value_bytes, unsigned page_kb);
void limit_free(struct limit *l);

/* Where it lies. */
void limit_span(const struct limit *l, uint64_t *ret_begin, uint64_t *ret_end);

/* Adds a key that is not there yet.  False: the table is full. */
bool limit_put(
	struct limit *l, const void *key, size_t key_bytes, const void *value, size_t value_bytes);

/* The value in place, NULL: not there. */
const uint8_t *limit_view(
	const struct limit *l, const void *key, size_t key_bytes, size_t *ret_bytes);

/* Copies the value; false: not there, or buf is too small. */
bool limit_get(const struct limit *l, const void *key, size_t key_bytes, void *buf,
	size_t buf_bytes, size_t *ret_bytes);

#endif
