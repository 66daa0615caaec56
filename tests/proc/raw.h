/* raw.h - the engine's socket without the library: for tests that bend frames, or want the
 * descriptors themselves.  Frames are made with the codec of libclient/wire.c. */
#ifndef HC_TESTS_RAW_H
#define HC_TESTS_RAW_H
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "atomic.h"
#include "hypercache.h"
#include "layout/l_client.h"
#include "layout/l_control.h"
#include "wire.h"

enum { WAIT_MS = 10000, FDS_MAX = 32 };

struct raw {
	int sock;
	struct wire_buf in;
	int fd[FDS_MAX]; /* that came with the last answer */
	int n_fds;
	uint64_t session;
	const struct shm_control *ctl; /* mapped after a HELLO */
};

/* ------------------------------------------------------------------ the wire */

static inline struct raw raw_open(const struct t_daemon *d)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct raw r = {.sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};

	CHECK(r.sock >= 0 && strlen(d->socket) < sizeof a.sun_path);
	memcpy(a.sun_path, d->socket, strlen(d->socket));
	CHECK_EQ(connect(r.sock, (struct sockaddr *)&a, sizeof a), 0);
	return r;
}

static inline void raw_close_fds(struct raw *r)
{
	for (int i = 0; i < r->n_fds; i++)
		(void)close(r->fd[i]);
	r->n_fds = 0;
}

static inline void raw_close(struct raw *r)
{
	raw_close_fds(r);
	(void)close(r->sock);
	wire_buf_fini(&r->in);
	if (r->ctl)
		(void)munmap((void *)(uintptr_t)r->ctl, sizeof *r->ctl);
}

/* Sends all bytes.  False: the engine has closed. */
static inline bool raw_send(const struct raw *r, const void *bytes, size_t n)
{
	const uint8_t *at = bytes;

	while (n) {
		CHECK(t_wait_fd(r->sock, POLLOUT, WAIT_MS));
		ssize_t k = send(r->sock, at, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (k < 0 && (errno == EPIPE || errno == ECONNRESET))
			return false;
		CHECK(k >= 0 || errno == EAGAIN);
		at += k > 0 ? k : 0;
		n -= k > 0 ? (size_t)k : 0;
	}
	return true;
}

static inline bool raw_send_request(const struct raw *r, const struct wire_request *req)
{
	struct wire_buf b = {0};

	CHECK_EQ(wire_put_request(&b, req), 0);
	bool sent = raw_send(r, b.bytes, b.end);
	wire_buf_fini(&b);
	return sent;
}

/* Some bytes more.  False: the end of the stream. */
static inline bool raw_receive(struct raw *r)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(FDS_MAX * sizeof(int))];

	CHECK(t_wait_fd(r->sock, POLLIN, WAIT_MS));
	CHECK_EQ(wire_buf_reserve(&r->in, 65536), 0);
	struct iovec iov = {.iov_base = r->in.bytes + r->in.end, .iov_len = r->in.cap - r->in.end};
	struct msghdr h = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof control};
	ssize_t n = recvmsg(r->sock, &h, MSG_CMSG_CLOEXEC);
	if (n <= 0) {
		CHECK(n == 0 || errno == ECONNRESET);
		return false;
	}
	r->in.end += (size_t)n;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&h); c; c = CMSG_NXTHDR(&h, c)) {
		r->n_fds = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(r->fd, CMSG_DATA(c), (size_t)r->n_fds * sizeof(int));
	}
	return true;
}

/* The next answer.  False: the connection was closed instead. */
static inline bool raw_answer(struct raw *r, struct wire_answer *a)
{
	const uint8_t *body;
	size_t n;

	while (wire_frame(&r->in, WIRE_HELLO_BYTES_MAX, &body, &n) == WIRE_MORE)
		if (!raw_receive(r))
			return false;
	CHECK_EQ(wire_frame(&r->in, WIRE_HELLO_BYTES_MAX, &body, &n), 0);
	CHECK_EQ(wire_get_answer(body, n, a), 0);
	r->in.begin += 4 + n;
	return true;
}

static inline struct wire_answer raw_call(struct raw *r, const struct wire_request *req)
{
	struct wire_answer a;

	CHECK(raw_send_request(r, req));
	CHECK(raw_answer(r, &a));
	return a;
}

static inline bool raw_is_closed(struct raw *r)
{
	struct wire_answer a;

	return !raw_answer(r, &a);
}

/* ------------------------------------------------------------------- requests */

static inline struct wire_request hello(uint64_t session)
{
	return (struct wire_request){.verb = WIRE_HELLO,
		.proto_major = WIRE_PROTO_MAJOR,
		.proto_minor = WIRE_PROTO_MINOR,
		.layout_major = SHM_LAYOUT_MAJOR,
		.layout_minor = SHM_LAYOUT_MINOR,
		.session = session,
		.fence = SHM_FENCE_FULL,
		.name = "proc_frames"};
}

static inline struct wire_answer raw_hello(struct raw *r, uint64_t session)
{
	struct wire_request req = hello(session);

	return raw_call(r, &req);
}

/* A new session; its descriptors stay open in r. */
static inline struct raw session_open(const struct t_daemon *d)
{
	struct raw r = raw_open(d);
	struct wire_answer a = raw_hello(&r, 0);

	CHECK_EQ(a.status, HC_OK);
	CHECK(a.session != 0);
	CHECK_EQ(a.n_fds, (uint32_t)r.n_fds);
	r.session = a.session;
	for (uint32_t i = 0; i < a.n_fds; i++) {
		if (a.fd[i].kind != SHM_KIND_CONTROL)
			continue;
		void *m = mmap(NULL, sizeof *r.ctl, PROT_READ, MAP_SHARED, r.fd[i], 0);
		CHECK(m != MAP_FAILED);
		r.ctl = m;
	}
	CHECK(r.ctl != NULL);
	return r;
}

static inline struct wire_request set(
	const struct raw *r, uint64_t request, const char *key, const char *value)
{
	return (struct wire_request){.verb = WIRE_SET,
		.request = request,
		.store_id = shm_load_rlx(&r->ctl->store[0].id),
		.key = key,
		.key_bytes = strlen(key),
		.value = value,
		.value_bytes = strlen(value)};
}

static inline uint64_t counter(const struct raw *r, enum shm_daemon_counter i)
{
	return shm_load_rlx(&r->ctl->counter[i]);
}

static inline void ping(struct raw *r)
{
	struct wire_request req = {.verb = WIRE_PING};
	struct wire_answer a = raw_call(r, &req);

	CHECK_EQ(a.verb, WIRE_PING);
	CHECK_EQ(a.status, HC_OK);
}

static inline void wait_counter(struct raw *r, enum shm_daemon_counter i, uint64_t want)
{
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(WAIT_MS) * 1000000;

	while (counter(r, i) != want) {
		if (t_now_ns() > end_ns)
			t_fail(__FILE__, __LINE__, "counter %d is %llu, not %llu", (int)i,
				(unsigned long long)counter(r, i), (unsigned long long)want);
		ping(r);
	}
}

/* The session's own segment, as its client has it. */
static inline struct shm_client *segment_of(const struct raw *r, size_t *ret_bytes)
{
	for (int i = 0; i < r->n_fds; i++) {
		struct stat st;
		CHECK_EQ(fstat(r->fd[i], &st), 0);
		void *m = mmap(
			NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd[i], 0);
		*ret_bytes = (size_t)st.st_size;
		if (m != MAP_FAILED)
			return m; /* the others can only be read */
	}
	t_fail(__FILE__, __LINE__, "no descriptor can be written");
}

#endif
