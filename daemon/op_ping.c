/* op_ping.c - PING: the engine is there and answers.
 *
 * The answer carries the last LSN: everything up to it is visible to readers.
 * It changes nothing, so it is neither numbered nor recorded. */
#include "op.h"

int op_ping(struct eng *e, struct eng_conn *c, const struct wire_request *r, struct wire_answer *a)
{
	(void)c;
	(void)r;
	a->lsn = shm_load_rlx(&e->ctl->lsn);
	return 0;
}
