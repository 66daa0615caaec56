/* eng.h - the engine's private header: its structures, and who calls whom.
 *
 *   eng_main.c     adopt the heritage, start order, the turn, shutdown
 *   eng_loop.c     what waits: sockets, timers, descriptors          (eng_loop.h)
 *   eng_conn.c     connections: frames in and out, limits
 *   op_*.c         one request each                                  (op.h)
 *   eng_peer.c     who is at the other end of a connection, and what he may
 *   eng_session.c  sessions: their segments, death
 *   eng_fold.c     what ended sessions have counted
 *   eng_sup.c      the channel to the supervisor
 *   eng_config.c   a new configuration, taken over whole; the directory of stores
 *   eng_slow.c     the slow log
 *   eng_store.c    stores and pools, the policies' bookkeeping
 *   eng_apply.c    what comes from disk (eng_apply.h)
 *   eng_load.c     a checkpoint (eng_load.h)
 *   eng_hint.c     the clients' touch rings
 *   eng_purge.c    what cleared stores have left
 *   eng_recent.c   what was counted lately
 *   eng_held.c     since when clients hold what they hold
 *   eng_curve.c    what each store would miss with other memory
 *   eng_hot.c      the keys that are read most
 *   eng_room.c     eviction, compaction, limbo, revocation
 *   eng_expiry.c   takes away what is over
 *   eng_log.c      the log of durable stores
 *   eng_recover.c  what is on disk comes into fresh memory
 *   eng_lease.c    who computes a missing value
 *   eng_feed.c     the change feed: its time, its readers, dropped stores
 *   eng_resize.c   how large a pool is
 *   eng_pressure.c how full a pool may become, and a store
 *   eng_worth.c    to whom memory is worth more
 *
 * README.md beside this file has the rules.  One thread; nothing here is fork-safe.
 */
#ifndef HC_DAEMON_ENG_H
#define HC_DAEMON_ENG_H

#include <sys/queue.h>
#include <sys/socket.h>
#include "atomic.h"
#include "eng_loop.h"
#include "heritage.h"
#include "hist.h"
#include "log.h"
#include "pol.h"
#include "pol_ghost.h"
#include "pol_shadow.h"
#include "pool.h"
#include "wheel.h"
#include "wire.h"
#include "step.h"

#define ENG_NS_PER_S 1000000000ull

/* The limits of README.md, "What is bounded". */
enum {
	ENG_REQUESTS_PER_TURN = 64, /* of one connection, before the next one's turn */
	ENG_READ_BYTES =
		64 << 10, /* what one receive may bring, unless a longer frame was announced */
	ENG_KEPT_S = 5,   /* the supervisor acknowledges a session within this time */
	ENG_QUIT_S = 1,   /* what is buffered is sent within this time */
	ENG_LOOKS_PER_TICK = 64,    /* sessions looked at for death by one tick */
	ENG_HINT_BLOCKS = 1024,     /* touch rings looked at by a drain of a tick or for eviction */
	ENG_HINT_BLOCKS_TURN = 128, /* by one at the end of a turn */
	ENG_HINT_BLOCKS_LIMIT = 16, /* by one before a store at its limit evicts */
	ENG_HINT_SETS = 16,         /* entries written between two of those */
	ENG_ROOM_TRIES = 24,        /* attempts to make room for one entry */
	ENG_VICTIMS = 512,          /* evictions before each scan of the pins, at most */
	ENG_ROOM_SHARE = 256,       /* they stop at this part of the pool, */
	ENG_ROOM_FACTOR = 8,        /* or at so many times the bytes wanted */
	ENG_COMPACT_PLACES = 1024,  /* entries moved by one compaction or join */
	ENG_JOIN_STEPS = 4,         /* joins of free pages after a batch of evictions */
	ENG_JOIN_BYTES = 1 << 20,   /* moved by one, or twice what is written */
	ENG_LIMBO_ENTRIES =
		4096, /* more in limbo than after the last sweep: swept at the turn's end */
	ENG_GROW_CHAINS = 256,      /* of a growing index, moved by one turn */
	ENG_EXPIRY_WORK = 256,      /* timers looked at by one turn, of all stores */
	ENG_PRESSURE_VICTIMS = 256, /* evictions of one turn in the background, of each pool */
	ENG_RECENT_BLOCKS = 128,    /* of clients, whose reads are added up by one turn */
	ENG_VOID_CHAINS = 128,  /* of an index, looked through for cleared entries by one turn */
	ENG_VOID_ENTRIES = 512, /* of them, removed by it */
	ENG_VOID_LIMBO = 1024,  /* in limbo after them: swept */
	ENG_PAUSE_MS = 5000,    /* of all changes, that a tool asked for, at most */
	ENG_VERIFY_BYTES = 128 << 10, /* of entries, verified behind an adoption by one turn */
	ENG_VOID_STEPS = 16,          /* such looks by an attempt to make room */
	ENG_LEASES_SESSION = 256,     /* leases that one session holds */
	ENG_LEASE_LOOKS =
		64, /* of them, looked at for one whose time is over when there is none left */
	ENG_LEASE_WAKES = 64,     /* waiters woken by one turn, of each word */
	ENG_ACCEPT_US = 1000,     /* between two connections, in the long run */
	ENG_ACCEPT_BURST = 256,   /* that may come without */
	ENG_ACCEPT_PAUSE_MS = 10, /* then nobody is let in for so long */
	ENG_HELD_BLOCKS =
		1024,          /* of pins, looked at by one tick for how long they have been held */
	ENG_FEED_WATCHES = 16, /* connections of one session that wait for a feed */
	ENG_FEED_TELLS = 64,   /* of them, told by one turn, of each pool */
	ENG_LATE_MARKS =
		64, /* groups of answers of one connection that wait for the log each for itself */
};
#define ENG_VOID_BYTES (64ull << 20) /* of removed entries, before a scan of the pins */
#define ENG_IN_TOTAL_BYTES \
	(64ull << 20) /* all buffers of half frames: this, or two of the longest */

