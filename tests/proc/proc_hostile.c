/* proc_hostile.c - many at once who mean harm, and one beside them who does not: he is served, every
 * answer is right, and nothing of his is lost.  One bad thing at a time is asked in proc_frames and
 * proc_limits; tests/README.md has the list. */
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include "hc_i.h"
#include "raw.h"

enum { KEYS = 400 };

/* ------------------------------------------------------------------ the one beside */

struct good {
	struct hc *hc;
	struct hc_store *s;
	uint64_t turn;
	uint64_t last[KEYS]; /* turn in which the key was set; 0: never */
};

static void good_open(struct good *g, const struct t_daemon *d)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);

	*g = (struct good){0};
	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(WAIT_MS);
	CHECK_EQ(hc_open(&g->hc, &o), HC_OK);
	CHECK_EQ(hc_store(g->hc, "default", &g->s), HC_OK);
}

static void good_read(const struct good *g, uint32_t key)
{
	uint64_t value[32];
	size_t n;

	int r = hc_get(g->s, &key, sizeof key, value, sizeof value, &n);
	CHECK_EQ(r, g->last[key] ? HC_OK : HC_MISS);
	if (r == HC_OK)
		CHECK(n == sizeof value && value[0] == g->last[key] && value[31] == g->last[key]);
}

/* A set and a read. */
static void good_turn(struct good *g)
{
	uint32_t key = (uint32_t)t_random_below(KEYS);
	uint64_t value[32];

	g->turn++;
	for (int i = 0; i < 32; i++)
		value[i] = g->turn;
	CHECK_EQ(hc_set(g->s, &key, sizeof key, value, sizeof value, NULL), HC_OK);
	g->last[key] = g->turn;
	good_read(g, key);
	good_read(g, (uint32_t)t_random_below(KEYS));
}

/* All is there, the memory is sound, and nobody else is left. */
static void good_end(struct good *g, struct t_daemon *d)
{
	char *out;

	for (uint32_t i = 0; i < KEYS; i++)
		good_read(g, i);
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(WAIT_MS) * 1000000;
	while (shm_load_rlx(&g->hc->ctl->counter[SHM_DC_sessions]) != 1 ||
		shm_load_rlx(&g->hc->ctl->counter[SHM_DC_connections]) != 1) {
		CHECK(t_now_ns() < end_ns);
		CHECK_EQ(hc_ping(g->hc), HC_OK);
	}
	CHECK_EQ(shm_load_rlx(&g->hc->ctl->store[0].counter[SHM_SC_evicted]), 0);
	CHECK_EQ(t_run((const char *[]){t_bin("hypercache"), "--admin", d->admin, "fsck", NULL},
			 NULL, 0, &out, NULL, NULL, WAIT_MS),
		0);
	free(out);
	hc_close(g->hc);
}

/* Turns of the good one until all these children have ended, each with status 0. */
static void good_until_ended(struct good *g, const pid_t *pid, int n)
{
	for (int i = 0; i < n;) {
		int status;
		good_turn(g);
		if (waitpid(pid[i], &status, WNOHANG) != pid[i])
			continue;
		CHECK_EQ(status, 0);
		i++;
	}
}

static pid_t child_of(void (*run)(const struct t_daemon *d), const struct t_daemon *d)
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		run(d);
		_exit(0);
	}
	return pid;
}

/* ------------------------------------------------------------------ thousands of connections */

enum { FLOODERS = 4, FLOOD = 900 }; /* sockets of one process: below the usual limit of 1024 */

/* Opens connections and says nothing: each is refused by name, or closed when its time is over. */
static void flood(const struct t_daemon *d)
{
	static struct raw r[FLOOD];
	struct wire_answer a;

	for (int i = 0; i < FLOOD; i++)
		r[i] = raw_open(d);
	for (int i = 0; i < FLOOD; i++) {
		if (raw_answer(&r[i], &a)) {
			CHECK(a.verb == WIRE_HELLO && a.status == HC_E_REFUSED);
			CHECK(raw_is_closed(&r[i]));
		}
		raw_close(&r[i]);
	}
}

