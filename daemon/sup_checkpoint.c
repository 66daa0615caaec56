/* sup_checkpoint.c - checkpoints of durable stores: when one begins, when it counts, and the log that is not needed any more.
 *
 *   NONE --begin--> WRITING --result--> AWAITS --durable--> COMMITTING --> NONE
 *
 *   WRITING      the process of checkpoint.h scans the stores as a client
 *   AWAITS       the log is durable up to all that the scan may have seen: the largest version met, and behind that also what it
 *                did not meet because it had been deleted.  Looked at each LOOK_MS; nobody waits in a call
 *   COMMITTING   a child gives the file its name, and removes the segments of the log that no recovery reads any more
 *
 * An engine that dies before the log is durable takes the checkpoint with it: its successor may give the same LSNs to other
 * changes.  The same with a store that was created meanwhile: it is not in the file, and its first changes may be below
 * begin_lsn.
 *
 * Whatever fails is tried again after a pause that grows; the log says it once.  Writes do not notice.
 * (Later: segments are renamed and used again, instead of removed.)
 */
#include "checkpoint.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/check.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "eng.h"
#include "log.h"
#include "segments.h"
#include "sup.h"
#include "wal/wal_format.h"
#include "wal/wal_read.h"

enum {
	LOOK_MS = 20,
	AWAIT_MS = 60000,
	PAUSE_MS = 1000,
	PAUSE_MAX_MS = 60000,
	NUMBER_BYTES = 16,
	STORE_BYTES = CONFIG_NAME_BYTES + 48, /* NAME:ID:AS */
	ARGS = 6,                             /* before the stores */
	LINES_BYTES = 1024,
};

static const char engine_ended[] = "the engine ended while it was written: try again";

/* What the child that commits says. */
struct said {
	int32_t error;   /* of checkpoint_commit */
	int32_t log;     /* of the removal behind it */
	uint64_t n_gone; /* segments */
	char why[CHECKPOINT_WHY_BYTES];
};

/* The arguments of the process. */
struct args {
	char *argv[ARGS + CONFIG_STORES_MAX + 1];
	char folder[NUMBER_BYTES], result[NUMBER_BYTES], log[33];
	char store[CONFIG_STORES_MAX][STORE_BYTES];
};

static uint64_t ms_ns(uint64_t ms) { return ms * 1000000; }

static uint64_t counter(const struct sup *sup, enum shm_daemon_counter c)
{
	return shm_load_rlx(&sup->ctl->counter[c]);
}

/* -------------------------------------------------------------------- answers */

static void reply(
	struct sup *sup, struct sup_admin *a, enum admin_refusal refusal, const char *text)
{
	char line[SUP_CHECKPOINT_TEXT_BYTES + 16];
	int n = snprintf(line, sizeof line, "%s\t%s\n", refusal ? "error" : "note", text);

	sup_admin_reply(sup, a, refusal, line, (size_t)n);
}

/* The processes and pipes of this one are let go. */
static void let_go(struct sup_checkpoint *c)
{
	if (c->pid) {
		(void)kill(c->pid, SIGKILL);
		(void)waitpid(c->pid, NULL, 0);
	}
	cleanup_closep_(&c->pidfd);
	cleanup_closep_(&c->result_fd);
	cleanup_closep_(&c->said_fd);
	c->pidfd = c->result_fd = c->said_fd = -1;
	c->pid = 0;
	c->state = SUP_CHECKPOINT_NONE;
}

