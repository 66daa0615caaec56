/* proc_stat.c - what stat says, against known traffic of several processes: also across their deaths and the
 * engine's, and how it judges each store's health. */
#include "../../tools/health.h"
#include "traffic.h"

TEST(totals_are_exact_across_the_deaths_of_clients_and_engines)
{
	enum { N = 5 };
	struct t_daemon *d = t_daemon_start("log_level: info\n", NULL);
	struct total want = {0};
	struct client c[N];

	for (uint32_t i = 0; i < N; i++)
		c[i] = client_start(d, i);
	order_all(c, N, (struct order){.sets = 3, .hits = 100, .misses = 7}, &want);
	check_total(d, &want);
	client_end(&c[0], SIGKILL);
	wait_sessions(d, N - 1);
	check_total(d, &want);
	pid_t engine = t_daemon_kill_engine(d, SIGKILL);
	check_total(d, &want); /* nobody counts for the engine meanwhile, and nothing is lost */
	(void)t_daemon_wait_engine(d, engine);
	check_total(d, &want);
	order_all(c + 1, N - 1, (struct order){.sets = 2, .hits = 1000, .misses = 50}, &want);
	check_total(d, &want);
	/* Who dies while there is no engine is found by the next one. */
	engine = t_daemon_kill_engine(d, SIGKILL);
	client_end(&c[1], SIGKILL);
	(void)t_daemon_wait_engine(d, engine);
	wait_sessions(d, N - 2);
	check_total(d, &want);
	order_all(c + 2, N - 2, (struct order){.hits = 10, .end = true}, &want);
	for (int i = 2; i < N; i++)
		client_end(&c[i], 0);
	wait_sessions(d, 0);
	check_total(d, &want);
	t_daemon_stop(d);
}

TEST(clients_says_what_each_has_read_of_each_store)
{
	struct t_daemon *d = t_daemon_start("stores: { default: {}, other: {} }\n", NULL);
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct client c = client_start(d, 0);
	struct hc_store *s;
	char buf[64];
	struct hc *hc;

	client_order(&c, (struct order){.sets = 1, .hits = 12, .misses = 5});
	o.socket = d->socket;
	o.name = "second";
	CHECK_EQ(hc_open(&hc, &o), HC_OK);
	CHECK_EQ(hc_store(hc, "other", &s), HC_OK);
	CHECK_EQ(hc_set(s, "k", 1, "abc", 3, NULL), HC_OK);
	for (int i = 0; i < 4; i++)
		CHECK_EQ(hc_get(s, "k", 1, buf, sizeof buf, NULL), HC_OK);
	struct result r = run(d, ARGS("clients", "--json"));
	CHECK_EQ(r.status, 0);
	check_says(&r, "\"reads\":17,\"hits\":12,\"hit_bytes\":120,",
		"\"stores\":[{\"name\":\"default\",\"hits\":12,\"misses\":5,\"hit_bytes\":120}]",
		"\"reads\":4,\"hits\":4,\"hit_bytes\":12,",
		"\"stores\":[{\"name\":\"other\",\"hits\":4,\"misses\":0,\"hit_bytes\":12}]",
		"\"requests\":1}", NULL);
	result_free(&r);
	r = run(d, ARGS("clients", "--verbose"));
	check_says(&r, "of store default", "of store other", " 120 B", " second\n", NULL);
	result_free(&r);
	client_order(&c, (struct order){.sets = 6, .end = true});
	hc_close(hc);
	client_end(&c, 0);
	wait_sessions(d, 0);
	r = run(d, ARGS("stat", "--json"));
	CHECK_EQ(json_number(r.out, "folded_requests"), 10); /* and two that say goodbye */
	result_free(&r);
	t_daemon_stop(d);
}

/* A store of two entries, the first of which were there while a program ran. */
TEST(what_is_evicted_is_told_with_its_age)
{
	struct t_daemon *d = t_daemon_start("stores: { default: { max_entries: 2 } }\n", NULL);

	for (int i = 0; i < 3; i++) {
		char key[2] = {(char)('a' + i), 0};
		check_status(d, 0, ARGS("set", key, "v"));
		check_status(d, 0, ARGS("stat"));
	}
	struct result r = run(d, ARGS("stat", "--json", "--latency"));
	const char *age = strstr(r.out, "\"evicted_age\":{\"unit\":\"ms\",\"count\":");
	CHECK(age != NULL);
	CHECK(json_number(age, "count") >= 1 && json_number(age, "max") >= 1);
	result_free(&r);
	r = run(d, ARGS("stat", "--latency"));
	check_says(&r, "evicted_age", NULL);
	result_free(&r);
	t_daemon_stop(d);
}

/* ------------------------------------------------------------------ windows, health */

