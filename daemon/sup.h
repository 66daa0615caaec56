/* sup.h - the supervisor: one struct that owns everything, and its parts.
 *
 *   sup_main     start, event loop, end          sup_engine   the child and the channel to it
 *   sup_folder   data folder, its lock           sup_session  what the engine gave us to keep
 *   sup_socket   listening sockets               sup_admin    descriptors for tools
 *   sup_host     what the machine has            sup_segment  memfds
 *   sup_control  first bytes of the segments     sup_life     the word that says we live
 *   sup_memory   all segments, made and given up together
 *   sup_notify   what a service manager is told
 *   sup_crash    engines that crash again and again at the same pool
 *   sup_errand   what tools ask of the engine
 *   sup_metrics  the process that answers HTTP
 *   sup_probe    how many reads tracers hear of
 *   sup_upgrade  another binary goes on      sup_take     we are that binary
 *   sup_store    for who starts behind our death         sup_warm     we are that one
 *   sup_state    what it is told             sup_keeper   who says meanwhile that we live
 *   sup_data     what makes the folder the data of one log
 *   sup_log      the log's files: made, handed to the engine
 *   sup_checkpoint  checkpoints: begun, committed, and the log shortened
 *   sup_ask      what tools ask for           sup_change   a new configuration, on its way to the engine
 *
 * One thread, one poll(2), no timer when nothing is due: an idle supervisor does not
 * wake up.  It never parses a client's byte, never maps a pool for longer than its
 * header takes, and never waits for anybody: sockets and channel are non-blocking, and
 * an answer that does not fit waits for the event that says it does.
 *
 * Errors: a function that returns -errno has already logged one sentence that says what
 * to do, unless its comment says that it fills a `why`.
 *
 * Lifetime: process, unless a field says otherwise.  Descriptors are close-on-exec; the
 * engine's child clears that for what its heritage names.
 */
#ifndef HC_DAEMON_SUP_H
#define HC_DAEMON_SUP_H

#include <poll.h>
#include "admin.h"
#include "checkpoint.h"
#include "config_source.h"
#include "heritage.h"
#include "layout/l_journal.h"
#include "sup_segment.h"

enum {
	SUP_STOP_LIMIT_MS = 5000, /* an engine that was told to end has this long */
	SUP_SERVED_MS = 10000, /* an engine that has served this long begins a new row of crashes */
	SUP_BACKOFF_MS = 10,   /* first wait; doubles up to restart_backoff_max */
	SUP_STATUS_FAILED = 1, /* exit status: could not start */
	SUP_STATUS_CRASHES = 3, /* exit status: the engine crashed restart_limit times in a row */
	SUP_FDS_SPARE = 256,    /* descriptors that are not a client's */
	SUP_FDS_CLIENT = 3,     /* socket, memfd, pidfd */
	SUP_POLL_FDS = 10 + ADMIN_CONNECTIONS,
	SUP_NOTIFY_MS = 200,             /* a service manager that does not take a descriptor */
	SUP_EXE_BYTES = 1024,            /* of a binary's path */
	SUP_UPGRADE_TEXT_BYTES = 640,    /* of an answer */
	SUP_UPGRADE_TELL_MS = 60000,     /* a tool waits so long for the end of an upgrade */
	SUP_CHECKPOINT_TELL_MS = 60000,  /* the same, for that of a checkpoint */
	SUP_CHECKPOINT_TEXT_BYTES = 640, /* of an answer */
	SUP_BLAMES_MAX = 16,             /* of config.pool_crash_limit */
	SUP_HANG_BEATS = 4, /* heartbeats that an engine has at least, whatever hang_timeout is */
};

/* A session that the engine gave us, so that its successors find its pins (rule P16). */
struct sup_session {
	uint64_t id; /* 0: the slot is free */
	uint32_t uid, gid;
	uint32_t read_pools, write_pools; /* rights, as the engine gave them: bit i is pool i */
	uint32_t fence;                   /* enum shm_fence, as the engine agreed with the client */
	int32_t pid;
	int memfd, pidfd; /* pidfd -1: none */
};

