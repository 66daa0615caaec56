/* proc_foreign.c - is libclient/README.md enough to write a client from?  tests/foreign/ is one, in
 * Python without any code of ours: here it and our library ask the same daemon, and have to agree. */
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "atomic.h"
#include "hc_i.h"
#include "hypercache.h"
#include "key.h"

enum { WAIT_MS = 20000, KEY_MAX = HC_KEY_BYTES_MAX, VALUE_MAX = 3000 };

/* On both sides of every border between two ways of hashing, and of blocks of 64 and 1024. */
static const size_t lengths[] = {1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 65, 96, 97, 127,
	128, 129, 130, 143, 144, 145, 239, 240, 241, 255, 256, 257, 319, 320, 321, 1023, 1024, 1025,
	1088, 1089, 2048, 2049, KEY_MAX - 1, KEY_MAX};
enum { LENGTHS = sizeof lengths / sizeof lengths[0] };

struct world {
	struct t_daemon *d;
	struct hc *hc; /* ours */
	struct hc_store *s;
	struct t_proc *p; /* the foreign one */
	char *answer;     /* its last one */
};

static char hex_of[2][2 * KEY_MAX + 1];

/* n bytes in the words of the commands; `which` of two buffers. */
static const char *hex(int which, const void *bytes, size_t n)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		hex_of[which][2 * i] = digits[((const uint8_t *)bytes)[i] >> 4];
		hex_of[which][2 * i + 1] = digits[((const uint8_t *)bytes)[i] & 15];
	}
	strcpy(hex_of[which] + 2 * n, n ? "" : "-");
	return hex_of[which];
}

__attribute__((format(printf, 2, 3))) static const char *ask(
	struct world *w, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	CHECK(vdprintf(w->p->in_fd, format, ap) > 0);
	va_end(ap);
	CHECK_EQ(write(w->p->in_fd, "\n", 1), 1);
	free(w->answer);
	w->answer = t_proc_line(w->p, "", WAIT_MS);
	return w->answer;
}

static struct t_proc *foreign_start(const struct t_daemon *d)
{
	const char *root = getenv("HC_SOURCE_ROOT");
	char program[512];

	if (!root)
		SKIP("HC_SOURCE_ROOT is not set: run it through meson test");
	(void)snprintf(program, sizeof program, "%s/tests/foreign/client.py", root);
	struct t_proc *p = t_spawn(
		(const char *[]){"/usr/bin/env", "python3", "-B", program, d->socket, NULL},
		&(struct t_spawn_opts){.input = true});
	free(t_proc_line(p, "ready", WAIT_MS));
	return p;
}

static struct world world_begin(const char *more)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct world w = {.d = t_daemon_start(more, NULL)};

	w.p = foreign_start(w.d);
	o.socket = w.d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(WAIT_MS);
	CHECK_EQ(hc_open(&w.hc, &o), HC_OK);
	CHECK_EQ(hc_store(w.hc, "default", &w.s), HC_OK);
	(void)ask(&w, "store default");
	return w;
}

static void world_end(struct world *w)
{
	CHECK_STR(ask(w, "bye"), "bye");
	CHECK_EQ(t_proc_exit(w->p, WAIT_MS), 0);
	t_proc_free(w->p);
	hc_close(w->hc);
	free(w->answer);
	t_daemon_stop(w->d);
}

static void random_bytes(uint8_t *to, size_t n)
{
	for (size_t i = 0; i < n; i++)
		to[i] = (uint8_t)t_random();
}

static uint64_t store_counter(const struct world *w, enum shm_store_counter i)
{
	return shm_load_rlx(&w->hc->ctl->store[0].counter[i]);
}

/* ------------------------------------------------------------------------ reading */

