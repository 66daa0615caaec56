/* hc_conn.c - the window of unanswered requests: filled, sent, answered, given up.
 *
 * One turn of the pump: connect if need be, send what the socket takes, wait,
 * receive what is there.  While something is unsent it waits for both directions,
 * so that neither side stands before a full socket while the other does.
 *
 * The socket blocks, with a receive timeout of one slice: a caller who only waits for an answer
 * makes one system call for it, not a poll and a receive.  Near the deadline, and while something
 * is unsent, it is poll and MSG_DONTWAIT.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/err.h"
#include "hc_i.h"
#include "probe.h"
#include "step.h"

enum {
	IN_BYTES = 16384,         /* room for one receive */
	OUT_BYTES_KEPT = 2 << 20, /* a larger buffer is given back when it is empty */
	SPIN_LOST = 2,            /* of conn_spin */
};

static size_t out_bytes(const struct hc_conn *c) { return c->out.end - c->out.begin; }

static struct hc_pending *pending_at(struct hc_conn *c, uint32_t i)
{
	return &c->pending[(c->pending_begin + i) % HC_WINDOW_MAX];
}

void hc_conn_init(struct hc_conn *c)
{
	*c = (struct hc_conn){.fd = -1, .watch_fd = -1, .next_request = 1, .max_inflight = 1};
}

int hc_conn_watch(struct hc_conn *c, uint32_t events)
{
	struct epoll_event ev = {.events = events};
	int how = !events ? EPOLL_CTL_DEL : c->watch_events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

	if (c->watch_fd < 0 || c->fd < 0 || events == c->watch_events)
		return 0;
	if (epoll_ctl(c->watch_fd, how, c->fd, &ev) < 0)
		return err_new(-errno);
	c->watch_events = events;
	return 0;
}

/* A description that a forked child still holds stays watched when it is closed here, so it is
 * taken out first. */
void hc_conn_drop(struct hc_conn *c)
{
	if (!MUTANT(127)) /* 127: a socket that is closed is left to be forgotten */
		(void)hc_conn_watch(c, 0);
	if (c->fd >= 0)
		(void)close(c->fd);
	c->fd = -1;
	c->watch_events = 0;
	c->greeting = false;
	shm_store32_rlx(&c->up, 0);
	c->in.begin = c->in.end = 0;
	if (!MUTANT(45))
		c->sent_bytes = 0;
}

void hc_conn_fini(struct hc_conn *c)
{
	hc_conn_drop(c);
	wire_buf_fini(&c->out);
	wire_buf_fini(&c->in);
}

static void reply_take(void *arg, uint32_t i, const struct hc_reply *reply)
{
	(void)i;
	*(struct hc_reply *)arg = *reply;
}

struct hc_asker hc_ask(struct hc_reply *ret)
{
	return (struct hc_asker){.answered = reply_take, .arg = ret};
}

/* The same to all of them. */
static void pending_tell(const struct hc_pending *p, struct hc_reply reply)
{
	for (uint32_t i = 0; i < p->n && p->asker.answered; i++)
		p->asker.answered(p->asker.arg, i, &reply);
}

/* Numbers that the request has used up. */
static uint32_t numbers_of(const struct hc_pending *p)
{
	return wire_is_mutation(p->verb) ? (MUTANT(506) ? 1 : p->n)
	                                 : 0; /* 506: a batch takes one */
}

bool hc_conn_is_full(const struct hc_conn *c)
{
	return c->n_pending == HC_WINDOW_MAX || c->n_unanswered >= c->max_inflight ||
	       out_bytes(c) >= HC_WINDOW_BYTES;
}

static void pending_add(struct hc_conn *c, const struct hc_pending *p)
{
	PROBE(request__put, c->hello.session, p->request, p->verb, p->n, p->frame_bytes);
	*pending_at(c, c->n_pending++) = *p;
	if (c->requests)
		shm_count(c->requests, p->n);
	c->n_unanswered += p->n;
	c->next_request += numbers_of(p);
}

