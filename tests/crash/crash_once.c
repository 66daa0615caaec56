/* crash_once.c - exactly once: the engine is killed at every STEP of every mutation, and the caller, who
 * knows nothing of it, gets the answer that he would have got, for one application.
 *
 * The cases below are a conversation of one client, in which each answer is known beforehand, from
 * those before it.  It is held once with the marks recorded, then once for each mark: before each
 * case ONCE is made again, so that the engine dies at the mark's first pass in that case, and
 * another one answers.  A second client looks at what is there.  Batches are also cut in the middle:
 * at several later passes.
 *
 * What would be wrong, and is seen: a sum with the same delta twice, a word twice in a log, an `add`
 * that finds its own entry, a compare-and-set that conflicts with itself, a delete that misses what
 * it deleted, a refused condition that holds at the second try.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "../kit/t.h"
#include "../kit/t_daemon.h"
#include "../kit/t_step.h"
#include "atomic.h"
#include "hc_i.h"
#include "hypercache.h"

enum { CLIENT_MS = 30000, LOG_BYTES = 4096 };

static const char config[] = "restart_limit: 1000\nrestart_backoff_max: 100ms\n"
			     "pools:\n  main: {size: 4MiB, huge_pages: \"off\"}\n"
			     "stores: {default: {}, cleared: {}}\n";

/* The conversation, and what has to be there by now. */
struct talk {
	struct t_daemon *d;
	struct hc *hc, *other;
	struct hc_store *s, *seen, *cleared;
	int round;
	int64_t sum;
	char log[LOG_BYTES];
	char key[16];     /* of the entry that this round adds, swaps and deletes */
	uint64_t version; /* its version */
};

/* ------------------------------------------------------------------ what is there */

static void check_value(const struct talk *k, const char *key, const char *want)
{
	char got[LOG_BYTES];
	size_t n = 0;
	int r = hc_get(k->seen, key, strlen(key), got, sizeof got - 1, &n);

	CHECK_EQ(r, want ? HC_OK : HC_MISS);
	if (!want)
		return;
	got[n] = 0;
	CHECK_STR(got, want);
}

static void check_version(const struct talk *k)
{
	struct hc_view v;

	CHECK_EQ(hc_view(k->seen, k->key, strlen(k->key), &v), HC_OK);
	CHECK_EQ(v.version, k->version);
	CHECK_EQ(hc_view_release(&v), HC_OK);
}

/* ------------------------------------------------------------------ cases */

static int set(struct talk *k, const char *value, uint32_t mode, uint64_t version, uint64_t *ret)
{
	struct hc_set_opts o = HC_OPTS(hc_set_opts);

	o.mode = mode;
	o.version = version;
	o.stamp = mode == HC_IF_NEWER ? version : 0;
	o.version = mode == HC_IF_VERSION ? version : 0;
	o.ret_version = ret;
	return hc_set(k->s, k->key, strlen(k->key), value, strlen(value), &o);
}

static void incr_new(struct talk *k)
{
	char name[16];
	int64_t sum = 0;
	struct hc_incr_opts o = HC_OPTS(hc_incr_opts);

	o.initial = 10;
	int n = snprintf(name, sizeof name, "n%d", k->round);
	CHECK_EQ(hc_incr(k->s, name, (size_t)n, 5, &o, &sum), HC_OK);
	CHECK_EQ(sum, 15);
	check_value(k, name, "15");
}

static void incr(struct talk *k)
{
	char text[24];
	int64_t sum = 0;

	k->sum += 3;
	CHECK_EQ(hc_incr(k->s, "sum", 3, 3, NULL, &sum), HC_OK);
	CHECK_EQ(sum, k->sum);
	(void)snprintf(text, sizeof text, "%lld", (long long)k->sum);
	check_value(k, "sum", text);
}

static void incr_refused(struct talk *k)
{
	int64_t sum = 0;

	CHECK_EQ(hc_incr(k->s, "log", 3, 3, NULL, &sum), HC_E_NOT_NUMBER);
	check_value(k, "log", k->log);
}

