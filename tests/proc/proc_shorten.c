/* proc_shorten.c - checkpoints of a running daemon: the log does not grow for ever, and whoever dies while they are written and
 * the log is shortened, what was acknowledged is there.
 *
 * Planted bugs (shm/step.h) that this file must catch: 760, 761, 762.
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "atomic.h"
#include "hc_i.h"
#include "hypercache.h"

enum {
	LIMIT_MS = 20000,
	CLIENT_MS = 30000,
	KEYS = 64,
	VALUE_BYTES = 12000,
	ROUNDS = 12,
	MIB = 1 << 20,
	FOLDER_MAX = 16 * MIB, /* two checkpoints, what is between them, reserves; of 1 MiB each */
};

#define SMALL "heartbeat: 100ms\nwal_segment: 1MiB\nwal_staging: 1MiB\nrestart_limit: 1000\n"
#define OFTEN "checkpoint_wal: 1MiB\n"
#define NEVER "checkpoint_wal: 1TiB\ncheckpoint_every: 0\n"
#define REST \
	"pools: { main: { size: 16MiB, huge_pages: \"off\" } }\n" \
	"stores: { sure: { durability: sync }, default: {} }\n"
static const char often[] = SMALL OFTEN REST, never[] = SMALL NEVER REST;

static struct t_daemon *d;
static struct hc *hc;
static struct hc_store *sure;
static uint32_t is[KEYS]; /* what was acknowledged last; 0: absent */

/* -------------------------------------------------------------------- clients */

static void session_open(void)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);

	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(CLIENT_MS);
	CHECK_EQ(hc_open(&hc, &o), HC_OK);
	CHECK_EQ(hc_store(hc, "sure", &sure), HC_OK);
}

static void begin(const char *config)
{
	d = t_daemon_start(config, NULL);
	session_open();
}

static void end(void)
{
	hc_close(hc);
	t_daemon_stop(d);
}

static uint64_t counter(enum shm_daemon_counter c) { return shm_load_rlx(&hc->ctl->counter[c]); }

/* All die; the next daemon has what is on the disk. */
static void next_daemon(const char *option)
{
	t_daemon_again(d, option, NULL);
	t_daemon_wait_ready(d);
	session_open();
}

static void power_loss(void)
{
	hc_close(hc);
	t_daemon_all_die(d);
	next_daemon(NULL);
}

static size_t value_of(uint32_t key, uint32_t n, char *to)
{
	memset(to, 'a' + (int)(n % 26), VALUE_BYTES);
	return (size_t)snprintf(to, VALUE_BYTES, "%u %u", key, n) + VALUE_BYTES / 2;
}

static int set(uint32_t key, uint32_t n)
{
	char value[VALUE_BYTES];
	size_t bytes = value_of(key, n, value);

	return hc_set(sure, &key, sizeof key, value, bytes, NULL);
}

static void set_sure(uint32_t key, uint32_t n)
{
	CHECK_EQ(set(key, n), HC_OK);
	is[key] = n;
}

static void delete_sure(uint32_t key)
{
	int r = hc_delete(sure, &key, sizeof key);

	CHECK(r == HC_OK || r == HC_MISS);
	is[key] = 0;
}

/* So many MiB of changes, with deletes. */
static void churn(uint32_t *n, uint32_t mib)
{
	for (uint64_t bytes = 0; bytes < (uint64_t)mib * MIB; bytes += VALUE_BYTES / 2) {
		uint32_t key = ++*n * 2654435761u % KEYS;
		if (*n % 5 == 0)
			delete_sure(key);
		else
			set_sure(key, *n);
	}
}

static void check_all(void)
{
	char want[VALUE_BYTES], got[VALUE_BYTES];

	for (uint32_t key = 0; key < KEYS; key++) {
		size_t n = 0;
		int r = hc_get(sure, &key, sizeof key, got, sizeof got, &n);
		CHECK_EQ(r, is[key] ? HC_OK : HC_MISS);
		if (r == HC_OK) {
			CHECK_EQ(n, value_of(key, is[key], want));
			CHECK_EQ(memcmp(got, want, n), 0);
		}
	}
}

/* `hypercache checkpoint`: its exit status, and what it says. */
static int command(char **ret_out, char **ret_err)
{
	return t_run((const char *[]){t_bin("hypercache"), "--admin", d->admin, "--json",
			     "checkpoint", NULL},
		NULL, 0, ret_out, NULL, ret_err, LIMIT_MS);
}

