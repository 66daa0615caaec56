/* bench_sqlite.c - SQLite as a subject: a table in memory, prepared statements, no journal. */
#include <stdlib.h>
#include <sqlite3.h>
#include "bench_subject.h"

static struct data data;
static sqlite3 *db;
static sqlite3_stmt *select_one, *put_one;

static void check(int r)
{
	if (r != SQLITE_OK && r != SQLITE_DONE)
		subject_fail("sqlite", sqlite3_errstr(r));
}

static void run_text(const char *sql) { check(sqlite3_exec(db, sql, NULL, NULL, NULL)); }

static const char *sqlite_begin(const struct setup *setup)
{
	data = setup->data;
	check(sqlite3_open_v2(":memory:", &db,
		SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL));
	run_text("PRAGMA journal_mode=OFF; PRAGMA locking_mode=EXCLUSIVE;"
		 "CREATE TABLE cache (k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID");
	check(sqlite3_prepare_v2(db, "SELECT v FROM cache WHERE k = ?", -1, &select_one, NULL));
	check(sqlite3_prepare_v2(db, "REPLACE INTO cache VALUES (?, ?)", -1, &put_one, NULL));
	return NULL;
}

static void put(const uint8_t *key, uint8_t *value)
{
	memcpy(value, key, 8);
	check(sqlite3_bind_blob(put_one, 1, key, KEY_BYTES, SQLITE_STATIC));
	check(sqlite3_bind_blob64(put_one, 2, value, data.value_bytes, SQLITE_STATIC));
	check(sqlite3_step(put_one));
	check(sqlite3_reset(put_one));
}

static void sqlite_fill(void)
{
	uint8_t key[KEY_BYTES], *value = data_values(&data, 1);

	run_text("BEGIN");
	for (uint64_t i = 0; i < data.keys; i++) {
		data_key(i, key);
		put(key, value);
	}
	run_text("COMMIT");
	free(value);
}

static void *sqlite_join(enum join how)
{
	(void)how;
	return db;
}

static void sqlite_leave(void *session) { (void)session; }

static void sqlite_end(void)
{
	(void)sqlite3_finalize(select_one);
	(void)sqlite3_finalize(put_one);
	(void)sqlite3_close(db);
}

static uint64_t run_get(void *session, const struct work *w, const uint8_t *key, size_t n)
{
	uint64_t sum = 0;

	(void)session;
	for (const uint8_t *end = key + n * KEY_BYTES; key < end; key += KEY_BYTES) {
		check(sqlite3_bind_blob(select_one, 1, key, KEY_BYTES, SQLITE_STATIC));
		if (sqlite3_step(select_one) == SQLITE_ROW &&
			(size_t)sqlite3_column_bytes(select_one, 0) <= w->value_bytes) {
			memcpy(w->buf, sqlite3_column_blob(select_one, 0), w->value_bytes);
			sum += data_word(w->buf);
		}
		check(sqlite3_reset(select_one));
	}
	return sum;
}

static uint64_t run_set(void *session, const struct work *w, const uint8_t *key, size_t n)
{
	uint64_t sum = 0;

	(void)session;
	for (const uint8_t *end = key + n * KEY_BYTES; key < end; key += KEY_BYTES) {
		put(key, w->values);
		sum += data_word(key);
	}
	return sum;
}

static const struct kind kinds[] = {
	{"sqlite_get", "SQLite select, in memory", 1, 8, KIND_GET, run_get},
	{"sqlite_set", "SQLite replace, in memory", 1, 16, KIND_WRITES | KIND_SET, run_set},
};

const struct subject subject_sqlite = {
	.word = "sqlite",
	.kinds = kinds,
	.n_kinds = sizeof kinds / sizeof *kinds,
	.begin = sqlite_begin,
	.fill = sqlite_fill,
	.join = sqlite_join,
	.leave = sqlite_leave,
	.end = sqlite_end,
};
