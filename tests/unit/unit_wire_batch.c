/* unit_wire_batch.c - batches and their answers: what is put is got, and whatever is not exactly as
 * libclient/wire.h says is malformed as a whole.  unit_wire.c has their golden frames.
 */
#include <errno.h>
#include <string.h>
#include "wire.h"
#include "../kit/t.h"

enum { BODY_MAX = 4096 };

static struct wire_request item_of(uint32_t i)
{
	static const char key[] = "0123456789";
	static const uint32_t verbs[] = {WIRE_SET, WIRE_DELETE, WIRE_TOUCH, WIRE_INCR};

	return (struct wire_request){.verb = verbs[i % 4],
		.store_idx = i,
		.store_id = i * 1000,
		.key = key,
		.key_bytes = 1 + i % 10,
		.value = key,
		.value_bytes = i % 11,
		.ttl_ms = i * 7,
		.version = i % 3 ? i : 0,
		.delta = -(int64_t)i,
		.initial = (int64_t)i << 40};
}

static void fill(struct wire_request *item, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		item[i] = item_of(i);
}

static int decode(const uint8_t *body, size_t bytes, uint32_t *ret_items)
{
	static struct wire_request item[WIRE_BATCH_MAX + 1];
	struct wire_request q;
	uint8_t *copy = malloc(bytes);

	CHECK(copy);
	memcpy(copy, body, bytes); /* what reads behind it is found */
	memset(&item[WIRE_BATCH_MAX], 0x5a, sizeof item[0]);
	int r = wire_get_requests(copy, bytes, &q, item);
	CHECK(r == 0 || r == -EPROTO);
	const uint8_t *behind = (const uint8_t *)&item[WIRE_BATCH_MAX];
	for (size_t i = 0; i < sizeof item[0]; i++)
		CHECK_EQ(behind[i], 0x5a);
	*ret_items = r == 0 ? q.n_items : 0;
	free(copy);
	return r;
}

/* ------------------------------------------------------------------ requests */

TEST(every_number_of_items_arrives_in_order)
{
	struct wire_request item[WIRE_BATCH_MAX], got[WIRE_BATCH_MAX], q;
	struct wire_buf b = {0};

	fill(item, WIRE_BATCH_MAX);
	for (uint32_t n = 1; n <= WIRE_BATCH_MAX; n++) {
		struct wire_request r = {
			.verb = WIRE_BATCH, .request = 7, .item = item, .n_items = n};
		CHECK_EQ(wire_put_request(&b, &r), 0);
		CHECK_EQ(wire_get_requests(b.bytes + b.begin + 4, b.end - b.begin - 4, &q, got), 0);
		CHECK(q.verb == WIRE_BATCH && q.request == 7 && q.n_items == n && q.item == got);
		for (uint32_t i = 0; i < n; i++) {
			CHECK_EQ(got[i].verb, item[i].verb);
			CHECK_EQ(got[i].request, 7 + i);
			CHECK_EQ(got[i].store_id, item[i].store_id);
			CHECK_EQ(got[i].key_bytes, item[i].key_bytes);
			CHECK(memcmp(got[i].key, item[i].key, item[i].key_bytes) == 0);
			if (item[i].verb == WIRE_SET)
				CHECK_EQ(got[i].value_bytes, item[i].value_bytes);
			if (item[i].verb == WIRE_SET || item[i].verb == WIRE_DELETE)
				CHECK_EQ(got[i].version, item[i].version);
			if (item[i].verb == WIRE_INCR)
				CHECK(got[i].delta == item[i].delta &&
					got[i].initial == item[i].initial);
		}
		b.begin = b.end;
	}
	wire_buf_fini(&b);
}

TEST(a_batch_has_a_bound_in_items_and_bytes)
{
	struct wire_request one = item_of(0), large = one;
	struct wire_buf b = {0};
	struct wire_batch w;

	CHECK_EQ(wire_batch_begin(&b, 1, 0, &w), 0);
	for (int i = 0; i < WIRE_BATCH_MAX; i++)
		CHECK_EQ(wire_batch_add(&w, &one, SIZE_MAX), 0);
	CHECK_EQ(wire_batch_add(&w, &one, SIZE_MAX), WIRE_BATCH_FULL);
	wire_batch_cancel(&w);
	CHECK_EQ(b.begin, b.end);

	CHECK_EQ(wire_batch_begin(&b, 1, 0, &w), 0);
	large.value_bytes = SIZE_MAX;
	CHECK_EQ(wire_batch_add(&w, &large, SIZE_MAX), WIRE_BATCH_FULL); /* nothing of it is read */
	large.value_bytes = 2000;
	CHECK_EQ(wire_batch_add(&w, &large, 1999), WIRE_BATCH_FULL);
	int n = 0;
	while (wire_batch_add(&w, &one, 300) == 0)
		n++;
	CHECK(n > 5 && n < WIRE_BATCH_MAX);
	wire_batch_end(&w);
	CHECK(b.end - b.begin <= 4 + 300);
	uint32_t got;
	CHECK_EQ(decode(b.bytes + b.begin + 4, b.end - b.begin - 4, &got), 0);
	CHECK_EQ(got, n);
	struct wire_request ping = {.verb = WIRE_PING};
	CHECK_EQ(wire_batch_begin(&b, 1, 0, &w), 0);
	CHECK_EQ(wire_batch_add(&w, &ping, SIZE_MAX), -EINVAL);
	wire_batch_cancel(&w);
	struct wire_request none = {.verb = WIRE_BATCH, .request = 1};
	CHECK_EQ(wire_put_request(&b, &none), -EINVAL);
	wire_buf_fini(&b);
}

