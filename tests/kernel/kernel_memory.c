/* kernel_memory.c - memfds: rights, seals, holes and huge pages, as the rules take them for granted.
 *
 * Each test asks the kernel one question that a rule rests on, and names the rule that is void where
 * the answer is no.  README.md says what we would do there.  Locks and deaths: kernel_facts.c
 *
 * Tests of huge pages reserve the few 2 MiB pages that they need, which takes root, and give them back.
 */
#include <grp.h>
#include <linux/futex.h>
#include <sched.h>
#include "k.h"

enum { PAGE_BYTES = 4096, HOG_PAGES_MAX = 256 };

#define HUGE_DIR "/sys/kernel/mm/hugepages/hugepages-2048kB/"

/* ---- huge pages for a test ---- */

static long file_number(const char *path)
{
	long n = -1;
	FILE *f = fopen(path, "re");

	if (!f)
		return -1;
	if (fscanf(f, "%ld", &n) != 1)
		n = -1;
	fclose(f);
	return n;
}

static bool file_number_set(const char *path, long n)
{
	FILE *f = fopen(path, "we");
	bool ok;

	if (!f)
		return false;
	ok = fprintf(f, "%ld", n) > 0;
	return fclose(f) == 0 && ok;
}

static void pages_return(long n)
{
	file_number_set(HUGE_DIR "nr_hugepages", file_number(HUGE_DIR "nr_hugepages") - n);
}

static int ended_or_killed(pid_t pid)
{
	struct pollfd pfd = {.fd = k_pidfd_open(pid), .events = POLLIN};
	int status;

	if (poll(&pfd, 1, t_limit_ms(K_LIMIT_MS)) != 1)
		kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	close(pfd.fd);
	return status;
}

/* Runs `test` in a child while n more huge pages are in the system's pool, and gives them back however
 * it ends.  Skips where that is not possible: this is a matter of rights and memory, not of the kernel. */
static void with_huge_pages(long n, void (*test)(void))
{
	long before = file_number(HUGE_DIR "nr_hugepages");
	int lock = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), status;
	pid_t pid;

	if (before < 0)
		SKIP("the kernel has no 2 MiB huge pages");
	CHECK(lock >= 0 && flock(lock, LOCK_EX) == 0); /* two of us at once would miscount */
	before = file_number(HUGE_DIR "nr_hugepages");
	if (!file_number_set(HUGE_DIR "nr_hugepages", before + n))
		SKIP("huge pages can be reserved by root only");
	if (file_number(HUGE_DIR "nr_hugepages") < before + n) {
		pages_return(file_number(HUGE_DIR "nr_hugepages") - before);
		SKIP("not enough free memory in one piece for huge pages");
	}
	pid = k_fork();
	if (pid == 0) {
		close(lock);
		test();
		_exit(0);
	}
	status = ended_or_killed(pid); /* nothing here may fail before the pages are back */
	pages_return(n);
	close(lock);
	if (WIFEXITED(status) && WEXITSTATUS(status) == T_SKIPPED)
		_exit(T_SKIPPED); /* it has said why */
	CHECK_EQ(status, 0);
}

/* Allocates all free huge pages; skips if there are so many that others seem to need them. */
static int hog_open(void)
{
	int fd = k_memfd(K_HUGE_FLAGS, HOG_PAGES_MAX * K_HUGE_BYTES);

	for (off_t i = 0; i < HOG_PAGES_MAX; i++)
		if (fallocate(fd, 0, i * (off_t)K_HUGE_BYTES, (off_t)K_HUGE_BYTES) != 0)
			return fd;
	SKIP("too many free huge pages: the last one is not to be had");
}

static void *huge_map(int fd, size_t bytes, int prot, int flags)
{
	return mmap(NULL, bytes, prot, MAP_SHARED | flags, fd, 0);
}

static int punch(int fd, off_t off, size_t bytes)
{
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, (off_t)bytes);
}

static long blocks(int fd)
{
	struct stat st;

	CHECK(fstat(fd, &st) == 0);
	return (long)st.st_blocks;
}

/* ---- DESIGN 2: a reader cannot write ---- */

