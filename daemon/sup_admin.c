/* sup_admin.c - descriptors for tools (admin.h), without ever waiting for one. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/err.h"
#include "log.h"
#include "step.h"
#include "sup.h"

enum { PACKETS_AT_ONCE = 4, ADMIN_PAUSE_NS = 100000000 };

static bool uid_admitted(const struct sup *sup, uid_t uid)
{
	const struct config_uids *more = &sup->config.admin_uids;

	if (uid == 0 || uid == geteuid())
		return true;
	for (uint32_t i = 0; i < more->n; i++)
		if (more->uid[i] == uid)
			return true;
	return false;
}

/* An answer without descriptors. */
static void answer_begin(const struct sup *sup, struct admin_answer *a, enum admin_kind kind)
{
	*a = (struct admin_answer){
		.magic = ADMIN_MAGIC,
		.version = ADMIN_VERSION,
		.kind = (uint16_t)kind,
		.last = 1,
		.daemon_pid = getpid(),
		.engine_pid = sup->engine.pid,
		.engine = sup->engine.state,
		.engine_restarts = sup->engine.n_started ? sup->engine.n_started - 1 : 0,
		.crashes = sup->engine.crashes,
	};
	(void)snprintf(a->socket, sizeof a->socket, "%s", sup->listen.path);
}

/* 0, or -errno (EAGAIN: it does not fit now). */
static int answer_send(int fd, const struct admin_answer *a, const int *fds)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * ADMIN_FDS_MAX)] = {0};
	struct iovec part = {.iov_base = (void *)(uintptr_t)a, .iov_len = sizeof *a};
	struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};

	if (fds && a->n_fds) {
		m.msg_control = control;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * a->n_fds);
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * a->n_fds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * a->n_fds);
	}
	return sendmsg(fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)sizeof *a ? 0 : -errno;
}

/* The descriptor at position `at` of the list: control, journal, pools, sessions.  -1: none there. */
static int list_fd(const struct sup *sup, bool no_pools, uint32_t at, struct admin_fd *ret)
{
	*ret = (struct admin_fd){.kind = SHM_KIND_CONTROL};
	if (at == 0)
		return sup->control.fd;
	at -= 1;
	if (at == 0) { /* for its slow log, which has beginnings of keys */
		ret->kind = SHM_KIND_JOURNAL;
		return no_pools ? -1 : sup->journal.fd;
	}
	at -= 1;
	if (at < sup->config.n_pools * SHM_REGIONS_MAX) {
		uint32_t idx = at / SHM_REGIONS_MAX, r = at % SHM_REGIONS_MAX;
		const struct config_pool *p = &sup->config.pool[idx];
		*ret = (struct admin_fd){.kind = SHM_KIND_POOL, .index = idx, .region = r};
		(void)config_rights_format(&p->read, ret->read, sizeof ret->read);
		(void)config_rights_format(&p->write, ret->write, sizeof ret->write);
		return no_pools ? -1 : sup->region[idx][r].fd;
	}
	at -= sup->config.n_pools * SHM_REGIONS_MAX;
	const struct sup_session *s = &sup->session[at];
	*ret = (struct admin_fd){.kind = SHM_KIND_CLIENT,
		.index = at,
		.uid = s->uid,
		.gid = s->gid,
		.pid = s->pid,
		.id = s->id,
		.read_pools = s->read_pools,
		.write_pools = s->write_pools};
	return s->id ? s->memfd : -1;
}

/* Fills a packet with fresh descriptions, from position *next on, which moves.  0, or -errno. */
static int answer_fill(
	const struct sup *sup, bool no_pools, struct admin_answer *a, int *fds, uint32_t *next)
{
	uint32_t n = 2 + sup->config.n_pools * SHM_REGIONS_MAX + sup->config.max_clients;

	for (; *next < n && a->n_fds < ADMIN_FDS_MAX; (*next)++) {
		int fd = list_fd(sup, no_pools, *next, &a->fd[a->n_fds]);
		if (fd < 0)
			continue;
		fds[a->n_fds] = sup_segment_reopen(fd);
		if (fds[a->n_fds] < 0)
			return err_fwd(fds[a->n_fds]);
		a->n_fds++;
	}
	a->last = *next == n;
	return 0;
}

void sup_admin_close(struct sup_admin *a)
{
	cleanup_closep_(&a->fd);
	*a = (struct sup_admin){.fd = -1};
}

