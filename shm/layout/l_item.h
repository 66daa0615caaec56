/* l_item.h - an item: one entry's header, key and value.
 *
 *   0        40               80          80+key   value_off
 *   | cold   | hot            | key ...   | 0..7   | value ...
 *
 * value_off = the key's end, rounded up to 8: a view of numbers is aligned.
 * The cold words come first so that a look-up touches the lines of hot words,
 * key and value only.
 *
 * An item is written completely, then named by a slot (release), and from then
 * on only its two atomic words change (rule P1).  An overwrite is a new item.
 *
 * `lens`:  bits 63..48 key bytes - 1 (so 1..65536), 47 ABSENT, 46 FRESH, 43..0 value bytes.
 * `crc`:   CRC-32C of the plain words from `created_ns` to `lens` but for crc
 *          itself and the two atomic words, then key, then value.
 * ABSENT (of lens): the entry says that its key is known to be absent.  It has no value.  The bit
 *          makes its extent larger than any pool: so a look-up that knows nothing of it, or wants to lose no
 *          instruction on it, falls out where it compares lengths with the pool.
 * FRESH (of lens): `stamp` is no stamp but says how long the value is fresh: bits 63..20 the
 *          engine's CLOCK_MONOTONIC in ms until which it is, 19..0 how long it took to compute, ms,
 *          saturating.  Plain look-ups do not ask.
 * `expiry_ns`: CLOCK_MONOTONIC of the engine; 0: never.
 * `access`: bits 63..20 ms of the engine's CLOCK_MONOTONIC at the last drained
 *          hint, 19..0 hints counted, saturating.
 *
 * Invariants:
 *   I13  the lengths fit the item's place; crc is right
 *   I14  store_id and epoch name a store, or are older than one (void, to be reclaimed)
 */
#ifndef HC_LAYOUT_ITEM_H
#define HC_LAYOUT_ITEM_H

#include "l_base.h"

#define SHM_KEY_BYTES_MAX 65536u
#define SHM_ACCESS_MS_SHIFT 20

struct shm_item {
	uint64_t created_ns;  /* [W: eng before publish; R: all] CLOCK_REALTIME of the entry's first set */
	uint64_t modified_ns; /* [W: eng before publish; R: all] CLOCK_REALTIME of this item */
	shm_u64 access;       /* [W: eng; R: all] see above */
	uint32_t crc;         /* [W: eng before publish; R: checker] CRC-32C, see above */
	uint32_t ttl_ms;      /* [W: eng before publish; R: all] the time to live that was asked for; 0: none */
	uint64_t stamp;       /* [W: eng before publish; R: all] the caller's own order mark; 0: none; or see FRESH */

	uint64_t version;   /* [W: eng before publish; R: all] LSN of the mutation that made it */
	uint64_t hash;      /* [W: eng before publish; R: all] the whole hash */
	uint64_t store_id;  /* [W: eng before publish; R: all] shm_store_entry.id */
	uint32_t epoch;     /* [W: eng before publish; R: all] low 32 bits of shm_store_entry.epoch then */
	uint32_t flags;     /* [W: eng before publish; R: all] the caller's own */
	uint64_t lens;      /* [W: eng before publish; R: all] lengths, see above */
	shm_u64 expiry_ns;  /* [W: eng; R: all] see above */
	/* key, padding to 8, value */
};
SHM_SIZE(shm_item, 88);
SHM_AT(shm_item, created_ns, 0);
SHM_AT(shm_item, modified_ns, 8);
SHM_AT(shm_item, access, 16);
SHM_AT(shm_item, crc, 24);
SHM_AT(shm_item, ttl_ms, 28);
SHM_AT(shm_item, stamp, 32);
SHM_AT(shm_item, version, 40);
SHM_AT(shm_item, hash, 48);
SHM_AT(shm_item, store_id, 56);
SHM_AT(shm_item, epoch, 64);
SHM_AT(shm_item, flags, 68);
SHM_AT(shm_item, lens, 72);
SHM_AT(shm_item, expiry_ns, 80);

#define SHM_LENS_VALUE_MASK ((1ull << 44) - 1)
#define SHM_LENS_ABSENT (1ull << 47)
#define SHM_LENS_FRESH (1ull << 46)
#define SHM_LENS_MARKS (SHM_LENS_ABSENT | SHM_LENS_FRESH)

static inline uint64_t shm_lens_make(uint64_t key_bytes, uint64_t value_bytes)
{
	return (key_bytes - 1) << 48 | value_bytes;
}
static inline uint64_t shm_lens_key(uint64_t lens) { return (lens >> 48) + 1; }
static inline uint64_t shm_lens_value(uint64_t lens) { return lens & SHM_LENS_VALUE_MASK; }
/* The value's length as a look-up compares it with the pool: of an absent one beyond any. */
static inline uint64_t shm_lens_extent(uint64_t lens)
{
	return lens & (SHM_LENS_VALUE_MASK | SHM_LENS_ABSENT);
}

/* The word of a FRESH item. */
#define SHM_FRESH_SHIFT 20
#define SHM_FRESH_TOOK_MAX ((1ull << SHM_FRESH_SHIFT) - 1)
static inline uint64_t shm_fresh_make(uint64_t until_ms, uint64_t took_ms)
{
	return until_ms << SHM_FRESH_SHIFT |
	       (took_ms < SHM_FRESH_TOOK_MAX ? took_ms : SHM_FRESH_TOOK_MAX);
}
static inline uint64_t shm_fresh_until_ms(uint64_t word) { return word >> SHM_FRESH_SHIFT; }
static inline uint64_t shm_fresh_took_ms(uint64_t word) { return word & SHM_FRESH_TOOK_MAX; }

/* Offset of the value from the item's start. */
static inline uint64_t shm_item_value_off(uint64_t key_bytes)
{
	return (sizeof(struct shm_item) + key_bytes + 7) & ~7ull;
}
/* Bytes of the whole item, without the rounding of its place. */
static inline uint64_t shm_item_bytes(uint64_t key_bytes, uint64_t value_bytes)
{
	return shm_item_value_off(key_bytes) + value_bytes;
}

#endif