/* There is none; another try follows. */
__attribute__((format(printf, 2, 3))) static void failed(struct sup *sup, const char *fmt, ...)
{
	struct sup_checkpoint *c = &sup->checkpoint;
	struct sup_admin *a = c->asker;
	char text[SUP_CHECKPOINT_TEXT_BYTES];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	let_go(c);
	c->asker = NULL;
	c->pause_ms = c->pause_ms ? 2 * c->pause_ms : PAUSE_MS;
	if (c->pause_ms > PAUSE_MAX_MS)
		c->pause_ms = PAUSE_MAX_MS;
	c->retry_ns = sup_host_mono_ns() + ms_ns(c->pause_ms);
	if (!c->told)
		log_error("no checkpoint: %s. The log in %s/wal is not shortened until one works, "
			  "which "
			  "is tried again and again; see that the disk has room, and that a client "
			  "may "
			  "still connect (max_clients)",
			text, sup->config.data_dir);
	c->told = true;
	if (a)
		reply(sup, a, ADMIN_R_CHECKPOINT, text);
}

/* What was written does not count; that is nobody's fault, and the next one follows soon. */
static void put_off(struct sup *sup, const char *why)
{
	struct sup_checkpoint *c = &sup->checkpoint;
	struct sup_admin *a = c->asker;

	let_go(c);
	c->asker = NULL;
	c->retry_ns = sup_host_mono_ns() + ms_ns(PAUSE_MS);
	log_info("no checkpoint: %s", why);
	if (a)
		reply(sup, a, ADMIN_R_CHECKPOINT, why);
}

static void done(struct sup *sup, const struct said *said)
{
	struct sup_checkpoint *c = &sup->checkpoint;
	const struct checkpoint_result *r = &c->result;
	struct sup_admin *a = c->asker;
	char lines[LINES_BYTES];

	log_info("checkpoint: %llu entries, %llu KiB, in %.1f s; changes up to %llu; %llu segments "
		 "of "
		 "the log removed",
		(unsigned long long)r->n_entries, (unsigned long long)(r->bytes >> 10),
		(double)r->took_ns / 1e9, (unsigned long long)r->begin_lsn,
		(unsigned long long)said->n_gone);
	if (said->log < 0)
		log_warn(
			"segments of the log that are not needed cannot be removed from %s/wal: %s",
			sup->config.data_dir, strerror(-said->log));
	c->lsn = c->began_lsn;
	c->bytes -= c->began_bytes;
	c->last_ns = sup_host_mono_ns();
	c->retry_ns = 0;
	c->pause_ms = 0;
	c->told = false;
	c->asker = NULL;
	if (!a)
		return;
	int n = snprintf(lines, sizeof lines,
		"entries\t%llu\nbytes\t%llu\nbegin_lsn\t%llu\nend_lsn\t%llu\nsegments_removed\t%"
		"llu\n",
		(unsigned long long)r->n_entries, (unsigned long long)r->bytes,
		(unsigned long long)r->begin_lsn, (unsigned long long)r->end_lsn,
		(unsigned long long)said->n_gone);
	sup_admin_reply(sup, a, ADMIN_R_NONE, lines, (size_t)n);
}

/* ---------------------------------------------------------------- the process */

static void args_fill(const struct sup *sup, struct args *to, const char *const socket, int result)
{
	static char name[] = "hypercached", word[] = CHECKPOINT_WORD;
	int n = 0;

	(void)snprintf(to->folder, sizeof to->folder, "%d", sup->data.dir);
	(void)snprintf(to->result, sizeof to->result, "%d", result);
	for (int i = 0; i < 16; i++)
		(void)snprintf(to->log + 2 * i, 3, "%02x", sup->data.log[i]);
	to->argv[n++] = name;
	to->argv[n++] = word;
	to->argv[n++] = (char *)(uintptr_t)socket;
	to->argv[n++] = to->folder;
	to->argv[n++] = to->result;
	to->argv[n++] = to->log;
	for (uint32_t i = 0; i < sup->config.n_stores; i++) {
		const struct config_store *s = &sup->config.store[i];
		if (s->durability == CONFIG_DURABILITY_NONE)
			continue;
		(void)snprintf(to->store[i], STORE_BYTES, "%s:%llu:%llu", s->name,
			(unsigned long long)s->id, (unsigned long long)eng_log_id(s->name));
		to->argv[n++] = to->store[i];
	}
	to->argv[n] = NULL;
}

