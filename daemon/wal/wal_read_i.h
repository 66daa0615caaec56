/* wal_read_i.h - the reader, for its own files.
 *
 *   wal_chain.c   which files are the log, in which order, and where each is cut
 *   wal_read.c    frame by frame, record by record
 *   wal_after.c   what is behind a break: a torn tail, or damage
 */
#ifndef HC_DAEMON_WAL_READ_I_H
#define HC_DAEMON_WAL_READ_I_H

#include "wal_read.h"

/* Of a damaged log so many damages are looked behind to its very end; of others only until it is known what they are. */
enum { WAL_LOOKS_MAX = 64 };

/* A part of the chain. */
struct wal_link {
	const struct wal_file *file; /* NULL: it is missing */
	uint64_t number;
	bool begun; /* its begin is right, and is `begin` */
	bool below; /* it is not known which one is before it: the next lower file is taken */
	struct wal_begin begin;
	uint32_t cut;     /* blocks from this one on are void; UINT32_MAX: it was not cut */
	uint32_t cut_crc; /* with a cut: of the last frame */
	uint64_t cut_sequence;
};

struct wal_chain {
	struct wal_link *link; /* [n], the oldest first */
	size_t n, room;
	size_t n_known; /* the first so many are named; what is behind may be what a torn begin hides */
	uint8_t identity[WAL_IDENTITY_BYTES];
	bool found;
	enum wal_file_state *state; /* [opts.n_files] */
};

/* 0, -ENOMEM. */
int wal_chain_make(const struct wal_read_opts *opts, struct wal_chain *ret);
void wal_chain_free(struct wal_chain *c);

/* A segment's bytes, one at a time. */
struct wal_bytes {
	const uint8_t *at;
	uint8_t *own; /* memory of ours that holds them, or NULL */
	size_t own_bytes;
	uint32_t n_blocks;
	int error; /* of the read: what is behind n_blocks could not be read */
};
/* 0, -ENOMEM. */
int wal_bytes_load(struct wal_bytes *b, const struct wal_file *f);
void wal_bytes_free(struct wal_bytes *b);
/* So many bytes at off, fewer at the file's end.  How many, or -errno. */
int64_t wal_bytes_at(const struct wal_file *f, uint64_t off, void *to, size_t bytes);

/* What good frames there are behind a place. */
struct wal_after {
	bool any;
	uint64_t durable_sequence; /* the highest that one of them knew to be durable */
	bool begun;                /* one of them knew that the begin of its segment was */
	uint64_t frames, records;
	uint64_t next_sequence, next_lsn, end_lsn;
	size_t next_link;
	uint32_t next_block;
};
/* Looks at what is behind block `from` of link i, for frames of a sequence of at least `sequence`.  now: the bytes of link i,
 * or NULL.  all: to the end; else the first one will do, once durable_sequence reaches `sequence`.  0, -ENOMEM. */
int wal_after_look(const struct wal_chain *c, size_t i, const struct wal_bytes *now, uint32_t from,
	uint64_t sequence, bool all, struct wal_after *ret);

#endif
