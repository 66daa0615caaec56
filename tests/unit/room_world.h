/* room_world.h - an engine without sockets: one pool, some stores, and the functions that make room.
 *
 * What a connection would bring goes straight to op_publish(), as op_set() calls it; a turn's end and a
 * tick are called by hand, and the clock is the test's.  No session: nobody reads, nobody pins.
 */
#ifndef HC_TESTS_ROOM_WORLD_H
#define HC_TESTS_ROOM_WORLD_H
#include <string.h>
#include <sys/mman.h>
#include "../kit/t.h"
#include "../../daemon/eng.h"
#include "../../daemon/op.h"
#include "../../libclient/hypercache.h"
#include "../../shm/fsck.h"
#include "../../shm/step.h"

enum { ROOM_POOL = 0, ROOM_KEY_BYTES = 16 };

#define ROOM_MIB (1ull << 20)

struct room {
	struct eng *e;
	struct eng_pool *p;
	struct config *config; /* the engine's: of each store its id and its policy */
	uint8_t *value;        /* room_value_bytes of anything */
	uint64_t request;
};

static inline void room_pool_fill(struct shm_control *c, struct shm_segment *seg, uint64_t bytes)
{
	struct shm_pool_entry *pe = &c->pool[ROOM_POOL];

	pe->region[0].bytes = bytes;
	shm_store32_rlx(&pe->n_regions, 1);
	shm_store_rlx(&pe->wanted_bytes, bytes);
	shm_store32_rlx(&pe->pressure_ppm[SHM_PRESSURE_END], 999700);
	shm_store32_rlx(&pe->pressure_ppm[SHM_PRESSURE_LOW], 999800);
	shm_store32_rlx(&pe->pressure_ppm[SHM_PRESSURE_HIGH], 999900);
	shm_store32_rlx(&pe->pressure_ppm[SHM_PRESSURE_FULL], 1000000);
	shm_store_rlx(&pe->id, 7);
	*seg = (struct shm_segment){.byte_order = SHM_BYTE_ORDER,
		.major = SHM_LAYOUT_MAJOR,
		.kind = SHM_KIND_POOL,
		.total_bytes = bytes};
	shm_store_rlx(&seg->magic, SHM_MAGIC);
}

static inline void *room_map(uint64_t bytes)
{
	void *m = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	CHECK(m != MAP_FAILED);
	return m;
}

static inline const struct shm_pinset *room_scan_pins(void *arg)
{
	struct eng_pool *p = arg;

	shm_scan_pins(&p->e->pins, p->e->ctl, p->e->scan, p->e->n_scan, false);
	return &p->e->pins;
}

/* Takes hold of the pool, as an engine does that begins. */
static inline void room_begin(struct room *w)
{
	struct eng *e = w->e;

	CHECK_EQ(eng_store_open(e), 0);
	CHECK_EQ(shm_pool_open(&w->p->w, w->p->base, e->ctl, e->journal, ROOM_POOL, room_scan_pins,
			 eng_store_adopted, w->p),
		0);
	w->p->large_bytes = w->p->w.hdr->cls[w->p->w.hdr->n_classes - 1].item_bytes;
}

/* Forgets all private memory, as a death does. */
static inline void room_stop(struct room *w)
{
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
		if (w->e->store[i].pol) {
			w->e->store[i].pol->ops->free(w->e->store[i].pol);
			wheel_fini(&w->e->store[i].wheel);
		}
		pol_ghost_fini(&w->e->store[i].ghost);
	}
	memset(w->e->store, 0, sizeof w->e->store);
	shm_pool_close(&w->p->w);
	w->p->pressure = 0;
	w->p->window_cursor = 0;
}

/* A pool without thresholds to speak of (all but 0.03 % of it), and stores without guarantees or limits. */
static inline void room_new(struct room *w, uint64_t bytes, uint32_t n_stores)
{
	struct eng *e = calloc(1, sizeof *e);
	struct shm_control *c = room_map(sizeof *c);

	struct config *config = calloc(1, sizeof *config);

	CHECK(e && config);
	*w = (struct room){
		.e = e, .p = &e->pool[ROOM_POOL], .config = config, .value = room_map(bytes)};
	config->n_stores = n_stores;
	e->config = config;
	e->ctl = c;
	e->journal = room_map(shm_journal_bytes(1));
	e->journal->n_sessions = 1;
	shm_journal_open(e->journal, 0, 1);
	e->now_ns = 1000000000;
	w->p->e = e;
	w->p->bytes = bytes;
	w->p->base = room_map(bytes);
	room_pool_fill(c, (void *)w->p->base, bytes);
	c->hash_seed = 42;
	for (uint32_t i = 0; i < n_stores; i++) {
		struct shm_store_entry *se = &c->store[i];
		(void)snprintf(se->name, sizeof se->name, "s%u", i);
		config->store[i].id = 100 + i;
		(void)snprintf(config->store[i].policy, sizeof config->store[i].policy, "s3-fifo");
		shm_store_rlx(&se->id, 100 + i);
	}
	room_begin(w);
}

