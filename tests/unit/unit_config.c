/* unit_config.c - does the configuration keep what daemon/config.h promises?  Failures first.
 *
 * tests/golden/config: each NAME.yaml is a bad file, NAME.err the whole message that it must give.
 * HC_GOLDEN_WRITE=1 writes the messages anew: read the difference before you keep it.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "../../daemon/config.h"
#include "../../daemon/config_value.h"
#include "../kit/t.h"

enum { FILE_BYTES = 64 << 10, GOLDEN_MIN = 60, ROUNDS = 20000 };

/* -- what the tests share -- */

/* The golden files lie beside this source file, unless HC_SOURCE_ROOT says where the tree is. */
static void golden_path(char *to, size_t to_bytes, const char *name)
{
	const char *root = getenv("HC_SOURCE_ROOT"), *here = __FILE__;
	const char *slash = strrchr(here, '/');

	if (root)
		(void)snprintf(to, to_bytes, "%s/tests/golden/config/%s", root, name);
	else
		(void)snprintf(to, to_bytes, "%.*s/../golden/config/%s",
			slash ? (int)(slash - here) : 1, slash ? here : ".", name);
}

static size_t file_take(const char *path, char *to)
{
	FILE *f = fopen(path, "re");
	size_t n = 0;

	if (f) {
		n = fread(to, 1, FILE_BYTES - 1, f);
		(void)fclose(f);
	}
	to[n] = '\0';
	return n;
}

static int parse(struct config *c, const char *text, char err[CONFIG_ERROR_BYTES])
{
	err[0] = '\0';
	return config_parse(c, "t", text, strlen(text), err, CONFIG_ERROR_BYTES);
}

/* Parses what must be right. */
static void parse_good(struct config *c, const char *text)
{
	char err[CONFIG_ERROR_BYTES];
	int r = parse(c, text, err);

	if (r)
		fprintf(stderr, "  %s\n", err);
	CHECK(r == 0);
	CHECK(err[0] == '\0');
}

static bool bytes_same(enum config_scope scope, const void *a, const void *b)
{
	for (const struct config_key *k = config_keys; k < config_keys + CONFIG_N_KEYS; k++)
		if (k->scope == scope && memcmp((const char *)a + k->offset,
						 (const char *)b + k->offset, k->bytes) != 0) {
			fprintf(stderr, "  %s differs\n", k->name);
			return false;
		}
	return true;
}

static bool config_same(const struct config *a, const struct config *b)
{
	bool same = a->n_pools == b->n_pools && a->n_stores == b->n_stores &&
	            bytes_same(CONFIG_ROOT, a, b);

	for (uint32_t i = 0; same && i < a->n_pools; i++)
		same = strcmp(a->pool[i].name, b->pool[i].name) == 0 &&
		       bytes_same(CONFIG_POOL, &a->pool[i], &b->pool[i]);
	for (uint32_t i = 0; same && i < a->n_stores; i++)
		same = strcmp(a->store[i].name, b->store[i].name) == 0 &&
		       bytes_same(CONFIG_STORE, &a->store[i], &b->store[i]);
	return same;
}

static char *print_new(const struct config *c)
{
	char *text = NULL;
	size_t n = 0;
	FILE *to = open_memstream(&text, &n);

	CHECK(to);
	config_print(c, to);
	CHECK(fclose(to) == 0);
	return text;
}

static void check_round_trip(const struct config *c)
{
	char *text = print_new(c), err[CONFIG_ERROR_BYTES];
	struct config again;

	if (parse(&again, text, err) != 0) {
		fprintf(stderr, "  %s\n%s", err, text);
		t_fail(__FILE__, __LINE__, "what was printed does not parse");
	}
	CHECK(config_same(c, &again));
	free(text);
}

static struct config_key key_of(
	enum config_value_type type, size_t bytes, const char *min, const char *max)
{
	return (struct config_key){.name = "k",
		.type = type,
		.unit = "things",
		.min = min,
		.max = max,
		.def = "",
		.meaning = "",
		.bytes = (uint32_t)bytes};
}

/* -- failures -- */

