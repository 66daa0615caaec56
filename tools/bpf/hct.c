/* hct.c - see hct.h. */
#include "hct.h"
#include <bpf/bpf.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>
#include "../hypercache_admin.h"

enum { ADMIN_MS = 2000, SLICE_MS = 100, DURATION_MAX_S = 366 * 24 * 3600 };

static int signals = -1;

__attribute__((format(printf, 3, 4))) static int fail(
	const struct hct *t, int status, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fprintf(stderr, "%s: ", t->about->name);
	vfprintf(stderr, fmt, ap);
	putc('\n', stderr);
	va_end(ap);
	return status;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

const char *hct_store(const struct hct *t, uint32_t idx)
{
	return idx < SHM_STORES_MAX && t->store_name[idx][0] ? t->store_name[idx] : "?";
}

/* ------------------------------------------------------------------ options */

static void help(const struct hct *t)
{
	const struct hct_about *a = t->about;

	printf("%s - %s\n\n  %s [OPTION]...\n\n", a->name, a->purpose, a->name);
	if (a->details)
		printf("%s\n", a->details);
	for (const struct hct_option *o = a->options; o && o->name; o++) {
		char both[64];
		(void)snprintf(both, sizeof both, "--%s %s", o->name, o->value);
		printf("  %-18s %s\n", both, o->meaning);
	}
	if (a->reads)
		printf("  --every N          hear of one read of N (1..1000000); %llu if not "
		       "said.\n"
		       "                     1: of all; this makes reads slower, as the end says\n",
			(unsigned long long)a->every);
	if (!a->of_engine)
		printf("  --pid PID          of this process alone\n"
		       "  --file FILE        a program or library whose processes are to be heard "
		       "too,\n"
		       "                     from their start; may be repeated\n");
	printf("  --store NAME       of this store alone\n"
	       "  --interval S       seconds between two reports; 1 if not said\n"
	       "  --duration S       end after so many seconds; without it SIGINT ends\n"
	       "  --json             JSON, one object a line\n"
	       "  --socket PATH      the daemon's socket for clients\n"
	       "  --admin PATH       its admin socket; beside the other if not said\n"
	       "  --help             print this\n\n"
	       "Exit status: 0 it ran, 1 it could not, 2 wrong options, 3 this user may not,\n"
	       "4 the kernel lacks something; what, stands on standard error.\n");
}

/* Seconds, also parts of one, as ms.  False: out of range. */
static bool take_seconds(const char *text, uint64_t *ret_ms)
{
	char *end;
	double s = strtod(text, &end);

	if (*end || end == text || !(s >= 0.1) || s > DURATION_MAX_S)
		return false;
	*ret_ms = (uint64_t)(s * 1000);
	return true;
}

static bool take_number(const char *text, uint64_t max, uint64_t *ret)
{
	char *end;

	errno = 0;
	*ret = strtoull(text, &end, 10);
	return !*end && end != text && *text != '-' && errno == 0 && *ret >= 1 && *ret <= max;
}

enum {
	O_EVERY = 256,
	O_PID,
	O_FILE,
	O_STORE,
	O_INTERVAL,
	O_DURATION,
	O_JSON,
	O_SOCKET,
	O_ADMIN,
	O_HELP,
	O_OWN
};

static const struct option common[] = {
	{"every", 1, NULL, O_EVERY},
	{"pid", 1, NULL, O_PID},
	{"file", 1, NULL, O_FILE},
	{"store", 1, NULL, O_STORE},
	{"interval", 1, NULL, O_INTERVAL},
	{"duration", 1, NULL, O_DURATION},
	{"json", 0, NULL, O_JSON},
	{"socket", 1, NULL, O_SOCKET},
	{"admin", 1, NULL, O_ADMIN},
	{"help", 0, NULL, O_HELP},
};
enum { N_COMMON = sizeof common / sizeof *common, OWN_MAX = 8 };

/* One option.  NULL, or what would be right. */
static const char *option_take(struct hct *t, int o, const char *text)
{
	const struct hct_about *a = t->about;
	uint64_t n = 0;

	switch (o) {
	case O_EVERY:
		if (!a->reads)
			return "is of tools that hear of reads";
		return take_number(text, SHM_PROBE_EVERY_MAX, &t->every) ? NULL
		                                                         : "takes 1 to 1000000";
	case O_PID:
		if (a->of_engine || !take_number(text, INT32_MAX, &n))
			return a->of_engine ? "is of tools that hear of clients"
			                    : "takes a process id";
		t->pid = (int)n;
		return NULL;
	case O_FILE:
		if (a->of_engine || t->n_file == sizeof t->file / sizeof *t->file)
			return a->of_engine ? "is of tools that hear of clients"
			                    : "can be said 16 times";
		t->file[t->n_file++] = text;
		return access(text, R_OK) == 0 ? NULL : "takes a file that can be read";
	case O_STORE:
		t->store = text;
		return NULL;
	case O_INTERVAL:
		return take_seconds(text, &t->interval_ms) ? NULL : "takes seconds, 0.1 or more";
	case O_DURATION:
		return take_seconds(text, &t->duration_ms) ? NULL : "takes seconds, 0.1 or more";
	case O_JSON:
		t->json = true;
		return NULL;
	case O_SOCKET:
		t->socket = text;
		return NULL;
	case O_ADMIN:
		t->admin = text;
		return NULL;
	default:
		return a->options[o - O_OWN].take(text);
	}
}

static int options_take(struct hct *t, int argc, char **argv)
{
	struct option all[N_COMMON + OWN_MAX + 1] = {0};
	int n = N_COMMON, o, at;

	memcpy(all, common, sizeof common);
	for (int i = 0; t->about->options && t->about->options[i].name && i < OWN_MAX; i++)
		all[n++] = (struct option){t->about->options[i].name, 1, NULL, O_OWN + i};
	opterr = 0;
	while ((o = getopt_long(argc, argv, "", all, &at)) >= 0) {
		if (o == O_HELP) {
			help(t);
			return HCT_OK;
		}
		if (o == '?')
			return fail(t, HCT_USAGE,
				"%s: no such option, or its value is missing; see --help",
				argv[optind - 1]);
		const char *right = option_take(t, o, optarg);
		if (right)
			return fail(t, HCT_USAGE, "--%s %s%s%s", all[at].name, right,
				optarg ? ", not " : "", optarg ? optarg : "");
	}
	if (optind < argc)
		return fail(t, HCT_USAGE, "%s: no such argument; see --help", argv[optind]);
	return -1;
}

/* ------------------------------------------------------------------ the daemon */

static int admin_failed(const struct hct *t, int r, const char *why)
{
	return fail(t, r == HYPERCACHE_ADMIN_DENIED ? HCT_RIGHTS : HCT_FAILED, "%s%s", why,
		r == HYPERCACHE_ADMIN_DENIED ? "; run it as root" : "");
}

static int daemon_look(struct hct *t)
{
	char why[HYPERCACHE_ADMIN_WHY_BYTES];
	struct hypercache_admin a;

	int r = hypercache_admin_open(t->admin_path, ADMIN_MS, &a, why);
	if (r != 0)
		return admin_failed(t, r, why);
	t->daemon_id = a.ctl->seg.daemon_id;
	t->engine_pid = a.answer.engine_pid;
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
		const struct shm_store_entry *e = &a.ctl->store[i];
		if (!e->id.v)
			continue;
		memcpy(t->store_name[i], e->name, SHM_NAME_BYTES - 1);
		if (t->store && strcmp(t->store, t->store_name[i]) == 0)
			t->store_idx = i + 1;
	}
	hypercache_admin_close(&a);
	if (t->store && !t->store_idx)
		return fail(t, HCT_USAGE, "there is no store %s; `hypercache stat` shows them",
			t->store);
	return -1;
}

