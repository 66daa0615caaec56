/* unit_pol_session - who goes first among sessions, and is who is new safe?
 *
 * The clock is the test's.  A plain model, an array that is searched through, has to propose the same victims;
 * beside it each victim is held against the promises themselves.  Then the same for what a new engine rebuilds
 * from stamps, and for the engine's part: when it says that there is no other way.
 *
 * Planted bugs (shm/step.h) that this file must catch: 292, 294 to 296.
 */
#include "room_world.h"

enum { SESSIONS_MAX = 400, STEPS = 60000, UNIT = 16 };

#define SECOND_NS 1000000000ull

struct entry {
	uint64_t off, born_ms, used_ms, born_order, used_order;
	uint32_t node;
};

struct world {
	struct pol *p;
	uint64_t ttl_ms, idle_ms, grace_ms, now_ms, next_off, order;
	struct entry e[SESSIONS_MAX];
	int n;
};

static void world_new(struct world *m, uint64_t ttl_s, uint64_t idle_s, uint64_t grace_s)
{
	const struct pol_ops *ops = pol_find("session");
	const struct pol_values v = {{ttl_s * SECOND_NS, idle_s * SECOND_NS, grace_s * SECOND_NS}};

	CHECK(ops && ops->check(&v) == NULL);
	*m = (struct world){.ttl_ms = ttl_s * 1000,
		.idle_ms = idle_s * 1000,
		.grace_ms = grace_s * 1000,
		.now_ms = 1000 + t_random_below(1u << 30)};
	CHECK_EQ(ops->new (ops, 0, &v, &m->p), 0);
}

static void world_free(struct world *m)
{
	CHECK_EQ(m->p->ops->verify(m->p), 0);
	m->p->ops->free(m->p);
}

static void begin(struct world *m)
{
	struct entry *e = &m->e[m->n++];

	*e = (struct entry){.off = m->next_off += UNIT,
		.born_ms = m->now_ms,
		.used_ms = m->now_ms,
		.born_order = ++m->order,
		.used_order = m->order};
	CHECK_EQ(m->p->ops->insert(m->p, 1, e->off, UNIT, m->now_ms, &e->node), 0);
}

static void use(struct world *m, int i, bool write)
{
	struct entry *e = &m->e[i];

	if (write) {
		e->off = m->next_off += UNIT;
		m->p->ops->replace(m->p, e->node, e->off, UNIT * 2, m->now_ms);
	} else {
		m->p->ops->touch(m->p, e->node, m->now_ms);
	}
	if (e->used_ms != m->now_ms)
		e->used_order = ++m->order;
	e->used_ms = m->now_ms;
}

static void end(struct world *m, int i, int evicted)
{
	m->p->ops->remove(m->p, m->e[i].node, evicted);
	m->e[i] = m->e[--m->n];
}

static uint64_t age_of(const struct world *m, int i) { return m->now_ms - m->e[i].born_ms; }

/* The index of who should go; -1: nobody. */
static int model_victim(const struct world *m, bool pressed)
{
	int oldest = -1, idle = -1;

	for (int i = 0; i < m->n; i++) {
		if (oldest < 0 || m->e[i].born_order < m->e[oldest].born_order)
			oldest = i;
		if (idle < 0 || m->e[i].used_order < m->e[idle].used_order)
			idle = i;
	}
	if (oldest < 0)
		return -1;
	if (age_of(m, oldest) >= m->ttl_ms)
		return oldest;
	if (m->now_ms - m->e[idle].used_ms >= m->idle_ms)
		return idle;
	return age_of(m, oldest) >= m->grace_ms || pressed ? oldest : -1;
}

/* Who is proposed, as an index; -1: nobody. */
static int ask(struct world *m, bool pressed)
{
	uint64_t off = 0;

	m->p->pressed = pressed;
	if (m->p->ops->victim(m->p, m->now_ms, &off) != 0)
		return -1;
	for (int i = 0; i < m->n; i++)
		if (m->e[i].off == off)
			return i;
	CHECK(!"a victim is one of the entries");
	return -1;
}

