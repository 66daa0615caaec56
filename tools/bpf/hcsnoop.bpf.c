/* hcsnoop.bpf.c - hands every operation over, as it ends. */
#include "hct.bpf.h"
#include "hcsnoop.h"

const volatile __u32 ops = 0; /* bare: a constant: bit i: enum hcsnoop_op i is wanted */

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, HCSNOOP_RING_BYTES);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, HCSNOOP_SETS);
	__type(key, u64);   /* thread */
	__type(value, u64); /* when it began */
} sets SEC(".maps");

static __always_inline int tell(u32 op, u64 daemon, u32 store, const void *key, u64 key_bytes,
	s32 result, u64 bytes, u64 ns)
{
	if (!hct_wanted(daemon, store) || !(ops >> op & 1))
		return 0;
	struct hcsnoop_event *e = bpf_ringbuf_reserve(&ring, sizeof *e, 0);
	if (!e) {
		hct_count(true);
		return 0;
	}
	__builtin_memset(e, 0, sizeof *e);
	e->at_ns = bpf_ktime_get_ns();
	e->key_bytes = key_bytes;
	e->bytes = bytes;
	e->ns = ns;
	e->pid = hct_pid();
	e->store = store;
	e->op = op;
	e->result = result;
	bpf_get_current_comm(e->comm, sizeof e->comm);
	if (key)
		hct_key_copy(e->key, key, key_bytes);
	bpf_ringbuf_submit(e, 0);
	return 0;
}

HCT_PROBE(get__end) { return tell(HCSNOOP_get, daemon, store, key, key_bytes, result, bytes, ns); }

HCT_PROBE(view__end)
{
	return tell(HCSNOOP_view, daemon, store, key, key_bytes, result, bytes, ns);
}

HCT_PROBE(mget__end) { return tell(HCSNOOP_mget, daemon, store, NULL, keys, result, bytes, ns); }

HCT_PROBE(set__begin)
{
	u64 thread = bpf_get_current_pid_tgid(), now = bpf_ktime_get_ns();

	if (hct_wanted(daemon, store))
		(void)bpf_map_update_elem(&sets, &thread, &now, BPF_ANY);
	return 0;
}

HCT_PROBE(set__end)
{
	u64 thread = bpf_get_current_pid_tgid(), *began = bpf_map_lookup_elem(&sets, &thread);

	return tell(HCSNOOP_set, daemon, store, key, key_bytes, result, value_bytes,
		began ? bpf_ktime_get_ns() - *began : 0);
}

HCT_PROBE(publish)
{
	return tell(HCSNOOP_publish, daemon, store, key, key_bytes, status, value_bytes, 0);
}

HCT_PROBE(evict)
{
	return tell(
		HCSNOOP_evict, daemon, store, key, key_bytes, (s32)why, bytes, age_ms * 1000000);
}

HCT_PROBE(expire)
{
	return tell(HCSNOOP_expire, daemon, store, key, key_bytes, 0, bytes, age_ms * 1000000);
}
