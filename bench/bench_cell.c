/* bench_cell.c - measures one cell: so many entries of such a size, held by the cache and by all the others,
 * used in each of the wanted ways.  bench/run drives it, and says what comes out; this prints JSON.
 *
 * With --mark it is to be looked into by another program (bench/inside): each call stands between two marks,
 * which are a system call that does nothing and a store at MARK_ADDRESS.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "bench_host.h"
#include "bench_limit.h"
#include "bench_run.h"

static const struct subject *const subjects[] = {
	&subject_hc, /* first: the tables lie in pages of the size that its pool has got */
	&subject_limit,
#ifdef HAVE_ABSL
	&subject_absl,
	&subject_absl16,
#endif
#ifdef HAVE_LMDB
	&subject_lmdb,
#endif
#ifdef HAVE_SQLITE
	&subject_sqlite,
#endif
#ifdef HAVE_ROCKSDB
	&subject_rocksdb,
#endif
#ifdef HAVE_HIREDIS
	&subject_redis,
#endif
#ifdef HAVE_MEMCACHED
	&subject_memcached,
#endif
};
enum { N_SUBJECTS = sizeof subjects / sizeof *subjects };

struct options {
	struct setup setup;
	struct plan plan;
	struct run run[RUNS_MAX];
	unsigned n_runs;
	const char *wanted; /* words with commas between */
	const char *mark;
	unsigned marks;
};

_Noreturn void subject_fail(const char *who, const char *what)
{
	fprintf(stderr, "bench: %s: %s\n", who, what);
	exit(1);
}

bool subject_peer(const char *variable, char ret_socket[SUBJECT_TEXT_BYTES], int *ret_pid)
{
	const char *text = getenv(variable);

	return text && sscanf(text, "%255s %d", ret_socket, ret_pid) == 2;
}

/* ------------------------------------------------------------ options */

static const char usage[] =
	"bench_cell - one cell of the benchmark, as JSON; bench/run runs the cells of a table\n"
	"\n"
	"  --keys N          entries; default 1000000\n"
	"  --value-bytes N   of each, at least 8; default 256\n"
	"  --run RUN         uniform|zipf:1p|2p|2t:PERCENT OF READS:same|other; may be repeated;\n"
	"                    2p two processes, 2t two threads; same, other: the CPU of servers;\n"
	"                    default uniform:1p:100:other\n"
	"  --subjects LIST   words with commas between; default: all that were found when this was "
	"built\n"
	"  --only KIND       of the reads or writes this one alone, such as hc_get; for profilers\n"
	"  --draws N         look-ups of one round; slower kinds take a share; default 100000\n"
	"  --rounds N        1..101; default 15\n"
	"  --bin DIR         folder of hypercached; default $HC_BINDIR\n"
	"  --socket PATH     a daemon that runs already; its pool must be large enough\n"
	"  --no-huge         base pages\n"
	"  --full-fence      readers use full fences instead of membarrier\n"
	"  --mark KIND       no rounds: --marks N calls of it (default 200), each between two "
	"marks\n"
	"\n"
	"Exit status: 0 measured, 1 could not, or a value was wrong, 2 usage.\n";

static const struct option option_table[] = {
	{"keys", required_argument, NULL, 'k'},
	{"value-bytes", required_argument, NULL, 'v'},
	{"run", required_argument, NULL, 'r'},
	{"subjects", required_argument, NULL, 's'},
	{"only", required_argument, NULL, 'o'},
	{"draws", required_argument, NULL, 'd'},
	{"rounds", required_argument, NULL, 'n'},
	{"bin", required_argument, NULL, 'b'},
	{"socket", required_argument, NULL, 'c'},
	{"no-huge", no_argument, NULL, 'H'},
	{"full-fence", no_argument, NULL, 'f'},
	{"mark", required_argument, NULL, 'm'},
	{"marks", required_argument, NULL, 'M'},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0},
};

static void run_take(struct options *o, const char *text)
{
	if (o->n_runs == RUNS_MAX || !run_parse(&o->run[o->n_runs++], text)) {
		fprintf(stderr, "bench_cell: \"%s\" is no run, or one too many; --help\n", text);
		exit(2);
	}
}

