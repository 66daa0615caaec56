/* wal_file.c - segments as files: names, begins, zeroes: see wal_read.h. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/err.h"
#include "wal_frame.h"
#include "wal_read.h"

enum { NAME_DIGITS = 12, ZERO_BYTES = 1 << 20 };

void wal_name_format(char ret_name[WAL_NAME_BYTES], uint64_t number)
{
	(void)snprintf(
		ret_name, WAL_NAME_BYTES, "%0*llu.wal", NAME_DIGITS, (unsigned long long)number);
}

bool wal_name_parse(const char *name, uint64_t *ret_number)
{
	char again[WAL_NAME_BYTES], *end;

	if (!isdigit((unsigned char)name[0]))
		return false;
	errno = 0;
	unsigned long long number = strtoull(name, &end, 10);
	if (errno || number == 0 || strcmp(end, ".wal") != 0)
		return false;
	wal_name_format(again, number);
	if (strcmp(again, name) != 0)
		return false;
	*ret_number = number;
	return true;
}

static bool all_zero(const uint8_t *p, size_t n)
{
	return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

int wal_begin_check(const void *block, const uint8_t *identity, struct wal_begin *ret)
{
	const struct wal_frame *f = block;
	const struct wal_begin *b = (const struct wal_begin *)((const uint8_t *)block + WAL_SECTOR);

	if (all_zero(block, WAL_BLOCK))
		return WAL_BEGIN_ZERO;
	if (f->magic != WAL_FRAME_MAGIC || b->magic != WAL_BEGIN_MAGIC)
		return err_new(-EBADMSG);
	if (b->major != WAL_FORMAT_MAJOR)
		return err_new(-EPROTO);
	if (wal_frame_check(f, b->identity, b->segment, 0, 1) < 0 ||
		wal_frame_bad_unit(f, b->identity) != f->n_units ||
		!(f->flags & WAL_FRAME_BEGINS) || b->before_segment >= b->segment ||
		b->segment_bytes % WAL_BLOCK || b->segment_bytes < WAL_SEGMENT_BYTES_MIN ||
		b->segment_bytes > WAL_SEGMENT_BYTES_MAX)
		return err_new(-EBADMSG);
	if (identity && memcmp(identity, b->identity, sizeof b->identity) != 0)
		return WAL_BEGIN_OTHER;
	*ret = *b;
	return 0;
}

int wal_segment_zero(int fd, uint64_t from, uint64_t bytes)
{
	void *zeroes;
	int r = 0;

	if (posix_memalign(&zeroes, WAL_BLOCK, ZERO_BYTES) != 0)
		return err_new(-ENOMEM);
	memset(zeroes, 0, ZERO_BYTES);
	for (uint64_t at = from; at < from + bytes && r == 0;) {
		uint64_t left = from + bytes - at;
		ssize_t n = pwrite(fd, zeroes, left < ZERO_BYTES ? left : ZERO_BYTES, (off_t)at);
		if (n <= 0)
			r = err_new(n < 0 ? -errno : -ENOSPC);
		else
			at += (uint64_t)n;
	}
	if (r == 0 && fdatasync(fd) != 0)
		r = err_new(-errno);
	free(zeroes);
	return r;
}

const char *wal_file_state_name(enum wal_file_state s)
{
	static const char *const names[] = {[WAL_FILE_CHAIN] = "log",
		[WAL_FILE_UNUSED] = "unused",
		[WAL_FILE_VOID] = "void",
		[WAL_FILE_OTHER] = "other",
		[WAL_FILE_DAMAGED] = "damaged",
		[WAL_FILE_OLD] = "old"};

	return (size_t)s < sizeof names / sizeof *names && names[s] ? names[s] : "?";
}

const char *wal_damage_name(enum wal_damage_kind kind)
{
	static const char *const names[] = {[WAL_DAMAGE_FRAME] = "frame",
		[WAL_DAMAGE_UNIT] = "contents",
		[WAL_DAMAGE_RECORD] = "record",
		[WAL_DAMAGE_CHAIN] = "chain",
		[WAL_DAMAGE_ORDER] = "order",
		[WAL_DAMAGE_BEGIN] = "begin",
		[WAL_DAMAGE_MISSING] = "missing",
		[WAL_DAMAGE_SHORT] = "short",
		[WAL_DAMAGE_READ] = "unreadable",
		[WAL_DAMAGE_TAIL] = "tail"};

	return (size_t)kind < sizeof names / sizeof *names && names[kind] ? names[kind] : "?";
}
