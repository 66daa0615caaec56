/* pol_lfu.h - the policy `lfu`, for the registry in pol.c. */
#ifndef HC_DAEMON_POL_LFU_H
#define HC_DAEMON_POL_LFU_H

#include "pol.h"

extern const struct pol_ops pol_lfu;

#endif
