/* hypercache.c - the command line: options, the table of verbs, help. */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "cli.h"
#include "hypercache.h"
#include "hypercache_admin.h"
#include "step.h"

enum { TIMEOUT_MS = 5000, TIMEOUT_MAX_MS = 3600000 };

static int cli_help(const struct cli *c);

static const struct cli_verb verbs[] = {
	{"get", "KEY", "print the value of a key",
		"The value's bytes go to standard output as they are; a newline follows\n"
		"only if that is a terminal.  Exit status 1 if there is no such entry.\n",
		1, 1, cli_get},
	{"set", "KEY [VALUE|-]", "set a key to a value",
		"Without VALUE, or with -, the value is all that comes from standard\n"
		"input, byte for byte.  --ttl is its time to live (10s, 5m, never),\n"
		"--flags a number of your own that is kept with it.\n",
		1, 2, cli_set},
	{"delete", "KEY", "delete a key", "Exit status 1 if there is no such entry.\n", 1, 1,
		cli_delete},
	{"exists", "KEY", "is there such an entry?",
		"Prints nothing: exit status 0 if there is, 1 if not.  Not counted as a read.\n", 1,
		1, cli_exists},
	{"meta", "KEY", "what is known of an entry",
		"Version, times, flags, size.  Not counted as a read.  Exit status 1 if there\n"
		"is no such entry.\n",
		1, 1, cli_meta},
	{"scan", "[PREFIX]", "list keys",
		"One key a line, byte for byte, in no order; all, or those that begin with\n"
		"PREFIX.  A key that is there all the time is listed at least once, whatever\n"
		"else changes meanwhile.  Read from shared memory: the daemon does nothing.\n",
		0, 1, cli_scan},
	{"ping", "", "ask the engine for a sign of life", "Prints how long the round trip took.\n",
		0, 0, cli_ping},
	{"stat", "", "show the daemon, its pools and stores",
		"Read from shared memory: it works while the engine hangs or is dead.\n"
		"--store shows one store, with all that is counted of it.\n"
		"--verbose shows all counters and what they mean.  A pool adds up:\n"
		"limit = live + overhead + free + limbo + unusable.\n",
		0, 0, cli_stat},
	{"clients", "", "show who is connected",
		"Read from shared memory.  Process and user are what the kernel says,\n"
		"name and numbers the client's own words.\n",
		0, 0, cli_clients},
	{"fsck", "", "check the shared memory",
		"Reads all of it and prints each invariant that is broken, by the number\n"
		"under which the headers in shm/layout list it.  Nothing is changed or\n"
		"locked; the daemon may go on meanwhile.  Exit status 1 if something is\n"
		"wrong.\n",
		0, 0, cli_fsck},
	{"config", "check FILE | show | diff [FILE]", "look at a configuration",
		"check: is this file right?  Asks no daemon.  If not: exit status 1, and file,\n"
		"line, column, and what would be right.\n"
		"show: every value of the running daemon, and where it comes from: the default,\n"
		"file and line, an option --set, or `store create`.\n"
		"diff: what a reload of the daemon's file, or of FILE, would change, and what of\n"
		"that takes a new start (then a reload is refused).  Exit status 1 if something\n"
		"differs.\n",
		1, 2, cli_config},
	{"reload", "", "read the daemon's configuration again",
		"As SIGHUP does, but with an answer: what has changed.  All of it or nothing: a\n"
		"file that is not right, is being written, or changes what takes a new start, is\n"
		"refused, and so is one without a store that holds entries, unless --force is "
		"given.\n",
		0, 0, cli_reload},
	{"store", "list | create NAME [KEY=VALUE]... | drop NAME", "list, create and drop stores",
		"create: clients find it at once.  KEYs as in the configuration (hypercached\n"
		"--help-config); it lasts until it is dropped or the daemon ends.\n"
		"drop: calls of clients that have it answer HC_E_NO_STORE from then on; its "
		"memory\n"
		"is given back in the background.  A store that holds entries only with --force.\n",
		1, 34, cli_store},
	{"pool", "list", "list pools", "In short; `hypercache stat` tells more.\n", 1, 1, cli_pool},
	{"help", "[VERB]", "explain a verb", "", 0, 1, cli_help},
};
enum { N_VERBS = sizeof verbs / sizeof *verbs };

