/* hypercache.c - the command line: options, the table of verbs, help. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "cli.h"
#include "hypercache.h"
#include "hypercache_admin.h"
#include "step.h"
#include "top.h"

enum { TIMEOUT_MS = 5000, TIMEOUT_MAX_MS = 3600000 };
#define TEN_YEARS_MS (UINT64_C(3650) * 86400000)

static int cli_help(const struct cli *c);

/* X(id, name, argument or NULL, meaning): all options.  Their place is their bit in cli_verb.options. */
#define OPTIONS(X) \
	X(SOCKET, "socket", "PATH", \
		"the daemon's socket; else $HYPERCACHE_SOCKET, or the usual place") \
	X(ADMIN, "admin", "PATH", "the admin socket; else admin.sock beside the other") \
	X(TIMEOUT, "timeout", "TIME", "how long to wait, as 500ms or 10s; else 5s") \
	X(JSON, "json", NULL, "one JSON object; bytes that are not UTF-8 as NAME_base64") \
	X(HELP, "help", NULL, "this; with a verb, about the verb") \
	X(VERSION, "version", NULL, "the version; --: the end of the options") \
	X(STORE, "store", "NAME", "the store; else \"default\" (stat: all)") \
	X(BASE64, "base64", NULL, "KEY and VALUE are given in base64: any bytes") \
	X(TTL, "ttl", "TIME", "time to live, as 10s, 5m, 1h, 2d, or never; else the store's") \
	X(FLAGS, "flags", "N", "the caller's flags, 0 to 4294967295") \
	X(STAMP, "stamp", "N", "the caller's order mark, kept with the entry") \
	X(ADD, "add", NULL, "only if there is no such entry") \
	X(REPLACE, "replace", NULL, "only if there is one") \
	X(IF_VERSION, "if-version", "N", "only if there is one of this version") \
	X(IF_NEWER, "if-newer", "STAMP", "only if there is none of this stamp or a higher one") \
	X(TOUCH, "touch", "TIME", "the entry gets this time to live, from now") \
	X(FRESH, "fresh", "TIME", "how long a value is fresh; then one process computes the next") \
	X(LEASE, "lease", "TIME", \
		"how long the command may take before another one is run; else 10s") \
	X(ABSENT, "absent", "TIME", "how long it is remembered that there is no such thing") \
	X(INITIAL, "initial", "N", "what an absent entry is taken for; else 0") \
	X(WRAP, "wrap", NULL, "past 64 bits it goes on at the other end; else it stays there") \
	X(MUST_EXIST, "must-exist", NULL, "an absent entry is not made") \
	X(ZERO, "zero", NULL, "zero bytes end the keys and values of standard input") \
	X(LIMIT, "limit", "N", \
		"or -n N: at most so many; scan: a page of about so many, and where the next " \
		"begins") \
	X(CURSOR, "cursor", "N", "go on where a page ended") \
	X(VERBOSE, "verbose", NULL, "all counters, and what they mean; clients: by store") \
	X(LATENCY, "latency", NULL, "how long requests and the engine's own work took") \
	X(WATCH, "watch", NULL, "or -w: rates, a second at a time") \
	X(COUNT, "count", "N", "so many seconds, or looks; else until it is interrupted") \
	X(INTERVAL, "interval", "TIME", "from one look to the next, as 500ms or 2s; else 1s") \
	X(ONCE, "once", NULL, "one look, of one interval") \
	X(SIMULATE, "simulate", "POLICY,...", \
		"what these policies would do, without a daemon; or all") \
	X(SIZES, "sizes", "N,...", "of caches: objects, a part of them (10%) or memory (64MiB)") \
	X(PROCESSES, "processes", "N", "how many read and write; else 2") \
	X(FORCE, "force", NULL, "also where entries are lost") \
	X(REPAIR, "repair", NULL, "fsck: what is damaged goes") \
	X(PAUSE, "pause", NULL, "fsck: writes wait meanwhile, 5 s at most") \
	X(SAVE, "save", "FILE", "fsck: write an image of the memory, to be looked at later") \
	X(PREFIX, "prefix", "TEXT", "of the keys wanted") \
	X(FROM, "from", "N", "the number of the first event wanted, or oldest; else from now on") \
	X(COMPRESS, "compress", NULL, "dump: with zstd") \
	X(CREATE, "create", NULL, "restore: stores that are not there are made, as they were") \
	X(VERIFY, "verify", NULL, "restore: read the archive through, and restore nothing") \
	X(WORDS, "words", NULL, "the bare names of verbs, or of a verb's options: for a shell")

enum {
#define OPT_ENUM_(id, name, arg, line) OPT_##id,
	OPTIONS(OPT_ENUM_) N_OPTIONS,
	OPT_FIRST = 256 /* what getopt_long says for option 0 */
};
#define BIT(id) (UINT64_C(1) << OPT_##id)
_Static_assert(N_OPTIONS <= 64, "one bit each");

