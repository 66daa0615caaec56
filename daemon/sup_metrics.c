/* sup_metrics.c - the process that answers HTTP (hypercache-metrics), as its parent sees it.
 *
 *   supervisor   binds and listens, so that a taken port is its own error, and what comes while there is no
 *     |          such process waits for the next one
 *     | channel  a byte: "a connection, please"; a packet with one end of a new pair, whose other end is a tool's
 *     |          at the admin socket (sup_admin.c) that may change nothing and is handed no pool.
 *     |          Its end of file ends the process
 *   hypercache-metrics, which lies beside hypercached; for a daemon of root as user nobody
 *
 * It may die as often as it likes: the cache does not need it.  It is started anew with a growing wait, and not any
 * more after restart_limit deaths in a row.  A port that is taken is tried again.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/check.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "log.h"
#include "sup.h"

enum {
	BACKLOG = 64,
	ASKS_AT_ONCE = 4, /* bytes of the channel in one turn */
	RETRY_MS = 2000,  /* a port that is taken is tried again */
	NOBODY = 65534,
	STATUS_NO_PROGRAM = 127,
};

#define MS_NS UINT64_C(1000000)

/* ---------------------------------------------------------------- the socket */

static int port_open(const struct sockaddr_storage *a, socklen_t bytes, struct sup_socket *ret)
{
	_cleanup_close_ int fd = socket(
		a->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	const int on = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
		bind(fd, (const struct sockaddr *)a, bytes) != 0 || listen(fd, BACKLOG) != 0)
		return err_new(-errno);
	*ret = (struct sup_socket){.fd = steal_fd(fd)};
	return 0;
}

/* The socket of a text of metrics_listen that is not "none".  0 or -errno, logged. */
static int listen_open(const char *text, struct sup_socket *ret)
{
	struct sockaddr_storage a;
	socklen_t bytes;
	int r;

	if (!config_listen_parse(text, &a, &bytes) || bytes == 0)
		return log_fail(err_new(-EINVAL), "metrics_listen: %s", text);
	if (text[0] == '/')
		return err_fwd(sup_socket_open(ret, text, SOCK_STREAM, 0666));
	r = port_open(&a, bytes, ret);
	return r == 0 ? 0 : log_fail(r, "metrics_listen: cannot listen at %s", text);
}

static void listen_close(struct sup_socket *s)
{
	if (s->path[0])
		sup_socket_close(s);
	else
		cleanup_closep_(&s->fd);
	*s = (struct sup_socket){.fd = -1};
}

/* The port that port 0 has become. */
static unsigned port_of(int fd)
{
	struct sockaddr_storage a;
	socklen_t n = sizeof a;
	char host[64], port[16] = "0";

	if (getsockname(fd, (struct sockaddr *)&a, &n) != 0 || a.ss_family == AF_UNIX ||
		getnameinfo((struct sockaddr *)&a, n, host, sizeof host, port, sizeof port,
			NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		return 0;
	return (unsigned)atoi(port);
}

/* --------------------------------------------------------------- the process */

/* The program beside our own.  A descriptor, because user nobody may not get to its folder; or -errno. */
static int program_open(void)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof path - 32);

	if (n <= 0)
		return err_new(-errno);
	path[n] = 0;
	char *slash = strrchr(path, '/');
	(void)strcpy(slash ? slash + 1 : path, "hypercache-metrics");
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd >= 0 ? fd : err_new(-errno);
}

/* In the child.  Async-signal-safe calls only. */
static _Noreturn void child_exec(int program, int channel, int listen_fd)
{
	char a[16], b[16], name[] = "hypercache-metrics", option[] = "--serve", empty[] = "";
	char *argv[] = {name, option, a, b, NULL};
	sigset_t none;

	if (geteuid() == 0) { /* where there is no such user it stays root, without its rights */
		(void)setgroups(0, NULL);
		if (setresgid(NOBODY, NOBODY, NOBODY) == 0)
			(void)setresuid(NOBODY, NOBODY, NOBODY);
	}
	(void)signal(SIGINT, SIG_IGN); /* what a terminal sends to all is for the supervisor */
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)fcntl(channel, F_SETFD, 0);
	(void)fcntl(listen_fd, F_SETFD, 0);
	(void)snprintf(a, sizeof a, "%d", channel);
	(void)snprintf(b, sizeof b, "%d", listen_fd);
	(void)syscall(SYS_execveat, program, empty, argv, environ, AT_EMPTY_PATH);
	_exit(STATUS_NO_PROGRAM);
}

