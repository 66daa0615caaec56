/* hcpins.bpf.c - notes each view that is taken, with who took it, until it is released. */
#include "hct.bpf.h"
#include "hcpins.h"

const volatile __u64 least_ns = 0; /* bare: a constant: shorter ones are of no interest */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, HCPINS_HELD);
	__type(key, struct hcpins_key);
	__type(value, struct hcpins_view);
} held SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, HCPINS_STACKS);
	__uint(key_size, sizeof(u32));
	__uint(value_size, HCPINS_FRAMES * sizeof(u64));
} stacks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, HCPINS_RING_BYTES);
} ring SEC(".maps");

HCT_PROBE(view__end)
{
	struct hcpins_key at = {.view = (u64)view, .pid = hct_pid()};
	struct hcpins_view v = {};

	if (!hct_wanted(daemon, store) || result != 0)
		return 0;
	v.since_ns = bpf_ktime_get_ns();
	v.caller = (u64)caller;
	v.bytes = bytes;
	v.key_bytes = key_bytes;
	v.stack = bpf_get_stackid(ctx, &stacks, BPF_F_USER_STACK);
	v.pid = at.pid;
	v.store = store;
	bpf_get_current_comm(v.comm, sizeof v.comm);
	hct_key_copy(v.key, key, key_bytes);
	if (bpf_map_update_elem(&held, &at, &v, BPF_ANY) != 0)
		hct_count(true);
	return 0;
}

HCT_PROBE(view__release)
{
	struct hcpins_key at = {.view = (u64)view, .pid = hct_pid()};

	hct_count(false);
	struct hcpins_view *v = bpf_map_lookup_elem(&held, &at);
	if (!v)
		return 0; /* of another daemon or store, or taken before */
	u64 held_ns = bpf_ktime_get_ns() - v->since_ns;
	if (held_ns >= least_ns) {
		struct hcpins_event *e = bpf_ringbuf_reserve(&ring, sizeof *e, 0);
		if (e) {
			e->view = *v;
			e->held_ns = held_ns;
			bpf_ringbuf_submit(e, 0);
		} else {
			hct_count(true);
		}
	}
	(void)bpf_map_delete_elem(&held, &at);
	return 0;
}
