/* eng_loop_uring.c - the loop on io_uring: see eng_loop.h.
 *
 * One ring, one thread.  With IORING_SETUP_DEFER_TASKRUN (kernel 6.1) completions
 * run when the loop asks for them, and not in the middle of a request; without it
 * the plain ring does the same at a higher cost.
 *
 * The completion queue has a place for every operation that can be under way, so
 * that it does not overflow; accept is one operation with many completions, and
 * ends by itself when there is no place: it is then started again.
 */
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/uio.h>
#include "base/err.h"
#include "eng_loop_i.h"

enum { LOOP_SUBMIT = 512 };

_Static_assert(sizeof(((struct eng_wait *)0)->own.time) == sizeof(struct __kernel_timespec),
	"a timer's period is handed over as it is");

struct uring {
	struct eng_loop loop;
	struct io_uring ring;
	const uint8_t *registered; /* memory that writes come from, and is registered; or NULL */
	size_t registered_bytes;
};

static struct uring *uring_of(struct eng_loop *l) { return (struct uring *)l; }

static const char *why_not(int r)
{
	switch (-r) {
	case ENOSYS:
		return "this kernel has no io_uring (6.1 with CONFIG_IO_URING), or a seccomp "
		       "profile says so";
	case EPERM:
		return "io_uring is forbidden here: see sysctl kernel.io_uring_disabled and "
		       "kernel.io_uring_group, or the seccomp profile of the container";
	case ENOMEM:
		return "no memory for the io_uring: see ulimit -l";
	default:
		return "io_uring could not be set up";
	}
}

/* A free entry of the submission queue; hands the others over if there is none. */
static struct io_uring_sqe *entry_of(struct eng_loop *l)
{
	struct io_uring *ring = &uring_of(l)->ring;
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	for (int i = 0; !sqe && i < 8; i++) {
		(void)io_uring_submit(ring);
		sqe = io_uring_get_sqe(ring);
	}
	CHECK(sqe != NULL);
	return sqe;
}

static void uring_accept(struct eng_loop *l, int fd, struct eng_wait *w)
{
	struct io_uring_sqe *sqe = entry_of(l);

	eng_loop_nonblock(fd, false); /* else io_uring reports EAGAIN instead of waiting */
	/* One at a time: many would be taken by the kernel before anybody could say that it is enough. */
	io_uring_prep_accept(sqe, fd, NULL, NULL, SOCK_CLOEXEC);
	io_uring_sqe_set_data(sqe, w);
}

static void uring_recv(struct eng_loop *l, int fd, void *buf, size_t n, struct eng_wait *w)
{
	struct io_uring_sqe *sqe = entry_of(l);

	io_uring_prep_recv(sqe, fd, buf, n, 0);
	io_uring_sqe_set_data(sqe, w);
}

static void uring_send(struct eng_loop *l, int fd, const void *buf, size_t n, struct eng_wait *w)
{
	struct io_uring_sqe *sqe = entry_of(l);

	io_uring_prep_send(sqe, fd, buf, n, MSG_NOSIGNAL);
	io_uring_sqe_set_data(sqe, w);
}

static void uring_write(
	struct eng_loop *l, int fd, const void *buf, size_t n, uint64_t off, struct eng_wait *w)
{
	const struct uring *u = uring_of(l);
	struct io_uring_sqe *sqe = entry_of(l);
	uintptr_t at = (uintptr_t)buf - (uintptr_t)u->registered;

	if (u->registered && at < u->registered_bytes && n <= u->registered_bytes - at)
		io_uring_prep_write_fixed(sqe, fd, buf, (unsigned)n, off, 0);
	else
		io_uring_prep_write(sqe, fd, buf, (unsigned)n, off);
	sqe->rw_flags = RWF_DSYNC;
	io_uring_sqe_set_data(sqe, w);
}

static int uring_writes(struct eng_loop *l, void *base, size_t bytes, const char **ret_how)
{
	struct uring *u = uring_of(l);
	struct iovec v = {.iov_base = base, .iov_len = bytes};

	*ret_how = "io_uring with RWF_DSYNC; buffers are not registered: see ulimit -l";
	if (io_uring_register_buffers(&u->ring, &v, 1) == 0) {
		u->registered = base;
		u->registered_bytes = bytes;
		*ret_how = "io_uring with RWF_DSYNC, from registered buffers";
	}
	return 0;
}

static void uring_readable(struct eng_loop *l, int fd, struct eng_wait *w)
{
	struct io_uring_sqe *sqe = entry_of(l);

	io_uring_prep_poll_add(sqe, fd, POLLIN);
	io_uring_sqe_set_data(sqe, w);
}

static void uring_timer(struct eng_loop *l, uint64_t ns, struct eng_wait *w)
{
	struct io_uring_sqe *sqe = entry_of(l);

	w->own.time.s = (long long)(ns / 1000000000);
	w->own.time.ns = (long long)(ns % 1000000000);
	io_uring_prep_timeout(sqe, (struct __kernel_timespec *)&w->own.time, 0, 0);
	io_uring_sqe_set_data(sqe, w);
}

enum { COMES = 1, ENOUGH = 2 }; /* of an accept, in its `done`: goes on; was cancelled */

static void uring_cancel(struct eng_loop *l, struct eng_wait *w)
{
	if (w->own.kind == ENG_WAIT_ACCEPT && w->own.state == COMES) {
		w->own.state = ENOUGH;
		return;
	}
	struct io_uring_sqe *sqe = entry_of(l);

	io_uring_prep_cancel(sqe, w, 0);
	io_uring_sqe_set_data(sqe, NULL);
}

