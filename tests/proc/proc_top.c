/* proc_top - `hypercache top` in a real terminal, tmux's, as somebody sees it; and without one.
 *
 * Planted bugs (shm/step.h) that this file must catch: 828, 829, 830.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>
#include "cli_run.h"
#include "hypercache.h"

enum { SCREEN_BYTES = 1 << 16, LOOK_MS = 50 };
static const char config[] = "heartbeat: 100ms\n"
			     "pools:\n  main: { size: 16MiB, huge_pages: \"off\" }\n"
			     "stores: { default: {}, alpha: {}, beta: { max_entries: 3 } }\n";

/* ------------------------------------------------------------ a terminal */

struct terminal {
	struct t_proc *server;
	char path[T_PATH_BYTES];
	char screen[SCREEN_BYTES];
};

static const char *tmux_path(void)
{
	static const char path[] = "/usr/bin/tmux";

	if (access(path, X_OK) != 0)
		SKIP("tmux is not installed");
	return path;
}

static int tmux(struct terminal *t, const char *const *args)
{
	const char *argv[ARGS_MAX + 8] = {tmux_path(), "-S", t->path};
	char *out, *err;
	size_t bytes;
	int n = 3;

	for (int i = 0; args[i]; i++)
		argv[n++] = args[i];
	int status = t_run(argv, NULL, 0, &out, &bytes, &err, LIMIT_MS);
	CHECK(bytes < sizeof t->screen);
	memcpy(t->screen, out, bytes);
	t->screen[bytes] = 0;
	free(out);
	free(err);
	return status;
}

static void press(struct terminal *t, const char *key)
{
	CHECK_EQ(tmux(t, ARGS("send-keys", key)), 0);
}

/* Waits until the screen has `text`, and not `but` (NULL: whatever). */
static void see_but(struct terminal *t, const char *text, const char *but, int line)
{
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(LIMIT_MS) * 1000000;

	do {
		CHECK_EQ(tmux(t, ARGS("capture-pane", "-p")), 0);
		if ((!text || strstr(t->screen, text)) && (!but || !strstr(t->screen, but)))
			return;
	} while (t_now_ns() < end_ns);
	t_fail(__FILE__, line, "not \"%s\" without \"%s\" on the screen:\n%s", text ? text : "",
		but ? but : "", t->screen);
}
#define SEE(t, text) see_but(t, text, NULL, __LINE__)
#define SEE_BUT(t, text, but) see_but(t, text, but, __LINE__)

/* A shell of its own, in a terminal of that size. */
static struct terminal terminal_open(const char *columns, const char *lines)
{
	static const char *const env[] = {"TMUX", "PS1=prompt> ", "LC_ALL=C.UTF-8", "ENV",
		"NO_COLOR", "TERM=xterm-256color", NULL};
	struct terminal t = {0};

	(void)snprintf(t.path, sizeof t.path, "%s", t_path("tmux"));
	t.server = t_spawn(
		(const char *[]){tmux_path(), "-D", "-S", t.path, "-f", "/dev/null", NULL},
		&(struct t_spawn_opts){.env = env});
	t_wait_path(t.path, true, LIMIT_MS);
	CHECK_EQ(tmux(&t, ARGS("new-session", "-d", "-x", columns, "-y", lines, "/bin/sh")), 0);
	CHECK_EQ(tmux(&t, ARGS("send-keys", "PS1='pro''mpt> '", "Enter")), 0);
	SEE(&t, "prompt>");
	return t;
}

static void terminal_close(struct terminal *t)
{
	pid_t shell;

	CHECK_EQ(t_children(t->server->pid, &shell, 1), 1);
	(void)tmux(t, ARGS("kill-server"));
	(void)t_proc_exit(t->server, LIMIT_MS);
	t_proc_free(t->server);
	CHECK(t_pid_gone(shell, LIMIT_MS));
}

