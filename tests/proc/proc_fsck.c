/* proc_fsck.c - `hypercache fsck` of a living daemon, a frozen one and an image; and `client revoke`.
 *
 * Each violation that the checker knows is planted into an image of a small cache, found by its number, and
 * repaired where an engine could: then the checker finds nothing any more. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "../../daemon/admin.h"
#include "../../daemon/image.h"
#include "atomic.h"
#include "cli_run.h"
#include "crc.h"
#include "hc_i.h"
#include "hypercache.h"
#include "layout/l_item.h"
#include "layout/l_pool.h"
#include "layout/l_table.h"

enum { N = 200, WAIT_MS = 20000 };

static struct hc_store *client_open(const struct t_daemon *d, struct hc **hc)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct hc_store *s;

	o.socket = d->socket;
	o.timeout_ms = (uint32_t)t_limit_ms(WAIT_MS);
	CHECK_EQ(hc_open(hc, &o), HC_OK);
	CHECK_EQ(hc_store(*hc, "default", &s), HC_OK);
	return s;
}

static void fill(struct hc_store *s)
{
	char name[32];

	for (int i = 0; i < N; i++)
		CHECK_EQ(
			hc_set(s, name, (size_t)sprintf(name, "key-%d", i), name, 20, NULL), HC_OK);
}

/* ------------------------------------------------------------------- violations */

/* An image in memory. */
struct world {
	struct image im;
	struct shm_control *ctl;
	uint8_t *base;
	struct shm_pool *p;
	struct shm_table *t;
};

/* The nth slot that names an item, or NULL. */
static shm_u64 *slot_at(const struct world *w, int nth)
{
	struct shm_bucket *b = (struct shm_bucket *)(void *)(w->t + 1);

	for (uint64_t i = 0; i < UINT64_C(1) << w->t->log2_buckets; i++)
		for (int s = 0; s < SHM_BUCKET_SLOTS; s++)
			if (shm_load_rlx(&b[i].slot[s]) && nth-- == 0)
				return &b[i].slot[s];
	return NULL;
}

static struct shm_item *item_at(const struct world *w, int nth)
{
	return (struct shm_item *)(void *)(w->base + shm_word_off(shm_load_rlx(slot_at(w, nth))));
}

static struct shm_page *page_table(const struct world *w)
{
	return (struct shm_page *)(void *)(w->base + SHM_PAGE);
}

static void bad_magic(struct world *w) { shm_store_rlx(&w->p->seg.magic, 1); }
static void bad_kind(struct world *w) { w->p->seg.kind = SHM_KIND_CLIENT; }
static void bad_control(struct world *w) { w->ctl->seg.byte_order = 7; }
static void bad_owner(struct world *w) { w->p->seg.daemon_id ^= 1; }
static void bad_region(struct world *w) { w->ctl->pool[0].region[0].base_off = 4096; }
static void bad_n_regions(struct world *w) { shm_store32_rlx(&w->ctl->pool[0].n_regions, 99); }
static void bad_store(struct world *w) { w->ctl->store[0].pool_idx = 9; }
static void bad_table(struct world *w)
{
	shm_store_rlx(&w->p->table, shm_load_rlx(&w->p->table) + 4096);
}
static void bad_sizes(struct world *w) { w->t->n_overflow = 1u << 30; }
static void bad_lens(struct world *w) { item_at(w, 1)->lens = UINT64_MAX; }
static void bad_hash(struct world *w) { item_at(w, 2)->hash ^= 1; }
static void bad_value(struct world *w) { *(uint8_t *)(item_at(w, 3) + 1) ^= 1; }

static void bad_page(struct world *w)
{
	uint64_t n = w->im.head->pool[0].bytes / SHM_PAGE;

	/* In the last run, which is free. */
	for (uint64_t i = n; i-- > 0;)
		if (shm_page_kind(shm_load_rlx(&page_table(w)[i].word)) == SHM_PAGE_FREE &&
			shm_page_run(shm_load_rlx(&page_table(w)[i].word))) {
			shm_store_rlx(&page_table(w)[i].word, shm_page_make(99, 0, 3));
			return;
		}
	CHECK(false);
}

