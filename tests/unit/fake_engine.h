/* fake_engine.h - an engine and supervisor that do what a test says, at the other end of libclient.
 *
 *	struct fake f;
 *	fake_init(&f);                       segments and a listening socket in t_dir()
 *	fake_run(&f, script);                script(&f) runs in a thread
 *	... hc_open with f.path ...
 *	fake_fini(&f);                       waits for the script's end
 *
 * The segments are real memfds, small, with one pool "p" and one store "default".  A test damages
 * them through f.ctl, f.seg and f.pool before the client connects.
 *
 * A batch looks to a script like its items, one after the other: fake_get() gives them singly, and
 * the answer goes out when the last of them has been put.
 *
 * Every wait has a deadline: a script that waits for what never comes fails the test.
 */
#ifndef HC_FAKE_ENGINE_H
#define HC_FAKE_ENGINE_H

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include "atomic.h"
#include "hypercache.h"
#include "layout/l_client.h"
#include "layout/l_control.h"
#include "layout/l_pool.h"
#include "wire.h"
#include "../kit/t.h"

enum {
	FAKE_BLOCKS = 4,
	FAKE_POOL_BYTES = 64 << 10,
	FAKE_SLOT = 7,
	FAKE_MAX_INFLIGHT = 64,
	FAKE_MAX_FRAME = 4 << 20,
	FAKE_WAIT_MS = 20000,
	FAKE_FDS = 3,
};
#define FAKE_SESSION 0xabcdef0123456789ull
#define FAKE_DAEMON 0x1122334455667788ull
#define FAKE_STORE 77

/* A batch that has been read and not answered. */
struct fake_batch {
	struct wire_answer answer;
	bool quiet;
};

struct fake {
	const char *path;
	int listen_fd, fd; /* fd: the connection of now, -1: none */
	int control_fd, seg_fd, pool_fd;
	struct shm_control *ctl;
	struct shm_client *seg;
	struct shm_pool *pool;
	struct wire_answer hello;  /* what a new session is answered */
	struct wire_request asked; /* the last HELLO */
	struct wire_buf in;
	struct wire_request item[WIRE_BATCH_MAX]; /* of the batch that is being read */
	uint32_t n_items, next_item;
	struct fake_batch batch[FAKE_MAX_INFLIGHT]; /* oldest first */
	uint32_t n_batches;
	uint64_t n_batch_frames; /* that came */
	uint64_t applied;        /* mutations applied, as a script counts them */
	uint64_t seed;
	sem_t step, go; /* the script has come to a place; the script may go on */
	pthread_t thread;
	void (*script)(struct fake *f);
};

/* ------------------------------------------------------------------ segments */

static inline void *fake_segment(int *ret_fd, uint32_t kind, uint32_t instance, size_t bytes)
{
	*ret_fd = memfd_create("fake", MFD_CLOEXEC);
	CHECK(*ret_fd >= 0);
	CHECK_EQ(ftruncate(*ret_fd, (off_t)bytes), 0);
	struct shm_segment *s = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, *ret_fd, 0);
	CHECK(s != MAP_FAILED);
	s->byte_order = SHM_BYTE_ORDER;
	s->major = SHM_LAYOUT_MAJOR;
	s->minor = SHM_LAYOUT_MINOR;
	s->kind = kind;
	s->instance = instance;
	s->total_bytes = bytes;
	s->daemon_id = FAKE_DAEMON;
	s->backing = SHM_BACK_BASE;
	s->magic.v = SHM_MAGIC; /* nobody looks yet */
	return s;
}

