/* bench_host.h - what a benchmark needs of the machine: time, one CPU, a daemon, and their names.
 *
 * Errors are told to standard error, with the program's name; the caller ends.
 */
#ifndef HC_BENCH_HOST_H
#define HC_BENCH_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { HOST_TEXT_BYTES = 256, HOST_READY_MS = 60000, HOST_END_MS = 20000 };

uint64_t host_now_ns(void);
uint64_t host_thread_ns(void); /* of this thread's CPU */

/* The CPU's own counter, after everything before it has ended and before anything after it begins; and
 * what one step of it is. */
static inline uint64_t host_ticks(void)
{
#if defined(__x86_64__)
	__builtin_ia32_lfence();
	uint64_t t = __builtin_ia32_rdtsc();
	__builtin_ia32_lfence();
	return t;
#elif defined(__aarch64__)
	uint64_t t;
	__asm__ __volatile__("dsb sy; isb; mrs %0, cntvct_el0; isb" : "=r"(t) : : "memory");
	return t;
#else
	return host_now_ns();
#endif
}
double host_ns_per_tick(void);

/* The number that an option says, in plain decimal; ends the program, with status 2, if it is none from min
 * to max. */
uint64_t host_number(const char *text, uint64_t min, uint64_t max);

/* Zeroed memory, at a cache line; ends the program if there is none. */
void *host_take(size_t bytes);

/* Runs this process on its n-th allowed CPU alone.  False: there is no such one. */
bool host_pin(unsigned n);
unsigned host_cpus(void);
/* The same for all threads of another process; false: it is not ours to move, or gone. */
bool host_pin_process(pid_t pid, unsigned n);

/* CPU time of all its threads, in ns; 0: not to be had. */
uint64_t host_cpu_ns(pid_t pid);
/* The first child of a process; 0: none. */
pid_t host_child(pid_t pid);

/* KernelPageSize of the mapping that holds p, in KiB; 0: unknown.  *ret_thp, if it is mapped by
 * transparent huge pages. */
unsigned host_page_kb(const void *p, bool *ret_thp);

/* "Intel(R) ...", "6.1.0-..", each at most HOST_TEXT_BYTES with the final 0. */
void host_cpu_name(char ret[HOST_TEXT_BYTES]);
void host_kernel(char ret[HOST_TEXT_BYTES]);

/* A new folder in $TMPDIR or /tmp; ends the program if there can be none.  The second removes it when
 * it is empty again. */
void host_folder_make(char ret[HOST_TEXT_BYTES]);
void host_folder_remove(const char *folder);

/* A daemon of the benchmark's own, in a folder of its own. */
struct host_daemon {
	pid_t pid; /* 0: none */
	char dir[HOST_TEXT_BYTES];
	char socket[HOST_TEXT_BYTES];
};

/* What it is to have: a pool "main" with the store "default", and what is said further. */
struct host_config {
	uint64_t pool_bytes;
	bool huge;
	const char *pool;   /* lines of YAML behind those of the pool, or NULL */
	const char *stores; /* and behind those of the store */
};

/* Starts bindir/hypercached, and waits until it is ready.  It ends with this process, whatever ends that.
 * 0; -1 and said so. */
int host_daemon_start(struct host_daemon *d, const char *bindir, const struct host_config *config);
/* SIGTERM, waits for the end, removes the folder.  0: it ended with status 0. */
int host_daemon_stop(struct host_daemon *d);

#endif