struct sup_engine {
	enum admin_engine state;
	pid_t pid;   /* 0: none */
	int pidfd;   /* -1: none */
	int channel; /* our end, -1: none or at its end */
	uint32_t n_started;
	uint32_t crashes; /* in a row */
	uint64_t started_ns, ready_ns,
		restart_ns;        /* CLOCK_MONOTONIC; restart_ns: when the next is due */
	uint64_t beat, beat_at_ns; /* the heartbeat that was seen last, and when it was new */
	uint64_t suspect_ns;       /* it is late: if there is none by then it hangs; 0: it is not */
	bool killed;               /* by us */
	bool renewing;             /* told to end so that another one follows */
	bool reply_waits; /* `reply` did not fit into the channel: nothing more is read before it does */
	struct sup_msg reply;
};

/* When engines crashed at work on a pool. */
struct sup_blame {
	uint32_t n;
	uint64_t at_ns[SUP_BLAMES_MAX]; /* CLOCK_MONOTONIC, ascending */
};

/* The image of pools that will start empty, while a child writes it. */
struct sup_image {
	pid_t pid; /* 0: none */
	int pidfd;
	int dir;        /* the folder */
	uint32_t pools; /* bits */
	uint64_t deadline_ns;
	char name[128], part[128]; /* in the folder: finished, and until then */
};

/* A tool that is being answered. */
struct sup_admin {
	int fd;               /* -1: the place is free */
	bool asked;           /* its request has come */
	bool waits;           /* its answer waits for a change (sup_change.c) */
	bool may_change;      /* root, or our own user */
	bool no_pools;        /* is not handed them: hypercache-metrics */
	uint32_t next;        /* position in the list of descriptors */
	uint64_t deadline_ns; /* CLOCK_MONOTONIC */
	uint64_t
		probe_every; /* it wants to hear of one read of so many; 0: of no more than others */
};

/* A bound socket, and what lies at its path. */
struct sup_socket {
	int fd; /* -1: none */
	char path[ADMIN_PATH_BYTES];
	uint64_t dev, ino; /* of the path when we bound it: only that is removed */
};

/* The process that answers HTTP, and where. */
struct sup_metrics {
	pid_t pid;       /* 0: none */
	int pidfd;       /* -1: none */
	int channel;     /* our end, -1: none or at its end */
	bool stopped;    /* by us: the next one, if any, is started when it is gone */
	bool said;       /* that the port is taken */
	uint32_t deaths; /* in a row */
	uint64_t started_ns,
		restart_ns; /* CLOCK_MONOTONIC; restart_ns: when a start is due, 0: none is */
	struct sup_socket listen, next; /* fd -1: none; next: of a change that is on its way */
	char text[CONFIG_TEXT_BYTES];   /* metrics_listen that `listen` belongs to */
};

/* A change of the configuration: from whoever asked for it to the engine, one at a time. */
enum sup_change_state {
	SUP_CHANGE_NONE,
	SUP_CHANGE_WAITS, /* for an engine that serves */
	SUP_CHANGE_SENT,  /* to it; a death now: nothing was changed */
	SUP_CHANGE_TAKEN, /* by it; a death now: its successor makes it whole */
};

struct sup_change {
	enum sup_change_state state;
	uint64_t number;  /* counts changes */
	bool force;       /* stores that hold entries may be dropped */
	bool has_read;    /* read and places come with it: it is a reload */
	uint64_t pool_id; /* of the first pool that comes with it; those of the others follow */
	struct config next, read;
	struct config_places places;
	struct sup_admin *asker; /* NULL: a signal, or it has left */
	char *lines;             /* what the asker is told; heap */
	size_t lines_bytes;
};

/* What a tool asks of the engine: one at a time. */
struct sup_errand {
	uint64_t number;
	struct sup_admin *asker; /* NULL: none is under way */
};

/* What a binary says of itself that could go on where this one is; its release follows. */
#define SUP_UPGRADE_GOOD "hypercached-upgrade 1 "

/* Another binary is to go on where this one is (sup_upgrade.c). */
enum sup_upgrade_state {
	SUP_UPGRADE_NONE,
	SUP_UPGRADE_TRIAL,  /* a child runs it, to see whether it could */
	SUP_UPGRADE_ENDING, /* the engine has been told to end */
	SUP_UPGRADE_TAKEN,  /* we are that binary, and no engine of ours has served yet */
};

