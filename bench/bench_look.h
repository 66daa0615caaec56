/* bench_look.h - entries, draws, and the kinds of look-up that bench_read measures.
 *
 * Entries are numbered; a number makes the key and the value.  Keys are drawn uniformly beforehand and
 * lie in the order of their use, so that neither drawing nor fetching them is measured.
 */
#ifndef HC_BENCH_LOOK_H
#define HC_BENCH_LOOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "bench_limit.h"
#include "hypercache.h"

enum {
	KEY_BYTES = 16,
	ROUNDS_MAX = 201,
	BATCH = 16, /* keys of one hc_mget */
};

/* What is measured.  ..._NEXT: each look-up's key comes out of the value of the one before, so that
 * none begins before the other has ended; the others' keys are known, and a processor overlaps
 * neighbouring look-ups as far as it can. */
enum kind {
	LIMIT_VIEW,
	HC_VIEW,
	LIMIT_GET,
	HC_GET,
	HC_MGET,
	LIMIT_VIEW_NEXT,
	HC_VIEW_NEXT,
	LIMIT_GET_NEXT,
	HC_GET_NEXT,
	N_KINDS
};
extern const char *const look_names[N_KINDS]; /* for people */
extern const char *const look_words[N_KINDS]; /* for options and programs */

struct look {
	/* the caller's */
	uint64_t keys, draws; /* entries; look-ups of one round */
	unsigned rounds;
	size_t value_bytes; /* 8 or more */
	struct hc_store *store;
	struct limit *limit;
	/* of look_init() */
	uint8_t *draw;       /* keys in the order of their use: rounds x draws */
	uint64_t *draws_sum; /* by round: of the first words of their values */
	uint64_t *chain_sum; /* by round: the same, of keys that come out of values */
	uint8_t *buf;        /* BATCH values */
};

/* Zeroed memory, or the end of the program. */
void *look_take(size_t bytes);

void look_key(uint64_t number, uint8_t key[KEY_BYTES]);
/* Writes the first word of a value; the others are zero. */
void look_value(uint64_t number, uint8_t *value);

/* Draws. */
void look_init(struct look *b);
void look_fini(struct look *b);

/* Looks a round's draws up.  ns of this thread's CPU; ends the program if a value was not there or wrong. */
uint64_t look_run(const struct look *b, enum kind kind, unsigned round);

#endif
