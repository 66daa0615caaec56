/* config_modules.c - policy_modules: which policies come from shared objects, and whether they can be had. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "config_value.h"
#include "pol_module.h"
#include "../shm/base/cleanup.h"
#include "../shm/base/err.h"

enum { TRY_MS = 10000 }; /* a module that takes longer to load is refused */

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

/* In the child: one line to `fd` if something is wrong. */
static void try_all(const struct config *c, int fd)
{
	char err[CONFIG_ERROR_BYTES] = "";
	struct config_fault f;

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

int config_modules_try(const struct config *c, char *ret_err, size_t err_bytes)
{
	_cleanup_close_ int in = -1, out = -1;
	int pair[2], status = 0;
	size_t n = 0;

	if (strcmp(c->policy_modules, "none") == 0)
		return 0;
	if (pipe2(pair, O_CLOEXEC) < 0)
		return err_new(-errno);
	in = pair[0];
	out = pair[1];
	pid_t pid = fork();
	if (pid < 0)
		return err_new(-errno);
	if (pid == 0)
		try_all(c, out);
	(void)close(out);
	out = -1;
	struct pollfd p = {.fd = in, .events = POLLIN};
	if (poll(&p, 1, TRY_MS) <= 0)
		(void)kill(pid, SIGKILL);
	for (ssize_t got;
		n + 1 < err_bytes && (got = read(in, ret_err + n, err_bytes - 1 - n)) > 0;)
		n += (size_t)got;
	ret_err[n] = '\0';
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (n == 0)
		(void)snprintf(ret_err, err_bytes,
			"policy_modules: %s ends the process that loads it; use other ones",
			c->policy_modules);
	return err_new(-EINVAL);
}
