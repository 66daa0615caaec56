/* cli_hot.c - hot: the keys that are read most (hot_keys.h). */
#include <inttypes.h>
#include <string.h>
#include "atomic.h"
#include "cli.h"
#include "health.h"
#include "hot_keys.h"

enum { KEYS = 10 };

static const char *percent(double part, char to[CLI_TEXT_BYTES])
{
	(void)snprintf(to, CLI_TEXT_BYTES, "%.2f %%", 100 * part);
	return to;
}

static void store_print(const struct hypercache_hot *h, const char *name, double hits_s)
{
	char share[CLI_TEXT_BYTES], error[CLI_TEXT_BYTES], bytes[CLI_TEXT_BYTES], key[128];

	printf("store %s: of %" PRIu64 " hits lately, half of them in the last 30 s\n", name,
		h->hits);
	printf("  %9s %9s %11s %10s  %s\n", "share", "error", "hits/s", "value", "key");
	for (uint32_t i = 0; i < h->n; i++) {
		const struct hypercache_hot_key *k = &h->key[i];
		printf("  %9s %9s %11.0f %10s  %s\n", percent(k->share, share),
			percent(k->error, error), k->share * hits_s,
			k->key ? cli_size(k->value_bytes, bytes) : "-",
			k->key ? cli_text(k->key, k->key_bytes, key, sizeof key)
			       : "(not there any more)");
	}
	printf("  %9s %9s any other key, at most\n", percent(h->rest, share), "");
}

static void store_json(
	struct json *j, const struct hypercache_hot *h, const char *name, double hits_s)
{
	json_begin(j, NULL, '{');
	json_string(j, "store", name);
	json_u64(j, "hits", h->hits);
	json_double(j, "hits_per_s", hits_s);
	json_double(j, "rest_share", h->rest);
	json_begin(j, "keys", '[');
	for (uint32_t i = 0; i < h->n; i++) {
		const struct hypercache_hot_key *k = &h->key[i];
		json_begin(j, NULL, '{');
		if (k->key)
			json_bytes(j, "key", k->key, k->key_bytes);
		json_hex(j, "hash", k->hash);
		json_double(j, "share", k->share);
		json_double(j, "error", k->error);
		if (k->key)
			json_u64(j, "value_bytes", k->value_bytes);
		json_end(j, '}');
	}
	json_end(j, ']');
	json_end(j, '}');
}

/* One store's.  0: it has none; 1: shown; negative: why says what is wrong. */
static int store_show(const struct cli *c, struct hypercache_admin *a, uint32_t i, struct json *j,
	char why[HYPERCACHE_ADMIN_WHY_BYTES])
{
	const struct shm_store_entry *e = &a->ctl->store[i];
	char name[SHM_NAME_BYTES];
	struct hypercache_hot h;

	if (hypercache_hot(a, i, c->limit ? (uint32_t)c->limit : KEYS, &h, why) != 0)
		return -1;
	if (h.n == 0)
		return 0;
	double hits_s = (double)hypercache_reads_lately(a, i, 10).hits / 10;
	(void)cli_text(e->name, sizeof e->name, name, sizeof name);
	if (c->json && !j->to) { /* the first one */
		j->to = stdout;
		json_begin(j, NULL, '{');
		json_begin(j, "stores", '[');
	}
	if (c->json)
		store_json(j, &h, name, hits_s);
	else
		store_print(&h, name, hits_s);
	hypercache_hot_free(&h);
	return 1;
}

static int stores_show(const struct cli *c, struct hypercache_admin *a, const char *only)
{
	char why[HYPERCACHE_ADMIN_WHY_BYTES];
	int found = 0, shown = 0, r = 0;
	struct json j = {0};

	for (uint32_t i = 0; i < SHM_STORES_MAX && r >= 0; i++) {
		const struct shm_store_entry *e = &a->ctl->store[i];
		if (shm_load_acq(&e->id) == 0 || /* acq:entry.id */
			(only && strncmp(e->name, only, sizeof e->name) != 0))
			continue;
		found++;
		r = store_show(c, a, i, &j, why);
		shown += r > 0;
	}
	if (r < 0 && !shown)
		return cli_fail(c, CLI_FAILED, "%s", why);
	if (only && !found)
		return cli_fail(c, CLI_FAILED,
			"there is no store \"%s\": `hypercache store list` lists those that exist",
			only);
	if (!shown)
		return cli_fail(c, CLI_MISS, "nothing was read lately");
	if (c->json) {
		json_end(&j, ']');
		json_end(&j, '}');
		json_finish(&j);
	}
	return cli_end(c, r < 0 ? CLI_FAILED : CLI_DONE);
}

int cli_hot(const struct cli *c)
{
	struct hypercache_admin a;

	if (c->store_given && c->n_args)
		return cli_fail(c, CLI_USAGE, "one store: --store, or the argument");
	if (c->limit > SHM_HOT_STORE_KEYS)
		return cli_fail(
			c, CLI_USAGE, "at most %d keys of a store are known", SHM_HOT_STORE_KEYS);
	int status = cli_admin_open(c, &a);
	if (status)
		return status;
	status = stores_show(c, &a, c->n_args ? c->arg[0] : c->store_given ? c->store : NULL);
	hypercache_admin_close(&a);
	return status;
}