struct sup_upgrade {
	enum sup_upgrade_state state;
	struct sup_admin *asker;  /* NULL: a signal, or it has left */
	int exe_fd;               /* TRIAL, ENDING: the binary; else -1 */
	char path[SUP_EXE_BYTES]; /* of it */
	pid_t pid;                /* TRIAL: the child */
	int pidfd, said_fd;       /* of it; what it says; -1: none */
	bool killed;              /* by us */
	uint64_t deadline_ns;
	int back_fd;   /* TAKEN: the binary that was there before; -1: none */
	char from[32]; /* TAKEN: its release */
	char failed
		[SUP_UPGRADE_TEXT_BYTES]; /* TAKEN: not an upgrade, but its end: why; "": it is one */
};

/* The folder as the place of a log. */
struct sup_data {
	int dir, wal;    /* the folder, and the log's in it; -1: there are no durable stores */
	uint8_t log[16]; /* which log it is */
};

/* Segments of the log: a child makes one at a time. */
struct sup_log {
	pid_t pid; /* 0: none */
	int pidfd;
	uint64_t number;   /* that it makes */
	uint64_t ready;    /* is made, and nobody has it yet; 0: none */
	uint64_t next;     /* number of the next one */
	uint32_t wanted;   /* by the engine */
	uint64_t retry_ns; /* after a failure, not before */
	int told;          /* -errno that the log of this process has told of; 0: none */
};

/* A checkpoint of durable stores (sup_checkpoint.c). */
enum sup_checkpoint_state {
	SUP_CHECKPOINT_NONE,
	SUP_CHECKPOINT_WRITING,    /* the process is at work */
	SUP_CHECKPOINT_AWAITS,     /* it is whole; not all of the log up to it is on disk */
	SUP_CHECKPOINT_COMMITTING, /* a child names it, and shortens the log */
};

struct sup_checkpoint {
	enum sup_checkpoint_state state;
	struct sup_admin *asker; /* NULL: nobody, or it has left */
	pid_t pid;               /* WRITING, COMMITTING: the child; else 0 */
	int pidfd;               /* of it; -1: none */
	int result_fd, said_fd;  /* what it answers; its standard error; -1: none */
	struct checkpoint_result result;
	uint64_t bytes;                  /* of segments that the engine got since the last one */
	uint64_t lsn;                    /* log_lsn when the last one began */
	uint64_t began_bytes, began_lsn; /* the same, when this one began */
	uint64_t began_id;               /* next_id then */
	bool spoilt;                     /* WRITING: its engine has ended */
	uint64_t all_lsn;                /* AWAITS: to be on disk */
	uint32_t pause_ms;               /* after the last failure; 0: there was none */
	bool told;                       /* the log says that none works */
	uint64_t look_ns, deadline_ns;   /* AWAITS: when to look next, when to give up */
	uint64_t last_ns;                /* when there was one, or nothing for one */
	uint64_t retry_ns;               /* none of itself before */
};

/* The service manager's descriptor store (sup_store.c). */
struct sup_store {
	bool on;
	struct sup_segment book_seg;
	struct sup_book *book; /* mapped; NULL: none */
	uint64_t book_bytes;
	uint16_t has[SHM_POOLS_MAX]; /* bit r: region r is there */
};

/* A descriptor of the service manager's. */
struct sup_given {
	char name[32];
	int fd; /* -1: taken */
};

