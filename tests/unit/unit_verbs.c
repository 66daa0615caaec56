/* unit_verbs.c - what each mutation of the library puts on the wire, and what it makes of each answer:
 * conditions, outputs, arguments out of range.  The engine is a thread with a script (fake_engine.h).
 */
#include "fake_engine.h"
#include "hc_i.h"

struct session {
	struct fake f;
	struct hc *hc;
	struct hc_store *s;
};

static void begin(struct session *x, void (*script)(struct fake *f))
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);

	fake_init(&x->f);
	fake_run(&x->f, script);
	o.socket = x->f.path;
	o.timeout_ms = (uint32_t)t_limit_ms(FAKE_WAIT_MS);
	CHECK_EQ(hc_open(&x->hc, &o), HC_OK);
	CHECK_EQ(hc_store(x->hc, "default", &x->s), HC_OK);
}

static void end(struct session *x)
{
	hc_close(x->hc);
	fake_join(&x->f);
	fake_fini(&x->f);
}

static void just_open(struct fake *f)
{
	fake_open(f);
	fake_bye(f);
}

/* The next request has this verb and key "k"; returns it. */
static struct wire_request expect(struct fake *f, uint32_t verb)
{
	struct wire_request q;

	CHECK(fake_get(f, &q));
	CHECK_EQ(q.verb, verb);
	CHECK_EQ(q.store_idx, 9);
	CHECK_EQ(q.store_id, FAKE_STORE);
	CHECK(q.key_bytes == 1 && memcmp(q.key, "k", 1) == 0);
	return q;
}

static void answer(
	struct fake *f, const struct wire_request *q, int status, uint64_t lsn, uint64_t value)
{
	CHECK(fake_put(f, &(struct wire_answer){.verb = q->verb,
				  .request = q->request,
				  .status = status,
				  .lsn = lsn,
				  .value = value}));
}

/* ------------------------------------------------------------------ conditions */

static const struct {
	uint32_t mode;
	uint64_t version, stamp;
	int status;
	uint64_t lsn;
} conditions[] = {
	{HC_SET, 0, 0, HC_OK, 5},
	{HC_SET, 0, 8, HC_OK, 6},
	{HC_ADD, 0, 0, HC_EXISTS, 7},
	{HC_REPLACE, 0, 0, HC_MISS, 0},
	{HC_IF_VERSION, 77, 0, HC_OK, 8},
	{HC_IF_VERSION, 77, 3, HC_CONFLICT, 9},
	{HC_IF_NEWER, 0, UINT64_MAX, HC_OLDER, 10},
	{HC_IF_NEWER, 0, 0, HC_E_FULL, 0},
};
enum { N_CONDITIONS = sizeof conditions / sizeof conditions[0] };

static void serve_conditions(struct fake *f)
{
	fake_open(f);
	for (int i = 0; i < N_CONDITIONS; i++) {
		struct wire_request q = expect(f, WIRE_SET);
		CHECK_EQ(q.mode, conditions[i].mode);
		CHECK_EQ(q.version, conditions[i].version);
		CHECK_EQ(q.stamp, conditions[i].stamp);
		CHECK_EQ(q.flags, 1);
		answer(f, &q, conditions[i].status, conditions[i].lsn, 0);
	}
	fake_bye(f);
}

TEST(conditions_go_out_and_versions_come_back)
{
	struct session x;

	begin(&x, serve_conditions);
	for (int i = 0; i < N_CONDITIONS; i++) {
		uint64_t version = 99;
		struct hc_set_opts o = HC_OPTS(hc_set_opts);
		o.flags = 1;
		o.mode = conditions[i].mode;
		o.version = conditions[i].version;
		o.stamp = conditions[i].stamp;
		o.ret_version = &version;
		CHECK_EQ(hc_set(x.s, "k", 1, "v", 1, &o), conditions[i].status);
		CHECK_EQ(version, conditions[i].lsn ? conditions[i].lsn : 99);
	}
	end(&x);
}

static void serve_joins(struct fake *f)
{
	fake_open(f);
	struct wire_request q = expect(f, WIRE_SET);
	CHECK(q.mode == WIRE_MODE_APPEND && q.version == 0 && q.value_bytes == 3);
	answer(f, &q, HC_OK, 5, 1);
	q = expect(f, WIRE_SET);
	CHECK(q.mode == WIRE_MODE_PREPEND && q.version == 5 && q.value_bytes == 0);
	answer(f, &q, HC_CONFLICT, 6, 0);
	q = expect(f, WIRE_DELETE);
	CHECK_EQ(q.version, 6);
	answer(f, &q, HC_CONFLICT, 7, 0);
	q = expect(f, WIRE_DELETE);
	CHECK_EQ(q.version, 0);
	answer(f, &q, HC_OK, 8, 0);
	fake_bye(f);
}

