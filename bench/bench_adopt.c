/* bench_adopt.c - an engine is killed: how soon are writes answered again, and what do readers notice?
 *
 *	bench_adopt BINDIR [--entries N] [--value BYTES] [--rounds N] [--huge] [--small]
 *
 * A daemon of its own is filled with N entries of 16-byte keys.  A process reads random keys all the time,
 * with a clock around each read.  Each round: first a control, in which a process that does something else burns
 * as much CPU as the last recovery took; then kill -9 of the engine, and
 *
 *   writes back   from the kill to the answer of a hc_set that was called right behind it
 *   verified      until all checksums have been looked at
 *
 * The reader's times are of the whole way from kill to verified.  Every read has to be a hit with its own
 * bytes.  Exit status: 0 measured, 1 it could not, or a read was wrong.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "atomic.h"
#include "bench_host.h"
#include "hc_i.h"
#include "hypercache.h"

enum { ROW_MS = 10500, KEY_BYTES = 16, BATCH = 64, ROUNDS_MAX = 100, VALUE_MAX = 4096 };

/* Times of reads: powers of two, each cut into 16. */
enum { PARTS = 16, BUCKETS = 40 * PARTS };

struct window {
	uint64_t n, wrong, longest_ns;
	uint64_t count[BUCKETS];
};

/* Shared with the reader. */
struct shared {
	shm_u64 open;  /* 0: reads do not count; else which window */
	shm_u64 ready; /* the reader reads */
	struct window window[2];
};

static struct {
	uint64_t entries, value_bytes;
	int rounds;
	bool huge, small;
	const char *bindir;
} opt = {.entries = 2900000, .value_bytes = 256, .rounds = 5};

static struct shared *shared;

static uint32_t bucket_of(uint64_t ns)
{
	uint32_t log2 = ns < PARTS ? 0 : 63 - (uint32_t)__builtin_clzll(ns);
	uint32_t i = ns < PARTS ? (uint32_t)ns
	                        : (log2 - 3) * PARTS + (uint32_t)(ns >> (log2 - 4) & (PARTS - 1));

	return i < BUCKETS ? i : BUCKETS - 1;
}

/* The upper end of a bucket, ns. */
static uint64_t bucket_end(uint32_t i)
{
	uint32_t log2 = i / PARTS + 3;

	return i < PARTS ? i : ((uint64_t)(PARTS + i % PARTS + 1) << (log2 - 4)) - 1;
}

static uint64_t percentile(const struct window *w, double part)
{
	uint64_t seen = 0;

	for (uint32_t i = 0; i < BUCKETS; i++) {
		seen += w->count[i];
		if (seen > (uint64_t)((double)w->n * part))
			return bucket_end(i);
	}
	return 0;
}

static void key_of(uint64_t i, char key[KEY_BYTES])
{
	for (int at = KEY_BYTES; at > 0; i /= 10)
		key[--at] = (char)('0' + i % 10);
}

static bool check(int r, const char *what)
{
	if (r != HC_OK)
		fprintf(stderr, "bench_adopt: %s: %s\n", what, hc_strerror(r));
	return r == HC_OK;
}

static bool client(const struct host_daemon *d, struct hc **hc, struct hc_store **s)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);

	o.socket = d->socket;
	o.timeout_ms = 60000;
	return check(hc_open(hc, &o), "open") && check(hc_store(*hc, "default", s), "store");
}

/* Begins with its key's number. */
static bool fill(struct hc_store *s)
{
	static char key[BATCH][KEY_BYTES], value[BATCH][VALUE_MAX];
	struct hc_mset_item it[BATCH];

	for (uint64_t at = 0; at < opt.entries; at += BATCH) {
		uint64_t n = opt.entries - at < BATCH ? opt.entries - at : BATCH;
		for (uint64_t i = 0; i < n; i++) {
			uint64_t number = at + i;
			key_of(number, key[i]);
			memcpy(value[i], &number, sizeof number);
			it[i] = (struct hc_mset_item){.key = key[i],
				.key_bytes = KEY_BYTES,
				.value = value[i],
				.value_bytes = opt.value_bytes};
		}
		if (!check(hc_mset(s, it, n, NULL), "fill"))
			return false;
	}
	return true;
}

static _Noreturn void reader(const struct host_daemon *d)
{
	uint64_t x = 88172645463325252ull, number;
	char key[KEY_BYTES], value[VALUE_MAX];
	struct hc_store *s;
	struct hc *hc;
	size_t n;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (!client(d, &hc, &s))
		_exit(1);
	shm_store_rlx(&shared->ready, 1);
	for (;;) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		key_of(x % opt.entries, key);
		uint64_t from = host_now_ns();
		int r = hc_get(s, key, KEY_BYTES, value, sizeof value, &n);
		uint64_t ns = host_now_ns() - from, open = shm_load_rlx(&shared->open);
		if (!open)
			continue;
		struct window *w = &shared->window[open - 1];
		memcpy(&number, value, sizeof number);
		w->wrong += r != HC_OK || n != opt.value_bytes || number != x % opt.entries;
		w->longest_ns = ns > w->longest_ns ? ns : w->longest_ns;
		w->count[bucket_of(ns)]++;
		w->n++;
	}
}

static _Noreturn void burner(uint64_t ns)
{
	uint64_t from = host_thread_ns();

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (host_thread_ns() - from < ns)
		;
	_exit(0);
}

static void window_open(int which) { shm_store_rlx(&shared->open, (uint64_t)which + 1); }

/* As much CPU as a recovery takes, burnt by somebody else.  Before it, so long that the next death is the first of
 * a new row of crashes: its successor does not have to wait longer than after any other. */
