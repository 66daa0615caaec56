/* wal.h - the log's writer: records go into staging, frames go to the disk, LSNs become durable in their order.
 *
 *            wal_append            wal_submit                    wal_io's done
 *   record ------------> staging ------------> 1..4 writes ----------------------> durable(lsn)
 *                        (survives the engine)     '--> one failed ----> failed(error): nothing more is acknowledged
 *
 * Rules.
 *  1. The log opens no file.  It is given segments (wal_segment_give): files of one size, written over with zeroes or
 *     recycled, by whoever may; and it says when it is done with one (opts.released).
 *  2. A mutation: wal_append (staging), intent, publish, feed, result, wal_settle, clear the intent (P23).  One at a time:
 *     between append and settle nothing else is appended or submitted.
 *  3. wal_submit once per turn of the loop, after that turn's mutations.  It starts writes while fewer than writes_max are
 *     under way; what finds no place goes along with the next one.  There is no timer: a write that is done starts the
 *     next by itself.
 *  4. durable(lsn) comes from within the loop's dispatch, with growing LSNs; one call may be about several frames.
 *     The callee may append and settle, but not free the log.  Whatever was promised up to lsn may be answered then, and not before.
 *  5. Any write that failed, or was short, poisons the log: failed(error) is called once, no LSN becomes durable any
 *     more, wal_append answers WAL_POISONED.  The owner answers those who wait with an error, and either calls
 *     wal_recover, which writes everything that is not durable into a new segment, or wal_free, and says that it goes on
 *     without durability.  Nothing is written again in the same place.
 *  6. After the death of an engine the next one calls wal_adopt with the same staging.  It finds every record whose append
 *     had ended, and writes all that are not known to be durable into a new segment.  Answer nobody before
 *     wal_last_lsn() is durable.
 *
 * Staging: opts.stage, which all this needs memory for.  Layout and order of stores: wal_stage.h.
 * Threads: one.  Fork: the child must not touch it.
 */
#ifndef HC_DAEMON_WAL_H
#define HC_DAEMON_WAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "wal_format.h"
#include "wal_io.h"

struct wal;

/* Bytes of staging: a multiple of 4096.  Less cannot be; a quarter of it bounds a record. */
#define WAL_STAGE_BYTES_MIN (128u << 10)
#define WAL_STAGE_BYTES_MAX (1ull << 30)

/* The end of a log: where the next segment says that its predecessor was cut.  All zero: there is no log yet.
 * Filled by wal_read (wal_read.h); kept in staging afterwards.  Where a checkpoint is newer than the log, the caller raises
 * lsn to that of the checkpoint: what follows has higher ones (P25). */
struct wal_end {
	uint64_t segment;  /* number of the last one; 0: none */
	uint32_t block;    /* the first one behind the last good frame */
	uint32_t crc;      /* of that frame */
	uint64_t sequence; /* of that frame */
	uint64_t lsn;      /* of the last record */
};

/* A place for the log to go on in.  The descriptor: read and write, close-on-exec, of a description of its own on which
 * this engine holds flock(LOCK_EX) (P24); with O_DIRECT where the file system has it.  It belongs to the log until
 * `released` names it; wal_free releases all. */
struct wal_segment {
	uint64_t
		number; /* higher than each that was ever begun (W4): wal_read says the lowest after a start */
	int fd;
};

