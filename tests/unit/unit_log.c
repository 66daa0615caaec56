/* unit_log.c - lines for people: one write each, harmless, and nobody waits for a reader. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "../../daemon/log.h"
#include "../kit/t.h"
#include "base/err.h"

enum { TEXT_BYTES = 1 << 20 };

static char text[TEXT_BYTES];

/* A pipe whose writing end is the log.  Returns the reading end. */
static int log_pipe(enum config_log_level level, int *ret_write)
{
	int p[2];

	CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
	CHECK_EQ(fcntl(p[0], F_SETFL, O_NONBLOCK), 0);
	log_open(p[1], level, "tester");
	*ret_write = p[1];
	return p[0];
}

/* All that is in the pipe now, as a string. */
static const char *read_all(int fd)
{
	size_t n = 0;
	ssize_t got;

	while (n + 1 < sizeof text && (got = read(fd, text + n, sizeof text - 1 - n)) > 0)
		n += (size_t)got;
	text[n] = 0;
	return text;
}

TEST(a_line_has_time_speaker_level_and_text)
{
	int w, r = log_pipe(CONFIG_LOG_WARN, &w);
	long long s;
	long us;
	char role[32], level[32], rest[32];

	log_warn("%d things", 3);
	CHECK_EQ(sscanf(read_all(r), "[%lld.%ld] %31s %31[a-z]: %31[^\n]", &s, &us, role, level,
			 rest),
		5);
	CHECK_STR(role, "tester");
	CHECK_STR(level, "warn");
	CHECK_STR(rest, "3 things");
	CHECK_EQ(text[strlen(text) - 1], '\n');
	CHECK(s * 1000000000 <= (long long)t_now_ns());
	log_info("too little to say");
	log_debug("even less");
	CHECK_STR(read_all(r), "");
	CHECK(log_on(CONFIG_LOG_ERROR) && !log_on(CONFIG_LOG_INFO));
	close(r);
	close(w);
}

TEST(text_of_others_cannot_make_a_line)
{
	int w, r = log_pipe(CONFIG_LOG_INFO, &w);
	char name[LOG_LINE_BYTES * 2];

	log_info("name %s", "a\nb\x1b[31mc\x7f");
	CHECK(strstr(read_all(r), "name a?b?[31mc?\n"));
	memset(name, 'x', sizeof name);
	name[sizeof name - 1] = 0;
	log_info("%s", name);
	CHECK(strlen(read_all(r)) < LOG_LINE_BYTES);
	CHECK(strchr(text, '\n') == text + strlen(text) - 1);
	close(r);
	close(w);
}

static int fails_below(void) { return err_new(-ENOSPC); }
static int forwards(void) { return err_fwd(fails_below()); }

TEST(a_failure_says_through_whom_it_came)
{
	int w, r = log_pipe(CONFIG_LOG_ERROR, &w);

	CHECK_EQ(log_fail(forwards(), "no room for %s", "it"), -ENOSPC);
	CHECK(strstr(read_all(r),
		"error: no room for it: No space left on device [ENOSPC fails_below ("));
	CHECK(strstr(text, "< forwards ("));
	close(r);
	close(w);
}

TEST(nobody_waits_for_a_reader_and_losses_are_counted)
{
	int w, r = log_pipe(CONFIG_LOG_INFO, &w);
	int n_written = 0, n_lines = 2000;
	char want[64];

	for (int i = 0; i < n_lines; i++) /* far more than a pipe takes; would block for ever */
		log_info("line %d %0512d", i, 0);
	for (const char *at = read_all(r); (at = strchr(at, '\n')); at++)
		n_written++;
	CHECK(n_written > 0 && n_written < n_lines);
	log_info("again");
	(void)snprintf(want, sizeof want, "warn: %d lines were lost here", n_lines - n_written);
	CHECK(strstr(read_all(r), want));
	CHECK(strstr(text, "info: again\n"));
	log_info("and again");
	CHECK(!strstr(read_all(r), "lost"));
	close(r);
	close(w);
}
