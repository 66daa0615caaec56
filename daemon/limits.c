/* limits.c - the table of limits, printed. */
#include <string.h>
#include "admin.h"
#include "base/check.h"
#include "config_value.h"
#include "eng.h"
#include "hypercache.h"
#include "late.h"
#include "layout/l_client.h"
#include "limit_table.h"
#include "wire.h"

/* One line; number and unit: a fixed one, key NULL. */
struct line {
	const char *what, *key, *more, *beyond;
	uint64_t number;
	const char *unit;
};

#define LINE_KEY_(what, key, more, beyond, test) {what, key, more, beyond, 0, NULL},
#define LINE_FIXED_(what, number, unit, beyond, test) {what, NULL, "", beyond, number, unit},
#define LINE_BOUND_(what, number, unit) {what, NULL, "", NULL, number, unit},
static const struct line lines[] = {LIMITS(LINE_KEY_, LINE_FIXED_)};
static const struct line bounds[] = {LIMITS_BOUNDS(LINE_BOUND_)};

static void key_print(const struct line *l, FILE *to)
{
	const struct config_key *k = config_keys;
	static const char *const scope[] = {
		[CONFIG_ROOT] = "", [CONFIG_POOL] = "pool's ", [CONFIG_STORE] = "store's "};

	while (strcmp(k->name, l->key) != 0)
		CHECK(++k <
			config_keys + CONFIG_N_KEYS); /* limit_table.h names keys that there are */
	fprintf(to, "%s`%s`: %s (%s..%s)%s%s", scope[k->scope], k->name, k->def, k->min, k->max,
		*l->more ? ", " : "", l->more);
}

static void number_print(const struct line *l, FILE *to)
{
	char text[CONFIG_NUMBER_BYTES];

	if (strncmp(l->unit, "bytes", 5) == 0)
		fprintf(to, "%s%s", config_bytes_format(l->number, text), l->unit + 5);
	else
		fprintf(to, "%llu%s%s", (unsigned long long)l->number,
			*l->unit && strcmp(l->unit, "th") != 0 ? " " : "", l->unit);
}

void limits_print(FILE *to)
{
	fputs("| what | limit: default (range), or fixed | beyond it |\n|---|---|---|\n", to);
	for (const struct line *l = lines; l < lines + sizeof lines / sizeof *lines; l++) {
		fprintf(to, "| %s | ", l->what);
		if (l->key)
			key_print(l, to);
		else
			number_print(l, to);
		fprintf(to, " | %s |\n", l->beyond);
	}
	fputs("\nThese only spread the engine's work; nobody is refused by them:\n\n"
	      "| what | bound |\n|---|---|\n",
		to);
	for (const struct line *l = bounds; l < bounds + sizeof bounds / sizeof *bounds; l++) {
		fprintf(to, "| %s | ", l->what);
		number_print(l, to);
		fputs(" |\n", to);
	}
}
