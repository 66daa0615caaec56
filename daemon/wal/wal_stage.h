/* wal_stage.h - staging: memory that outlives the engine, with what is not on the disk yet.
 *
 *   0      wal_stage: positions, and a ring of descriptors of frames
 *   4096   one block, for the begin of a segment and for the end of the log
 *   8192   blocks[n_blocks], a ring: frames, each contiguous, in its order
 *
 *   frames   ... durable | being written | waits | open
 *                        head                          tail        free-running numbers; descriptor n % WAL_STAGE_FRAMES
 *
 * A frame takes records while it is the last one and was not handed to the disk.  Its header is filled in when it is
 * (wal_frame_seal), and again when it has to go to another place: so here only its records count.
 *
 * Order of stores, and what a new engine finds after a death between any two of them (STEPs in wal_append.c):
 *
 *   descriptor of a new frame, bytes = 512; tail + 1    STEP wal:opened   an empty frame, which is taken away
 *   unsettled = LSN                                     STEP wal:begun    not there
 *   the record's bytes                                  STEP wal:written  not there: `bytes` does not reach it
 *   bytes                                               STEP wal:appended there, unsettled: the intent decides
 *   unsettled = 0                                       STEP wal:settled  there
 *   place on the disk, header, write                    STEP wal:sealed   there; will be written again, elsewhere
 *   head + 1                                            STEP wal:durable  not there: it is on the disk
 *
 * The descriptor of the last durable frame, head - 1, stays: it is the end of the log on disk (struct wal_end).
 *
 * Single writer.  A later engine reads, after the death of the one before (rule P22).
 */
#ifndef HC_DAEMON_WAL_STAGE_H
#define HC_DAEMON_WAL_STAGE_H

#include "wal.h"

#define WAL_STAGE_MAGIC 0x3145474154534c57ull /* "WLSTAGE1" */
#define WAL_STAGE_FRAMES 62

struct wal_stage_frame {
	shm_u64 bytes;     /* [W: eng; R: eng] of it that are used, WAL_SECTOR.. */
	uint64_t at;       /* [W: eng; R: eng] index of its first block in the ring */
	uint64_t segment;  /* [W: eng; R: eng] where it was sent: number of the segment */
	uint32_t block;    /* [W: eng; R: eng] first block there */
	uint32_t n_blocks; /* [W: eng; R: eng] of it */
	uint64_t sequence; /* [W: eng; R: eng] wal_frame.sequence */
	uint64_t last_lsn; /* [W: eng; R: eng] wal_frame.last_lsn */
	uint32_t crc;      /* [W: eng; R: eng] wal_frame.crc */
	uint32_t pad0[3];
};
SHM_SIZE(wal_stage_frame, 64);

struct wal_stage {
	shm_u64 magic; /* [W: eng, last at format; R: eng] */
	uint32_t major;
	uint32_t n_frames;    /* WAL_STAGE_FRAMES */
	uint64_t stage_bytes; /* of all */
	uint64_t n_blocks;    /* of the ring */
	uint8_t identity[WAL_IDENTITY_BYTES];
	uint64_t pad0[2];
	shm_u64 head; /* [W: eng; R: eng] the first frame that is not durable */
	shm_u64 tail; /* [W: eng; R: eng] one behind the last frame */
	shm_u64 unsettled; /* [W: eng; R: eng] LSN of the record whose mutation is under way; 0: none is */
	shm_u64 begun; /* [W: eng; R: eng] number of the last segment that was begun: it is used up */
	uint64_t pad1[4];
	struct wal_stage_frame frame[WAL_STAGE_FRAMES];
};
SHM_SIZE(wal_stage, 4096);
SHM_AT(wal_stage, head, 64);
SHM_AT(wal_stage, tail, 72);
SHM_AT(wal_stage, unsettled, 80);
SHM_AT(wal_stage, frame, 128);

enum { WAL_STAGE_BEGIN_OFF = 4096, WAL_STAGE_RING_OFF = 8192 };

static inline struct wal_stage_frame *wal_stage_at(struct wal_stage *s, uint64_t n)
{
	return &s->frame[n % WAL_STAGE_FRAMES];
}
static inline uint8_t *wal_stage_ring(struct wal_stage *s, uint64_t block)
{
	return (uint8_t *)s + WAL_STAGE_RING_OFF + block * WAL_BLOCK;
}

/* What the records of a frame in staging say. */
struct wal_stage_sum {
	uint64_t first_lsn, last_lsn;
	uint32_t n_records;
	uint32_t last_bytes; /* of the last record */
};
/* 0; -EBADMSG: a record is not right. */
int wal_stage_sum(
	const struct wal_stage *s, uint64_t n, uint64_t after_lsn, struct wal_stage_sum *ret);

/* Formats a staging that ends where `end` says; opts are right. */
void wal_stage_format(const struct wal_opts *opts, const struct wal_end *end);
/* Is this a staging of this log?  0, or WAL_NO_STAGE. */
int wal_stage_check(const struct wal_opts *opts);
void wal_stage_end(struct wal_stage *s, struct wal_end *ret);

#endif
