/* eng_session.c - sessions: who reads, since when, until the kernel says that it is dead.
 *
 *   FREE -> PUTTING -> LIVE -> ENDING -> FREE
 *
 *   PUTTING  the segment is made and in the scan set, the supervisor was asked to
 *            keep it; the client has nothing yet (rule P16)
 *   LIVE     the client has its descriptors; with or without a connection
 *   ENDING   over; the slot is used again when the supervisor has been told and
 *            the poll of the pidfd has ended
 *
 * Descriptions of one segment's memfd, which flock(2) tells apart (rule P18):
 *
 *   memfd      ours and the supervisor's; never locked; our mapping hangs on it
 *   given_fd   locked by us, sent to the client, closed by us: lives as long as the
 *              client's descriptor or any mapping of it does, forked children included
 *   a fresh one for each look: if it can lock, the one above is gone, and with it
 *              the client.  It is closed at once, so nobody ever waits for it.
 *
 * pin_gen of a slot moves on when its session ends.  A new session's segment is
 * fresh and all zero, so an old generation could not hurt it; but a client that said
 * goodbye and reads on in another thread finds its pins revoked instead of
 * reading reused memory unawares.
 */
#include "eng.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/check.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "op.h"
#include "step.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif

/* ------------------------------------------------------------------ scan set */

static void scan_add(struct eng_session *s)
{
	struct eng *e = s->e;

	s->scan_idx = e->n_scan++;
	e->scan_slot[s->scan_idx] = s->slot;
	e->scan[s->scan_idx] = (struct shm_scan_session){.seg = s->seg,
		.n_blocks = s->n_blocks,
		.slot = s->slot,
		.compiler_fence = s->compiler_fence,
		.hidden_pools = MUTANT(82) ? 0 : ~s->peer.read_pools}; /* 82: pins of any pool */
	for (uint32_t i = 0; i < s->n_blocks; i++)
		s->hot_ms[i] = e->now_ns / 1000000;
	eng_gauge(e, SHM_DC_sessions, e->n_scan);
}

int eng_session_grant(struct eng_session *s, uint32_t read_pools, uint32_t write_pools)
{
	const struct eng_peer was = s->peer;

	if (!(read_pools & ~was.read_pools))
		return 0;
	s->peer.read_pools |= read_pools;
	s->peer.write_pools |= write_pools;
	/* Whoever comes after us has to know before there can be a pin (the channel outlives us). */
	int r = MUTANT(603) ? 0
	                    : /* 603: only this engine knows */ eng_sup_send(
				      s->e, SUP_MSG_SESSION_RIGHTS, s, NULL, 0);
	if (r < 0) {
		s->peer = was;
		return err_fwd(r);
	}
	s->e->scan[s->scan_idx].hidden_pools = ~s->peer.read_pools;
	STEP("session:granted");
	return 0;
}

static void scan_remove(struct eng_session *s)
{
	struct eng *e = s->e;
	uint32_t last = --e->n_scan;

	e->scan[s->scan_idx] = e->scan[last];
	e->scan_slot[s->scan_idx] = e->scan_slot[last];
	e->session[e->scan_slot[s->scan_idx]].scan_idx = s->scan_idx;
	eng_gauge(e, SHM_DC_sessions, e->n_scan);
}

/* --------------------------------------------------------------------- death */

/* ENDING is over when nothing needs the slot any more. */
static void session_release(struct eng_session *s)
{
	struct eng *e = s->e;

	if (s->drop_unsent && eng_sup_send(e, SUP_MSG_SESSION_DROP, s, NULL, 0) == 0)
		s->drop_unsent = false;
	if (s->drop_unsent || s->pid_wait.armed)
		return;
	if (s->pidfd >= 0)
		eng_loop_close(e->loop, s->pidfd);
	*s = (struct eng_session){
		.slot = s->slot, .memfd = -1, .pidfd = -1, .given_fd = -1, .e = e};
}

