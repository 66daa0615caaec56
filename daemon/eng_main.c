/* eng_main.c - an engine's life: takes over, serves, ends.
 *
 *   heritage read and checked                 STEP engine:started
 *   last words                                panic_open
 *   control, journal mapped
 *   the one writer's lock                     rule P22: from here on nobody else writes
 *   life word, generation, ADOPTING
 *   pools mapped
 *   sessions of the heritage, mapped          rule P16
 *   the journal's intent decided              rule P23: before anything moves
 *   pins scanned, pools opened                rule P15
 *   hardening: strict: memory closed          STEP engine:adopted
 *   system calls given up
 *   SERVING, READY, the loop                  STEP engine:ready
 *
 * Ends when the supervisor says so or is gone: what was asked is answered, the
 * control segment says ENDED.  README.md beside this file has the reasons.
 */
#include "eng.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "base/check.h"
#include "base/err.h"
#include "eng_lock.h"
#include "late.h"
#include "panic.h"
#include "step.h"
#include "sup_life.h"

enum {
	MAIN_LOCK_TRIES = 2000, /* x 5 ms: how long a dead predecessor's lock is awaited */
	MAIN_LOCK_NS = 5000000,
	MAIN_ADOPT_WAIT_MS = 250,
	MAIN_STATUS_FAILED = 1,
	MAIN_FDS_SPARE = 256,
	MAIN_FDS_SESSION = 2, /* memfd, pidfd */
	MAIN_FDS_HELLO = WIRE_FDS_MAX,
};

uint64_t eng_clock_ns(void)
{
	struct timespec t;

	CHECK(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
	return (uint64_t)t.tv_sec * ENG_NS_PER_S + (uint64_t)t.tv_nsec;
}

uint64_t eng_wall_ns(void)
{
	struct timespec t;

	CHECK(clock_gettime(CLOCK_REALTIME, &t) == 0);
	return (uint64_t)t.tv_sec * ENG_NS_PER_S + (uint64_t)t.tv_nsec;
}

/* ------------------------------------------------------------------ heritage */

static bool heritage_ok(const struct heritage *h)
{
	const struct config *c = &h->config;

	return h->magic == HERITAGE_MAGIC && h->bytes == sizeof *h && c->n_pools >= 1 &&
	       c->n_pools <= CONFIG_POOLS_MAX && c->n_stores >= 1 &&
	       c->n_stores <= CONFIG_STORES_MAX && c->max_clients >= 1 &&
	       c->max_clients <= SHM_SESSIONS_MAX && c->threads_per_client >= 1 &&
	       c->threads_per_client <= SHM_BLOCKS_MAX && c->heartbeat_ns > 0 &&
	       h->n_sessions <= SHM_SESSIONS_MAX;
}

/* Reads the heritage and closes its descriptor.  0 and *ret (heap), or -errno. */
static int heritage_read(int fd, struct heritage **ret)
{
	struct stat st;
	struct heritage *h = calloc(1, sizeof *h);

	if (!h)
		return err_new(-ENOMEM);
	int r = 0;
	if (fstat(fd, &st) < 0)
		r = err_new(-errno);
	else if (st.st_size != (off_t)sizeof *h ||
		 pread(fd, h, sizeof *h, 0) != (ssize_t)sizeof *h || !heritage_ok(h))
		r = err_new(-EBADMSG);
	if (r < 0) {
		free(h);
		return r;
	}
	(void)close(fd);
	*ret = h;
	return 0;
}

/* Descriptors do not go on to a child, signals are the supervisor's business: it says
 * QUIT over the channel, also when a terminal or a service manager signals everybody. */
static void main_process(struct eng *e)
{
	const int fds[] = {e->h->listen_fd, e->h->channel_fd, e->h->control_fd, e->h->journal_fd,
		e->h->lock_fd, e->h->panic_fd};
	struct rlimit rl;
	sigset_t none;

	for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
		(void)fcntl(fds[i], F_SETFD, FD_CLOEXEC);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)signal(SIGINT, SIG_IGN);
	(void)signal(SIGTERM, SIG_IGN);
	(void)signal(SIGHUP, SIG_IGN);
	(void)signal(SIGUSR2, SIG_IGN);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	uint64_t want = MAIN_FDS_SPARE + MAIN_FDS_HELLO +
	                (uint64_t)e->config->max_clients * (3 + MAIN_FDS_SESSION);
	if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur < want) {
		rl.rlim_cur = want < rl.rlim_max ? want : rl.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &rl);
		if (rl.rlim_cur < want)
			log_warn("max_clients %u may need %llu descriptors, the limit is %llu",
				e->config->max_clients, (unsigned long long)want,
				(unsigned long long)rl.rlim_cur);
	}
	int r = eng_lock_rights(e->config->lockdown == CONFIG_LOCKDOWN_AUTO ||
				e->config->hardening == CONFIG_HARDENING_STRICT);
	if (r < 0)
		log_warn("the engine keeps its capabilities: %s", strerror(-r));
}

