/* unit_wal.c - does the log refuse what it has to, does its reader name each kind of damage with its place, and do files
 * of older versions stay readable? */
#include <fcntl.h>
#include <unistd.h>
#include "../../daemon/wal/wal_frame.h"
#include "wal_world.h"

enum { FRAMES = 30, SMALL = 16 << 10 };

/* ----------------------------------------------------------------- a log to damage */

static void make_durable(struct world *x)
{
	(void)wal_submit(x->wal);
	for (int i = 0; i < 1000 && wal_durable_lsn(x->wal) < wal_last_lsn(x->wal); i++) {
		world_give(x);
		(void)wal_submit(x->wal);
		(void)t_disk_turn(&x->disk);
	}
	CHECK_EQ(wal_durable_lsn(x->wal), wal_last_lsn(x->wal));
	while (t_disk_turn(&x->disk))
		;
}

/* Each frame has some records, and is durable before the next. */
static struct world *log_of(uint64_t seed, int n_frames)
{
	struct world *x = world_new(seed);

	for (int i = 0; i < n_frames; i++) {
		for (int k = 0; k < 3 || x->n == 0; k++)
			world_set(x);
		make_durable(x);
	}
	return x;
}

struct place {
	uint8_t *at;
	struct wal_frame *f;
	uint64_t segment, off;
};

/* The nth frame (1..) that is not a begin, in the order of its sequence. */
static struct place frame_of(struct world *x, int nth)
{
	struct wal_file files[T_DISK_FILES];
	size_t n = t_disk_files(&x->disk, files);

	for (size_t i = 0; i < n; i++)
		for (uint64_t off = 4096; off < T_DISK_FILE_BYTES; off += 4096) {
			uint8_t *at = (uint8_t *)(uintptr_t)files[i].map + off;
			if (wal_frame_check(at, world_identity, files[i].number,
				    (uint32_t)(off / 4096), 16) == 0 &&
				--nth == 0)
				return (struct place){at, (void *)at, files[i].number, off};
		}
	t_fail(__FILE__, __LINE__, "there are not so many frames");
}

static uint8_t *file_of(struct world *x, uint64_t number)
{
	for (int i = 0; i < T_DISK_FILES; i++)
		if (x->disk.file[i].number == number)
			return x->disk.file[i].bytes;
	t_fail(__FILE__, __LINE__, "there is no such file");
}

struct seen {
	struct world *x;
	uint64_t n, last_lsn;
	struct wal_damage d;
	uint64_t damages;
};

static int see_record(void *arg, const struct wal_read_record *got)
{
	struct seen *s = arg;

	CHECK(got->r->lsn > s->last_lsn);
	world_same(got);
	s->last_lsn = got->r->lsn;
	s->n++;
	return 0;
}

static void see_damage(void *arg, const struct wal_damage *d)
{
	struct seen *s = arg;

	if (s->damages++ == 0)
		s->d = *d;
}

static struct wal_file some_files[T_DISK_FILES];

static int read_by(struct world *x, enum wal_on_damage choice, uint64_t durable_lsn,
	struct seen *ret, struct wal_read_result *ret_read)
{
	struct wal_read_opts o = {.files = some_files,
		.n_files = t_disk_files(&x->disk, some_files),
		.identity = world_identity,
		.durable_lsn = durable_lsn,
		.choice = choice,
		.record = see_record,
		.damage = see_damage,
		.arg = ret};

	*ret = (struct seen){.x = x};
	return wal_read(&o, ret_read);
}

