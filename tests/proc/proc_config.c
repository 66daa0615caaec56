/* proc_config.c - the configuration of a running daemon: reloads, stores that come and go, and what living
 * clients see of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "../../daemon/admin.h"
#include "hypercache.h"

enum { LIMIT_MS = 20000, ARGS = 16 };

/* The command line of a daemon; what it wrote is in out, err, until the next call. */
static char *out, *err;

static int cli(const struct t_daemon *d, const char *const *args)
{
	const char *argv[ARGS] = {t_bin("hypercache"), "--socket", d->socket, "--admin", d->admin};
	int n = 5;

	free(out);
	free(err);
	for (; *args && n < ARGS - 1; args++)
		argv[n++] = *args;
	argv[n] = NULL;
	return t_run(argv, NULL, 0, &out, NULL, &err, LIMIT_MS);
}
#define CLI(d, ...) cli(d, (const char *[]){__VA_ARGS__, NULL})

static struct hc *client(const struct t_daemon *d)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct hc *hc;

	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(LIMIT_MS);
	CHECK_EQ(hc_open(&hc, &o), HC_OK);
	return hc;
}

static struct hc_store *store_of(struct hc *hc, const char *name)
{
	struct hc_store *s;

	CHECK_EQ(hc_store(hc, name, &s), HC_OK);
	return s;
}

static void put(struct hc_store *s, const char *key, const char *value)
{
	CHECK_EQ(hc_set(s, key, strlen(key), value, strlen(value), NULL), HC_OK);
}

static bool stat_says(const struct t_daemon *d, const char *text)
{
	CHECK_EQ(CLI(d, "stat", "--store", "a", "--json"), 0);
	return strstr(out, text) != NULL;
}

/* Entries stay, with their times, whatever order they are kept in; and the new policy is what decides. */
TEST_LIMIT(a_store_gets_another_policy_and_keeps_its_entries, 60)
{
	enum { N = 3000 };
	static const char *const policies[] = {"lru", "ttl",
		"w-tinylfu, policy_params: {window: 5%}", "session", "lfu", "sieve", "auto",
		"s3-fifo", "fifo"};
	struct t_daemon *d = t_daemon_start(
		"stores: { a: { policy: fifo, max_entries: 3000 } }", NULL);
	struct hc *hc = client(d);
	struct hc_store *a = store_of(hc, "a");
	struct hc_set_opts soon = HC_OPTS(hc_set_opts);
	char key[16], yaml[160], word[64];

	soon.ttl_ms = 3600000;
	for (int i = 0; i < N; i++) {
		int n = snprintf(key, sizeof key, "%d", i);
		CHECK_EQ(hc_set(a, key, (size_t)n, "v", 1, i % 2 ? &soon : NULL), HC_OK);
	}
	for (size_t k = 0; k < sizeof policies / sizeof *policies; k++) {
		(void)snprintf(yaml, sizeof yaml,
			"stores: { a: { max_entries: 3000, policy: %s } }", policies[k]);
		t_daemon_configure(d, yaml);
		CHECK_EQ(CLI(d, "reload"), 0);
		(void)snprintf(
			word, sizeof word, "\"%.*s\"", (int)strcspn(policies[k], ","), policies[k]);
		CHECK(stat_says(d, word) && stat_says(d, "\"entries\":3000"));
		for (int i = 0; i < N; i++) {
			int n = snprintf(key, sizeof key, "%d", i);
			CHECK_EQ(hc_exists(a, key, (size_t)n), HC_OK);
		}
	}
	/* fifo again, and still in the order in which they came; an lru keeps what is read. */
	put(a, "new", "v");
	CHECK_EQ(hc_exists(a, "new", 3), HC_OK);
	t_daemon_configure(d, "stores: { a: { max_entries: 3000, policy: ttl } }");
	CHECK_EQ(CLI(d, "reload"), 0);
	CHECK_EQ(hc_set(a, "refused", 7, "v", 1, NULL), HC_E_FULL);
	t_daemon_configure(d, "stores: { a: { max_entries: 3000, policy: lru } }");
	CHECK_EQ(CLI(d, "reload"), 0);
	put(a, "taken", "v");
	CHECK_EQ(CLI(d, "fsck"), 0);
	/* What is over goes by itself: the timers have come along. */
	CHECK_EQ(hc_touch(a, "new", 3, 100), HC_OK);
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(LIMIT_MS) * 1000000;
	while (!stat_says(d, "\"entries\":2999"))
		CHECK(t_now_ns() < end_ns);
	hc_close(hc);
	t_daemon_stop(d);
}

