/* proc_slowlog.c - requests that took long: what is said of them, to whom, across engines and while one stands still. */
#include "cli_run.h"
#include <inttypes.h>
#include <signal.h>
#include "hypercache.h"

enum { KEPT = 256 };

/* Of each entry, in their order; how many. */
static uint32_t numbers_of(const char *json, const char *name, uint64_t *ret, uint32_t most)
{
	char want[64];
	uint32_t n = 0;

	(void)snprintf(want, sizeof want, "\"%s\":", name);
	for (const char *at = json; (at = strstr(at, want)) && n < most; n++)
		ret[n] = strtoull(at += strlen(want), NULL, 10);
	return n;
}

static struct hc_store *store_open(const struct t_daemon *d, struct hc **ret)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct hc_store *s;

	o.socket = d->socket;
	o.name = "slow one";
	CHECK_EQ(hc_open(ret, &o), HC_OK);
	CHECK_EQ(hc_store(*ret, "default", &s), HC_OK);
	return s;
}

TEST(each_request_above_the_threshold_is_said_with_what_it_was)
{
	struct t_daemon *d = t_daemon_start("slowlog_threshold: 1ns\n", NULL);
	char long_key[100], value[100000] = "";
	struct hc *hc;
	struct hc_store *s = store_open(d, &hc);

	memset(long_key, 'x', sizeof long_key);
	CHECK_EQ(hc_set(s, "na\"me\n", 6, "abc", 3, NULL), HC_OK);
	CHECK_EQ(hc_set(s, long_key, sizeof long_key, value, sizeof value, NULL), HC_OK);
	CHECK_EQ(hc_delete(s, "absent", 6), HC_MISS);
	struct result r = run(d, ARGS("slowlog", "--json"));
	CHECK_EQ(r.status, 0);
	check_says(&r, "\"verb\":\"HELLO\",\"store\":\"-\"",
		"\"verb\":\"SET\",\"store\":\"default\"", "\"client\":\"slow one\"",
		"\"key_bytes\":6,\"value_bytes\":3,", "\"key\":\"na\\\"me\\n\",\"key_cut\":false",
		"\"key_bytes\":100,\"value_bytes\":100000,", "xxxxxxxxxx\",\"key_cut\":true",
		"\"verb\":\"DELETE\"", "\"status\":1,", NULL);
	result_free(&r);
	r = run(d, ARGS("slowlog", "-n", "1"));
	CHECK_EQ(r.status, 0);
	check_says(&r, "slowest stage, client, key\n", " DELETE ", " default ",
		", slow one  absent", NULL);
	CHECK(strstr(r.out, " SET ") == NULL);
	result_free(&r);
	check_status(d, 2, ARGS("slowlog", "extra"));
	hc_close(hc);
	t_daemon_stop(d);
}

