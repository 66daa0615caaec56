/* hc_async.c - operations on their way: from the queue into frames, from answers to what is done.
 *
 * A frame takes what is queued up to the room in the window, but half of the window at most when more
 * than a whole one waits: so that one is under way while another is answered.  One operation alone is
 * a frame of its verb, CLEAR always; more are a batch, a quiet one if all of them are quiet.
 */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "hc_async.h"
#include "step.h"

enum { ITEMS_KEPT = 2 << 20 }; /* a larger buffer is given back when it is empty */

void hc_async_init(struct hc *hc)
{
	struct hc_async *a = &hc->async;

	*a = (struct hc_async){
		.epoll_fd = -1,
		.event_fd = -1,
		.timer_fd = -1,
		.free_first = HC_NO_OP,
		.done_first = HC_NO_OP,
		.done_last = HC_NO_OP,
		.way_first = HC_NO_OP,
		.way_last = HC_NO_OP,
		.bound_ns = UINT64_MAX,
	};
	(void)pthread_mutex_init(&a->lock, NULL);
	for (uint32_t i = 0; i < HC_WINDOW_MAX; i++)
		a->slot[i].async = a;
}

void hc_async_fini(struct hc *hc)
{
	struct hc_async *a = &hc->async;
	const int fds[] = {a->epoll_fd, a->event_fd, a->timer_fd};

	for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
		if (fds[i] >= 0)
			(void)close(fds[i]);
	wire_buf_fini(&a->items);
	free(a->op);
	free(a->queue);
}

/* ------------------------------------------------------------------ done */

void hc_async_begin(struct hc_async *a, struct hc_operation *o)
{
	uint32_t idx = (uint32_t)(o - a->op);

	o->next = HC_NO_OP;
	o->prev = a->way_last;
	if (a->way_last == HC_NO_OP)
		a->way_first = idx;
	else
		a->op[a->way_last].next = idx;
	a->way_last = idx;
	a->n_under_way++;
}

static void op_leave(struct hc_async *a, const struct hc_operation *o)
{
	if (o->prev == HC_NO_OP)
		a->way_first = o->next;
	else
		a->op[o->prev].next = o->next;
	if (o->next == HC_NO_OP)
		a->way_last = o->prev;
	else
		a->op[o->next].prev = o->prev;
	a->n_under_way--;
}

void hc_async_free(struct hc_async *a, struct hc_operation *o)
{
	o->state = HC_OP_IS_FREE;
	o->next = a->free_first;
	a->free_first = (uint32_t)(o - a->op);
}

static void op_done(struct hc_async *a, struct hc_operation *o, const struct hc_reply *reply)
{
	uint32_t idx = (uint32_t)(o - a->op);

	op_leave(a, o);
	if (o->quiet) {
		a->n_succeeded += reply->status == HC_OK;
		a->n_failed += reply->status != HC_OK;
	}
	if (o->quiet && reply->status == HC_OK) {
		hc_async_free(a, o);
		return;
	}
	o->state = HC_OP_IS_DONE;
	o->reply = *reply;
	o->next = HC_NO_OP;
	if (a->done_last == HC_NO_OP)
		a->done_first = idx;
	else
		a->op[a->done_last].next = idx;
	a->done_last = idx;
}

void hc_async_give_up(struct hc_async *a, struct hc_operation *o, int result)
{
	struct hc_reply reply = {.status = result};

	if (o->state == HC_OP_IS_QUEUED) {
		a->queue[o->place].op = HC_NO_OP; /* its bytes go when their turn comes */
	} else {
		if (!MUTANT(126)) /* 126: a late answer counts too */
			a->slot[o->place].op = NULL;
		reply.status = MUTANT(120) ? result : HC_E_UNKNOWN; /* 120: sent is called unsent */
	}
	op_done(a, o, &reply);
}

void hc_async_expire(struct hc_async *a, uint64_t now_ns)
{
	if (now_ns < a->bound_ns)
		return;
	a->bound_ns = UINT64_MAX;
	for (uint32_t i = a->way_first, next; i != HC_NO_OP; i = next) {
		struct hc_operation *o = &a->op[i];
		next = o->next;
		if (o->deadline_ns <= now_ns)
			hc_async_give_up(a, o, HC_E_TIMEOUT);
		else if (o->deadline_ns < a->bound_ns)
			a->bound_ns = o->deadline_ns;
	}
}

/* The answer to item i of the frame whose first number is in slot `arg`. */
static void answered(void *arg, uint32_t i, const struct hc_reply *reply)
{
	struct hc_slot *first = arg;
	struct hc_async *a = first->async;

	(void)pthread_mutex_lock(&a->lock);
	struct hc_slot *s = &a->slot[((size_t)(first - a->slot) + i) % HC_WINDOW_MAX];
	struct hc_operation *o = s->op;
	s->op = NULL;
	if (o)
		op_done(a, o, reply);
	(void)pthread_mutex_unlock(&a->lock);
}

