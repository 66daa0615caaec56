/* hc_probe.h - which reads are told of, and how.  Internal to libclient.
 *
 * A read takes tens of nanoseconds, and a probe with a tracer behind it a microsecond.  So one of N reads is
 * told of, chosen before it reaches its probes, and the others do not know of tracing at all:
 *
 *   hints_give()       runs at each 16th hit, and at each miss.  If a tracer is attached, it counts the reads since
 *                      (struct hc_sampler), and has the next hits ended so that it is asked again in time
 *   the next one is it: the thread is armed: a mark on the serial number that each read compares anyway
 *   hc_get()           finds another number, as if the session were another one's, and takes the long way: there
 *                      get_any() sees the mark, and hc_probe_get() unarms, tells, and calls hc_get() again
 *
 * So a read that is told of runs the same instructions between its probes as any other, a read that is not
 * has not one more, and the time between attaching and the first probe of a thread is at most 16 hits.
 *
 * N stands in the control segment (shm_control.probe_every); a thread looks at it where it counts.  The distance from
 * one told read to the next is drawn from 1..2N-1, evenly: so that no pattern of the program falls into step.
 * hc_mget counts for itself, by calls.
 *
 * [owner: as struct hc_thread] Fork: a child unarms at its first read.
 */
#ifndef HC_PROBE_H
#define HC_PROBE_H

#include "hc_thread.h"
#include "probe.h"

#ifdef HC_PROBES
/* The semaphores of the probes of reads, side by side: one look at all. */
union hc_probe_reads {
	unsigned short semaphore[8];
	uint64_t word[2];
};
extern union hc_probe_reads hc_probe_read_semaphores;

/* Is anybody told of reads? */
static inline bool hc_probe_reads(void)
{
	const uint64_t *w = hc_probe_read_semaphores.word;

	return __builtin_expect((w[0] | w[1]) != 0, 0);
}
/* Is this thread's next read to be told of? */
static inline bool hc_probe_armed(void)
{
	return __builtin_expect((hc_held[0].serial & HC_ARMED) != 0, 0);
}
#else
static inline bool hc_probe_reads(void) { return false; }
static inline bool hc_probe_armed(void) { return false; }
#endif

/* While a tracer is attached: n reads of th were hits, and one more was a miss, if `missed`. */
void hc_probe_count(struct hc_thread *th, uint64_t n, bool missed);

/* The calls themselves, of a thread that is armed: told of, or not, as it turns out. */
int hc_probe_get(struct hc_store *s, const void *key, size_t key_bytes, void *buf, size_t buf_bytes,
	size_t *ret_bytes);
int hc_probe_view(struct hc_store *s, const void *key, size_t key_bytes, struct hc_view *ret,
	const void *caller);
/* hc_mget while a tracer is attached; its arguments are checked. */
int hc_probe_mget(struct hc_store *s, struct hc_mget_item *items, size_t n);
/* hc_view_release of a view whose pin is not what it says: one that was told of?  As hc_view_release. */
int hc_probe_release(struct hc_view *v);

/* hc_read.c: hc_mget without probes. */
int hc_read_mget(struct hc_store *s, struct hc_mget_item *items, size_t n);

#endif
