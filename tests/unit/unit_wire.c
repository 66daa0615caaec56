/* unit_wire.c - does the codec keep libclient/wire.h's promise, for any bytes?
 *
 * The golden frames are for other languages to compare with, too.
 *
 * Planted bugs, each caught by the test named:
 *   40  bytes behind the array are accepted          trailing_bytes_are_malformed
 *   41  a str passes as bin                          each_field_has_one_type
 *   42  a length above max_frame is accepted         frame_lengths_are_bounded
 *   43  a name is passed on as it came               names_are_made_harmless
 */
#include <errno.h>
#include <string.h>
#include "wire.h"
#include "../kit/t.h"

enum { ELEMS_MAX = 15, ROUNDS = 200000, DEEP = 100000 };

struct text {
	const char *bytes;
	size_t n;
};
#define T(s) \
	{ \
		s, sizeof(s) - 1 \
	}

/* A frame in parts: what an element has to be, and its bytes. */
struct golden {
	const char *name;
	bool answer;
	struct wire_request request;
	struct wire_answer reply;
	struct text frame; /* all of it, with its length */
	const char
		*kinds; /* of the elements: u uint, i integer, s str, b bin, f list of descriptors,
		        * B of items, A of their answers, n how many there were: 2 to 64 */
	size_t n_optional; /* of them, at the end, may be missing */
	const char *more;  /* kinds of those that might follow and are left out in this frame */
	struct text elem[ELEMS_MAX];
};

static struct wire_request batch_items[] = {
	{.verb = WIRE_SET,
		.request = 300,
		.store_idx = 1,
		.store_id = 7,
		.key = "k",
		.key_bytes = 1,
		.value = "v",
		.value_bytes = 1},
	{.verb = WIRE_INCR,
		.request = 301,
		.store_idx = 1,
		.store_id = 7,
		.key = "n",
		.key_bytes = 1,
		.delta = 1,
		.initial = 1},
};
#define BATCH_ITEMS \
	"\xdc\x00\x02\x97\x03\x01\x07\xc4\x01k\xc4\x01v\x00\x00" \
	"\x98\x07\x01\x07\xc4\x01n\x01\x01\x00\x00"

