/* hypercache_admin.c - asks for descriptors and maps what comes. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "../daemon/sup_host.h"
#include "atomic.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "hypercache_admin.h"
#include "layout/l_item.h"
#include "layout/l_pool.h"

/* More packets than SHM_SESSIONS_MAX sessions make. */
enum { PACKETS_MAX = 128, LINES_BYTES_MAX = 1 << 20 };

#define ALIGN_BYTES (UINT64_C(1) << 30) /* the largest page that a region may be made of */

__attribute__((format(printf, 3, 4))) static int say(
	char why[HYPERCACHE_ADMIN_WHY_BYTES], int r, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(why, HYPERCACHE_ADMIN_WHY_BYTES, format, args);
	va_end(args);
	return r;
}

/* ---------------------------------------------------------------- the socket */

/* hc_open()'s default, as hypercache.h lists it. */
static void socket_default(char path[HYPERCACHE_ADMIN_PATH_BYTES * 2])
{
	static const char run[] = "/run/hypercache/hypercache.sock";
	const char *named = secure_getenv("HYPERCACHE_SOCKET"),
		   *dir = secure_getenv("XDG_RUNTIME_DIR");
	enum { N = HYPERCACHE_ADMIN_PATH_BYTES * 2 };

	if (named && *named) {
		(void)snprintf(path, N, "%s", named);
		return;
	}
	(void)snprintf(path, N, "%s", run);
	if (geteuid() == 0)
		return;
	if (dir && *dir == '/') {
		(void)snprintf(path, N, "%s/hypercache/hypercache.sock", dir);
		if (access(path, F_OK) == 0)
			return;
		(void)snprintf(path, N, "%s", run);
	}
	if (access(path, F_OK) != 0)
		(void)snprintf(path, N, "/tmp/hypercache-%u/hypercache.sock", geteuid());
}

int hypercache_admin_path(const char *socket, char ret_path[HYPERCACHE_ADMIN_PATH_BYTES])
{
	char path[HYPERCACHE_ADMIN_PATH_BYTES * 2];

	if (socket)
		(void)snprintf(path, sizeof path, "%s", socket);
	else
		socket_default(path);
	const char *slash = strrchr(path, '/');
	int n = snprintf(ret_path, HYPERCACHE_ADMIN_PATH_BYTES, "%.*sadmin.sock",
		slash ? (int)(slash - path) + 1 : 0, path);
	return n < HYPERCACHE_ADMIN_PATH_BYTES ? 0 : err_new(-ENAMETOOLONG);
}

static int admin_connect(const char *path, char *why)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	_cleanup_close_ int fd = -1;

	if (strlen(path) >= sizeof a.sun_path)
		return say(why, err_new(-ENAMETOOLONG), "%s is too long for a socket's path", path);
	memcpy(a.sun_path, path, strlen(path));
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return say(why, err_new(-errno), "cannot make a socket: %s", strerror(errno));
	if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0)
		return steal_fd(fd);
	if (errno == EACCES)
		return say(why, err_new(-EACCES), "this user may not connect to %s", path);
	return say(why, err_new(-ECONNREFUSED),
		"no daemon answers at %s (%s): is hypercached running, and is the path right?",
		path, strerror(errno));
}

/* Waits for events on fd until the deadline.  False: it is over. */
static bool wait_until(int fd, short events, uint64_t deadline_ns)
{
	uint64_t now_ns = sup_host_mono_ns();
	struct pollfd p = {.fd = fd, .events = events};

	return now_ns < deadline_ns &&
	       poll(&p, 1, (int)((deadline_ns - now_ns) / 1000000 + 1)) == 1;
}

static void fds_close(int *fds, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		(void)close(fds[i]);
}

/* The next packet.  Number of descriptors in fds, or negative. */
static int packet_receive(int fd, struct admin_answer *a, int fds[ADMIN_FDS_MAX])
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * ADMIN_FDS_MAX)];
	struct iovec part = {.iov_base = a, .iov_len = sizeof *a};
	struct msghdr m = {.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof control};
	uint32_t n_fds = 0;

	ssize_t n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	/* Our request may have met a closed socket; the answer is there nevertheless. */
	if (n < 0 && errno == ECONNRESET)
		n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return err_new(-errno);
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n_fds = (uint32_t)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(c), n_fds * sizeof(int));
	}
	if (n == (ssize_t)sizeof *a && !(m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) &&
		a->magic == ADMIN_MAGIC && a->version == ADMIN_VERSION && a->n_fds == n_fds) {
		a->socket[sizeof a->socket - 1] = 0;
		a->text[sizeof a->text - 1] = 0;
		return (int)n_fds;
	}
	fds_close(fds, n_fds);
	return err_new(-EPROTO);
}

