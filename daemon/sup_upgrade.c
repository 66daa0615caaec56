/* sup_upgrade.c - another binary goes on where this one is: in the same process, with the same descriptors.
 *
 *   asked --> TRIAL --> ENDING --> exec                      ... in the other binary (sup_take.c): TAKEN --> done
 *              |          |          |                                                               |
 *              refused    |          it fails: an engine of ours again              its first engine does not
 *                         a signal to stop: we stop                                 serve: exec of us again
 *
 *   TRIAL    a child runs the binary as `--check-upgrade FD` on all that would go over.  It says in one line that it could go
 *            on, or why not.  Who crashes, hangs, or is no hypercached is found out here, and nothing has changed
 *   ENDING   the engine ends in order: what was asked is answered, and nothing is on its way to us any more.  Writes wait
 *            from here on, reads go on
 *   exec     descriptors stay open, a child holds the word of life (sup_keeper.c), signals wait
 *
 * With us goes a descriptor of our own binary: whoever finds that it cannot go on executes that (sup_take.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/err.h"
#include "log.h"
#include "step.h"
#include "sup_life.h"
#include "sup_state.h"

enum {
	TRIAL_LIMIT_MS = 5000,
	TRIAL_FD_STATE = 3,
	TRIAL_FD_EXE = 4,
	ARGS_MAX = 2 * CONFIG_SETS_MAX + 10,
};

static uint64_t ms_ns(uint64_t ms) { return ms * 1000000; }

/* --------------------------------------------------------------------- answers */

void sup_upgrade_end(struct sup *sup, enum admin_refusal refusal, const char *fmt, ...)
{
	struct sup_upgrade *u = &sup->upgrade;
	char text[SUP_UPGRADE_TEXT_BYTES], line[sizeof text + 16];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (refusal)
		log_error("no upgrade: %s; what has run goes on", text);
	else
		log_info("%s", text);
	if (u->asker) {
		int n = snprintf(line, sizeof line, "%s\t%s\n", refusal ? "error" : "note", text);
		sup_admin_reply(sup, u->asker, refusal, line, (size_t)n);
	}
	if (u->state > SUP_UPGRADE_TRIAL)
		sup_notify("READY=1");
	cleanup_closep_(&u->exe_fd);
	cleanup_closep_(&u->back_fd);
	cleanup_closep_(&u->pidfd);
	cleanup_closep_(&u->said_fd);
	*u = (struct sup_upgrade){.exe_fd = -1, .back_fd = -1, .pidfd = -1, .said_fd = -1};
}

void sup_upgrade_forget(struct sup *sup, const struct sup_admin *a)
{
	if (sup->upgrade.asker == a)
		sup->upgrade.asker = NULL;
}

void sup_upgrade_close(struct sup *sup)
{
	struct sup_upgrade *u = &sup->upgrade;

	if (u->state == SUP_UPGRADE_TRIAL)
		(void)kill(-u->pid, SIGKILL);
	cleanup_closep_(&u->exe_fd);
	cleanup_closep_(&u->back_fd);
	cleanup_closep_(&u->pidfd);
	cleanup_closep_(&u->said_fd);
}

/* ----------------------------------------------------------------------- trial */

/* Whoever may write the file may run code as we do.  Descriptor; or -errno and a sentence in why. */
static int exe_open(const char *path, char why[SUP_UPGRADE_TEXT_BYTES])
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) != 0) {
		(void)snprintf(why, SUP_UPGRADE_TEXT_BYTES, "%.300s cannot be opened: %s", path,
			strerror(errno));
		return err_new(-ENOENT);
	}
	if (!S_ISREG(st.st_mode) || !(st.st_mode & 0111))
		(void)snprintf(why, SUP_UPGRADE_TEXT_BYTES,
			"%.300s is no program: name the new hypercached", path);
	else if (st.st_uid != 0 && st.st_uid != geteuid())
		(void)snprintf(why, SUP_UPGRADE_TEXT_BYTES,
			"%.300s belongs to user %u, who could replace it: it has to be root's or "
			"the daemon's own user's",
			path, st.st_uid);
	else if (st.st_mode & 022)
		(void)snprintf(why, SUP_UPGRADE_TEXT_BYTES,
			"others may write to %.300s: run `chmod go-w` on it", path);
	else
		return steal_fd(fd);
	return err_new(-EACCES);
}

