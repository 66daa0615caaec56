/* sup_socket.c - sockets at paths.
 *
 * The path of a dead daemon's socket is removed, that of a living one never:
 * connect() tells them apart.  An engine whose supervisor has just died still holds
 * the listening socket for the moment that it takes to end, so a connection that
 * succeeds is watched for its hang-up.  Two daemons that start at the same instant
 * with different data folders are kept apart by a lock on the socket's folder.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/err.h"
#include "log.h"
#include "step.h"
#include "sup.h"

enum {
	BACKLOG = 512,
	FOLDER_TRIES = 100, /* for the folder's lock, FOLDER_WAIT_MS each */
	FOLDER_WAIT_MS = 20,
	HANGUP_TRIES = 8, /* connections to a socket that hangs up, each of at most HANGUP_MS */
	HANGUP_MS = 1000,
};

static int address_make(struct sockaddr_un *a, const char *path)
{
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof a->sun_path)
		return log_fail(err_new(-ENAMETOOLONG),
			"the path %s is too long for a socket (107 bytes)", path);
	memcpy(a->sun_path, path, strlen(path));
	return 0;
}

/* Takes the lock of the folder that `path` is in; the descriptor holds it. */
static int folder_lock(const char *path)
{
	char dir[CONFIG_TEXT_BYTES];

	sup_folder_of(path, dir);
	_cleanup_close_ int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return log_fail(err_new(-errno), "cannot open the folder %s", dir);
	for (int i = 0; i < FOLDER_TRIES; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return steal_fd(fd);
		(void)poll(NULL, 0, FOLDER_WAIT_MS);
	}
	return log_fail(err_new(-EBUSY), "the folder %s stays locked by another program", dir);
}

enum { PATH_FREE = 0, PATH_STALE = 1, PATH_LIVES = 2 };

/* One look at what lies at the path; PATH_LIVES after HANGUP_MS without a hang-up. */
static int path_probe(const struct sockaddr_un *a, int type)
{
	_cleanup_close_ int fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return err_new(-errno);
	for (int i = 0; i < HANGUP_TRIES; i++) {
		if (connect(fd, (const struct sockaddr *)a, sizeof *a) == 0) {
			struct pollfd p = {.fd = fd, .events = POLLRDHUP};
			if (poll(&p, 1, HANGUP_MS) == 0)
				return PATH_LIVES;
			cleanup_closep_(&fd);
			fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
			if (fd < 0)
				return err_new(-errno);
			continue;
		}
		switch (errno) {
		case ENOENT:
			return PATH_FREE;
		case ECONNREFUSED:
			return PATH_STALE;
		case EPROTOTYPE: /* a socket of another type: somebody else's */
		case EAGAIN:     /* its queue is full: somebody is there */
			return PATH_LIVES;
		default:
			return err_new(-errno);
		}
	}
	return PATH_LIVES;
}

static int path_clear(const struct sockaddr_un *a, int type)
{
	const char *path = a->sun_path;
	struct stat st;

	if (lstat(path, &st) != 0)
		return errno == ENOENT ? 0 : log_fail(err_new(-errno), "cannot look at %s", path);
	if (!S_ISSOCK(st.st_mode))
		return log_fail(err_new(-EEXIST),
			"%s is in the way and is no socket: remove it, or name another socket",
			path);
	int r = path_probe(a, type);
	if (r < 0)
		return log_fail(r, "cannot find out whether %s is in use", path);
	if (r == PATH_LIVES && !MUTANT(77)) /* 77: a living one's is taken away */
		return log_fail(err_new(-EADDRINUSE),
			"another program answers at %s: stop it, or give this one another socket",
			path);
	if (r != PATH_FREE) {
		if (unlink(path) != 0 && errno != ENOENT)
			return log_fail(err_new(-errno), "cannot remove the dead socket %s", path);
		log_info("removed %s, which a dead daemon had left", path);
	}
	return 0;
}

int sup_socket_open(struct sup_socket *s, const char *path, int type, unsigned mode)
{
	_cleanup_close_ int fd = -1, lock = -1;
	struct sockaddr_un a;
	struct stat st;
	int r;

	r = address_make(&a, path);
	if (r < 0)
		return err_fwd(r);
	lock = folder_lock(path);
	if (lock < 0)
		return err_fwd(lock);
	r = path_clear(&a, type);
	if (r < 0)
		return err_fwd(r);
	fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return log_fail(err_new(-errno), "cannot make a socket");
	mode_t was = umask(0777 & ~mode);
	r = bind(fd, (const struct sockaddr *)&a, sizeof a) == 0 ? 0 : err_new(-errno);
	(void)umask(was);
	if (r == 0 && (listen(fd, BACKLOG) != 0 || stat(path, &st) != 0))
		r = err_new(-errno);
	if (r < 0)
		return log_fail(r, "cannot listen at %s: name another socket", path);
	*s = (struct sup_socket){.fd = steal_fd(fd), .dev = st.st_dev, .ino = st.st_ino};
	(void)snprintf(s->path, sizeof s->path, "%s", path);
	return 0;
}

void sup_socket_close(struct sup_socket *s)
{
	struct stat st;

	if (s->fd < 0)
		return;
	if (lstat(s->path, &st) == 0 && st.st_dev == s->dev && st.st_ino == s->ino)
		(void)unlink(s->path);
	cleanup_closep_(&s->fd);
	s->fd = -1;
}
