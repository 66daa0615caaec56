/* unit_open.c - hc_open, hc_close, hc_store, hc_info, hc_health: do they keep hypercache.h's promise,
 * whatever the daemon answers?  The daemon is a thread with a script (fake_engine.h).
 *
 * Planted bugs, each caught by the test named:
 *   48  the descriptors of segments stay open     a_session_uses_one_descriptor
 *   49  daemon_id is not compared                 segments_are_checked
 */
#include <dirent.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include "fake_engine.h"

static int open_with(const struct fake *f, struct hc **ret, uint32_t timeout_ms)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);

	o.socket = f->path;
	o.timeout_ms = timeout_ms;
	return hc_open(ret, &o);
}

static int count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	CHECK(d);
	while (readdir(d))
		n++;
	CHECK_EQ(closedir(d), 0);
	return n;
}

/* Mappings of this process whose line holds `text`. */
static int count_maps(const char *text)
{
	FILE *f = fopen("/proc/self/maps", "re");
	char line[512];
	int n = 0;

	CHECK(f);
	while (fgets(line, sizeof line, f))
		n += strstr(line, text) != NULL;
	CHECK_EQ(fclose(f), 0);
	return n;
}

static void open_and_bye(struct fake *f)
{
	fake_open(f);
	fake_bye(f);
}

/* ------------------------------------------------------------------ a good daemon */

TEST(a_session_opens_and_closes)
{
	struct fake f;
	struct hc *hc;

	fake_init(&f);
	fake_run(&f, open_and_bye);
	CHECK_EQ(open_with(&f, &hc, 0), HC_OK);
	CHECK(hc != NULL);
	CHECK_EQ(f.asked.proto_major, WIRE_PROTO_MAJOR);
	CHECK_EQ(f.asked.layout_major, SHM_LAYOUT_MAJOR);
	CHECK_EQ(f.asked.session, 0);
	CHECK_EQ(hc_health(hc), 0);
	hc_close(hc);
	hc_close(NULL);
	fake_join(&f);
	fake_fini(&f);
}

TEST(a_session_uses_one_descriptor)
{
	struct fake f;
	struct hc *hc;

	fake_init(&f);
	int before = count_fds(), maps = count_maps("memfd:fake");
	fake_run(&f, open_and_bye);
	CHECK_EQ(open_with(&f, &hc, 0), HC_OK);
	CHECK_EQ(count_fds(), before + 2); /* ours, and the other end in the same process */
	CHECK_EQ(count_maps("memfd:fake"), maps + 3);
	hc_close(hc);
	fake_join(&f);
	CHECK_EQ(count_fds(), before);
	CHECK_EQ(count_maps("memfd:fake"), maps);
	fake_fini(&f);
}

TEST(only_our_own_segment_is_writable)
{
	struct fake f;
	struct hc *hc;
	char line[512];
	int writable = 0, readable = 0;

	fake_init(&f);
	fake_run(&f, open_and_bye);
	int rw = count_maps("rw-s"), ro = count_maps("r--s");
	CHECK_EQ(open_with(&f, &hc, 0), HC_OK);
	FILE *smaps = fopen("/proc/self/smaps", "re");
	CHECK(smaps);
	int dontfork = 0, dontdump = 0, noreserve = 0;
	while (fgets(line, sizeof line, smaps)) {
		if (strncmp(line, "VmFlags:", 8) != 0)
			continue;
		dontfork += strstr(line, " dc") != NULL;
		dontdump += strstr(line, " dd") != NULL && strstr(line, " sh") != NULL;
		noreserve += strstr(line, " nr") != NULL && strstr(line, " sh") != NULL;
	}
	CHECK_EQ(fclose(smaps), 0);
	writable = count_maps("rw-s") - rw;
	readable = count_maps("r--s") - ro;
	CHECK_EQ(writable, 1);
	CHECK_EQ(readable, 2);
	CHECK_EQ(dontfork, 1);
	CHECK(dontdump >= 1);
	CHECK_EQ(noreserve, 1);
	hc_close(hc);
	fake_join(&f);
	fake_fini(&f);
}

