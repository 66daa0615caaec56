/* probe_list.h - the probes: what a tracer can hear of a client's reads and of the engine's work.
 *
 * One list: from it come the functions that fire (probe.h), the page hypercache-probes(7), and what the
 * tests look for in the built files.  Each is a USDT probe of the provider `hypercache`.
 *
 *   X(name, stability, meaning)    two lists: what fires in a client, what fires in the engine
 *   PROBE_name(A, C)               its arguments in order: A(type, name, unit, meaning), C() between them
 *
 * Rules:
 *   1  An argument is never moved or re-meant: a probe that has to say something else gets another name.  More
 *      may be said behind the last one, up to 12.
 *   2  A key is a pointer and a length.  It is bytes: nothing ends it, and it may hold zeros.
 *   3  `daemon` is shm_segment.daemon_id: a host may have several.
 *   4  stable: kept as long as the layout's major version.  evolving: may go with any version.
 *   5  What people ask for first comes first: bpftrace 0.17 gives arg0 to arg5.
 *   6  Only reads are sampled (probe.h of libclient says how): those with an argument `every`.
 */
#ifndef HC_SHM_PROBE_LIST_H
#define HC_SHM_PROBE_LIST_H

/* clang-format off */
#define PROBES_CLIENT(X) \
	X(get__begin, stable, "hc_get begins; one of `every` is told of") \
	X(get__end, stable, "... and ends; the same calls as get__begin") \
	X(view__begin, stable, "hc_view begins; one of `every`") \
	X(view__end, stable, "... and ends; the same calls as view__begin") \
	X(view__release, stable, "a view is released whose view__end was told") \
	X(mget__begin, stable, \
		"hc_mget begins; one call of `every`, whatever it reads; its keys are no gets") \
	X(mget__end, stable, "... and ends; the same calls as mget__begin") \
	X(hint, evolving, "a thread leaves hints of its last hits, all of them or none") \
	X(set__begin, stable, "hc_set, hc_append or hc_prepend begins; each one") \
	X(set__end, stable, "... and ends, in the same thread") \
	X(request__put, evolving, \
		"a request stands in the window, in the thread that is going to send it") \
	X(request__sent, evolving, "the socket has taken bytes of the window") \
	X(request__reply, evolving, "the answer to a request was read")

#define PROBES_ENGINE(X) \
	X(request__received, evolving, "bytes of a client came") \
	X(request__decoded, stable, "a frame is carried out from now on") \
	X(room__made, evolving, "an attempt to make room for a write is over") \
	X(publish, stable, "a SET or INCR has, or has not, changed its entry") \
	X(request__answered, stable, "the answer stands in the buffer to be sent") \
	X(evict, stable, "an entry was evicted") \
	X(expire, stable, "an entry was removed because its time is over")

#define PROBE_OF_KEY_(A, C) \
	A(u32, store, "index", "of the store in the directory") C() \
	A(ptr, key, "address", "of the key's bytes, in the process that fires") C() \
	A(u64, key_bytes, "bytes", "its length")
#define PROBE_OF_DAEMON_(A, C) \
	A(u64, daemon, "id", "of the daemon's memory")

#define PROBE_get__begin(A, C) \
	PROBE_OF_KEY_(A, C) C() \
	A(u64, every, "reads", "one of so many is told of") C() \
	PROBE_OF_DAEMON_(A, C)
#define PROBE_get__end(A, C) \
	PROBE_OF_KEY_(A, C) C() \
	A(i32, result, "enum", "HC_OK, HC_MISS, or another result of the call") C() \
	A(u64, ns, "ns", "how long the call took, without its probes") C() \
	A(u64, bytes, "bytes", "of the value that was found") C() \
	A(u64, every, "reads", "one of so many is told of") C() \
	A(u64, hash, "bits", "of the key, as the engine's probes have it") C() \
	PROBE_OF_DAEMON_(A, C)
#define PROBE_view__begin(A, C) PROBE_get__begin(A, C)
#define PROBE_view__end(A, C) \
	PROBE_get__end(A, C) C() \
	A(ptr, view, "address", "of the view's pin: with the process, what tells it from others that are held") C() \
	A(ptr, caller, "address", "of the code behind the call of hc_view")
#define PROBE_view__release(A, C) \
	A(ptr, view, "address", "as of view__end") C() \
	A(i32, result, "enum", "HC_OK or HC_E_REVOKED") C() \
	PROBE_OF_DAEMON_(A, C)
#define PROBE_mget__begin(A, C) \
	A(u32, store, "index", "of the store in the directory") C() \
	A(u64, keys, "keys", "of the call") C() \
	A(u64, every, "calls", "one of so many is told of") C() \
	PROBE_OF_DAEMON_(A, C)
