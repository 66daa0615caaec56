/* metrics_look.c - descriptors through the channel that the process was born with.
 *
 * A byte asks for a connection to the admin socket's other side; the supervisor answers with one (daemon/sup_metrics.c).
 * So this process needs no path, and no user who is admitted. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "../daemon/sup_host.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "metrics.h"

/* A packet of the channel.  Descriptor; -EAGAIN: there is none now; -EPIPE: nor will be. */
static int connection_receive(int channel)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	char byte;
	struct iovec part = {.iov_base = &byte, .iov_len = 1};
	struct msghdr m = {.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof control};
	int fd = -1;

	ssize_t n = recvmsg(channel, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return -EAGAIN;
	if (n <= 0)
		return -EPIPE;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
			memcpy(&fd, CMSG_DATA(c), sizeof fd);
	return fd >= 0 ? fd : -EAGAIN;
}

/* Answers that came too late for who asked: their connections are over. */
static void stale_drop(int channel)
{
	int fd;

	for (int i = 0; i < METRICS_CONNECTIONS && (fd = connection_receive(channel)) >= 0; i++)
		(void)close(fd);
}

/* A connection, or -ETIMEDOUT, -EPIPE. */
static int connection_ask(int channel, uint64_t deadline_ns)
{
	struct pollfd p = {.fd = channel, .events = POLLIN};

	stale_drop(channel);
	if (send(channel, "d", 1, MSG_DONTWAIT | MSG_NOSIGNAL) != 1)
		return errno == EAGAIN ? -ETIMEDOUT : -EPIPE;
	for (;;) {
		uint64_t now_ns = sup_host_mono_ns();
		if (now_ns >= deadline_ns ||
			poll(&p, 1, (int)((deadline_ns - now_ns) / 1000000 + 1)) <= 0)
			return -ETIMEDOUT;
		int fd = connection_receive(channel);
		if (fd != -EAGAIN)
			return fd;
	}
}

int metrics_look(int channel, struct hypercache_admin *ret, char why[HYPERCACHE_ADMIN_WHY_BYTES])
{
	uint64_t deadline_ns = sup_host_mono_ns() + METRICS_ASK_MS * UINT64_C(1000000);
	_cleanup_close_ int fd = connection_ask(channel, deadline_ns);

	if (fd < 0) {
		(void)snprintf(why, HYPERCACHE_ADMIN_WHY_BYTES, "%s",
			fd == -EPIPE ? "the supervisor is gone"
				     : "the supervisor did not answer in time: is it stopped?");
		return HYPERCACHE_ADMIN_NONE;
	}
	return hypercache_admin_open_at(fd, METRICS_ASK_MS, ret, why);
}
