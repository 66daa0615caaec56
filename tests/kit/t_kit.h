/* t_kit.h - between the files of the kit; tests include t.h. */
#ifndef HC_T_KIT_H
#define HC_T_KIT_H
#include <stdbool.h>

/* Runner, before the fork of a test: a new name for its folder, no reason for a skip. */
void t_kit_next(void);
/* Test, before it runs: its sequence of random numbers. */
void t_kit_begin(const char *name);
/* Runner, after the end of a test. */
void t_kit_remove_dir(void);
const char *t_kit_skip_why(void);

/* poll(2) for `events` on fd until limit_ms (as it is, not multiplied); true when one came. */
bool t_kit_wait(int fd, short events, int limit_ms);

/* Keeps a string for as long as the process lives, reachable. */
const char *t_kit_keep(char *text);

/* t_proc.c sets it: prints what the programs under test have written. */
extern void (*t_kit_fail_hook)(void);

#endif
