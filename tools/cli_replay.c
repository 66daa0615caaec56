/* cli_replay.c - policies, replay: which policies there are, and what they would do with a trace. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "../daemon/config.h"
#include "base/cleanup.h"
#include "cli.h"
#include "hypercache.h"
#include "layout/l_base.h"
#include "replay.h"

enum {
	SIZES_MAX = 32,
	VALUE_BYTES = 64, /* where the trace has no sizes */
};

static void policy_print(const struct pol_ops *ops, bool is_default)
{
	char allowed[192], def[CONFIG_PARAM_BYTES];

	printf("%-10s %s%s\n", ops->name, ops->meaning, is_default ? "; the default" : "");
	for (uint32_t i = 0; i < ops->n_params; i++) {
		const struct pol_param *p = &ops->params[i];
		printf("%-10s   %s: %s  %s (%s)\n", "", p->name, config_param_default(p, def),
			p->meaning, config_param_allowed(p, allowed, sizeof allowed));
	}
}

static void params_json(struct json *j, const struct pol_ops *ops)
{
	char allowed[192], def[CONFIG_PARAM_BYTES];

	json_begin(j, "params", '[');
	for (uint32_t i = 0; i < ops->n_params; i++) {
		const struct pol_param *p = &ops->params[i];
		json_begin(j, NULL, '{');
		json_string(j, "name", p->name);
		json_string(j, "default", config_param_default(p, def));
		json_string(j, "accepted", config_param_allowed(p, allowed, sizeof allowed));
		json_string(j, "meaning", p->meaning);
		json_end(j, '}');
	}
	json_end(j, ']');
}

int cli_policies(const struct cli *c)
{
	struct json j = {.to = stdout};

	if (c->json)
		json_begin(&j, NULL, '[');
	for (const struct pol_ops *const *o = pol_all(); *o; o++) {
		if (!c->json) {
			policy_print(*o, o == pol_all());
			continue;
		}
		json_begin(&j, NULL, '{');
		json_string(&j, "name", (*o)->name);
		json_string(&j, "meaning", (*o)->meaning);
		json_bool(&j, "evicts", !(*o)->keeps);
		params_json(&j, *o);
		json_end(&j, '}');
	}
	if (c->json) {
		json_end(&j, ']');
		json_finish(&j);
	}
	return cli_end(c, CLI_DONE);
}

/* ------------------------------------------------------------ what is asked for */

struct plan {
	const struct cli *c;
	const struct pol_ops *policy[16];
	int n_policies;
	uint64_t size[SIZES_MAX]; /* objects, or bytes */
	int n_sizes;
};

/* The words between commas, one after the other, in `word`.  False: there is none left. */
static bool next_word(const char **at, char word[64])
{
	size_t n = strcspn(*at, ",");

	if (**at == 0)
		return false;
	(void)snprintf(word, 64, "%.*s", (int)(n < 63 ? n : 63), *at);
	*at += n + ((*at)[n] == ',');
	return true;
}

static int policies_take(struct plan *p)
{
	const char *at = p->c->simulate;
	char word[64];

	while (next_word(&at, word)) {
		const struct pol_ops *one = pol_find(word);
		bool all = strcmp(word, "all") == 0;
		if (!one && !all)
			return cli_fail(p->c, CLI_USAGE,
				"there is no policy \"%s\": see `hypercache policies`", word);
		for (const struct pol_ops *const *o = pol_all(); *o; o++) {
			if (all ? (*o)->keeps : *o != one)
				continue;
			if (p->n_policies == (int)(sizeof p->policy / sizeof *p->policy))
				return cli_fail(p->c, CLI_USAGE, "--simulate: too many policies");
			p->policy[p->n_policies++] = *o;
		}
	}
	for (int i = 0; i < p->n_policies; i++)
		if (p->policy[i]->keeps)
			return cli_fail(p->c, CLI_USAGE,
				"%s evicts nothing: there is nothing to simulate",
				p->policy[i]->name);
	return p->n_policies ? 0 : cli_fail(p->c, CLI_USAGE, "--simulate: which policies?");
}

