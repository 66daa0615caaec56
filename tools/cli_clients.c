/* cli_clients.c - who is connected, from the sessions' own segments.
 *
 * Who a client is (process, user) the kernel told the daemon; how it calls itself and what it counts
 * is its own word, made printable and clipped. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "../daemon/sup_host.h"
#include "atomic.h"
#include "base/cleanup.h"
#include "cli.h"
#include "hypercache_admin.h"

static const char *fence_name(const struct hypercache_admin_session *s)
{
	switch (shm_load32_rlx(&s->seg->fence)) {
	case SHM_FENCE_NONE:
		return "none";
	case SHM_FENCE_COMPILER:
		return "compiler";
	case SHM_FENCE_FULL:
		return "full";
	default:
		return "?";
	}
}

static uint64_t age_ns(const struct hypercache_admin_session *s)
{
	uint64_t now = sup_host_real_ns(), opened = s->seg->opened_ns;

	return now > opened ? now - opened : 0;
}

/* How long the oldest of its views has been seen to be held; 0: it holds none, or no tick has seen it. */
static uint64_t held_ns(const struct hypercache_admin_session *s, uint32_t views)
{
	uint64_t now = sup_host_real_ns(), since = shm_load_rlx(&s->seg->held_since_ns);

	return views && since && now > since ? now - since : 0;
}

/* Reads of all stores, and how many of them were hits. */
static struct hypercache_reads reads(const struct hypercache_admin_session *s)
{
	struct hypercache_reads sum = {0};

	for (uint32_t i = 0; i < SHM_BLOCK_STORES; i++) {
		struct hypercache_reads r = hypercache_admin_reads(s, i);
		sum.hits += r.hits;
		sum.misses += r.misses;
		sum.hit_bytes += r.hit_bytes;
	}
	return sum;
}

/* What it has read of store i.  False: nothing, or there is none. */
static bool reads_of(const struct hypercache_admin *a, const struct hypercache_admin_session *s,
	uint32_t i, char name[SHM_NAME_BYTES], struct hypercache_reads *ret)
{
	const struct shm_store_entry *e = &a->ctl->store[i];

	if (shm_load_acq(&e->id) == 0) /* acq:entry.id */
		return false;
	*ret = hypercache_admin_reads(s, i);
	(void)cli_text(e->name, sizeof e->name, name, SHM_NAME_BYTES);
	return ret->hits + ret->misses > 0;
}

/* What it may, as "all", or each pool of which it has a right as NAME:rw or NAME:r. */
static const char *rights_text(const struct hypercache_admin *a,
	const struct hypercache_admin_session *s, char to[CLI_TEXT_BYTES * 4])
{
	size_t at = 0;
	bool all = true;

	to[0] = 0;
	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++) {
		const struct shm_pool_entry *e = &a->ctl->pool[i];
		char name[SHM_NAME_BYTES];
		if (shm_load_acq(&e->id) == 0) /* acq:entry.id */
			continue;
		bool read = s->read_pools >> i & 1, write = s->write_pools >> i & 1;
		all = all && write;
		if (read && at < CLI_TEXT_BYTES * 4)
			at += (size_t)snprintf(to + at, CLI_TEXT_BYTES * 4 - at, "%s%s:%s",
				at ? "," : "", cli_text(e->name, sizeof e->name, name, sizeof name),
				write ? "rw" : "r");
	}
	return all ? "all" : to;
}

static void session_print(
	const struct hypercache_admin *a, const struct hypercache_admin_session *s)
{
	char name[sizeof s->seg->name], age[CLI_TEXT_BYTES], held[CLI_TEXT_BYTES],
		since[CLI_TEXT_BYTES], rights[CLI_TEXT_BYTES * 4], read[CLI_TEXT_BYTES];
	uint32_t pins, views;
	struct hypercache_reads r = reads(s);

	hypercache_admin_pins(a, s, &pins, &views);
	printf("%4u %016" PRIx64 " %8d %6u %-9s %14" PRIu64 " %14" PRIu64
	       " %10s %5u %5u %10s %12s %12s  %-8s  %s\n",
		s->slot, s->id, s->pid, s->uid, fence_name(s), r.hits + r.misses, r.hits,
		cli_size(r.hit_bytes, read), pins, views,
		cli_size(hypercache_admin_held(a, s), held),
		held_ns(s, views) ? cli_time(held_ns(s, views), since) : "-",
		cli_time(age_ns(s), age), rights_text(a, s, rights),
		cli_text(s->seg->name, sizeof s->seg->name, name, sizeof name));
}

/* A line for each store that it has read. */
static void stores_print(const struct hypercache_admin *a, const struct hypercache_admin_session *s)
{
	char name[SHM_NAME_BYTES], read[CLI_TEXT_BYTES];
	struct hypercache_reads r;

	for (uint32_t i = 0; i < SHM_STORES_MAX; i++)
		if (reads_of(a, s, i, name, &r))
			printf("     of store %-32s %14" PRIu64 " %14" PRIu64 " %10s\n", name,
				r.hits + r.misses, r.hits, cli_size(r.hit_bytes, read));
}