/* Was the entry given this time to live? */
static void check_ttl(struct hc_store *s, const char *key, uint64_t want_s)
{
	struct hc_meta m = HC_OPTS(hc_meta);

	CHECK_EQ(hc_meta(s, key, strlen(key), &m), HC_OK);
	CHECK_EQ(m.ttl_ms, want_s * 1000);
}

/* -- reload -- */

TEST(a_reload_changes_what_it_may_and_says_so)
{
	struct t_daemon *d = t_daemon_start(
		"log_level: info\nstores: { a: { ttl: 100s }, b: {}, gone: {} }", NULL);
	struct hc *hc = client(d);
	struct hc_store *a = store_of(hc, "a"), *gone = store_of(hc, "gone"), *s;
	pid_t engine = t_daemon_engine(d);

	put(a, "old", "v");
	check_ttl(a, "old", 100);
	CHECK_EQ(CLI(d, "config", "diff"), 0);
	CHECK_STR(out, "nothing differs\n");
	t_daemon_configure(d, "log_level: debug\nlimbo_cap: 1MiB\nstores: { fresh: { ttl: 1h }, b: "
			      "{}, a: { ttl: 50s } }");
	static const char changes[] = "changed  limbo_cap: auto -> 1MiB\n"
				      "changed  log_level: info -> debug\n"
				      "changed  stores.a.ttl: 100s -> 50s\n"
				      "removed  stores.gone\n"
				      "added    stores.fresh\n";
	CHECK_EQ(CLI(d, "config", "diff"), 1);
	CHECK_STR(out, changes);
	CHECK_EQ(hc_store(hc, "fresh", &s), HC_E_NO_STORE);
	CHECK_EQ(CLI(d, "reload"), 0);
	CHECK_STR(out, changes);
	CHECK_EQ(CLI(d, "config", "diff"), 0);
	CHECK_EQ(t_daemon_engine(d), engine);

	put(a, "new", "v");
	check_ttl(a, "new", 50);
	check_ttl(a, "old", 100);
	s = store_of(hc, "fresh"); /* without a word to the daemon */
	put(s, "k", "v");
	check_ttl(s, "k", 3600);
	CHECK_EQ(hc_get(gone, "k", 1, NULL, 0, NULL), HC_E_NO_STORE);
	CHECK_EQ(hc_store(hc, "gone", &s), HC_E_NO_STORE);

	(void)t_daemon_wait_engine(d, t_daemon_kill_engine(d, SIGKILL)); /* its heir has it too */
	put(a, "newer", "v");
	check_ttl(a, "newer", 50);
	CHECK_EQ(CLI(d, "config", "diff"), 0);
	hc_close(hc);
	t_daemon_stop(d);
}

static uint64_t entries_of(const struct t_daemon *d, const char *store)
{
	const char *at;
	unsigned long long n = 0;

	CHECK_EQ(CLI(d, "--json", "--store", store, "stat"), 0);
	at = strstr(out, "\"entries\":");
	CHECK(at && sscanf(at, "\"entries\":%llu", &n) == 1);
	return n;
}

/* What a reload puts above a limit goes in the background; what it forbids is refused at once. */
TEST(limits_count_from_the_reload_on)
{
	enum { N = 500, FEWER = 100, BIG = 200000 };
	static char big[BIG];
	static const char conf[] =
		"pools: { main: { size: 16MiB, huge_pages: \"off\", max_value: %s } }\n"
		"stores: { a: { %s } }";
	char yaml[256], key[16];

	(void)snprintf(yaml, sizeof yaml, conf, "1MiB", "");
	struct t_daemon *d = t_daemon_start(yaml, NULL);
	struct hc *hc = client(d);
	struct hc_store *a = store_of(hc, "a");

	for (int i = 0; i < N; i++) {
		int n = snprintf(key, sizeof key, "%d", i);
		CHECK_EQ(hc_set(a, key, (size_t)n, "v", 1, NULL), HC_OK);
	}
	CHECK_EQ(hc_set(a, "big", 3, big, sizeof big, NULL), HC_OK);
	(void)snprintf(yaml, sizeof yaml, conf, "100KiB", "max_entries: 100");
	t_daemon_configure(d, yaml);
	CHECK_EQ(CLI(d, "reload"), 0);
	CHECK_STR(out, "changed  pools.main.max_value: 1MiB -> 100KiB\n"
		       "changed  stores.a.max_value: 1MiB -> 100KiB\n" /* it follows the pool's */
		       "changed  stores.a.max_entries: auto -> 100\n");
	CHECK_EQ(hc_set(a, "big", 3, big, sizeof big, NULL), HC_E_TOO_LARGE);
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(LIMIT_MS) * 1000000;
	while (entries_of(d, "a") > FEWER)
		CHECK(t_now_ns() < end_ns);
	hc_close(hc);
	t_daemon_stop(d);
}

