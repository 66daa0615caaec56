/* unit_journal.c - does the journal say of each request whether it was applied, and what a new engine
 * finds in each state? */
#include <errno.h>
#include <string.h>
#include "../kit/t.h"
#include "../../shm/atomic.h"
#include "../../shm/journal.h"
#include "../../shm/step.h"

enum { SESSIONS = 3, POOL_WORDS = 64 };

#define ID(i) (0xabc000ull + (i))

static struct shm_journal *j;
static shm_u64 pool[2][POOL_WORDS];
static struct shm_control ctl;

static void begin(void)
{
	CHECK_EQ(shm_journal_bytes(SESSIONS), 4096 + SESSIONS * 4096);
	j = calloc(1, shm_journal_bytes(SESSIONS));
	CHECK(j);
	j->n_sessions = SESSIONS;
	for (uint32_t i = 0; i < SESSIONS; i++)
		shm_journal_open(j, i, ID(i));
}

static void end(void) { free(j); }

static int decide(void)
{
	uint8_t *bases[2] = {(uint8_t *)pool[0], (uint8_t *)pool[1]};
	uint64_t bytes[2] = {sizeof pool[0], sizeof pool[1]};

	return shm_journal_decide(j, &ctl, bases, bytes, 2);
}

static struct shm_req req_of(uint32_t session, uint64_t request)
{
	return (struct shm_req){
		.session = session, .session_id = ID(session), .request = request, .verb = 7};
}

/* An intent to change word 9 of pool 1 from 5 to 6, as request 21 of session 2. */
static struct shm_req intend(void)
{
	struct shm_req req = req_of(2, 21);

	memset(pool, 0, sizeof pool);
	shm_store_rlx(&pool[1][9], 5);
	shm_journal_intend(j, &req, 1, 1001, 72, 5, 6, 44);
	CHECK_EQ(shm_load_rlx(&j->intent.state), SHM_INTENT_SET);
	CHECK(!shm_journal_find(j, 2, ID(2), 21));
	return req;
}

static void check_result(void)
{
	const struct shm_result *r = shm_journal_find(j, 2, ID(2), 21);

	CHECK(r);
	CHECK_EQ(r->lsn, 1001);
	CHECK_EQ(r->status, 0);
	CHECK_EQ(r->verb, 7);
	CHECK_EQ(r->value, 44);
}

/* ------------------------------------------------------------ damage */

TEST(damaged_intent_is_dropped_by_name)
{
	begin();
	for (int what = 0; what < 6; what++) {
		intend();
		struct shm_intent *in = &j->intent;
		if (what == 0)
			in->pool_idx = 2;
		else if (what == 1)
			in->session = SESSIONS;
		else if (what == 2)
			in->slot_off += 4;
		else if (what == 3)
			in->slot_off = sizeof pool[1];
		else if (what == 4)
			in->slot_off = ~7ull;
		else
			in->session = ~0u;
		CHECK_EQ(decide(), -EBADMSG);
		CHECK(!shm_journal_find(j, 2, ID(2), 21));
		CHECK_EQ(decide(), 0);
	}
	end();
}

TEST(intent_of_an_ended_session_leaves_no_result_to_the_next)
{
	begin();
	intend();
	shm_journal_open(j, 2, 999);
	shm_store_rlx(&pool[1][9], 6);
	CHECK_EQ(decide(), 1);
	CHECK(!shm_journal_find(j, 2, ID(2), 21));
	CHECK(!shm_journal_find(j, 2, 999, 21));
	end();
}

TEST(unknown_requests_have_no_result)
{
	begin();
	struct shm_req req = req_of(1, 70);
	CHECK(!shm_journal_find(j, 1, ID(1), 70));
	shm_journal_finish(j, &req, 5, 0, 0);
	CHECK(shm_journal_find(j, 1, ID(1), 70));
	CHECK(!shm_journal_find(j, 1, ID(2), 70));
	CHECK(!shm_journal_find(j, 2, ID(1), 70));
	CHECK(!shm_journal_find(j, 2, ID(2), 70));
	CHECK(!shm_journal_find(j, 1, ID(1), 70 + SHM_RESULTS));
	CHECK(!shm_journal_find(j, 1, ID(1), 70 - SHM_RESULTS));
	shm_journal_open(j, 1, ID(1)); /* begins anew */
	CHECK(!shm_journal_find(j, 1, ID(1), 70));
	end();
}

/* ------------------------------------------------------------ each state */

TEST(no_intent)
{
	begin();
	CHECK_EQ(decide(), 0);
	end();
}

TEST(intended_not_published)
{
	begin();
	intend();
	CHECK_EQ(decide(), 2);
	CHECK(!shm_journal_find(j, 2, ID(2), 21));
	CHECK_EQ(decide(), 0);
	end();
}

TEST(published_without_result)
{
	begin();
	intend();
	shm_store_rlx(&pool[1][9], 6);
	CHECK_EQ(decide(), 1);
	check_result();
	CHECK_EQ(decide(), 0);
	check_result();
	end();
}

TEST(result_written_intent_not_cleared)
{
	begin();
	struct shm_req req = intend();
	shm_store_rlx(&pool[1][9], 6);
	shm_journal_finish(j, &req, 1001, 0, 44);
	check_result();
	shm_store_rlx(&j->intent.state, SHM_INTENT_SET);
	CHECK_EQ(decide(), 1);
	check_result();
	end();
}

TEST(finished)
{
	begin();
	struct shm_req req = intend();
	shm_store_rlx(&pool[1][9], 6);
	shm_journal_finish(j, &req, 1001, 0, 44);
	CHECK_EQ(decide(), 0);
	check_result();
	end();
}

