/* unit_submit.c - operations that nobody waits for, and a good engine: what goes out, what comes back, in which
 * order, and what is not accepted.
 *
 * Planted bugs, each caught by the test that tests/mutants.txt names: 121, 123 here, 120 and 122 in
 * unit_submit_lost.c, 124 in unit_submit_fd.c.
 */
#include "submit.h"

enum { MANY = 500 };

/* ------------------------------------------------------------------ a good engine */

static void kinds(struct fake *f)
{
	static const uint32_t verbs[] = {
		WIRE_SET, WIRE_SET, WIRE_SET, WIRE_DELETE, WIRE_DELETE, WIRE_TOUCH, WIRE_INCR};
	static const int status[] = {
		HC_E_FULL, HC_EXISTS, HC_MISS, HC_CONFLICT, HC_OK, HC_OK, HC_OK};
	struct wire_request q;

	fake_open(f);
	for (uint32_t i = 0; i < 7; i++) {
		CHECK(fake_get(f, &q));
		CHECK_EQ(q.verb, verbs[i]);
		CHECK_EQ(q.request, i + 1);
		CHECK(q.store_idx == 9 && q.store_id == FAKE_STORE);
		CHECK_EQ(q.mode, i == 1   ? WIRE_MODE_ADD
				 : i == 2 ? WIRE_MODE_APPEND
					  : WIRE_MODE_SET);
		CHECK_EQ(q.version, i == 3 ? 77 : 0);
		if (i == 5)
			CHECK_EQ(q.ttl_ms, 5000);
		if (i == 6)
			CHECK(q.delta == -2 && q.initial == 8);
		CHECK(fake_put(f, &(struct wire_answer){.verb = q.verb,
					  .request = q.request,
					  .status = status[i],
					  .lsn = 100 + i,
					  .value = (uint64_t)-5}));
	}
	CHECK_EQ(f->n_batch_frames, 1);
	fake_bye(f);
}

TEST(operations_of_each_kind_go_in_one_frame_and_their_answers_come_back)
{
	struct hc_set_opts add = HC_OPTS(hc_set_opts);
	struct hc_incr_opts incr = HC_OPTS(hc_incr_opts);
	struct session x;

	session_begin(&x, kinds);
	(void)set(&x, 0, 5);
	add.mode = HC_ADD;
	incr.initial = 10;
	for (uint64_t i = 1; i < 7; i++) {
		static const uint32_t op_kinds[] = {0, HC_OP_SET, HC_OP_APPEND, HC_OP_DELETE,
			HC_OP_DELETE, HC_OP_TOUCH, HC_OP_INCR};
		struct hc_op op = op_of(&x, op_kinds[i], "k", i);
		op.set = i == 1 ? &add : NULL;
		op.value = i <= 2 ? "v" : NULL;
		op.value_bytes = i <= 2;
		op.version = i == 3 ? 77 : 0;
		op.ttl_ms = i == 5 ? 5000 : 0;
		op.incr = i == 6 ? &incr : NULL;
		op.delta = i == 6 ? -2 : 0;
		CHECK_EQ(hc_submit(&op, NULL), HC_OK);
	}
	static const int status[] = {
		HC_E_FULL, HC_EXISTS, HC_MISS, HC_CONFLICT, HC_OK, HC_OK, HC_OK};
	static const uint64_t version[] = {0, 101, 0, 103, 104, 105, 106};
	for (uint64_t i = 0; i < 7; i++) {
		struct hc_done d = next(&x);
		CHECK_EQ(d.user, i);
		CHECK_EQ(d.result, status[i]);
		CHECK_EQ(d.version, version[i]);
		CHECK_EQ(d.sum, i == 6 ? -5 : 0);
	}
	none(&x);
	session_end(&x);
}

static void clears(struct fake *f)
{
	static const uint32_t verbs[] = {WIRE_SET, WIRE_SET, WIRE_CLEAR, WIRE_CLEAR, WIRE_SET};
	struct wire_request q;

	fake_open(f);
	for (uint32_t i = 0; i < 5; i++) {
		CHECK(fake_get(f, &q));
		CHECK_EQ(q.verb, verbs[i]);
		CHECK_EQ(q.request, i + 1);
		CHECK(fake_put(f, &(struct wire_answer){
					  .verb = q.verb, .request = q.request, .value = 40 + i}));
	}
	CHECK_EQ(f->n_batch_frames, 1);
	fake_bye(f);
}

