/* bench_run.h - rounds: every kind of use once, one after the other, and again.
 *
 * What a machine does meanwhile (other work, another clock rate) lasts longer than a round; so it slows all
 * sides of a round, and ratios are taken within each round before their median is.  In each round the order
 * begins with another one.
 *
 * Time is that of the measuring thread's CPU where it waits for nobody, what other programs take away being
 * none of its costs; and wall time where it waits for a server.
 *
 * Two workers: the second one is a process, or a thread, on the second CPU.  In each round every job is
 * done by the first one alone, and then by both at once, each as much as the first one did.
 */
#ifndef HC_BENCH_RUN_H
#define HC_BENCH_RUN_H

#include <stdio.h>
#include "bench_subject.h"

enum { ROUNDS_MAX = 101, JOBS_MAX = 48, SUBJECTS_MAX = 16, RUNS_MAX = 64 };

enum workers { ONE, TWO_PROCESSES, TWO_THREADS };

/* One run over data that is there already. */
struct run {
	bool zipf;
	enum workers workers;
	unsigned
		reads_percent; /* 100: all kinds that read; 0: all that write; else a mix, of each subject */
	bool same_cpu; /* servers run on the CPU of the first worker; else on the second one */
};

/* "uniform:1p:100:other"; zipf, 2p, 2t, 0..100, same.  False: it is none. */
bool run_parse(struct run *ret, const char *text);

struct plan {
	uint64_t draws; /* of a round; each kind takes its share */
	unsigned rounds;
	const struct subject *subject[SUBJECTS_MAX];
	void *session[SUBJECTS_MAX];
	unsigned n_subjects;
	struct data data;
	const char *only; /* the word of the one kind wanted; NULL: all */
};

/* Buffers for one worker. */
void work_init(struct work *w, const struct data *d);
void work_fini(struct work *w);

/* Measures, and prints one JSON object: the run, and of each job all rounds.  Ends the program if something
 * was not found as it was set. */
void run_do(const struct plan *plan, const struct run *run, FILE *out);

#endif
