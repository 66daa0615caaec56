/* bench_look.c - see bench_look.h. */
#include "bench_look.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

const char *const look_names[N_KINDS] = {
	[LIMIT_VIEW] = "limit view",
	[HC_VIEW] = "hc_view + release",
	[LIMIT_GET] = "limit get",
	[HC_GET] = "hc_get",
	[HC_MGET] = "hc_mget 16",
	[LIMIT_VIEW_NEXT] = "limit view, each after the other",
	[HC_VIEW_NEXT] = "hc_view + release, the same",
	[LIMIT_GET_NEXT] = "limit get, each after the other",
	[HC_GET_NEXT] = "hc_get, the same",
};
const char *const look_words[N_KINDS] = {"limit_view", "hc_view", "limit_get", "hc_get",
	"hc_mget16", "limit_view_next", "hc_view_next", "limit_get_next", "hc_get_next"};

/* ------------------------------------------------------------ keys and values */

/* splitmix64's mixer (Steele, Lea, Flood 2014): one to one, so that no two keys are equal. */
static uint64_t mix(uint64_t z)
{
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

void look_key(uint64_t i, uint8_t key[KEY_BYTES])
{
	uint64_t words[2] = {mix(i + 0x9e3779b97f4a7c15ull), mix(~i)};

	memcpy(key, words, KEY_BYTES);
}

/* The first word of a value; the others are zero. */
static uint64_t value_word(uint64_t i) { return mix(i ^ 0x5555555555555555ull); }

void look_value(uint64_t i, uint8_t *value)
{
	uint64_t word = value_word(i);

	memcpy(value, &word, sizeof word);
}

static inline uint64_t word_of(const void *value)
{
	uint64_t word;

	memcpy(&word, value, sizeof word);
	return word;
}

/* An entry's number out of 64 random bits. */
static inline uint64_t number_of(const struct look *b, uint64_t random)
{
	return (uint64_t)((unsigned __int128)random * b->keys >> 64);
}

/* A chain goes on with the d-th draw's number as well: else it would soon go in a circle. */
static inline uint64_t chain_begin(unsigned round) { return mix(round + 1); }
static inline uint64_t chain_number(const struct look *b, uint64_t word, uint64_t d)
{
	return number_of(b, word + d * 0x9e3779b97f4a7c15ull);
}

void *look_take(size_t bytes)
{
	void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);

	if (!p)
		exit((fprintf(stderr, "bench_read: no memory\n"), 1));
	memset(p, 0, bytes);
	return p;
}

void look_init(struct look *b)
{
	uint64_t random = 1, n = b->draws * b->rounds;

	b->draw = look_take(n * KEY_BYTES);
	b->draws_sum = look_take(b->rounds * sizeof *b->draws_sum);
	b->chain_sum = look_take(b->rounds * sizeof *b->chain_sum);
	for (uint64_t d = 0; d < n; d++) {
		uint64_t i = number_of(b, mix(random += 0x9e3779b97f4a7c15ull));
		look_key(i, b->draw + d * KEY_BYTES);
		b->draws_sum[d / b->draws] += value_word(i);
	}
	for (unsigned r = 0; r < b->rounds; r++) {
		uint64_t word = chain_begin(r);
		for (uint64_t d = 0; d < b->draws; d++)
			b->chain_sum[r] += word = value_word(chain_number(b, word, d));
	}
	b->buf = look_take(BATCH * b->value_bytes);
}

void look_fini(struct look *b)
{
	free(b->draw);
	free(b->draws_sum);
	free(b->chain_sum);
	free(b->buf);
}

/* ------------------------------------------------------------ one kind, all draws */

static uint64_t sum_limit_view(const struct look *b, const uint8_t *draw)
{
	uint64_t sum = 0;
	size_t n;

	for (const uint8_t *k = draw, *end = k + b->draws * KEY_BYTES; k < end; k += KEY_BYTES) {
		const uint8_t *v = limit_view(b->limit, k, KEY_BYTES, &n);
		sum += v ? word_of(v) : 0;
	}
	return sum;
}

static uint64_t sum_limit_get(const struct look *b, const uint8_t *draw)
{
	uint64_t sum = 0;
	size_t n;

	for (const uint8_t *k = draw, *end = k + b->draws * KEY_BYTES; k < end; k += KEY_BYTES)
		if (limit_get(b->limit, k, KEY_BYTES, b->buf, b->value_bytes, &n))
			sum += word_of(b->buf);
	return sum;
}

