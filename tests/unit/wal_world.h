/* wal_world.h - a log on a simulated disk, and what is known of it: shared by unit_wal_sim and crash_wal.
 *
 * Each record is made from its LSN alone, so that what is read can be compared with what was written.  The oracle is a list
 * of the LSNs that were appended and have happened, in their order, and how far it was said that they are durable.  After
 * whatever happened, what is read is the list up to some place, which is not before what was said.
 */
#ifndef HC_WAL_WORLD_H
#define HC_WAL_WORLD_H
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include "../kit/t.h"
#include "../kit/t_disk.h"
#include "../../daemon/wal/wal.h"
#include "../../daemon/wal/wal_read.h"

enum { WORLD_RECORDS = 1 << 16, WORLD_STAGE = 256 << 10, WORLD_VALUE_MAX = 32 << 10 };

/* In shared memory, so that another process can go on with it. */
struct world {
	uint8_t stage[WORLD_STAGE] __attribute__((aligned(4096)));
	struct t_disk disk;
	uint64_t rng;
	uint64_t lsn
		[WORLD_RECORDS]; /* [n], those that happened; the first one that is not in a checkpoint is `base` */
	uint32_t n, base;
	uint64_t pending; /* appended or about to be; not known to have happened */
	uint64_t said;    /* durable, as the log has said */
	uint64_t next_lsn, next_number;
	uint32_t writes_max;
	bool failing; /* the disk has failed and it was told */
	uint64_t n_cuts, n_adopted, n_kept, n_dropped, n_recovered, n_recycled, n_closed, n_undone;
	/* not shared */
	struct wal *wal;
};

static const uint8_t world_identity[WAL_IDENTITY_BYTES] = "simulated log 1";

static uint64_t world_below(struct world *x, uint64_t n) { return t_random_from(&x->rng) % n; }

/* --------------------------------------------------------------------- records */

struct world_record {
	struct wal_change c;
	uint8_t key[256], value[WORLD_VALUE_MAX];
};

static void world_record(uint64_t lsn, struct world_record *ret)
{
	uint64_t s = lsn, r = t_random_from(&s), size = t_random_from(&s);
	uint64_t value = size % 100 < 80   ? r % 300
	                 : size % 100 < 98 ? r % 5000
	                                   : r % WORLD_VALUE_MAX;

	ret->c = (struct wal_change){.kind = (uint16_t)(1 + r % 7),
		.marks = (uint16_t)(r % 4),
		.flags = (uint32_t)t_random_from(&s),
		.ttl_ms = (uint32_t)t_random_from(&s),
		.took_ms = (uint32_t)t_random_from(&s),
		.lsn = lsn,
		.store_id = t_random_from(&s),
		.session_id = t_random_from(&s),
		.request = t_random_from(&s),
		.expiry_ns = t_random_from(&s),
		.created_ns = t_random_from(&s),
		.modified_ns = t_random_from(&s),
		.stamp = t_random_from(&s),
		.key = ret->key,
		.key_bytes = (uint32_t)(t_random_from(&s) % sizeof ret->key),
		.head = ret->value,
		.head_bytes = value / 3,
		.tail = ret->value + value / 3,
		.tail_bytes = value - value / 3};
	memset(ret->key, (int)(lsn % 251), ret->c.key_bytes);
	memset(ret->value, (int)(r % 253), value);
}

static void world_same(const struct wal_read_record *got)
{
	static struct world_record want;
	const struct wal_record *r = got->r;

	world_record(r->lsn, &want);
	CHECK_EQ(r->kind, want.c.kind);
	CHECK_EQ(r->marks, want.c.marks);
	CHECK_EQ(r->flags, want.c.flags);
	CHECK_EQ(r->ttl_ms, want.c.ttl_ms);
	CHECK_EQ(r->took_ms, want.c.took_ms);
	CHECK_EQ(r->store_id, want.c.store_id);
	CHECK_EQ(r->session_id, want.c.session_id);
	CHECK_EQ(r->request, want.c.request);
	CHECK_EQ(r->expiry_ns, want.c.expiry_ns);
	CHECK_EQ(r->created_ns, want.c.created_ns);
	CHECK_EQ(r->modified_ns, want.c.modified_ns);
	CHECK_EQ(r->stamp, want.c.stamp);
	CHECK_EQ(r->key_bytes, want.c.key_bytes);
	CHECK_EQ(r->value_bytes, want.c.head_bytes + want.c.tail_bytes);
	CHECK(memcmp(got->key, want.key, r->key_bytes) == 0);
	CHECK(memcmp(got->value, want.value, r->value_bytes) == 0);
}

/* ------------------------------------------------------------------------- log */

