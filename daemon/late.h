/* late.h - private memory of the engine that is given back in parts.
 *
 * What a store's policy and timers took goes when the store does: hundreds of MiB, if there were millions of
 * entries, and the system needs a tenth of a second to take them back.  So they are put by, and each turn gives
 * back a part.  Only where late_begin() was called: everywhere else late_free() is free().
 *
 * A block keeps the list's link and its own size in its first bytes.  One thread.
 */
#ifndef HC_DAEMON_LATE_H
#define HC_DAEMON_LATE_H

#include <stdbool.h>
#include <stddef.h>

enum { LATE_STEP_BYTES = 1 << 20 }; /* given back by a step */

void late_begin(void);
/* As free(); bytes: what was asked for at block, at least 16 for a block that is put by. */
void late_free(void *block, size_t bytes);
/* Gives back a part.  True: there is more. */
bool late_step(void);
/* Gives back all of it, and puts nothing by any more. */
void late_end(void);

#endif
