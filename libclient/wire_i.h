/* wire_i.h - what a frame consists of, said once: encoder (wire.c), decoder (wire_get.c) and the bound
 * of a frame's size come from these tables. */
#ifndef HC_WIRE_I_H
#define HC_WIRE_I_H

/* X(kind, field), in the order of the arguments.
 * kind: uint; int (sent as its two's complement); bin (field, field_bytes); str (char array). */
#define HELLO_FIELDS(X) \
	X(uint, proto_major) \
	X(uint, proto_minor) \
	X(uint, layout_major) \
	X(uint, layout_minor) \
	X(uint, session) \
	X(str, name) \
	X(uint, fence) \
	X(int, time_off_ns)
#define PING_FIELDS(X)
#define SET_FIELDS(X) \
	X(uint, store_idx) \
	X(uint, store_id) \
	X(bin, key) \
	X(bin, value) \
	X(uint, flags) \
	X(uint, ttl_ms)
#define DELETE_FIELDS(X) \
	X(uint, store_idx) \
	X(uint, store_id) \
	X(bin, key)
#define BYE_FIELDS(X)
#define TOUCH_FIELDS(X) \
	X(uint, store_idx) \
	X(uint, store_id) \
	X(bin, key) \
	X(uint, ttl_ms)
#define INCR_FIELDS(X) \
	X(uint, store_idx) \
	X(uint, store_id) \
	X(bin, key) \
	X(int, delta) \
	X(int, initial) \
	X(uint, ttl_ms) \
	X(uint, how)
#define CLEAR_FIELDS(X) \
	X(uint, store_idx) \
	X(uint, store_id)
#define BATCH_FIELDS(X) X(uint, how)
#define LEASE_FIELDS(X) \
	X(uint, store_idx) \
	X(uint, store_id) \
	X(bin, key) \
	X(uint, version) \
	X(uint, ttl_ms)
#define LEASE_DROP_FIELDS(X) \
	X(uint, store_idx) \
	X(uint, store_id) \
	X(bin, key) \
	X(uint, lease)

/* What may be left out behind them, from the end, and is when it is 0. */
#define HELLO_MORE(X) \
	X(uint, regions_of) \
	X(uint, feed_at)
#define PING_MORE(X)
#define SET_MORE(X) \
	X(uint, mode) \
	X(uint, version) \
	X(uint, stamp) \
	X(uint, lease) \
	X(uint, fresh_ms) \
	X(uint, how)
#define DELETE_MORE(X) X(uint, version)
#define BYE_MORE(X)
#define TOUCH_MORE(X)
#define INCR_MORE(X)
#define CLEAR_MORE(X)
#define BATCH_MORE(X)
#define LEASE_MORE(X)
#define LEASE_DROP_MORE(X)

#define ANSWER_FIELDS(X) \
	X(uint, lsn) \
	X(uint, value)
#define ANSWER_HELLO_FIELDS(X) \
	X(uint, session) \
	X(uint, slot) \
	X(uint, max_inflight) \
	X(uint, max_frame) \
	X(uint, fence) \
	X(uint, resumed)

#define COUNT_FIELD(kind, f) +1

/* An item as it stands in a batch begins with an array of at most 15 and a verb below 128: a byte each. */
#define ITEM_ELEMS(item) ((item)[0] & 0x0fu)
#define ITEM_VERB(item) ((item)[1])
enum { ITEM_HEAD_BYTES = 2 };

enum {
	HEAD_BYTES = 4,        /* the length before a body */
	INT_BYTES = 9,         /* largest encoding of an integer */
	LEN_BYTES = 5,         /* largest encoding of a length */
	ELEM_MAX = 15,         /* elements of an outer array that are looked at */
	HELLO_FDS_ELEM = 9,    /* element of the answer to HELLO that holds the descriptors */
	BATCH_ELEM = 3,        /* element of BATCH that holds its items */
	BATCH_ANSWER_ELEM = 5, /* element of its answer that holds theirs */
	BATCH_COUNT_BYTES = 3, /* encoding of a batch's number of items, always the same */
};

#endif
