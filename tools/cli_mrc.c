/* cli_mrc.c - mrc: what part of its reads a store would hit with less memory, and with more.
 *
 * Live, the engine keeps the curve (daemon/eng_curve.c) and the control segment has it; of a trace it is made here,
 * by the same code.
 */
#include <errno.h>
#include <inttypes.h>
#include <langinfo.h>
#include <locale.h>
#include <math.h>
#include <string.h>
#include "../daemon/pol_auto.h"
#include "../daemon/pol_curve.h"
#include "atomic.h"
#include "base/cleanup.h"
#include "cli.h"
#include "hypercache_admin.h"
#include "layout/l_base.h"
#include "replay.h"
#include "stat.h"

enum {
	TRACE_KEYS = 1 << 16, /* in the sample of a trace */
	ITEM_BYTES = 80,      /* a header and a short key, as in sim.c */
	BAR_CELLS = 36,
};

_Static_assert(SHM_CURVE_SIZES == POL_CURVE_SIZES, "one column each");

/* A curve, wherever it comes from. */
struct curve {
	char name[SHM_NAME_BYTES * 4], policy[SHM_NAME_BYTES];
	const char *simulated;
	bool by_entries;
	uint64_t memory; /* bytes, or entries: what share 1 is */
	uint64_t reads, told, keys, own_bytes;
	double measured; /* part of hits; negative: unknown */
	double hits[POL_CURVE_SIZES], error;
	uint32_t rate;
};

static const char *const share_names[POL_CURVE_SIZES] = {
	"1/4", "3/8", "1/2", "3/4", "1", "3/2", "2", "3", "4"};

/* ------------------------------------------------------------ printing */

static bool is_utf8(void)
{
	(void)setlocale(LC_CTYPE, "");
	return strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}

/* A bar of `part` (0..1) of BAR_CELLS, in eighths where the terminal has them. */
static void bar_print(double part, bool utf8)
{
	static const char *const eighths[] = {
		"", "\u258f", "\u258e", "\u258d", "\u258c", "\u258b", "\u258a", "\u2589"};
	int n = (int)(part * BAR_CELLS * 8 + 0.5);

	for (int i = 0; i < n / 8; i++)
		fputs(utf8 ? "\u2588" : "#", stdout);
	if (utf8)
		fputs(eighths[n % 8], stdout);
	else if (n % 8 >= 4)
		putchar('#');
	putchar('\n');
}

static const char *memory_text(const struct curve *c, double share, char to[CLI_TEXT_BYTES])
{
	uint64_t memory = (uint64_t)((double)c->memory * share);

	if (!c->by_entries)
		return cli_size(memory, to);
	(void)snprintf(to, CLI_TEXT_BYTES, "%" PRIu64, memory);
	return to;
}

static void curve_print(const struct curve *c)
{
	char text[CLI_TEXT_BYTES];
	double low = floor(c->hits[0] * 10) / 10,
	       high = ceil(c->hits[POL_CURVE_SIZES - 1] * 10) / 10;
	bool utf8 = is_utf8();

	for (int i = 0; i < POL_CURVE_SIZES; i++) { /* policies are not always monotonic */
		low = c->hits[i] < low ? floor(c->hits[i] * 10) / 10 : low;
		high = c->hits[i] > high ? ceil(c->hits[i] * 10) / 10 : high;
	}
	high = high > low ? high : low + 0.1;
	printf("%s, policy %s%s%s: %" PRIu64 " reads", c->name, c->policy,
		strcmp(c->policy, c->simulated) ? ", now " : "",
		strcmp(c->policy, c->simulated) ? c->simulated : "", c->reads);
	if (c->measured >= 0)
		printf(", measured %.1f %% hits", 100 * c->measured);
	printf("\nsample: %" PRIu64 " keys, 1 of %u; error %s%.1f points\n\n", c->keys,
		POL_SHADOW_RATE_ONE / c->rate, utf8 ? "\u00b1" : "+-", 100 * c->error);
	printf("%14s  %5s  %8s  %-3.0f%%%*.0f %%\n", c->by_entries ? "entries" : "memory", "times",
		"hits", 100 * low, BAR_CELLS - 6, 100 * high);
	for (int i = 0; i < POL_CURVE_SIZES; i++) {
		printf("%14s  %5s  %6.1f %%  ", memory_text(c, pol_curve_share[i], text),
			share_names[i], 100 * c->hits[i]);
		bar_print((c->hits[i] - low) / (high - low), utf8);
	}
}

