/* eng_load.h - a checkpoint goes into the pools, before the engine serves (eng_apply.h).
 *
 * Into eng_apply_begin() .. eng_apply_end(); what follows is the log from ret_head->begin_lsn + 1 on.
 */
#ifndef HC_DAEMON_ENG_LOAD_H
#define HC_DAEMON_ENG_LOAD_H

#include "archive/archive.h"
#include "eng_apply.h"

enum { ENG_LOAD_WHY_BYTES = 256 };

struct eng_load {
	/* Which of the daemon's stores is meant by one of the archive's: its id; 0: none, its entries are left out.  NULL: the one of the same
	 * id. */
	uint64_t (*resolve)(void *arg, const struct archive_store *store);
	/* Told now and then how many bytes of how many were read: progress, and a sign of life.  NULL: nobody. */
	void (*beat)(void *arg, uint64_t bytes, uint64_t of);
	void *arg;
	const uint8_t *log_id; /* 16 bytes: of another log nothing is loaded.  NULL: any */

	/* Out. */
	char name[64];            /* of the checkpoint; eng_load_newest alone */
	struct archive_head head; /* of what was loaded */
	struct archive_end end;
	uint32_t n_bad;               /* checkpoints that were none, by eng_load_newest */
	char why[ENG_LOAD_WHY_BYTES]; /* of the one that was none last: "NAME: byte 4711, ..." */
};

enum { ENG_LOAD_BAD = 1, ENG_LOAD_NONE = 2 };

/* Every entry of the archive at fd.  0; ENG_LOAD_BAD: it is damaged, cut, or of another log (load->why); what stood before the
 * damage has been applied, and is no harm: whatever of it is not true any more is in the log above an older
 * checkpoint; -errno. */
int eng_load(struct eng *e, int fd, struct eng_load *load, struct eng_applied *to);

/* The newest good checkpoint of the folder; if that is none, the one before it, with a message in the log.  0 and load->name, head,
 * end; ENG_LOAD_NONE: there is none that is good (load->n_bad says how many were bad): the log alone; -errno. */
int eng_load_newest(struct eng *e, int folder, struct eng_load *load, struct eng_applied *to);

#endif