TEST(it_hashes_as_we_do)
{
	static uint8_t key[KEY_MAX];
	struct world w = world_begin(NULL);

	random_bytes(key, sizeof key);
	for (size_t i = 0; i < 300 + LENGTHS; i++) {
		size_t n = i < 300 ? i + 1 : lengths[i - 300];
		uint64_t seed = t_random() >> t_random_below(65) % 64;
		const uint8_t *at = key + t_random_below(KEY_MAX - n + 1);
		char want[24];
		(void)snprintf(want, sizeof want, "%llu",
			(unsigned long long)shm_key_hash(at, n, seed, 0));
		CHECK_STR(ask(&w, "hash %llu %s", (unsigned long long)seed, hex(0, at, n)), want);
	}
	world_end(&w);
}

/* Ours is set, the foreign one reads it, and the other way round; then each deletes the other's. */
static void exchange(struct world *w, uint8_t *key, size_t n)
{
	static char want[2 * KEY_MAX + 64];
	uint8_t value[VALUE_MAX], got[VALUE_MAX];
	uint64_t version = 0;
	size_t bytes = t_random_below(VALUE_MAX + 1), got_bytes;
	struct hc_set_opts o = HC_OPTS(hc_set_opts);

	o.flags = (uint32_t)t_random();
	o.ret_version = &version;
	random_bytes(value, bytes);
	CHECK_EQ(hc_set(w->s, key, n, value, bytes, &o), HC_OK);
	(void)snprintf(want, sizeof want, "hit %s %llu %u", hex(1, value, bytes),
		(unsigned long long)version, o.flags);
	CHECK_STR(ask(w, "get %s", hex(0, key, n)), want);

	random_bytes(value, bytes);
	(void)snprintf(want, sizeof want, "0 %llu 1", (unsigned long long)version + 1);
	CHECK_STR(ask(w, "set %s %s %u", hex(0, key, n), hex(1, value, bytes), o.flags ^ 1), want);
	struct hc_view v;
	CHECK_EQ(hc_view(w->s, key, n, &v), HC_OK);
	CHECK_EQ(v.version, version + 1);
	CHECK_EQ(v.flags, o.flags ^ 1);
	CHECK_EQ(hc_view_release(&v), HC_OK);
	CHECK_EQ(hc_get(w->s, key, n, got, sizeof got, &got_bytes), HC_OK);
	CHECK(got_bytes == bytes && memcmp(got, value, bytes) == 0);

	if (n % 2) {
		CHECK_EQ(hc_delete(w->s, key, n), HC_OK);
		CHECK_STR(ask(w, "get %s", hex(0, key, n)), "miss");
		CHECK_EQ(atoi(ask(w, "delete %s", hex(0, key, n))), HC_MISS);
	} else {
		CHECK_EQ(atoi(ask(w, "delete %s", hex(0, key, n))), HC_OK);
		CHECK_EQ(hc_get(w->s, key, n, got, sizeof got, NULL), HC_MISS);
	}
}

TEST(what_one_writes_the_other_reads)
{
	static uint8_t key[KEY_MAX];
	struct world w = world_begin(NULL);

	for (size_t i = 0; i < LENGTHS; i++) {
		random_bytes(key, lengths[i]);
		exchange(&w, key, lengths[i]);
	}
	CHECK_EQ(store_counter(&w, SHM_SC_entries), 0);
	world_end(&w);
}

TEST(both_know_the_same_of_an_entry)
{
	struct world w = world_begin(NULL);
	struct hc_meta m = HC_OPTS(hc_meta);
	char want[160];

	CHECK_EQ(atoi(ask(&w, "set 6b 76616c7565 3 600000 42")), HC_OK);
	CHECK_EQ(atoi(ask(&w, "set 6b 76 3 700000 43")), HC_OK);
	CHECK_EQ(hc_meta(w.s, "k", 1, &m), HC_OK);
	CHECK(m.value_bytes == 1 && m.stamp == 43 && m.ttl_ms == 700000 && m.flags == 3);
	(void)snprintf(want, sizeof want, "hit 1 %llu %llu 43 700000",
		(unsigned long long)m.created_ns, (unsigned long long)m.modified_ns);
	CHECK_STR(ask(&w, "meta 6b"), want);
	CHECK_STR(ask(&w, "meta 6c"), "miss");
	world_end(&w);
}

