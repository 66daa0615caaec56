/* t_step.c - marks recorded, killed at, and proved (t_step.h). */
#include "t_step.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include "../../shm/step.h"
#include "t.h"

static void add(struct t_steps *steps, const char *name)
{
	for (int i = 0; i < steps->n; i++)
		if (strcmp(steps->name[i], name) == 0)
			return;
	if (steps->n == T_STEPS_MAX || strlen(name) >= T_STEP_BYTES)
		t_fail(__FILE__, __LINE__, "too many marks, or too long a name: %s", name);
	(void)snprintf(steps->name[steps->n++], T_STEP_BYTES, "%s", name);
}

void t_steps_load(struct t_steps *ret_steps, const char *path)
{
	char line[T_STEP_BYTES + 2];
	FILE *f = fopen(path, "re");

	ret_steps->n = 0;
	if (!f)
		t_fail(__FILE__, __LINE__, "%s: %s", path, strerror(errno));
	while (fgets(line, sizeof line, f)) {
		size_t bytes = strcspn(line, "\n");
		if (line[bytes] != '\n' || !memchr(line, ':', bytes))
			t_fail(__FILE__, __LINE__, "%s: not a mark: %s", path, line);
		line[bytes] = 0;
		add(ret_steps, line);
	}
	fclose(f);
	if (ret_steps->n == 0)
		t_fail(__FILE__, __LINE__, "%s: no mark was passed", path);
}

#ifdef HC_STEPS
static struct t_steps *recording;
static char kill_name[T_STEP_BYTES];
static long kill_left;

static void record(const char *name) { add(recording, name); }

void t_steps_record(struct t_steps *steps)
{
	steps->n = 0;
	recording = steps;
	shm_step_hook = record;
}

void t_steps_end(void) { shm_step_hook = NULL; }

static void kill_here(const char *name)
{
	if (strcmp(name, kill_name) == 0 && --kill_left == 0)
		raise(SIGKILL);
}

void t_step_kill_at(const char *name, long nth)
{
	(void)snprintf(kill_name, sizeof kill_name, "%s", name);
	kill_left = nth;
	shm_step_hook = kill_here;
}
#else
void t_steps_record(struct t_steps *steps)
{
	(void)steps;
	SKIP("built without steps (-Dsteps=true)");
}
void t_steps_end(void) {}
void t_step_kill_at(const char *name, long nth)
{
	(void)name, (void)nth;
	SKIP("built without steps (-Dsteps=true)");
}
#endif

void t_step_killed(const char *name)
{
	char line[T_STEP_BYTES + 2];
	const char *path = getenv("HC_STEPS_KILLED");

	if (!path)
		return; /* run by hand: nobody counts */
	int n = snprintf(line, sizeof line, "%s\n", name);
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, line, (size_t)n) != n)
		t_fail(__FILE__, __LINE__, "%s: %s", path, strerror(errno));
	(void)close(fd);
}
