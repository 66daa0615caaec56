/* t_daemon.c - a hypercached of the test's own (t_daemon.h). */
#include "t_daemon.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "t.h"
#include "t_kit.h"

enum { CHILDREN_MAX = 64, SOCKET_PATH_MAX = 107 };

static const char default_pools[] = "pools:\n  main:\n    size: 16MiB\n    huge_pages: off\n";

static void path_in(char ret_path[T_PATH_BYTES], const char *dir, const char *name)
{
	int n = snprintf(ret_path, T_PATH_BYTES, "%s/%s", dir, name);

	if (n < 0 || n > SOCKET_PATH_MAX)
		t_fail(__FILE__, __LINE__, "%s/%s is too long for a socket: set TMPDIR", dir, name);
}

/* Does a line of `more` begin with these n bytes? */
static bool has_key(const char *more, const char *key, size_t n)
{
	for (const char *line = more; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, key, n) == 0)
			return true;
	}
	return false;
}

void t_config_write(FILE *f, const char *more)
{
	const char *at = getenv("T_CONFIG");

	while (at && *at) {
		size_t n = strcspn(at, ";");
		if (!has_key(more, at, strcspn(at, ":") + 1))
			fprintf(f, "%.*s\n", (int)n, at);
		at += n;
		at += strspn(at, "; ");
	}
}

void t_daemon_configure(const struct t_daemon *d, const char *more)
{
	FILE *f = fopen(d->config, "we");

	if (!f)
		t_fail(__FILE__, __LINE__, "%s: %s", d->config, strerror(errno));
	fprintf(f, "socket: %s\nadmin_socket: %s\ndata_dir: %s\n%s\n", d->socket, d->admin, d->data,
		more ? more : "");
	if (!has_key(more, "pools:", 6))
		fputs(default_pools, f);
	t_config_write(f, more);
	fclose(f);
}

static void daemon_spawn(struct t_daemon *d, const char *option, const char *const *env)
{
	char runtime[T_PATH_BYTES + 32], state[T_PATH_BYTES + 32];
	const char *all_env[64];
	int at = 0;

	(void)snprintf(runtime, sizeof runtime, "XDG_RUNTIME_DIR=%s", d->dir);
	(void)snprintf(state, sizeof state, "XDG_STATE_HOME=%s", d->dir);
	all_env[at++] = runtime;
	all_env[at++] = state;
	for (int i = 0; env && env[i] && at < 63; i++)
		all_env[at++] = env[i];
	all_env[at] = NULL;
	d->proc = t_spawn(
		(const char *[]){t_bin("hypercached"), "--config", d->config, option, NULL},
		&(struct t_spawn_opts){.env = all_env});
}

struct t_daemon *t_daemon_launch(const char *more, const char *const *env)
{
	static int n;
	char name[32];
	struct t_daemon *d = calloc(1, sizeof *d);

	if (!d)
		t_fail(__FILE__, __LINE__, "out of memory");
	(void)snprintf(name, sizeof name, "d%d", n++);
	path_in(d->dir, t_dir(), name);
	path_in(d->config, d->dir, "c.yaml");
	path_in(d->socket, d->dir, "s");
	path_in(d->admin, d->dir, "a");
	path_in(d->data, d->dir, "data");
	if (mkdir(d->dir, 0700) != 0)
		t_fail(__FILE__, __LINE__, "%s: %s", d->dir, strerror(errno));
	t_daemon_configure(d, more);
	daemon_spawn(d, NULL, env);
	return d;
}

void t_daemon_wait_ready(struct t_daemon *d)
{
	free(t_proc_line(d->proc, "hypercached: ready on ", T_DAEMON_READY_MS));
}

struct t_daemon *t_daemon_start(const char *more, const char *const *env)
{
	struct t_daemon *d = t_daemon_launch(more, env);

	t_daemon_wait_ready(d);
	return d;
}

static bool is_engine(pid_t pid)
{
	char path[64], text[4096];

	(void)snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
	FILE *f = fopen(path, "re");
	if (!f)
		return false;
	size_t bytes = fread(text, 1, sizeof text, f);
	fclose(f);
	return memmem(text, bytes, "--engine", 8) != NULL;
}

/* 0: it has none. */
static pid_t find_engine(const struct t_daemon *d)
{
	pid_t pids[CHILDREN_MAX];
	int n = t_children(d->proc->pid, pids, CHILDREN_MAX);

	for (int i = 0; i < n; i++)
		if (is_engine(pids[i]))
			return pids[i];
	return 0;
}

