/* config_params.c - which policy a store has, and with which parameters.
 *
 * Both are text until the whole file is read, for they may stand in any order.  Then config_check()
 * compares them with what there is (pol.h), and config_resolve() writes each value as it would be printed:
 * so 0.1 and 10% are no difference.
 */
#include <string.h>
#include "config_value.h"
#include "pol.h"
#include "pol_module.h"
#include "../shm/base/check.h"
#include "../shm/base/err.h"
#include "../shm/step.h"

enum {
	POLICIES_MAX = 32,
	NUMBER_BYTES = 32,
	EDITS_MAX = 3,
	TELL_BEATS =
		16, /* heartbeats in the time in which a policy has to be told of a use: 2 in each eighth */
};
_Static_assert((int)CONFIG_PARAMS_MAX == POL_PARAMS_MAX, "a policy's parameters fit");
_Static_assert((int)CONFIG_PARAM_BYTES == POL_NAME_BYTES, "and so do their names");

#define NAME_LETTERS "abcdefghijklmnopqrstuvwxyz0123456789_-"
#define TEXT_LETTERS NAME_LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZ.%"

/* -- the text -- */

int config_policy_parse(
	const struct config_key *k, const char *text, void *field, char why[CONFIG_WHY_BYTES])
{
	char q[CONFIG_QUOTE_BYTES];
	size_t n = strlen(text);

	if (n == 0 || n >= POL_NAME_BYTES || strspn(text, TEXT_LETTERS) != n)
		return config_value_refuse(
			k, why, "%s cannot be the name of a policy", config_quote(text, n, q));
	memset(field, 0, k->bytes);
	memcpy(field, text, n);
	return 0;
}

static bool word_fits(const char *text, size_t n, const char *letters)
{
	return n > 0 && n < CONFIG_PARAM_BYTES && strspn(text, letters) >= n;
}

const char *config_params_add(
	struct config_params *to, const char *name, size_t n_name, const char *text, size_t n_text)
{
	struct config_param new = {.name = ""};

	if (!word_fits(name, n_name, NAME_LETTERS))
		return "it cannot be the name of a parameter";
	if (!word_fits(text, n_text, TEXT_LETTERS) || (n_text == 4 && memcmp(text, "null", 4) == 0))
		return "its value cannot be one of a parameter";
	memcpy(new.name, name, n_name);
	memcpy(new.text, text, n_text);
	for (uint32_t i = 0; i < to->n; i++)
		if (strcmp(to->of[i].name, new.name) == 0)
			return "it is given twice";
	if (to->n == CONFIG_PARAMS_MAX)
		return "there are too many parameters";
	to->of[to->n++] = new;
	return NULL;
}

/* "none", or NAME=VALUE with commas between. */
int config_params_parse(
	const struct config_key *k, const char *text, void *field, char why[CONFIG_WHY_BYTES])
{
	struct config_params v = {.n = 0};
	char q[CONFIG_QUOTE_BYTES];
	const char *p = text;

	while (strcmp(text, "none") != 0) {
		p += strspn(p, " ");
		size_t n_name = strcspn(p, "=,"), n_text = 0;
		if (p[n_name] == '=')
			n_text = strcspn(p + n_name + 1, ",");
		const char *problem = config_params_add(&v, p, n_name, p + n_name + 1, n_text);
		if (problem)
			return config_value_refuse(
				k, why, "%s: %s", config_quote(text, strlen(text), q), problem);
		p += n_name + 1 + n_text;
		if (*p++ == '\0')
			break;
	}
	memcpy(field, &v, sizeof v);
	return 0;
}

void config_params_print(const struct config_params *v, FILE *to)
{
	if (v->n == 0)
		fputs("none", to);
	for (uint32_t i = 0; i < v->n; i++)
		fprintf(to, "%s%s: %s", i ? ", " : "{", v->of[i].name, v->of[i].text);
	if (v->n)
		putc('}', to);
}

/* -- a parameter as a key of the configuration -- */

struct param_key {
	struct config_key key;
	char min[NUMBER_BYTES], max[NUMBER_BYTES];
	uint64_t field; /* key.bytes of it are used */
};

