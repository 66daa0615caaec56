/* hc_write.c - the mutations: checked, put into the window, waited for.
 *
 * One mutation at a time holds the handle's lock.  Its time limit counts from the
 * call and holds for the wait for the lock too; of hc_mset it counts anew each time
 * that half of the window has been answered.
 */
#include <errno.h>
#include <pthread.h>

#include "base/err.h"
#include "hc_i.h"

#define TTL_MS_MAX (10ull * 366 * 24 * 3600 * 1000) /* 10 years */

/* A call's hold of the writing side. */
struct hold {
	struct hc *hc;
	uint64_t deadline_ns;
	int cancel_state;
};

/* 0; a positive errno, ETIMEDOUT at the deadline. */
static int lock_until(pthread_mutex_t *m, uint64_t deadline_ns)
{
	struct timespec t = {
		.tv_sec = (time_t)(deadline_ns / 1000000000u),
		.tv_nsec = (long)(deadline_ns % 1000000000u),
	};

	if (pthread_mutex_trylock(m) == 0)
		return 0;
#ifdef __SANITIZE_THREAD__ /* gcc 12's does not know that clocklock locks */
	(void)t;
	return pthread_mutex_lock(m);
#else
	return pthread_mutex_clocklock(m, CLOCK_MONOTONIC, &t);
#endif
}

/* HC_OK, or an error and nothing is held.  A thread that is cancelled while it holds the lock
 * would leave it to nobody, so cancellation waits. */
static int hold_begin(struct hold *h, struct hc *hc)
{
	if (hc_forked(hc))
		return HC_E_FORKED;
	*h = (struct hold){.hc = hc, .deadline_ns = hc_now_ns() + hc->timeout_ns};
	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &h->cancel_state);
	int r = lock_until(&hc->lock, h->deadline_ns);
	if (r == 0 && hc->conn.stale) {
		(void)pthread_mutex_unlock(&hc->lock);
		r = ESTALE;
	}
	if (r == 0)
		return HC_OK;
	(void)pthread_setcancelstate(h->cancel_state, NULL);
	return hc_border(-r);
}

static void hold_end(struct hold *h)
{
	(void)pthread_mutex_unlock(&h->hc->lock);
	(void)pthread_setcancelstate(h->cancel_state, NULL);
}

/* Puts a request into the window, making room first.  0; -errno: it is not in the window. */
static int put_waiting(struct hold *h, struct wire_request *r, struct hc_asker asker)
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

/* One request and its answer.  Returns reply->status. */
static int request_one(struct hc *hc, struct wire_request *r, struct hc_reply *reply)
{
	struct hold h;

	*reply = (struct hc_reply){0};
	int e = hold_begin(&h, hc);
	if (e)
		return reply->status = e;
	e = put_waiting(&h, r, hc_ask(reply));
	if (e < 0) {
		reply->status = hc_border(e);
	} else {
		e = hc_conn_pump(&hc->conn, 0, h.deadline_ns);
		if (e < 0)
			hc_conn_abandon(&hc->conn, hc_border(e));
	}
	int keep = errno;
	hold_end(&h);
	errno = keep;
	return reply->status;
}

static bool key_fits(const void *key, size_t key_bytes)
{
	return key && key_bytes >= 1 && key_bytes <= HC_KEY_BYTES_MAX;
}

/* A request about a key.  HC_OK or HC_E_INVAL. */
static int key_request(struct wire_request *r, uint32_t verb, const struct hc_store *s,
	const void *key, size_t key_bytes)
{
	if (!s || !key_fits(key, key_bytes))
		return HC_E_INVAL;
	*r = (struct wire_request){
		.verb = verb,
		.store_idx = s->idx,
		.store_id = s->id,
		.key = key,
		.key_bytes = key_bytes,
	};
	return HC_OK;
}

static bool ttl_fits(uint64_t ttl_ms) { return ttl_ms <= TTL_MS_MAX || ttl_ms == HC_TTL_NEVER; }

