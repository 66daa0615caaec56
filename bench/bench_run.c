/* bench_run.c - see bench_run.h. */
#include "bench_run.h"
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bench_host.h"

enum {
	BUF_BYTES_MAX = 16 << 20,
	SAMPLES_MAX = 2000, /* single calls timed in a round */
	SAMPLES_MIN = 20,
	COPY_BYTES = 4096, /* so long a value costs about as much as finding it */
	WORD_BYTES = 32,
	WARM_PART = 4, /* of a round's operations, one of so many is done before them */
	KEY_SETS = 41, /* a prime: no job meets the same ones in every round */
};

/* One kind of one subject, or a mix of two. */
struct job {
	unsigned subject;
	const struct kind *kind; /* what is done; of a mix: the reads */
	const struct kind *set;  /* of a mix: the writes */
	char word[WORD_BYTES];
	uint64_t n; /* operations of a round */
	bool waits, next;
	double ns[ROUNDS_MAX], server_ns[ROUNDS_MAX]; /* of one operation */
	double both_ns[2][ROUNDS_MAX];
	float *sample; /* ns of one call */
	uint64_t n_samples;
};

/* Everything of a run. */
struct bench {
	const struct plan *plan;
	const struct run *run;
	struct draws draws; /* KEY_SETS of them */
	unsigned set_next;
	struct job job[JOBS_MAX];
	unsigned n_jobs;
	struct work work;
	double ns_per_tick, ticks_lost; /* lost: what reading the counter twice takes */
	/* the second worker */
	void *second[SUBJECTS_MAX];
	struct work second_work;
	pid_t child;
	pthread_t thread;
	int to_second, from_second; /* this side of two pipes */
	int second_in, second_out;  /* the other */
};

/* bare: 0, which the compiler is not to know */
static volatile uint64_t chain_mask;

static const char *const worker_words[] = {"1p", "2p", "2t"};

bool run_parse(struct run *ret, const char *text)
{
	char draw[16], workers[8], place[8], end;
	unsigned percent;

	if (sscanf(text, "%15[a-z]:%7[a-z0-9]:%u:%7[a-z]%c", draw, workers, &percent, place,
		    &end) != 4)
		return false;
	*ret = (struct run){.zipf = strcmp(draw, "zipf") == 0,
		.reads_percent = percent,
		.same_cpu = strcmp(place, "same") == 0};
	for (ret->workers = ONE; ret->workers <= TWO_THREADS; ret->workers++)
		if (strcmp(worker_words[ret->workers], workers) == 0)
			break;
	return ret->workers <= TWO_THREADS && percent <= 100 &&
	       (ret->zipf || strcmp(draw, "uniform") == 0) &&
	       (ret->same_cpu || strcmp(place, "other") == 0);
}

void work_init(struct work *w, const struct data *d)
{
	*w = (struct work){
		.batch_max = BUF_BYTES_MAX / d->value_bytes, .value_bytes = d->value_bytes};
	if (w->batch_max > BATCH_MAX)
		w->batch_max = BATCH_MAX;
	if (w->batch_max == 0)
		w->batch_max = 1;
	w->buf = data_values(d, w->batch_max);
	w->values = data_values(d, w->batch_max);
}

void work_fini(struct work *w)
{
	free(w->buf);
	free(w->values);
}

/* ------------------------------------------------------------ jobs */

/* set: of a mix, else NULL; next: as a chain. */
static void job_add(struct bench *b, unsigned subject, const struct kind *kind,
	const struct kind *set, bool next)
{
	const struct plan *p = b->plan;
	unsigned reads = b->run->reads_percent;
	double cost = kind->share;

	if (b->n_jobs == JOBS_MAX)
		subject_fail(p->subject[subject]->word, "too many jobs of one run");
	struct job *j = &b->job[b->n_jobs++];
	*j = (struct job){.subject = subject,
		.kind = kind,
		.set = set,
		.next = next,
		.waits = (kind->flags | (set ? set->flags : 0)) & KIND_WAITS};
	(void)snprintf(j->word, sizeof j->word, "%s%s",
		set ? p->subject[subject]->word : kind->word,
		set    ? "_mix"
		: next ? "_next"
		       : "");
	if (set)
		cost = (kind->share * reads + set->share * (100 - reads)) / 100.0;
	if (!(kind->flags & KIND_IN_PLACE) || set)
		cost *= 1 + (double)p->data.value_bytes / COPY_BYTES;
	j->n = (uint64_t)((double)p->draws / cost);
	j->n = j->n < BATCH_MAX ? BATCH_MAX : j->n;
	j->n = j->n > b->draws.n ? b->draws.n : j->n;
	j->sample = host_take(SAMPLES_MAX * (size_t)p->rounds * sizeof *j->sample);
}