int hc_conn_put(struct hc_conn *c, struct wire_request *r, struct hc_asker asker)
{
	size_t before = out_bytes(c);

	if (hc_conn_is_full(c))
		return HC_CONN_FULL;
	if (r->key_bytes > c->max_frame || r->value_bytes > c->max_frame)
		return err_new(-EMSGSIZE);
	r->request = wire_is_mutation(r->verb) ? c->next_request : 0;
	int e = wire_put_request(&c->out, r);
	if (e < 0)
		return err_fwd(e);
	size_t frame_bytes = out_bytes(c) - before;
	if (frame_bytes - sizeof(uint32_t) > c->max_frame) {
		c->out.end -= frame_bytes;
		return err_new(-EMSGSIZE);
	}
	pending_add(c, &(struct hc_pending){
			       .request = r->request,
			       .frame_bytes = frame_bytes,
			       .verb = r->verb,
			       .n = 1,
			       .asker = asker,
		       });
	return 0;
}

int hc_conn_put_item(struct hc_conn *c, const uint8_t *item, size_t bytes, struct hc_asker asker)
{
	size_t before = out_bytes(c);

	if (hc_conn_is_full(c))
		return HC_CONN_FULL;
	if (bytes > c->max_frame || WIRE_ITEM_MORE > c->max_frame - bytes)
		return err_new(-EMSGSIZE);
	int e = wire_put_item(&c->out, c->next_request, item, bytes);
	if (e < 0)
		return err_fwd(e);
	pending_add(c, &(struct hc_pending){
			       .request = c->next_request,
			       .frame_bytes = out_bytes(c) - before,
			       .verb = wire_item_verb(item),
			       .n = 1,
			       .asker = asker,
		       });
	return 0;
}

int hc_conn_batch_begin(struct hc_conn *c, bool quiet)
{
	if (hc_conn_is_full(c))
		return HC_CONN_FULL;
	c->batch_quiet = quiet;
	return err_fwd(
		wire_batch_begin(&c->out, c->next_request, quiet ? WIRE_QUIET : 0, &c->batch));
}

/* Has the batch as much as it may have? */
static bool batch_full(const struct hc_conn *c)
{
	return c->batch.n && (out_bytes(c) - c->batch.frame_off > HC_BATCH_BYTES ||
				     c->n_unanswered + c->batch.n >= c->max_inflight);
}

static int batch_added(const struct hc_conn *c, int e)
{
	if (e == WIRE_BATCH_FULL)
		return c->batch.n ? HC_CONN_FULL : err_new(-EMSGSIZE);
	return err_fwd(e);
}

int hc_conn_batch_add(struct hc_conn *c, const struct wire_request *r)
{
	if (batch_full(c))
		return HC_CONN_FULL;
	return batch_added(c, wire_batch_add(&c->batch, r, c->max_frame));
}

int hc_conn_batch_add_item(struct hc_conn *c, const uint8_t *item, size_t bytes)
{
	if (batch_full(c))
		return HC_CONN_FULL;
	return batch_added(c, wire_batch_add_item(&c->batch, item, bytes, c->max_frame));
}

void hc_conn_batch_end(struct hc_conn *c, struct hc_asker asker)
{
	wire_batch_end(&c->batch);
	pending_add(c, &(struct hc_pending){
			       .request = c->next_request,
			       .frame_bytes = out_bytes(c) - c->batch.frame_off,
			       .verb = WIRE_BATCH,
			       .n = c->batch.n,
			       .quiet = c->batch_quiet,
			       .asker = asker,
		       });
}

void hc_conn_batch_cancel(struct hc_conn *c) { wire_batch_cancel(&c->batch); }

/* ------------------------------------------------------------------ answers */

