/* hc_bell.h - a descriptor that becomes readable when a pool's feed moves.  Internal to libclient.
 *
 *   epoll set ── socket   a connection of its own, on which a HELLO waits until the feed moves (wire.h, feed_at)
 *             └─ timer    when to try again, while there is none
 *
 * It rings until it is set again, and is set where nothing is left to be taken: whatever has come since then is seen by the
 * engine, which answers at once if its position is another.  So nothing that comes is missed, and nothing is written by
 * us that somebody could fill (rule P28).  A lost connection rings, and is made again when the bell is set.
 *
 * One thread at a time.  Fork: the child closes its copies and does nothing else.
 */
#ifndef HC_BELL_H
#define HC_BELL_H

#include <stdbool.h>
#include <stdint.h>
#include "wire.h"

struct hc_conn;

struct hc_bell {
	int epoll_fd; /* what the program waits for; -1: not wanted */
	int timer_fd, fd;
	bool asked;          /* a HELLO waits for its answer */
	uint64_t backoff_ns; /* from the last attempt that failed to the next; 0: none did */
	uint64_t retry_ns;   /* when that is; 0: at once */
	struct wire_buf in;
};

void hc_bell_init(struct hc_bell *b);
void hc_bell_fini(struct hc_bell *b); /* also in a forked child */

/* Makes the descriptor, which rings.  0 or -errno. */
int hc_bell_open(struct hc_bell *b);
/* It rings when the head of the feed of that pool is another than pos.  Never waits.  What it cannot do now it tries
 * again, and rings for it, after 1, 2, 4 ... 50 ms. */
void hc_bell_set(struct hc_bell *b, const struct hc_conn *from, uint32_t pool_idx, uint64_t pos);

#endif
