/* proc_hot - are the keys that the daemon calls the most read those that are, and are their shares within the error
 * that is stated?  Several processes read at random, as told: what each key's part is, is known.
 *
 * Planted bugs (shm/step.h) that this file must catch: 820, 822, 823, 824, 825, 827.
 */
#include <math.h>
#include <sched.h>
#include <signal.h>
#include "hc_i.h"
#include "layout/l_item.h"
#include "../../tools/hot_keys.h"
#include "atomic.h"
#include "cli_run.h"
#include "raw.h"

enum { HOT = 6, COLD = 3000, LOOKS = 20, MANY = 4000, FEW = 150, READERS = 3 };
enum { ALL = LOOKS * (MANY + (READERS - 1) * FEW) }; /* reads */
static const double shares[HOT] = {
	0.30, 0.15, 0.08, 0.04, 0.02, 0.01}; /* the rest: cold keys alike */
static const char config[] = "heartbeat: 100ms\nstores: { default: {}, other: {} }\n"
			     "pools:\n  main: { size: 16MiB, huge_pages: \"off\" }\n";

/* ------------------------------------------------------------ traffic */

static struct hc *open_store(const struct t_daemon *d, const char *name, struct hc_store **ret)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct hc *hc;

	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(WAIT_MS);
	CHECK_EQ(hc_open(&hc, &o), HC_OK);
	CHECK_EQ(hc_store(hc, name, ret), HC_OK);
	return hc;
}

static int key_text(uint32_t i, char to[32])
{
	return snprintf(to, 32, i < HOT ? "hot-%u" : "cold-key-of-some-length-%u", i);
}

static void fill(const struct t_daemon *d, const char *store)
{
	struct hc_store *s;
	struct hc *hc = open_store(d, store, &s);
	char key[32];

	for (uint32_t i = 0; i < HOT + COLD; i++)
		CHECK_EQ(hc_set(s, key, (size_t)key_text(i, key), "0123456789", 10, NULL), HC_OK);
	hc_close(hc);
}

/* Until the engine has looked into the rings once more. */
static void beat_wait(const struct hc *hc)
{
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(WAIT_MS) * 1000000;
	uint64_t beat = shm_load_rlx(&hc->ctl->heartbeat_ns);

	while (shm_load_rlx(&hc->ctl->heartbeat_ns) == beat) {
		CHECK(t_now_ns() < end_ns);
		(void)sched_yield();
	}
}

static uint32_t key_at(double at, uint64_t cold)
{
	uint32_t i = 0;

	while (i < HOT && at >= shares[i])
		at -= shares[i++];
	return i < HOT ? i : HOT + (uint32_t)(cold % COLD);
}

/* Reads at random; `each` of them between two looks of the engine, of which the ring has room for some 200. */
static void read_keys(
	struct hc *hc, struct hc_store *s, uint64_t seed, uint32_t reads, uint32_t each)
{
	char key[32], buf[16];

	for (uint32_t n = 0; n < reads; n++) {
		double at = (double)(t_random_from(&seed) >> 11) * 0x1p-53;
		int bytes = key_text(key_at(at, t_random_from(&seed)), key);
		CHECK_EQ(hc_get(s, key, (size_t)bytes, buf, sizeof buf, NULL), HC_OK);
		if (n % each == each - 1)
			beat_wait(hc);
	}
}

/* READERS processes, one of which reads so much that its ring tells of a few of its hits only. */
static void traffic(const struct t_daemon *d, const char *store)
{
	pid_t pid[READERS];

	for (uint32_t i = 0; i < READERS; i++) {
		pid[i] = fork();
		CHECK(pid[i] >= 0);
		if (pid[i])
			continue;
		struct hc_store *s;
		struct hc *hc = open_store(d, store, &s);
		read_keys(hc, s, t_seed() + i, i == 0 ? LOOKS * MANY : LOOKS * FEW,
			i == 0 ? MANY : FEW);
		hc_close(hc);
		_exit(0);
	}
	for (int i = 0; i < READERS; i++)
		CHECK_EQ(t_wait_child(pid[i], LIMIT_MS * 3), 0);
}

/* ------------------------------------------------------------ what is said */

static struct hypercache_hot hot_of(const struct t_daemon *d, uint32_t store_idx, uint32_t n)
{
	char why[HYPERCACHE_ADMIN_WHY_BYTES];
	struct hypercache_admin a;
	struct hypercache_hot h;

	CHECK_EQ(hypercache_admin_open(d->admin, t_limit_ms(WAIT_MS), &a, why), 0);
	CHECK_EQ(hypercache_hot(&a, store_idx, n, &h, why), 0);
	hypercache_admin_close(&a);
	return h;
}

