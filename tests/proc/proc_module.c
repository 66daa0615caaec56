/* proc_module.c - are policies of shared objects loaded, refused where they have to be, and harmless?
 *
 * The object is tests/policy_example.c: what came last goes first.
 *
 * Planted bugs (shm/step.h) that this file must catch: 300 to 302, 772, 773.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "cli_run.h"
#include "hypercache.h"

enum { WAIT_MS = 20000, N = 100 };

/* A copy of a built object, as the policy NAME: nobody else's file is changed. */
static const char *object(const char *built, const char *name, mode_t mode)
{
	static char path[4096];
	static char bytes[1 << 20];
	char from[64];

	(void)snprintf(from, sizeof from, "tests/%s.so", built);
	(void)snprintf(path, sizeof path, "%s/%s.so", t_dir(), name);
	FILE *f = fopen(t_bin(from), "re");
	CHECK(f != NULL);
	size_t n = fread(bytes, 1, sizeof bytes, f);
	CHECK(n > 0 && n < sizeof bytes && fclose(f) == 0);
	(void)unlink(path);
	f = fopen(path, "we");
	CHECK(f != NULL && fwrite(bytes, 1, n, f) == n && fclose(f) == 0);
	CHECK_EQ(chmod(path, mode), 0);
	return path;
}

/* `hypercache config check` of a file with this module and this store: what it says. */
static void check_refused(const char *module, const char *store, const char *text)
{
	char path[4096];

	(void)snprintf(path, sizeof path, "%s/c.yaml", t_dir());
	FILE *f = fopen(path, "we");
	CHECK(f != NULL);
	fprintf(f, "policy_modules: %s\nstores:\n  s: %s\n", module, store);
	CHECK_EQ(fclose(f), 0);
	struct result r = run(NULL, ARGS("config", "check", path));
	CHECK(r.status != 0);
	if (!strstr(r.err, text))
		fprintf(stderr, "  wanted: %s\n  got: %s", text, r.err);
	CHECK(strstr(r.err, text) && strstr(r.err, "; "));
	result_free(&r);
}

TEST(what_cannot_be_loaded_is_refused_with_its_reason)
{
	const char *good = "{policy: policy_example}", *none = "{}";

	check_refused("/nowhere/policy_example.so", good, "it cannot be opened");
	check_refused("nowhere/policy_example.so", good, "is no shared object");
	check_refused("/nowhere/Example.so", none, "is no shared object");
	check_refused("/nowhere/lru.so", none, "there is a policy lru");
	check_refused("/a.so, /b.so, /c.so, /d.so, /e.so", none, "at most 4");
	check_refused(
		object("policy_example", "other", 0644), none, "it calls itself policy_example");
	check_refused(
		object("policy_example", "policy_example", 0666), good, "others may write it");
	check_refused(
		object("policy_other_abi", "policy_example", 0644), good, "built for version 2");
	check_refused(object("policy_no_symbol", "policy_example", 0644), good, "has no symbol");
	const char *path = object("policy_example", "policy_example", 0644);
	check_refused(path, "{policy: policy_exampel}", "did you mean policy_example");
	check_refused(path, "{policy: policy_example, policy_params: {nonsens: 1}}",
		"did you mean nonsense");
	check_refused(path, "{policy: policy_example, policy_params: {nonsense: 4}}", "0..3");
	if (geteuid() == 0) {
		CHECK_EQ(chown(path, 65534, 65534), 0);
		check_refused(path, good, "belongs to user 65534");
	}
	FILE *f = fopen(object("policy_example", "policy_example", 0644), "we");
	CHECK(f != NULL && fputs("no object", f) >= 0 && fclose(f) == 0);
	check_refused(path, good, "cannot be loaded");
}

static struct hc_store *store_open(const struct t_daemon *d, struct hc **ret)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct hc_store *s;

	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(WAIT_MS);
	CHECK_EQ(hc_open(ret, &o), HC_OK);
	CHECK_EQ(hc_store(*ret, "s", &s), HC_OK);
	return s;
}

static void set(struct hc_store *s, int from, int to)
{
	char key[16];

	for (int i = from; i < to; i++) {
		int n = snprintf(key, sizeof key, "%d", i);
		CHECK_EQ(hc_set(s, key, (size_t)n, "value", 5, NULL), HC_OK);
	}
}

