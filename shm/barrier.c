/* barrier.c - see barrier.h. */
#include "barrier.h"
#include <errno.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

static int membarrier(int cmd) { return (int)syscall(SYS_membarrier, cmd, 0, 0); }

bool shm_barrier_is_allowed(void)
{
	int got = membarrier(MEMBARRIER_CMD_QUERY);

	return got >= 0 && (got & MEMBARRIER_CMD_GLOBAL_EXPEDITED) &&
	       (got & MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED);
}

int shm_barrier_register(void)
{
	return membarrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED) == 0 ? 0 : -errno;
}

int shm_barrier(void) { return membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED) == 0 ? 0 : -errno; }
