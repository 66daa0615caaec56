/* t_pool.c - see t_pool.h. */
#include "t_pool.h"
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include "../../shm/atomic.h"
#include "../../shm/fsck.h"

enum { JOURNAL_SESSIONS = T_POOL_SESSIONS, EVICT_TRIES = 4096 };

#define STORE_ID 0x1234567890ull
#define POOL_ID 77ull
#define DAEMON_ID 0xdae1ull
#define SESSION_ID(i) (0x5e5500000000ull + (i))

/* ------------------------------------------------------------ memory */

static uint64_t round_page(uint64_t n) { return (n + SHM_PAGE - 1) / SHM_PAGE * SHM_PAGE; }

static uint64_t client_bytes(void)
{
	return sizeof(struct shm_client) + T_POOL_BLOCKS * sizeof(struct shm_block);
}

/* Where the parts are; with NULL as memory, how much they take: so these are numbers, not pointers. */
static void place(struct t_pool *p)
{
	uintptr_t mem = (uintptr_t)p->mem;
	uint64_t at = 0;

	p->ctl = (struct shm_control *)(void *)p->mem;
	at += round_page(sizeof *p->ctl);
	p->journal = (struct shm_journal *)(mem + at);
	at += round_page(shm_journal_bytes(JOURNAL_SESSIONS));
	for (uint32_t i = 0; i < T_POOL_SESSIONS; i++) {
		p->client[i] = (struct shm_client *)(mem + at);
		at += round_page(client_bytes());
	}
	at += SHM_PAGE; /* guard */
	p->base = (uint8_t *)(mem + at);
	p->mem_bytes = at + p->bytes + SHM_PAGE;
}