static void golden_check(const char *yaml, bool rewrite)
{
	static char bytes[FILE_BYTES], want[FILE_BYTES];
	char path[512], got[CONFIG_ERROR_BYTES + 1];
	struct config c, before;

	golden_path(path, sizeof path, yaml);
	size_t n = file_take(path, bytes);
	memset(&c, 0x5a, sizeof c);
	memcpy(&before, &c, sizeof c);
	int r = config_parse(&c, yaml, bytes, n, got, CONFIG_ERROR_BYTES);
	if (r != -EINVAL)
		fprintf(stderr, "  %s: returned %d\n", yaml, r);
	CHECK(r == -EINVAL);
	CHECK(memcmp(&c, &before, sizeof c) == 0);
	strcat(got, "\n");
	memcpy(strrchr(path, '.'), ".err", sizeof ".err");
	if (rewrite) {
		FILE *f = fopen(path, "we");
		CHECK(f && fputs(got, f) >= 0 && fclose(f) == 0);
	}
	(void)file_take(path, want);
	if (strcmp(got, want) != 0)
		fprintf(stderr, "  %s\n  got  %s  want %s", yaml, got, want);
	CHECK(strcmp(got, want) == 0);
	unsigned line = 0, col = 0;
	CHECK(sscanf(got + strlen(yaml), ":%u:%u: ", &line, &col) == 2 && line && col);
	CHECK(strstr(got, "; ")); /* what would be right */
	CHECK(strchr(got, '\n') == got + strlen(got) - 1);
}

TEST(config_each_bad_file_gives_its_message)
{
	const char *write = getenv("HC_GOLDEN_WRITE");
	char path[512];
	int n = 0;

	golden_path(path, sizeof path, "");
	DIR *d = opendir(path);
	if (!d)
		fprintf(stderr, "  no folder %s: set HC_SOURCE_ROOT\n", path);
	CHECK(d);
	for (struct dirent *e; (e = readdir(d));) {
		const char *dot = strrchr(e->d_name, '.');
		if (!dot || strcmp(dot, ".yaml") != 0)
			continue;
		golden_check(e->d_name, write && *write == '1');
		n++;
	}
	(void)closedir(d);
	CHECK(n >= GOLDEN_MIN);
}

TEST(config_unreadable_and_too_long_files)
{
	char err[CONFIG_ERROR_BYTES], path[512];
	struct config c, before;

	memset(&c, 0x5a, sizeof c);
	memcpy(&before, &c, sizeof c);
	CHECK(config_load(&c, "/nonexistent/x.yaml", err, sizeof err) == -ENOENT);
	CHECK(strncmp(err, "/nonexistent/x.yaml: ", 21) == 0);
	CHECK(config_load(&c, "/", err, sizeof err) == -EISDIR);
	CHECK(config_load(&c, "/dev/zero", err, sizeof err) == -E2BIG);
	char *big = malloc(CONFIG_FILE_MAX_BYTES + 1);
	CHECK(big);
	memset(big, '\n', CONFIG_FILE_MAX_BYTES + 1);
	CHECK(config_parse(&c, "t", big, CONFIG_FILE_MAX_BYTES + 1, err, sizeof err) == -E2BIG);
	CHECK(strcmp(err, "t: longer than 1MiB; use a shorter file") == 0);
	CHECK(memcmp(&c, &before, sizeof c) == 0);
	CHECK(config_parse(&c, "t", big, CONFIG_FILE_MAX_BYTES, err, sizeof err) == 0);
	free(big);
	golden_path(path, sizeof path, "unknown_key.yaml");
	CHECK(config_load(&c, path, err, sizeof err) == -EINVAL);
	CHECK(strncmp(err, path, strlen(path)) == 0 && err[strlen(path)] == ':');
}

TEST(config_messages_fit_the_buffer_that_is_given)
{
	static const char text[] = "socket: relative\n";
	char err[64];
	struct config c;

	for (size_t n = 0; n < sizeof err; n++) {
		memset(err, 'x', sizeof err);
		CHECK(config_parse(&c, "t", text, strlen(text), err, n) == -EINVAL);
		for (size_t i = n; i < sizeof err; i++)
			CHECK(err[i] == 'x');
		CHECK(n == 0 || memchr(err, '\0', n));
	}
}

/* A key of each type, and what each must refuse. */
enum { NUM, SIZE, SPAN, PART, FLAG, WORD, PATH, TEXT, NAME, UIDS, WHO, N_KEYS };

