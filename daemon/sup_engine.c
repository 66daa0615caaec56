/* sup_engine.c - the engine as its parent sees it: heritage, channel, death, back-off. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "atomic.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "log.h"
#include "step.h"
#include "sup.h"

enum { MESSAGES_AT_ONCE = 64, MESSAGES_AFTER_DEATH = 4096 };

static uint64_t ms_ns(uint64_t ms) { return ms * 1000000; }

/* ------------------------------------------------------------------ heritage */

static void heritage_fill(const struct sup *sup, struct heritage *h, int channel)
{
	h->magic = HERITAGE_MAGIC;
	h->bytes = sizeof *h;
	h->config = sup->config;
	h->engine_try = sup->engine.n_started + 1;
	h->listen_fd = sup->listen.fd;
	h->channel_fd = channel;
	h->control_fd = sup->control.fd;
	h->journal_fd = sup->journal.fd;
	h->lock_fd = sup->lock_fd;
	h->panic_fd = sup->panic_fd;
	h->pressure_fd = sup->pressure_fd;
	h->log_fd = STDERR_FILENO;
	h->wal_dir_fd = sup->data.wal;
	h->data_dir_fd = sup->data.dir;
	memcpy(h->log_id, sup->data.log, sizeof h->log_id);
	h->recover = sup->recover;
	for (uint32_t p = 0; p < SHM_POOLS_MAX; p++)
		for (uint32_t r = 0; r < SHM_REGIONS_MAX; r++)
			h->region_fd[p][r] = -1;
	for (uint32_t p = 0; p < sup->config.n_pools; p++)
		for (uint32_t r = 0; r < SHM_REGIONS_MAX; r++)
			h->region_fd[p][r] = sup->region[p][r].fd;
	for (uint32_t i = 0; i < sup->config.max_clients; i++) {
		const struct sup_session *s = &sup->session[i];
		if (s->id == 0 || MUTANT(75)) /* 75: kept sessions are not handed on */
			continue;
		h->session[h->n_sessions++] = (struct heritage_session){
			.id = s->id,
			.uid = s->uid,
			.gid = s->gid,
			.read_pools = s->read_pools,
			.write_pools = MUTANT(84) ? ~0u
		                                  : s->write_pools, /* 84: a restart forgets */
			.fence = s->fence,
			.pid = s->pid,
			.memfd = s->memfd,
			.pidfd = s->pidfd,
			.slot = i,
		};
	}
}

/* Puts the heritage into a sealed memfd.  Descriptor or -errno. */
static int heritage_write(const struct heritage *h)
{
	_cleanup_close_ int fd = memfd_create(
		"hypercached-heritage", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return err_new(-errno);
	if (write(fd, h, sizeof *h) != (ssize_t)sizeof *h)
		return err_new(-EIO);
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
		return err_new(-errno);
	return steal_fd(fd);
}

/* In the child: becomes the engine.  Async-signal-safe calls only. */
static _Noreturn void child_exec(const struct heritage *h, int heritage_fd)
{
	static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR2};
	char number[16], self[] = "/proc/self/exe", name[] = "hypercached", option[] = "--engine";
	char *argv[] = {name, option, number, NULL};
	const int fds[] = {heritage_fd, h->listen_fd, h->channel_fd, h->control_fd, h->journal_fd,
		h->lock_fd, h->panic_fd};
	sigset_t none;

	/* What a terminal or a service manager sends to all is for the supervisor, which says QUIT. */
	for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
		(void)signal(ignored[i], SIG_IGN);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
		(void)fcntl(fds[i], F_SETFD, 0);
	const int may_be[] = {h->pressure_fd, h->wal_dir_fd, h->data_dir_fd};
	for (size_t i = 0; i < sizeof may_be / sizeof *may_be; i++)
		if (may_be[i] >= 0)
			(void)fcntl(may_be[i], F_SETFD, 0);
	for (uint32_t p = 0; p < SHM_POOLS_MAX; p++)
		for (uint32_t r = 0; r < SHM_REGIONS_MAX; r++)
			if (h->region_fd[p][r] >= 0)
				(void)fcntl(h->region_fd[p][r], F_SETFD, 0);
	for (uint32_t i = 0; i < h->n_sessions; i++) {
		(void)fcntl(h->session[i].memfd, F_SETFD, 0);
		if (h->session[i].pidfd >= 0)
			(void)fcntl(h->session[i].pidfd, F_SETFD, 0);
	}
	(void)snprintf(number, sizeof number, "%d", heritage_fd);
	(void)execv(self, argv);
	static const char text[] = "exec of /proc/self/exe failed: is /proc mounted?\n";
	ssize_t n = write(h->panic_fd, text, sizeof text - 1);
	(void)n;
	_exit(127);
}

