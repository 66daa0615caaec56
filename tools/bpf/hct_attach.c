/* hct_attach.c - which files have the probes, and the programs attached to them.
 *
 * A probe is a place in a file, so a program that is attached to the file hears of every process that has it
 * mapped, those of now and those that start later.  The files are: what the clients that the daemon knows
 * have mapped for execution, what --file names, the usual places of the shared library, and the engine's own.
 * A client whose file nobody has named is found at the interval behind its start.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>
#include "../hypercache_admin.h"
#include "base/cleanup.h"
#include "hct.h"

enum { ADMIN_MS = 2000, PATH_BYTES = 4200, CALLS = 4000 };

static const char *const library_places[] = {
	HCT_LIBDIR "/libhypercache.so.0",
	"/usr/lib/x86_64-linux-gnu/libhypercache.so.0",
	"/usr/lib/aarch64-linux-gnu/libhypercache.so.0",
	"/usr/local/lib/libhypercache.so.0",
};

/* Was it looked at?  Notes it if not. */
static bool seen(struct hct *t, uint64_t dev, uint64_t ino, bool engine)
{
	for (uint32_t i = 0; i < t->n_seen; i++)
		if (t->seen[i].dev == dev && t->seen[i].ino == ino && t->seen[i].engine == engine)
			return true;
	if (t->n_seen == HCT_FILES_MAX)
		return true; /* said by hct_end() */
	t->seen[t->n_seen++] = (struct hct_seen){dev, ino, engine};
	return false;
}

/* Attaches to one file.  False: it has none of our probes. */
static bool attach_file(struct hct *t, const char *path, bool engine)
{
	struct stat st;
	uint32_t n = 0;

	if (stat(path, &st) != 0 || seen(t, st.st_dev, st.st_ino, engine))
		return false;
	for (uint32_t i = 0; i < t->n_probes && t->n_links < HCT_LINKS_MAX; i++) {
		const struct hct_probe *p = &t->probe[i];
		if (p->of_engine != engine)
			continue;
		struct bpf_link *link = bpf_program__attach_usdt(
			p->program, engine ? -1 : t->pid, path, "hypercache", p->name, NULL);
		if (!link)
			break; /* a file has all of a list, or none */
		t->link[t->n_links++] = link;
		n++;
	}
	t->n_attached += n > 0;
	return n > 0;
}

/* What a process has mapped for execution. */
static uint32_t attach_process(struct hct *t, int pid)
{
	char line[PATH_BYTES], name[64], path[PATH_BYTES + 64];
	uint32_t n = 0;

	(void)snprintf(name, sizeof name, "/proc/%d/maps", pid);
	FILE *f = fopen(name, "re");
	if (!f)
		return 0;
	while (fgets(line, sizeof line, f)) {
		char access[8], *file = strchr(line, '/');
		unsigned major_no, minor_no;
		unsigned long ino;
		if (!file ||
			sscanf(line, "%*s %7s %*s %x:%x %lu", access, &major_no, &minor_no, &ino) !=
				4 ||
			access[2] != 'x' || seen(t, makedev(major_no, minor_no), ino, false))
			continue;
		file[strcspn(file, "\n")] = 0;
		/* As the process sees it; and if that is gone or another one, as the kernel has it. */
		(void)snprintf(path, sizeof path, "/proc/%d/root%s", pid, file);
		struct stat st;
		if (stat(path, &st) != 0 || st.st_ino != ino)
			(void)snprintf(path, sizeof path, "/proc/%d/map_files/%.*s", pid,
				(int)strcspn(line, " "), line);
		if (stat(path, &st) == 0 && st.st_dev != makedev(major_no, minor_no) &&
			st.st_ino != ino)
			continue;
		t->n_seen--; /* noted by attach_file() */
		n += attach_file(t, path, false);
	}
	(void)fclose(f);
	return n;
}

static uint32_t attach_clients(struct hct *t)
{
	char why[HYPERCACHE_ADMIN_WHY_BYTES];
	struct hypercache_admin a;
	uint32_t n = 0;

	if (hypercache_admin_open(t->admin_path, ADMIN_MS, &a, why) != 0)
		return 0; /* it may be stopped; the next interval asks again */
	for (uint32_t i = 0; i < a.n_sessions; i++)
		if (a.session[i].pid > 0 && (t->pid < 0 || a.session[i].pid == t->pid))
			n += attach_process(t, a.session[i].pid);
	t->engine_pid = a.answer.engine_pid;
	hypercache_admin_close(&a);
	return n;
}

uint32_t hct_attach_new(struct hct *t)
{
	char exe[64];
	uint32_t n = attach_clients(t);

	if (t->pid > 0)
		n += attach_process(t, t->pid);
	for (uint32_t i = 0; i < t->n_file; i++)
		n += attach_file(t, t->file[i], false);
	for (size_t i = 0; t->pid < 0 && i < sizeof library_places / sizeof *library_places; i++)
		n += attach_file(t, library_places[i], false);
	if (t->engine_pid > 0) {
		(void)snprintf(exe, sizeof exe, "/proc/%d/exe", t->engine_pid);
		n += attach_file(t, exe, true);
	}
	return n;
}

void hct_detach(struct hct *t)
{
	for (uint32_t i = 0; i < t->n_links; i++)
		bpf_link__destroy(t->link[i]);
	t->n_links = 0;
}

/* ------------------------------------------------------------------ what an event costs */

__attribute__((noinline)) static void trapped(void)
{
	__asm__ volatile("nop"); /* bare: an instruction */
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Where in our file trapped() stands; 0: unknown. */
static size_t offset_of_trapped(void)
{
	uint64_t at = (uint64_t)(uintptr_t)trapped, begin, end, off, found = 0;
	char line[PATH_BYTES];
	FILE *f = fopen("/proc/self/maps", "re");

	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "%lx-%lx %*s %lx", &begin, &end, &off) == 3 && at >= begin &&
			at < end)
			found = at - begin + off;
	if (f)
		(void)fclose(f);
	return found;
}

uint64_t hct_calibrate_ns(struct bpf_object *object)
{
	struct bpf_program *program = bpf_object__find_program_by_name(object, "hct_calibrate");
	size_t off = offset_of_trapped();
	struct bpf_link *link = program && off ? bpf_program__attach_uprobe(program, false,
							 getpid(), "/proc/self/exe", off)
	                                       : NULL;

	if (!link)
		return 0;
	trapped();
	uint64_t began_ns = now_ns();
	for (int i = 0; i < CALLS; i++)
		trapped();
	uint64_t ns = (now_ns() - began_ns) / CALLS;
	bpf_link__destroy(link);
	return ns;
}