static const struct kind *kind_with(const struct subject *s, unsigned flag)
{
	for (size_t i = 0; i < s->n_kinds; i++)
		if (s->kinds[i].flags & flag)
			return &s->kinds[i];
	return NULL;
}

static void jobs_make(struct bench *b)
{
	unsigned reads = b->run->reads_percent;

	for (unsigned s = 0; s < b->plan->n_subjects; s++) {
		const struct subject *subject = b->plan->subject[s];
		const struct kind *get = kind_with(subject, KIND_GET);
		const struct kind *set = kind_with(subject, KIND_SET);
		if (b->run->workers != ONE && !subject->second)
			continue;
		if (reads > 0 && reads < 100 && get && set)
			job_add(b, s, get, set, false);
		for (size_t i = 0; i < subject->n_kinds; i++) {
			const struct kind *k = &subject->kinds[i];
			bool writes = k->flags & KIND_WRITES;
			if (reads != (writes ? 0u : 100u))
				continue;
			if (b->plan->only && strcmp(b->plan->only, k->word) != 0)
				continue;
			job_add(b, s, k, NULL, false);
			if (k->flags & KIND_NEXT && b->run->workers == ONE)
				job_add(b, s, k, NULL, true);
		}
	}
}

/* ------------------------------------------------------------ one job, once */

/* Every so many operations of a mix are writes, evenly among the others. */
static uint64_t mix_do(const struct bench *b, const struct job *j, void *session,
	const struct work *w, const uint8_t *key)
{
	unsigned sets = 100 - b->run->reads_percent, due = 0;
	uint64_t sum = 0;

	for (uint64_t i = 0; i < j->n; i++, key += KEY_BYTES) {
		due += sets;
		if (due >= 100) {
			due -= 100;
			sum += j->set->run(session, w, key, 1);
		} else {
			sum += j->kind->run(session, w, key, 1);
		}
	}
	return sum;
}

/* Keys that nobody has just been given: what one job has brought into the caches is of no use to the next. */
static unsigned set_take(struct bench *b) { return b->set_next++ % KEY_SETS; }

/* The table, the code and the server's are in the caches again, after others had them. */
static void job_warm(struct bench *b, const struct job *j)
{
	const uint8_t *key = draws_at(&b->draws, set_take(b));

	(void)j->kind->run(b->plan->session[j->subject], &b->work, key, j->n / WARM_PART + 1);
}

/* Each key lies where the value before says, which is where it lies anyway: so no look-up begins before the
 * last one has ended, as where a program does something with what it has found. */
static uint64_t chain_do(
	const struct job *j, void *session, const struct work *w, const uint8_t *key)
{
	uint64_t sum = 0, word = 0, none = chain_mask;

	for (uint64_t i = 0; i < j->n; i++)
		sum += word = j->kind->run(session, w, key + i * KEY_BYTES + (word & none), 1);
	return sum;
}

/* ns of one operation. */
static double job_do(const struct bench *b, const struct job *j, void *session,
	const struct work *w, unsigned set)
{
	const uint8_t *key = draws_at(&b->draws, set);
	uint64_t (*now)(void) = j->waits ? host_now_ns : host_thread_ns, sum, t = now();

	if (j->set)
		sum = mix_do(b, j, session, w, key);
	else if (j->next)
		sum = chain_do(j, session, w, key);
	else
		sum = j->kind->run(session, w, key, j->n);
	t = now() - t;
	if (sum != draws_sum(key, j->n))
		subject_fail(j->word, "not every key was found as it was set");
	return (double)t / (double)j->n;
}

/* Times single calls. */
static void job_sample(struct bench *b, struct job *j)
{
	const uint8_t *key = draws_at(&b->draws, set_take(b));
	unsigned batch = j->kind->batch;
	uint64_t n = j->n / batch / 8;
	void *session = b->plan->session[j->subject];

	n = n < SAMPLES_MIN ? SAMPLES_MIN : n > SAMPLES_MAX ? SAMPLES_MAX : n;
	for (uint64_t i = 0; i < n && (i + 1) * batch <= b->draws.n;
		i++, key += batch * KEY_BYTES) {
		const struct kind *k = j->set && i * 100 / n >= b->run->reads_percent ? j->set
		                                                                      : j->kind;
		uint64_t t = host_ticks();
		(void)k->run(session, &b->work, key, batch);
		double ticks = (double)(host_ticks() - t) - b->ticks_lost;
		j->sample[j->n_samples++] = (float)((ticks < 0 ? 0 : ticks) * b->ns_per_tick);
	}
}

