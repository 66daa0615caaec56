/* metrics_page.c - see metrics_page.h; what is on the page stands in metrics_table.h and l_counters.h. */
#include "metrics_page.h"
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "../daemon/sup_host.h"
#include "atomic.h"
#include "base/cleanup.h"
#include "cli.h"
#include "fold.h"
#include "health.h"
#include "hist.h"
#include "latency.h"
#include "metrics_table.h"
#include "stat.h"
#include "step.h"
#include "wire.h"

enum {
	LABELS_BYTES = 256,
	HIST_FIRST_BIT =
		9, /* the first bucket of the page is below 512 ns, the last finite one below 8.6 s */
	HIST_LAST_BIT = 33,
	FOLD_TRIES = 1000,
};

/* -------------------------------------------------------------------- tables */

struct row {
	const char *name, *unit;
	char kind;
	const char *help;
};
#define ROW_(name, unit, kind, meaning) {#name, unit, #kind[0], meaning},
static const struct row daemon_rows[] = {SHM_DAEMON_COUNTERS(ROW_)};
static const struct row pool_rows[] = {SHM_POOL_COUNTERS(ROW_)};
static const struct row store_rows[] = {SHM_STORE_COUNTERS(ROW_)};
static const struct row block_rows[] = {SHM_BLOCK_COUNTERS(ROW_)};
#define HIST_NAME_(name, unit, kind, meaning) #name,
#define HIST_UNIT_(name, unit, kind, meaning) unit,
static const char *const hist_names[] = {SHM_HISTOGRAM_COUNTERS(HIST_NAME_)};
static const char *const hist_units[] = {SHM_HISTOGRAM_COUNTERS(HIST_UNIT_)};

enum scope { S_daemon, S_pool, S_store, S_client };
static const char *const prefixes[] = {"", "pool", "store", "client"};
#define OTHER_ENUM_(scope, name, unit, kind, meaning) M_##scope##_##name,
enum { HYPERCACHE_METRICS(OTHER_ENUM_) N_OTHERS };
#define OTHER_ROW_(scope, name, unit, kind, meaning) {S_##scope, {#name, unit, #kind[0], meaning}},
static const struct {
	enum scope scope;
	struct row row;
} others[] = {HYPERCACHE_METRICS(OTHER_ROW_)};

/* Of each block counter: its sum over sessions that have ended. */
#define FOLDED_(name, unit, kind, meaning) SHM_DC_folded_##name,
static const enum shm_daemon_counter folded[] = {SHM_BLOCK_COUNTERS(FOLDED_)};

/* It is part of a sum that stands under its own name. */
static bool is_part(const struct row *r) { return strncmp(r->name, "folded_", 7) == 0; }

static bool is_verb(const char *name)
{
#define VERB_NAME_(n, v) #n,
	static const char *const verbs[] = {WIRE_VERBS(VERB_NAME_)};

	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
		if (strcasecmp(verbs[i], name) == 0)
			return true;
	return false;
}

/* ------------------------------------------------------------------ families */

static bool ends_in(const char *text, size_t n, const char *end)
{
	return n >= strlen(end) && memcmp(text + n - strlen(end), end, strlen(end)) == 0;
}

static const char *suffix_of(const char *unit)
{
	bool time = strcmp(unit, "ns") == 0 || strcmp(unit, "ms") == 0 || strcmp(unit, "s") == 0;

	return time                         ? "seconds"
	       : strcmp(unit, "ppm") == 0   ? "ratio"
	       : strcmp(unit, "bytes") == 0 ? "bytes"
	                                    : NULL;
}

/* Without _total and _info: OpenMetrics' name of the family. */
static void family_name(
	const char *scope, const char *name, const char *unit, char to[HYPERCACHE_METRIC_BYTES])
{
	const char *suffix = suffix_of(unit);
	size_t n = strlen(name);

	if (strcmp(unit, "ns") == 0 && ends_in(name, n, "_ns"))
		n -= strlen("_ns");
	bool has = !suffix || ends_in(name, n, suffix);
	(void)snprintf(to, HYPERCACHE_METRIC_BYTES, "hypercache_%s%s%.*s%s%s", scope,
		*scope ? "_" : "", (int)n, name, has ? "" : "_", has ? "" : suffix);
}

void hypercache_metric_name(const char *scope, const char *name, const char *unit, char kind,
	char to[HYPERCACHE_METRIC_BYTES])
{
	family_name(scope, name, unit, to);
	size_t n = strlen(to);
	(void)snprintf(to + n, HYPERCACHE_METRIC_BYTES - n, "%s",
		kind == 'C'   ? "_total"
		: kind == 'I' ? "_info"
			      : "");
}

