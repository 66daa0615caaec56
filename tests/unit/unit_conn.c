/* unit_conn.c - mutations over a connection that fails in every way: is each applied exactly once,
 * and is what hc_set and its like return true?  The engine is a thread with a script (fake_engine.h).
 *
 * Planted bugs, each caught by the test named:
 *   44  the number of an answer is not compared          answers_have_an_order
 *   45  after a reconnection nothing is sent again       what_is_unanswered_is_sent_again
 *   46  a reconnection asks for a new session            what_is_unanswered_is_sent_again
 *   47  a timeout after the sending is called unsent     sent_but_not_answered_is_unknown
 */
#include <signal.h>
#include <sys/time.h>
#include "fake_engine.h"
#include "hc_i.h"

enum {
	SHORT_MS = 150,
	CHAOS_ITEMS = 600,
	CHAOS_SINGLE = 100,
	THREADS = 4,
	THREAD_SETS = 200,
	LARGE_BYTES = 1 << 20
};

struct session {
	struct fake f;
	struct hc *hc;
	struct hc_store *s;
};

static void begin_with(struct session *x, void (*script)(struct fake *f), uint32_t timeout_ms)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);

	fake_run(&x->f, script);
	o.socket = x->f.path;
	o.timeout_ms = timeout_ms ? timeout_ms : (uint32_t)t_limit_ms(FAKE_WAIT_MS);
	CHECK_EQ(hc_open(&x->hc, &o), HC_OK);
	CHECK_EQ(hc_store(x->hc, "default", &x->s), HC_OK);
}

static void begin(struct session *x, void (*script)(struct fake *f), uint32_t timeout_ms)
{
	fake_init(&x->f);
	begin_with(x, script, timeout_ms);
}

static void end(struct session *x)
{
	hc_close(x->hc);
	fake_join(&x->f);
	fake_fini(&x->f);
}

/* From now on a mutation waits this long: short where it has to meet its limit, long where not. */
static void patience(struct session *x, int ms) { x->hc->timeout_ns = (uint64_t)ms * 1000000; }
static void patience_long(struct session *x) { patience(x, t_limit_ms(FAKE_WAIT_MS)); }

static int set(struct session *x, const char *key)
{
	return hc_set(x->s, key, strlen(key), "value", 5, NULL);
}

/* ------------------------------------------------------------------ a good engine */

static void statuses(struct fake *f)
{
	struct wire_request q;

	fake_open(f);
	fake_expect(f, WIRE_PING, 0, 0);
	CHECK(fake_get(f, &q));
	CHECK(q.verb == WIRE_SET && q.request == 1 && q.store_idx == 9 && q.store_id == FAKE_STORE);
	CHECK(q.key_bytes == 3 && memcmp(q.key, "key", 3) == 0);
	CHECK(q.value_bytes == 2 && memcmp(q.value, "\0v", 2) == 0);
	CHECK(q.flags == 0 && q.ttl_ms == 0);
	CHECK(fake_reply(f, &q, 0));
	CHECK(fake_get(f, &q));
	CHECK(q.request == 2 && q.flags == 5 && q.ttl_ms == UINT64_MAX && q.value_bytes == 0);
	CHECK(fake_reply(f, &q, HC_E_FULL));
	CHECK(fake_get(f, &q));
	CHECK(q.verb == WIRE_DELETE && q.request == 3 && q.key_bytes == 1);
	CHECK(fake_reply(f, &q, HC_MISS));
	fake_expect(f, WIRE_DELETE, 4, 0);
	fake_expect(f, WIRE_SET, 5, HC_E_NO_STORE);
	fake_expect(f, WIRE_SET, 6, HC_E_CLOSING);
	fake_bye(f);
}

TEST(requests_and_results)
{
	struct hc_set_opts o = HC_OPTS(hc_set_opts);
	struct session x;

	begin(&x, statuses, 0);
	CHECK_EQ(hc_ping(x.hc), HC_OK);
	CHECK_EQ(hc_set(x.s, "key", 3, "\0v", 2, NULL), HC_OK);
	o.flags = 5;
	o.ttl_ms = HC_TTL_NEVER;
	CHECK_EQ(hc_set(x.s, "k", 1, NULL, 0, &o), HC_E_FULL);
	CHECK_EQ(hc_delete(x.s, "k", 1), HC_MISS);
	CHECK_EQ(hc_delete(x.s, "k", 1), HC_OK);
	CHECK_EQ(set(&x, "k"), HC_E_NO_STORE);
	CHECK_EQ(set(&x, "k"), HC_E_CLOSING);
	end(&x);
}

