/* pool.h - the engine's hold on one pool: every change of an entry happens here.
 *
 *   shm_pool_set      make the item, intend, publish in one store, retire the old
 *   shm_pool_delete   intend, clear the slot in one store, retire
 *   shm_pool_clear    a whole store, in one store; shm_pool_find_void finds what it left
 *   shm_pool_unlink   the engine's own removal (eviction, expiry), by place
 *   shm_pool_move     the same entry at another place (compaction)
 *   shm_pool_sweep    give back what nobody pins, overwritten if the pool is scrubbed
 *
 * Retired places wait in limbo; shm_pool_sweep() after shm_scan_pins() frees
 * those that no pin names.  One barrier and one scan serve all pools.
 *
 * Who may call what: one thread, the engine, all of it.  A reader may look at any
 * time, and the engine may die at any instruction.
 */
#ifndef HC_SHM_POOL_H
#define HC_SHM_POOL_H

#include "alloc.h"
#include "feed.h"
#include "journal.h"
#include "key.h"
#include "scan.h"

struct shm_limbo_entry {
	uint64_t off, bytes; /* place: byte offset in the pool, full size */
	bool table;          /* an index table: it waits for those that were retired before it */
};

struct shm_limbo {
	struct shm_limbo_entry *entry;
	uint32_t n, cap;
	uint64_t bytes;
};

/* One table as the engine keeps it. */
struct shm_wtable {
	struct shm_table *t; /* NULL: none */
	uint64_t off, word;
	uint32_t log2_buckets;
	uint64_t n_overflow, overflow_used; /* overflow buckets; those in a chain */
	uint64_t overflow_hint;             /* none is free below it */
	uint8_t *linked; /* 1: the overflow bucket is in a chain; private memory */
};

struct shm_wpool {
	uint8_t *base;  /* where region 0 begins; the regions follow each other */
	uint64_t bytes; /* of all regions */
	uint32_t pool_idx;
	struct shm_control *ctl;
	struct shm_pool_entry *entry; /* in ctl */
	struct shm_pool *hdr;
	struct shm_alloc *alloc;
	struct shm_wtable cur, next; /* next: while growing */
	uint64_t grow_pos;           /* chains of cur below this have moved */
	uint32_t grow_failed;        /* changes since there was no room for a larger table */
	bool tight;                  /* the overflow buckets did not suffice: growth is due early */
	uint64_t n_entries;          /* live entries */
	uint64_t n_expected;         /* for which shm_pool_expect makes the index; else 0 */
	uint64_t live_bytes;         /* keys and values of live entries */
	uint64_t waste_bytes;        /* their places, less that: headers and rounding */
	uint64_t index_bytes;        /* the runs of cur and next */
	uint64_t unusable_bytes;     /* given up by adoption */
	struct shm_wfeed feed;       /* the change feed; its run counts in feed_bytes */
	uint64_t feed_bytes;
	struct shm_limbo limbo;
	bool unverified; /* adopted, and not all checksums have been looked at: the caller ends that */
	bool scrub;      /* what is given back is overwritten first (SHM_POOL_SCRUB) */
};

/* Tells the engine about each entry that adoption found good; and, with item NULL, now and then that
 * it goes on: for a sign of life. */
typedef void shm_pool_each(void *arg, uint64_t off, const struct shm_item *item);
/* Barrier and scan of all sessions' pins (shm_scan_pins), now.  The set stays the caller's. */
typedef const struct shm_pinset *shm_pool_scan(void *arg);

/* Takes hold of the pool mapped at base.  Formats it if it never was, else adopts
 * it: checks table, links and item headers, finishes a half-moved chain, drops
 * what is damaged (counted in adopt_dropped), calls `each` for the rest.  Then, after
 * the last slot was cleared, what no slot names and a pin holds becomes limbo, the
 * rest free (rule P15).  scan is called twice: at the beginning, where an incomplete
 * set means that nothing may be reused, and -EBUSY is returned with nothing done (the
 * caller waits for those sessions to end); and for that last step.  j: where changes without a request are
 * intended (NULL: nowhere, nobody else looks at this memory), for the change feed, which the pool gets if its directory entry says so and there is room.
 * 0, -ENOMEM, -EINVAL (regions), -EBADMSG (header or table damaged beyond use), -EBUSY. */
