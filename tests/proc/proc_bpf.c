/* proc_bpf: what the tools on the probes say is what has happened, whoever starts and dies meanwhile. */
#include "bpf_run.h"

enum { CLIENTS = 3 };

/* Clients that start when the tool hears already, one of which is killed; all that they have read, to the last read. */
TEST(hctop_counts_every_read_where_it_hears_of_all)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct t_proc *p = tool_start(
		d, "hctop", (const char *const[]){"--every", "1", "--file", own_file(), NULL});
	struct client c[CLIENTS];
	struct total want = {0};
	char pid[32];

	for (uint32_t i = 0; i < CLIENTS; i++)
		c[i] = client_start(d, i);
	order_all(c, CLIENTS, (struct order){.sets = 3, .hits = 700, .misses = 90}, &want);
	order_all(c, CLIENTS, (struct order){.sets = 1, .hits = 31, .misses = 5}, &want);
	(void)snprintf(pid, sizeof pid, "\"pid\":%d,", c[1].pid);
	client_end(&c[0], SIGKILL);
	client_order(&c[1], (struct order){.sets = 1, .hits = 17, .misses = 2});
	want.hits += 17;
	want.misses += 2;
	want.sets += 1;
	client_order(&c[2], (struct order){.end = true});
	client_end(&c[1], 0);
	client_end(&c[2], 0);
	wait_sessions(d, 0);
	check_total(d, &want);
	tool_end(p);
	CHECK_EQ(json_sum(p->out.text, "\"store\":\"default\"", "hits"), want.hits);
	CHECK_EQ(json_sum(p->out.text, "\"store\":\"default\"", "misses"), want.misses);
	CHECK_EQ(json_sum(p->out.text, "\"store\":\"default\"", "bytes"), want.hits * 10);
	CHECK_EQ(json_sum(p->out.text, pid, "reads"), 701 + 90 + 32 + 5 + 17 + 2);
	t_proc_free(p);
	t_daemon_stop(d);
}

/* From one told read to the next it is 1..199, evenly: so of n reads n/100, with a variance of a third of that. */
TEST(hctop_estimates_from_one_read_of_a_hundred)
{
	enum { HITS = 60000, MISSES = 20000 };
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct t_proc *p = tool_start(
		d, "hctop", (const char *const[]){"--every", "100", "--file", own_file(), NULL});
	struct client c[CLIENTS];
	struct total want = {0};

	for (uint32_t i = 0; i < CLIENTS; i++)
		c[i] = client_start(d, i);
	order_all(c, CLIENTS, (struct order){.sets = 1, .hits = HITS, .misses = MISSES}, &want);
	for (uint32_t i = 0; i < CLIENTS; i++)
		client_end(&c[i], SIGKILL);
	tool_end(p);
	uint64_t reads = json_sum(p->out.text, "\"pid\"", "reads");
	uint64_t misses = json_sum(p->out.text, "\"pid\"", "misses");
	/* 240003 reads: a standard deviation of 2828; 60000 misses: one of 1414.  Six of them. */
	CHECK(reads > 223000 && reads < 257000);
	CHECK(misses > 51500 && misses < 68500);
	t_proc_free(p);
	t_daemon_stop(d);
}

TEST(without_rights_a_tool_says_what_it_lacks)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	char path[256], *err;

	(void)snprintf(path, sizeof path, "%s/tools/bpf/hctop", getenv("HC_BINDIR"));
	if (access(path, X_OK) != 0)
		SKIP("built without the tools on the probes");
	if (geteuid() != 0)
		SKIP("not run by root");
	const char *argv[] = {"/usr/bin/setpriv", "--bounding-set=-all", "--inh-caps=-all", path,
		"--socket", d->socket, "--admin", d->admin, "--duration", "1", NULL};
	CHECK_EQ(t_run(argv, NULL, 0, NULL, NULL, &err, READY_MS), 3);
	CHECK(strstr(err, "run it as root") && strstr(err, "CAP_BPF"));
	free(err);
	t_daemon_stop(d);
}