TEST(the_name_is_given_or_the_command)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct fake f;
	struct hc *hc;

	CHECK_EQ(prctl(PR_SET_NAME, "some worker"), 0);
	fake_init(&f);
	fake_run(&f, open_and_bye);
	CHECK_EQ(open_with(&f, &hc, 0), HC_OK);
	CHECK_STR(f.asked.name, "some worker");
	hc_close(hc);
	fake_join(&f);
	o.socket = f.path;
	o.name =
		"a name of the program's own, which is longer than what the daemon will keep of it";
	fake_run(&f, open_and_bye);
	CHECK_EQ(hc_open(&hc, &o), HC_OK);
	CHECK_EQ(strlen(f.asked.name), 63);
	CHECK(strncmp(f.asked.name, o.name, 63) == 0);
	hc_close(hc);
	fake_join(&f);
	fake_fini(&f);
}

TEST(either_side_may_demand_full_fences)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct hc_info info = HC_OPTS(hc_info);
	struct fake f;
	struct hc *hc;

	fake_init(&f);
	o.socket = f.path;
	for (int ours = 0; ours < 2; ours++)
		for (int theirs = 0; theirs < 2; theirs++) {
			o.full_fence = (uint32_t)ours;
			f.hello.fence = theirs ? SHM_FENCE_FULL : SHM_FENCE_COMPILER;
			fake_run(&f, open_and_bye);
			CHECK_EQ(hc_open(&hc, &o), HC_OK);
			CHECK_EQ(hc_info(hc, &info), HC_OK);
			if (ours || theirs)
				CHECK_EQ(info.full_fence, 1);
			if (ours)
				CHECK_EQ(f.asked.fence, SHM_FENCE_FULL);
			CHECK_EQ(shm_load32_rlx(&f.seg->fence),
				info.full_fence ? SHM_FENCE_FULL : SHM_FENCE_COMPILER);
			hc_close(hc);
			fake_join(&f);
		}
	fake_fini(&f);
}

TEST(stores_are_found_by_name)
{
	struct fake f;
	struct hc *hc;
	struct hc_store *a, *b;
	char long_name[] = "a name that is one byte too long";

	fake_init(&f);
	fake_run(&f, open_and_bye);
	CHECK_EQ(open_with(&f, &hc, 0), HC_OK);
	CHECK_EQ(hc_store(hc, "default", &a), HC_OK);
	CHECK_EQ(hc_store(hc, "default", &b), HC_OK);
	CHECK(a == b);
	CHECK_EQ(hc_store(hc, "defaul", &b), HC_E_NO_STORE);
	CHECK_EQ(hc_store(hc, "elsewhere", &b), HC_E_DAMAGED); /* there is no such pool */
	shm_store_rlx(&f.ctl->pool[3].id, 77);
	/* It was not handed over: it is asked for, and this daemon does not answer. */
	CHECK_EQ(hc_store(hc, "elsewhere", &b), HC_E_TIMEOUT);
	shm_store_rlx(&f.ctl->pool[3].id, 0);
	CHECK_EQ(hc_store(hc, "", &b), HC_E_INVAL);
	CHECK_EQ(hc_store(hc, NULL, &b), HC_E_INVAL);
	CHECK_EQ(strlen(long_name), 32);
	CHECK_EQ(hc_store(hc, long_name, &b), HC_E_INVAL);
	CHECK_EQ(hc_store(hc, "default", NULL), HC_E_INVAL);
	CHECK_EQ(hc_store(NULL, "default", &b), HC_E_INVAL);
	f.ctl->store[9].id.v = 99; /* dropped, and made again under its name */
	CHECK_EQ(hc_store(hc, "default", &b), HC_OK);
	CHECK(a != b);
	f.ctl->store[9].pool_idx = 200;
	CHECK_EQ(hc_store(hc, "default", &b), HC_E_DAMAGED);
	hc_close(hc);
	fake_join(&f);
	fake_fini(&f);
}

