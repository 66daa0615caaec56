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
 * Numbers: functions return -errno or a condition of their own; a reply's status
 * is a number of hypercache.h.
 */
#ifndef HC_CONN_H
#define HC_CONN_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "atomic.h"
#include "wire.h"

#define HC_WINDOW_MAX 64u               /* requests without an answer, whatever the engine allows */
#define HC_WINDOW_BYTES (1024u * 1024u) /* no frame is begun behind this many unanswered bytes */
#define HC_BATCH_BYTES (256u * 1024u)   /* no item is added behind this many bytes of a batch */
#define HC_BACKOFF_MIN_NS 1000000ull
#define HC_BACKOFF_MAX_NS 50000000ull
#define HC_SLICE_NS 100000000ull /* receive timeout of the socket */

/* What came of a request. */
struct hc_reply {
	int status;
	uint64_t lsn, value; /* of the answer; 0 if there was none */
};

/* Who is told, once for each item i (0, 1 ..; 0 alone but for a batch); answered NULL: nobody, any
 * more. */
struct hc_asker {
	void (*answered)(void *arg, uint32_t i, const struct hc_reply *reply);
	void *arg;
	bool stays; /* asks on when a call that waits gives up (hc_async.h) */
};

/* A frame without an answer. */
struct hc_pending {
	uint64_t request; /* of its first item */
	size_t frame_bytes;
	uint32_t verb;
	uint32_t n; /* items; 1 but for a batch */
	bool quiet;
	struct hc_asker asker;
};

struct hc_conn {
	int fd;        /* -1: not connected */
	shm_u32 up;    /* 1: connected; read without the lock by hc_health */
	bool greeting; /* HELLO was sent, its answer has not come: not up yet */
	bool stale;    /* the daemon does not know the session: no mutation can be made any more */
	shm_u32 interrupted; /* 1: nobody waits (hc_interrupt); written and read without the lock */
	struct sockaddr_un addr;
	struct wire_request
		hello;         /* first on each connection; its session is 0 until there is one */
	uint32_t max_inflight; /* 1..HC_WINDOW_MAX */
	size_t max_frame;
	uint64_t next_request; /* number of the next mutation, from 1 */
	uint64_t backoff_ns;   /* from the last attempt to connect to the next; 0 after an answer */
	uint64_t attempt_ns;   /* when that may be */
	uint64_t spin_ns;      /* an answer is looked for that long before the thread sleeps */
	const shm_u32 *sup_word; /* the supervisor's life; NULL: nothing mapped yet */
	shm_u64 *requests; /* how many were ever made, for tools; under the lock; NULL: likewise */

	struct wire_buf out, in;
	size_t sent_bytes, handed_bytes;          /* see above */
	struct hc_pending pending[HC_WINDOW_MAX]; /* a ring, oldest at pending_begin */
	uint32_t pending_begin, n_pending;
	uint32_t n_unanswered;   /* items of all of them: at most max_inflight */
	struct wire_batch batch; /* the one that is being made */
	bool batch_quiet;

	int watch_fd;          /* an epoll descriptor that fd is in; -1: none */
	uint32_t watch_events; /* what for; 0: fd is not in it */
};

/* What the answer to HELLO brought.  Owns the descriptors until hc_handed_close(). */
struct hc_handed {
	struct wire_answer answer;
	int fd[WIRE_FDS_MAX];
	uint32_t n_fds;
};

static inline bool hc_conn_up(const struct hc_conn *c) { return shm_load32_rlx(&c->up) != 0; }
static inline bool hc_conn_interrupted(const struct hc_conn *c)
{
	return shm_load32_rlx(&c->interrupted) != 0;
}

/* ---- hc_conn.c: the window ---- */

/* Not connected, nothing unanswered. */
void hc_conn_init(struct hc_conn *c);
void hc_conn_fini(struct hc_conn *c);

/* Closes the connection.  What is unanswered will be sent again on the next one. */
void hc_conn_drop(struct hc_conn *c);

enum {
	HC_CONN_FULL = 1, /* of hc_conn_put */
	HC_CONN_LOST = 1, /* of hc_conn_parse */
	HC_CONN_LATER = 2,
};
/* Appends a request to the window, numbered if it is a mutation; nothing is sent yet.
 * The asker is told by hc_conn_pump() or hc_conn_abandon(), whichever comes first.
 * 0; HC_CONN_FULL: pump first; -EMSGSIZE: larger than the engine takes; -ENOMEM. */
int hc_conn_put(struct hc_conn *c, struct wire_request *r, struct hc_asker asker);
/* An asker whose reply goes to *ret. */
struct hc_asker hc_ask(struct hc_reply *ret);

/* The same for a batch, item by item; nothing else may be put meanwhile.
 *   begin   0; HC_CONN_FULL; -ENOMEM
 *   add     0; HC_CONN_FULL: no more of them in this one; -EMSGSIZE: not even alone; -ENOMEM
 *   end     one or more were added: asker is told of each
 *   cancel  nothing was begun */
