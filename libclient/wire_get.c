/* wire_get.c - the codec of wire.h: frames cut and decoded.  wire.c makes them.
 *
 * msgpack-c's unpacking template is instantiated a second time, with callbacks that keep the first
 * elements of the outer array, take the lists that are asked for (descriptors, a batch's items and
 * their answers) as they come by, and make nothing.
 */
#define NDEBUG /* the template asserts what its caller guarantees; a library aborts nobody */
#include "wire.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <msgpack.h>

#include "base/err.h"
#include "step.h"
#include "wire_i.h"

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
	uint32_t n_elem;            /* of the outer array, counting those that were not kept */
	uint8_t depth;              /* containers that are open */
	bool list_bad;              /* a list inside is not as it has to be */
	struct wire_answer *answer; /* takes the lists of an answer; NULL: it is no answer */
	struct wire_request *item;  /* takes those of a batch; NULL: there is no room */
	uint32_t n_items;
	struct elem sub[ELEM_MAX]; /* of the item that is under way */
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

/* Is the list at element s->n_elem one that is looked into? */
static bool verb_is(const struct sink *s, uint32_t verb)
{
	return s->elem[0].type == ELEM_UINT && s->elem[0].u == verb;
}
static bool is_fds(const struct sink *s)
{
	return s->answer && s->n_elem == HELLO_FDS_ELEM && verb_is(s, WIRE_HELLO);
}
static bool is_batch(const struct sink *s)
{
	return s->n_elem == (s->answer ? BATCH_ANSWER_ELEM : BATCH_ELEM) && verb_is(s, WIRE_BATCH);
}

/* A triple [kind, pool_idx, region_idx] of the descriptors' list stands in s->sub.  0 or -EPROTO. */
static int fd_take(struct sink *s, uint32_t n)
{
	struct wire_answer *a = s->answer;

	if (n < 3 || a->n_fds >= WIRE_FDS_MAX)
		return -EPROTO;
	for (int i = 0; i < 3; i++)
		if (s->sub[i].type != ELEM_UINT || s->sub[i].u > UINT32_MAX)
			return -EPROTO;
	a->fd[a->n_fds++] = (struct wire_fd){
		(uint32_t)s->sub[0].u, (uint32_t)s->sub[1].u, (uint32_t)s->sub[2].u};
	return 0;
}

static int fields_get(const struct elem *e, const struct elem *end, struct wire_request *ret);
static int status_get(const struct elem *e, int32_t *ret);

/* A request of a batch stands in s->sub.  0 or -EPROTO. */
static int item_take(struct sink *s, uint32_t n)
{
	if (!s->item || s->n_items >= WIRE_BATCH_MAX || n < 1)
		return -EPROTO;
	if (s->sub[0].type != ELEM_UINT || s->sub[0].u >= WIRE_VERB_END ||
		!wire_is_item((uint32_t)s->sub[0].u))
		return -EPROTO;
	struct wire_request *r = &s->item[s->n_items++];
	r->verb = (uint32_t)s->sub[0].u;
	return fields_get(s->sub + 1, s->sub + (n < ELEM_MAX ? n : ELEM_MAX), r);
}

/* An item's answer stands in s->sub.  0 or -EPROTO. */
static int item_answer_take(struct sink *s, uint32_t n)
{
	struct wire_answer *a = s->answer;
	const struct elem *e = s->sub;
	int32_t status = 0;

	if (n < 4 || a->n_items >= WIRE_BATCH_MAX || status_get(&e[1], &status) < 0)
		return -EPROTO;
	if (e[0].type != ELEM_UINT || e[0].u >= WIRE_BATCH_MAX || e[2].type != ELEM_UINT ||
		e[3].type != ELEM_UINT)
		return -EPROTO;
	a->item[a->n_items++] = (struct wire_item){
		.idx = (uint32_t)e[0].u, .status = status, .lsn = e[2].u, .value = e[3].u};
	return 0;
}

/* An element of a list inside the outer array. */
static void list_take(struct sink *s, const struct elem *o)
{
	int r = 0;

	if (!is_fds(s) && !is_batch(s))
		return;
	if (o->type != ELEM_ARRAY)
		r = -EPROTO;
	else if (is_fds(s))
		r = fd_take(s, o->n);
	else
		r = s->answer ? item_answer_take(s, o->n) : item_take(s, o->n);
	s->list_bad |= r < 0;
}