static const struct {
	int key;
	const char *text;
} refused[] = {
	{NUM, ""},
	{NUM, "1"},
	{NUM, "4294967296"},
	{NUM, "18446744073709551618"},
	{NUM, "99999999999999999999999"},
	{NUM, "010"},
	{NUM, "0x10"},
	{NUM, "1_0"},
	{NUM, "1e3"},
	{NUM, "+5"},
	{NUM, "-5"},
	{NUM, " 5"},
	{NUM, "5 "},
	{NUM, "5B"},
	{NUM, "5.0"},
	{NUM, "auto"},
	{NUM, "true"},
	{SIZE, ""},
	{SIZE, "-1MiB"},
	{SIZE, "1.5GiB"},
	{SIZE, "1KB"},
	{SIZE, "1kib"},
	{SIZE, "1M"},
	{SIZE, "1b"},
	{SIZE, "MiB"},
	{SIZE, "1MiB2"},
	{SIZE, "16777216TiB"},
	{SIZE, "16777217TiB"},
	{SIZE, "18446744073709551616"},
	{SIZE, "18446744073709551615"},
	{SIZE, "auto"},
	{SIZE, "01MiB"},
	{SIZE, "1\tMiB"},
	{SPAN, "5"},
	{SPAN, "5 S"},
	{SPAN, "1h30m"},
	{SPAN, "1min"},
	{SPAN, "36501d"},
	{SPAN, "999999999999999d"},
	{SPAN, "-1s"},
	{SPAN, "0.5s"},
	{PART, "1.1"},
	{PART, "101%"},
	{PART, "-0.1"},
	{PART, ".5"},
	{PART, "0."},
	{PART, "0.1234567"},
	{PART, "0.00001%"},
	{PART, "5"},
	{PART, "1 %"},
	{PART, "99999999999999999999"},
	{FLAG, "yes"},
	{FLAG, "True"},
	{FLAG, "1"},
	{FLAG, ""},
	{WORD, ""},
	{WORD, "tr"},
	{WORD, "tryx"},
	{WORD, "ON"},
	{WORD, "try|on"},
	{PATH, "a/b"},
	{PATH, ""},
	{PATH, "/"},
	{PATH, "/1234567890"},
	{PATH, "/a\nb"},
	{PATH, "/a\x7f"},
	{PATH, "/a\xc3"},
	{PATH, "/\xc0\xaf"},
	{PATH, "/\xed\xa0\x80"},
	{PATH, "/\xf5\x80\x80\x80"},
	{PATH, "/\xe2\x80\xa8"},
	{PATH, "/\xc2\x85"},
	{PATH, "auto"},
	{TEXT, ""},
	{TEXT, "12345678901"},
	{TEXT, "\x1b[0m"},
	{NAME, ""},
	{NAME, "a b"},
	{NAME, "a/b"},
	{NAME, "auto"},
	{NAME, "\xc3\xa9"},
	{NAME, "12345678901234567890123456789012"},
	{UIDS, ""},
	{UIDS, "root"},
	{UIDS, "1,"},
	{UIDS, ",1"},
	{UIDS, "1 2"},
	{UIDS, "-1"},
	{UIDS, "4294967295"},
	{UIDS, "1,,2"},
	{UIDS, "none,1"},
	{UIDS, "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17"},
	{WHO, ""},
	{WHO, "none"},
	{WHO, "root"},
	{WHO, "auto"},
	{WHO, "1000"},
	{WHO, "uid:"},
	{WHO, "uid:-1"},
	{WHO, "uid:1000x"},
	{WHO, "uid:4294967295"},
	{WHO, "uid: 1"},
	{WHO, "gid:root"},
	{WHO, "user:no-such-user-here"},
	{WHO, "group:no-such-group-here"},
	{WHO, "user:0123456789012345678901234567890123456789012345678901234567890123"},
	{WHO, "uid:1,"},
	{WHO, "uid:1 uid:2"},
	{WHO, "uid:1, any"},
	{WHO, "owner, uid:1"},
	{WHO, "uid:1,uid:2,uid:3"},
};

TEST(config_values_that_are_refused)
{
	const struct config_key key[N_KEYS] = {
		[NUM] = key_of(CONFIG_T_u32, 4, "2", "4294967295"),
		[SIZE] = key_of(CONFIG_T_bytes, 8, "0", "16777215TiB"),
		[SPAN] = key_of(CONFIG_T_duration, 8, "0", "36500d"),
		[PART] = key_of(CONFIG_T_fraction, 4, "0", "1"),
		[FLAG] = key_of(CONFIG_T_flag, 1, "", ""),
		[WORD] = key_of(CONFIG_T_enum, 4, "try|on|off|", ""),
		[PATH] = key_of(CONFIG_T_path, 256, "2", "10"),
		[TEXT] = key_of(CONFIG_T_string, 256, "1", "10"),
		[NAME] = key_of(CONFIG_T_name, 32, "1", "31"),
		[UIDS] = key_of(CONFIG_T_uids, sizeof(struct config_uids), "", "16"),
		[WHO] = key_of(CONFIG_T_rights, sizeof(struct config_rights), "", "2"),
	};
	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
		unsigned char field[CONFIG_TEXT_BYTES], before[CONFIG_TEXT_BYTES];
		char why[CONFIG_WHY_BYTES] = "";
		memset(field, 0x5a, sizeof field);
		memcpy(before, field, sizeof field);
		int r = config_value_parse(
			&key[refused[i].key], refused[i].text, strlen(refused[i].text), field, why);
		if (r != -EINVAL)
			fprintf(stderr, "  accepted: \"%s\"\n", refused[i].text);
		CHECK(r == -EINVAL);
		CHECK(memcmp(field, before, sizeof field) == 0);
		CHECK(strstr(why, "; use "));
	}
}

