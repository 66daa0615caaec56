/* eng_lease.c - leases: which session may compute the value of a key that others wait for.
 *
 *   op_lease      -> eng_lease_take      a free one begins; a held one is told, and who asked waits
 *   op_set        -> eng_lease_holds     only the holder fills
 *   any change    -> eng_lease_over      ... and with it the lease is over
 *   death, goodbye, lost connection -> eng_lease_over_session
 *   end of a turn -> eng_lease_turn      wakes those who wait
 *
 * Nobody is queued here: who waits does so at a word of the control segment, and asks again when it has
 * changed.  So a waiter costs the engine nothing, however many there are, none can be forgotten when an engine
 * dies, and a stopped one keeps nobody up: who asks first gets it.
 *
 * Leases stand in the journal, so that they outlive the engine; what leads to them (chains, counts) is private.
 * The idea of a token that a delete makes void: Nishtala et al., "Scaling Memcache at Facebook", 2013.
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/check.h"
#include "base/err.h"
#include "eng.h"
#include "hypercache.h"
#include "step.h"

#define NS_PER_MS 1000000ull
enum {
	HELD_ADD = 2, /* of a lease word: one more is over */
	WAKE_TURNS = SHM_SESSIONS_MAX * SHM_BLOCKS_MAX /
	             ENG_LEASE_WAKES, /* all that can wait have been woken */
};

static uint32_t word_of(uint64_t hash) { return hash >> 56; }
_Static_assert(SHM_LEASE_WORDS == 256, "l_control.h says which bits of a hash");

static uint32_t *chain_of(struct eng_leases *l, uint64_t hash)
{
	return &l->chain[hash % ENG_LEASE_CHAINS];
}

/* The lease of that key, or NULL; *ret_link: what leads to it. */
static struct shm_lease *find(
	struct eng_leases *l, uint64_t store_id, uint64_t hash, uint32_t **ret_link)
{
	uint32_t *link = chain_of(l, hash);

	for (uint32_t n = 0; *link && n < l->n; n++) {
		struct shm_lease *it = &l->lease[*link - 1];
		if (it->hash == hash && it->store_id == store_id) {
			*ret_link = link;
			return it;
		}
		link = &l->note[*link - 1].next;
	}
	return NULL;
}

/* Its word says so from now on. */
static void count_in(struct eng *e, const struct shm_lease *it, uint32_t i)
{
	struct eng_leases *l = &e->leases;
	uint32_t w = word_of(it->hash), *chain = chain_of(l, it->hash);

	l->note[i] = (struct eng_lease_note){.next = *chain};
	*chain = i + 1;
	l->held[w]++;
	l->n_used++;
	shm_store32_rlx(
		&e->ctl->lease_word[w], shm_load32_rlx(&e->ctl->lease_word[w]) | SHM_LEASE_HELD);
	eng_gauge(e, SHM_DC_leases, l->n_used);
}

/* Something is over that they may wait for at this word. */
static void tell(struct eng *e, uint32_t w)
{
	uint32_t now = (shm_load32_rlx(&e->ctl->lease_word[w]) | SHM_LEASE_HELD) + HELD_ADD -
	               (e->leases.held[w] ? 0 : SHM_LEASE_HELD);

	/* rel:lease.word: who sees it finds the value. */
	if (!MUTANT(408)) /* 408: nobody is told */
		shm_store32_rel(&e->ctl->lease_word[w], now);
	STEP("lease:told");
}

static struct eng_session *holder(struct eng *e, const struct shm_lease *it)
{
	struct eng_session *s = it->session < e->n_sessions ? &e->session[it->session] : NULL;

	return s && s->id == it->session_id ? s : NULL;
}

/* The lease that `link` leads to is over. */
static void end(struct eng *e, uint32_t *link)
{
	struct eng_leases *l = &e->leases;
	uint32_t i = *link - 1, w = word_of(l->lease[i].hash);
	struct eng_session *s = holder(e, &l->lease[i]);

	shm_store_rel(&l->lease[i].token, 0); /* rel:lease.token */
	STEP("lease:over");
	if (s && s->n_leases)
		s->n_leases--;
	if (l->note[i].asked) {
		l->wake[w / 64] |= 1ull << w % 64;
		l->wakes_left[w] = WAKE_TURNS;
	}
	*link = l->note[i].next;
	l->note[i].next = l->free_first;
	l->free_first = i + 1;
	l->held[w]--;
	l->n_used--;
	eng_gauge(e, SHM_DC_leases, l->n_used);
	tell(e, w);
}

