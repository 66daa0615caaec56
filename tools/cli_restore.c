/* cli_restore.c - restore: the entries of an archive are set.
 *
 *   file      is read through first: of a damaged one nothing is restored
 *   pipe      is restored as it comes
 *   entry     whose time is over is left out; others get what is left of it
 *
 * An ordinary client: what it sets has new versions, and is as if it had been set now.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "../daemon/admin.h"
#include "../daemon/archive/archive.h"
#include "base/cleanup.h"
#include "cli.h"
#include "cli_archive.h"
#include "hypercache.h"
#include "step.h"

enum { DONE_MAX = 64, DONE_EVERY = 512, CLOCK_EVERY = 256 };
#define NS_PER_MS 1000000u
#define TEN_YEARS_MS (UINT64_C(3650) * 86400000)

DEFINE_CLEANUP(struct hc *, hc_close)
DEFINE_CLEANUP(struct archive_reader *, archive_reader_free)

struct restore {
	const struct cli *c;
	const char *file;
	int fd;
	struct hc *hc;
	struct hc_store *store[ARCHIVE_STORES_MAX]; /* NULL: not wanted */
	bool sliding[ARCHIVE_STORES_MAX];
	uint64_t read, bytes; /* entries of the archive that were wanted; their keys and values */
	uint64_t set, there, over; /* set; --add: were there; time was over */
	uint64_t too_large, no_room;
	uint64_t wall_ns;
	int error; /* of the library, that ends it; HC_OK */
	struct cli_progress progress;
};

static int read_fail(const struct restore *rs, const struct archive_reader *r, int e)
{
	char done[96] = "";

	if (rs->set)
		(void)snprintf(done, sizeof done, "; %" PRIu64 " entries before that were restored",
			rs->set);
	if (e < 0)
		return cli_fail(rs->c, CLI_FAILED, "%s: cannot read it: %s%s", rs->file,
			strerror(-e), done);
	return cli_fail(rs->c, CLI_FAILED, "%s: %s%s", rs->file, archive_fault(r), done);
}

/* ------------------------------------------------------------ reading it through */

/* 0, or an exit status. */
static int look_through(struct restore *rs)
{
	_cleanup_(archive_reader_freep) struct archive_reader *r = NULL;
	struct archive_entry entry;
	int e = archive_reader_new(&r, rs->fd);

	while (e == 0) {
		e = archive_next(r, &entry);
		cli_progress_show(&rs->progress, archive_reader_bytes(r), archive_reader_bytes(r));
	}
	if (e != ARCHIVE_END)
		return read_fail(rs, r, e);
	rs->read = archive_end_of(r)->n_entries;
	rs->bytes = archive_end_of(r)->key_bytes + archive_end_of(r)->value_bytes;
	return 0;
}

/* ------------------------------------------------------------ stores */

/* Makes the store as it was.  0, or an exit status. */
static int store_create(const struct cli *c, const struct archive_store *s)
{
	struct admin_request rq = {.ask = ADMIN_STORE_CREATE};
	_cleanup_free_ char *lines = NULL;

	if (strlen(s->definition) >= sizeof rq.text)
		return cli_fail(c, CLI_FAILED, "the definition of store %s is too long", s->name);
	(void)snprintf(rq.name, sizeof rq.name, "%s", s->name);
	(void)snprintf(rq.text, sizeof rq.text, "%s", s->definition);
	return cli_ask(c, &rq, -1, &lines);
}

static int store_find(struct restore *rs, const struct archive_store *s)
{
	const struct cli *c = rs->c;

	if (!cli_archive_wants(c, s->name))
		return 0;
	int r = hc_store(rs->hc, s->name, &rs->store[s->idx]);
	if (r == HC_E_NO_STORE && c->create) {
		int status = store_create(c, s);
		if (status)
			return status;
		r = hc_store(rs->hc, s->name, &rs->store[s->idx]);
	}
	if (r == HC_E_NO_STORE)
		return cli_fail(c, CLI_FAILED,
			"the archive has a store \"%s\", and this daemon has none: --create makes "
			"it, "
			"and --store restores others alone",
			s->name);
	rs->sliding[s->idx] = strstr(s->definition, "sliding=true") != NULL;
	return r == HC_OK ? 0 : cli_hc_fail(c, s->name, r);
}

/* The stores that are named are in the archive, and here. */
static int stores_find(struct restore *rs, const struct archive_reader *r)
{
	const struct cli *c = rs->c;
	uint32_t n, k;
	const struct archive_store *s = archive_stores_of(r, &n);

	for (int i = c->store_given ? 0 : 1; i < c->n_args; i++) {
		const char *name = i == 0 ? c->store : c->arg[i];
		for (k = 0; k < n && strcmp(s[k].name, name) != 0; k++)
			;
		if (k == n)
			return cli_fail(c, CLI_FAILED, "%s: there is no store \"%s\" in it",
				rs->file, name);
	}
	for (uint32_t i = 0; i < n; i++) {
		int status = store_find(rs, &s[i]);
		if (status)
			return status;
	}
	return 0;
}

