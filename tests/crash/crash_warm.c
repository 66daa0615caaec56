/* crash_warm.c - the supervisor is killed at every mark of its life, with its engine or without, and started anew by
 * a service manager that keeps its descriptors: the memory is whole, and every change that was asked for has happened once,
 * whoever was to answer it. */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "../kit/t_step.h"
#include "../proc/manager.h"
#include "atomic.h"
#include "hypercache.h"

enum { LIMIT_MS = 30000, N = 100, STORE = 500, STARTS = 4 };

struct world {
	struct manager m;
	struct hc *hc;
	struct hc_store *s;
	pthread_t thread;
	shm_u32 stop;
	int64_t n; /* increments that were answered */
};

static void once(void)
{
	int fd = open(t_path("once"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	CHECK(fd >= 0);
	(void)close(fd);
}

static int cli(const struct manager *m, const char *a, const char *b, const char *c)
{
	return t_run((const char *[]){t_bin("hypercache"), "--socket", m->socket, "--admin",
			     m->admin, "--timeout", "3s", a, b, c, NULL},
		NULL, 0, NULL, NULL, NULL, LIMIT_MS);
}

static void *writer(void *arg)
{
	struct world *w = arg;
	int64_t sum;

	while (!shm_load32_acq(&w->stop)) { /* acq:test.stop */
		CHECK_EQ(hc_incr(w->s, "count", 5, 1, NULL, &sum), HC_OK);
		CHECK_EQ(sum, ++w->n);
	}
	return NULL;
}

static void yaml_write(const struct manager *m, const char *size)
{
	FILE *f = fopen(m->config, "we");

	CHECK(f != NULL);
	fprintf(f,
		"socket: %s\nadmin_socket: %s\ndata_dir: %s/data\nrestart_backoff_max: "
		"100ms\nlog_level: debug\n"
		"pools: { main: { size: %s, huge_pages: off } }\n",
		m->socket, m->admin, t_dir(), size);
	t_config_write(f, NULL);
	CHECK_EQ(fclose(f), 0);
}

static void begin(struct world *w, const char *order)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	char key[16];

	memset(w, 0, sizeof *w);
	manager_begin(&w->m, STORE, true, NULL);
	yaml_write(&w->m, "4MiB");
	manager_start(&w->m, order);
	o.socket = w->m.socket;
	o.timeout_ms = (uint32_t)t_limit_ms(LIMIT_MS);
	CHECK_EQ(hc_open(&w->hc, &o), HC_OK);
	CHECK_EQ(hc_store(w->hc, "default", &w->s), HC_OK);
	for (int i = 0; i < N; i++)
		CHECK_EQ(hc_set(w->s, key, (size_t)snprintf(key, sizeof key, "key-%d", i), key, 8,
				 NULL),
			HC_OK);
	CHECK_EQ(pthread_create(&w->thread, NULL, writer, w), 0);
}

static bool has_ended(const struct manager *m) { return t_wait_fd(m->p->pidfd, POLLIN, 0); }

/* The command line, as long as the supervisor lives: nobody answers it then. */
static void ask(struct world *w, const char *a, const char *b, const char *c)
{
	struct manager *m = &w->m;

	if (has_ended(m))
		return;
	struct t_proc *p = t_spawn((const char *[]){t_bin("hypercache"), "--socket", m->socket,
					   "--admin", m->admin, "--timeout", "10s", a, b, c, NULL},
		NULL);
	struct pollfd f[2] = {
		{.fd = p->pidfd, .events = POLLIN}, {.fd = m->p->pidfd, .events = POLLIN}};
	CHECK(poll(f, 2, t_limit_ms(LIMIT_MS)) > 0);
	if (f[0].revents)
		(void)t_proc_exit(p, LIMIT_MS);
	else
		t_proc_kill(p, LIMIT_MS);
	t_proc_free(p);
}

/* Takes the supervisor past its marks, as far as it lives. */
static void live(struct world *w)
{
	pid_t engine[4];

	ask(w, "set", "key", "value");
	ask(w, "store", "create", "more");
	yaml_write(&w->m, "6MiB");
	ask(w, "reload", NULL, NULL);
	ask(w, "client", "revoke", "1f");
	ask(w, "upgrade", NULL, NULL);
	ask(w, "fsck", "--repair", NULL);
	if (!has_ended(&w->m) && t_children(w->m.p->pid, engine, 4) == 1)
		(void)kill(engine[0], SIGKILL);
	ask(w, "ping", NULL, NULL);
}

static void end(struct world *w)
{
	char key[16], buf[16];
	size_t n;

	shm_store32_rel(&w->stop, 1); /* rel:test.stop */
	CHECK_EQ(pthread_join(w->thread, NULL), 0);
	CHECK(w->n > 0);
	for (int i = 0; i < N; i++) {
		size_t k = (size_t)snprintf(key, sizeof key, "key-%d", i);
		CHECK_EQ(hc_get(w->s, key, k, buf, sizeof buf, &n), HC_OK);
		CHECK(n == 8 && memcmp(buf, key, 6) == 0);
	}
	CHECK_EQ(cli(&w->m, "fsck", NULL, NULL), 0);
	hc_close(w->hc);
	manager_stop(&w->m);
	CHECK_EQ(manager_stored(&w->m), 0);
	manager_end(&w->m);
	CHECK(unlink(w->m.notify) == 0 && unlink(w->m.give) == 0 && unlink(w->m.socket) == 0 &&
		unlink(w->m.admin) == 0);
}

/* What the dead supervisor's engine does then is its own business, or it dies, too. */
static void bury(struct world *w, bool engine_too)
{
	pid_t pid[8];

	CHECK_EQ(t_proc_exit(w->m.p, LIMIT_MS), 128 + SIGKILL);
	int n = engine_too ? t_children(getpid(), pid, 8) : 0;
	for (int i = 0; i < n; i++)
		(void)kill(pid[i], SIGKILL);
	t_proc_free(w->m.p);
	w->m.p = NULL;
}

/* One life, with a death at this mark: while it serves, or at a later start. */
static void life(const char *mark, bool engine_too)
{
	char order[512];
	struct world w;

	fprintf(stderr, "  killed at %s%s\n", mark, engine_too ? ", with its engine" : "");
	(void)snprintf(order, sizeof order, "kill:%s:0:%s", mark, t_path("once"));
	begin(&w, order);
	once();
	live(&w);
	/* A start's own mark is met at the next start. */
	if (!has_ended(&w.m) && strcmp(mark, "sup:quit-sent") == 0)
		t_proc_signal(w.m.p, SIGTERM);
	else if (!has_ended(&w.m))
		t_proc_signal(w.m.p, SIGKILL);
	bury(&w, engine_too);
	for (int i = 0; i < STARTS && !w.m.p; i++) {
		manager_launch(&w.m, order);
		while (!has_ended(&w.m) && cli(&w.m, "ping", NULL, NULL) != 0)
			;
		if (has_ended(&w.m))
			bury(&w, engine_too);
	}
	CHECK(w.m.p != NULL);
	free(t_proc_line(w.m.p, "a supervisor died here: going on", LIMIT_MS));
	CHECK(access(t_path("once"), F_OK) != 0); /* it came to pass */
	end(&w);
	manager_orphans(&w.m);
	t_step_killed(mark);
}

TEST_LIMIT(a_supervisor_is_killed_at_every_mark_and_another_goes_on, 300)
{
	static struct t_steps steps;
	char order[512];
	struct world w;
	int n = 0;

	if (getenv("T_STEP")) { /* one mark, sup:moment, with its engine */
		life(getenv("T_STEP"), true);
		return;
	}
	(void)snprintf(order, sizeof order, "record:%s", t_path("steps"));
	begin(&w, order);
	live(&w);
	CHECK(!has_ended(&w.m));
	t_proc_signal(w.m.p, SIGKILL);
	bury(&w, true);
	manager_start(&w.m, order);
	end(&w);
	t_steps_load(&steps, t_path("steps"));
	for (int i = 0; i < steps.n; i++) {
		if (strncmp(steps.name[i], "sup:", 4) != 0)
			continue;
		life(steps.name[i], n++ % 2);
	}
	CHECK(n >= 30);
}