pid_t t_daemon_engine(const struct t_daemon *d)
{
	pid_t pid = find_engine(d);

	if (pid == 0)
		t_fail(__FILE__, __LINE__, "the supervisor (pid %d) has no engine",
			(int)d->proc->pid);
	return pid;
}

int t_daemon_segment(const struct t_daemon *d, const char *name)
{
	char dir[64], path[512], want[128], is[256];
	const struct dirent *e;
	int fd = -1;

	(void)snprintf(dir, sizeof dir, "/proc/%d/fd", (int)d->proc->pid);
	int n = snprintf(want, sizeof want, "/memfd:hypercache-%s (deleted)", name);
	DIR *fds = opendir(dir);
	while (fds && fd < 0 && (e = readdir(fds))) {
		(void)snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
		if (readlink(path, is, sizeof is) == n && memcmp(is, want, (size_t)n) == 0)
			fd = open(path, O_RDWR | O_CLOEXEC);
	}
	if (fds)
		closedir(fds);
	if (fd < 0)
		t_fail(__FILE__, __LINE__, "no segment %s can be opened: %s", name,
			strerror(errno));
	return fd;
}

void t_daemon_wait_gone(pid_t pid)
{
	if (!t_pid_gone(pid, T_DAEMON_STOP_MS))
		t_fail(__FILE__, __LINE__, "the engine (pid %d) is still there", (int)pid);
	(void)waitpid(pid, NULL, WNOHANG); /* ours if its supervisor died before it */
}

pid_t t_daemon_kill_engine(struct t_daemon *d, int sig)
{
	pid_t pid = t_daemon_engine(d);
	int pidfd = pidfd_open(pid, 0);

	if (pidfd < 0 || pidfd_send_signal(pidfd, sig, NULL, 0) != 0)
		t_fail(__FILE__, __LINE__, "signal %d to the engine: %s", sig, strerror(errno));
	if (!t_wait_fd(pidfd, POLLIN, T_DAEMON_STOP_MS))
		t_fail(__FILE__, __LINE__, "the engine survived signal %d", sig);
	(void)close(pidfd);
	return pid;
}

pid_t t_daemon_wait_engine(struct t_daemon *d, pid_t former)
{
	int pid = (int)former;

	while (pid == former) { /* as often as the log has such lines, each wait with its limit */
		char *line = t_proc_line(d->proc, " serves after ", T_DAEMON_READY_MS);
		const char *at = strstr(line, "engine ");
		if (!at || sscanf(at, "engine %d serves", &pid) != 1)
			t_fail(__FILE__, __LINE__, "not as expected: %s", line);
		free(line);
	}
	return pid;
}

void t_daemon_all_die(struct t_daemon *d)
{
	t_proc_signal(d->proc, SIGSTOP); /* it is not to start another engine */
	pid_t engine = find_engine(d);
	if (engine)
		CHECK_EQ(kill(engine, SIGKILL), 0);
	t_proc_kill(d->proc, T_DAEMON_STOP_MS);
	if (engine)
		t_daemon_wait_gone(engine);
	t_proc_free(d->proc);
	d->proc = NULL;
}

void t_daemon_end(struct t_daemon *d)
{
	pid_t engine = find_engine(d);

	t_proc_signal(d->proc, SIGTERM);
	CHECK_EQ(t_proc_exit(d->proc, T_DAEMON_STOP_MS), 0);
	if (engine)
		t_daemon_wait_gone(engine);
	t_proc_free(d->proc);
	d->proc = NULL;
}

void t_daemon_again(struct t_daemon *d, const char *option, const char *const *env)
{
	daemon_spawn(d, option, env);
}

void t_daemon_free(struct t_daemon *d)
{
	if (d->proc)
		t_proc_free(d->proc);
	free(d);
}

void t_daemon_stop(struct t_daemon *d)
{
	pid_t engine = find_engine(d);

	t_proc_signal(d->proc, SIGTERM);
	CHECK_EQ(t_proc_exit(d->proc, T_DAEMON_STOP_MS), 0);
	if (engine)
		t_daemon_wait_gone(engine);
	t_daemon_free(d);
}

void t_daemon_kill(struct t_daemon *d)
{
	pid_t engine = find_engine(d);

	t_proc_kill(d->proc, T_DAEMON_STOP_MS);
	if (engine)
		t_daemon_wait_gone(engine);
	t_daemon_free(d);
}
