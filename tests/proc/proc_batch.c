/* proc_batch.c - batches at the engine's socket: each item is a request of its own, answered in order,
 * applied once, whatever becomes of the connection or the engine in the middle.
 */
#include <signal.h>
#include "raw.h"

enum { N = 10 };

static struct wire_request item(
	const struct raw *r, uint32_t verb, const char *key, const char *value)
{
	return (struct wire_request){.verb = verb,
		.store_id = shm_load_rlx(&r->ctl->store[0].id),
		.key = key,
		.key_bytes = strlen(key),
		.value = value,
		.value_bytes = strlen(value)};
}

static struct wire_answer batch(
	struct raw *r, uint64_t request, uint64_t how, struct wire_request *items, uint32_t n)
{
	struct wire_request req = {
		.verb = WIRE_BATCH, .request = request, .how = how, .item = items, .n_items = n};
	struct wire_answer a = raw_call(r, &req);

	CHECK_EQ(a.verb, WIRE_BATCH);
	CHECK_EQ(a.request, request);
	CHECK_EQ(a.status, HC_OK);
	CHECK_EQ(a.value, n);
	return a;
}

static uint64_t sets(const struct raw *r)
{
	return shm_load_rlx(&r->ctl->store[0].counter[SHM_SC_sets]);
}

/* A new connection for the same session. */
static void resume(const struct t_daemon *d, struct raw *r)
{
	(void)close(r->sock);
	r->in.begin = r->in.end = 0;
	r->sock = raw_open(d).sock;
	struct wire_answer a = raw_hello(r, r->session);
	CHECK_EQ(a.status, HC_OK);
	CHECK_EQ(a.resumed, 1);
}

/* Five SETs and INCRs each, as requests request .. request + 9. */
static struct wire_answer ten(struct raw *r, uint64_t request)
{
	struct wire_request it[N];

	for (int i = 0; i < N; i++) {
		it[i] = item(r, i % 2 ? WIRE_INCR : WIRE_SET, i % 2 ? "n" : "k", "v");
		it[i].delta = it[i].initial = 1;
	}
	return batch(r, request, 0, it, N);
}

TEST(each_item_has_its_own_answer)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct raw r = session_open(d);
	struct wire_request it[] = {item(&r, WIRE_SET, "k", "one"), item(&r, WIRE_SET, "k", "two"),
		item(&r, WIRE_SET, "k", "three"), item(&r, WIRE_INCR, "k", ""),
		item(&r, WIRE_DELETE, "absent", ""), item(&r, WIRE_TOUCH, "k", ""),
		item(&r, WIRE_INCR, "n", ""), item(&r, WIRE_SET, "k", "four")};
	const int status[] = {0, 0, HC_EXISTS, HC_E_NOT_NUMBER, HC_MISS, 0, 0, HC_E_NO_STORE};
	enum { ITEMS = sizeof it / sizeof it[0] };

	it[2].mode = WIRE_MODE_ADD;
	it[6].initial = -5;
	it[7].store_id++;
	struct wire_answer a = batch(&r, 1, 0, it, ITEMS);
	CHECK_EQ(a.n_items, ITEMS);
	for (int i = 0; i < ITEMS; i++) {
		CHECK_EQ(a.item[i].idx, i);
		CHECK_EQ(a.item[i].status, status[i]);
	}
	CHECK_EQ(a.item[0].value, 0);
	CHECK_EQ(a.item[1].value, 1);
	CHECK(a.item[1].lsn > a.item[0].lsn);
	CHECK_EQ(a.item[2].lsn, a.item[1].lsn); /* the version that is in the way */
	CHECK_EQ(a.item[5].lsn, a.item[1].lsn);
	CHECK_EQ((int64_t)a.item[6].value, -5);
	CHECK_EQ(a.lsn, a.item[6].lsn);
	CHECK_EQ(counter(&r, SHM_DC_requests), 1 + ITEMS); /* and HELLO */

	struct wire_answer quiet = batch(&r, 1 + ITEMS, WIRE_QUIET, it, ITEMS);
	uint32_t told = 0;
	for (int i = 0; i < ITEMS; i++) {
		if (status[i] == 0)
			continue;
		CHECK_EQ(quiet.item[told].idx, i);
		CHECK_EQ(quiet.item[told].status, status[i]);
		told++;
	}
	CHECK_EQ(quiet.n_items, told);
	raw_close(&r);
	t_daemon_stop(d);
}

