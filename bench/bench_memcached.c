/* bench_memcached.c - memcached as a subject, over its Unix socket, with libmemcached.
 *
 * HC_BENCH_MEMCACHED says where it is (tools/bench-peers).  In batches: one `get` of 64 keys; 63 sets
 * without an answer and one with it, which comes after them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <libmemcached/memcached.h>
#include "bench_host.h"
#include "bench_subject.h"

static struct data data;
static char socket_path[SUBJECT_TEXT_BYTES];
static int pid;
static memcached_st *main_session;

static memcached_st *open_session(void)
{
	memcached_st *m = memcached_create(NULL);

	if (!m || memcached_server_add_unix_socket(m, socket_path) != MEMCACHED_SUCCESS)
		subject_fail("memcached", socket_path);
	return m;
}

static const char *mc_begin(const struct setup *setup)
{
	data = setup->data;
	if (!subject_peer("HC_BENCH_MEMCACHED", socket_path, &pid))
		return "HC_BENCH_MEMCACHED is not set: run through tools/bench-peers";
	main_session = open_session();
	return NULL;
}

static void batch_mode(memcached_st *m, bool on)
{
	(void)memcached_behavior_set(m, MEMCACHED_BEHAVIOR_NOREPLY, on);
	(void)memcached_behavior_set(m, MEMCACHED_BEHAVIOR_BUFFER_REQUESTS, on);
}

static bool set_one(memcached_st *m, const uint8_t *key, uint8_t *value)
{
	memcpy(value, key, 8);
	memcached_return_t r = memcached_set(
		m, (const char *)key, KEY_BYTES, (const char *)value, data.value_bytes, 0, 0);
	return r == MEMCACHED_SUCCESS || r == MEMCACHED_BUFFERED || r == MEMCACHED_STORED;
}

/* n sets, of which the last one is answered.  False: it was not done. */
static bool set_many(memcached_st *m, const uint8_t *key, uint8_t *value, size_t n)
{
	bool ok = true;

	batch_mode(m, true);
	for (size_t i = 0; i + 1 < n; i++)
		ok &= set_one(m, key + i * KEY_BYTES, value);
	(void)memcached_flush_buffers(m);
	batch_mode(m, false);
	return set_one(m, key + (n - 1) * KEY_BYTES, value) && ok;
}

static void mc_fill(void)
{
	uint8_t key[BATCH_MAX * KEY_BYTES], *value = data_values(&data, 1);

	(void)memcached_flush(main_session, 0);
	for (uint64_t at = 0; at < data.keys; at += BATCH_MAX) {
		size_t n = data.keys - at < BATCH_MAX ? (size_t)(data.keys - at) : BATCH_MAX;
		for (size_t i = 0; i < n; i++)
			data_key(at + i, key + i * KEY_BYTES);
		if (!set_many(main_session, key, value, n))
			subject_fail("memcached", "a set was refused");
	}
	free(value);
}

static void *mc_join(enum join how) { return how == JOIN_MAIN ? main_session : open_session(); }

static void mc_leave(void *session)
{
	if (session != main_session)
		memcached_free(session);
}

static void mc_end(void)
{
	(void)memcached_flush(main_session, 0);
	memcached_free(main_session);
}

static size_t mc_pids(int ret[PIDS_MAX])
{
	ret[0] = pid;
	return 1;
}

/* ------------------------------------------------------------ kinds */

static uint64_t run_get(void *session, const struct work *w, const uint8_t *key, size_t n)
{
	uint64_t sum = 0;

	for (const uint8_t *end = key + n * KEY_BYTES; key < end; key += KEY_BYTES) {
		memcached_return_t r;
		uint32_t flags;
		size_t bytes;
		char *v = memcached_get(session, (const char *)key, KEY_BYTES, &bytes, &flags, &r);
		if (v && bytes == w->value_bytes)
			sum += data_word(v);
		free(v);
	}
	return sum;
}

static uint64_t run_set(void *session, const struct work *w, const uint8_t *key, size_t n)
{
	uint64_t sum = 0;

	for (const uint8_t *end = key + n * KEY_BYTES; key < end; key += KEY_BYTES)
		if (set_one(session, key, w->values))
			sum += data_word(key);
	return sum;
}

/* The values of many keys, of which one may be asked for twice: it is answered twice. */
static uint64_t get_many(memcached_st *m, const struct work *w, const uint8_t *key, size_t many)
{
	const char *keys[BATCH_MAX];
	size_t lens[BATCH_MAX];
	memcached_result_st result;
	memcached_return_t r;
	uint64_t sum = 0;

	for (size_t i = 0; i < many; i++) {
		keys[i] = (const char *)key + i * KEY_BYTES;
		lens[i] = KEY_BYTES;
	}
	if (memcached_mget(m, keys, lens, many) != MEMCACHED_SUCCESS)
		return 0;
	(void)memcached_result_create(m, &result);
	while (memcached_fetch_result(m, &result, &r))
		if (memcached_result_length(&result) == w->value_bytes)
			sum += data_word(memcached_result_value(&result));
	memcached_result_free(&result);
	return sum;
}

static uint64_t run_get64(void *session, const struct work *w, const uint8_t *key, size_t n)
{
	uint64_t sum = 0;

	for (size_t at = 0; at < n; at += w->batch_max) {
		size_t many = n - at < w->batch_max ? n - at : w->batch_max;
		sum += get_many(session, w, key + at * KEY_BYTES, many);
	}
	return sum;
}

static uint64_t run_set64(void *session, const struct work *w, const uint8_t *key, size_t n)
{
	uint64_t sum = 0;

	for (size_t at = 0; at < n; at += w->batch_max) {
		size_t many = n - at < w->batch_max ? n - at : w->batch_max;
		if (set_many(session, key + at * KEY_BYTES, w->values, many))
			sum += draws_sum(key + at * KEY_BYTES, many);
	}
	return sum;
}

static const struct kind kinds[] = {
	{"memcached_get", "memcached get", 1, 64, KIND_WAITS | KIND_GET, run_get},
	{"memcached_get64", "memcached get of 64 keys, each", 64, 8, KIND_WAITS, run_get64},
	{"memcached_set", "memcached set", 1, 64, KIND_WRITES | KIND_WAITS | KIND_SET, run_set},
	{"memcached_set64", "memcached set, 64 at once, each", 64, 8, KIND_WRITES | KIND_WAITS,
		run_set64},
};

const struct subject subject_memcached = {
	.word = "memcached",
	.kinds = kinds,
	.n_kinds = sizeof kinds / sizeof *kinds,
	.second = true,
	.begin = mc_begin,
	.fill = mc_fill,
	.join = mc_join,
	.leave = mc_leave,
	.end = mc_end,
	.pids = mc_pids,
};