/* ------------------------------------------------------------------- mapping */

/* A file whose size cannot get smaller, mapped for reading.  0 and the mapping, or -errno. */
static int file_map(int fd, uint64_t least_bytes, const void **ret, uint64_t *ret_bytes)
{
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &st) != 0 ||
		(uint64_t)st.st_size < least_bytes)
		return err_new(-EBADMSG);
	void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (p == MAP_FAILED)
		return err_new(-errno);
	*ret = p;
	*ret_bytes = (uint64_t)st.st_size;
	return 0;
}

static int control_map(struct hypercache_admin *a, int fd)
{
	const void *p;
	int r;

	if (a->ctl)
		return err_new(-EPROTO);
	r = file_map(fd, sizeof *a->ctl, &p, &a->ctl_bytes);
	if (r < 0)
		return err_fwd(r);
	a->ctl = p;
	const struct shm_segment *seg = &a->ctl->seg;
	/* acq:segment.magic */
	if (shm_load_acq(&seg->magic) != SHM_MAGIC || seg->byte_order != SHM_BYTE_ORDER ||
		seg->major != SHM_LAYOUT_MAJOR || seg->kind != SHM_KIND_CONTROL)
		return err_new(-EBADMSG);
	return 0;
}

static int journal_map(struct hypercache_admin *a, int fd)
{
	const void *p;

	if (a->journal)
		return err_new(-EPROTO);
	int r = file_map(fd, sizeof *a->journal, &p, &a->journal_bytes);
	if (r == 0)
		a->journal = p;
	return err_fwd(r);
}

static int session_map(struct hypercache_admin *a, int fd, const struct admin_fd *what)
{
	struct hypercache_admin_session *more, *s;
	const void *p;
	int r;

	if (a->n_sessions >= SHM_SESSIONS_MAX)
		return err_new(-EPROTO);
	more = realloc(a->session, (a->n_sessions + 1) * sizeof *more);
	if (!more)
		return err_new(-ENOMEM);
	a->session = more;
	s = &more[a->n_sessions];
	*s = (struct hypercache_admin_session){.slot = what->index,
		.uid = what->uid,
		.gid = what->gid,
		.pid = what->pid,
		.id = what->id,
		.read_pools = what->read_pools,
		.write_pools = what->write_pools};
	r = file_map(fd, sizeof *s->seg, &p, &s->bytes);
	if (r < 0)
		return err_fwd(r);
	s->seg = p;
	uint64_t n = (s->bytes - sizeof *s->seg) / sizeof(struct shm_block);
	s->n_blocks = n < SHM_BLOCKS_MAX ? (uint32_t)n : SHM_BLOCKS_MAX;
	a->n_sessions++;
	return 0;
}

/* Takes what one descriptor is; *fd is closed or kept (then it is -1). */
static int fd_take(struct hypercache_admin *a, const struct admin_fd *what, int *fd)
{
	switch (what->kind) {
	case SHM_KIND_CONTROL:
		if (control_map(a, *fd) < 0)
			return err_new(-EBADMSG);
		a->ctl_fd = steal_fd(*fd);
		return 0;
	case SHM_KIND_JOURNAL:
		return err_fwd(journal_map(a, *fd));
	case SHM_KIND_CLIENT:
		return err_fwd(session_map(a, *fd, what));
	case SHM_KIND_POOL:
		if (what->index >= SHM_POOLS_MAX || what->region >= SHM_REGIONS_MAX ||
			a->pool_fd[what->index][what->region] >= 0)
			return err_new(-EPROTO);
		a->pool_fd[what->index][what->region] = steal_fd(*fd);
		(void)snprintf(a->pool[what->index].read, ADMIN_RIGHTS_BYTES, "%.*s",
			ADMIN_RIGHTS_BYTES - 1, what->read);
		(void)snprintf(a->pool[what->index].write, ADMIN_RIGHTS_BYTES, "%.*s",
			ADMIN_RIGHTS_BYTES - 1, what->write);
		return 0;
	default: /* a later version's */
		return 0;
	}
}

