/* t.h - the whole test framework.
 *
 *	#include "../kit/t.h"
 *	TEST(item_length_is_refused) { CHECK_EQ(shm_item_check(&it), -EBADMSG); }
 *
 * Each TEST runs in a process of its own, has a deadline (T_LIMIT_S, or its own with TEST_LIMIT),
 * and must leave no descriptor open and no child process behind.  A failed CHECK says where, and
 * aborts that process.  What a test that failed or hung has started is killed.
 *
 *	PROGRAM                 every test; the last line is "N passed, N failed, N skipped"
 *	PROGRAM NAME            one test, unforked and without a deadline, for gdb
 *	PROGRAM --only NAME     one test, as among all: forked, with its deadline
 *	PROGRAM --list          the names
 *
 * Exit status: 0 all passed, 1 some failed, 77 all were skipped, 2 no test of that name.
 *
 * Environment:
 *	T_SEED       number that t_random() begins from; printed first, and with each failure
 *	T_LIMIT_X    factor for all deadlines (a sanitizer, a slow machine); 1 if not set
 *	HC_BINDIR    folder of the programs that t_bin() names; meson sets it
 *	HC_DATA      folder with recorded traces, or not set
 *	T_CONFIG     keys of the configuration for all daemons that tests start, with semicolons between
 *	             them: "io: epoll; peer_pidfd: off"; a key that a test sets itself keeps its value
 *	HC_STEP, HC_MUTANT   see shm/step.h; obeyed by a build with steps
 *
 * Threads: the functions here may be called from any thread, but t_random() and the temp folder
 * belong to the one that runs the test.  Fork: a child that a test forks for itself must end by
 * _exit(); its parent waits for it (t_wait_child).
 */
#ifndef HC_T_H
#define HC_T_H
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>

enum {
	T_LIMIT_S = 60, /* deadline of a TEST, seconds, before T_LIMIT_X */
	T_SKIPPED = 77, /* exit status of a skipped test, and of a program whose tests all were */
};

/* Holds every value of every integer type that tests compare. */
__extension__ typedef __int128 t_integer;

struct t_test {
	const char *name;
	void (*run)(void);
	int limit_s;
} __attribute__((aligned(32)));

#define TEST(n) TEST_LIMIT(n, T_LIMIT_S)
#define TEST_LIMIT(n, seconds) \
	static void n(void); \
	static const struct t_test test_##n \
		__attribute__((used, section("tests"))) = {#n, n, seconds}; \
	static void n(void)

/* base/check.h has a CHECK too; in a test this one counts, whichever was included first. */
#undef CHECK
#define HC_BASE_CHECK_H
#define CHECK(c) \
	do { \
		if (!(c)) \
			t_fail(__FILE__, __LINE__, "CHECK(%s) failed", #c); \
	} while (0)

/* Integers of at most 64 bits, compared as numbers whatever their types; both are printed. */
#define CHECK_EQ(a, b) t_check_eq(__FILE__, __LINE__, #a, #b, (a), (b))

/* Strings; both are printed. */
#define CHECK_STR(a, b) t_check_str(__FILE__, __LINE__, #a, #b, (a), (b))

/* Ends this test as skipped.  Every skip is named in tests/allowed-skips.txt, or fails tools/check. */
#define SKIP(why) t_skip(why)

/* Prints file, line and the message, and ends this process by abort(). */
_Noreturn void t_fail(const char *file, int line, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
_Noreturn void t_skip(const char *why);
void t_check_eq(const char *file, int line, const char *a_text, const char *b_text, t_integer a,
	t_integer b);
void t_check_str(const char *file, int line, const char *a_text, const char *b_text, const char *a,
	const char *b);

/* What shm/base/check.h asks of a program: prints and aborts.  Weak: daemon/panic.c may replace it. */
_Noreturn void check_failed(const char *expr, const char *func, const char *file, int line);

/* The seed of this run: T_SEED or a fixed number. */
uint64_t t_seed(void);

/* The next number of this test's own sequence: of the seed and the test's name alone, so that it is
 * the same whichever tests run before it (splitmix64; Steele, Lea, Flood 2014). */
uint64_t t_random(void);

/* The same, from a state of the caller's: for threads. */
uint64_t t_random_from(uint64_t *state);

/* [0, n), n > 0; the modulo's bias does not matter to a test. */
uint64_t t_random_below(uint64_t n);

/* CLOCK_MONOTONIC, ns. */
uint64_t t_now_ns(void);

/* A time in ms, times T_LIMIT_X: what a wait should be given as its limit. */
int t_limit_ms(int ms);

/* This test's own empty folder, mode 0700, made at the first call, removed with all that is in it
 * when the test has ended, however it ended.  Lifetime: the process. */
const char *t_dir(void);

/* t_dir()/name.  Returns a string that lives as long as the process. */
const char *t_path(const char *name);

/* HC_BINDIR/name; skips the test where HC_BINDIR is not set, fails it if there is no such program.
 * Lifetime: the process. */
const char *t_bin(const char *name);

/* HC_DATA/name; skips the test if there is no such file.  Lifetime: the process. */
const char *t_data(const char *name);

/* Waits until a child that this test forked has ended.  Returns the status as of waitpid(2).  After
 * limit_ms the child is killed and the test fails. */
int t_wait_child(pid_t pid, int limit_ms);

/* The children of process pid at this moment.  Returns how many were stored in ret_pids, at most max;
 * 0 if it has none or is gone. */
int t_children(pid_t pid, pid_t *ret_pids, int max);

#endif
