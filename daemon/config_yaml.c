/* config_yaml.c - the strict reader: libyaml's events against the table.
 *
 *	stream -> one document -> root mapping -+- key: value          (table, ROOT)
 *	                                        +- pools:  NAME: { key: value }   (POOL)
 *	                                        +- stores: NAME: { key: value }   (STORE)
 *
 * The reader goes as deep as that drawing and no further: what is nested deeper is an error when it
 * begins, so hostile nesting ends at once.  Keys that are repeated or unknown are errors, so the
 *work is bounded by the table and by CONFIG_FILE_MAX_BYTES.  The first error wins.
 *
 * A value is its text: what YAML would make of `off`, 010 or 1_0 plays no part.  Quotes are
 *accepted but round a number or a bool, where they would mean a string.
 */
#include <stdarg.h>
#include <string.h>
#include <yaml.h>
#include "config_source.h"
#include "config_value.h"
#include "../shm/base/cleanup.h"
#include "../shm/base/err.h"
#include "../shm/step.h"

#define _cleanup_event_ _cleanup_(yaml_event_delete)

struct place {
	size_t line, col; /* from 1; line 0: not in the file */
};

enum {
	SECTION_POOLS,
	SECTION_STORES,
	N_SECTIONS,
};

struct reader {
	yaml_parser_t parser;
	const char *name;
	const unsigned char *bytes;
	size_t n;
	char *ret_err;
	size_t err_bytes;
	struct config c;
	struct place section[N_SECTIONS];
	struct place owner[CONFIG_OWNERS];
	struct place key[CONFIG_OWNERS][CONFIG_N_KEYS];
	struct place param[CONFIG_STORES_MAX][CONFIG_PARAMS_MAX]; /* of policy_params */
};

/* Where keys of one mapping go. */
struct target {
	enum config_scope scope;
	void *obj;       /* struct config, config_pool or config_store */
	uint32_t owner;  /* index of reader.owner */
	char prefix[64]; /* "pools.main." for messages */
};

static const char *const section_names[N_SECTIONS] = {"pools", "stores"};

/* -- errors -- */

__attribute__((format(printf, 3, 4))) static int fail(
	struct reader *r, struct place at, const char *fmt, ...)
{
	char text[CONFIG_WHY_BYTES + 384]; /* a list of all keys */
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	(void)snprintf(r->ret_err, r->err_bytes, "%s:%zu:%zu: %s", r->name, at.line, at.col, text);
	return err_new(-EINVAL);
}

static struct place place_of(const yaml_mark_t *m)
{
	return (struct place){.line = m->line + 1, .col = m->column + 1};
}

/* libyaml gives a byte offset for what is not even text. */
static struct place place_of_byte(const struct reader *r, size_t offset)
{
	struct place at = {1, 1};

	for (size_t i = 0; i < offset; i++) {
		at.col += (r->bytes[i] & 0xc0) != 0x80;
		if (r->bytes[i] == '\n') {
			at.line++;
			at.col = 1;
		}
	}
	return at;
}

static int fail_parser(struct reader *r)
{
	const yaml_parser_t *p = &r->parser;
	size_t offset = p->problem_offset < r->n ? p->problem_offset : r->n;
	char began[96] = "";

	switch (p->error) {
	case YAML_MEMORY_ERROR:
		(void)snprintf(r->ret_err, r->err_bytes, "%s: no memory to read it", r->name);
		return err_new(-ENOMEM);
	case YAML_READER_ERROR:
		return fail(r, place_of_byte(r, offset),
			"%s; use UTF-8 text without control characters", p->problem);
	default:
		break;
	}
	if (p->context && p->context_mark.line != p->problem_mark.line)
		(void)snprintf(began, sizeof began, " %s that begins in line %zu", p->context,
			p->context_mark.line + 1);
	return fail(r, place_of(&p->problem_mark),
		"this is not YAML: %s%s; use lines of \"key: value\", indented with spaces, "
		"and close every quote and bracket",
		p->problem ? p->problem : "it cannot be read", began);
}

