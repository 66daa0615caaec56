#include <hypercache.h>
#include <stdio.h>

int main(void)
{
	struct hc *hc;
	struct hc_store *store;
	struct hc_view v;
	int r = hc_open(&hc, NULL);

	if (r == HC_OK)
		r = hc_store(hc, "default", &store);
	if (r == HC_OK)
		r = hc_set(store, "greeting", 8, "hello", 5, NULL);
	if (r == HC_OK && (r = hc_view(store, "greeting", 8, &v)) == HC_OK) {
		printf("%.*s, read in place\n", (int)v.value_bytes, (const char *)v.value);
		hc_view_release(&v);
	}
	if (r != HC_OK)
		fprintf(stderr, "%s\n", hc_strerror(r));
	hc_close(hc);
	return r != HC_OK;
}
