/* crc.h - the checksum of an item: CRC-32C (Castagnoli) through ISA-L. */
#ifndef HC_SHM_CRC_H
#define HC_SHM_CRC_H

#include "layout/l_item.h"

/* Over the plain header words, key and value (layout/l_item.h says which).
 * key_bytes and value_bytes: already bounded by the caller, not read again. */
uint32_t shm_item_crc(const struct shm_item *it, uint64_t key_bytes, uint64_t value_bytes);

#endif
