/* pol_node.c - see pol_node.h. */
#define _GNU_SOURCE
#include "pol_node.h"
#include <errno.h>
#include <stdlib.h>
#include "base/err.h"
#include "late.h"

enum { DIR_FIRST = 16 }; /* chunks in the directory at first */

static uint32_t units_of(uint64_t bytes)
{
	uint64_t units = bytes / SHM_UNIT + (bytes % SHM_UNIT != 0);

	return units > UINT32_MAX ? UINT32_MAX : (uint32_t)units;
}

static int dir_grow(struct pol_nodes *t)
{
	uint32_t n = t->n_dir ? t->n_dir * 2 : DIR_FIRST;
	struct pol_node **chunk = realloc(t->chunk, n * sizeof *chunk);

	if (!chunk)
		return err_new(-ENOMEM);
	t->chunk = chunk;
	t->n_dir = n;
	return 0;
}

static int chunk_add(struct pol_nodes *t)
{
	uint32_t k = t->n_made >> POL_CHUNK_SHIFT;
	int r = k == t->n_dir ? dir_grow(t) : 0;

	if (r < 0)
		return err_fwd(r);
	t->chunk[k] = malloc(POL_CHUNK_NODES * sizeof **t->chunk);
	if (!t->chunk[k])
		return err_new(-ENOMEM);
	if (k == 0) /* node 0 is none */
		*pol_node(t, t->n_made++) = (struct pol_node){0};
	return 0;
}

int pol_node_new(struct pol_nodes *t, uint64_t off, uint64_t bytes, uint32_t extra, uint32_t *ret)
{
	uint32_t i = t->free_node;

	CHECK((off & POL_WORD_LOW) == 0);
	if (i) {
		t->free_node = pol_node(t, i)->next;
	} else {
		if (t->n_made == UINT32_MAX)
			return err_new(-ENOMEM);
		int r = t->n_made % POL_CHUNK_NODES == 0 ? chunk_add(t) : 0;
		if (r < 0)
			return err_fwd(r);
		i = t->n_made++;
	}
	*pol_node(t, i) = (struct pol_node){.word = off, .units = units_of(bytes), .extra = extra};
	*ret = i;
	return 0;
}

void pol_node_free(struct pol_nodes *t, uint32_t i)
{
	*pol_node(t, i) = (struct pol_node){.next = t->free_node};
	t->free_node = i;
}

void pol_node_resize(struct pol_nodes *t, struct pol_list *l, uint32_t i, uint64_t bytes)
{
	struct pol_node *n = pol_node(t, i);

	l->units -= n->units;
	n->units = units_of(bytes);
	l->units += n->units;
}

void pol_list_push(struct pol_nodes *t, struct pol_list *l, uint32_t number, uint32_t i)
{
	struct pol_node *n = pol_node(t, i);

	n->word = (n->word & ~POL_WORD_LIST) | number;
	n->prev = 0;
	n->next = l->newest;
	if (l->newest)
		pol_node(t, l->newest)->prev = i;
	else
		l->oldest = i;
	l->newest = i;
	l->n++;
	l->units += n->units;
}

void pol_list_pull(struct pol_nodes *t, struct pol_list *l, uint32_t i)
{
	struct pol_node *n = pol_node(t, i);

	if (n->prev)
		pol_node(t, n->prev)->next = n->next;
	else
		l->newest = n->next;
	if (n->next)
		pol_node(t, n->next)->prev = n->prev;
	else
		l->oldest = n->prev;
	l->n--;
	l->units -= n->units;
}

void pol_nodes_fini(struct pol_nodes *t)
{
	for (uint32_t k = 0; k << POL_CHUNK_SHIFT < t->n_made; k++)
		late_free(t->chunk[k], POL_CHUNK_NODES * sizeof **t->chunk);
	free(t->chunk);
	*t = (struct pol_nodes){0};
}

uint64_t pol_nodes_bytes(const struct pol_nodes *t)
{
	uint64_t n_chunks = (t->n_made + POL_CHUNK_NODES - 1ull) / POL_CHUNK_NODES;

	return t->n_dir * sizeof *t->chunk + n_chunks * POL_CHUNK_NODES * sizeof(struct pol_node);
}

int pol_list_verify(const struct pol_nodes *t, const struct pol_list *l, uint32_t number)
{
	uint64_t n = 0, units = 0;
	uint32_t before = 0;

	for (uint32_t i = l->newest; i; i = pol_node(t, i)->next) {
		if (i >= t->n_made || n++ > l->n || pol_node(t, i)->prev != before)
			return 1;
		if (pol_node_list(pol_node(t, i)) != number)
			return 2;
		units += pol_node(t, i)->units;
		before = i;
	}
	if (before != l->oldest)
		return 1;
	return n == l->n && units == l->units ? 0 : 2;
}

int pol_nodes_verify(const struct pol_nodes *t, uint64_t n_listed)
{
	uint64_t n_free = 0;

	for (uint32_t i = t->free_node; i; i = pol_node(t, i)->next)
		if (i >= t->n_made || n_free++ > t->n_made || pol_node_list(pol_node(t, i)) != 0)
			return 3;
	return n_free + n_listed + (t->n_made > 0) == t->n_made ? 0 : 3;
}
