/* crash_pool.c - engines that crash again and again on what their predecessors left, or hang.
 *
 * Damage is written into the memory while the engine stands still, and the engine then dies of a signal
 * that it might have raised itself: an engine that scribbles before it crashes. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "../kit/t_step.h"
#include "atomic.h"
#include "hc_i.h"
#include "hypercache.h"
#include "layout/l_journal.h"
#include "layout/l_pool.h"

enum { CLIENT_MS = 30000, N = 300 };

static const char two[] = "restart_limit: 100\nrestart_backoff_max: 100ms\npools:\n"
			  "  a: {size: 4MiB, huge_pages: \"off\"}\n"
			  "  b: {size: 4MiB, huge_pages: \"off\"}\n"
			  "stores:\n  in-a: {pool: a}\n  in-b: {pool: b}\n";

struct client {
	struct hc *hc;
	struct hc_store *a, *b;
};

static struct client client_open(struct t_daemon *d)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct client c;

	(void)t_daemon_wait_engine(d, 0); /* the first: its line is read */
	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(CLIENT_MS);
	CHECK_EQ(hc_open(&c.hc, &o), HC_OK);
	CHECK_EQ(hc_store(c.hc, "in-a", &c.a), HC_OK);
	CHECK_EQ(hc_store(c.hc, "in-b", &c.b), HC_OK);
	return c;
}

static size_t name_of(int i, char name[32]) { return (size_t)snprintf(name, 32, "key-%d", i); }

static void fill(struct hc_store *s)
{
	char name[32];

	for (int i = 0; i < N; i++)
		CHECK_EQ(hc_set(s, name, name_of(i, name), name, sizeof name, NULL), HC_OK);
}

/* How many are there, each as it was set. */
static int count(struct hc_store *s)
{
	char name[32], got[32];
	int n = 0;

	for (int i = 0; i < N; i++) {
		memset(name, 0, sizeof name);
		int r = hc_get(s, name, name_of(i, name), got, sizeof got, NULL);
		CHECK(r == HC_OK || r == HC_MISS);
		if (r == HC_OK)
			CHECK(memcmp(got, name, strlen(name)) == 0);
		n += r == HC_OK;
	}
	return n;
}

