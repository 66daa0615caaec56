/* manager.h - a stand-in for systemd: it starts a daemon with what it stores and listens at for it, hears what that says,
 * and keeps what it is given; included by the tests of it.
 *
 * As systemd 252 does: a descriptor that is there already is not stored twice; more than `max` are refused without a
 * word; FDSTOREREMOVE takes all of a name. */
#ifndef HC_TESTS_MANAGER_H
#define HC_TESTS_MANAGER_H
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "../kit/t_proc.h"
#include "atomic.h"

enum { STORE_MAX = 600, MANAGER_MS = 20000, STATES_MAX = 64 };

struct manager {
	char notify[T_PATH_BYTES], give[T_PATH_BYTES], config[T_PATH_BYTES];
	char socket[T_PATH_BYTES], admin[T_PATH_BYTES];
	int notify_fd, give_fd, stop[2];
	unsigned max; /* FileDescriptorStoreMax */
	pthread_t thread;
	pthread_mutex_t lock;
	struct {
		char name[64];
		int fd;
	} store[STORE_MAX];
	unsigned n_store;
	int listen[2]; /* as of a .socket unit; -1: none */
	shm_u32 n_ready, n_reloading, n_stopping, n_watchdog, n_refused;
	struct t_proc *p;
};

static int same_file(int a, int b)
{
	struct stat x, y;

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

static void store_put(struct manager *m, const char *name, int fd)
{
	for (unsigned i = 0; i < m->n_store; i++)
		if (same_file(m->store[i].fd, fd)) {
			(void)close(fd);
			return;
		}
	if (m->n_store == m->max || m->n_store == STORE_MAX) {
		shm_store32_rlx(&m->n_refused, shm_load32_rlx(&m->n_refused) + 1);
		(void)close(fd);
		return;
	}
	(void)snprintf(m->store[m->n_store].name, sizeof m->store[0].name, "%s", name);
	m->store[m->n_store++].fd = fd;
}

static void store_remove(struct manager *m, const char *name)
{
	for (unsigned i = 0; i < m->n_store;) {
		if (strcmp(m->store[i].name, name) != 0) {
			i++;
			continue;
		}
		(void)close(m->store[i].fd);
		m->store[i] = m->store[--m->n_store];
	}
}

static void hear(struct manager *m, char *text, int fd)
{
	char name[64] = "stored";
	const char *at = strstr(text, "FDNAME=");

	if (at)
		(void)snprintf(name, sizeof name, "%.*s", (int)strcspn(at + 7, "\n"), at + 7);
	if (strstr(text, "FDSTORE=1") && fd >= 0)
		store_put(m, name, fd);
	else if (fd >= 0)
		(void)close(fd);
	if (strstr(text, "FDSTOREREMOVE=1"))
		store_remove(m, name);
	if (strncmp(text, "READY=1", 7) == 0)
		shm_store32_rel(&m->n_ready, shm_load32_rlx(&m->n_ready) + 1); /* rel:test.told */
	if (strncmp(text, "RELOADING=1\nMONOTONIC_USEC=", 27) == 0)
		shm_store32_rel(
			&m->n_reloading, shm_load32_rlx(&m->n_reloading) + 1); /* rel:test.told */
	if (strncmp(text, "STOPPING=1", 10) == 0)
		shm_store32_rel(
			&m->n_stopping, shm_load32_rlx(&m->n_stopping) + 1); /* rel:test.told */
	if (strncmp(text, "WATCHDOG=1", 10) == 0)
		shm_store32_rel(
			&m->n_watchdog, shm_load32_rlx(&m->n_watchdog) + 1); /* rel:test.told */
}

static void *manager_listen(void *arg)
{
	struct manager *m = arg;
	char text[4096];

	for (;;) {
		_Alignas(struct cmsghdr) char control[CMSG_SPACE(4 * sizeof(int))];
		struct iovec part = {.iov_base = text, .iov_len = sizeof text - 1};
		struct msghdr h = {.msg_iov = &part,
			.msg_iovlen = 1,
			.msg_control = control,
			.msg_controllen = sizeof control};
		struct pollfd p[2] = {{.fd = m->notify_fd, .events = POLLIN},
			{.fd = m->stop[0], .events = POLLIN}};
		int fd = -1;
		if (poll(p, 2, -1) < 0 || p[1].revents)
			return NULL;
		(void)pthread_mutex_lock(&m->lock);
		ssize_t n = recvmsg(m->notify_fd, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		struct cmsghdr *c = n >= 0 ? CMSG_FIRSTHDR(&h) : NULL;
		if (c && c->cmsg_type == SCM_RIGHTS)
			memcpy(&fd, CMSG_DATA(c), sizeof fd);
		text[n > 0 ? n : 0] = 0;
		hear(m, text, fd);
		(void)pthread_mutex_unlock(&m->lock);
	}
}

static int bound(const char *path, int type)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0 && strlen(path) < sizeof a.sun_path);
	memcpy(a.sun_path, path, strlen(path));
	CHECK_EQ(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	if (type != SOCK_DGRAM)
		CHECK_EQ(listen(fd, 64), 0);
	return fd;
}

/* max: of the store; sockets: it makes those of the daemon; yaml: more of the configuration. */
static void manager_begin(struct manager *m, unsigned max, bool sockets, const char *yaml)
{
	*m = (struct manager){.max = max, .listen = {-1, -1}};
	(void)snprintf(m->notify, sizeof m->notify, "%s/n", t_dir());
	(void)snprintf(m->give, sizeof m->give, "%s/g", t_dir());
	(void)snprintf(m->config, sizeof m->config, "%s/c.yaml", t_dir());
	(void)snprintf(m->socket, sizeof m->socket, "%s/s", t_dir());
	(void)snprintf(m->admin, sizeof m->admin, "%s/a", t_dir());
	m->notify_fd = bound(m->notify, SOCK_DGRAM);
	m->give_fd = bound(m->give, SOCK_SEQPACKET);
	if (sockets) {
		m->listen[0] = bound(m->socket, SOCK_STREAM);
		m->listen[1] = bound(m->admin, SOCK_SEQPACKET);
	}
	FILE *f = fopen(m->config, "we");
	CHECK(f != NULL);
	fprintf(f, "socket: %s\nadmin_socket: %s\ndata_dir: %s/data\n%s", m->socket, m->admin,
		t_dir(), yaml ? yaml : "");
	if (!yaml || !strstr(yaml, "pools:"))
		fputs("pools: { main: { size: 8MiB, huge_pages: off } }\n", f);
	t_config_write(f, yaml);
	CHECK_EQ(fclose(f), 0);
	CHECK(pthread_mutex_init(&m->lock, NULL) == 0 && pipe2(m->stop, O_CLOEXEC) == 0);
	CHECK_EQ(pthread_create(&m->thread, NULL, manager_listen, m), 0);
}

static void give(int s, const char *text, size_t bytes, const int *fds, int n)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(64 * sizeof(int))] = {0};
	struct iovec part = {.iov_base = (void *)(uintptr_t)text, .iov_len = bytes};
	struct msghdr h = {.msg_iov = &part, .msg_iovlen = 1};

	if (n) {
		h.msg_control = control;
		h.msg_controllen = CMSG_SPACE((size_t)n * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
		memcpy(CMSG_DATA(c), fds, (size_t)n * sizeof(int));
	}
	CHECK_EQ(sendmsg(s, &h, 0), (ssize_t)bytes);
}