/* As soon as it is of so many hits at least. */
static struct hypercache_hot hot_wait(const struct t_daemon *d, uint32_t store_idx, double hits)
{
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(WAIT_MS) * 1000000;

	for (;;) {
		struct hypercache_hot h = hot_of(d, store_idx, HOT);
		if ((double)h.hits >= hits)
			return h;
		if (t_now_ns() > end_ns)
			t_fail(__FILE__, __LINE__, "%.0f of %.0f hits", (double)h.hits, hits);
		hypercache_hot_free(&h);
	}
}

static bool key_is(const struct hypercache_hot_key *k, const char *text)
{
	return k->key && k->key_bytes == strlen(text) && memcmp(k->key, text, k->key_bytes) == 0;
}

/* The hot ones in their order, as far as they can be told from each other, each within twice the stated error: three
 * standard deviations are off once in four hundred times, six are not. */
static void check_shares(const struct hypercache_hot *h, uint32_t n)
{
	char key[32];

	CHECK(h->n >= n);
	for (uint32_t i = 0; i < n; i++) {
		const struct hypercache_hot_key *k = &h->key[i];
		(void)key_text(i, key);
		printf("     %-6s %.4f is %.4f +- %.4f\n", key, shares[i], k->share, k->error);
		CHECK(key_is(k, key));
		CHECK_EQ(k->value_bytes, 10);
		CHECK(fabs(k->share - shares[i]) <= 2 * k->error + 0.01);
		CHECK(k->error < 0.1);
	}
	CHECK(h->rest < 0.05);
}

TEST(the_most_read_keys_have_their_shares)
{
	struct t_daemon *d = t_daemon_start(config, NULL);

	fill(d, "default");
	traffic(d, "default");
	struct hypercache_hot h = hot_wait(d, 0, ALL * 0.6);
	check_shares(&h, 4);
	uint64_t hits = h.hits, end_ns = t_now_ns() + (uint64_t)t_limit_ms(WAIT_MS) * 1000000;
	CHECK(hits <= ALL);
	hypercache_hot_free(&h);
	struct hypercache_hot other = hot_of(d, 1, HOT);
	CHECK_EQ(other.n, 0);
	CHECK_EQ(other.hits, 0);
	struct result r = run(d, ARGS("hot"));
	CHECK_EQ(r.status, 0);
	check_says(&r, "store default", "hot-0", "hot-1", "any other key, at most", NULL);
	CHECK(strstr(r.out, "store other") == NULL);
	result_free(&r);
	r = run(d, ARGS("hot", "default", "-n", "2", "--json"));
	CHECK_EQ(r.status, 0);
	check_says(&r, "{\"stores\":[{\"store\":\"default\",\"hits\":", "\"key\":\"hot-0\"",
		"\"key\":\"hot-1\"", NULL);
	CHECK(strstr(r.out, "hot-2") == NULL);
	result_free(&r);
	check_status(d, 1, ARGS("hot", "other"));
	check_status(d, 5, ARGS("hot", "nowhere"));
	check_status(d, 2, ARGS("hot", "-n", "33"));
	check_status(d, 2, ARGS("hot", "default", "--store", "other"));
	for (bool faded = false; !faded;) { /* half of it in half a minute */
		h = hot_of(d, 0, 1);
		CHECK(t_now_ns() < end_ns);
		faded = (double)h.hits < (double)hits * 0.98;
		hits = h.hits > hits ? h.hits : hits; /* the last hints come late */
		hypercache_hot_free(&h);
	}
	t_daemon_stop(d);
}

TEST(an_engine_that_hangs_or_is_replaced_changes_nothing)
{
	struct t_daemon *d = t_daemon_start(config, NULL);

	fill(d, "default");
	traffic(d, "default");
	struct hypercache_hot h = hot_wait(d, 0, ALL * 0.6);
	hypercache_hot_free(&h);
	pid_t engine = t_daemon_engine(d);
	CHECK_EQ(kill(engine, SIGSTOP), 0);
	h = hot_of(d, 0, HOT);
	check_shares(&h, 3);
	hypercache_hot_free(&h);
	CHECK_EQ(kill(engine, SIGCONT), 0);
	(void)t_daemon_kill_engine(d, SIGKILL);
	(void)t_daemon_wait_engine(d, engine);
	h = hot_of(d, 0, HOT);
	check_shares(&h, 3);
	uint64_t hits = h.hits;
	hypercache_hot_free(&h);
	/* A few reads, and it has counted for itself. */
	struct hc_store *s;
	struct hc *hc = open_store(d, "default", &s);
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(WAIT_MS) * 1000000;
	do {
		hypercache_hot_free(&h);
		read_keys(hc, s, t_seed(), 64, 64);
		h = hot_of(d, 0, HOT);
		CHECK(t_now_ns() < end_ns);
	} while (h.hits == hits);
	CHECK(h.hits > hits / 4); /* not from the beginning, and not yet faded */
	check_shares(&h, 2);
	hypercache_hot_free(&h);
	hc_close(hc);
	t_daemon_stop(d);
}

