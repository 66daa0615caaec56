/* crash_shm.c - does everyone else survive a death at every mark of shm/?
 *
 * A scene prepares a pool, says what one engine then does, and for which key.  A child process is that
 * engine and is killed at the n'th mark it passes, n = 1, 2, 3 ... until it comes to its end alive: so
 * a new mark is swept without a word here.  The parent then is the next engine, and compares: the key
 * has its old value or its new one; new if and only if the request has a result; sent again, it has
 * been applied once; every other key is there; the accounts close, the checker finds nothing; what was
 * pinned by a reader is not touched until the pin is gone (rule P15).
 *
 * Some of the memories so left are adopted by a second child, which is killed in its turn at every
 * mark of the adoption.  Readers are killed in the same way.
 */
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../kit/t_pool.h"
#include "../kit/t_step.h"
#include "../../shm/atomic.h"
#include "../../shm/index_write.h"
#include "../../shm/read_scan.h"
#include "../../shm/step.h"

enum {
	KEYS_MAX = 4096,
	BIG_KEYS = 1u << 20,
	GROW_AT = 5 * 64 + 1, /* the entry with which growth begins */
	VIEWED = 3,      /* a key whose first version a reader has in view; it has the second now */
	VIEWED_LIVE = 4, /* a key whose present version a reader has in view */
	VIEW_BYTES = 700,
	DEATHS_MAX = 20000,
	WAIT_MS = 20000,
};

#define SESSION_ID 0x5e5500000000ull

struct scene {
	void (*prepare)(void);
	void (*op)(void);  /* in the child, on a pool that it has started */
	uint32_t key;      /* which it changes */
	uint64_t to, from; /* version afterwards, 0: absent; before, where `version` does not say */
	bool request;      /* a request of session 0, with a result */
	bool starts;       /* op starts the pool itself */
	bool lossy;        /* other keys may have been evicted */
	bool scrub;        /* what is free must be zeroes */
	uint32_t nested;   /* adoption is killed too, after every nested'th death; 0: never */
	void (*damage)(void); /* changes the prepared memory, on which no engine runs now */
};

/* What a child leaves behind. */
static struct told {
	char name[T_STEP_BYTES];
	uint64_t passed;
	bool ended;
} * told;

static struct t_pool p, sound, left;
static uint64_t version[KEYS_MAX];
static uint32_t n_keys;
static struct t_steps proved;

/* ------------------------------------------------------------ a death */

static uint64_t kill_at;

static void count_and_die(const char *name)
{
	if (++told->passed != kill_at)
		return;
	(void)snprintf(told->name, sizeof told->name, "%s", name);
	(void)raise(SIGKILL);
}

/* Runs what in a child that dies at its at'th mark.  true: it did; false: it came to its end. */
static bool dies(void (*before)(void), void (*what)(void), uint64_t at)
{
	told->ended = false;
	told->passed = 0;
	fflush(NULL);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		if (before)
			before();
		kill_at = at;
		shm_step_hook = count_and_die;
		what();
		shm_step_hook = NULL;
		told->ended = true;
		_exit(0);
	}
	int status = t_wait_child(pid, WAIT_MS);
	CHECK(told->ended ? status == 0 : WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	return !told->ended;
}

static void survived(void)
{
	for (int i = 0; i < proved.n; i++)
		if (strcmp(proved.name[i], told->name) == 0)
			return;
	CHECK(proved.n < T_STEPS_MAX);
	(void)snprintf(proved.name[proved.n++], T_STEP_BYTES, "%s", told->name);
	t_step_killed(told->name);
}

static void expect_proved(const char *names)
{
	char list[512], *at = list;

	(void)snprintf(list, sizeof list, "%s", names);
	for (char *name = strsep(&at, " "); name; name = strsep(&at, " ")) {
		bool found = false;
		for (int i = 0; i < proved.n; i++)
			found = found || strcmp(proved.name[i], name) == 0;
		if (!found)
			t_fail(__FILE__, __LINE__, "nobody died at %s", name);
	}
}

static void start(void) { CHECK_EQ(t_pool_start(&p), 0); }

/* ------------------------------------------------------------ a reader's views */

static struct view {
	struct shm_found f;
	uint8_t bytes[VIEW_BYTES];
} view[2];

