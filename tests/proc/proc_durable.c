/* proc_durable.c - durable stores as a user meets them: what is there after which end, which folders are refused, and
 * what happens when the disk does not do as it should.  Deaths at every moment are asked in crash_durable. */
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "atomic.h"
#include "hc_i.h"
#include "hypercache.h"

enum { LIMIT_MS = 20000, CLIENT_MS = 30000, SHORT_MS = 1000 };

#define SMALL "heartbeat: 100ms\nwal_segment: 1MiB\nwal_staging: 1MiB\n"
#define POOL "pools: { main: { size: 16MiB, huge_pages: \"off\" } }\n"
static const char config[] = SMALL POOL
	"stores: { sure: { durability: sync }, soon: { durability: async }, default: {} }\n";

/* ------------------------------------------------------------------- clients */

static struct hc *client(const struct t_daemon *d, int timeout_ms)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct hc *hc;

	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(timeout_ms);
	CHECK_EQ(hc_open(&hc, &o), HC_OK);
	return hc;
}

static struct hc_store *store(struct hc *hc, const char *name)
{
	struct hc_store *s;

	CHECK_EQ(hc_store(hc, name, &s), HC_OK);
	return s;
}

static int set(struct hc_store *s, const char *key, const char *value)
{
	return hc_set(s, key, strlen(key), value, strlen(value), NULL);
}

static bool has(struct hc_store *s, const char *key, const char *value)
{
	char got[64];
	size_t n = 0;

	return hc_get(s, key, strlen(key), got, sizeof got, &n) == HC_OK && n == strlen(value) &&
	       memcmp(got, value, n) == 0;
}

static uint64_t counter(const struct hc *hc, enum shm_daemon_counter c)
{
	return shm_load_rlx(&hc->ctl->counter[c]);
}

/* All die, and another daemon starts on what is on disk. */
static void power_loss(struct t_daemon *d)
{
	t_daemon_all_die(d);
	t_daemon_again(d, NULL, NULL);
	t_daemon_wait_ready(d);
}

/* A start that is refused, with these words.  Its status is 1. */
static void check_refused(struct t_daemon *d, const char *option, const char *words)
{
	t_daemon_again(d, option, NULL);
	free(t_proc_line(d->proc, words, LIMIT_MS));
	CHECK_EQ(t_proc_exit(d->proc, LIMIT_MS), 1);
	t_proc_free(d->proc);
	d->proc = NULL;
}

/* ------------------------------------------------------------------ what stays */

TEST(a_good_end_keeps_all_of_durable_stores)
{
	struct t_daemon *d = t_daemon_start(config, NULL);
	struct hc_set_opts o = HC_OPTS(hc_set_opts);
	struct hc_meta m = HC_OPTS(hc_meta);
	struct hc *hc = client(d, CLIENT_MS);
	struct hc_store *sure = store(hc, "sure"), *soon = store(hc, "soon");

	o.flags = 77;
	o.ttl_ms = 3600000;
	CHECK_EQ(hc_set(sure, "k", 1, "value", 5, &o), HC_OK);
	o.ttl_ms = 1;
	CHECK_EQ(hc_set(sure, "brief", 5, "value", 5, &o), HC_OK);
	CHECK_EQ(hc_append(sure, "k", 1, "+more", 5, NULL), HC_OK);
	CHECK_EQ(set(soon, "s", "1"), HC_OK);
	CHECK_EQ(set(store(hc, "default"), "n", "1"), HC_OK);
	CHECK_EQ(hc_meta(sure, "k", 1, &m), HC_OK);
	uint64_t version = m.version, created_ns = m.created_ns;
	hc_close(hc);
	t_daemon_end(d);
	t_daemon_again(d, NULL, NULL);
	t_daemon_wait_ready(d);
	hc = client(d, CLIENT_MS);
	sure = store(hc, "sure");
	CHECK(has(sure, "k", "value+more"));
	CHECK_EQ(hc_meta(sure, "k", 1, &m), HC_OK);
	CHECK_EQ(m.version, version);
	CHECK_EQ(m.created_ns, created_ns);
	CHECK_EQ(m.flags, 77);
	CHECK(m.expires_in_ms > 0 && m.expires_in_ms <= 3600000);
	CHECK_EQ(hc_exists(sure, "brief", 5), HC_MISS);
	CHECK(has(store(hc, "soon"), "s", "1"));
	CHECK_EQ(hc_exists(store(hc, "default"), "n", 1), HC_MISS);
	CHECK_EQ(set(sure, "k", "new"), HC_OK);
	CHECK_EQ(hc_meta(sure, "k", 1, &m), HC_OK);
	CHECK(m.version > version);
	hc_close(hc);
	t_daemon_stop(d);
}

