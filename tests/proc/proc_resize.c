/* proc_resize.c - a pool of another size while it serves: by a reload, and for want of memory of the whole
 * system; and what those see of it who read meanwhile.
 */
#include "resize.h"

#define POOL(size) "pools:\n  main: {size: " size ", huge_pages: \"off\", " T_DAEMON_ALL "}\n" MORE
#define MORE "heartbeat: 100ms\n"

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

/* Whether the entries that they hold live or were overwritten. */
TEST(a_pool_does_not_become_smaller_than_what_readers_hold)
{
	enum { N = 20, BYTES = 500000 };
	struct t_daemon *d = t_daemon_start(POOL("32MiB"), NULL);
	struct hc *hc = client(d);
	struct hc_store *s = store_of(hc);
	struct hc_view v[N];
	uint8_t *value = calloc(1, BYTES);

	CHECK(value);
	for (int i = 0; i < N; i++) {
		memset(value, 'a' + i, BYTES);
		CHECK_EQ(hc_set(s, &i, sizeof i, value, BYTES, NULL), HC_OK);
		CHECK_EQ(hc_view(s, &i, sizeof i, &v[i]), HC_OK);
	}
	for (int i = 0; i < 3; i++) /* below limbo_cap, also later */
		CHECK_EQ(hc_set(s, &i, sizeof i, "", 0, NULL), HC_OK);
	CHECK(reload(d, POOL("8MiB")) != 0);
	fprintf(stderr, "  %s", err);
	CHECK(strstr(err, "pool main cannot be resized: readers and the index hold 9"));
	CHECK(strstr(err, "use at least 11 MiB") && strstr(err, "hypercache clients"));
	CHECK_EQ(counter(hc, SHM_PC_limit_bytes), 32 * MIB);
	CHECK_EQ(shm_load_rlx(&hc->ctl->pool[0].wanted_bytes), 32 * MIB);
	CHECK_EQ(counter(hc, SHM_PC_evicted_entries), 0);
	CHECK_EQ(reload(d, POOL("16MiB")), 0);
	wait_size(hc, 16 * MIB - 128 * 1024, 16 * MIB + 128 * 1024);
	for (int i = 0; i < N; i++) {
		CHECK_EQ(hc_view_ok(&v[i]), 1);
		memset(value, 'a' + i, BYTES);
		CHECK(v[i].value_bytes == BYTES && memcmp(v[i].value, value, BYTES) == 0);
		CHECK_EQ(hc_view_release(&v[i]), HC_OK);
	}
	CHECK_EQ(reload(d, POOL("8MiB")), 0);
	wait_size(hc, 8 * MIB - 128 * 1024, 8 * MIB + 128 * 1024);
	check_fsck(d);
	free(value);
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
