/* sup_errand.c - what a tool asks of the engine through the supervisor: one thing at a time.
 *
 *   revoke   a client's pins (rule P12)            answered when it is done
 *   pause    of all changes, for a look at memory that stands still; ends by itself
 *   resume
 *   renew    another engine takes the memory over: it checks all, and drops what is damaged.  The one
 *            that runs ends in order; that is no crash
 *
 * Nobody is waited for: the tool's connection waits, with its limit.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "log.h"
#include "step.h"
#include "sup.h"

enum { LINE_BYTES = 256 };

static void answer(
	struct sup *sup, struct sup_admin *a, enum admin_refusal refusal, const char *text)
{
	char line[LINE_BYTES];
	int n = snprintf(line, sizeof line, "%s\t%s\n", refusal ? "error" : "note", text);

	sup_admin_reply(sup, a, refusal, line, (size_t)n);
}

static void end(struct sup *sup, enum admin_refusal refusal, const char *text)
{
	struct sup_admin *a = sup->errand.asker;

	sup->errand.asker = NULL;
	if (a)
		answer(sup, a, refusal, text);
}

static void renew(struct sup *sup, struct sup_admin *a)
{
	const struct sup_msg quit = {.kind = SUP_MSG_QUIT};
	struct sup_engine *e = &sup->engine;

	if (send(e->channel, &quit, sizeof quit, MSG_DONTWAIT | MSG_NOSIGNAL) !=
		(ssize_t)sizeof quit) {
		answer(sup, a, ADMIN_R_BUSY, "the engine does not take messages: try again");
		return;
	}
	log_info("engine %d is asked to end: another one takes the memory over", e->pid);
	e->renewing = true;
	STEP("sup:renewing");
	answer(sup, a, ADMIN_R_NONE, "another engine takes the memory over and checks it");
}

void sup_errand_begin(struct sup *sup, struct sup_admin *a, const struct admin_request *rq)
{
	struct sup_errand *r = &sup->errand;
	struct sup_msg m = {.kind = SUP_MSG_ERRAND, .slot = rq->ask};

	if (sup->engine.state != ADMIN_ENGINE_SERVING || sup->engine.channel < 0 || r->asker) {
		answer(sup, a, ADMIN_R_BUSY,
			r->asker ? "another tool waits for the engine: try again"
				 : "no engine serves now: try again");
		return;
	}
	if (rq->ask == ADMIN_RENEW) {
		renew(sup, a);
		return;
	}
	m.id = ++r->number;
	m.n = strtoull(rq->text, NULL, 16);
	if (send(sup->engine.channel, &m, sizeof m, MSG_DONTWAIT | MSG_NOSIGNAL) !=
		(ssize_t)sizeof m) {
		answer(sup, a, ADMIN_R_BUSY, "the engine does not take messages: try again");
		return;
	}
	r->asker = a;
	a->waits = true;
	STEP("sup:errand-sent");
}

int sup_errand_on_message(struct sup *sup, const struct sup_msg *m)
{
	if (m->id > sup->errand.number || m->refusal >= ADMIN_R_END)
		return -EBADMSG;
	if (m->id == sup->errand.number) /* else it came too late for whoever asked */
		end(sup, m->refusal,
			m->refusal ? "there is no such session: see `hypercache clients`" : "done");
	return 0;
}

void sup_errand_on_death(struct sup *sup)
{
	end(sup, ADMIN_R_DIED, "the engine died before it had answered: try again");
}

void sup_errand_on_late(struct sup *sup)
{
	end(sup, ADMIN_R_BUSY, "the engine has not answered: does it hang?");
}

void sup_errand_forget(struct sup *sup, const struct sup_admin *a)
{
	if (sup->errand.asker == a)
		sup->errand.asker = NULL;
}
