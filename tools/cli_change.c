/* cli_change.c - the verbs that change one entry, and clear.
 *
 * What a condition made of it is in the exit status (0 or 1), and by name in JSON: "result" is what
 * was done, or miss, exists, conflict, older.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "cli.h"
#include "hypercache.h"

DEFINE_CLEANUP(struct hc *, hc_close)

/* One change that is under way. */
struct change {
	struct hc *hc;
	struct hc_store *s;
	const char *key;
	size_t key_bytes;
	const char *value;
	size_t value_bytes;
	char *input;      /* where the value is, if it came from standard input */
	uint64_t version; /* of the entry now; 0: not known */
};

static void change_end(struct change *g)
{
	hc_close(g->hc);
	free(g->input);
}

/* The key, the value if it is argument `value_at` (0: there is none), and a session.  0, or an exit
 * status. */
static int change_begin(const struct cli *c, int value_at, struct change *g)
{
	int status = cli_key_arg(c, &g->key, &g->key_bytes);

	if (status == 0 && value_at) {
		if (c->n_args > value_at && strcmp(c->arg[value_at], "-") != 0) {
			status = cli_arg_bytes(c, value_at, &g->value, &g->value_bytes);
		} else {
			status = cli_input_read(c, &g->input, &g->value_bytes);
			g->value = g->input;
		}
	}
	return status ? status : cli_store_open(c, &g->hc, &g->s);
}

static const char *result_name(int r, const char *done)
{
	switch (r) {
	case HC_OK:
		return done;
	case HC_MISS:
		return "miss";
	case HC_EXISTS:
		return "exists";
	case HC_CONFLICT:
		return "conflict";
	default:
		return "older";
	}
}

/* Why it was not done, for people. */
static void refusal_print(int r, uint64_t version)
{
	if (r == HC_MISS)
		fputs("hypercache: not written: there is no such entry\n", stderr);
	else if (r == HC_EXISTS)
		fputs("hypercache: not written: there is an entry with this key\n", stderr);
	else if (r == HC_CONFLICT && version)
		fprintf(stderr, "hypercache: not changed: the entry has version %" PRIu64 "\n",
			version);
	else if (r == HC_CONFLICT)
		fputs("hypercache: not changed: the entry has another version\n", stderr);
	else if (r == HC_OLDER)
		fputs("hypercache: not written: the entry's stamp is as high, or higher\n", stderr);
}

/* The result r of the verb `what`; sum: of incr, or NULL. */
static int change_say(const struct cli *c, const char *what, const char *done, int r,
	const struct change *g, const int64_t *sum)
{
	struct json j = {.to = stdout};

	if (r < 0)
		return cli_hc_fail(c, what, r);
	if (c->json) {
		json_begin(&j, NULL, '{');
		json_string(&j, "result", result_name(r, done));
		json_bytes(&j, "key", g->key, g->key_bytes);
		if (sum && r == HC_OK)
			json_i64(&j, "value", *sum);
		if (g->version)
			json_u64(&j, "version", g->version);
		json_end(&j, '}');
		json_finish(&j);
	} else if (sum && r == HC_OK) {
		printf("%" PRId64 "\n", *sum);
	} else if (r != HC_MISS || g->value || sum) { /* a miss of delete and touch says enough */
		refusal_print(r, g->version);
	}
	return cli_end(c, r == HC_OK ? CLI_DONE : CLI_MISS);
}

/* ------------------------------------------------------------------------ set */

static int set_as(
	const struct cli *c, const char *what, uint32_t mode, uint64_t version, int value_at)
{
	struct hc_set_opts o = HC_OPTS(hc_set_opts);
	struct change g = {.key = NULL};
	int status = change_begin(c, value_at, &g);

	if (status == 0) {
		o.ttl_ms = c->ttl_ms;
		o.flags = c->flags;
		o.mode = mode;
		o.version = version;
		o.stamp = c->stamp;
		o.ret_version = &g.version;
		int r = hc_set(g.s, g.key, g.key_bytes, g.value, g.value_bytes, &o);
		status = change_say(c, what, "set", r, &g, NULL);
	}
	change_end(&g);
	return status;
}

int cli_set(const struct cli *c) { return set_as(c, "set", c->mode, c->version, 1); }
int cli_add(const struct cli *c) { return set_as(c, "add", HC_ADD, 0, 1); }
int cli_replace(const struct cli *c) { return set_as(c, "replace", HC_REPLACE, 0, 1); }

