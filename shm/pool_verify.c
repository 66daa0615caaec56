/* pool_verify.c - what an adopting engine leaves for later: the contents' checksums.
 *
 * Adoption has looked at every header and link, so everything can be worked with; whether a dying
 * engine scribbled over keys and values, only the checksums tell (rule P4).  The engine goes through the
 * index in steps; as long as it is not through, `unverified` is set, and a change that looks at an entry
 * verifies that one first (pool_set.c).
 */
#include <stddef.h>
#include "crc.h"
#include "pool_i.h"

enum { VERIFY_CHAINS = 8, LINE_BYTES = 64, AHEAD_LINES = 6 };

bool shm_pool_item_is_whole(const struct shm_item *it)
{
	return shm_item_crc(it, shm_lens_key(it->lens), shm_lens_value(it->lens)) == it->crc;
}

struct verify {
	struct shm_wpool *w;
	uint64_t *off;
	uint32_t n, max;
	uint64_t bytes; /* looked at */
	bool more;      /* damaged ones than fit */
};

/* Asks for the first lines of an item, so that the waits overlap. */
static void ask_ahead(void *arg, shm_u64 *slot, uint64_t word, uint64_t chain, uint32_t log2)
{
	const struct verify *v = arg;
	const uint8_t *it = v->w->base + shm_word_off(word);

	(void)slot;
	(void)chain;
	(void)log2;
	for (int i = 0; i < AHEAD_LINES; i++)
		__builtin_prefetch(it + LINE_BYTES * i);
}

static void look(void *arg, shm_u64 *slot, uint64_t word, uint64_t chain, uint32_t log2)
{
	struct verify *v = arg;
	uint64_t off = shm_word_off(word);
	const struct shm_item *it = shm_pool_item(v->w, off);

	(void)slot;
	(void)chain;
	(void)log2;
	v->bytes += shm_item_bytes(shm_lens_key(it->lens), shm_lens_value(it->lens));
	if (shm_pool_item_is_whole(it))
		return;
	if (v->n == v->max)
		v->more = true;
	else
		v->off[v->n++] = off;
}

uint32_t shm_pool_find_damaged(
	struct shm_wpool *w, uint64_t *cursor, uint64_t bytes, uint64_t *off, uint32_t max)
{
	struct verify v = {.w = w, .off = off, .max = max};
	uint64_t next = *cursor;

	do {
		(void)shm_index_walk_from(w, next, VERIFY_CHAINS, ask_ahead, &v);
		next = shm_index_walk_from(w, next, VERIFY_CHAINS, look, &v);
		v.bytes += LINE_BYTES * VERIFY_CHAINS; /* an empty chain costs, too */
		if (v.more) /* these chains again, without what was found */
			return v.n;
		*cursor = next;
	} while (next && v.bytes < bytes);
	return v.n;
}
