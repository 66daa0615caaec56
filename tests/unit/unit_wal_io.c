/* unit_wal_io.c - does the log write to real files through each loop, locked down as an engine is, and is what it has
 * said read back? */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../../daemon/eng_lock.h"
#include "../../daemon/eng_loop.h"
#include "../../daemon/wal/wal.h"
#include "../../daemon/wal/wal_read.h"

enum { SEGMENT = 256 << 10, STAGE = 512 << 10, SEGMENTS = 6, RECORDS = 900, TURNS = 100000 };

static const uint8_t identity[WAL_IDENTITY_BYTES] = "real files";
static uint8_t stage[STAGE] __attribute__((aligned(4096)));

struct real {
	struct eng_loop *l;
	struct wal_io *io;
	struct wal *w;
	int fd[SEGMENTS];
	uint64_t n_given, said;
};

static void on_durable(void *arg, uint64_t lsn)
{
	struct real *x = arg;

	CHECK(lsn > x->said);
	x->said = lsn;
}

static void on_failed(void *arg, int error)
{
	(void)arg;
	t_fail(__FILE__, __LINE__, "a write failed: %s", strerror(-error));
}

static void on_released(void *arg, const struct wal_segment *s, uint64_t last_lsn)
{
	(void)arg, (void)last_lsn;
	CHECK_EQ(close(s->fd), 0);
}

static const char *path_of(uint64_t number)
{
	char name[WAL_NAME_BYTES];

	wal_name_format(name, number);
	return t_path(name);
}

/* O_DIRECT where the file system has it: what is asked here holds with and without. */
static int segment_open(uint64_t number)
{
	int made = open(path_of(number), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	CHECK(made >= 0);
	CHECK_EQ(wal_segment_zero(made, 0, SEGMENT), 0);
	int fd = open(path_of(number), O_RDWR | O_DIRECT | O_CLOEXEC);
	if (fd < 0)
		return made;
	CHECK_EQ(close(made), 0);
	return fd;
}

static void give(struct real *x)
{
	while (wal_segments_wanted(x->w) && x->n_given < SEGMENTS) {
		CHECK_EQ(wal_segment_give(
				 x->w, &(struct wal_segment){x->n_given + 1, x->fd[x->n_given]}),
			0);
		x->n_given++;
	}
}

static void turn(struct real *x)
{
	give(x);
	(void)wal_submit(x->w);
	CHECK_EQ(eng_loop_wait(x->l, wal_n_writes(x->w) > 0), 0);
	eng_loop_dispatch(x->l);
}

static void append_all(struct real *x)
{
	static char value[1000];

	for (uint64_t lsn = 1; lsn <= RECORDS;) {
		struct wal_change c = {.kind = WAL_SET,
			.lsn = lsn,
			.key = "key",
			.key_bytes = 3,
			.head = value,
			.head_bytes = lsn % sizeof value};
		int r = wal_append(x->w, &c);
		CHECK(r == 0 || r == WAL_FULL);
		if (r == 0) {
			wal_settle(x->w);
			lsn++;
		}
		if (r != 0 || lsn % 7 == 0)
			turn(x);
	}
	for (int i = 0; i < TURNS && x->said < RECORDS; i++)
		turn(x);
	CHECK_EQ(x->said, RECORDS);
	CHECK_EQ(wal_close(x->w), 0);
	while (wal_n_writes(x->w))
		turn(x);
}

/* In a process of its own, which cannot come back from being locked down. */
static void write_locked(enum config_io io)
{
	struct wal_opts o = {.stage = stage,
		.stage_bytes = STAGE,
		.segment_bytes = SEGMENT,
		.writes_max = 4,
		.durable = on_durable,
		.failed = on_failed,
		.released = on_released};
	char what[ENG_LOCK_TEXT_BYTES];
	struct real x = {0};
	const char *why;

	if (eng_loop_new(io, 64, &x.l, &why) < 0)
		_exit(T_SKIPPED);
	memcpy(o.identity, identity, sizeof o.identity);
	for (uint64_t i = 0; i < SEGMENTS; i++)
		x.fd[i] = segment_open(i + 1);
	CHECK_EQ(wal_io_loop_new(x.l, stage, STAGE, &x.io), 0);
	CHECK(x.io->how != NULL);
	CHECK_EQ(eng_lock_rights(true), 0);
	(void)eng_lock_calls(what);
	o.io = x.io;
	o.arg = &x;
	CHECK_EQ(wal_new(&o, &(struct wal_end){0}, &x.w), 0);
	append_all(&x);
	wal_free(x.w);
	wal_io_loop_free(x.io);
	eng_loop_free(x.l);
	_exit(0);
}

static int see(void *arg, const struct wal_read_record *got)
{
	uint64_t *n = arg;

	CHECK_EQ(got->r->lsn, ++*n);
	CHECK_EQ(got->r->value_bytes, *n % 1000);
	return 0;
}

static void ask(enum config_io io)
{
	struct wal_file files[SEGMENTS];
	struct wal_read_result got;
	uint64_t n = 0;

	fflush(NULL);
	(void)t_dir();
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0)
		write_locked(io);
	int status = t_wait_child(pid, t_limit_ms(30000));
	if (WIFEXITED(status) && WEXITSTATUS(status) == T_SKIPPED)
		SKIP("io_uring is not allowed here");
	CHECK_EQ(status, 0);
	for (uint64_t i = 0; i < SEGMENTS; i++) {
		files[i] = (struct wal_file){.number = i + 1, .bytes = SEGMENT};
		files[i].fd = open(path_of(i + 1), O_RDONLY | O_CLOEXEC);
		CHECK(files[i].fd >= 0);
	}
	struct wal_read_opts o = {.files = files,
		.n_files = SEGMENTS,
		.identity = identity,
		.durable_lsn = RECORDS,
		.sync = true,
		.record = see,
		.arg = &n};
	CHECK_EQ(wal_read(&o, &got), 0);
	CHECK_EQ(n, RECORDS);
	CHECK(got.closed && !got.torn && got.n_segments >= 2);
	for (int i = 0; i < SEGMENTS; i++)
		CHECK_EQ(close(files[i].fd), 0);
}

TEST(through_io_uring_what_was_said_is_there) { ask(CONFIG_IO_URING); }

TEST(through_io_uring_without_deferral_what_was_said_is_there) { ask(CONFIG_IO_URING_PLAIN); }

TEST(through_a_thread_beside_epoll_what_was_said_is_there) { ask(CONFIG_IO_EPOLL); }
