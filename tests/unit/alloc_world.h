/* alloc_world.h - a pool, its allocator, and a plain model beside it, for tests.
 *
 * The pool's data pages are mapped without any right, so that a test dies if the
 * allocator touches more than page tables.  The model marks every unit of every
 * taken place: what overlaps, is too short or lies outside is seen at once.
 */
#ifndef HC_TESTS_ALLOC_WORLD_H
#define HC_TESTS_ALLOC_WORLD_H
#include "../kit/t.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../../shm/alloc.h"
#include "../../shm/atomic.h"
#include "../../shm/step.h"

enum { MIB = 1 << 20, THINGS_MAX = 1 << 19, ITEM_MIN = 89 };

struct thing {
	uint64_t off, bytes, place_bytes;
	bool table;
};

struct world {
	char *base;
	uint64_t bytes;
	uint32_t n_regions;
	struct shm_region region[SHM_REGIONS_MAX];
	struct shm_alloc *a;
	uint8_t *used; /* one for each unit */
	struct thing *thing;
	uint32_t n_things;
	uint64_t taken_bytes;
};

static inline struct shm_pool *pool_of(const struct world *w) { return (struct shm_pool *)w->base; }
static inline struct shm_page *table_of(const struct world *w, uint32_t region)
{
	return (struct shm_page *)(w->base + w->region[region].base_off + SHM_PAGE);
}
static inline uint64_t meta_bytes(uint64_t bytes)
{
	return SHM_PAGE + (bytes / SHM_PAGE * 8 + SHM_PAGE - 1) / SHM_PAGE * SHM_PAGE;
}

