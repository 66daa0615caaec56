/* cli_upgrade.c - upgrade: another binary goes on where the daemon is; checkpoint: durable stores are written out.  Both take
 * a while, and are answered when they are over. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/cleanup.h"
#include "../daemon/admin.h"
#include "cli.h"

enum { PATIENCE_MS = 60000, FIELDS = 2 };

int cli_upgrade(const struct cli *c)
{
	struct admin_request rq = {.ask = ADMIN_UPGRADE};
	struct cli patient = *c;
	_cleanup_free_ char *lines = NULL, *path = NULL;
	char *field[FIELDS], *at;
	struct json j = {.to = stdout};
	int n;

	if (c->n_args == 1) { /* the daemon has another working folder */
		path = realpath(c->arg[0], NULL);
		if (!path)
			return cli_fail(c, CLI_USAGE, "%s: %s", c->arg[0], strerror(errno));
		if (strlen(path) >= sizeof rq.text)
			return cli_fail(c, CLI_USAGE, "the path of the binary is too long");
		memcpy(rq.text, path, strlen(path));
	}
	if (patient.timeout_ms < PATIENCE_MS)
		patient.timeout_ms = PATIENCE_MS;
	int status = cli_ask(&patient, &rq, -1, &lines);
	if (status)
		return status;
	if (c->json)
		json_begin(&j, NULL, '{');
	for (at = lines; cli_line_next(&at, field, FIELDS, &n);) {
		if (c->json)
			json_string(&j, field[0], field[1]);
		else
			printf("%s\n", field[1]);
	}
	if (c->json) {
		json_end(&j, '}');
		json_finish(&j);
	}
	return cli_end(c, CLI_DONE);
}

int cli_checkpoint(const struct cli *c)
{
	struct admin_request rq = {.ask = ADMIN_CHECKPOINT};
	struct cli patient = *c;
	_cleanup_free_ char *lines = NULL;
	char *field[FIELDS], *at;
	struct json j = {.to = stdout};
	int n;

	if (patient.timeout_ms < PATIENCE_MS)
		patient.timeout_ms = PATIENCE_MS;
	int status = cli_ask(&patient, &rq, -1, &lines);
	if (status)
		return status;
	if (c->json)
		json_begin(&j, NULL, '{');
	for (at = lines; cli_line_next(&at, field, FIELDS, &n);) {
		if (c->json)
			json_u64(&j, field[0], strtoull(field[1], NULL, 10));
		else
			printf("%-16s %s\n", field[0], field[1]);
	}
	if (c->json) {
		json_end(&j, '}');
		json_finish(&j);
	}
	return cli_end(c, CLI_DONE);
}
