/* eng_lock.h - what the engine gives up, because it reads everybody's bytes.
 *
 *   at its start           eng_lock_rights    new privileges, capabilities, being looked into
 *   before it serves       eng_lock_calls     system calls that serving does not take
 *
 * Both are one-way and cannot fail: what the kernel or the build does not offer is said, and the
 * engine serves without it, because a cache that does not start protects nobody.
 *
 * What is still open to somebody who has taken the engine over: its own memory (all pools), the
 * connections it has; and without Landlock (kernel 5.13) opening files that exist and its user may open.
 */
#ifndef HC_DAEMON_ENG_LOCK_H
#define HC_DAEMON_ENG_LOCK_H

#include <stdbool.h>
#include <stddef.h>

enum { ENG_LOCK_TEXT_BYTES = 160 };

/* all false (lockdown: off): a debugger and a core dump stay possible.
 * 0, or -errno: capabilities are kept (logged by the caller). */
int eng_lock_rights(bool all);

/* From now on only the calls of the list in eng_lock.c.  Others answer EPERM and are noted in the
 * kernel's log (audit); those that only another program's code would make end the process.
 * What was done, in words, to `to`; returns it. */
const char *eng_lock_calls(char to[ENG_LOCK_TEXT_BYTES]);

#endif
