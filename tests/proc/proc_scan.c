/* proc_scan.c - looking at entries without using them, with the real daemon: a scan by prefix whose pages
 * are read by one session after the other while engines die and the index grows; and what is
 * known of an entry besides its value. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "atomic.h"
#include "hc_i.h"
#include "hypercache.h"

enum { WAIT_MS = 20000, KEPT = 3000, MORE = 40000, PAGE = 200, KEY_BYTES = 24 };

static const char config[] = "restart_limit: 1000\nrestart_backoff_max: 100ms\n"
			     "pools:\n  main: {size: 32MiB, huge_pages: \"off\"}\n"
			     "stores: {wanted: {}, other: {}}\n";

static struct hc *session(const struct t_daemon *d, const char *name, struct hc_store **s)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct hc *hc;

	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(WAIT_MS);
	CHECK_EQ(hc_open(&hc, &o), HC_OK);
	CHECK_EQ(hc_store(hc, name, s), HC_OK);
	return hc;
}

/* Sets n entries PREFIX0 .. with their keys as values. */
static void fill(struct hc_store *s, const char *prefix, uint32_t from, uint32_t n)
{
	static char key[MORE][KEY_BYTES];
	static struct hc_mset_item it[MORE];

	for (uint32_t i = 0; i < n; i++) {
		size_t k = (size_t)snprintf(key[i], KEY_BYTES, "%s%u", prefix, from + i);
		it[i] = (struct hc_mset_item){
			.key = key[i], .key_bytes = k, .value = key[i], .value_bytes = k};
	}
	CHECK_EQ(hc_mset(s, it, n, NULL), HC_OK);
}

/* ------------------------------------------------------------------ scan */

struct seen {
	uint8_t kept[KEPT]; /* how often each was reported */
	uint32_t others;    /* of the same prefix, set meanwhile */
};

static int see(void *arg, const struct hc_scan_entry *e)
{
	struct seen *seen = arg;
	char key[KEY_BYTES] = "";

	CHECK(e->key_bytes < KEY_BYTES);
	memcpy(key, e->key, e->key_bytes);
	CHECK(strncmp(key, "kept:", 5) == 0);
	CHECK(e->value_bytes == e->key_bytes && memcmp(e->value, key, e->key_bytes) == 0);
	unsigned long n = strtoul(key + 5, NULL, 10);
	if (n < KEPT)
		seen->kept[n]++;
	else
		seen->others++;
	return 0;
}

TEST_LIMIT(a_cursor_survives_sessions_engines_and_growth, 120)
{
	static struct seen seen;
	struct t_daemon *d = t_daemon_start(config, NULL);
	struct hc_store *s, *other;
	struct hc *hc = session(d, "wanted", &s);
	struct hc_scan scan = HC_OPTS(hc_scan);
	uint64_t grows = shm_load_rlx(&hc->ctl->pool[0].counter[SHM_PC_index_grows]);
	int r = HC_OK, pages = 0;

	CHECK_EQ(hc_store(hc, "other", &other), HC_OK);
	fill(s, "kept:", 0, KEPT);
	fill(s, "keep", 0, 500); /* another prefix, that is almost the same */
	fill(other, "kept:", 0, 500);
	scan.prefix = "kept:";
	scan.prefix_bytes = 5;
	scan.max_entries = PAGE;
	for (; r == HC_OK; pages++) {
		struct hc_store *mine;
		struct hc *reader = session(d, "wanted", &mine);
		uint64_t cursor = scan.cursor;
		while ((r = hc_scan(mine, &scan, see, &seen)) == HC_E_BUSY)
			;
		CHECK(r == HC_OK || r == HC_MISS);
		CHECK(r == HC_MISS ? scan.cursor == 0 : scan.cursor > cursor);
		hc_close(reader); /* the cursor is all that is left */
		if (pages % 4 == 1)
			(void)t_daemon_kill_engine(d, SIGKILL);
		if (pages % 4 == 2) /* under the scan the index gets larger */
			fill(s, "new:", (uint32_t)pages * MORE, MORE / 4);
	}
	CHECK(pages >= KEPT / PAGE);
	CHECK(shm_load_rlx(&hc->ctl->pool[0].counter[SHM_PC_index_grows]) > grows);
	CHECK_EQ(shm_load_rlx(&hc->ctl->store[0].counter[SHM_SC_evicted]), 0);
	for (int i = 0; i < KEPT; i++)
		CHECK(seen.kept[i] >= 1);
	CHECK_EQ(seen.others, 0);
	hc_close(hc);
	t_daemon_stop(d);
}

