/* eng_loop_i.h - what an implementation of eng_loop.h is made of.
 *
 *   eng_loop.c         chooses, and forwards each call to the one that was chosen
 *   eng_loop_uring.c   io_uring: the kernel does the operation and says so
 *   eng_loop_epoll.c   epoll says when the operation would succeed; then it is done
 *   eng_loop_writer.c  its thread for writes to files, which epoll knows nothing of
 *
 * An implementation begins its own struct with struct eng_loop.
 */
#ifndef HC_DAEMON_ENG_LOOP_I_H
#define HC_DAEMON_ENG_LOOP_I_H

#include <fcntl.h>
#include "base/check.h"
#include "eng_loop.h"

/* As the functions of eng_loop.h; arm() was called for the wait. */
struct eng_loop_ops {
	void (*free)(struct eng_loop *l);
	void (*accept)(struct eng_loop *l, int fd, struct eng_wait *w);
	void (*recv)(struct eng_loop *l, int fd, void *buf, size_t n, struct eng_wait *w);
	void (*send)(struct eng_loop *l, int fd, const void *buf, size_t n, struct eng_wait *w);
	void (*write)(struct eng_loop *l, int fd, const void *buf, size_t n, uint64_t off,
		struct eng_wait *w);
	int (*writes)(struct eng_loop *l, void *base, size_t bytes, const char **ret_how);
	void (*readable)(struct eng_loop *l, int fd, struct eng_wait *w);
	void (*timer)(struct eng_loop *l, uint64_t ns, struct eng_wait *w);
	void (*cancel)(struct eng_loop *l, struct eng_wait *w); /* armed */
	void (*forget)(struct eng_loop *l, int fd);             /* about to be closed; or NULL */
	int (*wait)(struct eng_loop *l, bool wait);
	void (*dispatch)(struct eng_loop *l);
};

struct eng_loop {
	const struct eng_loop_ops *ops;
	enum eng_loop_kind kind;
	const char *how;
};

/* Kinds of eng_wait.own.kind. */
enum {
	ENG_WAIT_ACCEPT = 1,
	ENG_WAIT_RECV,
	ENG_WAIT_SEND,
	ENG_WAIT_READABLE,
	ENG_WAIT_TIMER,
	ENG_WAIT_WRITE,
};

/* deferred: with completions deferred to the loop, if the kernel has that. */
int eng_loop_uring_new(
	bool deferred, uint32_t n_waits, struct eng_loop **ret, const char **ret_why);
int eng_loop_epoll_new(struct eng_loop **ret, const char **ret_why);

static inline void eng_loop_nonblock(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL), want = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;

	CHECK(flags >= 0 && (flags == want || fcntl(fd, F_SETFL, want) == 0));
}

#endif
