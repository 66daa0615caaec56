/* dpkg_worker.c - see dpkg_worker.h. */
#include "dpkg_worker.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <hypercache.h>

enum {
	BATCH = 64,               /* reads between two looks at the clock and at `stop` */
	CHECK_EVERY_NS = 20000000 /* how often a hit is compared with the source */
};

struct worker {
	const struct worker_job *job;
	struct source *source;
	struct worker_counts *count;
	struct hc_store *store;
	struct source_buf buf;
	uint64_t random;
	uint64_t clock_ns; /* what taking the time costs */
	uint64_t checked_ns;
	uint64_t used; /* the bytes that were looked at, so that nothing is left out */
	int error;
};

/* splitmix64 (Steele, Lea, Flood 2014) */
static uint64_t random_next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static uint64_t clock_cost_ns(void)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < 1000; i++) {
		uint64_t t = now_ns(), d = now_ns() - t;
		if (d < best)
			best = d;
	}
	return best;
}

/* ------------------------------------------------------------ popularity */

/* Vose's construction: columns of less than the mean are filled up by one of more. */
static void alias_fill(struct worker_alias *a, double *p, uint32_t *small, uint32_t *large)
{
	uint32_t n_small = 0, n_large = 0;

	for (uint32_t i = 0; i < a->n; i++) {
		if (p[i] < 1.0)
			small[n_small++] = i;
		else
			large[n_large++] = i;
	}
	while (n_small > 0 && n_large > 0) {
		uint32_t s = small[--n_small], l = large[n_large - 1];
		a->column[s].split = (uint32_t)(p[s] * 4294967295.0);
		a->column[s].other = l;
		p[l] -= 1.0 - p[s];
		if (p[l] < 1.0) {
			n_large--;
			small[n_small++] = l;
		}
	}
}

struct worker_alias *worker_alias_new(uint32_t n, double s, uint64_t seed)
{
	struct worker_alias *a = malloc(sizeof *a + n * sizeof a->column[0]);
	double *p = malloc(n * sizeof *p), sum = 0;
	uint32_t *list = malloc(2 * n * sizeof *list), *who = malloc(n * sizeof *who);

	if (a && p && list && who) {
		a->n = n;
		for (uint32_t i = 0; i < n; i++)
			sum += p[i] = pow(i + 1, -s);
		for (uint32_t i = 0; i < n; i++) {
			uint32_t j = (uint32_t)(random_next(&seed) % (i + 1));
			p[i] *= n / sum;
			a->column[i].split = UINT32_MAX;
			a->column[i].other = i;
			who[i] = who[j];
			who[j] = i;
		}
		alias_fill(a, p, list, list + n);
		for (uint32_t i = 0; i < n; i++) {
			a->column[i].self = who[i];
			a->column[i].other = who[a->column[i].other];
		}
	} else {
		free(a);
		a = NULL;
	}
	free(p);
	free(list);
	free(who);
	return a;
}

static uint32_t alias_draw(const struct worker_alias *a, uint64_t *random)
{
	uint64_t x = random_next(random);
	uint32_t i = (uint32_t)((x >> 32) * a->n >> 32);

	return (uint32_t)x <= a->column[i].split ? a->column[i].self : a->column[i].other;
}

/* ------------------------------------------------------------ one look-up */

/* Fetches the entry from the source into w->buf, and counts the time. */
static int fetch(struct worker *w, struct source_entry *e)
{
	struct worker_counts *c = w->count;
	uint64_t t = now_ns();
	int r = source_read(w->source, e, &w->buf);

	t = now_ns() - t;
	worker_add(&c->source_reads, 1);
	worker_add(&c->source_ns, t);
	if (e->name_bytes) {
		worker_add(&c->record_reads, 1);
		worker_add(&c->record_ns, t);
	}
	if (r != 0)
		worker_add(&c->changed, 1);
	return r;
}

/* A miss: from the source into the cache, for everybody. */
static void fill(struct worker *w, struct source_entry *e)
{
	struct hc_set_opts opts = HC_OPTS(hc_set_opts);

	worker_add(&w->count->misses, 1);
	if (fetch(w, e) == SOURCE_GONE)
		return;
	opts.flags = e->stamp;
	int r = hc_set(w->store, e->key, e->key_bytes, w->buf.value, w->buf.value_bytes, &opts);
	if (r == HC_OK) {
		worker_add(&w->count->sets, 1);
		return;
	}
	worker_add(&w->count->sets_failed, 1);
	worker_set(&w->count->set_error, (uint64_t)-r);
}

/* The bytes in which a value differs from what the source has. */
static uint64_t difference(const struct hc_view *v, const struct source_buf *buf)
{
	const uint8_t *a = v->value, *b = (const uint8_t *)buf->value;
	size_t both = v->value_bytes < buf->value_bytes ? v->value_bytes : buf->value_bytes;
	uint64_t n = v->value_bytes + buf->value_bytes - 2 * both;

	for (size_t i = 0; i < both; i++)
		n += a[i] != b[i];
	return n;
}

