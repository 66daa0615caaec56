/* hct.bpf.h - what the kernel's half of each tool begins with.  Included once, by NAME.bpf.c.
 *
 * A handler takes the probe's arguments by the names of shm/probe_list.h:
 *
 *	HCT_PROBE(get__end)
 *	{
 *		if (!hct_wanted(daemon, store))
 *			return 0;
 *		...
 *	}
 */
#ifndef HC_TOOLS_BPF_HCT_BPF_H
#define HC_TOOLS_BPF_HCT_BPF_H

/* clang-format off: the order counts */
#include <vmlinux.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include <bpf/usdt.bpf.h>
/* clang-format on */
#include "hct_shared.h"
#include "probe_list.h"

/* bpf_probe_read_user() and the clock are for programs of a licence that the kernel likes. */
char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define PROBE_T_u32 u32
#define PROBE_T_i32 s32
#define PROBE_T_u64 u64
#define PROBE_T_ptr const void *
#define HCT_COMMA_() ,
#define HCT_PARAM_(type, name, unit, meaning) PROBE_T_##type name
#define HCT_USDT_(name, ...) BPF_USDT(name, __VA_ARGS__)
#define HCT_PROBE(name) SEC("usdt") int HCT_USDT_(name, PROBE_##name(HCT_PARAM_, HCT_COMMA_))

/* Set before it is loaded: the daemon that is looked at; a store's index + 1, 0: all. */
const volatile __u64 hct_daemon = 0; /* bare: a constant */
const volatile __u32 hct_store = 0;  /* bare: a constant */

/* [0] of each processor. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct hct_total);
} hct_total SEC(".maps");

static __always_inline void hct_count(bool lost)
{
	u32 zero = 0;
	struct hct_total *t = bpf_map_lookup_elem(&hct_total, &zero);

	if (!t)
		return;
	t->events += !lost;
	t->lost += lost;
}

/* Counts the event.  Is it of our daemon, and of a store that is asked for? */
static __always_inline bool hct_wanted(u64 daemon, u32 store)
{
	hct_count(false);
	return daemon == hct_daemon && (hct_store == 0 || store + 1 == hct_store);
}

/* Adds to a word of a map that others add to. */
#define hct_add(word, n) \
	((void)__sync_fetch_and_add((word), (n))) /* bare: not shared memory of ours */

static __always_inline u32 hct_pid(void) { return (u32)(bpf_get_current_pid_tgid() >> 32); }

/* The highest bit that is set; 0 of 0. */
static __always_inline u32 hct_log2(u64 v)
{
	u32 r = 0;

	for (u32 step = 32; step > 0; step /= 2) {
		if (v >> step) {
			v >>= step;
			r += step;
		}
	}
	return r;
}

static __always_inline void hct_hist_add(struct hct_hist *h, u64 v)
{
	u32 slot = hct_log2(v);

	if (slot >= HCT_SLOTS)
		slot = HCT_SLOTS - 1;
	hct_add(&h->slot[slot], 1);
	hct_add(&h->n, 1);
	hct_add(&h->sum, v);
}

/* The first bytes of a key, the rest zero. */
static __always_inline void hct_key_copy(char to[HCT_KEY_BYTES], const void *key, u64 bytes)
{
	u32 n = bytes < HCT_KEY_BYTES ? (u32)bytes : HCT_KEY_BYTES;

	if (n > 0 && n <= HCT_KEY_BYTES)
		(void)bpf_probe_read_user(to, n, key);
}

/* What the tool calls itself, to know what an event costs. */
SEC("uprobe")
int hct_calibrate(void *ctx)
{
	(void)ctx;
	return 0;
}

#endif
