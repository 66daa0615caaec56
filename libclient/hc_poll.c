/* hc_poll.c - the other end of hc_submit: what has been done is taken, and what is queued goes out.
 *
 * A turn sends and receives what goes without waiting.  Who waits does so in the epoll set, with
 * nothing held, so that others may submit, poll and call meanwhile; whoever makes something for him
 * to do writes to the event descriptor.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/err.h"
#include "hc_async.h"
#include "step.h"

#define NS_PER_S 1000000000ull
#define NS_PER_MS 1000000ull
#define IN_USE_NS 1000000ull /* how long a poll that waits tries for a connection that is in use */

/* ------------------------------------------------------------------ descriptors */

static int watch(int epoll_fd, int fd)
{
	struct epoll_event ev = {.events = EPOLLIN};

	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0 ? err_new(-errno) : 0;
}

/* [both locks] What hc_fd() gives, once.  0 or -errno. */
static int descriptors_new(struct hc *hc)
{
	struct hc_async *a = &hc->async;
	int r = 0;

	if (a->epoll_fd >= 0)
		return 0;
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	int event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (epoll_fd < 0 || event_fd < 0 || timer_fd < 0)
		r = err_new(-errno);
	if (r == 0)
		r = watch(epoll_fd, event_fd);
	if (r == 0)
		r = watch(epoll_fd, timer_fd);
	hc->conn.watch_fd = r == 0 ? epoll_fd : -1;
	if (r == 0)
		r = hc_conn_watch(&hc->conn, EPOLLIN);
	if (r == 0) {
		a->epoll_fd = epoll_fd;
		a->event_fd = event_fd;
		a->timer_fd = timer_fd;
		return 0;
	}
	hc->conn.watch_fd = -1;
	const int fds[] = {epoll_fd, event_fd, timer_fd};
	for (int i = 0; i < 3; i++)
		if (fds[i] >= 0)
			(void)close(fds[i]);
	return err_fwd(r);
}

void hc_async_settle(struct hc_async *a)
{
	bool level = a->todo || a->done_first != HC_NO_OP;
	uint64_t one = 1;

	if (level && !a->signalled && (a->given || a->n_waiters))
		a->signalled = write(a->event_fd, &one, sizeof one) == sizeof one;
	else if (!level && a->signalled)
		a->signalled = read(a->event_fd, &one, sizeof one) != sizeof one;
}

/* [a->lock] When the next time limit or attempt to connect is; UINT64_MAX: never. */
static uint64_t next_ns(const struct hc_async *a)
{
	uint64_t ns = a->n_under_way ? a->bound_ns : UINT64_MAX;

	return a->attempt_ns && a->attempt_ns < ns ? a->attempt_ns : ns;
}

/* [a->lock] The timer fires no later than necessary; too early does no harm, and costs fewer calls. */
static void timer_settle(struct hc_async *a, uint64_t now_ns)
{
	uint64_t next = next_ns(a);
	bool over = a->timer_ns && a->timer_ns <= now_ns;

	if (!a->given || MUTANT(124) || (!over && a->timer_ns && a->timer_ns <= next) ||
		(a->timer_ns == 0 && next == UINT64_MAX))
		return;
	a->timer_ns = next == UINT64_MAX ? 0 : next;
	struct itimerspec t = {.it_value = {.tv_sec = (time_t)(a->timer_ns / NS_PER_S),
				       .tv_nsec = (long)(a->timer_ns % NS_PER_S)}};
	(void)timerfd_settime(a->timer_fd, TFD_TIMER_ABSTIME, &t, NULL);
}

int hc_fd(struct hc *hc, int *ret_fd)
{
	struct hc_hold h;

	if (!hc || !ret_fd)
		return HC_E_INVAL;
	int e = hc_hold_begin(&h, hc, 0);
	if (e)
		return e;
	struct hc_async *a = &hc->async;
	(void)pthread_mutex_lock(&a->lock);
	int r = descriptors_new(hc);
	if (r == 0) {
		a->given = true;
		a->todo = true; /* its first poll sets the timer */
		hc_async_settle(a);
		*ret_fd = a->epoll_fd;
	}
	shm_store32_rlx(&a->used, 1);
	(void)pthread_mutex_unlock(&a->lock);
	hc_hold_end(&h);
	return hc_border(r);
}

/* ------------------------------------------------------------------ a turn */

/* [hc->lock] What the descriptors have to wait for from now on; waits: they have to be there.
 * 0 or -errno. */