TEST(what_empties_a_store_goes_in_a_frame_of_its_own)
{
	struct session x;

	session_begin(&x, clears);
	for (uint64_t i = 0; i < 5; i++) {
		struct hc_op op = op_of(&x, HC_OP_CLEAR, "", i);
		if (i == 2 || i == 3)
			CHECK_EQ(hc_submit(&op, NULL), HC_OK);
		else
			(void)set(&x, i, 0);
		op.key = "k";
		op.key_bytes = 1;
		CHECK_EQ(hc_submit(&op, NULL), HC_E_INVAL);
	}
	for (uint64_t i = 0; i < 5; i++) {
		struct hc_done d = next(&x);
		CHECK_EQ(d.user, i);
		CHECK_EQ(d.result, HC_OK);
		CHECK_EQ(d.sum, i == 2 || i == 3 ? 40 + i : 0);
	}
	session_end(&x);
}

static void just_open(struct fake *f)
{
	fake_open(f);
	fake_bye(f);
}

static void bad_size(struct hc_op *op) { op->size = 4; }
static void bad_store(struct hc_op *op) { op->store = NULL; }
static void bad_kind(struct hc_op *op) { op->op = HC_OP_LEASE_DROP + 1; }
static void bad_kind_0(struct hc_op *op) { op->op = 0; }
static void bad_quiet(struct hc_op *op) { op->quiet = 2; }
static void bad_reserved(struct hc_op *op) { op->reserved = 1; }
static void bad_key(struct hc_op *op) { op->key = NULL; }
static void bad_key_0(struct hc_op *op) { op->key_bytes = 0; }
static void bad_key_long(struct hc_op *op)
{
	op->key = value;
	op->key_bytes = HC_KEY_BYTES_MAX + 1;
}
static void bad_value(struct hc_op *op) { op->value_bytes = 1; }
static void bad_delta(struct hc_op *op) { op->delta = 1; }
static void bad_ttl(struct hc_op *op) { op->ttl_ms = 1; }
static void bad_version(struct hc_op *op) { op->version = 1; }
static void bad_delete(struct hc_op *op)
{
	op->op = HC_OP_DELETE;
	op->value = "v";
	op->value_bytes = 1;
}
static void bad_touch(struct hc_op *op)
{
	op->op = HC_OP_TOUCH;
	op->ttl_ms = 11ull * 366 * 86400 * 1000;
}
static void bad_opts(struct hc_op *op)
{
	static struct hc_set_opts o = HC_OPTS(hc_set_opts);

	o.timeout_ms = 1;
	op->set = &o;
}
static void bad_out(struct hc_op *op)
{
	static struct hc_set_opts o = HC_OPTS(hc_set_opts);
	static uint64_t version;

	o.ret_version = &version; /* it would be written later */
	op->set = &o;
}
static void bad_incr(struct hc_op *op)
{
	static struct hc_incr_opts o = HC_OPTS(hc_incr_opts);

	o.timeout_ms = 1;
	op->op = HC_OP_INCR;
	op->incr = &o;
}

TEST(what_is_out_of_range_is_not_accepted)
{
	static void (*const bad[])(struct hc_op * op) = {bad_size, bad_store, bad_kind, bad_kind_0,
		bad_quiet, bad_reserved, bad_key, bad_key_0, bad_key_long, bad_value, bad_delta,
		bad_ttl, bad_version, bad_delete, bad_touch, bad_opts, bad_out, bad_incr};
	struct session x;

	session_begin(&x, just_open);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct hc_op op = op_of(&x, HC_OP_SET, "k", 1);
		bad[i](&op);
		CHECK_EQ(hc_submit(&op, NULL), HC_E_INVAL);
	}
	CHECK_EQ(hc_submit(NULL, NULL), HC_E_INVAL);
	struct hc_op large = op_of(&x, HC_OP_SET, "k", 1);
	large.value = value;
	large.value_bytes = SIZE_MAX / 2; /* nothing of it is read */
	CHECK_EQ(hc_submit(&large, NULL), HC_E_TOO_LARGE);
	large.value_bytes = SIZE_MAX;
	CHECK_EQ(hc_submit(&large, NULL), HC_E_TOO_LARGE);
	large.value_bytes = FAKE_MAX_FRAME + 1ull;
	CHECK_EQ(hc_submit(&large, NULL), HC_E_TOO_LARGE);
	none(&x);
	session_end(&x);
}

