/* checkpoint_main.c - the process that writes a checkpoint: see checkpoint.h. */
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "archive/archive.h"
#include "archive/archive_file.h"
#include "archive/archive_scan.h"
#include "base/cleanup.h"
#include "checkpoint.h"
#include "hypercache.h"
#include "step.h"

enum {
	ARG_SOCKET = 2,
	ARG_FOLDER,
	ARG_RESULT,
	ARG_LOG,
	ARG_STORES, /* and further ones */
	OPEN_MS = 10000,
	NICE = 19,
	IOPRIO_WHO_PROCESS = 1,
	IOPRIO_LAST = 2 << 13 | 7, /* best effort, behind all others; linux/ioprio.h */
};
#define SYNC_BYTES (UINT64_C(32) << 20) /* so that the last sync, and others' between, are short */

DEFINE_CLEANUP(struct archive_writer *, archive_writer_free)

static int fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

static int fail(const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof text, format, args);
	va_end(args);
	fprintf(stderr, "checkpoint: %s\n", text);
	return EXIT_FAILURE;
}

/* Whoever serves comes first. */
static void be_nice(void)
{
	struct sched_param none = {0};

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)sched_setscheduler(0, SCHED_BATCH, &none);
	(void)setpriority(PRIO_PROCESS, 0, NICE);
	(void)syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_LAST);
}

static bool number(const char *text, uint64_t *ret)
{
	char *end;

	errno = 0;
	*ret = strtoull(text, &end, 10);
	return errno == 0 && end != text && *end == 0;
}

static bool log_id_parse(const char *text, uint8_t to[16])
{
	if (strlen(text) != 32 || strspn(text, "0123456789abcdef") != 32)
		return false;
	for (int i = 0; i < 16; i++) {
		char byte[3] = {text[2 * i], text[2 * i + 1], 0};
		to[i] = (uint8_t)strtoul(byte, NULL, 16);
	}
	return true;
}

/* What is to be written. */
struct job {
	uint64_t folder, result;
	struct archive_head head;
	struct archive_store store[ARCHIVE_STORES_MAX];
	struct hc_store *handle[ARCHIVE_STORES_MAX];
	uint32_t n_stores;
	struct hc *hc;
	struct checkpoint_result done;
};

/* NAME:ID:AS.  False: it is none. */
static bool word_parse(
	const char *word, char name[ARCHIVE_NAME_MAX + 1], uint64_t *ret_id, uint64_t *ret_as)
{
	char id[32];
	int behind = 0;

	return sscanf(word, "%31[^:]:%31[0-9]:%n", name, id, &behind) == 2 && behind &&
	       number(id, ret_id) && number(word + behind, ret_as);
}

/* The store that an argument names, if it is still that one.  True, or why not was said. */
static bool store_add(struct job *j, const char *word)
{
	struct hc_store_info info = HC_OPTS(hc_store_info);
	struct archive_store *s = &j->store[j->n_stores];
	char name[ARCHIVE_NAME_MAX + 1];
	uint32_t cursor = 0;
	uint64_t id, as;

	if (j->n_stores == ARCHIVE_STORES_MAX || !word_parse(word, name, &id, &as)) {
		(void)fail("\"%s\" is no NAME:ID:AS", word);
		return false;
	}
	while (hc_store_next(j->hc, &cursor, &info) == HC_OK) {
		if (info.id != id || strcmp(info.name, name) != 0)
			continue;
		int r = hc_store(j->hc, info.name, &j->handle[j->n_stores]);
		if (r == HC_E_NO_STORE)
			return true;
		if (r != HC_OK) {
			(void)fail("store %s: %s", info.name, hc_strerror(r));
			return false;
		}
		*s = (struct archive_store){.idx = j->n_stores, .id = as};
		(void)snprintf(s->name, sizeof s->name, "%s", name);
		(void)snprintf(s->definition, sizeof s->definition, "type=%s\npool=%s\n", info.type,
			info.pool);
		j->n_stores++;
		return true;
	}
	return true; /* it was dropped */
}

