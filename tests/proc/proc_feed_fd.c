/* proc_feed_fd.c - the change feed in a poll loop: does the descriptor become readable for all that comes, and for nothing
 * else; what becomes of it when engines and the daemon die; who may wait at the engine. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "raw.h"

enum { LONG_MS = 20000, CHANGES = 3000, DEATHS = 5, MANY = 20, OVER_MANY = 16 };

#define POOL(feed) \
	"restart_limit: 1000\nrestart_backoff_max: 100ms\nheartbeat: 100ms\n" \
	"pools: {main: {size: 8MiB, huge_pages: \"off\"" feed "}}\n"
#define FEED POOL(", feed: 1MiB")

static struct hc *session_of(const struct t_daemon *d)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct hc *hc;

	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(LONG_MS);
	CHECK_EQ(hc_open(&hc, &o), HC_OK);
	return hc;
}

static struct hc_feed *follow(struct hc *hc, int *ret_fd)
{
	struct hc_feed *f;

	CHECK_EQ(hc_subscribe(hc, NULL, &f), HC_OK);
	CHECK_EQ(hc_feed_fd(f, ret_fd), HC_OK);
	return f;
}

static void put(struct hc *hc, const char *key)
{
	struct hc_store *s;

	CHECK_EQ(hc_store(hc, "default", &s), HC_OK);
	CHECK_EQ(hc_set(s, key, strlen(key), "x", 1, NULL), HC_OK);
}

static int next(struct hc_feed *f, struct hc_event *ev)
{
	*ev = (struct hc_event)HC_OPTS(hc_event);
	return hc_feed_next(f, 0, ev);
}

static bool rings(int fd, int ms) { return t_wait_fd(fd, POLLIN, ms); }

/* Takes all that is there.  How many. */
static int take_all(struct hc_feed *f)
{
	struct hc_event ev;
	int n = 0, r;

	while ((r = next(f, &ev)) == HC_OK)
		n++;
	CHECK_EQ(r, HC_MISS);
	return n;
}

TEST(it_is_readable_until_all_is_taken_and_again_when_something_comes)
{
	struct t_daemon *d = t_daemon_start(FEED, NULL);
	struct hc *hc = session_of(d);
	struct hc_event ev;
	int fd, again;
	struct hc_feed *f = follow(hc, &fd);

	put(hc, "before");
	CHECK(rings(fd, LONG_MS)); /* it was never looked at */
	CHECK_EQ(take_all(f), 1);
	CHECK(!rings(fd, 0));
	CHECK(hc_feed_fd(f, &again) == HC_OK && again == fd);
	put(hc, "a");
	put(hc, "b");
	CHECK(rings(fd, LONG_MS));
	CHECK(next(f, &ev) == HC_OK && memcmp(ev.key, "a", 1) == 0);
	CHECK(rings(fd, 0)); /* one is left */
	CHECK_EQ(take_all(f), 1);
	CHECK(!rings(fd, 0));
	CHECK_EQ(hc_feed_next(f, 1, &ev), HC_MISS); /* a call that waits may be among them */
	put(hc, "c");
	CHECK(rings(fd, LONG_MS));
	CHECK_EQ(take_all(f), 1);
	CHECK_EQ(hc_feed_fd(f, NULL), HC_E_INVAL);
	CHECK_EQ(hc_feed_fd(NULL, &fd), HC_E_INVAL);
	hc_feed_close(f);
	hc_close(hc);
	t_daemon_stop(d);
}

/* Waits by the descriptor alone. */
static void follow_all(const struct t_daemon *d)
{
	struct hc *hc = session_of(d);
	uint64_t last = 0;
	struct hc_event ev;
	int fd, n = 0, r;
	struct hc_feed *f = follow(hc, &fd);

	CHECK_EQ(take_all(f), 0);
	put(hc, "ready");
	while (n < CHANGES + 1) {
		CHECK(rings(fd, LONG_MS));
		while ((r = next(f, &ev)) == HC_OK) {
			char key[16];
			CHECK(last == 0 || ev.sequence == last + 1);
			last = ev.sequence;
			(void)snprintf(key, sizeof key, "%d", n - 1);
			CHECK(n == 0 || (ev.key_bytes == strlen(key) &&
						memcmp(ev.key, key, ev.key_bytes) == 0));
			n++;
		}
		CHECK_EQ(r, HC_MISS);
	}
	hc_feed_close(f);
	hc_close(hc);
}

