/* heritage.h - everything that a child of the supervisor inherits, in one place.
 *
 * The supervisor (sup_*.c) owns descriptors and processes; the engine (eng_*.c)
 * owns the bytes in the segments.  The engine is a fork and exec of the same
 * binary, `hypercached --engine FD`: FD is a sealed memfd with one struct
 * heritage in it, and the descriptors named there are inherited under the same
 * numbers (all others are close-on-exec).
 *
 * Between the two runs a SOCK_SEQPACKET pair (`channel_fd`) with struct sup_msg,
 * one per packet, descriptors as SCM_RIGHTS:
 *
 *   engine -> supervisor
 *     READY                         adopted, serving
 *     SESSION_PUT slot,id,who,rights,fence  + memfd [+ pidfd]  keep this session for my successors
 *     SESSION_DROP slot,id          it is over
 *     SESSION_RIGHTS slot,id,rights it asked for a pool that it had no right to when it began, and has now
 *     CONFIG_TAKEN id               it can be had: whoever comes after me has the new one too
 *     CONFIG_DONE id                it holds
 *     CONFIG_REFUSED id,refusal,store_id,n    it cannot be had, and nothing was changed
 *     ERRAND_DONE id,refusal        it is done, or cannot be
 *     LOG_WANT n                    so many segments for the log
 *   supervisor -> engine
 *     SESSION_KEPT slot,id          it is kept: now the client may have its descriptor (rule P16)
 *     CONFIG id,force + struct config    the configuration that is to hold from now on
 *     REGION slot: pool, id: region  + memfd                    it is in the directory: map it; or it is
 *                                   of a pool that the next CONFIG brings
 *     ERRAND slot: enum admin_ask, id, n     what a tool asks for (sup_errand.c)
 *     LOG_SEGMENT id: number  + file    the next one, under a description that nobody else has (rule P24); or
 *                 refusal: errno        there is none, for now
 *     QUIT                          finish what was acknowledged, say ENDED in the control segment, exit 0
 *
 * The supervisor never reads a client's byte.  It replies to SESSION_PUT at once.
 * The channel's end of file tells the engine that the supervisor is dead: it ends.
 *
 * panic_fd: a memfd of PANIC_BYTES; an engine that fails a CHECK or a signal
 * leaves a text there, and the supervisor prints it after the death.
 *
 * lock_fd: a private memfd, never sent to anybody.  The engine opens its own
 * description of it (through /proc/self/fd) and holds flock(LOCK_EX) on that
 * while it writes (rule P22).
 */
#ifndef HC_DAEMON_HERITAGE_H
#define HC_DAEMON_HERITAGE_H

#include <stdint.h>
#include <sys/types.h>
#include "config.h"
#include "hypercache.h"
#include "layout/l_control.h"

#define HERITAGE_TEXT_(x) #x
#define HERITAGE_TEXT(x) HERITAGE_TEXT_(x)
#define HC_VERSION_TEXT \
	HERITAGE_TEXT(HC_VERSION_MAJOR) \
	"." HERITAGE_TEXT(HC_VERSION_MINOR) "." HERITAGE_TEXT(HC_VERSION_PATCH)

#define HERITAGE_MAGIC 0x31544948u /* "HIT1" */
#define PANIC_BYTES 16384

/* Exit status of an engine that must not begin with the data it found: nor would another. */
#define ENGINE_STATUS_DATA 4

struct heritage_session {
	uint64_t id; /* 0: unused */
	uint32_t uid, gid;
	uint32_t read_pools, write_pools; /* bit i: may read, change pool i */
	uint32_t fence;                   /* enum shm_fence, as HELLO's answer said */
	int32_t pid;                      /* 0: unknown */
	int32_t memfd;                    /* the session's segment, read-write */
	int32_t pidfd;                    /* -1: none */
	uint32_t slot;                    /* index of pin_gen[] and of the journal's sessions */
};