TEST(calls_with_arguments_out_of_range)
{
	struct hc_flushed f = {.size = 1};
	struct hc_done d;
	struct session x;
	size_t n;
	int fd;

	session_begin(&x, just_open);
	CHECK_EQ(hc_poll(NULL, &d, 1, 0, &n), HC_E_INVAL);
	CHECK_EQ(hc_poll(x.hc, NULL, 1, 0, &n), HC_E_INVAL);
	CHECK_EQ(hc_poll(x.hc, &d, 0, 0, &n), HC_E_INVAL);
	CHECK_EQ(hc_poll(x.hc, &d, 1, 0, NULL), HC_E_INVAL);
	CHECK_EQ(hc_fd(x.hc, NULL), HC_E_INVAL);
	CHECK_EQ(hc_fd(NULL, &fd), HC_E_INVAL);
	CHECK_EQ(hc_cancel(NULL, 1), HC_E_INVAL);
	CHECK_EQ(hc_cancel(x.hc, 1), HC_MISS);
	CHECK_EQ(hc_flush(NULL, 0, NULL), HC_E_INVAL);
	CHECK_EQ(hc_flush(x.hc, 0, &f), HC_E_INVAL);
	CHECK_EQ(hc_flush(x.hc, 0, NULL), HC_OK); /* of nothing */
	CHECK_EQ(hc_interrupt(NULL, 1), HC_E_INVAL);
	CHECK_EQ(hc_interrupt(x.hc, 2), HC_E_INVAL);
	session_end(&x);
}

TEST(many_more_than_the_window_are_all_done_in_order)
{
	struct session x;

	session_begin(&x, serve);
	for (uint64_t i = 0; i < MANY; i++)
		(void)set(&x, i, i == 7 ? 3 : 5);
	for (uint64_t i = 0; i < MANY; i++)
		expect(&x, i, i == 7 ? HC_E_FULL : HC_OK);
	none(&x);
	session_end(&x);
	CHECK_EQ(x.f.applied, MANY);
	CHECK(x.f.n_batch_frames >= MANY / 64 && x.f.n_batch_frames < MANY / 8);
}

TEST(the_window_may_be_of_any_size_and_values_large)
{
	for (uint32_t window = 1; window <= 64; window *= 4) {
		struct session x;

		fake_init(&x.f);
		x.f.hello.max_inflight = window;
		session_open(&x, serve, (struct hc_open_opts){.submit_bytes = 64 << 20});
		for (uint64_t i = 0; i < 60; i++)
			(void)set(&x, i, i % 10 == 5 ? sizeof value : i % 10 == 6 ? 300000 : 0);
		for (uint64_t i = 0; i < 60; i++)
			expect(&x, i, HC_OK);
		session_end(&x);
		CHECK_EQ(x.f.applied, 60);
	}
}

TEST(as_large_as_a_frame_may_be)
{
	size_t head = 1 + 1 + 1 + 1 + 1 + 5 + 3 + 1 + 1; /* of a SET with a key of 3 bytes */

	for (size_t more = 0; more < 12; more++) {
		struct session x;
		struct hc_op op;

		fake_init(&x.f);
		x.f.hello.max_frame = 4000;
		session_open(&x, serve, (struct hc_open_opts){0});
		op = op_of(&x, HC_OP_SET, "key", 1);
		op.value = value;
		op.value_bytes = 4000 - head - 8 + more; /* the number is taken for the longest */
		int r = hc_submit(&op, NULL);
		CHECK_EQ(r, more == 0 ? HC_OK : HC_E_TOO_LARGE);
		if (r == HC_OK)
			expect(&x, 1, HC_OK);
		session_end(&x);
	}
}

/* ------------------------------------------------------------------ quiet */

static void quiet_frames(struct fake *f)
{
	struct wire_request q;

	fake_open(f);
	for (uint64_t i = 1; i <= 20; i++) {
		CHECK(fake_get(f, &q));
		CHECK_EQ(q.request, i);
		CHECK_EQ(f->batch[0].quiet, i <= 10); /* the others have a loud one among them */
		CHECK(fake_reply(f, &q, q.value_bytes == 3 ? HC_E_FULL : 0));
	}
	fake_bye(f);
}

TEST(quiet_successes_are_counted_and_not_answered)
{
	struct hc_flushed f = HC_OPTS(hc_flushed);
	struct session x;

	session_begin(&x, quiet_frames);
	for (int round = 0; round < 2; round++) {
		for (uint64_t i = 0; i < 10; i++) {
			struct hc_op op = op_of(&x, HC_OP_SET, "k", i);
			op.quiet = !(round == 1 && i == 9);
			op.value = value;
			op.value_bytes = i == 4 ? 3 : 1;
			CHECK_EQ(hc_submit(&op, NULL), HC_OK);
		}
		CHECK_EQ(hc_flush(x.hc, 0, &f), HC_OK);
		CHECK_EQ(f.succeeded, round ? 8 : 9);
		CHECK_EQ(f.failed, 1);
		expect(&x, 4, HC_E_FULL);
		if (round)
			expect(&x, 9, HC_OK);
		none(&x);
	}
	CHECK_EQ(hc_flush(x.hc, 0, &f), HC_OK);
	CHECK(f.succeeded == 0 && f.failed == 0);
	session_end(&x);
}

/* ------------------------------------------------------------------ bounds */