static long long number_in(const char *json, const char *name)
{
	const char *at = strstr(json, name);

	CHECK(at);
	return atoll(at + strlen(name) + 1);
}

/* One, and what it holds. */
static void checkpoint(long long entries, long long *ret_end_lsn, long long *ret_removed)
{
	char *out, *err;
	int status = command(&out, &err);

	if (status)
		t_fail(__FILE__, __LINE__, "status %d: %s%s", status, out, err);
	CHECK_EQ(number_in(out, "\"entries\""), entries);
	CHECK(number_in(out, "\"bytes\"") > 0);
	*ret_end_lsn = number_in(out, "\"end_lsn\"");
	*ret_removed = number_in(out, "\"segments_removed\"");
	free(out);
	free(err);
}

/* The same, when an engine has looked at all checksums. */
static void checkpoint_soon(long long entries, long long *ret_end_lsn, long long *ret_removed)
{
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(LIMIT_MS) * 1000000;

	while (command(NULL, NULL) != 0)
		CHECK(t_now_ns() < end_ns);
	checkpoint(entries, ret_end_lsn, ret_removed);
}

static long long entries(void)
{
	long long n = 0;

	for (uint32_t i = 0; i < KEYS; i++)
		n += is[i] != 0;
	return n;
}

/* --------------------------------------------------------------------- folder */

struct listed {
	int n;
	uint64_t bytes;
	char first[NAME_MAX + 1], last[NAME_MAX + 1]; /* by name */
};

/* The files of a folder in the data folder, whose names begin so. */
static struct listed list(const char *in, const char *head)
{
	struct listed l = {0};
	char path[T_PATH_BYTES + 32];
	const struct dirent *e;
	struct stat st;

	(void)snprintf(path, sizeof path, "%s/%s", d->data, in);
	DIR *dir = opendir(path);
	CHECK(dir);
	while ((e = readdir(dir))) {
		if (strncmp(e->d_name, head, strlen(head)) != 0 ||
			fstatat(dirfd(dir), e->d_name, &st, 0) != 0 || !S_ISREG(st.st_mode))
			continue;
		l.bytes += (uint64_t)st.st_size;
		if (l.n == 0 || strcmp(e->d_name, l.first) < 0)
			(void)snprintf(l.first, sizeof l.first, "%s", e->d_name);
		if (l.n++ == 0 || strcmp(e->d_name, l.last) > 0)
			(void)snprintf(l.last, sizeof l.last, "%s", e->d_name);
	}
	CHECK_EQ(closedir(dir), 0);
	return l;
}

static void scribble(const char *name)
{
	char path[2 * T_PATH_BYTES + NAME_MAX];

	(void)snprintf(path, sizeof path, "%s/%s", d->data, name);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	CHECK(fd >= 0);
	CHECK_EQ(pwrite(fd, "damage", 6, 100), 6);
	CHECK_EQ(close(fd), 0);
}

/* ---------------------------------------------------------------------- tests */

TEST_LIMIT(the_log_is_bounded_by_itself, 120)
{
	uint32_t n = 0;

	begin(often);
	for (int i = 0; i < 20; i++)
		churn(&n, 1);
	/* The last checkpoint may still be on its way. */
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(LIMIT_MS) * 1000000;
	while (list("wal", "").bytes > FOLDER_MAX || list(".", "checkpoint-").n < 2) {
		CHECK(t_now_ns() < end_ns);
		CHECK_EQ(hc_ping(hc), HC_OK);
	}
	CHECK(strcmp(list("wal", "0").first, "000000000001.wal") > 0);
	check_all();
	power_loss();
	check_all();
	end();
}

TEST_LIMIT(the_one_before_has_its_part_of_the_log, 60)
{
	long long lsn, removed, all = 0;
	uint32_t n = 0;

	begin(never);
	for (int i = 0; i < 3; i++) {
		churn(&n, 3);
		checkpoint(entries(), &lsn, &removed);
		CHECK(i > 0 ? removed > 0 || i == 1 : removed == 0);
		all += removed;
	}
	CHECK(all > 0);
	churn(&n, 2);
	CHECK_EQ(list(".", "checkpoint-").n, 2);
	power_loss();
	check_all();
	scribble(list(".", "checkpoint-").last);
	power_loss();
	check_all();
	/* With neither, what is left of the log is not all of it, and nobody takes it for that. */
	scribble(list(".", "checkpoint-").first);
	hc_close(hc);
	t_daemon_all_die(d);
	t_daemon_again(d, NULL, NULL);
	free(t_proc_line(d->proc, "the log is damaged", LIMIT_MS));
	CHECK_EQ(t_proc_exit(d->proc, LIMIT_MS), 1);
	t_daemon_free(d);
}