TEST(a_store_that_was_dropped_stays_empty)
{
	struct t_daemon *d = t_daemon_start(config, NULL);
	struct hc *hc = client(d, CLIENT_MS);

	CHECK_EQ(set(store(hc, "sure"), "k", "1"), HC_OK);
	CHECK_EQ(set(store(hc, "soon"), "k", "1"), HC_OK);
	CHECK_EQ(t_run((const char *[]){t_bin("hypercache"), "--admin", d->admin, "store", "drop",
			       "--force", "sure", NULL},
			 NULL, 0, NULL, NULL, NULL, LIMIT_MS),
		0);
	CHECK_EQ(set(store(hc, "soon"), "behind", "1"), HC_OK);
	hc_close(hc);
	t_daemon_end(d);
	t_daemon_again(d, NULL, NULL);
	t_daemon_wait_ready(d);
	hc = client(d, CLIENT_MS);
	CHECK_EQ(hc_exists(store(hc, "sure"), "k", 1), HC_MISS);
	CHECK(has(store(hc, "soon"), "k", "1"));
	CHECK(has(store(hc, "soon"), "behind", "1"));
	hc_close(hc);
	t_daemon_stop(d);
}

/* Rule P26: it may have been evicted, and the log may not have heard of that. */
TEST(the_log_hears_of_a_delete_of_nothing)
{
	struct t_daemon *d = t_daemon_start(config, NULL);
	struct hc *hc = client(d, CLIENT_MS);
	uint64_t before = counter(hc, SHM_DC_log_durable_lsn);

	CHECK_EQ(hc_delete(store(hc, "sure"), "nothing", 7), HC_MISS);
	CHECK(counter(hc, SHM_DC_log_durable_lsn) > before);
	hc_close(hc);
	t_daemon_stop(d);
}

#ifdef HC_STEPS
/* A change whose engine died before it happened, and whose client did not ask again, is not there later either. */
TEST(what_never_happened_does_not_come_to_life)
{
	char order[512];
	const char *once = t_path("once");

	int fd = open(once, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	CHECK(fd >= 0);
	(void)close(fd);
	(void)snprintf(order, sizeof order, "HC_STEP=kill:log:put:2:%s", once);
	struct t_daemon *d = t_daemon_start(config, (const char *[]){order, NULL});
	struct hc *hc = client(d, CLIENT_MS);
	CHECK_EQ(set(store(hc, "sure"), "first", "1"), HC_OK);
	hc_close(hc);
	pid_t engine = t_daemon_engine(d);
	int ready[2], go[2];
	CHECK(pipe2(ready, O_CLOEXEC) == 0 && pipe2(go, O_CLOEXEC) == 0);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		char c = 0;
		hc = client(d, CLIENT_MS);
		if (write(ready[1], "", 1) == 1 && read(go[0], &c, 1) == 1)
			(void)set(store(hc, "sure"), "never", "1");
		_exit(0);
	}
	CHECK(t_wait_fd(ready[0], POLLIN, LIMIT_MS));
	t_proc_signal(d->proc, SIGSTOP); /* no other engine, until the client is gone */
	CHECK_EQ(write(go[1], "", 1), 1);
	t_wait_path(once, false, LIMIT_MS);
	CHECK_EQ(kill(pid, SIGKILL), 0);
	(void)t_wait_child(pid, LIMIT_MS);
	for (int i = 0; i < 2; i++)
		(void)(close(ready[i]), close(go[i]));
	t_proc_signal(d->proc, SIGCONT);
	(void)t_daemon_wait_engine(d, engine);
	hc = client(d, CLIENT_MS);
	CHECK_EQ(hc_exists(store(hc, "sure"), "never", 5), HC_MISS);
	CHECK_EQ(set(store(hc, "sure"), "behind", "1"), HC_OK);
	hc_close(hc);
	power_loss(d);
	hc = client(d, CLIENT_MS);
	CHECK(has(store(hc, "sure"), "first", "1"));
	CHECK(has(store(hc, "sure"), "behind", "1"));
	CHECK_EQ(hc_exists(store(hc, "sure"), "never", 5), HC_MISS);
	hc_close(hc);
	t_daemon_stop(d);
}

#endif

/* -------------------------------------------------------------------- folders */

static void copy(const char *from, const char *to)
{
	CHECK_EQ(t_run((const char *[]){"/bin/cp", "-a", from, to, NULL}, NULL, 0, NULL, NULL, NULL,
			 LIMIT_MS),
		0);
}

