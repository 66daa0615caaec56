/* sup_take.c - goes on where another binary was (sup_upgrade.c), or finds that it cannot.
 *
 *   state read, memory mapped and compared        nothing is changed: whatever goes wrong, a crash and a hang (GUARD_S)
 *                                                 included, the other binary is executed again
 *   word of life                                  from here on it is our daemon
 *   engine
 *
 * An engine that does not come to serve sends us back, too (sup_upgrade_on_death).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "atomic.h"
#include "base/err.h"
#include "log.h"
#include "panic.h"
#include "step.h"
#include "sup_control.h"
#include "sup_life.h"
#include "sup_state.h"

enum { GUARD_S = 5, STATUS_NO = 1 };

/* ----------------------------------------------------------------------- trial */

/* All that can be said without touching anything. */
static int could(int state_fd, struct sup *sup, struct sup_state *st, char why[SUP_STATE_WHY_BYTES])
{
	int r = sup_state_read(state_fd, sup, st, why);

	if (r == 0 && st->layout_minor > SHM_LAYOUT_MINOR) {
		(void)snprintf(why, SUP_STATE_WHY_BYTES,
			"it knows layout %u.%u, the memory is of %u.%u: it is older than the one "
			"that "
			"runs. Stop the daemon and start that one; the cache is empty then",
			SHM_LAYOUT_MAJOR, SHM_LAYOUT_MINOR, st->layout_major, st->layout_minor);
		r = err_new(-EPROTO);
	}
	return err_fwd(r);
}

int sup_check_upgrade(int state_fd)
{
	static struct sup sup;
	static struct sup_state st;
	char why[SUP_STATE_WHY_BYTES];

	sup_init(&sup);
	int r = could(state_fd, &sup, &st, why);
	if (r == 0)
		r = config_modules_try(&sup.config, why, sizeof why);
	if (r == 0)
		printf("%s%s\n", SUP_UPGRADE_GOOD, HC_VERSION_TEXT);
	else
		printf("%s\n", why);
	return r == 0 && fflush(stdout) == 0 ? 0 : STATUS_NO;
}

/* ------------------------------------------------------------------------ back */

/* What a signal handler needs to execute the other binary again. */
static struct {
	int fd; /* -1: there is no way back */
	char number[16], *argv[8];
} guard = {.fd = -1};

static _Noreturn void back(const char *why)
{
	static char reason[SUP_STATE_WHY_BYTES];

	(void)snprintf(reason, sizeof reason, "%s", why);
	guard.argv[4] = reason;
	if (guard.fd >= 0)
		(void)syscall(SYS_execveat, guard.fd, "", guard.argv, environ, AT_EMPTY_PATH);
	log_error("neither could another binary take over nor can the former one go on: %s", why);
	_exit(SUP_STATUS_FAILED);
}

/* Async-signal-safe. */
static void on_signal(int sig)
{
	static char crashed[] = "it crashed while it took over",
		    hung[] = "it hung while it took over";

	guard.argv[4] = sig == SIGALRM ? hung : crashed;
	(void)syscall(SYS_execveat, guard.fd, "", guard.argv, environ, AT_EMPTY_PATH);
	_exit(SUP_STATUS_FAILED);
}

static const int guarded[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGALRM};

/* From here on nothing but SIGKILL ends us before the other binary could go on. */
static void guard_begin(int state_fd, int back_fd)
{
	static char name[] = "hypercached", take[] = "--take-over", taken[] = "--taken-back";
	struct sigaction act = {.sa_handler = on_signal};
	sigset_t set;

	(void)snprintf(guard.number, sizeof guard.number, "%d", state_fd);
	guard.fd = back_fd;
	guard.argv[0] = name;
	guard.argv[1] = take;
	guard.argv[2] = guard.number;
	guard.argv[3] = taken;
	(void)sigemptyset(&set);
	for (size_t i = 0; i < sizeof guarded / sizeof *guarded; i++) {
		(void)sigaction(guarded[i], &act, NULL);
		(void)sigaddset(&set, guarded[i]);
	}
	(void)sigprocmask(SIG_UNBLOCK, &set, NULL); /* a handler may have executed us */
	(void)alarm(GUARD_S);
}

static void guard_end(void)
{
	(void)alarm(0);
	for (size_t i = 0; i < sizeof guarded / sizeof *guarded; i++)
		(void)signal(guarded[i], SIG_DFL);
}

/* ------------------------------------------------------------------------ take */

/* Are the pools of the directory those of the configuration? */
static bool pools_match(const struct sup *sup)
{
	bool same = true;

	for (uint32_t i = 0; i < sup->config.n_pools; i++) {
		const struct shm_pool_entry *e = &sup->ctl->pool[i];
		same &= shm_load_rlx(&e->id) != 0 &&
		        strncmp(e->name, sup->config.pool[i].name, sizeof e->name) == 0;
		for (uint32_t r = 0; r < SHM_REGIONS_MAX; r++)
			same &= sup->region[i][r].fd >= 0 || r >= shm_load32_rlx(&e->n_regions);
	}
	return same;
}