/* In the child.  Async-signal-safe calls only. */
static _Noreturn void child_exec(
	const struct sup *sup, const struct args *args, int result, int said, pid_t parent)
{
	sigset_t none;

	(void)signal(SIGINT, SIG_IGN); /* what a terminal sends to all is for the supervisor */
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent ||
		fcntl(sup->data.dir, F_SETFD, 0) != 0 || fcntl(result, F_SETFD, 0) != 0 ||
		dup2(said, STDERR_FILENO) < 0)
		_exit(126);
	(void)execv("/proc/self/exe", args->argv);
	_exit(127);
}

static int pipe_open(int *ret_read, int *ret_write)
{
	int pair[2];

	if (pipe2(pair, O_CLOEXEC | O_NONBLOCK) != 0)
		return err_new(-errno);
	*ret_read = pair[0];
	*ret_write = pair[1];
	return 0;
}

/* It is ours, and has a descriptor. */
static void child_began(struct sup_checkpoint *c, pid_t pid, enum sup_checkpoint_state state)
{
	c->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	CHECK(c->pidfd >= 0); /* our own child, not yet waited for, and descriptors to spare */
	c->pid = pid;
	c->state = state;
}

static int writer_start(struct sup *sup)
{
	static struct args args;
	struct sup_checkpoint *c = &sup->checkpoint;
	_cleanup_close_ int result = -1, said = -1;
	pid_t parent = getpid();
	int r = pipe_open(&c->result_fd, &result);

	if (r == 0)
		r = pipe_open(&c->said_fd, &said);
	if (r < 0)
		return err_fwd(r);
	args_fill(sup, &args, sup->listen.path, result);
	pid_t pid = fork();
	if (pid < 0)
		return err_new(-errno);
	if (pid == 0)
		child_exec(sup, &args, result, said, parent);
	child_began(c, pid, SUP_CHECKPOINT_WRITING);
	return 0;
}

static void begin(struct sup *sup)
{
	struct sup_checkpoint *c = &sup->checkpoint;

	c->began_lsn = counter(sup, SHM_DC_log_lsn);
	c->began_bytes = c->bytes;
	c->began_id = sup->next_id;
	c->spoilt = false;
	int r = writer_start(sup);
	if (r < 0)
		failed(sup, "the process that writes it cannot be started: %s", strerror(-r));
}

/* How a child ended, if it did.  False: it lives. */
static bool child_ended(struct sup_checkpoint *c, siginfo_t *how)
{
	*how = (siginfo_t){0};
	if (waitid(P_PID, (id_t)c->pid, how, WEXITED | WNOHANG) != 0 || how->si_pid == 0)
		return false;
	cleanup_closep_(&c->pidfd);
	c->pidfd = -1;
	c->pid = 0;
	return true;
}

/* Why there is no result. */
static void writer_failed(struct sup *sup, const siginfo_t *how)
{
	char said[SUP_CHECKPOINT_TEXT_BYTES / 2];
	ssize_t n = read(sup->checkpoint.said_fd, said, sizeof said - 1);

	said[n > 0 ? n : 0] = 0;
	said[strcspn(said, "\n")] = 0;
	for (char *at = said; *at; at++)
		if ((unsigned char)*at < ' ' || *at == 0x7f)
			*at = '?';
	if (*said)
		failed(sup, "%s", said);
	else if (how->si_code == CLD_EXITED)
		failed(sup, "the process that writes it ended with status %d", how->si_status);
	else
		failed(sup, "the process that writes it was killed by signal %d", how->si_status);
}

