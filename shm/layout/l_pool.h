/* l_pool.h - a pool: the memory that holds the entries.
 *
 *   region 0:  | header 4096 | page table | pages ...                        |
 *   region r:  | segment header, 4096 | page table of the region | pages ... |
 *
 * A pool is a space of offsets made of regions, one memfd each (shm_control.
 * pool[].region[]), one behind the other.  Pages are SHM_PAGE bytes and numbered
 * through: page n is at pool offset n * SHM_PAGE; its descriptor stands in the
 * page table of its region, entry (n - first page of the region).
 *
 * A descriptor says what a run of pages is for:
 *
 *   FREE   nothing                        run_pages: of the first page only
 *   META   header, page tables            never changes
 *   SLAB   places of one size class       items at base + i * class.item_bytes
 *   LARGE  one item                       at the run's first byte
 *   TABLE  an index table (l_table.h),    at the run's first byte
 *          or the change feed (l_feed.h)
 *   HOLE   memory that the system has back (rule P30): no reader is sent there, and whoever
 *          reads it nevertheless meets zeroes, or is killed where pages are huge
 *
 * The first page of a run carries kind, class and length, the others CONT and
 * the distance back.  The engine writes descriptors before it publishes anything
 * inside the run, and keeps all lists of free places in private memory: a new
 * engine finds out what is in use by walking the index (rule P15).
 *
 * hot: what is read most, of each store whose entries are here, the most read key first.  Keys are data, and a hash
 * tells whether one has guessed a key: so this stands in the pool, where it is seen by those only who may read
 * the keys themselves.  A hash is found in the index as a key is.  The stores share the places: each has as many
 * as the others.  `hot_changes` is odd while the engine writes them; if it dies then, until the next one does.
 *
 * Life of a pool: the supervisor makes the memfds; the first engine formats the
 * header and an empty table, and stores `table` last (release): 0 = unformatted.
 *
 * Invariants:
 *   I5  runs do not overlap and do not cross a region's end; CONT pages lead back to their run
 *   I6  `table` names a TABLE run; if that table's `next` is not 0 it names another
 *   I7  every item that a slot names lies in a SLAB run, at a place of its class, or at the
 *       start of a LARGE run, and fits
 *   I8  no two slots name the same item, but for one key in the middle of its move (rule P6)
 */
#ifndef HC_LAYOUT_POOL_H
#define HC_LAYOUT_POOL_H

#include "l_segment.h"
#include "l_word.h"

#define SHM_CLASSES_MAX 128

enum shm_page_kind {
	SHM_PAGE_FREE = 0,
	SHM_PAGE_META = 1,
	SHM_PAGE_SLAB = 2,
	SHM_PAGE_LARGE = 3,
	SHM_PAGE_TABLE = 4,
	SHM_PAGE_CONT = 5,
	SHM_PAGE_HOLE = 6,
};

/* A page's descriptor is one word:
 *   bits 63..56 kind, 55..48 class (SLAB), 31..0 pages of the run, or distance back (CONT) */
struct shm_page {
	shm_u64 word; /* [W: eng; R: checker] see above */
};
SHM_SIZE(shm_page, 8);
SHM_AT(shm_page, word, 0);

static inline uint64_t shm_page_make(uint64_t kind, uint64_t cls, uint64_t pages)
{
	return kind << 56 | cls << 48 | pages;
}
static inline uint32_t shm_page_kind(uint64_t w) { return (uint32_t)(w >> 56); }
static inline uint32_t shm_page_class(uint64_t w) { return (uint32_t)(w >> 48) & 0xff; }
static inline uint32_t shm_page_run(uint64_t w) { return (uint32_t)w; }

struct shm_class {
	uint32_t item_bytes; /* [W: eng at format; R: all] size of a place, multiple of SHM_UNIT */
	uint16_t slab_pages; /* [W: eng at format; R: all] pages of a slab, 1..255 */
	uint16_t n_items;    /* [W: eng at format; R: all] places in a slab */
};
SHM_SIZE(shm_class, 8);
SHM_AT(shm_class, item_bytes, 0);
SHM_AT(shm_class, slab_pages, 4);
SHM_AT(shm_class, n_items, 6);

#define SHM_HOT_KEYS 160      /* of a pool */
#define SHM_HOT_STORE_KEYS 32 /* of a store, at most */
struct shm_hot {
	shm_u64 hash;  /* [W: eng; R: all] of the whole key */
	shm_u32 share; /* [W: eng; R: all] of its store's hits, lately, in 2^-32: at least */
	shm_u32 over;  /* [W: eng; R: all] bits 31..8: so much more it may be, in 2^-24; 7..0: index of the store + 1, 0: unused */
};
SHM_SIZE(shm_hot, 16);
SHM_AT(shm_hot, hash, 0);
SHM_AT(shm_hot, share, 8);
SHM_AT(shm_hot, over, 12);
#define SHM_HOT_OVER_SHIFT 8
#define SHM_HOT_STORE_MASK 0xffu

struct shm_pool {
	struct shm_segment seg; /* [W: sup at create; R: all] kind POOL, region 0 */

	shm_u64 table;    /* [W: eng; R: all] table word (l_word.h): the table that look-ups begin in */
	uint64_t pad0[7]; /* [W: none] the line changes only when a growth ends */

	uint64_t pool_id;     /* [W: eng at format; R: all] shm_pool_entry.id, from when the pool is in the directory */
	uint64_t formatted;   /* [W: eng at format; R: all] bytes of region 0 then */
	uint32_t n_classes;   /* [W: eng at format; R: all] used in cls[] */
	uint32_t pad1;        /* [W: none] */
	shm_u64 feed_off;     /* [W: eng, last; R: all] bytes; the pool's change feed (l_feed.h); 0: it has none */
	uint64_t feed_bytes;  /* [W: eng before feed_off; R: all] size of the feed, with its header */
	uint64_t pad2[11];    /* [W: none] */

	struct shm_class cls[SHM_CLASSES_MAX]; /* [W: eng at format; R: all] ascending item_bytes */
	shm_u64 hot_changes;                   /* [W: eng; R: all] begun and ended changes of hot[]: odd while one is under way */
	uint64_t pad3[7];                      /* [W: none] */
	struct shm_hot hot[SHM_HOT_KEYS];      /* [W: eng; R: all] what is read most, see above */
	uint8_t pad4[192];                     /* [W: none] reserved: zero until a minor says otherwise */
};
SHM_SIZE(shm_pool, 4096);
SHM_AT(shm_pool, table, 64);
SHM_AT(shm_pool, pool_id, 128);
SHM_AT(shm_pool, formatted, 136);
SHM_AT(shm_pool, n_classes, 144);
SHM_AT(shm_pool, feed_off, 152);
SHM_AT(shm_pool, feed_bytes, 160);
SHM_AT(shm_pool, cls, 256);
SHM_AT(shm_pool, hot_changes, 1280);
SHM_AT(shm_pool, hot, 1344);

#endif
