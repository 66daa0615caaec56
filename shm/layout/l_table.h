/* l_table.h - an index table: buckets of one cache line each.
 *
 *   | shm_table | bucket 0 | bucket 1 | ... bucket 2^k-1 | overflow 0 | ... |
 *     64 bytes    64 bytes                                 64 bytes each
 *
 *   bucket:  | slot 0 | slot 1 | ... | slot 6 | link |
 *
 *   slot   0            free
 *          tag, offset  an item whose hash has this tag
 *          MOVED        whatever was or would be here is in the next table
 *   link   0, or the next bucket of the chain, in this table's overflow part;
 *          or MOVED (with the old offset kept): the whole chain has moved
 *
 * No slot moves inside a table (rule P5): a reader that walks the chain once sees
 * every key that was there all along.  Overflow buckets belong to their table and go
 * only with it.  The last one of a chain, when it is empty, may be taken off and
 * used by another chain; a reader that stands on it misses nothing (shm/README.md, P5).
 *
 * Growth (rule P6), bucket by bucket, chain as a whole, before any other change
 * of that chain:
 *
 *   1  copy each slot to the next table          STEP grow:copied
 *   2  store MOVED into every slot of the chain  STEP grow:moved     free ones too
 *   3  when all chains have moved: pool.table <- next table   STEP grow:table-published
 *   4  the old table is retired like an item     STEP grow:table-retired
 *
 * A reader looks through all unmoved slots of the chain first; if nothing fits
 * and it saw a MOVED, it looks in the next table.  A key in the middle of its
 * move is named by both tables, by the same offset.
 *
 * Invariants:
 *   I9   log2_buckets and n_overflow fit the run that holds the table
 *   I10  a link leads to an overflow bucket of the same table; no bucket is in two chains
 *   I11  a slot's tag is its item's hash's tag, its chain the item's hash's bucket
 *   I12  MOVED occurs only while `next` is set, or in a retired table
 *
 * Death of the engine half-way through 1..2: the new engine finishes the chain
 * first (shm_index_adopt).  Between 2 and 3, or 3 and 4: it goes on from there.
 */
#ifndef HC_LAYOUT_TABLE_H
#define HC_LAYOUT_TABLE_H

#include "l_word.h"

#define SHM_BUCKET_SLOTS 7
#define SHM_CHAIN_MAX 32       /* buckets of a chain; a longer one is damage (rule P4) */
#define SHM_LOG2_BUCKETS_MAX 36
#define SHM_TABLE_MAGIC 0x454c4254u /* "TBLE" */

struct shm_bucket {
	shm_u64 slot[SHM_BUCKET_SLOTS]; /* [W: eng; R: all] slot words */
	shm_u64 link;                   /* [W: eng; R: all] link word */
};
SHM_SIZE(shm_bucket, 64);
SHM_AT(shm_bucket, slot, 0);
SHM_AT(shm_bucket, link, 56);

struct shm_table {
	uint32_t magic;        /* [W: eng before it is named; R: checker] SHM_TABLE_MAGIC */
	uint32_t log2_buckets; /* [W: eng before it is named; R: checker] also in the word that names it */
	uint64_t n_overflow;   /* [W: eng before it is named; R: checker] overflow buckets behind the others */
	shm_u64 next;          /* [W: eng; R: all] table word of the table that this one grows into, or 0 */
	shm_u64 grow_pos;      /* [W: eng; R: checker] chains below have moved (the engine may be ahead elsewhere) */
	uint64_t pad0[4];      /* [W: none] */
};
SHM_SIZE(shm_table, 64);
SHM_AT(shm_table, magic, 0);
SHM_AT(shm_table, log2_buckets, 4);
SHM_AT(shm_table, n_overflow, 8);
SHM_AT(shm_table, next, 16);
SHM_AT(shm_table, grow_pos, 24);

#endif
