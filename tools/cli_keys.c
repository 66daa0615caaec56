/* cli_keys.c - big, prefixes: which entries are largest, and which prefix of keys uses how much.
 *
 * Both scan the store in place, as `scan` does: the engine does nothing for it.  A key is counted once,
 * but twice if the index grows meanwhile (hc_scan).  Memory is bounded: so many keys as are listed, or
 * PREFIXES_MAX prefixes; what has another one is counted together.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "cli.h"
#include "hypercache.h"
#include "step.h"

enum {
	LISTED = 20, /* without --limit */
	LISTED_MAX = 1000,
	PREFIXES_MAX = 65536, /* that are counted apart */
	SLOTS = 2 * PREFIXES_MAX,
	KEY_SHOWN = 48,   /* bytes of a key in a table */
	SCAN_TRIES = 100, /* pages that a busy index may spoil */
};

/* A key, or a prefix. */
struct row {
	uint8_t *name;
	size_t name_bytes;
	uint64_t rank; /* by what it is listed */
	uint64_t entries, bytes, hits;
};

struct census {
	const struct cli *c;
	struct hc_store *s;
	const char *delimiter; /* of prefixes; else NULL */
	struct row *row; /* the first n_rows, largest rank first; prefixes: SLOTS places, by hash */
	uint32_t n_rows, max_rows;
	struct row sum, others; /* others: prefixes for which there was no room */
	bool no_memory;
};

static void hc_closep(struct hc **p) { hc_close(*p); }

static uint64_t hits_of(struct hc_store *s, const struct hc_scan_entry *e)
{
	struct hc_meta m = HC_OPTS(hc_meta);

	return hc_meta(s, e->key, e->key_bytes, &m) == HC_OK ? m.hits_seen : 0;
}

static bool name_set(struct row *r, const void *name, size_t n)
{
	r->name = malloc(n + 1);
	if (!r->name)
		return false;
	memcpy(r->name, name, n);
	r->name_bytes = n;
	return true;
}

/* Among the rows, if its rank is high enough. */
static void top_add(struct census *t, const struct hc_scan_entry *e, const struct row *is)
{
	struct row r = *is;

	if (t->n_rows == t->max_rows && r.rank <= t->row[t->n_rows - 1].rank)
		return;
	for (uint32_t i = 0; i < t->n_rows; i++) /* it was reported before */
		if (t->row[i].name_bytes == e->key_bytes &&
			memcmp(t->row[i].name, e->key, e->key_bytes) == 0)
			return;
	if (!name_set(&r, e->key, e->key_bytes)) {
		t->no_memory = true;
		return;
	}
	if (t->n_rows == t->max_rows)
		free(t->row[--t->n_rows].name);
	uint32_t at = t->n_rows++;
	for (; at && t->row[at - 1].rank < r.rank; at--)
		t->row[at] = t->row[at - 1];
	t->row[at] = r;
}

/* Bytes of the key up to and with the delimiter; 0: it has none. */
static size_t prefix_of(const struct census *t, const struct hc_scan_entry *e)
{
	size_t n = strlen(t->delimiter);
	const uint8_t *at = memmem(e->key, e->key_bytes, t->delimiter, n);

	return at ? (size_t)(at - (const uint8_t *)e->key) + n : 0;
}

/* The row of a prefix, made if there is room; else that of all others. */
static struct row *prefix_row(struct census *t, const void *name, size_t n)
{
	uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */

	for (size_t i = 0; i < n; i++)
		h = (h ^ ((const uint8_t *)name)[i]) * 0x100000001b3u;
	for (uint32_t i = (uint32_t)(h ^ h >> 32) % SLOTS;; i = (i + 1) % SLOTS) {
		struct row *r = &t->row[i];
		if (r->name && r->name_bytes == n && memcmp(r->name, name, n) == 0)
			return r;
		if (r->name)
			continue;
		if (t->n_rows == PREFIXES_MAX || !name_set(r, name, n))
			return &t->others;
		t->n_rows++;
		return r;
	}
}

static void row_count(struct row *r, const struct row *e)
{
	r->entries += e->entries;
	r->bytes += e->bytes;
	r->hits += e->hits;
	r->rank += e->bytes;
}

static int census_one(void *arg, const struct hc_scan_entry *e)
{
	struct census *t = arg;
	struct row r = {.entries = 1, .bytes = e->key_bytes + e->value_bytes};

	if (t->delimiter)
		r.hits = hits_of(t->s, e);
	r.rank = r.bytes;
	row_count(&t->sum, &r);
	if (t->delimiter)
		row_count(prefix_row(t, e->key, prefix_of(t, e)), &r);
	else
		top_add(t, e, &r);
	return 0;
}

static int row_compare(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	if (!x->name || !y->name)
		return (x->name == NULL) - (y->name == NULL);
	return (x->rank < y->rank) - (x->rank > y->rank);
}

