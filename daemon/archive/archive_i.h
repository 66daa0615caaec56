/* archive_i.h - where the bytes of an archive are: what its writer and its reader share. */
#ifndef HC_DAEMON_ARCHIVE_I_H
#define HC_DAEMON_ARCHIVE_I_H

#include <endian.h>
#include <string.h>
#include "archive.h"

#define ARCHIVE_MAGIC "HCARCHIV"
#define ARCHIVE_BLOCK_MAGIC 0x42414348u /* "HCAB" */

enum archive_kind { ARCHIVE_KIND_STORES = 1, ARCHIVE_KIND_ENTRIES = 2, ARCHIVE_KIND_END = 3 };
enum archive_coding { ARCHIVE_PLAIN = 0, ARCHIVE_ZSTD = 1 };

enum {
	ARCHIVE_MAGIC_BYTES = 8,
	ARCHIVE_ID_BYTES = 16,
	ARCHIVE_HEAD_BYTES = 128,
	ARCHIVE_HEAD_CRC = 124,
	ARCHIVE_BLOCK_HEAD_BYTES = 32,
	ARCHIVE_BLOCK_CRC = 28,
	ARCHIVE_STORE_BYTES = 16,
	ARCHIVE_ENTRY_BYTES = 88,
	ARCHIVE_END_BYTES = 56,
};

static inline void put16(uint8_t *to, uint16_t v)
{
	v = htole16(v);
	memcpy(to, &v, sizeof v);
}
static inline void put32(uint8_t *to, uint32_t v)
{
	v = htole32(v);
	memcpy(to, &v, sizeof v);
}
static inline void put64(uint8_t *to, uint64_t v)
{
	v = htole64(v);
	memcpy(to, &v, sizeof v);
}
static inline uint16_t get16(const uint8_t *from)
{
	uint16_t v;
	memcpy(&v, from, sizeof v);
	return le16toh(v);
}
static inline uint32_t get32(const uint8_t *from)
{
	uint32_t v;
	memcpy(&v, from, sizeof v);
	return le32toh(v);
}
static inline uint64_t get64(const uint8_t *from)
{
	uint64_t v;
	memcpy(&v, from, sizeof v);
	return le64toh(v);
}

/* Does the entry say of itself what it may?  n_stores: of the archive. */
static inline bool archive_entry_ok(const struct archive_entry *e, uint32_t n_stores)
{
	bool absent = e->marks & ARCHIVE_ABSENT, fresh = e->marks & ARCHIVE_FRESH;

	return e->key_bytes >= 1 && e->key_bytes <= ARCHIVE_KEY_MAX &&
	       e->value_bytes <= ARCHIVE_VALUE_MAX && e->store < n_stores &&
	       (e->marks & ~(uint32_t)(ARCHIVE_ABSENT | ARCHIVE_FRESH)) == 0 &&
	       !(absent && (e->value_bytes || fresh)) &&
	       (fresh ? e->stamp == 0 : e->fresh_until_ns == 0 && e->took_ms == 0);
}

/* A name as the configuration allows them, terminated within n bytes. */
bool archive_name_ok(const char *name, size_t n);
/* Printable ASCII and line ends. */
bool archive_definition_ok(const char *text, size_t n);

#endif