/* The damage is found as this kind, there; each choice loses what was said. */
static void check_damage(struct world *x, enum wal_damage_kind kind, uint64_t segment, uint64_t off)
{
	struct wal_read_result r;
	struct seen s, cut, skipped;

	CHECK_EQ(read_by(x, WAL_ON_DAMAGE_STOP, 0, &s, &r), -EBADMSG);
	CHECK_STR(wal_damage_name(s.d.kind), wal_damage_name(kind));
	CHECK_EQ(s.d.segment, segment);
	CHECK_EQ(s.d.off, off);
	CHECK_EQ(s.damages, 1);
	CHECK_EQ(s.d.last_lsn, s.last_lsn);
	CHECK_EQ(read_by(x, WAL_ON_DAMAGE_TRUNCATE, 0, &cut, &r), 0);
	CHECK_EQ(cut.n, s.n);
	CHECK_EQ(r.end.lsn, cut.last_lsn);
	CHECK_EQ(read_by(x, WAL_ON_DAMAGE_SKIP, 0, &skipped, &r), 0);
	CHECK(skipped.n >= s.n + s.d.after_records);
	CHECK(kind == WAL_DAMAGE_BEGIN ? skipped.n == x->n : skipped.n < x->n);
	CHECK(!s.d.next_lsn || skipped.last_lsn == x->lsn[x->n - 1]);
	CHECK(!s.d.next_lsn || s.d.end_lsn == x->lsn[x->n - 1]);
	CHECK(x->n - skipped.n <= 40);
}

static void reseal(struct place p)
{
	wal_frame_seal(p.at, world_identity, p.f->segment, p.f->block);
}

/* ----------------------------------------------------------------------- damage */

TEST(a_frame_whose_first_sector_is_damaged_is_named)
{
	struct world *x = log_of(1, FRAMES);
	struct place p = frame_of(x, 11);

	p.at[100] ^= 4;
	check_damage(x, WAL_DAMAGE_FRAME, p.segment, p.off);
	memset(p.at, 0, 4096);
	check_damage(x, WAL_DAMAGE_FRAME, p.segment, p.off);
	world_end(x);
}

TEST(contents_of_a_frame_that_are_damaged_are_named_by_their_block)
{
	struct world *x = log_of(2, FRAMES);

	for (int nth = 5; nth < 15; nth++) {
		struct place p = frame_of(x, nth);
		uint32_t block = p.f->n_blocks - 1;
		uint32_t at = block ? block * 4096 : 700;
		if (p.f->n_blocks > 3 || nth % 2) {
			p.at[at] ^= 0x40;
			check_damage(x, WAL_DAMAGE_UNIT, p.segment, p.off + block * 4096u);
			p.at[at] ^= 0x40;
		}
	}
	world_end(x);
}

TEST(a_record_that_was_spoilt_before_it_was_written_is_named)
{
	struct world *x = log_of(3, FRAMES);
	struct place p = frame_of(x, 9);
	struct wal_record *r = (void *)(p.at + WAL_SECTOR);

	((uint8_t *)(r + 1))[0] ^= 1;
	reseal(p);
	frame_of(x, 10).f->previous = p.f->crc;
	reseal(frame_of(x, 10));
	struct wal_read_result got;
	struct seen s;
	CHECK_EQ(read_by(x, WAL_ON_DAMAGE_STOP, 0, &s, &got), -EBADMSG);
	CHECK_STR(wal_damage_name(s.d.kind), "record");
	CHECK_EQ(s.d.segment, p.segment);
	CHECK_EQ(s.d.off, p.off + WAL_SECTOR);
	world_end(x);
}

TEST(an_lsn_that_is_not_higher_is_named)
{
	struct world *x = log_of(4, FRAMES);
	struct place p = frame_of(x, 9);
	struct wal_record *r = (void *)(p.at + WAL_SECTOR);

	r->lsn = x->lsn[0];
	r->crc = wal_record_crc(r);
	reseal(p);
	struct wal_read_result got;
	struct seen s;
	CHECK_EQ(read_by(x, WAL_ON_DAMAGE_STOP, 0, &s, &got), -EBADMSG);
	CHECK_STR(wal_damage_name(s.d.kind), "order");
	world_end(x);
}