static void just_open(struct fake *f)
{
	fake_open(f);
	fake_bye(f);
}

TEST(arguments_out_of_range)
{
	struct hc_set_opts o = HC_OPTS(hc_set_opts);
	struct hc_mset_item m = {"k", 1, "v", 1, 0};
	static char key[HC_KEY_BYTES_MAX + 1];
	struct session x;

	begin(&x, just_open, 0);
	CHECK_EQ(hc_set(NULL, "k", 1, "v", 1, NULL), HC_E_INVAL);
	CHECK_EQ(hc_set(x.s, NULL, 1, "v", 1, NULL), HC_E_INVAL);
	CHECK_EQ(hc_set(x.s, "k", 0, "v", 1, NULL), HC_E_INVAL);
	CHECK_EQ(hc_set(x.s, key, sizeof key, "v", 1, NULL), HC_E_INVAL);
	CHECK_EQ(hc_set(x.s, "k", 1, NULL, 1, NULL), HC_E_INVAL);
	CHECK_EQ(hc_delete(NULL, "k", 1), HC_E_INVAL);
	CHECK_EQ(hc_delete(x.s, "k", 0), HC_E_INVAL);
	CHECK_EQ(hc_ping(NULL), HC_E_INVAL);
	CHECK_EQ(hc_mset(x.s, &m, HC_MSET_MAX + 1, NULL), HC_E_INVAL);
	CHECK_EQ(hc_mset(x.s, NULL, 1, NULL), HC_E_INVAL);
	CHECK_EQ(hc_mset(NULL, &m, 1, NULL), HC_E_INVAL);
	CHECK_EQ(hc_mset(x.s, NULL, 0, NULL), HC_OK);
	o.ttl_ms = 11ull * 366 * 86400 * 1000;
	CHECK_EQ(hc_set(x.s, "k", 1, "v", 1, &o), HC_E_INVAL);
	o.ttl_ms = 0;
	o.mode = HC_IF_NEWER + 1;
	CHECK_EQ(hc_set(x.s, "k", 1, "v", 1, &o), HC_E_INVAL);
	CHECK_EQ(hc_mset(x.s, &m, 1, &o), HC_E_INVAL);
	CHECK_EQ(hc_set(x.s, "k", 1, "v", SIZE_MAX, NULL),
		HC_E_TOO_LARGE); /* nothing of it is read */
	CHECK_EQ(hc_set(x.s, "k", 1, "v", FAKE_MAX_FRAME + 1ull, NULL), HC_E_TOO_LARGE);
	end(&x);
}

static void small_frames(struct fake *f)
{
	struct wire_request q;

	fake_open(f);
	CHECK(fake_get(f, &q));
	CHECK(q.request == 1);
	CHECK_EQ(f->in.begin, 4 + 1000); /* the largest that may come */
	CHECK(fake_reply(f, &q, 0));
	fake_bye(f);
}

TEST(a_frame_may_be_just_as_large_as_allowed)
{
	static char value[1000];
	struct session x;
	size_t head = 1 + 1 + 1 + 1 + 1 + 3 + 3 + 1 + 1; /* of a SET with a key of one byte */

	fake_init(&x.f);
	x.f.hello.max_frame = 1000;
	begin_with(&x, small_frames, 0);
	CHECK_EQ(hc_set(x.s, "k", 1, value, 1000 - head + 1, NULL), HC_E_TOO_LARGE);
	CHECK_EQ(hc_set(x.s, "k", 1, value, 1000 - head, NULL), HC_OK);
	end(&x);
}

/* Answers all that comes; never is more than max_inflight without an answer. */
static void serve(struct fake *f)
{
	struct wire_request q;

	fake_open(f);
	while (fake_get(f, &q) && q.verb != WIRE_BYE) {
		CHECK_EQ(q.request, ++f->applied);
		CHECK(fake_reply(f, &q, q.value_bytes == 3 ? HC_E_FULL : 0));
	}
}

