/* hypercache.h - the client library of HyperCache, and its manual.
 *
 * One daemon per host owns the memory.  Your process maps it read-only and looks
 * keys up in place: a read makes no system call, takes no lock, and writes to no
 * line that another process reads.  Writes are messages to the daemon.
 *
 *     struct hc *hc;
 *     struct hc_store *s;
 *     if (hc_open(&hc, NULL) == 0 && hc_store(hc, "default", &s) == 0) {
 *             hc_set(s, "k", 1, "value", 5, NULL);
 *             char buf[64];
 *             size_t n;
 *             if (hc_get(s, "k", 1, buf, sizeof buf, &n) == HC_OK)
 *                     fwrite(buf, 1, n, stdout);
 *     }
 *     hc_close(hc);
 *
 * RESULTS   0 (HC_OK): done.  Positive (enum hc_result): a normal outcome that is
 *           not "done", such as HC_MISS.  Negative (enum hc_error): it could not
 *           be done; hc_strerror() says it in words, hc_error_name() by name.
 *           Outputs are set only as each call says.  The library never aborts,
 *           exits, prints, or reads the environment but for the socket's default
 *           place, and installs no signal handler.
 *
 * WHAT IS CONSISTENT WITH WHAT
 *           - When hc_set or hc_delete has returned HC_OK, every process's next
 *             read sees it.  (A read that began before may still see the old.)
 *           - Mutations of one handle are applied in the order of the calls.
 *           - A value is never torn: a read gives one version's bytes, whole.
 *           - hc_mget is not a snapshot: each key is read at its own moment.
 *           - A mutation that returned HC_E_UNKNOWN may or may not have happened;
 *             any other error of a mutation: it did not happen.
 *           - Time to live counts on the machine's monotonic clock: setting the wall
 *             clock does not move it; suspension of the machine does not count.
 *
 * THREADS   Any number of threads may use one handle.  Each thread that reads
 *           claims one of the session's reading blocks at its first read and gives it back
 *           when it ends; how many there are is the daemon's `threads_per_client`
 *           (hc_info); one more is HC_E_THREADS.  Mutations of one handle from
 *           several threads are serialised by a mutex: use one handle per thread
 *           to write in parallel.
 *           Nothing but hc_interrupt() is to be called from signal handlers.
 *
 * FORK      A child does not inherit the connection or the views: every call with
 *           a handle of the parent answers HC_E_FORKED there, hc_close() included
 *           frees only the child's memory, and views of the parent must not be
 *           read.  The child opens its own handle.
 *
 * DEATH     Your process may be killed at any instruction; nobody else notices.
 *           If the daemon's engine dies, reads go on; a mutation waits for the new
 *           engine up to `timeout_ms` and is applied exactly once.  If the whole
 *           daemon dies, see hc_open_opts.stale.
 *
 * EXTENSION Every option struct begins with its size: `struct hc_set_opts o =
 *           HC_OPTS(hc_set_opts)` sets it; fields added later read as zero from
 *           older programs.
 */
#ifndef HYPERCACHE_H
#define HYPERCACHE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HC_VERSION_MAJOR 0
#define HC_VERSION_MINOR 1
#define HC_VERSION_PATCH 0

#if defined(__GNUC__)
#define HC_API __attribute__((visibility("default")))
#else
#define HC_API
#endif

#ifdef __cplusplus
#define HC_OPTS(type) { sizeof(struct type) }
#else
#define HC_OPTS(type) {.size = sizeof(struct type)}
#endif

/* Limits that do not depend on the configuration. */
#define HC_KEY_BYTES_MAX 65536 /* a key has 1 to this many bytes, of any value */
#define HC_NAME_BYTES_MAX 31   /* name of a store or pool, without the final 0 */
#define HC_MGET_MAX 1024       /* keys of one hc_mget */
#define HC_MSET_MAX 65536      /* entries of one hc_mset */
#define HC_SUBMIT_MAX 65536    /* operations that are submitted and not taken: hc_open_opts.submit_max */

/* Normal outcomes that are not "done". */
enum hc_result {
	HC_OK = 0,
	HC_MISS = 1,      /* no live entry with this key */
	HC_TOO_SMALL = 2, /* the buffer is smaller than the value; the size needed is given */
	HC_EXISTS = 3,    /* HC_ADD: there is an entry with this key */
	HC_CONFLICT = 4,  /* the entry has another version than the caller's */
	HC_OLDER = 5,     /* HC_IF_NEWER: the entry's stamp is as high, or higher */
	HC_LEASE = 6,     /* hc_get_or_lease: there is no value, and computing it is yours */
	HC_REFRESH = 7,   /* ...: there is a value, and computing the next one is yours */
	HC_NOT_FRESH = 8, /* ...: there is a value, past its time, and another process computes the next one */
	HC_ABSENT = 9,    /* ...: the key is known to be absent */
	HC_LEASED = 10,   /* ...: another process computes the value, and has not come to its end */
	HC_LEASE_LOST = 11, /* the lease is over: nothing was written */
	HC_LAPPED = 12,   /* a change feed: events were overwritten before they were taken */
};

/* X(name, number, meaning).  The numbers go over the wire and never change. */
#define HC_ERRORS(X) \
	X(HC_E_INVAL, -1, "an argument is out of its range") \
	X(HC_E_NO_DAEMON, -2, "no daemon answers at the socket: is hypercached running, and is the path right?") \
	X(HC_E_VERSION, -3, "the daemon speaks another protocol or memory layout: upgrade the older side") \
	X(HC_E_REFUSED, -4, "the daemon refused the session: its limit of clients is reached, or this user may not connect") \
	X(HC_E_NO_STORE, -5, "there is no store of this name") \
	X(HC_E_NO_MEMORY, -6, "this process has no memory or address space left") \
	X(HC_E_FULL, -7, "the pool has no room, and nothing that may be evicted makes enough") \
	X(HC_E_TOO_LARGE, -8, "key or value is larger than the pool or the protocol allows") \
	X(HC_E_TIMEOUT, -9, "the daemon did not answer in time; the mutation was not sent") \
	X(HC_E_UNKNOWN, -10, "sent, but no answer in time: the mutation may or may not have happened") \
	X(HC_E_DAMAGED, -11, "shared memory holds an impossible value; run `hypercache fsck`") \
	X(HC_E_BUSY, -12, "the entry changed at every try of a look-up; try again") \
	X(HC_E_THREADS, -13, "more threads read than the session has blocks: raise threads_per_client") \
	X(HC_E_VIEWS, -14, "this thread holds as many views as it may: release some") \
	X(HC_E_REVOKED, -15, "the daemon took the memory of this view back because the process held too much for too long") \
	X(HC_E_FORKED, -16, "the handle belongs to the parent process: open one in the child") \
	X(HC_E_STALE, -17, "the daemon is gone: what is in memory is not kept up to date") \
	X(HC_E_PROTOCOL, -18, "the daemon's answer made no sense: the connection was closed") \
	X(HC_E_DENIED, -19, "this user may not do that") \
	X(HC_E_SYSTEM, -20, "a system call failed: errno says which way") \
	X(HC_E_CLOSING, -21, "the daemon is shutting down") \
	X(HC_E_NOT_NUMBER, -22, "the value is not a decimal number of 64 bits") \
	X(HC_E_CANCELLED, -23, "cancelled: the mutation was not sent, and will not be") \
	X(HC_E_QUEUE, -24, "as much is submitted as may be: take what is done with hc_poll, then try again") \
	X(HC_E_LEASES, -25, "this session, or all of them, hold as many leases as they may: fill or drop some") \
	X(HC_E_NO_FEED, -26, "the pool keeps no change feed: set `feed` of the pool in the configuration") \
	X(HC_E_LOG, -27, "the log of this durable store cannot be written: nothing was changed; see the daemon's log") \
	X(HC_E_LOG_FULL, -28, "the disk for the log of this durable store is full: nothing was changed; make room") \
	X(HC_E_NOT_DURABLE, -29, "changed in memory, but the log could not be written: it may not survive a restart")

