/* dpkg_reader.c - several processes look up this machine's package records through the cache.
 *
 *   parent ── makes the catalogue of entries, forks, shows the counts, sums up
 *     ├── worker 1 ─┐  look up entries by popularity: a hit is read in place; a miss is
 *     ├── worker 2  ├─ fetched from its file (open, read, search) and put into the cache
 *     └── worker n ─┘  for all
 *
 * Each process has a session of its own: a handle does not survive a fork.  Files:
 * dpkg_source.h (what is cached), dpkg_worker.h (a look-up), dpkg_print.h (the table).
 *
 * Exit status: 0 all well; 1 something failed, or a byte was wrong; 2 wrong usage.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <hypercache.h>
#include "dpkg_print.h"
#include "dpkg_source.h"
#include "dpkg_worker.h"

static const char default_status[] = "/var/lib/dpkg/status", default_files[] = "/usr/share/doc";

#define NS_PER_MS 1000000ull
#define NS_PER_S 1000000000ull
#define LOOK_NS (500 * NS_PER_MS)
#define FILLING_NS (100 * NS_PER_MS) /* how long the cache fills, about: looked at more often */
#define FILLING_LOOK_NS (20 * NS_PER_MS)
#define WORKER_END_NS (15 * NS_PER_S) /* a worker may wait for an answer when it is to end */

static const double zipf_exponent = 0.99;

struct options {
	const char *status, *files, *socket, *store;
	uint32_t processes, seconds;
	uint64_t seed;
};

struct run {
	struct options opt;
	struct source source;
	struct worker_alias *popularity;
	struct worker_shared *shared;
	pid_t pid[PRINT_WORKERS_MAX]; /* 0: not started, or ended */
	int failed;                   /* workers that ended badly */
	int interrupted;
	struct hc *hc; /* the parent's own, for looking what is cached */
	struct hc_store *store;
	struct print print;
	uint64_t start_ns;
};

static const char usage[] =
	"dpkg_reader - processes that read this machine's package records through the cache\n"
	"\n"
	"  --processes N   processes that look up, 1..32; default 3\n"
	"  --seconds N     how long, 1..86400; default 6\n"
	"  --source FILE   package records as dpkg writes them; default /var/lib/dpkg/status\n"
	"  --files DIR     the files below it are entries too, at most 2000; default\n"
	"                  /usr/share/doc, if it is there; \"none\": no files\n"
	"  --socket PATH   of the daemon; default: where the library looks (hypercache.h)\n"
	"  --store NAME    default \"default\"\n"
	"  --seed N        what the look-ups begin from; default 1\n"
	"\n"
	"Exit status: 0 all well; 1 something failed, or a byte was wrong; 2 wrong usage.\n";

static uint64_t now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* ------------------------------------------------------------ options */

static int number_of(const char *name, const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
	char *end;

	errno = 0;
	uint64_t n = strtoull(text, &end, 10);
	if (errno || end == text || *end || *text == '-' || n < min || n > max) {
		fprintf(stderr, "dpkg_reader: --%s takes a number from %llu to %llu, not \"%s\"\n",
			name, (unsigned long long)min, (unsigned long long)max, text);
		return -1;
	}
	*ret = n;
	return 0;
}

static const struct option option_table[] = {
	{"processes", required_argument, NULL, 'p'},
	{"seconds", required_argument, NULL, 't'},
	{"source", required_argument, NULL, 's'},
	{"files", required_argument, NULL, 'f'},
	{"socket", required_argument, NULL, 'c'},
	{"store", required_argument, NULL, 'o'},
	{"seed", required_argument, NULL, 'r'},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0},
};

static int option_take(struct options *o, int opt)
{
	uint64_t n = 0;
	int r = 0;

	switch (opt) {
	case 'p':
		r = number_of("processes", optarg, 1, PRINT_WORKERS_MAX, &n);
		o->processes = (uint32_t)n;
		break;
	case 't':
		r = number_of("seconds", optarg, 1, 86400, &n);
		o->seconds = (uint32_t)n;
		break;
	case 'r':
		r = number_of("seed", optarg, 0, UINT64_MAX, &o->seed);
		break;
	case 's':
		o->status = optarg;
		break;
	case 'f':
		o->files = optarg;
		break;
	case 'c':
		o->socket = optarg;
		break;
	case 'o':
		o->store = optarg;
		break;
	default:
		r = -1;
	}
	return r;
}

