/* topk.h - which keys come most often, in bounded memory: Space-Saving (Metwally, Agrawal, El Abbadi: Efficient
 * computation of frequent and top-k elements in data streams, ICDT 2005), with weights, and fading.
 *
 * TOPK_KEYS keys are counted.  One that is not among them takes the place of the one with the lowest count, and
 * inherits that count: so a key has come at least count - over times and at most count times, one that is not
 * here at most as often as the lowest count, and the lowest count is at most a TOPK_KEYS-th of all.
 *
 *   cell[hash]  -> first key of a chain          found in O(1)
 *   heap[0]     -> the key with the lowest count, the others below it; a count only ever grows, so
 *                  one way down of at most log2(TOPK_KEYS) = 8 steps puts it right
 *
 * Fading multiplies all by the same number, which changes no order.
 *
 * Weights may be those of a sample: each of `hits` things that came stands for `scale` of them.  How far off a share may
 * be by that is kept, too: a thing that stands for s of them, taken by chance, adds s * (s - 1) to the variance of
 * the sum (Horvitz and Thompson, 1952).
 *
 * One thread.  About 10 KiB.
 */
#ifndef HC_DAEMON_TOPK_H
#define HC_DAEMON_TOPK_H

#include <stdint.h>

enum { TOPK_KEYS = 256, TOPK_CELLS = 512 };

struct topk_key {
	uint64_t hash;
	double count, over; /* over: of count, what it may have inherited */
	uint16_t next;      /* of its chain; index + 1, 0: none */
	uint16_t pos;       /* in heap[] */
};

struct topk {
	double total;    /* all weights, faded */
	double variance; /* of total, from sampling */
	uint32_t n;      /* keys */
	uint16_t heap[TOPK_KEYS];
	uint16_t cell[TOPK_CELLS]; /* index + 1 */
	struct topk_key key[TOPK_KEYS];
};

/* All zeroes is an empty one. */

/* A key has come: `hits` times that were told of, each of which stands for `scale`, 1 or more. */
void topk_add(struct topk *t, uint64_t hash, uint32_t hits, double scale);
/* As it was when somebody has last said so: of an empty place, before all others. */
void topk_seed(struct topk *t, uint64_t hash, double count, double over);
/* All counts and their sum become `part` of what they are, 0..1. */
void topk_fade(struct topk *t, double part);
/* The indexes of the keys that have come most often for certain (count - over), at most n, those first.  How many. */
uint32_t topk_first(const struct topk *t, uint32_t n, uint16_t *ret);
/* What a key that is not here has at most. */
double topk_rest(const struct topk *t);
/* One standard deviation of a share of 1/2, 0..1; of another share p, it is 2 * sqrt(p * (1 - p)) of that. */
double topk_noise(const struct topk *t);

#endif
