/* hc_lease.c - a missing value is computed by one: hc_get_or_lease and hc_lease_drop.
 *
 *   look -> good enough? done
 *        -> ask for the lease (LEASE, with the version that was seen)
 *             ours:    the caller computes
 *             another's: the value that there is will do; or wait at the key's word, and look again
 *             something has changed: look again
 *
 * The word is loaded before the look-up, and waited on as it was then: what comes after the look-up changes
 * it.  Nothing is held while somebody waits.
 */
#include <errno.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "base/err.h"
#include "hc_read_i.h"
#include "hc_request.h"
#include "step.h"

#define NS_PER_MS 1000000ull
#define NS_PER_S 1000000000ull

enum {
	LOOKS = 64, /* of one call that find something else each time, before HC_E_BUSY */
	HELD_ASKS =
		64, /* of so many readers of a value past its time one asks, while a lease is held */
	EARLY_PERCENT = 100,
};

/* One call. */
struct call {
	struct hc_store *s;
	const void *key;
	size_t key_bytes;
	struct hc_lease_opts o;
	struct hc_view *view;
	struct hc_lease *lease;
	const shm_u32 *word;
	uint32_t seen; /* of it, before the look-up */
	uint64_t deadline_ns;
};

/* ------------------------------------------------------------ chance */

