/* proc_submit.c - operations that nobody waits for, in a program's own epoll loop, with a real daemon that
 * dies, stops and goes: is each applied once, and does each end in time?
 */
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "hypercache.h"

enum {
	OPS = 6000,
	KEYS = 40,
	DEATHS = 4,
	MAX = 300,
	CLIENT_MS = 30000,
	SHORT_MS = 200,
	OP_MS = 1000
};

static void client_open(const struct t_daemon *d, struct hc **hc, struct hc_store **s)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);

	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(CLIENT_MS);
	o.submit_max = MAX;
	CHECK_EQ(hc_open(hc, &o), HC_OK);
	CHECK_EQ(hc_store(*hc, "default", s), HC_OK);
}

/* A program's loop: one epoll set, in which the handle's descriptor is one of others. */
struct loop {
	struct hc *hc;
	struct hc_store *s;
	int epoll_fd, hc_fd;
	uint64_t submitted, taken;
	int64_t sum[KEYS];
	uint64_t n_woken;
};

static void loop_open(struct loop *l, const struct t_daemon *d)
{
	*l = (struct loop){.epoll_fd = epoll_create1(EPOLL_CLOEXEC)};
	CHECK(l->epoll_fd >= 0);
	client_open(d, &l->hc, &l->s);
	CHECK_EQ(hc_fd(l->hc, &l->hc_fd), HC_OK);
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = l->hc_fd};
	CHECK_EQ(epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, l->hc_fd, &ev), 0);
}

static void loop_close(struct loop *l)
{
	CHECK_EQ(epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, l->hc_fd, NULL), 0);
	CHECK_EQ(close(l->epoll_fd), 0);
	hc_close(l->hc);
}

static void incr(struct loop *l)
{
	struct hc_op op = HC_OPTS(hc_op);
	char key[16];

	op.store = l->s;
	op.op = HC_OP_INCR;
	op.user = l->submitted++;
	op.delta = (int64_t)op.user + 1;
	op.key = key;
	op.key_bytes = (size_t)snprintf(key, sizeof key, "n%d", (int)(op.user % KEYS));
	CHECK_EQ(hc_submit(&op, NULL), HC_OK);
	memset(key, 'x', sizeof key); /* it was copied */
}

/* Waits in the program's own set, and takes what is there. */
static void loop_turn(struct loop *l)
{
	struct epoll_event ev;
	struct hc_done d[32];
	size_t n;

	CHECK_EQ(epoll_wait(l->epoll_fd, &ev, 1, t_limit_ms(CLIENT_MS)), 1);
	CHECK_EQ(ev.data.fd, l->hc_fd);
	l->n_woken++;
	CHECK_EQ(hc_poll(l->hc, d, 32, 0, &n), HC_OK);
	for (size_t i = 0; i < n; i++) {
		CHECK_EQ(d[i].user, l->taken++);
		CHECK_EQ(d[i].result, HC_OK);
		l->sum[d[i].user % KEYS] += (int64_t)d[i].user + 1;
		CHECK_EQ(d[i].sum, l->sum[d[i].user % KEYS]); /* applied once, and in order */
	}
}

TEST(each_is_applied_once_in_order_while_engines_die)
{
	struct t_daemon *d = t_daemon_start(
		"restart_limit: 1000\nrestart_backoff_max: 100ms\n", NULL);
	struct loop l;
	int deaths = 0;

	loop_open(&l, d);
	while (l.taken < OPS) {
		while (l.submitted < OPS && l.submitted - l.taken < MAX && t_random_below(200))
			incr(&l);
		loop_turn(&l);
		if (deaths < DEATHS && l.taken > (uint64_t)OPS / (DEATHS + 1) * (uint64_t)deaths) {
			(void)t_daemon_kill_engine(d, SIGKILL);
			deaths++;
		}
		while (deaths && l.taken == l.submitted && hc_health(l.hc) & HC_ENGINE_GONE)
			incr(&l); /* into the gap */
	}
	CHECK_EQ(deaths, DEATHS);
	CHECK_EQ(l.taken, OPS);
	CHECK(l.n_woken < 4 * OPS);
	for (int i = 0; i < KEYS; i++) {
		char key[16], got[32] = "", want[32];
		size_t n;
		int k = snprintf(key, sizeof key, "n%d", i);
		CHECK_EQ(hc_get(l.s, key, (size_t)k, got, sizeof got - 1, &n), HC_OK);
		(void)snprintf(want, sizeof want, "%lld", (long long)l.sum[i]);
		CHECK_STR(got, want);
	}
	loop_close(&l);
	t_daemon_stop(d);
}