static void bad_place(struct world *w)
{
	shm_u64 *s = slot_at(w, 4);

	shm_store_rlx(s, shm_word_make(shm_word_top(shm_load_rlx(s)),
				 shm_word_off(shm_load_rlx(s)) + SHM_UNIT, 0));
}

static void bad_twice(struct world *w)
{
	struct shm_bucket *b = (struct shm_bucket *)(void *)(w->t + 1);

	for (uint64_t i = 0; i < UINT64_C(1) << w->t->log2_buckets; i++)
		for (int s = 0; s + 1 < SHM_BUCKET_SLOTS; s++)
			if (shm_load_rlx(&b[i].slot[s]) && !shm_load_rlx(&b[i].slot[s + 1])) {
				shm_store_rlx(&b[i].slot[s + 1], shm_load_rlx(&b[i].slot[s]));
				return;
			}
	CHECK(false);
}

static void bad_link(struct world *w)
{
	struct shm_bucket *b = (struct shm_bucket *)(void *)(w->t + 1);

	shm_store_rlx(&b->link, shm_word_make(0, SHM_PAGE, 0));
}

static void bad_epoch(struct world *w)
{
	struct shm_item *it = item_at(w, 5);

	it->store_id = 12345;
	it->crc = shm_item_crc(it, shm_lens_key(it->lens), shm_lens_value(it->lens));
}

static void bad_count(struct world *w) { shm_count(&w->ctl->pool[0].counter[SHM_PC_entries], 1); }

static void bad_free(struct world *w)
{
	shm_u64 *c = w->ctl->pool[0].counter;

	shm_count(&c[SHM_PC_limbo_bytes], shm_load_rlx(&c[SHM_PC_free_bytes]));
	shm_store_rlx(&c[SHM_PC_free_bytes], 0);
}

static const struct {
	int invariant;
	void (*plant)(struct world *w);
	bool repaired;
} violations[] = {
	{1, bad_magic, false}, /* the supervisor's: it mends them while it lives */
	{1, bad_kind, false},
	{1, bad_control, false},
	{2, bad_owner, false},
	{3, bad_region, false},
	{3, bad_n_regions, false},
	{4, bad_store, false},
	{5, bad_page, true},
	{6, bad_table, false},
	{7, bad_place, true},
	{8, bad_twice, true},
	{9, bad_sizes, false},
	{10, bad_link, true},
	{11, bad_hash, true},
	{13, bad_lens, true},
	{13, bad_value, true},
	{14, bad_epoch, true},
	{16, bad_count, true},
	{17, bad_free, true},
};

static void copy(const char *from, const char *to)
{
	CHECK_EQ(t_run((const char *[]){"/bin/cp", from, to, NULL}, NULL, 0, NULL, NULL, NULL,
			 WAIT_MS),
		0);
}

static void plant(const char *path, void (*f)(struct world *w))
{
	struct world w;
	int fd = open(path, O_RDWR | O_CLOEXEC);

	CHECK(fd >= 0);
	CHECK_EQ(image_open(fd, true, &w.im), 0);
	w.ctl = w.im.ctl;
	w.base = w.im.map + w.im.head->pool[0].off;
	w.p = (struct shm_pool *)(void *)w.base;
	w.t = (struct shm_table *)(void *)(w.base + shm_word_off(shm_load_rlx(&w.p->table)));
	f(&w);
	image_close(&w.im);
	(void)close(fd);
}

