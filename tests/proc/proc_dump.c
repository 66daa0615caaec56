/* proc_dump.c - does restore bring back what dump has written, and does nothing half-written or damaged get anywhere?
 *
 * Planted bugs (shm/step.h) that this file must catch: 725.
 */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../../daemon/archive/archive.h"
#include "../../shm/step.h"
#include "../kit/t_step.h"
#include "cli_run.h"
#include "hypercache.h"

enum {
	STABLE = 1500,
	CHURN = 700,
	CHURN_BYTES = 300,
	LARGE_BYTES = 3 << 20,
	WAIT_MS = 20000,
	HOUR_MS = 3600000
};

static const char config[] = "heartbeat: 100ms\n"
			     "pools:\n  main: {size: 24MiB, huge_pages: \"off\"}\n"
			     "stores:\n  default: {pool: main}\n"
			     "  slides: {pool: main, type: session, sliding: true}\n";
/* Another size, and a pool of another name. */
static const char other_config[] =
	"heartbeat: 100ms\n"
	"pools:\n  main: {size: 16MiB, huge_pages: \"off\", max_value: 2MiB}\n"
	"stores:\n  default: {pool: main}\n";

static struct hc *session(const struct t_daemon *d)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct hc *hc;

	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(WAIT_MS);
	CHECK_EQ(hc_open(&hc, &o), HC_OK);
	return hc;
}

static struct hc_store *store(struct hc *hc, const char *name)
{
	struct hc_store *s;

	CHECK_EQ(hc_store(hc, name, &s), HC_OK);
	return s;
}

static void set_opts(struct hc_store *s, const char *key, size_t key_bytes, const char *value,
	size_t value_bytes, const struct hc_set_opts *o)
{
	CHECK_EQ(hc_set(s, key, key_bytes, value, value_bytes, o), HC_OK);
}

/* One of each kind. */
static void fill(struct hc *hc)
{
	struct hc_store *s = store(hc, "default"), *slides = store(hc, "slides");
	struct hc_set_opts o = HC_OPTS(hc_set_opts);
	char *large = calloc(1, LARGE_BYTES);

	CHECK(large);
	memset(large, 'L', LARGE_BYTES);
	set_opts(s, "plain", 5, "value", 5, NULL);
	set_opts(s, "\0\xff\n", 3, "\0\1", 2, NULL);
	set_opts(s, "empty", 5, "", 0, NULL);
	set_opts(s, "large", 5, large, LARGE_BYTES, NULL);
	o.flags = 0xfeed;
	o.stamp = 42;
	o.ttl_ms = HOUR_MS;
	set_opts(s, "marked", 6, "m", 1, &o);
	o = (struct hc_set_opts)HC_OPTS(hc_set_opts);
	o.fresh_ms = HOUR_MS;
	set_opts(s, "fresh", 5, "f", 1, &o);
	o = (struct hc_set_opts)HC_OPTS(hc_set_opts);
	o.absent = 1;
	o.ttl_ms = HOUR_MS;
	set_opts(s, "absent", 6, "", 0, &o);
	o = (struct hc_set_opts)HC_OPTS(hc_set_opts);
	o.ttl_ms = 2 * HOUR_MS;
	set_opts(slides, "user", 4, "u", 1, &o);
	CHECK_EQ(hc_touch(slides, "user", 4, HOUR_MS), HC_OK);
	free(large);
}

static void expect(struct hc_store *s, const char *key, size_t key_bytes, const char *value,
	size_t value_bytes)
{
	char buf[64];
	size_t n;

	CHECK_EQ(hc_get(s, key, key_bytes, buf, sizeof buf, &n), HC_OK);
	CHECK_EQ(n, value_bytes);
	CHECK_EQ(memcmp(buf, value, n), 0);
}

static struct hc_meta meta(struct hc_store *s, const char *key)
{
	struct hc_meta m = HC_OPTS(hc_meta);