/* The same, but answers only when nothing more comes, and what is without an answer is counted. */
static void serve_late(struct fake *f)
{
	struct wire_request q = {0};
	uint64_t got = 0;

	fake_open(f);
	while (q.verb != WIRE_BYE) {
		CHECK(fake_get(f, &q));
		got += q.verb == WIRE_SET;
		CHECK(got - f->applied <= f->hello.max_inflight);
		struct pollfd p = {.fd = f->fd, .events = POLLIN};
		if (f->in.begin != f->in.end || poll(&p, 1, 0) > 0)
			continue;
		while (f->applied < got) {
			q.request = ++f->applied;
			CHECK(fake_put(
				f, &(struct wire_answer){.verb = WIRE_SET, .request = f->applied}));
		}
	}
}

static struct hc_mset_item *items_new(size_t n)
{
	struct hc_mset_item *m = calloc(n, sizeof *m);

	CHECK(m);
	for (size_t i = 0; i < n; i++)
		m[i] = (struct hc_mset_item){"key", 3, "value", 5, 99};
	return m;
}

TEST(many_at_once)
{
	struct hc_mset_item *m = items_new(5000);
	struct session x;

	begin(&x, serve, 0);
	CHECK_EQ(hc_mset(x.s, m, 5000, NULL), HC_OK);
	for (int i = 0; i < 5000; i++)
		CHECK_EQ(m[i].result, HC_OK);
	m[7].key_bytes = 0;
	m[3].value_bytes = 3; /* refused by the engine */
	m[9].value_bytes = FAKE_MAX_FRAME + 1;
	CHECK_EQ(hc_mset(x.s, m, 100, NULL), HC_E_FULL);
	for (int i = 0; i < 100; i++)
		CHECK_EQ(m[i].result, i == 3   ? HC_E_FULL
				      : i == 7 ? HC_E_INVAL
				      : i == 9 ? HC_E_TOO_LARGE
					       : HC_OK);
	end(&x);
	CHECK_EQ(x.f.applied, 5098);
	free(m);
}

TEST(the_window_is_bounded)
{
	struct hc_mset_item *m = items_new(3000);
	struct session x;

	for (uint32_t window = 1; window <= 64; window *= 4) {
		fake_init(&x.f);
		x.f.hello.max_inflight = window;
		begin_with(&x, serve_late, 0);
		CHECK_EQ(hc_mset(x.s, m, 3000, NULL), HC_OK);
		end(&x);
		CHECK_EQ(x.f.applied, 3000);
	}
	free(m);
}

TEST(large_values_do_not_block_either_side)
{
	struct hc_mset_item *m = items_new(40);
	char *value = calloc(1, LARGE_BYTES);
	struct session x;

	CHECK(value);
	for (int i = 0; i < 40; i++) {
		m[i].value = value;
		m[i].value_bytes = i % 2 ? LARGE_BYTES : 1;
	}
	begin(&x, serve, 0);
	CHECK_EQ(hc_mset(x.s, m, 40, NULL), HC_OK);
	CHECK_EQ(hc_set(x.s, "k", 1, value, LARGE_BYTES, NULL), HC_OK);
	end(&x);
	free(value);
	free(m);
}

struct writer {
	struct session *x;
	pthread_t thread;
};
static void *write_many(void *arg)
{
	struct writer *w = arg;

	for (int i = 0; i < THREAD_SETS; i++)
		CHECK_EQ(set(w->x, "k"), HC_OK);
	return NULL;
}

TEST(threads_take_turns)
{
	struct writer w[THREADS];
	struct session x;

	begin(&x, serve, 0);
	for (int i = 0; i < THREADS; i++) {
		w[i].x = &x;
		CHECK_EQ(pthread_create(&w[i].thread, NULL, write_many, &w[i]), 0);
	}
	for (int i = 0; i < THREADS; i++)
		CHECK_EQ(pthread_join(w[i].thread, NULL), 0);
	end(&x);
	CHECK_EQ(x.f.applied, THREADS * THREAD_SETS);
}

static void on_alarm(int sig) { (void)sig; }

