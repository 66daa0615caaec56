/* bench_data.c - see bench_data.h. */
#include "bench_data.h"
#include <math.h>
#include <stdlib.h>
#include "bench_host.h"

#define GOLDEN 0x9e3779b97f4a7c15ull
#define SCATTER 0x7fffffffull /* a prime: ranks of Zipf's law are spread by it */

/* splitmix64's mixer (Steele, Lea, Flood 2014): one to one, so that no two keys are equal. */
static uint64_t mix(uint64_t z)
{
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

void data_key(uint64_t i, uint8_t key[KEY_BYTES])
{
	uint64_t n = mix(i + GOLDEN);

	for (int at = 0; at < KEY_BYTES; at++, n >>= 4)
		key[at] = (uint8_t) "0123456789abcdef"[n & 15];
}

uint8_t *data_values(const struct data *d, size_t n)
{
	uint8_t *value = host_take(n * d->value_bytes);

	memset(value, 'v', n * d->value_bytes);
	return value;
}

/* Ranks 0..n-1 by Zipf's law: rejection-inversion (Hoermann, Derflinger: Rejection-inversion to generate
 * variates from monotone discrete distributions, 1996), which needs no table. */
struct zipf {
	double n, low, high, cut;
};

#define EXPONENT 0.99

static double zipf_integral(double x) { return pow(x, 1 - EXPONENT) / (1 - EXPONENT); }
static double zipf_inverse(double y) { return pow(y * (1 - EXPONENT), 1 / (1 - EXPONENT)); }

static void zipf_init(struct zipf *z, uint64_t n)
{
	z->n = (double)n;
	z->low = zipf_integral(1.5) - 1;
	z->high = zipf_integral(z->n + 0.5);
	z->cut = 2 - zipf_inverse(zipf_integral(2.5) - pow(2, -EXPONENT));
}

static uint64_t zipf_next(const struct zipf *z, uint64_t *random)
{
	for (;;) { /* ends: more than half of the tries succeed */
		double u = (double)(mix(*random += GOLDEN) >> 11) * 0x1p-53;
		double y = z->high + u * (z->low - z->high), x = zipf_inverse(y);
		double k = floor(x + 0.5);
		k = k < 1 ? 1 : k > z->n ? z->n : k;
		if (k - x <= z->cut || y >= zipf_integral(k + 0.5) - pow(k, -EXPONENT))
			return (uint64_t)k - 1;
	}
}

void draws_make(struct draws *ret, const struct data *d, uint64_t n, unsigned rounds, bool zipf)
{
	uint64_t random = 1;
	struct zipf z;

	*ret = (struct draws){.n = n, .rounds = rounds, .key = host_take(n * rounds * KEY_BYTES)};
	zipf_init(&z, d->keys);
	for (uint64_t at = 0; at < n * rounds; at++) {
		uint64_t i;
		if (zipf)
			i = (uint64_t)((unsigned __int128)zipf_next(&z, &random) * SCATTER %
				       d->keys);
		else
			i = (uint64_t)((unsigned __int128)mix(random += GOLDEN) * d->keys >> 64);
		data_key(i, ret->key + at * KEY_BYTES);
	}
}

void draws_free(struct draws *draws)
{
	free(draws->key);
	*draws = (struct draws){0};
}

uint64_t draws_sum(const uint8_t *key, uint64_t n)
{
	uint64_t sum = 0;

	for (const uint8_t *end = key + n * KEY_BYTES; key < end; key += KEY_BYTES)
		sum += data_word(key);
	return sum;
}
