/* unit_archive.c - does an archive give back what was put into it, and is every damaged one refused by name? */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../../daemon/archive/archive.h"
#include "../../daemon/archive/archive_file.h"
#include "../../shm/step.h"
#include "../kit/t.h"
#include "../kit/t_step.h"
#include "archive_world.h"

enum { LARGE_BYTES = 3 << 20, MANY = 3000, MANY_BYTES = 700, WAIT_MS = 20000 };

static const struct archive_writer_opts packed = {.zstd_level = 3};

static bool has_zstd(void)
{
	struct archive_writer *w = NULL;
	int fd = archive_memfd();
	bool has = archive_writer_new(
			   &w, fd, &archive_some_head, archive_some_stores, 2, &packed) == 0;

	archive_writer_free(w);
	CHECK_EQ(close(fd), 0);
	return has;
}

/* ------------------------------------------------------------ what is put comes back */

static int some(const struct archive_writer_opts *opts)
{
	int fd = archive_memfd();

	archive_write_some(fd, opts);
	CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

TEST(every_kind_of_entry_comes_back)
{
	int fd = some(NULL);

	archive_expect_some(fd);
	CHECK_EQ(close(fd), 0);
}

TEST(every_kind_of_entry_comes_back_from_a_compressed_one)
{
	if (!has_zstd())
		SKIP("built without libzstd");
	int fd = some(&packed);
	archive_expect_some(fd);
	CHECK_EQ(close(fd), 0);
}

static void many_put(struct archive_writer *w, uint8_t *value)
{
	for (uint32_t i = 0; i < MANY; i++) {
		uint32_t bytes = i == MANY / 2 ? LARGE_BYTES : i % MANY_BYTES;
		struct archive_entry e = {.key = &i,
			.key_bytes = sizeof i,
			.value = value,
			.value_bytes = bytes,
			.version = i + 1};
		memset(value, (int)i, bytes);
		CHECK_EQ(archive_put(w, &e), 0);
	}
}

static void many_expect(int fd)
{
	struct archive_reader *r;
	struct archive_entry e;
	uint64_t blocks_least = MANY / 2 * MANY_BYTES / ARCHIVE_BLOCK_BYTES + 2;

	CHECK_EQ(archive_reader_new(&r, fd), 0);
	for (uint32_t i = 0; i < MANY; i++) {
		const uint8_t *value;
		CHECK_EQ(archive_next(r, &e), 0);
		CHECK_EQ(memcmp(e.key, &i, sizeof i), 0);
		CHECK_EQ(e.value_bytes, i == MANY / 2 ? (uint32_t)LARGE_BYTES : i % MANY_BYTES);
		value = e.value;
		for (uint32_t at = 0; at < e.value_bytes; at++)
			CHECK(value[at] == (uint8_t)i);
	}
	CHECK_EQ(archive_next(r, &e), ARCHIVE_END);
	CHECK_EQ(archive_next(r, &e), ARCHIVE_END); /* and stays there */
	CHECK_EQ(archive_end_of(r)->n_entries, MANY);
	CHECK_EQ(archive_end_of(r)->end_lsn, MANY);
	CHECK(archive_end_of(r)->n_blocks >= blocks_least);
	archive_reader_free(r);
}

static void many(const struct archive_writer_opts *opts)
{
	uint8_t *value = malloc(LARGE_BYTES);
	struct archive_writer *w;
	struct archive_end end;
	struct stat st;
	int fd = archive_memfd();

	CHECK(value);
	CHECK_EQ(archive_writer_new(&w, fd, &archive_some_head, archive_some_stores, 2, opts), 0);
	many_put(w, value);
	CHECK_EQ(archive_finish(w, &end), 0);
	CHECK_EQ(end.n_entries, MANY);
	CHECK_EQ(fstat(fd, &st), 0);
	CHECK_EQ((uint64_t)st.st_size, archive_writer_bytes(w));
	if (opts)
		CHECK(st.st_size < LARGE_BYTES / 4);
	archive_writer_free(w);
	CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
	many_expect(fd);
	CHECK_EQ(close(fd), 0);
	free(value);
}

TEST(many_entries_and_a_large_one_take_several_blocks) { many(NULL); }
TEST(many_entries_compressed)
{
	if (!has_zstd())
		SKIP("built without libzstd");
	many(&packed);
}

TEST(pipe_will_do)
{
	uint8_t *value = malloc(LARGE_BYTES);
	struct archive_writer *w;
	int fd[2];

	CHECK(value);
	CHECK_EQ(pipe(fd), 0);
	fflush(NULL);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		(void)close(fd[0]);
		CHECK_EQ(archive_writer_new(
				 &w, fd[1], &archive_some_head, archive_some_stores, 2, NULL),
			0);
		many_put(w, value);
		CHECK_EQ(archive_finish(w, NULL), 0);
		_exit(0);
	}
	CHECK_EQ(close(fd[1]), 0);
	many_expect(fd[0]);
	CHECK_EQ(close(fd[0]), 0);
	CHECK_EQ(t_wait_child(pid, WAIT_MS), 0);
	free(value);
}