TEST(append_prepend_and_delete_of_a_version)
{
	struct hc_set_opts o = HC_OPTS(hc_set_opts);
	uint64_t version = 0;
	struct session x;

	begin(&x, serve_joins);
	o.ret_version = &version;
	CHECK_EQ(hc_append(x.s, "k", 1, "abc", 3, &o), HC_OK);
	CHECK_EQ(version, 5);
	o.version = version;
	CHECK_EQ(hc_prepend(x.s, "k", 1, NULL, 0, &o), HC_CONFLICT);
	CHECK_EQ(version, 6);
	CHECK_EQ(hc_delete_if(x.s, "k", 1, version), HC_CONFLICT);
	CHECK_EQ(hc_delete(x.s, "k", 1), HC_OK);
	end(&x);
}

static void serve_touches(struct fake *f)
{
	fake_open(f);
	struct wire_request q = expect(f, WIRE_TOUCH);
	CHECK_EQ(q.ttl_ms, 5000);
	answer(f, &q, HC_OK, 5, 0);
	q = expect(f, WIRE_TOUCH);
	CHECK_EQ(q.ttl_ms, UINT64_MAX);
	answer(f, &q, HC_MISS, 0, 0);
	fake_bye(f);
}

TEST(touch_says_how_long)
{
	struct session x;

	begin(&x, serve_touches);
	CHECK_EQ(hc_touch(x.s, "k", 1, 5000), HC_OK);
	CHECK_EQ(hc_touch(x.s, "k", 1, HC_TTL_NEVER), HC_MISS);
	end(&x);
}

static const struct {
	int64_t delta, initial, first; /* first: what a new entry gets */
	uint32_t wrap, must_exist, how;
	int status;
	int64_t sum;
} sums[] = {
	{1, 0, 1, 0, 0, 0, HC_OK, 41},
	{-1, 10, 9, 0, 1, WIRE_MUST_EXIST, HC_MISS, 0},
	{2, INT64_MAX, INT64_MAX, 0, 0, 0, HC_OK, INT64_MIN},
	{2, INT64_MAX, INT64_MIN + 1, 1, 0, WIRE_WRAP, HC_OK, -1},
	{-1, INT64_MIN, INT64_MIN, 0, 0, 0, HC_E_NOT_NUMBER, 0},
	{INT64_MIN, -1, INT64_MAX, 1, 1, WIRE_WRAP | WIRE_MUST_EXIST, HC_E_FULL, 0},
};
enum { N_SUMS = sizeof sums / sizeof sums[0] };

static void serve_sums(struct fake *f)
{
	fake_open(f);
	for (int i = 0; i < N_SUMS; i++) {
		struct wire_request q = expect(f, WIRE_INCR);
		CHECK_EQ(q.delta, sums[i].delta);
		CHECK_EQ(q.initial, sums[i].first);
		CHECK_EQ(q.how, sums[i].how);
		CHECK_EQ(q.ttl_ms, 7);
		answer(f, &q, sums[i].status, 5, (uint64_t)sums[i].sum);
	}
	struct wire_request q = expect(f, WIRE_INCR);
	CHECK(q.delta == 3 && q.initial == 3 && q.how == 0 && q.ttl_ms == 0);
	answer(f, &q, HC_OK, 6, 3);
	fake_bye(f);
}

TEST(numbers_go_out_and_sums_come_back)
{
	struct session x;

	begin(&x, serve_sums);
	for (int i = 0; i < N_SUMS; i++) {
		struct hc_incr_opts o = HC_OPTS(hc_incr_opts);
		int64_t sum = 77;
		o.initial = sums[i].initial;
		o.ttl_ms = 7;
		o.wrap = sums[i].wrap;
		o.must_exist = sums[i].must_exist;
		CHECK_EQ(hc_incr(x.s, "k", 1, sums[i].delta, &o, &sum), sums[i].status);
		CHECK_EQ(sum, sums[i].status == HC_OK ? sums[i].sum : 77);
	}
	CHECK_EQ(hc_incr(x.s, "k", 1, 3, NULL, NULL), HC_OK);
	end(&x);
}

