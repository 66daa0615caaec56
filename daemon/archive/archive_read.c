/* archive_read.c - reads an archive, and believes nothing of it.
 *
 *   header   magic, version, checksum, then what it says
 *   block    its own header and its length within bounds; its bytes, into memory that grows as they come; its checksum;
 *            then it is unpacked, and its entries are given one by one
 *   end      counts and checksums of all, and that nothing follows
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "archive_i.h"
#include "base/err.h"
#include "crc.h"
#include "step.h"
#ifdef HC_ZSTD
#include <zstd.h>
#endif

enum { FAULT_BYTES = 192 };

struct buffer {
	uint8_t *bytes;
	size_t cap;
};

struct archive_reader {
	int fd;
	struct archive_head head;
	struct archive_store store[ARCHIVE_STORES_MAX];
	uint32_t n_stores, head_crc, all_crc;
	uint64_t read;               /* bytes */
	uint64_t block_off;          /* where the present block begins */
	struct buffer in, raw;       /* as stored; unpacked, if it was packed */
	const uint8_t *at, *behind;  /* what is left of the present block */
	uint32_t n_left;             /* entries in it */
	struct archive_end sum, end; /* what was read; what the end block says */
	int over;                    /* the condition that ended it; 0: it goes on */
	char fault[FAULT_BYTES];
};

