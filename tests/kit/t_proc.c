/* t_proc.c - real programs under test (t_proc.h). */
#include "t_proc.h"
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "t.h"
#include "t_kit.h"

enum { READ_BYTES = 65536, TAIL_BYTES = 4096, PROCS_MAX = 256 };

/* Those not freed yet: their output is printed when a check fails. */
static struct t_proc *living[PROCS_MAX];

static void print_tail(const struct t_proc *p, const struct t_output *o, const char *which)
{
	size_t from = o->bytes > TAIL_BYTES ? o->bytes - TAIL_BYTES : 0;

	if (o->bytes == 0)
		return;
	fprintf(stderr, "  --- %s of %s (pid %d)%s\n", which, p->name, (int)p->pid,
		from ? ", its end" : "");
	(void)fwrite(o->text + from, 1, o->bytes - from, stderr);
	if (o->text[o->bytes - 1] != '\n')
		fputc('\n', stderr);
}

/* Reads what is there.  Returns true if something came or the end was seen. */
static bool read_some(struct t_output *o)
{
	if (o->fd < 0)
		return false;
	if (o->bytes > T_OUTPUT_MAX)
		t_fail(__FILE__, __LINE__, "a program wrote more than %d bytes", T_OUTPUT_MAX);
	o->text = realloc(o->text, o->bytes + READ_BYTES + 1);
	if (!o->text)
		t_fail(__FILE__, __LINE__, "out of memory");
	ssize_t n = read(o->fd, o->text + o->bytes, READ_BYTES);
	int error = errno;
	o->bytes += n > 0 ? (size_t)n : 0;
	o->text[o->bytes] = 0;
	if (n < 0 && (error == EAGAIN || error == EINTR))
		return false;
	if (n <= 0) {
		(void)close(o->fd);
		o->fd = -1;
	}
	return true;
}

static void drain(struct t_proc *p)
{
	while (read_some(&p->out)) /* ends at T_OUTPUT_MAX */
		;
	while (read_some(&p->err))
		;
}

static void print_living(void)
{
	for (int i = 0; i < PROCS_MAX; i++) {
		if (!living[i])
			continue;
		drain(living[i]);
		print_tail(living[i], &living[i]->out, "standard output");
		print_tail(living[i], &living[i]->err, "standard error");
	}
}

static void living_add(struct t_proc *p)
{
	for (int i = 0; i < PROCS_MAX; i++)
		if (!living[i]) {
			living[i] = p;
			t_kit_fail_hook = print_living;
			return;
		}
	t_fail(__FILE__, __LINE__, "more than %d programs at one time", PROCS_MAX);
}

static void living_remove(const struct t_proc *p)
{
	for (int i = 0; i < PROCS_MAX; i++)
		if (living[i] == p)
			living[i] = NULL;
}

/* The environment of the new program: ours, with `changes` made.  The array is the caller's to free. */
static char **env_with(const char *const *changes)
{
	size_t n = 0, n_changes = 0, at = 0;

	while (environ[n])
		n++;
	while (changes && changes[n_changes])
		n_changes++;
	char **env = calloc(n + n_changes + 1, sizeof *env);
	if (!env)
		t_fail(__FILE__, __LINE__, "out of memory");
	for (size_t i = 0; i < n; i++) {
		bool changed = false;
		for (size_t c = 0; c < n_changes; c++) {
			size_t name_bytes = strcspn(changes[c], "=");
			changed |= strncmp(environ[i], changes[c], name_bytes) == 0 &&
			           environ[i][name_bytes] == '=';
		}
		if (!changed)
			env[at++] = environ[i];
	}
	for (size_t c = 0; c < n_changes; c++)
		if (strchr(changes[c], '='))
			env[at++] = (char *)changes[c];
	return env;
}

struct child_fds {
	int in, out, err, report;
};

/* In the child: only calls that are allowed after a fork in a process with threads. */
static _Noreturn void child_exec(const char *const *argv, char **env,
	const struct t_spawn_opts *opts, const struct child_fds *fds)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)signal(SIGPIPE, SIG_DFL);
	if (dup2(fds->in, 0) < 0 || dup2(fds->out, 1) < 0 || dup2(fds->err, 2) < 0)
		goto failed;
	if (opts->cwd && chdir(opts->cwd) != 0)
		goto failed;
	if (opts->uid &&
		(setgroups(0, NULL) != 0 || setgid(opts->uid) != 0 || setuid(opts->uid) != 0))
		goto failed;
	if (opts->uid) /* a change of user clears it */
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)execve(argv[0], (char *const *)argv, env);
failed:;
	int error = errno;
	(void)!write(fds->report, &error, sizeof error);
	_exit(127);
}

