/* unit_config_params - are a store's policy and what it is told read as they are meant?
 *
 * What is refused, and how, is in tests/golden/config (unit_config).
 *
 * Planted bugs (shm/step.h) that this file must catch: 291.
 */
#include <errno.h>
#include <string.h>
#include "../../daemon/config.h"
#include "../../daemon/pol.h"
#include "../kit/t.h"

static const struct config_env user = {.uid = 1000, .home = "/home/u"};

static void parse_good(struct config *c, const char *text)
{
	char err[CONFIG_ERROR_BYTES] = "";

	int r = config_parse(c, "t", text, strlen(text), err, sizeof err);
	CHECK_STR(err, "");
	CHECK_EQ(r, 0);
}

static void resolve_good(struct config *c)
{
	char err[CONFIG_ERROR_BYTES] = "";

	int r = config_resolve_for(c, &user, err, sizeof err);
	CHECK_STR(err, "");
	CHECK_EQ(r, 0);
}

/* What is printed is read back to the same. */
static void check_round_trip(const struct config *c)
{
	static char text[1 << 16];
	struct config back;
	FILE *to = fmemopen(text, sizeof text, "w");

	CHECK(to);
	config_print(c, to);
	CHECK_EQ(fclose(to), 0);
	memset(&back, 0x5a, sizeof back);
	parse_good(&back, text);
	CHECK_STR(back.store[0].policy, c->store[0].policy);
	CHECK(memcmp(&back.store[0].policy_params, &c->store[0].policy_params,
		      sizeof c->store[0].policy_params) == 0);
}

TEST(values_that_are_the_same_are_written_the_same)
{
	static const char *const same[] = {
		"stores: { s: { policy_params: { promote: 1, small: 20% }, policy: s3-fifo } }\n",
		"stores: { s: { policy_params: { small: \"0.20\", ghost: 90%, promote: 1 } } }\n",
		"stores: { s: { policy_params: \"promote=1, small=20%\", policy: default } }\n",
	};
	char err[CONFIG_ERROR_BYTES];
	struct config c, first;

	for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
		parse_good(&c, same[i]);
		check_round_trip(&c);
		resolve_good(&c);
		check_round_trip(&c);
		if (i == 0)
			first = c;
		CHECK(memcmp(&c, &first, sizeof c) == 0);
		const struct pol_values v = config_params_values(&c.store[0]);
		CHECK(v.v[0] == 200000 && v.v[1] == 1 && v.v[2] == 900000 && v.v[3] == 0);
	}
	CHECK(strcmp(c.store[0].policy, "s3-fifo") == 0 && c.store[0].policy_params.n == 2);
	parse_good(&c, "stores: { s: { policy_params: {} }, t: { policy: w-tinylfu } }\n");
	resolve_good(&c);
	CHECK(c.store[0].policy_params.n == 0 && strcmp(c.store[1].policy, "w-tinylfu") == 0);
	CHECK(config_params_values(&c.store[1]).v[1] == 800000);
	strcpy(c.store[1].policy, "fifi"); /* as an option may */
	CHECK(config_resolve_for(&c, &user, err, sizeof err) == -EINVAL);
	CHECK(strstr(err, "t.policy: there is no policy fifi; did you mean fifo?"));
}
