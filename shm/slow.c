/* slow.c - the slow log in the journal (layout/l_journal.h): written by the engine, copied by tools. */
#include <string.h>
#include "atomic.h"
#include "journal.h"

const struct shm_slow *shm_journal_slow(
	const struct shm_journal *j, uint64_t bytes, uint32_t *ret_n)
{
	uint64_t off = j->slow_off;
	uint32_t n = j->n_slow;

	if (n == 0 || n > SHM_SLOWS || off % sizeof(struct shm_slow) || off < sizeof *j ||
		off > bytes || n * sizeof(struct shm_slow) > bytes - off)
		return NULL;
	*ret_n = n;
	return (const struct shm_slow *)(const void *)((const uint8_t *)j + off);
}

void shm_slow_put(struct shm_slow *log, uint32_t n_slow, uint64_t n, const struct shm_slow_rec *rec)
{
	struct shm_slow *s = &log[(n - 1) % n_slow];
	uint64_t words[SHM_SLOW_WORDS];

	memcpy(words, rec, sizeof words);
	shm_store_rlx(&s->number, 0);
	shm_reuse_begins();
	for (int i = 0; i < SHM_SLOW_WORDS; i++)
		shm_store_rlx(&s->word[i], words[i]);
	shm_store_rel(&s->number, n); /* rel:slow.number */
}

uint64_t shm_slow_get(const struct shm_slow *log, uint32_t i, struct shm_slow_rec *ret)
{
	const struct shm_slow *s = &log[i];
	uint64_t words[SHM_SLOW_WORDS], n = shm_load_acq(&s->number); /* acq:slow.number */

	for (int k = 0; k < SHM_SLOW_WORDS; k++)
		words[k] = shm_load_rlx(&s->word[k]);
	shm_copy_over();
	if (n == 0 || (shm_load_rlx(&s->number) != n))
		return 0;
	memcpy(ret, words, sizeof words);
	return n;
}
