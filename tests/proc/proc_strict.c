/* proc_strict.c - hardening: strict, against a process of the daemon's own user: what it stops, what
 * stays possible without it, and what it costs when an engine dies. */
#include <fcntl.h>
#include <linux/falloc.h>
#include <signal.h>
#include <sys/wait.h>
#include "hc_i.h"
#include "raw.h"

enum { SMALL = 4096 };

static const char pools[] = "pools: {m: {size: 4MiB, huge_pages: \"off\"}}\n";

static struct t_daemon *start(const char *hardening)
{
	char text[256];

	(void)snprintf(text, sizeof text, "hardening: %s\n%s", hardening, pools);
	return t_daemon_start(text, NULL);
}

static struct hc *open_at(const struct t_daemon *d, uint32_t stale)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct hc *hc;

	o.socket = d->socket;
	o.stale = stale;
	o.timeout_ms = (uint32_t)t_limit_ms(WAIT_MS);
	CHECK_EQ(hc_open(&hc, &o), HC_OK);
	return hc;
}

static struct hc_store *store_of(struct hc *hc)
{
	struct hc_store *s;

	CHECK_EQ(hc_store(hc, "default", &s), HC_OK);
	return s;
}

/* ------------------------------------------------------------ what it stops */

/* The three ways in which a client's descriptor becomes a writer's: 0, or the errno of each. */
static int write_through(int fd)
{
	char path[32];

	(void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	int rw = open(path, O_RDWR | O_CLOEXEC);
	CHECK(rw >= 0); /* its user is the file's */
	void *m = mmap(NULL, SMALL, PROT_READ | PROT_WRITE, MAP_SHARED, rw, 0);
	int map = m == MAP_FAILED ? errno : 0;
	if (m != MAP_FAILED)
		(void)munmap(m, SMALL);
	char byte;
	CHECK_EQ(pread(rw, &byte, 1, 8), 1);
	int put = pwrite(rw, &byte, 1, 8) == 1 ? 0 : errno;
	(void)close(rw);
	CHECK_EQ(map, put);
	return map;
}

/* Gives back the memory of a part that holds nothing. */
static int punch(int fd, off_t at)
{
	char path[32];

	(void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	int rw = open(path, O_RDWR | O_CLOEXEC);
	CHECK(rw >= 0);
	int r = fallocate(rw, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, SMALL) == 0 ? 0
	                                                                                  : errno;
	(void)close(rw);
	return r;
}

TEST(only_strict_stops_a_process_of_the_daemons_own_user_from_writing)
{
	for (int strict = 0; strict < 2; strict++) {
		struct t_daemon *d = start(strict ? "strict" : "none");
		int want = strict ? EPERM : 0, n = 0;
		for (int engines = 0; engines < 2; engines++) {
			struct raw r = raw_open(d);
			struct wire_answer a = raw_hello(&r, 0);
			CHECK_EQ(a.status, HC_OK);
			for (uint32_t i = 0; i < a.n_fds; i++) {
				if (a.fd[i].kind == SHM_KIND_CLIENT)
					continue; /* that one is the client's to write */
				CHECK_EQ(write_through(r.fd[i]), want);
				if (a.fd[i].kind == SHM_KIND_POOL)
					CHECK_EQ(punch(r.fd[i], (4 << 20) - SMALL), want);
				n++;
			}
			raw_close(&r);
			if (engines == 0)
				(void)t_daemon_wait_engine(d, t_daemon_kill_engine(d, SIGKILL));
		}
		CHECK_EQ(n, 4); /* control segment and pool, of both engines */
		t_daemon_stop(d);
	}
}

/* Can another process of this user look into that one?  Asked by a child, as this user. */
static bool may_look_into(pid_t pid, uid_t uid)
{
	char path[64];

	/* What a debugger asks first; a security module may forbid it the rest anyway. */
	(void)snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
	fflush(NULL);
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		if (geteuid() != uid &&
			(setresgid(uid, uid, uid) != 0 || setresuid(uid, uid, uid) != 0))
			_exit(2);
		_exit(open(path, O_RDONLY | O_CLOEXEC) >= 0);
	}
	int status = t_wait_child(child, WAIT_MS);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
	return WEXITSTATUS(status) == 1;
}

/* A daemon of a user who is not root, in a folder of his own. */
static struct t_proc *start_as(uid_t uid, const char *hardening)
{
	const char *dir = t_path("own");
	char path[256];

	CHECK_EQ(chmod(t_dir(), 0711), 0);
	CHECK(mkdir(dir, 0700) == 0 || errno == EEXIST);
	(void)snprintf(path, sizeof path, "%s/c.yaml", dir);
	FILE *f = fopen(path, "we");
	CHECK(f);
	fprintf(f, "socket: %s/s\ndata_dir: %s/data\nhardening: %s\n%s", dir, dir, hardening,
		pools);
	fclose(f);
	if (geteuid() == 0)
		CHECK(chown(dir, uid, uid) == 0 && chown(path, uid, uid) == 0);
	struct t_proc *p = t_spawn((const char *[]){t_bin("hypercached"), "--config", path, NULL},
		&(struct t_spawn_opts){.uid = geteuid() == 0 ? uid : 0});
	free(t_proc_line(p, "hypercached: ready on ", WAIT_MS));
	return p;
}

TEST(under_strict_a_debugger_of_the_same_user_is_kept_out_of_both_processes)
{
	enum { SOMEBODY = 60001 };
	uid_t uid = geteuid() == 0 ? SOMEBODY : geteuid();

	for (int strict = 0; strict < 2; strict++) {
		struct t_proc *p = start_as(uid, strict ? "strict" : "none");
		pid_t engine;
		CHECK_EQ(t_children(p->pid, &engine, 1), 1);
		CHECK_EQ(may_look_into(p->pid, uid), !strict);
		CHECK(!may_look_into(engine, uid)); /* never, unless lockdown is off */
		t_proc_signal(p, SIGTERM);
		CHECK_EQ(t_proc_exit(p, WAIT_MS), 0);
		t_proc_free(p);
	}
}

/* ------------------------------------------------------------ what it costs */

TEST(an_engine_that_dies_takes_the_entries_with_it_and_everybody_is_told)
{
	char buf[16];
	size_t n;
	struct t_daemon *d = start("strict");
	struct hc *serve = open_at(d, HC_STALE_SERVE), *fail = open_at(d, HC_STALE_FAIL);
	struct hc_store *s = store_of(serve), *f = store_of(fail);

	CHECK_EQ(hc_set(s, "k", 1, "old", 3, NULL), HC_OK);
	CHECK_EQ(hc_get(f, "k", 1, buf, sizeof buf, &n), HC_OK);
	for (int i = 0; i < 2; i++) { /* the second is no different */
		pid_t former = t_daemon_kill_engine(d, SIGKILL);
		free(t_proc_line(
			d->proc, "hardening is strict: the engine's memory dies with it", WAIT_MS));
		(void)t_daemon_wait_engine(d, former);
		CHECK(hc_health(serve) & HC_SUPERVISOR_GONE);
		CHECK_EQ(hc_get(s, "k", 1, buf, sizeof buf, &n), HC_OK); /* as it asked for */
		CHECK_EQ(hc_get(f, "k", 1, buf, sizeof buf, &n), HC_E_STALE);
		CHECK_EQ(hc_set(s, "k", 1, "more", 4, NULL), HC_E_STALE);
		CHECK_EQ(hc_set(f, "k", 1, "more", 4, NULL), HC_E_STALE);

		struct hc *fresh = open_at(d, HC_STALE_FAIL);
		struct hc_store *x = store_of(fresh);
		CHECK_EQ(hc_health(fresh), 0);
		CHECK_EQ(hc_get(x, "k", 1, buf, sizeof buf, &n), HC_MISS);
		CHECK_EQ(hc_set(x, "k", 1, "new", 3, NULL), HC_OK);
		CHECK_EQ(hc_get(x, "k", 1, buf, sizeof buf, &n), HC_OK);
		CHECK(n == 3 && memcmp(buf, "new", 3) == 0);
		CHECK_EQ(hc_get(s, "k", 1, buf, sizeof buf, &n), HC_OK);
		CHECK(n == 3 && memcmp(buf, "old", 3) == 0);
		hc_close(fresh);
	}
	hc_close(serve);
	hc_close(fail);
	t_daemon_stop(d);
}

TEST(a_daemon_that_ends_by_itself_does_so_under_strict)
{
	struct t_daemon *d = start("strict");
	struct hc *hc = open_at(d, HC_STALE_FAIL);

	CHECK_EQ(hc_set(store_of(hc), "k", 1, "v", 1, NULL), HC_OK);
	CHECK_EQ(t_run((const char *[]){t_bin("hypercache"), "--admin", d->admin, "fsck", NULL},
			 NULL, 0, NULL, NULL, NULL, WAIT_MS),
		0);
	t_daemon_stop(d);
	hc_close(hc);
}

TEST(tools_are_told_when_there_is_no_memory_for_a_moment)
{
	enum { CRASHES = 8 };
	char text[256], *err;

	(void)snprintf(text, sizeof text, "hardening: strict\nrestart_limit: 100\n%s", pools);
	struct t_daemon *d = t_daemon_start(text, NULL);
	for (int i = 0; i < CRASHES; i++) { /* the waits grow: the last one is over a second */
		pid_t former = t_daemon_kill_engine(d, SIGKILL);
		if (i < CRASHES - 1)
			(void)t_daemon_wait_engine(d, former);
	}
	free(t_proc_line(d->proc, "crash 8 of 100", WAIT_MS));
	CHECK_EQ(t_run((const char *[]){t_bin("hypercache"), "--admin", d->admin, "stat", NULL},
			 NULL, 0, NULL, NULL, &err, WAIT_MS),
		3);
	CHECK(strstr(err, "the new one is not there yet: try again"));
	free(err);
	t_daemon_stop(d);
}
