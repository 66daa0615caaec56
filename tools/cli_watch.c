/* cli_watch.c - stat -w: what happens in each store, a second at a time.
 *
 * Each second asks for the sessions anew (some have come) and adds up; a line is the difference of two such
 * sums, divided by the time between them.  A store that came, or another daemon, has its first line a
 * second later.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include "../daemon/sup_host.h"
#include "atomic.h"
#include "cli.h"
#include "health.h"
#include "hypercache_admin.h"
#include "step.h"

enum { HEADER_EVERY = 20 /* lines */ };
#define NS_PER_S UINT64_C(1000000000)

/* X(name): what grows, of a store. */
#define WATCHED(X) X(hits) X(misses) X(hit_bytes) X(sets) X(deletes) X(evicted) X(expired)
enum {
#define WATCHED_ENUM_(name) W_##name,
	WATCHED(WATCHED_ENUM_) N_WATCHED
};
static const char *const watched[] = {
#define WATCHED_NAME_(name) #name "_per_s",
	WATCHED(WATCHED_NAME_)};

struct sample {
	uint64_t ns, daemon_id;
	struct {
		uint64_t id; /* 0: unused */
		uint64_t n[N_WATCHED];
	} store[SHM_STORES_MAX];
};

static void sample_take(const struct hypercache_admin *a, struct sample *ret)
{
	ret->ns = sup_host_mono_ns();
	ret->daemon_id = a->ctl->seg.daemon_id;
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
		const shm_u64 *c = a->ctl->store[i].counter;
		uint64_t *n = ret->store[i].n;
		ret->store[i].id = shm_load_acq(&a->ctl->store[i].id); /* acq:entry.id */
		if (!ret->store[i].id)
			continue;
		struct hypercache_reads r = hypercache_reads(a, i);
		n[W_hits] = r.hits;
		n[W_misses] = r.misses;
		n[W_hit_bytes] = r.hit_bytes;
		n[W_sets] = shm_load_rlx(&c[SHM_SC_sets]);
		n[W_deletes] = shm_load_rlx(&c[SHM_SC_deletes]);
		n[W_evicted] = shm_load_rlx(&c[SHM_SC_evicted]);
		n[W_expired] = shm_load_rlx(&c[SHM_SC_expired]);
	}
}

/* Per second; 0 for what has become less, as a liar's count may. */
static double rate(const struct sample *was, const struct sample *is, uint32_t i, int what)
{
	uint64_t from = was->store[i].n[what], to = is->store[i].n[what];

	if (MUTANT(330)) /* 330: since the beginning, not since the last line */
		from = 0;
	return to > from ? (double)(to - from) * 1e9 / (double)(is->ns - was->ns) : 0;
}

static void header_print(void)
{
	printf("%-16s %11s %11s %8s %10s %10s %10s %10s %11s %10s %11s  %s\n", "store", "hits/s",
		"misses/s", "ratio", "sets/s", "deletes/s", "evicted/s", "expired/s", "read/s",
		"entries", "bytes", "health");
}

static void store_print(const struct hypercache_admin *a, const double *r, uint32_t i)
{
	const struct shm_store_entry *e = &a->ctl->store[i];
	char name[SHM_NAME_BYTES], read[CLI_TEXT_BYTES], bytes[CLI_TEXT_BYTES], ratio[16] = "-";
	char why[HYPERCACHE_HEALTH_WHY_BYTES];

	if (r[W_hits] + r[W_misses] > 0)
		(void)snprintf(ratio, sizeof ratio, "%.2f %%",
			100 * r[W_hits] / (r[W_hits] + r[W_misses]));
	printf("%-16s %11.0f %11.0f %8s %10.0f %10.0f %10.0f %10.0f %11s %10" PRIu64 " %11s  %s\n",
		cli_text(e->name, sizeof e->name, name, sizeof name), r[W_hits], r[W_misses], ratio,
		r[W_sets], r[W_deletes], r[W_evicted], r[W_expired],
		cli_size((uint64_t)r[W_hit_bytes], read), shm_load_rlx(&e->counter[SHM_SC_entries]),
		cli_size(shm_load_rlx(&e->counter[SHM_SC_live_bytes]), bytes),
		hypercache_health_word(hypercache_health_store(a, i, why)));
}

