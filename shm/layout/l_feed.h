/* l_feed.h - a pool's change feed: what was changed in it, in order.
 *
 *   pool + feed_off:  | header 128 | ring of 8-byte words ...            |
 *
 *   entry:  0         8          16    24        32         40      48     56     64
 *           | shape   | sequence | lsn | version | store_id | time  | hash | lens | key ...
 *
 * shm_pool.feed_off is 0 in a pool that keeps no feed, and then means what it always did: so a reader of an
 * older minor, which knows nothing of feeds, loses nothing.  The feed is the beginning of a run of pages of
 * its own (TABLE, like the index's).
 *
 * Positions count words and never go back: word p stands at ring[p % n_words].  An entry begins at a position,
 * goes on behind the ring's end at its beginning, and is followed by the next one.  `tail` is where the oldest
 * entry begins that is still whole, `head` is where the next one will.
 *
 *   shape      bits 63..48 words of the entry, 8 and those of the key; 47..40 enum shm_feed_what;
 *              39..32 enum shm_feed_why; 31..0 the low half of its position: so what is no entry shows
 *   sequence   1, 2, 3 ... without a gap, as long as the pool lives; but where damage cost entries of the pool, as
 *              many numbers are left out; where it cost the feed's own, they go on at engine_gen << 40
 *   lsn        the mutation's; of what the engine did by itself that of the mutation before
 *   version    of the entry that was made, touched or removed; 0: CLEAR, DROP
 *   time       CLOCK_REALTIME, ns: when the engine began the turn in which it happened
 *   hash, lens as in the item (l_item.h); CLEAR, DROP: 0, and no key follows
 *   key        its first SHM_FEED_KEY_MAX bytes; the last word is filled up with zeroes
 *
 * Keys are data: the feed lies in the pool, so who may not read the pool does not see it (rule P27).  A longer key
 * is cut, because one entry must not push hundreds out; its length and hash are there.
 *
 * Producer (rule P28): stores `tail` past what it will overwrite; release fence; writes the words (relaxed);
 * stores `head` (release).  Reader: loads `head` (acquire), copies, acquire fence, loads `tail`: an entry that
 * begins before it may have been overwritten meanwhile, and counts as lost.  Its sequence, and that of the entry at
 * `tail`, say how many.  Waiting: FUTEX_WAIT on head's low 32 bits with the value seen; the engine wakes once in each
 * turn in which something was written, and when it begins to serve.
 *
 * Who dies: the engine between any two stores: nothing behind `head` counts, and the intent (l_journal.h) says
 * what is still to be written, so there is no gap and no entry twice.  A reader: nobody notices.
 *
 * Invariants:
 *   I18  feed_off is 0, or names a TABLE run; magic and n_words fit it; from `tail` one entry follows the
 *        other up to `head`, at most n_words behind it, with sequences that grow, and are below next_sequence
 */
#ifndef HC_LAYOUT_FEED_H
#define HC_LAYOUT_FEED_H

#include "l_base.h"

#define SHM_FEED_MAGIC 0x3130444545464348ull /* "HCFEED01" as bytes */
#define SHM_FEED_WORDS 8u                    /* of an entry, before its key */
#define SHM_FEED_KEY_MAX 4096u               /* bytes of a key that an entry holds */
#define SHM_FEED_ENTRY_MAX (SHM_FEED_WORDS + SHM_FEED_KEY_MAX / 8) /* words of an entry */
#define SHM_FEED_BYTES_MIN 65536u            /* of a feed, with its header */

/* What happened.  The numbers are those of hypercache.h. */
enum shm_feed_what {
	SHM_FEED_SET = 1,    /* written, whether or not there was an entry */
	SHM_FEED_INCR = 2,   /* a number was added to */
	SHM_FEED_TOUCH = 3,  /* got another time to live */
	SHM_FEED_DELETE = 4, /* removed by request */
	SHM_FEED_EXPIRE = 5, /* removed because its time was over */
	SHM_FEED_EVICT = 6,  /* removed by the engine: enum shm_feed_why */
	SHM_FEED_CLEAR = 7,  /* all entries of the store */
	SHM_FEED_DROP = 8,   /* the store itself */
	SHM_FEED_WHATS
};

