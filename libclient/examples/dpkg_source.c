/* dpkg_source.c - see dpkg_source.h. */
#include "dpkg_source.h"
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char package_field[] = "Package: ", arch_field[] = "Architecture: ";

uint64_t source_sum(const void *bytes, size_t n)
{
	const uint8_t *p = bytes;
	uint64_t sum = 0xcbf29ce484222325ull;

	for (size_t i = 0; i < n; i++)
		sum = (sum ^ p[i]) * 0x100000001b3ull;
	return sum;
}

/* ------------------------------------------------------------ reading a file */

static uint32_t stamp_of(const struct stat *st)
{
	uint64_t x = (uint64_t)st->st_mtim.tv_sec * 1000000007ull + (uint64_t)st->st_mtim.tv_nsec +
	             (uint64_t)st->st_size * 0x9e3779b97f4a7c15ull + st->st_ino;

	return (uint32_t)(x ^ x >> 32);
}

static int buf_reserve(struct source_buf *buf, size_t bytes)
{
	if (bytes <= buf->max)
		return 0;
	char *mem = realloc(buf->mem, bytes);
	if (!mem)
		return -ENOMEM;
	buf->mem = mem;
	buf->max = bytes;
	return 0;
}

void source_buf_free(struct source_buf *buf)
{
	free(buf->mem);
	*buf = (struct source_buf){0};
}

/* All of fd, which is of *st, into buf: value and value_bytes are the whole file.  0, -errno. */
static int read_all(int fd, const struct stat *st, size_t bytes_max, struct source_buf *buf)
{
	size_t want = (size_t)st->st_size, at = 0;

	if (want > bytes_max)
		return -EFBIG;
	if (buf_reserve(buf, want + 1) != 0)
		return -ENOMEM;
	while (at < want) {
		ssize_t n = read(fd, buf->mem + at, want - at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break; /* it was cut while we read: the stamp will tell */
		at += (size_t)n;
	}
	buf->mem[at] = 0;
	buf->value = buf->mem;
	buf->value_bytes = at;
	return 0;
}

static int file_read(
	const char *path, size_t bytes_max, struct source_buf *buf, uint32_t *ret_stamp)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		return -errno;
	int r = fstat(fd, &st) == 0 ? 0 : -errno;
	if (r == 0 && !S_ISREG(st.st_mode))
		r = -EINVAL;
	if (r == 0)
		r = read_all(fd, &st, bytes_max, buf);
	(void)close(fd);
	if (r == 0)
		*ret_stamp = stamp_of(&st);
	return r;
}

/* ------------------------------------------------------------ records */

/* The end of the record that begins at p: behind its last newline. */
static const char *record_end(const char *p, const char *end)
{
	const char *blank = memmem(p, (size_t)(end - p), "\n\n", 2);

	return blank ? blank + 1 : end;
}

/* The text behind a field's name in a record, up to the end of its line; NULL: it has none. */
static const char *field_find(
	const char *p, const char *end, const char *field, size_t field_bytes, size_t *ret_bytes)
{
	while (p < end) {
		const char *eol = memchr(p, '\n', (size_t)(end - p));
		if (!eol)
			eol = end;
		if ((size_t)(eol - p) > field_bytes && memcmp(p, field, field_bytes) == 0) {
			*ret_bytes = (size_t)(eol - p) - field_bytes;
			return p + field_bytes;
		}
		p = eol + 1;
	}
	return NULL;
}

/* Is the record at p..end the one that the key asks for? */
static int record_fits(const struct source_entry *e, const char *p, const char *end)
{
	size_t n;

	if (e->name_bytes == e->key_bytes)
		return 1;
	const char *arch = field_find(p, end, arch_field, sizeof arch_field - 1, &n);
	const char *want = e->key + e->name_bytes + 1;
	return arch && n == e->key_bytes - e->name_bytes - 1 && memcmp(arch, want, n) == 0;
}