static void store_json(
	struct json *j, const struct hypercache_admin *a, const double *r, uint32_t i)
{
	const struct shm_store_entry *e = &a->ctl->store[i];
	char name[SHM_NAME_BYTES], why[HYPERCACHE_HEALTH_WHY_BYTES];

	json_begin(j, NULL, '{');
	json_string(j, "name", cli_text(e->name, sizeof e->name, name, sizeof name));
	for (int k = 0; k < N_WATCHED; k++)
		json_double(j, watched[k], r[k]);
	json_u64(j, "entries", shm_load_rlx(&e->counter[SHM_SC_entries]));
	json_u64(j, "live_bytes", shm_load_rlx(&e->counter[SHM_SC_live_bytes]));
	json_string(j, "health", hypercache_health_word(hypercache_health_store(a, i, why)));
	json_end(j, '}');
}

static bool is_wanted(const struct cli *c, const struct hypercache_admin *a, uint32_t i)
{
	const struct shm_store_entry *e = &a->ctl->store[i];

	return !c->store_given || strncmp(e->name, c->store, sizeof e->name) == 0;
}

static bool any_wanted(
	const struct cli *c, const struct hypercache_admin *a, const struct sample *is)
{
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++)
		if (is->store[i].id && is_wanted(c, a, i))
			return true;
	return !c->store_given;
}

/* All stores, or the one that is asked for, of which both samples know.  How many lines. */
static int watch_print(const struct cli *c, const struct hypercache_admin *a,
	const struct sample *was, const struct sample *is)
{
	struct json j = {.to = stdout};
	int lines = 0;

	if (c->json) {
		json_begin(&j, NULL, '{');
		json_double(&j, "seconds", (double)(is->ns - was->ns) / 1e9);
		json_begin(&j, "stores", '[');
	}
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
		double r[N_WATCHED];
		if (!is->store[i].id || is->store[i].id != was->store[i].id ||
			is->daemon_id != was->daemon_id || !is_wanted(c, a, i))
			continue;
		for (int k = 0; k < N_WATCHED; k++)
			r[k] = rate(was, is, i, k);
		if (c->json)
			store_json(&j, a, r, i);
		else
			store_print(a, r, i);
		lines++;
	}
	if (c->json) {
		json_end(&j, ']');
		json_end(&j, '}');
		json_finish(&j);
	}
	return lines;
}

static void wait_until(uint64_t ns)
{
	struct timespec t = {.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
		;
}

int cli_watch(const struct cli *c)
{
	static struct sample samples[2];
	struct hypercache_admin a;
	int status, lines = 0, since_header = HEADER_EVERY;

	for (uint64_t n = 0; c->count == 0 || n <= c->count; n++) {
		struct sample *is = &samples[n % 2], *was = &samples[(n + 1) % 2];
		if (n)
			wait_until(was->ns + NS_PER_S);
		status = cli_admin_open(c, &a);
		if (status)
			return status;
		sample_take(&a, is);
		if (!any_wanted(c, &a, is)) {
			hypercache_admin_close(&a);
			return cli_fail(c, CLI_FAILED,
				"there is no store \"%s\": `hypercache store list` lists those "
				"that exist",
				c->store);
		}
		if (n && !c->json && since_header >= HEADER_EVERY) {
			header_print();
			since_header = 0;
		}
		if (n) {
			lines = watch_print(c, &a, was, is);
			since_header += lines;
		}
		hypercache_admin_close(&a);
		status = cli_end(c, CLI_DONE); /* a line is seen when it is there */
		if (status)
			return status;
	}
	return CLI_DONE;
}