struct sup {
	struct config config;               /* that holds */
	const struct config_source *source; /* what it is read from */
	struct config read;                 /* as it was read last: what places belongs to */
	struct config_places places;
	struct sup_change change;
	struct sup_errand errand;
	struct sup_upgrade upgrade;
	struct sup_store store;
	struct sup_given *given; /* heap */
	uint32_t n_given;
	bool reload_due;                       /* the file is read when an engine serves */
	uint64_t watchdog_ns, watchdog_due_ns; /* how often a service manager is told; 0: never */
	char exe[SUP_EXE_BYTES];               /* the binary's path, as it was started */
	uint64_t next_id;                      /* of the next store (rule P10) */
	int folder_lock;                       /* descriptor that holds the data folder's lock */
	int signals;                           /* signalfd */
	struct sup_socket listen, admin_listen;
	struct sup_segment control, journal;
	struct sup_segment region[SHM_POOLS_MAX][SHM_REGIONS_MAX];
	struct sup_segment grown[SHM_POOLS_MAX]; /* regions, of a pool that is there or is not, to
						  * come with a change that is on its way */
	struct shm_control *ctl; /* mapping of the control segment; NULL: there is no memory now */
	uint64_t ctl_bytes;
	struct shm_control *born; /* heap: what of it never changes, for sup_memory_mend() */
	struct shm_journal *jrn;  /* mapping of the journal's header */
	uint64_t jrn_bytes;
	struct sup_blame blame[SHM_POOLS_MAX];
	struct sup_image image;
	enum sup_recover recover; /* what the operator has chosen (main.c) */
	struct sup_data data;
	struct sup_log log;
	struct sup_checkpoint checkpoint;
	int lock_fd;     /* heritage.lock_fd */
	int panic_fd;    /* heritage.panic_fd */
	int pressure_fd; /* heritage.pressure_fd */
	struct sup_engine engine;
	struct sup_metrics metrics;
	struct sup_session *session; /* config.max_clients slots */
	struct sup_admin admin[ADMIN_CONNECTIONS];
	uint64_t admin_pause_ns; /* no tool is accepted before: there was no descriptor for it */
	uint32_t denied_uid;     /* who was denied last, +1: the log says it once */
	uint64_t stop_ns; /* when the engine is killed if it has not ended; 0: we do not stop */
	bool said_ready, over;
	int status; /* exit status once `over` */
};

/* sup_main.c */
void sup_init(struct sup *sup);             /* nothing is open, nothing is owned */
int sup_signals_open(struct sup *sup);      /* from here on signals are events; 0 or -errno */
void sup_exe_read(char ret[SUP_EXE_BYTES]); /* the path of the binary that runs; "": nobody knows */
/* Serves until the end if `started`, and gives everything back; the exit status. */
int sup_serve(struct sup *sup, bool started);

/* sup_folder.c: creates data_dir (0700, with its parents) and takes its lock.  Descriptor, or -errno:
 * -EBUSY another daemon has it. */
int sup_folder_lock(const char *dir);
/* The folder that `path` is in. */
void sup_folder_of(const char *path, char ret_dir[CONFIG_TEXT_BYTES]);
/* Creates the folder that a socket is to lie in, if there is none, and checks that nobody but us and
 * root may change what is in it (or that it is sticky).  0 or -errno. */
int sup_folder_socket(const char *socket_path);
/* The folder of images, created if there is none.  Its descriptor, or -errno. */
int sup_folder_images(const char *dir);

/* sup_data.c: Has any store of the configuration a log? */
bool sup_data_wanted(const struct config *c);
/* Whose data is in the folder, if there are durable stores: refused if it is not surely ours.  0 or -errno. */
int sup_data_open(struct sup *sup);
void sup_data_close(struct sup *sup); /* a good end is written down */

/* sup_log.c */
int sup_log_open(struct sup *sup); /* behind sup_data_open; 0 or -errno */
void sup_log_close(struct sup *sup);
int sup_log_on_message(struct sup *sup, const struct sup_msg *m); /* LOG_WANT: 0 or -EBADMSG */
void sup_log_on_child(struct sup *sup);                           /* its pidfd is readable */
void sup_log_on_due(struct sup *sup, uint64_t now_ns);
uint64_t sup_log_due(const struct sup *sup); /* UINT64_MAX: never */
void sup_log_on_death(struct sup *sup);      /* of the engine */

