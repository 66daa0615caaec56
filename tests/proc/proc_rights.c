/* proc_rights.c - who may what: the kernel's word on users and groups against the lists of each
 * pool, with real other users; what a session keeps of it; and how much one user may take.
 *
 * Children become other users and speak through the library, or without it (raw.h), because what
 * the library refuses by itself the daemon has to refuse, too. */
#include <grp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include "hc_i.h"
#include "layout/l_item.h"
#include "raw.h"

enum {
	WRITER = 60001,
	MEMBER = 60002,
	STRANGER = 60003,
	ADMIN = 60004,
	GROUP = 61000,
	MORE = 61001
};

/* `closed` is for two users and a group, `open` for all to read and for a group to write. */
static const char config[] =
	"heartbeat: 100ms\n"
	"admin_uids: 60004\n"
	"pools:\n"
	"  closed:\n"
	"    size: 4MiB\n"
	"    huge_pages: \"off\"\n"
	"    feed: 64KiB\n"
	"    read: [uid:60001, gid:61000]\n"
	"    write: uid:60001\n"
	"  open: {size: 4MiB, huge_pages: \"off\", feed: 64KiB, write: [gid:61001]}\n"
	"stores:\n"
	"  c: {pool: closed}\n"
	"  o: {pool: open}\n";
enum { CLOSED = 0, OPEN = 1 };

struct who {
	uid_t uid;
	gid_t gid, more; /* more 0: no group beside the first */
};

/* From root, and back to root by become(root) as long as `for_ever` was not said. */
static void become(struct who w, bool for_ever)
{
	CHECK_EQ(seteuid(0), 0);
	CHECK_EQ(setgroups(w.more ? 1 : 0, &w.more), 0);
	CHECK_EQ(setegid(w.gid), 0);
	if (for_ever) {
		CHECK_EQ(setresgid(w.gid, w.gid, w.gid), 0);
		CHECK_EQ(setresuid(w.uid, w.uid, w.uid), 0);
	} else {
		CHECK_EQ(seteuid(w.uid), 0);
	}
}

static struct t_daemon *daemon_for_all(const char *text)
{
	if (geteuid() != 0)
		SKIP("it becomes other users");
	struct t_daemon *d = t_daemon_start(text, NULL);
	CHECK_EQ(chmod(t_dir(), 0711), 0);
	CHECK_EQ(chmod(d->dir, 0711), 0);
	return d;
}

/* Runs f in a process of this user. */
static void as(const struct t_daemon *d, struct who w, void (*f)(const struct t_daemon *))
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		become(w, true);
		f(d);
		_exit(0);
	}
	CHECK_EQ(t_wait_child(pid, WAIT_MS), 0);
}

static int open_as_client(const struct t_daemon *d, struct hc **ret)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);

	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(WAIT_MS);
	return hc_open(ret, &o);
}

/* What a client may do with a store: HC_OK or the error of each. */
static void check_store(struct hc *hc, const char *name, int want_store, int want_set)
{
	struct hc_store *s;
	size_t n;

	CHECK_EQ(hc_store(hc, name, &s), want_store);
	if (want_store != HC_OK)
		return;
	CHECK_EQ(hc_set(s, "k", 1, "v", 1, NULL), want_set);
	CHECK_EQ(hc_delete(s, "k", 1), want_set);
	CHECK(hc_get(s, "k", 1, NULL, 0, &n) == HC_MISS);
}

/* A SET to a store by its number alone. */
static int32_t raw_set(struct raw *r, uint64_t request, uint32_t store_idx)
{
	struct wire_request req = set(r, request, "raw", "value");

	req.store_idx = store_idx;
	req.store_id = shm_load_rlx(&r->ctl->store[store_idx].id);
	return raw_call(r, &req).status;
}

static int32_t raw_clear(struct raw *r, uint64_t request, uint32_t store_idx)
{
	struct wire_request req = {.verb = WIRE_CLEAR, .request = request, .store_idx = store_idx};

	req.store_id = shm_load_rlx(&r->ctl->store[store_idx].id);
	return raw_call(r, &req).status;
}

/* -------------------------------------------------------------------- the lists */

