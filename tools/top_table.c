/* top_table.c - see top.h. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "step.h"
#include "top.h"

struct top_row *top_row_add(struct top_table *t)
{
	if (t->n_rows == t->max_rows) {
		uint32_t n = t->max_rows ? t->max_rows * 2 : 16;
		struct top_row *more = realloc(t->row, n * sizeof *more);
		if (!more)
			return NULL;
		t->row = more;
		t->max_rows = n;
	}
	struct top_row *r = &t->row[t->n_rows++];
	memset(r, 0, sizeof *r);
	return r;
}

void top_cell_number(struct top_row *r, uint32_t i, double number, const char *format, ...)
{
	va_list args;

	r->cell[i].number = number;
	va_start(args, format);
	(void)vsnprintf(r->cell[i].text, TOP_TEXT_BYTES, format, args);
	va_end(args);
}

void top_cell_text(struct top_row *r, uint32_t i, const char *text)
{
	(void)snprintf(r->cell[i].text, TOP_TEXT_BYTES, "%s", text);
}

const char *top_count(double n, char to[CLI_TEXT_BYTES])
{
	static const char *const units[] = {"k", "M", "G", "T"};
	int u = -1;

	if (n < 0)
		return "-";
	for (; n >= 9999.5 || (u >= 0 && n >= 999.5 && u < 3); u++)
		n /= 1000;
	(void)snprintf(to, CLI_TEXT_BYTES,
		u < 0     ? "%.0f"
		: n < 100 ? "%.1f%s"
			  : "%.0f%s",
		n, u < 0 ? "" : units[u]);
	return to;
}

/* ------------------------------------------------------------ order */

struct order_of {
	const struct top_table *table;
	const struct top_order *order;
};

static int row_compare(const void *a, const void *b, void *arg)
{
	const struct top_row *x = *(const struct top_row *const *)a,
			     *y = *(const struct top_row *const *)b;
	const struct order_of *by = arg;
	uint32_t i = by->order->sort;
	int r;

	if (by->table->column[i].is_text)
		r = strcmp(x->cell[i].text, y->cell[i].text);
	else /* what is much stands above */
		r = x->cell[i].number < y->cell[i].number   ? 1
		    : x->cell[i].number > y->cell[i].number ? -1
		                                            : 0;
	r = by->order->reverse && !MUTANT(830) ? -r : r; /* 830: one order only */
	return r ? r : x < y ? -1 : 1;                   /* else as they came */
}

static bool row_is_wanted(const struct top_table *t, const struct top_row *r, const char *filter)
{
	if (!*filter || MUTANT(829)) /* 829: all rows, always */
		return true;
	for (uint32_t i = 0; i < t->n_columns; i++)
		if (t->column[i].is_text && strcasestr(r->cell[i].text, filter))
			return true;
	return false;
}

const struct top_row **top_rows(
	const struct top_table *t, const struct top_order *o, uint32_t *ret_n)
{
	const struct top_row **rows = calloc(t->n_rows + 1, sizeof *rows);
	struct order_of by = {t, o};
	uint32_t n = 0;

	*ret_n = 0;
	if (!rows)
		return NULL;
	for (uint32_t i = 0; i < t->n_rows; i++)
		if (row_is_wanted(t, &t->row[i], o->filter))
			rows[n++] = &t->row[i];
	qsort_r(rows, n, sizeof(*rows), row_compare, &by);
	*ret_n = n;
	return rows;
}

/* ------------------------------------------------------------ lines */

uint32_t top_widths(const struct top_table *t, uint32_t line, uint32_t width[TOP_COLUMNS_MAX])
{
	uint32_t used = t->column[0].width, n = 1, need = t->column[0].width;

	for (; n < t->n_columns; n++) {
		if (line && used + 1 + t->column[n].width > line)
			break;
		width[n] = t->column[n].width;
		used += 1 + width[n];
	}
	for (uint32_t i = 0; i < t->n_rows; i++) {
		uint32_t bytes = (uint32_t)strlen(t->row[i].cell[0].text);
		need = bytes > need ? bytes : need;
	}
	width[0] = need;
	if (line && used - t->column[0].width + need > line)
		width[0] = line - (used - t->column[0].width);
	return n;
}

/* Puts a text of a column behind what there is. */
static void line_add(char to[TOP_LINE_BYTES], size_t *at, const struct top_column *c, bool first,
	uint32_t width, const char *text)
{
	int w = (int)width;

	if (*at + width + 2 > TOP_LINE_BYTES)
		return;
	*at += (size_t)snprintf(to + *at, TOP_LINE_BYTES - *at, c->is_text ? "%s%-*.*s" : "%s%*.*s",
		first ? "" : " ", w, w, text);
}

/* What stands at a line's end, for nothing. */
static void line_end(char to[TOP_LINE_BYTES], size_t at)
{
	while (at && to[at - 1] == ' ')
		to[--at] = 0;
}

void top_line_titles(
	const struct top_table *t, uint32_t n, const uint32_t *width, char to[TOP_LINE_BYTES])
{
	size_t at = 0;

	to[0] = 0;
	for (uint32_t i = 0; i < n; i++)
		line_add(to, &at, &t->column[i], i == 0, width[i], t->column[i].title);
	line_end(to, at);
}

void top_line_row(const struct top_table *t, const struct top_row *r, uint32_t n,
	const uint32_t *width, char to[TOP_LINE_BYTES])
{
	size_t at = 0;

	to[0] = 0;
	for (uint32_t i = 0; i < n; i++)
		line_add(to, &at, &t->column[i], i == 0, width[i], r->cell[i].text);
	line_end(to, at);
}
