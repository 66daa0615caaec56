/* eng_recover.c - the log when an engine starts: taken over from a dead one, or what is on disk comes into fresh memory.
 *
 *   all files of the log locked and let go    a dead engine's last writes have ended (rule P24)
 *   memory of a living daemon                 staging adopted; its last record counts if the intent happened (rule P23)
 *   fresh memory                              newest good checkpoint, else the one before; then the log from there
 *   journal.recovered                         memory has it all.  An engine that dies in between begins again
 *   the log goes on in a new segment
 *
 * A torn tail is cut: nobody was told of it.  Damage in the middle ends the start, with what each choice would lose, until
 * the operator has chosen (hypercached --recover).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>
#include "base/check.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "eng.h"
#include "eng_apply.h"
#include "eng_load.h"
#include "eng_log.h"
#include "segments.h"
#include "wal/wal_read.h"

enum {
	LOCK_TRIES = 6000, /* x 5 ms: how long a dead engine's writes are awaited */
	LOCK_NS = 5000000,
	BEAT_RECORDS = 4096, /* between two signs of life */
};

static void *stage_of(const struct eng *e)
{
	return (uint8_t *)e->journal + e->journal->frames_off;
}

/* -------------------------------------------------------------------- locks */

/* Until whoever wrote there is gone, its ring's last writes too.  0 or -errno. */
static int lock_await(struct eng *e, int fd, uint64_t number)
{
	const struct timespec pause = {.tv_nsec = LOCK_NS};

	for (int i = 0; i < LOCK_TRIES; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK && errno != EINTR)
			return err_new(-errno);
		shm_store_rlx(&e->ctl->heartbeat_ns, eng_clock_ns());
		(void)nanosleep(&pause, NULL);
	}
	log_error("segment %llu of the log is still being written by another engine",
		(unsigned long long)number);
	return err_new(-EBUSY);
}

/* All files of the log, their locks taken.  0, and *ret_n of them in *ret (heap), which files_close() lets go. */
static int files_open(struct eng *e, struct wal_file **ret, size_t *ret_n)
{
	_cleanup_free_ uint64_t *number = NULL;
	int n = segments_read(e->h->wal_dir_fd, &number), r = n < 0 ? n : 0;
	struct wal_file *f = calloc(n > 0 ? (size_t)n : 1, sizeof *f);

	if (!f)
		return err_new(-ENOMEM);
	*ret = f;
	*ret_n = 0;
	for (int i = 0; i < n && r == 0; i++) {
		int fd = segments_open(e->h->wal_dir_fd, number[i], O_RDWR);
		if (fd == -ENOENT) /* the supervisor shortens the log: nobody needs it */
			continue;
		if (fd < 0)
			return err_fwd(fd);
		struct wal_file *at = &f[(*ret_n)++];
		*at = (struct wal_file){.number = number[i], .fd = fd};
		off_t bytes = lseek(fd, 0, SEEK_END);
		at->bytes = bytes > 0 ? (uint64_t)bytes : 0;
		r = lock_await(e, fd, number[i]);
	}
	return err_fwd(r);
}

static void files_close(struct wal_file *f, size_t n)
{
	for (size_t i = 0; i < n; i++)
		(void)close(f[i].fd);
	free(f);
}

/* -------------------------------------------------------------------- replay */

struct replay {
	struct eng *e;
	struct eng_applied applied;
	uint64_t until_beat;
	uint64_t began_ns, told_ns, n;
	uint64_t id_of[SHM_STORES_MAX]; /* log_id of e->store[i]; 0: not to be filled */
	bool told_damage;
};

/* The daemon's id of a store that the log calls so; 0: none that is durable. */
static uint64_t store_of(const struct replay *p, uint64_t log_id)
{
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++)
		if (p->id_of[i] == log_id && log_id)
			return p->e->store[i].id;
	return 0;
}

