/* eng_loop.h - the engine's one loop: start an operation, be called when it is done.
 *
 *   eng_loop_recv(l, fd, buf, n, &w)  ...  w.done(w.arg, bytes or -errno)
 *
 * What stands here is all that the rest of the engine knows of how it waits.  There
 * are two implementations behind it (eng_loop_i.h), one on io_uring and one on
 * epoll and plain system calls, for kernels and containers that forbid io_uring.
 *
 * Rules.
 *  1. Every operation is one struct eng_wait of the caller's, which lives until
 *     `done` was called (accept and timer: until the loop is freed).  `armed` is
 *     true in between; the caller only reads it.
 *  2. `done` is called only from eng_loop_dispatch(), and `armed` is false by then, so
 *     it may start the next operation with the same wait.
 *  3. Buffers belong to the operation until `done`.
 *  4. Nothing here blocks but eng_loop_wait(wait = true), and that until something
 *     is done: a timer bounds it.
 *  5. Of one descriptor at most one send is under way, and at most one of the
 *     others (of writes: any number).  A descriptor that was ever used here is closed by eng_loop_close().
 *
 * Threads: one.  Fork: the child must not touch it.
 */
#ifndef HC_DAEMON_ENG_LOOP_H
#define HC_DAEMON_ENG_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "config.h"

struct eng_loop;

struct eng_wait {
	void (*done)(void *arg, int result); /* see each call for result; < 0: -errno */
	void *arg;
	bool armed; /* an operation is under way: written by the loop */
	struct {
		uint8_t kind, state;
		int fd, result;
		union {
			void *to;
			const void *from;
		} buf;
		size_t bytes;
		uint64_t off;
		struct {
			long long s, ns;
		} time;
		struct eng_wait *next;
	} own; /* the loop's */
};

/* What it waits with.  The numbers are those of the counter `loop` (l_counters.h). */
enum eng_loop_kind {
	ENG_LOOP_URING = 1,
	ENG_LOOP_URING_PLAIN = 2, /* without deferred completions */
	ENG_LOOP_EPOLL = 3,
};

/* A loop for about n_waits operations at one time (a bound for the completion queue of
 * io_uring).  io: as configured; CONFIG_IO_AUTO takes io_uring if it may be used, else epoll.
 *
 * 0, with *ret_why NULL, or a line on why it is not what auto would have preferred; -errno, with
 * a line in *ret_why.  Lines are static.  ENOSYS, EPERM: this kernel or its administrator offers
 * no io_uring, and nothing else was asked for. */
int eng_loop_new(enum config_io io, uint32_t n_waits, struct eng_loop **ret, const char **ret_why);
void eng_loop_free(struct eng_loop *l); /* NULL is allowed */
enum eng_loop_kind eng_loop_kind(const struct eng_loop *l);
/* How it works here, in words, for the log; static. */
const char *eng_loop_how(const struct eng_loop *l);

/* Each connection that comes to fd, a listening socket: done(descriptor), close-on-exec, blocking
 * mode.  Here alone `armed` is still true in `done`, which may cancel it: then nobody more comes.  After done(-errno) it is no longer armed; the
 * caller decides when to call again.  Sets O_NONBLOCK of fd as the implementation needs it. */
void eng_loop_accept(struct eng_loop *l, int fd, struct eng_wait *w);
/* At least one byte of n into buf: done(bytes), 0 at the end of the stream. */
void eng_loop_recv(struct eng_loop *l, int fd, void *buf, size_t n, struct eng_wait *w);
/* Some or all of n bytes: done(bytes). */
void eng_loop_send(struct eng_loop *l, int fd, const void *buf, size_t n, struct eng_wait *w);
/* n bytes at off of a file, durable when it is done (RWF_DSYNC): done(bytes); fewer, or -errno: nothing is known of any of
 * them.  Of several that are under way none waits for another.  eng_loop_writes() was called. */
void eng_loop_write(
	struct eng_loop *l, int fd, const void *buf, size_t n, uint64_t off, struct eng_wait *w);
/* Once, when fd can be read or has ended: done(poll events). */
void eng_loop_readable(struct eng_loop *l, int fd, struct eng_wait *w);
/* Once, after ns: done(0). */
void eng_loop_timer(struct eng_loop *l, uint64_t ns, struct eng_wait *w);
/* Asks for an early end: done(-ECANCELED) comes, or the result if it was faster. */
void eng_loop_cancel(struct eng_loop *l, struct eng_wait *w);
/* close(2); nothing of fd is under way. */
void eng_loop_close(struct eng_loop *l, int fd);

/* There will be writes, from this memory: io_uring has it registered, if `ulimit -l` lets it; epoll starts a thread, which makes
 * one write after the other.  Called once, before the engine is locked down (eng_lock.h).  0, with a line on how it is done
 * in *ret_how (static); -errno: no thread can be had. */
int eng_loop_writes(struct eng_loop *l, void *base, size_t bytes, const char **ret_how);

/* Hands over what was started; wait: until something is done.  0 or -errno (fatal). */
int eng_loop_wait(struct eng_loop *l, bool wait);
/* Calls `done` for what is done, at most ENG_LOOP_BATCH of them. */
void eng_loop_dispatch(struct eng_loop *l);

enum { ENG_LOOP_BATCH = 256 };

#endif
