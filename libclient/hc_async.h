/* hc_async.h - operations that nobody waits for: hc_submit, hc_poll and their like.  Internal to
 * libclient.
 *
 *               hc_submit                hc_poll, or a call that waits           the answer
 *   FREE ------------------> QUEUED -------------------------------> SENT ------------------> DONE
 *     ^                        |  deadline, hc_cancel: not sent        |  the same: unknown     |
 *     |                        +---------------------------------------+----------------------->|
 *     +------------------------------------------------------------------ hc_poll takes it -----+
 *
 * Q1. SENT means that the kernel got some byte of its frame, QUEUED that it got none: so what is
 *     given up while QUEUED did not happen, and while SENT it is unknown.  A frame of which the kernel
 *     takes nothing is taken back at once, and its operations are still QUEUED.
 * Q2. A QUEUED operation is its encoded bytes in `items`; the frame is made when it is sent, of as
 *     many as there is room for.
 * Q3. The number of a SENT one is in the window (hc_conn.h), at most HC_WINDOW_MAX in a row without an answer:
 *     slot[number % HC_WINDOW_MAX] says whose it is.  One that was given up leaves its slot, and its
 *     answer is dropped.
 * Q4. Whoever makes an operation DONE counts it out; so it happens once.  A quiet one that succeeded is
 *     counted and FREE.
 * Q5. Calls that wait put nothing into the window before all that was submitted earlier is SENT: one order.
 *
 * Locks: hc->lock (the connection) before hc_async.lock (all here).  Neither is held while somebody
 * waits in hc_poll; the second is held across system calls that do not block.
 *
 * The descriptor of hc_fd() is an epoll set of: the socket of now; a timer, for the next time limit or attempt
 * to connect; an event descriptor, readable while `todo` or something is DONE (only as long as anybody
 * looks: the descriptor was asked for, or a thread waits in hc_poll).
 */
#ifndef HC_ASYNC_H
#define HC_ASYNC_H

#include "hc_i.h"

#define HC_NO_OP 0xffffffffu

enum hc_operation_state { HC_OP_IS_FREE, HC_OP_IS_QUEUED, HC_OP_IS_SENT, HC_OP_IS_DONE };

struct hc_operation {
	uint64_t id; /* its index in the low 16 bits, below a serial number */
	uint64_t user, deadline_ns;
	struct hc_reply reply; /* DONE */
	uint32_t
		next; /* the next that is FREE, under way (QUEUED or SENT) or DONE; HC_NO_OP: none */
	uint32_t prev;  /* under way: the one before */
	uint32_t place; /* QUEUED: in queue[]; SENT: in slot[] */
	uint8_t state;  /* enum hc_operation_state */
	uint8_t op;     /* enum hc_op_kind */
	bool quiet;
};

/* A call's hold of the writing side. */
struct hc_hold {
	struct hc *hc;
	uint64_t timeout_ns, deadline_ns;
	int cancel_state;
};

/* ---- hc_hold.c ---- */

/* HC_OK, or an error and nothing is held.  timeout_ms 0: the handle's.  A thread that is cancelled
 * while it holds the lock would leave it to nobody, so cancellation waits. */
int hc_hold_begin(struct hc_hold *h, struct hc *hc, uint32_t timeout_ms);
void hc_hold_again(struct hc_hold *h); /* the time limit counts from now */
void hc_hold_end(struct hc_hold *h);
/* 0; a positive errno, ETIMEDOUT at the deadline. */
int hc_lock_until(pthread_mutex_t *m, uint64_t deadline_ns);

/* ---- hc_async.c; a: hc->async.  Under hc->lock but for those marked and hc_async_told() ---- */

void hc_async_init(struct hc *hc);
/* Also in a forked child.  The connection has been closed. */
void hc_async_fini(struct hc *hc);

/* [a->lock] One more is under way; and how an operation is made free. */
void hc_async_begin(struct hc_async *a, struct hc_operation *o);
void hc_async_free(struct hc_async *a, struct hc_operation *o);
/* [a->lock] Gives up those whose time is over. */
void hc_async_expire(struct hc_async *a, uint64_t now_ns);
/* [a->lock] It is over, with this result if it was not sent, else it is unknown. */
void hc_async_give_up(struct hc_async *a, struct hc_operation *o, int result);

/* Sends what is queued and has room.  0: as much as goes now; HC_CONN_LOST: hc_conn_lost() comes
 * next; -errno. */
int hc_async_move(struct hc *hc);
/* Connects if somebody asks for something, receives, sends, without waiting.  0 or -errno. */
int hc_async_step(struct hc *hc);
/* Sends, waiting for room, all that is queued now.  0; -errno as of hc_conn_pump(). */
int hc_async_order(struct hc *hc, uint64_t deadline_ns);
/* Nothing goes on: all are given up. */
void hc_async_fail(struct hc *hc, int result);

/* A call that waited is over (hc->lock is free again): who polls may have to look. */
void hc_async_told(struct hc *hc);

/* ---- hc_poll.c ---- */

/* [a->lock] Makes the event descriptor say what is so. */
void hc_async_settle(struct hc_async *a);

#endif