/* Somebody has come; then the next one, unless `done` has cancelled it. */
static void accepted(struct eng_loop *l, struct eng_wait *w, int fd)
{
	w->own.state = COMES;
	w->done(w->arg, fd);
	bool enough = w->own.state == ENOUGH;
	w->own.state = 0;
	if (!enough) {
		uring_accept(l, w->own.fd, w);
		return;
	}
	w->armed = false;
	w->done(w->arg, -ECANCELED);
}

static void finish(struct eng_loop *l, struct eng_wait *w, int result)
{
	if (!w)
		return; /* a cancellation's own completion */
	CHECK(w->armed);
	if (w->own.kind == ENG_WAIT_ACCEPT && result >= 0) {
		accepted(l, w, result);
		return;
	}
	w->armed = false;
	if (result == -ETIME)
		result = 0; /* how io_uring says that a timer is over */
	w->done(w->arg, result);
}

static int uring_wait(struct eng_loop *l, bool wait)
{
	struct io_uring *ring = &uring_of(l)->ring;
	int r = wait ? io_uring_submit_and_wait(ring, 1) : io_uring_submit_and_get_events(ring);

	if (r < 0 && r != -EINTR && r != -EAGAIN && r != -EBUSY)
		return err_new(r);
	return 0;
}

static void uring_dispatch(struct eng_loop *l)
{
	struct io_uring *ring = &uring_of(l)->ring;
	struct io_uring_cqe *cqe[ENG_LOOP_BATCH];
	unsigned n = io_uring_peek_batch_cqe(ring, cqe, ENG_LOOP_BATCH);

	for (unsigned i = 0; i < n; i++)
		finish(l, io_uring_cqe_get_data(cqe[i]), cqe[i]->res);
	io_uring_cq_advance(ring, n);
}

static void uring_free(struct eng_loop *l)
{
	io_uring_queue_exit(&uring_of(l)->ring);
	free(l);
}

/* The ring can do no more than the operations above, whoever fills it: else it would be a way around
 * the filter of system calls (eng_lock.c).  0 or -errno. */
static int restrict_to_ours(struct io_uring *ring)
{
	static const uint8_t ours[] = {IORING_OP_ACCEPT, IORING_OP_RECV, IORING_OP_SEND,
		IORING_OP_POLL_ADD, IORING_OP_TIMEOUT, IORING_OP_ASYNC_CANCEL, IORING_OP_WRITE,
		IORING_OP_WRITE_FIXED};
	/* Registering is a system call of its own, which ends with the lockdown. */
	struct io_uring_restriction r[sizeof ours + 2] = {
		{.opcode = IORING_RESTRICTION_REGISTER_OP,
			.register_op = IORING_REGISTER_ENABLE_RINGS},
		{.opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = IORING_REGISTER_BUFFERS}};

	for (size_t i = 0; i < sizeof ours; i++) {
		r[i + 2].opcode = IORING_RESTRICTION_SQE_OP;
		r[i + 2].sqe_op = ours[i];
	}
	/* Debian's liburing 2.3 declares calls of these two names, and lacks them. */
	int ret = io_uring_register(
		(unsigned)ring->ring_fd, IORING_REGISTER_RESTRICTIONS, r, sizeof r / sizeof *r);
	if (ret == 0)
		ret = io_uring_register(
			(unsigned)ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
	return ret < 0 ? err_new(ret) : 0;
}

static const struct eng_loop_ops ops = {
	.free = uring_free,
	.accept = uring_accept,
	.recv = uring_recv,
	.send = uring_send,
	.write = uring_write,
	.writes = uring_writes,
	.readable = uring_readable,
	.timer = uring_timer,
	.cancel = uring_cancel,
	.wait = uring_wait,
	.dispatch = uring_dispatch,
};

int eng_loop_uring_new(bool deferred, uint32_t n_waits, struct eng_loop **ret, const char **ret_why)
{
	struct uring *u = calloc(1, sizeof *u);
	struct io_uring_params p;
	int r = -EINVAL;

	*ret_why = why_not(-ENOMEM);
	if (!u)
		return err_new(-ENOMEM);
	u->loop = (struct eng_loop){.ops = &ops,
		.kind = ENG_LOOP_URING,
		.how = "io_uring, completions deferred to the loop"};
	if (deferred) {
		p = (struct io_uring_params){.flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP |
		                                      IORING_SETUP_R_DISABLED |
		                                      IORING_SETUP_SINGLE_ISSUER |
		                                      IORING_SETUP_DEFER_TASKRUN,
			.cq_entries = n_waits + LOOP_SUBMIT};
		r = io_uring_queue_init_params(LOOP_SUBMIT, &u->ring, &p);
	}
	if (r == -EINVAL) { /* not asked for, or this kernel does not know it */
		p = (struct io_uring_params){
			.flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_R_DISABLED,
			.cq_entries = n_waits + LOOP_SUBMIT};
		r = io_uring_queue_init_params(LOOP_SUBMIT, &u->ring, &p);
		u->loop.kind = ENG_LOOP_URING_PLAIN;
		u->loop.how = "io_uring, plain: without IORING_SETUP_DEFER_TASKRUN (kernel 6.1)";
	}
	if (r == 0) {
		r = restrict_to_ours(&u->ring);
		if (r < 0)
			io_uring_queue_exit(&u->ring);
	}
	if (r < 0) {
		*ret_why = why_not(r);
		free(u);
		return err_new(r);
	}
	(void)io_uring_ring_dontfork(&u->ring);
	*ret_why = NULL;
	*ret = &u->loop;
	return 0;
}
