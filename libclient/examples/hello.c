#include <hypercache.h>
#include <stdio.h>

int main(void)
{
	struct hc *hc;
	struct hc_store *s;
	char buf[64];
	size_t n;

	int r = hc_open(&hc, NULL);
	if (r == HC_OK)
		r = hc_store(hc, "default", &s);
	if (r == HC_OK)
		r = hc_set(s, "greeting", 8, "hello, world", 12, NULL);
	if (r == HC_OK)
		r = hc_get(s, "greeting", 8, buf, sizeof buf, &n);
	if (r == HC_OK)
		printf("%.*s\n", (int)n, buf);
	else
		fprintf(stderr, "hello: %s\n", hc_strerror(r));
	hc_close(hc);
	return r != HC_OK;
}