TEST(a_frame_that_does_not_follow_is_named)
{
	struct world *x = log_of(5, FRAMES);
	struct place p = frame_of(x, 12);

	p.f->previous ^= 1;
	reseal(p);
	struct wal_read_result got;
	struct seen s;
	CHECK_EQ(read_by(x, WAL_ON_DAMAGE_STOP, 0, &s, &got), -EBADMSG);
	CHECK_STR(wal_damage_name(s.d.kind), "chain");
	CHECK_EQ(s.d.off, p.off);
	world_end(x);
}

TEST(a_begin_that_is_damaged_and_a_segment_that_is_missing_are_named)
{
	struct world *x = log_of(6, FRAMES);
	struct wal_read_result got;
	struct seen s;

	CHECK_EQ(read_by(x, WAL_ON_DAMAGE_STOP, 0, &s, &got), 0);
	CHECK_EQ(s.n, x->n);
	CHECK(got.n_segments >= 3);
	uint64_t second = got.first_segment + 1;
	file_of(x, second)[600] ^= 1;
	check_damage(x, WAL_DAMAGE_BEGIN, second, 0);
	file_of(x, second)[600] ^= 1;
	for (int i = 0; i < T_DISK_FILES; i++)
		if (x->disk.file[i].number == second)
			x->disk.file[i].number = 0;
	CHECK_EQ(read_by(x, WAL_ON_DAMAGE_STOP, 0, &s, &got), -EBADMSG);
	CHECK_STR(wal_damage_name(s.d.kind), "missing");
	CHECK_EQ(s.d.segment, second);
	CHECK(s.d.next_lsn > s.d.last_lsn && s.d.lost_frames > 1);
	CHECK_EQ(read_by(x, WAL_ON_DAMAGE_SKIP, 0, &s, &got), 0);
	CHECK_EQ(s.last_lsn, x->lsn[x->n - 1]);
	world_end(x);
}

