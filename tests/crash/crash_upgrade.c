/* crash_upgrade.c - whoever dies while another binary goes on: engines at every mark that they pass, the supervisor
 * at every mark of the upgrade, and the other binary itself, which crashes or hangs where it takes over.
 *
 * All clients' values and counters are as they were told (exactly once); a reader who would fail if the daemon
 * were gone reads all the time.
 *
 * Planted bug (shm/step.h) that this file must catch: 775. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "../kit/t_step.h"
#include "atomic.h"
#include "hypercache.h"

enum { LIMIT_MS = 30000, KEYS = 50 };

struct world {
	struct t_daemon *d;
	struct hc *hc;
	struct hc_store *s;
	int64_t n; /* increments that were answered */
	pthread_t thread, writer;
	shm_u32 stop;
	shm_u64 reads;
};

static void once(void)
{
	int fd = open(t_path("once"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	CHECK(fd >= 0);
	(void)close(fd);
}

static int cli(const struct t_daemon *d, const char *verb)
{
	return t_run((const char *[]){t_bin("hypercache"), "--socket", d->socket, "--admin",
			     d->admin, "--timeout", "20s", verb, NULL},
		NULL, 0, NULL, NULL, NULL, LIMIT_MS);
}

static void read_all(const struct world *w)
{
	char key[16], buf[16];
	size_t n;

	for (int i = 0; i < KEYS; i++) {
		size_t k = (size_t)snprintf(key, sizeof key, "key-%d", i);
		CHECK_EQ(hc_get(w->s, key, k, buf, sizeof buf, &n), HC_OK);
		CHECK(n == k && memcmp(buf, key, k) == 0);
	}
}

static void *reader(void *arg)
{
	struct world *w = arg;

	while (!shm_load32_acq(&w->stop)) { /* acq:test.stop */
		read_all(w);
		shm_count(&w->reads, 1);
	}
	return NULL;
}

/* One more, whoever dies. */
static void count(struct world *w)
{
	int64_t sum;

	CHECK_EQ(hc_incr(w->s, "count", 5, 1, NULL, &sum), HC_OK);
	CHECK_EQ(sum, ++w->n);
}

/* A daemon, its client, a thread that reads.  order: HC_STEP. */
static void begin(struct world *w, const char *order)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	char env[512], key[16];

	*w = (struct world){.d = NULL};
	(void)snprintf(env, sizeof env, "HC_STEP=%s", order);
	w->d = t_daemon_start(NULL, (const char *[]){env, NULL});
	o.socket = w->d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(LIMIT_MS);
	o.stale = HC_STALE_FAIL;
	CHECK_EQ(hc_open(&w->hc, &o), HC_OK);
	CHECK_EQ(hc_store(w->hc, "default", &w->s), HC_OK);
	for (int i = 0; i < KEYS; i++) {
		size_t k = (size_t)snprintf(key, sizeof key, "key-%d", i);
		CHECK_EQ(hc_set(w->s, key, k, key, k, NULL), HC_OK);
	}
	count(w);
}

static void read_begin(struct world *w)
{
	CHECK_EQ(pthread_create(&w->thread, NULL, reader, w), 0);
}

static void read_end(struct world *w)
{
	shm_store32_rel(&w->stop, 1); /* rel:test.stop */
	CHECK_EQ(pthread_join(w->thread, NULL), 0);
}

static void end(struct world *w)
{
	read_end(w);
	read_all(w);
	count(w);
	CHECK_EQ(cli(w->d, "fsck"), 0);
	hc_close(w->hc);
	t_daemon_stop(w->d);
}

/* ---------------------------------------------------------------------- engines */

static void *writer(void *arg)
{
	struct world *w = arg;

	while (!shm_load32_acq(&w->stop)) /* acq:test.stop */
		count(w);
	return NULL;
}

/* Wherever an engine dies, the old one that is to end or the new one that takes over. */
TEST_LIMIT(engines_are_killed_at_every_mark_of_an_upgrade, 120)
{
	static const char *const at[] = {"engine:quit", "engine:ended", "engine:started",
		"engine:claimed", "engine:decided", "engine:adopted", "engine:ready"};
	char order[512];

	for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
		struct world w;
		fprintf(stderr, "  killed at %s\n", at[i]);
		(void)snprintf(order, sizeof order, "kill:%s:0:%s", at[i], t_path("once"));
		begin(&w, order);
		read_begin(&w);
		CHECK_EQ(pthread_create(&w.writer, NULL, writer, &w), 0);
		once();
		CHECK_EQ(cli(w.d, "upgrade"), 0);
		t_wait_path(t_path("once"), false, LIMIT_MS);
		shm_store32_rel(&w.stop, 1); /* rel:test.stop */
		CHECK_EQ(pthread_join(w.writer, NULL), 0);
		end(&w);
	}
}