static void append(struct talk *k)
{
	size_t n = strlen(k->log);
	int more = snprintf(k->log + n, sizeof k->log - n, "%d,", k->round);

	CHECK_EQ(hc_append(k->s, "log", 3, k->log + n, (size_t)more, NULL), HC_OK);
	check_value(k, "log", k->log);
}

static void prepend(struct talk *k)
{
	memmove(k->log + 1, k->log, strlen(k->log) + 1);
	k->log[0] = '<';
	CHECK_EQ(hc_prepend(k->s, "log", 3, "<", 1, NULL), HC_OK);
	check_value(k, "log", k->log);
}

static void replace_refused(struct talk *k)
{
	CHECK_EQ(set(k, "early", HC_REPLACE, 0, NULL), HC_MISS);
	check_value(k, k->key, NULL);
}

static void add(struct talk *k)
{
	CHECK_EQ(set(k, "added", HC_ADD, 0, &k->version), HC_OK);
	check_value(k, k->key, "added");
	check_version(k);
}

static void add_refused(struct talk *k)
{
	uint64_t version = 0;

	CHECK_EQ(set(k, "again", HC_ADD, 0, &version), HC_EXISTS);
	CHECK_EQ(version, k->version);
	check_value(k, k->key, "added");
}

static void cas(struct talk *k)
{
	CHECK_EQ(set(k, "swapped", HC_IF_VERSION, k->version, &k->version), HC_OK);
	check_value(k, k->key, "swapped");
	check_version(k);
}

static void cas_refused(struct talk *k)
{
	uint64_t version = 0;

	CHECK_EQ(set(k, "late", HC_IF_VERSION, k->version - 1, &version), HC_CONFLICT);
	CHECK_EQ(version, k->version);
	check_value(k, k->key, "swapped");
}

static void newer(struct talk *k)
{
	CHECK_EQ(set(k, "newer", HC_IF_NEWER, 7, &k->version), HC_OK);
	check_value(k, k->key, "newer");
	check_version(k);
}

static void older(struct talk *k)
{
	uint64_t version = 0;

	CHECK_EQ(set(k, "older", HC_IF_NEWER, 7, &version), HC_OLDER);
	CHECK_EQ(version, k->version);
	check_value(k, k->key, "newer");
}

static void replace(struct talk *k)
{
	CHECK_EQ(set(k, "replaced", HC_REPLACE, 0, &k->version), HC_OK);
	check_value(k, k->key, "replaced");
	check_version(k);
}

static void touch(struct talk *k)
{
	CHECK_EQ(hc_touch(k->s, k->key, strlen(k->key), 3600000), HC_OK);
	check_value(k, k->key, "replaced");
	check_version(k);
}

static void touch_missed(struct talk *k)
{
	CHECK_EQ(hc_touch(k->s, "absent", 6, 3600000), HC_MISS);
	check_value(k, "absent", NULL);
}

static void delete_refused(struct talk *k)
{
	CHECK_EQ(hc_delete_if(k->s, k->key, strlen(k->key), k->version + 1), HC_CONFLICT);
	check_value(k, k->key, "replaced");
}

static void delete_one(struct talk *k)
{
	CHECK_EQ(hc_delete_if(k->s, k->key, strlen(k->key), k->version), HC_OK);
	check_value(k, k->key, NULL);
}

static void delete_missed(struct talk *k)
{
	CHECK_EQ(hc_delete(k->s, k->key, strlen(k->key)), HC_MISS);
}

enum { BATCH = 24 };

/* Adds entries in one frame, then tries it again. */
static void batch(struct talk *k)
{
	char key[BATCH][16];
	struct hc_mset_item m[BATCH];

	for (int i = 0; i < BATCH; i++)
		m[i] = (struct hc_mset_item){.key = key[i],
			.key_bytes = (size_t)snprintf(key[i], sizeof key[i], "b%d.%d", k->round, i),
			.value = key[i],
			.value_bytes = strlen(key[i])};
	struct hc_set_opts o = HC_OPTS(hc_set_opts);
	o.mode = HC_ADD; /* applied twice, it would find its own entry */
	CHECK_EQ(hc_mset(k->s, m, BATCH, &o), HC_OK);
	for (int i = 0; i < BATCH; i++) {
		CHECK_EQ(m[i].result, HC_OK);
		check_value(k, key[i], key[i]);
	}
	CHECK_EQ(hc_mset(k->s, m, BATCH, &o), HC_EXISTS);
	for (int i = 0; i < BATCH; i++)
		CHECK_EQ(m[i].result, HC_EXISTS);
}