static void take_view(struct view *v, uint32_t key, uint32_t cell)
{
	struct shm_reader r = t_pool_reader(&p, 1, 0);
	struct shm_map m = t_pool_map(&p);
	uint8_t bytes[T_KEY_BYTES_MAX];
	struct shm_key k;

	t_pool_key(&p, key, bytes, &k);
	CHECK_EQ(shm_read_find(&r, &m, &k, cell, &v->f), 0);
	CHECK_EQ(v->f.value_bytes, VIEW_BYTES);
	memcpy(v->bytes, v->f.value, VIEW_BYTES);
}

static void views_are_whole(void)
{
	for (int i = 0; i < 2; i++)
		CHECK(memcmp(view[i].f.value, view[i].bytes, VIEW_BYTES) == 0);
}

static void release_views(void)
{
	struct shm_reader r = t_pool_reader(&p, 1, 0);

	shm_read_unpin(r.block, SHM_PIN_VIEW);
	shm_read_unpin(r.block, SHM_PIN_VIEW + 1);
}

/* ------------------------------------------------------------ what must be so afterwards */

static uint64_t get(uint32_t key)
{
	struct shm_reader r = t_pool_reader(&p, 2, 0);
	uint64_t v = 0;
	int e = t_pool_get(&p, &r, key, &v);

	CHECK(e == 0 || e == READ_MISS);
	CHECK_EQ(e == 0, t_pool_find(&p, key) != 0);
	return v;
}

static void keys_are_there(const struct scene *s)
{
	for (uint32_t key = 0; key < n_keys; key++) {
		if (key == s->key)
			continue;
		uint64_t v = get(key);
		CHECK(v == version[key] || (s->lossy && v == 0));
	}
}

static const struct shm_result *result_of(uint64_t request)
{
	return shm_journal_find(p.journal, 0, SESSION_ID, request);
}

/* Exactly once (rule P23): the request is sent again if it was not answered. */
static void request_is_applied_once(const struct scene *s)
{
	uint64_t was = s->key < n_keys ? version[s->key] : s->from, v = get(s->key);
	const struct shm_result *r = result_of(p.request[0] + 1);

	CHECK(v == was || v == s->to || (s->lossy && v == 0));
	if (!s->request)
		return;
	CHECK_EQ(r != NULL, v == s->to);
	if (!r)
		s->op();
	else
		p.request[0]++;
	r = result_of(p.request[0]);
	CHECK(r);
	CHECK_EQ(get(s->key), s->to);
	if (s->to)
		CHECK_EQ(shm_pool_item(&p.w, t_pool_find(&p, s->key))->version, r->lsn);
	if (!s->lossy)
		CHECK_EQ(r->value, s->to && was); /* once more would say: replaced */
}

/* Uses up all free memory, several times. */
static void churn(void)
{
	for (uint32_t i = 0; i < 600; i++)
		CHECK_EQ(t_pool_set(&p, 2000 + i % 300, 1 + i, 100 + i * 37 % 1500), 0);
}

static void pool_is_right(const struct scene *s, bool viewed)
{
	start();
	t_pool_check(&p);
	t_pool_fsck(&p);
	if (s->scrub)
		t_pool_check_scrubbed(&p);
	CHECK(viewed || p.w.limbo.n == 0);
	keys_are_there(s);
	request_is_applied_once(s);
	t_pool_check(&p);
	(void)t_pool_sweep(&p);
	if (viewed) {
		churn();
		views_are_whole();
		t_pool_check(&p);
		t_pool_fsck(&p);
		release_views();
		(void)t_pool_sweep(&p);
		CHECK_EQ(p.w.limbo.n, 0);
	}
	t_pool_check(&p);
	t_pool_stop(&p);
}

/* The memory as this death left it is adopted by engines that die, until one does not. */
static void sweep_adoption(const struct scene *s, bool viewed)
{
	t_pool_restore(&left, &p);
	for (uint64_t at = 1; at < DEATHS_MAX; at++) {
		t_pool_restore(&p, &left);
		if (!dies(NULL, start, at))
			return;
		pool_is_right(s, viewed);
		survived();
	}
	t_fail(__FILE__, __LINE__, "no end");
}

static void sweep(const struct scene *s, bool viewed)
{
	uint64_t at = 1;

	t_pool_copy(&sound, &p);
	t_pool_copy(&left, &p);
	for (; at < DEATHS_MAX; at++) {
		t_pool_restore(&p, &sound);
		if (!dies(s->starts ? NULL : start, s->op, at))
			break;
		char name[T_STEP_BYTES];
		memcpy(name, told->name, sizeof name);
		if (s->nested && at % s->nested == 0) {
			sweep_adoption(s, viewed);
			t_pool_restore(&p, &left);
		}
		memcpy(told->name, name, sizeof name);
		pool_is_right(s, viewed);
		survived();
	}
	CHECK(at > 1 && at < DEATHS_MAX);
	t_pool_free(&sound);
	t_pool_free(&left);
}

