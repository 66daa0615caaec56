/* pol_session.h - see pol_session.c. */
#ifndef HC_DAEMON_POL_SESSION_H
#define HC_DAEMON_POL_SESSION_H

#include "pol.h"

extern const struct pol_ops pol_session;

#endif