TEST(a_tool_refuses_what_makes_no_sense)
{
	static const char *const bad[][3] = {{"--every", "0", "1 to 1000000"},
		{"--store", "nowhere", "no store nowhere"}, {"--pid", "-3", "process id"},
		{"--interval", "soon", "seconds"}, {"--wrong", "1", "no such option"},
		{"--file", "/nowhere", "file that can be read"}};
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	char path[256], *err;

	(void)snprintf(path, sizeof path, "%s/tools/bpf/hctop", getenv("HC_BINDIR"));
	if (access(path, X_OK) != 0)
		SKIP("built without the tools on the probes");
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		const char *argv[] = {path, "--socket", d->socket, "--admin", d->admin, bad[i][0],
			bad[i][1], NULL};
		CHECK_EQ(t_run(argv, NULL, 0, NULL, NULL, &err, READY_MS), 2);
		if (!strstr(err, bad[i][2]))
			t_fail(__FILE__, __LINE__, "no \"%s\" in: %s", bad[i][2], err);
		free(err);
	}
	t_daemon_stop(d);
}

/* ------------------------------------------------------------------ the others */

static struct hc *open_at(const struct t_daemon *d, struct hc_store **ret)
{
	struct hc_open_opts opts = HC_OPTS(hc_open_opts);
	struct hc *hc;

	opts.socket = d->socket;
	opts.timeout_ms = (uint32_t)t_limit_ms(LIMIT_MS);
	CHECK_EQ(hc_open(&hc, &opts), HC_OK);
	CHECK_EQ(hc_store(hc, "default", ret), HC_OK);
	return hc;
}

TEST(hcevict_counts_each_eviction_and_what_comes_back)
{
	enum { SETS = 12000, VALUE = 3000, AGAIN = 50 };
	static char value[VALUE];
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct t_proc *p = tool_start(d, "hcevict",
		(const char *const[]){
			"--every", "1", "--interval", "60", "--file", own_file(), NULL});
	struct hc_store *s;
	struct hc *hc = open_at(d, &s);
	uint32_t asked = 0;
	char key[16];

	for (uint32_t i = 0; i < SETS; i++) {
		int k = snprintf(key, sizeof key, "%u", i);
		CHECK_EQ(hc_set(s, key, (size_t)k, value, sizeof value, NULL), HC_OK);
	}
	for (uint32_t i = 0; i < AGAIN; i++) {
		size_t n;
		int k = snprintf(key, sizeof key, "%u", i);
		asked += hc_get(s, key, (size_t)k, value, sizeof value, &n) == HC_MISS;
		CHECK_EQ(hc_set(s, key, (size_t)k, value, 1, NULL), HC_OK);
	}
	CHECK(asked > 0);
	struct result r = run(d, ARGS("stat", "--json"));
	uint64_t evicted = json_number(strstr(r.out, "\"stores\":"), "evicted");
	tool_end(p);
	CHECK(evicted > SETS / 4);
	CHECK_EQ(json_sum(p->out.text, "\"store\":\"default\"", "entries"), evicted);
	CHECK_EQ(json_sum(p->out.text, "\"store\":\"default\"", "asked"), asked);
	CHECK_EQ(json_sum(p->out.text, "\"store\":\"default\"", "written"), asked);
	result_free(&r);
	hc_close(hc);
	t_proc_free(p);
	t_daemon_stop(d);
}

static uint32_t lines_with(const char *text, const char *what)
{
	uint32_t n = 0;

	for (; (text = strstr(text, what)) != NULL; text++)
		n++;
	return n;
}

