/* traffic.h - client processes that read and write so many times as they are told, and what `hypercache stat` says
 * of it; included by tests that count. */
#ifndef HC_TESTS_TRAFFIC_H
#define HC_TESTS_TRAFFIC_H
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include "cli_run.h"
#include "hypercache.h"

/* ------------------------------------------------------------------ known traffic */

/* What a client process is told to do, one at a time, by its pipe. */
struct order {
	uint32_t hits, misses, sets;
	bool end; /* by hc_close(); else it waits for the next order, or its death */
};

struct client {
	pid_t pid;
	int to, from;
};

static void client_obey(struct hc *hc, struct hc_store *s, uint32_t id, const struct order *o)
{
	char key[32], buf[64];
	size_t n;

	for (uint32_t i = 0; i < o->sets; i++) {
		int k = snprintf(key, sizeof key, "%u-%u", id, i);
		CHECK_EQ(hc_set(s, key, (size_t)k, "0123456789", 10, NULL), HC_OK);
	}
	int k = snprintf(key, sizeof key, "%u-0", id);
	for (uint32_t i = 0; i < o->hits; i++)
		CHECK_EQ(hc_get(s, key, (size_t)k, buf, sizeof buf, &n), HC_OK);
	for (uint32_t i = 0; i < o->misses; i++)
		CHECK_EQ(hc_get(s, "absent", 6, buf, sizeof buf, &n), HC_MISS);
	if (o->end)
		hc_close(hc);
}

static void client_run(const struct t_daemon *d, uint32_t id, int from, int to)
{
	struct hc_open_opts opts = HC_OPTS(hc_open_opts);
	struct hc_store *s;
	struct order o;
	struct hc *hc;

	opts.socket = d->socket;
	opts.timeout_ms = (uint32_t)t_limit_ms(LIMIT_MS);
	CHECK_EQ(hc_open(&hc, &opts), HC_OK);
	CHECK_EQ(hc_store(hc, "default", &s), HC_OK);
	while (read(from, &o, sizeof o) == (ssize_t)sizeof o) {
		client_obey(hc, s, id, &o);
		CHECK_EQ(write(to, "", 1), 1);
		if (o.end)
			break;
	}
	_exit(0);
}

static struct client client_start(const struct t_daemon *d, uint32_t id)
{
	struct client c;
	int in[2], out[2];

	CHECK(pipe(in) == 0 && pipe(out) == 0);
	c.pid = fork();
	CHECK(c.pid >= 0);
	if (c.pid == 0) {
		close(in[1]);
		close(out[0]);
		client_run(d, id, in[0], out[1]);
	}
	close(in[0]);
	close(out[1]);
	c.to = in[1];
	c.from = out[0];
	return c;
}

static void client_order(const struct client *c, struct order o)
{
	char done;

	CHECK_EQ(write(c->to, &o, sizeof o), (ssize_t)sizeof o);
	CHECK(t_wait_fd(c->from, POLLIN, LIMIT_MS));
	CHECK_EQ(read(c->from, &done, 1), 1);
}

static void client_end(struct client *c, int sig)
{
	if (sig)
		CHECK_EQ(kill(c->pid, sig), 0);
	close(c->to);
	close(c->from);
	(void)t_wait_child(c->pid, LIMIT_MS);
}

/* ------------------------------------------------------------------ totals */

struct total {
	uint64_t hits, misses, sets, sessions;
};

static struct total total_now(const struct t_daemon *d)
{
	struct result r = run(d, ARGS("stat", "--json"));
	struct total t;

	CHECK_EQ(r.status, 0);
	const char *stores = strstr(r.out, "\"stores\":");
	CHECK(stores != NULL);
	t = (struct total){json_number(stores, "hits"), json_number(stores, "misses"),
		json_number(stores, "sets"), json_number(r.out, "sessions")};
	result_free(&r);
	return t;
}

__attribute__((unused)) static void check_total(const struct t_daemon *d, const struct total *want)
{
	struct total t = total_now(d);

	CHECK_EQ(t.hits, want->hits);
	CHECK_EQ(t.misses, want->misses);
	CHECK_EQ(t.sets, want->sets);
}

static void order_all(struct client *c, uint32_t n, struct order o, struct total *want)
{
	for (uint32_t i = 0; i < n; i++) {
		o.hits += i;
		client_order(&c[i], o);
		want->hits += o.hits;
		want->misses += o.misses;
		want->sets += o.sets;
	}
}

/* Waits until the engine knows of so many sessions. */
static void wait_sessions(const struct t_daemon *d, uint64_t n)
{
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(LIMIT_MS) * 1000000;

	while (total_now(d).sessions != n)
		CHECK(t_now_ns() < end_ns);
}

#endif
