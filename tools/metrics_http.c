/* metrics_http.c - HTTP by libmicrohttpd: what can be asked for, and what a stranger may not do. */
#include <errno.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "../daemon/log.h"
#include "../daemon/sup_host.h"
#include "atomic.h"
#include "base/err.h"
#include "cli.h"
#include "health.h"
#include "metrics.h"
#include "metrics_page.h"
#include "stat.h"
#include "step.h"

/* A connection since it was accepted: libmicrohttpd's own limit begins anew with each byte. */
struct http_conn {
	bool used, over;
	int fd;
	uint64_t end_ns;
};

static struct {
	struct MHD_Daemon *daemon;
	int fd, channel;
	struct http_conn conn[METRICS_CONNECTIONS];
} http;

/* ------------------------------------------------------------------- answers */

static const char text_type[] = "text/plain; charset=utf-8";

/* Sends `n` bytes of the heap, which are the library's from now on. */
static enum MHD_Result answer(
	struct MHD_Connection *c, unsigned status, const char *type, char *bytes, size_t n)
{
	struct MHD_Response *r = MHD_create_response_from_buffer(n, bytes, MHD_RESPMEM_MUST_FREE);

	if (!r) {
		free(bytes);
		return MHD_NO;
	}
	(void)MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	(void)MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
	(void)MHD_add_response_header(r, MHD_HTTP_HEADER_CONNECTION, "close");
	(void)MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		(void)MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	enum MHD_Result queued = MHD_queue_response(c, status, r);
	MHD_destroy_response(r);
	return queued;
}

/* What is put together for an answer. */
struct text {
	FILE *to;
	char *bytes;
	size_t n;
};

static bool text_begin(struct text *t)
{
	*t = (struct text){0};
	t->to = open_memstream(&t->bytes, &t->n);
	return t->to != NULL;
}

static enum MHD_Result text_answer(
	struct MHD_Connection *c, struct text *t, unsigned status, const char *type)
{
	bool whole = !ferror(t->to);

	if (fclose(t->to) == 0 && whole)
		return answer(c, status, type, t->bytes, t->n);
	free(t->bytes);
	return MHD_NO; /* no memory: the connection is closed */
}

static enum MHD_Result say(struct MHD_Connection *c, unsigned status, const char *line)
{
	char *bytes = strdup(line);

	return bytes ? answer(c, status, text_type, bytes, strlen(bytes)) : MHD_NO;
}

/* ----------------------------------------------------------------- resources */

static enum MHD_Result on_metrics(
	struct MHD_Connection *c, struct text *t, const struct hypercache_admin *a, const char *why)
{
	const char *accept = MHD_lookup_connection_value(
		c, MHD_HEADER_KIND, MHD_HTTP_HEADER_ACCEPT);
	enum hypercache_page format = hypercache_page_wanted(accept);

	(void)why; /* that there is nothing is a value of its own, which can be alerted on */
	hypercache_page_write(t->to, format, a);
	return text_answer(c, t, MHD_HTTP_OK,
		format == HYPERCACHE_PAGE_OPENMETRICS
			? "application/openmetrics-text; version=1.0.0; charset=utf-8"
			: "text/plain; version=0.0.4; charset=utf-8");
}

/* Is somebody there who starts engines?  If not, only a new start of the daemon helps. */
static enum MHD_Result on_health(
	struct MHD_Connection *c, struct text *t, const struct hypercache_admin *a, const char *why)
{
	fprintf(t->to, "%s%s\n", a ? "ok" : "not ok: ", a ? "" : why);
	return text_answer(c, t, a ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, text_type);
}

/* Are requests taken now?  A store that is not well is named; it does not make the whole daemon unready. */
static enum MHD_Result on_ready(
	struct MHD_Connection *c, struct text *t, const struct hypercache_admin *a, const char *why)
{
	char engine_why[HYPERCACHE_HEALTH_WHY_BYTES], name[SHM_NAME_BYTES];
	bool ready = false;

	if (!a) {
		fprintf(t->to, "not ready: %s\n", why);
	} else if (hypercache_health_engine(a, engine_why) != HYPERCACHE_OK &&
		   !MUTANT(842)) { /* 842: whatever the engine does */
		fprintf(t->to, "not ready: %s\n", engine_why);
	} else {
		ready = true;
		fputs("ready\n", t->to);
	}
	for (uint32_t i = 0; ready && i < SHM_STORES_MAX; i++) {
		if (!stat_store_used(a, i))
			continue;
		enum hypercache_health h = hypercache_health_store(a, i, engine_why);
		if (h != HYPERCACHE_OK)
			fprintf(t->to, "store %s, %s: %s\n",
				cli_text(a->ctl->store[i].name, SHM_NAME_BYTES, name, sizeof name),
				hypercache_health_word(h), engine_why);
	}
	return text_answer(c, t, ready ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, text_type);
}

static enum MHD_Result on_stats(
	struct MHD_Connection *c, struct text *t, const struct hypercache_admin *a, const char *why)
{
	struct json j = {.to = t->to};

	if (a) {
		stat_json(a, t->to);
	} else {
		json_begin(&j, NULL, '{');
		json_string(&j, "error", why);
		json_end(&j, '}');
		json_finish(&j);
	}
	return text_answer(c, t, a ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE,
		"application/json; charset=utf-8");
}