TEST(signals_do_not_disturb)
{
	struct sigaction act = {.sa_handler = on_alarm}; /* no SA_RESTART */
	struct itimerval fast = {{0, 500}, {0, 500}}, off = {{0, 0}, {0, 0}};
	struct hc_mset_item *m = items_new(1000);
	struct session x;

	begin(&x, serve, 0);
	CHECK_EQ(sigaction(SIGALRM, &act, NULL), 0);
	CHECK_EQ(setitimer(ITIMER_REAL, &fast, NULL), 0);
	for (int i = 0; i < 300; i++)
		CHECK_EQ(set(&x, "k"), HC_OK);
	CHECK_EQ(hc_mset(x.s, m, 1000, NULL), HC_OK);
	CHECK_EQ(setitimer(ITIMER_REAL, &off, NULL), 0);
	end(&x);
	free(m);
}

/* ------------------------------------------------------------------ a lost connection */

static void lose_one(struct fake *f)
{
	struct wire_request q;

	fake_open(f);
	fake_expect(f, WIRE_SET, 1, 0);
	CHECK(fake_get(f, &q));
	CHECK_EQ(q.request, 2);
	for (int again = 0; again < 3; again++) {
		fake_resume(f);
		CHECK(fake_get(f, &q));
		CHECK(q.verb == WIRE_SET && q.request == 2 && memcmp(q.key, "two", 3) == 0);
	}
	CHECK(fake_reply(f, &q, HC_E_FULL));
	fake_expect(f, WIRE_SET, 3, 0);
	fake_bye(f);
}

TEST(what_is_unanswered_is_sent_again)
{
	struct session x;

	begin(&x, lose_one, (uint32_t)t_limit_ms(3000));
	CHECK_EQ(set(&x, "one"), HC_OK);
	CHECK_EQ(set(&x, "two"), HC_E_FULL); /* what the last engine says */
	CHECK_EQ(set(&x, "three"), HC_OK);
	end(&x);
}

static void lose_idle(struct fake *f)
{
	fake_open(f);
	fake_expect(f, WIRE_PING, 0, 0);
	fake_drop(f);
	fake_resume(f);
	fake_expect(f, WIRE_SET, 1, 0);
	fake_bye(f);
}

TEST(a_connection_that_was_lost_while_idle)
{
	struct session x;

	begin(&x, lose_idle, 0);
	CHECK_EQ(hc_ping(x.hc), HC_OK);
	CHECK_EQ(set(&x, "k"), HC_OK);
	CHECK_EQ(hc_health(x.hc), 0);
	end(&x);
}

/* An engine that applies each mutation once, by its number, and dies at random moments: before it
 * has read, with half a request, before the answer, with half an answer.  The dead one's results
 * are kept (rule P23). */
static void chaos(struct fake *f)
{
	struct wire_request q;

	fake_open(f);
	for (;;) {
		uint64_t fate = f->applied < CHAOS_ITEMS + CHAOS_SINGLE
		                        ? t_random_from(&f->seed) % 12
		                        : 11;
		bool inside = f->next_item <
		              f->n_items; /* a batch: rarer, or none would ever end */
		if (inside && t_random_from(&f->seed) % 16)
			fate = 11;
		bool unread = inside || f->in.begin != f->in.end;
		bool got = fate == 0 && !unread ? fake_more(f) : fate <= 1 ? true : fake_get(f, &q);
		if (got && fate > 1) {
			if (q.verb == WIRE_BYE) {
				(void)fake_reply(f, &q, 0);
				return;
			}
			if (q.request == f->applied + 1)
				f->applied++;
			CHECK(q.request <= f->applied); /* none was left out */
			CHECK_EQ(q.value_bytes, q.request % 7);
			if (fate > 3)
				(void)fake_reply(f, &q, 0);
		}
		if (fate == 3) {
			struct wire_buf b = {0};
			CHECK_EQ(wire_put_answer(&b, &(struct wire_answer){.verb = WIRE_SET,
							     .request = q.request}),
				0);
			(void)fake_send(
				f, b.bytes, 1 + t_random_from(&f->seed) % (b.end - 1), NULL, 0);
			wire_buf_fini(&b);
		}
		if (fate <= 3 || !got)
			fake_resume(f);
	}
}

