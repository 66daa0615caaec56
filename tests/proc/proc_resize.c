/* proc_resize.c - a pool of another size while it serves: by a reload, and for want of memory of the whole
 * system; and what those see of it who read meanwhile.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "../../libclient/hc_i.h"
#include "atomic.h"
#include "hypercache.h"
#include "step.h"

enum { LIMIT_MS = 30000, VALUE = 3000, VIEWS = 20 };

#define MIB (1ull << 20)
#define POOL(size) "pools:\n  main: {size: " size ", huge_pages: \"off\", " T_DAEMON_ALL "}\n" MORE
#define MORE "heartbeat: 100ms\n"

static char *out, *err;

static int reload(const struct t_daemon *d, const char *yaml)
{
	const char *argv[] = {
		t_bin("hypercache"), "--socket", d->socket, "--admin", d->admin, "reload", NULL};

	t_daemon_configure(d, yaml);
	free(out);
	free(err);
	return t_run(argv, NULL, 0, &out, NULL, &err, LIMIT_MS);
}

static struct hc *client(const struct t_daemon *d)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct hc *hc;

	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(LIMIT_MS);
	CHECK_EQ(hc_open(&hc, &o), HC_OK);
	return hc;
}

static struct hc_store *store_of(struct hc *hc)
{
	struct hc_store *s;

	CHECK_EQ(hc_store(hc, "default", &s), HC_OK);
	return s;
}

static uint64_t counter(const struct hc *hc, enum shm_pool_counter c)
{
	return shm_load_rlx(&hc->ctl->pool[0].counter[c]);
}

/* Waits until the pool has a size in [lo, hi]. */
static void wait_size(const struct hc *hc, uint64_t lo, uint64_t hi)
{
	uint64_t deadline_ns = t_now_ns() + t_limit_ms(LIMIT_MS) * 1000000ull, is;

	do {
		CHECK_EQ(hc_ping((struct hc *)(uintptr_t)hc),
			HC_OK); /* an event: the engine's turn */
		is = counter(hc, SHM_PC_limit_bytes);
		if (t_now_ns() > deadline_ns)
			t_fail(__FILE__, __LINE__, "the pool has %llu bytes",
				(unsigned long long)is);
	} while (is < lo || is > hi);
}

static size_t value_make(int i, uint8_t *v)
{
	size_t n = 8 + (size_t)(i * 7919u) % VALUE;

	memset(v, 'a' + i % 23, n);
	memcpy(v, &i, sizeof i);
	return n;
}

static void put(struct hc_store *s, int i)
{
	uint8_t v[VALUE + 8];
	size_t n = value_make(i, v);

	CHECK_EQ(hc_set(s, &i, sizeof i, v, n, NULL), HC_OK);
}

/* Is it there?  Then it is whole. */
static bool get(struct hc_store *s, int i)
{
	uint8_t v[VALUE + 8], want[VALUE + 8];
	size_t n = 0;
	int r = hc_get(s, &i, sizeof i, v, sizeof v, &n);

	CHECK(r == HC_OK || r == HC_MISS);
	if (r == HC_OK) {
		CHECK_EQ(n, value_make(i, want));
		CHECK(memcmp(v, want, n) == 0);
	}
	return r == HC_OK;
}

static uint64_t file_bytes(const struct t_daemon *d)
{
	uint64_t sum = 0;
	char path[64], to[256];

	for (int fd = 0; fd < 256; fd++) {
		struct stat st;
		(void)snprintf(path, sizeof path, "/proc/%d/fd/%d", d->proc->pid, fd);
		ssize_t n = readlink(path, to, sizeof to - 1);
		if (n <= 0)
			continue;
		to[n] = 0;
		if (strstr(to, "memfd:hypercache-main") && stat(path, &st) == 0)
			sum += (uint64_t)st.st_blocks * 512;
	}
	return sum;
}

static void check_fsck(const struct t_daemon *d)
{
	const char *argv[] = {
		t_bin("hypercache"), "--socket", d->socket, "--admin", d->admin, "fsck", NULL};

	free(out);
	free(err);
	CHECK_EQ(t_run(argv, NULL, 0, &out, NULL, &err, LIMIT_MS), 0);
	CHECK(strstr(out, "whole: "));
}

