/* unit_load.c - does a checkpoint come back into the pools, and is the next one taken when it is none? */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../../daemon/archive/archive_file.h"
#include "../../daemon/checkpoint.h"
#include "../../daemon/eng_load.h"
#include "../kit/t_step.h"
#include "room_world.h"

enum { N = 3000, VALUE_BYTES = 200, STORES = 2, WAIT_MS = 20000 };

static const uint8_t log_id[16] = "a log's identity", other_id[16] = "another log's id";
static struct room w;
static struct eng_applied applied;
static int folder = -1;

static void begin(void)
{
	room_new(&w, 16 * ROOM_MIB, STORES);
	for (uint32_t i = 0; i < STORES; i++)
		w.e->store[i].max_value_bytes = ROOM_MIB;
	eng_apply_begin(w.e, &applied);
	folder = open(t_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(folder >= 0);
}

static void end(void)
{
	eng_apply_end(w.e, &applied);
	room_check(&w);
	room_free(&w);
	CHECK_EQ(close(folder), 0);
}

/* As the process writes it: n entries, in turn of both stores, of versions from `version` on. */
static void write_new(uint64_t begin_lsn, const uint8_t *id, uint32_t n, uint64_t version)
{
	struct archive_head head = {.flags = ARCHIVE_CHECKPOINT, .begin_lsn = begin_lsn};
	struct archive_store stores[STORES] = {
		{.name = "s0", .id = 100}, {.name = "s1", .id = 101}};
	struct archive_writer *to;
	struct archive_file f;
	static const uint8_t value[VALUE_BYTES];

	memcpy(head.log_id, id, sizeof head.log_id);
	CHECK_EQ(archive_file_begin(&f, folder, CHECKPOINT_NEW, 0600), 0);
	CHECK_EQ(archive_writer_new(&to, f.fd, &head, stores, STORES, NULL), 0);
	for (uint32_t i = 0; i < n; i++) {
		uint8_t bytes[ROOM_KEY_BYTES];
		(void)room_key(&w, i % STORES, i, bytes);
		struct archive_entry e = {.key = bytes,
			.key_bytes = sizeof bytes,
			.value = value,
			.value_bytes = VALUE_BYTES,
			.store = i % STORES,
			.version = version + i};
		CHECK_EQ(archive_put(to, &e), 0);
	}
	CHECK_EQ(archive_finish(to, NULL), 0);
	archive_writer_free(to);
	CHECK_EQ(archive_file_commit(&f), 0);
	archive_file_end(&f);
}

static void good(uint64_t begin_lsn, uint64_t version)
{
	char why[CHECKPOINT_WHY_BYTES];

	write_new(begin_lsn, log_id, N, version);
	CHECK_EQ(checkpoint_commit(folder, log_id, why), 0);
}

static void expect(uint64_t version)
{
	for (uint32_t i = 0; i < N; i++) {
		uint64_t off = room_find(&w, i % STORES, i);
		CHECK(off);
		CHECK_EQ(shm_pool_item(&w.p->w, off)->version, version + i);
	}
}

static void damage(uint64_t begin_lsn, uint64_t at)
{
	char name[CHECKPOINT_NAME_BYTES];
	uint8_t byte;

	(void)snprintf(name, sizeof name, "checkpoint-%016llx.hca", (unsigned long long)begin_lsn);
	int fd = openat(folder, name, O_RDWR | O_CLOEXEC);
	CHECK(fd >= 0);
	CHECK_EQ(pread(fd, &byte, 1, (off_t)at), 1);
	byte ^= 1;
	CHECK_EQ(pwrite(fd, &byte, 1, (off_t)at), 1);
	CHECK_EQ(close(fd), 0);
}

TEST(two_good_ones_are_kept_and_the_newest_is_loaded)
{
	struct checkpoint_file files[CHECKPOINT_MAX];
	struct eng_load load = {.log_id = log_id};

	begin();
	CHECK_EQ(eng_load_newest(w.e, folder, &load, &applied), ENG_LOAD_NONE);
	CHECK_EQ(checkpoint_needs_from(folder), 1);
	good(10, 1000);
	CHECK_EQ(checkpoint_needs_from(folder),
		1); /* without another one all of the log is the other one */
	good(20, 10000);
	CHECK_EQ(checkpoint_needs_from(folder), 11);
	good(30, 20000);
	CHECK_EQ(checkpoint_needs_from(folder), 21);
	CHECK_EQ(checkpoint_list(folder, files, CHECKPOINT_MAX), 2);
	CHECK_EQ(files[0].begin_lsn, 30);
	CHECK_EQ(files[1].begin_lsn, 20);
	CHECK_EQ(eng_load_newest(w.e, folder, &load, &applied), 0);
	CHECK_STR(load.name, files[0].name);
	CHECK_EQ(load.head.begin_lsn, 30);
	CHECK_EQ(load.end.end_lsn, 20000 + N - 1);
	CHECK_EQ(load.n_bad, 0);
	CHECK_EQ(applied.set, N);
	expect(20000);
	end();
}

TEST(bad_one_falls_back_to_the_one_before)
{
	struct eng_load load = {.log_id = log_id};

	begin();
	good(10, 1000);
	good(20, 1000); /* nothing has changed since */
	damage(20, 300000);
	CHECK_EQ(eng_load_newest(w.e, folder, &load, &applied), 0);
	CHECK_EQ(load.head.begin_lsn, 10);
	CHECK_EQ(load.n_bad, 1);
	CHECK(strstr(load.why, "checkpoint-0000000000000014.hca: byte "));
	expect(1000);
	damage(10, 20);
	CHECK_EQ(eng_load_newest(w.e, folder, &load, &applied), ENG_LOAD_NONE);
	CHECK_EQ(load.n_bad, 2);
	end();
}

TEST(one_of_another_log_is_none)
{
	struct eng_load load = {.log_id = log_id};
	char why[CHECKPOINT_WHY_BYTES];

	begin();
	CHECK_EQ(checkpoint_commit(folder, log_id, why), -ENOENT);
	write_new(10, other_id, N, 1);
	CHECK_EQ(checkpoint_commit(folder, log_id, why), 1);
	CHECK_STR(why, "checkpoint.new: it is of another log");
	CHECK_EQ(checkpoint_commit(folder, other_id, why), 0);
	CHECK_EQ(eng_load_newest(w.e, folder, &load, &applied), ENG_LOAD_NONE);
	CHECK_EQ(applied.set, 0);
	CHECK(strstr(load.why, "another log"));
	end();
}

TEST(half_a_file_is_not_committed)
{
	char why[CHECKPOINT_WHY_BYTES];

	begin();
	write_new(10, log_id, N, 1);
	int fd = openat(folder, CHECKPOINT_NEW, O_RDWR | O_CLOEXEC);
	CHECK_EQ(ftruncate(fd, 100000), 0);
	CHECK_EQ(close(fd), 0);
	CHECK_EQ(checkpoint_commit(folder, log_id, why), 1);
	CHECK_STR(why, "checkpoint.new: it is not finished");
	checkpoint_clean(folder);
	CHECK(faccessat(folder, CHECKPOINT_NEW, F_OK, 0) < 0);
	end();
}

static uint64_t first_store_only(void *arg, const struct archive_store *s)
{
	(void)arg;
	return strcmp(s->name, "s0") == 0 ? 100 : 0;
}

TEST(store_that_is_not_wanted_is_left_out)
{
	struct eng_load load = {.resolve = first_store_only};

	begin();
	good(10, 1);
	CHECK_EQ(eng_load_newest(w.e, folder, &load, &applied), 0);
	CHECK_EQ(applied.set, N / 2);
	CHECK_EQ(applied.no_store, N / 2);
	end();
}

#ifdef HC_STEPS
TEST(killed_while_it_is_committed_it_is_good_or_new)
{
	static const char *const marks[] = {"checkpoint:looked-at", "checkpoint:named"};
	struct eng_load load = {.log_id = log_id};

	begin();
	good(10, 1);
	good(20, 1);
	for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
		fflush(NULL);
		pid_t pid = fork();
		CHECK(pid >= 0);
		if (pid == 0) {
			t_step_kill_at(marks[i], 1);
			good(30, 1);
			_exit(1);
		}
		CHECK_EQ(WTERMSIG(t_wait_child(pid, WAIT_MS)), SIGKILL);
		CHECK_EQ(eng_load_newest(w.e, folder, &load, &applied), 0);
		CHECK_EQ(load.head.begin_lsn, i == 0 ? 20 : 30);
		t_step_killed(marks[i]);
	}
	end();
}
#endif
