/* archive_file.h - a file that is there whole, or not at all.
 *
 *   archive_file_begin    memory of the file system without a name (O_TMPFILE; else a name with .tmp behind it)
 *   ... write to fd ...
 *   archive_file_commit   synced, named, the folder synced: what stood under the name before is replaced in one step
 *   archive_file_end      closes; what was not committed is gone
 *
 * Killed at any moment it leaves the former file, or none; where O_TMPFILE is not to be had, or between the last two steps,
 * perhaps a NAME.tmp-N, which nothing looks at.
 */
#ifndef HC_DAEMON_ARCHIVE_FILE_H
#define HC_DAEMON_ARCHIVE_FILE_H

#include <stdbool.h>

enum { ARCHIVE_FILE_NAME_BYTES = 256 };

struct archive_file {
	int folder, fd; /* the folder is this struct's own descriptor */
	bool named;     /* `temporary` is in the folder */
	char name[ARCHIVE_FILE_NAME_BYTES], temporary[ARCHIVE_FILE_NAME_BYTES];
};

/* In the folder at descriptor `folder` (AT_FDCWD: name is a path, as open(2) takes it).  mode: 0600 is usual.  0; -errno;
 * -ENAMETOOLONG, -EISDIR.  archive_file_end() is due only after 0. */
int archive_file_begin(struct archive_file *f, int folder, const char *name, unsigned mode);
/* 0 or -errno: then it is not there under its name, or (a sync that failed) may not be after a power cut. */
int archive_file_commit(struct archive_file *f);
void archive_file_end(struct archive_file *f);

#endif