/* An operation of hc_submit for this round's key `name`. */
static void submit(struct talk *k, uint32_t kind, const char *name, uint64_t user)
{
	struct hc_op op = HC_OPTS(hc_op);
	struct hc_set_opts add = HC_OPTS(hc_set_opts);
	char key[16];

	add.mode = HC_ADD;
	op.store = k->s;
	op.op = kind;
	op.user = user;
	op.key = key;
	op.key_bytes = (size_t)snprintf(key, sizeof key, "%s%d", name, k->round);
	op.delta = kind == HC_OP_INCR ? 4 : 0;
	op.set = kind == HC_OP_SET ? &add : NULL;
	op.value = kind == HC_OP_SET || kind == HC_OP_APPEND ? "ab" : NULL;
	op.value_bytes = op.value ? 2 : 0;
	op.ttl_ms = kind == HC_OP_TOUCH ? 3600000 : 0;
	CHECK_EQ(hc_submit(&op, NULL), HC_OK);
}

/* One of each kind, of which the answers are known, in one frame; each is told of once. */
static void submitted(struct talk *k)
{
	static const struct {
		uint32_t kind;
		const char *name;
		int result;
	} op[] = {{HC_OP_INCR, "sn", HC_OK}, {HC_OP_SET, "sv", HC_OK}, {HC_OP_APPEND, "sv", HC_OK},
		{HC_OP_TOUCH, "sv", HC_OK}, {HC_OP_SET, "sv", HC_EXISTS}, {HC_OP_SET, "sd", HC_OK},
		{HC_OP_DELETE, "sd", HC_OK}, {HC_OP_DELETE, "sd", HC_MISS},
		{HC_OP_INCR, "sn", HC_OK}, {HC_OP_APPEND, "sv", HC_OK}};
	enum { N = sizeof op / sizeof op[0] };
	struct hc_done d[N + 1];
	char key[16];
	size_t n;

	for (uint64_t i = 0; i < N; i++)
		submit(k, op[i].kind, op[i].name, i);
	CHECK_EQ(hc_flush(k->hc, 0, NULL), HC_OK);
	CHECK_EQ(hc_poll(k->hc, d, N + 1, 0, &n), HC_OK);
	CHECK_EQ(n, N);
	for (uint64_t i = 0; i < N; i++) {
		CHECK_EQ(d[i].user, i);
		CHECK_EQ(d[i].result, op[i].result);
	}
	CHECK(d[0].sum == 4 && d[8].sum == 8);
	(void)snprintf(key, sizeof key, "sv%d", k->round);
	check_value(k, key, "ababab");
	(void)snprintf(key, sizeof key, "sn%d", k->round);
	check_value(k, key, "8");
}

enum { CLEARED = 1, N_CLEARED = 5 }; /* the store's index; entries */

static uint64_t epoch_of(const struct talk *k)
{
	return shm_load_rlx(&k->hc->ctl->store[CLEARED].epoch);
}

static void clear_prepared(struct talk *k)
{
	for (char c = 'a'; c < 'a' + N_CLEARED; c++)
		CHECK_EQ(hc_set(k->cleared, &c, 1, "x", 1, NULL), HC_OK);
}

/* Once: the epoch counts one clear, and the answer has the number of entries, which only the first
 * application sees. */
static void clear(struct talk *k)
{
	uint64_t before = epoch_of(k), n = 77;
	char buf;

	CHECK_EQ(hc_clear(k->cleared, &n), HC_OK);
	CHECK_EQ(n, N_CLEARED);
	CHECK_EQ(epoch_of(k), before + 1);
	for (char c = 'a'; c < 'a' + N_CLEARED; c++)
		CHECK_EQ(hc_get(k->cleared, &c, 1, &buf, 1, NULL), HC_MISS);
}

static void clear_of_nothing(struct talk *k)
{
	uint64_t before = epoch_of(k), n = 77;

	CHECK_EQ(hc_clear(k->cleared, &n), HC_OK);
	CHECK_EQ(n, 0);
	CHECK_EQ(epoch_of(k), before + 1);
}

