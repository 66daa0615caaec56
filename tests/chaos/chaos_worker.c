/* chaos_worker.c - a worker of the chaos test: all kinds of operations, each answer compared with the ledger. */
#include "chaos.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { VIEWS = 4, BATCH = 12, INCRS = 60, LEASE_MS = 600000 };

struct self {
	struct session c;
	struct ledger *l;
	struct worker *w;
	uint32_t me;
	uint64_t state; /* of its random numbers */
	struct {
		struct hc_view v;
		struct key key;
		bool held;
	} view[VIEWS];
};

/* ------------------------------------------------------------------ keys and values */

void session_begin(struct session *c, const struct t_daemon *d, const char *name)
{
	static const char *const names[STORES] = {"sure", "loose", "cleared"};
	struct hc_open_opts o = HC_OPTS(hc_open_opts);

	o.socket = d->socket;
	o.name = name;
	o.timeout_ms = (uint32_t)t_limit_ms(LIMIT_MS);
	CHECK_EQ(hc_open(&c->hc, &o), HC_OK);
	for (int i = 0; i < STORES; i++)
		CHECK_EQ(hc_store(c->hc, names[i], &c->s[i]), HC_OK);
}

size_t key_name(struct key k, char *to)
{
	return (size_t)sprintf(to, "%u-%u-%u", k.store, k.worker, k.idx);
}

static uint64_t value_seed(struct key k, uint64_t version)
{
	uint64_t state = version << 24 | (uint64_t)k.store << 16 | (uint64_t)k.worker << 8 | k.idx;

	return t_random_from(&state);
}

size_t value_make(struct key k, uint64_t version, uint64_t *to)
{
	uint64_t state = value_seed(k, version), words = 8 + state % (WORDS_MAX - 8);

	to[0] = version;
	to[1] = words;
	to[2] = (uint64_t)k.store << 32 | (uint64_t)k.worker << 16 | k.idx;
	for (uint64_t i = 3; i < words; i++)
		to[i] = t_random_from(&state);
	return words * sizeof *to;
}

uint64_t value_check(struct key k, const uint64_t *value, size_t bytes)
{
	uint64_t want[WORDS_MAX];

	CHECK(bytes >= 8 * sizeof *value);
	CHECK_EQ(bytes, value_make(k, value[0], want));
	CHECK(memcmp(value, want, bytes) == 0);
	return value[0];
}

void found_check(
	struct key k, int r, uint64_t version, uint64_t acked_before, const struct entry *e)
{
	uint64_t pending = look(&e->pending), acked = look(&e->acked);
	uint64_t most = pending > acked ? pending : acked;

	if (r == HC_OK) {
		CHECK(VERSION_OF(most) >= version);
		CHECK(VERSION_OF(acked_before) <= version);
		/* What was deleted does not come back. */
		CHECK(VERSION_OF(acked_before) < version || !(acked_before & DELETED));
		return;
	}
	CHECK_EQ(r, HC_MISS);
	if (k.store == LOOSE || acked != acked_before || acked_before == 0)
		return;
	CHECK((acked_before & DELETED) || (pending & DELETED));
}

static uint64_t below(struct self *s, uint64_t n) { return t_random_from(&s->state) % n; }

static struct entry *entry_of(const struct self *s, struct key k)
{
	return &s->l->worker[k.worker].key[k.store][k.idx];
}

static struct key any_key(struct self *s, bool own)
{
	struct key k = {.store = (uint32_t)below(s, STORES),
		.worker = own ? s->me : (uint32_t)below(s, WORKERS),
		.idx = (uint32_t)below(s, KEYS)};

	if (k.store == CLEARED && k.worker != CLEARER) /* who clears it has it to himself */
		k.store = LOOSE;
	return k;
}

static void most(uint64_t *max, uint64_t ns)
{
	if (ns > *max)
		*max = ns;
}

/* ------------------------------------------------------------------ reads */

static void do_get(struct self *s)
{
	struct key k = any_key(s, false);
	struct entry *e = entry_of(s, k);
	uint64_t value[WORDS_MAX], before = look(&e->acked), from_ns = t_now_ns();
	char name[32];
	size_t n = 0;
	int r = hc_get(s->c.s[k.store], name, key_name(k, name), value, sizeof value, &n);

	most(&s->w->read_max_ns, t_now_ns() - from_ns);
	found_check(k, r, r == HC_OK ? value_check(k, value, n) : 0, before, e);
	s->w->reads++;
	s->w->hits += r == HC_OK;
}