static void session_pid_ended(void *arg, int result)
{
	struct eng_session *s = arg;

	if (s->state == ENG_SESSION_ENDING)
		session_release(s);
	else if (result >= 0)
		eng_session_look(s); /* a forked child may keep it: then the ticks look on */
}

static void session_watch(struct eng_session *s)
{
	s->pid_wait = (struct eng_wait){.done = session_pid_ended, .arg = s};
	if (s->pidfd >= 0)
		eng_loop_readable(s->e->loop, s->pidfd, &s->pid_wait);
}

void eng_session_live(struct eng_session *s)
{
	CHECK(s->state == ENG_SESSION_PUTTING && s->given_fd >= 0);
	s->state = ENG_SESSION_LIVE;
	(void)close(s->given_fd); /* the client's copy keeps the lock from now on */
	s->given_fd = -1;
	session_watch(s);
}

void eng_session_look(struct eng_session *s)
{
	if (s->state != ENG_SESSION_LIVE)
		return;
	_cleanup_close_ int fd = eng_map_reopen(s->memfd, O_RDONLY);
	if (fd < 0) {
		log_warn("session %016llx: cannot be looked at now: %s", (unsigned long long)s->id,
			strerror(-fd));
		return;
	}
	/* 51: whoever is looked at counts as dead; 52: nobody ever does */
	if (MUTANT(51) || (flock(fd, LOCK_EX | LOCK_NB) == 0 && !MUTANT(52)))
		eng_session_end(s, ENG_ENDED_DEAD);
}

static void pins_void(struct eng *e, uint32_t slot)
{
	shm_u64 *gen = &e->ctl->pin_gen[slot];

	shm_store_rel(gen, shm_load_rlx(gen) + 1); /* rel:gen.pin */
}

void eng_session_end(struct eng_session *s, enum eng_session_why why)
{
	struct eng *e = s->e;

	CHECK(s->state == ENG_SESSION_PUTTING || s->state == ENG_SESSION_LIVE);
	log_debug("session %016llx of pid %d ended: %s", (unsigned long long)s->id,
		(int)s->peer.pid,
		why == ENG_ENDED_BYE    ? "goodbye"
		: why == ENG_ENDED_DEAD ? "death"
					: "refused");
	s->state = ENG_SESSION_ENDING;
	eng_fold(s); /* who sees one session fewer sees what it had counted */
	if (why == ENG_ENDED_DEAD)
		eng_count(e, SHM_DC_sessions_dead, 1);
	scan_remove(s);
	eng_recent_again(e);
	pins_void(e, s->slot);
	STEP("session:unscanned");
	eng_lease_over_session(s);
	eng_feed_unwatch_all(s);
	eng_held_end(s);
	if (s->conn)
		s->conn->session = NULL;
	if (s->conn && why == ENG_ENDED_DEAD)
		eng_conn_drop(s->conn);
	s->conn = NULL;
	(void)munmap((void *)(uintptr_t)s->seg, s->seg_bytes);
	s->seg = NULL;
	(void)close(s->memfd);
	s->memfd = -1;
	if (s->given_fd >= 0)
		(void)close(s->given_fd);
	s->given_fd = -1;
	s->drop_unsent = true;
	eng_loop_cancel(e->loop, &s->pid_wait);
	session_release(s);
	STEP("session:ended");
}

void eng_session_revoke(struct eng_session *s, const char *why)
{
	log_warn("session %016llx (pid %d, uid %u): %s: its pins are revoked, its views answer so",
		(unsigned long long)s->id, (int)s->peer.pid, s->peer.uid, why);
	pins_void(s->e, s->slot);
	s->revoked = true;
	eng_count(s->e, SHM_DC_revocations, 1);
	STEP("session:revoked");
}

void eng_session_look_all(struct eng *e)
{
	for (uint32_t i = 0; i < e->n_sessions; i++)
		eng_session_look(&e->session[i]);
}