TEST(an_entry_ends_for_both_at_the_same_time)
{
	struct world w = world_begin(NULL);
	struct hc_set_opts o = HC_OPTS(hc_set_opts);
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(WAIT_MS) * 1000000;
	char buf[8];

	o.ttl_ms = 60;
	CHECK_EQ(hc_set(w.s, "short", 5, "v", 1, &o), HC_OK);
	CHECK_EQ(hc_set(w.s, "long", 4, "v", 1, NULL), HC_OK);
	CHECK_EQ(atoi(ask(&w, "touch 6c6f6e67 600000")), HC_OK);
	while (strcmp(ask(&w, "get 73686f7274"), "miss") != 0)
		CHECK(t_now_ns() < end_ns);
	CHECK_EQ(hc_get(w.s, "short", 5, buf, sizeof buf, NULL), HC_MISS);
	CHECK(strncmp(ask(&w, "get 6c6f6e67"), "hit 76 ", 7) == 0);
	world_end(&w);
}

/* ------------------------------------------------------------------------ pins */

TEST(what_it_holds_stays_whatever_is_written)
{
	enum { SETS = 20000, FIRST = 2, HELD = 8 };
	struct world w = world_begin("pools:\n  main: {size: 4MiB, huge_pages: \"off\"}\n");
	char value[200], key[16];

	for (int i = FIRST; i < FIRST + HELD; i++) { /* several: not every place is needed again */
		memset(value, 'h', sizeof value);
		(void)snprintf(key, sizeof key, "held%d", i);
		CHECK_EQ(hc_set(w.s, key, strlen(key), value, sizeof value, NULL), HC_OK);
		CHECK_STR(ask(&w, "hold %d %s", i, hex(0, key, strlen(key))), "held");
		memset(value, 'x', sizeof value);
		CHECK_EQ(hc_set(w.s, key, strlen(key), value, sizeof value, NULL), HC_OK);
	}
	for (int i = 0; i < SETS; i++) {
		(void)snprintf(key, sizeof key, "k%d", i);
		CHECK_EQ(hc_set(w.s, key, strlen(key), value, sizeof value, NULL), HC_OK);
	}
	CHECK(store_counter(&w, SHM_SC_evicted) > SETS / 4); /* all memory was used again */
	memset(value, 'h', sizeof value);
	for (int i = FIRST; i < FIRST + HELD; i++) {
		CHECK_STR(ask(&w, "look %d", i), hex(0, value, sizeof value));
		CHECK_STR(ask(&w, "release %d", i), "ok");
	}
	world_end(&w);
}

TEST(it_reads_beside_growth_and_overwrites)
{
	enum { KEYS = 60000, LOOKS = 10000 };
	struct world w = world_begin("pools:\n  main: {size: 64MiB, huge_pages: \"off\"}\n");
	uint64_t grows = shm_load_rlx(&w.hc->ctl->pool[0].counter[SHM_PC_index_grows]);
	char key[16];

	for (int i = 0; i < 4; i++)
		CHECK_EQ(hc_set(w.s, (char[]){(char)('a' + i)}, 1, "same", 4, NULL), HC_OK);
	CHECK(dprintf(w.p->in_fd, "always %d 73616d65 61 62 63 64\n", LOOKS) > 0);
	for (int i = 0; i < KEYS; i++) {
		(void)snprintf(key, sizeof key, "k%d", i);
		CHECK_EQ(hc_set(w.s, key, strlen(key), "v", 1, NULL), HC_OK);
		if (i % 8 == 0)
			CHECK_EQ(hc_set(w.s, (char[]){(char)('a' + i / 8 % 4)}, 1, "same", 4, NULL),
				HC_OK);
	}
	free(w.answer);
	w.answer = t_proc_line(w.p, "", WAIT_MS);
	CHECK_STR(w.answer, "ok");
	CHECK(shm_load_rlx(&w.hc->ctl->pool[0].counter[SHM_PC_index_grows]) > grows);
	CHECK(strncmp(ask(&w, "get %s", hex(0, key, strlen(key))), "hit 76 ", 7) == 0);
	world_end(&w);
}

