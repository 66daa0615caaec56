/* eng_apply.h - entries that come from disk: after-images of a checkpoint or of the log, put into the pools before the
 * engine serves.
 *
 *   eng_apply_begin
 *   eng_apply             every entry of a checkpoint, then every record of the log above it: over older versions
 *                         only, so what was applied already may come again
 *   eng_apply_end         what a clear voids goes; the largest LSN seen becomes the control segment's
 *
 * Nobody reads or writes the pools meanwhile: no intent, no result, no feed event.  An engine that dies in it leaves pools that can be
 * adopted, and whose loading can begin again from the front.
 * Policies, wheels and counters of the stores are kept as after a set; a pool that is too small evicts as ever.
 */
#ifndef HC_DAEMON_ENG_APPLY_H
#define HC_DAEMON_ENG_APPLY_H

#include "eng.h"

enum eng_apply_kind { ENG_APPLY_SET, ENG_APPLY_DELETE, ENG_APPLY_TOUCH, ENG_APPLY_CLEAR };

/* What a mutation left.  Times are CLOCK_REALTIME in ns. */
struct eng_after {
	enum eng_apply_kind kind;
	uint64_t store_id;
	uint64_t lsn;    /* of the mutation; of a SET the version that the entry has */
	const void *key; /* SET, DELETE, TOUCH */
	uint64_t key_bytes;
	const void *value; /* SET */
	uint64_t value_bytes;
	uint32_t flags, ttl_ms, hits;
	uint64_t marks; /* SHM_LENS_ABSENT, SHM_LENS_FRESH */
	uint64_t stamp;
	uint64_t created_ns, modified_ns, used_ns; /* 0: lsn's time is not known: now */
	uint64_t expires_ns;                       /* SET, TOUCH; 0: never */
	uint64_t fresh_until_ns, took_ms;          /* FRESH */
};

/* Counted of everything that went through eng_apply. */
struct eng_applied {
	uint64_t set, deleted, touched, cleared, older, expired, no_store, no_room;
	uint64_t bytes;   /* keys and values of `set` */
	uint64_t max_lsn; /* seen, whatever became of it */

	/* eng_apply's own */
	uint64_t wall_ns, now_ns, clock_left;
	struct eng_store *last;
	uint64_t cleared_below[SHM_STORES_MAX];
};

enum { APPLY_OLDER = 1, APPLY_EXPIRED = 2, APPLY_NO_STORE = 3, APPLY_NO_ROOM = 4 };

void eng_apply_begin(struct eng *e, struct eng_applied *to);
/* 0: done; APPLY_OLDER: what is there is as new or newer (DELETE, TOUCH: also if nothing is); APPLY_EXPIRED: its time is
 * over, nothing is there now; APPLY_NO_STORE; APPLY_NO_ROOM: it does not fit, and what it replaced is gone; -ENOMEM.
 * CLEAR at lsn c: what has a version below c is as gone from now on, in eng_apply_end also from memory. */
int eng_apply(struct eng *e, const struct eng_after *a, struct eng_applied *to);
/* It comes soon: its memory is asked for, so that the waits of several overlap.  A hint. */
void eng_apply_ask(struct eng *e, const struct eng_after *a, struct eng_applied *to);
/* Takes out what clears voided, and makes max_lsn the LSN in force if it is above. */
void eng_apply_end(struct eng *e, struct eng_applied *to);

#endif