TEST_LIMIT(a_poll_loop_gets_each_change_once_while_engines_die, 100)
{
	struct t_daemon *d = t_daemon_start(FEED, NULL);
	struct hc *hc = session_of(d);
	int fd;
	struct hc_feed *f = follow(hc, &fd);

	fflush(NULL);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		follow_all(d);
		_exit(0);
	}
	CHECK_EQ(take_all(f), 0);
	CHECK(rings(fd, LONG_MS)); /* it is ready */
	for (int i = 0; i < CHANGES; i++) {
		char key[16];
		if (i % (CHANGES / DEATHS) == CHANGES / DEATHS / 2)
			(void)t_daemon_wait_engine(d, t_daemon_kill_engine(d, SIGKILL));
		(void)snprintf(key, sizeof key, "%d", i);
		put(hc, key);
	}
	CHECK_EQ(t_wait_child(pid, LONG_MS), 0);
	hc_feed_close(f);
	hc_close(hc);
	t_daemon_stop(d);
}

TEST(a_death_is_told_and_what_the_next_engine_writes_too)
{
	struct t_daemon *d = t_daemon_start(FEED, NULL);
	struct hc *hc = session_of(d);
	struct hc_event ev;
	int fd, r = HC_MISS;
	struct hc_feed *f = follow(hc, &fd);

	CHECK_EQ(take_all(f), 0);
	put(hc, "first"); /* from here on the engine knows who waits: else the next one would, without a word */
	CHECK(rings(fd, LONG_MS));
	CHECK_EQ(take_all(f), 1);
	CHECK(!rings(fd, 0));
	pid_t died = t_daemon_kill_engine(d, SIGKILL);
	CHECK(rings(fd, LONG_MS));
	CHECK_EQ(take_all(f), 0);
	(void)t_daemon_wait_engine(d, died);
	put(hc, "new");
	CHECK(rings(fd, LONG_MS));
	while (take_all(f) == 0)
		CHECK(rings(fd, LONG_MS));
	t_daemon_kill(d);
	while (r == HC_MISS) {
		CHECK(rings(fd, LONG_MS));
		r = next(f, &ev);
	}
	CHECK_EQ(r, HC_E_STALE);
	CHECK(rings(fd, LONG_MS)); /* and it stays so: nobody waits for what cannot come */
	CHECK_EQ(next(f, &ev), HC_E_STALE);
	CHECK(rings(fd, LONG_MS));
	hc_feed_close(f);
	hc_close(hc);
}

/* The engine keeps so many waiting in one session's name; the others' descriptors are readable now and then. */
TEST(who_may_not_wait_at_the_engine_looks_again_and_again)
{
	struct t_daemon *d = t_daemon_start(FEED, NULL);
	struct hc *hc = session_of(d);
	struct hc_feed *f[MANY];
	int fd[MANY];

	for (int i = 0; i < MANY; i++) {
		f[i] = follow(hc, &fd[i]);
		CHECK_EQ(take_all(f[i]), 0);
		if (i >= OVER_MANY)
			for (int n = 0; n < 5; n++) {
				CHECK(rings(fd[i], LONG_MS));
				CHECK_EQ(take_all(f[i]), 0);
			}
	}
	put(hc, "k");
	for (int i = 0; i < MANY; i++) {
		int n = 0;
		while (n == 0) {
			CHECK(rings(fd[i], LONG_MS));
			n = take_all(f[i]);
		}
		hc_feed_close(f[i]);
	}
	hc_close(hc);
	t_daemon_stop(d);
}

TEST(all_who_wait_are_told_however_many)
{
	enum { SESSIONS = 6, EACH = 14 };
	struct t_daemon *d = t_daemon_start(FEED, NULL);
	struct hc *hc[SESSIONS];
	struct hc_feed *f[SESSIONS][EACH];
	int fd[SESSIONS][EACH];

	for (int i = 0; i < SESSIONS; i++) {
		hc[i] = session_of(d);
		for (int j = 0; j < EACH; j++) {
			f[i][j] = follow(hc[i], &fd[i][j]);
			CHECK_EQ(take_all(f[i][j]), 0);
		}
	}
	for (int n = 0; n < 3; n++) {
		put(hc[0], "k");
		for (int i = 0; i < SESSIONS; i++)
			for (int j = 0; j < EACH; j++) {
				CHECK(rings(fd[i][j], LONG_MS));
				CHECK_EQ(take_all(f[i][j]), 1);
			}
	}
	for (int i = 0; i < SESSIONS; i++) {
		for (int j = 0; j < EACH; j++)
			hc_feed_close(f[i][j]);
		hc_close(hc[i]);
	}
	t_daemon_stop(d);
}

/* ------------------------------------------------------------------ the wire */