static void stores_json(
	const struct hypercache_admin *a, const struct hypercache_admin_session *s, struct json *j)
{
	char name[SHM_NAME_BYTES];
	struct hypercache_reads r;

	json_begin(j, "stores", '[');
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
		if (!reads_of(a, s, i, name, &r))
			continue;
		json_begin(j, NULL, '{');
		json_string(j, "name", name);
		json_u64(j, "hits", r.hits);
		json_u64(j, "misses", r.misses);
		json_u64(j, "hit_bytes", r.hit_bytes);
		json_end(j, '}');
	}
	json_end(j, ']');
}

static void session_json(
	const struct hypercache_admin *a, const struct hypercache_admin_session *s, struct json *j)
{
	char name[sizeof s->seg->name], rights[CLI_TEXT_BYTES * 4];
	uint32_t pins, views;
	struct hypercache_reads r = reads(s);

	hypercache_admin_pins(a, s, &pins, &views);
	json_begin(j, NULL, '{');
	json_u64(j, "slot", s->slot);
	json_hex(j, "session", s->id);
	json_i64(j, "pid", s->pid);
	json_u64(j, "uid", s->uid);
	json_u64(j, "gid", s->gid);
	json_string(j, "name", cli_text(s->seg->name, sizeof s->seg->name, name, sizeof name));
	json_string(j, "rights", rights_text(a, s, rights));
	json_string(j, "fence", fence_name(s));
	json_double(j, "age_s", (double)age_ns(s) / 1e9);
	json_u64(j, "reads", r.hits + r.misses);
	json_u64(j, "hits", r.hits);
	json_u64(j, "hit_bytes", r.hit_bytes);
	json_u64(j, "pins", pins);
	json_u64(j, "views", views);
	json_u64(j, "held_bytes", hypercache_admin_held(a, s));
	json_double(j, "held_for_s", (double)held_ns(s, views) / 1e9);
	stores_json(a, s, j);
	json_begin(j, "counters", '{');
	for (int i = 0; i < SHM_DESCS_MAX && a->ctl->desc[i].scope; i++) {
		const struct shm_counter_desc *d = &a->ctl->desc[i];
		char counter[sizeof d->name];
		if (d->scope == SHM_SCOPE_BLOCK && d->index < SHM_BC_N)
			json_u64(j, cli_text(d->name, sizeof d->name, counter, sizeof counter),
				hypercache_admin_count(s, d->index));
	}
	json_end(j, '}');
	json_end(j, '}');
}

int cli_clients(const struct cli *c)
{
	char why[HYPERCACHE_ADMIN_WHY_BYTES];
	struct json j = {.to = stdout};
	struct hypercache_admin a;
	int status = cli_admin_open(c, &a);

	if (status)
		return status;
	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++)  /* one that cannot be mapped is not counted */
		if (shm_load_acq(&a.ctl->pool[i].id)) /* acq:entry.id */
			(void)hypercache_admin_pool_map(&a, i, why);
	if (c->json) {
		json_begin(&j, NULL, '{');
		json_begin(&j, "clients", '[');
		for (uint32_t i = 0; i < a.n_sessions; i++)
			session_json(&a, &a.session[i], &j);
		json_end(&j, ']');
		json_end(&j, '}');
		json_finish(&j);
	} else {
		printf("%4s %-16s %8s %6s %-9s %14s %14s %10s %5s %5s %10s %12s %12s  %-8s  %s\n",
			"slot", "session", "process", "user", "fence", "reads", "hits", "read",
			"pins", "views", "holds", "held for", "open for", "rights", "name");
		for (uint32_t i = 0; i < a.n_sessions; i++) {
			session_print(&a, &a.session[i]);
			if (c->verbose)
				stores_print(&a, &a.session[i]);
		}
	}
	hypercache_admin_close(&a);
	return cli_end(c, CLI_DONE);
}

int cli_client(const struct cli *c)
{
	struct admin_request rq = {.ask = ADMIN_CLIENT_REVOKE};
	_cleanup_free_ char *lines = NULL;
	char *end;

	if (strcmp(c->arg[0], "revoke") != 0)
		return cli_fail(c, CLI_USAGE, "it is `hypercache client revoke SESSION`");
	if (strtoull(c->arg[1], &end, 16) == 0 || *end || strlen(c->arg[1]) > 16)
		return cli_fail(c, CLI_USAGE,
			"\"%s\" is no session: 16 hexadecimal digits, as `hypercache clients` "
			"shows",
			c->arg[1]);
	(void)snprintf(rq.text, sizeof rq.text, "%s", c->arg[1]);
	int status = cli_ask(c, &rq, -1, &lines);
	if (status)
		return status;
	cli_changes_print(c, lines);
	return cli_end(c, CLI_DONE);
}
