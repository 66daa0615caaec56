/* trace.c - see trace.h. */
#include "trace.h"
#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>
#ifdef HC_ZSTD
#include <zstd.h>
#endif

enum { CHUNK_BYTES = 1 << 17, U32_BYTES = 4, ORACLE_BYTES = 24 };
enum format { FORMAT_U32, FORMAT_ORACLE, FORMAT_CSV };

struct trace {
	FILE *file;
	char *path;
	enum format format;
	uint64_t line; /* CSV: of the request read last, from 1 */
	bool ended;    /* the file has no more */
	size_t begin, end;
	uint8_t bytes[2 * CHUNK_BYTES]; /* [begin, end) are to be read */
#ifdef HC_ZSTD
	ZSTD_DStream *zstd; /* NULL: the file is not compressed */
	bool whole;         /* what was decompressed ended with a frame */
	ZSTD_inBuffer in;
	uint8_t packed[CHUNK_BYTES];
#endif
};

static bool ends_with(const char *text, size_t n, const char *end)
{
	size_t m = strlen(end);

	return n >= m && memcmp(text + n - m, end, m) == 0;
}

static int say(char why[TRACE_WHY_BYTES], int r, const struct trace *t, const char *what)
{
	(void)snprintf(why, TRACE_WHY_BYTES, "%s: %s", t->path, what);
	return r;
}

void trace_close(struct trace *t)
{
	if (!t)
		return;
#ifdef HC_ZSTD
	(void)ZSTD_freeDStream(t->zstd);
#endif
	if (t->file)
		(void)fclose(t->file);
	free(t->path);
	free(t);
}

static int open_packed(struct trace *t, char why[TRACE_WHY_BYTES])
{
#ifdef HC_ZSTD
	t->zstd = ZSTD_createDStream();
	t->whole = true;
	t->in = (ZSTD_inBuffer){.src = t->packed};
	return t->zstd ? 0 : say(why, -ENOMEM, t, "no memory");
#else
	return say(why, -ENOTSUP, t,
		"this program was built without libzstd: decompress the file first (zstd -d)");
#endif
}

int trace_open(const char *path, struct trace **ret, char why[TRACE_WHY_BYTES])
{
	struct trace *t = calloc(1, sizeof *t);
	size_t n = strlen(path);
	int r = 0;

	*ret = NULL;
	if (!t || !(t->path = strdup(path))) {
		free(t);
		(void)snprintf(why, TRACE_WHY_BYTES, "no memory");
		return -ENOMEM;
	}
	if (ends_with(path, n, ".zst")) {
		r = open_packed(t, why);
		n -= strlen(".zst");
	}
	if (r == 0 && ends_with(path, n, ".u32"))
		t->format = FORMAT_U32;
	else if (r == 0 && ends_with(path, n, ".oracleGeneral"))
		t->format = FORMAT_ORACLE;
	else if (r == 0 && ends_with(path, n, ".csv"))
		t->format = FORMAT_CSV;
	else if (r == 0)
		r = say(why, -EINVAL, t,
			"its name must end with .u32, .oracleGeneral or .csv, which tells the "
			"format, "
			"and may have .zst behind that");
	if (r == 0 && !(t->file = fopen(path, "re"))) {
		r = -errno;
		(void)say(why, r, t, strerror(errno));
	}
	if (r < 0) {
		trace_close(t);
		return r;
	}
	*ret = t;
	return 0;
}

/* ------------------------------------------------------------ bytes */

static int read_some(struct trace *t, void *to, size_t max, size_t *ret, char why[TRACE_WHY_BYTES])
{
	*ret = fread(to, 1, max, t->file);
	if (*ret < max && ferror(t->file))
		return say(why, -EIO, t, "cannot be read to its end");
	return 0;
}

#ifdef HC_ZSTD
static int unpack_some(struct trace *t, char why[TRACE_WHY_BYTES])
{
	ZSTD_outBuffer out = {.dst = t->bytes, .size = sizeof t->bytes, .pos = t->end};

	while (out.pos == t->end) {
		if (t->in.pos == t->in.size) {
			int r = read_some(t, t->packed, sizeof t->packed, &t->in.size, why);
			t->in.pos = 0;
			if (r < 0)
				return r;
			if (t->in.size == 0) {
				t->ended = true;
				return t->whole ? 0 : say(why, -EBADMSG, t, "the file is cut off");
			}
		}
		size_t left = ZSTD_decompressStream(t->zstd, &out, &t->in);
		if (ZSTD_isError(left))
			return say(why, -EBADMSG, t, ZSTD_getErrorName(left));
		t->whole = left == 0;
	}
	t->end = out.pos;
	return 0;
}
#endif

/* More bytes behind those that are there, of which there are fewer than CHUNK_BYTES. */
static int fill(struct trace *t, char why[TRACE_WHY_BYTES])
{
	size_t n = 0;

	memmove(t->bytes, t->bytes + t->begin, t->end - t->begin);
	t->end -= t->begin;
	t->begin = 0;
#ifdef HC_ZSTD
	if (t->zstd)
		return unpack_some(t, why);
#endif
	int r = read_some(t, t->bytes + t->end, sizeof t->bytes - t->end, &n, why);
	t->end += n;
	t->ended = n == 0;
	return r;
}

