/* bench_data.h - the entries that every subject holds, and the order in which they are asked for.
 *
 * A key is 16 characters: a 64-bit number in hexadecimal, no two alike, so that it may be sent in any
 * protocol.  A value begins with the first 8 bytes of its key, its word; the rest is the same in all.  So
 * whoever reads adds the words up, and the sum of a round says whether each value was the right one.
 *
 * Draws are made beforehand and lie in the order of their use, so that neither drawing a key nor fetching
 * it is measured.
 */
#ifndef HC_BENCH_DATA_H
#define HC_BENCH_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { KEY_BYTES = 16, BATCH_MAX = 64, VALUE_BYTES_MIN = 8 };

struct data {
	uint64_t keys;
	size_t value_bytes;
};

/* The i-th key, 0 <= i < 2^64. */
void data_key(uint64_t i, uint8_t key[KEY_BYTES]);

/* The word of a key or a value. */
static inline uint64_t data_word(const void *p)
{
	uint64_t word;

	memcpy(&word, p, sizeof word);
	return word;
}

/* Memory for n values, each as they all are but for its word. */
uint8_t *data_values(const struct data *d, size_t n);

/* Keys in the order of their use: rounds of n each. */
struct draws {
	uint8_t *key;
	uint64_t n;
	unsigned rounds;
};

/* Zipf's law has the exponent 0.99; the popular keys lie anywhere among the others. */
void draws_make(struct draws *ret, const struct data *d, uint64_t n, unsigned rounds, bool zipf);
void draws_free(struct draws *draws);

static inline const uint8_t *draws_at(const struct draws *draws, unsigned round)
{
	return draws->key + round * draws->n * KEY_BYTES;
}

/* What reading these n keys adds up to. */
uint64_t draws_sum(const uint8_t *key, uint64_t n);

#ifdef __cplusplus
}
#endif
#endif
