/* bench_wal.c - what the log by itself makes of a disk, beside the disk's own limit.
 *
 *	bench_wal FOLDER [--seconds S] [--rounds N] [--epoll] [--small]
 *
 * In files of its own in FOLDER, zero-written ahead and recycled as a daemon's are.  Each round does every part once:
 *
 *   limit B Q     writes of B bytes, Q under way, O_DIRECT and RWF_DSYNC, through the same loop: no log
 *   log V W Q     records with values of V bytes, W of them not durable yet at any time, at most Q writes
 *   read          what the last part has written, record by record, from a cached file
 *
 * One JSON object a line: part, records or writes a second, bytes a second of the disk, latencies in us (of the limit: of a
 * write; of the log with W = 1: from append to durable).  Exit status: 0 measured, 1 it could not, 2 usage.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "../daemon/eng_loop.h"
#include "../daemon/wal/wal_read.h"
#include "bench_host.h"

enum { SEGMENTS = 4, STAGE_BYTES = 16 << 20, LATENCIES = 1 << 16, DEPTH_MAX = 4, VALUE_MAX = 4096 };

static struct {
	const char *folder;
	uint64_t seconds_x10, rounds, segment_bytes;
	bool epoll, small;
} opt = {.seconds_x10 = 15, .rounds = 5, .segment_bytes = 64 << 20};

static struct bench {
	struct eng_loop *l;
	uint8_t *stage;
	int fd[SEGMENTS];
	uint64_t latency[LATENCIES], n_latencies;
	/* of the limit */
	struct eng_wait wait[DEPTH_MAX];
	uint64_t began_ns[DEPTH_MAX], n_done, n_failed;
	/* of the log */
	struct wal *w;
	uint64_t number[SEGMENTS], next_number, said;
	bool in_use[SEGMENTS];
} b;

static void die(const char *what, int e)
{
	fprintf(stderr, "bench_wal: %s: %s\n", what, strerror(e));
	exit(1);
}

static int by_value(const void *a, const void *c)
{
	const uint64_t *x = a, *y = c;

	return *x < *y ? -1 : *x > *y;
}

static double latency_us(double part)
{
	if (b.n_latencies == 0)
		return 0;
	return (double)b.latency[(uint64_t)((double)(b.n_latencies - 1) * part)] / 1000;
}

static void note_latency(uint64_t ns)
{
	if (b.n_latencies < LATENCIES)
		b.latency[b.n_latencies++] = ns;
}

static void say(const char *part, uint64_t n, uint64_t bytes, uint64_t ns)
{
	double s = (double)ns / 1e9;

	qsort(b.latency, b.n_latencies, sizeof *b.latency, by_value);
	printf("{\"part\": \"%s\", \"per_s\": %.0f, \"bytes_per_s\": %.0f, \"p50_us\": %.1f, "
	       "\"p99_us\": "
	       "%.1f}\n",
		part, (double)n / s, (double)bytes / s, latency_us(0.5), latency_us(0.99));
	fflush(stdout);
	b.n_latencies = 0;
}

static void turn(bool wait)
{
	int r = eng_loop_wait(b.l, wait);

	if (r < 0)
		die("the loop", -r);
	eng_loop_dispatch(b.l);
}

/* -------------------------------------------------------------------- files */

static const char *path_of(int i)
{
	static char path[4096];

	(void)snprintf(path, sizeof path, "%s/bench_wal.%d", opt.folder, i);
	return path;
}