TEST(an_engine_that_dies_at_any_moment)
{
	struct hc_mset_item *m = items_new(CHAOS_ITEMS);
	struct session x;

	fake_init(&x.f);
	x.f.seed = t_random();
	begin_with(&x, chaos, 0);
	for (uint64_t i = 0; i < CHAOS_ITEMS; i++)
		m[i].value_bytes = (i + 1) % 7;
	CHECK_EQ(hc_mset(x.s, m, CHAOS_ITEMS, NULL), HC_OK);
	for (uint64_t i = CHAOS_ITEMS; i < CHAOS_ITEMS + CHAOS_SINGLE; i++)
		CHECK_EQ(hc_set(x.s, "key", 3, "values", (i + 1) % 7, NULL), HC_OK);
	CHECK_EQ(x.f.applied, CHAOS_ITEMS + CHAOS_SINGLE);
	CHECK(x.f.n_batch_frames > CHAOS_ITEMS / 32); /* some were sent again */
	end(&x);
	free(m);
}

/* ------------------------------------------------------------------ no answer */

static void answer_late(struct fake *f)
{
	struct wire_request one, two;

	fake_open(f);
	CHECK(fake_get(f, &one));
	CHECK_EQ(one.request, 1);
	CHECK(fake_get(f, &two)); /* sent before the first has an answer */
	CHECK_EQ(two.request, 2);
	CHECK(fake_reply(f, &one, HC_E_FULL));
	CHECK(fake_reply(f, &two, 0));
	fake_bye(f);
}

TEST(sent_but_not_answered_is_unknown)
{
	struct session x;
	begin(&x, answer_late, 0);
	patience(&x, SHORT_MS);
	uint64_t begin_ns = t_now_ns();
	CHECK_EQ(set(&x, "one"), HC_E_UNKNOWN);
	CHECK(t_now_ns() - begin_ns >= SHORT_MS * 1000000ull);
	patience_long(&x);
	CHECK_EQ(set(&x, "two"), HC_OK); /* the late answer of the first is not its own */
	end(&x);
}

static void answer_ping_late(struct fake *f)
{
	struct wire_request q[3];

	fake_open(f);
	for (int i = 0; i < 3; i++)
		CHECK(fake_get(f, &q[i]));
	CHECK(q[0].verb == WIRE_PING && q[1].verb == WIRE_SET && q[2].verb == WIRE_PING);
	for (int i = 0; i < 3; i++)
		CHECK(fake_reply(f, &q[i], 0));
	fake_bye(f);
}

TEST(a_ping_is_never_unknown)
{
	struct session x;

	begin(&x, answer_ping_late, 0);
	patience(&x, SHORT_MS);
	CHECK_EQ(hc_ping(x.hc), HC_E_TIMEOUT);
	CHECK_EQ(set(&x, "k"), HC_E_UNKNOWN);
	patience_long(&x);
	CHECK_EQ(hc_ping(x.hc), HC_OK);
	end(&x);
}

static void leave_and_return(struct fake *f)
{
	struct wire_request q;

	fake_open(f);
	fake_expect(f, WIRE_PING, 0, 0);
	fake_drop(f);
	fake_step(f);
	fake_hello_get(f); /* a new engine that does not come to answering */
	CHECK(!fake_get(f, &q));
	fake_resume(f);
	fake_expect(f, WIRE_SET, 1, 0); /* the number of the one that was never sent */
	fake_bye(f);
}

TEST(never_sent_is_a_timeout)
{
	struct session x;

	begin(&x, leave_and_return, 0);
	CHECK_EQ(hc_ping(x.hc), HC_OK);
	fake_step_wait(&x.f);
	patience(&x, SHORT_MS);
	CHECK_EQ(set(&x, "k"), HC_E_TIMEOUT);
	patience_long(&x);
	CHECK_EQ(set(&x, "k"), HC_OK);
	end(&x);
}

static void swallow(struct fake *f)
{
	struct wire_request q;

	fake_open(f);
	for (uint64_t i = 1; i <= 8; i++) {
		CHECK(fake_get(f, &q));
		CHECK_EQ(q.request, i);
	}
	fake_go_wait(f);
	struct pollfd p = {.fd = f->fd, .events = POLLIN};
	CHECK(f->in.begin == f->in.end && poll(&p, 1, 0) == 0); /* there is no ninth */
	fake_resume(f);
	for (uint64_t i = 1; i <= 9; i++)
		fake_expect(f, WIRE_SET, i, 0);
	fake_bye(f);
}

