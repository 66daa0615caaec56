/* sup_store.c - the service manager's descriptor store: what a supervisor that starts behind our death goes on with
 * (sd_notify(3), FDSTORE=1; sup_warm.c takes it up).
 *
 *   control, journal, lock, r.POOL.REGION    memfds, each stored before anybody is told that it is there
 *   s.SLOT.ID                                a session's, before its client gets it (rule P16)
 *   clients, admin                           the sockets, unless the manager made them
 *   book                                     what we know, in the words of sup_state.h, written anew when it changes
 *
 * The book is a memfd with two places for the text, written in turn: `at` moves to the other one when that is whole, so
 * whenever we die one of them is.  A session is in the text only when it has been stored, and is taken out of the text
 * before it is removed.  So what the text names and the store does not have was not taken: a reader may live whose
 * pins nobody sees, and nothing of the memory may be used again.  The same if something could not be stored: then
 * the book says so itself (`whole`).
 *
 * How much the manager stores it says in FDSTORE (systemd 254; the unit says it to older ones): max_clients is lowered
 * to what fits.  Without that variable nothing is stored.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "atomic.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "log.h"
#include "step.h"
#include "sup_book.h"
#include "sup_state.h"

enum { STORE_SPARE = 8 + SHM_POOLS_MAX * SHM_REGIONS_MAX };

/* Nothing of what is stored is to be gone on with. */
static void give_up(struct sup *sup, const char *why)
{
	struct sup_store *s = &sup->store;

	if (!s->on)
		return;
	s->on = false;
	if (s->book)
		shm_store32_rlx(&s->book->whole, 0);
	log_error(
		"the service manager's descriptor store is not used any more: %s. After a death of "
		"the supervisor the cache will be empty",
		why);
}

static void put(struct sup *sup, const char *name, int fd)
{
	char why[96];

	if (!sup->store.on || MUTANT(777)) /* 777: nothing is stored */
		return;
	int r = sup_notify_store(name, fd);
	if (r == 0)
		return;
	(void)snprintf(why, sizeof why, "it cannot be given %s: %s", name, strerror(-r));
	give_up(sup, why);
}

/* The book as it is now: the place that is not in use, then the word that says which is. */
void sup_store_write(struct sup *sup)
{
	struct sup_store *s = &sup->store;
	_cleanup_free_ char *text = NULL;
	struct sup_state st;
	size_t n;

	if (!s->on || !s->book)
		return;
	sup_state_init(&st);
	uint32_t to = !shm_load32_rlx(&s->book->at);
	if (sup_state_text(sup, &st, &text, &n) < 0 || n > SUP_BOOK_TEXT_BYTES ||
		pwrite(s->book_seg.fd, text, n,
			(off_t)(SUP_BOOK_TEXT_OFF + to * SUP_BOOK_TEXT_BYTES)) != (ssize_t)n) {
		give_up(sup, "what it is to be told cannot be written");
		return;
	}
	STEP("sup:book-half");
	shm_store_rlx(&s->book->text_bytes[to], n);
	shm_store32_rel(&s->book->at, to); /* rel:book.at */
	STEP("sup:book-written");
}

static const char *session_name(const struct sup *sup, uint32_t slot, char name[32])
{
	(void)snprintf(name, 32, "s.%u.%016" PRIx64, slot, sup->session[slot].id);
	return name;
}

void sup_store_session(struct sup *sup, uint32_t slot)
{
	char name[32];

	put(sup, session_name(sup, slot, name), sup->session[slot].memfd);
	STEP("sup:session-stored");
	sup_store_write(sup);
}

void sup_store_session_over(struct sup *sup, uint32_t slot, uint64_t id)
{
	char name[32];

	sup_store_write(sup);
	(void)snprintf(name, sizeof name, "s.%u.%016" PRIx64, slot, id);
	if (sup->store.on)
		sup_notify_forget(name);
}

void sup_store_sync(struct sup *sup)
{
	struct sup_store *s = &sup->store;
	char name[32];

	for (uint32_t p = 0; p < SHM_POOLS_MAX && s->on; p++) {
		for (uint32_t r = 0; r < SHM_REGIONS_MAX && sup->region[p][r].fd >= 0; r++) {
			if (s->has[p] >> r & 1)
				continue;
			(void)snprintf(name, sizeof name, "r.%u.%u", p, r);
			put(sup, name, sup->region[p][r].fd);
			s->has[p] |= (uint16_t)(1u << r);
		}
	}
	if (s->book && sup->born)
		memcpy(&s->book->born, sup->born, sizeof s->book->born);
	sup_store_write(sup);
}

/* ----------------------------------------------------------------------- begin */

