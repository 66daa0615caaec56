/* eng_conn.c - connections: bytes in, frames to op_*.c, answers out.
 *
 *   recv -> in -> [frame] -> op_VERB -> out -> sending -> send
 *
 * At any time at most one receive and one send are under way.  `in` is decoded
 * only while no receive is, and a receive begins only when `in` holds no whole
 * frame: so nobody moves a buffer under the kernel.  Answers gather in `out`
 * while `sending` is on its way; then the two change places.
 *
 * An answer whose record is not yet durable gathers in `late`, and so do those behind it: in the order of the
 * requests they go over to `out` as the log goes on (eng_conn_durable).  Other connections do not notice.
 *
 * Fairness: ENG_REQUESTS_PER_TURN requests, then the others' turn (list `ready`).
 * Back-pressure: a client that does not take its answers is not read, then dropped.
 */
#include "eng.h"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/err.h"
#include "hypercache.h"
#include "op.h"
#include "probe.h"
#include "step.h"

enum { MARKED_BYTES = 64 << 10 }; /* a frame from which on the slow log tells all stages apart */

static size_t bytes_in(const struct wire_buf *b) { return b->end - b->begin; }

static size_t max_frame(const struct eng_conn *c)
{
	return c->session ? c->e->config->max_frame_bytes : WIRE_HELLO_BYTES_MAX;
}

/* ------------------------------------------------------------------- the end */

void eng_conn_drop(struct eng_conn *c)
{
	if (c->dead)
		return;
	c->dead = true;
	c->e->reap = true;
	c->e->in_bytes -= c->in_counted; /* freed as soon as nothing is under way */
	c->in_counted = 0;
	eng_session_unbind(c);
	eng_feed_unwatch(c);
	(void)shutdown(c->fd, SHUT_RDWR); /* ends what is under way */
	eng_loop_cancel(c->e->loop, &c->in_wait);
	eng_loop_cancel(c->e->loop, &c->out_wait);
}

static void conn_free(struct eng_conn *c)
{
	struct eng *e = c->e;

	e->in_bytes -= c->in_counted;
	e->n_late -= c->is_late;
	e->n_conns--;
	e->conn[c->idx] = e->conn[e->n_conns];
	e->conn[c->idx]->idx = c->idx;
	wire_buf_fini(&c->in);
	wire_buf_fini(&c->out);
	wire_buf_fini(&c->sending);
	wire_buf_fini(&c->late);
	eng_loop_close(e->loop, c->fd);
	free(c);
	eng_gauge(e, SHM_DC_connections, e->n_conns);
}

void eng_conn_reap(struct eng *e)
{
	if (!e->reap)
		return;
	e->reap = false;
	for (uint32_t i = e->n_conns; i > 0; i--) {
		struct eng_conn *c = e->conn[i - 1];
		if (c->dead && !c->in_wait.armed && !c->out_wait.armed && !c->ready)
			conn_free(c);
	}
}

/* ----------------------------------------------------------------------- out */

static void conn_flush(struct eng_conn *c)
{
	if (c->dead || c->out_wait.armed)
		return;
	if (bytes_in(&c->sending) == 0) {
		struct wire_buf empty = c->sending;
		c->sending = c->out;
		c->out = empty;
		c->out.begin = c->out.end = 0;
		if (bytes_in(&c->sending) == 0) {
			if (c->closing && bytes_in(&c->late) == 0)
				eng_conn_drop(c);
			return;
		}
		c->out_ns = c->e->now_ns;
	}
	eng_loop_send(c->e->loop, c->fd, c->sending.bytes + c->sending.begin, bytes_in(&c->sending),
		&c->out_wait);
}

static void conn_close_when_sent(struct eng_conn *c)
{
	c->closing = true;
	eng_session_unbind(c);
}

/* Its id; 0: none yet. */
static uint64_t conn_session(const struct eng_conn *c) { return c->session ? c->session->id : 0; }

/* What was just appended to `late` waits for the log to be durable up to lsn.  When there are too many of
 * them the last ones wait for each other. */
