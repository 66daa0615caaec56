/* replay.h - traces that are in memory as a whole, and two ways of running them.
 *
 * cli_replay.c   the verb: arguments and tables
 * replay.c       reading; simulation (sim.h)
 * replay_live.c  through a daemon, by processes
 */
#ifndef HC_TOOLS_REPLAY_H
#define HC_TOOLS_REPLAY_H

#include <stddef.h>
#include <stdint.h>
#include "sim.h"
#include "trace.h"

enum {
	REPLAY_PROCESSES_MAX = 64,
	REPLAY_KEY_BYTES = TRACE_KEY_BYTES_MAX,
};

struct replay_request {
	uint64_t object;
	uint64_t key;   /* offset in replay.keys; UINT64_MAX: the object's number is the key */
	uint32_t bytes; /* of the value; 0: unknown */
	uint32_t time_s;
	uint32_t key_bytes;
};

struct replay {
	struct replay_request *request;
	uint64_t n;
	uint64_t n_objects;
	char *keys; /* of traces in text, each key once for each request */
	uint64_t keys_bytes;
};

/* Reads a whole trace.  0, or -errno with a line in why.  *r is to be freed in both cases. */
int replay_read(struct replay *r, const char *path, char why[TRACE_WHY_BYTES]);
void replay_free(struct replay *r);

/* Runs it through a cache of this size, as sim_new().  0 or -ENOMEM. */
int replay_simulate(const struct replay *r, const struct pol_ops *ops, uint64_t limit,
	bool by_bytes, struct sim_result *ret);

/* ------------------------------------------------------------ live */

struct replay_live_opts {
	const char *socket, *store;
	uint32_t timeout_ms, n_processes, value_bytes; /* value_bytes: where the trace has none */
};

struct replay_live {
	uint64_t requests, hits, misses, refused; /* refused: sets that the cache did not take */
	uint64_t hit_ns, miss_ns; /* in reads that hit; in the others, with their sets */
	uint64_t elapsed_ns;
	int error; /* HC_E_...: why one of the processes gave up; 0: none did */
};

/* Replays through the daemon: look up, set on a miss.  The processes take turns and none is ahead of
 * the slowest by more than some requests, so the trace's order is kept.  0, or -errno: it could not be
 * begun. */
int replay_live(const struct replay *r, const struct replay_live_opts *o, struct replay_live *ret);

#endif
