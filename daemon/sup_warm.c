/* sup_warm.c - what a service manager gives us at the start: sockets, and what a supervisor that died has left in the
 * descriptor store (sup_store.c).
 *
 *   LISTEN_FDS, LISTEN_FDNAMES   as sd_listen_fds_with_names(3): descriptors from 3 on, and their names
 *
 * Sockets that listen are told apart by their type: streams are the clients', sequenced packets are tools'.  With a book
 * we go on with the memory, whose clients still map it: same sessions, same results of requests.  If anything
 * does not fit, all of it is given back, and the start is a cold one.
 *
 * What was configured goes on to hold; the file is read when an engine serves, as by a reload.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "atomic.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "log.h"
#include "step.h"
#include "sup_book.h"
#include "sup_control.h"
#include "sup_life.h"
#include "sup_state.h"

enum { FIRST_FD = 3, GIVEN_MAX = 8192 };

/* ----------------------------------------------------------------------- given */

/* The next name of the list; the manager has none for a descriptor that is called nothing. */
static const char *name_next(const char **at, char name[32])
{
	size_t n = *at ? strcspn(*at, ":") : 0;

	(void)snprintf(name, 32, "%.*s", n < 32 ? (int)n : 0, *at ? *at : "");
	if (*at)
		*at = (*at)[n] ? *at + n + 1 : NULL;
	return name;
}

void sup_given_read(struct sup *sup)
{
	const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS"),
		   *names = getenv("LISTEN_FDNAMES");
	long n = pid && count && strtol(pid, NULL, 10) == getpid() ? strtol(count, NULL, 10) : 0;

	if (n > 0 && n <= GIVEN_MAX)
		sup->given = calloc((size_t)n, sizeof *sup->given);
	for (long i = 0; i < n && sup->given; i++) {
		struct sup_given *g = &sup->given[sup->n_given];
		(void)name_next(&names, g->name);
		g->fd = FIRST_FD + (int)i;
		if (fcntl(g->fd, F_SETFD, FD_CLOEXEC) == 0)
			sup->n_given++;
	}
	/* Not for children. */
	(void)unsetenv("LISTEN_PID");
	(void)unsetenv("LISTEN_FDS");
	(void)unsetenv("LISTEN_FDNAMES");
}

/* A descriptor of this name, which is the caller's now; -1: there is none. */
static int given_take(struct sup *sup, const char *name)
{
	for (uint32_t i = 0; i < sup->n_given; i++)
		if (sup->given[i].fd >= 0 && strcmp(sup->given[i].name, name) == 0)
			return steal_fd(sup->given[i].fd);
	return -1;
}

int sup_given_socket(struct sup *sup, int type, char ret_path[ADMIN_PATH_BYTES])
{
	for (uint32_t i = 0; i < sup->n_given; i++) {
		struct sockaddr_un a = {0};
		socklen_t bytes = sizeof a, int_bytes = sizeof(int);
		int fd = sup->given[i].fd, is = 0, listens = 0;
		if (fd < 0 || getsockname(fd, (struct sockaddr *)&a, &bytes) != 0 ||
			a.sun_family != AF_UNIX || !*a.sun_path ||
			getsockopt(fd, SOL_SOCKET, SO_TYPE, &is, &int_bytes) != 0 || is != type ||
			getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &int_bytes) != 0 ||
			!listens || fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
			continue;
		(void)snprintf(
			ret_path, ADMIN_PATH_BYTES, "%.*s", ADMIN_PATH_BYTES - 1, a.sun_path);
		return steal_fd(sup->given[i].fd);
	}
	return -1;
}

void sup_given_close(struct sup *sup)
{
	for (uint32_t i = 0; i < sup->n_given; i++) {
		if (sup->given[i].fd < 0)
			continue;
		sup_notify_forget(sup->given[i].name); /* else it would come again and again */
		(void)close(sup->given[i].fd);
	}
	free(sup->given);
	sup->given = NULL;
	sup->n_given = 0;
}

/* ------------------------------------------------------------------------ warm */

/* The text that counts, copied.  0, or -errno and why. */
static int book_text(struct sup *sup, char **ret, size_t *ret_n, char why[SUP_STATE_WHY_BYTES])
{
	struct sup_store *s = &sup->store;
	/* acq:book.at */
	uint32_t whole = shm_load32_acq(&s->book->whole), at = shm_load32_acq(&s->book->at);
	uint64_t n = at < 2 ? shm_load_rlx(&s->book->text_bytes[at]) : 0;

	(void)snprintf(why, SUP_STATE_WHY_BYTES,
		"its book says that not all could be stored: is FileDescriptorStoreMax= too "
		"small?");
	if (!whole || n == 0 || n > SUP_BOOK_TEXT_BYTES)
		return err_new(-EBADMSG);
	char *text = malloc(n + 1);
	if (!text || pread(s->book_seg.fd, text, n,
			     (off_t)(SUP_BOOK_TEXT_OFF + at * SUP_BOOK_TEXT_BYTES)) != (ssize_t)n) {
		free(text);
		return err_new(-EIO);
	}
	text[n] = 0;
	*ret = text;
	*ret_n = n;
	return 0;
}