/* Held for a while, whatever becomes of the entry. */
static void do_view(struct self *s)
{
	uint64_t i = below(s, VIEWS);
	char name[32];

	if (s->view[i].held) {
		struct hc_view *v = &s->view[i].v;
		if (hc_view_ok(v) == 1) {
			uint64_t copy[WORDS_MAX];
			size_t n = v->value_bytes <= sizeof copy ? v->value_bytes : 0;
			memcpy(copy, v->value, n);
			if (hc_view_ok(v) == 1)
				(void)value_check(s->view[i].key, copy, n);
		}
		int r = hc_view_release(v);
		CHECK(r == HC_OK || r == HC_E_REVOKED);
		s->w->revoked += r != HC_OK;
		s->view[i].held = false;
		return;
	}
	struct key k = any_key(s, false);
	int r = hc_view(s->c.s[k.store], name, key_name(k, name), &s->view[i].v);
	CHECK(r == HC_OK || r == HC_MISS);
	s->view[i].held = r == HC_OK;
	s->view[i].key = k;
	s->w->views += r == HC_OK;
}

/* ------------------------------------------------------------------ writes */

/* A new version of a key is under way. */
static uint64_t begin(struct self *s, struct key k, bool deleted)
{
	uint64_t version = ++s->w->version;

	note(&entry_of(s, k)->pending, version << 1 | (deleted ? DELETED : 0));
	return version;
}

/* HC_E_FULL: it has not happened. */
static void end(struct self *s, struct key k, int r)
{
	struct entry *e = entry_of(s, k);

	if (r == HC_E_FULL)
		s->w->refused++;
	else
		note(&e->acked, look(&e->pending));
	note(&e->pending, 0);
	s->w->writes++;
}

static void do_set(struct self *s, struct key k)
{
	struct hc_set_opts o = HC_OPTS(hc_set_opts);
	uint64_t value[WORDS_MAX], from_ns = t_now_ns();
	char name[32];
	size_t n = value_make(k, begin(s, k, false), value);

	if (k.store == LOOSE && below(s, 2))
		o.ttl_ms = 1 + below(s, 300);
	int r = hc_set(s->c.s[k.store], name, key_name(k, name), value, n, &o);
	CHECK(r == HC_OK || r == HC_E_FULL);
	most(&s->w->write_max_ns, t_now_ns() - from_ns);
	end(s, k, r);
}

static void do_delete(struct self *s, struct key k)
{
	char name[32];

	(void)begin(s, k, true);
	int r = hc_delete(s->c.s[k.store], name, key_name(k, name));
	CHECK(r == HC_OK || r == HC_MISS);
	end(s, k, r);
}

static void do_touch(struct self *s)
{
	struct key k = any_key(s, true);
	char name[32];
	int r = hc_touch(s->c.s[LOOSE], name, key_name((struct key){LOOSE, s->me, k.idx}, name),
		1 + below(s, 500));

	CHECK(r == HC_OK || r == HC_MISS);
	s->w->writes++;
}

static void do_batch(struct self *s)
{
	static uint64_t value[BATCH][WORDS_MAX];
	struct hc_mset_item it[BATCH];
	struct key k = any_key(s, true);
	char name[BATCH][32];

	for (uint32_t i = 0; i < BATCH; i++) {
		struct key one = {k.store, s->me, (k.idx + i) % KEYS};
		it[i] = (struct hc_mset_item){.key = name[i],
			.key_bytes = key_name(one, name[i]),
			.value = value[i],
			.value_bytes = value_make(one, begin(s, one, false), value[i])};
	}
	int r = hc_mset(s->c.s[k.store], it, BATCH, NULL);
	CHECK(r == HC_OK || r == HC_E_FULL);
	for (uint32_t i = 0; i < BATCH; i++) {
		CHECK(it[i].result == HC_OK || it[i].result == HC_E_FULL);
		end(s, (struct key){k.store, s->me, (k.idx + i) % KEYS}, it[i].result);
	}
}

