/* proc_cli.c - the command line from outside: raw bytes in and out, exit statuses, JSON, and tools that
 * work without the engine and with hostile clients. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cli_run.h"
#include "hypercache.h"
#include "atomic.h"
#include "layout/l_client.h"
#include "layout/l_control.h"

/* ------------------------------------------------------------------------ data */

TEST(bytes_go_in_and_come_out_as_they_are)
{
	enum { BIG = 3 << 20 };
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	static const char odd[] = "\0\xff\n\r\0tail\n";
	struct result r;

	check_status(d, 0, ARGS("set", "word", "a value"));
	check_value(d, "word", "a value", 7);
	r = run_with(d, odd, sizeof odd, ARGS("set", "odd"));
	CHECK_EQ(r.status, 0);
	CHECK_EQ(r.bytes, 0u);
	result_free(&r);
	check_value(d, "odd", odd, sizeof odd);
	r = run_with(d, "", 0, ARGS("set", "empty", "-"));
	CHECK_EQ(r.status, 0);
	result_free(&r);
	check_value(d, "empty", "", 0);
	check_status(d, 0, ARGS("set", "--", "--key", "--value"));
	char *big = malloc(BIG);
	CHECK(big != NULL);
	for (size_t i = 0; i < BIG; i++)
		big[i] = (char)t_random();
	r = run_with(d, big, BIG, ARGS("set", "big", "-"));
	CHECK_EQ(r.status, 0);
	result_free(&r);
	check_value(d, "big", big, BIG);
	free(big);
	t_daemon_stop(d);
}

TEST(a_missing_value_is_what_one_command_prints)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	const char *runs = t_path("runs");
	char command[512];

	/* Each run leaves a line; the value is how many there were. */
	(void)snprintf(command, sizeof command, "echo x >>%s; grep -c x %s", runs, runs);
	for (int i = 0; i < 2; i++) {
		struct result r = run(d, ARGS("get-or", "k", "--", "sh", "-c", command));
		CHECK_EQ(r.status, 0);
		CHECK_STR(r.out, "1\n");
		result_free(&r);
	}
	/* Four at once: one runs it, the others have its value. */
	struct t_proc *p[4];
	for (int i = 0; i < 4; i++)
		p[i] = t_spawn(ARGS(t_bin("hypercache"), "--socket", d->socket, "get-or", "l", "--",
				       "sh", "-c", command),
			NULL);
	for (int i = 0; i < 4; i++) {
		CHECK_EQ(t_proc_exit(p[i], LIMIT_MS), 0);
		CHECK_STR(p[i]->out.text, "2\n");
		t_proc_free(p[i]);
	}
	check_status(d, 5, ARGS("get-or", "bad", "--", "false"));
	check_status(d, 5, ARGS("get-or", "bad", "--", "/nonexistent/command"));
	check_status(d, 1, ARGS("--absent", "1h", "get-or", "none", "--", "false"));
	check_status(d, 1, ARGS("get-or", "none", "--", "echo", "not asked"));
	check_status(d, 1, ARGS("get", "none"));
	check_status(
		d, 0, ARGS("--fresh", "1ms", "--ttl", "1h", "get-or", "old", "--", "echo", "a"));
	/* It is fresh until the millisecond is over, by a clock of some milliseconds' resolution. */
	uint64_t deadline_ns = t_now_ns() + (uint64_t)t_limit_ms(LIMIT_MS) * 1000000;
	bool old = false;
	while (!old) {
		struct result r = run(d, ARGS("get-or", "old", "--json", "--", "false"));
		CHECK_EQ(r.status, 0);
		CHECK(strstr(r.out, "a\\n"));
		old = strstr(r.out, "\"old\"");
		CHECK(old || strstr(r.out, "\"hit\""));
		CHECK(t_now_ns() < deadline_ns);
		result_free(&r);
	}
	check_status(d, 2, ARGS("get-or", "k"));
	check_status(d, 2, ARGS("--lease", "2h", "get-or", "k", "--", "true"));
	t_daemon_stop(d);
}

