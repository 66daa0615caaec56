/* pol_module.h - policies of shared objects (hypercache_policy.h), as policies like the others. */
#ifndef HC_DAEMON_POL_MODULE_H
#define HC_DAEMON_POL_MODULE_H

#include "pol.h"

enum { POL_MODULES_MAX = 4, POL_MODULE_WHY_BYTES = 400 };

/* Loads the object at `path` for this process, for good; pol_find() finds it by its name then.  A
 * process loads before it is locked down.  0; or -errno, -EINVAL, -EACCES with "what is wrong; what would
 * be right" in why. */
int pol_module_load(const char *path, char why[POL_MODULE_WHY_BYTES]);
/* NULL: none of that name was loaded. */
const struct pol_ops *pol_module_find(const char *name);
/* The policy's name that the path of a module stands for: "/a/b.so" is "b".  False: it is no such path. */
bool pol_module_name(const char *path, size_t n_path, char ret[POL_NAME_BYTES]);

#endif