/* What it says of a scan, as our library sees the store. */
struct sums {
	unsigned long long n, bytes, hash;
};

static int add(void *arg, const struct hc_scan_entry *e)
{
	struct sums *s = arg;
	uint8_t both[256];

	CHECK(e->key_bytes + e->value_bytes <= sizeof both);
	memcpy(both, e->key, e->key_bytes);
	memcpy(both + e->key_bytes, e->value, e->value_bytes);
	s->n++;
	s->bytes += e->value_bytes;
	s->hash += shm_key_hash(both, e->key_bytes + e->value_bytes, 0, 0);
	return 0;
}

/* At rest: nothing is reported twice. */
static void check_scans_agree(struct world *w)
{
	struct hc_scan scan = HC_OPTS(hc_scan);
	struct sums ours = {0}, its;
	int r;

	while ((r = hc_scan(w->s, &scan, add, &ours)) == HC_OK)
		;
	CHECK_EQ(r, HC_MISS);
	CHECK_EQ(sscanf(ask(w, "scan"), "%llu %llu %llu", &its.n, &its.bytes, &its.hash), 3);
	CHECK_EQ(its.n, ours.n);
	CHECK_EQ(its.bytes, ours.bytes);
	CHECK_EQ(its.hash, ours.hash);
}

TEST(its_scan_finds_what_ours_finds)
{
	enum { KEYS = 3000 };
	struct world w = world_begin(NULL);
	unsigned long long n;
	char key[16];

	check_scans_agree(&w);
	for (int i = 0; i < KEYS; i++) {
		(void)snprintf(key, sizeof key, "k%d", i);
		CHECK_EQ(hc_set(w.s, key, strlen(key), key, strlen(key), NULL), HC_OK);
	}
	check_scans_agree(&w);
	CHECK(dprintf(w.p->in_fd, "scan\n") > 0); /* beside growth: all that were there */
	for (int i = KEYS; i < 10 * KEYS; i++) {
		(void)snprintf(key, sizeof key, "k%d", i);
		CHECK_EQ(hc_set(w.s, key, strlen(key), "v", 1, NULL), HC_OK);
	}
	free(w.answer);
	w.answer = t_proc_line(w.p, "", WAIT_MS);
	CHECK(sscanf(w.answer, "%llu", &n) == 1 && n >= KEYS);
	check_scans_agree(&w);
	world_end(&w);
}

/* ------------------------------------------------------------------------ writing */

TEST(its_numbers_and_batches_are_applied_as_asked)
{
	struct world w = world_begin(NULL);
	char buf[32];
	size_t n;

	CHECK(strstr(ask(&w, "incr 6e 5"), " 0")); /* on the wire, `initial` is the first value */
	(void)ask(&w, "incr 6e -7");
	CHECK_STR(strrchr(w.answer, ' '), " -7");
	CHECK_EQ(hc_get(w.s, "n", 1, buf, sizeof buf, &n), HC_OK);
	CHECK(n == 2 && memcmp(buf, "-7", 2) == 0);
	(void)ask(&w, "batch 0 set 61 62 incr 6e 10 delete 7a - set 63 64 delete 61 - incr 63 1");
	CHECK_STR(
		strchr(strchr(w.answer, ' ') + 1, ' '), " 6 0:0:0 1:0:3 2:1:0 3:0:0 4:0:0 5:-22:0");
	(void)ask(&w, "batch 1 set 61 62 incr 63 1");
	CHECK_STR(strchr(strchr(w.answer, ' ') + 1, ' '), " 2 1:-22:0");
	CHECK(strstr(ask(&w, "clear"), " 3")); /* a, c and n */
	CHECK_EQ(hc_exists(w.s, "n", 1), HC_MISS);
	CHECK_STR(ask(&w, "ping"), "0");
	world_end(&w);
}

