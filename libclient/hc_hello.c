/* hc_hello.c - a connection to the engine: connect, HELLO, descriptors; again after it was lost.
 *
 * The supervisor holds the listening socket, so that connecting works while an engine
 * restarts: HELLO then waits in the backlog until there is an engine to read it.
 * Pauses between attempts double from HC_BACKOFF_MIN_NS to HC_BACKOFF_MAX_NS, and
 * begin anew after an answer.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "hc_i.h"
#include "step.h"

enum { AGAIN = 1 }; /* of the static functions here: lost before there was an answer */

#define NS_PER_S 1000000000ull
_Static_assert(HC_SLICE_NS < NS_PER_S, "a slice is less than a second");

uint64_t hc_now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

int hc_wait_fd(const struct hc_conn *c, int fd, short events, uint64_t deadline_ns)
{
	struct pollfd p = {.fd = fd, .events = events};

	for (;;) {
		uint64_t now_ns = hc_now_ns();
		uint64_t left_ns = now_ns < deadline_ns ? deadline_ns - now_ns : 0;
		uint64_t slice_ns = left_ns < HC_SLICE_NS ? left_ns : HC_SLICE_NS;
		struct timespec t = {.tv_nsec = (long)slice_ns};
		int r = ppoll(&p, 1, &t, NULL);
		if (r > 0)
			return p.revents;
		if (r < 0 && errno != EINTR)
			return err_new(-errno);
		if (left_ns == 0)
			return 0;
		if (hc_conn_interrupted(c))
			return err_new(-ECANCELED);
	}
}

void hc_handed_close(struct hc_handed *h)
{
	for (uint32_t i = 0; i < h->n_fds; i++)
		(void)close(h->fd[i]);
	h->n_fds = 0;
}

/* ------------------------------------------------------------------ connect */

/* A connected socket; AGAIN: its backlog is full; -ECONNREFUSED: nobody listens; -EACCES; -errno. */
static int socket_connect(const struct hc_conn *c, int *ret_fd)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	const struct timeval slice = {.tv_usec = HC_SLICE_NS / 1000};

	if (fd < 0)
		return err_new(-errno);
	if (connect(fd, (const struct sockaddr *)&c->addr, sizeof c->addr) < 0) {
		switch (errno) {
		case EAGAIN:
		case EINTR:
			return AGAIN;
		case ENOENT:
		case ENOTDIR:
		case ECONNREFUSED:
			return err_new(-ECONNREFUSED);
		case EPERM:
		case EACCES:
			return err_new(-EACCES);
		default:
			return err_new(-errno);
		}
	}
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &slice, sizeof slice) < 0 ||
		fcntl(fd, F_SETFL, 0) < 0)
		return err_new(-errno);
	*ret_fd = steal_fd(fd);
	return 0;
}

/* ------------------------------------------------------------------ HELLO */

/* Sends all of b.  0; AGAIN; -ETIMEDOUT; -errno. */
static int hello_send(struct hc_conn *c, struct wire_buf *b, uint64_t deadline_ns)
{
	while (b->begin < b->end) {
		int r = hc_wait_fd(c, c->fd, POLLOUT, deadline_ns);
		if (r < 0)
			return err_fwd(r);
		if (r == 0)
			return err_new(-ETIMEDOUT);
		ssize_t n = send(
			c->fd, b->bytes + b->begin, b->end - b->begin, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n >= 0)
			b->begin += (size_t)n;
		else if (hc_errno_is_lost(errno))
			return AGAIN;
		else if (errno != EINTR && errno != EAGAIN)
			return err_new(-errno);
	}
	return 0;
}

/* The descriptors of one message.  All of them are stored or closed.  0; -EPROTO: too many; -EMFILE:
 * this process may not have so many open. */
static int descriptors_take(struct msghdr *m, struct hc_handed *h)
{
	int r = 0;

	for (struct cmsghdr *k = CMSG_FIRSTHDR(m); k; k = CMSG_NXTHDR(m, k)) {
		if (k->cmsg_level != SOL_SOCKET || k->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (k->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(k) + i * sizeof fd, sizeof fd);
			if (h->n_fds < WIRE_FDS_MAX) {
				h->fd[h->n_fds++] = fd;
			} else {
				(void)close(fd);
				r = -EPROTO;
			}
		}
	}
	if (m->msg_flags & MSG_CTRUNC)
		r = h->n_fds < WIRE_FDS_MAX ? -EMFILE : -EPROTO;
	return r < 0 ? err_new(r) : 0;
}