static int packet_take(struct hypercache_admin *a, const struct admin_answer *packet, int *fds)
{
	int r = 0;

	for (uint32_t i = 0; i < packet->n_fds; i++) {
		if (r == 0)
			r = fd_take(a, &packet->fd[i], &fds[i]);
		cleanup_closep_(&fds[i]);
	}
	return r;
}

/* ---------------------------------------------------------------------- open */

static int packets_take(struct hypercache_admin *a, int fd, uint64_t deadline_ns, char *why)
{
	struct admin_answer packet;
	int fds[ADMIN_FDS_MAX];

	for (int i = 0; i < PACKETS_MAX; i++) {
		if (!wait_until(fd, POLLIN, deadline_ns))
			return say(why, HYPERCACHE_ADMIN_NONE,
				"the supervisor did not answer in time: is it stopped?");
		int r = packet_receive(fd, &packet, fds);
		if (r < 0)
			return say(why, HYPERCACHE_ADMIN_DAMAGED,
				"the daemon's answer made no sense (%s): is it of another version?",
				strerror(-r));
		if (i == 0)
			a->answer = packet;
		if (packet.kind == ADMIN_DENIED)
			return say(why, HYPERCACHE_ADMIN_DENIED, "the daemon refuses: %s",
				packet.text);
		if (packet.kind != ADMIN_DESCRIPTORS) {
			fds_close(fds, packet.n_fds);
			return say(
				why, HYPERCACHE_ADMIN_DAMAGED, "the daemon says: %s", packet.text);
		}
		r = packet_take(a, &packet, fds);
		if (r < 0)
			return say(why, HYPERCACHE_ADMIN_DAMAGED,
				"the daemon's memory cannot be mapped (%s): is it of another "
				"version?",
				strerror(-r));
		if (packet.last && !a->ctl && packet.text[0])
			return say(why, HYPERCACHE_ADMIN_NONE, "%s", packet.text);
		if (packet.last)
			return a->ctl ? 0
			              : say(why, HYPERCACHE_ADMIN_DAMAGED,
						"the daemon sent no control segment");
	}
	return say(why, HYPERCACHE_ADMIN_DAMAGED, "the daemon's answer has no end");
}

int hypercache_admin_open_at(
	int fd, int timeout_ms, struct hypercache_admin *ret, char why[HYPERCACHE_ADMIN_WHY_BYTES])
{
	uint64_t deadline_ns = sup_host_mono_ns() + (uint64_t)timeout_ms * 1000000;

	*ret = (struct hypercache_admin){0};
	memset(ret->pool_fd, 0xff, sizeof ret->pool_fd);
	ret->ctl_fd = -1;
	/* Fails if we are denied already; the answer says so. */
	(void)send(fd, ADMIN_REQUEST, strlen(ADMIN_REQUEST), MSG_NOSIGNAL | MSG_DONTWAIT);
	int r = packets_take(ret, fd, deadline_ns, why);
	if (r)
		hypercache_admin_close(ret);
	return r;
}

int hypercache_admin_open(const char *path, int timeout_ms, struct hypercache_admin *ret,
	char why[HYPERCACHE_ADMIN_WHY_BYTES])
{
	_cleanup_close_ int fd = admin_connect(path, why);

	if (fd == -EACCES)
		return HYPERCACHE_ADMIN_DENIED;
	if (fd == -ECONNREFUSED)
		return HYPERCACHE_ADMIN_NONE;
	if (fd < 0)
		return err_fwd(fd);
	return hypercache_admin_open_at(fd, timeout_ms, ret, why);
}

/* All that a memfd holds, as text. */
static int lines_take(int fd, char **ret)
{
	struct stat st;

	if (fstat(fd, &st) != 0 || !(fcntl(fd, F_GET_SEALS) & F_SEAL_WRITE) ||
		st.st_size > LINES_BYTES_MAX)
		return err_new(-EPROTO);
	char *text = malloc((size_t)st.st_size + 1);
	if (!text)
		return err_new(-ENOMEM);
	if (pread(fd, text, (size_t)st.st_size, 0) != st.st_size) {
		free(text);
		return err_new(-EIO);
	}
	text[st.st_size] = 0;
	*ret = text;
	return 0;
}

