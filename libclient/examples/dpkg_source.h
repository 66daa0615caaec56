/* dpkg_source.h - the slow source that dpkg_reader puts a cache in front of.
 *
 * An entry is one package record of dpkg's status file, or one whole file of a folder:
 *
 *   key              value
 *   bash             the bytes of its record, from "Package: bash" to its last newline
 *   libc6:amd64      the same, where a name occurs with more than one architecture
 *   /usr/share/...   the bytes of the file
 *
 * The catalogue knows which entries there are, how long each one is, and a checksum; never
 * its bytes.  Whoever wants those without the cache goes to the source: open, read, search.
 *
 * stamp: 32 bits of the source file's time and size.  An entry in the cache carries it as its
 * flags; one of another stamp is out of date.
 *
 * Who may call what: one thread.  A forked child has its own copy.
 */
#ifndef HC_EXAMPLE_DPKG_SOURCE_H
#define HC_EXAMPLE_DPKG_SOURCE_H

#include <stddef.h>
#include <stdint.h>

enum {
	SOURCE_FILES_MAX = 2000,
	SOURCE_FILE_BYTES_MAX = 64 << 10,
	SOURCE_FILES_BYTES_MAX = 16 << 20, /* of all files together */
	SOURCE_RECORDS_MAX = 100000,
	SOURCE_STATUS_BYTES_MAX = 64 << 20,
	SOURCE_WHY_BYTES = 512,
};

struct source_entry {
	char *key;
	uint32_t key_bytes;
	uint32_t
		name_bytes; /* of a record: the part of key that is the package's name; 0: a file */
	uint64_t bytes;     /* of the value */
	uint64_t sum;       /* source_sum() of the value */
	uint32_t stamp;
};

struct source {
	const char *status; /* path of dpkg's status file; the caller's */
	struct source_entry *entry;
	size_t n, n_max;
	size_t n_records, n_files;
	uint64_t bytes; /* of all values */
	uint64_t record_bytes;
};

/* A buffer that grows; {0} is an empty one. */
struct source_buf {
	char *mem;
	size_t max;
	const char *value; /* what source_read() found, in mem; until the next call */
	size_t value_bytes;
};

/* Reads the status file and, if files_dir is not NULL, the folder below it: at most
 * SOURCE_FILES_MAX files, empty and large ones left out.  0; -1: `why` says what is wrong. */
int source_load(
	struct source *s, const char *status, const char *files_dir, char why[SOURCE_WHY_BYTES]);
void source_free(struct source *s);

enum { SOURCE_CHANGED = 1, SOURCE_GONE = 2 };
/* Fetches an entry's bytes the slow way: opens its file, reads it, looks for the record.
 * 0; SOURCE_CHANGED: the file is not the one that the catalogue was made from; the entry's length,
 * sum and stamp now are what was found; SOURCE_GONE: the entry is there no more, or no memory. */
int source_read(const struct source *s, struct source_entry *e, struct source_buf *buf);
void source_buf_free(struct source_buf *buf);

/* FNV-1a (Fowler, Noll, Vo), 64 bits. */
uint64_t source_sum(const void *bytes, size_t n);

#endif