static bool control(uint64_t ns)
{
	(void)poll(NULL, 0, opt.small ? 0 : ROW_MS);
	pid_t pid = fork();

	if (pid == 0)
		burner(ns);
	if (pid < 0)
		return false;
	window_open(0);
	(void)waitpid(pid, NULL, 0);
	shm_store_rlx(&shared->open, 0);
	return true;
}

struct round {
	uint64_t back_ns, verified_ns;
};

static bool killed(
	const struct host_daemon *d, struct hc *hc, struct hc_store *s, struct round *ret)
{
	const shm_u64 *unverified = &hc->ctl->counter[SHM_DC_unverified];
	pid_t engine = host_child(d->pid);

	if (engine == 0)
		return false;
	window_open(1);
	uint64_t from = host_now_ns();
	(void)kill(engine, SIGKILL);
	if (!check(hc_set(s, "again", 5, "x", 1, NULL), "set"))
		return false;
	ret->back_ns = host_now_ns() - from;
	while (shm_load_rlx(unverified) && host_now_ns() - from < 60000000000ull)
		(void)poll(NULL, 0, 1);
	ret->verified_ns = host_now_ns() - from;
	shm_store_rlx(&shared->open, 0);
	return true;
}

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void report(struct round *r)
{
	uint64_t back[ROUNDS_MAX], verified[ROUNDS_MAX];
	static const char *const names[] = {"control", "recovery"};

	for (int i = 0; i < opt.rounds; i++) {
		back[i] = r[i].back_ns;
		verified[i] = r[i].verified_ns;
	}
	qsort(back, (size_t)opt.rounds, sizeof *back, by_number);
	qsort(verified, (size_t)opt.rounds, sizeof *verified, by_number);
	printf("%llu entries of %llu bytes, %d rounds\n", (unsigned long long)opt.entries,
		(unsigned long long)opt.value_bytes, opt.rounds);
	printf("writes back   %8.1f ms median, %8.1f ms worst\n",
		(double)back[opt.rounds / 2] / 1e6, (double)back[opt.rounds - 1] / 1e6);
	printf("verified      %8.1f ms median, %8.1f ms worst\n",
		(double)verified[opt.rounds / 2] / 1e6, (double)verified[opt.rounds - 1] / 1e6);
	for (int i = 0; i < 2; i++) {
		const struct window *w = &shared->window[i];
		printf("reads, %-8s  %llu, %llu wrong; p50 %.2f us, p99 %.2f us, p99.9 %.2f us, "
		       "longest "
		       "%.2f ms\n",
			names[i], (unsigned long long)w->n, (unsigned long long)w->wrong,
			(double)percentile(w, 0.5) / 1e3, (double)percentile(w, 0.99) / 1e3,
			(double)percentile(w, 0.999) / 1e3, (double)w->longest_ns / 1e6);
	}
}

static bool measure(const struct host_daemon *d)
{
	static struct round round[ROUNDS_MAX];
	struct hc_store *s;
	struct hc *hc;
	bool ok = client(d, &hc, &s) && fill(s);
	pid_t pid = ok ? fork() : -1;

	if (pid == 0)
		reader(d);
	while (pid > 0 && !shm_load_rlx(&shared->ready) && waitpid(pid, NULL, WNOHANG) == 0)
		(void)sched_yield();
	struct round first;
	ok = pid > 0 && killed(d, hc, s, &first); /* a round that does not count */
	memset(shared->window, 0, sizeof shared->window);
	for (int i = 0; i < opt.rounds && ok; i++)
		ok = control(first.verified_ns) && killed(d, hc, s, &round[i]);
	if (pid > 0) {
		(void)kill(pid, SIGKILL);
		(void)waitpid(pid, NULL, 0);
	}
	hc_close(hc);
	if (ok)
		report(round);
	return ok && shared->window[0].wrong == 0 && shared->window[1].wrong == 0;
}

static bool options_read(int argc, char **argv)
{
	static const struct option options[] = {{"entries", required_argument, NULL, 'e'},
		{"value", required_argument, NULL, 'v'}, {"rounds", required_argument, NULL, 'r'},
		{"huge", no_argument, NULL, 'h'}, {"small", no_argument, NULL, 's'},
		{NULL, 0, NULL, 0}};
	int o;

	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (o == 'e')
			opt.entries = strtoull(optarg, NULL, 10);
		else if (o == 'v')
			opt.value_bytes = strtoull(optarg, NULL, 10);
		else if (o == 'r')
			opt.rounds = atoi(optarg);
		else if (o == 'h')
			opt.huge = true;
		else if (o == 's')
			opt.entries = 20000, opt.rounds = 2, opt.small = true;
		else
			return false;
	}
	opt.bindir = optind + 1 == argc ? argv[optind] : NULL;
	return opt.bindir && opt.entries >= 1 && opt.rounds >= 1 && opt.rounds <= ROUNDS_MAX &&
	       opt.value_bytes >= sizeof(uint64_t) && opt.value_bytes <= VALUE_MAX;
}

int main(int argc, char **argv)
{
	struct host_daemon d = {0};

	if (!options_read(argc, argv)) {
		fputs("bench_adopt BINDIR [--entries N] [--value 8..4096] [--rounds 1..100] "
		      "[--huge] "
		      "[--small]\n",
			stderr);
		return 2;
	}
	shared = mmap(
		NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return 1;
	struct host_config config = {
		.pool_bytes = opt.entries * (opt.value_bytes + 176) + (16 << 20),
		.huge = opt.huge,
		.pool = "    pressure_end: 98%\n    pressure_low: 98.5%\n    pressure_high: 99%\n"
			"    pressure_full: 99.5%\n"};
	if (host_daemon_start(&d, opt.bindir, &config) != 0)
		return 1;
	bool ok = measure(&d);
	return host_daemon_stop(&d) == 0 && ok ? 0 : 1;
}
