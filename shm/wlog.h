/* wlog.h - where a change says what it is about to do, for who keeps a log of them.
 *
 *   put       behind what the log has: the whole record     before the intent
 *   publish   the slot's word (or the epoch, the expiry)
 *   commit    now the log has it: one store                 before the feed's entry and the result
 *
 * Who dies before the publish leaves bytes behind the log's end, which nobody reads; who dies between publish and
 * commit leaves an intent, by which the next engine knows that it happened (shm_journal_happened): it commits.
 *
 * Caller: the engine, one thread.  Nothing here may fail: room for the record is seen to before the change begins.
 */
#ifndef HC_SHM_WLOG_H
#define HC_SHM_WLOG_H

#include <stdint.h>

struct shm_item;
struct shm_req;

enum shm_wlog_what {
	SHM_WLOG_SET = 1, /* the whole entry, as it is now */
	SHM_WLOG_DELETE =
		2, /* of a key, also of one that is absent: it may have been evicted (rule P26) */
	SHM_WLOG_TOUCH = 3, /* another expiry of the entry of that version */
	SHM_WLOG_CLEAR = 4, /* all entries of the store, of versions below lsn */
};

struct shm_wlog_record {
	enum shm_wlog_what what;
	uint64_t lsn;
	const struct shm_req *req; /* whose it is */
	uint64_t store_id;
	const struct shm_item *item; /* SET */
	const void *key;             /* DELETE, TOUCH */
	uint32_t key_bytes;
	uint64_t version;   /* TOUCH */
	uint64_t expiry_ns; /* TOUCH: the engine's CLOCK_MONOTONIC, 0: never */
};

struct shm_wlog {
	void (*put)(struct shm_wlog *l, const struct shm_wlog_record *r);
	void (*commit)(struct shm_wlog *l, uint64_t lsn); /* that of the last put */
};

#endif