static void make_pipe(int ret_fds[2])
{
	if (pipe2(ret_fds, O_CLOEXEC) != 0)
		t_fail(__FILE__, __LINE__, "pipe2: %s", strerror(errno));
}

struct t_proc *t_spawn(const char *const *argv, const struct t_spawn_opts *opts)
{
	static const struct t_spawn_opts none;
	int in[2] = {-1, -1}, out[2], err[2], report[2], error = 0;
	struct t_proc *p = calloc(1, sizeof *p);
	const char *slash = strrchr(argv[0], '/');

	if (!p)
		t_fail(__FILE__, __LINE__, "out of memory");
	opts = opts ? opts : &none;
	make_pipe(out);
	make_pipe(err);
	make_pipe(report);
	if (opts->input)
		make_pipe(in);
	else
		in[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	char **env = env_with(opts->env);
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0)
		child_exec(argv, env, opts, &(struct child_fds){in[0], out[1], err[1], report[1]});
	free(env);
	(void)close(in[0]), (void)close(out[1]), (void)close(err[1]), (void)close(report[1]);
	if (pid < 0)
		t_fail(__FILE__, __LINE__, "fork: %s", strerror(errno));
	if (read(report[0], &error, sizeof error) > 0)
		t_fail(__FILE__, __LINE__, "%s: %s", argv[0], strerror(error));
	(void)close(report[0]);
	(void)fcntl(out[0], F_SETFL, O_NONBLOCK);
	(void)fcntl(err[0], F_SETFL, O_NONBLOCK);
	*p = (struct t_proc){.pid = pid, .pidfd = pidfd_open(pid, 0), .in_fd = in[1]};
	p->out.fd = out[0];
	p->err.fd = err[0];
	p->out.text = calloc(1, 1);
	p->err.text = calloc(1, 1);
	p->name = t_kit_keep(strdup(slash ? slash + 1 : argv[0]));
	living_add(p);
	return p;
}

/* Waits until something comes, the program ends, or end_ns; reads and notes it.  False at the limit. */
static bool turn(struct t_proc *p, uint64_t end_ns)
{
	struct pollfd f[] = {{.fd = p->ended ? -1 : p->pidfd, .events = POLLIN},
		{.fd = p->out.fd, .events = POLLIN}, {.fd = p->err.fd, .events = POLLIN}};
	uint64_t now_ns = t_now_ns();

	int r = poll(f, 3, now_ns < end_ns ? (int)((end_ns - now_ns + 999999) / 1000000) : 0);
	if (r == 0)
		return false;
	(void)read_some(&p->out);
	(void)read_some(&p->err);
	if (r > 0 && f[0].revents && waitpid(p->pid, &p->status, WNOHANG) == p->pid) {
		p->ended = true;
		drain(p);
	}
	return true;
}

int t_proc_exit(struct t_proc *p, int limit_ms)
{
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(limit_ms) * 1000000;

	while (!p->ended)
		if (!turn(p, end_ns))
			t_fail(__FILE__, __LINE__, "%s did not end within %d ms", p->name,
				limit_ms);
	return WIFEXITED(p->status) ? WEXITSTATUS(p->status) : 128 + WTERMSIG(p->status);
}

/* The next whole line with `text` in it, or NULL. */
static char *find_line(struct t_output *o, const char *text, bool ended)
{
	for (size_t at = o->read; at < o->bytes;) {
		char *line = o->text + at, *end = memchr(line, '\n', o->bytes - at);
		size_t line_bytes = end ? (size_t)(end - line) : o->bytes - at;
		if (!end && !ended)
			return NULL;
		at += line_bytes + 1;
		if (!memmem(line, line_bytes, text, strlen(text)))
			continue;
		o->read = at < o->bytes ? at : o->bytes;
		return strndup(line, line_bytes);
	}
	return NULL;
}

char *t_proc_line(struct t_proc *p, const char *text, int limit_ms)
{
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(limit_ms) * 1000000;

	for (;;) {
		bool ended = p->ended;
		char *line = find_line(&p->out, text, ended);
		if (!line)
			line = find_line(&p->err, text, ended);
		if (line)
			return line;
		if (ended)
			t_fail(__FILE__, __LINE__, "%s ended without a line with \"%s\"", p->name,
				text);
		if (!turn(p, end_ns))
			t_fail(__FILE__, __LINE__, "%s wrote no line with \"%s\" within %d ms",
				p->name, text, limit_ms);
	}
}

