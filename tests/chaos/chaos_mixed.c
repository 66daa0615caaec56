/* chaos_mixed.c - workers do everything at once, and are killed and stopped, and so is the engine; nothing is
 * wrong, nothing is lost, nothing happens twice, nobody hangs, and the accounts are right at the end.
 *
 * The schedule (who is killed or stopped, when) follows from the seed alone, and so does the sequence of
 * operations that each life of a worker begins with.  What a seed does not repeat is which operation
 * an event meets, and how two processes take turns.
 *
 *     T_SEED=7 T_CHAOS_S=60 chaos_mixed everything_is_right_whoever_dies      or tools/chaos
 *
 * Environment: T_CHAOS_S: seconds; 4 if not set.  T_CHAOS_JSON: a file for what was done and how available the cache was.
 */
#include "chaos.h"
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "hc_i.h"

enum {
	SECONDS = 4,
	GAP_MS_MAX = 120,
	STOP_MS_MAX = 300,
	READS_LEAST = 20, /* percent of the time: far below what is measured anywhere */
	WRITES_LEAST = 2,
};

static const char config[] =
	"heartbeat: 100ms\nrestart_limit: 1000\nrestart_backoff_max: 100ms\n"
	"pools:\n  main: {size: 16MiB, huge_pages: \"off\"}\n"
	"stores: {sure: {guaranteed: 8MiB}, loose: {limit: 192KiB}, cleared: {}}\n";

enum what { KILL_WORKER, STOP_WORKER, KILL_ENGINE, STOP_ENGINE, WHATS };

struct event {
	enum what what;
	uint32_t who, gap_ms, stop_ms;
};

struct play {
	struct t_daemon *d;
	struct ledger *l;
	struct hc *hc;
	pid_t pid[WORKERS], probe[PROBES], engine;
	uint64_t n[WHATS], end_ns;
};

/* All of it follows from the seed. */
static struct event event_next(void)
{
	static const enum what often[] = {KILL_WORKER, KILL_WORKER, KILL_WORKER, STOP_WORKER,
		STOP_WORKER, KILL_ENGINE, KILL_ENGINE, KILL_ENGINE, STOP_ENGINE};

	return (struct event){.what = often[t_random_below(sizeof often / sizeof *often)],
		.who = (uint32_t)t_random_below(WORKERS),
		.gap_ms = (uint32_t)t_random_below(GAP_MS_MAX),
		.stop_ms = 1 + (uint32_t)t_random_below(STOP_MS_MAX)};
}

static void wait_ms(uint64_t ms)
{
	uint64_t at_ns = t_now_ns() + ms * 1000000;

	for (uint64_t now; (now = t_now_ns()) < at_ns;)
		(void)poll(NULL, 0, (int)((at_ns - now) / 1000000) + 1);
}

static uint64_t limit_ns(void) { return t_now_ns() + (uint64_t)t_limit_ms(LIMIT_MS) * 1000000; }

/* ------------------------------------------------------------------ workers */

static void worker_start(struct play *p, uint32_t i)
{
	struct worker *w = &p->l->worker[i];

	note(&w->opened, 0);
	note(&w->life, look(&w->life) + 1);
	note(&w->beat_ns, t_now_ns());
	p->pid[i] = fork();
	CHECK(p->pid[i] >= 0);
	if (p->pid[i] == 0)
		worker_run(p->d, p->l, i);
}

/* A worker that ends by itself has found something wrong. */
static void workers_check(const struct play *p)
{
	for (uint32_t i = 0; i < WORKERS; i++) {
		int status;
		CHECK_EQ(waitpid(p->pid[i], &status, WNOHANG), 0);
		CHECK(look(&p->l->worker[i].beat_ns) + (uint64_t)t_limit_ms(LIMIT_MS) * 1000000 >
			t_now_ns());
	}
}

static void wait_opened(const struct play *p, uint32_t i)
{
	for (uint64_t end_ns = limit_ns(); !look(&p->l->worker[i].opened); wait_ms(1)) {
		workers_check(p);
		CHECK(t_now_ns() < end_ns);
	}
}

/* The kernel has told the engine that the dead are dead: what they sent has happened by now, or never will. */
static void wait_sessions(const struct play *p, uint64_t n)
{
	const shm_u64 *sessions = &p->hc->ctl->counter[SHM_DC_sessions];

	for (uint64_t end_ns = limit_ns(); shm_load_rlx(sessions) != n; wait_ms(1))
		CHECK(t_now_ns() < end_ns);
}

static void worker_kill(struct play *p, uint32_t i)
{
	struct worker *w = &p->l->worker[i];

	note(&w->dying, look(&w->life));
	CHECK(kill(p->pid[i], SIGKILL) == 0);
	int status = t_wait_child(p->pid[i], LIMIT_MS);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	wait_sessions(p, WORKERS + PROBES); /* the others and ours */
	worker_start(p, i);
	wait_opened(p, i);
}