TEST(the_queue_has_a_limit_in_operations_and_in_bytes)
{
	struct session x;

	fake_init(&x.f);
	session_open(&x, serve, (struct hc_open_opts){.submit_max = 8, .submit_bytes = 1000});
	struct hc_op op = op_of(&x, HC_OP_SET, "k", 1);
	for (int i = 0; i < 8; i++)
		CHECK_EQ(hc_submit(&op, NULL), HC_OK);
	CHECK_EQ(hc_submit(&op, NULL), HC_E_QUEUE);
	CHECK_EQ(hc_flush(x.hc, 0, NULL), HC_OK);
	CHECK_EQ(hc_submit(&op, NULL), HC_E_QUEUE); /* none has been taken */
	expect(&x, 1, HC_OK);
	CHECK_EQ(hc_submit(&op, NULL), HC_OK);
	for (int i = 0; i < 8; i++)
		expect(&x, 1, HC_OK);
	op.value = value;
	op.value_bytes = 100000;
	CHECK_EQ(hc_submit(&op, NULL), HC_OK); /* alone */
	CHECK_EQ(hc_submit(&op, NULL), HC_E_QUEUE);
	expect(&x, 1, HC_OK);
	op.value_bytes = 495;
	CHECK_EQ(hc_submit(&op, NULL), HC_OK);
	CHECK_EQ(hc_submit(&op, NULL), HC_E_QUEUE); /* encoded it takes more than its bytes */
	op.value_bytes = 450;
	CHECK_EQ(hc_submit(&op, NULL), HC_OK);
	CHECK_EQ(hc_submit(&op, NULL), HC_E_QUEUE);
	for (int i = 0; i < 2; i++)
		expect(&x, 1, HC_OK);
	none(&x);
	session_end(&x);
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	o.submit_max = HC_SUBMIT_MAX + 1;
	CHECK_EQ(hc_open(&x.hc, &o), HC_E_INVAL);
}

/* What is called off again and again takes places of the queue until it is sent; no more. */
TEST(what_is_called_off_does_not_grow_the_queue)
{
	struct hc_done d;
	struct session x;
	int full = 0;
	size_t n;

	fake_init(&x.f);
	session_open(&x, serve, (struct hc_open_opts){.submit_max = 8});
	for (int i = 0; i < 100; i++) {
		struct hc_op op = op_of(&x, HC_OP_SET, "k", 1);
		uint64_t id;
		int r = hc_submit(&op, &id);
		if (r == HC_OK) {
			CHECK_EQ(hc_cancel(x.hc, id), HC_OK);
			CHECK_EQ(hc_cancel(x.hc, id), HC_MISS);
			continue;
		}
		CHECK_EQ(r, HC_E_QUEUE);
		full++;
		CHECK_EQ(hc_poll(x.hc, &d, 1, 0, &n), HC_OK);
		CHECK_EQ(n, 1);
		CHECK_EQ(d.result, HC_E_CANCELLED);
	}
	CHECK(full > 0);
	session_end(&x);
	CHECK_EQ(x.f.applied, 0);
}

/* ------------------------------------------------------------------ order */

static void ordered(struct fake *f)
{
	struct wire_request q;
	char want[16];

	fake_open(f);
	for (int i = 0;; i++) {
		CHECK(fake_get(f, &q));
		if (q.verb == WIRE_BYE)
			break;
		int n = snprintf(want, sizeof want, "%d", i);
		CHECK(q.key_bytes == (size_t)n && memcmp(q.key, want, (size_t)n) == 0);
		CHECK(fake_reply(f, &q, 0));
		f->applied++;
	}
	CHECK(fake_reply(f, &q, 0));
}

TEST(what_waits_and_what_does_not_are_applied_in_the_order_of_the_calls)
{
	struct session x;
	uint64_t submitted = 0, taken = 0;

	session_begin(&x, ordered);
	for (int i = 0; i < MANY; i++) {
		char key[16];
		size_t n = (size_t)snprintf(key, sizeof key, "%d", i);
		uint64_t how = t_random_below(20);
		if (how == 0) {
			CHECK_EQ(hc_set(x.s, key, n, "v", 1, NULL), HC_OK);
		} else if (how == 1) {
			struct hc_mset_item m = {key, n, "v", 1, 0};
			CHECK_EQ(hc_mset(x.s, &m, 1, NULL), HC_OK);
		} else {
			struct hc_op op = op_of(&x, HC_OP_DELETE, key, submitted++);
			CHECK_EQ(hc_submit(&op, NULL), HC_OK);
		}
		while (how == 2 && taken < submitted)
			expect(&x, taken++, HC_OK);
	}
	while (taken < submitted)
		expect(&x, taken++, HC_OK);
	session_end(&x);
	CHECK_EQ(x.f.applied, MANY);
}
