/* wal_chain.c - which files are the log: see wal_read_i.h.
 *
 *   the newest file with a good begin --names--> the one before, and its cut --names--> ...
 *
 * A begin that is not right, or a file that is not there, breaks the chain of names: then the next lower file with a good
 * begin goes on, and the reader says what is damaged.  Files above the newest good begin may hold frames behind a begin that
 * was torn: they are put at the end, to be looked at and never to be read. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "base/err.h"
#include "step.h"
#include "wal_frame.h"
#include "wal_read_i.h"

int64_t wal_bytes_at(const struct wal_file *f, uint64_t off, void *to, size_t bytes)
{
	size_t done = 0;

	if (off >= f->bytes)
		return 0;
	bytes = bytes < f->bytes - off ? bytes : f->bytes - off;
	if (f->map) {
		memcpy(to, f->map + off, bytes);
		return (int64_t)bytes;
	}
	while (done < bytes) {
		ssize_t n = pread(f->fd, (uint8_t *)to + done, bytes - done, (off_t)(off + done));
		if (n < 0)
			return err_new(-errno);
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (int64_t)done;
}

int wal_bytes_load(struct wal_bytes *b, const struct wal_file *f)
{
	enum { PIECE = 1 << 22 };
	uint64_t bytes = f->bytes < WAL_SEGMENT_BYTES_MAX ? f->bytes : WAL_SEGMENT_BYTES_MAX;

	b->error = 0;
	b->n_blocks = 0;
	if (f->map && (uintptr_t)f->map % 8 == 0) {
		b->at = f->map;
		b->n_blocks = (uint32_t)(bytes / WAL_BLOCK);
		return 0;
	}
	if (b->own_bytes < bytes) {
		wal_bytes_free(b);
		void *p = mmap(
			NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED)
			return err_new(-ENOMEM);
		b->own = p;
		b->own_bytes = bytes;
	}
	b->at = b->own;
	for (uint64_t off = 0; off < bytes;) {
		uint64_t left = bytes - off;
		int64_t n = wal_bytes_at(f, off, b->own + off, left < PIECE ? left : PIECE);
		if (n < 0)
			b->error = (int)n;
		if (n <= 0)
			break;
		off += (uint64_t)n;
		b->n_blocks = (uint32_t)(off / WAL_BLOCK);
	}
	return 0;
}

void wal_bytes_free(struct wal_bytes *b)
{
	if (b->own)
		(void)munmap(b->own, b->own_bytes);
	*b = (struct wal_bytes){0};
}

static const struct wal_file *file_of(const struct wal_read_opts *o, uint64_t number)
{
	for (size_t i = 0; i < o->n_files; i++)
		if (o->files[i].number == number)
			return &o->files[i];
	return NULL;
}

static int begin_of(const struct wal_file *f, const uint8_t *identity, struct wal_begin *ret)
{
	uint64_t block[WAL_BLOCK / sizeof(uint64_t)];
	int64_t n = wal_bytes_at(f, 0, block, sizeof block);

	if (n < (int64_t)sizeof block)
		return n < 0 ? err_fwd((int)n) : err_new(-EBADMSG);
	return err_fwd(wal_begin_check(block, identity, ret));
}

/* A file is begun if its begin says its own number. */
static bool is_begun(const struct wal_file *f, const uint8_t *identity, struct wal_begin *ret)
{
	return begin_of(f, identity, ret) == 0 && ret->segment == f->number;
}

static int add(struct wal_chain *c, struct wal_link l)
{
	if (c->n == c->room) {
		size_t room = c->room ? 2 * c->room : 16;
		struct wal_link *link = realloc(c->link, room * sizeof *link);
		if (!link)
			return err_new(-ENOMEM);
		c->link = link;
		c->room = room;
	}
	c->link[c->n++] = l;
	return 0;
}

/* The highest begun file below `number`, or NULL. */
static const struct wal_file *begun_below(
	const struct wal_read_opts *o, const uint8_t *identity, uint64_t number)
{
	const struct wal_file *best = NULL;
	struct wal_begin b;

	for (size_t i = 0; i < o->n_files; i++) {
		const struct wal_file *f = &o->files[i];
		if (f->number < number && (!best || f->number > best->number) &&
			is_begun(f, identity, &b))
			best = f;
	}
	return best;
}

/* Does it matter what is before this one? */
static bool is_first(const struct wal_read_opts *o, const struct wal_begin *b)
{
	if (b->before_segment == 0)
		return true;
	if (o->from_lsn)
		return b->before_lsn < o->from_lsn;
	for (size_t i = 0; i < o->n_files; i++)
		if (o->files[i].number <= b->before_segment)
			return false;
	return true; /* recycled, all of them: who reads has not said what he needs */
}

