/* archive_world.h - a small archive with every kind of entry: written, expected, and read to its end.
 *
 * tests/golden/archive/ holds it as it was written by each version of the format.
 */
#ifndef HC_TESTS_ARCHIVE_WORLD_H
#define HC_TESTS_ARCHIVE_WORLD_H
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "../../daemon/archive/archive.h"
#include "../kit/t.h"

#define ARCHIVE_SOME_LSN 0x123456789abull

static const struct archive_head archive_some_head = {.flags = ARCHIVE_CHECKPOINT,
	.log_id = "0123456789abcde",
	.begin_lsn = ARCHIVE_SOME_LSN,
	.begun_ns = 1700000000000000000ull};

static const struct archive_store archive_some_stores[2] = {
	{.idx = 0, .id = 7, .name = "default", .definition = "type=general\nttl=10m\n"},
	{.idx = 1, .id = 9, .name = "Sessions-2.x", .definition = ""},
};

static const struct archive_entry archive_some[] = {
	{.key = "plain", .key_bytes = 5, .value = "value", .value_bytes = 5, .version = 11},
	{.key = "\0\xff\n\0", .key_bytes = 4, .value = "\0\0\1", .value_bytes = 3, .version = 12},
	{.key = "empty", .key_bytes = 5, .value = "", .version = 13, .store = 1},
	{.key = "k",
		.key_bytes = 1,
		.value = "all",
		.value_bytes = 3,
		.version = ARCHIVE_SOME_LSN + 5,
		.store = 1,
		.flags = 0xdeadbeef,
		.hits = 77,
		.ttl_ms = 600000,
		.created_ns = 1,
		.modified_ns = 2,
		.used_ns = 3,
		.stamp = UINT64_MAX,
		.expires_ns = 1800000000000000000ull},
	{.key = "absent",
		.key_bytes = 6,
		.value = "",
		.version = 14,
		.marks = ARCHIVE_ABSENT,
		.expires_ns = 1800000000000000000ull},
	{.key = "fresh",
		.key_bytes = 5,
		.value = "until then, or nearly",
		.value_bytes = 21,
		.version = 15,
		.marks = ARCHIVE_FRESH,
		.fresh_until_ns = 1750000000000000000ull,
		.took_ms = 12},
	{.key = "repeats",
		.key_bytes = 7,
		.value =
			"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
			"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		.value_bytes = 140,
		.version = 16},
};
enum { ARCHIVE_SOME_N = sizeof archive_some / sizeof *archive_some };

static inline int archive_memfd(void)
{
	int fd = memfd_create("archive", MFD_CLOEXEC);

	CHECK(fd >= 0);
	return fd;
}

static inline void archive_write_some(int fd, const struct archive_writer_opts *opts)
{
	struct archive_writer *w;
	struct archive_end end;

	CHECK_EQ(archive_writer_new(&w, fd, &archive_some_head, archive_some_stores, 2, opts), 0);
	for (uint32_t i = 0; i < ARCHIVE_SOME_N; i++)
		CHECK_EQ(archive_put(w, &archive_some[i]), 0);
	CHECK_EQ(archive_finish(w, &end), 0);
	CHECK_EQ(end.n_entries, ARCHIVE_SOME_N);
	CHECK_EQ(end.end_lsn, ARCHIVE_SOME_LSN + 5);
	archive_writer_free(w);
}

static inline void archive_expect_entry(
	const struct archive_entry *e, const struct archive_entry *want)
{
	CHECK_EQ(e->key_bytes, want->key_bytes);
	CHECK_EQ(e->value_bytes, want->value_bytes);
	CHECK_EQ(memcmp(e->key, want->key, e->key_bytes), 0);
	CHECK_EQ(memcmp(e->value, want->value, e->value_bytes), 0);
	CHECK_EQ(e->store, want->store);
	CHECK_EQ(e->marks, want->marks);
	CHECK_EQ(e->flags, want->flags);
	CHECK_EQ(e->hits, want->hits);
	CHECK_EQ(e->ttl_ms, want->ttl_ms);
	CHECK_EQ(e->took_ms, want->took_ms);
	CHECK_EQ(e->version, want->version);
	CHECK_EQ(e->created_ns, want->created_ns);
	CHECK_EQ(e->modified_ns, want->modified_ns);
	CHECK_EQ(e->used_ns, want->used_ns);
	CHECK_EQ(e->stamp, want->stamp);
	CHECK_EQ(e->expires_ns, want->expires_ns);
	CHECK_EQ(e->fresh_until_ns, want->fresh_until_ns);
}

static inline void archive_expect_some(int fd)
{
	struct archive_reader *r;
	struct archive_entry e;
	uint32_t n;

	CHECK_EQ(archive_reader_new(&r, fd), 0);
	const struct archive_head *h = archive_head_of(r);
	CHECK_EQ(h->flags, ARCHIVE_CHECKPOINT);
	CHECK_EQ(memcmp(h->log_id, archive_some_head.log_id, sizeof h->log_id), 0);
	CHECK_EQ(h->begin_lsn, ARCHIVE_SOME_LSN);
	CHECK_EQ(h->begun_ns, archive_some_head.begun_ns);
	const struct archive_store *s = archive_stores_of(r, &n);
	CHECK_EQ(n, 2);
	for (uint32_t i = 0; i < n; i++) {
		CHECK_EQ(s[i].idx, i);
		CHECK_EQ(s[i].id, archive_some_stores[i].id);
		CHECK_STR(s[i].name, archive_some_stores[i].name);
		CHECK_STR(s[i].definition, archive_some_stores[i].definition);
	}
	for (uint32_t i = 0; i < ARCHIVE_SOME_N; i++) {
		CHECK_EQ(archive_next(r, &e), 0);
		archive_expect_entry(&e, &archive_some[i]);
	}
	CHECK_EQ(archive_next(r, &e), ARCHIVE_END);
	CHECK_EQ(archive_end_of(r)->n_entries, ARCHIVE_SOME_N);
	CHECK_STR(archive_fault(r), "");
	archive_reader_free(r);
}

/* Reads these bytes to the end, or to a condition, and what it says. */
static inline int archive_result_of(const void *bytes, size_t n, char *why, size_t why_bytes)
{
	struct archive_reader *r = NULL;
	struct archive_entry e;
	int fd = archive_memfd();

	CHECK_EQ(write(fd, bytes, n), (ssize_t)n);
	CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
	int result = archive_reader_new(&r, fd);
	while (result == 0)
		result = archive_next(r, &e);
	(void)snprintf(why, why_bytes, "%s", r ? archive_fault(r) : "");
	archive_reader_free(r);
	CHECK_EQ(close(fd), 0);
	return result;
}

#endif
