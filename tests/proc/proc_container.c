/* proc_container.c - daemon and clients in containers: what tools/deploy/containers.md promises.
 *
 * A container is here what the kernel makes of one: namespaces for processes, mounts and time, and
 * for a user who is not root one for users.  No container program is needed.
 *
 *   test -- keeper, outside: has entered what only children get -- client, inside
 *
 * The client is process 1 of its container, and calls itself so; the keeper waits for it.  What they
 * say to each other goes through pipes, a byte or a number at a time. */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include "hc_i.h"
#include "raw.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

enum {
	REFUSED = 77, /* exit status of a keeper that may not make a container */
};

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text)) {
		fprintf(stderr, "  %s: %s\n", path, strerror(errno));
		_exit(REFUSED);
	}
	(void)close(fd);
}

/* This process's next child is the first in new namespaces.  Ends the process if it may not. */
static void enter(int namespaces, int64_t clock_off_s)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();
	char text[64];

	if (unshare((uid ? CLONE_NEWUSER : 0) | namespaces) != 0) {
		fprintf(stderr, "  unshare: %s\n", strerror(errno));
		_exit(REFUSED);
	}
	if (uid) {
		write_file("/proc/self/setgroups", "deny");
		(void)snprintf(text, sizeof text, "0 %u 1", uid);
		write_file("/proc/self/uid_map", text);
		(void)snprintf(text, sizeof text, "0 %u 1", gid);
		write_file("/proc/self/gid_map", text);
	}
	if (namespaces & CLONE_NEWTIME) {
		(void)snprintf(text, sizeof text, "monotonic %lld 0", (long long)clock_off_s);
		write_file("/proc/self/timens_offsets", text);
	}
}

/* May tests make such containers here?  Asked in a process of its own. */
static bool may_contain(int namespaces)
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		enter(namespaces, 0);
		pid_t child = fork();
		if (child == 0)
			_exit(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
						mount("proc", "/proc", "proc", 0, NULL) == 0
					? 0
					: REFUSED);
		_exit(child > 0 ? WEXITSTATUS(t_wait_child(child, WAIT_MS)) : REFUSED);
	}
	return t_wait_child(pid, WAIT_MS) == 0;
}

#define NEED(namespaces) \
	do { \
		if (!may_contain(namespaces)) \
			SKIP("containers may not be made here"); \
	} while (0)

/* ------------------------------------------------------------------ containers */

struct inside {
	const char *socket; /* as it is called in there */
	int64_t clock_off_s;
	int to[2], from[2]; /* pipes to and from the one inside */
	pid_t keeper;
};

static void tell(int fd, uint64_t n) { CHECK_EQ(write(fd, &n, sizeof n), sizeof n); }

static uint64_t hear(int fd)
{
	uint64_t n = 0;

	CHECK(t_wait_fd(fd, POLLIN, WAIT_MS));
	CHECK_EQ(read(fd, &n, sizeof n), sizeof n);
	return n;
}

/* The socket's folder under another name, read-only, as a container has it. */
static const char *mount_elsewhere(const char *dir)
{
	static char path[T_PATH_BYTES];

	CHECK_EQ(mount(dir, t_path("run"), NULL, MS_BIND, NULL), 0);
	CHECK_EQ(mount(NULL, t_path("run"), NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID,
			 NULL),
		0);
	(void)snprintf(path, sizeof path, "%s/s", t_path("run"));
	return path;
}

typedef void body_fn(struct inside *in);