static const struct golden golden[] = {
	{
		.name = "HELLO",
		.request = {.verb = WIRE_HELLO,
			.proto_major = 1,
			.proto_minor = 2,
			.layout_major = 3,
			.layout_minor = 4,
			.session = 0x0102030405060708,
			.name = "web",
			.fence = 1,
			.time_off_ns = -2},
		.frame = T("\x1e\x00\x00\x00"
			   "\x9a\x01\x00\x01\x02\x03\x04\xcf\x01\x02\x03\x04\x05\x06\x07\x08"
			   "\xa3web\x01\xcf\xff\xff\xff\xff\xff\xff\xff\xfe"),
		.kinds = "uuuuuuusuu",
		.elem = {T("\x01"), T("\x00"), T("\x01"), T("\x02"), T("\x03"), T("\x04"),
			T("\xcf\x01\x02\x03\x04\x05\x06\x07\x08"), T("\xa3web"), T("\x01"),
			T("\xcf\xff\xff\xff\xff\xff\xff\xff\xfe")},
	},
	{
		.name = "PING",
		.request = {.verb = WIRE_PING},
		.frame = T("\x03\x00\x00\x00\x92\x02\x00"),
		.kinds = "uu",
		.elem = {T("\x02"), T("\x00")},
	},
	{
		.name = "SET",
		.request = {.verb = WIRE_SET,
			.request = 300,
			.store_idx = 5,
			.store_id = 70000,
			.key = "key",
			.key_bytes = 3,
			.value = "\x00\xff",
			.value_bytes = 2,
			.flags = 128,
			.ttl_ms = UINT64_MAX},
		.frame = T("\x1f\x00\x00\x00"
			   "\x98\x03\xcd\x01\x2c\x05\xce\x00\x01\x11\x70\xc4\x03key\xc4\x02\x00\xff"
			   "\xcc\x80\xcf\xff\xff\xff\xff\xff\xff\xff\xff"),
		.kinds = "uuuubbuu",
		.more = "uuuuuu",
		.elem = {T("\x03"), T("\xcd\x01\x2c"), T("\x05"), T("\xce\x00\x01\x11\x70"),
			T("\xc4\x03key"), T("\xc4\x02\x00\xff"), T("\xcc\x80"),
			T("\xcf\xff\xff\xff\xff\xff\xff\xff\xff")},
	},
	{
		.name = "SET with a condition",
		.request = {.verb = WIRE_SET,
			.request = 2,
			.store_idx = 1,
			.store_id = 7,
			.key = "k",
			.key_bytes = 1,
			.value = "v",
			.value_bytes = 1,
			.mode = WIRE_MODE_IF_VERSION,
			.version = 4096,
			.stamp = UINT64_MAX},
		.frame = T("\x1a\x00\x00\x00"
			   "\x9b\x03\x02\x01\x07\xc4\x01k\xc4\x01v\x00\x00"
			   "\x03\xcd\x10\x00\xcf\xff\xff\xff\xff\xff\xff\xff\xff"),
		.kinds = "uuuubbuuuuu",
		.n_optional = 3,
		.more = "uuu",
		.elem = {T("\x03"), T("\x02"), T("\x01"), T("\x07"), T("\xc4\x01k"), T("\xc4\x01v"),
			T("\x00"), T("\x00"), T("\x03"), T("\xcd\x10\x00"),
			T("\xcf\xff\xff\xff\xff\xff\xff\xff\xff")},
	},
	{
		.name = "SET of a key that is absent",
		.request = {.verb = WIRE_SET,
			.request = 2,
			.store_idx = 1,
			.store_id = 7,
			.key = "k",
			.key_bytes = 1,
			.value = "",
			.ttl_ms = 5,
			.lease = 9,
			.how = WIRE_ABSENT},
		.frame = T("\x12\x00\x00\x00"
			   "\x9e\x03\x02\x01\x07\xc4\x01k\xc4\x00\x00\x05"
			   "\x00\x00\x00\x09\x00\x01"),
		.kinds = "uuuubbuuuuuuuu",
		.n_optional = 6,
		.elem = {T("\x03"), T("\x02"), T("\x01"), T("\x07"), T("\xc4\x01k"), T("\xc4\x00"),
			T("\x00"), T("\x05"), T("\x00"), T("\x00"), T("\x00"), T("\x09"), T("\x00"),
			T("\x01")},
	},
	{
		.name = "LEASE",
		.request = {.verb = WIRE_LEASE,
			.request = 1,
			.store_idx = 2,
			.store_id = 3,
			.key = "k",
			.key_bytes = 1,
			.version = 300,
			.ttl_ms = 1000},
		.frame = T("\x0e\x00\x00\x00\x97\x0a\x01\x02\x03\xc4\x01k\xcd\x01\x2c\xcd\x03\xe8"),
		.kinds = "uuuubuu",
		.elem = {T("\x0a"), T("\x01"), T("\x02"), T("\x03"), T("\xc4\x01k"),
			T("\xcd\x01\x2c"), T("\xcd\x03\xe8")},
	},
	{
		.name = "LEASE_DROP",
		.request = {.verb = WIRE_LEASE_DROP,
			.request = 1,
			.store_idx = 2,
			.store_id = 3,
			.key = "k",
			.key_bytes = 1,
			.lease = 300},
		.frame = T("\x0b\x00\x00\x00\x96\x0b\x01\x02\x03\xc4\x01k\xcd\x01\x2c"),
		.kinds = "uuuubu",
		.elem = {T("\x0b"), T("\x01"), T("\x02"), T("\x03"), T("\xc4\x01k"),
			T("\xcd\x01\x2c")},
	},
	{
		.name = "DELETE",
		.request = {.verb = WIRE_DELETE, .request = 1, .key = "k", .key_bytes = 1},
		.frame = T("\x08\x00\x00\x00\x95\x04\x01\x00\x00\xc4\x01k"),
		.kinds = "uuuub",
		.more = "u",
		.elem = {T("\x04"), T("\x01"), T("\x00"), T("\x00"), T("\xc4\x01k")},
	},
	{
		.name = "DELETE of a version",
		.request = {.verb = WIRE_DELETE,
			.request = 1,
			.key = "k",
			.key_bytes = 1,
			.version = 200},
		.frame = T("\x0a\x00\x00\x00\x96\x04\x01\x00\x00\xc4\x01k\xcc\xc8"),
		.kinds = "uuuubu",
		.n_optional = 1,
		.elem = {T("\x04"), T("\x01"), T("\x00"), T("\x00"), T("\xc4\x01k"), T("\xcc\xc8")},
	},
	{
		.name = "BYE",
		.request = {.verb = WIRE_BYE},
		.frame = T("\x03\x00\x00\x00\x92\x05\x00"),
		.kinds = "uu",
		.elem = {T("\x05"), T("\x00")},
	},
	{
		.name = "TOUCH",
		.request = {.verb = WIRE_TOUCH,
			.request = 1,
			.store_idx = 2,
			.store_id = 3,
			.key = "k",
			.key_bytes = 1,
			.ttl_ms = 1000},
		.frame = T("\x0b\x00\x00\x00\x96\x06\x01\x02\x03\xc4\x01k\xcd\x03\xe8"),
		.kinds = "uuuubu",
		.elem = {T("\x06"), T("\x01"), T("\x02"), T("\x03"), T("\xc4\x01k"),
			T("\xcd\x03\xe8")},
	},
	{
		.name = "INCR",
		.request = {.verb = WIRE_INCR,
			.request = 1,
			.store_idx = 2,
			.store_id = 3,
			.key = "n",
			.key_bytes = 1,
			.delta = -1,
			.initial = 200,
			.how = WIRE_WRAP | WIRE_MUST_EXIST},
		.frame = T("\x15\x00\x00\x00\x99\x07\x01\x02\x03\xc4\x01n"
			   "\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xcc\xc8\x00\x03"),
		.kinds = "uuuubuuuu",
		.elem = {T("\x07"), T("\x01"), T("\x02"), T("\x03"), T("\xc4\x01n"),
			T("\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), T("\xcc\xc8"), T("\x00"),
			T("\x03")},
	},
	{
		.name = "CLEAR",
		.request = {.verb = WIRE_CLEAR, .request = 1, .store_idx = 2, .store_id = 200},
		.frame = T("\x06\x00\x00\x00\x94\x08\x01\x02\xcc\xc8"),
		.kinds = "uuuu",
		.elem = {T("\x08"), T("\x01"), T("\x02"), T("\xcc\xc8")},
	},
	{
		.name = "BATCH",
		.request = {.verb = WIRE_BATCH,
			.request = 300,
			.how = WIRE_QUIET,
			.item = batch_items,
			.n_items = 2},
		.frame = T("\x20\x00\x00\x00\x94\x09\xcd\x01\x2c\x01" BATCH_ITEMS),
		.kinds = "uuuB",
		.elem = {T("\x09"), T("\xcd\x01\x2c"), T("\x01"), T(BATCH_ITEMS)},
	},
	{
		.name = "answer to BATCH",
		.answer = true,
		.reply = {.verb = WIRE_BATCH,
			.request = 300,
			.lsn = 65536,
			.value = 2,
			.n_items = 1,
			.item = {{.idx = 1, .status = -22}}},
		.frame = T("\x12\x00\x00\x00\x96\x09\xcd\x01\x2c\x00\xce\x00\x01\x00\x00\x02"
			   "\x91\x94\x01\xea\x00\x00"),
		.kinds = "uuiunA",
		.elem = {T("\x09"), T("\xcd\x01\x2c"), T("\x00"), T("\xce\x00\x01\x00\x00"),
			T("\x02"), T("\x91\x94\x01\xea\x00\x00")},
	},
	{
		.name = "answer",
		.answer = true,
		.reply = {.verb = WIRE_SET, .request = 300, .status = -7, .lsn = 65536, .value = 1},
		.frame = T("\x0c\x00\x00\x00\x95\x03\xcd\x01\x2c\xf9\xce\x00\x01\x00\x00\x01"),
		.kinds = "uuiuu",
		.elem = {T("\x03"), T("\xcd\x01\x2c"), T("\xf9"), T("\xce\x00\x01\x00\x00"),
			T("\x01")},
	},
	{
		.name = "answer to HELLO",
		.answer = true,
		.reply = {.verb = WIRE_HELLO,
			.session = 9,
			.slot = 4095,
			.max_inflight = 64,
			.max_frame = 1u << 20,
			.fence = 2,
			.n_fds = 2,
			.fd = {{1, 0, 0}, {2, 3, 15}}},
		.frame = T("\x19\x00\x00\x00"
			   "\x9a\x01\x00\x00\x09\xcd\x0f\xff\x40\xce\x00\x10\x00\x00\x02\x00"
			   "\x92\x93\x01\x00\x00\x93\x02\x03\x0f"),
		.kinds = "uuiuuuuuuf",
		.elem = {T("\x01"), T("\x00"), T("\x00"), T("\x09"), T("\xcd\x0f\xff"), T("\x40"),
			T("\xce\x00\x10\x00\x00"), T("\x02"), T("\x00"),
			T("\x92\x93\x01\x00\x00\x93\x02\x03\x0f")},
	},
};
enum { N_GOLDEN = sizeof golden / sizeof golden[0], BODY_MAX = 4096 };

/* Elements of every type of msgpack: what else could stand in a field's place. */
static const struct {
	const char *is; /* the kinds that it is */
	struct text t;
} others[] = {
	{"ui", T("\x00")},
	{"ui", T("\x7f")},
	{"ui", T("\xcc\xff")},
	{"uin", T("\xd3\x00\x00\x00\x00\x00\x00\x00\x07")}, /* a positive number as a signed one */
	{"i", T("\xff")},
	{"i", T("\xd0\x80")},
	{"i", T("\xd2\x80\x00\x00\x00")},
	{"", T("\xd3\x80\x00\x00\x00\x00\x00\x00\x00")}, /* below what a status may be */
	{"", T("\xc0")},
	{"", T("\xc2")},
	{"", T("\xc3")},
	{"", T("\xca\x00\x00\x00\x00")},
	{"", T("\xcb\x00\x00\x00\x00\x00\x00\x00\x00")},
	{"s", T("\xa1x")},
	{"s", T("\xd9\x01x")},
	{"s", T("\xda\x00\x01x")},
	{"s", T("\xdb\x00\x00\x00\x01x")},
	{"b", T("\xc4\x00")},
	{"b", T("\xc5\x00\x01x")},
	{"b", T("\xc6\x00\x00\x00\x01x")},
	{"fA", T("\x90")},
	{"", T("\x91\x01")},
	{"", T("\x91\x92\x01\x02")},
	{"", T("\x91\x93\x01\x02\xc4\x00")},
	{"", T("\x91\x93\x01\xce\x00\x01\x00\x00\xff")},
	{"f", T("\x91\x94\x01\x02\x03\x91\x91\xc0")},
	{"", T("\x80")},
	{"", T("\x81\x91\x01\x92\x02\x03")},
	{"", T("\xc7\x00\x01")},
	{"", T("\xd4\x01\x00")},
	{"", T("\xd8\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")},
};
enum { N_OTHERS = sizeof others / sizeof others[0] };

/* ------------------------------------------------------------------ what the tests share */

/* Decodes from a copy that ends where the allocation ends: what reads behind it is found. */
static int decode(
	bool answer, const void *body, size_t bytes, struct wire_request *q, struct wire_answer *a)
{
	static struct wire_request item[WIRE_BATCH_MAX];
	uint8_t *copy = malloc(bytes + !bytes);

	CHECK(copy);
	if (bytes)
		memcpy(copy, body, bytes);
	int r = answer ? wire_get_answer(copy, bytes, a) : wire_get_requests(copy, bytes, q, item);
	CHECK(r == 0 || r == -EPROTO);
	if (r == 0 && !answer && wire_is_item(q->verb)) {
		const uint8_t *k = q->key, *v = q->value;
		CHECK(k >= copy && q->key_bytes <= bytes && k + q->key_bytes <= copy + bytes);
		if (q->verb == WIRE_SET)
			CHECK(v >= copy && q->value_bytes <= bytes &&
				v + q->value_bytes <= copy + bytes);
	}
	free(copy);
	return r;
}

static int decode_any(bool answer, const void *body, size_t bytes)
{
	struct wire_request q;
	struct wire_answer a;

	return decode(answer, body, bytes, &q, &a);
}

/* The body of g with n elements, of which number `at` is replaced.  Returns its length. */
static size_t compose(uint8_t *to, const struct golden *g, size_t n, size_t at, struct text other)
{
	size_t bytes = 1;

	CHECK(n < 16);
	to[0] = (uint8_t)(0x90 + n);
	for (size_t i = 0; i < n; i++) {
		struct text t = i == at ? other : g->elem[i];
		memcpy(to + bytes, t.bytes, t.n);
		bytes += t.n;
	}
	return bytes;
}

static const struct golden *golden_of(const char *name)
{
	for (int i = 0; i < N_GOLDEN; i++)
		if (strcmp(golden[i].name, name) == 0)
			return &golden[i];
	t_fail(__FILE__, __LINE__, "no golden frame is called %s", name);
}

/* ------------------------------------------------------------------ tests */

TEST(frames_are_golden)
{
	for (int i = 0; i < N_GOLDEN; i++) {
		const struct golden *g = &golden[i];
		struct wire_buf b = {0};
		CHECK_EQ(g->answer ? wire_put_answer(&b, &g->reply)
				   : wire_put_request(&b, &g->request),
			0);
		if (b.end != g->frame.n || memcmp(b.bytes, g->frame.bytes, b.end) != 0) {
			for (size_t k = 0; k < b.end; k++)
				fprintf(stderr, "\\x%02x", b.bytes[k]);
			t_fail(__FILE__, __LINE__, "%s is not as it was", g->name);
		}
		wire_buf_fini(&b);
	}
}

/* The bytes that libclient/README.md shows to writers of other clients: each line of hexadecimal
 * there has to be one of the golden frames. */
TEST(the_readme_shows_golden_frames)
{
	const char *root = getenv("HC_SOURCE_ROOT"), *slash = strrchr(__FILE__, '/');
	char path[4096], line[512];
	int found = 0;

	if (root)
		(void)snprintf(path, sizeof path, "%s/libclient/README.md", root);
	else
		(void)snprintf(path, sizeof path, "%.*s/../../libclient/README.md",
			slash ? (int)(slash - __FILE__) : 1, slash ? __FILE__ : ".");
	FILE *f = fopen(path, "re");
	CHECK(f);
	while (fgets(line, sizeof line, f)) {
		uint8_t bytes[sizeof line];
		size_t n = 0;
		int used = 0;
		if (strncmp(line, "    ", 4) != 0 ||
			strspn(line, " 0123456789abcdef\n") != strlen(line))
			continue;
		for (char *at = line; sscanf(at, " %2hhx%n", &bytes[n], &used) == 1; at += used)
			n++;
		bool golden_one = false;
		for (int i = 0; i < N_GOLDEN; i++)
			golden_one |= n == golden[i].frame.n &&
			              memcmp(bytes, golden[i].frame.bytes, n) == 0;
		if (!golden_one)
			t_fail(__FILE__, __LINE__, "no golden frame: %s", line);
		found++;
	}
	CHECK_EQ(fclose(f), 0);
	CHECK_EQ(found, 4);
}

static void check_same(struct wire_request *got, const struct wire_request *put)
{
	CHECK_EQ(got->key_bytes, put->key_bytes);
	CHECK_EQ(got->value_bytes, put->value_bytes);
	CHECK(put->key_bytes == 0 || memcmp(got->key, put->key, put->key_bytes) == 0);
	CHECK(put->value_bytes == 0 || memcmp(got->value, put->value, put->value_bytes) == 0);
	got->key = put->key;
	got->value = put->value;
	CHECK(memcmp(got, put, sizeof *got) == 0);
}

TEST(what_was_put_is_got)
{
	static struct wire_request item[WIRE_BATCH_MAX];
	struct wire_request q;
	struct wire_answer a;

	for (int i = 0; i < N_GOLDEN; i++) {
		const struct golden *g = &golden[i];
		memset(&q, 0, sizeof q);
		memset(&a, 0, sizeof a);
		uint8_t *body = malloc(g->frame.n);
		CHECK(body);
		memcpy(body, g->frame.bytes + 4, g->frame.n - 4);
		if (g->answer) {
			CHECK_EQ(wire_get_answer(body, g->frame.n - 4, &a), 0);
			CHECK(memcmp(&a, &g->reply, sizeof a) == 0);
		} else {
			memset(item, 0, sizeof item);
			CHECK_EQ(wire_get_requests(body, g->frame.n - 4, &q, item), 0);
			for (uint32_t k = 0; k < g->request.n_items; k++)
				check_same(&item[k], &g->request.item[k]);
			CHECK_EQ(q.n_items, g->request.n_items);
			q.item = g->request.item;
			check_same(&q, &g->request);
		}
		free(body);
	}
}

TEST(parts_make_the_golden_frames)
{
	uint8_t body[BODY_MAX];

	for (int i = 0; i < N_GOLDEN; i++) {
		const struct golden *g = &golden[i];
		size_t n = compose(body, g, strlen(g->kinds), SIZE_MAX, (struct text){0});
		CHECK_EQ(n + 4, g->frame.n);
		CHECK(memcmp(body, g->frame.bytes + 4, n) == 0);
	}
}

TEST(truncated_at_every_length)
{
	for (int i = 0; i < N_GOLDEN; i++) {
		const struct golden *g = &golden[i];
		size_t n = g->frame.n, bytes;
		const uint8_t *body;
		for (size_t cut = 0; cut < n; cut++) {
			struct wire_buf b = {
				.bytes = (uint8_t *)(uintptr_t)g->frame.bytes, .end = cut};
			CHECK_EQ(wire_frame(&b, 1000, &body, &bytes), WIRE_MORE);
			CHECK_EQ(bytes, cut < 4 ? 0 : n - 4);
			if (cut < n - 4)
				CHECK_EQ(decode_any(g->answer, g->frame.bytes + 4, cut), -EPROTO);
		}
		struct wire_buf b = {.bytes = (uint8_t *)(uintptr_t)g->frame.bytes, .end = n};
		CHECK_EQ(wire_frame(&b, 1000, &body, &bytes), 0);
		CHECK(body == (const uint8_t *)g->frame.bytes + 4 && bytes == n - 4);
	}
}

TEST(fewer_elements_are_malformed)
{
	uint8_t body[BODY_MAX];

	for (int i = 0; i < N_GOLDEN; i++) {
		size_t all = strlen(golden[i].kinds), least = all - golden[i].n_optional;
		for (size_t n = 0; n < all; n++) {
			size_t bytes = compose(body, &golden[i], n, SIZE_MAX, (struct text){0});
			CHECK_EQ(
				decode_any(golden[i].answer, body, bytes), n < least ? -EPROTO : 0);
		}
	}
}

TEST(optional_elements_are_0_when_they_are_left_out)
{
	uint8_t body[BODY_MAX];

	for (int i = 0; i < N_GOLDEN; i++) {
		const struct golden *g = &golden[i];
		size_t all = strlen(g->kinds);
		for (size_t left = 0; left <= g->n_optional; left++) {
			struct wire_request q;
			memset(&q, 0xff, sizeof q);
			size_t bytes = compose(body, g, all - left, SIZE_MAX, (struct text){0});
			if (g->n_optional == 0)
				continue;
			CHECK_EQ(wire_get_request(body, bytes, &q), 0);
			CHECK_EQ(q.version, left < 2 - (g->request.verb == WIRE_DELETE)
						    ? g->request.version
						    : 0);
			if (g->request.verb != WIRE_SET)
				continue;
			CHECK_EQ(q.stamp, left < 1 ? g->request.stamp : 0);
			CHECK_EQ(q.mode, left < 3 ? g->request.mode : 0);
		}
	}
}

TEST(further_elements_are_ignored)
{
	uint8_t body[BODY_MAX];

	for (int i = 0; i < N_GOLDEN; i++)
		for (size_t more = 1; more < N_OTHERS; more++) {
			size_t n = strlen(golden[i].kinds);
			size_t bytes = compose(body + 2, &golden[i], n, SIZE_MAX,
					       (struct text){0}) +
			               2;
			for (const char *k = golden[i].more; k && *k; k++, n++)
				body[bytes++] = 0; /* all of them are uint */
			for (size_t k = 0; k < more; k++) {
				memcpy(body + bytes, others[k].t.bytes, others[k].t.n);
				bytes += others[k].t.n;
			}
			body[0] = 0xdc; /* array 16 */
			body[1] = 0;
			body[2] = (uint8_t)(n + more);
			CHECK_EQ(decode_any(golden[i].answer, body, bytes), 0);
		}
}

TEST(trailing_bytes_are_malformed)
{
	uint8_t body[BODY_MAX];

	for (int i = 0; i < N_GOLDEN; i++) {
		const struct golden *g = &golden[i];
		size_t bytes = compose(body, g, strlen(g->kinds), SIZE_MAX, (struct text){0});
		for (int tail = 0; tail < 256; tail++) {
			body[bytes] = (uint8_t)tail;
			CHECK_EQ(decode_any(g->answer, body, bytes + 1), -EPROTO);
		}
	}
}

TEST(each_field_has_one_type)
{
	uint8_t body[BODY_MAX];
	int right = 0;

	for (int i = 0; i < N_GOLDEN; i++) {
		const struct golden *g = &golden[i];
		size_t n = strlen(g->kinds);
		for (size_t at = 2; at < n; at++)
			for (int k = 0; k < N_OTHERS; k++) {
				size_t bytes = compose(body, g, n, at, others[k].t);
				int r = decode_any(g->answer, body, bytes);
				bool fits = strchr(others[k].is, g->kinds[at]) != NULL;
				if (r != (fits ? 0 : -EPROTO))
					t_fail(__FILE__, __LINE__,
						"%s: field %zu as sample %d gives %d", g->name, at,
						k, r);
				right += fits;
			}
	}
	CHECK(right > 100);
}

TEST(verbs_and_numbers_fit)
{
	const struct {
		struct text t;
		int r;
	} bodies[] = {
		{T("\x92\x00\x00"), -EPROTO}, /* no such verb */
		{T("\x92\x20\x00"), -EPROTO}, /* nor this */
		{T("\x92\xff\x00"), -EPROTO}, /* a negative one */
		{T("\x92\xcf\x00\x00\x00\x01\x00\x00\x00\x02\x00"),
			-EPROTO},                              /* 2 in its low half */
		{T("\x92\x02\x01"), -EPROTO},                  /* PING is not numbered */
		{T("\x95\x04\x00\x00\x00\xc4\x01k"), -EPROTO}, /* DELETE is */
		{T("\x92\xa1\x02\x00"), -EPROTO}, {T("\x92\x02\xc0"), -EPROTO},
		{T("\x82\x02\x00\x00\x00"), -EPROTO}, /* a map */
		{T("\x02"), -EPROTO},                 /* no container at all */
		{T("\x92\x02\x00"), 0},
		{T("\xdc\x00\x02\xcc\x02\xcf\x00\x00\x00\x00\x00\x00\x00\x00"),
			0}, /* longer than need be */
	};
	for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++)
		CHECK_EQ(decode_any(false, bodies[i].t.bytes, bodies[i].t.n), bodies[i].r);
}