static const char *type_of(char kind, enum hypercache_page format)
{
	switch (kind) {
	case 'C':
		return "counter";
	case 'H':
		return "histogram";
	case 'I':
		return format == HYPERCACHE_PAGE_OPENMETRICS ? "info" : "gauge";
	default:
		return "gauge";
	}
}

struct page {
	FILE *to;
	enum hypercache_page format;
	const struct hypercache_admin *a;
	char name[HYPERCACHE_METRIC_BYTES]; /* of the family's samples */
	const char *unit;
};

static void family_begin(struct page *p, const char *scope, const struct row *r)
{
	char family[HYPERCACHE_METRIC_BYTES];
	bool open = p->format == HYPERCACHE_PAGE_OPENMETRICS;

	hypercache_metric_name(scope, r->name, r->unit, r->kind, p->name);
	family_name(scope, r->name, r->unit, family);
	p->unit = r->unit;
	const char *shown = open ? family : p->name, *suffix = suffix_of(r->unit);
	fprintf(p->to, "# HELP %s %s\n# TYPE %s %s\n", shown, r->help, shown,
		type_of(r->kind, p->format));
	if (open && suffix)
		fprintf(p->to, "# UNIT %s %s\n", shown, suffix);
}

/* Of so many parts of one: 1500000000 of 9 digits is 1.5. */
static void decimal_put(FILE *to, uint64_t v, int digits)
{
	uint64_t one = 1;
	char text[48];

	for (int i = 0; i < digits; i++)
		one *= 10;
	int n = snprintf(text, sizeof text, "%" PRIu64 ".%0*" PRIu64, v / one, digits, v % one);
	while (text[n - 1] == '0' && text[n - 2] != '.')
		n--;
	fprintf(to, "%.*s", n, text);
}

static void value_put(const struct page *p, uint64_t v)
{
	if (strcmp(p->unit, "ns") == 0)
		decimal_put(p->to, v, 9);
	else if (strcmp(p->unit, "ms") == 0)
		decimal_put(p->to, v, 3);
	else if (strcmp(p->unit, "ppm") == 0)
		decimal_put(p->to, v, 6);
	else
		fprintf(p->to, "%" PRIu64, v);
	putc('\n', p->to);
}

/* labels: without their braces. */
static void sample_put(const struct page *p, const char *labels, uint64_t v)
{
	fprintf(p->to, *labels ? "%s{%s} " : "%s%s ", p->name, labels);
	value_put(p, v);
}

/* NAME="VALUE", escaped, behind what is in `to` already; cut, but never inside an escape. */
static void label_add(char to[LABELS_BYTES], const char *name, const char *from, size_t n)
{
	char text[96];
	size_t at = strlen(to);

	(void)cli_text(from, n, text, sizeof text);
	at += (size_t)snprintf(to + at, LABELS_BYTES - at, "%s%s=\"", at ? "," : "", name);
	for (const char *c = text; *c && at + 4 < LABELS_BYTES; c++) {
		if ((*c == '"' || *c == '\\') && !MUTANT(840)) /* 840: as it is */
			to[at++] = '\\';
		to[at++] = *c;
	}
	to[at++] = '"';
	to[at] = 0;
}

/* ------------------------------------------------------------------ snapshot */

/* What is there at one moment: what comes or goes while the page is written is not on it twice. */
struct thing {
	uint32_t idx;
	char labels[LABELS_BYTES];
	struct hypercache_reads reads;
};

struct shot {
	struct thing pool[SHM_POOLS_MAX], store[SHM_STORES_MAX];
	struct thing *client; /* heap */
	uint32_t n_pools, n_stores, n_clients;
};

static void pools_shoot(const struct hypercache_admin *a, struct shot *s)
{
	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++) {
		if (!stat_pool_used(a, i))
			continue;
		struct thing *t = &s->pool[s->n_pools++];
		t->idx = i;
		label_add(t->labels, "pool", a->ctl->pool[i].name, SHM_NAME_BYTES);
	}
}

static void stores_shoot(const struct hypercache_admin *a, struct shot *s)
{
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
		const struct shm_store_entry *e = &a->ctl->store[i];
		if (!stat_store_used(a, i) || e->pool_idx >= SHM_POOLS_MAX)
			continue;
		struct thing *t = &s->store[s->n_stores++];
		t->idx = i;
		label_add(t->labels, "store", e->name, SHM_NAME_BYTES);
		label_add(t->labels, "pool", a->ctl->pool[e->pool_idx].name, SHM_NAME_BYTES);
		t->reads = hypercache_reads(a, i);
	}
}