TEST_LIMIT(thousands_of_connections_are_refused_and_hinder_nobody_who_has_one, 120)
{
	struct t_daemon *d = t_daemon_start(
		"max_clients: 64\nhello_timeout: 500ms\nheartbeat: 100ms\n", NULL);
	pid_t pid[FLOODERS], engine = t_daemon_engine(d);
	struct good g;

	good_open(&g, d);
	for (int i = 0; i < FLOODERS; i++)
		pid[i] = child_of(flood, d);
	good_until_ended(&g, pid, FLOODERS);
	CHECK_EQ(shm_load_rlx(&g.hc->ctl->counter[SHM_DC_connections_refused]), FLOODERS * FLOOD);
	struct raw late = session_open(d); /* there is room again */
	raw_close(&late);
	good_end(&g, d);
	CHECK_EQ(t_daemon_engine(d), engine);
	t_daemon_stop(d);
}

/* Who opens one after the other does not have the engine to himself: they wait at the door.  That they do not come
 * later than that is not looked at. */
TEST(connections_come_at_a_bounded_rate)
{
	enum { N = 256 + 500 };
	static struct raw r[N];
	struct t_daemon *d = t_daemon_start("max_clients: 500\nmax_clients_per_user: 500\n", NULL);
	uint64_t from_ns = t_now_ns(), end_ns = from_ns + (uint64_t)t_limit_ms(WAIT_MS) * 1000000;
	struct good g;

	good_open(&g, d);
	for (int i = 0; i < N; i++)
		r[i] = raw_open(d);
	const shm_u64 *n = &g.hc->ctl->counter[SHM_DC_connections];
	while (shm_load_rlx(n) < N + 1) {
		CHECK(t_now_ns() < end_ns);
		good_turn(&g);
	}
	CHECK(t_now_ns() - from_ns >= 450000000);
	for (int i = 0; i < N; i++)
		raw_close(&r[i]);
	good_end(&g, d);
	t_daemon_stop(d);
}

/* ------------------------------------------------------------------ memory that changes */

struct scribbler {
	struct shm_client *seg;
	size_t bytes;
	uint64_t state;
	shm_u32 on;
	pthread_t thread;
};

/* A word of the segment: any number, or something like a pin or a hint in the pool. */
static void scribble_word(struct scribbler *s)
{
	uint64_t at = t_random_from(&s->state) % (s->bytes / 8), v = t_random_from(&s->state);
	shm_u64 *word = (shm_u64 *)(void *)s->seg;

	if (v & 7)
		v = v >> 8 & 0xfffff0; /* of pool 0, in its first 16 MiB */
	if (v & 0x10)
		v |= 1ull << SHM_WORD_TOP_SHIFT;
	shm_store_rlx(&word[at], v);
	if (at % 64 == 0)
		shm_store32_rlx(&s->seg->blocks_used, (uint32_t)t_random_from(&s->state));
}

static void *scribble(void *arg)
{
	struct scribbler *s = arg;

	while (shm_load32_acq(&s->on))
		scribble_word(s);
	return NULL;
}

TEST_LIMIT(a_segment_that_changes_while_the_engine_looks_harms_nobody, 120)
{
	enum { ENGINES = 3, TURNS = 4000 };
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct raw bad = session_open(d);
	struct scribbler s = {.on = {1}, .state = t_random()};
	struct good g;

	good_open(&g, d);
	pid_t engine = t_daemon_wait_engine(d, 0);
	s.seg = segment_of(&bad, &s.bytes);
	CHECK_EQ(pthread_create(&s.thread, NULL, scribble, &s), 0);
	for (int e = 0; e < ENGINES; e++) {
		for (int i = 0; i < TURNS; i++)
			good_turn(&g);
		CHECK_EQ(t_daemon_engine(d), engine); /* it did not die of it */
		CHECK_EQ(t_daemon_kill_engine(d, SIGKILL), engine);
		engine = t_daemon_wait_engine(d, engine); /* and this one adopts such a session */
	}
	shm_store32_rel(&s.on, 0);
	CHECK_EQ(pthread_join(s.thread, NULL), 0);
	CHECK_EQ(munmap(s.seg, s.bytes), 0);
	raw_close(&bad);
	good_end(&g, d);
	t_daemon_stop(d);
}

/* ------------------------------------------------------------------ everything at once */

