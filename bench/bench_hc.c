/* bench_hc.c - the cache as a subject, with a daemon of its own. */
#include <stdio.h>
#include <stdlib.h>
#include "bench_host.h"
#include "bench_subject.h"
#include "hypercache.h"

unsigned hc_page_kb;
bool hc_page_thp;
char hc_backing[16];

enum { PUTS_BYTES = 64 << 20, PUTS_MAX = 4096, MGET = 16, SPIN_US = 200 };

static struct setup setup;
static struct host_daemon host_daemon;

/* Each worker has two: one that sleeps when it waits, and one that spins before. */
struct session {
	struct hc *hc;
	struct hc_store *store;
};
enum { SLEEPS, SPINS, SESSIONS };
static struct session main_session[SESSIONS];

static _Noreturn void fail(const char *what, int r)
{
	char text[SUBJECT_TEXT_BYTES];

	(void)snprintf(text, sizeof text, "%s: %s", what, hc_strerror(r));
	subject_fail("hc", text);
}

/* Bytes of a pool that holds all without evicting: slabs, the index and its growth, what is replaced and
 * still in limbo; all that well below the pressure at which entries begin to go. */
static uint64_t pool_bytes(const struct data *d)
{
	uint64_t each = 88 + KEY_BYTES + d->value_bytes + 16;

	return (d->keys * (each + each / 8 + 64) + 128 * d->value_bytes) / 3 * 4 + (64ull << 20);
}

static void sessions_open(struct session *s)
{
	struct hc_open_opts opts = HC_OPTS(hc_open_opts);

	opts.socket = setup.socket ? setup.socket : host_daemon.socket;
	opts.full_fence = setup.full_fence;
	for (int i = 0; i < SESSIONS; i++) {
		opts.spin_us = i == SPINS ? SPIN_US : 0;
		int r = hc_open(&s[i].hc, &opts);
		if (r == HC_OK)
			r = hc_store(s[i].hc, "default", &s[i].store);
		if (r != HC_OK)
			fail(opts.socket, r);
	}
}

static void sessions_close(struct session *s)
{
	for (int i = 0; i < SESSIONS; i++)
		hc_close(s[i].hc);
}

static const char *hc_begin(const struct setup *of)
{
	setup = *of;
	struct host_config config = {.pool_bytes = pool_bytes(&setup.data), .huge = setup.huge};
	if (!setup.socket && host_daemon_start(&host_daemon, setup.bindir, &config) != 0)
		subject_fail("hc", "no daemon");
	return NULL;
}

/* Now the pool has its pages. */
static void backing_read(void)
{
	struct hc_info info = HC_OPTS(hc_info);
	struct hc_view v;
	uint8_t key[KEY_BYTES];

	data_key(0, key);
	int r = hc_info(main_session[SLEEPS].hc, &info);
	if (r == HC_OK)
		r = hc_view(main_session[SLEEPS].store, key, KEY_BYTES, &v);
	if (r != HC_OK)
		fail("the first key", r);
	(void)snprintf(hc_backing, sizeof hc_backing, "%s", info.backing);
	hc_page_kb = host_page_kb(v.value, &hc_page_thp);
	(void)hc_view_release(&v);
}

static void hc_fill(void)
{
	const struct data *d = &setup.data;
	size_t puts = PUTS_BYTES / d->value_bytes + 1;

	puts = puts > PUTS_MAX ? PUTS_MAX : puts;
	struct hc_mset_item *item = host_take(puts * sizeof *item);
	uint8_t *key = host_take(puts * KEY_BYTES), *value = data_values(d, puts);

	sessions_open(main_session);
	for (uint64_t at = 0; at < d->keys; at += puts) {
		size_t n = d->keys - at < puts ? (size_t)(d->keys - at) : puts;
		for (size_t i = 0; i < n; i++) {
			data_key(at + i, key + i * KEY_BYTES);
			memcpy(value + i * d->value_bytes, key + i * KEY_BYTES, 8);
			item[i] = (struct hc_mset_item){.key = key + i * KEY_BYTES,
				.key_bytes = KEY_BYTES,
				.value = value + i * d->value_bytes,
				.value_bytes = d->value_bytes};
		}
		int r = hc_mset(main_session[SLEEPS].store, item, n, NULL);
		if (r != HC_OK)
			fail("hc_mset", r);
	}
	free(item);
	free(key);
	free(value);
	sessions_close(main_session); /* a new session finds the pages that the pool has */
	sessions_open(main_session);
	backing_read();
}