static void worker_stop(struct play *p, uint32_t i, uint32_t ms)
{
	CHECK(kill(p->pid[i], SIGSTOP) == 0);
	wait_ms(ms);
	CHECK(kill(p->pid[i], SIGCONT) == 0);
	note(&p->l->worker[i].beat_ns, t_now_ns());
}

static void probes_start(struct play *p)
{
	for (int i = 0; i < PROBES; i++) {
		p->probe[i] = fork();
		CHECK(p->probe[i] >= 0);
		if (p->probe[i] == 0)
			probe_run(p->d, p->l, i == WRITES);
		for (uint64_t end_ns = limit_ns(); !look(&p->l->probe[i].opened); wait_ms(1))
			CHECK(t_now_ns() < end_ns);
	}
}

/* ------------------------------------------------------------------ the schedule */

static void happen(struct play *p, const struct event *e)
{
	wait_ms(e->gap_ms);
	workers_check(p);
	p->n[e->what]++;
	switch (e->what) {
	case KILL_WORKER:
		worker_kill(p, e->who);
		break;
	case STOP_WORKER:
		worker_stop(p, e->who, e->stop_ms);
		break;
	case KILL_ENGINE:
		p->engine = t_daemon_wait_engine(p->d, t_daemon_kill_engine(p->d, SIGKILL));
		break;
	default:
		CHECK(kill(t_daemon_engine(p->d), SIGSTOP) == 0);
		wait_ms(e->stop_ms);
		CHECK(kill(t_daemon_engine(p->d), SIGCONT) == 0);
	}
}

/* ------------------------------------------------------------------ the end */

static void check_key(const struct session *c, const struct ledger *l, struct key k)
{
	const struct entry *e = &l->worker[k.worker].key[k.store][k.idx];
	uint64_t value[WORDS_MAX];
	char name[32];
	size_t n;
	int r = hc_get(c->s[k.store], name, key_name(k, name), value, sizeof value, &n);

	CHECK_EQ(e->pending, 0);
	if (r == HC_OK) {
		CHECK_EQ(value_check(k, value, n), VERSION_OF(e->acked));
		CHECK(!(e->acked & DELETED));
		return;
	}
	CHECK_EQ(r, HC_MISS);
	CHECK(k.store == LOOSE || e->acked == 0 || (e->acked & DELETED));
}

static uint64_t number(const struct session *c, const char *name)
{
	char text[32] = "0";
	size_t n = 1;
	int r = hc_get(c->s[SURE], name, strlen(name), text, sizeof text - 1, &n);

	CHECK(r == HC_OK || r == HC_MISS);
	text[n] = 0;
	return strtoull(text, NULL, 10);
}

static void check_all(const struct play *p, const struct session *c)
{
	uint64_t added = 0, maybe = 0;
	char name[32];

	for (uint32_t w = 0; w < WORKERS; w++) {
		for (uint32_t store = 0; store < STORES; store++)
			for (uint32_t i = 0; i < KEYS; i++)
				check_key(c, p->l, (struct key){store, w, i});
		(void)snprintf(name, sizeof name, "sum-%u", w);
		CHECK_EQ(number(c, name), p->l->worker[w].sum);
		added += p->l->worker[w].added;
		maybe += p->l->worker[w].maybe;
	}
	uint64_t all = number(c, "all");
	CHECK(all >= added && all <= added + maybe);
	CHECK_EQ(shm_load_rlx(&p->hc->ctl->counter[SHM_DC_leases]), 0);
}

static void check_memory(const struct t_daemon *d)
{
	char *out;
	int e = t_run((const char *[]){t_bin("hypercache"), "--admin", d->admin, "fsck", NULL},
		NULL, 0, &out, NULL, NULL, LIMIT_MS);

	if (e != 0)
		fprintf(stderr, "%s", out);
	CHECK_EQ(e, 0);
	free(out);
}

static double available(const struct probe *p)
{
	return p->slices ? 100.0 * (double)p->good / (double)p->slices : 0;
}

static void report_json(const struct play *p, double seconds, const struct worker *sum)
{
	const struct probe *r = &p->l->probe[READS], *w = &p->l->probe[WRITES];
	const char *path = getenv("T_CHAOS_JSON");
	FILE *to = path ? fopen(path, "we") : NULL;

	CHECK(!path || to);
	if (!to)
		return;
	fprintf(to,
		"{\"seconds\":%.1f,\"killed_workers\":%llu,\"killed_engines\":%llu,"
		"\"stopped_workers\":%llu,\"stopped_engines\":%llu,\"reads\":%llu,\"writes\":%llu,"
		"\"reads_available_percent\":%.2f,\"reads_longest_gap_ms\":%.1f,"
		"\"writes_available_percent\":%.2f,\"writes_longest_gap_ms\":%.1f}\n",
		seconds, (unsigned long long)p->n[KILL_WORKER],
		(unsigned long long)p->n[KILL_ENGINE], (unsigned long long)p->n[STOP_WORKER],
		(unsigned long long)p->n[STOP_ENGINE], (unsigned long long)sum->reads,
		(unsigned long long)sum->writes, available(r), (double)r->gap_ns / 1e6,
		available(w), (double)w->gap_ns / 1e6);
	CHECK_EQ(fclose(to), 0);
}