#define HC_ERROR_ENUM_(name, number, meaning) name = number,
enum hc_error { HC_ERRORS(HC_ERROR_ENUM_) HC_E_LAST = -30 };
#undef HC_ERROR_ENUM_

/* These three may be called by any thread at any time, in a forked child too.
 *
 * The meaning of a result or error in English; never NULL, static. */
HC_API const char *hc_strerror(int r);
/* Its name, as "HC_E_FULL"; "HC_E_?" for a number that is none.  Static. */
HC_API const char *hc_error_name(int r);
/* The library's version, "0.1.0".  Static. */
HC_API const char *hc_version(void);

struct hc;       /* a session with the daemon; opaque */
struct hc_store; /* a store of a session; opaque, lives as long as its hc */

/* ------------------------------------------------------------------ session */

enum hc_stale {
	HC_STALE_SERVE = 0, /* reads go on from memory that nobody updates; hc_health() tells */
	HC_STALE_FAIL = 1,  /* reads answer HC_E_STALE */
};

struct hc_open_opts {
	size_t size;            /* sizeof(struct hc_open_opts): HC_OPTS sets it */
	const char *socket;     /* path of the daemon's socket; NULL: see below */
	const char *name;       /* how `hypercache clients` shows this process; NULL: its command name */
	uint32_t timeout_ms;    /* for opening and for each mutation, reconnection included; 0: 5000 */
	uint32_t stale;         /* enum hc_stale: what reads do when the whole daemon is gone */
	uint32_t full_fence;    /* 1: never use membarrier, order reads with full fences (slower; for tests and
	                         * for kernels that forbid it: the library finds that out by itself) */
	uint32_t submit_max;    /* operations of hc_submit that may be there, from submitted to taken; 0: 1024;
	                         * at most HC_SUBMIT_MAX */
	uint32_t submit_bytes;  /* keys and values that may be queued for sending; 0: 4 MiB; a longer one may be
	                         * queued alone */
	uint32_t spin_us;       /* a call that waits for the engine looks for its answer that long before it sleeps:
	                         * saves being woken, which costs more than the answer, and takes a CPU meanwhile.
	                         * 0 (default): not at all; at most HC_SPIN_US_MAX.  Good where engine and
	                         * caller have a CPU each, bad where they share one. */
};
#define HC_SPIN_US_MAX 10000

/* Opens a session: connects, registers the process for membarrier, maps what the
 * daemon hands over (read-only), and returns it in *ret.
 *
 * opts may be NULL.  The default socket is, in this order: $HYPERCACHE_SOCKET;
 * /run/hypercache/hypercache.sock for root, else $XDG_RUNTIME_DIR/hypercache/
 * hypercache.sock if that exists, else /run/hypercache/hypercache.sock if that
 * exists, else /tmp/hypercache-UID/hypercache.sock.
 *
 * Errors: HC_E_INVAL (also a path of more than 107 bytes), HC_E_NO_DAEMON, HC_E_VERSION, HC_E_REFUSED
 * (also: no right to the socket, or its folder in /tmp is another user's), HC_E_DENIED (this user
 * may read no pool), HC_E_NO_MEMORY, HC_E_TIMEOUT, HC_E_PROTOCOL, HC_E_SYSTEM (errno; EMFILE: it takes some
 * descriptors for a moment).  *ret is NULL then.
 * The session starts no thread.  It uses one descriptor (the socket); three more from the first hc_fd() or
 * hc_poll() that waits.  Any thread; a process may have
 * several sessions, a thread reads in at most 16 of them. */
HC_API int hc_open(struct hc **ret, const struct hc_open_opts *opts);

/* Ends the session: says goodbye, unmaps, frees.  NULL is allowed.  No other
 * thread may be inside a call with it.  Views must have been released or never be
 * used again: their memory is unmapped.  Operations of hc_submit that are still under way may or may not
 * happen: hc_flush() first.  It waits 0.2 s for the daemon at most.
 * In a forked child it frees that child's memory and leaves the parent's session alone. */
HC_API void hc_close(struct hc *hc);

/* The store called `name` (1 to HC_NAME_BYTES_MAX bytes), in *ret; the same pointer each time.  Any
 * thread; makes no system call, unless the store is in a pool that this session does not have yet, because it was
 * added since (or this user had no right to it): then it asks the daemon for it, for a second at most, and not again
 * within the next tenth of one.  Errors, *ret unchanged: HC_E_INVAL, HC_E_NO_STORE, HC_E_NO_MEMORY, HC_E_DENIED (this
 * user may not read the pool), HC_E_DAMAGED, HC_E_FORKED; of the asking also HC_E_TIMEOUT, HC_E_NO_DAEMON,
 * HC_E_REFUSED, HC_E_STALE, HC_E_PROTOCOL, HC_E_SYSTEM. */
HC_API int hc_store(struct hc *hc, const char *name, struct hc_store **ret);

enum hc_health_flags {
	HC_ENGINE_GONE = 1,     /* the engine died and is being restarted: reads go on, writes wait */
	HC_SUPERVISOR_GONE = 2, /* the daemon is gone: memory is not kept up to date */
	HC_DISCONNECTED = 4,    /* no connection now; the next mutation reconnects */
};
/* A set of enum hc_health_flags, 0 when all is well; HC_E_INVAL, HC_E_FORKED.  Any thread, no system
 * call.  It is what can be seen now: a moment later it may be otherwise. */
HC_API int hc_health(const struct hc *hc);