/* ---------------------------------------------------------------- taking over */

/* Does it lie in its file, with what it says of itself? */
static bool journal_ok(const struct eng *e)
{
	const struct shm_journal *j = e->journal;
	uint64_t bytes = j->seg.total_bytes; /* the file's: it was compared */

	return j->n_sessions >= e->config->max_clients && j->n_sessions <= SHM_SESSIONS_MAX &&
	       shm_journal_bytes(j->n_sessions) <= bytes &&
	       (j->n_leases == 0 ||
		       (j->n_leases <= SHM_LEASES &&
			       j->leases_off % sizeof(struct shm_lease) == 0 &&
			       j->leases_off >= shm_journal_bytes(j->n_sessions) &&
			       j->leases_off <= bytes &&
			       j->n_leases * sizeof(struct shm_lease) <= bytes - j->leases_off));
}

static int map_control(struct eng *e)
{
	void *m;
	int r = eng_map_segment(e->h->control_fd, sizeof(struct shm_control), SHM_KIND_CONTROL, &m);

	if (r < 0)
		return err_fwd(r);
	e->ctl = m;
	r = eng_map_segment(
		e->h->journal_fd, shm_journal_bytes(e->config->max_clients), SHM_KIND_JOURNAL, &m);
	if (r < 0)
		return err_fwd(r);
	e->journal = m;
	if (!journal_ok(e))
		return err_new(-EBADMSG);
	eng_slow_start(e);
	return 0;
}

static int map_pools(struct eng *e)
{
	for (uint32_t i = 0; i < e->config->n_pools; i++) {
		struct eng_pool *p = &e->pool[i];
		eng_at(e, i);
		int r = eng_map_pool(e, i, &p->base, &p->bytes);
		if (r < 0)
			return log_fail(r, "pool %u cannot be mapped", i);
		p->e = e;
		TAILQ_INIT(&p->watch);
		p->n_regions = shm_load32_rlx(&e->ctl->pool[i].n_regions);
		p->limbo_cap_bytes = e->config->pool[i].limbo_cap_bytes;
	}
	eng_at_none(e);
	return 0;
}

/* Rule P22.  The supervisor starts us when our predecessor is dead; the kernel may need a
 * moment more to close what that one had. */
