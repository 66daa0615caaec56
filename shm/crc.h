/* crc.h - the checksum of items and of the log: CRC-32C (Castagnoli) through ISA-L. */
#ifndef HC_SHM_CRC_H
#define HC_SHM_CRC_H

#include "layout/l_item.h"

/* Over the plain header words, key and value (layout/l_item.h says which).
 * key_bytes and value_bytes: already bounded by the caller, not read again. */
uint32_t shm_item_crc(const struct shm_item *it, uint64_t key_bytes, uint64_t value_bytes);

/* The same of an item that is being made, from where its parts come from: a header whose lengths are
 * set, the key, the value in two pieces.  So the item's own memory is only written: it is cold, and a
 * sum over what was just stored there would wait for it. */
uint32_t shm_item_crc_of(const struct shm_item *header, const void *key, const void *head,
	uint64_t head_bytes, const void *tail, uint64_t tail_bytes);

/* Of any bytes; crc: the sum of what was before them, or 0. */
uint32_t shm_crc_bytes(uint32_t crc, const void *bytes, uint64_t n);

#endif
