/* sup_state.c - see sup_state.h for the form. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "base/cleanup.h"
#include "base/err.h"
#include "step.h"
#include "sup_state.h"

/* Tests build a binary of another layout. */
#ifndef HC_TEST_LAYOUT_MAJOR
#define HC_TEST_LAYOUT_MAJOR SHM_LAYOUT_MAJOR
#endif

static const char *const from_words[] = {"default", "file", "option", "admin"};

void sup_state_init(struct sup_state *st)
{
	*st = (struct sup_state){.back_fd = -1, .keeper_fd = -1, .asker_fd = -1};
}

/* The descriptors that are nothing but that, by name. */
enum { N_FDS = 8 };
struct named_fd {
	const char *name;
	int *fd;
};

static void fds_named(struct sup *sup, struct sup_state *st, struct named_fd ret[N_FDS])
{
	const struct named_fd all[N_FDS] = {{"folder", &sup->folder_lock}, {"lock", &sup->lock_fd},
		{"panic", &sup->panic_fd}, {"pressure", &sup->pressure_fd}, {"back", &st->back_fd},
		{"keeper", &st->keeper_fd}, {"asker", &st->asker_fd},
		{"book", &sup->store.book_seg.fd}};

	memcpy(ret, all, sizeof all);
}

/* --------------------------------------------------------------------- write */

static void config_write(FILE *to, const char *word, const struct config *c)
{
	_cleanup_free_ char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);

	if (f) {
		config_print(c, f);
		(void)fclose(f);
	}
	fprintf(to, "%s %zu\n%s", word, n, text ? text : "");
}

struct from_writer {
	const struct sup *sup;
	FILE *to;
};

static void from_write(void *arg, const struct config_item *item)
{
	const struct from_writer *w = arg;
	const struct config_place *at = &w->sup->places.key[item->owner][item->key - config_keys];
	char path[CONFIG_PATH_BYTES];

	if (at->from == CONFIG_FROM_DEFAULT)
		return;
	(void)config_path(item->key->scope, item->name, item->key, path);
	fprintf(w->to, "from %s %s %u\n", path, from_words[at->from], at->line);
}

static void settings_write(const struct sup *sup, FILE *to)
{
	struct from_writer w = {sup, to};

	if (sup->source->file)
		fprintf(to, "file %s\n", sup->source->file);
	for (uint32_t i = 0; i < sup->source->n_set; i++)
		fprintf(to, "set %s\n", sup->source->set[i]);
	config_write(to, "config", &sup->config);
	config_write(to, "read", &sup->read);
	config_each(&sup->read, from_write, &w);
	for (uint32_t i = 0; i < sup->config.n_stores; i++) {
		const struct config_store *s = &sup->config.store[i];
		fprintf(to, "store %" PRIu64 " %d %s\n", s->id, s->by_admin, s->name);
	}
}

static void segment_write(FILE *to, const char *name, const struct sup_segment *s)
{
	if (s->fd >= 0)
		fprintf(to, "segment %s %d %u %" PRIu64 " %s\n", name, s->fd, s->backing, s->bytes,
			s->why);
}

static void memory_write(const struct sup *sup, FILE *to)
{
	char name[32];

	segment_write(to, "control", &sup->control);
	segment_write(to, "journal", &sup->journal);
	for (uint32_t p = 0; p < sup->config.n_pools; p++) {
		for (uint32_t r = 0; r < SHM_REGIONS_MAX; r++) {
			(void)snprintf(name, sizeof name, "region.%u.%u", p, r);
			segment_write(to, name, &sup->region[p][r]);
		}
		if (sup->blame[p].n == 0)
			continue;
		fprintf(to, "blame %u", p);
		for (uint32_t i = 0; i < sup->blame[p].n; i++)
			fprintf(to, " %" PRIu64, sup->blame[p].at_ns[i]);
		putc('\n', to);
	}
	for (uint32_t i = 0; i < sup->config.max_clients; i++) {
		const struct sup_session *s = &sup->session[i];
		if (s->id && !MUTANT(774)) /* 774: sessions do not go over */
			fprintf(to, "session %u %" PRIx64 " %u %u %u %u %u %d %d %d\n", i, s->id,
				s->uid, s->gid, s->read_pools, s->write_pools, s->fence, s->pid,
				s->memfd, s->pidfd);
	}
}

static void socket_write(FILE *to, const char *name, const struct sup_socket *s)
{
	if (s->fd >= 0)
		fprintf(to, "socket %s %d %" PRIu64 " %" PRIu64 " %s\n", name, s->fd, s->dev,
			s->ino, s->path);
}

