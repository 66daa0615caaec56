/* resize.h - for tests of pools that change their size: a daemon that reloads, entries that can be recognised,
 * readers that look on meanwhile.
 */
#ifndef HC_TESTS_RESIZE_H
#define HC_TESTS_RESIZE_H
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "../../libclient/hc_i.h"
#include "atomic.h"
#include "hypercache.h"
#include "step.h"

enum { LIMIT_MS = 30000, VALUE = 3000, VIEWS = 20 };

#define MIB (1ull << 20)
static char *out, *err; /* of the last program */

static inline int reload(const struct t_daemon *d, const char *yaml)
{
	const char *argv[] = {
		t_bin("hypercache"), "--socket", d->socket, "--admin", d->admin, "reload", NULL};

	t_daemon_configure(d, yaml);
	free(out);
	free(err);
	return t_run(argv, NULL, 0, &out, NULL, &err, LIMIT_MS);
}

static inline struct hc *client(const struct t_daemon *d)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct hc *hc;

	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(LIMIT_MS);
	CHECK_EQ(hc_open(&hc, &o), HC_OK);
	return hc;
}

static inline struct hc_store *store_of(struct hc *hc)
{
	struct hc_store *s;

	CHECK_EQ(hc_store(hc, "default", &s), HC_OK);
	return s;
}

static inline uint64_t counter(const struct hc *hc, enum shm_pool_counter c)
{
	return shm_load_rlx(&hc->ctl->pool[0].counter[c]);
}

/* Waits until the pool has a size in [lo, hi]. */
static inline void wait_size(const struct hc *hc, uint64_t lo, uint64_t hi)
{
	uint64_t deadline_ns = t_now_ns() + t_limit_ms(LIMIT_MS) * 1000000ull, is;

	do {
		CHECK_EQ(hc_ping((struct hc *)(uintptr_t)hc),
			HC_OK); /* an event: the engine's turn */
		is = counter(hc, SHM_PC_limit_bytes);
		if (t_now_ns() > deadline_ns)
			t_fail(__FILE__, __LINE__, "the pool has %llu bytes",
				(unsigned long long)is);
	} while (is < lo || is > hi);
}

static inline size_t value_make(int i, uint8_t *v)
{
	size_t n = 8 + (size_t)(i * 7919u) % VALUE;

	memset(v, 'a' + i % 23, n);
	memcpy(v, &i, sizeof i);
	return n;
}

static inline void put(struct hc_store *s, int i)
{
	uint8_t v[VALUE + 8];
	size_t n = value_make(i, v);

	CHECK_EQ(hc_set(s, &i, sizeof i, v, n, NULL), HC_OK);
}

/* Is it there?  Then it is whole. */
static inline bool get(struct hc_store *s, int i)
{
	uint8_t v[VALUE + 8], want[VALUE + 8];
	size_t n = 0;
	int r = hc_get(s, &i, sizeof i, v, sizeof v, &n);

	CHECK(r == HC_OK || r == HC_MISS);
	if (r == HC_OK) {
		CHECK_EQ(n, value_make(i, want));
		CHECK(memcmp(v, want, n) == 0);
	}
	return r == HC_OK;
}

static inline uint64_t file_bytes(const struct t_daemon *d)
{
	uint64_t sum = 0;
	char path[64], to[256];

	for (int fd = 0; fd < 256; fd++) {
		struct stat st;
		(void)snprintf(path, sizeof path, "/proc/%d/fd/%d", d->proc->pid, fd);
		ssize_t n = readlink(path, to, sizeof to - 1);
		if (n <= 0)
			continue;
		to[n] = 0;
		if (strstr(to, "memfd:hypercache-main") && stat(path, &st) == 0)
			sum += (uint64_t)st.st_blocks * 512;
	}
	return sum;
}

static inline void check_fsck(const struct t_daemon *d)
{
	const char *argv[] = {
		t_bin("hypercache"), "--socket", d->socket, "--admin", d->admin, "fsck", NULL};

	free(out);
	free(err);
	CHECK_EQ(t_run(argv, NULL, 0, &out, NULL, &err, LIMIT_MS), 0);
	CHECK(strstr(out, "whole: "));
}

/* ------------------------------------------------------------------ readers */

/* Those who hold a view when the pool shrinks: each tells that it is ready, and looks on until told to
 * end. */
struct looker {
	pid_t pid;
	int to;
};

static inline void look(const char *socket, int ready, int end)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct hc_view v[VIEWS];
	struct hc_store *s;
	struct hc *hc;
	char c = 1;

	o.socket = socket;
	CHECK_EQ(hc_open(&hc, &o), HC_OK);
	s = store_of(hc);
	for (int i = 0; i < VIEWS; i++) {
		int key = i * 37;
		CHECK_EQ(hc_view(s, &key, sizeof key, &v[i]), HC_OK);
	}
	CHECK_EQ(write(ready, &c, 1), 1);
	CHECK_EQ(fcntl(end, F_SETFL, O_NONBLOCK), 0);
	for (int n = 0; read(end, &c, 1) < 0; n++) {
		uint8_t want[VALUE + 8];
		(void)get(s, n % 8000);
		int i = n % VIEWS;
		CHECK_EQ(value_make(i * 37, want), v[i].value_bytes);
		CHECK(memcmp(want, v[i].value, v[i].value_bytes) == 0);
		CHECK_EQ(hc_view_ok(&v[i]), 1);
	}
	for (int i = 0; i < VIEWS; i++)
		CHECK_EQ(hc_view_release(&v[i]), HC_OK);
	hc_close(hc);
	_exit(0);
}

static inline struct looker look_start(const struct t_daemon *d)
{
	int ready[2], end[2];
	char c;

	CHECK(pipe(ready) == 0 && pipe(end) == 0);
	struct looker l = {.pid = fork(), .to = end[1]};
	CHECK(l.pid >= 0);
	if (l.pid == 0) {
		(void)close(end[1]);
		look(d->socket, ready[1], end[0]);
	}
	(void)close(ready[1]);
	(void)close(end[0]);
	CHECK_EQ(read(ready[0], &c, 1), 1);
	(void)close(ready[0]);
	return l;
}

static inline void look_end(struct looker *l, int n)
{
	for (int i = 0; i < n; i++) /* the later ones have the earlier ones' too */
		(void)close(l[i].to);
	for (int i = 0; i < n; i++) {
		int st = t_wait_child(l[i].pid, t_limit_ms(LIMIT_MS));
		CHECK(WIFEXITED(st) && WEXITSTATUS(st) == 0);
	}
}

#endif