/* What opts say about a SET.  HC_OK or HC_E_INVAL. */
static int set_opts(struct wire_request *r, struct hc_set_opts *o, const struct hc_set_opts *opts)
{
	if (hc_opts_take(o, sizeof *o, opts) < 0 || o->mode > HC_IF_NEWER || !ttl_fits(o->ttl_ms))
		return HC_E_INVAL;
	if ((o->version != 0) != (o->mode == HC_IF_VERSION))
		return HC_E_INVAL;
	r->flags = o->flags;
	r->ttl_ms = o->ttl_ms;
	r->mode = o->mode;
	r->version = o->version;
	r->stamp = o->stamp;
	return HC_OK;
}

/* One SET; *ret_version as hc_set_opts says. */
static int set_one(struct hc_store *s, struct wire_request *r, const void *value,
	size_t value_bytes, uint64_t *ret_version)
{
	struct hc_reply reply;

	if (!value && value_bytes)
		return HC_E_INVAL;
	r->value = value;
	r->value_bytes = value_bytes;
	int status = request_one(s->hc, r, &reply);
	if (ret_version && status >= 0 && status != HC_MISS)
		*ret_version = reply.lsn;
	return status;
}

int hc_set(struct hc_store *s, const void *key, size_t key_bytes, const void *value,
	size_t value_bytes, const struct hc_set_opts *opts)
{
	struct wire_request r;
	struct hc_set_opts o;

	if (key_request(&r, WIRE_SET, s, key, key_bytes) || set_opts(&r, &o, opts))
		return HC_E_INVAL;
	return set_one(s, &r, value, value_bytes, o.ret_version);
}

static int join(struct hc_store *s, const void *key, size_t key_bytes, const void *value,
	size_t value_bytes, const struct hc_set_opts *opts, uint32_t mode)
{
	struct wire_request r;
	struct hc_set_opts o;

	if (key_request(&r, WIRE_SET, s, key, key_bytes) || hc_opts_take(&o, sizeof o, opts) < 0)
		return HC_E_INVAL;
	if (o.ttl_ms || o.flags || o.mode || o.stamp)
		return HC_E_INVAL;
	r.mode = mode;
	r.version = o.version;
	return set_one(s, &r, value, value_bytes, o.ret_version);
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

	if (key_request(&r, WIRE_DELETE, s, key, key_bytes))
		return HC_E_INVAL;
	return request_one(s->hc, &r, &reply);
}

int hc_delete_if(struct hc_store *s, const void *key, size_t key_bytes, uint64_t version)
{
	struct wire_request r;
	struct hc_reply reply;

	if (key_request(&r, WIRE_DELETE, s, key, key_bytes) || version == 0)
		return HC_E_INVAL;
	r.version = version;
	return request_one(s->hc, &r, &reply);
}

int hc_touch(struct hc_store *s, const void *key, size_t key_bytes, uint64_t ttl_ms)
{
	struct wire_request r;
	struct hc_reply reply;

	if (key_request(&r, WIRE_TOUCH, s, key, key_bytes) || !ttl_fits(ttl_ms))
		return HC_E_INVAL;
	r.ttl_ms = ttl_ms;
	return request_one(s->hc, &r, &reply);
}

int hc_get_touch(struct hc_store *s, const void *key, size_t key_bytes, uint64_t ttl_ms, void *buf,
	size_t buf_bytes, size_t *ret_bytes)
{
	if (!ttl_fits(ttl_ms))
		return HC_E_INVAL;
	int got = hc_get(s, key, key_bytes, buf, buf_bytes, ret_bytes);
	if (got != HC_OK && got != HC_TOO_SMALL)
		return got;
	int touched = hc_touch(s, key, key_bytes, ttl_ms);
	return touched == HC_OK ? got : touched;
}

static int64_t number_add(int64_t a, int64_t b, bool wrap)
{
	int64_t sum;

	if (!__builtin_add_overflow(a, b, &sum) || wrap)
		return sum;
	return b < 0 ? INT64_MIN : INT64_MAX;
}

