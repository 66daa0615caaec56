/* journal.h - exactly once: the intent and the results (layout/l_journal.h).  Engine only. */
#ifndef HC_SHM_JOURNAL_H
#define HC_SHM_JOURNAL_H

#include "layout/l_control.h"
#include "layout/l_journal.h"
#include "wlog.h"

/* Who asks for a mutation. */
struct shm_req {
	uint32_t session; /* slot; SHM_REQ_ENGINE: the engine itself */
	uint32_t verb;    /* enum wire_verb */
	uint64_t session_id;
	uint64_t request;     /* 1.. */
	struct shm_wlog *log; /* that is told of what changes; NULL: none */
};
#define SHM_REQ_ENGINE SHM_INTENT_ENGINE

uint64_t shm_journal_bytes(uint32_t n_sessions); /* without leases and slow log */
uint64_t shm_journal_bytes_all(uint32_t n_sessions);
/* With so many for the log's frames; a multiple of pages.  They begin where it has ended without them. */
uint64_t shm_journal_bytes_staged(uint32_t n_sessions, uint64_t frames_bytes);
/* The leases, *ret_n of them; NULL and 0: the journal has none. */
struct shm_lease *shm_journal_leases(struct shm_journal *j, uint32_t *ret_n);

/* Where the slow log of a journal begins that has leases. */
uint64_t shm_journal_slow_off(uint32_t n_sessions);
/* The slow log of a journal of so many bytes; NULL: it has none, or says nonsense of it. */
const struct shm_slow *shm_journal_slow(
	const struct shm_journal *j, uint64_t bytes, uint32_t *ret_n);
/* Entry n of it, from 1 on.  The engine alone. */
void shm_slow_put(
	struct shm_slow *log, uint32_t n_slow, uint64_t n, const struct shm_slow_rec *rec);
/* What stands at place i.  Its number; 0: nothing, or it is being written. */
uint64_t shm_slow_get(const struct shm_slow *log, uint32_t i, struct shm_slow_rec *ret);

/* The recorded result of a request, or NULL: it has not been applied. */
const struct shm_result *shm_journal_find(
	const struct shm_journal *j, uint32_t session, uint64_t session_id, uint64_t request);

/* Begins the results of a session in its slot: forgets those of the slot's last one. */
void shm_journal_open(struct shm_journal *j, uint32_t session, uint64_t session_id);

/* The three moments around a publish; see layout/l_journal.h.  What the feed will say has been written before
 * (shm_feed_foretell): without it nothing is intended for the engine itself. */
void shm_journal_intend(struct shm_journal *j, const struct shm_req *req, uint32_t pool_idx,
	uint64_t lsn, uint64_t slot_off, uint64_t old_word, uint64_t new_word, uint64_t value);
void shm_journal_finish(struct shm_journal *j, const struct shm_req *req, uint64_t lsn,
	int32_t status, uint64_t value); /* result, then clears the intent */

/* For a new engine, before shm_journal_decide: did the change of the intent happen, though perhaps nobody was told?
 * Its LSN; 0: it did not, or there is no (sound) intent. */
uint64_t shm_journal_happened(const struct shm_journal *j, const struct shm_control *ctl,
	uint8_t *const *bases, const uint64_t *bytes, uint32_t n_pools);

/* For a new engine, before anything else: completes or drops the intent by the
 * word that its slot holds now (bases[pool_idx] + slot_off, bytes[] bounds, 0: no such pool; or an epoch in ctl).
 * 0: there was none; 1: it had happened; 2: it had not; -EBADMSG: damaged (dropped). */
int shm_journal_decide(struct shm_journal *j, const struct shm_control *ctl, uint8_t *const *bases,
	const uint64_t *bytes, uint32_t n_pools);

#endif
