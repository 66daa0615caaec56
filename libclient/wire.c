/* wire.c - the codec of wire.h: buffers, and frames that are made.  wire_get.c decodes.
 *
 * The bytes are msgpack-c's: its packing template is instantiated here a second time, packing into
 * memory that has been reserved.  So a frame costs no allocation and no indirect call.
 */
#define NDEBUG /* the template asserts what its caller guarantees; a library aborts nobody */
#include "wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <msgpack.h>

#include "base/err.h"
#include "wire_i.h"

enum { BUF_BYTES_MIN = 4096 };
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
/* Arguments that may be left out: n counts them, last is the number up to the last one that is not 0. */
#define COUNT_MORE(kind, f) \
	n++; \
	last = r->f ? n : last;
#define PACK_MORE(kind, f) \
	if (n++ < count) { \
		PACK_##kind(f) \
	}

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

static bool verb_exists(uint64_t verb)
{
#define OR_VERB(name, number) || verb == (number)
	return false WIRE_VERBS(OR_VERB);
#undef OR_VERB
}

/* Largest encoding of a request's arguments. */
static uint64_t fields_bound(const struct wire_request *r)
{
	switch (r->verb) {
#define BOUND_VERB(name, number) \
	case WIRE_##name: \
		return 0 name##_FIELDS(BOUND_FIELD) name##_MORE(BOUND_FIELD);
		WIRE_VERBS(BOUND_VERB)
#undef BOUND_VERB
	default:
		return 0;
	}
}

/* How many arguments go out: of those that may be left out the ones behind the last that is not 0 are. */
static unsigned fields_count(const struct wire_request *r)
{
	unsigned n = 0, last = 0;

	switch (r->verb) {
#define COUNT_VERB(name, number) \
	case WIRE_##name: \
		name##_MORE(COUNT_MORE)(void) n; \
		return last + 0 name##_FIELDS(COUNT_FIELD);
		WIRE_VERBS(COUNT_VERB)
#undef COUNT_VERB
	default:
		return 0;
	}
}

static void fields_put(struct packer *to, const struct wire_request *r, unsigned count)
{
	struct packer p = *to;
	unsigned n = 0;

	switch (r->verb) {
#define PUT_VERB(name, number) \
	case WIRE_##name: \
		name##_FIELDS(PACK_FIELD) n = 0 name##_FIELDS(COUNT_FIELD); \
		name##_MORE(PACK_MORE)(void) n; \
		break;
		WIRE_VERBS(PUT_VERB)
#undef PUT_VERB
	default:
		break;
	}
	*to = p;
}

static bool request_is_sound(const struct wire_request *r)
{
	return r->key_bytes <= UINT32_MAX && r->value_bytes <= UINT32_MAX;
}

static int batch_put(struct wire_buf *b, const struct wire_request *r)
{
	struct wire_batch w;
	int e = r->n_items ? wire_batch_begin(b, r->request, (uint32_t)r->how, &w) : -EINVAL;

	for (uint32_t i = 0; i < r->n_items && e == 0; i++)
		e = wire_batch_add(&w, &r->item[i], UINT32_MAX);
	if (e == 0)
		wire_batch_end(&w);
	else if (r->n_items)
		wire_batch_cancel(&w);
	return e > 0 ? err_new(-EINVAL) : err_fwd(e);
}

int wire_put_request(struct wire_buf *b, const struct wire_request *r)
{
	unsigned count = fields_count(r);
	struct packer p = {0};

	if (r->verb == WIRE_BATCH)
		return err_fwd(batch_put(b, r));
	if (!verb_exists(r->verb))
		return err_new(-EINVAL);
	if (!request_is_sound(r))
		return err_new(-EMSGSIZE);
	int e = frame_begin(b, 1 + 2 * INT_BYTES + fields_bound(r), &p);
	if (e < 0)
		return err_fwd(e);
	pack_array(&p, 2 + count);
	pack_uint32(&p, r->verb);
	pack_uint64(&p, r->request);
	fields_put(&p, r, count);
	frame_end(b, &p);
	return 0;
}

int wire_batch_begin(struct wire_buf *b, uint64_t request, uint32_t how, struct wire_batch *ret)
{
	struct packer p = {0};
	int e = frame_begin(b, 1 + 3 * INT_BYTES + BATCH_COUNT_BYTES, &p);

	if (e < 0)
		return err_fwd(e);
	*ret = (struct wire_batch){.b = b, .frame_off = b->end - b->begin};
	pack_array(&p, 4);
	pack_uint32(&p, WIRE_BATCH);
	pack_uint64(&p, request);
	pack_uint32(&p, how);
	ret->count_off = (size_t)(p.at - b->bytes) - b->begin; /* filled in at the end */
	b->end = b->begin + ret->count_off + BATCH_COUNT_BYTES;
	return 0;
}

static uint64_t item_bound(const struct wire_request *item)
{
	return 1 + INT_BYTES + fields_bound(item);
}

