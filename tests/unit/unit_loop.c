/* unit_loop.c - eng_loop.h's promises, asked of each implementation behind it. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../../daemon/eng_loop.h"

enum {
	TURNS_MAX = 100000,
	CALLS_MAX = 1024,
	FEW_TURNS = 10, /* of a loop that has nothing to do until a timer is over */
};
#define MS 1000000ull

/* What was called, in this order. */
struct calls {
	int n, result[CALLS_MAX];
	bool armed; /* as it was in the last one */
	struct eng_wait w;
};

static void called(void *arg, int result)
{
	struct calls *c = arg;

	CHECK(c->n < CALLS_MAX);
	c->armed = c->w.armed;
	c->result[c->n++] = result;
}

static void calls_init(struct calls *c) { *c = (struct calls){.w = {.done = called, .arg = c}}; }

static int turn(struct eng_loop *l)
{
	CHECK_EQ(eng_loop_wait(l, true), 0);
	eng_loop_dispatch(l);
	return 1;
}

/* Turns until c was called n times.  Returns how many turns that took. */
static int until(struct eng_loop *l, const struct calls *c, int n)
{
	int turns = 0;

	while (c->n < n) {
		CHECK(turns < TURNS_MAX);
		turns += turn(l);
	}
	CHECK_EQ(c->n, n);
	return turns;
}

/* Turns of a loop that nothing should wake for so long. */
static int idle_turns(struct eng_loop *l)
{
	struct calls timer;

	calls_init(&timer);
	eng_loop_timer(l, 30 * MS, &timer.w);
	return until(l, &timer, 1);
}

static void pair_open(int ret[2])
{
	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ret), 0);
}

static void pair_close(struct eng_loop *l, const int pair[2])
{
	eng_loop_close(l, pair[0]);
	CHECK_EQ(close(pair[1]), 0);
}

/* ----------------------------------------------------------------------- time */

static void timers_end_in_their_order_and_not_early(struct eng_loop *l)
{
	struct calls late, soon;
	uint64_t begun_ns = t_now_ns();

	calls_init(&late);
	calls_init(&soon);
	eng_loop_timer(l, 60 * MS, &late.w);
	eng_loop_timer(l, 20 * MS, &soon.w);
	CHECK(late.w.armed && soon.w.armed);
	until(l, &soon, 1);
	CHECK(t_now_ns() - begun_ns >= 20 * MS);
	CHECK_EQ(soon.result[0], 0);
	CHECK(!soon.armed);
	CHECK(late.n == 0 || t_now_ns() - begun_ns >= 60 * MS);
	eng_loop_timer(l, 1, &soon.w); /* the same wait, again */
	until(l, &soon, 2);
	CHECK(late.n == 0 || t_now_ns() - begun_ns >= 60 * MS);
	until(l, &late, 1);
	CHECK(t_now_ns() - begun_ns >= 60 * MS);
	CHECK_EQ(late.result[0], 0);
}

static void without_waiting_a_turn_is_short(struct eng_loop *l)
{
	struct calls timer;
	uint64_t begun_ns = t_now_ns();

	calls_init(&timer);
	eng_loop_timer(l, 3600 * 1000 * MS, &timer.w);
	for (int i = 0; i < 100; i++) {
		CHECK_EQ(eng_loop_wait(l, false), 0);
		eng_loop_dispatch(l);
	}
	CHECK(t_now_ns() - begun_ns < 3600 * 1000 * MS);
	CHECK_EQ(timer.n, 0);
	eng_loop_cancel(l, &timer.w);
	until(l, &timer, 1);
	CHECK_EQ(timer.result[0], -ECANCELED);
}

/* ---------------------------------------------------------------------- bytes */