static int session_begin(struct job *j, const char *socket)
{
	struct hc_open_opts o = HC_OPTS(hc_open_opts);
	struct hc_info info = HC_OPTS(hc_info);

	o.socket = socket;
	o.name = "checkpoint";
	o.timeout_ms = OPEN_MS;
	o.stale = HC_STALE_FAIL;
	int r = hc_open(&j->hc, &o);
	if (r == HC_OK)
		r = hc_info(j->hc, &info);
	if (r != HC_OK)
		return fail("no session: %s", hc_strerror(r));
	/* That of the last mutation may be taken, and its entry not yet in its slot. */
	j->head.begin_lsn = info.lsn ? info.lsn - !MUTANT(727)
	                             : 0; /* 727: it counts as published */
	return 0;
}

static int stores_write(struct job *j, struct archive_writer *w)
{
	for (uint32_t i = 0; i < j->n_stores; i++) {
		struct archive_scan s = {.store = j->handle[i], .idx = i};
		int r = archive_scan(w, &s);
		if (r < 0)
			return fail("cannot write it: %s", strerror(-r));
		if (r == ARCHIVE_SCAN_LIBRARY && s.hc != HC_E_NO_STORE)
			return fail("store %s: %s", j->store[i].name, hc_strerror(s.hc));
		STEP("checkpoint:store-scanned");
	}
	return 0;
}

static int archive_write(struct job *j, int fd)
{
	_cleanup_(archive_writer_freep) struct archive_writer *w = NULL;
	const struct archive_writer_opts opts = {.sync_bytes = SYNC_BYTES};
	struct archive_end end;
	int r = archive_writer_new(&w, fd, &j->head, j->store, j->n_stores, &opts);

	if (r < 0)
		return fail("cannot write it: %s", strerror(-r));
	int status = stores_write(j, w);
	if (status)
		return status;
	r = archive_finish(w, &end);
	if (r < 0)
		return fail("cannot write it: %s", strerror(-r));
	j->done.end_lsn = end.end_lsn;
	j->done.n_entries = end.n_entries;
	j->done.bytes = archive_writer_bytes(w);
	return 0;
}

static int file_write(struct job *j)
{
	struct archive_file file;
	int r = archive_file_begin(&file, (int)j->folder, CHECKPOINT_NEW, 0600);

	if (r < 0)
		return fail("no file in the data folder: %s", strerror(-r));
	int status = archive_write(j, file.fd);
	if (status == 0 && (r = archive_file_commit(&file)) < 0)
		status = fail("cannot write it: %s", strerror(-r));
	archive_file_end(&file);
	return status;
}

static uint64_t now_ns(void)
{
	struct timespec t = {0};

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int checkpoint_main(int argc, char **argv)
{
	_cleanup_free_ struct job *j = calloc(1, sizeof *j);
	uint64_t began_ns = now_ns();

	if (!j)
		return fail("no memory");
	if (argc < ARG_STORES || !number(argv[ARG_FOLDER], &j->folder) ||
		!number(argv[ARG_RESULT], &j->result) ||
		!log_id_parse(argv[ARG_LOG], j->head.log_id))
		return fail("this is for the supervisor alone");
	be_nice();
	j->head.flags = ARCHIVE_CHECKPOINT;
	int status = session_begin(j, argv[ARG_SOCKET]);
	for (int i = ARG_STORES; status == 0 && i < argc; i++)
		status = store_add(j, argv[i]) ? 0 : EXIT_FAILURE;
	if (status == 0)
		status = file_write(j);
	hc_close(j->hc);
	if (status)
		return status;
	j->done.begin_lsn = j->head.begin_lsn;
	j->done.took_ns = now_ns() - began_ns;
	if (write((int)j->result, &j->done, sizeof j->done) != (ssize_t)sizeof j->done)
		return fail("nobody takes the result: %s", strerror(errno));
	return EXIT_SUCCESS;
}
