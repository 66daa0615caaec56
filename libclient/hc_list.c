/* hc_list.c - hc_store_next: which stores there are. */
#include <stdio.h>
#include <string.h>
#include "hc_i.h"

_Static_assert(
	sizeof((struct hc_store_info *)0)->name == SHM_NAME_BYTES, "as the directory has them");

/* The words of the configuration, in its order. */
static const char *const types[] = {"general", "session", "ttl"};

/* Of a directory entry; words that the engine may be writing: a checked copy of them. */
static void fill(const struct hc *hc, const struct shm_store_entry *e, struct hc_store_info *to)
{
	uint32_t pool = e->pool_idx, type = e->type;

	memcpy(to->name, e->name, sizeof to->name - 1); /* the last byte is 0 */
	memcpy(to->policy, e->policy, sizeof to->policy - 1);
	(void)snprintf(to->type, sizeof to->type, "%s",
		type < sizeof types / sizeof *types ? types[type] : "?");
	if (pool < SHM_POOLS_MAX) {
		memcpy(to->pool, hc->ctl->pool[pool].name, sizeof to->pool - 1);
		to->readable = hc->pool[pool].mapped;
	}
	to->ttl_ms = shm_load_rlx(&e->default_ttl_ns) / 1000000;
	to->entries = shm_load_rlx(&e->counter[SHM_SC_entries]);
	to->bytes = shm_load_rlx(&e->counter[SHM_SC_live_bytes]);
	to->guaranteed_bytes = shm_load_rlx(&e->guaranteed_bytes);
	to->limit_bytes = shm_load_rlx(&e->limit_bytes);
	to->limit_entries = shm_load_rlx(&e->limit_entries);
	to->sliding = shm_load_rlx(&e->sliding) & SHM_STORE_SLIDES ? 1 : 0;
}

int hc_store_next(const struct hc *hc, uint32_t *cursor, struct hc_store_info *ret)
{
	if (!hc || !cursor || !ret || ret->size < sizeof ret->size)
		return HC_E_INVAL;
	if (hc_forked(hc))
		return HC_E_FORKED;
	while (*cursor < SHM_STORES_MAX) {
		const struct shm_store_entry *e = &hc->ctl->store[(*cursor)++];
		struct hc_store_info info = {
			.size = ret->size, .id = shm_load_acq(&e->id)}; /* acq:entry.id */
		if (info.id == 0)
			continue;
		fill(hc, e, &info);
		shm_copy_over(); /* acq:entry.reuse */
		if (shm_load_rlx(&e->id) != info.id)
			continue; /* dropped meanwhile */
		memcpy(ret, &info, ret->size < sizeof info ? ret->size : sizeof info);
		return HC_OK;
	}
	return HC_MISS;
}
