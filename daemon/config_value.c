/* config_value.c - the text of one value, by its type: read, checked against its range, printed.
 *
 * A number has no fraction, no sign, no leading zero and no exponent: YAML 1.1 would read 010 as
 * eight and 1_0 as ten, and a person who writes them means something else.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "config_value.h"
#include "../shm/base/check.h"
#include "../shm/base/err.h"
#include "../shm/step.h"

struct unit {
	const char *word;
	uint64_t n;
};

/* Largest first: a number is printed with the first unit that divides it. */
static const struct unit byte_units[] = {{"TiB", UINT64_C(1) << 40}, {"GiB", UINT64_C(1) << 30},
	{"MiB", UINT64_C(1) << 20}, {"KiB", UINT64_C(1) << 10}, {"B", 1}, {NULL, 0}};
static const struct unit time_units[] = {{"d", UINT64_C(86400000000000)},
	{"h", UINT64_C(3600000000000)}, {"m", UINT64_C(60000000000)}, {"s", UINT64_C(1000000000)},
	{"ms", UINT64_C(1000000)}, {"us", UINT64_C(1000)}, {"ns", 1}, {NULL, 0}};

enum { PPM = 1000000, PPM_DIGITS = 6 };

static bool auto_allowed(const struct config_key *k)
{
	return k->type != CONFIG_T_enum && strcmp(k->def, "auto") == 0;
}

int config_value_refuse(
	const struct config_key *k, char why[CONFIG_WHY_BYTES], const char *fmt, ...)
{
	char problem[CONFIG_QUOTE_BYTES + 128], allowed[192];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(problem, sizeof problem, fmt, ap);
	va_end(ap);
	(void)snprintf(why, CONFIG_WHY_BYTES, "%s; use %s", problem,
		config_value_allowed(k, allowed, sizeof allowed));
	return err_new(-EINVAL);
}

static bool printable(char c) { return c >= ' ' && c <= '~'; }

const char *config_quote(const char *text, size_t n, char to[CONFIG_QUOTE_BYTES])
{
	enum { KEEP = CONFIG_QUOTE_BYTES - 10 }; /* room for \xHH, ..., the quote and the NUL */
	size_t at = 0;

	to[at++] = '"';
	for (size_t i = 0; i < n; i++) {
		if (at > KEEP) {
			memcpy(to + at, "...", 3);
			at += 3;
			break;
		}
		if (printable(text[i]))
			to[at++] = text[i];
		else
			at += (size_t)snprintf(to + at, 5, "\\x%02x", (unsigned char)text[i]);
	}
	to[at++] = '"';
	to[at] = '\0';
	return to;
}

/* -- numbers -- */

int config_digits_parse(const char **text, uint64_t *ret)
{
	const char *p = *text;
	uint64_t v = 0;
	bool huge = false;

	if (*p < '0' || *p > '9' || (p[0] == '0' && p[1] >= '0' && p[1] <= '9'))
		return DIGITS_NONE;
	for (; *p >= '0' && *p <= '9'; p++)
		huge |= __builtin_mul_overflow(v, 10, &v) ||
		        __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v);
	*text = p;
	*ret = v;
	return huge ? DIGITS_HUGE : 0;
}

static int out_of_range(const struct config_key *k, const char *text, char *why)
{
	char q[CONFIG_QUOTE_BYTES];

	return config_value_refuse(
		k, why, "%s is out of range", config_quote(text, strlen(text), q));
}

/* A unit that does not exist: "KB" is answered with the one that was meant. */
static int unit_refuse(const struct config_key *k, const char *word, char *why)
{
	char q[CONFIG_QUOTE_BYTES];
	const char *which = k->type == CONFIG_T_bytes ? strchr("kKmMgGtT", word[0]) : NULL;

	(void)config_quote(word, strlen(word), q);
	if (!which)
		return config_value_refuse(k, why, "%s is no unit of %s", q,
			k->type == CONFIG_T_bytes ? "size (B KiB MiB GiB TiB)"
						  : "time (ns us ms s m h d)");
	static const char *const meant[] = {
		"KiB (1024)", "MiB (1024 KiB)", "GiB (1024 MiB)", "TiB (1024 GiB)"};
	(void)snprintf(why, CONFIG_WHY_BYTES, "%s is no unit of size; use %s", q,
		meant[(which - "kKmMgGtT") / 2]);
	return err_new(-EINVAL);
}