int shm_pool_open(struct shm_wpool *w, void *base, struct shm_control *ctl, struct shm_journal *j,
	uint32_t pool_idx, shm_pool_scan *scan, shm_pool_each *each, void *arg);
void shm_pool_close(struct shm_wpool *w);

/* The id that the pool will have in the directory, of one that was opened before it is there. */
void shm_pool_name(struct shm_wpool *w, uint64_t id);

/* A further region: the next one of entry->region[], mapped behind the others.  All of it is free
 * then.  0, -ENOMEM, -EINVAL: nothing changed. */
int shm_pool_add_region(struct shm_wpool *w, uint32_t region_idx);

/* On which condition something is written, and how. */
enum shm_set_mode {
	SHM_SET = 0,        /* whatever there is */
	SHM_ADD = 1,        /* only if there is none */
	SHM_REPLACE = 2,    /* only if there is one */
	SHM_IF_VERSION = 3, /* only if there is one, of this version */
	SHM_IF_NEWER = 4,   /* only if there is none, or its stamp is lower */
	SHM_APPEND = 5,  /* value goes behind the one that is there; version: 0, or as IF_VERSION */
	SHM_PREPEND = 6, /* before it */
	SHM_SET_MODES
};

/* What is written. */
struct shm_set {
	struct shm_key key;
	enum shm_set_mode mode;
	bool old_only; /* a key that is absent is taken note of (an LSN) and not kept: POOL_NOT_KEPT */
	uint64_t version; /* see the modes */
	const void *value;
	uint64_t value_bytes;
	uint32_t flags;
	uint32_t ttl_ms;      /* as asked, saturated */
	uint64_t expiry_ns;   /* engine's CLOCK_MONOTONIC, 0: never */
	uint64_t now_wall_ns; /* CLOCK_REALTIME */
	uint64_t now_ms;      /* engine's CLOCK_MONOTONIC */
	uint64_t stamp;       /* of a FRESH one the word of l_item.h */
	uint64_t marks;       /* SHM_LENS_MARKS */
	uint64_t max_bytes;   /* APPEND, PREPEND: what the sum may be */
};

struct shm_changed {
	uint64_t lsn;
	uint64_t off; /* where the entry is now, also with POOL_FULL; 0: nowhere */
	uint64_t
		old_off; /* what it replaced or removed, in limbo now (its note is still there); 0: nothing */
	uint64_t old_kv_bytes;    /* key and value bytes of that */
	uint64_t old_place_bytes; /* of its place */
	uint64_t
		place_bytes; /* of the new place; with POOL_FULL: what was wanted, if it is known */
	uint64_t old_store_id; /* store of what went */
	uint64_t answer;       /* value of the result, as the journal has it */
	uint64_t log_lsn;      /* of the record that req->log got; 0: none */
};

enum {
	POOL_MISS = 1, /* there is no such entry */
	POOL_FULL = 2,
	POOL_CHAIN_FULL = 3,
	POOL_EXISTS = 4,     /* ADD: there is one; ret->lsn is its version */
	POOL_CONFLICT = 5,   /* it has another version: ret->lsn */
	POOL_OLDER = 6,      /* IF_NEWER: its stamp is as high or higher; ret->lsn is its version */
	POOL_TOO_LARGE = 7,  /* APPEND, PREPEND: the sum is more than max_bytes */
	POOL_NOT_KEPT = 9,   /* old_only, and there is none; ret->lsn was taken for it */
	POOL_NOT_NUMBER = 8, /* incr: the value is not a decimal number of 64 bits */
};

/* Sets a key.  0 and *ret; POOL_MISS, POOL_EXISTS, POOL_CONFLICT, POOL_OLDER, POOL_TOO_LARGE
 * by its mode; POOL_NOT_KEPT; POOL_FULL: no place of that size: make room and call
 * again; POOL_CHAIN_FULL: the key's chain has no free slot and cannot get one:
 * unlink *ret->old_off (a live entry of that chain) and call again.  Nothing has changed then.
 * req and the result go through the journal; ret->answer is 1 when a live entry was
 * replaced.  STEPs set:*. */
