/* crash_feed.c - does the feed say each change once, wherever the engine dies?
 *
 * A child is an engine that makes one change and is killed at the n'th mark it passes, n = 1, 2, 3 ... until it
 * comes to its end alive.  The parent is the next engine.  If the change has happened, the feed has one entry of it
 * and the request its result; if not, neither, and when it is made again there is one entry.  The numbers go on without a
 * gap.  Each memory so left is also adopted by children that are killed in their turn at every mark of the adoption.
 */
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../kit/t_pool.h"
#include "../kit/t_step.h"
#include "../../shm/atomic.h"
#include "../../shm/feed_read.h"
#include "../../shm/step.h"

enum {
	POOL = 1 << 20,
	KEYS = 40,
	ROUNDS = 25, /* of sets of all keys: the feed's ring is full then */
	DEATHS_MAX = 5000,
	WAIT_MS = 20000,
	SOON_NS = 50,
};

#define SESSION_ID 0x5e5500000000ull

struct scene {
	void (*op)(void);
	bool (*done)(void); /* has it happened? */
	uint32_t what, why;
	bool request;    /* of session 0 */
	bool without;    /* the pool that is prepared keeps no feed */
	uint32_t nested; /* adoption is killed too, after every nested'th death; 0: never */
};

static struct told {
	char name[T_STEP_BYTES];
	uint64_t passed;
	bool ended;
} * told;

static struct t_pool p, sound, left;
static uint64_t kill_at, n_before; /* the last number when the child began */
static struct shm_feed_entry last;

static void count_and_die(const char *name)
{
	if (++told->passed != kill_at)
		return;
	(void)snprintf(told->name, sizeof told->name, "%s", name);
	(void)raise(SIGKILL);
}

static bool dies(bool start_first, void (*what)(void), uint64_t at)
{
	told->ended = false;
	told->passed = 0;
	fflush(NULL);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		if (start_first)
			CHECK_EQ(t_pool_start(&p), 0);
		kill_at = at;
		shm_step_hook = count_and_die;
		what();
		shm_step_hook = NULL;
		told->ended = true;
		_exit(0);
	}
	(void)t_wait_child(pid, WAIT_MS);
	return !told->ended;
}

static void start(void) { CHECK_EQ(t_pool_start(&p), 0); }

/* Reads all that is there, from the oldest on: the numbers grow by one.  Returns the last one; 0: none. */
static uint64_t read_all(void)
{
	struct shm_feed_reader r;
	struct shm_feed_entry e;
	uint8_t key[SHM_FEED_KEY_MAX];
	uint64_t lost, n = 0;
	int c;

	CHECK_EQ(shm_feed_find(p.base, p.bytes, &r), 0);
	CHECK_EQ(shm_feed_seek(&r, FEED_FROM_OLDEST, &lost), 0);
	while ((c = shm_feed_next(&r, &e, key, &lost)) == 0) {
		CHECK(n == 0 || e.sequence == n + 1);
		n = e.sequence;
		last = e;
	}
	CHECK_EQ(c, FEED_EMPTY);
	return n;
}

static void check_once(const struct scene *s)
{
	start();
	t_pool_check(&p);
	t_pool_fsck(&p);
	bool done = s->done();
	CHECK_EQ(read_all(), n_before + done);
	const struct shm_result *result = shm_journal_find(
		p.journal, 0, SESSION_ID, p.request[0] + 1);
	bool resulted = result != NULL;
	if (result &&
		s->what == SHM_FEED_TOUCH) /* its answer is the entry's version, whoever gives it */
		CHECK_EQ(result->lsn, shm_pool_item(&p.w, t_pool_find(&p, 5))->version);
	if (s->request)
		CHECK_EQ(done, resulted);
	if (!done)
		s->op(); /* whoever asked for it asks again */
	else if (s->request)
		p.request[0]++;
	CHECK(s->done());
	CHECK_EQ(read_all(), n_before + 1);
	CHECK_EQ(shm_feed_what(last.shape), s->what);
	CHECK_EQ(shm_feed_why(last.shape), s->why);
	CHECK_EQ(t_pool_set(&p, 1, 77, 20), 0);
	CHECK_EQ(read_all(), n_before + 2);
	CHECK(p.w.feed.next_sequence == n_before + 3 && !p.w.feed.was_damaged);
	t_pool_stop(&p);
}