/* `body` as the first process of a container; d: which daemon's folder it gets, or NULL. */
static void inside(struct inside *in, int namespaces, const struct t_daemon *d, body_fn *body)
{
	CHECK_EQ(pipe2(in->to, O_CLOEXEC), 0);
	CHECK_EQ(pipe2(in->from, O_CLOEXEC), 0);
	in->keeper = fork();
	CHECK(in->keeper >= 0);
	if (in->keeper > 0) { /* the other ends: so that their end is heard of */
		(void)close(in->to[0]);
		(void)close(in->from[1]);
		return;
	}
	(void)close(in->to[1]);
	(void)close(in->from[0]);
	enter(namespaces, in->clock_off_s);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		CHECK_EQ(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
		CHECK_EQ(mount("proc", "/proc", "proc", 0, NULL), 0);
		if (d)
			in->socket = mount_elsewhere(d->dir);
		body(in);
		_exit(0);
	}
	tell(in->from[1], (uint64_t)pid);
	int st = t_wait_child(pid, 6 * WAIT_MS);
	_exit(WIFEXITED(st) ? WEXITSTATUS(st) : WTERMSIG(st) == SIGKILL ? 0 : 1);
}

static void inside_end(struct inside *in)
{
	CHECK_EQ(t_wait_child(in->keeper, WAIT_MS), 0);
	(void)close(in->to[1]);
	(void)close(in->from[0]);
}

/* --------------------------------------------------------------------- clients */

struct client {
	struct hc *hc;
	struct hc_store *s;
};

static struct client client_open(const char *socket)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct client c;

	o.socket = socket;
	o.timeout_ms = (uint32_t)t_limit_ms(WAIT_MS);
	CHECK_EQ(hc_open(&c.hc, &o), HC_OK);
	CHECK_EQ(hc_store(c.hc, "default", &c.s), HC_OK);
	return c;
}

static void put(const struct client *c, const char *key, const char *value, uint64_t ttl_ms)
{
	struct hc_set_opts o = HC_OPTS(hc_set_opts);

	o.ttl_ms = ttl_ms;
	CHECK_EQ(hc_set(c->s, key, strlen(key), value, strlen(value), &o), HC_OK);
}

static bool has(const struct client *c, const char *key, const char *value)
{
	char buf[64];
	size_t n = 0;
	int r = hc_get(c->s, key, strlen(key), buf, sizeof buf, &n);

	CHECK(r == HC_OK || r == HC_MISS);
	return r == HC_OK && n == strlen(value) && memcmp(buf, value, n) == 0;
}

/* Pings until the counter has this value; the loop and its ticks go on by themselves. */
static void wait_for(const struct client *c, enum shm_daemon_counter i, uint64_t want)
{
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(WAIT_MS) * 1000000;

	while (shm_load_rlx(&c->hc->ctl->counter[i]) != want) {
		CHECK(t_now_ns() < end_ns);
		CHECK_EQ(hc_ping(c->hc), HC_OK);
	}
}

/* ------------------------------------------------------- two namespaces of processes */

static void writer(struct inside *in)
{
	struct client c = client_open(in->socket);

	CHECK_EQ(getpid(), 1);
	put(&c, "one", "first", 0);
	tell(in->from[1], c.hc->seg->pid);
	(void)hear(in->to[0]);
	CHECK(has(&c, "two", "second"));
	put(&c, "one", "again", 0); /* an engine has died meanwhile */
	tell(in->from[1], 1);
	(void)hear(in->to[0]); /* is killed here */
}

static void reader(struct inside *in)
{
	CHECK_EQ(mount("none", "/proc", "tmpfs", MS_RDONLY, NULL), 0); /* it needs none */
	struct client c = client_open(in->socket);
	struct hc_view v;

	CHECK_EQ(getpid(), 1);
	CHECK(has(&c, "one", "first"));
	put(&c, "two", "second", 0);
	CHECK_EQ(hc_view(c.s, "one", 3, &v), HC_OK);
	tell(in->from[1], c.hc->seg->pid);
	(void)hear(in->to[0]); /* is killed here, with a pin */
}