static int book_map(struct sup *sup)
{
	struct sup_store *s = &sup->store;
	uint64_t bytes;
	void *map;
	int r = sup_segment_map(&s->book_seg, sizeof *s->book, &map, &bytes);

	if (r < 0)
		return err_fwd(r);
	s->book = map;
	s->book_bytes = bytes;
	return 0;
}

int sup_store_book_open(struct sup *sup, int fd)
{
	struct sup_store *s = &sup->store;
	off_t bytes = lseek(fd, 0, SEEK_END);

	if (bytes < (off_t)SUP_BOOK_BYTES)
		return err_new(-EBADMSG);
	s->book_seg = (struct sup_segment){
		.fd = fd, .bytes = (uint64_t)bytes, .backing = SHM_BACK_BASE};
	int r = book_map(sup);
	if (r < 0)
		return err_fwd(r);
	return memcmp(s->book->magic, SUP_BOOK_MAGIC, sizeof s->book->magic) == 0
	               ? 0
	               : err_new(-EPROTO);
}

static int book_new(struct sup *sup)
{
	struct sup_store *s = &sup->store;
	char why[SUP_WHY_BYTES];
	struct sup_host host;

	sup_host_read(&host);
	int r = sup_segment_new("hypercached-book", SUP_BOOK_BYTES, &host, &s->book_seg, why);
	if (r == 0)
		r = book_map(sup);
	if (r < 0)
		return err_fwd(r);
	memcpy(s->book->magic, SUP_BOOK_MAGIC, sizeof s->book->magic);
	return 0;
}

void sup_store_limit(struct sup *sup)
{
	const char *text = getenv("FDSTORE");
	unsigned long max = text ? strtoul(text, NULL, 10) : 0;
	uint32_t *clients = &sup->config.max_clients;

	sup->store.on = false;
	if (max == 0 || !getenv("NOTIFY_SOCKET") ||
		sup->config.hardening == CONFIG_HARDENING_STRICT)
		return;
	if (max <= STORE_SPARE) {
		log_warn("the service manager stores %lu descriptors, and %d and one for each "
			 "client "
			 "are needed: the cache will not outlive the supervisor; raise "
			 "FileDescriptorStoreMax=",
			max, STORE_SPARE);
		return;
	}
	sup->store.on = true;
	if (*clients <= max - STORE_SPARE || sup->ctl)
		return;
	log_warn("only %lu clients instead of max_clients = %u: the service manager stores %lu "
		 "descriptors; raise FileDescriptorStoreMax=",
		max - STORE_SPARE, *clients, max);
	*clients = (uint32_t)(max - STORE_SPARE);
}

void sup_store_begin(struct sup *sup, bool has_all)
{
	struct sup_store *s = &sup->store;

	if (!s->on)
		return;
	if (!s->book && book_new(sup) < 0) {
		give_up(sup, "there is no memory for its book");
		return;
	}
	for (uint32_t p = 0; p < SHM_POOLS_MAX; p++)
		for (uint32_t r = 0; r < SHM_REGIONS_MAX && has_all; r++)
			s->has[p] |= (uint16_t)((sup->region[p][r].fd >= 0) << r);
	if (!has_all) {
		put(sup, "control", sup->control.fd);
		put(sup, "journal", sup->journal.fd);
		put(sup, "lock", sup->lock_fd);
	}
	if (sup->listen.ino) /* else the manager has it; what it has it does not take twice */
		put(sup, "clients", sup->listen.fd);
	if (sup->admin_listen.ino)
		put(sup, "admin", sup->admin_listen.fd);
	sup_store_sync(sup);
	if (s->on)
		shm_store32_rel(&s->book->whole, 1); /* rel:book.at */
	if (!has_all)
		put(sup, "book", s->book_seg.fd);
	STEP("sup:stored");
}

void sup_store_end(struct sup *sup)
{
	static const char *const names[] = {
		"book", "control", "journal", "lock", "clients", "admin"};
	struct sup_store *s = &sup->store;
	char name[32];

	for (size_t i = 0; i < sizeof names / sizeof *names && s->on; i++)
		sup_notify_forget(names[i]);
	for (uint32_t p = 0; p < SHM_POOLS_MAX && s->on; p++) {
		for (uint32_t r = 0; r < SHM_REGIONS_MAX; r++) {
			(void)snprintf(name, sizeof name, "r.%u.%u", p, r);
			if (s->has[p] >> r & 1)
				sup_notify_forget(name);
		}
	}
	for (uint32_t i = 0; sup->session && i < sup->config.max_clients && s->on; i++)
		if (sup->session[i].id)
			sup_notify_forget(session_name(sup, i, name));
	s->on = false;
	if (s->book)
		(void)munmap(s->book, s->book_bytes);
	s->book = NULL;
	sup_segment_close(&s->book_seg);
}
