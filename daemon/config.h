/* config.h - the daemon's configuration: one struct of plain data.
 *
 *	        defaults            file                    environment, user
 *	            |                 |                            |
 *	 config_defaults() --> config_load() --> (options) --> config_resolve() --> bytes to the
 *engine
 *
 * config_table.h lists the keys; the fields below are made from it.  A struct config holds no
 * pointer, so its bytes may be copied to a child process of the same binary.
 *
 * Rules.
 *  1. The reader is strict: an unknown or repeated key, a value of the wrong type, unit or range,
 *an anchor, alias, tag or directive, or a second document is an error, never a warning.
 *  2. Every error is one line: FILE:LINE:COL: what is wrong; what would be right.  A fault that has
 *     no place in the file (it cannot be read, an option contradicts it) comes without LINE:COL.
 *  3. A function that fails leaves *c as it was.  A contradiction between keys is an error already
 *     when the file is read, where its line is known; config_resolve() looks again.
 *  4. An empty file means the defaults: one pool `main` with one store `default`.
 *
 * Threads: the functions share nothing.  Fork: nothing is kept open.  Lifetime: the caller's.
 */
#ifndef HC_DAEMON_CONFIG_H
#define HC_DAEMON_CONFIG_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "config_table.h"

enum {
	CONFIG_POOLS_MAX = 16,
	CONFIG_STORES_MAX = 64,
	CONFIG_UIDS_MAX = 16,
	CONFIG_RIGHTS_MAX = 16,
	CONFIG_PARAMS_MAX = 8,   /* of one policy */
	CONFIG_PARAM_BYTES = 24, /* of a parameter's name or value, with the final NUL */
	CONFIG_NAME_BYTES = 32,  /* of a pool or store, with its final NUL: [A-Za-z0-9_.-]{1,31} */
	CONFIG_TEXT_BYTES = 256, /* of a path or string, with its final NUL */
	CONFIG_ERROR_BYTES = 1024, /* enough for every message of this module but for a long FILE */
	CONFIG_FILE_MAX_BYTES = 1 << 20,
};

/* The value of a `bytes` key that says auto and has not been resolved.  A path or name says "auto".
 */
#define CONFIG_AUTO UINT64_MAX
#define CONFIG_AUTO32 UINT32_MAX /* of a u32 key */

struct config_uids {
	uint32_t n;
	uint32_t uid[CONFIG_UIDS_MAX]; /* [0, n) are used, the rest is 0 */
};

enum config_rights_kind {
	CONFIG_RIGHTS_LIST, /* who[0..n); none of them: "owner" */
	CONFIG_RIGHTS_ANY,
	CONFIG_RIGHTS_AUTO, /* not resolved yet */
};

/* Who may do something.  Names have become numbers when the file was read. */
struct config_rights {
	uint32_t kind, n; /* enum config_rights_kind; used in who[], the rest is 0 */
	struct {
		uint32_t is_group, id;
	} who[CONFIG_RIGHTS_MAX];
};

/* What a policy is told.  of[0, n) are used, the rest is 0. */
struct config_params {
	uint32_t n;
	struct config_param {
		char name[CONFIG_PARAM_BYTES], text[CONFIG_PARAM_BYTES];
	} of[CONFIG_PARAMS_MAX];
};

/* Type -> the member's name, and the member. */
#define CONFIG_MEMBER_flag(name) name
#define CONFIG_MEMBER_u32(name) name
#define CONFIG_MEMBER_bytes(name) name##_bytes
#define CONFIG_MEMBER_duration(name) name##_ns
#define CONFIG_MEMBER_fraction(name) name##_ppm
#define CONFIG_MEMBER_enum(name) name
#define CONFIG_MEMBER_path(name) name
#define CONFIG_MEMBER_string(name) name
#define CONFIG_MEMBER_name(name) name
#define CONFIG_MEMBER_uids(name) name
#define CONFIG_MEMBER_rights(name) name
#define CONFIG_MEMBER_policy(name) name
#define CONFIG_MEMBER_params(name) name

#define CONFIG_CONSTANT_(constant, word) constant,
#define CONFIG_FIELD_flag(name) bool name;
#define CONFIG_FIELD_u32(name) uint32_t name;
#define CONFIG_FIELD_bytes(name) uint64_t name##_bytes;
#define CONFIG_FIELD_duration(name) uint64_t name##_ns;
#define CONFIG_FIELD_fraction(name) uint32_t name##_ppm;
#define CONFIG_FIELD_enum(name) enum config_##name{CONFIG_CHOICES_##name(CONFIG_CONSTANT_)} name;
#define CONFIG_FIELD_path(name) char name[CONFIG_TEXT_BYTES];
#define CONFIG_FIELD_string(name) char name[CONFIG_TEXT_BYTES];
#define CONFIG_FIELD_name(name) char name[CONFIG_NAME_BYTES];
#define CONFIG_FIELD_uids(name) struct config_uids name;
#define CONFIG_FIELD_rights(name) struct config_rights name;
#define CONFIG_FIELD_policy(name) char name[CONFIG_NAME_BYTES];
#define CONFIG_FIELD_params(name) struct config_params name;

#define CONFIG_FIELD(name, type, ...) CONFIG_FIELD_##type(name)
#define CONFIG_NONE(...)