struct wal_opts {
	void *stage;        /* page-aligned memory that outlives the engine; lifetime: the log's */
	size_t stage_bytes; /* WAL_STAGE_BYTES_MIN..MAX, a multiple of 4096 */
	struct wal_io *io;  /* lifetime: the log's */
	uint8_t identity[WAL_IDENTITY_BYTES]; /* of the log; not all zero */
	uint64_t
		segment_bytes; /* of every segment that will be given; WAL_SEGMENT_BYTES_MIN..MAX, a multiple of 4096 */
	uint32_t writes_max;                      /* 1..WAL_WRITES_MAX; 0: 2 */
	uint32_t ahead;                           /* unused segments that it wants to have; 0: 1 */
	void (*durable)(void *arg, uint64_t lsn); /* rule 4 */
	void (*failed)(void *arg, int error);     /* rule 5; error: -errno, -EIO of a short write */
	/* Nothing is written to this segment any more; its records are all durable, up to LSN last_lsn, unless it is left
	 * because of an error.  The callee closes fd.  last_lsn 0: it was not used, or nothing in it counts. */
	void (*released)(void *arg, const struct wal_segment *s, uint64_t last_lsn);
	void *arg;
	uint64_t (*now_ns)(void); /* CLOCK_REALTIME; NULL: the clock */
};

/* Begins an empty staging behind `end`, which is where the log on disk ends.  Whatever was in the staging is gone.
 * 0; -EINVAL (opts), -ENOMEM. */
int wal_new(const struct wal_opts *opts, const struct wal_end *end, struct wal **ret);

/* What wal_adopt found. */
struct wal_adopted {
	uint64_t durable_lsn; /* known to be durable */
	uint64_t last_lsn;    /* of the last record in staging, or durable_lsn */
	uint64_t n_records;   /* above durable_lsn */
	uint64_t
		unsettled_lsn; /* the last record's, if the engine died between wal_append and wal_settle; else 0 */
	struct wal_end end; /* the end of what is durable */
};

/* Adopts the staging of an engine that is dead, and whose writes have ended (P24: its locks on segments are free).
 *
 * 0; WAL_NO_STAGE: there is none of this log here (all zero, another identity, another size or version, or damaged):
 * read the files and call wal_new; -EINVAL, -ENOMEM.
 *
 * ret_found->unsettled_lsn not 0: it is not known whether that mutation happened.  The caller decides by the intent
 * (it stands for this LSN, and its slot holds the new word: it happened; else it did not), and calls wal_adopt_decide
 * before it clears the intent, and before anything else here.  May itself die at any instant and be called again. */
int wal_adopt(const struct wal_opts *opts, struct wal **ret, struct wal_adopted *ret_found);
enum { WAL_NO_STAGE = 1 };
void wal_adopt_decide(struct wal *w, bool happened);

/* Releases every segment, frees the handle, leaves staging and files as they are.  No write is under way
 * (wal_n_writes() is 0).  NULL is allowed. */
void wal_free(struct wal *w);

/* ------------------------------------------------------------------ segments */

/* How many segments it would like to be given now: 0 when it has enough. */
uint32_t wal_segments_wanted(const struct wal *w);
/* 0; -EINVAL: its number is not higher than that of each one given or, before an adopted staging, begun; or fd < 0; -ENOSPC: more than WAL_SEGMENTS_HELD are there. */
int wal_segment_give(struct wal *w, const struct wal_segment *s);
enum { WAL_SEGMENTS_HELD = 8 };
/* Segments of this number and above stay as they are, even if a checkpoint is newer than all their records: the log's end
 * is there until the next begin is durable.  Below it, one that a checkpoint covers may be recycled (a rename to a number
 * that was not used) or removed, the oldest first: one that is missing in the middle looks as damage does to who has no
 * checkpoint (`hypercache wal verify`).  0: there is none yet. */
uint64_t wal_keep_from(const struct wal *w);

/* ------------------------------------------------------------------- records */

/* What a record is made of; fields as in struct wal_record.  The value is in two pieces (either may be empty). */
struct wal_change {
	uint16_t kind, marks;
	uint32_t flags, ttl_ms, took_ms;
	uint64_t lsn; /* above that of every record before */
	uint64_t store_id, session_id, request;
	uint64_t expiry_ns, created_ns, modified_ns, stamp;
	const void *key;
	uint32_t key_bytes;
	const void *head, *tail;
	uint64_t head_bytes, tail_bytes;
};

enum wal_append_result {
	WAL_FULL = 1,     /* staging has no room until a write is done: wait for durable() */
	WAL_POISONED = 2, /* rule 5 */
};