TEST(info_says_what_there_is)
{
	struct hc_info info = HC_OPTS(hc_info);
	struct fake f;
	struct hc *hc;

	fake_init(&f);
	fake_run(&f, open_and_bye);
	CHECK_EQ(open_with(&f, &hc, 0), HC_OK);
	CHECK_EQ(hc_info(hc, &info), HC_OK);
	CHECK(info.session_id == FAKE_SESSION);
	CHECK_EQ(info.engine_gen, 3);
	CHECK_EQ(info.threads_max, FAKE_BLOCKS);
	CHECK_EQ(info.views_max, SHM_BLOCK_PINS - 2);
	CHECK_EQ(info.n_stores, 2);
	CHECK_STR(info.backing, "base");
	CHECK_EQ(info.size, sizeof info);
	struct { /* an older program's, with something behind */
		size_t size;
		uint64_t session_id, canary;
	} old = {.size = 16, .canary = 42};
	CHECK_EQ(hc_info(hc, (struct hc_info *)(void *)&old), HC_OK);
	CHECK(old.session_id == FAKE_SESSION && old.canary == 42 && old.size == 16);
	info.size = 0;
	CHECK_EQ(hc_info(hc, &info), HC_E_INVAL);
	CHECK_EQ(hc_info(hc, NULL), HC_E_INVAL);
	CHECK_EQ(hc_info(NULL, &info), HC_E_INVAL);
	hc_close(hc);
	fake_join(&f);
	fake_fini(&f);
}

TEST(health_is_read_from_memory)
{
	struct fake f;
	struct hc *hc;

	fake_init(&f);
	fake_run(&f, open_and_bye);
	CHECK_EQ(open_with(&f, &hc, 0), HC_OK);
	CHECK_EQ(hc_health(hc), 0);
	shm_store32_rlx(&f.ctl->eng_word, 1 | SHM_FUTEX_OWNER_DIED);
	CHECK_EQ(hc_health(hc), HC_ENGINE_GONE);
	shm_store32_rlx(&f.ctl->eng_word, 2);
	shm_store_rlx(&f.ctl->state, SHM_ENGINE_ADOPTING);
	CHECK_EQ(hc_health(hc), HC_ENGINE_GONE);
	shm_store_rlx(&f.ctl->state, SHM_ENGINE_SERVING);
	shm_store32_rlx(&f.ctl->sup_word, 1 | SHM_FUTEX_OWNER_DIED);
	CHECK_EQ(hc_health(hc), HC_SUPERVISOR_GONE);
	CHECK_EQ(hc_health(NULL), HC_E_INVAL);
	hc_close(hc);
	fake_join(&f);
	fake_fini(&f);
}

/* ------------------------------------------------------------------ no daemon, or another */

TEST(nobody_listens)
{
	struct fake f;
	struct hc *hc = (struct hc *)&f;
	struct hc_open_opts o = HC_OPTS(hc_open_opts);

	fake_init(&f);
	fake_unlisten(&f);
	CHECK_EQ(open_with(&f, &hc, 0), HC_E_NO_DAEMON);
	CHECK(hc == NULL);
	FILE *file = fopen(f.path, "we"); /* a file, but no socket */
	CHECK(file);
	CHECK_EQ(fclose(file), 0);
	CHECK_EQ(open_with(&f, &hc, 0), HC_E_NO_DAEMON);
	o.socket = t_path("socket/below-a-file");
	CHECK_EQ(hc_open(&hc, &o), HC_E_NO_DAEMON);
	CHECK_EQ(setenv("HYPERCACHE_SOCKET", t_path("nothing"), 1), 0);
	CHECK_EQ(hc_open(&hc, NULL), HC_E_NO_DAEMON);
	fake_fini(&f);
}