TEST(config_resolve_refuses_what_cannot_be)
{
	const struct config_env nobody = {.uid = 1000};
	char err[CONFIG_ERROR_BYTES], deep[CONFIG_TEXT_BYTES];
	struct config c, before;

	config_defaults(&c);
	memcpy(&before, &c, sizeof c);
	CHECK(config_resolve_for(&c, &nobody, err, sizeof err) == -EINVAL);
	CHECK(strncmp(err, "data_dir: ", 10) == 0);

	memset(deep, 'x', sizeof deep);
	deep[0] = '/';
	deep[100] = '\0';
	const struct config_env far = {.uid = 1000, .runtime_dir = deep, .home = "/home/u"};
	CHECK(config_resolve_for(&c, &far, err, sizeof err) == -EINVAL);
	CHECK(strncmp(err, "socket: ", 8) == 0 && strstr(err, "at most 107 bytes"));
	CHECK(memcmp(&c, &before, sizeof c) == 0);

	/* An option may have changed what the file said. */
	const struct config_env root = {.uid = 0};
	c.pool[0].max_value_bytes = c.pool[0].size_bytes;
	CHECK(config_resolve_for(&c, &root, err, sizeof err) == -EINVAL);
	CHECK(strncmp(err, "pools.main.max_value: 64MiB is more than a quarter", 50) == 0);
	memcpy(&c, &before, sizeof c);
	strcpy(c.store[0].pool, "other");
	CHECK(config_resolve_for(&c, &root, err, sizeof err) == -EINVAL);
	CHECK(strncmp(err, "stores.default.pool: there is no pool other; ", 45) == 0);
	memcpy(&c, &before, sizeof c);
	strcpy(c.admin_socket, "/run/hypercache/hypercache.sock");
	CHECK(config_resolve_for(&c, &root, err, sizeof err) == -EINVAL);
	CHECK(strncmp(err, "admin_socket: it is the same as socket", 38) == 0);
}

/* -- what is right -- */

TEST(config_each_key_accepts_its_range_and_no_more)
{
	char why[CONFIG_WHY_BYTES];
	int ranges = 0;

	for (const struct config_key *k = config_keys; k < config_keys + CONFIG_N_KEYS; k++) {
		unsigned char field[sizeof(struct config_params)] = {0};
		CHECK(k->bytes && k->bytes <= sizeof field);
		CHECK(config_value_parse(k, k->def, strlen(k->def), field, why) == 0);
		CHECK(strlen(k->meaning) > 20 && k->meaning[strlen(k->meaning) - 1] == '.');
		if (k->type != CONFIG_T_u32 && k->type != CONFIG_T_bytes &&
			k->type != CONFIG_T_duration && k->type != CONFIG_T_fraction)
			continue;
		uint64_t min = 0, max = 0;
		CHECK(config_value_parse(k, k->min, strlen(k->min), &min, why) == 0);
		CHECK(config_value_parse(k, k->max, strlen(k->max), &max, why) == 0);
		CHECK(min < max && max < UINT64_MAX);
		char text[64];
		const char *one = k->type == CONFIG_T_duration ? "ns" : "";
		(void)snprintf(text, sizeof text, "%" PRIu64 "%s", max + 1, one);
		CHECK(config_value_parse(k, text, strlen(text), field, why) == -EINVAL);
		(void)snprintf(text, sizeof text, "%" PRIu64 "%s", min - 1, one);
		CHECK(min == 0 || config_value_parse(k, text, strlen(text), field, why) == -EINVAL);
		ranges++;
	}
	CHECK(ranges >= 10);
}

