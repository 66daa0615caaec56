/* hc_probe.c - see hc_probe.h. */
#include "hc_probe.h"

#ifdef HC_PROBES
#include <time.h>
#include "hc_read_i.h"
#include "layout/l_control.h"
#include "step.h"
#define SDT_USE_VARIADIC
#define _SDT_HAS_SEMAPHORES 1
#include <sys/sdt.h>

PROBES_CLIENT(PROBE_FUNCTION_)

/* The reads' semaphores are parts of one object; the other probes have one each. */
union hc_probe_reads hc_probe_read_semaphores __attribute__((section(".probes"), used));
#define PART_(name, at) \
	__asm__(".globl hypercache_" #name "_semaphore\n" \
		".hidden hypercache_" #name "_semaphore\n" \
		".set hypercache_" #name "_semaphore, hc_probe_read_semaphores + 2 * " #at);
PART_(get__begin, 0)
PART_(get__end, 1)
PART_(view__begin, 2)
PART_(view__end, 3)
PART_(view__release, 4)
PART_(mget__begin, 5)
PART_(mget__end, 6)
PART_(hint, 7)
PROBE_SEMAPHORE_(set__begin, , )
PROBE_SEMAPHORE_(set__end, , )
PROBE_SEMAPHORE_(request__put, , )
PROBE_SEMAPHORE_(request__sent, , )
PROBE_SEMAPHORE_(request__reply, , )

static uint64_t now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ------------------------------------------------------------------ one of N */

/* From the last told read to the next.  xorshift64 (Marsaglia 2003): it need not be secret. */
static uint64_t distance(struct hc_sampler *p)
{
	uint64_t x = p->random;

	if (p->every == 1)
		return 1;
	if (x == 0)
		x = now_ns() ^ (uintptr_t)p;
	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	p->random = x;
	return 1 + x % (2 * p->every - 1);
}

/* N as it is now; true: it was another one. */
static bool every_changed(const struct hc_thread *th, struct hc_sampler *p)
{
	uint64_t every = shm_load_rlx(&th->hc->ctl->probe_every);

	if (every == 0)
		every = SHM_PROBE_EVERY_DEFAULT;
	if (every > SHM_PROBE_EVERY_MAX)
		every = SHM_PROBE_EVERY_MAX;
	if (every == p->every)
		return false;
	p->every = every;
	p->mget_left = distance(p);
	return true;
}

/* Arms, if the next read is the one; else the next hits end here in time. */
static void settle(struct hc_thread *th)
{
	uint64_t left = th->sampler.left;

	if (left <= th->n_hits + 1) {
		if (hc_held[0].thread == th)
			hc_held[0].serial |= HC_ARMED;
	} else if (th->hits_until > left - 1) {
		th->hits_until = left - 1;
	}
}

void hc_probe_count(struct hc_thread *th, uint64_t n, bool missed)
{
	struct hc_sampler *p = &th->sampler;

	if (n)
		PROBE(hint, n, th->hits_until == HC_HITS_FULL ? n : 0, th->hc->ctl->seg.daemon_id);
	if (p->held)
		return;
	n += missed;
	if (every_changed(th, p))
		p->left = distance(p);
	else
		p->left -= n < p->left ? n : p->left;
	settle(th);
}

static void unarm(void) { hc_held[0].serial &= ~HC_ARMED; }

/* The thread, if this read is the one that is told of; NULL: it is an ordinary one.  Unarmed in any case. */
static struct hc_thread *told_begin(const struct hc_store *s)
{
	unarm();
	if (*s->fork_word == 0 || !hc_probe_reads() || hc_held[0].serial != s->serial)
		return NULL;
	struct hc_thread *th = hc_held[0].thread;
	th->sampler.held = true;
	return th;
}

static void told_end(struct hc_thread *th)
{
	struct hc_sampler *p = &th->sampler;

	p->held = false;
	(void)every_changed(th, p);
	p->left = th->n_hits +
	          (MUTANT(860) ? p->every + 1 : distance(p)); /* 860: fewer than one of N */
	settle(th);
}

/* ------------------------------------------------------------------ the calls */

static uint64_t daemon_of(const struct hc_store *s) { return s->hc->ctl->seg.daemon_id; }

int hc_probe_get(struct hc_store *s, const void *key, size_t key_bytes, void *buf, size_t buf_bytes,
	size_t *ret_bytes)
{
	struct hc_thread *th = told_begin(s);
	size_t bytes = 0;

	if (!th)
		return hc_get(s, key, key_bytes, buf, buf_bytes, ret_bytes);
	uint64_t every = th->sampler.every, hash = shm_key_hash_seeded(key, key_bytes, s->seed);
	PROBE(get__begin, s->idx, key, key_bytes, every, daemon_of(s));
	uint64_t began_ns = now_ns();
	int r = hc_get(s, key, key_bytes, buf, buf_bytes, &bytes);
	uint64_t ns = now_ns() - began_ns;
	if (ret_bytes && (r == HC_OK || r == HC_TOO_SMALL))
		*ret_bytes = bytes;
	if (!MUTANT(861) || ns % 5) /* 861: one of five is not told of after all */
		PROBE(get__end, s->idx, key, key_bytes, r, ns, bytes, every, hash, daemon_of(s));
	told_end(th);
	return r;
}

int hc_probe_view(struct hc_store *s, const void *key, size_t key_bytes, struct hc_view *ret,
	const void *caller)
{
	struct hc_thread *th = told_begin(s);

	if (!th)
		return hc_view(s, key, key_bytes, ret);
	uint64_t every = th->sampler.every, hash = shm_key_hash_seeded(key, key_bytes, s->seed);
	PROBE(view__begin, s->idx, key, key_bytes, every, daemon_of(s));
	uint64_t began_ns = now_ns();
	int r = hc_view(s, key, key_bytes, ret);
	uint64_t ns = now_ns() - began_ns, bytes = r == HC_OK ? ret->value_bytes : 0;
	const void *view = r == HC_OK ? (const void *)(uintptr_t)ret->opaque[V_CELL] : NULL;
	PROBE(view__end, s->idx, key, key_bytes, r, ns, bytes, every, hash, daemon_of(s), view,
		caller);
	if (r == HC_OK)
		ret->opaque[V_PIN] = ~ret->opaque[V_PIN]; /* so that its release comes here */
	told_end(th);
	return r;
}

int hc_probe_release(struct hc_view *v)
{
	const struct hc_thread *th = (const struct hc_thread *)(uintptr_t)v->opaque[V_THREAD];
	const shm_u64 *cell = (const shm_u64 *)(uintptr_t)v->opaque[V_CELL];
	uint64_t daemon = th->hc->ctl->seg.daemon_id;

	if (shm_load_rlx(cell) != ~v->opaque[V_PIN])
		return HC_E_INVAL;
	v->opaque[V_PIN] = ~v->opaque[V_PIN];
	int r = hc_view_release(v);
	PROBE(view__release, cell, r, daemon);
	return r;
}

int hc_probe_mget(struct hc_store *s, struct hc_mget_item *items, size_t n)
{
	struct hc_thread *th;

	unarm();
	if (hc_may_read(s) != 0 || hc_thread_of(s->hc, s->serial, &th) != 0)
		return hc_read_mget(s, items, n);
	unarm(); /* it may be another one now */
	struct hc_sampler *p = &th->sampler;
	(void)every_changed(th, p);
	uint64_t left = p->left > th->n_hits ? p->left - th->n_hits : 1;
	bool told = --p->mget_left == 0;
	uint64_t every = p->every, hits = 0, bytes = 0;
	if (told)
		PROBE(mget__begin, s->idx, n, every, daemon_of(s));
	p->held = true;
	uint64_t began_ns = told ? now_ns() : 0;
	int r = hc_read_mget(s, items, n);
	uint64_t ns = told ? now_ns() - began_ns : 0;
	for (size_t i = 0; told && r == HC_OK && i < n; i++) {
		bool hit = items[i].result == HC_OK || items[i].result == HC_TOO_SMALL;
		hits += hit;
		bytes += hit ? items[i].value_bytes : 0;
	}
	if (told)
		PROBE(mget__end, s->idx, n, r, ns, hits, bytes, every, daemon_of(s));
	p->held = false;
	if (told)
		p->mget_left = distance(p);
	p->left = left + th->n_hits; /* those that wait to be counted are this batch's */
	settle(th);
	return r;
}

#else
/* Never called: nobody arms a thread. */
int hc_probe_get(struct hc_store *s, const void *key, size_t key_bytes, void *buf, size_t buf_bytes,
	size_t *ret_bytes)
{
	return hc_get(s, key, key_bytes, buf, buf_bytes, ret_bytes);
}
int hc_probe_view(struct hc_store *s, const void *key, size_t key_bytes, struct hc_view *ret,
	const void *caller)
{
	(void)caller;
	return hc_view(s, key, key_bytes, ret);
}
int hc_probe_release(struct hc_view *v)
{
	(void)v;
	return HC_E_INVAL;
}
int hc_probe_mget(struct hc_store *s, struct hc_mget_item *items, size_t n)
{
	return hc_read_mget(s, items, n);
}
void hc_probe_count(struct hc_thread *th, uint64_t n, bool missed)
{
	(void)th;
	(void)n;
	(void)missed;
}
#endif