TEST(the_environment_names_the_socket)
{
	struct fake f;
	struct hc *hc;

	fake_init(&f);
	CHECK_EQ(setenv("HYPERCACHE_SOCKET", f.path, 1), 0);
	fake_run(&f, open_and_bye);
	CHECK_EQ(hc_open(&hc, NULL), HC_OK);
	hc_close(hc);
	fake_join(&f);
	fake_fini(&f);
}

TEST(arguments_out_of_range)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	char long_path[200];
	struct hc *hc;
	struct {
		struct hc_open_opts known;
		uint64_t later;
	} newer = {.known = {.size = sizeof newer}};
	struct fake f;

	fake_init(&f);
	CHECK_EQ(hc_open(NULL, &o), HC_E_INVAL);
	memset(long_path, 'p', sizeof long_path - 1);
	long_path[sizeof long_path - 1] = 0;
	o.socket = long_path;
	CHECK_EQ(hc_open(&hc, &o), HC_E_INVAL);
	o.socket = f.path;
	o.stale = 2;
	CHECK_EQ(hc_open(&hc, &o), HC_E_INVAL);
	o.stale = 0;
	o.spin_us = HC_SPIN_US_MAX + 1;
	CHECK_EQ(hc_open(&hc, &o), HC_E_INVAL);
	o.spin_us = 0;
	o.size = 4;
	CHECK_EQ(hc_open(&hc, &o), HC_E_INVAL);
	newer.known.socket = f.path;
	newer.later = 1; /* an option that this library does not know */
	CHECK_EQ(hc_open(&hc, &newer.known), HC_E_INVAL);
	newer.later = 0;
	fake_run(&f, open_and_bye);
	CHECK_EQ(hc_open(&hc, &newer.known), HC_OK);
	hc_close(hc);
	fake_join(&f);
	fake_fini(&f);
}

static void refuse(struct fake *f)
{
	fake_hello_get(f);
	CHECK(fake_put(f, &f->hello));
	fake_drop(f);
}

TEST(a_refusal_has_its_reason)
{
	const struct {
		int status, r;
	} cases[] = {{HC_E_VERSION, HC_E_VERSION}, {HC_E_REFUSED, HC_E_REFUSED},
		{HC_E_DENIED, HC_E_DENIED}, {HC_E_STALE, HC_E_PROTOCOL}, {HC_E_FULL, HC_E_PROTOCOL},
		{HC_E_PROTOCOL, HC_E_PROTOCOL}, {HC_MISS, HC_E_PROTOCOL}};
	struct fake f;
	struct hc *hc;

	fake_init(&f);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		f.hello = (struct wire_answer){.verb = WIRE_HELLO, .status = cases[i].status};
		fake_run(&f, refuse);
		CHECK_EQ(open_with(&f, &hc, 0), cases[i].r);
		CHECK(hc == NULL);
		fake_join(&f);
	}
	fake_fini(&f);
}

static void answer_garbage(struct fake *f)
{
	static const char *const bytes[] = {"\x00\x00\x00\x00", "\xff\xff\xff\xff",
		"\x01\x00\x00\x00\xc1", "\x03\x00\x00\x00\x93\x01\x00\x00"};

	fake_hello_get(f);
	const char *b = bytes[f->seed];
	CHECK(fake_send(f, b, f->seed < 2 ? 4 : f->seed == 2 ? 5 : 7, NULL, 0));
	fake_drop(f);
}

TEST(garbage_for_an_answer)
{
	struct fake f;
	struct hc *hc;

	fake_init(&f);
	for (f.seed = 0; f.seed < 3; f.seed++) {
		fake_run(&f, answer_garbage);
		CHECK_EQ(open_with(&f, &hc, 0), HC_E_PROTOCOL);
		fake_join(&f);
	}
	fake_fini(&f);
}

