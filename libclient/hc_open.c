/* hc_open.c - a session's begin and end, its stores, and what can be said about it. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "barrier.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "hc_async.h"
#include "key.h"
#include "step.h"

enum {
	TIMEOUT_MS = 5000,
	SUBMIT_MAX = 1024,
	SUBMIT_BYTES = 4 << 20,
	BYE_MS = 200,
	WORD_BYTES = 4096, /* the page of the fork word */
	LINE_BYTES = 256,
};

#define NS_PER_S 1000000000ll
#define NS_PER_MS 1000000ull

int hc_opts_take(void *to, size_t to_bytes, const void *from)
{
	size_t size;

	memset(to, 0, to_bytes);
	if (!from)
		return 0;
	memcpy(&size, from, sizeof size);
	if (size < sizeof size || size > LINE_BYTES * 16)
		return err_new(-EINVAL);
	memcpy(to, from, size < to_bytes ? size : to_bytes);
	for (size_t i = to_bytes; i < size; i++)
		if (((const uint8_t *)from)[i])
			return err_new(-EINVAL);
	return 0;
}

/* ------------------------------------------------------------------ defaults */

/* The first line of a file of /proc, without its end, or "". */
static void proc_line(const char *path, char *to, size_t to_bytes)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, to, to_bytes - 1) : -1;

	to[n > 0 ? n : 0] = 0;
	to[strcspn(to, "\n")] = 0;
}

/* The last resort is in a folder where anybody may make one: it has to be this user's. */
static int socket_in_tmp(char *to, size_t to_bytes)
{
	struct stat st;

	int n = snprintf(to, to_bytes, "/tmp/hypercache-%u", (unsigned)geteuid());
	if (lstat(to, &st) < 0)
		return err_new(-ECONNREFUSED);
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & (S_IWGRP | S_IWOTH)))
		return err_new(-EACCES);
	(void)snprintf(to + n, to_bytes - (size_t)n, "/hypercache.sock");
	return 0;
}

/* Where the daemon listens, as hypercache.h says.  0; -EINVAL: too long; -ECONNREFUSED; -EACCES. */
static int socket_path(const char *asked, struct sockaddr_un *ret)
{
	const char *run = "/run/hypercache/hypercache.sock";
	const char *path = asked ? asked : secure_getenv("HYPERCACHE_SOCKET");
	char buf[sizeof ret->sun_path] = "";

	if (!path || !path[0]) {
		const char *dir = secure_getenv("XDG_RUNTIME_DIR");
		path = run;
		if (geteuid() != 0) {
			int n = dir ? snprintf(
					      buf, sizeof buf, "%s/hypercache/hypercache.sock", dir)
			            : 0;
			if (n > 0 && n < (int)sizeof buf && access(buf, F_OK) == 0) {
				path = buf;
			} else if (access(run, F_OK) != 0) {
				int r = socket_in_tmp(buf, sizeof buf);
				if (r < 0)
					return err_fwd(r);
				path = buf;
			}
		}
	}
	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof ret->sun_path)
		return err_new(-EINVAL);
	memcpy(ret->sun_path, path, strlen(path));
	return 0;
}

/* This process's CLOCK_MONOTONIC minus that of the first time namespace (rule P29).
 * 0; -ENOTSUP: the kernel does not tell, because the process unshared its children's
 * time but not its own. */
static int time_offset(int64_t *ret_ns)
{
	char own[64] = "", children[64] = "", line[LINE_BYTES], *end;

	*ret_ns = 0;
	if (readlink("/proc/self/ns/time", own, sizeof own - 1) < 0)
		return 0; /* no time namespaces, or no /proc to have come from one by */
	if (readlink("/proc/self/ns/time_for_children", children, sizeof children - 1) < 0)
		return 0;
	if (strcmp(own, "time:[4026531834]") == 0) /* PROC_TIME_INIT_INO */
		return 0;
	if (strcmp(own, children) != 0)
		return err_new(-ENOTSUP);
	proc_line("/proc/self/timens_offsets", line, sizeof line);
	if (strncmp(line, "monotonic", strlen("monotonic")) != 0)
		return err_new(-ENOTSUP);
	long long s = strtoll(line + strlen("monotonic"), &end, 10);
	long long ns = strtoll(end, NULL, 10);
	*ret_ns = s * NS_PER_S + ns;
	return 0;
}

/* ------------------------------------------------------------------ open and close */

