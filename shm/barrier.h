/* barrier.h - membarrier(2), the asymmetric fence under the pins (scan.h says why). */
#ifndef HC_SHM_BARRIER_H
#define HC_SHM_BARRIER_H

#include <stdbool.h>

/* May this process use membarrier(GLOBAL_EXPEDITED)?  Kernel 4.16 and no filter that forbids it. */
bool shm_barrier_is_allowed(void);

/* Registers this process as one whose threads pass a full fence at every
 * shm_barrier() of any process.  Idempotent; inherited by fork, lost by exec.
 * 0, or -errno. */
int shm_barrier_register(void);

/* Returns when every running thread of every registered process has passed a full
 * fence.  0, or -errno: nothing may be concluded. */
int shm_barrier(void);

#endif