TEST(clients_of_two_containers_share_what_they_write_and_die)
{
	NEED(CLONE_NEWPID | CLONE_NEWNS);
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct client here = client_open(d->socket);
	struct inside a = {0}, b = {0};

	CHECK_EQ(mkdir(t_path("run"), 0700), 0);
	inside(&a, CLONE_NEWPID | CLONE_NEWNS, d, writer);
	uint64_t a_pid = hear(a.from[0]);
	CHECK_EQ(hear(a.from[0]), a_pid); /* its number as the daemon sees it: ours */
	inside(&b, CLONE_NEWPID | CLONE_NEWNS, d, reader);
	uint64_t b_pid = hear(b.from[0]);
	CHECK_EQ(hear(b.from[0]), b_pid);
	CHECK(has(&here, "two", "second"));
	(void)t_daemon_kill_engine(d, SIGKILL);
	tell(a.to[1], 1);
	(void)hear(a.from[0]);
	CHECK(has(&here, "one", "again"));
	wait_for(&here, SHM_DC_sessions, 3);
	CHECK_EQ(kill((pid_t)a_pid, SIGKILL), 0);
	CHECK_EQ(kill((pid_t)b_pid, SIGKILL), 0);
	wait_for(&here, SHM_DC_sessions, 1);
	CHECK_EQ(shm_load_rlx(&here.hc->ctl->counter[SHM_DC_sessions_dead]), 2);
	wait_for(&here, SHM_DC_connections, 1);
	inside_end(&a);
	inside_end(&b);
	hc_close(here.hc);
	t_daemon_stop(d);
}

/* -------------------------------------------------------------- the daemon in one */

/* A client of another container than the daemon's: it has no number there.  The socket is also the
 * test's, which does not close it: only the kernel's word tells of the death. */
static void stranger(struct inside *in)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct raw r = {.sock = (int)hear(in->to[0])};
	size_t bytes;

	memcpy(a.sun_path, in->socket, strnlen(in->socket, sizeof a.sun_path - 1));
	CHECK_EQ(connect(r.sock, (struct sockaddr *)&a, sizeof a), 0);
	CHECK_EQ(raw_hello(&r, 0).status, HC_OK);
	ping(&r);
	tell(in->from[1], segment_of(&r, &bytes)->pid);
	(void)hear(in->to[0]); /* is killed here */
}

static bool has_peerpidfd(void)
{
	int s[2], fd = -1;
	socklen_t n = sizeof fd;

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	bool has = getsockopt(s[0], SOL_SOCKET, 77 /* SO_PEERPIDFD */, &fd, &n) == 0;
	if (fd >= 0)
		(void)close(fd);
	(void)close(s[0]);
	(void)close(s[1]);
	return has;
}

/* The daemon is process 1 of its container; and ends when it is told to. */
static void with_a_stranger(const char *config, bool before_a_tick)
{
	char socket_path[T_PATH_BYTES];
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct inside in = {.socket = socket_path};

	(void)snprintf(socket_path, sizeof socket_path, "%s/d0/s", t_dir());
	inside(&in, CLONE_NEWPID | CLONE_NEWNS, NULL, stranger);
	uint64_t pid = hear(in.from[0]);
	enter(CLONE_NEWPID | CLONE_NEWNS, 0);
	struct t_daemon *d = t_daemon_start(config, NULL);
	struct raw good = session_open(d);
	CHECK_STR(d->socket, socket_path);
	tell(in.to[1], (uint64_t)sock);
	CHECK_EQ(hear(in.from[0]), 0); /* no number */
	CHECK_EQ(counter(&good, SHM_DC_sessions), 2);
	uint64_t beat = shm_load_rlx(&good.ctl->heartbeat_ns);
	CHECK_EQ(kill((pid_t)pid, SIGKILL), 0);
	wait_counter(&good, SHM_DC_sessions, 1);
	CHECK_EQ(shm_load_rlx(&good.ctl->heartbeat_ns) == beat, before_a_tick);
	CHECK_EQ(counter(&good, SHM_DC_sessions_dead), 1);
	inside_end(&in);
	(void)close(sock);
	raw_close(&good);
	t_daemon_stop(d);
}

