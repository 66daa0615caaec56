/* unit_submit_lost.c - operations that nobody waits for, over a connection that fails in every way: does each
 * get exactly one completion, a true one, and is each applied once?
 */
#include "submit.h"

/* OP_MS: of what has to be sent before its time is over, also on a machine that has much to do. */
enum { SHORT_MS = 150, OP_MS = 1000, CHAOS = 600 };

/* ------------------------------------------------------------------ a lost connection */

enum { GROUP = 3, CUTS = 90 };

static void submit_group(const struct session *x, uint64_t group)
{
	for (uint64_t i = 0; i < GROUP; i++)
		(void)set(x, group * GROUP + i, i == 1 ? 3 : 5);
}

static void expect_group(const struct session *x, uint64_t group)
{
	for (uint64_t i = 0; i < GROUP; i++)
		expect(x, group * GROUP + i, i == 1 ? HC_E_FULL : HC_OK);
	none(x);
}

/* Answers a group.  Its requests have the numbers that they had before, whoever asks. */
static void group_serve(struct fake *f, uint64_t group)
{
	struct wire_request q;

	for (uint64_t i = 0; i < GROUP; i++) {
		CHECK(fake_get(f, &q));
		CHECK_EQ(q.request, group * GROUP + i + 1);
		CHECK(fake_reply(f, &q, i == 1 ? HC_E_FULL : 0));
	}
}

/* Reads so many bytes of a frame, or all of it: true then. */
static bool cut_request(struct fake *f, size_t bytes)
{
	uint8_t got[4096];
	size_t n = 0, whole = sizeof got;

	while (n < bytes && n < whole) {
		CHECK(fake_wait(f->fd, POLLIN));
		ssize_t r = recv(f->fd, got + n, 1, 0);
		CHECK_EQ(r, 1);
		n++;
		if (n == 4)
			whole = 4 + (got[0] | (size_t)got[1] << 8);
	}
	return n == whole;
}

static void cut_requests(struct fake *f)
{
	bool whole = false;

	fake_open(f);
	for (uint64_t group = 0; group < CUTS; group++) {
		whole = cut_request(f, group);
		fake_resume(f);
		group_serve(f, group);
	}
	CHECK(whole); /* every byte was the last one that was read */
	fake_bye(f);
}

TEST(a_connection_that_ends_at_any_byte_of_a_request)
{
	struct session x;

	session_begin(&x, cut_requests);
	for (uint64_t group = 0; group < CUTS; group++) {
		submit_group(&x, group);
		expect_group(&x, group);
	}
	session_end(&x);
}

/* Sends so many bytes of the answer to a group, or all of it: true then. */
static bool cut_answer(struct fake *f, uint64_t group, size_t bytes)
{
	struct wire_answer a = {
		.verb = WIRE_BATCH, .request = group * GROUP + 1, .value = GROUP, .n_items = GROUP};
	struct wire_buf b = {0};
	struct wire_request q;

	for (uint32_t i = 0; i < GROUP; i++) {
		CHECK(fake_get(f, &q));
		a.item[i] = (struct wire_item){.idx = i, .status = i == 1 ? HC_E_FULL : 0};
	}
	CHECK_EQ(wire_put_answer(&b, &a), 0);
	bool whole = bytes >= b.end;
	CHECK(fake_send(f, b.bytes, whole ? b.end : bytes, NULL, 0));
	wire_buf_fini(&b);
	return whole;
}

static void cut_answers(struct fake *f)
{
	bool whole = false;

	fake_open(f);
	for (uint64_t group = 0; group < CUTS; group++) {
		if (whole) /* the one before; it has been taken */
			fake_resume(f);
		whole = cut_answer(f, group, group);
		if (!whole) {
			fake_resume(f);
			group_serve(f, group);
		}
		fake_go_wait(f);
	}
	CHECK(whole);
}

TEST(a_connection_that_ends_at_any_byte_of_an_answer)
{
	struct session x;

	session_begin(&x, cut_answers);
	for (uint64_t group = 0; group < CUTS; group++) {
		submit_group(&x, group);
		expect_group(&x, group);
		fake_go(&x.f);
	}
	session_end(&x);
}

