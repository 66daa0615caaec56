/* main.c - hypercached: the options, and which of the two processes this one is. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <string.h>
#include "checkpoint.h"
#include "config_source.h"
#include "heritage.h"
#include "limit_table.h"
#include "step.h"

enum { STATUS_FAILED = 1, STATUS_USAGE = 2 };

enum {
	OPT_CONFIG = 256,
	OPT_SET,
	OPT_RECOVER,
	OPT_CHECK,
	OPT_PRINT,
	OPT_HELP_CONFIG,
	OPT_HELP_LIMITS,
	OPT_MAN_CONFIG,
	OPT_HELP,
	OPT_VERSION,
	OPT_ENGINE,
	OPT_CHECK_UPGRADE,
	OPT_TAKE_OVER,
	OPT_TAKEN_BACK,
};

static const struct option options[] = {
	{"config", required_argument, NULL, OPT_CONFIG},
	{"set", required_argument, NULL, OPT_SET},
	{"recover", required_argument, NULL, OPT_RECOVER},
	{"check-config", no_argument, NULL, OPT_CHECK},
	{"print-config", no_argument, NULL, OPT_PRINT},
	{"help-config", no_argument, NULL, OPT_HELP_CONFIG},
	{"help-limits", no_argument, NULL, OPT_HELP_LIMITS},
	{"man-config", no_argument, NULL, OPT_MAN_CONFIG},
	{"help", no_argument, NULL, OPT_HELP},
	{"version", no_argument, NULL, OPT_VERSION},
	{"engine", required_argument, NULL, OPT_ENGINE},
	{"check-upgrade", required_argument, NULL, OPT_CHECK_UPGRADE},
	{"take-over", required_argument, NULL, OPT_TAKE_OVER},
	{"taken-back", required_argument, NULL, OPT_TAKEN_BACK},
	{NULL, 0, NULL, 0},
};

static const char usage[] =
	"hypercached - the daemon that owns the shared memory\n"
	"\n"
	"  hypercached [--config FILE] [--set KEY=VALUE]...\n"
	"                                 run in the foreground until SIGTERM\n"
	"\n"
	"  --config FILE    the configuration; without it the defaults hold\n"
	"  --set KEY=VALUE  a value that counts instead of the file's, as log_level=debug,\n"
	"                   pools.main.size=1GiB or stores.pages.ttl=10m; may be repeated\n"
	"  --recover=WHAT   how to begin with data that are not just taken; the log of a\n"
	"                   start that was refused says which of these would help:\n"
	"                   copy  the folder may be a copy of one that was in use\n"
	"                   cut   the log ends before the place that is damaged\n"
	"                   skip  what is damaged is left out, what is behind it counts\n"
	"  --check-config   only look whether it is right\n"
	"  --print-config   print the values that would hold, as a configuration\n"
	"  --help-config    print all keys, their values and meanings\n"
	"  --help-limits    print all limits, and what is beyond each\n"
	"  --man-config     print the keys as the manual page hypercache.yaml(5)\n"
	"  --help           print this\n"
	"  --version        print the version\n"
	"\n"
	"It prints \"hypercached: ready on SOCKET\" when it serves; its log goes to\n"
	"standard error.  Exit status: 0 stopped as asked, 1 could not start, 2 wrong\n"
	"options or configuration, 3 the engine crashed too often.\n";

/* 0: no such word. */
static enum sup_recover recover_of(const char *word)
{
	static const char *const words[SUP_RECOVER_N] = {[SUP_RECOVER_COPY] = "copy",
		[SUP_RECOVER_CUT] = "cut",
		[SUP_RECOVER_SKIP] = "skip"};

	for (int i = 1; i < SUP_RECOVER_N; i++)
		if (strcmp(word, words[i]) == 0)
			return (enum sup_recover)i;
	return SUP_RECOVER_ASK;
}

/* Ends output to stdout; the exit status. */
static int printed(void)
{
	return fflush(stdout) == 0 && !ferror(stdout) ? EXIT_SUCCESS : STATUS_FAILED;
}

int main(int argc, char **argv)
{
	static struct config config;
	static struct config_places places;
	char why[CONFIG_ERROR_BYTES + 4096];
	static struct config_source source;
	const char *taken_back = NULL;
	enum sup_recover recover = SUP_RECOVER_ASK;
	int what = 0, opt, state_fd = -1;

	step_from_env();
	if (argc > 1 && strcmp(argv[1], CHECKPOINT_WORD) == 0) {
		(void)prctl(PR_SET_NAME, "hypercached-ckp");
		return checkpoint_main(argc, argv);
	}
	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (opt == '?')
			return fputs("hypercached: see --help\n", stderr), STATUS_USAGE;
		if (opt == OPT_ENGINE) {
			(void)prctl(PR_SET_NAME, "hypercached-eng"); /* it would be "exe" */
			return eng_main(atoi(optarg));
		}
		if (opt == OPT_RECOVER && (recover = recover_of(optarg)) == SUP_RECOVER_ASK) {
			fprintf(stderr, "hypercached: --recover=%s: use copy, cut or skip\n",
				optarg);
			return STATUS_USAGE;
		}
		if (opt == OPT_RECOVER)
			continue;
		if (opt == OPT_CHECK_UPGRADE)
			return sup_check_upgrade(atoi(optarg));
		if (opt == OPT_TAKE_OVER)
			state_fd = atoi(optarg);
		else if (opt == OPT_TAKEN_BACK)
			taken_back = optarg;
		else if (opt == OPT_CONFIG)
			source.file = optarg;
		else if (opt == OPT_SET && source.n_set < CONFIG_SETS_MAX)
			source.set[source.n_set++] = optarg;
		else if (opt == OPT_SET)
			return fputs("hypercached: at most 64 --set\n", stderr), STATUS_USAGE;
		else if (what == 0)
			what = opt;
	}
	if (optind < argc) {
		fprintf(stderr, "hypercached: \"%s\" is no option: see --help\n", argv[optind]);
		return STATUS_USAGE;
	}
	if (state_fd >= 0)
		return sup_take_over(state_fd, taken_back);
	if (what == OPT_HELP)
		return fputs(usage, stdout), printed();
	if (what == OPT_VERSION)
		return printf("hypercached %s\n", HC_VERSION_TEXT), printed();
	if (what == OPT_HELP_CONFIG)
		return config_help(stdout), printed();
	if (what == OPT_HELP_LIMITS)
		return limits_print(stdout), printed();
	if (what == OPT_MAN_CONFIG)
		return config_man(stdout), printed();
	if (config_read(&config, &places, &source, why, sizeof why) < 0) {
		fprintf(stderr, "hypercached: %s\n", why);
		return STATUS_USAGE;
	}
	if (what == OPT_CHECK)
		return printf("%s: right\n", source.file ? source.file : "the defaults"), printed();
	if (what == OPT_PRINT)
		return config_print(&config, stdout), printed();
	return sup_main(&config, &places, &source, recover);
}
