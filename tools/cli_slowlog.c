/* cli_slowlog.c - slowlog: requests that took long, from the journal's ring, without the engine. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include "atomic.h"
#include "base/cleanup.h"
#include "cli.h"
#include "hypercache.h"
#include "hypercache_admin.h"
#include "journal.h"
#include "wire.h"

struct entry {
	uint64_t number;
	struct shm_slow_rec rec;
};

static const char *const stages[SHM_SLOW_N] = {
#define STAGE_(name, meaning) #name,
	SHM_SLOW_STAGES(STAGE_)};

static const char *verb_name(uint32_t verb)
{
#define VERB_(n, v) [v] = #n,
	static const char *const names[WIRE_VERB_END] = {WIRE_VERBS(VERB_)};
	return verb < WIRE_VERB_END && names[verb] ? names[verb] : "?";
}

static int by_number(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	return x->number < y->number ? -1 : x->number > y->number;
}

static uint64_t total_ns(const struct shm_slow_rec *r)
{
	uint64_t sum = 0;

	for (int i = 0; i < SHM_SLOW_N; i++)
		sum += r->stage_ns[i];
	return sum;
}

/* The stage that took most of it. */
static int slowest(const struct shm_slow_rec *r)
{
	int most = 0;

	for (int i = 1; i < SHM_SLOW_N; i++)
		if (r->stage_ns[i] > r->stage_ns[most])
			most = i;
	return most;
}

/* Of a store that may be gone. */
static const char *store_name(
	const struct hypercache_admin *a, const struct shm_slow_rec *r, char to[SHM_NAME_BYTES])
{
	for (int i = 0; i < SHM_STORES_MAX && r->store_id; i++)
		if (shm_load_acq(&a->ctl->store[i].id) == r->store_id) /* acq:entry.id */
			return cli_text(a->ctl->store[i].name, SHM_NAME_BYTES, to, SHM_NAME_BYTES);
	(void)snprintf(to, SHM_NAME_BYTES, "%s", r->store_id ? "(dropped)" : "-");
	return to;
}

/* As it calls itself, if it is still there. */
static const char *client_name(
	const struct hypercache_admin *a, const struct shm_slow_rec *r, char to[CLI_TEXT_BYTES])
{
	for (uint32_t i = 0; i < a->n_sessions && r->session_id; i++)
		if (a->session[i].id == r->session_id)
			return cli_text(a->session[i].seg->name, sizeof a->session[i].seg->name, to,
				CLI_TEXT_BYTES);
	(void)snprintf(to, CLI_TEXT_BYTES, "%s", r->session_id ? "(gone)" : "-");
	return to;
}

static size_t key_shown(const struct shm_slow_rec *r)
{
	return r->key_bytes < sizeof r->key ? (size_t)r->key_bytes : sizeof r->key;
}

static void entry_print(const struct hypercache_admin *a, const struct entry *e)
{
	const struct shm_slow_rec *r = &e->rec;
	char when[32] = "?", took[CLI_TEXT_BYTES], part[CLI_TEXT_BYTES], store[SHM_NAME_BYTES];
	char client[CLI_TEXT_BYTES], key[sizeof r->key + 1];
	time_t s = (time_t)(r->time_ns / 1000000000);
	struct tm at;

	if (localtime_r(&s, &at))
		(void)strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &at);
	for (size_t i = 0; i < sizeof r->key; i++) /* it may hold zeros */
		key[i] = (char)(i >= key_shown(r)                      ? 0
				: r->key[i] >= ' ' && r->key[i] <= '~' ? r->key[i]
								       : '?');
	key[sizeof r->key] = 0;
	printf("%6" PRIu64 "  %s.%03u  %10s  %-10s %-16s %10" PRIu64 "  %s %s", e->number, when,
		(unsigned)(r->time_ns / 1000000 % 1000), cli_time(total_ns(r), took),
		verb_name(r->verb), store_name(a, r, store), r->value_bytes, stages[slowest(r)],
		cli_time(r->stage_ns[slowest(r)], part));
	printf("  process %d, %s", (int)r->pid, client_name(a, r, client));
	if (r->n_items)
		printf("  %u items", r->n_items);
	if (r->key_bytes)
		printf("  %s%s", key, r->key_bytes > sizeof r->key ? "..." : "");
	if (r->status)
		printf("  (%s)", hc_strerror(r->status));
	putchar('\n');
}

