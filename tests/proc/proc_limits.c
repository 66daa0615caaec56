/* proc_limits.c - the limits of daemon/limit_table.h, met: who meets one gets the error that is named there,
 * and a client beside him does not notice. */
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include "hc_i.h"
#include "raw.h"

enum { MIB = 1 << 20 };

static struct hc *open_at(const struct t_daemon *d, struct hc_store **ret)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct hc *hc;

	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(WAIT_MS);
	CHECK_EQ(hc_open(&hc, &o), HC_OK);
	CHECK_EQ(hc_store(hc, "default", ret), HC_OK);
	return hc;
}

/* The one beside: sets and reads as if nothing were. */
static void go_on(struct hc_store *s)
{
	char buf[8];
	size_t n;

	CHECK_EQ(hc_set(s, "good", 4, "fine", 4, NULL), HC_OK);
	CHECK_EQ(hc_get(s, "good", 4, buf, sizeof buf, &n), HC_OK);
	CHECK(n == 4 && memcmp(buf, "fine", 4) == 0);
}

/* Sends PINGs, whose answers nobody reads, until the engine takes no more. */
static void fill(const struct raw *r)
{
	struct wire_request req = {.verb = WIRE_PING};
	struct wire_buf b = {0};
	uint64_t sent = 0;

	for (int i = 0; i < 4096; i++)
		CHECK_EQ(wire_put_request(&b, &req), 0);
	for (;;) {
		ssize_t n = send(r->sock, b.bytes + sent % b.end, b.end - sent % b.end,
			MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n > 0) {
			sent += (uint64_t)n;
			CHECK(sent < 32u << 20);
		} else if (!t_wait_fd(r->sock, POLLOUT, 100)) {
			break;
		}
	}
	wire_buf_fini(&b);
}

/* ---------------------------------------------------------------- connections */

TEST(who_stops_halfway_or_takes_no_answers_is_dropped)
{
	struct t_daemon *d = t_daemon_start(
		"stall_timeout: 400ms\nheartbeat: 100ms\nmax_unread: 64KiB\n", NULL);
	struct raw half = session_open(d), mute = session_open(d);
	struct wire_request req = set(&half, 1, "half", "a request");
	struct wire_buf b = {0};
	struct hc_store *s;
	struct hc *hc = open_at(d, &s);
	size_t n;

	CHECK_EQ(wire_put_request(&b, &req), 0);
	CHECK(raw_send(&half, b.bytes, b.end - 1));
	CHECK(raw_is_closed(&half));
	free(t_proc_line(d->proc, "it stopped in the middle of a frame", WAIT_MS));
	go_on(s);
	CHECK_EQ(hc_get(s, "half", 4, NULL, 0, &n), HC_MISS);
	fill(&mute);
	go_on(s);
	free(t_proc_line(d->proc, "it does not read its answers", WAIT_MS));
	while (raw_receive(&mute))
		mute.in.begin = mute.in.end = 0;
	go_on(s);
	wire_buf_fini(&b);
	raw_close(&half);
	raw_close(&mute);
	hc_close(hc);
	t_daemon_stop(d);
}

TEST(a_frame_too_long_ends_its_connection)
{
	static char value[70000];
	struct t_daemon *d = t_daemon_start("max_frame: 64KiB\n", NULL);
	struct raw r = session_open(d);
	struct wire_request req = set(&r, 1, "k", "");
	struct wire_answer a;
	struct hc_store *s;
	struct hc *hc = open_at(d, &s);
	size_t n;

	req.value = value;
	req.value_bytes = sizeof value;
	(void)raw_send_request(
		&r, &req); /* the length is enough for the engine: it may have closed */
	CHECK(raw_answer(&r, &a));
	CHECK_EQ(a.status, HC_E_PROTOCOL);
	CHECK(raw_is_closed(&r));
	CHECK_EQ(hc_set(s, "k", 1, value, sizeof value, NULL), HC_E_TOO_LARGE);
	CHECK_EQ(hc_set(s, "k", 1, value, 40000, NULL), HC_E_TOO_LARGE); /* max_value */
	CHECK_EQ(hc_get(s, "k", 1, NULL, 0, &n), HC_MISS);
	go_on(s);
	raw_close(&r);
	hc_close(hc);
	t_daemon_stop(d);
}

