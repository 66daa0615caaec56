/* eng_loop.c - which loop it is, and the way to it: see eng_loop.h, eng_loop_i.h. */
#include "eng_loop.h"
#include <unistd.h>
#include "base/err.h"
#include "eng_loop_i.h"
#include "step.h"

int eng_loop_new(enum config_io io, uint32_t n_waits, struct eng_loop **ret, const char **ret_why)
{
	const char *why = NULL;
	int r;

	*ret_why = NULL;
	if (io != CONFIG_IO_EPOLL) {
		r = eng_loop_uring_new(io != CONFIG_IO_URING_PLAIN, n_waits, ret, ret_why);
		if (r == 0 || io != CONFIG_IO_AUTO || MUTANT(63)) /* 63: auto does not fall back */
			return err_fwd(r);
		why = *ret_why;
	}
	r = eng_loop_epoll_new(ret, ret_why);
	if (r == 0)
		*ret_why = why;
	return err_fwd(r);
}

void eng_loop_free(struct eng_loop *l)
{
	if (l)
		l->ops->free(l);
}

enum eng_loop_kind eng_loop_kind(const struct eng_loop *l) { return l->kind; }

const char *eng_loop_how(const struct eng_loop *l) { return l->how; }

static void arm(struct eng_wait *w, uint8_t kind, int fd)
{
	CHECK(!w->armed && w->done);
	w->armed = true;
	w->own.kind = kind;
	w->own.fd = fd;
}

void eng_loop_accept(struct eng_loop *l, int fd, struct eng_wait *w)
{
	arm(w, ENG_WAIT_ACCEPT, fd);
	l->ops->accept(l, fd, w);
}

void eng_loop_recv(struct eng_loop *l, int fd, void *buf, size_t n, struct eng_wait *w)
{
	arm(w, ENG_WAIT_RECV, fd);
	l->ops->recv(l, fd, buf, n, w);
}

void eng_loop_send(struct eng_loop *l, int fd, const void *buf, size_t n, struct eng_wait *w)
{
	arm(w, ENG_WAIT_SEND, fd);
	l->ops->send(l, fd, buf, n, w);
}

void eng_loop_write(
	struct eng_loop *l, int fd, const void *buf, size_t n, uint64_t off, struct eng_wait *w)
{
	arm(w, ENG_WAIT_WRITE, fd);
	l->ops->write(l, fd, buf, n, off, w);
}

int eng_loop_writes(struct eng_loop *l, void *base, size_t bytes, const char **ret_how)
{
	return err_fwd(l->ops->writes(l, base, bytes, ret_how));
}

void eng_loop_readable(struct eng_loop *l, int fd, struct eng_wait *w)
{
	arm(w, ENG_WAIT_READABLE, fd);
	l->ops->readable(l, fd, w);
}

void eng_loop_timer(struct eng_loop *l, uint64_t ns, struct eng_wait *w)
{
	arm(w, ENG_WAIT_TIMER, -1);
	l->ops->timer(l, ns, w);
}

void eng_loop_cancel(struct eng_loop *l, struct eng_wait *w)
{
	if (w->armed)
		l->ops->cancel(l, w);
}

void eng_loop_close(struct eng_loop *l, int fd)
{
	if (l->ops->forget)
		l->ops->forget(l, fd);
	(void)close(fd);
}

int eng_loop_wait(struct eng_loop *l, bool wait) { return err_fwd(l->ops->wait(l, wait)); }

void eng_loop_dispatch(struct eng_loop *l) { l->ops->dispatch(l); }