TEST(a_refused_hello_may_be_short)
{
	const char body[] = "\x93\x01\x00\xfd";
	struct wire_answer a;
	struct wire_request q;

	memset(&a, 0xff, sizeof a);
	CHECK_EQ(decode(true, body, sizeof body - 1, &q, &a), 0);
	CHECK_EQ(a.status, -3);
	CHECK_EQ(a.max_frame, 0);
	CHECK_EQ(a.n_fds, 0);
	CHECK_EQ(decode_any(true, "\x93\x01\x00\x00", 4), -EPROTO); /* an accepted one may not */
}

TEST(names_are_made_harmless)
{
	struct wire_buf b = {0};
	struct wire_request q = {.verb = WIRE_HELLO}, got;
	char long_name[64];

	memcpy(q.name, "a\nb\x1b[1m\x7f\xc3\xa4 ~", sizeof "a\nb\x1b[1m\x7f\xc3\xa4 ~");
	CHECK_EQ(wire_put_request(&b, &q), 0);
	CHECK_EQ(wire_get_request(b.bytes + 4, b.end - 4, &got), 0);
	CHECK_STR(got.name, "a?b?[1m??? ~");
	wire_buf_fini(&b);

	uint8_t body[BODY_MAX] = {0};
	char name[303];
	memcpy(name, "\xda\x01\x2c", 3);
	memset(name + 3, 'n', 300);
	size_t n = compose(body, golden_of("HELLO"), 10, 7, (struct text){name, sizeof name});
	CHECK_EQ(wire_get_request(body, n, &got), 0);
	memset(long_name, 'n', 63);
	long_name[63] = 0;
	CHECK_STR(got.name, long_name);
}

