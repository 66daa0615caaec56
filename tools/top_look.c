/* top_look.c - one look at a daemon's memory, and the tables of it; see top.h. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "../daemon/sup_host.h"
#include "atomic.h"
#include "health.h"
#include "hot_keys.h"
#include "stat.h"
#include "top.h"

enum { HOT_KEYS = 32, BAR_CELLS = 10 };

/* X(name): what is counted of a store, and shown by the second. */
#define TOP_STORE_RATES(X) X(sets) X(deletes) X(evicted) X(expired) X(set_refused)

struct top_sample {
	uint64_t ns, daemon_id;
	struct {
		uint64_t id; /* 0: unused */
		struct hypercache_reads reads;
#define RATE_MEMBER_(name) uint64_t name;
		TOP_STORE_RATES(RATE_MEMBER_)
#undef RATE_MEMBER_
	} store[SHM_STORES_MAX];
	struct {
		uint64_t id, evicted;
	} pool[SHM_POOLS_MAX];
	struct {
		uint64_t id, requests;
		struct hypercache_reads reads;
	} client[SHM_SESSIONS_MAX]; /* by slot */
	uint64_t counter[SHM_COUNTERS_MAX];
	struct hypercache_latency hist[SHM_HISTS_MAX];
};

/* By the second since the last look; negative: it was not there then. */
static double rate(const struct top *t, bool known, uint64_t was, uint64_t is)
{
	if (!known || t->was->ns == 0 || t->was->daemon_id != t->is->daemon_id)
		return -1;
	return is > was ? (double)(is - was) * 1e9 / (double)(t->is->ns - t->was->ns) : 0;
}

/* ------------------------------------------------------------ the sums */

static struct hypercache_reads client_reads(const struct hypercache_admin_session *s)
{
	struct hypercache_reads sum = {0};

	for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
		struct hypercache_reads r = hypercache_admin_reads(s, i);
		sum.hits += r.hits;
		sum.misses += r.misses;
		sum.hit_bytes += r.hit_bytes;
	}
	return sum;
}

static void sample_take(const struct hypercache_admin *a, struct top_sample *s)
{
	memset(s, 0, sizeof *s);
	s->ns = sup_host_mono_ns();
	s->daemon_id = a->ctl->seg.daemon_id;
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
		const shm_u64 *c = a->ctl->store[i].counter;
		if (!stat_store_used(a, i))
			continue;
		s->store[i].id = shm_load_rlx(&a->ctl->store[i].id);
		s->store[i].reads = hypercache_reads(a, i);
#define RATE_TAKE_(name) s->store[i].name = shm_load_rlx(&c[SHM_SC_##name]);
		TOP_STORE_RATES(RATE_TAKE_)
#undef RATE_TAKE_
	}
	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++) {
		s->pool[i].id = stat_pool_used(a, i) ? shm_load_rlx(&a->ctl->pool[i].id) : 0;
		s->pool[i].evicted = shm_load_rlx(&a->ctl->pool[i].counter[SHM_PC_evicted_entries]);
	}
	for (uint32_t i = 0; i < a->n_sessions; i++) {
		uint32_t slot = a->session[i].slot % SHM_SESSIONS_MAX;
		s->client[slot].id = a->session[i].id;
		s->client[slot].reads = client_reads(&a->session[i]);
		s->client[slot].requests = hypercache_admin_count(&a->session[i], SHM_BC_requests);
	}
	for (uint32_t i = 0; i < SHM_COUNTERS_MAX; i++)
		s->counter[i] = shm_load_rlx(&a->ctl->counter[i]);
	for (uint32_t i = 0; i < SHM_HISTS_MAX; i++)
		hypercache_latency_read(&a->ctl->hist[i], &s->hist[i]);
}

/* ------------------------------------------------------------ cells */

static void cell_count(struct top_row *r, uint32_t i, double n)
{
	char text[CLI_TEXT_BYTES];

	top_cell_number(r, i, n, "%s", top_count(n, text));
}

static void cell_size(struct top_row *r, uint32_t i, double bytes)
{
	char text[CLI_TEXT_BYTES];

	top_cell_number(r, i, bytes, "%s", bytes < 0 ? "-" : cli_size((uint64_t)bytes, text));
}

