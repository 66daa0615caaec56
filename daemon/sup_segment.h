/* sup_segment.h - memfds: made, filled to the last byte, sealed.
 *
 * A segment's memory is all there before anybody gets a descriptor: nobody meets
 * SIGBUS later.  What the machine cannot give is refused here, in words, with what
 * to change.  Its size is sealed (F_SEAL_SHRINK, F_SEAL_GROW); writing is not, because
 * the next engine has to map it for writing.  Its mode is 0600: a descriptor
 * that was handed out read-only cannot be re-opened for writing by another user.
 *
 * hardening: none     sup_segment_seal(): no seal comes behind these
 * hardening: strict   the engine, when it has mapped it, closes it to every later writer
 *                     (F_SEAL_FUTURE_WRITE), the next engine included
 *
 * huge_pages: try goes down this ladder and says on which step it stands, why, and
 * how to get higher:
 *
 *   hugetlb of the size asked for (1 GiB, 2 MiB)   SHM_BACK_HUGE_1G, SHM_BACK_HUGE_2M
 *   transparent huge pages, if shmem_enabled lets  SHM_BACK_THP: some huge ones were really got
 *   base pages                                     SHM_BACK_BASE
 */
#ifndef HC_DAEMON_SUP_SEGMENT_H
#define HC_DAEMON_SUP_SEGMENT_H

#include "config.h"
#include "layout/l_control.h"
#include "sup_host.h"

enum { SUP_WHY_BYTES = sizeof(((struct shm_pool_entry *)0)->backing_why) };

struct sup_segment {
	int fd;           /* -1: none */
	uint32_t backing; /* enum shm_backing */
	uint64_t bytes;
	char why[SUP_WHY_BYTES]; /* one sentence: what was got, why, how to get better */
};

/* Bytes of a pool's first region when it is made of pages of this backing. */
uint64_t sup_segment_pool_bytes(const struct config_pool *p, uint32_t backing);

/* A segment of base pages, of `bytes` rounded up to them.  `name` is what /proc shows.
 * 0 and *ret, or -errno and a sentence in why: ENOMEM (the machine has not that much), or what the
 * call named in it said. */
int sup_segment_new(const char *name, uint64_t bytes, const struct sup_host *host,
	struct sup_segment *ret, char why[SUP_WHY_BYTES]);

/* The first region of a pool, as p asks.  n_pages[]: huge pages of each size that this pool and
 * those to come would like to have, for the advice.  0 and *ret; -ENOMEM, -errno as above. */
int sup_segment_pool_new(const struct config_pool *p, const struct sup_host *host,
	const uint64_t n_pages[SUP_HUGE_N], struct sup_segment *ret, char why[SUP_WHY_BYTES]);

/* No other seal can be set from now on.  0 or -errno. */
int sup_segment_seal(const struct sup_segment *s);

/* Did an engine close it to later writers?  False without a descriptor. */
bool sup_segment_is_closed(const struct sup_segment *s);

/* Closes the descriptor; memory goes when its last mapping and descriptor have gone. */
void sup_segment_close(struct sup_segment *s);

/* A new description of fd's file that can only be read.  Descriptor, or -errno. */
int sup_segment_reopen(int fd);

/* The first `bytes` of the segment (rounded up to its pages), for reading and writing; munmap() with
 * *ret_bytes.  Not part of core dumps, not inherited by fork.  0 or -errno. */
int sup_segment_map(const struct sup_segment *s, uint64_t bytes, void **ret, uint64_t *ret_bytes);

#endif
