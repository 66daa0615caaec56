/* sup_crash.c - engines that crash again and again at the same pool.
 *
 * Something in a pool may be what kills them: damage that adoption stumbles over, an entry that a bug
 * does not survive.  Each engine writes down which pool it is at work on (shm_journal.at_pool), and an
 * engine that dies of itself, or hangs, counts against that pool; if the word makes no sense, against
 * all.  Signals from outside do not count.  After pool_crash_limit of them within pool_crash_time the pool
 * starts empty:
 *
 *   image     a child copies it to crash_dir, if there is to be one; no engine runs meanwhile, reads go on
 *   empty     what was given back is got again; `table` 0: the next engine formats the pool; then all living
 *             sessions' pins are revoked (P12), so that no view takes new bytes for old
 *
 * Nothing here is waited for: the child's end is an event, and has a limit.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "atomic.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "image.h"
#include "layout/l_pool.h"
#include "log.h"
#include "step.h"
#include "sup.h"

enum { IMAGE_LIMIT_S = 120, IMAGE_AGAIN_S = 5, IMAGE_FILES_MAX = 4096, IMAGE_FAILED = 1 };

static const char ending[] = ".image", unfinished[] = ".image.part";

/* ---------------------------------------------------------------------- count */

/* Bit i: the engine that has just died was at work on pool i. */
static uint32_t pools_at(const struct sup *sup)
{
	uint32_t n = sup->config.n_pools, all = (1u << n) - 1;
	uint64_t at = sup->jrn ? shm_load_rlx(&sup->jrn->at_pool) : 0;

	if (at == 0)
		return 0;
	return at <= n ? 1u << (at - 1) : all;
}

/* One more against a pool.  True: that is the limit; it begins anew. */
static bool blame(struct sup *sup, uint32_t idx, uint64_t now_ns)
{
	struct sup_blame *b = &sup->blame[idx];
	uint32_t limit = sup->config.pool_crash_limit;

	if (b->n == SUP_BLAMES_MAX) {
		memmove(b->at_ns, b->at_ns + 1, sizeof b->at_ns - sizeof *b->at_ns);
		b->n--;
	}
	b->at_ns[b->n++] = now_ns;
	if (b->n < limit || now_ns - b->at_ns[b->n - limit] > sup->config.pool_crash_time_ns)
		return false;
	b->n = 0;
	return true;
}

uint32_t sup_crash_count(struct sup *sup, bool of_itself, uint64_t now_ns)
{
	uint32_t at = pools_at(sup), over = 0;

	if (sup->jrn)
		shm_store_rlx(
			&sup->jrn->at_pool, 0); /* the next one may die before it looks at any */
	for (uint32_t i = 0; i < sup->config.n_pools && of_itself; i++) {
		if (!(at >> i & 1))
			continue;
		log_warn("it was at work on pool %s", sup->config.pool[i].name);
		over |= (uint32_t)blame(sup, i, now_ns) << i;
	}
	return over;
}

/* ---------------------------------------------------------------------- files */

/* What a name of the folder is: an image, or what a death has left of one. */
static bool ends_with(const char *name, const char *end)
{
	size_t n = strlen(name), k = strlen(end);

	return n > k && strcmp(name + n - k, end) == 0;
}

/* The images of the folder: how many, bytes on disk, and the one that was written first. */
struct images {
	uint32_t n;
	uint64_t bytes;
	char first[256];
	struct timespec at; /* of it */
};

static void image_seen(struct images *im, int dir, const char *name)
{
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode))
		return;
	bool older = st.st_mtim.tv_sec < im->at.tv_sec ||
	             (st.st_mtim.tv_sec == im->at.tv_sec && st.st_mtim.tv_nsec < im->at.tv_nsec);
	if (im->n++ == 0 || older) {
		(void)snprintf(im->first, sizeof im->first, "%s", name);
		im->at = st.st_mtim;
	}
	im->bytes += (uint64_t)st.st_blocks * 512;
}

/* Looks through the folder; unfinished ones go. */
static void images_read(int dir, struct images *ret)
{
	*ret = (struct images){0};
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;

	if (!d) {
		if (fd >= 0)
			(void)close(fd);
		return;
	}
	const struct dirent *e;
	for (int i = 0; i < IMAGE_FILES_MAX && (e = readdir(d)); i++) {
		if (ends_with(e->d_name, unfinished))
			(void)unlinkat(dir, e->d_name, 0);
		else if (ends_with(e->d_name, ending))
			image_seen(ret, dir, e->d_name);
	}
	(void)closedir(d);
}

