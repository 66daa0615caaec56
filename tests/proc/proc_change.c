/* proc_change.c - the verbs of the command line that change entries: conditions, numbers, times, many at
 * once, a whole store; what they print, for people and programs, and their exit statuses. */
#include "cli_run.h"
#include "hypercache.h"

/* Standard input, and what is printed. */
static void check_out(const struct t_daemon *d, int status, const char *input, const char *out,
	const char *const *args)
{
	struct result r = run_with(d, input, input ? strlen(input) : 0, args);

	if (r.status != status || strcmp(r.out, out) != 0)
		t_fail(__FILE__, __LINE__, "%s: status %d, not %d: %s%s", args[0], r.status, status,
			r.out, r.err);
	result_free(&r);
}

/* Refused, with a line for people that has this text. */
static void check_refused(
	const struct t_daemon *d, int status, const char *text, const char *const *args)
{
	struct result r = run(d, args);

	if (r.status != status || r.bytes || !strstr(r.err, text))
		t_fail(__FILE__, __LINE__, "%s: status %d, not %d: %s%s", args[0], r.status, status,
			r.out, r.err);
	result_free(&r);
}

/* A number of `meta --json KEY`, as text in static memory. */
static const char *meta_of(const struct t_daemon *d, const char *key, const char *name)
{
	static char text[24];
	struct result r = run(d, ARGS("meta", key, "--json"));

	(void)snprintf(text, sizeof text, "%llu", (unsigned long long)json_number(r.out, name));
	result_free(&r);
	return text;
}

TEST(conditions_of_a_set)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	char version[24];

	check_refused(d, 1, "there is no such entry", ARGS("set", "--replace", "k", "0"));
	check_refused(d, 1, "there is no such entry", ARGS("replace", "k", "0"));
	check_out(d, 0, NULL, "", ARGS("add", "k", "one"));
	check_refused(d, 1, "there is an entry", ARGS("add", "k", "two"));
	check_refused(d, 1, "there is an entry", ARGS("set", "--add", "k", "two"));
	check_out(d, 1, NULL, "{\"result\":\"exists\",\"key\":\"k\",\"version\":1}\n",
		ARGS("add", "k", "two", "--json"));
	check_value(d, "k", "one", 3);
	check_out(d, 0, "two", "", ARGS("replace", "k"));
	(void)snprintf(version, sizeof version, "%s", meta_of(d, "k", "version"));
	check_refused(d, 1, "the entry has version 2", ARGS("cas", "k", "1", "three"));
	check_out(d, 1, NULL, "{\"result\":\"conflict\",\"key\":\"k\",\"version\":2}\n",
		ARGS("--json", "set", "--if-version", "1", "k", "three"));
	check_value(d, "k", "two", 3);
	check_out(d, 0, NULL, "{\"result\":\"set\",\"key\":\"k\",\"version\":3}\n",
		ARGS("cas", "k", version, "three", "--json"));
	check_out(d, 0, NULL, "", ARGS("set", "--if-version", "3", "k", "four"));
	check_refused(d, 1, "no such entry", ARGS("cas", "absent", "3", "v"));
	check_out(d, 0, NULL, "", ARGS("set", "s", "ten", "--stamp", "10"));
	check_refused(d, 1, "stamp is as high", ARGS("set", "s", "ten", "--if-newer", "10"));
	check_out(d, 0, NULL, "", ARGS("set", "s", "eleven", "--if-newer", "11"));
	CHECK_STR(meta_of(d, "s", "stamp"), "11");
	check_value(d, "s", "eleven", 6);
	t_daemon_stop(d);
}

