/* fuzz_wal.c - can any bytes in the files of a log do harm to who reads it?
 *
 * A good log of three segments is changed by what the input says: bytes, whose sums are made right again or not, blocks that
 * are copied, files that are shorter or gone.  Then it is read with each choice.  Whatever was reported is whole; LSNs grow;
 * where nothing is wrong, each choice reads the same. */
#include <errno.h>
#include "../../daemon/wal/wal_frame.h"
#include "../../daemon/wal/wal_read.h"
#include "fuzz.h"

enum { FILES = 3, BLOCKS = 4, BYTES = BLOCKS * WAL_BLOCK, CHANGES_MAX = 64, KEY_BYTES = 5 };

static const uint8_t identity[WAL_IDENTITY_BYTES] = "fuzzed log";

struct fuzz_log {
	uint8_t *file[FILES]; /* of exactly its size */
	size_t bytes[FILES];
	uint64_t sequence, lsn;
	uint32_t crc;
};

static uint32_t put_record(uint8_t *at, uint64_t lsn)
{
	struct wal_record *r = (struct wal_record *)at;
	uint64_t value_bytes = lsn * 37 % 900;

	*r = (struct wal_record){.kind = (uint16_t)(1 + lsn % 7),
		.key_bytes = KEY_BYTES,
		.lsn = lsn,
		.value_bytes = value_bytes,
		.bytes = (uint32_t)wal_record_bytes(KEY_BYTES, value_bytes)};
	memset(r + 1, (int)lsn, r->bytes - sizeof *r);
	r->crc = wal_record_crc(r);
	return r->bytes;
}

/* Frame `block` of segment i (0..): a begin, or two records. */
static void put_frame(struct fuzz_log *l, int i, uint32_t block)
{
	uint8_t *at = l->file[i] + block * WAL_BLOCK;
	struct wal_frame *f = (struct wal_frame *)at;

	*f = (struct wal_frame){.flags = block ? 0 : WAL_FRAME_BEGINS,
		.previous = l->crc,
		.sequence = ++l->sequence,
		.durable_sequence = l->sequence - 1,
		.durable_lsn = l->lsn,
		.last_lsn = l->lsn,
		.begin_sequence = l->sequence - block,
		.bytes = WAL_SECTOR};
	if (block) {
		f->first_lsn = l->lsn + 1;
		for (; f->n_records < 2; f->n_records++)
			f->bytes += put_record(at + f->bytes, ++l->lsn);
		f->last_lsn = l->lsn;
	} else {
		struct wal_begin *b = (struct wal_begin *)(at + WAL_SECTOR);
		*b = (struct wal_begin){.magic = WAL_BEGIN_MAGIC,
			.major = WAL_FORMAT_MAJOR,
			.segment = (uint64_t)i + 1,
			.segment_bytes = BYTES,
			.before_segment = (uint64_t)i,
			.before_block = i ? BLOCKS : 0,
			.before_crc = l->crc,
			.before_sequence = l->sequence - 1,
			.before_lsn = l->lsn};
		memcpy(b->identity, identity, sizeof identity);
		f->bytes += sizeof *b;
	}
	wal_frame_seal(at, identity, (uint64_t)i + 1, block);
	l->crc = f->crc;
}

static void log_make(struct fuzz_log *l)
{
	*l = (struct fuzz_log){.lsn = 100};
	for (int i = 0; i < FILES; i++) {
		l->bytes[i] = BYTES;
		l->file[i] = calloc(1, BYTES);
		CHECK(l->file[i] != NULL);
		for (uint32_t block = 0; block < (i == FILES - 1 ? 2 : BLOCKS); block++)
			put_frame(l, i, block);
	}
}

/* Sums are made right again as far as the lengths that stand there allow. */
static void reseal(struct fuzz_log *l, int i, uint32_t block, bool records)
{
	uint8_t *at = l->file[i] + block * WAL_BLOCK;
	struct wal_frame *f = (struct wal_frame *)at;
	uint64_t room = (uint64_t)(BLOCKS - block) * WAL_BLOCK;

	f->bytes = f->bytes < WAL_SECTOR ? WAL_SECTOR : f->bytes > room ? (uint32_t)room : f->bytes;
	for (uint32_t off = WAL_SECTOR; records && off + sizeof(struct wal_record) <= f->bytes;) {
		struct wal_record *r = (struct wal_record *)(at + off);
		if (r->bytes < sizeof *r || r->bytes % 8 || r->bytes > f->bytes - off)
			break;
		r->crc = wal_record_crc(r);
		off += r->bytes;
	}
	wal_frame_seal(at, identity, (uint64_t)i + 1, block);
}

