/* err.h - how a function in this project says what happened.
 *
 *   r == 0   it worked; the ret_* outputs are set.
 *   r  > 0   a condition named in that function's comment (a miss, a full
 *            table).  The caller handles it there and never forwards the
 *            number: it means something for that one function only.
 *   r  < 0   -errno: the operation cannot go on.  The caller undoes its own
 *            part and forwards the number unchanged, through err_fwd().
 *
 * err_new() begins a trail of (function, file, line), err_fwd() appends to it,
 * so that a log line can say where a -errno came from and through whom.  The
 * trail is per thread and of fixed size; recording costs nothing on success.
 * Code in shm/ and libclient/ never prints it: the program decides.
 */
#ifndef HC_BASE_ERR_H
#define HC_BASE_ERR_H
#include <errno.h>
#include <stddef.h>

/* Starts a new trail with r (a negative errno) and returns r. */
#define err_new(r) err_mark_(1, (r), __func__, __FILE__, __LINE__)

/* Returns r; appends to the trail if r is negative. */
#define err_fwd(r) \
	__extension__({ \
		int e_ = (r); \
		e_ < 0 ? err_mark_(0, e_, __func__, __FILE__, __LINE__) : e_; \
	})

/* Writes this thread's trail to buf, newest caller last, one line, always
 * terminated; returns buf.  Example: "ENOENT open_it (a.c:12) < attach (b.c:40)" */
const char *err_trail(char *buf, size_t buf_bytes);

int err_mark_(int fresh, int r, const char *func, const char *file, int line);

#endif