static int replay_record(void *arg, const struct wal_read_record *in)
{
	static const enum eng_apply_kind kinds[] = {[WAL_SET] = ENG_APPLY_SET,
		[WAL_DELETE] = ENG_APPLY_DELETE,
		[WAL_TOUCH] = ENG_APPLY_TOUCH,
		[WAL_CLEAR] = ENG_APPLY_CLEAR,
		[WAL_DROP] = ENG_APPLY_CLEAR,
		[WAL_EVICT] = ENG_APPLY_DELETE};
	struct replay *p = arg;
	const struct wal_record *r = in->r;

	p->n++;
	if (r->kind >= sizeof kinds / sizeof *kinds || r->kind == WAL_STORE || r->kind == 0)
		return 0; /* of a later version: it concerns nothing that this one keeps */
	struct eng_after a = {.kind = kinds[r->kind],
		.store_id = store_of(p, r->store_id),
		.lsn = r->lsn,
		.key = in->key,
		.key_bytes = r->key_bytes,
		.value = in->value,
		.value_bytes = r->value_bytes,
		.flags = r->flags,
		.ttl_ms = r->ttl_ms,
		.created_ns = r->created_ns,
		.modified_ns = r->modified_ns,
		.expires_ns = r->expiry_ns,
		.stamp = r->stamp};
	if (r->marks & WAL_ABSENT)
		a.marks |= SHM_LENS_ABSENT;
	if (r->marks & WAL_FRESH) {
		a.marks |= SHM_LENS_FRESH;
		a.stamp = 0;
		a.fresh_until_ns = r->stamp;
		a.took_ms = r->took_ms;
	}
	if (a.kind != ENG_APPLY_CLEAR && (r->key_bytes == 0 || r->key_bytes > SHM_KEY_BYTES_MAX))
		return 0;
	if (MUTANT(745)) /* 745: what the log says is read, and forgotten */
		return 0;
	if (a.store_id)
		STEP("recover:record");
	int done = eng_apply(p->e, &a, &p->applied);
	return done < 0 ? done : 0;
}

static void replay_told(struct replay *p, const char *what, uint64_t done_bytes, uint64_t all_bytes)
{
	uint64_t now_ns = eng_clock_ns();

	shm_store_rlx(&p->e->ctl->heartbeat_ns, now_ns);
	if (now_ns - p->told_ns < ENG_NS_PER_S)
		return;
	double s = (double)(now_ns - p->began_ns) / 1e9, left = 0;
	if (done_bytes && all_bytes > done_bytes)
		left = s / (double)done_bytes * (double)(all_bytes - done_bytes);
	p->told_ns = now_ns;
	log_info("recovery: %llu of %llu MiB of %s, %.0f MiB/s, %.0f s left",
		(unsigned long long)(done_bytes >> 20), (unsigned long long)(all_bytes >> 20), what,
		s > 0 ? (double)(done_bytes >> 20) / s : 0, left);
}

static void replay_progress(void *arg, uint64_t done_bytes, uint64_t all_bytes)
{
	replay_told(arg, "the log", done_bytes, all_bytes);
}

static void replay_damage(void *arg, const struct wal_damage *d)
{
	struct replay *p = arg;

	p->told_damage = true;
	log_error("the log is damaged: segment %llu, byte %llu: %s. The last good change before it "
		  "is "
		  "%llu, the next one behind it %llu",
		(unsigned long long)d->segment, (unsigned long long)d->off,
		wal_damage_name(d->kind), (unsigned long long)d->last_lsn,
		(unsigned long long)d->next_lsn);
	if (p->e->h->recover == SUP_RECOVER_CUT || p->e->h->recover == SUP_RECOVER_SKIP)
		return;
	log_error(
		"choose: `hypercached --recover=skip` leaves out what cannot be read (%llu frames; "
		"changes between %llu and %llu) and keeps the %llu changes behind it",
		(unsigned long long)d->lost_frames, (unsigned long long)d->last_lsn,
		(unsigned long long)d->next_lsn, (unsigned long long)d->after_records);
	log_error("or: `hypercached --recover=cut` ends the log before it, and loses those %llu "
		  "changes "
		  "too: no gap. Keep a copy of the folder first",
		(unsigned long long)d->after_records);
}

