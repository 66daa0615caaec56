/* hc_conn.h - the connection of a session: HELLO, the window of unanswered
 * requests, reconnection.  Internal to libclient.
 *
 *   out:  | frame | frame | frame | frame |         frames without an answer, oldest first
 *         begin          ^sent           end
 *
 * Every mutation stays in `out` until its answer came: after a lost connection
 * all of `out` is sent again (rule P23).  sent_bytes counts from begin on the
 * connection of now; handed_bytes is the furthest that any connection got: what
 * lies behind it was never given to the kernel and may be taken back.
 *
 * Who may call what: everything under hc->lock, but for hc_conn_up().
 * Numbers: -errno inside, enum hc_error only in answers' status; hc_i.h has the border.
 */
#ifndef HC_CONN_H
#define HC_CONN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "atomic.h"
#include "wire.h"

#define HC_WINDOW_MAX 64u /* requests without an answer, whatever the engine allows */
#define HC_WINDOW_BYTES \
	(1024u * 1024u) /* no further frame is begun behind this many unanswered bytes */

/* A request without an answer. */
struct hc_pending {
	uint64_t request;
	size_t frame_bytes;
	uint32_t verb;
	int *ret_status; /* where its status goes; NULL: nobody waits any more */
};

struct hc_conn {
	int fd;     /* -1: not connected */
	shm_u32 up; /* 1: connected; read without the lock by hc_health */
	bool stale; /* the daemon does not know the session: no mutation can be made any more */
	struct sockaddr_un addr;
	socklen_t addr_bytes;
	uint64_t timeout_ns;
	struct wire_request
		hello; /* sent first on each connection; session is 0 until there is one */
	uint32_t max_inflight;
	uint64_t max_frame;
	uint64_t next_request; /* number of the next mutation, from 1 */

	struct wire_buf out, in;
	size_t sent_bytes, handed_bytes;
	struct hc_pending pending[HC_WINDOW_MAX]; /* a ring, oldest at pending_begin */
	uint32_t pending_begin, n_pending;
	const shm_u32 *sup_word; /* the supervisor's life, once mapped */
};

static inline bool hc_conn_up(const struct hc_conn *c) { return shm_load32_rlx(&c->up) != 0; }

#endif