TEST(keys_may_be_any_bytes)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct hc_store *s;
	struct hc *hc;
	char buf[8];
	size_t n;

	check_status(d, 0, ARGS("--base64", "set", "AP8=", "AAEC"));
	o.socket = d->socket;
	CHECK_EQ(hc_open(&hc, &o), HC_OK);
	CHECK_EQ(hc_store(hc, "default", &s), HC_OK);
	CHECK_EQ(hc_get(s, "\0\xff", 2, buf, sizeof buf, &n), HC_OK);
	CHECK_EQ(n, 3u);
	CHECK(memcmp(buf, "\0\1\2", 3) == 0);
	hc_close(hc);
	struct result r = run(d, ARGS("get", "--base64", "AP8=", "--json"));
	CHECK_STR(r.out, "{\"result\":\"hit\",\"key_base64\":\"AP8=\",\"value\":"
			 "\"\\u0000\\u0001\\u0002\",\"version\":1,\"flags\":0}\n");
	result_free(&r);
	check_status(d, 2, ARGS("get", "--base64", "AP8"));
	check_status(d, 2, ARGS("get", "--base64", "A*8="));
	check_status(d, 2, ARGS("get", ""));
	t_daemon_stop(d);
}

TEST(json_is_utf8_or_base64)
{
	static const struct {
		const char *value, *json;
	} cases[] = {
		{"h\xc3\xa9 \"q\" \\ \n", "\"value\":\"h\xc3\xa9 \\\"q\\\" \\\\ \\n\""},
		{"\xe2\x82\xac\xf0\x9f\x98\x80", "\"value\":\"\xe2\x82\xac\xf0\x9f\x98\x80\""},
		{"\xff", "\"value_base64\":\"/w==\""},
		{"\xc0\xaf", "\"value_base64\":\"wK8=\""},     /* overlong */
		{"\xed\xa0\x80", "\"value_base64\":\"7aCA\""}, /* a surrogate */
		{"\xf4\x90\x80\x80", "\"value_base64\":\"9JCAgA==\""},
		{"\xe2\x82", "\"value_base64\":\"4oI=\""},
	};
	struct t_daemon *d = t_daemon_start(NULL, NULL);

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		check_status(d, 0, ARGS("set", "k", cases[i].value));
		struct result r = run(d, ARGS("--json", "get", "k"));
		check_says(&r, "{\"result\":\"hit\",\"key\":\"k\",", cases[i].json, NULL);
		result_free(&r);
	}
	t_daemon_stop(d);
}

TEST(a_miss_and_a_delete_say_so)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct result r = run(d, ARGS("get", "k"));

	CHECK_EQ(r.status, 1);
	CHECK_EQ(r.bytes, 0u);
	CHECK_STR(r.err, "");
	result_free(&r);
	check_status(d, 1, ARGS("delete", "k"));
	check_status(d, 0, ARGS("set", "k", "v"));
	check_status(d, 0, ARGS("delete", "k"));
	r = run(d, ARGS("get", "k", "--json"));
	CHECK_EQ(r.status, 1);
	CHECK_STR(r.out, "{\"result\":\"miss\",\"key\":\"k\"}\n");
	result_free(&r);
	t_daemon_stop(d);
}

TEST(exists_meta_and_scan_tell_without_counting)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);

	check_status(d, 1, ARGS("exists", "user:1"));
	check_status(d, 1, ARGS("meta", "user:1"));
	check_status(d, 0, ARGS("set", "user:1", "abc", "--flags", "7"));
	check_status(d, 0, ARGS("set", "user:2", "", "--ttl", "1h"));
	check_status(d, 0, ARGS("set", "other", "x"));
	check_status(d, 0, ARGS("exists", "user:1"));
	struct result r = run(d, ARGS("meta", "user:1", "--json"));
	CHECK_EQ(r.status, 0);
	check_says(&r, "\"value_bytes\":3,", NULL);
	check_says(&r, "\"flags\":7,", NULL);
	check_says(&r, "\"expires_in_ms\":-1,", NULL);
	result_free(&r);
	r = run(d, ARGS("meta", "user:2"));
	check_says(&r, "expires   59 min", NULL);
	result_free(&r);
	r = run(d, ARGS("scan", "user:"));
	CHECK_EQ(r.status, 0);
	CHECK_EQ(r.bytes, strlen("user:1\nuser:2\n"));
	check_says(&r, "user:1\n", NULL);
	check_says(&r, "user:2\n", NULL);
	result_free(&r);
	r = run(d, ARGS("scan", "--json"));
	check_says(&r, "{\"key\":\"other\",\"value_bytes\":1,", NULL);
	result_free(&r);
	r = run(d, ARGS("scan", "nobody"));
	CHECK_EQ(r.status, 0);
	CHECK_EQ(r.bytes, 0u);
	result_free(&r);
	r = run(d, ARGS("stat", "--json"));
	check_says(&r, "\"hits\":0", NULL);
	result_free(&r);
	t_daemon_stop(d);
}