/* sup_checkpoint.c.  What fails is logged, and tried again. */
void sup_checkpoint_init(struct sup *sup);
void sup_checkpoint_open(struct sup *sup); /* behind sup_log_open */
void sup_checkpoint_close(struct sup *sup);
/* A tool wants one; it waits for the answer. */
void sup_checkpoint_begin(struct sup *sup, struct sup_admin *a);
void sup_checkpoint_forget(struct sup *sup, const struct sup_admin *a); /* it has left */
void sup_checkpoint_on_segment(struct sup *sup);                        /* the engine got one */
void sup_checkpoint_on_child(struct sup *sup);                          /* its pidfd is readable */
void sup_checkpoint_on_due(struct sup *sup, uint64_t now_ns);
uint64_t sup_checkpoint_due(const struct sup *sup); /* UINT64_MAX: never */
void sup_checkpoint_on_death(struct sup *sup);      /* of the engine */

/* sup_socket.c: binds and listens.  type: SOCK_STREAM or SOCK_SEQPACKET; mode: of the path.  What a
 * dead daemon has left at the path is removed; a living one's is not: -EADDRINUSE. */
int sup_socket_open(struct sup_socket *s, const char *path, int type, unsigned mode);
void sup_socket_close(struct sup_socket *s);
/* sup_main.c: of the clients' socket.  Does the configuration let anybody in but root and ourselves?  Who
 * exactly, the engine asks. */
unsigned sup_socket_mode(const struct config *c);

/* sup_memory.c: makes and formats all segments.  0 or -errno; what was made stays for _close. */
int sup_memory_make(struct sup *sup);
/* Pools of other sizes, and pools that come, while they serve (sizes are rounded up as at the start).
 *   prepare  looks whether all pools of `next` can have their sizes, and gets the memory of further
 *            regions, and of pools that are new.  0, or with one sentence in why, and nothing changed: -EBUSY (readers and index
 *            hold more than that), -ENOSPC (no more regions, or address space that clients have set
 *            aside), -ENOMEM (the machine has no more), -EPERM (hardening: strict), -errno
 *   commit   what was prepared holds: regions are in the directory, and on their way to the engine
 *            (clients get them from it when they need them); a pool that is too large is made smaller by the
 *            engine in steps, evicting what it must but nothing below a store's guarantee.
 *            The pool's counter limit_bytes says how far it is
 *   forget   it does not */
int sup_memory_prepare(struct sup *sup, const struct config *next, char why[SUP_WHY_BYTES]);
void sup_memory_commit(struct sup *sup, const struct config *next);
/* Sends the engine the memory of pools that come with the change: before the change.  0 or -errno. */
int sup_memory_send(struct sup *sup);
void sup_memory_forget(struct sup *sup);
/* Says that so much of a pool is held, and what to do. */
void sup_memory_held(uint64_t bytes, char why[SUP_WHY_BYTES]);
/* Can the next engine not have them any more (hardening: strict)? */
bool sup_memory_is_closed(const struct sup *sup);
/* Tells whoever maps them that they are dead, and gives them and all sessions up. */
void sup_memory_abandon(struct sup *sup);
void sup_memory_close(struct sup *sup);
/* Behind an engine's death: what the supervisor wrote into the segments and nobody changes is made as it was, loudly,
 * if a dying engine scribbled over it. */
void sup_memory_mend(struct sup *sup);
/* sup_take.c: maps what another supervisor made, which the descriptors say, and compares; nothing is changed.  0 or -errno. */
int sup_memory_take(struct sup *sup, uint64_t daemon_id);
/* They are ours: the directory says so, and the word of life. */
void sup_memory_own(struct sup *sup);
/* Headers get this build's minor number. */
void sup_memory_restamp(struct sup *sup);
/* The directory names one more region. */
void sup_memory_born(struct sup *sup, uint32_t pool_idx, uint32_t region_idx);

/* sup_engine.c: starts an engine on what we hold.  0 or -errno. */
int sup_engine_start(struct sup *sup);
void sup_engine_on_channel(struct sup *sup, short revents);
void sup_engine_on_death(struct sup *sup); /* its pidfd is readable */
void sup_engine_on_due(struct sup *sup, uint64_t now_ns);
/* Begins the end: tells the engine to finish. */
void sup_engine_stop(struct sup *sup);
void sup_engine_kill(struct sup *sup, const char *why);
/* Tells it to end in order; another one follows. */
void sup_engine_quit(struct sup *sup);
/* When a look is due whether the engine is alive; UINT64_MAX: never. */
uint64_t sup_engine_watch_due(const struct sup *sup);