static void clients_shoot(const struct hypercache_admin *a, struct shot *s)
{
	s->client = calloc(a->n_sessions ? a->n_sessions : 1, sizeof *s->client);
	for (uint32_t i = 0; s->client && i < a->n_sessions; i++) {
		const struct hypercache_admin_session *one = &a->session[i];
		struct thing *t = &s->client[s->n_clients];
		if (hypercache_admin_is_folded(one))
			continue;
		t->idx = i;
		(void)snprintf(t->labels, sizeof t->labels, "slot=\"%u\",pid=\"%d\",uid=\"%u\"",
			one->slot, one->pid, one->uid);
		label_add(t->labels, "name", one->seg->name, sizeof one->seg->name);
		for (uint32_t k = 0; k < SHM_BLOCK_STORES; k++) {
			struct hypercache_reads r = hypercache_admin_reads(one, k);
			t->reads.hits += r.hits;
			t->reads.misses += r.misses;
			t->reads.hit_bytes += r.hit_bytes;
		}
		s->n_clients++;
	}
}

/* -------------------------------------------------------------------- values */

static uint64_t block_sum(const struct hypercache_admin *a, enum shm_block_counter c)
{
	uint64_t looked, sum;
	int tries = 0;

	do {
		looked = shm_fold_look(a->ctl);
		sum = stat_counter(a, folded[c]);
		for (uint32_t i = 0; i < a->n_sessions; i++)
			if (!hypercache_admin_is_folded(&a->session[i]))
				sum += hypercache_admin_count(&a->session[i], c);
	} while (!shm_fold_same(a->ctl, looked) && ++tries < FOLD_TRIES);
	return sum;
}

static uint64_t client_value(const struct hypercache_admin *a, const struct thing *t, int m)
{
	const struct hypercache_admin_session *s = &a->session[t->idx];
	uint64_t now = sup_host_real_ns(), opened = s->seg->opened_ns;
	uint32_t pins, views;

	hypercache_admin_pins(a, s, &pins, &views);
	switch (m) {
	case M_client_hits:
		return t->reads.hits;
	case M_client_misses:
		return t->reads.misses;
	case M_client_hit_bytes:
		return t->reads.hit_bytes;
	case M_client_pins:
		return pins;
	case M_client_view_pins:
		return views;
	default:
		return now > opened ? now - opened : 0;
	}
}

static uint64_t store_value(const struct hypercache_admin *a, const struct thing *t, int m)
{
	const struct shm_store_entry *e = &a->ctl->store[t->idx];
	char why[HYPERCACHE_HEALTH_WHY_BYTES];

	switch (m) {
	case M_store_hits:
		return t->reads.hits;
	case M_store_misses:
		return t->reads.misses;
	case M_store_hit_bytes:
		return t->reads.hit_bytes;
	case M_store_health:
		return hypercache_health_store(a, t->idx, why);
	case M_store_guaranteed_bytes:
		return shm_load_rlx(&e->guaranteed_bytes);
	case M_store_limit_bytes:
		return shm_load_rlx(&e->limit_bytes);
	default:
		return shm_load_rlx(&e->limit_entries);
	}
}

static uint64_t daemon_value(const struct hypercache_admin *a, int m)
{
	char why[HYPERCACHE_HEALTH_WHY_BYTES];

	switch (m) {
	case M_daemon_start_time:
		return a->ctl->started_ns / 1000000000;
	case M_daemon_engine_serving:
		return strcmp(hypercache_engine_state(a), "serving") == 0;
	case M_daemon_engine_healthy:
		return hypercache_health_engine(a, why) == HYPERCACHE_OK;
	case M_daemon_engine_heartbeat_age:
		return hypercache_has_beaten(a) ? hypercache_heartbeat_age_ns(a) : 0;
	case M_daemon_engine_generation:
		return shm_load_rlx(&a->ctl->engine_gen);
	case M_daemon_engine_crashes_in_a_row:
		return a->answer.crashes;
	case M_daemon_lsn:
		return shm_load_rlx(&a->ctl->lsn);
	case M_daemon_sessions_max:
		return a->ctl->n_sessions;
	default: /* up, and what has a word instead of a number */
		return 1;
	}
}

/* ---------------------------------------------------------------- histograms */

