/* eng_loop_epoll.c - the loop on epoll and plain system calls: see eng_loop.h.
 *
 *   eng_loop_recv ...   descriptor's `in` --.
 *   eng_loop_send --> started --> send(2) --+--> due --> done
 *          would block: descriptor's `out` -'
 *
 * epoll, level-triggered, says that a call would not block; then eng_loop_wait()
 * makes it, without waiting (MSG_DONTWAIT), and the wait is due.  A send is first
 * tried without asking epoll, because most succeed.
 *
 * A descriptor stays in the set after its operation, because the next one nearly
 * always follows: so a request costs one recv(2), one send(2) and two epoll_wait(2),
 * no epoll_ctl(2).  The price is that a descriptor may report what nobody waits
 * for.  It is then taken out of the set as far as nobody waits (`unwanted`), or
 * the loop would turn without end.
 *
 * The set knows an open file description, not a descriptor number, and others have
 * copies of ours (the supervisor keeps each pidfd): so close(2) alone leaves it in
 * the set.  Hence eng_loop_close().
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "base/err.h"
#include "eng_loop_i.h"
#include "eng_loop_writer.h"
#include "step.h"

enum {
	ACCEPTS_AT_ONCE = 64,
	FDS_FIRST = 64, /* size of the table of descriptors, doubled when needed */
};

#define NS_PER_S 1000000000ll
#define NS_PER_MS 1000000ll

/* States of an armed wait. */
enum {
	WAITS = 1, /* `in` or `out` of its descriptor, or in the list of timers */
	STARTED,   /* a send that was not tried yet */
	DUE,       /* done(result) is next */
};

struct queue {
	struct eng_wait *first, *last;
};

/* What waits for one descriptor. */
struct waits {
	struct eng_wait *in, *out;
	uint32_t events; /* in the set with these; 0: not in it */
};

struct epoll {
	struct eng_loop loop;
	int fd;
	struct waits *of; /* [n_of], by descriptor */
	uint32_t n_of;
	struct queue started, due;
	struct eng_wait *timers;   /* in no order: there are two */
	struct eng_writer *writer; /* NULL: nobody writes to files */
	int writer_fd;             /* can be read when it has done some; -1: there is none */
};

static struct epoll *epoll_of(struct eng_loop *l) { return (struct epoll *)l; }

/* -------------------------------------------------------------------- queues */

static void queue_put(struct queue *q, struct eng_wait *w)
{
	w->own.next = NULL;
	if (q->last)
		q->last->own.next = w;
	else
		q->first = w;
	q->last = w;
}

static struct eng_wait *queue_get(struct queue *q)
{
	struct eng_wait *w = q->first;

	if (w)
		q->first = w->own.next;
	if (!q->first)
		q->last = NULL;
	return w;
}

static void finish(struct epoll *e, struct eng_wait *w, int result)
{
	w->own.result = result;
	w->own.state = DUE;
	queue_put(&e->due, w);
}

/* --------------------------------------------------------------- descriptors */

/* The descriptor's place, or NULL: no memory. */
static struct waits *waits_of(struct epoll *e, int fd)
{
	uint32_t n = e->n_of ? e->n_of : FDS_FIRST;

	while (n <= (uint32_t)fd)
		n *= 2;
	if (n > e->n_of) {
		struct waits *of = realloc(e->of, n * sizeof *of);
		if (!of)
			return NULL;
		for (uint32_t i = e->n_of; i < n; i++)
			of[i] = (struct waits){0};
		e->of = of;
		e->n_of = n;
	}
	return &e->of[fd];
}

/* The set reports these events of fd from now on.  0 or -errno. */
static int watch(struct epoll *e, int fd, uint32_t events)
{
	struct waits *f = &e->of[fd];
	struct epoll_event ev = {.events = events, .data.fd = fd};
	int op = !f->events ? EPOLL_CTL_ADD : events ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;

	if (events == f->events)
		return 0;
	if (epoll_ctl(e->fd, op, fd, &ev) < 0)
		return err_new(-errno);
	f->events = events;
	return 0;
}

