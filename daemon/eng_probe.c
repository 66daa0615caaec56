/* eng_probe.c - the engine's probes; see eng_probe.h. */
#include "eng_probe.h"

#ifdef HC_PROBES
#define SDT_USE_VARIADIC
#define _SDT_HAS_SEMAPHORES 1
#include <sys/sdt.h>

PROBES_ENGINE(PROBE_SEMAPHORE_)
PROBES_ENGINE(PROBE_FUNCTION_)

void eng_probe_lost(struct eng_pool *p, const struct eng_store *s, uint64_t off, enum eng_lost how,
	bool expired, uint64_t now_ns)
{
	const struct shm_item *it = shm_pool_item(&p->w, off);
	uint64_t daemon = p->e->ctl->seg.daemon_id, bytes = shm_alloc_place_bytes(p->w.alloc, off);
	uint64_t wall_ns = eng_wall_ns(), key_bytes = shm_lens_key(it->lens),
		 now_ms = now_ns / 1000000;
	uint64_t age_ms = wall_ns > it->modified_ns ? (wall_ns - it->modified_ns) / 1000000 : 0;
	uint64_t used_ms = shm_load_rlx(&it->access) >> SHM_ACCESS_MS_SHIFT;
	uint64_t over_ns = shm_load_rlx(&it->expiry_ns);

	if (expired) {
		PROBE(expire, s->idx, it + 1, key_bytes, age_ms,
			now_ns > over_ns ? (now_ns - over_ns) / 1000000 : 0, bytes, it->hash,
			daemon);
		return;
	}
	uint64_t idle_ms = used_ms && used_ms <= now_ms ? now_ms - used_ms : age_ms;
	PROBE(evict, s->idx, it + 1, key_bytes, how, age_ms, bytes, idle_ms, it->hash, daemon);
}

void eng_probe_publish(const struct eng_pool *p, const struct eng_store *s,
	const struct shm_set *set, int32_t status, uint64_t version)
{
	PROBE(publish, s->idx, set->key.bytes, set->key.n_bytes, status, set->value_bytes, version,
		set->key.hash, p->e->ctl->seg.daemon_id);
}

#else
void eng_probe_lost(struct eng_pool *p, const struct eng_store *s, uint64_t off, enum eng_lost how,
	bool expired, uint64_t now_ns)
{
	(void)p;
	(void)s;
	(void)off;
	(void)how;
	(void)expired;
	(void)now_ns;
}
void eng_probe_publish(const struct eng_pool *p, const struct eng_store *s,
	const struct shm_set *set, int32_t status, uint64_t version)
{
	(void)p;
	(void)s;
	(void)set;
	(void)status;
	(void)version;
}
#endif
