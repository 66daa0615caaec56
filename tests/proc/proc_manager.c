/* proc_manager.c - a daemon under a service manager: is it told what it wants to know, and is the cache warm when the
 * supervisor has died, for clients that live?  manager.h is that manager.
 *
 * Planted bugs (shm/step.h) that this file must catch: 777 to 779. */
#include <fcntl.h>
#include <poll.h>
#include "hypercache.h"
#include "manager.h"

enum { N = 200, LIMIT_MS = 20000, STORE = 300, FEW = 270 };

struct client {
	struct hc *hc;
	struct hc_store *s;
};

static struct client client_open(const struct manager *m)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct client c;

	o.socket = m->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(LIMIT_MS);
	CHECK_EQ(hc_open(&c.hc, &o), HC_OK);
	CHECK_EQ(hc_store(c.hc, "default", &c.s), HC_OK);
	return c;
}

static void fill(const struct client *c)
{
	char key[16];

	for (int i = 0; i < N; i++)
		CHECK_EQ(hc_set(c->s, key, (size_t)snprintf(key, sizeof key, "key-%d", i), key, 8,
				 NULL),
			HC_OK);
}

static int found(const struct client *c)
{
	char key[16], buf[16];
	int n = 0;
	size_t k;

	for (int i = 0; i < N; i++)
		n += hc_get(c->s, key, (size_t)snprintf(key, sizeof key, "key-%d", i), buf,
			     sizeof buf, &k) == HC_OK &&
		     memcmp(key, buf, 5) == 0;
	return n;
}

static int cli(const struct manager *m, const char *a, const char *b, const char *c)
{
	return t_run((const char *[]){t_bin("hypercache"), "--socket", m->socket, "--admin",
			     m->admin, a, b, c, NULL},
		NULL, 0, NULL, NULL, NULL, LIMIT_MS);
}

static void kill_it(struct manager *m)
{
	t_proc_kill(m->p, LIMIT_MS);
	t_proc_free(m->p);
	m->p = NULL;
}

/* As kill_it, and the engine has done what it does then. */
static void kill_and_wait(struct manager *m)
{
	kill_it(m);
	manager_orphans(m);
}

TEST(the_manager_is_told)
{
	struct manager m;

	manager_begin(&m, STORE, true, NULL);
	manager_start(&m, NULL);
	manager_told(&m.n_ready, 1);
	manager_told(&m.n_watchdog, 3);
	CHECK_EQ(cli(&m, "ping", NULL, NULL), 0);
	CHECK_EQ(cli(&m, "upgrade", NULL, NULL), 0);
	manager_told(&m.n_reloading, 1);
	manager_told(&m.n_ready, 2);
	uint32_t n = shm_load32_rlx(&m.n_watchdog);
	manager_told(&m.n_watchdog, n + 2);
	CHECK_EQ(cli(&m, "ping", NULL, NULL), 0);
	CHECK(manager_stored(&m) > 0);
	manager_stop(&m);
	manager_told(&m.n_stopping, 1);
	CHECK_EQ(manager_stored(&m), 0);     /* a clean end leaves nothing */
	CHECK_EQ(access(m.socket, F_OK), 0); /* it is the manager's */
	manager_end(&m);
}

