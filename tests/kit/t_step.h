/* t_step.h - the marks of shm/step.h in tests: record them, and say which were proved.
 *
 * A sweep records the marks of a run that nobody is killed in, then kills at each and proves that the
 * others survive.  For each one proved it calls t_step_killed(): the name goes to the file
 * HC_STEPS_KILLED (meson sets it), and the last test of all, check-steps-covered, compares that file
 * with all marks in the sources.  So a new STEP that no sweep reaches fails the build.
 */
#ifndef HC_T_STEP_H
#define HC_T_STEP_H
#include <stddef.h>

enum { T_STEPS_MAX = 512, T_STEP_BYTES = 64 };

struct t_steps {
	int n;
	char name[T_STEPS_MAX][T_STEP_BYTES];
};

/* Names recorded by HC_STEP=record:PATH, each once, in the order of their first pass.  Fails the test
 * if there is none or the file is not as expected. */
void t_steps_load(struct t_steps *ret_steps, const char *path);

/* Records in this process: begin forgets what was seen before.  Only for a build with steps. */
void t_steps_record(struct t_steps *steps);
void t_steps_end(void);

/* Raises SIGKILL at the nth (1..) pass of this mark, in this process and what it forks from now on. */
void t_step_kill_at(const char *name, long nth);

/* The death at this mark happened and was survived. */
void t_step_killed(const char *name);

#endif
