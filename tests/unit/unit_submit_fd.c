/* unit_submit_fd.c - the descriptor of hc_fd() in a program's own loop, fork, threads, and waits that are ended:
 * does everybody hear what concerns him, and is nobody woken for nothing?
 */
#include <signal.h>
#include "submit.h"

enum { SHORT_MS = 150, OP_MS = 1000, THREADS = 3, EACH = 200 };

/* ------------------------------------------------------------------ the descriptor */

/* Readable at once? */
static bool readable(int fd)
{
	return poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0) == 1;
}

/* Waits until it is, then takes up to max. */
static size_t loop_turn(const struct session *x, int fd, struct hc_done *d, size_t max)
{
	size_t n;

	CHECK_EQ(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, t_limit_ms(5000)), 1);
	CHECK_EQ(hc_poll(x->hc, d, max, 0, &n), HC_OK);
	return n;
}

static void lose_some(struct fake *f)
{
	struct wire_request q;

	fake_open(f);
	for (uint64_t i = 1; i <= 5; i++) {
		CHECK(fake_get(f, &q));
		fake_drop(f); /* with the request */
		fake_resume(f);
		fake_expect(f, WIRE_SET, i, 0);
		fake_drop(f); /* without any */
		fake_step(f);
		fake_resume(f);
	}
	fake_expect(f, WIRE_SET, 6, 0);
	fake_bye(f);
}

TEST(the_descriptor_stays_the_same_and_tells_when_to_poll)
{
	struct hc_done d;
	struct session x;
	int fd, again;

	session_begin(&x, lose_some);
	CHECK_EQ(hc_fd(x.hc, &fd), HC_OK);
	for (uint64_t i = 0; i < 6; i++) {
		while (readable(fd)) /* the first time, and after a loss: quiet after a few */
			CHECK_EQ(loop_turn(&x, fd, &d, 1), 0);
		(void)set(&x, i, 0);
		CHECK(readable(fd)); /* to be sent */
		while (loop_turn(&x, fd, &d, 1) == 0)
			;
		CHECK_EQ(d.user, i);
		CHECK_EQ(d.result, HC_OK);
		CHECK_EQ(hc_fd(x.hc, &again), HC_OK);
		CHECK_EQ(again, fd);
		if (i < 5)
			fake_step_wait(&x.f);
	}
	session_end(&x);
}

TEST(the_descriptor_tells_of_time_limits_and_of_what_other_calls_have_received)
{
	struct hc_done d;
	struct session x;
	int fd;

	fake_init(&x.f);
	x.f.hello.max_inflight = 8;
	session_open(&x, swallow, (struct hc_open_opts){0});
	CHECK_EQ(hc_fd(x.hc, &fd), HC_OK);
	uint64_t begin_ns = t_now_ns();
	for (uint64_t i = 0; i < 10; i++) {
		struct hc_op op = op_of(&x, HC_OP_SET, "key", i);
		op.timeout_ms = i % 2 ? OP_MS + SHORT_MS : OP_MS;
		CHECK_EQ(hc_submit(&op, NULL), HC_OK);
	}
	for (uint64_t seen = 0; seen != 0x3ff; seen |= 1u << d.user) {
		while (loop_turn(&x, fd, &d, 1) == 0)
			;
		CHECK(d.user < 10 && !(seen >> d.user & 1));
		CHECK_EQ(d.result, d.user < 8 ? HC_E_UNKNOWN : HC_E_TIMEOUT);
		uint64_t limit_ms = d.user % 2 ? OP_MS + SHORT_MS : OP_MS;
		CHECK(t_now_ns() - begin_ns >= limit_ms * 1000000);
	}
	while (readable(fd))
		none(&x);
	fake_go(&x.f);
	(void)set(&x, 99, 0);
	CHECK_EQ(hc_flush(x.hc, 0, NULL), HC_OK);
	CHECK(readable(fd));
	CHECK_EQ(loop_turn(&x, fd, &d, 1), 1);
	CHECK_EQ(d.user, 99);
	none(&x);
	CHECK(!readable(fd));
	session_end(&x);
}

static void child(const struct session *x, int fd)
{
	struct hc_op op = op_of(x, HC_OP_SET, "key", 1);
	struct hc_done d;
	size_t n;

	CHECK_EQ(hc_submit(&op, NULL), HC_E_FORKED);
	CHECK_EQ(hc_poll(x->hc, &d, 1, 0, &n), HC_E_FORKED);
	CHECK_EQ(hc_fd(x->hc, &fd), HC_E_FORKED);
	CHECK_EQ(hc_cancel(x->hc, 1), HC_E_FORKED);
	CHECK_EQ(hc_flush(x->hc, 0, NULL), HC_E_FORKED);
	hc_close(x->hc);
	_exit(0);
}

