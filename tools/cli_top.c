/* cli_top.c - top: the loop; blocks of text, or of JSON, where there is no terminal.  See top.h. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include "../daemon/sup_host.h"
#include "base/cleanup.h"
#include "step.h"
#include "top.h"

#define NS_PER_S UINT64_C(1000000000)

static void table_print(const struct top_table *t)
{
	struct top_order by = {.sort = t->sort};
	uint32_t width[TOP_COLUMNS_MAX], n_rows;
	char line[TOP_LINE_BYTES];
	_cleanup_free_ const struct top_row **rows = top_rows(t, &by, &n_rows);

	uint32_t n = top_widths(t, 0, width);
	if (!rows || n_rows == 0)
		return;
	printf("\n%s\n", t->name);
	top_line_titles(t, n, width, line);
	puts(line);
	for (uint32_t i = 0; i < n_rows; i++) {
		top_line_row(t, rows[i], n, width, line);
		puts(line);
	}
}

static void block_print(const struct top *t)
{
	char now[CLI_TEXT_BYTES];
	time_t s = time(NULL);
	struct tm tm;

	(void)strftime(now, sizeof now, "%F %T", localtime_r(&s, &tm));
	printf("%s  %s\n", now, t->daemon);
	if (t->health[0])
		printf("%s\n", t->health);
	printf("%s\n", t->sums);
	for (int i = 0; i < TOP_DAEMON; i++) /* stat --verbose has all counters */
		table_print(&t->table[i]);
	printf("\n");
}

static void table_json(const struct top_table *t, struct json *j)
{
	json_begin(j, t->name, '[');
	for (uint32_t i = 0; i < t->n_rows; i++) {
		json_begin(j, NULL, '{');
		for (uint32_t k = 0; k < t->n_columns; k++)
			if (t->column[k].is_text)
				json_string(j, t->column[k].name, t->row[i].cell[k].text);
			else if (t->row[i].cell[k].number >= 0)
				json_double(j, t->column[k].name, t->row[i].cell[k].number);
		json_end(j, '}');
	}
	json_end(j, ']');
}

static void block_json(const struct top *t)
{
	struct json j = {.to = stdout};

	json_begin(&j, NULL, '{');
	json_string(&j, "daemon", t->daemon);
	json_string(&j, "health", t->health);
	for (int i = 0; i < TOP_DAEMON; i++)
		table_json(&t->table[i], &j);
	json_end(&j, '}');
	json_finish(&j);
}

static void wait_until(uint64_t ns)
{
	struct timespec t = {.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
		;
}

/* A block each interval.  Ends when the output does, and with the first look that nobody answers. */
static int blocks(struct top *t, uint64_t count)
{
	for (uint64_t n = 0; count == 0 || n <= count; n++) {
		uint64_t now_ns = sup_host_mono_ns();
		if (!top_look(t))
			return cli_fail(t->c, t->status, "%s", t->why);
		if (n && t->c->json)
			block_json(t);
		else if (n)
			block_print(t);
		int status = cli_end(t->c, CLI_DONE); /* a block is seen when it is there */
		if (status)
			return status;
		if (count == 0 || n < count)
			wait_until(now_ns + t->interval_ns);
	}
	return CLI_DONE;
}

int cli_top(const struct cli *c)
{
	bool plain = c->json || c->once || c->count || !isatty(STDOUT_FILENO) ||
	             !isatty(STDIN_FILENO);
	struct top t;
	int status = top_init(&t, c);

	if (status == 0 && !plain) {
		status = top_screen(&t);
		plain = status < 0;
		status = status < 0 ? 0 : status;
	}
	if (status == 0 && plain)
		status = blocks(&t, c->once ? 1 : c->count);
	top_free(&t);
	return status;
}
