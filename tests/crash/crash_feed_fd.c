/* crash_feed_fd.c - a poll loop that follows a feed, and deaths: of engines at each mark that waiting for them passes, and of
 * one that waits.  The others get every change exactly once.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "../kit/t_step.h"
#include "hypercache.h"
#include "step.h"

enum { WAIT_MS = 20000, CHANGES = 40, PASSES = 3 };

static const char config[] = "heartbeat: 100ms\nrestart_limit: 1000\nrestart_backoff_max: 100ms\n"
			     "pools: {main: {size: 8MiB, huge_pages: \"off\", feed: 64KiB}}\n";

struct loop {
	struct hc *hc;
	struct hc_store *s;
	struct hc_feed *f;
	int fd;
	uint64_t last;
};

static void loop_begin(struct loop *l, const struct t_daemon *d)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);

	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(WAIT_MS);
	l->last = 0;
	CHECK_EQ(hc_open(&l->hc, &o), HC_OK);
	CHECK_EQ(hc_store(l->hc, "default", &l->s), HC_OK);
	CHECK_EQ(hc_subscribe(l->hc, NULL, &l->f), HC_OK);
	CHECK_EQ(hc_feed_fd(l->f, &l->fd), HC_OK);
}

static void loop_end(struct loop *l)
{
	hc_feed_close(l->f);
	hc_close(l->hc);
}

/* What is there. */
static void take(struct loop *l)
{
	struct hc_event ev = HC_OPTS(hc_event);
	int r;

	while ((r = hc_feed_next(l->f, 0, &ev)) == HC_OK) {
		CHECK_EQ(ev.sequence, l->last + 1);
		l->last = ev.sequence;
	}
	CHECK_EQ(r, HC_MISS);
}

static void change(struct loop *l) { CHECK_EQ(hc_set(l->s, "k", 1, "v", 1, NULL), HC_OK); }

static void take_until(struct loop *l, uint64_t last)
{
	while (take(l), l->last < last)
		CHECK(t_wait_fd(l->fd, POLLIN, WAIT_MS));
}

/* An engine dies at the nth pass of the mark. */
static void die_at(const char *step, int nth)
{
	char order[512];
	const char *once = t_path("once");
	struct loop l;

	int fd = open(once, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	CHECK(fd >= 0);
	(void)close(fd);
	(void)snprintf(order, sizeof order, "HC_STEP=kill:%s:%d:%s", step, nth, once);
	struct t_daemon *d = t_daemon_start(config, (const char *[]){order, NULL});
	loop_begin(&l, d);
	for (uint64_t i = 1; i <= CHANGES; i++) {
		take(&l);                   /* asks the engine */
		for (int k = 0; k < 3; k++) /* which has read it before it hears of the change */
			(void)hc_ping(l.hc);
		change(&l);
		take_until(&l, i);
	}
	CHECK(access(once, F_OK) != 0);
	loop_end(&l);
	t_daemon_stop(d);
}

TEST_LIMIT(whoever_waits_survives_an_engine_that_dies_while_it_is_asked_or_answers, 100)
{
	const char *const steps[] = {"feed:watched", "feed:tells"};

	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
		for (int nth = 1; nth <= PASSES; nth++)
			die_at(steps[i], nth);
		t_step_killed(steps[i]);
	}
}

TEST(who_dies_while_it_waits_is_missed_by_nobody)
{
	struct t_daemon *d = t_daemon_start(config, NULL);
	struct loop l;

	loop_begin(&l, d);
	fflush(NULL);
	for (int i = 0; i < 40; i++) { /* more than may wait at once */
		pid_t pid = fork();
		CHECK(pid >= 0);
		if (pid == 0) {
			struct loop child;
			loop_begin(&child, d);
			t_step_kill_at("bell:set", 1);
			(void)hc_feed_next(child.f, 0, &(struct hc_event)HC_OPTS(hc_event));
			_exit(1);
		}
		CHECK_EQ(t_wait_child(pid, WAIT_MS), SIGKILL);
		change(&l);
	}
	t_step_killed("bell:set");
	take_until(&l, 40);
	loop_end(&l);
	t_daemon_stop(d);
}
