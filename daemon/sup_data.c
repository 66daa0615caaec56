/* sup_data.c - what makes a folder the data of one log: the file `identity`.
 *
 *   hypercache data 1            the word, and the format of the folder
 *   log 32 HEX DIGITS            random, made once: every file of the log and every checkpoint names it
 *   folder NUMBER                inode of the folder: a copy has another
 *   machine TEXT                 of /etc/machine-id, or "-"
 *   program 0.1.0 x86_64         who wrote it last
 *   state running|stopped
 *   end
 *
 * It is written whole beside the old one, synced and renamed: at the start with `running`, at a good end with `stopped`.
 * So a folder that was copied while a daemon wrote to it is known: its inode is another and it says `running`; its files may be
 * from different moments. The same with another machine's number, where the lock of a shared folder may tell nothing.
 * Nothing here happens to a daemon without durable stores.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/err.h"
#include "hypercache.h"
#include "log.h"
#include "step.h"
#include "sup.h"

enum { FORMAT = 1, TEXT_BYTES = 1024, MACHINE_BYTES = 64 };

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
#define VERSION TEXT(HC_VERSION_MAJOR) "." TEXT(HC_VERSION_MINOR) "." TEXT(HC_VERSION_PATCH)

struct identity {
	uint8_t log[16];
	uint64_t folder;
	char machine[MACHINE_BYTES];
	bool running;
};

bool sup_data_wanted(const struct config *c)
{
	for (uint32_t i = 0; i < c->n_stores; i++)
		if (c->store[i].durability != CONFIG_DURABILITY_NONE)
			return true;
	return false;
}

static void machine_read(char ret[MACHINE_BYTES])
{
	_cleanup_close_ int fd = open("/etc/machine-id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, ret, MACHINE_BYTES - 1) : -1;

	ret[n > 0 ? n : 0] = 0;
	ret[strcspn(ret, " \n")] = 0;
	if (!ret[0])
		(void)strcpy(ret, "-");
}

/* ---------------------------------------------------------------------- text */

static int hex_read(const char *text, uint8_t ret[16])
{
	for (int i = 0; i < 16; i++) {
		unsigned byte;
		if (sscanf(text + 2 * i, "%2x", &byte) != 1)
			return -EBADMSG;
		ret[i] = (uint8_t)byte;
	}
	return 0;
}

/* 0; -EBADMSG: it is none; -EPROTO: of another format, *ret_format. */
static int parse(char *text, struct identity *ret, unsigned *ret_format)
{
	char log[33], state[16];
	unsigned long long folder;
	int end = -1;

	if (sscanf(text, "hypercache data %u\n", ret_format) != 1)
		return err_new(-EBADMSG);
	if (*ret_format != FORMAT)
		return err_new(-EPROTO);
	if (sscanf(text,
		    "hypercache data %*u\nlog %32[0-9a-f]\nfolder %llu\nmachine %63s\n"
		    "program %*[^\n]\nstate %15[a-z]\nend\n%n",
		    log, &folder, ret->machine, state, &end) != 4 ||
		end < 0 || strlen(log) != 32 || hex_read(log, ret->log) < 0)
		return err_new(-EBADMSG);
	ret->folder = folder;
	ret->running = strcmp(state, "running") == 0;
	return 0;
}

static int print(const struct sup_data *d, const char *state, char to[TEXT_BYTES])
{
	char log[33], machine[MACHINE_BYTES];
	struct utsname u = {.machine = "-"};
	struct stat st;

	if (fstat(d->dir, &st) != 0)
		return err_new(-errno);
	(void)uname(&u);
	machine_read(machine);
	for (int i = 0; i < 16; i++)
		(void)snprintf(log + 2 * i, 3, "%02x", d->log[i]);
	return snprintf(to, TEXT_BYTES,
		"hypercache data %d\nlog %s\nfolder %llu\nmachine %s\nprogram %s %s\nstate "
		"%s\nend\n",
		FORMAT, log, (unsigned long long)st.st_ino, machine, VERSION, u.machine, state);
}

