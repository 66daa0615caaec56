/* eng_load.c - see eng_load.h. */
#include "eng_load.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/err.h"
#include "checkpoint.h"

enum { LOAD_ENTRIES = 32, LOAD_BEAT = 128 };

DEFINE_CLEANUP(struct archive_reader *, archive_reader_free)

static void after_of(const struct archive_entry *a, uint64_t store_id, struct eng_after *to)
{
	*to = (struct eng_after){.kind = ENG_APPLY_SET,
		.store_id = store_id,
		.lsn = a->version,
		.key = a->key,
		.key_bytes = a->key_bytes,
		.value = a->value,
		.value_bytes = a->value_bytes,
		.flags = a->flags,
		.ttl_ms = a->ttl_ms,
		.hits = a->hits,
		.stamp = a->stamp,
		.created_ns = a->created_ns,
		.modified_ns = a->modified_ns,
		.used_ns = a->used_ns,
		.expires_ns = a->expires_ns,
		.fresh_until_ns = a->fresh_until_ns,
		.took_ms = a->took_ms};
	if (a->marks & ARCHIVE_ABSENT)
		to->marks |= SHM_LENS_ABSENT;
	if (a->marks & ARCHIVE_FRESH)
		to->marks |= SHM_LENS_FRESH;
}

static int load_some(struct eng *e, const struct archive_entry *entry, uint32_t n,
	const uint64_t *store_id, struct eng_applied *to)
{
	struct eng_after after[LOAD_ENTRIES];

	for (uint32_t i = 0; i < n; i++) {
		after_of(&entry[i], store_id[entry[i].store], &after[i]);
		eng_apply_ask(e, &after[i], to);
	}
	for (uint32_t i = 0; i < n; i++) {
		int r = eng_apply(e, &after[i], to);
		if (r < 0)
			return err_fwd(r);
	}
	return 0;
}

static int load_entries(struct eng *e, struct archive_reader *r, uint64_t of,
	const uint64_t *store_id, struct eng_load *load, struct eng_applied *to)
{
	struct archive_entry entry[LOAD_ENTRIES];
	uint32_t n;
	int c;

	for (uint64_t i = 0; (c = archive_next_some(r, entry, LOAD_ENTRIES, &n)) == 0; i++) {
		c = load_some(e, entry, n, store_id, to);
		if (c < 0)
			return err_fwd(c);
		if (load->beat && i % LOAD_BEAT == 0)
			load->beat(load->arg, archive_reader_bytes(r), of);
	}
	return err_fwd(c);
}

/* The index of the pool, if all of it goes into one: no larger than for as many of its entries as fit. */
static void expect(struct eng *e, int fd, const uint64_t *store_id, uint32_t n)
{
	struct eng_pool *p = NULL;
	struct archive_end end;

	for (uint32_t i = 0; i < n; i++) {
		const struct eng_store *s = eng_store_by_id(e, store_id[i]);
		if (s && p && p != &e->pool[s->pool_idx])
			return;
		p = s ? &e->pool[s->pool_idx] : p;
	}
	if (!p || archive_peek(fd, NULL, &end) != 0 || end.n_entries == 0)
		return;
	uint64_t each = (end.key_bytes + end.value_bytes) / end.n_entries + sizeof(struct shm_item);
	uint64_t fit = p->bytes / each;
	shm_pool_expect(&p->w, end.n_entries < fit ? end.n_entries : fit);
	(void)eng_room_sweep(e); /* smaller tables */
}

static int load_from(struct eng *e, int fd, struct archive_reader *r, uint64_t of,
	struct eng_load *load, struct eng_applied *to)
{
	uint64_t store_id[ARCHIVE_STORES_MAX];
	const struct archive_store *s;
	uint32_t n;

	load->head = *archive_head_of(r);
	if (load->log_id && (load->head.flags != ARCHIVE_CHECKPOINT ||
				    memcmp(load->head.log_id, load->log_id, 16) != 0)) {
		(void)snprintf(load->why, sizeof load->why, "it is of another log");
		return ENG_LOAD_BAD;
	}
	s = archive_stores_of(r, &n);
	for (uint32_t i = 0; i < n; i++)
		store_id[i] = load->resolve ? load->resolve(load->arg, &s[i]) : s[i].id;
	expect(e, fd, store_id, n);
	int c = load_entries(e, r, of, store_id, load, to);
	if (c != ARCHIVE_END)
		return err_fwd(c);
	load->end = *archive_end_of(r);
	return 0;
}

int eng_load(struct eng *e, int fd, struct eng_load *load, struct eng_applied *to)
{
	_cleanup_(archive_reader_freep) struct archive_reader *r = NULL;
	struct stat st;

	load->why[0] = 0;
	uint64_t of = fstat(fd, &st) == 0 ? (uint64_t)st.st_size : 0;
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	int c = archive_reader_new(&r, fd);
	if (c == 0)
		c = load_from(e, fd, r, of, load, to);
	if (c <= 0)
		return err_fwd(c);
	if (!load->why[0])
		(void)snprintf(load->why, sizeof load->why, "%s", archive_fault(r));
	return ENG_LOAD_BAD;
}

/* 0, ENG_LOAD_BAD, -errno: of the one of this name. */
static int load_named(
	struct eng *e, int folder, const char *name, struct eng_load *load, struct eng_applied *to)
{
	char why[ENG_LOAD_WHY_BYTES];
	_cleanup_close_ int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		(void)snprintf(load->why, sizeof load->why, "%.63s: %.180s", name, strerror(errno));
		return ENG_LOAD_BAD;
	}
	int r = eng_load(e, fd, load, to);
	if (r == -ENOMEM)
		return err_fwd(r);
	if (r == 0)
		return 0;
	(void)snprintf(why, sizeof why, "%s", r < 0 ? strerror(-r) : load->why);
	(void)snprintf(load->why, sizeof load->why, "%.64s: %.180s", name, why);
	return ENG_LOAD_BAD;
}

int eng_load_newest(struct eng *e, int folder, struct eng_load *load, struct eng_applied *to)
{
	struct checkpoint_file files[CHECKPOINT_MAX];
	char why[ENG_LOAD_WHY_BYTES] = "";
	int n = checkpoint_list(folder, files, CHECKPOINT_MAX);

	load->n_bad = 0;
	if (n < 0)
		return err_fwd(n);
	for (int i = 0; i < n; i++) {
		int r = load_named(e, folder, files[i].name, load, to);
		if (r < 0)
			return err_fwd(r);
		if (r == 0) {
			(void)snprintf(load->name, sizeof load->name, "%.63s", files[i].name);
			memcpy(load->why, why, sizeof why);
			return 0;
		}
		load->n_bad++;
		memcpy(why, load->why, sizeof why);
		log_error("the checkpoint %s; %s", load->why,
			i + 1 < n ? "the one before it is taken" : "there is no other one");
	}
	return ENG_LOAD_NONE;
}
