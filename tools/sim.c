/* sim.c - see sim.h.
 *
 * A table of all objects ever seen, open addressing; the place of an object in it, times 16, is the
 * offset that the policy is told.
 */
#include "sim.h"
#include <errno.h>
#include <stdlib.h>
#include "base/check.h"
#include "base/err.h"
#include "layout/l_base.h"

enum { OBJECTS_FIRST = 1 << 12, ITEM_BYTES = 80 }; /* a header and a short key */

struct object {
	uint64_t number; /* plus 1; 0: the place is free */
	uint32_t at;     /* its place in `entry`, plus 1; 0: it is not cached */
};

struct entry {
	uint64_t number;
	uint64_t units;
	uint32_t node; /* POL_NONE: free, and units is the next free one */
};

struct sim {
	struct pol *pol;
	bool by_bytes;
	uint64_t limit;
	struct object *object;
	uint64_t n_places; /* of `object`: a power of two */
	struct entry *entry;
	uint64_t n_entries, free_entry; /* places of `entry`; the first free one plus 1 */
	struct sim_result sum;
};

/* splitmix64's mixer (Steele, Lea, Flood 2014). */
static uint64_t mix(uint64_t z)
{
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

void sim_free(struct sim *s)
{
	if (!s)
		return;
	if (s->pol)
		s->pol->ops->free(s->pol);
	free(s->object);
	free(s->entry);
	free(s);
}

int sim_new(const struct pol_ops *ops, uint64_t limit, bool by_bytes, struct sim **ret)
{
	struct sim *s = calloc(1, sizeof *s);

	CHECK(limit > 0);
	if (!s)
		return err_new(-ENOMEM);
	s->limit = limit;
	s->by_bytes = by_bytes;
	s->n_places = OBJECTS_FIRST;
	s->object = calloc(s->n_places, sizeof *s->object);
	int r = s->object ? ops->new (ops, limit * SHM_UNIT, NULL, &s->pol) : -ENOMEM;
	if (r < 0) {
		sim_free(s);
		return err_fwd(r);
	}
	s->pol->pressed = true; /* something has to go, always */
	*ret = s;
	return 0;
}

static struct object *place_of(struct object *table, uint64_t n_places, uint64_t number)
{
	uint64_t i = mix(number) & (n_places - 1);

	while (table[i].number && table[i].number != number + 1)
		i = (i + 1) & (n_places - 1);
	return &table[i];
}

static int objects_grow(struct sim *s)
{
	uint64_t n = s->n_places * 2;
	struct object *table = calloc(n, sizeof *table);

	if (!table)
		return err_new(-ENOMEM);
	for (uint64_t i = 0; i < s->n_places; i++)
		if (s->object[i].number)
			*place_of(table, n, s->object[i].number - 1) = s->object[i];
	free(s->object);
	s->object = table;
	s->n_places = n;
	return 0;
}

/* The object's, made at its first request; NULL: no memory. */
static struct object *object_of(struct sim *s, uint64_t number)
{
	struct object *o = place_of(s->object, s->n_places, number);

	if (o->number)
		return o;
	if (s->sum.objects >= s->n_places / 4 * 3) {
		if (objects_grow(s) < 0)
			return NULL;
		o = place_of(s->object, s->n_places, number);
	}
	o->number = number + 1;
	s->sum.objects++;
	return o;
}

static int entry_new(struct sim *s, uint64_t *ret)
{
	if (s->free_entry) {
		*ret = s->free_entry - 1;
		s->free_entry = s->entry[*ret].units;
		return 0;
	}
	if ((s->n_entries & (s->n_entries - 1)) == 0) { /* the array doubles */
		uint64_t n = s->n_entries ? s->n_entries * 2 : 1;
		struct entry *e = n < UINT32_MAX ? realloc(s->entry, n * sizeof *e) : NULL;
		if (!e)
			return err_new(-ENOMEM);
		s->entry = e;
	}
	*ret = s->n_entries++;
	return 0;
}

static void evict_one(struct sim *s, uint64_t now_ms)
{
	uint64_t off = 0;

	CHECK(s->pol->ops->victim(s->pol, now_ms, &off) == 0);
	CHECK(off / SHM_UNIT < s->n_entries);
	struct entry *e = &s->entry[off / SHM_UNIT];
	CHECK(e->node != POL_NONE);
	s->pol->ops->remove(s->pol, e->node, 1);
	place_of(s->object, s->n_places, e->number)->at = 0;
	s->sum.units -= e->units;
	s->sum.entries--;
	*e = (struct entry){.units = s->free_entry};
	s->free_entry = off / SHM_UNIT + 1;
}

static int insert(struct sim *s, struct object *o, uint64_t units, uint64_t now_ms)
{
	uint64_t number = o->number - 1, at = 0;
	uint32_t node = POL_NONE;

	while (s->sum.units + units > s->limit)
		evict_one(s, now_ms);
	int r = entry_new(s, &at);
	if (r == 0)
		r = s->pol->ops->insert(
			s->pol, mix(number + 1), at * SHM_UNIT, units * SHM_UNIT, now_ms, &node);
	if (r < 0)
		return err_fwd(r);
	s->entry[at] = (struct entry){.number = number, .units = units, .node = node};
	o->at = (uint32_t)at + 1;
	s->sum.units += units;
	s->sum.entries++;
	return 1;
}

int sim_request(struct sim *s, uint64_t object, uint32_t value_bytes, uint64_t time_s)
{
	struct object *o = object_of(s, object);
	uint64_t units = s->by_bytes
	                         ? (ITEM_BYTES + (uint64_t)value_bytes + SHM_UNIT - 1) / SHM_UNIT
	                         : 1;

	if (!o)
		return err_new(-ENOMEM);
	s->sum.requests++;
	s->sum.request_bytes += value_bytes;
	if (o->at) {
		s->pol->ops->touch(s->pol, s->entry[o->at - 1].node, time_s * 1000);
		return 0;
	}
	s->sum.misses++;
	s->sum.miss_bytes += value_bytes;
	if (units > s->limit) {
		s->sum.refused++;
		return 1;
	}
	return insert(s, o, units, time_s * 1000);
}

void sim_result(const struct sim *s, struct sim_result *ret)
{
	struct pol_stats st;

	s->pol->ops->stats(s->pol, &st);
	*ret = s->sum;
	ret->policy_bytes = st.private_bytes;
}

int sim_verify(const struct sim *s) { return s->pol->ops->verify(s->pol); }
