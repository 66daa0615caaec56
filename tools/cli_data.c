/* cli_data.c - get, ping, and what all verbs that use the library have in common. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "cli.h"
#include "hypercache.h"

enum { GET_TRIES = 16, INPUT_BYTES = 65536 };

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

int cli_session_open(const struct cli *c, struct hc **ret)
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
	int status = cli_session_open(c, ret);

	if (status)
		return status;
	int r = hc_store(*ret, c->store, ret_store);
	if (r == HC_E_NO_STORE)
		return cli_fail(c, CLI_FAILED,
			"there is no store \"%s\": `hypercache stat` lists those that exist",
			c->store);
	return r == 0 ? 0 : cli_hc_fail(c, "no store", r);
}

int cli_arg_bytes(const struct cli *c, int i, const char **ret, size_t *ret_bytes)
{
	*ret = c->arg[i];
	*ret_bytes = strlen(c->arg[i]);
	if (c->base64 && !cli_base64_decode(c->arg[i], ret_bytes))
		return cli_fail(c, CLI_USAGE, "argument %d is not base64", i + 1);
	return 0;
}

int cli_key_arg(const struct cli *c, const char **ret, size_t *ret_bytes)
{
	int status = cli_arg_bytes(c, 0, ret, ret_bytes);

	if (status)
		return status;
	if (*ret_bytes < 1 || *ret_bytes > HC_KEY_BYTES_MAX)
		return cli_fail(c, CLI_USAGE, "a key has 1 to %d bytes", HC_KEY_BYTES_MAX);
	return 0;
}

/* A copy of an entry. */
struct copy {
	char *value;
	size_t n;
	uint64_t version;
	uint32_t flags;
};

/* Result of hc_view.  A copy that was spoiled by a revocation is made again. */
static int entry_get(struct hc_store *s, const char *key, size_t key_bytes, struct copy *ret)
{
	for (int i = 0; i < GET_TRIES; i++) {
		struct hc_view v;
		int r = hc_view(s, key, key_bytes, &v);
		if (r == HC_E_BUSY)
			continue;
		if (r != HC_OK)
			return r;
		char *more = realloc(ret->value, v.value_bytes + 1);
		if (!more) {
			(void)hc_view_release(&v);
			return HC_E_NO_MEMORY;
		}
		memcpy(more, v.value, v.value_bytes);
		*ret = (struct copy){
			.value = more, .n = v.value_bytes, .version = v.version, .flags = v.flags};
		int ok = hc_view_ok(&v);
		(void)hc_view_release(&v);
		if (ok == 1)
			return HC_OK;
	}
	return HC_E_BUSY;
}

static void get_json(int r, const char *key, size_t key_bytes, const struct copy *e)
{
	struct json j = {.to = stdout};

	json_begin(&j, NULL, '{');
	json_string(&j, "result", r == HC_OK ? "hit" : "miss");
	json_bytes(&j, "key", key, key_bytes);
	if (r == HC_OK) {
		json_bytes(&j, "value", e->value, e->n);
		json_u64(&j, "version", e->version);
		json_u64(&j, "flags", e->flags);
	}
	json_end(&j, '}');
	json_finish(&j);
}

int cli_get(const struct cli *c)
{
	_cleanup_(hc_closep) struct hc *hc = NULL;
	struct copy e = {0};
	struct hc_store *s;
	const char *key;
	size_t key_bytes;
	int status = cli_key_arg(c, &key, &key_bytes);

	if (status || (status = cli_store_open(c, &hc, &s)))
		return status;
	int r = entry_get(s, key, key_bytes, &e);
	_cleanup_free_ char *value = e.value;
	if (r == HC_OK && c->touch)
		r = hc_touch(s, key, key_bytes, c->touch_ms);
	if (r < 0)
		return cli_hc_fail(c, "get", r);
	if (c->json) {
		get_json(r, key, key_bytes, &e);
	} else if (r == HC_OK) {
		(void)fwrite(value, 1, e.n, stdout);
		if (isatty(STDOUT_FILENO))
			putchar('\n');
	}
	return cli_end(c, r == HC_OK ? CLI_DONE : CLI_MISS);
}

int cli_input_read(const struct cli *c, char **ret, size_t *ret_bytes)
{
	size_t room = INPUT_BYTES, n = 0, got;
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
	int status = cli_session_open(c, &hc);

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
