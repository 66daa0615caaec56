/* unit_segment.c - what the supervisor makes before anybody runs: memfds, their backing and the words
 * about it, the first bytes of the segments, and the word that says who lives.
 *
 * Machines that this one is not are described by a struct sup_host. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "../../daemon/sup_control.h"
#include "../../daemon/sup_life.h"
#include "../../daemon/sup_segment.h"
#include "../kit/t.h"
#include "atomic.h"
#include "hypercache.h"

enum { MIB = 1 << 20, SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL };

static const uint64_t none[SUP_HUGE_N];

/* A machine with memory, without huge pages of any kind. */
static struct sup_host plain_host(void)
{
	return (struct sup_host){
		.huge = {[SUP_HUGE_2M] = {.exists = true}, [SUP_HUGE_1G] = {.exists = true}},
		.shmem = SUP_SHMEM_NEVER,
		.available_bytes = UINT64_C(8) << 30,
		.cgroup_limit_bytes = UINT64_MAX};
}

static struct config_pool pool_of(uint64_t bytes, enum config_huge_pages huge)
{
	struct config c;

	config_defaults(&c);
	c.pool[0].size_bytes = bytes;
	c.pool[0].huge_pages = huge;
	return c.pool[0];
}

/* All memory is there, and the size stays as it is. */
static void check_whole(const struct sup_segment *s)
{
	struct stat st;

	CHECK_EQ(fstat(s->fd, &st), 0);
	CHECK_EQ((uint64_t)st.st_size, s->bytes);
	CHECK_EQ((uint64_t)st.st_blocks * 512, s->bytes);
	CHECK_EQ(st.st_mode & 0777, 0600);
	CHECK_EQ(fcntl(s->fd, F_GET_SEALS) & (SEALS | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE),
		F_SEAL_SHRINK | F_SEAL_GROW);
	CHECK(!sup_segment_is_closed(s));
	CHECK_EQ(sup_segment_seal(s), 0);
	CHECK_EQ(fcntl(s->fd, F_GET_SEALS) & (SEALS | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE), SEALS);
	CHECK_EQ(fcntl(s->fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), -1);
	CHECK_EQ(ftruncate(s->fd, 0), -1);
	CHECK_EQ(ftruncate(s->fd, (off_t)s->bytes * 2), -1);
}

TEST(a_segment_has_all_its_memory_and_keeps_its_size)
{
	struct sup_host host = plain_host();
	struct sup_segment s;
	char why[SUP_WHY_BYTES];

	CHECK_EQ(sup_segment_new("t", 3 * MIB + 1, &host, &s, why), 0);
	CHECK(s.bytes >= 3 * MIB + 1 && s.bytes % (uint64_t)sysconf(_SC_PAGESIZE) == 0);
	CHECK_EQ(s.backing, (uint32_t)SHM_BACK_BASE);
	check_whole(&s);
	sup_segment_close(&s);
	CHECK_EQ(s.fd, -1);
	sup_segment_close(&s);
}