static void check_read_only(int fd, size_t bytes)
{
	int ro = k_reopen(fd, O_RDONLY);
	void *p;

	CHECK(ro >= 0);
	p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ro, 0);
	CHECK(p == MAP_FAILED);
	CHECK_EQ(errno, EACCES);
	p = k_map(ro, bytes, PROT_READ);
	CHECK(mprotect(p, bytes, PROT_READ | PROT_WRITE) == -1);
	CHECK_EQ(errno, EACCES);
	CHECK(write(ro, "x", 1) == -1);
	CHECK(punch(ro, 0, bytes) == -1);
	CHECK_EQ(errno, EBADF);
	CHECK(ftruncate(ro, 0) == -1);
	CHECK(fcntl(ro, F_ADD_SEALS, F_SEAL_WRITE) == -1);
	CHECK_EQ(errno, EPERM);
	CHECK(munmap(p, bytes) == 0);
	close(ro);
}

/* DESIGN 2: else any client could write into everybody's cache. */
TEST(reopened_read_only_memfd_cannot_be_written)
{
	int fd = k_memfd(0, PAGE_BYTES);

	check_read_only(fd, PAGE_BYTES);
	close(fd);
}

static void huge_read_only(void)
{
	int fd = k_memfd(K_HUGE_FLAGS, K_HUGE_BYTES);

	CHECK(fallocate(fd, 0, 0, (off_t)K_HUGE_BYTES) == 0);
	check_read_only(fd, K_HUGE_BYTES);
	close(fd);
}

/* DESIGN 2: the same for the pools. */
TEST(reopened_read_only_hugetlb_memfd_cannot_be_written) { with_huge_pages(1, huge_read_only); }

/* Becomes another user for good.  Its own /proc/self/fd must stay open to it. */
static void become(uid_t uid)
{
	CHECK(setgroups(0, NULL) == 0);
	CHECK(setresgid(uid, uid, uid) == 0 && setresuid(uid, uid, uid) == 0);
	CHECK(prctl(PR_SET_DUMPABLE, 1) == 0);
}

/* Whether user K_NOBODY, who holds ro, can open its file in this mode. */
static bool nobody_can_open(int ro, int flags)
{
	pid_t pid = k_fork();
	int status;

	if (pid == 0) {
		become(K_NOBODY);
		if (k_reopen(ro, flags) >= 0)
			_exit(0);
		_exit(errno == EACCES ? 1 : 2);
	}
	status = t_wait_child(pid, K_LIMIT_MS);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) < 2);
	return WEXITSTATUS(status) == 0;
}

/* DESIGN 2: else a client of another user could write after all. */
TEST(another_user_cannot_reopen_a_memfd_for_writing)
{
	int fd, ro;

	if (geteuid() != 0)
		SKIP("only root can become another user");
	fd = k_memfd(0, PAGE_BYTES);
	CHECK(fchmod(fd, 0644) == 0);
	ro = k_reopen(fd, O_RDONLY);
	CHECK(ro >= 0);
	CHECK(nobody_can_open(ro, O_RDONLY)); /* nothing but the mode is in its way */
	CHECK(!nobody_can_open(ro, O_RDWR));
	CHECK(fchmod(fd, 0600) == 0);
	CHECK(!nobody_can_open(ro, O_RDWR));
	CHECK(!nobody_can_open(ro, O_RDONLY));
	close(ro);
	close(fd);
}

/* DESIGN 2: why the supervisor sets mode 0600: a memfd is born open to everybody who holds it. */
TEST(new_memfd_can_be_reopened_for_writing_by_another_user)
{
	int fd, ro;

	if (geteuid() != 0)
		SKIP("only root can become another user");
	fd = k_memfd(0, PAGE_BYTES);
	ro = k_reopen(fd, O_RDONLY);
	CHECK(ro >= 0);
	CHECK(nobody_can_open(ro, O_RDWR));
	close(ro);
	close(fd);
}

/* DESIGN 2: why the daemon runs as a user of its own, or `strict`.  Where this fails, that is not needed. */
TEST(same_user_can_reopen_a_memfd_for_writing)
{
	pid_t pid = k_fork();

	if (pid == 0) {
		int fd, ro, rw;

		if (geteuid() == 0)
			become(K_NOBODY); /* root may do anything: not the question */
		fd = k_memfd(0, PAGE_BYTES);
		CHECK(fchmod(fd, 0400) == 0);
		ro = k_reopen(fd, O_RDONLY);
		CHECK(ro >= 0);
		close(fd);
		CHECK(k_reopen(ro, O_RDWR) == -1 && errno == EACCES);
		CHECK(fchmod(ro, 0600) == 0);
		rw = k_reopen(ro, O_RDWR);
		CHECK(rw >= 0);
		k_map(rw, PAGE_BYTES, PROT_READ | PROT_WRITE);
		_exit(0);
	}
	k_wait_ok(pid);
}