short sup_admin_events(const struct sup_admin *a)
{
	return a->waits || a->probe_every ? 0 : a->asked ? POLLOUT : POLLIN;
}

/* The next packet.  0: sent; 1: sent, and it was the last one; -EAGAIN: it waits; -errno. */
static int packet_send(struct sup *sup, struct sup_admin *a)
{
	int fds[ADMIN_FDS_MAX];
	struct admin_answer answer;
	uint32_t next = a->next;

	answer_begin(sup, &answer, ADMIN_DESCRIPTORS);
	if (!sup->ctl)
		(void)snprintf(answer.text, sizeof answer.text,
			"the last engine took the memory with it (hardening: strict), and the new "
			"one is not there yet: try again");
	int r = answer_fill(sup, a->no_pools, &answer, fds, &next);
	if (r == 0)
		r = answer_send(a->fd, &answer, fds);
	for (uint32_t i = 0; i < answer.n_fds; i++)
		(void)close(fds[i]);
	if (r < 0)
		return r;
	a->next = next;
	return answer.last ? 1 : 0;
}

/* A sealed memfd with these bytes.  Descriptor, or -errno. */
static int lines_memfd(const char *lines, size_t n)
{
	_cleanup_close_ int fd = memfd_create(
		"hypercached-answer", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return err_new(-errno);
	if (write(fd, lines, n) != (ssize_t)n ||
		fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) !=
			0)
		return err_new(-EIO);
	return steal_fd(fd);
}

void sup_admin_reply(struct sup *sup, struct sup_admin *a, enum admin_refusal refusal,
	const char *lines, size_t n)
{
	_cleanup_close_ int fd = lines_memfd(lines, n);
	struct admin_answer answer;

	answer_begin(sup, &answer, refusal ? ADMIN_REFUSED : ADMIN_DONE);
	answer.refusal = refusal;
	answer.n_fds = fd >= 0;
	int r = answer_send(a->fd, &answer, &fd); /* fits into an empty socket */
	if (r < 0 && r != -EPIPE)
		log_warn("a tool was not answered: %s", strerror(-r));
	if (!a->probe_every)
		sup_admin_close(a);
}

/* What came instead of a request. */
static void bad(struct sup *sup, struct sup_admin *a)
{
	struct admin_answer answer;

	answer_begin(sup, &answer, ADMIN_BAD);
	(void)snprintf(answer.text, sizeof answer.text,
		"a request is \"descriptors\" and a newline, or a struct admin_request of version "
		"%d",
		ADMIN_VERSION);
	(void)answer_send(a->fd, &answer, NULL);
	sup_admin_close(a);
}

/* One packet and the descriptor that came with it (-1: none).  Its bytes, or 0. */
static size_t packet_receive(int sock, void *to, size_t to_bytes, int *ret_fd)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
	struct iovec part = {.iov_base = to, .iov_len = to_bytes};
	struct msghdr m = {.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof control};
	ssize_t n = recvmsg(sock, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	*ret_fd = -1;
	if (n < 0)
		return 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
			memcpy(ret_fd, CMSG_DATA(c), sizeof *ret_fd);
	return (size_t)n;
}

/* Reads the request.  True: descriptors are asked for; else it was seen to. */
static bool request_read(struct sup *sup, struct sup_admin *a)
{
	union {
		char text[sizeof(struct admin_request) +
			  1]; /* one more: so that too long is seen */
		struct admin_request rq;
	} u;
	_cleanup_close_ int fd = -1;
	size_t n = packet_receive(a->fd, &u, sizeof u.text, &fd);

	if (n == strlen(ADMIN_REQUEST) && memcmp(u.text, ADMIN_REQUEST, n) == 0)
		return true;
	if (n == sizeof u.rq && u.rq.magic == ADMIN_ASK_MAGIC && u.rq.version == ADMIN_VERSION &&
		memchr(u.rq.name, 0, sizeof u.rq.name) && memchr(u.rq.text, 0, sizeof u.rq.text)) {
		a->asked = true;
		sup_ask(sup, a, &u.rq, fd);
	} else if (n > 0) {
		bad(sup, a);
	} else {
		sup_admin_close(a);
	}
	return false;
}

