/* l_journal.h - the journal: what makes a mutation happen exactly once; and which requests took long.
 *
 *   0      header: intent, fold
 *   4096   sessions[n], 4096 each: the last SHM_RESULTS results
 *   then   leases[n_leases], 64 each: who computes a missing value
 *   then   slow[n_slow], 256 each: requests that took long
 *   then   room for WAL frames (none yet: frames_bytes = 0)
 *   then   frames_bytes, from a page on: the log's staging (daemon/wal/wal_stage.h); 0: no durable store
 *
 * Engine-only; the supervisor keeps the descriptor, so that the next engine
 * finds it.  Order of a mutation (rule P23):
 *
 *   intent.state = SET      STEP set:intended     slot, old word, new word, session, request
 *   the log's record is put STEP log:put          of a durable store: before the intent, behind the staging's end
 *   slot = new word         STEP set:published
 *   ... and committed       STEP log:committed    a record that is put and not committed counts if the intent says so
 *   entry of the feed       STEP feed:published      if the pool keeps one (l_feed.h)
 *   result                  STEP journal:resulted request number last
 *   intent.state = NONE     STEP journal:cleared
 *
 * A new engine with an intent SET looks at the slot: it holds the new word: the
 * mutation happened, and the result is completed; it does not: it did not
 * happen, and the client's retry will do it.
 *
 * The feed's entry has been written if the feed's next number is higher than feed_sequence; else the
 * new engine writes it, with what the items of the two words still say.  In such a pool the engine intends what it
 * removes by itself, too (session = SHM_INTENT_ENGINE: there is no result), and a touch, whose slot is the item's
 * expiry.
 *
 * A clear's slot is the epoch of its store, in the control segment: pool_idx is SHM_INTENT_CONTROL.  That of a
 * drop, which is intended for the feed alone, is the store's id.
 *
 * The slot's word decides because slots are never moved between intent and
 * publish, and an item's place is not reused before the intent is cleared.
 *
 * A session numbers its requests 1, 2, 3 ..., has at most SHM_RESULTS without an
 * answer, and sends the unanswered again, in order, on a new connection.
 * Result of request n: result[n % SHM_RESULTS], if its request word says n.
 *
 * at_pool says where an engine that died was at work: the supervisor counts crashes by it.
 *
 * A lease: one session may compute the value of one key, which is meant by its hash (64 bits, of a secret seed:
 * two keys that share one wait for each other, no more).  Its token is an LSN that was taken
 * for it, so an entry of a higher version was written since, and the lease is over.  It outlives the engine, and not its
 * session.  The token is stored last (release) when it begins, cleared first when it is over.
 *
 * The slow log: request n of it (from 1 on, also across engines) stands at slow[(n - 1) % n_slow].  Its number is 0 while
 * it is written, and stored last (release); who copies it compares the number behind that, and takes it only if
 * it is still the same.  An engine that dies while it writes one leaves a 0: that one is lost.  It holds the beginnings of
 * keys, so only tools of the admin socket are handed the journal, read-only: their users may read everything anyway.
 *
 * Invariants:
 *   I15  intent.state is NONE or SET; when SET its slot lies in a TABLE run, or is a store's epoch or id, or an item's expiry
 */
#ifndef HC_LAYOUT_JOURNAL_H
#define HC_LAYOUT_JOURNAL_H

#include "l_segment.h"

#define SHM_RESULTS 64
#define SHM_LEASES 4096

#define SHM_INTENT_CONTROL 0xffffffffu /* no pool: slot_off is of the control segment */
#define SHM_INTENT_ENGINE 0xffffffffu  /* no session: the engine does it by itself */

enum shm_intent_state {
	SHM_INTENT_NONE = 0,
	SHM_INTENT_SET = 1,
};