/* Of every verb. */
#define OF_ALL (BIT(SOCKET) | BIT(ADMIN) | BIT(TIMEOUT) | BIT(JSON) | BIT(HELP) | BIT(VERSION))
#define OF_DATA (BIT(STORE) | BIT(BASE64))
#define OF_SET (OF_DATA | BIT(TTL) | BIT(FLAGS) | BIT(STAMP))

static const struct {
	const char *name, *arg, *line;
} option_table[] = {
#define OPT_ROW_(id, name, arg, line) {name, arg, line},
	OPTIONS(OPT_ROW_)};

static const struct cli_verb verbs[] = {
	{"get", "KEY", "print the value of a key",
		"The value's bytes go to standard output as they are; a newline follows\n"
		"only if that is a terminal.  --json has its version and flags too.\n"
		"Exit status 1 if there is no such entry.\n",
		1, 1, OF_DATA | BIT(TOUCH), cli_get},
	{"get-or", "KEY -- COMMAND [ARG]...", "print a value, or compute it",
		"Of all who want a value that is not there, one runs COMMAND: what that prints is\n"
		"the value, and is kept.  The others wait, for --timeout at most, and print it\n"
		"too; if that one is killed, the next one runs COMMAND.  With --fresh a value is\n"
		"computed anew when it is older, by one, while the others print what there is;\n"
		"if COMMAND fails then, the old value is printed.  With --absent a COMMAND that\n"
		"ends with status 1 says that there is no such thing: exit status 1, without\n"
		"asking again for that time.\n",
		2, INT_MAX, OF_DATA | BIT(TTL) | BIT(FRESH) | BIT(LEASE) | BIT(ABSENT), cli_get_or},
	{"set", "KEY [VALUE|-]", "set a key to a value",
		"Without VALUE, or with -, the value is all that comes from standard\n"
		"input, byte for byte.  Exit status 1 if its condition does not hold: nothing has\n"
		"changed then, and --json says which (exists, miss, conflict, older).\n",
		1, 2, OF_SET | BIT(ADD) | BIT(REPLACE) | BIT(IF_VERSION) | BIT(IF_NEWER), cli_set},
	{"add", "KEY [VALUE|-]", "set a key that is not there", "As set --add.\n", 1, 2, OF_SET,
		cli_add},
	{"replace", "KEY [VALUE|-]", "set a key that is there", "As set --replace.\n", 1, 2, OF_SET,
		cli_replace},
	{"cas", "KEY VERSION [VALUE|-]", "compare and set",
		"As set --if-version: writes only if nobody has written since VERSION, which\n"
		"`get --json` and `meta` tell.\n",
		2, 3, OF_SET, cli_cas},
	{"append", "KEY [VALUE|-]", "put bytes behind a value",
		"The entry keeps its flags, stamp and time.  Exit status 1 if there is none.\n", 1,
		2, OF_DATA | BIT(IF_VERSION), cli_append},
	{"prepend", "KEY [VALUE|-]", "put bytes before a value", "As append.\n", 1, 2,
		OF_DATA | BIT(IF_VERSION), cli_prepend},
	{"incr", "KEY [N]", "add to a number, and print the sum",
		"The value is a decimal number of 64 bits; N is 1 if it is not given (a negative "
		"one\n"
		"behind --).  An absent entry is made, as if it were 0 or --initial.  Past the "
		"end\n"
		"of 64 bits the sum stays there, or with --wrap goes on at the other end.\n",
		1, 2, OF_DATA | BIT(TTL) | BIT(INITIAL) | BIT(WRAP) | BIT(MUST_EXIST), cli_incr},
	{"decr", "KEY [N]", "subtract from a number, and print the rest", "As incr.\n", 1, 2,
		OF_DATA | BIT(TTL) | BIT(INITIAL) | BIT(WRAP) | BIT(MUST_EXIST), cli_decr},
	{"touch", "KEY [TIME]", "give an entry another time to live",
		"From now: 10s, 5m, 1h, 2d, never; without TIME, the store's.  Exit status 1 if "
		"there\n"
		"is no such entry.\n",
		1, 2, OF_DATA, cli_touch},
	{"delete", "KEY", "delete a key",
		"Exit status 1 if there is no such entry, or it is not of --if-version.\n", 1, 1,
		OF_DATA | BIT(IF_VERSION), cli_delete},
	{"mset", "[KEY VALUE]...", "set many keys",
		"Without arguments, from standard input: lines of KEY, tab, VALUE; with --base64 "
		"both\n"
		"in base64; with --zero, each key and each value ended by a zero byte.  Not a\n"
		"transaction.  Exit status 1 if the condition did not hold for some.\n",
		0, INT_MAX, OF_SET | BIT(ADD) | BIT(REPLACE) | BIT(IF_NEWER) | BIT(ZERO), cli_mset},
	{"clear", "", "remove all entries of a store",
		"At once, whatever their number; --store has to be given.\n", 0, 0, BIT(STORE),
		cli_clear},
	{"exists", "KEY", "is there such an entry?",
		"Prints nothing: exit status 0 if there is, 1 if not.  Not counted as a read.\n", 1,
		1, OF_DATA, cli_exists},
	{"meta", "KEY", "what is known of an entry",
		"Version, times, flags, size.  Not counted as a read.  Exit status 1 if there\n"
		"is no such entry.\n",
		1, 1, OF_DATA, cli_meta},
	{"scan", "[PREFIX]", "list keys",
		"One key a line, byte for byte, in no order; all, or those that begin with\n"
		"PREFIX.  A key that is there all the time is listed at least once, whatever\n"
		"else changes meanwhile.  Read from shared memory: the daemon does nothing.\n"
		"--limit gives a page, which ends a little above its number, and says (JSON: in\n"
		"\"cursor\") where --cursor goes on: later, from any process, 0 being the end.\n",
		0, 1, OF_DATA | BIT(LIMIT) | BIT(CURSOR), cli_scan},
	{"monitor", "[STORE]", "show changes as they happen",
		"One line for each write, removal, eviction (and why), expiry, clear and drop of "
		"a\n"
		"store, in order; all stores of the first pool that this user may read, or STORE.\n"
		"Read from the pool's change feed in shared memory, which the configuration has "
		"to\n"
		"provide for (`feed` of the pool): nobody is slowed down by it.  Goes on until it "
		"is\n"
		"interrupted, its output is closed, the daemon ends, or --limit events were "
		"shown.\n"
		"Whoever reads too slowly is told how many events he missed.  --from goes back to\n"
		"an event by its number (--json: \"sequence\").  --json prints an object a line.\n",
		0, 1, BIT(STORE) | BIT(PREFIX) | BIT(FROM) | BIT(LIMIT) | BIT(BASE64), cli_monitor},
	{"dump", "FILE [STORE]...", "write entries to an archive",
		"Of all stores that this user may read, or of those that are named.  The archive\n"
		"(- is standard output) has keys, values, flags, stamps and times, each with its\n"
		"checksum, and another machine or version can read it: see restore.  Read from\n"
		"shared memory: the daemon does nothing, and writes go on meanwhile.  A key that "
		"is\n"
		"there all the time is in it, once and whole, at some version that it had; keys "
		"are\n"
		"not all of one moment.  FILE is there whole, or not at all.\n",
		1, INT_MAX, BIT(STORE) | BIT(COMPRESS), cli_dump},
	{"restore", "FILE [STORE]...", "set the entries of an archive",
		"Of all its stores, or of those that are named; they have to exist, or --create\n"
		"makes them.  What is there is replaced; with --add it stays.  Entries keep their\n"
		"flags and stamps, and what is left of their time; those whose time is over are "
		"left\n"
		"out.  Versions are new.  A file is read through first: of a damaged one nothing "
		"is\n"
		"restored; from a pipe (-) entries are set as they come.  --verify reads alone, "
		"and\n"
		"asks no daemon.  Exit status 5 if some are too large, or find no room.\n",
		1, INT_MAX, BIT(STORE) | BIT(ADD) | BIT(CREATE) | BIT(VERIFY), cli_restore},
	{"wal", "list FOLDER | verify FOLDER|FILE | dump FOLDER|FILE", "look at a log on the disk",
		"Asks no daemon and changes nothing.  FOLDER holds the segments, or is a data "
		"folder\n"
		"with \"wal\" in it; FILE is one segment.\n"
		"list: which files are the log, which are void or not used yet.\n"
		"verify: reads all, and says of each damage where it is, which LSNs are good "
		"before\n"
		"and behind it, and what would be lost.  Exit status 1 if there is one.  A torn "
		"tail\n"
		"is none: what was being written when the power went, and never acknowledged.\n"
		"dump: each record, a line; with --json an object a line.\n",
		2, 2, 0, cli_wal},
	{"ping", "", "ask the engine for a sign of life", "Prints how long the round trip took.\n",
		0, 0, 0, cli_ping},
	{"stat", "", "show the daemon, its pools and stores",
		"Read from shared memory: it works while the engine hangs or is dead.\n"
		"--store shows one store, with all that is counted of it.\n"
		"Health is ok, pressure (entries go before their time) or degraded (something\n"
		"does not work), with the reason.\n"
		"--latency shows how long requests and the engine's work took, since the\n"
		"daemon began: each quantile is at most 12.5 % too high.\n"
		"-w shows what happens in each store, a second at a time (with --json an object\n"
		"a line), for --count seconds or until it is interrupted.\n"
		"--verbose shows all counters and what they mean.  A pool adds up:\n"
		"limit = live + overhead + free + limbo + unusable.\n",
		0, 0, BIT(STORE) | BIT(VERBOSE) | BIT(LATENCY) | BIT(WATCH) | BIT(COUNT), cli_stat},
	{"slowlog", "", "requests that took long, and where the time went",
		"Those that took the engine longer than slowlog_threshold of the configuration, "
		"with\n"
		"the time that they waited in it; the last 256 are kept, also across engines.  "
		"The\n"
		"newest comes last; --limit, or -n: only so many.  Read from shared memory: it "
		"works\n"
		"while the engine hangs or is dead.  Keys are shown up to their 48th byte: "
		"whoever\n"
		"may ask the admin socket may read everything.\n"
		"Stages: wait (others were at work), decode, room (evictions), log (on disk), "
		"work\n"
		"(looked up, copied, published), answer.  Those of a frame below 64 KiB are not\n"
		"all told apart: decode and answer are part of work.\n",
		0, 0, BIT(LIMIT), cli_slowlog},
	{"top", "", "watch what happens",
		"Stores, clients, pools, hot keys, latencies and counters, a second at a time, on "
		"the\n"
		"whole terminal.  Keys: 1 to 6 or tab another view; < and > another column to "
		"sort\n"
		"by, r the other way round; / a filter; space stops and goes on; + and - how "
		"often;\n"
		"h help, q the end.  Where the output is no terminal, or with --once, --count or\n"
		"--json: a block of text, or a line of JSON, each interval.  Read from shared "
		"memory,\n"
		"with descriptors of the supervisor: it works while the engine hangs or is dead.\n",
		0, 0, BIT(INTERVAL) | BIT(ONCE) | BIT(COUNT), cli_top},
	{"clients", "", "show who is connected",
		"Read from shared memory.  Process and user are what the kernel says,\n"
		"name and numbers the client's own words.  --verbose: also by store.\n",
		0, 0, BIT(VERBOSE), cli_clients},
	{"client", "revoke SESSION", "take back what a client holds",
		"SESSION as `hypercache clients` shows it.  Its pins do not count any more: what "
		"it\n"
		"holds may be used again, and its views answer HC_E_REVOKED.  The client goes "
		"on.\n",
		2, 2, 0, cli_client},
	{"fsck", "[FILE]", "check the shared memory",
		"Reads all of it and prints each invariant that is broken, by the number\n"
		"under which the headers in shm/layout list it.  Nothing is changed or\n"
		"locked, and the daemon may go on meanwhile; --pause lets writes wait, so that\n"
		"accounts can be compared.  Exit status 1 if something is wrong.\n"
		"FILE: an image instead of a daemon: one that --save wrote, or that the daemon "
		"kept of\n"
		"a pool that had to start empty.\n"
		"--repair: of a daemon, another engine takes the memory over, checks it all and\n"
		"drops what is damaged, and then it is looked at; of an image, this program does "
		"that.\n",
		0, 1, BIT(REPAIR) | BIT(PAUSE) | BIT(SAVE), cli_fsck},
	{"config", "check FILE | show | diff [FILE]", "look at a configuration",
		"check: is this file right?  Asks no daemon.  If not: exit status 1, and file,\n"
		"line, column, and what would be right.\n"
		"show: every value of the running daemon, and where it comes from: the default,\n"
		"file and line, an option --set, or `store create`.\n"
		"diff: what a reload of the daemon's file, or of FILE, would change, and what of\n"
		"that takes a new start (then a reload is refused).  Exit status 1 if something\n"
		"differs.\n",
		1, 2, 0, cli_config},
	{"reload", "", "read the daemon's configuration again",
		"As SIGHUP does, but with an answer: what has changed.  All of it or nothing: a\n"
		"file that is not right, is being written, or changes what takes a new start, is\n"
		"refused, and so is one without a store that holds entries, unless --force is "
		"given.\n",
		0, 0, BIT(FORCE), cli_reload},
	{"upgrade", "[BINARY]", "let another hypercached go on with the memory",
		"BINARY, or the file at the path that the daemon was started from, goes on in the\n"
		"same process, with the memory, the sessions and the sockets: reads never stop,\n"
		"writes wait for a moment.  It is tried before, and if it cannot, or its engine\n"
		"does not come to serve, what has run goes on; exit status 5 then, and why.  One\n"
		"of another layout of the memory is refused.  Waits for a minute at most.\n",
		0, 1, 0, cli_upgrade},
	{"checkpoint", "", "write a checkpoint of durable stores now",
		"The daemon writes one by itself (checkpoint_wal, checkpoint_every); this is for "
		"the\n"
		"moment before a planned stop, or when the disk is short of room.  Says what it\n"
		"holds, and how many files of the log it made needless: those that the one before\n"
		"does not need either.  Exit status 5 and why, if none could be written; the log\n"
		"is as it was then.  Waits for a minute at most.\n",
		0, 0, 0, cli_checkpoint},
	{"store", "list | create NAME [KEY=VALUE]... | drop NAME | clear NAME",
		"list, create, drop and clear stores",
		"create: clients find it at once.  KEYs as in the configuration (hypercached\n"
		"--help-config); it lasts until it is dropped or the daemon ends.\n"
		"drop: calls of clients that have it answer HC_E_NO_STORE from then on; its "
		"memory\n"
		"is given back in the background.  A store that holds entries only with --force.\n"
		"clear: as `clear --store NAME`.\n",
		1, 34, BIT(FORCE), cli_store},
	{"pool", "list", "list pools", "In short; `hypercache stat` tells more.\n", 1, 1, 0,
		cli_pool},
	{"policies", "", "list the eviction policies and their parameters", "Asks no daemon.\n", 0,
		0, 0, cli_policies},
	{"replay", "TRACE", "run a trace of accesses",
		"Through the daemon: --processes look each object up, and set it if it is not\n"
		"there; a store of its own (store create) gives the clearest picture.  Prints the\n"
		"part of misses, and what a hit and a miss cost.\n"
		"With --simulate: the same policies' code without a daemon, at each of --sizes\n"
		"(0.1%, 1% and 10% of the objects if it is not given).\n"
		"TRACE is NAME.csv (KEY or KEY,BYTES or SECONDS,KEY,BYTES), NAME.u32 (32-bit\n"
		"numbers) or NAME.oracleGeneral (libCacheSim's), each also with .zst behind it.\n",
		1, 1, BIT(STORE) | BIT(SIMULATE) | BIT(SIZES) | BIT(PROCESSES), cli_replay},
	{"big", "", "the largest entries",
		"Key and value; exact.  --limit: how many, else 20.  Scans the store in place, as\n"
		"scan does: the daemon does nothing.\n",
		0, 0, BIT(STORE) | BIT(LIMIT), cli_big},
	{"prefixes", "[DELIMITER]", "entries, bytes and hits of each prefix",
		"Of keys up to the first DELIMITER, else \":\".  Exact for 65536 prefixes; keys "
		"of\n"
		"further ones are counted together.  Hits are those that the engine was told of:\n"
		"of a key that is hit again at once a reader tells only some.  Scans as big "
		"does.\n",
		0, 1, BIT(STORE) | BIT(LIMIT), cli_prefixes},
	{"hot", "[STORE]", "the keys that are read most",
		"Of each store, or of STORE: keys with their share of its hits, and by how much "
		"that\n"
		"may be off.  What was read lately counts most.  --limit, or -n: how many, at "
		"most\n"
		"32; else 10.  Read from shared memory: it works while the engine hangs or is "
		"dead.\n"
		"Exit status 1 if nothing was read lately.\n",
		0, 1, BIT(STORE) | BIT(LIMIT), cli_hot},
	{"mrc", "[STORE|TRACE]", "how often it would miss with other memory",
		"Part of hits that a store would have had with a quarter to four times of its\n"
		"memory, from small copies of it that hold a sample of its keys (miniature\n"
		"simulation, Waldspurger and others, 2017; fixed-size SHARDS, 2015).  Read from\n"
		"shared memory.  What is asked for lately counts most.  The error is one standard\n"
		"deviation of the sampling; \"measured\" is what the store did.\n"
		"With --sizes N: of a trace (as of replay) and a cache of that size, without a\n"
		"daemon, with the policy of --simulate (else s3-fifo).\n",
		0, 1, BIT(STORE) | BIT(SIMULATE) | BIT(SIZES), cli_mrc},
	{"help", "[VERB]", "explain a verb", "", 0, 1, BIT(WORDS), cli_help},
};
enum { N_VERBS = sizeof verbs / sizeof *verbs };