/* ------------------------------------------------------------ scenes */

static void put(uint32_t key, uint64_t v, uint64_t bytes)
{
	CHECK_EQ(t_pool_set(&p, key, v, bytes), 0);
	version[key] = v;
	n_keys = key >= n_keys ? key + 1 : n_keys;
}

/* n keys, and a reader's views of two of them. */
static void some_keys(uint32_t n)
{
	for (uint32_t key = 0; key < n; key++) {
		put(key, 1, key == VIEWED || key == VIEWED_LIVE ? VIEW_BYTES : 16 + key % 50);
		if (key != VIEWED_LIVE)
			continue;
		take_view(&view[0], VIEWED, SHM_PIN_VIEW);
		take_view(&view[1], VIEWED_LIVE, SHM_PIN_VIEW + 1);
		put(VIEWED, 2, VIEW_BYTES);
	}
}

static void play(const struct scene *s, uint64_t pool_bytes)
{
	told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(told != MAP_FAILED);
	t_pool_new(&p, &(struct t_pool_opts){
			       .pool_bytes = pool_bytes, .n_keys = BIG_KEYS, .scrub = s->scrub});
	if (s->prepare) {
		start();
		s->prepare();
		t_pool_stop(&p);
	}
	if (s->damage)
		s->damage();
	sweep(s, s->prepare != NULL);
	t_pool_free(&p);
}

static void prepare_few(void) { some_keys(40); }
static void set_new(void) { CHECK_EQ(t_pool_set(&p, 40, 9, 300), 0); }
static void overwrite(void) { CHECK_EQ(t_pool_set(&p, VIEWED_LIVE, 9, 300), 0); }
static void overwrite_large(void) { CHECK_EQ(t_pool_set(&p, VIEWED_LIVE, 9, 50000), 0); }
static void delete (void) { CHECK_EQ(t_pool_delete(&p, VIEWED_LIVE), 0); }

TEST_LIMIT(killed_in_a_set_of_a_new_key, 200)
{
	play(&(struct scene){prepare_few, set_new, .key = 40, .to = 9, .request = true,
		     .nested = 3},
		256 << 10);
	expect_proved("set:filled set:intended set:published journal:resulted journal:cleared");
	expect_proved("adopt:attached adopt:cleaned adopt:claimed adopt:done journal:decided");
	expect_proved("alloc:run-rest alloc:run-conts alloc:run-heads alloc:adopt-repair");
}

TEST_LIMIT(killed_in_an_overwrite, 200)
{
	play(&(struct scene){prepare_few, overwrite, .key = VIEWED_LIVE, .to = 9, .request = true,
		     .nested = 5},
		256 << 10);
	play(&(struct scene){prepare_few, overwrite_large, .key = VIEWED_LIVE, .to = 9,
		     .request = true},
		256 << 10);
	expect_proved("set:published engine:retired");
}

TEST_LIMIT(killed_in_a_delete, 200)
{
	play(&(struct scene){prepare_few, delete, .key = VIEWED_LIVE, .to = 0, .request = true,
		     .nested = 2},
		256 << 10);
	expect_proved("delete:intended delete:published engine:retired");
}

static void unlink_one(void)
{
	struct shm_changed c;

	CHECK_EQ(shm_pool_unlink(&p.w, t_pool_find(&p, 5), &c), 0);
}
static void move_one(void)
{
	uint64_t off;

	CHECK_EQ(shm_pool_move(&p.w, t_pool_find(&p, 5), &off), 0);
}

TEST_LIMIT(killed_in_changes_of_the_engine_itself, 200)
{
	play(&(struct scene){prepare_few, unlink_one, .key = 5, .to = 0}, 256 << 10);
	play(&(struct scene){prepare_few, move_one, .key = 5, .to = 1}, 256 << 10);
	expect_proved("delete:published move:copied move:published");
}

