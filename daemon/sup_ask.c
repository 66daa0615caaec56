/* sup_ask.c - what tools ask for: the running configuration, another one, stores.
 *
 * A file is read again whole, checked whole, and compared; a START key that differs refuses it whole.  A
 * file that somebody has open for writing, or that changes while it is read, is refused too: half a
 * configuration may be a right one.  The kernel tells the first by a lease (fcntl(2), F_SETLEASE), where
 * the file system has them and the file is ours.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/err.h"
#include "log.h"
#include "step.h"
#include "sup.h"

/* An answer that is being put together. */
struct lines {
	FILE *to;
	char *text; /* valid after lines_end() */
	size_t n;
	uint32_t n_start;              /* changes that take a new start */
	char first[CONFIG_PATH_BYTES]; /* of them */
	const char *first_what;        /* what it cannot do, and another way */
};

static bool lines_begin(struct lines *l)
{
	*l = (struct lines){0};
	l->to = open_memstream(&l->text, &l->n);
	return l->to != NULL;
}

static bool lines_end(struct lines *l) { return fclose(l->to) == 0; }

__attribute__((format(printf, 4, 5))) static void refuse(
	struct sup *sup, struct sup_admin *a, enum admin_refusal refusal, const char *fmt, ...)
{
	char text[CONFIG_ERROR_BYTES + CONFIG_TEXT_BYTES], line[sizeof text + 8];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (!a) {
		log_warn("the configuration stays as it is: %s", text);
		return;
	}
	int n = snprintf(line, sizeof line, "error\t%s\n", text);
	sup_admin_reply(sup, a, refusal, line, (size_t)n);
}

static void refuse_memory(struct sup *sup, struct sup_admin *a)
{
	refuse(sup, a, ADMIN_R_NO_MEMORY, "the supervisor has no memory for it");
}

/* ---------------------------------------------------------------------- show */

static const struct config_place *place_of(const struct sup *sup, const struct config_item *item)
{
	static const struct config_place by_admin = {.from = CONFIG_FROM_ADMIN};
	const struct config *c = &sup->read;
	uint32_t k = (uint32_t)(item->key - config_keys);

	if (item->key->scope == CONFIG_ROOT)
		return &sup->places.key[0][k];
	for (uint32_t i = 0; item->key->scope == CONFIG_POOL && i < c->n_pools; i++)
		if (strcmp(c->pool[i].name, item->name) == 0)
			return &sup->places.key[1 + i][k];
	for (uint32_t i = 0; item->key->scope == CONFIG_STORE && i < c->n_stores; i++)
		if (strcmp(c->store[i].name, item->name) == 0)
			return &sup->places.key[1 + CONFIG_POOLS_MAX + i][k];
	return &by_admin;
}

struct show {
	const struct sup *sup;
	FILE *to;
};

static void show_one(void *arg, const struct config_item *item)
{
	static const char *const words[] = {"default", "file", "option", "admin"};
	const struct show *s = arg;
	const struct config_place *at = place_of(s->sup, item);
	char path[CONFIG_PATH_BYTES];

	fprintf(s->to, "%s\t", config_path(item->key->scope, item->name, item->key, path));
	config_value_print(item->key, item->field, s->to);
	fprintf(s->to, "\t%s\t%u\t%s\n", words[at->from], at->line,
		item->key->live ? "live" : "start");
}

static void show(struct sup *sup, struct sup_admin *a)
{
	struct lines l;

	if (!lines_begin(&l)) {
		refuse_memory(sup, a);
		return;
	}
	struct show s = {.sup = sup, .to = l.to};
	config_each(&sup->config, show_one, &s);
	fprintf(l.to, "note\t%s\n",
		sup->source->file ? sup->source->file : "there is no configuration file");
	if (lines_end(&l))
		sup_admin_reply(sup, a, ADMIN_R_NONE, l.text, l.n);
	else
		refuse_memory(sup, a);
	free(l.text);
}

/* ---------------------------------------------------------------------- read */

/* The bytes of a file, which nobody may change meanwhile. */
struct bytes {
	unsigned char *at; /* heap */
	size_t n;
};

static int bytes_read(int fd, struct bytes *ret)
{
	const size_t most = CONFIG_FILE_MAX_BYTES + 1;
	_cleanup_free_ unsigned char *at = malloc(most);
	size_t n = 0;

	if (!at)
		return err_new(-ENOMEM);
	for (ssize_t got = 1; got > 0 && n < most; n += (size_t)got) {
		got = pread(fd, at + n, most - n, (off_t)n);
		if (got < 0)
			return err_new(-errno);
	}
	ret->at = steal_ptr(at);
	ret->n = n;
	return 0;
}