static void map(struct t_pool *p)
{
	p->mem = NULL;
	place(p);
	p->mem = mmap(
		NULL, p->mem_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(p->mem != MAP_FAILED);
	place(p);
	CHECK_EQ(mprotect(p->base - SHM_PAGE, SHM_PAGE, PROT_NONE), 0);
	CHECK_EQ(mprotect(p->base + p->bytes, SHM_PAGE, PROT_NONE), 0);
	if (p->opts.n_keys == 0)
		p->opts.n_keys = 65536;
	p->fifo_cap = 4096;
	p->fifo = malloc(p->fifo_cap * sizeof *p->fifo);
	CHECK(p->fifo);
}

static void fill_segment(struct shm_segment *s, enum shm_kind kind, uint64_t bytes)
{
	s->byte_order = SHM_BYTE_ORDER;
	s->major = SHM_LAYOUT_MAJOR;
	s->minor = SHM_LAYOUT_MINOR;
	s->kind = kind;
	s->total_bytes = bytes;
	s->daemon_id = DAEMON_ID;
	shm_store_rlx(&s->magic, SHM_MAGIC);
}

static void fill_directory(struct t_pool *p, uint32_t n_regions)
{
	struct shm_pool_entry *e = &p->ctl->pool[T_POOL_IDX];
	struct shm_store_entry *s = &p->ctl->store[T_POOL_STORE];

	fill_segment(&p->ctl->seg, SHM_KIND_CONTROL, sizeof *p->ctl);
	for (uint32_t i = 0; i < n_regions; i++) {
		e->region[i] = (struct shm_region){
			.base_off = i * p->opts.pool_bytes, .bytes = p->opts.pool_bytes};
		fill_segment((struct shm_segment *)(void *)(p->base + i * p->opts.pool_bytes),
			SHM_KIND_POOL, p->opts.pool_bytes);
	}
	shm_store32_rlx(&e->n_regions, n_regions);
	(void)snprintf(e->name, sizeof e->name, "test");
	shm_store_rlx(&e->max_value_bytes, p->opts.pool_bytes / 4);
	e->flags = p->opts.scrub ? SHM_POOL_SCRUB : 0;
	e->feed_bytes = p->opts.feed_bytes;
	shm_store_rlx(&e->id, POOL_ID);
	(void)snprintf(s->name, sizeof s->name, "test");
	s->pool_idx = T_POOL_IDX;
	shm_store_rlx(&s->epoch, 3);
	shm_store_rlx(&s->id, STORE_ID);
	p->ctl->hash_seed = 42;
	p->ctl->n_sessions = T_POOL_SESSIONS;
	p->ctl->n_blocks = T_POOL_BLOCKS;
}

void t_pool_new(struct t_pool *p, const struct t_pool_opts *opts)
{
	uint32_t n_regions = opts->n_regions ? opts->n_regions : 1;

	*p = (struct t_pool){.opts = *opts, .bytes = opts->pool_bytes * n_regions, .now_ns = 1};
	const char *config = getenv("T_CONFIG"); /* tests/README.md */
	if (!shm_barrier_is_allowed() || (config && strstr(config, "membarrier: off")))
		p->opts.full_fence = true;
	map(p);
	fill_directory(p, n_regions);
	p->journal->n_sessions = JOURNAL_SESSIONS;
	for (uint32_t i = 0; i < T_POOL_SESSIONS; i++) {
		p->client[i]->session_id = SESSION_ID(i);
		p->client[i]->n_blocks = T_POOL_BLOCKS;
		shm_store_rlx(&p->ctl->pin_gen[i], 100 + i);
		shm_journal_open(p->journal, i, SESSION_ID(i));
	}
	p->n_sessions = T_POOL_SESSIONS;
	for (uint32_t i = 0; i < p->n_sessions; i++)
		p->session[i] = (struct shm_scan_session){.seg = p->client[i],
			.n_blocks = T_POOL_BLOCKS,
			.slot = i,
			.compiler_fence = !p->opts.full_fence};
}

/* Everything but the pool's pages can be copied as one; the guard pages cannot be read. */
static void copy_bytes(struct t_pool *to, const struct t_pool *from)
{
	memcpy(to->mem, from->mem, (uint64_t)(from->base - SHM_PAGE - from->mem));
	memcpy(to->base, from->base, from->bytes);
}

void t_pool_copy(struct t_pool *ret, const struct t_pool *p)
{
	*ret = *p;
	map(ret);
	ret->running = false;
	ret->w = (struct shm_wpool){0};
	ret->pins = (struct shm_pinset){0};
	ret->fifo_head = ret->fifo_tail = 0;
	for (uint32_t i = 0; i < T_POOL_SESSIONS; i++)
		ret->session[i].seg = ret->client[i];
	copy_bytes(ret, p);
}

void t_pool_restore(struct t_pool *to, const struct t_pool *from)
{
	CHECK(!to->running && to->mem_bytes == from->mem_bytes);
	copy_bytes(to, from);
	memcpy(to->request, from->request, sizeof to->request);
	to->now_ns = from->now_ns;
	to->fifo_head = to->fifo_tail = 0;
}

void t_pool_free(struct t_pool *p)
{
	t_pool_stop(p);
	free(p->fifo);
	CHECK_EQ(munmap(p->mem, p->mem_bytes), 0);
	*p = (struct t_pool){0};
}

/* ------------------------------------------------------------ keys and values */

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

uint32_t t_key_make(uint32_t key, uint8_t *ret)
{
	uint32_t n = 4 + key % 29;

	memcpy(ret, &key, sizeof key);
	memset(ret + sizeof key, (int)(key & 0xff), n - sizeof key);
	return n;
}

/* The first 8 bytes are version and key, mixed so that each value has them in plain sight. */
void t_value_make(uint32_t key, uint64_t version, void *ret, uint64_t bytes)
{
	uint8_t *v = ret;
	uint64_t head = version << 32 | key, state = mix(head + bytes * 0x9e3779b97f4a7c15ull);

	CHECK(bytes >= T_VALUE_BYTES_MIN && version > 0 && version < 1ull << 32);
	memcpy(v, &head, sizeof head);
	for (uint64_t at = sizeof head; at < bytes; at += 8) {
		uint64_t word = mix(state += 0x9e3779b97f4a7c15ull);
		memcpy(v + at, &word, bytes - at < 8 ? bytes - at : 8);
	}
}

uint64_t t_value_version(uint32_t key, const void *value, uint64_t bytes)
{
	const uint8_t *v = value;
	uint64_t head;

	if (bytes < T_VALUE_BYTES_MIN)
		return 0;
	memcpy(&head, v, sizeof head);
	uint64_t state = mix(head + bytes * 0x9e3779b97f4a7c15ull);
	if ((uint32_t)head != key || head >> 32 == 0)
		return 0;
	for (uint64_t at = sizeof head; at < bytes; at += 8) {
		uint64_t word = mix(state += 0x9e3779b97f4a7c15ull);
		if (memcmp(v + at, &word, bytes - at < 8 ? bytes - at : 8) != 0)
			return 0;
	}
	return head >> 32;
}

void t_pool_key(const struct t_pool *p, uint32_t key, uint8_t *bytes, struct shm_key *ret)
{
	const struct shm_store_entry *s = &p->ctl->store[T_POOL_STORE];
	uint64_t id = shm_load_rlx(&s->id);

	*ret = (struct shm_key){.bytes = bytes, .n_bytes = t_key_make(key, bytes)};
	ret->epoch = (uint32_t)shm_load_rlx(&s->epoch);
	ret->store_id = id;
	ret->hash = shm_key_hash(bytes, ret->n_bytes, p->ctl->hash_seed, id);
}

/* ------------------------------------------------------------ the engine */

static void scan(struct t_pool *p)
{
	shm_scan_pins(&p->pins, p->ctl, p->session, p->n_sessions, !p->opts.full_fence);
}

static const struct shm_pinset *scan_now(void *arg)
{
	struct t_pool *p = arg;

	scan(p);
	return &p->pins;
}

static void fifo_add(struct t_pool *p, uint32_t key)
{
	if (p->fifo_head - p->fifo_tail == p->fifo_cap) {
		uint32_t *bigger = malloc(2 * p->fifo_cap * sizeof *bigger);
		CHECK(bigger);
		for (uint64_t i = 0; i < p->fifo_cap; i++)
			bigger[i] = p->fifo[(p->fifo_tail + i) % p->fifo_cap];
		free(p->fifo);
		p->fifo = bigger;
		p->fifo_head = p->fifo_cap;
		p->fifo_tail = 0;
		p->fifo_cap *= 2;
	}
	p->fifo[p->fifo_head++ % p->fifo_cap] = key;
}

static void found_one(void *arg, uint64_t off, const struct shm_item *it)
{
	uint32_t key;

	(void)off;
	memcpy(&key, it + 1, sizeof key);
	fifo_add(arg, key);
}

int t_pool_start(struct t_pool *p)
{
	uint8_t *bases[SHM_POOLS_MAX] = {0};
	uint64_t bytes[SHM_POOLS_MAX] = {0};

	CHECK(!p->running);
	p->fifo_head = p->fifo_tail = 0;
	bases[T_POOL_IDX] = p->base;
	bytes[T_POOL_IDX] = p->bytes;
	p->decided = shm_journal_decide(p->journal, p->ctl, bases, bytes, T_POOL_IDX + 1);
	int r = shm_pool_open(
		&p->w, p->base, p->ctl, p->journal, T_POOL_IDX, scan_now, found_one, p);
	if (r < 0) {
		shm_pinset_fini(&p->pins);
		return r;
	}
	p->running = true;
	return 0;
}

void t_pool_stop(struct t_pool *p)
{
	if (p->running)
		shm_pool_close(&p->w);
	shm_pinset_fini(&p->pins);
	p->running = false;
}

/* The item of the key in one table, 0: not there.  Changes nothing, unlike shm_index_seek. */
static uint64_t find_in(const struct t_pool *p, const struct shm_wtable *t, const struct shm_key *k)
{
	const struct shm_bucket *b = (const struct shm_bucket *)(const void *)(t->t + 1);

	b += shm_hash_bucket(k->hash, t->log2_buckets);
	for (;;) {
		for (int i = 0; i < SHM_BUCKET_SLOTS; i++) {
			uint64_t word = shm_load_rlx(&b->slot[i]);
			if (!word || (word & SHM_SLOT_MOVED))
				continue;
			const struct shm_item *it = shm_pool_item(&p->w, shm_word_off(word));
			if (it->hash == k->hash && shm_lens_key(it->lens) == k->n_bytes &&
				memcmp(it + 1, k->bytes, k->n_bytes) == 0)
				return shm_word_off(word);
		}
		uint64_t off = shm_word_off(shm_load_rlx(&b->link));
		if (!off)
			return 0;
		b = (const struct shm_bucket *)(const void *)(p->base + off);
	}
}

uint64_t t_pool_find(struct t_pool *p, uint32_t key)
{
	uint8_t bytes[T_KEY_BYTES_MAX];
	struct shm_key k;

	t_pool_key(p, key, bytes, &k);
	uint64_t off = find_in(p, &p->w.cur, &k);
	return off || !p->w.next.t ? off : find_in(p, &p->w.next, &k);
}

static bool was_kept(const struct shm_limbo *l, uint64_t off)
{
	for (uint32_t i = 0; i < l->n; i++)
		if (l->entry[i].off == off)
			return true;
	return false;
}

uint64_t t_pool_sweep(struct t_pool *p)
{
	struct shm_limbo_entry *before = NULL;
	uint32_t n = p->w.limbo.n;

	scan(p);
	if (p->on_free && n) {
		before = malloc(n * sizeof *before);
		CHECK(before);
		memcpy(before, p->w.limbo.entry, n * sizeof *before);
	}
	uint64_t freed = shm_pool_sweep(&p->w, &p->pins, p->session);
	for (uint32_t i = 0; before && i < n; i++)
		if (!was_kept(&p->w.limbo, before[i].off))
			p->on_free(p->arg, before[i].off, before[i].bytes);
	free(before);
	return freed;
}

bool t_pool_evict(struct t_pool *p)
{
	struct shm_changed gone;

	while (p->fifo_tail < p->fifo_head) {
		uint32_t key = p->fifo[p->fifo_tail++ % p->fifo_cap];
		uint64_t off = t_pool_find(p, key);
		if (!off)
			continue;
		if (p->on_evict)
			p->on_evict(p->arg, key, false);
		CHECK_EQ(shm_pool_unlink(&p->w, off, &gone), 0);
		CHECK_EQ(gone.old_off, off);
		if (p->on_evict)
			p->on_evict(p->arg, key, true);
		p->n_evicted++;
		return true;
	}
	return false;
}

/* Makes room for one more try.  false: there is nothing left to remove. */
static bool make_room(struct t_pool *p, int e, const struct shm_changed *c)
{
	struct shm_changed gone;
	uint32_t key;

	if (e == POOL_FULL)
		return t_pool_sweep(p) > 0 || t_pool_evict(p);
	memcpy(&key, shm_pool_item(&p->w, c->old_off) + 1, sizeof key);
	if (p->on_evict)
		p->on_evict(p->arg, key, false);
	CHECK_EQ(shm_pool_unlink(&p->w, c->old_off, &gone), 0);
	if (p->on_evict)
		p->on_evict(p->arg, key, true);
	p->n_evicted++;
	return true;
}

int t_pool_try(struct t_pool *p, uint32_t key, uint64_t version, uint64_t value_bytes,
	uint64_t expiry_ns, struct shm_changed *ret)
{
	uint8_t key_bytes[T_KEY_BYTES_MAX], *value = malloc(value_bytes);
	struct shm_req req = {.session = 0, .verb = 1, .session_id = SESSION_ID(0)};
	struct shm_set set = {.value = value, .value_bytes = value_bytes, .expiry_ns = expiry_ns};

	CHECK(value && key < p->opts.n_keys);
	t_value_make(key, version, value, value_bytes);
	t_pool_key(p, key, key_bytes, &set.key);
	set.now_ms = p->now_ns / 1000000;
	set.now_wall_ns = version;
	set.stamp = version;
	set.flags = (uint32_t)version;
	req.request = p->request[0] + 1;
	int e = shm_pool_set(&p->w, p->journal, &req, &set, ret);
	free(value);
	if (e == 0) {
		p->request[0]++;
		fifo_add(p, key);
	}
	return e;
}

int t_pool_set(struct t_pool *p, uint32_t key, uint64_t version, uint64_t value_bytes)
{
	struct shm_changed c;
	int e = POOL_FULL;

	for (int i = 0; i < EVICT_TRIES; i++) {
		e = t_pool_try(p, key, version, value_bytes, 0, &c);
		if (e == 0 || !make_room(p, e, &c))
			break;
	}
	return e;
}

int t_pool_delete(struct t_pool *p, uint32_t key)
{
	struct shm_req req = {.session = 0, .verb = 2, .session_id = SESSION_ID(0)};
	uint8_t bytes[T_KEY_BYTES_MAX];
	struct shm_changed c;
	struct shm_key k;

	t_pool_key(p, key, bytes, &k);
	req.request = ++p->request[0];
	return shm_pool_delete(&p->w, p->journal, &req, &k, p->now_ns, &c);
}

/* ------------------------------------------------------------ readers */

struct shm_reader t_pool_reader(struct t_pool *p, uint32_t session, uint32_t block)
{
	struct shm_client *c = p->client[session];

	CHECK(session < T_POOL_SESSIONS && block < T_POOL_BLOCKS);
	if (shm_load32_rlx(&c->blocks_used) <= block)
		shm_store32_rlx(&c->blocks_used, block + 1);
	return (struct shm_reader){.block = (struct shm_block *)(void *)(c + 1) + block,
		.pin_gen = &p->ctl->pin_gen[session],
		.full_fence = p->opts.full_fence};
}

struct shm_map t_pool_map(const struct t_pool *p)
{
	return (struct shm_map){.base = p->base, .bytes = p->bytes, .pool_idx = T_POOL_IDX};
}

int t_pool_get(struct t_pool *p, const struct shm_reader *r, uint32_t key, uint64_t *ret_version)
{
	struct shm_map m = t_pool_map(p);
	uint8_t bytes[T_KEY_BYTES_MAX];
	struct shm_found f;
	struct shm_key k;

	t_pool_key(p, key, bytes, &k);
	int e = shm_read_find(r, &m, &k, SHM_PIN_CALL, &f);
	if (e != 0)
		return e;
	*ret_version = t_value_version(key, f.value, f.value_bytes);
	CHECK(*ret_version != 0);
	CHECK_EQ(f.item->stamp, *ret_version);
	CHECK(shm_read_ok(r->pin_gen, f.gen));
	shm_read_unpin(r->block, SHM_PIN_CALL);
	return 0;
}

/* ------------------------------------------------------------ at rest */

void t_pool_check(struct t_pool *p)
{
	const struct shm_pool_entry *e = p->w.entry;
	const struct shm_limbo *l = &p->w.limbo;
	struct shm_alloc_stats s;
	uint64_t limbo = 0;

	shm_pool_account(&p->w);
	shm_alloc_stats(p->w.alloc, &s);
	uint64_t sum = shm_load_rlx(&e->counter[SHM_PC_live_bytes]) +
	               shm_load_rlx(&e->counter[SHM_PC_overhead_bytes]) +
	               shm_load_rlx(&e->counter[SHM_PC_free_bytes]) +
	               shm_load_rlx(&e->counter[SHM_PC_limbo_bytes]) +
	               shm_load_rlx(&e->counter[SHM_PC_unusable_bytes]);
	CHECK_EQ(shm_load_rlx(&e->counter[SHM_PC_limit_bytes]), p->bytes);
	CHECK_EQ(sum, p->bytes);
	CHECK_EQ(shm_alloc_verify(p->w.alloc), 0);
	/* What the allocator has given out is what the pool knows it for. */
	for (uint32_t i = 0; i < l->n; i++)
		limbo += shm_alloc_place_bytes(p->w.alloc, l->entry[i].off);
	CHECK_EQ(l->bytes, limbo);
	CHECK_EQ(s.taken_bytes, p->w.live_bytes + p->w.waste_bytes + p->w.index_bytes +
					p->w.feed_bytes + p->w.limbo.bytes);
	uint64_t tables = (p->w.next.t ? 2 : 1) + (p->w.feed.f ? 1 : 0);
	CHECK_EQ(s.n_taken, p->w.n_entries + p->w.limbo.n + tables);
	CHECK(!(shm_load_rlx(&e->counter[SHM_PC_changes]) & 1));
}

static void print_finding(void *arg, const struct shm_fsck_finding *f)
{
	(void)arg;
	fprintf(stderr, "  I%u at %#llx: %s\n", f->invariant, (unsigned long long)f->off, f->text);
}

static void check_zeroes(void *arg, uint64_t off, uint64_t bytes)
{
	const struct t_pool *p = arg;

	CHECK(p->base[off] == 0 && memcmp(p->base + off, p->base + off + 1, bytes - 1) == 0);
}

void t_pool_check_scrubbed(struct t_pool *p) { shm_alloc_walk_free(p->w.alloc, check_zeroes, p); }

void t_pool_fsck(struct t_pool *p)
{
	struct shm_fsck_stats s;

	shm_pool_account(&p->w);
	CHECK_EQ(shm_fsck_control(p->ctl, sizeof *p->ctl, print_finding, NULL), 0);
	CHECK_EQ(shm_fsck_pool(p->ctl, T_POOL_IDX, p->base, p->bytes, print_finding, NULL, &s), 0);
	CHECK(s.quiet);
	CHECK_EQ(s.entries, p->w.n_entries);
}
