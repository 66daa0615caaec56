/* config.c - the table's defaults, what contradicts what, and what auto stands for. */
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include "config.h"
#include "config_source.h"
#include "config_value.h"
#include "../shm/base/check.h"
#include "../shm/base/cleanup.h"
#include "../shm/base/err.h"
#include "../shm/step.h"

#define KEY_LIVE_ true
#define KEY_START_ false
#define KEY_(scope, of, key, key_type, unit, min, max, def, when, meaning) \
	{#key, scope, CONFIG_T_##key_type, unit, min, max, def, meaning, KEY_##when##_, \
		(uint32_t)offsetof(struct of, CONFIG_MEMBER_##key_type(key)), \
		(uint32_t)sizeof(((struct of *)0)->CONFIG_MEMBER_##key_type(key))},
#define KEY_ROOT_(...) KEY_(CONFIG_ROOT, config, __VA_ARGS__)
#define KEY_POOL_(...) KEY_(CONFIG_POOL, config_pool, __VA_ARGS__)
#define KEY_STORE_(...) KEY_(CONFIG_STORE, config_store, __VA_ARGS__)

const struct config_key config_keys[CONFIG_N_KEYS] = {
	CONFIG_KEYS(KEY_ROOT_, KEY_POOL_, KEY_STORE_)};

enum { FEED_SHARE_OF = 128 };
#define FEED_BYTES_MIN (UINT64_C(64) << 10)
#define FEED_AUTO_BYTES_MAX (UINT64_C(4) << 20)

/* -- defaults -- */

static void scope_defaults(enum config_scope scope, void *obj)
{
	char why[CONFIG_WHY_BYTES];

	for (const struct config_key *k = config_keys; k < config_keys + CONFIG_N_KEYS; k++)
		if (k->scope == scope)
			CHECK(config_value_parse(k, k->def, strlen(k->def), (char *)obj + k->offset,
				      why) == 0);
}

void config_pool_init(struct config_pool *p, const char *name)
{
	memset(p, 0, sizeof *p);
	(void)snprintf(p->name, sizeof p->name, "%s", name);
	scope_defaults(CONFIG_POOL, p);
}

void config_store_init(struct config_store *s, const char *name)
{
	memset(s, 0, sizeof *s);
	(void)snprintf(s->name, sizeof s->name, "%s", name);
	scope_defaults(CONFIG_STORE, s);
}

void config_defaults(struct config *c)
{
	memset(c, 0, sizeof *c);
	scope_defaults(CONFIG_ROOT, c);
	config_pool_init(&c->pool[0], "main");
	c->n_pools = 1;
	config_store_init(&c->store[0], "default");
	c->n_stores = 1;
}

/* -- the word that was meant -- */

enum { WORD_MAX = 48 };

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
	unsigned ab = a < b ? a : b;
	return ab < c ? ab : c;
}

/* Levenshtein's distance (1966), by the row; both shorter than WORD_MAX. */
static unsigned edit_distance(const char *a, size_t n_a, const char *b, size_t n_b)
{
	unsigned row[WORD_MAX];

	for (size_t j = 0; j <= n_b; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; i <= n_a; i++) {
		unsigned diagonal = row[0];
		row[0] = (unsigned)i;
		for (size_t j = 1; j <= n_b; j++) {
			unsigned above = row[j];
			row[j] = min3(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
			diagonal = above;
		}
	}
	return row[n_b];
}

const char *config_nearest(
	const char *text, size_t n, const char *const *list, size_t n_list, unsigned most_edits)
{
	const char *best = NULL;

	for (size_t i = 0; i < n_list; i++) {
		size_t n_word = strlen(list[i]);
		if (n >= WORD_MAX || n_word >= WORD_MAX)
			continue;
		unsigned d = edit_distance(text, n, list[i], n_word);
		if (d > most_edits || 2 * d > n_word || (best && d == most_edits))
			continue;
		best = list[i];
		most_edits = d;
	}
	return best;
}

/* -- contradictions -- */

int config_fault_set(struct config_fault *f, int key, uint32_t idx, const char *fmt, ...)
{
	va_list ap;

	f->key = &config_keys[key];
	f->idx = idx;
	f->param = -1;
	va_start(ap, fmt);
	(void)vsnprintf(f->why, sizeof f->why, fmt, ap);
	va_end(ap);
	return 1;
}

/* What of a frame a value can fill: the rest is for its key and the request around it. */
static uint64_t frame_value_bytes(const struct config *c)
{
	uint64_t rest = UINT64_C(1) << 20;

	return c->max_frame_bytes > 2 * rest ? c->max_frame_bytes - rest : c->max_frame_bytes / 2;
}

/* Who may change a pool has to be able to read it.  Groups may contain anybody. */
static int rights_check(const struct config_pool *p, uint32_t i, struct config_fault *ret)
{
	if (p->read.kind != CONFIG_RIGHTS_LIST || p->write.kind != CONFIG_RIGHTS_LIST)
		return 0;
	for (uint32_t k = 0; k < p->read.n; k++)
		if (p->read.who[k].is_group)
			return 0;
	for (uint32_t k = 0; k < p->write.n; k++) {
		if (p->write.who[k].is_group ||
			config_rights_name(&p->read, p->write.who[k].id, NULL, 0))
			continue;
		return config_fault_set(ret, CONFIG_KEY_pool_write, i,
			"user %u may write but not read, and writing needs both; use a list of "
			"those in read",
			(unsigned)p->write.who[k].id);
	}
	return 0;
}

static int feed_check(const struct config_pool *p, uint32_t i, struct config_fault *ret)
{
	char have[CONFIG_NUMBER_BYTES], want[CONFIG_NUMBER_BYTES];

	if (p->feed_bytes == CONFIG_AUTO || p->feed_bytes == 0)
		return 0;
	(void)config_bytes_format(p->feed_bytes, have);
	if (p->feed_bytes < FEED_BYTES_MIN)
		return config_fault_set(ret, CONFIG_KEY_pool_feed, i,
			"%s is too little for a change feed; use at least %s, or 0B for none", have,
			config_bytes_format(FEED_BYTES_MIN, want));
	if (p->feed_bytes > p->size_bytes / 4)
		return config_fault_set(ret, CONFIG_KEY_pool_feed, i,
			"%s is more than a quarter of the pool's size; use at most %s", have,
			config_bytes_format(p->size_bytes / 4, want));
	return 0;
}

static uint64_t feed_auto(const struct config_pool *p)
{
	uint64_t share = p->size_bytes / FEED_SHARE_OF;

	share -= share % FEED_BYTES_MIN;
	if (share < FEED_BYTES_MIN)
		return FEED_BYTES_MIN;
	return share < FEED_AUTO_BYTES_MAX ? share : FEED_AUTO_BYTES_MAX;
}

static int pool_check(const struct config *c, uint32_t i, struct config_fault *ret)
{
	const struct config_pool *p = &c->pool[i];
	uint64_t page = config_huge_page_bytes(p), most = frame_value_bytes(c);
	char have[CONFIG_NUMBER_BYTES], want[CONFIG_NUMBER_BYTES], size[CONFIG_NUMBER_BYTES];

	(void)config_bytes_format(p->size_bytes, size);
	if (p->huge_pages == CONFIG_HUGE_ON && p->size_bytes % page)
		return config_fault_set(ret, CONFIG_KEY_pool_size, i,
			"%s is no multiple of the huge pages that huge_pages: on demands; use %s",
			size,
			config_bytes_format(p->size_bytes + page - p->size_bytes % page, want));
	if (c->limbo_cap_bytes != CONFIG_AUTO && c->limbo_cap_bytes > p->size_bytes / 2)
		return config_fault_set(ret, CONFIG_KEY_limbo_cap, 0,
			"%s is more than half of pool %s (%s), which one client could fill; use at "
			"most %s",
			config_bytes_format(c->limbo_cap_bytes, have), p->name, size,
			config_bytes_format(p->size_bytes / 2, want));
	if (rights_check(p, i, ret) || feed_check(p, i, ret))
		return 1;
	if (p->max_value_bytes == CONFIG_AUTO)
		return 0;
	(void)config_bytes_format(p->max_value_bytes, have);
	if (p->max_value_bytes > p->size_bytes / 4)
		return config_fault_set(ret, CONFIG_KEY_pool_max_value, i,
			"%s is more than a quarter of the pool's size (%s); use at most %s", have,
			size, config_bytes_format(p->size_bytes / 4, want));
	if (p->max_value_bytes > most)
		return config_fault_set(ret, CONFIG_KEY_pool_max_value, i,
			"%s is more than a frame can carry; use at most %s, or a larger max_frame",
			have, config_bytes_format(most, want));
	return 0;
}

uint32_t config_pool_find(const struct config *c, const char *name)
{
	uint32_t i = 0;

	if (strcmp(name, "auto") == 0)
		return 0;
	while (i < c->n_pools && strcmp(c->pool[i].name, name) != 0)
		i++;
	return i;
}

static int store_check(const struct config *c, uint32_t i, struct config_fault *ret)
{
	const char *pool = c->store[i].pool, *names[CONFIG_POOLS_MAX];

	if (config_pool_find(c, pool) < c->n_pools || MUTANT(402)) /* 402: any pool will do */
		return 0;
	for (uint32_t j = 0; j < c->n_pools; j++)
		names[j] = c->pool[j].name;
	const char *meant = config_nearest(pool, strlen(pool), names, c->n_pools, 3);
	return config_fault_set(ret, CONFIG_KEY_store_pool, i, "there is no pool %s; %s %s%s", pool,
		meant ? "did you mean" : "use one of the pools, as", meant ? meant : names[0],
		meant ? "?" : "");
}

int config_check(const struct config *c, struct config_fault *ret)
{
	char have[CONFIG_NUMBER_BYTES], want[CONFIG_NUMBER_BYTES];
	int r = 0;

	if (strcmp(c->socket, "auto") != 0 && strcmp(c->socket, c->admin_socket) == 0)
		return config_fault_set(ret, CONFIG_KEY_admin_socket, 0,
			"it is the same as socket; use another path, or auto");
	if (c->wal_segment_bytes < c->wal_staging_bytes)
		return config_fault_set(ret, CONFIG_KEY_wal_segment, 0,
			"%s is less than wal_staging, which has to fit into one; use %s or more",
			config_bytes_format(c->wal_segment_bytes, have),
			config_bytes_format(c->wal_staging_bytes, want));
	r = config_listen_check(c, ret);
	if (r == 0)
		r = config_modules_check(c, ret);
	for (uint32_t i = 0; i < c->n_pools && r == 0; i++)
		r = pool_check(c, i, ret);
	for (uint32_t i = 0; i < c->n_stores && r == 0; i++) {
		r = store_check(c, i, ret);
		if (r == 0)
			r = config_store_check(c, i, ret);
	}
	return r ? r : config_memory_check(c, ret);
}

/* -- what auto stands for -- */

/* Sets a path that is still auto to A/B.  -EINVAL: too long, or not text. */
static int path_fill(
	int key, char *field, const char *a, const char *b, char *ret_err, size_t err_bytes)
{
	const struct config_key *k = &config_keys[key];
	char path[2 * CONFIG_TEXT_BYTES], why[CONFIG_WHY_BYTES];
	int n;

	if (strcmp(field, "auto") != 0)
		return 0;
	n = snprintf(path, sizeof path, "%s/%s", a, b);
	if (n >= (int)sizeof path)
		n = sizeof path - 1;
	if (config_value_parse(k, path, (size_t)n, field, why) == 0)
		return 0;
	(void)snprintf(ret_err, err_bytes, "%s: auto is of no use here: %s", k->name, why);
	return err_new(-EINVAL);
}

static bool is_absolute(const char *path) { return path && path[0] == '/'; }

static int sockets_fill(
	struct config *c, const struct config_env *env, char *ret_err, size_t err_bytes)
{
	char own[64], folder[CONFIG_TEXT_BYTES];
	const char *run = env->runtime_dir, *below = "hypercache/hypercache.sock";
	int r;

	if (env->uid == 0) {
		run = "/run";
	} else if (!is_absolute(run)) {
		(void)snprintf(own, sizeof own, "/tmp/hypercache-%u", (unsigned)env->uid);
		run = own;
		below = "hypercache.sock";
	}
	r = path_fill(CONFIG_KEY_socket, c->socket, run, below, ret_err, err_bytes);
	if (r < 0)
		return err_fwd(r);
	(void)snprintf(folder, sizeof folder, "%s", c->socket);
	char *slash = strrchr(folder, '/');
	if (slash)
		*slash = '\0';
	return err_fwd(path_fill(CONFIG_KEY_admin_socket, c->admin_socket, folder, "admin.sock",
		ret_err, err_bytes));
}

static int data_dir_fill(
	struct config *c, const struct config_env *env, char *ret_err, size_t err_bytes)
{
	const char *a = env->state_home, *below = "hypercache";

	if (env->uid == 0) {
		a = "/var/lib";
	} else if (!is_absolute(a)) {
		a = env->home;
		below = ".local/state/hypercache";
	}
	if (!is_absolute(a) && strcmp(c->data_dir, "auto") == 0) {
		(void)snprintf(ret_err, err_bytes,
			"data_dir: auto is of no use here: neither XDG_STATE_HOME nor HOME is set; "
			"use an absolute path");
		return err_new(-EINVAL);
	}
	int r = path_fill(CONFIG_KEY_data_dir, c->data_dir, a, below, ret_err, err_bytes);
	if (r < 0)
		return err_fwd(r);
	return err_fwd(path_fill(
		CONFIG_KEY_crash_dir, c->crash_dir, c->data_dir, "images", ret_err, err_bytes));
}

static void rights_fill(struct config *c, const struct config_env *env)
{
	for (struct config_pool *p = c->pool; p < c->pool + c->n_pools; p++)
		if (p->read.kind == CONFIG_RIGHTS_AUTO)
			p->read = (struct config_rights){
				.kind = env->uid == 0 ? CONFIG_RIGHTS_ANY : CONFIG_RIGHTS_LIST};
}

static void pools_fill(struct config *c)
{
	if (c->max_clients_per_user == CONFIG_AUTO32)
		c->max_clients_per_user = c->max_clients - c->max_clients / 8;
	for (struct config_pool *p = c->pool; p < c->pool + c->n_pools; p++) {
		uint64_t quarter = p->size_bytes / 4, frame = frame_value_bytes(c);
		if (p->max_value_bytes == CONFIG_AUTO)
			p->max_value_bytes = quarter < frame ? quarter : frame;
		if (p->feed_bytes == CONFIG_AUTO)
			p->feed_bytes = feed_auto(p);
		p->limbo_cap_bytes = c->limbo_cap_bytes == CONFIG_AUTO ? config_limbo_cap_auto(p)
		                                                       : c->limbo_cap_bytes;
	}
	for (struct config_store *s = c->store; s < c->store + c->n_stores; s++) {
		s->pool_idx = config_pool_find(c, s->pool);
		memcpy(s->pool, c->pool[s->pool_idx].name, sizeof s->pool);
		config_store_fill(c, s);
	}
}

int config_resolve_for(
	struct config *c, const struct config_env *env, char *ret_err, size_t err_bytes)
{
	struct config full = *c;
	struct config_fault f;
	int r = sockets_fill(&full, env, ret_err, err_bytes);

	if (r == 0)
		r = data_dir_fill(&full, env, ret_err, err_bytes);
	if (r < 0)
		return err_fwd(r);
	rights_fill(&full, env);
	if (config_check(&full, &f)) {
		const char *of = f.key->scope == CONFIG_POOL    ? full.pool[f.idx].name
		                 : f.key->scope == CONFIG_STORE ? full.store[f.idx].name
		                                                : "";
		char path[CONFIG_PATH_BYTES];
		(void)snprintf(ret_err, err_bytes, "%s: %s",
			config_path(f.key->scope, of, f.key, path), f.why);
		return err_new(-EINVAL);
	}
	pools_fill(&full);
	memcpy(c, &full, sizeof full);
	return 0;
}

int config_resolve(struct config *c, char *ret_err, size_t err_bytes)
{
	const struct config_env env = {.uid = geteuid(),
		.runtime_dir = getenv("XDG_RUNTIME_DIR"),
		.state_home = getenv("XDG_STATE_HOME"),
		.home = getenv("HOME")};

	return err_fwd(config_resolve_for(c, &env, ret_err, err_bytes));
}

/* -- the file -- */

static int file_read(int fd, unsigned char *to, size_t most, size_t *ret_n)
{
	size_t n = 0;

	while (n < most) {
		ssize_t got = read(fd, to + n, most - n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return err_new(-errno);
		if (got == 0)
			break;
		n += (size_t)got;
	}
	*ret_n = n;
	return 0;
}

int config_load(struct config *c, const char *path, char *ret_err, size_t err_bytes)
{
	return err_fwd(config_load_places(c, NULL, path, ret_err, err_bytes));
}

int config_load_places(struct config *c, struct config_places *ret_places, const char *path,
	char *ret_err, size_t err_bytes)
{
	const size_t room = CONFIG_FILE_MAX_BYTES + 1; /* one more: so that too long is seen */
	_cleanup_free_ unsigned char *bytes = malloc(room);
	_cleanup_close_ int fd = -1;
	size_t n = 0;
	int r = 0;

	if (!bytes)
		r = -ENOMEM;
	if (r == 0) {
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
		r = fd < 0 ? -errno : file_read(fd, bytes, room, &n);
	}
	if (r < 0) {
		(void)snprintf(ret_err, err_bytes,
			"%s: cannot be read: %s; use a readable file, or none for the defaults",
			path, strerror(-r));
		return err_new(r);
	}
	return err_fwd(config_parse_places(c, ret_places, path, bytes, n, ret_err, err_bytes));
}