/* ---- seals ---- */

static void check_future_write(int fd, size_t bytes)
{
	int ro = k_reopen(fd, O_RDONLY), rw;
	char *before = k_map(fd, bytes, PROT_READ | PROT_WRITE);

	CHECK(ro >= 0);
	CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == 0);
	before[0] = 'x'; /* the engine that runs goes on */
	CHECK(mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
	CHECK_EQ(errno, EPERM); /* the next one cannot */
	rw = k_reopen(ro, O_RDWR);
	CHECK(rw >= 0);
	CHECK(mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, rw, 0) == MAP_FAILED);
	CHECK_EQ(errno, EPERM);
	CHECK(punch(rw, 0, bytes) == -1);
	CHECK_EQ(before[0], 'x');
	CHECK(munmap(before, bytes) == 0);
	close(rw);
	close(ro);
}

/* DESIGN 2, `strict`: else there is no protection from clients of the daemon's own user. */
TEST(future_write_seal_stops_every_later_writer)
{
	int fd = k_memfd(0, PAGE_BYTES);

	check_future_write(fd, PAGE_BYTES);
	close(fd);
}

static void huge_future_write(void)
{
	int fd = k_memfd(K_HUGE_FLAGS, K_HUGE_BYTES);

	check_future_write(fd, K_HUGE_BYTES);
	close(fd);
}

/* DESIGN 2, `strict`: the same for the pools. */
TEST(future_write_seal_stops_every_later_writer_of_hugetlb)
{
	with_huge_pages(1, huge_future_write);
}

static void check_size_seals(int fd, size_t bytes)
{
	CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK) == 0);
	CHECK(ftruncate(fd, 0) == -1);
	CHECK_EQ(errno, EPERM);
	CHECK(ftruncate(fd, 2 * (off_t)bytes) == -1);
	CHECK_EQ(errno, EPERM);
}

/* DESIGN 2: else a reader would meet SIGBUS behind a new end. */
TEST(size_seals_stop_shrinking_and_growing)
{
	int fd = k_memfd(0, PAGE_BYTES);

	check_size_seals(fd, PAGE_BYTES);
	close(fd);
}

static void huge_size_seals(void)
{
	int fd = k_memfd(K_HUGE_FLAGS, K_HUGE_BYTES);

	check_size_seals(fd, K_HUGE_BYTES);
	close(fd);
}

/* DESIGN 2: the same for the pools. */
TEST(size_seals_stop_shrinking_and_growing_of_hugetlb) { with_huge_pages(1, huge_size_seals); }

/* P16: why the engine believes nothing that it reads in a client's segment: its holder may empty it at
 * any moment.  It reads zeros then, never SIGBUS. */
TEST(holder_can_punch_its_own_size_sealed_memfd)
{
	int fd = k_memfd(0, PAGE_BYTES);
	char *p = k_map(fd, PAGE_BYTES, PROT_READ | PROT_WRITE);

	check_size_seals(fd, PAGE_BYTES);
	p[0] = 'x';
	CHECK(punch(fd, 0, PAGE_BYTES) == 0);
	CHECK_EQ(p[0], 0);
	CHECK(munmap(p, PAGE_BYTES) == 0);
	close(fd);
}

/* P16: why client segments have F_SEAL_SEAL: else a client could seal its segment against a new engine. */
TEST(holder_can_seal_against_writing_unless_seals_are_sealed)
{
	int open_fd = k_memfd(0, PAGE_BYTES), fd = k_memfd(0, PAGE_BYTES);

	check_size_seals(open_fd, PAGE_BYTES);
	CHECK(fcntl(open_fd, F_ADD_SEALS, F_SEAL_WRITE) == 0);
	CHECK(mmap(NULL, PAGE_BYTES, PROT_WRITE, MAP_SHARED, open_fd, 0) == MAP_FAILED);

	CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) == 0);
	CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == -1);
	CHECK_EQ(errno, EPERM);
	CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == -1);
	CHECK_EQ(errno, EPERM);
	CHECK(munmap(k_map(fd, PAGE_BYTES, PROT_READ | PROT_WRITE), PAGE_BYTES) == 0);
	close(open_fd);
	close(fd);
}

