/* cli_wal.c - wal list, verify, dump: a log on the disk, read by this program alone (daemon/wal/wal_read.h).
 *
 * No daemon is asked and nothing is written.  Of a log that is being written its end is read as it is at that moment.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../daemon/wal/wal_read.h"
#include "base/cleanup.h"
#include "cli.h"

enum { WAL_FILES_MAX = 4096 };

struct wal_look {
	const struct cli *c;
	struct wal_file *file; /* [n_files], by number */
	size_t n_files;
	struct json j;
	const char *path;
	uint64_t n_damages;
};

static void look_close(struct wal_look *w)
{
	for (size_t i = 0; i < w->n_files; i++)
		(void)close(w->file[i].fd);
	free(w->file);
}

static int by_number(const void *a, const void *b)
{
	const struct wal_file *x = a, *y = b;

	return x->number < y->number ? -1 : x->number > y->number;
}

/* One more file.  0, or an exit status. */
static int look_add(struct wal_look *w, int at, const char *name, uint64_t number)
{
	struct stat st;

	if (w->n_files == WAL_FILES_MAX)
		return cli_fail(w->c, CLI_FAILED, "%s: there are more than %d segments", w->path,
			WAL_FILES_MAX);
	int fd = openat(at, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0) {
		int e = errno;
		if (fd >= 0)
			(void)close(fd);
		return cli_fail(w->c, CLI_FAILED, "%s: %s: %s", w->path, name, strerror(e));
	}
	w->file[w->n_files++] = (struct wal_file){
		.number = number, .fd = fd, .bytes = (uint64_t)st.st_size};
	return 0;
}

