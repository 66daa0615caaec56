/* policy_example.c - an eviction policy as a shared object: the entry that came last goes first.
 *
 * Read with hypercache_policy.h.  It is loaded by proc_module, which also has it propose nonsense (parameter
 * `nonsense`), and which builds it with other version numbers (-DMAJOR=2) and without its symbol.
 */
#include <stdlib.h>
#ifdef FORKS
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>
#endif
#include "../daemon/hypercache_policy.h"

#ifndef MAJOR
#define MAJOR HYPERCACHE_POLICY_MAJOR
#endif
#ifndef NAME
#define NAME "policy_example"
#endif
#ifndef SYMBOL
#define SYMBOL hypercache_policy
#endif

enum { NONSENSE, N_PARAMS };

static const struct hypercache_policy_param params[N_PARAMS] = {
	[NONSENSE] = {.name = "nonsense",
		.type = HYPERCACHE_POLICY_NUMBER,
		.max = 3,
		.unit = "kind",
		.meaning = "Proposes what is no entry: 1 none, 2 far away, 3 one that has gone."},
};

/* Who came when: a list by entries' numbers, the newest first. */
struct example {
	struct link {
		uint32_t newer, older;
	} * link; /* [0]: the two ends */
	uint32_t n;
	uint32_t gone;
	uint64_t nonsense;
};

static void *create(uint64_t store_bytes, const uint64_t *values)
{
	struct example *x = calloc(1, sizeof *x);

	(void)store_bytes;
	if (!x)
		return NULL;
	x->n = 1024;
	x->link = calloc(x->n, sizeof *x->link);
	x->nonsense = values[NONSENSE];
	if (!x->link) {
		free(x);
		return NULL;
	}
	return x;
}

static void destroy(void *state)
{
	struct example *x = state;

	free(x->link);
	free(x);
}

static int insert(void *state, uint32_t entry, uint64_t hash, uint64_t bytes, uint64_t now_ms)
{
	struct example *x = state;

	(void)hash, (void)bytes, (void)now_ms;
	while (entry >= x->n) {
		struct link *more = realloc(x->link, 2 * (size_t)x->n * sizeof *more);
		if (!more)
			return -1;
		x->link = more;
		x->n *= 2;
	}
	x->link[entry] = (struct link){.newer = 0, .older = x->link[0].older};
	x->link[x->link[0].older].newer = entry;
	x->link[0].older = entry;
	return 0;
}

static void hit(void *state, uint32_t entry, uint64_t now_ms)
{
	(void)state, (void)entry, (void)now_ms;
}

static void remove_entry(void *state, uint32_t entry, int evicted)
{
	struct example *x = state;

	(void)evicted;
	x->link[x->link[entry].newer].older = x->link[entry].older;
	x->link[x->link[entry].older].newer = x->link[entry].newer;
	x->gone = entry;
}

static uint32_t victim(void *state, uint64_t now_ms)
{
	struct example *x = state;

	(void)now_ms;
	switch (x->nonsense) {
	case 1:
		return 0;
	case 2:
		return UINT32_MAX - 7;
	case 3:
		return x->gone;
	default:
		return x->link[0].older;
	}
}

#ifdef FORKS
/* What an object may do as it is loaded: it looks for descriptors that are none of its business, and leaves a process
 * behind that holds all it was given.  POLICY_FORKS names a file for that process's number. */
__attribute__((constructor)) static void loaded(void)
{
	char name[16] = "";
	const char *path = getenv("POLICY_FORKS");
	struct stat st;

	if (!path || prctl(PR_GET_NAME, name) != 0 || strcmp(name, "hypercached-eng") == 0)
		return;
	for (int fd = 3; fd < 256; fd++)
		if (fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode))
			_exit(1);
	FILE *f = fopen(path, "we");
	pid_t pid = f ? fork() : -1;
	if (pid == 0) {
		(void)alarm(120);
		for (;;)
			(void)pause();
	}
	if (pid < 0 || fprintf(f, "%d\n", (int)pid) < 0 || fclose(f) != 0)
		_exit(1);
}
#endif

extern const struct hypercache_policy SYMBOL;
const struct hypercache_policy SYMBOL = {
	.abi_major = MAJOR,
	.abi_minor = HYPERCACHE_POLICY_MINOR,
	.bytes = sizeof(struct hypercache_policy),
	.name = NAME,
	.meaning = "the entry that came last goes first (an example)",
	.params = params,
	.n_params = N_PARAMS,
	.param_bytes = sizeof params[0],
	.create = create,
	.destroy = destroy,
	.insert = insert,
	.hit = hit,
	.remove = remove_entry,
	.victim = victim,
};
