/* cli_print.c - numbers for people and JSON for programs. */
#include <inttypes.h>
#include <string.h>
#include "cli.h"
#include "step.h"

const char *cli_size(uint64_t bytes, char to[CLI_TEXT_BYTES])
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double v = (double)bytes;
	int u = 0;

	for (; v >= 1024 && u < 6; u++)
		v /= 1024;
	(void)snprintf(to, CLI_TEXT_BYTES, u ? "%.1f %s" : "%.0f %s", v, units[u]);
	return to;
}

const char *cli_time(uint64_t ns, char to[CLI_TEXT_BYTES])
{
	uint64_t s = ns / 1000000000;

	if (ns < 1000000)
		(void)snprintf(to, CLI_TEXT_BYTES, "%.1f us", (double)ns / 1e3);
	else if (s < 1)
		(void)snprintf(to, CLI_TEXT_BYTES, "%.1f ms", (double)ns / 1e6);
	else if (s < 60)
		(void)snprintf(to, CLI_TEXT_BYTES, "%.1f s", (double)ns / 1e9);
	else if (s < 3600)
		(void)snprintf(to, CLI_TEXT_BYTES, "%" PRIu64 " min %" PRIu64 " s", s / 60, s % 60);
	else if (s < 86400)
		(void)snprintf(
			to, CLI_TEXT_BYTES, "%" PRIu64 " h %" PRIu64 " min", s / 3600, s / 60 % 60);
	else
		(void)snprintf(to, CLI_TEXT_BYTES, "%" PRIu64 " d %" PRIu64 " h", s / 86400,
			s / 3600 % 24);
	return to;
}

const char *cli_text(const char *from, size_t n, char *to, size_t to_bytes)
{
	size_t at = 0;

	for (; at < n && at + 1 < to_bytes && from[at]; at++)
		to[at] = from[at] >= ' ' && from[at] <= '~' ? from[at] : '?';
	to[at] = 0;
	return to;
}

/* ---------------------------------------------------------------------- UTF-8 */

/* Length of the well-formed character at p (Unicode 15, table 3-7), or 0. */
static size_t utf8_char(const uint8_t *p, size_t n)
{
	static const struct {
		uint8_t first, last, low, high, bytes; /* of the second byte: low..high */
	} forms[] = {
		{0x00, 0x7f, 0, 0, 1},
		{0xc2, 0xdf, 0x80, 0xbf, 2},
		{0xe0, 0xe0, 0xa0, 0xbf, 3},
		{0xe1, 0xec, 0x80, 0xbf, 3},
		{0xed, 0xed, 0x80, 0x9f, 3},
		{0xee, 0xef, 0x80, 0xbf, 3},
		{0xf0, 0xf0, 0x90, 0xbf, 4},
		{0xf1, 0xf3, 0x80, 0xbf, 4},
		{0xf4, 0xf4, 0x80, 0x8f, 4},
	};

	for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
		if (p[0] < forms[f].first || p[0] > forms[f].last || n < forms[f].bytes)
			continue;
		if (forms[f].bytes > 1 && (p[1] < forms[f].low || p[1] > forms[f].high))
			return 0;
		for (size_t i = 2; i < forms[f].bytes; i++)
			if ((p[i] & 0xc0) != 0x80)
				return 0;
		return forms[f].bytes;
	}
	return 0;
}

static bool is_utf8(const uint8_t *p, size_t n)
{
	for (size_t at = 0, step; at < n; at += step) {
		step = utf8_char(p + at, n - at);
		if (step == 0)
			return false;
	}
	return true;
}

/* ----------------------------------------------------------------------- JSON */

static void escaped(FILE *to, const uint8_t *p, size_t n)
{
	putc('"', to);
	for (size_t i = 0; i < n; i++) {
		if (p[i] == '"' || p[i] == '\\')
			fprintf(to, "\\%c", p[i]);
		else if (p[i] == '\n')
			fputs("\\n", to);
		else if (p[i] < ' ' || p[i] == 0x7f)
			fprintf(to, "\\u%04x", p[i]);
		else
			putc(p[i], to);
	}
	putc('"', to);
}

/* What comes before any value. */
static void value_begin(struct json *j, const char *name, const char *suffix)
{
	if (j->comma)
		putc(',', j->to);
	j->comma = true;
	if (name)
		fprintf(j->to, "\"%s%s\":", name, suffix);
}

void json_begin(struct json *j, const char *name, char bracket)
{
	value_begin(j, name, "");
	putc(bracket, j->to);
	j->comma = false;
}

void json_end(struct json *j, char bracket)
{
	putc(bracket, j->to);
	j->comma = true;
}

void json_u64(struct json *j, const char *name, uint64_t v)
{
	value_begin(j, name, "");
	fprintf(j->to, "%" PRIu64, v);
}

void json_i64(struct json *j, const char *name, int64_t v)
{
	value_begin(j, name, "");
	fprintf(j->to, "%" PRId64, v);
}

void json_bool(struct json *j, const char *name, bool v)
{
	value_begin(j, name, "");
	fputs(v ? "true" : "false", j->to);
}

void json_double(struct json *j, const char *name, double v)
{
	value_begin(j, name, "");
	fprintf(j->to, "%.6f", v);
}

void json_hex(struct json *j, const char *name, uint64_t v)
{
	value_begin(j, name, "");
	fprintf(j->to, "\"%016" PRIx64 "\"", v);
}

void json_string(struct json *j, const char *name, const char *text)
{
	json_bytes(j, name, text, strlen(text));
}

static const char digits64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void base64_put(FILE *to, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i += 3) {
		uint32_t v = (uint32_t)p[i] << 16;
		v |= i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0;
		v |= i + 2 < n ? p[i + 2] : 0;
		putc(digits64[v >> 18], to);
		putc(digits64[v >> 12 & 63], to);
		putc(i + 1 < n ? digits64[v >> 6 & 63] : '=', to);
		putc(i + 2 < n ? digits64[v & 63] : '=', to);
	}
}

void json_bytes(struct json *j, const char *name, const void *bytes, size_t n)
{
	if (is_utf8(bytes, n)) {
		value_begin(j, name, "");
		escaped(j->to, bytes, n);
		return;
	}
	value_begin(j, name, "_base64");
	putc('"', j->to);
	base64_put(j->to, bytes, n);
	putc('"', j->to);
}

void json_finish(struct json *j) { putc('\n', j->to); }

bool cli_base64_decode(char *text, size_t *n)
{
	size_t bytes = *n, at = 0;
	uint32_t v = 0, bits = 0;

	if (bytes % 4)
		return false;
	for (int pad = 0; pad < 2 && bytes && text[bytes - 1] == '='; pad++)
		bytes--;
	for (size_t i = 0; i < bytes; i++) {
		const char *digit = memchr(digits64, text[i], sizeof digits64 - 1);
		if (!digit)
			return false;
		v = v << 6 | (uint32_t)(digit - digits64);
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			text[at++] = (char)(v >> bits);
		}
	}
	*n = at;
	return (v & ((1u << bits) - 1)) == 0 || MUTANT(149); /* 149: bits behind the end */
}