/* ---------------------------------------------------------------- last words */

static void panic_clear(int fd)
{
	static const char zeroes[PANIC_BYTES];

	/* The engine writes from the description's position on, which we share. */
	if (pwrite(fd, zeroes, sizeof zeroes, 0) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		log_warn("the memory for an engine's last words cannot be cleared");
}

static void panic_show(int fd)
{
	char text[PANIC_BYTES + 1];
	ssize_t n = pread(fd, text, PANIC_BYTES, 0);

	text[n > 0 ? n : 0] = 0;
	for (char *line = text, *end; *line; line = end) {
		end = line + strcspn(line, "\n");
		if (*end)
			*end++ = 0;
		log_error("engine's last words: %s", line);
	}
}

/* --------------------------------------------------------------------- start */

int sup_engine_start(struct sup *sup)
{
	struct sup_engine *e = &sup->engine;
	_cleanup_free_ struct heritage *h = calloc(1, sizeof *h);
	_cleanup_close_ int heritage_fd = -1, ours = -1, theirs = -1;
	int pair[2];

	if (!h)
		return log_fail(err_new(-ENOMEM), "no memory for an engine's heritage");
	sup_probe_settle(sup); /* the memory may be new, or the last engine have scribbled there */
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return log_fail(err_new(-errno), "no channel for an engine");
	ours = pair[0];
	theirs = pair[1];
	heritage_fill(sup, h, theirs);
	heritage_fd = heritage_write(h);
	if (heritage_fd < 0)
		return log_fail(heritage_fd, "an engine's heritage cannot be written");
	panic_clear(sup->panic_fd);
	e->started_ns = sup_host_mono_ns();
	pid_t pid = fork();
	if (pid < 0)
		return log_fail(err_new(-errno), "cannot fork an engine");
	if (pid == 0)
		child_exec(h, heritage_fd);
	STEP("sup:engine-started");
	e->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	CHECK(e->pidfd >= 0); /* our own child, not yet waited for, and descriptors to spare */
	e->pid = pid;
	e->channel = steal_fd(ours);
	e->state = ADMIN_ENGINE_STARTING;
	e->n_started++;
	e->ready_ns = 0;
	e->killed = e->renewing = false;
	e->beat = sup->ctl ? shm_load_rlx(&sup->ctl->heartbeat_ns) : 0;
	e->beat_at_ns = e->started_ns;
	e->suspect_ns = 0;
	e->reply_waits = false;
	log_debug("engine %d started, the %u. on this memory, with %u sessions", pid, e->n_started,
		h->n_sessions);
	return 0;
}

/* ------------------------------------------------------------------- channel */

static int channel_send(int fd, const struct sup_msg *m)
{
	ssize_t n = send(fd, m, sizeof *m, MSG_DONTWAIT | MSG_NOSIGNAL);

	return n == (ssize_t)sizeof *m ? 0 : -errno;
}

/* One message.  Number of descriptors in ret_fds, or -EAGAIN, -EPIPE (the end), -EBADMSG. */
static int channel_receive(int fd, struct sup_msg *m, int ret_fds[2])
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))];
	struct iovec part = {.iov_base = m, .iov_len = sizeof *m};
	struct msghdr h = {.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof control};
	ssize_t n = recvmsg(fd, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	int n_fds = 0;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? -EAGAIN : -EPIPE;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&h); c; c = CMSG_NXTHDR(&h, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n_fds = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(ret_fds, CMSG_DATA(c), (size_t)n_fds * sizeof(int));
	}
	if (n == (ssize_t)sizeof *m && !(h.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
		return n_fds;
	for (int i = 0; i < n_fds; i++)
		(void)close(ret_fds[i]);
	return n == 0 ? -EPIPE : -EBADMSG;
}

static void on_ready(struct sup *sup)
{
	struct sup_engine *e = &sup->engine;

	e->ready_ns = sup_host_mono_ns();
	if (e->state == ADMIN_ENGINE_STARTING)
		e->state = ADMIN_ENGINE_SERVING;
	log_info("engine %d serves after %.1f ms", e->pid,
		(double)(e->ready_ns - e->started_ns) / 1e6);
	if (!sup->said_ready) {
		printf("hypercached: ready on %s\n", sup->listen.path);
		(void)fflush(stdout);
		sup_notify("READY=1");
		sup->said_ready = true;
	}
	if (sup->reload_due && sup->source->file)
		sup_ask_reload(sup);
	sup->reload_due = false;
	sup_upgrade_on_ready(sup);
	sup_change_go(sup);
}

/* Obeys one message.  0; 1: the answer did not fit; -errno: it makes no sense. */
static int on_message(struct sup *sup, const struct sup_msg *m, int *fds, uint32_t n_fds)
{
	struct sup_engine *e = &sup->engine;
	int r;

	switch (m->kind) {
	case SUP_MSG_SESSION_PUT:
		r = sup_session_put(sup, m, fds, n_fds);
		if (r < 0)
			return err_fwd(r);
		STEP("sup:session-kept");
		e->reply = (struct sup_msg){
			.kind = SUP_MSG_SESSION_KEPT, .slot = m->slot, .id = m->id};
		r = channel_send(e->channel, &e->reply);
		e->reply_waits = r == -EAGAIN;
		return e->reply_waits; /* another error is the engine's end, which is seen next */
	case SUP_MSG_READY:
		on_ready(sup);
		r = 0;
		break;
	case SUP_MSG_SESSION_DROP:
		r = sup_session_drop(sup, m);
		STEP("sup:session-dropped");
		break;
	case SUP_MSG_SESSION_RIGHTS:
		r = sup_session_rights(sup, m);
		break;
	case SUP_MSG_LOG_WANT:
		r = sup_log_on_message(sup, m);
		break;
	case SUP_MSG_ERRAND_DONE:
		r = sup_errand_on_message(sup, m);
		break;
	case SUP_MSG_CONFIG_TAKEN:
	case SUP_MSG_CONFIG_DONE:
	case SUP_MSG_CONFIG_REFUSED:
		r = sup_change_on_message(sup, m);
		break;
	default:
		r = err_new(-EBADMSG);
	}
	for (uint32_t i = 0; i < n_fds; i++)
		(void)close(fds[i]);
	return r;
}

static void channel_close(struct sup_engine *e)
{
	cleanup_closep_(&e->channel);
	e->channel = -1;
	e->reply_waits = false;
}

/* Reads at most n messages. */
static void channel_drain(struct sup *sup, int n)
{
	struct sup_engine *e = &sup->engine;
	struct sup_msg m;
	int fds[2];

	for (int i = 0; i < n && e->channel >= 0 && !e->reply_waits; i++) {
		int r = channel_receive(e->channel, &m, fds);
		if (r == -EAGAIN)
			return;
		if (r >= 0)
			r = on_message(sup, &m, fds, (uint32_t)r);
		if (r == -EPIPE) {
			channel_close(e); /* its death is told by the pidfd */
		} else if (r < 0) {
			sup_engine_kill(sup, "it sent a message that makes no sense");
			channel_close(e);
		}
	}
}

void sup_engine_on_channel(struct sup *sup, short revents)
{
	struct sup_engine *e = &sup->engine;

	if (e->reply_waits) {
		if (revents & POLLOUT)
			e->reply_waits = channel_send(e->channel, &e->reply) == -EAGAIN;
		if (e->reply_waits && (revents & (POLLHUP | POLLERR)))
			channel_close(e);
	}
	channel_drain(sup, MESSAGES_AT_ONCE);
}

/* --------------------------------------------------------------------- death */

/* Says how it ended, and what it left to say. */
static void death_tell(const struct sup *sup, const siginfo_t *how)
{
	const struct sup_engine *e = &sup->engine;
	double lived_s = (double)(sup_host_mono_ns() - e->started_ns) / 1e9;
	const char *name = sigabbrev_np(how->si_status);

	if (how->si_code == CLD_EXITED && how->si_status == 0 && (sup->stop_ns || e->renewing)) {
		log_info("engine %d has ended", e->pid);
		return;
	}
	if (how->si_code == CLD_EXITED)
		log_error("engine %d ended with status %d after %.1f s", e->pid, how->si_status,
			lived_s);
	else
		log_error("engine %d died of signal %d (SIG%s) after %.1f s", e->pid,
			how->si_status, name ? name : "?", lived_s);
	panic_show(sup->panic_fd);
}

static uint64_t backoff_ns(const struct sup *sup)
{
	uint64_t ns = ms_ns(SUP_BACKOFF_MS), most = sup->config.restart_backoff_max_ns;

	for (uint32_t i = 1; i < sup->engine.crashes && ns < most; i++)
		ns *= 2;
	return ns < most ? ns : most;
}

void sup_engine_on_death(struct sup *sup)
{
	struct sup_engine *e = &sup->engine;
	siginfo_t how = {0};
	uint64_t now_ns;

	if (waitid(P_PIDFD, (id_t)e->pidfd, &how, WEXITED | WNOHANG) != 0 || how.si_pid == 0)
		return;
	e->reply_waits = false;
	channel_drain(sup, MESSAGES_AFTER_DEATH);
	channel_close(e);
	death_tell(sup, &how);
	STEP("sup:engine-died");
	cleanup_closep_(&e->pidfd);
	e->pidfd = -1;
	e->pid = 0;
	e->state = ADMIN_ENGINE_WAITING;
	sup_log_on_death(sup);
	sup_checkpoint_on_death(sup);
	sup_change_on_death(sup);
	sup_errand_on_death(sup);
	if (sup->stop_ns) {
		sup->over = true;
		return;
	}
	if (how.si_code == CLD_EXITED && how.si_status == ENGINE_STATUS_DATA) {
		sup->status = SUP_STATUS_FAILED;
		sup->over = true;
		return;
	}
	bool of_itself = e->killed || how.si_code == CLD_EXITED || how.si_status != SIGKILL;
	if (sup_upgrade_on_death(sup, of_itself))
		return;
	now_ns = sup_host_mono_ns();
	if (e->renewing && how.si_code == CLD_EXITED && how.si_status == 0) {
		e->restart_ns = now_ns;
		return;
	}
	uint32_t empty = sup_crash_count(sup, of_itself, now_ns);
	if (e->ready_ns && now_ns - e->ready_ns >= ms_ns(SUP_SERVED_MS))
		e->crashes = 0;
	e->crashes++;
	if (e->crashes >= sup->config.restart_limit && !MUTANT(76)) { /* 76: it never gives up */
		log_error("the engine crashed %u times in a row; giving up. Look at the lines "
			  "above for "
			  "why; start hypercached again to begin with empty memory",
			e->crashes);
		sup->status = SUP_STATUS_CRASHES;
		sup->over = true;
		return;
	}
	if (sup_memory_is_closed(sup)) {
		log_warn("hardening is strict: the engine's memory dies with it. The next one "
			 "begins "
			 "with empty memory, and clients have to open new sessions");
		sup_memory_abandon(sup);
	} else {
		sup_memory_mend(sup);
		if (empty)
			sup_crash_begin(sup, empty, now_ns);
	}
	e->restart_ns = now_ns + backoff_ns(sup);
	log_warn("another engine follows in %.0f ms (crash %u of %u in a row)",
		(double)backoff_ns(sup) / 1e6, e->crashes, sup->config.restart_limit);
}

/* New memory if the last engine's died with it, and an engine.  0 or -errno. */
static int restart(struct sup *sup)
{
	if (!sup->ctl) {
		int r = sup_memory_make(sup);
		if (r < 0) {
			sup_memory_close(sup);
			log_warn("no new memory yet: clients that have not noticed still map the "
				 "old "
				 "one; tried again in %.0f ms",
				(double)sup->config.restart_backoff_max_ns / 1e6);
			return err_fwd(r);
		}
		STEP("sup:memory-renewed");
	}
	return err_fwd(sup_engine_start(sup));
}

/* ---------------------------------------------------------------------- hang */

static uint64_t hang_ns(const struct sup *sup)
{
	uint64_t least = SUP_HANG_BEATS * sup->config.heartbeat_ns;

	return sup->config.hang_timeout_ns > least ? sup->config.hang_timeout_ns : least;
}

uint64_t sup_engine_watch_due(const struct sup *sup)
{
	const struct sup_engine *e = &sup->engine;

	if (e->pid == 0 || e->killed || sup->stop_ns || sup->config.hang_timeout_ns == 0)
		return UINT64_MAX;
	return e->suspect_ns ? e->suspect_ns : e->beat_at_ns + hang_ns(sup);
}

/* A heartbeat that is late is looked at once more: it may be we who did not run, because all of us were
 * stopped, or the machine had other things to do. */
static void watch(struct sup *sup, uint64_t now_ns)
{
	struct sup_engine *e = &sup->engine;
	char why[96];

	if (now_ns < sup_engine_watch_due(sup) ||
		MUTANT(342)) /* 342: an engine that hangs, hangs */
		return;
	uint64_t beat = shm_load_rlx(&sup->ctl->heartbeat_ns);
	if (beat != e->beat) {
		e->beat = beat;
		e->beat_at_ns = beat > e->beat_at_ns && beat < now_ns ? beat : now_ns;
		e->suspect_ns = 0;
		if (now_ns < sup_engine_watch_due(sup))
			return;
	}
	if (!e->suspect_ns) {
		e->suspect_ns = now_ns + 2 * sup->config.heartbeat_ns;
		return;
	}
	(void)snprintf(why, sizeof why, "it has given no sign of life for %.1f s (hang_timeout)",
		(double)(now_ns - e->beat_at_ns) / 1e9);
	sup_engine_kill(sup, why);
}

void sup_engine_on_due(struct sup *sup, uint64_t now_ns)
{
	struct sup_engine *e = &sup->engine;

	watch(sup, now_ns);
	if (e->pid == 0 && !sup->image.pid && !sup->over && now_ns >= e->restart_ns &&
		restart(sup) < 0)
		e->restart_ns = now_ns + sup->config.restart_backoff_max_ns;
}

void sup_engine_kill(struct sup *sup, const char *why)
{
	struct sup_engine *e = &sup->engine;

	if (e->pid == 0)
		return;
	log_error("engine %d is killed: %s", e->pid, why);
	e->killed = true;
	(void)syscall(SYS_pidfd_send_signal, e->pidfd, SIGKILL, NULL, 0);
}

void sup_engine_quit(struct sup *sup)
{
	const struct sup_msg quit = {.kind = SUP_MSG_QUIT};
	struct sup_engine *e = &sup->engine;

	e->renewing = true;
	e->state = ADMIN_ENGINE_STOPPING;
	/* An engine that does not read its channel gets no QUIT; the limit is for that one. */
	if (e->channel >= 0)
		(void)channel_send(e->channel, &quit);
	STEP("sup:upgrade-quit");
}

void sup_engine_stop(struct sup *sup)
{
	const struct sup_msg quit = {.kind = SUP_MSG_QUIT};
	struct sup_engine *e = &sup->engine;

	if (sup->stop_ns)
		return;
	sup->stop_ns = sup_host_mono_ns() + ms_ns(SUP_STOP_LIMIT_MS);
	if (e->pid == 0) {
		sup->over = true;
		return;
	}
	e->state = ADMIN_ENGINE_STOPPING;
	/* An engine that does not read its channel gets no QUIT; the limit is for that one. */
	if (e->channel >= 0)
		(void)channel_send(e->channel, &quit);
	STEP("sup:quit-sent");
}