struct hc_info {
	size_t size;              /* HC_OPTS */
	uint64_t session_id;      /* as `hypercache clients` shows it, in hexadecimal */
	uint64_t engine_gen;      /* how many engines have run on this memory */
	uint32_t threads_max;     /* threads that may read at once */
	uint32_t views_max;       /* views that one thread may hold */
	uint32_t full_fence;      /* 1: full fences are used instead of membarrier */
	uint32_t n_stores;        /* stores that exist */
	char backing[16];         /* of the first mapped pool: "huge-1g", "huge-2m", "thp" or "base" */
	uint64_t lsn;             /* of the last mutation that was begun: what came before it is visible */
};
/* Fills *ret, whose size the caller has set.  HC_OK, HC_E_INVAL, HC_E_FORKED.  Any thread, no system call. */
HC_API int hc_info(const struct hc *hc, struct hc_info *ret);

/* What is known of a store. */
struct hc_store_info {
	size_t size;             /* HC_OPTS */
	uint64_t id;             /* never another store's in this daemon */
	char name[32];           /* terminated, as the other three */
	char pool[32];
	char type[16];           /* as in the configuration: "general", "session", "ttl" */
	char policy[32];         /* what it evicts by */
	uint64_t ttl_ms;         /* of entries whose writer names none; 0: they do not expire */
	uint64_t entries, bytes; /* that it has now, keys and values */
	uint64_t guaranteed_bytes, limit_bytes, limit_entries; /* as configured; 0: none */
	uint32_t sliding;  /* 1: reads give entries their time again */
	uint32_t readable; /* 1: this session has its pool's memory; 0: hc_store() has to ask for it, and may be
	                    * refused */
};
/* The stores there are, one a call: begin with *cursor 0, which is moved on.  HC_OK and *ret, whose size the caller
 * has set; HC_MISS: there are no more.  HC_E_INVAL, HC_E_FORKED.  Any thread; no system call.  A store that is there
 * all the time is given once; names and numbers are those of any moment meanwhile. */
HC_API int hc_store_next(const struct hc *hc, uint32_t *cursor, struct hc_store_info *ret);

/* A round trip to the engine, in at most timeout_ms.  HC_OK; HC_E_INVAL, HC_E_FORKED, HC_E_TIMEOUT,
 * HC_E_STALE, HC_E_NO_DAEMON, HC_E_REFUSED, HC_E_DENIED, HC_E_VERSION, HC_E_NO_MEMORY, HC_E_PROTOCOL,
 * HC_E_SYSTEM.  It waits its turn behind the handle's mutations. */
HC_API int hc_ping(struct hc *hc);

/* ------------------------------------------------------------------ reading
 *
 * Any number of threads at once.  A thread's first read with a handle may make a system call. */

/* Copies the value of a key into buf.
 *
 * key: 1..65536 bytes.  buf: buf_bytes bytes; may be NULL if buf_bytes is 0.
 * Returns HC_OK: *ret_bytes bytes were copied (0 for an empty value).
 *         HC_TOO_SMALL: *ret_bytes is the size needed; buf is unchanged.
 *         HC_MISS: there is no such entry, or its time is over.
 * Errors: HC_E_INVAL, HC_E_THREADS, HC_E_NO_MEMORY (a thread's first read), HC_E_NO_STORE (dropped
 * meanwhile), HC_E_BUSY, HC_E_DAMAGED, HC_E_STALE (hc_open_opts.stale), HC_E_FORKED.
 * ret_bytes may be NULL.  On an error or a miss *ret_bytes is unchanged, and what is in buf unspecified.
 * No system call, but in a store with `sliding`, where a read that comes late in an entry's time and
 * after hundreds of others asks the engine, for 50 ms at most.  Cost: two cache misses and the copy. */
HC_API int hc_get(struct hc_store *s, const void *key, size_t key_bytes, void *buf,
	size_t buf_bytes, size_t *ret_bytes);

/* An entry that is held in place.  Filled by hc_view; the caller reads the public
 * fields, and passes it back unchanged. */
struct hc_view {
	const void *value;    /* value_bytes bytes, 8-aligned, read-only, never changing while held */
	size_t value_bytes;
	uint64_t version;     /* grows with every mutation in the daemon */
	uint32_t flags;       /* what the writer gave with hc_set_opts.flags */
	uint32_t reserved;
	uint64_t opaque[6];   /* the library's */
};

/* Finds a key and holds its entry in place: no byte is copied.
 *
 * Returns HC_OK and fills *ret, or HC_MISS.  Errors: as hc_get, and HC_E_VIEWS; *ret is unspecified then.
 * The bytes stay valid and unchanged until hc_view_release(), whatever happens to
 * the entry: overwritten, deleted, evicted, expired, the engine restarted.  Only
 * when the daemon revokes it, because this process holds more memory that others wait for than
 * `limbo_cap` allows, may they change: hc_view_ok() tells, and is to be
 * asked after reading if the process may have been stopped for long.
 * A thread may hold hc_info.views_max views.  No system call. */
HC_API int hc_view(struct hc_store *s, const void *key, size_t key_bytes, struct hc_view *ret);

/* 1: everything read through the view until now was right.  0: it was revoked,
 * what was read may be wrong.  Negative: HC_E_FORKED, HC_E_INVAL.  Any thread, no system call. */
HC_API int hc_view_ok(const struct hc_view *v);

/* When the entry of a held view was set first, and when last: ns of CLOCK_REALTIME.  HC_OK and both;
 * HC_E_REVOKED, HC_E_FORKED, HC_E_INVAL: neither is changed.  Any thread, no system call; costs a cache
 * line of its own. */
HC_API int hc_view_times(const struct hc_view *v, uint64_t *ret_created_ns,
	uint64_t *ret_modified_ns);

/* Gives the view back, from any thread.  The bytes must not be read afterwards.
 * HC_OK; HC_E_REVOKED: it was given back, but had been revoked; HC_E_FORKED;
 * HC_E_INVAL: not a held view (released twice).  No system call. */
HC_API int hc_view_release(struct hc_view *v);

struct hc_mget_item {
	const void *key;   /* in */
	size_t key_bytes;  /* in */
	void *buf;         /* in: where the value goes */
	size_t buf_bytes;  /* in */
	size_t value_bytes;/* out: as *ret_bytes of hc_get */
	int result;        /* out: what hc_get would have returned for this key */
};

/* Looks up n keys (0..HC_MGET_MAX) at once: their cache misses overlap, which is
 * what it is for.  Returns HC_OK with each item's `result` set; HC_E_INVAL, HC_E_FORKED, HC_E_STALE,
 * HC_E_THREADS, HC_E_NO_MEMORY: nothing was done; HC_E_NO_STORE (dropped meanwhile): some items may
 * have been.  Not a snapshot.  No system call. */
HC_API int hc_mget(struct hc_store *s, struct hc_mget_item *items, size_t n);

/* Is there a live entry?  HC_OK or HC_MISS; errors as hc_get.  Not counted as a read, and no
 * hint to the eviction policy.  No system call. */
HC_API int hc_exists(struct hc_store *s, const void *key, size_t key_bytes);

