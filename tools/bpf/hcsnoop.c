/* hcsnoop.c - operations as they happen, one a line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <hcsnoop.skel.h>
#include "hcsnoop.h"
#include "hct.h"

#define NAME_(name, who) #name,
static const char *const names[] = {HCSNOOP_OPS(NAME_)};

static uint32_t wanted = (1u << HCSNOOP_N) - 1;
static const char *key_begin = "";
static bool errors_only;

static const char *take_ops(const char *text)
{
	wanted = 0;
	for (const char *at = text; *at;) {
		size_t n = strcspn(at, ",");
		uint32_t i = 0;
		while (i < HCSNOOP_N && (strlen(names[i]) != n || memcmp(names[i], at, n) != 0))
			i++;
		if (i == HCSNOOP_N)
			return "takes get, view, mget, set, publish, evict, expire, with commas "
			       "between them";
		wanted |= 1u << i;
		at += n + (at[n] == ',');
	}
	return wanted ? NULL : "takes one or more names";
}

static const char *take_key(const char *text)
{
	key_begin = text;
	return strlen(text) < HCT_KEY_BYTES ? NULL : "takes up to 63 bytes";
}

static const char *take_result(const char *text)
{
	errors_only = strcmp(text, "bad") == 0;
	return errors_only || strcmp(text, "all") == 0 ? NULL : "takes all or bad";
}

static const struct hct_option options[] = {
	{"op", "LIST",
		"of these operations: get,view,mget,set of clients, publish,evict,expire of\n"
		"                     the engine; all if not said",
		take_ops},
	{"key", "TEXT", "of keys that begin with it", take_key},
	{"result", "all|bad", "bad: of what did not end with 0, such as misses", take_result},
	{0},
};

static const struct hct_about about = {
	.name = "hcsnoop",
	.purpose = "operations as they happen, one a line",
	.details =
		"Writes and the engine's work are shown without exception, of reads one of N.\n"
		"NS: how long it took; of evict and expire, the entry's age.  RESULT: 0 is done,\n"
		"1 a miss; of evict the reason, as hypercache-probes(7) has them.\n",
	.options = options,
	.reads = true,
	.every = 1,
};

static int event_print(void *arg, void *data, size_t n)
{
	const struct hct *t = arg;
	const struct hcsnoop_event *e = data;
	char key[4 * HCT_KEY_BYTES + 8], comm[HCT_COMM_BYTES + 1];

	if (n < sizeof *e || e->op >= HCSNOOP_N ||
		strncmp(e->key, key_begin, strlen(key_begin)) != 0 ||
		(errors_only && e->result == 0))
		return 0;
	(void)cli_text(e->comm, sizeof e->comm, comm, sizeof comm);
	hct_key_print(
		e->key, HCT_KEY_BYTES, e->op == HCSNOOP_mget ? 0 : e->key_bytes, key, sizeof key);
	if (!t->json) {
		printf("%14.6f %-7s %7u %-15s %-12s %6d %10llu %10llu %s\n", (double)e->at_ns / 1e9,
			names[e->op], e->pid, comm, hct_store(t, e->store), e->result,
			(unsigned long long)e->bytes, (unsigned long long)e->ns, key);
		return 0;
	}
	struct json j = {.to = stdout};
	json_begin(&j, NULL, '{');
	json_u64(&j, "at_ns", e->at_ns);
	json_string(&j, "op", names[e->op]);
	json_u64(&j, "pid", e->pid);
	json_string(&j, "comm", comm);
	json_string(&j, "store", hct_store(t, e->store));
	json_i64(&j, "result", e->result);
	json_u64(&j, "bytes", e->bytes);
	json_u64(&j, "ns", e->ns);
	json_u64(&j, e->op == HCSNOOP_mget ? "keys" : "key_bytes", e->key_bytes);
	json_string(&j, "key", key);
	json_end(&j, '}');
	json_finish(&j);
	return 0;
}

int main(int argc, char **argv)
{
	static struct hct t;
	int status = hct_begin(&t, &about, argc, argv);

	if (status >= 0)
		return status;
	struct hcsnoop_bpf *b = hcsnoop_bpf__open();
	if (b) {
		HCT_CONSTANTS(b, &t);
		b->rodata->ops = wanted;
	}
	status = hct_load(&t, b ? b->obj : NULL);
	if (status >= 0) {
		hcsnoop_bpf__destroy(b);
		return status;
	}
	const struct hct_probe probes[] = {
		{b->progs.get__end, "get__end", false},
		{b->progs.view__end, "view__end", false},
		{b->progs.mget__end, "mget__end", false},
		{b->progs.set__begin, "set__begin", false},
		{b->progs.set__end, "set__end", false},
		{b->progs.publish, "publish", true},
		{b->progs.evict, "evict", true},
		{b->progs.expire, "expire", true},
	};
	struct ring_buffer *ring = ring_buffer__new(
		bpf_map__fd(b->maps.ring), event_print, &t, NULL);
	status = ring ? hct_attach(&t, probes, 8) : HCT_FAILED;
	if (status < 0 && !t.json)
		printf("%14s %-7s %7s %-15s %-12s %6s %10s %10s %s\n", "TIME", "OP", "PID",
			"COMMAND", "STORE", "RESULT", "BYTES", "NS", "KEY");
	while (status < 0 && hct_next(&t, ring))
		(void)fflush(stdout);
	if (status < 0) {
		hct_detach(&t);
		(void)ring_buffer__consume(ring);
		status = hct_end(&t);
	}
	ring_buffer__free(ring);
	hcsnoop_bpf__destroy(b);
	return status;
}
