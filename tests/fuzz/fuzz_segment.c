/* fuzz_segment.c - the engine's reader of what clients write: pins, touch rings, counters, blocks_used.
 *
 * A pool with entries and two sessions; an input is two lists of words that the client stores into its
 * segment, one before the engine looks and one while it does: a word more at each mark.  The engine
 * drains the rings, scans the pins, sweeps, and folds the counters of a session that ends.  Whatever
 * the words are: no access outside the segments, no entry is harmed, no count grows beyond what
 * one client may claim, and what nobody pins is free in the end.
 *
 * In the last test a thread stores such words all the time. */
#include <pthread.h>
#include <sys/mman.h>
#include "../../daemon/eng.h"
#include "../kit/t_pool.h"
#include "fuzz.h"
#include "step.h"

enum { POOL_BYTES = 1 << 20, KEYS = 64, SESSIONS = 2, WORD_INPUT_BYTES = 10 };
#define CLAIM_MAX (1ull << 48) /* READS_MAX of daemon/eng_fold.c */
#define LOST_CLAIM_MAX (1ull << 32)

static struct t_pool p;
static struct eng e;
static struct config config;
static struct heritage heritage;
static uint64_t off_of[KEYS]; /* where the entries are */
static uint64_t request;

/* What is stored while the engine looks. */
static struct fuzz_in coming;

static const struct shm_pinset *scan_now(void *arg)
{
	struct eng_pool *ep = arg;

	shm_scan_pins(&ep->e->pins, ep->e->ctl, ep->e->scan, ep->e->n_scan, false);
	return &ep->e->pins;
}

/* ------------------------------------------------------------------ an engine without a daemon */

static void set_key(uint32_t key)
{
	struct eng_pool *ep = &e.pool[T_POOL_IDX];
	uint8_t bytes[T_KEY_BYTES_MAX], value[600];
	struct shm_changed ch = {0};
	struct shm_set set = {
		.value = value, .value_bytes = 8 + key * 7, .now_wall_ns = 1, .now_ms = 1};
	struct shm_req req = {.verb = WIRE_SET, .session_id = p.client[0]->session_id};

	req.request = ++request;
	t_pool_key(&p, key, bytes, &set.key);
	t_value_make(key, request, value, set.value_bytes);
	CHECK_EQ(shm_pool_set(&ep->w, e.journal, &req, &set, &ch), 0);
	CHECK_EQ(eng_store_got(ep, &e.store[T_POOL_STORE], &ch, e.now_ns), 0);
	off_of[key] = ch.off;
}

static void engine_start(void)
{
	struct eng_pool *ep = &e.pool[T_POOL_IDX];

	t_pool_new(&p, &(struct t_pool_opts){.pool_bytes = POOL_BYTES, .full_fence = true});
	config_defaults(&config);
	log_open(2, CONFIG_LOG_ERROR, "engine");
	heritage.channel_fd = -1;
	config.store[0].id = shm_load_rlx(&p.ctl->store[T_POOL_STORE].id);
	(void)snprintf(config.store[0].policy, sizeof config.store[0].policy, "s3-fifo");
	config.store[0].pool_idx = T_POOL_IDX;
	config.n_stores = 1;
	e = (struct eng){
		.h = &heritage, .config = &config, .ctl = p.ctl, .journal = p.journal, .now_ns = 1};
	e.session = calloc(SESSIONS, sizeof *e.session);
	e.scan = calloc(SESSIONS, sizeof *e.scan);
	e.scan_slot = calloc(SESSIONS, sizeof *e.scan_slot);
	CHECK(e.session && e.scan && e.scan_slot);
	e.n_sessions = SESSIONS;
	ep->base = p.base;
	ep->bytes = p.bytes;
	ep->limbo_cap_bytes = 64; /* less than most entries: pins are revoked */
	ep->e = &e;
	CHECK_EQ(eng_store_open(&e), 0);
	CHECK_EQ(shm_pool_open(&ep->w, p.base, p.ctl, p.journal, T_POOL_IDX, scan_now,
			 eng_store_adopted, ep),
		0);
	for (uint32_t i = 0; i < KEYS; i++)
		set_key(i);
}

static uint64_t session_ids = 1000;