#define PROBE_mget__end(A, C) \
	A(u32, store, "index", "of the store in the directory") C() \
	A(u64, keys, "keys", "of the call") C() \
	A(i32, result, "enum", "of the call as a whole") C() \
	A(u64, ns, "ns", "how long the call took, without its probes") C() \
	A(u64, hits, "keys", "of them, found") C() \
	A(u64, bytes, "bytes", "of the values that were found") C() \
	A(u64, every, "calls", "one of so many is told of") C() \
	PROBE_OF_DAEMON_(A, C)
#define PROBE_hint(A, C) \
	A(u64, hits, "hits", "since the last time") C() \
	A(u64, left_out, "hits", "of them, those of which no hint was left") C() \
	PROBE_OF_DAEMON_(A, C)
#define PROBE_set__begin(A, C) \
	PROBE_OF_KEY_(A, C) C() \
	A(u64, value_bytes, "bytes", "of the value") C() \
	PROBE_OF_DAEMON_(A, C)
#define PROBE_set__end(A, C) \
	PROBE_OF_KEY_(A, C) C() \
	A(i32, result, "enum", "of the call") C() \
	A(u64, value_bytes, "bytes", "of the value") C() \
	PROBE_OF_DAEMON_(A, C)
#define PROBE_OF_REQUEST_(A, C) \
	A(u64, session, "id", "of the session, never used again") C() \
	A(u64, request, "number", "of the request in its session, of a batch the first one's; 0: no mutation") C() \
	A(u32, verb, "enum", "of PROTOCOL: 2 PING, 3 SET, 4 DELETE, 6 TOUCH, 7 INCR, 8 CLEAR, 9 BATCH")
#define PROBE_request__put(A, C) \
	PROBE_OF_REQUEST_(A, C) C() \
	A(u32, items, "items", "of a batch; else 1") C() \
	A(u64, bytes, "bytes", "of the frame")
#define PROBE_request__sent(A, C) \
	A(u64, session, "id", "of the session") C() \
	A(u64, bytes, "bytes", "that the socket has taken")
#define PROBE_request__reply(A, C) \
	PROBE_OF_REQUEST_(A, C) C() \
	A(i32, status, "enum", "HC_OK, or another result")

#define PROBE_request__received(A, C) \
	A(u64, daemon, "id", "of the daemon's memory") C() \
	A(u64, session, "id", "of the session; 0: it has not said HELLO") C() \
	A(u64, bytes, "bytes", "that came")
#define PROBE_request__decoded(A, C) \
	A(u64, daemon, "id", "of the daemon's memory") C() \
	PROBE_OF_REQUEST_(A, C) C() \
	A(u32, items, "items", "of a batch; else 1") C() \
	A(u64, bytes, "bytes", "of the frame")
#define PROBE_room__made(A, C) \
	A(u32, store, "index", "of the store in the directory") C() \
	A(u64, bytes, "bytes", "that are wanted") C() \
	A(u32, attempt, "number", "from 0, of this write") C() \
	A(u32, made, "bool", "1: something was freed or moved") C() \
	A(u64, ns, "ns", "how long it took") C() \
	PROBE_OF_DAEMON_(A, C)
#define PROBE_publish(A, C) \
	PROBE_OF_KEY_(A, C) C() \
	A(i32, status, "enum", "HC_OK, another result, or 1000: not worth keeping") C() \
	A(u64, value_bytes, "bytes", "of the value") C() \
	A(u64, version, "LSN", "of the entry; 0: none") C() \
	A(u64, hash, "bits", "of the key") C() \
	PROBE_OF_DAEMON_(A, C)
#define PROBE_request__answered(A, C) \
	A(u64, daemon, "id", "of the daemon's memory") C() \
	PROBE_OF_REQUEST_(A, C) C() \
	A(i32, status, "enum", "HC_OK, or another result")
#define PROBE_evict(A, C) \
	PROBE_OF_KEY_(A, C) C() \
	A(u32, why, "enum", "2 limit, 3 pressure, 4 full, 5 given, 6 aside, 7 shrunk, 8 index, as the counters evicted_*") C() \
	A(u64, age_ms, "ms", "since it was written") C() \
	A(u64, bytes, "bytes", "of its place") C() \
	A(u64, idle_ms, "ms", "since the last use that the engine has heard of; of none, since it was written") C() \
	A(u64, hash, "bits", "of the key") C() \
	PROBE_OF_DAEMON_(A, C)
#define PROBE_expire(A, C) \
	PROBE_OF_KEY_(A, C) C() \
	A(u64, age_ms, "ms", "since it was written") C() \
	A(u64, late_ms, "ms", "since its time was over") C() \
	A(u64, bytes, "bytes", "of its place") C() \
	A(u64, hash, "bits", "of the key") C() \
	PROBE_OF_DAEMON_(A, C)

/* clang-format on */
#endif
