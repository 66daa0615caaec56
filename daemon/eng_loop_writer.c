/* eng_loop_writer.c - see eng_loop_writer.h.
 *
 * It is there before the engine is locked down, and the filter of system calls is put on all threads (eng_lock.c).  Landlock is
 * put on the calling thread alone; this one opens nothing, and could not make a file by the filter. */
#include "eng_loop_writer.h"
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>
#include "base/check.h"
#include "base/err.h"

struct eng_writer {
	pthread_t thread;
	pthread_mutex_t lock; /* of all below */
	pthread_cond_t more;
	struct eng_wait *first, *last; /* to be written */
	struct eng_wait *done, *done_last;
	bool runs, over;
	int fd; /* counts what is done */
};

static void put(struct eng_wait **first, struct eng_wait **last, struct eng_wait *w)
{
	w->own.next = NULL;
	if (*first)
		(*last)->own.next = w;
	else
		*first = w;
	*last = w;
}

static int write_one(const struct eng_wait *w)
{
	struct iovec v = {.iov_base = (void *)(uintptr_t)w->own.buf.from, .iov_len = w->own.bytes};
	ssize_t n = pwritev2(w->own.fd, &v, 1, (off_t)w->own.off, RWF_DSYNC);

	return n < 0 ? -errno : n > INT_MAX ? INT_MAX : (int)n;
}

static void *writer_main(void *arg)
{
	struct eng_writer *t = arg;
	const uint64_t one = 1;

	CHECK(pthread_mutex_lock(&t->lock) == 0);
	t->runs = true;
	CHECK(pthread_cond_signal(&t->more) == 0);
	for (;;) {
		while (!t->first && !t->over)
			CHECK(pthread_cond_wait(&t->more, &t->lock) == 0);
		struct eng_wait *w = t->first;
		if (!w)
			break;
		t->first = w->own.next;
		CHECK(pthread_mutex_unlock(&t->lock) == 0);
		int result = write_one(w);
		CHECK(pthread_mutex_lock(&t->lock) == 0);
		w->own.result = result;
		put(&t->done, &t->done_last, w);
		CHECK(write(t->fd, &one, sizeof one) == sizeof one);
	}
	CHECK(pthread_mutex_unlock(&t->lock) == 0);
	return NULL;
}

int eng_writer_new(struct eng_writer **ret, int *ret_fd)
{
	struct eng_writer *t = calloc(1, sizeof *t);
	sigset_t all, before;

	if (!t)
		return err_new(-ENOMEM);
	t->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (t->fd < 0) {
		int r = err_new(-errno);
		free(t);
		return r;
	}
	CHECK(pthread_mutex_init(&t->lock, NULL) == 0 && pthread_cond_init(&t->more, NULL) == 0);
	CHECK(sigfillset(&all) == 0 && pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
	int r = -pthread_create(&t->thread, NULL, writer_main, t);
	CHECK(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
	if (r < 0) {
		(void)close(t->fd);
		free(t);
		return err_new(r);
	}
	/* What a new thread registers with the kernel is not allowed later, when the engine is locked down. */
	CHECK(pthread_mutex_lock(&t->lock) == 0);
	while (!t->runs)
		CHECK(pthread_cond_wait(&t->more, &t->lock) == 0);
	CHECK(pthread_mutex_unlock(&t->lock) == 0);
	*ret = t;
	*ret_fd = t->fd;
	return 0;
}

void eng_writer_free(struct eng_writer *t)
{
	if (!t)
		return;
	CHECK(pthread_mutex_lock(&t->lock) == 0);
	t->over = true;
	CHECK(pthread_cond_signal(&t->more) == 0 && pthread_mutex_unlock(&t->lock) == 0);
	CHECK(pthread_join(t->thread, NULL) == 0);
	CHECK(pthread_cond_destroy(&t->more) == 0 && pthread_mutex_destroy(&t->lock) == 0);
	(void)close(t->fd);
	free(t);
}

void eng_writer_put(struct eng_writer *t, struct eng_wait *w)
{
	CHECK(t != NULL);
	CHECK(pthread_mutex_lock(&t->lock) == 0);
	put(&t->first, &t->last, w);
	CHECK(pthread_cond_signal(&t->more) == 0 && pthread_mutex_unlock(&t->lock) == 0);
}

struct eng_wait *eng_writer_take(struct eng_writer *t)
{
	uint64_t n;

	(void)!read(t->fd, &n, sizeof n); /* it may have been taken already */
	CHECK(pthread_mutex_lock(&t->lock) == 0);
	struct eng_wait *w = t->done;
	t->done = t->done_last = NULL;
	CHECK(pthread_mutex_unlock(&t->lock) == 0);
	return w;
}