/* 0 and the next n bytes; 1 at the end; -errno. */
static int take(struct trace *t, size_t n, const uint8_t **ret, char why[TRACE_WHY_BYTES])
{
	while (t->end - t->begin < n && !t->ended) {
		int r = fill(t, why);
		if (r < 0)
			return r;
	}
	if (t->end == t->begin)
		return 1;
	if (t->end - t->begin < n)
		return say(why, -EBADMSG, t, "it ends within a record");
	*ret = t->bytes + t->begin;
	t->begin += n;
	return 0;
}

/* ------------------------------------------------------------ formats */

static int next_u32(struct trace *t, struct trace_request *ret, char why[TRACE_WHY_BYTES])
{
	const uint8_t *p = NULL;
	uint32_t object;
	int r = take(t, U32_BYTES, &p, why);

	if (r)
		return r;
	memcpy(&object, p, sizeof object);
	*ret = (struct trace_request){.object = le32toh(object)};
	return 0;
}

static int next_oracle(struct trace *t, struct trace_request *ret, char why[TRACE_WHY_BYTES])
{
	const uint8_t *p = NULL;
	uint32_t time_s, bytes;
	uint64_t object;
	int r = take(t, ORACLE_BYTES, &p, why);

	if (r)
		return r;
	memcpy(&time_s, p, sizeof time_s);
	memcpy(&object, p + 4, sizeof object);
	memcpy(&bytes, p + 12, sizeof bytes);
	*ret = (struct trace_request){
		.object = le64toh(object), .time_s = le32toh(time_s), .bytes = le32toh(bytes)};
	return 0;
}

/* 0 and the next line without its end; 1 at the end; -errno. */
static int next_line(struct trace *t, char **ret, size_t *ret_n, char why[TRACE_WHY_BYTES])
{
	const uint8_t *end = NULL;

	for (;;) {
		end = memchr(t->bytes + t->begin, '\n', t->end - t->begin);
		if (end || t->ended)
			break;
		if (t->end - t->begin > CHUNK_BYTES)
			return say(why, -EBADMSG, t, "a line is longer than 128 KiB");
		int r = fill(t, why);
		if (r < 0)
			return r;
	}
	if (t->begin == t->end)
		return 1;
	*ret = (char *)t->bytes + t->begin;
	*ret_n = end ? (size_t)(end - (t->bytes + t->begin)) : t->end - t->begin;
	t->begin += *ret_n + (end != NULL);
	t->line++;
	if (*ret_n && (*ret)[*ret_n - 1] == '\r')
		(*ret_n)--;
	return 0;
}

/* A decimal number that is the whole of the n bytes. */
static bool number_of(const char *text, size_t n, uint64_t *ret)
{
	*ret = 0;
	for (size_t i = 0; i < n; i++) {
		if (text[i] < '0' || text[i] > '9' || *ret > (UINT64_MAX - 9) / 10)
			return false;
		*ret = *ret * 10 + (uint64_t)(text[i] - '0');
	}
	return n > 0;
}

enum { FIELDS = 3 };

/* The line's first fields; what is behind the third does not count.  Returns how many. */
static int split(const char *line, size_t n, const char *field[FIELDS], size_t bytes[FIELDS])
{
	int k = 0;

	for (const char *p = line, *end = line + n; k < FIELDS; k++) {
		const char *comma = memchr(p, ',', (size_t)(end - p));
		field[k] = p;
		bytes[k] = (size_t)((comma ? comma : end) - p);
		if (!comma)
			return k + 1;
		p = comma + 1;
	}
	return k;
}

static bool csv_of(const char *line, size_t n, struct trace_request *ret)
{
	const char *field[FIELDS] = {0};
	size_t bytes[FIELDS] = {0};
	int k = split(line, n, field, bytes), key = k == FIELDS;
	uint64_t value_bytes = 0, time_s = 0;

	if (k == FIELDS && !number_of(field[0], bytes[0], &time_s))
		return false;
	if (k >= 2 &&
		(!number_of(field[k - 1], bytes[k - 1], &value_bytes) || value_bytes > UINT32_MAX))
		return false;
	if (bytes[key] == 0 || bytes[key] > TRACE_KEY_BYTES_MAX)
		return false;
	*ret = (struct trace_request){.object = XXH3_64bits(field[key], bytes[key]),
		.time_s = time_s,
		.bytes = (uint32_t)value_bytes,
		.key = field[key],
		.key_bytes = bytes[key]};
	return true;
}

static int next_csv(struct trace *t, struct trace_request *ret, char why[TRACE_WHY_BYTES])
{
	char *line = NULL, text[128];
	size_t n = 0;

	for (;;) {
		int r = next_line(t, &line, &n, why);
		if (r)
			return r;
		if (n == 0)
			continue;
		if (csv_of(line, n, ret))
			return 0;
		if (t->line > 1) {
			(void)snprintf(text, sizeof text,
				"line %llu: it must be KEY, or KEY,BYTES, or SECONDS,KEY,BYTES",
				(unsigned long long)t->line);
			return say(why, -EBADMSG, t, text);
		}
	}
}

int trace_next(struct trace *t, struct trace_request *ret, char why[TRACE_WHY_BYTES])
{
	switch (t->format) {
	case FORMAT_U32:
		return next_u32(t, ret, why);
	case FORMAT_ORACLE:
		return next_oracle(t, ret, why);
	case FORMAT_CSV:
		return next_csv(t, ret, why);
	}
	return 1;
}
