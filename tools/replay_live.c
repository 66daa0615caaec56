/* replay_live.c - a trace through a daemon, by processes that share nothing but the cache.
 *
 * Process k of n takes requests k, k + n, k + 2n ...  How far each has come stands in a page that all
 * have; who is AHEAD_MAX requests before the slowest waits for it.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "atomic.h"
#include "hypercache.h"
#include "replay.h"

enum { AHEAD_MAX = 32, NUMBER_BYTES = 24, VALUE_MAX = 1 << 20 };

/* Of one process; a line of its own. */
struct cell {
	shm_u64 at; /* requests behind it; n: it is done, or gone */
	struct replay_live sum;
} __attribute__((aligned(128)));

struct worker {
	const struct replay *r;
	const struct replay_live_opts *o;
	struct cell *cell; /* [o->n_processes] */
	uint32_t me;
	struct hc *hc;
	struct hc_store *s;
	char *value;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* Not before the slowest has come near. */
static void wait_turn(const struct worker *w, uint64_t at)
{
	for (uint32_t i = 0; i < w->o->n_processes; i++)
		while (shm_load_rlx(&w->cell[i].at) + AHEAD_MAX < at)
			(void)sched_yield();
}

static int one_request(struct worker *w, const struct replay_request *q)
{
	struct replay_live *sum = &w->cell[w->me].sum;
	char number[NUMBER_BYTES];
	const char *key = number;
	size_t key_bytes = q->key_bytes, n;

	if (q->key == UINT64_MAX)
		key_bytes = (size_t)snprintf(
			number, sizeof number, "%llu", (unsigned long long)q->object);
	else
		key = w->r->keys + q->key;
	uint32_t bytes = q->bytes ? q->bytes : w->o->value_bytes;
	bytes = bytes < VALUE_MAX ? bytes : VALUE_MAX;
	uint64_t begun_ns = now_ns();
	int r = hc_get(w->s, key, key_bytes, w->value, VALUE_MAX, &n);
	sum->requests++;
	if (r == HC_OK) {
		sum->hits++;
		sum->hit_ns += now_ns() - begun_ns;
		return 0;
	}
	if (r != HC_MISS)
		return r;
	sum->misses++;
	r = hc_set(w->s, key, key_bytes, w->value, bytes, NULL);
	sum->miss_ns += now_ns() - begun_ns;
	if (r == HC_E_FULL || r == HC_E_TOO_LARGE) {
		sum->refused++;
		return 0;
	}
	return r;
}

static int work(struct worker *w)
{
	struct hc_open_opts open = HC_OPTS(hc_open_opts);
	struct cell *mine = &w->cell[w->me];

	open.socket = w->o->socket;
	open.timeout_ms = w->o->timeout_ms;
	open.name = "replay";
	w->value = calloc(1, VALUE_MAX);
	int r = w->value ? hc_open(&w->hc, &open) : HC_E_NO_MEMORY;
	if (r == HC_OK)
		r = hc_store(w->hc, w->o->store, &w->s);
	for (uint64_t i = w->me; i < w->r->n && r == HC_OK; i += w->o->n_processes) {
		wait_turn(w, i);
		r = one_request(w, &w->r->request[i]);
		shm_store_rlx(&mine->at, i);
	}
	if (w->hc)
		hc_close(w->hc);
	free(w->value);
	return r;
}

static pid_t start(const struct worker *w)
{
	pid_t parent = getpid(), pid = fork();

	if (pid != 0)
		return pid;
	struct worker mine = *w;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	mine.cell[mine.me].sum.error = work(&mine);
	shm_store_rlx(&mine.cell[mine.me].at, UINT64_MAX / 2);
	_exit(0);
}

/* Waits for all; a process that ends before its time does not keep the others waiting. */
static void reap(struct cell *cell, const pid_t *pid, uint32_t n)
{
	for (uint32_t left = n; left > 0;) {
		int st;
		pid_t p = wait(&st);
		if (p < 0 && errno == EINTR)
			continue;
		if (p < 0)
			return;
		for (uint32_t i = 0; i < n; i++) {
			if (pid[i] != p)
				continue;
			left--;
			if (!WIFEXITED(st) || WEXITSTATUS(st) != 0)
				cell[i].sum.error = HC_E_UNKNOWN;
			shm_store_rlx(&cell[i].at, UINT64_MAX / 2);
		}
	}
}

int replay_live(const struct replay *r, const struct replay_live_opts *o, struct replay_live *ret)
{
	pid_t pid[REPLAY_PROCESSES_MAX];
	struct cell *cell = mmap(NULL, o->n_processes * sizeof *cell, PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint32_t n = 0;
	int e = 0;

	*ret = (struct replay_live){0};
	if (cell == MAP_FAILED)
		return -errno;
	uint64_t begun_ns = now_ns();
	for (; n < o->n_processes && e == 0; n++) {
		struct worker w = {.r = r, .o = o, .cell = cell, .me = n};
		pid[n] = start(&w);
		if (pid[n] < 0)
			e = -errno;
	}
	if (e < 0)
		for (uint32_t i = 0; i + 1 < n; i++)
			(void)kill(pid[i], SIGKILL);
	reap(cell, pid, e < 0 ? n - 1 : n);
	ret->elapsed_ns = now_ns() - begun_ns;
	for (uint32_t i = 0; i < o->n_processes; i++) {
		const struct replay_live *s = &cell[i].sum;
		ret->requests += s->requests;
		ret->hits += s->hits;
		ret->misses += s->misses;
		ret->refused += s->refused;
		ret->hit_ns += s->hit_ns;
		ret->miss_ns += s->miss_ns;
		if (s->error)
			ret->error = s->error;
	}
	(void)munmap(cell, o->n_processes * sizeof *cell);
	return e;
}