static int request_send(int sock, const struct admin_request *rq, int fd)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec part = {.iov_base = (void *)(uintptr_t)rq, .iov_len = sizeof *rq};
	struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};

	if (fd >= 0) {
		m.msg_control = control;
		m.msg_controllen = sizeof control;
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof fd);
		memcpy(CMSG_DATA(c), &fd, sizeof fd);
	}
	return sendmsg(sock, &m, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? err_new(-errno) : 0;
}

/* hypercache_admin_ask() on what admin_connect() has given. */
static int ask_at(int sock, int timeout_ms, const struct admin_request *rq, int fd,
	char **ret_lines, enum admin_refusal *ret_refusal, char why[HYPERCACHE_ADMIN_WHY_BYTES])
{
	uint64_t deadline_ns = sup_host_mono_ns() + (uint64_t)timeout_ms * 1000000;
	struct admin_answer a;
	int fds[ADMIN_FDS_MAX];

	if (sock == -EACCES)
		return HYPERCACHE_ADMIN_DENIED;
	if (sock == -ECONNREFUSED)
		return HYPERCACHE_ADMIN_NONE;
	if (sock < 0)
		return err_fwd(sock);
	(void)request_send(sock, rq, fd); /* fails if we are denied already; the answer says so */
	if (!wait_until(sock, POLLIN, deadline_ns))
		return say(why, HYPERCACHE_ADMIN_NONE,
			"the supervisor did not answer in time: is it stopped?");
	int r = packet_receive(sock, &a, fds);
	if (r < 0)
		return say(why, HYPERCACHE_ADMIN_DAMAGED,
			"the daemon's answer made no sense (%s): is it of another version?",
			strerror(-r));
	if (a.kind == ADMIN_DENIED)
		return say(why, HYPERCACHE_ADMIN_DENIED, "the daemon refuses: %s", a.text);
	bool ours = (a.kind == ADMIN_DONE || a.kind == ADMIN_REFUSED) && a.n_fds == 1;
	r = ours ? lines_take(fds[0], ret_lines) : err_new(-EPROTO);
	fds_close(fds, a.n_fds);
	if (r < 0)
		return say(why, HYPERCACHE_ADMIN_DAMAGED, "the daemon says: %s",
			a.kind == ADMIN_BAD ? a.text : "something that makes no sense");
	*ret_refusal = a.refusal < ADMIN_R_END ? a.refusal : ADMIN_R_NONE;
	return a.kind == ADMIN_REFUSED ? HYPERCACHE_ADMIN_REFUSED : 0;
}

int hypercache_admin_ask(const char *path, int timeout_ms, const struct admin_request *rq, int fd,
	char **ret_lines, enum admin_refusal *ret_refusal, char why[HYPERCACHE_ADMIN_WHY_BYTES])
{
	_cleanup_close_ int sock = admin_connect(path, why);

	return ask_at(sock, timeout_ms, rq, fd, ret_lines, ret_refusal, why);
}

int hypercache_admin_probe(const char *path, int timeout_ms, uint64_t every, int *ret_fd,
	char why[HYPERCACHE_ADMIN_WHY_BYTES])
{
	struct admin_request rq = {
		.magic = ADMIN_ASK_MAGIC, .version = ADMIN_VERSION, .ask = ADMIN_PROBE};
	_cleanup_close_ int sock = admin_connect(path, why);
	enum admin_refusal refusal;
	_cleanup_free_ char *lines = NULL;

	(void)snprintf(rq.text, sizeof rq.text, "%llu", (unsigned long long)every);
	int r = ask_at(sock, timeout_ms, &rq, -1, &lines, &refusal, why);
	if (r == HYPERCACHE_ADMIN_REFUSED) {
		const char *text = strchrnul(lines, '\t');
		text += *text == '\t';
		return say(why, r, "the daemon says: %.*s", (int)strcspn(text, "\n"), text);
	}
	if (r == 0)
		*ret_fd = steal_fd(sock);
	return r;
}