/* Who may not read a pool sees no key in its change feed. */
static void check_feed(struct hc *hc, const char *pool, int want)
{
	struct hc_feed_opts o = HC_OPTS(hc_feed_opts);
	struct hc_feed *f;

	o.pool = pool;
	o.from = HC_FEED_OLDEST;
	CHECK_EQ(hc_subscribe(hc, &o, &f), want);
	hc_feed_close(f);
}

static void writer(const struct t_daemon *d)
{
	struct hc *hc;

	CHECK_EQ(open_as_client(d, &hc), HC_OK);
	check_store(hc, "c", HC_OK, HC_OK);
	check_store(hc, "o", HC_OK, HC_E_DENIED);
	hc_close(hc);
}

static void member(const struct t_daemon *d)
{
	struct hc *hc;

	CHECK_EQ(open_as_client(d, &hc), HC_OK);
	check_store(hc, "c", HC_OK, HC_E_DENIED);
	check_store(hc, "o", HC_OK, HC_E_DENIED);
	hc_close(hc);
}

static void member_of_more(const struct t_daemon *d)
{
	struct hc *hc;

	CHECK_EQ(open_as_client(d, &hc), HC_OK);
	check_store(hc, "c", HC_OK, HC_E_DENIED);
	check_store(hc, "o", HC_OK, HC_OK);
	hc_close(hc);
}

static void stranger(const struct t_daemon *d)
{
	struct hc *hc;

	CHECK_EQ(open_as_client(d, &hc), HC_OK);
	CHECK(!hc->pool[CLOSED].mapped && hc->pool[OPEN].mapped);
	check_store(hc, "c", HC_E_DENIED, 0);
	check_store(hc, "o", HC_OK, HC_E_DENIED);
	check_feed(hc, "closed", HC_E_DENIED);
	check_feed(hc, "open", HC_OK);
	hc_close(hc);
}

static void master(const struct t_daemon *d)
{
	struct hc *hc;

	CHECK_EQ(open_as_client(d, &hc), HC_OK);
	check_store(hc, "c", HC_OK, HC_OK);
	check_store(hc, "o", HC_OK, HC_OK);
	hc_close(hc);
}

TEST(each_user_may_what_the_lists_of_a_pool_say)
{
	struct t_daemon *d = daemon_for_all(config);

	as(d, (struct who){WRITER, WRITER, 0}, writer);
	as(d, (struct who){MEMBER, GROUP, 0}, member);      /* by its first group */
	as(d, (struct who){MEMBER, MEMBER, GROUP}, member); /* by another one */
	as(d, (struct who){MEMBER, GROUP, MORE}, member_of_more);
	as(d, (struct who){STRANGER, STRANGER, 0}, stranger);
	as(d, (struct who){ADMIN, ADMIN, 0}, member); /* sees all, as on the admin socket */
	as(d, (struct who){0, 0, 0}, master);
	t_daemon_stop(d);
}

/* No descriptor of the closed pool, and a request for it without the library is refused. */
static void raw_stranger(const struct t_daemon *d)
{
	struct raw r = raw_open(d);
	struct wire_answer a = raw_hello(&r, 0);
	uint32_t pools = 0;

	CHECK_EQ(a.status, HC_OK);
	for (uint32_t i = 0; i < a.n_fds; i++)
		if (a.fd[i].kind == SHM_KIND_POOL)
			pools |= 1u << a.fd[i].pool_idx;
	CHECK_EQ(pools, 1u << OPEN);
	raw_close(&r);
	r = session_open(d);
	uint64_t denied = counter(&r, SHM_DC_requests_denied);
	CHECK_EQ(raw_set(&r, 1, CLOSED), HC_E_DENIED);
	CHECK_EQ(raw_set(&r, 2, OPEN), HC_E_DENIED);
	CHECK_EQ(raw_set(&r, 1, CLOSED), HC_E_DENIED); /* its answer was recorded */
	CHECK_EQ(raw_clear(&r, 3, CLOSED), HC_E_DENIED);
	CHECK_EQ(raw_clear(&r, 4, OPEN), HC_E_DENIED);
	CHECK_EQ(counter(&r, SHM_DC_requests_denied), denied + 4);
	ping(&r);
	raw_close(&r);
}