static void curve_json(const struct curve *c)
{
	struct json j = {.to = stdout};

	json_begin(&j, NULL, '{');
	json_string(&j, "name", c->name);
	json_string(&j, "policy", c->policy);
	json_string(&j, "simulated", c->simulated);
	json_u64(&j, "reads", c->reads);
	json_u64(&j, "hits_told", c->told);
	if (c->measured >= 0)
		json_double(&j, "measured_hit_ratio", c->measured);
	json_u64(&j, "sampled_keys", c->keys);
	json_double(&j, "rate", (double)c->rate / POL_SHADOW_RATE_ONE);
	json_double(&j, "error", c->error);
	json_u64(&j, "own_bytes", c->own_bytes);
	json_begin(&j, "curve", '[');
	for (int i = 0; i < POL_CURVE_SIZES; i++) {
		json_begin(&j, NULL, '{');
		json_double(&j, "times", pol_curve_share[i]);
		json_u64(&j, c->by_entries ? "entries" : "bytes",
			(uint64_t)((double)c->memory * pol_curve_share[i]));
		json_double(&j, "hit_ratio", c->hits[i]);
		json_end(&j, '}');
	}
	json_end(&j, ']');
	json_end(&j, '}');
	json_finish(&j);
}

static int curve_end(const struct cli *c, const struct curve *curve)
{
	if (c->json)
		curve_json(curve);
	else
		curve_print(curve);
	return cli_end(c, CLI_DONE);
}

/* ------------------------------------------------------------ live */

/* Part i of what the engine says, 0..1. */
static double half_of(const struct shm_curve *c, int i)
{
	uint32_t both = shm_load32_rlx(&c->part[i / 2]);

	return (i % 2 ? both >> 16 : both & UINT16_MAX) / (double)UINT16_MAX;
}

/* False: the engine has no curve of it. */
static bool live_take(const struct hypercache_admin *a, uint32_t i, struct curve *ret)
{
	const struct shm_store_entry *e = &a->ctl->store[i];
	const struct shm_curve *from = &a->ctl->curve[i];
	const shm_u64 *n = e->counter;

	*ret = (struct curve){.rate = shm_load32_rlx(&from->rate),
		.memory = shm_load_rlx(&n[SHM_SC_curve_bytes]),
		.reads = shm_load_rlx(&n[SHM_SC_curve_reads]),
		.told = shm_load_rlx(&n[SHM_SC_hits_told]),
		.keys = shm_load_rlx(&n[SHM_SC_curve_keys]),
		.own_bytes = shm_load_rlx(&n[SHM_SC_curve_own_bytes]),
		.error = half_of(from, POL_CURVE_SIZES)};
	(void)cli_text(e->name, sizeof e->name, ret->name, sizeof ret->name);
	(void)cli_text(e->policy, sizeof e->policy, ret->policy, sizeof ret->policy);
	ret->simulated = strcmp(ret->policy, "auto") ? ret->policy : stat_auto_choice(e);
	if (ret->rate == 0 || ret->rate > POL_SHADOW_RATE_ONE || ret->reads == 0)
		return false;
	uint64_t entries = shm_load_rlx(&n[SHM_SC_curve_entries]);
	ret->by_entries = entries != 0;
	ret->memory = entries ? entries : ret->memory;
	ret->measured = (double)shm_load_rlx(&n[SHM_SC_curve_hits]) / (double)ret->reads;
	for (int k = 0; k < POL_CURVE_SIZES; k++)
		ret->hits[k] = 1 - half_of(from, k);
	return true;
}

