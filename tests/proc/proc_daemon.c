/* proc_daemon.c - the daemon from outside: start, refusal, second instances, the engine's deaths, the
 * admin socket, the end. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../../daemon/admin.h"
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "../kit/t_proc.h"
#include "hypercache.h"
#include "layout/l_client.h"
#include "layout/l_control.h"

enum { LIMIT_MS = 8000, KILL_MS = 20000, NOBODY = 65534 };

static bool exists(const char *path)
{
	struct stat st;
	return lstat(path, &st) == 0;
}

static void file_write(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");
	CHECK(f != NULL);
	fputs(text, f);
	CHECK_EQ(fclose(f), 0);
}

/* Runs `hypercached --config FILE` with this text, which must end by itself.  Its exit status; *ret_err
 * is what it wrote to standard error, for the caller to free. */
static int run_config(const char *yaml, char **ret_err)
{
	const char *path = t_path("own.yaml");

	file_write(path, yaml);
	return t_run((const char *[]){t_bin("hypercached"), "--config", path, NULL}, NULL, 0, NULL,
		NULL, ret_err, LIMIT_MS);
}

/* A daemon with these folders and `more` must refuse to start and say `text`. */
static void check_refused(const char *socket, const char *data, const char *more, const char *text)
{
	char yaml[2048], *err;

	(void)snprintf(yaml, sizeof yaml, "socket: %s\ndata_dir: %s\n%s", socket, data, more);
	int status = run_config(yaml, &err);
	if (status != 1 || !strstr(err, text))
		t_fail(__FILE__, __LINE__, "status %d, no \"%s\" in: %s", status, text, err);
	free(err);
}

static int cli(
	const struct t_daemon *d, const char *verb, const char *a, const char *b, char **ret_out)
{
	return t_run((const char *[]){t_bin("hypercache"), "--socket", d->socket, "--admin",
			     d->admin, verb, a, b, NULL},
		NULL, 0, ret_out, NULL, NULL, LIMIT_MS);
}

/* ------------------------------------------------------------------ start, stop */

TEST(it_says_once_that_it_is_ready_and_leaves_nothing_behind)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	char want[T_PATH_BYTES + 64];
	struct stat st;

	(void)snprintf(want, sizeof want, "hypercached: ready on %s\n", d->socket);
	CHECK_STR(d->proc->out.text, want);
	CHECK_EQ(stat(d->data, &st), 0);
	CHECK_EQ(st.st_mode & 0777, 0700);
	CHECK_EQ(stat(d->socket, &st), 0);
	CHECK_EQ(st.st_mode & 0777, geteuid() == 0 ? 0666 : 0600);
	CHECK(exists(d->admin));
	t_proc_signal(d->proc, SIGTERM);
	CHECK_EQ(t_proc_exit(d->proc, LIMIT_MS), 0);
	CHECK_STR(d->proc->out.text, want);
	CHECK(!exists(d->socket) && !exists(d->admin));
	t_daemon_free(d);
}

/* A socket as a service manager's, at a path or, with '@', without one. */
static int manager_open(const char *name)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0 && strlen(name) < sizeof a.sun_path);
	memcpy(a.sun_path, name, strlen(name));
	if (name[0] == '@')
		a.sun_path[0] = 0;
	CHECK_EQ(bind(fd, (struct sockaddr *)&a,
			 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))),
		0);
	return fd;
}

/* The next word to the manager is this one. */
static void check_told(int manager, const char *want)
{
	struct pollfd p = {.fd = manager, .events = POLLIN};
	char got[64] = "";

	CHECK_EQ(poll(&p, 1, LIMIT_MS), 1);
	CHECK(recv(manager, got, sizeof got - 1, MSG_DONTWAIT) > 0);
	CHECK_STR(got, want);
}

