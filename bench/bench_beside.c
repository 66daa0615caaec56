/* bench_beside.c - what do clients that mean harm cost the others?
 *
 *	bench_beside BINDIR [--rounds N] [--ms N] [--keys N]
 *
 * One client reads, or writes, on a CPU of its own, one call at a time; on the other CPU are the engine and a neighbour that
 * does one bad thing all the time.  Each such stretch of time is followed by one in which, in the neighbour's place, a process
 * that harms nobody burns as much CPU as that one did, in memory of its own.  The ratio of the two counts of calls is what is left to the
 * client; the median of the rounds' ratios counts, for each bad thing.  JSON, on one line.
 * Exit status: 0 measured, 1 it could not be.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "atomic.h"
#include "bench_data.h"
#include "bench_host.h"
#include "hc_i.h"
#include "hypercache.h"
#include "wire.h"

enum {
	ROUNDS_MAX = 101,
	VALUE_BYTES = 256,
	BATCH = 64,
	JUNK_BYTES = 256,
	SETTLE_MS = 20000,
	BURN_US = 2000
};

#define ALWAYS 0.4 /* of a CPU that it shares with the engine */

static struct {
	const char *bindir;
	uint64_t keys, ms, rounds;
} opt = {.keys = 50000, .ms = 300, .rounds = 9};

static struct host_daemon host;
static struct hc *hc;
static struct hc_store *store;
static shm_u64 *begun; /* shared: the neighbour is at work */
static uint64_t seed = 1;

static _Noreturn void die(const char *what, const char *why)
{
	fprintf(stderr, "bench_beside: %s: %s\n", what, why);
	exit(1);
}

static void must(int r, const char *what)
{
	if (r < 0)
		die(what, hc_strerror(r));
}

static uint64_t draw(uint64_t n)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (seed >> 20) % n;
}

static void session(struct hc **ret, struct hc_store **ret_store)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);

	o.socket = host.socket;
	must(hc_open(ret, &o), "open");
	must(hc_store(*ret, "default", ret_store), "store");
}

/* ------------------------------------------------------------ neighbours */

static int dial(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(host.socket) >= sizeof a.sun_path)
		die(host.socket, "too long");
	memcpy(a.sun_path, host.socket, strlen(host.socket));
	if (fd >= 0 && connect(fd, (const struct sockaddr *)&a, sizeof a) == 0)
		return fd;
	if (fd >= 0)
		(void)close(fd);
	return -1;
}

/* Writes anything over its own segment: pins, hints, counters, the header. */
static void scribble(void)
{
	struct hc *mine;
	struct hc_store *s;

	session(&mine, &s);
	shm_u64 *word = (shm_u64 *)(void *)mine->seg;
	shm_store_rlx(begun, 1);
	for (;;)
		shm_store_rlx(&word[draw(mine->seg_bytes / sizeof *word)], draw(UINT64_MAX));
}

/* Connects, says what nobody understands, is thrown out, comes again. */
static void garbage(void)
{
	uint8_t junk[JUNK_BYTES];

	for (size_t i = 0; i < sizeof junk; i++)
		junk[i] = (uint8_t)draw(256);
	shm_store_rlx(begun, 1);
	for (;;) {
		int fd = dial();
		if (fd < 0)
			continue;
		if (send(fd, junk, sizeof junk, MSG_NOSIGNAL) > 0)
			(void)recv(fd, junk, sizeof junk, 0);
		(void)close(fd);
	}
}

/* Opens connections without end, says nothing on them, and keeps as many as it is given. */
static void connections(void)
{
	enum { KEPT = 400 };
	int fd[KEPT];

	memset(fd, -1, sizeof fd);
	shm_store_rlx(begun, 1);
	for (unsigned i = 0;; i = (i + 1) % KEPT) {
		if (fd[i] >= 0)
			(void)close(fd[i]);
		fd[i] = dial();
	}
}

/* Holds all that it can, of whatever is there, and takes other things whenever it is told to let go. */
static void pins(void)
{
	enum { VIEWS = 30 };
	struct hc_view view[VIEWS];
	bool held[VIEWS] = {false};
	uint8_t key[KEY_BYTES];
	struct hc_store *s;
	struct hc *mine;

	session(&mine, &s);
	shm_store_rlx(begun, 1);
	for (unsigned i = 0;; i = (i + 1) % VIEWS) {
		if (held[i] && hc_view_ok(&view[i]) == 1 && draw(4))
			continue;
		if (held[i])
			(void)hc_view_release(&view[i]);
		data_key(draw(opt.keys), key);
		held[i] = hc_view(s, key, KEY_BYTES, &view[i]) == HC_OK;
	}
}

