/* proc_hugepages.c - is a client's mapping of a pool made of huge pages, if the daemon says so?  And can a
 * client write to it? */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "raw.h"
#include "hc_i.h"

static struct hc *client(const struct t_daemon *d)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct hc *hc;

	o.socket = d->socket;
	CHECK_EQ(hc_open(&hc, &o), HC_OK);
	return hc;
}

/* KernelPageSize of the mapping that begins at p, in KiB; 0: there is none. */
static unsigned long page_kib(const void *p)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	char line[512];
	unsigned long from, kib = 0;
	bool here = false;

	CHECK(f);
	while (!kib && fgets(line, sizeof line, f)) {
		unsigned long to;
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2 && strchr(line, '-'))
			here = from == (unsigned long)p;
		else if (here)
			(void)sscanf(line, "KernelPageSize: %lu kB", &kib);
	}
	(void)fclose(f);
	return kib;
}

static unsigned long free_huge_pages(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	char line[256];
	unsigned long n = 0;

	CHECK(f);
	while (fgets(line, sizeof line, f))
		(void)sscanf(line, "HugePages_Free: %lu", &n);
	(void)fclose(f);
	return n;
}

TEST(a_clients_mapping_has_the_huge_pages_that_the_daemon_claims)
{
	if (free_huge_pages() < 8)
		SKIP("fewer than 8 huge pages of 2 MiB are free");
	struct t_daemon *d = t_daemon_start(
		"pools:\n  main: {size: 16MiB, huge_pages: \"on\"}\n", NULL);
	struct hc_info info = HC_OPTS(hc_info);
	struct hc *hc = client(d);
	CHECK_EQ(hc_info(hc, &info), HC_OK);
	CHECK_STR(info.backing, "huge-2m");
	CHECK_EQ(page_kib(hc->pool[0].base), 2048);
	hc_close(hc);
	t_daemon_stop(d);
}

TEST(base_pages_are_called_base_pages)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct hc_info info = HC_OPTS(hc_info);
	struct hc *hc = client(d);

	CHECK_EQ(hc_info(hc, &info), HC_OK);
	CHECK_STR(info.backing, "base");
	CHECK_EQ(page_kib(hc->pool[0].base), (unsigned long)sysconf(_SC_PAGESIZE) / 1024);
	hc_close(hc);
	t_daemon_stop(d);
}

TEST(a_mapping_of_the_library_cannot_be_made_writable)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	struct hc *hc = client(d);

	CHECK(mprotect((void *)(uintptr_t)hc->pool[0].base, 4096, PROT_READ | PROT_WRITE) != 0);
	CHECK_EQ(errno, EACCES);
	CHECK(mprotect((void *)(uintptr_t)hc->ctl, 4096, PROT_READ | PROT_WRITE) != 0);
	CHECK_EQ(errno, EACCES);
	hc_close(hc);
	t_daemon_stop(d);
}

/* What of a pool's descriptor, as it comes with HELLO, can be had for writing?
 *
 *   mmap for writing                                 no
 *   mprotect of a mapping                            no
 *   opening /proc/self/fd/N for writing, another user    no
 *   the same, the daemon's own user                  yes: only `hardening: strict` stops it
 */
enum { CAN_MAP = 1, CAN_PROTECT = 2, CAN_REOPEN = 4 };

static int what_can_be_written(const struct t_daemon *d)
{
	struct raw r = raw_open(d);
	char path[64];
	int can = 0;

	CHECK_EQ(raw_hello(&r, 0).status, 0);
	CHECK(r.n_fds >= 3);
	for (int i = 0; i < r.n_fds; i++) {
		if ((fcntl(r.fd[i], F_GETFL) & O_ACCMODE) != O_RDONLY)
			continue; /* our own segment */
		void *w = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, r.fd[i], 0);
		can |= w != MAP_FAILED ? CAN_MAP : 0;
		void *m = mmap(NULL, 4096, PROT_READ, MAP_SHARED, r.fd[i], 0);
		CHECK(m != MAP_FAILED);
		can |= mprotect(m, 4096, PROT_READ | PROT_WRITE) == 0 ? CAN_PROTECT : 0;
		(void)munmap(m, 4096);
		(void)snprintf(path, sizeof path, "/proc/self/fd/%d", r.fd[i]);
		int fd = open(path, O_RDWR | O_CLOEXEC);
		can |= fd >= 0 ? CAN_REOPEN : 0;
		if (fd >= 0)
			(void)close(fd);
	}
	raw_close(&r);
	return can;
}

TEST(the_daemons_own_user_can_only_reopen_descriptors_for_writing)
{
	struct t_daemon *d = t_daemon_start(NULL, NULL);

	CHECK_EQ(what_can_be_written(d), CAN_REOPEN);
	t_daemon_stop(d);
}

TEST(another_user_can_write_nothing)
{
	if (geteuid() != 0)
		SKIP("another user needs root");
	struct t_daemon *d = t_daemon_start(NULL, NULL);
	CHECK_EQ(chmod(t_dir(), 0755), 0);
	CHECK_EQ(chmod(d->dir, 0755), 0);
	CHECK_EQ(chmod(d->socket, 0666), 0);
	pid_t pid = fork();
	if (pid == 0) {
		CHECK_EQ(setgid(65534), 0);
		CHECK_EQ(setuid(65534), 0);
		_exit(what_can_be_written(d));
	}
	int st = t_wait_child(pid, WAIT_MS);
	CHECK(WIFEXITED(st));
	CHECK_EQ(WEXITSTATUS(st), 0);
	t_daemon_stop(d);
}