/* ----------------------------------------------------------------- the supervisor */

/* An engine whose supervisor has died is ours, until it ends by itself. */
static void orphans_wait(void)
{
	pid_t pid[8];
	int n = t_children(getpid(), pid, 8);

	for (int k = 0; k < n; k++)
		t_daemon_wait_gone(pid[k]);
}

/* It dies: whoever reads learns it, at whatever mark that is. */
TEST_LIMIT(readers_learn_that_the_supervisor_died_in_an_upgrade, 120)
{
	static const char *const at[] = {"sup:upgrade-trial", "sup:upgrade-tried",
		"sup:upgrade-quit", "sup:upgrade-quiet", "sup:upgrade-kept", "sup:upgrade-exec",
		"sup:take-read", "sup:take-before-life", "sup:taken", "sup:take-engine",
		"sup:upgrade-serves"};
	char order[512], buf[16];
	size_t n;

	for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
		struct world w;
		uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(LIMIT_MS) * 1000000;
		fprintf(stderr, "  killed at %s\n", at[i]);
		(void)snprintf(order, sizeof order, "kill:%s:0:%s", at[i], t_path("once"));
		begin(&w, order);
		once();
		(void)cli(w.d, "upgrade");
		CHECK_EQ(t_proc_exit(w.d->proc, LIMIT_MS), 128 + SIGKILL);
		while (!(hc_health(w.hc) &
			 HC_SUPERVISOR_GONE)) /* a child holds the word, and dies with it */
			CHECK(t_now_ns() < end_ns);
		CHECK_EQ(hc_get(w.s, "key-1", 5, buf, sizeof buf, &n), HC_E_STALE);
		hc_close(w.hc);
		orphans_wait();
		t_daemon_free(w.d);
		t_step_killed(at[i]);
	}
}

/* -------------------------------------------------------------- the other binary */

/* It stands still where it takes over; then what `what` says.  The former goes on, and a reader has noticed nothing. */
static void stuck(int sig)
{
	char order[512];
	struct world w;
	char *err;

	(void)snprintf(order, sizeof order, "hang:sup:take-read:0:%s", t_path("once"));
	begin(&w, order);
	read_begin(&w);
	once();
	struct t_proc *p = t_spawn((const char *[]){t_bin("hypercache"), "--socket", w.d->socket,
					   "--admin", w.d->admin, "upgrade", NULL},
		NULL);
	t_wait_path(t_path("once"), false, LIMIT_MS);
	uint64_t reads = shm_load_rlx(&w.reads);
	while (shm_load_rlx(&w.reads) < reads + 20) /* it reads on while nobody is there */
		CHECK_EQ(hc_health(w.hc) & HC_SUPERVISOR_GONE, 0);
	if (sig)
		t_proc_signal(w.d->proc, sig);
	err = t_proc_line(
		p, sig ? "it crashed while it took over" : "it hung while it took over", LIMIT_MS);
	free(err);
	CHECK_EQ(t_proc_exit(p, LIMIT_MS), 5);
	t_proc_free(p);
	end(&w);
}

TEST(one_that_crashes_where_it_takes_over_gives_way) { stuck(SIGSEGV); }

TEST(one_that_hangs_where_it_takes_over_gives_way) { stuck(0); }
