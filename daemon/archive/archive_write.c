/* archive_write.c - writes an archive, a block at a time. */
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include "archive_i.h"
#include "base/err.h"
#include "crc.h"
#ifdef HC_ZSTD
#include <zstd.h>
#endif

struct archive_writer {
	int fd;
	uint32_t n_stores;
	uint32_t head_crc; /* what each block's crc begins from */
	uint32_t all_crc;  /* of all blocks' crcs */
	struct archive_writer_opts opts;
	uint8_t *raw, *packed; /* the block that is being made; its compressed form */
	size_t raw_cap, packed_cap, raw_bytes;
	uint32_t n; /* entries in it */
	uint64_t written, synced;
	struct archive_end end;
#ifdef HC_ZSTD
	ZSTD_CCtx *zstd;
#endif
};

static uint64_t wall_ns(void)
{
	struct timespec t = {0};

	(void)clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

bool archive_name_ok(const char *name, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-",
			    name[i]) ||
			!name[i])
			return false;
	return n >= 1 && n <= ARCHIVE_NAME_MAX;
}

bool archive_definition_ok(const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((text[i] < ' ' || text[i] > '~') && text[i] != '\n')
			return false;
	return n <= ARCHIVE_DEFINITION_MAX;
}

/* ------------------------------------------------------------ bytes */

static int write_all(struct archive_writer *w, struct iovec *v, int n)
{
	while (n > 0) {
		ssize_t did = writev(w->fd, v, n);
		if (did < 0 && errno == EINTR)
			continue;
		if (did <= 0)
			return err_new(did < 0 ? -errno : -EIO);
		w->written += (uint64_t)did;
		while (n > 0 && (size_t)did >= v->iov_len) {
			did -= (ssize_t)v->iov_len;
			v++;
			n--;
		}
		if (n > 0) {
			v->iov_base = (uint8_t *)v->iov_base + did;
			v->iov_len -= (size_t)did;
		}
	}
	if (w->opts.sync_bytes && w->written - w->synced >= w->opts.sync_bytes) {
		if (fdatasync(w->fd) < 0)
			return err_new(-errno);
		w->synced = w->written;
	}
	return 0;
}

/* *ret and its bytes: what is stored of the block. */
static int pack(struct archive_writer *w, uint8_t **ret, size_t *ret_bytes, uint8_t *ret_coding)
{
	*ret = w->raw;
	*ret_bytes = w->raw_bytes;
	*ret_coding = ARCHIVE_PLAIN;
#ifdef HC_ZSTD
	if (!w->opts.zstd_level)
		return 0;
	size_t most = ZSTD_compressBound(w->raw_bytes);
	if (most > w->packed_cap) {
		free(w->packed);
		w->packed_cap = 0;
		w->packed = malloc(most);
		if (!w->packed)
			return err_new(-ENOMEM);
		w->packed_cap = most;
	}
	size_t n = ZSTD_compressCCtx(
		w->zstd, w->packed, w->packed_cap, w->raw, w->raw_bytes, w->opts.zstd_level);
	if (ZSTD_isError(n))
		return err_new(-ENOMEM);
	if (n >= w->raw_bytes)
		return 0; /* it gains nothing */
	*ret = w->packed;
	*ret_bytes = n;
	*ret_coding = ARCHIVE_ZSTD;
#endif
	return 0;
}

static int block_write(struct archive_writer *w, enum archive_kind kind)
{
	uint8_t head[ARCHIVE_BLOCK_HEAD_BYTES] = {0}, crc[4], *stored, coding;
	size_t stored_bytes;
	int r = pack(w, &stored, &stored_bytes, &coding);

	if (r < 0)
		return err_fwd(r);
	put32(head, ARCHIVE_BLOCK_MAGIC);
	head[4] = (uint8_t)kind;
	head[5] = coding;
	put64(head + 8, w->end.n_blocks);
	put32(head + 16, (uint32_t)w->raw_bytes);
	put32(head + 20, (uint32_t)stored_bytes);
	put32(head + 24, w->n);
	put32(head + ARCHIVE_BLOCK_CRC,
		shm_crc_bytes(
			shm_crc_bytes(w->head_crc, head, ARCHIVE_BLOCK_CRC), stored, stored_bytes));
	memcpy(crc, head + ARCHIVE_BLOCK_CRC, sizeof crc);
	w->all_crc = shm_crc_bytes(w->all_crc, crc, sizeof crc);
	w->end.n_blocks++;
	w->raw_bytes = 0;
	w->n = 0;
	struct iovec v[2] = {{.iov_base = head, .iov_len = sizeof head},
		{.iov_base = stored, .iov_len = stored_bytes}};
	return err_fwd(write_all(w, v, 2));
}