TEST(what_the_library_would_refuse_the_daemon_refuses_too)
{
	struct t_daemon *d = daemon_for_all(config);

	as(d, (struct who){STRANGER, STRANGER, 0}, raw_stranger);
	t_daemon_stop(d);
}

static void denied(const struct t_daemon *d)
{
	struct hc *hc;

	CHECK_EQ(open_as_client(d, &hc), HC_E_DENIED);
	CHECK(hc == NULL);
}

TEST(who_may_read_nothing_gets_no_session_and_is_told_why)
{
	struct t_daemon *d = daemon_for_all(
		"pools:\n  main: {size: 4MiB, huge_pages: \"off\", read: uid:60001}\n");
	struct raw r = session_open(d);

	as(d, (struct who){STRANGER, STRANGER, 0}, denied);
	CHECK_EQ(counter(&r, SHM_DC_sessions_opened), 1);
	CHECK_EQ(counter(&r, SHM_DC_requests_denied), 1);
	struct t_proc *p = t_spawn(
		(const char *[]){t_bin("hypercache"), "--socket", d->socket, "get", "k", NULL},
		&(struct t_spawn_opts){.uid = STRANGER});
	CHECK_EQ(t_proc_exit(p, WAIT_MS), 4);
	CHECK(strstr(p->err.text, "HC_E_DENIED"));
	t_proc_free(p);
	raw_close(&r);
	t_daemon_stop(d);
}

/* The path's mode lets in whom the lists may name; nobody else's process can even connect. */
TEST(the_socket_is_open_to_others_only_if_some_list_names_others)
{
	static const struct {
		const char *config;
		mode_t mode;
	} cases[] = {
		{"pools: {m: {size: 4MiB, huge_pages: \"off\", read: owner}}\n", 0600},
		{"pools: {m: {size: 4MiB, huge_pages: \"off\", read: uid:1}}\n", 0666},
		{"pools: {m: {size: 4MiB, huge_pages: \"off\", read: any}}\n", 0666},
		{"admin_uids: 7\npools: {m: {size: 4MiB, huge_pages: \"off\", read: owner}}\n",
			0666},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct t_daemon *d = t_daemon_start(cases[i].config, NULL);
		struct stat st;
		CHECK_EQ(stat(d->socket, &st), 0);
		CHECK_EQ(st.st_mode & 0777, cases[i].mode);
		t_daemon_stop(d);
	}
}

static void hold_session(const struct t_daemon *d)
{
	struct raw r = session_open(d);

	ping(&r);
	CHECK(!raw_receive(&r)); /* until the daemon ends */
}

TEST(the_command_line_shows_who_may_what)
{
	char *out;
	struct t_daemon *d = daemon_for_all(config);

	fflush(NULL);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		become((struct who){STRANGER, STRANGER, 0}, true);
		hold_session(d);
		_exit(0);
	}
	struct raw r = session_open(d);
	wait_counter(&r, SHM_DC_sessions, 2);
	CHECK_EQ(t_run((const char *[]){t_bin("hypercache"), "--admin", d->admin, "stat", NULL},
			 NULL, 0, &out, NULL, NULL, WAIT_MS),
		0);
	CHECK(strstr(out, "  read: [uid:60001, gid:61000], write: [uid:60001]\n"));
	CHECK(strstr(out, "  read: any, write: [gid:61001]\n"));
	free(out);
	CHECK_EQ(t_run((const char *[]){t_bin("hypercache"), "--admin", d->admin, "--json",
			       "clients", NULL},
			 NULL, 0, &out, NULL, NULL, WAIT_MS),
		0);
	CHECK(strstr(out, "\"rights\":\"all\"") && strstr(out, "\"rights\":\"open:r\""));
	free(out);
	raw_close(&r);
	t_daemon_stop(d);
	CHECK_EQ(t_wait_child(pid, WAIT_MS), 0);
}

/* ------------------------------------------------------------ what a session keeps */