TEST(golden_files_stay_readable)
{
	static const char *const names[] = {"v1-plain.hca", "v1-zstd.hca"};
	const char *root = getenv("HC_SOURCE_ROOT");
	char path[4096];

	CHECK(root);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		if (i == 1 && !has_zstd())
			continue;
		(void)snprintf(path, sizeof path, "%s/tests/golden/archive/%s", root, names[i]);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		CHECK(fd >= 0);
		archive_expect_some(fd);
		CHECK_EQ(close(fd), 0);
	}
}

/* ------------------------------------------------------------ what is refused */

TEST(entry_that_is_none_is_not_put)
{
	static const struct archive_entry bad[] = {
		{.key = "", .key_bytes = 0},
		{.key = "k", .key_bytes = ARCHIVE_KEY_MAX + 1},
		{.key = "k", .key_bytes = 1, .value_bytes = ARCHIVE_VALUE_MAX + 1},
		{.key = "k", .key_bytes = 1, .store = 2},
		{.key = "k", .key_bytes = 1, .marks = 4},
		{.key = "k",
			.key_bytes = 1,
			.marks = ARCHIVE_ABSENT,
			.value = "v",
			.value_bytes = 1},
		{.key = "k", .key_bytes = 1, .marks = ARCHIVE_FRESH, .stamp = 1},
		{.key = "k", .key_bytes = 1, .fresh_until_ns = 1},
	};
	struct archive_writer *w;
	struct archive_end end;
	int fd = archive_memfd();

	CHECK_EQ(archive_writer_new(&w, fd, &archive_some_head, archive_some_stores, 2, NULL), 0);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		CHECK_EQ(archive_put(w, &bad[i]), -EINVAL);
	CHECK_EQ(archive_finish(w, &end), 0);
	CHECK_EQ(end.n_entries, 0);
	archive_writer_free(w);
	CHECK_EQ(close(fd), 0);
}

/* The whole archive, read to its end or to a condition, which is returned and has words. */
static int result_of(const uint8_t *bytes, size_t n)
{
	char why[256];
	int r = archive_result_of(bytes, n, why, sizeof why);

	CHECK(r > 0);
	CHECK((r == ARCHIVE_END) == (why[0] == 0));
	return r;
}

static void damage_everywhere(const struct archive_writer_opts *opts)
{
	static uint8_t bytes[1 << 16], copy[1 << 16];
	int fd = some(opts);
	ssize_t n = read(fd, bytes, sizeof bytes);

	CHECK(n > 500 && n < (ssize_t)sizeof bytes);
	CHECK_EQ(result_of(bytes, (size_t)n), ARCHIVE_END);
	for (ssize_t cut = 0; cut < n; cut++)
		CHECK_EQ(result_of(bytes, (size_t)cut), cut < 8 ? ARCHIVE_FOREIGN : ARCHIVE_CUT);
	for (ssize_t at = 0; at < n; at++) {
		memcpy(copy, bytes, (size_t)n);
		copy[at] ^= (uint8_t)(1 + t_random_below(255));
		int r = result_of(copy, (size_t)n);
		if (r == ARCHIVE_END)
			t_fail(__FILE__, __LINE__, "byte %zd changed from %#x to %#x: not seen", at,
				bytes[at], copy[at]);
		CHECK(at < 8 ? r == ARCHIVE_FOREIGN : r != ARCHIVE_FOREIGN);
	}
	memcpy(copy, bytes, (size_t)n);
	copy[n] = 0;
	CHECK_EQ(result_of(copy, (size_t)n + 1), ARCHIVE_DAMAGED);
	CHECK_EQ(close(fd), 0);
}

