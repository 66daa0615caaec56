/* wire.h - the messages between client and engine, and their one codec.
 *
 * A frame is a length and a body:
 *
 *   | u32, little-endian: bytes of the body | body: one msgpack array |
 *
 * The body is 1 .. max_frame bytes (given in the answer to HELLO; 64 KiB before
 * it).  Frames are answered in the order in which they came; many may be on the
 * way.  Any frame that is not exactly as below closes the connection after an
 * answer with status HC_E_PROTOCOL: half a request is never applied.
 *
 *   request  [verb, request, arguments ...]
 *   answer   [verb, request, status, lsn, value]          (HELLO's has more)
 *
 *   verb    arguments                                          value in the answer
 *   1 HELLO proto_major, proto_minor, layout_major, layout_minor,
 *           session (0: new), name (str), fence, time_off_ns [, regions_of, feed_at]
 *                                                               see below
 *   2 PING                                                      0
 *   3 SET   store_idx, store_id, key (bin), value (bin), flags, ttl_ms [, mode, version, stamp,
 *           lease, fresh_ms, how]
 *                                                               1: replaced an entry, 0: new
 *   4 DELETE store_idx, store_id, key (bin) [, version]         0; status HC_MISS if absent
 *   5 BYE                                                       0; the session ends, then the connection
 *   6 TOUCH store_idx, store_id, key (bin), ttl_ms              0; status HC_MISS if absent
 *   7 INCR  store_idx, store_id, key (bin), delta, initial, ttl_ms, how
 *                                                               the sum
 *   8 CLEAR store_idx, store_id                                 entries that were cleared
 *   9 BATCH how, [[verb, arguments ...], ...]                   see below
 *  10 LEASE store_idx, store_id, key (bin), version, ttl_ms     see below
 *  11 LEASE_DROP store_idx, store_id, key (bin), lease          0; status HC_LEASE_LOST
 *
 * All are unsigned integers but for status (signed; enum hc_result/hc_error) and
 * the ones marked str and bin.  Those in brackets may be left out, from the end, and
 * are 0 then.  Elements behind all named here are ignored, so that a later minor can
 * add some; fewer is malformed.
 *
 * TOUCH gives an entry another time to live, from now; lsn is its version, which stays.  With WIRE_TTL_KEEP
 * it only says that the entry is in use.
 * INCR: the value is a signed decimal number of 64 bits in ASCII, else HC_E_NOT_NUMBER.  delta, initial
 * and the sum are signed, as numbers in two's complement.  Absent: a new entry with `initial`, to which delta is
 * not added, and ttl_ms; or HC_MISS if how has WIRE_MUST_EXIST.  Past the end of 64 bits it stays there, or with
 * WIRE_WRAP goes on at the other end.  A present entry keeps its flags, stamp and expiry.
 *
 * CLEAR: all entries of the store are gone, whatever their number; lsn: those with a lower version.
 *
 * request: 0 for HELLO, PING, BYE.  A session numbers its mutations 1, 2, 3 ...,
 * never has more than max_inflight without an answer, and after a lost
 * connection sends those again, in order, with the same numbers, before any new
 * one: each is applied once (rule P23).
 *
 * LEASE: the asker may compute the value of this key, and nobody else meanwhile.  version: of the entry that he
 * wants to replace, 0: he found none.  Status 0: it is his, for ttl_ms (1 .. 1 hour); lsn is its token.
 * HC_CONFLICT: the entry has another version, lsn (0: there is none): look again.  HC_LEASED: somebody else has it, for
 * value ms more at most; control.lease_word of the key says when to look and ask again.
 * HC_E_LEASES: no more of them.  A lease is over when its token fills or drops it; when the key is
 * written or deleted by anybody, or the store is cleared; when its session ends, or loses its connection to
 * a living engine; and after ttl_ms, as soon as somebody asks.
 * SET's lease: a token; mode and version are 0 then.  Status HC_LEASE_LOST if it is over: nothing is written.
 * fresh_ms: how long the value is to be taken for fresh (0: as long as it is there), stamp is 0 then.  how:
 * WIRE_ABSENT: the key is known to be absent; value and fresh_ms are empty then.
 *
 * BATCH: 1 .. max_inflight mutations (3, 4, 6, 7, 10, 11) in one frame, each with its arguments as above but
 * without a number: item i has the number request + i.  They are carried out in order, each as if it had
 * come in a frame of its own; it is not a transaction.  Its answer is
 *
 *   [9, request, status, lsn, n, [[i, status, lsn, value], ...]]
 *
 * n: how many items the batch had; then each item's answer, in order; with WIRE_QUIET in how only
 * those whose status is not 0.  lsn: the highest of them.  After a lost connection a batch is
 * sent again whole; what of it had been applied is answered as it was then.
 *
 * ttl_ms: 0: the store's default; 2^64-1: never.
 * mode: enum wire_mode
 *   0 set       whatever there is
 *   1 add       only if there is none; else status HC_EXISTS
 *   2 replace   only if there is one; else HC_MISS
 *   3 version   only if there is one of this version; else HC_MISS, HC_CONFLICT
 *   4 newer     only if there is none, or one of a lower stamp; else HC_OLDER
 *   5 append    value goes behind the one that is there; flags, ttl_ms and stamp are not
 *   6 prepend   looked at: the entry keeps its own.  version as in 3, or 0: any
 * DELETE's version: only that one; 0: any.
 * lsn in the answer: the version of the entry that was made; of one that was in the way
 * (HC_EXISTS, HC_CONFLICT, HC_OLDER) its own.  stamp is kept with the entry in any mode.
 * fence: enum shm_fence, what the client can do (COMPILER: it has registered for
 * membarrier).  time_off_ns: the client's CLOCK_MONOTONIC minus that of the first
 * time namespace (/proc/self/timens_offsets), as a signed number in two's complement.
 *
 * HELLO is the first frame.  Its answer carries descriptors (SCM_RIGHTS):
 *
 *   [1, 0, status, session, slot, max_inflight, max_frame, fence, resumed, [[kind, pool_idx, region_idx], ...]]
 *
 * one triple for each descriptor, in order; kind is enum shm_kind.  All are
 * read-only but that of the client's own segment.  fence: what the client has to
 * do (SHM_FENCE_FULL when the engine may not call membarrier).  resumed: 1 when `session` was
 * found: no descriptors come, the old mapping stays.  A HELLO with an unknown
 * session, or one of another user, is answered HC_E_STALE.
 *
 * regions_of: a pool's number plus 1, with a session that is alive: its regions as they are now, in a
 * HELLO of its own on a connection of its own, which is closed behind the answer.  The session and its
 * connection stay as they are.  For a client that is led to an offset beyond what it has mapped,
 * while n_regions of the directory says that there is more.
 *
 * feed_at, with regions_of: no regions are wanted, but to be told when `head` of that pool's feed is another than
 * feed_at - 1.  The answer comes then, as of a session that was resumed, without descriptors; at once, if it is another
 * already.  The connection stays: the next HELLO of this kind may follow each answer, nothing else, and none before it.
 * For poll loops (rule P28): the socket is readable as soon as there is something in the feed.  HC_E_NO_FEED;
 * HC_E_REFUSED: the session, or all, have too many of these.
 */
