/* unit_trace - are traces read as they stand, and damaged ones refused in words? */
#include "../kit/t.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "../../tools/replay.h"
#include "../../tools/trace.h"

static const char *file(const char *name, const void *bytes, size_t n)
{
	static char path[4096];

	(void)snprintf(path, sizeof path, "%s/%s", t_dir(), name);
	FILE *f = fopen(path, "we");
	CHECK(f != NULL);
	CHECK_EQ(fwrite(bytes, 1, n, f), n);
	CHECK_EQ(fclose(f), 0);
	return path;
}

/* Reads a file to its end, of which `want` is a list "object,bytes,time;" or what was said. */
static void check(const char *path, const char *want)
{
	char why[TRACE_WHY_BYTES] = "", got[4096] = "";
	struct trace_request q;
	struct trace *t = NULL;
	int r = trace_open(path, &t, why);
	size_t n = 0;

	while (r == 0 && (r = trace_next(t, &q, why)) == 0) {
		if (q.key)
			n += (size_t)snprintf(
				got + n, sizeof got - n, "%.*s", (int)q.key_bytes, q.key);
		else
			n += (size_t)snprintf(
				got + n, sizeof got - n, "%llu", (unsigned long long)q.object);
		n += (size_t)snprintf(got + n, sizeof got - n, ",%u,%llu;", q.bytes,
			(unsigned long long)q.time_s);
		CHECK(n < sizeof got);
	}
	trace_close(t);
	if (r < 0) {
		CHECK(strncmp(why, path, strlen(path)) == 0); /* it names the file */
		(void)snprintf(got + n, sizeof got - n, "!%s", why + strlen(path));
	}
	if (strcmp(got, want) != 0)
		t_fail(__FILE__, __LINE__, "\"%s\" and not \"%s\"", got, want);
}

TEST(numbers_are_little_endian)
{
	static const uint8_t u32[] = {1, 0, 0, 0, 0x78, 0x56, 0x34, 0x12};
	static const uint8_t oracle[24] = {2, 1, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0x80, 4, 3, 0, 0};

	check(file("a.u32", u32, sizeof u32), "1,0,0;305419896,0,0;");
	check(file("a.u32", u32, 0), "");
	check(file("a.u32", u32, 7), "1,0,0;!: it ends within a record");
	check(file("a.oracleGeneral", oracle, sizeof oracle), "9223372036854775817,772,258;");
	check(file("a.oracleGeneral", oracle, 23), "!: it ends within a record");
}

#define CSV(text) file("a.csv", text, strlen(text))

TEST(text_may_have_a_heading_sizes_and_times)
{
	check(CSV("a\nb\n\na"), "a,0,0;b,0,0;a,0,0;");
	check(CSV("key,bytes\r\nfoo bar,12\r\nb,0\n"), "foo bar,12,0;b,0,0;");
	check(CSV("time,key,size,op\n5,k,7,get\n6,l,8,\n"), "k,7,5;l,8,6;");
	check(CSV("k,1\nk,x\n"),
		"k,1,0;!: line 2: it must be KEY, or KEY,BYTES, or SECONDS,KEY,BYTES");
	check(CSV("k\n,\n"), "k,0,0;!: line 2: it must be KEY, or KEY,BYTES, or SECONDS,KEY,BYTES");
	check(CSV("k,1\nk,4294967296\n"),
		"k,1,0;!: line 2: it must be KEY, or KEY,BYTES, or SECONDS,KEY,BYTES");
}

TEST(lines_and_files_have_a_limit)
{
	enum { LONG = 300 << 10 };
	char *text = malloc(LONG);

	CHECK(text);
	memset(text, 'a', LONG);
	text[0] = '\n';
	check(file("a.csv", text, LONG), "!: a line is longer than 128 KiB");
	check(file("a.txt", text, 10), "!: its name must end with .u32, .oracleGeneral or .csv, "
				       "which tells the format, and may "
				       "have .zst behind that");
	CHECK_EQ(unlink(file("gone.csv", text, 1)), 0);
	char path[4096];
	(void)snprintf(path, sizeof path, "%s/gone.csv", t_dir());
	check(path, "!: No such file or directory");
	free(text);
}

/* A frame of zstd that holds "a\nb\n" uncompressed, written by hand (RFC 8878). */
TEST(what_is_compressed_is_read_or_refused)
{
	static const uint8_t whole[] = {
		0x28, 0xb5, 0x2f, 0xfd, 0x20, 4, 0x21, 0, 0, 'a', '\n', 'b', '\n'};
	char why[TRACE_WHY_BYTES];
	struct trace *t;

	if (trace_open(file("a.csv.zst", whole, sizeof whole), &t, why) == -ENOTSUP)
		SKIP("built without libzstd");
	trace_close(t);
	check(file("a.csv.zst", whole, sizeof whole), "a,0,0;b,0,0;");
	check(file("a.csv.zst", whole, sizeof whole - 3), "!: the file is cut off");
	check(file("a.csv.zst", "nonsense", 8), "!: Unknown frame descriptor");
}

TEST(a_whole_trace_counts_its_objects)
{
	char why[TRACE_WHY_BYTES];
	struct replay r;

	CHECK_EQ(replay_read(&r, CSV("a\nb\na\nccc\nb\n"), why), 0);
	CHECK_EQ(r.n, 5);
	CHECK_EQ(r.n_objects, 3);
	CHECK_EQ(r.request[3].key_bytes, 3);
	CHECK(memcmp(r.keys + r.request[3].key, "ccc", 3) == 0);
	replay_free(&r);
	CHECK_EQ(replay_read(&r, CSV("a\n,,\n"), why), -EBADMSG);
	replay_free(&r);
}