static void conn_mark(struct eng_conn *c, uint64_t lsn, uint32_t verb)
{
	uint32_t i = c->n_marks;
	uint64_t before = i ? c->mark[i - 1].lsn : 0;

	if (i == ENG_LATE_MARKS || lsn <= before) {
		i--;
	} else {
		c->n_marks++;
		c->mark[i].since_ns = c->e->now_ns;
		c->mark[i].verb = verb;
	}
	c->mark[i].lsn = lsn > before ? lsn : before;
	c->mark[i].end = bytes_in(&c->late);
}

static void conn_answer(struct eng_conn *c, const struct wire_answer *a)
{
	struct eng *e = c->e;
	bool late = e->answer_lsn || bytes_in(&c->late);

	PROBE(request__answered, e->ctl->seg.daemon_id, conn_session(c), a->request, a->verb,
		a->status);
	if (wire_put_answer(late ? &c->late : &c->out, a) < 0) {
		log_warn("no memory for an answer: connection dropped");
		eng_conn_drop(c);
	} else if (late) {
		conn_mark(c, e->answer_lsn, a->verb);
		e->n_late += !c->is_late;
		c->is_late = true;
	}
}

/* The answers that waited for no more than lsn may go. */
static void conn_release(struct eng_conn *c, uint64_t lsn)
{
	uint32_t n = 0;

	while (n < c->n_marks && c->mark[n].lsn <= lsn)
		n++;
	if (n == 0)
		return;
	for (uint32_t i = 0; i < n; i++)
		eng_slow_late(c, &c->mark[i]);
	size_t bytes = c->mark[n - 1].end;
	if (wire_buf_reserve(&c->out, bytes) < 0) {
		log_warn("no memory for an answer: connection dropped");
		eng_conn_drop(c);
		return;
	}
	memcpy(c->out.bytes + c->out.end, c->late.bytes + c->late.begin, bytes);
	c->out.end += bytes;
	c->late.begin += bytes;
	c->n_marks -= n;
	memmove(c->mark, c->mark + n, c->n_marks * sizeof *c->mark);
	for (uint32_t i = 0; i < c->n_marks; i++)
		c->mark[i].end -= bytes;
	STEP("conn:released");
	conn_flush(c);
}

void eng_conn_durable(struct eng *e, uint64_t lsn)
{
	for (uint32_t i = 0; i < e->n_conns && e->n_late; i++) {
		struct eng_conn *c = e->conn[i];
		if (!c->is_late)
			continue;
		if (!c->dead)
			conn_release(c, lsn);
		if (bytes_in(&c->late) == 0 || c->dead) {
			c->is_late = false;
			e->n_late--;
		}
	}
}

void eng_conn_not_durable(struct eng *e)
{
	for (uint32_t i = 0; i < e->n_conns && e->n_late; i++) {
		struct eng_conn *c = e->conn[i];
		if (!c->is_late)
			continue;
		c->is_late = false;
		e->n_late--;
		eng_conn_drop(c);
	}
}

void eng_conn_protocol_error(struct eng_conn *c, uint32_t verb, uint64_t request)
{
	struct wire_answer a = {.verb = verb, .request = request, .status = HC_E_PROTOCOL};

	log_info("connection closed: malformed or out of order (verb %u, request %llu)", verb,
		(unsigned long long)request);
	eng_count(c->e, SHM_DC_requests_bad, 1);
	conn_answer(c, &a);
	conn_close_when_sent(c);
}

/* ------------------------------------------------------------------------ in */

static const enum shm_histogram hist_of[WIRE_VERB_END] = {
	[WIRE_HELLO] = SHM_HG_hello,
	[WIRE_PING] = SHM_HG_ping,
	[WIRE_SET] = SHM_HG_set,
	[WIRE_DELETE] = SHM_HG_delete,
	[WIRE_BYE] = SHM_HG_bye,
	[WIRE_TOUCH] = SHM_HG_touch,
	[WIRE_INCR] = SHM_HG_incr,
	[WIRE_CLEAR] = SHM_HG_clear,
	[WIRE_BATCH] = SHM_HG_batch,
	[WIRE_LEASE] = SHM_HG_lease,
	[WIRE_LEASE_DROP] = SHM_HG_lease_drop,
};
_Static_assert(WIRE_VERB_END == WIRE_LEASE_DROP + 1, "each verb has its histogram");