/* ------------------------------------------------------------ entries */

static void wall_look(struct restore *rs)
{
	struct timespec t = {0};

	(void)clock_gettime(CLOCK_REALTIME, &t);
	rs->wall_ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* What is left until then, in ms, at least 1. */
static uint64_t left_ms(const struct restore *rs, uint64_t until_ns)
{
	uint64_t left = until_ns > rs->wall_ns ? (until_ns - rs->wall_ns) / NS_PER_MS : 0;

	left = left ? left : 1;
	return left < TEN_YEARS_MS ? left : TEN_YEARS_MS;
}

static void took(struct restore *rs, const struct hc_done *d)
{
	switch (d->result) {
	case HC_OK:
	case HC_MISS: /* a touch of what is not there any more */
		return;
	case HC_EXISTS:
		rs->there++;
		break;
	case HC_E_TOO_LARGE:
		rs->too_large++;
		break;
	case HC_E_FULL:
		rs->no_room++;
		break;
	default:
		if (rs->error == HC_OK)
			rs->error = d->result;
		return;
	}
	rs->set--;
}

/* Takes what is done; waits for something if wait_ms is not 0. */
static void take_done(struct restore *rs, uint32_t wait_ms)
{
	struct hc_done done[DONE_MAX];
	size_t n;

	do {
		int r = hc_poll(rs->hc, done, DONE_MAX, wait_ms, &n);
		if (r != HC_OK) {
			rs->error = rs->error == HC_OK ? r : rs->error;
			return;
		}
		for (size_t i = 0; i < n; i++)
			took(rs, &done[i]);
		wait_ms = 0;
	} while (n == DONE_MAX);
}

static int submit(struct restore *rs, const struct hc_op *op)
{
	int r = hc_submit(op, NULL);

	while (r == HC_E_QUEUE && rs->error == HC_OK) {
		take_done(rs, 1);
		r = hc_submit(op, NULL);
	}
	return rs->error != HC_OK ? rs->error : r;
}

static void entry_restore(struct restore *rs, const struct archive_entry *e)
{
	struct hc_set_opts set = HC_OPTS(hc_set_opts);
	struct hc_op op = HC_OPTS(hc_op);
	bool slides = rs->sliding[e->store] && rs->c->mode == HC_SET && e->ttl_ms;

	op.store = rs->store[e->store];
	op.op = HC_OP_SET;
	op.quiet = 1;
	op.key = e->key;
	op.key_bytes = e->key_bytes;
	op.value = e->value;
	op.value_bytes = e->value_bytes;
	op.set = &set;
	uint64_t ttl_ms = e->expires_ns && !MUTANT(725) /* 725: what is restored stays for ever */
	                          ? left_ms(rs, e->expires_ns)
	                          : HC_TTL_NEVER;
	set.ttl_ms = slides && e->expires_ns ? e->ttl_ms : ttl_ms;
	set.flags = e->flags;
	set.stamp = e->stamp;
	set.mode = rs->c->mode;
	set.absent = e->marks & ARCHIVE_ABSENT ? 1 : 0;
	if (e->marks & ARCHIVE_FRESH)
		set.fresh_ms = left_ms(rs, e->fresh_until_ns);
	rs->set++;
	int r = submit(rs, &op);
	if (r == HC_OK && slides && e->expires_ns && ttl_ms != e->ttl_ms) {
		/* Each use gives it the whole time again; until then it has what was left. */
		struct hc_op touch = HC_OPTS(hc_op);
		touch.store = op.store;
		touch.op = HC_OP_TOUCH;
		touch.quiet = 1;
		touch.key = e->key;
		touch.key_bytes = e->key_bytes;
		touch.ttl_ms = ttl_ms;
		r = submit(rs, &touch);
	}
	if (r == HC_E_TOO_LARGE) /* no frame carries it */
		took(rs, &(struct hc_done){.result = r});
	else if (r != HC_OK && rs->error == HC_OK)
		rs->error = r;
}

/* Every entry, sent.  0, or an exit status. */
static int entries_restore(struct restore *rs, struct archive_reader *r)
{
	struct archive_entry entry;
	int e = 0;

	rs->read = rs->bytes = 0;
	for (uint64_t n = 0; e == 0 && rs->error == HC_OK; n++) {
		e = archive_next(r, &entry);
		if (e != 0)
			break;
		if (n % CLOCK_EVERY == 0)
			wall_look(rs);
		cli_progress_show(&rs->progress, archive_reader_bytes(r), archive_reader_bytes(r));
		if (!rs->store[entry.store])
			continue;
		rs->read++;
		rs->bytes += entry.key_bytes + entry.value_bytes;
		if (entry.expires_ns && entry.expires_ns <= rs->wall_ns)
			rs->over++;
		else
			entry_restore(rs, &entry);
		if (n % DONE_EVERY == 0)
			take_done(rs, 0);
	}
	int flushed = hc_flush(rs->hc, rs->c->timeout_ms, NULL);
	take_done(rs, 0);
	if (rs->error == HC_OK && flushed != HC_OK)
		rs->error = flushed;
	if (rs->error != HC_OK)
		return cli_hc_fail(rs->c, "restore", rs->error);
	return e == ARCHIVE_END ? 0 : read_fail(rs, r, e);
}

/* ------------------------------------------------------------ what it says */

static void say_json(const struct restore *rs, uint64_t took_ns)
{
	struct json j = {.to = stdout};

	json_begin(&j, NULL, '{');
	json_u64(&j, "entries", rs->read);
	json_u64(&j, "bytes", rs->bytes);
	if (!rs->c->verify) {
		json_u64(&j, "restored", rs->set);
		json_u64(&j, "were_there", rs->there);
		json_u64(&j, "expired", rs->over);
		json_u64(&j, "too_large", rs->too_large);
		json_u64(&j, "no_room", rs->no_room);
	}
	json_double(&j, "seconds", (double)took_ns / 1e9);
	json_end(&j, '}');
	json_finish(&j);
}

static int say(const struct restore *rs, uint64_t took_ns)
{
	char size[CLI_TEXT_BYTES], time[CLI_TEXT_BYTES];
	uint64_t failed = rs->too_large + rs->no_room;

	if (rs->c->json) {
		say_json(rs, took_ns);
		return cli_end(rs->c, failed ? CLI_FAILED : CLI_DONE);
	}
	printf("%" PRIu64 " entries%s, %s, in %s\n", rs->c->verify ? rs->read : rs->set,
		rs->c->verify ? " are whole" : "", cli_size(rs->bytes, size),
		cli_time(took_ns, time));
	if (rs->there)
		printf("%" PRIu64 " were there already and stayed\n", rs->there);
	if (rs->over)
		printf("%" PRIu64 " were left out: their time is over\n", rs->over);
	if (rs->too_large)
		fprintf(stderr,
			"hypercache: %" PRIu64 " are larger than the store's max_value allows\n",
			rs->too_large);
	if (rs->no_room)
		fprintf(stderr, "hypercache: %" PRIu64 " found no room: the pool is too small\n",
			rs->no_room);
	return cli_end(rs->c, failed ? CLI_FAILED : CLI_DONE);
}

/* ------------------------------------------------------------ restore */

static int restore(struct restore *rs)
{
	_cleanup_(archive_reader_freep) struct archive_reader *r = NULL;
	_cleanup_(hc_closep) struct hc *hc = NULL;
	struct stat st;
	int status = 0;
	bool file = fstat(rs->fd, &st) == 0 && S_ISREG(st.st_mode);

	cli_progress_begin(&rs->progress, rs->c, file ? (uint64_t)st.st_size : 0);
	if (file || rs->c->verify)
		status = look_through(rs);
	if (status || rs->c->verify)
		return status;
	if (file && lseek(rs->fd, 0, SEEK_SET) < 0)
		return read_fail(rs, NULL, -errno);
	status = cli_session_open(rs->c, &hc);
	if (status)
		return status;
	rs->hc = hc;
	int e = archive_reader_new(&r, rs->fd);
	if (e)
		return read_fail(rs, r, e);
	status = stores_find(rs, r);
	return status ? status : entries_restore(rs, r);
}

int cli_restore(const struct cli *c)
{
	_cleanup_free_ struct restore *rs = calloc(1, sizeof *rs);
	_cleanup_close_ int fd = -1;

	if (!rs)
		return cli_fail(c, CLI_FAILED, "no memory");
	rs->c = c;
	rs->file = strcmp(c->arg[0], "-") ? c->arg[0] : "standard input";
	if (strcmp(c->arg[0], "-") == 0 && isatty(STDIN_FILENO))
		return cli_fail(c, CLI_USAGE,
			"an archive does not come from a terminal: name a file, or use a pipe");
	rs->fd = STDIN_FILENO;
	if (strcmp(c->arg[0], "-") != 0)
		rs->fd = fd = open(c->arg[0], O_RDONLY | O_CLOEXEC);
	if (rs->fd < 0)
		return cli_fail(c, CLI_FAILED, "%s: %s", c->arg[0], strerror(errno));
	int status = restore(rs);
	uint64_t took_ns = cli_progress_end(&rs->progress);
	return status ? status : say(rs, took_ns);
}
