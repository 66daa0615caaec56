/* pol_sketch.h - how often was a key asked for lately?  About.
 *
 * A count-min sketch (Cormode, Muthukrishnan, 2005) of four-bit counters, as TinyLFU uses it (Einziger,
 * Friedman, Manes, "TinyLFU: a highly efficient cache admission policy", 2017): four counters for a
 * key, all in one cache line; its count is the smallest of them, and only the smallest are raised.
 * Counts fade: after so many accesses as there are keys, times ten, all are halved.  No call does that for
 * all: a line catches up when it is next looked at.
 *
 * Private memory: 8 to 16 bytes for each key of the largest number so far.  Growing keeps the counts:
 * a table of twice the size begins as two copies.  One thread.
 */
#ifndef HC_DAEMON_POL_SKETCH_H
#define HC_DAEMON_POL_SKETCH_H

#include <stdint.h>

enum { POL_SKETCH_MAX = 15 };

struct pol_sketch {
	uint64_t *word; /* 16 counters each, 8 words a line */
	uint8_t *seen;  /* of each line: the epoch up to which it has faded */
	uint64_t n_lines, n_keys, n_counted;
	uint8_t epoch;
};

/* 0 or -ENOMEM. */
int pol_sketch_init(struct pol_sketch *s);
void pol_sketch_fini(struct pol_sketch *s);
/* So many keys are of interest now.  Grows if there is memory; else counts get less exact. */
void pol_sketch_reserve(struct pol_sketch *s, uint64_t n_keys);
void pol_sketch_add(struct pol_sketch *s, uint32_t fp);
uint32_t pol_sketch_count(const struct pol_sketch *s, uint32_t fp); /* 0..POL_SKETCH_MAX */
uint64_t pol_sketch_bytes(const struct pol_sketch *s);

#endif