TEST(a_full_window_takes_nothing_more)
{
	struct hc_mset_item *m = items_new(20);
	struct session x;

	fake_init(&x.f);
	x.f.hello.max_inflight = 8;
	begin_with(&x, swallow, 0);
	patience(&x, SHORT_MS);
	CHECK_EQ(hc_mset(x.s, m, 20, NULL), HC_E_UNKNOWN);
	for (int i = 0; i < 20; i++)
		CHECK_EQ(m[i].result, i < 8 ? HC_E_UNKNOWN : HC_E_TIMEOUT);
	CHECK_EQ(set(&x, "k"), HC_E_TIMEOUT);
	fake_go(&x.f);
	patience_long(&x);
	CHECK_EQ(set(&x, "k"), HC_OK);
	end(&x);
	free(m);
}

static void forget(struct fake *f)
{
	struct wire_request q;

	fake_open(f);
	CHECK(fake_get(f, &q));
	fake_hello_get(f);
	CHECK_EQ(f->asked.session, FAKE_SESSION);
	CHECK(fake_put(f, &(struct wire_answer){.verb = WIRE_HELLO, .status = HC_E_STALE}));
	CHECK(!fake_get(f, &q));
}

TEST(a_new_daemon_does_not_know_us)
{
	struct hc_mset_item m[2] = {{"k", 1, "v", 1, 0}, {"k", 0, "v", 1, 0}};
	struct session x;

	begin(&x, forget, 0);
	CHECK_EQ(set(&x, "k"), HC_E_UNKNOWN); /* the old one had it */
	CHECK_EQ(set(&x, "k"), HC_E_STALE);
	CHECK_EQ(hc_delete(x.s, "k", 1), HC_E_STALE);
	CHECK_EQ(hc_ping(x.hc), HC_E_STALE);
	CHECK_EQ(hc_mset(x.s, m, 2, NULL), HC_E_STALE);
	CHECK_EQ(m[1].result, HC_E_STALE);
	CHECK_EQ(hc_health(x.hc), HC_DISCONNECTED);
	end(&x);
}

static void open_and_go(struct fake *f)
{
	fake_open(f);
	fake_expect(f, WIRE_PING, 0, 0);
}

TEST(a_dead_daemon_is_not_waited_for)
{
	struct session x;

	begin(&x, open_and_go, 0);
	CHECK_EQ(hc_ping(x.hc), HC_OK);
	fake_join(&x.f);
	fake_unlisten(&x.f);
	shm_store32_rlx(&x.f.ctl->sup_word, 1 | SHM_FUTEX_OWNER_DIED);
	uint64_t begin_ns = t_now_ns();
	CHECK_EQ(set(&x, "k"), HC_E_NO_DAEMON);
	CHECK_EQ(hc_ping(x.hc), HC_E_NO_DAEMON);
	CHECK(t_now_ns() - begin_ns < (uint64_t)t_limit_ms(FAKE_WAIT_MS) * 500000);
	CHECK_EQ(hc_health(x.hc), HC_SUPERVISOR_GONE | HC_DISCONNECTED);
	hc_close(x.hc);
	fake_fini(&x.f);
}

/* ------------------------------------------------------------------ answers that make no sense */

static void wrong_number(struct fake *f)
{
	struct wire_request q;

	fake_open(f);
	CHECK(fake_get(f, &q));
	q.request += f->seed;
	CHECK(fake_reply(f, &q, 0));
	fake_resume(f);
	fake_expect(f, WIRE_SET, 1, 0); /* what became of it is found out before the next */
	fake_expect(f, WIRE_SET, 2, 0);
	fake_bye(f);
}

TEST(answers_have_an_order)
{
	struct session x;

	for (int k = -1; k <= 1; k += 2) {
		fake_init(&x.f);
		x.f.seed = (uint64_t)k;
		begin_with(&x, wrong_number, 0);
		CHECK_EQ(set(&x, "one"), HC_E_UNKNOWN);
		CHECK_EQ(hc_health(x.hc), HC_DISCONNECTED);
		CHECK_EQ(set(&x, "two"), HC_OK);
		end(&x);
	}
}