/* Reads `key` so often, and others as often. */
static void read_one(struct hc *hc, struct hc_store *s, const char *key, uint32_t n)
{
	char other[32], buf[16];

	for (uint32_t i = 0; i < n; i++) {
		CHECK_EQ(hc_get(s, key, strlen(key), buf, sizeof buf, NULL), HC_OK);
		CHECK_EQ(hc_get(s, other, (size_t)key_text(HOT + i % COLD, other), buf, sizeof buf,
				 NULL),
			HC_OK);
		if (i % 64 == 63)
			beat_wait(hc);
	}
	beat_wait(hc);
}

static struct hypercache_hot hot_until(
	const struct t_daemon *d, uint32_t store_idx, const char *key, double hits)
{
	struct hypercache_hot h = hot_wait(d, store_idx, hits);
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(WAIT_MS) * 1000000;

	while (h.n == 0 || (key ? !key_is(&h.key[0], key) : h.key[0].key != NULL)) {
		CHECK(t_now_ns() < end_ns);
		hypercache_hot_free(&h);
		h = hot_of(d, store_idx, HOT);
	}
	return h;
}

TEST(a_key_is_known_as_long_as_it_is_there_and_each_store_has_its_own)
{
	struct t_daemon *d = t_daemon_start(config, NULL);
	struct hc_store *s, *other;

	fill(d, "default");
	fill(d, "other");
	struct hc *hc = open_store(d, "default", &s);
	struct hc *hc2 = open_store(d, "other", &other);
	read_one(hc, s, "hot-0", 512);
	read_one(hc2, other, "hot-1", 512);
	struct hypercache_hot h = hot_until(d, 0, "hot-0", 600), h2 = hot_until(d, 1, "hot-1", 600);
	CHECK(fabs(h.key[0].share - 0.5) < 0.05 && fabs(h2.key[0].share - 0.5) < 0.05);
	CHECK(h.key[0].error < 0.05);
	hypercache_hot_free(&h);
	hypercache_hot_free(&h2);
	CHECK_EQ(hc_delete(s, "hot-0", 5), HC_OK);
	h = hot_until(d, 0, NULL, 0);
	struct result r = run(d, ARGS("hot", "default"));
	check_says(&r, "(not there any more)", NULL);
	result_free(&r);
	uint64_t hash = h.key[0].hash;
	hypercache_hot_free(&h);
	/* Written again it is the same key, at another place; and the more so while it is overwritten. */
	for (int i = 0; i < 8; i++) {
		CHECK_EQ(hc_set(s, "hot-0", 5, "9876543210", 10, NULL), HC_OK);
		read_one(hc, s, "hot-0", 64);
	}
	h = hot_until(d, 0, "hot-0", 0);
	CHECK_EQ(h.key[0].hash, hash);
	CHECK(h.key[0].share > 0.4 && h.key[0].share < 0.55);
	hypercache_hot_free(&h);
	hc_close(hc);
	hc_close(hc2);
	t_daemon_stop(d);
}

/* A key that the filter has told of three times, and then forgets: its other hits count. */
TEST(hits_that_were_not_told_one_by_one_are_told_by_number)
{
	enum { ROUNDS = 8, TIMES = 9, OTHERS = 400 };
	struct t_daemon *d = t_daemon_start(config, NULL);
	char key[32], buf[16];
	struct hc_store *s;
	uint32_t cold = 0;

	fill(d, "default");
	struct hc *hc = open_store(d, "default", &s);
	for (uint32_t i = 0; i < ROUNDS * (TIMES + OTHERS); i++) {
		bool hot = i % (TIMES + OTHERS) < TIMES;
		int n = key_text(hot ? 0 : HOT + cold++ % COLD, key);
		CHECK_EQ(hc_get(s, key, (size_t)n, buf, sizeof buf, NULL), HC_OK);
		if (i % 192 == 191)
			beat_wait(hc);
	}
	beat_wait(hc);
	struct hypercache_hot h = hot_until(d, 0, "hot-0", ROUNDS * OTHERS * 0.6);
	double part = TIMES / (double)(TIMES + OTHERS);
	CHECK(h.key[0].share > 0.7 * part && h.key[0].share < 1.3 * part);
	hypercache_hot_free(&h);
	hc_close(hc);
	t_daemon_stop(d);
}

