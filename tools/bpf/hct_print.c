/* hct_print.c - histograms and keys for a terminal; see hct.h. */
#include <stdio.h>
#include <string.h>
#include "hct.h"

enum { BAR = 40 };

static uint64_t slot_begin(int i) { return i ? UINT64_C(1) << i : 0; }

static const char *value_text(const char *unit, uint64_t v, char to[CLI_TEXT_BYTES])
{
	if (strcmp(unit, "ns") == 0 && v >= 1000)
		return cli_time(v, to);
	(void)snprintf(to, CLI_TEXT_BYTES, "%llu %s", (unsigned long long)v, unit);
	return to;
}

uint64_t hct_hist_part(const struct hct_hist *h, double part)
{
	uint64_t n = 0, want = (uint64_t)(part * (double)h->n);

	for (int i = 0; i < HCT_SLOTS; i++) {
		n += h->slot[i];
		if (n > want)
			return slot_begin(i + 1) - 1;
	}
	return 0;
}

void hct_hist_print(const char *title, const char *unit, const struct hct_hist *h)
{
	int first = HCT_SLOTS, last = -1;
	char from[CLI_TEXT_BYTES], text[CLI_TEXT_BYTES];
	uint64_t most = 0;

	for (int i = 0; i < HCT_SLOTS; i++) {
		if (!h->slot[i])
			continue;
		first = first < i ? first : i;
		last = i;
		most = most > h->slot[i] ? most : h->slot[i];
	}
	printf("%s: %llu", title, (unsigned long long)h->n);
	if (h->n)
		printf(", mean %s", value_text(unit, h->sum / h->n, text));
	putchar('\n');
	for (int i = first; i <= last; i++) {
		int bar = (int)((h->slot[i] * BAR + most - 1) / most);
		printf("  %10s .. %-10s %10llu |%.*s\n", value_text(unit, slot_begin(i), from),
			value_text(unit, slot_begin(i + 1) - 1, text),
			(unsigned long long)h->slot[i], bar,
			"########################################");
	}
}

void hct_hist_json(struct json *j, const char *name, const struct hct_hist *h)
{
	json_begin(j, name, '{');
	json_u64(j, "n", h->n);
	json_u64(j, "sum", h->sum);
	json_begin(j, "slots", '[');
	for (int i = 0; i < HCT_SLOTS; i++) {
		if (!h->slot[i])
			continue;
		json_begin(j, NULL, '{');
		json_u64(j, "from", slot_begin(i));
		json_u64(j, "to", slot_begin(i + 1) - 1);
		json_u64(j, "n", h->slot[i]);
		json_end(j, '}');
	}
	json_end(j, ']');
	json_end(j, '}');
}

void hct_key_print(const void *key, size_t shown, size_t bytes, char *to, size_t to_bytes)
{
	const unsigned char *p = key;
	size_t at = 0;

	for (size_t i = 0; i < shown && i < bytes && at + 8 < to_bytes; i++) {
		if (p[i] > ' ' && p[i] <= '~' && p[i] != '\\')
			to[at++] = (char)p[i];
		else
			at += (size_t)snprintf(to + at, to_bytes - at, "\\x%02x", p[i]);
	}
	(void)snprintf(to + at, to_bytes - at, "%s", shown < bytes ? "..." : "");
}