static int lock_take(struct eng *e)
{
	const struct timespec pause = {.tv_nsec = MAIN_LOCK_NS};

	e->lock_fd = eng_map_reopen(e->h->lock_fd, O_RDWR);
	if (e->lock_fd < 0)
		return err_fwd(e->lock_fd);
	for (int i = 0; i < MAIN_LOCK_TRIES; i++) {
		if (flock(e->lock_fd, LOCK_EX | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK && errno != EINTR)
			return err_new(-errno);
		(void)nanosleep(&pause, NULL);
	}
	log_error("another engine still holds the writer's lock of this memory");
	return err_new(-EBUSY);
}

static int claim_life(struct eng *e)
{
	int r = sup_life_claim(&e->ctl->eng_word);

	if (r < 0)
		return err_fwd(r);
	eng_count(e, SHM_DC_engine_starts, 1);
	eng_gauge(e, SHM_DC_loop, eng_loop_kind(e->loop));
	eng_gauge(e, SHM_DC_tick_ns, e->config->heartbeat_ns);
	shm_store_rlx(&e->ctl->engine_gen, shm_load_rlx(&e->ctl->engine_gen) + 1);
	shm_store_rlx(&e->ctl->state, SHM_ENGINE_ADOPTING);
	shm_store_rlx(&e->ctl->heartbeat_ns, eng_clock_ns());
	STEP("engine:claimed");
	return 0;
}

static void decide_intent(struct eng *e)
{
	uint8_t *bases[SHM_POOLS_MAX];
	uint64_t bytes[SHM_POOLS_MAX];

	for (uint32_t i = 0; i < e->config->n_pools; i++) {
		bases[i] = e->pool[i].base;
		bytes[i] = e->pool[i].bytes;
	}
	int r = shm_journal_decide(e->journal, e->ctl, bases, bytes, e->config->n_pools);
	if (r < 0)
		log_error("the journal's intent was damaged and is dropped: the request that was "
			  "under way may or may not have happened");
	else if (r > 0)
		log_info("the last engine died inside a change, which %s",
			r == 1 ? "had happened" : "had not happened");
	STEP("engine:decided");
}

static uint64_t large_bytes(const struct shm_pool *hdr)
{
	return hdr->cls[hdr->n_classes - 1].item_bytes;
}

static const struct shm_pinset *scan_for(void *arg)
{
	struct eng *e = ((struct eng_pool *)arg)->e;

	shm_scan_pins(&e->pins, e->ctl, e->scan, e->n_scan, e->may_barrier);
	return &e->pins;
}

/* Rule P17: memory that a living reader may pin, and whose pins cannot be seen without
 * membarrier, is not reused: the engine waits for those readers to end.  Reads go on. */
static int open_pool(struct eng *e, uint32_t i)
{
	struct eng_pool *p = &e->pool[i];
	bool told = false;

	eng_at(e, i);
	eng_map_ahead(e, i);
	for (;;) {
		e->now_ns = eng_clock_ns();
		int r = shm_pool_open(
			&p->w, p->base, e->ctl, e->journal, i, scan_for, eng_store_adopted, p);
		if (r == 0)
			r = p->adopt_error;
		if (r != -EBUSY) {
			if (r == 0) {
				p->large_bytes = large_bytes(p->w.hdr);
				eng_feed_opened(p);
			}
			return err_fwd(r);
		}
		if (!told)
			log_warn("living clients rely on membarrier, which may not be called: "
				 "waiting for them to end before the pool is taken over");
		told = true;
		if (eng_sup_wants_end(e, MAIN_ADOPT_WAIT_MS))
			return -ECANCELED;
		shm_store_rlx(&e->ctl->heartbeat_ns, eng_clock_ns());
		eng_session_look_all(e);
	}
}

int eng_pool_begin(struct eng *e, const struct config *next, uint32_t pool_idx, uint64_t id)
{
	struct eng_pool *p = &e->pool[pool_idx];
	int fd = e->h->region_fd[pool_idx][0];
	int r = fd < 0 ? -EBADF : eng_map_pool(e, pool_idx, &p->base, &p->bytes);

	if (r < 0)
		return err_fwd(r);
	if (e->config->hardening == CONFIG_HARDENING_STRICT)
		r = fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) == 0 ? 0 : -errno;
	p->e = e;
	p->n_regions = 1;
	p->limbo_cap_bytes = next->pool[pool_idx].limbo_cap_bytes;
	STEP("pool:mapped");
	if (r == 0)
		r = shm_pool_open(&p->w, p->base, e->ctl, e->journal, pool_idx, scan_for,
			eng_store_adopted, p);
	if (r < 0) {
		(void)munmap(p->base, e->ctl->pool[pool_idx].reserve_bytes);
		*p = (struct eng_pool){0};
		return err_fwd(r);
	}
	shm_pool_name(&p->w, id);
	p->large_bytes = large_bytes(p->w.hdr);
	eng_feed_opened(p);
	STEP("pool:begun");
	return 0;
}

void eng_pool_forget(struct eng *e, uint32_t pool_idx)
{
	struct eng_pool *p = &e->pool[pool_idx];
	int *fd = &e->h->region_fd[pool_idx][0];

	if (p->base) {
		shm_pool_close(&p->w);
		(void)munmap(p->base, e->ctl->pool[pool_idx].reserve_bytes);
		*p = (struct eng_pool){0};
	}
	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
}

static int adopt_all(struct eng *e)
{
	int r = eng_session_adopt(e);

	if (r < 0)
		return err_fwd(r);
	r = eng_log_adopt(e);
	if (r < 0)
		return err_fwd(r);
	decide_intent(e);
	eng_fold_adopt(e);
	e->may_barrier = e->config->membarrier != CONFIG_MEMBARRIER_OFF && shm_barrier_is_allowed();
	e->now_ns = eng_clock_ns();
	eng_config_start(e);
	r = eng_store_open(e);
	eng_config_stores(e);
	for (uint32_t i = 0; i < e->config->n_pools && r == 0; i++) {
		r = open_pool(e, i);
		if (r < 0 && r != -ECANCELED)
			log_error("pool %s cannot be taken over", e->ctl->pool[i].name);
		if (r == 0)
			eng_at_none(e);
	}
	if (r == 0)
		r = eng_log_recover(e);
	if (r == 0)
		r = eng_lease_open(e);
	if (r == 0)
		eng_config_adopted(e);
	return err_fwd(r);
}

