/* bench_lmdb.c - LMDB as a subject, in a file that is never synced.
 *
 * A read that is to see the newest data needs a transaction of its own, which is kept and renewed: that is
 * what is compared with hc_get.  The same in one long transaction, which sees old data only, beside it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <lmdb.h>
#include <unistd.h>
#include "bench_host.h"
#include "bench_subject.h"

static struct data data;
static char file[2 * SUBJECT_TEXT_BYTES];
static MDB_env *env;
static MDB_dbi dbi;
static MDB_txn *reader; /* reset */

static void check(int r)
{
	if (r != 0)
		subject_fail("lmdb", mdb_strerror(r));
}

static const char *lmdb_begin(const struct setup *setup)
{
	data = setup->data;
	(void)snprintf(file, sizeof file, "%s/lmdb", setup->folder);
	check(mdb_env_create(&env));
	check(mdb_env_set_mapsize(
		env, data.keys * (2 * data.value_bytes + 4 * KEY_BYTES + 64) + (64 << 20)));
	check(mdb_env_open(
		env, file, MDB_NOSUBDIR | MDB_NOSYNC | MDB_WRITEMAP | MDB_NORDAHEAD, 0600));
	return NULL;
}

static void put(MDB_txn *txn, const uint8_t *key, uint8_t *value)
{
	MDB_val k = {KEY_BYTES, (void *)(uintptr_t)key}, v = {data.value_bytes, value};

	memcpy(value, key, 8);
	check(mdb_put(txn, dbi, &k, &v, 0));
}

static void lmdb_fill(void)
{
	uint8_t key[KEY_BYTES], *value = data_values(&data, 1);
	MDB_txn *txn;

	check(mdb_txn_begin(env, NULL, 0, &txn));
	check(mdb_dbi_open(txn, NULL, 0, &dbi));
	for (uint64_t i = 0; i < data.keys; i++) {
		data_key(i, key);
		put(txn, key, value);
	}
	check(mdb_txn_commit(txn));
	free(value);
	check(mdb_txn_begin(env, NULL, MDB_RDONLY, &reader));
	mdb_txn_reset(reader);
}

static void *lmdb_join(enum join how)
{
	(void)how;
	return env;
}

static void lmdb_leave(void *session) { (void)session; }

static void lmdb_end(void)
{
	char lock[sizeof file + 8];

	mdb_txn_abort(reader);
	mdb_env_close(env);
	(void)snprintf(lock, sizeof lock, "%s-lock", file);
	(void)unlink(lock);
	(void)unlink(file);
}

static bool find(const uint8_t *key, MDB_val *v)
{
	MDB_val k = {KEY_BYTES, (void *)(uintptr_t)key};

	return mdb_get(reader, dbi, &k, v) == 0;
}

static uint64_t run_get(void *session, const struct work *w, const uint8_t *key, size_t n)
{
	uint64_t sum = 0;
	MDB_val v;

	(void)session;
	for (const uint8_t *end = key + n * KEY_BYTES; key < end; key += KEY_BYTES) {
		check(mdb_txn_renew(reader));
		if (find(key, &v) && v.mv_size <= w->value_bytes) {
			memcpy(w->buf, v.mv_data, v.mv_size);
			sum += data_word(w->buf);
		}
		mdb_txn_reset(reader);
	}
	return sum;
}

static uint64_t run_get_long(void *session, const struct work *w, const uint8_t *key, size_t n)
{
	uint64_t sum = 0;
	MDB_val v;

	(void)session;
	check(mdb_txn_renew(reader));
	for (const uint8_t *end = key + n * KEY_BYTES; key < end; key += KEY_BYTES)
		if (find(key, &v) && v.mv_size <= w->value_bytes) {
			memcpy(w->buf, v.mv_data, v.mv_size);
			sum += data_word(w->buf);
		}
	mdb_txn_reset(reader);
	return sum;
}

static uint64_t run_set(void *session, const struct work *w, const uint8_t *key, size_t n)
{
	uint64_t sum = 0;

	(void)session;
	for (const uint8_t *end = key + n * KEY_BYTES; key < end; key += KEY_BYTES) {
		MDB_txn *txn;
		check(mdb_txn_begin(env, NULL, 0, &txn));
		put(txn, key, w->values);
		check(mdb_txn_commit(txn));
		sum += data_word(key);
	}
	return sum;
}

static const struct kind kinds[] = {
	{"lmdb_get", "LMDB get", 1, 4, KIND_GET, run_get},
	{"lmdb_get_long", "LMDB get, one long transaction", 1, 4, 0, run_get_long},
	{"lmdb_set", "LMDB put, no sync", 1, 64, KIND_WRITES | KIND_SET, run_set},
};

const struct subject subject_lmdb = {
	.word = "lmdb",
	.kinds = kinds,
	.n_kinds = sizeof kinds / sizeof *kinds,
	.begin = lmdb_begin,
	.fill = lmdb_fill,
	.join = lmdb_join,
	.leave = lmdb_leave,
	.end = lmdb_end,
};
