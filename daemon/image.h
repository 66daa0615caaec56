/* image.h - a file that holds what a daemon's memory held: for the checker, later.
 *
 *   0               struct image_head
 *   IMAGE_PAGE      the control segment, rounded up to pages
 *   pool[i].off     the regions of a pool, one behind the other, as pool offsets count
 *   ...
 *
 * Zeroes are not written: the file has holes there.  Numbers are those of the machine that wrote it.
 * What is copied is not looked at; it may be damaged, that is what images are for.  It holds keys and
 * values: mode 0600.
 *
 * Made by the supervisor's child when a pool has to start empty (sup_crash.c), and by `hypercache fsck
 * --save FILE` of a living or frozen daemon.
 */
#ifndef HC_DAEMON_IMAGE_H
#define HC_DAEMON_IMAGE_H

#include <stdbool.h>
#include "layout/l_control.h"

#define IMAGE_MAGIC 0x314547414d494348ull /* "HCIMAGE1" as bytes */

enum { IMAGE_VERSION = 1, IMAGE_PAGE = 4096, IMAGE_WHY_BYTES = 256 };

struct image_pool {
	uint64_t off, bytes; /* in the file; bytes 0: not in it */
};

struct image_head {
	uint64_t magic;
	uint32_t version;
	uint32_t layout_major; /* SHM_LAYOUT_MAJOR of whoever wrote it */
	uint64_t file_bytes;
	uint64_t saved_ns;                     /* CLOCK_REALTIME */
	uint64_t ctl_off, ctl_bytes;           /* the control segment */
	char why[IMAGE_WHY_BYTES];             /* 0-terminated */
	struct image_pool pool[SHM_POOLS_MAX]; /* by index */
};
_Static_assert(sizeof(struct image_head) <= IMAGE_PAGE, "it has a page");

/* What an image is made of.  fds are read from, at any position; -1: none. */
struct image_from {
	int control_fd;
	int region_fd[SHM_POOLS_MAX][SHM_REGIONS_MAX];
};

/* Where everything would stand, for the pools of the bits of `pools`.  0 and *ret, or -errno. */
int image_plan(
	const struct image_from *from, uint32_t pools, const char *why, struct image_head *ret);

/* Writes it to fd, an empty file.  0 or -errno. */
int image_write(int fd, const struct image_from *from, const struct image_head *head);

/* An image, mapped. */
struct image {
	uint8_t *map;
	uint64_t bytes;
	const struct image_head *head;
	struct shm_control *ctl; /* in the mapping */
};

/* Maps the file; writable: what is changed goes into it.  Whatever is in the file, no number of the head
 * leads out of the mapping; the rest is as it is.  0 and *ret, or -errno: -EBADMSG (no image, or cut off),
 * -EPROTONOSUPPORT (of another layout or version). */
int image_open(int fd, bool writable, struct image *ret);
void image_close(struct image *im);

#endif
