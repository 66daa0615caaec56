/* eng_errand.c - what tools ask of the engine through the supervisor (sup_errand.c).
 *
 * A pause is the one wait of the engine's loop: nothing is changed until RESUME or the end of
 * ENG_PAUSE_MS, whatever the tool does that asked for it.  Heartbeats go on, and so does the channel.
 */
#include "admin.h"
#include "eng.h"
#include "step.h"

enum { PAUSE_STEP_MS = 50 };

static void answer(struct eng *e, const struct sup_msg *m, uint32_t refusal)
{
	const struct sup_msg say = {.kind = SUP_MSG_ERRAND_DONE, .id = m->id, .refusal = refusal};

	if (eng_sup_send_msg(e, &say) < 0)
		log_warn("the supervisor's channel is full: a tool is not answered");
}

static struct eng_session *session_find(struct eng *e, uint64_t id)
{
	for (uint32_t i = 0; i < e->n_sessions && id; i++)
		if (e->session[i].state == ENG_SESSION_LIVE && e->session[i].id == id)
			return &e->session[i];
	return NULL;
}

void eng_errand(struct eng *e, const struct sup_msg *m)
{
	struct eng_session *s;

	switch (m->slot) {
	case ADMIN_CLIENT_REVOKE:
		s = session_find(e, m->n);
		if (s && !MUTANT(345)) /* 345: it is only said to be done */
			eng_session_revoke(s, "an administrator takes back what it holds");
		if (s)
			(void)eng_room_sweep(e);
		answer(e, m, s ? ADMIN_R_NONE : ADMIN_R_NO_SESSION);
		return;
	case ADMIN_PAUSE:
		e->pause_end_ns = eng_clock_ns() + ENG_PAUSE_MS * UINT64_C(1000000);
		for (uint32_t i = 0; i < e->config->n_pools; i++)
			shm_pool_account(&e->pool[i].w);
		answer(e, m, ADMIN_R_NONE);
		return;
	default: /* ADMIN_RESUME */
		e->pause_end_ns = 0;
		answer(e, m, ADMIN_R_NONE);
	}
}

void eng_errand_pause(struct eng *e)
{
	while (e->pause_end_ns && eng_clock_ns() < e->pause_end_ns && !e->quit) {
		shm_store_rlx(&e->ctl->heartbeat_ns, eng_clock_ns());
		eng_sup_look(e, PAUSE_STEP_MS);
	}
	e->pause_end_ns = 0;
}