TEST(sighup_reloads_and_the_log_has_the_answer)
{
	struct t_daemon *d = t_daemon_start("stores: { a: {} }", NULL);

	t_daemon_configure(d, "stores: { a: { ttl: 5s } }");
	t_proc_signal(d->proc, SIGHUP);
	free(t_proc_line(d->proc, "configuration: changed stores.a.ttl 0 5s", LIMIT_MS));
	t_daemon_configure(d, "stores: { a: { tll: 5s } }");
	t_proc_signal(d->proc, SIGHUP);
	char *line = t_proc_line(d->proc, "the configuration stays as it is", LIMIT_MS);
	CHECK(strstr(line, ":4:") && strstr(line, "did you mean ttl?"));
	free(line);
	CHECK_EQ(CLI(d, "store", "list"), 0);
	CHECK(strstr(out, "5.0 s"));
	t_daemon_stop(d);
}

/* The answer has this word, and nothing is other than before. */
static void check_refused(const struct t_daemon *d, const char *word)
{
	char *before;

	CHECK_EQ(CLI(d, "config", "show"), 0);
	before = strdup(out);
	int status = CLI(d, "reload");
	if (status != 5 || !strstr(err, word))
		fprintf(stderr, "  %d: %s", status, err);
	CHECK(status == 5 && strstr(err, word));
	CHECK_EQ(CLI(d, "config", "show"), 0);
	CHECK_STR(out, before);
	free(before);
}

TEST(a_reload_that_cannot_be_changes_nothing)
{
	static const struct {
		const char *yaml, *word;
	} bad[] = {
		{"stores: { a: {}, a: {} }", "is given twice"},
		{"stores: { a: { ttl: 5 } }", "lacks a unit"},
		{"stores: { a: { ttl: 5s }, b: { pool: mian } }", "did you mean main?"},
		{"stores: { a: { ttl: 5s }", "this is not YAML"},
		{"max_clients: 9\nstores: { a: { ttl: 5s } }", "needs-start: max_clients cannot"},
		{"pools: { main: { size: 16MiB, huge_pages: \"on\", scrub: true } }\nstores: { a: "
		 "{} }",
			"needs-start: pools.main.huge_pages and others"},
		{"pools: { main: { size: 1TiB, huge_pages: \"off\" } }\nstores: { a: { ttl: 5s }, "
		 "kept: {} }",
			"memory: pool main cannot be resized"},
		{"pools: { other: {} }\nstores: { a: { ttl: 5s } }",
			"needs-start: pools.main and others cannot be removed while"},
	};
	struct t_daemon *d = t_daemon_start("stores: { a: {}, kept: {} }", NULL);
	pid_t engine = t_daemon_engine(d);

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		t_daemon_configure(d, bad[i].yaml);
		check_refused(d, bad[i].word);
	}
	CHECK_EQ(unlink(d->config), 0);
	check_refused(d, "config: ");
	CHECK_EQ(mkdir(d->config, 0700), 0);
	check_refused(d, "cannot be read: Is a directory; use a regular file");
	CHECK_EQ(rmdir(d->config), 0);
	CHECK_EQ(mkfifo(d->config, 0600), 0);
	check_refused(d, "use a regular file");
	CHECK_EQ(unlink(d->config), 0);
	CHECK_EQ(t_daemon_engine(d), engine);
	CHECK_EQ(CLI(d, "store", "list"), 0);
	CHECK(strstr(out, "kept "));
	t_daemon_stop(d);
}

