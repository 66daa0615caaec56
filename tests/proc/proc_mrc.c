/* proc_mrc - does a store say what it would miss with other memory, and why auto chose what it chose?
 *
 * A trace goes through the daemon; what the store says then has to be near to what simulations of the same trace say.
 *
 * Planted bugs (shm/step.h) that this file must catch: 316.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli_run.h"

enum { SIZE = 400, OBJECTS = 4000, REQUESTS = 40000, POINTS = 9, WAIT_MS = 20000 };
#define NEAR 0.05 /* 0.01 on an idle machine; hints come late, and rings run over */

static const char *write_trace(void)
{
	static char path[4096];

	(void)snprintf(path, sizeof path, "%s/t.csv", t_dir());
	FILE *f = fopen(path, "we");
	CHECK(f != NULL);
	for (int i = 0; i < REQUESTS; i++)
		CHECK(fprintf(f, "object-%llu,%llu\n",
			      (unsigned long long)t_random_below(t_random_below(OBJECTS) + 1),
			      (unsigned long long)(100)) > 0);
	CHECK_EQ(fclose(f), 0);
	return path;
}

/* The numbers behind a name, in the order in which they stand. */
static int numbers(const char *json, const char *name, double *ret, int max)
{
	char text[64];
	int n = 0;

	(void)snprintf(text, sizeof text, "\"%s\":", name);
	for (const char *at = json; n < max && (at = strstr(at, text)) != NULL; n++) {
		at += strlen(text);
		ret[n] = strtod(at, NULL);
	}
	return n;
}

static void curve_of(const struct result *r, double hits[POINTS])
{
	CHECK_EQ(r->status, 0);
	CHECK_EQ(numbers(r->out, "hit_ratio", hits, POINTS), POINTS);
}

/* Until the engine has said something of the store: of at least so many reads. */
static struct result mrc_of(const struct t_daemon *d, const char *store, double reads)
{
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(WAIT_MS) * 1000000;

	for (;;) {
		struct result r = run(d, ARGS("--json", "mrc", store));
		double n = 0;
		if (r.status == 0 && numbers(r.out, "reads", &n, 1) == 1 && n >= reads)
			return r;
		CHECK(r.status <= 1 && t_now_ns() < end_ns);
		result_free(&r);
	}
}

TEST_LIMIT(a_store_says_what_it_would_miss_with_other_memory, 120)
{
	static const char *const policies[] = {"lru", "s3-fifo"};
	const char *path = write_trace();
	double live[POINTS], simulated[POINTS], measured = 0;
	struct t_daemon *d = t_daemon_start(
		"heartbeat: 100ms\npools:\n  main: {size: 64MiB, huge_pages: \"off\"}\nstores:\n"
		"  lru: {policy: lru, max_entries: 400}\n"
		"  s3-fifo: {policy: s3-fifo, max_entries: 400}\n",
		NULL);

	for (int p = 0; p < 2; p++) {
		check_status(d, 0, ARGS("replay", path, "--store", policies[p]));
		struct result l = mrc_of(d, policies[p], REQUESTS);
		struct result s = run(NULL,
			ARGS("--json", "mrc", path, "--sizes", "400", "--simulate", policies[p]));
		curve_of(&l, live);
		curve_of(&s, simulated);
		CHECK_EQ(numbers(l.out, "measured_hit_ratio", &measured, 1), 1);
		for (int i = 0; i < POINTS; i++) {
			printf("     %-8s %d: live %.4f simulated %.4f\n", policies[p], i, live[i],
				simulated[i]);
			CHECK(live[i] > simulated[i] - NEAR && live[i] < simulated[i] + NEAR);
		}
		CHECK(measured > live[4] - NEAR && measured < live[4] + NEAR);
		result_free(&l);
		result_free(&s);
	}
	/* The next engine begins with what is there; meanwhile the last one's curve stands. */
	pid_t engine = t_daemon_kill_engine(d, SIGKILL);
	(void)t_daemon_wait_engine(d, engine);
	check_status(d, 0, ARGS("replay", path, "--store", "lru"));
	struct result l = mrc_of(d, "lru", REQUESTS);
	curve_of(&l, live);
	CHECK(live[4] > 0.1 && live[4] < 0.3);
	result_free(&l);
	t_daemon_stop(d);
}

