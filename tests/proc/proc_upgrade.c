/* proc_upgrade.c - does another binary go on with the memory, without anybody noticing but who writes, and is one that
 * cannot refused without anybody noticing at all?
 *
 * Planted bugs (shm/step.h) that this file must catch: 774 and 776. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include "atomic.h"
#include "cli_run.h"
#include "hypercache.h"
#include "upgrade.h"

enum {
	WAIT_MS = 60000,
	READERS = 2,
	WRITERS = 2,
	KEYS = 200, /* of each writer */
	VALUE_BYTES = 300,
	UPGRADES = 6,
};

/* --------------------------------------------------------------------- clients */

/* Between the test and its clients. */
struct shared {
	shm_u32 stop, up[READERS + WRITERS];
	shm_u64 reads[READERS], writes[WRITERS];
};

struct client {
	struct hc *hc;
	struct hc_store *s;
};

static struct client client_open(const struct t_daemon *d)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct client c;

	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(WAIT_MS);
	o.stale = HC_STALE_FAIL; /* who takes the daemon for dead fails */
	CHECK_EQ(hc_open(&c.hc, &o), HC_OK);
	CHECK_EQ(hc_store(c.hc, "default", &c.s), HC_OK);
	return c;
}

static size_t key_of(uint32_t writer, uint32_t i, char key[32])
{
	return (size_t)snprintf(key, 32, "key-%u-%u", writer, i);
}

/* A value says whose it is and which one, and every byte of it depends on both. */
static void value_make(uint32_t writer, uint32_t i, uint64_t version, uint8_t value[VALUE_BYTES])
{
	uint64_t state = version * 1000003 + writer * 1009 + i;

	memcpy(value, &version, sizeof version);
	for (size_t at = sizeof version; at < VALUE_BYTES; at++)
		value[at] = (uint8_t)t_random_from(&state);
}

/* The version that it says. */
static uint64_t value_check(uint32_t writer, uint32_t i, const uint8_t *value, size_t n)
{
	uint8_t right[VALUE_BYTES];
	uint64_t version;

	CHECK_EQ(n, VALUE_BYTES);
	memcpy(&version, value, sizeof version);
	value_make(writer, i, version, right);
	CHECK(memcmp(value, right, VALUE_BYTES) == 0);
	return version;
}

static uint64_t read_one(const struct client *c, uint32_t writer, uint32_t i)
{
	uint8_t buf[VALUE_BYTES];
	char key[32];
	size_t n = 0;

	CHECK_EQ(hc_get(c->s, key, key_of(writer, i, key), buf, sizeof buf, &n), HC_OK);
	return value_check(writer, i, buf, n);
}

static void reader_run(const struct t_daemon *d, struct shared *sh, uint32_t me)
{
	uint64_t seed = t_seed() + me;
	static uint64_t last[WRITERS][KEYS];
	struct client c = client_open(d);

	shm_store32_rel(&sh->up[me], 1);     /* rel:test.stop */
	while (!shm_load32_acq(&sh->stop)) { /* acq:test.stop */
		uint32_t w = (uint32_t)(t_random_from(&seed) % WRITERS),
			 i = (uint32_t)(t_random_from(&seed) % KEYS);
		uint64_t version = read_one(&c, w, i);
		CHECK(version >= last[w][i]);
		last[w][i] = version;
		shm_count(&sh->reads[me], 1);
	}
	hc_close(c.hc);
}

/* Each is answered, and has happened once. */
static void writer_run(const struct t_daemon *d, struct shared *sh, uint32_t me)
{
	uint8_t value[VALUE_BYTES];
	struct client c = client_open(d);
	char key[32], counter[32];
	size_t counter_n = (size_t)snprintf(counter, sizeof counter, "count-%u", me);
	int64_t sum, n = 0;

	shm_store32_rel(&sh->up[READERS + me], 1); /* rel:test.stop */
	while (!shm_load32_acq(&sh->stop)) {       /* acq:test.stop */
		value_make(me, (uint32_t)(n % KEYS), (uint64_t)n + 2, value);
		CHECK_EQ(hc_set(c.s, key, key_of(me, (uint32_t)(n % KEYS), key), value,
				 sizeof value, NULL),
			HC_OK);
		CHECK_EQ(hc_incr(c.s, counter, counter_n, 1, NULL, &sum), HC_OK);
		CHECK_EQ(sum, ++n);
		shm_store_rlx(&sh->writes[me], (uint64_t)n);
	}
	hc_close(c.hc);
}