TEST(append_prepend_and_delete_of_a_version)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);

	check_refused(d, 1, "no such entry", ARGS("append", "k", "x"));
	check_status(d, 0, ARGS("set", "k", "b", "--flags", "7"));
	check_out(d, 0, "c\n", "", ARGS("append", "k"));
	check_out(d, 0, NULL, "{\"result\":\"set\",\"key\":\"k\",\"version\":3}\n",
		ARGS("prepend", "k", "a", "--json", "--if-version", "2"));
	check_refused(d, 1, "has version 3", ARGS("append", "k", "x", "--if-version", "2"));
	check_value(d, "k", "abc\n", 4);
	CHECK_STR(meta_of(d, "k", "flags"), "7");
	check_refused(d, 1, "another version", ARGS("delete", "k", "--if-version", "2"));
	check_out(d, 1, NULL, "{\"result\":\"conflict\",\"key\":\"k\"}\n",
		ARGS("delete", "k", "--if-version", "2", "--json"));
	check_out(d, 0, NULL, "{\"result\":\"deleted\",\"key\":\"k\"}\n",
		ARGS("delete", "k", "--if-version", "3", "--json"));
	check_out(d, 1, NULL, "{\"result\":\"miss\",\"key\":\"k\"}\n",
		ARGS("delete", "k", "--if-version", "3", "--json"));
	t_daemon_stop(d);
}

TEST(numbers)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);

	check_out(d, 0, NULL, "1\n", ARGS("incr", "n"));
	check_out(d, 0, NULL, "11\n", ARGS("incr", "n", "10"));
	check_out(d, 0, NULL, "8\n", ARGS("decr", "n", "3"));
	check_out(d, 0, NULL, "3\n", ARGS("incr", "--", "n", "-5"));
	check_out(d, 0, NULL, "{\"result\":\"set\",\"key\":\"n\",\"value\":2}\n",
		ARGS("decr", "n", "--json"));
	check_value(d, "n", "2", 1);
	check_out(d, 0, NULL, "105\n", ARGS("incr", "m", "5", "--initial", "100"));
	check_out(d, 0, NULL, "-101\n", ARGS("decr", "l", "--initial", "-100"));
	check_refused(d, 1, "no such entry", ARGS("incr", "absent", "--must-exist"));
	check_out(d, 1, NULL, "{\"result\":\"miss\",\"key\":\"absent\"}\n",
		ARGS("incr", "absent", "--must-exist", "--json"));
	check_status(d, 1, ARGS("get", "absent"));
	check_status(d, 0, ARGS("set", "max", "9223372036854775807"));
	check_out(d, 0, NULL, "9223372036854775807\n", ARGS("incr", "max", "2"));
	check_out(d, 0, NULL, "-9223372036854775807\n", ARGS("incr", "max", "2", "--wrap"));
	check_out(d, 0, NULL, "-9223372036854775808\n", ARGS("decr", "max", "2"));
	check_out(d, 0, NULL, "9223372036854775807\n", ARGS("decr", "max", "1", "--wrap"));
	check_status(d, 0, ARGS("set", "word", "one"));
	check_refused(d, 5, "HC_E_NOT_NUMBER", ARGS("incr", "word"));
	check_status(d, 0, ARGS("incr", "brief", "--ttl", "1h"));
	struct result r = run(d, ARGS("meta", "brief"));
	check_says(&r, "expires   59 min", NULL);
	result_free(&r);
	t_daemon_stop(d);
}

TEST(times)
{
	struct t_daemon *d = t_daemon_start("stores: { default: {ttl: 2h} }\n", NULL);
	struct result r;

	check_status(d, 1, ARGS("touch", "k", "1h"));
	check_status(d, 0, ARGS("set", "k", "v", "--ttl", "never"));
	CHECK_STR(meta_of(d, "k", "ttl_ms"), "0");
	check_out(d, 0, NULL, "{\"result\":\"touched\",\"key\":\"k\"}\n",
		ARGS("touch", "k", "1h", "--json"));
	r = run(d, ARGS("meta", "k"));
	check_says(&r, "expires   59 min", NULL);
	result_free(&r);
	check_status(d, 0, ARGS("touch", "k"));
	r = run(d, ARGS("meta", "k"));
	check_says(&r, "expires   1 h 59 min", NULL);
	result_free(&r);
	check_out(d, 0, NULL, "v", ARGS("get", "k", "--touch", "3h"));
	r = run(d, ARGS("meta", "k"));
	check_says(&r, "expires   2 h 59 min", NULL);
	result_free(&r);
	check_status(d, 0, ARGS("touch", "k", "never"));
	r = run(d, ARGS("meta", "k"));
	check_says(&r, "expires   never", NULL);
	result_free(&r);
	check_out(d, 1, NULL, "", ARGS("get", "absent", "--touch", "3h"));
	check_out(d, 0, NULL,
		"{\"result\":\"hit\",\"key\":\"k\",\"value\":\"v\",\"version\":1,\"flags\":0}\n",
		ARGS("get", "k", "--json"));
	t_daemon_stop(d);
}

