/* kernel_facts.c - locks, deaths, futexes and barriers: what the rules marked K take for granted.
 *
 * Each test asks the kernel one question that a rule rests on, and names the rule that is void where
 * the answer is no.  README.md says what we would do there.  Memory, holes and rights: kernel_memory.c
 */
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <stddef.h>
#include "k.h"

enum { PAGE_BYTES = 4096, GET_REGISTRATIONS = 1 << 9 };

/* ---- P18: the lock on the open file description that was mapped is the session's life ---- */

/* A locked description of *ret_fd's file, as the daemon sends it to a client. */
static int locked_description(int *ret_fd)
{
	int own;

	*ret_fd = k_memfd(0, PAGE_BYTES);
	own = k_reopen(*ret_fd, O_RDWR);
	CHECK(own >= 0);
	CHECK(flock(own, LOCK_EX) == 0);
	return own;
}

/* P18: else every session would look dead as soon as the client has closed the descriptor. */
TEST(lock_is_held_while_only_a_mapping_is_left)
{
	struct k_pipe ready = k_pipe_open();
	int fd, own = locked_description(&fd);
	pid_t pid = k_fork();

	if (pid == 0) {
		k_map(own, PAGE_BYTES, PROT_READ | PROT_WRITE);
		close(own);
		k_tell(&ready);
		k_stay();
	}
	close(own);
	k_await(&ready);
	CHECK(!k_lock_is_free(fd));
	k_kill(pid);
	CHECK(k_lock_is_free(fd));
	close(fd);
	k_pipe_close(&ready);
}

/* P18: else a client that has become another program would hold its pins for ever.  The pidfd says
 * alive, which is why it is not what counts. */
TEST(lock_is_free_after_exec_though_the_pidfd_says_alive)
{
	struct k_pipe to = k_pipe_open(), from = k_pipe_open();
	int fd, own = locked_description(&fd), pidfd;
	pid_t pid = k_fork();

	if (pid == 0) {
		k_map(own, PAGE_BYTES, PROT_READ | PROT_WRITE);
		close(own);
		k_exec_echo(&to, &from);
	}
	close(own);
	pidfd = k_pidfd_open(pid);
	k_echo_await(&to, &from);
	CHECK(!k_pidfd_says_dead(pidfd));
	CHECK(k_lock_is_free(fd));
	k_kill(pid);
	close(pidfd);
	close(fd);
	k_pipe_close(&to);
	k_pipe_close(&from);
}

/* P18: else what a forked child still maps and pins would be reused when its parent dies. */
TEST(lock_is_held_by_a_forked_child_of_a_dead_client)
{
	struct k_pipe ready = k_pipe_open();
	int fd, own = locked_description(&fd), pidfd;
	pid_t pid, child = -1;

	CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
	pid = k_fork();
	if (pid == 0) {
		k_map(own, PAGE_BYTES, PROT_READ | PROT_WRITE);
		close(own);
		child = fork();
		CHECK(child >= 0);
		if (child == 0)
			k_stay();
		CHECK(write(ready.fd[1], &child, sizeof(child)) == sizeof(child));
		k_stay();
	}
	close(own);
	CHECK(read(ready.fd[0], &child, sizeof(child)) == sizeof(child));
	pidfd = k_pidfd_open(pid);
	k_kill(pid);
	CHECK(k_pidfd_says_dead(pidfd));
	CHECK(!k_lock_is_free(fd));
	k_kill(child);
	CHECK(k_lock_is_free(fd));
	close(pidfd);
	close(fd);
	k_pipe_close(&ready);
}

/* P20 with P18: else each fork of a client would keep its session alive. */
TEST(lock_is_not_kept_by_a_forked_child_without_the_mapping)
{
	struct k_pipe ready = k_pipe_open();
	int fd, own = locked_description(&fd);
	void *p = k_map(own, PAGE_BYTES, PROT_READ | PROT_WRITE);
	pid_t pid;

	close(own);
	CHECK(madvise(p, PAGE_BYTES, MADV_DONTFORK) == 0);
	pid = k_fork();
	if (pid == 0) {
		k_tell(&ready);
		k_stay();
	}
	k_await(&ready);
	CHECK(!k_lock_is_free(fd));
	CHECK(munmap(p, PAGE_BYTES) == 0); /* as at the parent's end */
	CHECK(k_lock_is_free(fd));
	k_kill(pid);
	close(fd);
	k_pipe_close(&ready);
}