/* How many of the first N are there. */
static int first_ones(struct hc_store *s)
{
	char key[16];
	int n_there = 0;

	for (int i = 0; i < N; i++) {
		int n = snprintf(key, sizeof key, "%d", i);
		n_there += hc_exists(s, key, (size_t)n) == HC_OK;
	}
	return n_there;
}

/* The object decides: what came first stays.  The next engine loads it again; a reload takes it away and back. */
TEST_LIMIT(an_object_decides_who_goes, 60)
{
	char yaml[16384], path[4096];

	(void)snprintf(path, sizeof path, "%s", object("policy_example", "policy_example", 0644));
	(void)snprintf(yaml, sizeof yaml,
		"policy_modules: \"%s,%s\"\n"
		"stores:\n  s: {policy: policy_example, max_entries: %d}\n  z: {policy: "
		"policy_second}\n",
		path, object("policy_second", "policy_second", 0644), N);
	struct t_daemon *d = t_daemon_start(yaml, NULL);
	struct hc *hc;
	struct hc_store *s = store_open(d, &hc);

	set(s, 0, 5 * N);
	CHECK(first_ones(s) >= N - 2);
	pid_t engine = t_daemon_kill_engine(d, SIGKILL);
	(void)t_daemon_wait_engine(d, engine);
	set(s, 5 * N, 5 * N + 3);
	CHECK(first_ones(s) >= N - 6);
	struct result r = run(d, ARGS("stat", "--json", "--store", "s"));
	check_says(&r, "policy_example", NULL);
	result_free(&r);
	check_status(d, 5,
		ARGS("store", "create", "t", "policy=policy_example", "policy_params=nonsens=1"));
	check_status(d, 0,
		ARGS("store", "create", "t", "policy=policy_example", "policy_params=nonsense=1"));
	hc_close(hc);
	t_daemon_stop(d);
}

/* Whatever it proposes, an entry goes that is one; and the accounts are right. */
TEST_LIMIT(nonsense_is_not_believed, 60)
{
	char yaml[8192];
	const char *path = object("policy_example", "policy_example", 0644);

	for (int kind = 1; kind <= 3; kind++) {
		(void)snprintf(yaml, sizeof yaml,
			"policy_modules: %s\nstores:\n"
			"  s: {policy: policy_example, policy_params: {nonsense: %d}, max_entries: "
			"%d}\n",
			path, kind, N);
		struct t_daemon *d = t_daemon_start(yaml, NULL);
		struct hc *hc;
		struct hc_store *s = store_open(d, &hc);
		pid_t engine = t_daemon_engine(d);
		set(s, 0, 5 * N);
		CHECK_EQ(t_daemon_engine(d), engine);
		/* The first goes; a number that has gone is soon another entry's, and then it is one. */
		CHECK(kind == 3 || first_ones(s) == 0);
		struct result r = run(d, ARGS("stat", "--json", "--store", "s"));
		check_says(&r, "\"entries\":100", NULL);
		result_free(&r);
		check_status(d, 0, ARGS("fsck"));
		hc_close(hc);
		t_daemon_stop(d);
	}
}

/* It holds the pipe that it was to answer through, in a process of its own: nobody waits for that one, and it does not
 * outlive the question.  Nor has it anything of the supervisor's. */
TEST(an_object_that_forks_holds_nobody_up)
{
	char yaml[8192], env[4096 + 16];
	int pid = 0;

	(void)snprintf(env, sizeof env, "POLICY_FORKS=%s", t_path("pid"));
	(void)snprintf(yaml, sizeof yaml,
		"policy_modules: %s\nstores:\n  s: {policy: policy_forks}\n",
		object("policy_forks", "policy_forks", 0644));
	struct t_daemon *d = t_daemon_start(yaml, (const char *[]){env, NULL});
	for (int i = 0; i < 2; i++) { /* of the start; of a supervisor that has sockets */
		FILE *f = fopen(t_path("pid"), "re");
		CHECK(f && fscanf(f, "%d", &pid) == 1 && fclose(f) == 0);
		CHECK(t_pid_gone(pid, WAIT_MS));
		check_status(d, 0, ARGS("reload"));
	}
	t_daemon_stop(d);
}