int shm_pool_set(struct shm_wpool *w, struct shm_journal *j, const struct shm_req *req,
	const struct shm_set *set, struct shm_changed *ret);

/* An entry as it was: what a log or a checkpoint has of it. */
struct shm_after {
	struct shm_set
		set; /* mode, version, old_only and max_bytes are not looked at; now_wall_ns: its modified_ns */
	uint64_t version, created_ns;
	uint64_t access; /* as of l_item.h */
};

/* Puts it in place of nothing, of an older version, or of what is void; its own version is kept, and none is taken.  For
 * an engine that does not serve yet: no journal, no feed.  0 and *ret as of shm_pool_set; POOL_OLDER: what is there is as new, or
 * newer (ret->lsn: its version; its time may be over); POOL_FULL, POOL_CHAIN_FULL as of shm_pool_set. */
int shm_pool_apply(struct shm_wpool *w, const struct shm_after *after, struct shm_changed *ret);
/* The same for its time alone: the entry at off, which shm_pool_find gave. */
void shm_pool_apply_expiry(struct shm_wpool *w, uint64_t off, uint64_t expiry_ns);

/* So many entries are to come: the index is made as large as it will be, while that moves little.  As far as there
 * is room; what fewer of them there are then costs their part of it. */
void shm_pool_expect(struct shm_wpool *w, uint64_t n_entries);
/* One of this hash comes soon. */
void shm_pool_ask(const struct shm_wpool *w, uint64_t hash);

/* As shm_pool_find_void, of the entries of a store that have a version below `version`. */
uint32_t shm_pool_find_below(struct shm_wpool *w, uint64_t *cursor, uint32_t chains,
	uint64_t store_id, uint64_t version, uint64_t *off, uint32_t max);

/* A number in an entry: ASCII decimal, as other caches keep them. */
struct shm_incr {
	struct shm_set
		set; /* key, times, ttl and flags of a new entry; value and mode are not used */
	int64_t delta, initial;
	bool wrap;       /* past the end of 64 bits; else it stays there (saturates) */
	bool must_exist; /* POOL_MISS instead of a new entry with `initial` */
};

/* Adds delta.  0, *ret and *ret_number (the sum, or initial for a new entry);
 * POOL_NOT_NUMBER, POOL_MISS, POOL_FULL, POOL_CHAIN_FULL as shm_pool_set. */
int shm_pool_incr(struct shm_wpool *w, struct shm_journal *j, const struct shm_req *req,
	const struct shm_incr *in, struct shm_changed *ret, int64_t *ret_number);

/* Gives an entry another expiry (engine's CLOCK_MONOTONIC, 0: never, POOL_EXPIRY_KEEP): one store, no new item, the
 * same version.  0 (ret->lsn: its version, ret->off) or POOL_MISS.  STEPs touch:*.
 * Of one that keeps its time, a use, the feed says nothing. */
#define POOL_EXPIRY_KEEP UINT64_MAX /* it keeps the time that it has */
int shm_pool_touch(struct shm_wpool *w, struct shm_journal *j, const struct shm_req *req,
	const struct shm_key *key, uint64_t now_ns, uint64_t expiry_ns, struct shm_changed *ret);

/* Deletes a key.  A log hears of it also if the key is absent.  0 and *ret; POOL_MISS; POOL_CONFLICT: version is not 0 and not the
 * entry's.  An expired entry counts as absent, but goes (*ret is set: old_off).  -ENOMEM.
 * STEPs delete:*. */
int shm_pool_delete_if(struct shm_wpool *w, struct shm_journal *j, const struct shm_req *req,
	const struct shm_key *key, uint64_t version, uint64_t now_ns, struct shm_changed *ret);
static inline int shm_pool_delete(struct shm_wpool *w, struct shm_journal *j,
	const struct shm_req *req, const struct shm_key *key, uint64_t now_ns,
	struct shm_changed *ret)
{
	return shm_pool_delete_if(w, j, req, key, 0, now_ns, ret);
}

/* Makes all entries of a store void by one store to its epoch, whatever their number; the store's index
 * is that of the control segment.  ret->lsn; the value of the result is `answer`.  STEPs clear:*. */
void shm_pool_clear(struct shm_wpool *w, struct shm_journal *j, const struct shm_req *req,
	uint32_t store_idx, uint64_t answer, struct shm_changed *ret);