static inline int on_array_item(struct sink *s, struct elem *array, struct elem o)
{
	s->depth -= o.nests;
	if (array->depth == 0) {
		if (s->n_elem < ELEM_MAX)
			s->elem[s->n_elem] = o;
		s->n_elem++;
	} else if (array->depth == 1) {
		list_take(s, &o);
	} else if (array->depth == 2 && array->n < ELEM_MAX) {
		s->sub[array->n] = o;
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
	c->user.list_bad = false;
	c->user.n_items = 0;
	if (unpacker_execute(c, (const char *)body, bytes, &off) != 1)
		return err_new(-EPROTO);
	if (off != bytes && !MUTANT(40))
		return err_new(-EPROTO);
	if (unpacker_data(c).type != ELEM_ARRAY || c->user.list_bad)
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

/* The arguments from e on.  0 or -EPROTO. */
static int fields_get(const struct elem *e, const struct elem *end, struct wire_request *ret)
{
	switch (ret->verb) {
#define GET_VERB(name, number) \
	case WIRE_##name: \
		if (end - e < 0 name##_FIELDS(COUNT_FIELD)) \
			return err_new(-EPROTO); \
		name##_FIELDS(GET_FIELD) name##_MORE(GET_MORE) return 0;
		WIRE_VERBS(GET_VERB)
#undef GET_VERB
	default:
		return err_new(-EPROTO);
	}
}

/* The items of a batch have been decoded: numbers them.  0 or -EPROTO. */
static int batch_get(struct sink *s, struct wire_request *ret)
{
	if (s->n_elem <= BATCH_ELEM || s->elem[BATCH_ELEM].type != ELEM_ARRAY || s->n_items == 0 ||
		ret->request > UINT64_MAX - s->n_items)
		return err_new(-EPROTO);
	ret->n_items = s->n_items;
	for (uint32_t i = 0; i < s->n_items; i++)
		ret->item[i].request = ret->request +
		                       (MUTANT(507) ? 0 : i); /* 507: one number for all */
	return 0;
}

int wire_get_requests(
	const uint8_t *body, size_t bytes, struct wire_request *ret, struct wire_request *item)
{
	struct unpacker_context c;
	const struct elem *e = c.user.elem;

	c.user.answer = NULL;
	c.user.item = ret->item = item;
	int r = body_unpack(body, bytes, &c);
	if (r < 0)
		return err_fwd(r);
	uint32_t n = c.user.n_elem;
	if (n < 2 || e[0].type != ELEM_UINT || e[1].type != ELEM_UINT)
		return err_new(-EPROTO);
	if (e[0].u >= WIRE_VERB_END || wire_is_mutation((uint32_t)e[0].u) != (e[1].u != 0))
		return err_new(-EPROTO);
	ret->verb = (uint32_t)e[0].u;
	ret->request = e[1].u;
	ret->n_items = 0;
	r = fields_get(e + 2, e + (n < ELEM_MAX ? n : ELEM_MAX), ret);
	if (r == 0 && ret->verb == WIRE_BATCH)
		r = batch_get(&c.user, ret);
	return err_fwd(r);
}

int wire_get_request(const uint8_t *body, size_t bytes, struct wire_request *ret)
{
	return wire_get_requests(body, bytes, ret, NULL);
}

/* A status, in any encoding that holds it.  0 or -EPROTO. */
static int status_get(const struct elem *e, int32_t *ret)
{
	int64_t status = (int64_t)e->u;

	if ((e->type != ELEM_UINT && e->type != ELEM_NEGATIVE) || status > INT32_MAX ||
		status < INT32_MIN || (e->type == ELEM_UINT) != (status >= 0))
		return err_new(-EPROTO);
	*ret = (int32_t)status;
	return 0;
}

/* The items' answers have been decoded.  0 or -EPROTO: not in order, or of more than there are. */
static int batch_answer_get(const struct sink *s, const struct wire_answer *ret)
{
	if (s->n_elem <= BATCH_ANSWER_ELEM || s->elem[BATCH_ANSWER_ELEM].type != ELEM_ARRAY ||
		ret->value > WIRE_BATCH_MAX)
		return err_new(-EPROTO);
	for (uint32_t i = 0; i < ret->n_items; i++)
		if (ret->item[i].idx >= ret->value ||
			(i && ret->item[i].idx <= ret->item[i - 1].idx))
			return err_new(-EPROTO);
	return 0;
}

int wire_get_answer(const uint8_t *body, size_t bytes, struct wire_answer *ret)
{
	struct unpacker_context c;
	const struct elem *e = c.user.elem;

	ret->n_fds = ret->n_items = 0;
	c.user.answer = ret;
	c.user.item = NULL;
	int r = body_unpack(body, bytes, &c);
	if (r < 0)
		return err_fwd(r);
	if (c.user.n_elem < 3 || e[0].type != ELEM_UINT || e[0].u > UINT32_MAX ||
		e[1].type != ELEM_UINT || status_get(&e[2], &ret->status) < 0)
		return err_new(-EPROTO);
	ret->verb = (uint32_t)e[0].u;
	ret->request = e[1].u;
	e += 3;
	if (ret->verb != WIRE_HELLO) {
		ret->n_fds = 0;
		if (c.user.n_elem < 3 ANSWER_FIELDS(COUNT_FIELD))
			return err_new(-EPROTO);
		ANSWER_FIELDS(GET_FIELD)
		return ret->verb == WIRE_BATCH ? err_fwd(batch_answer_get(&c.user, ret)) : 0;
	}
	if (ret->status < 0 && c.user.n_elem < 4 ANSWER_HELLO_FIELDS(COUNT_FIELD)) {
		/* refused, perhaps by a daemon of another major: it need not say more */
		*ret = (struct wire_answer){
			.verb = WIRE_HELLO, .request = ret->request, .status = ret->status};
		return 0;
	}
	if (c.user.n_elem < 4 ANSWER_HELLO_FIELDS(COUNT_FIELD))
		return err_new(-EPROTO);
	ANSWER_HELLO_FIELDS(GET_FIELD)
	return e->type == ELEM_ARRAY ? 0 : err_new(-EPROTO);
}
