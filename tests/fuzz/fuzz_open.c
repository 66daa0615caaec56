/* fuzz_open.c - the whole library before a daemon that hands out damaged memory: control segment, its
 * own segment, a pool, the answer to HELLO; and changes them while it is used.
 *
 * An input is a byte (how many changes are made before hc_open) and changes of 12 bytes: where, how, which
 * word, a number.  Every call has to answer with a result that has a name, and hc_close to leave nothing. */
#include "../kit/t_kit.h"
#include "../unit/fake_engine.h"
#include "fuzz.h"
#include "layout/l_table.h"

enum { TABLE_OFF = 8192, TABLE_LOG2 = 3, TIMEOUT_MS = 5000, HELLO_WORDS = 6 };

static struct fake f;
static void *good[3]; /* what the segments hold before an input */
static struct wire_answer good_hello;

static const struct {
	size_t off, bytes; /* of struct fake's pointer to it; of the segment */
} segment[3] = {
	{offsetof(struct fake, ctl), sizeof(struct shm_control)},
	{offsetof(struct fake, seg),
		sizeof(struct shm_client) + FAKE_BLOCKS * sizeof(struct shm_block)},
	{offsetof(struct fake, pool), FAKE_POOL_BYTES},
};

static void *segment_of(int i) { return *(void **)(void *)((uint8_t *)&f + segment[i].off); }

static void world_make(void)
{
#ifdef HC_LIBFUZZER
	t_kit_next(); /* the folder of a test, which nobody else makes here */
	CHECK_EQ(atexit(t_kit_remove_dir), 0);
#endif
	fake_init(&f);
	struct shm_table *t = (struct shm_table *)(void *)((uint8_t *)f.pool + TABLE_OFF);
	t->magic = SHM_TABLE_MAGIC;
	t->log2_buckets = TABLE_LOG2;
	shm_store_rlx(&f.pool->table, shm_word_make(TABLE_LOG2, TABLE_OFF, 0));
	for (int i = 0; i < 3; i++) {
		good[i] = malloc(segment[i].bytes);
		CHECK(good[i] != NULL);
		memcpy(good[i], segment_of(i), segment[i].bytes);
	}
	good_hello = f.hello;
}

static void change(struct fuzz_in *in)
{
	uint64_t where = fuzz_take(in, 1) % 6, how = fuzz_take(in, 1) % 3, idx = fuzz_take(in, 2);
	uint64_t v = fuzz_take(in, 8);
	uint64_t *const hello[HELLO_WORDS] = {&f.hello.session, &f.hello.slot,
		&f.hello.max_inflight, &f.hello.max_frame, &f.hello.fence, &f.hello.resumed};
	uint64_t *w;

	if (where == 5) { /* a descriptor's triple: which of three, and which number */
		((uint32_t *)(void *)&f.hello.fd[idx / 3 % FAKE_FDS])[idx % 3] = (uint32_t)v;
		return;
	}
	if (where == 3) { /* the entries of the pool and of the stores */
		const size_t at[3] = {offsetof(struct shm_control, pool[2]),
			offsetof(struct shm_control, store[9]),
			offsetof(struct shm_control, store[10])};
		w = (uint64_t *)(void *)((uint8_t *)f.ctl + at[idx % 3]) + idx / 3 % 80;
	} else if (where == 4) {
		w = hello[idx % HELLO_WORDS];
	} else {
		w = (uint64_t *)segment_of((int)where) + idx % (segment[where].bytes / 8);
	}
	if (how)
		v = how == 1 ? *w ^ v : *w + v;
	__atomic_store_n(w, v, __ATOMIC_RELAXED); /* bare: any word, of any kind */
}

/* Answers what comes until the client has gone. */
static void serve(struct fake *e)
{
	struct wire_request q;

	fake_hello_get(e);
	const int fds[FAKE_FDS] = {e->control_fd, e->pool_fd, e->seg_fd};
	struct wire_buf b = fake_hello_bytes(e);
	(void)fake_send(e, b.bytes, b.end, fds, FAKE_FDS);
	wire_buf_fini(&b);
	while (fake_get(e, &q) && fake_reply(e, &q, HC_OK))
		;
}

static void named(int r)
{
	CHECK(r <= HC_OLDER && r > HC_E_LAST);
	CHECK(strcmp(hc_error_name(r), "HC_E_?") != 0);
	CHECK(r != HC_E_SYSTEM && r != HC_E_TIMEOUT);
}

static int each(void *arg, const struct hc_scan_entry *e)
{
	uint64_t *sum = arg;

	for (size_t i = 0; i < e->value_bytes; i++)
		*sum += ((const uint8_t *)e->value)[i];
	return 0;
}

static void use(struct hc_store *s)
{
	struct hc_meta meta = HC_OPTS(hc_meta);
	struct hc_scan scan = HC_OPTS(hc_scan);
	char buf[256];
	struct hc_mget_item item = {
		.key = "k", .key_bytes = 1, .buf = buf, .buf_bytes = sizeof buf};
	struct hc_view v;
	uint64_t sum = 0;
	size_t n;

	named(hc_get(s, "k", 1, buf, sizeof buf, &n));
	int r = hc_view(s, "k", 1, &v);
	named(r);
	if (r == HC_OK)
		named(hc_view_release(&v));
	named(hc_mget(s, &item, 1));
	named(hc_exists(s, "k", 1));
	named(hc_meta(s, "k", 1, &meta));
	for (int i = 0; i < 64 && (r = hc_scan(s, &scan, each, &sum)) == HC_OK; i++)
		;
	named(r);
	named(hc_set(s, "k", 1, "v", 1, NULL));
	named(hc_delete(s, "k", 1));
}

static enum fuzz_verdict fuzz_one(const uint8_t *data, size_t bytes)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct hc_info info = HC_OPTS(hc_info);
	struct fuzz_in in = {data, bytes};
	struct hc_store *s;
	struct hc *hc;

	if (!good[0])
		world_make();
	for (int i = 0; i < 3; i++)
		memcpy(segment_of(i), good[i], segment[i].bytes);
	f.hello = good_hello;
	for (uint64_t n = fuzz_take(&in, 1); n > 0 && in.left; n--)
		change(&in);
	fake_run(&f, serve);
	o.socket = f.path;
	o.timeout_ms = (uint32_t)t_limit_ms(TIMEOUT_MS);
	int r = hc_open(&hc, &o);
	named(r);
	CHECK(r == HC_OK || hc == NULL);
	while (r == HC_OK) {
		named(hc_info(hc, &info));
		CHECK(hc_health(hc) >= 0);
		for (int i = 0; i < 3; i++) {
			int found = hc_store(hc,
				i == 0   ? "default"
				: i == 1 ? "elsewhere"
					 : "",
				&s);
			if (found != HC_E_TIMEOUT) /* of a pool that is not there it asks in vain */
				named(found);
			if (found == HC_OK)
				use(s);
		}
		if (!in.left)
			break;
		change(&in);
	}
	hc_close(hc);
	fake_join(&f);
	return r == HC_OK ? FUZZ_GOOD : FUZZ_BAD;
}

#ifndef HC_LIBFUZZER
static void world_free(void)
{
	fake_fini(&f);
	for (int i = 0; i < 3; i++)
		free(good[i]);
}
#endif
FUZZ_TESTS_END(1000, world_free())