/* The cache as one process saw it that nobody kills. */
static void report_available(const struct play *p)
{
	const struct probe *r = &p->l->probe[READS], *w = &p->l->probe[WRITES];

	fprintf(stderr,
		"  available to reads %.2f %% of the time, the longest gap %.1f ms; "
		"to writes %.2f %%, %.1f ms\n",
		available(r), (double)r->gap_ns / 1e6, available(w), (double)w->gap_ns / 1e6);
	CHECK_EQ(r->failed, 0);
	CHECK_EQ(w->failed, 0);
	CHECK(available(r) >= READS_LEAST && available(w) >= WRITES_LEAST);
}

static void report(const struct play *p, double seconds)
{
	struct worker sum = {0};

	for (uint32_t i = 0; i < WORKERS; i++) {
		const struct worker *w = &p->l->worker[i];
		sum.reads += w->reads, sum.writes += w->writes, sum.hits += w->hits;
		sum.leases += w->leases, sum.waits += w->waits;
		sum.views += w->views, sum.revoked += w->revoked, sum.refused += w->refused;
		if (w->read_max_ns > sum.read_max_ns)
			sum.read_max_ns = w->read_max_ns;
		if (w->write_max_ns > sum.write_max_ns)
			sum.write_max_ns = w->write_max_ns;
	}
	fprintf(stderr,
		"  %.0f s: killed %llu workers, %llu engines; stopped %llu workers, %llu engines\n"
		"  %llu reads (%llu hits, the longest took %.1f ms), %llu views (%llu revoked)\n"
		"  %llu writes (the longest set took %.1f ms), %llu without room\n"
		"  %llu leases, %llu times another's value\n",
		seconds, (unsigned long long)p->n[KILL_WORKER],
		(unsigned long long)p->n[KILL_ENGINE], (unsigned long long)p->n[STOP_WORKER],
		(unsigned long long)p->n[STOP_ENGINE], (unsigned long long)sum.reads,
		(unsigned long long)sum.hits, (double)sum.read_max_ns / 1e6,
		(unsigned long long)sum.views, (unsigned long long)sum.revoked,
		(unsigned long long)sum.writes, (double)sum.write_max_ns / 1e6,
		(unsigned long long)sum.refused, (unsigned long long)sum.leases,
		(unsigned long long)sum.waits);
	report_json(p, seconds, &sum);
	report_available(p);
	CHECK(sum.hits > 0 && sum.views > 0 && sum.writes > 0 && sum.leases > 0 && sum.waits > 0);
}

TEST_LIMIT(everything_is_right_whoever_dies, 150)
{
	const char *wanted = getenv("T_CHAOS_S");
	uint64_t seconds = wanted ? strtoull(wanted, NULL, 10) : SECONDS;
	struct play p = {.d = t_daemon_start(config, NULL)};
	struct session c;

	p.l = mmap(NULL, sizeof *p.l, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(p.l != MAP_FAILED);
	p.l->seed = t_random();
	p.engine = t_daemon_wait_engine(p.d, 0);
	session_begin(&c, p.d, "director");
	p.hc = c.hc;
	for (uint32_t i = 0; i < WORKERS; i++)
		worker_start(&p, i);
	for (uint32_t i = 0; i < WORKERS; i++)
		wait_opened(&p, i);
	probes_start(&p);
	uint64_t from_ns = t_now_ns();
	while (t_now_ns() - from_ns < seconds * 1000000000) {
		struct event e = event_next();
		happen(&p, &e);
	}
	note(&p.l->order, END);
	for (uint32_t i = 0; i < WORKERS; i++)
		CHECK_EQ(t_wait_child(p.pid[i], LIMIT_MS), 0);
	for (int i = 0; i < PROBES; i++)
		CHECK_EQ(t_wait_child(p.probe[i], LIMIT_MS), 0);
	wait_sessions(&p, 1);
	check_all(&p, &c);
	check_memory(p.d);
	report(&p, (double)(t_now_ns() - from_ns) / 1e9);
	hc_close(c.hc);
	CHECK_EQ(munmap(p.l, sizeof *p.l), 0);
	t_daemon_stop(p.d);
}