/* Waits until fd can be read. */
static void wait_in(struct epoll *e, int fd, struct eng_wait *w)
{
	struct waits *f = waits_of(e, fd);
	int r = f ? 0 : -ENOMEM;

	if (f) {
		CHECK(!f->in);
		r = watch(e, fd, f->events | EPOLLIN);
	}
	if (r < 0) {
		finish(e, w, r);
		return;
	}
	f->in = w;
	w->own.state = WAITS;
}

static bool would_block(ssize_t n) { return n < 0 && (errno == EAGAIN || errno == EINTR); }

static int result_of(ssize_t n) { return n < 0 ? -errno : n > INT_MAX ? INT_MAX : (int)n; }

static void on_in(struct epoll *e, struct waits *f, uint32_t events)
{
	struct eng_wait *w = f->in;
	ssize_t n = (ssize_t)events;

	if (w->own.kind == ENG_WAIT_ACCEPT) { /* goes on waiting, too */
		if (w->own.state != DUE)
			finish(e, w, 0);
		return;
	}
	if (w->own.kind == ENG_WAIT_RECV) {
		n = recv(w->own.fd, w->own.buf.to, w->own.bytes, MSG_DONTWAIT);
		if (would_block(n))
			return;
	}
	int result = result_of(n);
	f->in = NULL;
	finish(e, w, result);
}