/* The promises, whoever it is: to within `blur_ms` in the order, exactly in what is safe. */
static void check_promises(const struct world *m, int victim, bool pressed, uint64_t blur_ms)
{
	uint64_t past = 0, idle = 0, out = 0;

	for (int i = 0; i < m->n; i++) {
		past += age_of(m, i) >= m->ttl_ms + blur_ms;
		idle += m->now_ms - m->e[i].used_ms >= m->idle_ms + blur_ms;
		out += age_of(m, i) >= m->grace_ms + blur_ms;
	}
	CHECK(victim >= 0 || (!past && !idle && !out && (!pressed || m->n == 0)));
	if (victim < 0)
		return;
	bool is_past = age_of(m, victim) >= m->ttl_ms;
	bool is_idle = m->now_ms - m->e[victim].used_ms >= m->idle_ms;
	CHECK(is_past || !past);
	CHECK(is_past || is_idle || !idle);
	CHECK(age_of(m, victim) >= m->grace_ms || pressed);
	CHECK(m->p->ops->spared(m->p, m->e[victim].node, m->now_ms) == false);
}

/* Mostly moments, at times a long silence. */
static void time_goes_on(struct world *m)
{
	switch (t_random_below(400)) {
	case 0:
		m->now_ms += t_random_below(m->ttl_ms * 3);
		break;
	case 1:
	case 2:
		m->now_ms += t_random_below(m->idle_ms);
		break;
	default:
		m->now_ms += t_random_below(3) ? 0 : t_random_below(m->idle_ms / 50 + 2);
	}
}

static void compare(uint64_t ttl_s, uint64_t idle_s, uint64_t grace_s)
{
	static struct world m;
	int why[4] = {0};

	world_new(&m, ttl_s, idle_s, grace_s);
	for (int k = 0; k < STEPS; k++) {
		uint64_t what = t_random_below(100);
		time_goes_on(&m);
		if (what < 30 && m.n < SESSIONS_MAX)
			begin(&m);
		else if (what < 65 && m.n)
			use(&m, (int)t_random_below((uint64_t)m.n), what < 40);
		else if (what < 67 && m.n)
			end(&m, (int)t_random_below((uint64_t)m.n), 0);
		if (what < 70)
			continue;
		bool pressed = what >= 97;
		int i = ask(&m, pressed), want = model_victim(&m, pressed);
		CHECK_EQ(i, want);
		check_promises(&m, i, pressed, 0);
		if (i < 0) {
			why[0]++;
			continue;
		}
		why[age_of(&m, i) >= m.ttl_ms                    ? 1
			: m.now_ms - m.e[i].used_ms >= m.idle_ms ? 2
								 : 3]++;
		CHECK_EQ(ask(&m, pressed), i); /* again the same */
		end(&m, i, 1);
		if (k % 1000 == 0)
			CHECK_EQ(m.p->ops->verify(m.p), 0);
	}
	printf("     ttl %llu s: nobody %d, past their time %d, idle %d, oldest %d\n",
		(unsigned long long)ttl_s, why[0], why[1], why[2], why[3]);
	CHECK(why[1] > 20 && why[3] > 20 && (why[2] > 20 || idle_s == ttl_s));
	CHECK(grace_s == 0 || why[0] > 20);
	world_free(&m);
}

TEST(victims_are_those_of_a_plain_model)
{
	compare(1800, 600, 120);
	compare(60, 60, 60);
	compare(100, 7, 0);
	compare(4000000, 3000, 2);
}

TEST(times_that_contradict_each_other_are_refused)
{
	const struct pol_ops *ops = pol_find("session");
	struct pol_values v = pol_defaults(ops);

	CHECK(ops->check(&v) == NULL);
	v.v[2] = v.v[1] + 1;
	CHECK(strstr(ops->check(&v), "; ") != NULL);
	v = pol_defaults(ops);
	v.v[1] = v.v[0] + 1;
	CHECK(strstr(ops->check(&v), "; ") != NULL);
}

/* A second policy hears of the same sessions, in any order, by their stamps. */
TEST(what_is_rebuilt_from_stamps_keeps_the_order_and_the_grace)
{
	static struct world m, again;
	const uint64_t blur_ms = 1800000 / 1024 + 1;

	for (int round = 0; round < 20; round++) {
		world_new(&m, 1800, 600, 120);
		for (int k = 0; k < SESSIONS_MAX * 3; k++) {
			m.now_ms += t_random_below(6000);
			if (m.n < SESSIONS_MAX && k % 3 == 0)
				begin(&m);
			else if (m.n)
				use(&m, (int)t_random_below((uint64_t)m.n), k % 2);
		}
		again = m;
		const struct pol_values v = {{1800 * SECOND_NS, 600 * SECOND_NS, 120 * SECOND_NS}};
		CHECK_EQ(m.p->ops->new (m.p->ops, 0, &v, &again.p), 0);
		for (int i = again.n - 1; i > 0; i--) { /* any order */
			int k = (int)t_random_below((uint64_t)i + 1);
			struct entry other = again.e[i];
			again.e[i] = again.e[k];
			again.e[k] = other;
		}
		for (int i = 0; i < again.n; i++) {
			struct entry *e = &again.e[i];
			CHECK_EQ(again.p->ops->insert(
					 again.p, 1, e->off, UNIT, again.now_ms, &e->node),
				0);
			again.p->ops->restore(again.p, e->node, e->born_ms, e->used_ms);
		}
		CHECK_EQ(again.p->ops->verify(again.p), 0);
		while (again.n) {
			bool pressed = t_random_below(3) == 0;
			int i = ask(&again, pressed);
			check_promises(&again, i, pressed, blur_ms);
			if (i >= 0)
				end(&again, i, 1);
			again.now_ms += t_random_below(20000);
		}
		world_free(&again);
		world_free(&m);
	}
}