/* sup_crash.c: counts a death, with what the engine was at work on.  Bits of the pools that have met their
 * limit by it: they are to start empty. */
uint32_t sup_crash_count(struct sup *sup, bool of_itself, uint64_t now_ns);
/* They do: at once, or when an image is written (sup->image.pid: until then no engine is started). */
void sup_crash_begin(struct sup *sup, uint32_t pools, uint64_t now_ns);
void sup_crash_empty(struct sup *sup, uint32_t pools);
void sup_crash_on_image(struct sup *sup); /* its pidfd is readable */
void sup_crash_on_due(struct sup *sup, uint64_t now_ns);
void sup_crash_close(struct sup *sup);

/* sup_metrics.c: hypercache-metrics, if the configuration has metrics_listen.  What goes wrong is logged, and the
 * cache goes on without it. */
void sup_metrics_begin(struct sup *sup);
void sup_metrics_on_channel(struct sup *sup);
void sup_metrics_on_death(struct sup *sup); /* its pidfd is readable */
void sup_metrics_on_due(struct sup *sup, uint64_t now_ns);
uint64_t sup_metrics_due(const struct sup *sup); /* UINT64_MAX: never */
/* Another metrics_listen, as sup_memory_prepare() and the two behind it.  prepare: 0 or -errno, with why. */
int sup_metrics_prepare(struct sup *sup, const struct config *next, char why[SUP_WHY_BYTES]);
void sup_metrics_commit(struct sup *sup);
void sup_metrics_forget(struct sup *sup);
void sup_metrics_end(struct sup *sup); /* the process; what listens stays */
void sup_metrics_close(struct sup *sup);

/* sup_session.c: 0, or -EINVAL: the message makes no sense (nothing was kept; fds are closed). */
int sup_session_put(struct sup *sup, const struct sup_msg *m, int *fds, uint32_t n_fds);
int sup_session_drop(struct sup *sup, const struct sup_msg *m);
int sup_session_rights(struct sup *sup, const struct sup_msg *m);
void sup_session_close_all(struct sup *sup);
uint32_t sup_session_count(const struct sup *sup);

/* sup_notify.c: one of sd_notify(3)'s states, to who started us, if he wants to know.  What goes wrong
 * is logged. */
void sup_notify(const char *state);
void sup_notify_reloading(void); /* until READY=1 */
/* The manager is to keep fd under this name, beyond our death.  0 or -errno; waits SUP_NOTIFY_MS at most. */
int sup_notify_store(const char *name, int fd);
void sup_notify_forget(const char *name); /* nothing of this name any more */
void sup_watchdog_begin(struct sup *sup);
void sup_watchdog_on_due(struct sup *sup, uint64_t now_ns);

/* sup_store.c: what the service manager keeps for who starts behind our death.
 *   limit    is there a store, and for how many clients?  Lowers max_clients to that, while there is no memory
 *   begin    stores all; has_all: it is there already
 *   sync     regions that are new; the book
 *   session  it is kept: stored before its client gets it; over: it is not any more
 *   end      nothing is to be gone on with */
void sup_store_limit(struct sup *sup);
void sup_store_begin(struct sup *sup, bool has_all);
void sup_store_sync(struct sup *sup);
void sup_store_write(struct sup *sup);
void sup_store_session(struct sup *sup, uint32_t slot);
void sup_store_session_over(struct sup *sup, uint32_t slot, uint64_t id);
void sup_store_end(struct sup *sup);
int sup_store_book_open(struct sup *sup, int fd); /* 0 or -errno: it is no book */

/* sup_warm.c: what the service manager gives at the start; once. */
void sup_given_read(struct sup *sup);
/* A socket of this type that listens, and its path.  Descriptor, or -1: there is none. */
int sup_given_socket(struct sup *sup, int type, char ret_path[ADMIN_PATH_BYTES]);
void sup_given_close(struct sup *sup); /* what nobody has taken is given back */
bool sup_warm(struct sup *sup);        /* true: we go on where a supervisor died */