#define HEAD "\x94\x09\x05\x00"
#define DEL "\x94\x04\x00\x00\xc4\x01k"
#define BODY(s) s, sizeof(s) - 1
static const struct {
	const char *what, *bytes;
	size_t n;
	int r;
} bodies[] = {
	{"one item", BODY(HEAD "\x91" DEL), 0},
	{"further elements of an item, of any kind",
		BODY(HEAD "\x91\x97\x04\x00\x00\xc4\x01k\x00\x91\xc0\x82\x01\x02\x03\x04"), 0},
	{"more of them than are looked at",
		BODY(HEAD
			"\x91\xdc\x00\x10\x04\x00\x00\xc4\x01k\x00\x00\x00\x00\x00\x00\x00\x00\x00"
			"\x00\x00\x00"),
		0},
	{"further elements of the frame", BODY("\x96\x09\x05\x00\x91" DEL "\xc0\x91\x01"), 0},
	{"no items", BODY(HEAD "\x90"), -EPROTO},
	{"no list", BODY(HEAD "\x01"), -EPROTO},
	{"a map for a list", BODY(HEAD "\x81" DEL DEL), -EPROTO},
	{"without a list", BODY("\x93\x09\x05\x00"), -EPROTO},
	{"an empty item", BODY(HEAD "\x91\x90"), -EPROTO},
	{"an item that is no array", BODY(HEAD "\x91\x04"), -EPROTO},
	{"a good item, then none", BODY(HEAD "\x92" DEL "\xc0"), -EPROTO},
	{"an item with too little", BODY(HEAD "\x91\x93\x04\x00\x00"), -EPROTO},
	{"a wrong type in an item", BODY(HEAD "\x91\x94\x04\x00\x00\xa1k"), -EPROTO},
	{"a PING in a batch", BODY(HEAD "\x91\x91\x02"), -EPROTO},
	{"a HELLO in a batch", BODY(HEAD "\x91\x99\x01\x01\x00\x01\x00\x00\xa0\x01\x00"), -EPROTO},
	{"a batch in a batch", BODY(HEAD "\x91\x93\x09\x00\x91" DEL), -EPROTO},
	{"a verb that there is not", BODY(HEAD "\x91\x94\x7f\x00\x00\xc4\x01k"), -EPROTO},
	{"a negative verb", BODY(HEAD "\x91\x94\xff\x00\x00\xc4\x01k"), -EPROTO},
	{"no number", BODY("\x94\x09\x00\x00\x91" DEL), -EPROTO},
	{"the last number", BODY("\x94\x09\xcf\xff\xff\xff\xff\xff\xff\xff\xfe\x00\x91" DEL), 0},
	{"numbers without an end",
		BODY("\x94\x09\xcf\xff\xff\xff\xff\xff\xff\xff\xff\x00\x92" DEL DEL), -EPROTO},
	{"how is text", BODY("\x94\x09\x05\xa1x\x91" DEL), -EPROTO},
	{"bytes behind the frame", BODY(HEAD "\x91" DEL "\x00"), -EPROTO},
};

TEST(a_batch_is_whole_or_malformed)
{
	uint32_t n;

	for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
		int r = decode((const uint8_t *)bodies[i].bytes, bodies[i].n, &n);
		if (r != bodies[i].r)
			t_fail(__FILE__, __LINE__, "%s: %d", bodies[i].what, r);
		CHECK_EQ(n, r == 0 ? 1 : 0);
	}
}

