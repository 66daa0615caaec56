/* crash_hot.c - an engine killed while it writes the hot keys: they are shown nevertheless, and the next engine goes on. */
#include <unistd.h>
#include "../../tools/hot_keys.h"
#include "../kit/t_step.h"
#include "../proc/cli_run.h"
#include "atomic.h"
#include "hot.h"
#include "hypercache.h"

static struct hypercache_hot hot_of(const struct t_daemon *d, uint64_t *ret_changes)
{
	char why[HYPERCACHE_ADMIN_WHY_BYTES];
	struct hypercache_admin a;
	struct hypercache_hot h;

	CHECK_EQ(hypercache_admin_open(d->admin, t_limit_ms(LIMIT_MS), &a, why), 0);
	CHECK_EQ(hypercache_hot(&a, 0, 1, &h, why), 0);
	*ret_changes = shm_hot_look((const struct shm_pool *)(const void *)a.pool[0].base);
	hypercache_admin_close(&a);
	return h;
}

/* Reads until the key is said to be hot, by an engine that wrote all of it. */
static void read_until_hot(const struct t_daemon *d, struct hc_store *s)
{
	uint64_t changes = 1, end_ns = t_now_ns() + (uint64_t)t_limit_ms(LIMIT_MS) * 1000000;
	struct hypercache_hot h = {0};
	char buf[8];

	while (h.n == 0 || changes % 2) {
		CHECK(t_now_ns() < end_ns);
		hypercache_hot_free(&h);
		for (int i = 0; i < 64; i++)
			CHECK_EQ(hc_get(s, "k", 1, buf, sizeof buf, NULL), HC_OK);
		h = hot_of(d, &changes);
	}
	CHECK(h.key[0].key_bytes == 1 && h.key[0].share > 0.99);
	hypercache_hot_free(&h);
}

TEST(hot_keys_half_written_are_written_by_the_next_engine)
{
	char once[T_PATH_BYTES], order[T_PATH_BYTES + 64];
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct hc_store *s;
	struct hc *hc;

	(void)snprintf(once, sizeof once, "%s", t_path("once"));
	FILE *f = fopen(once, "we");
	CHECK(f != NULL);
	fclose(f);
	(void)snprintf(order, sizeof order, "HC_STEP=kill:hot:begun:1:%s", once);
	struct t_daemon *d = t_daemon_start("heartbeat: 100ms\n", (const char *[]){order, NULL});
	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(LIMIT_MS);
	CHECK_EQ(hc_open(&hc, &o), HC_OK);
	CHECK_EQ(hc_store(hc, "default", &s), HC_OK);
	CHECK_EQ(hc_set(s, "k", 1, "v", 1, NULL), HC_OK);
	read_until_hot(d, s);
	CHECK_EQ(access(once, F_OK), -1);
	check_status(d, 0, ARGS("fsck"));
	t_step_killed("hot:begun");
	hc_close(hc);
	t_daemon_stop(d);
}