static void fill(const struct client *c)
{
	uint8_t value[VALUE_BYTES];
	char key[32];

	for (uint32_t w = 0; w < WRITERS; w++)
		for (uint32_t i = 0; i < KEYS; i++) {
			value_make(w, i, 1, value);
			CHECK_EQ(hc_set(c->s, key, key_of(w, i, key), value, sizeof value, NULL),
				HC_OK);
		}
}

static struct shared *clients_start(const struct t_daemon *d, pid_t pid[READERS + WRITERS])
{
	struct shared *sh = mmap(
		NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(WAIT_MS) * 1000000;

	CHECK(sh != MAP_FAILED);
	for (uint32_t i = 0; i < READERS + WRITERS; i++) {
		pid[i] = fork();
		CHECK(pid[i] >= 0);
		if (pid[i] == 0) {
			if (i < READERS)
				reader_run(d, sh, i);
			else
				writer_run(d, sh, i - READERS);
			_exit(0);
		}
	}
	for (int i = 0; i < READERS + WRITERS; i++)
		while (!shm_load32_acq(&sh->up[i])) { /* acq:test.stop */
			CHECK(t_now_ns() < end_ns);
			(void)t_wait_fd(-1, 0, 1);
		}
	return sh;
}

static void clients_end(struct shared *sh, const pid_t pid[READERS + WRITERS])
{
	shm_store32_rel(&sh->stop, 1); /* rel:test.stop */
	for (int i = 0; i < READERS + WRITERS; i++)
		CHECK_EQ(t_wait_child(pid[i], WAIT_MS), 0);
}

/* Until everybody has done something more. */
static void wait_progress(const struct shared *sh)
{
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(WAIT_MS) * 1000000;

	for (int i = 0; i < READERS + WRITERS; i++) {
		const shm_u64 *n = i < READERS ? &sh->reads[i] : &sh->writes[i - READERS];
		uint64_t was = shm_load_rlx(n);
		while (shm_load_rlx(n) < was + 5) {
			CHECK(t_now_ns() < end_ns);
			(void)t_wait_fd(-1, 0, 1);
		}
	}
}

/* ------------------------------------------------------------------- upgrades */

/* The binary that runs. */
static const char *exe(const struct t_daemon *d)
{
	static char path[4096];
	char link[64];

	(void)snprintf(link, sizeof link, "/proc/%d/exe", (int)d->proc->pid);
	ssize_t n = readlink(link, path, sizeof path - 1);
	CHECK(n > 0);
	path[n] = 0;
	return path;
}

/* What must stay as it is. */
static char *shown(const struct t_daemon *d)
{
	struct result r = run(d, ARGS("config", "show"));

	CHECK_EQ(r.status, 0);
	free(r.err);
	return r.out;
}

static const char yaml[] = "log_level: info\nstores:\n  default: {ttl: 1h}\n  s: {policy: lru}\n";

TEST_LIMIT(another_binary_goes_on_and_nobody_notices_but_who_writes, 120)
{
	const char *path[] = {other("hypercached", "one"), other("tests/upgrade_other", "two")};
	struct t_daemon *d = t_daemon_start(yaml, NULL);
	struct client c = client_open(d);
	struct hc_info before = {.size = sizeof before}, after = before;
	struct hc_view v;
	pid_t pid[READERS + WRITERS];
	char key[32];

	check_status(d, 0, ARGS("store", "create", "byhand", "ttl=5m"));
	fill(&c);
	CHECK_EQ(hc_set(c.s, "held", 4, "still", 5, NULL), HC_OK);
	CHECK_EQ(hc_view(c.s, "held", 4, &v), HC_OK);
	CHECK_EQ(hc_info(c.hc, &before), HC_OK);
	char *was = shown(d);
	struct shared *sh = clients_start(d, pid);
	for (int i = 0; i < UPGRADES; i++) {
		wait_progress(sh);
		if (i % 3 == 2) { /* the same file again */
			t_proc_signal(d->proc, SIGUSR2);
			free(t_proc_line(d->proc, "upgraded from", WAIT_MS));
		} else {
			check_status(d, 0, ARGS("upgrade", path[i % 2]));
			CHECK_STR(exe(d), path[i % 2]);
			free(t_proc_line(d->proc, "upgraded from", WAIT_MS));
		}
		wait_progress(sh);
	}
	clients_end(sh, pid);
	CHECK_EQ(hc_set(c.s, key, key_of(9, 9, key), "x", 1, NULL), HC_OK);
	CHECK_EQ(hc_info(c.hc, &after), HC_OK);
	CHECK_EQ(after.session_id, before.session_id);
	CHECK_EQ(after.engine_gen, before.engine_gen + UPGRADES);
	CHECK_EQ(hc_view_ok(&v), 1);
	CHECK(v.value_bytes == 5 && memcmp(v.value, "still", 5) == 0);
	CHECK_EQ(hc_view_release(&v), HC_OK);
	char *is = shown(d);
	CHECK_STR(was, is);
	free(was);
	free(is);
	check_status(d, 0, ARGS("fsck"));
	check_status(d, 0, ARGS("store", "create", "later"));
	check_status(d, 0, ARGS("reload"));
	fprintf(stderr, "  %llu reads, %llu writes, %d upgrades\n",
		(unsigned long long)(shm_load_rlx(&sh->reads[0]) + shm_load_rlx(&sh->reads[1])),
		(unsigned long long)(shm_load_rlx(&sh->writes[0]) + shm_load_rlx(&sh->writes[1])),
		UPGRADES);
	CHECK_EQ(munmap(sh, sizeof *sh), 0);
	hc_close(c.hc);
	t_daemon_stop(d);
}

/* Refused; says `text`, and nothing has happened to the engine. */
static void refused(struct t_daemon *d, const char *path, const char *text)
{
	pid_t engine = t_daemon_engine(d);
	char was[4096];

	(void)snprintf(was, sizeof was, "%s", exe(d));
	struct result r = run_for(d, NULL, 0, ARGS("upgrade", path), WAIT_MS);
	if (r.status != 5 || !strstr(r.err, text))
		t_fail(__FILE__, __LINE__, "%s: status %d: %s%s", path, r.status, r.out, r.err);
	result_free(&r);
	CHECK_STR(exe(d), was);
	CHECK_EQ(t_daemon_engine(d), engine);
}

TEST_LIMIT(a_binary_that_cannot_is_refused_and_nothing_happens, 120)
{
	struct t_daemon *d = t_daemon_start(yaml, NULL);
	struct client c = client_open(d);

	fill(&c);
	refused(d, other("tests/upgrade_other", "check-exit"), "ended with status 9");
	refused(d, other("tests/upgrade_other", "check-crash"), "died of signal 6");
	refused(d, other("tests/upgrade_other", "check-hang"), "did not say");
	refused(d, other("tests/upgrade_layout", "layout"), "it is of layout 2");
	refused(d, "/bin/true", "is it a hypercached?");
	refused(d, "/etc/passwd", "is no program");
	refused(d, "/dev/null", "is no program");
	const char *path = other("hypercached", "open");
	CHECK_EQ(chmod(path, 0777), 0);
	refused(d, path, "others may write");
	CHECK_EQ(chmod(path, 0755), 0);
	CHECK_EQ(truncate(path, 100), 0);
	refused(d, path, "cannot be executed");
	if (geteuid() == 0) {
		CHECK_EQ(chown(path, 65534, 65534), 0);
		refused(d, path, "belongs to user 65534");
	}
	check_status(d, 2, ARGS("upgrade", t_path("nowhere")));
	CHECK_EQ(read_one(&c, 0, 0), 1);
	CHECK_EQ(hc_set(c.s, "key", 3, "x", 1, NULL), HC_OK);
	hc_close(c.hc);
	t_daemon_stop(d);
}

/* It passes its trial, but no engine of it serves: the one that was there before goes on. */
TEST(a_binary_whose_engine_crashes_gives_way_to_the_former)
{
	struct t_daemon *d = t_daemon_start(yaml, NULL);
	struct client c = client_open(d);
	char was[4096];

	fill(&c);
	(void)snprintf(was, sizeof was, "%s", exe(d));
	struct result r = run_for(
		d, NULL, 0, ARGS("upgrade", other("tests/upgrade_other", "engine-crash")), WAIT_MS);
	CHECK_EQ(r.status, 5);
	CHECK(strstr(r.err, "its engine ended before it served") != NULL);
	result_free(&r);
	CHECK_STR(exe(d), was);
	CHECK_EQ(read_one(&c, 1, 1), 1);
	CHECK_EQ(hc_set(c.s, "key", 3, "x", 1, NULL), HC_OK);
	check_status(d, 0, ARGS("upgrade", other("hypercached", "good")));
	CHECK_EQ(read_one(&c, 1, 1), 1);
	hc_close(c.hc);
	t_daemon_stop(d);
}

/* With hardening: strict there is nothing that a new engine could have. */
TEST(strict_memory_is_not_upgraded)
{
	struct t_daemon *d = t_daemon_start("hardening: strict\n", NULL);
	struct result r = run(d, ARGS("upgrade", "--json"));

	CHECK_EQ(r.status, 5);
	CHECK(strstr(r.out, "hardening: strict") != NULL);
	result_free(&r);
	t_daemon_stop(d);
}
