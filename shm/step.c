/* step.c - the hook behind step.h; empty in an ordinary build. */
#define _GNU_SOURCE
#include "step.h"
typedef int step_not_empty; /* ISO C forbids an empty file */

#ifdef HC_STEPS
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SEEN_MAX = 512, PATH_BYTES = 512, NAME_BYTES = 64 };

void (*shm_step_hook)(const char *name);
int shm_mutant;

static const char *seen[SEEN_MAX];
static int n_seen, record_fd = -1;
static char kill_name[NAME_BYTES], kill_once[PATH_BYTES];
static long kill_nth, kill_passes;
static int hang_there;

static void record(const char *name)
{
	char line[NAME_BYTES + 2];

	for (int i = 0; i < n_seen; i++)
		if (seen[i] == name)
			return;
	if (n_seen < SEEN_MAX)
		seen[n_seen++] = name;
	int n = snprintf(line, sizeof line, "%s\n", name);
	if (write(record_fd, line, (size_t)n) != n)
		raise(SIGKILL); /* a recording that loses marks would look like success */
}

static void kill_here(const char *name)
{
	if (strcmp(name, kill_name) != 0)
		return;
	if (kill_nth && ++kill_passes != kill_nth)
		return;
	if (unlink(kill_once) != 0)
		return;
	while (hang_there)
		__asm__ volatile(""); /* bare: a loop that stays */
	raise(SIGKILL);
}

void step_from_env(void)
{
	const char *order = getenv("HC_STEP"), *mutant = getenv("HC_MUTANT");

	if (mutant)
		shm_mutant = atoi(mutant);
	if (!order)
		return;
	if (strncmp(order, "record:", 7) == 0) {
		record_fd = open(order + 7, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
		shm_step_hook = record_fd >= 0 ? record : NULL;
	} else if (strncmp(order, "kill:", 5) == 0 || strncmp(order, "hang:", 5) == 0) {
		/* NAME itself holds one colon: kill:module:moment:NTH:ONCE */
		char mod[NAME_BYTES / 2], moment[NAME_BYTES / 2];
		hang_there = order[0] == 'h';
		if (sscanf(order + 5, "%31[^:]:%31[^:]:%ld:%511s", mod, moment, &kill_nth,
			    kill_once) == 4) {
			(void)snprintf(kill_name, sizeof kill_name, "%s:%s", mod, moment);
			shm_step_hook = kill_here;
		}
	}
}
#endif
