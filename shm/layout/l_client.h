/* l_client.h - a client's own segment: its pins, hints and counters.
 *
 *   0      header (4096)
 *   4096   block 0 | block 1 | ... one per thread that reads, 4096 each
 *
 *   block: | pins 256 | counters 256 | per store 1536 | touch ring 2048 |
 *
 * The client alone writes here; the engine and the tools read, and take every
 * byte as hostile: pins are only compared (rule P14), counters clipped, names
 * made printable.  What a client scribbles here harms that client.
 *
 * pin[0] holds the table, pin[1] the item of the call that is running, pin[2..31]
 * the items of views.  A pin word is a release store of (generation, offset,
 * pool); 0 is free.  A pin never moves to another cell (rule P11).  Between a
 * pin's store and the loads that check it stands a compiler barrier, if the
 * client is registered for membarrier, else a full fence (`fence`).
 *
 * blocks_used: cells above it are not scanned.  It is raised before the first
 * pin of a block is stored: a barrier that makes that pin visible makes this
 * visible too.
 *
 * Touch ring: hint_head counts hints ever written; hint n stands in
 * hint[n % SHM_HINTS].  The engine remembers how far it read in private memory;
 * what was overwritten is lost, and counted.
 *
 * Death of the client anywhere: the engine hears of it from the kernel (rule
 * P18), takes the session out of the scan set, folds the counters, and drops
 * the segment.  A late store of a dying process lands in memory that nobody reads.
 *
 * Invariants: none that the engine relies on.
 */
#ifndef HC_LAYOUT_CLIENT_H
#define HC_LAYOUT_CLIENT_H

#include "l_segment.h"
#include "l_counters.h"
#include "l_word.h"

#define SHM_BLOCK_PINS 32
#define SHM_PIN_TABLE 0
#define SHM_PIN_CALL 1
#define SHM_PIN_VIEW 2 /* first of the views' cells */
#define SHM_HINTS 256
#define SHM_BLOCK_STORES 64
#define SHM_BLOCKS_MAX 64

enum shm_fence {
	SHM_FENCE_NONE = 0,     /* has not said yet: reads nothing */
	SHM_FENCE_COMPILER = 1, /* registered for MEMBARRIER_CMD_GLOBAL_EXPEDITED */
	SHM_FENCE_FULL = 2,     /* a full fence after each pin */
};

struct shm_client {
	struct shm_segment seg; /* [W: eng at create; R: all] kind CLIENT */

	shm_u32 blocks_used;  /* [W: cli; R: eng, tools] blocks 0..n-1 may hold pins */
	shm_u32 fence;        /* [W: cli; R: tools] enum shm_fence, for people: what was agreed at HELLO counts */
	uint64_t session_id;  /* [W: eng at create; R: all] random, never recurs */
	uint32_t n_blocks;    /* [W: eng at create; R: all] blocks in this segment */
	uint32_t pid;         /* [W: eng at create; R: tools] as the kernel gave it, 0 across pid namespaces */
	uint32_t uid;         /* [W: eng at create; R: tools] as the kernel gave it */
	uint32_t gid;         /* [W: eng at create; R: tools] as the kernel gave it */
	uint64_t opened_ns;   /* [W: eng at create; R: tools] CLOCK_REALTIME */
	shm_u64 folded;       /* [W: eng at its end; R: tools] 1: its counts are in the totals (shm/fold.h) */
	shm_u64 held_since_ns; /* [W: eng at ticks; R: tools] CLOCK_REALTIME: when the oldest of its views was seen first; 0: none */
	uint64_t pad0[1];     /* [W: none] */

	char name[64];        /* [W: eng at create; R: tools] what the client calls itself, printable */
	uint8_t pad1[3904];   /* [W: none] reserved: zero until a minor says otherwise */
};
SHM_SIZE(shm_client, 4096);
SHM_AT(shm_client, blocks_used, 64);
SHM_AT(shm_client, fence, 68);
SHM_AT(shm_client, session_id, 72);
SHM_AT(shm_client, n_blocks, 80);
SHM_AT(shm_client, pid, 84);
SHM_AT(shm_client, uid, 88);
SHM_AT(shm_client, gid, 92);
SHM_AT(shm_client, opened_ns, 96);
SHM_AT(shm_client, folded, 104);
SHM_AT(shm_client, held_since_ns, 112);
SHM_AT(shm_client, name, 128);

/* Reads of one store by one thread. */
struct shm_store_reads {
	shm_u64 hits;      /* [W: cli; R: eng, tools] look-ups that found a live entry */
	shm_u64 misses;    /* [W: cli; R: eng, tools] look-ups that did not */
	shm_u64 hit_bytes; /* [W: cli; R: eng, tools] bytes of values found */
};
SHM_SIZE(shm_store_reads, 24);
SHM_AT(shm_store_reads, hits, 0);
SHM_AT(shm_store_reads, misses, 8);
SHM_AT(shm_store_reads, hit_bytes, 16);

struct shm_block {
	shm_u64 pin[SHM_BLOCK_PINS];  /* [W: cli; R: eng, tools] pin words, 0: free */
	shm_u64 hint_head;            /* [W: cli; R: eng] hints ever written */
	shm_u64 counter[31];          /* [W: cli; R: eng, tools] enum shm_block_counter */
	struct shm_store_reads store[SHM_BLOCK_STORES]; /* [W: cli; R: eng, tools] by index of the store */
	shm_u64 hint[SHM_HINTS];      /* [W: cli; R: eng] hint words */
};
SHM_SIZE(shm_block, 4096);
SHM_AT(shm_block, pin, 0);
SHM_AT(shm_block, hint_head, 256);
SHM_AT(shm_block, counter, 264);
SHM_AT(shm_block, store, 512);
SHM_AT(shm_block, hint, 2048);

#endif
