/* unit_key.c - are the short cuts of a look-up (key.h, tags.h) what they shorten? */
#include <string.h>
#include "../kit/t.h"
#include "../../shm/key.h"
#include "../../shm/tags.h"

enum { LONGEST = 300, ROUNDS = 2000 };

static void fill_random(uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)t_random_below(256);
}

TEST(hash_is_xxh3_whatever_the_length)
{
	uint8_t key[LONGEST];

	fill_random(key, sizeof key);
	for (size_t n = 1; n <= LONGEST; n++) {
		uint64_t seed = t_random();
		CHECK_EQ(shm_key_hash_seeded(key, n, seed), XXH3_64bits_withSeed(key, n, seed));
		CHECK_EQ(shm_key_hash_long(key, n, seed), XXH3_64bits_withSeed(key, n, seed));
		if (shm_key_is_short(n))
			CHECK_EQ(shm_key_hash_short(key, n, seed),
				XXH3_64bits_withSeed(key, n, seed));
	}
	CHECK(!shm_key_is_short(0) && !shm_key_is_short(8) && shm_key_is_short(9));
	CHECK(shm_key_is_short(16) && !shm_key_is_short(17));
}

TEST(keys_are_equal_when_all_their_bytes_are)
{
	uint8_t a[64], b[64];

	fill_random(a, sizeof a);
	for (size_t n = 1; n <= 32; n++) {
		memcpy(b, a, sizeof a);
		b[n] ^= 1; /* behind them: another key's, or none */
		CHECK(shm_key_equal(a, b, n));
		for (size_t i = 0; i < n; i++) {
			b[i] ^= (uint8_t)(1u << t_random_below(8));
			CHECK(!shm_key_equal(a, b, n));
			b[i] = a[i];
		}
	}
}

/* Few tags, so that some are there more than once; slots that are free or have moved. */
TEST(tags_are_those_of_a_look_at_each_slot)
{
	_Alignas(SHM_LINE) struct shm_bucket b;
	int found = 0, missed = 0;

	for (int round = 0; round < ROUNDS; round++) {
		uint64_t tag = t_random_below(2) ? t_random_below(8) : 0xfff8 + t_random_below(8);
		for (int i = 0; i < SHM_BUCKET_SLOTS; i++) {
			uint64_t top = t_random_below(2) ? t_random_below(8)
			                                 : 0xfff8 + t_random_below(8);
			shm_store_rlx(
				&b.slot[i], shm_word_make(top, t_random() & SHM_WORD_OFF_MASK, 0));
			if (t_random_below(8) == 0)
				shm_store_rlx(&b.slot[i], t_random_below(2)); /* free, or MOVED */
		}
		shm_store_rlx(&b.link, shm_word_make(tag, 0, 0)); /* is no slot */
		uint32_t want = 0;
		const shm_u64 *first = NULL;
		for (uint32_t i = 0; i < SHM_BUCKET_SLOTS; i++) {
			if (shm_word_top(shm_load_rlx(&b.slot[i])) != tag)
				continue;
			first = first ? first : &b.slot[i];
			want |= 1u << i;
		}
		uint32_t tags = shm_bucket_tags(&b, tag), have = 0;
		for (uint32_t i = 0; i < SHM_BUCKET_SLOTS; i++)
			have |= (uint32_t)((tags >> 2 * i & 3) != 0) << i;
		CHECK_EQ(have, want);
		CHECK_EQ(tags >> 2 * SHM_BUCKET_SLOTS, 0);
		if (first)
			CHECK(shm_bucket_first(&b, tags) == first);
		found += first != NULL;
		missed += first == NULL;
	}
	CHECK(found > 0 && missed > 0);
}