static void world_on_durable(void *arg, uint64_t lsn)
{
	struct world *x = arg;

	CHECK(lsn > x->said);
	CHECK(x->n > 0 && lsn <= x->lsn[x->n - 1]);
	x->said = lsn;
}

static void world_on_failed(void *arg, int error)
{
	struct world *x = arg;

	CHECK(error == -EIO || error == -ENOSPC);
	CHECK(!x->failing);
	x->failing = true;
}

static void world_on_released(void *arg, const struct wal_segment *s, uint64_t last_lsn)
{
	struct world *x = arg;

	CHECK_EQ(x->disk.file[s->fd].number, s->number);
	x->disk.file[s->fd].in_use = false;
	x->disk.file[s->fd].last_lsn = last_lsn;
}

static uint64_t world_now_ns(void) { return 1700000000000000000; }

static struct wal_opts world_opts(struct world *x)
{
	struct wal_opts o = {.stage = x->stage,
		.stage_bytes = sizeof x->stage,
		.io = &x->disk.io,
		.segment_bytes = T_DISK_FILE_BYTES,
		.writes_max = x->writes_max,
		.durable = world_on_durable,
		.failed = world_on_failed,
		.released = world_on_released,
		.arg = x,
		.now_ns = world_now_ns};

	memcpy(o.identity, world_identity, sizeof o.identity);
	return o;
}

static void world_give(struct world *x)
{
	while (wal_segments_wanted(x->wal) > 0) {
		int fd = t_disk_make(&x->disk, x->next_number);
		if (fd < 0)
			return;
		CHECK_EQ(wal_segment_give(x->wal, &(struct wal_segment){x->next_number, fd}), 0);
		x->next_number++;
	}
}

