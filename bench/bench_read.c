/* bench_read.c - what a read costs, beside the limit in the same run (bench_limit.h).
 *
 * Every round measures each kind of read once, one after the other, on the same keys in the same order,
 * and other keys in the next round; what is printed is the median of the rounds, and for ratios the
 * median of the rounds' ratios: a machine that slows down for a while slows both sides.  Keys are drawn
 * uniformly beforehand and lie in the order of their use, so that neither drawing nor fetching them is
 * measured.  Time is that of this thread's CPU: no kind of read waits for anything, and what other programs
 * take away is none of its costs.
 *
 * The second process of the scaling part is a fork with a session of its own, on the second CPU.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "bench_host.h"
#include "bench_limit.h"
#include "hypercache.h"

enum {
	KEY_BYTES = 16,
	ROUNDS_MAX = 201,
	BATCH = 16,  /* keys of one hc_mget */
	PUTS = 4096, /* entries of one hc_mset */
	SMALL_KEYS = 10000,
	SMALL_DRAWS = 20000,
};

enum kind { LIMIT_VIEW, HC_VIEW, LIMIT_GET, HC_GET, HC_MGET, N_KINDS };
static const char *const kind_names[N_KINDS] = {
	[LIMIT_VIEW] = "limit view",
	[HC_VIEW] = "hc_view + release",
	[LIMIT_GET] = "limit get",
	[HC_GET] = "hc_get",
	[HC_MGET] = "hc_mget 16",
};
static const char *const kind_words[N_KINDS] = {
	"limit_view", "hc_view", "limit_get", "hc_get", "hc_mget16"};

struct options {
	uint64_t keys, draws;
	size_t value_bytes;
	unsigned rounds;
	const char *socket, *bindir;
	int only; /* enum kind: this one alone, for profilers; -1: all */
	bool json, huge, full_fence;
};

struct bench {
	struct options opt;
	struct host_daemon daemon;
	struct hc *hc;
	struct hc_store *store;
	struct limit *limit;
	uint8_t *draw;       /* keys in the order of their use: rounds x draws */
	uint64_t *draws_sum; /* by round: of the first bytes of their values */
	uint8_t *buf;        /* BATCH values */
	char backing[16];
	unsigned page_kb;
	bool thp;
	/* the second process; 0: none */
	pid_t child;
	int to_child, from_child;
};

/* ns per look-up, by round */
struct series {
	double ns[ROUNDS_MAX];
};

static _Noreturn void fail(const char *what, int r)
{
	fprintf(stderr, "bench_read: %s: %s\n", what, hc_strerror(r));
	exit(1);
}

/* ------------------------------------------------------------ keys and values */

/* splitmix64's mixer (Steele, Lea, Flood 2014): one to one, so that no two keys are equal. */
static uint64_t mix(uint64_t z)
{
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static void key_make(uint64_t i, uint8_t key[KEY_BYTES])
{
	uint64_t words[2] = {mix(i + 0x9e3779b97f4a7c15ull), mix(~i)};

	memcpy(key, words, KEY_BYTES);
}

static uint8_t value_byte(uint64_t i) { return (uint8_t)(mix(i) | 1); }

static void *take(size_t bytes)
{
	void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);

	if (!p)
		fail("memory", HC_E_NO_MEMORY);
	memset(p, 0, bytes);
	return p;
}

static void draws_make(struct bench *b)
{
	uint64_t random = 1, n = b->opt.draws * b->opt.rounds;

	b->draw = take(n * KEY_BYTES);
	b->draws_sum = take(b->opt.rounds * sizeof *b->draws_sum);
	for (uint64_t d = 0; d < n; d++) {
		uint64_t x = mix(random += 0x9e3779b97f4a7c15ull);
		uint64_t i = (uint64_t)((unsigned __int128)x * b->opt.keys >> 64);
		key_make(i, b->draw + d * KEY_BYTES);
		b->draws_sum[d / b->opt.draws] += value_byte(i);
	}
	b->buf = take(BATCH * b->opt.value_bytes);
}

/* ------------------------------------------------------------ one kind, all draws */