/* A file of which the first half is a right configuration of its own. */
TEST(a_file_that_is_being_written_is_not_read)
{
	struct t_daemon *d = t_daemon_start("stores: { a: {}, b: {} }", NULL);

	t_daemon_configure(d, "stores:\n  a: {}\n  b: {}\n  c: {}");
	int fd = open(d->config, O_WRONLY | O_APPEND | O_CLOEXEC);
	CHECK(fd >= 0);
	check_refused(d, "being-written: ");
	CHECK_EQ(write(fd, "\n# more", 7), 7);
	check_refused(d, "being-written: ");
	CHECK_EQ(close(fd), 0);
	CHECK_EQ(CLI(d, "reload"), 0);
	CHECK_STR(out, "added    stores.c\n");
	fd = open(d->config, O_WRONLY | O_APPEND | O_CLOEXEC); /* nobody holds it any more */
	CHECK(fd >= 0);
	CHECK_EQ(close(fd), 0);
	t_daemon_stop(d);
}

TEST(a_daemon_without_a_file_has_nothing_to_read_again)
{
	struct t_daemon d = {0};
	(void)snprintf(d.socket, sizeof d.socket, "%s", t_path("s"));
	(void)snprintf(d.admin, sizeof d.admin, "%s", t_path("a"));
	char set[3][T_PATH_BYTES + 32];
	(void)snprintf(set[0], sizeof set[0], "socket=%s", d.socket);
	(void)snprintf(set[1], sizeof set[1], "admin_socket=%s", d.admin);
	(void)snprintf(set[2], sizeof set[2], "data_dir=%s", t_path("data"));
	d.proc = t_spawn((const char *[]){t_bin("hypercached"), "--set", set[0], "--set", set[1],
				 "--set", set[2], "--set", "pools.main.size=8MiB", NULL},
		NULL);
	t_daemon_wait_ready(&d);
	CHECK_EQ(CLI(&d, "reload"), 5);
	CHECK(strstr(err, "no-file: "));
	CHECK_EQ(CLI(&d, "config", "show"), 0);
	CHECK(strstr(out, "option --set"));
	CHECK_EQ(CLI(&d, "store", "create", "x"), 0);
	t_proc_signal(d.proc, SIGTERM);
	CHECK_EQ(t_proc_exit(d.proc, LIMIT_MS), 0);
	t_proc_free(d.proc);
}

/* -- looking -- */

TEST(each_value_is_shown_with_where_it_comes_from)
{
	struct t_daemon *d = t_daemon_start("stores: { a: { ttl: 5s } }", NULL);

	CHECK_EQ(CLI(d, "store", "create", "b", "ttl=7s"), 0);
	CHECK_EQ(CLI(d, "--json", "config", "show"), 0);
	CHECK(strstr(out,
		"{\"path\":\"stores.a.ttl\",\"value\":\"5s\",\"from\":\"file\",\"line\":4,"
		"\"needs_start\":false}"));
	CHECK(strstr(out, "{\"path\":\"stores.b.ttl\",\"value\":\"7s\",\"from\":\"admin\","));
	CHECK(strstr(out, "{\"path\":\"restart_limit\",\"value\":\"10\",\"from\":\"default\","));
	CHECK(strstr(out, d->config));

	t_daemon_configure(d, "stores: { a: { ttl: 6s } }");
	char other[T_PATH_BYTES + 8];
	(void)snprintf(other, sizeof other, "%s.new", d->config);
	CHECK_EQ(rename(d->config, other), 0);
	CHECK_EQ(CLI(d, "config", "diff", other), 1);
	CHECK_STR(out, "changed  stores.a.ttl: 5s -> 6s\n");
	CHECK_EQ(CLI(d, "--json", "config", "diff", other), 1);
	CHECK_STR(out,
		"{\"changes\":[{\"what\":\"changed\",\"path\":\"stores.a.ttl\",\"was\":\"5s\","
		"\"is\":\"6s\",\"needs_start\":false}]}\n");
	CHECK_EQ(CLI(d, "config", "diff", "/nonexistent"), 5);
	CHECK_EQ(CLI(d, "config", "check", other), 0);
	t_daemon_configure(d, "stores: { a: { tll: 6s } }");
	CHECK_EQ(CLI(d, "config", "check", d->config), 1);
	CHECK(strstr(err, "c.yaml:4:16: ") && strstr(err, "did you mean ttl?"));
	CHECK_EQ(CLI(d, "--json", "config", "check", d->config), 1);
	CHECK(strstr(out, "{\"right\":false,\"text\":"));
	CHECK_EQ(CLI(d, "config", "diff", d->config), 5);
	CHECK(strstr(err, "did you mean ttl?"));
	t_daemon_stop(d);
}

