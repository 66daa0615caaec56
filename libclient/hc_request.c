/* hc_request.c - see hc_request.h. */
#include "hc_request.h"

#define TTL_MS_MAX (10ull * 366 * 24 * 3600 * 1000) /* 10 years */

bool hc_request_ttl_fits(uint64_t ttl_ms) { return ttl_ms <= TTL_MS_MAX || ttl_ms == HC_TTL_NEVER; }

int hc_request_key(struct wire_request *r, uint32_t verb, const struct hc_store *s, const void *key,
	size_t key_bytes)
{
	if (!s || !key || key_bytes < 1 || key_bytes > HC_KEY_BYTES_MAX)
		return HC_E_INVAL;
	*r = (struct wire_request){
		.verb = verb,
		.store_idx = s->idx,
		.store_id = s->id,
		.key = key,
		.key_bytes = key_bytes,
	};
	return HC_OK;
}

int hc_request_value(struct wire_request *r, const void *value, size_t value_bytes)
{
	if ((!value && value_bytes) || (r->how && value_bytes))
		return HC_E_INVAL;
	r->value = value;
	r->value_bytes = value_bytes;
	return HC_OK;
}

int hc_request_set(struct wire_request *r, struct hc_set_opts *o, const struct hc_set_opts *opts)
{
	if (hc_opts_take(o, sizeof *o, opts) < 0 || o->mode > HC_IF_NEWER || o->reserved ||
		!hc_request_ttl_fits(o->ttl_ms))
		return HC_E_INVAL;
	if ((o->version != 0) != (o->mode == HC_IF_VERSION) || (o->lease && o->mode))
		return HC_E_INVAL;
	if (o->absent > 1 || o->reserved2 || (o->absent && o->fresh_ms) ||
		(o->fresh_ms && (o->stamp || !hc_request_ttl_fits(o->fresh_ms))))
		return HC_E_INVAL;
	r->flags = o->flags;
	r->ttl_ms = o->ttl_ms;
	r->mode = o->mode;
	r->version = o->version;
	r->stamp = o->stamp;
	r->lease = o->lease;
	r->fresh_ms = o->fresh_ms;
	r->how = o->absent ? WIRE_ABSENT : 0;
	return HC_OK;
}

int hc_request_join(struct wire_request *r, struct hc_set_opts *o, const struct hc_set_opts *opts,
	enum wire_mode mode)
{
	if (hc_opts_take(o, sizeof *o, opts) < 0 || o->ttl_ms || o->flags || o->mode || o->stamp ||
		o->reserved || o->lease || o->fresh_ms || o->absent || o->reserved2)
		return HC_E_INVAL;
	r->mode = mode;
	r->version = o->version;
	return HC_OK;
}

int hc_request_lease(struct wire_request *r, uint64_t lease_ms, uint64_t version)
{
	r->ttl_ms = lease_ms ? lease_ms : HC_LEASE_MS;
	r->version = version;
	return r->ttl_ms <= WIRE_LEASE_MS_MAX ? HC_OK : HC_E_INVAL;
}

int hc_request_touch(struct wire_request *r, uint64_t ttl_ms)
{
	r->ttl_ms = ttl_ms;
	return hc_request_ttl_fits(ttl_ms) ? HC_OK : HC_E_INVAL;
}

static int64_t number_add(int64_t a, int64_t b, bool wrap)
{
	int64_t sum;

	if (!__builtin_add_overflow(a, b, &sum) || wrap)
		return sum;
	return b < 0 ? INT64_MIN : INT64_MAX;
}

int hc_request_incr(struct wire_request *r, int64_t delta, struct hc_incr_opts *o,
	const struct hc_incr_opts *opts)
{
	if (hc_opts_take(o, sizeof *o, opts) < 0 || o->wrap > 1 || o->must_exist > 1 ||
		o->reserved || !hc_request_ttl_fits(o->ttl_ms))
		return HC_E_INVAL;
	r->delta = delta;
	r->initial = number_add(o->initial, delta, o->wrap);
	r->ttl_ms = o->ttl_ms;
	r->how = (o->wrap ? WIRE_WRAP : 0u) | (o->must_exist ? WIRE_MUST_EXIST : 0u);
	return HC_OK;
}

/* The verb of the wire; 0: there is no such operation. */
static uint32_t verb_of(uint32_t op)
{
	switch (op) {
	case HC_OP_SET:
	case HC_OP_APPEND:
	case HC_OP_PREPEND:
		return WIRE_SET;
	case HC_OP_DELETE:
		return WIRE_DELETE;
	case HC_OP_TOUCH:
		return WIRE_TOUCH;
	case HC_OP_INCR:
		return WIRE_INCR;
	case HC_OP_CLEAR:
		return WIRE_CLEAR;
	case HC_OP_LEASE:
		return WIRE_LEASE;
	case HC_OP_LEASE_DROP:
		return WIRE_LEASE_DROP;
	default:
		return 0;
	}
}

/* Is only that set which this operation looks at? */
static bool op_is_sound(const struct hc_op *op)
{
	bool set = verb_of(op->op) == WIRE_SET;

	return op->quiet <= 1 && op->reserved == 0 && (set || !(op->set || op->value_bytes)) &&
	       (op->op == HC_OP_INCR || !(op->incr || op->delta)) &&
	       (op->op == HC_OP_TOUCH || op->op == HC_OP_LEASE || !op->ttl_ms) &&
	       (op->op == HC_OP_DELETE || op->op == HC_OP_LEASE || op->op == HC_OP_LEASE_DROP ||
		       !op->version) &&
	       (op->op != HC_OP_CLEAR || !op->key_bytes);
}

static int op_set(struct wire_request *r, const struct hc_op *op)
{
	struct hc_set_opts o;
	int e;

	if (op->op == HC_OP_SET)
		e = hc_request_set(r, &o, op->set);
	else
		e = hc_request_join(r, &o, op->set,
			op->op == HC_OP_APPEND ? WIRE_MODE_APPEND : WIRE_MODE_PREPEND);
	if (e || o.ret_version || o.timeout_ms)
		return HC_E_INVAL;
	return hc_request_value(r, op->value, op->value_bytes);
}

int hc_request_op(struct wire_request *r, const struct hc_op *op)
{
	struct hc_incr_opts o;
	uint32_t verb = verb_of(op->op);

	if (!verb || !op_is_sound(op) || !op->store)
		return HC_E_INVAL;
	if (verb == WIRE_CLEAR)
		*r = (struct wire_request){
			.verb = verb, .store_idx = op->store->idx, .store_id = op->store->id};
	else if (hc_request_key(r, verb, op->store, op->key, op->key_bytes))
		return HC_E_INVAL;
	switch (verb) {
	case WIRE_SET:
		return op_set(r, op);
	case WIRE_TOUCH:
		return hc_request_touch(r, op->ttl_ms);
	case WIRE_LEASE:
		return hc_request_lease(r, op->ttl_ms, op->version);
	case WIRE_LEASE_DROP:
		r->lease = op->version;
		return r->lease ? HC_OK : HC_E_INVAL;
	case WIRE_INCR:
		if (hc_request_incr(r, op->delta, &o, op->incr) || o.timeout_ms)
			return HC_E_INVAL;
		return HC_OK;
	default:
		r->version = op->version; /* DELETE's */
		return HC_OK;
	}
}