static const struct cli_verb *verb_find(const char *name)
{
	for (int i = 0; i < N_VERBS; i++)
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
	return NULL;
}

/* The options whose bits are set, a line each. */
static void options_print(FILE *to, uint64_t which)
{
	for (int i = 0; i < N_OPTIONS; i++) {
		if (!(which >> i & 1))
			continue;
		int n = fprintf(to, "  --%s %s", option_table[i].name,
			option_table[i].arg ? option_table[i].arg : "");
		fprintf(to, "%*s%s\n", n < 22 ? 22 - n : 1, "", option_table[i].line);
	}
}

static void usage_print(FILE *to)
{
	fputs("hypercache - reads, writes and shows the cache of this host\n\n", to);
	for (int i = 0; i < N_VERBS; i++) {
		int n = fprintf(to, "  hypercache %s %s", verbs[i].name, verbs[i].args);
		fprintf(to, "%*s%s\n", n < 37 ? 37 - n : 1, "", verbs[i].line);
	}
	fputs("\nOptions, before or behind the verb; `hypercache help VERB` says which ones it "
	      "has:\n",
		to);
	options_print(to, UINT64_MAX);
	fputs("\nExit status:\n", to);
#define STATUS_LINE_(name, number, meaning) fprintf(to, "  %d  %s\n", number, meaning);
	CLI_STATUSES(STATUS_LINE_)
}

