/* crash_resize.c - engine, supervisor or client killed at every STEP of a pool's growing and shrinking:
 * what was acknowledged is there or was evicted, the accounts close, and the pool gets where it was going.
 *
 * The life: a pool of 8 MiB gets 20 MiB, is filled, shrinks to 10 MiB, and has 20 MiB again.  It is lived
 * once with the marks recorded, then once for each mark.
 */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "../kit/t_step.h"
#include "atomic.h"
#include "hc_i.h"
#include "hypercache.h"
#include "step.h"

enum { LIMIT_MS = 30000, N = 4000, VALUE = 4000, SLACK = 256 << 10 };

#define MIB (1ull << 20)
#define POOL(size) \
	"restart_limit: 1000\nheartbeat: 100ms\n" \
	"pools:\n  main: { size: " size ", huge_pages: \"off\", " T_DAEMON_ALL " }\n"

#define SECOND "  second: { size: 8MiB, huge_pages: \"off\" }\n"

static char *out, *err;

static int cli(const struct t_daemon *d, const char *verb)
{
	free(out);
	free(err);
	return t_run((const char *[]){t_bin("hypercache"), "--socket", d->socket, "--admin",
			     d->admin, verb, NULL},
		NULL, 0, &out, NULL, &err, LIMIT_MS);
}

static struct hc *client(const struct t_daemon *d, struct hc_store **ret)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct hc *hc;

	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(LIMIT_MS);
	CHECK_EQ(hc_open(&hc, &o), HC_OK);
	CHECK_EQ(hc_store(hc, "default", ret), HC_OK);
	return hc;
}

static void value_make(int i, int round, uint8_t v[VALUE])
{
	memset(v, 'a' + (i + round) % 23, VALUE);
	memcpy(v, &i, sizeof i);
}

static void put_all(struct hc_store *s, int round)
{
	uint8_t v[VALUE];

	for (int i = 0; i < N; i++) {
		value_make(i, round, v);
		CHECK_EQ(hc_set(s, &i, sizeof i, v, VALUE, NULL), HC_OK);
	}
}

/* Each is as it was acknowledged last, or evicted.  How many are there. */
static int check_all(struct hc_store *s, int round)
{
	uint8_t v[VALUE], want[VALUE];
	int there = 0;

	for (int i = 0; i < N; i++) {
		size_t n = 0;
		int r = hc_get(s, &i, sizeof i, v, sizeof v, &n);
		/* In memory that was added, and nobody is there to hand it out: not for long. */
		for (int k = 0; r == HC_E_TIMEOUT && k < 100; k++) {
			(void)hc_ping(s->hc);
			r = hc_get(s, &i, sizeof i, v, sizeof v, &n);
		}
		/* There, and the whole daemon is gone: what was added to the pool is not to be had any more. */
		if (r == HC_MISS || r == HC_E_NO_DAEMON)
			continue;
		CHECK_EQ(r, HC_OK);
		value_make(i, round, want);
		CHECK(n == VALUE && memcmp(v, want, n) == 0);
		there++;
	}
	return there;
}

static void wait_size(struct hc *hc, uint64_t size)
{
	uint64_t deadline_ns = t_now_ns() + t_limit_ms(LIMIT_MS) * 1000000ull, is;

	do {
		CHECK_EQ(hc_ping(hc), HC_OK);
		is = shm_load_rlx(&hc->ctl->pool[0].counter[SHM_PC_limit_bytes]);
		if (t_now_ns() > deadline_ns)
			t_fail(__FILE__, __LINE__, "the pool has %llu bytes",
				(unsigned long long)is);
	} while (is + SLACK < size || is > size + SLACK);
}

/* A reload that holds in the end, whoever dies in it. */
static void resize(const struct t_daemon *d, struct hc *hc, const char *yaml, uint64_t size)
{
	t_daemon_configure(d, yaml);
	for (int i = 0; i < 3 && cli(d, "reload") != 0; i++)
		CHECK(strstr(err, "engine-died") || strstr(err, "busy"));
	wait_size(hc, size);
}

static void life(const char *order, bool dies)
{
	char step[512];

	(void)snprintf(step, sizeof step, "HC_STEP=%s", order);
	struct t_daemon *d = t_daemon_start(POOL("8MiB"), (const char *[]){step, NULL});
	struct hc_store *s, *o;
	struct hc *hc = client(d, &s), *other = client(d, &o);

	put_all(s, 1);
	resize(d, hc, POOL("20MiB"), 20 * MIB);
	put_all(s, 2);
	CHECK(check_all(o, 2) > N * 9 / 10);
	resize(d, hc, POOL("10MiB"), 10 * MIB);
	CHECK(check_all(o, 2) > N / 4);
	CHECK_EQ(cli(d, "fsck"), 0);
	resize(d, hc, POOL("20MiB"), 20 * MIB);
	put_all(s, 3);
	CHECK(check_all(o, 3) > N * 9 / 10);
	CHECK_EQ(cli(d, "fsck"), 0);
	if (dies)
		CHECK_EQ(access(t_path("once"), F_OK), -1);
	hc_close(hc);
	hc_close(other);
	t_daemon_stop(d);
}