static uint64_t served_ns(const struct bench *b, const struct job *j)
{
	const struct subject *s = b->plan->subject[j->subject];
	int pid[PIDS_MAX];
	uint64_t sum = 0;

	for (size_t n = s->pids ? s->pids(pid) : 0; n > 0; n--)
		sum += host_cpu_ns(pid[n - 1]);
	return sum;
}

/* ------------------------------------------------------------ the second worker */

struct order {
	uint16_t job, set;
};

/* Does what it is told until nobody tells it anything. */
static void second_main(struct bench *b, enum join how)
{
	struct order o;

	(void)host_pin(1);
	work_init(&b->second_work, &b->plan->data);
	for (unsigned s = 0; s < b->plan->n_subjects; s++)
		if (b->plan->subject[s]->second)
			b->second[s] = b->plan->subject[s]->join(how);
	while (read(b->second_in, &o, sizeof o) == (ssize_t)sizeof o) {
		const struct job *j = &b->job[o.job];
		double ns = job_do(b, j, b->second[j->subject], &b->second_work, o.set);
		if (write(b->second_out, &ns, sizeof ns) != (ssize_t)sizeof ns)
			break;
	}
	for (unsigned s = 0; s < b->plan->n_subjects; s++)
		if (b->plan->subject[s]->second)
			b->plan->subject[s]->leave(b->second[s]);
	work_fini(&b->second_work);
}

static void *second_thread(void *bench)
{
	second_main(bench, JOIN_THREAD);
	return NULL;
}

static void second_start(struct bench *b)
{
	int to[2], from[2];
	pid_t self = getpid();

	if (pipe(to) != 0 || pipe(from) != 0)
		subject_fail("second worker", "no pipe");
	b->to_second = to[1];
	b->second_in = to[0];
	b->from_second = from[0];
	b->second_out = from[1];
	if (b->run->workers == TWO_THREADS) {
		if (pthread_create(&b->thread, NULL, second_thread, b) != 0)
			subject_fail("second worker", "no thread");
		return;
	}
	(void)fflush(NULL);
	b->child = fork();
	if (b->child < 0)
		subject_fail("second worker", "no process");
	if (b->child == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)close(b->to_second);
		(void)close(b->from_second);
		if (getppid() == self)
			second_main(b, JOIN_PROCESS);
		_exit(0);
	}
	(void)close(b->second_in);
	(void)close(b->second_out);
}

static void second_end(struct bench *b)
{
	int status = 0;

	(void)close(b->to_second);
	if (b->run->workers == TWO_THREADS) {
		(void)pthread_join(b->thread, NULL);
		(void)close(b->second_in);
		(void)close(b->second_out);
	} else {
		(void)waitpid(b->child, &status, 0);
	}
	(void)close(b->from_second);
	if (status != 0)
		subject_fail("second worker", "it failed");
}

static void both_do(struct bench *b, struct job *j, unsigned round)
{
	const struct order o = {(uint16_t)(j - b->job), (uint16_t)set_take(b)};

	if (write(b->to_second, &o, sizeof o) != (ssize_t)sizeof o)
		subject_fail("second worker", "it is gone");
	j->both_ns[0][round] = job_do(b, j, b->plan->session[j->subject], &b->work, set_take(b));
	if (read(b->from_second, &j->both_ns[1][round], sizeof(double)) != (ssize_t)sizeof(double))
		subject_fail("second worker", "it is gone");
}

/* ------------------------------------------------------------ rounds */

static void place(const struct bench *b)
{
	int pid[PIDS_MAX];

	for (unsigned s = 0; s < b->plan->n_subjects; s++)
		for (size_t n = b->plan->subject[s]->pids ? b->plan->subject[s]->pids(pid) : 0;
			n > 0; n--)
			if (!host_pin_process(pid[n - 1], b->run->same_cpu ? 0 : 1))
				fprintf(stderr, "bench: %s: process %d cannot be placed\n",
					b->plan->subject[s]->word, pid[n - 1]);
}