/* ------------------------------------------------------------ printing */

static void row_print(const struct census *t, const struct row *r, const char *instead)
{
	char name[KEY_SHOWN + 4], size[CLI_TEXT_BYTES];

	if (instead) {
		(void)snprintf(name, sizeof name, "%s", instead);
	} else {
		(void)cli_text((const char *)r->name, r->name_bytes, name, KEY_SHOWN + 1);
		if (r->name_bytes > KEY_SHOWN)
			(void)strcat(name, "...");
	}
	if (t->delimiter)
		printf("%12s %5.1f %% %10" PRIu64 " %10" PRIu64 "  %s\n", cli_size(r->bytes, size),
			t->sum.bytes ? 100.0 * (double)r->bytes / (double)t->sum.bytes : 0,
			r->entries, r->hits, name);
	else
		printf("%12s  %s\n", cli_size(r->bytes, size), name);
}

static void row_json(const struct census *t, struct json *j, const struct row *r, bool others)
{
	json_begin(j, NULL, '{');
	if (others)
		json_bool(j, "others", true);
	else
		json_bytes(j, t->delimiter ? "prefix" : "key", r->name, r->name_bytes);
	if (t->delimiter)
		json_u64(j, "entries", r->entries);
	json_u64(j, "bytes", r->bytes);
	if (t->delimiter)
		json_u64(j, "hits_seen", r->hits);
	json_end(j, '}');
}

static void census_print(const struct census *t)
{
	uint32_t n = t->n_rows < t->max_rows ? t->n_rows : t->max_rows;

	if (t->delimiter)
		printf("%12s %7s %10s %10s  prefix\n", "bytes", "part", "entries", "hits seen");
	else
		printf("%12s  key\n", "bytes");
	for (uint32_t i = 0; i < n; i++)
		row_print(t, &t->row[i], t->row[i].name_bytes ? NULL : "(none)");
	if (t->others.entries)
		row_print(t, &t->others, "(of more prefixes than are counted)");
	if (t->delimiter && t->n_rows > n)
		printf("and %u more: --limit\n", t->n_rows - n);
}

static void census_json(const struct census *t)
{
	uint32_t n = t->n_rows < t->max_rows ? t->n_rows : t->max_rows;
	struct json j = {.to = stdout};

	json_begin(&j, NULL, '{');
	json_u64(&j, "entries", t->sum.entries);
	json_u64(&j, "bytes", t->sum.bytes);
	json_begin(&j, t->delimiter ? "prefixes" : "keys", '[');
	for (uint32_t i = 0; i < n; i++)
		row_json(t, &j, &t->row[i], false);
	if (t->others.entries)
		row_json(t, &j, &t->others, true);
	json_end(&j, ']');
	json_end(&j, '}');
	json_finish(&j);
}

/* ------------------------------------------------------------ the verbs */

static void census_free(struct census *t)
{
	for (uint32_t i = 0; t->row && i < (t->delimiter ? SLOTS : t->n_rows); i++)
		free(t->row[i].name);
	free(t->row);
}

static int census_take(struct census *t)
{
	struct hc_scan scan = HC_OPTS(hc_scan);
	int r = HC_OK;

	for (int busy = 0; r == HC_OK || (r == HC_E_BUSY && busy < SCAN_TRIES); busy += r != HC_OK)
		r = hc_scan(t->s, &scan, census_one, t);
	if (r != HC_MISS)
		return cli_hc_fail(t->c, "scan", r);
	if (t->no_memory)
		return cli_fail(t->c, CLI_FAILED, "there is no memory for the list");
	if (t->delimiter && !MUTANT(318)) /* 318: in any order */
		qsort(t->row, SLOTS, sizeof *t->row, row_compare);
	if (t->c->json)
		census_json(t);
	else
		census_print(t);
	return cli_end(t->c, CLI_DONE);
}

static int census(const struct cli *c, const char *delimiter)
{
	_cleanup_(hc_closep) struct hc *hc = NULL;
	_cleanup_(census_free) struct census t = {.c = c, .delimiter = delimiter};
	uint64_t n = c->limit ? c->limit : LISTED;

	if (n > LISTED_MAX)
		return cli_fail(c, CLI_USAGE, "--limit: at most %d", LISTED_MAX);
	if (delimiter && !*delimiter)
		return cli_fail(c, CLI_USAGE, "a delimiter has at least one byte: as \":\"");
	t.max_rows = (uint32_t)n;
	t.row = calloc(delimiter ? SLOTS : n, sizeof *t.row);
	if (!t.row)
		return cli_fail(c, CLI_FAILED, "there is no memory for the list");
	int status = cli_store_open(c, &hc, &t.s);
	return status ? status : census_take(&t);
}

int cli_big(const struct cli *c) { return census(c, NULL); }
int cli_prefixes(const struct cli *c) { return census(c, c->n_args ? c->arg[0] : ":"); }
