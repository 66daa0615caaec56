/* eng_held.c - since when clients hold what they hold, for `hypercache clients`.
 *
 * A reader says no time when it takes a view: its way is short.  Instead a part of each tick looks at the views' pins, and
 * remembers of each cell what it held and when that was seen first.  The oldest of a session goes into the header of its
 * segment, where tools find it (l_client.h, held_since_ns), also when the engine hangs.
 *
 *   too short   by the time between two looks: a tick, or more when all clients have more than ENG_HELD_BLOCKS blocks in
 *               use; and nothing is known from before this engine
 *   too long    never, but for one thing: a view that is given back, and taken of the same entry into the same cell before
 *               the next look, counts as one
 *
 * Every byte of the segment is hostile: cells are only compared (P14), and what is remembered is bounded by the blocks that the
 * session has.
 */
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>
#include "eng.h"
#include "step.h"

#define DECISECOND_NS 100000000ull

/* One cell of a block: what it held, shortened, and when that was seen first.  0: nothing. */
struct cell {
	uint32_t print, since_ds; /* tenths of seconds since the engine's clock began */
};
struct eng_held {
	struct cell cell[SHM_BLOCK_PINS - SHM_PIN_VIEW];
};

static uint32_t print_of(uint64_t pin)
{
	uint64_t mixed = pin * 0x9e3779b97f4a7c15ull;

	return (uint32_t)(mixed >> 32) | 1;
}

/* Looks at one block.  The oldest of its views; 0: it has none. */
static uint32_t block_look(
	struct eng_held *h, const struct shm_block *b, uint64_t gen, uint32_t now_ds)
{
	uint32_t oldest = 0;

	for (uint32_t i = 0; i < SHM_BLOCK_PINS - SHM_PIN_VIEW; i++) {
		uint64_t pin = shm_load_rlx(&b->pin[SHM_PIN_VIEW + i]);
		struct cell *c = &h->cell[i];
		if (shm_word_off(pin) == 0 || shm_word_top(pin) != gen) {
			c->print = 0;
			continue;
		}
		if (c->print != print_of(pin) || MUTANT(806)) /* 806: each look is the first */
			*c = (struct cell){print_of(pin), now_ds};
		if (oldest == 0 || c->since_ds < oldest)
			oldest = c->since_ds;
	}
	return oldest;
}

/* For people: a client that writes another time there shows that. */
static void tell(struct eng_session *s, uint32_t since_ds, uint32_t now_ds)
{
	uint64_t since_ns = since_ds ? eng_wall_ns() - (now_ds - since_ds) * DECISECOND_NS : 0;

	if (s->held_told_ds == since_ds)
		return;
	if (pwrite(s->memfd, &since_ns, sizeof since_ns,
		    offsetof(struct shm_client, held_since_ns)) == (ssize_t)sizeof since_ns)
		s->held_told_ds = since_ds;
}

/* Returns how many blocks were looked at. */
static uint32_t session_look(struct eng_session *s, uint32_t now_ds)
{
	const struct shm_block *b = (const struct shm_block *)(const void *)(s->seg + 1);
	uint64_t gen = shm_load_rlx(&s->e->ctl->pin_gen[s->slot]) & 0xffff;
	uint32_t used = shm_load32_acq(&s->seg->blocks_used), oldest = 0; /* acq:client.blocks */

	if (used > s->n_blocks)
		used = s->n_blocks;
	if (used > s->n_held) {
		struct eng_held *h = realloc(s->held, used * sizeof *h);
		if (!h)
			return used; /* it is not told */
		memset(h + s->n_held, 0, (used - s->n_held) * sizeof *h);
		s->held = h;
		s->n_held = used;
	}
	for (uint32_t i = 0; i < used; i++) {
		uint32_t since = block_look(&s->held[i], &b[i], gen, now_ds);
		if (since && (oldest == 0 || since < oldest))
			oldest = since;
	}
	tell(s, oldest, now_ds);
	return used;
}

void eng_held_tick(struct eng *e)
{
	uint32_t now_ds = (uint32_t)(e->now_ns / DECISECOND_NS) + 1, looked = 0;

	for (uint32_t i = 0; i < e->n_scan && looked < ENG_HELD_BLOCKS; i++) {
		struct eng_session *s = &e->session[e->scan_slot[e->held_scan++ % e->n_scan]];
		looked += 1 + (s->state == ENG_SESSION_LIVE ? session_look(s, now_ds) : 0);
	}
}

void eng_held_end(struct eng_session *s)
{
	free(s->held);
	s->held = NULL;
	s->n_held = s->held_told_ds = 0;
}