int wire_item_put(struct wire_buf *b, const struct wire_request *item)
{
	unsigned count = fields_count(item);
	uint64_t bound = item_bound(item);

	if (!wire_is_mutation(item->verb) || item->verb == WIRE_BATCH)
		return err_new(-EINVAL);
	if (!request_is_sound(item) || bound > UINT32_MAX)
		return err_new(-EMSGSIZE);
	int e = wire_buf_reserve(b, (size_t)bound);
	if (e < 0)
		return err_fwd(e);
	struct packer p = {.at = b->bytes + b->end};
	pack_array(&p, 1 + count);
	pack_uint32(&p, item->verb);
	fields_put(&p, item, count);
	b->end = (size_t)(p.at - b->bytes);
	return 0;
}

uint32_t wire_item_verb(const uint8_t *item) { return ITEM_VERB(item); }

int wire_put_item(struct wire_buf *b, uint64_t request, const uint8_t *item, size_t n)
{
	struct packer p = {0};
	int e = frame_begin(b, n + INT_BYTES, &p);

	if (e < 0)
		return err_fwd(e);
	pack_array(&p, ITEM_ELEMS(item) + 1);
	pack_uint32(&p, ITEM_VERB(item));
	pack_uint64(&p, request);
	pack_bytes(&p, item + ITEM_HEAD_BYTES, n - ITEM_HEAD_BYTES);
	frame_end(b, &p);
	return 0;
}

/* May so many bytes more be added? */
static bool batch_has_room(const struct wire_batch *w, uint64_t bytes, size_t max_body)
{
	size_t body = w->b->end - w->b->begin - w->frame_off - HEAD_BYTES;

	return w->n < WIRE_BATCH_MAX && body <= max_body && bytes <= max_body - body;
}

int wire_batch_add(struct wire_batch *w, const struct wire_request *item, size_t max_body)
{
	if (!wire_is_item(item->verb))
		return err_new(-EINVAL);
	if (!request_is_sound(item) || !batch_has_room(w, item_bound(item), max_body))
		return WIRE_BATCH_FULL;
	int e = wire_item_put(w->b, item);
	if (e < 0)
		return err_fwd(e);
	w->n++;
	return 0;
}

int wire_batch_add_item(struct wire_batch *w, const uint8_t *item, size_t n, size_t max_body)
{
	struct wire_buf *b = w->b;

	if (!batch_has_room(w, n, max_body))
		return WIRE_BATCH_FULL;
	int e = wire_buf_reserve(b, n);
	if (e < 0)
		return err_fwd(e);
	memcpy(b->bytes + b->end, item, n);
	b->end += n;
	w->n++;
	return 0;
}

void wire_batch_end(struct wire_batch *w)
{
	struct wire_buf *b = w->b;
	struct packer p = {.at = b->bytes + b->end};
	uint8_t *count = b->bytes + b->begin + w->count_off;

	count[0] = 0xdc; /* array of 16 bits */
	count[1] = (uint8_t)(w->n >> 8);
	count[2] = (uint8_t)w->n;
	b->end = b->begin + w->frame_off;
	frame_end(b, &p);
}

void wire_batch_cancel(struct wire_batch *w) { w->b->end = w->b->begin + w->frame_off; }

static void items_put(struct packer *to, const struct wire_answer *r)
{
	struct packer p = *to;

	pack_array(&p, r->n_items);
	for (uint32_t i = 0; i < r->n_items; i++) {
		pack_array(&p, 4);
		pack_uint32(&p, r->item[i].idx);
		pack_int32(&p, r->item[i].status);
		pack_uint64(&p, r->item[i].lsn);
		pack_uint64(&p, r->item[i].value);
	}
	*to = p;
}

int wire_put_answer(struct wire_buf *b, const struct wire_answer *r)
{
	struct packer p = {0};
	bool hello = r->verb == WIRE_HELLO, batch = r->verb == WIRE_BATCH;

	if (r->n_fds > WIRE_FDS_MAX || (batch && r->n_items > WIRE_BATCH_MAX))
		return err_new(-EINVAL);
	uint64_t bound = ELEM_MAX * INT_BYTES + r->n_fds * (1 + 3 * INT_BYTES);
	if (batch)
		bound += r->n_items * (1 + 4 * INT_BYTES);
	int e = frame_begin(b, bound, &p);
	if (e < 0)
		return err_fwd(e);
	if (hello)
		pack_array(&p, 4 ANSWER_HELLO_FIELDS(COUNT_FIELD));
	else
		pack_array(&p, 3 + batch ANSWER_FIELDS(COUNT_FIELD));
	pack_uint32(&p, r->verb);
	pack_uint64(&p, r->request);
	pack_int32(&p, r->status);
	if (!hello) {
		ANSWER_FIELDS(PACK_FIELD)
		if (batch)
			items_put(&p, r);
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