	CHECK_EQ(hc_meta(s, key, strlen(key), &m), HC_OK);
	return m;
}

static void expect_filled(struct hc *hc, bool large)
{
	struct hc_store *s = store(hc, "default"), *slides = store(hc, "slides");
	struct hc_lease lease;
	struct hc_view v;
	char buf[8];
	size_t n;

	expect(s, "plain", 5, "value", 5);
	expect(s, "\0\xff\n", 3, "\0\1", 2);
	expect(s, "empty", 5, "", 0);
	CHECK_EQ(hc_view(s, "large", 5, &v), large ? HC_OK : HC_MISS);
	if (large) {
		CHECK_EQ(v.value_bytes, LARGE_BYTES);
		CHECK_EQ(((const char *)v.value)[LARGE_BYTES - 1], 'L');
		CHECK_EQ(hc_view_release(&v), HC_OK);
	}
	struct hc_meta m = meta(s, "marked");
	CHECK_EQ(m.flags, 0xfeed);
	CHECK_EQ(m.stamp, 42);
	CHECK(m.expires_in_ms > 0 && m.expires_in_ms <= HOUR_MS);
	CHECK_EQ(meta(s, "plain").expires_in_ms, -1);
	CHECK_EQ(hc_get_or_lease(s, "fresh", 5, buf, sizeof buf, &n, NULL, &lease), HC_OK);
	CHECK_EQ(hc_get_or_lease(s, "absent", 6, buf, sizeof buf, &n, NULL, &lease), HC_ABSENT);
	m = meta(slides, "user");
	CHECK_EQ(m.ttl_ms, 2 * HOUR_MS); /* what each use gives it */
	CHECK(m.expires_in_ms > 0 && m.expires_in_ms <= HOUR_MS);
}

static struct t_daemon *filled(void)
{
	struct t_daemon *d = t_daemon_start(config, NULL);
	struct hc *hc = session(d);

	fill(hc);
	hc_close(hc);
	return d;
}

static void expect_says(
	const struct t_daemon *d, int status, const char *text, const char *const *args)
{
	struct result r = run(d, args);

	if (r.status != status || (!strstr(r.err, text) && !strstr(r.out, text)))
		t_fail(__FILE__, __LINE__, "status %d, wanted %d with \"%s\":\n%s%s", r.status,
			status, text, r.out, r.err);
	result_free(&r);
}

/* ------------------------------------------------------------ what comes back */

TEST(every_kind_of_entry_comes_back)
{
	struct t_daemon *d = filled();
	struct hc *hc = session(d);
	const char *file = t_path("all.hca");

	expect_says(d, 0, "8 entries of 2 stores", ARGS("dump", file));
	expect_says(NULL, 0, "8 entries are whole", ARGS("restore", "--verify", file));
	CHECK_EQ(hc_clear(store(hc, "default"), NULL), HC_OK);
	CHECK_EQ(hc_clear(store(hc, "slides"), NULL), HC_OK);
	expect_says(d, 0, "8 entries", ARGS("restore", file));
	expect_filled(hc, true);
	expect_says(d, 0, "\"entries\":1,", ARGS("dump", file, "slides", "--json", "--compress"));
	expect_says(d, 0, "\"restored\":1,", ARGS("restore", file, "--json"));
	hc_close(hc);
	t_daemon_stop(d);
}

TEST(another_daemon_with_another_layout_takes_it)
{
	struct t_daemon *d = filled(), *other = t_daemon_start(other_config, NULL);
	const char *file = t_path("all.hca");
	struct hc *hc = session(other);

	check_status(d, 0, ARGS("dump", file));
	t_daemon_stop(d);
	expect_says(
		other, 5, "a store \"slides\", and this daemon has none", ARGS("restore", file));
	CHECK_EQ(hc_exists(store(hc, "default"), "plain", 5), HC_MISS); /* nothing was begun */
	expect_says(other, 5, "1 are larger than the store's max_value",
		ARGS("restore", file, "--create"));
	hc_close(hc);
	hc = session(other);
	expect_filled(hc, false);
	hc_close(hc);
	t_daemon_stop(other);
}

