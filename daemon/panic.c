/* panic.c - last words; everything but panic_open() is safe in a signal handler. */
#include <errno.h>
#include <execinfo.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/check.h"
#include "base/err.h"
#include "panic.h"

enum { PANIC_FRAMES = 48, PANIC_STACK_BYTES = 65536, NUMBER_BYTES = 20 };

static int panic_fd = STDERR_FILENO;
static sig_atomic_t
	panicking; /* one thread at a time has last words; a second fault ends at once */
static char panic_stack[PANIC_STACK_BYTES];

static void put(const char *text)
{
	/* What the descriptor does not take is lost: there is nobody left to tell. */
	ssize_t n = write(panic_fd, text, strlen(text));
	(void)n;
}

static void put_number(uint64_t v, unsigned base)
{
	char text[NUMBER_BYTES + 1];
	char *at = text + NUMBER_BYTES;

	*at = 0;
	do {
		*--at = "0123456789abcdef"[v % base];
		v /= base;
	} while (v && at > text);
	put(at);
}

static void put_backtrace(void)
{
	void *frame[PANIC_FRAMES];
	int n = backtrace(frame, PANIC_FRAMES);

	put("backtrace:\n");
	backtrace_symbols_fd(frame, n, panic_fd);
}

void panic_text(const char *text)
{
	put(text);
	put("\n");
}

_Noreturn void check_failed(const char *expr, const char *func, const char *file, int line)
{
	if (!panicking) {
		panicking = 1;
		put("CHECK(");
		put(expr);
		put(") failed in ");
		put(func);
		put(" (");
		put(file);
		put(":");
		put_number((uint64_t)line, 10);
		put(")\n");
		put_backtrace();
	}
	(void)signal(SIGABRT, SIG_DFL);
	abort();
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
	const char *name = sigabbrev_np(sig);

	(void)context;
	if (!panicking) {
		panicking = 1;
		put("signal SIG");
		put(name ? name : "?");
		if (info->si_code == SI_USER || info->si_code == SI_TKILL) {
			put(", sent by process ");
			put_number((uint64_t)info->si_pid, 10);
		} else {
			put(" at address 0x");
			put_number((uint64_t)(uintptr_t)info->si_addr, 16);
		}
		put("\n");
		put_backtrace();
	}
	(void)signal(sig, SIG_DFL);
	(void)raise(sig);
}

int panic_open(int fd)
{
	static const int fatal[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP};
	const stack_t stack = {.ss_sp = panic_stack, .ss_size = sizeof panic_stack};
	struct sigaction act = {
		.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESETHAND};
	void *frame[1];

	panic_fd = fd;
	(void)backtrace(frame, 1);
	if (sigaltstack(&stack, NULL) != 0)
		return err_new(-errno);
	(void)sigfillset(&act.sa_mask);
	for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++)
		if (sigaction(fatal[i], &act, NULL) != 0)
			return err_new(-errno);
	return 0;
}
