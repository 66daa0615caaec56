/* proc_metrics.c - metrics and health over HTTP, as a scraper, a probe and a hostile stranger see them. */
#include "metrics.h"
#include "raw.h"

static const char open_metrics[] =
	"application/openmetrics-text;version=1.0.0,application/"
	"openmetrics-text;version=0.0.1;q=0.75,"
	"text/plain;version=0.0.4;q=0.5,*/*;q=0.1"; /* what Prometheus 2.42 says */

/* ---------------------------------------------------------------------- pages */

static char *source(const char *name)
{
	const char *root = getenv("HC_SOURCE_ROOT");
	char *path = NULL;

	if (!root)
		SKIP("HC_SOURCE_ROOT is not set");
	CHECK(asprintf(&path, "%s/%s", root, name) > 0);
	return path;
}

static void judge(const char *const *argv, const struct http *page)
{
	char *out, *err;
	int status = t_run(argv, page->body, page->body_bytes, &out, NULL, &err, HTTP_LIMIT_MS);

	if (status != 0)
		t_fail(__FILE__, __LINE__, "%s: %d: %s%s%s", argv[0], status, out, err, page->body);
	free(out);
	free(err);
}

static void pages_judge(const struct served *s)
{
	char *checker = source("tests/page_check");
	struct http h = http_get(s, "/metrics", NULL);

	CHECK_EQ(h.status, 200);
	CHECK(strstr(h.text, "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n") != NULL);
	judge((const char *[]){checker, NULL}, &h);
	if (access("/usr/bin/promtool", X_OK) == 0)
		judge((const char *[]){"/usr/bin/promtool", "check", "metrics", NULL}, &h);
	http_free(&h);
	h = http_get(s, "/metrics", open_metrics);
	CHECK_EQ(h.status, 200);
	CHECK(strstr(h.text, "Content-Type: application/openmetrics-text; version=1.0.0;") != NULL);
	judge((const char *[]){checker, "--openmetrics", NULL}, &h);
	http_free(&h);
	free(checker);
}

TEST(the_page_is_right_in_both_formats_whatever_clients_are_called)
{
	struct served s = served_start("pools:\n"
				       "  main: {size: 8MiB, huge_pages: \"off\"}\n"
				       "  side: {size: 8MiB, huge_pages: \"off\"}\n"
				       "stores: {default: {}, other: {pool: side, limit: 1MiB}}\n");
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct hc *hc;

	pages_judge(&s); /* nothing has happened yet */
	o.socket = s.d->socket;
	o.name = "a\"b\\c\n} 1\n{x=\"";
	CHECK_EQ(hc_open(&hc, &o), HC_OK);
	struct client c[2] = {client_start(s.d, 0), client_start(s.d, 1)};
	for (int i = 0; i < 2; i++)
		client_order(&c[i], (struct order){.sets = 9, .hits = 20, .misses = 3});
	pages_judge(&s);
	struct http h = http_get(&s, "/metrics", NULL);
	if (!strstr(h.body, "name=\"a\\\"b\\\\c?} 1?{x=\\\"\"}"))
		t_fail(__FILE__, __LINE__, "the name is not there: %s", h.body);
	CHECK_EQ((int)sample_of(h.body, "hypercache_up"), 1);
	CHECK_EQ((int)sample_of(h.body, "hypercache_sessions"), 3);
	CHECK_EQ((int)sample_of(h.body, "hypercache_pool_limit_bytes{pool=\"side\"}"), 8 << 20);
	CHECK_EQ((int)sample_of(
			 h.body, "hypercache_store_limit_bytes{store=\"other\",pool=\"side\"}"),
		1 << 20);
	CHECK_EQ((int)sample_of(h.body, "hypercache_request_duration_seconds_count{verb=\"set\"}"),
		18);
	http_free(&h);
	hc_close(hc);
	for (int i = 0; i < 2; i++)
		client_end(&c[i], SIGKILL);
	t_daemon_stop(s.d);
}