/* ------------------------------------------------------------------ many at once */

TEST(mset_reads_arguments_lines_base64_and_zeroes)
{
	static const char zero[] = "a\tb\0line\nline\0"
				   "empty\0\0";
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct result r;

	check_out(d, 0, NULL, "", ARGS("mset", "a", "1", "b", "2"));
	check_value(d, "b", "2", 1);
	check_out(d, 0, "c\t3\nd\t4 \t5\ne\t\nlast\tx",
		"{\"result\":\"set\",\"set\":4,\"not_set\":0}\n",
		ARGS("mset", "--json", "--flags", "9"));
	check_value(d, "d", "4 \t5", 4);
	check_value(d, "e", "", 0);
	check_value(d, "last", "x", 1);
	CHECK_STR(meta_of(d, "c", "flags"), "9");
	check_out(d, 0, "AP8=\tAAEC\n", "", ARGS("mset", "--base64"));
	r = run(d, ARGS("get", "--base64", "AP8="));
	CHECK(r.bytes == 3 && memcmp(r.out, "\0\1\2", 3) == 0);
	result_free(&r);
	r = run_with(d, zero, sizeof zero - 1, ARGS("mset", "--zero"));
	CHECK_EQ(r.status, 0);
	result_free(&r);
	check_value(d, "a\tb", "line\nline", 9);
	check_value(d, "empty", "", 0);
	check_out(d, 1, "a\tnew\nfresh\tnew\n", "{\"result\":\"some\",\"set\":1,\"not_set\":1}\n",
		ARGS("mset", "--add", "--json"));
	check_value(d, "a", "1", 1);
	check_value(d, "fresh", "new", 3);
	check_refused(d, 1, "1 of 2 entries were not written",
		ARGS("mset", "a", "new", "nobody", "new", "--replace"));
	check_out(d, 0, "", "", ARGS("mset"));
	t_daemon_stop(d);
}

TEST(mset_says_which_pair_is_wrong_and_how_many_were_set)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	static const struct {
		const char *input, *option, *text;
	} wrong[] = {
		{"a\t1\nb 2\n", NULL, "line 2 is not KEY, tab, VALUE; 0 entries were set"},
		{"a\t1\n\t2\n", NULL, "pair 2: a key has 1 to 65536 bytes"},
		{"AP8=\tAAE\n", "--base64", "line 1 is not base64"},
		{"a", "--zero", "key 1 has no value"},
	};

	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		struct result r = run_with(
			d, wrong[i].input, strlen(wrong[i].input), ARGS("mset", wrong[i].option));
		if (r.status != 2 || !strstr(r.err, wrong[i].text))
			t_fail(__FILE__, __LINE__, "%zu: status %d: %s", i, r.status, r.err);
		result_free(&r);
	}
	check_status(d, 1, ARGS("get", "a"));
	check_refused(d, 2, "the last key has no value", ARGS("mset", "a"));
	t_daemon_stop(d);
}

TEST(mset_takes_any_number_of_pairs)
{
	enum { N = 5000, LINE = 24 };
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	char *input = malloc(N * LINE), *at = input, *out;

	CHECK(input);
	for (int i = 0; i < N; i++)
		at += sprintf(at, "key-%d\tv%d\n", i, i);
	check_out(d, 0, input, "{\"result\":\"set\",\"set\":5000,\"not_set\":0}\n",
		ARGS("mset", "--json"));
	check_value(d, "key-4999", "v4999", 5);
	struct result r = run(d, ARGS("scan"));
	out = r.out;
	int n = 0;
	for (; (out = strchr(out, '\n')); out++)
		n++;
	CHECK(n >= N);
	result_free(&r);
	free(input);
	t_daemon_stop(d);
}