/* ------------------------------------------------------------ begin and end of an engine */

/* What a dead engine has left: a lease whose session is there still is one. */
static void adopt(struct eng *e)
{
	struct eng_leases *l = &e->leases;

	for (uint32_t i = l->n; i > 0; i--) {
		struct shm_lease *it = &l->lease[i - 1];
		/* acq:lease.token */
		struct eng_session *s = shm_load_acq(&it->token) ? holder(e, it) : NULL;
		if (s && !MUTANT(409)) { /* 409: an engine's leases die with it */
			count_in(e, it, i - 1);
			s->n_leases++;
			continue;
		}
		shm_store_rlx(&it->token, 0);
		l->note[i - 1].next = l->free_first;
		l->free_first = i;
	}
}

int eng_lease_open(struct eng *e)
{
	struct eng_leases *l = &e->leases;

	l->lease = shm_journal_leases(e->journal, &l->n);
	if (!l->lease) {
		l->n = SHM_LEASES;
		l->lease = calloc(l->n, sizeof *l->lease);
		l->own = true;
	}
	l->note = calloc(l->n, sizeof *l->note);
	if (!l->lease || !l->note)
		return err_new(-ENOMEM);
	adopt(e);
	/* Those who wait may have been told nothing. */
	for (uint32_t w = 0; w < SHM_LEASE_WORDS; w++) {
		tell(e, w);
		l->wakes_left[w] = WAKE_TURNS;
	}
	for (uint32_t i = 0; i < SHM_LEASE_WORDS / 64; i++)
		l->wake[i] = ~0ull;
	return 0;
}

void eng_lease_close(struct eng *e)
{
	free(e->leases.note);
	if (e->leases.own)
		free(e->leases.lease);
}

bool eng_lease_turn(struct eng *e)
{
	struct eng_leases *l = &e->leases;
	uint64_t more = 0;

	for (uint32_t i = 0; i < SHM_LEASE_WORDS / 64; i++) {
		for (uint64_t rest = l->wake[i]; rest; rest &= rest - 1) {
			uint32_t bit = (uint32_t)__builtin_ctzll(rest);
			long n = syscall(SYS_futex, &e->ctl->lease_word[i * 64 + bit], FUTEX_WAKE,
				ENG_LEASE_WAKES, NULL, NULL, 0);
			if (n < ENG_LEASE_WAKES || --l->wakes_left[i * 64 + bit] == 0)
				l->wake[i] &= ~(1ull << bit);
		}
		more |= l->wake[i];
	}
	return more != 0;
}

/* ------------------------------------------------------------ the holder's side */

/* Has the key been written since, or its store cleared? */
static bool is_void(const struct shm_lease *it, const struct shm_key *key, uint64_t version)
{
	return it->epoch != key->epoch || version > shm_load_rlx(&it->token);
}

bool eng_lease_holds(struct eng *e, const struct eng_session *s, const struct shm_key *key,
	uint64_t token, uint64_t version, uint64_t *ret_took_ms)
{
	uint32_t *link;
	const struct shm_lease *it = find(&e->leases, key->store_id, key->hash, &link);

	if (MUTANT(411)) /* 411: any token fills */
		return true;
	if (!it || shm_load_rlx(&it->token) != token || it->session_id != s->id ||
		is_void(it, key, version))
		return false;
	uint64_t began_ns = it->deadline_ns - it->lease_ms * NS_PER_MS, now_ns = eng_clock_ns();
	*ret_took_ms = now_ns > began_ns ? (now_ns - began_ns) / NS_PER_MS : 0;
	return true;
}

void eng_lease_over(struct eng *e, const struct shm_key *key)
{
	uint32_t *link;

	if (e->leases.n_used && find(&e->leases, key->store_id, key->hash, &link) &&
		!MUTANT(412)) /* 412: a write leaves the lease */
		end(e, link);
}

