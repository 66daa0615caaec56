/* eng_log.h - what eng_log.c and eng_recover.c share. */
#ifndef HC_DAEMON_ENG_LOG_H
#define HC_DAEMON_ENG_LOG_H

#include "eng.h"
#include "wal/wal.h"

enum { ENG_LOG_AGES = 128 };

/* Records up to lsn, of which the first came at ns. */
struct eng_log_age {
	uint64_t lsn, ns;
};

struct eng_log {
	struct shm_wlog hook; /* first: what shm_req.log points to */
	struct eng *e;
	struct wal *w;
	struct wal_io *io;
	struct wal_opts opts;
	uint64_t wall_off_ns;    /* CLOCK_REALTIME less CLOCK_MONOTONIC, as of the last tick */
	uint64_t admitted_bytes; /* key and value of the record that comes next, at most */
	bool sync;               /* its answer waits */
	bool failed;             /* poisoned */
	bool no_segment;         /* something waits for one */
	bool stalled, resume;    /* connections are held; they may go on */
	uint32_t wanted;         /* segments that the supervisor knows of */
	int why_none;            /* -errno: why it has none; 0: it makes one */
	uint64_t mend_ns;        /* the next attempt after a failure */
	uint32_t n_ages;
	struct eng_log_age age[ENG_LOG_AGES]; /* ascending in both */
};

/* Fills in everything but io. */
void eng_log_init(struct eng *e, struct eng_log *l, void *stage, uint64_t stage_bytes);

#endif