#ifndef HC_WIRE_H
#define HC_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_PROTO_MAJOR 1u
#define WIRE_PROTO_MINOR 1u
#define WIRE_HELLO_BYTES_MAX 65536u
#define WIRE_FDS_MAX 64 /* descriptors of one HELLO answer */

/* X(name, number): the verbs. */
#define WIRE_VERBS(X) \
	X(HELLO, 1) \
	X(PING, 2) \
	X(SET, 3) \
	X(DELETE, 4) \
	X(BYE, 5) \
	X(TOUCH, 6) \
	X(INCR, 7) \
	X(CLEAR, 8) \
	X(BATCH, 9) \
	X(LEASE, 10) \
	X(LEASE_DROP, 11)

#define WIRE_VERB_ENUM_(n, v) WIRE_##n = v,
enum wire_verb { WIRE_VERBS(WIRE_VERB_ENUM_) WIRE_VERB_END };
#undef WIRE_VERB_ENUM_

/* What may stand in a batch. */
static inline bool wire_is_item(uint32_t verb)
{
	return verb == WIRE_SET || verb == WIRE_DELETE || verb == WIRE_TOUCH || verb == WIRE_INCR ||
	       verb == WIRE_LEASE || verb == WIRE_LEASE_DROP;
}
/* Mutations are numbered, the other verbs are not. */
static inline bool wire_is_mutation(uint32_t verb)
{
	return wire_is_item(verb) || verb == WIRE_CLEAR || verb == WIRE_BATCH;
}

#define WIRE_TTL_KEEP (UINT64_MAX - 1)       /* ttl_ms of TOUCH */
enum { WIRE_BATCH_MAX = 64 };                /* items of a batch; max_inflight may be less */
enum { WIRE_WRAP = 1, WIRE_MUST_EXIST = 2 }; /* INCR's how */
enum { WIRE_QUIET = 1 };                     /* BATCH's how */
enum { WIRE_ABSENT = 1 };                    /* SET's how */
#define WIRE_LEASE_MS_MAX 3600000u

/* The first five are enum hc_set_mode too. */
enum wire_mode {
	WIRE_MODE_SET = 0,
	WIRE_MODE_ADD = 1,
	WIRE_MODE_REPLACE = 2,
	WIRE_MODE_IF_VERSION = 3,
	WIRE_MODE_IF_NEWER = 4,
	WIRE_MODE_APPEND = 5,
	WIRE_MODE_PREPEND = 6,
	WIRE_MODES
};