static uint64_t submit_set(struct hc_store *s, uint64_t user, uint32_t timeout_ms)
{
	struct hc_op op = HC_OPTS(hc_op);
	char key[16];
	uint64_t id;

	op.store = s;
	op.op = HC_OP_SET;
	op.key = key;
	op.key_bytes = (size_t)snprintf(key, sizeof key, "k%d", (int)user);
	op.value = "value";
	op.value_bytes = 5;
	op.user = user;
	op.timeout_ms = timeout_ms;
	CHECK_EQ(hc_submit(&op, &id), HC_OK);
	return id;
}

/* Stopped, they answer nothing, but take what the socket holds. */
TEST(a_stopped_daemon_keeps_nobody_longer_than_asked)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct hc_set_opts o = HC_OPTS(hc_set_opts);
	struct hc_done done[2 * 64];
	struct hc_store *s;
	struct hc *hc;
	size_t n, unknown = 0, unsent = 0;

	client_open(d, &hc, &s);
	t_proc_signal(d->proc, SIGSTOP);
	pid_t engine = t_daemon_engine(d);
	CHECK_EQ(kill(engine, SIGSTOP), 0);
	for (uint64_t i = 0; i < 2 * 64; i++)
		(void)submit_set(s, i, OP_MS);
	uint64_t begin_ns = t_now_ns();
	while (unknown + unsent < 2 * 64) {
		CHECK_EQ(hc_poll(hc, done, 2 * 64, (uint32_t)t_limit_ms(CLIENT_MS), &n), HC_OK);
		for (size_t i = 0; i < n; i++) {
			CHECK_EQ(done[i].result, done[i].user < 64 ? HC_E_UNKNOWN : HC_E_TIMEOUT);
			unknown += done[i].result == HC_E_UNKNOWN;
			unsent += done[i].result == HC_E_TIMEOUT;
		}
	}
	CHECK(t_now_ns() - begin_ns < (uint64_t)t_limit_ms(CLIENT_MS) * 500000);
	CHECK(unknown == 64 && unsent == 64);
	o.timeout_ms = SHORT_MS;
	CHECK_EQ(hc_set(s, "late", 4, "v", 1, &o), HC_E_TIMEOUT); /* the window is full */
	CHECK_EQ(hc_flush(hc, SHORT_MS, NULL), HC_OK);            /* of nothing */
	CHECK_EQ(hc_interrupt(hc, 1), HC_OK);
	(void)submit_set(s, 500, 0);
	CHECK_EQ(hc_flush(hc, 0, NULL), HC_E_CANCELLED);
	CHECK_EQ(hc_interrupt(hc, 0), HC_OK);
	CHECK_EQ(kill(engine, SIGCONT), 0);
	t_proc_signal(d->proc, SIGCONT);
	CHECK_EQ(hc_flush(hc, 0, NULL), HC_OK);
	CHECK_EQ(hc_poll(hc, done, 1, 0, &n), HC_OK);
	CHECK(n == 1 && done[0].user == 500 && done[0].result == HC_OK);
	for (int i = 0; i < 2 * 64; i++) { /* unknown ones happened, the others did not */
		char key[16];
		int k = snprintf(key, sizeof key, "k%d", i);
		CHECK_EQ(hc_exists(s, key, (size_t)k), i < 64 ? HC_OK : HC_MISS);
	}
	CHECK_EQ(hc_exists(s, "late", 4), HC_MISS);
	hc_close(hc);
	t_daemon_stop(d);
}

TEST(a_daemon_that_is_gone_ends_all_of_them_at_once)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct hc_done done[8];
	struct hc_store *s;
	struct hc *hc;
	size_t n;

	client_open(d, &hc, &s);
	(void)submit_set(s, 0, 0);
	CHECK_EQ(hc_flush(hc, 0, NULL), HC_OK);
	t_daemon_kill(d);
	(void)submit_set(s, 1, 0);
	uint64_t begin_ns = t_now_ns();
	for (uint64_t i = 0; i < 2; i++) {
		CHECK_EQ(hc_poll(hc, done, 1, (uint32_t)t_limit_ms(CLIENT_MS), &n), HC_OK);
		CHECK_EQ(n, 1);
		CHECK_EQ(done[0].user, i);
		CHECK(i == 0 ? done[0].result == HC_OK : done[0].result == HC_E_NO_DAEMON);
	}
	CHECK(t_now_ns() - begin_ns < (uint64_t)t_limit_ms(CLIENT_MS) * 500000);
	hc_close(hc);
}