/* What it is not handed it cannot tell anybody. */
TEST(stats_are_those_of_stat_and_no_pool_is_handed_out)
{
	struct served s = served_start(NULL);
	struct http h = http_get(&s, "/stats.json", NULL);
	struct result r = run(s.d, ARGS("stat", "--json"));

	CHECK_EQ(h.status, 200);
	CHECK(strstr(h.text, "Content-Type: application/json") != NULL);
	CHECK(strstr(h.body, "\"state\":\"serving\"") != NULL);
	CHECK(strstr(h.body, "\"stores\":[{\"name\":\"default\"") != NULL);
	CHECK(strstr(r.out, "\"write\":\"any\"") != NULL);
	CHECK(strstr(h.body, "\"write\":") == NULL);
	result_free(&r);
	http_free(&h);
	t_daemon_stop(s.d);
}

/* --------------------------------------------------------------------- counts */

static void check_counts(const struct served *s, const struct total *want)
{
	struct http h = http_get(s, "/metrics", NULL);

	CHECK_EQ(h.status, 200);
	CHECK_EQ((uint64_t)sample_of(
			 h.body, "hypercache_store_hits_total{store=\"default\",pool=\"main\"}"),
		want->hits);
	CHECK_EQ((uint64_t)sample_of(
			 h.body, "hypercache_store_misses_total{store=\"default\",pool=\"main\"}"),
		want->misses);
	CHECK_EQ((uint64_t)sample_of(
			 h.body, "hypercache_store_sets_total{store=\"default\",pool=\"main\"}"),
		want->sets);
	CHECK_EQ((uint64_t)sample_of(h.body,
			 "hypercache_store_hit_bytes_total{store=\"default\",pool=\"main\"}"),
		want->hits * 10);
	http_free(&h);
}

TEST(counts_are_exact_across_the_deaths_of_clients_and_engines)
{
	enum { N = 4 };
	struct served s = served_start(NULL);
	struct total want = {0};
	struct client c[N];

	for (uint32_t i = 0; i < N; i++)
		c[i] = client_start(s.d, i);
	order_all(c, N, (struct order){.sets = 3, .hits = 100, .misses = 7}, &want);
	check_counts(&s, &want);
	client_end(&c[0], SIGKILL);
	wait_sessions(s.d, N - 1);
	check_counts(&s, &want);
	pid_t engine = t_daemon_kill_engine(s.d, SIGKILL);
	check_counts(&s, &want);
	client_end(&c[1], SIGKILL);
	(void)t_daemon_wait_engine(s.d, engine);
	wait_sessions(s.d, N - 2);
	check_counts(&s, &want);
	order_all(c + 2, N - 2, (struct order){.sets = 1, .hits = 30, .misses = 2}, &want);
	check_counts(&s, &want);
	CHECK_EQ((int)sample_now(&s, "hypercache_engine_starts_total"), 2);
	for (int i = 2; i < N; i++)
		client_end(&c[i], SIGKILL);
	t_daemon_stop(s.d);
}

/* Of the client with this process. */
static uint64_t client_hits(const char *page, pid_t pid)
{
	char want[64];

	(void)snprintf(want, sizeof want, ",pid=\"%d\",uid=\"%u\",", pid, geteuid());
	const char *at = strstr(page, "\nhypercache_client_hits_total{"), *end = at;
	while (at && (end = strchr(at + 1, '\n'))) {
		if (memmem(at, (size_t)(end - at), want, strlen(want)))
			return (uint64_t)strtod(strstr(at, "} ") + 2, NULL);
		at = end;
	}
	t_fail(__FILE__, __LINE__, "no client %d in: %s", pid, page);
}

