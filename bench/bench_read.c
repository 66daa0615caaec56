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
#include "bench_look.h"

enum {
	PUTS = 4096, /* entries of one hc_mset */
	SMALL_KEYS = 10000,
	SMALL_DRAWS = 20000,
};

struct options {
	const char *socket, *bindir;
	int only; /* enum kind: this one alone, for profilers; -1: all */
	bool json, huge, full_fence;
};

struct bench {
	struct options opt;
	struct look look;
	struct host_daemon daemon;
	struct hc *hc;
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

static double per_op(const struct bench *b, uint64_t ns)
{
	return (double)ns / (double)b->look.draws;
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
		r = hc_store(b->hc, "default", &b->look.store);
	if (r == HC_OK)
		r = hc_info(b->hc, &info);
	if (r != HC_OK)
		fail(opts.socket, r);
	(void)snprintf(b->backing, sizeof b->backing, "%s", info.backing);
	look_key(0, key);
	if (hc_view(b->look.store, key, KEY_BYTES, &v) == HC_OK) {
		b->page_kb = host_page_kb(v.value, &b->thp);
		(void)hc_view_release(&v);
	}
}

static void cache_fill(struct bench *b)
{
	size_t bytes = b->look.value_bytes;
	uint64_t puts = PUTS * bytes <= 64 << 20 ? PUTS : (64 << 20) / bytes + 1;
	struct hc_mset_item *item = look_take(puts * sizeof *item);
	uint8_t *key = look_take(puts * KEY_BYTES), *value = look_take(puts * bytes);

	for (uint64_t at = 0; at < b->look.keys; at += puts) {
		size_t n = b->look.keys - at < puts ? (size_t)(b->look.keys - at) : (size_t)puts;
		for (size_t i = 0; i < n; i++) {
			look_key(at + i, key + i * KEY_BYTES);
			look_value(at + i, value + i * bytes);
			item[i] = (struct hc_mset_item){.key = key + i * KEY_BYTES,
				.key_bytes = KEY_BYTES,
				.value = value + i * bytes,
				.value_bytes = bytes};
		}
		int r = hc_mset(b->look.store, item, n, NULL);
		if (r != HC_OK)
			fail("hc_mset", r);
	}
	free(item);
	free(key);
	free(value);
}

static void limit_fill(struct bench *b)
{
	uint8_t key[KEY_BYTES], *value = look_take(b->look.value_bytes);

	b->look.limit = limit_new(b->look.keys, KEY_BYTES, b->look.value_bytes, b->page_kb);
	if (!b->look.limit && b->page_kb > 4) {
		fprintf(stderr,
			"bench_read: the limit gets no pages of %u KiB (%s), although the pool has "
			"them: reserve twice as many, or give --no-huge\n",
			b->page_kb, strerror(errno));
		exit(1);
	}
	if (!b->look.limit)
		fail("the limit's table", HC_E_NO_MEMORY);
	for (uint64_t i = 0; i < b->look.keys; i++) {
		look_key(i, key);
		look_value(i, value);
		if (!limit_put(b->look.limit, key, KEY_BYTES, value, b->look.value_bytes)) {
			fprintf(stderr, "bench_read: the limit's table is full\n");
			exit(1);
		}
	}
	free(value);
}

/* Bytes of a pool that holds all without evicting: slabs, the index and its growth, a margin. */
static uint64_t pool_bytes(const struct look *o)
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
		uint64_t ns = look_run(&b->look, (enum kind)word[0], word[1]);
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
	uint64_t ours = look_run(&b->look, kind, round);
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
			(void)look_run(&b->look, (enum kind)k, 0);
	for (unsigned n = 0; n < b->look.rounds; n++) {
		uint64_t ns[N_KINDS] = {0};
		for (int k = 0; k < N_KINDS; k++) {
			if (b->opt.only >= 0 && b->opt.only != k)
				continue;
			ns[k] = look_run(&b->look, (enum kind)k, n);
			r->kind[k].ns[n] = per_op(b, ns[k]);
		}
		if (!r->scaled)
			continue;
		/* Alone once more: what was just looked up is nearer than it was the first time. */
		r->limit_scale.ns[n] = run_both(b, LIMIT_GET, n, look_run(&b->look, LIMIT_GET, n));
		r->hc_scale.ns[n] = run_both(b, HC_GET, n, look_run(&b->look, HC_GET, n));
	}
}