static void on_writer(struct sup *sup)
{
	struct sup_checkpoint *c = &sup->checkpoint;
	siginfo_t how;

	if (!child_ended(c, &how))
		return;
	if (c->spoilt) {
		put_off(sup, engine_ended);
		return;
	}
	if (how.si_code != CLD_EXITED || how.si_status != 0 ||
		read(c->result_fd, &c->result, sizeof c->result) != (ssize_t)sizeof c->result) {
		writer_failed(sup, &how);
		return;
	}
	if (!sup->ctl || c->began_id != sup->next_id || sup->change.state != SUP_CHANGE_NONE) {
		put_off(sup, "stores came while it was written: try again");
		return;
	}
	c->state = SUP_CHECKPOINT_AWAITS;
	/* The engine counts a change as logged before anybody sees it. */
	c->all_lsn = counter(sup, SHM_DC_log_lsn);
	if (c->all_lsn < c->result.end_lsn)
		c->all_lsn = c->result.end_lsn;
	c->look_ns = sup_host_mono_ns();
	c->deadline_ns = c->look_ns + ms_ns(AWAIT_MS);
}

/* ------------------------------------------------------------------ the commit */

/* The begins of all segments, as files for wal_read_states(): heap, both. */
static int begins_read(
	int wal, const uint64_t *number, int n, struct wal_file **ret, uint8_t **ret_at)
{
	struct wal_file *f = calloc((size_t)n, sizeof *f);
	uint8_t *at = calloc((size_t)n, WAL_BLOCK);

	*ret = f;
	*ret_at = at;
	if (!f || !at)
		return err_new(-ENOMEM);
	for (int i = 0; i < n; i++) {
		_cleanup_close_ int fd = segments_open(wal, number[i], O_RDONLY);
		if (fd < 0)
			return err_fwd(fd);
		f[i] = (struct wal_file){.number = number[i],
			.fd = -1,
			.map = at + (size_t)i * WAL_BLOCK,
			.bytes = WAL_BLOCK};
		if (pread(fd, at + (size_t)i * WAL_BLOCK, WAL_BLOCK, 0) < 0)
			return err_new(-errno);
	}
	return 0;
}

/* Those below the highest of WAL_FILE_OLD, the oldest first: nothing that stays names one of them, and the engine takes
 * numbers in their order.  That one itself stays: the begin behind it may not be durable yet. */
static int unlink_old(int wal, const struct wal_file *f, const enum wal_file_state *state, int n,
	uint64_t *ret_gone)
{
	char name[WAL_NAME_BYTES];
	int keep = n - 1;

	while (keep > 0 && state[keep] != WAL_FILE_OLD)
		keep--;
	for (int i = 0; i < keep; i++) {
		if (state[i] != WAL_FILE_OLD && state[i] != WAL_FILE_VOID &&
			state[i] != WAL_FILE_UNUSED)
			continue;
		wal_name_format(name, f[i].number);
		if (unlinkat(wal, name, 0) != 0)
			return err_new(-errno);
		++*ret_gone;
	}
	return *ret_gone && fsync(wal) != 0 ? err_new(-errno) : 0;
}

/* Removes what is needed neither by the newest checkpoint nor by the one before.  0 or -errno. */
static int segments_remove(const struct sup *sup, uint64_t *ret_gone)
{
	_cleanup_free_ uint64_t *number = NULL;
	_cleanup_free_ struct wal_file *f = NULL;
	_cleanup_free_ uint8_t *at = NULL;
	_cleanup_free_ enum wal_file_state *state = NULL;
	int64_t need = checkpoint_needs_from(sup->data.dir);

	if (need <= 1)
		return need < 0 ? err_fwd((int)need) : 0;
	if (MUTANT(761)) /* 761: only the newest one counts */
		need = (int64_t)sup->checkpoint.result.begin_lsn + 1;
	int n = segments_read(sup->data.wal, &number);
	if (n <= 0)
		return err_fwd(n);
	int r = begins_read(sup->data.wal, number, n, &f, &at);
	state = calloc((size_t)n, sizeof *state);
	if (r == 0 && !state)
		r = err_new(-ENOMEM);
	const struct wal_read_opts opts = {.files = f,
		.n_files = (size_t)n,
		.identity = sup->data.log,
		.from_lsn = (uint64_t)need};
	if (r == 0)
		r = wal_read_states(&opts, state);
	return r == 0 ? err_fwd(unlink_old(sup->data.wal, f, state, n, ret_gone)) : err_fwd(r);
}