/* N as it is wanted, from now on. */
static int probe_begin(struct hct *t)
{
	char why[HYPERCACHE_ADMIN_WHY_BYTES];

	int r = hypercache_admin_probe(t->admin_path, ADMIN_MS, t->every, &t->probe_fd, why);
	return r == 0 ? -1 : admin_failed(t, r, why);
}

int hct_begin(struct hct *t, const struct hct_about *about, int argc, char **argv)
{
	sigset_t set;

	*t = (struct hct){.about = about,
		.every = about->every,
		.pid = -1,
		.interval_ms = 1000,
		.probe_fd = -1,
		.stats_fd = -1};
	int status = options_take(t, argc, argv);
	if (status >= 0)
		return status;
	if (t->admin)
		(void)snprintf(t->admin_path, sizeof t->admin_path, "%s", t->admin);
	else if (hypercache_admin_path(t->socket, t->admin_path) != 0)
		return fail(t, HCT_USAGE, "--socket: the path is too long");
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGTERM);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	status = daemon_look(t);
	if (status < 0 && about->reads)
		status = probe_begin(t);
	return status;
}

/* ------------------------------------------------------------------ the kernel */

static char complaint[512]; /* libbpf's last warning */

__attribute__((format(printf, 2, 0))) static int remember(
	enum libbpf_print_level level, const char *fmt, va_list ap)
{
	if (level == LIBBPF_WARN)
		(void)vsnprintf(complaint, sizeof complaint, fmt, ap);
	return 0;
}

