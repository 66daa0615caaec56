/* proc_lease.c - leases: of all who miss a key one computes it, the others wait, whoever dies.
 *
 * Workers are processes of their own, told what to do by a byte over a socket pair: so that each can be
 * asked, left waiting, stopped and killed one by one.
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "atomic.h"
#include "hc_i.h"
#include "hypercache.h"
#include "layout/l_journal.h"

enum {
	LIMIT_MS = 15000,
	LONG_MS = 3600000, /* a lease that does not end by time */
	WORKERS_MAX = 100,
	VALUE_BYTES = 32,
};

static const char config[] = "heartbeat: 100ms\nmax_clients: 200\nmax_clients_per_user: 200\n";

/* ------------------------------------------------------------------ workers */

struct told {
	int result;
	struct hc_lease lease;
	size_t n;
	char value[VALUE_BYTES];
};

struct worker {
	pid_t pid;
	int fd;
};

struct session {
	struct hc *hc;
	struct hc_store *s;
};

static struct session session_open(const struct t_daemon *d)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct session c;

	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(LIMIT_MS);
	CHECK_EQ(hc_open(&c.hc, &o), HC_OK);
	CHECK_EQ(hc_store(c.hc, "default", &c.s), HC_OK);
	return c;
}

static int set(struct hc_store *s, const char *key, const char *value, struct hc_set_opts o)
{
	o.size = sizeof o;
	return hc_set(s, key, strlen(key), value, value ? strlen(value) : 0, &o);
}

static struct told get_or_lease(struct hc_store *s, const char *key, struct hc_lease_opts o)
{
	struct told t = {0};

	o.size = sizeof o;
	if (o.lease_ms == 0)
		o.lease_ms = LONG_MS;
	t.result = hc_get_or_lease(
		s, key, strlen(key), t.value, sizeof t.value - 1, &t.n, &o, &t.lease);
	return t;
}

/* A child that outlives its parent, with all descriptors that it has inherited.  Its process. */
static pid_t leave_child(int fd)
{
	pid_t pid = fork();

	if (pid == 0) {
		char c;
		while (recv(fd, &c, 1, 0) > 0)
			;
		_exit(0);
	}
	return pid;
}

_Noreturn static void worker_main(const struct t_daemon *d, int fd)
{
	struct session c = session_open(d);
	struct told t = {0};
	char order;

	while (recv(fd, &order, 1, 0) == 1) {
		switch (order) {
		case 'g': /* get or lease, wait as long as it takes */
			t = get_or_lease(c.s, "k", (struct hc_lease_opts){0});
			break;
		case 'n': /* do not wait */
			t = get_or_lease(c.s, "k", (struct hc_lease_opts){.no_wait = 1});
			break;
		case 't': /* a lease for a short time only */
			t = get_or_lease(c.s, "k", (struct hc_lease_opts){.lease_ms = 300});
			break;
		case 's': /* fill */
			t.result = set(
				c.s, "k", "filled", (struct hc_set_opts){.lease = t.lease.token});
			break;
		case 'd':
			t.result = hc_lease_drop(c.s, "k", 1, t.lease.token, 0);
			break;
		case 'a':
			t.result = hc_lease_drop(c.s, "k", 1, t.lease.token, LONG_MS);
			break;
		case 'c':
			hc_close(c.hc);
			t.result = 0;
			break;
		case 'x': /* lose the connection */
			t.result = shutdown(c.hc->conn.fd, SHUT_RDWR);
			break;
		case 'f':
			t.result = leave_child(fd);
			break;
		default:
			_exit(2);
		}
		CHECK(send(fd, &t, sizeof t, MSG_NOSIGNAL) == sizeof t);
	}
	_exit(0);
}

static struct worker worker_new(const struct t_daemon *d)
{
	int fd[2];

	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd) == 0);
	struct worker w = {.pid = fork(), .fd = fd[0]};
	CHECK(w.pid >= 0);
	if (w.pid == 0) {
		CHECK(close_range(3, (unsigned)fd[1] - 1, 0) == 0); /* other workers' ends */
		worker_main(d, fd[1]);
	}
	(void)close(fd[1]);
	return w;
}

static void tell(const struct worker *w, char order)
{
	CHECK(send(w->fd, &order, 1, MSG_NOSIGNAL) == 1);
}