static int process_start(struct sup *sup)
{
	struct sup_metrics *m = &sup->metrics;
	_cleanup_close_ int program = program_open(), ours = -1, theirs = -1;
	int pair[2];

	if (program < 0)
		return log_fail(program, "metrics_listen: there is no hypercache-metrics beside "
					 "hypercached; install it, or "
					 "build with libmicrohttpd");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return log_fail(err_new(-errno), "no channel for hypercache-metrics");
	ours = pair[0];
	theirs = pair[1];
	pid_t pid = fork();
	if (pid < 0)
		return log_fail(err_new(-errno), "cannot fork hypercache-metrics");
	if (pid == 0)
		child_exec(program, theirs, m->listen.fd);
	m->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	CHECK(m->pidfd >= 0); /* our own child, not yet waited for, and descriptors to spare */
	m->pid = pid;
	m->channel = steal_fd(ours);
	m->started_ns = sup_host_mono_ns();
	return 0;
}

/* Listens, if it does not, and starts the process. */
static void start(struct sup *sup)
{
	struct sup_metrics *m = &sup->metrics;
	const char *text = sup->config.metrics_listen;

	m->restart_ns = 0;
	if (strcmp(text, "none") == 0)
		return;
	if (m->listen.fd < 0 && listen_open(text, &m->listen) < 0) {
		m->restart_ns = sup_host_mono_ns() + RETRY_MS * MS_NS;
		if (!m->said)
			log_warn("the cache goes on without metrics; tried again every %d s",
				RETRY_MS / 1000);
		m->said = true;
		return;
	}
	m->said = false;
	if (process_start(sup) < 0)
		return; /* nothing that time mends */
	if (text[0] == '/')
		log_info("metrics on %s, by process %d", text, m->pid);
	else
		log_info("metrics on http://%.*s:%u/metrics, by process %d",
			(int)(strrchr(text, ':') - text), text, port_of(m->listen.fd), m->pid);
}

static void channel_close(struct sup_metrics *m)
{
	cleanup_closep_(&m->channel);
	m->channel = -1;
}

/* It is not wanted any more: the end of its channel says so; and a signal, should it not listen. */
static void stop(struct sup_metrics *m)
{
	channel_close(m);
	if (m->pid)
		(void)syscall(SYS_pidfd_send_signal, m->pidfd, SIGKILL, NULL, 0);
	m->stopped = m->pid != 0;
	m->deaths = 0;
	m->restart_ns = 0;
}

/* -------------------------------------------------------------------- events */

void sup_metrics_begin(struct sup *sup)
{
	(void)snprintf(
		sup->metrics.text, sizeof sup->metrics.text, "%s", sup->config.metrics_listen);
	start(sup);
}

/* One end of a pair for it, the other one for us.  -EAGAIN: not now. */
static int connection_give(struct sup *sup)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
	char byte = 'd';
	struct iovec part = {.iov_base = &byte, .iov_len = 1};
	struct msghdr h = {.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof control};
	struct cmsghdr *c = CMSG_FIRSTHDR(&h);
	_cleanup_close_ int ours = -1, theirs = -1;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
		return err_new(-errno);
	ours = pair[0];
	theirs = pair[1];
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &theirs, sizeof theirs);
	if (sendmsg(sup->metrics.channel, &h, MSG_DONTWAIT | MSG_NOSIGNAL) != 1)
		return err_new(-errno);
	return err_fwd(sup_admin_adopt(sup, steal_fd(ours), sup_host_mono_ns()));
}

void sup_metrics_on_channel(struct sup *sup)
{
	struct sup_metrics *m = &sup->metrics;
	char byte;

	for (int i = 0; i < ASKS_AT_ONCE && m->channel >= 0; i++) {
		ssize_t n = recv(m->channel, &byte, 1, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0)
			channel_close(m); /* its death is told by the pidfd */
		else
			(void)connection_give(sup); /* it asks again if there was none */
	}
}