/* For a shell that completes: the verbs; of a verb the words that it has instead of arguments (config
 * check), and its options with what they take. */
static void words_print(const struct cli_verb *v)
{
	for (int i = 0; i < N_VERBS && !v; i++)
		printf("%s\n", verbs[i].name);
	if (!v)
		return;
	for (const char *at = v->args; *at;) {
		size_t n = strcspn(at, " |");
		if (n && *at >= 'a' && *at <= 'z')
			printf("%.*s\n", (int)n, at);
		at += n + strspn(at + n, " |");
	}
	for (int i = 0; i < N_OPTIONS; i++)
		if ((OF_ALL | v->options) >> i & 1)
			printf("--%s%s%s\n", option_table[i].name, option_table[i].arg ? " " : "",
				option_table[i].arg ? option_table[i].arg : "");
}

static void verb_print(const struct cli_verb *v)
{
	printf("hypercache %s%s%s\n\n%s.\n%s\n", v->name, *v->args ? " " : "", v->args, v->line,
		v->help);
	options_print(stdout, OF_ALL | v->options);
}

static int cli_help(const struct cli *c)
{
	const struct cli_verb *v = c->n_args ? verb_find(c->arg[0]) : NULL;

	if (c->n_args && !v)
		return cli_fail(c, CLI_USAGE, "there is no verb \"%s\": see `hypercache --help`",
			c->arg[0]);
	if (c->words)
		words_print(v);
	else if (v)
		verb_print(v);
	else
		usage_print(stdout);
	return cli_end(c, CLI_DONE);
}