static void answer_other(struct fake *f)
{
	fake_open(f);
	(void)fake_more(f);
}

TEST(an_answer_that_is_none_to_hello)
{
	struct fake f;
	struct hc *hc;
	const struct wire_answer good = (fake_init(&f), f.hello);

	for (int i = 0; i < 6; i++) {
		f.hello = good;
		switch (i) {
		case 0:
			f.hello.request = 1;
			break;
		case 1:
			f.hello.max_inflight = 0;
			break;
		case 2:
			f.hello.max_frame = 0;
			break;
		case 3:
			f.hello.resumed = 1;
			break;
		case 4:
			f.hello.n_fds = 2;
			break;
		case 5:
			f.hello.verb = WIRE_PING;
			break;
		}
		fake_run(&f, answer_other);
		CHECK_EQ(open_with(&f, &hc, 0), HC_E_PROTOCOL);
		fake_join(&f);
	}
	fake_fini(&f);
}

static void answer_in_part(struct fake *f)
{
	struct wire_buf b = fake_hello_bytes(f);
	const int fds[FAKE_FDS] = {f->control_fd, f->pool_fd, f->seg_fd};

	for (size_t n = 0; n < b.end; n++) {
		fake_hello_get(f);
		if (n)
			CHECK(fake_send(f, b.bytes, n, fds, n % 2 ? FAKE_FDS : 1));
		fake_drop(f);
		if (n % 8 == 7) {
			open_and_bye(f);
			n++;
		}
	}
	open_and_bye(f);
	wire_buf_fini(&b);
}

/* Engines may die before, in and after each byte of the answer: the next one is asked. */
TEST(half_an_answer_is_asked_again)
{
	struct fake f;
	struct hc *hc;

	fake_init(&f);
	fake_run(&f, answer_in_part);
	struct wire_buf b = fake_hello_bytes(&f);
	for (size_t n = 0; n < b.end; n++)
		if (n % 8 == 7) {
			CHECK_EQ(open_with(&f, &hc, FAKE_WAIT_MS), HC_OK);
			hc_close(hc);
			n++;
		}
	wire_buf_fini(&b);
	CHECK_EQ(open_with(&f, &hc, FAKE_WAIT_MS), HC_OK);
	hc_close(hc);
	fake_join(&f);
	fake_fini(&f);
}

static void never_answer(struct fake *f)
{
	fake_hello_get(f);
	while (fake_more(f))
		;
}

TEST(an_engine_that_never_answers)
{
	struct fake f;
	struct hc *hc;

	fake_init(&f);
	uint64_t begin_ns = t_now_ns();
	fake_run(&f, never_answer);
	CHECK_EQ(open_with(&f, &hc, 150), HC_E_TIMEOUT);
	CHECK(t_now_ns() - begin_ns >= 150 * 1000000ull);
	fake_join(&f);
	fake_fini(&f);
}

static void open_and_no_bye(struct fake *f)
{
	fake_open(f);
	while (fake_more(f))
		;
}

TEST(a_goodbye_is_not_waited_for_long)
{
	struct fake f;
	struct hc *hc;

	fake_init(&f);
	fake_run(&f, open_and_no_bye);
	CHECK_EQ(open_with(&f, &hc, 0), HC_OK);
	uint64_t begin_ns = t_now_ns();
	hc_close(hc);
	CHECK(t_now_ns() - begin_ns < (uint64_t)t_limit_ms(3000) * 1000000);
	fake_join(&f);
	fake_fini(&f);
}

/* ------------------------------------------------------------------ segments */

/* One word of a segment or of the answer to HELLO that is not as it should be. */
struct damage {
	enum { CTL, POOL, SEG, HELLO } where;
	size_t off, bytes;
	uint64_t v;
	int r; /* what hc_open has to answer; 0: the next one belongs to it */
};
#define DAMAGE(where, type, field, val, result) \
	{ \
		where, offsetof(struct type, field), sizeof(((struct type *)0)->field), val, \
			result \
	}