static void entry_json(struct json *j, const struct hypercache_admin *a, const struct entry *e)
{
	const struct shm_slow_rec *r = &e->rec;
	char store[SHM_NAME_BYTES], client[CLI_TEXT_BYTES];

	json_begin(j, NULL, '{');
	json_u64(j, "number", e->number);
	json_double(j, "time_s", (double)r->time_ns / 1e9);
	json_u64(j, "took_ns", total_ns(r));
	json_string(j, "verb", verb_name(r->verb));
	json_string(j, "store", store_name(a, r, store));
	json_hex(j, "session", r->session_id);
	json_u64(j, "pid", r->pid);
	json_u64(j, "uid", r->uid);
	json_string(j, "client", client_name(a, r, client));
	json_i64(j, "status", r->status);
	json_u64(j, "version", r->lsn);
	json_u64(j, "key_bytes", r->key_bytes);
	json_u64(j, "value_bytes", r->value_bytes);
	json_u64(j, "items", r->n_items);
	if (r->key_bytes) {
		json_hex(j, "key_hash", r->hash);
		json_bytes(j, "key", r->key, key_shown(r));
		json_bool(j, "key_cut", r->key_bytes > sizeof r->key);
	}
	json_string(j, "slowest", stages[slowest(r)]);
	json_begin(j, "stages_ns", '{');
	for (int i = 0; i < SHM_SLOW_N; i++)
		json_u64(j, stages[i], r->stage_ns[i]);
	json_end(j, '}');
	json_end(j, '}');
}

static void entries_print(
	const struct cli *c, const struct hypercache_admin *a, const struct entry *e, uint32_t n)
{
	struct json j = {.to = stdout};

	if (!c->json) {
		printf("%6s  %-23s  %10s  %-10s %-16s %10s  %s\n", "number", "ended", "took",
			"verb", "store", "value", "slowest stage, client, key");
		for (uint32_t i = 0; i < n; i++)
			entry_print(a, &e[i]);
		return;
	}
	json_begin(&j, NULL, '{');
	json_begin(&j, "slow", '[');
	for (uint32_t i = 0; i < n; i++)
		entry_json(&j, a, &e[i]);
	json_end(&j, ']');
	json_u64(&j, "ever", shm_load_rlx(&a->ctl->counter[SHM_DC_slow]));
	json_end(&j, '}');
	json_finish(&j);
}

int cli_slowlog(const struct cli *c)
{
	struct hypercache_admin a;
	const struct shm_slow *log = NULL;
	uint32_t n_slow = 0, n = 0;
	int status = cli_admin_open(c, &a);

	if (status)
		return status;
	if (a.journal)
		log = shm_journal_slow(a.journal, a.journal_bytes, &n_slow);
	_cleanup_free_ struct entry *e = calloc(n_slow ? n_slow : 1, sizeof *e);
	if (!log || !e) {
		hypercache_admin_close(&a);
		return cli_fail(c, CLI_FAILED,
			e ? "this daemon keeps no slow log: is it of an older version?"
			  : "there is no memory for it");
	}
	for (uint32_t i = 0; i < n_slow; i++) {
		e[n].number = shm_slow_get(log, i, &e[n].rec);
		n += e[n].number != 0;
	}
	qsort(e, n, sizeof *e, by_number);
	uint32_t from = c->limit && c->limit < n ? n - (uint32_t)c->limit : 0;
	entries_print(c, &a, e + from, n - from);
	hypercache_admin_close(&a);
	return cli_end(c, CLI_DONE);
}