static const char option_help[] =
	"  --socket PATH   the daemon's socket; else $HYPERCACHE_SOCKET, or the usual place\n"
	"  --admin PATH    the admin socket; else admin.sock beside the other\n"
	"  --store NAME    the store of a verb with a KEY, and of scan; else \"default\"; of stat; "
	"else all\n"
	"  --timeout TIME  how long to wait, as 500ms or 10s; else 5s\n"
	"  --ttl TIME      time to live (set), as 10s, 5m, 1h, 2d, or never; else the store's\n"
	"  --flags N       the caller's flags, 0 to 4294967295 (set)\n"
	"  --base64        KEY and VALUE are given in base64: any bytes\n"
	"  --force         also where entries are lost (reload, store drop)\n"
	"  --json          one JSON object; bytes that are not UTF-8 as NAME_base64\n"
	"  --verbose       all counters (stat)\n"
	"  --help          this; --version: the version; --: the end of the options\n";

static const struct cli_verb *verb_find(const char *name)
{
	for (int i = 0; i < N_VERBS; i++)
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
	return NULL;
}

static void usage_print(FILE *to)
{
	fputs("hypercache - reads, writes and shows the cache of this host\n\n", to);
	for (int i = 0; i < N_VERBS; i++) {
		int n = fprintf(to, "  hypercache %s %s", verbs[i].name, verbs[i].args);
		fprintf(to, "%*s%s\n", n < 34 ? 34 - n : 1, "", verbs[i].line);
	}
	fprintf(to, "\n%s\nExit status:\n", option_help);
#define STATUS_LINE_(name, number, meaning) fprintf(to, "  %d  %s\n", number, meaning);
	CLI_STATUSES(STATUS_LINE_)
}

static int cli_help(const struct cli *c)
{
	if (c->n_args == 0) {
		usage_print(stdout);
		return cli_end(c, CLI_DONE);
	}
	const struct cli_verb *v = verb_find(c->arg[0]);
	if (!v)
		return cli_fail(c, CLI_USAGE, "there is no verb \"%s\": see `hypercache --help`",
			c->arg[0]);
	printf("hypercache %s %s\n\n%s.\n%s", v->name, v->args, v->line, v->help);
	return cli_end(c, CLI_DONE);
}

int cli_fail(const struct cli *c, enum cli_status status, const char *format, ...)
{
	static const char *const names[] = {
#define STATUS_NAME_(name, number, meaning) [number] = #name,
		CLI_STATUSES(STATUS_NAME_)};
	char text[1024];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof text, format, args);
	va_end(args);
	if (c->json) {
		struct json j = {.to = stdout};
		json_begin(&j, NULL, '{');
		json_i64(&j, "status", status);
		json_string(&j, "error", names[status]);
		json_string(&j, "text", text);
		json_end(&j, '}');
		json_finish(&j);
		return cli_end(c, status);
	}
	fprintf(stderr, "hypercache: %s\n", text);
	return status;
}

int cli_end(const struct cli *c, int status)
{
	(void)c;
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	fprintf(stderr, "hypercache: cannot write the result: %s\n", strerror(errno));
	return CLI_FAILED;
}

int cli_admin_open(const struct cli *c, struct hypercache_admin *ret)
{
	char path[HYPERCACHE_ADMIN_PATH_BYTES], why[HYPERCACHE_ADMIN_WHY_BYTES];

	if (!c->admin && hypercache_admin_path(c->socket, path) < 0)
		return cli_fail(c, CLI_USAGE, "the path of the socket is too long");
	int r = hypercache_admin_open(c->admin ? c->admin : path, (int)c->timeout_ms, ret, why);
	if (r == 0)
		return 0;
	if (r == HYPERCACHE_ADMIN_NONE)
		return cli_fail(c, CLI_NO_DAEMON, "%s", why);
	if (r == HYPERCACHE_ADMIN_DENIED)
		return cli_fail(c, CLI_DENIED, "%s", why);
	return cli_fail(c, CLI_FAILED, "%s", why);
}

/* ------------------------------------------------------------------- options */

/* A duration with its unit, ms or more.  False: it is none. */
static bool duration_parse(const char *text, uint64_t max_ms, uint64_t *ret_ms)
{
	static const struct {
		const char *unit;
		uint64_t ms;
	} units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	uint64_t n = strtoull(text, &end, 10);
	for (size_t i = 0; errno == 0 && i < sizeof units / sizeof *units; i++) {
		if (strcmp(end, units[i].unit) != 0)
			continue;
		*ret_ms = n * units[i].ms;
		return n > 0 && (n <= max_ms / units[i].ms || MUTANT(148)); /* 148: it may wrap */
	}
	return false;
}

