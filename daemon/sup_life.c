/* sup_life.c - robust futexes without pthreads; shared by supervisor and engine. */
#include <errno.h>
#include <linux/futex.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "atomic.h"
#include "base/err.h"
#include "step.h"
#include "sup_life.h"

int sup_life_claim(shm_u32 *word)
{
	static _Thread_local struct robust_list_head head;
	static _Thread_local struct robust_list node;

	head.list.next = &node;
	head.list_op_pending = NULL;
	head.futex_offset = (long)((intptr_t)word - (intptr_t)&node);
	node.next = &head.list;
	if (!MUTANT(74) && /* 74: the kernel is not told */
		syscall(SYS_set_robust_list, &head, sizeof head) != 0)
		return err_new(-errno);
	/* Listed first: who dies in between leaves the word as it was, and that is not a living
	 * owner's.  The kernel marks a word only if it holds the dying thread's id. */
	shm_store32_rlx(word, (uint32_t)syscall(SYS_gettid));
	return 0;
}