/* ------------------------------------------------------------ what is printed */

/* X(word in JSON, what, value, target as text, met) */
struct verdict {
	const char *word, *what, *target;
	double value;
	bool met;
};

static unsigned verdicts(const struct bench *b, const struct results *r, struct verdict v[6])
{
	const struct series *k = r->kind;
	unsigned n = b->look.rounds, at = 0;
	double get = ratio(&k[HC_GET], &k[LIMIT_GET], n);
	double view = ratio(&k[HC_VIEW], &k[LIMIT_VIEW], n);
	double mget = ratio(&k[HC_MGET], &k[HC_GET], n);
	double get_next = ratio(&k[HC_GET_NEXT], &k[LIMIT_GET_NEXT], n);
	double view_next = ratio(&k[HC_VIEW_NEXT], &k[LIMIT_VIEW_NEXT], n);

	v[at++] = (struct verdict){
		"get_by_limit", "hc_get / limit get", "at most 1.25", get, get <= 1.25};
	v[at++] = (struct verdict){
		"view_by_limit", "hc_view / limit view", "at most 1.15", view, view <= 1.15};
	v[at++] = (struct verdict){"get_next_by_limit", "the same, each after the other",
		"at most 1.25", get_next, get_next <= 1.25};
	v[at++] = (struct verdict){"view_next_by_limit", "view, each after the other",
		"at most 1.15", view_next, view_next <= 1.15};
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
	struct verdict v[6];
	unsigned n = verdicts(b, r, v);

	host_cpu_name(cpu);
	host_kernel(kernel);
	printf("%llu keys of %d bytes, values of %zu bytes, uniform; %u rounds of %llu look-ups\n",
		(unsigned long long)b->look.keys, KEY_BYTES, b->look.value_bytes, b->look.rounds,
		(unsigned long long)b->look.draws);
	printf("%s, %u CPUs; Linux %s; gcc-compatible %s\n", cpu, host_cpus(), kernel, __VERSION__);
	printf("pool: %s, pages of %u KiB%s; %s\n\n", b->backing, b->page_kb,
		b->thp ? " mapped by transparent huge ones" : "",
		b->opt.full_fence ? "full fences" : "compiler barriers");
	printf("%-34s %8s %10s\n", "", "ns", "fastest");
	for (int k = 0; k < N_KINDS; k++) {
		double best = r->kind[k].ns[0];
		for (unsigned i = 1; i < b->look.rounds; i++)
			best = r->kind[k].ns[i] < best ? r->kind[k].ns[i] : best;
		printf("%-34s %8.1f %10.1f\n", look_names[k], median(&r->kind[k], b->look.rounds),
			best);
	}
	printf("\n%-32s %10s   target\n", "", "ratio");
	for (unsigned i = 0; i < n; i++)
		printf("%-32s %10.2f   %s%s\n", v[i].what, v[i].value, v[i].target,
			v[i].met ? "" : ": missed");
	if (r->scaled)
		printf("%-32s %10.2f   (what this machine allows)\n",
			"two processes / one, limit get", median(&r->limit_scale, b->look.rounds));
}

static void print_json(const struct bench *b, const struct results *r)
{
	char cpu[HOST_TEXT_BYTES], kernel[HOST_TEXT_BYTES];
	struct verdict v[6];
	unsigned n = verdicts(b, r, v);

	host_cpu_name(cpu);
	host_kernel(kernel);
	printf("{\"benchmark\":\"read\",\"cpu\":\"%s\",\"cpus\":%u,\"kernel\":\"%s\",", cpu,
		host_cpus(), kernel);
	printf("\"compiler\":\"%s\",\"backing\":\"%s\",\"page_kb\":%u,\"thp\":%s,", __VERSION__,
		b->backing, b->page_kb, b->thp ? "true" : "false");
	printf("\"keys\":%llu,\"key_bytes\":%d,\"value_bytes\":%zu,\"rounds\":%u,\"draws\":%llu,",
		(unsigned long long)b->look.keys, KEY_BYTES, b->look.value_bytes, b->look.rounds,
		(unsigned long long)b->look.draws);
	printf("\"ns\":{");
	for (int k = 0; k < N_KINDS; k++)
		printf("%s\"%s\":%.2f", k ? "," : "", look_words[k],
			median(&r->kind[k], b->look.rounds));
	printf("},\"ratio\":{");
	for (unsigned i = 0; i < n; i++)
		printf("%s\"%s\":%.3f", i ? "," : "", v[i].word, v[i].value);
	if (r->scaled)
		printf(",\"two_by_one_limit\":%.3f", median(&r->limit_scale, b->look.rounds));
	printf("}}\n");
}