static struct told hear(const struct worker *w)
{
	struct told t;

	CHECK(t_wait_fd(w->fd, POLLIN, LIMIT_MS));
	CHECK(recv(w->fd, &t, sizeof t, 0) == sizeof t);
	return t;
}

static int ask(const struct worker *w, char order)
{
	tell(w, order);
	return hear(w).result;
}

static bool has_answer(const struct worker *w)
{
	struct pollfd p = {.fd = w->fd, .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

static void worker_kill(struct worker *w)
{
	CHECK(kill(w->pid, SIGKILL) == 0);
	(void)t_wait_child(w->pid, LIMIT_MS);
	(void)close(w->fd);
}

static void worker_end(struct worker *w)
{
	(void)close(w->fd);
	CHECK_EQ(t_wait_child(w->pid, LIMIT_MS), 0);
}

static uint64_t counter(const struct session *c, enum shm_daemon_counter i)
{
	return shm_load_rlx(&c->hc->ctl->counter[i]);
}

/* Waits until so many have been told to wait since the daemon's begin. */
static void wait_waiting(const struct session *c, uint64_t n)
{
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(LIMIT_MS) * 1000000;

	while (counter(c, SHM_DC_leases_waited) < n) {
		CHECK(t_now_ns() < end_ns);
		CHECK_EQ(hc_ping(c->hc), HC_OK);
	}
}

/* ------------------------------------------------------------------ one computes */

/* The source of the value, and how often it was asked. */
struct source {
	shm_u32 queries, done;
};

/* As a program would: look, compute if it is ours, else have what another computed. */
_Noreturn static void one_of_many(const struct t_daemon *d, struct source *src, int begin_fd)
{
	struct session c = session_open(d);
	char go;

	CHECK(recv(begin_fd, &go, 1, MSG_PEEK) == 0); /* its other end is closed: for all at once */
	struct told t = get_or_lease(c.s, "k", (struct hc_lease_opts){0});
	if (t.result == HC_LEASE) {
		(void)__atomic_add_fetch(&src->queries.v, 1, __ATOMIC_SEQ_CST);
		wait_waiting(&c, 1);
		CHECK_EQ(set(c.s, "k", "filled", (struct hc_set_opts){.lease = t.lease.token}),
			HC_OK);
	} else {
		CHECK_EQ(t.result, HC_OK);
		CHECK_STR(t.value, "filled");
	}
	(void)__atomic_add_fetch(&src->done.v, 1, __ATOMIC_SEQ_CST);
	_exit(0);
}

TEST_LIMIT(of_all_who_miss_at_once_one_asks_the_source, 120)
{
	const char *wanted = getenv("T_PROCESSES");
	int n = wanted ? atoi(wanted) : WORKERS_MAX, gate[2];
	char more[256];
	(void)snprintf(more, sizeof more,
		"heartbeat: 100ms\nmax_clients: %d\nmax_clients_per_user: %d\nthreads_per_client: "
		"1\n",
		n + 10, n + 10);
	struct t_daemon *d = t_daemon_start(more, NULL);
	struct source *src = mmap(
		NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t *pid = calloc((size_t)n, sizeof *pid);

	CHECK(src != MAP_FAILED && pid && n > 0);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, gate) == 0);
	for (int i = 0; i < n; i++) {
		pid[i] = fork();
		CHECK(pid[i] >= 0);
		if (pid[i] == 0) {
			(void)close(gate[0]);
			one_of_many(d, src, gate[1]);
		}
	}
	struct session c = session_open(d);
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(60000) * 1000000;
	while (counter(&c, SHM_DC_sessions) < (uint64_t)n + 1) {
		CHECK(t_now_ns() < end_ns);
		CHECK_EQ(hc_ping(c.hc), HC_OK);
	}
	uint64_t from_ns = t_now_ns();
	(void)close(gate[0]);
	(void)close(gate[1]);
	for (int i = 0; i < n; i++)
		CHECK_EQ(t_wait_child(pid[i], 60000), 0);
	CHECK_EQ(src->queries.v, 1);
	CHECK_EQ(src->done.v, n);
	CHECK_EQ(counter(&c, SHM_DC_leases_granted), 1);
	CHECK_EQ(counter(&c, SHM_DC_leases), 0);
	fprintf(stderr,
		"  %d processes missed at once: 1 query, all had it and had ended after %.1f ms\n",
		n, (double)(t_now_ns() - from_ns) / 1e6);
	hc_close(c.hc);
	free(pid);
	t_daemon_stop(d);
}

/* As it stands in the example's first lines. */
TEST(the_example_computes_once)
{
	struct t_daemon *d = t_daemon_start(config, NULL);
	char env[T_PATH_BYTES + 32];
	struct t_proc *p[4];
	int computed = 0;

	(void)snprintf(env, sizeof env, "HYPERCACHE_SOCKET=%s", d->socket);
	struct t_spawn_opts o = {.env = (const char *[]){env, NULL}};
	for (int i = 0; i < 4; i++)
		p[i] = t_spawn(
			(const char *[]){t_bin("libclient/example_lease"), "2000000", NULL}, &o);
	for (int i = 0; i < 4; i++) {
		CHECK_EQ(t_proc_exit(p[i], LIMIT_MS), 0);
		CHECK(strstr(p[i]->out.text, "148933 primes below 2000000: "));
		computed += strstr(p[i]->out.text, "computed it") != NULL;
		t_proc_free(p[i]);
	}
	CHECK_EQ(computed, 1);
	t_daemon_stop(d);
}

/* ------------------------------------------------------------------ the holder goes */

struct scene {
	struct t_daemon *d;
	struct session c;
	struct worker holder, waiter, third;
};

/* holder has the lease, waiter and third wait. */
static struct scene scene_new(char how)
{
	struct scene s = {.d = t_daemon_start(config, NULL)};

	s.c = session_open(s.d);
	s.holder = worker_new(s.d);
	s.waiter = worker_new(s.d);
	s.third = worker_new(s.d);
	CHECK_EQ(ask(&s.holder, how), HC_LEASE);
	tell(&s.waiter, 'g');
	tell(&s.third, 'g');
	wait_waiting(&s.c, 2);
	CHECK(!has_answer(&s.waiter) && !has_answer(&s.third));
	return s;
}

/* One of the two has it now; it fills, and the other one gets the value. */
static void scene_goes_on(struct scene *s)
{
	struct pollfd p[2] = {
		{.fd = s->waiter.fd, .events = POLLIN}, {.fd = s->third.fd, .events = POLLIN}};

	CHECK(poll(p, 2, t_limit_ms(LIMIT_MS)) >= 1);
	struct worker *next = p[0].revents ? &s->waiter : &s->third;
	struct worker *other = p[0].revents ? &s->third : &s->waiter;
	CHECK_EQ(hear(next).result, HC_LEASE);
	CHECK(!has_answer(other)); /* one of them, not both */
	CHECK_EQ(ask(next, 's'), HC_OK);
	struct told t = hear(other);
	CHECK_EQ(t.result, HC_OK);
	CHECK_STR(t.value, "filled");
}

static void scene_end(struct scene *s)
{
	worker_end(&s->waiter);
	worker_end(&s->third);
	CHECK_EQ(counter(&s->c, SHM_DC_leases), 0);
	hc_close(s->c.hc);
	t_daemon_stop(s->d);
}

TEST(a_killed_holder_is_followed_at_once)
{
	struct scene s = scene_new('g');

	worker_kill(&s.holder);
	scene_goes_on(&s);
	CHECK_EQ(counter(&s.c, SHM_DC_leases_passed), 1);
	scene_end(&s);
}

/* The parent's death is what counts: its child has the socket, but not the session's memory. */
TEST(a_holder_whose_child_lives_on_is_followed_at_once)
{
	struct scene s = scene_new('g');

	pid_t child = ask(&s.holder, 'f');
	CHECK(child > 0);
	CHECK(kill(s.holder.pid, SIGKILL) == 0);
	(void)t_wait_child(s.holder.pid, LIMIT_MS);
	scene_goes_on(&s);
	(void)close(s.holder.fd); /* ends the child, which is ours since its parent's death */
	(void)t_wait_child(child, LIMIT_MS);
	scene_end(&s);
}

TEST(a_holder_that_closes_is_followed_at_once)
{
	struct scene s = scene_new('g');

	CHECK_EQ(ask(&s.holder, 'c'), 0);
	scene_goes_on(&s);
	worker_end(&s.holder);
	scene_end(&s);
}

TEST(a_holder_without_connection_is_followed_at_once_and_is_too_late)
{
	struct scene s = scene_new('g');

	CHECK_EQ(ask(&s.holder, 'x'), 0);
	scene_goes_on(&s);
	CHECK_EQ(ask(&s.holder, 's'), HC_LEASE_LOST);
	worker_end(&s.holder);
	scene_end(&s);
}

TEST(a_stopped_holder_is_followed_when_its_time_is_over_and_writes_nothing)
{
	struct scene s = scene_new('t');

	CHECK(kill(s.holder.pid, SIGSTOP) == 0);
	scene_goes_on(&s);
	CHECK(kill(s.holder.pid, SIGCONT) == 0);
	CHECK_EQ(ask(&s.holder, 's'), HC_LEASE_LOST);
	worker_end(&s.holder);
	CHECK_EQ(counter(&s.c, SHM_DC_leases_lost), 1);
	scene_end(&s);
}

TEST(who_gives_up_is_followed_at_once)
{
	struct scene s = scene_new('g');

	CHECK_EQ(ask(&s.holder, 'd'), HC_OK);
	scene_goes_on(&s);
	CHECK_EQ(ask(&s.holder, 'd'), HC_LEASE_LOST);
	worker_end(&s.holder);
	scene_end(&s);
}

/* A stopped waiter keeps nobody up: who asks first gets it. */
TEST(a_stopped_waiter_is_not_waited_for)
{
	struct scene s = scene_new('g');

	CHECK(kill(s.waiter.pid, SIGSTOP) == 0);
	worker_kill(&s.holder);
	CHECK_EQ(hear(&s.third).result, HC_LEASE);
	CHECK_EQ(ask(&s.third, 's'), HC_OK);
	CHECK(kill(s.waiter.pid, SIGCONT) == 0);
	CHECK_EQ(hear(&s.waiter).result, HC_OK);
	scene_end(&s);
}

/* ------------------------------------------------------------------ engines die */

TEST(a_lease_outlives_its_engine_and_the_waiters_are_told_by_the_next)
{
	struct scene s = scene_new('g');

	for (int i = 0; i < 3; i++)
		t_daemon_wait_engine(s.d, t_daemon_kill_engine(s.d, SIGKILL));
	wait_waiting(&s.c, 2 + 2); /* each asked the next engine */
	CHECK(!has_answer(&s.waiter) && !has_answer(&s.third));
	CHECK_EQ(ask(&s.holder, 's'), HC_OK);
	CHECK_EQ(hear(&s.waiter).result, HC_OK);
	CHECK_EQ(hear(&s.third).result, HC_OK);
	worker_end(&s.holder);
	scene_end(&s);
}

TEST(a_holder_that_dies_without_an_engine_is_followed_by_the_next_engine)
{
	struct scene s = scene_new('g');
	pid_t former = t_daemon_kill_engine(s.d, SIGKILL);

	worker_kill(&s.holder);
	t_daemon_wait_engine(s.d, former);
	scene_goes_on(&s);
	scene_end(&s);
}

TEST(without_a_daemon_nobody_waits_for_ever)
{
	struct scene s = scene_new('g');

	t_daemon_kill(s.d);
	for (int i = 0; i < 2; i++) {
		int r = hear(i ? &s.third : &s.waiter).result;
		CHECK(r < 0);
	}
	worker_kill(&s.holder);
	worker_kill(&s.waiter);
	worker_kill(&s.third);
	hc_close(s.c.hc);
}

/* ------------------------------------------------------------------ what makes a lease void */

enum change { OTHER_SETS, OTHER_DELETES, OTHER_CLEARS, OTHER_COUNTS, CHANGES };

TEST(a_lease_is_void_when_anybody_changes_the_key)
{
	struct t_daemon *d = t_daemon_start(config, NULL);
	struct session c = session_open(d), other = session_open(d);

	for (enum change how = 0; how < CHANGES; how++) {
		(void)hc_clear(c.s, NULL);
		struct told t = get_or_lease(c.s, "k", (struct hc_lease_opts){0});
		CHECK_EQ(t.result, HC_LEASE);
		CHECK_EQ(get_or_lease(other.s, "k", (struct hc_lease_opts){.no_wait = 1}).result,
			HC_LEASED);
		switch (how) {
		case OTHER_SETS:
			CHECK_EQ(set(other.s, "k", "other", (struct hc_set_opts){0}), HC_OK);
			break;
		case OTHER_DELETES:
			CHECK_EQ(hc_delete(other.s, "k", 1), HC_MISS);
			break;
		case OTHER_CLEARS:
			CHECK_EQ(hc_clear(other.s, NULL), HC_OK);
			break;
		default:
			CHECK_EQ(hc_incr(other.s, "k", 1, 1, NULL, NULL), HC_OK);
		}
		CHECK_EQ(counter(&c, SHM_DC_leases), 0);
		CHECK_EQ(set(c.s, "k", "late", (struct hc_set_opts){.lease = t.lease.token}),
			HC_LEASE_LOST);
		CHECK_EQ(hc_lease_drop(c.s, "k", 1, t.lease.token, 0), HC_LEASE_LOST);
		struct told now = get_or_lease(c.s, "k", (struct hc_lease_opts){.no_wait = 1});
		CHECK_EQ(
			now.result, how == OTHER_DELETES || how == OTHER_CLEARS ? HC_LEASE : HC_OK);
		CHECK(now.result != HC_OK || strcmp(now.value, "late") != 0);
		CHECK(now.result != HC_LEASE || now.lease.token > t.lease.token);
	}
	/* A condition that fails changes nothing, another's key neither; another session's token fills nothing. */
	CHECK_EQ(hc_clear(c.s, NULL), HC_OK);
	struct told t = get_or_lease(c.s, "k", (struct hc_lease_opts){0});
	CHECK_EQ(set(other.s, "k", "x", (struct hc_set_opts){.mode = HC_REPLACE}), HC_MISS);
	CHECK_EQ(set(other.s, "l", "x", (struct hc_set_opts){0}), HC_OK);
	CHECK_EQ(set(other.s, "k", "x", (struct hc_set_opts){.lease = t.lease.token}),
		HC_LEASE_LOST);
	CHECK_EQ(set(c.s, "l", "x", (struct hc_set_opts){.lease = t.lease.token}), HC_LEASE_LOST);
	CHECK_EQ(set(c.s, "k", "mine", (struct hc_set_opts){.lease = t.lease.token}), HC_OK);
	CHECK_EQ(set(c.s, "k", "twice", (struct hc_set_opts){.lease = t.lease.token}),
		HC_LEASE_LOST);
	hc_close(other.hc);
	hc_close(c.hc);
	t_daemon_stop(d);
}

/* ------------------------------------------------------------------ bounds */

TEST(waiting_ends_when_it_is_to)
{
	struct t_daemon *d = t_daemon_start(config, NULL);
	struct session c = session_open(d), other = session_open(d);
	struct hc_lease_opts o = HC_OPTS(hc_lease_opts);
	struct hc_lease l;
	struct hc_view v;

	CHECK_EQ(get_or_lease(c.s, "k", (struct hc_lease_opts){0}).result, HC_LEASE);
	uint64_t from_ns = t_now_ns();
	CHECK_EQ(get_or_lease(other.s, "k", (struct hc_lease_opts){.wait_ms = 150}).result,
		HC_LEASED);
	CHECK(t_now_ns() - from_ns >= 150000000);
	CHECK_EQ(get_or_lease(c.s, "k", (struct hc_lease_opts){.wait_ms = 1}).result, HC_LEASED);
	CHECK_EQ(hc_interrupt(other.hc, 1), HC_OK);
	CHECK_EQ(get_or_lease(other.s, "k", (struct hc_lease_opts){0}).result, HC_E_CANCELLED);
	CHECK_EQ(hc_interrupt(other.hc, 0), HC_OK);
	/* Out of range. */
	o.no_wait = 1;
	o.wait_ms = 1;
	CHECK_EQ(hc_view_or_lease(c.s, "k", 1, &v, &o, &l), HC_E_INVAL);
	o.wait_ms = 0;
	o.no_wait = 2;
	CHECK_EQ(hc_view_or_lease(c.s, "k", 1, &v, &o, &l), HC_E_INVAL);
	o.no_wait = 0;
	o.lease_ms = LONG_MS + 1;
	CHECK_EQ(hc_view_or_lease(c.s, "k", 1, &v, &o, &l), HC_E_INVAL);
	CHECK_EQ(hc_view_or_lease(c.s, "k", 0, &v, NULL, &l), HC_E_INVAL);
	CHECK_EQ(hc_lease_drop(c.s, "k", 1, 0, 0), HC_E_INVAL);
	CHECK_EQ(set(c.s, "k", "x", (struct hc_set_opts){.lease = 1, .mode = HC_ADD}), HC_E_INVAL);
	CHECK_EQ(set(c.s, "k", "x", (struct hc_set_opts){.absent = 1}), HC_E_INVAL);
	CHECK_EQ(set(c.s, "k", "x", (struct hc_set_opts){.absent = 2}), HC_E_INVAL);
	CHECK_EQ(set(c.s, "k", "x", (struct hc_set_opts){.fresh_ms = 1, .stamp = 1}), HC_E_INVAL);
	CHECK_EQ(set(c.s, "k", NULL, (struct hc_set_opts){.fresh_ms = 1, .absent = 1}), HC_E_INVAL);
	hc_close(other.hc);
	hc_close(c.hc);
	t_daemon_stop(d);
}

/* Submits LEASE for `n` keys from `first` on; how many were given. */
static int lease_many(const struct session *c, int first, int n, int *ret_refused)
{
	struct hc_done done[64];
	int given = 0, submitted = 0;
	char key[16];

	for (int over = 0; over < n;) {
		size_t got;
		while (submitted < n && submitted - over < 64) {
			struct hc_op op = HC_OPTS(hc_op);
			op.store = c->s;
			op.op = HC_OP_LEASE;
			op.key = key;
			op.key_bytes = (size_t)sprintf(key, "%d", first + submitted++);
			op.ttl_ms = LONG_MS;
			CHECK_EQ(hc_submit(&op, NULL), HC_OK);
		}
		CHECK_EQ(hc_poll(c->hc, done, 64, (uint32_t)t_limit_ms(LIMIT_MS), &got), HC_OK);
		for (size_t i = 0; i < got; i++, over++) {
			CHECK(done[i].result == HC_OK || done[i].result == HC_E_LEASES);
			CHECK(done[i].result != HC_OK || done[i].version != 0);
			given += done[i].result == HC_OK;
			*ret_refused += done[i].result != HC_OK;
		}
	}
	return given;
}

TEST(nobody_holds_more_leases_than_he_may)
{
	enum { EACH = 256, SESSIONS = 17 };
	struct t_daemon *d = t_daemon_start(config, NULL);
	struct session c[SESSIONS], one = session_open(d);
	int refused = 0, given = 0;

	CHECK_EQ(lease_many(&one, 1000000, EACH + 5, &refused), EACH);
	CHECK_EQ(refused, 5);
	CHECK_EQ(get_or_lease(one.s, "k", (struct hc_lease_opts){0}).result, HC_E_LEASES);
	for (int i = 0; i < SESSIONS; i++) {
		c[i] = session_open(d);
		given += lease_many(&c[i], i * EACH, EACH, &refused);
	}
	CHECK_EQ(given, SHM_LEASES - EACH); /* all that there are */
	CHECK_EQ(refused, 5 + SESSIONS * EACH - given);
	CHECK_EQ(counter(&one, SHM_DC_leases), SHM_LEASES);
	hc_close(c[0].hc); /* who goes makes room */
	CHECK_EQ(get_or_lease(c[SESSIONS - 1].s, "k", (struct hc_lease_opts){0}).result, HC_LEASE);
	for (int i = 1; i < SESSIONS; i++)
		hc_close(c[i].hc);
	CHECK_EQ(hc_ping(one.hc), HC_OK);
	CHECK_EQ(counter(&one, SHM_DC_leases), EACH);
	hc_close(one.hc);
	t_daemon_stop(d);
}

/* ------------------------------------------------------------------ old and absent values */

static void wait_until(uint64_t at_ns)
{
	for (uint64_t now; (now = t_now_ns()) < at_ns;)
		(void)poll(NULL, 0, (int)((at_ns - now) / 1000000) + 1);
}

TEST(a_value_past_its_time_is_given_while_one_computes_the_next)
{
	enum { FRESH_MS = 100 };
	struct t_daemon *d = t_daemon_start(config, NULL);
	struct session c = session_open(d), other = session_open(d);
	struct hc_lease_opts none = {0};
	char buf[VALUE_BYTES];

	CHECK_EQ(set(c.s, "k", "old", (struct hc_set_opts){.fresh_ms = LONG_MS}), HC_OK);
	CHECK_EQ(get_or_lease(c.s, "k", none).result, HC_OK);
	CHECK_EQ(set(c.s, "k", "old", (struct hc_set_opts){.fresh_ms = FRESH_MS}), HC_OK);
	wait_until(t_now_ns() + (FRESH_MS + 10) * 1000000ull);
	struct told t = get_or_lease(c.s, "k", none);
	CHECK_EQ(t.result, HC_REFRESH);
	CHECK_STR(t.value, "old");
	for (int i = 0; i < 200; i++) { /* some of them ask, and are told */
		struct told u = get_or_lease(other.s, "k", none);
		CHECK_EQ(u.result, HC_NOT_FRESH);
		CHECK_STR(u.value, "old");
		CHECK_EQ(u.lease.token, 0);
		CHECK_EQ(u.lease.version, t.lease.version);
	}
	CHECK_EQ(
		hc_get(other.s, "k", 1, buf, sizeof buf, NULL), HC_OK); /* plain reads do not ask */
	/* Of an old value that does not fit nobody holds the lease. */
	CHECK_EQ(hc_lease_drop(c.s, "k", 1, t.lease.token, 0), HC_OK);
	struct hc_lease l;
	CHECK_EQ(hc_get_or_lease(other.s, "k", 1, buf, 1, NULL, NULL, &l), HC_TOO_SMALL);
	CHECK_EQ(l.token, 0);
	t = get_or_lease(c.s, "k", none);
	CHECK_EQ(t.result, HC_REFRESH);
	CHECK_EQ(set(c.s, "k", "new",
			 (struct hc_set_opts){.lease = t.lease.token, .fresh_ms = LONG_MS}),
		HC_OK);
	t = get_or_lease(other.s, "k", none);
	CHECK_EQ(t.result, HC_OK);
	CHECK_STR(t.value, "new");
	/* Without an engine an old value is better than none. */
	CHECK_EQ(set(c.s, "k", "old", (struct hc_set_opts){.fresh_ms = 1}), HC_OK);
	wait_until(t_now_ns() + 5 * 1000000ull);
	hc_close(c.hc);
	t_daemon_kill(d);
	t = get_or_lease(other.s, "k", none);
	CHECK_EQ(t.result, HC_NOT_FRESH);
	CHECK_STR(t.value, "old");
	hc_close(other.hc);
}

/* The probability is that of the paper: with beta 1 and half of the time of one computation left, one in
 * e^0.5 is early. */
TEST(who_comes_near_the_end_is_early_by_chance)
{
	enum { TOOK_MS = 200, READS = 400 };
	struct t_daemon *d = t_daemon_start(config, NULL);
	struct session c = session_open(d);
	struct hc_lease_opts never = {.early_percent = HC_EARLY_NEVER},
			     all = {.early_percent = 100000000};
	int early = 0;

	struct told t = get_or_lease(c.s, "k", (struct hc_lease_opts){0});
	wait_until(t_now_ns() + TOOK_MS * 1000000ull);
	CHECK_EQ(set(c.s, "k", "v",
			 (struct hc_set_opts){.lease = t.lease.token, .fresh_ms = LONG_MS}),
		HC_OK);
	for (int i = 0; i < READS; i++) {
		CHECK_EQ(get_or_lease(c.s, "k", never).result, HC_OK);
		CHECK_EQ(get_or_lease(c.s, "k", (struct hc_lease_opts){0}).result, HC_OK);
		t = get_or_lease(c.s, "k", all); /* beta is a million: an hour is near */
		early += t.result == HC_REFRESH;
		CHECK_STR(t.value, "v");
		if (t.result == HC_REFRESH)
			CHECK_EQ(hc_lease_drop(c.s, "k", 1, t.lease.token, 0), HC_OK);
	}
	/* A million times 200 ms, times -ln: below an hour for fewer than one in 50. */
	CHECK(early > READS * 9 / 10);
	hc_close(c.hc);
	t_daemon_stop(d);
}

static int count_scanned(void *arg, const struct hc_scan_entry *e)
{
	(void)e;
	++*(int *)arg;
	return 0;
}

TEST(a_key_that_is_known_to_be_absent_is_absent_to_all)
{
	struct t_daemon *d = t_daemon_start(config, NULL);
	struct session c = session_open(d), other = session_open(d);
	struct hc_lease_opts none = {0};
	struct hc_scan scan = HC_OPTS(hc_scan);
	struct hc_meta meta = HC_OPTS(hc_meta);
	struct hc_view v;
	char buf[VALUE_BYTES];
	int64_t sum;
	int seen = 0;

	struct told t = get_or_lease(c.s, "k", none);
	CHECK_EQ(hc_lease_drop(c.s, "k", 1, t.lease.token, LONG_MS), HC_OK);
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(get_or_lease(other.s, "k", none).result, HC_ABSENT);
		CHECK_EQ(hc_get(other.s, "k", 1, buf, sizeof buf, NULL), HC_MISS);
		CHECK_EQ(hc_view(other.s, "k", 1, &v), HC_MISS);
		CHECK_EQ(hc_exists(other.s, "k", 1), HC_MISS);
		CHECK_EQ(hc_meta(other.s, "k", 1, &meta), HC_MISS);
		CHECK_EQ(hc_scan(other.s, &scan, count_scanned, &seen), HC_MISS);
		CHECK_EQ(seen, 0);
		CHECK_EQ(hc_touch(other.s, "k", 1, 1000), HC_MISS);
		CHECK_EQ(hc_append(other.s, "k", 1, "x", 1, NULL), HC_MISS);
		CHECK_EQ(set(other.s, "k", "x", (struct hc_set_opts){.mode = HC_REPLACE}), HC_MISS);
		if (i == 1) /* the next engine knows it too */
			t_daemon_wait_engine(d, t_daemon_kill_engine(d, SIGKILL));
	}
	CHECK_EQ(hc_delete(other.s, "k", 1), HC_MISS);
	CHECK_EQ(get_or_lease(c.s, "k", none).result, HC_LEASE); /* now nobody knows */
	CHECK_EQ(set(c.s, "k", NULL, (struct hc_set_opts){.absent = 1, .ttl_ms = LONG_MS}), HC_OK);
	CHECK_EQ(hc_incr(c.s, "k", 1, 5, NULL, &sum), HC_OK);
	CHECK_EQ(sum, 5);
	CHECK_EQ(set(c.s, "k", NULL, (struct hc_set_opts){.absent = 1, .ttl_ms = LONG_MS}), HC_OK);
	CHECK_EQ(set(c.s, "k", "is", (struct hc_set_opts){.mode = HC_ADD}), HC_OK);
	CHECK_EQ(get_or_lease(other.s, "k", none).result, HC_OK);
	CHECK_EQ(set(c.s, "k", NULL, (struct hc_set_opts){.absent = 1, .ttl_ms = 20}), HC_OK);
	wait_until(t_now_ns() + 30 * 1000000ull);
	CHECK_EQ(get_or_lease(other.s, "k", none).result, HC_LEASE);
	hc_close(other.hc);
	hc_close(c.hc);
	t_daemon_stop(d);
}

/* An appended value is as fresh as it was; a stamp is told from a fresh time. */
TEST(what_is_changed_in_place_keeps_its_fresh_time)
{
	struct t_daemon *d = t_daemon_start(config, NULL);
	struct session c = session_open(d);

	CHECK_EQ(set(c.s, "k", "a", (struct hc_set_opts){.fresh_ms = 1}), HC_OK);
	CHECK_EQ(hc_append(c.s, "k", 1, "b", 1, NULL), HC_OK);
	wait_until(t_now_ns() + 5 * 1000000ull);
	struct told t = get_or_lease(c.s, "k", (struct hc_lease_opts){0});
	CHECK_EQ(t.result, HC_REFRESH);
	CHECK_STR(t.value, "ab");
	CHECK_EQ(set(c.s, "k", "c", (struct hc_set_opts){.mode = HC_IF_NEWER, .stamp = 1}), HC_OK);
	CHECK_EQ(get_or_lease(c.s, "k", (struct hc_lease_opts){0}).result, HC_OK);
	hc_close(c.hc);
	t_daemon_stop(d);
}
