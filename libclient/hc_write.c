/* hc_write.c - the mutations: checked, put into the window, waited for.
 *
 * One mutation at a time holds the handle's lock.  Its time limit counts from the
 * call and holds for the wait for the lock too; of hc_mset it counts anew each time
 * that half of the window has been answered.
 */
#include <errno.h>
#include <pthread.h>

#include "base/err.h"
#include "hc_async.h"
#include "hc_request.h"
#include "hc_slide.h"
#include "probe.h"

/* Puts a request into the window, making room first.  0; -errno: it is not in the window. */
static int put_waiting(struct hc_hold *h, struct wire_request *r, struct hc_asker asker)
{
	struct hc_conn *c = &h->hc->conn;
	int e;

	while ((e = hc_conn_put(c, r, asker)) == HC_CONN_FULL) {
		e = hc_conn_pump(c, c->n_pending / 2, h->deadline_ns);
		if (e < 0)
			return err_fwd(e);
	}
	return err_fwd(e);
}

int hc_request_one(
	struct hc *hc, struct wire_request *r, uint32_t timeout_ms, struct hc_reply *reply)
{
	struct hc_hold h;

	*reply = (struct hc_reply){0};
	int e = hc_hold_begin(&h, hc, timeout_ms);
	if (e)
		return reply->status = e;
	e = hc_async_order(hc, h.deadline_ns); /* what was submitted before goes before */
	if (e == 0)
		e = put_waiting(&h, r, hc_ask(reply));
	if (e < 0) {
		reply->status = hc_border(e);
	} else {
		e = hc_conn_pump(&hc->conn, 0, h.deadline_ns);
		if (e < 0)
			hc_conn_abandon(&hc->conn, hc_border(e));
	}
	int keep = errno;
	hc_hold_end(&h);
	errno = keep;
	return reply->status;
}

/* One SET. */
static int set_one(struct hc_store *s, struct wire_request *r, const void *value,
	size_t value_bytes, const struct hc_set_opts *o)
{
	struct hc_reply reply;

	if (hc_request_value(r, value, value_bytes))
		return HC_E_INVAL;
	PROBE(set__begin, s->idx, r->key, r->key_bytes, value_bytes, s->hc->ctl->seg.daemon_id);
	int status = hc_request_one(s->hc, r, o->timeout_ms, &reply);
	PROBE(set__end, s->idx, r->key, r->key_bytes, status, value_bytes,
		s->hc->ctl->seg.daemon_id);
	if (o->ret_version && status >= 0 && status != HC_MISS)
		*o->ret_version = reply.lsn;
	return status;
}

int hc_set(struct hc_store *s, const void *key, size_t key_bytes, const void *value,
	size_t value_bytes, const struct hc_set_opts *opts)
{
	struct wire_request r;
	struct hc_set_opts o;

	if (hc_request_key(&r, WIRE_SET, s, key, key_bytes) || hc_request_set(&r, &o, opts))
		return HC_E_INVAL;
	return set_one(s, &r, value, value_bytes, &o);
}

static int join(struct hc_store *s, const void *key, size_t key_bytes, const void *value,
	size_t value_bytes, const struct hc_set_opts *opts, enum wire_mode mode)
{
	struct wire_request r;
	struct hc_set_opts o;

	if (hc_request_key(&r, WIRE_SET, s, key, key_bytes) || hc_request_join(&r, &o, opts, mode))
		return HC_E_INVAL;
	return set_one(s, &r, value, value_bytes, &o);
}

int hc_append(struct hc_store *s, const void *key, size_t key_bytes, const void *value,
	size_t value_bytes, const struct hc_set_opts *opts)
{
	return join(s, key, key_bytes, value, value_bytes, opts, WIRE_MODE_APPEND);
}

int hc_prepend(struct hc_store *s, const void *key, size_t key_bytes, const void *value,
	size_t value_bytes, const struct hc_set_opts *opts)
{
	return join(s, key, key_bytes, value, value_bytes, opts, WIRE_MODE_PREPEND);
}

int hc_delete(struct hc_store *s, const void *key, size_t key_bytes)
{
	struct wire_request r;
	struct hc_reply reply;

	if (hc_request_key(&r, WIRE_DELETE, s, key, key_bytes))
		return HC_E_INVAL;
	return hc_request_one(s->hc, &r, 0, &reply);
}

int hc_delete_if(struct hc_store *s, const void *key, size_t key_bytes, uint64_t version)
{
	struct wire_request r;
	struct hc_reply reply;

	if (hc_request_key(&r, WIRE_DELETE, s, key, key_bytes) || version == 0)
		return HC_E_INVAL;
	r.version = version;
	return hc_request_one(s->hc, &r, 0, &reply);
}

int hc_touch_within(
	struct hc_store *s, const void *key, size_t key_bytes, uint64_t ttl_ms, uint32_t timeout_ms)
{
	struct wire_request r;
	struct hc_reply reply;

	if (hc_request_key(&r, WIRE_TOUCH, s, key, key_bytes))
		return HC_E_INVAL;
	r.ttl_ms = ttl_ms;
	return hc_request_one(s->hc, &r, timeout_ms, &reply);
}

int hc_touch(struct hc_store *s, const void *key, size_t key_bytes, uint64_t ttl_ms)
{
	return hc_request_ttl_fits(ttl_ms) ? hc_touch_within(s, key, key_bytes, ttl_ms, 0)
	                                   : HC_E_INVAL;
}

int hc_get_touch(struct hc_store *s, const void *key, size_t key_bytes, uint64_t ttl_ms, void *buf,
	size_t buf_bytes, size_t *ret_bytes)
{
	if (!hc_request_ttl_fits(ttl_ms))
		return HC_E_INVAL;
	int got = hc_get(s, key, key_bytes, buf, buf_bytes, ret_bytes);
	if (got != HC_OK && got != HC_TOO_SMALL)
		return got;
	int touched = hc_touch(s, key, key_bytes, ttl_ms);
	return touched == HC_OK ? got : touched;
}

