/* wire.c - the codec of wire.h.
 *
 * The bytes are msgpack-c's: its packing and unpacking templates are instantiated
 * here a second time, packing into memory that has been reserved, unpacking by
 * callbacks that keep the first elements of the outer array and make nothing.  So
 * a frame costs no allocation and no indirect call.
 *
 * What a frame consists of is said once, in the FIELDS tables; encoder, decoder
 * and the bound of a frame's size come from them.
 */
#define NDEBUG /* the templates assert what their caller guarantees; a library aborts nobody */
#include "wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <msgpack.h>

#include "base/err.h"
#include "step.h"

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

/* What may be left out behind them, and is when all of it is 0. */
#define HELLO_MORE(X)
#define PING_MORE(X)
#define SET_MORE(X) \
	X(uint, mode) \
	X(uint, version) \
	X(uint, stamp)
#define DELETE_MORE(X) X(uint, version)
#define BYE_MORE(X)
#define TOUCH_MORE(X)
#define INCR_MORE(X)

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

enum {
	HEAD_BYTES = 4,     /* the length before a body */
	INT_BYTES = 9,      /* largest encoding of an integer */
	LEN_BYTES = 5,      /* largest encoding of a length */
	ELEM_MAX = 12,      /* elements of an outer array that are looked at */
	HELLO_FDS_ELEM = 9, /* element of the answer to HELLO that holds the descriptors */
	BUF_BYTES_MIN = 4096,
};

#define BUF_BYTES_MAX (1ull << 34) /* a few of the largest frames; more is a mistake */

/* ------------------------------------------------------------------ buffer */

void wire_buf_fini(struct wire_buf *b)
{
	free(b->bytes);
	*b = (struct wire_buf){0};
}

int wire_buf_reserve(struct wire_buf *b, size_t n)
{
	size_t used = b->end - b->begin, cap = b->cap ? b->cap : BUF_BYTES_MIN;

	if (n <= b->cap - b->end)
		return 0;
	if (n > BUF_BYTES_MAX - used)
		return err_new(-ENOMEM);
	if (used + n <= b->cap && b->begin >= used) { /* no overlap, and not again at once */
		memcpy(b->bytes, b->bytes + b->begin, used);
	} else {
		cap *= b->cap ? 2 : 1;
		while (cap < used + n)
			cap *= 2;
		uint8_t *bytes = malloc(cap);
		if (!bytes)
			return err_new(-ENOMEM);
		if (used)
			memcpy(bytes, b->bytes + b->begin, used);
		free(b->bytes);
		b->bytes = bytes;
		b->cap = cap;
	}
	b->begin = 0;
	b->end = used;
	return 0;
}

/* ------------------------------------------------------------------ encoding */

/* Where the next byte goes; the room behind it has been reserved. */
struct packer {
	uint8_t *at;
};

static inline int pack_bytes(struct packer *p, const void *bytes, size_t n)
{
	if (n)
		memcpy(p->at, bytes, n);
	p->at += n;
	return 0;
}

#define msgpack_pack_inline_func(name) static inline int pack##name
#define msgpack_pack_inline_func_cint(name) static inline int pack_c##name
#define msgpack_pack_inline_func_fixint(name) static inline int pack_fix##name
#define msgpack_pack_user struct packer *
#define msgpack_pack_append_buffer(user, bytes, n) return pack_bytes(user, bytes, n)
#include <msgpack/pack_template.h>

#define COUNT_FIELD(kind, f) +1

#define BOUND_uint(f) +INT_BYTES
#define BOUND_int(f) +INT_BYTES
#define BOUND_bin(f) +LEN_BYTES + r->f##_bytes
#define BOUND_str(f) +LEN_BYTES + sizeof r->f
#define BOUND_FIELD(kind, f) BOUND_##kind(f)