/* The word that a fork wipes. */
static int fork_word_new(const uint32_t **ret)
{
	uint32_t *word = mmap(
		NULL, WORD_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (word == MAP_FAILED)
		return err_new(errno == EAGAIN ? -ENOMEM : -errno);
	if (madvise(word, WORD_BYTES, MADV_WIPEONFORK) < 0) {
		int r = -errno;
		(void)munmap(word, WORD_BYTES);
		return err_new(r);
	}
	*word = 1;
	*ret = word;
	return 0;
}

/* Undoes whatever there is; also of a half-built one, and in a forked child.  Keeps errno. */
static void hc_free(struct hc *hc)
{
	int keep = errno;

	hc_threads_free(hc->threads);
	if (hc->fork_word && hc_forked(hc))
		hc->conn.watch_fd = -1; /* the set is the parent's too */
	hc_conn_fini(&hc->conn);
	hc_async_fini(hc);
	if (hc->fork_word) {
		hc_unmap(hc);
		(void)munmap((void *)(uintptr_t)hc->fork_word, WORD_BYTES);
	}
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
		for (struct hc_store *s = hc->store[i], *next; s; s = next) {
			next = s->next;
			if (s < hc->store_mem || s >= hc->store_mem + SHM_STORES_MAX)
				free(s);
		}
	}
	free(hc);
	errno = keep;
}
DEFINE_CLEANUP(struct hc *, hc_free)

static int hello_fill(struct hc *hc, const struct hc_open_opts *o)
{
	struct wire_request *h = &hc->conn.hello;

	*h = (struct wire_request){
		.verb = WIRE_HELLO,
		.proto_major = WIRE_PROTO_MAJOR,
		.proto_minor = WIRE_PROTO_MINOR,
		.layout_major = SHM_LAYOUT_MAJOR,
		.layout_minor = SHM_LAYOUT_MINOR,
	};
	hc->full_fence = o->full_fence || shm_barrier_register() < 0;
	h->fence = hc->full_fence ? SHM_FENCE_FULL : SHM_FENCE_COMPILER;
	if (o->name)
		(void)snprintf(h->name, sizeof h->name, "%s", o->name);
	else
		proc_line("/proc/self/comm", h->name, sizeof h->name);
	return err_fwd(time_offset(&h->time_off_ns));
}

/* All that may fail after there is memory for the handle. */
static int session_open(struct hc *hc, const struct hc_open_opts *o)
{
	struct hc_handed handed = {0};

	(void)pthread_mutex_init(&hc->lock, NULL);
	(void)pthread_mutex_init(&hc->store_lock, NULL);
	(void)pthread_mutex_init(&hc->map_lock, NULL);
	hc->stale_policy = o->stale;
	hc->submit_max = o->submit_max ? o->submit_max : SUBMIT_MAX;
	hc->submit_bytes = o->submit_bytes ? o->submit_bytes : SUBMIT_BYTES;
	hc->conn.spin_ns = o->spin_us * 1000ull;
	hc->timeout_ns = (o->timeout_ms ? o->timeout_ms : TIMEOUT_MS) * NS_PER_MS;
	uint64_t deadline_ns = hc_now_ns() + hc->timeout_ns;
	int r = fork_word_new(&hc->fork_word);
	if (r == 0)
		r = socket_path(o->socket, &hc->conn.addr);
	if (r == 0)
		r = hello_fill(hc, o);
	if (r == 0)
		r = hc_hello_open(&hc->conn, deadline_ns, &handed);
	if (r == 0)
		r = hc_map(hc, &handed);
	if (!MUTANT(48))
		hc_handed_close(&handed);
	if (r < 0)
		return err_fwd(r);
	if (!MUTANT(601)) /* 601: every clock counts as the engine's */
		hc->time_off_ns = (int64_t)hc->ctl->time_off_ns - hc->conn.hello.time_off_ns;
	hc->conn.hello.session = hc->session_id;
	hc->frame_max = hc->conn.max_frame;
	hc->conn.sup_word = &hc->ctl->sup_word;
	struct shm_block *first = (struct shm_block *)(void *)(hc->seg + 1);
	hc->conn.requests = &first->counter[SHM_BC_requests];
	hc->threads = hc_threads_new(hc);
	return hc->threads ? 0 : err_new(-ENOMEM);
}

int hc_open(struct hc **ret, const struct hc_open_opts *opts)
{
	struct hc_open_opts o;

	if (!ret)
		return HC_E_INVAL;
	*ret = NULL;
	if (hc_opts_take(&o, sizeof o, opts) < 0 || o.stale > HC_STALE_FAIL || o.full_fence > 1 ||
		o.submit_max > HC_SUBMIT_MAX || o.spin_us > HC_SPIN_US_MAX)
		return HC_E_INVAL;
	_cleanup_(hc_freep) struct hc *hc = calloc(1, sizeof *hc);
	if (!hc)
		return HC_E_NO_MEMORY;
	hc_conn_init(&hc->conn);
	hc_async_init(hc);
	int r = session_open(hc, &o);
	if (r < 0)
		return hc_border(r);
	*ret = steal_ptr(hc);
	return HC_OK;
}

void hc_close(struct hc *hc)
{
	if (!hc)
		return;
	if (!hc_forked(hc)) {
		hc_interrupt(hc, 0);
		hc_conn_bye(&hc->conn, hc_now_ns() + BYE_MS * NS_PER_MS);
	}
	hc_free(hc);
}

/* ------------------------------------------------------------------ stores */