static uint64_t sum_limit_view(const struct bench *b, const uint8_t *draw)
{
	uint64_t sum = 0;
	size_t n;

	for (const uint8_t *k = draw, *end = k + b->opt.draws * KEY_BYTES; k < end;
		k += KEY_BYTES) {
		const uint8_t *v = limit_view(b->limit, k, KEY_BYTES, &n);
		sum += v ? *v : 0;
	}
	return sum;
}

static uint64_t sum_limit_get(const struct bench *b, const uint8_t *draw)
{
	uint64_t sum = 0;
	size_t n;

	for (const uint8_t *k = draw, *end = k + b->opt.draws * KEY_BYTES; k < end; k += KEY_BYTES)
		if (limit_get(b->limit, k, KEY_BYTES, b->buf, b->opt.value_bytes, &n))
			sum += *b->buf;
	return sum;
}

static uint64_t sum_hc_view(const struct bench *b, const uint8_t *draw)
{
	uint64_t sum = 0;
	struct hc_view v;

	for (const uint8_t *k = draw, *end = k + b->opt.draws * KEY_BYTES; k < end;
		k += KEY_BYTES) {
		if (hc_view(b->store, k, KEY_BYTES, &v) != HC_OK)
			continue;
		sum += *(const uint8_t *)v.value;
		(void)hc_view_release(&v);
	}
	return sum;
}

static uint64_t sum_hc_get(const struct bench *b, const uint8_t *draw)
{
	uint64_t sum = 0;
	size_t n;

	for (const uint8_t *k = draw, *end = k + b->opt.draws * KEY_BYTES; k < end; k += KEY_BYTES)
		if (hc_get(b->store, k, KEY_BYTES, b->buf, b->opt.value_bytes, &n) == HC_OK)
			sum += *b->buf;
	return sum;
}

static uint64_t sum_hc_mget(const struct bench *b, const uint8_t *draw)
{
	struct hc_mget_item item[BATCH];
	uint64_t sum = 0;

	for (int i = 0; i < BATCH; i++)
		item[i] = (struct hc_mget_item){.key_bytes = KEY_BYTES,
			.buf = b->buf + (size_t)i * b->opt.value_bytes,
			.buf_bytes = b->opt.value_bytes};
	for (uint64_t d = 0; d < b->opt.draws; d += BATCH) {
		size_t n = b->opt.draws - d < BATCH ? (size_t)(b->opt.draws - d) : BATCH;
		for (size_t i = 0; i < n; i++)
			item[i].key = draw + (d + i) * KEY_BYTES;
		if (hc_mget(b->store, item, n) != HC_OK)
			continue;
		for (size_t i = 0; i < n; i++)
			if (item[i].result == HC_OK)
				sum += *(const uint8_t *)item[i].buf;
	}
	return sum;
}

static uint64_t thread_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* Looks a round's draws up.  ns; ends the program if a value was not there or wrong. */
static uint64_t run(const struct bench *b, enum kind kind, unsigned round)
{
	static uint64_t (*const sums[N_KINDS])(const struct bench *, const uint8_t *) = {
		sum_limit_view, sum_hc_view, sum_limit_get, sum_hc_get, sum_hc_mget};
	uint64_t t = thread_ns();
	uint64_t sum = sums[kind](b, b->draw + round * b->opt.draws * KEY_BYTES);

	t = thread_ns() - t;
	if (sum != b->draws_sum[round]) {
		fprintf(stderr, "bench_read: %s: not every key was found as it was set\n",
			kind_names[kind]);
		exit(1);
	}
	return t;
}

static double per_op(const struct bench *b, uint64_t ns)
{
	return (double)ns / (double)b->opt.draws;
}

/* ------------------------------------------------------------ filling */

static void session_open(struct bench *b)
{
	struct hc_open_opts opts = HC_OPTS(hc_open_opts);
	struct hc_info info = HC_OPTS(hc_info);
	struct hc_view v;
	uint8_t key[KEY_BYTES];

	opts.socket = b->opt.socket ? b->opt.socket : b->daemon.socket;
	opts.full_fence = b->opt.full_fence;
	int r = hc_open(&b->hc, &opts);
	if (r == HC_OK)
		r = hc_store(b->hc, "default", &b->store);
	if (r == HC_OK)
		r = hc_info(b->hc, &info);
	if (r != HC_OK)
		fail(opts.socket, r);
	(void)snprintf(b->backing, sizeof b->backing, "%s", info.backing);
	key_make(0, key);
	if (hc_view(b->store, key, KEY_BYTES, &v) == HC_OK) {
		b->page_kb = host_page_kb(v.value, &b->thp);
		(void)hc_view_release(&v);
	}
}