TEST(a_forked_child_has_none_of_it_and_harms_none)
{
	struct hc_done d;
	struct session x;
	int fd;

	session_begin(&x, serve);
	CHECK_EQ(hc_fd(x.hc, &fd), HC_OK);
	(void)set(&x, 1, 0);
	none(&x); /* sent */
	(void)set(&x, 2, 0);
	pid_t pid = fork();
	if (pid == 0)
		child(&x, fd);
	CHECK_EQ(t_wait_child(pid, 10000), 0);
	for (uint64_t i = 1; i <= 2; i++) {
		while (loop_turn(&x, fd, &d, 1) == 0)
			;
		CHECK_EQ(d.user, i);
		CHECK_EQ(d.result, HC_OK);
	}
	session_end(&x);
	CHECK_EQ(x.f.applied, 2);
}

static void lose_once(struct fake *f)
{
	fake_open(f);
	fake_go_wait(f);
	fake_drop(f);
	fake_step(f);
	fake_resume(f);
	fake_expect(f, WIRE_SET, 1, 0);
	fake_bye(f);
}

/* It has what the parent's socket was, so that the kernel does not forget it when the parent closes it. */
TEST(a_child_that_lives_on_keeps_nobody_awake)
{
	struct hc_done d;
	struct session x;
	int fd, hold[2];
	char byte;

	session_begin(&x, lose_once);
	CHECK_EQ(hc_fd(x.hc, &fd), HC_OK);
	none(&x);
	CHECK_EQ(pipe(hold), 0);
	pid_t pid = fork();
	if (pid == 0) {
		(void)close(hold[1]);
		(void)close(x.f.fd);                 /* the engine's end is not its own */
		_exit(read(hold[0], &byte, 1) != 0); /* until the test is over */
	}
	CHECK_EQ(close(hold[0]), 0);
	fake_go(&x.f);
	fake_step_wait(&x.f);
	CHECK_EQ(loop_turn(&x, fd, &d, 1), 0); /* the loss */
	for (int i = 0; i < 10 && readable(fd); i++)
		none(&x);
	CHECK(!readable(fd));
	(void)set(&x, 1, 0);
	while (loop_turn(&x, fd, &d, 1) == 0)
		;
	CHECK_EQ(d.result, HC_OK);
	CHECK_EQ(close(hold[1]), 0);
	CHECK_EQ(t_wait_child(pid, 10000), 0);
	session_end(&x);
}

/* ------------------------------------------------------------------ threads */

struct worker {
	struct session *x;
	uint64_t user; /* its first */
	pthread_t thread;
};

static void *submit_many(void *arg)
{
	struct worker *w = arg;

	for (uint64_t i = 0; i < EACH; i++) {
		struct hc_op op = op_of(w->x, HC_OP_SET, "key", w->user + i);
		if (i % 50 == 7)
			CHECK_EQ(hc_set(w->x->s, "key", 3, "v", 1, NULL), HC_OK);
		while (hc_submit(&op, NULL) != HC_OK)
			CHECK_EQ(hc_ping(w->x->hc), HC_OK);
	}
	return NULL;
}

TEST(threads_submit_while_one_polls)
{
	struct worker w[THREADS];
	bool seen[THREADS * EACH] = {false};
	struct session x;

	fake_init(&x.f);
	session_open(&x, serve, (struct hc_open_opts){.submit_max = 50});
	for (uint64_t i = 0; i < THREADS; i++) {
		w[i] = (struct worker){.x = &x, .user = i * EACH};
		CHECK_EQ(pthread_create(&w[i].thread, NULL, submit_many, &w[i]), 0);
	}
	for (int i = 0; i < THREADS * EACH; i++) {
		struct hc_done d = next(&x);
		CHECK(d.user < THREADS * EACH && !seen[d.user]);
		CHECK_EQ(d.result, HC_OK);
		seen[d.user] = true;
	}
	for (int i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_join(w[i].thread, NULL), 0);
	none(&x);
	session_end(&x);
	CHECK_EQ(x.f.applied, THREADS * (EACH + EACH / 50));
}

/* ------------------------------------------------------------------ not waiting any longer */

static void silent(struct fake *f)
{
	struct wire_request q;

	fake_open(f);
	CHECK(fake_get(f, &q));
	fake_step(f);
	fake_go_wait(f);
	CHECK(fake_reply(f, &q, 0));
	while (fake_get(f, &q) && q.verb != WIRE_BYE)
		CHECK(fake_reply(f, &q, 0));
}

static struct session *signalled;
static void on_signal(int sig)
{
	(void)sig;
	(void)hc_interrupt(signalled->hc, 1);
}

