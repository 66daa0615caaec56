/* bench_fit.c - how many bytes of keys and values fit into the same memory, for one list of sizes.
 *
 * Each subject is filled with several times what fits, so that it evicts all the time; then some looks, each
 * after a sixteenth more, ask for all keys.  Prints JSON; bench/fit runs it for each mix of sizes.
 */
#define _GNU_SOURCE
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include "bench_fit.h"
#include "bench_host.h"
#include "bench_subject.h"

enum { SIZES_MAX = 1 << 20, VALUE_BYTES_MOST = 1 << 20, LOOKS = 3, LOOK_PART = 16 };

static const struct fit_subject *const subjects[] = {
	&fit_hc,
	&fit_hc_default,
#ifdef HAVE_HIREDIS
	&fit_redis,
#endif
#ifdef HAVE_MEMCACHED
	&fit_memcached,
#endif
};

static const char usage[] =
	"bench_fit - what fits into the same memory, as JSON; bench/fit runs it for each mix\n"
	"\n"
	"  --sizes FILE   bytes of values, one number a line, 1..1048576 (larger ones are left "
	"out)\n"
	"  --mib N        the memory; default 256; tools/bench-peers --memory N gives the peers as "
	"much\n"
	"  --times N      writes N times the memory before it looks; default 3\n"
	"  --bin DIR      folder of hypercached and hypercache; default $HC_BINDIR\n"
	"\n"
	"Exit status: 0 measured, 1 could not, 2 usage.\n";

void subject_fail(const char *who, const char *what)
{
	fprintf(stderr, "bench_fit: %s: %s\n", who, what);
	exit(1);
}

bool subject_peer(const char *variable, char ret_socket[SUBJECT_TEXT_BYTES], int *ret_pid)
{
	const char *text = getenv(variable);

	return text && sscanf(text, "%255s %d", ret_socket, ret_pid) == 2;
}

uint32_t fit_bytes(const struct fit *f, uint64_t i)
{
	uint64_t x = i + 0x9e3779b97f4a7c15ull; /* splitmix64 (Steele, Lea, Flood, 2014) */

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return f->size[(x ^ x >> 31) % f->n_sizes];
}

uint64_t fit_status_bytes(int pid, const char *name)
{
	char path[64], line[256];
	uint64_t kib = 0;

	(void)snprintf(path, sizeof path, "/proc/%d/status", pid);
	FILE *f = fopen(path, "re");
	while (f && !kib && fgets(line, sizeof line, f))
		if (strncmp(line, name, strlen(name)) == 0)
			kib = strtoull(line + strlen(name), NULL, 10);
	if (f)
		(void)fclose(f);
	return kib * 1024;
}

/* ------------------------------------------------------------ the list */

static void sizes_read(struct fit *f, const char *path)
{
	uint32_t *size = host_take(SIZES_MAX * sizeof *size), most = 0;
	unsigned long long n;
	FILE *in = fopen(path, "re");

	while (in && fscanf(in, "%llu", &n) == 1) {
		if (n > VALUE_BYTES_MOST || f->n_sizes == SIZES_MAX)
			continue;
		size[f->n_sizes] = n ? (uint32_t)n : 1;
		most = size[f->n_sizes] > most ? size[f->n_sizes] : most;
		f->n_sizes++;
	}
	if (!in || !feof(in) || f->n_sizes == 0) {
		fprintf(stderr, "bench_fit: %s: cannot be read, or is no list of numbers\n", path);
		exit(2);
	}
	(void)fclose(in);
	uint8_t *value = host_take(most);
	for (uint32_t i = 0; i < most; i++)
		value[i] = (uint8_t)(i * 31 >> 3);
	f->size = size;
	f->value = value;
}

/* ------------------------------------------------------------ a subject */

/* Sets entries from *next on, about so many bytes. */
static void write_some(
	const struct fit *f, const struct fit_subject *s, uint64_t *next, uint64_t bytes)
{
	for (uint64_t written = 0; written < bytes;) {
		uint64_t n = 0, batch = 0;
		while (n < BATCH_MAX) {
			uint64_t more = KEY_BYTES + fit_bytes(f, *next + n);
			if (n && batch + more > FIT_BATCH_BYTES)
				break;
			batch += more;
			n++;
		}
		s->put(*next, n);
		*next += n;
		written += batch;
	}
}

static void look(const struct fit_subject *s, uint64_t next, struct fit_held *held)
{
	for (uint64_t at = 0; at < next; at += BATCH_MAX)
		s->look(at, next - at < BATCH_MAX ? next - at : BATCH_MAX, held);
}

static void measure(const struct fit *f, const struct fit_subject *s, uint64_t times)
{
	struct fit_held held[LOOKS] = {{0}};
	uint64_t next = 0;

	write_some(f, s, &next, times * f->limit_bytes);
	for (unsigned k = 0; k < LOOKS; k++) {
		write_some(f, s, &next, f->limit_bytes / LOOK_PART);
		look(s, next, &held[k]);
	}
	printf("\"%s\":{\"bytes\":[", s->word);
	for (unsigned k = 0; k < LOOKS; k++)
		printf("%s%llu", k ? "," : "", (unsigned long long)held[k].bytes);
	printf("],\"entries\":%llu,\"set\":%llu,\"memory\":%llu,\"says\":",
		(unsigned long long)held[LOOKS - 1].entries, (unsigned long long)next,
		(unsigned long long)s->memory());
	s->say();
	printf("}");
	(void)fflush(stdout);
	s->end();
}

int main(int argc, char **argv)
{
	static const struct option table[] = {{"sizes", required_argument, NULL, 's'},
		{"mib", required_argument, NULL, 'm'}, {"times", required_argument, NULL, 't'},
		{"bin", required_argument, NULL, 'b'}, {"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0}};
	struct fit f = {.limit_bytes = 256ull << 20, .bindir = getenv("HC_BINDIR")};
	const char *path = NULL;
	uint64_t times = 3;
	int opt, printed = 0;

	while ((opt = getopt_long(argc, argv, "", table, NULL)) != -1) {
		if (opt == 's')
			path = optarg;
		else if (opt == 'm')
			f.limit_bytes = host_number(optarg, 4, 1 << 20) << 20;
		else if (opt == 't')
			times = host_number(optarg, 1, 1000);
		else if (opt == 'b')
			f.bindir = optarg;
		else
			return opt == 'h' ? (fputs(usage, stdout), 0) : (fputs(usage, stderr), 2);
	}
	if (optind < argc || !path || !f.bindir)
		return fputs(usage, stderr), 2;
	sizes_read(&f, path);
	printf("{\"limit\":%llu,\"sizes\":%u,\"subjects\":{", (unsigned long long)f.limit_bytes,
		f.n_sizes);
	for (size_t i = 0; i < sizeof subjects / sizeof *subjects; i++) {
		const char *why = subjects[i]->begin(&f);
		if (why) {
			fprintf(stderr, "bench_fit: left out: %s: %s\n", subjects[i]->word, why);
			continue;
		}
		printf("%s", printed++ ? "," : "");
		measure(&f, subjects[i], times);
	}
	printf("}}\n");
	return 0;
}