/* ------------------------------------------------------------------ growing */

TEST(a_pool_grows_and_clients_of_before_read_what_lies_there)
{
	enum { N = 12000 };
	struct t_daemon *d = t_daemon_start(POOL("8MiB"), NULL);
	struct hc *old = client(d), *other = client(d);
	struct hc_store *s = store_of(old), *o = store_of(other);
	int n = 0;

	for (int i = 0; i < N; i++)
		put(s, i);
	CHECK(counter(old, SHM_PC_evicted_entries) > 0);
	CHECK_EQ(reload(d, POOL("24MiB")), 0);
	CHECK(strstr(out, "pools.main.size: 8MiB -> 24MiB"));
	wait_size(old, 24 * MIB, 24 * MIB);
	CHECK_EQ(shm_load_rlx(&old->pool[0].bytes), 8 * MIB);
	for (int i = 0; i < N; i++)
		put(s, i);
	struct hc *fresh = client(d);
	struct hc_store *f = store_of(fresh);
	for (int i = 0; i < N; i++) {
		bool there = get(o, i);
		CHECK_EQ(get(f, i), there);
		n += there;
	}
	CHECK(n > N * 8 / 10);
	CHECK_EQ(shm_load_rlx(&other->pool[0].bytes), 24 * MIB); /* when it was led there */
	CHECK_EQ(shm_load_rlx(&fresh->pool[0].bytes), 24 * MIB);
	CHECK_EQ(reload(d, POOL("32MiB")), 0); /* once more */
	wait_size(old, 32 * MIB, 32 * MIB);
	pid_t engine = t_daemon_kill_engine(d, SIGKILL);
	(void)t_daemon_wait_engine(d, engine);
	wait_size(old, 32 * MIB, 32 * MIB);
	n = 0;
	for (int i = 0; i < N; i++)
		n += get(o, i);
	CHECK(n > N * 8 / 10);
	check_fsck(d);
	hc_close(old);
	hc_close(other);
	hc_close(fresh);
	t_daemon_stop(d);
}

static int count_one(void *arg, const struct hc_scan_entry *e)
{
	(void)e;
	(*(int *)arg)++;
	return 0;
}

TEST(a_scan_goes_on_in_memory_that_was_added)
{
	enum { N = 5000 };
	struct t_daemon *d = t_daemon_start(POOL("4MiB"), NULL);
	struct hc *old = client(d), *writer = client(d);
	struct hc_store *s = store_of(old), *w = store_of(writer);
	int n = 0;

	CHECK_EQ(reload(d, POOL("16MiB")), 0);
	wait_size(writer, 16 * MIB, 16 * MIB);
	for (int i = 0; i < N; i++)
		put(w, i);
	struct hc_scan scan = HC_OPTS(hc_scan);
	do
		CHECK(hc_scan(s, &scan, count_one, &n) >= 0);
	while (scan.cursor);
	CHECK(n >= N);
	CHECK_EQ(shm_load_rlx(&old->pool[0].bytes), 16 * MIB);
	hc_close(old);
	hc_close(writer);
	t_daemon_stop(d);
}

TEST(what_cannot_be_is_refused_and_changes_nothing)
{
	struct t_daemon *d = t_daemon_start(POOL("8MiB"), NULL);
	struct hc *hc = client(d);

	CHECK(reload(d, POOL("40MiB")) != 0); /* clients have set aside four times as much */
	CHECK(strstr(err, "pool main cannot be resized") && strstr(err, "restart"));
	CHECK(reload(d, POOL("512GiB")) != 0);
	CHECK_EQ(counter(hc, SHM_PC_limit_bytes), 8 * MIB);
	CHECK_EQ(shm_load32_rlx(&hc->ctl->pool[0].n_regions), 1);
	hc_close(hc);
	t_daemon_stop(d);
}

/* ------------------------------------------------------------------ shrinking */