static int turn_end(struct hc *hc, bool waits)
{
	struct hc_async *a = &hc->async;
	struct hc_conn *c = &hc->conn;

	(void)pthread_mutex_lock(&a->lock);
	int r = waits ? descriptors_new(hc) : 0;
	bool blocked = hc_conn_has_unsent(c) || (a->n_queue && !hc_conn_is_full(c));
	a->attempt_ns = 0;
	if (!hc_conn_up(c) && !c->greeting && a->n_under_way)
		a->attempt_ns = hc_hello_from_ns(c) ? hc_hello_from_ns(c) : 1;
	if (hc_conn_up(c))
		(void)hc_conn_watch(c, EPOLLIN | (blocked ? (uint32_t)EPOLLOUT : 0u));
	timer_settle(a, hc_now_ns());
	(void)pthread_mutex_unlock(&a->lock);
	return err_fwd(r);
}

/* Takes the connection, until that time at most.  False: somebody else has it, and will say when it is
 * free again. */
static bool turn_begin(struct hc *hc, uint64_t until_ns)
{
	struct hc_async *a = &hc->async;

	bool mine = hc_lock_until(&hc->lock, until_ns) == 0;
	(void)pthread_mutex_lock(&a->lock);
	a->todo = false;
	a->skipped = !mine;
	(void)pthread_mutex_unlock(&a->lock);
	if (mine)
		return true;
	return pthread_mutex_trylock(&hc->lock) == 0; /* it may have become free before `skipped` */
}

enum { TURN_IN_USE = 1 };

/* Sends and receives what goes now, and makes what waiting needs.  0; TURN_IN_USE: not now; -errno. */
static int turn(struct hc *hc, uint64_t until_ns, bool waits)
{
	struct hc_async *a = &hc->async;

	(void)pthread_mutex_lock(&a->lock);
	hc_async_expire(a, hc_now_ns());
	(void)pthread_mutex_unlock(&a->lock);
	if (!turn_begin(hc, until_ns))
		return TURN_IN_USE;
	int r = hc_async_step(hc);
	if (r < 0)
		hc_async_fail(hc, hc_border(r));
	r = turn_end(hc, waits);
	(void)pthread_mutex_unlock(&hc->lock);
	return err_fwd(r);
}

/* ------------------------------------------------------------------ hc_poll */

/* The result of an operation, as the waiting call gives it. */
static void done_fill(struct hc_done *to, const struct hc_operation *o)
{
	const struct hc_reply *reply = &o->reply;
	bool answered = reply->status >= 0 && reply->status != HC_MISS;
	bool sums = o->op == HC_OP_INCR || o->op == HC_OP_CLEAR;

	*to = (struct hc_done){
		.id = o->id,
		.user = o->user,
		.result = reply->status,
		.op = o->op,
		.version = answered ? reply->lsn : 0,
		.sum = sums && reply->status == HC_OK ? (int64_t)reply->value : 0,
	};
}

/* Takes up to max of what is done. */
static size_t take(struct hc_async *a, struct hc_done *done, size_t max)
{
	size_t n = 0;

	(void)pthread_mutex_lock(&a->lock);
	for (; n < max && a->done_first != HC_NO_OP; n++) {
		struct hc_operation *o = &a->op[a->done_first];
		done_fill(&done[n], o);
		a->done_first = o->next;
		if (a->done_first == HC_NO_OP)
			a->done_last = HC_NO_OP;
		hc_async_free(a, o);
	}
	hc_async_settle(a);
	(void)pthread_mutex_unlock(&a->lock);
	return n;
}

