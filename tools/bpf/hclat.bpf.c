/* hclat.bpf.c - how long calls take, and a set by its parts: the client's by thread, the engine's by the request's
 * number in its session. */
#include "hct.bpf.h"
#include "hclat.h"

enum { VERB_SET = 3 };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HCLAT_N);
	__type(key, u32);
	__type(value, struct hct_hist);
} hists SEC(".maps");

struct set {
	u64 begin_ns, put_ns, reply_ns;
	u64 session, request;
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, HCLAT_SETS);
	__type(key, u64); /* thread */
	__type(value, struct set);
} sets SEC(".maps");

struct name {
	u64 session, request;
};
struct work {
	u64 received_ns, decoded_ns, answered_ns, room_ns;
};
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, HCLAT_SETS);
	__type(key, struct name);
	__type(value, struct work);
} works SEC(".maps");

/* When bytes of a session came last. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, HCLAT_SETS);
	__type(key, u64);
	__type(value, u64);
} received SEC(".maps");

/* What the engine, which is one thread, carries out. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct name);
} current SEC(".maps");

static __always_inline void add(u32 which, u64 ns)
{
	struct hct_hist *h = bpf_map_lookup_elem(&hists, &which);

	if (h)
		hct_hist_add(h, ns);
}

static __always_inline u64 since(u64 end, u64 begin) { return end > begin ? end - begin : 0; }

HCT_PROBE(get__end)
{
	if (hct_wanted(daemon, store))
		add(HCLAT_get, ns);
	return 0;
}

HCT_PROBE(view__end)
{
	if (hct_wanted(daemon, store))
		add(HCLAT_view, ns);
	return 0;
}

HCT_PROBE(mget__end)
{
	if (hct_wanted(daemon, store))
		add(HCLAT_mget, ns);
	return 0;
}

HCT_PROBE(set__begin)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct set set = {.begin_ns = bpf_ktime_get_ns()};

	if (hct_wanted(daemon, store) && bpf_map_update_elem(&sets, &thread, &set, BPF_ANY) != 0)
		hct_count(true);
	return 0;
}

HCT_PROBE(request__put)
{
	u64 thread = bpf_get_current_pid_tgid();

	hct_count(false);
	struct set *set = verb == VERB_SET ? bpf_map_lookup_elem(&sets, &thread) : NULL;
	if (!set || set->put_ns)
		return 0;
	set->session = session;
	set->request = request;
	set->put_ns = bpf_ktime_get_ns();
	return 0;
}

HCT_PROBE(request__reply)
{
	u64 thread = bpf_get_current_pid_tgid();

	hct_count(false);
	struct set *set = bpf_map_lookup_elem(&sets, &thread);
	if (set && set->session == session && set->request == request)
		set->reply_ns = bpf_ktime_get_ns();
	return 0;
}

HCT_PROBE(set__end)
{
	u64 thread = bpf_get_current_pid_tgid(), now = bpf_ktime_get_ns();

	hct_count(false);
	struct set *found = bpf_map_lookup_elem(&sets, &thread);
	if (!found)
		return 0;
	struct set set = *found;
	(void)bpf_map_delete_elem(&sets, &thread);
	if (result < 0 || !set.put_ns || !set.reply_ns)
		return 0;
	struct name name = {set.session, set.request};
	struct work *found_work = bpf_map_lookup_elem(&works, &name);
	add(HCLAT_set, now - set.begin_ns);
	add(HCLAT_client, since(set.put_ns, set.begin_ns) + since(now, set.reply_ns));
	if (!found_work || !found_work->answered_ns) {
		hct_count(true);
		return 0;
	}
	struct work work = *found_work;
	(void)bpf_map_delete_elem(&works, &name);
	add(HCLAT_socket, since(work.received_ns, set.put_ns));
	add(HCLAT_queue, since(work.decoded_ns, work.received_ns));
	add(HCLAT_engine, since(work.answered_ns, work.decoded_ns));
	if (work.room_ns)
		add(HCLAT_room, work.room_ns);
	add(HCLAT_reply, since(set.reply_ns, work.answered_ns));
	return 0;
}

HCT_PROBE(request__received)
{
	u64 now = bpf_ktime_get_ns();

	hct_count(false);
	if (daemon == hct_daemon && session)
		(void)bpf_map_update_elem(&received, &session, &now, BPF_ANY);
	return 0;
}

HCT_PROBE(request__decoded)
{
	struct name name = {session, request};
	struct work work = {.decoded_ns = bpf_ktime_get_ns()};
	u32 zero = 0;

	hct_count(false);
	if (daemon != hct_daemon || verb != VERB_SET)
		return 0;
	u64 *came = bpf_map_lookup_elem(&received, &session);
	work.received_ns = came ? *came : work.decoded_ns;
	(void)bpf_map_update_elem(&current, &zero, &name, BPF_ANY);
	if (bpf_map_update_elem(&works, &name, &work, BPF_ANY) != 0)
		hct_count(true);
	return 0;
}

HCT_PROBE(room__made)
{
	u32 zero = 0;

	if (!hct_wanted(daemon, store))
		return 0;
	struct name *name = bpf_map_lookup_elem(&current, &zero);
	struct work *work = name ? bpf_map_lookup_elem(&works, name) : NULL;
	if (work)
		work->room_ns += ns;
	return 0;
}

HCT_PROBE(request__answered)
{
	struct name name = {session, request};

	hct_count(false);
	struct work *work = bpf_map_lookup_elem(&works, &name);
	if (work)
		work->answered_ns = bpf_ktime_get_ns();
	return 0;
}
