/* proc_frames.c - the engine's socket under hands that do not use the library: frames
 * out of order, torn, hostile, many, unread; sessions that end in every way.
 *
 * Frames are made with the codec of libclient/wire.c, then bent. */
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include "raw.h"

/* ------------------------------------------------------------- hostile frames */

static const struct {
	const char *what;
	const char *bytes;
	size_t n;
} hostile[] = {
	{"no body", "\0\0\0\0", 4},
	{"longer than any frame", "\xff\xff\xff\xff", 4},
	{"longer than a first frame may be", "\x01\x00\x01\x00", 4},
	{"not an array", "\x01\0\0\0\x01", 5},
	{"an empty array", "\x01\0\0\0\x90", 5},
	{"text for a verb", "\x04\0\0\0\x92\xa1\x41\x00", 8},
	{"a verb that there is not", "\x03\0\0\0\x92\x7f\x00", 7},
	{"two values in one frame", "\x04\0\0\0\x92\x02\x00\x00", 8},
	{"a torn array", "\x02\0\0\0\x92\x02", 6},
	{"never-ending nesting", "\x08\0\0\0\x91\x91\x91\x91\x91\x91\x91\x91", 12},
	{"PING before HELLO", "\x03\0\0\0\x92\x02\x00", 7},
	{"BYE before HELLO", "\x03\0\0\0\x92\x05\x00", 7},
};

TEST(a_hostile_frame_is_answered_and_its_connection_closed)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct raw good = session_open(d);
	uint64_t bad = counter(&good, SHM_DC_requests_bad);

	for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
		struct raw r = raw_open(d);
		struct wire_answer a;
		CHECK(raw_send(&r, hostile[i].bytes, hostile[i].n));
		if (!raw_answer(&r, &a))
			t_fail(__FILE__, __LINE__, "%s: no answer", hostile[i].what);
		if (a.status != HC_E_PROTOCOL)
			t_fail(__FILE__, __LINE__, "%s: status %d", hostile[i].what, a.status);
		CHECK(raw_is_closed(&r));
		raw_close(&r);
		ping(&good);
	}
	CHECK_EQ(counter(&good, SHM_DC_requests_bad), bad + sizeof hostile / sizeof *hostile);
	wait_counter(&good, SHM_DC_connections, 1);
	raw_close(&good);
	t_daemon_stop(d);
}

TEST(random_bytes_hurt_nobody)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct raw good = session_open(d);
	pid_t engine = t_daemon_engine(d);

	for (int i = 0; i < 500; i++) {
		uint8_t bytes[256];
		struct raw r = raw_open(d);
		for (size_t k = 0; k < sizeof bytes; k++)
			bytes[k] = (uint8_t)t_random();
		if (i % 2) { /* a length that is right, so that the rest is decoded */
			memset(bytes, 0, 4);
			bytes[0] = (uint8_t)(sizeof bytes - 4);
			bytes[4] = 0x90 | (bytes[4] & 0xf);
			bytes[5] = (uint8_t)(t_random_below(6));
		}
		(void)raw_send(&r, bytes, sizeof bytes);
		(void)shutdown(r.sock, SHUT_WR);
		while (raw_receive(&r))
			;
		raw_close(&r);
	}
	ping(&good);
	CHECK_EQ(t_daemon_engine(d), engine);
	raw_close(&good);
	t_daemon_stop(d);
}

TEST(a_request_out_of_its_order_closes_the_connection)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct raw good = session_open(d);

	struct raw r = session_open(d); /* a second HELLO */
	CHECK_EQ(raw_hello(&r, 0).status, HC_E_PROTOCOL);
	CHECK(raw_is_closed(&r));
	raw_close(&r);

	r = session_open(d); /* a mutation without a number */
	struct wire_request req = set(&r, 0, "k", "v");
	CHECK_EQ(raw_call(&r, &req).status, HC_E_PROTOCOL);
	CHECK(raw_is_closed(&r));
	raw_close(&r);

	r = session_open(d); /* a number whose result is forgotten */
	for (uint64_t i = 1; i <= SHM_HINTS; i++) {
		req = set(&r, i, "k", "v");
		CHECK_EQ(raw_call(&r, &req).status, HC_OK);
	}
	req = set(&r, 1, "k", "late");
	CHECK_EQ(raw_call(&r, &req).status, HC_E_PROTOCOL);
	CHECK(raw_is_closed(&r));
	raw_close(&r);
	wait_counter(&good, SHM_DC_sessions, 1);
	raw_close(&good);
	t_daemon_stop(d);
}