#define PACK_uint(f) pack_uint64(&p, r->f);
#define PACK_int(f) pack_uint64(&p, (uint64_t)r->f);
#define PACK_bin(f) \
	pack_bin(&p, r->f##_bytes); \
	pack_bytes(&p, r->f, r->f##_bytes);
#define PACK_str(f) \
	pack_str(&p, strnlen(r->f, sizeof r->f)); \
	pack_bytes(&p, r->f, strnlen(r->f, sizeof r->f));
#define PACK_FIELD(kind, f) PACK_##kind(f)
#define OR_FIELD(kind, f) || r->f

/* Room for a frame whose body has at most `bound` bytes; *ret stands at the body. */
static int frame_begin(struct wire_buf *b, uint64_t bound, struct packer *ret)
{
	if (bound > UINT32_MAX)
		return err_new(-EMSGSIZE);
	int r = wire_buf_reserve(b, HEAD_BYTES + (size_t)bound);
	if (r < 0)
		return err_fwd(r);
	ret->at = b->bytes + b->end + HEAD_BYTES;
	return 0;
}

static void frame_end(struct wire_buf *b, const struct packer *p)
{
	uint32_t n = (uint32_t)(p->at - (b->bytes + b->end) - HEAD_BYTES);
	uint8_t head[HEAD_BYTES] = {
		(uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16), (uint8_t)(n >> 24)};

	memcpy(b->bytes + b->end, head, sizeof head);
	b->end = (size_t)(p->at - b->bytes);
}

int wire_put_request(struct wire_buf *b, const struct wire_request *r)
{
	struct packer p = {0};

	if (r->key_bytes > UINT32_MAX || r->value_bytes > UINT32_MAX)
		return err_new(-EMSGSIZE);
	switch (r->verb) {
#define PUT_VERB(name, number) \
	case WIRE_##name: { \
		bool more = false name##_MORE(OR_FIELD); \
		int e = frame_begin(b, \
			1 + 2 * INT_BYTES name##_FIELDS(BOUND_FIELD) name##_MORE(BOUND_FIELD), \
			&p); \
		if (e < 0) \
			return err_fwd(e); \
		pack_array(&p, \
			2 name##_FIELDS(COUNT_FIELD) + (more ? 0 name##_MORE(COUNT_FIELD) : 0)); \
		pack_uint32(&p, r->verb); \
		pack_uint64(&p, r->request); \
		name##_FIELDS(PACK_FIELD); \
		if (more) { \
			name##_MORE(PACK_FIELD) \
		} \
		break; \
	}
		WIRE_VERBS(PUT_VERB)
#undef PUT_VERB
	default:
		return err_new(-EINVAL);
	}
	frame_end(b, &p);
	return 0;
}

int wire_put_answer(struct wire_buf *b, const struct wire_answer *r)
{
	struct packer p = {0};
	bool hello = r->verb == WIRE_HELLO;

	if (r->n_fds > WIRE_FDS_MAX)
		return err_new(-EINVAL);
	int e = frame_begin(b, ELEM_MAX * INT_BYTES + r->n_fds * (1 + 3 * INT_BYTES), &p);
	if (e < 0)
		return err_fwd(e);
	if (hello)
		pack_array(&p, 4 ANSWER_HELLO_FIELDS(COUNT_FIELD));
	else
		pack_array(&p, 3 ANSWER_FIELDS(COUNT_FIELD));
	pack_uint32(&p, r->verb);
	pack_uint64(&p, r->request);
	pack_int32(&p, r->status);
	if (!hello) {
		ANSWER_FIELDS(PACK_FIELD)
	} else {
		ANSWER_HELLO_FIELDS(PACK_FIELD)
		pack_array(&p, r->n_fds);
		for (uint32_t i = 0; i < r->n_fds; i++) {
			pack_array(&p, 3);
			pack_uint32(&p, r->fd[i].kind);
			pack_uint32(&p, r->fd[i].pool_idx);
			pack_uint32(&p, r->fd[i].region_idx);
		}
	}
	frame_end(b, &p);
	return 0;
}

/* ------------------------------------------------------------------ decoding */

int wire_frame(
	const struct wire_buf *b, size_t max_frame, const uint8_t **ret_body, size_t *ret_bytes)
{
	size_t have = b->end - b->begin;

	if (have < HEAD_BYTES) {
		*ret_bytes = 0;
		return WIRE_MORE;
	}
	const uint8_t *h = b->bytes + b->begin;
	size_t n = (size_t)h[0] | (size_t)h[1] << 8 | (size_t)h[2] << 16 | (size_t)h[3] << 24;
	if (n == 0 || (n > max_frame && !MUTANT(42)))
		return err_new(-EPROTO);
	*ret_bytes = n;
	if (have - HEAD_BYTES < n)
		return WIRE_MORE;
	*ret_body = h + HEAD_BYTES;
	return 0;
}

enum elem_type { ELEM_OTHER = 0, ELEM_UINT, ELEM_NEGATIVE, ELEM_STR, ELEM_BIN, ELEM_ARRAY };

/* An element as the template hands it around. */
struct elem {
	uint8_t type;  /* enum elem_type */
	bool nests;    /* array or map, of any size */
	uint8_t depth; /* of a container: 0 is the outer array */
	uint32_t n;    /* bytes of STR and BIN; elements seen of ARRAY */
	union {
		uint64_t u; /* UINT, NEGATIVE (two's complement) */
		const void *bytes;
	};
};

/* What the callbacks write to. */
struct sink {
	struct elem elem[ELEM_MAX];
	uint32_t n_elem;         /* of the outer array, counting those that were not kept */
	uint8_t depth;           /* containers that are open */
	bool fds_bad;            /* the array at HELLO_FDS_ELEM is no list of triples */
	struct wire_answer *fds; /* takes that list; NULL: nobody asked */
};

#define msgpack_unpack_struct(name) struct unpacker##name
#define msgpack_unpack_func(ret, name) static inline ret unpacker##name
#define msgpack_unpack_callback(name) on##name
#define msgpack_unpack_object struct elem
#define msgpack_unpack_user struct sink

static inline struct elem on_root(struct sink *s)
{
	(void)s;
	return (struct elem){0};
}
static inline int on_uint64(struct sink *s, uint64_t v, struct elem *o)
{
	(void)s;
	*o = (struct elem){.type = ELEM_UINT, .u = v};
	return 0;
}
static inline int on_int64(struct sink *s, int64_t v, struct elem *o)
{
	(void)s;
	*o = (struct elem){.type = v < 0 ? ELEM_NEGATIVE : ELEM_UINT, .u = (uint64_t)v};
	return 0;
}
#define on_uint8 on_uint64
#define on_uint16 on_uint64
#define on_uint32 on_uint64
#define on_int8 on_int64
#define on_int16 on_int64
#define on_int32 on_int64

static inline int on_nil(struct sink *s, struct elem *o)
{
	(void)s;
	*o = (struct elem){0};
	return 0;
}
#define on_true on_nil
#define on_false on_nil

static inline int on_double(struct sink *s, double v, struct elem *o)
{
	(void)v;
	return on_nil(s, o);
}
#define on_float on_double

static inline int on_bin(
	struct sink *s, const char *base, const char *at, unsigned n, struct elem *o)
{
	(void)s, (void)base;
	*o = (struct elem){.type = ELEM_BIN, .n = n, .bytes = at};
	return 0;
}
static inline int on_str(
	struct sink *s, const char *base, const char *at, unsigned n, struct elem *o)
{
	(void)s, (void)base;
	*o = (struct elem){.type = MUTANT(41) ? ELEM_BIN : ELEM_STR, .n = n, .bytes = at};
	return 0;
}
static inline int on_ext(
	struct sink *s, const char *base, const char *at, unsigned n, struct elem *o)
{
	(void)base, (void)at, (void)n;
	return on_nil(s, o);
}

static inline int on_array(struct sink *s, unsigned n, struct elem *o)
{
	(void)n;
	*o = (struct elem){.type = ELEM_ARRAY, .nests = true, .depth = s->depth++};
	return 0;
}
static inline int on_map(struct sink *s, unsigned n, struct elem *o)
{
	(void)n;
	*o = (struct elem){.nests = true, .depth = s->depth++};
	return 0;
}

/* Element n of a triple [kind, pool_idx, region_idx] of the descriptors' list. */
static int on_fd_field(struct sink *s, uint32_t n, const struct elem *o)
{
	struct wire_answer *a = s->fds;

	if (n >= 3)
		return 0;
	if (a->n_fds >= WIRE_FDS_MAX || o->type != ELEM_UINT || o->u > UINT32_MAX) {
		s->fds_bad = true;
		return 0;
	}
	struct wire_fd *fd = &a->fd[a->n_fds];
	uint32_t *field[3] = {&fd->kind, &fd->pool_idx, &fd->region_idx};
	*field[n] = (uint32_t)o->u;
	return 0;
}

static inline int on_array_item(struct sink *s, struct elem *array, struct elem o)
{
	s->depth -= o.nests;
	if (array->depth == 0) {
		if (s->n_elem < ELEM_MAX)
			s->elem[s->n_elem] = o;
		s->n_elem++;
	} else if (s->fds && s->n_elem == HELLO_FDS_ELEM && array->depth == 1) {
		if (o.type != ELEM_ARRAY || o.n < 3 || s->fds->n_fds >= WIRE_FDS_MAX)
			s->fds_bad = true;
		else
			s->fds->n_fds++;
	} else if (s->fds && s->n_elem == HELLO_FDS_ELEM && array->depth == 2) {
		on_fd_field(s, array->n, &o);
	}
	array->n++;
	return 0;
}
static inline int on_map_item(struct sink *s, struct elem *map, struct elem k, struct elem v)
{
	(void)map;
	s->depth -= (uint8_t)(k.nests + v.nests);
	return 0;
}

#include <msgpack/unpack_define.h>
#include <msgpack/unpack_template.h>

/* The outer array of a body.  Nesting is bounded by the template's own stack; the
 * time by the body's length, because every element takes a byte of it. */
static int body_unpack(const uint8_t *body, size_t bytes, struct unpacker_context *c)
{
	size_t off = 0;

	unpacker_init(c);
	c->user.n_elem = 0;
	c->user.depth = 0;
	c->user.fds_bad = false;
	if (unpacker_execute(c, (const char *)body, bytes, &off) != 1)
		return err_new(-EPROTO);
	if (off != bytes && !MUTANT(40))
		return err_new(-EPROTO);
	if (unpacker_data(c).type != ELEM_ARRAY)
		return err_new(-EPROTO);
	return 0;
}

/* Copies what somebody calls itself, so that it can be shown anywhere. */
static void name_copy(char *to, size_t to_bytes, const struct elem *e)
{
	size_t n = e->n < to_bytes - 1 ? e->n : to_bytes - 1;

	for (size_t i = 0; i < n; i++) {
		char ch = ((const char *)e->bytes)[i];
		to[i] = (ch >= ' ' && ch <= '~') || MUTANT(43) ? ch : '?';
	}
	to[n] = 0;
}

#define GET_uint(f) \
	if (e->type != ELEM_UINT) \
		return err_new(-EPROTO); \
	ret->f = e++->u;
#define GET_int(f) \
	if (e->type != ELEM_UINT) \
		return err_new(-EPROTO); \
	ret->f = (int64_t)e++->u;
#define GET_bin(f) \
	if (e->type != ELEM_BIN) \
		return err_new(-EPROTO); \
	ret->f = e->bytes; \
	ret->f##_bytes = e++->n;
#define GET_str(f) \
	if (e->type != ELEM_STR) \
		return err_new(-EPROTO); \
	name_copy(ret->f, sizeof ret->f, e++);
#define GET_FIELD(kind, f) GET_##kind(f)
#define GET_MORE(kind, f) \
	if (e < end) { \
		GET_##kind(f) \
	} else { \
		ret->f = 0; \
	}

int wire_get_request(const uint8_t *body, size_t bytes, struct wire_request *ret)
{
	struct unpacker_context c;
	const struct elem *e = c.user.elem;

	c.user.fds = NULL;
	int r = body_unpack(body, bytes, &c);
	if (r < 0)
		return err_fwd(r);
	if (c.user.n_elem < 2 || e[0].type != ELEM_UINT || e[1].type != ELEM_UINT)
		return err_new(-EPROTO);
	if (e[0].u >= WIRE_VERB_END || wire_is_mutation((uint32_t)e[0].u) != (e[1].u != 0))
		return err_new(-EPROTO);
	ret->verb = (uint32_t)e[0].u;
	ret->request = e[1].u;
	const struct elem *end = e + (c.user.n_elem < ELEM_MAX ? c.user.n_elem : ELEM_MAX);
	e += 2;
	switch (ret->verb) {
#define GET_VERB(name, number) \
	case WIRE_##name: \
		if (c.user.n_elem < 2 name##_FIELDS(COUNT_FIELD)) \
			return err_new(-EPROTO); \
		name##_FIELDS(GET_FIELD) name##_MORE(GET_MORE) return 0;
		WIRE_VERBS(GET_VERB)
#undef GET_VERB
	default:
		return err_new(-EPROTO);
	}
}

int wire_get_answer(const uint8_t *body, size_t bytes, struct wire_answer *ret)
{
	struct unpacker_context c;
	const struct elem *e = c.user.elem;

	ret->n_fds = 0;
	c.user.fds = ret;
	int r = body_unpack(body, bytes, &c);
	if (r < 0)
		return err_fwd(r);
	if (c.user.n_elem < 3 || e[0].type != ELEM_UINT || e[0].u > UINT32_MAX ||
		e[1].type != ELEM_UINT)
		return err_new(-EPROTO);
	int64_t status = (int64_t)e[2].u;
	if ((e[2].type != ELEM_UINT && e[2].type != ELEM_NEGATIVE) || status > INT32_MAX ||
		status < INT32_MIN || (e[2].type == ELEM_UINT) != (status >= 0))
		return err_new(-EPROTO);
	ret->verb = (uint32_t)e[0].u;
	ret->request = e[1].u;
	ret->status = (int32_t)status;
	e += 3;
	if (ret->verb != WIRE_HELLO) {
		ret->n_fds = 0;
		if (c.user.n_elem < 3 ANSWER_FIELDS(COUNT_FIELD))
			return err_new(-EPROTO);
		ANSWER_FIELDS(GET_FIELD)
		return 0;
	}
	if (status < 0 && c.user.n_elem < 4 ANSWER_HELLO_FIELDS(COUNT_FIELD)) {
		/* refused, perhaps by a daemon of another major: it need not say more */
		*ret = (struct wire_answer){
			.verb = WIRE_HELLO, .request = ret->request, .status = ret->status};
		return 0;
	}
	if (c.user.n_elem < 4 ANSWER_HELLO_FIELDS(COUNT_FIELD))
		return err_new(-EPROTO);
	ANSWER_HELLO_FIELDS(GET_FIELD)
	if (e->type != ELEM_ARRAY || c.user.fds_bad)
		return err_new(-EPROTO);
	return 0;
}