TEST(a_repeated_batch_is_answered_as_it_was)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct raw r = session_open(d);
	struct wire_answer first = ten(&r, 1);

	for (int engines = 0; engines < 2; engines++) {
		resume(d, &r);
		struct wire_answer again = ten(&r, 1);
		CHECK_EQ(again.n_items, N);
		CHECK(memcmp(again.item, first.item, N * sizeof first.item[0]) == 0);
		CHECK_EQ(sets(&r), N);
		CHECK_EQ(counter(&r, SHM_DC_requests_replayed), (uint64_t)(engines + 1) * N);
		if (engines == 0)
			(void)t_daemon_wait_engine(d, t_daemon_kill_engine(d, SIGKILL));
	}
	raw_close(&r);
	t_daemon_stop(d);
}

TEST(what_of_a_batch_was_applied_is_not_applied_again)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct raw r = session_open(d);
	struct wire_answer first = ten(&r, 1);

	/* as if the engine had died behind number 10 of a batch from 6 on */
	struct wire_answer next = ten(&r, 7);
	CHECK(memcmp(&next.item[0].lsn, &first.item[6].lsn, 8) == 0);
	for (int i = 0; i < 4; i++) {
		CHECK_EQ(next.item[i].lsn, first.item[6 + i].lsn);
		CHECK_EQ(next.item[i].value, first.item[6 + i].value);
	}
	CHECK(next.item[4].lsn > first.lsn);
	CHECK_EQ(next.item[9].value, 5 + 3);
	CHECK_EQ(sets(&r), N + 6);
	raw_close(&r);
	t_daemon_stop(d);
}

TEST(a_batch_that_may_not_be_closes_the_connection)
{
	struct t_daemon *d = t_daemon_start("max_inflight: 10\n", NULL);
	struct raw good = session_open(d);
	struct wire_request it[N + 1];

	for (int i = 0; i <= N; i++)
		it[i] = item(&good, WIRE_SET, "k", "v");
	for (int k = 0; k < 3; k++) {
		struct raw r = session_open(d);
		struct wire_request req = {.verb = WIRE_BATCH,
			.request = 1,
			.how = k == 1 ? 2 : 0, /* unknown */
			.item = it,
			.n_items = k == 0 ? N + 1 : 2};
		it[1].verb = WIRE_SET;
		if (k == 2) { /* number 2 is used up, by something else */
			struct wire_request two = item(&r, WIRE_DELETE, "k", "");
			two.request = 2;
			CHECK_EQ(raw_call(&r, &two).status, HC_MISS);
		}
		struct wire_answer a = raw_call(&r, &req);
		CHECK_EQ(a.status, HC_E_PROTOCOL);
		CHECK(raw_is_closed(&r));
		raw_close(&r);
		CHECK_EQ(sets(&good), 0);
	}
	ping(&good);
	raw_close(&good);
	t_daemon_stop(d);
}

/* Numbers ascend, so what was used up before stands before what is new. */
TEST(a_batch_with_one_number_that_cannot_be_is_not_applied_at_all)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct raw r = session_open(d);
	struct wire_request it[3] = {item(&r, WIRE_SET, "one", "v"), item(&r, WIRE_SET, "two", "v"),
		item(&r, WIRE_SET, "three", "v")};
	struct wire_request req = {.verb = WIRE_BATCH, .request = 1, .item = it, .n_items = 3};

	(void)batch(&r, 1, 0, it, 1);
	struct wire_request other = item(&r, WIRE_DELETE, "one", "");
	other.request = 2;
	CHECK_EQ(raw_call(&r, &other).status, HC_OK);
	CHECK_EQ(raw_call(&r, &req).status, HC_E_PROTOCOL); /* 1 again, 2 something else, 3 new */
	CHECK(raw_is_closed(&r));
	CHECK_EQ(sets(&r), 1);
	raw_close(&r);
	t_daemon_stop(d);
}