int hc_conn_batch_begin(struct hc_conn *c, bool quiet);
int hc_conn_batch_add(struct hc_conn *c, const struct wire_request *r);
void hc_conn_batch_end(struct hc_conn *c, struct hc_asker asker);
void hc_conn_batch_cancel(struct hc_conn *c);

/* An encoded item as a frame of its own, and as one of a batch. */
int hc_conn_put_item(struct hc_conn *c, const uint8_t *item, size_t bytes, struct hc_asker asker);
int hc_conn_batch_add_item(struct hc_conn *c, const uint8_t *item, size_t bytes);

/* Sends, receives, and reconnects, until at most `want` frames are without an answer.
 * 0; -ETIMEDOUT; -ECANCELED (interrupted); -EPROTO (the connection is closed); -ESTALE; what
 * hc_hello_resume() returns. */
int hc_conn_pump(struct hc_conn *c, uint32_t want, uint64_t deadline_ns);
/* One round of it: sends what it can, and waits for something to come, or for room. */
int hc_conn_turn(struct hc_conn *c, uint64_t deadline_ns);

/* The same without waiting.  0: connected, and nothing is unsent; HC_CONN_LATER: not so yet, the
 * socket or hc_hello_from_ns() says when to come again; -errno as of hc_conn_pump(). */
int hc_conn_step(struct hc_conn *c);

/* Sends without waiting, when nothing was unsent but the youngest frame.  *ret_handed: the kernel has
 * some of that; if not, the frame was taken back, and its asker not told.
 * 0; HC_CONN_LOST: hc_conn_lost() comes next; -errno. */
int hc_conn_hand(struct hc_conn *c, bool *ret_handed);

/* The connection is lost: takes the answers that came before, and closes it.  0 or -EPROTO. */
int hc_conn_lost(struct hc_conn *c);

/* A call does not wait any longer.  Its requests that were never handed to the kernel are taken back
 * and get the status `error`; mutations that were handed get HC_E_UNKNOWN and stay in the window, for
 * their answer has to come before any later one's.  Askers that stay are told only if nobody
 * will ever answer (c->stale). */
void hc_conn_abandon(struct hc_conn *c, int error);

/* Has the socket watched for these events (EPOLLIN, EPOLLOUT; 0: no more) by watch_fd, if there is one.
 * 0 or -errno. */
int hc_conn_watch(struct hc_conn *c, uint32_t events);

/* May nothing more be put, until an answer has come? */
bool hc_conn_is_full(const struct hc_conn *c);
static inline bool hc_conn_has_unsent(const struct hc_conn *c)
{
	return c->sent_bytes < c->out.end - c->out.begin;
}

/* Says goodbye, if there is a connection, and waits for the answer until the deadline. */
void hc_conn_bye(struct hc_conn *c, uint64_t deadline_ns);

/* Takes the answers that stand in `in`.  0; HC_CONN_LOST: the engine refused a frame, and the
 * connection has been closed; -EPROTO: no answer to what was asked. */
int hc_conn_parse(struct hc_conn *c);

/* ---- hc_hello.c: connecting ---- */

/* The regions of a pool as they are now, over a connection of its own; `c` is only looked at (its
 * address, and what it says in HELLO).  0 and *ret (also to be closed after a failure); -ETIMEDOUT, -ESTALE,
 * -errno. */
int hc_hello_regions(
	const struct hc_conn *c, uint32_t pool_idx, uint64_t deadline_ns, struct hc_handed *ret);

/* The errno of a socket whose other end is gone. */
static inline bool hc_errno_is_lost(int e)
{
	return e == EPIPE || e == ECONNRESET || e == ENOTCONN || e == ECONNABORTED;
}
uint64_t hc_now_ns(void); /* CLOCK_MONOTONIC */
/* poll(2) on one descriptor until the deadline.  The events that came; 0: none; -ECANCELED (interrupted); -errno. */
int hc_wait_fd(const struct hc_conn *c, int fd, short events, uint64_t deadline_ns);

/* A new session.  Tries again when the connection is lost before the answer.
 * 0; -ECONNREFUSED: no daemon; -EPROTONOSUPPORT: other version; -EACCES: refused; -ETIMEDOUT;
 * -EPROTO; -ENOMEM; -errno of the socket calls. */
int hc_hello_open(struct hc_conn *c, uint64_t deadline_ns, struct hc_handed *ret);

/* Connects again for the session that there is.  Waits with growing pauses while nobody answers.
 * 0; -ESTALE: the daemon does not know it (c->stale is set); -ECONNREFUSED: nobody listens and the
 * supervisor is dead; else as hc_hello_open(). */
int hc_hello_resume(struct hc_conn *c, uint64_t deadline_ns);

/* The same without waiting.  0; HC_CONN_LATER: the answer to HELLO is on its way (c->greeting), or the
 * next attempt is not before hc_hello_from_ns(); -errno. */
int hc_hello_step(struct hc_conn *c);
uint64_t hc_hello_from_ns(const struct hc_conn *c);

void hc_handed_close(struct hc_handed *h);

#endif