/* As what comes from a checkpoint. */
static void apply(uint32_t key, uint64_t v, uint64_t bytes)
{
	static uint8_t value[KEYS_MAX];
	uint8_t name[T_KEY_BYTES_MAX];
	struct shm_after a = {.version = 1ull << 40, .created_ns = 1};
	struct shm_changed c;

	t_pool_key(&p, key, name, &a.set.key);
	t_value_make(key, v, value, bytes);
	a.set.value = value;
	a.set.stamp = v;
	a.set.value_bytes = bytes;
	CHECK_EQ(shm_pool_apply(&p.w, &a, &c), 0);
	CHECK_EQ(shm_pool_item(&p.w, c.off)->version, 1ull << 40);
}
static void apply_new(void) { apply(40, 9, 300); }
static void apply_over(void) { apply(5, 9, 3000); }

TEST_LIMIT(killed_in_what_comes_from_a_checkpoint, 200)
{
	play(&(struct scene){prepare_few, apply_new, .key = 40, .to = 9}, 256 << 10);
	play(&(struct scene){prepare_few, apply_over, .key = 5, .to = 9}, 256 << 10);
	expect_proved("apply:filled apply:published");
}

static void delete_and_sweep(void)
{
	CHECK_EQ(t_pool_delete(&p, VIEWED_LIVE), 0);
	CHECK(t_pool_sweep(&p) == 0);
}
static void prepare_large(void)
{
	some_keys(40);
	put(20, 2, 40000);
}
static void overwrite_and_sweep(void)
{
	CHECK_EQ(t_pool_set(&p, 20, 9, 60000), 0);
	CHECK(t_pool_sweep(&p) > 40000);
}

TEST_LIMIT(killed_in_a_sweep, 200)
{
	play(&(struct scene){prepare_few, delete_and_sweep, .key = VIEWED_LIVE, .to = 0,
		     .request = true},
		256 << 10);
	play(&(struct scene){prepare_large, overwrite_and_sweep, .key = 20, .to = 9}, 512 << 10);
	expect_proved(
		"engine:barrier engine:scanned engine:freed alloc:give-head alloc:give-joined");
}

static void set_delete_and_sweep(void)
{
	CHECK_EQ(t_pool_set(&p, 40, 8, 3000), 0);
	CHECK_EQ(t_pool_delete(&p, 40), 0);
	CHECK(t_pool_sweep(&p) > 3000);
	CHECK_EQ(t_pool_set(&p, 20, 9, 20000), 0);
}

TEST_LIMIT(killed_in_a_scrubbed_pool, 200)
{
	play(&(struct scene){prepare_few, delete_and_sweep, .key = VIEWED_LIVE, .to = 0,
		     .request = true, .scrub = true, .nested = 3},
		256 << 10);
	play(&(struct scene){prepare_large, set_delete_and_sweep, .key = 20, .to = 9, .scrub = true,
		     .nested = 5},
		512 << 10);
	expect_proved("set:filled engine:scrubbed engine:freed adopt:done");
}

/* ------------------------------------------------------------ growth */

static void prepare_due(void) { some_keys(GROW_AT); }
static void set_300(void) { CHECK_EQ(t_pool_set(&p, 300, 9, 40), 0); }

TEST_LIMIT(killed_where_growth_begins, 200)
{
	play(&(struct scene){prepare_due, set_300, .key = 300, .to = 9, .request = true,
		     .nested = 19},
		512 << 10);
	expect_proved("grow:created grow:begun grow:copied grow:moved grow:chain-moved "
		      "adopt:chain-finished");
}

static void prepare_growing(void)
{
	some_keys(GROW_AT);
	CHECK(shm_pool_grow_step(&p.w, 20));
}
static void set_300_and_grow(void)
{
	CHECK_EQ(t_pool_set(&p, 300, 9, 40), 0);
	CHECK(shm_pool_grow_step(&p.w, 24));
}

TEST_LIMIT(killed_while_chains_move, 200)
{
	play(&(struct scene){prepare_growing, set_300_and_grow, .key = 300, .to = 9,
		     .request = true, .nested = 23},
		512 << 10);
	expect_proved("grow:copied grow:moved grow:chain-moved adopt:chain-finished");
}

static void prepare_grown(void)
{
	some_keys(GROW_AT);
	CHECK(shm_pool_grow_step(&p.w, 62));
}
static void set_300_and_sweep(void)
{
	CHECK_EQ(t_pool_set(&p, 300, 9, 40), 0);
	CHECK(!shm_pool_grow_step(&p.w, 64));
	CHECK(t_pool_sweep(&p) > shm_index_bytes(6, 16)); /* the old table goes */
}

TEST_LIMIT(killed_where_growth_ends, 200)
{
	play(&(struct scene){prepare_grown, set_300_and_sweep, .key = 300, .to = 9, .nested = 29},
		512 << 10);
	expect_proved("grow:table-published grow:table-retired engine:freed");
}

