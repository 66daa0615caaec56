/* proc_checkpoint.c - does the process that writes checkpoints keep what checkpoint.h promises, and leave nothing when it dies?
 *
 * Planted bugs (shm/step.h) that this file must catch: 727.
 */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../../daemon/archive/archive.h"
#include "../../daemon/checkpoint.h"
#include "../../daemon/eng.h"
#include "../../shm/step.h"
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "../kit/t_proc.h"
#include "../kit/t_step.h"
#include "hypercache.h"

enum { KEYS = 2000, ROUNDS = 6, WAIT_MS = 20000 };

static char log_text[33] = "00112233445566778899aabbccddeeff"; /* the log's identity */
static uint64_t as = 4711;                                     /* what it calls the store */
static struct t_daemon *d;
static struct hc *hc;
static struct hc_store *s;
static uint64_t store_id;
static int folder = -1;

static void session_open(void)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);

	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(WAIT_MS);
	CHECK_EQ(hc_open(&hc, &o), HC_OK);
	CHECK_EQ(hc_store(hc, "default", &s), HC_OK);
}

static void begin(void)
{
	struct hc_store_info info = HC_OPTS(hc_store_info);
	uint32_t cursor = 0;

	d = t_daemon_start(NULL, NULL);
	session_open();
	while (hc_store_next(hc, &cursor, &info) == HC_OK)
		if (strcmp(info.name, "default") == 0)
			store_id = info.id;
	CHECK(store_id);
	CHECK_EQ(mkdir(t_path("data"), 0700), 0);
	folder = open(t_path("data"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(folder >= 0);
}

static void end(void)
{
	CHECK_EQ(close(folder), 0);
	hc_close(hc);
	t_daemon_stop(d);
}

static uint64_t set(uint32_t i)
{
	struct hc_set_opts o = HC_OPTS(hc_set_opts);
	uint64_t version = 0;

	o.ret_version = &version;
	CHECK_EQ(hc_set(s, &i, sizeof i, "0123456789", 10, &o), HC_OK);
	return version;
}

/* Starts the process as the supervisor does.  order: HC_STEP, or NULL. */
static pid_t launch(int result_fd, const char *order, const char *stores)
{
	char fd[2][16];
	const char *path = t_bin("hypercached"), *socket = d->socket;

	fflush(NULL);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid > 0)
		return pid;
	int in = dup(folder), out = dup(result_fd); /* without CLOEXEC */
	(void)snprintf(fd[0], sizeof fd[0], "%d", in);
	(void)snprintf(fd[1], sizeof fd[1], "%d", out);
	if (order)
		(void)setenv("HC_STEP", order, 1);
	(void)execl(path, path, CHECKPOINT_WORD, socket, fd[0], fd[1], log_text, stores, NULL);
	_exit(127);
}

static int run_once(const char *order, struct checkpoint_result *ret)
{
	char stores[64];
	int fd[2];

	(void)snprintf(stores, sizeof stores, "default:%llu:%llu", (unsigned long long)store_id,
		(unsigned long long)as);
	CHECK_EQ(pipe2(fd, O_CLOEXEC), 0);
	pid_t pid = launch(fd[1], order, stores);
	CHECK_EQ(close(fd[1]), 0);
	ssize_t n = read(fd[0], ret, sizeof *ret);
	int status = t_wait_child(pid, WAIT_MS);
	CHECK_EQ(n == (ssize_t)sizeof *ret, WIFEXITED(status) && WEXITSTATUS(status) == 0);
	CHECK_EQ(close(fd[0]), 0);
	return status;
}

static void log_id(uint8_t to[16])
{
	for (int i = 0; i < 16; i++)
		to[i] = (uint8_t)(i * 0x11);
}

/* Reads checkpoint.new; version[i] of each key, 0: it is not in it. */
static struct archive_head read_new(uint64_t *version, struct archive_end *ret_end)
{
	int fd = openat(folder, CHECKPOINT_NEW, O_RDONLY | O_CLOEXEC), got;
	struct archive_reader *r;
	struct archive_head head;
	struct archive_entry e;
	uint32_t n;

	CHECK(fd >= 0);
	memset(version, 0, KEYS * sizeof *version);
	CHECK_EQ(archive_reader_new(&r, fd), 0);
	const struct archive_store *stores = archive_stores_of(r, &n);
	CHECK_EQ(n, 1);
	CHECK_STR(stores[0].name, "default");
	CHECK_EQ(stores[0].id, as);
	head = *archive_head_of(r);
	while ((got = archive_next(r, &e)) == 0) {
		uint32_t i;
		CHECK_EQ(e.key_bytes, sizeof i);
		memcpy(&i, e.key, sizeof i);
		CHECK(i < KEYS);
		CHECK_EQ(version[i], 0);
		version[i] = e.version;
	}
	CHECK_EQ(got, ARCHIVE_END);
	*ret_end = *archive_end_of(r);
	archive_reader_free(r);
	CHECK_EQ(close(fd), 0);
	return head;
}

static void overwrite_for_ever(void)
{
	session_open();
	for (uint32_t i = 0;; i++)
		(void)set((uint32_t)(i * 2654435761u) % KEYS);
}

TEST_LIMIT(what_was_acknowledged_before_it_began_is_in_it, 60)
{
	static uint64_t before[KEYS], in[KEYS];
	struct checkpoint_result result;
	struct archive_end last;
	uint8_t id[16];
	char why[CHECKPOINT_WHY_BYTES];

	begin();
	log_id(id);
	for (int round = 0; round < ROUNDS; round++) {
		uint64_t most = 0;
		for (uint32_t i = 0; i < KEYS; i++)
			most = before[i] = set(i);
		fflush(NULL);
		pid_t writer = fork();
		CHECK(writer >= 0);
		if (writer == 0)
			overwrite_for_ever();
		CHECK_EQ(run_once(NULL, &result), 0);
		CHECK_EQ(kill(writer, SIGKILL), 0);
		(void)t_wait_child(writer, WAIT_MS);
		struct archive_head head = read_new(in, &last);
		CHECK_EQ(head.flags, ARCHIVE_CHECKPOINT);
		CHECK_EQ(memcmp(head.log_id, id, sizeof id), 0);
		CHECK_EQ(head.begin_lsn, result.begin_lsn);
		CHECK(head.begin_lsn + 1 >= most);
		CHECK_EQ(last.end_lsn, result.end_lsn);
		CHECK_EQ(last.n_entries, KEYS);
		for (uint32_t i = 0; i < KEYS; i++) {
			/* What came up to begin_lsn need not be replayed. */
			CHECK(in[i] >= before[i]);
			CHECK(in[i] <= result.end_lsn);
		}
		CHECK_EQ(checkpoint_commit(folder, id, why), 0);
	}
	struct checkpoint_file files[CHECKPOINT_MAX];
	CHECK_EQ(checkpoint_list(folder, files, CHECKPOINT_MAX), CHECKPOINT_KEPT);
	end();
}

/* Nobody writes: the last mutation is published, but the process cannot know, so it counts as not. */
TEST(replay_begins_with_the_last_mutation)
{
	static uint64_t in[KEYS];
	struct checkpoint_result result;
	struct archive_end last;

	begin();
	(void)set(1);
	uint64_t lsn = set(2);
	CHECK_EQ(run_once(NULL, &result), 0);
	CHECK_EQ(read_new(in, &last).begin_lsn, lsn - 1);
	CHECK_EQ(result.end_lsn, lsn);
	CHECK_EQ(result.n_entries, 2);
	end();
}

TEST(store_that_is_another_one_now_is_left_out)
{
	struct checkpoint_result result;

	begin();
	(void)set(1);
	store_id++;
	CHECK_EQ(run_once(NULL, &result), 0);
	CHECK_EQ(result.n_entries, 0);
	end();
}

TEST(what_it_is_not_called_for_is_refused)
{
	char *err;

	CHECK_EQ(t_run((const char *[]){t_bin("hypercached"), CHECKPOINT_WORD, "/nowhere", "x", "1",
			       log_text, NULL},
			 NULL, 0, NULL, NULL, &err, WAIT_MS),
		1);
	CHECK(strstr(err, "for the supervisor alone"));
	free(err);
	CHECK_EQ(t_run((const char *[]){t_bin("hypercached"), CHECKPOINT_WORD, "/nowhere/at/all",
			       "0", "1", log_text, NULL},
			 NULL, 0, NULL, NULL, &err, WAIT_MS),
		1);
	CHECK(strstr(err, "no session: no daemon answers"));
	free(err);
}

/* ------------------------------------------------------------ its way back */

/* What the daemon's folder says of its log. */
static void log_text_read(void)
{
	char text[1024] = "";
	int fd = openat(folder, "identity", O_RDONLY | O_CLOEXEC);

	CHECK(fd >= 0);
	CHECK(read(fd, text, sizeof text - 1) > 0);
	CHECK_EQ(close(fd), 0);
	CHECK(strstr(text, "\nlog "));
	memcpy(log_text, strstr(text, "\nlog ") + 5, 32);
}

static void durable_begin(void)
{
	struct hc_store_info info = HC_OPTS(hc_store_info);
	uint32_t cursor = 0;

	d = t_daemon_start("heartbeat: 100ms\nwal_segment: 1MiB\nwal_staging: 1MiB\n"
			   "pools: { main: { size: 16MiB, huge_pages: \"off\" } }\n"
			   "stores: { default: { durability: sync } }\n",
		NULL);
	session_open();
	CHECK_EQ(hc_store_next(hc, &cursor, &info), HC_OK);
	store_id = info.id;
	as = eng_log_id("default");
	folder = open(d->data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(folder >= 0);
	log_text_read();
}

/* Everybody dies, and another daemon says this of what it finds. */
static void die_and_find(const char *words)
{
	hc_close(hc);
	t_daemon_all_die(d);
	t_daemon_again(d, NULL, NULL);
	free(t_proc_line(d->proc, words, WAIT_MS));
	t_daemon_wait_ready(d);
	session_open();
}

static int there(uint32_t i) { return hc_exists(s, &i, sizeof i); }

TEST_LIMIT(recovery_begins_with_the_newest_checkpoint, 60)
{
	struct checkpoint_result result;
	struct checkpoint_file files[CHECKPOINT_MAX];
	char why[CHECKPOINT_WHY_BYTES];
	uint8_t id[16];

	durable_begin();
	for (uint32_t i = 0; i < 100; i++)
		(void)set(i);
	CHECK_EQ(run_once(NULL, &result), 0);
	CHECK_EQ(result.n_entries, 100);
	for (int i = 0; i < 16; i++) {
		unsigned byte;
		CHECK_EQ(sscanf(log_text + 2 * i, "%2x", &byte), 1);
		id[i] = (uint8_t)byte;
	}
	CHECK_EQ(checkpoint_commit(folder, id, why), 0); /* sync: the log is durable */
	uint32_t gone = 7;
	CHECK_EQ(hc_delete(s, &gone, sizeof gone), HC_OK);
	uint64_t last = set(100);
	for (int round = 0; round < 2; round++) {
		die_and_find(round == 0 ? "100 entries of checkpoint" : "its checksum is wrong");
		for (uint32_t i = 0; i <= 100; i++)
			CHECK_EQ(there(i), i == gone ? HC_MISS : HC_OK);
		CHECK(set(101) > last);
		if (round == 1)
			break;
		/* The next one finds it damaged, and reads all of the log. */
		CHECK_EQ(checkpoint_list(folder, files, CHECKPOINT_MAX), 1);
		int fd = openat(folder, files[0].name, O_WRONLY | O_CLOEXEC);
		CHECK_EQ(pwrite(fd, "damage", 6, 1000), 6);
		CHECK_EQ(close(fd), 0);
	}
	end();
}

#ifdef HC_STEPS
TEST(killed_at_any_moment_it_leaves_nothing_that_counts)
{
	static const char *const marks[] = {"dump:page-put", "checkpoint:store-scanned",
		"archive:synced", "archive:linked", "archive:renamed"};
	const char *once = t_path("once");
	struct checkpoint_file files[CHECKPOINT_MAX];
	struct checkpoint_result result;
	char order[T_PATH_BYTES + 64];

	begin();
	for (uint32_t i = 0; i < KEYS; i++)
		(void)set(i);
	for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
		int fd = open(once, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
		CHECK(fd >= 0);
		CHECK_EQ(close(fd), 0);
		(void)snprintf(order, sizeof order, "kill:%s:1:%s", marks[i], once);
		int status = run_once(order, &result);
		CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		CHECK_EQ(checkpoint_list(folder, files, CHECKPOINT_MAX), 0);
		checkpoint_clean(folder);
		CHECK(faccessat(folder, CHECKPOINT_NEW, F_OK, 0) < 0);
		CHECK_EQ(hc_ping(hc), HC_OK);
		t_step_killed(marks[i]);
	}
	CHECK_EQ(run_once(NULL, &result), 0);
	CHECK_EQ(result.n_entries, KEYS);
	end();
}
#endif