/* Runs stat until all of these texts are in what it says. */
static void wait_says(
	const struct t_daemon *d, const char *const *args, const char *a, const char *b)
{
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(LIMIT_MS) * 1000000;
	bool seen = false;

	while (!seen) {
		struct result r = run(d, args);
		CHECK_EQ(r.status, 0);
		seen = strstr(r.out, a) && strstr(r.out, b);
		if (!seen && t_now_ns() >= end_ns)
			t_fail(__FILE__, __LINE__, "no \"%s\", \"%s\" in: %s", a, b, r.out);
		result_free(&r);
	}
}

/* A look that began before a session ended, and adds up when it has: it is counted once. */
TEST(who_ends_while_somebody_adds_up_is_counted_once)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	char why[HYPERCACHE_ADMIN_WHY_BYTES];
	struct hypercache_admin before;
	struct total want = {0};
	struct client c[2];

	for (uint32_t i = 0; i < 2; i++)
		c[i] = client_start(d, i);
	order_all(c, 2, (struct order){.sets = 1, .hits = 20, .misses = 3}, &want);
	CHECK_EQ(hypercache_admin_open(d->admin, t_limit_ms(LIMIT_MS), &before, why), 0);
	CHECK_EQ(hypercache_reads(&before, 0).hits, want.hits);
	client_end(&c[0], SIGKILL);
	wait_sessions(d, 1);
	struct hypercache_reads r = hypercache_reads(&before, 0);
	CHECK_EQ(r.hits, want.hits);
	CHECK_EQ(r.misses, want.misses);
	CHECK_EQ(r.hit_bytes, want.hits * 10);
	hypercache_admin_close(&before);
	client_end(&c[1], SIGKILL);
	t_daemon_stop(d);
}

TEST(what_was_read_lately_is_in_the_windows)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct client c = client_start(d, 0);
	struct total want = {0};

	order_all(&c, 1, (struct order){.sets = 1, .hits = 30, .misses = 10}, &want);
	wait_says(d, ARGS("stat", "--json", "--store", "default"),
		"\"hits_60s\":30,\"misses_60s\":10,", "\"hit_ratio_60s\":0.750000");
	struct result r = run(d, ARGS("stat", "--store", "default"));
	check_says(&r, "hit ratio, 10 s", "hit ratio, 60 s     75.00 % of 40 reads",
		"hit ratio, all", NULL);
	result_free(&r);
	client_end(&c, 0);
	t_daemon_stop(d);
}

TEST(health_is_said_with_its_reason)
{
	struct t_daemon *d = t_daemon_start("stores: { default: {}, small: { max_entries: 2 },\n"
					    "  kept: { policy: ttl, max_entries: 2 } }\n",
		NULL);

	wait_says(d, ARGS("stat", "--json", "--store", "small"), "\"health\":\"ok\"",
		"\"health_why\":\"\"");
	for (int i = 0; i < 3; i++) {
		char key[2] = {(char)('a' + i), 0};
		check_status(d, 0, ARGS("set", key, "v", "--store", "small"));
		check_status(d, i < 2 ? 0 : 5, ARGS("set", key, "v", "--store", "kept"));
	}
	wait_says(d, ARGS("stat", "--json", "--store", "small"), "\"health\":\"pressure\"",
		"\"health_why\":\"it is at its own limit: 1 of ");
	wait_says(d, ARGS("stat", "--json", "--store", "kept"), "\"health\":\"degraded\"",
		"\"health_why\":\"1 writes of the last minute were refused");
	wait_says(d, ARGS("stat"), "store small, pressure: it is at its own limit",
		"store kept, degraded: 1 writes");
	wait_says(d, ARGS("stat", "--json", "--store", "default"), "\"health\":\"ok\"", "");
	pid_t engine = t_daemon_engine(d);
	CHECK_EQ(kill(engine, SIGSTOP), 0);
	wait_says(d, ARGS("stat", "--json", "--store", "default"), "\"health\":\"degraded\"",
		"not serving (stopped by a signal)");
	wait_says(d, ARGS("stat"), "degraded: the engine is not serving", "");
	CHECK_EQ(kill(engine, SIGCONT), 0);
	wait_says(d, ARGS("stat", "--json", "--store", "default"), "\"health\":\"ok\"", "");
	t_daemon_stop(d);
}

/* ------------------------------------------------------------------ latencies */

/* How many values a histogram of `stat --latency --json` has, all told; they are its buckets'. */
static uint64_t latency_count(const char *json, const char *name)
{
	char want[64], *end;
	uint64_t sum = 0;

	(void)snprintf(want, sizeof want, "\"%s\":{\"unit\":\"ns\",", name);
	const char *at = strstr(json, want);
	CHECK(at != NULL);
	uint64_t n = json_number(at, "count");
	CHECK(json_number(at, "p50") <= json_number(at, "p90"));
	CHECK(json_number(at, "p90") <= json_number(at, "p999"));
	CHECK(json_number(at, "p999") <= json_number(at, "max"));
	CHECK(json_number(at, "sum") <= json_number(at, "max") * n);
	const char *b = strstr(at, "\"buckets\":[") + strlen("\"buckets\":[");
	for (uint64_t last = 0; *b == '['; b = end + (end[1] == ',' ? 2 : 1)) {
		uint64_t low = strtoull(b + 1, &end, 10);
		CHECK(sum == 0 || low > last);
		last = low;
		sum += strtoull(end + 1, &end, 10);
		CHECK_EQ(*end, ']');
	}
	CHECK_EQ(sum, n);
	return n;
}