TEST(a_checkpoint_is_enough_without_a_log)
{
	long long lsn, removed;
	uint32_t n = 0;
	char path[2 * T_PATH_BYTES + NAME_MAX];

	begin(never);
	churn(&n, 1);
	checkpoint(entries(), &lsn, &removed);
	hc_close(hc);
	t_daemon_end(d);
	for (struct listed l; (l = list("wal", "0")).n;) {
		(void)snprintf(path, sizeof path, "%s/wal/%s", d->data, l.first);
		CHECK_EQ(unlink(path), 0);
	}
	next_daemon(NULL);
	check_all();
	/* The log counts as durable up to what the last one held, or this one would wait for ever. */
	checkpoint(entries(), &lsn, &removed);
	set_sure(1, 4711);
	power_loss();
	check_all();
	end();
}

TEST(who_asks_is_told_why_there_is_none)
{
	char *out, *err;

	d = t_daemon_start(NULL, NULL);
	CHECK_EQ(command(&out, &err), 5);
	CHECK(strstr(out, "no store is durable"));
	free(out);
	free(err);
	t_daemon_stop(d);
}

/* The engine answers nobody: one command waits for its checkpoint, the other is refused; and with the engine the first
 * one ends. */
TEST(one_at_a_time_and_none_without_its_engine)
{
	pid_t asks[2], engine;
	long long lsn, removed;
	int status;

	begin("hang_timeout: 0\n" SMALL NEVER REST);
	set_sure(1, 1);
	engine = t_daemon_engine(d);
	CHECK_EQ(kill(engine, SIGSTOP), 0);
	fflush(NULL);
	for (int i = 0; i < 2; i++) {
		asks[i] = fork();
		CHECK(asks[i] >= 0);
		if (asks[i] == 0) {
			char *out;
			status = command(&out, NULL);
			_exit(status == 5 && strstr(out, "is being written") ? 1
				: status == 5 && strstr(out, "engine ended") ? 2
									     : 3);
		}
	}
	siginfo_t how = {0};
	CHECK_EQ(waitid(P_ALL, 0, &how, WEXITED | WNOWAIT), 0);
	int first = how.si_pid == asks[1];
	CHECK_EQ(how.si_pid, asks[first]);
	status = t_wait_child(asks[first], LIMIT_MS);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	CHECK_EQ(kill(engine, SIGKILL), 0);
	status = t_wait_child(asks[!first], LIMIT_MS);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 2);
	(void)t_daemon_wait_engine(d, engine);
	CHECK_EQ(hc_ping(hc), HC_OK);
	set_sure(2, 2);
	checkpoint_soon(2, &lsn, &removed);
	end();
}

/* A small disk of this test alone. */
static void disk(const char *path, const char *size)
{
	if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
		SKIP("this user may not mount");
	CHECK_EQ(mkdir(path, 0700), 0);
	CHECK_EQ(mount("none", path, "tmpfs", 0, size), 0);
}

static void filler(const char *path)
{
	static char bytes[1 << 12];
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	CHECK(fd >= 0);
	while (write(fd, bytes, sizeof bytes) > 0)
		;
	CHECK_EQ(close(fd), 0);
}

static void wait_reserve(void)
{
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(LIMIT_MS) * 1000000;

	while (counter(SHM_DC_log_reserve) < 2) {
		CHECK(t_now_ns() < end_ns);
		CHECK_EQ(hc_ping(hc), HC_OK);
	}
}

TEST_LIMIT(a_full_disk_has_no_checkpoint_and_writes_go_on, 60)
{
	long long lsn, removed;
	uint32_t n = 0;
	char *out;

	disk(t_path("disk"), "size=24m");
	CHECK_EQ(mkdir(t_path("disk/data"), 0700), 0);
	d = t_daemon_start(never, NULL);
	t_daemon_end(d);
	(void)snprintf(d->data, sizeof d->data, "%s", t_path("disk/data"));
	t_daemon_configure(d, never);
	next_daemon(NULL);
	churn(&n, 2);
	checkpoint(entries(), &lsn, &removed);
	wait_reserve();
	filler(t_path("disk/filler"));
	CHECK_EQ(command(&out, NULL), 5);
	CHECK(strstr(out, "No space left on device"));
	free(out);
	set_sure(1, ++n);
	CHECK_EQ(unlink(t_path("disk/filler")), 0);
	checkpoint_soon(entries(), &lsn, &removed);
	CHECK_EQ(list(".", "checkpoint.new").n, 0);
	power_loss();
	check_all();
	end();
}