TEST(a_service_manager_is_told_once_when_it_serves_and_when_it_stops)
{
	char abstract[T_PATH_BYTES];

	(void)snprintf(abstract, sizeof abstract, "@hypercache-test-%d", (int)getpid());
	const char *const names[] = {t_path("manager"), abstract};
	for (int i = 0; i < 2; i++) {
		char variable[T_PATH_BYTES + 32];
		int manager = manager_open(names[i]);
		(void)snprintf(variable, sizeof variable, "NOTIFY_SOCKET=%s", names[i]);
		struct t_daemon *d = t_daemon_start(NULL, (const char *[]){variable, NULL});
		check_told(manager, "READY=1");
		pid_t former = t_daemon_kill_engine(d, SIGKILL);
		(void)t_daemon_wait_engine(d, former);
		t_daemon_stop(d);
		check_told(manager, "STOPPING=1");
		CHECK_EQ(recv(manager, variable, sizeof variable, MSG_DONTWAIT), -1);
		CHECK_EQ(close(manager), 0);
	}
}

TEST(a_terminals_signals_stop_it_in_order)
{
	static const int stop[] = {SIGINT, SIGTERM};

	for (int i = 0; i < 2; i++) {
		struct t_daemon *d = t_daemon_start(NULL, NULL);
		pid_t engine = t_daemon_engine(d);
		CHECK_EQ(kill(engine, stop[i]),
			0); /* goes to both: the engine waits for its parent */
		CHECK_EQ(cli(d, "ping", NULL, NULL, NULL), 0);
		CHECK_EQ(t_daemon_engine(d), engine);
		t_proc_signal(d->proc, stop[i]);
		CHECK_EQ(t_proc_exit(d->proc, LIMIT_MS), 0);
		CHECK(strstr(d->proc->err.text, "has ended"));
		t_daemon_free(d);
	}
}

TEST_LIMIT(an_engine_that_does_not_end_is_killed, 40)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	pid_t engine = t_daemon_engine(d);

	CHECK_EQ(kill(engine, SIGSTOP), 0);
	t_proc_signal(d->proc, SIGTERM);
	CHECK_EQ(t_proc_exit(d->proc, KILL_MS), 0);
	CHECK(strstr(d->proc->err.text, "was told to end and did not"));
	CHECK(t_pid_gone(engine, LIMIT_MS));
	CHECK(!exists(d->socket));
	t_daemon_free(d);
}

static unsigned long switches(pid_t pid)
{
	char path[64], line[256];
	unsigned long n = 0;
	bool found = false;

	(void)snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
	FILE *f = fopen(path, "re");
	CHECK(f != NULL);
	while (fgets(line, sizeof line, f) && !found)
		found = sscanf(line, "voluntary_ctxt_switches: %lu", &n) == 1;
	fclose(f);
	CHECK(found);
	return n;
}

TEST(an_idle_daemon_lets_the_machine_sleep)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	pid_t engine = t_daemon_engine(d);
	unsigned long sup = switches(d->proc->pid), eng = switches(engine);

	CHECK(!t_wait_fd(d->proc->pidfd, POLLIN, 2000)); /* the time is what is measured */
	CHECK(switches(d->proc->pid) <= sup + 1);        /* it may just have gone to sleep */
	CHECK(switches(engine) - eng <= (unsigned long)(t_limit_ms(2000) / 1000 * 5));
	t_daemon_stop(d);
}

/* ------------------------------------------------------------------- second ones */

TEST(a_second_daemon_on_the_folder_is_refused_by_name)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	char want[128];

	(void)snprintf(
		want, sizeof want, "in use by the hypercached with pid %d", (int)d->proc->pid);
	check_refused(t_path("other"), d->data, "", want);
	CHECK(!exists(t_path("other")));
	t_daemon_stop(d);
}

TEST(a_living_daemons_socket_is_not_taken_away)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);

	check_refused(d->socket, t_path("data2"), "", "another program answers at ");
	CHECK_EQ(cli(d, "ping", NULL, NULL, NULL), 0);
	t_daemon_stop(d);
}

TEST(what_is_no_socket_is_left_alone)
{
	const char *path = t_path("file");

	file_write(path, "mine");
	check_refused(path, t_path("data"), "", "is no socket");
	CHECK(exists(path));
}

