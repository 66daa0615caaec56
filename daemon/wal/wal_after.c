/* wal_after.c - what is behind a break: see wal_read_i.h. */
#include "base/err.h"
#include "step.h"
#include "wal_frame.h"
#include "wal_read_i.h"

/* The good frames of one segment from block `from` on. */
static void look_at(const struct wal_chain *c, size_t i, const struct wal_bytes *b, uint32_t from,
	uint64_t sequence, bool all, struct wal_after *a)
{
	const struct wal_link *l = &c->link[i];
	uint32_t end = b->n_blocks < l->cut ? b->n_blocks : l->cut;

	for (uint32_t block = from; block < end;) {
		const struct wal_frame *f = (const void *)(b->at + (uint64_t)block * WAL_BLOCK);
		if (f->magic != WAL_FRAME_MAGIC ||
			wal_frame_check(f, c->identity, l->number, block, end - block) < 0 ||
			f->sequence < sequence ||
			wal_frame_bad_unit(f, c->identity) != f->n_units) {
			block++;
			continue;
		}
		if (!a->any) {
			a->next_sequence = f->sequence;
			a->next_link = i;
			a->next_block = block;
		}
		a->any = true;
		a->next_lsn = a->next_lsn ? a->next_lsn : f->first_lsn;
		a->end_lsn = f->n_records ? f->last_lsn : a->end_lsn;
		a->frames++;
		a->records += f->n_records;
		if (f->durable_sequence > a->durable_sequence)
			a->durable_sequence = f->durable_sequence;
		a->begun |= f->durable_sequence >= f->begin_sequence;
		if (!all && a->durable_sequence >= sequence)
			return;
		block += f->n_blocks;
	}
}

int wal_after_look(const struct wal_chain *c, size_t i, const struct wal_bytes *now, uint32_t from,
	uint64_t sequence, bool all, struct wal_after *ret)
{
	struct wal_after a = {0};
	struct wal_bytes b = {0};
	int r = 0;

	if (now) {
		look_at(c, i, now, from, sequence, all, &a);
		i++;
		from = 0;
	}
	for (; i < c->n && r == 0 && (all || a.durable_sequence < sequence); i++) {
		if (!c->link[i].file)
			continue;
		r = wal_bytes_load(&b, c->link[i].file);
		if (r == 0)
			look_at(c, i, &b, from, sequence, all, &a);
		from = 0;
	}
	wal_bytes_free(&b);
	if (r < 0)
		return err_fwd(r);
	*ret = a;
	return 0;
}