static void files_make(void)
{
	for (int i = 0; i < SEGMENTS; i++) {
		int fd = open(path_of(i), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		int r = fd < 0 ? -errno : wal_segment_zero(fd, 0, opt.segment_bytes);
		if (r < 0)
			die(path_of(i), -r);
		(void)close(fd);
		b.fd[i] = open(path_of(i), O_RDWR | O_DIRECT | O_CLOEXEC);
		if (b.fd[i] < 0)
			b.fd[i] = open(path_of(i), O_RDWR | O_CLOEXEC);
		if (b.fd[i] < 0)
			die(path_of(i), errno);
	}
}

static void files_remove(void)
{
	for (int i = 0; i < SEGMENTS; i++) {
		(void)close(b.fd[i]);
		(void)unlink(path_of(i));
	}
}

/* -------------------------------------------------------------------- limit */

static void on_written(void *arg, int result)
{
	int i = (int)(intptr_t)arg;

	b.n_failed += result <= 0;
	b.n_done++;
	note_latency(host_now_ns() - b.began_ns[i]);
}

static void limit(const char *part, uint32_t bytes, int depth)
{
	uint64_t end_ns = host_now_ns() + opt.seconds_x10 * 100000000, began_ns = host_now_ns();
	uint64_t off = 0;

	b.n_done = b.n_failed = 0;
	while (host_now_ns() < end_ns) {
		for (int i = 0; i < depth; i++) {
			if (b.wait[i].armed)
				continue;
			b.wait[i] = (struct eng_wait){
				.done = on_written, .arg = (void *)(intptr_t)i};
			b.began_ns[i] = host_now_ns();
			eng_loop_write(b.l, b.fd[0], b.stage + (uint64_t)i * bytes, bytes, off,
				&b.wait[i]);
			off = off + 2 * bytes <= opt.segment_bytes ? off + bytes : 0;
		}
		turn(true);
	}
	uint64_t ns = host_now_ns() - began_ns, n = b.n_done;
	for (int i = 0; i < depth; i++)
		while (b.wait[i].armed)
			turn(true);
	if (b.n_failed)
		die("a write of the limit", EIO);
	say(part, n, n * bytes, ns);
}

/* ---------------------------------------------------------------------- log */

static void on_durable(void *arg, uint64_t lsn)
{
	(void)arg;
	b.said = lsn;
}

static void on_failed(void *arg, int error)
{
	(void)arg;
	die("a write of the log", -error);
}

static void on_released(void *arg, const struct wal_segment *s, uint64_t last_lsn)
{
	(void)arg, (void)last_lsn;
	for (int i = 0; i < SEGMENTS; i++)
		if (b.fd[i] == s->fd)
			b.in_use[i] = false;
}

static void give(void)
{
	while (wal_segments_wanted(b.w) > 0) {
		int oldest = -1;
		for (int i = 0; i < SEGMENTS; i++)
			if (!b.in_use[i] && (oldest < 0 || b.number[i] < b.number[oldest]))
				oldest = i;
		if (oldest < 0)
			return;
		b.number[oldest] = b.next_number++;
		b.in_use[oldest] = true;
		if (wal_segment_give(b.w, &(struct wal_segment){b.number[oldest], b.fd[oldest]}) <
			0)
			die("a segment", EINVAL);
	}
}

static void log_begin(struct wal_io *io, uint32_t depth)
{
	struct wal_opts o = {.stage = b.stage,
		.stage_bytes = STAGE_BYTES,
		.io = io,
		.identity = "bench",
		.segment_bytes = opt.segment_bytes,
		.writes_max = depth,
		.ahead = 2,
		.durable = on_durable,
		.failed = on_failed,
		.released = on_released};
	int r = wal_new(&o, &(struct wal_end){0}, &b.w);

	if (r < 0)
		die("the log", -r);
	b.said = 0;
	b.next_number = b.next_number ? b.next_number : 1;
	give();
}

static uint64_t append(uint64_t lsn, uint32_t value_bytes)
{
	static uint8_t value[VALUE_MAX];
	uint8_t key[16] = {0};
	struct wal_change c = {.kind = WAL_SET,
		.lsn = lsn,
		.store_id = 1,
		.key = key,
		.key_bytes = sizeof key,
		.head = value,
		.head_bytes = value_bytes};

	memcpy(key, &lsn, sizeof lsn);
	if (wal_append(b.w, &c) != 0)
		return 0;
	wal_settle(b.w);
	return 1;
}

static void log_write(
	struct wal_io *io, const char *part, uint32_t value_bytes, uint32_t window, uint32_t depth)
{
	uint64_t lsn = 0, appended_ns = 0, began_ns, end_ns;
	struct wal_status s;

	log_begin(io, depth);
	began_ns = host_now_ns();
	end_ns = began_ns + opt.seconds_x10 * 100000000;
	while (host_now_ns() < end_ns) {
		uint64_t said = b.said;
		if (window == 1)
			appended_ns = host_now_ns();
		while (lsn < b.said + window && append(lsn + 1, value_bytes))
			lsn++;
		give();
		(void)wal_submit(b.w);
		turn(true);
		if (window == 1 && b.said > said)
			note_latency(host_now_ns() - appended_ns);
	}
	uint64_t ns = host_now_ns() - began_ns;
	wal_status(b.w, &s);
	say(part, b.said, s.n_bytes, ns);
	while (wal_n_writes(b.w) || wal_durable_lsn(b.w) < wal_last_lsn(b.w)) {
		give();
		(void)wal_submit(b.w);
		turn(wal_n_writes(b.w) > 0);
	}
	wal_free(b.w);
}

/* --------------------------------------------------------------------- read */

static int on_record(void *arg, const struct wal_read_record *got)
{
	uint64_t *n = arg;

	*n += got->r->lsn > 0;
	return 0;
}

static int by_number(const void *x, const void *y)
{
	return by_value(
		&((const struct wal_file *)x)->number, &((const struct wal_file *)y)->number);
}

static void log_read(void)
{
	struct wal_file file[SEGMENTS];
	struct wal_read_result r;
	uint64_t n = 0, began_ns;

	for (int i = 0; i < SEGMENTS; i++) {
		file[i] = (struct wal_file){.number = b.number[i], .bytes = opt.segment_bytes};
		file[i].fd = open(path_of(i), O_RDONLY | O_CLOEXEC);
		if (file[i].fd < 0)
			die(path_of(i), errno);
	}
	qsort(file, SEGMENTS, sizeof *file, by_number);
	struct wal_read_opts o = {
		.files = file, .n_files = SEGMENTS, .record = on_record, .arg = &n};
	for (int pass = 0; pass < 2; pass++) { /* the first one brings it into the cache */
		n = 0;
		began_ns = host_now_ns();
		int x = wal_read(&o, &r);
		if (x < 0)
			die("reading", -x);
	}
	say("read", n, r.n_bytes, host_now_ns() - began_ns);
	for (int i = 0; i < SEGMENTS; i++)
		(void)close(file[i].fd);
}

static void options(int argc, char **argv)
{
	static const struct option longs[] = {{"seconds", required_argument, NULL, 's'},
		{"rounds", required_argument, NULL, 'r'}, {"epoll", no_argument, NULL, 'e'},
		{"small", no_argument, NULL, 'm'}, {0}};
	int o;

	while ((o = getopt_long(argc, argv, "", longs, NULL)) >= 0) {
		if (o == 's')
			opt.seconds_x10 = 10 * host_number(optarg, 1, 60);
		else if (o == 'r')
			opt.rounds = host_number(optarg, 1, 100);
		else if (o == 'e')
			opt.epoll = true;
		else if (o == 'm')
			opt.small = true;
		else
			exit(2);
	}
	if (optind != argc - 1) {
		fprintf(stderr,
			"usage: bench_wal FOLDER [--seconds S] [--rounds N] [--epoll] [--small]\n");
		exit(2);
	}
	opt.folder = argv[optind];
	if (opt.small) {
		opt.rounds = 1;
		opt.seconds_x10 = 1;
		opt.segment_bytes = 4 << 20;
	}
}

int main(int argc, char **argv)
{
	struct wal_io *io;
	const char *why;

	options(argc, argv);
	int r = eng_loop_new(opt.epoll ? CONFIG_IO_EPOLL : CONFIG_IO_AUTO, 64, &b.l, &why);
	if (r < 0)
		die(why, -r);
	b.stage = mmap(
		NULL, STAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (b.stage == MAP_FAILED)
		die("memory", errno);
	r = wal_io_loop_new(b.l, b.stage, STAGE_BYTES, &io);
	if (r < 0)
		die("writes", -r);
	files_make();
	printf("{\"how\": \"%s\"}\n", io->how);
	for (uint64_t i = 0; i < opt.rounds; i++) {
		limit("limit 4096 1", 4096, 1);
		log_write(io, "log 256 1 1", 256, 1, 1);
		limit("limit 24576 1", 24576, 1);
		log_write(io, "log 256 64 1", 256, 64, 1);
		limit("limit 12288 2", 12288, 2);
		log_write(io, "log 256 64 2", 256, 64, 2);
		limit("limit 8192 4", 8192, 4);
		log_write(io, "log 256 64 4", 256, 64, 4);
		limit("limit 524288 2", 524288, 2);
		log_write(io, "log 256 8192 2", 256, 8192, 2);
		log_read();
	}
	wal_io_loop_free(io);
	eng_loop_free(b.l);
	files_remove();
	return 0;
}
