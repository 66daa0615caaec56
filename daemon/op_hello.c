/* op_hello.c - HELLO: a session begins, or goes on.
 *
 *   new      eng_session_open: segment made, in the scan set, SESSION_PUT sent
 *            ... SESSION_KEPT comes ...          STEP hello:kept
 *            op_hello_kept: the answer with the descriptors
 *   resumed  the session lives and is this user's: bound to this connection
 *   fed      the session's client waits for a pool's feed: told when it moves (eng_feed.c)
 *   denied   a user who may read no pool: he learns nothing, not even of the stores
 *
 * Rights: what a session was handed it keeps, because the kernel takes no mapping back; so its
 * rights are kept with it, by the supervisor too.  Whoever resumes it can only have fewer, because
 * his process may have left a group since: what may be written is cut to what both may.  Only for a pool
 * that it asks for because it had no right to it (or there was none) is it judged anew, as a new session.
 *
 * The descriptors go out by one sendmsg(2) that does not wait: the connection has
 * sent nothing before, so the answer fits, or the client is not one that we serve.
 */
#include "op.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "base/err.h"
#include "hypercache.h"
#include "step.h"

static int hello_check(const struct wire_request *r)
{
	if (r->proto_major != WIRE_PROTO_MAJOR || r->layout_major != SHM_LAYOUT_MAJOR)
		return HC_E_VERSION;
	return r->fence == SHM_FENCE_COMPILER || r->fence == SHM_FENCE_FULL ? 0 : HC_E_INVAL;
}

static void hello_fill(struct wire_answer *a, const struct eng_session *s, bool resumed)
{
	const struct config *config = s->e->config;

	a->verb = WIRE_HELLO;
	a->session = s->id;
	a->slot = s->slot;
	a->max_inflight = op_max_inflight(s->e);
	a->max_frame = config->max_frame_bytes;
	a->fence = s->compiler_fence ? SHM_FENCE_COMPILER : SHM_FENCE_FULL;
	a->resumed = resumed;
}

static int regions_send(struct eng *e, struct eng_conn *c, struct eng_session *s, uint32_t pool);

/* ... to be told when there is something in the feed of p. */
static int hello_watch(struct eng_conn *c, struct eng_session *s, struct eng_pool *p, uint64_t pos,
	struct wire_answer *a)
{
	if (c->watching)
		return OP_BAD; /* one at a time */
	int r = eng_feed_watch(c, s, p, pos);
	a->status = r < 0 ? r : 0;
	if (r < 0)
		return OP_CLOSE;
	if (r == 0)
		return OP_WATCHES;
	hello_fill(a, s, true);
	c->opened_ns = c->e->now_ns;
	return 0;
}

void op_hello_fed(struct eng_conn *c)
{
	struct wire_answer a = {0};

	hello_fill(&a, c->watch_of, true);
	eng_conn_say(c, &a);
}

/* A session that lives asks for the regions of a pool, on a connection of its own. */
static int op_hello_regions(struct eng *e, struct eng_conn *c, const struct eng_peer *peer,
	const struct wire_request *r, struct wire_answer *a)
{
	struct eng_session *s = eng_session_find(e, r->session);
	uint64_t pool = r->regions_of - 1;

	a->status = HC_E_STALE;
	if (!s || s->peer.uid != peer->uid)
		return OP_CLOSE;
	a->status = HC_E_DENIED;
	if (pool >= e->config->n_pools || !e->pool[pool].base ||
		!((s->peer.read_pools | peer->read_pools) >> pool & 1))
		return OP_CLOSE;
	if (r->feed_at)
		return hello_watch(c, s, &e->pool[pool], r->feed_at - 1, a);
	uint32_t bit = 1u << pool;
	a->status = HC_E_CLOSING; /* the supervisor does not hear: who asks again is answered */
	if (eng_session_grant(s, peer->read_pools & bit, peer->write_pools & bit) < 0)
		return OP_CLOSE;
	a->status = HC_E_REFUSED;
	if (regions_send(e, c, s, (uint32_t)pool) < 0)
		return OP_CLOSE;
	eng_conn_drop(c); /* what was sent arrives */
	return OP_HELD;
}

int op_hello(struct eng *e, struct eng_conn *c, const struct wire_request *r, struct wire_answer *a)
{
	struct eng_peer peer;
	struct eng_session *s;

	a->status = hello_check(r);
	if (a->status)
		return OP_CLOSE;
	if (eng_peer_get(e, c->fd, &peer) < 0) {
		a->status = HC_E_REFUSED;
		return OP_CLOSE;
	}
	if (r->regions_of)
		return op_hello_regions(e, c, &peer, r, a);
	if (r->session == 0 && peer.read_pools == 0) {
		log_info("process %d of user %u was denied: it may read no pool", (int)peer.pid,
			peer.uid);
		eng_count(e, SHM_DC_requests_denied, 1);
		a->status = HC_E_DENIED;
		return OP_CLOSE;
	}
	if (r->session == 0) {
		if (eng_session_open(e, c, &peer, r, &s) == 0)
			return OP_HELD;
		eng_count(e, SHM_DC_connections_refused, 1);
		a->status = HC_E_REFUSED;
		return OP_CLOSE;
	}
	s = eng_session_find(e, r->session);
	if (!s || (s->peer.uid != peer.uid &&
			  !MUTANT(62))) { /* 62: whoever knows the id has the session */
		a->status = HC_E_STALE;
		return OP_CLOSE;
	}
	s->peer.write_pools &= peer.write_pools;
	eng_session_bind(s, c);
	hello_fill(a, s, true);
	STEP("hello:resumed");
	return 0;
}