TEST(clear_empties_the_store_that_is_named)
{
	struct t_daemon *d = t_daemon_start("pools: { main: { size: 8MiB, huge_pages: off } }\n"
					    "stores: { one: {}, default: {} }\n",
		NULL);

	check_status(d, 0, ARGS("set", "k", "v", "--store", "one"));
	check_status(d, 0, ARGS("set", "k", "v"));
	check_refused(d, 2, "say which store", ARGS("clear"));
	check_out(d, 0, NULL, "{\"result\":\"cleared\",\"store\":\"one\",\"entries\":1}\n",
		ARGS("clear", "--store", "one", "--json"));
	check_status(d, 1, ARGS("get", "k", "--store", "one"));
	check_status(d, 0, ARGS("get", "k"));
	check_out(d, 0, NULL, "", ARGS("clear", "--store", "default"));
	check_status(d, 1, ARGS("get", "k"));
	check_refused(d, 5, "there is no store", ARGS("clear", "--store", "none"));
	t_daemon_stop(d);
}

/* ------------------------------------------------------------------ wrong usage */

TEST(what_a_verb_does_not_take_is_refused_by_name)
{
	static const struct {
		const char *text;
		const char *args[6];
	} wrong[] = {
		{"get does not take --ttl", {"get", "k", "--ttl", "1s"}},
		{"get does not take --add", {"get", "k", "--add"}},
		{"ping does not take --store", {"ping", "--store", "default"}},
		{"delete does not take --flags", {"delete", "k", "--flags", "1"}},
		{"mset does not take --if-version", {"mset", "a", "b", "--if-version", "1"}},
		{"add does not take --replace", {"add", "a", "b", "--replace"}},
		{"clear does not take --force", {"clear", "--force"}},
		{"exclude each other", {"set", "a", "b", "--add", "--replace"}},
		{"exclude each other", {"set", "a", "b", "--add", "--if-newer", "1"}},
		{"is not what --if-version takes", {"set", "a", "b", "--if-version", "0"}},
		{"is not what --if-version takes", {"set", "a", "b", "--if-version", "-1"}},
		{"is not what --stamp takes", {"set", "a", "b", "--stamp", "18446744073709551616"}},
		{"is not what --initial takes", {"incr", "a", "--initial", "1.5"}},
		{"is not what --initial takes", {"incr", "a", "--initial", "-"}},
		{"is not what --touch takes", {"get", "a", "--touch", "soon"}},
		{"is not a number", {"incr", "a", "9223372036854775808"}},
		{"is not a number", {"incr", "a", "1x"}},
		{"has no 64 bits", {"decr", "--", "a", "-9223372036854775808"}},
		{"is no version", {"cas", "a", "0", "v"}},
		{"is no version", {"cas", "a", "new", "v"}},
		{"it is `hypercache cas KEY VERSION", {"cas", "a"}},
		{"is no time", {"touch", "a", "10"}},
		{"--zero is for standard input", {"mset", "--zero", "a", "b"}},
		{"it is `hypercache clear`", {"clear", "now"}},
	};

	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		const char *args[7] = {0};
		memcpy(args, wrong[i].args, sizeof wrong[i].args);
		struct result r = run(NULL, args);
		if (r.status != 2 || !strstr(r.err, wrong[i].text))
			t_fail(__FILE__, __LINE__, "%s %s: status %d: %s", args[0],
				args[1] ? args[1] : "", r.status, r.err);
		result_free(&r);
	}
}

TEST(a_scan_goes_on_page_by_page)
{
	enum { N = 1000, PAGE = 100 };
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	char input[N * 16], *at = input, cursor[24] = "0";
	int keys = 0, pages = 0;

	for (int i = 0; i < N; i++)
		at += sprintf(at, "p:%d\t\n", i);
	check_out(d, 0, input, "", ARGS("mset"));
	do {
		struct result r = run(
			d, ARGS("scan", "p:", "--json", "--limit", "100", "--cursor", cursor));
		CHECK_EQ(r.status, 0);
		for (char *key = r.out; (key = strstr(key, "\"key\":")); key++)
			keys++;
		(void)snprintf(cursor, sizeof cursor, "%llu",
			(unsigned long long)json_number(r.out, "cursor"));
		result_free(&r);
		CHECK(++pages <= N);
	} while (strcmp(cursor, "0") != 0);
	CHECK_EQ(keys, N);
	CHECK(pages >= 5 && pages <= N / PAGE);
	struct result r = run(d, ARGS("scan", "--limit", "10"));
	CHECK(r.status == 0 && strstr(r.err, "there is more: --cursor "));
	result_free(&r);
	r = run(d, ARGS("scan", "--limit", "5000"));
	CHECK(r.status == 0 && r.bytes > N * 3);
	CHECK_STR(r.err, "");
	result_free(&r);
	t_daemon_stop(d);
}

