/* cli_archive.h - what dump and restore have in common (cli_dump.c). */
#ifndef HC_TOOLS_CLI_ARCHIVE_H
#define HC_TOOLS_CLI_ARCHIVE_H

#include "cli.h"

/* Rate and time left, on a terminal alone, a few times a second. */
struct cli_progress {
	uint64_t all; /* of what `done` counts; 0: not known */
	uint64_t began_ns, last_ns;
	bool shown, printed;
};
void cli_progress_begin(struct cli_progress *p, const struct cli *c, uint64_t all);
void cli_progress_show(struct cli_progress *p, uint64_t done, uint64_t bytes);
/* Wipes the line.  How long it took, ns, above 0. */
uint64_t cli_progress_end(struct cli_progress *p);

/* Is the store one of those that the command line names?  All are, if it names none. */
bool cli_archive_wants(const struct cli *c, const char *name);

#endif
