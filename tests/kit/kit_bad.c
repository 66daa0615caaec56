/* kit_bad.c - tests that must not pass; unit_kit runs this program and reads the verdicts. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "t.h"

TEST(bad_check) { CHECK(1 + 1 == 3); }

TEST(bad_check_eq) { CHECK_EQ(UINT64_MAX, -1); }

TEST(bad_check_str) { CHECK_STR("this", "that"); }

TEST(bad_leaks_descriptor) { CHECK(open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0); }

TEST(bad_leaves_child)
{
	if (fork() == 0) {
		pause();
		_exit(0);
	}
}

/* The one between has ended: only a sub-reaper sees this one. */
TEST(bad_leaves_grandchild)
{
	pid_t pid = fork();

	if (pid == 0) {
		if (fork() == 0)
			pause();
		_exit(0);
	}
	CHECK_EQ(t_wait_child(pid, 5000), 0);
}

TEST_LIMIT(bad_hangs, 1)
{
	if (fork() == 0)
		pause(); /* has to be ended with it */
	pause();
}

TEST(bad_dies) { raise(SIGSEGV); }

TEST(bad_child_limit)
{
	pid_t pid = fork();

	if (pid == 0)
		pause();
	(void)t_wait_child(pid, 50);
}

TEST(good_skips) { SKIP("because it is asked to"); }

TEST(good_random) { printf("random %s %llx\n", "good_random", (unsigned long long)t_random()); }

/* Leaves its folder, full, to the runner. */
TEST(good_dir)
{
	char deep[512];

	(void)snprintf(deep, sizeof deep, "%s/x", t_path("sub"));
	CHECK_EQ(mkdir(t_path("sub"), 0700), 0);
	CHECK_EQ(mkdir(deep, 0700), 0);
	printf("folder %s\n", t_dir());
}