/* What is known of an entry besides its value. */
struct hc_meta {
	size_t size;           /* HC_OPTS */
	uint64_t version;      /* grows with every mutation in the daemon */
	uint64_t created_ns;   /* CLOCK_REALTIME of the entry's first set */
	uint64_t modified_ns;  /* CLOCK_REALTIME of its last set */
	uint64_t stamp;        /* the caller's own order mark; 0: none */
	int64_t expires_in_ms; /* -1: never */
	uint64_t idle_ms;      /* since the last use that the engine has heard of (hints may be lost) */
	size_t value_bytes;
	uint32_t flags;     /* the caller's own */
	uint32_t ttl_ms;    /* the time to live that was asked for; 0: none */
	uint32_t hits_seen; /* hints of hits that the engine has heard of; saturates at 2^20 - 1 */
	uint32_t reserved;
};
/* Fills *ret, whose size the caller has set.  HC_OK or HC_MISS (*ret is unchanged); errors as
 * hc_get.  Not counted as a read.  No system call. */
HC_API int hc_meta(struct hc_store *s, const void *key, size_t key_bytes, struct hc_meta *ret);

/* An entry that a scan has found.  Valid during the call of the function. */
struct hc_scan_entry {
	const void *key, *value;
	size_t key_bytes, value_bytes;
	uint64_t version;
	uint32_t flags;
	uint32_t absent;         /* 1: the key is known to be absent (hc_set_opts.absent); only if hc_scan.absent asks for it */
	uint64_t created_ns;     /* CLOCK_REALTIME of the entry's first set, */
	uint64_t modified_ns;    /* of its last, */
	uint64_t used_ns;        /* of the last use that the engine has heard of, */
	uint64_t expires_ns;     /* of its end; 0: never; */
	uint64_t fresh_until_ns; /* of the end of its fresh time; 0: it has none of its own */
	uint64_t stamp;          /* the caller's own order mark; 0: none */
	uint32_t ttl_ms;         /* the time to live that was asked for; 0: none */
	uint32_t hits_seen;      /* as of hc_meta */
	uint32_t took_ms;        /* how long the value took to compute, where that is known */
	uint32_t reserved;
};
/* Called for each; may use the library (at most hc_info.views_max - 1 views).  Other than 0:
 * wants no more in this call. */
typedef int hc_scan_fn(void *arg, const struct hc_scan_entry *entry);

struct hc_scan {
	size_t size;         /* HC_OPTS */
	const void *prefix;  /* of the keys wanted; NULL: all */
	size_t prefix_bytes; /* 0..65536 */
	uint64_t cursor;     /* 0: from the beginning; moved on by each call */
	size_t max_entries;  /* of a page: a call ends soon after so many, with a whole chain of the index; 0: 256 */
	uint32_t absent;     /* 1: also keys that are known to be absent */
	uint32_t reserved;   /* 0 */
};

/* Reports a page of a store's entries, in no order, and moves scan->cursor behind it.
 *
 * Returns HC_OK: there is more: call again with the same *scan; HC_MISS: that was the last
 * page (cursor is 0 again).  Errors: HC_E_INVAL, HC_E_THREADS, HC_E_NO_MEMORY, HC_E_VIEWS, HC_E_BUSY,
 * HC_E_DAMAGED, HC_E_STALE, HC_E_NO_STORE, HC_E_FORKED; HC_E_REVOKED: what was reported last may be
 * wrong.  After an error the same cursor may be used again.
 *
 * A key that is there from the first page to the last is reported at least once, whatever else
 * changes meanwhile; it may be reported more than once, in the same page alone.  If fn stops the page, the next one may begin
 * with entries that were reported already.  A page may be empty though there is more.  The cursor is a number
 * without state behind it: it may be kept, and given to another process.  No system call;
 * looks at every entry of its stretch, so a rare prefix costs as much as all keys. */
HC_API int hc_scan(struct hc_store *s, struct hc_scan *scan, hc_scan_fn *fn, void *arg);

/* ------------------------------------------------------------------ writing
 *
 * Any thread; those of one handle are done one after the other.  Each waits timeout_ms at most, for the
 * mutations before it too.  A thread cannot be cancelled while it is inside. */

/* On which condition hc_set writes.  The engine decides it in the same step that writes,
 * so of many who try at once, exactly one finds each version. */
enum hc_set_mode {
	HC_SET = 0,        /* whatever there is */
	HC_ADD = 1,        /* only if there is none; else HC_EXISTS */
	HC_REPLACE = 2,    /* only if there is one; else HC_MISS */
	HC_IF_VERSION = 3, /* only if there is one, of hc_set_opts.version; else HC_MISS or HC_CONFLICT */
	HC_IF_NEWER = 4,   /* only if there is none, or one of a lower stamp; else HC_OLDER */
};

struct hc_set_opts {
	size_t size;           /* HC_OPTS */
	uint64_t ttl_ms;       /* time to live, from now; 0: the store's default; HC_TTL_NEVER: none; at most 10 years */
	uint32_t flags;        /* the caller's own, given back with views */
	uint32_t mode;         /* enum hc_set_mode */
	uint64_t version;      /* with HC_IF_VERSION the one that has to be there (of a view, or *ret_version
	                        * of an earlier call); else 0 */
	uint64_t stamp;        /* the caller's own order, as a time or a sequence number of where the value
	                        * comes from: kept with the entry in every mode; see HC_IF_NEWER */
	uint64_t *ret_version; /* out, may be NULL: the entry's version now: the new one with HC_OK, that of
	                        * what is there with HC_EXISTS, HC_CONFLICT, HC_OLDER.  Else unchanged. */
	uint32_t timeout_ms;   /* of this call; 0: hc_open_opts.timeout_ms */
	uint32_t reserved;     /* 0 */
	uint64_t lease;        /* hc_lease.token: write only if the lease is still held, else HC_LEASE_LOST; and give it
	                        * back.  mode is HC_SET then.  0: none */
	uint64_t fresh_ms;     /* the value is to be taken for fresh for so long (hc_get_or_lease); less than ttl_ms,
	                        * else it never is otherwise.  stamp is 0 then.  0: as long as it is there */
	uint32_t absent;       /* 1: the key is known to be absent, for ttl_ms: value_bytes and fresh_ms are 0.  Reads find
	                        * nothing, and hc_get_or_lease says HC_ABSENT; conditions find no entry */
	uint32_t reserved2;    /* 0 */
};
#define HC_TTL_NEVER UINT64_MAX

/* Sets a key to a value (0 bytes .. the pool's max_value).  opts may be NULL.
 * HC_OK when it is visible to every process; HC_MISS, HC_EXISTS, HC_CONFLICT, HC_OLDER or HC_LEASE_LOST
 * if the condition of opts->mode or lease did not hold: nothing has changed then.
 * Errors: HC_E_INVAL, HC_E_TOO_LARGE, HC_E_FULL, HC_E_NO_DAEMON, HC_E_TIMEOUT,
 * HC_E_UNKNOWN, HC_E_PROTOCOL, HC_E_NO_STORE (dropped meanwhile), HC_E_DENIED,
 * HC_E_CLOSING, HC_E_NO_MEMORY, HC_E_FORKED, HC_E_SYSTEM; HC_E_STALE (a new daemon does not know the
 * session: open another); HC_E_REFUSED, HC_E_VERSION (of a new connection); HC_E_CANCELLED
 * (hc_interrupt).  After each of them
 * but HC_E_UNKNOWN the entry is as it was - except that room for a value larger than the
 * pool's reserve is made by removing the old value first. */