int cli_fail(const struct cli *c, enum cli_status status, const char *format, ...)
{
	static const char *const names[] = {
#define STATUS_NAME_(name, number, meaning) [number] = #name,
		CLI_STATUSES(STATUS_NAME_)};
	char text[1024];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof text, format, args);
	va_end(args);
	if (c->json) {
		struct json j = {.to = stdout};
		json_begin(&j, NULL, '{');
		json_i64(&j, "status", status);
		json_string(&j, "error", names[status]);
		json_string(&j, "text", text);
		json_end(&j, '}');
		json_finish(&j);
		return cli_end(c, status);
	}
	fprintf(stderr, "hypercache: %s\n", text);
	return status;
}

int cli_end(const struct cli *c, int status)
{
	(void)c;
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	fprintf(stderr, "hypercache: cannot write the result: %s\n", strerror(errno));
	return CLI_FAILED;
}

int cli_admin_open(const struct cli *c, struct hypercache_admin *ret)
{
	char path[HYPERCACHE_ADMIN_PATH_BYTES], why[HYPERCACHE_ADMIN_WHY_BYTES];

	if (!c->admin && hypercache_admin_path(c->socket, path) < 0)
		return cli_fail(c, CLI_USAGE, "the path of the socket is too long");
	int r = hypercache_admin_open(c->admin ? c->admin : path, (int)c->timeout_ms, ret, why);
	if (r == 0)
		return 0;
	if (r == HYPERCACHE_ADMIN_NONE)
		return cli_fail(c, CLI_NO_DAEMON, "%s", why);
	if (r == HYPERCACHE_ADMIN_DENIED)
		return cli_fail(c, CLI_DENIED, "%s", why);
	return cli_fail(c, CLI_FAILED, "%s", why);
}

