/* archive.h - the one file format of entries outside memory: dumps and checkpoints.
 *
 *   0        128
 *   | header | block: stores | block: entries | block: entries | ... | block: end |  nothing follows
 *
 *   block:  0        32
 *           | header | payload, plain or compressed with zstd |
 *
 * All numbers are little endian, at the offsets below; nothing is padded or aligned, and nothing of it depends on the
 * machine or on the layout of the shared memory.  It is written and read once, from front to back, so a pipe will do.
 *
 *   header   0 magic "HCARCHIV"  8 u32 version  12 u32 flags  16 id[16]  32 log_id[16]  48 u64 begin_lsn
 *            56 u64 begun_ns  64 zeroes  124 u32 crc of bytes 0 to 123
 *   block    0 u32 magic "HCAB"  4 u8 kind  5 u8 coding  6 u16 zero  8 u64 number, from 0  16 u32 raw bytes
 *            20 u32 stored bytes  24 u32 n (stores, entries)  28 u32 crc of bytes 0 to 27 and the stored payload,
 *            begun with the header's crc: so a block of another file, or of another place, is not taken for one of here
 *   stores   each: 0 u16 index  2 u8 name bytes  3 u8 zero  4 u32 definition bytes  8 u64 id  16 name, definition
 *   entries  each: 0 u32 key bytes  4 u32 value bytes  8 u16 store  10 u16 marks  12 u32 flags  16 u64 version
 *            24 u64 created_ns  32 u64 modified_ns  40 u64 used_ns  48 u32 hits  52 u32 ttl_ms  56 u64 stamp
 *            64 u64 expires_ns  72 u64 fresh_until_ns  80 u32 took_ms  84 u32 zero  88 key, value
 *   end      0 u64 end_lsn  8 u64 entries  16 u64 key bytes  24 u64 value bytes  32 u64 blocks before it
 *            40 u64 ended_ns  48 u32 crc of all blocks' crcs before it, in order  52 u32 zero
 *
 * Rules
 *   A1  An archive without its end block is not one: whoever wrote it died, or goes on.
 *   A2  A reader believes no length: it takes memory as bytes come, for one block at a time, at most ARCHIVE_RAW_MAX.
 *   A3  A block holds entries up to ARCHIVE_BLOCK_BYTES, or one larger entry alone.  All stores come first.
 *   A4  Every byte counts in a checksum, and every field has one right form: a file with any byte changed is refused.
 *   A5  A version that a reader does not know is refused by its number, never guessed at.
 *
 * Who may call what: a writer or reader is one thread's.  Nothing here prints, exits, or knows of shared memory.
 */
#ifndef HC_DAEMON_ARCHIVE_H
#define HC_DAEMON_ARCHIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARCHIVE_VERSION 1u
#define ARCHIVE_BLOCK_BYTES ((uint32_t)1 << 20)
#define ARCHIVE_KEY_MAX 65536u
#define ARCHIVE_VALUE_MAX ((uint32_t)1 << 30) /* what a frame can carry at most */
#define ARCHIVE_RAW_MAX (ARCHIVE_VALUE_MAX + ARCHIVE_KEY_MAX + 88)
#define ARCHIVE_STORES_MAX 64u
#define ARCHIVE_NAME_MAX 31u         /* bytes of a store's name */
#define ARCHIVE_DEFINITION_MAX 1023u /* bytes of its definition */

enum archive_flags {
	ARCHIVE_CHECKPOINT = 1
}; /* log_id, begin_lsn and the end's lsn mean something to a log */

/* What it is, known before the first entry. */
struct archive_head {
	uint32_t flags;
	uint8_t id[16];     /* random, made by the writer */
	uint8_t log_id[16]; /* of the log that goes on from begin_lsn; zeroes: none */
	uint64_t begin_lsn; /* everything up to this LSN was visible when the scan began */
	uint64_t begun_ns;  /* CLOCK_REALTIME */
};

struct archive_store {
	uint32_t idx; /* in this archive: 0, 1, 2 .. */
	uint64_t id;  /* in the daemon that it came from */
	char name[ARCHIVE_NAME_MAX + 1];
	char definition[ARCHIVE_DEFINITION_MAX +
			1]; /* lines KEY=VALUE, as `store create` takes them */
};

enum archive_marks { ARCHIVE_ABSENT = 1, ARCHIVE_FRESH = 2 };

