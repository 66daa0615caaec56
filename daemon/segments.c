/* segments.c - see segments.h. */
#include "segments.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/err.h"
#include "wal/wal_read.h"

static int insert(uint64_t **at, int n, uint64_t number)
{
	uint64_t *more = n % 64 ? *at : realloc(*at, (size_t)(n + 64) * sizeof **at);
	int i = n;

	if (!more)
		return err_new(-ENOMEM);
	*at = more;
	for (; i > 0 && more[i - 1] > number; i--)
		more[i] = more[i - 1];
	more[i] = number;
	return n + 1;
}

int segments_read(int folder, uint64_t **ret)
{
	_cleanup_free_ uint64_t *at = NULL;
	int n = 0, fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *e;
	uint64_t number;

	if (!d) {
		int r = err_new(-errno);
		if (fd >= 0)
			(void)close(fd);
		return r;
	}
	while (n >= 0 && n < SEGMENTS_MAX && (e = readdir(d)))
		if (wal_name_parse(e->d_name, &number))
			n = insert(&at, n, number);
	(void)closedir(d);
	if (n >= 0)
		*ret = steal_ptr(at);
	return n;
}

int segments_open(int folder, uint64_t number, int flags)
{
	char name[WAL_NAME_BYTES];

	wal_name_format(name, number);
	int fd = openat(folder, name, flags | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 && errno == EINVAL)
		fd = openat(folder, name, (flags & ~O_DIRECT) | O_CLOEXEC | O_NOFOLLOW);
	return fd >= 0 ? fd : err_new(-errno);
}
