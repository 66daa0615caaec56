/* hc_submit.c - operations that nobody waits for: begun, and called off; hc_async.h says how they go on. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "hc_async.h"
#include "hc_request.h"

enum { ID_SHIFT = 16 };
_Static_assert(HC_SUBMIT_MAX <= 1u << ID_SHIFT, "an operation's index is the low half of its id");

#define NS_PER_MS 1000000ull

/* At the first submit.  HC_OK or HC_E_NO_MEMORY. */
static int operations_new(struct hc *hc)
{
	struct hc_async *a = &hc->async;

	if (a->op)
		return HC_OK;
	a->op = calloc(hc->submit_max, sizeof *a->op);
	a->queue = calloc(hc->submit_max, sizeof *a->queue);
	if (!a->op || !a->queue) {
		free(a->op);
		free(a->queue);
		a->op = NULL;
		a->queue = NULL;
		return HC_E_NO_MEMORY;
	}
	a->n_ops = hc->submit_max;
	for (uint32_t i = 0; i < a->n_ops; i++)
		a->op[i].next = i + 1 < a->n_ops ? i + 1 : HC_NO_OP;
	a->free_first = 0;
	shm_store32_rlx(&a->used, 1);
	return HC_OK;
}

/* Appends the request's bytes to the queue's.  HC_OK and *ret_bytes, or an error. */
static int item_append(struct hc *hc, const struct wire_request *r, uint32_t *ret_bytes)
{
	struct hc_async *a = &hc->async;
	size_t have = a->items.end - a->items.begin;

	if (r->value_bytes > hc->frame_max || r->key_bytes + r->value_bytes > hc->frame_max)
		return HC_E_TOO_LARGE; /* asked alone first: any number may be given */
	if (have && have + r->key_bytes + r->value_bytes > hc->submit_bytes)
		return HC_E_QUEUE;
	int e = wire_item_put(&a->items, r);
	if (e < 0)
		return hc_border(e);
	size_t bytes = a->items.end - a->items.begin - have;
	if (bytes + WIRE_ITEM_MORE > hc->frame_max) {
		a->items.end -= bytes;
		return HC_E_TOO_LARGE;
	}
	*ret_bytes = (uint32_t)bytes;
	return HC_OK;
}

static int submit(
	struct hc *hc, const struct hc_op *op, const struct wire_request *r, uint64_t *ret_id)
{
	struct hc_async *a = &hc->async;
	uint64_t timeout_ns = op->timeout_ms ? op->timeout_ms * NS_PER_MS : hc->timeout_ns;
	uint32_t bytes = 0;
	int e = operations_new(hc);

	if (e)
		return e;
	if (a->free_first == HC_NO_OP || a->n_queue == a->n_ops)
		return HC_E_QUEUE;
	e = item_append(hc, r, &bytes);
	if (e)
		return e;
	uint32_t idx = a->free_first, place = (a->queue_begin + a->n_queue) % a->n_ops;
	struct hc_operation *o = &a->op[idx];
	a->free_first = o->next;
	*o = (struct hc_operation){
		.id = ++a->serial << ID_SHIFT | idx,
		.user = op->user,
		.deadline_ns = hc_now_ns() + timeout_ns,
		.place = place,
		.state = HC_OP_IS_QUEUED,
		.op = (uint8_t)op->op,
		.quiet = op->quiet,
	};
	a->queue[place] = (struct hc_queued){.op = idx, .bytes = bytes};
	shm_store32_rlx(&a->queued, ++a->n_queue);
	hc_async_begin(a, o);
	if (o->deadline_ns < a->bound_ns)
		a->bound_ns = o->deadline_ns;
	a->todo = true;
	hc_async_settle(a);
	if (ret_id)
		*ret_id = o->id;
	return HC_OK;
}

int hc_submit(const struct hc_op *op, uint64_t *ret_id)
{
	struct wire_request r;
	struct hc_op o;
	int cancel_state;

	if (!op || hc_opts_take(&o, sizeof o, op) < 0 || hc_request_op(&r, &o))
		return HC_E_INVAL;
	struct hc *hc = o.store->hc;
	if (hc_forked(hc))
		return HC_E_FORKED;
	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
	(void)pthread_mutex_lock(&hc->async.lock);
	int e = submit(hc, &o, &r, ret_id);
	(void)pthread_mutex_unlock(&hc->async.lock);
	(void)pthread_setcancelstate(cancel_state, NULL);
	return e;
}

int hc_cancel(struct hc *hc, uint64_t id)
{
	int e = HC_MISS, cancel_state;

	if (!hc)
		return HC_E_INVAL;
	if (hc_forked(hc))
		return HC_E_FORKED;
	struct hc_async *a = &hc->async;
	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
	(void)pthread_mutex_lock(&a->lock);
	uint64_t idx = id & ((1u << ID_SHIFT) - 1);
	struct hc_operation *o = idx < a->n_ops && a->op[idx].id == id ? &a->op[idx] : NULL;
	if (o && (o->state == HC_OP_IS_QUEUED || o->state == HC_OP_IS_SENT)) {
		e = o->state == HC_OP_IS_QUEUED ? HC_OK : HC_E_UNKNOWN;
		hc_async_give_up(a, o, HC_E_CANCELLED);
		hc_async_settle(a);
	}
	(void)pthread_mutex_unlock(&a->lock);
	(void)pthread_setcancelstate(cancel_state, NULL);
	return e;
}