static void option_take(struct options *o, int opt)
{
	if (opt == 'k')
		o->plan.data.keys = host_number(optarg, 1, 1u << 31);
	else if (opt == 'v')
		o->plan.data.value_bytes = host_number(optarg, VALUE_BYTES_MIN, 1 << 26);
	else if (opt == 'r')
		run_take(o, optarg);
	else if (opt == 's')
		o->wanted = optarg;
	else if (opt == 'o')
		o->plan.only = optarg;
	else if (opt == 'd')
		o->plan.draws = host_number(optarg, BATCH_MAX, 1 << 24);
	else if (opt == 'n')
		o->plan.rounds = (unsigned)host_number(optarg, 1, ROUNDS_MAX);
	else if (opt == 'b')
		o->setup.bindir = optarg;
	else if (opt == 'c')
		o->setup.socket = optarg;
	else if (opt == 'H')
		o->setup.huge = false;
	else if (opt == 'f')
		o->setup.full_fence = true;
	else if (opt == 'm')
		o->mark = optarg;
	else if (opt == 'M')
		o->marks = (unsigned)host_number(optarg, 1, 100000);
	else
		exit(opt == 'h' ? (fputs(usage, stdout), 0) : (fputs(usage, stderr), 2));
}

static void options_read(struct options *o, int argc, char **argv)
{
	int opt;

	*o = (struct options){.setup = {.bindir = getenv("HC_BINDIR"), .huge = true},
		.plan = {.draws = 100000, .rounds = 15, .data = {1000000, 256}},
		.marks = 200};
	while ((opt = getopt_long(argc, argv, "", option_table, NULL)) != -1)
		option_take(o, opt);
	if (optind < argc)
		exit((fputs(usage, stderr), 2));
	if (o->n_runs == 0)
		run_take(o, "uniform:1p:100:other");
	if (!o->setup.bindir)
		o->setup.bindir = ".";
	o->setup.data = o->plan.data;
}

static bool is_wanted(const struct options *o, const char *word)
{
	size_t n = strlen(word);

	for (const char *at = o->wanted; at; at = strchr(at, ',')) {
		at += *at == ',';
		if (strncmp(at, word, n) == 0 && (at[n] == 0 || at[n] == ','))
			return true;
	}
	return !o->wanted;
}

/* A word that nobody has is a mistake, or a library that was not found at build time. */
static void wanted_check(const struct options *o)
{
	for (const char *at = o->wanted; at; at = strchr(at, ',')) {
		size_t i = 0, n;
		at += *at == ',';
		n = strcspn(at, ",");
		while (i < N_SUBJECTS &&
			(strlen(subjects[i]->word) != n || strncmp(subjects[i]->word, at, n) != 0))
			i++;
		if (i == N_SUBJECTS)
			fprintf(stderr, "bench: \"%.*s\" is not in this build, and left out\n",
				(int)n, at);
	}
}

/* ------------------------------------------------------------ marks */

#define MARK_ADDRESS 0x10000000000ull

static void mark(uint32_t *word, const char *text)
{
	*(volatile uint32_t *)word += 1;      /* bare: to be seen by who traces this program */
	(void)!write(-1, text, strlen(text)); /* fails; who traces system calls sees it */
}

/* What lies where, for who traced addresses. */
static void maps_print(const struct plan *p)
{
	char line[1024];
	uint64_t begin, end;
	FILE *f = fopen("/proc/self/maps", "re");

	for (unsigned s = 0; s < p->n_subjects; s++) {
		if (p->subject[s] != &subject_limit)
			continue;
		limit_span(p->session[s], &begin, &end);
		printf("%llx-%llx rw-p 0 0 0 limit\n", (unsigned long long)begin,
			(unsigned long long)end);
	}

	while (f && fgets(line, sizeof line, f))
		fputs(line, stdout);
	if (f)
		(void)fclose(f);
}

static const struct kind *kind_find(const struct plan *p, const char *word, void **ret_session)
{
	for (unsigned s = 0; s < p->n_subjects; s++)
		for (size_t i = 0; i < p->subject[s]->n_kinds; i++)
			if (strcmp(p->subject[s]->kinds[i].word, word) == 0) {
				*ret_session = p->session[s];
				return &p->subject[s]->kinds[i];
			}
	fprintf(stderr, "bench_cell: \"%s\" is no kind of the subjects that are there\n", word);
	exit(2);
}