static enum wal_on_damage choice_of(const struct eng *e)
{
	switch (e->h->recover) {
	case SUP_RECOVER_CUT:
		return WAL_ON_DAMAGE_TRUNCATE;
	case SUP_RECOVER_SKIP:
		return WAL_ON_DAMAGE_SKIP;
	default:
		return WAL_ON_DAMAGE_STOP;
	}
}

static int replay_log(struct replay *p, const struct wal_file *f, size_t n, uint64_t from_lsn,
	struct wal_read_result *ret)
{
	bool fresh = shm_load_rlx(&p->e->journal->recovered) == 0;
	const struct wal_read_opts opts = {.files = f,
		.n_files = n,
		.identity = p->e->h->log_id,
		.from_lsn = from_lsn,
		.choice = choice_of(p->e),
		.sync = true,
		.record = fresh ? replay_record : NULL, /* else only its end is looked for */
		.damage = replay_damage,
		.progress = replay_progress,
		.arg = p};
	int r = wal_read(&opts, ret);

	p->e->data_refused = r == -EBADMSG && p->told_damage;
	if (p->e->data_refused)
		log_error("recovery ends here, and nothing was changed on disk");
	else if (r < 0)
		(void)log_fail(r, "the log cannot be read");
	return err_fwd(r);
}

static void tell(const struct replay *p, const struct wal_read_result *log)
{
	const struct eng_applied *a = &p->applied;
	double s = (double)(eng_clock_ns() - p->began_ns) / 1e9;

	log_info("recovered in %.2f s: %llu records of %llu segments, %llu entries set, %llu "
		 "changes "
		 "were there already, %llu expired; the last change is %llu%s",
		s, (unsigned long long)log->n_records, (unsigned long long)log->n_segments,
		(unsigned long long)a->set, (unsigned long long)a->older,
		(unsigned long long)a->expired, (unsigned long long)a->max_lsn,
		log->torn ? "; a torn end was cut, of which nobody had been told" : "");
	if (a->no_room)
		log_warn("recovery: %llu entries found no room in their pools and are gone",
			(unsigned long long)a->no_room);
	if (a->no_store)
		log_warn("recovery: %llu changes are of stores that are not in the configuration, "
			 "or "
			 "not durable there, and were left out",
			(unsigned long long)a->no_store);
}

/* ---------------------------------------------------------------------- checkpoint */

static uint64_t checkpoint_store(void *arg, const struct archive_store *s)
{
	return store_of(arg, s->id); /* the archive has the log's ids */
}

static void checkpoint_progress(void *arg, uint64_t bytes, uint64_t of)
{
	replay_told(arg, "the checkpoint", bytes, of);
}

/* What the newest good one has, if memory is empty; *ret_from_lsn: the log is needed from there on; *ret_end_lsn: nothing
 * in it is newer.  0 or -errno. */
static int load_checkpoint(struct replay *p, uint64_t *ret_from_lsn, uint64_t *ret_end_lsn)
{
	struct eng_load load = {.resolve = checkpoint_store,
		.beat = checkpoint_progress,
		.arg = p,
		.log_id = p->e->h->log_id};

	if (shm_load_rlx(&p->e->journal->recovered) || p->e->h->data_dir_fd < 0)
		return 0;
	int r = eng_load_newest(p->e, p->e->h->data_dir_fd, &load, &p->applied);
	if (r < 0)
		return log_fail(r, "the checkpoints cannot be read");
	if (r == ENG_LOAD_NONE) {
		*ret_from_lsn =
			1; /* all of the log, then: a beginning that is not there is damage */
		return 0;
	}
	*ret_from_lsn = load.head.begin_lsn + 1;
	*ret_end_lsn = load.end.end_lsn;
	log_info("recovery: %llu entries of checkpoint %s; the log from change %llu on",
		(unsigned long long)load.end.n_entries, load.name,
		(unsigned long long)*ret_from_lsn);
	return 0;
}

/* ---------------------------------------------------------------------- life */

