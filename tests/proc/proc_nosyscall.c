/* proc_nosyscall.c - do reads make system calls?  A process reads under a filter of the kernel that kills
 * it at the first call other than its end.  That the filter bites is asked too. */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "hypercache.h"

enum {
	KEYS = 1000,     /* every fourth has a time to live, so that clocks are read too */
	CALLS = 1000000, /* of each kind */
	MGET = 16,
	VALUE_BYTES = 100,
	KEY_BYTES = 16,
	WAIT_MS = 100000,
};

static void key_make(int i, char *key) { (void)snprintf(key, KEY_BYTES + 1, "key-%012d", i); }

static void client_open(const struct t_daemon *d, struct hc **hc, struct hc_store **s)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);

	o.socket = d->socket;
	CHECK_EQ(hc_open(hc, &o), HC_OK);
	CHECK_EQ(hc_store(*hc, "default", s), HC_OK);
}

static void fill(struct hc_store *s)
{
	struct hc_set_opts o = HC_OPTS(hc_set_opts);
	char key[KEY_BYTES + 1], value[VALUE_BYTES];

	for (int i = 0; i < KEYS; i++) {
		key_make(i, key);
		memset(value, i, sizeof value);
		o.ttl_ms = i % 4 ? 0 : 3600000;
		CHECK_EQ(hc_set(s, key, KEY_BYTES, value, sizeof value, &o), HC_OK);
	}
}

/* From here on: exit_group, or death.  x86-64 and arm64 alike: the number alone is looked at, and it is
 * this process's own. */
static void forbid_calls(void)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog p = {.len = sizeof f / sizeof *f, .filter = f};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p) != 0)
		_exit(T_SKIPPED);
}

/* Keys above KEYS are misses.  Returns how many calls did not do what they should. */
static int get_all(struct hc_store *s)
{
	char buf[VALUE_BYTES], key[KEYS + KEYS / 4][KEY_BYTES + 1];
	int bad = 0;
	size_t n;

	for (int i = 0; i < KEYS + KEYS / 4; i++)
		key_make(i, key[i]);
	for (int i = 0; i < CALLS; i++) {
		int k = i % (KEYS + KEYS / 4);
		int r = hc_get(s, key[k], KEY_BYTES, buf, sizeof buf, &n);
		bad += k < KEYS ? r != HC_OK || n != VALUE_BYTES || buf[n - 1] != (char)k
		                : r != HC_MISS;
	}
	return bad;
}

static int view_all(struct hc_store *s)
{
	char key[KEY_BYTES + 1];
	struct hc_view v;
	int bad = 0;

	for (int i = 0; i < CALLS; i++) {
		if (i % 1000 == 0)
			key_make(i / 1000 % KEYS, key);
		bad += hc_view(s, key, KEY_BYTES, &v) != HC_OK || v.value_bytes != VALUE_BYTES ||
		       hc_view_ok(&v) != 1 || hc_view_release(&v) != HC_OK;
	}
	return bad;
}

static int mget_all(struct hc_store *s)
{
	static char key[MGET][KEY_BYTES + 1], buf[MGET][VALUE_BYTES];
	struct hc_mget_item it[MGET];
	int bad = 0;

	for (int i = 0; i < MGET; i++) {
		key_make(i * 7, key[i]);
		it[i] = (struct hc_mget_item){.key = key[i],
			.key_bytes = KEY_BYTES,
			.buf = buf[i],
			.buf_bytes = VALUE_BYTES};
	}
	for (int n = 0; n < CALLS; n++) {
		bad += hc_mget(s, it, MGET) != HC_OK;
		for (int i = 0; i < MGET; i++)
			bad += it[i].result != HC_OK;
	}
	return bad;
}

/* Runs f in a child that may make no call.  Returns the status as of waitpid(2). */
static int run_forbidden(const struct t_daemon *d, int (*f)(struct hc_store *s))
{
	pid_t pid = fork();

	if (pid == 0) {
		struct hc_store *s;
		struct hc *hc;
		char c[VALUE_BYTES];
		client_open(d, &hc, &s);
		CHECK_EQ(hc_get(s, "key-000000000000", KEY_BYTES, c, sizeof c, NULL), HC_OK);
		forbid_calls();
		int bad = f(s);
		syscall(SYS_exit_group, bad != 0);
	}
	CHECK(pid > 0);
	int st = t_wait_child(pid, WAIT_MS);
	if (WIFEXITED(st) && WEXITSTATUS(st) == T_SKIPPED)
		SKIP("a filter of system calls may not be installed here");
	return st;
}

static struct t_daemon *begin(void)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct hc_store *s;
	struct hc *hc;

	client_open(d, &hc, &s);
	fill(s);
	hc_close(hc);
	return d;
}

TEST_LIMIT(a_million_hc_get_make_no_system_call, 120)
{
	struct t_daemon *d = begin();

	CHECK_EQ(run_forbidden(d, get_all), 0);
	t_daemon_stop(d);
}

TEST_LIMIT(a_million_hc_view_make_no_system_call, 120)
{
	struct t_daemon *d = begin();

	CHECK_EQ(run_forbidden(d, view_all), 0);
	t_daemon_stop(d);
}

TEST_LIMIT(a_million_hc_mget_make_no_system_call, 120)
{
	struct t_daemon *d = begin();

	CHECK_EQ(run_forbidden(d, mget_all), 0);
	t_daemon_stop(d);
}

static int one_call(struct hc_store *s)
{
	(void)s;
	return (int)syscall(SYS_getpid) * 0;
}

TEST(a_single_system_call_would_have_been_seen)
{
	struct t_daemon *d = begin();
	int st = run_forbidden(d, one_call);

	CHECK(WIFSIGNALED(st) && WTERMSIG(st) == SIGSYS);
	t_daemon_stop(d);
}