static void bytes_come_whenever_they_come(struct eng_loop *l)
{
	int s[2];
	char buf[64] = "";
	struct calls in;

	pair_open(s);
	calls_init(&in);
	eng_loop_recv(l, s[0], buf, sizeof buf, &in.w);
	CHECK(in.w.armed);
	CHECK(idle_turns(l) <= FEW_TURNS); /* none yet */
	CHECK_EQ(in.n, 0);
	CHECK_EQ(write(s[1], "abc", 3), 3);
	until(l, &in, 1);
	CHECK_EQ(in.result[0], 3);
	CHECK(!in.armed && memcmp(buf, "abc", 3) == 0);
	CHECK_EQ(write(s[1], "defgh", 5), 5); /* before anybody waits */
	eng_loop_recv(l, s[0], buf, 2, &in.w);
	until(l, &in, 2);
	CHECK_EQ(in.result[1], 2);
	eng_loop_recv(l, s[0], buf, sizeof buf, &in.w); /* the rest of them */
	until(l, &in, 3);
	CHECK_EQ(in.result[2], 3);
	CHECK(memcmp(buf, "fgh", 3) == 0);
	CHECK_EQ(shutdown(s[1], SHUT_WR), 0);
	for (int i = 4; i < 6; i++) { /* the end, as often as one asks */
		eng_loop_recv(l, s[0], buf, sizeof buf, &in.w);
		until(l, &in, i);
		CHECK_EQ(in.result[i - 1], 0);
	}
	pair_close(l, s);
}

/* What is sent arrives whole and in order, however little room there is. */
static void sends_wait_for_room(struct eng_loop *l)
{
	enum { N = 4 << 20 };
	static uint8_t from[N], to[N];
	int s[2];
	struct calls out;
	size_t sent = 0, got = 0;

	pair_open(s);
	calls_init(&out);
	for (size_t i = 0; i < N; i++)
		from[i] = (uint8_t)t_random();
	while (sent < N) {
		out.n = 0;
		eng_loop_send(l, s[0], from + sent, N - sent, &out.w);
		for (int i = 0; out.n == 0; i++) {
			CHECK(i < TURNS_MAX);
			CHECK_EQ(eng_loop_wait(l, false), 0); /* tries while it is still full */
			eng_loop_dispatch(l);
			ssize_t n = out.n ? 0 : recv(s[1], to + got, N - got, MSG_DONTWAIT);
			CHECK(n >= 0 || errno == EAGAIN);
			got += n > 0 ? (size_t)n : 0;
		}
		CHECK(out.result[0] > 0);
		sent += (size_t)out.result[0];
	}
	while (got < N) {
		ssize_t n = recv(s[1], to + got, N - got, MSG_DONTWAIT);
		CHECK(n > 0);
		got += (size_t)n;
	}
	CHECK(memcmp(from, to, N) == 0);
	CHECK(idle_turns(l) <= FEW_TURNS); /* there is room, and nobody waits for it */
	pair_close(l, s);
}

/* Fills a socket until a send would have to wait. */
static void fill(int fd)
{
	static const char bytes[4096];

	while (send(fd, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
		;
	CHECK_EQ(errno, EAGAIN);
}

static void both_directions_wait_at_one_time(struct eng_loop *l)
{
	static char buf[1 << 20];
	int s[2];
	struct calls in, out;

	pair_open(s);
	calls_init(&in);
	calls_init(&out);
	fill(s[0]);
	eng_loop_recv(l, s[0], buf, sizeof buf, &in.w);
	eng_loop_send(l, s[0], "x", 1, &out.w);
	CHECK(idle_turns(l) <= FEW_TURNS);
	CHECK_EQ(in.n + out.n, 0);
	CHECK_EQ(write(s[1], "y", 1), 1);
	until(l, &in, 1);
	CHECK_EQ(in.result[0], 1);
	CHECK_EQ(out.n, 0);
	while (recv(s[1], buf, sizeof buf, MSG_DONTWAIT) > 0)
		;
	until(l, &out, 1);
	CHECK_EQ(out.result[0], 1);
	pair_close(l, s);
}

static void the_other_sides_end_ends_both(struct eng_loop *l)
{
	char buf[16];
	int s[2];
	struct calls in, out;

	pair_open(s);
	calls_init(&in);
	calls_init(&out);
	fill(s[0]);
	eng_loop_recv(l, s[0], buf, sizeof buf, &in.w);
	eng_loop_send(l, s[0], "x", 1, &out.w);
	CHECK_EQ(close(s[1]), 0);
	until(l, &in, 1);
	until(l, &out, 1);
	CHECK(in.result[0] == 0 || in.result[0] == -ECONNRESET);
	CHECK(out.result[0] == -EPIPE || out.result[0] == -ECONNRESET);
	eng_loop_close(l, s[0]);
}

/* ----------------------------------------------------------------- connections */

struct door {
	struct eng_loop *l;
	struct calls c;
	int listen;
	int close_after; /* it is cancelled while this one is let in; 0: never */
};

static void came(void *arg, int result)
{
	struct door *d = arg;

	called(&d->c, result);
	if (result < 0)
		return;
	CHECK(d->c.armed);
	CHECK((fcntl(result, F_GETFD) & FD_CLOEXEC) != 0);
	CHECK((fcntl(result, F_GETFL) & O_NONBLOCK) == 0);
	CHECK_EQ(close(result), 0);
	if (d->c.n == d->close_after)
		eng_loop_cancel(d->l, &d->c.w);
}

static int door_open(struct door *d, struct eng_loop *l, int i)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	*d = (struct door){.l = l, .c.w = {.done = came, .arg = d}};
	d->listen = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (i ? SOCK_NONBLOCK : 0), 0);
	(void)snprintf(a.sun_path, sizeof a.sun_path, "%s/door", t_dir());
	(void)unlink(a.sun_path);
	CHECK_EQ(bind(d->listen, (struct sockaddr *)&a, sizeof a), 0);
	CHECK_EQ(listen(d->listen, 512), 0);
	return d->listen;
}