/* Does somebody have it open for writing?  While the lease is held, who wants to has to wait. */
static bool lease_take(int fd)
{
	return fcntl(fd, F_SETSIG, SIGURG) == 0 && /* ignored; SIGIO would end us */
	       (fcntl(fd, F_SETLEASE, F_RDLCK) == 0 || errno != EAGAIN ||
		       MUTANT(182)); /* 182: it is read while it is written */
}

/* Reads a file that holds still.  0; 1: it does not; -errno. */
static int file_read(const char *path, struct bytes *ret)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat before, after;

	if (fd < 0 || fstat(fd, &before) != 0)
		return err_new(-errno);
	if (!S_ISREG(before.st_mode))
		return err_new(S_ISDIR(before.st_mode) ? -EISDIR : -ESPIPE);
	if (!lease_take(fd))
		return 1;
	int r = bytes_read(fd, ret);
	(void)fcntl(fd, F_SETLEASE, F_UNLCK);
	if (r < 0)
		return err_fwd(r);
	if (stat(path, &after) == 0 && after.st_ino == before.st_ino &&
		after.st_size == before.st_size && (size_t)after.st_size == ret->n &&
		after.st_mtim.tv_sec == before.st_mtim.tv_sec &&
		after.st_mtim.tv_nsec == before.st_mtim.tv_nsec)
		return 0;
	free(ret->at);
	return 1;
}

/* What a tool sent: a memfd that nobody can change any more. */
static int memfd_read(int fd, struct bytes *ret)
{
	const int whole = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || (seals & whole) != whole)
		return err_new(-EBADMSG);
	return err_fwd(bytes_read(fd, ret));
}

/* The configuration as it would be read now; fd: a tool's file, or -1: ours.  False: refused. */
static bool config_get(struct sup *sup, struct sup_admin *a, int fd, const char *name,
	struct config *ret, struct config_places *ret_places)
{
	struct config_source from = *sup->source;
	char err[CONFIG_ERROR_BYTES + CONFIG_TEXT_BYTES];
	struct bytes b = {0};
	int r;

	if (fd >= 0)
		from.file = name;
	if (!from.file) {
		refuse(sup, a, ADMIN_R_NO_FILE,
			"the daemon runs without a configuration file: start it with --config "
			"FILE");
		return false;
	}
	r = fd >= 0 ? memfd_read(fd, &b) : file_read(from.file, &b);
	if (r == 1) {
		refuse(sup, a, ADMIN_R_WRITTEN,
			"%s is being written: ask again when that is done, or replace it by rename",
			from.file);
		return false;
	}
	if (r < 0) {
		refuse(sup, a, ADMIN_R_CONFIG, "%s: cannot be read: %s; use a regular file",
			from.file, strerror(-r));
		return false;
	}
	from.bytes = b.at;
	from.n_bytes = b.n;
	STEP("sup:change-read");
	r = config_read(ret, ret_places, &from, err, sizeof err);
	free(b.at);
	if (r < 0)
		refuse(sup, a, ADMIN_R_CONFIG, "%s", err);
	return r == 0;
}

/* -------------------------------------------------------------- diff, reload */

static void value_put(FILE *to, const struct config_key *k, const void *field)
{
	putc('\t', to);
	config_value_print(k, field, to);
}

static void change_put(void *arg, const struct config_change *c)
{
	static const char *const words[] = {"changed", "added", "removed"};
	struct lines *l = arg;
	char path[CONFIG_PATH_BYTES];

	(void)config_path(c->scope, c->name, c->key, path);
	fprintf(l->to, "%s\t%s", words[c->what], path);
	if (c->key) {
		value_put(l->to, c->key, c->was);
		value_put(l->to, c->key, c->is);
	} else {
		fputs("\t-\t-", l->to);
	}
	fprintf(l->to, "\t%s\n", c->live ? "live" : "start");
	if (!c->live && l->n_start++ == 0) {
		static const char *const cannot[] = {
			[CONFIG_CHANGED] = "change while the daemon runs: start it anew, or put "
					   "back what it was",
			[CONFIG_REMOVED] = "be removed while the daemon runs: start it anew, or "
					   "leave it with less memory"};
		memcpy(l->first, path, sizeof path);
		l->first_what = cannot[c->what];
	}
}