/* Asks and asks, and never reads an answer. */
static void deaf(void)
{
	struct wire_request hello = {.verb = WIRE_HELLO,
		.proto_major = WIRE_PROTO_MAJOR,
		.proto_minor = WIRE_PROTO_MINOR,
		.layout_major = SHM_LAYOUT_MAJOR,
		.layout_minor = SHM_LAYOUT_MINOR,
		.fence = SHM_FENCE_FULL,
		.name = "deaf"};
	struct wire_request ping = {.verb = WIRE_PING};
	struct wire_buf first = {0}, b = {0};

	if (wire_put_request(&first, &hello) < 0)
		die("deaf", "no memory");
	for (int i = 0; i < 1000; i++)
		if (wire_put_request(&b, &ping) < 0)
			die("deaf", "no memory");
	shm_store_rlx(begun, 1);
	for (;;) {
		int fd = dial();
		if (fd >= 0 && send(fd, first.bytes, first.end, MSG_NOSIGNAL) > 0)
			while (send(fd, b.bytes, b.end, MSG_NOSIGNAL) > 0)
				;
		if (fd >= 0)
			(void)close(fd);
	}
}

/* memory_bytes: of its own, in which the one that burns as much CPU works meanwhile, because a program that touches no memory
 * is no program: as much as the bad one goes through in the caches that it shares with the engine. */
static const struct kind {
	const char *word;
	void (*run)(void);
	size_t memory_bytes;
} kinds[] = {{"scribble", scribble, 256 << 10}, {"garbage", garbage, 0},
	{"connections", connections, 0}, {"pins", pins, 16 << 20}, {"deaf", deaf, 0}};
enum { KINDS = sizeof kinds / sizeof *kinds };

/* Works in that memory until then. */
static void work(shm_u64 *memory, size_t bytes, uint64_t until_ns)
{
	while (host_now_ns() < until_ns)
		for (int i = 0; i < 64 && bytes; i++)
			shm_count(&memory[draw(bytes / sizeof *memory)], 1);
}

/* As much of each 2 ms as part says; who ran whenever the scheduler let it is replaced by somebody who does, too. */
static void burn(double part, size_t bytes)
{
	shm_u64 *memory = host_take(bytes + sizeof *memory);

	shm_store_rlx(begun, 1);
	if (part > ALWAYS)
		work(memory, bytes, UINT64_MAX);
	for (;;) {
		uint64_t from = host_now_ns(), busy = (uint64_t)(part * BURN_US * 1000);
		work(memory, bytes, from + busy);
		uint64_t left_us = BURN_US - (host_now_ns() - from) / 1000;
		if (left_us > 50 && left_us <= BURN_US)
			(void)usleep((useconds_t)left_us);
	}
}

static pid_t neighbour(const struct kind *k, bool bad, double part)
{
	shm_store_rlx(begun, 0);
	fflush(NULL);
	pid_t pid = fork();
	if (pid < 0)
		die("fork", strerror(errno));
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		seed = (uint64_t)getpid();
		(void)host_pin(1 % host_cpus());
		if (bad)
			k->run();
		burn(part, k->memory_bytes);
		_exit(1);
	}
	for (uint64_t end = host_now_ns() + SETTLE_MS * 1000000ull; !shm_load_rlx(begun);)
		if (host_now_ns() > end || waitpid(pid, NULL, WNOHANG) != 0)
			die(k->word, "it does not begin");
	return pid;
}

static void neighbour_end(pid_t pid)
{
	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
	/* The engine has heard of it, and has done what that makes necessary. */
	const shm_u64 *n = &hc->ctl->counter[SHM_DC_sessions],
		      *c = &hc->ctl->counter[SHM_DC_connections];
	for (uint64_t end = host_now_ns() + SETTLE_MS * 1000000ull;
		shm_load_rlx(n) != 1 || shm_load_rlx(c) != 1;) {
		must(hc_ping(hc), "ping");
		(void)poll(NULL, 0, 1);
		if (host_now_ns() > end)
			die("neighbour", "the engine does not hear of its death");
	}
}

/* ------------------------------------------------------------ the client */

static void one(bool writes)
{
	static uint8_t value[VALUE_BYTES];
	uint8_t key[KEY_BYTES];
	size_t n;

	data_key(draw(opt.keys), key);
	if (writes)
		must(hc_set(store, key, KEY_BYTES, value, VALUE_BYTES, NULL), "set");
	else
		must(hc_get(store, key, KEY_BYTES, value, VALUE_BYTES, &n), "get");
}

/* A stretch of time: calls in a second, and how much of it neighbour and engine were running. */
struct stretch {
	double calls, part, engine;
};

