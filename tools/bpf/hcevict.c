/* hcevict.c - what is evicted, why, how old it was, and whether it is asked for again. */
#include <bpf/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <hcevict.skel.h>
#include "hcevict.h"
#include "hct.h"

static const struct hct_about about = {
	.name = "hcevict",
	.purpose = "what is evicted, why, how old, and whether it is asked for again",
	.details =
		"Counts are those since the start.  AGAIN: writes of a key behind its eviction;\n"
		"ASKED: reads that missed it, estimated from the reads that are heard of.\n",
	.reads = true,
	.every = 1000,
};

/* By enum eng_lost of the engine: the counters evicted_NAME. */
static const char *const whys[HCEVICT_WHYS] = {
	"deleted", "expired", "limit", "pressure", "full", "given", "aside", "shrunk", "index"};

static void row_json(const struct hct *t, uint32_t index, const struct hcevict_row *r)
{
	struct json j = {.to = stdout};

	json_begin(&j, NULL, '{');
	json_string(&j, "store", hct_store(t, index / HCEVICT_WHYS));
	json_string(&j, "why", whys[index % HCEVICT_WHYS]);
	json_u64(&j, "entries", r->n);
	json_u64(&j, "bytes", r->bytes);
	json_u64(&j, "asked", r->asked);
	json_u64(&j, "written", r->written);
	hct_hist_json(&j, "age_ms", &r->age_ms);
	hct_hist_json(&j, "idle_ms", &r->idle_ms);
	hct_hist_json(&j, "back_ms", &r->back_ms);
	json_end(&j, '}');
	json_finish(&j);
}

static void row_print(const struct hct *t, uint32_t index, const struct hcevict_row *r)
{
	char bytes[CLI_TEXT_BYTES];

	printf("%-16s %-9s %12llu %12s %12llu %12llu\n", hct_store(t, index / HCEVICT_WHYS),
		whys[index % HCEVICT_WHYS], (unsigned long long)r->n, cli_size(r->bytes, bytes),
		(unsigned long long)r->written, (unsigned long long)r->asked);
}

static void row_hists(const struct hct *t, uint32_t index, const struct hcevict_row *r)
{
	printf("\n%s, %s\n", hct_store(t, index / HCEVICT_WHYS), whys[index % HCEVICT_WHYS]);
	hct_hist_print(" age", "ms", &r->age_ms);
	if (r->idle_ms.n)
		hct_hist_print(" since the last use", "ms", &r->idle_ms);
	if (r->back_ms.n)
		hct_hist_print(" written again after", "ms", &r->back_ms);
}

/* last: with histograms. */
static void report(const struct hct *t, int fd, bool last)
{
	struct hcevict_row r;

	if (!t->json)
		printf("\n%-16s %-9s %12s %12s %12s %12s\n", "STORE", "WHY", "ENTRIES", "BYTES",
			"AGAIN", "ASKED");
	for (int turn = 0; turn <= (last && !t->json); turn++)
		for (uint32_t i = 0; i < HCEVICT_STORES * HCEVICT_WHYS; i++) {
			if (bpf_map_lookup_elem(fd, &i, &r) != 0 || r.n == 0 ||
				!whys[i % HCEVICT_WHYS])
				continue;
			(t->json ? row_json : turn ? row_hists : row_print)(t, i, &r);
		}
	(void)fflush(stdout);
}

int main(int argc, char **argv)
{
	static struct hct t;
	int status = hct_begin(&t, &about, argc, argv);

	if (status >= 0)
		return status;
	struct hcevict_bpf *b = hcevict_bpf__open();
	if (b)
		HCT_CONSTANTS(b, &t);
	status = hct_load(&t, b ? b->obj : NULL);
	if (status >= 0) {
		hcevict_bpf__destroy(b);
		return status;
	}
	const struct hct_probe probes[] = {
		{b->progs.publish, "publish", true},
		{b->progs.evict, "evict", true},
		{b->progs.expire, "expire", true},
		{b->progs.get__end, "get__end", false},
		{b->progs.view__end, "view__end", false},
	};
	status = hct_attach(&t, probes, 5);
	int fd = bpf_map__fd(b->maps.rows);
	while (status < 0 && hct_next(&t, NULL))
		report(&t, fd, false);
	if (status < 0) {
		report(&t, fd, true);
		status = hct_end(&t);
	}
	hcevict_bpf__destroy(b);
	return status;
}
