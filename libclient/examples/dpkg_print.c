/* dpkg_print.c - see dpkg_print.h. */
#include "dpkg_print.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <hypercache.h>

enum { NUMBER_BYTES = 32 };

/* 1234567 as 1,234,567 */
static const char *number(uint64_t n, char to[NUMBER_BYTES])
{
	char digits[NUMBER_BYTES];
	int len = snprintf(digits, sizeof digits, "%" PRIu64, n), at = 0;

	for (int i = 0; i < len; i++) {
		if (i > 0 && (len - i) % 3 == 0)
			to[at++] = ',';
		to[at++] = digits[i];
	}
	to[at] = 0;
	return to;
}

static const char *size(uint64_t bytes, char to[NUMBER_BYTES])
{
	if (bytes >= 1 << 20)
		(void)snprintf(to, NUMBER_BYTES, "%.1f MiB", (double)bytes / (1 << 20));
	else
		(void)snprintf(to, NUMBER_BYTES, "%.1f KiB", (double)bytes / (1 << 10));
	return to;
}

static double ratio(uint64_t a, uint64_t b) { return b ? (double)a / (double)b : 0.0; }

static struct print_row row_of(const struct worker_counts *c)
{
	struct print_row r;

#define ROW_READ_(name, meaning) r.name = worker_get(&c->name);
	WORKER_COUNTS(ROW_READ_)
#undef ROW_READ_
	return r;
}

static void row_add(struct print_row *to, const struct print_row *r)
{
#define ROW_ADD_(name, meaning) to->name += r->name;
	WORKER_COUNTS(ROW_ADD_)
#undef ROW_ADD_
}

static struct print_row row_since(const struct print_row *now, const struct print_row *then)
{
	struct print_row r;

#define ROW_SUB_(name, meaning) r.name = now->name - then->name;
	WORKER_COUNTS(ROW_SUB_)
#undef ROW_SUB_
	return r;
}

/* The median of the timed hits of workers first..first+n-1, ns. */
static uint64_t median(const struct print *p, uint32_t first, uint32_t n)
{
	uint64_t all = 0, seen = 0;

	for (uint32_t w = first; w < first + n; w++)
		for (int i = 0; i < WORKER_NS_MAX; i++)
			all += worker_get(&p->shared->worker[w].ns[i]);
	for (int i = 0; i < WORKER_NS_MAX; i++) {
		for (uint32_t w = first; w < first + n; w++)
			seen += worker_get(&p->shared->worker[w].ns[i]);
		if (seen * 2 > all)
			return (uint64_t)i;
	}
	return 0;
}

/* ------------------------------------------------------------ while it runs */

/* Behind each line: what a longer one left there. */
static const char *line_end(const struct print *p) { return p->terminal ? "\033[K\n" : "\n"; }

static void look_row(const struct print *p, const char *name, const struct print_row *r,
	double seconds, uint64_t p50_ns)
{
	char reads[NUMBER_BYTES], sources[NUMBER_BYTES];

	printf("  %-8s %13s %9.2f %% %9" PRIu64 " %10.0f %9s %11.1f%s", name,
		number((uint64_t)((double)r->reads / seconds), reads),
		100 * ratio(r->hits, r->reads), p50_ns, ratio(r->timed_ns, r->timed),
		number(r->source_reads, sources), ratio(r->source_ns, r->source_reads) / 1000,
		line_end(p));
}

static void look_table(struct print *p, double t_s, double seconds, const struct print_row *rows,
	const struct print_row *sum, const struct print_cached *cached)
{
	char name[NUMBER_BYTES], n[NUMBER_BYTES], of[NUMBER_BYTES], bytes[NUMBER_BYTES];

	if (p->lines)
		printf("\033[%uA", p->lines);
	printf("%s  process        reads/s  hit ratio    p50 ns    mean ns   sourced  "
	       "us a source%s",
		line_end(p), line_end(p));
	for (uint32_t i = 0; i < p->n; i++) {
		(void)snprintf(name, sizeof name, "%u", i + 1);
		look_row(p, name, &rows[i], seconds, median(p, i, 1));
	}
	look_row(p, "all", sum, seconds, median(p, 0, p->n));
	printf("  %5.2f s  in the cache: %s of %s entries, %s; pages: %s%s", t_s,
		number(cached->n, n), number(p->source->n, of), size(cached->bytes, bytes),
		cached->backing, line_end(p));
	p->lines = 4 + p->n;
}

static void look_line(struct print *p, double t_s, double seconds, const struct print_row *sum,
	const struct print_cached *cached)
{
	char reads[NUMBER_BYTES], n[NUMBER_BYTES], bytes[NUMBER_BYTES];

	printf("%5.2f s: %s reads/s, %.2f %% hits, p50 %" PRIu64 " ns; cached %s, %s\n", t_s,
		number((uint64_t)((double)sum->reads / seconds), reads),
		100 * ratio(sum->hits, sum->reads), median(p, 0, p->n), number(cached->n, n),
		size(cached->bytes, bytes));
}