TEST(what_it_asks_wrongly_is_named)
{
	struct world w = world_begin(NULL);
	unsigned long long idx, id;

	CHECK_EQ(sscanf(ask(&w, "store default"), "%llu %llu", &idx, &id), 2);
	CHECK_EQ(
		atoi(ask(&w, "raw 3 i %llu i %llu b 6b b 76 i 0 i 0", idx, id + 1)), HC_E_NO_STORE);
	CHECK_EQ(atoi(ask(&w, "raw 3 i %llu i %llu b - b 76 i 0 i 0", idx, id)), HC_E_INVAL);
	CHECK_EQ(atoi(ask(&w, "raw 3 i %llu i %llu b 6b b 76 i 0 i 0 i 7", idx, id)), HC_E_INVAL);
	CHECK_EQ(atoi(ask(&w, "raw 6 i %llu i %llu b 6b i 1", idx, id)), HC_MISS);
	CHECK_EQ(atoi(ask(&w,
			 "raw 3 i %llu i %llu b 6b b 76 i 0 i 0 i 0 i 0 i 0 i 0 i 0 i 0 i 9 s new",
			 idx, id)),
		HC_OK);
	world_end(&w);
}

/* ------------------------------------------------------------------------ leases */

TEST(it_computes_what_others_wait_for_and_waits_itself)
{
	struct world w = world_begin(NULL);
	struct hc_lease_opts o = HC_OPTS(hc_lease_opts);
	struct hc_set_opts fill = HC_OPTS(hc_set_opts);
	unsigned long long idx, id, token;
	struct hc_lease lease;
	char buf[16];
	int status;

	o.no_wait = 1;
	CHECK_EQ(sscanf(ask(&w, "store default"), "%llu %llu", &idx, &id), 2);
	CHECK_EQ(sscanf(ask(&w, "lease 6b 60000"), "%d %llu", &status, &token), 2);
	CHECK_EQ(status, HC_OK);
	CHECK_EQ(hc_get_or_lease(w.s, "k", 1, buf, sizeof buf, NULL, &o, &lease), HC_LEASED);
	CHECK_STR(ask(&w, "leaseword 6b"), "changed 1"); /* by its own begin */
	CHECK_EQ(atoi(ask(&w, "fill 6b 76 %llu", token + 1)), HC_LEASE_LOST);
	CHECK_EQ(atoi(ask(&w, "fill 6b 76 %llu", token)), HC_OK);
	CHECK_EQ(hc_get_or_lease(w.s, "k", 1, buf, sizeof buf, NULL, &o, &lease), HC_OK);
	CHECK_STR(ask(&w, "lease 6b 60000"), "hit 76");
	CHECK_EQ(atoi(ask(&w, "drop 6b %llu", token)), HC_LEASE_LOST);
	/* And the other way round. */
	CHECK_EQ(hc_delete(w.s, "k", 1), HC_OK);
	CHECK_EQ(hc_get_or_lease(w.s, "k", 1, buf, sizeof buf, NULL, &o, &lease), HC_LEASE);
	CHECK_EQ(atoi(ask(&w, "lease 6b 60000")), HC_LEASED);
	CHECK_STR(ask(&w, "leaseword 6b"), "same 1");
	fill.lease = lease.token;
	fill.absent = 1;
	CHECK_EQ(hc_set(w.s, "k", 1, NULL, 0, &fill), HC_OK);
	CHECK_STR(ask(&w, "leaseword 6b"), "changed 0");
	CHECK_STR(ask(&w, "get 6b"), "miss"); /* what is known to be absent */
	world_end(&w);
}

/* ------------------------------------------------------------------------ the feed */

