/* metrics.h - inside hypercache-metrics, the process that answers HTTP for the daemon.
 *
 *   supervisor --- channel --- hypercache-metrics --- listening socket --- Prometheus, curl, probes
 *
 *   metrics.c        start, loop, the end
 *   metrics_look.c   asks for descriptors, maps, lets go: one look for each request
 *   metrics_http.c   requests and their limits, with libmicrohttpd
 *   metrics_page.c   /metrics
 *   metrics_lock.c   what it gives up before it reads the first byte of a stranger
 *
 * Rules.
 *  1. It only reads: control segment and sessions, mapped read-only.  No pool is handed to it (sup_admin.c), so
 *     it never sees a key or a value, whatever a stranger makes it do.
 *  2. One thread.  What others can make it wait for is bounded: the supervisor's answer by METRICS_ASK_MS, an HTTP
 *     client by METRICS_REQUEST_MS, however many bytes come meanwhile.
 *  3. One request for each connection: so a connection's age is a request's, and a slow one is easily told.
 *  4. It lives as long as the channel: its end is the supervisor's, or that it is not wanted any more.
 */
#ifndef HC_TOOLS_METRICS_H
#define HC_TOOLS_METRICS_H

#include "hypercache_admin.h"

enum {
	METRICS_ASK_MS = 1000,     /* for the supervisor's answer */
	METRICS_REQUEST_MS = 3000, /* from the connection's begin to the last byte of its answer */
	METRICS_CONNECTIONS = 16,  /* one more is closed at once */
	METRICS_HEADER_BYTES = 16384, /* of a request; more answers 431 or 414 */
	METRICS_TEXT_BYTES = 160,
};

/* metrics_look.c: a picture of the daemon's memory, asked for through the channel; hypercache_admin_close() ends it.
 * As hypercache_admin_open(). */
int metrics_look(int channel, struct hypercache_admin *ret, char why[HYPERCACHE_ADMIN_WHY_BYTES]);

/* metrics_lock.c: gives up what serving does not take.  In words what was done, to `to`; returns it. */
const char *metrics_lock(char to[METRICS_TEXT_BYTES]);

/* metrics_http.c: answers at the listening socket, which it owns from now on.  0 or -errno.  One for a process. */
int metrics_http_open(int listen_fd, int channel);
int metrics_http_fd(void);     /* readable: something is to be done */
int metrics_http_due_ms(void); /* poll(2)'s timeout */
void metrics_http_run(void);
void metrics_http_close(void);

#endif
