/* l_control.h - the control segment: the directory of everything, and who lives.
 *
 *   0      segment header
 *   64     life line: futex words, engine generation and state    (every read looks here)
 *   128    pulse: heartbeat, LSN                                  (changes all the time)
 *   192    constants: hash seed, sizes of the arrays
 *   256    daemon counters
 *   768    dropped_id[64] stores whose last entries are being removed
 *   1280   lease_word[256] where those wait for whom another process computes a value
 *   2304   curve[64]      28 bytes each: what each store would miss with other memory
 *   4096   pool[16]       1536 bytes each
 *   28672  store[64]      640 bytes each
 *   69632  pin_gen[4096]  one word per session slot
 *   102400 desc[192]      what the counters are called
 *   126976 hist[32]       how long things took, 2112 bytes each
 *
 * The life line is a line of its own: a reader loads it in every call, and it
 * changes only when somebody dies (rule P21).
 *
 * sup_word, eng_word: robust futexes.  The owner stores its thread id and lists
 * the word in its robust list, whose node lives in private memory (no address in
 * shared memory); when the owner dies or calls exec, the kernel itself sets
 * FUTEX_OWNER_DIED (bit 30), which a read-only mapping sees.  0: not yet taken.
 *
 * lease_word[w]: of all keys with w = their hash's bits 63..56.  SHM_LEASE_HELD: somebody holds a lease for
 * one of them.  Each lease that is over, however it ended, adds 2 (release), and wakes who waits there: FUTEX_WAIT, on
 * the word as it was before the lease was asked for.  An engine that starts does so to all of them.
 *
 * A store or pool entry with id 0 is unused.  Ids never recur (rule P10): an
 * item belongs to store s only if its store_id is store[s].id and its epoch is
 * store[s].epoch, both loaded in the same call.
 *
 * Who dies, and what is left here: the engine between any two stores: counters
 * off by one mutation (an adopting engine counts anew), everything else is whole.
 *
 * Invariants:
 *   I3  pool[].region[] is ascending in base_off, without gap or overlap, multiples of SHM_PAGE
 *   I4  store[].pool_idx names a used pool
 */
#ifndef HC_LAYOUT_CONTROL_H
#define HC_LAYOUT_CONTROL_H

#include "l_segment.h"
#include "l_counters.h"

#define SHM_POOLS_MAX 16
#define SHM_STORES_MAX 64
#define SHM_REGIONS_MAX 16
#define SHM_SESSIONS_MAX 4096
#define SHM_DESCS_MAX 192
#define SHM_LEASE_WORDS 256
#define SHM_LEASE_HELD 1u
#define SHM_PROBE_EVERY_DEFAULT 1000ull
#define SHM_PROBE_EVERY_MAX 1000000ull
#define SHM_FUTEX_OWNER_DIED 0x40000000u

enum shm_engine_state {
	SHM_ENGINE_NONE = 0,     /* none has run yet */
	SHM_ENGINE_ADOPTING = 1, /* checks or formats the pools; writes wait */
	SHM_ENGINE_SERVING = 2,
	SHM_ENGINE_ENDED = 3, /* clean shutdown */
};

/* What part of a pool in use begins which kind of eviction, in ascending order; END: where it ends. */
enum shm_pressure {
	SHM_PRESSURE_END = 0,
	SHM_PRESSURE_LOW = 1,
	SHM_PRESSURE_HIGH = 2,
	SHM_PRESSURE_FULL = 3,
	SHM_PRESSURES = 4,
};

enum shm_pool_flags {
	SHM_POOL_SCRUB = 1, /* what is free holds zeroes: nothing of former entries */
};

/* One memfd of a pool, at a fixed place of the pool's offset space. */
struct shm_region {
	uint64_t base_off; /* [W: sup before n_regions; R: all] pool offset of its byte 0, bytes */
	uint64_t bytes;    /* [W: sup before n_regions; R: all] size */
	uint32_t backing;  /* [W: sup before n_regions; R: all] enum shm_backing: what was got */
	uint32_t pad0;     /* [W: none] */
	uint64_t pad1;     /* [W: none] */
};
SHM_SIZE(shm_region, 32);
SHM_AT(shm_region, base_off, 0);
SHM_AT(shm_region, bytes, 8);
SHM_AT(shm_region, backing, 16);