/* Everything that was said has been heard, as systemd hears it before it looks who has died. */
static void manager_settle(struct manager *m)
{
	struct pollfd p = {.fd = m->notify_fd, .events = POLLIN};
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(MANAGER_MS) * 1000000;
	int left = 1;

	while (left) {
		(void)pthread_mutex_lock(&m->lock);
		left = poll(&p, 1, 0);
		(void)pthread_mutex_unlock(&m->lock);
		CHECK(t_now_ns() < end_ns);
		if (left)
			(void)t_wait_fd(-1, 0, 1);
	}
}

/* What it stores, and its sockets, to the process that has been started. */
static void give_all(struct manager *m)
{
	static char names[65536];
	int s, all[STORE_MAX + 2], n = 0;
	size_t at = (size_t)snprintf(names, sizeof names, "=");

	CHECK(t_wait_fd(m->give_fd, POLLIN, MANAGER_MS));
	s = accept4(m->give_fd, NULL, NULL, SOCK_CLOEXEC);
	CHECK(s >= 0);
	manager_settle(m);
	(void)pthread_mutex_lock(&m->lock);
	for (int i = 0; i < 2 && m->listen[i] >= 0; i++) {
		all[n++] = m->listen[i];
		at += (size_t)snprintf(names + at, sizeof names - at, "hypercached.socket:");
	}
	for (unsigned i = 0; i < m->n_store; i++) {
		all[n++] = m->store[i].fd;
		at += (size_t)snprintf(names + at, sizeof names - at, "%s:", m->store[i].name);
	}
	names[at > 1 ? at - 1 : at] = 0;
	give(s, names, at, NULL, 0);
	for (int i = 0; i < n; i += 64)
		give(s, ".", 1, all + i, n - i < 64 ? n - i : 64);
	(void)pthread_mutex_unlock(&m->lock);
	CHECK_EQ(close(s), 0);
}

