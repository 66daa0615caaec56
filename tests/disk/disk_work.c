/* disk_work.c - changes whose order is known, and a look at what is left of them.
 *
 *   disk_work write SOCKET N SEED POSITION    changes 1 to N, one after the other; for each to standard output
 *                                               try SEQUENCE POSITION STORE OP KEY
 *                                               ack SEQUENCE POSITION        HC_OK came
 *                                               bad SEQUENCE POSITION ERROR  it did not
 *   disk_work check SOCKET                    for each entry there is:  STORE KEY SEQUENCE
 *
 * POSITION is a file that says how far the disk is (block_log.c); "-" for none.  A value is its change's
 * number, repeated to a length that depends on it: so a value that is not whole shows.  Stores: sync and async.
 * Exit status: 0; 1 something else than an error of the disk; 2 usage.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "hypercache.h"

enum { KEYS = 40, VALUE_MAX = 9000, PERCENT = 100, DELETES = 12, CLEARS = 1 };

static const char *const names[] = {"sync", "async"};
static struct hc *hc;
static struct hc_store *stores[2];

static int fail(const char *what, int r)
{
	fprintf(stderr, "disk_work: %s: %s (%s)\n", what, hc_strerror(r), hc_error_name(r));
	return 1;
}

static int begin(const char *socket)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);

	o.socket = socket;
	int r = hc_open(&hc, &o);
	for (int i = 0; i < 2 && r == HC_OK; i++)
		r = hc_store(hc, names[i], &stores[i]);
	return r == HC_OK ? 0 : fail("cannot open", r);
}

static uint64_t position(const char *path)
{
	char text[32] = "";
	int fd = strcmp(path, "-") == 0 ? -1 : open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0;
	if (read(fd, text, sizeof text - 1) < 0)
		text[0] = 0;
	(void)close(fd);
	return strtoull(text, NULL, 10);
}

static size_t value_make(uint32_t sequence, char *v)
{
	size_t n = 4 + (size_t)(sequence * 2654435761u) % VALUE_MAX / 4 * 4;

	if (sequence % 3)
		n = 4 + n % 64 / 4 * 4;
	for (size_t at = 0; at < n; at += 4)
		memcpy(v + at, &sequence, 4);
	return n;
}

static int write_all(uint32_t n, unsigned seed, const char *disk)
{
	char key[16], v[VALUE_MAX + 8];

	for (uint32_t i = 1; i <= n; i++) {
		int store = rand_r(&seed) % 2, dice = rand_r(&seed) % PERCENT, r;
		int k = snprintf(key, sizeof key, "%d", rand_r(&seed) % KEYS);
		const char *op = dice < CLEARS             ? "clear"
		                 : dice < CLEARS + DELETES ? "delete"
		                                           : "set";
		printf("try %u %llu %s %s %s\n", i, (unsigned long long)position(disk),
			names[store], op, key);
		(void)fflush(stdout);
		if (*op == 'c')
			r = hc_clear(stores[store], NULL);
		else if (*op == 'd')
			r = hc_delete(stores[store], key, (size_t)k);
		else
			r = hc_set(stores[store], key, (size_t)k, v, value_make(i, v), NULL);
		uint64_t at = position(disk);
		if (r == HC_OK || r == HC_MISS)
			printf("ack %u %llu\n", i, (unsigned long long)at);
		else
			printf("bad %u %llu %s\n", i, (unsigned long long)at, hc_error_name(r));
		(void)fflush(stdout);
	}
	return 0;
}

static int check_one(int store, const char *key)
{
	char v[VALUE_MAX + 8], want[VALUE_MAX + 8];
	uint32_t sequence;
	size_t n = 0;
	int r = hc_get(stores[store], key, strlen(key), v, sizeof v, &n);

	if (r == HC_MISS)
		return 0;
	if (r != HC_OK)
		return fail("cannot read", r);
	memcpy(&sequence, v, sizeof sequence);
	if (n < 4 || n != value_make(sequence, want) || memcmp(v, want, n) != 0) {
		printf("%s %s broken\n", names[store], key);
		return 0;
	}
	printf("%s %s %u\n", names[store], key, sequence);
	return 0;
}

static int check_all(void)
{
	char key[16];

	for (int store = 0; store < 2; store++)
		for (int i = 0; i < KEYS; i++) {
			(void)snprintf(key, sizeof key, "%d", i);
			if (check_one(store, key))
				return 1;
		}
	return 0;
}

int main(int argc, char **argv)
{
	int r = 2;

	if (argc == 6 && strcmp(argv[1], "write") == 0) {
		r = begin(argv[2]);
		if (r == 0)
			r = write_all((uint32_t)strtoul(argv[3], NULL, 10),
				(unsigned)strtoul(argv[4], NULL, 10), argv[5]);
	} else if (argc == 3 && strcmp(argv[1], "check") == 0) {
		r = begin(argv[2]);
		if (r == 0)
			r = check_all();
	} else {
		fprintf(stderr, "usage: disk_work write SOCKET N SEED POSITION | check SOCKET\n");
	}
	if (hc)
		hc_close(hc);
	return r;
}
