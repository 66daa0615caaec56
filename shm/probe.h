/* probe.h - PROBE(name, arguments...) tells whoever traces; nothing where nobody does.
 *
 * The kernel counts in a probe's semaphore who is attached.  While that is 0, a probe is a load, a
 * comparison and a jump that is not taken; the arguments are not even computed.  The instruction that a tracer
 * replaces stands in a function of its own, once: so inlining makes no copies of it, and its arguments are
 * where the calling convention has them.
 *
 * A program that has both lists in it defines both (PROBES_DEFINE), each in one file.
 *
 * Without sys/sdt.h, or with -Dprobes=disabled, there is nothing here at all.
 */
#ifndef HC_SHM_PROBE_H
#define HC_SHM_PROBE_H

#include <stdint.h>
#include "probe_list.h"

#define PROBE_COMMA_() ,
#define PROBE_PARAM_(type, name, unit, meaning) PROBE_T_##type name
#define PROBE_VALUE_(type, name, unit, meaning) name
#define PROBE_T_u32 uint32_t
#define PROBE_T_i32 int32_t
#define PROBE_T_u64 uint64_t
#define PROBE_T_ptr const void *

#define PROBE_HIDDEN_ __attribute__((visibility("hidden")))
/* The kernel writes the semaphore; it is read anew by each function. */
#define PROBE_DECLARE_(name, stability, meaning) \
	extern unsigned short hypercache_##name##_semaphore PROBE_HIDDEN_; \
	PROBE_HIDDEN_ void probe_##name(PROBE_##name(PROBE_PARAM_, PROBE_COMMA_));
PROBES_CLIENT(PROBE_DECLARE_)
PROBES_ENGINE(PROBE_DECLARE_)
#undef PROBE_DECLARE_

/* Is a tracer attached to it? */
#ifdef HC_PROBES
#define PROBE_ON(name) __builtin_expect(hypercache_##name##_semaphore != 0, 0)
#else
#define PROBE_ON(name) 0
#endif
#define PROBE(name, ...) \
	do { \
		if (PROBE_ON(name)) \
			probe_##name(__VA_ARGS__); \
	} while (0)

/* For the one file that holds the functions of a list; sys/sdt.h comes first, with _SDT_HAS_SEMAPHORES. */
#define PROBE_FUNCTION_(name, stability, meaning) \
	__attribute__((noinline, cold)) void probe_##name( \
		PROBE_##name(PROBE_PARAM_, PROBE_COMMA_)) \
	{ \
		STAP_PROBEV(hypercache, name, PROBE_##name(PROBE_VALUE_, PROBE_COMMA_)); \
	}
#define PROBE_SEMAPHORE_(name, stability, meaning) \
	unsigned short hypercache_##name##_semaphore __attribute__((section(".probes"), used));

#endif