static void cell_time(struct top_row *r, uint32_t i, bool known, uint64_t ns)
{
	char text[CLI_TEXT_BYTES];

	top_cell_number(r, i, known ? (double)ns : -1, "%s", known ? cli_time(ns, text) : "-");
}

static void cell_part(struct top_row *r, uint32_t i, double part)
{
	if (part < 0)
		top_cell_number(r, i, -1, "-");
	else
		top_cell_number(r, i, part, "%.2f %%", 100 * part);
}

static void cell_name(struct top_row *r, uint32_t i, const char *name, size_t n)
{
	(void)cli_text(name, n, r->cell[i].text, TOP_TEXT_BYTES);
}

#define COLUMN_ENUM_(id, title, name, width, is_text) C_##id,
#define COLUMN_ROW_(id, title, name, width, is_text) {title, name, width, is_text},
#define TABLE(view, rows, by) \
	{ \
		.name = view, .column = rows, .n_columns = sizeof rows / sizeof *rows, .sort = by \
	}

/* ------------------------------------------------------------ stores */

#define STORE_COLUMNS(X) \
	X(S_NAME, "store", "store", 14, true) \
	X(S_HITS, "hits/s", "hits_per_s", 8, false) \
	X(S_1S, "ratio 1s", "hit_ratio_1s", 9, false) \
	X(S_10S, "10s", "hit_ratio_10s", 8, false) \
	X(S_60S, "60s", "hit_ratio_60s", 8, false) \
	X(S_SETS, "sets/s", "sets_per_s", 7, false) \
	X(S_EVICTED, "evict/s", "evicted_per_s", 8, false) \
	X(S_HEALTH, "health", "health", 9, true) \
	X(S_ENTRIES, "entries", "entries", 8, false) \
	X(S_BYTES, "bytes", "live_bytes", 10, false) \
	X(S_MISSES, "misses/s", "misses_per_s", 9, false) \
	X(S_READ, "read/s", "hit_bytes_per_s", 10, false) \
	X(S_DELETES, "delete/s", "deletes_per_s", 9, false) \
	X(S_EXPIRED, "expire/s", "expired_per_s", 9, false) \
	X(S_REFUSED, "refuse/s", "set_refused_per_s", 9, false) \
	X(S_ALL, "ratio all", "hit_ratio", 9, false) \
	X(S_POLICY, "policy", "policy", 10, true) \
	X(S_POOL, "pool", "pool", 10, true)
enum { STORE_COLUMNS(COLUMN_ENUM_) };
static const struct top_column store_columns[] = {STORE_COLUMNS(COLUMN_ROW_)};

static void stores_fill(struct top *t, struct hypercache_admin *a)
{
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
		const struct shm_store_entry *e = &a->ctl->store[i];
		struct top_row *r = t->is->store[i].id ? top_row_add(&t->table[TOP_STORES]) : NULL;
		char why[HYPERCACHE_HEALTH_WHY_BYTES];
		if (!r)
			continue;
		bool known = t->is->store[i].id == t->was->store[i].id;
		const struct hypercache_reads *is = &t->is->store[i].reads,
					      *was = &t->was->store[i].reads;
#define RATE_OF_(name) rate(t, known, t->was->store[i].name, t->is->store[i].name)
		cell_name(r, C_S_NAME, e->name, sizeof e->name);
		cell_count(r, C_S_HITS, rate(t, known, was->hits, is->hits));
		cell_count(r, C_S_MISSES, rate(t, known, was->misses, is->misses));
		cell_size(r, C_S_READ, rate(t, known, was->hit_bytes, is->hit_bytes));
		cell_part(r, C_S_1S, hypercache_hit_ratio(hypercache_reads_lately(a, i, 1)));
		cell_part(r, C_S_10S, hypercache_hit_ratio(hypercache_reads_lately(a, i, 10)));
		cell_part(r, C_S_60S, hypercache_hit_ratio(hypercache_reads_lately(a, i, 60)));
		cell_part(r, C_S_ALL, hypercache_hit_ratio(*is));
		cell_count(r, C_S_SETS, RATE_OF_(sets));
		cell_count(r, C_S_DELETES, RATE_OF_(deletes));
		cell_count(r, C_S_EVICTED, RATE_OF_(evicted));
		cell_count(r, C_S_EXPIRED, RATE_OF_(expired));
		cell_count(r, C_S_REFUSED, RATE_OF_(set_refused));
#undef RATE_OF_
		enum hypercache_health h = hypercache_health_store(a, i, why);
		r->bad = h != HYPERCACHE_OK;
		top_cell_text(r, C_S_HEALTH, hypercache_health_word(h));
		cell_count(r, C_S_ENTRIES, (double)shm_load_rlx(&e->counter[SHM_SC_entries]));
		cell_size(r, C_S_BYTES, (double)shm_load_rlx(&e->counter[SHM_SC_live_bytes]));
		cell_name(r, C_S_POLICY, e->policy, sizeof e->policy);
		if (e->pool_idx < SHM_POOLS_MAX)
			cell_name(r, C_S_POOL, a->ctl->pool[e->pool_idx].name, SHM_NAME_BYTES);
	}
}

