/* replay.c - see replay.h. */
#include "replay.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Room for n more of `size` bytes each, at least doubling; NULL: no memory. */
static void *room(void *array, uint64_t used, uint64_t n, uint64_t *has, size_t size)
{
	if (used + n <= *has)
		return array;
	uint64_t wants = *has * 2 > used + n ? *has * 2 : used + n + 1024;
	void *more = reallocarray(array, wants, size);
	if (more)
		*has = wants;
	return more;
}

static int request_add(
	struct replay *r, const struct trace_request *q, uint64_t *has, uint64_t *keys_has)
{
	void *p = room(r->request, r->n, 1, has, sizeof *r->request);

	if (!p)
		return -ENOMEM;
	r->request = p;
	struct replay_request *to = &r->request[r->n];
	*to = (struct replay_request){.object = q->object,
		.key = UINT64_MAX,
		.bytes = q->bytes,
		.time_s = q->time_s > UINT32_MAX ? UINT32_MAX : (uint32_t)q->time_s,
		.key_bytes = (uint32_t)q->key_bytes};
	if (q->key) {
		char *keys = room(r->keys, r->keys_bytes, q->key_bytes, keys_has, 1);
		if (!keys)
			return -ENOMEM;
		r->keys = keys;
		memcpy(r->keys + r->keys_bytes, q->key, q->key_bytes);
		to->key = r->keys_bytes;
		r->keys_bytes += q->key_bytes;
	}
	r->n++;
	return 0;
}

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int count_objects(struct replay *r)
{
	uint64_t *object = malloc((r->n + 1) * sizeof *object);

	if (!object)
		return -ENOMEM;
	for (uint64_t i = 0; i < r->n; i++)
		object[i] = r->request[i].object;
	qsort(object, r->n, sizeof *object, compare_u64);
	for (uint64_t i = 0; i < r->n; i++)
		r->n_objects += i == 0 || object[i] != object[i - 1];
	free(object);
	return 0;
}

int replay_read(struct replay *r, const char *path, char why[TRACE_WHY_BYTES])
{
	uint64_t has = 0, keys_has = 0;
	struct trace_request q;
	struct trace *t;

	*r = (struct replay){0};
	int e = trace_open(path, &t, why);
	if (e < 0)
		return e;
	while ((e = trace_next(t, &q, why)) == 0) {
		e = request_add(r, &q, &has, &keys_has);
		if (e < 0)
			break;
	}
	trace_close(t);
	if (e == 1)
		e = count_objects(r);
	if (e == -ENOMEM)
		(void)snprintf(why, TRACE_WHY_BYTES, "%s: no memory for all of it", path);
	return e;
}

void replay_free(struct replay *r)
{
	free(r->request);
	free(r->keys);
	*r = (struct replay){0};
}

int replay_simulate(const struct replay *r, const struct pol_ops *ops, uint64_t limit,
	bool by_bytes, struct sim_result *ret)
{
	struct sim *s;
	int e = sim_new(ops, limit, by_bytes, &s);

	if (e < 0)
		return e;
	for (uint64_t i = 0; i < r->n && e >= 0; i++)
		e = sim_request(s, r->request[i].object, r->request[i].bytes, r->request[i].time_s);
	sim_result(s, ret);
	sim_free(s);
	return e < 0 ? e : 0;
}