/* ------------------------------------------------------------------ the queue */

static struct hc_queued *queue_at(struct hc_async *a, uint32_t i)
{
	return &a->queue[(a->queue_begin + i) % a->n_ops];
}

/* The first n entries leave the queue. */
static void queue_skip(struct hc_async *a, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		a->items.begin += queue_at(a, i)->bytes;
	a->queue_begin = (a->queue_begin + n) % a->n_ops;
	a->n_queue -= n;
	shm_store32_rlx(&a->queued, a->n_queue);
	if (a->n_queue)
		return;
	a->items.begin = a->items.end = 0;
	if (a->items.cap > ITEMS_KEPT)
		wire_buf_fini(&a->items);
}

/* The first n entries were sent, in a frame that begins with this number. */
static void queue_sent(struct hc_async *a, uint32_t n, uint64_t number)
{
	for (uint32_t i = 0; i < n; i++) {
		uint32_t op = queue_at(a, i)->op;
		if (op == HC_NO_OP)
			continue;
		a->op[op].state = HC_OP_IS_SENT;
		a->op[op].place = (uint32_t)(number++ % HC_WINDOW_MAX);
		a->slot[a->op[op].place].op = &a->op[op];
	}
	queue_skip(a, n);
}

/* ------------------------------------------------------------------ frames */

static struct hc_asker asker(struct hc_async *a, const struct hc_conn *c)
{
	return (struct hc_asker){.answered = answered,
		.arg = &a->slot[c->next_request % HC_WINDOW_MAX],
		.stays = true};
}

/* How many operations a frame takes at most, and are they all quiet? */
static uint32_t frame_plan(struct hc_async *a, const struct hc_conn *c, bool *ret_quiet)
{
	uint32_t most = c->max_inflight - c->n_unanswered, half = c->max_inflight / 2, n = 0;

	if (a->n_queue > c->max_inflight && half > 0 && most > half)
		most = half;
	*ret_quiet = true;
	for (uint32_t i = 0; i < a->n_queue && n < most; i++) {
		uint32_t op = queue_at(a, i)->op;
		if (op == HC_NO_OP)
			continue;
		if (a->op[op].op == HC_OP_CLEAR && !MUTANT(125)) /* 125: goes into batches too */
			return n ? n : 1;
		n++;
		*ret_quiet &= a->op[op].quiet;
	}
	return n;
}

/* A batch of `most` operations, or fewer if they are large.  *ret_n: so many entries of the queue.
 * 0; -EMSGSIZE: not even one; -ENOMEM. */
static int frame_batch(
	struct hc_async *a, struct hc_conn *c, uint32_t most, bool quiet, uint32_t *ret_n)
{
	size_t off = a->items.begin;
	uint32_t n = 0, i = 0;
	int r = hc_conn_batch_begin(c, quiet);

	if (r < 0)
		return err_fwd(r);
	for (; r == 0 && n < most; i += r == 0) {
		const struct hc_queued *q = queue_at(a, i);
		if (q->op != HC_NO_OP)
			r = hc_conn_batch_add_item(c, a->items.bytes + off, q->bytes);
		n += r == 0 && q->op != HC_NO_OP;
		off += q->bytes;
	}
	if (n == 0) {
		hc_conn_batch_cancel(c);
		return err_fwd(r);
	}
	hc_conn_batch_end(c, asker(a, c));
	*ret_n = i;
	return 0;
}

/* The frame that goes next, of *ret_n entries.  0; HC_CONN_FULL: none; -EMSGSIZE: the first entry is
 * larger than the engine takes; -ENOMEM. */
static int frame_make(struct hc_async *a, struct hc_conn *c, uint32_t *ret_n)
{
	bool quiet;

	while (a->n_queue && queue_at(a, 0)->op == HC_NO_OP)
		queue_skip(a, 1);
	if (a->n_queue == 0 || hc_conn_is_full(c))
		return HC_CONN_FULL;
	uint32_t most = frame_plan(a, c, &quiet);
	int r = most > 1 ? frame_batch(a, c, most, quiet && !MUTANT(121), ret_n) : -EMSGSIZE;
	if (r != -EMSGSIZE)
		return err_fwd(r);
	*ret_n = 1;
	return err_fwd(hc_conn_put_item(
		c, a->items.bytes + a->items.begin, queue_at(a, 0)->bytes, asker(a, c)));
}