static void cache_fill(struct bench *b)
{
	size_t bytes = b->opt.value_bytes;
	uint64_t puts = PUTS * bytes <= 64 << 20 ? PUTS : (64 << 20) / bytes + 1;
	struct hc_mset_item *item = take(puts * sizeof *item);
	uint8_t *key = take(puts * KEY_BYTES), *value = take(puts * bytes);

	for (uint64_t at = 0; at < b->opt.keys; at += puts) {
		size_t n = b->opt.keys - at < puts ? (size_t)(b->opt.keys - at) : (size_t)puts;
		for (size_t i = 0; i < n; i++) {
			key_make(at + i, key + i * KEY_BYTES);
			memset(value + i * bytes, value_byte(at + i), bytes);
			item[i] = (struct hc_mset_item){.key = key + i * KEY_BYTES,
				.key_bytes = KEY_BYTES,
				.value = value + i * bytes,
				.value_bytes = bytes};
		}
		int r = hc_mset(b->store, item, n, NULL);
		if (r != HC_OK)
			fail("hc_mset", r);
	}
	free(item);
	free(key);
	free(value);
}

static void limit_fill(struct bench *b)
{
	uint8_t key[KEY_BYTES], *value = take(b->opt.value_bytes);

	b->limit = limit_new(b->opt.keys, KEY_BYTES, b->opt.value_bytes, b->page_kb);
	if (!b->limit && b->page_kb > 4) {
		fprintf(stderr,
			"bench_read: the limit gets no pages of %u KiB (%s), although the pool has "
			"them: reserve twice as many, or give --no-huge\n",
			b->page_kb, strerror(errno));
		exit(1);
	}
	if (!b->limit)
		fail("the limit's table", HC_E_NO_MEMORY);
	for (uint64_t i = 0; i < b->opt.keys; i++) {
		key_make(i, key);
		memset(value, value_byte(i), b->opt.value_bytes);
		if (!limit_put(b->limit, key, KEY_BYTES, value, b->opt.value_bytes)) {
			fprintf(stderr, "bench_read: the limit's table is full\n");
			exit(1);
		}
	}
	free(value);
}

/* Bytes of a pool that holds all without evicting: slabs, the index and its growth, a margin. */
static uint64_t pool_bytes(const struct options *o)
{
	uint64_t each = 88 + KEY_BYTES + o->value_bytes + 16;

	return o->keys * (each + each / 8 + 64) + (32ull << 20) + 16 * o->value_bytes;
}

/* ------------------------------------------------------------ the second process */

static _Noreturn void child_main(struct bench *b, int in, int out, pid_t parent)
{
	uint8_t word[2];

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)host_pin(1);
	session_open(b);
	while (getppid() == parent && read(in, word, 2) == 2) {
		uint64_t ns = run(b, (enum kind)word[0], word[1]);
		if (write(out, &ns, sizeof ns) != (ssize_t)sizeof ns)
			break;
	}
	hc_close(b->hc);
	_exit(0);
}

static bool child_start(struct bench *b)
{
	int to[2], from[2];
	pid_t self = getpid();

	if (host_cpus() < 2 || pipe(to) != 0 || pipe(from) != 0)
		return false;
	(void)fflush(NULL);
	b->child = fork();
	if (b->child == 0) {
		(void)close(to[1]);
		child_main(b, to[0], from[1], self);
	}
	(void)close(to[0]);
	(void)close(from[1]);
	b->to_child = to[1];
	b->from_child = from[0];
	return b->child > 0;
}

