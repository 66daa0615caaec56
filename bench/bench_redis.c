/* bench_redis.c - Redis as a subject, over its Unix socket, with its own client library.
 *
 * HC_BENCH_REDIS says where it is (tools/bench-peers).  In batches: 64 commands sent, then 64 answers read.
 */
#include <stdio.h>
#include <stdlib.h>
#include <hiredis/hiredis.h>
#include "bench_host.h"
#include "bench_subject.h"

static struct data data;
static char socket_path[SUBJECT_TEXT_BYTES];
static int pid;
static redisContext *main_context;

enum { FILL_BYTES = 4 << 20 };

static redisContext *open_context(void)
{
	redisContext *c = redisConnectUnix(socket_path);

	if (!c || c->err)
		subject_fail("redis", c ? c->errstr : "no memory");
	return c;
}

static const char *redis_begin(const struct setup *setup)
{
	data = setup->data;
	if (!subject_peer("HC_BENCH_REDIS", socket_path, &pid))
		return "HC_BENCH_REDIS is not set: run through tools/bench-peers";
	main_context = open_context();
	return NULL;
}

static void append(
	redisContext *c, const char *verb, const uint8_t *key, const uint8_t *value, size_t bytes)
{
	const char *argv[3] = {verb, (const char *)key, (const char *)value};
	const size_t lens[3] = {3, KEY_BYTES, bytes};

	if (redisAppendCommandArgv(c, value ? 3 : 2, argv, lens) != REDIS_OK)
		subject_fail("redis", c->errstr);
}

/* The next answer, as a word: that of the value, or of `acked` if it is "OK". */
static uint64_t take_word(redisContext *c, size_t bytes, uint64_t acked)
{
	uint64_t word = 0;
	void *any = NULL;

	if (redisGetReply(c, &any) != REDIS_OK)
		subject_fail("redis", c->errstr);
	const redisReply *r = any;
	if (r->type == REDIS_REPLY_STRING && r->len == bytes)
		word = data_word(r->str);
	else if (r->type == REDIS_REPLY_STATUS)
		word = acked;
	freeReplyObject(any);
	return word;
}

static void redis_fill(void)
{
	size_t batch = FILL_BYTES / data.value_bytes + 1;
	uint8_t key[KEY_BYTES], *value = data_values(&data, 1);
	redisReply *r = redisCommand(main_context, "FLUSHALL");

	freeReplyObject(r);
	for (uint64_t at = 0; at < data.keys; at += batch) {
		uint64_t n = data.keys - at < batch ? data.keys - at : batch;
		for (uint64_t i = 0; i < n; i++) {
			data_key(at + i, key);
			memcpy(value, key, 8);
			append(main_context, "SET", key, value, data.value_bytes);
		}
		for (uint64_t i = 0; i < n; i++)
			if (take_word(main_context, 0, 1) != 1)
				subject_fail("redis", "SET was refused: is its memory limited?");
	}
	free(value);
}

static void *redis_join(enum join how) { return how == JOIN_MAIN ? main_context : open_context(); }

static void redis_leave(void *session)
{
	if (session != main_context)
		redisFree(session);
}

static void redis_end(void)
{
	freeReplyObject(redisCommand(main_context, "FLUSHALL"));
	redisFree(main_context);
}

static size_t redis_pids(int ret[PIDS_MAX])
{
	ret[0] = pid;
	return 1;
}

/* ------------------------------------------------------------ kinds */

static uint64_t run_get(void *session, const struct work *w, const uint8_t *key, size_t n)
{
	uint64_t sum = 0;

	for (const uint8_t *end = key + n * KEY_BYTES; key < end; key += KEY_BYTES) {
		append(session, "GET", key, NULL, 0);
		sum += take_word(session, w->value_bytes, 0);
	}
	return sum;
}

static uint64_t run_set(void *session, const struct work *w, const uint8_t *key, size_t n)
{
	uint64_t sum = 0;

	for (const uint8_t *end = key + n * KEY_BYTES; key < end; key += KEY_BYTES) {
		memcpy(w->values, key, 8);
		append(session, "SET", key, w->values, w->value_bytes);
		sum += take_word(session, w->value_bytes, data_word(key));
	}
	return sum;
}

static uint64_t run_get64(void *session, const struct work *w, const uint8_t *key, size_t n)
{
	uint64_t sum = 0;

	for (size_t at = 0; at < n; at += w->batch_max) {
		size_t many = n - at < w->batch_max ? n - at : w->batch_max;
		for (size_t i = 0; i < many; i++)
			append(session, "GET", key + (at + i) * KEY_BYTES, NULL, 0);
		for (size_t i = 0; i < many; i++)
			sum += take_word(session, w->value_bytes, 0);
	}
	return sum;
}

static uint64_t run_set64(void *session, const struct work *w, const uint8_t *key, size_t n)
{
	uint64_t sum = 0;

	for (size_t at = 0; at < n; at += w->batch_max) {
		size_t many = n - at < w->batch_max ? n - at : w->batch_max;
		for (size_t i = 0; i < many; i++) {
			memcpy(w->values, key + (at + i) * KEY_BYTES, 8);
			append(session, "SET", key + (at + i) * KEY_BYTES, w->values,
				w->value_bytes);
		}
		for (size_t i = 0; i < many; i++)
			sum += take_word(
				session, w->value_bytes, data_word(key + (at + i) * KEY_BYTES));
	}
	return sum;
}

static const struct kind kinds[] = {
	{"redis_get", "Redis GET", 1, 64, KIND_WAITS | KIND_GET, run_get},
	{"redis_get64", "Redis GET, 64 at once, each", 64, 8, KIND_WAITS, run_get64},
	{"redis_set", "Redis SET", 1, 64, KIND_WRITES | KIND_WAITS | KIND_SET, run_set},
	{"redis_set64", "Redis SET, 64 at once, each", 64, 8, KIND_WRITES | KIND_WAITS, run_set64},
};

const struct subject subject_redis = {
	.word = "redis",
	.kinds = kinds,
	.n_kinds = sizeof kinds / sizeof *kinds,
	.second = true,
	.begin = redis_begin,
	.fill = redis_fill,
	.join = redis_join,
	.leave = redis_leave,
	.end = redis_end,
	.pids = redis_pids,
};