static int scaled_parse(const struct config_key *k, const char *text, uint64_t *ret, char *why)
{
	const struct unit *u = k->type == CONFIG_T_bytes ? byte_units : time_units;
	const char *p = text;
	char q[CONFIG_QUOTE_BYTES];
	uint64_t v = 0;
	int r = config_digits_parse(&p, &v);

	if (r == DIGITS_NONE || *p == '.' || *p == '_')
		return config_value_refuse(k, why, "%s is not a whole number with a unit",
			config_quote(text, strlen(text), q));
	while (*p == ' ')
		p++;
	if (*p == '\0') {
		if (k->type == CONFIG_T_duration && (v != 0 || r))
			return config_value_refuse(k, why, "%s lacks a unit (ns us ms s m h d)",
				config_quote(text, strlen(text), q));
	} else {
		while (u->word && strcmp(u->word, p) != 0)
			u++;
		if (!u->word)
			return unit_refuse(k, p, why);
		if (__builtin_mul_overflow(v, u->n, &v))
			r = DIGITS_HUGE;
	}
	if (r == DIGITS_HUGE)
		return out_of_range(k, text, why);
	*ret = v;
	return 0;
}

static int u32_parse(const struct config_key *k, const char *text, uint64_t *ret, char *why)
{
	const char *p = text;
	char q[CONFIG_QUOTE_BYTES];
	int r = config_digits_parse(&p, ret);

	if (r == DIGITS_NONE || *p != '\0')
		return config_value_refuse(
			k, why, "%s is not a whole number", config_quote(text, strlen(text), q));
	if (r == DIGITS_HUGE || *ret > UINT32_MAX)
		return out_of_range(k, text, why);
	return 0;
}

/* "0.85" and "85%" are 850000 millionths; finer digits are refused, not rounded. */
static int fraction_parse(const struct config_key *k, const char *text, uint64_t *ret, char *why)
{
	const char *p = text;
	char q[CONFIG_QUOTE_BYTES];
	uint64_t v = 0, part = PPM;
	int r = config_digits_parse(&p, &v);

	if (r == DIGITS_HUGE || v > PPM)
		return out_of_range(k, text, why);
	v *= PPM;
	if (r == 0 && *p == '.') {
		p++;
		if (*p < '0' || *p > '9')
			r = DIGITS_NONE;
		for (; *p >= '0' && *p <= '9' && part > 1; p++) {
			part /= 10;
			v += (uint64_t)(*p - '0') * part;
		}
	}
	if (r == 0 && *p == '%') {
		if (v % 100)
			r = DIGITS_NONE;
		v /= 100;
		p++;
	}
	if (r || *p != '\0')
		return config_value_refuse(k, why, "%s is not a fraction of up to %d decimals",
			config_quote(text, strlen(text), q), PPM_DIGITS);
	*ret = v;
	return 0;
}

static int number_parse(const struct config_key *k, const char *text, uint64_t *ret, char *why)
{
	switch (k->type) {
	case CONFIG_T_u32:
		return err_fwd(u32_parse(k, text, ret, why));
	case CONFIG_T_fraction:
		return err_fwd(fraction_parse(k, text, ret, why));
	default:
		return err_fwd(scaled_parse(k, text, ret, why));
	}
}

static int number_parse_ranged(const struct config_key *k, const char *text, void *field, char *why)
{
	char ignored[CONFIG_WHY_BYTES];
	uint64_t v = 0, min = 0, max = 0;

	if (auto_allowed(k) && strcmp(text, "auto") == 0) {
		memset(field, 0xff, k->bytes); /* CONFIG_AUTO, CONFIG_AUTO32 */
		return 0;
	}
	int r = number_parse(k, text, &v, why);
	if (r < 0)
		return err_fwd(r);
	CHECK(number_parse(k, k->min, &min, ignored) == 0);
	CHECK(number_parse(k, k->max, &max, ignored) == 0);
	if (v < min || (v > max && !MUTANT(401))) /* 401: no upper limit */
		return out_of_range(k, text, why);
	if (k->bytes == sizeof(uint64_t)) {
		memcpy(field, &v, sizeof v);
	} else {
		uint32_t v32 = (uint32_t)v;
		memcpy(field, &v32, sizeof v32);
	}
	return 0;
}