TEST(what_a_client_lies_is_its_own_and_clipped)
{
	struct served s = served_start(NULL);
	struct client honest = client_start(s.d, 0);
	struct raw liar = session_open(s.d);
	size_t bytes;
	struct shm_client *seg = segment_of(&liar, &bytes);
	struct shm_block *block = (struct shm_block *)(void *)(seg + 1);

	client_order(&honest, (struct order){.sets = 1, .hits = 11, .misses = 2});
	shm_store_rlx(&block->store[0].hits, UINT64_MAX);
	shm_store_rlx(&block->counter[SHM_BC_retries], UINT64_MAX);
	struct http h = http_get(&s, "/metrics", NULL);
	CHECK_EQ(client_hits(h.body, getpid()), UINT64_C(1) << 48);
	CHECK_EQ(client_hits(h.body, honest.pid), 11);
	CHECK((uint64_t)sample_of(h.body, "hypercache_reader_retries_total") <= UINT64_C(1) << 48);
	http_free(&h);
	pages_judge(&s);
	(void)munmap(seg, bytes);
	raw_close(&liar);
	client_end(&honest, SIGKILL);
	t_daemon_stop(s.d);
}

/* --------------------------------------------------------------------- health */

TEST(an_engine_that_stands_still_or_is_gone_is_said_with_the_reason)
{
	struct served s = served_start("hang_timeout: 0\n");
	pid_t engine = t_daemon_engine(s.d);

	wait_http(&s, "/readyz", 200, "ready\n");
	wait_http(&s, "/healthz", 200, "ok\n");
	CHECK_EQ(kill(engine, SIGSTOP), 0);
	wait_http(&s, "/readyz", 503, "the engine is not serving (stopped by a signal)");
	wait_http(&s, "/healthz", 200, "ok\n"); /* a new start of the daemon would not help */
	CHECK_EQ((int)sample_now(&s, "hypercache_engine_healthy"), 0);
	CHECK_EQ((int)sample_now(&s, "hypercache_engine_state_info{state=\"stopped by a signal\"}"),
		1);
	pages_judge(&s);
	(void)t_daemon_kill_engine(s.d, SIGKILL);
	(void)t_daemon_wait_engine(s.d, engine);
	wait_http(&s, "/readyz", 200, "ready\n");
	CHECK_EQ((int)sample_now(&s, "hypercache_engine_healthy"), 1);
	t_daemon_stop(s.d);
}

TEST(a_supervisor_that_stands_still_is_said)
{
	struct served s = served_start(NULL);

	t_proc_signal(s.d->proc, SIGSTOP);
	wait_http(&s, "/healthz", 503, "the supervisor did not answer in time");
	CHECK_EQ((int)sample_now(&s, "hypercache_up"), 0);
	wait_http(&s, "/stats.json", 503, "{\"error\":\"the supervisor did not answer");
	t_proc_signal(s.d->proc, SIGCONT);
	wait_http(&s, "/readyz", 200, "ready\n");
	CHECK_EQ((int)sample_now(&s, "hypercache_up"), 1);
	t_daemon_stop(s.d);
}

/* -------------------------------------------------------------------- process */

/* The child that is no engine. */
static pid_t metrics_pid(const struct served *s)
{
	pid_t pids[8], engine = t_daemon_engine(s->d);
	int n = t_children(s->d->proc->pid, pids, 8);

	for (int i = 0; i < n; i++)
		if (pids[i] != engine)
			return pids[i];
	return 0;
}

TEST(it_is_started_again_and_what_came_meanwhile_is_answered)
{
	struct served s = served_start("restart_limit: 3\n");
	uint16_t port = s.port;

	for (int i = 0; i < 3; i++) {
		pid_t pid = metrics_pid(&s);
		CHECK(pid > 0);
		CHECK_EQ(kill(pid, SIGKILL), 0);
		CHECK(t_pid_gone(pid, HTTP_LIMIT_MS));
		if (i == 2)
			break;
		wait_http(&s, "/readyz", 200, "ready\n"); /* it waited in the socket's queue */
		served_wait(&s);
		CHECK_EQ(s.port, port);
	}
	free(t_proc_line(s.d->proc, "hypercache-metrics died 3 times in a row", HTTP_LIMIT_MS));
	check_status(s.d, 0, ARGS("set", "k", "v")); /* the cache does not care */
	t_daemon_stop(s.d);
}

