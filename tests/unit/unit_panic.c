/* unit_panic.c - last words: what a dying process leaves in its descriptor, and how it dies. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../../daemon/heritage.h"
#include "../../daemon/panic.h"
#include "../kit/t.h"

/* Under a sanitizer its own handlers and stacks are in the way of some deaths. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

static char words[PANIC_BYTES + 1];

/* Runs `die` in a child with last words to a memfd; they are in `words` then.  The signal it died of. */
static int death_of(void (*die)(void), off_t room)
{
	int fd = memfd_create("t", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	CHECK_EQ(ftruncate(fd, room), 0);
	CHECK_EQ(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK), 0);
	pid_t pid = fork();
	if (pid == 0) {
		const struct rlimit no_core = {0, 0};
		(void)setrlimit(RLIMIT_CORE, &no_core);
		if (panic_open(fd) == 0)
			die();
		_exit(9);
	}
	int status = t_wait_child(pid, 10000);
	ssize_t n = pread(fd, words, PANIC_BYTES, 0);
	CHECK(n >= 0);
	words[n] = 0;
	close(fd);
	CHECK(WIFSIGNALED(status));
	return WTERMSIG(status);
}

static void die_check(void) { check_failed("a == b", "some_function", "some/file.c", 4711); }

TEST(a_failed_check_leaves_expression_place_and_backtrace)
{
	CHECK_EQ(death_of(die_check, PANIC_BYTES), SIGABRT);
	CHECK(strncmp(words,
		      "CHECK(a == b) failed in some_function (some/file.c:4711)\nbacktrace:\n",
		      67) == 0);
	CHECK(strstr(words, "unit_panic(+0x"));
	CHECK(!strstr(words, "signal ")); /* the abort itself is no second panic */
}

static void die_null(void)
{
	char *nowhere = (char *)(uintptr_t)(t_random_below(15) + 16);

	*nowhere = 1;
}

TEST(a_wild_store_leaves_the_address)
{
	if (SANITIZED)
		SKIP("a sanitizer is in the way");
	CHECK_EQ(death_of(die_null, PANIC_BYTES), SIGSEGV);
	CHECK(strncmp(words, "signal SIGSEGV at address 0x1", 29) == 0);
	CHECK(strstr(words, "backtrace:\n"));
}

/* Calls itself until the stack ends, in a way that no compiler makes a loop of. */
static __attribute__((noinline)) unsigned deep(unsigned n, const char *before)
{
	char here[4096];

	memset(here, before ? before[n % 64] : 0, sizeof here);
	return n == 0 ? (unsigned)here[1] : deep(n - 1, here) + (unsigned)here[n % sizeof here];
}

static void die_deep(void)
{
	const struct rlimit small = {1 << 20, 1 << 20};

	(void)setrlimit(RLIMIT_STACK, &small);
	(void)deep(1u << 20, NULL);
}

TEST(the_end_of_the_stack_has_last_words_too)
{
	if (SANITIZED)
		SKIP("a sanitizer is in the way");
	CHECK_EQ(death_of(die_deep, PANIC_BYTES), SIGSEGV);
	CHECK(strncmp(words, "signal SIGSEGV at address 0x", 28) == 0);
}

static void die_bus(void) { (void)raise(SIGBUS); }

TEST(words_that_do_not_fit_are_lost_and_the_death_is_the_same)
{
	CHECK_EQ(death_of(die_bus, 16), SIGBUS);
	CHECK(strlen(words) <= 16 && strncmp(words, "signal SIGBUS", 13) == 0); /* no file grows */
	CHECK_EQ(death_of(die_bus, PANIC_BYTES), SIGBUS);
	CHECK(strncmp(words, "signal SIGBUS, sent by process ", 31) == 0);
}