void print_look(struct print *p, uint64_t t_ns, const struct print_cached *cached)
{
	struct print_row rows[PRINT_WORKERS_MAX], sum = {0};
	double seconds = (double)(t_ns - p->last_ns) / 1e9;

	for (uint32_t i = 0; i < p->n; i++) {
		struct print_row now = row_of(&p->shared->worker[i]);
		rows[i] = row_since(&now, &p->last[i]);
		row_add(&sum, &rows[i]);
		p->last[i] = now;
	}
	p->last_ns = t_ns;
	if (p->terminal)
		look_table(p, (double)t_ns / 1e9, seconds, rows, &sum, cached);
	else
		look_line(p, (double)t_ns / 1e9, seconds, &sum, cached);
	(void)fflush(stdout);
}

/* ------------------------------------------------------------ at the end */

static void summary_row(const char *name, const struct print_row *r, uint64_t p50_ns)
{
	char reads[NUMBER_BYTES], hits[NUMBER_BYTES], misses[NUMBER_BYTES];

	printf("  %-8s %14s %14s %8s %9.3f %% %6" PRIu64 " %8.0f\n", name, number(r->reads, reads),
		number(r->hits, hits), number(r->misses, misses), 100 * ratio(r->hits, r->reads),
		p50_ns, ratio(r->timed_ns, r->timed));
}

static void summary_faults(const struct print *p, const struct print_row *sum)
{
	char n[NUMBER_BYTES];

	if (sum->outdated)
		printf("  out of date    %s of the misses: the source had changed since\n",
			number(sum->outdated, n));
	if (sum->busy)
		printf("  busy           %s look-ups met an entry that kept changing\n",
			number(sum->busy, n));
	if (sum->revoked)
		printf("  revoked        %s views were taken back while they were read\n",
			number(sum->revoked, n));
	if (sum->changed)
		printf("  changed        %s source reads found another file than at the start\n",
			number(sum->changed, n));
	for (uint32_t i = 0; i < p->n; i++) {
		const struct worker_counts *c = &p->shared->worker[i];
		if (worker_get(&c->sets_failed))
			printf("  failed sets    %s of process %u, the last: %s\n",
				number(worker_get(&c->sets_failed), n), i + 1,
				hc_strerror(-(int)worker_get(&c->set_error)));
	}
}

static void summary_source(const struct print *p, const struct print_row *sum, uint64_t p50_ns)
{
	char n[NUMBER_BYTES], m[NUMBER_BYTES], k[NUMBER_BYTES];
	double record_us = ratio(sum->record_ns, sum->record_reads) / 1000;
	uint64_t file_reads = sum->source_reads - sum->record_reads;

	printf("  source reads   %s = %s misses + %s checks\n", number(sum->source_reads, n),
		number(sum->misses, m), number(sum->checks, k));
	printf("                 %s of package records, %.1f us each\n",
		number(sum->record_reads, n), record_us);
	if (p->source->n_files)
		printf("                 %s of files, %.1f us each\n", number(file_reads, n),
			ratio(sum->source_ns - sum->record_ns, file_reads) / 1000);
	printf("  cached read    %" PRIu64 " ns: half of them are faster\n", p50_ns);
	printf("                 %.0f ns in the mean, with the times without a CPU\n",
		ratio(sum->timed_ns, sum->timed));
	if (p50_ns && sum->record_reads)
		printf("                 %s times as fast as a package record from its source\n",
			number((uint64_t)(record_us * 1000 / (double)p50_ns), n));
}

uint64_t print_summary(struct print *p, uint64_t t_ns, const struct print_cached *cached)
{
	char n[NUMBER_BYTES], m[NUMBER_BYTES], k[NUMBER_BYTES], name[NUMBER_BYTES];
	struct print_row sum = {0};
	uint64_t p50_ns = median(p, 0, p->n);

	printf("\nSummary of %.1f s\n\n", (double)t_ns / 1e9);
	printf("  process           reads           hits   misses   hit ratio p50 ns  mean ns\n");
	for (uint32_t i = 0; i < p->n; i++) {
		struct print_row r = row_of(&p->shared->worker[i]);
		(void)snprintf(name, sizeof name, "%u", i + 1);
		summary_row(name, &r, median(p, i, 1));
		row_add(&sum, &r);
	}
	summary_row("all", &sum, p50_ns);
	printf("\n  entries        %s = %s package records + %s files, %s of values\n",
		number(p->source->n, n), number(p->source->n_records, m),
		number(p->source->n_files, k), size(p->source->bytes, name));
	printf("  in the cache   %s entries, %s of keys and values, in %s pages\n",
		number(cached->n, n), size(cached->bytes, m), cached->backing);
	summary_source(p, &sum, p50_ns);
	summary_faults(p, &sum);
	printf("  checked        %s values against their sums, %s against their source\n",
		number(sum.summed, n), number(sum.checks, m));
	printf("  wrong bytes    %s\n", number(sum.wrong_bytes, n));
	return sum.wrong_bytes;
}