/* An engine that applies each mutation once, by its number, and dies at random moments; the dead one's
 * results are kept (rule P23). */
static void chaos(struct fake *f)
{
	struct wire_request q;

	fake_open(f);
	for (;;) {
		uint64_t fate = f->applied < CHAOS ? t_random_from(&f->seed) % 40 : 39;
		bool got = fate == 0 ? false : fake_get(f, &q);
		if (got && q.verb == WIRE_BYE) {
			CHECK(fake_reply(f, &q, 0));
			return;
		}
		if (got) {
			if (q.request == f->applied + 1)
				f->applied++;
			CHECK(q.request <= f->applied); /* none was left out */
			CHECK_EQ(q.value_bytes, q.request % 7 + 4);
		}
		if (got && fate > 1)
			(void)fake_reply(f, &q, 0);
		else
			fake_resume(f);
	}
}

TEST(an_engine_that_dies_at_any_moment)
{
	struct session x;
	uint64_t submitted = 0, taken = 0;

	fake_init(&x.f);
	x.f.seed = t_random();
	session_open(&x, chaos, (struct hc_open_opts){.submit_max = 100});
	while (taken < CHAOS) {
		struct hc_done d[40];
		size_t n;
		while (submitted < CHAOS && submitted - taken < 100 && t_random_below(30))
			(void)set(&x, submitted, (submitted + 1) % 7 + 4), submitted++;
		CHECK_EQ(hc_poll(x.hc, d, 1 + t_random_below(40),
				 t_random_below(2) ? (uint32_t)t_limit_ms(FAKE_WAIT_MS) : 0, &n),
			HC_OK);
		for (size_t i = 0; i < n; i++) {
			CHECK_EQ(d[i].user, taken++);
			CHECK_EQ(d[i].result, HC_OK);
		}
	}
	none(&x);
	session_end(&x);
	CHECK_EQ(x.f.applied, CHAOS);
}

/* ------------------------------------------------------------------ no answer */

/* Eight are sent, two wait; then none of them has any time left. */
static void begin_swallowed(struct session *x, uint64_t id[10])
{
	fake_init(&x->f);
	x->f.hello.max_inflight = 8;
	session_open(x, swallow, (struct hc_open_opts){0});
	for (uint64_t i = 0; i < 10; i++) {
		struct hc_op op = op_of(x, HC_OP_SET, "key", i);
		op.timeout_ms = id ? 0 : OP_MS;
		CHECK_EQ(hc_submit(&op, id ? &id[i] : NULL), HC_OK);
	}
	none(x);
}

static void end_swallowed(struct session *x)
{
	none(x);
	fake_go(&x->f);
	(void)set(x, 99, 0);
	expect(x, 99, HC_OK); /* late answers are nobody's */
	none(x);
	session_end(x);
}

TEST(at_its_time_limit_what_was_sent_is_unknown_and_what_was_not_did_not_happen)
{
	struct session x;
	uint64_t begin_ns = t_now_ns();

	begin_swallowed(&x, NULL);
	for (uint64_t i = 0; i < 10; i++)
		expect(&x, i, i < 8 ? HC_E_UNKNOWN : HC_E_TIMEOUT);
	CHECK(t_now_ns() - begin_ns >= OP_MS * 1000000ull);
	end_swallowed(&x);
}

TEST(what_is_called_off_says_whether_it_was_sent)
{
	struct session x;
	uint64_t id[10];

	begin_swallowed(&x, id);
	for (int i = 9; i >= 0; i--) {
		CHECK_EQ(hc_cancel(x.hc, id[i]), i < 8 ? HC_E_UNKNOWN : HC_OK);
		expect(&x, (uint64_t)i, i < 8 ? HC_E_UNKNOWN : HC_E_CANCELLED);
		CHECK_EQ(hc_cancel(x.hc, id[i]), HC_MISS);
	}
	end_swallowed(&x);
}