TEST(unfinished_frames_cannot_fill_the_engines_memory)
{
	enum { N = 90, HELD_AT_LEAST = 30 };
	static uint8_t frame[4 + MIB];
	struct t_daemon *d = t_daemon_start("max_frame: 1MiB\nmax_clients: 128\n", NULL);
	struct hc_store *s;
	struct hc *hc = open_at(d, &s);
	struct raw r[N];
	int dropped = 0;
	char *value = calloc(1, MIB / 2);

	CHECK(value);

	frame[2] = 0x10; /* the length: a MiB */
	for (int i = 0; i < N; i++) {
		r[i] = session_open(d);
		(void)raw_send(&r[i], frame, sizeof frame - 1);
		if (i % 10 == 0) /* what is long, but comes to its end, finds room */
			CHECK_EQ(hc_set(s, "long", 4, value, MIB / 2, NULL), HC_OK);
		go_on(s);
	}
	for (int i = 0; i < N; i++)
		if (t_wait_fd(r[i].sock, POLLIN | POLLRDHUP, 0))
			dropped++;
	fprintf(stderr, "  %d of %d were dropped\n", dropped, N);
	CHECK(dropped > 0 && dropped <= N - HELD_AT_LEAST);
	free(t_proc_line(d->proc, "bytes of unfinished frames are the limit", WAIT_MS));
	for (int i = 0; i < N; i++)
		raw_close(&r[i]);
	go_on(s);
	free(value);
	hc_close(hc);
	t_daemon_stop(d);
}

/* -------------------------------------------------------------------- entries */

TEST(a_key_too_long_is_refused_by_either_side)
{
	static char key[HC_KEY_BYTES_MAX + 1];
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct raw r = session_open(d);
	struct wire_request req = set(&r, 1, "", "v");
	struct hc_store *s;
	struct hc *hc = open_at(d, &s);

	CHECK_EQ(raw_call(&r, &req).status, HC_E_INVAL); /* of no bytes */
	req = set(&r, 2, "", "v");
	req.key = key;
	req.key_bytes = sizeof key;
	CHECK_EQ(raw_call(&r, &req).status, HC_E_TOO_LARGE);
	CHECK_EQ(hc_set(s, key, sizeof key, "v", 1, NULL), HC_E_INVAL);
	CHECK_EQ(hc_set(s, key, sizeof key - 1, "v", 1, NULL), HC_OK);
	ping(&r);
	raw_close(&r);
	hc_close(hc);
	t_daemon_stop(d);
}

/* Two clients hold views of nearly all of the pool, each less than the cap: nothing can make room. */
TEST(a_pool_that_is_held_is_full_and_says_so)
{
	enum { BYTES = 250 << 10, EACH = 7 };
	struct t_daemon *d = t_daemon_start(
		"limbo_cap: 2MiB\npools: {m: {size: 4MiB, huge_pages: \"off\"}}\n", NULL);
	char *value = calloc(1, MIB);
	struct hc_view v[2][EACH];
	struct hc_store *s[2];
	struct hc *hc[2];

	CHECK(value);
	for (int c = 0; c < 2; c++) {
		hc[c] = open_at(d, &s[c]);
		for (int i = 0; i < EACH; i++) {
			char key[2] = {(char)('a' + c), (char)('a' + i)};
			CHECK_EQ(hc_set(s[c], key, 2, value, BYTES, NULL), HC_OK);
			CHECK_EQ(hc_view(s[c], key, 2, &v[c][i]), HC_OK);
		}
	}
	CHECK_EQ(hc_set(s[0], "large", 5, value, 900 << 10, NULL), HC_E_FULL);
	go_on(s[1]); /* what fits goes on */
	for (int c = 0; c < 2; c++)
		for (int i = 0; i < EACH; i++) {
			CHECK_EQ(hc_view_ok(&v[c][i]), 1);
			CHECK_EQ(hc_view_release(&v[c][i]), HC_OK);
		}
	CHECK_EQ(hc_set(s[0], "large", 5, value, 900 << 10, NULL), HC_OK);
	hc_close(hc[0]);
	hc_close(hc[1]);
	free(value);
	t_daemon_stop(d);
}

/* -------------------------------------------------------------------- readers */

static void *read_beside(void *arg)
{
	size_t n;

	return (void *)(intptr_t)hc_get(arg, "good", 4, NULL, 0, &n);
}