TEST(a_folder_that_was_copied_while_it_was_used_is_refused)
{
	struct t_daemon *d = t_daemon_start(config, NULL);
	struct hc *hc = client(d, CLIENT_MS);

	CHECK_EQ(set(store(hc, "sure"), "k", "1"), HC_OK);
	hc_close(hc);
	/* What is being made may vanish under it: whatever cp says, it is a copy. */
	(void)t_run((const char *[]){"/bin/cp", "-a", d->data, t_path("copied"), NULL}, NULL, 0,
		NULL, NULL, NULL, LIMIT_MS);
	t_daemon_all_die(d);
	(void)snprintf(d->data, sizeof d->data, "%s", t_path("copied"));
	t_daemon_configure(d, config);
	check_refused(d, NULL, "--recover=copy");
	t_daemon_again(d, "--recover=copy", NULL);
	t_daemon_wait_ready(d);
	hc = client(d, CLIENT_MS);
	CHECK(has(store(hc, "sure"), "k", "1"));
	hc_close(hc);
	t_daemon_end(d);
	copy(t_path("copied"), t_path("later")); /* of a folder that nobody used: as good as it */
	(void)snprintf(d->data, sizeof d->data, "%s", t_path("later"));
	t_daemon_configure(d, config);
	t_daemon_again(d, NULL, NULL);
	t_daemon_wait_ready(d);
	t_daemon_stop(d);
}

/* Changes bytes of a file of the data folder. */
static void scribble(const struct t_daemon *d, const char *name, off_t off, const char *bytes)
{
	char path[T_PATH_BYTES + 64];

	(void)snprintf(path, sizeof path, "%s/%s", d->data, name);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	CHECK(fd >= 0);
	CHECK_EQ(pwrite(fd, bytes, strlen(bytes), off), (ssize_t)strlen(bytes));
	(void)close(fd);
}

TEST(a_folder_of_another_format_is_refused)
{
	struct t_daemon *d = t_daemon_start(config, NULL);

	t_daemon_end(d);
	scribble(d, "identity", (off_t)strlen("hypercache data "), "9");
	check_refused(d, NULL, "the folder is of format 9, and this program knows 1");
	scribble(d, "identity", 0, "nonsense");
	check_refused(d, NULL, "identity makes no sense");
	t_daemon_free(d);
}

TEST(damage_in_the_middle_is_for_the_operator_to_decide)
{
	enum { N = 40, DAMAGED_OFF = 20 * 4096 };
	struct t_daemon *d = t_daemon_start(config, NULL);
	struct hc *hc = client(d, CLIENT_MS);
	char key[16];

	for (int i = 0; i < N; i++) {
		(void)snprintf(key, sizeof key, "k%d", i);
		CHECK_EQ(set(store(hc, "sure"), key, key), HC_OK);
	}
	hc_close(hc);
	t_daemon_end(d);
	copy(d->data, t_path("whole"));
	scribble(d, "wal/000000000001.wal", DAMAGED_OFF, "rubbish");
	check_refused(d, NULL, "the log is damaged: segment 1, byte 81920");
	check_refused(d, NULL, "hypercached --recover=cut");
	for (int cut = 0; cut < 2; cut++) {
		int there = 0, last = 0;
		t_daemon_again(d, cut ? "--recover=cut" : "--recover=skip", NULL);
		t_daemon_wait_ready(d);
		hc = client(d, CLIENT_MS);
		for (int i = 0; i < N; i++) {
			(void)snprintf(key, sizeof key, "k%d", i);
			bool is = has(store(hc, "sure"), key, key);
			there += is;
			last = is ? i : last;
		}
		hc_close(hc);
		if (cut)
			CHECK_EQ(there, last + 1);
		else
			CHECK_EQ(last, N - 1);
		CHECK(there > 0 && there < N);
		t_daemon_end(d);
		if (!cut) { /* the same damage again */
			(void)snprintf(d->data, sizeof d->data, "%s", t_path("whole"));
			t_daemon_configure(d, config);
			scribble(d, "wal/000000000001.wal", DAMAGED_OFF, "rubbish");
		}
	}
	t_daemon_free(d);
}

/* ------------------------------------------------------------------- the disk */

/* A small disk of this test alone, at its data folder. */
static void disk(const char *path, const char *size)
{
	if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
		SKIP("this user may not mount");
	CHECK_EQ(mkdir(path, 0700), 0);
	CHECK_EQ(mount("none", path, "tmpfs", 0, size), 0);
}

