/* stat_auto.c - what the policy auto goes by, in a store that has it. */
#include <inttypes.h>
#include <string.h>
#include "../daemon/pol_auto.h"
#include "stat.h"

static const struct {
	const char *name;
	enum shm_store_counter misses;
} evidence[POL_AUTO_CANDIDATES] = {{"w-tinylfu", SHM_SC_auto_w_tinylfu},
	{"s3-fifo", SHM_SC_auto_s3_fifo}, {"lru", SHM_SC_auto_lru}, {"lfu", SHM_SC_auto_lfu}};

static bool is_auto(const struct shm_store_entry *e)
{
	return strncmp(e->policy, "auto", sizeof e->policy) == 0;
}

const char *stat_auto_choice(const struct shm_store_entry *e)
{
	static const char *const names[] = {"w-tinylfu", "s3-fifo", "lru", "lfu"};
	uint64_t choice = shm_load_rlx(&e->counter[SHM_SC_auto_choice]);

	return choice >= 1 && choice <= POL_AUTO_CANDIDATES ? names[choice - 1] : "none yet";
}

void cli_auto_print(const struct shm_store_entry *e)
{
	char size[CLI_TEXT_BYTES];

	if (!is_auto(e))
		return;
	printf("\npolicy auto: now %s, changed %" PRIu64 " times; what it is chosen by takes %s\n"
	       "misses lately, had it been",
		stat_auto_choice(e), shm_load_rlx(&e->counter[SHM_SC_auto_changes]),
		cli_size(shm_load_rlx(&e->counter[SHM_SC_auto_own_bytes]), size));
	for (int i = 0; i < POL_AUTO_CANDIDATES; i++)
		printf("%s %s %.1f %%", i ? "," : "", evidence[i].name,
			(double)shm_load_rlx(&e->counter[evidence[i].misses]) / 1e4);
	putchar('\n');
}

void cli_auto_json(const struct shm_store_entry *e, struct json *j)
{
	if (!is_auto(e))
		return;
	json_begin(j, "auto", '{');
	json_string(j, "choice", stat_auto_choice(e));
	json_u64(j, "changes", shm_load_rlx(&e->counter[SHM_SC_auto_changes]));
	json_u64(j, "own_bytes", shm_load_rlx(&e->counter[SHM_SC_auto_own_bytes]));
	json_begin(j, "miss_ratios", '{');
	for (int i = 0; i < POL_AUTO_CANDIDATES; i++)
		json_double(j, evidence[i].name,
			(double)shm_load_rlx(&e->counter[evidence[i].misses]) / 1e6);
	json_end(j, '}');
	json_end(j, '}');
}
