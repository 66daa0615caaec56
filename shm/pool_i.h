/* pool_i.h - what pool.c and pool_set.c share. */
#ifndef HC_SHM_POOL_I_H
#define HC_SHM_POOL_I_H

#include "atomic.h"
#include "index_write.h"
#include "pool.h"
#include "step.h"

enum {
	POOL_CHAINS_PER_CHANGE = 4
}; /* growth that rides on each change: done before the next is due */

/* A value in two parts: head, then tail. */
struct pieces {
	const void *head, *tail;
	uint64_t head_bytes, tail_bytes;
};

/* What a new item has from elsewhere than from what is written. */
struct pool_stamps {
	uint64_t created_ns, access, version;
};

/* Writes the whole item at off (pool_set.c).  Nobody sees it yet. */
void pool_fill(const struct shm_wpool *w, uint64_t off, const struct shm_set *set,
	const struct pieces *v, const struct pool_stamps *stamps);

/* The next LSN, taken. */
uint64_t pool_next_lsn(struct shm_wpool *w);
/* The log of a request, if it has one, gets a record, and has it once it is committed. */
static inline void pool_log_put(const struct shm_wlog_record *r, struct shm_changed *ret)
{
	r->req->log->put(r->req->log, r);
	ret->log_lsn = r->lsn;
	STEP("log:put");
}
static inline void pool_log_commit(const struct shm_req *req, const struct shm_changed *ret)
{
	if (req->log) {
		req->log->commit(req->log, ret->log_lsn);
		STEP("log:committed");
	}
}
/* A published item enters the accounts. */
void pool_count_in(struct shm_wpool *w, uint64_t off, uint64_t place_bytes);
/* An unlinked one leaves them, and waits in limbo; ret->old_* say what went. */
void pool_retire(struct shm_wpool *w, uint64_t off, struct shm_changed *ret);

/* Is the item, found under this key, an entry at that time? */
static inline bool pool_is_live(const struct shm_item *it, uint32_t epoch, uint64_t now_ns)
{
	uint64_t expiry = shm_load_rlx(&it->expiry_ns);

	return it->epoch == epoch && (!expiry || expiry > now_ns);
}

static inline bool pool_is_absent(const struct shm_item *it) { return it->lens & SHM_LENS_ABSENT; }

/* Does the item belong to a store as it is now (rule P10)?  Else it is void. */
static inline bool pool_is_current(const struct shm_control *ctl, const struct shm_item *it)
{
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++)
		/* acq:entry.id */
		if (shm_load_acq(&ctl->store[i].id) == it->store_id)
			return (uint32_t)shm_load_rlx(&ctl->store[i].epoch) == it->epoch;
	return false;
}

#endif
