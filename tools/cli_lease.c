/* cli_lease.c - get-or: a value, or what a command prints, which one of all who want it runs. */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "cli.h"
#include "hypercache.h"

enum { READ_BYTES = 65536, TRIES = 16, ABSENT_STATUS = 1 };
#define VALUE_BYTES_MAX ((size_t)1 << 30)

extern char **environ;

DEFINE_CLEANUP(struct hc *, hc_close)

struct bytes {
	char *at;
	size_t n;
};

/* The command's exit status and what it printed, for the caller to free; below 0: -errno. */
static int command_run(char *const *argv, struct bytes *ret)
{
	posix_spawn_file_actions_t actions;
	int fd[2], status;
	size_t room = 0;
	ssize_t got = 1;
	pid_t pid;

	if (pipe2(fd, O_CLOEXEC) < 0)
		return -errno;
	(void)posix_spawn_file_actions_init(&actions);
	(void)posix_spawn_file_actions_adddup2(&actions, fd[1], STDOUT_FILENO);
	int r = -posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
	(void)posix_spawn_file_actions_destroy(&actions);
	(void)close(fd[1]);
	while (r == 0 && got > 0) {
		if (ret->n == room) {
			room = room ? 2 * room : READ_BYTES;
			char *more = room <= 2 * VALUE_BYTES_MAX ? realloc(ret->at, room) : NULL;
			if (!more)
				break; /* it is told by SIGPIPE */
			ret->at = more;
		}
		got = read(fd[0], ret->at + ret->n, room - ret->n);
		if (got > 0)
			ret->n += (size_t)got;
		else if (got < 0 && errno == EINTR)
			got = 1;
	}
	(void)close(fd[0]);
	if (r < 0)
		return r;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	if (got != 0)
		return -ENOMEM;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Result of hc_view_or_lease; the value, if there is one, is copied. */
static int lease_get(const struct cli *c, struct hc_store *s, const char *key, size_t key_bytes,
	struct bytes *ret, struct hc_lease *lease)
{
	struct hc_lease_opts o = HC_OPTS(hc_lease_opts);
	struct hc_view v;

	o.lease_ms = c->lease_ms;
	for (int i = 0; i < TRIES; i++) {
		int r = hc_view_or_lease(s, key, key_bytes, &v, &o, lease);
		if (r != HC_OK && r != HC_REFRESH && r != HC_NOT_FRESH)
			return r;
		char *more = realloc(ret->at, v.value_bytes + 1);
		if (more) {
			memcpy(more, v.value, v.value_bytes);
			*ret = (struct bytes){more, v.value_bytes};
		}
		if (hc_view_release(&v) == HC_OK || !more)
			return more ? r : HC_E_NO_MEMORY;
		if (lease->token)
			(void)hc_lease_drop(s, key, key_bytes, lease->token, 0);
	}
	return HC_E_BUSY;
}

static int value_print(const struct cli *c, const char *result, const struct bytes *value)
{
	if (c->json) {
		struct json j = {.to = stdout};
		json_begin(&j, NULL, '{');
		json_string(&j, "result", result);
		json_bytes(&j, "value", value->at, value->n);
		json_end(&j, '}');
		json_finish(&j);
	} else {
		(void)fwrite(value->at, 1, value->n, stdout);
	}
	return cli_end(c, CLI_DONE);
}

static int absent_print(const struct cli *c)
{
	if (c->json)
		printf("{\"result\":\"absent\"}\n");
	return cli_end(c, CLI_MISS);
}

/* The lease is ours: old is the value that there is, or NULL. */
static int compute(const struct cli *c, struct hc_store *s, const char *key, size_t key_bytes,
	uint64_t token, const struct bytes *old)
{
	struct hc_set_opts o = HC_OPTS(hc_set_opts);
	struct bytes value = {0};
	int status = command_run(c->arg + 1, &value);
	_cleanup_free_ char *at = value.at;

	if (status == 0) {
		o.lease = token;
		o.ttl_ms = c->ttl_ms;
		o.fresh_ms = c->fresh_ms;
		int r = hc_set(s, key, key_bytes, at, value.n, &o);
		if (r != HC_OK && !c->json) /* it is right, but nobody else has it */
			fprintf(stderr, "hypercache: the value is not kept: %s (%s)\n",
				hc_strerror(r), hc_error_name(r));
		return value_print(c, "computed", &value);
	}
	bool absent = status == ABSENT_STATUS && c->absent_ms;
	(void)hc_lease_drop(s, key, key_bytes, token, absent ? c->absent_ms : 0);
	if (absent)
		return absent_print(c);
	if (old)
		return value_print(c, "old", old); /* better than none */
	if (status < 0)
		return cli_fail(c, CLI_FAILED, "cannot run %s: %s", c->arg[1], strerror(-status));
	return cli_fail(c, CLI_FAILED, "%s failed with status %d, and there is no value", c->arg[1],
		status);
}

int cli_get_or(const struct cli *c)
{
	_cleanup_(hc_closep) struct hc *hc = NULL;
	struct bytes value = {0};
	struct hc_lease lease;
	struct hc_store *s;
	const char *key;
	size_t key_bytes;
	int status = cli_key_arg(c, &key, &key_bytes);

	if (status || (status = cli_store_open(c, &hc, &s)))
		return status;
	int r = lease_get(c, s, key, key_bytes, &value, &lease);
	_cleanup_free_ char *at = value.at;
	(void)at; /* it is freed, whatever comes */
	switch (r) {
	case HC_OK:
		return value_print(c, "hit", &value);
	case HC_NOT_FRESH:
		return value_print(c, "old", &value);
	case HC_LEASE:
		return compute(c, s, key, key_bytes, lease.token, NULL);
	case HC_REFRESH:
		return compute(c, s, key, key_bytes, lease.token, &value);
	case HC_ABSENT:
		return absent_print(c);
	case HC_LEASED:
		return cli_fail(c, CLI_NO_DAEMON,
			"another process computes the value, and takes longer than --timeout");
	default:
		return cli_hc_fail(c, "get-or", r);
	}
}