/* P18: why the library closes the descriptor after mapping.  Where a descriptor did not keep the lock,
 * a client between receiving and mapping would look dead. */
TEST(lock_is_kept_by_a_descriptor_in_a_forked_child)
{
	int fd, own = locked_description(&fd);
	pid_t pid = k_fork();

	if (pid == 0)
		k_stay();
	close(own);
	CHECK(!k_lock_is_free(fd));
	k_kill(pid);
	CHECK(k_lock_is_free(fd));
	close(fd);
}

/* P18: why tools get a fresh re-opening: what they map of a duplicate would keep a dead session. */
TEST(lock_is_kept_by_a_mapping_of_a_duplicate)
{
	int fd, own = locked_description(&fd), copy = dup(own);
	void *p;

	CHECK(copy >= 0);
	p = k_map(copy, PAGE_BYTES, PROT_READ);
	close(copy);
	close(own);
	CHECK(!k_lock_is_free(fd));
	CHECK(munmap(p, PAGE_BYTES) == 0);
	CHECK(k_lock_is_free(fd));
	close(fd);
}

/* P18: else a tool that looks at a session would keep it alive. */
TEST(lock_is_not_kept_by_a_mapping_of_a_fresh_reopening)
{
	int fd, own = locked_description(&fd), fresh = k_reopen(own, O_RDONLY);
	void *p;

	CHECK(fresh >= 0);
	p = k_map(fresh, PAGE_BYTES, PROT_READ);
	CHECK(!k_lock_is_free(fd));
	close(own);
	CHECK(k_lock_is_free(fd));
	CHECK(munmap(p, PAGE_BYTES) == 0);
	close(fresh);
	close(fd);
}

/* ---- P22: the engine's lock ---- */

/* P22: why the engine's lock is on a memfd that no client has.  Not true: the private one is harmless. */
TEST(read_only_client_can_lock_a_pool_and_block_its_writer)
{
	int pool = k_memfd(0, PAGE_BYTES), client = k_reopen(pool, O_RDONLY);
	struct flock range = {.l_type = F_RDLCK, .l_whence = SEEK_SET};

	CHECK(client >= 0);
	CHECK(flock(client, LOCK_EX | LOCK_NB) == 0);
	CHECK(!k_lock_is_free(pool));
	CHECK(flock(client, LOCK_UN) == 0);

	CHECK(fcntl(client, F_OFD_SETLK, &range) == 0);
	range.l_type = F_WRLCK;
	CHECK(fcntl(pool, F_OFD_SETLK, &range) == -1);
	CHECK_EQ(errno, EAGAIN);
	close(client);
	close(pool);
}

/* P22: else a new engine could not wait for the end of a killed one. */
TEST(lock_of_a_killed_engine_can_be_awaited)
{
	struct k_pipe ready = k_pipe_open();
	int fd = k_memfd(0, PAGE_BYTES), mine = k_reopen(fd, O_RDWR);
	pid_t pid = k_fork();

	CHECK(mine >= 0);
	if (pid == 0) {
		int own = k_reopen(fd, O_RDWR);

		CHECK(own >= 0 && flock(own, LOCK_EX) == 0);
		k_tell(&ready);
		k_stay();
	}
	k_await(&ready);
	CHECK(flock(mine, LOCK_EX | LOCK_NB) == -1);
	CHECK(kill(pid, SIGKILL) == 0);
	CHECK(flock(mine, LOCK_EX) == 0); /* the test's deadline is this wait's */
	CHECK(WIFSIGNALED(t_wait_child(pid, K_LIMIT_MS)));
	close(mine);
	close(fd);
	k_pipe_close(&ready);
}

/* ---- P21: who is gone is written by the kernel ---- */

static long futex(uint32_t *word, int op, uint32_t value, const struct timespec *limit)
{
	return syscall(SYS_futex, word, op, value, limit, NULL, 0);
}

