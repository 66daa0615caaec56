/* hc_error.c - results in words, and the border between -errno and enum hc_error. */
#include <errno.h>
#include <stddef.h>

#include "hc_i.h"

#define STR_(x) #x
#define STR(x) STR_(x)

/* X(errno, error): what a -errno means to the program.  Any other is HC_E_SYSTEM. */
#define BORDER(X) \
	X(EINVAL, HC_E_INVAL) \
	X(ECONNREFUSED, HC_E_NO_DAEMON) \
	X(EPROTONOSUPPORT, HC_E_VERSION) \
	X(EACCES, HC_E_REFUSED) \
	X(EPERM, HC_E_DENIED) \
	X(ENOMEM, HC_E_NO_MEMORY) \
	X(EMSGSIZE, HC_E_TOO_LARGE) \
	X(ETIMEDOUT, HC_E_TIMEOUT) \
	X(ESTALE, HC_E_STALE) \
	X(EPROTO, HC_E_PROTOCOL) \
	X(ESHUTDOWN, HC_E_CLOSING) \
	X(ECANCELED, HC_E_CANCELLED) \
	X(EBADMSG, HC_E_DAMAGED)

int hc_border(int r)
{
	switch (-r) {
	case 0:
		return HC_OK;
#define BORDER_CASE(e, error) \
	case e: \
		return error;
		BORDER(BORDER_CASE)
#undef BORDER_CASE
	default:
		errno = -r;
		return HC_E_SYSTEM;
	}
}

const char *hc_strerror(int r)
{
	switch (r) {
	case HC_OK:
		return "done";
	case HC_MISS:
		return "there is no such entry";
	case HC_TOO_SMALL:
		return "the buffer is smaller than the value";
	case HC_EXISTS:
		return "there is such an entry already";
	case HC_CONFLICT:
		return "the entry has another version";
	case HC_OLDER:
		return "the entry is as new, or newer";
	case HC_LEASE:
		return "there is no value, and the lease to compute it is given";
	case HC_REFRESH:
		return "there is a value, and the lease to compute the next one is given";
	case HC_NOT_FRESH:
		return "there is a value, past its fresh time";
	case HC_ABSENT:
		return "the key is known to be absent";
	case HC_LEASED:
		return "another process computes the value";
	case HC_LEASE_LOST:
		return "the lease is over";
	case HC_LAPPED:
		return "events were overwritten before they were taken";
#define MEANING_CASE(name, number, meaning) \
	case name: \
		return meaning;
		HC_ERRORS(MEANING_CASE)
#undef MEANING_CASE
	default:
		return "a result that this version of the library does not know";
	}
}

const char *hc_error_name(int r)
{
	switch (r) {
	case HC_OK:
		return "HC_OK";
	case HC_MISS:
		return "HC_MISS";
	case HC_TOO_SMALL:
		return "HC_TOO_SMALL";
	case HC_EXISTS:
		return "HC_EXISTS";
	case HC_CONFLICT:
		return "HC_CONFLICT";
	case HC_OLDER:
		return "HC_OLDER";
	case HC_LEASE:
		return "HC_LEASE";
	case HC_REFRESH:
		return "HC_REFRESH";
	case HC_NOT_FRESH:
		return "HC_NOT_FRESH";
	case HC_ABSENT:
		return "HC_ABSENT";
	case HC_LEASED:
		return "HC_LEASED";
	case HC_LEASE_LOST:
		return "HC_LEASE_LOST";
	case HC_LAPPED:
		return "HC_LAPPED";
#define NAME_CASE(name, number, meaning) \
	case name: \
		return #name;
		HC_ERRORS(NAME_CASE)
#undef NAME_CASE
	default:
		return "HC_E_?";
	}
}

const char *hc_version(void)
{
	return STR(HC_VERSION_MAJOR) "." STR(HC_VERSION_MINOR) "." STR(HC_VERSION_PATCH);
}