/* The differences to what holds, as lines.  False: no memory. */
static bool diff_lines(const struct sup *sup, const struct config *is, struct lines *l)
{
	struct config was = sup->config;

	if (!lines_begin(l))
		return false;
	was.max_clients = sup->read.max_clients; /* it may have been lowered (sup_main.c) */
	if (config_diff(&was, is, change_put, l) == 0)
		fputs("note\tnothing differs\n", l->to);
	if (lines_end(l))
		return true;
	free(l->text);
	return false;
}

static void diff(struct sup *sup, struct sup_admin *a, int fd, const char *name)
{
	static struct config is; /* large */
	struct lines l;

	if (!config_get(sup, a, fd, name, &is, NULL))
		return;
	if (!diff_lines(sup, &is, &l)) {
		refuse_memory(sup, a);
		return;
	}
	sup_admin_reply(sup, a, ADMIN_R_NONE, l.text, l.n);
	free(l.text);
}

/* False: another change is under way, and that has been said. */
static bool may_begin(struct sup *sup, struct sup_admin *a)
{
	if (sup->change.state == SUP_CHANGE_NONE)
		return true;
	refuse(sup, a, ADMIN_R_BUSY, "another change is under way: try again");
	return false;
}

/* What was put together goes its way. */
static void change_begin(struct sup *sup, struct sup_admin *a, struct lines *l, bool force)
{
	sup->change.asker = a;
	sup->change.force = force;
	sup->change.lines = l->text;
	sup->change.lines_bytes = l->n;
	sup_change_begin(sup);
}

static void reload(struct sup *sup, struct sup_admin *a, bool force)
{
	struct sup_change *c = &sup->change;
	char err[CONFIG_ERROR_BYTES];
	struct lines l;

	if (!may_begin(sup, a) || !config_get(sup, a, -1, NULL, &c->read, &c->places))
		return;
	if (config_merged_stores(&sup->config, &c->read) > CONFIG_STORES_MAX) {
		refuse(sup, a, ADMIN_R_FULL,
			"with the stores that were created by hand there would be more than %d",
			CONFIG_STORES_MAX);
		return;
	}
	if (!diff_lines(sup, &c->read, &l)) {
		refuse_memory(sup, a);
		return;
	}
	if (l.n_start && !MUTANT(181)) { /* 181: what takes a new start is passed over */
		refuse(sup, a, ADMIN_R_START, "%s%s cannot %s; `hypercache config diff` lists all",
			l.first, l.n_start > 1 ? " and others" : "", l.first_what);
		free(l.text);
		return;
	}
	c->next = sup->config;
	config_merge(&c->next, &c->read);
	if (config_resolve(&c->next, err, sizeof err) < 0) { /* with stores made by hand */
		refuse(sup, a, ADMIN_R_CONFIG, "%s", err);
		free(l.text);
		return;
	}
	c->has_read = true;
	change_begin(sup, a, &l, force);
}

void sup_ask_reload(struct sup *sup) { reload(sup, NULL, false); }

/* -------------------------------------------------------------------- stores */

static uint32_t store_find(const struct config *c, const char *name)
{
	uint32_t i = 0;

	while (i < c->n_stores && strcmp(c->store[i].name, name) != 0)
		i++;
	return i;
}

/* The one line of the answer, and a note.  False: no memory. */
static bool store_lines(struct lines *l, const char *what, const char *name, const char *note)
{
	if (!lines_begin(l))
		return false;
	fprintf(l->to, "%s\tstores.%s\t-\t-\tlive\n", what, name);
	if (note)
		fprintf(l->to, "note\t%s\n", note);
	if (lines_end(l))
		return true;
	free(l->text);
	return false;
}

/* Obeys the KEY=VALUE lines of a request.  0, or -EINVAL with ret_err. */
static int store_keys(
	struct config *c, const char *name, const char *text, char *ret_err, size_t err_bytes)
{
	char word[CONFIG_PATH_BYTES + sizeof((struct admin_request *)0)->text];
	int r = 0;

	for (const char *at = text; *at && r == 0;) {
		size_t n = strcspn(at, "\n");
		(void)snprintf(word, sizeof word, "stores.%s.%.*s", name, (int)n, at);
		r = config_set(c, NULL, word, ret_err, err_bytes);
		at += n + (at[n] == '\n');
	}
	return r == 0 ? err_fwd(config_resolve(c, ret_err, err_bytes)) : err_fwd(r);
}

