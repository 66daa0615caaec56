/* pol_sketch.c - see pol_sketch.h. */
#define _GNU_SOURCE
#include "pol_sketch.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/err.h"
#include "late.h"
#include "step.h"

enum {
	LINE_WORDS = 8,
	LINES_MIN = 8,
	COUNTERS = 4, /* of a key */
	COUNTER_BITS = 4,
	SAMPLE = 10, /* accesses for each key, between two halvings */
};

#define HALVES 0x7777777777777777ull

/* Halves what a line counted before the last ends of samples, as often as there were. */
static void fade(const struct pol_sketch *s, uint64_t line)
{
	uint8_t times = (uint8_t)(s->epoch - s->seen[line]);
	uint64_t *w = &s->word[line * LINE_WORDS];

	if (times == 0 || MUTANT(235)) /* 235: nothing fades */
		return;
	s->seen[line] = s->epoch;
	for (int k = 0; k < times && k < COUNTER_BITS; k++)
		for (int i = 0; i < LINE_WORDS; i++)
			w[i] = w[i] >> 1 & HALVES;
}

/* Where the key's counters are: one in each pair of the line's words. */
struct place {
	uint64_t *word[COUNTERS];
	uint32_t shift[COUNTERS];
};

static struct place place_of(const struct pol_sketch *s, uint32_t fp)
{
	uint64_t h = (fp + 1ull) * 0x9e3779b97f4a7c15ull;
	uint64_t line = (h >> 20) & (s->n_lines - 1);
	struct place p;

	fade(s, line);
	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93ull;
	for (int i = 0; i < COUNTERS; i++) {
		uint32_t bits = (uint32_t)(h >> (16 * i));
		p.word[i] = &s->word[line * LINE_WORDS + (uint32_t)i * 2 + (bits & 1)];
		p.shift[i] = (bits >> 1 & 15) * COUNTER_BITS;
	}
	return p;
}

static uint32_t count_at(const struct place *p)
{
	uint32_t least = POL_SKETCH_MAX;

	for (int i = 0; i < COUNTERS; i++) {
		uint32_t c = *p->word[i] >> p->shift[i] & POL_SKETCH_MAX;
		least = c < least ? c : least;
	}
	return least;
}

static int tables_new(struct pol_sketch *s, uint64_t n_lines)
{
	s->word = aligned_alloc(
		LINE_WORDS * sizeof *s->word, n_lines * LINE_WORDS * sizeof *s->word);
	s->seen = malloc(n_lines);
	s->n_lines = n_lines;
	if (s->word && s->seen)
		return 0;
	free(s->word);
	free(s->seen);
	return err_new(-ENOMEM);
}

int pol_sketch_init(struct pol_sketch *s)
{
	*s = (struct pol_sketch){.n_keys = 1};
	int r = tables_new(s, LINES_MIN);

	if (r < 0)
		return err_fwd(r);
	memset(s->word, 0, LINES_MIN * LINE_WORDS * sizeof *s->word);
	memset(s->seen, 0, LINES_MIN);
	return 0;
}

static void tables_free(struct pol_sketch *s)
{
	late_free(s->word, s->n_lines * LINE_WORDS * sizeof *s->word);
	late_free(s->seen, s->n_lines);
}

void pol_sketch_fini(struct pol_sketch *s)
{
	tables_free(s);
	*s = (struct pol_sketch){0};
}

void pol_sketch_reserve(struct pol_sketch *s, uint64_t n_keys)
{
	struct pol_sketch big = *s;

	s->n_keys = n_keys ? n_keys : 1;
	if (n_keys <= s->n_lines * LINE_WORDS || tables_new(&big, s->n_lines * 2) < 0)
		return;
	/* A line's number is the low bits of a hash: a key's next line is its old one or the copy's. */
	for (uint64_t copy = 0; copy < 2; copy++) {
		memcpy(big.word + copy * s->n_lines * LINE_WORDS, s->word,
			s->n_lines * LINE_WORDS * sizeof *s->word);
		memcpy(big.seen + copy * s->n_lines, s->seen, s->n_lines);
	}
	big.n_keys = s->n_keys;
	tables_free(s);
	*s = big;
}

uint32_t pol_sketch_count(const struct pol_sketch *s, uint32_t fp)
{
	struct place p = place_of(s, fp);

	return count_at(&p);
}

void pol_sketch_add(struct pol_sketch *s, uint32_t fp)
{
	struct place p = place_of(s, fp);
	uint32_t least = count_at(&p);

	if (least < POL_SKETCH_MAX)
		for (int i = 0; i < COUNTERS; i++)
			if ((*p.word[i] >> p.shift[i] & POL_SKETCH_MAX) == least)
				*p.word[i] += 1ull << p.shift[i];
	if (++s->n_counted >= s->n_keys * SAMPLE) {
		s->n_counted = 0;
		s->epoch++;
	}
}

uint64_t pol_sketch_bytes(const struct pol_sketch *s)
{
	return s->n_lines * (LINE_WORDS * sizeof *s->word + 1);
}