/* Whole, or not at all.  0 or -errno. */
static int put(const struct sup_data *d, const char *state)
{
	char text[TEXT_BYTES];
	int n = print(d, state, text);

	if (n < 0)
		return err_fwd(n);
	_cleanup_close_ int fd = openat(d->dir, "identity.new",
		O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_new(-errno);
	ssize_t put = write(fd, text, (size_t)n);
	if (put != n)
		return err_new(put < 0 ? -errno : -ENOSPC);
	if (fsync(fd) != 0)
		return err_new(-errno);
	STEP("sup:identity-written");
	if (renameat(d->dir, "identity.new", d->dir, "identity") != 0 || fsync(d->dir) != 0)
		return err_new(-errno);
	return 0;
}

/* --------------------------------------------------------------------- check */

static int refuse_format(const char *dir, unsigned format)
{
	return log_fail(err_new(-EPROTO),
		"%s/identity: the folder is of format %u, and this program knows %d: start the "
		"hypercached that wrote it, or name another data_dir",
		dir, format, FORMAT);
}

/* Does it say that it is of this folder, on this machine? */
static bool is_here(const struct sup_data *d, const struct identity *was)
{
	char machine[MACHINE_BYTES];
	struct stat st;

	machine_read(machine);
	return fstat(d->dir, &st) == 0 && was->folder == st.st_ino &&
	       strcmp(was->machine, machine) == 0;
}

/* May these files be taken for what the daemon left here?  0 or -errno. */
static int check(const struct sup *sup, const struct identity *was)
{
	const char *dir = sup->config.data_dir;
	char machine[MACHINE_BYTES];
	struct stat st;

	machine_read(machine);
	if (fstat(sup->data.dir, &st) != 0)
		return log_fail(err_new(-errno), "cannot look at the folder %s", dir);
	bool moved = was->folder != st.st_ino, away = strcmp(was->machine, machine) != 0;
	if (!was->running || (!moved && !away) || MUTANT(741)) /* 741: copies are as good */
		return 0;
	if (sup->recover == SUP_RECOVER_COPY) {
		log_warn("%s: %s, and is used because of --recover=copy", dir,
			moved ? "was copied while a daemon wrote to it"
			      : "was in use on another machine");
		return 0;
	}
	return log_fail(err_new(-EUCLEAN),
		"%s %s, so its files may be from different moments: what was acknowledged may be "
		"missing. If no daemon uses the original any more, `hypercached --recover=copy` "
		"takes "
		"it as it is; else stop that daemon and copy again, or name another data_dir",
		dir,
		moved ? "is a copy that was made while its daemon ran"
		      : "was in use by a daemon on another machine that has not ended in order");
}

/* The file as it is.  0; 1: there is none; -errno. */
static int get(const struct sup *sup, struct identity *ret)
{
	const char *dir = sup->config.data_dir;
	char text[TEXT_BYTES + 1];
	unsigned format = 0;
	_cleanup_close_ int fd = openat(
		sup->data.dir, "identity", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0 && errno == ENOENT)
		return 1;
	ssize_t n = fd >= 0 ? read(fd, text, TEXT_BYTES) : -1;
	if (n < 0)
		return log_fail(err_new(-errno), "%s/identity cannot be read", dir);
	text[n] = 0;
	int r = parse(text, ret, &format);
	if (r == -EPROTO)
		return refuse_format(dir, format);
	if (r < 0)
		return log_fail(r,
			"%s/identity makes no sense: put back the one that belongs to the folder, "
			"or "
			"move the "
			"folder away and begin with an empty one",
			dir);
	return 0;
}

/* ---------------------------------------------------------------------- life */

int sup_data_open(struct sup *sup)
{
	struct sup_data *d = &sup->data;
	const char *dir = sup->config.data_dir;
	struct identity was = {.running = false};

	if (!sup_data_wanted(&sup->config))
		return 0;
	d->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d->dir < 0)
		return log_fail(err_new(-errno), "cannot open the folder %s", dir);
	int r = get(sup, &was);
	if (r == 0)
		r = check(sup, &was);
	else if (r == 1)
		r = getrandom(was.log, sizeof was.log, 0) == (ssize_t)sizeof was.log
		            ? 0
		            : log_fail(err_new(-errno), "no random numbers for a log");
	if (r < 0)
		return err_fwd(r);
	memcpy(d->log, was.log, sizeof d->log);
	if (mkdirat(d->dir, "wal", 0700) != 0 && errno != EEXIST)
		r = err_new(-errno);
	if (r == 0) {
		d->wal = openat(d->dir, "wal", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = d->wal < 0 ? err_new(-errno) : 0;
	}
	/* A disk may be full by now, and what says `running` of this folder can stay. */
	if (r == 0 && !(was.running && is_here(d, &was)))
		r = put(d, "running");
	if (r == 0 && faccessat(d->dir, "identity", W_OK, AT_EACCESS) != 0)
		r = err_new(-errno);
	if (r == -EROFS)
		return log_fail(r,
			"%s is on a file system that is mounted read-only, and there are durable "
			"stores: mount it for writing, name another data_dir, or use durability: "
			"none",
			dir);
	if (r == -ENOSPC)
		return log_fail(
			r, "%s is on a full disk, and there are durable stores: make room", dir);
	return r < 0 ? log_fail(r, "the folder %s cannot be written to", dir) : 0;
}

void sup_data_close(struct sup *sup)
{
	struct sup_data *d = &sup->data;

	if (d->dir >= 0 && d->wal >= 0 && sup->status == 0 && put(d, "stopped") < 0)
		log_warn("%s/identity cannot be written: a copy of the folder will not be taken "
			 "for one",
			sup->config.data_dir);
	cleanup_closep_(&d->wal);
	cleanup_closep_(&d->dir);
	d->wal = d->dir = -1;
}