/* Takes the word for this thread.  The list is private memory; only the word is shared. */
static void robust_take(uint32_t *word)
{
	static struct robust_list node;
	static struct robust_list_head head;

	node.next = &head.list;
	head.list.next = &node;
	head.futex_offset = (char *)word - (char *)&node;
	CHECK(syscall(SYS_set_robust_list, &head, sizeof(head)) == 0);
	__atomic_store_n(word, (uint32_t)gettid(), __ATOMIC_SEQ_CST);
}

/* Forks an owner of the word in fd's first bytes; it becomes another program if `exec`. */
static pid_t robust_owner(int fd, bool exec, const struct k_pipe *to, const struct k_pipe *from)
{
	pid_t pid = k_fork();

	if (pid == 0) {
		robust_take(k_map(fd, PAGE_BYTES, PROT_READ | PROT_WRITE));
		k_tell(from);
		if (exec) {
			k_await(to);
			k_exec_echo(to, from);
		}
		k_stay();
	}
	k_await(from);
	return pid;
}

static void check_owner_died(bool exec)
{
	struct k_pipe to = k_pipe_open(), from = k_pipe_open();
	int fd = k_memfd(0, PAGE_BYTES), ro = k_reopen(fd, O_RDONLY);
	const uint32_t *seen;
	pid_t pid;

	CHECK(ro >= 0);
	seen = k_map(ro, PAGE_BYTES, PROT_READ);
	pid = robust_owner(fd, exec, &to, &from);
	CHECK_EQ(__atomic_load_n(seen, __ATOMIC_ACQUIRE), (uint32_t)pid);
	if (exec) {
		k_tell(&to);
		k_echo_await(&to, &from);
	} else {
		k_kill(pid);
	}
	CHECK(__atomic_load_n(seen, __ATOMIC_ACQUIRE) & FUTEX_OWNER_DIED);
	if (exec)
		k_kill(pid);
	CHECK(munmap((void *)seen, PAGE_BYTES) == 0);
	close(ro);
	close(fd);
	k_pipe_close(&to);
	k_pipe_close(&from);
}

/* P21: else readers would go on for ever with a daemon that is gone. */
TEST(robust_word_says_owner_died_after_sigkill) { check_owner_died(false); }

/* P21: why the supervisor takes its word again after an upgrade by exec. */
TEST(robust_word_says_owner_died_after_exec) { check_owner_died(true); }

/* P21: why the main thread is the owner: the list is the thread's, not the process's.  Here the other
 * half: the word is left alone while its owner lives, whatever its siblings do. */
TEST(robust_word_is_left_alone_by_the_death_of_another_process)
{
	struct k_pipe to = k_pipe_open(), from = k_pipe_open();
	int fd = k_memfd(0, PAGE_BYTES);
	const uint32_t *seen = k_map(fd, PAGE_BYTES, PROT_READ);
	pid_t owner = robust_owner(fd, false, &to, &from), other = k_fork();

	if (other == 0) {
		k_map(fd, PAGE_BYTES, PROT_READ | PROT_WRITE);
		k_stay();
	}
	k_kill(other);
	CHECK_EQ(__atomic_load_n(seen, __ATOMIC_ACQUIRE), (uint32_t)owner);
	k_kill(owner);
	CHECK(munmap((void *)seen, PAGE_BYTES) == 0);
	close(fd);
	k_pipe_close(&to);
	k_pipe_close(&from);
}

/* ---- P28: waiting without a right to write ---- */

/* Wakes until somebody was woken: that somebody waited.  No time is waited for, only the other's turn. */
static bool wake_one(uint32_t *word)
{
	uint64_t end_ns = t_now_ns() + (uint64_t)t_limit_ms(K_LIMIT_MS) * 1000000;

	while (t_now_ns() < end_ns) {
		long n = futex(word, FUTEX_WAKE, 1, NULL);

		CHECK(n >= 0);
		if (n == 1)
			return true;
		sched_yield();
	}
	return false;
}

/* P28: else a reader of the feed needs a socket to be told, or a right to write. */
TEST(futex_wait_works_on_a_read_only_mapping)
{
	int fd = k_memfd(0, PAGE_BYTES), ro = k_reopen(fd, O_RDONLY);
	uint32_t *word = k_map(fd, PAGE_BYTES, PROT_READ | PROT_WRITE);
	pid_t pid = k_fork();

	CHECK(ro >= 0);
	if (pid == 0) {
		uint32_t *mine = k_map(ro, PAGE_BYTES, PROT_READ);

		_exit(futex(mine, FUTEX_WAIT, 0, NULL) == 0 ? 0 : 1);
	}
	CHECK(wake_one(word));
	k_wait_ok(pid);
	CHECK(munmap(word, PAGE_BYTES) == 0);
	close(ro);
	close(fd);
}