TEST(a_store_that_is_not_there_is_named_as_such)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct raw r = session_open(d);
	struct wire_request req = set(&r, 1, "k", "v");

	req.store_id++;
	CHECK_EQ(raw_call(&r, &req).status, HC_E_NO_STORE);
	req = set(&r, 2, "k", "v");
	req.store_idx = SHM_STORES_MAX;
	CHECK_EQ(raw_call(&r, &req).status, HC_E_NO_STORE);
	req.request = 3;
	req.store_idx = UINT64_MAX;
	CHECK_EQ(raw_call(&r, &req).status, HC_E_NO_STORE);
	ping(&r);
	raw_close(&r);
	t_daemon_stop(d);
}

TEST(another_protocol_or_layout_is_named_as_such)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);

	for (int i = 0; i < 2; i++) {
		struct raw r = raw_open(d);
		struct wire_request req = hello(0);
		req.proto_major += i == 0;
		req.layout_major += i == 1;
		CHECK_EQ(raw_call(&r, &req).status, HC_E_VERSION);
		CHECK(raw_is_closed(&r));
		raw_close(&r);
	}
	t_daemon_stop(d);
}

/* ------------------------------------------------------------- torn and joined */

TEST(frames_may_come_in_any_pieces)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct raw r = session_open(d);
	struct wire_buf b = {0};
	struct wire_answer a;

	for (uint64_t i = 1; i <= 3; i++) {
		struct wire_request req = set(&r, i, "key", "a value of some length");
		CHECK_EQ(wire_put_request(&b, &req), 0);
	}
	for (size_t i = 0; i < b.end; i++) /* byte by byte */
		CHECK(raw_send(&r, b.bytes + i, 1));
	for (uint64_t i = 1; i <= 3; i++) {
		CHECK(raw_answer(&r, &a));
		CHECK_EQ(a.request, i);
		CHECK_EQ(a.status, HC_OK);
		CHECK_EQ(a.value, i > 1);
	}
	wire_buf_fini(&b);
	raw_close(&r);
	t_daemon_stop(d);
}

TEST(half_a_frame_is_never_applied)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct raw good = session_open(d), r = session_open(d);
	struct wire_buf b = {0};
	struct wire_request req = set(&r, 1, "k", "v");

	CHECK_EQ(wire_put_request(&b, &req), 0);
	CHECK(raw_send(&r, b.bytes, b.end - 1));
	raw_close(&r);
	wait_counter(&good, SHM_DC_connections, 1);
	CHECK_EQ(shm_load_rlx(&good.ctl->store[0].counter[SHM_SC_sets]), 0);
	wire_buf_fini(&b);
	raw_close(&good);
	t_daemon_stop(d);
}

/* ------------------------------------------------------------------ exactly once */

TEST(a_repeated_request_is_answered_from_the_journal)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct raw r = session_open(d);
	struct wire_request req = set(&r, 1, "k", "first");
	struct wire_answer first = raw_call(&r, &req);

	CHECK_EQ(first.status, HC_OK);
	req = set(&r, 2, "k", "second");
	CHECK_EQ(raw_call(&r, &req).status, HC_OK);
	for (int engines = 0; engines < 2; engines++) {
		(void)close(r.sock);
		r.in.begin = r.in.end = 0;
		struct raw again = raw_open(d);
		r.sock = again.sock;
		struct wire_answer a = raw_hello(&r, r.session);
		CHECK_EQ(a.status, HC_OK);
		CHECK_EQ(a.resumed, 1);
		CHECK_EQ(a.n_fds, 0);
		req = set(&r, 1, "k", "first");
		a = raw_call(&r, &req);
		CHECK_EQ(a.status, HC_OK);
		CHECK_EQ(a.lsn, first.lsn);
		CHECK_EQ(a.value, first.value);
		CHECK_EQ(shm_load_rlx(&r.ctl->store[0].counter[SHM_SC_sets]), 2);
		CHECK_EQ(counter(&r, SHM_DC_requests_replayed), (uint64_t)engines + 1);
		if (engines == 0) {
			pid_t former = t_daemon_kill_engine(d, SIGKILL);
			(void)t_daemon_wait_engine(d, former);
		}
	}
	raw_close(&r);
	t_daemon_stop(d);
}

