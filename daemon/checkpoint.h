/* checkpoint.h - checkpoints in the data folder: their names, and the process that writes them.
 *
 *   checkpoint-LSN.hca   a good one: checkpoint_commit alone gives this name (LSN: its begin_lsn, 16 hexadecimal digits)
 *   checkpoint.new       whole and synced by the process; not good yet
 *
 * The process is `hypercached`, executed with CHECKPOINT_WORD by the supervisor (sup_checkpoint.c).  It is a client like any other: it connects
 * to the socket, scans the stores through the read-only mapping, a page at a time, pinning what it copies, and writes
 * an archive (archive/archive.h) under no name.  It is nice, waits for the disk alone, and dies with the supervisor.  Killed at any
 * moment it leaves nothing that counts.
 *
 *   before   the engine has looked at all checksums (no pool is `unverified`): what it scribbled is not to be kept
 *   begin    begin_lsn = the control segment's LSN, less one: that one may be taken and not yet published
 *   scan     every key that is there throughout is in it (rule P9), at whatever version it had when it was met
 *   end      end_lsn = the largest version met
 *   after    the log is durable up to end_lsn (rule P25), and up to whatever delete made the scan miss an entry: then, and
 *            only then, the caller commits
 *   replay   from begin_lsn + 1
 */
#ifndef HC_DAEMON_CHECKPOINT_H
#define HC_DAEMON_CHECKPOINT_H

#include <stddef.h>
#include <stdint.h>

#define CHECKPOINT_WORD "--checkpoint-writer" /* of hypercached; in no help */
#define CHECKPOINT_NEW "checkpoint.new"
#define CHECKPOINT_KEPT 2

enum { CHECKPOINT_NAME_BYTES = 64, CHECKPOINT_WHY_BYTES = 256, CHECKPOINT_MAX = 64 };

/* ------------------------------------------------------------ the process: checkpoint_main.c */

/* What it writes to RESULT_FD when the file is whole, synced and named; nothing else.  The reader is the same binary. */
struct checkpoint_result {
	uint64_t begin_lsn, end_lsn, n_entries, bytes, took_ns;
};

/* Arguments behind CHECKPOINT_WORD, all words, in this order:
 *   SOCKET      path of the clients' socket
 *   FOLDER_FD   number of an inherited descriptor of the data folder
 *   RESULT_FD   of a pipe's writing end
 *   LOG_ID      32 hexadecimal digits
 *   NAME:ID:AS ... the stores that are to be in it, each with its id in this daemon, and the id that it has in the log and so in
 *               the archive, both decimal.  One that is gone meanwhile, or whose name another store has now, is left out
 * argv as of main().  Exit status 0: the result was written; 1: why is on standard error, one line. */
int checkpoint_main(int argc, char **argv);

/* ------------------------------------------------------------ the files: checkpoint.c */

struct checkpoint_file {
	char name[CHECKPOINT_NAME_BYTES];
	uint64_t begin_lsn, bytes;
};

/* Those of the folder, newest first, at most max (CHECKPOINT_MAX is enough); a good one may have been damaged since.  How many;
 * -errno. */
int checkpoint_list(int folder, struct checkpoint_file *to, uint32_t max);

/* Makes checkpoint.new a good one, syncs the folder, removes all but the CHECKPOINT_KEPT newest.  Its header, log and end are
 * looked at first, which takes two reads.  0; 1: it is none of this log, why says it; -errno: nothing, or not the whole of it, was done. */
int checkpoint_commit(int folder, const uint8_t log_id[16], char why[CHECKPOINT_WHY_BYTES]);

/* The log is needed from this LSN on: above the begin_lsn of the oldest of CHECKPOINT_KEPT good ones; 1: from the
 * beginning, there are fewer.  -errno below 0. */
int64_t checkpoint_needs_from(int folder);

/* Removes what an interrupted one left.  Nobody may be writing one. */
void checkpoint_clean(int folder);

#endif