bool cli_cache_size(const char *word, uint64_t n_objects, bool *ret_bytes, uint64_t *ret)
{
	static const struct {
		const char *unit;
		uint64_t bytes;
	} units[] = {{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}};
	char *end;

	errno = 0;
	double v = strtod(word, &end);
	if (end == word || errno || !(v > 0) || v > 1e15)
		return false;
	*ret_bytes = false;
	*ret = (uint64_t)v;
	if (strcmp(end, "%") == 0)
		*ret = (uint64_t)(v * (double)n_objects / 100);
	for (size_t i = 0; i < sizeof units / sizeof *units; i++)
		if (strcmp(end, units[i].unit) == 0) {
			*ret_bytes = true;
			*ret = (uint64_t)(v * (double)units[i].bytes);
			end += strlen(end);
		}
	return (*end == 0 || strcmp(end, "%") == 0) && *ret > 0;
}

static int sizes_take(struct plan *p, const struct replay *r, bool *ret_bytes)
{
	const char *at = p->c->sizes ? p->c->sizes : "0.1%,1%,10%";
	char word[64];

	while (next_word(&at, word)) {
		bool bytes = false;
		if (p->n_sizes == SIZES_MAX)
			return cli_fail(p->c, CLI_USAGE, "--sizes: at most %d", SIZES_MAX);
		if (!cli_cache_size(word, r->n_objects, &bytes, &p->size[p->n_sizes]))
			return cli_fail(p->c, CLI_USAGE,
				"--sizes: \"%s\" is none: objects (5000), a part of them (10%%) or "
				"memory (64MiB), not less than one object",
				word);
		if (p->n_sizes && bytes != *ret_bytes)
			return cli_fail(p->c, CLI_USAGE, "--sizes: objects or memory, not both");
		*ret_bytes = bytes;
		p->n_sizes++;
	}
	return p->n_sizes ? 0 : cli_fail(p->c, CLI_USAGE, "--sizes: which?");
}

/* ------------------------------------------------------------ simulation */

static void sim_line(const struct plan *p, struct json *j, const struct pol_ops *ops, uint64_t size,
	bool by_bytes, const struct sim_result *res)
{
	double ratio = res->requests ? (double)res->misses / (double)res->requests : 0;
	double byte_ratio = res->request_bytes
	                            ? (double)res->miss_bytes / (double)res->request_bytes
	                            : 0;
	char text[CLI_TEXT_BYTES];

	if (!p->c->json) {
		if (by_bytes)
			printf("%-10s %14s %10.4f %10.4f\n", ops->name, cli_size(size, text), ratio,
				byte_ratio);
		else
			printf("%-10s %14" PRIu64 " %10.4f\n", ops->name, size, ratio);
		return;
	}
	json_begin(j, NULL, '{');
	json_string(j, "policy", ops->name);
	json_u64(j, by_bytes ? "bytes" : "objects", size);
	json_u64(j, "requests", res->requests);
	json_u64(j, "misses", res->misses);
	json_double(j, "miss_ratio", ratio);
	if (by_bytes)
		json_double(j, "byte_miss_ratio", byte_ratio);
	json_u64(j, "policy_bytes", res->policy_bytes);
	json_end(j, '}');
}

