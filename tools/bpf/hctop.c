/* hctop.c - who reads, how much, how fast: per process and store. */
#include <bpf/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <hctop.skel.h>
#include "hct.h"
#include "hctop.h"

static const struct hct_about about = {
	.name = "hctop",
	.purpose = "who reads from the cache, how much, and how fast",
	.details = "Counts are those of the interval, estimated from the reads that are heard of;\n"
		   "ns is the mean time of a call, hc_mget counting as one, without its probes.\n",
	.reads = true,
	.every = 1000,
};

struct line {
	struct hctop_key key;
	struct hctop_row now, was; /* was: at the end of the last interval */
	bool known;
};
static struct line lines[HCTOP_ROWS];
static uint32_t n_lines;

/* Takes over what the map has. */
static void lines_take(int fd)
{
	struct hctop_key key, *former = NULL;
	struct hctop_row row;

	for (uint32_t i = 0; i < n_lines; i++)
		lines[i].was = lines[i].now;
	for (uint32_t n = 0; n < HCTOP_ROWS && bpf_map_get_next_key(fd, former, &key) == 0; n++) {
		former = &key;
		if (bpf_map_lookup_elem(fd, &key, &row) != 0)
			continue;
		uint32_t i = 0;
		while (i < n_lines && memcmp(&lines[i].key, &key, sizeof key) != 0)
			i++;
		if (i == n_lines && n_lines == HCTOP_ROWS)
			continue; /* the map holds no more either */
		if (i == n_lines)
			lines[n_lines++] = (struct line){.key = key};
		lines[i].now = row;
	}
}

static int by_reads(const void *a, const void *b)
{
	const struct line *x = a, *y = b;
	uint64_t n = x->now.reads - x->was.reads, m = y->now.reads - y->was.reads;

	return n < m ? 1 : n > m ? -1 : x->key.pid < y->key.pid ? -1 : 1;
}

static void line_print(const struct hct *t, const struct line *l)
{
	struct hctop_row d = l->now;
	char bytes[CLI_TEXT_BYTES], comm[HCT_COMM_BYTES + 1];

	d.reads -= l->was.reads;
	d.hits -= l->was.hits;
	d.bytes -= l->was.bytes;
	d.told -= l->was.told;
	d.ns -= l->was.ns;
	if (d.told == 0)
		return;
	(void)cli_text(d.comm, sizeof d.comm, comm, sizeof comm);
	if (!t->json) {
		printf("%8u %-16s %-16s %12llu %12llu %12llu %6.2f %12s %8llu\n", l->key.pid, comm,
			hct_store(t, l->key.store), (unsigned long long)d.reads,
			(unsigned long long)d.hits, (unsigned long long)(d.reads - d.hits),
			100.0 * (double)(d.reads - d.hits) / (double)d.reads,
			cli_size(d.bytes, bytes), (unsigned long long)(d.ns / d.told));
		return;
	}
	struct json j = {.to = stdout};
	json_begin(&j, NULL, '{');
	json_u64(&j, "pid", l->key.pid);
	json_string(&j, "comm", comm);
	json_string(&j, "store", hct_store(t, l->key.store));
	json_u64(&j, "reads", d.reads);
	json_u64(&j, "hits", d.hits);
	json_u64(&j, "misses", d.reads - d.hits);
	json_u64(&j, "bytes", d.bytes);
	json_u64(&j, "told", d.told);
	json_u64(&j, "ns", d.ns / d.told);
	json_double(&j, "seconds", t->seconds);
	json_end(&j, '}');
	json_finish(&j);
}

static void report(const struct hct *t, int fd)
{
	lines_take(fd);
	qsort(lines, n_lines, sizeof *lines, by_reads);
	if (!t->json)
		printf("\n%8s %-16s %-16s %12s %12s %12s %6s %12s %8s\n", "PID", "COMMAND", "STORE",
			"READS", "HITS", "MISSES", "MISS%", "BYTES", "NS");
	for (uint32_t i = 0; i < n_lines; i++)
		line_print(t, &lines[i]);
	(void)fflush(stdout);
}

int main(int argc, char **argv)
{
	static struct hct t;
	int status = hct_begin(&t, &about, argc, argv);

	if (status >= 0)
		return status;
	struct hctop_bpf *b = hctop_bpf__open();
	if (b)
		HCT_CONSTANTS(b, &t);
	status = hct_load(&t, b ? b->obj : NULL);
	if (status >= 0) {
		hctop_bpf__destroy(b);
		return status;
	}
	const struct hct_probe probes[] = {
		{b->progs.get__end, "get__end", false},
		{b->progs.view__end, "view__end", false},
		{b->progs.mget__end, "mget__end", false},
	};
	status = hct_attach(&t, probes, 3);
	int fd = bpf_map__fd(b->maps.rows);
	while (status < 0 && hct_next(&t, NULL))
		report(&t, fd);
	if (status < 0) {
		report(&t, fd);
		status = hct_end(&t);
	}
	hctop_bpf__destroy(b);
	return status;
}