/* ------------------------------------------------------------ options */

static const char usage[] =
	"bench_read - what a read costs, beside a private table of the same shape\n"
	"\n"
	"  --keys N          entries; default 1000000\n"
	"  --value-bytes N   of each, 8 or more; default 256\n"
	"  --draws N         look-ups of one round; default 100000\n"
	"  --rounds N        1..201; default 31\n"
	"  --small           10000 entries, 20000 look-ups, 3 rounds: does it work?\n"
	"  --bin DIR         folder of hypercached; default $HC_BINDIR, else where this program's "
	"is\n"
	"  --socket PATH     a daemon that runs already; its pool must be large enough\n"
	"  --no-huge         base pages\n"
	"  --full-fence      readers use full fences instead of membarrier\n"
	"  --only KIND       limit_view, hc_view, limit_get, hc_get, hc_mget16, or one of the "
	"first\n"
	"                    four with _next behind it: this one alone, for profilers\n"
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

static int kind_of(const char *word)
{
	for (int k = 0; k < N_KINDS; k++)
		if (strcmp(word, look_words[k]) == 0)
			return k;
	fputs(usage, stderr);
	exit(2);
}

static void option_take(struct options *o, struct look *l, int opt)
{
	if (opt == 's') {
		l->keys = SMALL_KEYS;
		l->draws = SMALL_DRAWS;
		l->rounds = 3;
	} else if (opt == 'k') {
		l->keys = host_number(optarg, 1, 1u << 31);
	} else if (opt == 'v') {
		l->value_bytes = host_number(optarg, 8, 1 << 26);
	} else if (opt == 'd') {
		l->draws = host_number(optarg, 1, 1 << 24);
	} else if (opt == 'r') {
		l->rounds = (unsigned)host_number(optarg, 1, ROUNDS_MAX);
	} else if (opt == 'b') {
		o->bindir = optarg;
	} else if (opt == 'c') {
		o->socket = optarg;
	} else if (opt == 'n') {
		o->huge = false;
	} else if (opt == 'f') {
		o->full_fence = true;
	} else if (opt == 'o') {
		o->only = kind_of(optarg);
	} else if (opt == 'j') {
		o->json = true;
	} else {
		exit(opt == 'h' ? (fputs(usage, stdout), 0) : (fputs(usage, stderr), 2));
	}
}

static void options_read(struct options *o, struct look *l, int argc, char **argv)
{
	int opt;

	*l = (struct look){.keys = 1000000, .draws = 100000, .value_bytes = 256, .rounds = 31};
	*o = (struct options){.bindir = getenv("HC_BINDIR"), .only = -1, .huge = true};
	while ((opt = getopt_long(argc, argv, "", option_table, NULL)) != -1)
		option_take(o, l, opt);
	if (optind < argc)
		exit((fputs(usage, stderr), 2));
	if (!o->bindir)
		o->bindir = ".";
}

int main(int argc, char **argv)
{
	static struct bench b;
	static struct results r;

	options_read(&b.opt, &b.look, argc, argv);
	(void)host_cpus(); /* as they are, before the daemon or we are pinned */
	struct host_config config = {.pool_bytes = pool_bytes(&b.look), .huge = b.opt.huge};
	if (!b.opt.socket && host_daemon_start(&b.daemon, b.opt.bindir, &config) != 0)
		return 1;
	(void)host_pin(0);
	look_init(&b.look);
	session_open(&b);
	cache_fill(&b);
	hc_close(b.hc);
	session_open(&b); /* now it finds the pages that the pool has */
	limit_fill(&b);
	r.scaled = b.opt.only < 0 && child_start(&b);
	measure(&b, &r);
	child_end(&b);
	if (b.opt.only >= 0)
		printf("%s: %.1f ns\n", look_names[b.opt.only],
			median(&r.kind[b.opt.only], b.look.rounds));
	else if (b.opt.json)
		print_json(&b, &r);
	else
		print_text(&b, &r);
	hc_close(b.hc);
	limit_free(b.look.limit);
	look_fini(&b.look);
	return (!b.opt.socket && host_daemon_stop(&b.daemon) != 0) || fflush(stdout) != 0;
}