/* ------------------------------------------------------------ clients */

#define CLIENT_COLUMNS(X) \
	X(C_NAME, "client", "client", 14, true) \
	X(C_PID, "process", "pid", 8, false) \
	X(C_READS, "reads/s", "reads_per_s", 8, false) \
	X(C_RATIO, "ratio", "hit_ratio_lately", 8, false) \
	X(C_READ, "read/s", "hit_bytes_per_s", 10, false) \
	X(C_REQUESTS, "req/s", "requests_per_s", 7, false) \
	X(C_PINS, "pins", "pins", 5, false) \
	X(C_HELD, "holds", "held_bytes", 10, false) \
	X(C_UID, "user", "uid", 6, false) \
	X(C_HITS, "hits", "hits", 8, false) \
	X(C_MISSES, "misses", "misses", 8, false) \
	X(C_BYTES, "read", "hit_bytes", 10, false) \
	X(C_AGE, "open for", "age_ns", 12, false) \
	X(C_SESSION, "session", "session", 16, true)
enum { CLIENT_COLUMNS(COLUMN_ENUM_) };
static const struct top_column client_columns[] = {CLIENT_COLUMNS(COLUMN_ROW_)};

static void client_fill(struct top *t, struct top_row *r, const struct hypercache_admin *a,
	const struct hypercache_admin_session *s)
{
	uint32_t slot = s->slot % SHM_SESSIONS_MAX, pins, views;
	const struct hypercache_reads *is = &t->is->client[slot].reads,
				      *was = &t->was->client[slot].reads;
	bool known = t->was->client[slot].id == s->id;
	double hits = rate(t, known, was->hits, is->hits),
	       misses = rate(t, known, was->misses, is->misses);
	uint64_t now = sup_host_real_ns(),
		 age = now > s->seg->opened_ns ? now - s->seg->opened_ns : 0;

	cell_name(r, C_C_NAME, s->seg->name, sizeof s->seg->name);
	top_cell_number(r, C_C_PID, s->pid, "%d", s->pid);
	top_cell_number(r, C_C_UID, s->uid, "%u", s->uid);
	cell_count(r, C_C_READS, hits < 0 ? -1 : hits + misses);
	cell_part(r, C_C_RATIO, hits + misses > 0 ? hits / (hits + misses) : -1);
	cell_size(r, C_C_READ, rate(t, known, was->hit_bytes, is->hit_bytes));
	cell_count(r, C_C_REQUESTS,
		rate(t, known, t->was->client[slot].requests, t->is->client[slot].requests));
	hypercache_admin_pins(a, s, &pins, &views);
	top_cell_number(r, C_C_PINS, pins, "%u", pins);
	cell_size(r, C_C_HELD, (double)hypercache_admin_held(a, s));
	cell_count(r, C_C_HITS, (double)is->hits);
	cell_count(r, C_C_MISSES, (double)is->misses);
	cell_size(r, C_C_BYTES, (double)is->hit_bytes);
	cell_time(r, C_C_AGE, true, age);
	(void)snprintf(r->cell[C_C_SESSION].text, TOP_TEXT_BYTES, "%016" PRIx64, s->id);
}