struct eng;
struct eng_log;
struct eng_conn;
struct eng_curve;
struct topk;

/* Who is at the other end of a socket, as the kernel tells, and which pools he may read and change:
 * bit i is pool i.  write_pools is always a part of read_pools. */
struct eng_peer {
	uint32_t uid, gid;
	int32_t pid; /* 0: unknown, in another pid namespace */
	uint32_t read_pools, write_pools;
};

/* ---------------------------------------------------------------- sessions */

enum eng_session_state {
	ENG_SESSION_FREE = 0,
	ENG_SESSION_PUTTING, /* in the scan set; the supervisor has not acknowledged yet */
	ENG_SESSION_LIVE,
	ENG_SESSION_ENDING, /* over; the slot waits for the supervisor to hear it, and for its poll to end */
};

struct eng_session {
	enum eng_session_state state;
	uint32_t slot; /* index in eng.session[], of pin_gen[] and of the journal */
	uint64_t id;
	struct eng_peer peer;         /* when it was opened; rights only ever get fewer */
	int memfd;                    /* a description that nobody locks */
	int pidfd;                    /* -1: none */
	int given_fd;                 /* the locked description, until the client has it; else -1 */
	const struct shm_client *seg; /* read-only; hostile content */
	size_t seg_bytes;
	uint32_t n_blocks;
	uint32_t scan_idx; /* in eng.scan[], while PUTTING or LIVE */
	bool compiler_fence;
	bool revoked;          /* its pins may have been revoked: it may read what was freed */
	bool drop_unsent;      /* ENDING: the supervisor has not been told */
	uint64_t last_request; /* highest that was answered */
	uint32_t n_leases;     /* that it holds */
	struct eng_held *held; /* of each block of views (eng_held.c); NULL: not looked at yet */
	uint32_t n_held;       /* blocks of it */
	uint32_t held_told_ds; /* what the segment says of the oldest */
	uint32_t n_watches;    /* connections that wait for a feed in its name */
	uint64_t putting_ns;   /* when the supervisor was asked */
	uint64_t hint_pos[SHM_BLOCKS_MAX]; /* per block: hints read; */
	uint64_t hot_left_out[SHM_BLOCKS_MAX],
		hot_ms[SHM_BLOCKS_MAX]; /* those left out, as of when */
	struct eng_conn *conn;          /* NULL: not connected now */
	struct eng_wait pid_wait;
	struct eng *e;
};

/* ------------------------------------------------------------- connections */

/* Answers up to that byte of `late` wait for the log to be durable up to that number. */
struct eng_late {
	uint64_t lsn;
	size_t end;
	uint64_t since_ns; /* when the first of them began to wait, */
	uint32_t verb;     /* and what it was: for the slow log */
};

struct eng_conn {
	struct eng *e;
	int fd;
	uint32_t uid; /* of the process that connected */
	uint32_t idx; /* in eng.conn[] */
	struct eng_session *session;
	struct wire_buf in;      /* what came; not touched while in_wait is armed */
	struct wire_buf out;     /* answers that wait */
	struct wire_buf sending; /* answers that the loop sends */
	struct wire_buf late;    /* answers that wait for the log, and those behind them */
	struct eng_late mark[ENG_LATE_MARKS]; /* ascending in both */
	uint32_t n_marks;
	size_t in_need;    /* bytes of the frame that has begun; 0: unknown or none */
	size_t in_counted; /* of eng.in_bytes */
	struct eng_wait in_wait, out_wait;
	bool held;    /* a request waits for the supervisor: nothing is decoded */
	bool stalled; /* held because the log cannot take a record now */
	bool is_late; /* in eng.n_late */
	bool closing; /* closed as soon as all answers are out */
	bool dead;    /* closed as soon as nothing is armed */
	bool ready;   /* in eng.ready: has whole frames */
	uint64_t opened_ns;
	uint64_t in_ns, out_ns; /* when bytes last moved */
	struct eng_conn *next_ready;
	struct eng_session *watch_of; /* in whose name it waits for a feed; NULL: it does not */
	uint32_t watch_pool;          /* of which pool, while it is in its list */
	bool watching;                /* in eng_pool.watch: a request waits */
	TAILQ_ENTRY(eng_conn) watch;
};

/* -------------------------------------------------------- stores and pools */