static void all_write(const struct sup *sup, const struct sup_state *st, FILE *to)
{
	struct named_fd fds[N_FDS];

	fprintf(to, "hypercached-state %d\nlayout %u %u\nrelease %s\ndaemon %" PRIx64 "\n",
		SUP_STATE_FORM, HC_TEST_LAYOUT_MAJOR, SHM_LAYOUT_MINOR, HC_VERSION_TEXT,
		sup->ctl->seg.daemon_id);
	fprintf(to, "ready %d\nnext %" PRIu64 "\ndenied %u\nengine %u %u\n", sup->said_ready,
		sup->next_id, sup->denied_uid, sup->engine.n_started, sup->engine.crashes);
	settings_write(sup, to);
	socket_write(to, "clients", &sup->listen);
	socket_write(to, "admin", &sup->admin_listen);
	socket_write(to, "metrics", &sup->metrics.listen);
	memory_write(sup, to);
	fds_named((struct sup *)(uintptr_t)sup, (struct sup_state *)(uintptr_t)st, fds);
	for (int i = 0; i < N_FDS; i++)
		if (*fds[i].fd >= 0)
			fprintf(to, "fd %s %d\n", fds[i].name, *fds[i].fd);
	fputs("end\n", to);
}

int sup_state_text(const struct sup *sup, const struct sup_state *st, char **ret, size_t *ret_n)
{
	FILE *f = open_memstream(ret, ret_n);

	if (!f)
		return err_new(-ENOMEM);
	all_write(sup, st, f);
	bool failed = ferror(f);
	return fclose(f) == 0 && !failed && *ret_n <= SUP_STATE_BYTES_MAX ? 0 : err_new(-ENOMEM);
}