static int stop_at_third(void *arg, const struct hc_scan_entry *e)
{
	(void)e;
	return ++*(int *)arg == 3;
}

/* Whoever stops a page gets the rest with the next one. */
TEST(a_scan_that_is_stopped_goes_on)
{
	static struct seen seen;
	struct t_daemon *d = t_daemon_start(config, NULL);
	struct hc_store *s;
	struct hc *hc = session(d, "wanted", &s);
	struct hc_scan scan = HC_OPTS(hc_scan);
	int n = 0, r;

	fill(s, "kept:", 0, KEPT);
	CHECK_EQ(hc_scan(s, &scan, stop_at_third, &n), HC_OK);
	CHECK_EQ(n, 3);
	scan.cursor = 0; /* the first three are wanted too */
	while ((r = hc_scan(s, &scan, see, &seen)) == HC_OK)
		;
	CHECK_EQ(r, HC_MISS);
	for (int i = 0; i < KEPT; i++)
		CHECK(seen.kept[i] >= 1);
	scan = (struct hc_scan){.size = sizeof scan, .prefix = "nobody", .prefix_bytes = 6};
	n = 0;
	while ((r = hc_scan(s, &scan, stop_at_third, &n)) == HC_OK)
		;
	CHECK(r == HC_MISS && n == 0);
	hc_close(hc);
	t_daemon_stop(d);
}

/* ------------------------------------------------------------------ one entry */

static struct hc_meta meta_of(struct hc_store *s, const char *key)
{
	struct hc_meta m = HC_OPTS(hc_meta);

	CHECK_EQ(hc_meta(s, key, strlen(key), &m), HC_OK);
	return m;
}

TEST(metadata_is_what_was_written_and_looking_at_it_is_no_use)
{
	struct t_daemon *d = t_daemon_start(config, NULL);
	struct hc_store *s;
	struct hc *hc = session(d, "wanted", &s);
	struct hc_set_opts o = HC_OPTS(hc_set_opts);
	struct hc_meta m = HC_OPTS(hc_meta), again;
	uint64_t version = 0;

	CHECK_EQ(hc_exists(s, "k", 1), HC_MISS);
	m.version = 77;
	CHECK_EQ(hc_meta(s, "k", 1, &m), HC_MISS);
	CHECK_EQ(m.version, 77);
	o.flags = 0xdeadbeef;
	o.ttl_ms = 3600000;
	o.stamp = 123456789;
	o.ret_version = &version;
	CHECK_EQ(hc_set(s, "k", 1, "value", 5, &o), HC_OK);
	m = meta_of(s, "k");
	CHECK_EQ(m.version, version);
	CHECK_EQ(m.flags, 0xdeadbeef);
	CHECK_EQ(m.stamp, 123456789);
	CHECK_EQ(m.value_bytes, 5);
	CHECK_EQ(m.ttl_ms, 3600000);
	CHECK(m.expires_in_ms > 3500000 && m.expires_in_ms <= 3600000);
	CHECK_EQ(m.created_ns, m.modified_ns);
	CHECK_EQ(hc_append(s, "k", 1, "!", 1, NULL), HC_OK);
	again = meta_of(s, "k");
	CHECK(again.version > m.version && again.value_bytes == 6);
	CHECK(again.created_ns == m.created_ns && again.modified_ns > m.modified_ns);
	CHECK(again.flags == m.flags && again.stamp == m.stamp);
	CHECK_EQ(hc_touch(s, "k", 1, HC_TTL_NEVER), HC_OK);
	m = meta_of(s, "k");
	CHECK(m.version == again.version && m.expires_in_ms == -1);
	CHECK_EQ(hc_delete(s, "k", 1), HC_OK);
	CHECK_EQ(hc_set(s, "k", 1, "", 0, NULL), HC_OK);
	again = meta_of(s, "k");
	CHECK(again.created_ns > m.created_ns); /* a new entry */
	CHECK(again.value_bytes == 0 && again.flags == 0 && again.stamp == 0);
	for (int i = 0; i < 100; i++)
		CHECK_EQ(hc_exists(s, "k", 1), HC_OK);
	CHECK_EQ(hc_ping(hc), HC_OK);
	CHECK_EQ(meta_of(s, "k").hits_seen, 0);
	hc_close(hc);
	t_daemon_stop(d);
}
