/* proc_probes: the probes stand in the built files as the list says, reads are told of as often as somebody wants,
 * and only as long as he lives. */
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include "../../libclient/hc_probe.h"
#include "../../tools/hypercache_admin.h"
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "../kit/t_proc.h"
#include "hypercache.h"

enum { LIMIT_MS = 10000, ADMIN_MS = 5000, KEYS = 50 };

#ifdef HC_PROBES
#define NEEDS_PROBES()
#else
#define NEEDS_PROBES() SKIP("built without probes")
#endif

/* ------------------------------------------------------------------ the list and the files */

struct found {
	int times;
	bool semaphore;
};

/* What `readelf -n` says of a probe. */
static struct found find(const char *notes, const char *name)
{
	struct found f = {0, true};
	char want[64];
	int n = snprintf(want, sizeof want, "Name: %s\n", name);

	for (const char *at = notes; (at = strstr(at, want)) != NULL; at += n) {
		const char *semaphore = strstr(at, "Semaphore: ");
		CHECK(semaphore != NULL);
		f.times++;
		f.semaphore &= strtoull(semaphore + 11, NULL, 16) != 0;
	}
	return f;
}

static char *notes_of(const char *file)
{
	char *out;

	CHECK_EQ(t_run((const char *[]){"/usr/bin/readelf", "-n", t_bin(file), NULL}, NULL, 0, &out,
			 NULL, NULL, LIMIT_MS),
		0);
	return out;
}

__attribute__((unused)) static void check_once(
	const char *file, const char *notes, const char *name)
{
	struct found f = find(notes, name);

	if (f.times != 1 || !f.semaphore)
		t_fail(__FILE__, __LINE__, "%s: probe %s stands there %d times%s", file, name,
			f.times, f.semaphore ? "" : ", without a semaphore");
}

#define CLIENT_(name, stability, meaning) check_once(file, notes, #name);

TEST(each_probe_of_a_client_stands_once_in_library_and_program)
{
	NEEDS_PROBES();
	const char *files[] = {"libclient/libhypercache.so", "hypercache"};

	for (int i = 0; i < 2; i++) {
		const char *file = files[i];
		char *notes = notes_of(file);
		PROBES_CLIENT(CLIENT_)
		free(notes);
	}
}

TEST(each_probe_of_the_engine_stands_once_in_the_daemon)
{
	NEEDS_PROBES();
	const char *file = "hypercached";
	char *notes = notes_of(file);

	PROBES_ENGINE(CLIENT_)
	free(notes);
}

/* ------------------------------------------------------------------ one of N */

static struct hc *open_at(const struct t_daemon *d, struct hc_store **ret)
{
	struct hc_open_opts opts = HC_OPTS(hc_open_opts);
	struct hc *hc;

	opts.socket = d->socket;
	opts.timeout_ms = (uint32_t)t_limit_ms(LIMIT_MS);
	CHECK_EQ(hc_open(&hc, &opts), HC_OK);
	CHECK_EQ(hc_store(hc, "default", ret), HC_OK);
	return hc;
}

static uint64_t every_now(const struct t_daemon *d)
{
	char why[HYPERCACHE_ADMIN_WHY_BYTES];
	struct hypercache_admin a;

	CHECK_EQ(hypercache_admin_open(d->admin, t_limit_ms(ADMIN_MS), &a, why), 0);
	uint64_t every = shm_load_rlx(&a.ctl->probe_every);
	hypercache_admin_close(&a);
	return every;
}

static void wait_every(const struct t_daemon *d, uint64_t every)
{
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(LIMIT_MS) * 1000000;

	while (every_now(d) != every)
		CHECK(t_now_ns() < end_ns);
}

static int probe(const struct t_daemon *d, uint64_t every)
{
	char why[HYPERCACHE_ADMIN_WHY_BYTES];
	int fd = -1, r = hypercache_admin_probe(d->admin, t_limit_ms(ADMIN_MS), every, &fd, why);

	return r == 0 ? fd : -1;
}

#ifdef HC_PROBES
/* As if a tracer were attached to what this process says of its reads, or no more. */
static void attach(bool on) { hc_probe_read_semaphores.semaphore[1] = on; }

/* Reads n times: each way in turn, hits and misses.  How many of them were to be told of. */
static uint64_t told_of(struct hc_store *s, uint32_t n)
{
	struct hc_view v;
	char key[16], buf[16];
	uint64_t told = 0;
	size_t bytes;

	for (uint32_t i = 0; i < n; i++) {
		int k = snprintf(
			key, sizeof key, "k%u", i % (2 * KEYS)); /* half of them are there */
		int want = i % (2 * KEYS) < KEYS ? HC_OK : HC_MISS;
		told += hc_probe_armed();
		if (i / 3 % 2) {
			CHECK_EQ(hc_get(s, key, (size_t)k, buf, sizeof buf, &bytes), want);
			continue;
		}
		CHECK_EQ(hc_view(s, key, (size_t)k, &v), want);
		if (want == HC_OK) {
			CHECK_EQ(v.value_bytes, 5);
			CHECK_EQ(hc_view_release(&v), HC_OK);
			CHECK_EQ(hc_view_release(&v), HC_E_INVAL);
		}
	}
	return told;
}

