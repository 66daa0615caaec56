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

uint32_t shm_item_crc(const struct shm_item *it, uint64_t key_bytes, uint64_t value_bytes)
{
	const uint8_t *p = (const uint8_t *)it;
	uint32_t crc = ~0u;

	crc = add(crc, p, offsetof(struct shm_item, access));
	crc = add(crc, p + offsetof(struct shm_item, ttl_ms),
		offsetof(struct shm_item, expiry_ns) - offsetof(struct shm_item, ttl_ms));
	crc = add(crc, it + 1, key_bytes);
	return ~add(crc, p + shm_item_value_off(key_bytes), value_bytes);
}
