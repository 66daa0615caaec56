/* config_source.h - where the values come from, and what tells two configurations apart.
 *
 *	defaults --> file --> --set KEY=VALUE --> config_resolve()      config_read()
 *	running configuration, what was read  --> list of changes       config_diff()
 *	                                      --> what will run         config_merge()
 *
 * A value is named as "log_level", "pools.main.size" or "stores.pages.ttl"; the name of a pool or
 * store may have points of its own.
 */
#ifndef HC_DAEMON_CONFIG_SOURCE_H
#define HC_DAEMON_CONFIG_SOURCE_H
#include "config_value.h"

enum config_from {
	CONFIG_FROM_DEFAULT, /* auto included, whatever it has become */
	CONFIG_FROM_FILE,
	CONFIG_FROM_OPTION, /* --set */
	CONFIG_FROM_ADMIN,  /* `hypercache store create` */
};

enum {
	CONFIG_OWNERS = 1 + CONFIG_POOLS_MAX + CONFIG_STORES_MAX, /* the top, pools, stores */
	CONFIG_SETS_MAX = 64,                                     /* --set options */
	CONFIG_PATH_BYTES = 128,                                  /* "stores.NAME.KEY" */
};

struct config_place {
	uint32_t from; /* enum config_from */
	uint32_t line; /* FROM_FILE: from 1 */
};

/* One for each value, whether the owner exists or not: of owner 0 the keys at the top, of 1 + i those of
 * pool[i], of 1 + CONFIG_POOLS_MAX + i those of store[i]. */
struct config_places {
	struct config_place key[CONFIG_OWNERS][CONFIG_N_KEYS];
};

struct config_source {
	const char *file;  /* NULL: none */
	const void *bytes; /* NULL: those of the file; else these, and `file` is their name */
	size_t n_bytes;
	const char *set[CONFIG_SETS_MAX];
	uint32_t n_set;
};

/* All of it, resolved: the defaults, the file, the options.  ret_places may be NULL.
 * 0; or as config_load() and config_resolve(), with one line in ret_err; *c is then unchanged. */
int config_read(struct config *c, struct config_places *ret_places,
	const struct config_source *from, char *ret_err, size_t err_bytes);

/* Obeys one "KEY=VALUE".  0; or -EINVAL with one line in ret_err. */
int config_set(struct config *c, struct config_places *places, const char *assignment,
	char *ret_err, size_t err_bytes);

/* One value of a configuration. */
struct config_item {
	const struct config_key *key;
	uint32_t owner;    /* index as of config_places */
	const char *name;  /* of the pool or store; "" at the top */
	const void *field; /* in the configuration */
};
typedef void config_item_fn(void *arg, const struct config_item *item);
/* All of them, in the order of the table, pool by pool, store by store. */
void config_each(const struct config *c, config_item_fn *each, void *arg);

/* Its name, as "pools.main.size"; without a key that of the pool or store.  Returns `to`. */
const char *config_path(enum config_scope scope, const char *name, const struct config_key *key,
	char to[CONFIG_PATH_BYTES]);

enum config_what { CONFIG_CHANGED, CONFIG_ADDED, CONFIG_REMOVED };

/* One difference.  ADDED and REMOVED are of a pool or store as a whole: key is NULL. */
struct config_change {
	enum config_what what;
	enum config_scope scope;
	const struct config_key *key;
	const char *name;     /* of the pool or store; "" at the top */
	const void *was, *is; /* CHANGED: the fields */
	bool live;            /* a reload can make it */
};
typedef void config_change_fn(void *arg, const struct config_change *change);

/* What it takes to get from `was` to `is`, both resolved.  Pools and stores are told apart by their
 * names, so their order does not matter; stores of `was` that were created at the admin socket and
 * are not named by `is` do not count.  Returns how many differences there are; each (NULL: only
 * counted) is called for all of them. */
uint32_t config_diff(
	const struct config *was, const struct config *is, config_change_fn *each, void *arg);

/* Makes `running` what `is` says: every LIVE key, and the stores.  Pools and stores that stay keep
 * their places, and stores of the admin socket too, with values no larger than their pool's.  The caller has made sure that all differences are live and that there is room: the
 * stores of `is` and those created at the admin socket are at most CONFIG_STORES_MAX. */
void config_merge(struct config *running, const struct config *is);
/* How many stores there would be then. */
uint32_t config_merged_stores(const struct config *running, const struct config *is);

#endif
