/* top.h - `hypercache top`: what happens in a daemon, as tables.
 *
 *   cli_top.c      the loop: looks each interval, prints blocks where there is no terminal
 *   top_look.c     one look: sums of now, and tables of what has grown since the last one
 *   top_table.c    a table's rows, in order, those that are wanted; a line of text each
 *   top_screen.c   the terminal (ncurses), in a process of its own
 *
 * All that is shown stands in tables, so that sorting, filters, plain text and JSON are one piece of code each,
 * and counters and histograms that the daemon describes are shown without this program knowing them.
 *
 * A look asks the supervisor for descriptors and reads shared memory; the engine is not asked.
 */
#ifndef HC_TOOLS_TOP_H
#define HC_TOOLS_TOP_H

#include <stdbool.h>
#include "cli.h"
#include "hypercache_admin.h"
#include "latency.h"

enum {
	TOP_TEXT_BYTES = 96,
	TOP_COLUMNS_MAX = 20,
	TOP_LINE_BYTES = 1024,
	TOP_INTERVAL_MS = 1000, /* by default */
	TOP_INTERVAL_MIN_MS = 100,
	TOP_INTERVAL_MAX_MS = 3600000,
};

struct top_column {
	const char *title;
	const char *name; /* in JSON */
	uint8_t width;    /* of the first one: at least */
	bool is_text;     /* at the left, and ascending at first */
};

struct top_cell {
	double number; /* what it is sorted by, unless the column is text; negative: unknown */
	char text[TOP_TEXT_BYTES]; /* printable */
};

struct top_row {
	bool bad; /* stands out */
	struct top_cell cell[TOP_COLUMNS_MAX];
};

struct top_table {
	const char *name; /* of the view */
	const struct top_column *column;
	uint32_t n_columns;
	uint32_t sort;       /* the column that it is sorted by at first */
	struct top_row *row; /* heap */
	uint32_t n_rows, max_rows;
};

/* The views, by the key that shows each, from 1. */
enum top_view { TOP_STORES, TOP_CLIENTS, TOP_POOLS, TOP_HOT, TOP_LATENCY, TOP_DAEMON, TOP_N_VIEWS };

struct top_sample;

struct top {
	const struct cli *c;
	char admin[HYPERCACHE_ADMIN_PATH_BYTES];
	uint64_t interval_ns;
	struct top_sample *is, *was;
	struct top_table table[TOP_N_VIEWS];
	char daemon[TOP_LINE_BYTES]; /* which daemon, since when, what the engine does */
	char health[TOP_LINE_BYTES]; /* "" if it is well */
	char sums[TOP_LINE_BYTES];   /* rates of all stores */
	char why[HYPERCACHE_ADMIN_WHY_BYTES]; /* no daemon answers: the tables are those of the last look; else "" */
	enum cli_status status; /* why as an exit status */
};

/* top_look.c.  0, or an exit status, and why has been said; to be freed in any case. */
int top_init(struct top *t, const struct cli *c);
void top_free(struct top *t);
/* Looks.  False: no daemon answers (t->why). */
bool top_look(struct top *t);

/* top_table.c */
/* How rows are shown. */
struct top_order {
	uint32_t sort;
	bool reverse;
	char filter[64]; /* only rows with this in a text; "": all */
};
struct top_row *top_row_add(struct top_table *t); /* all zeroes; NULL: no memory */
void top_cell_number(struct top_row *r, uint32_t i, double number, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
void top_cell_text(struct top_row *r, uint32_t i, const char *text);
/* "1234", "12.3k", "4.56M"; "-" if it is negative.  Returns to. */
const char *top_count(double n, char to[CLI_TEXT_BYTES]);
/* Those rows that are wanted, in their order: heap, the caller's; NULL: no memory.  *ret_n: how many. */
const struct top_row **top_rows(
	const struct top_table *t, const struct top_order *o, uint32_t *ret_n);
/* How wide each column is in a line of so many columns, 0: it does not fit; how many fit.  The first one gets
 * what is left, as far as its texts need it.  line 0: all. */
uint32_t top_widths(const struct top_table *t, uint32_t line, uint32_t width[TOP_COLUMNS_MAX]);
/* A line: of titles, or of a row. */
void top_line_titles(
	const struct top_table *t, uint32_t n, const uint32_t *width, char to[TOP_LINE_BYTES]);
void top_line_row(const struct top_table *t, const struct top_row *r, uint32_t n,
	const uint32_t *width, char to[TOP_LINE_BYTES]);

/* top_screen.c: until somebody leaves it.  CLI_DONE; -1: this terminal cannot do it, and nothing was shown. */
int top_screen(struct top *t);

#endif