static int enter(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(a.sun_path, sizeof a.sun_path, "%s/door", t_dir());
	CHECK_EQ(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
	return fd;
}

static void everybody_who_comes_is_let_in(struct eng_loop *l)
{
	enum { N = 300 }; /* more than one batch */
	int fd[N];
	struct door d;

	for (int i = 0; i < 2; i++) { /* a door that blocks, and one that does not */
		(void)door_open(&d, l, i);
		for (int k = 0; k < N / 2; k++)
			fd[k] = enter();
		eng_loop_accept(l, d.listen, &d.c.w);
		until(l, &d.c, N / 2);
		for (int k = N / 2; k < N; k++)
			fd[k] = enter();
		until(l, &d.c, N);
		CHECK(d.c.w.armed);
		CHECK(idle_turns(l) <= FEW_TURNS);
		eng_loop_cancel(l, &d.c.w);
		until(l, &d.c, N + 1);
		CHECK_EQ(d.c.result[N], -ECANCELED);
		CHECK(!d.c.w.armed);
		eng_loop_close(l, d.listen);
		for (int k = 0; k < N; k++)
			CHECK_EQ(close(fd[k]), 0);
	}
}

static void a_door_may_be_closed_by_who_came(struct eng_loop *l)
{
	int fd[4];
	struct door d;

	(void)door_open(&d, l, 0);
	d.close_after = 2;
	for (int k = 0; k < 4; k++)
		fd[k] = enter();
	eng_loop_accept(l, d.listen, &d.c.w);
	for (int i = 0; d.c.w.armed; i++) {
		CHECK(i < TURNS_MAX);
		turn(l);
	}
	CHECK(d.c.n >= 3);
	CHECK_EQ(d.c.result[d.c.n - 1], -ECANCELED);
	CHECK(idle_turns(l) <= FEW_TURNS); /* although one may still stand there */
	eng_loop_close(l, d.listen);
	for (int k = 0; k < 4; k++)
		CHECK_EQ(close(fd[k]), 0);
}

/* --------------------------------------------------------------- descriptors */

static pid_t child_start(int ret_go[2])
{
	char byte;

	CHECK_EQ(pipe2(ret_go, O_CLOEXEC), 0);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		(void)close(ret_go[1]);
		_exit(read(ret_go[0], &byte, 1) == 0 ? 0 : 1);
	}
	CHECK_EQ(close(ret_go[0]), 0);
	return pid;
}

