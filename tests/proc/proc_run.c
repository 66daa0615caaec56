/* proc_run.c - the first command of the README, tools/run, on this build's programs: does it do the main job,
 * do its numbers add up, does it leave nothing behind? */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "../kit/t_proc.h"

enum { LIMIT_MS = 60000 };

static const char *tool(void)
{
	const char *root = getenv("HC_SOURCE_ROOT");
	static char path[512];

	if (!root)
		SKIP("HC_SOURCE_ROOT is not set");
	(void)snprintf(path, sizeof path, "%s/tools/run", root);
	return path;
}

/* tools/run with places of its own; `more` ends with NULL.  Without a configuration, as a user does it,
 * but for the keys of T_CONFIG. */
static struct t_proc *start(const char *const *more)
{
	static char runtime[512], home[512];
	const char *argv[16] = {tool(), "--bin", getenv("HC_BINDIR")};
	const char *const env[] = {runtime, home, NULL};
	int n = 3;

	(void)t_bin("hypercached"); /* skips where there is no build */
	(void)snprintf(runtime, sizeof runtime, "XDG_RUNTIME_DIR=%s", t_dir());
	(void)snprintf(home, sizeof home, "HOME=%s", t_dir());
	for (int i = 0; more[i]; i++)
		argv[n++] = more[i];
	if (getenv("T_CONFIG")) {
		FILE *f = fopen(t_path("c.yaml"), "we");
		CHECK(f != NULL);
		fprintf(f, "socket: %s\n", t_path("s"));
		fprintf(f, "data_dir: %s\n", t_path("data"));
		t_config_write(f, NULL);
		CHECK_EQ(fclose(f), 0);
		argv[n++] = "--config";
		argv[n++] = t_path("c.yaml");
	}
	return t_spawn(argv, &(struct t_spawn_opts){.env = env});
}

/* The number behind `label`, thousands separated by commas. */
static unsigned long long number(const char *text, const char *label)
{
	const char *at = strstr(text, label);
	unsigned long long n = 0;

	if (!at)
		t_fail(__FILE__, __LINE__, "no \"%s\" in: %s", label, text);
	at += strlen(label);
	at += strspn(at, " ");
	CHECK(*at >= '0' && *at <= '9');
	for (; (*at >= '0' && *at <= '9') || *at == ','; at++)
		if (*at != ',')
			n = n * 10 + (unsigned long long)(*at - '0');
	return n;
}

TEST_LIMIT(once_does_the_main_job_and_ends, 120)
{
	struct t_proc *p = start(
		(const char *[]){"--once", "--seconds", "2", "--processes", "2", NULL});
	unsigned long long reads, entries;

	if (access("/var/lib/dpkg/status", R_OK) != 0)
		SKIP("there are no package records on this machine");
	CHECK_EQ(t_proc_exit(p, LIMIT_MS), 0);
	reads = number(p->out.text, "  all  ");
	entries = number(p->out.text, "  entries  ");
	CHECK(reads > 1000);
	CHECK(entries > 100);
	CHECK_EQ(number(p->out.text, "  wrong bytes  "), 0);
	CHECK_EQ(number(p->out.text, "  1  ") + number(p->out.text, "  2  "), reads);
	t_proc_free(p);
}

TEST(wrong_options_are_named)
{
	struct t_proc *p = start((const char *[]){"--frobnicate", NULL});

	CHECK_EQ(t_proc_exit(p, LIMIT_MS), 2);
	CHECK(strstr(p->err.text, "frobnicate"));
	t_proc_free(p);
}

TEST(a_source_that_is_not_there_is_named)
{
	struct t_proc *p = t_spawn((const char *[]){t_bin("libclient/example_dpkg_reader"),
					   "--source", t_path("none"), NULL},
		NULL);

	CHECK(t_proc_exit(p, LIMIT_MS) != 0);
	CHECK(strstr(p->err.text, "none"));
	t_proc_free(p);
}