int hc_incr(struct hc_store *s, const void *key, size_t key_bytes, int64_t delta,
	const struct hc_incr_opts *opts, int64_t *ret)
{
	struct wire_request r;
	struct hc_incr_opts o;
	struct hc_reply reply;

	if (key_request(&r, WIRE_INCR, s, key, key_bytes) || hc_opts_take(&o, sizeof o, opts) < 0)
		return HC_E_INVAL;
	if (o.wrap > 1 || o.must_exist > 1 || !ttl_fits(o.ttl_ms))
		return HC_E_INVAL;
	r.delta = delta;
	r.initial = number_add(o.initial, delta, o.wrap);
	r.ttl_ms = o.ttl_ms;
	r.how = (o.wrap ? WIRE_WRAP : 0u) | (o.must_exist ? WIRE_MUST_EXIST : 0u);
	int status = request_one(s->hc, &r, &reply);
	if (status == HC_OK && ret)
		*ret = (int64_t)reply.value;
	return status;
}

int hc_ping(struct hc *hc)
{
	struct wire_request r = {.verb = WIRE_PING};
	struct hc_reply reply;

	return hc ? request_one(hc, &r, &reply) : HC_E_INVAL;
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
	r->value = m->value;
	r->value_bytes = m->value_bytes;
	return key_fits(m->key, m->key_bytes) && (m->value || !m->value_bytes);
}

/* Begins a batch, making room in the window first.  0 or -errno. */
static int mset_begin(struct hold *h)
{
	struct hc_conn *c = &h->hc->conn;
	int e;

	while ((e = hc_conn_batch_begin(c, true)) == HC_CONN_FULL) {
		h->deadline_ns = hc_now_ns() + h->hc->timeout_ns;
		e = hc_conn_pump(c, c->n_pending - 1, h->deadline_ns);
		if (e < 0)
			return err_fwd(e);
	}
	return err_fwd(e);
}

/* What no batch takes may still be what a frame of its own does.  0, and the result comes or is set;
 * -errno: no further one can be put. */
static int mset_put_alone(struct hold *h, struct wire_request *r, struct hc_mset_item *m)
{
	int e = put_waiting(h, r, (struct hc_asker){mset_answered, m});

	if (e != -EMSGSIZE && e != -ENOMEM)
		return err_fwd(e);
	m->result = hc_border(e); /* of this one alone */
	return 0;
}

/* Puts one frame with the first of n entries into the window; their results come later, or are set
 * here.  0 and *ret_n; -errno: no further one can be put.
 * Half of the window at most: so that there is one under way while another is made. */
static int mset_put(
	struct hold *h, struct wire_request *r, struct hc_mset_item *m, size_t n, size_t *ret_n)
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
		hc_conn_batch_end(c, (struct hc_asker){mset_answered, m});
		*ret_n = i;
		return 0;
	}
	if (e != -EMSGSIZE && e != -ENOMEM)
		return err_fwd(e);
	hc_conn_batch_cancel(c);
	return err_fwd(mset_put_alone(h, r, m));
}

int hc_mset(
	struct hc_store *s, struct hc_mset_item *items, size_t n, const struct hc_set_opts *opts)
{
	struct hc_set_opts o;
	struct hold h;
	int e = 0;

	if (!s || (!items && n) || n > HC_MSET_MAX)
		return HC_E_INVAL;
	struct wire_request r = {.verb = WIRE_SET, .store_idx = s->idx, .store_id = s->id};
	if (set_opts(&r, &o, opts) || o.ret_version)
		return HC_E_INVAL;
	int result = hold_begin(&h, s->hc);
	for (size_t i = 0; result && i < n; i++)
		items[i].result = result;
	if (result)
		return result;
	struct hc_conn *c = &s->hc->conn;
	size_t put = 0;
	for (size_t some; put < n && e == 0; put += e == 0 ? some : 0)
		e = mset_put(&h, &r, &items[put], n - put, &some);
	if (e == 0) {
		h.deadline_ns = hc_now_ns() + s->hc->timeout_ns;
		e = hc_conn_pump(c, 0, h.deadline_ns);
	}
	int keep = errno, error = hc_border(e);
	if (e < 0) {
		hc_conn_abandon(c, error);
		keep = errno;
	}
	hold_end(&h);
	for (; put < n; put++)
		items[put].result = error;
	for (size_t i = 0; i < n && result == HC_OK; i++)
		result = items[i].result;
	errno = keep;
	return result;
}