/* The mode of the socket is the first thing that keeps others out. */
TEST(whom_a_reload_lets_in_can_connect)
{
	struct t_daemon *d = t_daemon_start(
		"pools: { main: { size: 8MiB, huge_pages: \"off\", read: owner } }", NULL);
	struct stat st;

	CHECK_EQ(stat(d->socket, &st), 0);
	CHECK_EQ(st.st_mode & 0777, 0600);
	t_daemon_configure(d, "admin_uids: [65534]\n"
			      "pools: { main: { size: 8MiB, huge_pages: \"off\", read: owner } }");
	CHECK_EQ(CLI(d, "reload"), 0);
	CHECK_STR(out, "changed  admin_uids: none -> [65534]\n");
	CHECK_EQ(stat(d->socket, &st), 0);
	CHECK_EQ(st.st_mode & 0777, 0666);
	t_daemon_stop(d);
}

TEST(who_may_look_may_not_change)
{
	if (geteuid() != 0)
		SKIP("not run by root");
	struct t_daemon *d = t_daemon_start("admin_uids: [65534]\nstores: { a: {} }", NULL);
	static const struct {
		const char *args[4];
		int status;
	} asked[] = {
		{{"config", "show"}, 0},
		{{"config", "diff"}, 0},
		{{"store", "list"}, 0},
		{{"reload"}, 4},
		{{"store", "create", "x"}, 4},
		{{"store", "drop", "a"}, 4},
	};

	CHECK_EQ(chmod(t_dir(), 0711), 0);
	CHECK_EQ(chmod(d->dir, 0711), 0);
	for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
		struct t_proc *p = t_spawn(
			(const char *[]){t_bin("hypercache"), "--admin", d->admin, asked[i].args[0],
				asked[i].args[1], asked[i].args[2], NULL},
			&(struct t_spawn_opts){.uid = 65534});
		CHECK_EQ(t_proc_exit(p, LIMIT_MS), asked[i].status);
		if (asked[i].status)
			CHECK(strstr(p->err.text, "denied: only root"));
		t_proc_free(p);
	}
	t_daemon_stop(d);
}

/* Sends n bytes and a descriptor (-1: none) to the admin socket; the kind of the answer, 0: none came. */
static int admin_send(const struct t_daemon *d, const void *bytes, size_t n, int fd)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {0};
	struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = n};
	struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	struct admin_answer a = {.kind = 0};
	int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	CHECK(strlen(d->admin) < sizeof to.sun_path);
	strcpy(to.sun_path, d->admin);
	CHECK(sock >= 0 && connect(sock, (struct sockaddr *)&to, sizeof to) == 0);
	if (fd >= 0) {
		m.msg_control = control;
		m.msg_controllen = sizeof control;
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof fd);
		memcpy(CMSG_DATA(c), &fd, sizeof fd);
	}
	CHECK_EQ(sendmsg(sock, &m, 0), (ssize_t)n);
	ssize_t got = recv(sock, &a, sizeof a, 0);
	CHECK_EQ(close(sock), 0);
	return got == (ssize_t)sizeof a ? a.kind : 0;
}

