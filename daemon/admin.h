/* admin.h - what tools ask the supervisor, and what it answers: descriptors, configuration, stores.
 *
 * A SOCK_SEQPACKET socket of the supervisor, which works while the engine hangs or
 * is gone.  It admits by SO_PEERCRED alone: root, the daemon's own user, and those
 * of the key admin_uids.
 *
 *   tool -> supervisor   the packet ADMIN_REQUEST (11 letters and a newline), once
 *   supervisor -> tool   one or more packets of struct admin_answer, descriptors as
 *                        SCM_RIGHTS (fd[i] says what the i-th is), the last one
 *                        flagged; then the supervisor closes
 *
 *   tool -> supervisor   or one struct admin_request
 *   supervisor -> tool   one packet of kind DONE or REFUSED, with one descriptor: a sealed memfd with
 *                        the lines that say what is so or was done; then the supervisor closes (but PROBE)
 *
 * Lines: fields with tabs between them, and a newline; no field holds either.
 *   SHOW             PATH VALUE FROM LINE WHEN      FROM: default, file, option, admin; WHEN: live, start
 *   DIFF, RELOAD     changed PATH WAS IS WHEN, added PATH - - WHEN, removed PATH - - WHEN
 *   STORE_CREATE     added PATH - - live
 *   STORE_DROP       removed PATH - - live
 *   PROBE            note TEXT                      the connection stays, and what was asked holds as long
 *   UPGRADE          only a note, when an engine of the other binary serves: within a minute
 *   CHECKPOINT       entries N, bytes N, begin_lsn N, end_lsn N, segments_removed N: when it counts, within a minute
 *   all of them      note TEXT                      a sentence for people
 *   REFUSED          error TEXT                     why not, in one sentence; nothing was changed
 *
 * Who is admitted may ask for SHOW and DIFF; what changes something is for root and the daemon's
 * own user alone.
 *
 * Who is not admitted gets one packet of kind DENIED and is closed at once, so that
 * it cannot take a place from others; at most ADMIN_CONNECTIONS are served at a time,
 * each for at most ADMIN_LIMIT_MS.
 *
 * Every descriptor is a description of its own, opened read-only: a mapping of it
 * does not keep a session's lock (rule P18), and nothing can be written through it.
 */
#ifndef HC_DAEMON_ADMIN_H
#define HC_DAEMON_ADMIN_H

#include <stdint.h>

#define ADMIN_REQUEST "descriptors\n"
#define ADMIN_MAGIC 0x314d4441u /* "ADM1" */
#define ADMIN_VERSION 1

enum {
	ADMIN_FDS_MAX = 60, /* of one packet */
	ADMIN_CONNECTIONS = 16,
	ADMIN_PROBERS = ADMIN_CONNECTIONS /
	                4, /* of them, with PROBE: the others stay for requests */
	ADMIN_LIMIT_MS = 2000,
	ADMIN_TEXT_BYTES = 160,
	ADMIN_PATH_BYTES = 108,
	ADMIN_RIGHTS_BYTES = 64, /* a longer list is cut */
};

#define ADMIN_ASK_MAGIC 0x31515141u /* "AQQ1" */

enum admin_ask {
	ADMIN_SHOW = 1, /* the running configuration */
	ADMIN_DIFF =
		2, /* what RELOAD would change; with a descriptor, a sealed memfd: with that file */
	ADMIN_RELOAD = 3,
	ADMIN_STORE_CREATE =
		4, /* name; text: the keys, as YAML in one line: { pool: main, ttl: 10m } */
	ADMIN_STORE_DROP = 5,    /* name */
	ADMIN_CLIENT_REVOKE = 6, /* text: the session's id, hexadecimal */
	ADMIN_PAUSE = 7,         /* no changes until RESUME, or for five seconds */
	ADMIN_RESUME = 8,
	ADMIN_RENEW = 9, /* another engine takes the memory over */
	ADMIN_PROBE =
		10, /* text: decimal; one read of so many is told to tracers, until this connection ends */
	ADMIN_UPGRADE =
		11, /* text: another binary's path, absolute; "": that of the one that runs */
	ADMIN_CHECKPOINT = 12, /* of durable stores, now */
};

enum admin_ask_flags { ADMIN_FORCE = 1 /* drop stores that hold entries, too */ };

