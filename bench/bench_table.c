/* bench_table.c - the limit as a subject: bench_limit.h. */
#include <errno.h>
#include <stdlib.h>
#include "bench_host.h"
#include "bench_limit.h"
#include "bench_subject.h"

static struct limit *limit;
static struct data data;

static const char *table_begin(const struct setup *setup)
{
	data = setup->data;
	return NULL;
}

/* After the cache: in pages of the size that its pool has got. */
static void table_fill(void)
{
	uint8_t key[KEY_BYTES], *value = data_values(&data, 1);

	limit = limit_new(data.keys, KEY_BYTES, data.value_bytes, hc_page_kb);
	if (!limit)
		subject_fail("limit",
			hc_page_kb > 4
				? "gets no such pages as the pool has: reserve twice as many, "
				  "or give --no-huge"
				: strerror(errno));
	for (uint64_t i = 0; i < data.keys; i++) {
		data_key(i, key);
		memcpy(value, key, 8);
		if (!limit_put(limit, key, KEY_BYTES, value, data.value_bytes))
			subject_fail("limit", "the table is full");
	}
	free(value);
}

static void *table_join(enum join how)
{
	(void)how;
	return limit;
}

static void table_leave(void *session) { (void)session; }

static void table_end(void)
{
	limit_free(limit);
	limit = NULL;
}

static uint64_t run_view(void *session, const struct work *w, const uint8_t *key, size_t n)
{
	const struct limit *l = session;
	uint64_t sum = 0;
	size_t bytes;

	(void)w;
	for (const uint8_t *end = key + n * KEY_BYTES; key < end; key += KEY_BYTES) {
		const uint8_t *v = limit_view(l, key, KEY_BYTES, &bytes);
		sum += v ? data_word(v) : 0;
	}
	return sum;
}

static uint64_t run_get(void *session, const struct work *w, const uint8_t *key, size_t n)
{
	const struct limit *l = session;
	uint64_t sum = 0;
	size_t bytes;

	for (const uint8_t *end = key + n * KEY_BYTES; key < end; key += KEY_BYTES)
		if (limit_get(l, key, KEY_BYTES, w->buf, w->value_bytes, &bytes))
			sum += data_word(w->buf);
	return sum;
}

static const struct kind kinds[] = {
	{"limit_view", "limit, in place", 1, 1, KIND_IN_PLACE | KIND_NEXT, run_view},
	{"limit_get", "limit, copy", 1, 1, KIND_GET | KIND_NEXT, run_get},
};

const struct subject subject_limit = {
	.word = "limit",
	.kinds = kinds,
	.n_kinds = sizeof kinds / sizeof *kinds,
	.second = true,
	.begin = table_begin,
	.fill = table_fill,
	.join = table_join,
	.leave = table_leave,
	.end = table_end,
};
