/* feed_follow.c - a program that knows all keys of a store, and goes on knowing them.
 *
 * Subscribes, then looks through the store once, and from then on takes what the feed says: so nothing that happens in
 * between is missed.  When it was too slow for the feed it looks through the store again.  Prints + and a key
 * that has come, - and one that has gone, and how many there are whenever nothing happened for a second.
 *
 *     example_feed_follow [STORE]
 */
#include <hypercache.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 65536, QUIET_MS = 1000 };

struct known {
	struct known *next;
	unsigned round; /* of the scan, or event, that told of it last */
	size_t bytes;
	char key[];
};

static struct known *table[BUCKETS];
static unsigned long n_known;
static unsigned round_now;

static struct known **place_of(const char *key, size_t n)
{
	unsigned h = 2166136261u;

	for (size_t i = 0; i < n; i++)
		h = (h ^ (unsigned char)key[i]) * 16777619u;
	struct known **k = &table[h % BUCKETS];
	while (*k && ((*k)->bytes != n || memcmp((*k)->key, key, n) != 0))
		k = &(*k)->next;
	return k;
}

static void say(char sign, const char *key, size_t n) { printf("%c %.*s\n", sign, (int)n, key); }

static void learn(const char *key, size_t n)
{
	struct known **k = place_of(key, n);

	if (!*k) {
		*k = calloc(1, sizeof **k + n);
		if (!*k)
			exit(1);
		(*k)->bytes = n;
		memcpy((*k)->key, key, n);
		n_known++;
		say('+', key, n);
	}
	(*k)->round = round_now;
}

static void forget(struct known **k)
{
	struct known *gone = *k;

	say('-', gone->key, gone->bytes);
	*k = gone->next;
	free(gone);
	n_known--;
}

static int meet(void *arg, const struct hc_scan_entry *e)
{
	(void)arg;
	learn(e->key, e->key_bytes);
	return 0;
}

/* Looks through the store: what is met is there, the rest is not. */
static int look_through(struct hc_store *s)
{
	struct hc_scan scan = HC_OPTS(hc_scan);
	int r;

	round_now++;
	do
		r = hc_scan(s, &scan, meet, NULL);
	while (r == HC_OK || r == HC_E_BUSY);
	if (r < 0)
		return r;
	for (int i = 0; i < BUCKETS; i++)
		for (struct known **k = &table[i]; *k;) {
			if ((*k)->round != round_now)
				forget(k);
			else
				k = &(*k)->next;
		}
	return HC_OK;
}

static void take(const struct hc_event *ev)
{
	struct known **k = ev->key_bytes ? place_of(ev->key, ev->kept_bytes) : NULL;

	switch (ev->what) {
	case HC_EVENT_SET:
	case HC_EVENT_INCR:
		learn(ev->key, ev->kept_bytes);
		break;
	case HC_EVENT_ABSENT:
	case HC_EVENT_DELETE:
	case HC_EVENT_EXPIRE:
	case HC_EVENT_EVICT:
		if (*k)
			forget(k);
		break;
	case HC_EVENT_CLEAR:
	case HC_EVENT_DROP:
		for (int i = 0; i < BUCKETS; i++)
			while (table[i])
				forget(&table[i]);
		break;
	default: /* a touch; or what this program does not know yet */
		break;
	}
}

static int follow(struct hc_store *s, struct hc_feed *f)
{
	struct hc_event ev = HC_OPTS(hc_event);
	int r = look_through(s);

	while (r >= 0) {
		r = hc_feed_next(f, QUIET_MS, &ev);
		if (r == HC_OK)
			take(&ev);
		else if (r == HC_LAPPED)
			r = look_through(s);
		else if (r == HC_MISS)
			printf("%lu keys\n", n_known);
		if (fflush(stdout) != 0)
			return HC_OK;
	}
	return r;
}

int main(int argc, char **argv)
{
	struct hc_feed_opts o = HC_OPTS(hc_feed_opts);
	struct hc_feed *f = NULL;
	struct hc *hc;
	int r = hc_open(&hc, NULL);

	if (r == HC_OK)
		r = hc_store(hc, argc > 1 ? argv[1] : "default", &o.store);
	if (r == HC_OK)
		r = hc_subscribe(hc, &o, &f); /* before the scan: what changes behind it is told */
	if (r == HC_OK)
		r = follow(o.store, f);
	if (r < 0)
		fprintf(stderr, "feed_follow: %s\n", hc_strerror(r));
	hc_feed_close(f);
	hc_close(hc);
	return r < 0;
}