/* Waits until there is something to do, at most to the deadline or a slice.  0 or -errno. */
static int wait_for_more(struct hc *hc, uint64_t deadline_ns)
{
	struct hc_async *a = &hc->async;
	struct epoll_event ev;
	int r = 0;

	(void)pthread_mutex_lock(&a->lock);
	uint64_t now_ns = hc_now_ns(), until_ns = next_ns(a);
	if (until_ns > deadline_ns)
		until_ns = deadline_ns;
	if (until_ns > now_ns + HC_SLICE_NS)
		until_ns = now_ns + HC_SLICE_NS;
	bool ready = a->todo || a->done_first != HC_NO_OP || until_ns <= now_ns;
	a->n_waiters += !ready;
	(void)pthread_mutex_unlock(&a->lock);
	if (ready)
		return 0;
	int ms = (int)((until_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS);
	if (epoll_wait(a->epoll_fd, &ev, 1, ms) < 0 && errno != EINTR)
		r = err_new(-errno);
	(void)pthread_mutex_lock(&a->lock);
	a->n_waiters--;
	(void)pthread_mutex_unlock(&a->lock);
	return err_fwd(r);
}

/* 0 and *ret_n, or -errno. */
static int poll_until(
	struct hc *hc, struct hc_done *done, size_t max, uint64_t deadline_ns, size_t *ret_n)
{
	for (;;) {
		uint64_t now_ns = hc_now_ns();
		bool waits = now_ns < deadline_ns;
		int r = turn(hc, waits ? now_ns + IN_USE_NS : 0, waits);
		*ret_n = take(&hc->async, done, max);
		if (*ret_n || hc_now_ns() >= deadline_ns)
			return 0;
		if (hc_conn_interrupted(&hc->conn))
			return err_new(-ECANCELED);
		if (r == 0)
			r = wait_for_more(hc, deadline_ns);
		if (r < 0)
			return err_fwd(r);
	}
}

int hc_poll(struct hc *hc, struct hc_done *done, size_t max, uint32_t timeout_ms, size_t *ret_n)
{
	int cancel_state;

	if (!hc || !done || !max || !ret_n)
		return HC_E_INVAL;
	if (hc_forked(hc))
		return HC_E_FORKED;
	*ret_n = 0;
	uint64_t deadline_ns = timeout_ms ? hc_now_ns() + timeout_ms * NS_PER_MS : 0;
	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
	int r = poll_until(hc, done, max, deadline_ns, ret_n);
	int keep = errno;
	(void)pthread_setcancelstate(cancel_state, NULL);
	errno = keep;
	return hc_border(r);
}

/* ------------------------------------------------------------------ hc_flush */

/* Is anything under way yet?  Time limits that are over are obeyed. */
static bool under_way(struct hc_async *a, uint64_t now_ns, uint64_t *ret_bound_ns)
{
	(void)pthread_mutex_lock(&a->lock);
	hc_async_expire(a, now_ns);
	bool some = a->n_under_way > 0;
	*ret_bound_ns = a->bound_ns;
	(void)pthread_mutex_unlock(&a->lock);
	return some;
}

/* Sends and waits until nothing is under way.  0; -errno. */
static int flush(struct hc *hc, uint64_t deadline_ns)
{
	struct hc_async *a = &hc->async;
	uint64_t now_ns = hc_now_ns(), bound_ns;

	while (under_way(a, now_ns, &bound_ns)) {
		uint64_t until_ns = bound_ns < deadline_ns ? bound_ns : deadline_ns;
		int r = hc_async_order(hc, until_ns);
		if (r == 0 && hc->conn.n_pending)
			r = hc_conn_turn(&hc->conn, until_ns);
		now_ns = hc_now_ns();
		if (r == -ETIMEDOUT && now_ns < deadline_ns)
			continue; /* the time of some operation */
		if (r == -ETIMEDOUT || r == -ECANCELED)
			return err_fwd(r);
		if (r < 0)
			hc_async_fail(hc, hc_border(r));
	}
	return 0;
}

static void flushed_take(struct hc_async *a, struct hc_flushed *ret)
{
	struct hc_flushed f = {.size = ret->size};

	(void)pthread_mutex_lock(&a->lock);
	f.succeeded = a->n_succeeded;
	f.failed = a->n_failed;
	a->n_succeeded = a->n_failed = 0;
	(void)pthread_mutex_unlock(&a->lock);
	memcpy(ret, &f, f.size < sizeof f ? f.size : sizeof f);
}

int hc_flush(struct hc *hc, uint32_t timeout_ms, struct hc_flushed *ret)
{
	struct hc_hold h;

	if (!hc || (ret && ret->size < sizeof ret->size))
		return HC_E_INVAL;
	int e = hc_hold_begin(&h, hc, timeout_ms);
	if (e)
		return e;
	int r = flush(hc, h.deadline_ns);
	int keep = errno;
	hc_hold_end(&h);
	if (r == 0 && ret)
		flushed_take(&hc->async, ret);
	errno = keep;
	return hc_border(r);
}

/* ------------------------------------------------------------------ hc_interrupt */

int hc_interrupt(struct hc *hc, int on)
{
	if (!hc || on < 0 || on > 1)
		return HC_E_INVAL;
	shm_store32_rlx(&hc->conn.interrupted, (uint32_t)on);
	return HC_OK;
}
