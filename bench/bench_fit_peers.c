/* bench_fit_peers.c - Redis and memcached, limited to the same memory by tools/bench-peers --memory.
 *
 * Redis counts what it has asked its allocator for, not what the allocator has of the system; memcached
 * counts its slabs, not its hash table.  What the system has really given stands beside it.
 */
#include <stdio.h>
#include <stdlib.h>
#include "bench_fit.h"
#include "bench_subject.h"

#if defined(HAVE_HIREDIS) || defined(HAVE_MEMCACHED)
static struct fit fit;
static int pid;
static char socket_path[SUBJECT_TEXT_BYTES];

static uint64_t memory(void) { return fit_status_bytes(pid, "VmRSS:"); }

static void say(void) { printf("{}"); }
#endif

#ifdef HAVE_HIREDIS
#include <hiredis/hiredis.h>
static redisContext *redis;

static const char *redis_begin(const struct fit *f)
{
	fit = *f;
	if (!subject_peer("HC_BENCH_REDIS", socket_path, &pid))
		return "HC_BENCH_REDIS is not set: run through tools/bench-peers";
	redis = redisConnectUnix(socket_path);
	if (!redis || redis->err)
		subject_fail("redis", redis ? redis->errstr : "no memory");
	freeReplyObject(redisCommand(redis, "FLUSHALL"));
	redisReply *r = redisCommand(redis, "CONFIG GET maxmemory");
	if (!r || r->elements != 2 || strtoull(r->element[1]->str, NULL, 10) != f->limit_bytes)
		subject_fail("redis", "has another limit: tools/bench-peers --memory");
	freeReplyObject(r);
	return NULL;
}

/* The next answer: a number, or 1 for "OK". */
static uint64_t redis_take(void)
{
	void *any = NULL;

	if (redisGetReply(redis, &any) != REDIS_OK)
		subject_fail("redis", redis->errstr);
	const redisReply *r = any;
	if (r->type == REDIS_REPLY_ERROR)
		subject_fail("redis", r->str);
	uint64_t n = r->type == REDIS_REPLY_INTEGER ? (uint64_t)r->integer : 1;
	freeReplyObject(any);
	return n;
}

static void redis_append(const char *verb, uint64_t i, size_t value_bytes)
{
	uint8_t key[KEY_BYTES];
	const char *argv[3] = {verb, (const char *)key, (const char *)fit.value};
	const size_t lens[3] = {strlen(verb), KEY_BYTES, value_bytes};

	data_key(i, key);
	if (redisAppendCommandArgv(redis, value_bytes ? 3 : 2, argv, lens) != REDIS_OK)
		subject_fail("redis", redis->errstr);
}

static void redis_put(uint64_t first, uint64_t n)
{
	for (uint64_t i = first; i < first + n; i++)
		redis_append("SET", i, fit_bytes(&fit, i));
	for (uint64_t i = 0; i < n; i++)
		(void)redis_take();
}

static void redis_look(uint64_t first, uint64_t n, struct fit_held *held)
{
	for (uint64_t i = first; i < first + n; i++)
		redis_append("STRLEN", i, 0);
	for (uint64_t i = first; i < first + n; i++) {
		uint64_t bytes = redis_take();
		if (bytes == 0)
			continue;
		if (bytes != fit_bytes(&fit, i))
			subject_fail("redis", "a value has another length");
		held->entries++;
		held->bytes += KEY_BYTES + bytes;
	}
}

static void redis_end(void)
{
	freeReplyObject(redisCommand(redis, "FLUSHALL"));
	redisFree(redis);
}

const struct fit_subject fit_redis = {
	"redis", redis_begin, redis_put, redis_look, memory, say, redis_end};
#endif

#ifdef HAVE_MEMCACHED
#include <libmemcached/memcached.h>
static memcached_st *mc;

static const char *mc_begin(const struct fit *f)
{
	memcached_return_t r;

	fit = *f;
	if (!subject_peer("HC_BENCH_MEMCACHED", socket_path, &pid))
		return "HC_BENCH_MEMCACHED is not set: run through tools/bench-peers";
	mc = memcached_create(NULL);
	if (!mc || memcached_server_add_unix_socket(mc, socket_path) != MEMCACHED_SUCCESS)
		subject_fail("memcached", socket_path);
	memcached_stat_st *stat = memcached_stat(mc, NULL, &r);
	if (!stat || stat->limit_maxbytes != f->limit_bytes)
		subject_fail("memcached", "has another limit: tools/bench-peers --memory");
	memcached_stat_free(mc, stat);
	return NULL;
}

static void mc_mode(bool batch)
{
	(void)memcached_behavior_set(mc, MEMCACHED_BEHAVIOR_NOREPLY, batch);
	(void)memcached_behavior_set(mc, MEMCACHED_BEHAVIOR_BUFFER_REQUESTS, batch);
}

/* All but the last without an answer; what is refused for want of memory is not there afterwards. */
static void mc_put(uint64_t first, uint64_t n)
{
	uint8_t key[KEY_BYTES];

	mc_mode(true);
	for (uint64_t i = first; i < first + n; i++) {
		if (i + 1 == first + n) {
			(void)memcached_flush_buffers(mc);
			mc_mode(false);
		}
		data_key(i, key);
		memcached_return_t r = memcached_set(mc, (const char *)key, KEY_BYTES,
			(const char *)fit.value, fit_bytes(&fit, i), 0, 0);
		if (r != MEMCACHED_SUCCESS && r != MEMCACHED_BUFFERED && r != MEMCACHED_STORED &&
			r != MEMCACHED_SERVER_MEMORY_ALLOCATION_FAILURE)
			subject_fail("memcached", memcached_strerror(mc, r));
	}
}

static void mc_look(uint64_t first, uint64_t n, struct fit_held *held)
{
	uint8_t key[BATCH_MAX * KEY_BYTES];
	const char *keys[BATCH_MAX];
	size_t lens[BATCH_MAX];
	memcached_result_st result;
	memcached_return_t r;

	for (uint64_t i = 0; i < n; i++) {
		data_key(first + i, key + i * KEY_BYTES);
		keys[i] = (const char *)key + i * KEY_BYTES;
		lens[i] = KEY_BYTES;
	}
	r = memcached_mget(mc, keys, lens, n);
	if (r != MEMCACHED_SUCCESS)
		subject_fail("memcached", memcached_strerror(mc, r));
	(void)memcached_result_create(mc, &result);
	while (memcached_fetch_result(mc, &result, &r)) {
		held->entries++;
		held->bytes += KEY_BYTES + memcached_result_length(&result);
	}
	memcached_result_free(&result);
}

static void mc_end(void)
{
	(void)memcached_flush(mc, 0);
	memcached_free(mc);
}

const struct fit_subject fit_memcached = {
	"memcached", mc_begin, mc_put, mc_look, memory, say, mc_end};
#endif
