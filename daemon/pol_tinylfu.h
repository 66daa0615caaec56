/* pol_tinylfu.h - the policy `w-tinylfu`, for the registry in pol.c. */
#ifndef HC_DAEMON_POL_TINYLFU_H
#define HC_DAEMON_POL_TINYLFU_H

#include "pol.h"

extern const struct pol_ops pol_tinylfu;

#endif