static const enum config_value_type types[] = {
	[POL_T_NUMBER] = CONFIG_T_u32,
	[POL_T_FRACTION] = CONFIG_T_fraction,
	[POL_T_BYTES] = CONFIG_T_bytes,
	[POL_T_DURATION] = CONFIG_T_duration,
};

/* A value of a policy as text of the configuration. */
static const char *value_format(const struct config_key *k, uint64_t v, char to[NUMBER_BYTES])
{
	uint32_t v32 = (uint32_t)v;
	FILE *f = fmemopen(to, NUMBER_BYTES, "w");

	*to = '\0';
	if (!f)
		return to; /* no memory: the message lacks a number */
	config_value_print(k, k->bytes == sizeof v ? (void *)&v : (void *)&v32, f);
	(void)fclose(f);
	return to;
}

static void param_key(const struct pol_param *p, struct param_key *ret)
{
	bool narrow = p->type == POL_T_NUMBER || p->type == POL_T_FRACTION;

	ret->key = (struct config_key){.name = p->name,
		.scope = CONFIG_STORE,
		.type = types[p->type],
		.unit = p->unit,
		.min = ret->min,
		.max = ret->max,
		.def = "",
		.meaning = p->meaning,
		.bytes = narrow ? sizeof(uint32_t) : sizeof(uint64_t)};
	(void)value_format(&ret->key, p->min, ret->min);
	(void)value_format(&ret->key, p->max, ret->max);
}

const char *config_param_allowed(const struct pol_param *p, char *to, size_t to_bytes)
{
	struct param_key k;

	param_key(p, &k);
	return config_value_allowed(&k.key, to, to_bytes);
}

const char *config_param_default(const struct pol_param *p, char to[CONFIG_PARAM_BYTES])
{
	struct param_key k;
	char text[NUMBER_BYTES];

	param_key(p, &k);
	(void)snprintf(to, CONFIG_PARAM_BYTES, "%.*s", CONFIG_PARAM_BYTES - 1,
		value_format(&k.key, p->def, text));
	return to;
}

/* 0 and the number; or -EINVAL with why. */
static int param_parse(
	const struct pol_param *p, const char *text, uint64_t *ret, char why[CONFIG_WHY_BYTES])
{
	struct param_key k;
	uint32_t v32;

	param_key(p, &k);
	int r = config_value_parse(&k.key, text, strlen(text), &k.field, why);
	if (r < 0)
		return err_fwd(r);
	memcpy(&v32, &k.field, sizeof v32);
	*ret = k.key.bytes == sizeof v32 ? v32 : k.field;
	return 0;
}

/* -- what there is -- */

static const struct pol_ops *policy_of(const struct config_store *s)
{
	return pol_find(config_store_policy(s));
}

static int policy_unknown(const struct config *c, uint32_t i, struct config_fault *ret)
{
	const struct config_store *s = &c->store[i];
	const char *names[POLICIES_MAX];
	char loaded[POL_MODULES_MAX][POL_NAME_BYTES];
	char list[256];
	size_t n = 0, at = 0;

	for (const struct pol_ops *const *o = pol_all(); *o && n < POLICIES_MAX; o++)
		names[n++] = (*o)->name;
	for (int k = 0; n < POLICIES_MAX && config_modules_name(c, k, loaded[k]); k++)
		names[n++] = loaded[k];
	const char *meant = config_nearest(s->policy, strlen(s->policy), names, n, EDITS_MAX);
	if (meant)
		return config_fault_set(ret, CONFIG_KEY_store_policy, i,
			"there is no policy %s; did you mean %s?", s->policy, meant);
	for (size_t k = 0; k < n && at < sizeof list; k++)
		at += (size_t)snprintf(
			list + at, sizeof list - at, "%s%s", k ? ", " : "", names[k]);
	return config_fault_set(ret, CONFIG_KEY_store_policy, i,
		"there is no policy %s; use one of %s", s->policy, list);
}