static uint64_t sum_hc_view(const struct look *b, const uint8_t *draw)
{
	uint64_t sum = 0;
	struct hc_view v;

	for (const uint8_t *k = draw, *end = k + b->draws * KEY_BYTES; k < end; k += KEY_BYTES) {
		if (hc_view(b->store, k, KEY_BYTES, &v) != HC_OK)
			continue;
		sum += word_of(v.value);
		(void)hc_view_release(&v);
	}
	return sum;
}

static uint64_t sum_hc_get(const struct look *b, const uint8_t *draw)
{
	uint64_t sum = 0;
	size_t n;

	for (const uint8_t *k = draw, *end = k + b->draws * KEY_BYTES; k < end; k += KEY_BYTES)
		if (hc_get(b->store, k, KEY_BYTES, b->buf, b->value_bytes, &n) == HC_OK)
			sum += word_of(b->buf);
	return sum;
}

static uint64_t sum_hc_mget(const struct look *b, const uint8_t *draw)
{
	struct hc_mget_item item[BATCH];
	uint64_t sum = 0;

	for (int i = 0; i < BATCH; i++)
		item[i] = (struct hc_mget_item){.key_bytes = KEY_BYTES,
			.buf = b->buf + (size_t)i * b->value_bytes,
			.buf_bytes = b->value_bytes};
	for (uint64_t d = 0; d < b->draws; d += BATCH) {
		size_t n = b->draws - d < BATCH ? (size_t)(b->draws - d) : BATCH;
		for (size_t i = 0; i < n; i++)
			item[i].key = draw + (d + i) * KEY_BYTES;
		if (hc_mget(b->store, item, n) != HC_OK)
			continue;
		for (size_t i = 0; i < n; i++)
			if (item[i].result == HC_OK)
				sum += word_of(item[i].buf);
	}
	return sum;
}

/* Of the chains: `word` of the first key's place, the sum of all words.  0: one was not there. */
static uint64_t chain_limit_view(const struct look *b, uint64_t word)
{
	uint8_t key[KEY_BYTES];
	uint64_t sum = 0;
	size_t n;

	for (uint64_t d = 0; d < b->draws; d++) {
		look_key(chain_number(b, word, d), key);
		const uint8_t *v = limit_view(b->limit, key, KEY_BYTES, &n);
		if (!v)
			return 0;
		sum += word = word_of(v);
	}
	return sum;
}

static uint64_t chain_limit_get(const struct look *b, uint64_t word)
{
	uint8_t key[KEY_BYTES];
	uint64_t sum = 0;
	size_t n;

	for (uint64_t d = 0; d < b->draws; d++) {
		look_key(chain_number(b, word, d), key);
		if (!limit_get(b->limit, key, KEY_BYTES, b->buf, b->value_bytes, &n))
			return 0;
		sum += word = word_of(b->buf);
	}
	return sum;
}

static uint64_t chain_hc_view(const struct look *b, uint64_t word)
{
	uint8_t key[KEY_BYTES];
	struct hc_view v;
	uint64_t sum = 0;

	for (uint64_t d = 0; d < b->draws; d++) {
		look_key(chain_number(b, word, d), key);
		if (hc_view(b->store, key, KEY_BYTES, &v) != HC_OK)
			return 0;
		sum += word = word_of(v.value);
		(void)hc_view_release(&v);
	}
	return sum;
}

static uint64_t chain_hc_get(const struct look *b, uint64_t word)
{
	uint8_t key[KEY_BYTES];
	uint64_t sum = 0;
	size_t n;

	for (uint64_t d = 0; d < b->draws; d++) {
		look_key(chain_number(b, word, d), key);
		if (hc_get(b->store, key, KEY_BYTES, b->buf, b->value_bytes, &n) != HC_OK)
			return 0;
		sum += word = word_of(b->buf);
	}
	return sum;
}

static uint64_t thread_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

uint64_t look_run(const struct look *b, enum kind kind, unsigned round)
{
	static uint64_t (*const sums[])(const struct look *, const uint8_t *) = {
		sum_limit_view, sum_hc_view, sum_limit_get, sum_hc_get, sum_hc_mget};
	static uint64_t (*const chains[])(const struct look *, uint64_t) = {
		chain_limit_view, chain_hc_view, chain_limit_get, chain_hc_get};
	bool chain = kind >= LIMIT_VIEW_NEXT;
	uint64_t t = thread_ns();
	uint64_t sum = chain ? chains[kind - LIMIT_VIEW_NEXT](b, chain_begin(round))
	                     : sums[kind](b, b->draw + round * b->draws * KEY_BYTES);

	t = thread_ns() - t;
	if (sum != (chain ? b->chain_sum : b->draws_sum)[round]) {
		fprintf(stderr, "bench_read: %s: not every key was found as it was set\n",
			look_names[kind]);
		exit(1);
	}
	return t;
}
