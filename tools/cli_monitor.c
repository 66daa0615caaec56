/* cli_monitor.c - monitor: the change feed, as it comes.
 *
 * An event is printed as soon as it is there: what was printed is flushed before it waits.  Who closes the output, a pager or
 * `head`, ends it as an interrupt does.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "cli.h"
#include "hypercache.h"

enum { LOOK_MS = 500 }; /* how often it looks whether anybody still reads */

DEFINE_CLEANUP(struct hc *, hc_close)
DEFINE_CLEANUP(struct hc_feed *, hc_feed_close)

static struct hc *interrupted;                /* whom the signal ends */
static volatile sig_atomic_t was_interrupted; /* bare: C allows a handler no more */

static void on_signal(int sig)
{
	(void)sig;
	was_interrupted = 1;
	(void)hc_interrupt(interrupted, 1);
}

static const char *what_name(uint32_t what)
{
	static const char *const names[] = {[HC_EVENT_SET] = "set",
		[HC_EVENT_INCR] = "incr",
		[HC_EVENT_TOUCH] = "touch",
		[HC_EVENT_DELETE] = "delete",
		[HC_EVENT_EXPIRE] = "expire",
		[HC_EVENT_EVICT] = "evict",
		[HC_EVENT_CLEAR] = "clear",
		[HC_EVENT_DROP] = "drop",
		[HC_EVENT_ABSENT] = "absent"};

	return what < sizeof names / sizeof *names && names[what] ? names[what] : "?";
}

static const char *why_name(uint32_t why)
{
	static const char *const names[] = {[HC_WHY_NONE] = "",
		[HC_WHY_LIMIT] = "limit",
		[HC_WHY_PRESSURE] = "pressure",
		[HC_WHY_FULL] = "full",
		[HC_WHY_GIVEN] = "given",
		[HC_WHY_ASIDE] = "aside",
		[HC_WHY_SHRUNK] = "shrunk",
		[HC_WHY_INDEX] = "index",
		[HC_WHY_DAMAGED] = "damaged"};

	return why < sizeof names / sizeof *names ? names[why] : "?";
}

/* Bytes of others for a terminal: what is not printable ASCII as \xNN. */
static void key_print(const uint8_t *key, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (key[i] < ' ' || key[i] >= 0x7f)
			printf("\\x%02x", key[i]);
		else if (key[i] == '\\')
			fputs("\\\\", stdout);
		else
			putchar(key[i]);
	}
}

/* "12:04:07.123456", of this machine's time zone. */
static void time_print(uint64_t ns)
{
	time_t s = (time_t)(ns / 1000000000);
	char text[16] = "??:??:??";
	struct tm tm;

	if (localtime_r(&s, &tm))
		(void)strftime(text, sizeof text, "%H:%M:%S", &tm);
	printf("%s.%06llu", text, (unsigned long long)(ns / 1000 % 1000000));
}

static void event_people(const struct hc_event *ev)
{
	char name[CLI_TEXT_BYTES], size[CLI_TEXT_BYTES];

	time_print(ev->time_ns);
	printf("  %-7s %-12s", what_name(ev->what),
		cli_text(ev->store, strlen(ev->store), name, sizeof name));
	if (ev->key_bytes) {
		putchar(' ');
		key_print(ev->key, ev->kept_bytes);
		if (ev->kept_bytes < ev->key_bytes)
			printf("... (%zu bytes)", ev->key_bytes);
		printf("  %s", cli_size(ev->value_bytes, size));
	}
	if (ev->why)
		printf("  (%s)", why_name(ev->why));
	putchar('\n');
}

static void event_json(const struct hc_event *ev)
{
	struct json j = {.to = stdout};

	json_begin(&j, NULL, '{');
	json_string(&j, "event", what_name(ev->what));
	json_u64(&j, "sequence", ev->sequence);
	json_u64(&j, "lsn", ev->lsn);
	json_u64(&j, "version", ev->version);
	json_u64(&j, "time_ns", ev->time_ns);
	json_bytes(&j, "store", ev->store, strlen(ev->store));
	if (ev->key_bytes) {
		json_bytes(&j, "key", ev->key, ev->kept_bytes);
		json_u64(&j, "key_bytes", ev->key_bytes);
		json_u64(&j, "value_bytes", ev->value_bytes);
	}
	if (ev->why)
		json_string(&j, "why", why_name(ev->why));
	json_end(&j, '}');
	json_finish(&j);
}

