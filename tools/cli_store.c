/* cli_store.c - store list, create, drop, clear; pool list. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "../daemon/config.h"
#include "atomic.h"
#include "base/cleanup.h"
#include "cli.h"
#include "hypercache_admin.h"

static bool store_used(const struct hypercache_admin *a, uint32_t i)
{
	return shm_load_acq(&a->ctl->store[i].id) != 0; /* acq:entry.id */
}

static const char *type_name(uint32_t type)
{
#define TYPE_(constant, word) [constant] = word,
	static const char *const words[] = {CONFIG_CHOICES_type(TYPE_)};
	return type < sizeof words / sizeof *words ? words[type] : "?";
}

static const char *pool_name(
	const struct hypercache_admin *a, uint32_t idx, char to[SHM_NAME_BYTES])
{
	if (idx >= SHM_POOLS_MAX)
		return "?";
	return cli_text(a->ctl->pool[idx].name, SHM_NAME_BYTES, to, SHM_NAME_BYTES);
}

static void list_line(const struct hypercache_admin *a, uint32_t i)
{
	const struct shm_store_entry *e = &a->ctl->store[i];
	char name[SHM_NAME_BYTES], pool[SHM_NAME_BYTES], policy[SHM_NAME_BYTES];
	char ttl[CLI_TEXT_BYTES] = "-", size[CLI_TEXT_BYTES];
	uint64_t ttl_ns = shm_load_rlx(&e->default_ttl_ns);

	if (ttl_ns)
		(void)cli_time(ttl_ns, ttl);
	printf("%-16s %-10s %-8s %-10s %-12s %12" PRIu64 " %11s\n",
		cli_text(e->name, sizeof e->name, name, sizeof name),
		pool_name(a, e->pool_idx, pool), type_name(e->type),
		cli_text(e->policy, sizeof e->policy, policy, sizeof policy), ttl,
		shm_load_rlx(&e->counter[SHM_SC_entries]),
		cli_size(shm_load_rlx(&e->counter[SHM_SC_live_bytes]), size));
}

static void list_json(const struct hypercache_admin *a, struct json *j, uint32_t i)
{
	const struct shm_store_entry *e = &a->ctl->store[i];
	char name[SHM_NAME_BYTES], pool[SHM_NAME_BYTES], policy[SHM_NAME_BYTES];

	json_begin(j, NULL, '{');
	json_string(j, "name", cli_text(e->name, sizeof e->name, name, sizeof name));
	json_u64(j, "id", shm_load_rlx(&e->id));
	json_string(j, "pool", pool_name(a, e->pool_idx, pool));
	json_string(j, "type", type_name(e->type));
	json_string(j, "policy", cli_text(e->policy, sizeof e->policy, policy, sizeof policy));
	json_u64(j, "ttl_ms", shm_load_rlx(&e->default_ttl_ns) / 1000000);
	json_u64(j, "entries", shm_load_rlx(&e->counter[SHM_SC_entries]));
	json_u64(j, "bytes", shm_load_rlx(&e->counter[SHM_SC_live_bytes]));
	json_end(j, '}');
}

static int list(const struct cli *c)
{
	struct json j = {.to = stdout};
	struct hypercache_admin a;
	int status = cli_admin_open(c, &a);

	if (status)
		return status;
	if (c->json)
		json_begin(&j, NULL, '[');
	else
		printf("%-16s %-10s %-8s %-10s %-12s %12s %11s\n", "store", "pool", "type",
			"policy", "ttl", "entries", "bytes");
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
		if (!store_used(&a, i))
			continue;
		if (c->json)
			list_json(&a, &j, i);
		else
			list_line(&a, i);
	}
	if (c->json) {
		json_end(&j, ']');
		json_finish(&j);
	}
	hypercache_admin_close(&a);
	return cli_end(c, CLI_DONE);
}

/* The name and KEY=VALUE words of the command line, into the request.  False: too long. */
static bool words_take(const struct cli *c, struct admin_request *rq)
{
	size_t at = 0;

	if (strlen(c->arg[1]) >= sizeof rq->name)
		return false;
	(void)snprintf(rq->name, sizeof rq->name, "%s", c->arg[1]);
	for (int i = 2; i < c->n_args && at < sizeof rq->text; i++)
		at += (size_t)snprintf(rq->text + at, sizeof rq->text - at, "%s\n", c->arg[i]);
	return at < sizeof rq->text;
}

