/* hc_bell.c - see hc_bell.h. */
#include "hc_bell.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/err.h"
#include "hc_i.h"
#include "step.h"

#define NS_PER_S 1000000000ull
enum { FRAME_BYTES_MAX = 4096 }; /* of an answer: it is some 40 bytes */

void hc_bell_init(struct hc_bell *b)
{
	*b = (struct hc_bell){.epoll_fd = -1, .timer_fd = -1, .fd = -1};
}

void hc_bell_fini(struct hc_bell *b)
{
	const int fds[] = {b->epoll_fd, b->timer_fd, b->fd};

	for (int i = 0; i < 3; i++)
		if (fds[i] >= 0)
			(void)close(fds[i]);
	wire_buf_fini(&b->in);
	hc_bell_init(b);
}

/* At that time of CLOCK_MONOTONIC; in the past: it rings now. */
static void ring_at(struct hc_bell *b, uint64_t ns)
{
	const struct itimerspec t = {
		.it_value = {.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)}};

	b->retry_ns = ns;
	(void)timerfd_settime(b->timer_fd, TFD_TIMER_ABSTIME, &t, NULL);
}

static int add(const struct hc_bell *b, int fd)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLRDHUP};

	return epoll_ctl(b->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0 ? err_new(-errno) : 0;
}

int hc_bell_open(struct hc_bell *b)
{
	if (b->epoll_fd >= 0)
		return 0;
	b->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	b->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	int r = b->epoll_fd < 0 || b->timer_fd < 0 ? err_new(-errno) : add(b, b->timer_fd);
	if (r < 0) {
		hc_bell_fini(b);
		return err_fwd(r);
	}
	ring_at(b, 1);
	return 0;
}

/* ------------------------------------------------------------------ the connection */

/* A forked child may keep its description: so it is taken out of the set first. */
static void lose(struct hc_bell *b)
{
	if (b->fd >= 0) {
		(void)epoll_ctl(b->epoll_fd, EPOLL_CTL_DEL, b->fd, NULL);
		(void)close(b->fd);
	}
	b->fd = -1;
	b->asked = false;
	b->in.begin = b->in.end = 0;
}

static void try_later(struct hc_bell *b)
{
	lose(b);
	b->backoff_ns = b->backoff_ns ? 2 * b->backoff_ns : HC_BACKOFF_MIN_NS;
	if (b->backoff_ns > HC_BACKOFF_MAX_NS)
		b->backoff_ns = HC_BACKOFF_MAX_NS;
	ring_at(b, hc_now_ns() + b->backoff_ns);
}

static int bell_connect(struct hc_bell *b, const struct hc_conn *from)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)&from->addr, sizeof from->addr) < 0)
		return err_new(-errno);
	int r = add(b, fd);
	if (r == 0)
		b->fd = steal_fd(fd);
	return err_fwd(r);
}

/* 0; -errno: also when not all of it could be sent, which of so little does not happen. */
static int ask(struct hc_bell *b, const struct hc_conn *from, uint32_t pool_idx, uint64_t pos)
{
	_cleanup_(wire_buf_fini) struct wire_buf f = {0};
	struct wire_request hello = from->hello;

	hello.regions_of = pool_idx + 1ull;
	hello.feed_at = pos + 1;
	int r = wire_put_request(&f, &hello);
	if (r < 0)
		return err_fwd(r);
	ssize_t n = send(b->fd, f.bytes + f.begin, f.end - f.begin, MSG_NOSIGNAL | MSG_DONTWAIT);
	return n == (ssize_t)(f.end - f.begin) ? 0 : err_new(n < 0 ? -errno : -EMSGSIZE);
}

enum { NOT_YET = 1 };
/* The answer.  0; NOT_YET; -errno: the connection is of no use any more. */
static int heard(struct hc_bell *b)
{
	struct wire_answer a;
	const uint8_t *body;
	size_t bytes;
	int r;

	while ((r = wire_frame(&b->in, FRAME_BYTES_MAX, &body, &bytes)) == WIRE_MORE) {
		r = wire_buf_reserve(&b->in, FRAME_BYTES_MAX);
		if (r < 0)
			return err_fwd(r);
		ssize_t n = recv(
			b->fd, b->in.bytes + b->in.end, b->in.cap - b->in.end, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return NOT_YET;
		if (n <= 0)
			return err_new(n < 0 ? -errno : -ECONNRESET);
		b->in.end += (size_t)n;
	}
	if (r == 0)
		r = wire_get_answer(body, bytes, &a);
	if (r < 0)
		return err_fwd(r);
	b->in.begin += sizeof(uint32_t) + bytes;
	return a.verb == WIRE_HELLO && a.status == HC_OK && b->in.begin == b->in.end
	               ? 0
	               : err_new(-EPROTO);
}

/* What came of the last question.  False: nothing yet. */
static bool answered(struct hc_bell *b)
{
	int r = heard(b);

	if (r == NOT_YET)
		return false;
	b->asked = false;
	if (r == 0) {
		b->backoff_ns = 0;
	} else if ((r == -ECONNRESET || r == -EPIPE) && b->backoff_ns == 0) {
		lose(b); /* an engine has died: the next one is asked at once, but not again and again */
		b->backoff_ns = HC_BACKOFF_MIN_NS;
	} else {
		try_later(b);
	}
	return true;
}

void hc_bell_set(struct hc_bell *b, const struct hc_conn *from, uint32_t pool_idx, uint64_t pos)
{
	if (b->asked && !answered(b))
		return;
	if (b->retry_ns > hc_now_ns())
		return;
	int r = b->fd >= 0 ? ask(b, from, pool_idx, pos) : err_new(-ENOTCONN);
	if (r < 0) { /* not connected, or not any more */
		lose(b);
		r = bell_connect(b, from);
		if (r == 0)
			r = ask(b, from, pool_idx, pos);
	}
	if (r < 0) {
		try_later(b);
		return;
	}
	b->asked = true;
	if (b->retry_ns)
		ring_at(b, 0); /* it rings no more */
	STEP("bell:set");
}