TEST(a_dead_daemons_socket_is_removed)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	char config[T_PATH_BYTES], socket[T_PATH_BYTES];

	(void)snprintf(config, sizeof config, "%s", d->config);
	(void)snprintf(socket, sizeof socket, "%s", d->socket);
	t_daemon_kill(d);
	CHECK(exists(socket));
	struct t_proc *p = t_spawn(
		(const char *[]){t_bin("hypercached"), "--config", config, NULL}, NULL);
	free(t_proc_line(p, "which a dead daemon had left", LIMIT_MS));
	free(t_proc_line(p, "hypercached: ready on ", LIMIT_MS));
	t_proc_signal(p, SIGTERM);
	CHECK_EQ(t_proc_exit(p, LIMIT_MS), 0);
	t_proc_free(p);
	CHECK(!exists(socket));
}

/* -------------------------------------------------------------------- refusals */

TEST(folders_that_others_may_change_are_refused)
{
	const char *open_dir = t_path("open");
	const char *socket = t_path("open/s");

	CHECK_EQ(mkdir(open_dir, 0700), 0);
	CHECK_EQ(chmod(open_dir, 0777), 0);
	check_refused(t_path("s"), open_dir, "", "run `chmod go-w ");
	check_refused(socket, t_path("data"), "", "others may write to the folder");
	CHECK_EQ(chmod(open_dir, 01777), 0); /* sticky, as /tmp is */
	check_refused(socket, "/proc/none/data", "", "cannot create the folder /proc");
}

TEST(another_users_folders_are_refused)
{
	const char *dir = t_path("others");

	if (geteuid() != 0)
		SKIP("not run by root");
	CHECK_EQ(mkdir(dir, 0755), 0);
	CHECK_EQ(chown(dir, NOBODY, NOBODY), 0);
	check_refused(t_path("s"), dir, "", "belongs to user 65534");
}

TEST(without_the_right_to_a_folder_it_says_which)
{
	if (geteuid() != 0)
		SKIP("not run by root");
	const char *config = t_path("c.yaml");
	char text[T_PATH_BYTES * 3];
	/* The daemon's user can reach t_dir() but not write there. */
	CHECK_EQ(chmod(t_dir(), 0755), 0);
	(void)snprintf(text, sizeof text, "socket: %s/s\ndata_dir: %s/data\n", t_dir(), t_dir());
	file_write(config, text);
	CHECK_EQ(chmod(config, 0644), 0);
	struct t_proc *p = t_spawn((const char *[]){t_bin("hypercached"), "--config", config, NULL},
		&(struct t_spawn_opts){.uid = NOBODY});
	CHECK_EQ(t_proc_exit(p, LIMIT_MS), 1);
	CHECK(strstr(p->err.text, "cannot create the folder ") && strstr(p->err.text, "/data"));
	CHECK_EQ(p->out.bytes, 0u);
	t_proc_free(p);
}

TEST(more_memory_than_there_is_is_refused)
{
	check_refused(t_path("s"), t_path("data"),
		"pools: { main: { size: 1TiB, huge_pages: off } }\n",
		"pool main: 1048576 MiB are needed");
	CHECK(!exists(t_path("s")));
}

TEST(huge_pages_on_or_no_start)
{
	check_refused(t_path("s"), t_path("data"),
		"pools: { main: { size: 512GiB, huge_pages: on } }\n",
		"262144 huge pages of 2 MiB are needed");
	check_refused(t_path("s"), t_path("data"),
		"pools: { main: { size: 512GiB, huge_pages: on } }\n",
		"run `sysctl vm.nr_hugepages=");
}

