/* cli_config.c - config, reload: the configuration, of a file or of the running daemon.
 *
 * What the daemon answers are lines with tabs between their fields (daemon/admin.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "../daemon/config_source.h"
#include "base/cleanup.h"
#include "cli.h"
#include "hypercache_admin.h"

enum { PATH_COLUMNS = 32, VALUE_COLUMNS = 28, FIELDS = 5 };

bool cli_line_next(char **at, char **field, int n_fields, int *ret_n)
{
	char *line = *at, *end = line + strcspn(line, "\n");

	if (*line == 0)
		return false;
	*at = *end ? end + 1 : end;
	*end = 0;
	int n = 0;
	while (n < n_fields) {
		field[n++] = line;
		line = n < n_fields ? strchr(line, '\t') : NULL;
		if (!line)
			break;
		*line++ = 0;
	}
	for (int i = n; i < n_fields; i++)
		field[i] = end; /* "" */
	*ret_n = n;
	return true;
}

/* ----------------------------------------------------------------------- ask */

static const char *refusal_word(enum admin_refusal refusal)
{
#define WORD_(name, word, meaning) [ADMIN_R_##name] = word,
	static const char *const words[ADMIN_R_END] = {ADMIN_REFUSALS(WORD_)};
	return words[refusal] ? words[refusal] : "refused";
}

/* The daemon's refusal, in its own words.  Returns the exit status. */
static int refused(const struct cli *c, enum admin_refusal refusal, char *lines)
{
	char *field[FIELDS], *at = lines, *text = lines + strlen(lines);
	int n;

	while (cli_line_next(&at, field, FIELDS, &n))
		if (strcmp(field[0], "error") == 0)
			text = field[1];
	return cli_fail(c, refusal == ADMIN_R_DENIED ? CLI_DENIED : CLI_FAILED, "%s: %s",
		refusal_word(refusal), text);
}

int cli_ask(const struct cli *c, struct admin_request *rq, int fd, char **ret_lines)
{
	char path[HYPERCACHE_ADMIN_PATH_BYTES], why[HYPERCACHE_ADMIN_WHY_BYTES], *lines = NULL;
	enum admin_refusal refusal = ADMIN_R_NONE;

	rq->magic = ADMIN_ASK_MAGIC;
	rq->version = ADMIN_VERSION;
	if (!c->admin && hypercache_admin_path(c->socket, path) < 0)
		return cli_fail(c, CLI_USAGE, "the path of the socket is too long");
	int r = hypercache_admin_ask(
		c->admin ? c->admin : path, (int)c->timeout_ms, rq, fd, &lines, &refusal, why);
	if (r == 0) {
		*ret_lines = lines;
		return 0;
	}
	if (r == HYPERCACHE_ADMIN_REFUSED) {
		int status = refused(c, refusal, lines);
		free(lines);
		return status;
	}
	return cli_fail(c,
		r == HYPERCACHE_ADMIN_NONE     ? CLI_NO_DAEMON
		: r == HYPERCACHE_ADMIN_DENIED ? CLI_DENIED
					       : CLI_FAILED,
		"%s", why);
}

/* ------------------------------------------------------------------- changes */

static void change_print(char **field)
{
	const char *when = strcmp(field[4], "start") == 0 ? "   (takes a new start)" : "";

	if (strcmp(field[0], "note") == 0)
		printf("%s\n", field[1]);
	else if (strcmp(field[0], "changed") == 0)
		printf("changed  %s: %s -> %s%s\n", field[1], field[2], field[3], when);
	else
		printf("%-8s %s%s\n", field[0], field[1], when);
}

static void change_json(struct json *j, char **field)
{
	json_begin(j, NULL, '{');
	json_string(j, "what", field[0]);
	json_string(j, "path", field[1]);
	if (strcmp(field[0], "changed") == 0) {
		json_string(j, "was", field[2]);
		json_string(j, "is", field[3]);
	}
	json_bool(j, "needs_start", strcmp(field[4], "start") == 0);
	json_end(j, '}');
}

void cli_changes_print(const struct cli *c, char *lines)
{
	struct json j = {.to = stdout};
	char *field[FIELDS], *at = lines, *note = NULL;
	int n;

	if (c->json) {
		json_begin(&j, NULL, '{');
		json_begin(&j, "changes", '[');
	}
	while (cli_line_next(&at, field, FIELDS, &n)) {
		if (!c->json)
			change_print(field);
		else if (strcmp(field[0], "note") == 0)
			note = field[1];
		else
			change_json(&j, field);
	}
	if (c->json) {
		json_end(&j, ']');
		if (note)
			json_string(&j, "note", note);
		json_end(&j, '}');
		json_finish(&j);
	}
}

static bool differs(const char *lines)
{
	return strncmp(lines, "changed\t", 8) == 0 || strncmp(lines, "added\t", 6) == 0 ||
	       strncmp(lines, "removed\t", 8) == 0;
}

/* ----------------------------------------------------------- check, show, diff */

