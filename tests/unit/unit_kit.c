/* unit_kit.c - does the kit notice what it promises to notice?  (kit/kit_bad.c has the bad tests.) */
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../kit/t_proc.h"
#include "../kit/t_step.h"

/* The output of kit_bad, or of one of its tests; the caller frees.  (Inlined, gcc 12 takes what is found
 * in the output for a pointer that dangles.) */
__attribute__((noinline)) static char *run_bad(
	const char *name, int expected_status, char **ret_err)
{
	char *out = NULL;

	CHECK_EQ(t_run((const char *[]){t_bin("tests/kit_bad"), name, NULL}, NULL, 0, &out, NULL,
			 ret_err, 30000),
		expected_status);
	return out;
}

static void check_has(const char *text, const char *part)
{
	if (!strstr(text, part))
		t_fail(__FILE__, __LINE__, "no \"%s\" in:\n%s", part, text);
}

TEST(bad_tests_fail_and_good_ones_do_not)
{
	char *err = NULL, *out = run_bad(NULL, 1, &err);
	static const char *const expected[] = {"FAIL bad_check (", "FAIL bad_check_eq",
		"FAIL bad_check_str", "FAIL bad_leaks_descriptor", "FAIL bad_leaves_child",
		"FAIL bad_leaves_grandchild", "FAIL bad_hangs", "FAIL bad_dies",
		"FAIL bad_child_limit", "skip good_skips: because it is asked to",
		"ok   good_random", "ok   good_dir", "\n2 passed, 9 failed, 1 skipped\n", "seed 0x",
		"repeat: T_SEED=0x"};
	static const char *const said[] = {"CHECK(1 + 1 == 3) failed", "18446744073709551615", "-1",
		"\"this\"", "is still open: /dev/null", "is still running", "no end within ",
		"did not end within 50 ms"};

	for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
		check_has(out, expected[i]);
	for (size_t i = 0; i < sizeof said / sizeof *said; i++)
		check_has(err, said[i]);
	free(out);
	free(err);
}

TEST(folder_is_removed_after_the_test)
{
	char dir[512], *out = run_bad(NULL, 1, NULL), *line = strstr(out, "folder ");

	CHECK(line && sscanf(line, "folder %511s", dir) == 1);
	CHECK(access(dir, F_OK) != 0);
	free(out);
}

TEST(random_numbers_repeat_by_name_and_seed)
{
	char *all = run_bad(NULL, 1, NULL), *one = run_bad("good_random", 0, NULL), *line;
	char in_all[64], in_one[64];

	line = strstr(all, "random good_random");
	CHECK(line && sscanf(line, "random good_random %63s", in_all) == 1);
	line = strstr(one, "random good_random");
	CHECK(line && sscanf(line, "random good_random %63s", in_one) == 1);
	CHECK_STR(in_all, in_one);
	free(all);
	free(one);
	uint64_t state = 0, again = 0;
	CHECK_EQ(t_random_from(&state), 0xe220a8397b1dcdaf); /* splitmix64 of 0, as published */
	CHECK(t_random_from(&state) != t_random_from(&again));
}

TEST(a_name_that_is_not_there_is_an_error)
{
	free(run_bad("no_such_test", 2, NULL));
	CHECK_EQ(t_run((const char *[]){t_bin("tests/kit_bad"), "--only", "no_such_test", NULL},
			 NULL, 0, NULL, NULL, NULL, 5000),
		2);
}

TEST(one_test_may_run_as_among_all)
{
	char *out = NULL;

	CHECK_EQ(t_run((const char *[]){t_bin("tests/kit_bad"), "--only", "bad_hangs", NULL}, NULL,
			 0, &out, NULL, NULL, 10000),
		1);
	check_has(out, "\n0 passed, 1 failed, 0 skipped\n");
	free(out);
	CHECK_EQ(t_run((const char *[]){t_bin("tests/kit_bad"), "--only", "good_skips", NULL}, NULL,
			 0, NULL, NULL, NULL, 10000),
		T_SKIPPED);
}

TEST(program_is_read_fed_and_killed)
{
	char *out = NULL;
	size_t out_bytes = 0;

	enum { BIG = 1 << 20 };
	char *big = malloc(BIG);
	CHECK(big != NULL);
	for (int i = 0; i < BIG; i++)
		big[i] = (char)t_random();
	CHECK_EQ(t_run((const char *[]){"/bin/cat", NULL}, big, BIG, &out, &out_bytes, NULL, 10000),
		0);
	CHECK_EQ(out_bytes, BIG);
	CHECK_EQ(memcmp(out, big, BIG), 0);
	free(out);
	free(big);

	static const char *const argv[] = {
		"/bin/sh", "-c", "echo one; echo \"$T_WORD\" >&2; exec cat", NULL};
	static const char *const env[] = {"T_WORD=two", NULL};
	struct t_proc *p = t_spawn(argv, &(struct t_spawn_opts){.env = env, .input = true});
	char *line = t_proc_line(p, "one", 5000);
	CHECK_STR(line, "one");
	free(line);
	line = t_proc_line(p, "tw", 5000);
	CHECK_STR(line, "two");
	free(line);
	CHECK(!t_pid_gone(p->pid, 1));
	t_proc_signal(p, SIGTERM);
	CHECK_EQ(t_proc_exit(p, 5000), 128 + SIGTERM);
	t_proc_free(p);
}

TEST(a_path_is_waited_for)
{
	const char *path = t_path("made");
	pid_t pid = fork();

	if (pid == 0) {
		FILE *f = fopen(path, "we");
		_exit(f && fclose(f) == 0 ? 0 : 1);
	}
	t_wait_path(path, true, 5000);
	CHECK_EQ(t_wait_child(pid, 5000), 0);
	CHECK_EQ(unlink(path), 0);
	t_wait_path(path, false, 5000);
}

TEST(recorded_marks_are_loaded_once_each)
{
	const char *path = t_path("marks");
	struct t_steps steps;
	FILE *f = fopen(path, "we");

	CHECK(f != NULL);
	fputs("a:one\na:two\na:one\n", f);
	fclose(f);
	t_steps_load(&steps, path);
	CHECK_EQ(steps.n, 2);
	CHECK_STR(steps.name[1], "a:two");
}