/* -- events -- */

static int event_refuse(struct reader *r, const yaml_event_t *e)
{
	const yaml_char_t *anchor = NULL, *tag = NULL;

	switch (e->type) {
	case YAML_ALIAS_EVENT:
		return fail(r, place_of(&e->start_mark),
			"aliases are not accepted; write the value itself");
	case YAML_SCALAR_EVENT:
		anchor = e->data.scalar.anchor;
		tag = e->data.scalar.tag;
		break;
	case YAML_SEQUENCE_START_EVENT:
		anchor = e->data.sequence_start.anchor;
		tag = e->data.sequence_start.tag;
		break;
	case YAML_MAPPING_START_EVENT:
		anchor = e->data.mapping_start.anchor;
		tag = e->data.mapping_start.tag;
		break;
	default:
		break;
	}
	if (anchor)
		return fail(r, place_of(&e->start_mark),
			"anchors are not accepted; leave the & word out");
	if (tag)
		return fail(
			r, place_of(&e->start_mark), "tags are not accepted; leave the ! word out");
	return 0;
}

/* The next event, to be deleted by the caller; after an error there is none. */
static int event_next(struct reader *r, yaml_event_t *ret)
{
	memset(ret, 0, sizeof *ret);
	if (!yaml_parser_parse(&r->parser, ret))
		return err_fwd(fail_parser(r));
	return err_fwd(event_refuse(r, ret));
}

static const char *event_text(const yaml_event_t *e) { return (const char *)e->data.scalar.value; }

static bool event_says(const yaml_event_t *e, const char *word)
{
	return e->data.scalar.length == strlen(word) && strcmp(event_text(e), word) == 0;
}

/* Is it a plain scalar that YAML takes for no value? */
static bool event_is_null(const yaml_event_t *e)
{
	const char *t = event_text(e);

	return e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
	       (*t == '\0' || strcmp(t, "~") == 0 || strcmp(t, "null") == 0);
}

/* -- values -- */

static int fail_value(struct reader *r, const struct target *t, const struct config_key *k,
	const yaml_event_t *e, const char *problem)
{
	char allowed[192];

	return fail(r, place_of(&e->start_mark), "%s%s: %s; use %s", t->prefix, k->name, problem,
		config_value_allowed(k, allowed, sizeof allowed));
}

