/* cli_fsck.c - runs the checker (shm/fsck.h) over all memory of a daemon, or over an image of it; and
 * has it repaired: a daemon's by another engine, an image's by the same code here. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "../daemon/image.h"
#include "../daemon/sup_host.h"
#include "atomic.h"
#include "base/cleanup.h"
#include "cli.h"
#include "fsck.h"
#include "hypercache_admin.h"
#include "pool.h"

enum { DAMAGED_MAX = 256, VERIFY_BYTES = 64 << 20, WAIT_STEP_MS = 20 };

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

static void report_begin(struct report *r)
{
	if (!r->c->json)
		return;
	json_begin(&r->j, NULL, '{');
	json_begin(&r->j, "findings", '[');
}

static void report_end(
	struct report *r, uint64_t n_findings, const struct shm_fsck_stats *s, const char *advice)
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
		printf("%" PRIu64 " findings; %s, and report this\n", n_findings, advice);
}

/* Checks a pool that is mapped.  How many findings. */
static uint64_t pool_check(struct report *r, const struct shm_control *ctl, uint32_t i,
	const void *base, uint64_t bytes, struct shm_fsck_stats *sum)
{
	char name[SHM_NAME_BYTES];
	struct shm_fsck_stats stats = {0};

	r->where = cli_text(ctl->pool[i].name, SHM_NAME_BYTES, name, sizeof name);
	uint64_t n = shm_fsck_pool(ctl, i, base, bytes, on_finding, r, &stats);
	stats_add(sum, &stats);
	return n;
}

/* --------------------------------------------------------------------- daemon */

/* Asks for one of the requests without an argument.  0, or an exit status. */
static int ask(const struct cli *c, enum admin_ask what)
{
	struct admin_request rq = {.ask = what};
	_cleanup_free_ char *lines = NULL;

	return cli_ask(c, &rq, -1, &lines);
}

/* Another engine takes the memory over; waits until it has looked at everything. */
static int daemon_repair(const struct cli *c, const struct hypercache_admin *a)
{
	uint64_t gen = shm_load_rlx(&a->ctl->engine_gen);
	uint64_t end_ns = sup_host_mono_ns() + c->timeout_ms * UINT64_C(1000000);
	int status = ask(c, ADMIN_RENEW);

	while (status == 0 && (shm_load_rlx(&a->ctl->engine_gen) == gen ||
				      shm_load_rlx(&a->ctl->state) != SHM_ENGINE_SERVING ||
				      shm_load_rlx(&a->ctl->counter[SHM_DC_unverified]))) {
		if (sup_host_mono_ns() > end_ns)
			return cli_fail(c, CLI_NO_DAEMON,
				"the other engine is not ready yet: look again, or use --timeout");
		(void)usleep(WAIT_STEP_MS * 1000);
	}
	return status;
}

static int pools_check(const struct cli *c, struct hypercache_admin *a, struct report *r,
	uint64_t *n_findings, struct shm_fsck_stats *sum)
{
	char why[HYPERCACHE_ADMIN_WHY_BYTES];

	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++) {
		if (shm_load_acq(&a->ctl->pool[i].id) == 0) /* acq:entry.id */
			continue;
		if (hypercache_admin_pool_map(a, i, why))
			return cli_fail(c, CLI_FAILED, "%s", why);
		*n_findings += pool_check(r, a->ctl, i, a->pool[i].base, a->pool[i].bytes, sum);
	}
	return 0;
}

/* Writes the image to a new file. */
static int save(const struct cli *c, const struct hypercache_admin *a)
{
	struct image_from from = {.control_fd = a->ctl_fd};
	struct image_head head;
	uint32_t pools = 0;

	memcpy(from.region_fd, a->pool_fd, sizeof from.region_fd);
	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++)
		pools |= (uint32_t)(a->pool_fd[i][0] >= 0) << i;
	_cleanup_close_ int fd = open(c->save, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return cli_fail(
			c, CLI_FAILED, "%s: cannot be created: %s", c->save, strerror(errno));
	int r = image_plan(&from, pools, "saved by hand", &head);
	if (r == 0)
		r = image_write(fd, &from, &head);
	if (r < 0) {
		(void)unlink(c->save);
		return cli_fail(c, CLI_FAILED, "%s: cannot be written: %s", c->save, strerror(-r));
	}
	return 0;
}