/* Searches the status file in buf for the entry's record. */
static int record_search(const struct source_entry *e, struct source_buf *buf)
{
	char line[512];
	const char *p = buf->value, *end = p + buf->value_bytes;
	int n = snprintf(
		line, sizeof line, "\n%s%.*s\n", package_field, (int)e->name_bytes, e->key);

	if (n < 0 || (size_t)n >= sizeof line)
		return SOURCE_GONE;
	if (buf->value_bytes < (size_t)n || memcmp(p, line + 1, (size_t)n - 1) != 0)
		p = memmem(p, buf->value_bytes, line, (size_t)n);
	while (p) {
		p += *p == '\n'; /* all but the first record of the file */
		const char *stop = record_end(p, end);
		if (record_fits(e, p, stop)) {
			buf->value = p;
			buf->value_bytes = (size_t)(stop - p);
			return 0;
		}
		p = memmem(p, (size_t)(end - p), line, (size_t)n);
	}
	return SOURCE_GONE;
}

int source_read(const struct source *s, struct source_entry *e, struct source_buf *buf)
{
	size_t max = e->name_bytes ? SOURCE_STATUS_BYTES_MAX : SOURCE_FILE_BYTES_MAX;
	uint32_t stamp;

	if (file_read(e->name_bytes ? s->status : e->key, max, buf, &stamp) != 0)
		return SOURCE_GONE;
	if (e->name_bytes && record_search(e, buf) != 0)
		return SOURCE_GONE;
	if (stamp == e->stamp)
		return 0;
	e->stamp = stamp;
	e->bytes = buf->value_bytes;
	e->sum = source_sum(buf->value, buf->value_bytes);
	return SOURCE_CHANGED;
}

/* ------------------------------------------------------------ the catalogue */

/* Takes key over.  0, -ENOMEM (key is freed). */
static int entry_add(struct source *s, char *key, uint32_t name_bytes, const char *value, size_t n,
	uint32_t stamp)
{
	if (!key)
		return -ENOMEM;
	if (s->n == s->n_max) {
		size_t max = s->n_max ? 2 * s->n_max : 1024;
		struct source_entry *more = realloc(s->entry, max * sizeof *more);
		if (!more) {
			free(key);
			return -ENOMEM;
		}
		s->entry = more;
		s->n_max = max;
	}
	s->entry[s->n++] = (struct source_entry){.key = key,
		.key_bytes = (uint32_t)strlen(key),
		.name_bytes = name_bytes,
		.bytes = n,
		.sum = source_sum(value, n),
		.stamp = stamp};
	s->bytes += n;
	return 0;
}

/* The record at p..end, under the key name:architecture for now; what is none is passed over. */
static int record_add(struct source *s, const char *p, const char *end, uint32_t stamp)
{
	size_t name_bytes, arch_bytes;
	const char *name, *arch;
	char *key;

	name = field_find(p, end, package_field, sizeof package_field - 1, &name_bytes);
	arch = field_find(p, end, arch_field, sizeof arch_field - 1, &arch_bytes);
	if (!name || name != p + sizeof package_field - 1)
		return 0;
	if (asprintf(&key, "%.*s:%.*s", (int)name_bytes, name, arch ? (int)arch_bytes : 0,
		    arch ? arch : "") < 0)
		return -ENOMEM;
	return entry_add(s, key, (uint32_t)name_bytes, p, (size_t)(end - p), stamp);
}

static int by_key(const void *a, const void *b)
{
	const struct source_entry *x = a, *y = b;

	return strcmp(x->key, y->key);
}

static int same_name(const struct source_entry *a, const struct source_entry *b)
{
	return a->name_bytes == b->name_bytes && memcmp(a->key, b->key, a->name_bytes) == 0;
}