struct eng_store {
	uint64_t id; /* 0: unused */
	uint32_t idx, pool_idx;
	struct pol *pol;
	struct shm_store_entry *entry; /* in the control segment */
	uint64_t worth;                /* of more memory to it (eng_worth.c); only ever compared */
	struct pol_ghost ghost;        /* a sample of what it lost for want of room */
	uint64_t ghost_limit;          /* fingerprints in it, at most */
	uint64_t regret;               /* keys of the ghost that came back since the last tick */
	uint64_t max_value_bytes;      /* as configured */
	uint32_t jitter_ppm;           /* of a time to live: taken off by chance, at most */
	bool dropped;       /* not in the directory any more: its entries are being removed */
	struct wheel wheel; /* which entries are over when; its numbers are the policy's nodes */
	bool told_wheel;    /* the log has it that there is no memory for timers */
	bool told_odd;      /* the log has it that its policy proposes nonsense */
	bool at_limit;      /* it is being brought below a limit of its own */
	bool what_if;       /* as configured: it has a curve */
	struct eng_curve *curve; /* NULL: none yet */
	struct topk *hot;        /* what is read most; NULL: nothing yet */

	enum config_durability durability; /* as configured */
	uint64_t log_id;                   /* what the log calls it: eng_log_id() of its name */
	uint64_t loss_window_ns;           /* ASYNC */
};

struct eng_pool {
	struct shm_wpool w;
	uint8_t *base;  /* NULL: there is no such pool */
	uint64_t bytes; /* mapped: all regions, holes too */
	uint32_t n_regions;
	uint64_t limbo_cap_bytes;         /* as configured */
	uint64_t large_bytes;             /* items above this take a run of pages */
	struct shm_alloc_cursors join_at; /* shm_alloc_join */
	uint64_t window_cursor;           /* shm_alloc_window */
	uint64_t
		keep_off; /* entry that a change is made from: not what goes for its room; 0: none */
	uint64_t write_bytes;   /* of the write that room is made for; 0: none */
	bool hard;              /* no policy gives anything more, unless the pool is full */
	uint64_t squeeze_bytes; /* the size that the system's pressure leaves it; 0: as is wanted */
	uint32_t resize_tries;
	bool resize_stuck;   /* no step was possible: a tick tries again */
	uint64_t told_bytes; /* the size of which the log has it that it cannot be had now */
	uint32_t pressure;   /* enum shm_pressure that was reached; END: none */
	uint32_t limbo_left; /* entries that the last sweep had to leave: pinned */
	uint64_t limbo_left_bytes;
	uint64_t n_void; /* entries of before a clear of their store: void_entries of all stores */
	uint64_t void_bytes;          /* their places */
	uint64_t purge_cursor;        /* shm_pool_find_void */
	uint64_t verify_cursor;       /* shm_pool_find_damaged */
	uint64_t n_damaged;           /* found by it */
	uint64_t purge_bytes;         /* removed since the last sweep for it */
	TAILQ_HEAD(, eng_conn) watch; /* connections that wait for its feed, in order */
	uint32_t n_watch, n_tell;     /* of them; of those, to be told */
	uint64_t hot_ns;              /* when its hot keys were last written, */
	uint32_t n_hot;               /* so many */
	int adopt_error; /* -errno: an adopted entry could not be given to its policy */
	struct eng *e;
};

/* What was counted lately (eng_recent.c). */
enum eng_recent_of {
	ENG_RECENT_hits,
	ENG_RECENT_misses,
	ENG_RECENT_evicted,
	ENG_RECENT_evicted_limit,
	ENG_RECENT_refused_full,
	ENG_RECENT_N
};
enum { ENG_RECENT_SAMPLES = 64 }; /* a second each: the oldest is more than a minute old */

struct eng_recent {
	uint64_t n;        /* samples ever taken; the last one stands at (n - 1) % SAMPLES */
	uint64_t began_ns; /* the last one, or the one that is running */
	bool running;
	uint32_t pos; /* in eng.scan[]: the next session to be added up */
	uint64_t at_ns[ENG_RECENT_SAMPLES];
	struct eng_recent_store {
		uint64_t hits, misses; /* of the sessions that are added up */
		uint64_t sample[ENG_RECENT_SAMPLES][ENG_RECENT_N];
	} store[SHM_STORES_MAX];
};

/* ------------------------------------------------------------------- engine */

/* Leases (l_journal.h); eng_lease.c alone looks inside. */
enum { ENG_LEASE_CHAINS = 1024 };
struct eng_leases {
	struct shm_lease *lease; /* [n]: the journal's, or our own */
	struct eng_lease_note {
		uint32_t next; /* of its chain, or free; index + 1, 0: none */
		bool asked;    /* somebody was told to wait for it */
	} * note;              /* [n] */
	uint32_t n, n_used, free_first, hand;
	uint32_t chain[ENG_LEASE_CHAINS];    /* by hash; index + 1 */
	uint16_t held[SHM_LEASE_WORDS];      /* of each word */
	uint64_t wake[SHM_LEASE_WORDS / 64]; /* words where somebody may wait for what has come */
	uint16_t wakes_left
		[SHM_LEASE_WORDS]; /* turns in which they are woken: some may wait again at once */
	bool own;                  /* lease[] is ours to free */
};

struct eng {
	struct heritage *h;
	const struct config *config;
	struct shm_control *ctl;
	struct shm_journal *journal;
	int lock_fd; /* our own description, locked */