static inline void room_free(struct room *w)
{
	uint64_t bytes = w->p->bytes;

	room_stop(w);
	shm_pinset_fini(&w->e->pins);
	free(w->e->places);
	CHECK_EQ(munmap(w->value, bytes), 0);
	CHECK_EQ(munmap(w->p->base, bytes), 0);
	CHECK_EQ(munmap(w->e->journal, shm_journal_bytes(1)), 0);
	CHECK_EQ(munmap(w->e->ctl, sizeof *w->e->ctl), 0);
	free(w->config);
	free(w->e);
}

static inline struct shm_key room_key(
	const struct room *w, uint32_t store, uint64_t key, uint8_t bytes[ROOM_KEY_BYTES])
{
	memset(bytes, 'k', ROOM_KEY_BYTES);
	memcpy(bytes, &key, sizeof key);
	uint64_t id = w->e->store[store].id;
	return (struct shm_key){.bytes = bytes,
		.n_bytes = ROOM_KEY_BYTES,
		.store_id = id,
		.hash = shm_key_hash(bytes, ROOM_KEY_BYTES, w->e->ctl->hash_seed, id)};
}

/* One SET, as op_set() carries it out.  The status that a client sees. */
static inline int32_t room_set(struct room *w, uint32_t store, uint64_t key, uint64_t value_bytes)
{
	struct eng_store *s = &w->e->store[store];
	struct shm_req req = {.verb = WIRE_SET, .session_id = 1, .request = ++w->request};
	struct shm_set set = {.value = w->value, .value_bytes = value_bytes};
	struct wire_answer a = {0};
	struct shm_changed ch = {0};
	uint8_t bytes[ROOM_KEY_BYTES];

	set.key = room_key(w, store, key, bytes);
	set.now_ms = w->e->now_ns / 1000000;
	set.old_only = !eng_pressure_admits(w->p, s, set.key.hash);
	int32_t status = op_publish(w->p, s, &req, &set, NULL, &ch);
	op_written(w->p, s, &req, &a, status, &ch, w->e->now_ns);
	return a.status;
}

/* Where the key's entry is; 0: absent. */
static inline uint64_t room_find(struct room *w, uint32_t store, uint64_t key)
{
	uint8_t bytes[ROOM_KEY_BYTES];
	struct shm_key k = room_key(w, store, key, bytes);

	return shm_pool_find(&w->p->w, &k);
}

/* A read's hint, as it is drained.  True: the key was there. */
static inline bool room_touch(struct room *w, uint32_t store, uint64_t key)
{
	struct eng_store *s = &w->e->store[store];
	uint64_t off = room_find(w, store, key);

	if (off)
		s->pol->ops->touch(s->pol, *shm_alloc_note(w->p->w.alloc, off), 0);
	return off != 0;
}

/* The end of a turn, with all that is left to do in the background. */
static inline void room_turn(struct room *w)
{
	while (eng_pressure_turn(w->e))
		;
	eng_room_turn(w->e);
}

static inline void room_tick(struct room *w)
{
	w->e->now_ns += 500000000;
	eng_worth_tick(w->e);
	eng_room_tick(w->e);
	(void)shm_pool_grow_step(&w->p->w, ENG_GROW_CHAINS);
}

static inline uint64_t room_counter(const struct room *w, uint32_t store, enum shm_store_counter c)
{
	return shm_load_rlx(&w->e->ctl->store[store].counter[c]);
}

static inline uint64_t room_places(const struct room *w, uint32_t store)
{
	return room_counter(w, store, SHM_SC_place_bytes);
}

/* What was evicted of a store, by reason: their sum, which is the whole. */
static inline uint64_t room_evicted_reasons(const struct room *w, uint32_t store)
{
	static const enum shm_store_counter reasons[] = {SHM_SC_evicted_limit,
		SHM_SC_evicted_pressure, SHM_SC_evicted_full, SHM_SC_evicted_given,
		SHM_SC_evicted_aside, SHM_SC_evicted_shrunk, SHM_SC_evicted_index};
	uint64_t sum = 0;

	for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
		sum += room_counter(w, store, reasons[i]);
	return sum;
}

static inline void room_print(void *arg, const struct shm_fsck_finding *f)
{
	(void)arg;
	fprintf(stderr, "  I%u at %#llx: %s\n", f->invariant, (unsigned long long)f->off, f->text);
}

/* The accounts of the pool, against a walk; those of the stores, against the policies'. */
static inline void room_check(struct room *w)
{
	struct shm_fsck_stats st;
	uint64_t entries = 0, live = 0;

	shm_pool_account(&w->p->w);
	CHECK_EQ(
		shm_fsck_pool(w->e->ctl, ROOM_POOL, w->p->base, w->p->bytes, room_print, NULL, &st),
		0);
	CHECK(st.quiet);
	CHECK_EQ(shm_alloc_verify(w->p->w.alloc), 0);
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
		const struct eng_store *s = &w->e->store[i];
		struct pol_stats ps;
		if (!s->id)
			continue;
		s->pol->ops->stats(s->pol, &ps);
		CHECK_EQ(ps.entries, room_counter(w, i, SHM_SC_entries));
		CHECK_EQ(ps.bytes, room_places(w, i));
		CHECK_EQ(room_evicted_reasons(w, i), room_counter(w, i, SHM_SC_evicted));
		entries += ps.entries;
		live += room_counter(w, i, SHM_SC_live_bytes);
	}
	CHECK_EQ(entries, w->p->w.n_entries);
	CHECK_EQ(live, w->p->w.live_bytes);
}

#endif