static const struct damage damages[] = {
	DAMAGE(CTL, shm_control, seg.magic, 0, HC_E_PROTOCOL),
	DAMAGE(CTL, shm_control, seg.byte_order, 0x04030201, HC_E_PROTOCOL),
	DAMAGE(CTL, shm_control, seg.major, SHM_LAYOUT_MAJOR + 1, HC_E_VERSION),
	DAMAGE(CTL, shm_control, seg.kind, SHM_KIND_JOURNAL, HC_E_PROTOCOL),
	DAMAGE(CTL, shm_control, seg.total_bytes, sizeof(struct shm_control) + 1, HC_E_PROTOCOL),
	DAMAGE(CTL, shm_control, pool[2].id, 0, HC_E_PROTOCOL),
	DAMAGE(CTL, shm_control, pool[2].n_regions, 0, HC_E_PROTOCOL),
	DAMAGE(CTL, shm_control, pool[2].reserve_bytes, 0, HC_E_PROTOCOL),
	DAMAGE(CTL, shm_control, pool[2].reserve_bytes, FAKE_POOL_BYTES - 1, HC_E_PROTOCOL),
	DAMAGE(CTL, shm_control, pool[2].reserve_bytes, UINT64_MAX, HC_E_PROTOCOL),
	DAMAGE(CTL, shm_control, pool[2].region[0].base_off, 4096, HC_E_PROTOCOL),
	DAMAGE(CTL, shm_control, pool[2].region[0].bytes, FAKE_POOL_BYTES + 4096, HC_E_PROTOCOL),
	DAMAGE(POOL, shm_pool, seg.magic, SHM_MAGIC + 1, HC_E_PROTOCOL),
	DAMAGE(POOL, shm_pool, seg.major, SHM_LAYOUT_MAJOR + 1, HC_E_VERSION),
	DAMAGE(POOL, shm_pool, seg.kind, SHM_KIND_CLIENT, HC_E_PROTOCOL),
	DAMAGE(POOL, shm_pool, seg.total_bytes, FAKE_POOL_BYTES - 4096, HC_E_PROTOCOL),
	DAMAGE(POOL, shm_pool, seg.daemon_id, FAKE_DAEMON + 1, HC_E_PROTOCOL),
	DAMAGE(POOL, shm_pool, seg.instance, 2 << 8 | 1, HC_E_PROTOCOL),
	DAMAGE(SEG, shm_client, seg.magic, 0, HC_E_PROTOCOL),
	DAMAGE(SEG, shm_client, seg.major, SHM_LAYOUT_MAJOR + 1, HC_E_VERSION),
	DAMAGE(SEG, shm_client, seg.kind, SHM_KIND_POOL, HC_E_PROTOCOL),
	DAMAGE(SEG, shm_client, seg.daemon_id, FAKE_DAEMON + 1, HC_E_PROTOCOL),
	DAMAGE(SEG, shm_client, seg.instance, FAKE_SLOT + 1, HC_E_PROTOCOL),
	DAMAGE(SEG, shm_client, session_id, FAKE_SESSION + 1, HC_E_PROTOCOL),
	DAMAGE(SEG, shm_client, n_blocks, 0, HC_E_PROTOCOL),
	DAMAGE(SEG, shm_client, n_blocks, FAKE_BLOCKS + 1, HC_E_PROTOCOL),
	DAMAGE(SEG, shm_client, n_blocks, SHM_BLOCKS_MAX + 1, HC_E_PROTOCOL),
	DAMAGE(HELLO, wire_answer, fd[0].kind, SHM_KIND_JOURNAL, HC_E_PROTOCOL),
	DAMAGE(HELLO, wire_answer, fd[0].kind, SHM_KIND_CLIENT, HC_E_PROTOCOL),
	DAMAGE(HELLO, wire_answer, fd[2].kind, SHM_KIND_CONTROL, HC_E_PROTOCOL),
	DAMAGE(HELLO, wire_answer, fd[1].kind, 0, HC_E_PROTOCOL),
	DAMAGE(HELLO, wire_answer, fd[1].pool_idx, SHM_POOLS_MAX, HC_E_PROTOCOL),
	DAMAGE(HELLO, wire_answer, fd[1].region_idx, 1, HC_E_PROTOCOL),
	DAMAGE(HELLO, wire_answer, fd[1].region_idx, SHM_REGIONS_MAX, HC_E_PROTOCOL),
	DAMAGE(HELLO, wire_answer, slot, FAKE_SLOT + 1, HC_E_PROTOCOL),
	DAMAGE(HELLO, wire_answer, slot, SHM_SESSIONS_MAX, HC_E_PROTOCOL),
	DAMAGE(HELLO, wire_answer, session, 0, 0),
	DAMAGE(SEG, shm_client, session_id, 0, HC_E_PROTOCOL),
	DAMAGE(HELLO, wire_answer, fd[0].kind, SHM_KIND_POOL, 0),
	DAMAGE(HELLO, wire_answer, fd[1].kind, SHM_KIND_CONTROL, HC_E_PROTOCOL),
};
enum { N_DAMAGES = sizeof damages / sizeof damages[0] };