/* ---- P30: holes ---- */

/* P30: why clients touch no holes: memory given back comes back by being read. */
TEST(reading_a_hole_of_shmem_allocates_it_again)
{
	int fd = k_memfd(0, 4 * PAGE_BYTES), ro = k_reopen(fd, O_RDONLY);
	const volatile char *p;
	long full, punched;

	CHECK(ro >= 0);
	CHECK(fallocate(fd, 0, 0, 4 * PAGE_BYTES) == 0);
	full = blocks(fd);
	p = k_map(ro, 4 * PAGE_BYTES, PROT_READ);
	CHECK(punch(fd, PAGE_BYTES, PAGE_BYTES) == 0);
	punched = blocks(fd);
	CHECK(punched < full);
	CHECK_EQ(p[PAGE_BYTES], 0);
	CHECK_EQ(blocks(fd), full);
	CHECK(munmap((void *)p, 4 * PAGE_BYTES) == 0);
	close(ro);
	close(fd);
}

/* P30: else a prefetch before the pin could fault, or bring back what was given back. */
TEST(prefetch_of_a_hole_neither_faults_nor_allocates)
{
	int fd = k_memfd(0, 4 * PAGE_BYTES), ro = k_reopen(fd, O_RDONLY);
	char *p;
	long punched;

	CHECK(ro >= 0);
	p = k_map(ro, 4 * PAGE_BYTES, PROT_READ);
	CHECK(fallocate(fd, 0, 0, 4 * PAGE_BYTES) == 0);
	CHECK(punch(fd, PAGE_BYTES, PAGE_BYTES) == 0);
	punched = blocks(fd);
	for (int i = 0; i < 1000; i++)
		__builtin_prefetch(p + PAGE_BYTES + i, 0);
	CHECK_EQ(blocks(fd), punched);
	CHECK(munmap(p, 4 * PAGE_BYTES) == 0);
	__builtin_prefetch(p, 0); /* and where nothing is mapped at all */
	close(ro);
	close(fd);
}