struct config_pool {
	char name[CONFIG_NAME_BYTES];
	CONFIG_KEYS(CONFIG_NONE, CONFIG_FIELD, CONFIG_NONE)
	uint64_t limbo_cap_bytes; /* set by config_resolve() from limbo_cap; no key */
};

struct config_store {
	char name[CONFIG_NAME_BYTES];
	CONFIG_KEYS(CONFIG_NONE, CONFIG_NONE, CONFIG_FIELD)
	uint32_t pool_idx; /* set by config_resolve() from pool; no key */
	bool by_admin;     /* created at the admin socket: the file does not know it; no key */
	uint64_t id;       /* given by the supervisor, never again to another (rule P10); no key */
};

struct config {
	CONFIG_KEYS(CONFIG_FIELD, CONFIG_NONE, CONFIG_NONE)
	struct config_pool pool[CONFIG_POOLS_MAX];
	uint32_t n_pools; /* 1..CONFIG_POOLS_MAX */
	struct config_store store[CONFIG_STORES_MAX];
	uint32_t n_stores; /* 1..CONFIG_STORES_MAX */
};

/* Every byte of *c, padding included, is set: the defaults of the table, one pool, one store. */
void config_defaults(struct config *c);

/* Reads the file at `path` on top of the defaults; what was in *c does not count.
 *
 * Returns 0, or with one line of text in ret_err (always terminated; CONFIG_ERROR_BYTES is enough)
 *   -EINVAL   the text is not a valid configuration
 *   -E2BIG    it is longer than CONFIG_FILE_MAX_BYTES
 *   -ENOMEM   libyaml found no memory
 *   -errno    config_load: what open() or read() said
 */
int config_load(struct config *c, const char *path, char *ret_err, size_t err_bytes);

/* The same from memory; `name` stands for the file in messages.  Any bytes may be given.  The two
 * with ret_places (NULL: not wanted) also say where in the text each value stands (config_source.h). */
struct config_places;
int config_load_places(struct config *c, struct config_places *ret_places, const char *path,
	char *ret_err, size_t err_bytes);
int config_parse_places(struct config *c, struct config_places *ret_places, const char *name,
	const void *bytes, size_t n, char *ret_err, size_t err_bytes);
int config_parse(struct config *c, const char *name, const void *bytes, size_t n, char *ret_err,
	size_t err_bytes);

/* Fills in every auto and the fields that have no key, from the effective user and the environment
 * (XDG_RUNTIME_DIR, XDG_STATE_HOME, HOME; a relative path in them counts as not set).  Creates
 * nothing in the file system.  limbo_cap stays auto: each pool's own limbo_cap_bytes is set.
 *
 * Returns 0, or -EINVAL with one line in ret_err: keys that contradict each other, or an automatic
 * path that is too long or has nothing to begin with. */
int config_resolve(struct config *c, char *ret_err, size_t err_bytes);

/* config_resolve() for a given user.  NULL: not set. */
struct config_env {
	uint32_t uid;
	const char *runtime_dir, *state_home, *home;
};
int config_resolve_for(
	struct config *c, const struct config_env *env, char *ret_err, size_t err_bytes);

/* The keys for a terminal; as the manual page hypercache.yaml(5) in mdoc(7); and all values of *c
 * as a file that config_parse() reads back to the same.  Whether `to` took it all: ferror(to). */
void config_help(FILE *to);
void config_man(FILE *to);
void config_print(const struct config *c, FILE *to);

/* Does the list, resolved, name this user or one of these groups?  The owner, root and others who
 * are never asked are the caller's business. */
bool config_rights_name(
	const struct config_rights *r, uint32_t uid, const uint32_t *gid, size_t n_gids);
/* The list as it stands in a file.  Returns `to`, terminated and cut to to_bytes. */
const char *config_rights_format(const struct config_rights *r, char *to, size_t to_bytes);

/* What metrics_listen says.  False: no address of this host, and no path.  *ret_bytes 0: "none". */
struct sockaddr_storage;
bool config_listen_parse(const char *text, struct sockaddr_storage *ret, uint32_t *ret_bytes);

/* Loads the shared objects of policy_modules into this process.  0; -EINVAL with one line in ret_err. */
int config_modules_load(const struct config *c, char *ret_err, size_t err_bytes);
/* The same in a child process, which also compares what stores say with what the objects take: what somebody
 * else has written does not run in a process that has to live. */
int config_modules_try(const struct config *c, char *ret_err, size_t err_bytes);
/* Is it the name of one of them? */
bool config_modules_have(const struct config *c, const char *policy);

/* The values of the store's policy, once the configuration is resolved (pol.h). */
struct pol_values;
struct pol_values config_params_values(const struct config_store *s);
/* A parameter of a policy in words: "a fraction, 0.001..0.5"; its default, "0.1".  Return `to`. */
struct pol_param;
const char *config_param_allowed(const struct pol_param *p, char *to, size_t to_bytes);
const char *config_param_default(const struct pol_param *p, char to[CONFIG_PARAM_BYTES]);

static inline uint64_t config_huge_page_bytes(const struct config_pool *p)
{
	return p->huge_page_size == CONFIG_HUGE_1GIB ? UINT64_C(1) << 30 : UINT64_C(2) << 20;
}

#endif