TEST(hcsnoop_shows_each_operation_and_those_alone_that_are_asked_for)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct t_proc *all = tool_start(
		d, "hcsnoop", (const char *const[]){"--file", own_file(), NULL});
	struct t_proc *some = tool_start(d, "hcsnoop",
		(const char *const[]){"--file", own_file(), "--op", "get,set", "--result", "bad",
			"--key", "abs", NULL});
	struct total want = {0};
	struct client c[CLIENTS];

	for (uint32_t i = 0; i < CLIENTS; i++)
		c[i] = client_start(d, i);
	order_all(c, CLIENTS, (struct order){.sets = 20, .hits = 50, .misses = 10}, &want);
	for (uint32_t i = 0; i < CLIENTS; i++)
		client_end(&c[i], SIGKILL);
	tool_end(all);
	tool_end(some);
	CHECK_EQ(lines_with(all->out.text, "\"op\":\"get\""), want.hits + want.misses);
	CHECK_EQ(lines_with(all->out.text, "\"op\":\"set\""), want.sets);
	CHECK_EQ(lines_with(all->out.text, "\"op\":\"publish\""), want.sets);
	CHECK_EQ(lines_with(all->out.text, "\"key\":\"absent\""), want.misses);
	CHECK_EQ(lines_with(some->out.text, "\"op\":"), want.misses);
	t_proc_free(all);
	t_proc_free(some);
	t_daemon_stop(d);
}

TEST(hcpins_names_who_holds_a_view_and_for_how_long)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct t_proc *p = tool_start(d, "hcpins",
		(const char *const[]){"--every", "1", "--ms", "1", "--file", own_file(), NULL});
	struct hc_store *s;
	struct hc *hc = open_at(d, &s);
	struct hc_view v;

	CHECK_EQ(hc_set(s, "held", 4, "value", 5, NULL), HC_OK);
	CHECK_EQ(hc_view(s, "held", 4, &v), HC_OK);
	char *held = t_proc_line(p, "\"state\":\"held\"", LIMIT_MS);
	CHECK_EQ(hc_view_release(&v), HC_OK);
	char *released = t_proc_line(p, "\"state\":\"released\"", LIMIT_MS);
	CHECK_EQ(json_number(held, "pid"), getpid());
	CHECK_EQ(json_number(held, "bytes"), 5);
	CHECK(strstr(held, "\"key\":\"held\"") != NULL);
	/* Its caller is this test. */
	CHECK(strstr(held, "\"places\":[\"hcpins_names_who_holds_a_view_and_for_how_long+0x") !=
		NULL);
	CHECK(json_number(released, "held_ns") > json_number(held, "held_ns"));
	free(held);
	free(released);
	hc_close(hc);
	tool_end(p);
	t_proc_free(p);
	t_daemon_stop(d);
}

TEST(hclat_has_each_call_and_the_parts_of_each_set)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct t_proc *p = tool_start(d, "hclat",
		(const char *const[]){
			"--every", "1", "--interval", "60", "--file", own_file(), NULL});
	struct total want = {0};
	struct client c[CLIENTS];

	for (uint32_t i = 0; i < CLIENTS; i++)
		c[i] = client_start(d, i);
	order_all(c, CLIENTS, (struct order){.sets = 100, .hits = 200, .misses = 10}, &want);
	for (uint32_t i = 0; i < CLIENTS; i++)
		client_end(&c[i], SIGKILL);
	tool_end(p);
	static const char *const parts[] = {"client", "socket", "queue", "engine", "reply"};
	const char *set = strstr(p->out.text, "\"set\":");
	uint64_t sum = 0;
	CHECK(set != NULL);
	CHECK_EQ(json_number(p->out.text, "n"), want.hits + want.misses); /* get is the first */
	CHECK_EQ(json_number(set, "n"), want.sets);
	for (int i = 0; i < 5; i++) {
		char name[16];
		(void)snprintf(name, sizeof name, "\"%s\":", parts[i]);
		const char *part = strstr(p->out.text, name);
		CHECK(part != NULL);
		CHECK_EQ(json_number(part, "n"), want.sets);
		sum += json_number(part, "sum");
	}
	CHECK(sum > json_number(set, "sum") / 2 &&
		sum <= json_number(set, "sum") + want.sets * 1000);
	t_proc_free(p);
	t_daemon_stop(d);
}

/* ------------------------------------------------------------------ other programs */

/* The programs of README.md, each beside a client that reads and writes; every one has to be accepted, and to say
 * something where it is asked for what happens. */