/* P28: why a waiter looks at the word again after each wake: any reader can wake the others, and means
 * nothing by it.  Where the kernel asks for a right to write, that is only better. */
TEST(futex_wake_works_on_a_read_only_mapping_too)
{
	int fd = k_memfd(0, PAGE_BYTES), ro = k_reopen(fd, O_RDONLY);
	uint32_t *word;
	pid_t pid;

	CHECK(ro >= 0);
	word = k_map(ro, PAGE_BYTES, PROT_READ);
	pid = k_fork();
	if (pid == 0)
		_exit(futex(word, FUTEX_WAIT, 0, NULL) == 0 ? 0 : 1);
	CHECK(wake_one(word));
	k_wait_ok(pid);
	CHECK(munmap(word, PAGE_BYTES) == 0);
	close(ro);
	close(fd);
}

/* ---- P17: the barrier that the readers do not pay for ---- */

static int membarrier(int cmd) { return (int)syscall(SYS_membarrier, cmd, 0, 0); }

/* Skips where this kernel, or whoever runs us, has no such barrier: the full-fence mode is for that. */
static void need_membarrier(void)
{
	int have = membarrier(MEMBARRIER_CMD_QUERY);

	if (have < 0 || !(have & MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED))
		SKIP("membarrier is not allowed here");
}

/* P17: else engines must register too, or clients must before they connect. */
TEST(membarrier_can_be_called_unregistered_and_registered)
{
	need_membarrier();
	CHECK_EQ(membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED), 0);
	CHECK_EQ(membarrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED), 0);
	CHECK_EQ(membarrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED), 0); /* twice is once */
	CHECK_EQ(membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED), 0);
}

/* P17, P20: a child's own connection registers again in any case; where fork drops the registration,
 * that is not a matter of taste.  exec: none of our mappings is left. */
TEST(membarrier_registration_survives_fork)
{
	pid_t pid;

	need_membarrier();
	if (membarrier(GET_REGISTRATIONS) < 0)
		SKIP("the kernel does not tell registrations (before 6.3)");
	CHECK_EQ(membarrier(GET_REGISTRATIONS), 0);
	CHECK_EQ(membarrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED), 0);
	CHECK_EQ(membarrier(GET_REGISTRATIONS), MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED);
	pid = k_fork();
	if (pid == 0)
		_exit(membarrier(GET_REGISTRATIONS) == MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED
				? 0
				: 1);
	k_wait_ok(pid);
}

/* Two processes, a line each; round by round, each stores its word and then loads the other's. */
struct litmus {
	uint32_t begin, pad0[15]; /* round that the reader may run */
	uint32_t ended, pad1[15]; /* round that it has run */
	uint32_t pin, pad2[15];
	uint32_t slot, pad3[15];
	uint32_t seen; /* what the reader's load of slot gave */
};

enum { LITMUS_ROUNDS = 20000, LITMUS_SPINS = 100000000 };

static void litmus_await(const uint32_t *word, uint32_t value)
{
	for (int i = 0; i < LITMUS_SPINS; i++) {
		if (__atomic_load_n(word, __ATOMIC_ACQUIRE) == value)
			return;
		if (i % 1000 == 999)
			sched_yield();
	}
	_exit(2);
}

static void litmus_reader(struct litmus *l)
{
	CHECK_EQ(membarrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED), 0);
	for (uint32_t round = 1; round <= LITMUS_ROUNDS; round++) {
		litmus_await(&l->begin, round);
		__atomic_store_n(&l->pin, round, __ATOMIC_RELEASE);
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
		l->seen = __atomic_load_n(&l->slot, __ATOMIC_ACQUIRE);
		__atomic_store_n(&l->ended, round, __ATOMIC_RELEASE);
	}
	_exit(0);
}