static const struct {
	const char *bytes;
	size_t n;
} nonsense[] = {
	{"\x00\x00\x00\x00", 4},                          /* an empty frame */
	{"\x00\x00\x10\x00", 4},                          /* a long one */
	{"\x01\x00\x00\x00\xc0", 5},                      /* no array */
	{"\x06\x00\x00\x00\x95\x03\x01\x00\x00\x00", 10}, /* a SET's */
	{"\x06\x00\x00\x00\x95\x02\x00\x01\x00\x00", 10}, /* a miss, of a ping */
	{"\x06\x00\x00\x00\x94\x02\x00\x00\x00\x00", 10}, /* with a byte too many */
	{"\x06\x00\x00\x00\x95\x02\x00\x00\x00\x00"
	 "\x06\x00\x00\x00\x95\x02\x00\x00\x00\x00",
		20}, /* twice */
};

static void talk_nonsense(struct fake *f)
{
	fake_open(f);
	CHECK(fake_more(f));
	CHECK(fake_send(f, nonsense[f->seed].bytes, nonsense[f->seed].n, NULL, 0));
	(void)fake_more(f);
}

TEST(garbage_closes_the_connection)
{
	struct session x;

	for (size_t i = 0; i < sizeof nonsense / sizeof nonsense[0]; i++) {
		fake_init(&x.f);
		x.f.seed = i;
		begin_with(&x, talk_nonsense, 0);
		bool answered = nonsense[i].n == 20; /* before the nonsense */
		CHECK_EQ(hc_ping(x.hc), answered ? HC_OK : HC_E_PROTOCOL);
		CHECK_EQ(hc_health(x.hc), HC_DISCONNECTED);
		end(&x);
	}
}

static void refuse_one(struct fake *f)
{
	struct wire_request q;

	fake_open(f);
	CHECK(fake_get(f, &q));
	CHECK(fake_put(f, &(struct wire_answer){.status = HC_E_PROTOCOL}));
	fake_resume(f);
	fake_expect(f, WIRE_SET, 2, 0); /* the refused one is not sent again */
	fake_bye(f);
}

TEST(a_refused_frame_is_not_sent_again)
{
	struct session x;

	begin(&x, refuse_one, 0);
	CHECK_EQ(set(&x, "bad"), HC_E_PROTOCOL);
	CHECK_EQ(set(&x, "good"), HC_OK);
	end(&x);
}

static void resume_wrongly(struct fake *f)
{
	struct wire_answer a = f->hello;

	fake_open(f);
	fake_expect(f, WIRE_PING, 0, 0);
	fake_hello_get(f);
	a.n_fds = 0;
	a.resumed = f->seed != 0;
	a.session += f->seed == 1;
	a.status = f->seed == 2 ? HC_E_VERSION : 0;
	CHECK(fake_put(f, &a));
	(void)fake_more(f);
}

TEST(another_session_is_no_resumption)
{
	const int results[] = {HC_E_PROTOCOL, HC_E_PROTOCOL, HC_E_VERSION};
	struct session x;

	for (size_t i = 0; i < 3; i++) {
		fake_init(&x.f);
		x.f.seed = i;
		begin_with(&x, resume_wrongly, 0);
		CHECK_EQ(hc_ping(x.hc), HC_OK);
		int r = HC_OK;
		for (int k = 0; k < 2 && r == HC_OK; k++)
			r = hc_ping(x.hc);
		CHECK_EQ(r, results[i]);
		end(&x);
	}
}

/* ------------------------------------------------------------------ words */

TEST(errors_have_names_and_meanings)
{
	CHECK_STR(hc_error_name(HC_E_FULL), "HC_E_FULL");
	CHECK_STR(hc_error_name(HC_E_CLOSING), "HC_E_CLOSING");
	CHECK_STR(hc_error_name(HC_OK), "HC_OK");
	CHECK_STR(hc_error_name(HC_TOO_SMALL), "HC_TOO_SMALL");
	CHECK_STR(hc_error_name(HC_E_LAST), "HC_E_?");
	CHECK_STR(hc_error_name(12345), "HC_E_?");
	for (int r = HC_E_LAST - 2; r < 5; r++)
		CHECK(hc_strerror(r) && hc_strerror(r)[0]);
	CHECK_STR(hc_version(), "0.1.0");
}
