/* wal_read.h - the log's reader: every record, in order; where it ends; and what is wrong with it.
 *
 *   wal_read:  chain of segments (by their begins, from the newest backwards)
 *              -> frame by frame -> record(arg, &r) for each
 *              -> a break: a torn tail is cut; damage is told to `damage`, and opts.choice says what then
 *              -> ret->end: where a new segment has to say that the log was cut (wal_new)
 *
 * Nothing is believed: bytes may be anything.  Nothing is written.
 * What is not told: damage of the last frames of a log that was not closed (WAL_FRAME_ENDS), where nothing behind says
 * that they had been durable: it looks as a torn tail does.  opts.durable_lsn helps where somebody knows better.
 */
#ifndef HC_DAEMON_WAL_READ_H
#define HC_DAEMON_WAL_READ_H

#include <stdbool.h>
#include "wal.h"

/* A file that may be a segment.  Bytes are read by pread(2) from fd, or are at `map` if that is not NULL. */
struct wal_file {
	uint64_t number; /* by its name */
	int fd;
	const uint8_t *map;
	uint64_t bytes; /* of the file */
};

enum wal_file_state {
	WAL_FILE_CHAIN = 1,   /* a part of the log */
	WAL_FILE_UNUSED = 2,  /* not begun: zeroes, or what it held under a lower number */
	WAL_FILE_VOID = 3,    /* begun, and nothing in it counts: the chain passes it by */
	WAL_FILE_OTHER = 4,   /* of another log, or of a format that is not known here */
	WAL_FILE_DAMAGED = 5, /* its begin cannot be read, and frames of this log are behind it */
	/* Of the log, below the oldest one that is needed for from_lsn: may be recycled, the oldest first, but for the
	 * highest number of them: the begin behind it, which was read here, may not be durable yet (wal_keep_from). */
	WAL_FILE_OLD = 6,
};
const char *wal_file_state_name(enum wal_file_state s);

enum wal_damage_kind {
	WAL_DAMAGE_FRAME = 1, /* the first sector of a frame is not right */
	WAL_DAMAGE_UNIT,      /* a unit of a frame is not right; its first sector is */
	WAL_DAMAGE_RECORD, /* a record's lengths or its own sum are not right, though the frame's are */
	WAL_DAMAGE_CHAIN,   /* a whole frame that does not follow the one before */
	WAL_DAMAGE_ORDER,   /* an LSN is not higher than the one before */
	WAL_DAMAGE_BEGIN,   /* the begin of a segment is not right */
	WAL_DAMAGE_MISSING, /* a segment that the next one names is not there */
	WAL_DAMAGE_SHORT,   /* the file is shorter than its begin says */
	WAL_DAMAGE_READ,    /* the disk could not read it */
	WAL_DAMAGE_TAIL,    /* it ends below opts.durable_lsn */
};
const char *wal_damage_name(enum wal_damage_kind kind);

/* What is wrong, and what each choice would lose. */
struct wal_damage {
	enum wal_damage_kind kind;
	uint64_t segment;     /* number */
	uint64_t off;         /* in the file, bytes: a multiple of 4096, or of a record */
	uint64_t sequence;    /* of the frame that should be there */
	uint64_t last_lsn;    /* of the last good record before */
	uint64_t next_lsn;    /* of the first good one behind; 0: none */
	uint64_t end_lsn;     /* of the last good one behind; 0: none */
	uint64_t lost_frames; /* that cannot be read: what is lost by WAL_ON_DAMAGE_SKIP */
	uint64_t after_frames,
		after_records; /* good ones behind it: lost besides by WAL_ON_DAMAGE_TRUNCATE */
	int error;             /* of WAL_DAMAGE_READ: -errno */
};

enum wal_on_damage {
	WAL_ON_DAMAGE_STOP = 0, /* wal_read ends with -EBADMSG; nothing was decided */
	WAL_ON_DAMAGE_TRUNCATE, /* the log ends before the damage */
	WAL_ON_DAMAGE_SKIP, /* go on with the next good frame.  Make a checkpoint soon: the damage stays where it is */
};