static struct stretch stretch(const struct kind *k, bool bad, double part, bool writes)
{
	pid_t pid = neighbour(k, bad, part), engine = host_child(host.pid);
	uint64_t n = 0, from = host_now_ns(), cpu = host_cpu_ns(pid),
		 engine_cpu = host_cpu_ns(engine), now = from;

	for (; now - from < opt.ms * 1000000; now = host_now_ns()) {
		one(writes);
		n++;
	}
	struct stretch r = {.calls = (double)n * 1e9 / (double)(now - from),
		.part = (double)(host_cpu_ns(pid) - cpu) / (double)(now - from),
		.engine = (double)(host_cpu_ns(engine) - engine_cpu) / (double)(now - from)};
	neighbour_end(pid);
	return r;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void measure(const struct kind *k, bool writes, bool first)
{
	double ratio[ROUNDS_MAX], n = (double)opt.rounds;
	struct stretch beside = {0}, control = {0};

	(void)stretch(k, true, 0, writes); /* does not count */
	for (uint64_t i = 0; i < opt.rounds; i++) {
		struct stretch b = stretch(k, true, 0, writes),
			       c = stretch(k, false, b.part, writes);
		ratio[i] = b.calls / c.calls;
		beside.calls += b.calls / n, beside.part += b.part / n,
			beside.engine += b.engine / n;
		control.calls += c.calls / n, control.part += c.part / n,
			control.engine += c.engine / n;
	}
	qsort(ratio, opt.rounds, sizeof *ratio, by_size);
	printf("%s{\"neighbour\":\"%s\",\"calls\":\"%s\",\"ratio\":%.4f,\"worst\":%.4f,"
	       "\"beside_per_s\":%.0f,\"control_per_s\":%.0f,\"neighbour_cpu\":%.2f,"
	       "\"control_cpu\":%.2f,\"engine_cpu\":%.2f,\"engine_control_cpu\":%.2f}",
		first ? "" : ",", k->word, writes ? "writes" : "reads", ratio[opt.rounds / 2],
		ratio[0], beside.calls, control.calls, beside.part, control.part, beside.engine,
		control.engine);
	fflush(stdout);
}

static void fill(void)
{
	static uint8_t key[BATCH][KEY_BYTES], value[VALUE_BYTES];
	struct hc_mset_item it[BATCH];

	for (uint64_t at = 0; at < opt.keys; at += BATCH) {
		uint64_t n = opt.keys - at < BATCH ? opt.keys - at : BATCH;
		for (uint64_t i = 0; i < n; i++) {
			data_key(at + i, key[i]);
			it[i] = (struct hc_mset_item){.key = key[i],
				.key_bytes = KEY_BYTES,
				.value = value,
				.value_bytes = VALUE_BYTES};
		}
		must(hc_mset(store, it, n, NULL), "fill");
	}
}

static bool options_read(int argc, char **argv)
{
	static const struct option options[] = {{"rounds", required_argument, NULL, 'r'},
		{"ms", required_argument, NULL, 'm'}, {"keys", required_argument, NULL, 'k'},
		{NULL, 0, NULL, 0}};
	int o;

	while ((o = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (o == 'r')
			opt.rounds = host_number(optarg, 1, ROUNDS_MAX);
		else if (o == 'm')
			opt.ms = host_number(optarg, 10, 60000);
		else if (o == 'k')
			opt.keys = host_number(optarg, 100, 10000000);
		else
			return false;
	}
	opt.bindir = optind + 1 == argc ? argv[optind] : NULL;
	return opt.bindir != NULL;
}

int main(int argc, char **argv)
{
	if (!options_read(argc, argv)) {
		fputs("bench_beside BINDIR [--rounds 1..101] [--ms 10..60000] [--keys N]\n",
			stderr);
		return 2;
	}
	begun = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct host_config config = {.pool_bytes = opt.keys * 1024 + (16 << 20)};
	if (begun == MAP_FAILED || host_daemon_start(&host, opt.bindir, &config) != 0)
		return 1;
	session(&hc, &store);
	fill();
	if (!host_pin_process(host_child(host.pid), 1 % host_cpus()) || !host_pin(0))
		die("CPUs", "they cannot be chosen");
	printf("{\"keys\":%llu,\"ms\":%llu,\"rounds\":%llu,\"beside\":[",
		(unsigned long long)opt.keys, (unsigned long long)opt.ms,
		(unsigned long long)opt.rounds);
	for (int k = 0; k < KINDS; k++)
		for (int writes = 0; writes < 2; writes++)
			measure(&kinds[k], writes, k == 0 && !writes);
	printf("]}\n");
	hc_close(hc);
	return host_daemon_stop(&host) == 0 ? 0 : 1;
}
