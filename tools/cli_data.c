/* cli_data.c - get, set, delete, ping: what any program can do with the library. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "cli.h"
#include "hypercache.h"

enum { GET_TRIES = 16, GET_BYTES = 65536 };

/* More than a frame can carry: the daemon would refuse it. */
#define VALUE_BYTES_MAX ((size_t)1 << 30)

DEFINE_CLEANUP(struct hc *, hc_close)

static enum cli_status status_of(int r)
{
	switch (r) {
	case HC_E_NO_DAEMON:
	case HC_E_TIMEOUT:
	case HC_E_UNKNOWN:
	case HC_E_CLOSING:
		return CLI_NO_DAEMON;
	case HC_E_REFUSED:
	case HC_E_DENIED:
		return CLI_DENIED;
	case HC_E_INVAL:
		return CLI_USAGE;
	default:
		return CLI_FAILED;
	}
}

int cli_hc_fail(const struct cli *c, const char *what, int r)
{
	if (r == HC_E_SYSTEM)
		return cli_fail(
			c, CLI_FAILED, "%s: %s (%s)", what, hc_strerror(r), strerror(errno));
	return cli_fail(c, status_of(r), "%s: %s (%s)", what, hc_strerror(r), hc_error_name(r));
}

/* Opens a session.  0, or an exit status. */
static int session_open(const struct cli *c, struct hc **ret)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);

	o.socket = c->socket;
	o.name = "hypercache";
	o.timeout_ms = c->timeout_ms;
	int r = hc_open(ret, &o);
	if (r == HC_E_INVAL)
		return cli_fail(c, CLI_USAGE, "the socket's path is too long");
	return r == 0 ? 0 : cli_hc_fail(c, "no session", r);
}

int cli_store_open(const struct cli *c, struct hc **ret, struct hc_store **ret_store)
{
	int status = session_open(c, ret);

	if (status)
		return status;
	int r = hc_store(*ret, c->store, ret_store);
	if (r == HC_E_NO_STORE)
		return cli_fail(c, CLI_FAILED,
			"there is no store \"%s\": `hypercache stat` lists those that exist",
			c->store);
	return r == 0 ? 0 : cli_hc_fail(c, "no store", r);
}

/* The bytes of argument i.  0, or an exit status. */
static int arg_bytes(const struct cli *c, int i, const char **ret, size_t *ret_bytes)
{
	*ret = c->arg[i];
	*ret_bytes = strlen(c->arg[i]);
	if (c->base64 && !cli_base64_decode(c->arg[i], ret_bytes))
		return cli_fail(c, CLI_USAGE, "argument %d is not base64", i + 1);
	return 0;
}

int cli_key_arg(const struct cli *c, const char **ret, size_t *ret_bytes)
{
	int status = arg_bytes(c, 0, ret, ret_bytes);

	if (status)
		return status;
	if (*ret_bytes < 1 || *ret_bytes > HC_KEY_BYTES_MAX)
		return cli_fail(c, CLI_USAGE, "a key has 1 to %d bytes", HC_KEY_BYTES_MAX);
	return 0;
}

/* A copy of the value, whatever its size: it may change between two tries.  Result of hc_get. */
static int value_get(struct hc_store *s, const char *key, size_t key_bytes, char **buf, size_t *ret)
{
	size_t room = GET_BYTES;
	int r = HC_TOO_SMALL;

	for (int i = 0; i < GET_TRIES && (r == HC_TOO_SMALL || r == HC_E_BUSY); i++) {
		char *more = realloc(*buf, room);
		if (!more)
			return HC_E_NO_MEMORY;
		*buf = more;
		r = hc_get(s, key, key_bytes, *buf, room, ret);
		if (r == HC_TOO_SMALL)
			room = *ret + *ret / 4;
	}
	return r == HC_TOO_SMALL ? HC_E_BUSY : r;
}

int cli_get(const struct cli *c)
{
	_cleanup_(hc_closep) struct hc *hc = NULL;
	_cleanup_free_ char *buf = NULL;
	struct hc_store *s;
	const char *key;
	size_t key_bytes, n;
	int status = cli_key_arg(c, &key, &key_bytes);

	if (status || (status = cli_store_open(c, &hc, &s)))
		return status;
	int r = value_get(s, key, key_bytes, &buf, &n);
	if (r < 0)
		return cli_hc_fail(c, "get", r);
	if (c->json) {
		struct json j = {.to = stdout};
		json_begin(&j, NULL, '{');
		json_string(&j, "result", r == HC_OK ? "hit" : "miss");
		json_bytes(&j, "key", key, key_bytes);
		if (r == HC_OK)
			json_bytes(&j, "value", buf, n);
		json_end(&j, '}');
		json_finish(&j);
	} else if (r == HC_OK) {
		(void)fwrite(buf, 1, n, stdout);
		if (isatty(STDOUT_FILENO))
			putchar('\n');
	}
	return cli_end(c, r == HC_OK ? CLI_DONE : CLI_MISS);
}