static inline void fake_segments(struct fake *f)
{
	f->ctl = fake_segment(&f->control_fd, SHM_KIND_CONTROL, 0, sizeof *f->ctl);
	f->ctl->sup_word.v = f->ctl->eng_word.v = 1;
	f->ctl->engine_gen.v = 3;
	f->ctl->state.v = SHM_ENGINE_SERVING;
	f->ctl->n_sessions = 100;
	f->ctl->n_blocks = FAKE_BLOCKS;
	struct shm_pool_entry *p = &f->ctl->pool[2];
	strcpy(p->name, "p");
	p->id.v = 5;
	p->reserve_bytes = 1 << 20;
	shm_store_rlx(&p->max_value_bytes, 1 << 20);
	p->n_regions.v = 1;
	p->region[0] = (struct shm_region){.bytes = FAKE_POOL_BYTES, .backing = SHM_BACK_BASE};
	struct shm_store_entry *s = &f->ctl->store[9];
	strcpy(s->name, "default");
	s->id.v = FAKE_STORE;
	s->pool_idx = 2;
	strcpy(f->ctl->store[10].name, "elsewhere");
	f->ctl->store[10].id.v = 78;
	f->ctl->store[10].pool_idx = 3;
	f->pool = fake_segment(&f->pool_fd, SHM_KIND_POOL, 2 << 8, FAKE_POOL_BYTES);
	f->seg = fake_segment(&f->seg_fd, SHM_KIND_CLIENT, FAKE_SLOT,
		sizeof *f->seg + FAKE_BLOCKS * sizeof(struct shm_block));
	f->seg->session_id = FAKE_SESSION;
	f->seg->n_blocks = FAKE_BLOCKS;
}

static inline void fake_listen(struct fake *f)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	CHECK(strlen(f->path) < sizeof a.sun_path);
	strcpy(a.sun_path, f->path);
	f->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(f->listen_fd >= 0);
	CHECK_EQ(bind(f->listen_fd, (struct sockaddr *)&a, sizeof a), 0);
	CHECK_EQ(listen(f->listen_fd, 64), 0);
}

static inline void fake_unlisten(struct fake *f)
{
	CHECK_EQ(unlink(f->path), 0);
	CHECK_EQ(close(f->listen_fd), 0);
	f->listen_fd = -1;
}

static inline void fake_init(struct fake *f)
{
	*f = (struct fake){.path = t_path("socket"), .fd = -1, .listen_fd = -1};
	f->hello = (struct wire_answer){
		.verb = WIRE_HELLO,
		.session = FAKE_SESSION,
		.slot = FAKE_SLOT,
		.max_inflight = FAKE_MAX_INFLIGHT,
		.max_frame = FAKE_MAX_FRAME,
		.fence = SHM_FENCE_COMPILER,
		.n_fds = FAKE_FDS,
		.fd = {{SHM_KIND_CONTROL, 0, 0}, {SHM_KIND_POOL, 2, 0}, {SHM_KIND_CLIENT, 0, 0}},
	};
	CHECK_EQ(sem_init(&f->step, 0, 0), 0);
	CHECK_EQ(sem_init(&f->go, 0, 0), 0);
	fake_segments(f);
	fake_listen(f);
}

/* ------------------------------------------------------------------ connection */

static inline bool fake_wait(int fd, short events)
{
	struct pollfd p = {.fd = fd, .events = events};

	int r = poll(&p, 1, t_limit_ms(FAKE_WAIT_MS));
	if (r == 0)
		t_fail(__FILE__, __LINE__, "the client does not come");
	return r == 1;
}

static inline void fake_drop(struct fake *f)
{
	if (f->fd >= 0)
		CHECK_EQ(close(f->fd), 0);
	f->fd = -1;
	f->in.begin = f->in.end = 0;
	f->n_items = f->next_item = f->n_batches = 0;
}