TEST(try_says_in_the_log_and_to_tools_what_it_got)
{
	static const char *const names[] = {
		"huge pages of 2 MiB", "transparent huge pages", "base pages"};
	static const char *const backings[] = {"\"huge-2m\"", "\"thp\"", "\"base\""};
	struct t_daemon *d = t_daemon_start(
		"pools: { main: { size: 9MiB, huge_pages: try } }\n", NULL);
	char *out, *line = strstr(d->proc->err.text, "pool main: 10 MiB of ");
	int found = -1;

	CHECK(line != NULL);
	line += strlen("pool main: 10 MiB of ");
	for (int i = 0; i < 3; i++)
		if (strncmp(line, names[i], strlen(names[i])) == 0)
			found = i;
	CHECK(found >= 0);
	if (found > 0)
		CHECK(strstr(line, "better: sysctl vm.nr_hugepages="));
	CHECK_EQ(cli(d, "stat", "--json", NULL, &out), 0);
	CHECK(strstr(out, backings[found]) && strstr(out, names[found]));
	free(out);
	t_daemon_stop(d);
}

TEST(a_wrong_configuration_is_named_with_its_place)
{
	char *err;

	CHECK_EQ(run_config("max_clients: 5\nno_such_key: 1\n", &err), 2);
	CHECK(strstr(err, "own.yaml:2:1: "));
	free(err);
	CHECK_EQ(t_run((const char *[]){t_bin("hypercached"), "--config", t_path("none"), NULL},
			 NULL, 0, NULL, NULL, &err, LIMIT_MS),
		2);
	CHECK(strstr(err, "none"));
	free(err);
}

/* Runs hypercached with one option; its exit status and output. */
static int run_option(const char *option, const char *more, char **ret_out)
{
	return t_run((const char *[]){t_bin("hypercached"), option, more, NULL}, NULL, 0, ret_out,
		NULL, NULL, LIMIT_MS);
}

TEST(the_options_answer_and_end)
{
	char *out;

	CHECK_EQ(run_option("--version", NULL, &out), 0);
	CHECK(strstr(out, hc_version()));
	free(out);
	CHECK_EQ(run_option("--help", NULL, &out), 0);
	CHECK(strstr(out, "--config FILE") && strstr(out, "Exit status"));
	free(out);
	CHECK_EQ(run_option("--help-config", NULL, &out), 0);
	CHECK(strstr(out, "max_clients"));
	free(out);
	CHECK_EQ(run_option("--man-config", NULL, &out), 0);
	CHECK(strstr(out, ".Dt HYPERCACHE.YAML 5"));
	free(out);
	CHECK_EQ(run_option("--check-config", NULL, &out), 0);
	free(out);
	CHECK_EQ(run_option("--print-config", NULL, &out), 0);
	file_write(t_path("printed.yaml"), out);
	free(out);
	char path[T_PATH_BYTES];
	(void)snprintf(path, sizeof path, "--config=%s", t_path("printed.yaml"));
	CHECK_EQ(run_option("--check-config", path, &out), 0);
	free(out);
	CHECK_EQ(run_option("--no-such", NULL, &out), 2);
	free(out);
	CHECK_EQ(run_option("word", NULL, &out), 2);
	free(out);
}

/* -------------------------------------------------------------- the engine's deaths */

/* Waits until another engine than `old` serves. */
static void wait_served(struct t_daemon *d, pid_t old)
{
	char want[64];

	free(t_proc_line(d->proc, "another engine follows in ", LIMIT_MS));
	free(t_proc_line(d->proc, " serves after ", LIMIT_MS));
	(void)snprintf(want, sizeof want, "engine %d died", (int)old);
	CHECK(strstr(d->proc->err.text, want));
	CHECK(t_daemon_engine(d) != old);
}

TEST(a_dead_engine_is_followed_by_another_on_the_same_memory)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	char *out;

	free(t_proc_line(d->proc, " serves after ", LIMIT_MS)); /* the first one's */
	CHECK_EQ(cli(d, "set", "key", "kept", NULL), 0);
	wait_served(d, t_daemon_kill_engine(d, SIGKILL));
	CHECK(strstr(d->proc->err.text, "died of signal 9 (SIGKILL)"));
	CHECK_EQ(cli(d, "get", "key", NULL, &out), 0);
	CHECK_STR(out, "kept");
	free(out);
	CHECK_EQ(cli(d, "set", "key", "new", NULL), 0);
	CHECK_EQ(cli(d, "fsck", NULL, NULL, NULL), 0);
	CHECK_EQ(d->proc->out.bytes, strlen("hypercached: ready on \n") + strlen(d->socket));
	t_daemon_stop(d);
}

