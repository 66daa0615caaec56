/* config_source.c - the file and the options, read again as often as somebody asks. */
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include "config_source.h"
#include "../shm/base/err.h"

/* -- walking -- */

static const void *owner_of(
	const struct config *c, enum config_scope scope, uint32_t i, const char **ret_name)
{
	*ret_name = scope == CONFIG_POOL    ? c->pool[i].name
	            : scope == CONFIG_STORE ? c->store[i].name
	                                    : "";
	return scope == CONFIG_POOL    ? (const void *)&c->pool[i]
	       : scope == CONFIG_STORE ? (const void *)&c->store[i]
	                               : (const void *)c;
}

static uint32_t owners_of(const struct config *c, enum config_scope scope)
{
	return scope == CONFIG_POOL ? c->n_pools : scope == CONFIG_STORE ? c->n_stores : 1;
}

static uint32_t owner_index(enum config_scope scope, uint32_t i)
{
	return scope == CONFIG_POOL ? 1 + i : scope == CONFIG_STORE ? 1 + CONFIG_POOLS_MAX + i : 0;
}

void config_each(const struct config *c, config_item_fn *each, void *arg)
{
	for (int scope = CONFIG_ROOT; scope <= CONFIG_STORE; scope++) {
		for (uint32_t i = 0; i < owners_of(c, scope); i++) {
			struct config_item item = {.owner = owner_index(scope, i)};
			const char *obj = owner_of(c, scope, i, &item.name);
			for (item.key = config_keys; item.key < config_keys + CONFIG_N_KEYS;
				item.key++) {
				if (item.key->scope != (enum config_scope)scope)
					continue;
				item.field = obj + item.key->offset;
				each(arg, &item);
			}
		}
	}
}

const char *config_path(enum config_scope scope, const char *name, const struct config_key *key,
	char to[CONFIG_PATH_BYTES])
{
	(void)snprintf(to, CONFIG_PATH_BYTES, "%s%s%s%s",
		scope == CONFIG_POOL    ? "pools."
		: scope == CONFIG_STORE ? "stores."
					: "",
		name, key && *name ? "." : "", key ? key->name : "");
	return to;
}

/* -- --set -- */

__attribute__((format(printf, 4, 5))) static int fail(
	char *ret_err, size_t err_bytes, const char *path, const char *fmt, ...)
{
	char text[CONFIG_WHY_BYTES + 128], q[CONFIG_QUOTE_BYTES];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	(void)snprintf(ret_err, err_bytes, "%s: %s", config_quote(path, strlen(path), q), text);
	return err_new(-EINVAL);
}

/* What the text left of the equals sign names. */
struct target {
	enum config_scope scope;
	char name[CONFIG_PATH_BYTES]; /* of the pool or store */
	const char *key;
};

static int target_parse(char path[CONFIG_PATH_BYTES], struct target *ret)
{
	static const struct {
		const char *prefix;
		enum config_scope scope;
	} sections[] = {{"pools.", CONFIG_POOL}, {"stores.", CONFIG_STORE}};

	*ret = (struct target){.scope = CONFIG_ROOT, .key = path};
	for (size_t i = 0; i < sizeof sections / sizeof *sections; i++) {
		size_t n = strlen(sections[i].prefix);
		char *dot = strrchr(path, '.');
		if (strncmp(path, sections[i].prefix, n) != 0)
			continue;
		if (dot < path + n)
			return 1; /* pools.NAME without a key */
		ret->scope = sections[i].scope;
		ret->key = dot + 1;
		(void)snprintf(
			ret->name, sizeof ret->name, "%.*s", (int)(dot - path - (int)n), path + n);
	}
	return 0;
}

static const struct config_key *key_find(const struct target *t)
{
	for (const struct config_key *k = config_keys; k < config_keys + CONFIG_N_KEYS; k++)
		if (k->scope == t->scope && strcmp(k->name, t->key) == 0)
			return k;
	return NULL;
}