static int recover(struct eng *e, const struct wal_file *f, size_t n, struct wal_end *ret_end)
{
	struct replay p = {.e = e, .began_ns = eng_clock_ns()};
	struct wal_read_result log = {.found = false};
	uint64_t from_lsn = 0, end_lsn = 0;

	p.told_ns = p.began_ns;
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++)
		if (e->store[i].id && e->store[i].durability)
			p.id_of[i] = e->store[i].log_id;
	eng_apply_begin(e, &p.applied);
	STEP("recover:begun");
	int r = load_checkpoint(&p, &from_lsn, &end_lsn);
	if (r == 0)
		r = replay_log(&p, f, n, from_lsn, &log);
	if (r < 0)
		return err_fwd(r);
	eng_apply_end(e, &p.applied);
	STEP("recover:applied");
	tell(&p, &log);
	*ret_end = log.end;
	/* New LSNs begin above all that was seen (rule P25): the log may have lost what it said of them. */
	if (ret_end->lsn < end_lsn && !MUTANT(762)) /* 762: they begin above the log's */
		ret_end->lsn = end_lsn;
	return 0;
}

static int log_new(struct eng *e)
{
	struct eng_log *l = calloc(1, sizeof *l);

	if (!l)
		return err_new(-ENOMEM);
	e->log = l;
	eng_log_init(e, l, stage_of(e), e->journal->frames_bytes);
	int r = wal_io_loop_new(e->loop, l->opts.stage, l->opts.stage_bytes, &l->io);
	if (r < 0)
		return log_fail(r, "the log cannot be written from here");
	l->opts.io = l->io;
	log_info("log: %s", l->io->how);
	return 0;
}

static void unsettled_decide(struct eng *e, uint64_t lsn)
{
	uint8_t *bases[SHM_POOLS_MAX];
	uint64_t bytes[SHM_POOLS_MAX];

	for (uint32_t i = 0; i < e->config->n_pools; i++) {
		bases[i] = e->pool[i].base;
		bytes[i] = e->pool[i].bytes;
	}
	bool happened = shm_journal_happened(
				e->journal, e->ctl, bases, bytes, e->config->n_pools) == lsn;
	wal_adopt_decide(e->log->w, happened || MUTANT(746)); /* 746: it always has */
}

int eng_log_adopt(struct eng *e)
{
	struct wal_adopted found;
	struct wal_file *f = NULL;
	size_t n = 0;

	if (e->h->wal_dir_fd < 0)
		return 0;
	int r = log_new(e);
	if (r < 0 || shm_load_acq(&e->journal->recovered) == 0) /* acq:journal.recovered */
		return err_fwd(r);
	r = files_open(e, &f, &n);
	files_close(f, n);
	if (r < 0)
		return log_fail(r, "the log of the last engine cannot be taken over");
	r = wal_adopt(&e->log->opts, &e->log->w, &found);
	if (r == WAL_NO_STAGE) {
		log_error("what waited for the disk is damaged: the memory is as it was, and the "
			  "log goes "
			  "on behind what is on disk; the changes of the last moments may be "
			  "missing there");
		return 0;
	}
	if (r < 0)
		return err_fwd(r);
	if (found.unsettled_lsn)
		unsettled_decide(e, found.unsettled_lsn);
	STEP("recover:adopted");
	return 0;
}

/* The log begins, or goes on behind what is in the files; memory gets what they hold if it is fresh. */
int eng_log_recover(struct eng *e)
{
	struct wal_file *f = NULL;
	struct wal_end end = {0};
	size_t n = 0;

	if (!e->log || e->log->w)
		return 0;
	int r = files_open(e, &f, &n);
	if (r == 0)
		r = recover(e, f, n, &end);
	files_close(f, n);
	if (r == 0)
		r = wal_new(&e->log->opts, &end, &e->log->w);
	if (r < 0)
		return log_fail(r, "the data of durable stores cannot be recovered");
	STEP("recover:staged");
	shm_store_rel(&e->journal->recovered, 1); /* rel:journal.recovered */
	return 0;
}