TEST(frame_lengths_are_bounded)
{
	uint8_t bytes[8] = {0};
	struct wire_buf b = {.bytes = bytes, .end = 4};
	const uint8_t *body;
	size_t n;

	CHECK_EQ(wire_frame(&b, 100, &body, &n), -EPROTO); /* empty */
	bytes[0] = 101;
	CHECK_EQ(wire_frame(&b, 100, &body, &n), -EPROTO);
	bytes[0] = 100;
	CHECK_EQ(wire_frame(&b, 100, &body, &n), WIRE_MORE);
	CHECK_EQ(n, 100);
	memset(bytes, 0xff, 4);
	CHECK_EQ(wire_frame(&b, 1u << 30, &body, &n), -EPROTO);
	CHECK_EQ(wire_frame(&b, UINT32_MAX, &body, &n), WIRE_MORE);
	CHECK_EQ(n, UINT32_MAX);
}

TEST(counts_and_lengths_that_lie)
{
	const struct text bodies[] = {
		T("\xdd\xff\xff\xff\xff\x02\x00"),         /* array of 2^32-1 */
		T("\xdc\xff\xff\x02\x00"),                 /* array of 65535 */
		T("\x93\x02\x00\xdd\xff\xff\xff\xff"),     /* the same inside */
		T("\x93\x02\x00\xdf\xff\xff\xff\xff\x00"), /* map of 2^32-1 */
		T("\x93\x02\x00\xc6\xff\xff\xff\xff"),     /* bin of 2^32-1 */
		T("\x93\x02\x00\xdb\xff\xff\xff\xff"),     /* str */
		T("\x93\x02\x00\xc9\xff\xff\xff\xff"),     /* ext, whose length plus one is none */
		T("\x93\x02\x00\xc9\xff\xff\xff\xff\x00\x00\x00"),
		T("\x93\x02\x00\xc8\xff\xff"),
		T("\x93\x02\x00\xc1"), /* reserved by msgpack */
		T("\xc1"),
	};
	for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++)
		for (int answer = 0; answer < 2; answer++)
			(void)decode_any(answer, bodies[i].bytes, bodies[i].n);
	for (size_t i = 0; i < 6; i++)
		CHECK_EQ(decode_any(false, bodies[i].bytes, bodies[i].n), -EPROTO);
}