/* The supervisor is killed: reads go on, marked stale; then the session goes on, its view too. */
static void warm(bool sockets)
{
	struct manager m;
	struct hc_view v;
	int64_t sum;

	manager_begin(&m, STORE, sockets, "stores: {default: {}, s: {ttl: 1h}}\n");
	manager_start(&m, NULL);
	struct client c = client_open(&m);
	fill(&c);
	CHECK_EQ(cli(&m, "store", "create", "byhand"), 0);
	CHECK_EQ(hc_incr(c.s, "count", 5, 1, NULL, &sum), HC_OK);
	CHECK_EQ(hc_view(c.s, "key-1", 5, &v), HC_OK);
	for (int i = 0; i < 3; i++) {
		kill_and_wait(&m);
		CHECK(hc_health(c.hc) & HC_SUPERVISOR_GONE);
		CHECK_EQ(found(&c), N);
		manager_launch(&m, NULL);
		if (i % 2 == 0) /* who writes meanwhile is answered: now or when it asks again */
			while ((int)hc_incr(c.s, "count", 5, 0, NULL, &sum) != HC_OK)
				CHECK(!t_wait_fd(m.p->pidfd, POLLIN, 0));
		free(t_proc_line(m.p, "hypercached: ready on ", LIMIT_MS));
		CHECK_EQ(hc_health(c.hc) & HC_SUPERVISOR_GONE, 0);
		CHECK_EQ(hc_incr(c.s, "count", 5, 1, NULL, &sum), HC_OK);
		CHECK_EQ(sum, i + 2);
		CHECK_EQ(found(&c), N);
		CHECK_EQ(hc_view_ok(&v), 1);
		struct client other = client_open(&m);
		CHECK_EQ(found(&other), N);
		CHECK_EQ(cli(&m, "clear", "--store", "byhand"), 0);
		CHECK_EQ(cli(&m, "fsck", NULL, NULL), 0);
		hc_close(other.hc);
		if (i == 1)
			CHECK_EQ(cli(&m, "upgrade", NULL, NULL), 0);
	}
	CHECK_EQ(hc_view_release(&v), HC_OK);
	hc_close(c.hc);
	manager_stop(&m);
	CHECK_EQ(manager_stored(&m), 0);
	CHECK_EQ(access(m.socket, F_OK), sockets ? 0 : -1);
	manager_end(&m);
}

TEST(the_cache_is_warm_when_the_supervisor_has_died) { warm(true); }

TEST(sockets_of_our_own_are_stored_too) { warm(false); }

/* The same, and its engine with it, in the middle of what it does; the next supervisor does not wait for anybody. */
TEST(both_die_at_once)
{
	struct manager m;
	pid_t engine[4];
	int64_t sum;

	manager_begin(&m, STORE, true, NULL);
	manager_start(&m, NULL);
	struct client c = client_open(&m);
	fill(&c);
	for (int i = 0; i < 3; i++) {
		int n = t_children(m.p->pid, engine, 4);
		CHECK(n >= 1);
		for (int k = 0; k < n; k++)
			CHECK_EQ(kill(engine[k], SIGKILL), 0);
		kill_it(&m);
		manager_start(&m, NULL);
		manager_orphans(&m);
		CHECK_EQ(hc_incr(c.s, "count", 5, 1, NULL, &sum), HC_OK);
		CHECK_EQ(sum, i + 1);
		CHECK_EQ(found(&c), N);
	}
	CHECK_EQ(cli(&m, "fsck", NULL, NULL), 0);
	hc_close(c.hc);
	manager_stop(&m);
	manager_end(&m);
}

/* The configuration's file has changed before the new start: what a reload may change holds, what it may not does not. */
TEST(the_file_is_read_behind_a_warm_start)
{
	struct manager m;

	manager_begin(&m, STORE, true, NULL);
	manager_start(&m, NULL);
	CHECK_EQ(cli(&m, "set", "a", "1"), 0);
	kill_and_wait(&m);
	FILE *f = fopen(m.config, "ae");
	CHECK(f && fputs("stores: {default: {ttl: 10m}, new: {}}\n", f) >= 0 && fclose(f) == 0);
	manager_start(&m, NULL);
	free(t_proc_line(m.p, "added stores.new", LIMIT_MS));
	CHECK_EQ(cli(&m, "clear", "--store", "new"), 0);
	CHECK_EQ(cli(&m, "get", "a", NULL), 0);
	manager_stop(&m);
	manager_end(&m);
}