/* Starts the daemon, without waiting.  order: HC_STEP, or NULL. */
static void manager_launch(struct manager *m, const char *order)
{
	char notify[T_PATH_BYTES + 16], max[32], step[512];

	(void)snprintf(notify, sizeof notify, "NOTIFY_SOCKET=%s", m->notify);
	(void)snprintf(max, sizeof max, "FDSTORE=%u", m->max);
	(void)snprintf(step, sizeof step, "HC_STEP=%s", order ? order : "");
	m->p = t_spawn((const char *[]){t_bin("tests/manager_run"), m->give, t_bin("hypercached"),
			       "--config", m->config, NULL},
		&(struct t_spawn_opts){.env = (const char *[]){notify, max, "WATCHDOG_USEC=300000",
					       order ? step : "HC_STEP", NULL}});
	give_all(m);
}

static void manager_start(struct manager *m, const char *order)
{
	manager_launch(m, order);
	free(t_proc_line(m->p, "hypercached: ready on ", MANAGER_MS));
}

/* Engines whose supervisor has died are ours. */
static void manager_orphans(const struct manager *m)
{
	pid_t pid[8];
	int n = t_children(getpid(), pid, 8);

	for (int k = 0; k < n; k++)
		if (!m->p || pid[k] != m->p->pid)
			t_daemon_wait_gone(pid[k]);
}

static unsigned manager_stored(struct manager *m)
{
	manager_settle(m);
	(void)pthread_mutex_lock(&m->lock);
	unsigned n = m->n_store;
	(void)pthread_mutex_unlock(&m->lock);
	return n;
}

/* Until `word` is at least n. */
__attribute__((unused)) static void manager_told(const shm_u32 *word, uint32_t n)
{
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(MANAGER_MS) * 1000000;

	while (shm_load32_acq(word) < n) { /* acq:test.told */
		CHECK(t_now_ns() < end_ns);
		(void)t_wait_fd(-1, 0, 1);
	}
}

static void manager_stop(struct manager *m)
{
	t_proc_signal(m->p, SIGTERM);
	CHECK_EQ(t_proc_exit(m->p, MANAGER_MS), 0);
	t_proc_free(m->p);
}

static void manager_end(struct manager *m)
{
	CHECK_EQ(write(m->stop[1], "", 1), 1);
	CHECK_EQ(pthread_join(m->thread, NULL), 0);
	for (unsigned i = 0; i < m->n_store; i++)
		(void)close(m->store[i].fd);
	for (int i = 0; i < 2; i++) {
		(void)close(m->stop[i]);
		if (m->listen[i] >= 0)
			(void)close(m->listen[i]);
	}
	(void)close(m->notify_fd);
	(void)close(m->give_fd);
	CHECK_EQ(pthread_mutex_destroy(&m->lock), 0);
}

#endif