static void child_end(struct bench *b)
{
	int status = 0;

	if (b->child <= 0)
		return;
	(void)close(b->to_child);
	(void)close(b->from_child);
	(void)waitpid(b->child, &status, 0);
	b->child = 0;
	if (status != 0) {
		fprintf(stderr, "bench_read: the second process failed\n");
		exit(1);
	}
}

/* Both processes look all draws up; how much more that is than what one does alone in alone_ns. */
static double run_both(struct bench *b, enum kind kind, unsigned round, uint64_t alone_ns)
{
	const uint8_t word[2] = {(uint8_t)kind, (uint8_t)round};
	uint64_t theirs;

	if (write(b->to_child, word, 2) != 2)
		return 0;
	uint64_t ours = run(b, kind, round);
	if (read(b->from_child, &theirs, sizeof theirs) != (ssize_t)sizeof theirs) {
		child_end(b);
		exit(1);
	}
	return (double)alone_ns / (double)ours + (double)alone_ns / (double)theirs;
}

/* ------------------------------------------------------------ rounds */

struct results {
	struct series kind[N_KINDS];
	struct series limit_scale, hc_scale; /* two processes as a multiple of one */
	bool scaled;
};

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(const struct series *s, unsigned n)
{
	struct series sorted = *s;

	qsort(sorted.ns, n, sizeof *sorted.ns, by_value);
	return n % 2 ? sorted.ns[n / 2] : (sorted.ns[n / 2 - 1] + sorted.ns[n / 2]) / 2;
}

static double ratio(const struct series *a, const struct series *b, unsigned n)
{
	struct series r;

	for (unsigned i = 0; i < n; i++)
		r.ns[i] = a->ns[i] / b->ns[i];
	return median(&r, n);
}

static void measure(struct bench *b, struct results *r)
{
	for (int k = 0; k < N_KINDS; k++) /* the first time is not like the others */
		if (b->opt.only < 0 || b->opt.only == k)
			(void)run(b, (enum kind)k, 0);
	for (unsigned n = 0; n < b->opt.rounds; n++) {
		uint64_t ns[N_KINDS] = {0};
		for (int k = 0; k < N_KINDS; k++) {
			if (b->opt.only >= 0 && b->opt.only != k)
				continue;
			ns[k] = run(b, (enum kind)k, n);
			r->kind[k].ns[n] = per_op(b, ns[k]);
		}
		if (!r->scaled)
			continue;
		r->limit_scale.ns[n] = run_both(b, LIMIT_GET, n, ns[LIMIT_GET]);
		r->hc_scale.ns[n] = run_both(b, HC_GET, n, ns[HC_GET]);
	}
}

/* ------------------------------------------------------------ what is printed */

/* X(word in JSON, what, value, target as text, met) */
struct verdict {
	const char *word, *what, *target;
	double value;
	bool met;
};

static unsigned verdicts(const struct bench *b, const struct results *r, struct verdict v[4])
{
	const struct series *k = r->kind;
	unsigned n = b->opt.rounds, at = 0;
	double get = ratio(&k[HC_GET], &k[LIMIT_GET], n);
	double view = ratio(&k[HC_VIEW], &k[LIMIT_VIEW], n);
	double mget = ratio(&k[HC_MGET], &k[HC_GET], n);

	v[at++] = (struct verdict){
		"get_by_limit", "hc_get / limit get", "at most 1.25", get, get <= 1.25};
	v[at++] = (struct verdict){
		"view_by_limit", "hc_view / limit view", "at most 1.15", view, view <= 1.15};
	v[at++] = (struct verdict){
		"mget_by_get", "hc_mget 16 / hc_get, each key", "at most 0.60", mget, mget <= 0.6};
	if (r->scaled) {
		double scale = median(&r->hc_scale, n);
		v[at++] = (struct verdict){"two_by_one", "two processes / one, hc_get",
			"at least 1.90", scale, scale >= 1.9};
	}
	return at;
}