TEST_LIMIT(the_lines_for_bpftrace_are_as_the_document_has_them, 120)
{
	char path[256], line[512], library[256], trace[256], script[2000];
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct t_proc *all = tool_start(d, "hctop", (const char *const[]){"--every", "1", NULL});
	int n = 0;

	if (access("/usr/bin/bpftrace", X_OK) != 0)
		SKIP("bpftrace is not installed");
	(void)snprintf(path, sizeof path, "%s/tools/bpf/README.md", getenv("HC_SOURCE_ROOT"));
	(void)snprintf(library, sizeof library, "%s", t_bin("hypercache"));
	FILE *f = fopen(path, "r");
	CHECK(f != NULL);
	FILE *keys = fopen(t_path("trace.csv"), "w");
	CHECK(keys != NULL);
	for (int i = 0; i < 2000; i++)
		fprintf(keys, "key-%d\n", i % 50);
	CHECK_EQ(fclose(keys), 0);
	(void)snprintf(trace, sizeof trace, "%s", t_path("trace.csv"));
	while (fgets(line, sizeof line, f)) {
		const char *at = strstr(line, ":hypercache:");
		if (strncmp(line, "bpftrace -e 'usdt:", 18) != 0 || !at)
			continue;
		bool engine = strncmp(line + 18, "DAEMON", 6) == 0;
		/* Nothing is evicted here, and what was read once is there. */
		bool quiet = strncmp(at + 12, "evict", 5) == 0 || strstr(at, "arg3 == 1") != NULL;
		/* Its own name space of mounts, for tracefs.  It ends by itself, and until then there is traffic. */
		at += 1;
		(void)snprintf(script, sizeof script,
			"unshare -m sh -c 'mount -t tracefs none /sys/kernel/tracing; bpftrace -e "
			"\"$0\" & p=$!; "
			"while kill -0 $p 2>/dev/null; do %s --socket %s --admin %s replay %s "
			">/dev/null; done; "
			"wait $p' 'usdt:%s:%.*s interval:ms:500 { exit(); }'",
			t_bin("hypercache"), d->socket, d->admin, trace,
			engine ? t_bin("hypercached") : library, (int)strcspn(at, "\n") - 1, at);
		char *out, *err;
		(void)t_run((const char *[]){"/bin/sh", "-c", script, NULL}, NULL, 0, &out, NULL,
			&err, READY_MS);
		if (!strstr(out, "Attaching 2 probes") || (!quiet && !strchr(out, '@')))
			t_fail(__FILE__, __LINE__, "%s: %s%s", line, out, err);
		free(out);
		free(err);
		n++;
	}
	(void)fclose(f);
	CHECK_EQ(n, 5);
	t_proc_signal(all, SIGINT);
	CHECK_EQ(t_proc_exit(all, READY_MS), 0);
	t_proc_free(all);
	t_daemon_stop(d);
}

TEST(a_flame_graph_has_each_function_as_wide_as_its_samples)
{
	static const char samples[] =
		"one 7 1.0: 1 cpu-clock:\n\t 10 inner+0x1 (/bin/x)\n\t 20 outer+0x2 (/bin/x)\n\n"
		"one 7 1.1: 1 cpu-clock:\n\t 11 inner+0x3 (/bin/x)\n\t 20 outer+0x2 (/bin/x)\n\n"
		"one 7 1.2: 1 cpu-clock:\n\t 12 <other>+0x3 (/bin/x)\n\t 20 outer+0x2 (/bin/x)\n\n";
	char path[256], *out;

	(void)snprintf(path, sizeof path, "%s/tools/flame", getenv("HC_SOURCE_ROOT"));
	const char *argv[] = {path, "--title", "a & b", NULL};
	CHECK_EQ(t_run(argv, samples, sizeof samples - 1, &out, NULL, NULL, LIMIT_MS), 0);
	CHECK(strstr(out, "<title>outer: 3 samples, 100.0 %") != NULL);
	CHECK(strstr(out, "<title>inner: 2 samples, 66.7 %") != NULL);
	CHECK(strstr(out, "<title>&lt;other&gt;: 1 samples, 33.3 %") != NULL);
	CHECK(strstr(out, "a &amp; b: 3 samples") != NULL && strstr(out, "</svg>") != NULL);
	free(out);
	CHECK_EQ(t_run(argv, "nothing\n", 8, &out, NULL, NULL, LIMIT_MS), 1);
	free(out);
}
