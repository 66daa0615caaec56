/* proc_resize_huge.c - a pool of huge pages of another size while it serves.
 *
 * Apart from proc_resize, because here memory is a number of pages that the whole machine shares: nothing else
 * runs beside it.  Whoever looks into a hole of such a file gets a page of it, and where no page is free
 * SIGBUS (`kernel_memory` says so of this kernel): so no reader is ever sent there (rule P30).
 */
#include "resize.h"

#define POOL(size) \
	"pools:\n  main: {size: " size ", huge_pages: \"on\", " T_DAEMON_ALL "}\nheartbeat: " \
	"100ms\n"
#define HUGE_DIR "/sys/kernel/mm/hugepages/hugepages-2048kB/"

enum { PAGE = 2 << 20, NEED = 20 /* of them, for all of it */, MANY = 256 };

static long huge(const char *name)
{
	char path[128];
	long n = 0;

	(void)snprintf(path, sizeof path, HUGE_DIR "%s", name);
	FILE *f = fopen(path, "re");
	if (!f)
		return 0;
	CHECK_EQ(fscanf(f, "%ld", &n), 1);
	(void)fclose(f);
	return n;
}

/* Pages that anybody may take. */
static long pages_free(void) { return huge("free_hugepages") - huge("resv_hugepages"); }

static void wait_pages(struct hc *hc, long least)
{
	uint64_t deadline_ns = t_now_ns() + t_limit_ms(LIMIT_MS) * 1000000ull;

	while (pages_free() < least) {
		CHECK_EQ(hc_ping(hc), HC_OK);
		if (t_now_ns() > deadline_ns)
			t_fail(__FILE__, __LINE__, "%ld huge pages are free, not %ld", pages_free(),
				least);
	}
}

static void need_pages(void)
{
	if (pages_free() < NEED)
		SKIP("fewer than 20 huge pages of 2 MiB are free");
}

TEST_LIMIT(its_pages_go_back_to_the_system_and_come_again_under_its_readers, 120)
{
	enum { N = 12000 };
	int n = 0;

	need_pages();
	struct t_daemon *d = t_daemon_start(POOL("32MiB"), NULL);
	struct hc *hc = client(d);
	struct hc_store *s = store_of(hc);
	for (int i = 0; i < N; i++)
		put(s, i);
	CHECK_EQ(counter(hc, SHM_PC_evicted_entries), 0);
	CHECK_EQ(file_bytes(d), 32 * MIB);
	struct looker l[2] = {look_start(d), look_start(d)};
	long before = pages_free();
	CHECK_EQ(reload(d, POOL("12MiB")), 0);
	wait_size(hc, 10 * MIB, 12 * MIB);
	wait_pages(hc, before + 10);
	CHECK_EQ(file_bytes(d), 12 * MIB);
	for (int i = 0; i < N; i++)
		n += get(s, i);
	CHECK(n > N / 4 && n < N * 4 / 5);
	check_fsck(d);
	(void)t_daemon_wait_engine(d, t_daemon_kill_engine(d, SIGKILL));
	wait_size(hc, 10 * MIB, 12 * MIB);
	CHECK_EQ(pages_free(), before + 10);
	CHECK_EQ(reload(d, POOL("32MiB")), 0);
	wait_size(hc, 32 * MIB, 32 * MIB);
	CHECK_EQ(pages_free(), before);
	CHECK_EQ(reload(d, POOL("36MiB")), 0); /* a region of its own */
	wait_size(hc, 36 * MIB, 36 * MIB);
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
	CHECK_EQ(pages_free(), before + 16);
}

static void need_few(void)
{
	need_pages();
	if (pages_free() > MANY)
		SKIP("more than 256 huge pages are free: somebody seems to need them");
}

/* Takes all pages that are free.  The descriptor gives them back. */
static int take_all(void)
{
	int fd = memfd_create("all", MFD_CLOEXEC | MFD_HUGETLB);
	off_t bytes = (off_t)pages_free() * PAGE;

	CHECK(fd >= 0);
	CHECK_EQ(ftruncate(fd, bytes), 0);
	CHECK_EQ(fallocate(fd, 0, 0, bytes), 0);
	CHECK_EQ(pages_free(), 0);
	return fd;
}

/* Reads all that the pool ever had. */
static int look_everywhere(const struct t_daemon *d, size_t bytes)
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		(void)signal(SIGBUS, SIG_DFL); /* a sanitizer has a handler of its own */
		struct hc *mine = client(d);
		uint64_t sum = 0;
		for (size_t off = 0; off < bytes; off += 4096)
			sum += mine->pool[0].base[off];
		_exit(sum == 0);
	}
	return t_wait_child(pid, t_limit_ms(LIMIT_MS));
}

TEST_LIMIT(who_reads_the_holes_dies_alone, 120)
{
	enum { N = 6000 };

	need_few();
	struct t_daemon *d = t_daemon_start(POOL("24MiB"), NULL);
	struct hc *hc = client(d);
	struct hc_store *s = store_of(hc);
	pid_t engine = t_daemon_engine(d);
	for (int i = 0; i < N; i++)
		put(s, i);
	struct looker l = look_start(d);
	CHECK_EQ(reload(d, POOL("8MiB")), 0);
	wait_size(hc, 6 * MIB, 8 * MIB);
	long before = pages_free();
	int st = look_everywhere(d, 24 * MIB); /* there are pages: it gets some */
	CHECK(WIFEXITED(st) && WEXITSTATUS(st) == 0);
	wait_pages(hc, before); /* and a tick gives them back */
	int all = take_all();
	for (int round = 0; round < 3; round++) {
		st = look_everywhere(d, 24 * MIB);
		CHECK(WIFSIGNALED(st) && WTERMSIG(st) == SIGBUS);
	}
	for (int i = 0; i < N; i++) /* nobody who looks where he is sent notices */
		put(s, i);
	for (int i = 0; i < N; i++)
		(void)get(s, i);
	/* There is nothing to grow with: it stays as it is, says so, and tries again. */
	CHECK_EQ(reload(d, POOL("24MiB")), 0);
	free(t_proc_line(d->proc, "pool main has 8192 KiB and is to have 24576", LIMIT_MS));
	for (int i = 0; i < N; i++)
		put(s, i);
	(void)close(all);
	wait_size(hc, 24 * MIB, 24 * MIB);
	CHECK_EQ(t_daemon_engine(d), engine);
	check_fsck(d);
	look_end(&l, 1);
	hc_close(hc);
	t_daemon_stop(d);
}

TEST(a_region_for_which_there_are_no_pages_is_refused)
{
	need_few();
	struct t_daemon *d = t_daemon_start(POOL("8MiB"), NULL);
	struct hc *hc = client(d);
	int all = take_all();

	CHECK(reload(d, POOL("16MiB")) != 0);
	CHECK(strstr(err, "pool main cannot be resized") && strstr(err, "nr_hugepages"));
	CHECK_EQ(counter(hc, SHM_PC_limit_bytes), 8 * MIB);
	CHECK_EQ(shm_load32_rlx(&hc->ctl->pool[0].n_regions), 1);
	(void)close(all);
	CHECK_EQ(reload(d, POOL("16MiB")), 0);
	wait_size(hc, 16 * MIB, 16 * MIB);
	check_fsck(d);
	hc_close(hc);
	t_daemon_stop(d);
}