/* Another connection for the session of r. */
static void raw_resume(const struct t_daemon *d, struct raw *r)
{
	(void)close(r->sock);
	r->in.begin = r->in.end = 0;
	struct raw again = raw_open(d);
	r->sock = again.sock;
	struct wire_answer a = raw_hello(r, r->session);
	CHECK_EQ(a.status, HC_OK);
	CHECK_EQ(a.resumed, 1);
}

TEST(a_session_never_gets_more_rights_and_loses_those_that_its_process_gave_up)
{
	const struct who root = {0, 0, 0}, without = {STRANGER, STRANGER, 0},
			 with = {STRANGER, STRANGER, MORE};
	struct t_daemon *d = daemon_for_all(config);

	become(without, false);
	struct raw poor = session_open(d);
	CHECK_EQ(raw_set(&poor, 1, OPEN), HC_E_DENIED);
	become(with, false);
	raw_resume(d, &poor); /* a process that has the group comes for a session that had not */
	CHECK_EQ(raw_set(&poor, 2, OPEN), HC_E_DENIED);
	struct raw rich = session_open(d);
	CHECK_EQ(raw_set(&rich, 1, OPEN), HC_OK);

	become(root, false);
	(void)t_daemon_wait_engine(d, t_daemon_kill_engine(d, SIGKILL));
	become(with, false);
	raw_resume(d, &poor); /* the next engine knows it, too */
	CHECK_EQ(raw_set(&poor, 3, OPEN), HC_E_DENIED);
	raw_resume(d, &rich);
	CHECK_EQ(raw_set(&rich, 2, OPEN), HC_OK);
	become(without, false);
	raw_resume(d, &rich);
	CHECK_EQ(raw_set(&rich, 2, OPEN), HC_OK); /* had been applied: the same answer */
	CHECK_EQ(raw_set(&rich, 3, OPEN), HC_E_DENIED);
	become(with, false);
	raw_resume(d, &rich);
	CHECK_EQ(raw_set(&rich, 4, OPEN), HC_E_DENIED);
	become(root, false);
	raw_close(&poor);
	raw_close(&rich);
	t_daemon_stop(d);
}

/* A pin of a pool that was never handed out can name nothing that is being read; a hint neither. */
TEST(pins_and_hints_for_a_pool_that_was_not_handed_out_count_for_nothing)
{
	const struct who root = {0, 0, 0}, other = {STRANGER, STRANGER, 0};
	struct t_daemon *d = daemon_for_all(config);
	struct hc_store *s;
	struct hc_view v;
	struct hc *hc;
	size_t bytes;

	CHECK_EQ(open_as_client(d, &hc), HC_OK);
	CHECK_EQ(hc_store(hc, "c", &s), HC_OK);
	CHECK_EQ(hc_set(s, "k", 1, "v", 1, NULL), HC_OK);
	CHECK_EQ(hc_view(s, "k", 1, &v), HC_OK);
	uint64_t off = (uint64_t)((const uint8_t *)v.value - hc->pool[CLOSED].base) -
	               shm_item_value_off(1);
	CHECK_EQ(hc_view_release(&v), HC_OK);

	become(other, false);
	struct raw bad = session_open(d);
	become(root, false);
	struct shm_client *seg = segment_of(&bad, &bytes);
	struct shm_block *block = (struct shm_block *)(void *)(seg + 1);
	uint64_t gen = shm_load_rlx(&bad.ctl->pin_gen[seg->seg.instance]) & 0xffff;
	shm_store_rlx(&block->pin[SHM_PIN_VIEW], gen << 48 | off | CLOSED);
	shm_store_rlx(&block->hint[0], off | CLOSED);
	shm_store_rlx(&block->hint_head, 1);
	shm_store32_rlx(&seg->blocks_used, 1);
	wait_counter(&bad, SHM_DC_hints_bad, 1);

	CHECK_EQ(hc_delete(s, "k", 1), HC_OK);
	const shm_u64 *limbo = &bad.ctl->pool[CLOSED].counter[SHM_PC_limbo_entries];
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(WAIT_MS) * 1000000;
	while (shm_load_rlx(limbo) != 0) {
		CHECK(t_now_ns() < end_ns);
		ping(&bad);
	}
	(void)munmap(seg, bytes);
	raw_close(&bad);
	hc_close(hc);
	t_daemon_stop(d);
}