/* All of standard input.  0, or an exit status. */
static int input_read(const struct cli *c, char **ret, size_t *ret_bytes)
{
	size_t room = GET_BYTES, n = 0, got;
	_cleanup_free_ char *buf = malloc(room);

	while (buf && (got = fread(buf + n, 1, room - n, stdin)) > 0) {
		n += got;
		if (n > VALUE_BYTES_MAX)
			return cli_fail(c, CLI_FAILED, "the value is larger than 1 GiB");
		if (n < room)
			continue;
		room *= 2;
		char *more = realloc(buf, room);
		if (!more)
			free(buf);
		buf = more;
	}
	if (!buf)
		return cli_fail(c, CLI_FAILED, "no memory for the value");
	if (ferror(stdin))
		return cli_fail(c, CLI_FAILED, "cannot read the value: %s", strerror(errno));
	*ret = steal_ptr(buf);
	*ret_bytes = n;
	return 0;
}

/* What goes to programs after a mutation. */
static int mutation_end(
	const struct cli *c, const char *result, const char *key, size_t key_bytes, int status)
{
	if (c->json) {
		struct json j = {.to = stdout};
		json_begin(&j, NULL, '{');
		json_string(&j, "result", result);
		json_bytes(&j, "key", key, key_bytes);
		json_end(&j, '}');
		json_finish(&j);
	}
	return cli_end(c, status);
}

int cli_set(const struct cli *c)
{
	_cleanup_(hc_closep) struct hc *hc = NULL;
	_cleanup_free_ char *input = NULL;
	struct hc_set_opts o = HC_OPTS(hc_set_opts);
	const char *key, *value;
	struct hc_store *s;
	size_t key_bytes, n;
	int status = cli_key_arg(c, &key, &key_bytes);

	if (status)
		return status;
	if (c->n_args == 2 && strcmp(c->arg[1], "-") != 0) {
		status = arg_bytes(c, 1, &value, &n);
	} else {
		status = input_read(c, &input, &n);
		value = input;
	}
	if (status || (status = cli_store_open(c, &hc, &s)))
		return status;
	o.ttl_ms = c->ttl_ms;
	o.flags = c->flags;
	int r = hc_set(s, key, key_bytes, value, n, &o);
	if (r != HC_OK)
		return cli_hc_fail(c, "set", r);
	return mutation_end(c, "set", key, key_bytes, CLI_DONE);
}

int cli_delete(const struct cli *c)
{
	_cleanup_(hc_closep) struct hc *hc = NULL;
	struct hc_store *s;
	const char *key;
	size_t key_bytes;
	int status = cli_key_arg(c, &key, &key_bytes);

	if (status || (status = cli_store_open(c, &hc, &s)))
		return status;
	int r = hc_delete(s, key, key_bytes);
	if (r < 0)
		return cli_hc_fail(c, "delete", r);
	return mutation_end(c, r == HC_OK ? "deleted" : "miss", key, key_bytes,
		r == HC_OK ? CLI_DONE : CLI_MISS);
}

static uint64_t now_ns(void)
{
	struct timespec t = {0};

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int cli_ping(const struct cli *c)
{
	_cleanup_(hc_closep) struct hc *hc = NULL;
	struct hc_info info = HC_OPTS(hc_info);
	char text[CLI_TEXT_BYTES];
	int status = session_open(c, &hc);

	if (status)
		return status;
	uint64_t begun_ns = now_ns();
	int r = hc_ping(hc);
	uint64_t took_ns = now_ns() - begun_ns;
	if (r != HC_OK)
		return cli_hc_fail(c, "ping", r);
	r = hc_info(hc, &info);
	if (r != HC_OK)
		return cli_hc_fail(c, "ping", r);
	if (c->json) {
		struct json j = {.to = stdout};
		json_begin(&j, NULL, '{');
		json_string(&j, "result", "pong");
		json_u64(&j, "round_trip_ns", took_ns);
		json_u64(&j, "engine_gen", info.engine_gen);
		json_end(&j, '}');
		json_finish(&j);
	} else {
		printf("pong from engine %llu after %s\n", (unsigned long long)info.engine_gen,
			cli_time(took_ns, text));
	}
	return cli_end(c, CLI_DONE);
}