/* A file system in a file, which can be made to stand still. */
static void frozen_disk_make(const char *image, const char *at)
{
	int fd = open(image, O_CREAT | O_RDWR | O_CLOEXEC, 0600);

	if (access("/dev/loop-control", W_OK) != 0 || access("/sbin/mkfs.ext4", X_OK) != 0)
		SKIP("no file system can be made in a file here");
	CHECK(fd >= 0);
	CHECK_EQ(ftruncate(fd, 24 * MIB), 0);
	CHECK_EQ(close(fd), 0);
	CHECK_EQ(t_run((const char *[]){"/sbin/mkfs.ext4", "-q", "-F", image, NULL}, NULL, 0, NULL,
			 NULL, NULL, LIMIT_MS),
		0);
	CHECK_EQ(mkdir(at, 0700), 0);
	if (t_run((const char *[]){"/bin/mount", "-o", "loop", image, at, NULL}, NULL, 0, NULL,
		    NULL, NULL, LIMIT_MS) != 0)
		SKIP("no file system can be mounted from a file here");
}

/* The log's disk stands still, and an async change is seen that it does not have: as long as that is so nobody is told that
 * there is a checkpoint. */
TEST_LIMIT(it_does_not_count_before_the_log_is_on_disk, 60)
{
	static const char config[] = "io: epoll\n" SMALL NEVER
				     "pools: { main: { size: 16MiB, huge_pages: \"off\" } }\n"
				     "stores: { sure: { durability: async, loss_window: 1h } }\n";

	disk(t_path("disk"), "size=64m");
	CHECK_EQ(mkdir(t_path("disk/data"), 0700), 0);
	frozen_disk_make(t_path("disk/image"), t_path("disk/data/wal"));
	d = t_daemon_start(config, NULL);
	t_daemon_end(d);
	(void)snprintf(d->data, sizeof d->data, "%s", t_path("disk/data"));
	t_daemon_configure(d, config);
	next_daemon(NULL);
	set_sure(1, 1);
	wait_reserve();
	int wal = open(t_path("disk/data/wal"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK_EQ(ioctl(wal, FIFREEZE, 0), 0);
	int seen = set(2, 2);
	fflush(NULL);
	pid_t asks = fork();
	if (asks == 0)
		_exit(command(NULL, NULL));
	int pidfd = (int)syscall(SYS_pidfd_open, asks, 0);
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(LIMIT_MS) * 1000000;
	bool answered = false;
	while (list(".", "checkpoint").n == 0 && t_now_ns() < end_ns && !answered)
		answered = t_wait_fd(pidfd, POLLIN, 10);
	answered |= t_wait_fd(pidfd, POLLIN, 1000);
	CHECK_EQ(ioctl(wal, FITHAW, 0),
		0); /* before anything fails: else it would stay so for ever */
	CHECK_EQ(close(wal), 0);
	CHECK_EQ(seen, HC_OK);
	CHECK(!answered);
	CHECK_EQ(close(pidfd), 0);
	CHECK_EQ(t_wait_child(asks, LIMIT_MS), 0);
	is[2] = 2;
	power_loss();
	check_all();
	end();
}

/* Commands back to back, as long as it lives. */
static pid_t commands_begin(void)
{
	fflush(NULL);
	pid_t pid = fork();
	CHECK(pid >= 0);
	while (pid == 0)
		(void)command(NULL, NULL);
	return pid;
}

/* What is deleted stays deleted, and what comes behind a checkpoint counts, whoever dies when. */
TEST_LIMIT(killed_at_any_moment_nothing_that_was_acknowledged_is_lost, 120)
{
	uint32_t n = 0;

	begin(often);
	pid_t commands = commands_begin();
	for (int round = 0; round < ROUNDS; round++) {
		for (uint64_t i = 30 + t_random_below(200); i > 0; i--) {
			uint32_t key = ++n * 2654435761u % KEYS;
			if (n % 5 == 0)
				delete_sure(key);
			else
				set_sure(key, n);
		}
		if (round % 3 == 0) {
			(void)t_daemon_wait_engine(d, t_daemon_kill_engine(d, SIGKILL));
			check_all();
		}
		power_loss();
		check_all();
	}
	CHECK_EQ(kill(commands, SIGKILL), 0);
	(void)t_wait_child(commands, LIMIT_MS);
	CHECK(list("wal", "0").bytes < 2 * FOLDER_MAX);
	end();
}