/* Reads one byte of p in a child: the signal that it died of, or 0. */
static int read_dies_of(const volatile char *p)
{
	pid_t pid = k_fork();
	int status;

	if (pid == 0) {
		signal(SIGBUS, SIG_DFL);
		_exit(p[0] == 0 ? 0 : 1);
	}
	status = t_wait_child(pid, K_LIMIT_MS);
	CHECK(WIFSIGNALED(status) || status == 0);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void huge_hole_kills(void)
{
	int fd = k_memfd(K_HUGE_FLAGS, 2 * K_HUGE_BYTES), ro = k_reopen(fd, O_RDONLY), hog;
	char *p;

	CHECK(ro >= 0);
	CHECK(fallocate(fd, 0, 0, 2 * (off_t)K_HUGE_BYTES) == 0);
	p = huge_map(ro, 2 * K_HUGE_BYTES, PROT_READ, MAP_NORESERVE);
	CHECK(p != MAP_FAILED);
	CHECK_EQ(read_dies_of(p + K_HUGE_BYTES), 0);
	CHECK(punch(fd, (off_t)K_HUGE_BYTES, K_HUGE_BYTES) == 0);
	hog = hog_open();
	CHECK_EQ(read_dies_of(p + K_HUGE_BYTES), SIGBUS);
	CHECK_EQ(read_dies_of(p), 0);
	close(hog);
}

/* P30: why pools are punched only where nobody looks: it kills the reader. */
TEST(reading_a_hole_of_hugetlb_is_sigbus_when_no_page_is_free)
{
	with_huge_pages(2, huge_hole_kills);
}

static void huge_hole_maps(void)
{
	int fd = k_memfd(K_HUGE_FLAGS, 2 * K_HUGE_BYTES), hog;

	CHECK(fallocate(fd, 0, 0, 2 * (off_t)K_HUGE_BYTES) == 0);
	CHECK(punch(fd, (off_t)K_HUGE_BYTES, K_HUGE_BYTES) == 0);
	hog = hog_open();
	CHECK(huge_map(fd, 2 * K_HUGE_BYTES, PROT_READ, 0) == MAP_FAILED);
	CHECK_EQ(errno, ENOMEM);
	CHECK(huge_map(fd, 2 * K_HUGE_BYTES, PROT_READ, MAP_NORESERVE) != MAP_FAILED);
	close(hog);
}

/* P30: why clients map with MAP_NORESERVE: no new client could come in after memory was given back. */
TEST(mapping_a_punched_hugetlb_memfd_needs_noreserve) { with_huge_pages(2, huge_hole_maps); }

/* ---- DESIGN 2: huge pages ---- */

static void huge_is_allocated(void)
{
	int fd = k_memfd(K_HUGE_FLAGS, 2 * K_HUGE_BYTES);
	char *p;

	CHECK(fallocate(fd, 0, 0, 2 * (off_t)K_HUGE_BYTES) == 0);
	CHECK_EQ(blocks(fd) * 512, 2 * K_HUGE_BYTES);
	p = k_map(fd, 2 * K_HUGE_BYTES, PROT_READ | PROT_WRITE);
	close(hog_open()); /* nothing is free, and nothing is needed */
	p[0] = p[K_HUGE_BYTES] = 'x';
	CHECK_EQ(k_smaps(p, "KernelPageSize:", NULL, NULL), 2048);
}

/* DESIGN 2: else a pool could meet SIGBUS after its start. */
TEST(fallocate_of_hugetlb_allocates_every_page) { with_huge_pages(2, huge_is_allocated); }

static void huge_is_refused(void)
{
	int hog = hog_open(), fd = k_memfd(K_HUGE_FLAGS, K_HUGE_BYTES);

	CHECK(fallocate(fd, 0, 0, (off_t)K_HUGE_BYTES) == -1);
	CHECK_EQ(errno, ENOSPC);
	close(hog);
}

/* DESIGN 2, `huge_pages: try`: else there is nothing to fall back from before it is too late. */
TEST(fallocate_of_hugetlb_says_when_there_are_too_few_pages)
{
	with_huge_pages(1, huge_is_refused);
}

static void huge_futex(void)
{
	int fd = k_memfd(K_HUGE_FLAGS, K_HUGE_BYTES), ro = k_reopen(fd, O_RDONLY);
	uint32_t *word = k_map(fd, K_HUGE_BYTES, PROT_READ | PROT_WRITE);
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(K_LIMIT_MS) * 1000000;
	pid_t pid;
	long n = 0;

	CHECK(ro >= 0);
	__atomic_store_n(word, 0, __ATOMIC_SEQ_CST); /* the page is there */
	pid = k_fork();
	if (pid == 0) {
		uint32_t *mine = k_map(ro, K_HUGE_BYTES, PROT_READ);

		_exit(syscall(SYS_futex, mine, FUTEX_WAIT, 0, NULL, NULL, 0) == 0 ? 0 : 1);
	}
	while (n == 0 && t_now_ns() < end_ns) {
		n = syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
		sched_yield();
	}
	CHECK_EQ(n, 1);
	k_wait_ok(pid);
}

/* P28: the feed is in the pool. */
TEST(futex_wait_works_on_a_read_only_mapping_of_hugetlb) { with_huge_pages(1, huge_futex); }

/* DESIGN 2: why `huge_pages: try` looks at shmem_enabled and says so: madvise alone says yes to anything. */
TEST(madvise_of_a_memfd_says_yes_and_does_nothing_where_shmem_enabled_is_never)
{
	static const char path[] = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
	char mode[128] = "";
	FILE *f = fopen(path, "re");
	size_t bytes = 4 * K_HUGE_BYTES;
	char *p;
	int fd;

	if (!f)
		SKIP("the kernel has no transparent huge pages for shmem");
	CHECK(fgets(mode, sizeof(mode), f));
	fclose(f);
	if (!strstr(mode, "[never]"))
		SKIP("shmem_enabled is not never here");
	fd = k_memfd(0, bytes);
	p = k_map(fd, bytes, PROT_READ | PROT_WRITE);
	CHECK(madvise(p, bytes, MADV_HUGEPAGE) == 0);
	memset(p, 1, bytes);
	CHECK_EQ(k_smaps(p, "ShmemPmdMapped:", NULL, NULL), 0);
	CHECK(munmap(p, bytes) == 0);
	close(fd);
}