enum { ROUNDS = 60 };

static void talk_nonsense(const struct t_daemon *d)
{
	for (int i = 0; i < ROUNDS; i++) {
		struct raw r = i % 2 ? raw_open(d) : session_open(d);
		uint8_t bytes[300];
		for (size_t k = 0; k < sizeof bytes; k++)
			bytes[k] = (uint8_t)t_random();
		memcpy(bytes, (uint8_t[]){100, 0, 0, 0, 0x98, (uint8_t)t_random_below(12)}, 6);
		(void)raw_send(&r, bytes, sizeof bytes);
		(void)shutdown(r.sock, SHUT_WR);
		while (raw_receive(&r))
			r.in.begin = r.in.end = 0;
		raw_close(&r);
	}
}

/* Asks for what may not be; all of it is named, and the connection stays. */
static void ask_wrongly(const struct t_daemon *d)
{
	static char much[HC_KEY_BYTES_MAX + 1], value[5 << 20];

	for (int i = 0; i < ROUNDS; i++) {
		struct raw r = session_open(d);
		struct wire_request req = set(&r, 1, "k", "v");
		req.store_id ^= 1 + t_random();
		CHECK_EQ(raw_call(&r, &req).status, HC_E_NO_STORE);
		req = set(&r, 2, "", "v");
		CHECK_EQ(raw_call(&r, &req).status, HC_E_INVAL);
		req.request = 3;
		req.key = much;
		req.key_bytes = sizeof much;
		CHECK_EQ(raw_call(&r, &req).status, HC_E_TOO_LARGE);
		req = set(&r, 4, "k", "v");
		req.value = value;
		req.value_bytes = sizeof value;
		CHECK_EQ(raw_call(&r, &req).status, HC_E_TOO_LARGE);
		req = set(&r, 5, "k", "v");
		req.mode = WIRE_MODES;
		CHECK_EQ(raw_call(&r, &req).status, HC_E_INVAL);
		ping(&r);
		raw_close(&r);
	}
}

/* Begins a frame, or leaves answers unread, and goes. */
static void stop_halfway(const struct t_daemon *d)
{
	for (int i = 0; i < ROUNDS; i++) {
		struct raw r = session_open(d);
		struct wire_request req = set(&r, 1, "half of it", "never comes");
		struct wire_buf b = {0};
		CHECK_EQ(wire_put_request(&b, &req), 0);
		CHECK(raw_send(&r, b.bytes, 1 + t_random_below(b.end - 1)));
		wire_buf_fini(&b);
		raw_close(&r);

		r = session_open(d);
		req = (struct wire_request){.verb = WIRE_PING};
		for (int k = 0; k < 1000; k++)
			CHECK_EQ(wire_put_request(&b, &req), 0);
		(void)send(r.sock, b.bytes, b.end, MSG_NOSIGNAL | MSG_DONTWAIT);
		wire_buf_fini(&b);
		raw_close(&r);
	}
}

/* Scribbles over its segment, and dies with it. */
static void scribble_and_die(const struct t_daemon *d)
{
	for (int i = 0; i < ROUNDS; i++) {
		pid_t pid = fork();
		CHECK(pid >= 0);
		if (pid > 0) {
			CHECK_EQ(t_wait_child(pid, WAIT_MS), SIGKILL);
			continue;
		}
		struct raw r = session_open(d);
		struct scribbler s = {.state = t_random() + (uint64_t)i};
		s.seg = segment_of(&r, &s.bytes);
		for (int k = 0; k < 100000; k++)
			scribble_word(&s);
		(void)raise(SIGKILL);
	}
}

TEST_LIMIT(whatever_others_do_one_client_is_served_and_loses_nothing, 120)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	pid_t engine = t_daemon_engine(d);
	struct good g;

	good_open(&g, d);
	const pid_t pid[] = {
		child_of(talk_nonsense, d),
		child_of(ask_wrongly, d),
		child_of(stop_halfway, d),
		child_of(scribble_and_die, d),
	};
	good_until_ended(&g, pid, sizeof pid / sizeof pid[0]);
	good_end(&g, d);
	CHECK_EQ(t_daemon_engine(d), engine);
	t_daemon_stop(d);
}