/* Receives until a whole frame stands in c->in.  0; AGAIN; -ETIMEDOUT; -EPROTO; -errno. */
static int hello_receive(struct hc_conn *c, uint64_t deadline_ns, struct hc_handed *h,
	const uint8_t **ret_body, size_t *ret_bytes)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * WIRE_FDS_MAX)];
	} control;
	int r;

	while ((r = wire_frame(&c->in, WIRE_HELLO_BYTES_MAX, ret_body, ret_bytes)) == WIRE_MORE) {
		r = wire_buf_reserve(&c->in, WIRE_HELLO_BYTES_MAX);
		if (r < 0)
			return err_fwd(r);
		r = hc_wait_fd(c, c->fd, POLLIN, deadline_ns);
		if (r <= 0)
			return err_new(r ? r : -ETIMEDOUT);
		struct iovec v = {
			.iov_base = c->in.bytes + c->in.end, .iov_len = c->in.cap - c->in.end};
		struct msghdr m = {
			.msg_iov = &v,
			.msg_iovlen = 1,
			.msg_control = &control,
			.msg_controllen = sizeof control,
		};
		ssize_t n = recvmsg(c->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		if (n == 0 || (n < 0 && hc_errno_is_lost(errno)))
			return AGAIN;
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return err_new(-errno);
		if (n < 0)
			continue;
		c->in.end += (size_t)n;
		r = descriptors_take(&m, h);
		if (r < 0)
			return err_fwd(r);
	}
	return err_fwd(r);
}

/* What a status in HELLO's answer means.  0; AGAIN; -errno. */
static int hello_status(int32_t status)
{
	switch (status) {
	case HC_OK:
		return 0;
	case HC_E_CLOSING:
		return AGAIN;
	case HC_E_VERSION:
		return -EPROTONOSUPPORT;
	case HC_E_REFUSED:
		return -EACCES;
	case HC_E_DENIED:
		return -EPERM;
	case HC_E_STALE:
		return -ESTALE;
	default:
		return -EPROTO;
	}
}

/* Connects and says HELLO: c->fd is the connection then.  0; AGAIN; -ETIMEDOUT; -errno. */
static int hello_begin(struct hc_conn *c, uint64_t deadline_ns)
{
	_cleanup_(wire_buf_fini) struct wire_buf b = {0};
	struct wire_request hello = c->hello;

	if (MUTANT(46))
		hello.session = 0;
	int r = socket_connect(c, &c->fd);
	if (r == 0)
		r = hc_conn_watch(c, EPOLLIN);
	if (r == 0)
		r = wire_put_request(&b, &hello);
	if (r == 0)
		r = hello_send(c, &b, deadline_ns);
	c->greeting = r == 0;
	return err_fwd(r);
}

/* The answer, and what came with it in *ret.  0; AGAIN; -ETIMEDOUT: it may come yet; -errno. */
static int hello_end(struct hc_conn *c, uint64_t deadline_ns, struct hc_handed *ret)
{
	const uint8_t *body;
	size_t bytes;
	int r = hello_receive(c, deadline_ns, ret, &body, &bytes);

	if (r == 0)
		r = wire_get_answer(body, bytes, &ret->answer);
	if (r)
		return err_fwd(r);
	c->greeting = false;
	const struct wire_answer *a = &ret->answer;
	c->in.begin += sizeof(uint32_t) + bytes;
	if (a->verb != WIRE_HELLO || a->request != 0 || c->in.begin != c->in.end)
		return err_new(-EPROTO);
	r = hello_status(a->status);
	if (r)
		return r < 0 ? err_new(r) : r;
	if (a->max_inflight == 0 || a->max_frame == 0 || a->n_fds != ret->n_fds)
		return err_new(-EPROTO);
	c->max_inflight = a->max_inflight < HC_WINDOW_MAX ? (uint32_t)a->max_inflight
	                                                  : HC_WINDOW_MAX;
	c->max_frame = a->max_frame < UINT32_MAX ? a->max_frame : UINT32_MAX;
	return 0;
}

/* ------------------------------------------------------------------ attempts */

uint64_t hc_hello_from_ns(const struct hc_conn *c) { return c->backoff_ns ? c->attempt_ns : 0; }

/* An attempt begins: the next one waits longer. */
static void attempt(struct hc_conn *c)
{
	c->backoff_ns = c->backoff_ns ? 2 * c->backoff_ns : HC_BACKOFF_MIN_NS;
	if (c->backoff_ns > HC_BACKOFF_MAX_NS)
		c->backoff_ns = HC_BACKOFF_MAX_NS;
	c->attempt_ns = hc_now_ns() + c->backoff_ns;
}

