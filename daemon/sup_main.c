/* sup_main.c - the supervisor's life: take everything, wait for events, give it back. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/err.h"
#include "log.h"
#include "panic.h"
#include "step.h"
#include "sup.h"

/* --------------------------------------------------------------------- start */

void sup_init(struct sup *sup)
{
	*sup = (struct sup){.folder_lock = -1,
		.signals = -1,
		.lock_fd = -1,
		.panic_fd = -1,
		.pressure_fd = -1,
		.store = {.book_seg.fd = -1},
		.upgrade = {.exe_fd = -1, .back_fd = -1, .pidfd = -1, .said_fd = -1}};
	sup->listen.fd = sup->admin_listen.fd = -1;
	sup->control.fd = sup->journal.fd = -1;
	sup->engine.pidfd = sup->engine.channel = -1;
	sup->image.pidfd = sup->image.dir = -1;
	sup->metrics.pidfd = sup->metrics.channel = -1;
	sup->metrics.listen.fd = sup->metrics.next.fd = -1;
	sup->data.dir = sup->data.wal = sup->log.pidfd = -1;
	sup_checkpoint_init(sup);
	for (int i = 0; i < SHM_POOLS_MAX; i++)
		for (int r = -1; r < SHM_REGIONS_MAX; r++)
			(r < 0 ? &sup->grown[i] : &sup->region[i][r])->fd = -1;
	for (int i = 0; i < ADMIN_CONNECTIONS; i++)
		sup->admin[i].fd = -1;
}

/* Descriptors for max_clients, or fewer clients. */
static void limits_raise(struct sup *sup)
{
	uint64_t want = SUP_FDS_SPARE + (uint64_t)sup->config.max_clients * SUP_FDS_CLIENT;
	uint64_t got = sup_host_files_raise(want);

	if (got >= want || sup->ctl) /* memory that is there is for so many */
		return;
	uint64_t clients = got > SUP_FDS_SPARE ? (got - SUP_FDS_SPARE) / SUP_FDS_CLIENT : 0;
	if (clients == 0)
		clients = 1;
	log_warn(
		"only %llu clients instead of max_clients = %u: they need %llu descriptors and the "
		"limit is %llu; raise it (ulimit -Hn, or LimitNOFILE= of the service)",
		(unsigned long long)clients, sup->config.max_clients, (unsigned long long)want,
		(unsigned long long)got);
	sup->config.max_clients = (uint32_t)clients;
}

