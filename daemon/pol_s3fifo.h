/* pol_s3fifo.h - the policy `s3-fifo`, for the registry in pol.c. */
#ifndef HC_DAEMON_POL_S3FIFO_H
#define HC_DAEMON_POL_S3FIFO_H

#include "pol.h"

extern const struct pol_ops pol_s3fifo;

#endif
