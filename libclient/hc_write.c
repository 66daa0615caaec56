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

static void mset_answered(void *arg, const struct hc_reply *reply)
{
	((struct hc_mset_item *)arg)->result = reply->status;
}

/* Puts one entry into the window; its result comes later, or is set here.  0; -errno: no further
 * one can be put. */
static int mset_put(struct hold *h, struct wire_request *r, struct hc_mset_item *m)
{
	const struct hc_asker asker = {mset_answered, m};

	m->result = HC_E_INVAL;
	if (!key_fits(m->key, m->key_bytes) || (!m->value && m->value_bytes))
		return 0;
	r->key = m->key;
	r->key_bytes = m->key_bytes;
	r->value = m->value;
	r->value_bytes = m->value_bytes;
	int e = hc_conn_put(&h->hc->conn, r, asker);
	if (e == HC_CONN_FULL) {
		h->deadline_ns = hc_now_ns() + h->hc->timeout_ns;
		e = put_waiting(h, r, asker);
	}
	if (e == -EMSGSIZE || e == -ENOMEM) { /* of this one alone */
		m->result = hc_border(e);
		e = 0;
	}
	return e < 0 ? err_fwd(e) : 0;
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
	while (put < n && (e = mset_put(&h, &r, &items[put])) == 0)
		put++;
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