static void clients_fill(struct top *t, struct hypercache_admin *a)
{
	for (uint32_t i = 0; i < a->n_sessions; i++) {
		struct top_row *r = top_row_add(&t->table[TOP_CLIENTS]);
		if (r)
			client_fill(t, r, a, &a->session[i]);
	}
}

/* ------------------------------------------------------------ pools */

#define POOL_COLUMNS(X) \
	X(P_NAME, "pool", "pool", 10, true) \
	X(P_BAR, "in use", "use", 12, true) \
	X(P_USED, "used", "used", 6, false) \
	X(P_LIMIT, "size", "limit_bytes", 10, false) \
	X(P_LIVE, "live", "live_bytes", 10, false) \
	X(P_FREE, "free", "free_bytes", 10, false) \
	X(P_PRESSURE, "pressure", "pressure", 8, true) \
	X(P_EVICTED, "evict/s", "evicted_per_s", 8, false) \
	X(P_OVERHEAD, "overhead", "overhead_bytes", 10, false) \
	X(P_LIMBO, "limbo", "limbo_bytes", 10, false) \
	X(P_UNUSABLE, "unusable", "unusable_bytes", 10, false) \
	X(P_ENTRIES, "entries", "entries", 8, false) \
	X(P_REFUSED, "refused", "alloc_failed", 8, false) \
	X(P_BACKING, "pages", "backing", 8, true)
enum { POOL_COLUMNS(COLUMN_ENUM_) };
static const struct top_column pool_columns[] = {POOL_COLUMNS(COLUMN_ROW_)};

static void cell_bar(struct top_row *r, uint32_t i, double part)
{
	int n = (int)(part * BAR_CELLS + 0.5);

	(void)snprintf(
		r->cell[i].text, TOP_TEXT_BYTES, "[%.*s%*s]", n, "##########", BAR_CELLS - n, "");
}

static void pools_fill(struct top *t, struct hypercache_admin *a)
{
	static const char *const pressure[] = {"none", "low", "high", "full"};

	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++) {
		const struct shm_pool_entry *e = &a->ctl->pool[i];
		struct top_row *r = t->is->pool[i].id ? top_row_add(&t->table[TOP_POOLS]) : NULL;
		if (!r)
			continue;
#define POOL_COUNT_(name) ((double)shm_load_rlx(&e->counter[SHM_PC_##name]))
		double limit = POOL_COUNT_(limit_bytes);
		double used = limit > 0 ? 1 - POOL_COUNT_(free_bytes) / limit : 0;
		uint64_t level = shm_load_rlx(&e->counter[SHM_PC_pressure]);
		used = used < 0 ? 0 : used > 1 ? 1 : used;
		cell_name(r, C_P_NAME, e->name, sizeof e->name);
		cell_bar(r, C_P_BAR, used);
		top_cell_number(r, C_P_USED, used, "%.1f%%", 100 * used);
		cell_size(r, C_P_LIMIT, limit);
		cell_size(r, C_P_LIVE, POOL_COUNT_(live_bytes));
		cell_size(r, C_P_FREE, POOL_COUNT_(free_bytes));
		top_cell_text(r, C_P_PRESSURE, level < 4 ? pressure[level] : "?");
		r->bad = level > 1;
		cell_count(r, C_P_EVICTED,
			rate(t, t->was->pool[i].id == t->is->pool[i].id, t->was->pool[i].evicted,
				t->is->pool[i].evicted));
		cell_size(r, C_P_OVERHEAD, POOL_COUNT_(overhead_bytes));
		cell_size(r, C_P_LIMBO, POOL_COUNT_(limbo_bytes));
		cell_size(r, C_P_UNUSABLE, POOL_COUNT_(unusable_bytes));
		cell_count(r, C_P_ENTRIES, POOL_COUNT_(entries));
		cell_count(r, C_P_REFUSED, POOL_COUNT_(alloc_failed));
#undef POOL_COUNT_
		top_cell_text(r, C_P_BACKING, stat_backing_name(e->region[0].backing));
	}
}

