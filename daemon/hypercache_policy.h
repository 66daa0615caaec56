/* hypercache_policy.h - an eviction policy of your own, as a shared object that the engine loads.
 *
 * The object exports one symbol, `const struct hypercache_policy hypercache_policy`, and stands in the
 * configuration: policy_modules: /usr/lib/hypercache/policies/NAME.so; stores then say policy: NAME.
 *
 *   cc -shared -fPIC -o NAME.so NAME.c
 *
 * Rules.
 *  1. The engine gives each entry a number, from 1 on, small ones first, which is used again when the entry has gone. The
 *     functions are told of what happens to it, and victim says which entry is to go next.  It proposes, and the
 *     engine removes: until it has called remove, the same question may come again.
 *  2. A number that is no entry is not believed: the entry that came first goes in its place, and the log
 *     has a line.  Everything else is trusted: the code runs inside the engine, may read and write what the
 *     engine may, and its crash is the engine's.
 *  3. When the functions are called, all is locked down: no files, no threads, no other processes; memory may be
 *     taken (malloc).  What a policy needs beside that it reads in a constructor.  A call is to take a microsecond or two,
 *     and not the longer the more entries there are.
 *  4. One thread calls.  After the engine's death the next one calls `create` again, and insert for all entries that
 *     are there, in any order.
 *  5. Hits come late, some not at all, some twice.
 *
 * Versions.  An engine loads an object of its own major number, of whatever minor number: `bytes` says how
 * long its struct is, what is missing is taken for NULL, and what an older engine does not know it does not call.
 */
#ifndef HYPERCACHE_POLICY_H
#define HYPERCACHE_POLICY_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HYPERCACHE_POLICY_MAJOR 1
#define HYPERCACHE_POLICY_MINOR 0
#define HYPERCACHE_POLICY_PARAMS_MAX 8

enum hypercache_policy_type {
	HYPERCACHE_POLICY_NUMBER = 0,
	HYPERCACHE_POLICY_FRACTION = 1, /* in millionths */
	HYPERCACHE_POLICY_BYTES = 2,
	HYPERCACHE_POLICY_DURATION = 3, /* in ns */
};

/* What stands under policy_params.  Names and ranges as the configuration has them; a NUMBER and a FRACTION are below
 * 2^32. */
struct hypercache_policy_param {
	const char *name; /* up to 23 of a-z 0-9 _ - */
	uint32_t type;    /* enum hypercache_policy_type */
	uint32_t reserved;
	uint64_t min, max, def;
	const char *unit;    /* of a NUMBER, as "hits"; else "" */
	const char *meaning; /* whole sentences */
};

struct hypercache_policy {
	uint32_t abi_major, abi_minor; /* HYPERCACHE_POLICY_MAJOR, _MINOR */
	uint64_t bytes;                /* sizeof(struct hypercache_policy) */
	const char *name;              /* as the file's, without .so */
	const char *meaning;           /* one line */
	const struct hypercache_policy_param *params;
	uint32_t n_params;
	uint32_t param_bytes; /* sizeof(struct hypercache_policy_param) */

	/* For a store that may hold about so many bytes; one value for each parameter.  NULL: no memory. */
	void *(*create)(uint64_t store_bytes, const uint64_t *values);
	void (*destroy)(void *state);
	/* A new entry, of a key with this hash.  0, or -1: no memory, and the entry is not kept. */
	int (*insert)(void *state, uint32_t entry, uint64_t hash, uint64_t bytes, uint64_t now_ms);
	void (*hit)(void *state, uint32_t entry, uint64_t now_ms);
	/* evicted: 1, for want of room; 0, for another reason. */
	void (*remove)(void *state, uint32_t entry, int evicted);
	/* The entry to go next.  There is at least one. */
	uint32_t (*victim)(void *state, uint64_t now_ms);
	/* May be NULL.  The entry was overwritten, and takes so many bytes now. */
	void (*overwrite)(void *state, uint32_t entry, uint64_t bytes, uint64_t now_ms);
	/* May be NULL.  Under pressure: is a new key worth more than what would go for it? */
	int (*admits)(void *state, uint64_t hash, uint64_t now_ms);
	/* May be NULL.  The bytes of memory that it has taken. */
	uint64_t (*memory)(const void *state);
};

#ifdef __cplusplus
}
#endif

#endif
