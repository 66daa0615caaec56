/* read_scan.h - walks a store through the read-only mapping, bucket by bucket.
 *
 * The cursor is a hash prefix: buckets are ordered by the hash's high bits, in every
 * table of whatever size (rule P9), so it stays right across growth, reconnects
 * and engines.  A key that is there from the beginning of a scan to its end is
 * reported at least once: no slot moves inside a table (P5), and what moved to the
 * next table is looked up there.  A key may be reported more than once.
 */
#ifndef HC_SHM_READ_SCAN_H
#define HC_SHM_READ_SCAN_H

#include "read.h"

/* What is looked for. */
struct shm_scan {
	const void *prefix; /* of the key; NULL if prefix_bytes is 0 */
	uint64_t prefix_bytes;
	uint64_t store_id;
	uint32_t epoch;
	uint32_t cell; /* pin cell to be used */
	bool absent;   /* also entries that say that there is none */
};

/* One entry, pinned during the call: its key, and as shm_read_find gives it.  Other than
 * 0 ends the scan with that number. */
typedef int shm_scan_fn(
	void *arg, const void *key, uint64_t key_bytes, const struct shm_found *found);

enum { SCAN_END = 1, SCAN_BUSY = 2, SCAN_REVOKED = 3 };

/* Reports the entries of one chain, and moves *cursor behind it.  0: there is more;
 * SCAN_END: that was the last; SCAN_BUSY: it changed at each of many tries (*cursor
 * stays); SCAN_REVOKED: the pins were revoked while fn read, what it saw last may be
 * wrong (*cursor stays); -EBADMSG: damage; else what fn returned (*cursor stays). */
int shm_read_scan(const struct shm_reader *r, const struct shm_map *m, const struct shm_scan *scan,
	uint64_t *cursor, shm_scan_fn *fn, void *arg);

#endif
