/* fuzz_config.c - can any text that is given as a configuration do harm, or be taken in half?
 *
 * What is refused says why in one line and changes nothing.  What is taken, printed and read again is
 * the same; and resolving it works or says why. */
#include <errno.h>
#include "../../daemon/config.h"
#include "fuzz.h"

enum { PRINT_BYTES = 1 << 18 };

static bool is_one_line(const char *text, size_t room)
{
	size_t n = strnlen(text, room);

	return n > 0 && n < room && !memchr(text, '\n', n);
}

static void check_same_when_printed(const struct config *c)
{
	static struct config again;
	static char text[PRINT_BYTES], why[CONFIG_ERROR_BYTES];

	FILE *f = fmemopen(text, sizeof text, "w");
	CHECK(f != NULL);
	config_print(c, f);
	CHECK(!ferror(f));
	CHECK_EQ(fclose(f), 0);
	memset(&again, 0xa5, sizeof again);
	int r = config_parse(&again, "printed", text, strlen(text), why, sizeof why);
	if (r != 0)
		t_fail(__FILE__, __LINE__, "what was printed is refused: %s\n%s", why, text);
	CHECK(memcmp(&again, c, sizeof again) == 0);
}

static enum fuzz_verdict fuzz_one(const uint8_t *data, size_t bytes)
{
	static struct config c, before;
	static char why[CONFIG_ERROR_BYTES];
	const struct config_env env = {1000, "/run/user/1000", "/var/state", "/home"};

	memset(&c, 0x5a, sizeof c);
	before = c;
	memset(why, 'x', sizeof why);
	int r = config_parse(&c, "f", data, bytes, why, sizeof why);
	if (r < 0) {
		CHECK(r == -EINVAL || (r == -E2BIG && bytes > CONFIG_FILE_MAX_BYTES));
		CHECK(is_one_line(why, sizeof why));
		CHECK(memcmp(&c, &before, sizeof c) == 0);
		return FUZZ_BAD;
	}
	CHECK_EQ(r, 0);
	CHECK(c.n_pools >= 1 && c.n_pools <= CONFIG_POOLS_MAX);
	CHECK(c.n_stores >= 1 && c.n_stores <= CONFIG_STORES_MAX);
	check_same_when_printed(&c);
	r = config_resolve_for(&c, &env, why, sizeof why);
	CHECK(r == 0 || (r == -EINVAL && is_one_line(why, sizeof why)));
	for (uint32_t i = 0; r == 0 && i < c.n_stores; i++)
		CHECK(c.store[i].pool_idx < c.n_pools);
	return FUZZ_GOOD;
}

FUZZ_TESTS(6000)