/* Those who hold a view when the pool shrinks: each tells that it is ready, and looks on until told to
 * end. */
struct looker {
	pid_t pid;
	int to;
};

static void look(const char *socket, int ready, int end)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct hc_view v[VIEWS];
	struct hc_store *s;
	struct hc *hc;
	char c = 1;

	o.socket = socket;
	CHECK_EQ(hc_open(&hc, &o), HC_OK);
	s = store_of(hc);
	for (int i = 0; i < VIEWS; i++) {
		int key = i * 37;
		CHECK_EQ(hc_view(s, &key, sizeof key, &v[i]), HC_OK);
	}
	CHECK_EQ(write(ready, &c, 1), 1);
	CHECK_EQ(fcntl(end, F_SETFL, O_NONBLOCK), 0);
	for (int n = 0; read(end, &c, 1) < 0; n++) {
		uint8_t want[VALUE + 8];
		(void)get(s, n % 8000);
		int i = n % VIEWS;
		CHECK_EQ(value_make(i * 37, want), v[i].value_bytes);
		CHECK(memcmp(want, v[i].value, v[i].value_bytes) == 0);
		CHECK_EQ(hc_view_ok(&v[i]), 1);
	}
	for (int i = 0; i < VIEWS; i++)
		CHECK_EQ(hc_view_release(&v[i]), HC_OK);
	hc_close(hc);
	_exit(0);
}

static struct looker look_start(const struct t_daemon *d)
{
	int ready[2], end[2];
	char c;

	CHECK(pipe(ready) == 0 && pipe(end) == 0);
	struct looker l = {.pid = fork(), .to = end[1]};
	CHECK(l.pid >= 0);
	if (l.pid == 0) {
		(void)close(end[1]);
		look(d->socket, ready[1], end[0]);
	}
	(void)close(ready[1]);
	(void)close(end[0]);
	CHECK_EQ(read(ready[0], &c, 1), 1);
	(void)close(ready[0]);
	return l;
}

static void look_end(struct looker *l, int n)
{
	for (int i = 0; i < n; i++) /* the later ones have the earlier ones' too */
		(void)close(l[i].to);
	for (int i = 0; i < n; i++) {
		int st = t_wait_child(l[i].pid, t_limit_ms(LIMIT_MS));
		CHECK(WIFEXITED(st) && WEXITSTATUS(st) == 0);
	}
}

TEST_LIMIT(a_pool_shrinks_and_grows_again_under_its_readers, 120)
{
	enum { N = 12000 };
	struct t_daemon *d = t_daemon_start(POOL("32MiB"), NULL);
	struct hc *hc = client(d);
	struct hc_store *s = store_of(hc);
	int n = 0;

	for (int i = 0; i < N; i++)
		put(s, i);
	CHECK_EQ(counter(hc, SHM_PC_evicted_entries), 0);
	CHECK(file_bytes(d) >= 32 * MIB);
	struct looker l[2] = {look_start(d), look_start(d)};
	CHECK_EQ(reload(d, POOL("12MiB")), 0);
	wait_size(hc, 12 * MIB - 128 * 1024, 12 * MIB + 128 * 1024);
	CHECK_EQ(counter(hc, SHM_PC_hole_bytes) + counter(hc, SHM_PC_limit_bytes), 32 * MIB);
	CHECK(file_bytes(d) <= 12 * MIB + 512 * 1024);
	for (int i = 0; i < N; i++)
		n += get(s, i);
	CHECK(n > N / 3 && n < N * 4 / 5);
	for (int i = 0; i < N; i++) /* it goes on being a cache */
		put(s, i);
	check_fsck(d);
	(void)t_daemon_wait_engine(d, t_daemon_kill_engine(d, SIGKILL));
	wait_size(hc, 12 * MIB - 128 * 1024, 12 * MIB + 128 * 1024);
	CHECK(file_bytes(d) <= 12 * MIB + 512 * 1024);
	CHECK_EQ(reload(d, POOL("32MiB")), 0);
	wait_size(hc, 32 * MIB - 128 * 1024, 32 * MIB);
	for (int i = 0; i < N; i++)
		put(s, i);
	n = 0;
	for (int i = 0; i < N; i++)
		n += get(s, i);
	CHECK(n > N * 9 / 10);
	check_fsck(d);
	look_end(l, 2);
	hc_close(hc);
	t_daemon_stop(d);
}

