/* config_table.h - every key of the configuration, once.
 *
 * From CONFIG_KEYS come the fields and defaults of struct config (config.h), the YAML reader
 * (config_yaml.c), the text of --help-config and the manual page (config_doc.c).  To add a key, add
 * its line; nothing else in the daemon's configuration needs to know.
 *
 *   SCOPE(name, type, unit, min, max, default, when, meaning)
 *
 *   SCOPE    ROOT    a key at the top of the file
 *            POOL    a key of one pool:   pools: NAME: key
 *            STORE   a key of one store:  stores: NAME: key
 *   name     the word in the file; the field of the same name, with the unit of its type behind it
 *   type     decides the field, and how min and max are meant:
 *              flag      bool NAME
 *              u32       uint32_t NAME           number
 *              bytes     uint64_t NAME_bytes     number with B KiB MiB GiB TiB
 *              duration  uint64_t NAME_ns        number with ns us ms s m h d
 *              fraction  uint32_t NAME_ppm       0.85 or 85%, kept in millionths
 *              enum      enum config_NAME NAME   min is CONFIG_WORDS(NAME), max is empty
 *              path      char NAME[]             min and max are lengths in bytes
 *              string    char NAME[]             min and max are lengths in bytes
 *              name      char NAME[]             the name of a pool or store
 *              uids      struct config_uids NAME max is the number of user ids
 *              rights    struct config_rights NAME   max is the number of users and groups
 *              policy    char NAME[]              the name of an eviction policy, as pol.h has them
 *              params    struct config_params NAME   what the store's policy takes, a mapping
 *   default  as it would stand in the file.  "auto" (u32, bytes, duration, path, name, rights) means that config_resolve()
 *            works it out; only a key whose default is auto accepts the word.
 *   when     LIVE: a reload changes it in the running daemon.  START: the daemon has to be started anew;
 *            a reload that would change it is refused, by its name
 *   meaning  whole sentences, of plain words: they go to a terminal and into a manual page.
 */
#ifndef HC_DAEMON_CONFIG_TABLE_H
#define HC_DAEMON_CONFIG_TABLE_H

/* clang-format off */

/* The words of each enum key, X(constant, word), in the order of the constants. */
#define CONFIG_CHOICES_membarrier(X)     X(CONFIG_MEMBARRIER_AUTO, "auto") X(CONFIG_MEMBARRIER_OFF, "off")
#define CONFIG_CHOICES_io(X)             X(CONFIG_IO_AUTO, "auto") X(CONFIG_IO_URING, "io_uring") \
                                         X(CONFIG_IO_URING_PLAIN, "io_uring-plain") X(CONFIG_IO_EPOLL, "epoll")
#define CONFIG_CHOICES_peer_pidfd(X)     X(CONFIG_PEER_PIDFD_AUTO, "auto") X(CONFIG_PEER_PIDFD_OFF, "off")
#define CONFIG_CHOICES_log_level(X)      X(CONFIG_LOG_ERROR, "error") X(CONFIG_LOG_WARN, "warn") \
                                         X(CONFIG_LOG_INFO, "info") X(CONFIG_LOG_DEBUG, "debug")
#define CONFIG_CHOICES_huge_pages(X)     X(CONFIG_HUGE_TRY, "try") X(CONFIG_HUGE_ON, "on") X(CONFIG_HUGE_OFF, "off")
#define CONFIG_CHOICES_huge_page_size(X) X(CONFIG_HUGE_2MIB, "2MiB") X(CONFIG_HUGE_1GIB, "1GiB")
#define CONFIG_CHOICES_type(X)           X(CONFIG_TYPE_GENERAL, "general") X(CONFIG_TYPE_SESSION, "session") \
                                         X(CONFIG_TYPE_TTL, "ttl")
#define CONFIG_CHOICES_hardening(X)      X(CONFIG_HARDENING_NONE, "none") X(CONFIG_HARDENING_STRICT, "strict")
#define CONFIG_CHOICES_durability(X)     X(CONFIG_DURABILITY_NONE, "none") X(CONFIG_DURABILITY_ASYNC, "async") \
                                         X(CONFIG_DURABILITY_SYNC, "sync")