/* The oldest request has its answer, and who asked was told; its frame is not needed any more. */
static void pending_done(struct hc_conn *c)
{
	struct hc_pending *p = pending_at(c, 0);

	c->n_unanswered -= p->n;
	c->out.begin += p->frame_bytes;
	c->sent_bytes -= p->frame_bytes < c->sent_bytes ? p->frame_bytes : c->sent_bytes;
	c->handed_bytes -= p->frame_bytes < c->handed_bytes ? p->frame_bytes : c->handed_bytes;
	c->pending_begin = (c->pending_begin + 1) % HC_WINDOW_MAX;
	c->n_pending--;
	c->backoff_ns = 0;
	if (out_bytes(c))
		return;
	c->out.begin = c->out.end = 0;
	if (c->out.cap > OUT_BYTES_KEPT)
		wire_buf_fini(&c->out);
}

/* May the answer to this verb have this status? */
static bool status_fits(uint32_t verb, int32_t status)
{
	static const uint32_t above_0[WIRE_VERB_END] = {
		[WIRE_SET] = 1u << HC_MISS | 1u << HC_EXISTS | 1u << HC_CONFLICT | 1u << HC_OLDER |
	                     1u << HC_LEASE_LOST,
		[WIRE_DELETE] = 1u << HC_MISS | 1u << HC_CONFLICT,
		[WIRE_TOUCH] = 1u << HC_MISS,
		[WIRE_INCR] = 1u << HC_MISS,
		[WIRE_LEASE] = 1u << HC_CONFLICT | 1u << HC_LEASED,
		[WIRE_LEASE_DROP] = 1u << HC_LEASE_LOST,
	};

	return status <= 0 || (status < 32 && (above_0[verb] >> status & 1));
}

/* An item's answer may be as that of any of its verbs. */
static bool item_fits(int32_t status)
{
	return status_fits(WIRE_SET, status) || status_fits(WIRE_LEASE, status);
}

/* The items' answers of a batch.  0 or -EPROTO. */
static int batch_take(const struct hc_pending *p, const struct wire_answer *a)
{
	uint32_t told = 0;

	if (a->status) {
		if (a->status > 0)
			return err_new(-EPROTO);
		pending_tell(p, (struct hc_reply){.status = a->status});
		return 0;
	}
	if (a->value != p->n || (!p->quiet && a->n_items != p->n))
		return err_new(-EPROTO);
	for (uint32_t i = 0; i < a->n_items; i++)
		if (!item_fits(a->item[i].status))
			return err_new(-EPROTO);
	for (uint32_t i = 0; i < p->n && p->asker.answered; i++) {
		struct hc_reply reply = {0};
		const struct wire_item *item = &a->item[told];
		if (told < a->n_items && item->idx == i) {
			reply = (struct hc_reply){item->status, item->lsn, item->value};
			told++;
		}
		p->asker.answered(p->asker.arg, i, &reply);
	}
	return 0;
}

/* 0, HC_CONN_LOST or -EPROTO, as hc_conn_parse(). */
static int answer_take(struct hc_conn *c, const struct wire_answer *a)
{
	if (c->n_pending == 0)
		return err_new(-EPROTO);
	const struct hc_pending *p = pending_at(c, 0);
	if (a->status == HC_E_PROTOCOL) { /* refused, perhaps before it was read to its end */
		pending_tell(p, (struct hc_reply){.status = HC_E_PROTOCOL});
		pending_done(c);
		hc_conn_drop(c);
		return HC_CONN_LOST;
	}
	if (a->verb != p->verb || (a->request != p->request && !MUTANT(44)))
		return err_new(-EPROTO);
	if (p->frame_bytes > c->sent_bytes) /* answered before it was sent */
		return err_new(-EPROTO);
	PROBE(request__reply, c->hello.session, p->request, p->verb, a->status);
	if (p->verb == WIRE_BATCH) {
		int r = batch_take(p, a);
		if (r < 0)
			return err_fwd(r);
	} else {
		if (!status_fits(p->verb, a->status))
			return err_new(-EPROTO);
		pending_tell(p, (struct hc_reply){a->status, a->lsn, a->value});
	}
	pending_done(c);
	return 0;
}