/* Ends those of which that is true. */
static void end_each(struct eng *e, const struct eng_session *s, uint64_t store_id)
{
	struct eng_leases *l = &e->leases;
	uint32_t *link;

	for (uint32_t i = 0; i < l->n && l->n_used; i++) {
		const struct shm_lease *it = &l->lease[i];
		if (shm_load_rlx(&it->token) == 0 || (s && it->session_id != s->id) ||
			(!s && it->store_id != store_id))
			continue;
		eng_count(e, SHM_DC_leases_passed, s != NULL);
		if (find(l, it->store_id, it->hash, &link))
			end(e, link);
	}
}

void eng_lease_over_store(struct eng *e, uint64_t store_id) { end_each(e, NULL, store_id); }

void eng_lease_over_session(struct eng_session *s)
{
	if (s->n_leases && !MUTANT(413)) /* 413: the dead keep theirs */
		end_each(s->e, s, 0);
	s->n_leases = 0;
}

/* ------------------------------------------------------------ who asks */

/* A free one's index + 1; those whose time is over become free.  0: there is none. */
static uint32_t make_free(struct eng *e)
{
	struct eng_leases *l = &e->leases;
	uint32_t *link;

	for (uint32_t n = 0; n < ENG_LEASE_LOOKS && !l->free_first; n++) {
		const struct shm_lease *it = &l->lease[l->hand++ % l->n];
		if (it->deadline_ns <= e->now_ns && find(l, it->store_id, it->hash, &link)) {
			eng_count(e, SHM_DC_leases_passed, 1);
			end(e, link);
		}
	}
	return l->free_first;
}

static void begin(struct eng *e, struct eng_session *s, const struct shm_key *key,
	const struct wire_request *r, uint64_t *ret_token)
{
	struct eng_leases *l = &e->leases;
	uint32_t i = l->free_first - 1;
	struct shm_lease *it = &l->lease[i];
	uint64_t token = shm_load_rlx(&e->ctl->lsn) + 1;

	l->free_first = l->note[i].next;
	shm_store_rlx(&e->ctl->lsn, token);
	it->store_id = key->store_id;
	it->hash = key->hash;
	it->session_id = s->id;
	it->session = s->slot;
	it->request = r->request;
	it->lease_ms = (uint32_t)r->ttl_ms;
	it->deadline_ns = eng_clock_ns() + r->ttl_ms * NS_PER_MS;
	it->epoch = key->epoch;
	STEP("lease:filled");
	shm_store_rel(&it->token, token); /* rel:lease.token: a new engine finds it whole */
	STEP("lease:begun");
	count_in(e, it, i);
	s->n_leases++;
	eng_count(e, SHM_DC_leases_granted, 1);
	*ret_token = token;
}

int32_t eng_lease_take(struct eng *e, struct eng_session *s, const struct eng_store *store,
	const struct shm_key *key, const struct wire_request *r, uint64_t version,
	uint64_t *ret_token, uint64_t *ret_left_ms)
{
	struct eng_leases *l = &e->leases;
	uint64_t now_ns = eng_clock_ns();
	uint32_t *link;
	struct shm_lease *it = find(l, store->id, key->hash, &link);

	if (it && it->session_id == s->id && it->request == r->request) {
		*ret_token = shm_load_rlx(&it->token); /* its answer was lost with an engine */
		return 0;
	}
	bool over = it && it->deadline_ns <= now_ns &&
	            !MUTANT(414); /* 414: the silent keep theirs */
	if (it && !over && !is_void(it, key, version) &&
		!MUTANT(415)) { /* 415: everybody gets it */
		l->note[it - l->lease].asked = true;
		*ret_left_ms = (it->deadline_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS;
		eng_count(e, SHM_DC_leases_waited, 1);
		return HC_LEASED;
	}
	if (it) {
		eng_count(e, SHM_DC_leases_passed, over);
		end(e, link);
	}
	if (s->n_leases >= ENG_LEASES_SESSION || !make_free(e))
		return HC_E_LEASES;
	begin(e, s, key, r, ret_token);
	return 0;
}
