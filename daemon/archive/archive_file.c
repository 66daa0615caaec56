/* archive_file.c - see archive_file.h. */
#include "archive_file.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/err.h"
#include "step.h"

enum { NAME_TRIES = 100 };

/* The folder of a path, opened, and the name in it. */
static int folder_open(int at, const char *path, const char **ret_name)
{
	char folder[4096];
	const char *slash = strrchr(path, '/');
	size_t n = slash ? (size_t)(slash - path) : 0;

	*ret_name = slash ? slash + 1 : path;
	if (n >= sizeof folder)
		return err_new(-ENAMETOOLONG);
	if (**ret_name == 0)
		return err_new(-EISDIR);
	memcpy(folder, path, n);
	folder[n] = 0;
	int fd = openat(at, n ? folder : slash ? "/" : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? err_new(-errno) : fd;
}

static void temporary_name(struct archive_file *f, int try)
{
	/* The longest name has room for what is put behind it, less what is cut off. */
	(void)snprintf(f->temporary, sizeof f->temporary, "%.*s.tmp-%d-%d",
		(int)sizeof f->temporary - 32, f->name, (int)getpid(), try);
}

static int file_open(struct archive_file *f, unsigned mode)
{
	struct stat st;

	if (fstatat(f->folder, f->name, &st, 0) == 0 && S_ISDIR(st.st_mode))
		return err_new(-EISDIR);
	f->fd = openat(f->folder, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, mode);
	if (f->fd >= 0)
		return 0;
	if (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT && errno != EINVAL)
		return err_new(-errno);
	for (int i = 0; i < NAME_TRIES; i++) {
		temporary_name(f, i);
		f->fd = openat(
			f->folder, f->temporary, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, mode);
		f->named = f->fd >= 0;
		if (f->named || errno != EEXIST)
			return f->named ? 0 : err_new(-errno);
	}
	return err_new(-EEXIST);
}

int archive_file_begin(struct archive_file *f, int folder, const char *path, unsigned mode)
{
	const char *name;

	*f = (struct archive_file){.folder = -1, .fd = -1};
	f->folder = folder_open(folder, path, &name);
	if (f->folder < 0)
		return err_fwd(f->folder);
	int r = strlen(name) < sizeof f->name - 1 ? 0 : err_new(-ENAMETOOLONG);
	if (r == 0) {
		(void)snprintf(f->name, sizeof f->name, "%s", name);
		r = file_open(f, mode);
	}
	if (r < 0)
		archive_file_end(f);
	return err_fwd(r);
}

/* What has no name gets a temporary one: rename(2) alone replaces in one step. */
static int give_name(struct archive_file *f)
{
	char self[64];

	(void)snprintf(self, sizeof self, "/proc/self/fd/%d", f->fd);
	for (int i = 0; i < NAME_TRIES && !f->named; i++) {
		temporary_name(f, i);
		if (linkat(AT_FDCWD, self, f->folder, f->temporary, AT_SYMLINK_FOLLOW) == 0)
			f->named = true;
		else if (errno != EEXIST)
			return err_new(-errno);
	}
	return f->named ? 0 : err_new(-EEXIST);
}

int archive_file_commit(struct archive_file *f)
{
	if (fsync(f->fd) < 0)
		return err_new(-errno);
	STEP("archive:synced");
	int r = give_name(f);
	if (r < 0)
		return err_fwd(r);
	STEP("archive:linked");
	if (renameat(f->folder, f->temporary, f->folder, f->name) < 0)
		return err_new(-errno);
	f->named = false;
	STEP("archive:renamed");
	return fsync(f->folder) < 0 ? err_new(-errno) : 0;
}

void archive_file_end(struct archive_file *f)
{
	if (f->named)
		(void)unlinkat(f->folder, f->temporary, 0);
	f->named = false;
	cleanup_closep_(&f->fd);
	cleanup_closep_(&f->folder);
	f->fd = f->folder = -1;
}
