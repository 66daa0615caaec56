/* hct.h - what every tool on the probes does: options, files, waiting, what it says at the end.
 *
 *	static const struct hct_about about = {.name = "hctop", ...};
 *	int status = hct_begin(&t, &about, argc, argv);       options; the daemon; N is wanted from here on
 *	struct hctop_bpf *b = hctop_bpf__open();              its read-only data: daemon, store
 *	hct_load(&t, b->obj), hct_attach(&t, probes, n)       also to files that new clients bring
 *	while (hct_next(&t))                                  an interval is over
 *		print what the maps have
 *	hct_end(&t)                                           events, lost events, what they took
 *
 * Exit status of a tool: 0 it ran; 1 it could not; 2 wrong options; 3 this user may not; 4 the kernel cannot.
 * One thread.  Nothing is owned by the caller but its skeleton.
 */
#ifndef HC_TOOLS_BPF_HCT_H
#define HC_TOOLS_BPF_HCT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <bpf/libbpf.h>
#include "../cli.h"
#include "../hypercache_admin.h"
#include "hct_shared.h"
#include "layout/l_control.h"

enum { HCT_OK = 0, HCT_FAILED = 1, HCT_USAGE = 2, HCT_RIGHTS = 3, HCT_KERNEL = 4 };
enum {
	HCT_FILES_MAX = 256, /* files that are looked at for probes */
	HCT_LINKS_MAX = 4096,
	HCT_PROBES_MAX = 16, /* of one tool */
};

/* An option of one tool alone: --name VALUE. */
struct hct_option {
	const char *name, *value, *meaning;
	/* Takes it; NULL, or what would be right. */
	const char *(*take)(const char *text);
};

struct hct_about {
	const char *name;
	const char *purpose;              /* one line */
	const char *details;              /* of --help, lines; or NULL */
	const struct hct_option *options; /* ends with name NULL; or NULL */
	bool reads;                       /* it hears of reads: --every counts */
	uint64_t every;                   /* its default */
	bool of_engine;                   /* all its probes are the engine's: no --pid */
};

struct hct_probe {
	struct bpf_program *program;
	const char *name;
	bool of_engine; /* in the daemon's file, else in clients' */
};

struct hct {
	const struct hct_about *about;
	char admin_path[ADMIN_PATH_BYTES];
	const char *socket, *admin, *store;
	const char *file[16]; /* --file */
	uint32_t n_file;
	int pid; /* -1: all */
	uint64_t every, interval_ms, duration_ms;
	bool json;

	uint64_t daemon_id;
	uint32_t store_idx; /* index + 1; 0: all */
	int32_t engine_pid;
	char store_name[SHM_STORES_MAX][SHM_NAME_BYTES];

	int probe_fd; /* as long as it is open, N holds */
	struct bpf_object *object;
	struct hct_probe probe[HCT_PROBES_MAX];
	uint32_t n_probes;
	struct hct_seen {
		uint64_t dev, ino;
		bool engine;
	} seen[HCT_FILES_MAX];
	uint32_t n_seen, n_attached; /* n_attached: files with probes */
	struct bpf_link *link[HCT_LINKS_MAX];
	uint32_t n_links;
	uint64_t
		trap_ns; /* what the trap of an event costs the program that it is in, without the BPF program */
	int stats_fd; /* as long as it is open, the kernel counts what BPF programs take; -1: it does not */
	uint64_t began_ns, next_ns;
	uint64_t former_ns; /* when the last interval ended */
	double seconds;     /* of the interval that is over */
};

/* Options, the daemon, its stores; asks it for N.  -1: go on; else the exit status, and all has been said. */
int hct_begin(struct hct *t, const struct hct_about *about, int argc, char **argv);
/* Sets the constants of hct.bpf.h in an opened skeleton. */
#define HCT_CONSTANTS(b, t) \
	((b)->rodata->hct_daemon = (t)->daemon_id, (b)->rodata->hct_store = (t)->store_idx)
/* Loads what was opened.  object NULL: it could not even be opened.  -1 or an exit status. */
int hct_load(struct hct *t, struct bpf_object *object);
/* Attaches the programs to all files that have their probes, and says that it is ready.  -1 or an exit status. */
int hct_attach(struct hct *t, const struct hct_probe *probes, uint32_t n);
/* Waits until the interval is over.  ring: events that are consumed meanwhile, or NULL.  False: it is time to end, and
 * t->seconds is what is left. */
bool hct_next(struct hct *t, struct ring_buffer *ring);
/* What it heard and missed, and took; detaches.  The exit status. */
int hct_end(struct hct *t);

/* hct_attach.c: files that clients have mapped since.  How many were new. */
uint32_t hct_attach_new(struct hct *t);
void hct_detach(struct hct *t);
/* What an event costs, measured with one of our own. */
uint64_t hct_calibrate_ns(struct bpf_object *object);
struct hct_total hct_total_now(const struct hct *t);

/* The name of the store at that index. */
const char *hct_store(const struct hct *t, uint32_t idx);
/* The file and place in it that an address of a process is in, "libc.so.6+0x1234" or the function's name if its
 * file has one. */
void hct_symbol(int pid, uint64_t address, char *to, size_t to_bytes);

/* hct_print.c */
void hct_hist_print(const char *title, const char *unit, const struct hct_hist *h);
void hct_hist_json(struct json *j, const char *name, const struct hct_hist *h);
/* The value below which that part of them lies: the upper end of its slot. */
uint64_t hct_hist_part(const struct hct_hist *h, double part);
/* A key for people: what is not printable as \xNN.  shown: bytes that are there; bytes: its real length. */
void hct_key_print(const void *key, size_t shown, size_t bytes, char *to, size_t to_bytes);

#endif
