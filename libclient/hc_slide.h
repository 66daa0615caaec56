/* hc_slide.h - reads that give an entry its time to live again, or keep it from being idle.  Internal to libclient. */
#ifndef HC_SLIDE_H
#define HC_SLIDE_H

#include "hc_thread.h"

/* Has a read of this pinned item of the store to be told?  Then what hc_touch() would have to ask for to
 * the same end: its time to live, ms, or WIRE_TTL_KEEP.  Else 0. */
uint64_t hc_slide_due(
	const struct hc_thread *th, const struct hc_store *s, const struct shm_item *it);

/* Is there room for a hint at `head`, which is no must, beside those that are?  Asked while there are any
 * (hc_thread.slide_last). */
bool hc_slide_room(struct hc_thread *th, uint64_t head);

/* Leaves a hint (the word of a pin without its generation) that is not lost; if there is no room for it,
 * asks over the socket.  What the engine answers is nobody's business: if it cannot be had, the entry
 * expires as if it had not been read. */
void hc_slide(struct hc_thread *th, struct hc_store *s, const struct shm_key *k, uint64_t hint,
	uint64_t ttl_ms);

/* hc_write.c: hc_touch() that waits this long at most; 0: as hc_open_opts says. */
int hc_touch_within(struct hc_store *s, const void *key, size_t key_bytes, uint64_t ttl_ms,
	uint32_t timeout_ms);

#endif