	struct eng_loop *loop;
	struct eng_wait accept_wait, accept_pause, sup_wait, tick_wait, quit_wait;
	uint64_t now_ns;  /* CLOCK_MONOTONIC at the beginning of this round of callbacks */
	uint64_t mark_ns; /* the last time of this round that the clock was read for a histogram */
	struct shm_slow *slow; /* in the journal; NULL: there is none */
	uint32_t n_slow;
	uint64_t slow_last;           /* number of its last entry */
	uint64_t room_ns, room_of_ns; /* spent on room for the request that began then */

	struct eng_pool pool[SHM_POOLS_MAX];
	struct eng_store store[SHM_STORES_MAX];
	uint32_t store_next;          /* where the next free place is looked for */
	struct sup_msg config_answer; /* to the last new configuration */
	bool dropping;                /* some of the stores are dropped */
	bool config_unsent;           /* the channel was full */
	bool may_barrier;
	uint32_t calm_ticks;  /* without pressure of the system */
	bool told_pressure;   /* the log has it that its file makes no sense */
	bool told_incomplete; /* the log has it that memory is not reused (rule P17) */
	uint32_t sets_since_drain;
	bool purging;           /* a step of eng_purge.c is due */
	bool dirty;             /* gauges in the control segment are behind */
	uint64_t batch_wall_ns; /* CLOCK_REALTIME, read once for a batch; 0: none is carried out */
	struct wire_request batch[WIRE_BATCH_MAX]; /* the items of the one that is carried out */
	struct shm_pinset pins;
	uint64_t *places; /* scratch for compaction and windows */
	uint32_t n_places;

	struct eng_session *session; /* [config.max_clients] */
	uint32_t n_sessions;         /* of it */
	struct shm_scan_session *scan;
	uint32_t *scan_slot; /* beside scan[]: which session */
	uint32_t n_scan;
	uint32_t look_pos, hint_scan, held_scan;
	uint64_t expiry_ms;    /* the last tick: what was over then is taken away */
	uint32_t expiry_store; /* whose turn it is; SHM_STORES_MAX: all is done */

	struct eng_recent recent;

	struct eng_conn **conn;
	uint32_t n_conns,
		max_conns;     /* [3/2 max_conns]: those that wait for a feed are not counted */
	uint32_t n_watches;    /* of n_conns */
	uint64_t accept_at_ns; /* when the last connection would have come, at their rate */
	struct eng_conn *ready, *ready_last;
	uint64_t in_bytes; /* capacity of all `in` above ENG_READ_BYTES each */
	uint64_t in_max_bytes;
	bool reap;        /* some of conn[] are dead */
	bool door_waited; /* at the last tick somebody stood at the door, and nobody came in since */
	uint32_t n_late;  /* of conn[], those with answers that wait for the log */
	uint64_t
		answer_lsn; /* the answer to the request that is carried out waits for it; 0: for nothing */

	struct eng_leases leases;
	struct eng_log *log; /* NULL: there are no durable stores */
	bool data_refused;   /* what is on disk cannot just be taken: the operator has to choose */

	uint64_t pause_end_ns; /* nothing is changed before; 0: no pause */
	bool quit;             /* told to end, or the supervisor is gone */
	uint64_t quit_ns;
};

/* What the engine is about to work on, for whoever looks after its death: sup_crash.c; and that it is no pool.  The
 * next turn begins with none. */
static inline void eng_at(struct eng *e, uint32_t pool_idx)
{
	if (!MUTANT(340)) /* 340: nobody knows which pool kills engines */
		shm_store_rlx(&e->journal->at_pool, pool_idx + 1);
}
static inline void eng_at_none(struct eng *e) { shm_store_rlx(&e->journal->at_pool, 0); }

/* eng_verify.c: checksums behind an adoption. */
void eng_verify_begin(struct eng *e);
bool eng_verify_turn(struct eng *e); /* true: there is more */

/* eng_errand.c: what a tool asks for; and the wait that a pause is. */
void eng_errand(struct eng *e, const struct sup_msg *m);
void eng_errand_pause(struct eng *e);

/* eng_main.c */
uint64_t eng_clock_ns(void);  /* CLOCK_MONOTONIC, by which readers judge too (rule P29) */
uint64_t eng_wall_ns(void);   /* CLOCK_REALTIME */
void eng_quit(struct eng *e); /* begin the end: stop accepting, send what is buffered */

/* eng_map.c: the mappings of an engine. */
int eng_map_segment(int fd, uint64_t min_bytes, enum shm_kind kind, void **ret); /* 0 or -errno */
int eng_map_pool(struct eng *e, uint32_t pool_idx, uint8_t **ret_base, uint64_t *ret_bytes);
/* One region at its place behind base.  0 or -errno. */
int eng_map_region(const struct shm_region *g, int fd, uint8_t *base);
/* Maps what the kernel has of the pool at once, if nothing of it was given back: one by one its pages take
 * longer.  A hint. */
void eng_map_ahead(struct eng *e, uint32_t pool_idx);
uint64_t eng_map_page_bytes(const struct shm_region *g); /* of what backs it */
int eng_map_reopen(int fd, int flags);                   /* a description of its own; or -errno */
/* Closes all that is mapped to every later writer, for ever (hardening: strict).  0 or -errno. */
int eng_map_seal(struct eng *e);

