/* log.h - lines for people, on standard error.
 *
 *   [ 1234.567890] engine warn: text
 *
 * The number is CLOCK_MONOTONIC in seconds.  A line is one write(2) of at most
 * LOG_LINE_BYTES, with control bytes replaced, so that text of others can stand
 * in it.  Nobody ever waits for the log: a line that a full pipe does not take at
 * once is dropped, and the next one says how many were.
 *
 * Levels and their order are those of the key log_level (config_table.h).
 *
 * Threads: one.  Fork: parent and child may both go on.  Not for signal handlers.
 */
#ifndef HC_DAEMON_LOG_H
#define HC_DAEMON_LOG_H

#include "config.h"

enum { LOG_LINE_BYTES = 2048 };

/* Lines go to fd (kept open by the caller) from now on, those less important than
 * `level` nowhere.  role: who speaks, static, as "engine".  Before the first call:
 * standard error, info, "hypercached". */
void log_open(int fd, enum config_log_level level, const char *role);

/* Another level, from now on. */
void log_set_level(enum config_log_level level);

/* True if a line of this level would be written. */
bool log_on(enum config_log_level level);

void log_line(enum config_log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
#define log_error(...) log_line(CONFIG_LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_line(CONFIG_LOG_WARN, __VA_ARGS__)
#define log_info(...) log_line(CONFIG_LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(CONFIG_LOG_DEBUG, __VA_ARGS__)

/* An error line that ends in the meaning of r (a -errno) and this thread's error trail
 * (base/err.h).  Returns r. */
int log_fail(int r, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