int hc_async_move(struct hc *hc)
{
	struct hc_async *a = &hc->async;
	struct hc_conn *c = &hc->conn;
	bool handed = true;
	uint32_t n = 0;
	int r = 0;

	(void)pthread_mutex_lock(&a->lock);
	while (r == 0 && handed && !hc_conn_has_unsent(c)) {
		uint64_t number = c->next_request;
		r = frame_make(a, c, &n);
		if (r == HC_CONN_FULL) {
			r = 0;
			break;
		}
		if (r == -EMSGSIZE) {
			hc_async_give_up(a, &a->op[queue_at(a, 0)->op], HC_E_TOO_LARGE);
			r = 0;
		} else if (r == 0) {
			r = hc_conn_hand(c, &handed);
			if (handed ||
				MUTANT(122)) /* 122: counts as sent whatever the kernel took */
				queue_sent(a, n, number);
		}
	}
	(void)pthread_mutex_unlock(&a->lock);
	return err_fwd(r);
}

/* ------------------------------------------------------------------ the connection */

int hc_async_step(struct hc *hc)
{
	struct hc_async *a = &hc->async;
	struct hc_conn *c = &hc->conn;

	for (int lost = 0; lost < 2; lost++) { /* the second time on a new connection */
		(void)pthread_mutex_lock(&a->lock);
		bool wanted = a->n_under_way > 0;
		(void)pthread_mutex_unlock(&a->lock);
		if (c->fd < 0 && !wanted)
			return 0;
		int r = hc_conn_step(c);
		if (r == 0)
			r = hc_async_move(hc);
		if (r == HC_CONN_LOST)
			r = hc_conn_lost(c);
		if (r < 0)
			return err_fwd(r);
		if (c->fd >= 0)
			return 0;
	}
	return 0;
}

/* The entry up to which the queue is now, but for those whose time is over: its operation's id, 0 if
 * there is none. */
static uint64_t queue_last(struct hc_async *a)
{
	uint64_t id = 0;

	(void)pthread_mutex_lock(&a->lock);
	hc_async_expire(a, hc_now_ns());
	for (uint32_t i = a->n_queue; i > 0 && id == 0; i--)
		if (queue_at(a, i - 1)->op != HC_NO_OP)
			id = a->op[queue_at(a, i - 1)->op].id;
	(void)pthread_mutex_unlock(&a->lock);
	return id;
}

/* Is what stands first in the queue newer than that? */
static bool queue_is_past(struct hc_async *a, uint64_t last_id)
{
	bool past = true;

	(void)pthread_mutex_lock(&a->lock);
	for (uint32_t i = 0; i < a->n_queue; i++) {
		uint32_t op = queue_at(a, i)->op;
		if (op != HC_NO_OP) {
			past = a->op[op].id > last_id;
			break;
		}
	}
	(void)pthread_mutex_unlock(&a->lock);
	return past;
}

int hc_async_order(struct hc *hc, uint64_t deadline_ns)
{
	struct hc_async *a = &hc->async;
	struct hc_conn *c = &hc->conn;

	if (shm_load32_rlx(&a->queued) == 0 || MUTANT(123)) /* 123: calls overtake what waits */
		return 0;
	uint64_t last_id = queue_last(a);
	while (!queue_is_past(a, last_id)) {
		int r = hc_conn_interrupted(c) ? -ECANCELED : 0;
		if (r == 0 && !hc_conn_up(c))
			r = hc_hello_resume(c, deadline_ns);
		if (r == 0)
			r = hc_async_move(hc);
		if (r == HC_CONN_LOST)
			r = hc_conn_lost(c);
		else if (r == 0 && !queue_is_past(a, last_id))
			r = hc_conn_turn(c, deadline_ns);
		if (r < 0)
			return err_fwd(r);
	}
	return 0;
}

void hc_async_fail(struct hc *hc, int result)
{
	struct hc_async *a = &hc->async;

	(void)pthread_mutex_lock(&a->lock);
	while (a->way_first != HC_NO_OP)
		hc_async_give_up(a, &a->op[a->way_first], result);
	if (a->n_queue)
		queue_skip(a, a->n_queue);
	(void)pthread_mutex_unlock(&a->lock);
	if (hc->conn.stale)
		hc_conn_abandon(&hc->conn, result); /* nobody will ever answer */
}

void hc_async_told(struct hc *hc)
{
	struct hc_async *a = &hc->async;

	if (shm_load32_rlx(&a->used) == 0)
		return;
	(void)pthread_mutex_lock(&a->lock);
	a->todo |= a->skipped || a->n_under_way > 0;
	hc_async_settle(a);
	(void)pthread_mutex_unlock(&a->lock);
}
