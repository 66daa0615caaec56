/* wal_frame.h - sums of frames and records: what the writer makes and the reader checks. */
#ifndef HC_DAEMON_WAL_FRAME_H
#define HC_DAEMON_WAL_FRAME_H

#include "wal_format.h"

/* Where the sums of what lies in this block begin. */
uint32_t wal_crc_seed(const uint8_t *identity, uint64_t segment, uint32_t block);

/* The sum of a whole record in memory. */
uint32_t wal_record_crc(const struct wal_record *r);

/* Fills in what the place, the units and the sums are: a frame whose flags, previous, sequence, durables, LSNs, time_ns,
 * bytes and n_records are set.  Zeroes what is behind `bytes` in the last block.  at: its first block, in memory. */
void wal_frame_seal(void *at, const uint8_t *identity, uint64_t segment, uint32_t block);

/* Is this the first sector of a frame of this log, at this place?  Its lengths fit the blocks_left that are there.
 * 0 or -EBADMSG. */
int wal_frame_check(const void *at, const uint8_t *identity, uint64_t segment, uint32_t block,
	uint32_t blocks_left);
/* The first unit that is not right, of a frame whose first sector is; n_units: all are. */
uint32_t wal_frame_bad_unit(const void *at, const uint8_t *identity);

/* The record at off of so many bytes: lengths and sum.  0 or -EBADMSG. */
int wal_record_check(const uint8_t *frame, uint32_t off, uint32_t bytes);

#endif
