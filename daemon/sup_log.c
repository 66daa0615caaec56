/* sup_log.c - the log's files: a child makes one at a time, the supervisor opens it anew and hands it to the
 * engine.
 *
 *   engine: LOG_WANT n --> child: make --> open, LOG_SEGMENT + descriptor --> engine: flock (rule P24)
 *
 * The supervisor waits for nobody, and the disk is somebody: a file of 64 MiB is written over with zeroes, and synced, by a
 * child.  A file that no recovery would read any more, because all of the log up to it is in the older of two good
 * checkpoints, is removed behind the next one (sup_checkpoint.c; later: renamed, and used again).
 *
 * A disk that is full is told to the engine by LOG_SEGMENT without a descriptor, and tried again each second: the engine
 * has segments in reserve, and refuses writes to durable stores when those are full.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/err.h"
#include "log.h"
#include "step.h"
#include "segments.h"
#include "sup.h"
#include "wal/wal_read.h"

enum {
	WANTED_MAX = 8,
	NAME_BYTES = WAL_NAME_BYTES,
	RETRY_S = 1,
	NEARLY_FULL = 4, /* a disk is about to fill when it has no room for so many more segments */
};

#define SECOND_NS UINT64_C(1000000000)
#define NEW "new." /* and a number: what a child is at work on */

/* ---------------------------------------------------------------------- child */

/* Makes file `number`.  Under a name of its own first, and never over another: a child of a supervisor that was just killed may
 * not be dead yet.  0 or -errno. */
static int child_make(int wal, uint64_t number, uint64_t bytes)
{
	char name[NAME_BYTES], part[NAME_BYTES];

	(void)snprintf(part, sizeof part, NEW "%d", getpid());
	wal_name_format(name, number);
	_cleanup_close_ int fd = openat(
		wal, part, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	int r = wal_segment_zero(fd, 0, bytes);
	STEP("segment:zeroed");
	if (r == 0 && linkat(wal, part, wal, name, 0) != 0)
		r = -errno;
	(void)unlinkat(wal, part, 0);
	if (r == 0 && fsync(wal) != 0)
		r = -errno;
	return r;
}

static _Noreturn void child_run(const struct sup *sup)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* They are to end with the supervisor, the folder's lock above all. */
	const int its[] = {sup->folder_lock, sup->listen.fd, sup->admin_listen.fd,
		sup->engine.channel, sup->engine.pidfd, sup->signals};
	for (size_t i = 0; i < sizeof its / sizeof *its; i++)
		if (its[i] >= 0)
			(void)close(its[i]);
	int r = child_make(sup->data.wal, sup->log.number, sup->config.wal_segment_bytes);
	_exit(r < 0 && -r < 128 ? -r : r < 0);
}

static int child_start(struct sup *sup)
{
	struct sup_log *l = &sup->log;

	l->number = l->next++;
	pid_t pid = fork();
	if (pid < 0)
		return err_new(-errno);
	if (pid == 0)
		child_run(sup);
	l->pid = pid;
	l->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	return l->pidfd >= 0 ? 0 : err_new(-errno);
}

/* --------------------------------------------------------------------- engine */