/* The handle of the store at idx, made at first use.  0 or -ENOMEM. */
static int store_take(struct hc *hc, uint32_t idx, uint64_t id, uint32_t pool_idx, uint64_t wants,
	struct hc_store **ret)
{
	const struct shm_store_entry *e = &hc->ctl->store[idx];
	struct hc_store *s = hc->store[idx];

	if (!s || s->id != id) {
		struct hc_store *fresh = s ? malloc(sizeof *fresh) : &hc->store_mem[idx];
		if (!fresh)
			return err_new(-ENOMEM);
		*fresh = (struct hc_store){
			.hc = hc,
			.pool = &hc->pool[pool_idx],
			.entry = e,
			.fork_word = hc->fork_word,
			.serial = hc_threads_serial(hc->threads),
			.stale_fails = hc->stale_policy == HC_STALE_FAIL,
			.plain_serial = hc->stale_policy == HC_STALE_FAIL || hc->full_fence || wants
		                                ? HC_NO_SERIAL
		                                : hc_threads_serial(hc->threads),
			.reads_off = (uint32_t)(offsetof(struct shm_block, store) +
						idx * sizeof(struct shm_store_reads)),
			.seed = shm_key_seed(hc->ctl->hash_seed, id),
			.slides = wants & SHM_STORE_SLIDES,
			.told_ms = (uint32_t)(wants >> SHM_STORE_TOLD_SHIFT),
			.idx = idx,
			.id = id,
			.next = s,
		};
		hc->store[idx] = s = fresh;
	}
	*ret = s;
	return 0;
}

int hc_store(struct hc *hc, const char *name, struct hc_store **ret)
{
	if (!hc || !name || !ret || !name[0] || strlen(name) > HC_NAME_BYTES_MAX)
		return HC_E_INVAL;
	if (hc_forked(hc))
		return HC_E_FORKED;
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++) {
		const struct shm_store_entry *e = &hc->ctl->store[i];
		uint64_t id = shm_load_acq(&e->id); /* acq:entry.id */
		if (id == 0 || strncmp(e->name, name, sizeof e->name) != 0)
			continue;
		uint32_t pool_idx = e->pool_idx;
		uint64_t wants = shm_load_rlx(&e->sliding);
		shm_copy_over(); /* acq:entry.reuse */
		if (shm_load_rlx(&e->id) != id)
			continue; /* dropped meanwhile; what is there now has another name, or is newer */
		if (pool_idx >= SHM_POOLS_MAX)
			return HC_E_DAMAGED;
		int r = hc_map_late(hc, pool_idx);
		if (r < 0)
			return hc_border(r);
		(void)pthread_mutex_lock(&hc->store_lock);
		r = store_take(hc, i, id, pool_idx, wants, ret);
		(void)pthread_mutex_unlock(&hc->store_lock);
		return hc_border(r);
	}
	return HC_E_NO_STORE;
}

/* ------------------------------------------------------------------ state */

int hc_health(const struct hc *hc)
{
	int flags = 0;

	if (!hc)
		return HC_E_INVAL;
	if (hc_forked(hc))
		return HC_E_FORKED;
	if ((shm_load32_rlx(&hc->ctl->eng_word) & SHM_FUTEX_OWNER_DIED) ||
		shm_load_rlx(&hc->ctl->state) != SHM_ENGINE_SERVING)
		flags |= HC_ENGINE_GONE;
	if (shm_load32_rlx(&hc->ctl->sup_word) & SHM_FUTEX_OWNER_DIED)
		flags |= HC_SUPERVISOR_GONE;
	if (!hc_conn_up(&hc->conn))
		flags |= HC_DISCONNECTED;
	return flags;
}

/* The word for what backs the first pool that is mapped. */
static const char *backing_name(const struct hc *hc)
{
	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++) {
		if (!hc->pool[i].mapped)
			continue;
		switch (hc->ctl->pool[i].region[0].backing) {
		case SHM_BACK_HUGE_1G:
			return "huge-1g";
		case SHM_BACK_HUGE_2M:
			return "huge-2m";
		case SHM_BACK_THP:
			return "thp";
		default:
			return "base";
		}
	}
	return "";
}

int hc_info(const struct hc *hc, struct hc_info *ret)
{
	if (!hc || !ret || ret->size < sizeof ret->size)
		return HC_E_INVAL;
	if (hc_forked(hc))
		return HC_E_FORKED;
	struct hc_info info = {
		.size = ret->size,
		.session_id = hc->session_id,
		.engine_gen = shm_load_rlx(&hc->ctl->engine_gen),
		.threads_max = hc->n_blocks,
		.views_max = SHM_BLOCK_PINS - SHM_PIN_VIEW,
		.full_fence = hc->full_fence,
		.lsn = shm_load_acq(&hc->ctl->lsn), /* acq:control.lsn */
	};
	for (uint32_t i = 0; i < SHM_STORES_MAX; i++)
		info.n_stores += shm_load_rlx(&hc->ctl->store[i].id) != 0;
	(void)snprintf(info.backing, sizeof info.backing, "%s", backing_name(hc));
	memcpy(ret, &info, ret->size < sizeof info ? ret->size : sizeof info);
	return HC_OK;
}
