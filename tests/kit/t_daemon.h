/* t_daemon.h - a hypercached of the test's own.
 *
 *	struct t_daemon *d = t_daemon_start(NULL, NULL);
 *	... connect to d->socket ...
 *	t_daemon_stop(d);               SIGTERM; must end with status 0
 *
 * It runs in t_dir() with its own socket, data folder and XDG folders, so any number of tests may run
 * at the same time, and nothing of the user's is touched.  Limits and failures as in t_proc.h.
 */
#ifndef HC_T_DAEMON_H
#define HC_T_DAEMON_H
#include <stdio.h>
#include <sys/types.h>
#include "t_proc.h"

enum {
	T_DAEMON_READY_MS = 20000,
	T_DAEMON_STOP_MS = 20000,
	T_PATH_BYTES = 256,
};

struct t_daemon {
	struct t_proc *proc;
	char dir[T_PATH_BYTES];
	char config[T_PATH_BYTES]; /* the file it was started with */
	char socket[T_PATH_BYTES];
	char admin[T_PATH_BYTES];
	char data[T_PATH_BYTES]; /* its data folder */
};

/* Keys of a pool: thresholds that leave nearly all of it to its entries. */
#define T_DAEMON_ALL \
	"pressure_end: 98%, pressure_low: 98.5%, pressure_high: 99%, pressure_full: 99.5%"

/* Writes the keys of T_CONFIG (tests/README.md) that `more` does not have: for configurations that are made
 * by hand.  more: lines of YAML, or NULL. */
void t_config_write(FILE *f, const char *more);

/* Starts a daemon and waits until it says that it is ready.  `more` are lines of YAML added to the
 * configuration (NULL: none); a pool of 16 MiB without huge pages is the default unless `more` has
 * "pools:", and the keys of T_CONFIG are added that `more` does not have.  env as in t_spawn_opts.
 * Several daemons in one test get folders of their own. */
struct t_daemon *t_daemon_start(const char *more, const char *const *env);

/* Writes the configuration anew, with other lines; the daemon is told by the test. */
void t_daemon_configure(const struct t_daemon *d, const char *more);

/* The same without waiting: for a daemon that is meant to fail. */
struct t_daemon *t_daemon_launch(const char *more, const char *const *env);
void t_daemon_wait_ready(struct t_daemon *d);

/* The running engine's process; fails the test if the supervisor has no child. */
pid_t t_daemon_engine(const struct t_daemon *d);

/* Kills the engine with `sig` and waits until that process is gone.  Returns its pid. */
pid_t t_daemon_kill_engine(struct t_daemon *d, int sig);

/* Waits until the log says that an engine other than `former` (0: any) serves.  Returns its pid.  Each
 * such line of the log is found once; needs log_level info, the default. */
pid_t t_daemon_wait_engine(struct t_daemon *d, pid_t former);

/* One of the daemon's segments, open for writing: "control", "journal", or the name of a pool (its first region).
 * For planting damage; the caller closes it. */
int t_daemon_segment(const struct t_daemon *d, const char *name);

/* Waits until an engine that was running, and is to end by itself, is gone. */
void t_daemon_wait_gone(pid_t engine);

/* SIGTERM, waits for the end, checks that the exit status is 0 and that the engine is gone; frees. */
void t_daemon_stop(struct t_daemon *d);

/* SIGKILL to the supervisor; waits until it and its engine are gone; frees. */
void t_daemon_kill(struct t_daemon *d);

/* SIGKILL to supervisor and engine, and nothing starts in between; or a good end.  t_daemon_again() starts another one in the same
 * folders, with one more option (NULL: none), and does not wait. */
void t_daemon_all_die(struct t_daemon *d);
void t_daemon_end(struct t_daemon *d);
void t_daemon_again(struct t_daemon *d, const char *option, const char *const *env);

/* Frees d after its process was waited for by the test. */
void t_daemon_free(struct t_daemon *d);

#endif
