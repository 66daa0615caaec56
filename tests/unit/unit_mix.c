/* unit_mix.c - how much of a full pool is of no use, on sizes as they are found in the world?
 *
 *   external   free, and no size of the mix fits there: under 1 % of the pool
 *   internal   places, less the items in them (header, key, value): under 4 %
 *
 * Mixes: the records of dpkg, a few hundred bytes to a few KiB; the records of apt, as bench/mixes has
 * them; the sizes of the files under /usr/share, from nothing to a sixteenth of the pool.  A pool that one of
 * them has filled is filled by each other: places of the sizes that nobody wants any more have to become
 * others.  And by a single size, behind another one: what the sizes before have left free lies
 * in stretches of all lengths between slabs of a length that fits into none of them.
 */
#define _GNU_SOURCE
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include "room_world.h"

enum {
	POOL_MIB = 64,
	SIZES_MAX = 100000,
	BETWEEN = 256,
	LOOKS = 16,
	FAILS = 3000,
	TIMES = 2,
	KEYS = 1 << 20
};

struct mix {
	const char *name;
	uint32_t n;
	uint32_t bytes[SIZES_MAX];
};
static struct mix records = {.name = "dpkg records"}, files = {.name = "files of /usr/share"},
		  packages = {.name = "apt records"};
static struct mix one_size[] = {
	{"10000 bytes", 1, {10000}}, {"4000 bytes", 1, {4000}}, {"200 bytes", 1, {200}}};
static struct room w;

static void add(struct mix *m, uint64_t bytes)
{
	if (m->n < SIZES_MAX && bytes <= POOL_MIB * ROOM_MIB / 16)
		m->bytes[m->n++] = (uint32_t)bytes;
}

static int add_file(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)path;
	(void)at;
	if (type == FTW_F)
		add(&files, (uint64_t)st->st_size);
	return 0;
}

static void packages_load(void)
{
	const char *root = getenv("HC_SOURCE_ROOT");
	char path[4096];
	uint64_t bytes;

	(void)snprintf(path, sizeof path, "%s/bench/mixes/apt", root ? root : ".");
	FILE *f = fopen(path, "re");
	CHECK(f);
	while (fscanf(f, "%" SCNu64, &bytes) == 1)
		add(&packages, bytes);
	CHECK(feof(f) && packages.n >= 100);
	(void)fclose(f);
}

static void mixes_load(void)
{
	FILE *f = fopen("/var/lib/dpkg/status", "re");
	char *line = NULL;
	size_t cap = 0;
	uint64_t record = 0;
	ssize_t n;

	while (f && (n = getline(&line, &cap, f)) >= 0) {
		record += (uint64_t)n;
		if (n > 1)
			continue;
		add(&records, record);
		record = 0;
	}
	free(line);
	if (f)
		(void)fclose(f);
	(void)nftw("/usr/share", add_file, 16, FTW_PHYS);
	packages_load();
	while (records.n < 1000) /* a machine without dpkg, or with little there */
		add(&records, 300 + t_random_below(2500));
	while (files.n < 1000)
		add(&files, t_random_below(1ull << t_random_below(22)));
}

static void put(const struct mix *m, uint64_t *key)
{
	CHECK_EQ(room_set(&w, 0, (*key)++ % KEYS, m->bytes[t_random_below(m->n)]), 0);
}

struct waste {
	double external, internal; /* per cent of the pool */
};

static uint64_t item_bytes(const struct mix *m)
{
	return shm_item_bytes(ROOM_KEY_BYTES, m->bytes[t_random_below(m->n)]);
}

/* What is still free when all that is free has been taken by sizes of the mix; it is given back. */
static uint64_t unusable(const struct mix *m)
{
	struct shm_alloc *a = w.p->w.alloc;
	uint64_t *off = calloc(KEYS, sizeof *off), place;
	uint32_t n = 0, failed = 0;

	CHECK(off);
	while (failed < FAILS && n < KEYS) {
		bool got = shm_alloc_take(a, item_bytes(m), &off[n], &place) == 0;
		failed = got ? 0 : failed + 1;
		n += got;
	}
	uint64_t idle = shm_alloc_free_bytes(a);
	while (n)
		shm_alloc_give(a, off[--n]);
	free(off);
	return idle;
}

/* Fills the pool `times` over with a mix, then looks at it again and again while it goes on. */
static struct waste fill(const struct mix *m, int times, uint64_t *key)
{
	const double all = (double)w.p->bytes;
	struct waste r = {0};
	uint64_t written = 0;

	for (uint32_t i = 0; written < (uint64_t)times * w.p->bytes; i++) {
		uint32_t bytes = m->bytes[t_random_below(m->n)];
		CHECK_EQ(room_set(&w, 0, (*key)++ % KEYS, bytes), 0);
		written += bytes + sizeof(struct shm_item);
		if (i % 1000 == 0)
			room_tick(&w);
	}
	for (int k = 0; k < LOOKS; k++) {
		for (int i = 0; i < BETWEEN; i++)
			put(m, key);
		r.external += 100.0 * (double)unusable(m) / all / LOOKS;
	}
	uint64_t rounding = w.p->w.waste_bytes - w.p->w.n_entries * sizeof(struct shm_item);
	r.internal = 100.0 * (double)rounding / all;
	room_check(&w);
	printf("  %-20s external %.2f %%, internal %.2f %%, %llu entries, %.1f %% live\n", m->name,
		r.external, r.internal, (unsigned long long)w.p->w.n_entries,
		100.0 * (double)w.p->w.live_bytes / all);
	return r;
}

TEST_LIMIT(little_of_a_full_pool_is_of_no_use_whatever_came_before, 300)
{
	const struct mix *turns[] = {
		&records, &files, &records, &packages, &files, &packages, &records};
	uint64_t key = 0;

	mixes_load();
	room_new(&w, POOL_MIB * ROOM_MIB, 1);
	for (size_t i = 0; i < sizeof turns / sizeof *turns; i++) {
		struct waste r = fill(turns[i], TIMES, &key);
		CHECK(r.external < 1.0);
		CHECK(r.internal < 4.0);
		CHECK(w.p->w.index_bytes * 40 < w.p->bytes); /* of entries of half a KiB and more */
	}
	room_free(&w);
}

/* A size of one's own may lie anywhere in its class, so there is no bound of what is rounded. */
TEST_LIMIT(free_pages_that_lie_apart_are_joined_for_a_single_size, 300)
{
	uint64_t key = 0;

	if (records.n == 0)
		mixes_load();
	room_new(&w, POOL_MIB * ROOM_MIB, 1);
	(void)fill(&records, 1, &key);
	for (size_t i = 0; i < sizeof one_size / sizeof *one_size; i++)
		CHECK(fill(&one_size[i], 3, &key).external < 1.5);
	room_free(&w);
}
