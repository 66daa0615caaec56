/* eng_loop_writer.h - a thread that writes to files, for a loop that cannot (eng_loop_epoll.c).
 *
 * The loop's thread puts waits and takes those that are done; the writer makes one pwritev2(RWF_DSYNC) after the other, in
 * the order in which they came.  Between put and take a wait is the writer's.
 */
#ifndef HC_DAEMON_ENG_LOOP_WRITER_H
#define HC_DAEMON_ENG_LOOP_WRITER_H

#include "eng_loop.h"

struct eng_writer;

/* Starts the thread.  *ret_fd can be read when something is done; it is the writer's.  0 or -errno. */
int eng_writer_new(struct eng_writer **ret, int *ret_fd);
/* Ends the thread when it has done what was put.  NULL is allowed. */
void eng_writer_free(struct eng_writer *t);
/* w->own.fd, buf.from, bytes, off say what. */
void eng_writer_put(struct eng_writer *t, struct eng_wait *w);
/* What is done, through own.next, with own.result; NULL: nothing. */
struct eng_wait *eng_writer_take(struct eng_writer *t);

#endif
