/* bench_fit_hc.c - the cache, in a pool of the given size: with thresholds as high as they go, and as they are
 * by default. */
#include <stdio.h>
#include <stdlib.h>
#include "bench_fit.h"
#include "bench_host.h"
#include "bench_subject.h"
#include "hypercache.h"

/* bench/README.md and bench/fit name these figures. */
static const char high[] = "    pressure_end: 0.997\n    pressure_low: 0.998\n"
			   "    pressure_high: 0.999\n    pressure_full: 1\n";

static struct fit fit;
static struct host_daemon host_daemon;
static struct hc *hc;
static struct hc_store *store;

static _Noreturn void fail(const char *what, int r)
{
	char text[SUBJECT_TEXT_BYTES];

	(void)snprintf(text, sizeof text, "%s: %s", what, hc_strerror(r));
	subject_fail("hc", text);
}

static const char *begin(const struct fit *f, const char *pool)
{
	struct hc_open_opts opts = HC_OPTS(hc_open_opts);

	struct host_config config = {.pool_bytes = f->limit_bytes, .pool = pool};

	fit = *f;
	if (host_daemon_start(&host_daemon, f->bindir, &config) != 0)
		subject_fail("hc", "no daemon");
	opts.socket = host_daemon.socket;
	int r = hc_open(&hc, &opts);
	if (r == HC_OK)
		r = hc_store(hc, "default", &store);
	if (r != HC_OK)
		fail(opts.socket, r);
	return NULL;
}

static const char *begin_high(const struct fit *f) { return begin(f, high); }
static const char *begin_default(const struct fit *f) { return begin(f, ""); }

static void put(uint64_t first, uint64_t n)
{
	struct hc_mset_item item[BATCH_MAX];
	uint8_t key[BATCH_MAX * KEY_BYTES];

	for (uint64_t i = 0; i < n; i++) {
		data_key(first + i, key + i * KEY_BYTES);
		item[i] = (struct hc_mset_item){.key = key + i * KEY_BYTES,
			.key_bytes = KEY_BYTES,
			.value = fit.value,
			.value_bytes = fit_bytes(&fit, first + i)};
	}
	int r = hc_mset(store, item, n, NULL);
	if (r != HC_OK)
		fail("hc_mset", r);
}

static void look(uint64_t first, uint64_t n, struct fit_held *held)
{
	uint8_t key[KEY_BYTES];
	struct hc_view v;

	for (uint64_t i = first; i < first + n; i++) {
		data_key(i, key);
		int r = hc_view(store, key, KEY_BYTES, &v);
		if (r == HC_MISS)
			continue;
		if (r != HC_OK || v.value_bytes != fit_bytes(&fit, i))
			fail("hc_view", r);
		held->entries++;
		held->bytes += KEY_BYTES + v.value_bytes;
		(void)hc_view_release(&v);
	}
}

/* The pool, and what the engine keeps beside it. */
static uint64_t memory(void)
{
	return fit.limit_bytes + fit_status_bytes(host_child(host_daemon.pid), "RssAnon:");
}

static void say(void)
{
	char command[2 * HOST_TEXT_BYTES + 64], part[4096];
	size_t n;

	(void)snprintf(command, sizeof command, "%s/hypercache stat --json --verbose --admin %s/a",
		fit.bindir, host_daemon.dir);
	FILE *f = popen(command, "re");
	if (!f)
		subject_fail("hc", "cannot run hypercache");
	while ((n = fread(part, 1, sizeof part, f)) > 0)
		(void)fwrite(part, 1, n, stdout);
	if (pclose(f) != 0)
		subject_fail("hc", command);
}

static void end(void)
{
	hc_close(hc);
	if (host_daemon_stop(&host_daemon) != 0)
		subject_fail("hc", "the daemon did not end well");
}

const struct fit_subject fit_hc = {"hc", begin_high, put, look, memory, say, end};
const struct fit_subject fit_hc_default = {
	"hc_default", begin_default, put, look, memory, say, end};