HC_API int hc_set(struct hc_store *s, const void *key, size_t key_bytes, const void *value,
	size_t value_bytes, const struct hc_set_opts *opts);

/* Puts bytes behind (hc_append) or before (hc_prepend) the value that is there.  The entry
 * keeps its flags, stamp and expiry; views of it keep the old bytes.
 *
 * opts may be NULL; of it only `version` (0: any), `ret_version` and `timeout_ms` may be set.
 * HC_OK; HC_MISS: there is no entry; HC_CONFLICT: it has another version.
 * Errors as hc_set; HC_E_TOO_LARGE: the sum would be above the pool's max_value. */
HC_API int hc_append(struct hc_store *s, const void *key, size_t key_bytes, const void *value,
	size_t value_bytes, const struct hc_set_opts *opts);
HC_API int hc_prepend(struct hc_store *s, const void *key, size_t key_bytes, const void *value,
	size_t value_bytes, const struct hc_set_opts *opts);

/* Deletes a key.  HC_OK: it was there; HC_MISS: it was not.  Errors as hc_set. */
HC_API int hc_delete(struct hc_store *s, const void *key, size_t key_bytes);

/* Deletes a key if its entry has this version (not 0).  HC_OK; HC_MISS: there is none;
 * HC_CONFLICT: it has another version, and stays.  Errors as hc_set. */
HC_API int hc_delete_if(struct hc_store *s, const void *key, size_t key_bytes, uint64_t version);

/* Gives an entry another time to live, from now (as hc_set_opts.ttl_ms: 0 is the store's
 * default, HC_TTL_NEVER none).  Neither its bytes nor its version change, and views of it stay valid.
 * To the eviction policy it is a use.
 * HC_OK; HC_MISS: there is no entry, or its time was over.  Errors as hc_set. */
HC_API int hc_touch(struct hc_store *s, const void *key, size_t key_bytes, uint64_t ttl_ms);

/* hc_get, and then hc_touch if it found something: for entries that live on while they are read.
 * A miss costs no system call.  Returns what hc_get does, with the same outputs; HC_MISS also if the
 * entry has gone between the two; and the errors of hc_touch.  Another process may have replaced
 * the entry in between: then the new one got the time. */
HC_API int hc_get_touch(struct hc_store *s, const void *key, size_t key_bytes, uint64_t ttl_ms,
	void *buf, size_t buf_bytes, size_t *ret_bytes);

struct hc_incr_opts {
	size_t size;         /* HC_OPTS */
	int64_t initial;     /* what an absent entry is taken for: the first result is initial + delta */
	uint64_t ttl_ms;     /* of an entry that is made, as hc_set_opts.ttl_ms; one that is there keeps its own */
	uint32_t wrap;       /* 1: past the end of 64 bits it goes on at the other end; 0: it stays at the end */
	uint32_t must_exist; /* 1: HC_MISS if there is no entry; nothing is made */
	uint32_t timeout_ms; /* of this call; 0: hc_open_opts.timeout_ms */
	uint32_t reserved;   /* 0 */
};

/* Adds delta (negative: subtracts) to a number, in one step that nobody comes between.
 *
 * The value is the number in ASCII, decimal, with a '-' if it is below 0, of at most 20 characters: it can
 * be read with hc_get, and set with hc_set.  The entry keeps its flags, stamp and expiry.
 * opts may be NULL.  HC_OK: *ret (may be NULL) is the sum; HC_MISS: see must_exist.
 * Errors as hc_set; HC_E_NOT_NUMBER: the value is none, and stays.  *ret is unchanged then. */
HC_API int hc_incr(struct hc_store *s, const void *key, size_t key_bytes, int64_t delta,
	const struct hc_incr_opts *opts, int64_t *ret);

struct hc_mset_item {
	const void *key;    /* in */
	size_t key_bytes;   /* in */
	const void *value;  /* in */
	size_t value_bytes; /* in */
	int result;         /* out: what hc_set would have returned */
};

/* Sets n entries (0..HC_MSET_MAX), in order, with many messages in flight: an order
 * of magnitude faster than single calls.  opts (may be NULL) holds for all; its ret_version
 * is NULL.
 * HC_OK: all were set.  Else the first item's result that was not HC_OK; each
 * item's `result` is set, but with HC_E_INVAL for s, items, n or opts: nothing was done then.
 * timeout_ms begins anew whenever the engine answers.  Not a transaction: others may see some of them. */
HC_API int hc_mset(struct hc_store *s, struct hc_mset_item *items, size_t n,
	const struct hc_set_opts *opts);

/* Removes all entries of a store at once, whatever their number: no process finds one of them any more
 * when it has returned.  Entries that are set afterwards stay.  Views stay valid, and the store keeps its
 * counters.  The memory comes back little by little, within seconds; what is
 * written meanwhile is not kept waiting for it.
 *
 * *ret_entries (may be NULL): how many were there, with those whose time was over and that nobody had
 * met yet.  HC_OK; errors as hc_set but for those of values; *ret_entries is unchanged then. */
HC_API int hc_clear(struct hc_store *s, uint64_t *ret_entries);

/* ---------------------------------------------------------- computing a missing value once
 *
 *     struct hc_lease lease;
 *     switch (hc_get_or_lease(s, key, key_bytes, buf, sizeof buf, &n, NULL, &lease)) {
 *     case HC_OK:                                       there it is
 *             break;
 *     case HC_LEASE:                                    compute it; everybody else waits for us
 *             n = compute(buf);
 *             struct hc_set_opts o = HC_OPTS(hc_set_opts);
 *             o.lease = lease.token;
 *             hc_set(s, key, key_bytes, buf, n, &o);
 *     }
 *
 * WHO       A lease is the right to compute the value of one key.  Of all processes and threads that miss it at once,
 *           one gets it, and the others wait in hc_get_or_lease until the value is there; or they
 *           take the value that is there, if it is past its fresh time.
 * ITS END   hc_set with the token fills the key and gives the lease back; hc_lease_drop gives it back without.  It is
 *           lost when its process dies, however it does, closes its handle, or loses its connection to a living
 *           engine; when lease_ms are over and somebody else asks; and when anybody writes or deletes the
 *           key, or clears the store.  Then one of those who wait has it, at once.  A lost one
 *           writes nothing: hc_set answers HC_LEASE_LOST, and what is computed too late, or from what was true before
 *           a delete, is never seen by others.
 * DEATH     of the engine: leases stay, waits go on, and are told by the next engine.
 * FRESH     An entry that was set with fresh_ms is past its fresh time before it is over: meanwhile one
 *           process computes the next value (HC_REFRESH), and the others go on with the old one.  Some do so a little
 *           earlier, by chance: the likelier, the nearer the end and the longer the last computing took ("optimal
 *           probabilistic cache stampede prevention", Vattani, Chierichetti and Lowenstein, 2015).
 * RIGHTS    A lease needs the right to write.  Who may only read gets what is there, and HC_E_DENIED if nothing is.
 * KEYS      are told apart by a hash of 64 bits: it is possible, and never seen, that two wait for each other.
 * LIMITS    256 leases of a session, 4096 in all: HC_E_LEASES.  Who waits is not counted.
 * LOOPS     hc_submit takes HC_OP_LEASE, after a read that found nothing (or what is to be computed anew, with its
 *           version): HC_OK gives the token, HC_CONFLICT means that something is there: read; HC_LEASED that
 *           another one computes: ask again, after some ms or when it suits. */

