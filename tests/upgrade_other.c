/* upgrade_other.c - a hypercached that fails as its file is called: a binary that proc_upgrade upgrades to.
 *
 *   check-exit, check-crash, check-hang   when it is tried
 *   engine-crash                          as an engine
 *   anything else                         not at all
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#undef main
int hypercached_main(int argc, char **argv);
int main(int argc, char **argv)
{
	char path[4096] = "";
	const char *is = "", *name;

	if (readlink("/proc/self/exe", path, sizeof path - 1) < 0)
		return 1;
	name = strrchr(path, '/') + 1;
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "--check-upgrade") == 0 || strcmp(argv[i], "--engine") == 0)
			is = argv[i] + 2;
	if (strncmp(is, "check", 5) == 0 && strcmp(name, "check-exit") == 0)
		return 9;
	if (strncmp(is, "check", 5) == 0 && strcmp(name, "check-crash") == 0)
		abort();
	while (strncmp(is, "check", 5) == 0 && strcmp(name, "check-hang") == 0)
		(void)pause();
	if (strcmp(is, "engine") == 0 && strcmp(name, "engine-crash") == 0)
		abort();
	return hypercached_main(argc, argv);
}