static void lapped_print(const struct cli *c, const struct hc_event *ev)
{
	struct json j = {.to = stdout};

	if (!c->json) {
		printf("-- %llu events were missed: this is too slow for what is written; it goes "
		       "on at "
		       "%llu\n",
			(unsigned long long)ev->missed, (unsigned long long)ev->sequence);
		return;
	}
	json_begin(&j, NULL, '{');
	json_string(&j, "event", "missed");
	json_u64(&j, "missed", ev->missed);
	json_u64(&j, "sequence", ev->sequence);
	json_end(&j, '}');
	json_finish(&j);
}

/* Does anybody still read what we print? */
static bool output_is_open(void)
{
	struct pollfd p = {.fd = STDOUT_FILENO};

	return fflush(stdout) == 0 && !ferror(stdout) &&
	       (poll(&p, 1, 0) <= 0 || !(p.revents & (POLLERR | POLLHUP)));
}

/* 0; HC_E_CANCELLED: enough, or nobody reads any more; another error of the library. */
static int follow(const struct cli *c, struct hc_feed *f)
{
	struct hc_event ev = HC_OPTS(hc_event);
	uint64_t n = 0;

	while (!was_interrupted) {
		int r = hc_feed_next(f, 0, &ev);
		if (r == HC_MISS) {
			if (!output_is_open())
				return HC_E_CANCELLED;
			r = hc_feed_next(f, LOOK_MS, &ev);
		}
		if (r < 0)
			return r;
		if (r == HC_LAPPED)
			lapped_print(c, &ev);
		if (r == HC_OK && c->json)
			event_json(&ev);
		else if (r == HC_OK)
			event_people(&ev);
		if (ferror(stdout) || (r == HC_OK && ++n == c->limit))
			return HC_E_CANCELLED;
	}
	return HC_E_CANCELLED;
}

/* What the options say.  0, or an exit status. */
static int opts_take(const struct cli *c, struct hc *hc, struct hc_feed_opts *o, char **ret_prefix)
{
	const char *name = c->n_args ? c->arg[0] : c->store_given ? c->store : NULL;
	int r = name ? hc_store(hc, name, &o->store) : HC_OK;

	if (r < 0)
		return cli_hc_fail(c, name, r);
	o->from = c->from;
	if (!c->prefix)
		return 0;
	*ret_prefix = strdup(c->prefix);
	if (!*ret_prefix)
		return cli_fail(c, CLI_FAILED, "no memory");
	o->prefix_bytes = strlen(*ret_prefix);
	if (c->base64 && !cli_base64_decode(*ret_prefix, &o->prefix_bytes))
		return cli_fail(c, CLI_USAGE, "\"%s\" is not base64", c->prefix);
	if (o->prefix_bytes > HC_FEED_KEY_MAX)
		return cli_fail(c, CLI_USAGE, "--prefix takes at most %d bytes", HC_FEED_KEY_MAX);
	o->prefix = *ret_prefix;
	return 0;
}

static int failed(const struct cli *c, int r)
{
	if (r == HC_E_STALE && c->from && c->from != HC_FEED_OLDEST)
		return cli_fail(c, CLI_USAGE, "there is no event %llu yet: try --from oldest",
			(unsigned long long)c->from);
	return cli_hc_fail(c, "monitor", r);
}

int cli_monitor(const struct cli *c)
{
	const struct sigaction end = {.sa_handler = on_signal};
	struct hc_feed_opts o = HC_OPTS(hc_feed_opts);
	_cleanup_(hc_closep) struct hc *hc = NULL;
	_cleanup_(hc_feed_closep) struct hc_feed *f = NULL;
	_cleanup_free_ char *prefix = NULL;
	int status = cli_session_open(c, &hc);

	if (status || (status = opts_take(c, hc, &o, &prefix)))
		return status;
	int r = hc_subscribe(hc, &o, &f);
	if (r < 0)
		return failed(c, r);
	interrupted = hc;
	(void)signal(SIGPIPE, SIG_IGN);
	(void)sigaction(SIGINT, &end, NULL);
	(void)sigaction(SIGTERM, &end, NULL);
	r = follow(c, f);
	(void)signal(SIGINT, SIG_DFL);
	(void)signal(SIGTERM, SIG_DFL);
	if (r == HC_E_STALE) {
		(void)fflush(stdout);
		return cli_fail(c, CLI_NO_DAEMON, "the daemon has ended");
	}
	if (r != HC_E_CANCELLED)
		return cli_hc_fail(c, "monitor", r);
	(void)fflush(stdout); /* who closed it does not want to hear of it */
	return CLI_DONE;
}
