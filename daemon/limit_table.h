/* limit_table.h - every limit that somebody can meet, once.
 *
 * From LIMITS come `hypercached --help-limits` and the table of README.md (unit_limits compares
 * them).  A limit that can be configured names its key, and range and default come from
 * config_table.h; one that cannot names its number.  The last column is the test that meets it; unit_limits
 * looks whether there is one of that name.
 *
 *   KEY(what, key, more, beyond, test)          the key's name, and what to know beside its range
 *   FIXED(what, number, unit, beyond, test)     unit "bytes", or a word behind the number
 *   BOUND(what, number, unit)                   of the engine's loop: nobody meets it, work is only spread
 */
#ifndef HC_DAEMON_LIMITS_H
#define HC_DAEMON_LIMITS_H

#include <stdio.h>

/* clang-format off */

#define LIMITS(KEY, FIXED) \
	KEY("clients", "max_clients", "", \
		"HELLO is answered HC_E_REFUSED", \
		"proc_frames.beyond_the_limits_clients_are_refused_by_name") \
	KEY("clients of one user", "max_clients_per_user", "", \
		"the same, for that user alone", \
		"proc_rights.one_user_cannot_take_all_places") \
	KEY("connections", "max_clients", "twice that, and twice max_clients_per_user of one user", \
		"answered HC_E_REFUSED and closed", \
		"proc_rights.one_user_cannot_take_all_places") \
	FIXED("connections of one session that wait for a feed", ENG_FEED_WATCHES, "and of all sessions max_clients", \
		"answered HC_E_REFUSED and closed; the library looks at the feed every 50 ms instead", \
		"proc_feed_fd.who_may_not_wait_at_the_engine_looks_again_and_again") \
	FIXED("of them, answered by one turn of the engine", ENG_FEED_TELLS, "of each pool", \
		"the others are answered by the next one", \
		"proc_feed_fd.all_who_wait_are_told_however_many") \
	FIXED("blocks of pins whose age is looked at by one tick", ENG_HELD_BLOCKS, "of all clients", \
		"the others are looked at by the next ones; what is shown is too short by that", \
		"proc_cli.clients_shows_since_when_something_is_held") \
	FIXED("new connections of all users", ENG_ACCEPT_US, "us between two in the long run", \
		"they wait in the queue of the socket, up to 512; who comes then waits in connect(2)", \
		"proc_hostile.connections_come_at_a_bounded_rate") \
	FIXED("of them, at once", ENG_ACCEPT_BURST, "connections", \
		"as above", \
		"proc_hostile.connections_come_at_a_bounded_rate") \
	FIXED("a pause when more have come", ENG_ACCEPT_PAUSE_MS, "ms", \
		"as above", \
		"proc_hostile.connections_come_at_a_bounded_rate") \
	KEY("a connection without a session", "hello_timeout", "", \
		"closed", \
		"proc_frames.beyond_the_limits_clients_are_refused_by_name") \
	KEY("half a request, or answers not taken", "stall_timeout", "without a byte", \
		"the connection is closed; half a request is not applied", \
		"proc_limits.who_stops_halfway_or_takes_no_answers_is_dropped") \
	KEY("answers that one connection leaves unread", "max_unread", "", \
		"no more of its requests are read, then as above", \
		"proc_frames.who_does_not_read_answers_is_not_read_and_hinders_nobody") \
	FIXED("frame before a session", WIRE_HELLO_BYTES_MAX, "bytes", \
		"answered HC_E_PROTOCOL and closed", \
		"proc_frames.a_hostile_frame_is_answered_and_its_connection_closed") \
	KEY("frame", "max_frame", "", \
		"the library answers HC_E_TOO_LARGE; the daemon HC_E_PROTOCOL, and closes", \
		"proc_limits.a_frame_too_long_ends_its_connection") \
	FIXED("unfinished frames of all connections", ENG_IN_TOTAL_BYTES, "bytes, or twice max_frame if that is more", \
		"the connections in which nothing has come for longest are closed", \
		"proc_limits.unfinished_frames_cannot_fill_the_engines_memory") \
	KEY("requests of a session that may wait for their answer", "max_inflight", "", \
		"the library waits; what is older than that is not repeated: HC_E_PROTOCOL", \
		"proc_frames.a_request_out_of_its_order_closes_the_connection") \
	FIXED("key", HC_KEY_BYTES_MAX, "bytes, at least 1", \
		"HC_E_INVAL of the library, HC_E_TOO_LARGE of the daemon", \
		"proc_limits.a_key_too_long_is_refused_by_either_side") \
	KEY("value", "max_value", "", \
		"HC_E_TOO_LARGE", \
		"proc_engine.what_is_out_of_range_is_refused_and_changes_nothing") \
	FIXED("time to live", 10, "years", \
		"HC_E_INVAL", \
		"proc_engine.what_is_out_of_range_is_refused_and_changes_nothing") \
	FIXED("attempts to make room for one write", ENG_ROOM_TRIES, "batches of evictions", \
		"HC_E_FULL; what was evicted is gone", \
		"proc_limits.a_pool_that_is_held_is_full_and_says_so") \
	KEY("memory of a pool that one client keeps from reuse", "limbo_cap", "", \
		"its pins are revoked (P13): its views answer HC_E_REVOKED", \
		"proc_engine.too_much_held_by_one_client_is_taken_back") \
	KEY("memory of a store", "limit", "places: keys, values, headers, rounding", \
		"it evicts its own entries; an entry that could never fit: HC_E_TOO_LARGE", \
		"unit_room.a_store_never_has_more_than_its_limits") \
	KEY("entries of a store", "max_entries", "", \
		"it evicts its own entries", \
		"unit_room.a_store_never_has_more_than_its_limits") \
	KEY("memory of a pool in use", "pressure_full", "where nothing can be evicted", \
		"HC_E_FULL", \
		"unit_room.each_threshold_begins_its_kind_and_all_end_at_the_end") \
	KEY("threads of a client that read", "threads_per_client", "", \
		"HC_E_THREADS", \
		"proc_limits.threads_views_and_batches_have_their_numbers") \
	FIXED("views that one thread holds", SHM_BLOCK_PINS - SHM_PIN_VIEW, "", \
		"HC_E_VIEWS", \
		"proc_limits.threads_views_and_batches_have_their_numbers") \
	FIXED("keys of one hc_mget", HC_MGET_MAX, "", \
		"HC_E_INVAL, nothing is done", \
		"proc_limits.threads_views_and_batches_have_their_numbers") \
	FIXED("entries of one hc_mset", HC_MSET_MAX, "", \
		"HC_E_INVAL, nothing is done", \
		"unit_conn.arguments_out_of_range") \
	FIXED("operations that are submitted and not taken", HC_SUBMIT_MAX, "at most; as hc_open_opts.submit_max says", \
		"HC_E_QUEUE", \
		"unit_submit.the_queue_has_a_limit_in_operations_and_in_bytes") \
	FIXED("leases of a session", ENG_LEASES_SESSION, "", \
		"HC_E_LEASES", \
		"proc_lease.nobody_holds_more_leases_than_he_may") \
	FIXED("leases of all", SHM_LEASES, "", \
		"the same, unless the time of one is over", \
		"proc_lease.nobody_holds_more_leases_than_he_may") \
	FIXED("time of a lease", WIRE_LEASE_MS_MAX / 60000, "minutes", \
		"HC_E_INVAL", \
		"proc_lease.waiting_ends_when_it_is_to") \
	FIXED("page of a scan", 256, "entries, or as the caller says", \
		"the call ends soon after, with a cursor to go on from", \
		"proc_limits.a_page_of_a_scan_ends") \
	FIXED("hints of a thread that wait", SHM_HINTS, "", \
		"the oldest are lost, and counted", \
		"proc_limits.hints_beyond_a_ring_are_lost_and_counted") \
	FIXED("the supervisor's word for a new session", ENG_KEPT_S, "s", \
		"that client is refused: its connection is closed", \
		"proc_limits.a_supervisor_that_hangs_keeps_only_new_clients_out") \
	FIXED("what is buffered at the end", ENG_QUIT_S, "s", \
		"not sent; its requests were applied, and the library calls them HC_E_UNKNOWN", \
		"proc_limits.the_end_does_not_wait_for_who_does_not_read") \
	FIXED("tools at the admin socket", ADMIN_CONNECTIONS, "at one time", \
		"denied, with words", \
		"proc_daemon.tools_that_hang_or_babble_cost_nothing") \
	FIXED("of them, tools that listen to probes", ADMIN_PROBERS, "at one time", \
		"refused, with words", \
		"proc_probes.four_tools_may_listen_and_numbers_have_a_range") \
	FIXED("a tool at the admin socket", ADMIN_LIMIT_MS, "ms", \
		"closed", \
		"proc_daemon.tools_that_hang_or_babble_cost_nothing") \
	KEY("crashes of the engine in a row", "restart_limit", "", \
		"the daemon ends with status 3", \
		"proc_daemon.after_restart_limit_crashes_in_a_row_it_gives_up") \
	KEY("crashes of the engine at work on one pool", "pool_crash_limit", "within pool_crash_time", \
		"the pool starts empty", \
		"crash_pool.a_pool_that_kills_engines_starts_empty_and_the_other_stays") \
	KEY("images of pools that had to start empty", "crash_images", "and crash_images_size together", \
		"the oldest goes; one that alone is too large is not kept", \
		"crash_pool.images_have_a_number_and_a_size") \
	FIXED("a pause that a tool asked for", ENG_PAUSE_MS, "ms", \
		"writes go on", \
		"proc_fsck.a_pause_ends_by_itself") \
	KEY("an engine without a sign of life", "hang_timeout", "", \
		"killed; the next one goes on", \
		"crash_pool.an_engine_that_is_stopped_is_killed_and_another_goes_on") \
	KEY("log of durable stores behind a checkpoint", "checkpoint_wal", "as whole segments", \
		"another checkpoint is written, and what two of them make needless is removed", \
		"proc_shorten.the_log_is_bounded_by_itself") \
	FIXED("pools", CONFIG_POOLS_MAX, "", \
		"the configuration is refused, with its line", \
		"unit_config.config_each_bad_file_gives_its_message") \
	FIXED("stores", CONFIG_STORES_MAX, "", \
		"the same", \
		"unit_config.config_each_bad_file_gives_its_message") \
	FIXED("users and groups of a right", CONFIG_RIGHTS_MAX, "", \
		"the same", \
		"unit_config.config_each_bad_file_gives_its_message") \
	FIXED("configuration file", CONFIG_FILE_MAX_BYTES, "bytes", \
		"refused", \
		"unit_config.config_unreadable_and_too_long_files")