/* Names entries whose store was cleared or dropped, in `chains` chains from *cursor on (a hash
 * prefix, 0: from the beginning).  Fills off[], returns how many.  When all of them fitted
 * into max, *cursor moves on, to 0 behind the last chain; else the caller unlinks those
 * and calls again. */
uint32_t shm_pool_find_void(
	struct shm_wpool *w, uint64_t *cursor, uint32_t chains, uint64_t *off, uint32_t max);

/* Version of the live entry of that key, also of one that says that there is none; 0: there is none. */
uint64_t shm_pool_version(struct shm_wpool *w, const struct shm_key *key, uint64_t now_ns);

/* Where the entry of that key is, expired or void too; 0: there is none. */
uint64_t shm_pool_find(struct shm_wpool *w, const struct shm_key *key);

/* Removes the live entry at off.  0 and *ret, or POOL_MISS: no slot names it.  What the feed says of it: what
 * (EVICT, EXPIRE; 0: nothing, it was void) and why.  STEP unlink:intended. */
int shm_pool_unlink_as(struct shm_wpool *w, uint64_t off, enum shm_feed_what what,
	enum shm_feed_why why, struct shm_changed *ret);
static inline int shm_pool_unlink(struct shm_wpool *w, uint64_t off, struct shm_changed *ret)
{
	return shm_pool_unlink_as(w, off, SHM_FEED_EVICT, SHM_FEED_FULL, ret);
}

/* Gives the live entry at off another place of the same size; its note goes along.
 * 0 and *ret_off; POOL_FULL; POOL_MISS: no slot names it. */
int shm_pool_move(struct shm_wpool *w, uint64_t off, uint64_t *ret_off);

/* Frees what is in limbo and not in `pins`.  Returns bytes freed.  Adds each
 * session's share to sessions[].pinned_bytes.  pins->complete == false: frees nothing. */
uint64_t shm_pool_sweep(
	struct shm_wpool *w, const struct shm_pinset *pins, struct shm_scan_session *sessions);

/* A bounded step of index growth when one is under way or due; true: more is left.
 * shm_pool_set does a few steps itself. */
bool shm_pool_grow_step(struct shm_wpool *w, uint32_t chains);

/* Bytes of the run that a due growth of the index waits for, 0: none.  The engine
 * may make room for it (shm_alloc_window); the index serves on with longer chains. */
uint64_t shm_pool_grow_wants(const struct shm_wpool *w);

/* Checksums behind an adoption: goes on from *cursor (0: the beginning) through about so many bytes of entries, and
 * moves it; 0 again: all was looked at.  Returns how many damaged ones were found, at most max: their places in
 * off; when it is max, the cursor stands still and the caller unlinks them first. */
uint32_t shm_pool_find_damaged(
	struct shm_wpool *w, uint64_t *cursor, uint64_t bytes, uint64_t *off, uint32_t max);
/* Has the item, whose lengths were checked, its checksum? */
bool shm_pool_item_is_whole(const struct shm_item *it);

/* Limbo, for pool.c and index_write.c: room for n more entries is reserved before
 * anything is unlinked, so that retiring cannot fail.  0 or -ENOMEM. */
int shm_limbo_reserve(struct shm_wpool *w, uint32_t n);
void shm_limbo_add(struct shm_wpool *w, uint64_t off, uint64_t bytes);
void shm_limbo_add_table(struct shm_wpool *w, uint64_t off, uint64_t bytes);

/* The item at a live offset. */
static inline struct shm_item *shm_pool_item(const struct shm_wpool *w, uint64_t off)
{
	return (struct shm_item *)(void *)(w->base + off);
}

/* Writes the pool's gauges into the control segment.  To be called after each batch of
 * changes: a checker compares them only while nothing has changed since. */
void shm_pool_account(struct shm_wpool *w);

/* Overwrites with zeroes what is to be free, if the pool is scrubbed. */
void shm_limbo_scrub(struct shm_wpool *w, uint64_t off, uint64_t bytes);

/* Around every change, for pool.c and limbo.c: the pool's counter `changes` is odd in between. */
void shm_pool_change(struct shm_wpool *w);

#endif