static bool number_parse(const char *text, uint32_t *ret)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	unsigned long long n = strtoull(text, &end, 0);
	*ret = (uint32_t)n;
	return errno == 0 && *end == 0 && n <= UINT32_MAX;
}

enum {
	OPT_SOCKET = 256,
	OPT_ADMIN,
	OPT_STORE,
	OPT_TIMEOUT,
	OPT_TTL,
	OPT_FLAGS,
	OPT_BASE64,
	OPT_JSON,
	OPT_VERBOSE,
	OPT_FORCE,
	OPT_HELP,
	OPT_VERSION,
};

static const struct option options[] = {
	{"socket", required_argument, NULL, OPT_SOCKET},
	{"admin", required_argument, NULL, OPT_ADMIN},
	{"store", required_argument, NULL, OPT_STORE},
	{"timeout", required_argument, NULL, OPT_TIMEOUT},
	{"ttl", required_argument, NULL, OPT_TTL},
	{"flags", required_argument, NULL, OPT_FLAGS},
	{"base64", no_argument, NULL, OPT_BASE64},
	{"json", no_argument, NULL, OPT_JSON},
	{"verbose", no_argument, NULL, OPT_VERBOSE},
	{"force", no_argument, NULL, OPT_FORCE},
	{"help", no_argument, NULL, OPT_HELP},
	{"version", no_argument, NULL, OPT_VERSION},
	{NULL, 0, NULL, 0},
};

/* Obeys one option.  False, and it has been said: its argument is wrong. */
static bool option_take(struct cli *c, int opt)
{
	const uint64_t ten_years_ms = UINT64_C(3650) * 86400000;
	uint64_t ms = 0;

	switch (opt) {
	case OPT_SOCKET:
		c->socket = optarg;
		return true;
	case OPT_ADMIN:
		c->admin = optarg;
		return true;
	case OPT_STORE:
		c->store = optarg;
		c->store_given = true;
		return true;
	case OPT_BASE64:
		c->base64 = true;
		return true;
	case OPT_JSON:
		c->json = true;
		return true;
	case OPT_VERBOSE:
		c->verbose = true;
		return true;
	case OPT_FORCE:
		c->force = true;
		return true;
	case OPT_TIMEOUT:
		if (!duration_parse(optarg, TIMEOUT_MAX_MS, &ms))
			break;
		c->timeout_ms = (uint32_t)ms;
		return true;
	case OPT_TTL:
		if (strcmp(optarg, "never") == 0)
			c->ttl_ms = HC_TTL_NEVER;
		else if (!duration_parse(optarg, ten_years_ms, &c->ttl_ms))
			break;
		return true;
	case OPT_FLAGS:
		if (!number_parse(optarg, &c->flags))
			break;
		return true;
	default:
		return false; /* getopt has said it */
	}
	(void)cli_fail(c, CLI_USAGE, "\"%s\" is not what --%s takes: see `hypercache --help`",
		optarg, options[opt - OPT_SOCKET].name);
	return false;
}

static int version_print(const struct cli *c)
{
	printf("hypercache %s\n", hc_version());
	return cli_end(c, CLI_DONE);
}

/* Fills in *c.  Returns the verb; NULL: *ret_status is the exit status, and all has been said. */
static const struct cli_verb *cli_parse(int argc, char **argv, struct cli *c, int *ret_status)
{
	int opt;

	*c = (struct cli){.store = "default", .timeout_ms = TIMEOUT_MS};
	*ret_status = CLI_USAGE;
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == OPT_HELP)
			*ret_status = cli_help(c);
		if (opt == OPT_VERSION)
			*ret_status = version_print(c);
		if (opt == OPT_HELP || opt == OPT_VERSION || !option_take(c, opt))
			return NULL;
	}
	if (optind >= argc) { /* argc may be 0 */
		usage_print(stderr);
		return NULL;
	}
	const struct cli_verb *v = verb_find(argv[optind]);
	if (!v) {
		(void)cli_fail(c, CLI_USAGE, "there is no verb \"%s\": see `hypercache --help`",
			argv[optind]);
		return NULL;
	}
	c->n_args = argc - optind - 1;
	c->arg = argv + optind + 1;
	if (c->n_args >= v->args_min && c->n_args <= v->args_max)
		return v;
	(void)cli_fail(c, CLI_USAGE, "it is `hypercache %s %s`: see `hypercache help %s`", v->name,
		v->args, v->name);
	return NULL;
}

int main(int argc, char **argv)
{
	struct cli c;
	int status;

	step_from_env();
	const struct cli_verb *v = cli_parse(argc, argv, &c, &status);
	return v ? v->run(&c) : status;
}