struct shm_pool_entry {
	char name[SHM_NAME_BYTES];          /* [W: sup before id; R: all] 0-terminated */
	shm_u64 id;                         /* [W: sup; R: all] never recurs; 0: unused */
	uint64_t reserve_bytes;             /* [W: sup before id; R: all] address space a client sets aside for the pool */
	shm_u64 max_value_bytes;            /* [W: sup, eng; R: all] largest key plus value */
	shm_u32 n_regions;                  /* [W: sup; R: all] used in region[], 1..16 */
	uint32_t flags;                     /* [W: sup before id; R: all] enum shm_pool_flags */
	shm_u64 wanted_bytes;               /* [W: sup; R: all] the size that it is to have: the engine goes there in steps */
	shm_u32 pressure_ppm[SHM_PRESSURES]; /* [W: sup, eng; R: all] by enum shm_pressure: millionths of the pool in use */
	uint64_t feed_bytes;                /* [W: sup before id; R: eng] of the change feed that it is to keep; 0: none */
	uint64_t pad1[4];                   /* [W: none] */
	struct shm_region region[SHM_REGIONS_MAX]; /* [W: sup; R: all] see shm_region */
	shm_u64 counter[SHM_COUNTERS_MAX];  /* [W: eng; R: all] enum shm_pool_counter */
	char backing_why[384];              /* [W: sup before id; R: all] in words: what backs it, why, how to get better */
};
SHM_SIZE(shm_pool_entry, 1536);
SHM_AT(shm_pool_entry, name, 0);
SHM_AT(shm_pool_entry, id, 32);
SHM_AT(shm_pool_entry, reserve_bytes, 40);
SHM_AT(shm_pool_entry, max_value_bytes, 48);
SHM_AT(shm_pool_entry, n_regions, 56);
SHM_AT(shm_pool_entry, flags, 60);
SHM_AT(shm_pool_entry, wanted_bytes, 64);
SHM_AT(shm_pool_entry, pressure_ppm, 72);
SHM_AT(shm_pool_entry, feed_bytes, 88);
SHM_AT(shm_pool_entry, region, 128);
SHM_AT(shm_pool_entry, counter, 640);
SHM_AT(shm_pool_entry, backing_why, 1152);

/* Of shm_store_entry.sliding.  SLIDES: a read gives an entry its time to live again.  Bits 63..32, ms, 0: none: a use of
 * an entry of which the engine has heard nothing for so long has to be told to it, and not to be lost. */
#define SHM_STORE_SLIDES     1ull
#define SHM_STORE_TOLD_SHIFT 32

struct shm_store_entry {
	char name[SHM_NAME_BYTES];         /* [W: sup, eng before id; R: all] 0-terminated */
	shm_u64 id;                        /* [W: sup, eng; R: all] never recurs; 0: unused */
	shm_u64 epoch;                     /* [W: eng; R: all] +1 per clear; items of older epochs are void */
	uint32_t pool_idx;                 /* [W: sup, eng before id; R: all] index in pool[] */
	uint32_t type;                     /* [W: sup, eng before id; R: all] enum hc_store_type */
	shm_u64 default_ttl_ns;            /* [W: eng; R: all] 0: entries stay until evicted */
	char policy[SHM_NAME_BYTES];       /* [W: sup, eng, word by word; R: tools] eviction policy's name, for people */
	shm_u64 guaranteed_bytes;          /* [W: sup, eng; R: all] places that no other store's writes take from it */
	shm_u64 limit_bytes;               /* [W: sup, eng; R: all] places that it may take; 0: as the pool has */
	shm_u64 limit_entries;             /* [W: sup, eng; R: all] entries that it may have; 0: as many as fit */
	shm_u64 sliding;                   /* [W: sup, eng; R: all] what is wanted of reads: SHM_STORE_SLIDES, and times (P29) */
	shm_u64 counter[SHM_COUNTERS_MAX]; /* [W: eng; R: all] enum shm_store_counter */
};
SHM_SIZE(shm_store_entry, 640);
SHM_AT(shm_store_entry, name, 0);
SHM_AT(shm_store_entry, id, 32);
SHM_AT(shm_store_entry, epoch, 40);
SHM_AT(shm_store_entry, pool_idx, 48);
SHM_AT(shm_store_entry, type, 52);
SHM_AT(shm_store_entry, default_ttl_ns, 56);
SHM_AT(shm_store_entry, policy, 64);
SHM_AT(shm_store_entry, guaranteed_bytes, 96);
SHM_AT(shm_store_entry, limit_bytes, 104);
SHM_AT(shm_store_entry, limit_entries, 112);
SHM_AT(shm_store_entry, sliding, 120);
SHM_AT(shm_store_entry, counter, 128);

/* What part of its reads a store would have missed with so much of its memory: 1/4, 3/8, 1/2, 3/4, 1, 3/2, 2, 3,
 * 4.  Its counters curve_* say what 1 is, and of how many reads. */