TEST(a_file_system_that_cannot_be_written_is_named)
{
	disk(t_path("disk"), "size=16m");
	struct t_daemon *d = t_daemon_start(config, NULL);

	t_daemon_end(d);
	copy(d->data, t_path("disk/data"));
	CHECK_EQ(mount(NULL, t_path("disk"), NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
	(void)snprintf(d->data, sizeof d->data, "%s", t_path("disk/data"));
	t_daemon_configure(d, config);
	t_daemon_again(d, NULL, NULL);
	CHECK_EQ(t_proc_exit(d->proc, LIMIT_MS), 1);
	CHECK(strstr(d->proc->err.text, "Read-only file system"));
	t_daemon_free(d);
}

static void filler(const char *path)
{
	static char bytes[1 << 16];
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	CHECK(fd >= 0);
	while (write(fd, bytes, sizeof bytes) > 0)
		;
	(void)close(fd);
}

/* Until the engine has what it keeps in reserve, as one that has served for a moment. */
static void wait_reserve(struct hc *hc)
{
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(LIMIT_MS) * 1000000;

	while (counter(hc, SHM_DC_log_reserve) < 2) {
		CHECK(t_now_ns() < end_ns);
		CHECK_EQ(hc_ping(hc), HC_OK);
	}
}

/* Sets until the store does not take any more; how many were acknowledged, and what came then. */
static int fill(struct hc_store *s, int from, int *ret)
{
	static char value[4000];
	char key[16];
	int i = from;

	memset(value, 'x', sizeof value);
	do {
		(void)snprintf(key, sizeof key, "f%d", i++);
		*ret = hc_set(s, key, strlen(key), value, sizeof value, NULL);
		CHECK(i < 20000);
	} while (*ret == HC_OK);
	return i - 1;
}

/* No segment comes: sync changes are not answered, async ones wait when they are a loss_window behind, and nobody else
 * notices.  Whoever was answered is right. */
TEST_LIMIT(who_was_answered_has_it_on_disk, 60)
{
	struct t_daemon *d = t_daemon_start(SMALL POOL
		"stores: { sure: { durability: sync }, default: {},\n"
		"  soon: { durability: async, loss_window: 100ms } }\n",
		NULL);
	struct hc *hc = client(d, SHORT_MS), *other = client(d, SHORT_MS);
	struct hc_store *sure = store(hc, "sure"), *soon = store(other, "soon");
	char key[16];
	int r;

	wait_reserve(hc);
	t_proc_signal(d->proc, SIGSTOP);
	int n = fill(sure, 0, &r);
	CHECK_EQ(r, HC_E_UNKNOWN);
	CHECK(n > 0);
	CHECK_EQ(set(soon, "late", "1"), HC_E_UNKNOWN);
	hc_close(other);
	hc_close(hc);
	power_loss(d);
	hc = client(d, CLIENT_MS);
	sure = store(hc, "sure");
	for (int i = 0; i < n; i++) {
		(void)snprintf(key, sizeof key, "f%d", i);
		CHECK_EQ(hc_exists(sure, key, strlen(key)), HC_OK);
	}
	hc_close(hc);
	t_daemon_stop(d);
}

/* The disk fills: what was acknowledged is there later, the rest of the daemon goes on, and so does the store
 * when there is room again. */
TEST_LIMIT(a_full_disk_refuses_durable_writes_alone, 60)
{
	char key[16];
	int r;

	disk(t_path("disk"), "size=12m");
	CHECK_EQ(mkdir(t_path("disk/data"), 0700), 0);
	struct t_daemon *d = t_daemon_start(config, NULL);
	t_daemon_end(d);
	(void)snprintf(d->data, sizeof d->data, "%s", t_path("disk/data"));
	t_daemon_configure(d, config);
	t_daemon_again(d, NULL, NULL);
	t_daemon_wait_ready(d);
	struct hc *hc = client(d, CLIENT_MS), *more;
	wait_reserve(hc);
	filler(t_path("disk/filler"));
	int n = fill(store(hc, "sure"), 0, &r);
	CHECK_EQ(r, HC_E_LOG_FULL);
	CHECK(n > 100); /* the reserve */
	CHECK_EQ(set(store(hc, "default"), "other", "1"), HC_OK);
	CHECK(has(store(hc, "default"), "other", "1"));
	CHECK_EQ(hc_exists(store(hc, "sure"), "f1", 2), HC_OK);
	uint64_t end_ns = t_now_ns() + 2 * (uint64_t)t_limit_ms(LIMIT_MS) * 1000000;
	while (counter(hc, SHM_DC_log_state) != SHM_LOG_FULL) { /* with the next heartbeat */
		CHECK(t_now_ns() < end_ns);
		CHECK_EQ(hc_ping(hc), HC_OK);
	}
	hc_close(hc);
	power_loss(d); /* what was told is on disk */
	hc = client(d, CLIENT_MS);
	for (int i = 0; i < n; i++) {
		(void)snprintf(key, sizeof key, "f%d", i);
		CHECK_EQ(hc_exists(store(hc, "sure"), key, strlen(key)), HC_OK);
	}
	CHECK_EQ(unlink(t_path("disk/filler")), 0);
	more = client(d, CLIENT_MS);
	while (set(store(more, "sure"), "after", "1") == HC_E_LOG_FULL)
		CHECK(t_now_ns() < end_ns);
	CHECK(has(store(more, "sure"), "after", "1"));
	hc_close(more);
	hc_close(hc);
	t_daemon_stop(d);
}
