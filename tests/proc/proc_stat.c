/* proc_stat.c - what stat says, against known traffic of several processes: also across their deaths and the
 * engine's, and how it judges each store's health. */
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include "cli_run.h"
#include "hypercache.h"

/* ------------------------------------------------------------------ known traffic */

/* What a client process is told to do, one at a time, by its pipe. */
struct order {
	uint32_t hits, misses, sets;
	bool end; /* by hc_close(); else it waits for the next order, or its death */
};

struct client {
	pid_t pid;
	int to, from;
};

static void client_obey(struct hc *hc, struct hc_store *s, uint32_t id, const struct order *o)
{
	char key[32], buf[64];
	size_t n;

	for (uint32_t i = 0; i < o->sets; i++) {
		int k = snprintf(key, sizeof key, "%u-%u", id, i);
		CHECK_EQ(hc_set(s, key, (size_t)k, "0123456789", 10, NULL), HC_OK);
	}
	int k = snprintf(key, sizeof key, "%u-0", id);
	for (uint32_t i = 0; i < o->hits; i++)
		CHECK_EQ(hc_get(s, key, (size_t)k, buf, sizeof buf, &n), HC_OK);
	for (uint32_t i = 0; i < o->misses; i++)
		CHECK_EQ(hc_get(s, "absent", 6, buf, sizeof buf, &n), HC_MISS);
	if (o->end)
		hc_close(hc);
}

static void client_run(const struct t_daemon *d, uint32_t id, int from, int to)
{
	struct hc_open_opts opts = HC_OPTS(hc_open_opts);
	struct hc_store *s;
	struct order o;
	struct hc *hc;

	opts.socket = d->socket;
	opts.timeout_ms = (uint32_t)t_limit_ms(LIMIT_MS);
	CHECK_EQ(hc_open(&hc, &opts), HC_OK);
	CHECK_EQ(hc_store(hc, "default", &s), HC_OK);
	while (read(from, &o, sizeof o) == (ssize_t)sizeof o) {
		client_obey(hc, s, id, &o);
		CHECK_EQ(write(to, "", 1), 1);
		if (o.end)
			break;
	}
	_exit(0);
}

static struct client client_start(const struct t_daemon *d, uint32_t id)
{
	struct client c;
	int in[2], out[2];

	CHECK(pipe(in) == 0 && pipe(out) == 0);
	c.pid = fork();
	CHECK(c.pid >= 0);
	if (c.pid == 0) {
		close(in[1]);
		close(out[0]);
		client_run(d, id, in[0], out[1]);
	}
	close(in[0]);
	close(out[1]);
	c.to = in[1];
	c.from = out[0];
	return c;
}

static void client_order(const struct client *c, struct order o)
{
	char done;

	CHECK_EQ(write(c->to, &o, sizeof o), (ssize_t)sizeof o);
	CHECK(t_wait_fd(c->from, POLLIN, LIMIT_MS));
	CHECK_EQ(read(c->from, &done, 1), 1);
}

static void client_end(struct client *c, int sig)
{
	if (sig)
		CHECK_EQ(kill(c->pid, sig), 0);
	close(c->to);
	close(c->from);
	(void)t_wait_child(c->pid, LIMIT_MS);
}

/* ------------------------------------------------------------------ totals */

struct total {
	uint64_t hits, misses, sets, sessions;
};

static struct total total_now(const struct t_daemon *d)
{
	struct result r = run(d, ARGS("stat", "--json"));
	struct total t;

	CHECK_EQ(r.status, 0);
	const char *stores = strstr(r.out, "\"stores\":");
	CHECK(stores != NULL);
	t = (struct total){json_number(stores, "hits"), json_number(stores, "misses"),
		json_number(stores, "sets"), json_number(r.out, "sessions")};
	result_free(&r);
	return t;
}

static void check_total(const struct t_daemon *d, const struct total *want)
{
	struct total t = total_now(d);

	CHECK_EQ(t.hits, want->hits);
	CHECK_EQ(t.misses, want->misses);
	CHECK_EQ(t.sets, want->sets);
}

static void order_all(struct client *c, uint32_t n, struct order o, struct total *want)
{
	for (uint32_t i = 0; i < n; i++) {
		o.hits += i;
		client_order(&c[i], o);
		want->hits += o.hits;
		want->misses += o.misses;
		want->sets += o.sets;
	}
}

/* Waits until the engine knows of so many sessions. */
static void wait_sessions(const struct t_daemon *d, uint64_t n)
{
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(LIMIT_MS) * 1000000;

	while (total_now(d).sessions != n)
		CHECK(t_now_ns() < end_ns);
}

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