static _Noreturn void commit_run(const struct sup *sup, int out, pid_t parent)
{
	struct said said = {0};

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
		_exit(126);
	/* They are to end with the supervisor, the folder's lock above all. */
	const int its[] = {sup->folder_lock, sup->listen.fd, sup->admin_listen.fd,
		sup->engine.channel, sup->engine.pidfd, sup->signals};
	for (size_t i = 0; i < sizeof its / sizeof *its; i++)
		if (its[i] >= 0)
			(void)close(its[i]);
	said.error = checkpoint_commit(sup->data.dir, sup->data.log, said.why);
	if (said.error == 0)
		said.log = segments_remove(sup, &said.n_gone);
	_exit(write(out, &said, sizeof said) != (ssize_t)sizeof said);
}

static void commit_start(struct sup *sup)
{
	struct sup_checkpoint *c = &sup->checkpoint;
	_cleanup_close_ int out = -1;
	pid_t parent = getpid(), pid;

	cleanup_closep_(&c->result_fd);
	c->result_fd = -1;
	int r = pipe_open(&c->result_fd, &out);
	if (r < 0 || (pid = fork()) < 0) {
		failed(sup, "the child that commits it cannot be started: %s", strerror(errno));
		return;
	}
	if (pid == 0)
		commit_run(sup, out, parent);
	child_began(c, pid, SUP_CHECKPOINT_COMMITTING);
}

static void on_commit(struct sup *sup)
{
	struct sup_checkpoint *c = &sup->checkpoint;
	struct said said;
	siginfo_t how;

	if (!child_ended(c, &how))
		return;
	if (how.si_code != CLD_EXITED || how.si_status != 0 ||
		read(c->result_fd, &said, sizeof said) != (ssize_t)sizeof said) {
		failed(sup, "the child that commits it ended with %s %d",
			how.si_code == CLD_EXITED ? "status" : "signal", how.si_status);
		return;
	}
	let_go(c);
	if (said.error == 0)
		done(sup, &said);
	else if (said.error > 0)
		failed(sup, "%.250s", said.why);
	else
		failed(sup, "it cannot be given its name: %s", strerror(-said.error));
}

/* Is the log durable up to all that was seen? */
static void await_look(struct sup *sup, uint64_t now_ns)
{
	struct sup_checkpoint *c = &sup->checkpoint;

	c->look_ns = now_ns + ms_ns(LOOK_MS);
	if (counter(sup, SHM_DC_log_durable_lsn) >= c->all_lsn ||
		MUTANT(760)) /* 760: nobody asks the log */
		commit_start(sup);
	else if (now_ns >= c->deadline_ns)
		failed(sup, "the log is not on disk up to change %llu after %d s",
			(unsigned long long)c->all_lsn, AWAIT_MS / 1000);
}

/* --------------------------------------------------------------------- events */

void sup_checkpoint_on_child(struct sup *sup)
{
	if (sup->checkpoint.state == SUP_CHECKPOINT_WRITING)
		on_writer(sup);
	else if (sup->checkpoint.state == SUP_CHECKPOINT_COMMITTING)
		on_commit(sup);
}

void sup_checkpoint_on_death(struct sup *sup)
{
	struct sup_checkpoint *c = &sup->checkpoint;

	if (c->state ==
		SUP_CHECKPOINT_WRITING) { /* it may take a while to end: it is not waited for */
		(void)kill(c->pid, SIGKILL);
		c->spoilt = true;
	} else if (c->state == SUP_CHECKPOINT_AWAITS) {
		put_off(sup, engine_ended);
	}
}