static int simulate(const struct plan *p, const struct replay *r, bool by_bytes)
{
	struct json j = {.to = stdout};
	struct sim_result res;

	if (p->c->json)
		json_begin(&j, NULL, '[');
	else
		printf("%" PRIu64 " requests, %" PRIu64 " objects\n\n%-10s %14s %10s%s\n", r->n,
			r->n_objects, "policy", by_bytes ? "memory" : "objects", "misses",
			by_bytes ? "   of bytes" : "");
	for (int s = 0; s < p->n_sizes; s++)
		for (int i = 0; i < p->n_policies; i++) {
			uint64_t limit = by_bytes ? p->size[s] / SHM_UNIT : p->size[s];
			if (replay_simulate(r, p->policy[i], limit ? limit : 1, by_bytes, &res) < 0)
				return cli_fail(
					p->c, CLI_FAILED, "no memory for a cache of this size");
			sim_line(p, &j, p->policy[i], p->size[s], by_bytes, &res);
		}
	if (p->c->json) {
		json_end(&j, ']');
		json_finish(&j);
	}
	return cli_end(p->c, CLI_DONE);
}

/* ------------------------------------------------------------ live */

static void live_print(const struct cli *c, const struct replay *r, const struct replay_live *l)
{
	double ratio = l->requests ? (double)l->misses / (double)l->requests : 0;
	double hit_ns = l->hits ? (double)l->hit_ns / (double)l->hits : 0;
	double miss_ns = l->misses ? (double)l->miss_ns / (double)l->misses : 0;
	struct json j = {.to = stdout};

	if (!c->json) {
		printf("%" PRIu64 " requests, %" PRIu64 " objects, %u processes, store %s\n\n",
			l->requests, r->n_objects, c->processes, c->store);
		printf("misses       %.4f\n", ratio);
		printf("a hit        %.0f ns\n", hit_ns);
		printf("a miss       %.0f ns, with the set behind it\n", miss_ns);
		printf("requests     %.0f a second\n",
			(double)l->requests * 1e9 / (double)l->elapsed_ns);
		printf("not taken    %" PRIu64 " values, for want of room or as too large\n",
			l->refused);
		return;
	}
	json_begin(&j, NULL, '{');
	json_string(&j, "store", c->store);
	json_u64(&j, "processes", c->processes);
	json_u64(&j, "requests", l->requests);
	json_u64(&j, "misses", l->misses);
	json_double(&j, "miss_ratio", ratio);
	json_double(&j, "hit_ns", hit_ns);
	json_double(&j, "miss_ns", miss_ns);
	json_u64(&j, "refused", l->refused);
	json_u64(&j, "elapsed_ns", l->elapsed_ns);
	json_end(&j, '}');
	json_finish(&j);
}

static int live(const struct cli *c, const struct replay *r)
{
	struct replay_live_opts o = {.socket = c->socket,
		.store = c->store,
		.timeout_ms = c->timeout_ms,
		.n_processes = c->processes,
		.value_bytes = VALUE_BYTES};
	struct replay_live l;
	int e = replay_live(r, &o, &l);

	if (e < 0)
		return cli_fail(c, CLI_FAILED, "the processes cannot be started: %s", strerror(-e));
	if (l.error)
		return cli_hc_fail(c, "replay", l.error);
	live_print(c, r, &l);
	return cli_end(c, CLI_DONE);
}

int cli_replay(const struct cli *c)
{
	_cleanup_(replay_free) struct replay r = {0};
	struct plan p = {.c = c};
	char why[TRACE_WHY_BYTES];
	bool by_bytes = false;

	if (c->processes < 1 || c->processes > REPLAY_PROCESSES_MAX)
		return cli_fail(c, CLI_USAGE, "--processes: 1 to %d", REPLAY_PROCESSES_MAX);
	if (!c->simulate && c->sizes)
		return cli_fail(c, CLI_USAGE, "--sizes goes with --simulate");
	if (c->simulate) {
		int status = policies_take(&p);
		if (status)
			return status;
	}
	if (replay_read(&r, c->arg[0], why) < 0)
		return cli_fail(c, CLI_FAILED, "%s", why);
	if (!c->simulate)
		return live(c, &r);
	int status = sizes_take(&p, &r, &by_bytes);
	return status ? status : simulate(&p, &r, by_bytes);
}