static void fill(struct hc_store *s)
{
	char key[16];

	for (uint32_t i = 0; i < KEYS; i++) {
		int k = snprintf(key, sizeof key, "k%u", i);
		CHECK_EQ(hc_set(s, key, (size_t)k, "value", 5, NULL), HC_OK);
	}
}
#endif

TEST(reads_are_told_of_as_often_as_it_is_wanted)
{
	NEEDS_PROBES();
#ifdef HC_PROBES
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct hc_store *s;
	struct hc *hc = open_at(d, &s);

	fill(s);
	CHECK_EQ(told_of(s, 20000), 0);
	attach(true);
	int fd = probe(d, 1);
	CHECK(fd >= 0);
	(void)told_of(s, 100); /* it is noticed with a miss at the latest */
	CHECK_EQ(told_of(s, 1000), 1000);
	int other = probe(d, 100);
	CHECK_EQ(told_of(s, 1000), 1000); /* the first one wants all */
	close(fd);
	wait_every(d, 100);
	(void)told_of(s, 100);
	uint64_t n = told_of(s, 200000); /* 2000, and a standard deviation of 26 */
	CHECK(n > 1850 && n < 2150);
	attach(false);
	(void)told_of(s, 400);
	CHECK_EQ(told_of(s, 1000), 0);
	close(other);
	hc_close(hc);
	t_daemon_stop(d);
#endif
}

TEST(batches_are_told_of_as_calls_and_their_keys_are_no_gets)
{
	NEEDS_PROBES();
#ifdef HC_PROBES
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct hc_store *s;
	struct hc *hc = open_at(d, &s);
	char key[KEYS][16], buf[KEYS][16];
	struct hc_mget_item it[KEYS];
	struct hc_view v;

	fill(s);
	for (uint32_t i = 0; i < KEYS; i++) {
		int k = snprintf(key[i], sizeof key[i], "k%u", 2 * i);
		it[i] = (struct hc_mget_item){.key = key[i],
			.key_bytes = (size_t)k,
			.buf = buf[i],
			.buf_bytes = sizeof buf[i]};
	}
	attach(true);
	int fd = probe(d, 1);
	(void)told_of(s, 100);
	CHECK_EQ(hc_view(s, "k1", 2, &v), HC_OK); /* it is told of, and held meanwhile */
	for (int n = 0; n < 20; n++) {
		CHECK_EQ(hc_mget(s, it, KEYS), HC_OK);
		for (uint32_t i = 0; i < KEYS; i++)
			CHECK_EQ(it[i].result, 2 * i < KEYS ? HC_OK : HC_MISS);
		CHECK(hc_probe_armed());
	}
	attach(false);
	CHECK_EQ(hc_view_release(&v), HC_OK); /* though nobody listens any more */
	close(fd);
	hc_close(hc);
	t_daemon_stop(d);
#endif
}

/* ------------------------------------------------------------------ as long as a tool lives */

TEST(what_a_dead_tool_wanted_does_not_stay)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	int ready[2];
	char c;

	CHECK_EQ(every_now(d), 0);
	CHECK(pipe(ready) == 0);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		CHECK(probe(d, 7) >= 0);
		CHECK_EQ(write(ready[1], "", 1), 1);
		for (;;)
			pause();
	}
	CHECK(t_wait_fd(ready[0], POLLIN, LIMIT_MS) && read(ready[0], &c, 1) == 1);
	CHECK_EQ(every_now(d), 7);
	(void)t_daemon_kill_engine(d, SIGKILL);
	(void)t_daemon_wait_engine(d, 0);
	CHECK_EQ(every_now(d), 7); /* another engine does not end it */
	CHECK_EQ(kill(pid, SIGKILL), 0);
	(void)t_wait_child(pid, LIMIT_MS);
	wait_every(d, 0);
	close(ready[0]);
	close(ready[1]);
	t_daemon_stop(d);
}

TEST(four_tools_may_listen_and_numbers_have_a_range)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	int fd[4];

	CHECK(probe(d, 0) < 0);
	CHECK(probe(d, 1000001) < 0);
	for (int i = 0; i < 4; i++) {
		fd[i] = probe(d, 1000000 - (uint64_t)i);
		CHECK(fd[i] >= 0);
	}
	CHECK(probe(d, 5) < 0);
	CHECK_EQ(every_now(d), 999997);
	close(fd[3]);
	wait_every(d, 999998);
	for (int i = 0; i < 3; i++)
		close(fd[i]);
	t_daemon_stop(d);
}