static void sweep_adoption(const struct scene *s)
{
	uint64_t request = p.request[0];

	t_pool_restore(&left, &p);
	for (uint64_t at = 1; at < DEATHS_MAX; at++) {
		t_pool_restore(&p, &left);
		if (!dies(false, start, at))
			break;
		p.request[0] = request;
		check_once(s);
		t_step_killed(told->name);
	}
	p.request[0] = request;
	t_pool_restore(&p, &left);
}

static void prepare(const struct scene *s)
{
	struct shm_changed ch;

	t_pool_new(&p, &(struct t_pool_opts){.pool_bytes = POOL,
			       .feed_bytes = s->without ? 0 : SHM_FEED_BYTES_MIN});
	start();
	for (uint32_t i = 0; i < ROUNDS * KEYS; i++)
		CHECK_EQ(t_pool_set(&p, i % KEYS, 1, 20), 0);
	CHECK_EQ(t_pool_try(&p, KEYS, 1, 20, SOON_NS, &ch), 0);
	p.request[0]++;
	n_before = s->without ? 0 : read_all();
	if (s->without)
		p.ctl->pool[T_POOL_IDX].feed_bytes = SHM_FEED_BYTES_MIN;
	else
		CHECK(shm_load_rlx(&p.w.feed.f->tail) > 0);
	t_pool_stop(&p);
}

static void play(const struct scene *s)
{
	told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(told != MAP_FAILED);
	prepare(s);
	uint64_t request = p.request[0], at = 1;
	t_pool_copy(&sound, &p);
	t_pool_copy(&left, &p);
	for (; at < DEATHS_MAX; at++) {
		t_pool_restore(&p, &sound);
		p.request[0] = request;
		if (!dies(!s->without, s->op, at))
			break;
		if (s->nested && at % s->nested == 0)
			sweep_adoption(s);
		check_once(s);
		t_step_killed(told->name);
	}
	CHECK(at > 1 && at < DEATHS_MAX);
	t_pool_free(&p);
	t_pool_free(&sound);
	t_pool_free(&left);
	CHECK_EQ(munmap(told, sizeof *told), 0);
}

/* ------------------------------------------------------------ scenes */

static void do_set(void) { CHECK_EQ(t_pool_set(&p, KEYS + 1, 9, 30), 0); }
static bool was_set(void) { return t_pool_find(&p, KEYS + 1) != 0; }
static void do_delete(void) { CHECK_EQ(t_pool_delete(&p, 3), 0); }
static bool was_deleted(void) { return t_pool_find(&p, 3) == 0; }

static void do_evict(void)
{
	struct shm_changed ch;
	CHECK_EQ(shm_pool_unlink_as(&p.w, t_pool_find(&p, 3), SHM_FEED_EVICT, SHM_FEED_LIMIT, &ch),
		0);
}

static void do_expire(void)
{
	struct shm_key k;
	struct shm_changed ch;
	uint8_t bytes[T_KEY_BYTES_MAX];
	struct shm_req req = {.session = SHM_REQ_ENGINE};

	t_pool_key(&p, KEYS, bytes, &k);
	CHECK_EQ(shm_pool_delete(&p.w, p.journal, &req, &k, SOON_NS + 1, &ch), POOL_MISS);
}
static bool was_expired(void) { return t_pool_find(&p, KEYS) == 0; }

static struct shm_req next_request(void)
{
	return (struct shm_req){.verb = 6, .session_id = SESSION_ID, .request = ++p.request[0]};
}

static void do_touch(void)
{
	struct shm_key k;
	struct shm_changed ch;
	uint8_t bytes[T_KEY_BYTES_MAX];
	struct shm_req req = next_request();

	t_pool_key(&p, 5, bytes, &k);
	CHECK_EQ(shm_pool_touch(&p.w, p.journal, &req, &k, p.now_ns, 123456, &ch), 0);
}
static bool was_touched(void)
{
	return shm_load_rlx(&shm_pool_item(&p.w, t_pool_find(&p, 5))->expiry_ns) == 123456;
}

static void do_clear(void)
{
	struct shm_changed ch;
	struct shm_req req = next_request();

	shm_pool_clear(&p.w, p.journal, &req, T_POOL_STORE, 0, &ch);
}
static bool was_cleared(void) { return shm_load_rlx(&p.ctl->store[T_POOL_STORE].epoch) == 4; }

