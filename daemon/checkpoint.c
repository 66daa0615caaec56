/* checkpoint.c - checkpoints as files of the data folder: see checkpoint.h. */
#include "checkpoint.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "archive/archive.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "step.h"

#define NAME_HEAD "checkpoint-"
#define NAME_TAIL ".hca"

enum { LSN_DIGITS = 16 };

/* The LSN that a name says.  False: it is no checkpoint's. */
static bool name_parse(const char *name, uint64_t *ret)
{
	const char *digits = name + strlen(NAME_HEAD);

	if (strncmp(name, NAME_HEAD, strlen(NAME_HEAD)) != 0 ||
		strspn(digits, "0123456789abcdef") != LSN_DIGITS ||
		strcmp(digits + LSN_DIGITS, NAME_TAIL) != 0)
		return false;
	*ret = strtoull(digits, NULL, 16);
	return true;
}

static void name_make(uint64_t begin_lsn, char to[CHECKPOINT_NAME_BYTES])
{
	(void)snprintf(
		to, CHECKPOINT_NAME_BYTES, NAME_HEAD "%0*" PRIx64 NAME_TAIL, LSN_DIGITS, begin_lsn);
}

static int newest_first(const void *a, const void *b)
{
	const struct checkpoint_file *x = a, *y = b;

	return x->begin_lsn < y->begin_lsn ? 1 : x->begin_lsn > y->begin_lsn ? -1 : 0;
}

/* The folder, to be read from its beginning.  NULL and errno. */
static DIR *folder_read(int folder)
{
	int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d && fd >= 0)
		(void)close(fd);
	return d;
}

int checkpoint_list(int folder, struct checkpoint_file *to, uint32_t max)
{
	DIR *d = folder_read(folder);
	const struct dirent *entry;
	struct stat st;
	uint32_t n = 0;

	if (!d)
		return err_new(-errno);
	while (n < max && (entry = readdir(d))) {
		struct checkpoint_file *f = &to[n];
		if (!name_parse(entry->d_name, &f->begin_lsn) ||
			fstatat(folder, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
			!S_ISREG(st.st_mode))
			continue;
		name_make(f->begin_lsn, f->name);
		f->bytes = (uint64_t)st.st_size;
		n++;
	}
	(void)closedir(d);
	qsort(to, n, sizeof *to, newest_first);
	return (int)n;
}

static int prune(int folder)
{
	struct checkpoint_file files[CHECKPOINT_MAX];
	int n = checkpoint_list(folder, files, CHECKPOINT_MAX);

	if (n < 0)
		return err_fwd(n);
	for (int i = CHECKPOINT_KEPT; i < n && !MUTANT(726); i++) /* 726: none is ever removed */
		if (unlinkat(folder, files[i].name, 0) < 0)
			return err_new(-errno);
	return 0;
}

/* 0 and its begin_lsn; 1: it is none, why says it. */
static int look(
	int folder, const uint8_t log_id[16], uint64_t *ret_lsn, char why[CHECKPOINT_WHY_BYTES])
{
	_cleanup_close_ int fd = openat(folder, CHECKPOINT_NEW, O_RDONLY | O_CLOEXEC);
	struct archive_head head;
	int r = fd < 0 ? err_new(-errno) : archive_peek(fd, &head, NULL);

	if (r < 0)
		return err_fwd(r);
	*ret_lsn = head.begin_lsn;
	if (r == 0 && head.flags == ARCHIVE_CHECKPOINT && memcmp(head.log_id, log_id, 16) == 0)
		return 0;
	(void)snprintf(why, CHECKPOINT_WHY_BYTES, "%s: %s", CHECKPOINT_NEW,
		r == 0             ? "it is of another log"
		: r == ARCHIVE_CUT ? "it is not finished"
				   : "it is damaged");
	return 1;
}

int checkpoint_commit(int folder, const uint8_t log_id[16], char why[CHECKPOINT_WHY_BYTES])
{
	char name[CHECKPOINT_NAME_BYTES];
	uint64_t lsn = 0;
	int r = look(folder, log_id, &lsn, why);

	if (r)
		return err_fwd(r);
	name_make(lsn, name);
	STEP("checkpoint:looked-at");
	if (renameat(folder, CHECKPOINT_NEW, folder, name) < 0)
		return err_new(-errno);
	STEP("checkpoint:named");
	if (fsync(folder) < 0) /* before the older one goes */
		return err_new(-errno);
	return err_fwd(prune(folder));
}

int64_t checkpoint_needs_from(int folder)
{
	struct checkpoint_file files[CHECKPOINT_MAX];
	int n = checkpoint_list(folder, files, CHECKPOINT_MAX);

	if (n < 0)
		return err_fwd(n);
	return n < CHECKPOINT_KEPT ? 1 : (int64_t)files[CHECKPOINT_KEPT - 1].begin_lsn + 1;
}

void checkpoint_clean(int folder)
{
	DIR *d = folder_read(folder);
	const struct dirent *entry;

	if (!d)
		return;
	while ((entry = readdir(d)))
		if (strncmp(entry->d_name, CHECKPOINT_NEW, strlen(CHECKPOINT_NEW)) == 0)
			(void)unlinkat(folder, entry->d_name, 0); /* and its .tmp- */
	(void)closedir(d);
}
