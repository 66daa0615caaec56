/* proc_keys - do big and prefixes name the right keys, in the right order, with the right sums?
 *
 * Planted bugs (shm/step.h) that this file must catch: 318.
 */
#include <stdio.h>
#include <string.h>
#include "cli_run.h"
#include "hypercache.h"

enum { GROUPS = 20, EACH = 30, WAIT_MS = 10000 };

static struct t_daemon *d;
static struct hc *hc;
static struct hc_store *s;

static void set(const char *key, size_t bytes)
{
	static const char value[4096];

	CHECK_EQ(hc_set(s, key, strlen(key), value, bytes, NULL), HC_OK);
}

/* Group g has EACH keys, each with a value of 10 * g bytes. */
static void begin(void)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	char key[64];

	d = t_daemon_start(
		"heartbeat: 100ms\npools:\n  main: {size: 8MiB, huge_pages: \"off\"}\n", NULL);
	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(WAIT_MS);
	CHECK_EQ(hc_open(&hc, &o), HC_OK);
	CHECK_EQ(hc_store(hc, "default", &s), HC_OK);
	for (int g = 1; g <= GROUPS; g++)
		for (int i = 0; i < EACH; i++) {
			(void)snprintf(key, sizeof key, "group-%02d:%02d", g, i);
			set(key, (size_t)(10 * g));
		}
	set("alone", 1);
	set("largest", 4000);
	set("large\x01st", 3000);
}

static void end(void)
{
	hc_close(hc);
	t_daemon_stop(d);
}

static void check_order(const char *out, const char *first, const char *second)
{
	const char *a = strstr(out, first), *b = strstr(out, second);

	if (!a || !b || a > b)
		t_fail(__FILE__, __LINE__, "%s does not stand before %s:\n%s", first, second, out);
}

TEST(the_largest_come_first)
{
	begin();
	struct result r = run(d, ARGS("big", "--limit", "3"));
	CHECK_EQ(r.status, 0);
	check_order(r.out, "largest", "large?st");
	check_order(r.out, "large?st", "group-20:");
	CHECK(strstr(r.out, "group-19:") == NULL);
	result_free(&r);
	r = run(d, ARGS("--json", "big", "--limit", "1"));
	check_says(&r, "\"entries\":603", "\"keys\":[{\"key\":\"largest\",\"bytes\":4007}]", NULL);
	result_free(&r);
	end();
}

TEST(prefixes_add_up)
{
	begin();
	struct result r = run(d, ARGS("--json", "prefixes", "--limit", "30"));
	CHECK_EQ(r.status, 0);
	/* 30 keys of 11 bytes with values of 200, and of 10 */
	check_says(&r, "{\"prefix\":\"group-20:\",\"entries\":30,\"bytes\":6330,\"hits_seen\":0}",
		"{\"prefix\":\"group-01:\",\"entries\":30,\"bytes\":630,",
		"{\"prefix\":\"\",\"entries\":3,\"bytes\":7021,", NULL);
	check_order(r.out, "\"\"", "group-20:");
	for (int g = GROUPS; g > 1; g--) {
		char a[32], b[32];
		(void)snprintf(a, sizeof a, "group-%02d:", g);
		(void)snprintf(b, sizeof b, "group-%02d:", g - 1);
		check_order(r.out, a, b);
	}
	result_free(&r);
	r = run(d, ARGS("prefixes", "-0", "--limit", "1"));
	CHECK_EQ(r.status, 2); /* an option that is none */
	result_free(&r);
	r = run(d, ARGS("prefixes", "p-", "--limit", "1"));
	check_says(&r, "group-", " 600 ", "and 1 more", NULL);
	result_free(&r);
	check_status(d, 2, ARGS("prefixes", ""));
	check_status(d, 2, ARGS("big", "--limit", "1001"));
	check_status(d, 5, ARGS("big", "--store", "none"));
	end();
}