/* In the child.  It gets the binary, what would go over, and a pipe for its answer; nothing else of ours. */
static _Noreturn void trial_run(int exe_fd, int state_fd, int said_fd, pid_t parent)
{
	char name[] = "hypercached", option[] = "--check-upgrade", number[] = "3";
	char *argv[] = {name, option, number, NULL};
	sigset_t none;
	int exe = fcntl(exe_fd, F_DUPFD_CLOEXEC, TRIAL_FD_EXE + 1),
	    state = fcntl(state_fd, F_DUPFD_CLOEXEC, TRIAL_FD_EXE + 1);

	(void)setpgid(0, 0);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent ||
		dup2(said_fd, STDOUT_FILENO) < 0 || dup2(said_fd, STDERR_FILENO) < 0 ||
		dup2(state, TRIAL_FD_STATE) < 0 || dup3(exe, TRIAL_FD_EXE, O_CLOEXEC) < 0 ||
		close_range(TRIAL_FD_EXE + 1, ~0u, 0) != 0)
		_exit(126);
	(void)syscall(SYS_execveat, TRIAL_FD_EXE, "", argv, environ, AT_EMPTY_PATH);
	dprintf(STDOUT_FILENO, "it cannot be executed: %s\n", strerror(errno));
	_exit(127);
}

static int trial_start(struct sup *sup)
{
	struct sup_upgrade *u = &sup->upgrade;
	_cleanup_close_ int state = -1, out = -1;
	struct sup_state st;
	pid_t parent = getpid();
	int pair[2];

	sup_state_init(&st);
	state = sup_state_write(sup, &st);
	if (state < 0)
		return err_fwd(state);
	if (pipe2(pair, O_CLOEXEC | O_NONBLOCK) != 0)
		return err_new(-errno);
	u->said_fd = pair[0];
	out = pair[1];
	pid_t pid = fork();
	if (pid < 0)
		return err_new(-errno);
	if (pid == 0)
		trial_run(u->exe_fd, state, out, parent);
	STEP("sup:upgrade-trial");
	u->pid = pid;
	u->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	u->deadline_ns = sup_host_mono_ns() + ms_ns(TRIAL_LIMIT_MS);
	u->state = SUP_UPGRADE_TRIAL;
	return u->pidfd >= 0 ? 0 : err_new(-errno);
}

/* What is in the way of an upgrade now; NULL: nothing. */
static const char *busy(const struct sup *sup)
{
	if (sup->config.hardening == CONFIG_HARDENING_STRICT)
		return "with hardening: strict memory ends with its engine: start the daemon anew";
	if (sup->upgrade.state != SUP_UPGRADE_NONE)
		return "an upgrade is under way";
	if (sup->stop_ns)
		return "the daemon is about to end";
	if (sup->change.state != SUP_CHANGE_NONE || sup->errand.asker || sup->image.pid)
		return "the daemon is at work on something else: try again";
	return sup->ctl ? NULL : "there is no memory now: try again";
}

void sup_upgrade_begin(struct sup *sup, struct sup_admin *a, const char *path)
{
	struct sup_upgrade *u = &sup->upgrade;
	const char *in_the_way = busy(sup);
	char why[SUP_UPGRADE_TEXT_BYTES], line[sizeof why + 16];
	int r = 0;

	if (!*path)
		path = sup->exe;
	if (in_the_way)
		(void)snprintf(why, sizeof why, "%s", in_the_way);
	else
		r = exe_open(path, why);
	if (in_the_way || r < 0) { /* of another upgrade, if there is one, nothing changes */
		log_error("no upgrade: %s", why);
		int n = snprintf(line, sizeof line, "error\t%s\n", why);
		if (a)
			sup_admin_reply(sup, a, in_the_way ? ADMIN_R_BUSY : ADMIN_R_UPGRADE, line,
				(size_t)n);
		return;
	}
	*u = (struct sup_upgrade){
		.exe_fd = r, .back_fd = -1, .pidfd = -1, .said_fd = -1, .asker = a};
	(void)snprintf(u->path, sizeof u->path, "%s", path);
	if (a) {
		a->waits = true;
		a->deadline_ns = sup_host_mono_ns() + ms_ns(SUP_UPGRADE_TELL_MS);
	}
	r = trial_start(sup);
	if (r < 0)
		sup_upgrade_end(
			sup, ADMIN_R_UPGRADE, "%.300s cannot be tried: %s", path, strerror(-r));
	else
		log_info("upgrade: %s is tried (process %d)", path, u->pid);
}