int cli_cas(const struct cli *c)
{
	uint64_t version;

	if (!cli_u64(c->arg[1], &version) || version == 0)
		return cli_fail(c, CLI_USAGE,
			"\"%s\" is no version: `hypercache meta KEY` and `get --json` tell it",
			c->arg[1]);
	return set_as(c, "cas", HC_IF_VERSION, version, 2);
}

typedef int join_fn(struct hc_store *s, const void *key, size_t key_bytes, const void *value,
	size_t value_bytes, const struct hc_set_opts *opts);

static int join(const struct cli *c, const char *what, join_fn *f)
{
	struct hc_set_opts o = HC_OPTS(hc_set_opts);
	struct change g = {.key = NULL};
	int status = change_begin(c, 1, &g);

	if (status == 0) {
		o.version = c->version;
		o.ret_version = &g.version;
		int r = f(g.s, g.key, g.key_bytes, g.value, g.value_bytes, &o);
		status = change_say(c, what, "set", r, &g, NULL);
	}
	change_end(&g);
	return status;
}

int cli_append(const struct cli *c) { return join(c, "append", hc_append); }
int cli_prepend(const struct cli *c) { return join(c, "prepend", hc_prepend); }

/* -------------------------------------------------------------------- numbers */

static int add_number(const struct cli *c, const char *what, bool down)
{
	struct hc_incr_opts o = HC_OPTS(hc_incr_opts);
	struct change g = {.key = NULL};
	int64_t delta = 1, sum = 0;

	if (c->n_args > 1 && !cli_i64(c->arg[1], &delta))
		return cli_fail(c, CLI_USAGE, "\"%s\" is not a number of 64 bits", c->arg[1]);
	if (down && delta == INT64_MIN)
		return cli_fail(c, CLI_USAGE, "the negative of %s has no 64 bits", c->arg[1]);
	int status = change_begin(c, 0, &g);
	if (status == 0) {
		o.initial = c->initial;
		o.ttl_ms = c->ttl_ms;
		o.wrap = c->wrap;
		o.must_exist = c->must_exist;
		int r = hc_incr(g.s, g.key, g.key_bytes, down ? -delta : delta, &o, &sum);
		status = change_say(c, what, "set", r, &g, &sum);
	}
	change_end(&g);
	return status;
}

int cli_incr(const struct cli *c) { return add_number(c, "incr", false); }
int cli_decr(const struct cli *c) { return add_number(c, "decr", true); }

/* ------------------------------------------------------- time, the end of an entry */

int cli_touch(const struct cli *c)
{
	struct change g = {.key = NULL};
	uint64_t ttl_ms = 0;

	if (c->n_args > 1 && !cli_ttl(c->arg[1], &ttl_ms))
		return cli_fail(c, CLI_USAGE,
			"\"%s\" is no time: it is as 10s, 5m, 1h, 2d, or never", c->arg[1]);
	int status = change_begin(c, 0, &g);
	if (status == 0)
		status = change_say(
			c, "touch", "touched", hc_touch(g.s, g.key, g.key_bytes, ttl_ms), &g, NULL);
	change_end(&g);
	return status;
}

int cli_delete(const struct cli *c)
{
	struct change g = {.key = NULL};
	int status = change_begin(c, 0, &g);

	if (status == 0) {
		int r = c->version ? hc_delete_if(g.s, g.key, g.key_bytes, c->version)
		                   : hc_delete(g.s, g.key, g.key_bytes);
		status = change_say(c, "delete", "deleted", r, &g, NULL);
	}
	change_end(&g);
	return status;
}

int cli_clear(const struct cli *c)
{
	_cleanup_(hc_closep) struct hc *hc = NULL;
	struct json j = {.to = stdout};
	struct hc_store *s;
	uint64_t entries;

	if (!c->store_given)
		return cli_fail(c, CLI_USAGE,
			"say which store is to be emptied: `hypercache clear --store NAME`");
	int status = cli_store_open(c, &hc, &s);
	if (status)
		return status;
	int r = hc_clear(s, &entries);
	if (r != HC_OK)
		return cli_hc_fail(c, "clear", r);
	if (c->json) {
		json_begin(&j, NULL, '{');
		json_string(&j, "result", "cleared");
		json_string(&j, "store", c->store);
		json_u64(&j, "entries", entries);
		json_end(&j, '}');
		json_finish(&j);
	}
	return cli_end(c, CLI_DONE);
}
