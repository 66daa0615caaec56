/* cli_look.c - exists, meta, scan: what is there, without fetching it. */
#include <string.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "cli.h"
#include "hypercache.h"

enum { SCAN_BUSY_MAX = 1000 }; /* pages that changed under the scan before it gives up */

DEFINE_CLEANUP(struct hc *, hc_close)

/* {"result": ..., "key": ...} */
static void result_print(const struct cli *c, const char *result, const char *key, size_t key_bytes)
{
	struct json j = {.to = stdout};

	if (!c->json)
		return;
	json_begin(&j, NULL, '{');
	json_string(&j, "result", result);
	json_bytes(&j, "key", key, key_bytes);
	json_end(&j, '}');
	json_finish(&j);
}

int cli_exists(const struct cli *c)
{
	_cleanup_(hc_closep) struct hc *hc = NULL;
	struct hc_store *s;
	const char *key;
	size_t key_bytes;
	int status = cli_key_arg(c, &key, &key_bytes);

	if (status || (status = cli_store_open(c, &hc, &s)))
		return status;
	int r = hc_exists(s, key, key_bytes);
	if (r < 0)
		return cli_hc_fail(c, "exists", r);
	result_print(c, r == HC_OK ? "hit" : "miss", key, key_bytes);
	return cli_end(c, r == HC_OK ? CLI_DONE : CLI_MISS);
}

static void meta_people(const struct hc_meta *m)
{
	char size[CLI_TEXT_BYTES], idle[CLI_TEXT_BYTES], left[CLI_TEXT_BYTES] = "never";

	if (m->expires_in_ms >= 0)
		(void)cli_time((uint64_t)m->expires_in_ms * 1000000, left);
	printf("value     %s\n", cli_size(m->value_bytes, size));
	printf("version   %llu\n", (unsigned long long)m->version);
	printf("stamp     %llu\n", (unsigned long long)m->stamp);
	printf("flags     %u\n", m->flags);
	printf("created   %llu.%09llu\n", (unsigned long long)(m->created_ns / 1000000000),
		(unsigned long long)(m->created_ns % 1000000000));
	printf("modified  %llu.%09llu\n", (unsigned long long)(m->modified_ns / 1000000000),
		(unsigned long long)(m->modified_ns % 1000000000));
	printf("expires   %s\n", left);
	printf("idle      %s\n", cli_time(m->idle_ms * 1000000, idle));
	printf("hits      %u heard of\n", m->hits_seen);
}

static void meta_json(const struct hc_meta *m, const char *key, size_t key_bytes)
{
	struct json j = {.to = stdout};

	json_begin(&j, NULL, '{');
	json_string(&j, "result", "hit");
	json_bytes(&j, "key", key, key_bytes);
	json_u64(&j, "value_bytes", m->value_bytes);
	json_u64(&j, "version", m->version);
	json_u64(&j, "stamp", m->stamp);
	json_u64(&j, "flags", m->flags);
	json_u64(&j, "created_ns", m->created_ns);
	json_u64(&j, "modified_ns", m->modified_ns);
	json_i64(&j, "expires_in_ms", m->expires_in_ms);
	json_u64(&j, "ttl_ms", m->ttl_ms);
	json_u64(&j, "idle_ms", m->idle_ms);
	json_u64(&j, "hits_seen", m->hits_seen);
	json_end(&j, '}');
	json_finish(&j);
}

int cli_meta(const struct cli *c)
{
	_cleanup_(hc_closep) struct hc *hc = NULL;
	struct hc_meta m = HC_OPTS(hc_meta);
	struct hc_store *s;
	const char *key;
	size_t key_bytes;
	int status = cli_key_arg(c, &key, &key_bytes);

	if (status || (status = cli_store_open(c, &hc, &s)))
		return status;
	int r = hc_meta(s, key, key_bytes, &m);
	if (r < 0)
		return cli_hc_fail(c, "meta", r);
	if (r == HC_MISS)
		result_print(c, "miss", key, key_bytes);
	else if (c->json)
		meta_json(&m, key, key_bytes);
	else
		meta_people(&m);
	return cli_end(c, r == HC_OK ? CLI_DONE : CLI_MISS);
}

/* ------------------------------------------------------------ scan */

struct listing {
	const struct cli *c;
	struct json j;
	uint64_t n;
};

static int list_one(void *arg, const struct hc_scan_entry *e)
{
	struct listing *l = arg;

	l->n++;
	if (l->c->json) {
		json_begin(&l->j, NULL, '{');
		json_bytes(&l->j, "key", e->key, e->key_bytes);
		json_u64(&l->j, "value_bytes", e->value_bytes);
		json_u64(&l->j, "version", e->version);
		json_u64(&l->j, "flags", e->flags);
		json_end(&l->j, '}');
	} else {
		(void)fwrite(e->key, 1, e->key_bytes, stdout);
		putchar('\n');
	}
	return 0;
}

/* Where the next page begins; 0: there is none. */
static void page_say(const struct cli *c, struct json *j, uint64_t cursor)
{
	if (c->json) {
		json_u64(j, "cursor", cursor);
		json_end(j, '}');
	} else if (cursor) {
		fprintf(stderr, "hypercache: there is more: --cursor %llu\n",
			(unsigned long long)cursor);
	}
}

int cli_scan(const struct cli *c)
{
	_cleanup_(hc_closep) struct hc *hc = NULL;
	struct hc_scan scan = HC_OPTS(hc_scan);
	struct listing l = {.c = c, .j = {.to = stdout}};
	const char *prefix = NULL;
	struct hc_store *s;
	int status = 0, r = HC_OK;

	if (c->n_args)
		status = cli_key_arg(c, &prefix, &scan.prefix_bytes);
	scan.prefix = prefix;
	if (status || (status = cli_store_open(c, &hc, &s)))
		return status;
	bool pages = c->limit != 0; /* then where to go on is said, too */
	scan.cursor = c->cursor;
	if (pages && c->json) {
		json_begin(&l.j, NULL, '{');
		json_begin(&l.j, "entries", '[');
	} else if (c->json) {
		json_begin(&l.j, NULL, '[');
	}
	for (int busy = 0; r == HC_OK || (r == HC_E_BUSY && busy < SCAN_BUSY_MAX);
		busy += r != HC_OK) {
		if (pages && l.n >= c->limit)
			break;
		scan.max_entries = pages ? c->limit - l.n : 0;
		r = hc_scan(s, &scan, list_one, &l);
	}
	if (c->json)
		json_end(&l.j, ']');
	if (r != HC_OK && r != HC_MISS)
		return cli_hc_fail(c, "scan", r);
	if (pages)
		page_say(c, &l.j, scan.cursor);
	if (c->json)
		json_finish(&l.j);
	return cli_end(c, CLI_DONE);
}