/* All bytes of a held value: against the catalogue's sum, now and then against the source. */
static uint64_t wrong_bytes(struct worker *w, struct source_entry *e, const struct hc_view *v)
{
	int right = v->value_bytes == e->bytes && source_sum(v->value, v->value_bytes) == e->sum;
	uint64_t now = now_ns();

	worker_add(&w->count->summed, 1);
	if (right && now - w->checked_ns < CHECK_EVERY_NS)
		return 0;
	w->checked_ns = now;
	int r = fetch(w, e);
	worker_add(&w->count->checks, 1);
	return r == 0 ? difference(v, &w->buf) : 0; /* there is another source now */
}

/* What a server does with a value: here, look at its ends. */
static inline uint64_t use(const struct hc_view *v)
{
	const uint8_t *p = v->value;

	return v->value_bytes ? (uint64_t)p[0] + p[v->value_bytes - 1] : 0;
}

static void count_time(struct worker *w, uint64_t ns)
{
	ns = ns > w->clock_ns ? ns - w->clock_ns : 0;
	worker_add(&w->count->timed, 1);
	worker_add(&w->count->timed_ns, ns);
	worker_add(&w->count->ns[ns < WORKER_NS_MAX ? ns : WORKER_NS_MAX - 1], 1);
}

/* Other outcomes than a hit. */
static void not_found(struct worker *w, struct source_entry *e, int r)
{
	if (r == HC_MISS) {
		fill(w, e);
	} else if (r == HC_E_BUSY) {
		worker_add(&w->count->busy, 1);
	} else {
		w->error = r;
		worker_set(&w->count->error, (uint64_t)-r);
	}
}

/* One look-up: read in place if it is there, else fetched and set. */
static inline void look_up(struct worker *w, struct source_entry *e)
{
	struct hc_view v;
	int r = hc_view(w->store, e->key, e->key_bytes, &v);

	worker_add(&w->count->reads, 1);
	if (r != HC_OK) {
		not_found(w, e, r);
		return;
	}
	uint32_t stamp = v.flags;
	w->used += use(&v);
	(void)hc_view_release(&v);
	if (stamp == e->stamp) {
		worker_add(&w->count->hits, 1);
	} else {
		worker_add(&w->count->outdated, 1);
		fill(w, e);
	}
}

/* The same, with the time that a hit takes, and all of its bytes looked at. */
static void look_up_timed(struct worker *w, struct source_entry *e)
{
	struct hc_view v;
	uint64_t t = now_ns(), wrong = 0;
	int r = hc_view(w->store, e->key, e->key_bytes, &v);

	worker_add(&w->count->reads, 1);
	if (r != HC_OK) {
		not_found(w, e, r);
		return;
	}
	w->used += use(&v);
	t = now_ns() - t;
	int fresh = v.flags == e->stamp;
	if (fresh)
		wrong = wrong_bytes(w, e, &v);
	uint64_t end = now_ns();
	r = hc_view_release(&v);
	end = now_ns() - end;
	if (!fresh) {
		worker_add(&w->count->outdated, 1);
		fill(w, e);
		return;
	}
	worker_add(&w->count->hits, 1);
	if (r == HC_OK)
		worker_add(&w->count->wrong_bytes, wrong);
	else
		worker_add(&w->count->revoked, 1);
	count_time(w, t + (end > w->clock_ns ? end - w->clock_ns : 0));
}

int worker_run(const struct worker_job *job)
{
	struct hc_open_opts opts = HC_OPTS(hc_open_opts);
	struct worker w = {.job = job,
		.source = job->source,
		.count = &job->shared->worker[job->number],
		.random = job->seed};
	char name[32];
	struct hc *hc;

	(void)snprintf(name, sizeof name, "dpkg_reader %u", job->number + 1);
	opts.socket = job->socket;
	opts.name = name;
	w.error = hc_open(&hc, &opts);
	if (w.error == HC_OK)
		w.error = hc_store(hc, job->store, &w.store);
	if (w.error != HC_OK)
		worker_set(&w.count->error, (uint64_t)-w.error);
	w.clock_ns = clock_cost_ns();
	w.checked_ns = now_ns();
	while (w.error == HC_OK && !worker_get(&job->shared->stop)) {
		for (int i = 1; i < BATCH && w.error == HC_OK; i++)
			look_up(&w, &w.source->entry[alias_draw(job->popularity, &w.random)]);
		if (w.error == HC_OK)
			look_up_timed(&w, &w.source->entry[alias_draw(job->popularity, &w.random)]);
	}
	source_buf_free(&w.buf);
	hc_close(hc);
	return w.error == HC_OK && w.used != UINT64_MAX ? 0 : 1;
}