static void session_begin(uint32_t slot, uint32_t n_blocks, uint32_t pools)
{
	size_t bytes = sizeof(struct shm_client) + n_blocks * sizeof(struct shm_block);
	uint8_t *at = mmap(NULL, bytes + SHM_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct eng_session *s = &e.session[slot];

	CHECK(at != MAP_FAILED && mprotect(at, bytes, PROT_READ | PROT_WRITE) == 0);
	*s = (struct eng_session){.state = ENG_SESSION_LIVE,
		.slot = slot,
		.id = ++session_ids, /* none recurs */
		.peer = {.read_pools = pools},
		.memfd = -1,
		.pidfd = -1,
		.given_fd = -1,
		.seg = (const struct shm_client *)(const void *)at,
		.seg_bytes = bytes,
		.n_blocks = n_blocks,
		.scan_idx = e.n_scan,
		.e = &e};
	e.scan_slot[e.n_scan] = slot;
	e.scan[e.n_scan++] = (struct shm_scan_session){
		.seg = s->seg, .n_blocks = n_blocks, .slot = slot, .hidden_pools = ~pools};
}

/* The guard page behind the segment, which eng_session_end does not know of, and all else of a session. */
static void session_finish(uint32_t slot)
{
	struct eng_session *s = &e.session[slot];
	uint8_t *guard = (uint8_t *)(uintptr_t)s->seg + s->seg_bytes;

	eng_session_end(s, ENG_ENDED_BYE);
	CHECK_EQ(s->state, ENG_SESSION_ENDING); /* there is no supervisor to be told */
	CHECK_EQ(munmap(guard, SHM_PAGE), 0);
	s->state = ENG_SESSION_FREE;
}

/* ------------------------------------------------------------------ the client's words */

/* A word of the segment of a session, and its new value: a number, an entry's place with or without the
 * generation that counts, or a small one. */
static void store_word(struct fuzz_in *in)
{
	enum { HOW_SHIFT = 13, HOW_PLACE = 1, HOW_PIN = 2, HOW_USED = 3 };
	uint64_t at = fuzz_take(in, 2), v = fuzz_take(in, 8), how = at >> HOW_SHIFT & 3;
	struct eng_session *s = &e.session[at >> 15];

	if (s->state != ENG_SESSION_LIVE)
		return;
	shm_u64 *word = (shm_u64 *)(uintptr_t)s->seg;
	if (how == HOW_PLACE || how == HOW_PIN)
		v = off_of[v % KEYS] + (v >> 21 & 1 ? v >> 8 & 0xff0 : 0) +
		    (v >> 20 & 1 ? 0 : T_POOL_IDX);
	if (how == HOW_PIN)
		v |= p.ctl->pin_gen[s->slot].v << SHM_WORD_TOP_SHIFT;
	if (how == HOW_USED)
		shm_store32_rlx((shm_u32 *)(uintptr_t)&s->seg->blocks_used, (uint32_t)v);
	else
		shm_store_rlx(&word[at % 8192 % (s->seg_bytes / 8)], v);
}

#ifdef HC_STEPS
static void at_mark(const char *name)
{
	(void)name;
	if (coming.left)
		store_word(&coming);
}
#endif

static uint64_t daemon_counter(enum shm_daemon_counter i)
{
	return shm_load_rlx(&p.ctl->counter[i]);
}
static uint64_t store_counter(enum shm_store_counter i)
{
	return shm_load_rlx(&p.ctl->store[T_POOL_STORE].counter[i]);
}

/* One round of what the engine does with its clients' memory. */
static void engine_looks(uint64_t claims)
{
	uint64_t hints = daemon_counter(SHM_DC_hints), lost = daemon_counter(SHM_DC_hints_lost);
	uint64_t hits = store_counter(SHM_SC_folded_hits);

	eng_hint_drain(&e, ENG_HINT_BLOCKS);
	CHECK(daemon_counter(SHM_DC_hints) - hints <= claims * SHM_HINTS);
	CHECK(daemon_counter(SHM_DC_hints_lost) - lost <= claims * LOST_CLAIM_MAX);
	CHECK(e.session[0].state == ENG_SESSION_LIVE);
	set_key((uint32_t)(request % KEYS)); /* the old one goes to limbo */
	(void)eng_room_sweep(&e);
	eng_hint_drain(&e, ENG_HINT_BLOCKS);
	CHECK(store_counter(SHM_SC_folded_hits) == hits);
}

static void check_nothing_is_harmed(void)
{
	struct eng_pool *ep = &e.pool[T_POOL_IDX];

	(void)eng_room_sweep(&e);
	CHECK_EQ(ep->w.limbo.n, 0);
	CHECK_EQ(ep->w.n_entries, KEYS);
	CHECK_EQ(store_counter(SHM_SC_entries), KEYS);
	for (uint32_t i = 0; i < KEYS; i++) {
		const struct shm_item *it = shm_pool_item(&ep->w, off_of[i]);
		CHECK(t_value_version(i,
			      (const uint8_t *)it + shm_item_value_off(shm_lens_key(it->lens)),
			      shm_lens_value(it->lens)) != 0);
	}
}

static void sessions_begin(uint64_t how)
{
	for (uint32_t i = 0; i < SESSIONS; i++)
		session_begin(i, 1 + (how >> i * 2 & 3), how >> 4 & 1 ? ~0u : 1u << T_POOL_IDX);
}

static void sessions_end(void)
{
	for (uint32_t i = 0; i < SESSIONS; i++) {
		uint64_t hits = store_counter(SHM_SC_folded_hits),
			 misses = store_counter(SHM_SC_folded_misses);
		session_finish(i);
		CHECK(store_counter(SHM_SC_folded_hits) - hits <= CLAIM_MAX);
		CHECK(store_counter(SHM_SC_folded_misses) - misses <= CLAIM_MAX);
	}
}

static enum fuzz_verdict fuzz_one(const uint8_t *data, size_t bytes)
{
	struct fuzz_in in = {data, bytes};

	if (!e.ctl)
		engine_start();
	uint64_t how = fuzz_take(&in, 1), before = fuzz_take(&in, 1);
	sessions_begin(how);
	for (uint64_t i = 0; i < before && in.left; i++)
		store_word(&in);
	coming = in;
#ifdef HC_STEPS
	shm_step_hook = at_mark;
#endif
	engine_looks(SESSIONS * SHM_BLOCKS_MAX);
	while (coming.left) /* what no mark has taken */
		store_word(&coming);
	engine_looks(SESSIONS * SHM_BLOCKS_MAX);
#ifdef HC_STEPS
	shm_step_hook = NULL;
#endif
	sessions_end();
	check_nothing_is_harmed();
	return FUZZ_ANY;
}

FUZZ_TESTS(15000)

#ifndef HC_LIBFUZZER
static shm_u32 scribbling;

static void *scribble(void *arg)
{
	uint64_t state = *(uint64_t *)arg;

	while (shm_load32_acq(&scribbling)) {
		uint8_t bytes[WORD_INPUT_BYTES];
		uint64_t at = t_random_from(&state), v = t_random_from(&state);
		memcpy(bytes, &at, 2);
		memcpy(bytes + 2, &v, 8);
		store_word(&(struct fuzz_in){bytes, sizeof bytes});
	}
	return NULL;
}

TEST_LIMIT(words_that_change_all_the_time_harm_nobody, 100)
{
	enum { SESSION_PAIRS = 100, LOOKS = 1000 };

	engine_start();
	for (int i = 0; i < SESSION_PAIRS; i++) {
		uint64_t seed = t_random();
		pthread_t thread;
		sessions_begin(t_random());
		shm_store32_rel(&scribbling, 1);
		CHECK_EQ(pthread_create(&thread, NULL, scribble, &seed), 0);
		for (int k = 0; k < LOOKS; k++)
			engine_looks(SESSIONS * SHM_BLOCKS_MAX);
		shm_store32_rel(&scribbling, 0);
		CHECK_EQ(pthread_join(thread, NULL), 0);
		sessions_end();
		check_nothing_is_harmed();
	}
	CHECK(daemon_counter(SHM_DC_hints_bad) > 0 && daemon_counter(SHM_DC_revocations) > 0);
	CHECK(daemon_counter(SHM_DC_hints) > daemon_counter(SHM_DC_hints_bad));
}
#endif