/* ---------------------------------------------------------------- what one may take */

TEST(one_user_cannot_take_all_places)
{
	enum { MAX = 3 };
	const struct who root = {0, 0, 0}, greedy = {STRANGER, STRANGER, 0};
	struct t_daemon *d = daemon_for_all(
		"max_clients_per_user: 3\nmax_clients: 8\nhello_timeout: 60s\n");
	struct raw r[MAX], idle[MAX], more, good = session_open(d);
	struct wire_answer a;

	become(greedy, false);
	for (int i = 0; i < MAX; i++)
		r[i] = session_open(d);
	for (int i = 0; i < MAX; i++)
		idle[i] = raw_open(d);
	become(root, false);
	wait_counter(&good, SHM_DC_connections, 1 + 2 * MAX);
	become(greedy, false);
	more = raw_open(d); /* a connection too many: answered before it has said anything */
	CHECK(raw_answer(&more, &a));
	CHECK_EQ(a.verb, WIRE_HELLO);
	CHECK_EQ(a.status, HC_E_REFUSED);
	CHECK(raw_is_closed(&more));
	raw_close(&more);
	for (int i = 0; i < MAX; i++) /* does not make room for sessions: they are mapped */
		(void)close(r[i].sock);
	CHECK_EQ(raw_hello(&idle[0], 0).status, HC_E_REFUSED);
	become(root, false);
	ping(&good);
	struct raw another = session_open(d); /* nobody else notices */
	raw_close(&another);
	free(t_proc_line(d->proc, "max_clients_per_user is 6", WAIT_MS));
	free(t_proc_line(d->proc, "max_clients_per_user is 3", WAIT_MS));
	for (int i = 0; i < MAX; i++) {
		r[i].sock = -1;
		raw_close(&r[i]);
		raw_close(&idle[i]);
	}
	wait_counter(&good, SHM_DC_sessions, 1);
	become(greedy, false);
	more = session_open(d);
	become(root, false);
	raw_close(&more);
	raw_close(&good);
	t_daemon_stop(d);
}

/* ------------------------------------------------------------------ what is gone */

static bool pool_holds(const struct hc *hc, const char *text)
{
	return memmem(hc->pool[0].base, hc->pool[0].bytes.v, text, strlen(text)) != NULL;
}

static void wait_limbo(struct hc *hc)
{
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(WAIT_MS) * 1000000;

	while (shm_load_rlx(&hc->ctl->pool[0].counter[SHM_PC_limbo_entries]) != 0) {
		CHECK(t_now_ns() < end_ns);
		CHECK_EQ(hc_ping(hc), HC_OK);
	}
}

TEST(a_reader_of_a_scrubbed_pool_finds_nothing_of_what_is_gone)
{
	static const char secret[] = "a secret that nobody else has in his memory";
	char again[sizeof secret];
	struct hc_store *s;
	struct hc *hc;
	size_t n;

	for (int scrub = 0; scrub < 2; scrub++) {
		char text[128];
		(void)snprintf(text, sizeof text,
			"heartbeat: 100ms\n"
			"pools: {m: {size: 4MiB, huge_pages: \"off\", scrub: %s}}\n",
			scrub ? "true" : "false");
		struct t_daemon *d = t_daemon_start(text, NULL);
		CHECK_EQ(open_as_client(d, &hc), HC_OK);
		CHECK_EQ(hc_store(hc, "default", &s), HC_OK);
		CHECK_EQ(hc_set(s, "k", 1, secret, sizeof secret, NULL), HC_OK);
		CHECK_EQ(hc_get(s, "k", 1, again, sizeof again, &n), HC_OK);
		CHECK(pool_holds(hc, secret));
		CHECK_EQ(hc_delete(s, "k", 1), HC_OK);
		wait_limbo(hc);
		CHECK_EQ(pool_holds(hc, secret), !scrub);
		hc_close(hc);
		t_daemon_stop(d);
	}
}