/* Room for so many more bytes in the block.  What a large entry took is given back behind it. */
static int reserve(struct archive_writer *w, size_t bytes)
{
	size_t want = w->raw_bytes + bytes;

	want = want < ARCHIVE_BLOCK_BYTES ? ARCHIVE_BLOCK_BYTES : want;
	if (want <= w->raw_cap && (want > ARCHIVE_BLOCK_BYTES || w->raw_cap == ARCHIVE_BLOCK_BYTES))
		return 0;
	uint8_t *more = realloc(w->raw, want);
	if (!more)
		return err_new(-ENOMEM);
	w->raw = more;
	w->raw_cap = want;
	return 0;
}

/* ------------------------------------------------------------ header and stores */

static int head_write(struct archive_writer *w, const struct archive_head *given)
{
	uint8_t b[ARCHIVE_HEAD_BYTES] = {0};
	struct archive_head h = *given;
	struct iovec v = {.iov_base = b, .iov_len = sizeof b};
	static const uint8_t none[sizeof h.id];

	if (memcmp(h.id, none, sizeof none) == 0 &&
		getrandom(h.id, sizeof h.id, 0) != (ssize_t)sizeof h.id)
		return err_new(-errno);
	memcpy(b, ARCHIVE_MAGIC, ARCHIVE_MAGIC_BYTES);
	put32(b + 8, ARCHIVE_VERSION);
	put32(b + 12, h.flags);
	memcpy(b + 16, h.id, sizeof h.id);
	memcpy(b + 32, h.log_id, sizeof h.log_id);
	put64(b + 48, h.begin_lsn);
	put64(b + 56, h.begun_ns ? h.begun_ns : wall_ns());
	w->head_crc = shm_crc_bytes(0, b, ARCHIVE_HEAD_CRC);
	put32(b + ARCHIVE_HEAD_CRC, w->head_crc);
	return err_fwd(write_all(w, &v, 1));
}

static int store_put(struct archive_writer *w, const struct archive_store *s)
{
	size_t name = strlen(s->name), definition = strlen(s->definition);

	if (!archive_name_ok(s->name, name) || !archive_definition_ok(s->definition, definition))
		return err_new(-EINVAL);
	int r = reserve(w, ARCHIVE_STORE_BYTES + name + definition);
	if (r < 0)
		return err_fwd(r);
	uint8_t *to = w->raw + w->raw_bytes;
	memset(to, 0, ARCHIVE_STORE_BYTES);
	put16(to, (uint16_t)w->n);
	to[2] = (uint8_t)name;
	put32(to + 4, (uint32_t)definition);
	put64(to + 8, s->id);
	memcpy(to + ARCHIVE_STORE_BYTES, s->name, name);
	memcpy(to + ARCHIVE_STORE_BYTES + name, s->definition, definition);
	w->raw_bytes += ARCHIVE_STORE_BYTES + name + definition;
	w->n++;
	return 0;
}

static int begin(struct archive_writer *w, const struct archive_head *head,
	const struct archive_store *store, uint32_t n_stores)
{
	int r = reserve(w, 0);

	if (r == 0)
		r = head_write(w, head);
	for (uint32_t i = 0; i < n_stores && r == 0; i++)
		r = store_put(w, &store[i]);
	return r < 0 ? err_fwd(r) : err_fwd(block_write(w, ARCHIVE_KIND_STORES));
}