/* Returns how many requests it was; 0: it is to be carried out again when the connection goes on. */
static uint32_t conn_frame(struct eng_conn *c, const uint8_t *body, size_t n)
{
	struct eng *e = c->e;
	struct wire_request req;
	struct wire_answer a;
	struct eng_marks m = {.begun_ns = e->mark_ns};
	uint64_t limit_ns = e->config->slowlog_threshold_ns;

	req.verb = 0;
	req.request = 0;
	if (wire_get_requests(body, n, &req, e->batch) < 0) {
		eng_conn_protocol_error(c, 0, 0);
		return 1;
	}
	eng_count(e, SHM_DC_requests, 1);
	PROBE(request__decoded, e->ctl->seg.daemon_id, conn_session(c), req.request, req.verb,
		req.n_items ? req.n_items : 1, n);
	if (n >= MARKED_BYTES)
		m.decoded_ns = eng_clock_ns();
	op_fn *op = req.verb < WIRE_VERB_END ? op_table[req.verb] : NULL;
	if (!op || (c->session == NULL) != (req.verb == WIRE_HELLO)) {
		eng_conn_protocol_error(c, req.verb, req.request);
		return 1;
	}
	if (req.verb == WIRE_HELLO)
		memset(&a, 0, sizeof a); /* others have no more than these: */
	a.verb = req.verb;
	a.request = req.request;
	a.status = 0;
	a.lsn = a.value = 0;
	a.n_fds = a.n_items = 0;
	e->answer_lsn = 0;
	int done = op(e, c, &req, &a);
	if (m.decoded_ns)
		m.done_ns = eng_clock_ns();
	switch (done) {
	case 0:
		conn_answer(c, &a);
		break;
	case OP_HELD:
		c->held = true;
		break;
	case OP_WATCHES:
		break;
	case OP_AGAIN:
		c->held = c->stalled = true;
		e->answer_lsn = 0;
		return 0;
	case OP_CLOSE:
		conn_answer(c, &a);
		conn_close_when_sent(c);
		break;
	default:
		eng_conn_protocol_error(c, req.verb, req.request);
	}
	e->answer_lsn = 0;
	eng_at_none(e);
	/* From the end of the one before, or of the turn's other work: one look at the clock for each. */
	/* 329: verbs are not told apart */
	m.ended_ns = eng_timed(e, hist_of[MUTANT(329) ? WIRE_SET : req.verb], e->mark_ns);
	e->mark_ns = m.ended_ns;
	if (limit_ns && m.ended_ns - c->in_ns >= limit_ns)
		eng_slow_note(c, &req, &a, &m);
	return req.n_items ? req.n_items : 1;
}

/* Counts what `in` takes above its first ENG_READ_BYTES. */
static void conn_count_in(struct eng_conn *c)
{
	size_t big = c->in.cap > ENG_READ_BYTES ? c->in.cap - ENG_READ_BYTES : 0;

	c->e->in_bytes += big;
	c->e->in_bytes -= c->in_counted;
	c->in_counted = big;
}

/* All buffers together have grown too far: those go in which nothing has come for longest, before
 * c, to which something came just now.  So who fills them with halves of frames keeps nobody out. */
static void conn_make_way(struct eng_conn *c)
{
	struct eng *e = c->e;

	for (uint32_t n = e->n_conns; n > 0 && e->in_bytes > e->in_max_bytes; n--) {
		struct eng_conn *stalest = c;
		for (uint32_t i = 0; i < e->n_conns; i++) {
			struct eng_conn *o = e->conn[i];
			if (o->in_counted && !o->dead &&
				(stalest == c || o->in_ns < stalest->in_ns))
				stalest = o;
		}
		log_warn("connection dropped: %llu bytes of unfinished frames are the limit",
			(unsigned long long)e->in_max_bytes);
		eng_count(e, SHM_DC_connections_refused, 1);
		eng_conn_drop(stalest);
	}
}