static int scalar_read(struct reader *r, const struct target *t, const struct config_key *k,
	const yaml_event_t *e, void *field)
{
	char why[CONFIG_WHY_BYTES];
	bool number = k->type == CONFIG_T_u32 || k->type == CONFIG_T_flag ||
	              k->type == CONFIG_T_fraction;

	if (event_is_null(e))
		return err_fwd(fail_value(r, t, k, e, "there is no value"));
	if (number && e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
		return err_fwd(fail_value(r, t, k, e, "a text in quotes is no number or bool"));
	if (config_value_parse(k, event_text(e), e->data.scalar.length, field, why) < 0)
		return fail(r, place_of(&e->start_mark), "%s%s: %s", t->prefix, k->name, why);
	return 0;
}

/* [1000, 1001], after its start. */
static int list_read(struct reader *r, const struct target *t, const struct config_key *k)
{
	union {
		struct config_uids uids;
		struct config_rights rights;
	} all = {0}, one = {0};

	for (;;) {
		_cleanup_event_ yaml_event_t e;
		int ret = event_next(r, &e);
		if (ret < 0)
			return err_fwd(ret);
		if (e.type == YAML_SEQUENCE_END_EVENT)
			break;
		if (e.type != YAML_SCALAR_EVENT)
			return err_fwd(fail_value(
				r, t, k, &e, "a list or mapping stands where one name should be"));
		ret = scalar_read(r, t, k, &e, &one);
		if (ret < 0)
			return err_fwd(ret);
		const char *problem = config_value_join(k, &all, &one);
		if (problem)
			return err_fwd(fail_value(r, t, k, &e, problem));
	}
	memcpy((char *)t->obj + k->offset, &all, k->bytes);
	return 0;
}

/* 0: ret_e is a key; 1: the mapping has ended. */
static int key_next(struct reader *r, yaml_event_t *ret_e)
{
	int ret = event_next(r, ret_e);

	if (ret < 0)
		return err_fwd(ret);
	if (ret_e->type == YAML_MAPPING_END_EVENT)
		return 1;
	if (ret_e->type != YAML_SCALAR_EVENT)
		return fail(r, place_of(&ret_e->start_mark),
			"a list or mapping cannot be a key; use \"key: value\"");
	return 0;
}

static int param_refuse(struct reader *r, const struct target *t, const struct config_key *k,
	const yaml_event_t *name, const char *problem)
{
	char all[CONFIG_QUOTE_BYTES + 64], q[CONFIG_QUOTE_BYTES];

	(void)snprintf(all, sizeof all, "%s: %s",
		config_quote(event_text(name), name->data.scalar.length, q), problem);
	return err_fwd(fail_value(r, t, k, name, all));
}

/* {small: 20%}, after its start: texts, which wait for the whole file (config_params.c). */
static int params_read(struct reader *r, const struct target *t, const struct config_key *k)
{
	struct config_params all = {.n = 0};
	struct place *noted = r->param[t->owner - 1 - CONFIG_POOLS_MAX];

	for (;;) {
		_cleanup_event_ yaml_event_t name, value = {0};
		int ret = key_next(r, &name);
		if (ret < 0)
			return err_fwd(ret);
		if (ret)
			break;
		ret = event_next(r, &value);
		if (ret < 0)
			return err_fwd(ret);
		if (value.type != YAML_SCALAR_EVENT || event_is_null(&value))
			return err_fwd(
				param_refuse(r, t, k, &name, "one value should stand behind it"));
		if (all.n < CONFIG_PARAMS_MAX)
			noted[all.n] = place_of(&name.start_mark);
		const char *problem = config_params_add(&all, event_text(&name),
			name.data.scalar.length, event_text(&value), value.data.scalar.length);
		if (problem)
			return err_fwd(param_refuse(r, t, k, &name, problem));
	}
	memcpy((char *)t->obj + k->offset, &all, sizeof all);
	return 0;
}

static int value_read(struct reader *r, const struct target *t, const struct config_key *k)
{
	_cleanup_event_ yaml_event_t e;
	int ret = event_next(r, &e);

	if (ret < 0)
		return err_fwd(ret);
	if (e.type == YAML_SCALAR_EVENT)
		return err_fwd(scalar_read(r, t, k, &e, (char *)t->obj + k->offset));
	if (e.type == YAML_SEQUENCE_START_EVENT &&
		(k->type == CONFIG_T_uids || k->type == CONFIG_T_rights))
		return err_fwd(list_read(r, t, k));
	if (e.type == YAML_MAPPING_START_EVENT && k->type == CONFIG_T_params)
		return err_fwd(params_read(r, t, k));
	return err_fwd(fail_value(r, t, k, &e,
		e.type == YAML_SEQUENCE_START_EVENT
			? "a list stands where one value should be"
			: "a mapping stands where one value should be"));
}

/* -- keys -- */

static int fail_unknown(struct reader *r, const struct target *t, const yaml_event_t *e)
{
	const char *names[CONFIG_N_KEYS + N_SECTIONS], *text = event_text(e);
	size_t n = e->data.scalar.length, n_names = 0, at = 0;
	char list[800], q[CONFIG_QUOTE_BYTES];
	struct place where = place_of(&e->start_mark);

	(void)config_quote(text, n, q);
	for (int i = 0; i < CONFIG_N_KEYS; i++)
		if (config_keys[i].scope == t->scope)
			names[n_names++] = config_keys[i].name;
	for (int i = 0; i < N_SECTIONS && t->scope == CONFIG_ROOT; i++)
		names[n_names++] = section_names[i];
	const char *meant = config_nearest(text, n, names, n_names, 1);
	for (int i = 0; i < CONFIG_N_KEYS && !meant; i++) {
		enum config_scope home = config_keys[i].scope;
		if (home == t->scope || strcmp(config_keys[i].name, text) != 0)
			continue;
		return fail(r, where, "key %s does not belong here; write it %s", q,
			home == CONFIG_ROOT   ? "at the top, without indent"
			: home == CONFIG_POOL ? "under a pool, pools: NAME:"
					      : "under a store, stores: NAME:");
	}
	if (!meant)
		meant = config_nearest(text, n, names, n_names, 3);
	if (meant)
		return fail(r, where, "unknown key %s; did you mean %s?", q, meant);
	for (size_t i = 0; i < n_names && at < sizeof list; i++)
		at += (size_t)snprintf(
			list + at, sizeof list - at, "%s%s", i ? ", " : "", names[i]);
	return fail(r, where, "unknown key %s; use one of %s", q, list);
}

/* Notes where a known word stands; an error if it stood somewhere before. */
static int place_note(
	struct reader *r, struct place *noted, const yaml_event_t *e, const char *prefix)
{
	size_t first = noted->line;

	if (first && !MUTANT(403)) /* 403: the last of two wins */
		return fail(r, place_of(&e->start_mark),
			"%s%s is given twice; remove one of them (the first is in line %zu)",
			prefix, event_text(e), first);
	*noted = place_of(&e->start_mark);
	return 0;
}

static int key_read(struct reader *r, const struct target *t, const yaml_event_t *e)
{
	for (int i = 0; i < CONFIG_N_KEYS; i++) {
		const struct config_key *k = &config_keys[i];
		if (k->scope != t->scope || !event_says(e, k->name))
			continue;
		int ret = place_note(r, &r->key[t->owner][i], e, t->prefix);
		if (ret < 0)
			return err_fwd(ret);
		return err_fwd(value_read(r, t, k));
	}
	return err_fwd(fail_unknown(r, t, e));
}

/* The keys of one pool or store, after the start of their mapping. */
static int keys_read(struct reader *r, const struct target *t)
{
	for (;;) {
		_cleanup_event_ yaml_event_t e;
		int ret = key_next(r, &e);
		if (ret)
			return ret < 0 ? err_fwd(ret) : 0;
		ret = key_read(r, t, &e);
		if (ret < 0)
			return err_fwd(ret);
	}
}

/* -- pools and stores -- */

/* Begins the next pool or store; the defaults are replaced by the first. */
static int entry_add(struct reader *r, int section, const yaml_event_t *e, struct target *ret)
{
	const bool pools = section == SECTION_POOLS;
	const uint32_t most = pools ? CONFIG_POOLS_MAX : CONFIG_STORES_MAX;
	uint32_t *n = pools ? &r->c.n_pools : &r->c.n_stores;
	const char *name = event_text(e);
	char q[CONFIG_QUOTE_BYTES];

	if (!config_name_ok(name, e->data.scalar.length))
		return fail(r, place_of(&e->start_mark),
			"%s: %s cannot be a name; use 1 to %d of A-Z a-z 0-9 _ . -, but not auto",
			section_names[section], config_quote(name, e->data.scalar.length, q),
			CONFIG_NAME_BYTES - 1);
	uint32_t first = pools ? 1 : 1 + CONFIG_POOLS_MAX, i = 0;
	while (i < *n && strcmp(pools ? r->c.pool[i].name : r->c.store[i].name, name) != 0)
		i++;
	if (i == most)
		return fail(r, place_of(&e->start_mark), "%s: there are too many; use at most %u",
			section_names[section], (unsigned)most);
	ret->scope = pools ? CONFIG_POOL : CONFIG_STORE;
	ret->owner = first + i;
	ret->obj = pools ? (void *)&r->c.pool[i] : (void *)&r->c.store[i];
	(void)snprintf(ret->prefix, sizeof ret->prefix, "%s.%s.", section_names[section], name);
	char above[16];
	(void)snprintf(above, sizeof above, "%s.", section_names[section]);
	int err = place_note(r, &r->owner[ret->owner], e, above);
	if (err < 0)
		return err_fwd(err);
	if (pools)
		config_pool_init(ret->obj, name);
	else
		config_store_init(ret->obj, name);
	*n = i + 1 > *n ? i + 1 : *n;
	return 0;
}

static int entry_read(struct reader *r, int section, const yaml_event_t *name)
{
	_cleanup_event_ yaml_event_t e = {0};
	struct target t;
	int ret = entry_add(r, section, name, &t);

	if (ret == 0)
		ret = event_next(r, &e);
	if (ret < 0)
		return err_fwd(ret);
	if (e.type == YAML_MAPPING_START_EVENT)
		return err_fwd(keys_read(r, &t));
	if (e.type == YAML_SCALAR_EVENT && event_is_null(&e))
		return 0; /* "main:" with nothing behind it: all defaults */
	t.prefix[strlen(t.prefix) - 1] = '\0';
	return fail(r, place_of(&e.start_mark),
		"%s: one value stands where keys should be; use lines of \"key: value\" under it, "
		"or nothing",
		t.prefix);
}

static int section_read(struct reader *r, int section)
{
	_cleanup_event_ yaml_event_t start;
	uint32_t *n = section == SECTION_POOLS ? &r->c.n_pools : &r->c.n_stores;
	int ret = event_next(r, &start);

	if (ret < 0)
		return err_fwd(ret);
	*n = 0;
	while (start.type == YAML_MAPPING_START_EVENT) {
		_cleanup_event_ yaml_event_t e;
		ret = key_next(r, &e);
		if (ret < 0)
			return err_fwd(ret);
		if (ret)
			break;
		ret = entry_read(r, section, &e);
		if (ret < 0)
			return err_fwd(ret);
	}
	if (*n == 0)
		return fail(r, place_of(&start.start_mark),
			"%s: there are no names in it; use \"%s: { NAME: { key: value } }\", or "
			"leave it out",
			section_names[section], section_names[section]);
	return 0;
}

/* -- the document -- */

static int root_read(struct reader *r)
{
	const struct target root = {.scope = CONFIG_ROOT, .obj = &r->c};

	for (;;) {
		_cleanup_event_ yaml_event_t e;
		int ret = key_next(r, &e), section = 0;
		if (ret)
			return ret < 0 ? err_fwd(ret) : 0;
		while (section < N_SECTIONS && !event_says(&e, section_names[section]))
			section++;
		if (section == N_SECTIONS) {
			ret = key_read(r, &root, &e);
		} else {
			ret = place_note(r, &r->section[section], &e, "");
			if (ret == 0)
				ret = section_read(r, section);
		}
		if (ret < 0)
			return err_fwd(ret);
	}
}

/* The event must be `type`; nothing else can follow where this is called. */
static int event_expect(struct reader *r, yaml_event_type_t type)
{
	_cleanup_event_ yaml_event_t e;
	int ret = event_next(r, &e);

	if (ret < 0)
		return err_fwd(ret);
	if (e.type != type)
		return fail(r, place_of(&e.start_mark),
			"a second document begins; use one document, without --- between keys");
	return 0;
}

static int document_read(struct reader *r)
{
	_cleanup_event_ yaml_event_t begin, e = {0};
	int ret = event_next(r, &begin);

	if (ret < 0 || begin.type == YAML_STREAM_END_EVENT)
		return err_fwd(ret);
	if (begin.data.document_start.version_directive ||
		begin.data.document_start.tag_directives.start !=
			begin.data.document_start.tag_directives.end)
		return fail(r, place_of(&begin.start_mark),
			"directives are not accepted; leave the %% line out");
	ret = event_next(r, &e);
	if (ret < 0)
		return err_fwd(ret);
	if (e.type == YAML_MAPPING_START_EVENT)
		ret = root_read(r);
	else if (e.type != YAML_SCALAR_EVENT || !event_is_null(&e))
		ret = fail(r, place_of(&e.start_mark),
			"the file is no mapping of keys to values; use lines of \"key: value\", "
			"with a space "
			"after the colon");
	if (ret == 0)
		ret = event_expect(r, YAML_DOCUMENT_END_EVENT);
	return err_fwd(ret < 0 ? ret : event_expect(r, YAML_STREAM_END_EVENT));
}

/* A contradiction is shown where the key stands, else where its pool or store begins. */
static int contradictions_refuse(struct reader *r)
{
	struct config_fault f;

	if (config_check(&r->c, &f) == 0)
		return 0;
	uint32_t owner = f.key->scope == CONFIG_ROOT   ? 0
	                 : f.key->scope == CONFIG_POOL ? 1 + f.idx
	                                               : 1 + CONFIG_POOLS_MAX + f.idx;
	struct place at = r->key[owner][f.key - config_keys];
	char prefix[64] = "";
	if (f.key->scope != CONFIG_ROOT)
		(void)snprintf(prefix, sizeof prefix, "%s.%s.",
			section_names[f.key->scope == CONFIG_POOL ? SECTION_POOLS : SECTION_STORES],
			f.key->scope == CONFIG_POOL ? r->c.pool[f.idx].name
						    : r->c.store[f.idx].name);
	if (f.param >= 0 && r->param[f.idx][f.param].line)
		return fail(r, r->param[f.idx][f.param], "%s%s.%s: %s", prefix, f.key->name,
			r->c.store[f.idx].policy_params.of[f.param].name, f.why);
	return fail(r, at.line ? at : r->owner[owner], "%s%s: %s", prefix, f.key->name, f.why);
}

static void places_give(const struct reader *r, struct config_places *ret)
{
	for (int o = 0; o < CONFIG_OWNERS; o++)
		for (int k = 0; k < CONFIG_N_KEYS; k++)
			ret->key[o][k] = (struct config_place){
				.from = r->key[o][k].line ? CONFIG_FROM_FILE : CONFIG_FROM_DEFAULT,
				.line = (uint32_t)r->key[o][k].line};
}

int config_parse(struct config *c, const char *name, const void *bytes, size_t n, char *ret_err,
	size_t err_bytes)
{
	return err_fwd(config_parse_places(c, NULL, name, bytes, n, ret_err, err_bytes));
}

int config_parse_places(struct config *c, struct config_places *ret_places, const char *name,
	const void *bytes, size_t n, char *ret_err, size_t err_bytes)
{
	_cleanup_free_ struct reader *r = NULL;

	if (n > CONFIG_FILE_MAX_BYTES) {
		(void)snprintf(
			ret_err, err_bytes, "%s: longer than 1MiB; use a shorter file", name);
		return err_new(-E2BIG);
	}
	r = calloc(1, sizeof *r);
	if (!r || !yaml_parser_initialize(&r->parser)) {
		(void)snprintf(ret_err, err_bytes, "%s: no memory to read it", name);
		return err_new(-ENOMEM);
	}
	r->name = name;
	r->bytes = bytes;
	r->n = n;
	r->ret_err = ret_err;
	r->err_bytes = err_bytes;
	config_defaults(&r->c);
	yaml_parser_set_encoding(&r->parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&r->parser, bytes, n);
	int ret = event_expect(r, YAML_STREAM_START_EVENT);
	if (ret == 0)
		ret = document_read(r);
	if (ret == 0)
		ret = contradictions_refuse(r);
	if (ret == 0 || MUTANT(404)) /* 404: half of a bad file is taken over */
		memcpy(c, &r->c, sizeof *c);
	if (ret == 0 && ret_places)
		places_give(r, ret_places);
	yaml_parser_delete(&r->parser);
	return err_fwd(ret);
}