static int change(const struct cli *c, enum admin_ask ask)
{
	struct admin_request rq = {.ask = ask, .flags = c->force ? ADMIN_FORCE : 0};
	_cleanup_free_ char *lines = NULL;

	if (!words_take(c, &rq))
		return cli_fail(
			c, CLI_USAGE, "the name has at most 31 bytes, the keys together 1023");
	int status = cli_ask(c, &rq, -1, &lines);
	if (status)
		return status;
	cli_changes_print(c, lines);
	return cli_end(c, CLI_DONE);
}

/* As `clear --store NAME`: a request of a client, not of an administrator. */
static int clear(const struct cli *c)
{
	struct cli of = *c;

	of.store = c->arg[1];
	of.store_given = true;
	return cli_clear(&of);
}

int cli_store(const struct cli *c)
{
	if (strcmp(c->arg[0], "list") == 0 && c->n_args == 1)
		return list(c);
	if (strcmp(c->arg[0], "create") == 0 && c->n_args >= 2)
		return change(c, ADMIN_STORE_CREATE);
	if (strcmp(c->arg[0], "drop") == 0 && c->n_args == 2)
		return change(c, ADMIN_STORE_DROP);
	if (strcmp(c->arg[0], "clear") == 0 && c->n_args == 2)
		return clear(c);
	return cli_fail(c, CLI_USAGE,
		"it is `hypercache store list`, `store create NAME [KEY=VALUE]...`, "
		"`store drop NAME` or `store clear NAME`");
}

/* --------------------------------------------------------------------- pools */

static void pool_line(const struct hypercache_admin *a, uint32_t i)
{
	const struct shm_pool_entry *e = &a->ctl->pool[i];
	char name[SHM_NAME_BYTES], size[CLI_TEXT_BYTES], live[CLI_TEXT_BYTES];
	char free_text[CLI_TEXT_BYTES];

	printf("%-16s %11s %11s %11s %12" PRIu64 "  read: %s, write: %s\n",
		cli_text(e->name, sizeof e->name, name, sizeof name),
		cli_size(shm_load_rlx(&e->counter[SHM_PC_limit_bytes]), size),
		cli_size(shm_load_rlx(&e->counter[SHM_PC_live_bytes]), live),
		cli_size(shm_load_rlx(&e->counter[SHM_PC_free_bytes]), free_text),
		shm_load_rlx(&e->counter[SHM_PC_entries]), a->pool[i].read, a->pool[i].write);
}

static void pool_json(const struct hypercache_admin *a, struct json *j, uint32_t i)
{
	const struct shm_pool_entry *e = &a->ctl->pool[i];
	char name[SHM_NAME_BYTES];

	json_begin(j, NULL, '{');
	json_string(j, "name", cli_text(e->name, sizeof e->name, name, sizeof name));
	json_u64(j, "id", shm_load_rlx(&e->id));
	json_u64(j, "limit_bytes", shm_load_rlx(&e->counter[SHM_PC_limit_bytes]));
	json_u64(j, "live_bytes", shm_load_rlx(&e->counter[SHM_PC_live_bytes]));
	json_u64(j, "free_bytes", shm_load_rlx(&e->counter[SHM_PC_free_bytes]));
	json_u64(j, "entries", shm_load_rlx(&e->counter[SHM_PC_entries]));
	json_string(j, "read", a->pool[i].read);
	json_string(j, "write", a->pool[i].write);
	json_end(j, '}');
}

int cli_pool(const struct cli *c)
{
	struct json j = {.to = stdout};
	struct hypercache_admin a;

	if (strcmp(c->arg[0], "list") != 0)
		return cli_fail(c, CLI_USAGE, "it is `hypercache pool list`");
	int status = cli_admin_open(c, &a);
	if (status)
		return status;
	if (c->json)
		json_begin(&j, NULL, '[');
	else
		printf("%-16s %11s %11s %11s %12s\n", "pool", "limit", "live", "free", "entries");
	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++) {
		if (shm_load_acq(&a.ctl->pool[i].id) == 0) /* acq:entry.id */
			continue;
		if (c->json)
			pool_json(&a, &j, i);
		else
			pool_line(&a, i);
	}
	if (c->json) {
		json_end(&j, ']');
		json_finish(&j);
	}
	hypercache_admin_close(&a);
	return cli_end(c, CLI_DONE);
}
