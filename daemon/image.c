/* image.c - writes and maps images of a daemon's memory (image.h). */
#include "image.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/err.h"
#include "sup_host.h"

enum { COPY_BYTES = 1 << 20 };

static uint64_t pages(uint64_t bytes) { return (bytes + IMAGE_PAGE - 1) / IMAGE_PAGE * IMAGE_PAGE; }

/* Bytes of a file; 0: no file. */
static int file_bytes(int fd, uint64_t *ret)
{
	struct stat st;

	*ret = 0;
	if (fd < 0)
		return 0;
	if (fstat(fd, &st) != 0)
		return err_new(-errno);
	*ret = (uint64_t)st.st_size;
	return 0;
}

int image_plan(
	const struct image_from *from, uint32_t pools, const char *why, struct image_head *ret)
{
	uint64_t at = IMAGE_PAGE, bytes;

	*ret = (struct image_head){.magic = IMAGE_MAGIC,
		.version = IMAGE_VERSION,
		.layout_major = SHM_LAYOUT_MAJOR,
		.saved_ns = sup_host_real_ns(),
		.ctl_off = at};
	(void)snprintf(ret->why, sizeof ret->why, "%s", why);
	int r = file_bytes(from->control_fd, &ret->ctl_bytes);
	at += pages(ret->ctl_bytes);
	for (uint32_t p = 0; p < SHM_POOLS_MAX && r == 0; p++) {
		ret->pool[p].off = at;
		for (uint32_t i = 0; i < SHM_REGIONS_MAX && r == 0 && pools >> p & 1; i++) {
			r = file_bytes(from->region_fd[p][i], &bytes);
			ret->pool[p].bytes += bytes;
		}
		at += pages(ret->pool[p].bytes);
	}
	ret->file_bytes = at;
	return err_fwd(r);
}

static bool is_zero(const uint8_t *b, size_t n)
{
	return n == 0 || (b[0] == 0 && memcmp(b, b + 1, n - 1) == 0);
}

/* All of `from` to fd at *at, which moves.  Read, not mapped: where a file of huge pages has a hole
 * a read gives zeroes, and a load kills (rule P30). */
static int copy(int from, int fd, uint8_t *buf, uint64_t *at)
{
	off_t pos = 0;

	for (;;) {
		ssize_t n = pread(from, buf, COPY_BYTES, pos);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? err_new(-errno) : 0;
		for (ssize_t done = 0, step; done < n; done += step) {
			step = n - done < IMAGE_PAGE ? n - done : IMAGE_PAGE;
			if (is_zero(buf + done, (size_t)step))
				continue;
			ssize_t wrote = pwrite(fd, buf + done, (size_t)step, (off_t)*at + done);
			if (wrote != step)
				return err_new(wrote < 0 ? -errno : -ENOSPC);
		}
		pos += n;
		*at += (uint64_t)n;
	}
}

int image_write(int fd, const struct image_from *from, const struct image_head *head)
{
	_cleanup_free_ uint8_t *buf = malloc(COPY_BYTES);
	uint64_t at = head->ctl_off;

	if (!buf)
		return err_new(-ENOMEM);
	if (ftruncate(fd, (off_t)head->file_bytes) != 0)
		return err_new(-errno);
	int r = copy(from->control_fd, fd, buf, &at);
	for (uint32_t p = 0; p < SHM_POOLS_MAX && r == 0; p++) {
		at = head->pool[p].off;
		for (uint32_t i = 0; i < SHM_REGIONS_MAX && head->pool[p].bytes && r == 0; i++)
			if (from->region_fd[p][i] >= 0)
				r = copy(from->region_fd[p][i], fd, buf, &at);
	}
	/* Last: half an image is none. */
	if (r == 0 && pwrite(fd, head, sizeof *head, 0) != (ssize_t)sizeof *head)
		r = err_new(-EIO);
	return err_fwd(r);
}

static bool range_ok(uint64_t off, uint64_t bytes, uint64_t least, uint64_t all)
{
	return off % IMAGE_PAGE == 0 && bytes >= least && off <= all && bytes <= all - off;
}

int image_open(int fd, bool writable, struct image *ret)
{
	uint64_t bytes;
	int r = file_bytes(fd, &bytes);

	if (r < 0)
		return err_fwd(r);
	if (bytes < IMAGE_PAGE)
		return err_new(-EBADMSG);
	uint8_t *map = mmap(
		NULL, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return err_new(-errno);
	*ret = (struct image){.map = map, .bytes = bytes, .head = (const void *)map};
	const struct image_head *h = ret->head;
	bool known = h->version == IMAGE_VERSION && h->layout_major == SHM_LAYOUT_MAJOR;
	bool ok = h->magic == IMAGE_MAGIC && h->file_bytes == bytes &&
	          range_ok(h->ctl_off, h->ctl_bytes, sizeof *ret->ctl, bytes);
	for (uint32_t p = 0; p < SHM_POOLS_MAX && ok; p++)
		ok = range_ok(h->pool[p].off, h->pool[p].bytes, 0, bytes);
	if (!ok || !known) {
		image_close(ret);
		return err_new(ok ? -EPROTONOSUPPORT : -EBADMSG);
	}
	ret->ctl = (struct shm_control *)(void *)(map + h->ctl_off);
	return 0;
}

void image_close(struct image *im)
{
	(void)munmap(im->map, im->bytes);
	*im = (struct image){0};
}