TEST(a_reload_moves_it_and_a_taken_port_is_refused_by_name)
{
	struct served s = served_start(NULL), other = served_start(NULL);
	char text[512];

	(void)snprintf(text, sizeof text, "metrics_listen: \"127.0.0.1:%u\"\n", other.port);
	t_daemon_configure(s.d, text);
	struct result r = run(s.d, ARGS("reload"));
	CHECK_EQ(r.status, 5);
	if (!strstr(r.err, "metrics_listen: cannot listen at 127.0.0.1:") ||
		!strstr(r.err, "Address already in use"))
		t_fail(__FILE__, __LINE__, "not that: %s", r.err);
	result_free(&r);
	wait_http(&s, "/readyz", 200, "ready\n");
	(void)snprintf(s.path, sizeof s.path, "%.200s/metrics.sock", s.d->dir);
	(void)snprintf(text, sizeof text, "metrics_listen: %s\n", s.path);
	t_daemon_configure(s.d, text);
	check_status(s.d, 0, ARGS("reload"));
	wait_http(&s, "/readyz", 200, "ready\n");
	pages_judge(&s);
	t_daemon_configure(s.d, "metrics_listen: none\n");
	check_status(s.d, 0, ARGS("reload"));
	free(t_proc_line(s.d->proc, "no metrics any more", HTTP_LIMIT_MS));
	t_wait_path(s.path, false, HTTP_LIMIT_MS);
	t_daemon_stop(s.d);
	t_daemon_stop(other.d);
}

TEST(a_port_that_is_taken_at_the_start_costs_the_metrics_alone)
{
	struct served other = served_start(NULL);
	char text[256];

	(void)snprintf(text, sizeof text, "metrics_listen: \"127.0.0.1:%u\"\n", other.port);
	struct t_daemon *d = t_daemon_launch(text, NULL);
	free(t_proc_line(d->proc, "metrics_listen: cannot listen at 127.0.0.1:", HTTP_LIMIT_MS));
	t_daemon_wait_ready(d);
	check_status(d, 0, ARGS("set", "k", "v"));
	t_daemon_stop(other.d);
	struct served s = {.d = d};
	served_wait(&s); /* it is free now, and tried again */
	wait_http(&s, "/readyz", 200, "ready\n");
	t_daemon_stop(d);
}

TEST(addresses_of_other_hosts_are_refused_with_what_to_do)
{
	static const char *const bad[] = {"0.0.0.0:9180", "192.0.2.1:9180", "[::]:9180", "9180",
		"localhost:9180", "127.0.0.1", "127.0.0.1:65536", "127.0.0.1:", "[::1:9180"};

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		char set[128], *err;
		(void)snprintf(set, sizeof set, "metrics_listen=%s", bad[i]);
		const char *argv[] = {t_bin("hypercached"), "--set", set, "--check-config", NULL};
		CHECK_EQ(t_run(argv, NULL, 0, NULL, NULL, &err, LIMIT_MS), 2);
		if (!strstr(err, "is no address of this host: use 127.0.0.1:PORT"))
			t_fail(__FILE__, __LINE__, "%s: %s", bad[i], err);
		free(err);
	}
}

/* ------------------------------------------------------------------ strangers */

