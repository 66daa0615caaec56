/* hc_hold.c - a call's hold of the writing side: one at a time, and with a time limit. */
#include <errno.h>

#include "base/err.h"
#include "hc_async.h"

#define NS_PER_S 1000000000u
#define NS_PER_MS 1000000ull

int hc_lock_until(pthread_mutex_t *m, uint64_t deadline_ns)
{
	struct timespec t = {
		.tv_sec = (time_t)(deadline_ns / NS_PER_S),
		.tv_nsec = (long)(deadline_ns % NS_PER_S),
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

int hc_hold_begin(struct hc_hold *h, struct hc *hc, uint32_t timeout_ms)
{
	if (hc_forked(hc))
		return HC_E_FORKED;
	*h = (struct hc_hold){
		.hc = hc, .timeout_ns = timeout_ms ? timeout_ms * NS_PER_MS : hc->timeout_ns};
	hc_hold_again(h);
	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &h->cancel_state);
	int r = hc_lock_until(&hc->lock, h->deadline_ns);
	if (r == 0 && hc->conn.stale) {
		(void)pthread_mutex_unlock(&hc->lock);
		r = ESTALE;
	}
	if (r == 0)
		return HC_OK;
	(void)pthread_setcancelstate(h->cancel_state, NULL);
	return hc_border(-r);
}

void hc_hold_again(struct hc_hold *h) { h->deadline_ns = hc_now_ns() + h->timeout_ns; }

void hc_hold_end(struct hc_hold *h)
{
	(void)pthread_mutex_unlock(&h->hc->lock);
	hc_async_told(h->hc);
	(void)pthread_setcancelstate(h->cancel_state, NULL);
}