/* What a tool of another version, or nobody's tool, may send. */
TEST(requests_that_make_no_sense_are_refused_and_change_nothing)
{
	struct t_daemon *d = t_daemon_start("stores: { a: {}, b: {} }", NULL);
	struct admin_request good = {
		.magic = ADMIN_ASK_MAGIC, .version = ADMIN_VERSION, .ask = ADMIN_SHOW};
	struct admin_request rq = good;
	int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC), pair[2];

	CHECK(zero >= 0 && pipe2(pair, O_CLOEXEC) == 0);
	CHECK_EQ(admin_send(d, &rq, sizeof rq, -1), ADMIN_DONE);
	CHECK_EQ(admin_send(d, &rq, sizeof rq, zero),
		ADMIN_DONE); /* it is closed, and that is all */
	CHECK_EQ(admin_send(d, &rq, sizeof rq - 1, -1), ADMIN_BAD);
	rq.version++;
	CHECK_EQ(admin_send(d, &rq, sizeof rq, -1), ADMIN_BAD);
	rq = good;
	rq.ask = 99;
	CHECK_EQ(admin_send(d, &rq, sizeof rq, -1), ADMIN_REFUSED);
	rq.ask = ADMIN_DIFF;
	strcpy(rq.text, "f.yaml");
	CHECK_EQ(admin_send(d, &rq, sizeof rq, zero), ADMIN_REFUSED); /* no sealed memory */
	CHECK_EQ(admin_send(d, &rq, sizeof rq, pair[0]), ADMIN_REFUSED);
	rq.ask = ADMIN_STORE_DROP;
	memset(rq.name, 'a', sizeof rq.name); /* has no end */
	CHECK_EQ(admin_send(d, &rq, sizeof rq, -1), ADMIN_BAD);
	rq.name[sizeof rq.name - 1] = 0;
	CHECK_EQ(admin_send(d, &rq, sizeof rq, -1), ADMIN_REFUSED);
	rq.ask = ADMIN_STORE_CREATE;
	strcpy(rq.name, "x");
	memset(rq.text, '\n', sizeof rq.text - 1);
	CHECK_EQ(admin_send(d, &rq, sizeof rq, -1), ADMIN_REFUSED);
	CHECK(close(zero) == 0 && close(pair[0]) == 0 && close(pair[1]) == 0);
	CHECK_EQ(CLI(d, "config", "diff"), 0);
	CHECK_STR(out, "nothing differs\n");
	t_daemon_stop(d);
}

/* -- stores -- */

TEST(a_dropped_store_is_named_by_every_call_and_its_memory_comes_back)
{
	enum { N = 3000 };
	static char value[1000];
	struct t_daemon *d = t_daemon_start("stores: { a: {}, b: {} }", NULL);
	struct hc *hc = client(d);
	struct hc_store *a = store_of(hc, "a"), *b = store_of(hc, "b");
	struct hc_view v;
	char key[16];

	put(a, "k", "kept");
	for (int i = 0; i < N; i++) {
		int n = snprintf(key, sizeof key, "%d", i);
		CHECK_EQ(hc_set(b, key, (size_t)n, value, sizeof value, NULL), HC_OK);
	}
	put(b, "seen", "still here");
	CHECK_EQ(hc_view(b, "seen", 4, &v), HC_OK);
	CHECK_EQ(CLI(d, "store", "drop", "b"), 5);
	CHECK(strstr(err, "in-use: store b holds 3001 entries"));
	CHECK_EQ(hc_exists(b, "seen", 4), HC_OK);
	CHECK_EQ(CLI(d, "--force", "store", "drop", "b"), 0);

	size_t n;
	CHECK_EQ(hc_get(b, "seen", 4, NULL, 0, &n), HC_E_NO_STORE);
	CHECK_EQ(hc_exists(b, "seen", 4), HC_E_NO_STORE);
	CHECK_EQ(hc_set(b, "x", 1, "v", 1, NULL), HC_E_NO_STORE);
	CHECK_EQ(hc_delete(b, "seen", 4), HC_E_NO_STORE);
	CHECK(v.value_bytes == 10 && memcmp(v.value, "still here", 10) == 0);
	CHECK_EQ(hc_view_ok(&v), 1);
	hc_view_release(&v);
	CHECK_EQ(hc_get(a, "k", 1, NULL, 0, &n), HC_TOO_SMALL);

	CHECK_EQ(CLI(d, "store", "clear", "b"), 5);
	CHECK(strstr(err, "there is no store \"b\""));
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(LIMIT_MS) * 1000000;
	do { /* a few hundred a turn */
		CHECK(t_now_ns() < end_ns);
		CHECK_EQ(CLI(d, "--json", "pool", "list"), 0);
	} while (!strstr(out, "\"entries\":1,"));
	CHECK_EQ(CLI(d, "fsck"), 0);
	CHECK_EQ(CLI(d, "store", "drop", "b"), 5);
	CHECK(strstr(err, "no-store: "));
	CHECK_EQ(CLI(d, "--force", "store", "drop", "a"), 5);
	CHECK(strstr(err, "is the last one"));
	CHECK_EQ(CLI(d, "--json", "store", "clear", "a"), 0);
	CHECK(strstr(out, "\"entries\":1"));
	CHECK_EQ(hc_exists(a, "k", 1), HC_MISS);
	hc_close(hc);
	t_daemon_stop(d);
}