TEST(every_damaged_byte_and_every_cut_is_refused) { damage_everywhere(NULL); }
TEST(every_damaged_byte_and_every_cut_is_refused_of_a_compressed_one)
{
	if (!has_zstd())
		SKIP("built without libzstd");
	damage_everywhere(&packed);
}

/* Blocks of archives with the same content: none may stand in another file, or in another place. */
TEST(block_of_another_archive_is_refused)
{
	static uint8_t a[1 << 16], b[1 << 16];
	int fd[2] = {some(NULL), some(NULL)};
	ssize_t n = read(fd[0], a, sizeof a);

	CHECK_EQ(read(fd[1], b, sizeof b), n);
	CHECK(memcmp(a + 16, b + 16, 16) != 0); /* their identities */
	memcpy(a + 128, b + 128, (size_t)n - 128);
	CHECK_EQ(result_of(a, (size_t)n), ARCHIVE_DAMAGED);
	CHECK_EQ(close(fd[0]), 0);
	CHECK_EQ(close(fd[1]), 0);
}

TEST(newer_version_is_refused_by_its_number)
{
	static uint8_t bytes[1 << 16];
	char why[256];
	int fd = some(NULL);
	ssize_t n = read(fd, bytes, sizeof bytes);

	bytes[8] = 9;
	CHECK_EQ(archive_result_of(bytes, (size_t)n, why, sizeof why), ARCHIVE_NEWER);
	CHECK(strstr(why, "version 9"));
	CHECK_EQ(close(fd), 0);
}

/* ------------------------------------------------------------ the disk */

TEST(full_disk_is_an_error_of_the_writer)
{
	struct archive_writer *w = NULL;
	int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		SKIP("no /dev/full");
	CHECK_EQ(archive_writer_new(&w, fd, &archive_some_head, archive_some_stores, 2, NULL),
		-ENOSPC);
	CHECK(!w);
	CHECK_EQ(close(fd), 0);
}

static int folder_new(void)
{
	const char *path = t_dir();
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	CHECK(fd >= 0);
	return fd;
}

static bool is_there(int folder, const char *name, const char *text)
{
	char buf[64] = "";
	int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	ssize_t n = read(fd, buf, sizeof buf - 1);
	CHECK_EQ(close(fd), 0);
	return n == (ssize_t)strlen(text) && memcmp(buf, text, (size_t)n) == 0;
}

static void write_file(int folder, const char *text, bool commit)
{
	struct archive_file f;

	CHECK_EQ(archive_file_begin(&f, folder, "it", 0600), 0);
	CHECK_EQ(write(f.fd, text, strlen(text)), (ssize_t)strlen(text));
	if (commit)
		CHECK_EQ(archive_file_commit(&f), 0);
	archive_file_end(&f);
}

TEST(file_is_there_whole_or_not_at_all)
{
	int folder = folder_new();
	struct archive_file f;

	write_file(folder, "one", false);
	CHECK(faccessat(folder, "it", F_OK, 0) < 0);
	write_file(folder, "one", true);
	CHECK(is_there(folder, "it", "one"));
	write_file(folder, "two", false);
	CHECK(is_there(folder, "it", "one"));
	write_file(folder, "two", true);
	CHECK(is_there(folder, "it", "two"));
	CHECK_EQ(archive_file_begin(&f, folder, "no/it", 0600), -ENOENT);
	CHECK_EQ(archive_file_begin(&f, folder, "it/", 0600), -EISDIR);
	CHECK_EQ(archive_file_begin(&f, folder, "", 0600), -EISDIR);
	CHECK_EQ(close(folder), 0);
}

#ifdef HC_STEPS
TEST(killed_at_each_mark_it_is_the_former_file_or_the_new_one)
{
	static const char *const marks[] = {"archive:synced", "archive:linked", "archive:renamed"};
	int folder = folder_new();

	write_file(folder, "one", true);
	for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
		fflush(NULL);
		pid_t pid = fork();
		CHECK(pid >= 0);
		if (pid == 0) {
			t_step_kill_at(marks[i], 1);
			write_file(folder, "two", true);
			_exit(1);
		}
		int status = t_wait_child(pid, WAIT_MS);
		CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		CHECK(is_there(folder, "it", i < 2 ? "one" : "two"));
		t_step_killed(marks[i]);
	}
	CHECK_EQ(close(folder), 0);
}
#endif
