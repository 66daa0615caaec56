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