TEST(last_words_of_an_engine_are_shown)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	char want[64];

	free(t_proc_line(d->proc, " serves after ", LIMIT_MS));
	pid_t first = t_daemon_kill_engine(d, SIGSEGV);
	wait_served(d, first);
	(void)snprintf(want, sizeof want, "signal SIGSEGV, sent by process %d", (int)getpid());
	CHECK(strstr(d->proc->err.text, "engine's last words: "));
	CHECK(strstr(d->proc->err.text, want));
	CHECK(strstr(d->proc->err.text, "engine's last words: backtrace:"));
	CHECK(strstr(d->proc->err.text, "hypercached(+0x"));
	/* The next one's words are its own. */
	size_t before = d->proc->err.bytes;
	wait_served(d, t_daemon_kill_engine(d, SIGKILL));
	CHECK(!strstr(d->proc->err.text + before, "last words"));
	t_daemon_stop(d);
}

TEST(after_restart_limit_crashes_in_a_row_it_gives_up)
{
	struct t_daemon *d = t_daemon_start("restart_limit: 3\nrestart_backoff_max: 100ms\n", NULL);

	free(t_proc_line(d->proc, " serves after ", LIMIT_MS));
	wait_served(d, t_daemon_kill_engine(d, SIGKILL));
	wait_served(d, t_daemon_kill_engine(d, SIGKILL));
	CHECK(strstr(d->proc->err.text, "follows in 10 ms (crash 1 of 3"));
	CHECK(strstr(d->proc->err.text, "follows in 20 ms (crash 2 of 3"));
	(void)t_daemon_kill_engine(d, SIGKILL);
	CHECK_EQ(t_proc_exit(d->proc, LIMIT_MS), 3);
	CHECK(strstr(d->proc->err.text, "crashed 3 times in a row; giving up"));
	CHECK(!exists(d->socket) && !exists(d->admin));
	t_daemon_free(d);
}

TEST(a_view_outlives_the_engine_and_its_session_is_handed_on)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct t_daemon *d = t_daemon_start("log_level: debug\n", NULL);
	struct hc_store *s;
	struct hc_view v;
	struct hc *hc;

	free(t_proc_line(d->proc, " serves after ", LIMIT_MS));
	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(LIMIT_MS);
	CHECK_EQ(hc_open(&hc, &o), HC_OK);
	CHECK_EQ(hc_store(hc, "default", &s), HC_OK);
	CHECK_EQ(hc_set(s, "k", 1, "first", 5, NULL), HC_OK);
	CHECK_EQ(hc_view(s, "k", 1, &v), HC_OK);
	CHECK_EQ(hc_set(s, "k", 1, "other", 5, NULL), HC_OK);
	pid_t old = t_daemon_kill_engine(d, SIGKILL);
	free(t_proc_line(d->proc, "on this memory, with 1 sessions", LIMIT_MS));
	free(t_proc_line(d->proc, " serves after ", LIMIT_MS));
	CHECK(t_daemon_engine(d) != old);
	for (int i = 0; i < 200; i++) /* would use the place again */
		CHECK_EQ(hc_set(s, "k", 1, "third", 5, NULL), HC_OK);
	CHECK_EQ(hc_view_ok(&v), 1);
	CHECK(memcmp(v.value, "first", 5) == 0);
	CHECK_EQ(hc_view_release(&v), HC_OK);
	hc_close(hc);
	t_daemon_stop(d);
}