static int daemon_fsck(const struct cli *c)
{
	struct shm_fsck_stats sum = {.quiet = true};
	struct report r = {.c = c, .j = {.to = stdout}, .where = "control"};
	struct hypercache_admin a;
	int status = cli_admin_open(c, &a);

	if (status)
		return status;
	if (c->repair)
		status = daemon_repair(c, &a);
	if (status == 0 && c->pause)
		status = ask(c, ADMIN_PAUSE);
	if (status == 0 && c->save)
		status = save(c, &a);
	if (status) {
		hypercache_admin_close(&a);
		return status;
	}
	report_begin(&r);
	uint64_t n = shm_fsck_control(a.ctl, a.ctl_bytes, on_finding, &r);
	status = pools_check(c, &a, &r, &n, &sum);
	if (c->pause)
		(void)ask(c, ADMIN_RESUME);
	if (status == 0)
		report_end(&r, n, &sum,
			c->repair ? "restart hypercached to begin with empty memory"
				  : "--repair drops what is damaged");
	hypercache_admin_close(&a);
	return status ? status : cli_end(c, n ? CLI_MISS : CLI_DONE);
}

/* ---------------------------------------------------------------------- image */

/* Nobody reads an image: no pins. */
static const struct shm_pinset *no_pins(void *arg)
{
	static struct shm_pinset none = {.complete = true};

	(void)arg;
	return &none;
}

/* Do the regions of the directory make up what the image has of the pool? */
static bool regions_ok(const struct image *im, uint32_t i)
{
	const struct shm_pool_entry *e = &im->ctl->pool[i];
	uint32_t n = shm_load32_rlx(&e->n_regions);
	uint64_t at = 0, all = im->head->pool[i].bytes;

	for (uint32_t r = 0; r < n && n <= SHM_REGIONS_MAX; r++) {
		if (e->region[r].base_off != at || e->region[r].bytes > all - at)
			return false;
		at += e->region[r].bytes;
	}
	return n > 0 && n <= SHM_REGIONS_MAX && at == all;
}

/* What an engine does that takes the pool over, and with the checksums.  0, or -errno: beyond that. */
static int pool_repair(struct image *im, uint32_t i)
{
	uint64_t off[DAMAGED_MAX], cursor = 0;
	struct shm_changed gone;
	struct shm_wpool w;
	uint32_t n;
	int r = regions_ok(im, i) ? 0 : -EBADMSG;

	if (r == 0)
		r = shm_pool_open(
			&w, im->map + im->head->pool[i].off, im->ctl, NULL, i, no_pins, NULL, NULL);
	if (r < 0)
		return r;
	do {
		n = shm_pool_find_damaged(&w, &cursor, VERIFY_BYTES, off, DAMAGED_MAX);
		for (uint32_t k = 0; k < n; k++)
			(void)shm_pool_unlink(&w, off[k], &gone);
		(void)shm_pool_sweep(&w, no_pins(NULL), NULL);
	} while (cursor || n == DAMAGED_MAX);
	shm_pool_account(&w);
	shm_pool_close(&w);
	return 0;
}

static int image_repair(const struct cli *c, struct image *im)
{
	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++) {
		int r = im->head->pool[i].bytes ? pool_repair(im, i) : 0;
		if (r < 0)
			return cli_fail(c, CLI_MISS,
				"pool %u cannot be repaired: its header, classes or index are "
				"damaged "
				"beyond use (%s)",
				i, strerror(-r));
	}
	return 0;
}

static int image_fsck(const struct cli *c, const char *path)
{
	struct shm_fsck_stats sum = {.quiet = true};
	struct report r = {.c = c, .j = {.to = stdout}, .where = "control"};
	struct image im;
	_cleanup_close_ int fd = open(path, (c->repair ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	int e = fd < 0 ? -errno : image_open(fd, c->repair, &im);

	if (e < 0)
		return cli_fail(c, CLI_FAILED, "%s: %s", path,
			e == -EBADMSG ? "this is no image, or it was cut off"
			: e == -EPROTONOSUPPORT
				? "of another layout or version: use the program that "
				  "came with its daemon"
				: strerror(-e));
	if (c->repair && (e = image_repair(c, &im)) != 0) {
		image_close(&im);
		return e;
	}
	report_begin(&r);
	uint64_t n = shm_fsck_control(im.ctl, im.head->ctl_bytes, on_finding, &r);
	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++)
		if (im.head->pool[i].bytes)
			n += pool_check(&r, im.ctl, i, im.map + im.head->pool[i].off,
				im.head->pool[i].bytes, &sum);
	report_end(&r, n, &sum,
		c->repair ? "this is beyond repair" : "--repair drops what is damaged");
	image_close(&im);
	return cli_end(c, n ? CLI_MISS : CLI_DONE);
}

int cli_fsck(const struct cli *c)
{
	if (c->n_args == 0)
		return daemon_fsck(c);
	if (c->pause || c->save)
		return cli_fail(c, CLI_USAGE, "--pause and --save are for a daemon's memory");
	return image_fsck(c, c->arg[0]);
}