struct shm_intent {
	shm_u64 state;      /* [W: eng; R: eng] enum shm_intent_state; stored after the rest (release) */
	uint32_t session;   /* [W: eng; R: eng] session slot; ~0: the engine's own (eviction, expiry) */
	uint32_t pool_idx;  /* [W: eng; R: eng] which pool, or SHM_INTENT_CONTROL */
	uint64_t session_id; /* [W: eng; R: eng] of that session */
	uint64_t request;   /* [W: eng; R: eng] the session's request number */
	uint64_t lsn;       /* [W: eng; R: eng] of the mutation */
	uint64_t slot_off;  /* [W: eng; R: eng] offset of the slot word in that pool, bytes */
	uint64_t old_word;  /* [W: eng; R: eng] slot word before */
	uint64_t new_word;  /* [W: eng; R: eng] slot word after */
	uint32_t verb;      /* [W: eng; R: eng] enum hc_verb */
	int32_t status;     /* [W: eng; R: eng] result status if it happens */
	uint64_t value;     /* [W: eng; R: eng] result value if it happens; of a touch the version */
	uint64_t feed_sequence; /* [W: eng; R: eng] the feed's entry of it gets this number; 0: it gets none */
	uint64_t feed_time_ns;  /* [W: eng; R: eng] and this time */
	uint32_t feed_pool;     /* [W: eng; R: eng] in the feed of this pool */
	uint16_t feed_what;     /* [W: eng; R: eng] enum shm_feed_what */
	uint16_t feed_why;      /* [W: eng; R: eng] enum shm_feed_why */
	uint64_t pad0[3];       /* [W: none] */
};
SHM_SIZE(shm_intent, 128);
SHM_AT(shm_intent, state, 0);
SHM_AT(shm_intent, session, 8);
SHM_AT(shm_intent, pool_idx, 12);
SHM_AT(shm_intent, session_id, 16);
SHM_AT(shm_intent, request, 24);
SHM_AT(shm_intent, lsn, 32);
SHM_AT(shm_intent, slot_off, 40);
SHM_AT(shm_intent, old_word, 48);
SHM_AT(shm_intent, new_word, 56);
SHM_AT(shm_intent, verb, 64);
SHM_AT(shm_intent, status, 68);
SHM_AT(shm_intent, value, 72);
SHM_AT(shm_intent, feed_sequence, 80);
SHM_AT(shm_intent, feed_time_ns, 88);
SHM_AT(shm_intent, feed_pool, 96);
SHM_AT(shm_intent, feed_what, 100);
SHM_AT(shm_intent, feed_why, 102);

struct shm_result {
	shm_u64 request; /* [W: eng, last; R: eng] request number that this answers; 0: none */
	uint64_t lsn;    /* [W: eng; R: eng] of the mutation; 0: it changed nothing */
	int32_t status;  /* [W: eng; R: eng] 0, or a number of hypercache.h */
	uint32_t verb;   /* [W: eng; R: eng] enum hc_verb */
	uint64_t value;  /* [W: eng; R: eng] by verb */
};
SHM_SIZE(shm_result, 32);
SHM_AT(shm_result, request, 0);
SHM_AT(shm_result, lsn, 8);
SHM_AT(shm_result, status, 16);
SHM_AT(shm_result, verb, 20);
SHM_AT(shm_result, value, 24);

struct shm_journal_session {
	shm_u64 session_id; /* [W: eng; R: eng] whose results these are; 0: nobody's */
	shm_u64 folded;     /* [W: eng; R: eng] the session here whose counts are in the totals */
	uint64_t pad0[6];   /* [W: none] */
	struct shm_result result[SHM_RESULTS]; /* [W: eng; R: eng] by request number */
	uint8_t pad1[1984]; /* [W: none] */
};
SHM_SIZE(shm_journal_session, 4096);
SHM_AT(shm_journal_session, session_id, 0);
SHM_AT(shm_journal_session, folded, 8);
SHM_AT(shm_journal_session, result, 64);