/* ------------------------------------------------------------ the engine's part */

static struct room w;

static void room_of_sessions(uint64_t max_entries)
{
	shm_u32 *ppm;

	room_new(&w, 16 * ROOM_MIB, 2);
	room_stop(&w);
	(void)snprintf(w.config->store[0].policy, sizeof w.config->store[0].policy, "session");
	room_begin(&w);
	ppm = w.e->ctl->pool[ROOM_POOL].pressure_ppm;
	shm_store32_rlx(&ppm[SHM_PRESSURE_END], 750000);
	shm_store32_rlx(&ppm[SHM_PRESSURE_LOW], 850000);
	shm_store32_rlx(&ppm[SHM_PRESSURE_HIGH], 900000);
	shm_store32_rlx(&ppm[SHM_PRESSURE_FULL], 950000);
	shm_store_rlx(&w.e->ctl->store[0].limit_entries, max_entries);
}

static double in_use(void)
{
	uint64_t idle = shm_alloc_free_bytes(w.p->w.alloc) + w.p->w.limbo.bytes;

	return 100.0 * (double)(w.p->bytes - idle) / (double)w.p->bytes;
}

TEST(who_is_new_goes_above_pressure_full_alone)
{
	uint64_t key = 0;

	room_of_sessions(0);
	while (room_counter(&w, 0, SHM_SC_evicted) == 0) {
		CHECK_EQ(room_set(&w, 0, ++key, 500), 0);
		room_turn(&w);
		CHECK(key < 1000000);
	}
	printf("     first new one evicted at %.2f %% in use\n", in_use());
	CHECK(in_use() > 94.9 && in_use() < 95.6);
	for (int i = 0; i < 20000; i++) { /* and it stays there: no write is refused */
		CHECK_EQ(room_set(&w, 0, ++key, 500), 0);
		room_turn(&w);
		CHECK(in_use() > 94.4 && in_use() < 96);
	}
	w.e->now_ns += 121 * SECOND_NS; /* now they are old enough */
	CHECK_EQ(room_set(&w, 0, ++key, 500), 0);
	room_turn(&w);
	CHECK(in_use() < 75.5);
	CHECK(room_find(&w, 0, key));
	room_check(&w);
	room_free(&w);
}

/* Another store's entries go first, and nothing that is new is in the way of a large value but at last. */
TEST(room_comes_from_elsewhere_first)
{
	uint64_t key = 0;

	room_of_sessions(0);
	for (int i = 0; i < 4000; i++)
		CHECK_EQ(room_set(&w, 0, ++key, 500), 0);
	for (int i = 0; i < 40000; i++) {
		CHECK_EQ(room_set(&w, 1, ++key, 300), 0);
		room_turn(&w);
	}
	for (int i = 0; i < 50; i++)
		CHECK_EQ(room_set(&w, 1, ++key, 700000), 0);
	CHECK(room_counter(&w, 1, SHM_SC_evicted) > 1000);
	CHECK_EQ(room_counter(&w, 0, SHM_SC_evicted), 0);
	CHECK_EQ(room_counter(&w, 0, SHM_SC_entries), 4000);
	room_check(&w);
	room_free(&w);
}

/* A store's own limit leaves no other way: the oldest goes, however new. */
TEST(a_limit_of_the_store_is_above_all)
{
	room_of_sessions(100);
	for (uint64_t key = 1; key <= 300; key++)
		CHECK_EQ(room_set(&w, 0, key, 100), 0);
	CHECK_EQ(room_counter(&w, 0, SHM_SC_entries), 100);
	for (uint64_t key = 1; key <= 300; key++)
		CHECK_EQ(room_find(&w, 0, key) != 0, key > 200);
	room_check(&w);
	room_free(&w);
}