/* Puts a record into staging.  0: it is there, and unsettled; WAL_FULL, WAL_POISONED; -EMSGSIZE: it is larger than
 * wal_record_max(), and never will be taken; -EINVAL: the LSN is not higher than the last one's, or the key is longer than
 * WAL_KEY_BYTES_MAX.  Nothing has changed unless it is 0. */
int wal_append(struct wal *w, const struct wal_change *c);
/* Is there room for a record of this key and value now?  As wal_append would answer. */
int wal_room(const struct wal *w, uint64_t key_bytes, uint64_t value_bytes);
/* Room for n records (0..WAL_BATCH_MAX) of together so many bytes, each by wal_record_bytes: for a batch that is
 * refused as a whole or goes through.  0 or WAL_FULL or WAL_POISONED; -EMSGSIZE: never. */
int wal_room_for(const struct wal *w, uint32_t n, uint64_t bytes_of_all, uint64_t bytes_of_longest);
/* The last record's mutation has happened (rule 2). */
void wal_settle(struct wal *w);
/* The last record's mutation did not happen: it is as if it had not been appended.  In place of wal_settle, before the intent
 * is cleared.  Its LSN may be used again. */
void wal_take_back(struct wal *w);
/* The largest value of wal_record_bytes() that is taken. */
uint64_t wal_record_max(const struct wal *w);

enum wal_submit_result {
	WAL_NO_SEGMENT = 1, /* something waits, and there is no segment for it: wal_segment_give */
};
/* Starts writes (rule 3).  0: nothing waits, or as much as may be is under way; WAL_NO_SEGMENT.  A poisoned log
 * starts nothing: 0. */
int wal_submit(struct wal *w);

uint64_t wal_durable_lsn(const struct wal *w); /* records up to it are durable */
uint64_t wal_last_lsn(const struct wal *w);    /* of the last record appended; durable or not */
uint32_t wal_n_writes(const struct wal *w);    /* under way */

/* Closes the log in good order: writes a frame that says so (WAL_FRAME_ENDS), once all is durable.
 * 0: it was started: it is over when wal_n_writes() is 0, and good unless wal_failed(); nothing may be appended any more.
 * WAL_NOT_YET: something is not durable yet: call again after durable(); WAL_POISONED. */
int wal_close(struct wal *w);
enum { WAL_NOT_YET = 1 };

/* ---------------------------------------------------------------- after errors */

/* 0, or -errno of the write that poisoned it. */
int wal_failed(const struct wal *w);
/* Forgives: everything that is not durable will be written into the next segment, which says where the one before
 * was cut.  0: go on with wal_submit (nothing happens if it was not poisoned); WAL_NOT_YET: writes are still under way:
 * call again when wal_n_writes() is 0.
 * Segments in use are released; those that were given and are unused stay.  Durability comes with durable(), as ever. */
int wal_recover(struct wal *w);

/* ------------------------------------------------------------------- status */

struct wal_status {
	uint64_t segment;       /* number of the one that is written; 0: none yet */
	uint64_t segment_block; /* the next block in it */
	uint64_t segment_bytes;
	uint32_t n_unused; /* segments that were given and not begun */
	uint32_t n_writes; /* under way */
	uint64_t durable_lsn, last_lsn;
	uint64_t
		oldest_ns; /* CLOCK_REALTIME of about the oldest record that is not durable; 0: all are */
	uint64_t stage_bytes, stage_used_bytes; /* room for frames; taken by what is not durable */
	uint64_t n_records, n_frames,
		n_bytes; /* written and durable, since this handle began; bytes of whole blocks */
	uint64_t n_segments; /* begun by this handle */
	uint64_t n_full;     /* appends that were answered WAL_FULL */
	int failed;          /* wal_failed() */
	bool no_segment;     /* something waits for a segment */
};
void wal_status(const struct wal *w, struct wal_status *ret);

#endif
