/* metrics.h - asking the daemon's HTTP side; included by the tests of it. */
#ifndef HC_TESTS_METRICS_H
#define HC_TESTS_METRICS_H
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "traffic.h"

enum { HTTP_LIMIT_MS = 20000 };

/* A daemon with metrics on a port of its own. */
struct served {
	struct t_daemon *d;
	char path[T_PATH_BYTES]; /* "": it is the port */
	uint16_t port;
};

static uint16_t port_in(const char *line)
{
	const char *at = strstr(line, "127.0.0.1:");

	CHECK(at != NULL);
	return (uint16_t)strtoul(at + strlen("127.0.0.1:"), NULL, 10);
}

/* What the log says next of where it listens. */
static void served_wait(struct served *s)
{
	char *line = t_proc_line(s->d->proc, "metrics on http://", HTTP_LIMIT_MS);

	s->port = port_in(line);
	free(line);
}

__attribute__((unused)) static struct served served_start(const char *more)
{
	char text[2048];
	struct served s = {.path = ""};

	if (access(t_bin("hypercache-metrics"), X_OK) != 0)
		SKIP("built without libmicrohttpd");
	(void)snprintf(text, sizeof text, "metrics_listen: \"127.0.0.1:0\"\n%s", more ? more : "");
	s.d = t_daemon_launch(text, NULL);
	served_wait(&s); /* the line comes before it is ready */
	t_daemon_wait_ready(s.d);
	return s;
}

static int http_connect(const struct served *s)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
		.sin_port = htons(s->port),
		.sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
	struct sockaddr_un u = {.sun_family = AF_UNIX};
	int fd;

	if (s->path[0]) {
		(void)snprintf(u.sun_path, sizeof u.sun_path, "%.107s", s->path);
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		CHECK(connect(fd, (struct sockaddr *)&u, sizeof u) == 0);
	} else {
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		CHECK(connect(fd, (struct sockaddr *)&a, sizeof a) == 0);
	}
	return fd;
}

/* An answer; text is heap, and the body stands in it. */
struct http {
	int status; /* 0: the connection ended without one */
	char *text, *body;
	size_t body_bytes;
};

static void http_free(struct http *h) { free(h->text); }

/* Reads to the end of the connection. */
static struct http http_read(int fd)
{
	size_t n = 0, cap = 1 << 16;
	struct http h = {.text = malloc(cap)};

	CHECK(h.text != NULL);
	for (ssize_t got = 1; got > 0; n += got > 0 ? (size_t)got : 0) {
		if (n + 1 >= cap)
			h.text = realloc(h.text, cap *= 2);
		CHECK(h.text != NULL);
		CHECK(t_wait_fd(fd, POLLIN, HTTP_LIMIT_MS));
		got = recv(fd, h.text + n, cap - n - 1, 0);
	}
	close(fd);
	h.text[n] = 0;
	(void)sscanf(h.text, "HTTP/1.%*d %d", &h.status);
	h.body = strstr(h.text, "\r\n\r\n");
	h.body = h.body ? h.body + 4 : h.text + n;
	h.body_bytes = n - (size_t)(h.body - h.text);
	return h;
}

static struct http http_say(const struct served *s, const char *request)
{
	int fd = http_connect(s);

	(void)send(fd, request, strlen(request), MSG_NOSIGNAL);
	return http_read(fd);
}

/* GET; accept: NULL, or what it likes. */
static struct http http_get(const struct served *s, const char *path, const char *accept)
{
	char request[512];

	(void)snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: x\r\n%s%s%s\r\n", path,
		accept ? "Accept: " : "", accept ? accept : "", accept ? "\r\n" : "");
	return http_say(s, request);
}

/* The value of a sample, given as it stands before its value; fails if it is not there. */
__attribute__((unused)) static double sample_of(const char *page, const char *sample)
{
	size_t n = strlen(sample);

	for (const char *at = page; (at = strstr(at, sample)); at += n)
		if ((at == page || at[-1] == '\n') && at[n] == ' ')
			return strtod(at + n, NULL);
	t_fail(__FILE__, __LINE__, "no %s in: %s", sample, page);
}

/* The same of a page that is asked for now. */
__attribute__((unused)) static double sample_now(const struct served *s, const char *sample)
{
	struct http h = http_get(s, "/metrics", NULL);

	CHECK_EQ(h.status, 200);
	double v = sample_of(h.body, sample);
	http_free(&h);
	return v;
}

/* Waits until a resource has this status, and this text in its body. */
__attribute__((unused)) static void wait_http(
	const struct served *s, const char *path, int status, const char *text)
{
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(HTTP_LIMIT_MS) * 1000000;

	for (bool seen = false; !seen;) {
		struct http h = http_get(s, path, NULL);
		seen = h.status == status && strstr(h.body, text);
		if (!seen && t_now_ns() >= end_ns)
			t_fail(__FILE__, __LINE__, "%s is not %d, \"%s\": %s", path, status, text,
				h.text);
		http_free(&h);
	}
}

#endif