static void damage_do(struct fake *f, const struct damage *d)
{
	uint8_t *base = d->where == CTL    ? (uint8_t *)f->ctl
	                : d->where == POOL ? (uint8_t *)f->pool
	                : d->where == SEG  ? (uint8_t *)f->seg
	                                   : (uint8_t *)&f->hello;

	memcpy(base + d->off, &d->v, d->bytes);
}

/* Address space that was set aside for the pool and not given back. */
static int count_reserved(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	char line[512], rights[8];
	unsigned long from, to;
	int n = 0;

	CHECK(f);
	while (fgets(line, sizeof line, f))
		if (sscanf(line, "%lx-%lx %7s", &from, &to, rights) == 3 &&
			strcmp(rights, "---p") == 0)
			n += to - from == 1 << 20 || to - from == (1 << 20) - FAKE_POOL_BYTES;
	CHECK_EQ(fclose(f), 0);
	return n;
}

TEST(segments_are_checked)
{
	struct fake f;
	struct hc *hc;

	for (int i = 0; i < N_DAMAGES; i++) {
		fake_init(&f);
		int fds = count_fds(), reserved = count_reserved();
		damage_do(&f, &damages[i]);
		if (damages[i].r == 0)
			damage_do(&f, &damages[++i]);
		fake_run(&f, answer_other);
		int r = open_with(&f, &hc, 0);
		if (r != damages[i].r)
			t_fail(__FILE__, __LINE__, "damage %d gives %s", i, hc_error_name(r));
		CHECK(hc == NULL);
		fake_join(&f);
		CHECK_EQ(count_fds(), fds);
		CHECK_EQ(count_reserved(), reserved);
		CHECK_EQ(count_maps("memfd:fake"), 3);
		fake_fini(&f);
	}
}

static void hand_over(struct fake *f, const int *fds, size_t n)
{
	struct wire_buf b = fake_hello_bytes(f);

	fake_hello_get(f);
	CHECK(fake_send(f, b.bytes, b.end, fds, n));
	wire_buf_fini(&b);
	(void)fake_more(f);
}