/* Tries a send, which waits for room if there is none. */
static void on_out(struct epoll *e, struct waits *f)
{
	struct eng_wait *w = f->out;
	int fd = w->own.fd;
	ssize_t n = send(fd, w->own.buf.from, w->own.bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
	int result = result_of(n);

	w->own.state = WAITS;
	if (would_block(n)) {
		if (MUTANT(64)) /* 64: nobody says when there is room again */
			return;
		result = watch(e, fd, f->events | EPOLLOUT);
		if (result == 0)
			return;
	}
	f->out = NULL;
	(void)watch(e, fd, f->events & ~(uint32_t)EPOLLOUT);
	finish(e, w, result);
}

static void on_written(struct epoll *e)
{
	for (struct eng_wait *w = eng_writer_take(e->writer), *next; w; w = next) {
		next = w->own.next;
		finish(e, w, w->own.result);
	}
}

static void on_event(struct epoll *e, const struct epoll_event *ev)
{
	enum { IN = EPOLLIN | EPOLLERR | EPOLLHUP, OUT = EPOLLOUT | EPOLLERR | EPOLLHUP };
	int fd = ev->data.fd;
	if (fd == e->writer_fd) {
		on_written(e);
		return;
	}
	struct waits *f = &e->of[fd];
	bool unwanted = ((ev->events & IN) && !f->in) || ((ev->events & EPOLLOUT) && !f->out);

	if (f->in && (ev->events & IN))
		on_in(e, f, ev->events);
	if (f->out && (ev->events & OUT))
		on_out(e, f);
	if (unwanted && !MUTANT(65)) /* 65: what nobody waits for is reported for ever */
		(void)watch(e, fd, (f->in ? EPOLLIN : 0u) | (f->out ? EPOLLOUT : 0u));
}

/* -------------------------------------------------------------------- timers */

static long long clock_ns(void)
{
	struct timespec t;

	CHECK(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
	return t.tv_sec * NS_PER_S + t.tv_nsec;
}

static void timer_remove(struct epoll *e, const struct eng_wait *w)
{
	for (struct eng_wait **at = &e->timers; *at; at = &(*at)->own.next)
		if (*at == w) {
			*at = w->own.next;
			return;
		}
}

/* Milliseconds until the first timer is over, rounded up; -1: there is none. */
static int timers_ms(const struct epoll *e)
{
	long long first_ns = LLONG_MAX;

	if (!e->timers)
		return -1;
	for (const struct eng_wait *w = e->timers; w; w = w->own.next)
		first_ns = w->own.time.ns < first_ns ? w->own.time.ns : first_ns;
	long long ms = (first_ns - clock_ns() + NS_PER_MS - 1) / NS_PER_MS;
	return ms < 0 ? 0 : ms > INT_MAX ? INT_MAX : (int)ms;
}

static void timers_over(struct epoll *e)
{
	long long now_ns = e->timers ? clock_ns() : 0;

	for (struct eng_wait *w = e->timers, *next; w; w = next) {
		next = w->own.next;
		if (w->own.time.ns > now_ns)
			continue;
		timer_remove(e, w);
		finish(e, w, 0);
	}
}

/* ----------------------------------------------------------------- operations */

static void epoll_accept(struct eng_loop *l, int fd, struct eng_wait *w)
{
	eng_loop_nonblock(fd, true);
	w->own.result = 0;
	wait_in(epoll_of(l), fd, w);
}

static void epoll_recv(struct eng_loop *l, int fd, void *buf, size_t n, struct eng_wait *w)
{
	w->own.buf.to = buf;
	w->own.bytes = n;
	wait_in(epoll_of(l), fd, w);
}

static void epoll_readable(struct eng_loop *l, int fd, struct eng_wait *w)
{
	wait_in(epoll_of(l), fd, w);
}

static void epoll_send(struct eng_loop *l, int fd, const void *buf, size_t n, struct eng_wait *w)
{
	struct epoll *e = epoll_of(l);
	struct waits *f = waits_of(e, fd);

	if (!f) {
		finish(e, w, -ENOMEM);
		return;
	}
	CHECK(!f->out);
	f->out = w;
	w->own.buf.from = buf;
	w->own.bytes = n;
	w->own.state = STARTED;
	queue_put(&e->started, w);
}

static void epoll_write(
	struct eng_loop *l, int fd, const void *buf, size_t n, uint64_t off, struct eng_wait *w)
{
	(void)fd;
	w->own.buf.from = buf;
	w->own.bytes = n;
	w->own.off = off;
	w->own.state = DUE; /* cannot be cancelled */
	eng_writer_put(epoll_of(l)->writer, w);
}

static int epoll_writes(struct eng_loop *l, void *base, size_t bytes, const char **ret_how)
{
	struct epoll *e = epoll_of(l);
	struct epoll_event ev = {.events = EPOLLIN};

	(void)base, (void)bytes;
	*ret_how =
		"a thread with pwritev2 and RWF_DSYNC, one write at a time: io_uring is not used";
	if (e->writer)
		return 0;
	int r = eng_writer_new(&e->writer, &e->writer_fd);
	if (r < 0)
		return err_fwd(r);
	ev.data.fd = e->writer_fd;
	return epoll_ctl(e->fd, EPOLL_CTL_ADD, e->writer_fd, &ev) == 0 ? 0 : err_new(-errno);
}

static void epoll_timer(struct eng_loop *l, uint64_t ns, struct eng_wait *w)
{
	struct epoll *e = epoll_of(l);

	w->own.time.ns = clock_ns() + (long long)ns;
	w->own.state = WAITS;
	w->own.next = e->timers;
	e->timers = w;
}

static void epoll_cancel(struct eng_loop *l, struct eng_wait *w)
{
	struct epoll *e = epoll_of(l);
	int state = w->own.state, fd = w->own.fd;

	if (state == DUE && w->own.kind != ENG_WAIT_ACCEPT)
		return; /* it was faster */
	if (w->own.kind == ENG_WAIT_TIMER) {
		timer_remove(e, w);
	} else if (e->of[fd].in == w) {
		e->of[fd].in = NULL;
	} else if (e->of[fd].out == w) {
		e->of[fd].out = NULL;
	}
	if (state == WAITS)
		finish(e, w, -ECANCELED);
	else
		w->own.result = -ECANCELED; /* stays in its queue: whoever takes it out looks */
}

static void epoll_forget(struct eng_loop *l, int fd)
{
	struct epoll *e = epoll_of(l);

	if ((uint32_t)fd >= e->n_of)
		return;
	CHECK(!e->of[fd].in && !e->of[fd].out);
	if (!MUTANT(66)) /* 66: it stays in the set, which others' copies keep alive */
		(void)watch(e, fd, 0);
	e->of[fd].events = 0;
}

/* ------------------------------------------------------------------- the turn */

static void start_all(struct epoll *e)
{
	struct eng_wait *w;

	while ((w = queue_get(&e->started))) { /* nothing is added meanwhile */
		struct waits *f = &e->of[w->own.fd];
		if (f->out == w)
			on_out(e, f);
		else
			finish(e, w, -ECANCELED);
	}
}

static int epoll_turn(struct eng_loop *l, bool wait)
{
	struct epoll *e = epoll_of(l);
	struct epoll_event ev[ENG_LOOP_BATCH];

	start_all(e);
	int n = epoll_wait(e->fd, ev, ENG_LOOP_BATCH, wait && !e->due.first ? timers_ms(e) : 0);
	if (n < 0 && errno != EINTR)
		return err_new(-errno);
	for (int i = 0; i < n; i++)
		on_event(e, &ev[i]);
	timers_over(e);
	return 0;
}

/* Takes those who came, until nobody more did; `done` may cancel it. */
static void accept_all(struct epoll *e, struct eng_wait *w)
{
	int fd = 0;

	w->own.state = WAITS;
	for (int i = 0; i < ACCEPTS_AT_ONCE && fd >= 0 && e->of[w->own.fd].in == w; i++) {
		fd = accept4(w->own.fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0)
			w->done(w->arg, fd);
	}
	if (fd >= 0 || errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
		return; /* there is more, or will be: the set says so */
	int result = -errno;
	e->of[w->own.fd].in = NULL;
	w->armed = false;
	w->done(w->arg, result);
}

static void epoll_dispatch(struct eng_loop *l)
{
	struct epoll *e = epoll_of(l);
	struct eng_wait *w;

	for (int i = 0; i < ENG_LOOP_BATCH && (w = queue_get(&e->due)); i++) {
		if (w->own.kind == ENG_WAIT_ACCEPT && w->own.result == 0) {
			accept_all(e, w);
			continue;
		}
		w->armed = false;
		w->done(w->arg, w->own.result);
	}
}

static void epoll_free(struct eng_loop *l)
{
	struct epoll *e = epoll_of(l);

	eng_writer_free(e->writer);
	(void)close(e->fd);
	free(e->of);
	free(e);
}

static const struct eng_loop_ops ops = {
	.free = epoll_free,
	.accept = epoll_accept,
	.recv = epoll_recv,
	.send = epoll_send,
	.write = epoll_write,
	.writes = epoll_writes,
	.readable = epoll_readable,
	.timer = epoll_timer,
	.cancel = epoll_cancel,
	.forget = epoll_forget,
	.wait = epoll_turn,
	.dispatch = epoll_dispatch,
};

int eng_loop_epoll_new(struct eng_loop **ret, const char **ret_why)
{
	struct epoll *e = calloc(1, sizeof *e);

	*ret_why = "no memory or no descriptor for an epoll";
	if (!e)
		return err_new(-ENOMEM);
	e->loop = (struct eng_loop){
		.ops = &ops, .kind = ENG_LOOP_EPOLL, .how = "epoll and plain system calls"};
	e->writer_fd = -1;
	e->fd = epoll_create1(EPOLL_CLOEXEC);
	if (e->fd < 0) {
		int r = err_new(-errno);
		free(e);
		return r;
	}
	*ret_why = NULL;
	*ret = &e->loop;
	return 0;
}