/* All buckets of values below 2^bit; and where the page's next one begins. */
static void hist_put(
	const struct page *p, const char *label, const char *of, const struct shm_hist *h)
{
	struct hypercache_latency l;
	uint64_t below = 0;
	uint32_t i = 0;

	hypercache_latency_read(h, &l);
	for (int bit = HIST_FIRST_BIT; bit <= HIST_LAST_BIT; bit++) {
		uint64_t end = UINT64_C(1) << bit;
		for (; i < SHM_HIST_BUCKETS - 1 && shm_hist_low(i + 1) <= end; i++)
			below = l.bucket[i] + (MUTANT(841) ? 0 : below); /* 841: each by itself */
		/* They are whole ns or ms, so below 2^bit is the same as at most one less. */
		fprintf(p->to, "%s_bucket{%s=\"%s\",le=\"", p->name, label, of);
		decimal_put(p->to, end - 1, strcmp(p->unit, "ms") == 0 ? 3 : 9);
		fprintf(p->to, "\"} %" PRIu64 "\n", below);
	}
	fprintf(p->to, "%s_bucket{%s=\"%s\",le=\"+Inf\"} %" PRIu64 "\n", p->name, label, of, l.n);
	fprintf(p->to, "%s_sum{%s=\"%s\"} ", p->name, label, of);
	value_put(p, l.sum);
	fprintf(p->to, "%s_count{%s=\"%s\"} %" PRIu64 "\n", p->name, label, of, l.n);
}

#define FAMILY_ROW_(name, label, unit, meaning) {{#name, unit, 'H', meaning}, #label},
static const struct {
	struct row row;
	const char *label;
} hist_families[] = {HYPERCACHE_METRICS_HISTOGRAMS(FAMILY_ROW_)};

/* Which family a histogram belongs to. */
static int family_of(int hist)
{
	return is_verb(hist_names[hist]) ? 0 : strcmp(hist_units[hist], "ms") == 0 ? 2 : 1;
}

static void hists_put(struct page *p)
{
	for (int f = 0; f < (int)(sizeof hist_families / sizeof *hist_families); f++) {
		family_begin(p, "", &hist_families[f].row);
		for (int i = 0; i < SHM_HG_N; i++)
			if (family_of(i) == f)
				hist_put(p, hist_families[f].label, hist_names[i],
					&p->a->ctl->hist[i]);
	}
}

/* ---------------------------------------------------------------------- page */

/* What the table of others has of a scope. */
static void info_put(const struct page *p, const struct thing *t, int m)
{
	char labels[LABELS_BYTES] = "", version[CLI_TEXT_BYTES];
	const struct hypercache_admin *a = p->a;
	const char *word;

	if (t)
		(void)snprintf(labels, sizeof labels, "%s", t->labels);
	if (m == M_daemon_build) {
		stat_version_text(a->ctl->version, version);
		label_add(labels, "version", version, sizeof version);
	} else if (m == M_daemon_engine_state) {
		word = hypercache_engine_state(a);
		label_add(labels, "state", word, strlen(word));
	} else {
		word = stat_backing_name(a->ctl->pool[t->idx].region[0].backing);
		label_add(labels, "backing", word, strlen(word));
	}
	sample_put(p, labels, 1);
}

static void others_put(struct page *p, enum scope scope, const struct thing *t, uint32_t n)
{
	for (int m = 0; m < N_OTHERS; m++) {
		if (others[m].scope != scope)
			continue;
		family_begin(p, prefixes[scope], &others[m].row);
		for (uint32_t i = 0; i < n; i++) {
			if (others[m].row.kind == 'I')
				info_put(p, t ? &t[i] : NULL, m);
			else if (scope == S_daemon)
				sample_put(p, "", daemon_value(p->a, m));
			else if (scope == S_pool)
				sample_put(p, t[i].labels,
					shm_load_rlx(&p->a->ctl->pool[t[i].idx].wanted_bytes));
			else if (scope == S_store)
				sample_put(p, t[i].labels, store_value(p->a, &t[i], m));
			else
				sample_put(p, t[i].labels, client_value(p->a, &t[i], m));
		}
	}
}