static void hand_few(struct fake *f) { hand_over(f, &f->control_fd, 1); }
static void hand_none(struct fake *f) { hand_over(f, NULL, 0); }
static void hand_many(struct fake *f)
{
	int fds[WIRE_FDS_MAX + 4];

	for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
		fds[i] = f->control_fd;
	hand_over(f, fds, sizeof fds / sizeof fds[0]);
}
static void hand_no_file(struct fake *f)
{
	int fds[FAKE_FDS] = {f->listen_fd, f->pool_fd, f->seg_fd};

	hand_over(f, fds, FAKE_FDS);
}
static void hand_short(struct fake *f)
{
	int fds[FAKE_FDS] = {f->control_fd, f->pool_fd, f->seg_fd};

	CHECK_EQ(ftruncate(f->control_fd, 8192), 0);
	hand_over(f, fds, FAKE_FDS);
}

TEST(descriptors_are_counted)
{
	void (*const scripts[])(struct fake *) = {
		hand_few, hand_none, hand_many, hand_no_file, hand_short};
	struct fake f;
	struct hc *hc;

	fake_init(&f);
	int fds = count_fds();
	for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++) {
		fake_run(&f, scripts[i]);
		CHECK_EQ(open_with(&f, &hc, 0), HC_E_PROTOCOL);
		fake_join(&f);
		CHECK_EQ(count_fds(), fds);
	}
	fake_fini(&f);
}

static void hand_too_many_for_us(struct fake *f)
{
	const int fds[FAKE_FDS] = {f->control_fd, f->pool_fd, f->seg_fd};
	struct wire_buf b = fake_hello_bytes(f);
	struct rlimit limit;

	fake_hello_get(f);
	CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = (rlim_t)f->fd + 2; /* the last that was opened: room for one more */
	CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
	CHECK(fake_send(f, b.bytes, b.end, fds, FAKE_FDS));
	wire_buf_fini(&b);
	(void)fake_more(f);
}

TEST(a_process_without_free_descriptors)
{
	struct fake f;
	struct hc *hc;

	fake_init(&f);
	fake_run(&f, hand_too_many_for_us);
	errno = 0;
	CHECK_EQ(open_with(&f, &hc, 0), HC_E_SYSTEM);
	CHECK_EQ(errno, EMFILE);
	fake_join(&f);
	fake_fini(&f);
}

/* ------------------------------------------------------------------ fork */

static void check_child(struct hc *hc, struct hc_store *s)
{
	struct hc_info info = HC_OPTS(hc_info);
	struct hc_mset_item m = {"k", 1, "v", 1, 0};
	struct hc_store *other;

	CHECK_EQ(hc_ping(hc), HC_E_FORKED);
	CHECK_EQ(hc_set(s, "k", 1, "v", 1, NULL), HC_E_FORKED);
	CHECK_EQ(hc_delete(s, "k", 1), HC_E_FORKED);
	CHECK_EQ(hc_mset(s, &m, 1, NULL), HC_E_FORKED);
	CHECK_EQ(m.result, HC_E_FORKED);
	CHECK_EQ(hc_health(hc), HC_E_FORKED);
	CHECK_EQ(hc_info(hc, &info), HC_E_FORKED);
	CHECK_EQ(hc_store(hc, "default", &other), HC_E_FORKED);
	hc_close(hc);
	CHECK_EQ(count_maps("memfd:fake"), 3); /* the test's own */
}

static void open_ping_bye(struct fake *f)
{
	fake_open(f);
	fake_expect(f, WIRE_PING, 0, 0);
	fake_bye(f);
}

TEST(a_child_has_no_session)
{
	struct fake f;
	struct hc *hc;
	struct hc_store *s;

	fake_init(&f);
	fake_run(&f, open_ping_bye);
	CHECK_EQ(open_with(&f, &hc, 0), HC_OK);
	CHECK_EQ(hc_store(hc, "default", &s), HC_OK);
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		check_child(hc, s);
		_exit(0);
	}
	CHECK_EQ(t_wait_child(pid, 10000), 0);
	CHECK_EQ(hc_ping(hc), HC_OK); /* the parent's is as it was */
	hc_close(hc);
	fake_join(&f);
	fake_fini(&f);
}