/* How it ended, for people. */
static void trial_how(const struct sup_upgrade *u, const siginfo_t *how, char said[256])
{
	ssize_t n = read(u->said_fd, said, 255);

	said[n > 0 ? n : 0] = 0;
	said[strcspn(said, "\n")] = 0;
	for (char *c = said; *c; c++) /* whatever it is: it goes to a terminal, too */
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	if (*said)
		return;
	if (how->si_code == CLD_EXITED)
		(void)snprintf(said, 256,
			"it ended with status %d and said nothing: is it a hypercached?",
			how->si_status);
	else if (u->killed)
		(void)snprintf(said, 256, "it did not say in %d s whether it could take over",
			TRIAL_LIMIT_MS / 1000);
	else
		(void)snprintf(said, 256, "it died of signal %d (SIG%s)", how->si_status,
			sigabbrev_np(how->si_status) ? sigabbrev_np(how->si_status) : "?");
}

void sup_upgrade_on_trial(struct sup *sup)
{
	struct sup_upgrade *u = &sup->upgrade;
	siginfo_t how = {0};
	char said[256];
	const char good[] = SUP_UPGRADE_GOOD;

	if (waitid(P_PIDFD, (id_t)u->pidfd, &how, WEXITED | WNOHANG) != 0 || how.si_pid == 0)
		return;
	(void)kill(-u->pid, SIGKILL); /* what it has left behind */
	trial_how(u, &how, said);
	STEP("sup:upgrade-tried");
	if (how.si_code != CLD_EXITED || how.si_status != 0 ||
		strncmp(said, good, strlen(good)) != 0) {
		sup_upgrade_end(sup, ADMIN_R_UPGRADE, "%.200s: %.200s", u->path, said);
		return;
	}
	cleanup_closep_(&u->pidfd);
	u->pidfd = -1;
	log_info("upgrade: %s (%s) takes over", u->path, said + strlen(good));
	sup_notify_reloading();
	u->state = SUP_UPGRADE_ENDING;
	u->deadline_ns = sup_host_mono_ns() + ms_ns(SUP_STOP_LIMIT_MS);
	if (sup->engine.pid == 0)
		sup_upgrade_exec(sup, NULL);
	else
		sup_engine_quit(sup);
}

void sup_upgrade_on_due(struct sup *sup, uint64_t now_ns)
{
	struct sup_upgrade *u = &sup->upgrade;

	if (now_ns < u->deadline_ns)
		return;
	if (u->state == SUP_UPGRADE_TRIAL) {
		u->killed = true;
		(void)kill(u->pid, SIGKILL);
		u->deadline_ns = now_ns + ms_ns(TRIAL_LIMIT_MS);
	} else if (u->state == SUP_UPGRADE_ENDING) {
		u->deadline_ns = UINT64_MAX;
		sup_engine_kill(sup, "it was to end for an upgrade and did not");
	}
}

uint64_t sup_upgrade_due(const struct sup *sup)
{
	bool waits = sup->upgrade.state == SUP_UPGRADE_TRIAL ||
	             sup->upgrade.state == SUP_UPGRADE_ENDING;

	return waits ? sup->upgrade.deadline_ns : UINT64_MAX;
}

/* ------------------------------------------------------------------------ exec */

