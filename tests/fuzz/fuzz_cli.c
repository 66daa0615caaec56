/* fuzz_cli.c - can any arguments do the command line harm, or be taken for something else?
 *
 * An input is the arguments, one a line.  What is refused is said so on standard error (with --json on
 * standard output) and ends with the status for it; what is taken is within its limits.  The key goes
 * through base64 and JSON, as far as they need no daemon. */
#define main hypercache_main
int hypercache_main(int argc, char **argv);
#include "../../tools/hypercache.c"
#undef main
#include "fuzz.h"

enum { ARGS_MAX = 32, SAID_BYTES = 1 << 16 };

static char said[SAID_BYTES];

/* Runs cli_parse with standard output and standard error gathered in `said`. */
static const struct cli_verb *parse(int argc, char **argv, struct cli *c, int *status)
{
	FILE *out = stdout, *err = stderr, *to = fmemopen(said, sizeof said, "w");

	CHECK(to != NULL);
	memset(said, 0, 64);
	stdout = stderr = to;
	optind = 0; /* glibc: begin anew */
	*status = -1;
	const struct cli_verb *v = cli_parse(argc, argv, c, status);
	stdout = out;
	stderr = err;
	CHECK_EQ(fclose(to), 0);
	return v;
}

static size_t base64_encode(const uint8_t *p, size_t n, char *to)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	size_t at = 0;

	for (size_t i = 0; i < n; i += 3) {
		uint32_t v = (uint32_t)p[i] << 16 | (i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0) |
		             (i + 2 < n ? p[i + 2] : 0);
		to[at++] = digits[v >> 18];
		to[at++] = digits[v >> 12 & 63];
		to[at++] = i + 1 < n ? digits[v >> 6 & 63] : '=';
		to[at++] = i + 2 < n ? digits[v & 63] : '=';
	}
	return at;
}

/* What decodes is what one encodes to. */
static void check_base64(const char *text)
{
	size_t n = strlen(text), bytes = n;
	char *decoded = strdup(text), *again = malloc(n + 8);

	CHECK(decoded != NULL && again != NULL);
	if (cli_base64_decode(decoded, &bytes)) {
		CHECK(bytes <= n);
		CHECK_EQ(base64_encode((const uint8_t *)decoded, bytes, again), n);
		CHECK(memcmp(again, text, n) == 0);
	}
	free(decoded);
	free(again);
}

/* Any bytes become one line of JSON without control characters. */
static void check_json(const uint8_t *bytes, size_t n)
{
	char *text = NULL;
	size_t size = 0;
	FILE *to = open_memstream(&text, &size);
	struct json j = {.to = to};

	CHECK(to != NULL);
	json_begin(&j, NULL, '{');
	json_bytes(&j, "key", bytes, n);
	json_end(&j, '}');
	CHECK_EQ(fclose(to), 0);
	CHECK(size > 8 && strcmp(text + size - 2, "\"}") == 0);
	for (size_t i = 0; i < size; i++)
		CHECK((uint8_t)text[i] >= ' ' && text[i] != 0x7f);
	free(text);
}

static void check_taken(const struct cli *c, const struct cli_verb *v, int argc)
{
	CHECK(c->timeout_ms >= 1 && c->timeout_ms <= TIMEOUT_MAX_MS);
	CHECK(c->ttl_ms == HC_TTL_NEVER || c->ttl_ms <= UINT64_C(3650) * 86400000);
	CHECK(c->store != NULL);
	CHECK(c->n_args >= v->args_min && c->n_args <= v->args_max && c->n_args < argc);
	for (int i = 0; i < c->n_args; i++)
		check_base64(c->arg[i]);
}

static enum fuzz_verdict fuzz_one(const uint8_t *data, size_t bytes)
{
	char name[] = "hypercache", *argv[ARGS_MAX + 2] = {name}, *text = malloc(bytes + 1);
	struct cli c;
	int argc = 1, status;

	CHECK(text != NULL);
	if (bytes)
		memcpy(text, data, bytes);
	text[bytes] = 0;
	for (char *line = text; line < text + bytes && argc <= ARGS_MAX; line += strlen(line) + 1) {
		line[strcspn(line, "\n")] = 0;
		argv[argc++] = line;
	}
	const struct cli_verb *v = parse(argc, argv, &c, &status);
	if (v)
		check_taken(&c, v, argc);
	else
		CHECK(status == CLI_DONE || (status == CLI_USAGE && said[0]));
	free(text);
	check_json(data, bytes);
	return v || status == CLI_DONE ? FUZZ_GOOD : FUZZ_BAD;
}

FUZZ_TESTS(30000)
