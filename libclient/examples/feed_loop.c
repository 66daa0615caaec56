/* feed_loop.c - a program with an epoll loop of its own that follows the changes of the cache.
 *
 * Two descriptors are watched: standard input, of which each line "KEY" is set and "-KEY" is deleted, and the
 * subscription's.  Prints what has been changed by whomever, until the input ends.
 */
#include <hypercache.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

struct program {
	struct hc *hc;
	struct hc_store *store;
	struct hc_feed *feed;
	int epoll_fd, feed_fd;
	char in[4096];
	size_t n_in;
	bool ended; /* no more input */
};

static int failed(const char *what, int r)
{
	fprintf(stderr, "%s: %s\n", what, hc_strerror(r));
	return r;
}

static int watch(const struct program *p, int fd)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};

	return epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, fd, &ev);
}

/* One change after the other, without waiting, until there is none: only then is the descriptor not readable any
 * more. */
static int take(struct program *p)
{
	struct hc_event ev = HC_OPTS(hc_event);
	int r;

	while ((r = hc_feed_next(p->feed, 0, &ev)) == HC_OK || r == HC_LAPPED) {
		if (r == HC_LAPPED) /* we were too slow: what is there now, a scan says */
			printf("%llu changes missed\n", (unsigned long long)ev.missed);
		else if (ev.what <= HC_EVENT_TOUCH)
			printf("set %.*s\n", (int)ev.kept_bytes, (const char *)ev.key);
		else if (ev.what <= HC_EVENT_EVICT)
			printf("gone %.*s\n", (int)ev.kept_bytes, (const char *)ev.key);
	}
	fflush(stdout);
	return r == HC_MISS ? HC_OK : failed("the feed", r);
}

static int change(const struct program *p, const char *line, size_t n)
{
	bool gone = n > 0 && line[0] == '-';
	int r = gone ? hc_delete(p->store, line + 1, n - 1)
	             : hc_set(p->store, line, n, "", 0, NULL);

	return r >= 0 ? HC_OK : failed("a change", r);
}

static int read_lines(struct program *p)
{
	ssize_t n = read(STDIN_FILENO, p->in + p->n_in, sizeof p->in - p->n_in);
	size_t begin = 0;

	p->ended = n <= 0;
	p->n_in += n > 0 ? (size_t)n : 0;
	for (char *end; (end = memchr(p->in + begin, '\n', p->n_in - begin)) != NULL;) {
		int r = change(p, p->in + begin, (size_t)(end - p->in) - begin);
		if (r != HC_OK)
			return r;
		begin = (size_t)(end - p->in) + 1;
	}
	memmove(p->in, p->in + begin, p->n_in - begin);
	p->n_in -= begin;
	p->ended |= p->n_in == sizeof p->in; /* no key is so long */
	return HC_OK;
}

static int begin(struct program *p)
{
	struct hc_feed_opts o = HC_OPTS(hc_feed_opts);
	int r = hc_open(&p->hc, NULL);

	if (r == HC_OK)
		r = hc_store(p->hc, "default", &p->store);
	o.store = p->store;
	if (r == HC_OK)
		r = hc_subscribe(p->hc, &o, &p->feed);
	if (r == HC_OK)
		r = hc_feed_fd(p->feed, &p->feed_fd);
	if (r != HC_OK)
		return failed("the cache", r);
	p->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (p->epoll_fd < 0 || watch(p, STDIN_FILENO) < 0 || watch(p, p->feed_fd) < 0) {
		perror("epoll: standard input has to be a pipe or a terminal");
		return HC_E_SYSTEM;
	}
	return HC_OK;
}

int main(void)
{
	struct program p = {.epoll_fd = -1};
	int r = begin(&p);

	while (r == HC_OK && !p.ended) {
		struct epoll_event ev;
		if (epoll_wait(p.epoll_fd, &ev, 1, -1) != 1)
			continue;
		r = ev.data.fd == p.feed_fd ? take(&p) : read_lines(&p);
	}
	if (p.epoll_fd >= 0)
		(void)close(p.epoll_fd);
	hc_feed_close(p.feed);
	hc_close(p.hc);
	return r != HC_OK;
}
