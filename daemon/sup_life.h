/* sup_life.h - how readers learn that a process of the daemon is gone (rule P21).
 *
 * The word stands in the control segment, the list node that the kernel follows at
 * the owner's death in the owner's private memory:
 *
 *   private memory                        control segment
 *   head --> node --> head                word: thread id | OWNER_DIED
 *   futex_offset = word - node  ............^
 *
 * On the owner's end, SIGKILL and exec(2) included, the kernel itself turns the word
 * into FUTEX_OWNER_DIED, which a read-only mapping sees.
 */
#ifndef HC_DAEMON_SUP_LIFE_H
#define HC_DAEMON_SUP_LIFE_H

#include "layout/l_base.h"

/* Says in *word that the calling thread is alive, until its end.  May be called again, also after
 * an exec(2) or by the successor of a dead owner; it takes the word whatever stands there.
 *
 * word: in a writable shared mapping that stays until the thread has ended.
 * Returns 0, or -errno (ENOSYS: a kernel without robust futexes): *word is unchanged.
 * Threads: one word for each thread; it replaces the thread's robust list, so this thread cannot
 * use robust mutexes of pthreads(7).  Fork: the child owns nothing. */
int sup_life_claim(shm_u32 *word);

#endif
