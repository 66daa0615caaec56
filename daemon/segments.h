/* segments.h - the files of the log in their folder, for supervisor and engine.
 *
 * Errors: -errno, nothing is logged.  Threads: one.
 */
#ifndef HC_DAEMON_SEGMENTS_H
#define HC_DAEMON_SEGMENTS_H

#include <stdint.h>

enum { SEGMENTS_MAX = 65536 };

/* The numbers of all that are there, ascending, in *ret (heap).  How many, at most SEGMENTS_MAX; -errno. */
int segments_read(int folder, uint64_t **ret);
/* One of them; O_DIRECT in flags counts where the file system has it.  Descriptor or -errno. */
int segments_open(int folder, uint64_t number, int flags);

#endif