TEST(a_refusal_stays_a_refusal_when_it_is_repeated)
{
	struct t_daemon *d = t_daemon_start(
		"pools:\n  main: {size: 4MiB, huge_pages: \"off\", max_value: 4B}\n", NULL);
	struct raw r = session_open(d);
	struct wire_request req = set(&r, 1, "k", "too long");

	CHECK_EQ(raw_call(&r, &req).status, HC_E_TOO_LARGE);
	CHECK_EQ(raw_call(&r, &req).status, HC_E_TOO_LARGE);
	CHECK_EQ(counter(&r, SHM_DC_requests_replayed), 1);
	/* Also not brought to life by other arguments: the number is used up. */
	req = set(&r, 1, "k", "ok");
	CHECK_EQ(raw_call(&r, &req).status, HC_E_TOO_LARGE);
	CHECK_EQ(shm_load_rlx(&r.ctl->store[0].counter[SHM_SC_sets]), 0);
	raw_close(&r);
	t_daemon_stop(d);
}

TEST(a_session_is_resumed_by_its_id_alone_and_only_while_it_lives)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct raw good = session_open(d), r = session_open(d), second = raw_open(d);
	uint64_t id = r.session;

	CHECK_EQ(raw_hello(&second, id ^ 1).status, HC_E_STALE);
	CHECK(raw_is_closed(&second));
	raw_close(&second);
	second = raw_open(d); /* takes it over: the older connection is closed */
	CHECK_EQ(raw_hello(&second, id).status, HC_OK);
	CHECK(raw_is_closed(&r));
	struct wire_request bye = {.verb = WIRE_BYE};
	CHECK_EQ(raw_call(&second, &bye).status, HC_OK);
	CHECK(raw_is_closed(&second));
	raw_close(&second);
	CHECK_EQ(counter(&good, SHM_DC_sessions), 1); /* although r still maps it */
	second = raw_open(d);
	CHECK_EQ(raw_hello(&second, id).status, HC_E_STALE);
	raw_close(&second);
	raw_close(&r);
	raw_close(&good);
	t_daemon_stop(d);
}

/* -------------------------------------------------------------- the kernel's word */

TEST(a_session_lives_as_long_as_anybody_maps_it)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct raw good = session_open(d), r = session_open(d);
	int go[2], r_fd = -1;

	for (int i = 0; i < r.n_fds; i++) { /* the one that can be written */
		void *m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, r.fd[i], 0);
		if (m != MAP_FAILED)
			r_fd = i;
	}
	CHECK(r_fd >= 0);
	CHECK_EQ(pipe(go), 0);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) { /* inherits the mapping, and nothing else of it */
		char byte;
		raw_close_fds(&r);
		(void)close(r.sock);
		(void)close(go[1]);
		_exit(read(go[0], &byte, 1) == 0 ? 0 : 1);
	}
	(void)close(go[0]);
	raw_close_fds(&r);
	(void)close(r.sock); /* connection closed, the parent's own mapping still there, too */
	wait_counter(&good, SHM_DC_connections, 1);
	for (int i = 0; i < 200; i++)
		ping(&good);
	CHECK_EQ(counter(&good, SHM_DC_sessions), 2);
	CHECK_EQ(counter(&good, SHM_DC_sessions_dead), 0);
	/* The same session may come back. */
	struct raw again = raw_open(d);
	CHECK_EQ(raw_hello(&again, r.session).resumed, 1);
	raw_close(&again);
	(void)close(go[1]);
	CHECK_EQ(t_wait_child(pid, WAIT_MS), 0);
	CHECK_EQ(counter(&good, SHM_DC_sessions_dead), 0);
	raw_close(&good);
	wire_buf_fini(&r.in);
	t_daemon_stop(d);
}