/* ------------------------------------------------------------ a liar */

/* Where the only entry with this key is in the first region, which the session has been given. */
static uint64_t place_of(const struct raw *r, const char *key)
{
	for (int i = 0; i < r->n_fds; i++) {
		struct stat st;
		CHECK_EQ(fstat(r->fd[i], &st), 0);
		void *m = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, r->fd[i], 0);
		CHECK(m != MAP_FAILED);
		const uint8_t *at = memmem(m, (size_t)st.st_size, key, strlen(key));
		uint64_t off = at ? (uint64_t)(at - (uint8_t *)m) - sizeof(struct shm_item) : 0;
		bool is_pool = ((const struct shm_segment *)m)->kind == SHM_KIND_POOL;
		(void)munmap(m, (size_t)st.st_size);
		if (is_pool && at)
			return off;
	}
	t_fail(__FILE__, __LINE__, "no %s", key);
}

TEST(a_liar_claims_no_more_than_it_could_have_read)
{
	enum { TOLD = 8, FOR_MS = 100000 }; /* hits of a hint; reads of a thread in a millisecond */
	static const char lie[] = "the-key-that-nobody-reads";
	struct t_daemon *d = t_daemon_start(config, NULL);
	struct raw r = session_open(d);
	struct wire_request req = set(&r, 1, lie, "0123456789");
	uint64_t hint = 0, begin_ns = t_now_ns();
	size_t bytes;

	CHECK_EQ(raw_call(&r, &req).status, HC_OK);
	struct shm_client *seg = segment_of(&r, &bytes);
	struct shm_block *b = (struct shm_block *)(void *)(seg + 1);
	hint = shm_word_make(UINT16_MAX, place_of(&r, lie), 0);
	for (int i = 0; i < SHM_HINTS; i++)
		shm_store_rlx(&b->hint[i], hint);
	shm_store_rel(&b->hint_head, SHM_HINTS);
	shm_store32_rel(&seg->blocks_used, 1);
	struct hypercache_hot h = hot_until(d, 0, lie, 1);
	CHECK(h.hits <= SHM_HINTS * TOLD);
	hypercache_hot_free(&h);
	/* What it says that its ring had no room for: no more than time allows. */
	shm_store_rlx(&b->counter[SHM_BC_hints_left_out], UINT64_MAX / 2);
	shm_store_rel(&b->hint_head, SHM_HINTS + 1);
	h = hot_wait(d, 0, SHM_HINTS * TOLD * 2);
	CHECK(h.hits <= (t_now_ns() - begin_ns) / 1000000 * FOR_MS + SHM_HINTS * TOLD);
	hypercache_hot_free(&h);
	(void)munmap(seg, bytes);
	raw_close(&r);
	t_daemon_stop(d);
}

/* Numbers at random where the engine writes, and in what is looked up: whatever is shown, it ends. */
TEST(damage_is_shown_as_what_it_is_or_not_at_all)
{
	enum { ROUNDS = 20, FAR = 1 << 20 };
	struct t_daemon *d = t_daemon_start(config, NULL);
	struct hc_store *s;

	fill(d, "default");
	struct hc *hc = open_store(d, "default", &s);
	read_one(hc, s, "hot-0", 128);
	struct hypercache_hot h = hot_until(d, 0, "hot-0", 100);
	hypercache_hot_free(&h);
	hc_close(hc);
	pid_t engine = t_daemon_engine(d);
	CHECK_EQ(kill(engine, SIGSTOP), 0); /* nobody mends it meanwhile */
	int fd = t_daemon_segment(d, "main");
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t word = t_random();
		for (uint32_t k = 1; k < SHM_HOT_KEYS; k++) { /* the first stays */
			uint64_t at = offsetof(struct shm_pool, hot) + k * sizeof(struct shm_hot);
			struct shm_hot hot = {.hash = {t_random()},
				.share = {(uint32_t)t_random()},
				.over = {((uint32_t)t_random() & ~SHM_HOT_STORE_MASK) | 1}};
			CHECK_EQ(pwrite(fd, &hot, sizeof hot, (off_t)at), sizeof hot);
		}
		CHECK_EQ(
			pwrite(fd, &word, sizeof word, (off_t)(t_random_below(FAR / 8) * 8 + 8192)),
			sizeof word);
		struct result r = run(d, ARGS("hot", "-n", "32"));
		CHECK_EQ(r.status, 0);
		result_free(&r);
	}
	(void)close(fd);
	CHECK_EQ(kill(engine, SIGCONT), 0);
	t_daemon_kill(d);
}