/* Removes old ones until there is room for one of so many bytes.  False: there is none. */
static bool images_prune(const struct sup *sup, int dir, uint64_t bytes)
{
	struct images im;

	if (sup->config.crash_images == 0 || bytes > sup->config.crash_images_size_bytes)
		return false;
	for (images_read(dir, &im);
		im.n && (im.n >= sup->config.crash_images ||
				im.bytes + bytes > sup->config.crash_images_size_bytes);
		images_read(dir, &im)) {
		if (unlinkat(dir, im.first, 0) != 0)
			return false;
		log_info("the image %s goes for a new one", im.first);
	}
	return true;
}

/* ---------------------------------------------------------------------- image */

static void from_fill(const struct sup *sup, struct image_from *ret)
{
	ret->control_fd = sup->control.fd;
	for (uint32_t p = 0; p < SHM_POOLS_MAX; p++)
		for (uint32_t r = 0; r < SHM_REGIONS_MAX; r++)
			ret->region_fd[p][r] = sup->region[p][r].fd;
}

/* In the child. */
static _Noreturn void child_write(
	int fd, const struct image_from *from, const struct image_head *head)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	_exit(image_write(fd, from, head) == 0 && fsync(fd) == 0 ? 0 : IMAGE_FAILED);
}

/* A name that says which pool and when.  Descriptor of a new file, or -errno. */
static int image_create(struct sup *sup, const char *what)
{
	struct sup_image *im = &sup->image;
	uint64_t ns = sup_host_real_ns();
	time_t s = (time_t)(ns / 1000000000);
	struct tm tm;
	char when[32];

	(void)strftime(when, sizeof when, "%Y%m%dT%H%M%S", gmtime_r(&s, &tm));
	(void)snprintf(im->name, sizeof im->name, "%s-%s.%03u%s", what, when,
		(unsigned)(ns / 1000000 % 1000), ending);
	(void)snprintf(im->part, sizeof im->part, "%s-%s.%03u%s", what, when,
		(unsigned)(ns / 1000000 % 1000), unfinished);
	int fd = openat(
		im->dir, im->part, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd >= 0 ? fd : err_new(-errno);
}

static int image_start(struct sup *sup, uint32_t pools, const char *what, uint64_t now_ns)
{
	struct sup_image *im = &sup->image;
	struct image_from from;
	struct image_head head;
	char why[IMAGE_WHY_BYTES];

	from_fill(sup, &from);
	(void)snprintf(why, sizeof why, "pool %s: engines crashed at it %u times", what,
		sup->config.pool_crash_limit);
	int r = image_plan(&from, pools, why, &head);
	if (r < 0)
		return err_fwd(r);
	im->dir = sup_folder_images(sup->config.crash_dir);
	if (im->dir < 0)
		return err_fwd(im->dir);
	if (!images_prune(sup, im->dir, head.file_bytes)) {
		log_warn("no image of it is kept: it may take %llu MiB, and crash_images_size is "
			 "%llu "
			 "MiB for at most %u",
			(unsigned long long)(head.file_bytes >> 20),
			(unsigned long long)(sup->config.crash_images_size_bytes >> 20),
			sup->config.crash_images);
		return 1;
	}
	_cleanup_close_ int fd = image_create(sup, what);
	if (fd < 0)
		return err_fwd(fd);
	pid_t pid = fork();
	if (pid < 0)
		return err_new(-errno);
	if (pid == 0)
		child_write(fd, &from, &head);
	im->pid = pid;
	im->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	im->deadline_ns = now_ns + IMAGE_LIMIT_S * UINT64_C(1000000000);
	return im->pidfd >= 0 ? 0 : err_new(-errno);
}

static void image_end(struct sup *sup)
{
	struct sup_image *im = &sup->image;

	cleanup_closep_(&im->pidfd);
	cleanup_closep_(&im->dir);
	*im = (struct sup_image){.dir = -1, .pidfd = -1};
}

void sup_crash_on_image(struct sup *sup)
{
	struct sup_image *im = &sup->image;
	siginfo_t how = {0};

	if (waitid(P_PID, (id_t)im->pid, &how, WEXITED | WNOHANG) != 0 || how.si_pid == 0)
		return;
	STEP("sup:image-written");
	bool good = how.si_code == CLD_EXITED && how.si_status == 0 &&
	            renameat(im->dir, im->part, im->dir, im->name) == 0;
	if (good) {
		log_warn("an image of what it held: %s/%s; look at it with `hypercache fsck FILE`",
			sup->config.crash_dir, im->name);
	} else {
		(void)unlinkat(im->dir, im->part, 0);
		log_error("no image could be kept in %s: is there room?", sup->config.crash_dir);
	}
	uint32_t pools = im->pools;
	image_end(sup);
	sup_crash_empty(sup, pools);
}

void sup_crash_on_due(struct sup *sup, uint64_t now_ns)
{
	struct sup_image *im = &sup->image;

	if (im->pid == 0)
		return;
	if (im->pidfd < 0)
		sup_crash_on_image(sup);
	else if (now_ns >= im->deadline_ns) {
		(void)kill(im->pid, SIGKILL);
		/* A disk that hangs may keep it for as long as it likes: looked at again, and not in a loop. */
		im->deadline_ns = now_ns + IMAGE_AGAIN_S * UINT64_C(1000000000);
	}
}

void sup_crash_close(struct sup *sup)
{
	struct sup_image *im = &sup->image;

	if (im->pid) {
		(void)kill(im->pid, SIGKILL);
		(void)waitpid(im->pid, NULL, 0);
		(void)unlinkat(im->dir, im->part, 0);
	}
	image_end(sup);
}

/* ---------------------------------------------------------------------- empty */

/* Memory that was given back is there again.  0 or -errno. */
static int regions_fill(const struct sup *sup, uint32_t idx)
{
	for (uint32_t r = 0; r < SHM_REGIONS_MAX; r++) {
		const struct sup_segment *s = &sup->region[idx][r];
		if (s->fd >= 0 && fallocate(s->fd, 0, 0, (off_t)s->bytes) != 0)
			return err_new(-errno);
	}
	return 0;
}

/* Rule P12, for everybody: what a view of the old content shows from now on does not count. */
static void pins_revoke(const struct sup *sup)
{
	for (uint32_t i = 0; i < sup->config.max_clients; i++) {
		if (sup->session[i].id == 0 ||
			MUTANT(341)) /* 341: views of a pool that starts empty stay */
			continue;
		shm_u64 *gen = &sup->ctl->pin_gen[i];
		shm_store_rel(gen, shm_load_rlx(gen) + 1); /* rel:gen.pin */
		shm_count(&sup->ctl->counter[SHM_DC_revocations], 1);
	}
}

/* Readers that come from now on find nothing there. */
static int pool_empty(struct sup *sup, uint32_t idx)
{
	uint64_t bytes;
	void *map;
	int r = regions_fill(sup, idx);

	if (r == 0)
		r = sup_segment_map(&sup->region[idx][0], SHM_PAGE, &map, &bytes);
	if (r < 0)
		return log_fail(r, "pool %s cannot start empty", sup->config.pool[idx].name);
	struct shm_pool *p = map;
	shm_store_rel(&p->table, 0);           /* rel:pool.table: nothing is found there any more */
	p->formatted = p->seg.total_bytes | 1; /* not 0: it held entries */
	(void)munmap(map, bytes);
	shm_count(&sup->ctl->pool[idx].counter[SHM_PC_emptied], 1);
	log_error("pool %s starts EMPTY: engines crashed %u times at work on it; the others keep "
		  "what "
		  "they hold, views that clients hold are revoked",
		sup->config.pool[idx].name, sup->config.pool_crash_limit);
	return 0;
}

void sup_crash_empty(struct sup *sup, uint32_t pools)
{
	for (uint32_t i = 0; i < sup->config.n_pools; i++)
		if (pools >> i & 1)
			(void)pool_empty(sup, i); /* if not, restart_limit ends it */
	/* Behind it: who pins with the new generation has loaded it before a table word that was 0. */
	pins_revoke(sup);
	STEP("sup:pool-emptied");
}

void sup_crash_begin(struct sup *sup, uint32_t pools, uint64_t now_ns)
{
	const char *what = "pools";

	for (uint32_t i = 0; i < sup->config.n_pools; i++)
		if (pools == 1u << i)
			what = sup->config.pool[i].name;
	sup->image = (struct sup_image){.dir = -1, .pidfd = -1, .pools = pools};
	int r = sup->config.crash_images ? image_start(sup, pools, what, now_ns) : 1;
	if (sup->image.pid)
		return;
	if (r < 0)
		(void)log_fail(r, "no image of %s can be kept in %s", what, sup->config.crash_dir);
	image_end(sup);
	sup_crash_empty(sup, pools);
}