/* Room for the next receive: grows only as fast as bytes really come. */
static bool conn_make_room(struct eng_conn *c)
{
	size_t have = bytes_in(&c->in), want = ENG_READ_BYTES;

	if (have == 0 && c->in.cap > ENG_READ_BYTES) {
		wire_buf_fini(&c->in); /* a long frame is done: not kept for ever */
		memset(&c->in, 0, sizeof c->in);
	}
	if (c->in_need + 4 > have + want) {
		size_t rest = c->in_need + 4 - have;
		want = have < want ? want : have;
		want = want < rest ? want : rest;
	}
	if (wire_buf_reserve(&c->in, want) < 0) {
		log_warn("connection dropped: no memory for its next frame");
		eng_conn_drop(c);
		return false;
	}
	conn_count_in(c);
	conn_make_way(c);
	return !c->dead;
}

static bool conn_may_decode(const struct eng_conn *c)
{
	return !c->dead && !c->closing && !c->held &&
	       (bytes_in(&c->out) + bytes_in(&c->late) < c->e->config->max_unread_bytes ||
		       MUTANT(54)); /* 54: answers gather without end */
}

static void conn_add_ready(struct eng_conn *c)
{
	struct eng *e = c->e;

	c->ready = true;
	c->next_ready = NULL;
	if (e->ready_last)
		e->ready_last->next_ready = c;
	else
		e->ready = c;
	e->ready_last = c;
}

/* Decodes what is there, sends what was answered, and waits for more. */
static void conn_run(struct eng_conn *c)
{
	const uint8_t *body;
	uint32_t requests = 0;
	bool more = false;

	while (conn_may_decode(c)) {
		size_t n = 0;
		int r = wire_frame(&c->in, max_frame(c), &body, &n);
		more = r == 0;
		c->in_need = r == WIRE_MORE ? n : 0;
		if (r == WIRE_MORE || (more && requests >= ENG_REQUESTS_PER_TURN))
			break;
		if (r < 0) {
			eng_conn_protocol_error(c, 0, 0);
			break;
		}
		uint32_t did = conn_frame(c, body, n);
		requests += did;
		c->in.begin += did ? 4 + n : 0;
		more = false;
	}
	conn_flush(c);
	if (!conn_may_decode(c))
		return; /* begins again when the answers are out, or the hold is over */
	if (more)
		conn_add_ready(c);
	else if (!c->in_wait.armed && conn_make_room(c))
		eng_loop_recv(c->e->loop, c->fd, c->in.bytes + c->in.end, c->in.cap - c->in.end,
			&c->in_wait);
}

static void conn_in_done(void *arg, int n)
{
	struct eng_conn *c = arg;

	if (c->dead) {
		c->e->reap = true;
		return;
	}
	if (n > 0) {
		c->in.end += (size_t)n;
		c->in_ns = c->e->now_ns;
		PROBE(request__received, c->e->ctl->seg.daemon_id, conn_session(c), (uint64_t)n);
	} else if (n != -EAGAIN && n != -EINTR) {
		conn_close_when_sent(c); /* the end, or an error: what was asked is answered */
		conn_flush(c);
		return;
	}
	conn_run(c);
}

static void conn_out_done(void *arg, int n)
{
	struct eng_conn *c = arg;

	if (c->dead) {
		c->e->reap = true;
		return;
	}
	if (n <= 0 && n != -EAGAIN && n != -EINTR) {
		eng_conn_drop(c);
		return;
	}
	if (n > 0) {
		c->sending.begin += (size_t)n;
		c->out_ns = c->e->now_ns;
	}
	conn_flush(c);
	if (!c->dead && !c->in_wait.armed && !c->ready)
		conn_run(c); /* it had stopped because too much waited */
}

