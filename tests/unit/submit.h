/* submit.h - what the tests of hc_submit have in common. */
#ifndef HC_TEST_SUBMIT_H
#define HC_TEST_SUBMIT_H

#include "fake_session.h"

static const char value[1 << 20]; /* of zeros */

static inline struct hc_op op_of(
	const struct session *x, uint32_t kind, const char *key, uint64_t user)
{
	struct hc_op op = HC_OPTS(hc_op);

	op.store = x->s;
	op.op = kind;
	op.key = key;
	op.key_bytes = strlen(key);
	op.user = user;
	return op;
}

static inline uint64_t set(const struct session *x, uint64_t user, size_t value_bytes)
{
	struct hc_op op = op_of(x, HC_OP_SET, "key", user);
	uint64_t id = 0;

	op.value = value;
	op.value_bytes = value_bytes;
	CHECK_EQ(hc_submit(&op, &id), HC_OK);
	CHECK(id != 0);
	return id;
}

/* The next completion, waited for. */
static inline struct hc_done next(const struct session *x)
{
	struct hc_done d;
	size_t n;

	CHECK_EQ(hc_poll(x->hc, &d, 1, (uint32_t)t_limit_ms(FAKE_WAIT_MS), &n), HC_OK);
	CHECK_EQ(n, 1);
	return d;
}

/* There is none now. */
static inline void none(const struct session *x)
{
	struct hc_done d;
	size_t n;

	CHECK_EQ(hc_poll(x->hc, &d, 1, 0, &n), HC_OK);
	CHECK_EQ(n, 0);
}

static inline void expect(const struct session *x, uint64_t user, int result)
{
	struct hc_done d = next(x);

	CHECK_EQ(d.user, user);
	CHECK_EQ(d.result, result);
}

/* Applies each once, by its number; the length of a value says what is answered. */
static inline void serve(struct fake *f)
{
	struct wire_request q;

	fake_open(f);
	while (fake_get(f, &q) && q.verb != WIRE_BYE) {
		if (q.verb != WIRE_PING)
			CHECK_EQ(q.request, ++f->applied);
		CHECK(fake_reply(f, &q, q.value_bytes == 3 ? HC_E_FULL : 0));
	}
}

/* Takes eight and answers none; then all that comes, on another connection. */
static inline void swallow(struct fake *f)
{
	struct wire_request q;

	fake_open(f);
	for (uint64_t i = 1; i <= 8; i++) {
		CHECK(fake_get(f, &q));
		CHECK_EQ(q.request, i);
	}
	fake_go_wait(f);
	fake_resume(f);
	for (uint64_t i = 1; i <= 9; i++) /* the number of those that were not sent is used again */
		fake_expect(f, WIRE_SET, i, 0);
	fake_bye(f);
}

#endif