/* ------------------------------------------------------------ hot keys */

#define HOT_COLUMNS(X) \
	X(H_KEY, "key", "key", 20, true) \
	X(H_HITS, "hits/s", "hits_per_s", 8, false) \
	X(H_SHARE, "share", "share", 9, false) \
	X(H_ERROR, "error", "error", 9, false) \
	X(H_VALUE, "value", "value_bytes", 10, false) \
	X(H_STORE, "store", "store", 16, true)
enum { HOT_COLUMNS(COLUMN_ENUM_) };
static const struct top_column hot_columns[] = {HOT_COLUMNS(COLUMN_ROW_)};

static void hot_fill(struct top *t, struct hypercache_admin *a)
{
	char why[HYPERCACHE_ADMIN_WHY_BYTES];
	struct hypercache_hot h;

	for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
		if (!t->is->store[i].id || hypercache_hot(a, i, HOT_KEYS, &h, why) != 0)
			continue;
		double hits_s = (double)hypercache_reads_lately(a, i, 10).hits / 10;
		for (uint32_t k = 0; k < h.n; k++) {
			const struct hypercache_hot_key *key = &h.key[k];
			struct top_row *r = top_row_add(&t->table[TOP_HOT]);
			if (!r)
				continue;
			if (key->key)
				cell_name(r, C_H_KEY, key->key, key->key_bytes);
			else
				top_cell_text(r, C_H_KEY, "(not there any more)");
			cell_count(r, C_H_HITS, key->share * hits_s);
			cell_part(r, C_H_SHARE, key->share);
			cell_part(r, C_H_ERROR, key->error);
			cell_size(r, C_H_VALUE, key->key ? (double)key->value_bytes : -1);
			cell_name(r, C_H_STORE, a->ctl->store[i].name, SHM_NAME_BYTES);
		}
		hypercache_hot_free(&h);
	}
}

/* ------------------------------------------------------------ latency, counters */

#define LATENCY_COLUMNS(X) \
	X(L_NAME, "what", "what", 12, true) \
	X(L_COUNT, "per s", "per_s", 8, false) \
	X(L_MEAN, "mean", "mean_ns", 9, false) \
	X(L_P50, "p50", "p50_ns", 9, false) \
	X(L_P99, "p99", "p99_ns", 9, false) \
	X(L_P999, "p99.9", "p999_ns", 9, false) \
	X(L_MAX, "max ever", "max_ns", 9, false) \
	X(L_ALL, "count", "count", 8, false) \
	X(L_P99_ALL, "p99 ever", "p99_ever_ns", 9, false) \
	X(L_MEANING, "meaning", "meaning", 60, true)
enum { LATENCY_COLUMNS(COLUMN_ENUM_) };
static const struct top_column latency_columns[] = {LATENCY_COLUMNS(COLUMN_ROW_)};

/* What has come between two looks. */
static struct hypercache_latency latency_between(
	const struct hypercache_latency *was, const struct hypercache_latency *is)
{
	struct hypercache_latency l = {.sum = is->sum - was->sum, .max = is->max};

	for (uint32_t i = 0; i < SHM_HIST_BUCKETS; i++) {
		l.bucket[i] = is->bucket[i] > was->bucket[i] ? is->bucket[i] - was->bucket[i] : 0;
		l.n += l.bucket[i];
	}
	return l;
}

/* n: values that it is of. */
static void latency_cell(
	struct top_row *r, uint32_t i, const struct shm_counter_desc *d, uint64_t n, uint64_t v)
{
	cell_time(r, i, n > 0, hypercache_latency_ns(d, v));
}