void eng_conn_resume(struct eng_conn *c)
{
	c->held = false;
	if (!c->dead && !c->in_wait.armed && !c->ready)
		conn_run(c);
}

void eng_conn_say(struct eng_conn *c, const struct wire_answer *a)
{
	conn_answer(c, a);
	conn_flush(c);
	c->opened_ns = c->e->now_ns; /* so long it may be silent */
}

void eng_conn_resume_stalled(struct eng *e)
{
	for (uint32_t i = 0; i < e->n_conns; i++) {
		struct eng_conn *c = e->conn[i];
		if (!c->stalled)
			continue;
		c->stalled = false;
		eng_conn_resume(c);
	}
}

void eng_conn_run_ready(struct eng *e)
{
	struct eng_conn *c = e->ready;

	e->ready = e->ready_last = NULL;
	while (c) {
		struct eng_conn *next = c->next_ready;
		c->ready = false;
		if (c->dead)
			e->reap = true;
		else
			conn_run(c);
		c = next;
	}
}

/* -------------------------------------------------------------------- accept */

/* One answer in the shape of HELLO's, if the socket takes it at once, and the end. */
static void conn_refuse(int fd, int status)
{
	struct wire_answer a = {.verb = WIRE_HELLO, .status = status};
	struct wire_buf b = {0};

	if (wire_put_answer(&b, &a) == 0)
		(void)send(fd, b.bytes, b.end, MSG_DONTWAIT | MSG_NOSIGNAL);
	wire_buf_fini(&b);
	(void)close(fd);
}

/* May this user have one connection more?  0: the user is in *ret; 1: no. */
static int conn_admit(const struct eng *e, int fd, uint32_t *ret_uid)
{
	uint32_t n = 0;

	if (eng_peer_uid(fd, ret_uid) < 0)
		return 1;
	for (uint32_t i = 0; i < e->n_conns; i++)
		n += e->conn[i]->uid == *ret_uid && !e->conn[i]->dead && !e->conn[i]->watch_of;
	if (n < 2 * e->config->max_clients_per_user || MUTANT(85)) /* 85: one may have all */
		return 0;
	log_info("a connection of user %u was refused: 2 x max_clients_per_user is %u", *ret_uid,
		2 * e->config->max_clients_per_user);
	return 1;
}

static struct eng_conn *conn_new(struct eng *e, int fd, uint32_t uid)
{
	struct eng_conn *c = calloc(1, sizeof *c);

	if (!c)
		return NULL;
	c->e = e;
	c->fd = fd;
	c->uid = uid;
	c->opened_ns = c->in_ns = c->out_ns = e->now_ns;
	c->in_wait = (struct eng_wait){.done = conn_in_done, .arg = c};
	c->out_wait = (struct eng_wait){.done = conn_out_done, .arg = c};
	c->idx = e->n_conns;
	e->conn[e->n_conns++] = c;
	eng_gauge(e, SHM_DC_connections, e->n_conns);
	return c;
}

static void accept_again(void *arg, int result)
{
	struct eng *e = arg;

	if (result == 0 && !e->quit && !e->accept_wait.armed)
		eng_loop_accept(e->loop, e->h->listen_fd, &e->accept_wait);
}

/* A connection takes as long as ten requests: who opens one after the other would have the engine to himself.  So they
 * are let in at a rate, of which a number may come at once; the others wait at the door (its queue is the
 * listening socket's). */
static void accept_count(struct eng *e)
{
	const uint64_t each_ns = ENG_ACCEPT_US * 1000ull, burst_ns = ENG_ACCEPT_BURST * each_ns;

	if (e->accept_at_ns + burst_ns < e->now_ns)
		e->accept_at_ns = e->now_ns - burst_ns;
	e->accept_at_ns += each_ns;
	if (e->accept_at_ns <= e->now_ns || e->accept_pause.armed ||
		MUTANT(807)) /* 807: all at once */
		return;
	eng_loop_cancel(e->loop, &e->accept_wait);
	e->accept_pause = (struct eng_wait){.done = accept_again, .arg = e};
	eng_loop_timer(e->loop, ENG_ACCEPT_PAUSE_MS * 1000000ull, &e->accept_pause);
}