static int check(const struct cli *c)
{
	static struct config config;
	const struct config_source from = {.file = c->arg[1]};
	char err[CONFIG_ERROR_BYTES + 4096];
	bool right = config_read(&config, NULL, &from, err, sizeof err) == 0;

	if (c->json) {
		struct json j = {.to = stdout};
		json_begin(&j, NULL, '{');
		json_bool(&j, "right", right);
		if (!right)
			json_string(&j, "text", err);
		json_end(&j, '}');
		json_finish(&j);
	} else if (right) {
		printf("%s: right\n", c->arg[1]);
	} else {
		fprintf(stderr, "hypercache: %s\n", err);
	}
	return cli_end(c, right ? CLI_DONE : CLI_MISS);
}

/* The file's name for people: the note at the end of the answer. */
static const char *show_file(const char *lines)
{
	const char *note = strstr(lines, "\nnote\t");

	return note ? note + strlen("\nnote\t") : "";
}

static void value_print(char **field, const char *file, int file_bytes)
{
	printf("%-*s %-*s ", PATH_COLUMNS, field[0], VALUE_COLUMNS, field[1]);
	if (strcmp(field[2], "file") == 0)
		printf("%.*s:%s\n", file_bytes, file, field[3]);
	else
		printf("%s\n", strcmp(field[2], "option") == 0  ? "option --set"
			       : strcmp(field[2], "admin") == 0 ? "store create"
								: field[2]);
}

static void value_json(struct json *j, char **field)
{
	json_begin(j, NULL, '{');
	json_string(j, "path", field[0]);
	json_string(j, "value", field[1]);
	json_string(j, "from", field[2]);
	if (strcmp(field[2], "file") == 0)
		json_u64(j, "line", strtoull(field[3], NULL, 10));
	json_bool(j, "needs_start", strcmp(field[4], "start") == 0);
	json_end(j, '}');
}

static int show(const struct cli *c)
{
	struct admin_request rq = {.ask = ADMIN_SHOW};
	_cleanup_free_ char *lines = NULL, *file = NULL;
	struct json j = {.to = stdout};
	char *field[FIELDS], *at;
	int n, status = cli_ask(c, &rq, -1, &lines);

	if (status)
		return status;
	file = strdup(show_file(lines));
	if (!file)
		return cli_fail(c, CLI_FAILED, "no memory");
	int file_bytes = (int)strcspn(file, "\n");
	if (c->json) {
		json_begin(&j, NULL, '{');
		json_begin(&j, "values", '[');
	}
	for (at = lines; cli_line_next(&at, field, FIELDS, &n);) {
		if (strcmp(field[0], "note") == 0)
			continue;
		if (c->json)
			value_json(&j, field);
		else
			value_print(field, file, file_bytes);
	}
	if (c->json) {
		file[file_bytes] = 0;
		json_end(&j, ']');
		json_string(&j, "file", file);
		json_end(&j, '}');
		json_finish(&j);
	}
	return cli_end(c, CLI_DONE);
}

/* The bytes of a file in a memfd that nobody can change any more.  Descriptor, or -errno. */
static int file_seal(const char *path)
{
	_cleanup_close_ int from = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	_cleanup_close_ int to = memfd_create("hypercache", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	char part[65536];
	ssize_t n = 0, all = 0;

	if (from < 0 || to < 0)
		return -errno;
	while (all <= CONFIG_FILE_MAX_BYTES && (n = read(from, part, sizeof part)) > 0) {
		if (write(to, part, (size_t)n) != n)
			return -errno;
		all += n;
	}
	if (n < 0 || fcntl(to, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW) != 0)
		return -errno;
	return steal_fd(to);
}

static int diff(const struct cli *c)
{
	struct admin_request rq = {.ask = ADMIN_DIFF};
	_cleanup_free_ char *lines = NULL;
	_cleanup_close_ int fd = -1;

	if (c->n_args == 2) {
		if (strlen(c->arg[1]) >= CONFIG_TEXT_BYTES)
			return cli_fail(c, CLI_USAGE, "the path of the file is too long");
		(void)snprintf(rq.text, sizeof rq.text, "%s", c->arg[1]);
		fd = file_seal(c->arg[1]);
		if (fd < 0)
			return cli_fail(
				c, CLI_FAILED, "cannot read %s: %s", c->arg[1], strerror(-fd));
	}
	int status = cli_ask(c, &rq, fd, &lines);
	if (status)
		return status;
	bool some = differs(lines);
	cli_changes_print(c, lines);
	return cli_end(c, some ? CLI_MISS : CLI_DONE);
}

int cli_config(const struct cli *c)
{
	if (strcmp(c->arg[0], "check") == 0 && c->n_args == 2)
		return check(c);
	if (strcmp(c->arg[0], "show") == 0 && c->n_args == 1)
		return show(c);
	if (strcmp(c->arg[0], "diff") == 0)
		return diff(c);
	return cli_fail(c, CLI_USAGE,
		"it is `hypercache config check FILE`, `config show` or `config diff [FILE]`");
}

int cli_reload(const struct cli *c)
{
	struct admin_request rq = {.ask = ADMIN_RELOAD, .flags = c->force ? ADMIN_FORCE : 0};
	_cleanup_free_ char *lines = NULL;
	int status = cli_ask(c, &rq, -1, &lines);

	if (status)
		return status;
	cli_changes_print(c, lines);
	return cli_end(c, CLI_DONE);
}