/* The memfds that are no segments. */
static int memfds_make(struct sup *sup)
{
	if (sup->lock_fd < 0)
		sup->lock_fd = memfd_create("hypercached-lock", MFD_CLOEXEC);
	sup->panic_fd = memfd_create("hypercached-panic", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (sup->lock_fd < 0 || sup->panic_fd < 0 || ftruncate(sup->panic_fd, PANIC_BYTES) != 0 ||
		fcntl(sup->panic_fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0)
		return log_fail(err_new(-errno), "cannot make a memfd");
	if (sup->session) /* a dead supervisor's */
		return 0;
	sup->session = calloc(sup->config.max_clients, sizeof *sup->session);
	if (!sup->session)
		return log_fail(err_new(-ENOMEM), "no memory for the sessions' table");
	for (uint32_t i = 0; i < sup->config.max_clients; i++)
		sup->session[i].memfd = sup->session[i].pidfd = -1;
	return 0;
}

/* The file that says how short of memory the system is. */
static int pressure_open(struct sup *sup)
{
	const char *path = sup->config.memory_pressure;

	if (strcmp(path, "none") == 0)
		return 0;
	sup->pressure_fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	return sup->pressure_fd >= 0
	               ? 0
	               : log_fail(err_new(-errno), "memory_pressure: %s cannot be read", path);
}

/* From here on these signals are events. */
int sup_signals_open(struct sup *sup)
{
	static const int caught[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR2};
	sigset_t set;

	(void)sigemptyset(&set);
	for (size_t i = 0; i < sizeof caught / sizeof *caught; i++)
		(void)sigaddset(&set, caught[i]);
	(void)signal(SIGPIPE, SIG_IGN);
	if (sigprocmask(SIG_BLOCK, &set, NULL) == 0)
		sup->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return sup->signals >= 0 ? 0 : log_fail(err_new(-errno), "cannot catch signals");
}

unsigned sup_socket_mode(const struct config *c)
{
	bool others = c->admin_uids.n > 0;

	for (uint32_t i = 0; i < c->n_pools; i++)
		others |= c->pool[i].read.kind == CONFIG_RIGHTS_ANY || c->pool[i].read.n;
	return others ? 0666 : 0600;
}

/* One that the service manager made, or one of our own at `path`. */
static int socket_get(
	struct sup *sup, struct sup_socket *s, const char *path, int type, unsigned mode)
{
	char given[ADMIN_PATH_BYTES];
	int fd = sup_given_socket(sup, type, given);

	if (fd >= 0 && access(given, F_OK) != 0) { /* somebody has cleaned up: nobody comes to it */
		sup_notify_forget(type == SOCK_STREAM ? "clients" : "admin");
		(void)close(fd);
		fd = -1;
	}
	if (fd < 0) {
		int r = sup_folder_socket(path);
		return r == 0 ? err_fwd(sup_socket_open(s, path, type, mode)) : err_fwd(r);
	}
	s->fd = fd;
	if (strcmp(s->path, given) != 0) /* else it is what the supervisor made that died */
		s->dev = s->ino = 0;     /* its path stays when we end */
	memcpy(s->path, given, sizeof given);
	if (strcmp(s->path, path) != 0)
		log_warn("the service manager's socket is at %s, and the configuration names %s: "
			 "the "
			 "former counts",
			s->path, path);
	if (chmod(s->path, mode) != 0) /* the manager's own may be root's */
		log_debug("the mode of %s stays: %s", s->path, strerror(errno));
	return 0;
}

static int sockets_open(struct sup *sup)
{
	const struct config *c = &sup->config;
	int r = socket_get(sup, &sup->listen, c->socket, SOCK_STREAM, sup_socket_mode(c));

	if (r == 0) /* who may is decided by SO_PEERCRED */
		r = socket_get(sup, &sup->admin_listen, c->admin_socket, SOCK_SEQPACKET, 0666);
	return err_fwd(r);
}

/* Memory that is new, or a dead supervisor's. */
static int memory_get(struct sup *sup, bool *ret_warm)
{
	sup_given_read(sup);
	*ret_warm = sup_warm(sup);
	sup->folder_lock = sup_folder_lock(sup->config.data_dir);
	if (sup->folder_lock < 0)
		return err_fwd(sup->folder_lock);
	sup_store_limit(sup);
	limits_raise(sup);
	int r = sup_data_open(sup);
	if (r == 0)
		r = sup_log_open(sup);
	if (r == 0 && !*ret_warm)
		r = sup_memory_make(sup);
	STEP("sup:segments-made");
	return r == 0 ? err_fwd(memfds_make(sup)) : err_fwd(r);
}

static int sup_start(struct sup *sup)
{
	bool warm;
	int r = memory_get(sup, &warm);

	if (r == 0)
		r = pressure_open(sup);
	if (r == 0)
		r = sup_signals_open(sup);
	if (r == 0)
		r = sockets_open(sup);
	STEP("sup:sockets-made");
	sup_given_close(sup);
	if (r == 0)
		sup_store_begin(sup, warm);
	if (r == 0)
		r = sup_engine_start(sup);
	if (r < 0)
		return err_fwd(r);
	sup_watchdog_begin(sup);
	sup_metrics_begin(sup);
	return 0;
}

/* ---------------------------------------------------------------- event loop */

static void earlier(uint64_t *at_ns, uint64_t other_ns)
{
	if (other_ns < *at_ns)
		*at_ns = other_ns;
}

/* Milliseconds until something is due, rounded up; -1: never. */
static int due_ms(const struct sup *sup, uint64_t now_ns)
{
	uint64_t at_ns = UINT64_MAX;

	if (sup->image.pid)
		earlier(&at_ns, sup->image.pidfd >= 0 ? sup->image.deadline_ns : now_ns + 10000000);
	else if (sup->engine.pid == 0)
		earlier(&at_ns, sup->engine.restart_ns);
	earlier(&at_ns, sup_engine_watch_due(sup));
	if (!sup->stop_ns)
		earlier(&at_ns, sup_metrics_due(sup));
	earlier(&at_ns, sup_upgrade_due(sup));
	earlier(&at_ns, sup_log_due(sup));
	earlier(&at_ns, sup_checkpoint_due(sup));
	if (sup->watchdog_ns)
		earlier(&at_ns, sup->watchdog_due_ns);
	if (sup->stop_ns)
		earlier(&at_ns, sup->stop_ns);
	if (sup->admin_pause_ns > now_ns)
		earlier(&at_ns, sup->admin_pause_ns);
	for (int i = 0; i < ADMIN_CONNECTIONS; i++)
		if (sup->admin[i].fd >= 0)
			earlier(&at_ns, sup->admin[i].deadline_ns);
	if (at_ns == UINT64_MAX)
		return -1;
	return at_ns <= now_ns ? 0 : (int)((at_ns - now_ns + 999999) / 1000000);
}

static void on_due(struct sup *sup)
{
	uint64_t now_ns = sup_host_mono_ns();

	for (int i = 0; i < ADMIN_CONNECTIONS; i++)
		if (sup->admin[i].fd >= 0 && now_ns >= sup->admin[i].deadline_ns)
			sup_admin_on_due(sup, &sup->admin[i]);
	if (sup->stop_ns && now_ns >= sup->stop_ns) {
		sup_engine_kill(sup, "it was told to end and did not");
		sup->stop_ns = UINT64_MAX;
	}
	sup_watchdog_on_due(sup, now_ns);
	sup_crash_on_due(sup, now_ns);
	sup_upgrade_on_due(sup, now_ns);
	sup_log_on_due(sup, now_ns);
	sup_checkpoint_on_due(sup, now_ns);
	sup_engine_on_due(sup, now_ns);
	sup_metrics_on_due(sup, now_ns);
}

static void on_signal(struct sup *sup)
{
	struct signalfd_siginfo info;

	if (read(sup->signals, &info, sizeof info) != (ssize_t)sizeof info)
		return;
	if (info.ssi_signo == SIGHUP) {
		sup_ask_reload(sup);
		return;
	}
	if (info.ssi_signo == SIGUSR2) {
		sup_upgrade_begin(sup, NULL, "");
		return;
	}
	if (!sup->stop_ns) {
		log_info("stopping, because of signal %u from process %u", info.ssi_signo,
			info.ssi_pid);
		sup_notify("STOPPING=1");
	}
	sup_engine_stop(sup);
}

/* What is polled for, in this order; descriptors of -1 are skipped by poll(2). */
enum {
	P_SIGNALS,
	P_CHANNEL,
	P_DEATH,
	P_LISTEN,
	P_IMAGE,
	P_METRICS,
	P_METRICS_DEATH,
	P_UPGRADE,
	P_LOG,
	P_CHECKPOINT,
	P_ADMIN
};

static void poll_fill(const struct sup *sup, struct pollfd p[SUP_POLL_FDS], uint64_t now_ns)
{
	const struct sup_engine *e = &sup->engine;

	p[P_SIGNALS] = (struct pollfd){.fd = sup->signals, .events = POLLIN};
	p[P_CHANNEL] = (struct pollfd){
		.fd = e->channel, .events = e->reply_waits ? POLLOUT : POLLIN};
	p[P_DEATH] = (struct pollfd){.fd = e->pidfd, .events = POLLIN};
	p[P_LISTEN] = (struct pollfd){
		.fd = sup->admin_pause_ns > now_ns ? -1 : sup->admin_listen.fd, .events = POLLIN};
	p[P_IMAGE] = (struct pollfd){.fd = sup->image.pidfd, .events = POLLIN};
	p[P_METRICS] = (struct pollfd){.fd = sup->metrics.channel, .events = POLLIN};
	p[P_METRICS_DEATH] = (struct pollfd){.fd = sup->metrics.pidfd, .events = POLLIN};
	p[P_UPGRADE] = (struct pollfd){.fd = sup->upgrade.pidfd, .events = POLLIN};
	p[P_LOG] = (struct pollfd){.fd = sup->log.pidfd, .events = POLLIN};
	p[P_CHECKPOINT] = (struct pollfd){.fd = sup->checkpoint.pidfd, .events = POLLIN};
	for (int i = 0; i < ADMIN_CONNECTIONS; i++)
		p[P_ADMIN + i] = (struct pollfd){
			.fd = sup->admin[i].fd, .events = sup_admin_events(&sup->admin[i])};
}

static void sup_run(struct sup *sup)
{
	struct pollfd p[SUP_POLL_FDS];

	while (!sup->over) {
		uint64_t now_ns = sup_host_mono_ns();
		poll_fill(sup, p, now_ns);
		if (poll(p, SUP_POLL_FDS, due_ms(sup, now_ns)) < 0)
			continue; /* EINTR */
		for (int i = 0; i < ADMIN_CONNECTIONS; i++)
			if (p[P_ADMIN + i].revents && sup->admin[i].fd == p[P_ADMIN + i].fd)
				sup_admin_on_event(sup, &sup->admin[i], p[P_ADMIN + i].revents);
		if (p[P_SIGNALS].revents)
			on_signal(sup);
		if (p[P_CHANNEL].revents)
			sup_engine_on_channel(sup, p[P_CHANNEL].revents);
		if (p[P_DEATH].revents)
			sup_engine_on_death(sup);
		if (p[P_IMAGE].revents)
			sup_crash_on_image(sup);
		if (p[P_METRICS].revents && sup->metrics.channel == p[P_METRICS].fd)
			sup_metrics_on_channel(sup);
		if (p[P_METRICS_DEATH].revents && sup->metrics.pidfd == p[P_METRICS_DEATH].fd)
			sup_metrics_on_death(sup);
		if (p[P_UPGRADE].revents && sup->upgrade.pidfd >= 0)
			sup_upgrade_on_trial(sup);
		if (p[P_LOG].revents)
			sup_log_on_child(sup);
		if (p[P_CHECKPOINT].revents)
			sup_checkpoint_on_child(sup);
		if (p[P_LISTEN].revents)
			sup_admin_accept(sup, sup_host_mono_ns()); /* poll may have lasted */
		on_due(sup);
	}
}

/* ----------------------------------------------------------------------- end */

static void sup_fini(struct sup *sup)
{
	sup_metrics_close(sup);
	sup_store_end(sup);
	sup_given_close(sup);
	sup_socket_close(&sup->admin_listen);
	sup_socket_close(&sup->listen);
	for (int i = 0; i < ADMIN_CONNECTIONS; i++)
		sup_admin_close(&sup->admin[i]);
	sup_crash_close(sup);
	sup_upgrade_close(sup);
	sup_checkpoint_close(sup);
	sup_log_close(sup);
	sup_session_close_all(sup);
	free(sup->session);
	free(sup->change.lines);
	sup_memory_close(sup);
	cleanup_closep_(&sup->lock_fd);
	cleanup_closep_(&sup->panic_fd);
	cleanup_closep_(&sup->pressure_fd);
	cleanup_closep_(&sup->signals);
	sup_data_close(sup);
	cleanup_closep_(&sup->folder_lock); /* last: another daemon may begin now */
}

void sup_exe_read(char ret[SUP_EXE_BYTES])
{
	static const char gone[] = " (deleted)"; /* replaced: another file has the name */
	ssize_t n = readlink("/proc/self/exe", ret, SUP_EXE_BYTES);

	if (n < 0 || n == SUP_EXE_BYTES)
		n = 0;
	ret[n] = 0;
	size_t k = strlen(gone);
	if ((size_t)n > k && strcmp(ret + n - k, gone) == 0)
		ret[(size_t)n - k] = 0;
}

int sup_serve(struct sup *sup, bool started)
{
	if (started) {
		sup_run(sup);
		if (sup->status == 0)
			log_info("stopped");
	} else {
		sup->status = SUP_STATUS_FAILED;
	}
	sup_fini(sup);
	return sup->status;
}

int sup_main(const struct config *config, const struct config_places *places,
	const struct config_source *source, enum sup_recover recover)
{
	static struct sup sup;

	log_open(STDERR_FILENO, config->log_level, "supervisor");
	if (panic_open(STDERR_FILENO) < 0)
		log_warn("fatal signals of the supervisor will not be explained");
	/* Else a process of our own user could write through our mapping, strict or not. */
	if (config->hardening == CONFIG_HARDENING_STRICT && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
		log_warn("debuggers of our own user are not kept out: %s", strerror(errno));
	/* For the engine: its lists are built anew when it takes memory over, and one by one their pages
	 * cost a fifth of that time.  Whoever sets it has his way. */
	(void)setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1", 0);
	sup_init(&sup);
	sup.config = sup.read = *config;
	sup.places = *places;
	sup.source = source;
	sup.recover = recover;
	sup_exe_read(sup.exe);
	return sup_serve(&sup, sup_start(&sup) == 0);
}
