/* hclat.c - how long reads and writes take, and where a write's time goes. */
#include <bpf/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <hclat.skel.h>
#include "hclat.h"
#include "hct.h"

static const struct hct_about about = {
	.name = "hclat",
	.purpose = "how long reads and writes take, and where a write's time goes",
	.details = "Histograms since the start.  Of reads, which are measured in the library, one "
		   "of N\n"
		   "is in them; of sets, each.  client + socket + queue + engine + reply are "
		   "a set.\n",
	.reads = true,
	.every = 1000,
};

#define NAME_(name, meaning) {#name, meaning},
static const char *const names[][2] = {HCLAT_HISTS(NAME_)};

static void report(const struct hct *t, int fd, bool last)
{
	struct hct_hist h;
	struct json j = {.to = stdout};
	char mean[CLI_TEXT_BYTES], half[CLI_TEXT_BYTES], most[CLI_TEXT_BYTES];

	if (t->json)
		json_begin(&j, NULL, '{');
	else
		printf("\n%-8s %12s %12s %12s %12s\n", "", "CALLS", "MEAN", "50% BELOW",
			"99% BELOW");
	for (uint32_t i = 0; i < HCLAT_N; i++) {
		if (bpf_map_lookup_elem(fd, &i, &h) != 0 || h.n == 0)
			continue;
		if (t->json)
			hct_hist_json(&j, names[i][0], &h);
		else
			printf("%-8s %12llu %12s %12s %12s  %s\n", names[i][0],
				(unsigned long long)h.n, cli_time(h.sum / h.n, mean),
				cli_time(hct_hist_part(&h, 0.5), half),
				cli_time(hct_hist_part(&h, 0.99), most), names[i][1]);
	}
	for (uint32_t i = 0; last && !t->json && i < HCLAT_N; i++)
		if (bpf_map_lookup_elem(fd, &i, &h) == 0 && h.n) {
			putchar('\n');
			hct_hist_print(names[i][1], "ns", &h);
		}
	if (t->json) {
		json_end(&j, '}');
		json_finish(&j);
	}
	(void)fflush(stdout);
}

int main(int argc, char **argv)
{
	static struct hct t;
	int status = hct_begin(&t, &about, argc, argv);

	if (status >= 0)
		return status;
	struct hclat_bpf *b = hclat_bpf__open();
	if (b)
		HCT_CONSTANTS(b, &t);
	status = hct_load(&t, b ? b->obj : NULL);
	if (status >= 0) {
		hclat_bpf__destroy(b);
		return status;
	}
	/* The engine's first: so that no set is heard of in part. */
	const struct hct_probe probes[] = {
		{b->progs.request__received, "request__received", true},
		{b->progs.request__decoded, "request__decoded", true},
		{b->progs.room__made, "room__made", true},
		{b->progs.request__answered, "request__answered", true},
		{b->progs.request__put, "request__put", false},
		{b->progs.request__reply, "request__reply", false},
		{b->progs.set__end, "set__end", false},
		{b->progs.set__begin, "set__begin", false},
		{b->progs.get__end, "get__end", false},
		{b->progs.view__end, "view__end", false},
		{b->progs.mget__end, "mget__end", false},
	};
	status = hct_attach(&t, probes, sizeof probes / sizeof *probes);
	int fd = bpf_map__fd(b->maps.hists);
	while (status < 0 && hct_next(&t, NULL))
		report(&t, fd, false);
	if (status < 0) {
		report(&t, fd, true);
		status = hct_end(&t);
	}
	hclat_bpf__destroy(b);
	return status;
}