TEST(time_to_live_flags_and_store_are_passed_on)
{
	struct t_daemon *d = t_daemon_start("pools: { main: { size: 8MiB, huge_pages: off } }\n"
					    "stores: { one: {}, two: {} }\n",
		NULL);
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct hc_store *s;
	struct hc_view v;
	struct hc *hc;
	int r = HC_OK;

	check_status(d, 0, ARGS("set", "k", "v", "--store", "two", "--flags", "4294967295"));
	check_status(d, 1, ARGS("get", "k", "--store", "one"));
	check_status(d, 5, ARGS("get", "k")); /* there is no store "default" */
	check_status(d, 5, ARGS("get", "k", "--store", "three"));
	check_status(d, 0, ARGS("set", "gone", "v", "--store", "one", "--ttl", "1ms"));
	check_status(d, 0, ARGS("set", "stays", "v", "--store", "one", "--ttl", "1h"));
	o.socket = d->socket;
	CHECK_EQ(hc_open(&hc, &o), HC_OK);
	CHECK_EQ(hc_store(hc, "two", &s), HC_OK);
	CHECK_EQ(hc_view(s, "k", 1, &v), HC_OK);
	CHECK_EQ(v.flags, UINT32_MAX);
	CHECK_EQ(hc_view_release(&v), HC_OK);
	CHECK_EQ(hc_store(hc, "one", &s), HC_OK);
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(LIMIT_MS) * 1000000;
	while (r == HC_OK && t_now_ns() < end_ns)
		r = hc_get(s, "gone", 4, NULL, 0, NULL) == HC_MISS ? HC_MISS : HC_OK;
	CHECK_EQ(r, HC_MISS);
	CHECK_EQ(hc_get(s, "stays", 5, NULL, 0, NULL), HC_TOO_SMALL);
	hc_close(hc);
	t_daemon_stop(d);
}

TEST(ping_is_a_round_trip)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct result r = run(d, ARGS("ping"));

	CHECK_EQ(r.status, 0);
	CHECK(strncmp(r.out, "pong from engine 1 after ", 25) == 0);
	result_free(&r);
	r = run(d, ARGS("ping", "--json"));
	CHECK(json_number(r.out, "round_trip_ns") > 0);
	result_free(&r);
	CHECK_EQ(kill(t_daemon_engine(d), SIGSTOP), 0);
	check_status(d, 3, ARGS("ping", "--timeout", "100ms"));
	CHECK_EQ(kill(t_daemon_engine(d), SIGCONT), 0);
	check_status(d, 0, ARGS("ping"));
	t_daemon_stop(d);
}

/* ------------------------------------------------------------------ wrong usage */

TEST(wrong_usage_is_status_2_and_says_what_would_be_right)
{
	static const char *const wrong[][5] = {
		{"fetch", "k"},
		{"get"},
		{"get", "k", "l"},
		{"set"},
		{"set", "k", "v", "w"},
		{"stat", "now"},
		{"--no-such", "stat"},
		{"set", "k", "v", "--ttl", "10"},
		{"set", "k", "v", "--ttl", "-5s"},
		{"set", "k", "v", "--ttl", "99999999999999999999s"},
		{"set", "k", "v", "--flags", "4294967296"},
		{"set", "k", "v", "--flags", "x"},
		{"ping", "--timeout", "0s"},
		{"help", "fetch"},
	};

	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		const char *args[6] = {0};
		memcpy(args, wrong[i], sizeof wrong[i]);
		struct result r = run(NULL, args);
		if (r.status != 2 || !*r.err)
			t_fail(__FILE__, __LINE__, "%s %s: status %d: %s", args[0],
				args[1] ? args[1] : "", r.status, r.err);
		result_free(&r);
	}
	struct result r = run(NULL, ARGS("--help", "get"));
	CHECK_EQ(r.status, 0);
	result_free(&r);
}