void eng_session_tick(struct eng *e)
{
	for (uint32_t i = 0; i < ENG_LOOKS_PER_TICK && i < e->n_sessions; i++) {
		eng_session_look(&e->session[e->look_pos++ % e->n_sessions]);
	}
	for (uint32_t i = 0; i < e->n_sessions; i++) {
		struct eng_session *s = &e->session[i];
		if (s->state == ENG_SESSION_ENDING)
			session_release(s);
		else if (s->state == ENG_SESSION_PUTTING &&
			 e->now_ns - s->putting_ns > ENG_KEPT_S * ENG_NS_PER_S)
			op_hello_refused(e, s);
	}
}

/* --------------------------------------------------------------- connections */

struct eng_session *eng_session_find(struct eng *e, uint64_t id)
{
	for (uint32_t i = 0; i < e->n_sessions && id; i++)
		if (e->session[i].state == ENG_SESSION_LIVE && e->session[i].id == id)
			return &e->session[i];
	return NULL;
}

void eng_session_bind(struct eng_session *s, struct eng_conn *c)
{
	struct eng_conn *old = s->conn;

	s->conn = NULL;
	if (old) {
		old->session = NULL;
		eng_conn_drop(old);
	}
	s->conn = c;
	c->session = s;
}

void eng_session_unbind(struct eng_conn *c)
{
	struct eng_session *s = c->session;

	c->session = NULL;
	if (!s)
		return;
	s->conn = NULL;
	if (!s->e->quit) /* the next engine's business */
		eng_lease_over_session(s);
	if (s->state == ENG_SESSION_PUTTING)
		eng_session_end(s, ENG_ENDED_REFUSED); /* it never had its descriptors */
	else
		eng_session_look(s);
}

/* ---------------------------------------------------------------------- open */

static uint64_t random_id(struct eng *e)
{
	uint64_t id = 0;

	for (int i = 0; i < 16 && (id == 0 || eng_session_find(e, id)); i++)
		if (getrandom(&id, sizeof id, 0) != (ssize_t)sizeof id)
			id = 0;
	return id;
}

/* Maps a segment for reading.  Its size is the only thing that counts. */
static int session_map(struct eng_session *s)
{
	struct stat st;

	if (fstat(s->memfd, &st) < 0)
		return err_new(-errno);
	uint64_t blocks = (uint64_t)st.st_size / sizeof(struct shm_block);
	if (blocks < 2 || (uint64_t)st.st_size % sizeof(struct shm_block))
		return err_new(-EBADMSG);
	s->n_blocks = blocks - 1 < SHM_BLOCKS_MAX ? (uint32_t)blocks - 1 : SHM_BLOCKS_MAX;
	s->seg_bytes = (size_t)st.st_size;
	void *m = mmap(NULL, s->seg_bytes, PROT_READ, MAP_SHARED, s->memfd, 0);
	if (m == MAP_FAILED)
		return err_new(-errno);
	s->seg = m;
	return 0;
}

static void session_header(
	const struct eng_session *s, const struct wire_request *r, struct shm_client *ret)
{
	const struct eng *e = s->e;
	uint64_t wall_ns = eng_wall_ns();

	memset(ret, 0, sizeof *ret);
	ret->seg = (struct shm_segment){.byte_order = SHM_BYTE_ORDER,
		.major = SHM_LAYOUT_MAJOR,
		.minor = SHM_LAYOUT_MINOR,
		.kind = SHM_KIND_CLIENT,
		.instance = s->slot,
		.total_bytes = s->seg_bytes,
		.daemon_id = e->ctl->seg.daemon_id,
		.created_ns = wall_ns,
		.backing = SHM_BACK_BASE};
	shm_store_rlx(&ret->seg.magic, SHM_MAGIC);
	ret->session_id = s->id;
	ret->n_blocks = s->n_blocks;
	ret->pid = (uint32_t)s->peer.pid;
	ret->uid = s->peer.uid;
	ret->gid = s->peer.gid;
	ret->opened_ns = wall_ns;
	memcpy(ret->name, r->name, sizeof ret->name);
	ret->name[sizeof ret->name - 1] = 0;
}