TEST_LIMIT(a_set_is_said_once, 200)
{
	play(&(struct scene){do_set, was_set, SHM_FEED_SET, .request = true, .nested = 2});
}

TEST_LIMIT(a_delete_is_said_once, 200)
{
	play(&(struct scene){
		do_delete, was_deleted, SHM_FEED_DELETE, .request = true, .nested = 3});
}

TEST_LIMIT(an_eviction_and_an_expiry_are_said_once, 200)
{
	play(&(struct scene){do_evict, was_deleted, SHM_FEED_EVICT, SHM_FEED_LIMIT, .nested = 3});
	play(&(struct scene){do_expire, was_expired, SHM_FEED_EXPIRE, .nested = 5});
}

TEST_LIMIT(a_touch_and_a_clear_are_said_once, 200)
{
	play(&(struct scene){do_touch, was_touched, SHM_FEED_TOUCH, .request = true, .nested = 3});
	play(&(struct scene){do_clear, was_cleared, SHM_FEED_CLEAR, .request = true, .nested = 3});
}

static void start_and_set(void)
{
	if (!p.running)
		start();
	do_set();
}

TEST_LIMIT(a_feed_that_is_begun_is_whole, 200)
{
	play(&(struct scene){
		start_and_set, was_set, SHM_FEED_SET, .request = true, .without = true});
}

static void read_only(void) { (void)read_all(); }

/* A reader holds nothing and says nothing: nobody notices. */
TEST_LIMIT(a_reader_dies_wherever_it_likes, 200)
{
	const struct scene s = {do_set, was_set, SHM_FEED_SET, .request = true};
	uint64_t at = 1;

	told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(told != MAP_FAILED);
	prepare(&s);
	start();
	for (; at < 20; at++) {
		CHECK(dies(false, read_only, at));
		CHECK_EQ(t_pool_set(&p, 1, 2, 20), 0);
		CHECK_EQ(read_all(), ++n_before);
		t_step_killed(told->name);
	}
	t_pool_check(&p);
	t_pool_fsck(&p);
	t_pool_stop(&p);
	t_pool_free(&p);
	CHECK_EQ(munmap(told, sizeof *told), 0);
}

/* ------------------------------------------------------------ what adoption drops */

/* The item of a key is of another one: its slot is cleared. */
static void spoil(uint32_t key)
{
	struct shm_item *it = shm_pool_item(&p.w, t_pool_find(&p, key));

	it->hash ^= 0xffff;
}

/* Readers are told of each entry that an adoption drops, whichever engine dies in it.  (Of one that is dropped by
 * nobody, because who left the number out died just then, they are told as well.) */
TEST_LIMIT(what_an_adoption_drops_is_missed_wherever_it_dies, 200)
{
	const struct scene s = {do_set, was_set, SHM_FEED_SET, .request = true};
	struct shm_feed_reader r;
	struct shm_feed_entry e;
	uint8_t key[SHM_FEED_KEY_MAX];
	uint64_t at = 1, lost = 0;

	told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(told != MAP_FAILED);
	prepare(&s);
	start();
	for (uint32_t k = 0; k < 3; k++)
		spoil(k);
	t_pool_stop(&p);
	t_pool_copy(&sound, &p);
	for (; at < DEATHS_MAX; at++) {
		t_pool_restore(&p, &sound);
		bool died = dies(false, start, at);
		start();
		CHECK_EQ(shm_feed_find(p.base, p.bytes, &r), 0);
		CHECK_EQ(shm_feed_seek(&r, n_before + 1, &lost), 0);
		CHECK_EQ(t_pool_set(&p, 9, 7, 20), 0);
		CHECK_EQ(t_pool_find(&p, 0), 0);
		CHECK_EQ(shm_feed_next(&r, &e, key, &lost), FEED_LAPPED);
		CHECK(lost >= 3 && lost <= 4);
		CHECK_EQ(shm_feed_next(&r, &e, key, &lost), 0);
		t_pool_check(&p);
		t_pool_fsck(&p);
		t_pool_stop(&p);
		if (!died)
			break;
		t_step_killed(told->name);
	}
	CHECK(at > 5 && at < DEATHS_MAX);
	t_pool_free(&p);
	t_pool_free(&sound);
	CHECK_EQ(munmap(told, sizeof *told), 0);
}
