/* cli_fsck.c - runs the checker (shm/fsck.h) over all memory of a daemon. */
#include <inttypes.h>
#include <string.h>
#include "atomic.h"
#include "cli.h"
#include "fsck.h"
#include "hypercache_admin.h"

struct report {
	const struct cli *c;
	struct json j;
	const char *where; /* "control", or the pool's name */
};

/* A message may quote damaged memory. */
static void on_finding(void *arg, const struct shm_fsck_finding *f)
{
	struct report *r = arg;
	char text[sizeof f->text];

	(void)cli_text(f->text, sizeof f->text, text, sizeof text);
	if (r->c->json) {
		json_begin(&r->j, NULL, '{');
		json_u64(&r->j, "invariant", f->invariant);
		json_string(&r->j, "where", r->where);
		json_u64(&r->j, "offset", f->off);
		json_string(&r->j, "text", text);
		json_end(&r->j, '}');
	} else {
		printf("I%u  %s + %" PRIu64 ": %s\n", f->invariant, r->where, f->off, text);
	}
}

static void stats_add(struct shm_fsck_stats *sum, const struct shm_fsck_stats *s)
{
	sum->entries += s->entries;
	sum->live_bytes += s->live_bytes;
	sum->damaged += s->damaged;
	sum->tables += s->tables;
	sum->chains += s->chains;
	if (s->longest_chain > sum->longest_chain)
		sum->longest_chain = s->longest_chain;
	sum->quiet = sum->quiet && s->quiet;
}

static void report_end(struct report *r, uint64_t n_findings, const struct shm_fsck_stats *s)
{
	char size[CLI_TEXT_BYTES];

	if (r->c->json) {
		json_end(&r->j, ']');
		json_u64(&r->j, "n_findings", n_findings);
		json_u64(&r->j, "entries", s->entries);
		json_u64(&r->j, "live_bytes", s->live_bytes);
		json_u64(&r->j, "damaged", s->damaged);
		json_u64(&r->j, "tables", s->tables);
		json_u64(&r->j, "chains", s->chains);
		json_u64(&r->j, "longest_chain", s->longest_chain);
		json_bool(&r->j, "accounts_compared", s->quiet);
		json_end(&r->j, '}');
		json_finish(&r->j);
		return;
	}
	printf("%s: %" PRIu64 " entries, %s; %" PRIu64 " chains, the longest of %" PRIu64
	       " buckets; %s\n",
		n_findings ? "DAMAGED" : "whole", s->entries, cli_size(s->live_bytes, size),
		s->chains, s->longest_chain,
		s->quiet ? "accounts compared"
			 : "accounts not compared, because the daemon was at work");
	if (n_findings)
		printf("%" PRIu64 " findings; restart hypercached to begin with empty memory, and "
		       "report this\n",
			n_findings);
}

/* Checks all pools.  0, or an exit status. */
static int pools_check(const struct cli *c, struct hypercache_admin *a, struct report *r,
	uint64_t *n_findings, struct shm_fsck_stats *sum)
{
	char why[HYPERCACHE_ADMIN_WHY_BYTES], name[SHM_NAME_BYTES];

	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++) {
		const struct shm_pool_entry *e = &a->ctl->pool[i];
		struct shm_fsck_stats stats = {0};
		if (shm_load_acq(&e->id) == 0) /* acq:entry.id */
			continue;
		if (hypercache_admin_pool_map(a, i, why))
			return cli_fail(c, CLI_FAILED, "%s", why);
		r->where = cli_text(e->name, sizeof e->name, name, sizeof name);
		*n_findings += shm_fsck_pool(
			a->ctl, i, a->pool[i].base, a->pool[i].bytes, on_finding, r, &stats);
		stats_add(sum, &stats);
	}
	return 0;
}

int cli_fsck(const struct cli *c)
{
	struct shm_fsck_stats sum = {.quiet = true};
	struct report r = {.c = c, .j = {.to = stdout}, .where = "control"};
	struct hypercache_admin a;
	int status = cli_admin_open(c, &a);

	if (status)
		return status;
	if (c->json) {
		json_begin(&r.j, NULL, '{');
		json_begin(&r.j, "findings", '[');
	}
	uint64_t n = shm_fsck_control(a.ctl, a.ctl_bytes, on_finding, &r);
	status = pools_check(c, &a, &r, &n, &sum);
	if (status == 0)
		report_end(&r, n, &sum);
	hypercache_admin_close(&a);
	return status ? status : cli_end(c, n ? CLI_MISS : CLI_DONE);
}
