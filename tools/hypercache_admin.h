/* hypercache_admin.h - a look at a daemon's memory without the daemon's help.
 *
 *   admin socket --> descriptors, read-only --> control segment, pools, sessions
 *
 * Only the supervisor answers, and only once; everything else is read from the
 * memory.  So it works while the engine is stopped, hangs or is dead.  The answer is a
 * picture of one moment: sessions that open later are not in it.
 *
 * A session's segment is written by its client, which may be hostile: its numbers are
 * to be clipped, its text made printable, and nothing in it is to be followed.  It cannot
 * shrink (that is checked before it is mapped), so reading it never raises SIGBUS.
 *
 * Lifetime: all pointers until hypercache_admin_close().  Threads: one.  Fork: nothing special.
 */
#ifndef HC_TOOLS_HYPERCACHE_ADMIN_H
#define HC_TOOLS_HYPERCACHE_ADMIN_H

#include <stdbool.h>
#include "../daemon/admin.h"
#include "layout/l_client.h"
#include "layout/l_control.h"
#include "layout/l_journal.h"

enum {
	HYPERCACHE_ADMIN_WHY_BYTES = 512,
	HYPERCACHE_ADMIN_PATH_BYTES = ADMIN_PATH_BYTES,
};

struct hypercache_admin_session {
	uint32_t slot, uid, gid;
	int32_t pid; /* 0: unknown */
	uint64_t id;
	uint32_t read_pools, write_pools; /* bit i: it may read, change pool i */
	const struct shm_client *seg;
	uint32_t
		n_blocks; /* that the mapping holds, whatever the segment says; at most SHM_BLOCKS_MAX */
	uint64_t bytes; /* of the mapping */
};

struct hypercache_admin_pool {
	const uint8_t *base; /* all regions, as their offsets say; NULL: none came */
	uint64_t bytes;
	void *room; /* the mapping that base is in */
	uint64_t room_bytes;
	char read[ADMIN_RIGHTS_BYTES], write[ADMIN_RIGHTS_BYTES]; /* who may, set by open */
};

struct hypercache_admin {
	struct admin_answer answer; /* of the first packet; n_fds and fd[] are used up */
	const struct shm_control *ctl;
	uint64_t ctl_bytes;
	int ctl_fd;
	const struct shm_journal *journal; /* for its slow log; NULL: the daemon hands none out */
	uint64_t journal_bytes;
	int pool_fd[SHM_POOLS_MAX][SHM_REGIONS_MAX]; /* -1: none */
	struct hypercache_admin_pool pool[SHM_POOLS_MAX];
	struct hypercache_admin_session *session;
	uint32_t n_sessions;
};

enum {
	HYPERCACHE_ADMIN_NONE = 1,   /* nobody answers at the path */
	HYPERCACHE_ADMIN_DENIED = 2, /* this user may not */
	HYPERCACHE_ADMIN_REFUSED = 4,
	HYPERCACHE_ADMIN_DAMAGED = 3 /* what came makes no sense, or is another version's */
};

/* Where the admin socket of the daemon at `socket` is: admin.sock beside it.  NULL: beside the socket
 * that hc_open() takes for the default.  0; -ENAMETOOLONG. */
int hypercache_admin_path(const char *socket, char ret_path[HYPERCACHE_ADMIN_PATH_BYTES]);

/* Asks the daemon and maps control segment and sessions.  timeout_ms: for all of it, over 0.
 * 0; HYPERCACHE_ADMIN_NONE, _DENIED, _DAMAGED, or -errno: with a sentence in why.  *ret is set on 0. */
int hypercache_admin_open(const char *path, int timeout_ms, struct hypercache_admin *ret,
	char why[HYPERCACHE_ADMIN_WHY_BYTES]);

/* The same at a connected socket, which stays the caller's. */
int hypercache_admin_open_at(
	int fd, int timeout_ms, struct hypercache_admin *ret, char why[HYPERCACHE_ADMIN_WHY_BYTES]);

/* Sends a request, with a descriptor (-1: none), and takes the answer's lines (daemon/admin.h): heap, 0-terminated,
 * the caller's to free, also with HYPERCACHE_ADMIN_REFUSED, where *ret_refusal says why.
 * 0; HYPERCACHE_ADMIN_REFUSED; HYPERCACHE_ADMIN_NONE, _DENIED, _DAMAGED, or -errno: with a sentence in why. */
int hypercache_admin_ask(const char *path, int timeout_ms, const struct admin_request *rq, int fd,
	char **ret_lines, enum admin_refusal *ret_refusal, char why[HYPERCACHE_ADMIN_WHY_BYTES]);

/* Has clients tell tracers of one read of `every` (1..SHM_PROBE_EVERY_MAX), until *ret_fd, which is the caller's, is
 * closed by its last owner, or the supervisor ends (then it becomes readable).
 * 0; HYPERCACHE_ADMIN_REFUSED, _NONE, _DENIED, _DAMAGED, or -errno: with a sentence in why. */
int hypercache_admin_probe(const char *path, int timeout_ms, uint64_t every, int *ret_fd,
	char why[HYPERCACHE_ADMIN_WHY_BYTES]);

/* Maps a used pool, all its regions in a row, and sets a->pool[idx].
 * 0, HYPERCACHE_ADMIN_DAMAGED, or -errno: with a sentence in why. */
int hypercache_admin_pool_map(
	struct hypercache_admin *a, uint32_t idx, char why[HYPERCACHE_ADMIN_WHY_BYTES]);

void hypercache_admin_close(struct hypercache_admin *a);

/* Reads that a session has counted of a store, over its threads; each number clipped to
 * HYPERCACHE_ADMIN_COUNT_MAX, so that a liar spoils no sum. */
#define HYPERCACHE_ADMIN_COUNT_MAX (UINT64_C(1) << 48)
#define HYPERCACHE_ADMIN_BYTES_MAX (UINT64_C(1) << 52)
struct hypercache_reads {
	uint64_t hits, misses, hit_bytes;
};
struct hypercache_reads hypercache_admin_reads(
	const struct hypercache_admin_session *s, uint32_t store_idx);

/* Are its counts in the totals already?  It has ended since. */
bool hypercache_admin_is_folded(const struct hypercache_admin_session *s);

/* One of a session's own counters, over its threads, clipped likewise. */
uint64_t hypercache_admin_count(const struct hypercache_admin_session *s, enum shm_block_counter c);

/* Pins that count (those of an older generation do not): of all kinds, and of these the views'. */
void hypercache_admin_pins(const struct hypercache_admin *a,
	const struct hypercache_admin_session *s, uint32_t *ret_pins, uint32_t *ret_views);

/* Bytes of the entries that these pins name, each counted as often as it is pinned; pools have to be mapped. */
uint64_t hypercache_admin_held(
	const struct hypercache_admin *a, const struct hypercache_admin_session *s);

#endif
