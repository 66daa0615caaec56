/* pol_days.c - see pol_days.h. */
#define _GNU_SOURCE
#include "pol_days.h"
#include <stdbool.h>

enum { LIST = 1, WORDS = POL_DAYS / 64 };

void pol_days_init(struct pol_days *d, uint64_t day_ms)
{
	CHECK(day_ms > 0);
	*d = (struct pol_days){.day_ms = day_ms};
}

static uint32_t place_of(uint64_t number) { return (uint32_t)(number % POL_DAYS); }
static bool is_used(const struct pol_days *d, uint32_t at)
{
	return d->used[at / 64] >> at % 64 & 1;
}
static void mark(struct pol_days *d, uint32_t at) { d->used[at / 64] |= 1ull << at % 64; }
static void unmark(struct pol_days *d, uint32_t at) { d->used[at / 64] &= ~(1ull << at % 64); }

static uint64_t number_of(const struct pol_days *d, uint64_t time_ms)
{
	uint64_t number = time_ms / d->day_ms;

	return number < d->first ? d->first : number;
}

/* The first place at or behind `from` that is used, round the ring; POL_DAYS: there is none. */
static uint32_t first_used(const struct pol_days *d, uint32_t from)
{
	uint64_t word = d->used[from / 64] >> from % 64;

	if (word)
		return from + (uint32_t)__builtin_ctzll(word);
	for (uint32_t k = 1; k <= WORDS; k++) {
		uint32_t w = (from / 64 + k) % WORDS;
		if (d->used[w])
			return w * 64 + (uint32_t)__builtin_ctzll(d->used[w]);
	}
	return POL_DAYS;
}

/* What is older comes behind what is in `to`. */
static void append(const struct pol_nodes *t, struct pol_list *to, const struct pol_list *older)
{
	if (to->n == 0) {
		*to = *older;
		return;
	}
	pol_node(t, to->oldest)->next = older->newest;
	pol_node(t, older->newest)->prev = to->oldest;
	to->oldest = older->oldest;
	to->n += older->n;
	to->units += older->units;
}

/* The ring begins with this day; what is older joins it. */
static void begin_with(struct pol_days *d, const struct pol_nodes *t, uint64_t first)
{
	uint64_t end = first < d->first + POL_DAYS ? first + 1 : d->first + POL_DAYS;
	struct pol_list all = {0};

	for (uint64_t number = end; number-- > d->first;) { /* the youngest first */
		uint32_t at = place_of(number);
		if (!is_used(d, at))
			continue;
		append(t, &all, &d->day[at]);
		d->day[at] = (struct pol_list){0};
		unmark(d, at);
	}
	d->first = first;
	if (all.n == 0)
		return;
	d->day[place_of(first)] = all;
	mark(d, place_of(first));
}

void pol_days_push(struct pol_days *d, struct pol_nodes *t, uint32_t i, uint64_t time_ms)
{
	uint64_t number = number_of(d, time_ms);

	if (number >= d->first + POL_DAYS)
		begin_with(d, t, number - POL_DAYS + 1);
	pol_list_push(t, &d->day[place_of(number)], LIST, i);
	mark(d, place_of(number));
	d->n++;
	d->units += pol_node(t, i)->units;
}

void pol_days_pull(struct pol_days *d, struct pol_nodes *t, uint32_t i, uint64_t time_ms)
{
	uint32_t at = place_of(number_of(d, time_ms));

	d->n--;
	d->units -= pol_node(t, i)->units;
	pol_list_pull(t, &d->day[at], i);
	if (d->day[at].n == 0)
		unmark(d, at);
}

void pol_days_resize(
	struct pol_days *d, struct pol_nodes *t, uint32_t i, uint64_t time_ms, uint64_t bytes)
{
	d->units -= pol_node(t, i)->units;
	pol_node_resize(t, &d->day[place_of(number_of(d, time_ms))], i, bytes);
	d->units += pol_node(t, i)->units;
}

uint32_t pol_days_oldest(const struct pol_days *d)
{
	uint32_t at = first_used(d, place_of(d->first));

	return at == POL_DAYS ? 0 : d->day[at].oldest;
}

int pol_days_verify(const struct pol_days *d, const struct pol_nodes *t,
	uint64_t (*time_of)(const void *arg, uint32_t i), const void *arg)
{
	uint64_t n = 0, units = 0;

	for (uint32_t at = 0; at < POL_DAYS; at++) {
		const struct pol_list *l = &d->day[at];
		int r = pol_list_verify(t, l, LIST);
		if (r)
			return r;
		if (is_used(d, at) != (l->n > 0))
			return 5;
		for (uint32_t i = l->newest; i; i = pol_node(t, i)->next)
			if (place_of(number_of(d, time_of(arg, i))) != at)
				return 5;
		n += l->n;
		units += l->units;
	}
	return n == d->n && units == d->units ? 0 : 2;
}
