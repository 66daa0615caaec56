/* t_disk.c - see t_disk.h. */
#include "t_disk.h"
#include <errno.h>
#include <string.h>
#include "t.h"

enum { SECTOR = 512, BLOCK = 4096 };

static uint64_t below(struct t_disk *d, uint64_t n) { return t_random_from(&d->rng) % n; }

static void on_write(struct wal_io *io, int fd, uint64_t off, const void *from, uint32_t bytes,
	struct wal_io_write *w)
{
	struct t_disk *d = (struct t_disk *)io;

	CHECK(fd >= 0 && fd < T_DISK_FILES && d->file[fd].number);
	CHECK(off % BLOCK == 0 && bytes % BLOCK == 0 && (uintptr_t)from % BLOCK == 0);
	CHECK(bytes > 0 && off + bytes <= T_DISK_FILE_BYTES && !w->armed);
	w->armed = true;
	d->n_writes++;
	for (int i = 0; i < T_DISK_WRITES; i++)
		if (!d->write[i].armed) {
			d->write[i].w = w;
			d->write[i].from = from;
			d->write[i].file = (uint32_t)fd;
			d->write[i].off = off;
			d->write[i].bytes = bytes;
			d->write[i].armed = true;
			return;
		}
	t_fail(__FILE__, __LINE__, "more than %d writes are under way", T_DISK_WRITES);
}

void t_disk_init(struct t_disk *d, uint64_t seed)
{
	memset(d, 0, sizeof *d);
	d->io = (struct wal_io){.write = on_write, .how = "simulated"};
	d->rng = seed;
}

/* A dead engine's writes come here yet: whoever recycles files waits for its lock first (rule P24). */
static bool is_awaited(const struct t_disk *d, int file)
{
	for (int i = 0; i < T_DISK_WRITES; i++)
		if (d->write[i].armed && d->write[i].file == (uint32_t)file)
			return true;
	return false;
}

int t_disk_make(struct t_disk *d, uint64_t number)
{
	int begin = (int)below(d, T_DISK_FILES);

	for (int n = 0; n < T_DISK_FILES; n++) {
		int i = (begin + n) % T_DISK_FILES;
		if (d->file[i].number || is_awaited(d, i))
			continue;
		d->file[i].number = number;
		d->file[i].in_use = true;
		d->file[i].last_lsn = 0;
		memset(d->file[i].bad, 0, sizeof d->file[i].bad);
		return i;
	}
	return -1;
}

/* The sectors of a write that chance wants. */
static void land(struct t_disk *d, const struct t_disk_write *w, uint32_t bytes, bool torn)
{
	const uint8_t *from = w->w ? w->from : w->bytes_of_dead;
	uint8_t *to = d->file[w->file].bytes + w->off;

	for (uint32_t at = 0; at < bytes; at += SECTOR)
		if (!d->file[w->file].bad[(w->off + at) / BLOCK] && (!torn || below(d, 2)))
			memcpy(to + at, from + at, SECTOR);
	d->n_torn += torn;
}

static struct t_disk_write *any(struct t_disk *d, bool of_dead)
{
	struct t_disk_write *found = NULL;
	uint64_t n = 0;

	for (int i = 0; i < T_DISK_WRITES; i++) {
		struct t_disk_write *w = &d->write[i];
		if (w->armed && (w->w == NULL) == of_dead && below(d, ++n) == 0)
			found = w;
	}
	return found;
}

bool t_disk_turn(struct t_disk *d)
{
	struct t_disk_write *w = any(d, false);
	uint64_t chance = below(d, 1000);

	if (!w)
		return false;
	int result = (int)w->bytes;
	if (d->full) {
		result = -ENOSPC;
	} else if (chance < d->fail_of_1000) {
		land(d, w, w->bytes, true);
		for (uint32_t at = 0; at < w->bytes; at += BLOCK)
			d->file[w->file].bad[(w->off + at) / BLOCK] = 1;
		result = -EIO;
	} else if (chance < d->fail_of_1000 + d->short_of_1000) {
		result = (int)below(d, w->bytes / SECTOR) * SECTOR;
		land(d, w, (uint32_t)result, false);
	} else {
		land(d, w, w->bytes, false);
	}
	d->n_failed += result != (int)w->bytes;
	struct wal_io_write *who = w->w;
	w->armed = false;
	who->armed = false;
	who->done(who->arg, result);
	return true;
}

/* The dead have written so much that the next engine could find no place. */
static bool is_crowded(const struct t_disk *d)
{
	int n = 0;

	for (int i = 0; i < T_DISK_WRITES; i++)
		n += d->write[i].armed;
	return n > T_DISK_WRITES - WAL_WRITES_MAX;
}

void t_disk_power_off(struct t_disk *d)
{
	struct t_disk_write *w;

	for (int dead = 0; dead < 2; dead++)
		while ((w = any(d, dead))) {
			uint64_t how = below(d, 3);
			if (how)
				land(d, w, w->bytes, how == 1);
			w->armed = false;
		}
}

void t_disk_abandon(struct t_disk *d)
{
	while (is_crowded(d) && t_disk_land(d))
		;
	for (int i = 0; i < T_DISK_WRITES; i++) {
		struct t_disk_write *w = &d->write[i];
		if (!w->armed || !w->w)
			continue;
		memcpy(w->bytes_of_dead, w->from, w->bytes);
		w->w = NULL;
	}
}

bool t_disk_land(struct t_disk *d)
{
	struct t_disk_write *w = any(d, true);

	if (!w)
		return false;
	land(d, w, w->bytes, false);
	w->armed = false;
	d->n_late++;
	return true;
}

size_t t_disk_files(const struct t_disk *d, struct wal_file ret[T_DISK_FILES])
{
	size_t n = 0;

	for (uint64_t last = 0;; n++) {
		int next = -1;
		for (int i = 0; i < T_DISK_FILES; i++)
			if (d->file[i].number > last &&
				(next < 0 || d->file[i].number < d->file[next].number))
				next = i;
		if (next < 0)
			return n;
		last = d->file[next].number;
		ret[n] = (struct wal_file){.number = last,
			.fd = -1,
			.map = d->file[next].bytes,
			.bytes = T_DISK_FILE_BYTES};
	}
}
