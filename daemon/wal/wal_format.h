/* wal_format.h - START HERE: the bytes of the log on disk.
 *
 *   folder   000000000007.wal  000000000008.wal  000000000009.wal      one file per segment, of one size
 *
 *   segment  | begin |  frame  |      frame      | frame |  zeroes, or what the file held before
 *            0       4096      ...                                         blocks of 4096 bytes
 *
 *   frame    0            512                                 bytes             n_blocks * 4096
 *            | wal_frame  | record | record | record | ...    | zeroes          |
 *            | unit 0: from 512 to unit_bytes | unit 1 ...                      |
 *
 *   record   0             104        104+key        104+key+value   bytes, a multiple of 8
 *            | wal_record  | key      | value        | zeroes        |
 *
 * A frame is what one write wrote.  Its first sector (512 bytes, what a disk writes whole or not at all) has a sum of
 * its own, and the sums of its units.  All sums of a frame begin from the log's identity, the segment's number and the
 * block's number in it: what a recycled file held before never fits.  A record has a sum besides, of what the caller
 * gave, which stays right wherever the record is copied to.
 *
 * A segment begins with a frame of one block and no records (WAL_FRAME_BEGINS): there stands wal_begin, which names the
 * segment before it and where that one was cut.  What lies behind the cut is void, and so is every segment that the
 * chain from the newest one backwards does not name.
 *
 * Frames chain: `sequence` counts them (the begins too), `previous` is the sum of the one before.  `durable` says which
 * frames the writer knew to be on the disk when it made this one.  So a reader that finds frame s broken knows:
 *   no later frame is there, or none says that s was durable   s was still being written: a torn tail, to be cut
 *   a later one says that s was durable                        damage
 *
 * Invariants:
 *   W1  records of the log have growing LSNs; not dense: other stores and leases take some
 *   W2  frame.durable_sequence < frame.sequence, and durable_lsn <= the LSNs behind it
 *   W3  at most WAL_WRITES_MAX frames are not known to be durable at any time
 *   W4  a segment's number is used once; a later one has a higher number
 *   W5  what is not named is zero: the rest of a block behind `bytes`, padding, reserved fields
 *
 * Little-endian, as all of HyperCache.  A change that an older reader would misread raises WAL_FORMAT_MAJOR; it refuses
 * the segment by name.  Records of a kind that it does not know are passed on as they are.
 */
#ifndef HC_DAEMON_WAL_FORMAT_H
#define HC_DAEMON_WAL_FORMAT_H

#include "layout/l_base.h"

#define WAL_BLOCK 4096u /* bytes: what writes are made of */
#define WAL_SECTOR 512u /* bytes: what a disk writes whole */
#define WAL_FORMAT_MAJOR 1
#define WAL_FORMAT_MINOR 0
#define WAL_FRAME_MAGIC 0x314c4157u /* "WAL1" */
#define WAL_UNITS_MAX 96 /* sums of a frame: of units of 4 KiB up to 384 KiB, then of larger ones */
#define WAL_WRITES_MAX 4 /* in flight */
#define WAL_IDENTITY_BYTES 16
#define WAL_SEGMENT_BYTES_MIN (16u << 10)
#define WAL_SEGMENT_BYTES_MAX (1ull << 31)
#define WAL_KEY_BYTES_MAX 65536u

enum wal_frame_flags {
	WAL_FRAME_BEGINS = 1, /* the first one of a segment */
	WAL_FRAME_ENDS =
		2, /* the log was closed: all before it is durable, nothing was being written */
};

/* The first sector of a frame, but for the end of it that wal_begin takes in the first one of a segment. */
struct wal_frame {
	uint32_t magic;
	uint32_t crc;              /* CRC-32C of this sector but for this word; see wal_crc_seed */
	uint32_t flags;            /* enum wal_frame_flags */
	uint32_t n_blocks;         /* of the whole frame, 1.. */
	uint64_t segment;          /* number of the segment that it is in */
	uint32_t block;            /* where it begins there, in blocks */
	uint32_t previous;         /* crc of the frame before; 0: there was none */
	uint64_t sequence;         /* 1.. */
	uint64_t durable_sequence; /* frames up to this one were durable; 0: none */
	uint64_t durable_lsn;      /* records up to this LSN were */
	uint64_t first_lsn;        /* of its records; 0: it has none */
	uint64_t last_lsn;         /* of its records; without any, of the last one before */
	uint64_t time_ns;          /* CLOCK_REALTIME when it was sealed */
	uint32_t bytes;            /* of all blocks that are used, the sector included */
	uint32_t n_records;
	uint32_t unit_shift; /* a unit is WAL_BLOCK << unit_shift bytes */
	uint32_t
		n_units; /* ceiling of n_blocks / 2^unit_shift; the first one begins at WAL_SECTOR */
	uint64_t begin_sequence; /* of the begin of this segment */
	uint32_t unit
		[WAL_UNITS_MAX]; /* CRC-32C of each unit; the seed is that of the block where it begins */
	uint32_t pad0[6];
};
SHM_SIZE(wal_frame, 512);
SHM_AT(wal_frame, crc, 4);
SHM_AT(wal_frame, flags, 8);
SHM_AT(wal_frame, n_blocks, 12);
SHM_AT(wal_frame, segment, 16);
SHM_AT(wal_frame, block, 24);
SHM_AT(wal_frame, previous, 28);
SHM_AT(wal_frame, sequence, 32);
SHM_AT(wal_frame, durable_sequence, 40);
SHM_AT(wal_frame, durable_lsn, 48);
SHM_AT(wal_frame, first_lsn, 56);
SHM_AT(wal_frame, last_lsn, 64);
SHM_AT(wal_frame, time_ns, 72);
SHM_AT(wal_frame, bytes, 80);
SHM_AT(wal_frame, n_records, 84);
SHM_AT(wal_frame, unit_shift, 88);
SHM_AT(wal_frame, n_units, 92);
SHM_AT(wal_frame, begin_sequence, 96);
SHM_AT(wal_frame, unit, 104);