/* Why an entry was evicted: as the counters evicted_* of l_counters.h say. */
enum shm_feed_why {
	SHM_FEED_NONE = 0,
	SHM_FEED_LIMIT = 1,    /* its store was above its own limit */
	SHM_FEED_PRESSURE = 2, /* the pool was above a threshold */
	SHM_FEED_FULL = 3,     /* a write of its store found no room */
	SHM_FEED_GIVEN = 4,    /* a write of another store found none */
	SHM_FEED_ASIDE = 5,    /* it stood in the way of room that had to be in one piece */
	SHM_FEED_SHRUNK = 6,   /* the pool was made smaller */
	SHM_FEED_INDEX = 7,    /* its chain of the index, or the engine's private memory, was full */
	SHM_FEED_DAMAGED = 8,  /* its checksum was wrong: its key may be, too */
	SHM_FEED_WHYS
};

struct shm_feed {
	shm_u64 head;          /* [W: eng; R: all] where the next entry begins, words; its low half is the futex word */
	uint64_t pad0[7];      /* [W: none] */
	shm_u64 tail;          /* [W: eng; R: all] entries that begin before are gone, words */
	uint64_t n_words;      /* [W: eng before feed_off; R: all] words of the ring */
	uint64_t magic;        /* [W: eng before feed_off; R: all] SHM_FEED_MAGIC */
	shm_u64 next_sequence; /* [W: eng; R: eng, checker] of the next entry; may lag by one behind head */
	uint64_t pad1[4];      /* [W: none] */
};
SHM_SIZE(shm_feed, 128);
SHM_AT(shm_feed, head, 0);
SHM_AT(shm_feed, tail, 64);
SHM_AT(shm_feed, n_words, 72);
SHM_AT(shm_feed, magic, 80);
SHM_AT(shm_feed, next_sequence, 88);

/* The eight words before an entry's key. */
struct shm_feed_entry {
	uint64_t shape;    /* [W: eng before head; R: all] see above */
	uint64_t sequence; /* [W: eng before head; R: all] from 1 */
	uint64_t lsn;      /* [W: eng before head; R: all] see above */
	uint64_t version;  /* [W: eng before head; R: all] see above */
	uint64_t store_id; /* [W: eng before head; R: all] shm_store_entry.id */
	uint64_t time_ns;  /* [W: eng before head; R: all] CLOCK_REALTIME */
	uint64_t hash;     /* [W: eng before head; R: all] of the whole key */
	uint64_t lens;     /* [W: eng before head; R: all] of the whole key, and of the value */
};
SHM_SIZE(shm_feed_entry, 64);
SHM_AT(shm_feed_entry, shape, 0);
SHM_AT(shm_feed_entry, sequence, 8);
SHM_AT(shm_feed_entry, lsn, 16);
SHM_AT(shm_feed_entry, version, 24);
SHM_AT(shm_feed_entry, store_id, 32);
SHM_AT(shm_feed_entry, time_ns, 40);
SHM_AT(shm_feed_entry, hash, 48);
SHM_AT(shm_feed_entry, lens, 56);

static inline uint64_t shm_feed_shape(uint64_t words, uint64_t what, uint64_t why, uint64_t pos)
{
	return words << 48 | what << 40 | why << 32 | (uint32_t)pos;
}
static inline uint32_t shm_feed_words(uint64_t shape) { return (uint32_t)(shape >> 48); }
static inline uint32_t shm_feed_what(uint64_t shape) { return (uint32_t)(shape >> 40) & 0xff; }
static inline uint32_t shm_feed_why(uint64_t shape) { return (uint32_t)(shape >> 32) & 0xff; }
/* Bytes of a key that an entry holds. */
static inline uint64_t shm_feed_kept(uint64_t key_bytes)
{
	return key_bytes < SHM_FEED_KEY_MAX ? key_bytes : SHM_FEED_KEY_MAX;
}
/* Words of an entry; CLEAR and DROP have no key. */
static inline uint64_t shm_feed_words_of(uint64_t what, uint64_t key_bytes)
{
	return SHM_FEED_WORDS + (what >= SHM_FEED_CLEAR ? 0 : (shm_feed_kept(key_bytes) + 7) / 8);
}

#endif