TEST(config_units)
{
	const struct config_key size = key_of(CONFIG_T_bytes, 8, "0", "16777215TiB");
	const struct config_key span = key_of(CONFIG_T_duration, 8, "0", "36500d");
	const struct config_key part = key_of(CONFIG_T_fraction, 4, "0", "1");
	const struct {
		const struct config_key *key;
		const char *text, *printed;
		uint64_t want;
	} good[] = {
		{&size, "0", "0", 0},
		{&size, "7", "7B", 7},
		{&size, "1024B", "1KiB", 1024},
		{&size, "3 KiB", "3KiB", 3072},
		{&size, "65MiB", "65MiB", 65 << 20},
		{&size, "2GiB", "2GiB", UINT64_C(2) << 30},
		{&size, "1TiB", "1TiB", UINT64_C(1) << 40},
		{&span, "0", "0", 0},
		{&span, "9ns", "9ns", 9},
		{&span, "9us", "9us", 9000},
		{&span, "1500ms", "1500ms", UINT64_C(1500000000)},
		{&span, "1000ms", "1s", 1000000000},
		{&span, "60s", "1m", UINT64_C(60000000000)},
		{&span, "2h", "2h", UINT64_C(7200000000000)},
		{&span, "1d", "1d", UINT64_C(86400000000000)},
		{&part, "0", "0", 0},
		{&part, "1", "1", 1000000},
		{&part, "0.85", "0.85", 850000},
		{&part, "85%", "0.85", 850000},
		{&part, "0.5%", "0.005", 5000},
		{&part, "0.000001", "0.000001", 1},
		{&part, "100%", "1", 1000000},
	};
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		char why[CONFIG_WHY_BYTES], text[64] = "";
		uint64_t v = 0;
		uint32_t v32 = 0;
		bool narrow = good[i].key->bytes == 4;
		void *field = narrow ? (void *)&v32 : (void *)&v;
		CHECK(config_value_parse(
			      good[i].key, good[i].text, strlen(good[i].text), field, why) == 0);
		CHECK((narrow ? v32 : v) == good[i].want);
		FILE *to = fmemopen(text, sizeof text, "w");
		CHECK(to);
		config_value_print(good[i].key, field, to);
		CHECK(fclose(to) == 0);
		CHECK(strcmp(text, good[i].printed) == 0);
	}
}

TEST(config_bool_and_text_values)
{
	const struct config_key flag = key_of(CONFIG_T_flag, 1, "", "");
	const struct config_key text = key_of(CONFIG_T_string, 256, "1", "255");
	char why[CONFIG_WHY_BYTES], field[CONFIG_TEXT_BYTES], printed[64] = "";
	bool v = false;

	CHECK(config_value_parse(&flag, "true", 4, &v, why) == 0 && v);
	CHECK(config_value_parse(&flag, "false", 5, &v, why) == 0 && !v);
	memset(field, 0x5a, sizeof field);
	CHECK(config_value_parse(&text, "a \"b\\ \xc3\xa9", 8, field, why) == 0);
	for (size_t i = 8; i < sizeof field; i++)
		CHECK(field[i] == '\0'); /* nothing of an older value is left for a child to see */
	FILE *to = fmemopen(printed, sizeof printed, "w");
	CHECK(to);
	config_value_print(&text, field, to);
	CHECK(fclose(to) == 0);
	CHECK(strcmp(printed, "\"a \\\"b\\\\ \xc3\xa9\"") == 0);
}

TEST(config_empty_files_are_the_defaults)
{
	static const char *const empty[] = {
		"", "\n", "# nothing\n", "---\n", "--- \n...\n", "{}\n", "\xef\xbb\xbf", "~\n"};
	struct config want, c;

	config_defaults(&want);
	CHECK(want.n_pools == 1 && strcmp(want.pool[0].name, "main") == 0);
	CHECK(want.n_stores == 1 && strcmp(want.store[0].name, "default") == 0);
	CHECK(want.max_clients == 256 && want.heartbeat_ns == 500000000 && want.admin_uids.n == 0);
	CHECK(want.pool[0].size_bytes == 64 << 20 && want.pool[0].huge_pages == CONFIG_HUGE_TRY);
	CHECK(want.limbo_cap_bytes == CONFIG_AUTO && strcmp(want.socket, "auto") == 0);
	for (size_t i = 0; i < sizeof empty / sizeof *empty; i++) {
		memset(&c, 0x5a, sizeof c);
		parse_good(&c, empty[i]);
		CHECK(memcmp(&c, &want, sizeof c) == 0);
	}
}

