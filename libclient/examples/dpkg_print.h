/* dpkg_print.h - what dpkg_reader shows: a table while it runs, and a summary.
 *
 * On a terminal the table is painted again in its place; else each look is one line.
 * 80 columns.  Every number comes from the workers' counts (dpkg_worker.h) or from looking up
 * every entry, and adds up: the last row of a table is the sum of those above.
 */
#ifndef HC_EXAMPLE_DPKG_PRINT_H
#define HC_EXAMPLE_DPKG_PRINT_H

#include <stdint.h>
#include "dpkg_worker.h"

enum { PRINT_WORKERS_MAX = 32 };

/* The counts of a worker at one moment. */
struct print_row {
#define PRINT_FIELD_(name, meaning) uint64_t name;
	WORKER_COUNTS(PRINT_FIELD_)
#undef PRINT_FIELD_
};

/* What is in the cache, by having asked for each entry. */
struct print_cached {
	uint64_t n, bytes;
	char backing[16];
};

struct print {
	const struct source *source;
	struct worker_shared *shared;
	uint32_t n; /* workers */
	int terminal;
	uint32_t lines; /* painted, to be painted over */
	uint64_t last_ns;
	struct print_row last[PRINT_WORKERS_MAX];
};

/* One look at the running workers; t_ns since the start. */
void print_look(struct print *p, uint64_t t_ns, const struct print_cached *cached);
/* When the workers have ended.  Returns how many bytes were wrong. */
uint64_t print_summary(struct print *p, uint64_t t_ns, const struct print_cached *cached);

#endif