/* 0; 1: help was asked for; -1: wrong, and said so. */
static int options_read(struct options *o, int argc, char **argv)
{
	int opt;

	*o = (struct options){.status = default_status,
		.store = "default",
		.processes = 3,
		.seconds = 6,
		.seed = 1};
	while ((opt = getopt_long(argc, argv, "", option_table, NULL)) != -1) {
		if (opt == 'h')
			return fputs(usage, stdout), 1;
		if (option_take(o, opt) != 0)
			return -1;
	}
	if (optind < argc)
		return fprintf(stderr, "dpkg_reader: \"%s\" is no option: see --help\n",
			       argv[optind]),
		       -1;
	if (!o->files)
		o->files = access(default_files, R_OK | X_OK) == 0 ? default_files : "none";
	return 0;
}

/* ------------------------------------------------------------ workers */

static int shared_make(struct run *run)
{
	size_t bytes = sizeof *run->shared + run->opt.processes * sizeof run->shared->worker[0];

	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return fprintf(stderr, "dpkg_reader: no memory for the counts\n"), -1;
	run->shared = p;
	return 0;
}

static _Noreturn void worker_main(struct run *run, uint32_t i, const sigset_t *old, pid_t parent)
{
	struct worker_job job = {.source = &run->source,
		.socket = run->opt.socket,
		.store = run->opt.store,
		.popularity = run->popularity,
		.shared = run->shared,
		.number = i,
		.seed = run->opt.seed * 1000003 + i};

	/* The parent ends it, by `stop`; a terminal's Ctrl-C goes to all, and is the parent's. */
	(void)signal(SIGINT, SIG_IGN);
	(void)sigprocmask(SIG_SETMASK, old, NULL);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	_exit(getppid() == parent ? worker_run(&job) : 1);
}

static int workers_start(struct run *run, const sigset_t *old)
{
	pid_t self = getpid();

	(void)fflush(NULL);
	for (uint32_t i = 0; i < run->opt.processes; i++) {
		pid_t pid = fork();
		if (pid == 0)
			worker_main(run, i, old, self);
		if (pid < 0)
			return fprintf(stderr, "dpkg_reader: fork: %s\n", strerror(errno)), -1;
		run->pid[i] = pid;
	}
	return 0;
}

static void worker_ended(struct run *run, uint32_t i, int status)
{
	uint64_t error = worker_get(&run->shared->worker[i].error);

	run->pid[i] = 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return;
	run->failed++;
	if (error)
		fprintf(stderr, "dpkg_reader: process %u: %s\n", i + 1, hc_strerror(-(int)error));
	else if (WIFSIGNALED(status))
		fprintf(stderr, "dpkg_reader: process %u: %s\n", i + 1,
			strsignal(WTERMSIG(status)));
	else
		fprintf(stderr, "dpkg_reader: process %u failed\n", i + 1);
}

/* Takes those that have ended.  Returns how many still run. */
static uint32_t workers_reap(struct run *run)
{
	uint32_t n = 0;
	int status;

	for (uint32_t i = 0; i < run->opt.processes; i++) {
		if (run->pid[i] && waitpid(run->pid[i], &status, WNOHANG) == run->pid[i])
			worker_ended(run, i, status);
		n += run->pid[i] != 0;
	}
	return n;
}

/* Waits for a signal until a moment; what Ctrl-C or the end of a child asks for is noted. */
static void wait_until(struct run *run, int signals, uint64_t until_ns)
{
	struct pollfd p = {.fd = signals, .events = POLLIN};
	struct signalfd_siginfo info;
	uint64_t now = now_ns();

	if (poll(&p, 1, until_ns > now ? (int)((until_ns - now + NS_PER_MS - 1) / NS_PER_MS) : 0) <=
		0)
		return;
	if (read(signals, &info, sizeof info) == (ssize_t)sizeof info && info.ssi_signo != SIGCHLD)
		run->interrupted = 1;
}

static void workers_end(struct run *run, int signals)
{
	uint64_t deadline = now_ns() + WORKER_END_NS;

	worker_set(&run->shared->stop, 1);
	while (workers_reap(run) > 0 && now_ns() < deadline)
		wait_until(run, signals, deadline);
	for (uint32_t i = 0; i < run->opt.processes; i++) {
		int status;
		if (!run->pid[i])
			continue;
		(void)kill(run->pid[i], SIGKILL);
		if (waitpid(run->pid[i], &status, 0) == run->pid[i])
			worker_ended(run, i, status);
	}
}

/* ------------------------------------------------------------ the parent */