static void conn_accepted(void *arg, int fd)
{
	struct eng *e = arg;

	if (fd < 0) {
		if (fd != -ECANCELED && fd != -ECONNABORTED)
			log_warn("accept: %s; tried again at the next tick", strerror(-fd));
		return;
	}
	accept_count(e);
	e->door_waited = false;
	struct eng_conn *c = NULL;
	uint32_t uid;
	if (!e->quit &&
		e->n_conns - e->n_watches <
			e->max_conns - MUTANT(60) && /* 60: one fewer than promised */
		conn_admit(e, fd, &uid) == 0)
		c = conn_new(e, fd, uid);
	if (!c && e->quit) {
		conn_refuse(fd, HC_E_CLOSING); /* the next engine takes it */
		return;
	}
	if (!c) {
		eng_count(e, SHM_DC_connections_refused, 1);
		conn_refuse(fd, HC_E_REFUSED);
		return;
	}
	conn_run(c);
}

int eng_conn_start(struct eng *e)
{
	e->max_conns = 2 * e->config->max_clients;
	e->conn = calloc(e->max_conns + e->config->max_clients, sizeof(*e->conn));
	if (!e->conn)
		return err_new(-ENOMEM);
	e->in_max_bytes = 2 * e->config->max_frame_bytes;
	if (e->in_max_bytes < ENG_IN_TOTAL_BYTES)
		e->in_max_bytes = ENG_IN_TOTAL_BYTES;
	e->accept_wait = (struct eng_wait){.done = conn_accepted, .arg = e};
	eng_loop_accept(e->loop, e->h->listen_fd, &e->accept_wait);
	return 0;
}

/* ---------------------------------------------------------------------- time */

static const char *conn_overdue(const struct eng_conn *c)
{
	uint64_t now = c->e->now_ns;

	if (!c->session && !c->held && !c->watching &&
		now - c->opened_ns > c->e->config->hello_timeout_ns &&
		!MUTANT(59)) /* 59: who says nothing stays */
		return "it did not say HELLO in time, or did not take the answer";
	if (c->out_wait.armed && now - c->out_ns > c->e->config->stall_timeout_ns)
		return "it does not read its answers";
	if (bytes_in(&c->in) > 0 && c->in_wait.armed &&
		now - c->in_ns > c->e->config->stall_timeout_ns)
		return "it stopped in the middle of a frame";
	return NULL;
}

/* Somebody has stood at the door since the last tick, and the accept that is armed was not told: the kernel wakes one
 * waiter, and that may have been the ring of an engine that was killed and is not taken down yet. */
static void door_look(struct eng *e)
{
	struct pollfd p = {.fd = e->h->listen_fd, .events = POLLIN};
	bool waits = e->accept_wait.armed && !e->accept_pause.armed && poll(&p, 1, 0) == 1;

	if (waits && e->door_waited)
		eng_loop_cancel(e->loop, &e->accept_wait); /* the next tick begins another */
	e->door_waited = waits;
}

void eng_conn_tick(struct eng *e)
{
	for (uint32_t i = 0; i < e->n_conns; i++) {
		struct eng_conn *c = e->conn[i];
		const char *why = c->dead ? NULL : conn_overdue(c);

		if (!why)
			continue;
		log_info("connection dropped: %s", why);
		eng_count(e, SHM_DC_connections_refused, 1);
		eng_conn_drop(c);
	}
	if (!e->quit && !e->accept_wait.armed && !e->accept_pause.armed)
		eng_loop_accept(e->loop, e->h->listen_fd, &e->accept_wait);
	else if (!e->quit)
		door_look(e);
}

void eng_conn_close_all(struct eng *e)
{
	eng_loop_cancel(e->loop, &e->accept_wait);
	for (uint32_t i = 0; i < e->n_conns; i++) {
		if (e->conn[i]->dead)
			continue;
		conn_close_when_sent(e->conn[i]);
		conn_flush(e->conn[i]);
	}
}