/* ------------------------------------------------------------------- options */

/* A duration with its unit, ms or more.  False: it is none. */
static bool duration_parse(const char *text, uint64_t max_ms, uint64_t *ret_ms)
{
	static const struct {
		const char *unit;
		uint64_t ms;
	} units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	uint64_t n = strtoull(text, &end, 10);
	for (size_t i = 0; errno == 0 && i < sizeof units / sizeof *units; i++) {
		if (strcmp(end, units[i].unit) != 0)
			continue;
		*ret_ms = n * units[i].ms;
		return n > 0 && (n <= max_ms / units[i].ms || MUTANT(148)); /* 148: it may wrap */
	}
	return false;
}

bool cli_u64(const char *text, uint64_t *ret)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	unsigned long long n = strtoull(text, &end, 0);
	*ret = n;
	return errno == 0 && *end == 0;
}

bool cli_i64(const char *text, int64_t *ret)
{
	char *end;

	if ((*text < '0' || *text > '9') && *text != '-')
		return false;
	errno = 0;
	long long n = strtoll(text, &end, 10);
	*ret = n;
	return errno == 0 && *end == 0 && end[-1] != '-';
}

bool cli_ttl(const char *text, uint64_t *ret_ms)
{
	*ret_ms = HC_TTL_NEVER;
	return strcmp(text, "never") == 0 || duration_parse(text, TEN_YEARS_MS, ret_ms);
}

