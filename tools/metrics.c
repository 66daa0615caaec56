/* metrics.c - hypercache-metrics: the daemon's HTTP side, started by the supervisor.  See metrics.h. */
#include "metrics.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include "../daemon/log.h"
#include "metrics_page.h"
#include "stat.h"
#include "step.h"

enum { STATUS_FAILED = 1, STATUS_USAGE = 2 };

static const char usage[] =
	"hypercache-metrics - what hypercached starts when metrics_listen is set\n"
	"\n"
	"  hypercache-metrics --print WHAT [ADMIN]\n"
	"                       print what it would answer, once: `metrics`, `openmetrics` or "
	"`stats`.  For\n"
	"                       cron jobs and a collector of text files.  ADMIN: the path of the "
	"admin\n"
	"                       socket\n"
	"  hypercache-metrics --list\n"
	"                       print name, type and meaning of every metric, a line each\n"
	"  hypercache-metrics --help\n"
	"\n"
	"Served by the daemon's own: see metrics_listen in hypercache.yaml(5).\n"
	"Exit status: 0 done, 1 no daemon, or it may not be looked at, 2 wrong arguments.\n";

static int ended(void) { return fflush(stdout) == 0 && !ferror(stdout) ? 0 : STATUS_FAILED; }

static int print(const char *what, const char *admin)
{
	char path[HYPERCACHE_ADMIN_PATH_BYTES], why[HYPERCACHE_ADMIN_WHY_BYTES] = "";
	bool open = strcmp(what, "openmetrics") == 0, json = strcmp(what, "stats") == 0;
	struct hypercache_admin a;

	if (!open && !json && strcmp(what, "metrics") != 0)
		return fputs(usage, stderr), STATUS_USAGE;
	if (!admin && hypercache_admin_path(NULL, path) < 0)
		return fputs("hypercache-metrics: the path is too long\n", stderr), STATUS_USAGE;
	if (hypercache_admin_open(admin ? admin : path, METRICS_ASK_MS, &a, why) != 0) {
		fprintf(stderr, "hypercache-metrics: %s\n", why);
		return STATUS_FAILED;
	}
	if (json)
		stat_json(&a, stdout);
	else
		hypercache_page_write(
			stdout, open ? HYPERCACHE_PAGE_OPENMETRICS : HYPERCACHE_PAGE_TEXT, &a);
	hypercache_admin_close(&a);
	return ended();
}

static void list_one(void *arg, const char *name, const char *type, const char *help)
{
	(void)arg;
	printf("%s\t%s\t%s\n", name, type, help);
}

/* As many descriptors as a look needs; no core, which would hold what others have written. */
static void limits_set(void)
{
	const struct rlimit files = {256, 256}, none = {0, 0};

	(void)setrlimit(RLIMIT_NOFILE, &files);
	(void)setrlimit(RLIMIT_CORE, &none);
}

static int serve(int channel, int listen_fd)
{
	struct pollfd p[] = {{.fd = channel, .events = 0}, {.events = POLLIN}};
	char locked[METRICS_TEXT_BYTES];

	(void)prctl(PR_SET_NAME, "hypercache-metr");
	(void)signal(SIGPIPE, SIG_IGN);
	log_open(STDERR_FILENO, CONFIG_LOG_INFO, "metrics");
	limits_set();
	int r = metrics_http_open(listen_fd, channel);
	if (r < 0) {
		(void)log_fail(r, "no HTTP at the listening socket");
		return STATUS_FAILED;
	}
	log_info("serves; %s", metrics_lock(locked));
	p[1].fd = metrics_http_fd();
	for (;;) {
		if (poll(p, 2, metrics_http_due_ms()) < 0 && errno != EINTR)
			break;
		if (p[0].revents & (POLLHUP | POLLERR))
			break; /* the supervisor's end, or it wants us gone */
		metrics_http_run();
	}
	metrics_http_close();
	return 0;
}

int main(int argc, char **argv)
{
	step_from_env();
	if (argc == 4 && strcmp(argv[1], "--serve") == 0) {
		int channel = atoi(argv[2]), listen_fd = atoi(argv[3]);
		if (fcntl(channel, F_SETFD, FD_CLOEXEC) == 0 &&
			fcntl(listen_fd, F_SETFD, FD_CLOEXEC) == 0)
			return serve(channel, listen_fd);
	}
	if ((argc == 3 || argc == 4) && strcmp(argv[1], "--print") == 0)
		return print(argv[2], argc == 4 ? argv[3] : NULL);
	if (argc == 2 && strcmp(argv[1], "--list") == 0)
		return hypercache_metrics_each(list_one, NULL), ended();
	if (argc == 2 && strcmp(argv[1], "--help") == 0)
		return fputs(usage, stdout), ended();
	fputs(usage, stderr);
	return STATUS_USAGE;
}
