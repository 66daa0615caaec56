/* manager_run.c - what a service manager does between fork and exec: descriptors from 3 on, LISTEN_PID and the rest.
 *
 *   manager_run SOCKET PROGRAM ARGUMENT...      SOCKET: a path, at which tests/proc/manager.h hands them over
 *
 * A packet with the names, colons between them, and packets of at most 64 descriptors each, until the end of file. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { FDS_AT_ONCE = 64, FDS_MAX = 1000, FIRST = 3 };

static int fds[FDS_MAX], n_fds;

static int receive(int s, char *text, size_t bytes)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(FDS_AT_ONCE * sizeof(int))];
	struct iovec part = {.iov_base = text, .iov_len = bytes};
	struct msghdr m = {.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof control};
	ssize_t n = recvmsg(s, &m, 0);

	for (struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&m) : NULL; c; c = CMSG_NXTHDR(&m, c)) {
		int k = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		if (n_fds + k > FDS_MAX)
			exit(120);
		memcpy(fds + n_fds, CMSG_DATA(c), (size_t)k * sizeof(int));
		n_fds += k;
	}
	return (int)n;
}

int main(int argc, char **argv)
{
	static char names[65536], ignored[8];
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	char number[16];

	if (argc < 3 || s < 0)
		return 121;
	(void)snprintf(a.sun_path, sizeof a.sun_path, "%s", argv[1]);
	if (connect(s, (struct sockaddr *)&a, sizeof a) != 0)
		return 122;
	int n = receive(s, names, sizeof names - 1);
	while (receive(s, ignored, sizeof ignored) > 0)
		;
	for (int i = 0; i < n_fds; i++) { /* out of the way first */
		int high = fcntl(fds[i], F_DUPFD, FIRST + FDS_MAX);
		if (high < 0)
			return 123;
		(void)close(fds[i]);
		fds[i] = high;
	}
	for (int i = 0; i < n_fds; i++) {
		if (dup2(fds[i], FIRST + i) < 0)
			return 124;
		(void)close(fds[i]);
	}
	if (n > 0 && n_fds > 0) {
		(void)snprintf(number, sizeof number, "%d", (int)getpid());
		(void)setenv("LISTEN_PID", number, 1);
		(void)snprintf(number, sizeof number, "%d", n_fds);
		(void)setenv("LISTEN_FDS", number, 1);
		(void)setenv("LISTEN_FDNAMES", names + 1, 1);
	}
	if (getenv("WATCHDOG_USEC")) {
		(void)snprintf(number, sizeof number, "%d", (int)getpid());
		(void)setenv("WATCHDOG_PID", number, 1);
	}
	(void)execv(argv[2], argv + 2);
	return 125;
}