int hc_conn_parse(struct hc_conn *c)
{
	struct wire_answer a;
	const uint8_t *body;
	size_t bytes;
	int r;

	while ((r = wire_frame(&c->in, WIRE_HELLO_BYTES_MAX, &body, &bytes)) == 0) {
		c->in.begin += sizeof(uint32_t) + bytes;
		r = wire_get_answer(body, bytes, &a);
		if (r == 0)
			r = answer_take(c, &a);
		if (r == HC_CONN_LOST)
			return HC_CONN_LOST;
		if (r < 0)
			break;
	}
	if (r < 0) {
		hc_conn_drop(c);
		return err_fwd(r);
	}
	return 0;
}

/* ------------------------------------------------------------------ pump */

/* 0; HC_CONN_LOST; -errno. */
static int conn_send(struct hc_conn *c)
{
	while (c->sent_bytes < out_bytes(c)) {
		ssize_t n = send(c->fd, c->out.bytes + c->out.begin + c->sent_bytes,
			out_bytes(c) - c->sent_bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			if (errno == EAGAIN)
				return 0;
			return hc_errno_is_lost(errno) ? HC_CONN_LOST : err_new(-errno);
		}
		PROBE(request__sent, c->hello.session, (uint64_t)n);
		c->sent_bytes += (size_t)n;
		if (c->handed_bytes < c->sent_bytes)
			c->handed_bytes = c->sent_bytes;
	}
	return 0;
}

/* One receive, and what it brought.  0; HC_CONN_LOST; -errno. */
static int conn_receive(struct hc_conn *c, int flags)
{
	int r = wire_buf_reserve(&c->in, IN_BYTES);
	if (r < 0)
		return err_fwd(r);
	ssize_t n = recv(c->fd, c->in.bytes + c->in.end, c->in.cap - c->in.end, flags);
	if (n == 0)
		return HC_CONN_LOST;
	if (n < 0) {
		if (errno == EINTR || errno == EAGAIN)
			return 0;
		return hc_errno_is_lost(errno) ? HC_CONN_LOST : err_new(-errno);
	}
	c->in.end += (size_t)n;
	return err_fwd(hc_conn_parse(c));
}

/* Looks for an answer without sleeping, spin_ns long.  1: something came; 0: nothing; SPIN_LOST; -errno. */
static int conn_spin(struct hc_conn *c, uint64_t now_ns, uint64_t deadline_ns)
{
	uint64_t end_ns = deadline_ns - now_ns > c->spin_ns ? now_ns + c->spin_ns : deadline_ns;
	size_t had = c->in.end - c->in.begin;
	uint32_t waited = c->n_pending;

	do {
		int r = conn_receive(c, MSG_DONTWAIT);
		if (r != 0)
			return r == HC_CONN_LOST ? SPIN_LOST : err_fwd(r);
		if (c->n_pending != waited || c->in.end - c->in.begin != had)
			return 1;
	} while (!hc_conn_interrupted(c) && hc_now_ns() < end_ns);
	return 0;
}

/* Waits until something came or can be sent, and receives.  0; HC_CONN_LOST; -ETIMEDOUT; -errno. */
static int conn_wait(struct hc_conn *c, uint64_t deadline_ns)
{
	bool unsent = hc_conn_has_unsent(c);
	uint64_t now_ns = hc_now_ns();

	if (now_ns >= deadline_ns)
		return err_new(-ETIMEDOUT);
	if (!unsent && c->spin_ns && !MUTANT(602)) { /* 602: it sleeps at once */
		int r = conn_spin(c, now_ns, deadline_ns);
		if (r != 0)
			return r == SPIN_LOST ? HC_CONN_LOST : r < 0 ? err_fwd(r) : 0;
		now_ns = hc_now_ns();
		if (now_ns >= deadline_ns)
			return err_new(-ETIMEDOUT);
	}
	if (!unsent && deadline_ns - now_ns > HC_SLICE_NS)
		return err_fwd(conn_receive(c, 0));
	int events = hc_wait_fd(c, c->fd, (short)(POLLIN | (unsent ? POLLOUT : 0)), deadline_ns);
	if (events < 0)
		return err_fwd(events);
	if (events == 0)
		return err_new(-ETIMEDOUT);
	return events == POLLOUT ? 0 : err_fwd(conn_receive(c, MSG_DONTWAIT));
}

