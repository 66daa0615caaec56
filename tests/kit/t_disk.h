/* t_disk.h - a simulated disk for the log (daemon/wal/wal_io.h): seeded, and worse than real ones.
 *
 *   t_disk_write       a write waits; nothing of it is on the disk
 *   t_disk_turn        one of those that wait, any one, is done: it is on the disk, or it failed
 *   t_disk_power_off   the rest is lost, or is there, or is there in part: sector by sector (512 bytes)
 *   t_disk_abandon     the engine is dead: what it wrote will still land, some time later (t_disk_land)
 *
 * A write that fails may have landed in part.  What is written again over a place where a write has failed is said to be
 * good, and is not there: so disks and kernels do.
 *
 * Files are places of one size with a number, which may change: a recycled one keeps its bytes.  All of it lies in the
 * struct: where that is shared, a process may die and another one go on.
 */
#ifndef HC_T_DISK_H
#define HC_T_DISK_H
#include "../../daemon/wal/wal_io.h"
#include "../../daemon/wal/wal_read.h"

enum { T_DISK_FILES = 48, T_DISK_WRITES = 8, T_DISK_FILE_BYTES = 64 << 10 };

struct t_disk_write {
	struct wal_io_write *w; /* NULL: who waited for it is dead */
	const uint8_t *from;    /* as long as the engine lives */
	uint8_t bytes_of_dead[T_DISK_FILE_BYTES];
	uint32_t file, bytes;
	uint64_t off;
	bool armed;
};

struct t_disk {
	struct wal_io io; /* the first member */
	uint64_t rng;
	uint32_t fail_of_1000, short_of_1000; /* of writes that are done */
	bool full;                            /* every write is answered ENOSPC */
	uint64_t n_writes, n_failed, n_torn, n_late;
	struct t_disk_write write[T_DISK_WRITES];
	struct {
		uint64_t number; /* 0: there is no such file */
		bool in_use;     /* a log has it */
		uint64_t last_lsn;
		uint8_t bad[T_DISK_FILE_BYTES / 4096]; /* blocks where a write has failed */
		uint8_t bytes[T_DISK_FILE_BYTES] __attribute__((aligned(4096)));
	} file[T_DISK_FILES];
};

void t_disk_init(struct t_disk *d, uint64_t seed);
/* A file of zeroes, or one that is not used, whatever it holds, under a new number: its index, which is the descriptor
 * that the log gets.  -1: no place. */
int t_disk_make(struct t_disk *d, uint64_t number);
/* One write is done.  false: none waits. */
bool t_disk_turn(struct t_disk *d);
void t_disk_power_off(struct t_disk *d);
void t_disk_abandon(struct t_disk *d);
/* One write of a dead engine lands; false: there is none. */
bool t_disk_land(struct t_disk *d);
/* The files that there are, by number; how many. */
size_t t_disk_files(const struct t_disk *d, struct wal_file ret[T_DISK_FILES]);

#endif