static uint64_t backoff_ns(const struct sup *sup)
{
	uint64_t ns = SUP_BACKOFF_MS * MS_NS, most = sup->config.restart_backoff_max_ns;

	for (uint32_t i = 1; i < sup->metrics.deaths && ns < most; i++)
		ns *= 2;
	return ns < most ? ns : most;
}

void sup_metrics_on_death(struct sup *sup)
{
	struct sup_metrics *m = &sup->metrics;
	uint64_t now_ns = sup_host_mono_ns();
	siginfo_t how = {0};

	if (waitid(P_PIDFD, (id_t)m->pidfd, &how, WEXITED | WNOHANG) != 0 || how.si_pid == 0)
		return;
	channel_close(m);
	cleanup_closep_(&m->pidfd);
	m->pidfd = -1;
	m->pid = 0;
	if (m->stopped) {
		m->stopped = false;
		start(sup);
		return;
	}
	if (now_ns - m->started_ns >= SUP_SERVED_MS * MS_NS)
		m->deaths = 0;
	m->deaths++;
	log_error("hypercache-metrics %d ended with %s %d", how.si_pid,
		how.si_code == CLD_EXITED ? "status" : "signal", how.si_status);
	if (how.si_code == CLD_EXITED && how.si_status == STATUS_NO_PROGRAM) {
		log_error("hypercache-metrics cannot be run: is it a program of this machine?");
		return;
	}
	if (m->deaths >= sup->config.restart_limit) {
		log_error("hypercache-metrics died %u times in a row: there are no metrics until "
			  "`hypercache reload` sets another metrics_listen, or the daemon is "
			  "started anew",
			m->deaths);
		return;
	}
	m->restart_ns = now_ns + backoff_ns(sup);
}

uint64_t sup_metrics_due(const struct sup *sup)
{
	return sup->metrics.restart_ns ? sup->metrics.restart_ns : UINT64_MAX;
}

void sup_metrics_on_due(struct sup *sup, uint64_t now_ns)
{
	if (now_ns >= sup_metrics_due(sup) && !sup->stop_ns)
		start(sup);
}

/* -------------------------------------------------------------------- reload */

int sup_metrics_prepare(struct sup *sup, const struct config *next, char why[SUP_WHY_BYTES])
{
	struct sup_metrics *m = &sup->metrics;

	if (strcmp(next->metrics_listen, m->text) == 0 || strcmp(next->metrics_listen, "none") == 0)
		return 0;
	int r = listen_open(next->metrics_listen, &m->next);
	if (r < 0)
		(void)snprintf(why, SUP_WHY_BYTES,
			"metrics_listen: cannot listen at %s: %s; name another port or path",
			next->metrics_listen, strerror(-r));
	return r;
}

void sup_metrics_commit(struct sup *sup)
{
	struct sup_metrics *m = &sup->metrics;

	if (strcmp(sup->config.metrics_listen, m->text) == 0)
		return;
	stop(m);
	listen_close(&m->listen);
	m->listen = m->next;
	m->next = (struct sup_socket){.fd = -1};
	m->said = false;
	(void)snprintf(m->text, sizeof m->text, "%s", sup->config.metrics_listen);
	if (strcmp(m->text, "none") == 0)
		log_info("no metrics any more");
	if (!m->pid) /* else when it is gone */
		start(sup);
}

void sup_metrics_forget(struct sup *sup) { listen_close(&sup->metrics.next); }

void sup_metrics_end(struct sup *sup)
{
	struct sup_metrics *m = &sup->metrics;
	siginfo_t how;

	stop(m);
	while (m->pid && waitid(P_PIDFD, (id_t)m->pidfd, &how, WEXITED) != 0 && errno == EINTR)
		;
	cleanup_closep_(&m->pidfd);
	m->pidfd = -1;
	m->pid = 0;
	m->stopped = false;
}

void sup_metrics_close(struct sup *sup)
{
	sup_metrics_end(sup);
	listen_close(&sup->metrics.next);
	listen_close(&sup->metrics.listen);
}