TEST(without_a_daemon_every_verb_is_status_3)
{
	static const char *const verbs[] = {"ping", "stat", "clients", "fsck"};

	for (int i = 0; i < 4; i++) {
		struct result r = run(NULL, ARGS("--socket", t_path("none"), verbs[i]));
		CHECK_EQ(r.status, 3);
		CHECK(strstr(r.err, "is hypercached running"));
		result_free(&r);
		r = run(NULL, ARGS("--socket", t_path("none"), "--json", verbs[i]));
		CHECK_EQ(r.status, 3);
		check_says(&r, "{\"status\":3,\"error\":\"NO_DAEMON\",\"text\":\"", NULL);
		result_free(&r);
	}
	check_status(NULL, 3, ARGS("--socket", t_path("none"), "get", "k"));
}

TEST(what_cannot_be_written_is_an_error)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	char command[1024];

	(void)snprintf(command, sizeof command, "'%s' --admin '%s' stat >/dev/full",
		t_bin("hypercache"), d->admin);
	CHECK_EQ(t_run((const char *[]){"/bin/sh", "-c", command, NULL}, NULL, 0, NULL, NULL, NULL,
			 LIMIT_MS),
		5);
	t_daemon_stop(d);
}

/* --------------------------------------------------------------- stat, clients, fsck */

/* limit = live + overhead + free + limbo + unusable */
static void check_accounts(const char *json)
{
	CHECK_EQ(json_number(json, "limit_bytes"),
		json_number(json, "live_bytes") + json_number(json, "overhead_bytes") +
			json_number(json, "free_bytes") + json_number(json, "limbo_bytes") +
			json_number(json, "unusable_bytes"));
}

TEST(stat_adds_up)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct hc_store *s;
	struct hc *hc;

	o.socket = d->socket;
	for (int living = 0; living < 2; living++) {
		CHECK_EQ(hc_open(&hc, &o), HC_OK);
		CHECK_EQ(hc_store(hc, "default", &s), HC_OK);
		CHECK_EQ(hc_set(s, "k", 1, "value", 5, NULL), HC_OK);
		for (int i = 0; i < 7; i++)
			CHECK_EQ(hc_get(s, "k", 1, NULL, 0, NULL), HC_TOO_SMALL);
		for (int i = 0; i < 3; i++)
			CHECK_EQ(hc_get(s, "no", 2, NULL, 0, NULL), HC_MISS);
		CHECK_EQ(hc_ping(hc), HC_OK);
		if (!living)
			hc_close(hc);
	}
	struct result r = run(d, ARGS("stat", "--json"));
	CHECK_EQ(r.status, 0);
	check_accounts(strstr(r.out, "\"pools\":"));
	const char *stores = strstr(r.out, "\"stores\":");
	CHECK_EQ(json_number(stores, "hits"),
		14u); /* those of the ended session, and of the living one */
	CHECK_EQ(json_number(stores, "misses"), 6u);
	CHECK_EQ(json_number(stores, "sets"), 2u);
	CHECK_EQ(json_number(stores, "entries"), 1u);
	CHECK_EQ(json_number(stores, "live_bytes"), 6u);
	CHECK_EQ(json_number(r.out, "sessions"), 1u);
	result_free(&r);
	r = run(d, ARGS("stat"));
	check_says(&r, "serving, process ", "70.00 %", "= live", "+ limbo", "base pages of ", NULL);
	result_free(&r);
	r = run(d, ARGS("stat", "--verbose"));
	check_says(&r, "counters of pool main", "limbo_entries",
		"unlinked items and tables waiting", NULL);
	result_free(&r);
	hc_close(hc);
	t_daemon_stop(d);
}

