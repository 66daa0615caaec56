/* config_value.h - inside the configuration: one key, and the text of one value.
 *
 * For config*.c and their test; the rest of the daemon needs config.h only.
 */
#ifndef HC_DAEMON_CONFIG_VALUE_H
#define HC_DAEMON_CONFIG_VALUE_H
#include "config.h"

enum config_value_type {
	CONFIG_T_flag,
	CONFIG_T_u32,
	CONFIG_T_bytes,
	CONFIG_T_duration,
	CONFIG_T_fraction,
	CONFIG_T_enum,
	CONFIG_T_path,
	CONFIG_T_string,
	CONFIG_T_name,
	CONFIG_T_uids,
	CONFIG_T_rights,
	CONFIG_T_policy,
	CONFIG_T_params,
};

enum config_scope { CONFIG_ROOT, CONFIG_POOL, CONFIG_STORE };

/* A line of config_table.h; the columns are explained there. */
struct config_key {
	const char *name;
	enum config_scope scope;
	enum config_value_type type;
	const char *unit, *min, *max, *def, *meaning;
	bool live;              /* a reload changes it */
	uint32_t offset, bytes; /* of the field in struct config, config_pool or config_store */
};

/* CONFIG_KEY_max_clients, CONFIG_KEY_pool_size, CONFIG_KEY_store_ttl: indices of config_keys. */
#define CONFIG_ID_ROOT_(name, ...) CONFIG_KEY_##name,
#define CONFIG_ID_POOL_(name, ...) CONFIG_KEY_pool_##name,
#define CONFIG_ID_STORE_(name, ...) CONFIG_KEY_store_##name,
enum { CONFIG_KEYS(CONFIG_ID_ROOT_, CONFIG_ID_POOL_, CONFIG_ID_STORE_) CONFIG_N_KEYS };
extern const struct config_key config_keys[CONFIG_N_KEYS];

enum { CONFIG_WHY_BYTES = 512 };

/* Reads text[0..n) as a value of `k` into `field`, whose k->bytes bytes are all set.
 * Returns 0, or -EINVAL with "what is wrong; what would be right" in why; *field is then unchanged.
 * text[n] must be readable and NUL. */
int config_value_parse(const struct config_key *k, const char *text, size_t n, void *field,
	char why[CONFIG_WHY_BYTES]);

/* Writes a value as config_value_parse() and YAML read it back. */
void config_value_print(const struct config_key *k, const void *field, FILE *to);

/* What `k` accepts, as a phrase: "a size, 64KiB..1GiB, or auto".  Returns `to`, terminated. */
const char *config_value_allowed(const struct config_key *k, char *to, size_t to_bytes);

/* One element of a list (a field that config_value_parse() filled) behind those that `all` has.
 * NULL, or what is wrong with it, static; *all is then unchanged. */
const char *config_value_join(const struct config_key *k, void *all, const void *one);

/* "problem; use what is allowed" into why; returns -EINVAL. */
int config_value_refuse(const struct config_key *k, char why[CONFIG_WHY_BYTES], const char *fmt,
	...) __attribute__((format(printf, 3, 4)));

/* Reads decimal digits at *text and moves it behind them.
 * 0; DIGITS_NONE: there is no number as we write it; DIGITS_HUGE: over 64 bits. */
enum { DIGITS_NONE = 1, DIGITS_HUGE };
int config_digits_parse(const char **text, uint64_t *ret);

/* config_rights.c: the value of a `rights` key.  As config_value_parse(). */
int config_rights_parse(
	const struct config_key *k, const char *text, void *field, char why[CONFIG_WHY_BYTES]);

/* config_params.c: the value of a `policy` key and of a `params` key.  As config_value_parse(). */
int config_policy_parse(
	const struct config_key *k, const char *text, void *field, char why[CONFIG_WHY_BYTES]);
int config_params_parse(
	const struct config_key *k, const char *text, void *field, char why[CONFIG_WHY_BYTES]);
/* One more parameter.  NULL, or what is wrong with it, static; *to is then unchanged. */
const char *config_params_add(
	struct config_params *to, const char *name, size_t n_name, const char *text, size_t n_text);
void config_params_print(const struct config_params *v, FILE *to);
/* A size with the largest unit that divides it, "65MiB".  Returns `to`. */
enum { CONFIG_NUMBER_BYTES = 32 };
const char *config_bytes_format(uint64_t bytes, char to[CONFIG_NUMBER_BYTES]);

/* Text of others for a message: in double quotes, cut short, without control bytes.  Returns `to`.
 */
enum { CONFIG_QUOTE_BYTES = 96 };
const char *config_quote(const char *text, size_t n, char to[CONFIG_QUOTE_BYTES]);

/* Is it the name of a pool or store?  "auto" is none. */
bool config_name_ok(const char *text, size_t n);

/* Of the n_list words, the first of those most like text[0..n); NULL if it takes more than most_edits
 * letters added, removed or changed, or half of a short word. */
const char *config_nearest(
	const char *text, size_t n, const char *const *list, size_t n_list, unsigned most_edits);

/* Looks for keys that contradict each other, auto or resolved.
 * Returns 0; 1 with a fault: the key it is about, and in which pool or store. */
struct config_fault {
	const struct config_key *key;
	uint32_t idx;
	int param; /* which of the store's policy_params; -1: the key itself */
	char why[CONFIG_WHY_BYTES];
};
int config_check(const struct config *c, struct config_fault *ret);

/* config_memory.c: the same for thresholds, guarantees and limits of memory. */
int config_memory_check(const struct config *c, struct config_fault *ret);

/* config_memory.c: what limbo_cap: auto is for a pool whose max_value is resolved. */
uint64_t config_limbo_cap_auto(const struct config_pool *p);

/* The index of the pool of that name, of the first one for "auto"; n_pools if there is none. */
uint32_t config_pool_find(const struct config *c, const char *name);

/* Fills it in; returns 1. */
int config_fault_set(struct config_fault *f, int key, uint32_t idx, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* config_store.c: the part of config_check() that is about stores by themselves; what auto means there,
 * once the pools are filled in. */
int config_store_check(const struct config *c, uint32_t i, struct config_fault *ret);
void config_store_fill(const struct config *c, struct config_store *s);

/* config_listen.c: the same about metrics_listen. */
int config_listen_check(const struct config *c, struct config_fault *ret);
/* config_modules.c: the same about policy_modules. */
int config_modules_check(const struct config *c, struct config_fault *ret);
/* The name of the policy in module k.  False: there are no more. */
bool config_modules_name(const struct config *c, int k, char ret[CONFIG_PARAM_BYTES]);
/* config_params.c: the same about the policy of store i. */
int config_params_check(const struct config *c, uint32_t i, struct config_fault *ret);
void config_params_fill(struct config_store *s);
const char *config_store_policy(const struct config_store *s); /* its own, or its type's */

/* A pool or store of that name with the table's defaults.  `name` fits. */
void config_pool_init(struct config_pool *p, const char *name);
void config_store_init(struct config_store *s, const char *name);

#endif