static void top_start(struct terminal *t, const struct t_daemon *d, const char *more)
{
	char command[1024];

	(void)snprintf(command, sizeof command, "clear; %s --admin %s top --interval 100ms %s",
		t_bin("hypercache"), d->admin, more);
	CHECK_EQ(tmux(t, ARGS("send-keys", command, "Enter")), 0);
}

/* The shell is back, and echoes what is typed. */
static void see_echo(struct terminal *t, const char *number)
{
	char command[64], sum[64];

	SEE(t, "prompt>");
	(void)snprintf(command, sizeof command, "echo sum-$((%s + 1))", number);
	CHECK_EQ(tmux(t, ARGS("send-keys", command, "Enter")), 0);
	SEE(t, command);
	(void)snprintf(sum, sizeof sum, "sum-%d", atoi(number) + 1);
	SEE(t, sum);
}

/* The same, on a screen as before. */
static void see_shell(struct terminal *t, const char *number)
{
	SEE_BUT(t, "prompt>", "q quit");
	see_echo(t, number);
}

/* No line is longer than the terminal, and the last one is not empty. */
static void check_size(const struct terminal *t, size_t columns, size_t lines)
{
	size_t n = 0, x = 0;

	for (const char *at = t->screen; *at; at++) {
		x = *at == '\n' ? 0 : x + 1;
		n += *at == '\n';
		CHECK(x <= columns);
	}
	CHECK_EQ(n, lines);
}

/* Does a stand above b? */
static bool is_above(const struct terminal *t, const char *a, const char *b)
{
	const char *x = strstr(t->screen, a), *y = strstr(t->screen, b);

	CHECK(x && y);
	return x < y;
}

/* ------------------------------------------------------------ something to see */

static struct hc *fill(const struct t_daemon *d)
{
	static const char *const stores[] = {"default", "alpha", "beta"};
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	char key[32], buf[16];
	struct hc_store *s;
	struct hc *hc;

	o.socket = d->socket;
	o.name = "the-reader";
	o.timeout_ms = (uint32_t)t_limit_ms(LIMIT_MS);
	CHECK_EQ(hc_open(&hc, &o), HC_OK);
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(hc_store(hc, stores[i], &s), HC_OK);
		for (int k = 0; k < 5 * (i + 1); k++) {
			int n = snprintf(key, sizeof key, "key-%d", k);
			CHECK_EQ(hc_set(s, key, (size_t)n, "value", 5, NULL), HC_OK);
			for (int j = 0; j < 20; j++)
				(void)hc_get(s, key, (size_t)n, buf, sizeof buf, NULL);
		}
	}
	return hc;
}

/* ------------------------------------------------------------ tests */

TEST(views_sort_filter_help_and_the_end)
{
	struct t_daemon *d = t_daemon_start(config, NULL);
	struct terminal t = terminal_open("80", "24");
	struct hc *hc = fill(d);

	top_start(&t, d, "");
	SEE(&t, "sort: hits/s, high first");
	SEE(&t, "engine serving");
	check_size(&t, 80, 24);
	SEE(&t, "store            hits/s  ratio 1s");
	press(&t, "<");
	press(&t, "<"); /* past the first column: the last one that is shown */
	SEE(&t, "sort: health");
	press(&t, ">");
	SEE(&t, "sort: store, low first");
	CHECK(is_above(&t, "\nalpha", "\nbeta") && is_above(&t, "\nbeta", "\ndefault"));
	press(&t, "r");
	SEE(&t, "sort: store, high first");
	CHECK(is_above(&t, "\nbeta", "\nalpha") && is_above(&t, "\ndefault", "\nbeta"));
	press(&t, "/");
	SEE(&t, "filter: _");
	CHECK_EQ(tmux(&t, ARGS("send-keys", "ALPH", "Enter")), 0);
	SEE_BUT(&t, "filter: ALPH (1 of 3 rows", "\nbeta");
	press(&t, "Escape");
	SEE(&t, "\nbeta");
	press(&t, "h");
	SEE_BUT(&t, "a ratio is hits of reads", "\nbeta");
	press(&t, "x");
	SEE(&t, "\nbeta");
	press(&t, "2");
	SEE(&t, "\nthe-reader");
	press(&t, "3");
	SEE(&t, "\nmain       [");
	press(&t, "4");
	SEE(&t, "key-");
	press(&t, "5");
	SEE(&t, "\nadopt ");
	press(&t, "Tab");
	SEE(&t, "adopt_dropped");
	press(&t, "NPage");
	SEE_BUT(&t, "\nlog_segment ", "adopt_dropped");
	press(&t, "Space");
	SEE(&t, "paused");
	press(&t, "p");
	SEE_BUT(&t, "every 100.0 ms", "paused");
	press(&t, "+");
	SEE(&t, "every 200.0 ms");
	press(&t, "q");
	see_shell(&t, "41");
	hc_close(hc);
	terminal_close(&t);
	t_daemon_stop(d);
}

