/* fuzz.h - what the targets of this folder share: one function that takes any bytes, and who calls it.
 *
 *   the_corpus               every file of corpus/TARGET, also with gcc and without sanitizers
 *   mutations_of_the_corpus  the same with bytes changed, cut, doubled and joined; seeded
 *   libFuzzer                where clang has it: tools/fuzz TARGET --seconds N --seed N
 *
 * A target is a file with fuzz_one(), which CHECKs what has to hold for any input, and says whether the
 * input was taken or refused.  A file of the corpus whose name begins with "good-" has to be taken, one
 * with "bad-" refused; of others nothing is asked but that they do no harm.  What a run of libFuzzer
 * finds becomes a file there.
 *
 * T_FUZZ_SECONDS: how long mutations_of_the_corpus goes on, in place of FUZZ_ROUNDS rounds.
 */
#ifndef HC_FUZZ_H
#define HC_FUZZ_H
#include <dirent.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "../kit/t.h"

enum fuzz_verdict { FUZZ_ANY, FUZZ_GOOD, FUZZ_BAD };

/* Each target's own.  `data` is of exactly this size, so that a sanitizer sees what is read behind it. */
static enum fuzz_verdict fuzz_one(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	(void)fuzz_one(data, bytes);
	return 0;
}

/* Takes n bytes, at most 8, from the front of an input; zeroes behind its end. */
struct fuzz_in {
	const uint8_t *p;
	size_t left;
};

static inline uint64_t fuzz_take(struct fuzz_in *in, size_t n)
{
	uint64_t v = 0;
	size_t have = n < in->left ? n : in->left;

	have = have < sizeof v ? have : sizeof v;
	if (have) /* p may be NULL */
		memcpy(&v, in->p, have);
	in->p += have;
	in->left -= have;
	return v;
}

#ifndef HC_LIBFUZZER
#define FUZZ_PATH_BYTES (PATH_MAX + 256)
enum { FUZZ_FILES = 256, FUZZ_FILE_BYTES = 128 << 10, FUZZ_INPUT_MAX = 4096 };

struct fuzz_file {
	char name[NAME_MAX + 1];
	uint8_t *bytes;
	size_t n;
};

struct fuzz_corpus {
	struct fuzz_file file[FUZZ_FILES];
	size_t n;
};

static inline void fuzz_read(struct fuzz_file *f, const char *folder, const char *name)
{
	static uint8_t bytes[FUZZ_FILE_BYTES];
	char path[FUZZ_PATH_BYTES];

	(void)snprintf(path, sizeof path, "%s/%s", folder, name);
	(void)snprintf(f->name, sizeof f->name, "%s", name);
	FILE *from = fopen(path, "re");
	CHECK(from != NULL);
	f->n = fread(bytes, 1, sizeof bytes, from);
	CHECK(f->n < sizeof bytes && !ferror(from));
	f->bytes = malloc(f->n ? f->n : 1);
	CHECK(f->bytes != NULL);
	memcpy(f->bytes, bytes, f->n);
	(void)fclose(from);
}

/* The committed inputs of this target; `here` is its __FILE__. */
static inline void fuzz_corpus_load(struct fuzz_corpus *c, const char *here)
{
	const char *root = getenv("HC_SOURCE_ROOT");
	const char *base = strrchr(here, '/') ? strrchr(here, '/') + 1 : here;
	char folder[PATH_MAX];
	struct dirent **names;

	if (!root)
		SKIP("HC_SOURCE_ROOT is not set: run it through meson test");
	(void)snprintf(folder, sizeof folder, "%s/tests/fuzz/corpus/%.*s", root,
		(int)strcspn(base, "."), base);
	int n = scandir(folder, &names, NULL, alphasort);
	if (n < 0)
		t_fail(here, 0, "no folder %s", folder);
	c->n = 0;
	for (int i = 0; i < n; i++) {
		if (names[i]->d_name[0] != '.') {
			CHECK(c->n < FUZZ_FILES);
			fuzz_read(&c->file[c->n++], folder, names[i]->d_name);
		}
		free(names[i]);
	}
	free(names);
	CHECK(c->n > 0);
}

static inline void fuzz_corpus_free(struct fuzz_corpus *c)
{
	for (size_t i = 0; i < c->n; i++)
		free(c->file[i].bytes);
}

