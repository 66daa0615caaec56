/* cli_dump.c - dump: the entries of stores go into an archive; and what dump and restore have in common.
 *
 * An ordinary client: it scans the daemon's memory in place, and the daemon does nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "../daemon/archive/archive.h"
#include "../daemon/archive/archive_file.h"
#include "../daemon/archive/archive_scan.h"
#include "base/cleanup.h"
#include "cli.h"
#include "cli_archive.h"
#include "hypercache.h"
#include "step.h"

enum { COMPRESS_LEVEL = 3, PROGRESS_NS = 200000000, FILE_MODE = 0600 };

DEFINE_CLEANUP(struct hc *, hc_close)
DEFINE_CLEANUP(struct archive_writer *, archive_writer_free)

/* ------------------------------------------------------------ progress */

static uint64_t now_ns(void)
{
	struct timespec t = {0};

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void cli_progress_begin(struct cli_progress *p, const struct cli *c, uint64_t all)
{
	*p = (struct cli_progress){
		.all = all, .began_ns = now_ns(), .shown = !c->json && isatty(STDERR_FILENO)};
}

void cli_progress_show(struct cli_progress *p, uint64_t done, uint64_t bytes)
{
	char size[CLI_TEXT_BYTES], rate[CLI_TEXT_BYTES], left[CLI_TEXT_BYTES] = "?";
	uint64_t now = now_ns(), took = now - p->began_ns + 1;

	if (!p->shown || now - p->last_ns < PROGRESS_NS)
		return;
	p->last_ns = now;
	if (done && p->all > done)
		(void)cli_time(
			(uint64_t)((double)took / (double)done * (double)(p->all - done)), left);
	fprintf(stderr, "\r%3.0f %%  %s, %s/s, %s left   ",
		p->all ? 100.0 * (double)(done < p->all ? done : p->all) / (double)p->all : 0.0,
		cli_size(bytes, size),
		cli_size((uint64_t)((double)bytes * 1e9 / (double)took), rate), left);
	p->printed = true;
}

uint64_t cli_progress_end(struct cli_progress *p)
{
	if (p->printed)
		fprintf(stderr, "\r%60s\r", "");
	return now_ns() - p->began_ns + 1;
}

/* ------------------------------------------------------------ which stores */

bool cli_archive_wants(const struct cli *c, const char *name)
{
	bool any = !c->store_given && c->n_args < 2;

	for (int i = 1; i < c->n_args && !any; i++)
		any = strcmp(c->arg[i], name) == 0;
	return any || (c->store_given && strcmp(c->store, name) == 0);
}

struct dump {
	const struct cli *c;
	struct hc *hc;
	struct archive_store store[ARCHIVE_STORES_MAX];
	struct hc_store *handle[ARCHIVE_STORES_MAX];
	uint32_t n_stores, n_denied;
	uint64_t expected, entries, bytes; /* as the counters say; of the stores that are done */
	struct cli_progress progress;
};

/* What `store create` needs to make it anew. */
static void definition_of(const struct hc_store_info *i, struct archive_store *to)
{
	char *at = to->definition, *end = at + sizeof to->definition;

#define SAY_(...) at += snprintf(at, (size_t)(end - at), __VA_ARGS__)
	SAY_("type=%s\npool=%s\n", i->type, i->pool);
	if (i->policy[0])
		SAY_("policy=%s\n", i->policy);
	SAY_("ttl=%" PRIu64 "ms\nsliding=%s\n", i->ttl_ms, i->sliding ? "true" : "false");
	if (i->guaranteed_bytes)
		SAY_("guaranteed=%" PRIu64 "B\n", i->guaranteed_bytes);
	if (i->limit_bytes)
		SAY_("limit=%" PRIu64 "B\n", i->limit_bytes);
	if (i->limit_entries)
		SAY_("max_entries=%" PRIu64 "\n", i->limit_entries);
#undef SAY_
}

/* One of the daemon's stores.  0, or an exit status. */
static int store_add(struct dump *d, const struct hc_store_info *info)
{
	struct archive_store *s = &d->store[d->n_stores];

	if (!cli_archive_wants(d->c, info->name))
		return 0;
	int r = hc_store(d->hc, info->name, &d->handle[d->n_stores]);
	if (r == HC_E_NO_STORE)
		return 0; /* dropped at this moment */
	if (r == HC_E_DENIED && !d->c->store_given && d->c->n_args < 2) {
		d->n_denied++;
		return 0;
	}
	if (r != HC_OK)
		return cli_hc_fail(d->c, info->name, r);
	*s = (struct archive_store){.idx = d->n_stores, .id = info->id};
	(void)snprintf(s->name, sizeof s->name, "%s", info->name);
	definition_of(info, s);
	d->expected += info->entries;
	d->n_stores++;
	return 0;
}

static bool has_store(const struct dump *d, const char *name)
{
	for (uint32_t i = 0; i < d->n_stores; i++)
		if (strcmp(d->store[i].name, name) == 0)
			return true;
	return false;
}

static int stores_find(struct dump *d)
{
	struct hc_store_info info = HC_OPTS(hc_store_info);
	const struct cli *c = d->c;
	uint32_t cursor = 0;
	int status = 0;

	while (status == 0 && d->n_stores < ARCHIVE_STORES_MAX &&
		hc_store_next(d->hc, &cursor, &info) == HC_OK)
		status = store_add(d, &info);
	for (int i = c->store_given ? 0 : 1; status == 0 && i < c->n_args; i++) {
		const char *name = i == 0 ? c->store : c->arg[i];
		if (!has_store(d, name))
			status = cli_fail(c, CLI_FAILED,
				"there is no store \"%s\": `hypercache stat` lists those that "
				"exist",
				name);
	}
	if (status == 0 && d->n_stores == 0)
		status = cli_fail(c, CLI_DENIED, "there is no store that this user may read");
	return status;
}

/* ------------------------------------------------------------ dump */

static int beat(void *arg, const struct archive_scan *s)
{
	struct dump *d = arg;

	cli_progress_show(&d->progress, d->entries + s->n_entries, d->bytes + s->bytes);
	return 0;
}

static int write_fail(const struct dump *d, int r)
{
	const char *file = d->c->arg[0];

	if (r == -ENOTSUP)
		return cli_fail(d->c, CLI_FAILED,
			"this program was built without libzstd: leave --compress out");
	if (strcmp(file, "-") == 0)
		return cli_fail(
			d->c, CLI_FAILED, "standard output: cannot write it: %s", strerror(-r));
	return cli_fail(d->c, CLI_FAILED, "%s: cannot write it: %s; nothing has changed there",
		file, strerror(-r));
}

static int stores_dump(struct dump *d, struct archive_writer *w)
{
	for (uint32_t i = 0; i < d->n_stores; i++) {
		struct archive_scan s = {.store = d->handle[i], .idx = i, .beat = beat, .arg = d};
		int r = archive_scan(w, &s);
		if (r < 0)
			return write_fail(d, r);
		if (r == ARCHIVE_SCAN_LIBRARY)
			return cli_hc_fail(d->c, d->store[i].name, s.hc);
		d->entries += s.n_entries;
		d->bytes += s.bytes;
	}
	return 0;
}

static int dump_to(struct dump *d, int fd, struct archive_end *ret_end, uint64_t *ret_bytes)
{
	_cleanup_(archive_writer_freep) struct archive_writer *w = NULL;
	const struct archive_head head = {0};
	const struct archive_writer_opts opts = {.zstd_level = d->c->compress ? COMPRESS_LEVEL : 0};
	int r = archive_writer_new(&w, fd, &head, d->store, d->n_stores, &opts);

	if (r < 0)
		return write_fail(d, r);
	cli_progress_begin(&d->progress, d->c, d->expected);
	int status = stores_dump(d, w);
	if (status)
		return status;
	r = archive_finish(w, ret_end);
	*ret_bytes = archive_writer_bytes(w);
	return r < 0 ? write_fail(d, r) : 0;
}

static void dump_say(const struct dump *d, uint64_t file_bytes, uint64_t took_ns, FILE *to)
{
	char size[CLI_TEXT_BYTES], in[CLI_TEXT_BYTES], took[CLI_TEXT_BYTES];

	if (d->c->json) {
		struct json j = {.to = to};
		json_begin(&j, NULL, '{');
		json_u64(&j, "entries", d->entries);
		json_u64(&j, "bytes", d->bytes);
		json_u64(&j, "file_bytes", file_bytes);
		json_double(&j, "seconds", (double)took_ns / 1e9);
		json_begin(&j, "stores", '[');
		for (uint32_t i = 0; i < d->n_stores; i++)
			json_string(&j, NULL, d->store[i].name);
		json_end(&j, ']');
		json_u64(&j, "stores_denied", d->n_denied);
		json_end(&j, '}');
		json_finish(&j);
		return;
	}
	fprintf(to, "%" PRIu64 " entries of %u store%s, %s, in %s of archive, in %s\n", d->entries,
		d->n_stores, d->n_stores == 1 ? "" : "s", cli_size(d->bytes, size),
		cli_size(file_bytes, in), cli_time(took_ns, took));
	if (d->n_denied)
		fprintf(stderr, "hypercache: left out: %u store%s that this user may not read\n",
			d->n_denied, d->n_denied == 1 ? "" : "s");
}

int cli_dump(const struct cli *c)
{
	_cleanup_(hc_closep) struct hc *hc = NULL;
	struct archive_file file = {.fd = STDOUT_FILENO};
	bool piped = strcmp(c->arg[0], "-") == 0;
	struct archive_end end;
	_cleanup_free_ struct dump *d = calloc(1, sizeof *d);
	uint64_t bytes = 0;

	if (!d)
		return cli_fail(c, CLI_FAILED, "no memory");
	if (piped && isatty(STDOUT_FILENO))
		return cli_fail(c, CLI_USAGE,
			"an archive is not for a terminal: name a file, or use a pipe");
	int status = cli_session_open(c, &hc);
	d->c = c;
	d->hc = hc;
	if (status || (status = stores_find(d)))
		return status;
	int r = piped ? 0 : archive_file_begin(&file, AT_FDCWD, c->arg[0], FILE_MODE);
	if (r < 0)
		return write_fail(d, r);
	(void)signal(SIGXFSZ, SIG_IGN); /* a limit of its size is an error with a message */
	status = dump_to(d, file.fd, &end, &bytes);
	if (status == 0 && !piped && (r = archive_file_commit(&file)) < 0)
		status = write_fail(d, r);
	if (!piped)
		archive_file_end(&file);
	uint64_t took_ns = cli_progress_end(&d->progress);
	if (status)
		return status;
	dump_say(d, bytes, took_ns, piped ? stderr : stdout);
	return cli_end(c, CLI_DONE);
}
