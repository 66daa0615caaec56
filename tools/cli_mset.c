/* cli_mset.c - mset: many entries, from arguments or from standard input.
 *
 * On standard input a pair is
 *   a line    KEY TAB VALUE, as they are; with --base64 each of them in base64
 *   --zero    KEY, a zero byte, VALUE, a zero byte
 *
 * They are sent MSET_PAIRS at a time, so that any number of them takes little memory.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "cli.h"
#include "hypercache.h"

enum { MSET_PAIRS = 1024, MSET_BYTES = 8 << 20 };

DEFINE_CLEANUP(struct hc *, hc_close)

struct mset {
	const struct cli *c;
	struct hc_store *s;
	struct hc_mset_item item[MSET_PAIRS];
	char *mem[MSET_PAIRS][2]; /* of item i, to be freed */
	size_t n, bytes;
	uint64_t read, set, not_set; /* pairs in all */
};

/* Sends what has been gathered.  0, or an exit status. */
static int mset_send(struct mset *m)
{
	struct hc_set_opts o = HC_OPTS(hc_set_opts);
	int error = HC_OK;

	o.ttl_ms = m->c->ttl_ms;
	o.flags = m->c->flags;
	o.mode = m->c->mode;
	o.stamp = m->c->stamp;
	int r = m->n ? hc_mset(m->s, m->item, m->n, &o) : HC_OK;
	if (r == HC_E_INVAL)
		error = r;
	for (size_t i = 0; i < m->n; i++) {
		m->set += m->item[i].result == HC_OK;
		m->not_set += m->item[i].result > 0;
		if (m->item[i].result < 0 && error == HC_OK)
			error = m->item[i].result;
		free(m->mem[i][0]);
		free(m->mem[i][1]);
		m->mem[i][0] = m->mem[i][1] = NULL;
	}
	m->n = m->bytes = 0;
	if (error == HC_OK)
		return 0;
	char what[64];
	(void)snprintf(what, sizeof what, "mset (%" PRIu64 " entries were set)", m->set);
	return cli_hc_fail(m->c, what, error);
}

/* One more pair; a and b are freed when they have been sent.  0, or an exit status. */
static int mset_add(struct mset *m, const char *key, size_t key_bytes, const char *value,
	size_t value_bytes, char *a, char *b)
{
	m->mem[m->n][0] = a;
	m->mem[m->n][1] = b;
	m->item[m->n++] = (struct hc_mset_item){
		.key = key, .key_bytes = key_bytes, .value = value, .value_bytes = value_bytes};
	m->bytes += key_bytes + value_bytes;
	m->read++;
	if (key_bytes < 1 || key_bytes > HC_KEY_BYTES_MAX)
		return cli_fail(m->c, CLI_USAGE,
			"pair %" PRIu64 ": a key has 1 to %d bytes; %" PRIu64 " entries were set",
			m->read, HC_KEY_BYTES_MAX, m->set);
	return m->n == MSET_PAIRS || m->bytes >= MSET_BYTES ? mset_send(m) : 0;
}

static int mset_args(struct mset *m)
{
	int status = 0;

	for (int i = 0; i + 1 < m->c->n_args && status == 0; i += 2) {
		const char *key, *value;
		size_t key_bytes, value_bytes;
		status = cli_arg_bytes(m->c, i, &key, &key_bytes);
		if (status == 0)
			status = cli_arg_bytes(m->c, i + 1, &value, &value_bytes);
		if (status == 0)
			status = mset_add(m, key, key_bytes, value, value_bytes, NULL, NULL);
	}
	return status;
}

/* A line without its newline, for the caller to free.  -1: the end. */
static ssize_t input_part(char **ret, int end)
{
	size_t room = 0;

	*ret = NULL;
	ssize_t n = getdelim(ret, &room, end, stdin);
	if (n > 0 && (*ret)[n - 1] == end)
		(*ret)[--n] = 0;
	return n;
}

/* 0; an exit status; -1: there is no further one. */
static int mset_line(struct mset *m)
{
	_cleanup_free_ char *line = NULL;
	ssize_t n = input_part(&line, '\n');

	if (n < 0)
		return -1;
	char *tab = memchr(line, '\t', (size_t)n);
	if (!tab)
		return cli_fail(m->c, CLI_USAGE,
			"line %" PRIu64 " is not KEY, tab, VALUE; %" PRIu64 " entries were set",
			m->read + 1, m->set);
	size_t key_bytes = (size_t)(tab - line), value_bytes = (size_t)n - key_bytes - 1;
	*tab = 0;
	if (m->c->base64 &&
		(!cli_base64_decode(line, &key_bytes) || !cli_base64_decode(tab + 1, &value_bytes)))
		return cli_fail(m->c, CLI_USAGE,
			"line %" PRIu64 " is not base64; %" PRIu64 " entries were set", m->read + 1,
			m->set);
	char *mem = steal_ptr(line);
	return mset_add(m, mem, key_bytes, tab + 1, value_bytes, mem, NULL);
}

static int mset_zero(struct mset *m)
{
	_cleanup_free_ char *key = NULL, *value = NULL;
	ssize_t n = input_part(&key, 0);

	if (n < 0)
		return -1;
	ssize_t k = input_part(&value, 0);
	if (k < 0)
		return cli_fail(m->c, CLI_USAGE,
			"key %" PRIu64 " has no value; %" PRIu64 " entries were set", m->read + 1,
			m->set);
	char *a = steal_ptr(key), *b = steal_ptr(value);
	return mset_add(m, a, (size_t)n, b, (size_t)k, a, b);
}

static int mset_input(struct mset *m)
{
	int status = 0;

	while (status == 0)
		status = m->c->zero ? mset_zero(m) : mset_line(m);
	if (status > 0)
		return status;
	return ferror(stdin)
	               ? cli_fail(m->c, CLI_FAILED, "cannot read the pairs: %s", strerror(errno))
	               : 0;
}

static int mset_say(const struct mset *m)
{
	struct json j = {.to = stdout};

	if (m->c->json) {
		json_begin(&j, NULL, '{');
		json_string(&j, "result", m->not_set ? "some" : "set");
		json_u64(&j, "set", m->set);
		json_u64(&j, "not_set", m->not_set);
		json_end(&j, '}');
		json_finish(&j);
	} else if (m->not_set) {
		fprintf(stderr, "hypercache: %" PRIu64 " of %" PRIu64 " entries were not written\n",
			m->not_set, m->set + m->not_set);
	}
	return cli_end(m->c, m->not_set ? CLI_MISS : CLI_DONE);
}

int cli_mset(const struct cli *c)
{
	_cleanup_(hc_closep) struct hc *hc = NULL;
	_cleanup_free_ struct mset *m = calloc(1, sizeof *m);

	if (!m)
		return cli_fail(c, CLI_FAILED, "no memory");
	if (c->n_args % 2)
		return cli_fail(c, CLI_USAGE, "the last key has no value");
	if (c->zero && (c->n_args || c->base64))
		return cli_fail(c, CLI_USAGE, "--zero is for standard input, without --base64");
	m->c = c;
	int status = cli_store_open(c, &hc, &m->s);
	if (status)
		return status;
	status = c->n_args ? mset_args(m) : mset_input(m);
	if (status == 0)
		status = mset_send(m);
	for (size_t i = 0; i < m->n; i++) {
		free(m->mem[i][0]);
		free(m->mem[i][1]);
	}
	return status ? status : mset_say(m);
}