/* In this order.  marks: that the engine passes whenever it does this, so it has to die there. */
#define PUBLISH_MARKS "set:filled set:intended set:published journal:resulted journal:cleared "
static const struct {
	const char *name;
	void (*run)(struct talk *k);
	const char *marks;
} cases[] = {
	{"incr, a new number", incr_new, PUBLISH_MARKS "incr:answered"},
	{"incr", incr, PUBLISH_MARKS "engine:retired incr:answered"},
	{"incr of no number", incr_refused, "journal:resulted journal:cleared incr:answered"},
	{"append", append, PUBLISH_MARKS "engine:retired set:answered"},
	{"prepend", prepend, PUBLISH_MARKS "engine:retired set:answered"},
	{"replace, refused", replace_refused, "journal:resulted journal:cleared set:refused"},
	{"add", add, PUBLISH_MARKS "set:answered"},
	{"add, refused", add_refused, "journal:resulted journal:cleared set:refused"},
	{"compare-and-set", cas, PUBLISH_MARKS "engine:retired set:answered"},
	{"compare-and-set, refused", cas_refused, "journal:resulted journal:cleared set:refused"},
	{"newer", newer, PUBLISH_MARKS "engine:retired set:answered"},
	{"older", older, "journal:resulted journal:cleared set:refused"},
	{"replace", replace, PUBLISH_MARKS "engine:retired set:answered"},
	{"touch", touch, "touch:stored journal:resulted journal:cleared"},
	{"touch, missed", touch_missed, "journal:resulted journal:cleared"},
	{"delete, refused", delete_refused, "journal:resulted journal:cleared delete:answered"},
	{"delete", delete_one,
		"delete:intended delete:published engine:retired journal:resulted journal:cleared "
		"delete:answered"},
	{"delete, missed", delete_missed, "journal:resulted journal:cleared delete:answered"},
	{"clear, prepared", clear_prepared, PUBLISH_MARKS "set:answered"},
	{"clear", clear,
		"clear:intended clear:published journal:resulted journal:cleared clear:answered"},
	{"clear, of nothing", clear_of_nothing,
		"clear:intended clear:published journal:resulted journal:cleared clear:answered"},
	{"batch", batch, PUBLISH_MARKS "set:answered set:refused batch:item"},
	{"submitted", submitted,
		PUBLISH_MARKS "touch:stored delete:intended delete:published engine:retired "
			      "set:answered set:refused incr:answered delete:answered batch:item"},
};
enum { N_CASES = sizeof cases / sizeof cases[0] };

/* ------------------------------------------------------------------ talk */

static void open_client(const struct t_daemon *d, struct hc **hc, struct hc_store **s)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);

	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(CLIENT_MS);
	CHECK_EQ(hc_open(hc, &o), HC_OK);
	CHECK_EQ(hc_store(*hc, "default", s), HC_OK);
}

static void talk_begin(struct talk *k, const char *order)
{
	*k = (struct talk){.d = t_daemon_start(config, (const char *[]){order, NULL})};
	open_client(k->d, &k->hc, &k->s);
	open_client(k->d, &k->other, &k->seen);
	CHECK_EQ(hc_store(k->hc, "cleared", &k->cleared), HC_OK);
	CHECK_EQ(hc_set(k->s, "log", 3, "", 0, NULL), HC_OK);
	CHECK_EQ(hc_set(k->s, "sum", 3, "0", 1, NULL), HC_OK);
	CHECK_EQ(hc_ping(k->other), HC_OK);
}

static void talk_end(struct talk *k)
{
	char *out;
	int e = t_run((const char *[]){t_bin("hypercache"), "--admin", k->d->admin, "fsck", NULL},
		NULL, 0, &out, NULL, NULL, 20000);

	if (e != 0)
		fprintf(stderr, "%s", out);
	CHECK_EQ(e, 0);
	free(out);
	hc_close(k->hc);
	hc_close(k->other);
	t_daemon_stop(k->d);
}

static void round_begin(struct talk *k, int round)
{
	k->round = round;
	(void)snprintf(k->key, sizeof k->key, "key-%d", round);
}