TEST(a_supervisor_that_crashes_says_why)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	pid_t engine = t_daemon_engine(d);

	t_proc_signal(d->proc, SIGSEGV);
	CHECK_EQ(t_proc_exit(d->proc, LIMIT_MS), 128 + SIGSEGV);
	CHECK(strstr(d->proc->err.text, "signal SIGSEGV, sent by process "));
	CHECK(strstr(d->proc->err.text, "backtrace:"));
	CHECK(t_pid_gone(engine, LIMIT_MS));
	t_daemon_free(d);
}

TEST(the_engine_ends_when_its_supervisor_is_killed)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);

	t_daemon_kill(d); /* waits for both */
}

/* ------------------------------------------------------------------- admin socket */

struct answer {
	struct admin_answer a;
	int fd[ADMIN_FDS_MAX];
};

static int admin_connect(const struct t_daemon *d)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	(void)snprintf(a.sun_path, sizeof a.sun_path, "%.107s", d->admin);
	CHECK_EQ(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
	return fd;
}

/* The next packet; false at the end. */
static bool admin_receive(int fd, struct answer *ret)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof ret->fd)];
	struct iovec part = {&ret->a, sizeof ret->a};
	struct msghdr m = {.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof control};

	CHECK(t_wait_fd(fd, POLLIN, LIMIT_MS));
	ssize_t n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
	if (n <= 0)
		return false;
	CHECK_EQ(n, (ssize_t)sizeof ret->a);
	CHECK_EQ(m.msg_flags & (MSG_TRUNC | MSG_CTRUNC), 0);
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	CHECK_EQ(c ? (c->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0u, ret->a.n_fds);
	if (c)
		memcpy(ret->fd, CMSG_DATA(c), ret->a.n_fds * sizeof(int));
	return true;
}

static void admin_ask(const struct t_daemon *d, struct answer *ret)
{
	int fd = admin_connect(d);

	CHECK_EQ(send(fd, ADMIN_REQUEST, strlen(ADMIN_REQUEST), 0), (ssize_t)strlen(ADMIN_REQUEST));
	CHECK(admin_receive(fd, ret));
	CHECK_EQ(ret->a.last, 1u);
	close(fd);
}

static void answer_close(struct answer *a)
{
	for (uint32_t i = 0; i < a->a.n_fds; i++)
		close(a->fd[i]);
}

TEST(tools_get_descriptors_that_can_only_be_read)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct answer a;
	struct hc *hc;

	o.socket = d->socket;
	CHECK_EQ(hc_open(&hc, &o), HC_OK);
	admin_ask(d, &a);
	CHECK_EQ(a.a.magic, ADMIN_MAGIC);
	CHECK_EQ(a.a.kind, ADMIN_DESCRIPTORS);
	CHECK_EQ(a.a.daemon_pid, (int)d->proc->pid);
	CHECK_EQ(a.a.engine_pid, (int)t_daemon_engine(d));
	CHECK_STR(a.a.socket, d->socket);
	CHECK_EQ(a.a.n_fds, 4u);
	for (uint32_t i = 0; i < 4; i++) {
		static const uint32_t kinds[] = {
			SHM_KIND_CONTROL, SHM_KIND_JOURNAL, SHM_KIND_POOL, SHM_KIND_CLIENT};
		CHECK_EQ(a.a.fd[i].kind, kinds[i]);
		CHECK_EQ(fcntl(a.fd[i], F_GETFL) & O_ACCMODE, O_RDONLY);
		CHECK(mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, a.fd[i], 0) == MAP_FAILED);
		void *p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, a.fd[i], 0);
		CHECK(p != MAP_FAILED);
		CHECK_EQ(mprotect(p, 4096, PROT_READ | PROT_WRITE), -1);
		CHECK_EQ(((const struct shm_segment *)p)->kind, kinds[i]);
		CHECK_EQ(munmap(p, 4096), 0);
	}
	CHECK_EQ(a.a.fd[3].pid, (int)getpid());
	CHECK_EQ(a.a.fd[3].uid, geteuid());
	answer_close(&a);
	hc_close(hc);
	t_daemon_stop(d);
}