/* The command line as it was, so that `ps` shows it, and where the state is. */
static void args_fill(
	const struct sup *sup, char *args[ARGS_MAX], char number[16], int state, const char *back)
{
	static char name[] = "hypercached", config[] = "--config", set[] = "--set",
		    take[] = "--take-over", taken[] = "--taken-back";
	int n = 0;

	args[n++] = name;
	if (sup->source->file) {
		args[n++] = config;
		args[n++] = (char *)(uintptr_t)sup->source->file;
	}
	for (uint32_t i = 0; i < sup->source->n_set; i++) {
		args[n++] = set;
		args[n++] = (char *)(uintptr_t)sup->source->set[i];
	}
	(void)snprintf(number, 16, "%d", state);
	args[n++] = take;
	args[n++] = number;
	if (back) {
		args[n++] = taken;
		args[n++] = (char *)(uintptr_t)back;
	}
	args[n] = NULL;
}

static int go(struct sup *sup, const char *back, struct sup_state *st)
{
	_cleanup_close_ int state = -1;
	char *args[ARGS_MAX], number[16];

	sup_memory_mend(sup);
	st->back_fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (st->back_fd < 0)
		return err_new(-errno);
	st->keeper_fd = MUTANT(775) ? -1 : sup_keeper_start(sup); /* 775: nobody holds the word */
	if (st->keeper_fd < 0 && !MUTANT(775))
		return err_fwd(st->keeper_fd);
	STEP("sup:upgrade-kept");
	st->asker_fd = sup->upgrade.asker ? sup->upgrade.asker->fd : -1;
	state = sup_state_write(sup, st);
	if (state < 0)
		return err_fwd(state);
	int r = sup_state_inherit(sup, st, true);
	if (r < 0 || fcntl(state, F_SETFD, 0) != 0)
		return r < 0 ? err_fwd(r) : err_new(-errno);
	args_fill(sup, args, number, state, back);
	STEP("sup:upgrade-exec");
	(void)syscall(SYS_execveat, sup->upgrade.exe_fd, "", args, environ, AT_EMPTY_PATH);
	return err_new(-errno);
}

void sup_upgrade_exec(struct sup *sup, const char *back)
{
	struct sup_state st;

	sup_state_init(&st);
	for (int i = 0; i < ADMIN_CONNECTIONS; i++)
		if (&sup->admin[i] != sup->upgrade.asker)
			sup_admin_close(&sup->admin[i]);
	sup_metrics_end(sup);
	sup_checkpoint_close(sup);
	sup_log_close(sup); /* who makes a segment for an engine that has ended */
	int r = go(sup, back, &st);
	sup_metrics_begin(sup);
	(void)sup_state_inherit(sup, &st, false);
	(void)sup_life_claim(&sup->ctl->sup_word);
	sup_keeper_end(st.keeper_fd);
	cleanup_closep_(&st.back_fd);
	sup->engine.restart_ns = sup_host_mono_ns();
	sup_upgrade_end(sup, ADMIN_R_UPGRADE, "%.200s cannot be executed: %s", sup->upgrade.path,
		strerror(-r));
}

/* ------------------------------------------------------------- in the other one */

void sup_upgrade_on_ready(struct sup *sup)
{
	struct sup_upgrade *u = &sup->upgrade;

	if (u->state != SUP_UPGRADE_TAKEN)
		return;
	STEP("sup:upgrade-serves");
	if (*u->failed)
		sup_upgrade_end(sup, ADMIN_R_UPGRADE, "%s", u->failed);
	else
		sup_upgrade_end(sup, ADMIN_R_NONE, "upgraded from %s to %s: %s", u->from,
			HC_VERSION_TEXT, sup->exe);
}

bool sup_upgrade_on_death(struct sup *sup, bool of_itself)
{
	struct sup_upgrade *u = &sup->upgrade;

	if (u->state == SUP_UPGRADE_ENDING) {
		STEP("sup:upgrade-quiet");
		sup_upgrade_exec(sup, NULL);
		return true;
	}
	if (u->state != SUP_UPGRADE_TAKEN || u->back_fd < 0 || !of_itself ||
		MUTANT(776)) /* 776: its engines crash for ever */
		return false;
	log_error("the first engine of %s did not come to serve: what has run before goes on",
		sup->exe);
	u->exe_fd = steal_fd(u->back_fd);
	sup_upgrade_exec(sup, "its engine ended before it served: see the log");
	return true;
}
