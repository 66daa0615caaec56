/* fuzz_wire.c - can any bytes harm the codec, or mean two things to it?
 *
 * One input is a stream: it is cut into frames, and each body is decoded as a
 * request and as an answer.  What decodes is encoded again, and has to decode to
 * the same; with a byte behind it, or without its last one, it must not decode.
 *
 * A third test makes inputs out of a seed: whole frames with damaged bytes, and
 * elements thrown together.
 */
#include <errno.h>
#include "fuzz.h"
#include "wire.h"

enum { SHORT_FRAME = 256 }; /* a bound that small inputs meet */

static void inside(const uint8_t *body, size_t bytes, const void *at, size_t n)
{
	const uint8_t *p = at;

	CHECK(p >= body && n <= bytes && p <= body + (bytes - n));
}

/* What was decoded the second time is what was decoded the first time. */
static void same(struct wire_request *again, const struct wire_request *q)
{
	CHECK(again->key_bytes == q->key_bytes && again->value_bytes == q->value_bytes);
	CHECK(q->key_bytes == 0 || memcmp(again->key, q->key, q->key_bytes) == 0);
	CHECK(q->value_bytes == 0 || memcmp(again->value, q->value, q->value_bytes) == 0);
	CHECK(strcmp(again->name, q->name) == 0);
	again->key = q->key;
	again->value = q->value;
	again->item = q->item;
	memcpy(again->name, q->name, sizeof q->name);
	CHECK(memcmp(again, q, sizeof *q) == 0);
}

/* A body that decodes is as long as it says: one byte more or fewer is malformed. */
static void exact(const uint8_t *body, size_t bytes, int (*decode)(const uint8_t *, size_t))
{
	uint8_t *more = malloc(bytes + 1);

	CHECK(more != NULL);
	memcpy(more, body, bytes);
	more[bytes] = 0;
	CHECK_EQ(decode(more, bytes + 1), -EPROTO);
	free(more);
	more = malloc(bytes); /* without a byte behind it */
	CHECK(more != NULL);
	memcpy(more, body, bytes - 1);
	CHECK_EQ(decode(more, bytes - 1), -EPROTO);
	free(more);
}

static int decode_request(const uint8_t *body, size_t bytes)
{
	static struct wire_request item[WIRE_BATCH_MAX];
	struct wire_request q;

	return wire_get_requests(body, bytes, &q, item);
}

static int decode_answer(const uint8_t *body, size_t bytes)
{
	static struct wire_answer a;

	return wire_get_answer(body, bytes, &a);
}

static bool try_request(const uint8_t *body, size_t bytes)
{
	static struct wire_request item[WIRE_BATCH_MAX], item_again[WIRE_BATCH_MAX];
	struct wire_request q = {0}, again = {0};
	struct wire_buf b = {0};

	memset(item, 0, sizeof item[0] * 4);
	memset(item_again, 0, sizeof item[0] * 4);
	int r = wire_get_requests(body, bytes, &q, item);
	CHECK(r == 0 || r == -EPROTO);
	if (r < 0)
		return false;
	exact(body, bytes, decode_request);
	for (uint32_t i = 0; i <= q.n_items; i++) { /* the frame's own, then the items */
		const struct wire_request *one = i ? &item[i - 1] : &q;
		CHECK(i == 0 || one->request == q.request + (i - 1));
		if (wire_is_item(one->verb))
			inside(body, bytes, one->key, one->key_bytes);
		if (one->verb == WIRE_SET)
			inside(body, bytes, one->value, one->value_bytes);
	}
	CHECK(strlen(q.name) < sizeof q.name);
	for (const char *c = q.name; *c; c++)
		CHECK(*c >= ' ' && *c <= '~');
	CHECK(wire_put_request(&b, &q) == 0);
	CHECK(wire_get_requests(b.bytes + 4, b.end - 4, &again, item_again) == 0);
	same(&again, &q);
	for (uint32_t i = 0; i < q.n_items && i < 4; i++)
		same(&item_again[i], &item[i]);
	wire_buf_fini(&b);
	return true;
}

static bool try_answer(const uint8_t *body, size_t bytes)
{
	struct wire_answer a = {0}, again = {0};
	struct wire_buf b = {0};

	int r = wire_get_answer(body, bytes, &a);
	CHECK(r == 0 || r == -EPROTO);
	if (r < 0)
		return false;
	exact(body, bytes, decode_answer);
	CHECK(a.n_fds <= WIRE_FDS_MAX);
	CHECK(wire_put_answer(&b, &a) == 0);
	CHECK(wire_get_answer(b.bytes + 4, b.end - 4, &again) == 0);
	CHECK(again.verb == a.verb && again.request == a.request && again.status == a.status);
	CHECK(again.n_fds == a.n_fds && memcmp(again.fd, a.fd, a.n_fds * sizeof a.fd[0]) == 0);
	if (a.verb == WIRE_HELLO)
		CHECK(again.session == a.session && again.resumed == a.resumed);
	else
		CHECK(again.lsn == a.lsn && again.value == a.value);
	CHECK(again.n_items == a.n_items && a.n_items <= WIRE_BATCH_MAX);
	CHECK(memcmp(again.item, a.item, a.n_items * sizeof a.item[0]) == 0);
	wire_buf_fini(&b);
	return true;
}

