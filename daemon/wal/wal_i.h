/* wal_i.h - the writer's handle, for its own files.
 *
 *   wal.c          new, adopt, free, status
 *   wal_append.c   records into staging
 *   wal_submit.c   frames to the disk, and what comes back
 */
#ifndef HC_DAEMON_WAL_I_H
#define HC_DAEMON_WAL_I_H

#include "wal_stage.h"

/* A frame is not made longer than this by records that could go into the next one. */
enum { WAL_FRAME_TARGET_BLOCKS = 128 };

/* A write that is under way, or done before one that was started earlier. */
struct wal_slot {
	struct wal_io_write write;
	struct wal *w;
	uint64_t
		frame; /* its number in staging; 0: the begin of a segment, or the end of the log */
	uint64_t sequence; /* on the disk */
	uint32_t bytes;
	bool done;
};

/* Of a frame in staging, what its header will say; the records say it, too. */
struct wal_count {
	uint64_t first_lsn, last_lsn;
	uint32_t n_records;
	uint64_t opened_ns; /* CLOCK_REALTIME of its first record */
};

struct wal {
	struct wal_opts opts;
	struct wal_stage *s;
	uint64_t head, tail; /* as in staging */
	uint64_t sent;       /* the first frame that was not handed over, head..tail */
	struct wal_count count[WAL_STAGE_FRAMES];
	uint64_t last_lsn, sent_lsn, durable_lsn; /* appended, handed over, durable */
	uint64_t before_last_lsn; /* last_lsn without the record that is not settled */
	uint64_t unsettled_at;    /* bytes of its frame without it */
	bool unsettled, undecided, closed;
	int failed;

	uint64_t sequence;         /* of the last frame handed over */
	uint32_t crc;              /* of it */
	uint64_t begin_sequence;   /* of the begin of `now` */
	uint64_t durable_sequence; /* of the last one known to be durable */

	struct wal_slot slot[WAL_WRITES_MAX]; /* a queue: in the order in which they were started */
	uint32_t first_slot, n_slots;
	bool slot_begins; /* a begin is in the queue: the one block for it is taken */

	struct wal_segment held[WAL_SEGMENTS_HELD]; /* given, not begun */
	uint32_t n_held;
	uint64_t highest;               /* number that was given */
	struct wal_segment now, before; /* fd < 0: none.  before: its last writes are under way */
	uint64_t before_lsn;            /* of the last record in it */
	uint32_t block;                 /* the next one in `now` */

	uint64_t n_records, n_frames, n_bytes, n_segments, n_full;
	bool no_segment;
};

/* Hands a segment back, if it is one. */
void wal_release(struct wal *w, struct wal_segment *s, uint64_t last_lsn);
/* Blocks of the longest frame. */
uint32_t wal_frame_blocks_max(const struct wal *w);

static inline uint32_t wal_blocks_of(uint64_t bytes)
{
	return (uint32_t)((bytes + WAL_BLOCK - 1) / WAL_BLOCK);
}

#endif