static int kernel_failed(const struct hct *t, int e)
{
	if (e == -EPERM || e == -EACCES)
		return fail(t, HCT_RIGHTS,
			"this user may not load BPF programs: run it as root, or give it CAP_BPF, "
			"CAP_PERFMON "
			"and CAP_SYS_PTRACE");
	if (access("/sys/kernel/btf/vmlinux", R_OK) != 0)
		return fail(t, HCT_KERNEL,
			"the kernel does not describe its types: /sys/kernel/btf/vmlinux "
			"(CONFIG_DEBUG_INFO_BTF)");
	if (access("/sys/bus/event_source/devices/uprobe/type", R_OK) != 0)
		return fail(t, HCT_KERNEL,
			"the kernel has no uprobes: /sys/bus/event_source/devices/uprobe "
			"(CONFIG_UPROBE_EVENTS)");
	complaint[strcspn(complaint, "\n")] = 0;
	return fail(t, HCT_KERNEL, "the kernel does not take the programs: %s: %s", strerror(-e),
		complaint);
}

int hct_load(struct hct *t, struct bpf_object *object)
{
	libbpf_set_print(remember);
	if (!object)
		return kernel_failed(t, -errno);
	t->object = object;
	int r = bpf_object__load(object);
	if (r != 0)
		return kernel_failed(t, r);
	t->trap_ns = hct_calibrate_ns(object);
	t->stats_fd = bpf_enable_stats(BPF_STATS_RUN_TIME);
	return -1;
}

int hct_attach(struct hct *t, const struct hct_probe *probes, uint32_t n)
{
	bool engine = false;

	memcpy(t->probe, probes, n * sizeof *probes);
	t->n_probes = n;
	for (uint32_t i = 0; i < n; i++)
		engine |= probes[i].of_engine;
	(void)hct_attach_new(t);
	if (access("/sys/bus/event_source/devices/uprobe/type", R_OK) != 0)
		return kernel_failed(t, -ENOSYS);
	if (engine && t->n_links == 0)
		return fail(t, HCT_FAILED,
			"the daemon has no probes: it was built without them, or no engine runs "
			"(%s)",
			complaint);
	if (!t->json && t->about->reads)
		printf("one read of %llu is heard of\n", (unsigned long long)t->every);
	(void)fflush(stdout);
	t->began_ns = t->former_ns = now_ns();
	t->next_ns = t->began_ns + t->interval_ms * 1000000;
	fprintf(stderr, "%s: ready\n", t->about->name);
	return -1;
}

/* ------------------------------------------------------------------ intervals */

/* Waits so long.  True: it was told to end. */
static bool wait_ms(struct ring_buffer *ring, int ms)
{
	struct pollfd p = {.fd = signals, .events = POLLIN};

	if (ring && ring_buffer__poll(ring, ms) < 0 && errno != EINTR)
		return true;
	return poll(&p, 1, ring ? 0 : ms) > 0;
}