struct admin_request {
	uint32_t magic;   /* ADMIN_ASK_MAGIC */
	uint16_t version; /* ADMIN_VERSION */
	uint16_t ask;     /* enum admin_ask */
	uint32_t flags;   /* enum admin_ask_flags */
	uint32_t pad0;
	char name[32];   /* of the store, 0-terminated */
	char text[1024]; /* 0-terminated */
};

/* X(name, word, meaning): why something was refused. */
#define ADMIN_REFUSALS(X) \
	X(CONFIG, "config", "the file or the keys are not right") \
	X(NO_FILE, "no-file", "the daemon runs without a configuration file") \
	X(WRITTEN, "being-written", "the file is open for writing, or changed while it was read") \
	X(START, "needs-start", "something would change that takes a new start of the daemon") \
	X(IN_USE, "in-use", "a store that would be dropped holds entries") \
	X(NO_STORE, "no-store", "there is no store of this name") \
	X(EXISTS, "exists", "there is a store of this name") \
	X(FULL, "full", "there are as many stores as can be") \
	X(MEMORY, "memory", "a pool cannot have that size now") \
	X(BUSY, "busy", "another change is under way, or no engine answers") \
	X(DIED, "engine-died", "the engine died before it had taken the change") \
	X(NO_MEMORY, "no-memory", "there is no memory for it") \
	X(UPGRADE, "upgrade", "the other binary cannot take over; the one that runs goes on") \
	X(NO_SESSION, "no-session", "there is no such session") \
	X(DENIED, "denied", "this user may look, but not change anything") \
	X(NO_LOG, "no-log", "no store is durable") \
	X(CHECKPOINT, "checkpoint", \
		"no checkpoint could be written; it is tried again, and the log is as it was")

#define ADMIN_REFUSAL_ENUM_(name, word, meaning) ADMIN_R_##name,
enum admin_refusal { ADMIN_R_NONE, ADMIN_REFUSALS(ADMIN_REFUSAL_ENUM_) ADMIN_R_END };
#undef ADMIN_REFUSAL_ENUM_

enum admin_kind {
	ADMIN_DESCRIPTORS = 1,
	ADMIN_DENIED = 2, /* text says why, and who may */
	ADMIN_BAD = 3,    /* the request was not understood; text says what would be */
	ADMIN_DONE = 4,
	ADMIN_REFUSED = 5, /* refusal says why */
};

enum admin_engine {
	ADMIN_ENGINE_WAITING = 0,  /* none: dead, and the next one is due */
	ADMIN_ENGINE_STARTING = 1, /* runs, and has not said that it serves */
	ADMIN_ENGINE_SERVING = 2,
	ADMIN_ENGINE_STOPPING = 3, /* has been told to end */
};

/* What the i-th descriptor of a packet is. */
struct admin_fd {
	uint32_t kind;   /* enum shm_kind: CONTROL, JOURNAL, POOL or CLIENT */
	uint32_t index;  /* POOL: of the pool; CLIENT: the session's slot */
	uint32_t region; /* POOL: of the region */
	uint32_t uid, gid;
	int32_t pid; /* CLIENT: as the kernel told the daemon; 0: another pid namespace */
	uint64_t id; /* CLIENT: the session's id */
	uint32_t read_pools, write_pools; /* CLIENT: bit i: it may read, change pool i */
	char read[ADMIN_RIGHTS_BYTES];    /* POOL: who may, as in the configuration */
	char write[ADMIN_RIGHTS_BYTES];
};

struct admin_answer {
	uint32_t magic;   /* ADMIN_MAGIC */
	uint16_t version; /* ADMIN_VERSION: equal, or the rest means something else */
	uint16_t kind;    /* enum admin_kind */
	uint32_t n_fds;   /* used in fd[] */
	uint32_t last;    /* 1: no more packets */
	int32_t daemon_pid;
	int32_t engine_pid;            /* 0: none at the moment */
	uint32_t engine;               /* enum admin_engine */
	uint32_t engine_restarts;      /* engines started on this memory, less one */
	uint32_t crashes;              /* in a row, until now */
	uint32_t refusal;              /* REFUSED: enum admin_refusal */
	char socket[ADMIN_PATH_BYTES]; /* where clients connect */
	char text[ADMIN_TEXT_BYTES];   /* DENIED, BAD; DESCRIPTORS: why there is no memory now */
	struct admin_fd fd[ADMIN_FDS_MAX];
};

#endif