/* A reader that looks everywhere, where it was sent or not.  With huge pages it dies of it, and nobody
 * else notices. */
TEST(who_reads_the_holes_harms_nobody_else)
{
	enum { N = 6000 };
	struct t_daemon *d = t_daemon_start(POOL("16MiB"), NULL);
	struct hc *hc = client(d);
	struct hc_store *s = store_of(hc);
	pid_t engine = t_daemon_engine(d);

	for (int i = 0; i < N; i++)
		put(s, i);
	CHECK_EQ(reload(d, POOL("6MiB")), 0);
	wait_size(hc, 6 * MIB - 128 * 1024, 6 * MIB + 128 * 1024);
	for (int round = 0; round < 3; round++) {
		pid_t pid = fork();
		CHECK(pid >= 0);
		if (pid == 0) {
			struct hc *mine = client(d);
			uint64_t sum = 0;
			for (uint64_t off = 0; off < 16 * MIB; off += 512)
				sum += mine->pool[0].base[off];
			_exit(sum == 0); /* so that nothing is left out; the pool holds something */
		}
		int st = t_wait_child(pid, t_limit_ms(LIMIT_MS));
		CHECK((WIFEXITED(st) && WEXITSTATUS(st) == 0) ||
			(WIFSIGNALED(st) && WTERMSIG(st) == SIGBUS));
	}
	uint64_t deadline_ns = t_now_ns() + t_limit_ms(LIMIT_MS) * 1000000ull;
	while (file_bytes(d) > 6 * MIB + 512 * 1024) { /* a tick gives it back once more */
		CHECK_EQ(hc_ping(hc), HC_OK);
		CHECK(t_now_ns() < deadline_ns);
	}
	for (int i = 0; i < N; i++)
		put(s, i);
	for (int i = 0; i < N; i++)
		(void)get(s, i);
	CHECK_EQ(t_daemon_engine(d), engine);
	check_fsck(d);
	hc_close(hc);
	t_daemon_stop(d);
}

/* ------------------------------------------------------------------ the system's pressure */

static void say(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	CHECK(fd >= 0);
	CHECK_EQ(pwrite(fd, text, strlen(text), 0), (ssize_t)strlen(text));
	(void)close(fd);
}

TEST_LIMIT(a_system_short_of_memory_gets_some_back_but_no_guarantee, 120)
{
	char path[512], yaml[1024];

	(void)snprintf(path, sizeof path, "%s/pressure", t_dir());
	say(path, "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n");
	(void)snprintf(yaml, sizeof yaml,
		"%smemory_pressure: %s\nstores: { default: { guaranteed: 5MiB } }\n", POOL("16MiB"),
		path);
	struct t_daemon *d = t_daemon_start(yaml, NULL);
	struct hc *hc = client(d);
	struct hc_store *s = store_of(hc);
	for (int i = 0; i < 12000; i++)
		put(s, i);
	CHECK_EQ(counter(hc, SHM_PC_limit_bytes), 16 * MIB);
	CHECK_EQ(counter(hc, SHM_PC_squeezes), 0);
	say(path, "some avg10=35.00 avg60=9.00 avg300=1.00 total=9\n");
	/* Down to what keeps the promise, with index and page table. */
	wait_size(hc, 5 * MIB, 8 * MIB);
	CHECK(counter(hc, SHM_PC_squeezes) > 5);
	for (int i = 0; i < 2000; i++)
		put(s, i);
	CHECK(counter(hc, SHM_PC_limit_bytes) > 5 * MIB);
	say(path, "some avg10=0.00 avg60=0.00 avg300=0.00 total=9\n");
	wait_size(hc, 8 * MIB, 16 * MIB); /* slowly it comes back */
	check_fsck(d);
	hc_close(hc);
	t_daemon_stop(d);
}