static int param_unknown(
	const struct pol_ops *ops, const char *name, uint32_t i, struct config_fault *ret)
{
	const char *names[POL_PARAMS_MAX];
	char list[POL_PARAMS_MAX * (POL_NAME_BYTES + 2)] = "";
	size_t at = 0;

	for (uint32_t k = 0; k < ops->n_params; k++) {
		names[k] = ops->params[k].name;
		at += (size_t)snprintf(
			list + at, sizeof list - at, "%s%s", k ? ", " : "", names[k]);
	}
	if (ops->n_params == 0)
		return config_fault_set(ret, CONFIG_KEY_store_policy_params, i,
			"policy %s has no parameters; leave it out", ops->name);
	const char *meant = config_nearest(name, strlen(name), names, ops->n_params, EDITS_MAX);
	return config_fault_set(ret, CONFIG_KEY_store_policy_params, i,
		"policy %s has no such parameter; %s %s%s", ops->name,
		meant ? "did you mean" : "use one of", meant ? meant : list, meant ? "?" : "");
}

/* The parameter's index, or how many there are. */
static uint32_t param_find(const struct pol_ops *ops, const char *name)
{
	uint32_t k = 0;

	while (k < ops->n_params && strcmp(ops->params[k].name, name) != 0)
		k++;
	return k;
}

int config_params_check(const struct config *c, uint32_t i, struct config_fault *ret)
{
	const struct config_store *s = &c->store[i];
	const struct pol_ops *ops = policy_of(s);

	if (!ops && config_modules_have(c, config_store_policy(s)))
		return 0; /* config_modules_try() and the engine know more */
	if (!ops)
		return policy_unknown(c, i, ret);
	struct pol_values v = pol_defaults(ops);
	for (uint32_t n = 0; n < s->policy_params.n; n++) {
		const struct config_param *p = &s->policy_params.of[n];
		uint32_t k = param_find(ops, p->name);
		char why[CONFIG_WHY_BYTES];
		int r = 0;
		if (k == ops->n_params)
			r = param_unknown(ops, p->name, i, ret);
		else if (param_parse(&ops->params[k], p->text, &v.v[k], why) < 0)
			r = config_fault_set(ret, CONFIG_KEY_store_policy_params, i, "%s", why);
		if (r && !MUTANT(290)) { /* 290: what a policy does not know is passed over */
			ret->param = (int)n;
			return 1;
		}
	}
	const char *why = ops->check ? ops->check(&v) : NULL;
	if (why)
		return config_fault_set(ret, CONFIG_KEY_store_policy_params, i, "%s", why);
	if (ops->told_ns && ops->told_ns(&v) / TELL_BEATS < c->heartbeat_ns)
		return config_fault_set(ret, CONFIG_KEY_store_policy_params, i,
			"its times are too short for policy %s: the engine hears of reads with "
			"each "
			"heartbeat, and %d of them have to fit; use more, or a shorter heartbeat",
			ops->name, TELL_BEATS);
	return 0;
}

struct pol_values config_params_values(const struct config_store *s)
{
	const struct pol_ops *ops = policy_of(s);
	char ignored[CONFIG_WHY_BYTES];

	CHECK(ops != NULL); /* config_check() has seen it */
	struct pol_values v = pol_defaults(ops);
	for (uint32_t n = 0; n < s->policy_params.n; n++) {
		uint32_t k = param_find(ops, s->policy_params.of[n].name);
		if (k < ops->n_params && !MUTANT(291)) /* 291: parameters are only looked at */
			(void)param_parse(
				&ops->params[k], s->policy_params.of[n].text, &v.v[k], ignored);
	}
	return v;
}

void config_params_fill(struct config_store *s)
{
	const struct pol_ops *ops = policy_of(s);
	struct config_params full = {.n = 0};

	if (!ops)
		return; /* of a module: as it stands */
	struct pol_values v = config_params_values(s);
	memset(s->policy, 0, sizeof s->policy);
	(void)snprintf(s->policy, sizeof s->policy, "%s", ops->name);
	for (uint32_t k = 0; k < ops->n_params; k++) {
		struct config_param *to = &full.of[full.n];
		struct param_key key;
		char text[NUMBER_BYTES];
		if (v.v[k] == ops->params[k].def)
			continue;
		param_key(&ops->params[k], &key);
		(void)snprintf(to->name, sizeof to->name, "%s", ops->params[k].name);
		(void)snprintf(to->text, sizeof to->text, "%.*s", CONFIG_PARAM_BYTES - 1,
			value_format(&key.key, v.v[k], text));
		full.n++;
	}
	s->policy_params = full;
}