/* -- words and text -- */

static int bool_parse(const struct config_key *k, const char *text, void *field, char *why)
{
	char q[CONFIG_QUOTE_BYTES];
	bool v = strcmp(text, "true") == 0;

	if (!v && strcmp(text, "false") != 0)
		return config_value_refuse(k, why, "%s is neither true nor false",
			config_quote(text, strlen(text), q));
	memcpy(field, &v, sizeof v);
	return 0;
}

static int enum_parse(const struct config_key *k, const char *text, void *field, char *why)
{
	char q[CONFIG_QUOTE_BYTES];
	size_t n = strlen(text);
	uint32_t v = 0;

	for (const char *word = k->min, *bar; (bar = strchr(word, '|')); word = bar + 1, v++) {
		if ((size_t)(bar - word) != n || memcmp(word, text, n) != 0)
			continue;
		memcpy(field, &v, sizeof v);
		return 0;
	}
	return config_value_refuse(k, why, "%s is not a choice", config_quote(text, n, q));
}

/* One code point of well-formed UTF-8 (RFC 3629) that can stand in a message and in a double-quoted
 * YAML scalar as it is: no control, line break or byte order mark.  Returns its length, 0 if it is
 * not one. */
static size_t glyph_bytes(const unsigned char *s)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc0 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	uint32_t c = n == 1 ? s[0] : s[0] & (0x7fu >> n);

	if (n == 0 || s[0] > 0xf4)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	bool bad = c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) || c < 0x20 ||
	           (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 || c == 0xfeff ||
	           c == 0xfffe || c == 0xffff;
	return bad ? 0 : n;
}

bool config_name_ok(const char *text, size_t n)
{
	if (n == 0 || n >= CONFIG_NAME_BYTES || strcmp(text, "auto") == 0)
		return false;
	return strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") ==
	       n;
}

static int text_parse(
	const struct config_key *k, const char *text, size_t n, void *field, char *why)
{
	char q[CONFIG_QUOTE_BYTES];
	bool is_auto = auto_allowed(k) && strcmp(text, "auto") == 0;
	size_t min = strtoul(k->min, NULL, 10), max = strtoul(k->max, NULL, 10);

	CHECK(max < k->bytes);
	(void)config_quote(text, n, q);
	if (!is_auto && k->type == CONFIG_T_name && !config_name_ok(text, n))
		return config_value_refuse(k, why, "%s cannot be a name", q);
	if (!is_auto && k->type == CONFIG_T_path && text[0] != '/')
		return config_value_refuse(k, why, "%s does not begin with a slash", q);
	if (n < min || n > max)
		return config_value_refuse(k, why, "%s has %zu bytes", q, n);
	for (size_t i = 0, step; i < n; i += step) {
		step = glyph_bytes((const unsigned char *)text + i);
		if (step == 0)
			return config_value_refuse(
				k, why, "%s contains a character that is not printable UTF-8", q);
	}
	memset(field, 0, k->bytes);
	memcpy(field, text, n);
	return 0;
}

/* "none", or user ids with commas between them. */
static int uids_parse(const struct config_key *k, const char *text, void *field, char *why)
{
	struct config_uids v = {.n = 0};
	uint64_t most = strtoul(k->max, NULL, 10);
	char q[CONFIG_QUOTE_BYTES];
	const char *p = text;

	(void)config_quote(text, strlen(text), q);
	while (strcmp(text, "none") != 0) {
		uint64_t uid = 0;
		p += strspn(p, " ");
		if (config_digits_parse(&p, &uid) || uid >= UINT32_MAX)
			return config_value_refuse(k, why, "%s is not a list of user ids", q);
		if (v.n == most)
			return config_value_refuse(k, why, "%s has too many user ids", q);
		v.uid[v.n++] = (uint32_t)uid;
		p += strspn(p, " ");
		if (*p == '\0')
			break;
		if (*p++ != ',')
			return config_value_refuse(k, why, "%s is not a list of user ids", q);
	}
	memcpy(field, &v, sizeof v);
	return 0;
}