/* sup_ask.c: obeys a request; the answer is sent at once, or `a` waits for sup_change.c.
 * fd: a descriptor that came with it, or -1; stays the caller's. */
void sup_ask(struct sup *sup, struct sup_admin *a, const struct admin_request *rq, int fd);
void sup_ask_reload(struct sup *sup); /* SIGHUP: the answer goes to the log */

/* sup_errand.c: the answer is sent at once, or `a` waits for the engine. */
void sup_errand_begin(struct sup *sup, struct sup_admin *a, const struct admin_request *rq);
int sup_errand_on_message(struct sup *sup, const struct sup_msg *m); /* 0, or -EBADMSG */
void sup_errand_on_death(struct sup *sup);
void sup_errand_on_late(struct sup *sup); /* the asker's time is over: it is answered */
void sup_errand_forget(struct sup *sup, const struct sup_admin *a);

/* sup_keeper.c: a child that holds the word of life for us.  Its pidfd, close-on-exec, or -errno. */
int sup_keeper_start(const struct sup *sup);
void sup_keeper_end(int pidfd); /* when somebody else has the word; -1: there is none */

/* sup_upgrade.c: another binary; path "": that at the place of the one that runs.  a NULL: a signal. */
void sup_upgrade_begin(struct sup *sup, struct sup_admin *a, const char *path);
void sup_upgrade_on_trial(struct sup *sup); /* the pidfd is readable */
void sup_upgrade_on_due(struct sup *sup, uint64_t now_ns);
uint64_t sup_upgrade_due(const struct sup *sup); /* UINT64_MAX: never */
void sup_upgrade_on_ready(struct sup *sup);
/* An engine has ended.  True: that was waited for, or there is a way back: no more is to be done. */
bool sup_upgrade_on_death(struct sup *sup, bool of_itself);
/* No engine runs: the other binary goes on.  back: why it is one that was there before; NULL: it is not.  Returns
 * only if it cannot be executed: that has been said. */
void sup_upgrade_exec(struct sup *sup, const char *back);
void sup_upgrade_forget(struct sup *sup, const struct sup_admin *a); /* the asker has left */
void sup_upgrade_close(struct sup *sup);                             /* the daemon ends */
/* Answers, tells the log, and ends the upgrade. */
void sup_upgrade_end(struct sup *sup, enum admin_refusal refusal, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* sup_change.c: takes change->next, force, and what else was filled in; asker NULL: a signal.
 * Ownership of lines goes to it. */
void sup_change_begin(struct sup *sup);
void sup_change_go(struct sup *sup); /* an engine has begun to serve, or is gone */
/* A CONFIG_ message of the engine.  0, or -EBADMSG: it makes no sense. */
int sup_change_on_message(struct sup *sup, const struct sup_msg *m);
void sup_change_on_death(struct sup *sup);
void sup_change_forget(struct sup *sup, const struct sup_admin *a); /* the asker has left */
/* Answers, tells the log, and ends the change; fmt NULL: it was done. */
void sup_change_end(struct sup *sup, enum admin_refusal refusal, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* sup_probe.c: obeys PROBE; the tool's connection stays, and what it wants holds as long. */
void sup_probe_begin(struct sup *sup, struct sup_admin *a, const struct admin_request *rq);
void sup_probe_settle(struct sup *sup); /* a tool has gone, or the memory is new */

/* sup_admin.c */
/* The one answer to a request; then the connection is closed, but for one of PROBE that was not refused.
 * lines: what the memfd holds. */
void sup_admin_reply(struct sup *sup, struct sup_admin *a, enum admin_refusal refusal,
	const char *lines, size_t n);
void sup_admin_accept(struct sup *sup, uint64_t now_ns);
/* A connection of hypercache-metrics, which is ours from now on.  0; -EAGAIN: all places are taken. */
int sup_admin_adopt(struct sup *sup, int fd, uint64_t now_ns);
void sup_admin_on_due(struct sup *sup, struct sup_admin *a); /* its time is over */
void sup_admin_on_event(struct sup *sup, struct sup_admin *a, short revents);
short sup_admin_events(const struct sup_admin *a); /* what to poll for */
void sup_admin_close(struct sup_admin *a);

#endif