TEST(another_users_session_cannot_be_resumed)
{
	enum { NOBODY = 65534 };
	if (geteuid() != 0)
		SKIP("it becomes another user");
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct raw mine = session_open(d);

	CHECK_EQ(chmod(t_dir(), 0711), 0);
	CHECK_EQ(chmod(d->dir, 0711), 0);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		CHECK_EQ(setresuid(NOBODY, NOBODY, NOBODY), 0);
		struct raw r = raw_open(d);
		CHECK_EQ(raw_hello(&r, mine.session).status, HC_E_STALE);
		CHECK(raw_is_closed(&r));
		_exit(0);
	}
	CHECK_EQ(t_wait_child(pid, WAIT_MS), 0);
	ping(&mine); /* its connection was not taken over */
	raw_close(&mine);
	t_daemon_stop(d);
}

/* ----------------------------------------------------------------- hostile memory */

/* All that a client can write: numbers at random, and some that are nearly right. */
static void scribble(struct shm_client *seg, size_t bytes)
{
	for (size_t i = 0; i < bytes / 8; i++)
		((uint64_t *)(void *)seg)[i] = t_random();
	for (size_t b = 0; b < bytes / sizeof(struct shm_block) - 1; b++) {
		struct shm_block *block = (struct shm_block *)(void *)(seg + 1) + b;
		for (int i = 0; i < SHM_HINTS; i++)
			shm_store_rlx(&block->hint[i], t_random_below(16u << 20) & ~15ull);
		for (int i = 0; i < SHM_BLOCK_PINS; i++)
			shm_store_rlx(&block->pin[i], t_random_below(16u << 20) & ~15ull);
		for (int i = 0; i < SHM_BLOCK_STORES; i++)
			shm_store_rlx(&block->store[i].hits, UINT64_MAX);
	}
	shm_store32_rlx(&seg->blocks_used, (uint32_t)t_random());
}

TEST(what_a_client_scribbles_harms_itself_alone)
{
	enum { ROUNDS = 40, SETS = 1000 };
	struct t_daemon *d = t_daemon_start(
		"pools:\n  main: {size: 4MiB, huge_pages: \"off\"}\n", NULL);
	struct raw good = session_open(d), bad = session_open(d);
	pid_t engine = t_daemon_engine(d);
	uint64_t request = 0;
	size_t bytes;
	struct shm_client *seg = segment_of(&bad, &bytes);

	for (int i = 0; i < ROUNDS; i++) {
		scribble(seg, bytes);
		for (int k = 0; k < SETS; k++) {
			char key[32];
			(void)snprintf(key, sizeof key, "key-%d-%d", i, k);
			struct wire_request req = set(&good, ++request, key, "value");
			CHECK_EQ(raw_call(&good, &req).status, HC_OK);
		}
	}
	CHECK(counter(&good, SHM_DC_hints_bad) > 0);
	CHECK(shm_load_rlx(&good.ctl->store[0].counter[SHM_SC_evicted]) > 0);
	CHECK_EQ(t_daemon_engine(d), engine);
	/* Also the next engine adopts it as it is. */
	(void)t_daemon_wait_engine(d, t_daemon_kill_engine(d, SIGKILL));
	(void)munmap(seg, bytes);
	raw_close(&bad);
	raw_close(&good);
	good = session_open(d);
	wait_counter(&good, SHM_DC_sessions, 1);
	CHECK(shm_load_rlx(&good.ctl->store[0].counter[SHM_SC_folded_hits]) <= 1ull << 48);
	CHECK_EQ(shm_load_rlx(&good.ctl->engine_gen), 2);
	raw_close(&good);
	t_daemon_stop(d);
}

/* ------------------------------------------------------------------------- limits */

