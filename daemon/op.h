/* op.h - one function per verb, and the table that finds it.
 *
 * To add a request: its line in WIRE_VERBS (libclient/wire.h), its function in a file
 * op_VERB.c, and the two lines of it below.  A verb without a function does not compile.
 */
#ifndef HC_DAEMON_OP_H
#define HC_DAEMON_OP_H

#include "eng.h"

/* Handles request r, decoded but hostile, of connection c (c->session is NULL for
 * HELLO alone, and set for every other verb).  *a holds verb and request, and is
 * else zero; the function fills in status, lsn and value.
 *
 * 0: *a is the answer.
 * OP_HELD: no answer yet; the connection is held, and nothing more of it decoded,
 *     until eng_conn_resume().
 * OP_WATCHES: no answer yet; the connection goes on (eng_feed_watch).
 * OP_CLOSE: *a is the answer, and the last.
 * OP_AGAIN: the log cannot take it now, and nothing was changed but by items of a batch that the journal
 *     knows: the connection is held, and the request carried out again later.
 * OP_BAD: not allowed here; the connection ends with HC_E_PROTOCOL. */
typedef int op_fn(
	struct eng *e, struct eng_conn *c, const struct wire_request *r, struct wire_answer *a);
enum { OP_HELD = 1, OP_CLOSE = 2, OP_BAD = 3, OP_WATCHES = 4, OP_AGAIN = 5 };
/* A status that no client sees: under pressure a new key was not worth what it would have cost.  The
 * answer is that of a set whose entry was evicted at once. */
enum { OP_NOT_KEPT = 1000 };

op_fn op_hello, op_ping, op_set, op_delete, op_bye, op_touch, op_incr, op_clear, op_batch, op_lease,
	op_lease_drop;

#define OP_HELLO_FN op_hello
#define OP_PING_FN op_ping
#define OP_SET_FN op_set
#define OP_DELETE_FN op_delete
#define OP_BYE_FN op_bye
#define OP_TOUCH_FN op_touch
#define OP_INCR_FN op_incr
#define OP_CLEAR_FN op_clear
#define OP_BATCH_FN op_batch
#define OP_LEASE_FN op_lease
#define OP_LEASE_DROP_FN op_lease_drop

/* By enum wire_verb; NULL: no such verb. */
extern op_fn *const op_table[WIRE_VERB_END];

/* Mutations that a session may have without an answer: what HELLO says. */
uint32_t op_max_inflight(const struct eng *e);

/* op_hello.c: the supervisor keeps session s: its client gets the descriptors. */
void op_hello_kept(struct eng *e, struct eng_session *s);
/* The supervisor does not: the client is refused. */
void op_hello_refused(struct eng *e, struct eng_session *s);

/* Something has come to the feed that c waits for, or had. */
void op_hello_fed(struct eng_conn *c);

/* What all mutations have in common: is this a request to carry out?
 * 0: yes; *ret_req, *ret_store and *ret_key are set.
 * 1: no; a->status is the answer (or that of the journal: it was applied before).
 * OP_BAD: a request number that this session cannot have.  OP_AGAIN. */
int op_begin(struct eng *e, struct eng_conn *c, const struct wire_request *r, struct wire_answer *a,
	struct shm_req *ret_req, struct eng_store **ret_store, struct shm_key *ret_key);
/* What the request's function returns when that was not 0. */
static inline int op_begun(int r0) { return r0 == 1 ? 0 : r0; }
/* The same of a request that names no key. */
int op_begin_store(struct eng *e, struct eng_conn *c, const struct wire_request *r,
	struct wire_answer *a, struct shm_req *ret_req, struct eng_store **ret_store);
/* Records an answer that changed nothing, so that a repetition gets the same. */
void op_refuse(struct eng *e, const struct shm_req *req, struct wire_answer *a, int32_t status);
/* The same, with the version of the entry that was in the way, or 0. */
void op_refuse_for(struct eng *e, const struct shm_req *req, struct wire_answer *a, int32_t status,
	uint64_t version);
/* Expiry of an entry with this time to live (0: the store's, HC_TTL_NEVER).  0; 1: out of range. */
int op_expiry(const struct eng_store *store, uint64_t ttl_ms, uint64_t now_ns, uint32_t *ret_ttl_ms,
	uint64_t *ret_expiry_ns);
/* What SET and INCR (incr: not NULL, with set in it) have in common: publishing, with room made
 * as long as that may help; returns 0, a status of hypercache.h, or OP_NOT_KEPT.  Then counters, policy, and
 * the rest of the answer. */
int32_t op_publish(struct eng_pool *p, struct eng_store *store, const struct shm_req *req,
	const struct shm_set *set, const struct shm_incr *incr, struct shm_changed *ret);
void op_written(struct eng_pool *p, struct eng_store *store, const struct shm_req *req,
	struct wire_answer *a, int32_t status, const struct shm_changed *ch, uint64_t now_ns);
/* Of a result above 0 of shm_pool_*, what the client is told. */
int32_t op_status(int pool_result);

#endif
