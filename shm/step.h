/* step.h - STEP("module:moment") marks an instant that another process may
 * observe, or at which this one may die.  MUTANT(n) plants a known bug.
 *
 * Both are nothing in an ordinary build.  With -Dsteps=true one hook serves
 * four kinds of test: kill here (crash), switch here (race), delay here
 * (stress), and record which marks were passed (coverage of the marks).
 *
 * A real binary built with steps reads its orders from the environment when it
 * starts (step.c), once per process:
 *
 *   HC_STEP=record:FILE          appends each mark's name, once, to FILE
 *   HC_STEP=kill:NAME:NTH:ONCE   raises SIGKILL at the NTH (1..) pass of NAME,
 *                                if unlink(ONCE) succeeds: so exactly one
 *                                process of a tree dies, exactly once.  NTH 0: at
 *                                the first pass after somebody has made ONCE again
 *   HC_STEP=hang:NAME:NTH:ONCE   the same, but it loops there for ever
 *   HC_MUTANT=n                  switches planted bug n on (tests/README.md lists them)
 *
 * Only the daemon, the command line and tests obey the environment; the library
 * in a host program never reads it.
 */
#ifndef HC_SHM_STEP_H
#define HC_SHM_STEP_H

#ifdef HC_STEPS
extern void (*shm_step_hook)(const char *name);
extern int shm_mutant;
#define STEP(name) \
	do { \
		if (__builtin_expect(shm_step_hook != 0, 0)) \
			shm_step_hook(name); \
	} while (0)
#define MUTANT(n) (__builtin_expect(shm_mutant == (n), 0))

/* Obeys HC_STEP and HC_MUTANT.  Called first thing in main(). */
void step_from_env(void);
#else
#define STEP(name) ((void)0)
#define MUTANT(n) 0
static inline void step_from_env(void) {}
#endif
#endif