TEST(deep_nesting_is_malformed)
{
	uint8_t *body = malloc(DEEP);

	CHECK(body);
	memset(body, 0x91, DEEP);
	CHECK_EQ(decode_any(false, body, DEEP), -EPROTO);
	memset(body, 0x81, DEEP);
	CHECK_EQ(decode_any(true, body, DEEP), -EPROTO);
	memcpy(body, "\x93\x02\x00",
		3); /* as an element that is ignored: up to the decoder's depth */
	memset(body + 3, 0x91, 30);
	body[33] = 0xc0;
	CHECK_EQ(decode_any(false, body, 34), 0);
	memset(body + 3, 0x91, 32);
	body[35] = 0xc0;
	CHECK_EQ(decode_any(false, body, 36), -EPROTO);
	free(body);
}

TEST(too_many_descriptors_are_malformed)
{
	struct wire_buf b = {0};
	struct wire_answer a = {.verb = WIRE_HELLO, .n_fds = WIRE_FDS_MAX}, got;

	CHECK_EQ(wire_put_answer(&b, &a), 0);
	CHECK_EQ(wire_get_answer(b.bytes + 4, b.end - 4, &got), 0);
	CHECK_EQ(got.n_fds, WIRE_FDS_MAX);
	wire_buf_fini(&b);
	a.n_fds++;
	CHECK_EQ(wire_put_answer(&b, &a), -EINVAL);

	uint8_t body[BODY_MAX];
	char list[3 + 4 * (WIRE_FDS_MAX + 1)] = {(char)0xdc, 0, WIRE_FDS_MAX + 1};
	for (int i = 0; i <= WIRE_FDS_MAX; i++)
		memcpy(list + 3 + 4 * i, "\x93\x02\x00\x00", 4);
	size_t n = compose(
		body, golden_of("answer to HELLO"), 10, 9, (struct text){list, sizeof list});
	CHECK_EQ(decode_any(true, body, n), -EPROTO);
}

TEST(random_changes_are_safe)
{
	uint8_t body[BODY_MAX];
	int good = 0;

	for (int i = 0; i < ROUNDS; i++) {
		const struct golden *g = &golden[t_random_below(N_GOLDEN)];
		size_t n = strlen(g->kinds), bytes = compose(body, g, n, t_random_below(n),
						     others[t_random_below(N_OTHERS)].t);
		for (uint64_t k = t_random_below(4); k > 0; k--)
			body[t_random_below(bytes)] = (uint8_t)t_random();
		if (t_random_below(4) == 0)
			bytes = t_random_below(bytes + 1);
		good += decode_any(t_random_below(2), body, bytes) == 0;
	}
	CHECK(good > ROUNDS / 100 && good < ROUNDS);
}
