/* metrics_page.h - the page of metrics: Prometheus text (0.0.4) or OpenMetrics (1.0.0).
 *
 * One picture of a daemon's memory, as hypercache_admin_open() has it.  Samples of a family stand together,
 * each once; the buckets of a histogram, its count and its sum come from one reading of it, so they
 * agree.  What others have named is printable, and escaped.
 */
#ifndef HC_TOOLS_METRICS_PAGE_H
#define HC_TOOLS_METRICS_PAGE_H

#include <stdio.h>
#include "hypercache_admin.h"

enum hypercache_page { HYPERCACHE_PAGE_TEXT, HYPERCACHE_PAGE_OPENMETRICS };

/* a NULL: there is no memory to look at; the page says so.  Whether `to` took it all: ferror(to). */
void hypercache_page_write(FILE *to, enum hypercache_page format, const struct hypercache_admin *a);

/* What a client wants, by its header Accept (NULL: it has none): OpenMetrics if it says so, and does not
 * like text better (RFC 9110, 12.5.1). */
enum hypercache_page hypercache_page_wanted(const char *accept);

/* The name of a row on the page, as above: what follows hypercache_ is at most 95 characters. */
enum { HYPERCACHE_METRIC_BYTES = 128 };
void hypercache_metric_name(const char *scope, const char *name, const char *unit, char kind,
	char to[HYPERCACHE_METRIC_BYTES]);

/* Calls `each` for all families, whether the page has samples of them now or not. */
typedef void hypercache_metric_each(
	void *arg, const char *name, const char *type, const char *help);
void hypercache_metrics_each(hypercache_metric_each *each, void *arg);

#endif