TEST(who_does_not_read_answers_is_not_read_and_hinders_nobody)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct raw good = session_open(d), slow = session_open(d);
	struct wire_request req = {.verb = WIRE_PING};
	struct wire_buf b = {0};
	struct wire_answer a;
	uint64_t frames = 0, answers = 0, frame_bytes, sent = 0;

	for (int i = 0; i < 4096; i++)
		CHECK_EQ(wire_put_request(&b, &req), 0);
	frame_bytes = b.end / 4096;
	for (;;) { /* until nothing more is taken, for all that the engine can do about it */
		ssize_t n = send(slow.sock, b.bytes + sent % b.end, b.end - sent % b.end,
			MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n > 0) {
			sent += (uint64_t)n;
			CHECK(sent < 32u << 20);
			continue;
		}
		CHECK_EQ(errno, EAGAIN);
		if (!t_wait_fd(slow.sock, POLLOUT, 200))
			break;
	}
	for (int i = 0; i < 100; i++)
		ping(&good);
	/* The rest of a frame that was cut has to wait; read all that was asked for. */
	frames = sent / frame_bytes;
	CHECK(frames * 10 > 4u << 20); /* of ten bytes each: as many waited as the engine allows */
	while (answers < frames) {
		CHECK(raw_answer(&slow, &a));
		CHECK_EQ(a.verb, WIRE_PING);
		answers++;
	}
	wire_buf_fini(&b);
	raw_close(&slow);
	raw_close(&good);
	t_daemon_stop(d);
}

TEST(beyond_the_limits_clients_are_refused_by_name)
{
	enum { MAX = 4 };
	struct t_daemon *d = t_daemon_start("max_clients: 4\n", NULL);
	struct raw session[MAX], idle[MAX], r;
	struct wire_answer a;

	for (int i = 0; i < MAX; i++)
		session[i] = session_open(d);
	r = raw_open(d); /* one session too many */
	CHECK_EQ(raw_hello(&r, 0).status, HC_E_REFUSED);
	CHECK(raw_is_closed(&r));
	raw_close(&r);
	wait_counter(&session[0], SHM_DC_connections, MAX);
	for (int i = 0; i < MAX; i++)
		idle[i] = raw_open(d);
	wait_counter(&session[0], SHM_DC_connections, 2 * MAX);
	r = raw_open(d); /* one connection too many: refused before it has said anything */
	CHECK(raw_answer(&r, &a));
	CHECK_EQ(a.verb, WIRE_HELLO);
	CHECK_EQ(a.status, HC_E_REFUSED);
	CHECK(raw_is_closed(&r));
	raw_close(&r);
	CHECK_EQ(counter(&session[0], SHM_DC_connections_refused), 2);
	/* Who says nothing is closed after five seconds, and makes room. */
	for (int i = 0; i < MAX; i++) {
		CHECK(raw_is_closed(&idle[i]));
		raw_close(&idle[i]);
	}
	wait_counter(&session[0], SHM_DC_connections, MAX);
	raw_close(&session[MAX - 1]);
	wait_counter(&session[0], SHM_DC_sessions, MAX - 1);
	session[MAX - 1] = session_open(d);
	for (int i = 0; i < MAX; i++)
		raw_close(&session[i]);
	t_daemon_stop(d);
}

TEST(sessions_come_and_go_without_leaving_anything)
{
	struct t_daemon *d = t_daemon_start("max_clients: 8\n", NULL);
	struct raw good = session_open(d);

	for (int i = 0; i < 300; i++) {
		struct raw r = session_open(d);
		struct wire_request bye = {.verb = WIRE_BYE};
		if (i % 3 == 0)
			CHECK_EQ(raw_call(&r, &bye).status, HC_OK);
		raw_close(&r);
		if (i % 3 == 1) /* closed in the middle of its HELLO */ {
			r = raw_open(d);
			struct wire_request req = hello(0);
			CHECK(raw_send_request(&r, &req));
			raw_close(&r);
		}
		if (i % 5 == 0)
			wait_counter(&good, SHM_DC_sessions, 1);
	}
	wait_counter(&good, SHM_DC_sessions, 1);
	wait_counter(&good, SHM_DC_connections, 1);
	raw_close(&good);
	t_daemon_stop(d);
}