static int session_open(struct run *run)
{
	struct hc_open_opts opts = HC_OPTS(hc_open_opts);

	opts.socket = run->opt.socket;
	int r = hc_open(&run->hc, &opts);
	if (r == HC_OK)
		r = hc_store(run->hc, run->opt.store, &run->store);
	if (r == HC_OK)
		return 0;
	fprintf(stderr, "dpkg_reader: %s%s%s\n", run->opt.socket ? run->opt.socket : "",
		run->opt.socket ? ": " : "", hc_strerror(r));
	hc_close(run->hc);
	run->hc = NULL;
	return -1;
}

/* Asks for every entry: what the cache holds at this moment. */
static struct print_cached cached_now(struct run *run)
{
	struct hc_info info = HC_OPTS(hc_info);
	struct print_cached c = {0};
	struct hc_view v;

	if (hc_info(run->hc, &info) == HC_OK)
		(void)snprintf(c.backing, sizeof c.backing, "%s", info.backing);
	for (size_t i = 0; i < run->source.n; i++) {
		const struct source_entry *e = &run->source.entry[i];
		if (hc_view(run->store, e->key, e->key_bytes, &v) != HC_OK)
			continue;
		c.n++;
		c.bytes += e->key_bytes + v.value_bytes;
		(void)hc_view_release(&v);
	}
	return c;
}

static void watch(struct run *run, int signals)
{
	uint64_t end = run->start_ns + run->opt.seconds * NS_PER_S, look = run->start_ns;

	while (!run->interrupted && workers_reap(run) == run->opt.processes && look < end) {
		look += look < run->start_ns + FILLING_NS ? FILLING_LOOK_NS : LOOK_NS;
		look = look < end ? look : end;
		while (!run->interrupted && run->failed == 0 && now_ns() < look) {
			wait_until(run, signals, look);
			(void)workers_reap(run);
		}
		struct print_cached cached = cached_now(run);
		print_look(&run->print, now_ns() - run->start_ns, &cached);
	}
}

/* Blocks the signals that end us, for signalfd.  The descriptor; -1: failed and said so. */
static int signals_open(sigset_t *ret_old)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGCHLD);
	(void)sigprocmask(SIG_BLOCK, &set, ret_old);
	int fd = signalfd(-1, &set, SFD_CLOEXEC);
	if (fd < 0)
		fprintf(stderr, "dpkg_reader: signalfd: %s\n", strerror(errno));
	return fd;
}

static void introduce(const struct run *run)
{
	const struct source *s = &run->source;

	printf("%zu package records of %s", s->n_records, run->opt.status);
	if (s->n_files)
		printf("\nand %zu files of %s", s->n_files, run->opt.files);
	printf(", %.1f MiB of values.\n", (double)s->bytes / (1 << 20));
	printf("%u processes look them up, popularity Zipf %.2f, for %u s.\n", run->opt.processes,
		zipf_exponent, run->opt.seconds);
}

/* Exit status. */
static int run_all(struct run *run)
{
	sigset_t old;
	int signals = signals_open(&old);

	if (signals < 0 || shared_make(run) != 0)
		return 1;
	introduce(run);
	int started = workers_start(run, &old);
	if (started == 0)
		started = session_open(run);
	run->start_ns = now_ns();
	run->print = (struct print){.source = &run->source,
		.shared = run->shared,
		.n = run->opt.processes,
		.terminal = isatty(STDOUT_FILENO)};
	if (started == 0)
		watch(run, signals);
	workers_end(run, signals);
	uint64_t t_ns = now_ns() - run->start_ns;
	(void)close(signals);
	if (started != 0)
		return 1;
	struct print_cached cached = cached_now(run);
	uint64_t wrong = print_summary(&run->print, t_ns, &cached);
	hc_close(run->hc);
	return wrong == 0 && run->failed == 0 && cached.n > 0 && fflush(stdout) == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
	static struct run run;
	char why[SOURCE_WHY_BYTES];
	int r = options_read(&run.opt, argc, argv);

	if (r != 0)
		return r > 0 ? 0 : 2;
	const char *files = strcmp(run.opt.files, "none") == 0 ? NULL : run.opt.files;
	if (source_load(&run.source, run.opt.status, files, why) != 0)
		return fprintf(stderr, "dpkg_reader: %s\n", why), 1;
	/* A daemon that is not there is said once, not by each process. */
	r = session_open(&run);
	hc_close(run.hc);
	if (r == 0)
		run.popularity = worker_alias_new(
			(uint32_t)run.source.n, zipf_exponent, run.opt.seed);
	if (r == 0 && !run.popularity)
		r = (fprintf(stderr, "dpkg_reader: no memory\n"), -1);
	r = r == 0 ? run_all(&run) : 1;
	free(run.popularity);
	source_free(&run.source);
	return r;
}