int hc_conn_lost(struct hc_conn *c)
{
	int r = 0;

	while (c->fd >= 0 && r == 0) {
		size_t had = c->in.end - c->in.begin;
		uint32_t waited = c->n_pending;
		r = conn_receive(c, MSG_DONTWAIT);
		if (r == 0 && c->n_pending == waited && c->in.end - c->in.begin == had)
			break; /* nothing came */
	}
	hc_conn_drop(c);
	return r == -EPROTO ? err_fwd(r) : 0;
}

int hc_conn_turn(struct hc_conn *c, uint64_t deadline_ns)
{
	int r = 0;

	if (hc_conn_interrupted(c))
		return err_new(-ECANCELED);
	if (!hc_conn_up(c)) {
		r = hc_hello_resume(c, deadline_ns);
		if (r < 0)
			return err_fwd(r);
	}
	r = conn_send(c);
	if (r == 0)
		r = conn_wait(c, deadline_ns);
	return r == HC_CONN_LOST ? err_fwd(hc_conn_lost(c)) : err_fwd(r);
}

int hc_conn_step(struct hc_conn *c)
{
	int r = hc_conn_up(c) ? 0 : hc_hello_step(c);

	if (r)
		return err_fwd(r);
	r = conn_receive(c, MSG_DONTWAIT);
	if (r == 0)
		r = conn_send(c);
	if (r == 0)
		return hc_conn_has_unsent(c) ? HC_CONN_LATER : 0;
	if (r == HC_CONN_LOST)
		r = hc_conn_lost(c);
	return r < 0 ? err_fwd(r) : HC_CONN_LATER;
}

/* The youngest frame was never handed to the kernel, and is not going to be. */
static void pending_take_back(struct hc_conn *c)
{
	const struct hc_pending *p = pending_at(c, c->n_pending - 1);

	c->out.end -= p->frame_bytes;
	c->next_request -= numbers_of(p);
	c->n_unanswered -= p->n;
	c->n_pending--;
}

int hc_conn_hand(struct hc_conn *c, bool *ret_handed)
{
	size_t before = out_bytes(c) - pending_at(c, c->n_pending - 1)->frame_bytes;
	int r = conn_send(c);

	*ret_handed = c->handed_bytes > before;
	if (!*ret_handed)
		pending_take_back(c);
	return err_fwd(r);
}

int hc_conn_pump(struct hc_conn *c, uint32_t want, uint64_t deadline_ns)
{
	while (c->n_pending > want) {
		int r = hc_conn_turn(c, deadline_ns);
		if (r < 0)
			return err_fwd(r);
	}
	return 0;
}

void hc_conn_abandon(struct hc_conn *c, int error)
{
	while (c->n_pending) {
		struct hc_pending *p = pending_at(c, c->n_pending - 1);
		if (out_bytes(c) - p->frame_bytes < c->handed_bytes)
			break;
		pending_tell(p, (struct hc_reply){.status = error});
		pending_take_back(c);
	}
	for (uint32_t i = 0; i < c->n_pending; i++) {
		struct hc_pending *p = pending_at(c, i);
		if (p->asker.stays && !c->stale)
			continue;
		bool unknown = wire_is_mutation(p->verb) && !MUTANT(47);
		pending_tell(p, (struct hc_reply){.status = unknown ? HC_E_UNKNOWN : error});
		p->asker = (struct hc_asker){0};
	}
	if (c->stale) { /* nobody will ever answer them */
		c->n_pending = c->n_unanswered = 0;
		c->out.begin = c->out.end = c->sent_bytes = c->handed_bytes = 0;
	}
}

void hc_conn_bye(struct hc_conn *c, uint64_t deadline_ns)
{
	struct wire_request r = {.verb = WIRE_BYE};
	struct hc_reply reply;

	if (!hc_conn_up(c) || hc_conn_put(c, &r, hc_ask(&reply)) != 0)
		return;
	while (c->n_pending && hc_conn_up(c))
		if (hc_conn_turn(c, deadline_ns) < 0)
			break;
}
