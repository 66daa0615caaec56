/* sup_probe.c - how many reads tracers hear of: one of N, as long as a tool wants it.
 *
 *   tool -> PROBE N, and keeps its connection           shm_control.probe_every = N
 *   another tool -> PROBE M                             ... the smallest of them
 *   a connection ends, whatever its tool died of        ... the smallest of those that are left; none: the default
 *
 * It is written here and not by the engine: so a tool's end is heard of, and obeyed, while the engine hangs
 * or is dead, and an engine that starts finds what holds.
 */
#include <stdio.h>
#include <stdlib.h>
#include "atomic.h"
#include "layout/l_control.h"
#include "step.h"
#include "sup.h"

enum { LINE_BYTES = 128 };

void sup_probe_settle(struct sup *sup)
{
	uint64_t every = 0;

	for (int i = 0; i < ADMIN_CONNECTIONS; i++) {
		const struct sup_admin *a = &sup->admin[i];
		if (a->fd >= 0 && a->probe_every && (every == 0 || a->probe_every < every))
			every = a->probe_every;
	}
	if (sup->ctl && (every || !MUTANT(862))) /* 862: what a dead tool wanted holds for ever */
		shm_store_rlx(&sup->ctl->probe_every, every);
}

static void answer(
	struct sup *sup, struct sup_admin *a, enum admin_refusal refusal, const char *text)
{
	char line[LINE_BYTES];
	int n = snprintf(line, sizeof line, "%s\t%s\n", refusal ? "error" : "note", text);

	sup_admin_reply(sup, a, refusal, line, (size_t)n);
}

void sup_probe_begin(struct sup *sup, struct sup_admin *a, const struct admin_request *rq)
{
	char *end;
	uint64_t every = strtoull(rq->text, &end, 10);
	uint32_t n = 0;

	for (int i = 0; i < ADMIN_CONNECTIONS; i++)
		n += sup->admin[i].fd >= 0 && sup->admin[i].probe_every != 0;
	if (*end || every == 0 || every > SHM_PROBE_EVERY_MAX) {
		answer(sup, a, ADMIN_R_CONFIG, "one read of 1 to 1000000 can be told of");
		return;
	}
	if (n == ADMIN_PROBERS) {
		answer(sup, a, ADMIN_R_BUSY, "four tools listen to probes already: end one");
		return;
	}
	a->probe_every = every;
	a->deadline_ns = UINT64_MAX; /* it stays as long as it likes */
	sup_probe_settle(sup);
	answer(sup, a, ADMIN_R_NONE, "as long as this connection lives");
}