/* An entry.  Times are CLOCK_REALTIME in ns. */
struct archive_entry {
	const void *key, *value;         /* given by the reader: until its next call */
	uint32_t key_bytes, value_bytes; /* 1 .. ARCHIVE_KEY_MAX; 0 .. ARCHIVE_VALUE_MAX */
	uint32_t store;                  /* archive_store.idx */
	uint32_t
		marks; /* ABSENT: the key is known to be absent, value_bytes is 0.  FRESH: fresh_until_ns counts */
	uint32_t flags;        /* the writer's own */
	uint32_t hits, ttl_ms; /* as l_item.h has them: hints counted; what was asked for */
	uint32_t took_ms;      /* FRESH: how long it took to compute; else 0 */
	uint64_t version;      /* LSN of the mutation that made it */
	uint64_t created_ns, modified_ns;
	uint64_t used_ns;        /* last use that the engine knew of; 0: not known */
	uint64_t stamp;          /* the caller's order mark; 0 with FRESH */
	uint64_t expires_ns;     /* 0: never */
	uint64_t fresh_until_ns; /* FRESH; else 0 */
};

/* How it ended. */
struct archive_end {
	uint64_t end_lsn; /* largest version of its entries; 0: there are none */
	uint64_t n_entries, key_bytes, value_bytes, n_blocks;
	uint64_t ended_ns; /* CLOCK_REALTIME */
};

/* --------------------------------------------------------------- writing */

struct archive_writer;

struct archive_writer_opts {
	int zstd_level; /* 0: plain; 1 .. 19 */
	uint64_t
		sync_bytes; /* fdatasync(2) after so many, so that the last sync is short; 0: never */
};

/* Begins an archive on fd (its owner stays the caller; a pipe will do): head->id and begun_ns are filled in if they are 0.
 * 0 and *ret; -ENOMEM, -ENOTSUP (built without zstd), -errno of writing (also EPIPE: SIGPIPE is the caller's to ignore). */
int archive_writer_new(struct archive_writer **ret, int fd, const struct archive_head *head,
	const struct archive_store *store, uint32_t n_stores,
	const struct archive_writer_opts *opts);
/* Puts an entry behind the others.  Copies it.  -EINVAL: its lengths, store or marks are none (nothing was written).
 * After any other error only archive_writer_free is left. */
int archive_put(struct archive_writer *w, const struct archive_entry *entry);
/* Bytes written up to now. */
uint64_t archive_writer_bytes(const struct archive_writer *w);
/* Writes the end; *ret (may be NULL).  No sync: see archive_file.h. */
int archive_finish(struct archive_writer *w, struct archive_end *ret);
void archive_writer_free(struct archive_writer *w); /* NULL is allowed */

/* --------------------------------------------------------------- reading */

struct archive_reader;

/* Conditions of the reader.  archive_fault() says them in words, with the place. */
enum archive_result {
	ARCHIVE_END = 1, /* the end block was read, its counts were right, and nothing follows */
	ARCHIVE_FOREIGN = 2, /* no archive at all */
	ARCHIVE_NEWER = 3,   /* of a version that this program does not know */
	ARCHIVE_CUT = 4,     /* it ends before its end block */
	ARCHIVE_DAMAGED = 5,
	ARCHIVE_NO_ZSTD = 6, /* it is compressed, and this program was built without zstd */
};

/* Reads header and stores from fd, at its position.  0 and *ret; a condition; -ENOMEM, -errno of reading.  With a condition
 * *ret is set too, for archive_fault() and archive_reader_free() alone. */
int archive_reader_new(struct archive_reader **ret, int fd);
const struct archive_head *archive_head_of(const struct archive_reader *r);
const struct archive_store *archive_stores_of(const struct archive_reader *r, uint32_t *ret_n);
/* The next entry.  0 and *ret, valid until the next call; a condition; -errno.  Every block's checksum was right
 * before its first entry is given, but only ARCHIVE_END says that the whole file is. */
int archive_next(struct archive_reader *r, struct archive_entry *ret);
/* The same for up to max (1 ..) of them, *ret_n at least one with 0 returned: those that the present block still has, so all of
 * them are valid until the next call. */
int archive_next_some(
	struct archive_reader *r, struct archive_entry *ret, uint32_t max, uint32_t *ret_n);
/* After ARCHIVE_END. */
const struct archive_end *archive_end_of(const struct archive_reader *r);
/* Bytes read up to now, as they are stored: for progress. */
uint64_t archive_reader_bytes(const struct archive_reader *r);
/* Header and end alone, of a file that can be read at any place: is it finished, and of what?  What is between is not looked at.
 * 0 and both (each may be NULL); ARCHIVE_FOREIGN, _NEWER, _CUT, _DAMAGED; -errno. */
int archive_peek(int fd, struct archive_head *ret_head, struct archive_end *ret_end);
/* What was wrong and where, one line: "byte 4711, block 3: its checksum is wrong".  "" if nothing was.  Lives as the reader. */
const char *archive_fault(const struct archive_reader *r);
void archive_reader_free(struct archive_reader *r); /* NULL is allowed */

#endif