TEST(a_wider_terminal_shows_more_and_any_size_will_do)
{
	struct t_daemon *d = t_daemon_start(config, NULL);
	struct terminal t = terminal_open("200", "50");
	struct hc *hc = fill(d);

	top_start(&t, d, "");
	SEE(&t, "ratio all policy");
	check_size(&t, 200, 50);
	CHECK_EQ(tmux(&t, ARGS("resize-window", "-x", "80", "-y", "24")), 0);
	SEE_BUT(&t, "health", "ratio all");
	check_size(&t, 80, 24);
	CHECK_EQ(tmux(&t, ARGS("resize-window", "-x", "20", "-y", "4")), 0);
	SEE_BUT(&t, "q quit", "\nalpha");
	CHECK_EQ(tmux(&t, ARGS("resize-window", "-x", "120", "-y", "40")), 0);
	SEE(&t, "\nalpha");
	check_size(&t, 120, 40);
	press(&t, "C-c");
	see_shell(&t, "6");
	hc_close(hc);
	terminal_close(&t);
	t_daemon_stop(d);
}

TEST(an_engine_that_stands_still_or_is_gone_is_said)
{
	struct t_daemon *d = t_daemon_start(config, NULL);
	struct terminal t = terminal_open("80", "24");
	pid_t engine = t_daemon_engine(d);
	struct hc *hc = fill(d);

	top_start(&t, d, "");
	SEE(&t, "engine serving");
	CHECK_EQ(kill(engine, SIGSTOP), 0);
	SEE(&t, "engine stopped by a signal");
	press(&t, "q");
	see_shell(&t, "1");
	top_start(&t, d, ""); /* a new one, meanwhile */
	SEE(&t, "engine stopped by a signal");
	SEE(&t, "\nalpha");
	CHECK_EQ(kill(engine, SIGCONT), 0);
	SEE_BUT(&t, "engine serving", "stopped");
	(void)t_daemon_kill_engine(d, SIGKILL);
	SEE(&t, "engine serving, 1 restarts");
	hc_close(hc);
	/* The supervisor too: the last picture stays, and why it is old is said. */
	t_proc_signal(d->proc, SIGSTOP);
	SEE(&t, "the supervisor did not answer in time");
	SEE(&t, "\nalpha");
	t_proc_signal(d->proc, SIGCONT);
	SEE_BUT(&t, "\nalpha", "did not answer");
	t_daemon_stop(d);
	SEE(&t, "no daemon answers");
	press(&t, "q");
	see_shell(&t, "2");
	terminal_close(&t);
}

/* The process that draws: the child of the one that was started. */
static pid_t worker_of(const struct terminal *t)
{
	pid_t shell, top, worker;

	CHECK_EQ(t_children(t->server->pid, &shell, 1), 1);
	CHECK_EQ(t_children(shell, &top, 1), 1);
	CHECK_EQ(t_children(top, &worker, 1), 1);
	return worker;
}