static char *latency_json(const struct t_daemon *d)
{
	struct result r = run(d, ARGS("stat", "--latency", "--json"));

	CHECK_EQ(r.status, 0);
	free(r.err);
	return r.out;
}

TEST(each_request_is_in_the_histogram_of_its_verb_also_after_a_restart)
{
	struct t_daemon *d = t_daemon_start("heartbeat: 100ms\n", NULL);
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct hc_store *s;
	struct hc *hc;
	int64_t number;

	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(LIMIT_MS);
	CHECK_EQ(hc_open(&hc, &o), HC_OK);
	CHECK_EQ(hc_store(hc, "default", &s), HC_OK);
	for (int i = 0; i < 50; i++) {
		CHECK_EQ(hc_set(s, "k", 1, "1", 1, NULL), HC_OK);
		if (i < 20)
			CHECK_EQ(hc_ping(hc), HC_OK);
		if (i < 7)
			CHECK_EQ(hc_incr(s, "k", 1, 1, NULL, &number), HC_OK);
		if (i < 5)
			CHECK_EQ(hc_delete(s, "k", 1), HC_OK);
	}
	CHECK_EQ(hc_clear(s, NULL), HC_OK);
	pid_t engine = t_daemon_kill_engine(d, SIGKILL);
	(void)t_daemon_wait_engine(d, engine);
	CHECK_EQ(hc_set(s, "k", 1, "1", 1, NULL), HC_OK);
	char *json = latency_json(d);
	CHECK_EQ(latency_count(json, "set"), 51);
	CHECK_EQ(latency_count(json, "ping"), 20);
	CHECK_EQ(latency_count(json, "incr"), 7);
	CHECK_EQ(latency_count(json, "delete"), 5);
	CHECK_EQ(latency_count(json, "clear"), 1);
	CHECK_EQ(latency_count(json, "hello"), 2); /* again, to the second engine */
	CHECK_EQ(latency_count(json, "touch"), 0);
	CHECK_EQ(latency_count(json, "adopt"), 2);
	CHECK(latency_count(json, "turn") > 0);
	free(json);
	struct result r = run(d, ARGS("stat", "--latency"));
	check_says(&r, "p99.9", "\nset                  51 ", "SET, in a frame of its own", NULL);
	result_free(&r);
	check_status(d, 2, ARGS("stat", "--latency", "--store", "default"));
	hc_close(hc);
	t_daemon_stop(d);
}

/* ------------------------------------------------------------------ rates */

/* The number, with its fraction, that follows "name". */
static double json_fraction(const char *json, const char *name)
{
	char want[64];

	(void)snprintf(want, sizeof want, "\"%s\":", name);
	const char *at = strstr(json, want);
	CHECK(at != NULL);
	return strtod(at + strlen(want), NULL);
}

TEST(rates_add_up_to_what_was_done)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct client c = client_start(d, 0);
	double hits = 0, sets = 0, bytes = 0;

	client_order(&c, (struct order){.sets = 20, .hits = 500}); /* before: is in no line */
	struct t_proc *p = t_spawn((const char *[]){t_bin("hypercache"), "--admin", d->admin, "-w",
					   "stat", "--json", NULL},
		NULL);
	for (int line = 0; hits < 2999.5; line++) {
		CHECK(line < 30);
		char *text = t_proc_line(p, "\"seconds\":", LIMIT_MS);
		double seconds = json_fraction(text, "seconds");
		CHECK(seconds > 0.5);
		hits += json_fraction(text, "hits_per_s") * seconds;
		sets += json_fraction(text, "sets_per_s") * seconds;
		bytes += json_fraction(text, "hit_bytes_per_s") * seconds;
		free(text);
		if (line == 0)
			client_order(&c, (struct order){.sets = 30, .hits = 3000});
	}
	CHECK(hits < 3000.5);
	CHECK(sets > 29.5 && sets < 30.5);
	CHECK(bytes > 29999 && bytes < 30001);
	t_proc_kill(p, LIMIT_MS);
	t_proc_free(p);
	struct result r = run(d, ARGS("stat", "-w", "--count", "1", "--store", "default"));
	CHECK_EQ(r.status, 0);
	check_says(&r, "hits/s", "\ndefault ", " ok\n", NULL);
	result_free(&r);
	check_status(d, 5, ARGS("stat", "-w", "--count", "1", "--store", "none"));
	check_status(d, 2, ARGS("stat", "--count", "1"));
	check_status(d, 2, ARGS("stat", "-w", "--latency"));
	client_end(&c, 0);
	t_daemon_stop(d);
}
