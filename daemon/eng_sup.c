/* eng_sup.c - the engine's end of the channel to the supervisor (heritage.h).
 *
 * The channel never makes the engine wait: a message that does not fit now is
 * refused to its sender here.  SESSION_PUT: the client is refused.  SESSION_DROP:
 * the slot stays taken and the next tick tries again.
 */
#include "eng.h"
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>
#include "base/check.h"
#include "base/err.h"
#include "op.h"

enum { SUP_FDS = 2, SUP_MESSAGES_PER_TURN = 64 };

int eng_sup_send(struct eng *e, enum sup_msg_kind kind, const struct eng_session *s, const int *fds,
	uint32_t n_fds)
{
	struct sup_msg m = {.kind = kind, .n_fds = n_fds};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(SUP_FDS * sizeof(int))];
	} control = {0};
	struct iovec iov = {.iov_base = &m, .iov_len = sizeof m};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};

	CHECK(n_fds <= SUP_FDS);
	if (s) {
		m.slot = s->slot;
		m.id = s->id;
		m.uid = s->peer.uid;
		m.gid = s->peer.gid;
		m.pid = s->peer.pid;
		m.read_pools = s->peer.read_pools;
		m.write_pools = s->peer.write_pools;
		m.fence = s->compiler_fence ? SHM_FENCE_COMPILER : SHM_FENCE_FULL;
	}
	if (n_fds) {
		h.msg_control = control.bytes;
		h.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
	}
	ssize_t n = sendmsg(e->h->channel_fd, &h, MSG_DONTWAIT | MSG_NOSIGNAL);
	return n < 0 ? err_new(-errno) : 0;
}

int eng_sup_send_msg(struct eng *e, const struct sup_msg *m)
{
	ssize_t n = send(e->h->channel_fd, m, sizeof *m, MSG_DONTWAIT | MSG_NOSIGNAL);

	return n < 0 ? err_new(-errno) : 0;
}

static void sup_message(struct eng *e, const struct sup_config_msg *all, int fd)
{
	const struct sup_msg *m = &all->msg;
	struct eng_session *s;

	switch (m->kind) {
	case SUP_MSG_SESSION_KEPT:
		s = m->slot < e->n_sessions ? &e->session[m->slot] : NULL;
		if (s && s->state == ENG_SESSION_PUTTING && s->id == m->id)
			op_hello_kept(e, s);
		return; /* else: the client went away meanwhile */
	case SUP_MSG_QUIT:
		eng_quit(e);
		return;
	case SUP_MSG_LOG_SEGMENT:
		eng_log_segment(e, m, fd);
		return;
	case SUP_MSG_REGION:
		eng_resize_region(e, m->slot, m->id, fd);
		return;
	case SUP_MSG_ERRAND:
		eng_errand(e, m);
		return;
	case SUP_MSG_CONFIG:
		eng_config_take(e, all);
		return;
	default:
		log_warn("the supervisor sent a message of unknown kind %u", m->kind);
	}
}

/* The descriptor that came with a message; -1: none. */
static int sup_fd(struct msghdr *h)
{
	int fd = -1;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
			memcpy(&fd, CMSG_DATA(c), sizeof fd); /* the supervisor sends one */
	return fd;
}

/* One message, and the descriptor with it or -1.  1: there was one; 0: none now; -errno, -EPIPE at the
 * end. */
static int sup_receive(struct eng *e, struct sup_config_msg *ret, int *ret_fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = ret, .iov_len = sizeof *ret};
	struct msghdr h = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof control.bytes};
	ssize_t n = recvmsg(e->h->channel_fd, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	*ret_fd = n > 0 ? sup_fd(&h) : -1;
	if (n >= (ssize_t)sizeof ret->msg &&
		n == (ssize_t)(ret->msg.kind == SUP_MSG_CONFIG ? sizeof *ret : sizeof ret->msg))
		return 1;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	return n == 0 ? -EPIPE : n < 0 ? -errno : -EPROTO;
}

/* Obeys what has come.  False: the supervisor is gone. */
static bool sup_obey(struct eng *e)
{
	static struct sup_config_msg m; /* large */
	int r = 1, fd;

	for (int i = 0; i < SUP_MESSAGES_PER_TURN && r == 1; i++) {
		r = sup_receive(e, &m, &fd);
		if (r == 1)
			sup_message(e, &m, fd);
	}
	if (r < 0) {
		if (!e->quit)
			log_warn("the supervisor is gone: ending after what was acknowledged");
		eng_quit(e);
	}
	return r >= 0;
}

static void sup_readable(void *arg, int result)
{
	struct eng *e = arg;

	if (result == -ECANCELED)
		return;
	if (sup_obey(e))
		eng_loop_readable(e->loop, e->h->channel_fd, &e->sup_wait);
}

void eng_sup_look(struct eng *e, int wait_ms)
{
	struct pollfd p = {.fd = e->h->channel_fd, .events = POLLIN};

	if (poll(&p, 1, wait_ms) > 0)
		(void)sup_obey(e);
}

int eng_sup_start(struct eng *e)
{
	e->sup_wait = (struct eng_wait){.done = sup_readable, .arg = e};
	eng_loop_readable(e->loop, e->h->channel_fd, &e->sup_wait);
	return 0;
}

bool eng_sup_wants_end(struct eng *e, int wait_ms)
{
	struct pollfd p = {.fd = e->h->channel_fd, .events = POLLIN};
	static struct sup_config_msg m;

	if (poll(&p, 1, wait_ms) <= 0)
		return false;
	int fd, r = sup_receive(e, &m, &fd);
	if (fd >= 0)
		(void)close(
			fd); /* the next engine has it in its heritage, and so have we if it is whole */
	return r < 0 || (r == 1 && m.msg.kind == SUP_MSG_QUIT);
}
