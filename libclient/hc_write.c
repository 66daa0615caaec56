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
static int put_waiting(struct hold *h, struct wire_request *r, int *ret_status)
{
	struct hc_conn *c = &h->hc->conn;
	int e;

	while ((e = hc_conn_put(c, r, ret_status)) == HC_CONN_FULL) {
		e = hc_conn_pump(c, c->n_pending / 2, h->deadline_ns);
		if (e < 0)
			return err_fwd(e);
	}
	return err_fwd(e);
}

/* One request and its answer's status. */
static int request_one(struct hc *hc, struct wire_request *r)
{
	struct hold h;
	int status;

	int e = hold_begin(&h, hc);
	if (e)
		return e;
	e = put_waiting(&h, r, &status);
	if (e < 0) {
		status = hc_border(e);
	} else {
		e = hc_conn_pump(&hc->conn, 0, h.deadline_ns);
		if (e < 0)
			hc_conn_abandon(&hc->conn, hc_border(e));
	}
	int keep = errno;
	hold_end(&h);
	errno = keep;
	return status;
}

static bool key_fits(const void *key, size_t key_bytes)
{
	return key && key_bytes >= 1 && key_bytes <= HC_KEY_BYTES_MAX;
}

/* The parts of a SET that do not depend on key and value.  HC_OK or HC_E_INVAL. */
static int set_request(
	struct wire_request *r, const struct hc_store *s, const struct hc_set_opts *opts)
{
	struct hc_set_opts o;

	if (hc_opts_take(&o, sizeof o, opts) < 0 || o.reserved)
		return HC_E_INVAL;
	if (o.ttl_ms > TTL_MS_MAX && o.ttl_ms != HC_TTL_NEVER)
		return HC_E_INVAL;
	*r = (struct wire_request){
		.verb = WIRE_SET,
		.store_idx = s->idx,
		.store_id = s->id,
		.flags = o.flags,
		.ttl_ms = o.ttl_ms,
	};
	return HC_OK;
}

int hc_set(struct hc_store *s, const void *key, size_t key_bytes, const void *value,
	size_t value_bytes, const struct hc_set_opts *opts)
{
	struct wire_request r;

	if (!s || !key_fits(key, key_bytes) || (!value && value_bytes))
		return HC_E_INVAL;
	if (set_request(&r, s, opts))
		return HC_E_INVAL;
	r.key = key;
	r.key_bytes = key_bytes;
	r.value = value;
	r.value_bytes = value_bytes;
	return request_one(s->hc, &r);
}

int hc_delete(struct hc_store *s, const void *key, size_t key_bytes)
{
	if (!s || !key_fits(key, key_bytes))
		return HC_E_INVAL;
	struct wire_request r = {
		.verb = WIRE_DELETE,
		.store_idx = s->idx,
		.store_id = s->id,
		.key = key,
		.key_bytes = key_bytes,
	};
	return request_one(s->hc, &r);
}

int hc_ping(struct hc *hc)
{
	struct wire_request r = {.verb = WIRE_PING};

	return hc ? request_one(hc, &r) : HC_E_INVAL;
}

/* Puts one entry into the window; its result comes later, or is set here.  0; -errno: no further
 * one can be put. */
static int mset_put(struct hold *h, struct wire_request *r, struct hc_mset_item *m)
{
	m->result = HC_E_INVAL;
	if (!key_fits(m->key, m->key_bytes) || (!m->value && m->value_bytes))
		return 0;
	r->key = m->key;
	r->key_bytes = m->key_bytes;
	r->value = m->value;
	r->value_bytes = m->value_bytes;
	int e = hc_conn_put(&h->hc->conn, r, &m->result);
	if (e == HC_CONN_FULL) {
		h->deadline_ns = hc_now_ns() + h->hc->timeout_ns;
		e = put_waiting(h, r, &m->result);
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
	struct wire_request r;
	struct hold h;
	int e = 0;

	if (!s || (!items && n) || n > HC_MSET_MAX || set_request(&r, s, opts))
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
