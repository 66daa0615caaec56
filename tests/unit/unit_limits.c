/* unit_limits.c - is the table of limits complete, is it what the README shows, and does each limit have
 * a test that meets it? */
#include <stdlib.h>
#include <string.h>
#include "../../daemon/config_value.h"
#include "../../daemon/limit_table.h"
#include "../kit/t.h"

#define KEY_(what, key, more, beyond, test) {what, key, test},
#define FIXED_(what, number, unit, beyond, test) {what, NULL, test},
static const struct {
	const char *what, *key, *test;
} limits[] = {LIMITS(KEY_, FIXED_)};
enum { N_LIMITS = sizeof limits / sizeof *limits };

/* A file of the sources, for the caller to free; NULL: there is none. */
static char *source_read(const char *name)
{
	const char *root = getenv("HC_SOURCE_ROOT");
	char path[512], *text = calloc(1, 1 << 20);

	if (!root)
		SKIP("HC_SOURCE_ROOT is not set: run it through meson test");
	(void)snprintf(path, sizeof path, "%s/%s", root, name);
	FILE *f = fopen(path, "re");
	CHECK(text);
	if (f) {
		CHECK(fread(text, 1, (1 << 20) - 1, f) > 0);
		fclose(f);
		return text;
	}
	free(text);
	return NULL;
}

TEST(the_readme_shows_the_table)
{
	static const char begin[] = "<!-- limits -->\n", end[] = "<!-- end of limits -->\n";
	char *readme = source_read("daemon/README.md"), *table = NULL;
	size_t n = 0;

	CHECK(readme);
	FILE *to = open_memstream(&table, &n);
	CHECK(to);
	limits_print(to);
	CHECK(fclose(to) == 0);
	char *from = strstr(readme, begin), *till = strstr(readme, end);
	CHECK(from && till && from < till);
	*till = 0;
	if (strcmp(from + strlen(begin), table) != 0)
		t_fail(__FILE__, __LINE__,
			"put the output of `hypercached --help-limits` between the marks of "
			"daemon/README.md:\n%s",
			table);
	free(table);
	free(readme);
}

TEST(each_limit_has_a_test_that_meets_it)
{
	for (int i = 0; i < N_LIMITS; i++) {
		char file[128], head[160], suite[16];
		const char *dot = strchr(limits[i].test, '.'), *low = strchr(limits[i].test, '_');
		CHECK(dot && low && low < dot);
		(void)snprintf(
			suite, sizeof suite, "%.*s", (int)(low - limits[i].test), limits[i].test);
		(void)snprintf(file, sizeof file, "tests/%s/%.*s.c", suite,
			(int)(dot - limits[i].test), limits[i].test);
		char *text = source_read(file);
		(void)snprintf(head, sizeof head, "(%s", dot + 1);
		if (!text || !strstr(text, head))
			t_fail(__FILE__, __LINE__, "%s: there is no test %s", limits[i].what,
				limits[i].test);
		free(text);
	}
}

/* Keys that limit somebody are called so. */
static bool is_a_limit(const char *name)
{
	size_t n = strlen(name);

	return strncmp(name, "max_", 4) == 0 || strstr(name, "_per_") ||
	       (n > 8 && strcmp(name + n - 8, "_timeout") == 0) ||
	       (n > 6 && strcmp(name + n - 6, "_limit") == 0) ||
	       (n > 4 && strcmp(name + n - 4, "_cap") == 0);
}

TEST(each_key_that_limits_somebody_is_in_the_table)
{
	int n = 0;

	for (const struct config_key *k = config_keys; k < config_keys + CONFIG_N_KEYS; k++) {
		bool found = false;
		for (int i = 0; i < N_LIMITS; i++)
			found = found || (limits[i].key && strcmp(limits[i].key, k->name) == 0);
		if (is_a_limit(k->name) && !found)
			t_fail(__FILE__, __LINE__, "%s is not in daemon/limit_table.h", k->name);
		n += found;
	}
	CHECK(n >= 10);
}

TEST(each_number_of_the_engine_is_in_the_table)
{
	char *eng = source_read("daemon/eng.h"), *table = source_read("daemon/limit_table.h");
	int n = 0;

	CHECK(eng && table);
	char *from = strstr(eng, "/* The limits of README.md"),
	     *till = strstr(eng, "struct eng;\n");
	CHECK(from && till && from < till);
	*till = 0;
	for (char *at = from; (at = strstr(at, "ENG_")); n++) {
		size_t bytes = strspn(at, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_");
		char name[64];
		(void)snprintf(name, sizeof name, "%.*s", (int)bytes, at);
		if (!strstr(table, name))
			t_fail(__FILE__, __LINE__, "%s is not in daemon/limit_table.h", name);
		at += bytes;
	}
	CHECK(n >= 10);
	free(eng);
	free(table);
}