static const char full_text[] =
	"# every kind of value\n"
	"socket: \"/run/x/a \\\"b\\\\c.sock\"\n"
	"admin_uids: [1000, 4294967294]\n"
	"data_dir: /srv/\xc3\xa9t\xc3\xa9\n"
	"max_clients: 4096\n"
	"max_frame: 1 GiB\n"
	"heartbeat: 1500ms\n"
	"membarrier: off\n"
	"limbo_cap: 2MiB\n"
	"log_level: 'debug'\n"
	"max_clients_per_user: 7\n"
	"hardening: strict\n"
	"pools:\n"
	"  a: { size: 4MiB, huge_pages: \"off\", max_value: 1MiB,\n"
	"       read: [user:root, \"gid:5\", group:root, uid:9], write: uid:9 }\n"
	"  -b.: { size: 2GiB, huge_pages: on, huge_page_size: 1GiB,\n"
	"         read: [any], write: owner, scrub: true }\n"
	"  null:\n"
	"stores:\n"
	"  s: { pool: -b., ttl: 90s }\n"
	"  t: {}\n"
	"  u:\n"
	"    pool: \"null\"\n"
	"    type: general\n"
	"    policy: s3-fifo\n";

TEST(config_a_full_file)
{
	struct config c;

	parse_good(&c, full_text);
	CHECK(strcmp(c.socket, "/run/x/a \"b\\c.sock") == 0);
	CHECK(c.admin_uids.n == 2 && c.admin_uids.uid[1] == 4294967294u);
	CHECK(c.max_frame_bytes == 1 << 30 && c.heartbeat_ns == 1500000000);
	CHECK(c.membarrier == CONFIG_MEMBARRIER_OFF && c.log_level == CONFIG_LOG_DEBUG);
	CHECK(c.n_pools == 3 && c.n_stores == 3);
	CHECK(c.pool[0].huge_pages == CONFIG_HUGE_OFF && c.pool[0].max_value_bytes == 1 << 20);
	CHECK(c.pool[1].size_bytes == UINT64_C(2) << 30);
	CHECK(config_huge_page_bytes(&c.pool[1]) == 1 << 30);
	CHECK(config_huge_page_bytes(&c.pool[2]) == 2 << 20);
	CHECK(strcmp(c.pool[2].name, "null") == 0 && c.pool[2].size_bytes == 64 << 20);
	CHECK(c.store[0].ttl_ns == UINT64_C(90000000000) && strcmp(c.store[0].pool, "-b.") == 0);
	CHECK(strcmp(c.store[1].pool, "auto") == 0);
	const struct config_rights want = {
		.n = 4, .who = {{.id = 0}, {.is_group = 1, .id = 5}, {.is_group = 1}, {.id = 9}}};
	CHECK(memcmp(&c.pool[0].read, &want, sizeof want) == 0 && c.pool[0].write.n == 1);
	CHECK(c.pool[1].read.kind == CONFIG_RIGHTS_ANY && c.pool[1].scrub && !c.pool[0].scrub);
	CHECK(c.pool[1].write.kind == CONFIG_RIGHTS_LIST && c.pool[1].write.n == 0);
	CHECK(c.pool[2].read.kind == CONFIG_RIGHTS_AUTO);
	CHECK(c.pool[2].write.kind == CONFIG_RIGHTS_ANY);
	parse_good(&c, "admin_uids: 7, 8,9\n");
	CHECK(c.admin_uids.n == 3 && c.admin_uids.uid[2] == 9);
	parse_good(&c, "admin_uids: []\n");
	CHECK(c.admin_uids.n == 0);
}