TEST(it_follows_what_is_written_and_waits_for_it)
{
	struct world w = world_begin(
		"pools: {main: {size: 8MiB, huge_pages: \"off\", feed: 64KiB}}\n");
	unsigned long long sequence;
	uint64_t lost = 0;

	CHECK_STR(ask(&w, "follow"), "ok");
	CHECK_STR(ask(&w, "event"), "none");
	CHECK_EQ(write(w.p->in_fd, "wait\n", 5), 5);
	CHECK_EQ(hc_set(w.s, "key", 3, "v", 1, NULL), HC_OK);
	free(t_proc_line(w.p, "ready", WAIT_MS));
	CHECK_EQ(hc_clear(w.s, NULL), HC_OK);
	CHECK_EQ(sscanf(ask(&w, "event"), "1 0 %llu 6b6579", &sequence), 1);
	CHECK_EQ(sequence, 1);
	CHECK_STR(ask(&w, "event"), "7 0 2 -");
	CHECK_STR(ask(&w, "event"), "none");
	CHECK_EQ(write(w.p->in_fd, "wait\n", 5), 5);
	(void)t_daemon_wait_engine(w.d, t_daemon_kill_engine(w.d, SIGKILL));
	CHECK_EQ(hc_delete(w.s, "key", 3), HC_MISS);
	for (int i = 0; i < 3000; i++) /* more than it holds */
		CHECK_EQ(hc_set(w.s, "key", 3, "v", 1, NULL), HC_OK);
	free(t_proc_line(w.p, "ready", WAIT_MS));
	CHECK_EQ(sscanf(ask(&w, "event"), "lapped %" SCNu64, &lost), 1);
	CHECK(lost > 0);
	while (strcmp(ask(&w, "event"), "none") != 0)
		CHECK_EQ(sscanf(w.answer, "1 0 %llu 6b6579", &sequence), 1);
	CHECK_EQ(sequence, 3002);
	world_end(&w);
}

/* ------------------------------------------------------------------------ deaths */

TEST(it_survives_engines)
{
	enum { ENGINES = 4, INCRS = 5 };
	struct world w = world_begin(NULL);
	pid_t engine = t_daemon_wait_engine(w.d, 0);
	char want[64], buf[32];
	size_t n;

	CHECK_EQ(hc_set(w.s, "k", 1, "value", 5, NULL), HC_OK);
	for (int e = 0; e < ENGINES; e++) {
		for (int i = 0; i < INCRS; i++)
			(void)ask(&w, "incr 6e 1");
		CHECK_EQ(t_daemon_kill_engine(w.d, SIGKILL), engine);
		CHECK(strncmp(ask(&w, "get 6b"), "hit 76616c7565 ", 15) == 0);
		(void)ask(&w, "incr 6e 1");
		(void)snprintf(want, sizeof want, " %d", (e + 1) * (INCRS + 1) - 1);
		CHECK_STR(strrchr(w.answer, ' '), want);
		engine = t_daemon_wait_engine(w.d, engine);
	}
	CHECK_EQ(hc_get(w.s, "n", 1, buf, sizeof buf, &n), HC_OK);
	CHECK(n == strlen(want) - 1 && memcmp(buf, want + 1, n) == 0);
	CHECK_EQ(shm_load_rlx(&w.hc->ctl->counter[SHM_DC_sessions]), 2);
	world_end(&w);
}

TEST(its_own_death_is_heard_of_and_its_reads_are_counted)
{
	enum { READS = 10 };
	struct world w = world_begin(NULL);
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(WAIT_MS) * 1000000;

	CHECK_EQ(hc_set(w.s, "k", 1, "v", 1, NULL), HC_OK);
	for (int i = 0; i < READS; i++)
		(void)ask(&w, "get 6b");
	(void)ask(&w, "get 6c");
	CHECK_STR(ask(&w, "hold 31 6b"), "held");
	t_proc_kill(w.p, WAIT_MS);
	t_proc_free(w.p);
	while (shm_load_rlx(&w.hc->ctl->counter[SHM_DC_sessions]) != 1) {
		CHECK(t_now_ns() < end_ns);
		CHECK_EQ(hc_ping(w.hc), HC_OK);
	}
	CHECK_EQ(shm_load_rlx(&w.hc->ctl->counter[SHM_DC_sessions_dead]), 1);
	CHECK_EQ(store_counter(&w, SHM_SC_folded_hits), READS + 1);
	CHECK_EQ(store_counter(&w, SHM_SC_folded_misses), 1);
	w.p = foreign_start(w.d);
	world_end(&w);
}