TEST(too_many_items_are_malformed)
{
	uint8_t body[BODY_MAX] = "\x94\x09\x05\x00\xdc\x00";
	uint32_t n;

	for (int items = WIRE_BATCH_MAX; items <= WIRE_BATCH_MAX + 2; items++) {
		size_t at = 6;
		body[at++] = (uint8_t)items;
		for (int i = 0; i < items; i++, at += sizeof DEL - 1)
			memcpy(body + at, DEL, sizeof DEL - 1);
		CHECK_EQ(decode(body, at, &n), items > WIRE_BATCH_MAX ? -EPROTO : 0);
	}
}

TEST(without_room_a_batch_is_malformed)
{
	const char body[] = HEAD "\x91" DEL;
	struct wire_request q;

	CHECK_EQ(wire_get_request((const uint8_t *)body, sizeof body - 1, &q), -EPROTO);
}

TEST(each_cut_of_a_batch_is_malformed)
{
	struct wire_request item[5];
	struct wire_request r = {.verb = WIRE_BATCH, .request = 1, .item = item, .n_items = 5};
	struct wire_buf b = {0};
	uint32_t n;

	fill(item, 5);
	CHECK_EQ(wire_put_request(&b, &r), 0);
	for (size_t cut = 1; cut < b.end - 4; cut++)
		CHECK_EQ(decode(b.bytes + 4, cut, &n), -EPROTO);
	CHECK_EQ(decode(b.bytes + 4, b.end - 4, &n), 0);
	wire_buf_fini(&b);
}

/* ------------------------------------------------------------------ answers */

#define ANSWER "\x96\x09\x05\x00\x00\x03"
static const struct {
	const char *what, *bytes;
	size_t n;
	int r;
} answers[] = {
	{"none to be named", BODY(ANSWER "\x90"), 0},
	{"the last one", BODY(ANSWER "\x91\x94\x02\xf9\x00\x00"), 0},
	{"all", BODY(ANSWER "\x93\x94\x00\x00\x05\x01\x94\x01\x01\x00\x00\x94\x02\xf9\x00\x00"), 0},
	{"further elements of an item", BODY(ANSWER "\x91\x95\x02\xf9\x00\x00\x91\xc0"), 0},
	{"without the list", BODY("\x95\x09\x05\x00\x00\x03"), -EPROTO},
	{"no list", BODY(ANSWER "\xc0"), -EPROTO},
	{"an item that is no array", BODY(ANSWER "\x91\x02"), -EPROTO},
	{"an item with too little", BODY(ANSWER "\x91\x93\x02\xf9\x00"), -EPROTO},
	{"an index that there is not", BODY(ANSWER "\x91\x94\x03\xf9\x00\x00"), -EPROTO},
	{"an index twice", BODY(ANSWER "\x92\x94\x02\xf9\x00\x00\x94\x02\xf9\x00\x00"), -EPROTO},
	{"out of order", BODY(ANSWER "\x92\x94\x02\xf9\x00\x00\x94\x01\xf9\x00\x00"), -EPROTO},
	{"a status of the wrong type", BODY(ANSWER "\x91\x94\x02\xc0\x00\x00"), -EPROTO},
	{"a status out of range", BODY(ANSWER "\x91\x94\x02\xce\x80\x00\x00\x00\x00\x00"), -EPROTO},
	{"an lsn of the wrong type", BODY(ANSWER "\x91\x94\x02\xf9\xff\x00"), -EPROTO},
	{"more items than a batch can have", BODY("\x96\x09\x05\x00\x00\x41\x90"), -EPROTO},
};

TEST(an_answer_to_a_batch_is_sound_or_malformed)
{
	struct wire_answer a;

	for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
		int r = wire_get_answer((const uint8_t *)answers[i].bytes, answers[i].n, &a);
		if (r != answers[i].r)
			t_fail(__FILE__, __LINE__, "%s: %d", answers[i].what, r);
	}
}

TEST(every_number_of_answers_arrives)
{
	struct wire_buf b = {0};
	struct wire_answer a = {.verb = WIRE_BATCH, .request = 1, .value = WIRE_BATCH_MAX}, got;

	for (uint32_t n = 0; n <= WIRE_BATCH_MAX; n++) {
		a.n_items = n;
		for (uint32_t i = 0; i < n; i++)
			a.item[i] = (struct wire_item){i, -(int32_t)i, UINT64_MAX - i, i * i};
		CHECK_EQ(wire_put_answer(&b, &a), 0);
		CHECK_EQ(wire_get_answer(b.bytes + b.begin + 4, b.end - b.begin - 4, &got), 0);
		CHECK_EQ(got.n_items, n);
		CHECK(memcmp(got.item, a.item, n * sizeof a.item[0]) == 0);
		b.begin = b.end;
	}
	a.n_items = WIRE_BATCH_MAX + 1;
	CHECK_EQ(wire_put_answer(&b, &a), -EINVAL);
	wire_buf_fini(&b);
}