const char *config_value_join(const struct config_key *k, void *all, const void *one)
{
	if (k->type == CONFIG_T_uids) {
		const struct config_uids *from = one;
		struct config_uids *to = all;
		if (from->n != 1)
			return "this is not one user id";
		if (to->n == strtoul(k->max, NULL, 10))
			return "there are too many user ids";
		to->uid[to->n++] = from->uid[0];
		return NULL;
	}
	const struct config_rights *from = one;
	struct config_rights *to = all;
	if (from->kind == CONFIG_RIGHTS_ANY || to->kind == CONFIG_RIGHTS_ANY) {
		if (to->n || to->kind == CONFIG_RIGHTS_ANY)
			return "any stands alone";
		*to = *from;
		return NULL;
	}
	if (from->kind != CONFIG_RIGHTS_LIST || from->n != 1)
		return "this is not one user or group";
	if (to->n == strtoul(k->max, NULL, 10))
		return "there are too many users and groups";
	to->who[to->n++] = from->who[0];
	return NULL;
}

int config_value_parse(const struct config_key *k, const char *text, size_t n, void *field,
	char why[CONFIG_WHY_BYTES])
{
	if (memchr(text, '\0', n))
		return config_value_refuse(k, why, "the value contains a NUL byte");
	switch (k->type) {
	case CONFIG_T_u32:
	case CONFIG_T_bytes:
	case CONFIG_T_duration:
	case CONFIG_T_fraction:
		return err_fwd(number_parse_ranged(k, text, field, why));
	case CONFIG_T_flag:
		return err_fwd(bool_parse(k, text, field, why));
	case CONFIG_T_enum:
		return err_fwd(enum_parse(k, text, field, why));
	case CONFIG_T_path:
	case CONFIG_T_string:
	case CONFIG_T_name:
		return err_fwd(text_parse(k, text, n, field, why));
	case CONFIG_T_uids:
		return err_fwd(uids_parse(k, text, field, why));
	case CONFIG_T_rights:
		return err_fwd(config_rights_parse(k, text, field, why));
	case CONFIG_T_policy:
		return err_fwd(config_policy_parse(k, text, field, why));
	case CONFIG_T_params:
		return err_fwd(config_params_parse(k, text, field, why));
	}
	CHECK(!"a type of the table");
}

/* -- printing -- */

static const char *scaled_format(uint64_t v, const struct unit *u, char to[CONFIG_NUMBER_BYTES])
{
	while (v % u->n)
		u++;
	(void)snprintf(to, CONFIG_NUMBER_BYTES, "%" PRIu64 "%s", v / u->n, v ? u->word : "");
	return to;
}

const char *config_bytes_format(uint64_t bytes, char to[CONFIG_NUMBER_BYTES])
{
	return scaled_format(bytes, byte_units, to);
}

static void enum_print(const struct config_key *k, uint32_t v, FILE *to)
{
	const char *word = k->min;

	while (v--) {
		word = strchr(word, '|');
		CHECK(word);
		word++;
	}
	fprintf(to, "%.*s", (int)strcspn(word, "|"), word);
}

/* text_parse() let nothing in that needs more than these two escapes. */
static void text_print(const char *text, FILE *to)
{
	if (strcmp(text, "auto") == 0) {
		fputs(text, to);
		return;
	}
	putc('"', to);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			putc('\\', to);
		putc(*text, to);
	}
	putc('"', to);
}

static void uids_print(const struct config_uids *v, FILE *to)
{
	if (v->n == 0)
		fputs("none", to);
	for (uint32_t i = 0; i < v->n; i++)
		fprintf(to, "%s%" PRIu32, i ? ", " : "[", v->uid[i]);
	if (v->n)
		putc(']', to);
}

static void fraction_print(uint32_t ppm, FILE *to)
{
	char part[PPM_DIGITS + 1];
	size_t n = PPM_DIGITS;

	(void)snprintf(part, sizeof part, "%06" PRIu32, ppm % PPM);
	while (n && part[n - 1] == '0')
		n--;
	fprintf(to, "%" PRIu32 "%s%.*s", ppm / PPM, n ? "." : "", (int)n, part);
}

