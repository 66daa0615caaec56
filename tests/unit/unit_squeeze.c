/* unit_squeeze.c - what a pool gives back when the system is short of memory, and when it gets it again.
 *
 * The engine's part of `memory_pressure`: the file says what it may say, the clock is the test's, and what is
 * given back is given by a file that holds nothing.
 */
#include <sys/stat.h>
#include <unistd.h>
#include "room_world.h"

enum { STORES = 3, POOL_MIB = 16, AT_PERCENT = 10, STEPS = 16, CALM = 20 };

static struct room w;
static const uint64_t guaranteed[STORES] = {3 << 20, 0, 2 << 20};
static uint64_t promised;

static int file_new(const char *name)
{
	int fd = memfd_create(name, MFD_CLOEXEC);

	CHECK(fd >= 0);
	return fd;
}

static void begin(void)
{
	room_new(&w, POOL_MIB * ROOM_MIB, STORES);
	w.e->h = calloc(1, sizeof *w.e->h);
	CHECK(w.e->h);
	w.e->h->pressure_fd = file_new("pressure");
	w.e->h->region_fd[ROOM_POOL][0] = file_new("region");
	w.p->n_regions = 1;
	w.e->ctl->pool[ROOM_POOL].region[0].backing = SHM_BACK_BASE;
	w.config->memory_pressure_at_ppm = AT_PERCENT * 10000;
	promised = 0;
	for (uint32_t i = 0; i < STORES; i++) {
		shm_store_rlx(&w.e->ctl->store[i].guaranteed_bytes, guaranteed[i]);
		promised += guaranteed[i];
	}
}

static void end(void)
{
	room_check(&w);
	CHECK_EQ(close(w.e->h->pressure_fd), 0);
	CHECK_EQ(close(w.e->h->region_fd[ROOM_POOL][0]), 0);
	free(w.e->h);
	w.e->h = NULL;
	room_free(&w);
}

static void say(const char *text)
{
	int fd = w.e->h->pressure_fd;

	CHECK_EQ(ftruncate(fd, 0), 0);
	CHECK_EQ(pwrite(fd, text, strlen(text), 0), (ssize_t)strlen(text));
}

static uint64_t size(void) { return shm_alloc_total_bytes(w.p->w.alloc); }

/* A tick, and all turns behind it. */
static void tick(void)
{
	eng_resize_tick(w.e);
	for (int n = 0; eng_resize_turn(w.e); n++)
		CHECK(n < 100000);
	room_tick(&w);
}

static uint64_t squeezes(void)
{
	return shm_load_rlx(&w.e->ctl->pool[ROOM_POOL].counter[SHM_PC_squeezes]);
}

static void fill(void)
{
	for (uint64_t key = 0; key < 60000; key++)
		for (uint32_t i = 0; i < STORES; i++)
			CHECK_EQ(room_set(&w, i, key, 300), 0);
}

/* ------------------------------------------------------------------ what the file may say */

TEST(each_kind_of_file_is_understood_and_nonsense_is_no_pressure)
{
	static const struct {
		const char *text;
		bool high;
	} files[] = {
		{"some avg10=35.00 avg60=9.00 avg300=1.00 total=9\n"
		 "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
			true}, /* the kernel's, and a control group's of version 2 */
		{"some avg10=9.99 avg60=99.00 avg300=99.00 total=9\n", false},
		{"some avg10=10.00 avg60=0.00 avg300=0.00 total=9\n", true},
		{"35\n", true}, /* whatever somebody writes: of version 1, of a container's agent */
		{"35", true}, {" 10.5 %\n", true}, {"100", true}, {"9", false},
		{"0.35", false}, /* per cent */
		{"", false}, {"\n", false}, {"low\n", false}, {"some avg10=\n", false},
		{"some avg10=nan avg60=0.00\n", false}, {"inf", false}, {"101", false},
		{"-20", false},
		{"8589934592", false}, /* bytes, as memory.usage_in_bytes has them */
	};

	begin();
	for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
		uint64_t before = squeezes();
		say(files[i].text);
		tick();
		if (squeezes() != before + files[i].high)
			t_fail(__FILE__, __LINE__, "\"%s\": %llu steps", files[i].text,
				(unsigned long long)(squeezes() - before));
	}
	end();
}

/* ------------------------------------------------------------------ how far, and back */

TEST_LIMIT(a_step_at_a_time_down_to_what_is_guaranteed_and_back, 120)
{
	const uint64_t all = POOL_MIB * ROOM_MIB, step = all / STEPS, page = 128 << 10;

	begin();
	fill();
	say("some avg10=50.00 avg60=0.00 avg300=0.00 total=0\n");
	for (int n = 0; n < 2 * STEPS; n++) {
		uint64_t had = size();
		tick();
		CHECK(size() <= had && had - size() <= step + page);
		CHECK(size() >= promised);
		CHECK(n > 2 || size() < had);
		for (uint32_t i = 0; i < STORES; i++) /* each of them, at each moment */
			CHECK(room_places(&w, i) + page >= guaranteed[i]);
		room_check(&w);
	}
	CHECK(size() < promised + 2 * ROOM_MIB); /* index and page table */
	CHECK(squeezes() >= 8 && squeezes() <= STEPS);
	for (uint64_t key = 0; key < 10000; key++) /* what is promised can be written anew */
		for (uint32_t i = 0; i < STORES; i++)
			CHECK_EQ(room_set(&w, i, key, 300), 0);
	CHECK(room_places(&w, 0) + page >= guaranteed[0]);
	/* Between half of it and all of it nothing moves; below it goes up, slowly. */
	uint64_t least = size();
	say("7");
	for (int n = 0; n < 3 * CALM; n++)
		tick();
	CHECK(size() <= least); /* what was asked for before may still find a way */
	least = size();
	say("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n");
	for (int n = 0; n < CALM - 1; n++)
		tick();
	CHECK(size() <= least);
	for (int n = 0; n < CALM; n++)
		tick();
	CHECK(size() > least && size() <= least + 2 * step + page);
	for (int n = 0; n < CALM * STEPS; n++)
		tick();
	CHECK(size() + page > all);
	CHECK_EQ(w.p->squeeze_bytes, 0);
	end();
}

/* Nobody has asked for it yet, and so it would cost nothing to give it away. */
TEST(what_is_promised_and_not_used_stays_too)
{
	begin();
	say("90");
	for (int n = 0; n < 2 * STEPS; n++)
		tick();
	CHECK(size() >= promised && size() < promised + 2 * ROOM_MIB);
	for (uint64_t key = 0; room_places(&w, 0) + (4 << 10) < guaranteed[0]; key++) {
		CHECK(key < 60000);
		CHECK_EQ(room_set(&w, 0, key, 300), 0);
		CHECK_EQ(room_set(&w, 1, key, 300), 0); /* who was promised nothing gives way */
	}
	for (uint64_t key = 0; room_places(&w, 2) + (4 << 10) < guaranteed[2]; key++) {
		CHECK(key < 60000);
		CHECK_EQ(room_set(&w, 2, key, 300), 0);
	}
	CHECK_EQ(room_counter(&w, 0, SHM_SC_evicted), 0);
	CHECK_EQ(room_counter(&w, 2, SHM_SC_evicted), 0);
	end();
}
