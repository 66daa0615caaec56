/* log.c - one line, one write, no waiting. */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "base/err.h"
#include "log.h"

static int log_fd = STDERR_FILENO;
static enum config_log_level log_level = CONFIG_LOG_INFO;
static const char *log_role = "hypercached";
static unsigned long n_lost;

void log_open(int fd, enum config_log_level level, const char *role)
{
	log_fd = fd;
	log_level = level;
	log_role = role;
}

void log_set_level(enum config_log_level level) { log_level = level; }

bool log_on(enum config_log_level level) { return level <= log_level; }

/* A pipe that polls as writable has room for PIPE_BUF bytes, which is more than a line. */
static bool line_write(const char *line, size_t n)
{
	struct pollfd p = {.fd = log_fd, .events = POLLOUT};

	if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT))
		return false;
	return write(log_fd, line, n) == (ssize_t)n;
}

/* Begins a line with time, role and level; returns its length. */
static size_t line_begin(char line[LOG_LINE_BYTES], enum config_log_level level)
{
	static const char *const words[] = {"error", "warn", "info", "debug"};
	struct timespec now = {0};

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	int n = snprintf(line, LOG_LINE_BYTES, "[%5lld.%06ld] %s %s: ", (long long)now.tv_sec,
		now.tv_nsec / 1000, log_role, words[level]);
	return (size_t)n;
}

/* Ends the line that has its text, and writes it. */
static void line_end(char line[LOG_LINE_BYTES])
{
	size_t n = strnlen(line, LOG_LINE_BYTES - 2);

	for (size_t i = 0; i < n; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = '?';
	line[n++] = '\n';
	if (n_lost) {
		char lost[LOG_LINE_BYTES];
		size_t at = line_begin(lost, CONFIG_LOG_WARN);
		(void)snprintf(lost + at, sizeof lost - at,
			"%lu lines were lost here: nobody read the log\n", n_lost);
		if (!line_write(lost, strlen(lost))) {
			n_lost++;
			return;
		}
		n_lost = 0;
	}
	if (!line_write(line, n))
		n_lost++;
}

void log_line(enum config_log_level level, const char *format, ...)
{
	char line[LOG_LINE_BYTES];
	va_list args;

	if (!log_on(level))
		return;
	size_t at = line_begin(line, level);
	va_start(args, format);
	(void)vsnprintf(line + at, sizeof line - at, format, args);
	va_end(args);
	line_end(line);
}

int log_fail(int r, const char *format, ...)
{
	char line[LOG_LINE_BYTES], trail[512];
	size_t at = line_begin(line, CONFIG_LOG_ERROR);
	va_list args;

	va_start(args, format);
	(void)vsnprintf(line + at, sizeof line - at, format, args);
	va_end(args);
	at = strlen(line);
	(void)snprintf(line + at, sizeof line - at, ": %s [%s]", strerror(-r),
		err_trail(trail, sizeof trail));
	line_end(line);
	return r;
}
