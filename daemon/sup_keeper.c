/* sup_keeper.c - who says that the supervisor lives while it cannot say so itself (rule P21).
 *
 * At an exec(2) the kernel turns the word of life into OWNER_DIED, as at a death, and readers would take a
 * living daemon for a dead one.  So a child holds the word meanwhile:
 *
 *   supervisor                 child                          word
 *                              claims it                      the child's
 *   exec                                                      the child's: nothing is marked
 *   claims it                                                 ours
 *                              is ended                       ours: nothing is marked
 *
 * A supervisor that dies in between takes the child with it (PR_SET_PDEATHSIG), and the kernel marks the word then.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/err.h"
#include "step.h"
#include "sup.h"
#include "sup_life.h"

enum { KEEPER_MS = 5000, SAID_FD = 3 };

/* In the child. */
static _Noreturn void keep(const struct sup *sup, int said, pid_t parent)
{
	uint64_t bytes;
	void *map;

	(void)prctl(PR_SET_NAME, "hypercached-kpr");
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
		_exit(1);
	if (sup_segment_map(&sup->control, sizeof(struct shm_control), &map, &bytes) < 0 ||
		sup_life_claim(&((struct shm_control *)map)->sup_word) < 0)
		_exit(1);
	if (dup2(said, SAID_FD) < 0 || close_range(SAID_FD + 1, ~0u, 0) != 0 ||
		write(SAID_FD, "", 1) != 1 || close(SAID_FD) != 0)
		_exit(1);
	for (;;)
		(void)pause();
}

int sup_keeper_start(const struct sup *sup)
{
	_cleanup_close_ int in = -1, out = -1;
	pid_t parent = getpid();
	int pair[2];
	char byte;

	if (pipe2(pair, O_CLOEXEC) != 0)
		return err_new(-errno);
	in = pair[0];
	out = pair[1];
	pid_t pid = fork();
	if (pid < 0)
		return err_new(-errno);
	if (pid == 0)
		keep(sup, out, parent);
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	cleanup_closep_(&out);
	out = -1;
	struct pollfd p = {.fd = in, .events = POLLIN};
	if (pidfd >= 0 && poll(&p, 1, KEEPER_MS) == 1 && read(in, &byte, 1) == 1)
		return pidfd;
	sup_keeper_end(pidfd);
	return err_new(-ECHILD);
}

void sup_keeper_end(int pidfd)
{
	siginfo_t how;

	if (pidfd < 0)
		return;
	(void)syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	(void)waitid(
		P_PIDFD, (id_t)pidfd, &how, WEXITED); /* it waits for nothing: it ends at once */
	(void)close(pidfd);
}