int sup_state_write(const struct sup *sup, const struct sup_state *st)
{
	_cleanup_close_ int fd = memfd_create("hypercached-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	_cleanup_free_ char *text = NULL;
	size_t n = 0, at = 0;

	if (fd < 0)
		return err_new(-errno);
	int r = sup_state_text(sup, st, &text, &n);
	if (r < 0)
		return err_fwd(r);
	while (at < n) {
		ssize_t part = write(fd, text + at, n - at);
		if (part <= 0)
			return err_new(-EIO);
		at += (size_t)part;
	}
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
		return err_new(-errno);
	return steal_fd(fd);
}

/* ---------------------------------------------------------------------- read */

struct reader {
	char *at, *end; /* what is left of the text */
	struct sup *sup;
	struct sup_state *st;
	char *why;
	bool seen_config, seen_read, ended;
};

__attribute__((format(printf, 2, 3))) static int bad(struct reader *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(r->why, SUP_STATE_WHY_BYTES, fmt, ap);
	va_end(ap);
	return err_new(-EPROTO);
}

static int bad_line(struct reader *r, const char *word)
{
	return bad(r, "the state's line \"%s\" makes no sense to this hypercached (%s)", word,
		HC_VERSION_TEXT);
}

static int layout_read(struct reader *r, const char *rest)
{
	struct sup_state *st = r->st;

	if (sscanf(rest, "%" SCNu32 " %" SCNu32, &st->layout_major, &st->layout_minor) != 2)
		return bad_line(r, "layout");
	if (st->layout_major == HC_TEST_LAYOUT_MAJOR)
		return 0;
	return bad(r,
		"it is of layout %u, the memory of layout %u: it cannot take over what is there. "
		"Stop "
		"the daemon and start the new one; the cache is empty then",
		HC_TEST_LAYOUT_MAJOR, st->layout_major);
}

static int release_read(struct reader *r, const char *rest)
{
	(void)snprintf(r->st->release, sizeof r->st->release, "%s", rest);
	return 0;
}

static int daemon_read(struct reader *r, const char *rest)
{
	return sscanf(rest, "%" SCNx64, &r->st->daemon_id) == 1 ? 0 : bad_line(r, "daemon");
}

static int file_read(struct reader *r, const char *rest)
{
	r->st->source.file = strdup(rest);
	return r->st->source.file ? 0 : bad(r, "there is no memory for it");
}

static int set_read(struct reader *r, const char *rest)
{
	struct config_source *s = &r->st->source;

	if (s->n_set == CONFIG_SETS_MAX)
		return bad_line(r, "set");
	s->set[s->n_set] = strdup(rest);
	return s->set[s->n_set++] ? 0 : bad(r, "there is no memory for it");
}

static int ready_read(struct reader *r, const char *rest)
{
	r->sup->said_ready = *rest == '1';
	return 0;
}

static int next_read(struct reader *r, const char *rest)
{
	return sscanf(rest, "%" SCNu64, &r->sup->next_id) == 1 ? 0 : bad_line(r, "next");
}

static int denied_read(struct reader *r, const char *rest)
{
	return sscanf(rest, "%" SCNu32, &r->sup->denied_uid) == 1 ? 0 : bad_line(r, "denied");
}

static int engine_read(struct reader *r, const char *rest)
{
	struct sup_engine *e = &r->sup->engine;

	return sscanf(rest, "%" SCNu32 " %" SCNu32, &e->n_started, &e->crashes) == 2
	               ? 0
	               : bad_line(r, "engine");
}

/* A configuration, which stands behind the line. */
static int yaml_read(struct reader *r, const char *word, const char *rest, struct config *ret)
{
	char err[CONFIG_ERROR_BYTES];
	size_t n;

	if (sscanf(rest, "%zu", &n) != 1 || n > (size_t)(r->end - r->at))
		return bad_line(r, word);
	int e = config_parse(ret, word, r->at, n, err, sizeof err);
	if (e == 0)
		e = config_resolve(ret, err, sizeof err);
	if (e < 0)
		return bad(r, "the configuration that runs is not right for it: %.400s", err);
	r->at += n;
	return 0;
}

static int config_read_line(struct reader *r, const char *rest)
{
	struct sup *sup = r->sup;
	int e = r->seen_config ? bad_line(r, "config") : yaml_read(r, "config", rest, &sup->config);

	if (e < 0)
		return err_fwd(e);
	r->seen_config = true;
	sup->session = calloc(sup->config.max_clients, sizeof *sup->session);
	if (!sup->session)
		return bad(r, "there is no memory for the sessions");
	for (uint32_t i = 0; i < sup->config.max_clients; i++)
		sup->session[i].memfd = sup->session[i].pidfd = -1;
	return 0;
}

static int read_read(struct reader *r, const char *rest)
{
	r->seen_read = true;
	return err_fwd(yaml_read(r, "read", rest, &r->sup->read));
}

struct from_reader {
	struct sup *sup;
	const char *path;
	struct config_place place;
};

static void from_find(void *arg, const struct config_item *item)
{
	struct from_reader *f = arg;
	char path[CONFIG_PATH_BYTES];

	if (strcmp(config_path(item->key->scope, item->name, item->key, path), f->path) == 0)
		f->sup->places.key[item->owner][item->key - config_keys] = f->place;
}

static int from_read(struct reader *r, const char *rest)
{
	char path[CONFIG_PATH_BYTES], where[16];
	struct from_reader f = {r->sup, path, {0}};

	SHM_ASSERT(CONFIG_PATH_BYTES == 128);
	if (!r->seen_read || sscanf(rest, "%127s %15s %" SCNu32, path, where, &f.place.line) != 3)
		return bad_line(r, "from");
	for (uint32_t i = 0; i < sizeof from_words / sizeof *from_words; i++)
		if (strcmp(where, from_words[i]) == 0)
			f.place.from = i;
	config_each(&r->sup->read, from_find, &f);
	return 0;
}

static int store_read(struct reader *r, const char *rest)
{
	struct config *c = &r->sup->config;
	uint64_t id;
	int by_admin, at = 0;

	if (sscanf(rest, "%" SCNu64 " %d %n", &id, &by_admin, &at) != 2 || at == 0)
		return bad_line(r, "store");
	for (uint32_t i = 0; i < c->n_stores; i++) {
		if (strcmp(c->store[i].name, rest + at) != 0)
			continue;
		c->store[i].id = id;
		c->store[i].by_admin = by_admin;
		return 0;
	}
	return bad_line(r, "store");
}

static int blame_read(struct reader *r, const char *rest)
{
	char *at;
	unsigned long p = strtoul(rest, &at, 10);
	struct sup_blame *b = p < SHM_POOLS_MAX ? &r->sup->blame[p] : NULL;

	while (b && *at == ' ' && b->n < SUP_BLAMES_MAX)
		b->at_ns[b->n++] = strtoull(at, &at, 10);
	return b && *at == 0 ? 0 : bad_line(r, "blame");
}

static int socket_read(struct reader *r, const char *rest)
{
	struct sup_socket s;
	char name[16];
	int at = 0;

	if (sscanf(rest, "%15s %d %" SCNu64 " %" SCNu64 " %n", name, &s.fd, &s.dev, &s.ino, &at) !=
			4 ||
		at == 0 || strlen(rest + at) >= sizeof s.path)
		return bad_line(r, "socket");
	(void)snprintf(s.path, sizeof s.path, "%s", rest + at);
	if (strcmp(name, "clients") == 0)
		r->sup->listen = s;
	else if (strcmp(name, "admin") == 0)
		r->sup->admin_listen = s;
	else if (strcmp(name, "metrics") == 0)
		r->sup->metrics.listen = s;
	else
		return bad_line(r, "socket");
	return 0;
}

static int segment_read(struct reader *r, const char *rest)
{
	struct sup_segment s = {0}, *to = NULL;
	char name[32];
	unsigned p, k;
	int at = 0;

	if (sscanf(rest, "%31s %d %" SCNu32 " %" SCNu64 " %n", name, &s.fd, &s.backing, &s.bytes,
		    &at) != 4 ||
		at == 0)
		return bad_line(r, "segment");
	(void)snprintf(s.why, sizeof s.why, "%s", rest + at);
	if (strcmp(name, "control") == 0)
		to = &r->sup->control;
	else if (strcmp(name, "journal") == 0)
		to = &r->sup->journal;
	else if (sscanf(name, "region.%u.%u", &p, &k) == 2 && p < SHM_POOLS_MAX &&
		 k < SHM_REGIONS_MAX)
		to = &r->sup->region[p][k];
	if (!to)
		return bad_line(r, "segment");
	*to = s;
	return 0;
}

static int session_read(struct reader *r, const char *rest)
{
	struct sup_session s;
	uint32_t slot;

	if (sscanf(rest,
		    "%" SCNu32 " %" SCNx64 " %" SCNu32 " %" SCNu32 " %" SCNu32 " %" SCNu32
		    " %" SCNu32 " %d %d %d",
		    &slot, &s.id, &s.uid, &s.gid, &s.read_pools, &s.write_pools, &s.fence, &s.pid,
		    &s.memfd, &s.pidfd) != 10 ||
		!r->seen_config || slot >= r->sup->config.max_clients || s.id == 0)
		return bad_line(r, "session");
	r->sup->session[slot] = s;
	return 0;
}

static int fd_read(struct reader *r, const char *rest)
{
	struct named_fd fds[N_FDS];
	char name[32];
	int fd;

	if (sscanf(rest, "%31s %d", name, &fd) != 2)
		return bad_line(r, "fd");
	fds_named(r->sup, r->st, fds);
	for (int i = 0; i < N_FDS; i++) {
		if (strcmp(fds[i].name, name) != 0)
			continue;
		*fds[i].fd = fd;
		return 0;
	}
	return bad(r,
		"the state has a descriptor \"%s\", which this hypercached (%s) does not know",
		name, HC_VERSION_TEXT);
}

static int end_read(struct reader *r, const char *rest)
{
	(void)rest;
	r->ended = true;
	return 0;
}

static int line_obey(struct reader *r, char *line)
{
	static const struct {
		const char *word;
		int (*read)(struct reader *r, const char *rest);
	} words[] = {{"layout", layout_read}, {"release", release_read}, {"daemon", daemon_read},
		{"file", file_read}, {"set", set_read}, {"ready", ready_read}, {"next", next_read},
		{"denied", denied_read}, {"engine", engine_read}, {"config", config_read_line},
		{"read", read_read}, {"from", from_read}, {"store", store_read},
		{"blame", blame_read}, {"socket", socket_read}, {"segment", segment_read},
		{"session", session_read}, {"fd", fd_read}, {"end", end_read}};
	size_t n = strcspn(line, " ");
	const char *rest = line[n] ? line + n + 1 : line + n;

	line[n] = 0;
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (strcmp(words[i].word, line) == 0)
			return err_fwd(words[i].read(r, rest));
	if (*line == '?')
		return 0;
	return bad(r,
		"the state has a line \"%.32s\", which this hypercached (%s) does not know: it "
		"is older than the one that runs",
		line, HC_VERSION_TEXT);
}

/* What there must be. */
static int whole(struct reader *r)
{
	const struct sup *sup = r->sup;
	bool ids = true, regions = true;

	for (uint32_t i = 0; i < sup->config.n_stores; i++)
		ids &= sup->config.store[i].id != 0;
	for (uint32_t i = 0; i < sup->config.n_pools; i++)
		regions &= sup->region[i][0].fd >= 0;
	if (r->ended && r->seen_config && r->seen_read && ids && regions && sup->control.fd >= 0 &&
		sup->journal.fd >= 0 && sup->lock_fd >= 0 && sup->panic_fd >= 0 &&
		sup->listen.fd >= 0 && sup->admin_listen.fd >= 0 && r->st->daemon_id)
		return 0;
	return bad(r, "the state is not whole");
}

static int text_read(int fd, char **ret, size_t *ret_n)
{
	const int sealed = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;
	struct stat st;

	if (fstat(fd, &st) != 0)
		return err_new(-errno);
	if ((fcntl(fd, F_GET_SEALS) & sealed) != sealed || st.st_size > SUP_STATE_BYTES_MAX)
		return err_new(-EBADMSG);
	char *text = malloc((size_t)st.st_size + 1);
	if (!text)
		return err_new(-ENOMEM);
	if (pread(fd, text, (size_t)st.st_size, 0) != st.st_size) {
		free(text);
		return err_new(-EIO);
	}
	text[st.st_size] = 0;
	*ret = text;
	*ret_n = (size_t)st.st_size;
	return 0;
}

int sup_state_parse(
	char *text, size_t n, struct sup *sup, struct sup_state *ret, char why[SUP_STATE_WHY_BYTES])
{
	struct reader r = {.at = text, .end = text + n, .sup = sup, .st = ret, .why = why};
	char first[40];

	sup_state_init(ret);
	int e, len = snprintf(first, sizeof first, "hypercached-state %d\n", SUP_STATE_FORM);
	if (strncmp(text, first, (size_t)len) != 0)
		return bad(&r, "the state is of another form than this hypercached (%s) reads",
			HC_VERSION_TEXT);
	r.at += len;
	while (r.at < r.end && !r.ended) {
		char *line = r.at;
		size_t bytes = strcspn(line, "\n");
		r.at += bytes + (line + bytes < r.end);
		line[bytes] = 0;
		e = line_obey(&r, line);
		if (e < 0)
			return err_fwd(e);
	}
	sup->source = &ret->source;
	return err_fwd(whole(&r));
}

int sup_state_read(int fd, struct sup *sup, struct sup_state *ret, char why[SUP_STATE_WHY_BYTES])
{
	_cleanup_free_ char *text = NULL;
	size_t n;
	int r = text_read(fd, &text, &n);

	sup_state_init(ret);
	if (r == 0)
		return err_fwd(sup_state_parse(text, n, sup, ret, why));
	(void)snprintf(why, SUP_STATE_WHY_BYTES, "there is no state to read: %s", strerror(-r));
	return err_fwd(r);
}

int sup_state_back(int fd)
{
	static const char line[] = "\nfd back ";
	_cleanup_free_ char *text = NULL;
	size_t n;

	if (text_read(fd, &text, &n) < 0)
		return -1;
	const char *at = strstr(text, line);
	return at ? atoi(at + strlen(line)) : -1;
}

/* --------------------------------------------------------------- descriptors */

static int inherit_one(int fd, bool inherit)
{
	return fd < 0 || fcntl(fd, F_SETFD, inherit ? 0 : FD_CLOEXEC) == 0 ? 0 : err_new(-errno);
}

int sup_state_inherit(const struct sup *sup, const struct sup_state *st, bool inherit)
{
	struct named_fd fds[N_FDS];
	int r = inherit_one(sup->control.fd, inherit);

	if (r == 0)
		r = inherit_one(sup->journal.fd, inherit);
	if (r == 0)
		r = inherit_one(sup->listen.fd, inherit);
	if (r == 0)
		r = inherit_one(sup->admin_listen.fd, inherit);
	if (r == 0)
		r = inherit_one(sup->metrics.listen.fd, inherit);
	for (uint32_t p = 0; p < SHM_POOLS_MAX; p++)
		for (uint32_t k = 0; k < SHM_REGIONS_MAX && r == 0; k++)
			r = inherit_one(sup->region[p][k].fd, inherit);
	for (uint32_t i = 0; i < sup->config.max_clients && r == 0; i++) {
		r = inherit_one(sup->session[i].memfd, inherit);
		if (r == 0)
			r = inherit_one(sup->session[i].pidfd, inherit);
	}
	fds_named((struct sup *)(uintptr_t)sup, (struct sup_state *)(uintptr_t)st, fds);
	for (int i = 0; i < N_FDS && r == 0; i++)
		r = inherit_one(*fds[i].fd, inherit);
	return err_fwd(r);
}