/* A decoded request.  Pointers lead into the frame's own bytes. */
struct wire_request {
	uint32_t verb;
	uint64_t request;
	/* mutations */
	uint64_t store_idx, store_id;
	const void *key;
	size_t key_bytes;
	const void *value;
	size_t value_bytes;
	uint64_t flags, ttl_ms, mode, version, stamp, how, lease, fresh_ms;
	int64_t delta, initial;
	/* BATCH */
	struct wire_request *item;
	uint32_t n_items;
	/* HELLO */
	uint64_t proto_major, proto_minor, layout_major, layout_minor, session, fence, regions_of,
		feed_at;
	int64_t time_off_ns;
	char name[64]; /* printable, 0-terminated: what was sent, made harmless */
};

struct wire_fd {
	uint32_t kind, pool_idx, region_idx;
};

/* What came of an item of a batch. */
struct wire_item {
	uint32_t idx;
	int32_t status;
	uint64_t lsn, value;
};

/* A decoded answer. */
struct wire_answer {
	uint32_t verb;
	uint64_t request;
	int32_t status;
	uint64_t lsn, value;
	/* HELLO */
	uint64_t session, slot, max_inflight, max_frame, fence, resumed;
	uint32_t n_fds;
	struct wire_fd fd[WIRE_FDS_MAX];
	/* BATCH; value is how many items it had */
	uint32_t n_items;
	struct wire_item item[WIRE_BATCH_MAX];
};

/* A growing byte buffer, of which [begin, end) is content. */
struct wire_buf {
	uint8_t *bytes;
	size_t begin, end, cap;
};
void wire_buf_fini(struct wire_buf *b);
/* Makes room for n more bytes behind end; moves content to the front when that is enough.
 * 0 or -ENOMEM. */
int wire_buf_reserve(struct wire_buf *b, size_t n);

/* Appends a frame.  0, -ENOMEM, -EMSGSIZE (body over 4 GiB - 1). */
int wire_put_request(struct wire_buf *b, const struct wire_request *r);
int wire_put_answer(struct wire_buf *b, const struct wire_answer *a);

/* A batch in the making, at the end of a buffer to which nothing else is appended meanwhile. */
struct wire_batch {
	struct wire_buf *b;
	size_t frame_off, count_off; /* from b->begin */
	uint32_t n;
};
/* begin: 0 or -ENOMEM.  add: 0; WIRE_BATCH_FULL: the body would be larger than max_body, or has
 * WIRE_BATCH_MAX items; -ENOMEM, -EINVAL (no mutation).  Then cancel, or end with at least one. */
enum { WIRE_BATCH_FULL = 1 };
int wire_batch_begin(struct wire_buf *b, uint64_t request, uint32_t how, struct wire_batch *ret);
int wire_batch_add(struct wire_batch *w, const struct wire_request *item, size_t max_body);
void wire_batch_end(struct wire_batch *w);
void wire_batch_cancel(struct wire_batch *w);

/* A mutation that is encoded before it is known in which frame it goes: appended to b as it stands in a
 * batch, or would stand there.  0, -ENOMEM, -EMSGSIZE, -EINVAL (no mutation, or a batch). */
int wire_item_put(struct wire_buf *b, const struct wire_request *item);
/* What wire_item_put() made, as a frame of its own: n + WIRE_ITEM_MORE bytes of body at most; or added to a
 * batch, if wire_is_item().  Results as of wire_put_request() and wire_batch_add(). */
enum { WIRE_ITEM_MORE = 9 };
uint32_t wire_item_verb(const uint8_t *item);
int wire_put_item(struct wire_buf *b, uint64_t request, const uint8_t *item, size_t n);
int wire_batch_add_item(struct wire_batch *w, const uint8_t *item, size_t n, size_t max_body);

/* Looks at the bytes at the front of [begin, end).  0: a whole frame is there,
 * *ret_body and *ret_bytes are its body (the caller moves begin past 4 + *ret_bytes);
 * WIRE_MORE: *ret_bytes is how long the body will be, 0 if not yet known;
 * -EPROTO: the length is 0 or above max_frame. */
enum { WIRE_MORE = 1 };
int wire_frame(
	const struct wire_buf *b, size_t max_frame, const uint8_t **ret_body, size_t *ret_bytes);

/* Decodes a body.  0, or -EPROTO: not exactly as described above.  Any bytes are
 * safe.  Bounded time and stack; allocates nothing that outlives the call. */
int wire_get_request(const uint8_t *body, size_t bytes, struct wire_request *ret);
/* The same, and a batch too: item has room for WIRE_BATCH_MAX, and ret->item is it. */
int wire_get_requests(
	const uint8_t *body, size_t bytes, struct wire_request *ret, struct wire_request *item);
int wire_get_answer(const uint8_t *body, size_t bytes, struct wire_answer *ret);

#endif