static void print_text(const struct bench *b, const struct results *r)
{
	char cpu[HOST_TEXT_BYTES], kernel[HOST_TEXT_BYTES];
	struct verdict v[4];
	unsigned n = verdicts(b, r, v);

	host_cpu_name(cpu);
	host_kernel(kernel);
	printf("%llu keys of %d bytes, values of %zu bytes, uniform; %u rounds of %llu look-ups\n",
		(unsigned long long)b->opt.keys, KEY_BYTES, b->opt.value_bytes, b->opt.rounds,
		(unsigned long long)b->opt.draws);
	printf("%s, %u CPUs; Linux %s; gcc-compatible %s\n", cpu, host_cpus(), kernel, __VERSION__);
	printf("pool: %s, pages of %u KiB%s; %s\n\n", b->backing, b->page_kb,
		b->thp ? " mapped by transparent huge ones" : "",
		b->opt.full_fence ? "full fences" : "compiler barriers");
	printf("%-32s %10s %10s\n", "", "ns", "fastest");
	for (int k = 0; k < N_KINDS; k++) {
		double best = r->kind[k].ns[0];
		for (unsigned i = 1; i < b->opt.rounds; i++)
			best = r->kind[k].ns[i] < best ? r->kind[k].ns[i] : best;
		printf("%-32s %10.1f %10.1f\n", kind_names[k], median(&r->kind[k], b->opt.rounds),
			best);
	}
	printf("\n%-32s %10s   target\n", "", "ratio");
	for (unsigned i = 0; i < n; i++)
		printf("%-32s %10.2f   %s%s\n", v[i].what, v[i].value, v[i].target,
			v[i].met ? "" : ": missed");
	if (r->scaled)
		printf("%-32s %10.2f   (what this machine allows)\n",
			"two processes / one, limit get", median(&r->limit_scale, b->opt.rounds));
}

static void print_json(const struct bench *b, const struct results *r)
{
	char cpu[HOST_TEXT_BYTES], kernel[HOST_TEXT_BYTES];
	struct verdict v[4];
	unsigned n = verdicts(b, r, v);

	host_cpu_name(cpu);
	host_kernel(kernel);
	printf("{\"benchmark\":\"read\",\"cpu\":\"%s\",\"cpus\":%u,\"kernel\":\"%s\",", cpu,
		host_cpus(), kernel);
	printf("\"compiler\":\"%s\",\"backing\":\"%s\",\"page_kb\":%u,\"thp\":%s,", __VERSION__,
		b->backing, b->page_kb, b->thp ? "true" : "false");
	printf("\"keys\":%llu,\"key_bytes\":%d,\"value_bytes\":%zu,\"rounds\":%u,\"draws\":%llu,",
		(unsigned long long)b->opt.keys, KEY_BYTES, b->opt.value_bytes, b->opt.rounds,
		(unsigned long long)b->opt.draws);
	printf("\"ns\":{");
	for (int k = 0; k < N_KINDS; k++)
		printf("%s\"%s\":%.2f", k ? "," : "", kind_words[k],
			median(&r->kind[k], b->opt.rounds));
	printf("},\"ratio\":{");
	for (unsigned i = 0; i < n; i++)
		printf("%s\"%s\":%.3f", i ? "," : "", v[i].word, v[i].value);
	if (r->scaled)
		printf(",\"two_by_one_limit\":%.3f", median(&r->limit_scale, b->opt.rounds));
	printf("}}\n");
}

/* ------------------------------------------------------------ options */

static const char usage[] =
	"bench_read - what a read costs, beside a private table of the same shape\n"
	"\n"
	"  --keys N          entries; default 1000000\n"
	"  --value-bytes N   of each; default 256\n"
	"  --draws N         look-ups of one round; default 100000\n"
	"  --rounds N        1..201; default 31\n"
	"  --small           10000 entries, 20000 look-ups, 3 rounds: does it work?\n"
	"  --bin DIR         folder of hypercached; default $HC_BINDIR, else where this program's "
	"is\n"
	"  --socket PATH     a daemon that runs already; its pool must be large enough\n"
	"  --no-huge         base pages\n"
	"  --full-fence      readers use full fences instead of membarrier\n"
	"  --only KIND       limit_view, hc_view, limit_get, hc_get or hc_mget16, for profilers\n"
	"  --json            one JSON object\n"
	"\n"
	"Exit status: 0 measured (whatever came out), 1 could not, or a value was wrong, 2 "
	"usage.\n";