static void store_create(struct sup *sup, struct sup_admin *a, const struct admin_request *rq)
{
	struct sup_change *c = &sup->change;
	char err[CONFIG_ERROR_BYTES];
	struct lines l;

	if (!may_begin(sup, a))
		return;
	if (!config_name_ok(rq->name, strlen(rq->name))) {
		refuse(sup, a, ADMIN_R_CONFIG,
			"this cannot be a name; use 1 to %d of A-Z a-z 0-9 _ . -, but not auto",
			CONFIG_NAME_BYTES - 1);
		return;
	}
	c->next = sup->config;
	if (store_find(&c->next, rq->name) < c->next.n_stores) {
		refuse(sup, a, ADMIN_R_EXISTS, "there is a store %s", rq->name);
		return;
	}
	if (c->next.n_stores == CONFIG_STORES_MAX) {
		refuse(sup, a, ADMIN_R_FULL, "there are %d stores, and no more can be",
			CONFIG_STORES_MAX);
		return;
	}
	struct config_store *s = &c->next.store[c->next.n_stores++];
	config_store_init(s, rq->name);
	s->by_admin = true;
	if (store_keys(&c->next, rq->name, rq->text, err, sizeof err) < 0) {
		refuse(sup, a, ADMIN_R_CONFIG, "%s", err);
		return;
	}
	if (!store_lines(&l, "added", rq->name,
		    "it lasts as long as the daemon: put it into the configuration to keep it")) {
		refuse_memory(sup, a);
		return;
	}
	c->has_read = false;
	change_begin(sup, a, &l, false);
}

static void store_drop(struct sup *sup, struct sup_admin *a, const struct admin_request *rq)
{
	struct sup_change *c = &sup->change;
	uint32_t i = store_find(&sup->config, rq->name);
	struct lines l;

	if (!may_begin(sup, a))
		return;
	if (i == sup->config.n_stores) {
		refuse(sup, a, ADMIN_R_NO_STORE,
			"there is no store %s: see `hypercache store list`", rq->name);
		return;
	}
	if (sup->config.n_stores == 1) {
		refuse(sup, a, ADMIN_R_CONFIG, "store %s is the last one, and a daemon has one",
			rq->name);
		return;
	}
	c->next = sup->config;
	c->next.n_stores--;
	memmove(&c->next.store[i], &c->next.store[i + 1],
		(c->next.n_stores - i) * sizeof c->next.store[0]);
	memset(&c->next.store[c->next.n_stores], 0, sizeof c->next.store[0]);
	if (!store_lines(&l, "removed", rq->name,
		    sup->config.store[i].by_admin
			    ? NULL
			    : "the configuration file still names it: a reload creates it again")) {
		refuse_memory(sup, a);
		return;
	}
	c->has_read = false;
	change_begin(sup, a, &l, rq->flags & ADMIN_FORCE);
}

/* ----------------------------------------------------------------------- all */

void sup_ask(struct sup *sup, struct sup_admin *a, const struct admin_request *rq, int fd)
{
	if (rq->ask != ADMIN_SHOW && rq->ask != ADMIN_DIFF && !a->may_change &&
		!MUTANT(186)) { /* 186: who may look may do all */
		refuse(sup, a, ADMIN_R_DENIED,
			"only root and user %u may change something here; this user may look",
			geteuid());
		return;
	}
	switch (rq->ask) {
	case ADMIN_SHOW:
		show(sup, a);
		return;
	case ADMIN_DIFF:
		diff(sup, a, fd, rq->text);
		return;
	case ADMIN_RELOAD:
		reload(sup, a, rq->flags & ADMIN_FORCE);
		return;
	case ADMIN_STORE_CREATE:
		store_create(sup, a, rq);
		return;
	case ADMIN_STORE_DROP:
		store_drop(sup, a, rq);
		return;
	case ADMIN_CLIENT_REVOKE:
	case ADMIN_PAUSE:
	case ADMIN_RESUME:
	case ADMIN_RENEW:
		sup_errand_begin(sup, a, rq);
		return;
	case ADMIN_PROBE:
		sup_probe_begin(sup, a, rq);
		return;
	case ADMIN_CHECKPOINT:
		sup_checkpoint_begin(sup, a);
		return;
	case ADMIN_UPGRADE:
		sup_upgrade_begin(sup, a, rq->text);
		return;
	default:
		refuse(sup, a, ADMIN_R_CONFIG,
			"this daemon does not know request %u: is the tool newer than it?",
			rq->ask);
	}
}