TEST(a_flush_that_meets_its_limit_leaves_all_under_way)
{
	struct session x;
	uint64_t id[10];

	begin_swallowed(&x, id);
	CHECK_EQ(hc_flush(x.hc, SHORT_MS, NULL), HC_E_TIMEOUT);
	CHECK_EQ(hc_interrupt(x.hc, 1), HC_OK);
	CHECK_EQ(hc_flush(x.hc, 0, NULL), HC_E_CANCELLED);
	CHECK_EQ(hc_interrupt(x.hc, 0), HC_OK);
	none(&x);
	for (int i = 0; i < 10; i++)
		CHECK_EQ(hc_cancel(x.hc, id[i]), i < 8 ? HC_E_UNKNOWN : HC_OK);
	CHECK_EQ(hc_flush(x.hc, 0, NULL), HC_OK);
	for (uint64_t i = 0; i < 10; i++)
		expect(&x, i, i < 8 ? HC_E_UNKNOWN : HC_E_CANCELLED);
	end_swallowed(&x);
}

TEST(a_call_that_waits_for_what_was_submitted_has_its_own_time_limit)
{
	struct hc_set_opts o = HC_OPTS(hc_set_opts);
	struct session x;
	uint64_t id[10];

	begin_swallowed(&x, id);
	o.timeout_ms = SHORT_MS;
	uint64_t begin_ns = t_now_ns();
	CHECK_EQ(hc_set(x.s, "key", 3, "v", 1, &o), HC_E_TIMEOUT); /* not sent: others come first */
	CHECK(t_now_ns() - begin_ns >= SHORT_MS * 1000000ull);
	for (int i = 0; i < 10; i++)
		CHECK_EQ(hc_cancel(x.hc, id[i]), i < 8 ? HC_E_UNKNOWN : HC_OK);
	for (uint64_t i = 0; i < 10; i++)
		expect(&x, i, i < 8 ? HC_E_UNKNOWN : HC_E_CANCELLED);
	end_swallowed(&x);
}

static void count_late(struct fake *f)
{
	struct wire_request q;

	fake_open(f);
	fake_go_wait(f);
	while (fake_get(f, &q) && q.verb != WIRE_BYE) {
		f->applied += q.verb == WIRE_SET;
		CHECK(fake_reply(f, &q, 0));
	}
	if (q.verb == WIRE_BYE)
		CHECK(fake_reply(f, &q, 0));
}

/* Each in a frame of its own, until the socket is full between two of them. */
TEST(what_the_kernel_took_nothing_of_was_not_sent)
{
	uint64_t id[FAKE_MAX_INFLIGHT], sent = 0;
	const int bytes = 64 << 10; /* whatever the machine gives */
	struct session x;

	session_begin(&x, count_late);
	CHECK_EQ(setsockopt(x.hc->conn.fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes), 0);
	for (uint64_t i = 0; i < FAKE_MAX_INFLIGHT; i++) {
		id[i] = set(&x, i, 5000);
		none(&x);
	}
	for (int i = FAKE_MAX_INFLIGHT - 1; i >= 0; i--)
		sent += hc_cancel(x.hc, id[i]) == HC_E_UNKNOWN;
	CHECK(sent > 0 && sent < FAKE_MAX_INFLIGHT);
	for (int i = FAKE_MAX_INFLIGHT - 1; i >= 0; i--)
		expect(&x, (uint64_t)i, (uint64_t)i < sent ? HC_E_UNKNOWN : HC_E_CANCELLED);
	fake_go(&x.f);
	CHECK_EQ(hc_ping(x.hc), HC_OK);
	session_end(&x);
	CHECK_EQ(x.f.applied, sent);
}

/* ------------------------------------------------------------------ answers that make no sense */

