/* sup_notify.c - what a service manager is told, and what it keeps for us: datagrams to the socket that NOTIFY_SOCKET
 * names, as sd_notify(3) has it.  Without that variable nobody wants to know. */
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/err.h"
#include "log.h"
#include "step.h"
#include "sup.h"

enum { WATCHDOG_PART = 3 }; /* it is told so many times in the time it waits */

/* Sends it, with a descriptor or -1, and waits for room so long.  0 or -errno. */
static int notify(const char *path, const char *state, int fd, int wait_ms)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct iovec part = {.iov_base = (void *)(uintptr_t)state, .iov_len = strlen(state)};
	struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};
	size_t n = strlen(path);

	if (n < 2 || n >= sizeof a.sun_path || (path[0] != '/' && path[0] != '@'))
		return err_new(-EINVAL);
	memcpy(a.sun_path, path, n);
	if (path[0] == '@') /* a name that is in no folder */
		a.sun_path[0] = 0;
	_cleanup_close_ int s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	socklen_t bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
	if (s < 0 || connect(s, (struct sockaddr *)&a, bytes) != 0)
		return err_new(-errno);
	if (fd >= 0) {
		m.msg_control = control;
		m.msg_controllen = sizeof control;
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(int));
	}
	struct pollfd p = {.fd = s, .events = POLLOUT};
	if (sendmsg(s, &m, MSG_NOSIGNAL) >= 0 ||
		(errno == EAGAIN && wait_ms && poll(&p, 1, wait_ms) > 0 &&
			sendmsg(s, &m, MSG_NOSIGNAL) >= 0))
		return 0;
	return err_new(-errno);
}

static const char *manager(void)
{
	const char *path = getenv("NOTIFY_SOCKET");

	return path && *path ? path : NULL;
}

void sup_notify(const char *state)
{
	const char *path = manager();
	int r = path ? notify(path, state, -1, 0) : 0;

	if (r < 0)
		log_warn("the service manager at %s cannot be told %s: %s", path, state,
			strerror(-r));
}

void sup_notify_reloading(void)
{
	char text[64];

	(void)snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%llu",
		(unsigned long long)(sup_host_mono_ns() / 1000));
	sup_notify(text);
}

/* ----------------------------------------------------------------------- store */

int sup_notify_store(const char *name, int fd)
{
	const char *path = manager();
	char text[64];

	(void)snprintf(text, sizeof text, "FDSTORE=1\nFDNAME=%s", name);
	return path ? err_fwd(notify(path, text, fd, SUP_NOTIFY_MS)) : err_new(-ENOTCONN);
}

void sup_notify_forget(const char *name)
{
	const char *path = manager();
	char text[64];

	(void)snprintf(text, sizeof text, "FDSTOREREMOVE=1\nFDNAME=%s", name);
	if (path) /* if it is not heard, who starts next finds what nothing names, and removes it */
		(void)notify(path, text, -1, SUP_NOTIFY_MS);
}

/* -------------------------------------------------------------------- watchdog */

void sup_watchdog_begin(struct sup *sup)
{
	const char *us = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");

	if (!us || (pid && strtol(pid, NULL, 10) != getpid()))
		return;
	sup->watchdog_ns = strtoull(us, NULL, 10) * 1000 / WATCHDOG_PART;
	sup_watchdog_on_due(sup, sup_host_mono_ns());
}

void sup_watchdog_on_due(struct sup *sup, uint64_t now_ns)
{
	if (!sup->watchdog_ns || now_ns < sup->watchdog_due_ns ||
		MUTANT(779)) /* 779: the manager is not told that we live */
		return;
	sup_notify("WATCHDOG=1");
	sup->watchdog_due_ns = now_ns + sup->watchdog_ns;
}
