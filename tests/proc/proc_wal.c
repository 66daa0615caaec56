/* proc_wal.c - does `hypercache wal` say of a log on the disk what is in it, and what is wrong with it? */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cli_run.h"

enum { BYTES = 16384 };

/* The golden log, which may be changed. */
static const char *log_copy(void)
{
	const char *root = getenv("HC_SOURCE_ROOT");
	static uint8_t bytes[BYTES];

	if (!root)
		SKIP("HC_SOURCE_ROOT is not set: run it through meson test");
	CHECK_EQ(mkdir(t_path("wal"), 0700), 0);
	for (int i = 1; i <= 2; i++) {
		char from[4096], to[64];
		(void)snprintf(from, sizeof from, "%s/tests/golden/wal/%012d.wal", root, i);
		(void)snprintf(to, sizeof to, "wal/%012d.wal", i);
		int fd = open(from, O_RDONLY | O_CLOEXEC), out;
		CHECK_EQ(read(fd, bytes, BYTES), BYTES);
		CHECK_EQ(close(fd), 0);
		out = open(t_path(to), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		CHECK_EQ(write(out, bytes, BYTES), BYTES);
		CHECK_EQ(close(out), 0);
	}
	return t_path("wal");
}

static void spoil(const char *name, off_t at)
{
	uint8_t byte;
	int fd = open(t_path(name), O_RDWR | O_CLOEXEC);

	CHECK_EQ(pread(fd, &byte, 1, at), 1);
	byte ^= 0x10;
	CHECK_EQ(pwrite(fd, &byte, 1, at), 1);
	CHECK_EQ(close(fd), 0);
}

static void ask(const char *const *args, int status, const char *out, const char *err)
{
	struct result r = run(NULL, args);

	if (r.status != status || !strstr(r.out, out) || !strstr(r.err, err))
		t_fail(__FILE__, __LINE__, "%s: status %d\n%s%s", args[1], r.status, r.out, r.err);
	result_free(&r);
}

TEST(a_good_log_is_listed_verified_and_dumped)
{
	const char *folder = log_copy(), *file = t_path("wal/000000000001.wal");

	ask(ARGS("wal", "list", folder), 0, "000000000002.wal     log", "");
	ask(ARGS("wal", "list", t_dir()), 0, "000000000001.wal     log", "");
	ask(ARGS("wal", "list", folder, "--json"), 0, "\"state\":\"log\"", "");
	ask(ARGS("wal", "verify", folder), 0, "good: 12 records", "");
	ask(ARGS("wal", "verify", folder), 0, "LSN 101 to 112", "");
	ask(ARGS("wal", "verify", folder), 0, "closed in good order", "");
	ask(ARGS("wal", "verify", folder, "--json"), 0, "\"good\":true", "");
	ask(ARGS("wal", "verify", file), 0, "good: 9 records", "");
	ask(ARGS("wal", "dump", folder), 0, "107 set store 3 key \"golden key\"", "");
	ask(ARGS("wal", "dump", file, "--json"), 0, "\"kind\":\"delete\"", "");
}

TEST(damage_is_said_with_its_place_and_what_it_costs)
{
	const char *folder = log_copy();

	spoil("wal/000000000001.wal", 4096 + 520);
	ask(ARGS("wal", "verify", folder), 1, "damaged: 000000000001.wal, byte 4096: contents", "");
	ask(ARGS("wal", "verify", folder), 1, "good behind it: LSN 104 to 112, 9 records", "");
	ask(ARGS("wal", "verify", folder, "--json"), 1, "\"kind\":\"contents\"", "");
	ask(ARGS("wal", "dump", folder), 1, "104 drop", "byte 4096: contents");
	spoil("wal/000000000001.wal", 4096 + 520);
	ask(ARGS("wal", "verify", folder), 0, "good", "");
	CHECK_EQ(unlink(t_path("wal/000000000001.wal")), 0);
	ask(ARGS("wal", "verify", folder), 0, "good: 3 records",
		""); /* recycled, for all that is known */
	spoil("wal/000000000002.wal", 30);
	ask(ARGS("wal", "list", folder), 0, "000000000002.wal     other", "");
}

TEST(what_is_no_log_is_refused_by_name)
{
	const char *folder = log_copy();
	int fd = open(t_path("note.txt"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	CHECK_EQ(write(fd, "a note\n", 7), 7);
	CHECK_EQ(close(fd), 0);
	CHECK_EQ(mkdir(t_path("empty"), 0700), 0);
	ask(ARGS("wal", "verify", t_path("note.txt")), 5, "", "is no segment of a log");
	ask(ARGS("wal", "verify", t_path("none")), 5, "", "No such file");
	ask(ARGS("wal", "list", t_path("empty")), 5, "", "there is no segment of a log in it");
	ask(ARGS("wal", "burn", folder), 2, "", "wal verify FOLDER|FILE");
	check_status(NULL, 2, ARGS("wal", "list"));
}