static inline void fake_accept(struct fake *f)
{
	fake_drop(f);
	CHECK(fake_wait(f->listen_fd, POLLIN));
	f->fd = accept4(f->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	CHECK(f->fd >= 0);
}

/* Sends bytes, with descriptors if n_fds is not 0.  False: the client has gone. */
static inline bool fake_send(
	struct fake *f, const void *bytes, size_t n, const int *fds, size_t n_fds)
{
	char control[CMSG_SPACE(sizeof(int) * (WIRE_FDS_MAX + 4))] = {0};

	for (size_t at = 0; at < n;) {
		struct iovec v = {.iov_base = (char *)(uintptr_t)bytes + at, .iov_len = n - at};
		struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
		if (n_fds && at == 0) {
			m.msg_control = control;
			m.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
			struct cmsghdr *k = CMSG_FIRSTHDR(&m);
			*k = (struct cmsghdr){.cmsg_level = SOL_SOCKET,
				.cmsg_type = SCM_RIGHTS,
				.cmsg_len = CMSG_LEN(sizeof(int) * n_fds)};
			memcpy(CMSG_DATA(k), fds, sizeof(int) * n_fds);
		}
		ssize_t sent = sendmsg(f->fd, &m, MSG_NOSIGNAL);
		if (sent < 0)
			return false;
		at += (size_t)sent;
	}
	return true;
}

/* More bytes of the client.  False: it has closed. */
static inline bool fake_more(struct fake *f)
{
	CHECK_EQ(wire_buf_reserve(&f->in, 65536), 0);
	if (!fake_wait(f->fd, POLLIN))
		return false;
	ssize_t n = recv(f->fd, f->in.bytes + f->in.end, f->in.cap - f->in.end, 0);
	if (n <= 0)
		return false;
	f->in.end += (size_t)n;
	return true;
}

/* The items of *ret are given one after the other, and their answers gathered. */
static inline void fake_batch_begin(struct fake *f, const struct wire_request *r)
{
	CHECK(f->n_batches < FAKE_MAX_INFLIGHT);
	struct fake_batch *b = &f->batch[f->n_batches++];
	b->quiet = r->how & WIRE_QUIET;
	b->answer = (struct wire_answer){
		.verb = WIRE_BATCH, .request = r->request, .value = r->n_items};
	f->n_items = r->n_items;
	f->next_item = 0;
	f->n_batch_frames++;
}

/* The next request; its pointers live until the next call.  False: the client has closed. */
static inline bool fake_get(struct fake *f, struct wire_request *ret)
{
	const uint8_t *body;
	size_t bytes;
	int r;

	if (f->next_item < f->n_items) {
		*ret = f->item[f->next_item++];
		return true;
	}
	*ret = (struct wire_request){0};
	memset(f->item, 0, sizeof f->item);
	while ((r = wire_frame(&f->in, FAKE_MAX_FRAME, &body, &bytes)) == WIRE_MORE)
		if (!fake_more(f))
			return false;
	CHECK_EQ(r, 0);
	CHECK_EQ(wire_get_requests(body, bytes, ret, f->item), 0);
	f->in.begin += 4 + bytes;
	if (ret->verb != WIRE_BATCH)
		return true;
	fake_batch_begin(f, ret);
	*ret = f->item[f->next_item++];
	return true;
}

/* Adds an item's answer to that of its batch.  True: it was one, and not the last. */
static inline bool fake_gather(struct fake *f, const struct wire_answer **a)
{
	struct fake_batch *b = &f->batch[0];
	uint64_t i = (*a)->request - b->answer.request;

	if (f->n_batches == 0 || !wire_is_item((*a)->verb) || i >= b->answer.value)
		return false;
	if (!b->quiet || (*a)->status)
		b->answer.item[b->answer.n_items++] = (struct wire_item){
			(uint32_t)i, (*a)->status, (*a)->lsn, (*a)->value};
	*a = &b->answer;
	return i + 1 < b->answer.value;
}

static inline bool fake_put(struct fake *f, const struct wire_answer *a)
{
	struct wire_buf b = {0};

	if (fake_gather(f, &a))
		return true;

	CHECK_EQ(wire_put_answer(&b, a), 0);
	bool ok = fake_send(f, b.bytes, b.end, NULL, 0);
	wire_buf_fini(&b);
	if (a->verb == WIRE_BATCH)
		memmove(f->batch, f->batch + 1, --f->n_batches * sizeof f->batch[0]);
	return ok;
}

static inline bool fake_reply(struct fake *f, const struct wire_request *q, int status)
{
	return fake_put(
		f, &(struct wire_answer){.verb = q->verb, .request = q->request, .status = status});
}

/* The next request has to be this one, and is answered. */
static inline void fake_expect(struct fake *f, uint32_t verb, uint64_t request, int status)
{
	struct wire_request q;

	CHECK(fake_get(f, &q));
	CHECK_EQ(q.verb, verb);
	CHECK_EQ(q.request, request);
	CHECK(fake_reply(f, &q, status));
}

/* ------------------------------------------------------------------ HELLO */

/* The bytes of the answer to a new session. */
static inline struct wire_buf fake_hello_bytes(const struct fake *f)
{
	struct wire_buf b = {0};

	CHECK_EQ(wire_put_answer(&b, &f->hello), 0);
	return b;
}

/* Accepts, and reads HELLO into f->asked. */
static inline void fake_hello_get(struct fake *f)
{
	fake_accept(f);
	CHECK(fake_get(f, &f->asked));
	CHECK_EQ(f->asked.verb, WIRE_HELLO);
}

/* Answers HELLO: with the segments. */
static inline void fake_hello_put(struct fake *f)
{
	const int fds[FAKE_FDS] = {f->control_fd, f->pool_fd, f->seg_fd};
	struct wire_buf b = fake_hello_bytes(f);

	CHECK(fake_send(f, b.bytes, b.end, fds, FAKE_FDS));
	wire_buf_fini(&b);
}

static inline void fake_open(struct fake *f)
{
	fake_hello_get(f);
	CHECK_EQ(f->asked.session, 0);
	fake_hello_put(f);
}

/* Accepts, and finds the session again. */
static inline void fake_resume(struct fake *f)
{
	struct wire_answer a = f->hello;

	fake_hello_get(f);
	CHECK_EQ(f->asked.session, FAKE_SESSION);
	a.n_fds = 0;
	a.resumed = 1;
	CHECK(fake_put(f, &a));
}

/* The client says goodbye and goes. */
static inline void fake_bye(struct fake *f)
{
	struct wire_request q;

	fake_expect(f, WIRE_BYE, 0, 0);
	CHECK(!fake_get(f, &q));
	fake_drop(f);
}

/* ------------------------------------------------------------------ life */

static inline void *fake_main(void *arg)
{
	struct fake *f = arg;

	f->script(f);
	fake_drop(f);
	return NULL;
}

static inline void fake_run(struct fake *f, void (*script)(struct fake *f))
{
	f->script = script;
	CHECK_EQ(pthread_create(&f->thread, NULL, fake_main, f), 0);
}

static inline void fake_sem_wait(sem_t *sem)
{
	uint64_t until_ns = t_now_ns() + (uint64_t)t_limit_ms(FAKE_WAIT_MS) * 1000000;
	struct timespec t = {(time_t)(until_ns / 1000000000), (long)(until_ns % 1000000000)};

	CHECK_EQ(sem_clockwait(sem, CLOCK_MONOTONIC, &t), 0);
}

/* Script: I have come to the place that fake_step_wait() waits for. */
static inline void fake_step(struct fake *f) { CHECK_EQ(sem_post(&f->step), 0); }
static inline void fake_step_wait(struct fake *f) { fake_sem_wait(&f->step); }

/* Test: go on behind fake_go_wait(). */
static inline void fake_go(struct fake *f) { CHECK_EQ(sem_post(&f->go), 0); }
static inline void fake_go_wait(struct fake *f) { fake_sem_wait(&f->go); }

/* Waits for the script's end. */
static inline void fake_join(struct fake *f) { CHECK_EQ(pthread_join(f->thread, NULL), 0); }

static inline void fake_fini(struct fake *f)
{
	if (f->listen_fd >= 0)
		fake_unlisten(f);
	CHECK_EQ(close(f->control_fd), 0);
	CHECK_EQ(close(f->seg_fd), 0);
	CHECK_EQ(close(f->pool_fd), 0);
	CHECK_EQ(munmap(f->ctl, sizeof *f->ctl), 0);
	CHECK_EQ(munmap(f->seg, sizeof *f->seg + FAKE_BLOCKS * sizeof(struct shm_block)), 0);
	CHECK_EQ(munmap(f->pool, FAKE_POOL_BYTES), 0);
	wire_buf_fini(&f->in);
}

#endif
