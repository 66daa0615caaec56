/* bench_rocksdb.c - RocksDB as a subject: no log, no compression, a cache and filters large enough for all
 * entries, which are compacted before anything is measured. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <rocksdb/c.h>
#include "bench_subject.h"

enum { SETTLE_TRIES = 10000 }; /* of a ms */

static struct data data;
static char folder[2 * SUBJECT_TEXT_BYTES];
static rocksdb_t *db;
static rocksdb_options_t *options;
static rocksdb_readoptions_t *reads;
static rocksdb_writeoptions_t *writes;

static void check(char *error)
{
	if (error)
		subject_fail("rocksdb", error);
}

static const char *rocksdb_begin(const struct setup *setup)
{
	char *error = NULL;

	data = setup->data;
	(void)snprintf(folder, sizeof folder, "%s/rocksdb", setup->folder);
	options = rocksdb_options_create();
	rocksdb_options_set_create_if_missing(options, 1);
	rocksdb_options_set_compression(options, rocksdb_no_compression);
	rocksdb_options_optimize_for_point_lookup(options,
		2 * data.keys * (data.value_bytes + 64) / (1 << 20) + 64); /* MiB of cache */
	rocksdb_options_set_write_buffer_size(options, 256 << 20);
	reads = rocksdb_readoptions_create();
	rocksdb_readoptions_set_verify_checksums(reads, 0);
	writes = rocksdb_writeoptions_create();
	rocksdb_writeoptions_disable_WAL(writes, 1);
	db = rocksdb_open(options, folder, &error);
	check(error);
	return NULL;
}

static void put(const uint8_t *key, uint8_t *value)
{
	char *error = NULL;

	memcpy(value, key, 8);
	rocksdb_put(db, writes, (const char *)key, KEY_BYTES, (const char *)value, data.value_bytes,
		&error);
	check(error);
}

static void rocksdb_fill(void)
{
	uint8_t key[KEY_BYTES], *value = data_values(&data, 1);

	for (uint64_t i = 0; i < data.keys; i++) {
		data_key(i, key);
		put(key, value);
	}
	free(value);
	rocksdb_compact_range(db, NULL, 0, NULL, 0);
}

static void *rocksdb_join(enum join how)
{
	(void)how;
	return db;
}

static void rocksdb_leave(void *session) { (void)session; }

static void rocksdb_end(void)
{
	char *error = NULL;

	rocksdb_close(db);
	rocksdb_destroy_db(options, folder, &error);
	check(error);
	rocksdb_readoptions_destroy(reads);
	rocksdb_writeoptions_destroy(writes);
	rocksdb_options_destroy(options);
}

static uint64_t run_get(void *session, const struct work *w, const uint8_t *key, size_t n)
{
	uint64_t sum = 0;

	(void)session;
	for (const uint8_t *end = key + n * KEY_BYTES; key < end; key += KEY_BYTES) {
		char *error = NULL;
		rocksdb_pinnableslice_t *slice = rocksdb_get_pinned(
			db, reads, (const char *)key, KEY_BYTES, &error);
		check(error);
		size_t bytes = 0;
		const char *v = slice ? rocksdb_pinnableslice_value(slice, &bytes) : NULL;
		if (v && bytes <= w->value_bytes) {
			memcpy(w->buf, v, bytes);
			sum += data_word(w->buf);
		}
		rocksdb_pinnableslice_destroy(slice);
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

/* Flushes and compactions of the last puts, on threads of this process. */
static void rocksdb_settle(void)
{
	static const char *const under_way[] = {"rocksdb.num-running-flushes",
		"rocksdb.num-running-compactions", "rocksdb.mem-table-flush-pending",
		"rocksdb.compaction-pending"};
	const struct timespec pause = {.tv_nsec = 1000000};
	uint64_t n = 1;

	for (unsigned tries = 0; n != 0 && tries < SETTLE_TRIES; tries++) {
		n = 0;
		for (size_t i = 0; i < sizeof under_way / sizeof *under_way; i++) {
			uint64_t value = 0;
			if (rocksdb_property_int(db, under_way[i], &value) == 0)
				n += value;
		}
		if (n)
			(void)nanosleep(&pause, NULL);
	}
}

static const struct kind kinds[] = {
	{"rocksdb_get", "RocksDB get, from its cache", 1, 8, KIND_GET, run_get},
	{"rocksdb_set", "RocksDB put, no log", 1, 32, KIND_WRITES | KIND_SET, run_set},
};

const struct subject subject_rocksdb = {
	.word = "rocksdb",
	.kinds = kinds,
	.n_kinds = sizeof kinds / sizeof *kinds,
	.begin = rocksdb_begin,
	.fill = rocksdb_fill,
	.join = rocksdb_join,
	.leave = rocksdb_leave,
	.end = rocksdb_end,
	.settle = rocksdb_settle,
};
