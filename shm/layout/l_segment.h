/* l_segment.h - START HERE.  The first 64 bytes of every segment.
 *
 * A segment is one memfd.  Four kinds exist; each begins with this header:
 *
 *   kind      file         how many            mapped by
 *   CONTROL   l_control.h  one per daemon      everybody, read-only; sup and eng write
 *   POOL      l_pool.h     1..16 per pool      clients with the right, read-only; eng writes
 *   CLIENT    l_client.h   one per session     that client writes; eng and tools read
 *   JOURNAL   l_journal.h  one per daemon      eng only (the supervisor keeps the descriptor)
 *
 * From byte 0 to any entry:
 *
 *   control: shm_control.pool[p].region[r]  says which memfds make up pool p, at
 *            which pool offsets.  Map region r at  base + region[r].base_off.
 *   pool:    shm_pool.table -> shm_table -> bucket(hash) -> slot -> shm_item
 *   item:    shm_item.store_id names shm_control.store[]
 *
 * Life: the supervisor creates, sizes, fills and seals the memfd, and stores
 * `magic` last (release): whoever sees the magic (acquire) sees the header.
 *
 * Invariants, reported by the checker by number:
 *   I1  magic, byte_order, major and kind are right, total_bytes is the file's size
 *   I2  daemon_id is the same in all segments of a daemon
 *
 * Versions: a reader takes any minor of its own major.  major: something moved,
 * changed size or meaning.  minor: reserved zero bytes got a meaning whose zero
 * is "as before".
 */
#ifndef HC_LAYOUT_SEGMENT_H
#define HC_LAYOUT_SEGMENT_H

#include "l_base.h"

#define SHM_MAGIC 0x3130454843414348ull /* "HCACHE01" as bytes */
#define SHM_BYTE_ORDER 0x01020304u
#define SHM_LAYOUT_MAJOR 1u
#define SHM_LAYOUT_MINOR 4u

enum shm_kind {
	SHM_KIND_CONTROL = 1,
	SHM_KIND_POOL = 2,
	SHM_KIND_CLIENT = 3,
	SHM_KIND_JOURNAL = 4,
};

/* What backs a segment, in descending order of worth. */
enum shm_backing {
	SHM_BACK_HUGE_1G = 1, /* hugetlb, 1 GiB */
	SHM_BACK_HUGE_2M = 2, /* hugetlb, 2 MiB */
	SHM_BACK_THP = 3,     /* base pages with transparent huge pages allowed for shmem */
	SHM_BACK_BASE = 4,    /* base pages */
};

struct shm_segment {
	shm_u64 magic;        /* [W: sup, last at create; R: all] SHM_MAGIC */
	uint32_t byte_order;  /* [W: sup at create; R: all] SHM_BYTE_ORDER */
	uint16_t major;       /* [W: sup at create; R: all] SHM_LAYOUT_MAJOR */
	uint16_t minor;       /* [W: sup at create; R: all] SHM_LAYOUT_MINOR */
	uint32_t kind;        /* [W: sup at create; R: all] enum shm_kind */
	uint32_t instance;    /* [W: sup at create; R: all] POOL: pool << 8 | region; CLIENT: session slot */
	uint64_t total_bytes; /* [W: sup at create; R: all] size of the file */
	uint64_t daemon_id;   /* [W: sup at create; R: all] random, one per daemon memory */
	uint64_t created_ns;  /* [W: sup at create; R: all] CLOCK_REALTIME */
	uint32_t backing;     /* [W: sup at create; R: all] enum shm_backing */
	uint32_t pad0;        /* [W: none] */
	uint64_t pad1;        /* [W: none] */
};
SHM_SIZE(shm_segment, 64);
SHM_AT(shm_segment, magic, 0);
SHM_AT(shm_segment, byte_order, 8);
SHM_AT(shm_segment, major, 12);
SHM_AT(shm_segment, minor, 14);
SHM_AT(shm_segment, kind, 16);
SHM_AT(shm_segment, instance, 20);
SHM_AT(shm_segment, total_bytes, 24);
SHM_AT(shm_segment, daemon_id, 32);
SHM_AT(shm_segment, created_ns, 40);
SHM_AT(shm_segment, backing, 48);

#endif
