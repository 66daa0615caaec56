/* sup_notify.c - what a service manager is told: a datagram to the socket that NOTIFY_SOCKET names, as
 * sd_notify(3) has it.  Without that variable nobody wants to know. */
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "base/cleanup.h"
#include "base/err.h"
#include "log.h"
#include "sup.h"

/* 0 or -errno. */
static int notify(const char *path, const char *state)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	size_t n = strlen(path);

	if (n < 2 || n >= sizeof a.sun_path || (path[0] != '/' && path[0] != '@'))
		return err_new(-EINVAL);
	memcpy(a.sun_path, path, n);
	if (path[0] == '@') /* a name that is in no folder */
		a.sun_path[0] = 0;
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_new(-errno);
	socklen_t bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
	if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&a, bytes) < 0)
		return err_new(-errno);
	return 0;
}

void sup_notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");

	if (!path || !*path)
		return;
	int r = notify(path, state);
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
