/* read.h - look-up through a read-only mapping: the reader's half of the protocol.
 *
 *   1  load the table word, pin the table, load the word again          rule P7
 *   2  walk the chain of hash's bucket: slots with the right tag
 *   3  pin the item: a release store into the reader's own block        rule P2
 *   4  load the slot again, then the table word: changed -> from 1
 *   5  bound everything, compare the key, look at the expiry            rule P4
 *   6  unpin the table; the item stays pinned in `cell` for the caller
 *
 * Why 3 and 4 are enough, and why no reader ever waits: see scan.h and
 * shm/README.md.  The loops are bounded; a look-up that cannot win says so.
 *
 * Any number of threads, each with its own struct shm_reader.  No system call, no
 * store outside the reader's own block.  May be killed anywhere.
 */
#ifndef HC_SHM_READ_H
#define HC_SHM_READ_H

#include <stdbool.h>
#include "atomic.h"
#include "key.h"
#include "layout/l_client.h"
#include "layout/l_control.h"
#include "layout/l_pool.h"
#include "layout/l_table.h"

/* A pool as it is mapped in this process. */
struct shm_map {
	const uint8_t *base; /* of region 0; regions follow each other */
	uint64_t bytes;      /* that are mapped, a page at least */
	uint32_t pool_idx;
};

/* One reading thread. */
struct shm_reader {
	struct shm_block *block; /* its own, in the client's segment */
	const shm_u64 *pin_gen;  /* its session's, in the control segment */
	int64_t time_off_ns;     /* engine's CLOCK_MONOTONIC minus this process's */
	bool full_fence;         /* not registered for membarrier */
};

/* What a look-up found; the item is pinned. */
struct shm_found {
	const struct shm_item *item;
	const uint8_t *value;
	uint64_t value_bytes;
	uint64_t pin; /* the pin word */
	uint64_t gen; /* the whole pin generation, of which the word has 16 bits */
};

enum { READ_MISS = 1, READ_BUSY = 2, READ_ABSENT = 3 };

/* Finds key and pins its item in pin cell `cell`.  0 and *ret; READ_MISS: no live
 * entry; READ_ABSENT: a live one, which says that the key is known to be absent (*ret is set, but it is not
 * pinned any more); READ_BUSY: it changed at each of many tries; -EBADMSG: damage was met.
 * Unless 0 is returned, nothing is pinned. */
int shm_read_find(const struct shm_reader *r, const struct shm_map *m, const struct shm_key *key,
	uint32_t cell, struct shm_found *ret);

/* The same, without trying the simplest way first (read_find.h). */
int shm_read_find_any(const struct shm_reader *r, const struct shm_map *m,
	const struct shm_key *key, uint32_t cell, struct shm_found *ret);

/* Did everything that was read since a pin of generation `gen` was set come from the
 * pinned item?  (It did not if the engine revoked this client's pins: rule P12.) */
static inline bool shm_read_ok(const shm_u64 *pin_gen, uint64_t gen)
{
	/* acq:gen.pin: the reads of the item come before this load (rule P12). */
	atomic_thread_fence(memory_order_acquire);
	return shm_load_rlx(pin_gen) == gen;
}

/* Gives the pin back: after the last read of the item. */
static inline void shm_read_unpin(struct shm_block *b, uint32_t cell)
{
	/* rel:pin.word: the loads of the item come before its reuse. */
	shm_store_rel(&b->pin[cell], 0);
}

/* Hints to the processor, for batches: first for all keys the bucket, then the table is pinned, then
 * the items, whose slots are really read: a table that nobody pins may be gone (rule P30).  The next
 * look-up of this reader takes the pin over.  table_pin: the word of the table, 0: it changes just now. */
void shm_read_prefetch_bucket(const struct shm_map *m, uint64_t hash);
uint64_t shm_read_table_pin(const struct shm_reader *r, const struct shm_map *m);
void shm_read_prefetch_item(const struct shm_map *m, uint64_t table, uint64_t hash);

/* The engine's CLOCK_MONOTONIC now. */
uint64_t shm_read_now_ns(const struct shm_reader *r);
/* Is this moment of the engine's clock over?  Asks the coarse clock, which costs a quarter, and the
 * exact one only within a second of the moment: the coarse one lags by as much as the kernel's tick
 * is late, and on a busy virtual machine that is more than its resolution says. */
bool shm_read_is_over(const struct shm_reader *r, uint64_t expiry_ns);

#endif
