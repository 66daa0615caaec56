/* trace.h - reads traces of cache accesses, one request at a time.
 *
 *   NAME.u32            little-endian 32-bit object numbers
 *   NAME.oracleGeneral  24-byte records of libCacheSim: u32 seconds, u64 object, u32 bytes, i64 next
 *   NAME.csv            a line for each request: KEY or KEY,BYTES or SECONDS,KEY,BYTES[,...]; a first
 *                       line whose numbers are none is a heading; a key is any bytes but comma and newline
 *
 * Each also with .zst behind it, if the program was built with libzstd.  One thread.
 */
#ifndef HC_TOOLS_TRACE_H
#define HC_TOOLS_TRACE_H

#include <stddef.h>
#include <stdint.h>

enum {
	TRACE_KEY_BYTES_MAX = 4096,
	TRACE_WHY_BYTES = 512,
};

struct trace;

struct trace_request {
	uint64_t object; /* its number; of a key in text, its hash */
	uint64_t time_s; /* since some beginning; 0: unknown */
	uint32_t bytes;  /* of its value; 0: unknown */
	const char *
		key; /* as it stands in the file; NULL: there are only numbers.  Until the next call */
	size_t key_bytes; /* up to TRACE_KEY_BYTES_MAX */
};

/* 0 and *ret; or -errno and a line for people in why. */
int trace_open(const char *path, struct trace **ret, char why[TRACE_WHY_BYTES]);
/* 0 and the next request; 1 at the end; or -errno and a line in why. */
int trace_next(struct trace *t, struct trace_request *ret, char why[TRACE_WHY_BYTES]);
void trace_close(struct trace *t); /* may be NULL */

#endif
