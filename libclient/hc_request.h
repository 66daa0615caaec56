/* hc_request.h - the arguments of a mutation, checked, as a request.  Internal to libclient.
 *
 * Each returns HC_OK, or HC_E_INVAL: out of range.  Pointers of the request lead into the caller's
 * arguments.  No state: any thread.
 */
#ifndef HC_REQUEST_H
#define HC_REQUEST_H

#include "hypercache.h"
#include "hc_i.h"

enum { HC_LEASE_MS = 10000 }; /* how long a lease is good if nobody says */

bool hc_request_ttl_fits(uint64_t ttl_ms);

/* What all have in common.  Sets every field of *r. */
int hc_request_key(struct wire_request *r, uint32_t verb, const struct hc_store *s, const void *key,
	size_t key_bytes);

/* What goes into a SET; *o is what the program's opts (may be NULL) say. */
int hc_request_value(struct wire_request *r, const void *value, size_t value_bytes);
int hc_request_set(struct wire_request *r, struct hc_set_opts *o, const struct hc_set_opts *opts);
int hc_request_join(struct wire_request *r, struct hc_set_opts *o, const struct hc_set_opts *opts,
	enum wire_mode mode);

int hc_request_lease(struct wire_request *r, uint64_t lease_ms, uint64_t version);
int hc_request_touch(struct wire_request *r, uint64_t ttl_ms);
int hc_request_incr(struct wire_request *r, int64_t delta, struct hc_incr_opts *o,
	const struct hc_incr_opts *opts);

/* An operation of hc_submit. */
int hc_request_op(struct wire_request *r, const struct hc_op *op);

/* hc_write.c: one request and its answer.  timeout_ms 0: the handle's.  Returns reply->status. */
int hc_request_one(
	struct hc *hc, struct wire_request *r, uint32_t timeout_ms, struct hc_reply *reply);

#endif