/* What the totals are to be when a session's counts have come to them (eng_fold.c). */
#define SHM_FOLD_STORES 64
#define SHM_FOLD_BLOCK 8
struct shm_fold {
	shm_u64 session_id; /* [W: eng, last; R: eng] of the session; 0: none is under way */
	uint32_t slot;      /* [W: eng; R: eng] of that session */
	uint32_t pad0;      /* [W: none] */
	uint64_t hits[SHM_FOLD_STORES];      /* [W: eng; R: eng] folded_hits, by index of the store */
	uint64_t misses[SHM_FOLD_STORES];    /* [W: eng; R: eng] folded_misses */
	uint64_t hit_bytes[SHM_FOLD_STORES]; /* [W: eng; R: eng] folded_hit_bytes */
	uint64_t block[SHM_FOLD_BLOCK];      /* [W: eng; R: eng] enum shm_block_counter, of all sessions */
	uint64_t pad1[6];   /* [W: none] */
};
SHM_SIZE(shm_fold, 1664);
SHM_AT(shm_fold, session_id, 0);
SHM_AT(shm_fold, slot, 8);
SHM_AT(shm_fold, hits, 16);
SHM_AT(shm_fold, misses, 528);
SHM_AT(shm_fold, hit_bytes, 1040);
SHM_AT(shm_fold, block, 1552);

struct shm_lease {
	shm_u64 token;        /* [W: eng, last; R: eng] its LSN, which the holder shows; 0: free */
	uint64_t store_id;    /* [W: eng; R: eng] shm_store_entry.id */
	uint64_t hash;        /* [W: eng; R: eng] of the key */
	uint64_t session_id;  /* [W: eng; R: eng] whose it is */
	uint64_t request;     /* [W: eng; R: eng] the request that it answered */
	uint64_t deadline_ns; /* [W: eng; R: eng] CLOCK_MONOTONIC: from then on who asks gets it */
	uint32_t epoch;       /* [W: eng; R: eng] low 32 bits of shm_store_entry.epoch: a clear ends it */
	uint32_t lease_ms;    /* [W: eng; R: eng] the time from its begin to the deadline */
	uint32_t session;     /* [W: eng; R: eng] its slot */
	uint32_t pad0;        /* [W: none] */
};
SHM_SIZE(shm_lease, 64);
SHM_AT(shm_lease, token, 0);
SHM_AT(shm_lease, store_id, 8);
SHM_AT(shm_lease, hash, 16);
SHM_AT(shm_lease, session_id, 24);
SHM_AT(shm_lease, request, 32);
SHM_AT(shm_lease, deadline_ns, 40);
SHM_AT(shm_lease, epoch, 48);
SHM_AT(shm_lease, lease_ms, 52);
SHM_AT(shm_lease, session, 56);

#define SHM_SLOWS 256
#define SHM_SLOW_KEY_BYTES 48
#define SHM_SLOW_WORDS 31

/* Where a request was, X(name, meaning).  They add up to the whole; a new one is appended. */
#define SHM_SLOW_STAGES(X) \
	X(wait, "in the engine's buffer: others were at work") \
	X(decode, "its frame was decoded; 0 for a frame below 64 KiB: part of work") \
	X(room, "room was made for it: evictions, sweeps, compaction") \
	X(log, "its answer waited for the log on disk: an entry of its own") \
	X(work, "looked up, copied, published") \
	X(answer, "its answer was put together; 0 for a frame below 64 KiB: part of work")
#define X_SLOW_(name, meaning) SHM_SLOW_##name,
enum shm_slow_stage { SHM_SLOW_STAGES(X_SLOW_) SHM_SLOW_N };
#undef X_SLOW_