/* eng_conn.c */
int eng_conn_start(struct eng *e);        /* accepts from now on; 0 or -errno */
void eng_conn_run_ready(struct eng *e);   /* connections that have whole frames */
void eng_conn_tick(struct eng *e);        /* time limits, accept again */
void eng_conn_reap(struct eng *e);        /* frees what is dead */
void eng_conn_close_all(struct eng *e);   /* after what is buffered was sent */
void eng_conn_drop(struct eng_conn *c);   /* at once; frees nothing yet */
void eng_conn_resume(struct eng_conn *c); /* a held request was answered */
void eng_conn_say(struct eng_conn *c, const struct wire_answer *a); /* an answer that comes later */

/* The log takes records again. */
void eng_conn_resume_stalled(struct eng *e);
/* The log is durable up to there: answers that waited for it go. */
void eng_conn_durable(struct eng *e, uint64_t lsn);
/* The log has failed: who waits for it loses his connection, repeats his requests, and is told then. */
void eng_conn_not_durable(struct eng *e);
/* Answers what cannot be understood, and closes. */
void eng_conn_protocol_error(struct eng_conn *c, uint32_t verb, uint64_t request);

/* eng_peer.c: 0 and *ret, or -errno.  The first asks the kernel for no more than the user. */
int eng_peer_uid(int sock, uint32_t *ret);
int eng_peer_get(struct eng *e, int sock, struct eng_peer *ret);

/* eng_session.c */
int eng_session_adopt(struct eng *e);  /* those of the heritage; 0 or -errno */
void eng_session_serve(struct eng *e); /* after the journal was decided: watches them */
/* A new one for a connection: SESSION_PUT is sent.  0 and *ret; 1: refused, by a limit or for
 * want of memory or descriptors (logged). */
int eng_session_open(struct eng *e, struct eng_conn *c, const struct eng_peer *peer,
	const struct wire_request *r, struct eng_session **ret);
void eng_session_live(struct eng_session *s); /* the client has its descriptors */
struct eng_session *eng_session_find(struct eng *e, uint64_t id); /* LIVE, or NULL */
void eng_session_bind(struct eng_session *s, struct eng_conn *c); /* its connection from now on */
void eng_session_unbind(struct eng_conn *c); /* the connection is gone: when to look */
enum eng_session_why { ENG_ENDED_BYE, ENG_ENDED_DEAD, ENG_ENDED_REFUSED };
void eng_session_end(struct eng_session *s, enum eng_session_why why);
/* Looks whether the kernel says that it is dead (rule P18), and ends it then. */
void eng_session_look(struct eng_session *s);
void eng_session_look_all(struct eng *e);
void eng_session_tick(struct eng *e);
void eng_session_revoke(struct eng_session *s, const char *why);
/* It may read and change these pools too, if the supervisor hears of it.  0 or -errno: it may not. */
int eng_session_grant(struct eng_session *s, uint32_t read_pools, uint32_t write_pools);

/* eng_sup.c */
int eng_sup_start(struct eng *e);
/* One message.  0 or -errno; -EAGAIN: the channel is full. */
int eng_sup_send(struct eng *e, enum sup_msg_kind kind, const struct eng_session *s, const int *fds,
	uint32_t n_fds);
int eng_sup_send_msg(struct eng *e, const struct sup_msg *m); /* the same, without descriptors */
/* Waits so long for a message of the supervisor, and obeys what has come. */
void eng_sup_look(struct eng *e, int wait_ms);
/* Waits for bytes or the end of the channel without the loop: true when it is time to end. */
bool eng_sup_wants_end(struct eng *e, int wait_ms);

/* eng_config.c */
/* The store of that id in a configuration, or NULL. */
const struct config_store *eng_config_store(const struct config *c, uint64_t id);
void eng_config_start(struct eng *e);   /* before eng_store_open: the directory as configured */
void eng_config_stores(struct eng *e);  /* behind it: what the stores are to know privately */
void eng_config_adopted(struct eng *e); /* all pools are open: nothing of dropped stores is left */
void eng_config_take(struct eng *e, const struct sup_config_msg *m);
void eng_config_tick(struct eng *e); /* an answer that did not fit */

/* eng_store.c */
/* The state of a store's policy, as its configuration says.  0, -ENOMEM, or -EINVAL: there is none of that name. */
int eng_store_policy(struct eng *e, const struct config_store *s, struct pol **ret);
/* All entries of s go over from its policy to `pol`, which it takes over: those first that would go first.
 * One pass, in the turn of the reload.  Without memory for an entry, it is evicted. */