int archive_writer_new(struct archive_writer **ret, int fd, const struct archive_head *head,
	const struct archive_store *store, uint32_t n_stores,
	const struct archive_writer_opts *opts)
{
	if (n_stores > ARCHIVE_STORES_MAX)
		return err_new(-EINVAL);
	struct archive_writer *w = calloc(1, sizeof *w);
	if (!w)
		return err_new(-ENOMEM);
	w->fd = fd;
	w->n_stores = n_stores;
	if (opts)
		w->opts = *opts;
	int r = 0;
#ifdef HC_ZSTD
	if (w->opts.zstd_level && !(w->zstd = ZSTD_createCCtx()))
		r = err_new(-ENOMEM);
#else
	if (w->opts.zstd_level)
		r = err_new(-ENOTSUP);
#endif
	if (r == 0)
		r = begin(w, head, store, n_stores);
	if (r < 0) {
		archive_writer_free(w);
		return r;
	}
	*ret = w;
	return 0;
}

void archive_writer_free(struct archive_writer *w)
{
	if (!w)
		return;
#ifdef HC_ZSTD
	(void)ZSTD_freeCCtx(w->zstd);
#endif
	free(w->raw);
	free(w->packed);
	free(w);
}

/* ------------------------------------------------------------ entries */

static void entry_encode(uint8_t *to, const struct archive_entry *e)
{
	put32(to, e->key_bytes);
	put32(to + 4, e->value_bytes);
	put16(to + 8, (uint16_t)e->store);
	put16(to + 10, (uint16_t)e->marks);
	put32(to + 12, e->flags);
	put64(to + 16, e->version);
	put64(to + 24, e->created_ns);
	put64(to + 32, e->modified_ns);
	put64(to + 40, e->used_ns);
	put32(to + 48, e->hits);
	put32(to + 52, e->ttl_ms);
	put64(to + 56, e->stamp);
	put64(to + 64, e->expires_ns);
	put64(to + 72, e->fresh_until_ns);
	put32(to + 80, e->took_ms);
	put32(to + 84, 0);
	memcpy(to + ARCHIVE_ENTRY_BYTES, e->key, e->key_bytes);
	if (e->value_bytes)
		memcpy(to + ARCHIVE_ENTRY_BYTES + e->key_bytes, e->value, e->value_bytes);
}

int archive_put(struct archive_writer *w, const struct archive_entry *e)
{
	size_t bytes = (size_t)ARCHIVE_ENTRY_BYTES + e->key_bytes + e->value_bytes;
	int r = 0;

	if (!archive_entry_ok(e, w->n_stores))
		return err_new(-EINVAL);
	if (w->n && w->raw_bytes + bytes > ARCHIVE_BLOCK_BYTES)
		r = block_write(w, ARCHIVE_KIND_ENTRIES);
	if (r == 0)
		r = reserve(w, bytes);
	if (r < 0)
		return err_fwd(r);
	entry_encode(w->raw + w->raw_bytes, e);
	w->raw_bytes += bytes;
	w->n++;
	w->end.n_entries++;
	w->end.key_bytes += e->key_bytes;
	w->end.value_bytes += e->value_bytes;
	if (e->version > w->end.end_lsn)
		w->end.end_lsn = e->version;
	return 0;
}

uint64_t archive_writer_bytes(const struct archive_writer *w) { return w->written; }

int archive_finish(struct archive_writer *w, struct archive_end *ret)
{
	int r = w->n ? block_write(w, ARCHIVE_KIND_ENTRIES) : 0;

	if (r == 0)
		r = reserve(w, ARCHIVE_END_BYTES);
	if (r < 0)
		return err_fwd(r);
	struct archive_end end = w->end;
	end.ended_ns = wall_ns();
	uint8_t *b = w->raw;
	memset(b, 0, ARCHIVE_END_BYTES);
	put64(b, end.end_lsn);
	put64(b + 8, end.n_entries);
	put64(b + 16, end.key_bytes);
	put64(b + 24, end.value_bytes);
	put64(b + 32, end.n_blocks);
	put64(b + 40, end.ended_ns);
	put32(b + 48, w->all_crc);
	w->raw_bytes = ARCHIVE_END_BYTES;
	w->opts.zstd_level = 0;
	r = block_write(w, ARCHIVE_KIND_END);
	if (r < 0)
		return err_fwd(r);
	if (ret)
		*ret = end;
	return 0;
}
