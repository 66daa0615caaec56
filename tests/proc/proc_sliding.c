/* proc_sliding.c - stores in which a read gives an entry its time to live again. */
#include <grp.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "hypercache.h"

enum { LIMIT_MS = 30000, TTL_MS = 2000 };

static struct hc_store *store_open(const struct t_daemon *d, struct hc **ret)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct hc_store *s;

	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(LIMIT_MS);
	CHECK_EQ(hc_open(ret, &o), HC_OK);
	CHECK_EQ(hc_store(*ret, "s", &s), HC_OK);
	return s;
}

static int get(struct hc_store *s, const char *key)
{
	char buf[16];

	return hc_get(s, key, strlen(key), buf, sizeof buf, NULL);
}

static void set(struct hc_store *s, const char *key)
{
	CHECK_EQ(hc_set(s, key, strlen(key), "value", 5, NULL), HC_OK);
}

/* Time itself is what is waited for: until this moment, but never past the deadline. */
static void wait_until(uint64_t at_ns, uint64_t end_ns)
{
	CHECK(at_ns < end_ns);
	for (uint64_t now; (now = t_now_ns()) < at_ns;)
		(void)poll(NULL, 0, (int)((at_ns - now) / 1000000) + 1);
}

static uint64_t ms(uint64_t n) { return n * 1000000; }

TEST(what_is_read_stays_and_what_is_not_goes)
{
	struct t_daemon *d = t_daemon_start(
		"heartbeat: 100ms\nstores: { s: { ttl: 2s, sliding: true } }", NULL);
	uint64_t begin_ns = t_now_ns(), end_ns = begin_ns + ms((uint64_t)t_limit_ms(LIMIT_MS));
	struct hc *hc;
	struct hc_store *s = store_open(d, &hc);
	struct hc_view v;

	set(s, "copied");
	set(s, "viewed");
	set(s, "looked at");
	/* Each a little more often than every quarter of its time, for three times its time. */
	for (uint64_t at = TTL_MS / 5; at < 3 * TTL_MS; at += TTL_MS / 5) {
		wait_until(begin_ns + ms(at), end_ns);
		CHECK_EQ(get(s, "copied"), HC_OK);
		CHECK_EQ(hc_view(s, "viewed", 6, &v), HC_OK);
		CHECK_EQ(hc_view_release(&v), HC_OK);
		(void)hc_exists(s, "looked at", 9); /* is no read */
	}
	CHECK_EQ(get(s, "looked at"), HC_MISS);
	CHECK_EQ(get(s, "copied"), HC_OK);
	wait_until(t_now_ns() + ms(TTL_MS + 300), end_ns); /* whoever is not read any more goes */
	CHECK_EQ(get(s, "copied"), HC_MISS);
	hc_close(hc);
	t_daemon_stop(d);
}

/* A burst of reads that are all due, many times what the engine can be told in a ring. */
TEST(more_reads_than_a_ring_holds_extend_all_the_same)
{
	enum { N = 2000 };
	struct t_daemon *d = t_daemon_start(
		"heartbeat: 100ms\nstores: { s: { ttl: 4s, sliding: true } }", NULL);
	struct hc *hc;
	struct hc_store *s = store_open(d, &hc);
	char key[16];

	for (int i = 0; i < N; i++) {
		(void)snprintf(key, sizeof key, "%d", i);
		set(s, key);
	}
	set(s, "unread");
	uint64_t begin_ns = t_now_ns(), end_ns = begin_ns + ms((uint64_t)t_limit_ms(LIMIT_MS));
	wait_until(begin_ns + ms(2000), end_ns);
	for (int i = 0; i < N; i++) {
		(void)snprintf(key, sizeof key, "%d", i);
		CHECK_EQ(get(s, key), HC_OK);
	}
	wait_until(begin_ns + ms(4100), end_ns);
	CHECK_EQ(get(s, "unread"), HC_MISS);
	for (int i = 0; i < N; i++) {
		int n = snprintf(key, sizeof key, "%d", i);
		CHECK_EQ(hc_exists(s, key, (size_t)n), HC_OK);
	}
	hc_close(hc);
	t_daemon_stop(d);
}

/* Reads for more than the time to live, as another user; 0: it expired nevertheless. */
static int read_as_other(const struct t_daemon *d)
{
	struct hc *hc;
	struct hc_store *s;

	if (setgroups(0, NULL) != 0 || setgid(65534) != 0 || setuid(65534) != 0)
		return 2;
	s = store_open(d, &hc);
	uint64_t end_ns = t_now_ns() + ms(2 * TTL_MS);
	int r = HC_OK;
	while (t_now_ns() < end_ns && r == HC_OK) {
		r = get(s, "k");
		(void)poll(NULL, 0, 50);
	}
	hc_close(hc);
	return r == HC_MISS ? 0 : 1;
}

TEST(who_may_not_write_extends_nothing)
{
	if (geteuid() != 0)
		SKIP("not run by root");
	struct t_daemon *d = t_daemon_start(
		"heartbeat: 100ms\nstores: { s: { ttl: 2s, sliding: true } }\n"
		"pools: { main: { size: 8MiB, huge_pages: \"off\", read: any, write: owner } }",
		NULL);
	struct hc *hc;
	struct hc_store *s = store_open(d, &hc);

	CHECK_EQ(chmod(t_dir(), 0711), 0);
	CHECK_EQ(chmod(d->dir, 0711), 0);
	set(s, "k");
	pid_t pid = fork();
	if (pid == 0)
		_exit(read_as_other(d));
	CHECK_EQ(t_wait_child(pid, LIMIT_MS), 0);
	hc_close(hc);
	t_daemon_stop(d);
}