/* Of a description that somebody else has, too; it stays readable behind our back. */
static void a_death_is_told_once_and_closing_is_the_end_of_it(struct eng_loop *l)
{
	int go[2], fd, copy;
	struct calls end, in;
	char buf[16];

	calls_init(&end);
	calls_init(&in);
	pid_t pid = child_start(go);
	fd = pidfd_open(pid, 0);
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	CHECK(fd >= 0 && copy >= 0);
	eng_loop_readable(l, fd, &end.w);
	CHECK(idle_turns(l) <= FEW_TURNS);
	CHECK_EQ(end.n, 0);
	CHECK_EQ(close(go[1]), 0);
	until(l, &end, 1);
	CHECK((end.result[0] & POLLIN) != 0);
	CHECK_EQ(t_wait_child(pid, 5000), 0);
	CHECK(idle_turns(l) <= FEW_TURNS); /* it can still be read, and nobody asks */
	eng_loop_readable(l, fd, &end.w);  /* now somebody does */
	until(l, &end, 2);
	CHECK((end.result[1] & POLLIN) != 0);
	eng_loop_close(l, fd);
	CHECK(idle_turns(l) <= FEW_TURNS);
	int s[2];
	pair_open(s); /* its number, for something else */
	int reused = s[0] == fd ? s[0] : s[1] == fd ? s[1] : -1;
	CHECK_EQ(reused, fd);
	eng_loop_recv(l, reused, buf, sizeof buf, &in.w);
	CHECK(idle_turns(l) <= FEW_TURNS);
	CHECK_EQ(in.n, 0);
	CHECK_EQ(write(s[0] == fd ? s[1] : s[0], "x", 1), 1);
	until(l, &in, 1);
	CHECK_EQ(in.result[0], 1);
	eng_loop_close(l, reused);
	CHECK_EQ(close(s[0] == fd ? s[1] : s[0]), 0);
	CHECK_EQ(close(copy), 0);
}

static void what_nobody_waits_for_wakes_nobody(struct eng_loop *l)
{
	char buf[16];
	int s[2];
	struct calls in;

	pair_open(s);
	calls_init(&in);
	CHECK_EQ(write(s[1], "abc", 3), 3);
	eng_loop_recv(l, s[0], buf, 1, &in.w);
	until(l, &in, 1);
	CHECK(idle_turns(l) <= FEW_TURNS); /* two bytes are left */
	CHECK_EQ(close(s[1]), 0);
	CHECK(idle_turns(l) <= FEW_TURNS); /* and the end */
	eng_loop_recv(l, s[0], buf, sizeof buf, &in.w);
	until(l, &in, 2);
	CHECK_EQ(in.result[1], 2);
	eng_loop_close(l, s[0]);
}

/* ---------------------------------------------------------------- cancellation */

static void what_is_cancelled_ends_and_may_begin_again(struct eng_loop *l)
{
	static char buf[1 << 20];
	int s[2];
	struct calls in, out, end;

	pair_open(s);
	calls_init(&in);
	calls_init(&out);
	calls_init(&end);
	eng_loop_cancel(l, &in.w); /* nothing is under way: nothing happens */
	fill(s[0]);
	eng_loop_recv(l, s[0], buf, sizeof buf, &in.w);
	eng_loop_send(l, s[0], "x", 1, &out.w);
	eng_loop_readable(l, s[1], &end.w); /* there is something: it was filled */
	until(l, &end, 1);
	eng_loop_cancel(l, &in.w);
	eng_loop_cancel(l, &out.w);
	eng_loop_cancel(l, &out.w); /* twice is once */
	until(l, &in, 1);
	until(l, &out, 1);
	CHECK_EQ(in.result[0], -ECANCELED);
	CHECK_EQ(out.result[0], -ECANCELED);
	CHECK(!in.w.armed && !out.w.armed);
	while (recv(s[1], buf, sizeof buf, MSG_DONTWAIT) > 0)
		;
	CHECK(idle_turns(l) <= FEW_TURNS);
	eng_loop_send(l, s[0], "yz", 2, &out.w);
	eng_loop_cancel(l, &out.w); /* before it was handed over: either way */
	until(l, &out, 2);
	CHECK(out.result[1] == -ECANCELED || out.result[1] == 2);
	eng_loop_recv(l, s[0], buf, sizeof buf, &in.w);
	CHECK_EQ(write(s[1], "w", 1), 1);
	until(l, &in, 2);
	CHECK_EQ(in.result[1], 1);
	pair_close(l, s);
}

/* -------------------------------------------------------------------------- many */

static void many_are_all_served(struct eng_loop *l)
{
	enum { N = 400 }; /* more than one batch, and a table that grows */
	static struct calls in[N];
	static char buf[N];
	static int s[N][2];

	for (int i = 0; i < N; i++) {
		pair_open(s[i]);
		calls_init(&in[i]);
		eng_loop_recv(l, s[i][0], &buf[i], 1, &in[i].w);
	}
	for (int round = 1; round <= 3; round++) {
		for (int i = 0; i < N; i++)
			CHECK_EQ(write(s[i][1], &(char){(char)i}, 1), 1);
		for (int i = 0; i < N; i++) {
			until(l, &in[i], round);
			CHECK_EQ(in[i].result[round - 1], 1);
			CHECK_EQ(buf[i], (char)i);
			eng_loop_recv(l, s[i][0], &buf[i], 1, &in[i].w);
		}
	}
	for (int i = 0; i < N; i++) {
		eng_loop_cancel(l, &in[i].w);
		until(l, &in[i], 4);
		CHECK_EQ(in[i].result[3], -ECANCELED);
		pair_close(l, s[i]);
	}
}