TEST(what_was_reopened_cannot_be_written)
{
	struct sup_host host = plain_host();
	struct sup_segment s;
	char why[SUP_WHY_BYTES];

	CHECK_EQ(sup_segment_new("t", MIB, &host, &s, why), 0);
	int fd = sup_segment_reopen(s.fd);
	CHECK(fd >= 0);
	CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
	CHECK_EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	CHECK(mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
	void *p = mmap(NULL, MIB, PROT_READ, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED);
	CHECK_EQ(mprotect(p, MIB, PROT_READ | PROT_WRITE), -1);
	CHECK_EQ(munmap(p, MIB), 0);
	CHECK_EQ(write(fd, "x", 1), -1);
	close(fd);
	sup_segment_close(&s);
}

TEST(too_little_memory_is_refused_in_words)
{
	struct config_pool p = pool_of(64 * MIB, CONFIG_HUGE_TRY);
	struct sup_host host = plain_host();
	struct sup_segment s = {.fd = -1};
	char why[SUP_WHY_BYTES];

	host.available_bytes = 70 * MIB;
	CHECK_EQ(sup_segment_pool_new(&p, &host, none, &s, why), -ENOMEM);
	CHECK(strstr(why, "64 MiB are needed") && strstr(why, "only 70 MiB"));
	CHECK(strstr(why, "make `size` smaller"));
	host = plain_host();
	host.cgroup_limit_bytes = 32 * MIB;
	CHECK_EQ(sup_segment_pool_new(&p, &host, none, &s, why), -ENOMEM);
	CHECK(strstr(why, "memory.max") && strstr(why, "only 32 MiB"));
	CHECK_EQ(sup_segment_new("t", 64 * MIB, &host, &s, why), -ENOMEM);
	CHECK_EQ(s.fd, -1);
}

TEST(off_means_base_pages)
{
	struct config_pool p = pool_of(4 * MIB + 1, CONFIG_HUGE_OFF);
	struct sup_host host = plain_host();
	struct sup_segment s;
	char why[SUP_WHY_BYTES];

	host.shmem = SUP_SHMEM_ALWAYS;
	host.huge[SUP_HUGE_2M].n_usable = 1000;
	CHECK_EQ(sup_segment_pool_new(&p, &host, none, &s, why), 0);
	CHECK_EQ(s.backing, (uint32_t)SHM_BACK_BASE);
	CHECK_EQ(s.bytes, 6 * (uint64_t)MIB);
	CHECK(strstr(s.why, "base pages of ") && strstr(s.why, "because huge_pages is off"));
	check_whole(&s);
	sup_segment_close(&s);
}

TEST(on_without_huge_pages_is_refused_with_the_command_to_run)
{
	const uint64_t wanted[SUP_HUGE_N] = {[SUP_HUGE_2M] = 40};
	struct config_pool p = pool_of(64 * MIB, CONFIG_HUGE_ON);
	struct sup_host host = plain_host();
	struct sup_segment s = {.fd = -1};
	char why[SUP_WHY_BYTES];

	host.huge[SUP_HUGE_2M].n_total = 100; /* 93 of them others have */
	host.huge[SUP_HUGE_2M].n_usable = 7;
	CHECK_EQ(sup_segment_pool_new(&p, &host, wanted, &s, why), -ENOMEM);
	CHECK(strstr(why, "32 huge pages of 2 MiB are needed and 7 are free"));
	CHECK(strstr(
		why, "run `sysctl vm.nr_hugepages=133`")); /* 100 + 40 - 7: the next pool's too */
	CHECK(strstr(why, "huge_pages: try"));
	host.huge[SUP_HUGE_2M].exists = false;
	CHECK_EQ(sup_segment_pool_new(&p, &host, wanted, &s, why), -EOPNOTSUPP);
	CHECK(strstr(why, "no huge pages of 2 MiB"));
	p.huge_page_size = CONFIG_HUGE_1GIB;
	CHECK_EQ(sup_segment_pool_new(&p, &host, (uint64_t[]){0, 1}, &s, why), -ENOMEM);
	CHECK(strstr(why, "hugepages-1048576kB/nr_hugepages"));
	CHECK_EQ(s.fd, -1);
}

TEST(pages_that_somebody_else_took_meanwhile_are_an_error_too)
{
	struct config_pool p = pool_of(MIB, CONFIG_HUGE_ON);
	struct sup_host host, real;
	struct sup_segment s = {.fd = -1};
	char why[SUP_WHY_BYTES];

	sup_host_read(&real);
	host = plain_host();
	p.huge_page_size = CONFIG_HUGE_1GIB;
	p.size_bytes = (real.huge[SUP_HUGE_1G].n_usable + 1) << 30;
	host.huge[SUP_HUGE_1G] = (struct sup_huge){.exists = true, .n_usable = UINT32_MAX};
	CHECK(sup_segment_pool_new(&p, &host, none, &s, why) < 0);
	CHECK(strstr(why, ", but ") && strstr(why, " failed: "));
	CHECK_EQ(s.fd, -1);
}

TEST(try_falls_to_base_pages_and_says_why)
{
	struct config_pool p = pool_of(8 * MIB, CONFIG_HUGE_TRY);
	struct sup_host host = plain_host();
	struct sup_segment s;
	char why[SUP_WHY_BYTES];

	CHECK_EQ(sup_segment_pool_new(&p, &host, (uint64_t[]){4, 0}, &s, why), 0);
	CHECK_EQ(s.backing, (uint32_t)SHM_BACK_BASE);
	CHECK(strstr(s.why, "4 huge pages of 2 MiB are needed and 0 are free"));
	CHECK(strstr(s.why, "shmem_enabled is never, so madvise does nothing"));
	CHECK(strstr(s.why, "better: sysctl vm.nr_hugepages=4, or echo advise >/sys/"));
	check_whole(&s);
	sup_segment_close(&s);

	/* The longest of these sentences still has its end. */
	p.huge_page_size = CONFIG_HUGE_1GIB;
	host.huge[SUP_HUGE_2M].n_total = host.huge[SUP_HUGE_1G].n_total = UINT32_MAX;
	CHECK_EQ(sup_segment_pool_new(&p, &host, (uint64_t[]){4, 1}, &s, why), 0);
	CHECK(strlen(s.why) > 300);
	CHECK_STR(s.why + strlen(s.why) - strlen("then restart"), "then restart");
	CHECK_EQ(s.bytes, 8 * (uint64_t)MIB); /* not rounded to pages that it did not get */
	sup_segment_close(&s);
}

TEST(transparent_pages_are_claimed_only_where_they_are)
{
	struct config_pool p = pool_of(16 * MIB, CONFIG_HUGE_TRY);
	struct sup_host host = plain_host(), real;
	struct sup_segment s;
	char why[SUP_WHY_BYTES];

	sup_host_read(&real);
	host.shmem = SUP_SHMEM_ADVISE;
	CHECK_EQ(sup_segment_pool_new(&p, &host, none, &s, why), 0);
	check_whole(&s);
	if (real.shmem == SUP_SHMEM_NEVER)
		CHECK_EQ(s.backing, (uint32_t)SHM_BACK_BASE);
	if (s.backing == SHM_BACK_THP)
		CHECK(strstr(s.why, "transparent huge pages for ") && strstr(s.why, "of 16 MiB"));
	else
		CHECK(strstr(s.why, "the kernel found no transparent ones"));
	sup_segment_close(&s);
}

/* KernelPageSize of the mapping at p, KiB. */
static unsigned long kernel_page_kib(const void *p)
{
	char line[512], begin[32];
	unsigned long kib = 0;
	bool inside = false;
	FILE *f = fopen("/proc/self/smaps", "re");

	CHECK(f != NULL);
	(void)snprintf(begin, sizeof begin, "%lx-", (unsigned long)(uintptr_t)p);
	while (fgets(line, sizeof line, f) && kib == 0) {
		if (!inside)
			inside = strncmp(line, begin, strlen(begin)) == 0;
		else
			(void)sscanf(line, "KernelPageSize: %lu kB", &kib);
	}
	fclose(f);
	return kib;
}

TEST(huge_pages_are_taken_where_there_are_some)
{
	struct config_pool p = pool_of(5 * MIB, CONFIG_HUGE_ON);
	struct sup_host host;
	struct sup_segment s;
	char why[SUP_WHY_BYTES];
	uint64_t bytes;
	void *map;

	sup_host_read(&host);
	if (host.huge[SUP_HUGE_2M].n_usable < 3)
		SKIP("no three free huge pages of 2 MiB");
	CHECK_EQ(sup_segment_pool_new(&p, &host, none, &s, why), 0);
	CHECK_EQ(s.backing, (uint32_t)SHM_BACK_HUGE_2M);
	CHECK_EQ(s.bytes, 6 * (uint64_t)MIB);
	CHECK_STR(s.why, "huge pages of 2 MiB, 3 of them");
	check_whole(&s);
	CHECK_EQ(sup_segment_map(&s, 1, &map, &bytes), 0);
	CHECK_EQ(bytes, 2 * (uint64_t)MIB);
	memset(map, 1, bytes);
	CHECK_EQ(kernel_page_kib(map), 2048);
	CHECK_EQ(munmap(map, bytes), 0);
	sup_segment_close(&s);
}

/* ---------------------------------------------------------------- first bytes */

/* A control segment in private memory, formatted for two pools and three stores. */
static struct shm_control *format(struct sup_segment *ret_self)
{
	static const struct sup_segment pool[2][SHM_REGIONS_MAX] = {
		{{.bytes = 64 * MIB, .backing = SHM_BACK_THP, .why = "first"}},
		{{.bytes = 6 * MIB, .backing = SHM_BACK_BASE, .why = "second"}}};
	static const char yaml[] =
		"max_clients: 9\nthreads_per_client: 3\n"
		"pools: { a: { size: 64MiB, max_value: 1MiB }, b: { size: 5MiB } }\n"
		"stores: { x: { ttl: 3s }, y: { pool: b }, z: { pool: a } }\n";
	struct shm_control *c = aligned_alloc(
		SHM_PAGE, (sizeof *c + SHM_PAGE - 1) / SHM_PAGE * SHM_PAGE);
	char why[CONFIG_ERROR_BYTES];
	struct config config;

	CHECK(c != NULL);
	CHECK_EQ(config_parse(&config, "t", yaml, sizeof yaml - 1, why, sizeof why), 0);
	CHECK_EQ(config_resolve_for(&config, &(struct config_env){.uid = 0}, why, sizeof why), 0);
	memset(c, 0, sizeof *c);
	*ret_self = (struct sup_segment){.bytes = sizeof *c, .backing = SHM_BACK_BASE};
	CHECK_EQ(sup_control_format(c, &config, ret_self, pool), 0);
	return c;
}

TEST(the_control_segment_is_a_directory_of_everything)
{
	struct sup_segment self;
	struct shm_control *c = format(&self);

	CHECK_EQ(shm_load_acq(&c->seg.magic), (uint64_t)SHM_MAGIC);
	CHECK_EQ(c->seg.kind, (uint32_t)SHM_KIND_CONTROL);
	CHECK_EQ(c->seg.total_bytes, (uint64_t)sizeof *c);
	CHECK_EQ(c->n_sessions, 9u);
	CHECK_EQ(c->n_blocks, 3u);
	CHECK_EQ(c->version,
		(uint32_t)(HC_VERSION_MAJOR << 16 | HC_VERSION_MINOR << 8 | HC_VERSION_PATCH));
	CHECK_STR(c->pool[0].name, "a");
	CHECK_STR(c->pool[0].backing_why, "first");
	CHECK_EQ(shm_load_rlx(&c->pool[0].max_value_bytes), (uint64_t)MIB + 65536);
	CHECK(c->pool[0].reserve_bytes >= 64 * MIB);
	CHECK_EQ(shm_load32_rlx(&c->pool[1].n_regions), 1u);
	CHECK_EQ(c->pool[1].region[0].base_off, 0u);
	CHECK_EQ(c->pool[1].region[0].bytes, 6u * MIB);
	CHECK_EQ(c->pool[1].region[0].backing, (uint32_t)SHM_BACK_BASE);
	CHECK_EQ(shm_load_rlx(&c->pool[2].id), 0u);
	CHECK_STR(c->store[0].name, "x");
	CHECK_EQ(shm_load_rlx(&c->store[0].default_ttl_ns), UINT64_C(3000000000));
	CHECK_STR(c->store[0].policy, "s3-fifo");
	CHECK_EQ(c->store[1].pool_idx, 1u);
	CHECK_EQ(c->store[2].pool_idx, 0u);
	CHECK_EQ(shm_load_rlx(&c->store[3].id), 0u);
	free(c);
}

TEST(no_two_memories_share_an_id)
{
	struct sup_segment self;
	struct shm_control *c = format(&self), *d = format(&self);
	uint64_t ids[10];
	int n = 0;

	CHECK(c->seg.daemon_id && c->seg.daemon_id != d->seg.daemon_id);
	CHECK(c->hash_seed != d->hash_seed);
	for (int m = 0; m < 2; m++) {
		for (int i = 0; i < 2; i++)
			ids[n++] = shm_load_rlx(&(m ? d : c)->pool[i].id);
		for (int i = 0; i < 3; i++)
			ids[n++] = shm_load_rlx(&(m ? d : c)->store[i].id);
	}
	for (int i = 0; i < n; i++) {
		CHECK(ids[i] != 0 && ids[i] < UINT64_C(1) << 49);
		for (int j = 0; j < i; j++)
			CHECK(ids[i] != ids[j]);
	}
	free(c);
	free(d);
}

static const struct shm_counter_desc *desc_find(
	const struct shm_control *c, uint32_t scope, uint32_t index)
{
	for (int i = 0; i < SHM_DESCS_MAX && c->desc[i].scope; i++)
		if (c->desc[i].scope == scope && c->desc[i].index == index)
			return &c->desc[i];
	return NULL;
}

TEST(every_counter_is_described)
{
	static const struct {
		uint32_t scope, n;
	} scopes[] = {{SHM_SCOPE_DAEMON, SHM_DC_N}, {SHM_SCOPE_POOL, SHM_PC_N},
		{SHM_SCOPE_STORE, SHM_SC_N}, {SHM_SCOPE_BLOCK, SHM_BC_N},
		{SHM_SCOPE_HIST, SHM_HG_N}};
	struct sup_segment self;
	struct shm_control *c = format(&self);
	uint32_t total = 0;

	for (size_t s = 0; s < sizeof scopes / sizeof *scopes; s++) {
		for (uint32_t i = 0; i < scopes[s].n; i++) {
			const struct shm_counter_desc *d = desc_find(c, scopes[s].scope, i);
			CHECK(d && *d->name && *d->unit && *d->meaning);
			bool hist = scopes[s].scope == SHM_SCOPE_HIST;
			CHECK(hist ? d->kind == SHM_COUNTER_H
				   : d->kind == SHM_COUNTER_C || d->kind == SHM_COUNTER_G);
		}
		total += scopes[s].n;
	}
	CHECK_EQ(c->desc[total].scope, 0u);
	CHECK_STR(desc_find(c, SHM_SCOPE_POOL, SHM_PC_limbo_bytes)->name, "limbo_bytes");
	CHECK_EQ(desc_find(c, SHM_SCOPE_POOL, SHM_PC_limbo_bytes)->kind, SHM_COUNTER_G);
	CHECK_EQ(desc_find(c, SHM_SCOPE_STORE, SHM_SC_sets)->kind, SHM_COUNTER_C);
	free(c);
}

TEST(journal_and_pool_belong_to_their_control_segment)
{
	const struct sup_segment s = {.bytes = 10 * 4096, .backing = SHM_BACK_HUGE_2M};
	static struct shm_journal j;
	struct shm_segment pool = {0};
	struct sup_segment self;
	struct shm_control *c = format(&self);

	sup_control_journal_format(&j, c, &s);
	CHECK_EQ(shm_load_acq(&j.seg.magic), (uint64_t)SHM_MAGIC);
	CHECK_EQ(j.seg.kind, (uint32_t)SHM_KIND_JOURNAL);
	CHECK_EQ(j.seg.daemon_id, c->seg.daemon_id);
	CHECK_EQ(j.n_sessions, 9u);
	CHECK_EQ(j.frames_bytes, 0u);
	sup_control_pool_format(&pool, c, 3, 0, &s);
	CHECK_EQ(shm_load_acq(&pool.magic), (uint64_t)SHM_MAGIC);
	CHECK_EQ(pool.kind, (uint32_t)SHM_KIND_POOL);
	CHECK_EQ(pool.instance, 3u << 8);
	CHECK_EQ(pool.total_bytes, (uint64_t)s.bytes);
	CHECK_EQ(pool.backing, (uint32_t)SHM_BACK_HUGE_2M);
	CHECK_EQ(pool.daemon_id, c->seg.daemon_id);
	free(c);
}

/* ------------------------------------------------------------------ life word */

/* A page that this process sees read-only, and as written by `*ret_rw`. */
static const shm_u32 *shared_word(shm_u32 **ret_rw)
{
	int fd = memfd_create("t", MFD_CLOEXEC);

	CHECK_EQ(ftruncate(fd, 4096), 0);
	*ret_rw = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	const shm_u32 *ro = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	CHECK(*ret_rw != MAP_FAILED && ro != MAP_FAILED);
	close(fd);
	return ro;
}

/* A child that claims the word and stays until it is killed. */
static pid_t owner_start(shm_u32 *word)
{
	int ready[2];
	char byte;

	CHECK_EQ(pipe2(ready, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		if (sup_life_claim(word) != 0 || sup_life_claim(word) != 0 ||
			write(ready[1], "r", 1) != 1)
			_exit(1);
		(void)pause();
		_exit(2);
	}
	close(ready[1]);
	CHECK_EQ(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return pid;
}

TEST(a_killed_owner_is_seen_through_a_read_only_mapping)
{
	shm_u32 *rw;
	const shm_u32 *word = shared_word(&rw);

	CHECK_EQ(shm_load32_rlx(word), 0u);
	for (int i = 0; i < 2; i++) { /* the second owner takes what the first one left */
		pid_t pid = owner_start(rw);
		CHECK_EQ(shm_load32_rlx(word), (uint32_t)pid);
		CHECK_EQ(kill(pid, SIGKILL), 0);
		CHECK_EQ(WTERMSIG(t_wait_child(pid, 5000)), SIGKILL);
		CHECK(shm_load32_rlx(word) & SHM_FUTEX_OWNER_DIED);
	}
}

TEST(an_owner_that_becomes_another_program_is_dead)
{
	shm_u32 *rw;
	const shm_u32 *word = shared_word(&rw);
	pid_t pid = fork();

	if (pid == 0) {
		if (sup_life_claim(rw) != 0)
			_exit(1);
		(void)execl("/bin/true", "true", NULL);
		_exit(2);
	}
	CHECK_EQ(t_wait_child(pid, 5000), 0);
	CHECK(shm_load32_rlx(word) & SHM_FUTEX_OWNER_DIED);
}

TEST(a_forked_child_owns_nothing)
{
	shm_u32 *rw;
	const shm_u32 *word = shared_word(&rw);

	CHECK_EQ(sup_life_claim(rw), 0);
	pid_t pid = fork();
	if (pid == 0)
		_exit(0);
	CHECK_EQ(t_wait_child(pid, 5000), 0);
	CHECK_EQ(shm_load32_rlx(word), (uint32_t)getpid());
}