void eng_store_change(struct eng *e, struct eng_store *s, struct pol *pol);
/* The store of directory entry i begins, with an empty policy, which it takes over. */
void eng_store_add(struct eng *e, uint32_t i, struct pol *pol);
/* The store has left the directory: its entries are void, and purged as those of a cleared one. */
void eng_store_drop(struct eng *e, struct eng_store *s);
/* The policy hears what the stamps of the entry at off say of it: how old it is, and when it was used last. */
void eng_store_restore(const struct eng_pool *p, const struct eng_store *s, uint64_t off);
/* Dropped stores of which no entry is left are no more, and their places are free. */
void eng_store_forget(struct eng *e);
int eng_store_open(struct eng *e); /* directory and policies; before the pools are opened */
shm_pool_each eng_store_adopted;   /* arg: struct eng_pool */
struct eng_store *eng_store_of(struct eng *e, uint64_t idx, uint64_t id); /* or NULL */
struct eng_store *eng_store_by_id(struct eng *e, uint64_t id);            /* or NULL */
/* Is the time of the entry at off, live or just unlinked, over? */
bool eng_store_expired(const struct eng_pool *p, uint64_t off, uint64_t now_ns);
/* Why an entry goes.  From ENG_LOST_LIMIT on it is evicted; the store's counter of that name counts it. */
enum eng_lost {
	ENG_LOST_DELETED,
	ENG_LOST_EXPIRED,
	ENG_LOST_LIMIT,
	ENG_LOST_PRESSURE,
	ENG_LOST_FULL, /* for a write of its own store; GIVEN: of another one */
	ENG_LOST_GIVEN,
	ENG_LOST_ASIDE,
	ENG_LOST_SHRUNK,
	ENG_LOST_INDEX,
	ENG_LOST_N
};
/* Is the entry at off of before the last clear of its store? */
bool eng_store_is_void(const struct eng_pool *p, uint64_t off);
/* All entries of s have become void. */
void eng_store_cleared(struct eng_pool *p, struct eng_store *s);
/* An entry left its slot (what: ch->old_*): policy and counters forget it. */
void eng_store_lost(
	struct eng_pool *p, const struct shm_changed *ch, enum eng_lost how, uint64_t now_ns);
/* s has a new entry at ch->off, in place of ch->old_off if that is not 0: policy and counters
 * know it.  0; -ENOMEM: it was removed again. */
int eng_store_got(
	struct eng_pool *p, struct eng_store *s, const struct shm_changed *ch, uint64_t now_ns);

/* Asks the policy of s what is to go next.  0 and its offset, or 1: nothing, now. */
int eng_store_victim(struct eng_pool *p, struct eng_store *s, uint64_t *ret_off);
/* Is the entry of s at off not to be evicted now? */
bool eng_store_spares(struct eng_pool *p, struct eng_store *s, uint64_t off);
/* The entry at off stands at `to` now (shm_pool_move). */
void eng_store_moved(struct eng_pool *p, uint64_t off, uint64_t to);
/* Bytes of places that a store has above what it is guaranteed: what others' writes may take. */
uint64_t eng_store_spare(const struct eng_store *s);

/* eng_worth.c: to whom memory is worth more. */
void eng_worth_evicted(struct eng_store *s, uint64_t hash); /* it lost a key for want of room */
void eng_worth_written(struct eng_store *s, uint64_t hash); /* it got one that was not there */
void eng_worth_tick(struct eng *e);
/* Is more memory clearly worth more to a than to b?  Clearly: pages do not go to and fro by chance. */
bool eng_worth_more(const struct eng_store *a, const struct eng_store *b);

/* eng_fold.c */
struct eng_reads {
	uint64_t hits, misses, hit_bytes;
};
/* What a client has counted at directory entry i in its first n_blocks blocks, of at most s->n_blocks; it
 * can lie, up to a limit. */
void eng_fold_reads(
	const struct eng_session *s, uint32_t n_blocks, uint32_t i, struct eng_reads *ret);
void eng_fold(struct eng_session *s); /* it ends: all that it has counted goes to the totals */
void eng_fold_adopt(
	struct eng *e); /* what the last engine was about to, behind eng_session_adopt */
/* Directory entry i is about to belong to another store, with counters of 0: what living sessions
 * have counted there does not count. */
void eng_fold_forget(struct eng *e, uint32_t i);

/* eng_hint.c */
/* Gives the policies what the clients' touch rings hold; looks at about n_blocks rings. */
void eng_hint_drain(struct eng *e, uint32_t n_blocks);
/* The item was used. */
void eng_hint_stamp(struct shm_item *it, uint64_t now_ms);

/* eng_held.c: since when views are held */
void eng_held_tick(struct eng *e);
void eng_held_end(struct eng_session *s);

/* eng_recent.c */
void eng_recent_start(struct eng *e); /* the sample before all others */
void eng_recent_tick(struct eng *e);  /* a sample is due */
bool eng_recent_turn(struct eng *e);  /* a part of one; true: there is more */
void eng_recent_again(struct eng *e); /* a session's counts have gone to the totals */
void eng_recent_store_begins(struct eng *e, uint32_t i); /* with counters of 0 */
/* What clients have read of the store at directory entry i, as of the last sample. */
void eng_recent_reads(const struct eng *e, uint32_t i, uint64_t *ret_hits, uint64_t *ret_misses);

/* eng_curve.c */
/* A use of the entry of s at off. */
void eng_curve_use(struct eng_pool *p, struct eng_store *s, enum pol_shadow_use use, uint64_t off,
	uint64_t now_ms);
/* The entry of s at off was deleted, or its time is over. */
void eng_curve_gone(struct eng_pool *p, struct eng_store *s, uint64_t off);
void eng_curve_end(struct eng_store *s); /* its private memory is free */
void eng_curve_tick(struct eng *e);

/* eng_hot.c */
/* Hits that a hint word stands for, whatever it says. */
uint32_t eng_hot_hits(uint64_t word);
/* What each of the `hits` that a drain of block idx tells of stands for, with those that the ring had no room for.  Once
 * for each drain. */
double eng_hot_scale(struct eng_session *s, uint32_t idx, uint64_t hits, uint64_t now_ms);
/* So many hits of the entry of s with that hash were told of, each of which stands for `scale`. */
void eng_hot_hit(
	struct eng_pool *p, struct eng_store *s, uint64_t hash, uint32_t hits, double scale);