#define CONFIG_CHOICES_lockdown(X)       X(CONFIG_LOCKDOWN_AUTO, "auto") X(CONFIG_LOCKDOWN_OFF, "off")

#define CONFIG_WORD_(constant, word)     word "|"
#define CONFIG_WORDS(name)               CONFIG_CHOICES_##name(CONFIG_WORD_)

#define CONFIG_KEYS(ROOT, POOL, STORE) \
	ROOT(socket, path, "", "2", "107", "auto", START, \
		"The Unix socket that clients connect to. " \
		"auto: /run/hypercache/hypercache.sock for root; for others hypercache/hypercache.sock in " \
		"XDG_RUNTIME_DIR, or where that is not set /tmp/hypercache-UID/hypercache.sock.") \
	ROOT(admin_socket, path, "", "2", "107", "auto", START, \
		"The Unix socket for tools, which works even while the engine hangs. " \
		"auto: admin.sock beside the socket for clients.") \
	ROOT(admin_uids, uids, "", "", "16", "none", LIVE, \
		"Users, besides root and the user of the daemon, who may use the admin socket and so " \
		"read everything. User ids, as a list or with commas between them.") \
	ROOT(data_dir, path, "", "2", "255", "auto", START, \
		"The folder of the lock, and of the log of durable stores: one daemon at a time " \
		"uses it. " \
		"auto: /var/lib/hypercache for root; for others hypercache in XDG_STATE_HOME, or in " \
		".local/state of the home folder.") \
	ROOT(max_clients, u32, "clients", "1", "4096", "256", START, \
		"Clients connected at one time; one more is refused with a named error.") \
	ROOT(max_clients_per_user, u32, "clients", "1", "4096", "auto", LIVE, \
		"Of these, clients of one user; one more is refused with a named error. " \
		"auto: max_clients less an eighth, so that nobody keeps all others out.") \
	ROOT(threads_per_client, u32, "threads", "1", "64", "16", START, \
		"Threads of one client that may read at one time: each has pins and a touch ring of its own.") \
	ROOT(max_inflight, u32, "requests", "1", "64", "64", START, \
		"Requests of one connection that may wait for their answer at one time.") \
	ROOT(max_frame, bytes, "", "64KiB", "1GiB", "65MiB", START, \
		"The longest frame that a client may send, a key and its value included.") \
	ROOT(max_unread, bytes, "", "64KiB", "1GiB", "4MiB", LIVE, \
		"Answers that one connection may leave unread: above it no more of its requests are read.") \
	ROOT(hello_timeout, duration, "", "100ms", "60s", "5s", LIVE, \
		"How long a new connection has to begin a session, before it is closed.") \
	ROOT(stall_timeout, duration, "", "100ms", "1h", "30s", LIVE, \
		"How long a connection may stop in the middle of a request, or not take an answer, " \
		"before it is closed.") \
	ROOT(hardening, enum, "", CONFIG_WORDS(hardening), "", "none", START, \
		"strict: the memory is sealed against new writers, of the daemon's own user too, once the " \
		"engine has it. The price: an engine that crashes costs all entries, and clients have to " \
		"open new sessions. none: the next engine takes the memory over, and nothing is lost.") \
	ROOT(lockdown, enum, "", CONFIG_WORDS(lockdown), "", "auto", START, \
		"auto: the engine gives up every right that it does not need, as far as the kernel and the " \
		"build offer it: capabilities, new privileges, being debugged or dumped, most system calls. " \
		"off: only capabilities and new privileges, for debuggers and profilers.") \
	ROOT(heartbeat, duration, "", "100ms", "10s", "500ms", LIVE, \
		"How often the engine says in shared memory that it is alive. " \
		"Clients tell from it that an engine hangs; nobody is declared dead by it.") \
	ROOT(membarrier, enum, "", CONFIG_WORDS(membarrier), "", "auto", START, \
		"auto: readers use a compiler barrier where the kernel offers membarrier, else a full fence. " \
		"off: all readers use a full fence, at 7 to 15 ns a read.") \
	ROOT(io, enum, "", CONFIG_WORDS(io), "", "auto", START, \
		"How the engine waits for sockets. auto: io_uring if it may be used here, else epoll. " \
		"io_uring: that, or the engine does not start. io_uring-plain: without the deferred " \
		"completions of kernel 6.1. epoll: epoll and plain system calls.") \
	ROOT(peer_pidfd, enum, "", CONFIG_WORDS(peer_pidfd), "", "auto", START, \
		"auto: the engine asks the socket for a descriptor of the client's process, where the kernel has " \
		"SO_PEERPIDFD, 6.5. off: it looks the process up by its number, as on older kernels; a client " \
		"of another container has none.") \
	ROOT(limbo_cap, bytes, "", "64KiB", "512GiB", "auto", LIVE, \
		"Bytes of replaced or deleted items of one pool that the pins of one client may keep from " \
		"being reused; above it the pins are revoked, loudly. auto: an eighth of the pool, or what the " \
		"largest value that it accepts takes.") \
	ROOT(memory_pressure, string, "", "2", "255", "none", START, \
		"A file that says how short of memory the system is: /proc/pressure/memory, or memory.pressure of " \
		"a control group, or any that holds a number of per cent. none: pools do not care. It is opened " \
		"once, so write into it, and do not replace it.") \
	ROOT(memory_pressure_at, fraction, "", "0", "1", "0.1", LIVE, \
		"From this value of the file on (avg10 of the kernel) pools give memory back, a sixteenth at a " \
		"time, down to what their stores are guaranteed; below half of it they get it again, slowly.") \
	ROOT(policy_modules, string, "", "2", "255", "none", START, \
		"Shared objects with eviction policies of your own (hypercache_policy.h), as /PATH/NAME.so with commas " \
		"between, at most 4; stores then say policy: NAME. They run inside the engine, so they have to belong " \
		"to root, or to the user of the daemon, and nobody else may write them; they are loaded " \
		"whenever an engine starts, so they have to stay. none: what is built in.") \
	ROOT(restart_backoff_max, duration, "", "100ms", "60s", "5s", LIVE, \
		"The longest wait before an engine that crashed again is started again; the waits grow up to it.") \
	ROOT(restart_limit, u32, "crashes", "1", "1000", "10", LIVE, \
		"Crashes of the engine in a row after which the supervisor gives up and ends.") \
	ROOT(hang_timeout, duration, "", "0", "1h", "10s", LIVE, \
		"How long the engine may give no sign of life (see heartbeat; four of them at least) before it is " \
		"killed, and the next one takes its memory over. 0: never, as for work with a debugger.") \
	ROOT(pool_crash_limit, u32, "crashes", "1", "16", "3", LIVE, \
		"Crashes of the engine at work on the same pool, within pool_crash_time, after which that pool starts " \
		"empty: something in it may be what kills engines. Kills from outside do not count.") \
	ROOT(pool_crash_time, duration, "", "1s", "7d", "10m", LIVE, \
		"See pool_crash_limit.") \
	ROOT(crash_dir, path, "", "2", "255", "auto", START, \
		"The folder for images of pools that had to start empty; `hypercache fsck FILE` looks at one. They hold " \
		"what the pool held. auto: images in data_dir.") \
	ROOT(crash_images, u32, "images", "0", "1000", "2", LIVE, \
		"How many of them are kept; the oldest goes for a new one. 0: none.") \
	ROOT(crash_images_size, bytes, "", "1MiB", "16TiB", "4GiB", LIVE, \
		"What they may take together. An image that alone may need more is not kept.") \
	ROOT(wal_segment, bytes, "", "1MiB", "1GiB", "64MiB", START, \
		"Size of one file of the log of durable stores. Two of them are kept ready beside the one that is written.") \
	ROOT(wal_staging, bytes, "", "1MiB", "1GiB", "8MiB", START, \
		"Memory where changes of durable stores wait for the disk. An entry of such a store may be as large as a " \
		"quarter of it, less 128KiB. When it is full, who writes to such a store waits.") \
	ROOT(checkpoint_wal, bytes, "", "1MiB", "1TiB", "1GiB", LIVE, \
		"When the log of durable stores has grown by so much, a checkpoint of them is written beside it, and the part of the " \
		"log that two checkpoints make needless is removed. Less: a faster start, and more bytes written.") \
	ROOT(checkpoint_every, duration, "", "0", "7d", "1h", LIVE, \
		"A checkpoint is also written after this time, if there was a change. 0: never for that reason.") \
	ROOT(log_level, enum, "", CONFIG_WORDS(log_level), "", "info", LIVE, \
		"The least important kind of message that is written to the log.") \
	ROOT(slowlog_threshold, duration, "", "0", "1h", "10ms", LIVE, \
		"Requests that take the engine longer, with the time that they wait in it, come into the slow log: " \
		"`hypercache slowlog`. It keeps the last 256 of them, with the first 48 bytes of their keys. 0: none does.") \
	ROOT(metrics_listen, string, "", "2", "107", "none", LIVE, \
		"Where metrics and health are answered over HTTP, by a process of its own that sees no keys or values: " \
		"127.0.0.1:PORT, [::1]:PORT, or the path of a Unix socket; any user of this host may ask there. There " \
		"are /metrics (Prometheus and OpenMetrics), /healthz, /readyz and /stats.json. A port that is taken " \
		"is tried again; the cache does not wait for it. none: nowhere.") \
	POOL(size, bytes, "", "4MiB", "1TiB", "64MiB", LIVE, \
		"Memory of the pool, allocated in full at once; items, index and page table live in it. A reload " \
		"makes it larger, up to four times what it was at the start, or gives memory back in steps.") \
	POOL(huge_pages, enum, "", CONFIG_WORDS(huge_pages), "", "try", START, \
		"try: huge pages if there are any, else transparent huge pages, else base pages, and say which. " \
		"on: huge pages, or the daemon does not start. off: base pages.") \
	POOL(huge_page_size, enum, "", CONFIG_WORDS(huge_page_size), "", "2MiB", START, \
		"The huge pages that are asked for.") \
	POOL(max_value, bytes, "", "1B", "256GiB", "auto", LIVE, \
		"The largest value that the pool accepts; at most a quarter of the pool, and no more than a " \
		"frame can carry (max_frame less 1MiB). auto: the smaller of these two.") \
	POOL(read, rights, "", "", "16", "auto", START, \
		"Who may read the pool, that is every store in it, and is handed its memory: a list of " \
		"user:NAME, uid:N, group:NAME and gid:N, or any, or owner. " \
		"Root, the user of the daemon and those of admin_uids always may. " \
		"auto: any if root runs the daemon, else owner.") \
	POOL(write, rights, "", "", "16", "any", START, \
		"Who of those who may read the pool may also change it; a list as of read. " \
		"Root and the user of the daemon always may.") \
	POOL(pressure_low, fraction, "", "0", "1", "0.85", LIVE, \
		"Part of the pool in use from which on eviction runs in the background, store by store, the one to " \
		"which memory is worth clearly less first, else the one that is most above its guarantee; and new " \
		"keys have to be worth more than what would go.") \
	POOL(pressure_high, fraction, "", "0", "1", "0.9", LIVE, \
		"Part of the pool in use from which on the least valuable entries of all its stores go first.") \
	POOL(pressure_full, fraction, "", "0", "1", "0.95", LIVE, \
		"Part of the pool in use from which on each write evicts before it takes room, and a store " \
		"whose policy evicts nothing refuses it.") \
	POOL(pressure_end, fraction, "", "0", "1", "0.75", LIVE, \
		"Eviction that one of the other three has begun goes on down to this part of the pool. The four " \
		"have to stand in order: pressure_end, pressure_low, pressure_high, pressure_full.") \
	POOL(feed, bytes, "", "0B", "1GiB", "0B", START, \
		"Memory of the pool for its change feed: who may read the pool can follow every write, removal, " \
		"eviction and expiry in it, as far back as this holds; an entry takes 64 bytes and its key. 0B: it " \
		"keeps none. At least 64KiB, at most a quarter of the pool. auto: one part in 128 of the pool, at " \
		"least 64KiB and at most 4MiB.") \
	POOL(scrub, flag, "", "", "", "false", START, \
		"Overwrite the memory of entries that are gone with zeroes before it is used again.") \
	STORE(pool, name, "", "1", "31", "auto", START, \
		"The pool that holds the entries of the store. auto: the first pool of the file.") \
	STORE(type, enum, "", CONFIG_WORDS(type), "", "general", START, \
		"What kind of store it is, which says what its other keys are where the file does not. general: keys " \
		"and values with an optional time to live. session: what users leave behind; it lives 30m, by policy session. ttl: " \
		"what is only good for a time; it lives 10m.") \
	STORE(ttl, duration, "", "0", "36500d", "auto", LIVE, \
		"Time to live of an entry whose writer names none. 0: it does not expire. auto: 0 in a general " \
		"store, 30m in a session store, 10m in a ttl store.") \
	STORE(sliding, flag, "", "", "", "false", START, \
		"A read gives an entry the whole time to live again that it was written with, if its reader may " \
		"also change the pool. The engine hears of reads with each heartbeat: an entry that is read at " \
		"least every quarter of its time does not expire, unless that is shorter than 4 heartbeats.") \
	STORE(ttl_jitter, fraction, "", "0", "0.5", "0", LIVE, \
		"Each time to live is shortened by chance, by up to this part of it, so that what was written " \
		"together does not expire together.") \
	STORE(max_value, bytes, "", "1B", "256GiB", "auto", LIVE, \
		"The largest value that the store accepts; at most its pool's, and half of its own limit. auto: " \
		"the smaller of these two.") \
	STORE(guaranteed, bytes, "", "0B", "1TiB", "0B", LIVE, \
		"Memory of the pool, keys, values, headers and rounding, that no other store's writes take from " \
		"this one. Those of a pool together: at most seven eighths of it, the rest is for index and " \
		"page tables.") \
	STORE(limit, bytes, "", "4KiB", "1TiB", "auto", LIVE, \
		"The most memory of the pool that the store may take, counted as guaranteed; above it the store " \
		"evicts its own entries. auto: as the pool has.") \
	STORE(max_entries, u32, "entries", "1", "4294967294", "auto", LIVE, \
		"The most entries of the store; above it the store evicts its own. auto: as many as fit.") \
	STORE(durability, enum, "", CONFIG_WORDS(durability), "", "none", START, \
		"What a change that was answered survives. none: the death of any engine, but neither the end of the " \
		"daemon nor a loss of power. sync: those too, because it is answered when it is on the disk. async: those " \
		"too, but for the changes of the last moments (loss_window).") \
	STORE(loss_window, duration, "", "10ms", "1h", "1s", LIVE, \
		"Of a store with durability async: how old an answered change may be that a loss of power takes. When the " \
		"disk is that far behind, writes to the store wait for it.") \
	STORE(what_if, flag, "", "", "", "true", LIVE, \
		"Keep the curve of `hypercache mrc`: what the store would miss with less memory and with more. It costs " \
		"the engine up to 4MiB, and a part of each look at hints.") \
	STORE(policy, policy, "", "", "", "default", LIVE, \
		"What is evicted when the pool is full: one of the policies below. default: session in a session store, else " \
		"s3-fifo.") \
	STORE(policy_params, params, "", "", "", "none", LIVE, \
		"What the policy is told, as {small: 20%}: its parameters below. What is left out has its default.")

/* clang-format on */

#endif