/* What counts is what is on the wire: the engine's answers, in bytes, of the same operations. */
TEST(quiet_operations_leave_only_their_count)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct hc_flushed f = HC_OPTS(hc_flushed);
	struct hc_done done[4];
	struct hc_store *s;
	struct hc *hc;
	size_t n;

	client_open(d, &hc, &s);
	for (int i = 0; i < 100; i++) {
		struct hc_op op = HC_OPTS(hc_op);
		op.store = s;
		op.op = i % 50 == 7 ? HC_OP_DELETE : HC_OP_SET;
		op.key = i % 50 == 7 ? "absent" : "k";
		op.key_bytes = strlen(op.key);
		op.quiet = 1;
		op.user = (uint64_t)i;
		CHECK_EQ(hc_submit(&op, NULL), HC_OK);
	}
	CHECK_EQ(hc_flush(hc, 0, &f), HC_OK);
	CHECK_EQ(f.succeeded, 98);
	CHECK_EQ(f.failed, 2);
	CHECK_EQ(hc_poll(hc, done, 4, 0, &n), HC_OK);
	CHECK_EQ(n, 2);
	for (size_t i = 0; i < 2; i++) {
		CHECK_EQ(done[i].result, HC_MISS);
		CHECK_EQ(done[i].user, 50 * i + 7);
	}
	hc_close(hc);
	t_daemon_stop(d);
}

TEST(a_store_is_emptied_in_its_turn)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct hc_op clear = HC_OPTS(hc_op);
	struct hc_done done[12];
	struct hc_store *s;
	struct hc *hc;
	size_t n;

	client_open(d, &hc, &s);
	clear.store = s;
	clear.op = HC_OP_CLEAR;
	clear.user = 99;
	for (uint64_t i = 0; i < 10; i++) {
		if (i == 6)
			CHECK_EQ(hc_submit(&clear, NULL), HC_OK);
		(void)submit_set(s, i, 0);
	}
	CHECK_EQ(hc_flush(hc, 0, NULL), HC_OK);
	CHECK_EQ(hc_poll(hc, done, 12, 0, &n), HC_OK);
	CHECK_EQ(n, 11);
	CHECK(done[6].user == 99 && done[6].sum == 6 && done[6].result == HC_OK);
	for (int i = 0; i < 10; i++) {
		char key[16];
		int k = snprintf(key, sizeof key, "k%d", i);
		CHECK_EQ(hc_exists(s, key, (size_t)k), i < 6 ? HC_MISS : HC_OK);
	}
	hc_close(hc);
	t_daemon_stop(d);
}

/* ------------------------------------------------------------------ all at once */

enum { HANDS = 3, HAND_OPS = 10000, HAND_BACK = 64 };

/* What several threads do with one handle.  told[user]: completions; result[user] of them. */
struct crowd {
	const struct t_daemon *d;
	struct hc *hc;
	struct hc_store *s;
	uint32_t told[HANDS * HAND_OPS];
	int result[HANDS * HAND_OPS];
	uint64_t seed[HANDS];
};
struct hand {
	struct crowd *c;
	int idx;
	int64_t waited; /* calls of its own that waited, and succeeded */
	pthread_t thread;
};

static void crowd_take(struct crowd *c, uint32_t timeout_ms)
{
	struct hc_done done[16];
	size_t n;

	CHECK_EQ(hc_poll(c->hc, done, 16, timeout_ms, &n), HC_OK);
	for (size_t i = 0; i < n; i++) {
		CHECK(done[i].user < HANDS * HAND_OPS);
		CHECK_EQ(__atomic_fetch_add(&c->told[done[i].user], 1, __ATOMIC_RELAXED), 0);
		c->result[done[i].user] = done[i].result;
	}
}

/* Submits, calls off, polls, flushes, and calls that wait, in any order. */
static void *hand_main(void *arg)
{
	struct hand *h = arg;
	struct crowd *c = h->c;
	uint64_t *seed = &c->seed[h->idx];
	uint64_t id[HAND_BACK] = {0}; /* of the last ones */
	char key[16];

	for (int i = 0; i < HAND_OPS; i++) {
		struct hc_op op = HC_OPTS(hc_op);
		uint64_t fate = t_random_from(seed) % 64;
		op.store = c->s;
		op.op = HC_OP_INCR;
		op.user = (uint64_t)(h->idx * HAND_OPS + i);
		op.delta = 1;
		op.key = key;
		op.key_bytes = (size_t)snprintf(key, sizeof key, "n%d", h->idx);
		while (hc_submit(&op, &id[i % HAND_BACK]) != HC_OK)
			crowd_take(c, 5);
		if (fate < 4)
			(void)hc_cancel(c->hc, id[t_random_from(seed) % HAND_BACK]);
		if (fate == 5 || fate == 6)
			crowd_take(c, (uint32_t)(t_random_from(seed) % 3));
		if (fate == 7)
			CHECK_EQ(hc_flush(c->hc, 0, NULL), HC_OK);
		if (fate == 8) {
			CHECK_EQ(hc_incr(c->s, key, op.key_bytes, 1, NULL, NULL), HC_OK);
			h->waited++;
		}
	}
	return NULL;
}

