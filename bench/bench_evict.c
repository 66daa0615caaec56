/* bench_evict.c - what a set costs that has to make room, beside one that has not.
 *
 * One engine, three pools: one that holds all keys, and two that hold a tenth of them, with the thresholds that a
 * pool has unasked and with thresholds as high as they go.  Sets of random keys, one at a time, in rounds: a ping, a
 * set that replaces, a set that evicts.  Of each round the time of a call as its caller sees it; and the engine's
 * own CPU for each request, read from the kernel before and after it, in which no other program's time is.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "bench_data.h"
#include "bench_host.h"
#include "hypercache.h"

enum { PART = 10, ROUNDS_MAX = 101, OWN_PART = 4, WARM_ROUNDS = 2 };

static const char tenth_pools[] = "  tenth: { size: %lluMiB, huge_pages: off }\n"
				  "  full: { size: %lluMiB, huge_pages: off, pressure_end: 0.997, "
				  "pressure_low: 0.998, pressure_high: 0.999, pressure_full: 1 }\n";
static const char tenth_stores[] = "  tenth: { pool: tenth }\n  full: { pool: full }\n";

struct kind {
	const char *word, *store; /* NULL: a ping */
};
static const struct kind kinds[] = {
	{"ping", NULL}, {"replace", "default"}, {"evict", "tenth"}, {"evict_full", "full"}};
enum { KINDS = sizeof kinds / sizeof *kinds };

static struct {
	const char *bindir;
	uint64_t keys, sets, seed;
	size_t value_bytes;
	unsigned rounds;
} opt = {.keys = 500000, .sets = 20000, .value_bytes = 256, .rounds = 15, .seed = 1};

/* Of one kind on one placement. */
struct result {
	uint32_t *call_ns, *own_ns; /* rounds * sets, rounds * sets / OWN_PART */
	double cpu_ns[ROUNDS_MAX];  /* of the engine for one call: means of rounds */
	uint64_t n_calls, n_own;
};

static struct host_daemon host_daemon;
static struct hc *hc;
static struct hc_store *store[KINDS];
static uint8_t *value;
static int engine_stat; /* /proc/PID/schedstat of the engine's main thread */

static _Noreturn void die(const char *what, const char *why)
{
	fprintf(stderr, "bench_evict: %s: %s\n", what, why);
	exit(1);
}

static _Noreturn void fail(const char *what, int r) { die(what, hc_strerror(r)); }

static uint64_t own_ns(void)
{
	char text[128] = "";

	if (pread(engine_stat, text, sizeof text - 1, 0) <= 0)
		die("the engine", "its time cannot be read");
	return strtoull(text, NULL, 10);
}

static void daemon_begin(void)
{
	static char pools[512];
	struct hc_open_opts opts = HC_OPTS(hc_open_opts);
	uint64_t each = 88 + KEY_BYTES + opt.value_bytes + 32;
	unsigned long long mib = (opt.keys / PART * each >> 20) + 1;
	struct host_config config = {.pool_bytes = opt.keys * each * 2 + (64 << 20),
		.pool = pools,
		.stores = tenth_stores};
	char path[64];

	(void)snprintf(pools, sizeof pools, tenth_pools, mib < 4 ? 4 : mib, mib < 4 ? 4 : mib);
	if (host_daemon_start(&host_daemon, opt.bindir, &config) != 0)
		exit(1);
	opts.socket = host_daemon.socket;
	int r = hc_open(&hc, &opts);
	for (int k = 0; k < KINDS && r == HC_OK; k++)
		if (kinds[k].store)
			r = hc_store(hc, kinds[k].store, &store[k]);
	if (r != HC_OK)
		fail("begin", r);
	(void)snprintf(path, sizeof path, "/proc/%d/schedstat", (int)host_child(host_daemon.pid));
	engine_stat = open(path, O_RDONLY | O_CLOEXEC);
	if (engine_stat < 0)
		die(path, strerror(errno));
}

/* Keys in random order with repetition, the same for all. */
static void key_next(uint8_t key[KEY_BYTES])
{
	opt.seed = opt.seed * 6364136223846793005ull + 1442695040888963407ull;
	data_key((opt.seed >> 20) % opt.keys, key);
}

static void call(int k)
{
	uint8_t key[KEY_BYTES];

	key_next(key);
	int r = store[k] ? hc_set(store[k], key, KEY_BYTES, value, opt.value_bytes, NULL)
	                 : hc_ping(hc);
	if (r != HC_OK)
		fail(kinds[k].word, r);
}

/* Every key once, so that one pool has all of them and the others are full. */
static void fill(void)
{
	uint8_t key[BATCH_MAX * KEY_BYTES];
	struct hc_mset_item item[BATCH_MAX];

	for (int k = 0; k < KINDS; k++)
		for (uint64_t at = 0; store[k] && at < opt.keys; at += BATCH_MAX) {
			for (uint64_t i = 0; i < BATCH_MAX; i++) {
				data_key((at + i) % opt.keys, key + i * KEY_BYTES);
				item[i] = (struct hc_mset_item){.key = key + i * KEY_BYTES,
					.key_bytes = KEY_BYTES,
					.value = value,
					.value_bytes = opt.value_bytes};
			}
			int r = hc_mset(store[k], item, BATCH_MAX, NULL);
			if (r != HC_OK)
				fail("hc_mset", r);
		}
}