struct hc_lease_opts {
	size_t size;            /* HC_OPTS */
	uint32_t lease_ms;      /* how long the lease is good: longer than computing takes; 0: 10000; at most 3600000 */
	uint32_t wait_ms;       /* how long to wait for another's value; 0: hc_open_opts.timeout_ms */
	uint32_t no_wait;       /* 1: do not wait, and wait_ms is 0: HC_LEASED at once */
	uint32_t early_percent; /* 100 times the paper's beta: how early to compute anew; 0: 100; HC_EARLY_NEVER */
};
#define HC_EARLY_NEVER UINT32_MAX

struct hc_lease {
	uint64_t token;   /* for hc_set_opts.lease and hc_lease_drop; 0: no lease */
	uint64_t version; /* of the value that was given; 0: none was */
};

/* Reads a key as hc_get does; if that is not enough, gets the lease or waits.  opts may be NULL.
 *
 * Returns HC_OK: the value is in buf, as of hc_get.
 *         HC_LEASE: there is none, and it is yours to compute: ret->token.
 *         HC_REFRESH: the value is in buf, and the next one is yours to compute: ret->token.
 *         HC_NOT_FRESH: the value is in buf; it is past its fresh time, and another process computes the
 *         next one (or nobody can, because the engine does not answer).
 *         HC_ABSENT: the key is known to be absent (hc_set_opts.absent).
 *         HC_LEASED: another process computes it, and wait_ms are over.
 *         HC_TOO_SMALL: as of hc_get; no lease is kept.
 * Errors: as of hc_get and hc_set; HC_E_LEASES.  ret is filled in any case but HC_E_INVAL.
 * A hit makes no system call and asks nobody, unless it is time to compute anew.  Any thread; nobody else's
 * calls with the handle have to wait meanwhile. */
HC_API int hc_get_or_lease(struct hc_store *s, const void *key, size_t key_bytes, void *buf,
	size_t buf_bytes, size_t *ret_bytes, const struct hc_lease_opts *opts, struct hc_lease *ret);

/* The same in place, as of hc_view: with HC_OK, HC_REFRESH and HC_NOT_FRESH *ret_view is held.  Errors as
 * hc_get_or_lease, and HC_E_VIEWS. */
HC_API int hc_view_or_lease(struct hc_store *s, const void *key, size_t key_bytes,
	struct hc_view *ret_view, const struct hc_lease_opts *opts, struct hc_lease *ret);

/* Gives a lease back: the value could not be computed, and another may try.  absent_ms not 0: it is
 * known that there is none, for so long (hc_set_opts.absent).
 * HC_OK; HC_LEASE_LOST: it was over already.  Errors as hc_set. */
HC_API int hc_lease_drop(struct hc_store *s, const void *key, size_t key_bytes, uint64_t token,
	uint64_t absent_ms);

/* ---------------------------------------------------------- writing, without waiting
 *
 *     struct hc_op op = HC_OPTS(hc_op);
 *     op.store = s;
 *     op.op = HC_OP_SET;
 *     op.key = "k", op.key_bytes = 1;
 *     op.value = "value", op.value_bytes = 5;
 *     op.user = 42;
 *     hc_submit(&op, NULL);                            as often as wanted
 *     struct hc_done done[64];
 *     size_t n;
 *     hc_poll(hc, done, 64, 1000, &n);                 sends, and takes what is done
 *
 * An operation is queued by hc_submit, sent by hc_poll (or by any call of the handle that waits), and over when
 * hc_poll gives its completion.  What is queued together goes together: many operations in one message, with
 * one reply, of which each is carried out as if it had come alone.
 *
 * EXACTLY ONE completion comes for each operation that was accepted, with the result that the call that
 *           waits would have returned; but none for a quiet one that succeeded.  A lost connection and
 *           a dying engine change nothing of it: what has no answer is sent again, and applied once.
 * ORDER     The operations and the waiting calls of one handle are applied in the order of hc_submit and the
 *           calls.  So hc_set() sends what was submitted before it, and waits for that too.
 * MEMORY    hc_submit copies key and value: they are the caller's again when it returns.
 * LIMITS    submit_max operations (queued, sent, or done and not taken) and submit_bytes bytes
 *           (queued): beyond them HC_E_QUEUE.  Sent and without an answer are at most 64, and about 1 MiB.
 * TIME      An operation's limit counts from hc_submit.  What was not sent by then is HC_E_TIMEOUT and did not
 *           happen; what was sent is HC_E_UNKNOWN.  Time passes, and all else happens, only in calls.
 * THREADS   Any thread may submit, poll, flush and cancel; each completion goes to one of those that poll.
 * FORK      The child inherits nothing: HC_E_FORKED. */

enum hc_op_kind {
	HC_OP_SET = 1,
	HC_OP_APPEND = 2,
	HC_OP_PREPEND = 3,
	HC_OP_DELETE = 4,
	HC_OP_TOUCH = 5,
	HC_OP_INCR = 6,
	HC_OP_CLEAR = 7, /* has no key, and a message of its own */
	HC_OP_LEASE = 8, /* see hc_get_or_lease, LOOPS */
	HC_OP_LEASE_DROP = 9,
};

/* An operation.  What it does not look at is 0. */
struct hc_op {
	size_t size;                     /* HC_OPTS */
	struct hc_store *store;
	uint32_t op;                     /* enum hc_op_kind */
	uint32_t quiet;                  /* 1: no completion if its result is HC_OK; hc_flush counts it */
	uint64_t user;                   /* the caller's own, given back */
	const void *key;
	size_t key_bytes;
	const void *value;               /* SET, APPEND, PREPEND */
	size_t value_bytes;
	const struct hc_set_opts *set;   /* SET, APPEND, PREPEND: as of hc_set, hc_append; NULL: none.  Its
	                                  * ret_version and timeout_ms are 0 */
	const struct hc_incr_opts *incr; /* INCR: as of hc_incr; NULL: none.  Its timeout_ms is 0 */
	int64_t delta;                   /* INCR */
	uint64_t ttl_ms;                 /* TOUCH: as of hc_touch; LEASE: as hc_lease_opts.lease_ms */
	uint64_t version;                /* DELETE: as of hc_delete_if; 0: any.  LEASE: of the entry that was found; 0:
	                                  * none was.  LEASE_DROP: the token */
	uint32_t timeout_ms;             /* 0: hc_open_opts.timeout_ms */
	uint32_t reserved;               /* 0 */
};

