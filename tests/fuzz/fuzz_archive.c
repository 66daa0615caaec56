/* fuzz_archive.c - can any bytes that are given as an archive do harm, or be taken for one that is whole?
 *
 * As they are; and once more with all checksums made right, so that what lies behind them is reached: what is taken
 * then adds up.
 */
#include "../../daemon/archive/archive_i.h"
#include "../../shm/crc.h"
#include "../unit/archive_world.h"
#include "fuzz.h"

static int read_all(const uint8_t *data, size_t bytes)
{
	struct archive_reader *r = NULL;
	struct archive_entry e;
	struct archive_end sum = {0};
	volatile uint8_t last = 0;
	uint32_t n_stores;
	int fd = archive_memfd();

	CHECK_EQ(write(fd, data, bytes), (ssize_t)bytes);
	CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
	int result = archive_reader_new(&r, fd);
	CHECK(result >= 0); /* neither memory nor reading fails */
	(void)archive_stores_of(r, &n_stores);
	while (result == 0) {
		result = archive_next(r, &e);
		CHECK(result >= 0);
		if (result)
			break;
		CHECK(archive_entry_ok(&e, n_stores));
		last = ((const uint8_t *)e.key)[e.key_bytes - 1];
		if (e.value_bytes)
			last = ((const uint8_t *)e.value)[e.value_bytes - 1];
		sum.n_entries++;
		sum.key_bytes += e.key_bytes;
		sum.value_bytes += e.value_bytes;
	}
	(void)last;
	CHECK_EQ(archive_fault(r)[0] == 0, result == ARCHIVE_END);
	if (result == ARCHIVE_END) {
		CHECK_EQ(archive_end_of(r)->n_entries, sum.n_entries);
		CHECK_EQ(archive_end_of(r)->key_bytes, sum.key_bytes);
		CHECK_EQ(archive_end_of(r)->value_bytes, sum.value_bytes);
	}
	archive_reader_free(r);
	CHECK_EQ(close(fd), 0);
	return result;
}

/* Makes the checksums right, as far as there are whole blocks. */
static void mend(uint8_t *b, size_t bytes)
{
	uint32_t head_crc, all = 0;

	if (bytes < ARCHIVE_HEAD_BYTES)
		return;
	head_crc = shm_crc_bytes(0, b, ARCHIVE_HEAD_CRC);
	put32(b + ARCHIVE_HEAD_CRC, head_crc);
	for (size_t at = ARCHIVE_HEAD_BYTES; bytes - at >= ARCHIVE_BLOCK_HEAD_BYTES;) {
		uint8_t *h = b + at;
		size_t stored = get32(h + 20);
		at += ARCHIVE_BLOCK_HEAD_BYTES;
		if (stored > bytes - at)
			return;
		if (h[4] == ARCHIVE_KIND_END && stored >= ARCHIVE_END_BYTES)
			put32(b + at + 48, all);
		put32(h + ARCHIVE_BLOCK_CRC,
			shm_crc_bytes(
				shm_crc_bytes(head_crc, h, ARCHIVE_BLOCK_CRC), b + at, stored));
		all = shm_crc_bytes(all, h + ARCHIVE_BLOCK_CRC, 4);
		at += stored;
	}
}

static enum fuzz_verdict fuzz_one(const uint8_t *data, size_t bytes)
{
	uint8_t *copy = malloc(bytes ? bytes : 1);

	CHECK(copy);
	int result = read_all(data, bytes);
	if (bytes)
		memcpy(copy, data, bytes);
	mend(copy, bytes);
	(void)read_all(copy, bytes);
	free(copy);
	return result == ARCHIVE_END ? FUZZ_GOOD : FUZZ_BAD;
}

FUZZ_TESTS(6000)