static struct world *world_new(uint64_t seed)
{
	struct world *x = mmap(
		NULL, sizeof *x, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	CHECK(x != MAP_FAILED);
	t_disk_init(&x->disk, seed * 3 + 1);
	x->rng = seed;
	x->next_lsn = 1 + world_below(x, 1000);
	x->next_number = 1 + world_below(x, 5);
	x->writes_max = 1 + (uint32_t)world_below(x, WAL_WRITES_MAX);
	struct wal_opts o = world_opts(x);
	CHECK_EQ(wal_new(&o, &(struct wal_end){0}, &x->wal), 0);
	world_give(x);
	return x;
}

static void world_end(struct world *x)
{
	while (x->wal && wal_n_writes(x->wal))
		(void)t_disk_turn(&x->disk);
	wal_free(x->wal);
	CHECK_EQ(munmap(x, sizeof *x), 0);
}

/* 0, or what wal_append said. */
static int world_append(struct world *x)
{
	static struct world_record r;
	uint64_t lsn = x->next_lsn + world_below(x, 3);

	world_record(lsn, &r);
	x->pending = lsn;
	int room = wal_room(x->wal, r.c.key_bytes, r.c.head_bytes + r.c.tail_bytes);
	int got = wal_append(x->wal, &r.c);
	CHECK_EQ(got, room);
	if (got == 0) {
		x->next_lsn = lsn + 1;
		CHECK_EQ(wal_last_lsn(x->wal), lsn);
	} else {
		x->pending = 0;
	}
	return got;
}

/* The pending one has happened, or it has not. */
static void world_happened(struct world *x, bool happened)
{
	if (happened && x->pending) {
		CHECK(x->n < WORLD_RECORDS);
		x->lsn[x->n++] = x->pending;
	}
	x->pending = 0;
}

static void world_set(struct world *x)
{
	if (world_append(x) != 0)
		return;
	if (world_below(x, 50) == 0) {
		wal_take_back(x->wal);
		world_happened(x, false);
		x->n_undone++;
		return;
	}
	wal_settle(x->wal);
	world_happened(x, true);
}

/* ----------------------------------------------------------------- what is there */

struct world_read {
	struct world *x;
	uint32_t at;
	uint64_t damages;
	struct wal_damage damage;
};

static int world_on_record(void *arg, const struct wal_read_record *got)
{
	struct world_read *r = arg;

	if (r->at >= r->x->n || r->x->lsn[r->at] != got->r->lsn)
		t_fail(__FILE__, __LINE__, "LSN %llu is read where %llu should be (%u of %u)",
			(unsigned long long)got->r->lsn,
			(unsigned long long)(r->at < r->x->n ? r->x->lsn[r->at] : 0), r->at,
			r->x->n);
	world_same(got);
	r->at++;
	return 0;
}

static void world_on_damage(void *arg, const struct wal_damage *d)
{
	struct world_read *r = arg;

	if (r->damages++ == 0)
		r->damage = *d;
	printf("  damage: %s at segment %llu, %llu, frame %llu, lost %llu, after %llu\n",
		wal_damage_name(d->kind), (unsigned long long)d->segment,
		(unsigned long long)d->off, (unsigned long long)d->sequence,
		(unsigned long long)d->lost_frames, (unsigned long long)d->after_frames);
}

/* Reads all that is on the disk: a part of the list from `base` on.  Returns how far it reaches in the list. */
static uint32_t world_check(struct world *x, struct wal_read_result *ret)
{
	struct wal_file files[T_DISK_FILES];
	struct world_read r = {.x = x, .at = x->base};
	struct wal_read_opts o = {.files = files,
		.n_files = t_disk_files(&x->disk, files),
		.identity = world_identity,
		.from_lsn = x->base ? x->lsn[x->base - 1] + 1 : 0,
		.durable_lsn = x->said,
		.record = world_on_record,
		.damage = world_on_damage,
		.arg = &r};

	CHECK_EQ(wal_read(&o, ret), 0);
	CHECK_EQ(r.damages, 0);
	if (x->said && (r.at == 0 || x->lsn[r.at - 1] < x->said))
		t_fail(__FILE__, __LINE__, "LSN %llu was acknowledged, %llu is the last one",
			(unsigned long long)x->said,
			(unsigned long long)(r.at ? x->lsn[r.at - 1] : 0));
	return r.at;
}

/* A checkpoint of all up to somewhere; what only holds older records is recycled. */
static void world_checkpoint(struct world *x)
{
	while (x->base < x->n && x->lsn[x->base] <= x->said && world_below(x, 200))
		x->base++;
	uint64_t upto = x->base ? x->lsn[x->base - 1] : 0;
	for (int i = 0; i < T_DISK_FILES; i++)
		if (x->disk.file[i].number && x->disk.file[i].number < wal_keep_from(x->wal) &&
			!x->disk.file[i].in_use && x->disk.file[i].last_lsn <= upto) {
			x->disk.file[i].number = 0;
			x->n_recycled++;
		}
}

/* ------------------------------------------------------------------------- deaths */

/* Files that no log has in hand, after a death: those of the chain are kept for the checkpoint. */
static void world_files_are_free(struct world *x)
{
	for (int i = 0; i < T_DISK_FILES; i++)
		if (x->disk.file[i].number && x->disk.file[i].in_use) {
			x->disk.file[i].in_use = false;
			x->disk.file[i].last_lsn = x->n ? x->lsn[x->n - 1] : 0;
		}
}

/* All power is gone, staging too. */
static inline void world_power_off(struct world *x)
{
	struct wal_read_result got;

	t_disk_power_off(&x->disk);
	free(x->wal);
	x->wal = NULL;
	x->pending = 0;
	x->failing = false;
	uint32_t at = world_check(x, &got);
	x->n_cuts += x->n - at;
	x->n = at;
	CHECK(!got.found || x->base == x->n || got.end.lsn >= x->said);
	world_files_are_free(x);
	x->next_number = got.next_number > x->next_number ? got.next_number : x->next_number;
	got.end.lsn = got.end.lsn > x->said ? got.end.lsn : x->said; /* of the checkpoint */
	struct wal_opts o = world_opts(x);
	memset(x->stage, 0xa5, sizeof x->stage);
	CHECK_EQ(wal_new(&o, &got.end, &x->wal), 0);
	CHECK(x->n == 0 || x->base == x->n || wal_durable_lsn(x->wal) == x->lsn[x->n - 1]);
	if (x->n > x->base)
		x->said = x->lsn[x->n - 1];
	world_give(x);
}

/* The engine is dead, staging is there.  Its handle is only memory of its own. */
static inline void world_adopt(struct world *x)
{
	struct wal_adopted found;
	struct wal_opts o = world_opts(x);

	t_disk_abandon(&x->disk);
	CHECK_EQ(wal_adopt(&o, &x->wal, &found), 0);
	CHECK(found.durable_lsn >= x->said || x->base == x->n);
	if (found.unsettled_lsn) {
		bool happened = world_below(x, 2);
		CHECK_EQ(found.unsettled_lsn, x->pending);
		wal_adopt_decide(x->wal, happened);
		world_happened(x, happened);
		happened ? x->n_kept++ : x->n_dropped++;
	} else { /* it is there, and was settled; or is not there */
		world_happened(x, x->pending && found.last_lsn == x->pending);
	}
	if (x->n && found.last_lsn > found.durable_lsn)
		CHECK_EQ(wal_last_lsn(x->wal), x->lsn[x->n - 1]);
	x->failing = false;
	x->n_adopted++;
	world_files_are_free(x);
	world_give(x);
	(void)wal_submit(x->wal);
}

#endif