#define SHM_CURVE_SIZES 9
struct shm_curve {
	shm_u32 part[5]; /* [W: eng; R: all] halves, the low one first, in 1/65535: misses of the nine; one standard deviation */
	shm_u32 rate;    /* [W: eng; R: all] keys in the sample, in 1/65536 of all; 0: there is no curve */
	uint32_t pad0;   /* [W: none] */
};
SHM_SIZE(shm_curve, 28);
SHM_AT(shm_curve, part, 0);
SHM_AT(shm_curve, rate, 20);

struct shm_control {
	struct shm_segment seg; /* [W: sup at create; R: all] kind CONTROL */

	shm_u32 sup_word;   /* [W: sup, kernel at its death; R: all] robust futex: thread id, OWNER_DIED */
	shm_u32 eng_word;   /* [W: eng, kernel at its death; R: all] robust futex: thread id, OWNER_DIED */
	shm_u64 engine_gen; /* [W: eng when it starts; R: all] counts engine incarnations, from 1 */
	shm_u64 state;      /* [W: eng, sup; R: all] enum shm_engine_state */
	shm_u64 probe_every; /* [W: sup; R: all] one read of so many is told to tracers; 0: SHM_PROBE_EVERY_DEFAULT */
	uint64_t pad0[4];   /* [W: none] */

	shm_u64 heartbeat_ns; /* [W: eng; R: all] CLOCK_MONOTONIC of the engine's last turn */
	shm_u64 lsn;          /* [W: eng; R: all] last LSN taken by a mutation */
	uint64_t pad1[6];     /* [W: none] */

	uint64_t hash_seed;    /* [W: sup at create; R: all] XXH3 seed */
	uint32_t n_sessions;   /* [W: sup at create; R: all] session slots in use at most */
	uint32_t n_blocks;     /* [W: sup at create; R: all] blocks of a client segment: threads that read at once */
	uint64_t time_off_ns;  /* [W: sup at create; R: all] engine's CLOCK_MONOTONIC minus that of the first time namespace */
	uint64_t started_ns;   /* [W: sup at create; R: all] CLOCK_REALTIME */
	uint32_t version;      /* [W: sup at create; R: all] daemon version: major << 16 | minor << 8 | patch */
	uint32_t pad2;         /* [W: none] */
	uint64_t pad3[3];      /* [W: none] */

	shm_u64 counter[SHM_COUNTERS_MAX]; /* [W: eng; R: all] enum shm_daemon_counter */
	shm_u64 dropped_id[SHM_STORES_MAX]; /* [W: eng; R: tools] of the store that was dropped at this place, while entries of it are left; else 0 */
	shm_u32 lease_word[SHM_LEASE_WORDS]; /* [W: eng; R: all] see above */
	struct shm_curve curve[SHM_STORES_MAX]; /* [W: eng; R: all] what each store would miss with other memory */

	struct shm_pool_entry pool[SHM_POOLS_MAX];    /* [W: sup; R: all] the pools */
	struct shm_store_entry store[SHM_STORES_MAX]; /* [W: sup; R: all] the stores */
	shm_u64 pin_gen[SHM_SESSIONS_MAX]; /* [W: eng; R: all] low 16 bits: pins with another generation are void (rule P12) */
	struct shm_counter_desc desc[SHM_DESCS_MAX]; /* [W: sup at create; R: all] names of the counters */
	struct shm_hist hist[SHM_HISTS_MAX]; /* [W: eng; R: all] enum shm_histogram */
};
SHM_SIZE(shm_control, 194560);
SHM_AT(shm_control, sup_word, 64);
SHM_AT(shm_control, eng_word, 68);
SHM_AT(shm_control, engine_gen, 72);
SHM_AT(shm_control, state, 80);
SHM_AT(shm_control, probe_every, 88);
SHM_AT(shm_control, heartbeat_ns, 128);
SHM_AT(shm_control, lsn, 136);
SHM_AT(shm_control, hash_seed, 192);
SHM_AT(shm_control, n_sessions, 200);
SHM_AT(shm_control, n_blocks, 204);
SHM_AT(shm_control, time_off_ns, 208);
SHM_AT(shm_control, started_ns, 216);
SHM_AT(shm_control, version, 224);
SHM_AT(shm_control, counter, 256);
SHM_AT(shm_control, dropped_id, 768);
SHM_AT(shm_control, lease_word, 1280);
SHM_AT(shm_control, curve, 2304);
SHM_AT(shm_control, pool, 4096);
SHM_AT(shm_control, store, 28672);
SHM_AT(shm_control, pin_gen, 69632);
SHM_AT(shm_control, desc, 102400);
SHM_AT(shm_control, hist, 126976);

#endif
