/* wal_io_loop.c - the log's writes through the engine's loop: see wal_io.h. */
#include <errno.h>
#include <stdlib.h>
#include "../eng_loop.h"
#include "base/check.h"
#include "base/err.h"
#include "wal_format.h"
#include "wal_io.h"

struct io_loop_write {
	struct eng_wait wait;
	struct wal_io_write *w; /* who waits */
};

struct io_loop {
	struct wal_io io;
	struct eng_loop *l;
	struct io_loop_write write[WAL_WRITES_MAX];
};

static void on_done(void *arg, int result)
{
	struct io_loop_write *x = arg;
	struct wal_io_write *w = x->w;

	w->armed = false;
	w->done(w->arg, result);
}

static void io_write(struct wal_io *io, int fd, uint64_t off, const void *from, uint32_t bytes,
	struct wal_io_write *w)
{
	struct io_loop *il = (struct io_loop *)io;
	int i = 0;

	while (i < WAL_WRITES_MAX && il->write[i].wait.armed)
		i++;
	CHECK(i < WAL_WRITES_MAX && !w->armed);
	struct io_loop_write *x = &il->write[i];
	x->w = w;
	w->armed = true;
	x->wait = (struct eng_wait){.done = on_done, .arg = x};
	eng_loop_write(il->l, fd, from, bytes, off, &x->wait);
}

int wal_io_loop_new(struct eng_loop *l, void *stage, size_t stage_bytes, struct wal_io **ret)
{
	struct io_loop *il = calloc(1, sizeof *il);

	if (!il)
		return err_new(-ENOMEM);
	il->io.write = io_write;
	il->l = l;
	int r = eng_loop_writes(l, stage, stage_bytes, &il->io.how);
	if (r < 0) {
		free(il);
		return err_fwd(r);
	}
	*ret = &il->io;
	return 0;
}

void wal_io_loop_free(struct wal_io *io)
{
	struct io_loop *il = (struct io_loop *)io;

	for (int i = 0; il && i < WAL_WRITES_MAX; i++)
		CHECK(!il->write[i].wait.armed);
	free(il);
}
