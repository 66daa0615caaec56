/* config_modules.c - policy_modules: which policies come from shared objects, and whether they can be had. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "config_value.h"
#include "pol_module.h"
#include "../shm/base/cleanup.h"
#include "../shm/base/err.h"
#include "../shm/step.h"

enum {
	TRY_MS = 10000,       /* a module that takes longer to load is refused */
	TRY_KILLED_MS = 2000, /* and is waited for no longer than so */
	TRY_FD = 3,           /* in the child: what it says */
};

/* The next path of the list: its length; 0: there is none. */
static size_t path_next(const char **at)
{
	*at += strspn(*at, ", ");
	return strcmp(*at, "none") == 0 ? 0 : strcspn(*at, ",");
}

int config_modules_check(const struct config *c, struct config_fault *ret)
{
	const char *at = c->policy_modules;
	char name[POL_NAME_BYTES];
	int count = 0;

	for (size_t n; (n = path_next(&at)) > 0; at += n) {
		if (!pol_module_name(at, n, name))
			return config_fault_set(ret, CONFIG_KEY_policy_modules, 0,
				"\"%.*s\" is no shared object; use /PATH/NAME.so, with a name of "
				"a-z 0-9 _ -",
				(int)n, at);
		if (++count > POL_MODULES_MAX)
			return config_fault_set(ret, CONFIG_KEY_policy_modules, 0,
				"there are too many; use at most %d", POL_MODULES_MAX);
	}
	return 0;
}

bool config_modules_name(const struct config *c, int k, char ret[POL_NAME_BYTES])
{
	const char *at = c->policy_modules;
	size_t n;

	while ((n = path_next(&at)) > 0 && k-- > 0)
		at += n;
	return n > 0 && k < 0 && pol_module_name(at, n, ret);
}

bool config_modules_have(const struct config *c, const char *policy)
{
	char name[POL_NAME_BYTES];
	bool have = false;

	for (int k = 0; k < POL_MODULES_MAX && config_modules_name(c, k, name); k++)
		have |= strcmp(name, policy) == 0;
	return have;
}

int config_modules_load(const struct config *c, char *ret_err, size_t err_bytes)
{
	const char *at = c->policy_modules;
	char path[CONFIG_TEXT_BYTES], why[POL_MODULE_WHY_BYTES];

	for (size_t n; (n = path_next(&at)) > 0; at += n) {
		(void)snprintf(path, sizeof path, "%.*s", (int)n, at);
		if (pol_module_load(path, why) < 0) {
			(void)snprintf(ret_err, err_bytes, "policy_modules: %s: %s", path, why);
			return err_new(-EINVAL);
		}
	}
	return 0;
}

/* In the child: one line to `fd` if something is wrong.  What somebody else has written gets nothing of ours
 * but that pipe and standard error, and does not outlive us. */
static _Noreturn void try_all(const struct config *c, int fd, pid_t parent)
{
	char err[CONFIG_ERROR_BYTES] = "";
	struct config_fault f;

	(void)setpgid(0, 0); /* what it forks goes with it */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent || dup2(fd, TRY_FD) < 0 ||
		(!MUTANT(772) && close_range(TRY_FD + 1, ~0u, 0) != 0)) /* 772: it has all */
		_exit(1);
	fd = TRY_FD;
	if (config_modules_load(c, err, sizeof err) == 0)
		for (uint32_t i = 0; i < c->n_stores && !*err; i++)
			if (config_params_check(c, i, &f))
				(void)snprintf(err, sizeof err, "stores.%s.%s%s%s: %s",
					c->store[i].name, f.key->name, f.param < 0 ? "" : ".",
					f.param < 0 ? ""
						    : c->store[i].policy_params.of[f.param].name,
					f.why);
	if (*err && write(fd, err, strlen(err)) < 0)
		_exit(1);
	_exit(*err ? 1 : 0);
}

static int64_t mono_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Waits for the child's end, TRY_MS at most, then for that of a killed one.  True: *ret is its status.  Not for the end
 * of the pipe: who forked meanwhile, or closed it, decides when that is. */
static bool try_wait(pid_t pid, int *ret)
{
	_cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	int64_t end_ms = mono_ms() + TRY_MS, left;

	while (pidfd >= 0 && (left = end_ms - mono_ms()) > 0 && poll(&p, 1, (int)left) <= 0)
		;         /* a signal */
	if (!MUTANT(773)) /* 773: what it has forked stays */
		(void)kill(-pid, SIGKILL);
	(void)kill(pid, SIGKILL);
	for (int i = 0; i < TRY_KILLED_MS; i++) {
		if (waitpid(pid, ret, WNOHANG) == pid)
			return true;
		(void)poll(&p, 1, 1);
	}
	return false; /* the kernel does not let it go: left as it is */
}

int config_modules_try(const struct config *c, char *ret_err, size_t err_bytes)
{
	_cleanup_close_ int in = -1, out = -1;
	int pair[2], status = 0;
	pid_t parent = getpid();

	if (strcmp(c->policy_modules, "none") == 0)
		return 0;
	if (pipe2(pair, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_new(-errno);
	in = pair[0];
	out = pair[1];
	pid_t pid = fork();
	if (pid < 0)
		return err_new(-errno);
	if (pid == 0)
		try_all(c, out, parent);
	bool ended = try_wait(pid, &status);
	ssize_t n = read(in, ret_err, err_bytes - 1); /* one line of less than a pipe holds */
	ret_err[n > 0 ? n : 0] = '\0';
	if (ended && WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (n <= 0)
		(void)snprintf(ret_err, err_bytes,
			"policy_modules: %s ends the process that loads it; use other ones",
			c->policy_modules);
	return err_new(-EINVAL);
}