/* The chain from `newest` backwards; into c the wrong way round. */
static int name_backwards(
	const struct wal_read_opts *o, struct wal_chain *c, const struct wal_file *newest)
{
	struct wal_link l = {.file = newest, .number = newest->number, .cut = UINT32_MAX};

	for (size_t turn = 0; turn <= 2 * o->n_files; turn++) { /* numbers become smaller */
		l.begun = l.file && is_begun(l.file, c->identity, &l.begin);
		l.below = !l.begun;
		int r = add(c, l);
		if (r < 0)
			return err_fwd(r);
		if (l.begun && is_first(o, &l.begin))
			return 0;
		struct wal_link next = {.cut = UINT32_MAX};
		if (l.begun) {
			next.number = l.begin.before_segment;
			next.file = file_of(o, next.number);
			next.cut = MUTANT(713) ? UINT32_MAX
			                       : l.begin.before_block; /* 713: no cuts */
			next.cut_crc = l.begin.before_crc;
			next.cut_sequence = l.begin.before_sequence;
		} else {
			next.file = begun_below(o, c->identity, l.number);
			if (!next.file)
				return 0;
			next.number = next.file->number;
		}
		l = next;
	}
	return 0;
}

static void turn_round(struct wal_chain *c)
{
	for (size_t i = 0; i < c->n / 2; i++) {
		struct wal_link l = c->link[i];
		c->link[i] = c->link[c->n - 1 - i];
		c->link[c->n - 1 - i] = l;
	}
}

static const struct wal_file *newest_of(const struct wal_read_opts *o, struct wal_chain *c)
{
	const struct wal_file *best = NULL;
	struct wal_begin b;

	for (size_t i = 0; i < o->n_files; i++) {
		const struct wal_file *f = &o->files[i];
		if ((best && f->number < best->number) || !is_begun(f, o->identity, &b))
			continue;
		best = f;
		memcpy(c->identity, b.identity, sizeof c->identity);
	}
	if (!best && o->identity)
		memcpy(c->identity, o->identity, sizeof c->identity);
	return best;
}

/* Is there a frame of this log in a file whose begin says nothing? */
static bool has_frames(const struct wal_chain *c, const struct wal_file *f)
{
	struct wal_chain one = {0};
	struct wal_link l = {.file = f, .number = f->number, .cut = UINT32_MAX};
	struct wal_after after;

	one.link = &l;
	one.n = 1;
	memcpy(one.identity, c->identity, sizeof one.identity);
	return wal_after_look(&one, 0, NULL, 0, 1, false, &after) == 0 && after.any;
}

static enum wal_file_state state_of(const struct wal_chain *c, const struct wal_file *f)
{
	struct wal_begin b;

	for (size_t i = 0; i < c->n_known; i++)
		if (c->link[i].file == f)
			return c->link[i].begun ? WAL_FILE_CHAIN : WAL_FILE_DAMAGED;
	int r = begin_of(f, c->identity, &b);
	if (r == 0 && b.segment == f->number)
		return c->n_known && f->number < c->link[0].number ? WAL_FILE_OLD : WAL_FILE_VOID;
	if (r == WAL_BEGIN_OTHER || r == -EPROTO || (r == 0 && b.segment > f->number))
		return WAL_FILE_OTHER;
	if (c->n_known && f->number < c->link[c->n_known - 1].number)
		return r == -EBADMSG ? WAL_FILE_VOID : WAL_FILE_UNUSED;
	if (has_frames(c, f))
		return WAL_FILE_DAMAGED;
	return r == -EBADMSG ? WAL_FILE_OTHER : WAL_FILE_UNUSED;
}

int wal_chain_make(const struct wal_read_opts *o, struct wal_chain *ret)
{
	struct wal_chain c = {0};
	const struct wal_file *newest = newest_of(o, &c);
	int r = 0;

	c.found = newest != NULL;
	c.state = calloc(o->n_files ? o->n_files : 1, sizeof *c.state);
	if (!c.state)
		return err_new(-ENOMEM);
	if (newest)
		r = name_backwards(o, &c, newest);
	turn_round(&c);
	c.n_known = c.n;
	for (size_t i = 0; i < o->n_files && r == 0; i++) {
		const struct wal_file *f = &o->files[i];
		c.state[i] = state_of(&c, f);
		if (c.state[i] == WAL_FILE_DAMAGED && (!newest || f->number > newest->number))
			r = add(&c, (struct wal_link){
					    .file = f, .number = f->number, .cut = UINT32_MAX});
	}
	if (r < 0) {
		wal_chain_free(&c);
		return err_fwd(r);
	}
	*ret = c;
	return 0;
}

void wal_chain_free(struct wal_chain *c)
{
	free(c->link);
	free(c->state);
	*c = (struct wal_chain){0};
}

int wal_read_states(const struct wal_read_opts *opts, enum wal_file_state *ret_states)
{
	struct wal_chain c;
	int r = wal_chain_make(opts, &c);

	if (r < 0)
		return err_fwd(r);
	for (size_t i = 0; i < opts->n_files; i++)
		ret_states[i] = c.state[i];
	wal_chain_free(&c);
	return 0;
}