TEST(a_torn_batch_is_not_applied_at_all)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct raw good = session_open(d);
	struct wire_request it[2] = {
		item(&good, WIRE_SET, "k", "v"), item(&good, WIRE_SET, "k", "v")};
	struct wire_request req = {.verb = WIRE_BATCH, .request = 1, .item = it, .n_items = 2};
	struct wire_buf b = {0};

	CHECK_EQ(wire_put_request(&b, &req), 0);
	struct raw r = session_open(d);
	CHECK(raw_send(&r, b.bytes, b.end - 1));
	raw_close(&r);
	struct raw bent = session_open(d);
	b.bytes[b.end - 1] =
		0xc1; /* the last element of the last item is nothing that msgpack has */
	CHECK(raw_send(&bent, b.bytes, b.end));
	struct wire_answer a;
	CHECK(raw_answer(&bent, &a));
	CHECK_EQ(a.status, HC_E_PROTOCOL);
	raw_close(&bent);
	wait_counter(&good, SHM_DC_connections, 1);
	CHECK_EQ(sets(&good), 0);
	wire_buf_fini(&b);
	raw_close(&good);
	t_daemon_stop(d);
}

/* Bytes of the answer to 64 SETs that succeed; *ret_request_bytes: of the frame that asks. */
static size_t answer_bytes(struct raw *r, uint64_t request, uint64_t how, size_t *ret_request_bytes)
{
	struct wire_request it[WIRE_BATCH_MAX];
	struct wire_request req = {.verb = WIRE_BATCH,
		.request = request,
		.how = how,
		.item = it,
		.n_items = WIRE_BATCH_MAX};
	struct wire_buf b = {0};
	const uint8_t *body;
	size_t n;

	for (int i = 0; i < WIRE_BATCH_MAX; i++)
		it[i] = item(r, WIRE_SET, "0123456789abcdef", "v");
	CHECK_EQ(wire_put_request(&b, &req), 0);
	*ret_request_bytes = b.end;
	CHECK(raw_send(r, b.bytes, b.end));
	wire_buf_fini(&b);
	while (wire_frame(&r->in, WIRE_HELLO_BYTES_MAX, &body, &n) == WIRE_MORE)
		CHECK(raw_receive(r));
	r->in.begin += 4 + n;
	return 4 + n;
}

TEST(a_quiet_batch_is_answered_in_a_few_bytes)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct raw r = session_open(d);
	size_t asked, loud = answer_bytes(&r, 1, 0, &asked);
	size_t quiet = answer_bytes(&r, 1 + WIRE_BATCH_MAX, WIRE_QUIET, &asked);

	fprintf(stderr, "  64 SETs, %zu bytes: answered in %zu, quiet in %zu\n", asked, loud,
		quiet);
	CHECK(loud > 5 * WIRE_BATCH_MAX);
	CHECK(quiet <= 4 + 1 + 1 + 9 + 1 + 9 + 1 + 1);
	raw_close(&r);
	t_daemon_stop(d);
}

/* He is read only as fast as he takes answers, so his batches wait in his own socket; and when he takes none
 * for too long he has to go. */
TEST(who_sends_batches_and_reads_no_answers_is_slowed_then_dropped)
{
	struct t_daemon *d = t_daemon_start(
		"stall_timeout: 400ms\nheartbeat: 100ms\nmax_unread: 64KiB\n", NULL);
	struct raw good = session_open(d), slow = session_open(d);
	struct wire_request it[N];
	struct wire_buf b = {0};
	uint64_t number = 1, bytes = 0;

	for (int i = 0; i < N; i++)
		it[i] = item(&slow, WIRE_DELETE, "absent", ""); /* long answers to short requests */
	for (;; number += N) {
		struct wire_request req = {
			.verb = WIRE_BATCH, .request = number, .item = it, .n_items = N};
		b.begin = b.end = 0;
		CHECK_EQ(wire_put_request(&b, &req), 0);
		size_t at = 0;
		while (at < b.end) {
			ssize_t n = send(
				slow.sock, b.bytes + at, b.end - at, MSG_NOSIGNAL | MSG_DONTWAIT);
			if (n < 0 && (errno != EAGAIN || !t_wait_fd(slow.sock, POLLOUT, WAIT_MS)))
				break;
			at += n > 0 ? (size_t)n : 0;
		}
		bytes += at;
		if (at < b.end)
			break;
		CHECK(bytes < 32u << 20);
	}
	free(t_proc_line(d->proc, "it does not read its answers", WAIT_MS));
	ping(&good);
	wire_buf_fini(&b);
	raw_close(&slow);
	raw_close(&good);
	t_daemon_stop(d);
}
