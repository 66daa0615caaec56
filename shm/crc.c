/* crc.c - see crc.h. */
#include "crc.h"
#include <isa-l/crc.h>

enum { PIECE_BYTES = 1 << 30 }; /* the library counts in int */

static uint32_t add(uint32_t crc, const void *bytes, uint64_t n)
{
	unsigned char *p = (unsigned char *)(uintptr_t)bytes; /* the library does not write */

	while (n > 0) {
		int piece = n > PIECE_BYTES ? PIECE_BYTES : (int)n;
		crc = crc32_iscsi(p, piece, crc);
		p += piece;
		n -= (uint64_t)piece;
	}
	return crc;
}

/* The library leaves the upper halves of AVX registers in use.  Each SSE instruction after that
 * waits for what they hold: 110 ns for the copy of one item of 340 bytes (measured). */
static uint32_t end(uint32_t crc)
{
#ifdef __x86_64__
	if (__builtin_cpu_supports("avx"))
		__asm__ volatile("vzeroupper"); /* bare: an instruction, no memory */
#endif
	return ~crc;
}

static uint32_t add_header(const struct shm_item *it)
{
	const uint8_t *p = (const uint8_t *)it;
	uint32_t crc = add(~0u, p, offsetof(struct shm_item, access));

	return add(crc, p + offsetof(struct shm_item, ttl_ms),
		offsetof(struct shm_item, expiry_ns) - offsetof(struct shm_item, ttl_ms));
}

uint32_t shm_item_crc(const struct shm_item *it, uint64_t key_bytes, uint64_t value_bytes)
{
	uint32_t crc = add(add_header(it), it + 1, key_bytes);

	return end(add(crc, (const uint8_t *)it + shm_item_value_off(key_bytes), value_bytes));
}

uint32_t shm_item_crc_of(const struct shm_item *header, const void *key, const void *head,
	uint64_t head_bytes, const void *tail, uint64_t tail_bytes)
{
	uint32_t crc = add(add_header(header), key, shm_lens_key(header->lens));

	return end(add(add(crc, head, head_bytes), tail, tail_bytes));
}

uint32_t shm_crc_bytes(uint32_t crc, const void *bytes, uint64_t n)
{
	return end(add(~crc, bytes, n));
}