static void once(void)
{
	int fd = open(t_path("once"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	CHECK(fd >= 0 && close(fd) == 0);
}

TEST_LIMIT(an_engine_is_killed_wherever_a_pool_changes_its_size, 300)
{
	static struct t_steps steps;
	char order[512];
	int n = 0;

	(void)snprintf(order, sizeof order, "record:%s", t_path("steps"));
	life(order, false);
	t_steps_load(&steps, t_path("steps"));
	for (int i = 0; i < steps.n; i++) {
		const char *mark = steps.name[i];
		if (strncmp(mark, "resize:", 7) != 0 && strncmp(mark, "alloc:hole", 10) != 0 &&
			strcmp(mark, "alloc:region-added") != 0 &&
			strcmp(mark, "hello:regions-sent") != 0)
			continue;
		once();
		(void)snprintf(order, sizeof order, "kill:%s:1:%s", mark, t_path("once"));
		fprintf(stderr, "  killed at %s\n", mark);
		life(order, true);
		t_step_killed(mark);
		n++;
	}
	CHECK(n >= 7);
}

/* A supervisor that dies takes the memory with it; another daemon begins in the same place. */
TEST_LIMIT(a_supervisor_is_killed_while_it_makes_a_region_or_a_pool, 120)
{
	static const char *const marks[] = {
		"sup:region-made", "sup:region-published", "sup:pool-made", "sup:pool-entered"};
	char step[512];

	for (size_t i = 0; i < 4; i++) {
		struct hc_store *s;
		once();
		(void)snprintf(step, sizeof step, "HC_STEP=kill:%s:1:%s", marks[i], t_path("once"));
		struct t_daemon *d = t_daemon_start(POOL("8MiB"), (const char *[]){step, NULL});
		struct hc *hc = client(d, &s);
		put_all(s, 1);
		t_daemon_configure(d, i < 2 ? POOL("20MiB") : POOL("8MiB") SECOND);
		pid_t engine = t_daemon_engine(d);
		(void)cli(d, "reload");
		CHECK_EQ(t_proc_exit(d->proc, LIMIT_MS), 128 + SIGKILL);
		t_daemon_wait_gone(engine);
		(void)check_all(s, 1); /* reads go on */
		hc_close(hc);
		t_daemon_free(d);
		CHECK_EQ(access(t_path("once"), F_OK), -1);
		t_step_killed(marks[i]);
	}
}

/* A client that dies with a pool that it has just mapped. */
TEST(a_client_is_killed_while_it_maps_a_pool_that_came)
{
	struct t_daemon *d = t_daemon_start(POOL("8MiB"), NULL);
	struct hc_store *s, *o;
	struct hc *hc = client(d, &s);
	int ready[2], go[2];
	char c = 0;

	CHECK(pipe(ready) == 0 && pipe(go) == 0);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		struct hc *mine = client(d, &o);
		CHECK_EQ(write(ready[1], &c, 1), 1);
		CHECK_EQ(read(go[0], &c, 1), 1);
		t_step_kill_at("reader:pool-mapped", 1);
		(void)hc_store(mine, "z", &o);
		_exit(1);
	}
	CHECK_EQ(read(ready[0], &c, 1), 1);
	t_daemon_configure(d,
		POOL("8MiB") SECOND "stores: { default: { pool: main }, z: { pool: second } }\n");
	CHECK_EQ(cli(d, "reload"), 0);
	CHECK_EQ(write(go[1], &c, 1), 1);
	int st = t_wait_child(pid, t_limit_ms(LIMIT_MS));
	CHECK(WIFSIGNALED(st) && WTERMSIG(st) == SIGKILL);
	t_step_killed("reader:pool-mapped");
	for (int i = 0; i < 2; i++)
		CHECK(close(ready[i]) == 0 && close(go[i]) == 0);
	CHECK_EQ(hc_store(hc, "z", &o), HC_OK);
	put_all(o, 1);
	CHECK_EQ(cli(d, "fsck"), 0);
	hc_close(hc);
	t_daemon_stop(d);
}

/* A client that dies with a region that it has just mapped. */
TEST(a_client_is_killed_while_it_maps_a_region)
{
	struct t_daemon *d = t_daemon_start(POOL("8MiB"), NULL);
	struct hc_store *s, *o;
	struct hc *hc = client(d, &s);
	int ready[2], go[2];
	char c = 0;

	CHECK(pipe(ready) == 0 && pipe(go) == 0);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		struct hc *mine = client(d, &o);
		CHECK_EQ(write(ready[1], &c, 1), 1);
		CHECK_EQ(read(go[0], &c, 1), 1);
		t_step_kill_at("reader:region-mapped", 1);
		(void)check_all(o, 2);
		hc_close(mine);
		_exit(1);
	}
	CHECK_EQ(read(ready[0], &c, 1), 1);
	resize(d, hc, POOL("20MiB"), 20 * MIB);
	put_all(s, 2);
	CHECK_EQ(write(go[1], &c, 1), 1);
	int st = t_wait_child(pid, t_limit_ms(LIMIT_MS));
	CHECK(WIFSIGNALED(st) && WTERMSIG(st) == SIGKILL);
	t_step_killed("reader:region-mapped");
	for (int i = 0; i < 2; i++)
		CHECK(close(ready[i]) == 0 && close(go[i]) == 0);
	CHECK(check_all(s, 2) > N * 9 / 10);
	CHECK_EQ(cli(d, "fsck"), 0);
	hc_close(hc);
	t_daemon_stop(d);
}