static struct hc_op op_incr(struct self *s, const char *name, size_t n, uint64_t delta)
{
	struct hc_op op = HC_OPTS(hc_op);

	op.store = s->c.s[SURE];
	op.op = HC_OP_INCR;
	op.key = name;
	op.key_bytes = n;
	op.delta = (int64_t)delta;
	op.user = delta;
	return op;
}

/* Two numbers: one that only this worker adds to, many times in one message, so that an engine is likely to be
 * killed in the middle of it; and one that all add to. */
static void do_incr(struct self *s)
{
	uint64_t delta = 2 + below(s, 8), was = look(&s->w->sum);
	struct hc_done done[INCRS + 1];
	char name[32];
	size_t n = (size_t)sprintf(name, "sum-%u", s->me), got;
	struct hc_op own = op_incr(s, name, n, delta), all = op_incr(s, "all", 3, 1);

	note(&s->w->delta, delta);
	note(&s->w->sum_pending, was + delta * INCRS);
	note(&s->w->adding, 1);
	for (uint64_t i = 0; i < INCRS; i++)
		CHECK_EQ(hc_submit(&own, NULL), HC_OK);
	CHECK_EQ(hc_submit(&all, NULL), HC_OK);
	CHECK_EQ(hc_flush(s->c.hc, 0, NULL), HC_OK);
	CHECK_EQ(hc_poll(s->c.hc, done, INCRS + 1, 0, &got), HC_OK);
	CHECK_EQ(got, INCRS + 1);
	for (uint64_t i = 0; i <= INCRS; i++) {
		CHECK_EQ(done[i].result, HC_OK);
		CHECK(done[i].user == 1 || (uint64_t)done[i].sum == was + delta * (i + 1));
	}
	note(&s->w->added, look(&s->w->added) + 1);
	note(&s->w->adding, 0);
	note(&s->w->sum, was + delta * INCRS);
	note(&s->w->sum_pending, 0);
	s->w->writes += INCRS + 1;
}

/* A clear deletes all keys of its store. */
static void clear_all(struct self *s)
{
	for (uint32_t i = 0; i < KEYS; i++)
		(void)begin(s, (struct key){CLEARED, s->me, i}, true);
	note(&s->w->clear_pending, 1);
	CHECK_EQ(hc_clear(s->c.s[CLEARED], NULL), HC_OK);
	for (uint32_t i = 0; i < KEYS; i++)
		end(s, (struct key){CLEARED, s->me, i}, HC_OK);
	note(&s->w->clear_pending, 0);
}

/* ------------------------------------------------------------------ leases */

/* The value goes, if it is still this one. */
static void lease_again(struct self *s, const char *name, size_t n, uint64_t version)
{
	int r = hc_delete_if(s->c.s[SURE], name, n, version);

	CHECK(r == HC_OK || r == HC_MISS || r == HC_CONFLICT);
}

/* The value is the next version of a key that all compute: whoever has the lease is alone. */
static void compute(struct self *s, struct key k, const char *name, size_t n, uint64_t token)
{
	struct hc_set_opts o = HC_OPTS(hc_set_opts);
	uint64_t set_version = 0;
	uint64_t *holder = &s->l->holder[k.idx], was = look(holder), value[WORDS_MAX];
	uint64_t mine = look(&s->w->life) << 8 | (s->me + 1);

	if (was) { /* it has to be dead, or about to be */
		struct worker *other = &s->l->worker[(was & 255) - 1];
		CHECK(look(&other->dying) >= was >> 8);
	}
	note(holder, mine);
	uint64_t version = look(&s->l->lease_version[k.idx]) + 1;
	o.lease = token;
	o.ret_version = &set_version;
	size_t bytes = value_make(k, version, value);
	bool drop = below(s, 4) == 0;
	CHECK_EQ(look(holder), mine);
	note(holder, 0);
	if (!drop)
		note(&s->l->lease_version[k.idx], version);
	int r = drop ? hc_lease_drop(s->c.s[SURE], name, n, token, 0)
	             : hc_set(s->c.s[SURE], name, n, value, bytes, &o);
	CHECK_EQ(r, HC_OK); /* nobody has passed it on */
	s->w->leases++;
	if (!drop) /* the next one may begin */
		lease_again(s, name, n, set_version);
}