/* ------------------------------------------------------------ rounds */

static void round_of(int k, struct result *to, unsigned round, double ns_per_tick)
{
	uint64_t begun = own_ns();

	for (uint64_t i = 0; i < opt.sets; i++) {
		uint64_t t = host_ticks();
		call(k);
		to->call_ns[to->n_calls++] = (uint32_t)((double)(host_ticks() - t) * ns_per_tick);
	}
	to->cpu_ns[round] = (double)(own_ns() - begun) / (double)opt.sets;
	for (uint64_t i = 0; i < opt.sets / OWN_PART; i++) {
		begun = own_ns();
		call(k);
		to->own_ns[to->n_own++] = (uint32_t)(own_ns() - begun);
	}
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void print_marks(const char *name, uint32_t *ns, uint64_t n)
{
	qsort(ns, n, sizeof *ns, by_value);
	printf(",\"%s\":{\"p50\":%u,\"p99\":%u,\"p999\":%u,\"most\":%u}", name, ns[n / 2],
		ns[n * 99 / 100], ns[n * 999 / 1000], ns[n - 1]);
}

/* Engine on the caller's CPU, or on the other one. */
static void placement(bool same)
{
	struct result result[KINDS];
	double ns_per_tick = host_ns_per_tick();

	if (!host_pin_process(host_child(host_daemon.pid), same ? 0 : 1))
		return; /* there is no other one */
	for (int k = 0; k < KINDS; k++)
		result[k] = (struct result){
			.call_ns = host_take(opt.rounds * opt.sets * sizeof(uint32_t)),
			.own_ns = host_take(opt.rounds * opt.sets * sizeof(uint32_t))};
	for (unsigned round = 0; round < opt.rounds + WARM_ROUNDS; round++)
		for (int k = 0; k < KINDS; k++) {
			struct result *to = &result[(k + round) % KINDS];
			if (round <= WARM_ROUNDS)
				to->n_calls = to->n_own = 0;
			round_of((int)((k + round) % KINDS), to,
				round < WARM_ROUNDS ? 0 : round - WARM_ROUNDS, ns_per_tick);
		}
	printf("%s\"%s\":{", same ? "" : ",", same ? "same" : "other");
	for (int k = 0; k < KINDS; k++) {
		printf("%s\"%s\":{\"cpu_ns\":[", k ? "," : "", kinds[k].word);
		for (unsigned i = 0; i < opt.rounds; i++)
			printf("%s%.0f", i ? "," : "", result[k].cpu_ns[i]);
		printf("]");
		print_marks("call", result[k].call_ns, result[k].n_calls);
		print_marks("own", result[k].own_ns, result[k].n_own);
		printf("}");
		free(result[k].call_ns);
		free(result[k].own_ns);
	}
	printf("}");
	(void)fflush(stdout);
}

/* ------------------------------------------------------------ options */

static const char usage[] =
	"bench_evict - sets that evict, beside sets that replace, as JSON; bench/evict runs it\n"
	"\n"
	"  --keys N          default 500000; two pools hold a tenth of them\n"
	"  --value-bytes N   default 256\n"
	"  --sets N          of each kind in a round; default 20000\n"
	"  --rounds N        1..101; default 15\n"
	"  --bin DIR         folder of hypercached; default $HC_BINDIR\n"
	"\n"
	"Exit status: 0 measured, 1 could not, 2 usage.\n";

static void options_read(int argc, char **argv)
{
	static const struct option table[] = {{"keys", required_argument, NULL, 'k'},
		{"value-bytes", required_argument, NULL, 'v'},
		{"sets", required_argument, NULL, 's'}, {"rounds", required_argument, NULL, 'r'},
		{"bin", required_argument, NULL, 'b'}, {"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0}};
	int o;

	opt.bindir = getenv("HC_BINDIR");
	while ((o = getopt_long(argc, argv, "", table, NULL)) != -1) {
		if (o == 'k')
			opt.keys = host_number(optarg, 1000, 1u << 30);
		else if (o == 'v')
			opt.value_bytes = host_number(optarg, 1, 1 << 20);
		else if (o == 's')
			opt.sets = host_number(optarg, 100, 1 << 22);
		else if (o == 'r')
			opt.rounds = (unsigned)host_number(optarg, 1, ROUNDS_MAX);
		else if (o == 'b')
			opt.bindir = optarg;
		else
			exit(o == 'h' ? (fputs(usage, stdout), 0) : (fputs(usage, stderr), 2));
	}
	if (optind < argc || !opt.bindir)
		exit((fputs(usage, stderr), 2));
}

int main(int argc, char **argv)
{
	options_read(argc, argv);
	(void)host_cpus(); /* as they are, before anything is pinned */
	value = host_take(opt.value_bytes);
	daemon_begin();
	fill();
	(void)host_pin(0);
	printf("{\"keys\":%llu,\"value_bytes\":%zu,\"sets\":%llu,\"rounds\":%u,\"placements\":{",
		(unsigned long long)opt.keys, opt.value_bytes, (unsigned long long)opt.sets,
		opt.rounds);
	placement(true);
	placement(false);
	printf("}}\n");
	hc_close(hc);
	free(value);
	(void)close(engine_stat);
	return host_daemon_stop(&host_daemon) == 0 ? 0 : 1;
}
