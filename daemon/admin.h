/* admin.h - the answer on the admin socket: descriptors for tools.
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
	ADMIN_LIMIT_MS = 2000,
	ADMIN_TEXT_BYTES = 160,
	ADMIN_PATH_BYTES = 108,
	ADMIN_RIGHTS_BYTES = 64, /* a longer list is cut */
};

enum admin_kind {
	ADMIN_DESCRIPTORS = 1,
	ADMIN_DENIED = 2, /* text says why, and who may */
	ADMIN_BAD = 3,    /* the request was not understood; text says what would be */
};

enum admin_engine {
	ADMIN_ENGINE_WAITING = 0,  /* none: dead, and the next one is due */
	ADMIN_ENGINE_STARTING = 1, /* runs, and has not said that it serves */
	ADMIN_ENGINE_SERVING = 2,
	ADMIN_ENGINE_STOPPING = 3, /* has been told to end */
};

/* What the i-th descriptor of a packet is. */
struct admin_fd {
	uint32_t kind;   /* enum shm_kind: CONTROL, POOL or CLIENT */
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
	int32_t engine_pid;       /* 0: none at the moment */
	uint32_t engine;          /* enum admin_engine */
	uint32_t engine_restarts; /* engines started on this memory, less one */
	uint32_t crashes;         /* in a row, until now */
	uint32_t pad0;
	char socket[ADMIN_PATH_BYTES]; /* where clients connect */
	char text[ADMIN_TEXT_BYTES];   /* DENIED, BAD; DESCRIPTORS: why there is no memory now */
	struct admin_fd fd[ADMIN_FDS_MAX];
};

#endif