static int live(const struct cli *c, const char *store)
{
	struct hypercache_admin a;
	struct curve curve;
	uint32_t i = 0;
	int status = cli_admin_open(c, &a);

	if (status)
		return status;
	while (i < SHM_STORES_MAX &&
		(shm_load_acq(&a.ctl->store[i].id) == 0 || /* acq:entry.id */
			strncmp(a.ctl->store[i].name, store, SHM_NAME_BYTES) != 0))
		i++;
	if (i == SHM_STORES_MAX)
		status = cli_fail(c, CLI_FAILED,
			"there is no store \"%s\": `hypercache store list` lists those that exist",
			store);
	else if (!live_take(&a, i, &curve))
		status = cli_fail(c, CLI_MISS,
			"store \"%s\" has no curve: nothing was read yet, its policy evicts "
			"nothing, "
			"or it has what_if: false",
			store);
	else
		status = curve_end(c, &curve);
	hypercache_admin_close(&a);
	return status;
}

/* ------------------------------------------------------------ a trace */

/* splitmix64's mixer (Steele, Lea, Flood 2014). */
static uint64_t mix(uint64_t z)
{
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

/* 0 or -ENOMEM. */
static int trace_run(const struct replay *r, const struct pol_ops *ops, struct curve *ret)
{
	struct pol_curve c;
	int e = pol_curve_init(&c, ops, NULL, TRACE_KEYS);

	if (e < 0)
		return e;
	pol_shadow_resize(&c.shadow, ret->by_entries ? ret->memory : ret->memory / SHM_UNIT, 0);
	for (uint64_t i = 0; i < r->n; i++) {
		const struct replay_request *q = &r->request[i];
		uint64_t bytes = ret->by_entries ? SHM_UNIT : ITEM_BYTES + (uint64_t)q->bytes;
		pol_curve_use(&c, POL_SHADOW_HIT, (uint32_t)(mix(q->object + 1) >> 16), bytes, 1, 0,
			q->time_s * UINT64_C(1000));
	}
	for (int i = 0; i < POL_CURVE_SIZES; i++)
		ret->hits[i] = 1 - pol_curve_misses(&c, i);
	ret->error = pol_curve_error(&c);
	ret->rate = c.shadow.rate;
	ret->keys = c.shadow.n_keys;
	ret->own_bytes = pol_shadow_bytes(&c.shadow);
	pol_curve_fini(&c);
	return 0;
}

static int trace(const struct cli *c)
{
	_cleanup_(replay_free) struct replay r = {0};
	const struct pol_ops *ops = pol_find(c->simulate ? c->simulate : "s3-fifo");
	struct curve curve = {.measured = -1};
	char why[TRACE_WHY_BYTES];
	bool bytes;

	if (c->n_args == 0)
		return cli_fail(c, CLI_USAGE, "--sizes goes with a trace: `hypercache help mrc`");
	if (!ops || ops->keeps || ops == &pol_auto)
		return cli_fail(c, CLI_USAGE,
			"there is nothing to simulate of a policy \"%s\": see `hypercache "
			"policies`, and "
			"take one that evicts, but not auto",
			c->simulate);
	if (replay_read(&r, c->arg[0], why) < 0)
		return cli_fail(c, CLI_FAILED, "%s", why);
	if (r.n == 0)
		return cli_fail(c, CLI_FAILED, "%s: there is no request in it", c->arg[0]);
	if (!cli_cache_size(c->sizes, r.n_objects, &bytes, &curve.memory))
		return cli_fail(c, CLI_USAGE,
			"--sizes: one size, as 5000 (objects), 10%% (of them) or 64MiB, not \"%s\"",
			c->sizes);
	curve.by_entries = !bytes;
	curve.reads = curve.told = r.n;
	(void)cli_text(c->arg[0], strlen(c->arg[0]), curve.name, sizeof curve.name);
	(void)cli_text(ops->name, strlen(ops->name), curve.policy, sizeof curve.policy);
	curve.simulated = curve.policy;
	if (trace_run(&r, ops, &curve) < 0)
		return cli_fail(c, CLI_FAILED, "there is no memory for it");
	return curve_end(c, &curve);
}

int cli_mrc(const struct cli *c)
{
	if (c->sizes)
		return trace(c);
	if (c->simulate)
		return cli_fail(c, CLI_USAGE,
			"--simulate goes with a trace and --sizes: a store is simulated with its "
			"own "
			"policy");
	if (c->store_given && c->n_args)
		return cli_fail(c, CLI_USAGE, "one store: --store, or the argument");
	return live(c, c->n_args ? c->arg[0] : c->store);
}
