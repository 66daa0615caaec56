/* unit_wire_buf.c - the codec's buffers, and sizes at their ends. */
#include <errno.h>
#include <string.h>
#include "wire.h"
#include "../kit/t.h"

TEST(sizes_do_not_overflow)
{
	struct wire_buf b = {0};
	struct wire_request q = {
		.verb = WIRE_SET, .request = 1, .key = "k", .key_bytes = 1, .value = "v"};

	q.value_bytes = SIZE_MAX;
	CHECK_EQ(wire_put_request(&b, &q), -EMSGSIZE);
	q.value_bytes = UINT32_MAX;
	CHECK_EQ(wire_put_request(&b, &q), -EMSGSIZE);
	q.value_bytes = 1;
	q.key_bytes = SIZE_MAX;
	CHECK_EQ(wire_put_request(&b, &q), -EMSGSIZE);
	q.key_bytes = SIZE_MAX / 2 + 1;
	q.value_bytes = SIZE_MAX / 2 + 1;
	CHECK_EQ(wire_put_request(&b, &q), -EMSGSIZE);
	CHECK_EQ(wire_buf_reserve(&b, SIZE_MAX), -ENOMEM);
	CHECK_EQ(wire_buf_reserve(&b, SIZE_MAX / 2), -ENOMEM);
	CHECK_EQ(b.end, 0);
	q.key_bytes = q.value_bytes = 1;
	q.verb = 0;
	CHECK_EQ(wire_put_request(&b, &q), -EINVAL);
	wire_buf_fini(&b);
}

TEST(a_buffer_is_a_queue)
{
	struct wire_buf b = {0};
	uint64_t in = 0, out = 0;

	for (int i = 0; i < 20000; i++) {
		size_t n = t_random_below(i % 100 ? 300 : 20000);
		CHECK_EQ(wire_buf_reserve(&b, n), 0);
		CHECK(b.cap - b.end >= n);
		for (size_t k = 0; k < n; k++)
			b.bytes[b.end++] = (uint8_t)in++;
		n = t_random_below(b.end - b.begin + 1);
		for (size_t k = 0; k < n; k++)
			CHECK(b.bytes[b.begin++] == (uint8_t)out++);
	}
	CHECK(b.cap <= 1 << 18);
	wire_buf_fini(&b);
	CHECK(b.bytes == NULL && b.cap == 0);
}

TEST(large_values_pass)
{
	const size_t sizes[] = {0, 1, 31, 32, 255, 256, 65535, 65536, 1 << 20};
	char *value = calloc(1, 1 << 20);
	struct wire_buf b = {0};
	struct wire_request got;

	CHECK(value);
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		struct wire_request q = {.verb = WIRE_SET,
			.request = UINT64_MAX,
			.key = value,
			.key_bytes = sizes[i] < 65536 ? sizes[i] : 65536,
			.value = value,
			.value_bytes = sizes[i]};
		CHECK_EQ(wire_put_request(&b, &q), 0);
		const uint8_t *body;
		size_t bytes;
		CHECK_EQ(wire_frame(&b, 2 << 20, &body, &bytes), 0);
		CHECK_EQ(wire_get_request(body, bytes, &got), 0);
		CHECK_EQ(got.request, UINT64_MAX);
		CHECK_EQ(got.key_bytes, q.key_bytes);
		CHECK_EQ(got.value_bytes, q.value_bytes);
		b.begin += 4 + bytes;
		CHECK_EQ(b.begin, b.end);
	}
	wire_buf_fini(&b);
	free(value);
}
