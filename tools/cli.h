/* cli.h - inside the command line `hypercache`.
 *
 *   hypercache.c      options, the table of verbs, help
 *   cli_data.c        get, ping: through the library, and what follows in common
 *   cli_change.c      set and its conditions, append, numbers, touch, delete, clear
 *   cli_lease.c       get-or: a value, or what a command makes of it
 *   cli_mset.c        mset: pairs from arguments or standard input
 *   cli_look.c        exists, meta, scan: the same, without a byte of a value
 *   cli_monitor.c     monitor: the change feed
 *   cli_stat.c        stat       \    (--latency: cli_latency.c; -w: cli_watch.c)
 *   cli_slowlog.c     slowlog    |
 *   cli_top.c         top      |    (top.h)
 *   cli_clients.c     clients     > through the admin socket and shared memory alone
 *   cli_fsck.c        fsck       /
 *   cli_config.c      config, reload: what the supervisor says of its configuration
 *   cli_upgrade.c     upgrade: another binary goes on; checkpoint: of durable stores
 *   cli_store.c       store, pool
 *   cli_replay.c      policies, replay: traces, simulated or through the daemon (replay.h)
 *   cli_dump.c        dump: entries into an archive
 *   cli_restore.c     restore: and out of one
 *   cli_wal.c         wal: a log on the disk, without a daemon
 *   cli_keys.c        big, prefixes
 *   cli_hot.c         hot: the keys that are read most (hot_keys.h)
 *   cli_mrc.c         mrc: what a store, or a trace, would miss with other memory
 *   cli_print.c       sizes, times, tables, JSON
 *
 * A verb returns its exit status.  What it found goes to standard output, why it failed to
 * standard error; with --json both are one JSON object on standard output.
 */
#ifndef HC_TOOLS_CLI_H
#define HC_TOOLS_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* X(name, number, meaning): exit statuses, for the help and the manual. */
#define CLI_STATUSES(X) \
	X(DONE, 0, "done") \
	X(MISS, 1, \
		"there is no such entry, or a condition did not hold; fsck: something is wrong") \
	X(USAGE, 2, "wrong options or arguments") \
	X(NO_DAEMON, 3, "no daemon answers, or not in time") \
	X(DENIED, 4, "the daemon refuses: this user may not, or it has too many clients") \
	X(FAILED, 5, "anything else")

#define CLI_STATUS_ENUM_(name, number, meaning) CLI_##name = number,
enum cli_status { CLI_STATUSES(CLI_STATUS_ENUM_) };
#undef CLI_STATUS_ENUM_

struct cli {
	const char *socket; /* NULL: the library's default */
	const char *admin;  /* NULL: beside the socket */
	const char *store;
	uint32_t timeout_ms;
	bool json, verbose, base64, force, latency, watch;
	bool store_given; /* --store: some verbs do all stores without it */
	uint64_t ttl_ms;  /* as hc_set_opts.ttl_ms */
	uint32_t flags;
	uint32_t mode; /* enum hc_set_mode, with its version; and the stamp of any mode */
	uint64_t version, stamp;
	bool touch; /* get --touch: the entry gets touch_ms */
	uint64_t touch_ms;
	uint64_t fresh_ms, absent_ms; /* of get-or; 0: none */
	uint32_t lease_ms;            /* 0: the library's */
	int64_t initial;              /* of incr and decr */
	bool wrap, must_exist;
	uint64_t limit, cursor;        /* of scan; limit 0: all */
	bool zero;                     /* mset: zero bytes between keys and values */
	bool compress, create, verify; /* dump; restore */
	bool words;                    /* help: for a shell */
	const char *simulate, *sizes;  /* replay: lists of words with commas between */
	uint32_t processes;
	uint64_t count;       /* of stat -w and top; 0: until it is interrupted */
	uint64_t interval_ms; /* top */
	bool once;            /* top */
	bool repair, pause;   /* fsck */
	const char *save;     /* fsck: the image's file; NULL: none */
	const char *prefix;   /* monitor */
	uint64_t from;        /* monitor: 0: from now on */
	int n_args;           /* behind the verb */
	char **arg;
};

struct cli_verb {
	const char *name, *args, *line, *help;
	int args_min, args_max;
	uint64_t options; /* bit i: option i of hypercache.c, beside those of every verb */
	int (*run)(const struct cli *c);
};

int cli_get(const struct cli *c);
int cli_get_or(const struct cli *c);
int cli_set(const struct cli *c);
int cli_add(const struct cli *c);
int cli_replace(const struct cli *c);
int cli_cas(const struct cli *c);
int cli_append(const struct cli *c);
int cli_prepend(const struct cli *c);
int cli_incr(const struct cli *c);
int cli_decr(const struct cli *c);
int cli_touch(const struct cli *c);
int cli_delete(const struct cli *c);
int cli_mset(const struct cli *c);
int cli_clear(const struct cli *c);
int cli_ping(const struct cli *c);
int cli_exists(const struct cli *c);
int cli_meta(const struct cli *c);
int cli_scan(const struct cli *c);
int cli_monitor(const struct cli *c);
int cli_stat(const struct cli *c);
int cli_slowlog(const struct cli *c);
int cli_clients(const struct cli *c);
int cli_top(const struct cli *c);
int cli_client(const struct cli *c);
int cli_fsck(const struct cli *c);
int cli_config(const struct cli *c);
int cli_reload(const struct cli *c);
int cli_upgrade(const struct cli *c);
int cli_checkpoint(const struct cli *c);
int cli_store(const struct cli *c);
int cli_pool(const struct cli *c);
int cli_policies(const struct cli *c);
int cli_replay(const struct cli *c);
int cli_mrc(const struct cli *c);
int cli_hot(const struct cli *c);
int cli_dump(const struct cli *c);
int cli_restore(const struct cli *c);
int cli_wal(const struct cli *c);
int cli_big(const struct cli *c);
int cli_prefixes(const struct cli *c);