TEST_LIMIT(auto_says_what_it_goes_by, 120)
{
	const char *path = write_trace();
	double misses = 0;
	struct t_daemon *d = t_daemon_start(
		"heartbeat: 100ms\npools:\n  main: {size: 64MiB, huge_pages: \"off\"}\nstores:\n"
		"  a: {policy: auto, max_entries: 400}\n  b: {policy: lru}\n",
		NULL);

	check_status(d, 0, ARGS("replay", path, "--store", "a"));
	struct result r = mrc_of(d, "a", REQUESTS);
	check_says(&r, "\"policy\":\"auto\"", "\"simulated\":\"", NULL);
	result_free(&r);
	r = run(d, ARGS("--json", "stat", "--store", "a"));
	check_says(&r, "\"choice\":\"", "\"miss_ratios\":{\"w-tinylfu\":", NULL);
	CHECK_EQ(numbers(r.out, "s3-fifo", &misses, 1), 1);
	CHECK(misses > 0.2 && misses < 0.9);
	result_free(&r);
	r = run(d, ARGS("stat", "--store", "a"));
	check_says(&r, "policy auto: now ", "misses lately, had it been w-tinylfu ", NULL);
	result_free(&r);
	r = run(d, ARGS("stat", "--store", "b"));
	CHECK(strstr(r.out, "policy auto") == NULL);
	result_free(&r);
	t_daemon_stop(d);
}

TEST(what_has_no_curve_is_said)
{
	const char *path = write_trace();
	struct t_daemon *d = t_daemon_start(
		"pools:\n  main: {size: 16MiB, huge_pages: \"off\"}\nstores:\n  default: {}\n"
		"  keeps: {policy: ttl}\n  off: {what_if: false}\n",
		NULL);

	check_status(d, 1, ARGS("mrc"));
	check_status(d, 0, ARGS("--store", "off", "set", "k", "v"));
	check_status(d, 0, ARGS("--store", "off", "get", "k"));
	check_status(d, 1, ARGS("mrc", "off"));
	check_status(d, 1, ARGS("mrc", "keeps"));
	check_status(d, 5, ARGS("mrc", "nowhere"));
	check_status(d, 2, ARGS("mrc", "--store", "a", "b"));
	t_daemon_stop(d);
	check_status(NULL, 2, ARGS("mrc", "--sizes", "100"));
	check_status(NULL, 2, ARGS("mrc", path, "--simulate", "lru"));
	check_status(NULL, 2, ARGS("mrc", path, "--sizes", "0"));
	check_status(NULL, 2, ARGS("mrc", path, "--sizes", "100", "--simulate", "ttl"));
	check_status(NULL, 2, ARGS("mrc", path, "--sizes", "100", "--simulate", "nonsense"));
	check_status(NULL, 5, ARGS("mrc", "nowhere.csv", "--sizes", "100"));
}

/* 80 columns, and nothing but ASCII where the terminal's letters are not known. */
TEST(the_plot_fits_a_terminal)
{
	const char *path = write_trace();

	CHECK_EQ(setenv("LC_ALL", "C", 1), 0);
	struct result r = run(NULL, ARGS("mrc", path, "--sizes", "10%"));
	CHECK_EQ(r.status, 0);
	size_t column = 0;
	for (size_t i = 0; i < r.bytes; i++) {
		column = r.out[i] == '\n' ? 0 : column + 1;
		CHECK(column <= 80 && (unsigned char)r.out[i] < 127);
	}
	CHECK(strstr(r.out, "###") != NULL);
	result_free(&r);
}