TEST(a_reload_never_takes_a_store_that_holds_entries_unless_forced)
{
	struct t_daemon *d = t_daemon_start("stores: { a: { ttl: 5s }, b: {} }", NULL);
	struct hc *hc = client(d);
	struct hc_store *s;

	put(store_of(hc, "b"), "k", "v");
	t_daemon_configure(d, "stores: { a: { ttl: 6s } }");
	check_refused(d, "in-use: store b holds 1 entry,");
	CHECK_EQ(CLI(d, "--force", "reload"), 0);
	CHECK_STR(out, "changed  stores.a.ttl: 5s -> 6s\nremoved  stores.b\n");
	CHECK_EQ(hc_store(hc, "b", &s), HC_E_NO_STORE);
	hc_close(hc);
	t_daemon_stop(d);
}

/* More often than there are places in the directory: each is used again. */
TEST(a_name_that_comes_again_is_another_store)
{
	enum { TIMES = 70 };
	struct t_daemon *d = t_daemon_start("stores: { a: {} }", NULL);
	struct hc *hc = client(d);
	struct hc_store *first = NULL, *s;

	for (int i = 0; i < TIMES; i++) {
		CHECK_EQ(CLI(d, "store", "create", "x"), 0);
		s = store_of(hc, "x");
		CHECK(s != first);
		first = first ? first : s;
		CHECK_EQ(hc_exists(s, "k", 1), HC_MISS);
		put(s, "k", "v");
		CHECK_EQ(hc_get(s, "k", 1, NULL, 0, NULL), HC_TOO_SMALL);
		if (s != first)
			CHECK_EQ(hc_get(first, "k", 1, NULL, 0, NULL), HC_E_NO_STORE);
		CHECK_EQ(CLI(d, "--json", "--store", "x", "stat"), 0);
		if (!strstr(out, "\"hits\":1,\"misses\":0,")) /* not those of former stores */
			fprintf(stderr, "  %d: %s\n", i, out);
		CHECK(strstr(out, "\"hits\":1,\"misses\":0,"));
		CHECK_EQ(CLI(d, "--force", "store", "drop", "x"), 0);
	}
	hc_close(hc);
	CHECK_EQ(CLI(d, "--json", "stat"), 0);
	CHECK(strstr(out, "\"name\":\"a\"") && !strstr(out, "\"name\":\"x\""));
	t_daemon_stop(d);
}

TEST(a_store_is_created_with_keys_of_the_configuration_and_limits)
{
	static const struct {
		const char *name, *key, *word;
	} bad[] = {
		{"a", "ttl=5s", "exists: "},
		{"x", "tll=5s", "did you mean ttl?"},
		{"x", "ttl=5", "lacks a unit"},
		{"x", "pool=mian", "did you mean main?"},
		{"x", "ttl", "this is no KEY=VALUE"},
		{"x y", "ttl=5s", "this cannot be a name"},
		{"auto", "ttl=5s", "this cannot be a name"},
	};
	struct t_daemon *d = t_daemon_start("stores: { a: {} }", NULL);
	char name[16];

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		CHECK_EQ(CLI(d, "store", "create", bad[i].name, bad[i].key), 5);
		if (!strstr(err, bad[i].word))
			fprintf(stderr, "  %s", err);
		CHECK(strstr(err, bad[i].word));
	}
	for (int i = 1; i < 64; i++) {
		(void)snprintf(name, sizeof name, "s%d", i);
		CHECK_EQ(CLI(d, "store", "create", name), 0);
	}
	CHECK_EQ(CLI(d, "store", "create", "one-more"), 5);
	CHECK(strstr(err, "full: there are 64 stores"));
	t_daemon_configure(d, "stores: { a: {}, one-more: {} }");
	CHECK_EQ(CLI(d, "reload"), 5);
	CHECK(strstr(err, "full: "));
	CHECK_EQ(CLI(d, "store", "drop", "s9"), 0);
	CHECK_EQ(CLI(d, "store", "create", "s9", "guaranteed=9MiB"), 0);
	t_daemon_configure(d, "stores: { a: { guaranteed: 9MiB } }"); /* each alone would do */
	CHECK_EQ(CLI(d, "reload"), 5);
	CHECK(strstr(err, "guaranteed: 9MiB is more than pool main can promise"));
	t_daemon_configure(d, "stores: { a: {}, one-more: {} }");
	CHECK_EQ(CLI(d, "store", "drop", "s9"), 0);
	CHECK_EQ(CLI(d, "reload"), 0); /* and leaves those alone that the file does not know */
	CHECK_STR(out, "added    stores.one-more\n");
	t_daemon_stop(d);
}