/* The supervisor that promised N is gone: the next one is asked. */
static void probe_again(struct hct *t)
{
	struct pollfd p = {.fd = t->probe_fd, .events = POLLIN};
	char why[HYPERCACHE_ADMIN_WHY_BYTES];

	if (!t->about->reads || (t->probe_fd >= 0 && poll(&p, 1, 0) == 0))
		return;
	if (t->probe_fd >= 0)
		(void)close(t->probe_fd);
	t->probe_fd = -1;
	(void)hypercache_admin_probe(t->admin_path, ADMIN_MS, t->every, &t->probe_fd, why);
}

bool hct_next(struct hct *t, struct ring_buffer *ring)
{
	uint64_t end_ns = t->duration_ms ? t->began_ns + t->duration_ms * 1000000 : UINT64_MAX;
	bool over = false;

	for (uint64_t now = now_ns(); !over && now < t->next_ns; now = now_ns()) {
		uint64_t until = t->next_ns < end_ns ? t->next_ns : end_ns;
		if (now >= until) {
			over = true;
			break;
		}
		uint64_t ms = (until - now + 999999) / 1000000;
		over = wait_ms(ring, (int)(ring && ms > SLICE_MS ? SLICE_MS : ms));
	}
	uint64_t now = now_ns();
	over |= now >= end_ns;
	t->seconds = (double)(now - t->former_ns) / 1e9;
	t->former_ns = now;
	while (t->next_ns <= now)
		t->next_ns += t->interval_ms * 1000000;
	if (!over)
		(void)hct_attach_new(t);
	if (!over)
		probe_again(t);
	return !over;
}

struct hct_total hct_total_now(const struct hct *t)
{
	int n = libbpf_num_possible_cpus(),
	    fd = bpf_object__find_map_fd_by_name(t->object, "hct_total");
	struct hct_total sum = {0}, *each = calloc((size_t)(n > 0 ? n : 1), sizeof *each);
	uint32_t zero = 0;

	if (each && n > 0 && bpf_map_lookup_elem(fd, &zero, each) == 0)
		for (int i = 0; i < n; i++) {
			sum.events += each[i].events;
			sum.lost += each[i].lost;
		}
	free(each);
	return sum;
}

/* What our BPF programs have taken. */
static uint64_t run_ns(const struct hct *t)
{
	struct bpf_program *p;
	uint64_t ns = 0;

	bpf_object__for_each_program(p, t->object)
	{
		struct bpf_prog_info info = {0};
		uint32_t n = sizeof info;
		if (bpf_obj_get_info_by_fd(bpf_program__fd(p), &info, &n) == 0)
			ns += info.run_time_ns;
	}
	return ns;
}

int hct_end(struct hct *t)
{
	hct_detach(t);
	struct hct_total sum = hct_total_now(t);
	double s = (double)(t->former_ns - t->began_ns) / 1e9; /* detaching takes its time */
	uint64_t taken_ns = sum.events * t->trap_ns + run_ns(t);
	double taken = (double)taken_ns / 1e9;

	if (t->json)
		printf("{\"end\":true,\"seconds\":%.3f,\"events\":%llu,\"lost\":%llu,\"event_ns\":%"
		       "llu}\n",
			s, (unsigned long long)sum.events, (unsigned long long)sum.lost,
			(unsigned long long)(sum.events ? taken_ns / sum.events : 0));
	else
		printf("%llu events, %llu lost; they took what was traced about %.3f s in %.1f s, "
		       "%.2f %% of one CPU\n",
			(unsigned long long)sum.events, (unsigned long long)sum.lost, taken, s,
			s > 0 ? 100 * taken / s : 0);
	if (t->n_seen == HCT_FILES_MAX || t->n_links == HCT_LINKS_MAX)
		fprintf(stderr,
			"%s: clients have more than %d files mapped: some were not looked at\n",
			t->about->name, HCT_FILES_MAX);
	if (t->n_attached == 0)
		fprintf(stderr,
			"%s: no file with probes was found: name the program or library with "
			"--file\n",
			t->about->name);
	if (t->probe_fd >= 0)
		(void)close(t->probe_fd);
	if (t->stats_fd >= 0)
		(void)close(t->stats_fd);
	(void)close(signals);
	return fflush(stdout) == 0 && !ferror(stdout) ? HCT_OK : HCT_FAILED;
}