void sup_checkpoint_on_segment(struct sup *sup)
{
	sup->checkpoint.bytes += sup->config.wal_segment_bytes;
}

/* Why none can begin now; NULL: nothing is in the way. */
static const char *in_the_way(const struct sup *sup)
{
	if (sup->stop_ns)
		return "the daemon is about to end";
	if (sup->upgrade.state != SUP_UPGRADE_NONE)
		return "an upgrade is under way: try again";
	if (!sup->ctl || sup->engine.state != ADMIN_ENGINE_SERVING)
		return "no engine serves now: try again";
	if (counter(sup, SHM_DC_unverified) != 0)
		return "a new engine looks at all checksums first: try again";
	if (sup->change.state != SUP_CHANGE_NONE)
		return "a change of the configuration is under way: try again";
	return NULL;
}

uint64_t sup_checkpoint_due(const struct sup *sup)
{
	const struct sup_checkpoint *c = &sup->checkpoint;
	uint64_t every_ns = sup->config.checkpoint_every_ns, at_ns = UINT64_MAX;

	if (sup->data.wal < 0 || sup->stop_ns)
		return UINT64_MAX;
	if (c->state != SUP_CHECKPOINT_NONE)
		return c->state == SUP_CHECKPOINT_AWAITS ? c->look_ns : UINT64_MAX;
	if (sup->engine.state != ADMIN_ENGINE_SERVING)
		return UINT64_MAX;
	if (every_ns)
		at_ns = c->last_ns + every_ns;
	if (c->bytes >= sup->config.checkpoint_wal_bytes)
		at_ns = 0;
	return at_ns > c->retry_ns ? at_ns : c->retry_ns;
}

void sup_checkpoint_on_due(struct sup *sup, uint64_t now_ns)
{
	struct sup_checkpoint *c = &sup->checkpoint;

	if (now_ns < sup_checkpoint_due(sup))
		return;
	if (c->state == SUP_CHECKPOINT_AWAITS) {
		await_look(sup, now_ns);
		return;
	}
	if (in_the_way(sup)) {
		c->retry_ns = now_ns + ms_ns(PAUSE_MS);
		return;
	}
	if (counter(sup, SHM_DC_log_lsn) ==
		c->lsn) { /* segments in reserve, and nothing in them yet */
		c->bytes = 0;
		c->last_ns = now_ns;
		return;
	}
	begin(sup);
}

void sup_checkpoint_begin(struct sup *sup, struct sup_admin *a)
{
	struct sup_checkpoint *c = &sup->checkpoint;
	const char *why = in_the_way(sup);

	if (sup->data.wal < 0) {
		reply(sup, a, ADMIN_R_NO_LOG,
			"no store is durable: checkpoints are for stores with durability sync or "
			"async");
		return;
	}
	if (!why && c->state != SUP_CHECKPOINT_NONE)
		why = "a checkpoint is being written: try again";
	if (why) {
		reply(sup, a, ADMIN_R_BUSY, why);
		return;
	}
	c->asker = a;
	a->waits = true;
	a->deadline_ns = sup_host_mono_ns() + ms_ns(SUP_CHECKPOINT_TELL_MS);
	begin(sup);
}

void sup_checkpoint_forget(struct sup *sup, const struct sup_admin *a)
{
	if (sup->checkpoint.asker == a)
		sup->checkpoint.asker = NULL;
}

/* ----------------------------------------------------------------------- life */

void sup_checkpoint_init(struct sup *sup)
{
	sup->checkpoint = (struct sup_checkpoint){.pidfd = -1, .result_fd = -1, .said_fd = -1};
}

void sup_checkpoint_open(struct sup *sup)
{
	if (sup->data.wal < 0)
		return;
	checkpoint_clean(sup->data.dir);
	sup->checkpoint.last_ns = sup_host_mono_ns();
}

void sup_checkpoint_close(struct sup *sup)
{
	let_go(&sup->checkpoint);
	sup->checkpoint.asker = NULL;
}