#define WAL_BEGIN_MAGIC 0x4e4947454257ull /* "WBEGIN" */

/* Behind the first sector of a segment's first block, in place of records. */
struct wal_begin {
	uint64_t magic;
	uint32_t major, minor;
	uint8_t identity[WAL_IDENTITY_BYTES]; /* of the log: random, made once per data folder */
	uint64_t segment;                     /* its number */
	uint64_t segment_bytes;               /* size of the file */
	uint64_t before_segment;              /* number of the one before; 0: there is none */
	uint32_t before_block;    /* that one was cut here: blocks from this on are void */
	uint32_t before_crc;      /* crc of the last frame before the cut */
	uint64_t before_sequence; /* sequence of it */
	uint64_t before_lsn;      /* records up to this LSN lie before this segment */
	uint64_t time_ns;         /* CLOCK_REALTIME when it was begun */
	uint64_t pad0[5];
};
SHM_SIZE(wal_begin, 128);
SHM_AT(wal_begin, major, 8);
SHM_AT(wal_begin, minor, 12);
SHM_AT(wal_begin, identity, 16);
SHM_AT(wal_begin, segment, 32);
SHM_AT(wal_begin, segment_bytes, 40);
SHM_AT(wal_begin, before_segment, 48);
SHM_AT(wal_begin, before_block, 56);
SHM_AT(wal_begin, before_crc, 60);
SHM_AT(wal_begin, before_sequence, 64);
SHM_AT(wal_begin, before_lsn, 72);
SHM_AT(wal_begin, time_ns, 80);

/* What a record says.  After-images: what is there when it is done, whatever was before. */
enum wal_kind {
	WAL_SET = 1,    /* the entry is this (set, incr, an absent key's mark) */
	WAL_DELETE = 2, /* the key has no entry; logged even if it had none */
	WAL_TOUCH = 3,  /* the entry expires at expiry_ns */
	WAL_CLEAR = 4,  /* the store has no entries of lower versions; no key */
	WAL_DROP = 5,   /* the store is gone; no key */
	WAL_STORE = 6,  /* the store is: key its name, value what the caller needs to make it */
	WAL_EVICT = 7,  /* as WAL_DELETE, by the engine itself: eviction or expiry */
};

enum wal_marks {
	WAL_ABSENT = 1, /* the key is known to be absent: no value (SHM_LENS_ABSENT) */
	WAL_FRESH =
		2, /* stamp is the time until which the value is fresh: CLOCK_REALTIME, ns (SHM_LENS_FRESH) */
};

struct wal_record {
	uint32_t bytes;      /* of the record with key, value and padding: a multiple of 8 */
	uint32_t crc;        /* CRC-32C of all `bytes` but this word; the same wherever it stands */
	uint16_t kind;       /* enum wal_kind */
	uint16_t marks;      /* enum wal_marks */
	uint32_t key_bytes;  /* 0..WAL_KEY_BYTES_MAX */
	uint64_t lsn;        /* of the mutation, which is the entry's version */
	uint64_t store_id;   /* shm_store_entry.id */
	uint64_t session_id; /* who asked; 0: nobody, the engine itself */
	uint64_t request;    /* that session's request number */
	uint64_t value_bytes;
	uint64_t expiry_ns;   /* CLOCK_REALTIME; 0: never */
	uint64_t created_ns;  /* CLOCK_REALTIME of the entry's first set */
	uint64_t modified_ns; /* CLOCK_REALTIME of this mutation */
	uint64_t stamp;       /* the caller's own order mark; or see WAL_FRESH */
	uint32_t ttl_ms;      /* the time to live that was asked for; 0: none */
	uint32_t flags;       /* the caller's own */
	uint32_t took_ms;     /* of a fresh one: how long it took to compute */
	uint32_t pad0;
	/* key, value, zeroes to a multiple of 8 */
};
SHM_SIZE(wal_record, 104);
SHM_AT(wal_record, crc, 4);
SHM_AT(wal_record, kind, 8);
SHM_AT(wal_record, marks, 10);
SHM_AT(wal_record, key_bytes, 12);
SHM_AT(wal_record, lsn, 16);
SHM_AT(wal_record, store_id, 24);
SHM_AT(wal_record, session_id, 32);
SHM_AT(wal_record, request, 40);
SHM_AT(wal_record, value_bytes, 48);
SHM_AT(wal_record, expiry_ns, 56);
SHM_AT(wal_record, created_ns, 64);
SHM_AT(wal_record, modified_ns, 72);
SHM_AT(wal_record, stamp, 80);
SHM_AT(wal_record, ttl_ms, 88);
SHM_AT(wal_record, flags, 92);
SHM_AT(wal_record, took_ms, 96);

/* Bytes of a record; key and value lengths are bounded by the caller. */
static inline uint64_t wal_record_bytes(uint64_t key_bytes, uint64_t value_bytes)
{
	return (sizeof(struct wal_record) + key_bytes + value_bytes + 7) & ~7ull;
}

#endif