/* What the words of a struct shm_slow are: in memory of one's own. */
struct shm_slow_rec {
	uint64_t time_ns;    /* [W: eng; R: eng, tools] CLOCK_REALTIME of its end */
	uint64_t session_id; /* [W: eng; R: eng, tools] whose it was */
	uint64_t store_id;   /* [W: eng; R: eng, tools] shm_store_entry.id; 0: of no store */
	uint64_t hash;       /* [W: eng; R: eng, tools] of the key, with the daemon's seed; 0: it has none */
	uint64_t lsn;        /* [W: eng; R: eng, tools] of the mutation; 0: it changed nothing */
	uint64_t key_bytes;   /* [W: eng; R: eng, tools] bytes */
	uint64_t value_bytes; /* [W: eng; R: eng, tools] bytes */
	uint64_t stage_ns[8]; /* [W: eng; R: eng, tools] enum shm_slow_stage */
	uint32_t verb;       /* [W: eng; R: eng, tools] enum hc_verb */
	int32_t status;      /* [W: eng; R: eng, tools] as it was answered; 0 too if there is no answer yet */
	uint32_t n_items;    /* [W: eng; R: eng, tools] of a batch, else 0 */
	uint32_t pid;        /* [W: eng; R: eng, tools] of the session's process; 0: unknown */
	uint32_t uid;        /* [W: eng; R: eng, tools] of the process that connected */
	uint32_t session;    /* [W: eng; R: eng, tools] its slot */
	uint8_t pad0[56];    /* [W: none] zero */
	uint8_t key[SHM_SLOW_KEY_BYTES]; /* [W: eng; R: eng, tools] the first ones of the key; what it does not have is zero */
};
SHM_SIZE(shm_slow_rec, 248);
SHM_AT(shm_slow_rec, time_ns, 0);
SHM_AT(shm_slow_rec, session_id, 8);
SHM_AT(shm_slow_rec, store_id, 16);
SHM_AT(shm_slow_rec, hash, 24);
SHM_AT(shm_slow_rec, lsn, 32);
SHM_AT(shm_slow_rec, key_bytes, 40);
SHM_AT(shm_slow_rec, value_bytes, 48);
SHM_AT(shm_slow_rec, stage_ns, 56);
SHM_AT(shm_slow_rec, verb, 120);
SHM_AT(shm_slow_rec, status, 124);
SHM_AT(shm_slow_rec, n_items, 128);
SHM_AT(shm_slow_rec, pid, 132);
SHM_AT(shm_slow_rec, uid, 136);
SHM_AT(shm_slow_rec, session, 140);
SHM_AT(shm_slow_rec, pad0, 144);
SHM_AT(shm_slow_rec, key, 200);

struct shm_slow {
	shm_u64 number;               /* [W: eng, last; R: eng, tools] counts; 0: none, or not whole */
	shm_u64 word[SHM_SLOW_WORDS]; /* [W: eng; R: eng, tools] a struct shm_slow_rec */
};
SHM_SIZE(shm_slow, 256);
SHM_AT(shm_slow, number, 0);
SHM_AT(shm_slow, word, 8);

struct shm_journal {
	struct shm_segment seg;   /* [W: sup at create; R: eng, tools] kind JOURNAL */
	struct shm_intent intent; /* [W: eng; R: eng] the mutation that is under way */
	uint32_t n_sessions;      /* [W: sup at create; R: eng] entries behind the header */
	uint32_t pad0;            /* [W: none] */
	uint64_t frames_off;      /* [W: sup at create; R: eng] bytes; WAL staging frames */
	uint64_t frames_bytes;    /* [W: sup at create; R: eng] 0: no durable store */
	shm_u64 at_pool;          /* [W: eng; R: sup] 1 + index of the pool that it is at work on; 0: none */
	uint64_t leases_off;      /* [W: sup at create; R: eng] bytes */
	uint32_t n_leases;        /* [W: sup at create; R: eng] 0: engines keep them in memory of their own */
	uint32_t n_slow;          /* [W: sup at create; R: eng, tools] 0: there is no slow log */
	uint64_t slow_off;        /* [W: sup at create; R: eng, tools] bytes */
	shm_u64 recovered;        /* [W: eng; R: eng] not 0: memory holds what the log and its checkpoints hold */
	struct shm_fold fold;     /* [W: eng; R: eng] the counts that are under way to the totals */
	uint8_t pad2[2176];       /* [W: none] reserved: zero until a minor says otherwise */
};
SHM_SIZE(shm_journal, 4096);
SHM_AT(shm_journal, intent, 64);
SHM_AT(shm_journal, n_sessions, 192);
SHM_AT(shm_journal, frames_off, 200);
SHM_AT(shm_journal, frames_bytes, 208);
SHM_AT(shm_journal, at_pool, 216);
SHM_AT(shm_journal, leases_off, 224);
SHM_AT(shm_journal, n_leases, 232);
SHM_AT(shm_journal, n_slow, 236);
SHM_AT(shm_journal, slow_off, 240);
SHM_AT(shm_journal, recovered, 248);
SHM_AT(shm_journal, fold, 256);

#endif
