/* block_log.c - a disk that remembers: a file system in user space (FUSE) with one file, every write and every
 * flush of which goes to a log, in the order in which they came.
 *
 *   block_log BASE LOG DIR      is mounted on DIR when it returns; a process of its own goes on until it is unmounted
 *
 *   DIR/disk      begins as BASE; a loop device on it is a disk
 *   DIR/position  how many writes and flushes the log has, in decimal
 *
 * The log: struct entry, and behind a write its bytes.  Whoever cuts it off anywhere and applies it to BASE
 * has what a disk may hold that lost its power then; of the writes behind the last flush any may be missing,
 * or be there in part.  The idea is that of Linux' dm-log-writes, which takes a device mapper.
 *
 * One thread, so that there is one order.
 */
#define FUSE_USE_VERSION 31
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct entry {
	uint64_t kind; /* 1: a write; 2: a flush */
	uint64_t off, bytes;
};
enum { WRITE = 1, FLUSH = 2 };

static uint8_t *disk;
static size_t disk_bytes;
static int log_fd;
static uint64_t n_entries;

static int log_put(uint64_t kind, uint64_t off, const void *from, uint64_t bytes)
{
	struct entry e = {.kind = kind, .off = off, .bytes = bytes};

	if (write(log_fd, &e, sizeof e) != (ssize_t)sizeof e ||
		(bytes && write(log_fd, from, bytes) != (ssize_t)bytes))
		return -EIO;
	n_entries++;
	return 0;
}

static int is_disk(const char *path) { return strcmp(path, "/disk") == 0; }

static size_t position_text(char text[32])
{
	return (size_t)snprintf(text, 32, "%llu\n", (unsigned long long)n_entries);
}

static int do_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
	char text[32];

	(void)fi;
	*st = (struct stat){.st_nlink = 1, .st_mode = S_IFREG | 0600};
	if (strcmp(path, "/") == 0)
		st->st_mode = S_IFDIR | 0700;
	else if (is_disk(path))
		st->st_size = (off_t)disk_bytes;
	else if (strcmp(path, "/position") == 0)
		st->st_size = (off_t)position_text(text);
	else
		return -ENOENT;
	return 0;
}

static int do_readdir(const char *path, void *to, fuse_fill_dir_t fill, off_t off,
	struct fuse_file_info *fi, enum fuse_readdir_flags flags)
{
	(void)path;
	(void)off;
	(void)fi;
	(void)flags;
	fill(to, "disk", NULL, 0, 0);
	fill(to, "position", NULL, 0, 0);
	return 0;
}

static int do_open(const char *path, struct fuse_file_info *fi)
{
	(void)path;
	fi->direct_io = 1; /* no page cache between the loop device and us */
	return 0;
}

static int do_read(const char *path, char *to, size_t n, off_t off, struct fuse_file_info *fi)
{
	char text[32];
	const void *from = text;
	size_t bytes = is_disk(path) ? disk_bytes : position_text(text);

	(void)fi;
	if (is_disk(path))
		from = disk;
	if ((size_t)off >= bytes)
		return 0;
	n = n < bytes - (size_t)off ? n : bytes - (size_t)off;
	memcpy(to, (const char *)from + off, n);
	return (int)n;
}

static int do_write(
	const char *path, const char *from, size_t n, off_t off, struct fuse_file_info *fi)
{
	(void)fi;
	if (!is_disk(path) || (size_t)off > disk_bytes || n > disk_bytes - (size_t)off)
		return -ENOSPC;
	memcpy(disk + off, from, n);
	int r = log_put(WRITE, (uint64_t)off, from, n);
	return r < 0 ? r : (int)n;
}

static int do_fsync(const char *path, int data_only, struct fuse_file_info *fi)
{
	(void)path;
	(void)data_only;
	(void)fi;
	return log_put(FLUSH, 0, NULL, 0);
}

static int base_load(const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	disk_bytes = (size_t)st.st_size;
	disk = malloc(disk_bytes);
	size_t at = 0;
	ssize_t n = 1;
	while (disk && at < disk_bytes && n > 0) {
		n = read(fd, disk + at, disk_bytes - at);
		at += n > 0 ? (size_t)n : 0;
	}
	(void)close(fd);
	return disk && at == disk_bytes ? 0 : -EIO;
}

int main(int argc, char **argv)
{
	static const struct fuse_operations ops = {.getattr = do_getattr,
		.readdir = do_readdir,
		.open = do_open,
		.read = do_read,
		.write = do_write,
		.fsync = do_fsync};

	if (argc != 4) {
		fprintf(stderr, "usage: block_log BASE LOG DIR\n");
		return 2;
	}
	int r = base_load(argv[1]);
	if (r < 0) {
		fprintf(stderr, "block_log: %s: %s\n", argv[1], strerror(-r));
		return 1;
	}
	log_fd = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (log_fd < 0) {
		fprintf(stderr, "block_log: %s: %s\n", argv[2], strerror(errno));
		return 1;
	}
	char *args[] = {argv[0], (char[]){"-s"}, argv[3], NULL};
	return fuse_main(3, args, &ops, NULL);
}
