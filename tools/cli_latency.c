/* cli_latency.c - stat --latency: how long requests and the engine's own work took. */
#include <inttypes.h>
#include <string.h>
#include "atomic.h"
#include "cli.h"
#include "hist.h"
#include "hypercache_admin.h"
#include "latency.h"

static const struct {
	const char *name;
	uint32_t ppm;
} quantiles[] = {{"p50", 500000}, {"p90", 900000}, {"p99", 990000}, {"p999", 999000}};
enum { N_QUANTILES = sizeof quantiles / sizeof *quantiles };

static double mean(const struct hypercache_latency *l)
{
	return l->n ? (double)l->sum / (double)l->n : 0;
}

/* A value of the histogram in words. */
static const char *time_text(const struct shm_counter_desc *d, uint64_t v, char to[CLI_TEXT_BYTES])
{
	return cli_time(hypercache_latency_ns(d, v), to);
}

static void latency_print(const struct shm_counter_desc *d, const struct hypercache_latency *l)
{
	char name[sizeof d->name], meaning[sizeof d->meaning], text[CLI_TEXT_BYTES];

	printf("%-10s %12" PRIu64, cli_text(d->name, sizeof d->name, name, sizeof name), l->n);
	printf(" %10s", l->n ? time_text(d, (uint64_t)mean(l), text) : "-");
	for (int i = 0; i < N_QUANTILES; i++)
		printf(" %10s",
			l->n ? time_text(d, hypercache_latency_quantile(l, quantiles[i].ppm), text)
			     : "-");
	printf(" %10s  %s\n", l->n ? time_text(d, l->max, text) : "-",
		cli_text(d->meaning, sizeof d->meaning, meaning, sizeof meaning));
}

static void latency_json(
	struct json *j, const struct shm_counter_desc *d, const struct hypercache_latency *l)
{
	char name[sizeof d->name], unit[sizeof d->unit];

	json_begin(j, cli_text(d->name, sizeof d->name, name, sizeof name), '{');
	json_string(j, "unit", cli_text(d->unit, sizeof d->unit, unit, sizeof unit));
	json_u64(j, "count", l->n);
	json_u64(j, "sum", l->sum);
	json_u64(j, "max", l->max);
	for (int i = 0; i < N_QUANTILES; i++)
		json_u64(j, quantiles[i].name, hypercache_latency_quantile(l, quantiles[i].ppm));
	json_begin(j, "buckets",
		'['); /* [from, how many], in ascending order, those that are not empty */
	for (uint32_t i = 0; i < SHM_HIST_BUCKETS; i++) {
		if (l->bucket[i] == 0)
			continue;
		json_begin(j, NULL, '[');
		json_u64(j, NULL, shm_hist_low(i));
		json_u64(j, NULL, l->bucket[i]);
		json_end(j, ']');
	}
	json_end(j, ']');
	json_end(j, '}');
}

void cli_latency(const struct cli *c, const struct hypercache_admin *a)
{
	struct json j = {.to = stdout};
	struct hypercache_latency l;

	if (c->json) {
		json_begin(&j, NULL, '{');
		json_begin(&j, "latency", '{');
	} else {
		printf("%-10s %12s %10s %10s %10s %10s %10s %10s\n", "what", "count", "mean", "p50",
			"p90", "p99", "p99.9", "max");
	}
	for (int i = 0; i < SHM_DESCS_MAX && a->ctl->desc[i].scope; i++) {
		const struct shm_counter_desc *d = &a->ctl->desc[i];
		if (d->scope != SHM_SCOPE_HIST || d->index >= SHM_HISTS_MAX)
			continue;
		hypercache_latency_read(&a->ctl->hist[d->index], &l);
		if (c->json)
			latency_json(&j, d, &l);
		else
			latency_print(d, &l);
	}
	if (c->json) {
		json_end(&j, '}');
		json_end(&j, '}');
		json_finish(&j);
	}
}