static inline void fuzz_corpus_run(const char *here)
{
	static struct fuzz_corpus c;

	fuzz_corpus_load(&c, here);
	for (size_t i = 0; i < c.n; i++) {
		const struct fuzz_file *f = &c.file[i];
		enum fuzz_verdict v = fuzz_one(f->bytes, f->n);
		if (strncmp(f->name, "good-", 5) == 0 && v != FUZZ_GOOD)
			t_fail(here, 0, "%s was refused", f->name);
		if (strncmp(f->name, "bad-", 4) == 0 && v != FUZZ_BAD)
			t_fail(here, 0, "%s was taken", f->name);
	}
	fuzz_corpus_free(&c);
}

/* One change of the n bytes at b, of which there is room for FUZZ_INPUT_MAX.  Returns the new n. */
static inline size_t fuzz_mutate(uint8_t *b, size_t n, const struct fuzz_file *other)
{
	static const uint64_t odd[] = {0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x10000,
		INT32_MAX, UINT32_MAX, INT64_MAX, UINT64_MAX};
	size_t at = t_random_below(n + 1), k, from;

	switch (t_random_below(7)) {
	case 0:
		return at; /* cut */
	case 1:            /* something of another file, in its place */
		from = t_random_below(other->n + 1);
		k = t_random_below(other->n - from + 1);
		k = k < FUZZ_INPUT_MAX - at ? k : FUZZ_INPUT_MAX - at;
		memcpy(b + at, other->bytes + from, k);
		return at + k > n ? at + k : n;
	case 2: /* a stretch twice */
		k = t_random_below(n - at + 1);
		k = k < FUZZ_INPUT_MAX - n ? k : FUZZ_INPUT_MAX - n;
		memmove(b + at + k, b + at, n - at);
		return n + k;
	case 3: /* a stretch left out */
		k = t_random_below(n - at + 1);
		memmove(b + at, b + at + k, n - at - k);
		return n - k;
	case 4: /* an odd number, of 1 to 8 bytes */
		k = 1u << t_random_below(4);
		if (n < k)
			return n;
		memcpy(b + t_random_below(n - k + 1),
			&odd[t_random_below(sizeof odd / sizeof *odd)], k);
		return n;
	case 5: /* a bit */
		if (n)
			b[t_random_below(n)] ^= (uint8_t)(1u << t_random_below(8));
		return n;
	default: /* a byte */
		if (n)
			b[t_random_below(n)] = (uint8_t)t_random();
		return n;
	}
}

static inline void fuzz_mutations_run(const char *here, int rounds)
{
	static struct fuzz_corpus c;
	const char *seconds = getenv("T_FUZZ_SECONDS");
	uint64_t end_ns = seconds ? t_now_ns() + strtoull(seconds, NULL, 10) * 1000000000 : 0;

	fuzz_corpus_load(&c, here);
	for (int i = 0; end_ns ? t_now_ns() < end_ns : i < rounds; i++) {
		uint8_t whole[FUZZ_INPUT_MAX];
		const struct fuzz_file *f = &c.file[t_random_below(c.n)];
		size_t n = f->n < FUZZ_INPUT_MAX ? f->n : FUZZ_INPUT_MAX;
		memcpy(whole, f->bytes, n);
		for (uint64_t k = 1 + t_random_below(6); k > 0; k--)
			n = fuzz_mutate(whole, n, &c.file[t_random_below(c.n)]);
		uint8_t *input = malloc(n ? n : 1);
		CHECK(input != NULL);
		memcpy(input, whole, n);
		(void)fuzz_one(input, n);
		free(input);
	}
	fuzz_corpus_free(&c);
}

/* The two tests of a target; `end` is what it does to leave nothing behind. */
#define FUZZ_TESTS_END(rounds, end) \
	TEST_LIMIT(the_corpus, 60) \
	{ \
		fuzz_corpus_run(__FILE__); \
		end; \
	} \
	TEST_LIMIT(mutations_of_the_corpus, 200) \
	{ \
		fuzz_mutations_run(__FILE__, rounds); \
		end; \
	}
#else
#define FUZZ_TESTS_END(rounds, end)
#endif
#define FUZZ_TESTS(rounds) FUZZ_TESTS_END(rounds, (void)0)
#endif
