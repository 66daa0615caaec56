/* cli_run.h - running the command line against a daemon, or against none; included by the tests of it. */
#ifndef HC_TESTS_CLI_RUN_H
#define HC_TESTS_CLI_RUN_H
#include <stdarg.h>
#include <string.h>
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "../kit/t_proc.h"

enum { LIMIT_MS = 10000, ARGS_MAX = 16 };

struct result {
	int status;
	char *out, *err;
	size_t bytes; /* of out */
};

static void result_free(struct result *r)
{
	free(r->out);
	free(r->err);
}

/* Runs `hypercache` with this input and these arguments (the last one is NULL) against d, or against
 * no daemon. */
static struct result run_for(const struct t_daemon *d, const char *input, size_t input_bytes,
	const char *const *args, int limit_ms)
{
	const char *argv[ARGS_MAX + 8] = {t_bin("hypercache")};
	struct result r = {0};
	int n = 1;

	if (d) {
		argv[n++] = "--socket";
		argv[n++] = d->socket;
		argv[n++] = "--admin";
		argv[n++] = d->admin;
	}
	for (int i = 0; args[i]; i++) {
		CHECK(i < ARGS_MAX);
		argv[n++] = args[i];
	}
	r.status = t_run(argv, input, input_bytes, &r.out, &r.bytes, &r.err, limit_ms);
	return r;
}

static struct result run_with(
	const struct t_daemon *d, const char *input, size_t input_bytes, const char *const *args)
{
	return run_for(d, input, input_bytes, args, LIMIT_MS);
}

#define ARGS(...) \
	(const char *const[]) { __VA_ARGS__, NULL }

static struct result run(const struct t_daemon *d, const char *const *args)
{
	return run_with(d, NULL, 0, args);
}

/* Its exit status must be this; what it printed does not matter. */
__attribute__((unused)) static void check_status(
	const struct t_daemon *d, int status, const char *const *args)
{
	struct result r = run(d, args);

	if (r.status != status)
		t_fail(__FILE__, __LINE__, "%s: status %d, not %d: %s%s", args[0], r.status, status,
			r.out, r.err);
	result_free(&r);
}

/* `get KEY` must give exactly these bytes. */
__attribute__((unused)) static void check_value(
	const struct t_daemon *d, const char *key, const void *value, size_t n)
{
	struct result r = run(d, ARGS("get", key));

	CHECK_EQ(r.status, 0);
	CHECK_EQ(r.bytes, n);
	CHECK(memcmp(r.out, value, n) == 0);
	result_free(&r);
}

/* Its output must hold all of these texts, the last one being NULL. */
__attribute__((unused)) static void check_says(const struct result *r, const char *text, ...)
{
	va_list args;

	va_start(args, text);
	for (; text; text = va_arg(args, const char *))
		if (!strstr(r->out, text))
			t_fail(__FILE__, __LINE__, "no \"%s\" in: %s%s", text, r->out, r->err);
	va_end(args);
}

/* The number that follows "name": in JSON, the first one. */
__attribute__((unused)) static uint64_t json_number(const char *json, const char *name)
{
	char want[64];

	(void)snprintf(want, sizeof want, "\"%s\":", name);
	const char *at = strstr(json, want);
	if (!at)
		t_fail(__FILE__, __LINE__, "no %s in: %s", name, json);
	return strtoull(at + strlen(want), NULL, 10);
}

#endif