TEST(clients_shows_who_holds_what)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct hc_store *s;
	struct hc_view v;
	struct hc *hc;
	char pid[32];

	o.socket = d->socket;
	o.name = "a \x1b[31mreader";
	o.full_fence = 1;
	CHECK_EQ(hc_open(&hc, &o), HC_OK);
	CHECK_EQ(hc_store(hc, "default", &s), HC_OK);
	CHECK_EQ(hc_set(s, "k", 1, "v", 1, NULL), HC_OK);
	CHECK_EQ(hc_view(s, "k", 1, &v), HC_OK);
	struct result r = run(d, ARGS("clients", "--json"));
	CHECK_EQ(r.status, 0);
	CHECK_EQ(json_number(r.out, "pid"), (uint64_t)getpid());
	CHECK_EQ(json_number(r.out, "uid"), geteuid());
	CHECK_EQ(json_number(r.out, "views"), 1u);
	CHECK_EQ(json_number(r.out, "reads"), 1u);
	check_says(&r, "\"fence\":\"full\"", "[31mreader", NULL);
	result_free(&r);
	r = run(d, ARGS("clients"));
	(void)snprintf(pid, sizeof pid, " %d ", (int)getpid());
	check_says(&r, pid, " full ", NULL);
	CHECK(!strchr(r.out, 0x1b));
	result_free(&r);
	CHECK_EQ(hc_view_release(&v), HC_OK);
	hc_close(hc);
	r = run(d, ARGS("clients", "--json"));
	CHECK_STR(r.out, "{\"clients\":[]}\n");
	result_free(&r);
	t_daemon_stop(d);
}

/* "held_for_s" of the only client, in ms; -1: it has none. */
static int64_t held_for_ms(struct t_daemon *d)
{
	struct result r = run(d, ARGS("clients", "--json"));
	const char *at = strstr(r.out, "\"held_for_s\":");

	int64_t ms = at ? (int64_t)(strtod(at + 13, NULL) * 1000) : -1;
	result_free(&r);
	return ms;
}

/* A client that is stopped with a view: what is said of it grows with the time, and is never more than that. */
TEST(clients_shows_since_when_something_is_held)
{
	struct t_daemon *d = t_daemon_start("heartbeat: 100ms\n", NULL);
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(20000) * 1000000;
	struct hc_store *s;
	struct hc_view v;
	struct hc *hc;
	int go[2];
	char c;

	CHECK_EQ(pipe2(go, O_CLOEXEC), 0);
	uint64_t before_ns = t_now_ns();
	fflush(NULL);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		o.socket = d->socket;
		CHECK_EQ(hc_open(&hc, &o), HC_OK);
		CHECK_EQ(hc_store(hc, "default", &s), HC_OK);
		CHECK_EQ(hc_set(s, "k", 1, "v", 1, NULL), HC_OK);
		CHECK_EQ(hc_view(s, "k", 1, &v), HC_OK);
		CHECK_EQ(raise(SIGSTOP), 0);
		CHECK_EQ(hc_view_release(&v), HC_OK);
		(void)read(go[0], &c, 1);
		_exit(0);
	}
	int64_t ms;
	while ((ms = held_for_ms(d)) < 700) {
		CHECK(t_now_ns() < end_ns);
		CHECK(ms <= (int64_t)((t_now_ns() - before_ns) / 1000000) + 150); /* wall clocks */
	}
	struct result r = run(d, ARGS("clients"));
	check_says(&r, "held for", NULL);
	result_free(&r);
	CHECK_EQ(kill(pid, SIGCONT), 0);
	while (held_for_ms(d) != 0)
		CHECK(t_now_ns() < end_ns);
	CHECK_EQ(write(go[1], "x", 1), 1);
	CHECK_EQ(t_wait_child(pid, 20000), 0);
	(void)close(go[0]);
	(void)close(go[1]);
	t_daemon_stop(d);
}

/* This process's writable mapping of a client segment. */
static struct shm_client *own_segment(uint64_t *ret_bytes)
{
	char line[512];
	FILE *f = fopen("/proc/self/maps", "re");
	struct shm_client *found = NULL;

	*ret_bytes = 0;
	CHECK(f != NULL);
	while (fgets(line, sizeof line, f) && !found) {
		unsigned long from, to;
		char rights[8];
		if (sscanf(line, "%lx-%lx %7s", &from, &to, rights) != 3 ||
			strcmp(rights, "rw-s") != 0 || !strstr(line, "memfd:"))
			continue;
		struct shm_client *c = (struct shm_client *)(uintptr_t)from;
		if (c->seg.kind == SHM_KIND_CLIENT) {
			found = c;
			*ret_bytes = to - from;
		}
	}
	fclose(f);
	CHECK(found != NULL);
	return found;
}

