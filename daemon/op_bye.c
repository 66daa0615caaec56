/* op_bye.c - BYE: the session ends by its own word (rule P19).
 *
 * Its pins count no more from now on: pin_gen of the slot moves on, so that a
 * thread of the client that still reads finds its pins revoked. */
#include "op.h"
#include "step.h"

int op_bye(struct eng *e, struct eng_conn *c, const struct wire_request *r, struct wire_answer *a)
{
	(void)e;
	(void)r;
	(void)a;
	eng_session_end(c->session, ENG_ENDED_BYE);
	STEP("bye:ended");
	return OP_CLOSE;
}