/* Nobody's background work is to be another's cost. */
static void settle(const struct bench *b, const struct job *j)
{
	if (b->plan->subject[j->subject]->settle)
		b->plan->subject[j->subject]->settle();
}

static void rounds_do(struct bench *b)
{
	for (unsigned k = 0; k < b->n_jobs; k++) /* the first time is not like the others */
		(void)job_do(b, &b->job[k], b->plan->session[b->job[k].subject], &b->work, 0);
	for (unsigned round = 0; round < b->plan->rounds; round++) {
		for (unsigned k = 0; k < b->n_jobs; k++) {
			struct job *j = &b->job[(k + round) % b->n_jobs];
			job_warm(b, j);
			uint64_t served = served_ns(b, j);
			j->ns[round] = job_do(
				b, j, b->plan->session[j->subject], &b->work, set_take(b));
			j->server_ns[round] = (double)(served_ns(b, j) - served) / (double)j->n;
			job_sample(b, j);
			if (b->run->workers != ONE)
				both_do(b, j, round);
			settle(b, j);
		}
	}
}

static void ticks_measure(struct bench *b)
{
	b->ns_per_tick = host_ns_per_tick();
	b->ticks_lost = 1e9;
	for (int i = 0; i < 1000; i++) {
		uint64_t t = host_ticks();
		double ticks = (double)(host_ticks() - t);
		b->ticks_lost = ticks < b->ticks_lost ? ticks : b->ticks_lost;
	}
}

/* ------------------------------------------------------------ JSON */

static int by_value(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

static void print_series(FILE *out, const char *word, const double *ns, unsigned n)
{
	fprintf(out, "\"%s\":[", word);
	for (unsigned i = 0; i < n; i++)
		fprintf(out, "%s%.2f", i ? "," : "", ns[i]);
	fprintf(out, "],");
}

static void print_job(const struct bench *b, struct job *j, FILE *out)
{
	static const struct {
		const char *word;
		double part;
	} marks[] = {{"p50", 0.5}, {"p99", 0.99}, {"p999", 0.999}};
	unsigned rounds = b->plan->rounds;

	fprintf(out, "\"%s\":{\"name\":\"%s%s\",", j->word, j->set ? j->word : j->kind->name,
		j->next ? ", one after the other" : "");
	print_series(out, "ns", j->ns, rounds);
	if (b->plan->subject[j->subject]->pids && j->waits)
		print_series(out, "server_ns", j->server_ns, rounds);
	if (b->run->workers != ONE) {
		print_series(out, "both_first_ns", j->both_ns[0], rounds);
		print_series(out, "both_second_ns", j->both_ns[1], rounds);
	}
	qsort(j->sample, j->n_samples, sizeof *j->sample, by_value);
	for (size_t i = 0; i < sizeof marks / sizeof *marks && j->n_samples; i++)
		fprintf(out, "\"%s\":%.1f,", marks[i].word,
			(double)j->sample[(size_t)(marks[i].part * (double)(j->n_samples - 1))]);
	fprintf(out, "\"samples\":%llu,\"batch\":%u,\"ops\":%llu}",
		(unsigned long long)j->n_samples, j->kind->batch, (unsigned long long)j->n);
}

void run_do(const struct plan *plan, const struct run *run, FILE *out)
{
	struct bench *b = host_take(sizeof *b);

	b->plan = plan;
	b->run = run;
	ticks_measure(b);
	draws_make(&b->draws, &plan->data, plan->draws, KEY_SETS, run->zipf);
	work_init(&b->work, &plan->data);
	jobs_make(b);
	place(b);
	if (run->workers != ONE)
		second_start(b);
	rounds_do(b);
	if (run->workers != ONE)
		second_end(b);
	fprintf(out,
		"{\"draw\":\"%s\",\"workers\":\"%s\",\"reads_percent\":%u,\"servers\":\"%s\","
		"\"jobs\":{",
		run->zipf ? "zipf" : "uniform", worker_words[run->workers], run->reads_percent,
		run->same_cpu ? "same" : "other");
	for (unsigned k = 0; k < b->n_jobs; k++) {
		fprintf(out, "%s", k ? "," : "");
		print_job(b, &b->job[k], out);
		free(b->job[k].sample);
	}
	fprintf(out, "}}");
	work_fini(&b->work);
	draws_free(&b->draws);
	free(b);
}
