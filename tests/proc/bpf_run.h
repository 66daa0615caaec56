/* bpf_run.h - a tool of tools/bpf beside known traffic; included by the tests of them. */
#ifndef HC_TESTS_BPF_RUN_H
#define HC_TESTS_BPF_RUN_H
#include "traffic.h"

enum { READY_MS = 20000, TOOL_ARGS = 20 };

/* Starts a tool on this test's own file, which clients are forked from, and waits until it hears.  more ends with
 * NULL.  The test is skipped where BPF is forbidden or the tool was not built. */
static struct t_proc *tool_start(
	const struct t_daemon *d, const char *name, const char *const *more)
{
	char path[256];
	const char *argv[TOOL_ARGS] = {
		path, "--socket", d->socket, "--admin", d->admin, "--json", "--interval", "0.2"};
	char *out, *err;
	int n = 8;

	(void)snprintf(path, sizeof path, "%s/tools/bpf/%s", getenv("HC_BINDIR"), name);
	if (access(path, X_OK) != 0)
		SKIP("built without the tools on the probes");
	for (int i = 0; more[i] && n < TOOL_ARGS - 3; i++)
		argv[n++] = more[i];
	argv[n] = "--duration";
	argv[n + 1] = "0.1";
	int status = t_run(argv, NULL, 0, &out, NULL, &err, READY_MS);
	if (status == 3 || status == 4) {
		fprintf(stderr, "%s", err);
		SKIP("this machine forbids BPF, or its kernel lacks it");
	}
	CHECK_EQ(status, 0);
	free(out);
	free(err);
	argv[n] = NULL;
	struct t_proc *p = t_spawn(argv, NULL);
	free(t_proc_line(p, ": ready", READY_MS));
	return p;
}

/* The own file of this test: its clients have the library in it. */
__attribute__((unused)) static const char *own_file(void)
{
	static char path[256];
	ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);

	CHECK(n > 0);
	return path;
}

/* Ends it as a user would; its exit status must be 0, and nothing lost. */
static void tool_end(struct t_proc *p)
{
	t_proc_signal(p, SIGINT);
	CHECK_EQ(t_proc_exit(p, READY_MS), 0);
	if (!strstr(p->out.text, "\"lost\":0"))
		t_fail(__FILE__, __LINE__, "events were lost: %s", p->out.text);
}

/* The sum of all "name": N in lines of JSON that hold `with`. */
__attribute__((unused)) static uint64_t json_sum(
	const char *text, const char *with, const char *name)
{
	uint64_t sum = 0;
	char want[64];

	(void)snprintf(want, sizeof want, "\"%s\":", name);
	while (*text) {
		size_t n = strcspn(text, "\n");
		const char *w = memmem(text, n, with, strlen(with));
		const char *at = w ? memmem(text, n, want, strlen(want)) : NULL;
		if (at)
			sum += strtoull(at + strlen(want), NULL, 10);
		text += n + (text[n] == '\n');
	}
	return sum;
}

#endif