static void latency_fill(struct top *t, struct hypercache_admin *a)
{
	static const struct hypercache_latency none;
	bool known = t->was->ns && t->was->daemon_id == t->is->daemon_id;

	for (int i = 0; i < SHM_DESCS_MAX && a->ctl->desc[i].scope; i++) {
		const struct shm_counter_desc *d = &a->ctl->desc[i];
		if (d->scope != SHM_SCOPE_HIST || d->index >= SHM_HISTS_MAX)
			continue;
		const struct hypercache_latency *all = &t->is->hist[d->index];
		struct hypercache_latency l = latency_between(
			known ? &t->was->hist[d->index] : &none, all);
		struct top_row *r = top_row_add(&t->table[TOP_LATENCY]);
		if (!r)
			continue;
		cell_name(r, C_L_NAME, d->name, sizeof d->name);
		cell_count(r, C_L_COUNT, rate(t, known, 0, l.n));
		latency_cell(r, C_L_MEAN, d, l.n, l.n ? l.sum / l.n : 0);
		latency_cell(r, C_L_P50, d, l.n, hypercache_latency_quantile(&l, 500000));
		latency_cell(r, C_L_P99, d, l.n, hypercache_latency_quantile(&l, 990000));
		latency_cell(r, C_L_P999, d, l.n, hypercache_latency_quantile(&l, 999000));
		latency_cell(r, C_L_MAX, d, all->n, all->max);
		cell_count(r, C_L_ALL, (double)all->n);
		latency_cell(r, C_L_P99_ALL, d, all->n, hypercache_latency_quantile(all, 990000));
		cell_name(r, C_L_MEANING, d->meaning, sizeof d->meaning);
	}
}

#define DAEMON_COLUMNS(X) \
	X(D_NAME, "counter", "counter", 22, true) \
	X(D_VALUE, "value", "value", 12, false) \
	X(D_RATE, "per s", "per_s", 9, false) \
	X(D_MEANING, "meaning", "meaning", 34, true)
enum { DAEMON_COLUMNS(COLUMN_ENUM_) };
static const struct top_column daemon_columns[] = {DAEMON_COLUMNS(COLUMN_ROW_)};

static void daemon_fill(struct top *t, struct hypercache_admin *a)
{
	for (int i = 0; i < SHM_DESCS_MAX && a->ctl->desc[i].scope; i++) {
		const struct shm_counter_desc *d = &a->ctl->desc[i];
		if (d->scope != SHM_SCOPE_DAEMON || d->index >= SHM_COUNTERS_MAX)
			continue;
		struct top_row *r = top_row_add(&t->table[TOP_DAEMON]);
		if (!r)
			continue;
		cell_name(r, C_D_NAME, d->name, sizeof d->name);
		uint64_t n = t->is->counter[d->index];
		top_cell_number(r, C_D_VALUE, (double)n, "%" PRIu64, n);
		cell_count(r, C_D_RATE,
			rate(t, d->kind == SHM_COUNTER_C, t->was->counter[d->index], n));
		cell_name(r, C_D_MEANING, d->meaning, sizeof d->meaning);
	}
}

/* ------------------------------------------------------------ the lines above */

static void daemon_line(struct top *t, const struct hypercache_admin *a)
{
	char version[CLI_TEXT_BYTES], up[CLI_TEXT_BYTES], age[CLI_TEXT_BYTES] = "none yet";

	stat_version_text(a->ctl->version, version);
	if (hypercache_has_beaten(a))
		(void)cli_time(hypercache_heartbeat_age_ns(a), age);
	(void)snprintf(t->daemon, sizeof t->daemon,
		"hypercached %s, up %s; engine %s, %u restarts, heartbeat %s", version,
		cli_time(stat_up_ns(a), up), hypercache_engine_state(a), a->answer.engine_restarts,
		age);
}

static void sums_line(struct top *t, const struct hypercache_admin *a)
{
	char hits[CLI_TEXT_BYTES], read[CLI_TEXT_BYTES], sets[CLI_TEXT_BYTES],
		evicted[CLI_TEXT_BYTES], ratio[CLI_TEXT_BYTES] = "-";
	double h = 0, m = 0, b = 0, s = 0, e = 0;

	for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
		if (!t->is->store[i].id || t->is->store[i].id != t->was->store[i].id)
			continue;
		const struct hypercache_reads *is = &t->is->store[i].reads,
					      *was = &t->was->store[i].reads;
		h += rate(t, true, was->hits, is->hits);
		m += rate(t, true, was->misses, is->misses);
		b += rate(t, true, was->hit_bytes, is->hit_bytes);
		s += rate(t, true, t->was->store[i].sets, t->is->store[i].sets);
		e += rate(t, true, t->was->store[i].evicted, t->is->store[i].evicted);
	}
	if (h + m > 0)
		(void)snprintf(ratio, sizeof ratio, "%.2f %%", 100 * h / (h + m));
	(void)snprintf(t->sums, sizeof t->sums,
		"%u clients  reads/s %s  hit %s  %s/s  sets/s %s  evict/s %s", a->n_sessions,
		top_count(h + m, hits), ratio, b < 0 ? "-" : cli_size((uint64_t)b, read),
		top_count(s, sets), top_count(e, evicted));
}