TEST(threads_views_and_batches_have_their_numbers)
{
	enum { VIEWS = SHM_BLOCK_PINS - SHM_PIN_VIEW };
	static struct hc_mget_item items[HC_MGET_MAX + 1];
	struct t_daemon *d = t_daemon_start("threads_per_client: 1\n", NULL);
	struct hc_info info = HC_OPTS(hc_info);
	struct hc_view v[VIEWS + 1];
	struct hc_store *s;
	struct hc *hc = open_at(d, &s);
	pthread_t thread;
	void *r;

	go_on(s); /* this thread has the one block */
	CHECK_EQ(pthread_create(&thread, NULL, read_beside, s), 0);
	CHECK_EQ(pthread_join(thread, &r), 0);
	CHECK_EQ((intptr_t)r, HC_E_THREADS);
	CHECK_EQ(hc_info(hc, &info), HC_OK);
	CHECK_EQ(info.views_max, (uint32_t)VIEWS);
	for (int i = 0; i < VIEWS; i++)
		CHECK_EQ(hc_view(s, "good", 4, &v[i]), HC_OK);
	CHECK_EQ(hc_view(s, "good", 4, &v[VIEWS]), HC_E_VIEWS);
	go_on(s);
	CHECK_EQ(hc_view_release(&v[0]), HC_OK);
	CHECK_EQ(hc_view(s, "good", 4, &v[0]), HC_OK);
	for (int i = 0; i < VIEWS; i++)
		CHECK_EQ(hc_view_release(&v[i]), HC_OK);
	for (int i = 0; i <= HC_MGET_MAX; i++)
		items[i] = (struct hc_mget_item){.key = "good", .key_bytes = 4, .result = 77};
	CHECK_EQ(hc_mget(s, items, HC_MGET_MAX + 1), HC_E_INVAL);
	CHECK_EQ(items[0].result, 77);
	CHECK_EQ(hc_mget(s, items, HC_MGET_MAX), HC_OK);
	CHECK_EQ(items[HC_MGET_MAX - 1].result, HC_TOO_SMALL);
	hc_close(hc);
	t_daemon_stop(d);
}

static int count(void *arg, const struct hc_scan_entry *e)
{
	(void)e;
	++*(int *)arg;
	return 0;
}

TEST(a_page_of_a_scan_ends)
{
	enum { KEYS = 3000, PAGE = 256, CHAIN = 200 };
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct hc_scan scan = HC_OPTS(hc_scan);
	struct hc_store *s;
	struct hc *hc = open_at(d, &s);
	int page = 0, all = 0, r;

	for (int i = 0; i < KEYS; i++)
		CHECK_EQ(hc_set(s, &i, sizeof i, "v", 1, NULL), HC_OK);
	CHECK_EQ(hc_scan(s, &scan, count, &page), HC_OK);
	CHECK(page >= PAGE && page <= PAGE + CHAIN && scan.cursor != 0);
	scan = (struct hc_scan)HC_OPTS(hc_scan);
	scan.max_entries = 10;
	do {
		page = 0;
		r = hc_scan(s, &scan, count, &page);
		CHECK(page <= 10 + CHAIN);
		all += page;
	} while (r == HC_OK);
	CHECK_EQ(r, HC_MISS);
	CHECK_EQ(all, KEYS);
	hc_close(hc);
	t_daemon_stop(d);
}

TEST(hints_beyond_a_ring_are_lost_and_counted)
{
	struct t_daemon *d = t_daemon_start("heartbeat: 100ms\n", NULL);
	struct raw r = session_open(d);
	size_t bytes;
	struct shm_client *seg = segment_of(&r, &bytes);
	struct shm_block *block = (struct shm_block *)(void *)(seg + 1);

	shm_store_rel(&block->hint_head, SHM_HINTS + 123);
	shm_store32_rel(&seg->blocks_used, 1);
	wait_counter(&r, SHM_DC_hints_lost, 123);
	(void)munmap(seg, bytes);
	raw_close(&r);
	t_daemon_stop(d);
}

/* ----------------------------------------------------------- the supervisor, the end */

TEST(a_supervisor_that_hangs_keeps_only_new_clients_out)
{
	struct t_daemon *d = t_daemon_start("heartbeat: 100ms\n", NULL);
	struct hc_store *s;
	struct hc *hc = open_at(d, &s);
	struct raw r = raw_open(d);
	struct wire_request req = hello(0);

	t_proc_signal(d->proc, SIGSTOP);
	CHECK(raw_send_request(&r, &req));
	go_on(s);
	CHECK(raw_is_closed(&r)); /* after five seconds */
	free(t_proc_line(d->proc, "the supervisor did not answer in time", WAIT_MS));
	go_on(s);
	t_proc_signal(d->proc, SIGCONT);
	raw_close(&r);
	r = session_open(d);
	raw_close(&r);
	hc_close(hc);
	t_daemon_stop(d);
}

TEST(the_end_does_not_wait_for_who_does_not_read)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct raw mute = session_open(d);

	fill(&mute);
	uint64_t begin_ns = t_now_ns();
	t_proc_signal(d->proc, SIGTERM);
	CHECK_EQ(t_proc_exit(d->proc, T_DAEMON_STOP_MS), 0);
	CHECK(!strstr(d->proc->err.text, "it was told to end and did not"));
	CHECK(t_now_ns() - begin_ns < (uint64_t)t_limit_ms(4000) * 1000000);
	raw_close(&mute);
	t_daemon_free(d);
}