TEST(a_hostile_client_spoils_neither_stat_nor_clients)
{
	static const char *const verbs[] = {"stat", "clients", "fsck"};
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	uint64_t bytes;
	struct hc *hc;

	o.socket = d->socket;
	CHECK_EQ(hc_open(&hc, &o), HC_OK);
	uint8_t *seg = (uint8_t *)own_segment(&bytes);
	for (int round = 0; round < 8; round++) {
		for (uint64_t i = 0; i < bytes; i++)
			seg[i] = round ? (uint8_t)t_random() : 0xff;
		for (int v = 0; v < 3; v++) {
			struct result r = run(d, ARGS(verbs[v]));
			CHECK_EQ(r.status, 0);
			for (size_t i = 0; i < r.bytes; i++)
				CHECK((r.out[i] >= ' ' && r.out[i] <= '~') || r.out[i] == '\n');
			result_free(&r);
			r = run(d, ARGS(verbs[v], "--json"));
			CHECK_EQ(r.status, 0);
			CHECK_EQ(r.bytes, strlen(r.out));
			result_free(&r);
		}
	}
	hc_close(hc);
	t_daemon_stop(d);
}

TEST(a_liars_counts_are_its_own_and_clipped)
{
	const uint64_t most = UINT64_C(1) << 48;
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	uint64_t bytes;
	struct hc *hc;

	check_status(d, 0, ARGS("set", "k", "v"));
	check_status(d, 0, ARGS("get", "k"));
	o.socket = d->socket;
	CHECK_EQ(hc_open(&hc, &o), HC_OK);
	struct shm_client *c = own_segment(&bytes);
	struct shm_block *b = (struct shm_block *)(void *)(c + 1);
	shm_store_rlx(&b[0].store[0].hits, UINT64_MAX);
	shm_store_rlx(&b[1].store[0].hits, UINT64_MAX);
	struct result r = run(d, ARGS("clients", "--json"));
	CHECK_EQ(json_number(r.out, "hits"), most);
	result_free(&r);
	r = run(d, ARGS("stat", "--json", "--store", "default"));
	CHECK_EQ(json_number(r.out, "hits"), most + 1);
	CHECK_EQ(json_number(r.out, "misses"), 0);
	CHECK_EQ(json_number(r.out, "folded_hits"), 1);
	result_free(&r);
	hc_close(hc);
	r = run(d, ARGS("stat", "--json", "--store", "default"));
	CHECK_EQ(json_number(r.out, "hits"), most + 1);
	result_free(&r);
	t_daemon_stop(d);
}

TEST(tools_work_while_the_engine_is_stopped_or_dead)
{
	struct t_daemon *d = t_daemon_start("restart_backoff_max: 60s\n", NULL);
	pid_t engine = t_daemon_engine(d);
	struct result r;

	check_status(d, 0, ARGS("set", "k", "v"));
	CHECK_EQ(kill(engine, SIGSTOP), 0);
	check_status(d, 0, ARGS("fsck"));
	check_status(d, 0, ARGS("clients"));
	/* SIGSTOP is seen by and by. */
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(LIMIT_MS) * 1000000;
	bool seen = false;
	while (!seen && t_now_ns() < end_ns) {
		r = run(d, ARGS("stat"));
		CHECK_EQ(r.status, 0);
		seen = strstr(r.out, "stopped by a signal, process ") != NULL;
		result_free(&r);
	}
	CHECK(seen);
	/* Deaths until the pause before the next engine is long enough to look into it. */
	for (int i = 0; i < 8; i++) {
		(void)t_daemon_kill_engine(d, SIGKILL);
		free(t_proc_line(d->proc, "another engine follows in ", LIMIT_MS));
		if (i < 7)
			free(t_proc_line(d->proc, " serves after ", LIMIT_MS));
	}
	r = run(d, ARGS("stat", "--json"));
	CHECK_EQ(r.status, 0);
	check_says(&r, "\"state\":\"dead\",\"pid\":0,", NULL);
	CHECK_EQ(json_number(r.out, "crashes_in_a_row"), 8u);
	CHECK_EQ(json_number(r.out, "restarts"), 7u);
	result_free(&r);
	check_status(d, 0, ARGS("fsck"));
	check_status(d, 0, ARGS("clients"));
	t_daemon_stop(d);
}