/* A chain whose bucket is full: the next key of it links an overflow bucket. */
static uint32_t chain_key(uint32_t n)
{
	for (uint32_t key = 5000;; key++) {
		uint8_t bytes[T_KEY_BYTES_MAX];
		struct shm_key k;
		t_pool_key(&p, key, bytes, &k);
		if (shm_hash_bucket(k.hash, INDEX_LOG2_MIN) == 33 && n-- == 0)
			return key;
	}
}
static void prepare_full_bucket(void)
{
	for (uint32_t i = 0; i < SHM_BUCKET_SLOTS; i++)
		CHECK_EQ(t_pool_set(&p, chain_key(i), 1, 30), 0);
	some_keys(5);
}
static void set_linking(void)
{
	CHECK_EQ(t_pool_set(&p, chain_key(SHM_BUCKET_SLOTS), 9, 30), 0);
	CHECK_EQ(p.w.cur.overflow_used, 1);
}

TEST_LIMIT(killed_where_an_overflow_bucket_is_linked, 200)
{
	struct scene s = {prepare_full_bucket, set_linking, .to = 9, .request = true, .nested = 9};

	t_pool_new(&p, &(struct t_pool_opts){.pool_bytes = 256 << 10}); /* for the hash alone */
	s.key = chain_key(SHM_BUCKET_SLOTS);
	t_pool_free(&p);
	play(&s, 256 << 10);
	expect_proved("index:linked");
}

static void prepare_linked(void)
{
	prepare_full_bucket();
	set_linking();
}
static void delete_linked(void)
{
	CHECK_EQ(t_pool_delete(&p, chain_key(SHM_BUCKET_SLOTS)), 0);
	CHECK_EQ(p.w.cur.overflow_used, 0);
}

TEST_LIMIT(killed_where_an_overflow_bucket_is_given_back, 200)
{
	struct scene s = {prepare_linked, delete_linked, .from = 9, .request = true, .nested = 3};

	t_pool_new(&p, &(struct t_pool_opts){.pool_bytes = 256 << 10}); /* for the hash alone */
	s.key = chain_key(SHM_BUCKET_SLOTS);
	t_pool_free(&p);
	play(&s, 256 << 10);
	expect_proved("delete:published index:unlinked");
}

/* ------------------------------------------------------------ format, adoption, eviction */

TEST_LIMIT(killed_while_formatting, 200)
{
	play(&(struct scene){NULL, start, .key = BIG_KEYS, .starts = true, .nested = 1}, 256 << 10);
	expect_proved("format:table format:done");
}

/* Memory in the middle of a chain's move, and one slot that names nonsense. */
static struct t_pool half;
static uint32_t half_left = 40;
static uint64_t half_word;

static void keep_half(const char *name)
{
	if (strcmp(name, "grow:moved") == 0 && half_left > 0 && --half_left == 0)
		t_pool_copy(&half, &p);
}

static void prepare_half(void)
{
	uint8_t bytes[T_KEY_BYTES_MAX];
	struct shm_key k;

	some_keys(GROW_AT);
	t_pool_key(&p, 30, bytes, &k);
	half_word = shm_word_make(shm_hash_tag(k.hash), t_pool_find(&p, 30), 0);
	shm_step_hook = keep_half;
	(void)shm_pool_grow_step(&p.w, 20);
	shm_step_hook = NULL;
	CHECK_EQ(half_left, 0);
}

static void damage_half(void)
{
	uint64_t n = 0;

	t_pool_restore(&p, &half);
	t_pool_free(&half);
	for (uint64_t *w = (uint64_t *)(void *)p.base; w < (uint64_t *)(void *)(p.base + p.bytes);
		w++)
		if (*w == half_word) {
			*w |= 2;
			n++;
		}
	CHECK_EQ(n, 1);
}

TEST_LIMIT(killed_while_adopting, 200)
{
	play(&(struct scene){prepare_half, start, .key = 30, .to = 0, .starts = true, .nested = 37,
		     .damage = damage_half},
		512 << 10);
	expect_proved("adopt:dropped adopt:cleaned adopt:chain-finished adopt:claimed adopt:done");
}

/* The key that found no room. */
static uint32_t homeless;