struct heritage {
	uint32_t magic; /* HERITAGE_MAGIC */
	uint32_t bytes; /* sizeof(struct heritage): another one is another binary's */
	struct config config;
	uint32_t engine_try; /* 1 for the first engine of this memory, then counting */
	int32_t listen_fd;   /* the clients' socket, listening, non-blocking */
	int32_t channel_fd;  /* the engine's end */
	int32_t control_fd;  /* segment, read-write */
	int32_t journal_fd;  /* segment, read-write */
	int32_t lock_fd;     /* rule P22 */
	int32_t panic_fd;
	int32_t pressure_fd; /* the file of memory_pressure, -1: none */
	int32_t wal_dir_fd;  /* folder of the log, -1: no durable stores; until the lockdown */
	int32_t data_dir_fd; /* that of the checkpoints */
	uint8_t log_id[16];  /* which log it is */
	uint32_t recover;    /* enum sup_recover */
	int32_t log_fd;      /* where log lines go: standard error */
	int32_t region_fd[SHM_POOLS_MAX][SHM_REGIONS_MAX]; /* -1: none */
	uint32_t n_sessions;                               /* used in session[] */
	struct heritage_session session[SHM_SESSIONS_MAX];
};

enum sup_msg_kind {
	SUP_MSG_READY = 1,
	SUP_MSG_SESSION_PUT = 2,
	SUP_MSG_SESSION_DROP = 3,
	SUP_MSG_SESSION_KEPT = 4,
	SUP_MSG_QUIT = 5,
	SUP_MSG_CONFIG = 6,
	SUP_MSG_CONFIG_TAKEN = 7,
	SUP_MSG_CONFIG_DONE = 8,
	SUP_MSG_CONFIG_REFUSED = 9,
	SUP_MSG_REGION = 10,
	SUP_MSG_ERRAND = 11,
	SUP_MSG_ERRAND_DONE = 12,
	SUP_MSG_SESSION_RIGHTS = 13,
	SUP_MSG_LOG_WANT = 14,
	SUP_MSG_LOG_SEGMENT = 15,
};

/* What an operator chooses when data cannot just be taken (hypercached --recover). */
enum sup_recover {
	SUP_RECOVER_ASK = 0, /* nothing: whatever is odd is refused, and says what can be chosen */
	SUP_RECOVER_COPY,    /* the folder may be a copy of a living one */
	SUP_RECOVER_CUT,     /* the log ends before its damage */
	SUP_RECOVER_SKIP,    /* what is damaged is left out */
	SUP_RECOVER_N
};

enum {
	SUP_SHRINK_PART = 8
}; /* what cannot go must leave one part of so many of a pool to entries */

struct sup_msg {
	uint32_t kind; /* enum sup_msg_kind */
	uint32_t slot;
	uint64_t id;
	uint32_t uid, gid;
	uint32_t read_pools, write_pools;
	uint32_t fence; /* enum shm_fence */
	int32_t pid;
	uint32_t n_fds;   /* descriptors that come with it: memfd, then pidfd */
	uint32_t force;   /* CONFIG: stores that hold entries may be dropped */
	uint32_t refusal; /* CONFIG_REFUSED: enum admin_refusal */
	/* Of it, with IN_USE: which store, and its entries; with MEMORY: n is what is held of pool `slot`. */
	uint64_t store_id, n;
	uint64_t pool_id; /* CONFIG: of the first pool that it brings; those of the others follow */
};

/* The one kind that is longer: CONFIG. */
struct sup_config_msg {
	struct sup_msg msg;
	struct config config;
};

/* sup_main.c: runs the supervisor until it is told to stop; returns the exit status. */
struct config_source;
struct config_places;
/* config is what was read from `source` just now; *source lives as long as the process. */
int sup_main(const struct config *config, const struct config_places *places,
	const struct config_source *source, enum sup_recover recover);
/* sup_take.c: is another binary's answer to a daemon that asks whether it could go on where that one is; the exit status,
 * and a line on standard output. */
int sup_check_upgrade(int state_fd);
/* sup_take.c: goes on where another binary was, in the same process; taken_back: why the one that was to do that did not,
 * else NULL. */
int sup_take_over(int state_fd, const char *taken_back);
/* eng_main.c: runs an engine on the heritage in fd; returns the exit status. */
int eng_main(int heritage_fd);

#endif
