/* archive_scan.c - see archive_scan.h. */
#include "archive_scan.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "base/err.h"
#include "hypercache.h"
#include "step.h"

enum {
	PAGE_ENTRIES = 32, /* of a page, about: what is looked through for a key that came twice */
	SCAN_TRIES = 1000, /* of one page that changes at every try */
	BEAT_PAGES = 64,
};

/* A page that is being copied.  Offsets, because `bytes` moves as it grows. */
struct copied {
	struct archive_entry entry;
	size_t key_off, value_off;
};
struct page {
	uint8_t *bytes;
	size_t n_bytes, cap;
	struct copied *of;
	uint32_t n, n_cap;
	uint32_t store;
	bool whole_chain; /* it may be as large as it is */
	bool too_large, no_memory;
};

static bool room(struct page *p, size_t bytes)
{
	if (p->n == p->n_cap) {
		uint32_t cap = p->n_cap ? 2 * p->n_cap : 2 * PAGE_ENTRIES;
		struct copied *more = realloc(p->of, cap * sizeof *more);
		if (!more)
			return false;
		p->of = more;
		p->n_cap = cap;
	}
	if (p->n_bytes + bytes <= p->cap)
		return true;
	size_t cap = p->n_bytes + bytes < 2 * p->cap ? 2 * p->cap : p->n_bytes + bytes;
	uint8_t *more = realloc(p->bytes, cap);
	if (!more)
		return false;
	p->bytes = more;
	p->cap = cap;
	return true;
}

static void entry_of(const struct hc_scan_entry *e, struct archive_entry *to)
{
	*to = (struct archive_entry){.key_bytes = (uint32_t)e->key_bytes,
		.value_bytes = (uint32_t)e->value_bytes,
		.flags = e->flags,
		.hits = e->hits_seen,
		.ttl_ms = e->ttl_ms,
		.version = e->version,
		.created_ns = e->created_ns,
		.modified_ns = e->modified_ns,
		.used_ns = e->used_ns,
		.stamp = e->stamp,
		.expires_ns = e->expires_ns};
	if (e->absent)
		to->marks = ARCHIVE_ABSENT;
	if (e->fresh_until_ns) {
		to->marks |= ARCHIVE_FRESH;
		to->fresh_until_ns = e->fresh_until_ns;
		to->took_ms = e->took_ms;
	}
}

/* hc_scan_fn: copies.  1: the page is given up. */
static int page_take(void *arg, const struct hc_scan_entry *e)
{
	struct page *p = arg;
	size_t bytes = e->key_bytes + e->value_bytes;

	if (!p->whole_chain && p->n_bytes + bytes > ARCHIVE_PAGE_BYTES) {
		p->too_large = true;
		return 1;
	}
	if (!room(p, bytes)) {
		p->no_memory = true;
		return 1;
	}
	struct copied *c = &p->of[p->n++];
	entry_of(e, &c->entry);
	c->entry.store = p->store;
	c->key_off = p->n_bytes;
	c->value_off = p->n_bytes + e->key_bytes;
	memcpy(p->bytes + c->key_off, e->key, e->key_bytes);
	if (e->value_bytes)
		memcpy(p->bytes + c->value_off, e->value, e->value_bytes);
	p->n_bytes += bytes;
	return 0;
}

/* A key that came twice in the page (its chain was walked again, or grew meanwhile): the later version counts. */
static bool is_repeated(const struct page *p, uint32_t i)
{
	const struct copied *a = &p->of[i];

	for (uint32_t k = 0; k < p->n; k++) {
		const struct copied *b = &p->of[k];
		if (k == i || b->entry.key_bytes != a->entry.key_bytes ||
			memcmp(p->bytes + b->key_off, p->bytes + a->key_off, a->entry.key_bytes) !=
				0)
			continue;
		if (b->entry.version > a->entry.version ||
			(b->entry.version == a->entry.version && k < i))
			return true;
	}
	return false;
}

static int page_put(struct archive_writer *w, struct page *p, struct archive_scan *s)
{
	for (uint32_t i = 0; i < p->n; i++) {
		struct copied *c = &p->of[i];
		if (is_repeated(p, i))
			continue;
		c->entry.key = p->bytes + c->key_off;
		c->entry.value = p->bytes + c->value_off;
		int r = archive_put(w, &c->entry);
		if (r < 0)
			return err_fwd(r);
		s->n_entries++;
		s->bytes += c->entry.key_bytes + c->entry.value_bytes;
	}
	STEP("dump:page-put");
	return 0;
}

/* One page, copied.  HC_OK, HC_MISS (the last one), or an error of the library; -ENOMEM is HC_E_NO_MEMORY. */
static int page_scan(struct archive_scan *s, struct page *p, uint64_t *cursor)
{
	int r = HC_E_BUSY;

	p->whole_chain = false;
	for (int n = 0; n < SCAN_TRIES; n++) {
		struct hc_scan scan = HC_OPTS(hc_scan);
		scan.cursor = *cursor;
		scan.max_entries = p->whole_chain ? 1 : PAGE_ENTRIES;
		scan.absent = 1;
		p->n = 0;
		p->n_bytes = 0;
		p->too_large = p->no_memory = false;
		r = hc_scan(s->store, &scan, page_take, p);
		if (p->no_memory)
			return HC_E_NO_MEMORY;
		if (p->too_large) {
			p->whole_chain = true; /* once more, as little as there is */
			continue;
		}
		if (r == HC_E_BUSY || r == HC_E_REVOKED)
			continue;
		*cursor = scan.cursor;
		return r;
	}
	return r < 0 ? r : HC_E_BUSY;
}

static int scan_all(struct archive_writer *w, struct archive_scan *s, struct page *p)
{
	uint64_t cursor = 0;

	for (uint64_t pages = 0;; pages++) {
		int r = page_scan(s, p, &cursor);
		if (r < 0) {
			s->hc = r;
			return ARCHIVE_SCAN_LIBRARY;
		}
		int e = page_put(w, p, s);
		if (e < 0)
			return err_fwd(e);
		if (s->beat && (pages % BEAT_PAGES == 0 || r == HC_MISS) && s->beat(s->arg, s))
			return ARCHIVE_SCAN_STOPPED;
		if (r == HC_MISS)
			return 0;
		if (p->cap > ARCHIVE_PAGE_BYTES) { /* a large one is behind us */
			free(p->bytes);
			p->bytes = NULL;
			p->cap = 0;
		}
	}
}

int archive_scan(struct archive_writer *w, struct archive_scan *s)
{
	struct page p = {.store = s->idx};

	s->n_entries = s->bytes = 0;
	s->hc = HC_OK;
	int r = scan_all(w, s, &p);
	free(p.bytes);
	free(p.of);
	return r;
}