void hypercache_admin_close(struct hypercache_admin *a)
{
	for (uint32_t i = 0; i < a->n_sessions; i++)
		(void)munmap((void *)(uintptr_t)a->session[i].seg, a->session[i].bytes);
	free(a->session);
	for (int p = 0; p < SHM_POOLS_MAX; p++) {
		if (a->pool[p].room)
			(void)munmap(a->pool[p].room, a->pool[p].room_bytes);
		for (int r = 0; r < SHM_REGIONS_MAX; r++)
			cleanup_closep_(&a->pool_fd[p][r]);
	}
	cleanup_closep_(&a->ctl_fd);
	if (a->journal)
		(void)munmap((void *)(uintptr_t)a->journal, a->journal_bytes);
	if (a->ctl)
		(void)munmap((void *)(uintptr_t)a->ctl, a->ctl_bytes);
	*a = (struct hypercache_admin){0};
}

/* --------------------------------------------------------------------- pools */

/* Maps region r at its place in the room.  The directory's numbers are checked, not believed. */
static int region_map(const struct hypercache_admin *a, uint32_t idx, uint32_t r, uint8_t *base,
	uint64_t room_bytes)
{
	const struct shm_region *region = &a->ctl->pool[idx].region[r];
	int fd = a->pool_fd[idx][r];
	uint64_t off = region->base_off, bytes = region->bytes;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) != 0 || !(fcntl(fd, F_GET_SEALS) & F_SEAL_SHRINK) ||
		bytes == 0 || bytes > (uint64_t)st.st_size || off > room_bytes ||
		bytes > room_bytes - off || off % SHM_PAGE)
		return err_new(-EBADMSG);
	if (mmap(base + off, bytes, PROT_READ, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, 0) ==
		MAP_FAILED)
		return err_new(-errno);
	return 0;
}

int hypercache_admin_pool_map(
	struct hypercache_admin *a, uint32_t idx, char why[HYPERCACHE_ADMIN_WHY_BYTES])
{
	const struct shm_pool_entry *e = &a->ctl->pool[idx];
	uint32_t n = shm_load32_rlx(&e->n_regions);
	struct hypercache_admin_pool *p = &a->pool[idx];
	uint64_t bytes = 0;

	if (n < 1 || n > SHM_REGIONS_MAX)
		return say(why, HYPERCACHE_ADMIN_DAMAGED, "pool %u has %u regions", idx, n);
	for (uint32_t r = 0; r < n; r++)
		if (e->region[r].bytes < UINT64_C(1) << 44)
			bytes += e->region[r].bytes;
	uint64_t room_bytes = bytes + ALIGN_BYTES;
	void *room = mmap(
		NULL, room_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED)
		return say(why, err_new(-errno), "no address space for pool %u: %s", idx,
			strerror(errno));
	uint8_t *base = (uint8_t *)room +
	                (ALIGN_BYTES - (uintptr_t)room % ALIGN_BYTES) % ALIGN_BYTES;
	for (uint32_t i = 0; i < n; i++) {
		int r = region_map(a, idx, i, base, bytes);
		if (r < 0) {
			(void)munmap(room, room_bytes);
			return say(why, r == -EBADMSG ? HYPERCACHE_ADMIN_DAMAGED : r,
				"region %u of pool %u cannot be mapped: %s", i, idx, strerror(-r));
		}
	}
	p->base = base;
	p->bytes = bytes;
	p->room = room;
	p->room_bytes = room_bytes;
	return 0;
}

/* ------------------------------------------------------------------ sessions */

static const struct shm_block *block_of(const struct hypercache_admin_session *s, uint32_t i)
{
	return (const struct shm_block *)((const uint8_t *)s->seg + sizeof *s->seg) + i;
}

static uint64_t clip(uint64_t n, uint64_t max) { return n < max ? n : max; }

struct hypercache_reads hypercache_admin_reads(
	const struct hypercache_admin_session *s, uint32_t store_idx)
{
	const uint64_t max = HYPERCACHE_ADMIN_COUNT_MAX, bytes_max = HYPERCACHE_ADMIN_BYTES_MAX;
	struct hypercache_reads sum = {0};

	for (uint32_t i = 0; i < s->n_blocks && store_idx < SHM_BLOCK_STORES; i++) {
		const struct shm_store_reads *r = &block_of(s, i)->store[store_idx];
		sum.hits = clip(sum.hits + clip(shm_load_rlx(&r->hits), max), max);
		sum.misses = clip(sum.misses + clip(shm_load_rlx(&r->misses), max), max);
		sum.hit_bytes = clip(
			sum.hit_bytes + clip(shm_load_rlx(&r->hit_bytes), bytes_max), bytes_max);
	}
	return sum;
}