TEST_LIMIT(each_violation_is_found_and_repaired_where_it_can_be, 120)
{
	struct t_daemon *d = t_daemon_start(
		"pools: {main: {size: 4MiB, huge_pages: \"off\"}}\n", NULL);
	const char *saved = t_path("saved"), *bad = t_path("bad");
	struct hc *hc;
	char want[16];

	fill(client_open(d, &hc));
	check_status(d, 0, ARGS("fsck", "--pause", "--save", saved));
	hc_close(hc);
	t_daemon_stop(d);
	check_status(NULL, 0, ARGS("fsck", saved));
	for (size_t i = 0; i < sizeof violations / sizeof *violations; i++) {
		copy(saved, bad);
		plant(bad, violations[i].plant);
		(void)snprintf(want, sizeof want, "I%d  ", violations[i].invariant);
		fprintf(stderr, "  %zu: %s\n", i, want);
		struct result r = run(NULL, ARGS("fsck", bad));
		CHECK_EQ(r.status, 1);
		check_says(&r, want, "DAMAGED", NULL);
		result_free(&r);
		r = run(NULL, ARGS("fsck", "--repair", bad));
		if ((r.status == 0) != violations[i].repaired)
			t_fail(__FILE__, __LINE__, "status %d: %s%s", r.status, r.out, r.err);
		result_free(&r);
		check_status(NULL, violations[i].repaired ? 0 : 1, ARGS("fsck", bad));
		CHECK_EQ(unlink(bad), 0);
	}
}

/* What is no image is refused by name, whatever is in it. */
TEST(what_is_no_image_is_refused)
{
	const char *path = t_path("nothing");
	FILE *f = fopen(path, "we");

	CHECK(f != NULL);
	for (int i = 0; i < 10000; i++)
		fputc((int)t_random_below(256), f);
	CHECK_EQ(fclose(f), 0);
	check_status(NULL, 5, ARGS("fsck", path));
	check_status(NULL, 5, ARGS("fsck", "--repair", path));
	check_status(NULL, 5, ARGS("fsck", t_path("not-there")));
	check_status(NULL, 2, ARGS("fsck", "--save", "x", path));
	CHECK_EQ(truncate(path, 100), 0);
	check_status(NULL, 5, ARGS("fsck", path));
}

/* ---------------------------------------------------------------------- daemons */

/* While it works; frozen; with damage, which another engine drops. */
TEST(a_daemons_memory_is_saved_and_repaired_under_its_clients)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	const char *live = t_path("live"), *frozen = t_path("frozen");
	struct stat st;
	struct hc *hc;
	struct hc_store *s = client_open(d, &hc);
	struct hc_view v;
	pid_t engine = t_daemon_engine(d);

	fill(s);
	CHECK_EQ(hc_view(s, "key-2", 5, &v), HC_OK);
	check_status(d, 0, ARGS("fsck", "--pause", "--save", live));
	check_status(d, 5, ARGS("fsck", "--save", live)); /* it is there */
	CHECK_EQ(kill(engine, SIGSTOP), 0);
	check_status(d, 0, ARGS("fsck", "--save", frozen));
	CHECK_EQ(kill(engine, SIGCONT), 0);
	check_status(NULL, 0, ARGS("fsck", live));
	check_status(NULL, 0, ARGS("fsck", frozen));
	int fd = t_daemon_segment(d, "main");
	CHECK_EQ(fstat(fd, &st), 0);
	char *p = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED);
	(void)close(fd);
	char *at = memmem(p, (size_t)st.st_size, "key-7\0", 6);
	CHECK(at != NULL);
	*at ^= 1;
	check_status(d, 1, ARGS("fsck"));
	check_status(d, 0, ARGS("fsck", "--repair"));
	CHECK(t_daemon_engine(d) != engine);
	CHECK(!strstr(d->proc->err.text ? d->proc->err.text : "", "crash 1")); /* it was none */
	CHECK_EQ(hc_view_ok(&v), 1);
	CHECK_EQ(hc_view_release(&v), HC_OK);
	CHECK_EQ(hc_exists(s, "key-7", 5), HC_MISS);
	CHECK_EQ(hc_exists(s, "key-8", 5), HC_OK);
	fill(s);
	check_status(d, 0, ARGS("fsck", "--pause"));
	CHECK_EQ(munmap(p, (size_t)st.st_size), 0);
	hc_close(hc);
	t_daemon_stop(d);
}

