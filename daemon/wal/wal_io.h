/* wal_io.h - all that the log knows of a disk: start a write, be called when it is durable or has failed.
 *
 *   wal_io_write(io, fd, off, from, bytes, &w)  ...  w.done(w.arg, bytes, or fewer, or -errno)
 *
 * Implementations:
 *   wal_io_loop.c         the engine's own loop (eng_loop_write): io_uring with RWF_DSYNC from registered buffers; on the
 *                         epoll loop a thread with pwritev2.  O_DIRECT is the descriptor's
 *   tests/kit/t_disk.c    a seeded simulator: delays, reorders, tears, drops, lies
 *
 * Rules.
 *  1. done(bytes) means: all of it will be there after a loss of power.  Anything else, fewer bytes too, means that
 *     nothing is known of the whole stretch.
 *  2. `from`, `off` and `bytes` are multiples of WAL_BLOCK; `from` lies in the staging and is not changed before done.
 *  3. `done` is not called from within wal_io_write, but later, from whatever turns the loop.  `armed` is false by then.
 *  4. At most WAL_WRITES_MAX are under way at once.  They may be done in any order.
 *
 * Threads: one.
 */
#ifndef HC_DAEMON_WAL_IO_H
#define HC_DAEMON_WAL_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wal_io;

struct wal_io_write {
	void (*done)(void *arg, int result); /* bytes written, or -errno */
	void *arg;
	bool armed; /* under way: written by the implementation */
};

/* An implementation begins its own struct with it. */
struct wal_io {
	void (*write)(struct wal_io *io, int fd, uint64_t off, const void *from, uint32_t bytes,
		struct wal_io_write *w);
	const char *how; /* in words, for the log; static */
};

static inline void wal_io_write(struct wal_io *io, int fd, uint64_t off, const void *from,
	uint32_t bytes, struct wal_io_write *w)
{
	io->write(io, fd, off, from, bytes, w);
}

struct eng_loop;

/* The log's writes through a loop (eng_loop.h).  stage: what it will write from, which is registered with the ring if
 * it may be (RLIMIT_MEMLOCK).  Call it before the engine is locked down: the epoll loop starts its thread here.
 * 0, -errno.  io->how then says which way it is: name it in the log.
 * Lifetime: until wal_io_loop_free(), before the loop is freed, when nothing is under way. */
int wal_io_loop_new(struct eng_loop *l, void *stage, size_t stage_bytes, struct wal_io **ret);
void wal_io_loop_free(struct wal_io *io); /* NULL is allowed */

#endif