/* splitmix64 (Steele, Lea, Flood 2014): it need not be secret. */
static uint64_t chance(void)
{
	static _Thread_local uint64_t state;
	uint64_t x;

	if (state == 0)
		state = hc_now_ns() ^ (uintptr_t)&state;
	x = state += 0x9e3779b97f4a7c15u;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

/* -ln of a number that is evenly distributed in (0, 1], in 1/1024.  The logarithm's broken part is taken
 * for linear (Mitchell 1962), which is wrong by 0.06 at most. */
static uint64_t minus_ln(uint64_t x)
{
	enum { LN2 = 710 }; /* of 1024 */
	uint32_t zeros = (uint32_t)__builtin_clzll(x | 1);
	uint64_t mantissa = x << zeros << 1 >> 54; /* of 1024 */

	return ((uint64_t)zeros * 1024 + 1024 - mantissa) * LN2 / 1024;
}

/* ------------------------------------------------------------ one look */

enum look { LOOK_GOOD, LOOK_EARLY, LOOK_OLD, LOOK_NONE };

/* What the value of a held view is worth. */
static enum look judge(const struct call *c)
{
	const struct shm_item *it = (const struct shm_item *)(uintptr_t)c->view->opaque[V_ITEM];
	const struct hc_thread *th = (const struct hc_thread *)(uintptr_t)c->view->opaque[V_THREAD];
	uint64_t percent = c->o.early_percent ? c->o.early_percent : EARLY_PERCENT;

	if (!(it->lens & SHM_LENS_FRESH))
		return LOOK_GOOD;
	uint64_t until_ms = shm_fresh_until_ms(it->stamp), took_ms = shm_fresh_took_ms(it->stamp);
	uint64_t now_ms = shm_read_now_ns(&th->reader) / NS_PER_MS;
	if (until_ms <= now_ms)
		return MUTANT(417) ? LOOK_GOOD : LOOK_OLD; /* 417: nothing gets old */
	if (percent == HC_EARLY_NEVER || took_ms == 0)
		return LOOK_GOOD;
	/* Vattani et al. 2015: now - delta beta ln(random) >= expiry */
	uint64_t early_ms = took_ms * percent / 100 * minus_ln(chance()) / 1024;
	return early_ms >= until_ms - now_ms && !MUTANT(418) ? LOOK_EARLY /* 418: nobody is early */
	                                                     : LOOK_GOOD;
}

/* HC_OK and *ret; HC_ABSENT; or an error.  With LOOK_NONE nothing is held. */
static int look(struct call *c, enum look *ret)
{
	*ret = LOOK_NONE;
	c->lease->version = 0;
	/* acq:lease.word: who finds it changed finds the value. */
	c->seen = shm_load32_acq(c->word);
	STEP("waiter:word-loaded");
	int r = hc_view(c->s, c->key, c->key_bytes, c->view);
	if (r == HC_MISS) {
		r = hc_absent(c->s, c->key, c->key_bytes);
		return r == HC_MISS ? HC_OK : r == HC_OK ? HC_E_BUSY : r;
	}
	if (r != HC_OK)
		return r;
	*ret = judge(c);
	c->lease->version = c->view->version;
	if (hc_view_ok(c->view) == 1)
		return HC_OK;
	(void)hc_view_release(c->view);
	*ret = LOOK_NONE;
	c->lease->version = 0;
	return HC_E_BUSY;
}

/* ------------------------------------------------------------ asking and waiting */

/* HC_OK: c->lease has it; HC_CONFLICT; HC_LEASED, *ret_left_ms; or an error. */
static int ask(const struct call *c, uint64_t *ret_left_ms)
{
	struct hc_reply reply;
	struct wire_request r;

	if (hc_request_key(&r, WIRE_LEASE, c->s, c->key, c->key_bytes) ||
		hc_request_lease(&r, c->o.lease_ms, c->lease->version))
		return HC_E_INVAL;
	int status = hc_request_one(c->s->hc, &r, 0, &reply);
	if (status == HC_OK)
		c->lease->token = reply.lsn;
	*ret_left_ms = reply.value;
	return status;
}

/* Until the word is another one, left_ms are over, or the call's time is. */
static int wait_for_another(const struct call *c, uint64_t left_ms)
{
	uint64_t now_ns = hc_now_ns(), until_ns = now_ns + left_ms * NS_PER_MS;

	if (until_ns > c->deadline_ns)
		until_ns = c->deadline_ns;
	while (shm_load32_acq(c->word) == c->seen && now_ns < until_ns) { /* acq:lease.word */
		uint64_t ns = until_ns - now_ns < HC_SLICE_NS ? until_ns - now_ns : HC_SLICE_NS;
		struct timespec t = {
			.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
		if (hc_conn_interrupted(&c->s->hc->conn))
			return HC_E_CANCELLED;
		if (hc_forked(c->s->hc))
			return HC_E_FORKED;
		STEP("waiter:waits");
		(void)syscall(SYS_futex, c->word, FUTEX_WAIT, c->seen, &t, NULL, 0);
		if (shm_load32_rlx(&c->s->hc->ctl->sup_word) & SHM_FUTEX_OWNER_DIED)
			return HC_OK; /* asking says what is to be done */
		now_ns = hc_now_ns();
	}
	return now_ns < c->deadline_ns ? HC_OK : HC_LEASED;
}

/* There is a value, but a new one should be computed. */
static int renew(const struct call *c, enum look found)
{
	uint64_t left_ms;

	if ((c->seen & SHM_LEASE_HELD) && chance() % HELD_ASKS)
		return found == LOOK_EARLY ? HC_OK : HC_NOT_FRESH;
	if (ask(c, &left_ms) == HC_OK)
		return HC_REFRESH;
	return found == LOOK_EARLY ? HC_OK
	                           : HC_NOT_FRESH; /* whatever the matter is, this can be had */
}

static int look_or_lease(struct call *c)
{
	uint64_t left_ms;
	enum look found;
	int r = HC_E_BUSY;

	for (int n = 0; n < LOOKS;) {
		r = look(c, &found);
		if (r == HC_E_BUSY) {
			n++;
			continue;
		}
		if (r != HC_OK || found == LOOK_GOOD)
			return r;
		if (found != LOOK_NONE)
			return renew(c, found);
		r = ask(c, &left_ms);
		if (r == HC_OK)
			return HC_LEASE;
		n += r == HC_CONFLICT;
		if (r == HC_LEASED && c->o.no_wait)
			return r;
		if (r == HC_LEASED) /* 419: nobody waits */
			r = MUTANT(419) ? HC_LEASED : wait_for_another(c, left_ms);
		if (r != HC_OK && r != HC_CONFLICT)
			return r;
	}
	return HC_E_BUSY;
}

/* ------------------------------------------------------------ public */

int hc_view_or_lease(struct hc_store *s, const void *key, size_t key_bytes,
	struct hc_view *ret_view, const struct hc_lease_opts *opts, struct hc_lease *ret)
{
	struct call c = {
		.s = s, .key = key, .key_bytes = key_bytes, .view = ret_view, .lease = ret};

	if (!s || !ret_view || !ret || hc_key_is_bad(key, key_bytes) ||
		hc_opts_take(&c.o, sizeof c.o, opts) < 0 || c.o.no_wait > 1 ||
		(c.o.no_wait && c.o.wait_ms) || c.o.lease_ms > WIRE_LEASE_MS_MAX)
		return HC_E_INVAL;
	*ret = (struct hc_lease){0};
	if (hc_forked(s->hc))
		return HC_E_FORKED;
	uint64_t hash = shm_key_hash_seeded(key, key_bytes, s->seed);
	c.word = &s->hc->ctl->lease_word[hash >> 56];
	c.deadline_ns = hc_now_ns() + (c.o.wait_ms ? c.o.wait_ms * NS_PER_MS : s->hc->timeout_ns);
	return look_or_lease(&c);
}

int hc_get_or_lease(struct hc_store *s, const void *key, size_t key_bytes, void *buf,
	size_t buf_bytes, size_t *ret_bytes, const struct hc_lease_opts *opts, struct hc_lease *ret)
{
	struct hc_view v;

	if (!s || !ret || (!buf && buf_bytes))
		return HC_E_INVAL;
	for (int n = 0; n < HC_COPY_TRIES; n++) {
		int r = hc_view_or_lease(s, key, key_bytes, &v, opts, ret);
		if (r != HC_OK && r != HC_REFRESH && r != HC_NOT_FRESH)
			return r;
		size_t bytes = v.value_bytes;
		if (bytes <= buf_bytes && bytes)
			memcpy(buf, v.value, bytes);
		int released = hc_view_release(&v);
		if (released == HC_OK && ret_bytes)
			*ret_bytes = bytes;
		if (released == HC_OK && bytes <= buf_bytes)
			return r;
		if (ret->token) /* what it was given with is not to be had */
			(void)hc_lease_drop(s, key, key_bytes, ret->token, 0);
		ret->token = 0;
		if (released == HC_OK)
			return HC_TOO_SMALL;
	}
	return HC_E_BUSY;
}

int hc_lease_drop(
	struct hc_store *s, const void *key, size_t key_bytes, uint64_t token, uint64_t absent_ms)
{
	struct hc_set_opts o = HC_OPTS(hc_set_opts);
	struct wire_request r;
	struct hc_reply reply;

	if (token == 0)
		return HC_E_INVAL;
	if (absent_ms) {
		o.lease = token;
		o.ttl_ms = absent_ms;
		o.absent = 1;
		return hc_set(s, key, key_bytes, NULL, 0, &o);
	}
	if (hc_request_key(&r, WIRE_LEASE_DROP, s, key, key_bytes))
		return HC_E_INVAL;
	r.lease = token;
	return hc_request_one(s->hc, &r, 0, &reply);
}
