/* submit_loop.c - a program with an epoll loop of its own that writes without waiting.
 *
 * Reads lines "KEY VALUE" (set) and "KEY" (delete) from standard input and submits each.  What failed is printed
 * with the number of its line, at the end how many were done.  Two descriptors are watched: the input,
 * as long as the library takes more, and the library's own.
 */
#include <errno.h>
#include <hypercache.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { IN_BYTES = 65536, DONE_MAX = 64 };

struct program {
	struct hc *hc;
	struct hc_store *store;
	int epoll_fd, hc_fd;
	bool watched; /* standard input is in the set */
	bool is_file; /* it cannot be: there is always something to read */
	bool ended;   /* no more input */
	bool full;    /* the library takes no more for now */
	char in[IN_BYTES];
	size_t n_in;
	unsigned long line, submitted, done, failed;
};

/* The line's operation.  HC_E_QUEUE: not now. */
static int submit_line(struct program *p, const char *line, size_t n)
{
	struct hc_op op = HC_OPTS(hc_op);
	const char *blank = memchr(line, ' ', n);

	op.store = p->store;
	op.op = blank ? HC_OP_SET : HC_OP_DELETE;
	op.key = line;
	op.key_bytes = blank ? (size_t)(blank - line) : n;
	op.value = blank ? blank + 1 : NULL;
	op.value_bytes = blank ? n - op.key_bytes - 1 : 0;
	op.user = p->line + 1;       /* comes back with the completion */
	return hc_submit(&op, NULL); /* the line was copied */
}

/* Submits the whole lines that have been read, as many as the library takes. */
static void submit_lines(struct program *p)
{
	size_t begin = 0;

	p->full = false;
	for (char *end; (end = memchr(p->in + begin, '\n', p->n_in - begin)) && !p->full;) {
		size_t n = (size_t)(end - p->in) - begin;
		int r = submit_line(p, p->in + begin, n);
		p->full = r == HC_E_QUEUE; /* the same line again, when some are done */
		if (p->full)
			break;
		p->line++;
		p->submitted += r == HC_OK;
		p->failed += r != HC_OK;
		if (r != HC_OK)
			printf("line %lu: %s\n", p->line, hc_strerror(r));
		begin += n + 1;
	}
	memmove(p->in, p->in + begin, p->n_in - begin);
	p->n_in -= begin;
}

static void read_input(struct program *p)
{
	ssize_t n = read(STDIN_FILENO, p->in + p->n_in, sizeof p->in - p->n_in);

	if (n > 0)
		p->n_in += (size_t)n;
	else if (n == 0 || errno != EINTR)
		p->ended = true;
	if (n < 0 && p->ended) {
		perror("standard input");
		p->failed++;
	}
	if (p->ended && p->n_in && p->in[p->n_in - 1] != '\n')
		p->in[p->n_in++] = '\n'; /* the last line may lack it */
	if (p->n_in == sizeof p->in && !memchr(p->in, '\n', p->n_in)) {
		printf("line %lu: too long\n", p->line + 1);
		p->failed++;
		p->ended = true;
	}
	submit_lines(p);
}

/* Takes what is done.  HC_OK or an error of hc_poll. */
static int take(struct program *p)
{
	struct hc_done done[DONE_MAX];
	size_t n;
	int r;

	do {
		r = hc_poll(p->hc, done, DONE_MAX, 0, &n);
		for (size_t i = 0; r == HC_OK && i < n; i++) {
			p->done++;
			if (done[i].result == HC_OK || done[i].result == HC_MISS)
				continue; /* a delete of what was not there is done too */
			p->failed++;
			printf("line %llu: %s\n", (unsigned long long)done[i].user,
				hc_strerror(done[i].result));
		}
	} while (r == HC_OK && n == DONE_MAX);
	if (p->full)
		submit_lines(p);
	return r;
}

/* Watches the input only while there is room for what it brings. */
static void watch_input(struct program *p)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = STDIN_FILENO};
	bool want = !p->ended && !p->full && !p->is_file;

	if (want == p->watched)
		return;
	if (epoll_ctl(p->epoll_fd, want ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, STDIN_FILENO, &ev) == 0)
		p->watched = want;
	else
		p->is_file = errno == EPERM;
}

static int loop(struct program *p)
{
	struct epoll_event ev[2] = {{.events = EPOLLIN, .data.fd = p->hc_fd}};
	int r = HC_OK;

	if (epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, p->hc_fd, &ev[0]) < 0)
		return HC_E_SYSTEM;
	while (r == HC_OK && !(p->ended && !p->full && p->done == p->submitted)) {
		watch_input(p);
		bool read_now = p->is_file && !p->ended && !p->full;
		int n = epoll_wait(p->epoll_fd, ev, 2, read_now ? 0 : -1);
		if (n < 0 && errno != EINTR)
			return HC_E_SYSTEM;
		for (int i = 0; i < n; i++)
			read_now |= ev[i].data.fd == STDIN_FILENO;
		if (read_now)
			read_input(p);
		r = take(p); /* sends too: what came together goes together */
	}
	return r;
}

int main(void)
{
	static struct program p;
	int r = hc_open(&p.hc, NULL);

	if (r == HC_OK)
		r = hc_store(p.hc, "default", &p.store);
	if (r == HC_OK)
		r = hc_fd(p.hc, &p.hc_fd);
	p.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (r == HC_OK)
		r = p.epoll_fd < 0 ? HC_E_SYSTEM : loop(&p);
	if (r == HC_OK)
		printf("%lu done, %lu failed\n", p.done, p.failed);
	else
		fprintf(stderr, "%s\n", hc_strerror(r));
	hc_close(p.hc);
	return r != HC_OK || p.failed > 0;
}
