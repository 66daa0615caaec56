/* err.c - the per-thread trail behind err.h. */
#define _GNU_SOURCE
#include "err.h"
#include <stdio.h>
#include <string.h>

enum { TRAIL_MAX = 12 };

struct mark {
	const char *func, *file;
	int line, r;
};
static _Thread_local struct mark trail[TRAIL_MAX];
static _Thread_local int n_trail;

int err_mark_(int fresh, int r, const char *func, const char *file, int line)
{
	if (fresh)
		n_trail = 0;
	if (n_trail < TRAIL_MAX)
		trail[n_trail++] = (struct mark){.func = func, .file = file, .line = line, .r = r};
	return r;
}

const char *err_trail(char *buf, size_t buf_bytes)
{
	size_t at = 0;

	if (buf_bytes == 0)
		return buf;
	buf[0] = 0;
	for (int i = 0; i < n_trail && at < buf_bytes; i++) {
		const char *name = i ? "<" : strerrorname_np(-trail[i].r);
		int n = snprintf(buf + at, buf_bytes - at, "%s%s %s (%s:%d)", i ? " " : "",
			name ? name : "?", trail[i].func, trail[i].file, trail[i].line);
		at += n > 0 ? (size_t)n : 0;
	}
	return buf;
}