void sup_admin_on_due(struct sup *sup, struct sup_admin *a)
{
	static const char late[] =
		"error\tthe engine has not answered yet: the change holds as soon as it takes it; "
		"see `hypercache config diff`\n";
	static const char long_one[] =
		"error\tthe checkpoint is not over yet, and goes on: see the log\n";
	static const char slow[] = "error\tthe upgrade is not over yet: see the log\n";

	if (a->waits && sup->errand.asker == a) {
		sup_errand_on_late(sup);
		return;
	}
	if (a->waits && sup->upgrade.asker == a) { /* it goes on; the log tells of its end */
		sup_upgrade_forget(sup, a);
		sup_admin_reply(sup, a, ADMIN_R_BUSY, slow, sizeof slow - 1);
		return;
	}
	if (a->waits && sup->checkpoint.asker == a) { /* the same */
		sup_checkpoint_forget(sup, a);
		sup_admin_reply(sup, a, ADMIN_R_BUSY, long_one, sizeof long_one - 1);
		return;
	}
	if (a->waits) {
		sup_change_forget(sup, a);
		sup_admin_reply(sup, a, ADMIN_R_BUSY, late, sizeof late - 1);
		return;
	}
	sup_admin_close(a);
}

void sup_admin_on_event(struct sup *sup, struct sup_admin *a, short revents)
{
	int r = 0;

	if (a->probe_every) { /* the same: it was to stay as long as it listens */
		sup_admin_close(a);
		sup_probe_settle(sup);
		return;
	}
	if (a->waits) { /* nothing was polled for: it has left */
		sup_change_forget(sup, a);
		sup_errand_forget(sup, a);
		sup_upgrade_forget(sup, a);
		sup_checkpoint_forget(sup, a);
		sup_admin_close(a);
		return;
	}
	if (!a->asked) {
		if (!(revents & POLLIN)) {
			sup_admin_close(a);
			return;
		}
		if (!request_read(sup, a))
			return;
		a->asked = true;
	}
	for (int i = 0; i < PACKETS_AT_ONCE && r == 0; i++)
		r = packet_send(sup, a);
	if (r < 0 && r != -EAGAIN)
		log_warn("a tool was not answered: %s", strerror(-r));
	if (r == 1 || (r < 0 && r != -EAGAIN))
		sup_admin_close(a);
}

static void deny(const struct sup *sup, int fd, const char *why)
{
	struct admin_answer answer;

	answer_begin(sup, &answer, ADMIN_DENIED);
	answer.daemon_pid = 0;
	answer.engine_pid = 0;
	(void)snprintf(answer.text, sizeof answer.text, "%s", why);
	(void)answer_send(fd, &answer, NULL); /* fits into an empty socket; else it has left */
}

/* Takes a free place, and fd with it.  False: there is none. */
static bool place_take(struct sup *sup, const struct sup_admin *as, int fd, uint64_t now_ns)
{
	for (int i = 0; i < ADMIN_CONNECTIONS; i++) {
		if (sup->admin[i].fd >= 0)
			continue;
		sup->admin[i] = *as;
		sup->admin[i].fd = fd;
		sup->admin[i].deadline_ns = now_ns + ADMIN_LIMIT_MS * UINT64_C(1000000);
		return true;
	}
	return false;
}

int sup_admin_adopt(struct sup *sup, int fd, uint64_t now_ns)
{
	const struct sup_admin as = {
		.no_pools = !MUTANT(845)}; /* 845: it gets all that tools get */

	if (place_take(sup, &as, fd, now_ns))
		return 0;
	(void)close(fd);
	return err_new(-EAGAIN);
}

void sup_admin_accept(struct sup *sup, uint64_t now_ns)
{
	_cleanup_close_ int fd = accept4(
		sup->admin_listen.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct ucred who;
	socklen_t n = sizeof who;
	char why[ADMIN_TEXT_BYTES];

	if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM))
		sup->admin_pause_ns = now_ns + ADMIN_PAUSE_NS;
	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n) != 0)
		return;
	if (!uid_admitted(sup, who.uid) && !MUTANT(78)) { /* 78: everybody may */
		(void)snprintf(why, sizeof why,
			"user %u may not: only root, user %u and those of admin_uids", who.uid,
			geteuid());
		if (sup->denied_uid != who.uid + 1)
			log_warn("admin socket: denied to process %d of user %u", who.pid, who.uid);
		sup->denied_uid = who.uid + 1;
		deny(sup, fd, why);
		return;
	}
	const struct sup_admin as = {.may_change = who.uid == 0 || who.uid == geteuid()};
	if (place_take(sup, &as, fd, now_ns))
		fd = -1;
	else
		deny(sup, fd, "too many tools ask at the same time: try again");
}