TEST(add_leaves_what_is_there_and_a_store_is_taken_alone)
{
	struct t_daemon *d = filled();
	struct hc *hc = session(d);
	struct hc_store *s = store(hc, "default");
	const char *file = t_path("all.hca");

	check_status(d, 0, ARGS("dump", file));
	CHECK_EQ(hc_set(s, "plain", 5, "other", 5, NULL), HC_OK);
	CHECK_EQ(hc_delete(s, "marked", 6), HC_OK);
	CHECK_EQ(hc_delete(store(hc, "slides"), "user", 4), HC_OK);
	expect_says(
		d, 0, "were there already", ARGS("restore", file, "--add", "--store", "default"));
	expect(s, "plain", 5, "other", 5);
	expect(s, "marked", 6, "m", 1);
	CHECK_EQ(hc_exists(store(hc, "slides"), "user", 4), HC_MISS);
	check_status(d, 0, ARGS("restore", file, "slides"));
	CHECK_EQ(hc_exists(store(hc, "slides"), "user", 4), HC_OK);
	expect(s, "plain", 5, "other", 5);
	hc_close(hc);
	t_daemon_stop(d);
}

TEST(what_is_over_is_left_out)
{
	struct t_daemon *d = filled();
	const char *file = t_path("old.hca");
	struct archive_writer *w;
	const struct archive_store stores = {.name = "default"};
	struct archive_entry e[2] = {{.key = "over", .key_bytes = 4, .expires_ns = 1000},
		{.key = "here", .key_bytes = 4}};
	int fd = open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	struct hc *hc = session(d);

	CHECK(fd >= 0);
	CHECK_EQ(archive_writer_new(&w, fd, &(struct archive_head){0}, &stores, 1, NULL), 0);
	CHECK_EQ(archive_put(w, &e[0]), 0);
	CHECK_EQ(archive_put(w, &e[1]), 0);
	CHECK_EQ(archive_finish(w, NULL), 0);
	archive_writer_free(w);
	CHECK_EQ(close(fd), 0);
	expect_says(d, 0, "1 were left out: their time is over", ARGS("restore", file));
	CHECK_EQ(hc_exists(store(hc, "default"), "over", 4), HC_MISS);
	CHECK_EQ(hc_exists(store(hc, "default"), "here", 4), HC_OK);
	hc_close(hc);
	t_daemon_stop(d);
}

TEST(pipe_from_store_to_store)
{
	struct t_daemon *d = filled();
	char *line, *out;

	CHECK(asprintf(&line, "'%s' --socket '%s' dump - default | '%s' restore --verify -",
		      t_bin("hypercache"), d->socket, t_bin("hypercache")) > 0);
	CHECK_EQ(t_run((const char *[]){"/bin/sh", "-c", line, NULL}, NULL, 0, &out, NULL, NULL,
			 LIMIT_MS),
		0);
	CHECK(strstr(out, "7 entries are whole"));
	free(line);
	free(out);
	t_daemon_stop(d);
}

/* ------------------------------------------------------------ beside writers */

/* Overwrites the keys that stay, and sets and deletes others, until it is killed. */
_Noreturn static void churn(const struct t_daemon *d, uint32_t seed)
{
	struct hc *hc = session(d);
	struct hc_store *s = store(hc, "default");
	char key[32], value[CHURN_BYTES];
	uint64_t state = seed;

	for (;;) {
		uint32_t at = (uint32_t)(t_random_from(&state) % (STABLE + CHURN));
		size_t n = 1 + t_random_from(&state) % CHURN_BYTES;
		int k = snprintf(key, sizeof key, "%s-%u", at < STABLE ? "stays" : "goes", at);
		memset(value, 'a' + (int)(t_random_from(&state) % 26), n);
		if (at >= STABLE && t_random_from(&state) % 2)
			(void)hc_delete(s, key, (size_t)k);
		else
			CHECK_EQ(hc_set(s, key, (size_t)k, value, n, NULL), HC_OK);
	}
}