/* Descriptors of the names, in place of the dead one's numbers.  How many of those that are needed are missing. */
static uint32_t fds_take(struct sup *sup, struct sup_state *st)
{
	uint32_t missing = 0;
	char name[32];

	sup->folder_lock = sup->panic_fd = sup->pressure_fd = -1;
	st->back_fd = st->keeper_fd = st->asker_fd = -1;
	missing += (sup->control.fd = given_take(sup, "control")) < 0;
	missing += (sup->journal.fd = given_take(sup, "journal")) < 0;
	missing += (sup->lock_fd = given_take(sup, "lock")) < 0;
	for (uint32_t p = 0; p < SHM_POOLS_MAX; p++) {
		for (uint32_t r = 0; r < SHM_REGIONS_MAX; r++) {
			if (sup->region[p][r].fd < 0)
				continue;
			(void)snprintf(name, sizeof name, "r.%u.%u", p, r);
			missing += (sup->region[p][r].fd = given_take(sup, name)) < 0;
		}
	}
	for (uint32_t i = 0; i < sup->config.max_clients; i++) {
		struct sup_session *s = &sup->session[i];
		s->pidfd = -1; /* ticks look for its end */
		if (s->id == 0)
			continue;
		(void)snprintf(name, sizeof name, "s.%u.%016" PRIx64, i, s->id);
		missing += (s->memfd = given_take(sup, name)) < 0;
	}
	return MUTANT(778) ? 0 : missing; /* 778: whose memory is missing is passed over */
}

/* A region or pool that was on its way: whole in the directory, or not there. */
static void pools_settle(struct sup *sup)
{
	for (uint32_t i = 0; i < SHM_POOLS_MAX; i++) {
		struct shm_pool_entry *e = &sup->ctl->pool[i];
		uint32_t n = shm_load32_rlx(&e->n_regions);
		if (i >= sup->config.n_pools) {
			shm_store_rlx(&e->id, 0);
			continue;
		}
		if (n < SHM_REGIONS_MAX && sup->region[i][n].fd >= 0 &&
			e->region[n].bytes == sup->region[i][n].bytes) {
			shm_store32_rlx(&e->n_regions, n + 1);
			e = &sup->born->pool[i];
			e->region[n] = sup->ctl->pool[i].region[n];
			shm_store32_rlx(&e->n_regions, n + 1);
		}
	}
}

static void forget(struct sup *sup, const struct config *config, const struct config_places *places)
{
	struct sup_store *s = &sup->store;

	sup_session_close_all(sup);
	free(sup->session);
	sup->session = NULL;
	sup_memory_close(sup);
	cleanup_closep_(&sup->lock_fd);
	if (s->book)
		(void)munmap(s->book, s->book_bytes);
	sup_segment_close(&s->book_seg);
	*s = (struct sup_store){.book_seg.fd = -1};
	struct sup_given *given = sup->given;
	uint32_t n_given = sup->n_given;
	const struct config_source *source = sup->source;
	enum sup_recover recover = sup->recover;
	sup_init(sup);
	sup->recover = recover;
	sup->given = given;
	sup->n_given = n_given;
	sup->config = sup->read = *config;
	sup->places = *places;
	sup->source = source;
	sup_exe_read(sup->exe);
}

/* 0; or -errno and why. */
static int warm(struct sup *sup, int book, char why[SUP_STATE_WHY_BYTES])
{
	static struct sup_state st;
	const struct config_source *source = sup->source;
	_cleanup_free_ char *text = NULL;
	size_t n = 0;
	int r = sup_store_book_open(sup, book);

	if (r < 0) {
		(void)snprintf(why, SUP_STATE_WHY_BYTES, "its book is not one of this hypercached");
		return err_fwd(r);
	}
	r = book_text(sup, &text, &n, why);
	if (r == 0)
		r = sup_state_parse(text, n, sup, &st, why);
	sup->source = source;
	sup->store.book_seg.fd = book; /* whatever the text says of it */
	if (r < 0)
		return err_fwd(r);
	sup->listen.fd = sup->admin_listen.fd = sup->metrics.listen.fd = -1;
	uint32_t missing = fds_take(sup, &st);
	(void)snprintf(why, SUP_STATE_WHY_BYTES,
		"%u descriptors are missing, and clients may live whose memory is one of them: is "
		"FileDescriptorStoreMax= too small?",
		missing);
	if (missing || sup->config.hardening == CONFIG_HARDENING_STRICT)
		return err_new(-EBADMSG);
	(void)snprintf(why, SUP_STATE_WHY_BYTES, "the memory is not what its book says");
	sup->born = malloc(sizeof *sup->born);
	if (!sup->born)
		return err_new(-ENOMEM);
	memcpy(sup->born, &sup->store.book->born, sizeof *sup->born);
	return err_fwd(sup_memory_take(sup, st.daemon_id));
}

bool sup_warm(struct sup *sup)
{
	static struct config config; /* large */
	static struct config_places places;
	char why[SUP_STATE_WHY_BYTES];
	int book = given_take(sup, "book");

	if (book < 0)
		return false;
	config = sup->config;
	places = sup->places;
	int r = warm(sup, book, why);
	if (r < 0) {
		log_error("the memory of a supervisor that died cannot be gone on with: %s. The "
			  "cache "
			  "begins empty",
			why);
		sup_notify_forget("book");
		forget(sup, &config, &places);
		return false;
	}
	pools_settle(sup);
	sup_memory_restamp(sup);
	sup_memory_mend(sup);
	sup_memory_own(sup);
	sup->said_ready = false;
	sup->engine.crashes = 0;
	sup->reload_due = true;
	STEP("sup:warm");
	log_warn("a supervisor died here: going on with its memory, with %u sessions",
		sup_session_count(sup));
	return true;
}