int hc_incr(struct hc_store *s, const void *key, size_t key_bytes, int64_t delta,
	const struct hc_incr_opts *opts, int64_t *ret)
{
	struct wire_request r;
	struct hc_incr_opts o;
	struct hc_reply reply;

	if (hc_request_key(&r, WIRE_INCR, s, key, key_bytes) ||
		hc_request_incr(&r, delta, &o, opts))
		return HC_E_INVAL;
	int status = hc_request_one(s->hc, &r, o.timeout_ms, &reply);
	if (status == HC_OK && ret)
		*ret = (int64_t)reply.value;
	return status;
}

int hc_clear(struct hc_store *s, uint64_t *ret_entries)
{
	struct hc_reply reply;

	if (!s)
		return HC_E_INVAL;
	struct wire_request r = {.verb = WIRE_CLEAR, .store_idx = s->idx, .store_id = s->id};
	int status = hc_request_one(s->hc, &r, 0, &reply);
	if (status == HC_OK && ret_entries)
		*ret_entries = reply.value;
	return status;
}

int hc_ping(struct hc *hc)
{
	struct wire_request r = {.verb = WIRE_PING};
	struct hc_reply reply;

	return hc ? hc_request_one(hc, &r, 0, &reply) : HC_E_INVAL;
}

static void mset_answered(void *arg, uint32_t i, const struct hc_reply *reply)
{
	((struct hc_mset_item *)arg)[i].result = reply->status;
}

/* The entry of m in *r.  False: its arguments are out of range. */
static bool mset_request(struct wire_request *r, const struct hc_mset_item *m)
{
	r->key = m->key;
	r->key_bytes = m->key_bytes;
	return m->key && m->key_bytes >= 1 && m->key_bytes <= HC_KEY_BYTES_MAX &&
	       hc_request_value(r, m->value, m->value_bytes) == HC_OK;
}

/* Begins a batch, making room in the window first.  0 or -errno. */
static int mset_begin(struct hc_hold *h)
{
	struct hc_conn *c = &h->hc->conn;
	int e;

	while ((e = hc_conn_batch_begin(c, true)) == HC_CONN_FULL) {
		hc_hold_again(h);
		e = hc_conn_pump(c, c->n_pending - 1, h->deadline_ns);
		if (e < 0)
			return err_fwd(e);
	}
	return err_fwd(e);
}

/* What no batch takes may still be what a frame of its own does.  0, and the result comes or is set;
 * -errno: no further one can be put. */
static int mset_put_alone(struct hc_hold *h, struct wire_request *r, struct hc_mset_item *m)
{
	int e = put_waiting(h, r, (struct hc_asker){.answered = mset_answered, .arg = m});

	if (e != -EMSGSIZE && e != -ENOMEM)
		return err_fwd(e);
	m->result = hc_border(e); /* of this one alone */
	return 0;
}

/* Puts one frame with the first of n entries into the window; their results come later, or are set
 * here.  0 and *ret_n; -errno: no further one can be put.
 * Half of the window at most: so that there is one under way while another is made. */
static int mset_put(
	struct hc_hold *h, struct wire_request *r, struct hc_mset_item *m, size_t n, size_t *ret_n)
{
	struct hc_conn *c = &h->hc->conn;
	size_t most = c->max_inflight > 1 ? c->max_inflight / 2 : 1, i = 0;

	*ret_n = 1;
	m->result = HC_E_INVAL;
	if (!mset_request(r, m))
		return 0;
	int e = mset_begin(h);
	if (e < 0)
		return err_fwd(e);
	while (e == 0 && i < n && i < most && mset_request(r, &m[i])) {
		e = hc_conn_batch_add(c, r);
		i += e == 0;
	}
	if (i) {
		hc_conn_batch_end(c, (struct hc_asker){.answered = mset_answered, .arg = m});
		*ret_n = i;
		return 0;
	}
	hc_conn_batch_cancel(c);
	if (e != -EMSGSIZE && e != -ENOMEM)
		return err_fwd(e);
	return err_fwd(mset_put_alone(h, r, m));
}

int hc_mset(
	struct hc_store *s, struct hc_mset_item *items, size_t n, const struct hc_set_opts *opts)
{
	struct hc_set_opts o;
	struct hc_hold h;
	int e = 0;

	if (!s || (!items && n) || n > HC_MSET_MAX)
		return HC_E_INVAL;
	struct wire_request r = {.verb = WIRE_SET, .store_idx = s->idx, .store_id = s->id};
	if (hc_request_set(&r, &o, opts) || o.ret_version)
		return HC_E_INVAL;
	int result = hc_hold_begin(&h, s->hc, o.timeout_ms);
	for (size_t i = 0; result && i < n; i++)
		items[i].result = result;
	if (result)
		return result;
	struct hc_conn *c = &s->hc->conn;
	size_t put = 0;
	e = hc_async_order(s->hc, h.deadline_ns);
	for (size_t some; put < n && e == 0; put += e == 0 ? some : 0)
		e = mset_put(&h, &r, &items[put], n - put, &some);
	if (e == 0) {
		hc_hold_again(&h);
		e = hc_conn_pump(c, 0, h.deadline_ns);
	}
	int keep = errno, error = hc_border(e);
	if (e < 0) {
		hc_conn_abandon(c, error);
		keep = errno;
	}
	hc_hold_end(&h);
	for (; put < n; put++)
		items[put].result = error;
	for (size_t i = 0; i < n && result == HC_OK; i++)
		result = items[i].result;
	errno = keep;
	return result;
}