/* The fresh memfd: whole, allocated to its last byte, sealed for size.  0 or -errno. */
static int session_make(struct eng_session *s, const struct wire_request *r)
{
	struct shm_client header;

	s->n_blocks = s->e->config->threads_per_client;
	s->seg_bytes = sizeof header + (size_t)s->n_blocks * sizeof(struct shm_block);
	s->memfd = memfd_create("hypercache-session", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (s->memfd < 0)
		return err_new(-errno);
	session_header(s, r, &header);
	if (fchmod(s->memfd, 0600) < 0 || ftruncate(s->memfd, (off_t)s->seg_bytes) < 0 ||
		fallocate(s->memfd, 0, 0, (off_t)s->seg_bytes) < 0)
		return err_new(-errno);
	if (pwrite(s->memfd, &header, sizeof header, 0) != (ssize_t)sizeof header)
		return err_new(-EIO);
	if (fcntl(s->memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return err_new(-errno);
	s->given_fd = eng_map_reopen(s->memfd, O_RDWR);
	if (s->given_fd < 0)
		return err_fwd(s->given_fd);
	if (flock(s->given_fd, LOCK_EX | LOCK_NB) < 0)
		return err_new(-errno);
	return err_fwd(session_map(s));
}

/* A descriptor that becomes readable when the peer's process ends, or -1.  By its number it
 * cannot be had in another pid namespace (0), and a reused number would be somebody else:
 * then the descriptor only tells too late when to look, and ticks look as well. */
static int peer_pidfd(const struct config *config, int sock, int32_t pid)
{
	int fd = -1;
	socklen_t n = sizeof fd;

	if (config->peer_pidfd == CONFIG_PEER_PIDFD_AUTO && !MUTANT(67) && /* 67: never asked for */
		getsockopt(sock, SOL_SOCKET, SO_PEERPIDFD, &fd, &n) == 0)
		return fd;
	if (pid <= 0 || MUTANT(68)) /* 68: there is no other way */
		return -1;
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

static void session_undo(struct eng_session *s)
{
	if (s->seg)
		(void)munmap((void *)(uintptr_t)s->seg, s->seg_bytes);
	if (s->memfd >= 0)
		(void)close(s->memfd);
	if (s->pidfd >= 0)
		(void)close(s->pidfd);
	if (s->given_fd >= 0)
		(void)close(s->given_fd);
	*s = (struct eng_session){
		.slot = s->slot, .memfd = -1, .pidfd = -1, .given_fd = -1, .e = s->e};
}

static struct eng_session *free_slot(struct eng *e)
{
	for (uint32_t i = 0; i < e->n_sessions; i++)
		if (e->session[i].state == ENG_SESSION_FREE)
			return &e->session[i];
	return NULL;
}

/* Sessions of one user, connected or not. */
static uint32_t sessions_of(const struct eng *e, uint32_t uid)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < e->n_sessions; i++)
		n += e->session[i].state != ENG_SESSION_FREE && e->session[i].peer.uid == uid;
	return n;
}

int eng_session_open(struct eng *e, struct eng_conn *c, const struct eng_peer *peer,
	const struct wire_request *r, struct eng_session **ret)
{
	struct eng_session *s = free_slot(e);

	if (!s) {
		log_warn("a client was refused: max_clients is %u", e->n_sessions);
		return 1;
	}
	if (sessions_of(e, peer->uid) >= e->config->max_clients_per_user) {
		log_warn("a client of user %u was refused: max_clients_per_user is %u", peer->uid,
			e->config->max_clients_per_user);
		return 1;
	}
	s->peer = *peer;
	s->id = random_id(e);
	int rc = s->id ? session_make(s, r) : err_new(-EIO);
	if (rc == 0) {
		s->pidfd = peer_pidfd(e->config, c->fd, s->peer.pid);
		shm_journal_open(e->journal, s->slot, s->id);
		s->compiler_fence = e->may_barrier && r->fence == SHM_FENCE_COMPILER;
		int fds[2] = {s->memfd, s->pidfd};
		rc = eng_sup_send(e, SUP_MSG_SESSION_PUT, s, fds, s->pidfd >= 0 ? 2 : 1);
	}
	if (rc < 0) {
		(void)log_fail(rc, "a client was refused");
		session_undo(s);
		return 1;
	}
	s->state = ENG_SESSION_PUTTING;
	s->putting_ns = e->now_ns;
	eng_count(e, SHM_DC_sessions_opened, 1);
	scan_add(s);
	eng_session_bind(s, c);
	*ret = s;
	return 0;
}

/* --------------------------------------------------------------------- adopt */

/* Highest request of the slot's results that are this session's. */
static uint64_t last_request(const struct eng *e, const struct eng_session *s)
{
	const struct shm_journal_session
		*js = (const struct shm_journal_session *)(const void *)(e->journal + 1) + s->slot;
	uint64_t last = 0;

	for (uint32_t i = 0; i < SHM_RESULTS; i++) {
		uint64_t n = shm_load_rlx(&js->result[i].request);
		if (n > last && shm_journal_find(e->journal, s->slot, s->id, n))
			last = n;
	}
	return last;
}

static int session_adopt_one(struct eng *e, const struct heritage_session *hs)
{
	if (hs->slot >= e->n_sessions || e->session[hs->slot].state != ENG_SESSION_FREE)
		return err_new(-EBADMSG);
	struct eng_session *s = &e->session[hs->slot];
	s->id = hs->id;
	s->peer = (struct eng_peer){.uid = hs->uid,
		.gid = hs->gid,
		.pid = hs->pid,
		.read_pools = hs->read_pools,
		.write_pools = hs->write_pools};
	s->memfd = hs->memfd;
	s->pidfd = hs->pidfd;
	int r = session_map(s);
	if (r < 0)
		return err_fwd(r);
	/* As was agreed, not as it says in its segment: this engine may have to wait for it. */
	s->compiler_fence = hs->fence != SHM_FENCE_FULL;
	if (MUTANT(69)) /* 69: the client's word counts */
		s->compiler_fence = shm_load32_rlx(&s->seg->fence) != SHM_FENCE_FULL;
	/* Nobody tells which sessions it were. */
	s->revoked = shm_load_rlx(&e->ctl->counter[SHM_DC_revocations]) > 0;
	s->state = ENG_SESSION_LIVE;
	const struct shm_block *b = (const struct shm_block *)(const void *)(s->seg + 1);
	for (uint32_t i = 0; i < s->n_blocks; i++) {
		s->hint_pos[i] = shm_load_rlx(&b[i].hint_head);
		s->hot_left_out[i] = shm_load_rlx(&b[i].counter[SHM_BC_hints_left_out]);
	}
	scan_add(s);
	return 0;
}

int eng_session_adopt(struct eng *e)
{
	uint32_t n = e->config->max_clients;

	e->session = calloc(n, sizeof(*e->session));
	e->scan = calloc(n, sizeof(*e->scan));
	e->scan_slot = calloc(n, sizeof(*e->scan_slot));
	if (!e->session || !e->scan || !e->scan_slot)
		return err_new(-ENOMEM);
	e->n_sessions = n;
	for (uint32_t i = 0; i < n; i++)
		e->session[i] = (struct eng_session){
			.slot = i, .memfd = -1, .pidfd = -1, .given_fd = -1, .e = e};
	for (uint32_t i = 0; i < e->h->n_sessions; i++) {
		if (e->h->session[i].id == 0)
			continue;
		int r = session_adopt_one(e, &e->h->session[i]);
		if (r < 0)
			return err_fwd(r);
	}
	return 0;
}

void eng_session_serve(struct eng *e)
{
	for (uint32_t i = 0; i < e->n_sessions; i++) {
		struct eng_session *s = &e->session[i];
		if (s->state != ENG_SESSION_LIVE)
			continue;
		s->last_request = last_request(e, s);
		session_watch(s);
	}
	eng_session_look_all(e);
}