#define LIMITS_BOUNDS(BOUND) \
	BOUND("requests of one connection in a row", ENG_REQUESTS_PER_TURN, "requests, and what is left of a batch") \
	BOUND("one receive", ENG_READ_BYTES, "bytes, or what is left of a longer frame") \
	BOUND("touch rings looked at in a tick", ENG_HINT_BLOCKS, "") \
	BOUND("touch rings looked at in a turn", ENG_HINT_BLOCKS_TURN, "") \
	BOUND("writes between two such looks", ENG_HINT_SETS, "") \
	BOUND("touch rings looked at before a store at its limit evicts", ENG_HINT_BLOCKS_LIMIT, "") \
	BOUND("sessions looked at for death in a tick", ENG_LOOKS_PER_TICK, "") \
	BOUND("evictions before a scan of the pins", ENG_VICTIMS, "") \
	BOUND("the part of a pool that they may be", ENG_ROOM_SHARE, "th") \
	BOUND("times the bytes that are wanted", ENG_ROOM_FACTOR, "") \
	BOUND("evictions of a pool in the background in a turn", ENG_PRESSURE_VICTIMS, "") \
	BOUND("entries moved by one compaction, or by one join", ENG_COMPACT_PLACES, "") \
	BOUND("joins of free pages after a batch of evictions", ENG_JOIN_STEPS, "") \
	BOUND("moved by one of them", ENG_JOIN_BYTES, "bytes, or twice the entry that is written") \
	BOUND("entries in limbo before the turn ends with a sweep", ENG_LIMBO_ENTRIES, "") \
	BOUND("chains of a growing index moved in a turn", ENG_GROW_CHAINS, "") \
	BOUND("timers of entries looked at in a turn", ENG_EXPIRY_WORK, "") \
	BOUND("clients' blocks whose reads are added up in a turn", ENG_RECENT_BLOCKS, "") \
	BOUND("chains of an index looked through for cleared entries in a turn", ENG_VOID_CHAINS, "") \
	BOUND("of them, entries removed", ENG_VOID_ENTRIES, "") \
	BOUND("entries in limbo before a turn that removes some ends with a sweep", ENG_VOID_LIMBO, "") \
	BOUND("bytes of removed entries before a scan of the pins", ENG_VOID_BYTES, "bytes") \
	BOUND("entries verified behind an adoption in a turn", ENG_VERIFY_BYTES, "bytes, and one value") \
	BOUND("such looks by an attempt to make room", ENG_VOID_STEPS, "") \
	BOUND("bytes of private memory of a store that is gone, given back in a turn", LATE_STEP_BYTES, "bytes") \
	BOUND("leases looked at for one whose time is over, when there is none left", ENG_LEASE_LOOKS, "") \
	BOUND("waiters for a lease woken in a turn, of each word", ENG_LEASE_WAKES, "") \
	BOUND("groups of answers of one connection that wait for the log each for itself", ENG_LATE_MARKS, "")

/* clang-format on */

/* Both tables as Markdown.  Whether `to` took it all: ferror(to). */
void limits_print(FILE *to);

#endif