/* Each key that stays is in it once; no key is twice; each value is of one letter. */
static void check_archive(const char *file)
{
	static uint8_t met[STABLE + CHURN];
	struct archive_reader *r;
	struct archive_entry e;
	int fd = open(file, O_RDONLY | O_CLOEXEC), got;

	CHECK(fd >= 0);
	memset(met, 0, sizeof met);
	CHECK_EQ(archive_reader_new(&r, fd), 0);
	while ((got = archive_next(r, &e)) == 0) {
		char key[32] = "";
		const char *value = e.value;
		CHECK(e.key_bytes < sizeof key);
		memcpy(key, e.key, e.key_bytes);
		uint64_t at = strtoull(strchr(key, '-') + 1, NULL, 10);
		CHECK(at < STABLE + CHURN);
		CHECK_EQ(met[at]++, 0);
		CHECK(e.value_bytes >= 1 && e.value_bytes <= CHURN_BYTES);
		for (uint32_t i = 1; i < e.value_bytes; i++)
			CHECK(value[i] == value[0]);
	}
	CHECK_EQ(got, ARCHIVE_END);
	for (uint32_t i = 0; i < STABLE; i++)
		CHECK_EQ(met[i], 1);
	archive_reader_free(r);
	CHECK_EQ(close(fd), 0);
}

TEST_LIMIT(dump_beside_writers_has_each_key_once_and_whole, 60)
{
	struct t_daemon *d = t_daemon_start(config, NULL);
	struct hc *hc = session(d);
	struct hc_store *s = store(hc, "default");
	pid_t pid[2];
	char key[32];

	for (uint32_t i = 0; i < STABLE; i++) {
		int k = snprintf(key, sizeof key, "stays-%u", i);
		CHECK_EQ(hc_set(s, key, (size_t)k, "aaaa", 4, NULL), HC_OK);
	}
	fflush(NULL);
	for (uint32_t i = 0; i < 2; i++) {
		pid[i] = fork();
		CHECK(pid[i] >= 0);
		if (pid[i] == 0)
			churn(d, 7 + i);
	}
	for (int i = 0; i < 8; i++) {
		check_status(d, 0, ARGS("dump", t_path("churned.hca")));
		check_archive(t_path("churned.hca"));
	}
	for (uint32_t i = 0; i < 2; i++) {
		CHECK_EQ(kill(pid[i], SIGKILL), 0);
		(void)t_wait_child(pid[i], WAIT_MS);
	}
	hc_close(hc);
	t_daemon_stop(d);
}

/* ------------------------------------------------------------ what goes wrong */

static void damage(const char *file, off_t at)
{
	int fd = open(file, O_RDWR | O_CLOEXEC);
	uint8_t byte;

	CHECK(fd >= 0);
	CHECK_EQ(pread(fd, &byte, 1, at), 1);
	byte ^= 0x40;
	CHECK_EQ(pwrite(fd, &byte, 1, at), 1);
	CHECK_EQ(close(fd), 0);
}

TEST(of_a_damaged_file_nothing_is_restored)
{
	struct t_daemon *d = filled();
	struct hc *hc = session(d);
	const char *file = t_path("bad.hca");
	struct stat st;

	check_status(d, 0, ARGS("dump", file));
	CHECK_EQ(stat(file, &st), 0);
	CHECK_EQ(hc_clear(store(hc, "default"), NULL), HC_OK);
	damage(file, st.st_size - 100);
	expect_says(d, 5, "bad.hca: byte ", ARGS("restore", file));
	expect_says(NULL, 5, "its checksum is wrong", ARGS("restore", file, "--verify"));
	CHECK_EQ(truncate(file, st.st_size / 2), 0);
	expect_says(d, 5, "the file ends at byte", ARGS("restore", file));
	CHECK_EQ(truncate(file, 0), 0);
	expect_says(d, 5, "this is no archive", ARGS("restore", file));
	expect_says(d, 5, "No such file", ARGS("restore", "/nowhere/at/all"));
	CHECK_EQ(hc_exists(store(hc, "default"), "plain", 5), HC_MISS);
	hc_close(hc);
	t_daemon_stop(d);
}

