/* hcevict.bpf.c - counts what goes, and looks whether it comes back. */
#include "hct.bpf.h"
#include "hcevict.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HCEVICT_STORES *HCEVICT_WHYS);
	__type(key, u32);
	__type(value, struct hcevict_row);
} rows SEC(".maps");

struct gone {
	u64 at_ns;
	u32 row;
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, HCEVICT_KEYS);
	__type(key, u64); /* the key's hash: of its store, too */
	__type(value, struct gone);
} keys SEC(".maps");

static __always_inline struct hcevict_row *row_of(u32 store, u32 why, u32 *ret_index)
{
	*ret_index = store * HCEVICT_WHYS + why;
	return why < HCEVICT_WHYS ? bpf_map_lookup_elem(&rows, ret_index) : NULL;
}

HCT_PROBE(evict)
{
	u32 index;

	if (!hct_wanted(daemon, store))
		return 0;
	struct hcevict_row *row = row_of(store, why, &index);
	if (!row) {
		hct_count(true);
		return 0;
	}
	hct_add(&row->n, 1);
	hct_add(&row->bytes, bytes);
	hct_hist_add(&row->age_ms, age_ms);
	hct_hist_add(&row->idle_ms, idle_ms);
	struct gone gone = {.at_ns = bpf_ktime_get_ns(), .row = index};
	if (bpf_map_update_elem(&keys, &hash, &gone, BPF_ANY) != 0)
		hct_count(true);
	return 0;
}

HCT_PROBE(expire)
{
	u32 index;

	if (!hct_wanted(daemon, store))
		return 0;
	struct hcevict_row *row = row_of(store, HCEVICT_EXPIRED, &index);
	if (!row)
		return 0;
	hct_add(&row->n, 1);
	hct_add(&row->bytes, bytes);
	hct_hist_add(&row->age_ms, age_ms);
	return 0;
}

HCT_PROBE(publish)
{
	if (!hct_wanted(daemon, store) || status != 0)
		return 0;
	struct gone *gone = bpf_map_lookup_elem(&keys, &hash);
	if (!gone)
		return 0;
	u32 index = gone->row;
	u64 ms = (bpf_ktime_get_ns() - gone->at_ns) / 1000000;
	(void)bpf_map_delete_elem(&keys, &hash);
	struct hcevict_row *row = bpf_map_lookup_elem(&rows, &index);
	if (!row)
		return 0;
	hct_add(&row->written, 1);
	hct_hist_add(&row->back_ms, ms);
	return 0;
}

static __always_inline int missed(u64 hash, s32 result, u64 every)
{
	struct gone *gone = result == 1 ? bpf_map_lookup_elem(&keys, &hash) : NULL;

	if (!gone)
		return 0;
	u32 index = gone->row;
	struct hcevict_row *row = bpf_map_lookup_elem(&rows, &index);
	if (row)
		hct_add(&row->asked, every);
	return 0;
}

HCT_PROBE(get__end) { return hct_wanted(daemon, store) ? missed(hash, result, every) : 0; }

HCT_PROBE(view__end) { return hct_wanted(daemon, store) ? missed(hash, result, every) : 0; }