static int fail_unknown(char *ret_err, size_t err_bytes, const char *path, const struct target *t)
{
	const char *names[CONFIG_N_KEYS];
	size_t n = 0;

	for (int i = 0; i < CONFIG_N_KEYS; i++)
		if (config_keys[i].scope == t->scope)
			names[n++] = config_keys[i].name;
	const char *meant = config_nearest(t->key, strlen(t->key), names, n, 3);
	if (meant)
		return fail(ret_err, err_bytes, path, "unknown key; did you mean %s?", meant);
	return fail(ret_err, err_bytes, path,
		"unknown key; use one of `hypercached --help-config`, as log_level, "
		"pools.NAME.size or stores.NAME.ttl");
}

/* The index of that pool or store, or how many there are. */
static uint32_t owner_find(const struct config *c, enum config_scope scope, const char *name)
{
	uint32_t i = 0, n = owners_of(c, scope);
	const char *has;

	while (i < n && (owner_of(c, scope, i, &has), strcmp(has, name) != 0))
		i++;
	return i;
}

int config_set(struct config *c, struct config_places *places, const char *assignment,
	char *ret_err, size_t err_bytes)
{
	char path[CONFIG_PATH_BYTES], why[CONFIG_WHY_BYTES];
	const char *equals = strchr(assignment, '='), *ignored;
	struct target t;

	if (!equals || equals == assignment || equals - assignment >= (ptrdiff_t)sizeof path)
		return fail(ret_err, err_bytes, assignment,
			"this is no KEY=VALUE; use one as log_level=debug or pools.main.size=1GiB");
	(void)snprintf(path, sizeof path, "%.*s", (int)(equals - assignment), assignment);
	if (target_parse(path, &t))
		return fail(ret_err, err_bytes, path, "the key is missing; use %s.KEY", path);
	const struct config_key *k = key_find(&t);
	if (!k)
		return err_fwd(fail_unknown(ret_err, err_bytes, path, &t));
	uint32_t i = owner_find(c, t.scope, t.name);
	if (i == owners_of(c, t.scope))
		return fail(ret_err, err_bytes, path, "there is no %s %s; name it in the file",
			t.scope == CONFIG_POOL ? "pool" : "store", t.name);
	char *field = (char *)(uintptr_t)owner_of(c, t.scope, i, &ignored) + k->offset;
	if (config_value_parse(k, equals + 1, strlen(equals + 1), field, why) < 0)
		return fail(ret_err, err_bytes, path, "%s", why);
	if (places)
		places->key[owner_index(t.scope, i)][k - config_keys] = (struct config_place){
			.from = CONFIG_FROM_OPTION};
	return 0;
}

int config_read(struct config *c, struct config_places *ret_places,
	const struct config_source *from, char *ret_err, size_t err_bytes)
{
	struct config full;
	struct config_places places = {0};
	int r = 0;

	config_defaults(&full);
	if (from->bytes)
		r = config_parse_places(
			&full, &places, from->file, from->bytes, from->n_bytes, ret_err, err_bytes);
	else if (from->file)
		r = config_load_places(&full, &places, from->file, ret_err, err_bytes);
	for (uint32_t i = 0; i < from->n_set && r == 0; i++) {
		char why[CONFIG_ERROR_BYTES];
		r = config_set(&full, &places, from->set[i], why, sizeof why);
		if (r < 0)
			(void)snprintf(ret_err, err_bytes, "--set %s", why);
	}
	if (r == 0)
		r = config_resolve(&full, ret_err, err_bytes);
	if (r == 0)
		r = config_modules_try(&full, ret_err, err_bytes);
	if (r < 0)
		return err_fwd(r);
	memcpy(c, &full, sizeof full);
	if (ret_places)
		*ret_places = places;
	return 0;
}

/* -- differences -- */

struct diff {
	config_change_fn *each;
	void *arg;
	uint32_t n;
};

static void diff_say(struct diff *d, const struct config_change *change)
{
	d->n++;
	if (d->each)
		d->each(d->arg, change);
}

static void diff_keys(
	struct diff *d, enum config_scope scope, const char *name, const void *was, const void *is)
{
	for (const struct config_key *k = config_keys; k < config_keys + CONFIG_N_KEYS; k++) {
		const char *a = (const char *)was + k->offset, *b = (const char *)is + k->offset;
		if (k->scope != scope || memcmp(a, b, k->bytes) == 0)
			continue;
		diff_say(d, &(struct config_change){.what = CONFIG_CHANGED,
				    .scope = scope,
				    .key = k,
				    .name = name,
				    .was = a,
				    .is = b,
				    .live = k->live});
	}
}