TEST(arguments_that_cannot_be)
{
	struct t_daemon *d = filled();
	const char *file = t_path("x.hca");

	expect_says(d, 5, "there is no store \"nosuch\"", ARGS("dump", file, "nosuch"));
	CHECK(access(file, F_OK) < 0);
	expect_says(d, 5, "cannot write it: No such file", ARGS("dump", "/nowhere/at/all"));
	expect_says(d, 5, "cannot write it: Is a directory", ARGS("dump", t_dir()));
	check_status(d, 2, ARGS("dump"));
	check_status(d, 2, ARGS("restore", file, "--compress"));
	check_status(d, 0, ARGS("dump", file));
	expect_says(d, 5, "there is no store \"nosuch\" in it",
		ARGS("restore", file, "--store", "nosuch"));
	const struct t_daemon gone = *d; /* its paths are needed */
	t_daemon_stop(d);
	check_status(&gone, 3, ARGS("dump", file));
	check_status(&gone, 3, ARGS("restore", file));
}

/* A disk that is full, as far as a process can have it to itself: a limit of its files' size. */
TEST(full_disk_leaves_the_former_file)
{
	struct t_daemon *d = filled();
	const char *file = t_path("it.hca");
	char *line, *err;
	struct stat before, after;

	check_status(d, 0, ARGS("dump", file, "slides"));
	CHECK_EQ(stat(file, &before), 0);
	CHECK(asprintf(&line, "ulimit -f 64; exec '%s' --socket '%s' dump '%s'",
		      t_bin("hypercache"), d->socket, file) > 0);
	CHECK_EQ(t_run((const char *[]){"/bin/sh", "-c", line, NULL}, NULL, 0, NULL, NULL, &err,
			 LIMIT_MS),
		5);
	CHECK(strstr(err, "cannot write it: File too large; nothing has changed there"));
	CHECK_EQ(stat(file, &after), 0);
	CHECK_EQ(after.st_ino, before.st_ino);
	check_status(NULL, 0, ARGS("restore", file, "--verify"));
	free(line);
	free(err);
	t_daemon_stop(d);
}

#ifdef HC_STEPS
TEST(killed_at_any_moment_it_leaves_the_former_file_or_the_new_one)
{
	static const char *const marks[] = {
		"dump:page-put", "archive:synced", "archive:linked", "archive:renamed"};
	struct t_daemon *d = filled();
	const char *file = t_path("it.hca"), *once = t_path("once");
	char order[T_PATH_BYTES + 64];

	check_status(d, 0, ARGS("dump", file, "slides"));
	for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
		int fd = open(once, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
		CHECK(fd >= 0);
		CHECK_EQ(close(fd), 0);
		(void)snprintf(order, sizeof order, "HC_STEP=kill:%s:1:%s", marks[i], once);
		const char *const env[] = {order, NULL};
		struct t_proc *p = t_spawn((const char *[]){t_bin("hypercache"), "--socket",
						   d->socket, "dump", file, NULL},
			&(struct t_spawn_opts){.env = env});
		CHECK_EQ(t_proc_exit(p, LIMIT_MS), 128 + SIGKILL);
		t_proc_free(p);
		expect_says(NULL, 0, i < 3 ? "1 entries are whole" : "8 entries are whole",
			ARGS("restore", file, "--verify"));
		t_step_killed(marks[i]);
	}
	t_daemon_stop(d);
}
#endif