static int main_loop_new(struct eng *e)
{
	const char *why;
	int r = eng_loop_new(
		e->config->io, 7 * e->config->max_clients + MAIN_FDS_SPARE, &e->loop, &why);

	if (r < 0) {
		log_error("%s", why);
		return err_fwd(r);
	}
	log_info("loop: %s%s%s%s", eng_loop_how(e->loop), why ? " (" : "", why ? why : "",
		why ? ")" : "");
	return 0;
}

/* -------------------------------------------------------------------- serving */

static void main_account(struct eng *e)
{
	if (!e->dirty)
		return;
	e->dirty = false;
	for (uint32_t i = 0; i < e->config->n_pools; i++)
		shm_pool_account(&e->pool[i].w);
}

static void main_tick(void *arg, int result)
{
	struct eng *e = arg;

	(void)result;
	shm_store_rlx(&e->ctl->heartbeat_ns, e->now_ns);
	eng_gauge(e, SHM_DC_tick_ns, e->config->heartbeat_ns);
	eng_hint_drain(e, ENG_HINT_BLOCKS);
	eng_expiry_tick(e);
	eng_worth_tick(e);
	eng_recent_tick(e);
	eng_curve_tick(e);
	eng_hot_tick(e);
	eng_resize_tick(e);
	eng_room_tick(e);
	eng_session_tick(e);
	eng_held_tick(e);
	eng_config_tick(e);
	eng_conn_tick(e);
	eng_log_tick(e);
	for (uint32_t i = 0; i < e->config->n_pools; i++) {
		eng_at(e, i);
		(void)shm_pool_grow_step(&e->pool[i].w, ENG_GROW_CHAINS);
	}
	e->purging |= eng_purge_is_due(e); /* a step that could not go on is tried again */
	eng_loop_timer(e->loop, e->config->heartbeat_ns, &e->tick_wait);
	e->mark_ns = eng_clock_ns();
}

/* What a turn leaves to be done.  True: there is more, do not wait. */
static bool main_turn_end(struct eng *e, bool purging)
{
	bool more = false;

	eng_conn_run_ready(e);
	if (e->sets_since_drain >= ENG_HINT_SETS)
		eng_hint_drain(e, ENG_HINT_BLOCKS_TURN);
	more |= eng_expiry_turn(e);
	more |= eng_recent_turn(e);
	more |= eng_verify_turn(e);
	more |= eng_pressure_turn(e);
	more |= eng_resize_turn(e);
	more |= eng_lease_turn(e);
	eng_room_turn(e);
	for (uint32_t i = 0; i < e->config->n_pools; i++) {
		eng_at(e, i);
		if (e->pool[i].w.next.t)
			more |= shm_pool_grow_step(&e->pool[i].w, ENG_GROW_CHAINS);
	}
	if (purging) /* since before this turn: a clear is answered before its work begins */
		eng_purge_turn(e);
	if (e->dropping)
		eng_store_forget(e);
	more |= late_step();
	more |= eng_feed_turn(e);
	if (e->log)
		more |= eng_log_turn(e);
	eng_conn_reap(e);
	main_account(e);
	return more || e->purging || e->ready;
}

static bool main_over(struct eng *e)
{
	return e->quit && ((e->n_conns == 0 && eng_log_is_idle(e)) ||
				  e->now_ns - e->quit_ns >= ENG_QUIT_S * ENG_NS_PER_S);
}

/* A turn that answered requests and had nothing else to do ended with the last of them, whose time is
 * known: a look at the clock is a fiftieth of what a request takes. */
static void turn_timed(struct eng *e, bool worked)
{
	if (worked || e->mark_ns == e->now_ns)
		(void)eng_timed(e, SHM_HG_turn, e->now_ns);
	else
		shm_hist_add(&e->ctl->hist[SHM_HG_turn], e->mark_ns - e->now_ns);
}

static int main_serve(struct eng *e)
{
	bool more = false;

	late_begin();
	e->tick_wait = (struct eng_wait){.done = main_tick, .arg = e};
	eng_loop_timer(e->loop, e->config->heartbeat_ns, &e->tick_wait);
	while (!main_over(e)) {
		int r = eng_loop_wait(e->loop, !more);
		if (r < 0)
			return err_fwd(r);
		e->now_ns = e->mark_ns = eng_clock_ns();
		eng_feed_time(e);
		bool purging = e->purging;
		eng_loop_dispatch(e->loop);
		more = main_turn_end(e, purging);
		if (purging)
			eng_purge_timed(e);
		turn_timed(e, more || purging);
		eng_at_none(e);
		if (e->pause_end_ns)
			eng_errand_pause(e);
	}
	return 0;
}

/* Only wakes the loop: main_over() looks at the clock. */
static void main_quit_over(void *arg, int result)
{
	(void)arg;
	(void)result;
}