static void diff_owners(
	struct diff *d, enum config_scope scope, const struct config *was, const struct config *is)
{
	const bool goes = scope == CONFIG_STORE; /* a pool comes while the daemon runs, and stays */
	const char *name;

	for (uint32_t i = 0; i < owners_of(was, scope); i++) {
		const void *a = owner_of(was, scope, i, &name), *b = NULL;
		uint32_t j = owner_find(is, scope, name);
		const char *ignored;
		if (j < owners_of(is, scope))
			b = owner_of(is, scope, j, &ignored);
		if (b)
			diff_keys(d, scope, name, a, b);
		else if (scope != CONFIG_STORE || !was->store[i].by_admin)
			diff_say(d, &(struct config_change){.what = CONFIG_REMOVED,
					    .scope = scope,
					    .name = name,
					    .live = goes});
	}
	for (uint32_t j = 0; j < owners_of(is, scope); j++) {
		(void)owner_of(is, scope, j, &name);
		if (owner_find(was, scope, name) == owners_of(was, scope))
			diff_say(d, &(struct config_change){.what = CONFIG_ADDED,
					    .scope = scope,
					    .name = name,
					    .live = true});
	}
}

uint32_t config_diff(
	const struct config *was, const struct config *is, config_change_fn *each, void *arg)
{
	struct diff d = {.each = each, .arg = arg};

	diff_keys(&d, CONFIG_ROOT, "", was, is);
	diff_owners(&d, CONFIG_POOL, was, is);
	diff_owners(&d, CONFIG_STORE, was, is);
	return d.n;
}

/* -- merging -- */

static void live_copy(enum config_scope scope, void *to, const void *from)
{
	for (const struct config_key *k = config_keys; k < config_keys + CONFIG_N_KEYS; k++)
		if (k->scope == scope && k->live)
			memcpy((char *)to + k->offset, (const char *)from + k->offset, k->bytes);
}

uint32_t config_merged_stores(const struct config *running, const struct config *is)
{
	uint32_t n = is->n_stores;

	for (uint32_t i = 0; i < running->n_stores; i++)
		n += running->store[i].by_admin &&
		     owner_find(is, CONFIG_STORE, running->store[i].name) == is->n_stores;
	return n;
}

/* The running stores that stay, then the new ones. */
static void stores_merge(struct config *running, const struct config *is)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < running->n_stores; i++) {
		struct config_store s = running->store[i];
		uint32_t j = owner_find(is, CONFIG_STORE, s.name);
		if (j < is->n_stores) {
			live_copy(CONFIG_STORE, &s, &is->store[j]);
			s.by_admin = false;
		} else if (!s.by_admin) {
			continue;
		} else if (s.max_value_bytes > running->pool[s.pool_idx].max_value_bytes) {
			s.max_value_bytes = running->pool[s.pool_idx].max_value_bytes;
		}
		running->store[n++] = s;
	}
	running->n_stores = n;
	for (uint32_t j = 0; j < is->n_stores; j++) {
		if (owner_find(running, CONFIG_STORE, is->store[j].name) < running->n_stores)
			continue;
		struct config_store *s = &running->store[running->n_stores++];
		*s = is->store[j];
		s->pool_idx = owner_find(running, CONFIG_POOL, s->pool);
	}
	memset(running->store + running->n_stores, 0,
		(CONFIG_STORES_MAX - running->n_stores) * sizeof *running->store);
}

void config_merge(struct config *running, const struct config *is)
{
	live_copy(CONFIG_ROOT, running, is);
	for (uint32_t i = 0; i < running->n_pools; i++) {
		uint32_t j = owner_find(is, CONFIG_POOL, running->pool[i].name);
		live_copy(CONFIG_POOL, &running->pool[i], &is->pool[j]);
		running->pool[i].limbo_cap_bytes = is->pool[j].limbo_cap_bytes;
	}
	for (uint32_t j = 0; j < is->n_pools; j++)
		if (owner_find(running, CONFIG_POOL, is->pool[j].name) == running->n_pools)
			running->pool[running->n_pools++] = is->pool[j];
	stores_merge(running, is);
}