TEST(it_keeps_the_last_ones_across_engines_and_can_be_read_while_one_stands_still)
{
	struct t_daemon *d = t_daemon_start("slowlog_threshold: 1ns\nhang_timeout: 0\n", NULL);
	uint64_t n[2 * KEPT], last;
	struct hc *hc;
	struct hc_store *s = store_open(d, &hc);

	for (int i = 0; i < KEPT + 50; i++)
		CHECK_EQ(hc_set(s, "k", 1, "v", 1, NULL), HC_OK);
	struct result r = run(d, ARGS("slowlog", "--json"));
	CHECK_EQ(numbers_of(r.out, "number", n, 2 * KEPT), KEPT);
	for (int i = 1; i < KEPT; i++)
		CHECK_EQ(n[i], n[i - 1] + 1);
	last = n[KEPT - 1];
	CHECK(last >= KEPT + 50);
	CHECK_EQ(json_number(r.out, "ever"), last);
	result_free(&r);
	pid_t engine = t_daemon_kill_engine(d, SIGKILL);
	r = run(d, ARGS("slowlog", "--json"));
	CHECK_EQ(numbers_of(r.out, "number", n, 2 * KEPT), KEPT);
	result_free(&r);
	engine = t_daemon_wait_engine(d, engine);
	CHECK_EQ(hc_set(s, "k", 1, "v", 1, NULL), HC_OK);
	CHECK_EQ(kill(engine, SIGSTOP), 0);
	r = run(d, ARGS("slowlog", "--json"));
	CHECK_EQ(numbers_of(r.out, "number", n, 2 * KEPT), KEPT);
	CHECK(n[KEPT - 1] > last);
	for (int i = 1; i < KEPT; i++)
		CHECK_EQ(n[i], n[i - 1] + 1);
	result_free(&r);
	CHECK_EQ(kill(engine, SIGCONT), 0);
	t_daemon_configure(d, "slowlog_threshold: 0\nhang_timeout: 0\n");
	check_status(d, 0, ARGS("reload"));
	r = run(d, ARGS("slowlog", "--json"));
	last = json_number(r.out, "ever");
	result_free(&r);
	for (int i = 0; i < 10; i++)
		CHECK_EQ(hc_set(s, "k", 1, "v", 1, NULL), HC_OK);
	r = run(d, ARGS("slowlog", "--json"));
	CHECK_EQ(json_number(r.out, "ever"), last);
	result_free(&r);
	hc_close(hc);
	t_daemon_stop(d);
}

/* A value for which a full pool has to make much room. */
TEST(room_that_was_made_is_a_stage_of_its_own)
{
	enum { VALUE = 1000, LARGE = 2 << 20 };
	struct t_daemon *d = t_daemon_start(
		"slowlog_threshold: 1ns\npools: {main: {size: 16MiB, huge_pages: \"off\"}}\n",
		NULL);
	char *value = calloc(1, LARGE), key[32];
	uint64_t room[4];
	struct hc *hc;
	struct hc_store *s = store_open(d, &hc);

	CHECK(value != NULL);
	for (int i = 0; i < 20000; i++) {
		int n = snprintf(key, sizeof key, "key-%d", i);
		CHECK_EQ(hc_set(s, key, (size_t)n, value, VALUE, NULL), HC_OK);
	}
	uint64_t most = 0;
	for (int i = 0; i < 8 && most == 0;
		i++) { /* the first one may find room that was made before */
		int n = snprintf(key, sizeof key, "large-%d", i);
		CHECK_EQ(hc_set(s, key, (size_t)n, value, LARGE, NULL), HC_OK);
		struct result r = run(d, ARGS("slowlog", "--json", "-n", "1"));
		const char *at = strstr(r.out, "\"key\":\"large-");
		CHECK(at != NULL);
		CHECK_EQ(numbers_of(at, "room", room, 1), 1);
		most = room[0] > most ? room[0] : most;
		CHECK(json_number(at, "work") > 0);
		CHECK(json_number(at, "decode") >
			0); /* it is large, so all stages are told apart */
		result_free(&r);
	}
	CHECK(most > 0);
	free(value);
	hc_close(hc);
	t_daemon_stop(d);
}

TEST(answers_that_waited_for_the_log_have_entries_of_their_own)
{
	struct t_daemon *d = t_daemon_start(
		"slowlog_threshold: 1ns\nstores: { default: { durability: sync } }\n", NULL);
	struct hc_set_opts o = HC_OPTS(hc_set_opts);
	uint64_t version = 0;
	char want[64];
	struct hc *hc;
	struct hc_store *s = store_open(d, &hc);

	o.ret_version = &version;
	CHECK_EQ(hc_set(s, "key", 3, "v", 1, &o), HC_OK);
	struct result r = run(d, ARGS("slowlog", "--json", "-n", "1"));
	(void)snprintf(want, sizeof want, "\"version\":%" PRIu64 ",", version);
	check_says(&r, "\"verb\":\"SET\"", want, "\"slowest\":\"log\"", NULL);
	CHECK(json_number(r.out, "log") > 0);
	result_free(&r);
	hc_close(hc);
	t_daemon_stop(d);
}