/* The engine's health, else that of the first store that is not well. */
static void health_line(struct top *t, const struct hypercache_admin *a)
{
	char why[HYPERCACHE_HEALTH_WHY_BYTES], name[SHM_NAME_BYTES];
	enum hypercache_health h = hypercache_health_engine(a, why);

	t->health[0] = 0;
	if (h != HYPERCACHE_OK)
		(void)snprintf(
			t->health, sizeof t->health, "%s: %s", hypercache_health_word(h), why);
	for (uint32_t i = 0; i < SHM_STORES_MAX && !t->health[0]; i++) {
		if (!t->is->store[i].id)
			continue;
		h = hypercache_health_store(a, i, why);
		if (h != HYPERCACHE_OK)
			(void)snprintf(t->health, sizeof t->health, "store %s, %s: %s",
				cli_text(a->ctl->store[i].name, SHM_NAME_BYTES, name, sizeof name),
				hypercache_health_word(h), why);
	}
}

/* ------------------------------------------------------------ looking */

bool top_look(struct top *t)
{
	struct top_sample *was = t->is;
	struct hypercache_admin a;
	char why[HYPERCACHE_ADMIN_WHY_BYTES];

	int r = hypercache_admin_open(t->admin, (int)t->c->timeout_ms, &a, t->why);
	t->status = r == HYPERCACHE_ADMIN_NONE     ? CLI_NO_DAEMON
	            : r == HYPERCACHE_ADMIN_DENIED ? CLI_DENIED
	                                           : CLI_FAILED;
	if (r != 0)
		return false;
	t->why[0] = 0;
	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++) /* one that cannot be mapped is not counted */
		if (stat_pool_used(&a, i))
			(void)hypercache_admin_pool_map(&a, i, why);
	t->is = t->was;
	t->was = was;
	sample_take(&a, t->is);
	for (int i = 0; i < TOP_N_VIEWS; i++)
		t->table[i].n_rows = 0;
	stores_fill(t, &a);
	clients_fill(t, &a);
	pools_fill(t, &a);
	hot_fill(t, &a);
	latency_fill(t, &a);
	daemon_fill(t, &a);
	daemon_line(t, &a);
	health_line(t, &a);
	sums_line(t, &a);
	hypercache_admin_close(&a);
	return true;
}

int top_init(struct top *t, const struct cli *c)
{
	*t = (struct top){.c = c,
		.interval_ns = c->interval_ms * UINT64_C(1000000),
		.is = calloc(1, sizeof *t->is),
		.was = calloc(1, sizeof *t->was),
		.table = {TABLE("stores", store_columns, C_S_HITS),
			TABLE("clients", client_columns, C_C_READS),
			TABLE("pools", pool_columns, C_P_USED),
			TABLE("hot keys", hot_columns, C_H_HITS),
			TABLE("latency", latency_columns, C_L_COUNT),
			TABLE("daemon", daemon_columns, C_D_NAME)}};
	if (!t->is || !t->was)
		return cli_fail(c, CLI_FAILED, "there is no memory for it");
	if (c->admin &&
		(size_t)snprintf(t->admin, sizeof t->admin, "%s", c->admin) < sizeof t->admin)
		return 0;
	if (c->admin || hypercache_admin_path(c->socket, t->admin) < 0)
		return cli_fail(c, CLI_USAGE, "the path of the socket is too long");
	return 0;
}

void top_free(struct top *t)
{
	for (int i = 0; i < TOP_N_VIEWS; i++)
		free(t->table[i].row);
	free(t->is);
	free(t->was);
}