/* P2, P17: the whole of reading rests on it: the reader sees the changed slot, or the engine the pin. */
TEST(membarrier_orders_another_process_that_has_only_a_compiler_barrier)
{
	int fd = k_memfd(0, PAGE_BYTES);
	struct litmus *l = k_map(fd, PAGE_BYTES, PROT_READ | PROT_WRITE);
	pid_t pid;

	need_membarrier();
	pid = k_fork();
	if (pid == 0)
		litmus_reader(l);
	for (uint32_t round = 1; round <= LITMUS_ROUNDS; round++) {
		uint32_t pin;

		__atomic_store_n(&l->begin, round, __ATOMIC_RELEASE);
		__atomic_store_n(&l->slot, round, __ATOMIC_RELEASE);
		CHECK_EQ(membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED), 0);
		pin = __atomic_load_n(&l->pin, __ATOMIC_ACQUIRE);
		litmus_await(&l->ended, round);
		CHECK(pin == round || l->seen == round);
	}
	k_wait_ok(pid);
	CHECK(munmap(l, PAGE_BYTES) == 0);
	close(fd);
}

/* ---- P20: what a forked child must not have ---- */

/* P20: else a child's stores would clear its parent's pins. */
TEST(mapping_of_a_segment_is_not_inherited_with_dontfork)
{
	int fd = k_memfd(0, PAGE_BYTES);
	void *p = k_map(fd, PAGE_BYTES, PROT_READ | PROT_WRITE);
	pid_t pid;

	CHECK(madvise(p, PAGE_BYTES, MADV_DONTFORK) == 0);
	pid = k_fork();
	if (pid == 0) /* nothing is mapped there: ENOMEM */
		_exit(msync(p, PAGE_BYTES, MS_ASYNC) == -1 && errno == ENOMEM ? 0 : 1);
	k_wait_ok(pid);
	CHECK(msync(p, PAGE_BYTES, MS_ASYNC) == 0);
	CHECK(munmap(p, PAGE_BYTES) == 0);
	close(fd);
}

/* P20: else a child cannot tell that it is one without a system call in each read. */
TEST(word_is_zero_in_a_forked_child_with_wipeonfork)
{
	uint32_t *word = mmap(
		NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pid_t pid;

	CHECK(word != MAP_FAILED);
	CHECK(madvise(word, PAGE_BYTES, MADV_WIPEONFORK) == 0);
	*word = 7;
	pid = k_fork();
	if (pid == 0)
		_exit(*word == 0 ? 0 : 1);
	k_wait_ok(pid);
	CHECK_EQ(*word, 7u);
	CHECK(munmap(word, PAGE_BYTES) == 0);
}

/* P20: why that word is in private memory, not in the segment. */
TEST(wipeonfork_is_refused_for_shared_memory)
{
	int fd = k_memfd(0, PAGE_BYTES);
	void *p = k_map(fd, PAGE_BYTES, PROT_READ | PROT_WRITE);

	CHECK(madvise(p, PAGE_BYTES, MADV_WIPEONFORK) == -1);
	CHECK_EQ(errno, EINVAL);
	CHECK(munmap(p, PAGE_BYTES) == 0);
	close(fd);
}

/* P20: else a client's core dump writes the whole pool, and the kernel's word on its death waits. */
TEST(read_only_pool_mapping_can_be_left_out_of_core_dumps)
{
	int fd = k_memfd(0, PAGE_BYTES), ro = k_reopen(fd, O_RDONLY);
	bool dd = false;
	void *p;

	CHECK(ro >= 0);
	p = k_map(ro, PAGE_BYTES, PROT_READ);
	CHECK(madvise(p, PAGE_BYTES, MADV_DONTDUMP) == 0);
	k_smaps(p, NULL, " dd", &dd);
	CHECK(dd);
	CHECK(munmap(p, PAGE_BYTES) == 0);
	close(ro);
	close(fd);
}

/* ---- DESIGN: the engine's loop ---- */

/* DESIGN 8: else completions interrupt the loop; the engine then says so and sets up without it. */
TEST(io_uring_can_be_set_up_with_defer_taskrun)
{
	struct io_uring_params params = {
		.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};
	int fd = (int)syscall(SYS_io_uring_setup, 8, &params);

	if (fd < 0 && (errno == EPERM || errno == ENOSYS || errno == EACCES))
		SKIP("io_uring is not allowed here");
	CHECK(fd >= 0);
	close(fd);
}