static const struct {
	const char *path;
	enum MHD_Result (*run)(struct MHD_Connection *c, struct text *t,
		const struct hypercache_admin *a, const char *why);
} resources[] = {
	{"/metrics", on_metrics},
	{"/healthz", on_health},
	{"/readyz", on_ready},
	{"/stats.json", on_stats},
};

static enum MHD_Result on_request(void *arg, struct MHD_Connection *c, const char *url,
	const char *method, const char *version, const char *body, size_t *body_bytes, void **state)
{
	char why[HYPERCACHE_ADMIN_WHY_BYTES] = "";
	struct hypercache_admin a;
	struct text t;
	size_t i = 0;

	(void)arg;
	(void)version;
	(void)body;
	(void)body_bytes;
	(void)state;
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return say(c, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD\n");
	while (i < sizeof resources / sizeof *resources && strcmp(url, resources[i].path) != 0)
		i++;
	if (i == sizeof resources / sizeof *resources)
		return say(c, MHD_HTTP_NOT_FOUND,
			"there are /metrics, /healthz, /readyz and /stats.json\n");
	if (!text_begin(&t))
		return MHD_NO;
	bool there = metrics_look(http.channel, &a, why) == 0;
	enum MHD_Result r = resources[i].run(c, &t, there ? &a : NULL, why);
	if (there)
		hypercache_admin_close(&a);
	return r;
}

/* ---------------------------------------------------------------- connections */

static void on_connection(
	void *arg, struct MHD_Connection *c, void **state, enum MHD_ConnectionNotificationCode what)
{
	struct http_conn *one = *state;

	(void)arg;
	if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
		if (one)
			one->used = false;
		return;
	}
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(
		c, MHD_CONNECTION_INFO_CONNECTION_FD);
	for (int i = 0; info && i < METRICS_CONNECTIONS; i++) {
		if (http.conn[i].used)
			continue;
		http.conn[i] = (struct http_conn){.used = true,
			.fd = info->connect_fd,
			.end_ns = sup_host_mono_ns() + METRICS_REQUEST_MS * UINT64_C(1000000)};
		*state = &http.conn[i];
		return;
	}
}

/* Those whose time is over lose their socket; libmicrohttpd sees its end, and closes them. */
static void conns_end(uint64_t now_ns)
{
	for (int i = 0; i < METRICS_CONNECTIONS; i++) {
		struct http_conn *c = &http.conn[i];
		if (!c->used || c->over || now_ns < c->end_ns ||
			MUTANT(843)) /* 843: as long as they like */
			continue;
		c->over = true;
		(void)shutdown(c->fd, SHUT_RDWR);
	}
}

static void on_log(void *arg, const char *format, va_list args)
{
	char text[256];

	(void)arg;
	(void)vsnprintf(text, sizeof text, format, args);
	text[strcspn(text, "\n")] = 0;
	log_debug("HTTP: %s", text);
}

int metrics_http_open(int listen_fd, int channel)
{
	const union MHD_DaemonInfo *info;

	http.channel = channel;
	http.daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_request,
		NULL, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL, MHD_OPTION_LISTEN_SOCKET, listen_fd,
		MHD_OPTION_CONNECTION_LIMIT, (unsigned)METRICS_CONNECTIONS,
		MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)(METRICS_REQUEST_MS / 1000),
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)METRICS_HEADER_BYTES,
		MHD_OPTION_NOTIFY_CONNECTION, on_connection, NULL, MHD_OPTION_END);
	if (!http.daemon)
		return err_new(-EINVAL);
	info = MHD_get_daemon_info(http.daemon, MHD_DAEMON_INFO_EPOLL_FD);
	if (!info)
		return err_new(-ENOSYS);
	http.fd = info->epoll_fd;
	return 0;
}

int metrics_http_fd(void) { return http.fd; }

int metrics_http_due_ms(void)
{
	uint64_t now_ns = sup_host_mono_ns(), least_ms = UINT64_MAX;
	MHD_UNSIGNED_LONG_LONG theirs;

	if (MHD_get_timeout(http.daemon, &theirs) == MHD_YES)
		least_ms = theirs;
	for (int i = 0; i < METRICS_CONNECTIONS; i++) {
		const struct http_conn *c = &http.conn[i];
		if (!c->used || c->over)
			continue;
		uint64_t ms = c->end_ns > now_ns ? (c->end_ns - now_ns) / 1000000 + 1 : 0;
		least_ms = ms < least_ms ? ms : least_ms;
	}
	return least_ms == UINT64_MAX ? -1 : least_ms > 60000 ? 60000 : (int)least_ms;
}

static int conns_used(void)
{
	int n = 0;

	for (int i = 0; i < METRICS_CONNECTIONS; i++)
		n += http.conn[i].used;
	return n;
}

void metrics_http_run(void)
{
	int was;

	conns_end(sup_host_mono_ns());
	for (int i = 0; i < METRICS_CONNECTIONS;
		i++) { /* it looks for new ones before it lets old ones go */
		was = conns_used();
		(void)MHD_run(http.daemon);
		if (conns_used() >= was)
			break;
	}
}

void metrics_http_close(void)
{
	if (http.daemon)
		MHD_stop_daemon(http.daemon);
	http.daemon = NULL;
}