/* 0; -EAGAIN: the channel is full; -errno: there is no such file, or no engine. */
static int send_segment(struct sup *sup, const struct sup_msg *m, int fd)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
	struct sup_msg say = *m;
	struct iovec part = {.iov_base = &say, .iov_len = sizeof say};
	struct msghdr h = {.msg_iov = &part, .msg_iovlen = 1};

	if (fd >= 0) {
		say.n_fds = 1;
		h.msg_control = control;
		h.msg_controllen = sizeof control;
		struct cmsghdr *c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof fd);
	}
	if (sup->engine.channel < 0)
		return -EPIPE;
	return sendmsg(sup->engine.channel, &h, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

/* The segment that is ready goes to who wants it. */
static void hand_over(struct sup *sup)
{
	struct sup_log *l = &sup->log;

	if (!l->ready || !l->wanted)
		return;
	_cleanup_close_ int fd = segments_open(sup->data.wal, l->ready, O_RDWR | O_DIRECT);
	if (fd < 0) {
		(void)log_fail(fd, "segment %llu of the log is gone", (unsigned long long)l->ready);
		l->ready = 0;
		return;
	}
	const struct sup_msg m = {.kind = SUP_MSG_LOG_SEGMENT, .id = l->ready};
	int r = send_segment(sup, &m, fd);
	if (r < 0) { /* full: it is tried again; else the engine is about to be another */
		l->retry_ns = sup_host_mono_ns() + SECOND_NS / 10;
		return;
	}
	STEP("sup:segment-sent");
	l->ready = 0;
	l->wanted--;
	sup_checkpoint_on_segment(sup);
}

/* A file could not be made: said once, and to the engine each time. */
static void failed(struct sup *sup, int error)
{
	struct sup_log *l = &sup->log;
	const struct sup_msg m = {.kind = SUP_MSG_LOG_SEGMENT, .refusal = (uint32_t)-error};

	l->retry_ns = sup_host_mono_ns() + RETRY_S * SECOND_NS;
	if (l->told != error)
		log_error("no new segment for the log in %s/wal: %s. When the reserve is full, "
			  "writes "
			  "to "
			  "durable stores are refused (HC_E_LOG_FULL); %s",
			sup->config.data_dir, strerror(-error),
			error == -ENOSPC || error == -EDQUOT
				? "make room on that disk, and they go on by themselves"
				: "they go on by themselves when that is over");
	l->told = error;
	(void)send_segment(sup, &m, -1);
}

/* Before it is full. */
static void disk_look(struct sup *sup)
{
	struct statvfs v;
	struct sup_log *l = &sup->log;

	if (fstatvfs(sup->data.wal, &v) != 0)
		return;
	uint64_t room = (uint64_t)v.f_bavail * v.f_frsize;
	if (room >= NEARLY_FULL * sup->config.wal_segment_bytes) {
		l->told = 0;
		return;
	}
	if (l->told == 0)
		log_warn("the disk of %s has room for %llu MiB: durable stores will be refused "
			 "their writes when it is full; make room",
			sup->config.data_dir, (unsigned long long)(room >> 20));
	l->told = 1;
}

void sup_log_on_child(struct sup *sup)
{
	struct sup_log *l = &sup->log;
	siginfo_t how = {0};

	if (l->pid == 0 || waitid(P_PID, (id_t)l->pid, &how, WEXITED | WNOHANG) != 0 ||
		how.si_pid == 0)
		return;
	cleanup_closep_(&l->pidfd);
	l->pidfd = -1;
	l->pid = 0;
	STEP("sup:segment-made");
	if (how.si_code == CLD_EXITED && how.si_status == 0) {
		l->ready = l->number;
		disk_look(sup);
		hand_over(sup);
	} else if (how.si_code == CLD_EXITED && how.si_status == EEXIST) {
		l->retry_ns = 0; /* another number */
	} else if (how.si_code == CLD_EXITED) {
		failed(sup, -how.si_status);
	} else { /* it says nothing about the disk */
		log_warn("the child that made a segment for the log was killed by signal %d: "
			 "another "
			 "one begins",
			how.si_status);
		l->retry_ns = sup_host_mono_ns() + SECOND_NS / 10;
	}
}

int sup_log_on_message(struct sup *sup, const struct sup_msg *m)
{
	if (sup->data.wal < 0 || m->n > WANTED_MAX)
		return -EBADMSG;
	sup->log.wanted = (uint32_t)m->n;
	hand_over(sup);
	return 0;
}

uint64_t sup_log_due(const struct sup *sup)
{
	const struct sup_log *l = &sup->log;

	if (sup->data.wal < 0 || sup->stop_ns || (l->pid && l->pidfd >= 0))
		return UINT64_MAX;
	if (l->pid)
		return 0;
	return l->wanted || !l->ready ? l->retry_ns : UINT64_MAX;
}

void sup_log_on_due(struct sup *sup, uint64_t now_ns)
{
	struct sup_log *l = &sup->log;

	if (now_ns < sup_log_due(sup))
		return;
	if (l->pid) { /* without a pidfd */
		sup_log_on_child(sup);
		return;
	}
	hand_over(sup);
	if (l->ready)
		return;
	int r = child_start(sup);
	if (r < 0)
		failed(sup, r);
}

void sup_log_on_death(struct sup *sup) { sup->log.wanted = 0; }

/* ----------------------------------------------------------------------- life */

/* What killed children have left. */
static void parts_remove(int wal)
{
	int fd = openat(wal, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *e;

	if (!d) {
		if (fd >= 0)
			(void)close(fd);
		return;
	}
	for (int i = 0; i < SEGMENTS_MAX && (e = readdir(d)); i++)
		if (strncmp(e->d_name, NEW, strlen(NEW)) == 0)
			(void)unlinkat(wal, e->d_name, 0);
	(void)closedir(d);
}

int sup_log_open(struct sup *sup)
{
	_cleanup_free_ uint64_t *number = NULL;

	if (sup->data.wal < 0)
		return 0;
	int n = segments_read(sup->data.wal, &number);
	if (n < 0)
		return log_fail(n, "%s/wal cannot be read", sup->config.data_dir);
	if (n == SEGMENTS_MAX)
		return log_fail(err_new(-EMFILE), "there are too many files in %s/wal",
			sup->config.data_dir);
	sup->log.next = n ? number[n - 1] + 1 : 1;
	parts_remove(sup->data.wal);
	sup_checkpoint_open(sup);
	return 0;
}

void sup_log_close(struct sup *sup)
{
	struct sup_log *l = &sup->log;

	if (l->pid) {
		(void)kill(l->pid, SIGKILL);
		(void)waitpid(l->pid, NULL, 0);
	}
	cleanup_closep_(&l->pidfd);
	l->pidfd = -1;
	l->pid = 0;
}