TEST(requests_that_are_not_meant_are_refused)
{
	static const struct {
		const char *request;
		int least, most;
	} odd[] = {
		{"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", 405, 405},
		{"DELETE /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 405, 405},
		{"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", 404, 404},
		{"GET /metrics\r\n\r\n", 0, 505},
		{"\x16\x03\x01\x02\x01\x01\r\n\r\n\r\n", 0, 505},
	};
	struct served s = served_start(NULL);

	for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
		struct http h = http_say(&s, odd[i].request);
		if (h.status < odd[i].least || h.status > odd[i].most)
			t_fail(__FILE__, __LINE__, "%zu: %s", i, h.text);
		http_free(&h);
	}
	char *long_one = calloc(1, 100000);
	CHECK(long_one != NULL);
	int n = snprintf(long_one, 100000, "GET /metrics HTTP/1.1\r\nX: ");
	memset(long_one + n, 'x', (size_t)(99000 - n));
	struct http h = http_say(&s, long_one);
	CHECK(h.status == 0 || (h.status >= 400 && h.status < 500));
	http_free(&h);
	free(long_one);
	h = http_say(&s, "HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
	CHECK_EQ(h.status, 200);
	CHECK_EQ(h.body_bytes, 0);
	http_free(&h);
	wait_http(&s, "/readyz", 200, "ready\n");
	t_daemon_stop(s.d);
}

/* Bytes that drip, and answers that nobody reads: the time of a connection is over whatever it does. */
TEST(slow_ones_are_ended_and_others_answered_meanwhile)
{
	enum { SLOW = 12 };
	struct served s = served_start(NULL);
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(HTTP_LIMIT_MS) * 1000000;
	int fd[SLOW], left = SLOW;

	for (int i = 0; i < SLOW; i++) {
		fd[i] = http_connect(&s);
		CHECK(send(fd[i], "GET /metrics HTTP/1.1\r\nX: ", 26, MSG_NOSIGNAL) == 26);
	}
	wait_http(&s, "/readyz", 200, "ready\n");
	while (left) {
		CHECK(t_now_ns() < end_ns);
		for (int i = 0; i < SLOW; i++) {
			if (fd[i] < 0)
				continue;
			if (send(fd[i], "x", 1, MSG_NOSIGNAL) == 1 && !t_wait_fd(fd[i], POLLIN, 20))
				continue;
			close(fd[i]);
			fd[i] = -1;
			left--;
		}
	}
	wait_http(&s, "/readyz", 200, "ready\n");
	t_daemon_stop(s.d);
}

TEST(more_connections_than_there_may_be_wait_and_places_come_back)
{
	enum { MANY = 20 };
	struct served s = served_start(NULL);
	int fd[MANY];

	for (int i = 0; i < MANY; i++)
		fd[i] = http_connect(&s);
	wait_http(&s, "/readyz", 200, "ready\n"); /* when the first ones have had their time */
	for (int i = 0; i < MANY; i++)
		close(fd[i]);
	t_daemon_stop(s.d);
}

/* Pages asked for all the time, while engines are killed, stopped and started. */
TEST(scraping_goes_on_while_engines_die)
{
	struct served s = served_start("restart_limit: 1000\n");
	pid_t scraper = fork();

	CHECK(scraper >= 0);
	if (scraper == 0) {
		for (;;) {
			struct http h = http_get(&s, "/metrics", open_metrics);
			CHECK_EQ(h.status, 200);
			CHECK_EQ((int)sample_of(h.body, "hypercache_up"), 1);
			CHECK(h.body_bytes > 6 &&
				strcmp(h.body + h.body_bytes - 6, "# EOF\n") == 0);
			http_free(&h);
		}
	}
	for (int i = 0; i < 6; i++) {
		pid_t engine = t_daemon_engine(s.d);
		if (i % 2)
			CHECK_EQ(kill(engine, SIGSTOP), 0);
		wait_http(&s, "/healthz", 200, "ok");
		(void)t_daemon_kill_engine(s.d, SIGKILL);
		(void)t_daemon_wait_engine(s.d, engine);
	}
	CHECK_EQ(waitpid(scraper, NULL, WNOHANG), 0); /* it is content */
	CHECK_EQ(kill(scraper, SIGKILL), 0);
	(void)t_wait_child(scraper, LIMIT_MS);
	t_daemon_stop(s.d);
}

/* Another program takes the supervisor's place; it listens where the last one did, and what came meanwhile waits there. */
TEST(it_goes_on_behind_an_upgrade_at_the_same_port)
{
	struct served s = served_start(NULL);
	uint16_t port = s.port;
	struct total want = {0};
	struct client c = client_start(s.d, 0);

	order_all(&c, 1, (struct order){.sets = 2, .hits = 40, .misses = 3}, &want);
	check_status(s.d, 0, ARGS("upgrade"));
	wait_http(&s, "/readyz", 200, "ready\n");
	CHECK_EQ(s.port, port);
	check_counts(&s, &want);
	pages_judge(&s);
	client_end(&c, SIGKILL);
	t_daemon_stop(s.d);
}
