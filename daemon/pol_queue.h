/* pol_queue.h - the policies that keep one list, for the registry in pol.c. */
#ifndef HC_DAEMON_POL_QUEUE_H
#define HC_DAEMON_POL_QUEUE_H

#include "pol.h"

extern const struct pol_ops pol_fifo, pol_lru, pol_sieve, pol_ttl;

#endif