static void *interrupt_later(void *arg)
{
	struct worker *w = arg;

	fake_step_wait(&w->x->f); /* the request is there, and whoever sent it waits */
	if (w->user)
		CHECK_EQ(pthread_kill((pthread_t)w->user, SIGUSR1), 0);
	else
		CHECK_EQ(hc_interrupt(w->x->hc, 1), HC_OK);
	return NULL;
}

TEST(a_wait_ends_when_another_thread_or_a_signal_says_so)
{
	struct sigaction act = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	struct hc_done d;
	struct session x;
	size_t n;

	CHECK_EQ(sigaction(SIGUSR1, &act, NULL), 0);
	for (int how = 0; how < 4; how++) {
		session_begin(&x, silent);
		signalled = &x;
		struct worker w = {.x = &x, .user = how % 2 ? (uint64_t)pthread_self() : 0};
		CHECK_EQ(pthread_create(&w.thread, NULL, interrupt_later, &w), 0);
		if (how < 2) {
			CHECK_EQ(hc_set(x.s, "key", 3, "v", 1, NULL), HC_E_UNKNOWN);
		} else {
			(void)set(&x, 1, 0);
			CHECK_EQ(hc_poll(x.hc, &d, 1, (uint32_t)t_limit_ms(FAKE_WAIT_MS), &n),
				HC_E_CANCELLED);
			CHECK_EQ(n, 0);
		}
		CHECK_EQ(pthread_join(w.thread, NULL), 0);
		CHECK_EQ(hc_set(x.s, "key", 3, "v", 1, NULL), HC_E_CANCELLED);
		CHECK_EQ(hc_ping(x.hc), HC_E_CANCELLED);
		none(&x);
		CHECK_EQ(hc_interrupt(x.hc, 0), HC_OK);
		fake_go(&x.f);
		if (how >= 2)
			expect(&x, 1, HC_OK);
		CHECK_EQ(hc_set(x.s, "key", 3, "v", 1, NULL), HC_OK);
		session_end(&x);
	}
}

static void leave(struct fake *f)
{
	struct wire_request q;

	fake_open(f);
	fake_drop(f);
	fake_step(f);
	fake_hello_get(f); /* a new engine that does not come to answering */
	fake_step(f);
	fake_go_wait(f);
	fake_resume(f);
	while (fake_get(f, &q) && q.verb != WIRE_BYE)
		CHECK(fake_reply(f, &q, 0));
}

TEST(the_wait_for_a_connection_ends_too)
{
	struct session x;

	session_begin(&x, leave);
	fake_step_wait(&x.f);
	struct worker w = {.x = &x};
	CHECK_EQ(pthread_create(&w.thread, NULL, interrupt_later, &w), 0);
	CHECK_EQ(hc_set(x.s, "key", 3, "v", 1, NULL), HC_E_CANCELLED); /* it was not sent */
	CHECK_EQ(pthread_join(w.thread, NULL), 0);
	CHECK_EQ(hc_interrupt(x.hc, 0), HC_OK);
	fake_go(&x.f);
	CHECK_EQ(hc_set(x.s, "key", 3, "v", 1, NULL), HC_OK);
	session_end(&x);
}

TEST(a_call_has_its_own_time_limit)
{
	struct hc_set_opts so = HC_OPTS(hc_set_opts);
	struct hc_incr_opts io = HC_OPTS(hc_incr_opts);
	struct hc_mset_item m = {"key", 3, "v", 1, 0};
	struct session x;

	session_begin(&x, silent);
	so.timeout_ms = io.timeout_ms = SHORT_MS;
	uint64_t begin_ns = t_now_ns();
	CHECK_EQ(hc_set(x.s, "key", 3, "v", 1, &so), HC_E_UNKNOWN);
	CHECK_EQ(hc_append(x.s, "key", 3, "v", 1, &so), HC_E_UNKNOWN);
	CHECK_EQ(hc_incr(x.s, "key", 3, 1, &io, NULL), HC_E_UNKNOWN);
	CHECK_EQ(hc_mset(x.s, &m, 1, &so), HC_E_UNKNOWN);
	uint64_t took_ns = t_now_ns() - begin_ns;
	CHECK(took_ns >= 4 * SHORT_MS * 1000000ull);
	CHECK(took_ns < (uint64_t)t_limit_ms(FAKE_WAIT_MS) * 1000000);
	so.reserved = 1;
	CHECK_EQ(hc_set(x.s, "key", 3, "v", 1, &so), HC_E_INVAL);
	fake_go(&x.f);
	CHECK_EQ(hc_set(x.s, "key", 3, "v", 1, NULL), HC_OK);
	session_end(&x);
}