TEST(a_tool_does_not_keep_a_dead_clients_session)
{
	struct t_daemon *d = t_daemon_start("log_level: debug\n", NULL);
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct answer a;
	struct hc *hc;
	int ready[2];
	char byte;

	o.socket = d->socket;
	CHECK_EQ(pipe2(ready, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		if (hc_open(&hc, &o) != HC_OK || write(ready[1], "r", 1) != 1)
			_exit(1);
		(void)pause();
		_exit(2);
	}
	CHECK_EQ(read(ready[0], &byte, 1), 1);
	admin_ask(d, &a);
	CHECK_EQ(a.a.n_fds, 4u);
	void *p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, a.fd[3], 0);
	CHECK(p != MAP_FAILED);
	CHECK_EQ(kill(pid, SIGKILL), 0);
	(void)t_wait_child(pid, LIMIT_MS);
	/* The engine hears of the death although we still hold and map the segment. */
	free(t_proc_line(d->proc, " dropped from slot ", LIMIT_MS));
	CHECK_EQ(munmap(p, 4096), 0);
	answer_close(&a);
	admin_ask(d, &a);
	CHECK_EQ(a.a.n_fds, 3u);
	answer_close(&a);
	close(ready[0]);
	close(ready[1]);
	t_daemon_stop(d);
}

TEST(many_sessions_come_in_several_packets)
{
	enum { N = 100 };
	struct t_daemon *d = t_daemon_start("threads_per_client: 1\n", NULL);
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	int sessions = 0, packets = 0, fd;
	struct hc *hc[N];
	struct answer a;

	o.socket = d->socket;
	for (int i = 0; i < N; i++)
		CHECK_EQ(hc_open(&hc[i], &o), HC_OK);
	fd = admin_connect(d);
	CHECK_EQ(send(fd, ADMIN_REQUEST, strlen(ADMIN_REQUEST), 0), (ssize_t)strlen(ADMIN_REQUEST));
	do {
		CHECK(admin_receive(fd, &a));
		packets++;
		for (uint32_t i = 0; i < a.a.n_fds; i++)
			sessions += a.a.fd[i].kind == SHM_KIND_CLIENT;
		answer_close(&a);
	} while (!a.a.last);
	CHECK_EQ(sessions, N);
	CHECK_EQ(packets, 2);
	CHECK(!admin_receive(fd, &a)); /* it closes */
	close(fd);
	for (int i = 0; i < N; i++)
		hc_close(hc[i]);
	t_daemon_stop(d);
}

TEST(tools_that_hang_or_babble_cost_nothing)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	int fd[ADMIN_CONNECTIONS];
	struct answer a;

	for (int i = 0; i < ADMIN_CONNECTIONS; i++)
		fd[i] = admin_connect(d); /* and ask nothing */
	int more = admin_connect(d);
	CHECK(admin_receive(more, &a));
	CHECK_EQ(a.a.kind, ADMIN_DENIED);
	CHECK(strstr(a.a.text, "too many"));
	close(more);
	CHECK_EQ(cli(d, "ping", NULL, NULL, NULL), 0);
	for (int i = 0; i < ADMIN_CONNECTIONS; i++) {
		CHECK(t_wait_fd(fd[i], POLLIN, LIMIT_MS)); /* it hangs up at the limit */
		CHECK_EQ(recv(fd[i], &a, sizeof a, 0), 0);
		close(fd[i]);
	}
	more = admin_connect(d);
	CHECK_EQ(send(more, "give me everything\n", 19, 0), 19);
	CHECK(admin_receive(more, &a));
	CHECK_EQ(a.a.kind, ADMIN_BAD);
	CHECK_EQ(a.a.n_fds, 0u);
	close(more);
	t_daemon_stop(d);
}

