/* lease.c - of many processes that want the same, one computes it: how many primes there are below N.
 *
 *     for i in 1 2 3 4; do example_lease 20000000 & done; wait
 *
 * One of them says "computed", the others "waited for it" after the same time; whoever comes later "found
 * it".  Kill the one that computes: another one goes on at once.
 */
#include <hypercache.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static unsigned long primes_below(unsigned long n)
{
	unsigned char *not_prime = calloc(n + 1, 1);
	unsigned long count = 0;

	if (!not_prime)
		exit(1);
	for (unsigned long i = 2; i < n; i++) {
		count += !not_prime[i];
		for (unsigned long k = i * i; !not_prime[i] && i < n / i && k < n; k += i)
			not_prime[k] = 1;
	}
	free(not_prime);
	return count;
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The number in *ret, from the cache or computed.  HC_OK and how, or an error. */
static int primes(struct hc_store *s, const char *text, unsigned long *ret, const char **ret_how)
{
	struct hc_lease_opts o = HC_OPTS(hc_lease_opts);
	struct hc_set_opts set = HC_OPTS(hc_set_opts);
	struct hc_lease lease;
	double from = seconds();

	o.lease_ms = 60000; /* longer than it takes */
	o.wait_ms = 60000;
	int r = hc_get_or_lease(s, text, strlen(text), ret, sizeof *ret, NULL, &o, &lease);
	if (r == HC_OK) {
		*ret_how = seconds() - from > 0.001 ? "waited for it" : "found it";
	} else if (r == HC_LEASE) {
		*ret = primes_below(strtoul(text, NULL, 10));
		*ret_how = "computed it";
		set.lease = lease.token;
		r = hc_set(s, text, strlen(text), ret, sizeof *ret, &set);
	}
	return r;
}

int main(int argc, char **argv)
{
	struct hc *hc;
	struct hc_store *s;
	unsigned long n = 0;
	const char *how = "";

	if (argc != 2 || argv[1][0] < '1' || argv[1][0] > '9' || strlen(argv[1]) > 9) {
		fprintf(stderr, "usage: %s N (1 to 999999999)\n", argv[0]);
		return 2;
	}
	double from = seconds();
	int r = hc_open(&hc, NULL);
	if (r == HC_OK)
		r = hc_store(hc, "default", &s);
	if (r == HC_OK)
		r = primes(s, argv[1], &n, &how);
	if (r == HC_OK)
		printf("%lu primes below %s: %s, %.3f s\n", n, argv[1], how, seconds() - from);
	else
		fprintf(stderr, "%s\n", hc_strerror(r));
	hc_close(hc);
	return r != HC_OK;
}