bool hypercache_admin_is_folded(const struct hypercache_admin_session *s)
{
	return shm_load_rlx(&s->seg->folded) != 0;
}

uint64_t hypercache_admin_count(const struct hypercache_admin_session *s, enum shm_block_counter c)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < s->n_blocks; i++)
		sum += clip(shm_load_rlx(&block_of(s, i)->counter[c]), HYPERCACHE_ADMIN_COUNT_MAX);
	return clip(sum, HYPERCACHE_ADMIN_COUNT_MAX);
}

void hypercache_admin_pins(const struct hypercache_admin *a,
	const struct hypercache_admin_session *s, uint32_t *ret_pins, uint32_t *ret_views)
{
	uint64_t gen = shm_load_rlx(&a->ctl->pin_gen[s->slot % SHM_SESSIONS_MAX]) & 0xffff;
	uint32_t used = shm_load32_rlx(&s->seg->blocks_used);

	*ret_pins = *ret_views = 0;
	for (uint32_t i = 0; i < s->n_blocks && i < used; i++) {
		for (uint32_t p = 0; p < SHM_BLOCK_PINS; p++) {
			uint64_t word = shm_load_rlx(&block_of(s, i)->pin[p]);
			if (word == 0 || shm_word_top(word) != gen)
				continue;
			(*ret_pins)++;
			*ret_views += p >= SHM_PIN_VIEW;
		}
	}
}

/* Is there an item's memory at off?  The page tables say: a hole may have none (rule P30), and pins are hostile. */
static bool page_is_used(const struct hypercache_admin *a, uint32_t idx, uint64_t off)
{
	const struct shm_pool_entry *e = &a->ctl->pool[idx];
	uint32_t n = shm_load32_rlx(&e->n_regions);

	for (uint32_t r = 0; r < n && r < SHM_REGIONS_MAX; r++) {
		uint64_t base = e->region[r].base_off, bytes = e->region[r].bytes;
		if (off < base || off - base >= bytes || base + bytes > a->pool[idx].bytes)
			continue;
		const struct shm_page *t = (const struct shm_page *)(const void
				*)(a->pool[idx].base + base + SHM_PAGE);
		uint32_t kind = shm_page_kind(shm_load_rlx(&t[(off - base) / SHM_PAGE].word));
		return kind == SHM_PAGE_SLAB || kind == SHM_PAGE_LARGE || kind == SHM_PAGE_CONT;
	}
	return false;
}

static uint64_t item_bytes(const struct hypercache_admin *a, uint64_t pin)
{
	uint32_t idx = (uint32_t)shm_word_low(pin);
	uint64_t off = shm_word_off(pin), all = a->pool[idx].bytes;

	if (!a->pool[idx].base || off > all - sizeof(struct shm_item) ||
		!page_is_used(a, idx, off) ||
		!page_is_used(a, idx, off + sizeof(struct shm_item) - 1))
		return 0;
	const struct shm_item *it = (const struct shm_item *)(const void *)(a->pool[idx].base +
									    off);
	uint64_t bytes = shm_item_bytes(shm_lens_key(it->lens), shm_lens_value(it->lens));
	return bytes <= all - off ? bytes : 0;
}

uint64_t hypercache_admin_held(
	const struct hypercache_admin *a, const struct hypercache_admin_session *s)
{
	uint64_t gen = shm_load_rlx(&a->ctl->pin_gen[s->slot % SHM_SESSIONS_MAX]) & 0xffff, sum = 0;
	uint32_t used = shm_load32_rlx(&s->seg->blocks_used);

	for (uint32_t i = 0; i < s->n_blocks && i < used; i++)
		for (uint32_t p = 0; p < SHM_BLOCK_PINS; p++) {
			uint64_t word = shm_load_rlx(&block_of(s, i)->pin[p]);
			if (word && shm_word_top(word) == gen)
				sum += item_bytes(a, word);
		}
	return sum;
}