void config_value_print(const struct config_key *k, const void *field, FILE *to)
{
	char number[CONFIG_NUMBER_BYTES], list[CONFIG_TEXT_BYTES * 2];
	uint64_t v = 0; /* little or big end: read with the width it has */
	uint32_t v32 = 0;

	if (k->bytes == sizeof v)
		memcpy(&v, field, sizeof v);
	else if (k->bytes == sizeof v32)
		memcpy(&v32, field, sizeof v32);
	switch (k->type) {
	case CONFIG_T_flag:
		fputs(*(const bool *)field ? "true" : "false", to);
		break;
	case CONFIG_T_u32:
		if (v32 == CONFIG_AUTO32 && auto_allowed(k))
			fputs("auto", to);
		else
			fprintf(to, "%" PRIu32, v32);
		break;
	case CONFIG_T_bytes:
		fputs(v == CONFIG_AUTO ? "auto" : config_bytes_format(v, number), to);
		break;
	case CONFIG_T_duration:
		fputs(v == CONFIG_AUTO ? "auto" : scaled_format(v, time_units, number), to);
		break;
	case CONFIG_T_fraction:
		fraction_print(v32, to);
		break;
	case CONFIG_T_enum:
		enum_print(k, v32, to);
		break;
	case CONFIG_T_path:
	case CONFIG_T_string:
	case CONFIG_T_name:
		text_print(field, to);
		break;
	case CONFIG_T_uids:
		uids_print(field, to);
		break;
	case CONFIG_T_rights:
		fputs(config_rights_format(field, list, sizeof list), to);
		break;
	case CONFIG_T_policy:
		fputs(field, to);
		break;
	case CONFIG_T_params:
		config_params_print(field, to);
		break;
	}
}

static void words_join(const char *words, char *to, size_t to_bytes)
{
	size_t at = (size_t)snprintf(to, to_bytes, "%s", strchr(words, '|')[1] ? "one of " : "");

	for (const char *bar; (bar = strchr(words, '|')) && at < to_bytes; words = bar + 1)
		at += (size_t)snprintf(to + at, to_bytes - at, "%.*s%s", (int)(bar - words), words,
			bar[1] ? ", " : "");
}

const char *config_value_allowed(const struct config_key *k, char *to, size_t to_bytes)
{
	const char *or_auto = auto_allowed(k) ? ", or auto" : "";

	switch (k->type) {
	case CONFIG_T_flag:
		(void)snprintf(to, to_bytes, "true or false");
		break;
	case CONFIG_T_u32:
		(void)snprintf(
			to, to_bytes, "a number of %s, %s..%s%s", k->unit, k->min, k->max, or_auto);
		break;
	case CONFIG_T_bytes:
		(void)snprintf(to, to_bytes, "a size, %s..%s%s", k->min, k->max, or_auto);
		break;
	case CONFIG_T_duration:
		(void)snprintf(to, to_bytes, "a duration, %s..%s%s", k->min, k->max, or_auto);
		break;
	case CONFIG_T_fraction:
		(void)snprintf(to, to_bytes, "a fraction, %s..%s", k->min, k->max);
		break;
	case CONFIG_T_enum:
		words_join(k->min, to, to_bytes);
		break;
	case CONFIG_T_path:
		(void)snprintf(
			to, to_bytes, "an absolute path of at most %s bytes%s", k->max, or_auto);
		break;
	case CONFIG_T_string:
		(void)snprintf(to, to_bytes, "a text of %s to %s bytes", k->min, k->max);
		break;
	case CONFIG_T_name:
		(void)snprintf(to, to_bytes, "a name of 1 to %d of A-Z a-z 0-9 _ . -%s",
			CONFIG_NAME_BYTES - 1, or_auto);
		break;
	case CONFIG_T_uids:
		(void)snprintf(to, to_bytes,
			"a list of at most %s user ids like [0, 1000], or none", k->max);
		break;
	case CONFIG_T_rights:
		(void)snprintf(to, to_bytes,
			"a list of at most %s like [user:NAME, uid:N, group:NAME, gid:N], or any, "
			"or owner%s",
			k->max, or_auto);
		break;
	case CONFIG_T_policy:
		(void)snprintf(
			to, to_bytes, "a policy as `hypercache policies` lists them, or default");
		break;
	case CONFIG_T_params:
		(void)snprintf(to, to_bytes,
			"a mapping of the policy's parameters like {small: 20%%}, or none");
		break;
	}
	return to;
}