/* 10%, 5000, 64MiB, of a trace of so many objects.  False: it is none, or nothing. */
bool cli_cache_size(const char *word, uint64_t n_objects, bool *ret_bytes, uint64_t *ret);
/* What the policy auto goes by, in a store that has it; nothing for others. */
struct shm_store_entry;
struct json;
void cli_auto_print(const struct shm_store_entry *e);
void cli_auto_json(const struct shm_store_entry *e, struct json *j);

/* stat --latency. */
struct hypercache_admin;
int cli_watch(const struct cli *c); /* -w */
void cli_latency(const struct cli *c, const struct hypercache_admin *a);

/* Says what went wrong, in one line, and returns `status`. */
int cli_fail(const struct cli *c, enum cli_status status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* The same for a result of the library: which exit status it is follows from r. */
int cli_hc_fail(const struct cli *c, const char *what, int r);

/* Opens a session; and its store.  0, or an exit status, and why has been said. */
struct hc;
struct hc_store;
int cli_session_open(const struct cli *c, struct hc **ret);
int cli_store_open(const struct cli *c, struct hc **ret, struct hc_store **ret_store);
/* The key, the verb's first argument.  0, or an exit status. */
int cli_key_arg(const struct cli *c, const char **ret, size_t *ret_bytes);

/* The bytes of argument i; all of standard input, for the caller to free.  0, or an exit status. */
int cli_arg_bytes(const struct cli *c, int i, const char **ret, size_t *ret_bytes);
int cli_input_read(const struct cli *c, char **ret, size_t *ret_bytes);

/* Numbers and times of arguments (hypercache.c).  False: it is none.  A time is as 10s or "never"; in ms. */
bool cli_u64(const char *text, uint64_t *ret);
bool cli_i64(const char *text, int64_t *ret);
bool cli_ttl(const char *text, uint64_t *ret_ms);

/* Ends standard output: CLI_DONE or `status`, or CLI_FAILED with a line if not all could be written. */
int cli_end(const struct cli *c, int status);

/* Asks the admin socket.  0; else the exit status, and why has been said. */
int cli_admin_open(const struct cli *c, struct hypercache_admin *ret);

/* Sends a request to the admin socket (rq: but for magic and version; fd: to go with it, or -1).  0 and
 * the answer's lines, for the caller to free; else the exit status, and why has been said. */
struct admin_request;
int cli_ask(const struct cli *c, struct admin_request *rq, int fd, char **ret_lines);
/* Prints lines that say what was changed, or would be. */
void cli_changes_print(const struct cli *c, char *lines);
/* The next line, cut into fields, at most n_fields; moves *at behind it.  False: there is none. */
bool cli_line_next(char **at, char **field, int n_fields, int *ret_n);

/* ---------------------------------------------------------- printing: cli_print.c */

enum { CLI_TEXT_BYTES = 64 };

/* "64.0 MiB"; "3 h 12 min", "1.2 s", "0.3 ms".  Returns to. */
const char *cli_size(uint64_t bytes, char to[CLI_TEXT_BYTES]);
const char *cli_time(uint64_t ns, char to[CLI_TEXT_BYTES]);

/* A string of others, of at most n bytes, for a terminal: what is not printable ASCII becomes '?'.
 * Returns to, terminated, cut to to_bytes. */
const char *cli_text(const char *from, size_t n, char *to, size_t to_bytes);

/* JSON, an object or array at a time.  name NULL: an element of an array, or the outermost. */
struct json {
	FILE *to;
	bool comma; /* something stands before, in the same object or array */
};
void json_begin(struct json *j, const char *name, char bracket); /* '{' or '[' */
void json_end(struct json *j, char bracket);                     /* '}' or ']' */
void json_u64(struct json *j, const char *name, uint64_t v);
void json_i64(struct json *j, const char *name, int64_t v);
void json_bool(struct json *j, const char *name, bool v);
void json_double(struct json *j, const char *name, double v);
void json_hex(struct json *j, const char *name, uint64_t v); /* 16 digits, as a string */
void json_string(struct json *j, const char *name, const char *text);
/* Bytes as a string if they are UTF-8; else in base64, under "NAME_base64". */
void json_bytes(struct json *j, const char *name, const void *bytes, size_t n);
void json_finish(struct json *j); /* a newline */

/* Decodes base64 in place: *n bytes.  False: it is none. */
bool cli_base64_decode(char *text, size_t *n);

#endif