/* What a type brings, and what the keys make of it. */
TEST(a_type_brings_its_time_to_live)
{
	enum { N = 200, VALUE = 5000 };
	static char value[VALUE];
	struct t_daemon *d = t_daemon_start(
		"stores:\n  g: {}\n  s: { type: session }\n"
		"  t: { type: ttl, max_value: 4KiB }\n"
		"  u: { type: ttl, ttl: 60s }\n  j: { ttl: 100s, ttl_jitter: 50% }",
		NULL);
	struct hc *hc = client(d);
	static const struct {
		const char *store;
		uint64_t ttl_s;
	} want[] = {{"g", 0}, {"s", 1800}, {"t", 600}, {"u", 60}};

	for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
		put(store_of(hc, want[i].store), "k", "v");
		check_ttl(store_of(hc, want[i].store), "k", want[i].ttl_s);
	}
	CHECK_EQ(hc_set(store_of(hc, "t"), "k", 1, value, 4097, NULL), HC_E_TOO_LARGE);
	CHECK_EQ(hc_set(store_of(hc, "t"), "k", 1, value, 4096, NULL), HC_OK);
	CHECK_EQ(hc_append(store_of(hc, "t"), "k", 1, "x", 1, NULL), HC_E_TOO_LARGE);
	CHECK_EQ(hc_set(store_of(hc, "u"), "k", 1, value, 4097, NULL), HC_OK);

	/* With jitter: between half and all of it, and not the same. */
	struct hc_store *j = store_of(hc, "j");
	uint64_t least = UINT64_MAX, most = 0;
	char key[16];
	for (int i = 0; i < N; i++) {
		struct hc_meta m = HC_OPTS(hc_meta);
		int n = snprintf(key, sizeof key, "%d", i);
		put(j, key, "v");
		CHECK_EQ(hc_meta(j, key, (size_t)n, &m), HC_OK);
		CHECK_EQ(m.ttl_ms, 100000);
		CHECK(m.expires_in_ms > 0);
		uint64_t left = (uint64_t)m.expires_in_ms;
		least = left < least ? left : least;
		most = left > most ? left : most;
	}
	CHECK(most <= 100000 && least + (uint64_t)t_limit_ms(1000) >= 50000);
	CHECK(least < 65000 && most > 85000);
	hc_close(hc);
	t_daemon_stop(d);
}

/* -- engines -- */

TEST(an_engine_that_hangs_or_is_gone_loses_no_change)
{
	struct t_daemon *d = t_daemon_start("restart_backoff_max: 10s\nstores: { a: {} }", NULL);
	pid_t engine = t_daemon_engine(d);
	struct hc *hc = client(d);

	CHECK_EQ(kill(engine, SIGSTOP), 0);
	CHECK_EQ(CLI(d, "store", "create", "x"), 5);
	CHECK(strstr(err, "busy: the engine has not answered yet"));
	CHECK_EQ(CLI(d, "store", "create", "y"), 5);
	CHECK(strstr(err, "another change is under way"));
	CHECK_EQ(CLI(d, "config", "show"), 0);
	CHECK_EQ(kill(engine, SIGCONT), 0);
	free(t_proc_line(d->proc, "configuration: added stores.x", LIMIT_MS));
	put(store_of(hc, "x"), "k", "v");

	CHECK_EQ(kill(engine, SIGSTOP), 0);
	CHECK_EQ(CLI(d, "store", "create", "y"), 5);
	CHECK_EQ(kill(engine, SIGKILL), 0);
	free(t_proc_line(d->proc, "engine-died", LIMIT_MS));
	(void)t_daemon_wait_engine(d, engine);
	struct hc_store *s;
	CHECK_EQ(hc_store(hc, "y", &s), HC_E_NO_STORE); /* whole: not at all */
	CHECK_EQ(hc_exists(store_of(hc, "x"), "k", 1), HC_OK);
	CHECK_EQ(CLI(d, "store", "create", "y"), 0);
	hc_close(hc);
	t_daemon_stop(d);
}