TEST(other_users_are_denied_unless_admin_uids_names_them)
{
	if (geteuid() != 0)
		SKIP("not run by root");
	CHECK_EQ(chmod(t_dir(), 0711), 0);
	for (int named = 0; named < 2; named++) {
		struct t_daemon *d = t_daemon_start(named ? "admin_uids: 65534\n" : NULL, NULL);
		CHECK_EQ(chmod(d->dir, 0711), 0);
		struct t_proc *p = t_spawn(
			(const char *[]){t_bin("hypercache"), "stat", "--admin", d->admin, NULL},
			&(struct t_spawn_opts){.uid = NOBODY});
		CHECK_EQ(t_proc_exit(p, LIMIT_MS), named ? 0 : 4);
		if (!named)
			CHECK(strstr(p->err.text, "user 65534 may not: only root, user 0"));
		t_proc_free(p);
		t_daemon_stop(d);
	}
}

/* ---------------------------------------------------------------- without root */

TEST(few_descriptors_mean_fewer_clients_and_it_says_so)
{
	const char *config = t_path("c.yaml"), *home = t_path("home");
	char text[T_PATH_BYTES * 3], command[T_PATH_BYTES * 2];

	if (geteuid() != 0)
		SKIP("not run by root");
	CHECK_EQ(chmod(t_dir(), 0711), 0);
	CHECK_EQ(mkdir(home, 0700), 0);
	CHECK_EQ(chown(home, NOBODY, NOBODY), 0);
	(void)snprintf(text, sizeof text,
		"socket: %s/s\ndata_dir: %s/data\nmax_clients: 4000\n"
		"pools: { main: { size: 8MiB, huge_pages: off } }\n",
		home, home);
	file_write(config, text);
	CHECK_EQ(chmod(config, 0644), 0);
	(void)snprintf(command, sizeof command, "ulimit -n 400; exec %s --config %s",
		t_bin("hypercached"), config);
	struct t_proc *p = t_spawn((const char *[]){"/bin/sh", "-c", command, NULL},
		&(struct t_spawn_opts){.uid = NOBODY}); /* root could raise the limit */
	free(t_proc_line(p, "only 48 clients instead of max_clients = 4000", LIMIT_MS));
	free(t_proc_line(p, "hypercached: ready on ", LIMIT_MS));
	t_proc_signal(p, SIGTERM);
	CHECK_EQ(t_proc_exit(p, LIMIT_MS), 0);
	t_proc_free(p);
}

TEST(it_works_for_a_user_without_rights)
{
	if (geteuid() != 0)
		SKIP("not run by root");
	const char *home = t_path("home");
	char runtime[T_PATH_BYTES + 32], state[T_PATH_BYTES + 32], want[T_PATH_BYTES + 64];

	CHECK_EQ(chmod(t_dir(), 0711), 0);
	CHECK_EQ(mkdir(home, 0700), 0);
	CHECK_EQ(chown(home, NOBODY, NOBODY), 0);
	(void)snprintf(runtime, sizeof runtime, "XDG_RUNTIME_DIR=%s", home);
	(void)snprintf(state, sizeof state, "XDG_STATE_HOME=%s/state", home);
	const struct t_spawn_opts opts = {
		.uid = NOBODY, .env = (const char *[]){runtime, state, "HYPERCACHE_SOCKET", NULL}};
	struct t_proc *p = t_spawn((const char *[]){t_bin("hypercached"), NULL}, &opts);
	(void)snprintf(
		want, sizeof want, "hypercached: ready on %s/hypercache/hypercache.sock", home);
	char *line = t_proc_line(p, "hypercached: ready on ", LIMIT_MS);
	CHECK_STR(line, want);
	free(line);
	static const char *const verbs[] = {"ping", "stat", "clients", "fsck"};
	for (int i = 0; i < 4; i++) {
		struct t_proc *tool = t_spawn(
			(const char *[]){t_bin("hypercache"), verbs[i], NULL}, &opts);
		CHECK_EQ(t_proc_exit(tool, LIMIT_MS), 0);
		t_proc_free(tool);
	}
	t_proc_signal(p, SIGTERM);
	CHECK_EQ(t_proc_exit(p, LIMIT_MS), 0);
	t_proc_free(p);
}
