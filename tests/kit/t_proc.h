/* t_proc.h - real programs under test: start, read, wait, kill; all with deadlines.
 *
 *	struct t_proc *p = t_spawn((const char *[]){t_bin("hypercache"), "ping", NULL}, NULL);
 *	CHECK_EQ(t_proc_exit(p, 5000), 0);
 *	CHECK(strstr(p->out.text, "pong"));
 *	t_proc_free(p);
 *
 * Every limit_ms is multiplied by T_LIMIT_X (t.h).  A wait that meets its limit, or the end of what it
 * waits for, fails the test and prints what the program has written.  Nothing here sleeps: waits are
 * poll(2) on a pidfd, on pipes, or on inotify.
 *
 * What a program writes is collected while a wait runs; a program that writes more than T_OUTPUT_MAX
 * fails the test.  A started program is killed by the kernel when the thread that started it ends.
 *
 * Lifetime: from t_spawn until t_proc_free.  Threads: one per struct t_proc.
 */
#ifndef HC_T_PROC_H
#define HC_T_PROC_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { T_OUTPUT_MAX = 64 << 20 };

struct t_output {
	char *text;   /* what was written, always terminated; may hold zeros before its end */
	size_t bytes; /* without the terminator */
	size_t read;  /* bytes before this were passed by t_proc_line() */
	int fd;       /* -1: closed */
};

struct t_proc {
	pid_t pid;
	int pidfd;
	int in_fd; /* its standard input, if asked for; else -1 */
	bool ended;
	int status; /* as of waitpid(2), when ended */
	struct t_output out, err;
	const char *name; /* last part of argv[0] */
};

struct t_spawn_opts {
	const char *const
		*env; /* NAME=VALUE, added to this process's; "NAME" removes one; ends with NULL */
	bool input;   /* make in_fd; else the program reads /dev/null */
	uid_t uid;    /* run as this user and group (needs root); 0: as we are */
	const char *cwd; /* folder to start in; NULL: ours */
};

/* Starts argv[0] (a path) and returns at once; fails the test if it cannot be started. */
struct t_proc *t_spawn(const char *const *argv, const struct t_spawn_opts *opts);

/* Waits for the end.  Returns the exit status; a death by signal n is 128 + n. */
int t_proc_exit(struct t_proc *p, int limit_ms);

/* Waits for a line with `text` in it, on standard output or error, behind those found before.
 * Returns a copy of that line without its newline, for the caller to free. */
char *t_proc_line(struct t_proc *p, const char *text, int limit_ms);

/* Sends a signal, through the pidfd: never to another process. */
void t_proc_signal(struct t_proc *p, int sig);

/* SIGKILL, and waits for the end. */
void t_proc_kill(struct t_proc *p, int limit_ms);

/* Frees; fails the test if the program is still running. */
void t_proc_free(struct t_proc *p);

/* Runs a program to its end, `input` (NULL: none) on its standard input.  Returns its exit status as
 * t_proc_exit does; *ret_out and *ret_err (each may be NULL) are for the caller to free. */
int t_run(const char *const *argv, const char *input, size_t input_bytes, char **ret_out,
	size_t *ret_out_bytes, char **ret_err, int limit_ms);

/* Waits until process pid, which need not be a child, has ended; true if it has, false at the limit. */
bool t_pid_gone(pid_t pid, int limit_ms);

/* Waits until a file of this path exists (exists = true) or does not.  Its folder must exist. */
void t_wait_path(const char *path, bool exists, int limit_ms);

/* Waits for poll(2) events on fd; true when one came, false at the limit. */
bool t_wait_fd(int fd, short events, int limit_ms);

#endif
