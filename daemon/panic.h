/* panic.h - the last words of a process of the daemon.
 *
 * A failed CHECK (base/check.h) and a fatal signal write what happened and a
 * backtrace into a descriptor, and end the process by that signal (SIGABRT for a
 * CHECK).  For an engine the descriptor is heritage.panic_fd, a memfd that outlives
 * it: its supervisor shows the text.  Only calls that are safe in a signal handler
 * are made; backtrace(3) is called once at the beginning, so that it has loaded
 * what it needs.
 *
 * Addresses are printed as program(+offset): addr2line -e PROGRAM OFFSET names the line.
 */
#ifndef HC_DAEMON_PANIC_H
#define HC_DAEMON_PANIC_H

/* Sends last words to fd from now on, and catches SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT,
 * SIGSYS and SIGTRAP on a stack of their own (of the calling thread).  Before the first call,
 * a failed CHECK writes to standard error.  0, or -errno: signals are not all caught. */
int panic_open(int fd);

/* Adds a line to the last words, for a program that is about to end itself. */
void panic_text(const char *text);

#endif