static void counters_put(struct page *p, const struct shot *s)
{
	const struct shm_control *ctl = p->a->ctl;

	for (int c = 0; c < SHM_DC_N; c++)
		if (!is_part(&daemon_rows[c])) {
			family_begin(p, "", &daemon_rows[c]);
			sample_put(p, "", stat_counter(p->a, (uint32_t)c));
		}
	for (int c = 0; c < SHM_BC_N; c++) {
		family_begin(p, "reader", &block_rows[c]);
		sample_put(p, "", block_sum(p->a, c));
	}
	for (int c = 0; c < SHM_PC_N; c++) {
		family_begin(p, "pool", &pool_rows[c]);
		for (uint32_t i = 0; i < s->n_pools; i++)
			sample_put(p, s->pool[i].labels,
				shm_load_rlx(&ctl->pool[s->pool[i].idx].counter[c]));
	}
	for (int c = 0; c < SHM_SC_N; c++) {
		if (is_part(&store_rows[c]))
			continue;
		family_begin(p, "store", &store_rows[c]);
		for (uint32_t i = 0; i < s->n_stores; i++)
			sample_put(p, s->store[i].labels,
				shm_load_rlx(&ctl->store[s->store[i].idx].counter[c]));
	}
	for (int c = 0; c < SHM_BC_N; c++) {
		family_begin(p, "client", &block_rows[c]);
		for (uint32_t i = 0; i < s->n_clients; i++)
			sample_put(p, s->client[i].labels,
				hypercache_admin_count(&p->a->session[s->client[i].idx], c));
	}
}

static void memory_put(struct page *p)
{
	_cleanup_free_ struct shot *s = calloc(1, sizeof *s);

	if (!s)
		return;
	pools_shoot(p->a, s);
	stores_shoot(p->a, s);
	clients_shoot(p->a, s);
	others_put(p, S_daemon, NULL, 1);
	others_put(p, S_pool, s->pool, s->n_pools);
	others_put(p, S_store, s->store, s->n_stores);
	others_put(p, S_client, s->client, s->n_clients);
	counters_put(p, s);
	hists_put(p);
	free(s->client);
}

void hypercache_page_write(FILE *to, enum hypercache_page format, const struct hypercache_admin *a)
{
	struct page p = {.to = to, .format = format, .a = a};

	if (a) {
		memory_put(&p);
	} else {
		family_begin(&p, "", &others[M_daemon_up].row);
		sample_put(&p, "", 0);
	}
	if (format == HYPERCACHE_PAGE_OPENMETRICS)
		fputs("# EOF\n", to);
}

/* -------------------------------------------------------------- descriptions */

static void each_row(
	hypercache_metric_each *each, void *arg, const char *scope, const struct row *r)
{
	char name[HYPERCACHE_METRIC_BYTES];

	hypercache_metric_name(scope, r->name, r->unit, r->kind, name);
	each(arg, name, type_of(r->kind, HYPERCACHE_PAGE_TEXT), r->help);
}

void hypercache_metrics_each(hypercache_metric_each *each, void *arg)
{
	for (int m = 0; m < N_OTHERS; m++)
		each_row(each, arg, prefixes[others[m].scope], &others[m].row);
	for (int c = 0; c < SHM_DC_N; c++)
		if (!is_part(&daemon_rows[c]))
			each_row(each, arg, "", &daemon_rows[c]);
	for (int c = 0; c < SHM_BC_N; c++) {
		each_row(each, arg, "reader", &block_rows[c]);
		each_row(each, arg, "client", &block_rows[c]);
	}
	for (int c = 0; c < SHM_PC_N; c++)
		each_row(each, arg, "pool", &pool_rows[c]);
	for (int c = 0; c < SHM_SC_N; c++)
		if (!is_part(&store_rows[c]))
			each_row(each, arg, "store", &store_rows[c]);
	for (size_t f = 0; f < sizeof hist_families / sizeof *hist_families; f++)
		each_row(each, arg, "", &hist_families[f].row);
}

/* --------------------------------------------------------------- negotiation */

static const char *skip_space(const char *p) { return p + strspn(p, " \t"); }

/* The q of a range's parameters, in thousandths; 1000 if there is none. */
static int quality(const char *p, const char *end)
{
	for (; p && p < end; p = memchr(p, ';', (size_t)(end - p))) {
		p = skip_space(*p == ';' ? p + 1 : p);
		if (p + 2 < end && (*p == 'q' || *p == 'Q') && p[1] == '=')
			return (int)(strtod(p + 2, NULL) * 1000);
	}
	return 1000;
}

enum hypercache_page hypercache_page_wanted(const char *accept)
{
	int open = 0, text = 0;

	for (const char *p = accept; p && *p;) {
		p = skip_space(p);
		const char *end = p + strcspn(p, ",");
		size_t n = strcspn(p, ",; \t");
		const char *rest = memchr(p, ';', (size_t)(end - p));
		int q = quality(rest, end);
		if (n == 28 && strncasecmp(p, "application/openmetrics-text", n) == 0)
			open = q > open ? q : open;
		else if (n == 10 && strncasecmp(p, "text/plain", n) == 0)
			text = q > text ? q : text;
		p = *end ? end + 1 : end;
	}
	return open > 0 && open >= text ? HYPERCACHE_PAGE_OPENMETRICS : HYPERCACHE_PAGE_TEXT;
}
