/* atomic.h - the only way to touch a shm_u32 or shm_u64.
 *
 * Every acquire names the release that it waits for, and the other way round, by
 * a tag in a comment on its line or the line before:  acq:NAME   rel:NAME
 * tools/check-pairs fails when a tag has only one side.
 *
 * The pairs of this project, and why each is needed:
 *
 *   segment.magic   magic seen -> the header is whole
 *   pool.table      table word seen -> the table's empty or copied buckets are whole
 *   pool.regions    number of regions seen -> the last one's place and size are whole
 *   pool.mapped     bytes of a mapping seen -> they are mapped (threads of one client)
 *   index.slot      slot word seen -> the item is whole (rule P2; the re-check too)
 *   index.moved     MOVED seen -> the copy in the next table is there (rule P6)
 *   pin.word        a cleared pin seen -> the reader's loads of the item are over;
 *                   a set one is made visible by the barrier, not by this pair
 *   hint.head       head seen -> the hints below it are there
 *   entry.id        directory entry seen -> its name and sizes are there
 *   entry.reuse     a word of a new store seen -> the former id is seen to be gone
 *   control.lsn     an LSN seen -> the changes of those before it are seen
 *   fold.totals     number of folds seen -> the totals are not older than it
 *   fold.intent     a later engine sees the whole of a fold (death, not concurrency)
 *   intent.state, result.request, journal.session   a later engine sees whole records (death, not concurrency)
 *   lease.token     a later engine sees a whole lease (death, not concurrency)
 *   lease.word      the word seen changed -> what was waited for is there
 *   client.blocks   a block counted -> its pins are looked at (the barrier makes both visible)
 *   pool.accounts   the number of changes seen -> the gauges are not older than it
 *   slow.number     number seen -> the entry of the slow log is whole; compared again behind the copy
 *   feed.head       head seen -> the entries before it are whole (P28)
 *   feed.tail       a word of a later entry seen -> tail is seen to be past it (P28)
 *   feed.oldest     tail seen -> head is seen to be past it (P28)
 *   feed.off        feed_off seen -> the feed's header is whole
 *   book.at         the place seen -> the text there is whole (death, not concurrency)
 *   hot.keys        the number of changes seen -> the hot keys are not older than it
 *   wal.magic, wal.head, wal.tail, wal.bytes, wal.unsettled   a later engine sees whole frames in the log's staging
 *                   (death, not concurrency)
 *   journal.recovered   a later engine sees all that recovery has stored (death, not concurrency)
 *   gen.pin         the copy's loads come before the generation is looked at again (P12)
 *
 * C11 orders through the compiler's builtins: right on x86-64 and arm64.
 */
#ifndef HC_SHM_ATOMIC_H
#define HC_SHM_ATOMIC_H

#include <stdatomic.h>
#include "layout/l_base.h"

static inline uint64_t shm_load_rlx(const shm_u64 *x)
{
	return __atomic_load_n(&x->v, __ATOMIC_RELAXED);
}
static inline uint64_t shm_load_acq(const shm_u64 *x)
{
	return __atomic_load_n(&x->v, __ATOMIC_ACQUIRE);
}
static inline void shm_store_rlx(shm_u64 *x, uint64_t v)
{
	__atomic_store_n(&x->v, v, __ATOMIC_RELAXED);
}
static inline void shm_store_rel(shm_u64 *x, uint64_t v)
{
	__atomic_store_n(&x->v, v, __ATOMIC_RELEASE);
}
static inline uint32_t shm_load32_rlx(const shm_u32 *x)
{
	return __atomic_load_n(&x->v, __ATOMIC_RELAXED);
}
static inline uint32_t shm_load32_acq(const shm_u32 *x)
{
	return __atomic_load_n(&x->v, __ATOMIC_ACQUIRE);
}
static inline void shm_store32_rlx(shm_u32 *x, uint32_t v)
{
	__atomic_store_n(&x->v, v, __ATOMIC_RELAXED);
}
static inline void shm_store32_rel(shm_u32 *x, uint32_t v)
{
	__atomic_store_n(&x->v, v, __ATOMIC_RELEASE);
}

/* A plain word of memory that may be damaged while it is looked at: loaded one time, whatever is done with it. */
static inline uint64_t shm_load_once(const uint64_t *x)
{
	return __atomic_load_n(x, __ATOMIC_RELAXED);
}

/* Words that get another meaning while somebody may copy them, guarded by an id: the writer takes the id
 * away, calls the first, writes, and puts the new id there; the reader loads the id (acquire), copies,
 * calls the second, and loads the id again. */
static inline void shm_reuse_begins(void) { atomic_thread_fence(memory_order_release); }
static inline void shm_copy_over(void) { atomic_thread_fence(memory_order_acquire); }

/* A counter with one writer: no locked instruction, never torn. */
static inline void shm_count(shm_u64 *x, uint64_t n)
{
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
	/* What the other line means, in one instruction; compilers make three of it. */
	__asm__("addq %1, %0" : "+m"(x->v) : "er"(n));
#else
	shm_store_rlx(x, shm_load_rlx(x) + n);
#endif
}

#endif