/* Queues an operation, without waiting and without sending.  *ret_id (may be NULL) names it for hc_cancel.
 * HC_OK: there will be a completion.  HC_E_INVAL, HC_E_QUEUE (full: hc_poll, then try again),
 * HC_E_TOO_LARGE, HC_E_NO_MEMORY, HC_E_FORKED: it was not accepted.  No system call, unless somebody
 * looks at hc_fd() or waits in hc_poll(): then one for many. */
HC_API int hc_submit(const struct hc_op *op, uint64_t *ret_id);

/* A completion. */
struct hc_done {
	uint64_t id, user;
	int result;       /* what the call that waits would have returned; errno is not kept */
	uint32_t op;      /* enum hc_op_kind */
	uint64_t version; /* of the entry: as hc_set_opts.ret_version, also after TOUCH and INCR; 0: not known.  Of LEASE
	                   * with HC_OK: the token */
	int64_t sum;      /* with HC_OK: of INCR the sum, of CLEAR how many entries there were; of LEASE with HC_LEASED: the
	                   * other's lease ends in so many ms */
	uint64_t reserved[2];
};

/* Sends what is queued, receives answers, connects again if need be, and takes up to max (1 ..) completions
 * that have come, in done[0 .. *ret_n).  If there is none it waits up to timeout_ms (0: not at
 * all), also while nothing is under way: another thread may submit.
 * HC_OK: *ret_n is 0 if none came in time.  What becomes of operations is never an error of hc_poll:
 * HC_E_INVAL, HC_E_FORKED, HC_E_CANCELLED (hc_interrupt, while it would wait), HC_E_SYSTEM (errno:
 * no descriptors for waiting). */
HC_API int hc_poll(struct hc *hc, struct hc_done *done, size_t max, uint32_t timeout_ms, size_t *ret_n);

/* A descriptor for poll(2), epoll and their like, in *ret_fd.  It is readable when hc_poll(.. 0 ..) has
 * something to do: completions to give, operations to send, an answer, a time limit, a connection to
 * be made again.  It stays the same as long as the handle lives, whatever becomes of the connection, and is
 * closed by hc_close().  It is for waiting alone: not to be read, written, closed, or used in a child.
 * HC_OK; HC_E_INVAL, HC_E_FORKED, HC_E_STALE, HC_E_TIMEOUT (another thread's call is under way),
 * HC_E_SYSTEM (errno). */
HC_API int hc_fd(struct hc *hc, int *ret_fd);

/* Calls an operation off.  HC_OK: it had not been sent, and will not be; its completion comes, with
 * HC_E_CANCELLED.  HC_E_UNKNOWN: it had been sent, and may or may not happen; its completion comes at once, with
 * HC_E_UNKNOWN.  HC_MISS: it is over already, or there was none of this id.  HC_E_INVAL, HC_E_FORKED. */
HC_API int hc_cancel(struct hc *hc, uint64_t id);

struct hc_flushed {
	size_t size;        /* HC_OPTS */
	uint64_t succeeded; /* quiet operations, since the last time that hc_flush said so */
	uint64_t failed;    /* quiet ones whose result was not HC_OK: their completions come */
};

/* Sends what is queued and waits, up to timeout_ms (0: hc_open_opts.timeout_ms), until nothing is under way: every
 * operation is over then, and hc_poll gives the completions without waiting.
 * HC_OK: *ret (may be NULL), whose size the caller has set, is filled.  HC_E_TIMEOUT, HC_E_CANCELLED (hc_interrupt):
 * not all are over; they go on.  HC_E_STALE: hc_poll gives their completions.  HC_E_INVAL, HC_E_FORKED. */
HC_API int hc_flush(struct hc *hc, uint32_t timeout_ms, struct hc_flushed *ret);

/* ------------------------------------------------------------------ the change feed
 *
 * A pool keeps the last changes of its entries, in order, in a ring in its memory, as much as `feed` of the
 * configuration allows.  Who may read the pool may follow them; nobody else sees its keys.
 *
 *     struct hc_feed *f;
 *     struct hc_event ev = HC_OPTS(hc_event);
 *     struct hc_feed_opts o = HC_OPTS(hc_feed_opts);
 *     o.store = s;
 *     if (hc_subscribe(hc, &o, &f) == HC_OK)
 *             while (hc_feed_next(f, 1000, &ev) >= 0)
 *                     ...                          HC_OK: an event; HC_MISS: none in a second; HC_LAPPED
 *
 * EACH      write, touch, deletion, eviction and expiry of an entry, each clear and each drop of a store is one event,
 *           exactly once, also when the engine dies in the middle of it: the feed is in the memory that the next
 *           engine takes over, and goes on there without a gap.  Not events: reads, and the time that they give
 *           entries of a store with `sliding`; a write under pressure that was not kept; the entries that a
 *           clear or a drop makes void.  An entry whose time is over is an event when the engine takes it away, soon
 *           afterwards; if it is written again before, that write is the only one.
 * ORDER     Events have numbers, one more for each in the pool.  They come in the order in which the changes
 *           became visible.  A reader may see a change a moment before its event.
 * LAPPED    A subscriber that is slower than the writers for longer than the ring holds misses events, and is told
 *           how many.  To know again what is there: hc_scan() the store after hc_feed_next() has said
 *           HC_LAPPED, then go on taking events; what they say of entries that the scan has met is
 *           the newer of the two by `version`.
 * COST      Nothing for the engine but the writing of the ring: subscribers read it in place.  Waiting costs no
 *           processor.  Any number of them.
 * THREADS   One thread at a time may use a subscription; different ones, different threads.
 * FORK      HC_E_FORKED in a child; hc_feed_close() there frees the child's memory only. */

struct hc_feed; /* a subscription; opaque; lives until hc_feed_close(), and not longer than its hc */

#define HC_FEED_KEY_MAX 4096        /* bytes of a key that an event holds */
#define HC_FEED_OLDEST UINT64_MAX   /* hc_feed_opts.from: as far back as there is something */

struct hc_feed_opts {
	size_t size;             /* HC_OPTS */
	struct hc_store *store;  /* events of this store alone; NULL: of all stores of the pool */
	const char *pool;        /* with store NULL: the pool's name; NULL: the first that this user may read */
	const void *prefix;      /* events of keys that begin so, and clears and drops; NULL: all */
	size_t prefix_bytes;     /* 0..HC_FEED_KEY_MAX */
	uint64_t from;           /* the number of the first event wanted, as hc_feed_position gave it; 0: what comes
	                          * from now on; or HC_FEED_OLDEST */
	uint64_t memory;         /* with a number: what hc_feed_position gave with it; 0: not looked at */
	uint64_t reserved;       /* 0 */
};