void eng_hot_end(struct eng_store *s); /* its private memory is free */
void eng_hot_tick(struct eng *e);

/* eng_purge.c */
bool eng_purge_is_due(const struct eng *e); /* there are void entries */
/* Removes void entries of p: a bounded step.  How many; *ret_more: a further one is worth while. */
uint32_t eng_purge_step(struct eng_pool *p, bool *ret_more);
void eng_purge_turn(struct eng *e);      /* a step of each pool; eng.purging: there is more to do */
bool eng_purge_room(struct eng_pool *p); /* a few, for a write; true: something was freed */
void eng_purge_timed(struct eng *e);     /* a turn with such steps ends */

/* eng_room.c */
/* Attempt `attempt` (0, 1 ..) to make room for an item of `bytes` for store s.
 * True: something was freed or moved, so another try may work. */
bool eng_room_make(struct eng_pool *p, struct eng_store *s, uint64_t bytes, uint32_t attempt);
/* One barrier, one scan, all limbo lists; revokes what is above its cap.  Bytes freed. */
uint64_t eng_room_sweep(struct eng *e);
void eng_room_turn(struct eng *e); /* end of a turn: limbo that got long */
void eng_room_tick(struct eng *e);
/* Removes the entry at off.  True: it was there. */
bool eng_room_remove(struct eng_pool *p, uint64_t off, enum eng_lost how);
/* The chain of a key of s has no free slot; the entry at off is in it.  True: try again. */
bool eng_room_chain(struct eng_pool *p, struct eng_store *s, uint64_t off);

/* Evicts about `want` bytes of places for s (NULL: for no store's write), at most `most` entries, of
 * whichever stores have more than they are guaranteed; last of all of s itself.  Sweeps when it is
 * worth a scan.  why: FULL is GIVEN to who is not s.  Bytes. */
uint64_t eng_room_evict(
	struct eng_pool *p, struct eng_store *s, uint64_t want, uint32_t most, enum eng_lost why);
/* Evicts entries of s alone: about `want` bytes, at most `most`.  How many. */
uint32_t eng_room_evict_own(struct eng_pool *p, struct eng_store *s, uint64_t want, uint32_t most);

/* eng_feed.c */
void eng_feed_opened(struct eng_pool *p); /* what is to be said of a feed that was taken over */
void eng_feed_time(struct eng *e);        /* a turn begins */
/* It ends: who waits is woken if there is something new.  True: some are still to be told. */
bool eng_feed_turn(struct eng *e);
/* c waits, in the name of s, for the head of pool p's feed to be another than pos.  0; 1: it is another;
 * HC_E_NO_FEED, HC_E_REFUSED. */
int eng_feed_watch(struct eng_conn *c, struct eng_session *s, struct eng_pool *p, uint64_t pos);
void eng_feed_unwatch(struct eng_conn *c);        /* the connection ends */
void eng_feed_unwatch_all(struct eng_session *s); /* the session does: so do those connections */
void eng_feed_serve(struct eng *e);               /* a new engine serves: all who wait are woken */
/* Directory entry i is emptied by this function, which is called once, and the feed of its pool says so. */
void eng_feed_drop(struct eng *e, uint32_t i, void (*empty)(struct eng *e, uint32_t i));

/* eng_expiry.c */
/* The time of the entry at off, whose policy's node is `note`, was set. */
void eng_expiry_set(struct eng_pool *p, struct eng_store *s, uint64_t off, uint32_t note);
void eng_expiry_tick(struct eng *e); /* after the touch rings were drained */
bool eng_expiry_turn(struct eng *e); /* a part of the work; true: there is more */

/* eng_log.c: the log of durable stores, from the engine's side. */
/* What the log calls a store: its name's hash, so that it is the same in the next daemon. */
uint64_t eng_log_id(const char *store_name);
/* Before the journal's intent is decided: the staging of a dead engine, if this memory is one that it left.  The
 * intent's record counts if the intent happened.  0 or -errno. */
int eng_log_adopt(struct eng *e);
/* Behind the pools: if the memory is fresh, what is on disk comes into it (eng_recover.c).  0; -errno (logged). */
int eng_log_recover(struct eng *e);
void eng_log_close(struct eng *e);
/* May this mutation of a durable store begin?  0: yes, and the log is in *req; a status of hypercache.h; ENG_LOG_LATER:
 * not now. */
int32_t eng_log_admit(struct eng *e, const struct eng_store *s, const struct wire_request *r,
	struct shm_req *req);
enum { ENG_LOG_LATER = 1000 };
/* The answer to a request was taken from the journal: it waits for its record, or says that there is none on disk. */
void eng_log_replayed(struct eng *e, const struct wire_request *r, const struct shm_result *was,
	struct wire_answer *a);
/* An entry was evicted: nobody waits for it, and if there is no room for it the log does not hear of it (README.md). */
void eng_log_evicted(struct eng *e, const struct eng_store *s, const struct shm_item *it);
void eng_log_dropped(struct eng *e, const struct eng_store *s);       /* the store is gone */
void eng_log_segment(struct eng *e, const struct sup_msg *m, int fd); /* LOG_SEGMENT; fd is ours */
bool eng_log_turn(struct eng *e); /* the end of one: writes begin.  True: there is more to do */
void eng_log_tick(struct eng *e);
bool eng_log_is_idle(const struct eng *e); /* all is durable, or cannot be */