/* ------------------------------------------------------------ a new session */

struct hello_fds {
	uint32_t n;
	int fd[WIRE_FDS_MAX];
};

/* The client's own description of fd's file, which it can only read; or as it is. */
static int add_fd(struct hello_fds *f, struct wire_answer *a, int fd, struct wire_fd what)
{
	int own = what.kind == SHM_KIND_CLIENT ? fd : eng_map_reopen(fd, O_RDONLY);

	if (own < 0)
		return err_fwd(own);
	f->fd[f->n++] = own;
	a->fd[a->n_fds++] = what;
	return 0;
}

static int add_all(
	struct eng *e, const struct eng_session *s, struct hello_fds *f, struct wire_answer *a)
{
	uint32_t most = (WIRE_FDS_MAX - 2) / e->config->n_pools;
	int r = add_fd(f, a, s->given_fd, (struct wire_fd){.kind = SHM_KIND_CLIENT});

	if (r == 0)
		r = add_fd(f, a, e->h->control_fd, (struct wire_fd){.kind = SHM_KIND_CONTROL});
	for (uint32_t p = 0; p < SHM_POOLS_MAX && r == 0; p++) {
		bool may = s->peer.read_pools >> p & 1 || MUTANT(83); /* 83: all are handed out */
		uint32_t n = e->pool[p].base && may ? e->pool[p].n_regions : 0;
		if (n > most) /* the client asks for the others when it needs them */
			n = most;
		for (uint32_t i = 0; i < n && r == 0; i++)
			r = add_fd(
				f, a, e->h->region_fd[p][i], (struct wire_fd){SHM_KIND_POOL, p, i});
	}
	return r;
}

static int send_with_fds(int sock, const struct wire_buf *b, const struct hello_fds *f)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(WIRE_FDS_MAX * sizeof(int))];
	} control = {0};
	struct iovec iov = {.iov_base = b->bytes + b->begin, .iov_len = b->end - b->begin};
	struct msghdr h = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = CMSG_SPACE(f->n * sizeof(int))};
	struct cmsghdr *c = CMSG_FIRSTHDR(&h);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(f->n * sizeof(int));
	memcpy(CMSG_DATA(c), f->fd, f->n * sizeof(int));
	ssize_t n = sendmsg(sock, &h, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0)
		return err_new(-errno);
	return (size_t)n == iov.iov_len ? 0 : err_new(-EMSGSIZE);
}

static int hello_send(struct eng *e, struct eng_session *s)
{
	struct hello_fds f = {0};
	struct wire_answer a = {0};
	struct wire_buf b = {0};

	hello_fill(&a, s, false);
	int r = add_all(e, s, &f, &a);
	if (r == 0)
		r = wire_put_answer(&b, &a);
	if (r == 0)
		r = send_with_fds(s->conn->fd, &b, &f);
	wire_buf_fini(&b);
	for (uint32_t i = 0; i < f.n; i++)
		if (f.fd[i] != s->given_fd)
			(void)close(f.fd[i]);
	return err_fwd(r);
}

static int regions_send(struct eng *e, struct eng_conn *c, struct eng_session *s, uint32_t pool)
{
	struct hello_fds f = {0};
	struct wire_answer a = {0};
	struct wire_buf b = {0};
	int r = 0;

	hello_fill(&a, s, true);
	for (uint32_t i = 0; i < e->pool[pool].n_regions && r == 0; i++)
		r = add_fd(
			&f, &a, e->h->region_fd[pool][i], (struct wire_fd){SHM_KIND_POOL, pool, i});
	if (r == 0)
		r = wire_put_answer(&b, &a);
	if (r == 0)
		r = send_with_fds(c->fd, &b, &f);
	wire_buf_fini(&b);
	for (uint32_t i = 0; i < f.n; i++)
		(void)close(f.fd[i]);
	STEP("hello:regions-sent");
	return err_fwd(r);
}

void op_hello_kept(struct eng *e, struct eng_session *s)
{
	struct eng_conn *c = s->conn;

	STEP("hello:kept");
	int r = hello_send(e, s);
	if (r < 0) {
		(void)log_fail(r, "a client could not be given its descriptors");
		eng_session_end(s, ENG_ENDED_REFUSED);
		eng_conn_drop(c);
		return;
	}
	STEP("hello:answered");
	eng_session_live(s);
	eng_conn_resume(c);
}

void op_hello_refused(struct eng *e, struct eng_session *s)
{
	struct eng_conn *c = s->conn;

	log_warn("the supervisor did not answer in time: a client was refused");
	eng_count(e, SHM_DC_connections_refused, 1);
	eng_session_end(s, ENG_ENDED_REFUSED);
	eng_conn_drop(c);
}
