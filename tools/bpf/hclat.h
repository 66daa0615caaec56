/* hclat.h - what both halves of hclat know. */
#ifndef HC_TOOLS_BPF_HCLAT_H
#define HC_TOOLS_BPF_HCLAT_H

#include "hct_shared.h"

enum { HCLAT_SETS = 8192 /* sets, and requests of the engine, that are under way */ };

/* X(name, meaning): histograms in ns. */
#define HCLAT_HISTS(X) \
	X(get, "hc_get") \
	X(view, "hc_view") \
	X(mget, "hc_mget, a call") \
	X(set, "hc_set, hc_append, hc_prepend: all of it") \
	X(client, "of a set: the library, before and behind the socket") \
	X(socket, "of a set: from the window until the engine has received it") \
	X(queue, "of a set: in the engine, until its turn comes") \
	X(engine, "of a set: carried out") \
	X(room, "of that: making room") \
	X(reply, "of a set: from the answer until the library has read it")
#define HCLAT_ENUM_(name, meaning) HCLAT_##name,
enum hclat_hist { HCLAT_HISTS(HCLAT_ENUM_) HCLAT_N };
#undef HCLAT_ENUM_

#endif