/* A record, valid during the call.  Lengths fit, its sum is right. */
struct wal_read_record {
	const struct wal_record *r; /* 8-aligned; key and value behind it */
	const void *key, *value;
	uint64_t segment, off; /* where it stands */
};

struct wal_read_opts {
	const struct wal_file *files; /* in the order of their numbers */
	size_t n_files;
	const uint8_t *identity; /* of the log; NULL: that of the newest segment that has one */
	uint64_t
		from_lsn; /* records below are not needed (a checkpoint has them): segments that hold only such are not
	                       * read, and need not be there; their records are not reported */
	uint64_t durable_lsn; /* it is known that the log was durable up to here; 0: nothing is */
	enum wal_on_damage choice;
	bool sync; /* fdatasync each file before it is read: recovery does */
	/* Each record; other than 0 ends wal_read with that value.  May be NULL. */
	int (*record)(void *arg, const struct wal_read_record *r);
	/* Each damage, before the choice is followed.  May be NULL. */
	void (*damage)(void *arg, const struct wal_damage *d);
	/* Now and then: so many bytes of so many.  May be NULL. */
	void (*progress)(void *arg, uint64_t done_bytes, uint64_t all_bytes);
	void *arg;
};

struct wal_read_result {
	struct wal_end end; /* for wal_new.  Where the choice was to skip: the last good frame's */
	uint64_t next_number; /* a segment may be called so: higher than all files' (W4) */
	uint8_t identity[WAL_IDENTITY_BYTES];
	bool found;           /* there is a log: identity is set */
	bool closed;          /* it was closed in good order */
	bool torn;            /* a torn tail was cut: at end */
	uint64_t torn_frames; /* good ones that were cut off with it: never acknowledged */
	uint64_t n_segments, n_frames, n_records, n_bytes; /* read */
	uint64_t first_lsn, last_lsn;                      /* of records; 0: there is none */
	uint64_t first_segment;                            /* the oldest of the chain */
	uint64_t n_damages;
};

/* Reads the log.  0: *ret is filled; -EBADMSG: damage, and the choice was to stop (*ret is filled up to there);
 * -EIO and others of fdatasync; -ENOMEM; what `record` returned.
 * Memory: one segment at a time. */
int wal_read(const struct wal_read_opts *opts, struct wal_read_result *ret);

/* Which part each file plays, without reading more than begins (and, where a begin is damaged, the blocks behind
 * it).  states[n_files].  0, -errno. */
int wal_read_states(const struct wal_read_opts *opts, enum wal_file_state *ret_states);

/* ------------------------------------------------------------------- files */

/* The name of a segment's file: twelve digits and ".wal"; ret_name of WAL_NAME_BYTES. */
enum { WAL_NAME_BYTES = 32 };
void wal_name_format(char ret_name[WAL_NAME_BYTES], uint64_t number);
/* True: it is such a name. */
bool wal_name_parse(const char *name, uint64_t *ret_number);

/* The begin of a segment file, by itself: block is its first 4096 bytes.
 * 0: it is one of log `identity` (NULL: of any), filled in *ret; WAL_BEGIN_ZERO: zeroes; WAL_BEGIN_OTHER: of another
 * log; -EBADMSG: something else, or not right; -EPROTO: of a format that is not known here. */
int wal_begin_check(const void *block, const uint8_t *identity, struct wal_begin *ret);
enum { WAL_BEGIN_ZERO = 1, WAL_BEGIN_OTHER = 2 };

/* Readies a file for the log: the whole of it written over with zeroes and synced, so that blocks are there and nothing
 * of it is a frame.  from, bytes: a part of it, for who does it piece by piece; both multiples of 4096.
 * 0 or -errno (ENOSPC: the disk is full).  A recycled file needs none of this (its sums do not fit any more): rename it. */
int wal_segment_zero(int fd, uint64_t from, uint64_t bytes);

#endif