static void *hc_join(enum join how)
{
	if (how != JOIN_PROCESS)
		return main_session;
	struct session *s = host_take(SESSIONS * sizeof *s);
	sessions_open(s);
	return s;
}

static void hc_leave(void *session)
{
	struct session *s = session;

	if (s == main_session)
		return;
	sessions_close(s);
	free(s);
}

static void hc_end(void)
{
	sessions_close(main_session);
	if (!setup.socket && host_daemon_stop(&host_daemon) != 0)
		subject_fail("hc", "the daemon did not end well");
}

/* The engine is the supervisor's only child. */
static size_t hc_pids(int ret[PIDS_MAX])
{
	ret[0] = setup.socket ? 0 : host_child(host_daemon.pid);
	return ret[0] > 0;
}

/* ------------------------------------------------------------ kinds */

static uint64_t run_view(void *session, const struct work *w, const uint8_t *key, size_t n)
{
	struct hc_store *store = ((struct session *)session)->store;
	uint64_t sum = 0;
	struct hc_view v;

	(void)w;
	for (const uint8_t *end = key + n * KEY_BYTES; key < end; key += KEY_BYTES) {
		if (hc_view(store, key, KEY_BYTES, &v) != HC_OK)
			continue;
		sum += data_word(v.value);
		(void)hc_view_release(&v);
	}
	return sum;
}

static uint64_t run_get(void *session, const struct work *w, const uint8_t *key, size_t n)
{
	struct hc_store *store = ((struct session *)session)->store;
	uint64_t sum = 0;
	size_t bytes;

	for (const uint8_t *end = key + n * KEY_BYTES; key < end; key += KEY_BYTES)
		if (hc_get(store, key, KEY_BYTES, w->buf, w->value_bytes, &bytes) == HC_OK)
			sum += data_word(w->buf);
	return sum;
}

static uint64_t run_mget(void *session, const struct work *w, const uint8_t *key, size_t n)
{
	struct hc_store *store = ((struct session *)session)->store;
	size_t batch = w->batch_max < MGET ? w->batch_max : MGET;
	struct hc_mget_item item[MGET];
	uint64_t sum = 0;

	for (size_t at = 0; at < n; at += batch) {
		size_t many = n - at < batch ? n - at : batch;
		for (size_t i = 0; i < many; i++)
			item[i] = (struct hc_mget_item){.key = key + (at + i) * KEY_BYTES,
				.key_bytes = KEY_BYTES,
				.buf = w->buf + i * w->value_bytes,
				.buf_bytes = w->value_bytes};
		if (hc_mget(store, item, many) != HC_OK)
			continue;
		for (size_t i = 0; i < many; i++)
			if (item[i].result == HC_OK)
				sum += data_word(item[i].buf);
	}
	return sum;
}

static uint64_t run_set(void *session, const struct work *w, const uint8_t *key, size_t n)
{
	struct hc_store *store = ((struct session *)session)->store;
	uint64_t sum = 0;

	for (const uint8_t *end = key + n * KEY_BYTES; key < end; key += KEY_BYTES) {
		memcpy(w->values, key, 8);
		if (hc_set(store, key, KEY_BYTES, w->values, w->value_bytes, NULL) == HC_OK)
			sum += data_word(w->values);
	}
	return sum;
}

