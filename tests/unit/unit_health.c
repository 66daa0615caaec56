/* unit_health.c - each state of health, its reason in words, and which of two counts. */
#include <stdarg.h>
#include <string.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../../daemon/sup_host.h"
#include "../../tools/health.h"
#include "atomic.h"

static struct shm_control *ctl;
static struct hypercache_admin a;

/* One pool, one store, an engine that serves and beats. */
static void world_begin(void)
{
	ctl = calloc(1, sizeof *ctl);
	CHECK(ctl);
	a = (struct hypercache_admin){.ctl = ctl};
	a.answer.engine = ADMIN_ENGINE_SERVING;
	shm_store32_rlx(&ctl->eng_word, 1);
	shm_store_rlx(&ctl->state, SHM_ENGINE_SERVING);
	ctl->time_off_ns = (uint64_t)sup_host_time_off_ns();
	shm_store_rlx(&ctl->heartbeat_ns, sup_host_mono_ns());
	shm_store_rlx(&ctl->counter[SHM_DC_tick_ns], 500000000);
	(void)snprintf(ctl->pool[0].name, SHM_NAME_BYTES, "main");
	shm_store_rlx(&ctl->pool[0].id, 1);
	shm_store_rlx(&ctl->pool[0].wanted_bytes, 100 << 20);
	shm_store_rlx(&ctl->pool[0].counter[SHM_PC_limit_bytes], 100 << 20);
	shm_store_rlx(&ctl->pool[0].counter[SHM_PC_free_bytes], 20 << 20);
	shm_store32_rlx(&ctl->pool[0].pressure_ppm[SHM_PRESSURE_END], 750000);
	shm_store_rlx(&ctl->store[0].id, 2);
}

static void pool_set(enum shm_pool_counter c, uint64_t v)
{
	shm_store_rlx(&ctl->pool[0].counter[c], v);
}

static void store_set(enum shm_store_counter c, uint64_t v)
{
	shm_store_rlx(&ctl->store[0].counter[c], v);
}

/* The store's health is this, and all of these words are in its reason. */
static void check_health(const char *word, ...)
{
	char why[HYPERCACHE_HEALTH_WHY_BYTES];
	enum hypercache_health h = hypercache_health_store(&a, 0, why);
	const char *part;
	va_list parts;

	CHECK_STR(hypercache_health_word(h), word);
	CHECK_EQ(*why == 0, h == HYPERCACHE_OK);
	va_start(parts, word);
	while ((part = va_arg(parts, const char *)))
		if (!strstr(why, part))
			t_fail(__FILE__, __LINE__, "no \"%s\" in: %s", part, why);
	va_end(parts);
}

TEST(a_store_of_which_nothing_is_wrong_is_ok)
{
	world_begin();
	check_health("ok", NULL);
	free(ctl);
}

TEST(each_threshold_of_its_pool_is_pressure)
{
	world_begin();
	pool_set(SHM_PC_free_bytes, 12 << 20);
	pool_set(SHM_PC_pressure, SHM_PRESSURE_LOW);
	check_health("pressure", "pool main is full to 88.0 %", "pressure_low", "in the background",
		"down to 75.0 %", NULL);
	pool_set(SHM_PC_pressure, SHM_PRESSURE_HIGH);
	check_health("pressure", "pressure_high", "of all its stores", NULL);
	pool_set(SHM_PC_pressure, SHM_PRESSURE_FULL);
	check_health("pressure", "pressure_full", "each write evicts first", NULL);
	pool_set(SHM_PC_pressure, SHM_PRESSURE_END);
	check_health("ok", NULL);
	free(ctl);
}

TEST(its_own_limit_is_pressure_for_a_minute)
{
	world_begin();
	store_set(SHM_SC_evicted_limit_60s, 17);
	check_health("pressure", "its own limit", "17", NULL);
	store_set(SHM_SC_evicted_limit_60s, 0);
	check_health("ok", NULL);
	free(ctl);
}

TEST(a_system_that_is_short_of_memory_is_pressure)
{
	world_begin();
	pool_set(SHM_PC_limit_bytes, 50 << 20);
	check_health("ok", NULL); /* it is still growing */
	pool_set(SHM_PC_squeezes, 3);
	check_health("pressure", "50.0 MiB of 100.0 MiB", "system", NULL);
	free(ctl);
}

TEST(refused_writes_are_degraded_and_count_more_than_pressure)
{
	world_begin();
	pool_set(SHM_PC_pressure, SHM_PRESSURE_FULL);
	store_set(SHM_SC_refused_full_60s, 5);
	check_health("degraded", "5 writes", "refused", NULL);
	store_set(SHM_SC_refused_full_60s, 0);
	check_health("pressure", NULL);
	free(ctl);
}

TEST(lost_memory_is_degraded)
{
	world_begin();
	pool_set(SHM_PC_unusable_bytes, 8192);
	check_health("degraded", "pool main has lost 8.0 KiB", NULL);
	free(ctl);
}

TEST(an_engine_that_does_not_serve_is_degraded)
{
	char why[HYPERCACHE_HEALTH_WHY_BYTES];

	world_begin();
	store_set(SHM_SC_refused_full_60s, 5);
	shm_store_rlx(&ctl->state, SHM_ENGINE_ADOPTING);
	check_health("degraded", "(adopting)", NULL);
	a.answer.engine = ADMIN_ENGINE_WAITING;
	check_health("degraded", "(dead)", NULL);
	a.answer.engine = ADMIN_ENGINE_STOPPING;
	check_health("degraded", "(stopping)", NULL);
	a.answer.engine = ADMIN_ENGINE_SERVING;
	shm_store32_rlx(&ctl->eng_word, 1 | SHM_FUTEX_OWNER_DIED);
	CHECK_EQ(hypercache_health_engine(&a, why), HYPERCACHE_DEGRADED);
	free(ctl);
}

TEST(an_engine_without_a_heartbeat_is_degraded)
{
	uint64_t now_ns = sup_host_mono_ns();

	world_begin();
	shm_store_rlx(&ctl->heartbeat_ns, now_ns - 1000000000);
	check_health("ok", NULL); /* ten heartbeats of half a second */
	shm_store_rlx(&ctl->heartbeat_ns, now_ns - 90000000000);
	check_health("degraded", "no sign of life for 1 min 3", NULL);
	shm_store_rlx(&ctl->counter[SHM_DC_tick_ns], 10000000000);
	check_health("ok", NULL);
	free(ctl);
}
