/* hctop.bpf.c - adds up reads per process and store. */
#include "hct.bpf.h"
#include "hctop.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, HCTOP_ROWS);
	__type(key, struct hctop_key);
	__type(value, struct hctop_row);
} rows SEC(".maps");

static __always_inline struct hctop_row *row_of(u32 store)
{
	struct hctop_key key = {.pid = hct_pid(), .store = store};
	struct hctop_row fresh = {}, *row = bpf_map_lookup_elem(&rows, &key);

	if (row)
		return row;
	bpf_get_current_comm(fresh.comm, sizeof fresh.comm);
	(void)bpf_map_update_elem(&rows, &key, &fresh, BPF_NOEXIST); /* or another thread did */
	row = bpf_map_lookup_elem(&rows, &key);
	if (!row)
		hct_count(true);
	return row;
}

static __always_inline int add(u32 store, u64 reads, u64 hits, u64 bytes, u64 ns, u64 every)
{
	struct hctop_row *row = row_of(store);

	if (!row)
		return 0;
	hct_add(&row->reads, reads * every);
	hct_add(&row->hits, hits * every);
	hct_add(&row->bytes, bytes * every);
	hct_add(&row->told, 1);
	hct_add(&row->ns, ns);
	return 0;
}

/* HC_OK, or HC_TOO_SMALL: it is there. */
static __always_inline bool is_hit(s32 result) { return result == 0 || result == 2; }

HCT_PROBE(get__end)
{
	if (!hct_wanted(daemon, store))
		return 0;
	return add(store, 1, is_hit(result), bytes, ns, every);
}

HCT_PROBE(view__end)
{
	if (!hct_wanted(daemon, store))
		return 0;
	return add(store, 1, is_hit(result), bytes, ns, every);
}

HCT_PROBE(mget__end)
{
	if (!hct_wanted(daemon, store))
		return 0;
	return add(store, keys, hits, bytes, ns, every);
}