static void nonsense(struct fake *f)
{
	struct wire_answer a = {.verb = WIRE_BATCH, .request = 1, .value = 3, .n_items = 3};
	struct wire_request q;
	struct wire_buf b = {0};

	fake_open(f);
	for (uint32_t i = 0; i < 3; i++) {
		CHECK(fake_get(f, &q));
		a.item[i].idx = i;
	}
	switch (f->seed) {
	case 0:
		a.request = 2;
		break; /* another number */
	case 1:
		a.verb = WIRE_SET;
		break; /* another verb */
	case 2:
		a.value = 2, a.n_items = 2;
		break;
	case 3:
		a.n_items = 2;
		break; /* one is left out, and it was not to be quiet */
	case 4:
		a.item[1].status = 9;
		break; /* no such status */
	case 5:
		a.item[1].idx = 2;
		break; /* not in order */
	case 6:
		a.status = HC_MISS;
		break; /* of a batch */
	default:
		a.item[2].idx = 63;
	}
	CHECK_EQ(wire_put_answer(&b, &a), 0);
	CHECK(fake_send(f, b.bytes, b.end, NULL, 0));
	wire_buf_fini(&b);
	fake_resume(f);
	for (uint64_t i = 1; i <= 4; i++) /* what became of them is found out before the next */
		fake_expect(f, WIRE_SET, i, 0);
	fake_bye(f);
}

TEST(answers_that_make_no_sense_leave_it_unknown)
{
	for (uint64_t kind = 0; kind < 8; kind++) {
		struct session x;

		fake_init(&x.f);
		x.f.seed = kind;
		x.f.hello.max_inflight = 3;
		session_open(&x, nonsense, (struct hc_open_opts){0});
		for (uint64_t i = 0; i < 3; i++)
			(void)set(&x, i, 0);
		none(&x);
		for (uint64_t i = 0; i < 3; i++)
			expect(&x, i, HC_E_UNKNOWN);
		(void)set(&x, 3, 0);
		expect(&x, 3, HC_OK);
		session_end(&x);
	}
}

static void refuse(struct fake *f)
{
	struct wire_request q;

	fake_open(f);
	CHECK(fake_get(f, &q));
	CHECK(fake_put(
		f, &(struct wire_answer){.verb = WIRE_BATCH, .request = 1, .status = HC_E_DENIED}));
	f->n_items = 0;
	for (uint64_t i = 4; i < 7; i++) {
		CHECK(fake_get(f, &q));
		CHECK_EQ(q.request, i);
	}
	fake_hello_get(f); /* gone, and another daemon comes */
	CHECK(fake_put(f, &(struct wire_answer){.verb = WIRE_HELLO, .status = HC_E_STALE}));
	CHECK(!fake_get(f, &q));
}

TEST(a_refused_batch_and_a_new_daemon_are_completions_too)
{
	struct session x;

	fake_init(&x.f);
	x.f.hello.max_inflight = 3;
	session_open(&x, refuse, (struct hc_open_opts){0});
	for (uint64_t i = 0; i < 3; i++)
		(void)set(&x, i, 0);
	for (uint64_t i = 0; i < 3; i++)
		expect(&x, i, HC_E_DENIED);
	for (uint64_t i = 3; i < 8; i++)
		(void)set(&x, i, 0);
	for (uint64_t i = 3; i < 8; i++)
		expect(&x, i, i < 6 ? HC_E_UNKNOWN : HC_E_STALE);
	(void)set(&x, 8, 0);
	expect(&x, 8, HC_E_STALE);
	CHECK_EQ(hc_flush(x.hc, 0, NULL), HC_E_STALE);
	session_end(&x);
}

static void open_and_go(struct fake *f) { fake_open(f); }

TEST(a_dead_daemon_is_not_waited_for)
{
	struct session x;

	session_begin(&x, open_and_go);
	fake_join(&x.f);
	fake_unlisten(&x.f);
	shm_store32_rlx(&x.f.ctl->sup_word, 1 | SHM_FUTEX_OWNER_DIED);
	uint64_t begin_ns = t_now_ns();
	(void)set(&x, 0, 0);
	expect(&x, 0, HC_E_NO_DAEMON);
	CHECK(t_now_ns() - begin_ns < (uint64_t)t_limit_ms(FAKE_WAIT_MS) * 500000);
	hc_close(x.hc);
	fake_fini(&x.f);
}
