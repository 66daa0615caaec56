/* eng_loop.c - the loop on io_uring: see eng_loop.h.
 *
 * One ring, one thread.  With IORING_SETUP_DEFER_TASKRUN (kernel 6.1) completions
 * run when the loop asks for them, and not in the middle of a request; without it
 * (an older kernel) the plain ring does the same at a higher cost.
 *
 * The completion queue has a place for every operation that can be under way, so
 * that it does not overflow; accept is one operation with many completions, and
 * ends by itself when there is no place: it is then started again.
 */
#include "eng_loop.h"
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include "base/check.h"
#include "base/err.h"

enum {
	LOOP_SUBMIT = 512,
	WAIT_ONCE = 0,
	WAIT_ACCEPT = 1,
};

_Static_assert(sizeof(((struct eng_wait *)0)->period) == sizeof(struct __kernel_timespec),
	"a timer's period is handed over as it is");

struct eng_loop {
	struct io_uring ring;
	const char *how;
};

static const char *const how_deferred = "io_uring, completions deferred to the loop";
static const char
	*const how_plain = "io_uring, plain: this kernel has no IORING_SETUP_DEFER_TASKRUN (6.1)";

static const char *why_not(int r)
{
	switch (-r) {
	case ENOSYS:
		return "this kernel has no io_uring: it needs 6.1 or newer with CONFIG_IO_URING";
	case EPERM:
		return "io_uring is forbidden here: see sysctl kernel.io_uring_disabled and "
		       "kernel.io_uring_group, or the seccomp profile of the container";
	case ENOMEM:
		return "no memory for the io_uring: see ulimit -l";
	default:
		return "io_uring could not be set up";
	}
}

int eng_loop_new(uint32_t n_waits, struct eng_loop **ret, const char **ret_why)
{
	struct eng_loop *l = calloc(1, sizeof *l);
	int r;

	*ret_why = why_not(-ENOMEM);
	if (!l)
		return err_new(-ENOMEM);
	struct io_uring_params p = {
		.flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_SINGLE_ISSUER |
	                 IORING_SETUP_DEFER_TASKRUN,
		.cq_entries = n_waits + LOOP_SUBMIT,
	};
	r = io_uring_queue_init_params(LOOP_SUBMIT, &l->ring, &p);
	l->how = how_deferred;
	if (r == -EINVAL) {
		p = (struct io_uring_params){.flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP,
			.cq_entries = n_waits + LOOP_SUBMIT};
		r = io_uring_queue_init_params(LOOP_SUBMIT, &l->ring, &p);
		l->how = how_plain;
	}
	if (r < 0) {
		*ret_why = why_not(r);
		free(l);
		return err_new(r);
	}
	(void)io_uring_ring_dontfork(&l->ring);
	*ret = l;
	return 0;
}

void eng_loop_free(struct eng_loop *l)
{
	if (!l)
		return;
	io_uring_queue_exit(&l->ring);
	free(l);
}

const char *eng_loop_how(const struct eng_loop *l) { return l->how; }

/* A free entry of the submission queue; hands the others over if there is none. */
static struct io_uring_sqe *entry_of(struct eng_loop *l)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&l->ring);

	for (int i = 0; !sqe && i < 8; i++) {
		(void)io_uring_submit(&l->ring);
		sqe = io_uring_get_sqe(&l->ring);
	}
	CHECK(sqe != NULL);
	return sqe;
}

static void arm(struct io_uring_sqe *sqe, struct eng_wait *w, uint8_t kind)
{
	CHECK(!w->armed && w->done);
	w->armed = true;
	w->kind = kind;
	io_uring_sqe_set_data(sqe, w);
}

void eng_loop_accept(struct eng_loop *l, int fd, struct eng_wait *w)
{
	struct io_uring_sqe *sqe = entry_of(l);

	w->fd = fd;
	io_uring_prep_multishot_accept(sqe, fd, NULL, NULL, SOCK_CLOEXEC);
	arm(sqe, w, WAIT_ACCEPT);
}

void eng_loop_recv(struct eng_loop *l, int fd, void *buf, size_t n, struct eng_wait *w)
{
	struct io_uring_sqe *sqe = entry_of(l);

	io_uring_prep_recv(sqe, fd, buf, n, 0);
	arm(sqe, w, WAIT_ONCE);
}

void eng_loop_send(struct eng_loop *l, int fd, const void *buf, size_t n, struct eng_wait *w)
{
	struct io_uring_sqe *sqe = entry_of(l);

	io_uring_prep_send(sqe, fd, buf, n, MSG_NOSIGNAL);
	arm(sqe, w, WAIT_ONCE);
}

void eng_loop_readable(struct eng_loop *l, int fd, struct eng_wait *w)
{
	struct io_uring_sqe *sqe = entry_of(l);

	io_uring_prep_poll_add(sqe, fd, POLLIN);
	arm(sqe, w, WAIT_ONCE);
}

void eng_loop_timer(struct eng_loop *l, uint64_t ns, struct eng_wait *w)
{
	struct io_uring_sqe *sqe = entry_of(l);

	w->period.s = (long long)(ns / 1000000000);
	w->period.ns = (long long)(ns % 1000000000);
	io_uring_prep_timeout(sqe, (struct __kernel_timespec *)&w->period, 0, 0);
	arm(sqe, w, WAIT_ONCE);
}

void eng_loop_cancel(struct eng_loop *l, struct eng_wait *w)
{
	if (!w->armed)
		return;
	struct io_uring_sqe *sqe = entry_of(l);

	io_uring_prep_cancel(sqe, w, 0);
	io_uring_sqe_set_data(sqe, NULL);
}

static void finish(struct eng_loop *l, struct eng_wait *w, int result, bool more)
{
	if (!w)
		return; /* a cancellation's own completion */
	CHECK(w->armed);
	w->armed = more;
	if (result == -ETIME)
		result = 0; /* how io_uring says that a timer is over */
	w->done(w->arg, result);
	if (w->kind == WAIT_ACCEPT && !more && result >= 0 && !w->armed)
		eng_loop_accept(l, w->fd, w);
}

int eng_loop_wait(struct eng_loop *l, bool wait)
{
	int r = wait ? io_uring_submit_and_wait(&l->ring, 1)
	             : io_uring_submit_and_get_events(&l->ring);

	if (r < 0 && r != -EINTR && r != -EAGAIN && r != -EBUSY)
		return err_new(r);
	return 0;
}

void eng_loop_dispatch(struct eng_loop *l)
{
	struct io_uring_cqe *cqe[ENG_LOOP_BATCH];
	unsigned n = io_uring_peek_batch_cqe(&l->ring, cqe, ENG_LOOP_BATCH);
	for (unsigned i = 0; i < n; i++)
		finish(l, io_uring_cqe_get_data(cqe[i]), cqe[i]->res,
			(cqe[i]->flags & IORING_CQE_F_MORE) != 0);
	io_uring_cq_advance(&l->ring, n);
}