/* Half of the calls come before the first mark. */
static void marks_do(const struct options *o)
{
	void *session;
	const struct kind *k = kind_find(&o->plan, o->mark, &session);
	struct draws draws;
	struct work w;
	int pid[PIDS_MAX] = {0};
	uint32_t *word = mmap((void *)(uintptr_t)MARK_ADDRESS, 4096, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (word == MAP_FAILED)
		subject_fail("marks", "no memory at the address that is agreed");
	work_init(&w, &o->plan.data);
	draws_make(&draws, &o->plan.data, k->batch, 2 * o->marks, false);
	if (subject_hc.pids(pid) == 0)
		pid[0] = 0;
	printf("{\"batch\":%u,\"client\":%d,\"engine\":%d}\n", k->batch, (int)getpid(), pid[0]);
	(void)fflush(stdout);
	for (unsigned i = 0; i < 2 * o->marks; i++) {
		if (i >= o->marks)
			mark(word, "hc-mark-begin");
		uint64_t sum = k->run(session, &w, draws_at(&draws, i), k->batch);
		if (i >= o->marks)
			mark(word, "hc-mark-end");
		if (sum != draws_sum(draws_at(&draws, i), k->batch))
			subject_fail(k->word, "not every key was found as it was set");
	}
	maps_print(&o->plan);
	draws_free(&draws);
	work_fini(&w);
}

/* ------------------------------------------------------------ a cell */

static void subjects_begin(struct options *o, const char *why[N_SUBJECTS])
{
	struct plan *p = &o->plan;

	hc_page_kb = o->setup.huge ? 2048 : 4; /* if the cache itself is not asked for */
	for (size_t i = 0; i < N_SUBJECTS; i++) {
		const struct subject *s = subjects[i];
		why[i] = is_wanted(o, s->word) ? s->begin(&o->setup) : "not asked for";
		if (why[i])
			continue;
		s->fill();
		p->session[p->n_subjects] = s->join(JOIN_MAIN);
		p->subject[p->n_subjects++] = s;
	}
}

static void print_begin(const struct options *o, const char *const why[N_SUBJECTS])
{
	char cpu[HOST_TEXT_BYTES], kernel[HOST_TEXT_BYTES];

	host_cpu_name(cpu);
	host_kernel(kernel);
	printf("{\"machine\":\"%s\",\"cpus\":%u,\"kernel\":\"%s\",\"compiler\":\"%s %s\",", cpu,
		host_cpus(), kernel,
#ifdef __clang__
		"clang",
#else
		"gcc",
#endif
		__VERSION__);
	printf("\"backing\":\"%s\",\"page_kb\":%u,\"thp\":%s,\"full_fence\":%s,", hc_backing,
		hc_page_kb, hc_page_thp ? "true" : "false", o->setup.full_fence ? "true" : "false");
	printf("\"keys\":%llu,\"key_bytes\":%d,\"value_bytes\":%zu,\"rounds\":%u,\"absent\":{",
		(unsigned long long)o->plan.data.keys, KEY_BYTES, o->plan.data.value_bytes,
		o->plan.rounds);
	for (size_t i = 0, n = 0; i < N_SUBJECTS; i++)
		if (why[i] && is_wanted(o, subjects[i]->word))
			printf("%s\"%s\":\"%s\"", n++ ? "," : "", subjects[i]->word, why[i]);
	printf("},\"runs\":[");
}

int main(int argc, char **argv)
{
	static struct options o;
	char folder[HOST_TEXT_BYTES];
	const char *why[N_SUBJECTS];

	options_read(&o, argc, argv);
	wanted_check(&o);
	(void)host_cpus(); /* as they are, before anybody is pinned */
	host_folder_make(folder);
	o.setup.folder = folder;
	subjects_begin(&o, why);
	(void)host_pin(0);
	if (o.mark) {
		marks_do(&o);
	} else {
		print_begin(&o, why);
		for (unsigned i = 0; i < o.n_runs; i++) {
			fputs(i ? ",\n" : "\n", stdout);
			run_do(&o.plan, &o.run[i], stdout);
		}
		puts("]}");
	}
	for (unsigned s = 0; s < o.plan.n_subjects; s++) {
		o.plan.subject[s]->leave(o.plan.session[s]);
		o.plan.subject[s]->end();
	}
	host_folder_remove(folder);
	return fflush(stdout) != 0;
}