void t_proc_signal(struct t_proc *p, int sig)
{
	if (!p->ended)
		(void)pidfd_send_signal(p->pidfd, sig, NULL, 0);
}

void t_proc_kill(struct t_proc *p, int limit_ms)
{
	t_proc_signal(p, SIGKILL);
	(void)t_proc_exit(p, limit_ms);
}

void t_proc_free(struct t_proc *p)
{
	if (!p)
		return;
	if (!p->ended)
		t_fail(__FILE__, __LINE__, "%s (pid %d) is still running", p->name, (int)p->pid);
	living_remove(p);
	const int fds[] = {p->pidfd, p->in_fd, p->out.fd, p->err.fd};
	for (int i = 0; i < 4; i++)
		if (fds[i] >= 0)
			(void)close(fds[i]);
	free(p->out.text);
	free(p->err.text);
	free(p);
}

/* Writes all input while the program's output is read, so that neither waits for the other. */
static void feed(struct t_proc *p, const char *input, size_t input_bytes, uint64_t end_ns)
{
	size_t at = 0;

	(void)fcntl(p->in_fd, F_SETFL, O_NONBLOCK);
	while (at < input_bytes && !p->ended) {
		ssize_t n = write(p->in_fd, input + at, input_bytes - at);
		if (n >= 0) {
			at += (size_t)n;
			continue;
		}
		if (errno != EAGAIN && errno != EINTR)
			break; /* it does not read any more; its status says whether that is right */
		struct pollfd f[] = {{.fd = p->in_fd, .events = POLLOUT},
			{.fd = p->out.fd, .events = POLLIN}, {.fd = p->err.fd, .events = POLLIN}};
		if (t_now_ns() >= end_ns ||
			poll(f, 3, (int)((end_ns - t_now_ns()) / 1000000) + 1) == 0)
			t_fail(__FILE__, __LINE__, "%s did not read its input", p->name);
		(void)read_some(&p->out);
		(void)read_some(&p->err);
	}
	(void)close(p->in_fd);
	p->in_fd = -1;
}

static char *take_text(struct t_output *o)
{
	char *text = o->text;

	o->text = NULL;
	return text;
}

int t_run(const char *const *argv, const char *input, size_t input_bytes, char **ret_out,
	size_t *ret_out_bytes, char **ret_err, int limit_ms)
{
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(limit_ms) * 1000000;
	struct t_proc *p = t_spawn(argv, &(struct t_spawn_opts){.input = input != NULL});

	if (input) {
		void (*before)(int) = signal(SIGPIPE, SIG_IGN);
		feed(p, input, input_bytes, end_ns);
		(void)signal(SIGPIPE, before);
	}
	int status = t_proc_exit(p, limit_ms);
	if (ret_out_bytes)
		*ret_out_bytes = p->out.bytes;
	if (ret_out)
		*ret_out = take_text(&p->out);
	if (ret_err)
		*ret_err = take_text(&p->err);
	t_proc_free(p);
	return status;
}

bool t_pid_gone(pid_t pid, int limit_ms)
{
	int pidfd = pidfd_open(pid, 0);

	if (pidfd < 0 && errno == ESRCH)
		return true;
	if (pidfd < 0)
		t_fail(__FILE__, __LINE__, "pidfd_open(%d): %s", (int)pid, strerror(errno));
	bool gone = t_kit_wait(pidfd, POLLIN, t_limit_ms(limit_ms));
	(void)close(pidfd);
	return gone;
}

void t_wait_path(const char *path, bool exists, int limit_ms)
{
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(limit_ms) * 1000000;
	char folder[PATH_MAX], events[READ_BYTES];
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

	(void)snprintf(folder, sizeof folder, "%s", path);
	if (inotify_add_watch(fd, dirname(folder), IN_CREATE | IN_DELETE | IN_MOVE) < 0)
		t_fail(__FILE__, __LINE__, "inotify on the folder of %s: %s", path,
			strerror(errno));
	while ((access(path, F_OK) == 0) != exists) {
		uint64_t now_ns = t_now_ns();
		if (now_ns >= end_ns ||
			!t_kit_wait(fd, POLLIN, (int)((end_ns - now_ns) / 1000000) + 1))
			t_fail(__FILE__, __LINE__, "%s %s after %d ms", path,
				exists ? "does not exist" : "still exists", limit_ms);
		while (read(fd, events, sizeof events) > 0) /* until it is empty */
			;
	}
	(void)close(fd);
}

bool t_wait_fd(int fd, short events, int limit_ms)
{
	return t_kit_wait(fd, events, t_limit_ms(limit_ms));
}