TEST(config_resolve_fills_every_auto)
{
	const struct config_env root = {.uid = 0, .runtime_dir = "/run/user/0", .home = "/root"};
	const struct config_env user = {.uid = 1000,
		.runtime_dir = "/run/user/1000",
		.state_home = "/s",
		.home = "/home/u"};
	const struct config_env bare = {
		.uid = 1000, .runtime_dir = "here", .state_home = "", .home = "/home/u"};
	char err[CONFIG_ERROR_BYTES];
	struct config c;

	config_defaults(&c);
	CHECK(config_resolve_for(&c, &root, err, sizeof err) == 0);
	CHECK(strcmp(c.socket, "/run/hypercache/hypercache.sock") == 0);
	CHECK(strcmp(c.admin_socket, "/run/hypercache/admin.sock") == 0);
	CHECK(strcmp(c.data_dir, "/var/lib/hypercache") == 0);
	CHECK(c.pool[0].max_value_bytes == 16 << 20 &&
		c.pool[0].limbo_cap_bytes == (16 << 20) + (128 << 10));
	CHECK(strcmp(c.store[0].pool, "main") == 0 && c.store[0].pool_idx == 0);
	CHECK(c.max_clients_per_user == 224);
	CHECK(c.pool[0].read.kind == CONFIG_RIGHTS_ANY); /* whoever may connect to root's socket */
	config_defaults(&c);
	CHECK(config_resolve_for(&c, &user, err, sizeof err) == 0);
	CHECK(strcmp(c.socket, "/run/user/1000/hypercache/hypercache.sock") == 0);
	CHECK(strcmp(c.data_dir, "/s/hypercache") == 0);
	CHECK(c.pool[0].read.kind == CONFIG_RIGHTS_LIST && c.pool[0].read.n == 0); /* himself */
	config_defaults(&c);
	CHECK(config_resolve_for(&c, &bare, err, sizeof err) == 0);
	CHECK(strcmp(c.socket, "/tmp/hypercache-1000/hypercache.sock") == 0);
	CHECK(strcmp(c.admin_socket, "/tmp/hypercache-1000/admin.sock") == 0);
	CHECK(strcmp(c.data_dir, "/home/u/.local/state/hypercache") == 0);
	struct config once = c;
	CHECK(config_resolve_for(&c, &root, err, sizeof err) == 0); /* nothing is left to fill */
	CHECK(memcmp(&c, &once, sizeof c) == 0);

	parse_good(&c, full_text);
	CHECK(config_resolve_for(&c, &user, err, sizeof err) == 0);
	CHECK(strcmp(c.socket, "/run/x/a \"b\\c.sock") == 0);
	CHECK(strcmp(c.admin_socket, "/run/x/admin.sock") == 0);
	CHECK(c.store[0].pool_idx == 1 && c.store[1].pool_idx == 0 && c.store[2].pool_idx == 2);
	CHECK(c.pool[1].limbo_cap_bytes == 2 << 20);
	/* a quarter of a large pool is more than a frame can carry */
	parse_good(&c, "pools: { big: { size: 1GiB } }\n");
	CHECK(config_resolve_for(&c, &root, err, sizeof err) == 0);
	CHECK(c.pool[0].max_value_bytes == 64 << 20 && c.pool[0].limbo_cap_bytes == 128 << 20);
}

TEST(config_print_parses_back)
{
	const struct config_env user = {.uid = 1000, .home = "/home/u"};
	char err[CONFIG_ERROR_BYTES];
	struct config c;

	config_defaults(&c);
	check_round_trip(&c);
	CHECK(config_resolve_for(&c, &user, err, sizeof err) == 0);
	check_round_trip(&c);
	parse_good(&c, full_text);
	check_round_trip(&c);
	CHECK(config_resolve_for(&c, &user, err, sizeof err) == 0);
	check_round_trip(&c);
}

TEST(config_largest_file_of_names)
{
	char text[8192], *at = text;
	struct config c;

	at += sprintf(at, "pools:\n");
	for (int i = 0; i < CONFIG_POOLS_MAX; i++)
		at += sprintf(at, "  p%d:\n", i);
	at += sprintf(at, "stores:\n");
	for (int i = 0; i < CONFIG_STORES_MAX; i++)
		at += sprintf(at, "  s%d: { pool: p%d }\n", i, i % CONFIG_POOLS_MAX);
	parse_good(&c, text);
	CHECK(c.n_pools == CONFIG_POOLS_MAX && c.n_stores == CONFIG_STORES_MAX);
	CHECK(strcmp(c.store[63].pool, "p15") == 0);
	check_round_trip(&c);
}

TEST(config_rights_name_users_and_groups)
{
	const uint32_t groups[] = {5, 77};
	struct config c;

	parse_good(&c, "pools: { p: { read: \"uid:9, gid:77\" } }\n");
	const struct config_rights *r = &c.pool[0].read;
	CHECK(config_rights_name(r, 9, groups, 1));
	CHECK(config_rights_name(r, 8, groups, 2));
	CHECK(!config_rights_name(r, 8, groups, 1));
	CHECK(!config_rights_name(r, 77, groups, 1) && !config_rights_name(r, 8, NULL, 0));
	CHECK(config_rights_name(&c.pool[0].write, 8, NULL, 0));
}

/* -- hostile bytes -- */

/* Any bytes: an answer, one line if it is an error, and whatever is accepted prints and parses back.
 * The bytes lie at the end of their own allocation, so that ASan sees a read beyond them. */
