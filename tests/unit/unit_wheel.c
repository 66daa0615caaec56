/* unit_wheel - does the wheel tell of every timer, none early, in bounded pieces?
 *
 * Beside it an array of what is due when, searched through.  Time is a number here.
 *
 * Planted bugs (shm/step.h) that this file must catch: 200.
 */
#include "../kit/t.h"
#include <stdlib.h>
#include <string.h>
#include "../../daemon/wheel.h"

enum { N = 3000 };

struct world {
	struct wheel w;
	uint64_t now_ms;
	uint64_t due_ms[N]; /* 0: no timer */
	uint64_t n, told;
};

static struct world *world_new(uint64_t now_ms)
{
	struct world *x = calloc(1, sizeof *x);

	CHECK(x);
	x->now_ms = now_ms;
	wheel_init(&x->w, now_ms);
	return x;
}

static void world_free(struct world *x)
{
	wheel_fini(&x->w);
	free(x);
}

static void set(struct world *x, uint32_t i, uint64_t in_ms)
{
	x->n += x->due_ms[i] == 0;
	x->due_ms[i] = x->now_ms + in_ms;
	CHECK_EQ(wheel_set(&x->w, i, x->due_ms[i]), 0);
}

static void drop(struct world *x, uint32_t i)
{
	x->n -= x->due_ms[i] != 0;
	x->due_ms[i] = 0;
	wheel_drop(&x->w, i);
}

/* Asks for at most so many pieces of work; each timer that is told of was due.  True: there may be more. */
static bool ask(struct world *x, int budget)
{
	uint32_t i = 0;

	while (budget-- > 0) {
		int r = wheel_next(&x->w, x->now_ms, &i);
		if (r < 0)
			return false;
		if (r == 0)
			continue;
		CHECK(i < N && x->due_ms[i] != 0);
		CHECK(x->due_ms[i] <= x->now_ms);
		x->due_ms[i] = 0;
		x->n--;
		x->told++;
	}
	return true;
}

/* After all work is done: who is due by more than a tick has been told of. */
static void check_all(const struct world *x)
{
	CHECK_EQ(x->w.n, x->n);
	CHECK_EQ(wheel_verify(&x->w), 0);
	for (uint32_t i = 0; i < N; i++)
		CHECK(x->due_ms[i] == 0 || x->due_ms[i] + WHEEL_TICK_MS > x->now_ms);
}

/* Anything from a moment to two years. */
static uint64_t some_ms(void)
{
	uint64_t bits = t_random_below(36);

	return t_random_below((1ull << bits) + 1);
}

static void run(uint64_t begin_ms, int steps)
{
	struct world *x = world_new(begin_ms);

	for (int i = 0; i < steps; i++) {
		uint32_t who = 1 + (uint32_t)t_random_below(N - 1);
		switch (t_random_below(8)) {
		case 0:
			drop(x, who);
			break;
		case 1: /* time goes on; sometimes far, as when the engine was stopped */
			x->now_ms += t_random_below(50) ? t_random_below(200) : some_ms();
			break;
		case 2: /* the work is done in part only */
			(void)ask(x, 1 + (int)t_random_below(4));
			break;
		case 3:
			while (ask(x, 64)) {
			}
			check_all(x);
			break;
		default:
			set(x, who, t_random_below(4) ? t_random_below(100000) : some_ms());
		}
	}
	while (ask(x, 64)) {
	}
	check_all(x);
	CHECK(x->told > (uint64_t)steps / 20);
	world_free(x);
}

TEST(every_timer_is_told_of_and_none_early)
{
	run(0, 30000);
	run(123456789, 30000);
	run(86400000ull * 365, 30000);
}

TEST(work_comes_in_pieces_however_much_is_due_at_once)
{
	enum { MANY = 1 << 20 };
	struct wheel w;
	uint64_t pieces = 0, told = 0;
	uint32_t i = 0;

	wheel_init(&w, 5000);
	for (uint32_t k = 1; k <= MANY; k++)
		CHECK_EQ(wheel_set(&w, k, 3605000), 0); /* an hour, all of them */
	CHECK_EQ(wheel_next(&w, 3604999, &i), 0);       /* each call does one timer's work */
	for (int r; (r = wheel_next(&w, 3605000 + WHEEL_TICK_MS, &i)) >= 0; pieces++)
		told += (uint64_t)r;
	CHECK_EQ(told, MANY);
	CHECK(pieces < MANY * (uint64_t)WHEEL_LEVELS);
	CHECK_EQ(w.n, 0);
	CHECK(wheel_bytes(&w) < MANY * 18ull);
	wheel_fini(&w);
}

TEST(a_long_sleep_costs_nothing)
{
	struct wheel w;
	uint32_t i = 0;
	int calls = 0;

	wheel_init(&w, 0);
	CHECK_EQ(wheel_set(&w, 7, 1), 0);
	CHECK_EQ(wheel_set(&w, 8, 86400000ull * 365 * 20), 0);
	CHECK_EQ(wheel_next(&w, 86400000ull * 365 * 10, &i), 1);
	CHECK_EQ(i, 7);
	CHECK_EQ(wheel_next(&w, 86400000ull * 365 * 10, &i), -1);
	while (wheel_next(&w, 86400000ull * 365 * 20 + WHEEL_TICK_MS, &i) == 0)
		calls++;
	CHECK_EQ(i, 8);
	CHECK(calls <= WHEEL_LEVELS);
	wheel_drop(&w, 9); /* never had one */
	wheel_drop(&w, 1 << 30);
	CHECK_EQ(wheel_verify(&w), 0);
	wheel_fini(&w);
}