int sup_memory_take(struct sup *sup, uint64_t daemon_id)
{
	uint64_t bytes;
	void *map;
	int r = sup_segment_map(&sup->control, sizeof *sup->ctl, &map, &sup->ctl_bytes);

	if (r < 0)
		return log_fail(r, "cannot map the control segment");
	sup->ctl = map;
	r = sup_segment_map(&sup->journal, sizeof *sup->jrn, &map, &bytes);
	if (r < 0)
		return log_fail(r, "cannot map the journal");
	sup->jrn = map;
	sup->jrn_bytes = bytes;
	const struct shm_segment *seg = &sup->ctl->seg;
	if (shm_load_acq(&seg->magic) != SHM_MAGIC || /* acq:segment.magic */
		seg->major != SHM_LAYOUT_MAJOR || seg->kind != SHM_KIND_CONTROL ||
		seg->daemon_id != daemon_id || sup->jrn->seg.daemon_id != daemon_id ||
		sup->ctl->n_sessions != sup->config.max_clients || !pools_match(sup))
		return log_fail(err_new(-EBADMSG), "the memory is not what the state says of it");
	if (!sup->born)
		sup->born = malloc(sizeof *sup->born);
	if (!sup->born)
		return log_fail(err_new(-ENOMEM), "no memory for a copy of the directory");
	return 0;
}

void sup_memory_own(struct sup *sup)
{
	sup_control_take(sup->ctl);
	memcpy(sup->born, sup->ctl, sizeof *sup->born);
	sup_memory_restamp(sup);
	STEP("sup:take-before-life");
	(void)sup_life_claim(&sup->ctl->sup_word);
}

/* The tool that asked waits for its answer. */
static void asker_take(struct sup *sup, const struct sup_state *st)
{
	if (st->asker_fd < 0)
		return;
	sup->admin[0] = (struct sup_admin){.fd = st->asker_fd,
		.asked = true,
		.waits = true,
		.may_change = true,
		.deadline_ns = sup_host_mono_ns() + SUP_UPGRADE_TELL_MS * UINT64_C(1000000)};
	sup->upgrade.asker = &sup->admin[0];
}

/* What cannot go wrong: it is ours. */
static void own(struct sup *sup, const struct sup_state *st, const char *taken_back)
{
	sup_memory_own(sup);
	sup_keeper_end(st->keeper_fd);
	STEP("sup:taken");
	asker_take(sup, st);
	sup->upgrade.state = SUP_UPGRADE_TAKEN;
	(void)snprintf(sup->upgrade.from, sizeof sup->upgrade.from, "%s", st->release);
	if (taken_back) {
		(void)snprintf(sup->upgrade.failed, sizeof sup->upgrade.failed,
			"the new binary could not take over: %s", taken_back);
		if (st->back_fd >= 0)
			(void)close(st->back_fd);
	} else {
		sup->upgrade.back_fd = st->back_fd;
	}
}

static int take(int state_fd, struct sup *sup, struct sup_state *st, bool taken_back)
{
	char why[SUP_STATE_WHY_BYTES];

	if (!taken_back)
		guard_begin(state_fd, sup_state_back(state_fd));
	int r = sup_state_read(state_fd, sup, st, why);
	if (r < 0) {
		if (!taken_back)
			back(why);
		return log_fail(r, "%s", why);
	}
	log_open(STDERR_FILENO, sup->config.log_level, "supervisor");
	STEP("sup:take-read");
	r = sup_memory_take(sup, st->daemon_id);
	if (r == 0)
		r = sup_signals_open(sup);
	if (r == 0)
		r = sup_state_inherit(sup, st, false);
	if (r < 0 && !taken_back) {
		(void)sup_state_inherit(sup, st, true);
		back("it could not take the memory over: see the log");
	}
	return err_fwd(r);
}

int sup_take_over(int state_fd, const char *taken_back)
{
	static struct sup sup;
	static struct sup_state st;

	(void)alarm(0);                          /* another binary's */
	(void)prctl(PR_SET_NAME, "hypercached"); /* it would be the number of a descriptor */
	sup_init(&sup);
	int r = take(state_fd, &sup, &st, taken_back != NULL);
	if (r < 0)
		return SUP_STATUS_FAILED;
	(void)close(state_fd);
	own(&sup, &st, taken_back);
	guard_end();
	if (panic_open(STDERR_FILENO) < 0)
		log_warn("fatal signals of the supervisor will not be explained");
	sup_exe_read(sup.exe);
	log_info("hypercached %s goes on where %s was", HC_VERSION_TEXT, st.release);
	if (sup.store.book_seg.fd >= 0 && sup_store_book_open(&sup, sup.store.book_seg.fd) == 0) {
		sup_store_limit(&sup);
		sup_store_begin(&sup, true);
	}
	sup_watchdog_begin(&sup);
	sup_metrics_begin(&sup);
	STEP("sup:take-engine");
	return sup_serve(&sup,
		sup_data_open(&sup) == 0 && sup_log_open(&sup) == 0 && sup_engine_start(&sup) == 0);
}
