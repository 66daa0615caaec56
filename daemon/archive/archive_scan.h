/* archive_scan.h - a store's entries, scanned through the read-only mapping, go into an archive.
 *
 * A key that is there from the beginning to the end is in it exactly once and whole, at some version that it had meanwhile (rule
 * P9).  A page of the scan is copied first, and written when the library has said that what was copied is
 * right and complete; else it is copied again.  Memory: a page, that is at most ARCHIVE_PAGE_BYTES or one chain of the index.
 */
#ifndef HC_DAEMON_ARCHIVE_SCAN_H
#define HC_DAEMON_ARCHIVE_SCAN_H

#include "archive.h"

#define ARCHIVE_PAGE_BYTES ((size_t)16 << 20)

struct hc_store;
struct archive_scan {
	struct hc_store *store; /* of the caller's session, in this thread */
	uint32_t idx;           /* archive_store.idx */
	/* Called now and then; other than 0 ends the scan.  NULL: nobody. */
	int (*beat)(void *arg, const struct archive_scan *s);
	void *arg;
	uint64_t n_entries, bytes; /* out: put up to now, keys and values */
	int hc;                    /* out: the library's error, with ARCHIVE_SCAN_LIBRARY */
};

enum { ARCHIVE_SCAN_LIBRARY = 1, ARCHIVE_SCAN_STOPPED = 2 };

/* 0: all of it; ARCHIVE_SCAN_LIBRARY: the library's error is in s->hc (HC_E_NO_STORE: it was dropped meanwhile); _STOPPED: by
 * beat; -ENOMEM, -errno of writing.  Entries that are known to be absent are in it too. */
int archive_scan(struct archive_writer *w, struct archive_scan *s);

#endif