/* Good: it is a body, or a stream of frames that are all good. */
static enum fuzz_verdict fuzz_one(const uint8_t *data, size_t bytes)
{
	struct wire_buf b = {.bytes = (uint8_t *)(uintptr_t)data, .end = bytes};
	const uint8_t *body;
	size_t n;

	bool good = try_request(data, bytes);
	good |= try_answer(data, bytes);
	bool all = true;
	while (wire_frame(&b, SHORT_FRAME, &body, &n) == 0) {
		CHECK(n <= SHORT_FRAME);
		inside(data, bytes, body, n);
		bool request = try_request(body, n);
		all &= try_answer(body, n) || request;
		b.begin += 4 + n;
	}
	return good || (all && b.begin == b.end) ? FUZZ_GOOD : FUZZ_BAD;
}

FUZZ_TESTS(200000)

#ifndef HC_LIBFUZZER
enum { ROUNDS = 200000, INPUT_MAX = 8192 };

static uint32_t random_verb(void)
{
	static const uint32_t verbs[] = {
#define VERB_NUMBER_(name, number) number,
		WIRE_VERBS(VERB_NUMBER_)};

	return verbs[t_random_below(sizeof verbs / sizeof verbs[0])];
}

static struct wire_request random_request(uint32_t verb)
{
	static const char key[] = "0123456789abcdef";
	struct wire_request q = {
		.verb = verb,
		.key = key,
		.key_bytes = t_random_below(sizeof key),
		.value = key,
		.value_bytes = t_random_below(sizeof key),
		.flags = t_random() >> t_random_below(64),
		.ttl_ms = t_random() >> t_random_below(64),
		.mode = t_random_below(9),
		.version = t_random_below(2) ? t_random() : 0,
		.stamp = t_random() >> t_random_below(64),
		.delta = (int64_t)t_random(),
		.initial = (int64_t)t_random(),
		.how = t_random_below(5),
		.session = t_random(),
		.name = "somebody",
	};

	q.request = wire_is_mutation(q.verb) ? 1 + t_random_below(1000) : 0;
	return q;
}

/* The body of a good frame.  Returns its length. */
static size_t good_body(uint8_t *to)
{
	struct wire_buf b = {0};
	struct wire_request q = random_request(random_verb()), item[4];
	struct wire_answer a = {
		.verb = q.verb,
		.status = (int32_t)t_random() >> t_random_below(32),
		.lsn = t_random(),
		.n_fds = (uint32_t)t_random_below(4),
	};

	q.item = item;
	q.n_items = q.verb == WIRE_BATCH ? 1 + (uint32_t)t_random_below(4) : 0;
	for (uint32_t i = 0; i < q.n_items; i++) {
		uint32_t verb = random_verb();
		item[i] = random_request(wire_is_item(verb) ? verb : WIRE_SET);
	}
	if (a.verb == WIRE_BATCH) {
		a.value = 4;
		a.n_items = (uint32_t)t_random_below(5);
		for (uint32_t i = 0; i < a.n_items; i++)
			a.item[i] = (struct wire_item){
				i, (int32_t)t_random(), t_random(), t_random()};
	}
	CHECK((t_random_below(3) ? wire_put_request(&b, &q) : wire_put_answer(&b, &a)) == 0);
	size_t n = b.end - 4;
	memcpy(to, b.bytes + 4, n);
	wire_buf_fini(&b);
	return n;
}

/* Elements of any type, nested as it comes: first bytes of msgpack, with small lengths behind. */
static size_t any_body(uint8_t *to)
{
	size_t n = 1 + t_random_below(120);

	to[0] = (uint8_t)(0x90 + t_random_below(16));
	to[1] = (uint8_t)(1 + t_random_below(WIRE_VERB_END));
	for (size_t i = 2; i < n; i++)
		to[i] = (uint8_t)(t_random_below(3) ? t_random_below(8)
						    : 0x80 + t_random_below(128));
	return n < 2 ? 2 : n;
}

TEST_LIMIT(damaged_streams_do_no_harm, 200)
{
	for (int i = 0; i < ROUNDS; i++) {
		uint8_t whole[INPUT_MAX];
		size_t n = 0;
		for (uint64_t frames = 1 + t_random_below(3); frames > 0; frames--) {
			bool framed = frames > 1 || t_random_below(2);
			size_t at = n + (framed ? 4 : 0);
			size_t body = t_random_below(3) ? good_body(whole + at)
			                                : any_body(whole + at);
			if (framed)
				memcpy(whole + n, (uint8_t[4]){(uint8_t)body, (uint8_t)(body >> 8)},
					4);
			n = at + body;
			if (!framed)
				break;
		}
		for (uint64_t k = t_random_below(6); k > 0; k--)
			whole[t_random_below(n)] = (uint8_t)t_random();
		if (t_random_below(8) == 0)
			n = t_random_below(n + 1);
		uint8_t *input = malloc(n + !n); /* what reads behind its end is found */
		CHECK(input);
		memcpy(input, whole, n);
		(void)fuzz_one(input, n);
		free(input);
	}
}
#endif