static bool hostile_parse(const unsigned char *bytes, size_t n)
{
	char err[CONFIG_ERROR_BYTES] = "";
	struct config c;
	unsigned char *exact = malloc(n ? n : 1);

	CHECK(exact);
	memcpy(exact, bytes, n);
	int r = config_parse(&c, "t", exact, n, err, sizeof err);
	free(exact);
	CHECK(r == 0 || r == -EINVAL);
	if (r == 0)
		check_round_trip(&c);
	else
		CHECK(strncmp(err, "t:", 2) == 0 && strstr(err, "; ") && !strpbrk(err, "\n\033"));
	return r == 0;
}

TEST(config_random_bytes)
{
	for (int i = 0; i < ROUNDS; i++) {
		unsigned char bytes[256];
		size_t n = t_random() % sizeof bytes;
		for (size_t j = 0; j < n; j++)
			bytes[j] = (unsigned char)t_random();
		(void)hostile_parse(bytes, n);
	}
}

TEST(config_damaged_files)
{
	static const char marks[] = "\n\n :-{}[],'\"\\&*!|>%@`#?~0129aMiB\t\0\x80\xff";
	unsigned char bytes[2 * sizeof full_text];
	int accepted = 0;

	for (int i = 0; i < ROUNDS; i++) {
		size_t n = sizeof full_text - 1;
		memcpy(bytes, full_text, n);
		for (uint64_t hits = 1 + t_random() % 4; hits; hits--) {
			size_t at = t_random() % n, from = t_random() % n, len = t_random() % 16;
			switch (t_random() % 4) {
			case 0:
				bytes[at] ^= (unsigned char)(1u << t_random() % 8);
				break;
			case 1:
				bytes[at] = (unsigned char)marks[t_random() % (sizeof marks - 1)];
				break;
			case 2: /* a piece is doubled elsewhere */
				len = len > n - from ? n - from : len;
				len = len > n - at ? n - at : len;
				memmove(bytes + at, bytes + from, len);
				break;
			default:
				n = at + 1;
			}
		}
		accepted += hostile_parse(bytes, n);
	}
	CHECK(accepted > ROUNDS / 100 && accepted < ROUNDS / 2); /* both sides are reached */
}

TEST(config_nesting_and_floods_end)
{
	static const char *const pieces[] = {"[", "{", "{a: ", "- ", "? ", "a: {", "&a ", "*a ",
		"!!x ", "\"", "'", "|\n", "a:\n", "%YAML 1.1\n", "---\n", "socket: [",
		"pools: {a: {size: {", "pools: {x: {}, ", "admin_uids: [1,"};

	for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
		size_t piece = strlen(pieces[i]), n = 0;
		unsigned char *bytes = malloc(CONFIG_FILE_MAX_BYTES);
		CHECK(bytes);
		for (; n + piece <= CONFIG_FILE_MAX_BYTES; n += piece)
			memcpy(bytes + n, pieces[i], piece);
		CHECK(!hostile_parse(bytes, n));
		free(bytes);
	}
}

/* -- documents -- */

static char *document_new(void (*print)(FILE *))
{
	char *text = NULL;
	size_t n = 0;
	FILE *to = open_memstream(&text, &n);

	CHECK(to);
	print(to);
	CHECK(fclose(to) == 0);
	return text;
}

TEST(config_help_names_every_key_and_fits_a_terminal)
{
	char *help = document_new(config_help), *man = document_new(config_man), line[128];

	for (const struct config_key *k = config_keys; k < config_keys + CONFIG_N_KEYS; k++) {
		(void)snprintf(
			line, sizeof line, "\n%c %s: %s\n", k->live ? '*' : ' ', k->name, k->def);
		CHECK(strstr(help, line));
		(void)snprintf(line, sizeof line, "\n.It Cm %s : Ar %s\n", k->name, k->def);
		CHECK(strstr(man, line));
	}
	CHECK(strstr(help, "one of try, on, off") && strstr(help, "64KiB..1GiB"));
	for (const char *p = help, *end; (end = strchr(p, '\n')); p = end + 1)
		CHECK(end - p <= 80);
	free(help);
	free(man);
}

TEST(config_man_is_clean_mdoc)
{
	if (system("command -v mandoc >/dev/null 2>&1") != 0)
		SKIP("mandoc is not installed");
	FILE *to = popen("mandoc -T lint -W warning >&2", "we");
	CHECK(to);
	config_man(to);
	CHECK(pclose(to) == 0);
}