/* The pool's memory, page tables readable and writable, the rest not; no allocator yet. */
static inline void world_map(struct world *w, const uint64_t *bytes, uint32_t n)
{
	memset(w, 0, sizeof *w);
	for (uint32_t i = 0; i < n; i++) {
		w->region[i].base_off = w->bytes;
		w->region[i].bytes = bytes[i];
		w->bytes += bytes[i];
	}
	w->n_regions = n;
	w->base = mmap(
		NULL, w->bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	CHECK(w->base != MAP_FAILED);
	for (uint32_t i = 0; i < n; i++)
		CHECK_EQ(mprotect(w->base + w->region[i].base_off, meta_bytes(bytes[i]),
				 PROT_READ | PROT_WRITE),
			0);
	pool_of(w)->n_classes = shm_alloc_classes(pool_of(w)->cls, w->bytes);
	CHECK(pool_of(w)->n_classes > 0 && pool_of(w)->n_classes <= SHM_CLASSES_MAX);
	w->used = calloc(w->bytes / SHM_UNIT, 1);
	w->thing = calloc(THINGS_MAX, sizeof *w->thing);
	CHECK(w->used && w->thing);
}

static inline void world_make(struct world *w, const uint64_t *bytes, uint32_t n)
{
	world_map(w, bytes, n);
	CHECK_EQ(shm_alloc_new(w->base, w->region, n, true, &w->a), 0);
	CHECK_EQ(shm_alloc_verify(w->a), 0);
}

static inline void world_end(struct world *w)
{
	shm_alloc_free(w->a);
	CHECK_EQ(munmap(w->base, w->bytes), 0);
	free(w->used);
	free(w->thing);
}

/* A second world over a copy of the page tables, as an adopting engine finds them. */
static inline void world_copy(struct world *w, const struct world *from)
{
	uint64_t bytes[SHM_REGIONS_MAX];

	for (uint32_t i = 0; i < from->n_regions; i++)
		bytes[i] = from->region[i].bytes;
	world_map(w, bytes, from->n_regions);
	for (uint32_t i = 0; i < w->n_regions; i++)
		memcpy(w->base + w->region[i].base_off, from->base + w->region[i].base_off,
			meta_bytes(bytes[i]));
}

static inline void mark(struct world *w, const struct thing *t, uint8_t was, uint8_t is)
{
	CHECK(t->off % SHM_UNIT == 0 && t->off < w->bytes);
	CHECK(t->place_bytes >= t->bytes && t->place_bytes <= w->bytes - t->off);
	for (uint64_t i = 0; i < t->place_bytes / SHM_UNIT; i++) {
		CHECK_EQ(w->used[t->off / SHM_UNIT + i], was);
		w->used[t->off / SHM_UNIT + i] = is;
	}
	w->taken_bytes += is ? t->place_bytes : -t->place_bytes;
}

static inline void check_accounts(const struct world *w)
{
	struct shm_alloc_stats st;

	CHECK_EQ(shm_alloc_verify(w->a), 0);
	shm_alloc_stats(w->a, &st);
	CHECK_EQ(st.total_bytes + st.hole_bytes, w->bytes);
	CHECK_EQ(st.taken_bytes, w->taken_bytes);
	CHECK_EQ(st.n_taken, w->n_things);
	CHECK_EQ(st.total_bytes, st.meta_bytes + st.taken_bytes + st.free_page_bytes +
					 st.free_place_bytes + st.tail_bytes);
}

static inline bool take(struct world *w, uint64_t bytes, bool table)
{
	struct thing t = {.bytes = bytes, .table = table};
	int r = table ? shm_alloc_take_table(w->a, bytes, &t.off)
	              : shm_alloc_take(w->a, bytes, &t.off, &t.place_bytes);

	if (r != 0) {
		CHECK_EQ(r, ALLOC_FULL);
		return false;
	}
	if (table)
		t.place_bytes = shm_alloc_place_bytes(w->a, t.off);
	CHECK_EQ(t.place_bytes, shm_alloc_place_bytes(w->a, t.off));
	CHECK(w->n_things < THINGS_MAX);
	mark(w, &t, 0, 1);
	w->thing[w->n_things++] = t;
	return true;
}

static inline void give(struct world *w, uint32_t i)
{
	mark(w, &w->thing[i], 1, 0);
	shm_alloc_give(w->a, w->thing[i].off);
	w->thing[i] = w->thing[--w->n_things];
}

static inline uint32_t find(const struct world *w, uint64_t off)
{
	uint32_t i = 0;

	while (i < w->n_things && w->thing[i].off != off)
		i++;
	CHECK(i < w->n_things);
	return i;
}

static inline void give_all(struct world *w)
{
	struct shm_alloc_stats st;

	while (w->n_things)
		give(w, w->n_things - 1);
	check_accounts(w);
	shm_alloc_stats(w->a, &st);
	CHECK_EQ(st.total_bytes, st.meta_bytes + st.free_page_bytes);
}

/* In [lo, hi], every doubling as likely as every other. */
static inline uint64_t random_size(uint64_t lo, uint64_t hi)
{
	uint64_t n = 1;

	while (lo << n < hi)
		n++;
	uint64_t from = lo << t_random_below(n), to = from * 2 < hi ? from * 2 : hi;
	return from + t_random_below(to - from + 1);
}

static inline void random_step(struct world *w, uint64_t item_max)
{
	bool more = t_random_below(100) < (w->taken_bytes * 4 > w->bytes * 3 ? 40 : 60);

	if (w->n_things && !more)
		give(w, (uint32_t)t_random_below(w->n_things));
	else if (t_random_below(200) == 0)
		(void)take(w, random_size(1, item_max), true);
	else
		(void)take(w, random_size(ITEM_MIN, item_max), false);
}

/* Units of a hole in the model: nothing is ever taken there. */
enum { IN_HOLE = 2 };

static inline void mark_hole(struct world *w, uint64_t off, uint64_t bytes, uint8_t was, uint8_t is)
{
	for (uint64_t i = 0; i < bytes / SHM_UNIT; i++) {
		CHECK_EQ(w->used[off / SHM_UNIT + i], was);
		w->used[off / SHM_UNIT + i] = is;
	}
}

/* Makes a hole, or fills a part of one.  False: there was no place for it. */
static inline bool hole_step(struct world *w, uint64_t unit, bool make)
{
	uint64_t most = unit * (1 + t_random_below(8)), off, bytes;
	int e = make ? shm_alloc_hole_make(w->a, most, unit, &off, &bytes)
	             : shm_alloc_hole_find(w->a, most, SHM_PAGE, &off, &bytes);

	if (!make)
		unit = SHM_PAGE; /* others made it, with units of their own */

	if (e == 0 && !make)
		CHECK_EQ(shm_alloc_hole_fill(w->a, off, bytes), 0);
	if (e != 0) {
		CHECK_EQ(e, ALLOC_FULL);
		return false;
	}
	CHECK(bytes > 0 && bytes <= most && off % unit == 0 && bytes % unit == 0);
	mark_hole(w, off, bytes, make ? 0 : IN_HOLE, make ? IN_HOLE : 0);
	CHECK(!shm_alloc_is_used(w->a, off));
	return true;
}

/* Runs f in a child whose complaints nobody needs; its status as of waitpid(2). */
static inline int status_of(void (*f)(void))
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		int fd = open("/dev/null", O_WRONLY);
		(void)dup2(fd, 2);
		(void)alarm(60);
		f();
		_exit(0);
	}
	return t_wait_child(pid, t_limit_ms(60000));
}

#ifdef HC_STEPS
/* With each planted bug, its test fails by a CHECK; that it passes without, the suite says. */
struct catch
{
	int mutant;
	void (*test)(void);
};
static inline void check_catches(const struct catch *c, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		shm_mutant = c[i].mutant;
		int st = status_of(c[i].test);
		shm_mutant = 0;
		if (!WIFSIGNALED(st) || WTERMSIG(st) != SIGABRT)
			t_fail(__FILE__, __LINE__, "planted bug %d was not caught", c[i].mutant);
	}
}
#endif
#endif