static uint64_t run_mset(void *session, const struct work *w, const uint8_t *key, size_t n)
{
	struct hc_store *store = ((struct session *)session)->store;
	struct hc_mset_item item[BATCH_MAX];
	uint64_t sum = 0;

	for (size_t at = 0; at < n; at += w->batch_max) {
		size_t many = n - at < w->batch_max ? n - at : w->batch_max;
		for (size_t i = 0; i < many; i++) {
			uint8_t *value = w->values + i * w->value_bytes;
			memcpy(value, key + (at + i) * KEY_BYTES, 8);
			item[i] = (struct hc_mset_item){.key = key + (at + i) * KEY_BYTES,
				.key_bytes = KEY_BYTES,
				.value = value,
				.value_bytes = w->value_bytes};
		}
		(void)hc_mset(store, item, many, NULL);
		for (size_t i = 0; i < many; i++)
			if (item[i].result == HC_OK)
				sum += data_word(item[i].value);
	}
	return sum;
}

static uint64_t run_set_spin(void *session, const struct work *w, const uint8_t *key, size_t n)
{
	return run_set((struct session *)session + SPINS, w, key, n);
}

static uint64_t run_mset_spin(void *session, const struct work *w, const uint8_t *key, size_t n)
{
	return run_mset((struct session *)session + SPINS, w, key, n);
}

static bool submit(struct hc_store *store, const struct work *w, const uint8_t *key, size_t at)
{
	struct hc_op op = HC_OPTS(hc_op);

	memcpy(w->values, key + at * KEY_BYTES, 8);
	op.store = store;
	op.op = HC_OP_SET;
	op.user = at;
	op.key = key + at * KEY_BYTES;
	op.key_bytes = KEY_BYTES;
	op.value = w->values;
	op.value_bytes = w->value_bytes;
	return hc_submit(&op, NULL) == HC_OK;
}

/* So many are always under way: what is done is taken, and as many are submitted. */
static uint64_t run_submit(void *session, const struct work *w, const uint8_t *key, size_t n)
{
	const struct session *s = session;
	struct hc_done done[BATCH_MAX];
	size_t submitted = 0, taken = 0, got;
	uint64_t sum = 0;

	while (taken < n) {
		while (submitted < n && submitted - taken < w->batch_max)
			if (!submit(s->store, w, key, submitted++))
				return 0;
		if (hc_poll(s->hc, done, BATCH_MAX, 5000, &got) != HC_OK || got == 0)
			return 0;
		taken += got;
		for (size_t i = 0; i < got; i++)
			if (done[i].result == HC_OK)
				sum += data_word(key + done[i].user * KEY_BYTES);
	}
	return sum;
}

static const struct kind kinds[] = {
	{"hc_view", "hc_view and release", 1, 1, KIND_IN_PLACE | KIND_NEXT, run_view},
	{"hc_get", "hc_get", 1, 1, KIND_GET | KIND_NEXT, run_get},
	{"hc_mget16", "hc_mget of 16, each key", MGET, 1, 0, run_mget},
	{"hc_set", "hc_set", 1, 64, KIND_WRITES | KIND_WAITS | KIND_SET, run_set},
	{"hc_mset64", "hc_mset of 64, each key", 64, 8, KIND_WRITES | KIND_WAITS, run_mset},
	{"hc_submit64", "hc_submit, 64 under way, each key", 64, 8, KIND_WRITES | KIND_WAITS,
		run_submit},
	{"hc_set_spin", "hc_set, spin_us", 1, 64, KIND_WRITES | KIND_WAITS, run_set_spin},
	{"hc_mset64_spin", "hc_mset of 64, spin_us, each key", 64, 8, KIND_WRITES | KIND_WAITS,
		run_mset_spin},
};

const struct subject subject_hc = {
	.word = "hc",
	.kinds = kinds,
	.n_kinds = sizeof kinds / sizeof *kinds,
	.second = true,
	.begin = hc_begin,
	.fill = hc_fill,
	.join = hc_join,
	.leave = hc_leave,
	.end = hc_end,
	.pids = hc_pids,
};
