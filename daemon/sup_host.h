/* sup_host.h - what this machine has: huge pages, memory, descriptors, its clock.
 *
 * Read anew for each decision, and a plain struct, so that a test can describe a
 * machine that it does not run on.  Nothing on the host is ever changed.
 */
#ifndef HC_DAEMON_SUP_HOST_H
#define HC_DAEMON_SUP_HOST_H

#include <stdbool.h>
#include <stdint.h>

/* Words of .../transparent_hugepage/shmem_enabled.  UNKNOWN: the kernel has no such file. */
enum sup_shmem {
	SUP_SHMEM_UNKNOWN,
	SUP_SHMEM_NEVER, /* "deny" too */
	SUP_SHMEM_ADVISE,
	SUP_SHMEM_WITHIN_SIZE,
	SUP_SHMEM_ALWAYS, /* "force" too */
};

/* The pool of huge pages of one size. */
struct sup_huge {
	bool exists;       /* the kernel has this size */
	uint64_t n_total;  /* nr_hugepages */
	uint64_t n_usable; /* could be had now: free, not reserved, and what overcommit allows */
};

enum { SUP_HUGE_2M, SUP_HUGE_1G, SUP_HUGE_N };

struct sup_host {
	struct sup_huge huge[SUP_HUGE_N];
	enum sup_shmem shmem;
	uint64_t available_bytes;    /* MemAvailable; UINT64_MAX: unknown */
	uint64_t cgroup_limit_bytes; /* smallest memory.max above us; UINT64_MAX: none */
};

/* Fills *ret; what cannot be read is unknown, or absent. */
void sup_host_read(struct sup_host *ret);

/* CLOCK_MONOTONIC minus that of the first time namespace, ns; 0 where there are none. */
int64_t sup_host_time_off_ns(void);

/* CLOCK_MONOTONIC, and CLOCK_REALTIME, in ns. */
uint64_t sup_host_mono_ns(void);
uint64_t sup_host_real_ns(void);

/* Raises the limit of open descriptors to `n`, or as far as this user may.  Returns the limit. */
uint64_t sup_host_files_raise(uint64_t n);

#endif