TEST(removal_is_decided_by_an_empty_slot)
{
	struct shm_req req = req_of(0, 1);

	begin();
	for (int happened = 0; happened < 2; happened++) {
		shm_store_rlx(&pool[0][3], happened ? 0 : 77);
		shm_journal_intend(j, &req, 0, 3, 24, 77, 0, 0);
		CHECK_EQ(decide(), happened ? 1 : 2);
		CHECK_EQ(shm_journal_find(j, 0, ID(0), 1) != NULL, happened);
	}
	end();
}

/* A clear's word is an epoch of the control segment: that of a store, and no other word. */
TEST(a_clear_is_decided_by_its_store_s_epoch)
{
	struct shm_req req = req_of(0, 1);
	const uint64_t first = offsetof(struct shm_control, store[0].epoch);
	const uint64_t last = first + (SHM_STORES_MAX - 1) * sizeof(struct shm_store_entry);

	begin();
	for (int happened = 0; happened < 2; happened++) {
		shm_store_rlx(&ctl.store[SHM_STORES_MAX - 1].epoch, happened ? 8 : 7);
		shm_journal_intend(j, &req, SHM_INTENT_CONTROL, 3, last, 7, 8, 99);
		CHECK_EQ(decide(), happened ? 1 : 2);
		CHECK_EQ(shm_journal_find(j, 0, ID(0), 1) != NULL, happened);
	}
	CHECK_EQ(shm_journal_find(j, 0, ID(0), 1)->value, 99);
	const uint64_t wrong[] = {0, first - 8, first + 8, first + 1, last + 640, ~7ull};
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		shm_journal_intend(j, &req, SHM_INTENT_CONTROL, 3, wrong[i], 7, 8, 99);
		CHECK_EQ(decide(), -EBADMSG);
	}
	end();
}

TEST(changes_of_the_engine_itself_leave_nothing)
{
	struct shm_req req = {.session = SHM_REQ_ENGINE, .request = 5};

	begin();
	shm_journal_intend(j, &req, 1, 1, 72, 5, 6, 0);
	CHECK_EQ(decide(), 0);
	shm_journal_finish(j, &req, 1, 0, 0);
	for (uint32_t i = 0; i < SESSIONS; i++)
		CHECK(!shm_journal_find(j, i, ID(i), 5));
	end();
}

/* The last SHM_RESULTS of each session, those of others untouched. */
TEST(results_are_kept_as_long_as_promised)
{
	begin();
	for (uint64_t n = 1; n <= 1000; n++) {
		struct shm_req req = req_of(n % SESSIONS, n / SESSIONS + 1);
		shm_journal_intend(j, &req, 0, n, 8, n, n + 1, n * 3);
		shm_journal_finish(j, &req, n, 0, n * 3);
		for (uint64_t m = n < SESSIONS * SHM_RESULTS ? 1 : n - SESSIONS * SHM_RESULTS + 1;
			m <= n; m++) {
			const struct shm_result *r = shm_journal_find(
				j, m % SESSIONS, ID(m % SESSIONS), m / SESSIONS + 1);
			CHECK(r && r->lsn == m && r->value == m * 3);
		}
	}
	end();
}

/* ------------------------------------------------------------------ the slow log */

/* What the header says of it is looked at before it is followed: tools read what a broken engine may have written. */
TEST(a_slow_log_outside_of_its_file_is_none)
{
	const uint64_t bytes = shm_journal_bytes_all(SESSIONS),
		       off = shm_journal_slow_off(SESSIONS);
	static const struct {
		int64_t off_more;
		uint32_t n;
	} bad[] = {{0, 0}, {0, SHM_SLOWS + 1}, {0, UINT32_MAX}, {256, SHM_SLOWS}, {8, 1},
		{INT64_MIN, 1}};
	uint32_t n = 7;

	j = calloc(1, bytes);
	CHECK(j);
	CHECK(shm_journal_slow(j, bytes, &n) == NULL); /* an older daemon's says nothing of it */
	j->slow_off = off;
	j->n_slow = SHM_SLOWS;
	CHECK((const uint8_t *)shm_journal_slow(j, bytes, &n) == (const uint8_t *)j + off);
	CHECK_EQ(n, SHM_SLOWS);
	CHECK(shm_journal_slow(j, bytes - 1, &n) == NULL);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		j->slow_off = off + (uint64_t)bad[i].off_more;
		j->n_slow = bad[i].n;
		CHECK(shm_journal_slow(j, bytes, &n) == NULL);
	}
	j->slow_off = 0; /* the header itself */
	j->n_slow = 1;
	CHECK(shm_journal_slow(j, bytes, &n) == NULL);
	end();
}

TEST(slow_entries_are_whole_or_not_there)
{
	enum { N = 4 };
	struct shm_slow log[N] = {0};
	struct shm_slow_rec rec = {.hash = 5, .key_bytes = 3, .key = "abc"}, is;

	for (uint32_t i = 0; i < N; i++)
		CHECK_EQ(shm_slow_get(log, i, &is), 0);
	for (uint64_t n = 1; n <= N + 2; n++) {
		rec.lsn = n * 10;
		shm_slow_put(log, N, n, &rec);
	}
	for (uint64_t n = 3; n <= N + 2; n++) { /* the last ones, each at its place */
		CHECK_EQ(shm_slow_get(log, (uint32_t)((n - 1) % N), &is), n);
		CHECK_EQ(is.lsn, n * 10);
		CHECK_EQ(is.hash, 5);
		CHECK(memcmp(is.key, "abc", 4) == 0);
	}
	shm_store_rlx(&log[1].number, 0); /* an engine died while it wrote that one */
	CHECK_EQ(shm_slow_get(log, 1, &is), 0);
}