static void prepare_full_pool(void)
{
	struct shm_changed c;
	int e;

	some_keys(20);
	do {
		homeless = n_keys;
		e = t_pool_try(&p, homeless, 1, 1000, 0, &c);
		if (e == 0)
			version[n_keys++] = 1;
	} while (e == 0);
	CHECK_EQ(e, POOL_FULL);
}
static void set_evicting(void) { CHECK_EQ(t_pool_set(&p, homeless, 9, 1000), 0); }

TEST_LIMIT(killed_while_making_room, 200)
{
	struct scene s = {prepare_full_pool, set_evicting, .to = 9, .request = true, .lossy = true,
		.nested = 31};

	t_pool_new(&p, &(struct t_pool_opts){.pool_bytes = 256 << 10, .n_keys = BIG_KEYS});
	start();
	prepare_full_pool(); /* to learn which key it is: the pool is the same each time */
	s.key = homeless;
	t_pool_free(&p);
	n_keys = 0;
	play(&s, 256 << 10);
	expect_proved("delete:published engine:freed set:published");
}

/* ------------------------------------------------------------ readers */

static int scan_on(void *arg, const void *key, uint64_t key_bytes, const struct shm_found *f)
{
	(void)arg, (void)key, (void)key_bytes, (void)f;
	return 0;
}

/* Reads in every way: a copy, a view over another look-up, several at once, a scan. */
static void read_some(void)
{
	struct shm_scan scan = {.cell = SHM_PIN_CALL};
	uint64_t cursor = 0;
	struct shm_reader r = t_pool_reader(&p, 1, 1);
	struct shm_map m = t_pool_map(&p);
	uint8_t bytes[T_KEY_BYTES_MAX];
	struct shm_found f;
	struct shm_key k;
	uint64_t v;

	CHECK_EQ(t_pool_get(&p, &r, 10, &v), 0);
	CHECK_EQ(t_pool_get(&p, &r, 1000, &v), READ_MISS);
	for (uint32_t cell = SHM_PIN_VIEW; cell < SHM_PIN_VIEW + 3; cell++) {
		t_pool_key(&p, 10, bytes, &k);
		CHECK_EQ(shm_read_find(&r, &m, &k, cell, &f), 0);
		CHECK_EQ(t_pool_get(&p, &r, 11, &v), 0);
	}
	for (uint32_t cell = SHM_PIN_VIEW; cell < SHM_PIN_VIEW + 3; cell++)
		shm_read_unpin(r.block, cell);
	t_pool_key(&p, 10, bytes, &k);
	scan.store_id = k.store_id;
	scan.epoch = k.epoch;
	for (int i = 0; i < 3; i++)
		CHECK_EQ(shm_read_scan(&r, &m, &scan, &cursor, scan_on, NULL), 0);
}

/* The kernel says that the session is dead: it leaves the scan set (rule P19). */
static void session_ends(void)
{
	struct shm_block *b = (struct shm_block *)(void *)(p.client[1] + 1);

	p.session[1] = p.session[--p.n_sessions];
	(void)t_pool_sweep(&p);
	CHECK_EQ(p.w.limbo.n, 0); /* its pins hold nothing any more */
	p.session[p.n_sessions++] = p.session[1];
	p.session[1].seg = p.client[1];
	p.session[1].slot = 1;
	memset(b, 0, T_POOL_BLOCKS * sizeof *b); /* the next one has a segment of its own */
}

TEST_LIMIT(reader_killed_at_every_mark, 200)
{
	uint64_t at = 1, held = 0;

	told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(told != MAP_FAILED);
	t_pool_new(&p, &(struct t_pool_opts){.pool_bytes = 512 << 10});
	start();
	for (uint32_t key = 0; key < GROW_AT; key++)
		put(key, 1, 500);
	CHECK(shm_pool_grow_step(&p.w, 30));
	for (; dies(NULL, read_some, at); at++) {
		for (uint32_t key = 10; key < 12; key++)
			put(key, version[key] + 1, 500);
		(void)t_pool_sweep(&p);
		held += p.w.limbo.n; /* the engine has not heard yet: what was pinned stays */
		session_ends();
		for (uint32_t key = 0; key < n_keys; key++)
			CHECK_EQ(get(key), version[key]);
		t_pool_check(&p);
		survived();
		if (at % 3 == 0)
			(void)shm_pool_grow_step(&p.w, 3);
	}
	CHECK(at > 30 && held > 10);
	expect_proved("reader:table-pinned reader:slot-loaded reader:pinned reader:rechecked "
		      "reader:found reader:scan-pinned reader:scanned");
	t_pool_fsck(&p);
	t_pool_free(&p);
}