TEST(a_file_that_was_cut_short_or_cannot_be_read_is_named)
{
	struct world *x = log_of(7, FRAMES);
	struct wal_read_result got;
	struct seen s = {.x = x};
	size_t n = t_disk_files(&x->disk, some_files);
	struct wal_read_opts o = {.files = some_files,
		.n_files = n,
		.identity = world_identity,
		.record = see_record,
		.damage = see_damage,
		.arg = &s};

	some_files[1].bytes = 3 * 4096;
	CHECK_EQ(wal_read(&o, &got), -EBADMSG);
	CHECK_STR(wal_damage_name(s.d.kind), "short");
	CHECK_EQ(s.d.off, 3 * 4096);
	/* A file whose begin can be read, and no more. */
	int fd = open(t_path("unreadable.wal"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK_EQ(pwrite(fd, some_files[1].map, 4096, 0), 4096);
	some_files[1] = (struct wal_file){
		.number = some_files[1].number, .fd = fd, .bytes = T_DISK_FILE_BYTES};
	s = (struct seen){.x = x};
	CHECK_EQ(wal_read(&o, &got), -EBADMSG);
	CHECK_STR(wal_damage_name(s.d.kind), "short");
	CHECK_EQ(s.d.off, 4096);
	CHECK_EQ(close(fd), 0);
	s = (struct seen){.x = x};
	CHECK_EQ(wal_read(&o, &got), -EBADMSG);
	CHECK_STR(wal_damage_name(s.d.kind), "unreadable");
	CHECK_EQ(s.d.segment, some_files[1].number);
	CHECK_EQ(s.d.error, -EBADF);
	world_end(x);
}

TEST(a_torn_tail_is_cut_and_is_no_damage_unless_it_was_durable)
{
	struct world *x = log_of(8, FRAMES);
	struct wal_read_result got;
	struct place last = frame_of(x, 1);
	struct seen s;

	for (int i = 2; i <= FRAMES; i++)
		last = frame_of(x, i);
	memset(last.at + last.f->n_blocks * 4096 - 512, 0xee, 512);
	CHECK_EQ(read_by(x, WAL_ON_DAMAGE_STOP, 0, &s, &got), 0);
	CHECK(got.torn && !got.closed && s.damages == 0);
	CHECK_EQ(got.end.segment, last.segment);
	CHECK_EQ(got.end.block, last.f->block);
	CHECK_EQ(got.end.lsn, s.last_lsn);
	CHECK_EQ(read_by(x, WAL_ON_DAMAGE_STOP, x->said, &s, &got), -EBADMSG);
	CHECK_STR(wal_damage_name(s.d.kind), "contents");
	memset(last.at, 0, 4096);
	CHECK_EQ(read_by(x, WAL_ON_DAMAGE_STOP, x->said, &s, &got), -EBADMSG);
	CHECK_STR(wal_damage_name(s.d.kind), "tail");
	world_end(x);
}

TEST(frames_of_another_log_do_not_count)
{
	static const uint8_t other[WAL_IDENTITY_BYTES] = "another log";
	struct world *x = log_of(9, FRAMES);
	struct place p = frame_of(x, 3);

	CHECK_EQ(wal_frame_check(p.f, world_identity, p.segment, p.f->block, 16), 0);
	CHECK_EQ(wal_frame_check(p.f, other, p.segment, p.f->block, 16), -EBADMSG);
	CHECK_EQ(wal_frame_check(p.f, world_identity, p.segment + 1, p.f->block, 16), -EBADMSG);
	p.f->block++;
	CHECK_EQ(wal_frame_check(p.f, world_identity, p.segment, p.f->block, 16), -EBADMSG);
	world_end(x);
}

TEST(each_file_has_a_part_or_none)
{
	struct world *x = log_of(10, FRAMES);
	enum wal_file_state state[T_DISK_FILES];
	size_t n = t_disk_files(&x->disk, some_files);
	struct wal_read_opts o = {.files = some_files, .n_files = n, .identity = world_identity};
	static uint8_t stranger[T_DISK_FILE_BYTES] __attribute__((aligned(8)));

	CHECK_EQ(wal_read_states(&o, state), 0);
	for (size_t i = 0; i + 1 < n; i++)
		CHECK_STR(wal_file_state_name(state[i]), "log");
	CHECK_STR(wal_file_state_name(state[n - 1]), "unused");
	/* A recycled one; what nobody knows; one whose begin is torn. */
	some_files[n] = (struct wal_file){.number = some_files[n - 1].number + 1,
		.map = some_files[0].map,
		.bytes = T_DISK_FILE_BYTES};
	memset(stranger, 7, sizeof stranger);
	some_files[n + 1] = (struct wal_file){
		.number = some_files[n].number + 1, .map = stranger, .bytes = sizeof stranger};
	o.n_files = n + 2;
	CHECK_EQ(wal_read_states(&o, state), 0);
	CHECK_STR(wal_file_state_name(state[n]), "unused");
	CHECK_STR(wal_file_state_name(state[n + 1]), "other");
	o.n_files = n;
	o.from_lsn = x->lsn[x->n - 1];
	CHECK_EQ(wal_read_states(&o, state), 0);
	CHECK_STR(wal_file_state_name(state[0]), "old");
	CHECK_STR(wal_file_state_name(state[n - 2]), "log");
	world_end(x);
}

/* ------------------------------------------------------------------------ writing */

TEST(what_cannot_be_is_refused_and_changes_nothing)
{
	struct world *x = world_new(11);
	struct wal_opts o = world_opts(x);
	struct wal *w = NULL;
	static uint8_t big[1 << 20];
	struct wal_change c = {.kind = WAL_SET,
		.lsn = x->next_lsn,
		.key = "k",
		.key_bytes = 1,
		.head = big,
		.head_bytes = sizeof big};

	CHECK_EQ(wal_append(x->wal, &c), -EMSGSIZE);
	c.head_bytes = UINT64_MAX - 100;
	CHECK_EQ(wal_append(x->wal, &c), -EMSGSIZE);
	c.head_bytes = wal_record_max(x->wal) - sizeof(struct wal_record) - 1;
	c.head_bytes -= c.head_bytes % 8 ? 0 : 7;
	CHECK_EQ(wal_append(x->wal, &c), 0);
	wal_take_back(x->wal);
	c.lsn = 0;
	CHECK_EQ(wal_append(x->wal, &c), -EINVAL);
	CHECK_EQ(wal_last_lsn(x->wal), 0);
	CHECK_EQ(wal_segment_give(x->wal, &(struct wal_segment){x->next_number - 1, 5}), -EINVAL);
	CHECK_EQ(wal_segment_give(x->wal, &(struct wal_segment){x->next_number, -1}), -EINVAL);
	o.stage_bytes -= 8;
	CHECK_EQ(wal_new(&o, &(struct wal_end){0}, &w), -EINVAL);
	o = world_opts(x);
	memset(o.identity, 0, sizeof o.identity);
	CHECK_EQ(wal_adopt(&o, &w, &(struct wal_adopted){0}), -EINVAL);
	memset(o.identity, 1, sizeof o.identity);
	CHECK_EQ(wal_adopt(&o, &w, &(struct wal_adopted){0}), WAL_NO_STAGE);
	CHECK(w == NULL);
	world_end(x);
}

TEST(staging_that_is_full_says_so_and_takes_records_again_when_some_are_durable)
{
	struct world *x = world_new(12);
	int n = 0;

	while (world_append(x) == 0) {
		wal_settle(x->wal);
		world_happened(x, true);
		CHECK(n++ < 10000);
	}
	struct wal_status s;
	wal_status(x->wal, &s);
	CHECK_EQ(s.n_full, 1);
	CHECK(s.stage_used_bytes > s.stage_bytes / 2 && s.stage_used_bytes <= s.stage_bytes);
	CHECK_EQ(wal_room_for(x->wal, 1, 1 << 16, 1 << 16) == 0, false);
	CHECK_EQ(wal_room_for(x->wal, 2, 1 << 30, 100), -EMSGSIZE);
	make_durable(x);
	CHECK_EQ(wal_room_for(x->wal, 64, 64 * 1000, 1000), 0);
	world_set(x);
	make_durable(x);
	world_end(x);
}

TEST(room_for_a_batch_is_room_for_each_of_it)
{
	struct world *x = world_new(13);

	for (int turn = 0; turn < 300; turn++) {
		uint32_t n = 1 + (uint32_t)t_random_below(64),
			 bytes = 8 * (20 + (uint32_t)t_random_below(700));
		struct wal_change c = {.kind = WAL_SET,
			.key = "k",
			.key_bytes = 1,
			.head = x->disk.file[0].bytes,
			.head_bytes = bytes - sizeof(struct wal_record) - 1};
		if (wal_room_for(x->wal, n, (uint64_t)n * bytes, bytes) == 0)
			for (uint32_t i = 0; i < n; i++) {
				c.lsn = wal_last_lsn(x->wal) + 1;
				CHECK_EQ(wal_append(x->wal, &c), 0);
				x->lsn[x->n++] = c.lsn;
				wal_settle(x->wal);
			}
		(void)wal_submit(x->wal);
		for (uint64_t k = t_random_below(3); k > 0; k--)
			(void)t_disk_turn(&x->disk);
		world_checkpoint(x);
		world_give(x);
	}
	CHECK(x->n > 1000);
	make_durable(x);
	world_end(x);
}

TEST(names_of_files_are_what_they_say)
{
	char name[WAL_NAME_BYTES];
	uint64_t n = 0;

	wal_name_format(name, 42);
	CHECK_STR(name, "000000000042.wal");
	CHECK(wal_name_parse(name, &n) && n == 42);
	CHECK(!wal_name_parse("42.wal", &n));
	CHECK(!wal_name_parse("000000000042.wal.new", &n));
	CHECK(!wal_name_parse("000000000000.wal", &n));
	CHECK(!wal_name_parse("-00000000042.wal", &n));
	CHECK(!wal_name_parse("", &n));
}

/* ------------------------------------------------------------------------- golden */

/* A log that is the same each time: two small segments, with a record of each kind.  Files of older versions stay in
 * tests/golden/wal, and have to be read for ever. */
static struct world *golden_log(void)
{
	struct world *x = world_new(20);

	wal_free(x->wal);
	x->writes_max = 1;
	memset(&x->disk.file, 0, sizeof x->disk.file);
	x->next_number = 1;
	struct wal_opts o = world_opts(x);
	o.segment_bytes = SMALL;
	CHECK_EQ(wal_new(&o, &(struct wal_end){0}, &x->wal), 0);
	world_give(x);
	for (uint16_t i = 1; i <= 12; i++) {
		struct wal_change c = {.kind = (uint16_t)(1 + i % 7),
			.marks = i % 4,
			.flags = i,
			.ttl_ms = 1000,
			.took_ms = 7,
			.lsn = 100u + i,
			.store_id = 3,
			.session_id = 0xabc,
			.request = i,
			.expiry_ns = 5000000000,
			.created_ns = 1000000000,
			.modified_ns = 2000000000,
			.stamp = 9,
			.key = "golden key",
			.key_bytes = 10,
			.head = "head and ",
			.head_bytes = 9,
			.tail = "tail",
			.tail_bytes = i % 5};
		CHECK_EQ(wal_append(x->wal, &c), 0);
		wal_settle(x->wal);
		x->lsn[x->n++] = c.lsn;
		if (i % 3 == 0)
			make_durable(x);
	}
	CHECK_EQ(wal_close(x->wal), 0);
	while (t_disk_turn(&x->disk))
		;
	return x;
}

static int see_golden(void *arg, const struct wal_read_record *got)
{
	uint64_t *n = arg, i = ++*n;

	CHECK_EQ(got->r->lsn, 100 + i);
	CHECK_EQ(got->r->kind, 1 + i % 7);
	CHECK_EQ(got->r->key_bytes, 10);
	CHECK(memcmp(got->key, "golden key", 10) == 0);
	CHECK_EQ(got->r->value_bytes, 9 + i % 5);
	CHECK(memcmp(got->value, "head and tail", got->r->value_bytes) == 0);
	return 0;
}

TEST(golden_segments_stay_readable_and_are_what_is_written_today)
{
	const char *root = getenv("HC_SOURCE_ROOT"), *make = getenv("T_WAL_GOLDEN");
	static uint8_t bytes[2][SMALL] __attribute__((aligned(8)));
	struct world *x = golden_log();
	struct wal_file files[2];
	struct wal_read_result got;
	uint64_t n = 0;

	if (!root)
		SKIP("HC_SOURCE_ROOT is not set: run it through meson test");
	for (uint64_t i = 0; i < 2; i++) {
		char path[4096];
		(void)snprintf(path, sizeof path, "%s/tests/golden/wal/%012llu.wal", root,
			(unsigned long long)i + 1);
		int fd = open(path,
			make ? O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC : O_RDONLY | O_CLOEXEC, 0644);
		if (make)
			CHECK_EQ(pwrite(fd, file_of(x, i + 1), SMALL, 0), SMALL);
		CHECK_EQ(pread(fd, bytes[i], SMALL, 0), SMALL);
		CHECK_EQ(close(fd), 0);
		files[i] = (struct wal_file){
			.number = i + 1, .fd = -1, .map = bytes[i], .bytes = SMALL};
		CHECK(memcmp(bytes[i], file_of(x, i + 1), SMALL) == 0);
	}
	struct wal_read_opts o = {.files = files, .n_files = 2, .record = see_golden, .arg = &n};
	CHECK_EQ(wal_read(&o, &got), 0);
	CHECK_EQ(n, 12);
	CHECK(got.closed && !got.torn && got.found);
	CHECK_EQ(got.end.lsn, 112);
	CHECK(memcmp(got.identity, world_identity, sizeof got.identity) == 0);
	world_end(x);
}