/* Where a name occurs once, it is the key. */
static void keys_shorten(struct source *s)
{
	int before = 0, next;

	qsort(s->entry, s->n, sizeof *s->entry, by_key);
	for (size_t i = 0; i < s->n; i++, before = next) {
		struct source_entry *e = &s->entry[i];
		next = i + 1 < s->n && same_name(e, e + 1);
		if (before || next)
			continue;
		e->key[e->name_bytes] = 0;
		e->key_bytes = e->name_bytes;
	}
}

static int records_load(struct source *s, char why[SOURCE_WHY_BYTES])
{
	struct source_buf buf = {0};
	uint32_t stamp;
	int r = file_read(s->status, SOURCE_STATUS_BYTES_MAX, &buf, &stamp);

	if (r < 0) {
		(void)snprintf(why, SOURCE_WHY_BYTES,
			"cannot read %s: %s; --source FILE names another file of package records",
			s->status, strerror(-r));
		source_buf_free(&buf);
		return -1;
	}
	const char *p = buf.value, *all_end = p + buf.value_bytes;
	while (p < all_end && r == 0 && s->n < SOURCE_RECORDS_MAX) {
		const char *end = record_end(p, all_end);
		r = record_add(s, p, end, stamp);
		for (p = end; p < all_end && *p == '\n';)
			p++;
	}
	source_buf_free(&buf);
	if (r == 0 && s->n > 0) {
		s->n_records = s->n;
		s->record_bytes = s->bytes;
		keys_shorten(s);
		return 0;
	}
	(void)snprintf(why, SOURCE_WHY_BYTES,
		r < 0 ? "no memory for the records of %s"
		      : "%s has no package record: its lines should be as dpkg writes them",
		s->status);
	return -1;
}

static int fts_by_name(const FTSENT **a, const FTSENT **b)
{
	return strcmp((*a)->fts_name, (*b)->fts_name);
}

/* A file of the folder that can be read and is of a fair size becomes an entry. */
static int file_add(struct source *s, const FTSENT *f, struct source_buf *buf)
{
	uint32_t stamp;

	if (f->fts_info != FTS_F || f->fts_statp->st_size == 0 ||
		f->fts_statp->st_size > SOURCE_FILE_BYTES_MAX)
		return 0;
	if (file_read(f->fts_path, SOURCE_FILE_BYTES_MAX, buf, &stamp) != 0 ||
		buf->value_bytes == 0)
		return 0;
	return entry_add(s, strdup(f->fts_path), 0, buf->value, buf->value_bytes, stamp);
}

static int files_load(struct source *s, const char *dir, char why[SOURCE_WHY_BYTES])
{
	char path[4096], *paths[] = {path, NULL};
	struct source_buf buf = {0};
	FTSENT *f;
	int r = 0;

	FTS *fts = realpath(dir, path)
	                   ? fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, fts_by_name)
	                   : NULL;
	if (!fts) {
		(void)snprintf(why, SOURCE_WHY_BYTES,
			"cannot read the folder %s: %s; --files DIR names another one, "
			"--files none does without",
			dir, strerror(errno));
		return -1;
	}
	while (r == 0 && s->n - s->n_records < SOURCE_FILES_MAX &&
		s->bytes - s->record_bytes < SOURCE_FILES_BYTES_MAX && (f = fts_read(fts)) != NULL)
		r = file_add(s, f, &buf);
	(void)fts_close(fts);
	source_buf_free(&buf);
	s->n_files = s->n - s->n_records;
	if (r < 0)
		(void)snprintf(why, SOURCE_WHY_BYTES, "no memory for the files of %s", dir);
	return r < 0 ? -1 : 0;
}

int source_load(
	struct source *s, const char *status, const char *files_dir, char why[SOURCE_WHY_BYTES])
{
	*s = (struct source){.status = status};
	if (records_load(s, why) == 0 && (!files_dir || files_load(s, files_dir, why) == 0))
		return 0;
	source_free(s);
	return -1;
}

void source_free(struct source *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->entry[i].key);
	free(s->entry);
	*s = (struct source){0};
}
