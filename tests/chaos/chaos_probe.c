/* chaos_probe.c - how available the cache is while everything dies: one process reads all the time, another one writes; neither is
 * killed or stopped.
 *
 * Time is cut into slices.  A slice counts if an operation was under way in it, and as good if one began in it and
 * succeeded within its limit, a slice's length.  (When the probe itself is not given the processor nothing is under way, or it
 * looks like the cache's fault: so the numbers are worst on a busy machine.)  A gap is the time between two operations that
 * ended well, less the pause that the probe makes.
 */
#include "chaos.h"
#include <poll.h>
#include <string.h>
#include <unistd.h>

enum { SLICE_NS = 10000000, PAUSE_MS = 1 };

struct slices {
	struct probe *p;
	uint64_t last; /* the last one that counted */
	bool good;     /* it is */
};

/* An operation was under way from begin to end. */
static void count(struct slices *s, uint64_t begin_ns, uint64_t end_ns, bool ok)
{
	bool good = ok && end_ns - begin_ns <= SLICE_NS;

	for (uint64_t at = begin_ns / SLICE_NS; at <= end_ns / SLICE_NS; at++) {
		bool mine = good && at == begin_ns / SLICE_NS;
		if (at != s->last) {
			note(&s->p->slices, s->p->slices + 1);
			s->good = false;
			s->last = at;
		}
		if (mine && !s->good) {
			note(&s->p->good, s->p->good + 1);
			s->good = true;
		}
	}
}

static bool operate(const struct session *c, bool writes, uint64_t n)
{
	uint64_t value[2] = {n, ~n};
	size_t bytes = 0;

	if (writes)
		return hc_set(c->s[SURE], "probe", 5, value, sizeof value, NULL) == HC_OK;
	if (hc_get(c->s[SURE], "probe", 5, value, sizeof value, &bytes) != HC_OK)
		return false;
	CHECK(bytes == sizeof value && value[1] == ~value[0]);
	return true;
}

void probe_run(const struct t_daemon *d, struct ledger *l, bool writes)
{
	struct probe *p = &l->probe[writes];
	struct slices s = {.p = p};
	struct session c;

	session_begin(&c, d, "probe");
	CHECK(operate(&c, true, 1)); /* there is something to read */
	note(&p->opened, 1);
	uint64_t last_ns = t_now_ns();
	for (uint64_t n = 2; look(&l->order) == RUN; n++) {
		uint64_t begin_ns = t_now_ns();
		bool ok = operate(&c, writes, n);
		uint64_t end_ns = t_now_ns();
		count(&s, begin_ns, end_ns, ok);
		note(&p->failed, p->failed + !ok);
		if (ok && end_ns - last_ns > p->gap_ns)
			note(&p->gap_ns, end_ns - last_ns);
		(void)poll(NULL, 0, PAUSE_MS);
		if (ok)
			last_ns = t_now_ns();
	}
	hc_close(c.hc);
	_exit(0);
}