/* The supervisor's own descriptor of a segment, opened anew for writing (the same user may). */
static int segment_open(const struct t_daemon *d, const char *name)
{
	char dir[64], path[128], target[128];
	struct dirent *e;
	int fd = -1;

	(void)snprintf(dir, sizeof dir, "/proc/%d/fd", (int)d->proc->pid);
	DIR *fds = opendir(dir);
	CHECK(fds != NULL);
	while (fd < 0 && (e = readdir(fds))) {
		(void)snprintf(path, sizeof path, "%s/%.16s", dir, e->d_name);
		ssize_t n = readlink(path, target, sizeof target - 1);
		target[n > 0 ? n : 0] = 0;
		if (strstr(target, name))
			fd = open(path, O_RDWR | O_CLOEXEC);
	}
	closedir(fds);
	CHECK(fd >= 0);
	return fd;
}

TEST(fsck_finds_one_changed_byte)
{
	static const char value[] = "a value that is nowhere else in the pool";
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct stat st;
	struct result r;

	check_status(d, 0, ARGS("set", "k", value));
	r = run(d, ARGS("fsck"));
	CHECK_EQ(r.status, 0);
	check_says(&r, "whole: 1 entries, ", NULL);
	result_free(&r);
	int fd = segment_open(d, "memfd:hypercache-main");
	CHECK_EQ(fstat(fd, &st), 0);
	char *p = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED);
	close(fd);
	char *at = memmem(p, (size_t)st.st_size, value, strlen(value));
	CHECK(at != NULL);
	*at ^= 1;
	r = run(d, ARGS("fsck"));
	CHECK_EQ(r.status, 1);
	check_says(&r, "I13  main + ", "DAMAGED", NULL);
	result_free(&r);
	r = run(d, ARGS("fsck", "--json"));
	CHECK_EQ(r.status, 1);
	CHECK_EQ(json_number(r.out, "invariant"), 13u);
	CHECK(json_number(r.out, "n_findings") >= 1); /* and that the accounts do not fit then */
	result_free(&r);
	*at ^= 1;
	check_status(d, 0, ARGS("fsck"));
	CHECK_EQ(munmap(p, (size_t)st.st_size), 0);
	t_daemon_stop(d);
}

/* ------------------------------------------------------------------ help, manuals */

/* The whole file of the sources, for the caller to free. */
static char *source_read(const char *name)
{
	const char *root = getenv("HC_SOURCE_ROOT");
	char path[512], *text = calloc(1, 1 << 20);

	if (!root)
		SKIP("HC_SOURCE_ROOT is not set: run it through meson test");
	(void)snprintf(path, sizeof path, "%s/%s", root, name);
	FILE *f = fopen(path, "re");
	CHECK(f != NULL && text != NULL);
	CHECK(fread(text, 1, (1 << 20) - 1, f) > 0);
	fclose(f);
	return text;
}

TEST(the_manual_names_every_verb_and_option_of_the_help)
{
	struct result r = run(NULL, ARGS("--help"));
	char *man = source_read("tools/hypercache.1");
	int n = 0;

	for (char *line = strtok(r.out, "\n"); line; line = strtok(NULL, "\n")) {
		char word[32] = "", want[64];
		if (sscanf(line, "  hypercache %31[a-z]", word) == 1)
			(void)snprintf(want, sizeof want, ".It Cm %s", word);
		else if (sscanf(line, "  --%31[a-z0-9-]", word) == 1)
			(void)snprintf(want, sizeof want, ".It Fl -%s", word);
		else if (sscanf(line, "  %1[0-9]  ", word) == 1)
			(void)snprintf(want, sizeof want, ".It %s\n", word);
		else
			continue;
		n++;
		if (!strstr(man, want))
			t_fail(__FILE__, __LINE__, "the manual has no \"%s\"", want);
	}
	CHECK(n >= 25 + 25 + 6);
	free(man);
	result_free(&r);
}

TEST(manuals_are_well_formed)
{
	static const char *const pages[] = {"daemon/hypercached.8", "tools/hypercache.1"};

	if (access("/usr/bin/mandoc", X_OK) != 0)
		SKIP("mandoc is not installed");
	for (int i = 0; i < 2; i++) {
		char *text = source_read(pages[i]), *out;
		int status = t_run((const char *[]){"/usr/bin/mandoc", "-Tlint", "-Wwarning", NULL},
			text, strlen(text), &out, NULL, NULL, LIMIT_MS);
		if (status != 0)
			t_fail(__FILE__, __LINE__, "%s: %s", pages[i], out);
		free(out);
		free(text);
	}
}
