/* pol_auto.h - the policy auto: it chooses among the others, by what each would have missed.  For pol.c,
 * and for whoever shows the choice.
 */
#ifndef HC_DAEMON_POL_AUTO_H
#define HC_DAEMON_POL_AUTO_H

#include "pol.h"

enum { POL_AUTO_CANDIDATES = 4 };

extern const struct pol_ops pol_auto;

/* What it goes by at the moment. */
struct pol_auto_say {
	const char *name[POL_AUTO_CANDIDATES]; /* of the candidates */
	double misses
		[POL_AUTO_CANDIDATES]; /* of the uses that were told, lately: 0..1; -1: none were */
	uint32_t choice;               /* which one decides */
	uint32_t rate;                 /* keys that are sampled, in 1 / POL_SHADOW_RATE_ONE */
	uint32_t n_keys;               /* how many they are */
	uint64_t switches;             /* so far */
	uint64_t shadow_bytes;         /* private memory that the evidence takes */
	bool moving;                   /* entries still go over from the policy before */
};

/* Of a policy whose ops are pol_auto. */
void pol_auto_say(const struct pol *p, struct pol_auto_say *ret);

#endif
