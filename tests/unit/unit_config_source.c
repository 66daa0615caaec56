/* unit_config_source.c - options on top of a file, differences, and what a reload makes of them. */
#include <errno.h>
#include <string.h>
#include "../../daemon/config_source.h"
#include "../kit/t.h"

static const char base[] = "log_level: warn\n"
			   "pools: { p: { size: 8MiB }, q: { size: 16MiB } }\n"
			   "stores:\n"
			   "  a: { ttl: 5s }\n"
			   "  b.c: { pool: q }\n";

static void take(struct config *c, struct config_places *places, const char *text)
{
	const struct config_env env = {.uid = 0};
	char err[CONFIG_ERROR_BYTES] = "";

	int r = config_parse_places(c, places, "t", text, strlen(text), err, sizeof err);
	if (r == 0)
		r = config_resolve_for(c, &env, err, sizeof err);
	if (r < 0)
		fprintf(stderr, "  %s\n", err);
	CHECK_EQ(r, 0);
}

/* -- options -- */

TEST(an_option_that_makes_no_sense_says_what_would)
{
	static const struct {
		const char *set, *want;
	} bad[] = {
		{"log_level", "\"log_level\": this is no KEY=VALUE; use one as"},
		{"=debug", "\"=debug\": this is no KEY=VALUE"},
		{"", "\"\": this is no KEY=VALUE"},
		{"log_lvel=debug", "\"log_lvel\": unknown key; did you mean log_level?"},
		{"zzz=1", "\"zzz\": unknown key; use one of `hypercached --help-config`"},
		{"ttl=5s", "\"ttl\": unknown key"},
		{"log_level=loud",
			"\"log_level\": \"loud\" is not a choice; use one of error, warn"},
		{"pools.p=1", "\"pools.p\": the key is missing; use pools.p.KEY"},
		{"pools.x.size=8MiB", "\"pools.x.size\": there is no pool x; name it in the file"},
		{"pools.p.szie=8MiB", "\"pools.p.szie\": unknown key; did you mean size?"},
		{"stores.b.ttl=5s", "there is no store b"},
		{"stores.a.ttl=5", "lacks a unit"},
	};
	static struct config c, before;
	char err[CONFIG_ERROR_BYTES];

	take(&c, NULL, base);
	memcpy(&before, &c, sizeof c);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		CHECK_EQ(config_set(&c, NULL, bad[i].set, err, sizeof err), -EINVAL);
		if (!strstr(err, bad[i].want))
			fprintf(stderr, "  %s\n  %s\n", bad[i].want, err);
		CHECK(strstr(err, bad[i].want));
	}
	CHECK(memcmp(&c, &before, sizeof c) == 0);
}

TEST(each_value_has_its_place)
{
	static struct config c;
	static struct config_places at;
	char err[CONFIG_ERROR_BYTES];
	enum { B_C = 1 + CONFIG_POOLS_MAX + 1 };

	take(&c, &at, base);
	CHECK_EQ(config_set(&c, &at, "stores.b.c.ttl=7s", err, sizeof err), 0);
	CHECK_EQ(c.store[1].ttl_ns, UINT64_C(7000000000));
	CHECK_EQ(at.key[B_C][CONFIG_KEY_store_ttl].from, CONFIG_FROM_OPTION);
	CHECK_EQ(at.key[B_C][CONFIG_KEY_store_pool].from, CONFIG_FROM_FILE);
	CHECK_EQ(at.key[B_C][CONFIG_KEY_store_pool].line, 5);
	CHECK_EQ(at.key[0][CONFIG_KEY_log_level].line, 1);
	CHECK_EQ(at.key[0][CONFIG_KEY_max_clients].from, CONFIG_FROM_DEFAULT);
	CHECK_EQ(at.key[2][CONFIG_KEY_pool_size].line, 2);
}

/* -- differences -- */

struct said {
	char text[4096];
	size_t n;
};

static void say(void *arg, const struct config_change *c)
{
	static const char *const words[] = {"changed", "added", "removed"};
	struct said *s = arg;
	char path[CONFIG_PATH_BYTES];

	s->n += (size_t)snprintf(s->text + s->n, sizeof s->text - s->n, "%s %s %s\n",
		words[c->what], config_path(c->scope, c->name, c->key, path),
		c->live ? "live" : "start");
}

TEST(differences_are_told_by_names_whatever_the_order)
{
	static struct config was, is;
	struct said s = {.n = 0};

	take(&was, NULL, base);
	take(&is, NULL,
		"stores: { b.c: { pool: q }, a: { ttl: 5s, pool: p } }\n"
		"pools: { q: { size: 16MiB }, p: { size: 8MiB } }\nlog_level: warn\n");
	CHECK_EQ(config_diff(&was, &is, say, &s), 0);
	take(&is, NULL,
		"max_clients: 7\nlog_level: info\n"
		"pools: { p: { size: 8MiB, scrub: true }, r: {} }\nstores: { n: {}, a: {} }\n");
	CHECK_EQ(config_diff(&was, &is, say, &s), 9);
	CHECK_STR(s.text,
		"changed max_clients start\nchanged max_clients_per_user live\n"
		"changed log_level live\nchanged pools.p.scrub start\nremoved pools.q start\n"
		"added pools.r live\nchanged stores.a.ttl live\nremoved stores.b.c live\n"
		"added stores.n live\n");
}

TEST(what_was_made_by_hand_stays_until_the_file_names_it)
{
	static struct config run, is;

	take(&run, NULL, base);
	for (uint32_t i = 0; i < run.n_stores; i++)
		run.store[i].id = 100 + i;
	config_store_init(&run.store[run.n_stores], "hand");
	strcpy(run.store[run.n_stores].pool, "q");
	run.store[run.n_stores].pool_idx = 1;
	run.store[run.n_stores].by_admin = true;
	config_store_fill(&run, &run.store[run.n_stores]);
	run.store[run.n_stores++].id = 102;

	take(&is, NULL, base);
	CHECK_EQ(config_diff(&run, &is, NULL, NULL), 0);
	take(&is, NULL,
		"pools: { q: { size: 16MiB }, p: { size: 8MiB } }\n"
		"stores: { n: { pool: q }, b.c: { pool: q, ttl: 9s } }\n");
	CHECK_EQ(config_merged_stores(&run, &is), 3);
	config_merge(&run, &is);
	CHECK_EQ(run.n_stores, 3);
	CHECK_STR(run.store[0].name, "b.c"); /* as it was, with its id, and what may change */
	CHECK_EQ(run.store[0].id, 101);
	CHECK_EQ(run.store[0].ttl_ns, UINT64_C(9000000000));
	CHECK_STR(run.store[1].name, "hand");
	CHECK_EQ(run.store[1].id, 102);
	CHECK_STR(run.store[2].name, "n");
	CHECK_EQ(run.store[2].id, 0);
	CHECK_EQ(run.store[2].pool_idx, 1); /* in the order of the running pools */
	CHECK_STR(run.pool[0].name, "p");
	CHECK_EQ(run.store[3].name[0], 0);

	take(&is, NULL,
		"pools: { p: { size: 8MiB }, q: { size: 16MiB } }\n"
		"stores: { b.c: { pool: q, ttl: 9s }, n: { pool: q }, hand: { pool: q } }\n");
	CHECK_EQ(config_diff(&run, &is, NULL, NULL), 1); /* the log level of the first file */
	config_merge(&run, &is);
	CHECK(!run.store[1].by_admin);
}