static const struct option options[] = {
#define OPT_GETOPT_(id, name, arg, line) \
	{name, (arg) ? required_argument : no_argument, NULL, OPT_FIRST + OPT_##id},
	OPTIONS(OPT_GETOPT_){NULL, 0, NULL, 0},
};

/* A condition of set: at most one. */
static bool mode_take(struct cli *c, uint32_t mode)
{
	if (c->mode != HC_SET && c->mode != mode) {
		(void)cli_fail(c, CLI_USAGE,
			"--add, --replace, --if-version and --if-newer exclude each other");
		return false;
	}
	c->mode = mode;
	return true;
}

/* An option that takes nothing. */
static bool flag_take(struct cli *c, int opt)
{
	switch (opt) {
	case OPT_ADD:
		return mode_take(c, HC_ADD);
	case OPT_REPLACE:
		return mode_take(c, HC_REPLACE);
	case OPT_JSON:
		return c->json = true;
	case OPT_BASE64:
		return c->base64 = true;
	case OPT_WATCH:
		return c->watch = true;
	case OPT_LATENCY:
		return c->latency = true;
	case OPT_VERBOSE:
		return c->verbose = true;
	case OPT_FORCE:
		return c->force = true;
	case OPT_REPAIR:
		return c->repair = true;
	case OPT_PAUSE:
		return c->pause = true;
	case OPT_WRAP:
		return c->wrap = true;
	case OPT_MUST_EXIST:
		return c->must_exist = true;
	case OPT_ZERO:
		return c->zero = true;
	case OPT_COMPRESS:
		return c->compress = true;
	case OPT_CREATE:
		return c->create = true;
	case OPT_VERIFY:
		return c->verify = true;
	case OPT_ONCE:
		return c->once = true;
	default: /* OPT_WORDS */
		return c->words = true;
	}
}

/* An option of get-or.  False: it is none. */
static bool get_or_take(struct cli *c, int opt, const char *text)
{
	uint64_t n;

	if (opt == OPT_FRESH)
		return duration_parse(text, TEN_YEARS_MS, &c->fresh_ms);
	if (opt == OPT_ABSENT)
		return duration_parse(text, TEN_YEARS_MS, &c->absent_ms);
	if (!duration_parse(text, TIMEOUT_MAX_MS, &n))
		return false;
	c->lease_ms = (uint32_t)n;
	return true;
}

/* Where an option's value goes as it is; NULL: it is looked at. */
static const char **text_of(struct cli *c, int opt)
{
	switch (opt) {
	case OPT_SOCKET:
		return &c->socket;
	case OPT_ADMIN:
		return &c->admin;
	case OPT_PREFIX:
		return &c->prefix;
	case OPT_SIMULATE:
		return &c->simulate;
	case OPT_SAVE:
		return &c->save;
	case OPT_SIZES:
		return &c->sizes;
	default:
		return NULL;
	}
}

/* An option's value.  1: taken; 0: it is none for this option; -1: refused, and that has been said. */
static int value_take(struct cli *c, int opt, const char *text)
{
	const char **to = text_of(c, opt);
	uint64_t n = 0;

	if (to) {
		*to = text;
		return 1;
	}
	switch (opt) {
	case OPT_STORE:
		c->store = text;
		return c->store_given = true;
	case OPT_TIMEOUT:
		if (!duration_parse(text, TIMEOUT_MAX_MS, &n))
			return 0;
		c->timeout_ms = (uint32_t)n;
		return 1;
	case OPT_TTL:
		return cli_ttl(text, &c->ttl_ms);
	case OPT_FLAGS:
		if (!cli_u64(text, &n) || n > UINT32_MAX)
			return 0;
		c->flags = (uint32_t)n;
		return 1;
	case OPT_STAMP:
		return cli_u64(text, &c->stamp);
	case OPT_IF_VERSION:
		if (!cli_u64(text, &c->version) || c->version == 0)
			return 0;
		return mode_take(c, HC_IF_VERSION) ? 1 : -1;
	case OPT_IF_NEWER:
		if (!cli_u64(text, &c->stamp))
			return 0;
		return mode_take(c, HC_IF_NEWER) ? 1 : -1;
	case OPT_LIMIT:
		return cli_u64(text, &c->limit) && c->limit > 0;
	case OPT_COUNT:
		return cli_u64(text, &c->count) && c->count > 0;
	case OPT_CURSOR:
		return cli_u64(text, &c->cursor);
	case OPT_INTERVAL:
		return duration_parse(text, TOP_INTERVAL_MAX_MS, &c->interval_ms) &&
		       c->interval_ms >= TOP_INTERVAL_MIN_MS;
	case OPT_FROM:
		c->from = HC_FEED_OLDEST;
		return strcmp(text, "oldest") == 0 ||
		       (cli_u64(text, &c->from) && c->from > 0 && c->from < HC_FEED_OLDEST);
	case OPT_PROCESSES:
		if (!cli_u64(text, &n) || n > UINT32_MAX)
			return 0;
		c->processes = (uint32_t)n;
		return 1;
	case OPT_FRESH:
	case OPT_ABSENT:
	case OPT_LEASE:
		return get_or_take(c, opt, text);
	case OPT_TOUCH:
		c->touch = true;
		return cli_ttl(text, &c->touch_ms);
	default: /* OPT_INITIAL */
		return cli_i64(text, &c->initial);
	}
}

/* Obeys one option.  False, and it has been said: its argument is wrong. */
static bool option_take(struct cli *c, int opt)
{
	if (!option_table[opt].arg)
		return flag_take(c, opt);
	int r = value_take(c, opt, optarg);
	if (r == 0)
		(void)cli_fail(c, CLI_USAGE,
			"\"%s\" is not what --%s takes: see `hypercache --help`", optarg,
			option_table[opt].name);
	return r > 0;
}

static int version_print(const struct cli *c)
{
	printf("hypercache %s\n", hc_version());
	return cli_end(c, CLI_DONE);
}

/* The verb, if it takes what was given; else NULL, and why not has been said. */
static const struct cli_verb *verb_check(
	const struct cli *c, const struct cli_verb *v, uint64_t given)
{
	for (int i = 0; i < N_OPTIONS; i++) {
		if (!(given & ~(OF_ALL | v->options)) || !(given >> i & 1) ||
			((OF_ALL | v->options) >> i & 1))
			continue;
		(void)cli_fail(c, CLI_USAGE, "%s does not take --%s: see `hypercache help %s`",
			v->name, option_table[i].name, v->name);
		return NULL;
	}
	if (c->n_args >= v->args_min && c->n_args <= v->args_max)
		return v;
	(void)cli_fail(c, CLI_USAGE, "it is `hypercache %s%s%s`: see `hypercache help %s`", v->name,
		*v->args ? " " : "", v->args, v->name);
	return NULL;
}

/* --help, of a verb if there is one. */
static int help_wanted(int argc, char **argv, struct cli *c)
{
	c->n_args = optind < argc && verb_find(argv[optind]) ? 1 : 0;
	c->arg = argv + optind;
	return cli_help(c);
}

/* Fills in *c.  Returns the verb; NULL: *ret_status is the exit status, and all has been said. */
static const struct cli_verb *cli_parse(int argc, char **argv, struct cli *c, int *ret_status)
{
	uint64_t given = 0;
	int opt;

	*c = (struct cli){.store = "default",
		.timeout_ms = TIMEOUT_MS,
		.processes = 2,
		.interval_ms = TOP_INTERVAL_MS};
	*ret_status = CLI_USAGE;
	while ((opt = getopt_long(argc, argv, "wn:", options, NULL)) != -1) {
		if (opt == 'w')
			opt = OPT_FIRST + OPT_WATCH;
		if (opt == 'n')
			opt = OPT_FIRST + OPT_LIMIT;
		if (opt < OPT_FIRST) /* getopt has said it */
			return NULL;
		opt -= OPT_FIRST;
		given |= UINT64_C(1) << opt;
		if (opt != OPT_HELP && opt != OPT_VERSION && !option_take(c, opt))
			return NULL;
	}
	if (given & (BIT(HELP) | BIT(VERSION))) {
		*ret_status = given & BIT(HELP) ? help_wanted(argc, argv, c) : version_print(c);
		return NULL;
	}
	if (optind >= argc) { /* argc may be 0 */
		usage_print(stderr);
		return NULL;
	}
	const struct cli_verb *v = verb_find(argv[optind]);
	if (!v) {
		(void)cli_fail(c, CLI_USAGE, "there is no verb \"%s\": see `hypercache --help`",
			argv[optind]);
		return NULL;
	}
	c->n_args = argc - optind - 1;
	c->arg = argv + optind + 1;
	return verb_check(c, v, given);
}

int main(int argc, char **argv)
{
	struct cli c;
	int status;

	step_from_env();
	const struct cli_verb *v = cli_parse(argc, argv, &c, &status);
	return v ? v->run(&c) : status;
}