TEST(arguments_out_of_range)
{
	const struct hc_set_opts bad_set[] = {
		{.size = sizeof bad_set[0], .mode = HC_IF_NEWER + 1},
		{.size = sizeof bad_set[0], .mode = HC_IF_VERSION},
		{.size = sizeof bad_set[0], .version = 1},
		{.size = sizeof bad_set[0], .mode = HC_ADD, .version = 1},
		{.size = sizeof bad_set[0], .ttl_ms = HC_TTL_NEVER - 1},
		{.size = 1},
	};
	const struct hc_set_opts bad_join[] = {
		{.size = sizeof bad_join[0], .ttl_ms = 1},
		{.size = sizeof bad_join[0], .flags = 1},
		{.size = sizeof bad_join[0], .mode = HC_ADD},
		{.size = sizeof bad_join[0], .stamp = 1},
	};
	const struct hc_incr_opts bad_incr[] = {
		{.size = sizeof bad_incr[0], .wrap = 2},
		{.size = sizeof bad_incr[0], .must_exist = 2},
		{.size = sizeof bad_incr[0], .ttl_ms = HC_TTL_NEVER - 1},
		{.size = 1},
	};
	struct hc_mset_item m = {"k", 1, "v", 1, 0};
	struct hc_set_opts o = HC_OPTS(hc_set_opts);
	static char key[HC_KEY_BYTES_MAX + 1];
	uint64_t version;
	struct session x;

	begin(&x, just_open);
	for (size_t i = 0; i < sizeof bad_set / sizeof bad_set[0]; i++) {
		CHECK_EQ(hc_set(x.s, "k", 1, "v", 1, &bad_set[i]), HC_E_INVAL);
		CHECK_EQ(hc_mset(x.s, &m, 1, &bad_set[i]), HC_E_INVAL);
	}
	for (size_t i = 0; i < sizeof bad_join / sizeof bad_join[0]; i++) {
		CHECK_EQ(hc_append(x.s, "k", 1, "v", 1, &bad_join[i]), HC_E_INVAL);
		CHECK_EQ(hc_prepend(x.s, "k", 1, "v", 1, &bad_join[i]), HC_E_INVAL);
	}
	CHECK_EQ(hc_append(x.s, "k", 1, NULL, 1, NULL), HC_E_INVAL);
	CHECK_EQ(hc_append(NULL, "k", 1, "v", 1, NULL), HC_E_INVAL);
	CHECK_EQ(hc_append(x.s, key, sizeof key, "v", 1, NULL), HC_E_INVAL);
	CHECK_EQ(hc_delete_if(x.s, "k", 1, 0), HC_E_INVAL);
	CHECK_EQ(hc_delete_if(x.s, "k", 0, 1), HC_E_INVAL);
	CHECK_EQ(hc_delete_if(NULL, "k", 1, 1), HC_E_INVAL);
	o.ret_version = &version;
	CHECK_EQ(hc_mset(x.s, &m, 1, &o), HC_E_INVAL);
	for (size_t i = 0; i < sizeof bad_incr / sizeof bad_incr[0]; i++)
		CHECK_EQ(hc_incr(x.s, "k", 1, 1, &bad_incr[i], NULL), HC_E_INVAL);
	CHECK_EQ(hc_incr(NULL, "k", 1, 1, NULL, NULL), HC_E_INVAL);
	CHECK_EQ(hc_incr(x.s, "k", 0, 1, NULL, NULL), HC_E_INVAL);
	CHECK_EQ(hc_touch(NULL, "k", 1, 1), HC_E_INVAL);
	CHECK_EQ(hc_touch(x.s, "k", 1, HC_TTL_NEVER - 1), HC_E_INVAL);
	CHECK_EQ(hc_get_touch(x.s, "k", 1, HC_TTL_NEVER - 1, key, 1, NULL), HC_E_INVAL);
	CHECK_EQ(hc_get_touch(NULL, "k", 1, 1, key, 1, NULL), HC_E_INVAL);
	end(&x);
}

/* ------------------------------------------------------------------ statuses */

static const struct {
	uint32_t verb;
	int status;
} impossible[] = {
	{WIRE_PING, HC_MISS},
	{WIRE_SET, HC_TOO_SMALL},
	{WIRE_SET, 6},
	{WIRE_SET, 32},
	{WIRE_SET, INT32_MAX},
	{WIRE_DELETE, HC_TOO_SMALL},
	{WIRE_DELETE, HC_EXISTS},
	{WIRE_DELETE, HC_OLDER},
	{WIRE_TOUCH, HC_CONFLICT},
	{WIRE_INCR, HC_EXISTS},
	{WIRE_CLEAR, HC_MISS},
};

static void talk_impossible(struct fake *f)
{
	struct wire_request q;

	fake_open(f);
	CHECK(fake_get(f, &q));
	(void)fake_reply(f, &q, impossible[f->seed].status);
	CHECK(!fake_get(f, &q));
}

TEST(a_status_that_a_verb_cannot_have_closes_the_connection)
{
	struct session x;

	for (size_t i = 0; i < sizeof impossible / sizeof impossible[0]; i++) {
		struct hc_open_opts o = HC_OPTS(hc_open_opts);
		fake_init(&x.f);
		x.f.seed = i;
		fake_run(&x.f, talk_impossible);
		o.socket = x.f.path;
		CHECK_EQ(hc_open(&x.hc, &o), HC_OK);
		CHECK_EQ(hc_store(x.hc, "default", &x.s), HC_OK);
		uint32_t verb = impossible[i].verb;
		int r = verb == WIRE_PING     ? hc_ping(x.hc)
		        : verb == WIRE_SET    ? hc_set(x.s, "k", 1, "v", 1, NULL)
		        : verb == WIRE_DELETE ? hc_delete(x.s, "k", 1)
		        : verb == WIRE_TOUCH  ? hc_touch(x.s, "k", 1, 1)
		        : verb == WIRE_CLEAR  ? hc_clear(x.s, NULL)
		                              : hc_incr(x.s, "k", 1, 1, NULL, NULL);
		CHECK_EQ(r, impossible[i].verb == WIRE_PING ? HC_E_PROTOCOL : HC_E_UNKNOWN);
		CHECK_EQ(hc_health(x.hc), HC_DISCONNECTED);
		end(&x);
	}
}
