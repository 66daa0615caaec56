/* upgrade.h - other binaries to upgrade to; included by the tests of it. */
#ifndef HC_TESTS_UPGRADE_H
#define HC_TESTS_UPGRADE_H
#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../kit/t.h"

/* A copy of a built program, as NAME in the test's folder.  Lifetime: the process. */
static const char *other(const char *built, const char *name)
{
	const char *path = t_path(name);
	struct stat st;
	int from = open(t_bin(built), O_RDONLY | O_CLOEXEC);
	int to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	off_t at = 0;

	CHECK(from >= 0 && to >= 0 && fstat(from, &st) == 0);
	while (at < st.st_size)
		CHECK(sendfile(to, from, &at, (size_t)(st.st_size - at)) > 0);
	CHECK(fchmod(to, 0755) == 0 && close(to) == 0 && close(from) == 0);
	return path;
}

#endif