/* Nor does the supervisor take it for a hang. */
TEST(a_pause_is_over_when_the_look_is)
{
	struct t_daemon *d = t_daemon_start("heartbeat: 100ms\nhang_timeout: 4s\n", NULL);
	struct hc *hc;
	struct hc_store *s = client_open(d, &hc);
	pid_t engine = t_daemon_engine(d);
	uint64_t from_ns = t_now_ns();

	check_status(d, 0, ARGS("fsck", "--pause"));
	fill(s); /* it is over */
	CHECK(t_now_ns() - from_ns < 9000000000ull * (uint64_t)t_limit_ms(1));
	CHECK_EQ(t_daemon_engine(d), engine);
	hc_close(hc);
	t_daemon_stop(d);
}

/* A tool asks for a pause and goes away. */
TEST(a_pause_ends_by_itself)
{
	struct admin_request rq = {
		.magic = ADMIN_ASK_MAGIC, .version = ADMIN_VERSION, .ask = ADMIN_PAUSE};
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	struct t_daemon *d = t_daemon_start("heartbeat: 100ms\nhang_timeout: 4s\n", NULL);
	struct hc *hc;
	struct hc_store *s = client_open(d, &hc);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0);
	(void)snprintf(to.sun_path, sizeof to.sun_path, "%.107s", d->admin);
	CHECK_EQ(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
	CHECK_EQ(send(fd, &rq, sizeof rq, 0), (ssize_t)sizeof rq);
	CHECK(t_wait_fd(fd, 1 /* POLLIN */, WAIT_MS)); /* answered: the pause has begun */
	(void)close(fd);
	uint64_t from_ns = t_now_ns();
	fill(s); /* waits, and is not refused */
	CHECK(t_now_ns() - from_ns > 2000000000ull);
	hc_close(hc);
	t_daemon_stop(d);
}

/* --------------------------------------------------------------------- clients */

/* The session of the only client that has a view. */
static void session_of(const struct hc *hc, char ret[17])
{
	(void)snprintf(ret, 17, "%016llx", (unsigned long long)hc->session_id);
}

TEST(what_a_client_holds_is_shown_and_taken_back)
{
	static char value[100000];
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct hc *hc, *other;
	struct hc_store *s = client_open(d, &hc), *os = client_open(d, &other);
	struct hc_view v, ov;
	char id[17];

	CHECK_EQ(hc_set(s, "k", 1, value, sizeof value, NULL), HC_OK);
	CHECK_EQ(hc_view(s, "k", 1, &v), HC_OK);
	CHECK_EQ(hc_view(os, "k", 1, &ov), HC_OK);
	session_of(hc, id);
	struct result r = run(d, ARGS("clients", "--json"));
	CHECK_EQ(r.status, 0);
	CHECK(json_number(r.out, "held_bytes") >= sizeof value);
	CHECK(json_number(r.out, "held_bytes") < 2 * sizeof value);
	result_free(&r);
	CHECK_EQ(hc_delete(s, "k", 1), HC_OK);
	r = run(d, ARGS("clients"));
	check_says(&r, "97.", "holds", NULL); /* KiB */
	result_free(&r);
	check_status(d, 0, ARGS("client", "revoke", id));
	CHECK_EQ(hc_view_ok(&v), 0);
	CHECK_EQ(hc_view_release(&v), HC_E_REVOKED);
	CHECK_EQ(hc_view_ok(&ov), 1); /* nobody else's */
	CHECK_EQ(hc_view_release(&ov), HC_OK);
	CHECK_EQ(hc_set(s, "k", 1, "new", 3, NULL), HC_OK); /* it goes on */
	CHECK_EQ(hc_view(s, "k", 1, &v), HC_OK);
	CHECK_EQ(hc_view_release(&v), HC_OK);
	check_status(d, 5, ARGS("client", "revoke", "123456789abcdef"));
	check_status(d, 2, ARGS("client", "revoke", "nonsense"));
	check_status(d, 2, ARGS("client", "kill", id));
	hc_close(hc);
	hc_close(other);
	t_daemon_stop(d);
}