void eng_quit(struct eng *e)
{
	if (e->quit)
		return;
	e->quit = true;
	e->quit_ns = e->now_ns;
	STEP("engine:quit");
	eng_conn_close_all(e);
	e->quit_wait = (struct eng_wait){.done = main_quit_over, .arg = e};
	eng_loop_timer(e->loop, ENG_QUIT_S * ENG_NS_PER_S, &e->quit_wait);
}

/* ------------------------------------------------------------------------ end */

static void main_free(struct eng *e)
{
	late_end();
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
		if (e->store[i].pol)
			e->store[i].pol->ops->free(e->store[i].pol);
		wheel_fini(&e->store[i].wheel);
		pol_ghost_fini(&e->store[i].ghost);
		eng_curve_end(&e->store[i]);
		eng_hot_end(&e->store[i]);
	}
	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++)
		if (e->pool[i].w.alloc)
			shm_pool_close(&e->pool[i].w);
	eng_lease_close(e);
	eng_log_close(e);
	eng_loop_free(e->loop);
	shm_pinset_fini(&e->pins);
	for (uint32_t i = 0; i < e->n_sessions; i++)
		eng_held_end(&e->session[i]);
	free(e->places);
	free(e->session);
	free(e->scan);
	free(e->scan_slot);
	free(e->conn);
	free(e->h);
	free(e);
}

/* All that serving takes is there: the rest of the system's calls is given up. */
static void give_up_calls(const struct eng *e)
{
	char what[ENG_LOCK_TEXT_BYTES];

	if (e->config->lockdown == CONFIG_LOCKDOWN_AUTO && !MUTANT(88)) /* 88: all calls stay */
		log_info("locked down: %s", eng_lock_calls(what));
}

/* While files can be opened. */
static int modules_load(const struct eng *e)
{
	char why[CONFIG_ERROR_BYTES];
	int r = config_modules_load(e->config, why, sizeof why);

	if (r < 0)
		log_error("%s", why);
	return err_fwd(r);
}

static int main_run(struct eng *e)
{
	uint64_t began_ns = eng_clock_ns();
	int r = main_loop_new(e);

	if (r == 0)
		r = map_control(e);
	if (r == 0)
		r = lock_take(e);
	if (r == 0)
		r = claim_life(e);
	if (r == 0)
		r = map_pools(e);
	if (r == 0)
		r = adopt_all(e);
	if (r < 0)
		return err_fwd(r);
	eng_resize_adopted(e);
	STEP("engine:adopted");
	if (e->config->hardening == CONFIG_HARDENING_STRICT) {
		r = eng_map_seal(e);
		if (r < 0)
			return log_fail(r, "hardening: strict cannot be had here");
	}
	give_up_calls(e);
	eng_session_serve(e);
	eng_recent_start(e);
	eng_verify_begin(e);
	eng_at_none(e);
	shm_store_rlx(&e->ctl->state, SHM_ENGINE_SERVING);
	(void)eng_timed(e, SHM_HG_adopt, began_ns);
	r = eng_sup_start(e);
	if (r == 0)
		r = eng_conn_start(e);
	if (r == 0)
		r = eng_sup_send(e, SUP_MSG_READY, NULL, NULL, 0);
	eng_feed_serve(e);
	STEP("engine:ready");
	if (r == 0)
		r = main_serve(e);
	return err_fwd(r);
}

int eng_main(int heritage_fd)
{
	struct eng *e = calloc(1, sizeof *e);
	int r = e ? heritage_read(heritage_fd, &e->h) : err_new(-ENOMEM);

	if (r < 0) {
		(void)log_fail(r, "heritage");
		free(e);
		return MAIN_STATUS_FAILED;
	}
	e->config = &e->h->config;
	log_open(e->h->log_fd, e->config->log_level, "engine");
	r = panic_open(e->h->panic_fd);
	if (r < 0)
		log_warn("fatal signals will leave no last words: %s", strerror(-r));
	main_process(e);
	STEP("engine:started");
	r = modules_load(e);
	if (r == 0)
		r = main_run(e);
	if (r < 0 && r != -ECANCELED)
		(void)log_fail(r, "the engine ends");
	else if (!MUTANT(61)) /* 61: a clean end looks like a crash */
		shm_store_rlx(&e->ctl->state, SHM_ENGINE_ENDED);
	STEP("engine:ended");
	int status = e->data_refused            ? ENGINE_STATUS_DATA
	             : r < 0 && r != -ECANCELED ? MAIN_STATUS_FAILED
	                                        : 0;
	main_free(e);
	return status;
}