static const struct option option_table[] = {
	{"keys", required_argument, NULL, 'k'},
	{"value-bytes", required_argument, NULL, 'v'},
	{"draws", required_argument, NULL, 'd'},
	{"rounds", required_argument, NULL, 'r'},
	{"small", no_argument, NULL, 's'},
	{"bin", required_argument, NULL, 'b'},
	{"socket", required_argument, NULL, 'c'},
	{"no-huge", no_argument, NULL, 'n'},
	{"full-fence", no_argument, NULL, 'f'},
	{"only", required_argument, NULL, 'o'},
	{"json", no_argument, NULL, 'j'},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0},
};

static uint64_t number(const char *text, uint64_t min, uint64_t max)
{
	char *end;
	uint64_t n = strtoull(text, &end, 10);

	if (end == text || *end || *text == '-' || n < min || n > max) {
		fprintf(stderr, "bench_read: \"%s\" is no number from %llu to %llu\n", text,
			(unsigned long long)min, (unsigned long long)max);
		exit(2);
	}
	return n;
}

static int kind_of(const char *word)
{
	for (int k = 0; k < N_KINDS; k++)
		if (strcmp(word, kind_words[k]) == 0)
			return k;
	fputs(usage, stderr);
	exit(2);
}

static void option_take(struct options *o, int opt)
{
	if (opt == 'k')
		o->keys = number(optarg, 1, 1u << 31);
	else if (opt == 'v')
		o->value_bytes = number(optarg, 1, 1 << 26);
	else if (opt == 'd')
		o->draws = number(optarg, 1, 1 << 24);
	else if (opt == 'r')
		o->rounds = (unsigned)number(optarg, 1, ROUNDS_MAX);
	else if (opt == 'b')
		o->bindir = optarg;
	else if (opt == 'c')
		o->socket = optarg;
	else if (opt == 'n')
		o->huge = false;
	else if (opt == 'f')
		o->full_fence = true;
	else if (opt == 'o')
		o->only = kind_of(optarg);
	else if (opt == 'j')
		o->json = true;
	else
		exit(opt == 'h' ? (fputs(usage, stdout), 0) : (fputs(usage, stderr), 2));
	if (o->only >= 0)
		o->json = false;
}

static void options_read(struct options *o, int argc, char **argv)
{
	int opt;

	*o = (struct options){.keys = 1000000,
		.draws = 100000,
		.value_bytes = 256,
		.rounds = 31,
		.bindir = getenv("HC_BINDIR"),
		.only = -1,
		.huge = true};
	while ((opt = getopt_long(argc, argv, "", option_table, NULL)) != -1) {
		if (opt == 's') {
			o->keys = SMALL_KEYS;
			o->draws = SMALL_DRAWS;
			o->rounds = 3;
		} else {
			option_take(o, opt);
		}
	}
	if (optind < argc)
		exit((fputs(usage, stderr), 2));
	if (!o->bindir)
		o->bindir = ".";
}

int main(int argc, char **argv)
{
	static struct bench b;
	static struct results r;

	options_read(&b.opt, argc, argv);
	(void)host_cpus(); /* as they are, before the daemon or we are pinned */
	if (!b.opt.socket &&
		host_daemon_start(&b.daemon, b.opt.bindir, pool_bytes(&b.opt), b.opt.huge) != 0)
		return 1;
	(void)host_pin(0);
	draws_make(&b);
	session_open(&b);
	cache_fill(&b);
	hc_close(b.hc);
	session_open(&b); /* now it finds the pages that the pool has */
	limit_fill(&b);
	r.scaled = b.opt.only < 0 && child_start(&b);
	measure(&b, &r);
	child_end(&b);
	if (b.opt.only >= 0)
		printf("%s: %.1f ns\n", kind_names[b.opt.only],
			median(&r.kind[b.opt.only], b.opt.rounds));
	else if (b.opt.json)
		print_json(&b, &r);
	else
		print_text(&b, &r);
	hc_close(b.hc);
	limit_free(b.limit);
	free(b.draw);
	free(b.draws_sum);
	free(b.buf);
	return (!b.opt.socket && host_daemon_stop(&b.daemon) != 0) || fflush(stdout) != 0;
}