/* The pause before an attempt.  0; -ETIMEDOUT; -ECANCELED; -errno. */
static int pause_before(struct hc_conn *c, uint64_t deadline_ns)
{
	uint64_t now_ns = hc_now_ns(), from_ns = hc_hello_from_ns(c);

	if (now_ns >= deadline_ns)
		return err_new(-ETIMEDOUT);
	if (from_ns > now_ns) {
		int r = hc_wait_fd(c, -1, 0, from_ns < deadline_ns ? from_ns : deadline_ns);
		if (r < 0)
			return err_fwd(r);
	}
	attempt(c);
	return 0;
}

int hc_hello_open(struct hc_conn *c, uint64_t deadline_ns, struct hc_handed *ret)
{
	for (;;) {
		ret->n_fds = 0;
		int r = pause_before(c, deadline_ns);
		if (r == 0)
			r = hello_begin(c, deadline_ns);
		if (r == 0)
			r = hello_end(c, deadline_ns, ret);
		if (r == 0 && ret->answer.resumed)
			r = err_new(-EPROTO);
		if (r == 0) {
			shm_store32_rlx(&c->up, 1);
			return 0;
		}
		hc_handed_close(ret);
		hc_conn_drop(c);
		if (r < 0)
			return err_fwd(r == -ESTALE ? -EPROTO : r);
	}
}

/* Is what came the session that we have? */
static bool resumed_fits(const struct hc_conn *c, const struct hc_handed *h)
{
	return h->answer.resumed == 1 && h->answer.session == c->hello.session && h->n_fds == 0 &&
	       c->n_unanswered <= c->max_inflight;
}

static bool supervisor_dead(const struct hc_conn *c)
{
	return c->sup_word && (shm_load32_rlx(c->sup_word) & SHM_FUTEX_OWNER_DIED);
}

/* HELLO has been said, or is said now; the session's answer.  0: connected; as hello_end(). */
static int resume_try(struct hc_conn *c, uint64_t deadline_ns)
{
	struct hc_handed h;

	h.n_fds = 0;
	int r = c->greeting ? 0 : hello_begin(c, deadline_ns);
	if (r == 0)
		r = hello_end(c, deadline_ns, &h);
	if (r == 0 && !resumed_fits(c, &h))
		r = err_new(-EPROTO);
	hc_handed_close(&h);
	if (r == 0)
		shm_store32_rlx(&c->up, 1);
	return err_fwd(r);
}

/* It did not work.  AGAIN; -errno: it will not. */
static int resume_failed(struct hc_conn *c, int r)
{
	hc_conn_drop(c);
	if (r == -ECONNREFUSED && !supervisor_dead(c))
		r = AGAIN;
	c->stale = r == -ESTALE;
	return err_fwd(r);
}

int hc_hello_resume(struct hc_conn *c, uint64_t deadline_ns)
{
	if (c->stale)
		return err_new(-ESTALE);
	for (;;) {
		int r = c->greeting ? 0 : pause_before(c, deadline_ns);
		if (r == 0)
			r = resume_try(c, deadline_ns);
		if (r == 0)
			return 0;
		r = resume_failed(c, r);
		if (r < 0)
			return err_fwd(r);
	}
}

int hc_hello_step(struct hc_conn *c)
{
	if (c->stale)
		return err_new(-ESTALE);
	if (!c->greeting) {
		if (hc_hello_from_ns(c) > hc_now_ns())
			return HC_CONN_LATER;
		attempt(c);
	}
	int r = resume_try(c, 0);
	if (r == -ETIMEDOUT && c->greeting)
		return HC_CONN_LATER;
	if (r)
		r = resume_failed(c, r == -ETIMEDOUT ? AGAIN : r);
	return r == AGAIN ? HC_CONN_LATER : err_fwd(r);
}

int hc_hello_regions(
	const struct hc_conn *from, uint32_t pool_idx, uint64_t deadline_ns, struct hc_handed *ret)
{
	struct hc_conn c;
	int r;

	hc_conn_init(&c);
	c.addr = from->addr;
	c.hello = from->hello;
	c.hello.regions_of = pool_idx + 1ull;
	do {
		hc_handed_close(ret);
		r = pause_before(&c, deadline_ns);
		if (r == 0)
			r = hello_begin(&c, deadline_ns);
		if (r == 0)
			r = hello_end(&c, deadline_ns, ret);
		hc_conn_drop(&c);
	} while (r == AGAIN);
	hc_conn_fini(&c);
	return err_fwd(r);
}