static int fault(struct archive_reader *r, int condition, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int fault(struct archive_reader *r, int condition, const char *format, ...)
{
	int n = snprintf(r->fault, sizeof r->fault, "byte %" PRIu64 ", block %" PRIu64 ": ",
		r->block_off, r->sum.n_blocks);
	va_list args;

	if (r->read <= ARCHIVE_HEAD_BYTES)
		n = snprintf(r->fault, sizeof r->fault, "byte %" PRIu64 ", header: ", r->block_off);
	va_start(args, format);
	(void)vsnprintf(r->fault + n, sizeof r->fault - (size_t)n, format, args);
	va_end(args);
	r->over = condition;
	return condition;
}

/* ------------------------------------------------------------ bytes */

/* Up to n bytes; *ret_n is less only at the end of the file. */
static int take(struct archive_reader *r, void *to, size_t n, size_t *ret_n)
{
	*ret_n = 0;
	while (*ret_n < n) {
		ssize_t did = read(r->fd, (uint8_t *)to + *ret_n, n - *ret_n);
		if (did < 0 && errno == EINTR)
			continue;
		if (did < 0)
			return err_new(-errno);
		if (did == 0)
			break;
		*ret_n += (size_t)did;
		r->read += (uint64_t)did;
	}
	return 0;
}

static int cut(struct archive_reader *r)
{
	return fault(r, ARCHIVE_CUT,
		"the file ends at byte %" PRIu64
		", before its end block: it was cut, or its writer was interrupted",
		r->read);
}

static int buffer_grow(struct buffer *b, size_t want)
{
	if (want <= b->cap)
		return 0;
	uint8_t *more = realloc(b->bytes, want);
	if (!more)
		return err_new(-ENOMEM);
	b->bytes = more;
	b->cap = want;
	return 0;
}

/* n bytes into r->in: memory is taken as they come, so a length that lies costs nothing. */
static int take_stored(struct archive_reader *r, size_t n)
{
	for (size_t have = 0; have < n;) {
		size_t step = have < ARCHIVE_BLOCK_BYTES ? ARCHIVE_BLOCK_BYTES : have, got = 0;
		step = step < n - have ? step : n - have;
		int e = buffer_grow(&r->in, have + step);
		if (e == 0)
			e = take(r, r->in.bytes + have, step, &got);
		if (e < 0)
			return err_fwd(e);
		if (got < step)
			return cut(r);
		have += got;
	}
	return 0;
}

#ifdef HC_ZSTD
/* Exactly n bytes come out, into memory that grows with them. */
static int unpack_into(struct archive_reader *r, ZSTD_DCtx *zstd, size_t stored, size_t n)
{
	ZSTD_inBuffer in = {.src = r->in.bytes, .size = stored};
	ZSTD_outBuffer out = {0};
	size_t left = 1;

	while (left) {
		size_t more = out.pos < ARCHIVE_BLOCK_BYTES ? ARCHIVE_BLOCK_BYTES : 2 * out.pos;
		int e = buffer_grow(&r->raw, more < n ? more : n);
		if (e < 0)
			return err_fwd(e);
		size_t was_in = in.pos, was_out = out.pos;
		out.dst = r->raw.bytes;
		out.size = r->raw.cap < n ? r->raw.cap : n;
		left = ZSTD_decompressStream(zstd, &out, &in);
		if (ZSTD_isError(left))
			return fault(r, ARCHIVE_DAMAGED, "what is compressed in it: %s",
				ZSTD_getErrorName(left));
		if (left && in.pos == was_in && out.pos == was_out &&
			(in.pos == stored || out.pos == n))
			return fault(
				r, ARCHIVE_DAMAGED, "what is compressed in it is not %zu bytes", n);
	}
	if (out.pos != n || in.pos != stored)
		return fault(r, ARCHIVE_DAMAGED, "what is compressed in it is not %zu bytes", n);
	return 0;
}

static int unpack(struct archive_reader *r, size_t stored, size_t n)
{
	ZSTD_DCtx *zstd = ZSTD_createDCtx();

	if (!zstd)
		return err_new(-ENOMEM);
	int e = unpack_into(r, zstd, stored, n);
	(void)ZSTD_freeDCtx(zstd);
	if (e)
		return e;
	r->at = r->raw.bytes;
	r->behind = r->raw.bytes + n;
	return 0;
}
#else
static int unpack(struct archive_reader *r, size_t stored, size_t n)
{
	(void)stored;
	(void)n;
	return fault(r, ARCHIVE_NO_ZSTD,
		"it is compressed with zstd, and this program was built without libzstd");
}
#endif

/* ------------------------------------------------------------ header and stores */

static void head_decode(const uint8_t *b, struct archive_head *ret)
{
	ret->flags = get32(b + 12);
	memcpy(ret->id, b + 16, sizeof ret->id);
	memcpy(ret->log_id, b + 32, sizeof ret->log_id);
	ret->begin_lsn = get64(b + 48);
	ret->begun_ns = get64(b + 56);
}

static void end_decode(const uint8_t *b, struct archive_end *ret)
{
	*ret = (struct archive_end){.end_lsn = get64(b),
		.n_entries = get64(b + 8),
		.key_bytes = get64(b + 16),
		.value_bytes = get64(b + 24),
		.n_blocks = get64(b + 32),
		.ended_ns = get64(b + 40)};
}

static int head_read(struct archive_reader *r)
{
	uint8_t b[ARCHIVE_HEAD_BYTES];
	size_t n;
	int e = take(r, b, sizeof b, &n);

	if (e < 0)
		return err_fwd(e);
	if (n < ARCHIVE_MAGIC_BYTES || memcmp(b, ARCHIVE_MAGIC, ARCHIVE_MAGIC_BYTES) != 0)
		return fault(r, ARCHIVE_FOREIGN, "this is no archive of HyperCache");
	if (n < sizeof b)
		return cut(r);
	/* The version before the checksum: who comes later may have another one. */
	if (get32(b + 8) != ARCHIVE_VERSION && get32(b + 8) != 0)
		return fault(r, ARCHIVE_NEWER,
			"it is of version %u of the format, or damaged; this program reads version "
			"%u",
			get32(b + 8), ARCHIVE_VERSION);
	r->head_crc = shm_crc_bytes(0, b, ARCHIVE_HEAD_CRC);
	if (r->head_crc != get32(b + ARCHIVE_HEAD_CRC) || get32(b + 8) == 0)
		return fault(r, ARCHIVE_DAMAGED, "its checksum is wrong");
	head_decode(b, &r->head);
	for (size_t i = 64; i < ARCHIVE_HEAD_CRC; i++)
		if (b[i])
			return fault(r, ARCHIVE_DAMAGED, "byte %zu is not zero", i);
	if (r->head.flags & ~(uint32_t)ARCHIVE_CHECKPOINT)
		return fault(r, ARCHIVE_DAMAGED, "flags %#x", r->head.flags);
	return 0;
}

/* One of the stores block.  NULL: it is none. */
static const uint8_t *store_take(struct archive_reader *r, const uint8_t *at)
{
	struct archive_store *s = &r->store[r->n_stores];

	if (r->behind - at < ARCHIVE_STORE_BYTES)
		return NULL;
	size_t name = at[2], definition = get32(at + 4);
	if (get16(at) != r->n_stores || at[3] || name > ARCHIVE_NAME_MAX ||
		definition > ARCHIVE_DEFINITION_MAX ||
		(size_t)(r->behind - at) < ARCHIVE_STORE_BYTES + name + definition)
		return NULL;
	*s = (struct archive_store){.idx = r->n_stores, .id = get64(at + 8)};
	at += ARCHIVE_STORE_BYTES;
	memcpy(s->name, at, name);
	memcpy(s->definition, at + name, definition);
	if (!archive_name_ok(s->name, name) || !archive_definition_ok(s->definition, definition))
		return NULL;
	for (uint32_t i = 0; i < r->n_stores; i++)
		if (strcmp(r->store[i].name, s->name) == 0)
			return NULL;
	r->n_stores++;
	return at + name + definition;
}

static int stores_take(struct archive_reader *r, uint32_t n)
{
	const uint8_t *at = r->at;

	if (n > ARCHIVE_STORES_MAX)
		return fault(r, ARCHIVE_DAMAGED, "%u stores", n);
	for (uint32_t i = 0; i < n; i++)
		if (!(at = store_take(r, at)))
			return fault(r, ARCHIVE_DAMAGED, "store %u makes no sense", i);
	if (at != r->behind)
		return fault(r, ARCHIVE_DAMAGED, "bytes follow its stores");
	return 0;
}

/* ------------------------------------------------------------ blocks */

/* What a block's header may say, by its kind. */
static bool block_ok(const struct archive_reader *r, const uint8_t *b)
{
	uint32_t raw = get32(b + 16), stored = get32(b + 20), n = get32(b + 24);
	uint8_t kind = b[4], coding = b[5];

	if (get32(b) != ARCHIVE_BLOCK_MAGIC || get16(b + 6) || get64(b + 8) != r->sum.n_blocks ||
		coding > ARCHIVE_ZSTD ||
		(coding == ARCHIVE_PLAIN ? raw != stored : stored >= raw) ||
		(kind == ARCHIVE_KIND_STORES) != (r->sum.n_blocks == 0))
		return false;
	switch (kind) {
	case ARCHIVE_KIND_STORES:
		return raw <= ARCHIVE_STORES_MAX * (ARCHIVE_STORE_BYTES + ARCHIVE_NAME_MAX +
							   ARCHIVE_DEFINITION_MAX);
	case ARCHIVE_KIND_ENTRIES:
		return n >= 1 && raw <= (n == 1 ? ARCHIVE_RAW_MAX : ARCHIVE_BLOCK_BYTES);
	case ARCHIVE_KIND_END:
		return coding == ARCHIVE_PLAIN && raw == ARCHIVE_END_BYTES && n == 0;
	default:
		return false;
	}
}

static int end_take(struct archive_reader *r, uint32_t all_crc)
{
	const uint8_t *b = r->at;
	const struct archive_end *s = &r->sum;
	struct archive_end *e = &r->end;
	uint8_t more;
	size_t n;

	end_decode(b, e);
	if (e->end_lsn != s->end_lsn || e->n_entries != s->n_entries ||
		e->key_bytes != s->key_bytes || e->value_bytes != s->value_bytes ||
		e->n_blocks != s->n_blocks || get32(b + 48) != all_crc || get32(b + 52))
		return fault(r, ARCHIVE_DAMAGED, "its end block does not fit what was before it");
	int r0 = take(r, &more, 1, &n);
	if (r0 < 0)
		return err_fwd(r0);
	if (n)
		return fault(r, ARCHIVE_DAMAGED, "bytes follow its end block");
	r->over = ARCHIVE_END;
	return ARCHIVE_END;
}

/* The next block: its payload is at r->at.  0, a condition, -errno. */
static int block_read(struct archive_reader *r, uint8_t *ret_kind, uint32_t *ret_n)
{
	uint8_t b[ARCHIVE_BLOCK_HEAD_BYTES], crc[4];
	size_t got;

	r->block_off = r->read;
	int e = take(r, b, sizeof b, &got);
	if (e < 0)
		return err_fwd(e);
	if (got < sizeof b)
		return cut(r);
	if (!block_ok(r, b))
		return fault(r, ARCHIVE_DAMAGED, "its header makes no sense");
	uint32_t raw = get32(b + 16), stored = get32(b + 20);
	e = take_stored(r, stored);
	if (e)
		return err_fwd(e);
	put32(crc, shm_crc_bytes(
			   shm_crc_bytes(r->head_crc, b, ARCHIVE_BLOCK_CRC), r->in.bytes, stored));
	if (memcmp(crc, b + ARCHIVE_BLOCK_CRC, sizeof crc) != 0 &&
		!MUTANT(722)) /* 722: damage in a block is not seen */
		return fault(r, ARCHIVE_DAMAGED, "its checksum is wrong");
	r->at = r->in.bytes;
	r->behind = stored ? r->in.bytes + stored
	                   : r->in.bytes; /* of nothing there may be no buffer */
	if (b[5] == ARCHIVE_ZSTD)
		e = unpack(r, stored, raw);
	if (e)
		return e;
	*ret_kind = b[4];
	*ret_n = get32(b + 24);
	if (*ret_kind == ARCHIVE_KIND_END)
		return end_take(r, r->all_crc);
	r->all_crc = shm_crc_bytes(r->all_crc, crc, sizeof crc);
	r->sum.n_blocks++;
	return 0;
}

/* ------------------------------------------------------------ what others call */

int archive_reader_new(struct archive_reader **ret, int fd)
{
	struct archive_reader *r = calloc(1, sizeof *r);
	uint8_t kind;
	uint32_t n;

	if (!r)
		return err_new(-ENOMEM);
	r->fd = fd;
	int e = head_read(r);
	if (e == 0)
		e = block_read(r, &kind, &n);
	if (e == 0) {
		r->sum.n_blocks = 0; /* faults of its stores are of this one */
		e = stores_take(r, n);
		r->sum.n_blocks = 1;
	}
	if (e < 0) {
		archive_reader_free(r);
		return err_fwd(e);
	}
	r->at = r->behind;
	*ret = r;
	return e;
}

int archive_peek(int fd, struct archive_head *ret_head, struct archive_end *ret_end)
{
	uint8_t h[ARCHIVE_HEAD_BYTES], b[ARCHIVE_BLOCK_HEAD_BYTES + ARCHIVE_END_BYTES];
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_new(-errno);
	ssize_t n = pread(fd, h, sizeof h, 0);
	if (n < 0)
		return err_new(-errno);
	if (n < ARCHIVE_MAGIC_BYTES || memcmp(h, ARCHIVE_MAGIC, ARCHIVE_MAGIC_BYTES) != 0)
		return ARCHIVE_FOREIGN;
	if (n < (ssize_t)sizeof h || st.st_size < (off_t)(sizeof h + sizeof b))
		return ARCHIVE_CUT;
	if (get32(h + 8) != ARCHIVE_VERSION)
		return ARCHIVE_NEWER;
	uint32_t crc = shm_crc_bytes(0, h, ARCHIVE_HEAD_CRC);
	if (crc != get32(h + ARCHIVE_HEAD_CRC))
		return ARCHIVE_DAMAGED;
	n = pread(fd, b, sizeof b, st.st_size - (off_t)sizeof b);
	if (n != (ssize_t)sizeof b)
		return n < 0 ? err_new(-errno) : ARCHIVE_CUT;
	crc = shm_crc_bytes(crc, b, ARCHIVE_BLOCK_CRC);
	if (get32(b) != ARCHIVE_BLOCK_MAGIC || b[4] != ARCHIVE_KIND_END ||
		shm_crc_bytes(crc, b + ARCHIVE_BLOCK_HEAD_BYTES, ARCHIVE_END_BYTES) !=
			get32(b + ARCHIVE_BLOCK_CRC))
		return ARCHIVE_CUT;
	if (ret_head)
		head_decode(h, ret_head);
	if (ret_end)
		end_decode(b + ARCHIVE_BLOCK_HEAD_BYTES, ret_end);
	return 0;
}

const struct archive_head *archive_head_of(const struct archive_reader *r) { return &r->head; }

const struct archive_store *archive_stores_of(const struct archive_reader *r, uint32_t *ret_n)
{
	*ret_n = r->n_stores;
	return r->store;
}

static bool entry_decode(struct archive_reader *r, struct archive_entry *ret)
{
	const uint8_t *at = r->at;
	size_t left = (size_t)(r->behind - at);

	if (left < ARCHIVE_ENTRY_BYTES)
		return false;
	*ret = (struct archive_entry){.key_bytes = get32(at),
		.value_bytes = get32(at + 4),
		.store = get16(at + 8),
		.marks = get16(at + 10),
		.flags = get32(at + 12),
		.version = get64(at + 16),
		.created_ns = get64(at + 24),
		.modified_ns = get64(at + 32),
		.used_ns = get64(at + 40),
		.hits = get32(at + 48),
		.ttl_ms = get32(at + 52),
		.stamp = get64(at + 56),
		.expires_ns = get64(at + 64),
		.fresh_until_ns = get64(at + 72),
		.took_ms = get32(at + 80)};
	size_t bytes = (size_t)ret->key_bytes + ret->value_bytes;
	if (get32(at + 84) || !archive_entry_ok(ret, r->n_stores) ||
		left - ARCHIVE_ENTRY_BYTES < bytes)
		return false;
	ret->key = at + ARCHIVE_ENTRY_BYTES;
	ret->value = at + ARCHIVE_ENTRY_BYTES + ret->key_bytes;
	r->at = at + ARCHIVE_ENTRY_BYTES + bytes;
	return true;
}

static int entry_take(struct archive_reader *r, struct archive_entry *ret)
{
	if (!entry_decode(r, ret) || (r->n_left == 1 && r->at != r->behind)) {
		r->sum.n_blocks--;
		return fault(r, ARCHIVE_DAMAGED, "an entry in it makes no sense");
	}
	r->n_left--;
	r->sum.n_entries++;
	r->sum.key_bytes += ret->key_bytes;
	r->sum.value_bytes += ret->value_bytes;
	if (ret->version > r->sum.end_lsn)
		r->sum.end_lsn = ret->version;
	return 0;
}

int archive_next_some(
	struct archive_reader *r, struct archive_entry *ret, uint32_t max, uint32_t *ret_n)
{
	uint8_t kind;
	uint32_t n = 0;
	int e = r->over;

	if (e == 0 && r->n_left == 0)
		e = block_read(r, &kind, &r->n_left);
	while (e == 0 && n < max && r->n_left) {
		e = entry_take(r, &ret[n]);
		n += e == 0;
	}
	*ret_n = n;
	return n ? 0 : err_fwd(e); /* a fault behind the first of them is told by the next call */
}

int archive_next(struct archive_reader *r, struct archive_entry *ret)
{
	uint32_t n;

	return err_fwd(archive_next_some(r, ret, 1, &n));
}

const struct archive_end *archive_end_of(const struct archive_reader *r) { return &r->end; }
uint64_t archive_reader_bytes(const struct archive_reader *r) { return r->read; }
const char *archive_fault(const struct archive_reader *r) { return r->fault; }

void archive_reader_free(struct archive_reader *r)
{
	if (!r)
		return;
	free(r->in.bytes);
	free(r->raw.bytes);
	free(r);
}