static struct wire_request watch(const struct raw *r, uint64_t session, uint64_t pos)
{
	(void)r;
	struct wire_request w = hello(session);
	w.regions_of = 1;
	w.feed_at = pos + 1;
	return w;
}

TEST(the_engine_answers_when_the_feed_moves_and_to_each_question_once)
{
	struct t_daemon *d = t_daemon_start(FEED, NULL);
	struct raw s = session_open(d), w = raw_open(d);
	struct wire_request at_0 = watch(&w, s.session, 0), put_k = set(&s, 1, "k", "v");
	struct wire_answer a;

	CHECK(raw_send_request(&w, &at_0));
	ping(&s);
	CHECK(!t_wait_fd(w.sock, POLLIN, 0));
	CHECK_EQ(raw_call(&s, &put_k).status, HC_OK);
	CHECK(raw_answer(&w, &a));
	CHECK(a.verb == WIRE_HELLO && a.status == HC_OK && a.resumed == 1);
	CHECK(w.n_fds == 0 && a.session == s.session);
	CHECK_EQ(raw_call(&w, &at_0).status, HC_OK); /* it has moved since */
	ping(&s); /* the session's own connection is what it was */
	struct wire_request later = watch(&w, s.session, 9);
	CHECK(raw_send_request(&w, &later) && raw_send_request(&w, &later));
	CHECK(raw_answer(&w, &a) && a.status == HC_E_PROTOCOL); /* one at a time */
	CHECK(raw_is_closed(&w));
	raw_close(&w);
	raw_close(&s);
	t_daemon_stop(d);
}

TEST(who_may_not_be_told_is_answered_so)
{
	struct t_daemon *d = t_daemon_start(POOL(""), NULL);
	struct raw s = session_open(d), w = raw_open(d);
	struct wire_request r = watch(&w, s.session, 0);

	CHECK_EQ(raw_call(&w, &r).status, HC_E_NO_FEED);
	CHECK(raw_is_closed(&w));
	raw_close(&w);
	w = raw_open(d);
	r = watch(&w, s.session + 1, 0);
	CHECK_EQ(raw_call(&w, &r).status, HC_E_STALE);
	raw_close(&w);
	w = raw_open(d);
	r = watch(&w, s.session, 0);
	r.regions_of = 2;
	CHECK_EQ(raw_call(&w, &r).status, HC_E_DENIED);
	raw_close(&w);
	raw_close(&s);
	t_daemon_stop(d);
}

TEST(a_session_that_ends_takes_those_who_wait_in_its_name_with_it)
{
	struct t_daemon *d = t_daemon_start(FEED, NULL);
	struct raw s = session_open(d), w = raw_open(d);
	struct wire_request r = watch(&w, s.session, 7), bye = {.verb = WIRE_BYE};

	CHECK_EQ(raw_call(&w, &r).status, HC_OK); /* the engine knows it as one of those who wait */
	r = watch(&w, s.session, 0);
	CHECK(raw_send_request(&w, &r));
	CHECK_EQ(raw_call(&s, &bye).status, HC_OK);
	CHECK(raw_is_closed(&w));
	raw_close(&w);
	raw_close(&s);
	t_daemon_stop(d);
}

/* ------------------------------------------------------------------ the example */

TEST(the_example_says_what_it_wrote)
{
	struct t_daemon *d = t_daemon_start(FEED, NULL);
	char socket[T_PATH_BYTES + 32];
	const char *env[] = {socket, NULL}, lines[] = "one\ntwo\n-one\n";
	struct t_spawn_opts o = {.env = env, .input = true};

	(void)snprintf(socket, sizeof socket, "HYPERCACHE_SOCKET=%s", d->socket);
	struct t_proc *p = t_spawn(
		(const char *[]){t_bin("libclient/example_feed_loop"), NULL}, &o);
	CHECK_EQ(write(p->in_fd, lines, sizeof lines - 1), (ssize_t)sizeof lines - 1);
	free(t_proc_line(p, "set one", LONG_MS));
	free(t_proc_line(p, "set two", LONG_MS));
	free(t_proc_line(p, "gone one", LONG_MS));
	(void)t_daemon_wait_engine(d, t_daemon_kill_engine(d, SIGKILL));
	CHECK_EQ(write(p->in_fd, "three\n", 6), 6);
	free(t_proc_line(p, "set three", LONG_MS));
	CHECK_EQ(close(p->in_fd), 0);
	p->in_fd = -1;
	CHECK_EQ(t_proc_exit(p, LONG_MS), 0);
	t_proc_free(p);
	t_daemon_stop(d);
}