static void change(struct fuzz_log *l, struct fuzz_in *in)
{
	uint64_t what = fuzz_take(in, 1), n;
	int i = (int)(fuzz_take(in, 1) % FILES);
	uint32_t block = (uint32_t)fuzz_take(in, 1) % BLOCKS;
	size_t at = block * WAL_BLOCK + fuzz_take(in, 2) % WAL_BLOCK;

	switch (what % 6) {
	case 0: /* bytes */
	case 1: /* with the frame's sums */
	case 2: /* with those of records, too */
		n = 1 + fuzz_take(in, 1) % 8;
		for (; n > 0 && at < BYTES; n--, at++)
			l->file[i][at] = (uint8_t)fuzz_take(in, 1);
		if (what % 6)
			reseal(l, i, block, what % 6 == 2);
		break;
	case 3: /* a block of another place */
		memcpy(l->file[i] + block * WAL_BLOCK,
			l->file[fuzz_take(in, 1) % FILES] + fuzz_take(in, 1) % BLOCKS * WAL_BLOCK,
			WAL_BLOCK);
		break;
	case 4: /* nothing */
		memset(l->file[i] + block * WAL_BLOCK, 0, WAL_BLOCK);
		break;
	default: /* shorter, or gone */
		l->bytes[i] = fuzz_take(in, 1) % 2 ? at : 0;
	}
}

struct seen {
	uint64_t n, last_lsn, from_lsn, sum;
};

static int see(void *arg, const struct wal_read_record *got)
{
	struct seen *s = arg;

	CHECK(got->r->lsn > s->last_lsn && got->r->lsn >= s->from_lsn);
	s->last_lsn = got->r->lsn;
	s->n++;
	for (uint32_t i = 0; i < got->r->key_bytes; i++)
		s->sum += ((const uint8_t *)got->key)[i];
	for (uint64_t i = 0; i < got->r->value_bytes; i++)
		s->sum += ((const uint8_t *)got->value)[i];
	return 0;
}

static enum fuzz_verdict fuzz_one(const uint8_t *data, size_t bytes)
{
	struct fuzz_in in = {data, bytes};
	struct wal_file files[FILES];
	struct fuzz_log l;
	struct seen seen[3];
	size_t n_files = 0;
	bool stopped = false;

	log_make(&l);
	uint64_t from_lsn = fuzz_take(&in, 1), durable_lsn = fuzz_take(&in, 1);
	for (int i = 0; i < CHANGES_MAX && in.left > 0; i++)
		change(&l, &in);
	for (int i = 0; i < FILES; i++) {
		uint8_t *exact = malloc(l.bytes[i] ? l.bytes[i] : 1);
		CHECK(exact != NULL);
		memcpy(exact, l.file[i], l.bytes[i]);
		free(l.file[i]);
		l.file[i] = exact;
		if (l.bytes[i])
			files[n_files++] = (struct wal_file){.number = (uint64_t)i + 1,
				.fd = -1,
				.map = exact,
				.bytes = l.bytes[i]};
	}
	for (int choice = WAL_ON_DAMAGE_STOP; choice <= WAL_ON_DAMAGE_SKIP; choice++) {
		struct wal_read_result r;
		struct wal_read_opts o = {.files = files,
			.n_files = n_files,
			.identity = identity,
			.from_lsn = from_lsn,
			.durable_lsn = durable_lsn,
			.choice = (enum wal_on_damage)choice,
			.record = see,
			.arg = &seen[choice]};
		seen[choice] = (struct seen){.from_lsn = from_lsn};
		int x = wal_read(&o, &r);
		CHECK(x == 0 || (x == -EBADMSG && choice == WAL_ON_DAMAGE_STOP));
		CHECK((x < 0) == (choice == WAL_ON_DAMAGE_STOP && r.n_damages > 0));
		CHECK(r.n_records >= seen[choice].n);
		CHECK(r.end.block <= BLOCKS && r.next_number <= FILES + 1);
		stopped |= x < 0;
	}
	CHECK(seen[1].n == seen[0].n && seen[2].n >= seen[0].n);
	CHECK(stopped || seen[2].n == seen[0].n);
	for (int i = 0; i < FILES; i++)
		free(l.file[i]);
	return stopped ? FUZZ_BAD : FUZZ_GOOD;
}

FUZZ_TESTS(20000)