/* What the shell would offer for the last of these words: each with a blank behind it. */
static char *complete(const char *const *words)
{
	static const char script[] =
		"source \"$1\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); "
		"case $1 in *hypercached) _hypercached;; *) _hypercache;; esac; "
		"printf '%s ' \"${COMPREPLY[@]}\"";
	const char *argv[ARGS_MAX + 8] = {"/bin/bash", "--norc", "-c", script, "bash"};
	const char *root = getenv("HC_SOURCE_ROOT");
	char path[512], *out;
	int n = 6;

	if (!root)
		SKIP("HC_SOURCE_ROOT is not set: run it through meson test");
	(void)snprintf(path, sizeof path, "%s/tools/deploy/hypercache.bash", root);
	argv[5] = path;
	for (int i = 0; words[i]; i++)
		argv[n++] = words[i];
	CHECK_EQ(t_run(argv, NULL, 0, &out, NULL, NULL, LIMIT_MS), 0);
	return out;
}

static void check_offers(const char *want, const char *const *words)
{
	char *out = complete(words);

	CHECK_STR(out, want);
	free(out);
}

TEST(the_shell_completes_verbs_options_and_stores)
{
	struct t_daemon *d = t_daemon_start("pools: { main: { size: 8MiB, huge_pages: off } }\n"
					    "stores: { pages: {}, sessions: {}, parts: {} }\n",
		NULL);
	const char *hc = t_bin("hypercache");
	char *out;

	check_offers("decr delete ", ARGS(hc, "de"));
	check_offers("--must-exist ", ARGS(hc, "incr", "--m"));
	check_offers("--if-version ", ARGS(hc, "delete", "key", "--if"));
	check_offers("--timeout ", ARGS(hc, "--ti"));
	check_offers(" ", ARGS(hc, "get", "--add"));
	check_offers("check show diff ", ARGS(hc, "config", ""));
	check_offers("incr ", ARGS(hc, "--store", "pages", "inc")); /* a store is no verb */
	check_offers("mset meta monitor mrc ", ARGS(hc, "help", "m"));
	check_offers("never ", ARGS(hc, "set", "--ttl", "n"));
	check_offers("touch top ", ARGS(hc, "help", "to"));
	check_offers("500ms 5s ", ARGS(hc, "top", "--interval", "5"));
	check_offers("pages parts ",
		ARGS(hc, "--socket", d->socket, "--admin", d->admin, "scan", "--store", "pa"));
	check_offers("pages ", ARGS(hc, "--admin", d->admin, "store", "drop", "pag"));
	check_offers(" ", ARGS(hc, "--admin", "/nowhere", "scan", "--store", "pa"));
	check_offers(" ", ARGS(hc, "set", "key", "--", "--t"));
	check_offers("--check-config --config ", ARGS(t_bin("hypercached"), "--c"));
	out = complete(ARGS(hc, ""));
	CHECK(strstr(out, "get get-or set add ") && !strstr(out, "--"));
	free(out);
	t_daemon_stop(d);
}

TEST(each_verb_explains_itself)
{
	struct result all = run(NULL, ARGS("help", "--words"));
	int n = 0;

	CHECK_EQ(all.status, 0);
	for (char *verb = strtok(all.out, "\n"); verb; verb = strtok(NULL, "\n"), n++) {
		char head[64];
		struct result r = run(NULL, ARGS(verb, "--help"));
		(void)snprintf(head, sizeof head, "hypercache %s", verb);
		CHECK_EQ(r.status, 0);
		CHECK(strncmp(r.out, head, strlen(head)) == 0);
		check_says(&r, "  --socket PATH", NULL);
		result_free(&r);
	}
	CHECK(n >= 25);
	result_free(&all);
	all = run(NULL, ARGS("help", "incr", "--words"));
	check_says(&all, "--initial N\n", NULL);
	CHECK(strstr(all.out, "--flags") == NULL);
	result_free(&all);
	all = run(NULL, ARGS("help", "config", "--words"));
	check_says(&all, "check\n", "show\n", "diff\n", NULL);
	result_free(&all);
}