static bool has_word(const char *words, const char *word)
{
	size_t n = strlen(word);

	for (const char *at = strstr(words, word); at; at = strstr(at + 1, word))
		if ((at == words || at[-1] == ' ') && (at[n] == ' ' || at[n] == 0))
			return true;
	return false;
}

/* Does a case say that the engine passes this mark? */
static bool is_named(const char *mark)
{
	for (int i = 0; i < N_CASES; i++)
		if (has_word(cases[i].marks, mark))
			return true;
	return false;
}

/* The marks to be swept: what the engine passes in the cases, and not before if no case names it. */
static void record(struct t_steps *ret)
{
	static struct t_steps before, all;
	char order[512];
	struct talk k;

	(void)snprintf(order, sizeof order, "HC_STEP=record:%s", t_path("steps"));
	talk_begin(&k, order);
	t_steps_load(&before, t_path("steps"));
	round_begin(&k, 0);
	for (int i = 0; i < N_CASES; i++)
		cases[i].run(&k);
	t_steps_load(&all, t_path("steps"));
	talk_end(&k);
	ret->n = 0;
	for (int i = 0; i < all.n; i++) {
		bool early = false;
		for (int b = 0; b < before.n; b++)
			early |= strcmp(before.name[b], all.name[i]) == 0;
		if (!early || is_named(all.name[i]))
			memcpy(ret->name[ret->n++], all.name[i], sizeof all.name[i]);
	}
}

/* A batch that is cut at the nth pass of a mark.  True: the engine died there. */
static bool cut_batch(void (*run)(struct talk *k), const char *mark, int nth)
{
	const char *once = t_path("once");
	char order[512];
	struct talk k;

	(void)snprintf(order, sizeof order, "HC_STEP=kill:%s:%d:%s", mark, nth, once);
	talk_begin(&k, order);
	int fd = open(once, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	CHECK(fd >= 0);
	(void)close(fd);
	run(&k);
	bool died = unlink(once) != 0;
	talk_end(&k);
	return died;
}

/* Two rounds, in which the engine dies at each case that passes the mark.  Returns how often. */
static int talk_and_die(const char *mark)
{
	const char *once = t_path("once");
	char order[512];
	struct talk k;
	int deaths = 0;

	(void)snprintf(order, sizeof order, "HC_STEP=kill:%s:0:%s", mark, once);
	talk_begin(&k, order);
	for (int round = 0; round < 2; round++) {
		round_begin(&k, round);
		for (int i = 0; i < N_CASES; i++) {
			int fd = open(once, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
			CHECK(fd >= 0);
			(void)close(fd);
			cases[i].run(&k);
			bool died = unlink(once) != 0;
			if (!died && has_word(cases[i].marks, mark))
				t_fail(__FILE__, __LINE__, "%s did not come to %s", cases[i].name,
					mark);
			deaths += died;
		}
	}
	talk_end(&k);
	return deaths;
}

/* T_STEP=module:moment repeats one mark. */
TEST_LIMIT(each_mutation_is_applied_once_wherever_the_engine_dies, 300)
{
	static struct t_steps steps;
	const char *only = getenv("T_STEP");

	if (only) {
		fprintf(stderr, "  %s: %d deaths\n", only, talk_and_die(only));
		return;
	}
	record(&steps);
	CHECK(steps.n >= 12);
	for (int i = 0; i < steps.n; i++) {
		fprintf(stderr, "  T_STEP=%s\n", steps.name[i]);
		if (talk_and_die(steps.name[i]) > 0)
			t_step_killed(steps.name[i]);
	}
	static const char *const marks[] = {"set:filled", "set:published", "journal:resulted",
		"journal:cleared", "set:answered", "batch:item"};
	for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++) {
		CHECK(cut_batch(submitted, marks[i], 3 + (int)t_random_below(3)));
		int nth = 3 + (int)t_random_below(BATCH - 3);
		fprintf(stderr, "  batch: %s, pass %d\n", marks[i], nth);
		CHECK(cut_batch(batch, marks[i], nth));
		CHECK(cut_batch(batch, marks[i], BATCH));
	}
}
