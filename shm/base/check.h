/* check.h - CHECK(c): our own state, asserted always, also in release builds.
 *
 * For the daemon and its helpers only, and for the writing half of shm/ that is
 * linked into nothing else.  What a client sent is validated and answered with
 * an error, never CHECKed; the reading half and libclient have no CHECK at all
 * (a library does not abort its host), which tools/check-symbols proves.
 *
 * The program provides check_failed(): the engine leaves the text where the
 * supervisor finds it and dies.
 */
#ifndef HC_BASE_CHECK_H
#define HC_BASE_CHECK_H

_Noreturn void check_failed(const char *expr, const char *func, const char *file, int line);

#define CHECK(c) \
	do { \
		if (__builtin_expect(!(c), 0)) \
			check_failed(#c, __func__, __FILE__, __LINE__); \
	} while (0)

#endif