/* A reader may live whose pins nobody could see: the memory is not used again. */
TEST(a_session_that_is_not_in_the_store_makes_a_cold_start)
{
	struct manager m;

	manager_begin(&m, STORE, true, NULL);
	manager_start(&m, NULL);
	struct client c = client_open(&m);
	fill(&c);
	manager_settle(&m);
	(void)pthread_mutex_lock(&m.lock);
	for (unsigned i = 0; i < m.n_store; i++)
		if (strncmp(m.store[i].name, "s.", 2) == 0) {
			store_remove(&m, m.store[i].name);
			break;
		}
	(void)pthread_mutex_unlock(&m.lock);
	kill_and_wait(&m);
	manager_start(&m, NULL);
	free(t_proc_line(m.p, "descriptors are missing", LIMIT_MS));
	CHECK_EQ(found(&c), N); /* its own memory, which is nobody else's */
	CHECK_EQ(hc_set(c.s, "a", 1, "b", 1, NULL), HC_E_STALE);
	CHECK_EQ(cli(&m, "get", "key-1", NULL), 1);
	hc_close(c.hc);
	manager_stop(&m);
	CHECK_EQ(manager_stored(&m), 0);
	manager_end(&m);
}

/* The store is small: so many clients, and no more. */
TEST(there_are_as_many_clients_as_can_be_stored)
{
	struct manager m;
	struct client c[FEW - 264];
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct hc *hc = NULL;

	manager_begin(&m, FEW, true, NULL);
	manager_start(&m, NULL);
	for (int i = 0; i < FEW - 264; i++)
		c[i] = client_open(&m);
	o.socket = m.socket;
	CHECK_EQ(hc_open(&hc, &o), HC_E_REFUSED);
	hc_close(hc);
	manager_settle(&m);
	CHECK_EQ(shm_load32_rlx(&m.n_refused), 0);
	fill(&c[0]);
	kill_and_wait(&m);
	manager_start(&m, NULL);
	CHECK_EQ(found(&c[0]), N);
	CHECK_EQ(hc_set(c[0].s, "a", 1, "b", 1, NULL), HC_OK);
	for (int i = 0; i < FEW - 264; i++)
		hc_close(c[i].hc);
	manager_stop(&m);
	manager_end(&m);
}

/* Descriptors that nobody knows, a book that is none, names without end: a cold start, and they are given back. */
TEST(nonsense_in_the_store_makes_a_cold_start)
{
	struct manager m;
	static const char *const names[] = {"book", "control", "x", "", "s.1.2"};

	for (int round = 0; round < 2; round++) {
		manager_begin(&m, STORE, true, NULL);
		if (round == 1) { /* a real one, of which a byte is another */
			manager_start(&m, NULL);
			kill_and_wait(&m);
			manager_settle(&m);
		}
		(void)pthread_mutex_lock(&m.lock);
		for (unsigned i = 0; round == 1 && i < m.n_store; i++)
			if (strcmp(m.store[i].name, "book") == 0)
				CHECK_EQ(pwrite(m.store[i].fd, "x", 1, 3), 1);
		for (int i = 0; round == 0 && i < 5; i++)
			store_put(&m, names[i], memfd_create("nonsense", MFD_CLOEXEC));
		(void)pthread_mutex_unlock(&m.lock);
		manager_start(&m, NULL);
		CHECK_EQ(cli(&m, "set", "a", "1"), 0);
		CHECK_EQ(cli(&m, "fsck", NULL, NULL), 0);
		manager_stop(&m);
		CHECK_EQ(manager_stored(&m), 0);
		manager_end(&m);
		CHECK(unlink(m.notify) == 0 && unlink(m.give) == 0 && unlink(m.socket) == 0 &&
			unlink(m.admin) == 0);
	}
}

/* The folder of the sockets was cleaned up between the two: new ones are made, and stored. */
TEST(sockets_whose_paths_have_gone_are_made_anew)
{
	struct manager m;

	manager_begin(&m, STORE, false, NULL);
	manager_start(&m, NULL);
	CHECK_EQ(cli(&m, "set", "a", "1"), 0);
	for (int i = 0; i < 2; i++) {
		kill_and_wait(&m);
		if (i == 0)
			CHECK(unlink(m.socket) == 0 && unlink(m.admin) == 0);
		manager_start(&m, NULL);
		CHECK_EQ(cli(&m, "get", "a", NULL), 0);
		CHECK_EQ(cli(&m, "fsck", NULL, NULL), 0);
	}
	manager_stop(&m);
	CHECK_EQ(manager_stored(&m), 0);
	manager_end(&m);
}