/* Subscribes.  opts may be NULL: the first pool, from now on.  What is older than the feed holds is HC_LAPPED of the first
 * hc_feed_next().
 * HC_OK and *ret.  Errors, *ret is NULL: HC_E_INVAL, HC_E_NO_FEED, HC_E_NO_STORE (no pool of this name), HC_E_DENIED (this
 * user may not read the pool), HC_E_STALE (the number belongs to the memory of a former daemon), HC_E_DAMAGED,
 * HC_E_NO_MEMORY, HC_E_FORKED.  Takes time with the size of the feed, about 1 ms for each 4 MiB; no system call. */
HC_API int hc_subscribe(struct hc *hc, const struct hc_feed_opts *opts, struct hc_feed **ret);

enum hc_event_what {
	HC_EVENT_SET = 1,    /* written: set, append, prepend; there may have been an entry before */
	HC_EVENT_INCR = 2,   /* a number was added to, or made */
	HC_EVENT_TOUCH = 3,  /* got another time to live */
	HC_EVENT_DELETE = 4, /* removed by request */
	HC_EVENT_EXPIRE = 5, /* removed because its time was over */
	HC_EVENT_EVICT = 6,  /* removed by the engine: enum hc_event_why */
	HC_EVENT_CLEAR = 7,  /* all entries of the store; no key */
	HC_EVENT_DROP = 8,   /* the store itself; no key */
	HC_EVENT_ABSENT = 9, /* the key is known to be absent from now on (hc_set_opts.absent); what goes of such an
	                      * entry is an event as of any other */
};

enum hc_event_why {
	HC_WHY_NONE = 0,
	HC_WHY_LIMIT = 1,    /* the store was above its own limit */
	HC_WHY_PRESSURE = 2, /* the pool was fuller than it is to be */
	HC_WHY_FULL = 3,     /* a write of its store found no room */
	HC_WHY_GIVEN = 4,    /* a write of another store of the pool found no room */
	HC_WHY_ASIDE = 5,    /* it stood where room in one piece was needed, and there was none elsewhere */
	HC_WHY_SHRUNK = 6,   /* the pool was made smaller */
	HC_WHY_INDEX = 7,    /* too many keys fell into its part of the index, or the engine had no memory left */
	HC_WHY_DAMAGED = 8,  /* its checksum was wrong; its key may be wrong, too */
};

/* An event.  What it points to is the subscription's, until its next call. */
struct hc_event {
	size_t size;          /* HC_OPTS */
	uint64_t sequence;    /* its number: one more than that of the event before in the pool */
	uint64_t lsn;         /* of the mutation, in the whole daemon; what the engine did by itself has that of the
	                       * mutation before */
	uint64_t version;     /* of the entry that was written, touched or removed; 0: CLEAR, DROP */
	uint64_t time_ns;     /* CLOCK_REALTIME of the engine's turn in which it happened */
	uint64_t store_id;    /* of the store */
	const char *store;    /* its name; "" if it was dropped before this subscription knew it */
	const void *key;      /* kept_bytes bytes */
	size_t key_bytes;     /* of the whole key; 0: CLEAR, DROP */
	size_t kept_bytes;    /* of it at `key`: all, or the first HC_FEED_KEY_MAX */
	uint64_t key_hash;    /* of the whole key: tells long keys apart within a daemon's life */
	size_t value_bytes;   /* of the entry's value */
	uint32_t what;        /* enum hc_event_what; one that this header does not know: skip it */
	uint32_t why;         /* enum hc_event_why */
	uint64_t missed;      /* HC_LAPPED: how many events, of any store or key; 2^39 or more: nobody knows, the feed
	                       * was damaged */
};

/* The next event, in *ret, whose size the caller has set.  If there is none it waits up to timeout_ms (0: not at all).
 *
 * HC_OK.  HC_MISS: none in time.  HC_LAPPED: ret->missed were overwritten, from the number on that was next, and the next
 * call goes on at the oldest that is left, ret->sequence.  In both *ret has nothing else.
 * Errors: HC_E_INVAL, HC_E_FORKED, HC_E_CANCELLED (hc_interrupt, while it would wait), HC_E_STALE (the daemon is gone and
 * all has been taken: nothing comes any more), HC_E_DAMAGED (the feed holds what it cannot; subscribe
 * anew), HC_E_NO_FEED (the engine had to give the feed up).
 * No system call but to wait: futex(2) on the ring, in slices of 100 ms; and those of hc_feed_fd(). */
HC_API int hc_feed_next(struct hc_feed *f, uint32_t timeout_ms, struct hc_event *ret);

/* A descriptor for poll(2), epoll and their like, in *ret_fd.  It is readable when hc_feed_next(.. 0 ..) may have something to
 * give: take events until it says HC_MISS, then wait again; what comes in between makes it readable.  It stays the same
 * as long as the subscription lives, whatever becomes of engines.  It is also readable, with HC_MISS as the only event, when
 * an engine has died (hc_health() says what is the matter), when what came does not pass the filter, and every
 * 50 ms where the engine has no place for one more that waits (16 of a session); when the daemon is gone it stays
 * readable, and hc_feed_next() says HC_E_STALE.  It is for waiting alone: not to be read, written, closed, or used in
 * a child; hc_feed_close() closes it.
 * HC_OK; HC_E_INVAL, HC_E_FORKED, HC_E_SYSTEM (errno: no descriptors).
 * Waiting is on a connection of its own, which hc_feed_next() makes and uses: a few system calls each time that it says HC_MISS,
 * none while events come. */
HC_API int hc_feed_fd(struct hc_feed *f, int *ret_fd);

/* Where the subscription stands: the number of the event that is looked at next, and of which memory it is a
 * number; for hc_feed_opts.from and .memory, in any process.  HC_OK, HC_E_INVAL, HC_E_FORKED.  No system call. */
HC_API int hc_feed_position(const struct hc_feed *f, uint64_t *ret_from, uint64_t *ret_memory);

/* Ends a subscription; before hc_close() of its handle.  NULL is allowed. */
HC_API void hc_feed_close(struct hc_feed *f);

/* ------------------------------------------------------------------ not waiting any longer */

/* on = 1: from now on no call of this handle waits.  Those that wait now, in other threads or in the one that a
 * signal interrupts, return within 100 ms, and so do later ones that would have to: mutations, hc_mset, hc_ping,
 * hc_flush, hc_poll and hc_feed_next with HC_E_CANCELLED; a mutation that had been sent with HC_E_UNKNOWN.
 * on = 0: calls wait again.
 * Reads, hc_submit, and hc_poll with timeout_ms 0 go on as ever.  HC_OK, HC_E_INVAL.  May be called from
 * any thread, and from a signal handler. */
HC_API int hc_interrupt(struct hc *hc, int on);

#ifdef __cplusplus
}
#endif
#endif