/* Every operation is told of once; the numbers say that it was applied so. */
static void crowd_check(struct crowd *c, const struct hand *h)
{
	int64_t done = h->waited, unknown = 0, got;
	char key[16], text[32] = "";
	size_t n;

	for (int i = h->idx * HAND_OPS; i < (h->idx + 1) * HAND_OPS; i++) {
		CHECK_EQ(c->told[i], 1);
		int r = c->result[i];
		CHECK(r == HC_OK || r == HC_E_UNKNOWN || r == HC_E_CANCELLED);
		done += r == HC_OK;
		unknown += r == HC_E_UNKNOWN;
	}
	int k = snprintf(key, sizeof key, "n%d", h->idx);
	CHECK_EQ(hc_get(c->s, key, (size_t)k, text, sizeof text - 1, &n), HC_OK);
	got = strtoll(text, NULL, 10);
	fprintf(stderr, "  thread %d: %lld, %lld unknown of %lld\n", h->idx, (long long)done,
		(long long)unknown, (long long)got);
	CHECK(done <= got && got <= done + unknown);
}

TEST(threads_that_do_all_of_it_at_once_while_engines_die)
{
	struct t_daemon *d = t_daemon_start(
		"restart_limit: 1000\nrestart_backoff_max: 100ms\n", NULL);
	static struct crowd c;
	struct hand h[HANDS];
	size_t left = 1;

	c = (struct crowd){.d = d};
	client_open(d, &c.hc, &c.s);
	for (int i = 0; i < HANDS; i++) {
		c.seed[i] = t_random();
		h[i] = (struct hand){.c = &c, .idx = i};
		CHECK_EQ(pthread_create(&h[i].thread, NULL, hand_main, &h[i]), 0);
	}
	for (int i = 0; i < DEATHS; i++)
		(void)t_daemon_wait_engine(d, t_daemon_kill_engine(d, SIGKILL));
	for (int i = 0; i < HANDS; i++)
		CHECK_EQ(pthread_join(h[i].thread, NULL), 0);
	CHECK_EQ(hc_flush(c.hc, 0, NULL), HC_OK);
	for (struct hc_done done; left;) {
		CHECK_EQ(hc_poll(c.hc, &done, 1, 0, &left), HC_OK);
		c.told[left ? done.user : 0] += left > 0;
		if (left)
			c.result[done.user] = done.result;
	}
	for (int i = 0; i < HANDS; i++)
		crowd_check(&c, &h[i]);
	hc_close(c.hc);
	t_daemon_stop(d);
}

/* ------------------------------------------------------------------ the example */

enum { LINES = 30000 };

static void write_all(int fd, const char *text)
{
	for (size_t n = strlen(text), at = 0; at < n;) {
		ssize_t w = write(fd, text + at, n - at);
		CHECK(w > 0);
		at += (size_t)w;
	}
}

/* libclient/examples/submit_loop.c, more lines than may be under way; the engine dies among them. */
TEST(the_example_takes_what_it_is_given_as_fast_as_it_goes)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	char socket[T_PATH_BYTES + 32], line[64];
	const char *env[] = {socket, NULL};
	struct t_spawn_opts o = {.env = env, .input = true};
	struct hc_store *s;
	struct hc *hc;

	(void)snprintf(socket, sizeof socket, "HYPERCACHE_SOCKET=%s", d->socket);
	struct t_proc *p = t_spawn(
		(const char *[]){t_bin("libclient/example_submit_loop"), NULL}, &o);
	for (int i = 0; i < LINES; i++) {
		(void)snprintf(line, sizeof line, "key-%d value-%d\n", i % 1000, i);
		write_all(p->in_fd, line);
		if (i == LINES / 2)
			(void)t_daemon_kill_engine(d, SIGKILL);
	}
	write_all(p->in_fd, "key-0\nabsent\n value\nlast one");
	CHECK_EQ(close(p->in_fd), 0);
	p->in_fd = -1;
	CHECK_EQ(t_proc_exit(p, CLIENT_MS), 1);
	CHECK_STR(
		p->out.text, "line 30003: an argument is out of its range\n30003 done, 1 failed\n");
	t_proc_free(p);
	client_open(d, &hc, &s);
	for (int i = 1; i < 1000; i++) {
		char got[32] = "";
		size_t n;
		int k = snprintf(line, sizeof line, "key-%d", i);
		CHECK_EQ(hc_get(s, line, (size_t)k, got, sizeof got - 1, &n), HC_OK);
		(void)snprintf(line, sizeof line, "value-%d", LINES - 1000 + i);
		CHECK_STR(got, line);
	}
	CHECK_EQ(hc_exists(s, "key-0", 5), HC_MISS);
	CHECK_EQ(hc_exists(s, "last", 4), HC_OK);
	hc_close(hc);
	t_daemon_stop(d);
}