/* eng_lease.c */
int eng_lease_open(
	struct eng *e); /* what the last engine left; sessions are adopted; 0 or -ENOMEM */
void eng_lease_close(struct eng *e);
/* Asks for the lease of a key whose entry has this version (0: there is none).
 * 0: *ret_token; HC_LEASED: *ret_left_ms; HC_E_LEASES. */
int32_t eng_lease_take(struct eng *e, struct eng_session *s, const struct eng_store *store,
	const struct shm_key *key, const struct wire_request *r, uint64_t version,
	uint64_t *ret_token, uint64_t *ret_left_ms);
/* Is the lease with that token the session's, for an entry of that version?  ret_took_ms: since when. */
bool eng_lease_holds(struct eng *e, const struct eng_session *s, const struct shm_key *key,
	uint64_t token, uint64_t version, uint64_t *ret_took_ms);
void eng_lease_over(struct eng *e, const struct shm_key *key); /* if there is one */
void eng_lease_over_store(struct eng *e, uint64_t store_id);
void eng_lease_over_session(struct eng_session *s);
bool eng_lease_turn(struct eng *e); /* wakes; true: there are more */

/* For a part of the pool that is to be empty: a window of pages for `bytes` in a row, whose entries
 * move, or go if nobody's guarantee forbids it.  True: something happened. */
bool eng_room_window(struct eng_pool *p, uint64_t bytes);
/* Free places become free pages: a slab's entries move.  True: something happened. */
bool eng_room_compact(struct eng_pool *p);

/* eng_main.c: a pool that a change of the configuration brings, whose memory has come: opens it, before it
 * is in the directory; id: that it will have there.  0 or -errno, and there is none. */
int eng_pool_begin(struct eng *e, const struct config *next, uint32_t pool_idx, uint64_t id);
/* The change does not come to hold; of a pool that has not begun: nothing. */
void eng_pool_forget(struct eng *e, uint32_t pool_idx);

/* eng_resize.c: a pool's size while it serves (README.md, "Sizes"). */
/* A further region has come (its descriptor is ours from now on), or the first of a pool that is to come. */
void eng_resize_region(struct eng *e, uint32_t pool_idx, uint64_t region_idx, int fd);
void eng_resize_adopted(
	struct eng *e); /* holes of the last engine: their memory goes now at the latest */
/* Can pools become as small as they would be with `next`?  False: readers and the index hold *ret_bytes
 * of *ret_pool, which would not fit. */
bool eng_resize_possible(
	struct eng *e, const struct config *next, uint32_t *ret_pool, uint64_t *ret_bytes);
bool eng_resize_turn(struct eng *e); /* steps towards the wanted size; true: there are more */
void eng_resize_tick(struct eng *e); /* the system's pressure; holes that somebody has touched */

/* eng_slow.c: requests that took long. */
struct eng_marks {
	uint64_t begun_ns, ended_ns;
	uint64_t decoded_ns, done_ns; /* of a large frame; else 0 */
};
void eng_slow_start(struct eng *e);
void eng_slow_room(struct eng *e, uint64_t ns);
void eng_slow_late(struct eng_conn *c, const struct eng_late *late);
void eng_slow_note(struct eng_conn *c, const struct wire_request *r, const struct wire_answer *a,
	const struct eng_marks *m);

/* eng_pressure.c: the thresholds of a pool and the limits of a store (README.md, "Pressure"). */
/* Bytes that entries may still take before eviction begins. */
uint64_t eng_pressure_room(const struct eng_pool *p);
/* Before a write of s takes room for so many bytes: evicts if the pool is full.  from: the key whose
 * entry the change is made from, and which is not to go for it; or NULL.  False: refused. */
bool eng_pressure_write(
	struct eng_pool *p, struct eng_store *s, const struct shm_key *from, uint64_t bytes);
/* Is the pool above pressure_full, without what is about to be free, with what is being written? */
bool eng_pressure_is_full(const struct eng_pool *p);
/* May a new key of s be kept now?  False: it is worth less than what would have to go for it. */
bool eng_pressure_admits(struct eng_pool *p, struct eng_store *s, uint64_t hash);
/* Would an item of so many bytes never fit into s? */
bool eng_pressure_too_large(const struct eng_store *s, uint64_t bytes);
/* After a write of s: back to its own limits.  written: bytes of the place of the new entry. */
void eng_pressure_trim(struct eng_pool *p, struct eng_store *s, uint64_t written);
/* The background's part at the end of a turn.  True: there is more to do. */
bool eng_pressure_turn(struct eng *e);

static inline void eng_count(struct eng *e, enum shm_daemon_counter c, uint64_t n)
{
	shm_count(&e->ctl->counter[c], n);
}
/* What took from since_ns until now is counted.  Now. */
static inline uint64_t eng_timed(struct eng *e, enum shm_histogram h, uint64_t since_ns)
{
	uint64_t now_ns = eng_clock_ns();

	shm_hist_add(&e->ctl->hist[h], now_ns - since_ns);
	return now_ns;
}
static inline void eng_gauge(struct eng *e, enum shm_daemon_counter c, uint64_t v)
{
	shm_store_rlx(&e->ctl->counter[c], v);
}

#endif