/* In a process of its own: after the end of process 1 nobody can be born in its namespace. */
static void from_elsewhere(const char *config, bool before_a_tick)
{
	(void)t_dir(); /* made here, and removed */
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		with_a_stranger(config, before_a_tick);
		_exit(0);
	}
	CHECK_EQ(t_wait_child(pid, 4 * WAIT_MS), 0);
}

TEST(a_client_without_a_number_is_known_by_its_pidfd)
{
	NEED(CLONE_NEWPID | CLONE_NEWNS);
	if (!has_peerpidfd())
		SKIP("this kernel has no SO_PEERPIDFD");
	from_elsewhere("heartbeat: 5s\npeer_pidfd: auto\n", true);
}

TEST(a_client_without_a_number_and_a_pidfd_is_looked_at_by_ticks)
{
	NEED(CLONE_NEWPID | CLONE_NEWNS);
	from_elsewhere("heartbeat: 100ms\npeer_pidfd: \"off\"\n", false);
}

/* ---------------------------------------------------------------- clocks of their own */

/* Sees what is alive, and what is over, as all others do; and writes so that they do. */
static void with_another_clock(struct inside *in)
{
	struct client c = client_open(in->socket);
	struct hc_meta m = HC_OPTS(hc_meta);

	CHECK(has(&c, "an hour", "v"));
	CHECK(has(&c, "never", "v"));
	CHECK_EQ(hc_meta(c.s, "an hour", 7, &m), HC_OK);
	CHECK(m.expires_in_ms > 3000000 && m.expires_in_ms <= 3600000);
	put(&c, "from inside", "v", 3600000);
	put(&c, "short from inside", "v", 300);
	tell(in->from[1], 1);
	(void)hear(in->to[0]); /* the short ones are over, out there */
	CHECK(!has(&c, "short", "v"));
	CHECK(!has(&c, "short from inside", "v"));
	CHECK(has(&c, "an hour", "v"));
	hc_close(c.hc);
	tell(in->from[1], 1);
}

/* The client's clock is ahead of or behind the daemon's by so much. */
static void share_time(const struct t_daemon *d, int64_t off_s)
{
	struct client here = client_open(d->socket);
	struct inside in = {.clock_off_s = off_s};
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(WAIT_MS) * 1000000;

	put(&here, "an hour", "v", 3600000);
	put(&here, "never", "v", HC_TTL_NEVER);
	put(&here, "short", "v", 300);
	inside(&in, CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWTIME, d, with_another_clock);
	(void)hear(in.from[0]);
	(void)hear(in.from[0]);
	CHECK(has(&here, "from inside", "v"));
	while (has(&here, "short", "v") || has(&here, "short from inside", "v")) {
		CHECK(t_now_ns() < end_ns);
		sched_yield();
	}
	tell(in.to[1], 1);
	(void)hear(in.from[0]);
	inside_end(&in);
	hc_close(here.hc);
}

TEST(a_client_with_another_clock_sees_time_to_live_right)
{
	NEED(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWTIME);
	int64_t up_s = (int64_t)(t_now_ns() / 1000000000);
	struct t_daemon *d = t_daemon_start(NULL, NULL);

	CHECK_EQ(mkdir(t_path("run"), 0700), 0);
	share_time(d, 86400);
	share_time(d, -up_s / 2);
	t_daemon_stop(d);
}

TEST(a_daemon_with_another_clock_is_understood)
{
	NEED(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWTIME);
	CHECK_EQ(mkdir(t_path("run"), 0700), 0);
	enter(CLONE_NEWTIME, 86400); /* children have it, we do not */
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct client here = client_open(d->socket);

	CHECK(here.hc->time_off_ns == 86400ll * 1000000000);
	hc_close(here.hc);
	share_time(d, 86400); /* as the daemon's, unlike ours */
	share_time(d, 3 * 86400);
	share_time(d, 0);
	t_daemon_stop(d);
}
