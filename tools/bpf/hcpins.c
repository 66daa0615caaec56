/* hcpins.c - views that are held for long, and the code that took them. */
#include <bpf/bpf.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <hcpins.skel.h>
#include "hcpins.h"
#include "hct.h"

enum { SYMBOL_BYTES = 128 };

static uint64_t least_ms = 1000;

static const char *take_ms(const char *text)
{
	char *end;

	least_ms = strtoull(text, &end, 10);
	return *end || end == text || *text == '-' || least_ms > 86400000
	               ? "takes ms, 0 to 86400000"
	               : NULL;
}

static const struct hct_option options[] = {
	{"ms", "N", "views that are held for N ms or longer; 1000 if not said", take_ms},
	{0},
};

static const struct hct_about about = {
	.name = "hcpins",
	.purpose = "views that are held for long, and the code that took them",
	.details = "One line when a view is released, and at each interval those that are still "
		   "held.\n"
		   "The first place is the call of hc_view; those above it are there where program "
		   "and\n"
		   "library were built with frame pointers.\n",
	.options = options,
	.reads = true,
	.every = 100,
};

struct pins {
	struct hct *t;
	struct hcpins_bpf *b;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* The callers, the innermost first: hc_view's, then what the stack says above the library. */
static void places(const struct pins *p, const struct hcpins_view *v, struct json *j)
{
	uint64_t frame[HCPINS_FRAMES] = {0};
	uint32_t id = (uint32_t)v->stack;
	char text[SYMBOL_BYTES];
	bool above = false;

	hct_symbol((int)v->pid, v->caller, text, sizeof text);
	if (j)
		json_string(j, NULL, text);
	else
		printf("             %s\n", text);
	if (v->stack < 0 || bpf_map_lookup_elem(bpf_map__fd(p->b->maps.stacks), &id, frame) != 0)
		return;
	for (int i = 0; i < HCPINS_FRAMES && frame[i]; i++)
		above |= frame[i] == v->caller;
	bool show = !above;
	for (int i = 1; i < HCPINS_FRAMES && frame[i]; i++) {
		if (show && frame[i] != v->caller) {
			hct_symbol((int)v->pid, frame[i], text, sizeof text);
			if (strncmp(text, "0x", 2) == 0)
				break; /* no code: there are no frame pointers */
			if (j)
				json_string(j, NULL, text);
			else
				printf("             %s\n", text);
		}
		show |= frame[i] == v->caller;
	}
}

static void view_print(
	const struct pins *p, const struct hcpins_view *v, uint64_t ns, const char *state)
{
	char key[4 * HCT_KEY_BYTES + 8], comm[HCT_COMM_BYTES + 1];

	(void)cli_text(v->comm, sizeof v->comm, comm, sizeof comm);
	hct_key_print(v->key, HCT_KEY_BYTES, v->key_bytes, key, sizeof key);
	if (!p->t->json) {
		printf("%9.3f %-8s %7u %-15s %-12s %10llu %s\n", (double)ns / 1e6, state, v->pid,
			comm, hct_store(p->t, v->store), (unsigned long long)v->bytes, key);
		places(p, v, NULL);
		return;
	}
	struct json j = {.to = stdout};
	json_begin(&j, NULL, '{');
	json_u64(&j, "held_ns", ns);
	json_string(&j, "state", state);
	json_u64(&j, "pid", v->pid);
	json_string(&j, "comm", comm);
	json_string(&j, "store", hct_store(p->t, v->store));
	json_u64(&j, "bytes", v->bytes);
	json_string(&j, "key", key);
	json_begin(&j, "places", '[');
	places(p, v, &j);
	json_end(&j, ']');
	json_end(&j, '}');
	json_finish(&j);
}

static int released(void *arg, void *data, size_t n)
{
	const struct hcpins_event *e = data;

	if (n >= sizeof *e)
		view_print(arg, &e->view, e->held_ns, "released");
	return 0;
}

/* Those that are still held; what a dead process held is forgotten. */
static void report(const struct pins *p)
{
	struct hcpins_key key, next;
	struct hcpins_view v;
	int fd = bpf_map__fd(p->b->maps.held);
	uint64_t now = now_ns();
	bool more = bpf_map_get_next_key(fd, NULL, &next) == 0;

	for (uint32_t n = 0; more && n < HCPINS_HELD; n++) {
		key = next;
		more = bpf_map_get_next_key(fd, &key, &next) == 0;
		if (bpf_map_lookup_elem(fd, &key, &v) != 0)
			continue;
		if (kill((pid_t)v.pid, 0) != 0 && errno == ESRCH)
			(void)bpf_map_delete_elem(fd, &key);
		else if (now - v.since_ns >= least_ms * 1000000)
			view_print(p, &v, now - v.since_ns, "held");
	}
	(void)fflush(stdout);
}

int main(int argc, char **argv)
{
	static struct hct t;
	struct pins p = {.t = &t};
	int status = hct_begin(&t, &about, argc, argv);

	if (status >= 0)
		return status;
	p.b = hcpins_bpf__open();
	if (p.b) {
		HCT_CONSTANTS(p.b, &t);
		p.b->rodata->least_ns = least_ms * 1000000;
	}
	status = hct_load(&t, p.b ? p.b->obj : NULL);
	if (status >= 0) {
		hcpins_bpf__destroy(p.b);
		return status;
	}
	const struct hct_probe probes[] = {
		{p.b->progs.view__end, "view__end", false},
		{p.b->progs.view__release, "view__release", false},
	};
	struct ring_buffer *ring = ring_buffer__new(
		bpf_map__fd(p.b->maps.ring), released, &p, NULL);
	status = ring ? hct_attach(&t, probes, 2) : HCT_FAILED;
	if (status < 0 && !t.json)
		printf("%9s %-8s %7s %-15s %-12s %10s %s\n", "MS", "STATE", "PID", "COMMAND",
			"STORE", "BYTES", "KEY");
	while (status < 0 && hct_next(&t, ring))
		report(&p);
	if (status < 0) {
		hct_detach(&t);
		(void)ring_buffer__consume(ring);
		report(&p);
		status = hct_end(&t);
	}
	ring_buffer__free(ring);
	hcpins_bpf__destroy(p.b);
	return status;
}
