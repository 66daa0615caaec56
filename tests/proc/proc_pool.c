/* proc_pool.c - a pool that a reload brings: who had connected before uses it like any other, who may not does
 * not, and what did not come to hold leaves nothing behind.
 */
#include <grp.h>
#include "resize.h"

#define HEAD "heartbeat: 100ms\npools:\n  main: {size: 8MiB, huge_pages: \"off\"}\n"
#define ADDED(more) "  added: {size: 16MiB, huge_pages: \"off\", " T_DAEMON_ALL more "}\n"
#define STORES(more) "stores: {default: {pool: main}" more "}\n"

static struct hc_store *named(struct hc *hc, const char *name)
{
	struct hc_store *s;

	CHECK_EQ(hc_store(hc, name, &s), HC_OK);
	return s;
}

TEST(a_pool_comes_and_clients_of_before_use_it)
{
	enum { N = 2000 };
	struct t_daemon *d = t_daemon_start(HEAD STORES(""), NULL);
	struct hc *old = client(d), *fresh;
	struct hc_store *s, *f;

	CHECK_EQ(hc_store(old, "more", &s), HC_E_NO_STORE);
	/* It stands first in the file: those that are there keep their places. */
	CHECK_EQ(reload(d, "heartbeat: 100ms\npools:\n" ADDED(
				   ", feed: 256KiB") "  main: {size: 8MiB, huge_pages: "
						     "\"off\"}\n" STORES(", more: {pool: added, "
									 "guaranteed: 1MiB}")),
		0);
	CHECK(strstr(out, "added    pools.added\n"));
	s = named(old, "more");
	for (int i = 0; i < N; i++)
		put(s, i);
	fresh = client(d);
	f = named(fresh, "more");
	for (int i = 0; i < N; i++)
		CHECK(get(s, i) && get(f, i));
	CHECK_EQ(hc_set(named(old, "default"), "k", 1, "v", 1, NULL), HC_OK);
	/* Whoever comes after this engine knows who may read and write there. */
	(void)t_daemon_wait_engine(d, t_daemon_kill_engine(d, SIGKILL));
	for (int i = 0; i < N; i++) {
		CHECK(get(s, i));
		put(s, i);
	}
	CHECK_EQ(reload(d, HEAD STORES("")), 5); /* it does not go again */
	CHECK(strstr(err, "pools.added cannot be removed while the daemon runs"));
	/* And it can be resized like any other. */
	CHECK_EQ(reload(d, HEAD
			 "  added: {size: 24MiB, huge_pages: \"off\", feed: 256KiB, " T_DAEMON_ALL
			 "}\n" STORES(", more: {pool: added, guaranteed: 1MiB}")),
		0);
	for (int i = 0; i < 2 * N; i++)
		put(s, i);
	for (int i = 0; i < 2 * N; i++)
		CHECK(get(f, i));
	check_fsck(d);
	hc_close(old);
	hc_close(fresh);
	t_daemon_stop(d);
}

/* This process is another user until it is root again. */
static void become(uid_t uid)
{
	CHECK_EQ(seteuid(0), 0);
	CHECK_EQ(setgroups(0, NULL), 0);
	CHECK_EQ(setegid(uid), 0);
	CHECK_EQ(seteuid(uid), 0);
}

#define POOL_OF(name, read, write) \
	"  " name ": {size: 8MiB, huge_pages: \"off\", read: " read ", write: " write "}\n"
#define ROOT "[user:root]"

TEST(who_may_not_read_a_pool_that_comes_does_not_get_it)
{
	enum { OTHER = 65534 };
	struct hc_store *s;

	if (geteuid() != 0)
		SKIP("it becomes another user");
	struct t_daemon *d = t_daemon_start(
		"pools:\n" POOL_OF("main", "any", "any") STORES(""), NULL);
	CHECK(chmod(t_dir(), 0711) == 0 && chmod(d->dir, 0711) == 0);
	become(OTHER);
	struct hc *hc = client(d);
	become(0);
	CHECK_EQ(reload(d, "pools:\n" POOL_OF("main", "any", "any") POOL_OF("shut", ROOT, ROOT)
				   POOL_OF("seen", "any", ROOT) POOL_OF("wide", "any", "any")
					   STORES(", closed: {pool: shut}, half: {pool: seen}, "
						  "open: {pool: wide}")),
		0);
	become(OTHER);
	CHECK_EQ(hc_store(hc, "closed", &s), HC_E_DENIED);
	CHECK_EQ(hc_set(named(hc, "half"), "k", 1, "v", 1, NULL), HC_E_DENIED);
	CHECK_EQ(hc_set(named(hc, "open"), "k", 1, "v", 1, NULL), HC_OK);
	CHECK_EQ(hc_store(hc, "closed", &s), HC_E_DENIED);
	become(0);
	hc_close(hc);
	t_daemon_stop(d);
}

/* With more memory than the machine has: refused whole, with the reason, and the next reload has room. */
TEST(a_pool_that_cannot_be_had_changes_nothing)
{
	struct t_daemon *d = t_daemon_start(HEAD STORES(""), NULL);
	struct hc *hc = client(d);
	struct hc_store *s;

	CHECK_EQ(reload(d, HEAD "  added: {size: 1TiB, huge_pages: \"on\"}\n" STORES(
				   ", more: {pool: added, ttl: 5s}")),
		5);
	CHECK(strstr(err, "pool added cannot be added: "));
	CHECK_EQ(hc_store(hc, "more", &s), HC_E_NO_STORE);
	CHECK_EQ(reload(d, HEAD ADDED("") STORES(", more: {pool: added}")), 0);
	CHECK_EQ(hc_set(named(hc, "more"), "k", 1, "v", 1, NULL), HC_OK);
	check_fsck(d);
	hc_close(hc);
	t_daemon_stop(d);
}

/* The memory of a daemon with hardening: strict can be closed behind a pool that comes, too. */
TEST(a_pool_comes_to_a_daemon_that_closes_its_memory)
{
	struct t_daemon *d = t_daemon_start("hardening: strict\n" HEAD STORES(""), NULL);
	struct hc *hc = client(d);

	CHECK_EQ(
		reload(d, "hardening: strict\n" HEAD ADDED("") STORES(", more: {pool: added}")), 0);
	struct hc_store *s = named(hc, "more");
	for (int i = 0; i < 100; i++)
		put(s, i);
	for (int i = 0; i < 100; i++)
		CHECK(get(s, i));
	hc_close(hc);
	t_daemon_stop(d);
}

TEST(a_daemon_without_an_engine_gets_the_pool_with_the_next_one)
{
	struct t_daemon *d = t_daemon_start(HEAD STORES(""), NULL);
	struct hc *hc = client(d);
	pid_t engine = t_daemon_kill_engine(d, SIGKILL);

	CHECK_EQ(reload(d, HEAD ADDED("") STORES(", more: {pool: added}")), 0);
	(void)t_daemon_wait_engine(d, engine);
	struct hc_store *s = named(hc, "more");
	for (int i = 0; i < 100; i++)
		put(s, i);
	check_fsck(d);
	hc_close(hc);
	t_daemon_stop(d);
}