TEST(the_terminal_is_as_before_however_it_ends)
{
	static const int signals[] = {SIGTERM, SIGHUP, SIGSEGV, SIGKILL};
	struct t_daemon *d = t_daemon_start(config, NULL);
	struct terminal t = terminal_open("80", "24");
	pid_t shell, top;

	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) { /* the worker */
		top_start(&t, d, "");
		SEE(&t, "q quit");
		CHECK_EQ(kill(worker_of(&t), signals[i]), 0);
		see_shell(&t, "10");
		if (signals[i] == SIGSEGV || signals[i] == SIGKILL)
			SEE(&t, "the part that draws ");
	}
	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) { /* who waits for it */
		top_start(&t, d, "");
		SEE(&t, "q quit");
		pid_t worker = worker_of(&t);
		CHECK_EQ(t_children(t.server->pid, &shell, 1), 1);
		CHECK_EQ(t_children(shell, &top, 1), 1);
		CHECK_EQ(kill(top, signals[i]), 0);
		CHECK(t_pid_gone(worker, LIMIT_MS));
		press(&t, "Enter"); /* the first prompt may have been drawn on the other screen */
		see_shell(&t, "20");
	}
	top_start(&t, d, "");
	SEE(&t, "q quit");
	press(&t, "C-z");
	SEE_BUT(&t, "prompt>", "q quit");
	CHECK_EQ(tmux(&t, ARGS("send-keys", "fg", "Enter")), 0);
	SEE(&t, "q quit");
	press(&t, "q");
	see_shell(&t, "30");
	terminal_close(&t);
	t_daemon_stop(d);
}

TEST(terminals_that_can_do_little_are_enough)
{
	struct t_daemon *d = t_daemon_start(config, NULL);
	struct terminal t = terminal_open("80", "24");
	struct hc *hc = fill(d);

	CHECK_EQ(tmux(&t, ARGS("send-keys", "export TERM=vt100 NO_COLOR=1", "Enter")), 0);
	top_start(&t, d, "");
	SEE(&t, "\nalpha");
	check_size(&t, 80, 24);
	press(&t, "q"); /* a vt100 has one screen only */
	see_echo(&t, "50");
	CHECK_EQ(tmux(&t, ARGS("send-keys", "export TERM=dumb", "Enter")), 0);
	top_start(&t, d, "--interval 30s"); /* so that what it says stays on the screen */
	SEE(&t, "cannot be drawn on (TERM): plain text");
	press(&t, "C-c");
	see_echo(&t, "60");
	hc_close(hc);
	terminal_close(&t);
	t_daemon_stop(d);
}

TEST(without_a_terminal_there_is_a_block_each_interval)
{
	struct t_daemon *d = t_daemon_start(config, NULL);
	struct hc *hc = fill(d);

	struct result r = run(d, ARGS("top", "--interval", "100ms", "--count", "3"));
	CHECK_EQ(r.status, 0);
	check_says(&r, "engine serving", "\nstores\n", "\nalpha ", "\npools\n", "\nmain ",
		"\nclients\n", "\nthe-reader ", "\nlatency\n", "\nset ", NULL);
	int blocks = 0;
	for (const char *at = r.out; (at = strstr(at, "\nstores\n")) != NULL; at++)
		blocks++;
	CHECK_EQ(blocks, 3);
	CHECK(strchr(r.out, 27) == NULL && strstr(r.out, " \n") == NULL);
	result_free(&r);
	r = run(d, ARGS("top", "--once", "--json", "--interval", "100ms"));
	CHECK_EQ(r.status, 0);
	check_says(&r, "{\"daemon\":\"hypercached ", "\"stores\":[{\"store\":\"default\",",
		"\"clients\":[{\"client\":\"the-reader\",", "\"latency\":[{\"what\":\"hello\"",
		NULL);
	result_free(&r);
	check_status(d, 2, ARGS("top", "--interval", "99ms"));
	check_status(d, 2, ARGS("top", "--interval", "2h"));
	check_status(d, 2, ARGS("top", "stores"));
	check_status(NULL, 3, ARGS("top", "--once", "--admin", "/nowhere/admin.sock"));
	hc_close(hc);
	t_daemon_stop(d);
}