static void *segment_map(const struct t_daemon *d, const char *name, size_t *ret_bytes)
{
	int fd = t_daemon_segment(d, name);
	struct stat st;

	CHECK_EQ(fstat(fd, &st), 0);
	*ret_bytes = (size_t)st.st_size;
	void *m = mmap(NULL, *ret_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(m != MAP_FAILED);
	(void)close(fd);
	return m;
}

/* The engine stands still, whatever it was doing. */
static void stop(const struct t_daemon *d) { CHECK_EQ(kill(t_daemon_engine(d), SIGSTOP), 0); }

/* It goes on, into a signal as it might raise itself. */
static void crash(struct t_daemon *d)
{
	pid_t engine = t_daemon_engine(d);

	CHECK_EQ(kill(engine, SIGSEGV), 0);
	CHECK_EQ(kill(engine, SIGCONT), 0);
	t_daemon_wait_gone(engine);
}

/* Makes the pool one that no engine can take over. */
static void spoil(const struct t_daemon *d, const char *pool)
{
	size_t bytes;
	struct shm_pool *p = segment_map(d, pool, &bytes);

	p->pool_id++;
	CHECK_EQ(munmap(p, bytes), 0);
}

static void wait_line(const struct t_daemon *d, const char *text)
{
	free(t_proc_line(d->proc, text, CLIENT_MS));
}

static int fsck(const struct t_daemon *d)
{
	return t_run((const char *[]){t_bin("hypercache"), "--admin", d->admin, "fsck", NULL}, NULL,
		0, NULL, NULL, NULL, CLIENT_MS);
}

static int files_in(const char *path, const char *end)
{
	const struct dirent *e;
	DIR *d = opendir(path);
	int n = 0;

	while (d && (e = readdir(d)))
		n += strlen(e->d_name) > strlen(end) &&
		     strcmp(e->d_name + strlen(e->d_name) - strlen(end), end) == 0;
	if (d)
		closedir(d);
	return n;
}

static void once(void)
{
	int fd = open(t_path("once"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	CHECK(fd >= 0);
	(void)close(fd);
}

/* The new engine has looked at all contents. */
static void wait_verified(const struct client *c)
{
	uint64_t end_ns = t_now_ns() + CLIENT_MS * UINT64_C(1000000);

	while (shm_load_rlx(&c->hc->ctl->counter[SHM_DC_unverified])) {
		CHECK(t_now_ns() < end_ns);
		CHECK_EQ(hc_ping(c->hc), HC_OK);
	}
}

/* ------------------------------------------------------------------ crash loops */

TEST(a_pool_that_kills_engines_starts_empty_and_the_other_stays)
{
	struct t_daemon *d = t_daemon_start(two, NULL);
	struct client c = client_open(d);
	struct hc_view va, vb;
	char images[T_PATH_BYTES + 16];

	fill(c.a);
	fill(c.b);
	CHECK_EQ(hc_view(c.a, "key-1", 5, &va), HC_OK);
	CHECK_EQ(hc_view(c.b, "key-1", 5, &vb), HC_OK);
	stop(d);
	spoil(d, "a");
	(void)t_daemon_kill_engine(d, SIGKILL); /* from outside: does not count */
	wait_line(d, "it was at work on pool a");
	wait_line(d, "it was at work on pool a");
	wait_line(d, "it was at work on pool a");
	wait_line(d, "an image of what it held");
	wait_line(d, "pool a starts EMPTY");
	(void)t_daemon_wait_engine(d, 0);
	CHECK_EQ(count(c.a), 0);
	CHECK_EQ(count(c.b), N);
	CHECK_EQ(hc_view_ok(&va), 0); /* what stands there now may be anything */
	CHECK_EQ(hc_view_release(&va), HC_E_REVOKED);
	(void)hc_view_release(&vb);
	fill(c.a);
	CHECK_EQ(count(c.a), N);
	CHECK_EQ(shm_load_rlx(&c.hc->ctl->pool[0].counter[SHM_PC_emptied]), 1);
	CHECK_EQ(shm_load_rlx(&c.hc->ctl->pool[1].counter[SHM_PC_emptied]), 0);
	CHECK_EQ(fsck(d), 0);
	(void)snprintf(images, sizeof images, "%s/images", d->data);
	CHECK_EQ(files_in(images, ".image"), 1);
	hc_close(c.hc);
	t_daemon_stop(d);
}

/* Nothing says that it is the pool's fault. */
TEST(kills_from_outside_empty_nothing)
{
	struct t_daemon *d = t_daemon_start(two, NULL);
	struct client c = client_open(d);

	fill(c.a);
	for (int i = 0; i < 5; i++)
		(void)t_daemon_wait_engine(d, t_daemon_kill_engine(d, SIGKILL));
	for (int i = 0; i < 5; i++) /* idle: at work on none */
		(void)t_daemon_wait_engine(d, t_daemon_kill_engine(d, SIGSEGV));
	CHECK_EQ(count(c.a), N);
	hc_close(c.hc);
	t_daemon_stop(d);
}

/* A word that makes no sense: it may be any of them. */
TEST(if_nobody_knows_which_pool_it_was_all_start_empty)
{
	struct t_daemon *d = t_daemon_start(two, NULL);
	struct client c = client_open(d);
	size_t bytes;
	struct shm_journal *j = segment_map(d, "journal", &bytes);

	fill(c.a);
	fill(c.b);
	for (int i = 0; i < 3; i++) {
		stop(d);
		shm_store_rlx(&j->at_pool, 77);
		crash(d);
		(void)t_daemon_wait_engine(d, 0);
	}
	CHECK_EQ(count(c.a) + count(c.b), 0);
	fill(c.a);
	fill(c.b);
	CHECK_EQ(count(c.a) + count(c.b), 2 * N);
	CHECK_EQ(fsck(d), 0);
	CHECK_EQ(munmap(j, bytes), 0);
	hc_close(c.hc);
	t_daemon_stop(d);
}

/* Images: the newest, as many as are allowed; none that is too large. */
TEST(images_have_a_number_and_a_size)
{
	static const char more[] =
		"restart_limit: 1000\npool_crash_limit: 1\ncrash_images: 2\n"
		"crash_images_size: %s\ncrash_dir: %s\n"
		"pools: {a: {size: 4MiB, huge_pages: \"off\"}, b: {size: 4MiB}}\n"
		"stores: {in-a: {pool: a}, in-b: {pool: b}}\n";
	const char *dir = t_path("kept");
	char config[1024];

	for (int large = 0; large < 2; large++) {
		(void)snprintf(config, sizeof config, more, large ? "1MiB" : "1GiB", dir);
		struct t_daemon *d = t_daemon_start(config, NULL);
		struct client c = client_open(d);
		fill(c.a);
		for (int i = 0; i < 3; i++) {
			stop(d);
			spoil(d, "a");
			(void)t_daemon_kill_engine(d, SIGKILL);
			wait_line(d, large ? "no image of it is kept" : "an image of what it held");
			(void)t_daemon_wait_engine(d, 0);
			fill(c.a);
		}
		CHECK_EQ(files_in(dir, ".image"), 2); /* those of the first one stay */
		CHECK_EQ(files_in(dir, ".part"), 0);
		hc_close(c.hc);
		t_daemon_stop(d);
	}
}

/* ---------------------------------------------------------------------- damage */

/* What the supervisor wrote is as before; what engines wrote is checked by the next one. */
TEST(a_directory_that_was_scribbled_over_is_as_before)
{
	struct t_daemon *d = t_daemon_start(two, NULL);
	struct client c = client_open(d);
	size_t ctl_bytes, pool_bytes, j_bytes;
	struct shm_control *ctl = segment_map(d, "control", &ctl_bytes);
	struct shm_segment *seg = segment_map(d, "a", &pool_bytes);
	struct shm_journal *j = segment_map(d, "journal", &j_bytes);

	fill(c.a);
	fill(c.b);
	stop(d);
	memset(&ctl->hash_seed, 0x5a, 16);
	memset(ctl->pool[0].name, 0xff, sizeof ctl->pool[0].name);
	ctl->pool[1].region[0].bytes = 1;
	shm_store32_rlx(&ctl->pool[1].n_regions, 99);
	seg->daemon_id ^= 1;
	shm_store_rlx(&seg->magic, 0);
	ctl->store[0].pool_idx = 77;
	ctl->store[1].type = 99;
	memset(ctl->store[1].name, 'x', sizeof ctl->store[1].name);
	j->leases_off = UINT64_MAX - 7;
	j->n_leases = 1 << 30;
	crash(d);
	wait_line(d, "the engine scribbled over them");
	(void)t_daemon_wait_engine(d, 0);
	CHECK_EQ(count(c.a) + count(c.b), 2 * N);
	CHECK_STR(ctl->pool[0].name, "a");
	CHECK_EQ(ctl->store[0].pool_idx, 0);
	CHECK_STR(ctl->store[1].name, "in-b");
	CHECK_EQ(j->n_leases, SHM_LEASES);
	CHECK_EQ(fsck(d), 0);
	CHECK_EQ(munmap(j, j_bytes), 0);
	CHECK_EQ(munmap(ctl, ctl_bytes), 0);
	CHECK_EQ(munmap(seg, pool_bytes), 0);
	hc_close(c.hc);
	t_daemon_stop(d);
}

/* Random bytes over the pools, and over what the control segment has of them: each time it goes on, with what is left. */
TEST_LIMIT(whatever_is_scribbled_the_daemon_serves_again, 120)
{
	enum { ROUNDS = 12 };
	struct t_daemon *d = t_daemon_start(two, NULL);
	struct client c = client_open(d);
	size_t ctl_bytes, pool_bytes;
	uint8_t *ctl = segment_map(d, "control", &ctl_bytes), *a = segment_map(d, "a", &pool_bytes);
	int emptied = 0;

	for (int round = 0; round < ROUNDS; round++) {
		fill(c.a);
		fill(c.b);
		stop(d);
		for (int i = 0; i < 200; i++) /* what is used stands at the beginning */
			a[t_random_below(round % 3 == 0 ? 8192 : pool_bytes / 4)] = (uint8_t)
				t_random();
		for (int i = 0; round % 2 && i < 20; i++)
			ctl[offsetof(struct shm_control, pool) +
				t_random_below(2 * sizeof(struct shm_pool_entry))] = (uint8_t)
				t_random();
		crash(d);
		(void)t_daemon_wait_engine(d, 0);
		wait_verified(&c);
		emptied += count(c.a) == 0;
		CHECK_EQ(count(c.b), N);
	}
	fprintf(stderr, "  %d of %d rounds ended with an empty pool\n", emptied, ROUNDS);
	CHECK(emptied < ROUNDS);
	fill(c.a);
	CHECK_EQ(count(c.a), N);
	CHECK_EQ(fsck(d), 0);
	CHECK_EQ(munmap(ctl, ctl_bytes), 0);
	CHECK_EQ(munmap(a, pool_bytes), 0);
	hc_close(c.hc);
	t_daemon_stop(d);
}

/* One value is not what it was: it goes, also if an engine dies meanwhile, and nothing is made of it. */
TEST(a_damaged_value_goes_and_is_not_appended_to)
{
	char order[512];

	once();
	(void)snprintf(order, sizeof order, "HC_STEP=kill:verify:dropped:1:%s", t_path("once"));
	struct t_daemon *d = t_daemon_start(two, (const char *[]){order, NULL});
	struct client c = client_open(d);
	size_t bytes;
	uint8_t *a = segment_map(d, "a", &bytes);
	fill(c.a);
	fill(c.b);
	stop(d);
	for (uint8_t *at = a; (at = memmem(at, bytes - (size_t)(at - a), "key-7\0", 6)); at++)
		at[5] = '!'; /* key and value */
	(void)t_daemon_kill_engine(d, SIGKILL);
	CHECK_EQ(hc_append(c.a, "key-7", 5, "x", 1, NULL), HC_MISS);
	wait_verified(&c);
	(void)t_daemon_wait_engine(d, 0);
	(void)t_daemon_wait_engine(d, 0);
	wait_verified(&c);
	CHECK(access(t_path("once"), F_OK) != 0);
	CHECK_EQ(count(c.a), N - 1);
	CHECK_EQ(fsck(d), 0);
	CHECK_EQ(munmap(a, bytes), 0);
	hc_close(c.hc);
	t_daemon_stop(d);
	t_step_killed("verify:dropped");
}

/* ------------------------------------------------------------------------ hangs */

TEST(an_engine_that_is_stopped_is_killed_and_another_goes_on)
{
	struct t_daemon *d = t_daemon_start("heartbeat: 100ms\nhang_timeout: 1s\n", NULL);
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct hc_store *s;
	struct hc *hc;

	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(CLIENT_MS);
	CHECK_EQ(hc_open(&hc, &o), HC_OK);
	CHECK_EQ(hc_store(hc, "default", &s), HC_OK);
	fill(s);
	stop(d);
	CHECK_EQ(count(s), N);                                /* reads do not care */
	CHECK_EQ(hc_set(s, "later", 5, "x", 1, NULL), HC_OK); /* waits for the next one */
	wait_line(d, "it has given no sign of life for");
	CHECK_EQ(count(s), N);
	CHECK(shm_load_rlx(&hc->ctl->engine_gen) >= 2);
	hc_close(hc);
	t_daemon_stop(d);
}

/* In the middle of a change, and in the middle of taking a pool over. */
TEST(an_engine_that_loops_for_ever_is_killed_and_another_goes_on)
{
	static const char *const at[] = {"set:published", "adopt:claimed"};

	for (int i = 0; i < 2; i++) {
		char order[512];
		once();
		(void)snprintf(order, sizeof order, "HC_STEP=hang:%s:1:%s", at[i], t_path("once"));
		struct t_daemon *d = t_daemon_start(
			"heartbeat: 100ms\nhang_timeout: 1s\nstores: {in-a: {}, in-b: {}}\n",
			(const char *[]){order, NULL});
		struct client c = client_open(d);
		fill(c.a);
		if (i)
			(void)t_daemon_kill_engine(d, SIGKILL);
		CHECK_EQ(hc_set(c.a, "later", 5, "x", 1, NULL), HC_OK);
		CHECK_EQ(count(c.a), N);
		CHECK(access(t_path("once"), F_OK) != 0);
		wait_line(d, "it has given no sign of life for");
		CHECK_EQ(fsck(d), 0);
		hc_close(c.hc);
		t_daemon_stop(d);
	}
}

TEST(with_hang_timeout_0_nobody_is_killed)
{
	struct t_daemon *d = t_daemon_start("heartbeat: 100ms\nhang_timeout: \"0\"\n", NULL);
	pid_t engine = t_daemon_engine(d);

	stop(d);
	CHECK(!t_wait_fd(
		d->proc->pidfd, 1 /* POLLIN */, 1500)); /* the time is what is asked about */
	CHECK_EQ(kill(engine, SIGCONT), 0);
	CHECK_EQ(t_daemon_engine(d), engine);
	t_daemon_stop(d);
}

/* -------------------------------------------------------------- the supervisor's STEPs */

/* The supervisor dies while a pool is being emptied: another daemon starts, nothing is left in its way. */
TEST_LIMIT(the_supervisor_is_killed_at_each_step_of_it, 120)
{
	static const char *const at[] = {"sup:mended", "sup:image-written", "sup:pool-emptied"};
	const char *dir = t_path("kept");
	char config[512], order[512];

	(void)snprintf(config, sizeof config, "pool_crash_limit: 1\ncrash_dir: %s\n", dir);
	for (int i = 0; i < 3; i++) {
		once();
		(void)snprintf(order, sizeof order, "HC_STEP=kill:%s:1:%s", at[i], t_path("once"));
		struct t_daemon *d = t_daemon_start(config, (const char *[]){order, NULL});
		stop(d);
		spoil(d, "main");
		(void)t_daemon_kill_engine(d, SIGKILL);
		CHECK_EQ(t_proc_exit(d->proc, CLIENT_MS), 128 + SIGKILL);
		CHECK(access(t_path("once"), F_OK) != 0);
		t_daemon_free(d);
		d = t_daemon_start(config, NULL);
		(void)t_daemon_wait_engine(d, 0);
		stop(d);
		spoil(d, "main");
		(void)t_daemon_kill_engine(d, SIGKILL);
		(void)t_daemon_wait_engine(d, 0);
		CHECK_EQ(files_in(dir, ".part"), 0);
		CHECK_EQ(fsck(d), 0);
		t_daemon_stop(d);
		t_step_killed(at[i]);
	}
}
