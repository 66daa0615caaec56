/* cleanup.h - a local that owns something says so where it is declared.
 *
 *   _cleanup_close_ int fd = -1;                       closed on every return
 *   _cleanup_free_ char *text = NULL;
 *   _cleanup_(thing_freep) struct thing *t = NULL;     DEFINE_CLEANUP below
 *   *ret = steal_ptr(t);                               handed over; t is NULL now
 *
 * A destructor accepts what a half-built object looks like (NULL, -1).
 */
#ifndef HC_BASE_CLEANUP_H
#define HC_BASE_CLEANUP_H
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))
#define _cleanup_free_ _cleanup_(cleanup_freep_)
#define _cleanup_close_ _cleanup_(cleanup_closep_)

#define DEFINE_CLEANUP(type, f) \
	static inline void f##p(type *p) \
	{ \
		if (*p) \
			f(*p); \
	}

#define steal_ptr(x) \
	__extension__({ \
		__typeof__(x) *p_ = &(x), v_ = *p_; \
		*p_ = NULL; \
		v_; \
	})
#define steal_fd(x) \
	__extension__({ \
		int *p_ = &(x), v_ = *p_; \
		*p_ = -1; \
		v_; \
	})

static inline void cleanup_freep_(void *p) { free(*(void **)p); }
static inline void cleanup_closep_(int *fd)
{
	if (*fd >= 0) {
		int keep = errno;
		(void)close(*fd);
		errno = keep;
	}
}
#endif