static void do_lease(struct self *s)
{
	struct hc_lease_opts o = HC_OPTS(hc_lease_opts);
	struct key k = {SURE, 255, (uint32_t)below(s, LEASE_KEYS)};
	uint64_t value[WORDS_MAX];
	struct hc_lease lease;
	char name[32];
	size_t bytes, n = key_name(k, name);

	o.lease_ms = LEASE_MS;
	int r = hc_get_or_lease(s->c.s[SURE], name, n, value, sizeof value, &bytes, &o, &lease);
	if (r == HC_LEASE) {
		compute(s, k, name, n, lease.token);
		return;
	}
	CHECK_EQ(r, HC_OK);
	CHECK(value_check(k, value, bytes) <= look(&s->l->lease_version[k.idx]));
	s->w->waits++;
	if (below(s, 16) == 0) /* its maker may have been killed */
		lease_again(s, name, n, lease.version);
}

/* ------------------------------------------------------------------ after a death */

/* The predecessor's session is gone: each of his mutations has happened by now, or never will. */
static void settle_key(struct self *s, struct key k)
{
	struct entry *e = entry_of(s, k);
	uint64_t pending = look(&e->pending), value[WORDS_MAX];
	char name[32];
	size_t n;

	if (pending == 0)
		return;
	int r = hc_get(s->c.s[k.store], name, key_name(k, name), value, sizeof value, &n);
	uint64_t version = r == HC_OK ? value_check(k, value, n) : 0;
	if (r == HC_OK && version == VERSION_OF(pending) && !(pending & DELETED)) {
		note(&e->acked, pending);
	} else if (r == HC_OK) {
		CHECK(version == VERSION_OF(e->acked) && !(e->acked & DELETED));
	} else {
		CHECK_EQ(r, HC_MISS);
		CHECK(k.store == LOOSE || (pending & DELETED) || (e->acked & DELETED) ||
			e->acked == 0);
		note(&e->acked, ++s->w->version << 1 | DELETED); /* not there: as if deleted now */
	}
	note(&e->pending, 0);
}

static void settle(struct self *s)
{
	uint64_t sum_pending = look(&s->w->sum_pending);
	char name[32], text[32] = "0";
	size_t n;

	if (look(&s->w->clear_pending))
		clear_all(s);
	for (uint32_t store = 0; store < STORES; store++)
		for (uint32_t i = 0; i < KEYS; i++)
			settle_key(s, (struct key){store, s->me, i});
	(void)hc_get(s->c.s[SURE], name, (size_t)sprintf(name, "sum-%u", s->me), text,
		sizeof text - 1, &n);
	uint64_t sum = strtoull(text, NULL, 10);
	uint64_t was = look(&s->w->sum), delta = look(&s->w->delta);
	CHECK(sum == was || (sum > was && sum <= sum_pending && (sum - was) % delta == 0));
	note(&s->w->sum, sum);
	note(&s->w->sum_pending, 0);
	note(&s->w->maybe, look(&s->w->maybe) + look(&s->w->adding));
	note(&s->w->adding, 0);
}

static void do_one(struct self *s)
{
	switch (below(s, 32)) {
	case 0 ... 13:
		do_get(s);
		break;
	case 14 ... 17:
		do_view(s);
		break;
	case 18 ... 22:
		do_set(s, any_key(s, true));
		break;
	case 23:
		do_delete(s, any_key(s, true));
		break;
	case 24:
		do_touch(s);
		break;
	case 25 ... 26:
		do_batch(s);
		break;
	case 27 ... 28:
		do_incr(s);
		break;
	default:
		do_lease(s);
	}
}

void worker_run(const struct t_daemon *d, struct ledger *l, uint32_t me)
{
	struct self s = {.l = l, .w = &l->worker[me], .me = me};

	s.state = l->seed ^ (uint64_t)me << 56 ^ look(&s.w->life) << 40;
	session_begin(&s.c, d, "chaos");
	settle(&s);
	note(&s.w->opened, 1);
	while (look(&l->order) == RUN) {
		do_one(&s);
		if (me == CLEARER && below(&s, 400) == 0)
			clear_all(&s);
		note(&s.w->beat_ns, t_now_ns());
	}
	hc_close(s.c.hc);
	_exit(0);
}