static int look_folder(struct wal_look *w, int fd)
{
	int sub = openat(fd, "wal", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* of a data folder */
	uint64_t number;
	int status = 0;

	if (sub >= 0)
		(void)close(fd);
	DIR *d = fdopendir(sub >= 0 ? sub : fd);
	if (!d) {
		(void)close(sub >= 0 ? sub : fd);
		return cli_fail(w->c, CLI_FAILED, "%s: %s", w->path, strerror(errno));
	}
	for (struct dirent *e = readdir(d); e && status == 0; e = readdir(d))
		if (wal_name_parse(e->d_name, &number))
			status = look_add(w, dirfd(d), e->d_name, number);
	(void)closedir(d);
	if (status == 0 && w->n_files == 0)
		status = cli_fail(w->c, CLI_FAILED,
			"%s: there is no segment of a log in it (NNNNNNNNNNNN.wal)", w->path);
	qsort(w->file, w->n_files, sizeof *w->file, by_number);
	return status;
}

/* A file by itself has the number that its begin says; else that of its name. */
static int look_file(struct wal_look *w)
{
	const char *base = strrchr(w->path, '/') ? strrchr(w->path, '/') + 1 : w->path;
	uint64_t block[WAL_BLOCK / sizeof(uint64_t)] = {0}, number = 0;
	struct wal_begin b;
	int status = look_add(w, AT_FDCWD, w->path, 0);

	if (status)
		return status;
	bool named = wal_name_parse(base, &number);
	bool whole = pread(w->file[0].fd, block, sizeof block, 0) == (ssize_t)sizeof block;
	int r = whole ? wal_begin_check(block, NULL, &b) : -EBADMSG;
	if (r == -EPROTO)
		return cli_fail(w->c, CLI_FAILED,
			"%s: a log of another format than this program's (%d)", w->path,
			WAL_FORMAT_MAJOR);
	if (r != 0 && !named)
		return cli_fail(w->c, CLI_FAILED, "%s: is no segment of a log", w->path);
	w->file[0].number = r == 0 && !named ? b.segment : number;
	return 0;
}

/* Opens what argument 1 names.  0, or an exit status. */
static int look_open(struct wal_look *w, const struct cli *c)
{
	*w = (struct wal_look){.c = c, .path = c->arg[1], .j = {.to = stdout}};
	w->file = calloc(WAL_FILES_MAX, sizeof *w->file);
	if (!w->file)
		return cli_fail(c, CLI_FAILED, "no memory");
	int fd = open(w->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		return look_folder(w, fd);
	if (errno != ENOTDIR)
		return cli_fail(c, CLI_FAILED, "%s: %s", w->path, strerror(errno));
	return look_file(w);
}

/* --------------------------------------------------------------------- list */

static void list_one(struct wal_look *w, const struct wal_file *f, enum wal_file_state state)
{
	char name[WAL_NAME_BYTES], size[CLI_TEXT_BYTES], before[CLI_TEXT_BYTES] = "-";
	uint64_t block[WAL_BLOCK / sizeof(uint64_t)] = {0};
	struct wal_begin b = {0};
	bool begun = pread(f->fd, block, sizeof block, 0) == (ssize_t)sizeof block &&
	             wal_begin_check(block, NULL, &b) == 0 && b.segment == f->number;

	wal_name_format(name, f->number);
	if (w->c->json) {
		json_begin(&w->j, NULL, '{');
		json_string(&w->j, "file", name);
		json_string(&w->j, "state", wal_file_state_name(state));
		json_u64(&w->j, "bytes", f->bytes);
		if (begun) {
			json_u64(&w->j, "before_segment", b.before_segment);
			json_u64(&w->j, "before_cut_bytes", (uint64_t)b.before_block * WAL_BLOCK);
			json_u64(&w->j, "after_lsn", b.before_lsn);
			json_u64(&w->j, "begun_ns", b.time_ns);
		}
		json_end(&w->j, '}');
		return;
	}
	if (begun && b.before_segment)
		(void)snprintf(before, sizeof before, "%" PRIu64 " up to byte %" PRIu64,
			b.before_segment, (uint64_t)b.before_block * WAL_BLOCK);
	printf("%-20s %-8s %10s", name, wal_file_state_name(state), cli_size(f->bytes, size));
	if (begun)
		printf("  %16" PRIu64 "  %s\n", b.before_lsn, before);
	else
		printf("  %16s  %s\n", "-", "-");
}

static int list(struct wal_look *w)
{
	_cleanup_free_ enum wal_file_state *state = calloc(w->n_files, sizeof *state);
	struct wal_read_opts o = {.files = w->file, .n_files = w->n_files};

	if (!state || wal_read_states(&o, state) < 0)
		return cli_fail(w->c, CLI_FAILED, "no memory");
	if (w->c->json) {
		json_begin(&w->j, NULL, '{');
		json_begin(&w->j, "segments", '[');
	} else {
		printf("%-20s %-8s %10s  %16s  %s\n", "FILE", "STATE", "SIZE", "AFTER-LSN",
			"BEFORE");
	}
	for (size_t i = 0; i < w->n_files; i++)
		list_one(w, &w->file[i], state[i]);
	if (w->c->json) {
		json_end(&w->j, ']');
		json_end(&w->j, '}');
		json_finish(&w->j);
	}
	return cli_end(w->c, CLI_DONE);
}

/* ------------------------------------------------------------------- verify */

static void say_damage(void *arg, const struct wal_damage *d)
{
	struct wal_look *w = arg;
	char name[WAL_NAME_BYTES];

	w->n_damages++;
	wal_name_format(name, d->segment);
	if (w->c->json) {
		json_begin(&w->j, NULL, '{');
		json_string(&w->j, "kind", wal_damage_name(d->kind));
		json_string(&w->j, "file", name);
		json_u64(&w->j, "byte", d->off);
		json_u64(&w->j, "last_lsn_before", d->last_lsn);
		json_u64(&w->j, "first_lsn_after", d->next_lsn);
		json_u64(&w->j, "last_lsn_after", d->end_lsn);
		json_u64(&w->j, "lost_frames", d->lost_frames);
		json_u64(&w->j, "records_after", d->after_records);
		json_end(&w->j, '}');
		return;
	}
	printf("damaged: %s, byte %" PRIu64 ": %s\n", name, d->off, wal_damage_name(d->kind));
	if (d->error)
		printf("  the disk says: %s\n", strerror(-d->error));
	printf("  good before it: up to LSN %" PRIu64 "\n", d->last_lsn);
	if (d->next_lsn)
		printf("  good behind it: LSN %" PRIu64 " to %" PRIu64 ", %" PRIu64 " records\n",
			d->next_lsn, d->end_lsn, d->after_records);
	else
		printf("  nothing good is behind it\n");
	printf("  lost if it is passed by: %" PRIu64 " frames; if the log ends before it: %" PRIu64
	       " records more\n",
		d->lost_frames, d->after_records);
}

static void verify_json(struct wal_look *w, const struct wal_read_result *r)
{
	json_end(&w->j, ']');
	json_bool(&w->j, "good", w->n_damages == 0);
	json_bool(&w->j, "closed", r->closed);
	json_bool(&w->j, "torn", r->torn);
	json_u64(&w->j, "segments", r->n_segments);
	json_u64(&w->j, "frames", r->n_frames);
	json_u64(&w->j, "records", r->n_records);
	json_u64(&w->j, "bytes", r->n_bytes);
	json_u64(&w->j, "first_lsn", r->first_lsn);
	json_u64(&w->j, "last_lsn", r->last_lsn);
	json_u64(&w->j, "end_segment", r->end.segment);
	json_u64(&w->j, "end_byte", (uint64_t)r->end.block * WAL_BLOCK);
	json_end(&w->j, '}');
	json_finish(&w->j);
}

static int verify(struct wal_look *w)
{
	struct wal_read_opts o = {.files = w->file,
		.n_files = w->n_files,
		.choice = WAL_ON_DAMAGE_SKIP,
		.damage = say_damage,
		.arg = w};
	struct wal_read_result r;
	char size[CLI_TEXT_BYTES];

	if (w->c->json) {
		json_begin(&w->j, NULL, '{');
		json_begin(&w->j, "damages", '[');
	}
	int x = wal_read(&o, &r);
	if (x < 0)
		return cli_fail(w->c, CLI_FAILED, "%s: %s", w->path, strerror(-x));
	if (w->c->json) {
		verify_json(w, &r);
	} else if (!r.found && w->n_damages == 0) {
		printf("no log was begun in it\n");
	} else {
		printf("%s: %" PRIu64 " records in %" PRIu64 " frames, %s, of %" PRIu64
		       " segments; LSN %" PRIu64 " to %" PRIu64 "\n",
			w->n_damages ? "damaged" : "good", r.n_records, r.n_frames,
			cli_size(r.n_bytes, size), r.n_segments, r.first_lsn, r.last_lsn);
		printf("end: segment %" PRIu64 ", byte %" PRIu64 ": %s\n", r.end.segment,
			(uint64_t)r.end.block * WAL_BLOCK,
			r.closed ? "closed in good order"
			: r.torn ? "a torn tail, which was never acknowledged (or it is being "
				   "written)"
				 : "not closed: its writer died, or goes on");
	}
	return cli_end(w->c, w->n_damages ? CLI_MISS : CLI_DONE);
}

/* --------------------------------------------------------------------- dump */

static const char *kind_name(uint32_t kind)
{
	static const char *const names[] = {[WAL_SET] = "set",
		[WAL_DELETE] = "delete",
		[WAL_TOUCH] = "touch",
		[WAL_CLEAR] = "clear",
		[WAL_DROP] = "drop",
		[WAL_STORE] = "store",
		[WAL_EVICT] = "evict"};

	return kind < sizeof names / sizeof *names && names[kind] ? names[kind] : "?";
}

static int dump_json(struct wal_look *w, const struct wal_read_record *got)
{
	const struct wal_record *r = got->r;

	w->j.comma = false; /* an object a line */
	json_begin(&w->j, NULL, '{');
	json_u64(&w->j, "lsn", r->lsn);
	json_string(&w->j, "kind", kind_name(r->kind));
	json_u64(&w->j, "store_id", r->store_id);
	json_bytes(&w->j, "key", got->key, r->key_bytes);
	json_u64(&w->j, "value_bytes", r->value_bytes);
	json_bool(&w->j, "absent", (r->marks & WAL_ABSENT) != 0);
	json_u64(&w->j, "flags", r->flags);
	json_u64(&w->j, "ttl_ms", r->ttl_ms);
	json_u64(&w->j, "expires_ns", r->expiry_ns);
	json_u64(&w->j, "created_ns", r->created_ns);
	json_u64(&w->j, "modified_ns", r->modified_ns);
	json_u64(&w->j, r->marks & WAL_FRESH ? "fresh_until_ns" : "stamp", r->stamp);
	json_hex(&w->j, "session", r->session_id);
	json_u64(&w->j, "request", r->request);
	json_u64(&w->j, "segment", got->segment);
	json_u64(&w->j, "byte", got->off);
	json_end(&w->j, '}');
	json_finish(&w->j);
	return ferror(stdout) ? 1 : 0;
}

static int dump_one(void *arg, const struct wal_read_record *got)
{
	struct wal_look *w = arg;
	const struct wal_record *r = got->r;
	char key[CLI_TEXT_BYTES];

	if (w->c->json)
		return dump_json(w, got);
	printf("%" PRIu64 " %s store %" PRIu64, r->lsn, kind_name(r->kind), r->store_id);
	if (r->key_bytes)
		printf(" key \"%s\"%s", cli_text(got->key, r->key_bytes, key, sizeof key),
			r->key_bytes >= sizeof key ? "..." : "");
	if (r->kind == WAL_SET)
		printf(r->marks & WAL_ABSENT ? " absent" : " %" PRIu64 " bytes", r->value_bytes);
	if (r->expiry_ns)
		printf(" expires %" PRIu64 ".%03" PRIu64, r->expiry_ns / 1000000000,
			r->expiry_ns / 1000000 % 1000);
	putchar('\n');
	return ferror(stdout) ? 1 : 0;
}

static void dump_damage(void *arg, const struct wal_damage *d)
{
	struct wal_look *w = arg;
	char name[WAL_NAME_BYTES];

	w->n_damages++;
	wal_name_format(name, d->segment);
	fprintf(stderr, "hypercache: damaged: %s, byte %" PRIu64 ": %s\n", name, d->off,
		wal_damage_name(d->kind));
}

static int dump(struct wal_look *w)
{
	struct wal_read_opts o = {.files = w->file,
		.n_files = w->n_files,
		.choice = WAL_ON_DAMAGE_SKIP,
		.record = dump_one,
		.damage = dump_damage,
		.arg = w};
	struct wal_read_result r;
	int x = wal_read(&o, &r);

	if (x < 0)
		return cli_fail(w->c, CLI_FAILED, "%s: %s", w->path, strerror(-x));
	return cli_end(w->c, w->n_damages ? CLI_MISS : CLI_DONE);
}

int cli_wal(const struct cli *c)
{
	static const struct {
		const char *name;
		int (*run)(struct wal_look *w);
	} words[] = {{"list", list}, {"verify", verify}, {"dump", dump}};
	struct wal_look w = {0};

	for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
		if (strcmp(c->arg[0], words[i].name) != 0 || c->n_args != 2)
			continue;
		int status = look_open(&w, c);
		if (status == 0)
			status = words[i].run(&w);
		look_close(&w);
		return status;
	}
	return cli_fail(c, CLI_USAGE,
		"it is `hypercache wal list FOLDER`, `wal verify FOLDER|FILE` or `wal dump "
		"FOLDER|FILE`");
}