static void writes_to_files_are_done_each_for_itself(struct eng_loop *l)
{
	enum { N = 4, BYTES = 8192 };
	static uint8_t from[N][BYTES] __attribute__((aligned(4096))), back[BYTES];
	struct calls w[N], bad;
	const char *how = NULL;
	int fd = open(t_path("written"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	CHECK_EQ(eng_loop_writes(l, from, sizeof from, &how), 0);
	CHECK(how && strstr(how, "RWF_DSYNC"));
	for (int turn = 0; turn < 3; turn++)
		for (int i = 0; i < N; i++) {
			if (turn == 0)
				calls_init(&w[i]);
			memset(from[i], 16 * turn + i, BYTES);
			eng_loop_write(l, fd, from[i], BYTES, (uint64_t)(N - i) * BYTES, &w[i].w);
			CHECK(w[i].w.armed);
			if (i == N - 1)
				for (int k = 0; k < N; k++) {
					until(l, &w[k], turn + 1);
					CHECK_EQ(w[k].result[turn], BYTES);
					CHECK(!w[k].armed);
				}
		}
	for (int i = 0; i < N; i++) {
		CHECK_EQ(pread(fd, back, BYTES, (N - i) * BYTES), BYTES);
		CHECK(memcmp(back, from[i], BYTES) == 0);
	}
	CHECK_EQ(close(fd), 0);
	fd = open(t_path("written"), O_RDONLY | O_CLOEXEC);
	calls_init(&bad);
	eng_loop_write(l, fd, back, 100, 0,
		&bad.w); /* not of what was announced, and not to be written to */
	until(l, &bad, 1);
	CHECK_EQ(bad.result[0], -EBADF);
	CHECK_EQ(close(fd), 0);
}

/* ------------------------------------------------------------------- each of them */

#define PROMISES(X) \
	X(timers_end_in_their_order_and_not_early) \
	X(without_waiting_a_turn_is_short) \
	X(bytes_come_whenever_they_come) \
	X(sends_wait_for_room) \
	X(both_directions_wait_at_one_time) \
	X(the_other_sides_end_ends_both) \
	X(everybody_who_comes_is_let_in) \
	X(a_door_may_be_closed_by_who_came) \
	X(a_death_is_told_once_and_closing_is_the_end_of_it) \
	X(what_nobody_waits_for_wakes_nobody) \
	X(what_is_cancelled_ends_and_may_begin_again) \
	X(many_are_all_served) \
	X(writes_to_files_are_done_each_for_itself)

static void nothing_came(void *arg, int result)
{
	(void)arg, (void)result;
	t_fail(__FILE__, __LINE__, "the loop waits, and nothing comes");
}

static void ask_all(enum config_io io, enum eng_loop_kind kind)
{
	struct eng_loop *l;
	const char *why;
	int r = eng_loop_new(io, 2048, &l, &why);

	struct eng_wait guard = {.done = nothing_came};

	if (r < 0 && io != CONFIG_IO_EPOLL) {
		CHECK(why != NULL);
		SKIP("io_uring is not allowed here");
	}
	CHECK_EQ(r, 0);
	CHECK(why == NULL);
	CHECK_EQ(eng_loop_kind(l), kind);
#define PROMISE_(name) fprintf(stderr, "  %s\n", #name), name(l);
	eng_loop_timer(l, (uint64_t)t_limit_ms(20000) * MS, &guard);
	PROMISES(PROMISE_)
	eng_loop_free(l);
}

TEST(io_uring_keeps_the_promises) { ask_all(CONFIG_IO_URING, ENG_LOOP_URING); }

TEST(io_uring_without_deferral_keeps_the_promises)
{
	ask_all(CONFIG_IO_URING_PLAIN, ENG_LOOP_URING_PLAIN);
}

TEST(epoll_keeps_the_promises) { ask_all(CONFIG_IO_EPOLL, ENG_LOOP_EPOLL); }
