/* sup_folder.c - folders: the one of the data with its lock, and those of sockets. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/err.h"
#include "log.h"
#include "step.h"
#include "sup.h"

enum { LOCK_TRIES = 40, LOCK_NS = 5000000 };

/* Creates a folder and those above it; one that exists is left as it is. */
static int folder_make(const char *path, mode_t mode)
{
	char part[CONFIG_TEXT_BYTES];
	mode_t parents = geteuid() == 0 ? 0755 : 0700;

	(void)snprintf(part, sizeof part, "%s", path);
	for (char *at = strchr(part + 1, '/'); at; at = strchr(at + 1, '/')) {
		*at = 0;
		int r = mkdir(part, parents) == 0 || errno == EEXIST ? 0 : -errno;
		if (r < 0)
			return log_fail(err_new(r),
				"cannot create the folder %s: name another in the configuration",
				part);
		*at = '/';
	}
	if (mkdir(part, mode) == 0 || errno == EEXIST)
		return 0;
	return log_fail(err_new(-errno),
		"cannot create the folder %s: name another in the configuration", part);
}

/* Nobody but us and root may replace what lies in the folder. */
static int folder_check(const char *path)
{
	struct stat st;

	if (stat(path, &st) != 0)
		return log_fail(err_new(-errno), "cannot look at the folder %s", path);
	if (!S_ISDIR(st.st_mode))
		return log_fail(err_new(-ENOTDIR), "%s is in the way of a folder", path);
	if (st.st_uid != geteuid() && st.st_uid != 0)
		return log_fail(err_new(-EPERM),
			"the folder %s belongs to user %u, who could replace what is in it: name "
			"another in the configuration",
			path, st.st_uid);
	if ((st.st_mode & 022) && !(st.st_mode & S_ISVTX))
		return log_fail(err_new(-EPERM),
			"others may write to the folder %s: run `chmod go-w %s`, or name another "
			"in "
			"the configuration",
			path, path);
	return 0;
}

void sup_folder_of(const char *path, char ret_dir[CONFIG_TEXT_BYTES])
{
	(void)snprintf(ret_dir, CONFIG_TEXT_BYTES, "%s", path);
	char *slash = strrchr(ret_dir, '/');
	if (!slash)
		(void)snprintf(ret_dir, CONFIG_TEXT_BYTES, ".");
	else
		slash[slash == ret_dir] = 0; /* that of /s is / */
}

int sup_folder_socket(const char *socket_path)
{
	char dir[CONFIG_TEXT_BYTES];
	int r;

	sup_folder_of(socket_path, dir);
	r = folder_make(dir, geteuid() == 0 ? 0755 : 0700);
	return r < 0 ? err_fwd(r) : err_fwd(folder_check(dir));
}

int sup_folder_images(const char *dir)
{
	int r = folder_make(dir, 0700);

	if (r == 0)
		r = folder_check(dir);
	if (r < 0)
		return err_fwd(r);
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd >= 0 ? fd : err_new(-errno);
}

/* A child of a supervisor that was just killed may hold it for a moment more.  0, or -1 and errno. */
static int lock(int fd)
{
	const struct timespec pause = {.tv_nsec = LOCK_NS};

	for (int i = 0; i < LOCK_TRIES; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK)
			return -1;
		(void)nanosleep(&pause, NULL);
	}
	return -1;
}

int sup_folder_lock(const char *dir)
{
	char path[CONFIG_TEXT_BYTES + 8], pid[24] = "";
	_cleanup_close_ int fd = -1;
	int r;

	r = folder_make(dir, 0700);
	if (r == 0)
		r = folder_check(dir);
	if (r < 0)
		return err_fwd(r);
	(void)snprintf(path, sizeof path, "%s/lock", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return log_fail(err_new(-errno), "cannot open %s: is data_dir right?", path);
	if (lock(fd) != 0 && !MUTANT(79)) { /* 79: two in one folder */
		r = err_new(errno == EWOULDBLOCK ? -EBUSY : -errno);
		if (pread(fd, pid, sizeof pid - 1, 0) <= 0)
			(void)snprintf(pid, sizeof pid, "unknown");
		pid[strcspn(pid, "\n")] = 0;
		return log_fail(r,
			"the folder %s is in use by the hypercached with pid %s: stop that one, or "
			"give this one another data_dir",
			dir, pid);
	}
	int n = snprintf(pid, sizeof pid, "%d\n", getpid());
	if (ftruncate(fd, 0) != 0 || pwrite(fd, pid, (size_t)n, 0) != n)
		return log_fail(err_new(-EIO), "cannot write to %s: is the disk full?", path);
	return steal_fd(fd);
}
