/* sup_state.h - what a supervisor knows, in words, for the one that comes after it in the same process.
 *
 * An upgrade is an exec(2) of another binary by the supervisor (sup_upgrade.c).  Descriptors stay open under their
 * numbers; everything else goes over as text in a sealed memfd, because the other binary may be of another build, with
 * other structs.  Lines of words with spaces between them; what may hold a space comes last:
 *
 *   hypercached-state 1                      the form; another number means another form
 *   layout MAJOR MINOR                       of the segments
 *   release TEXT                             of whoever wrote it
 *   daemon ID                                hexadecimal: of the memory
 *   file PATH, set KEY=VALUE                 what the configuration is read from
 *   ready 0|1, next N, denied N              said READY; id of the next store; who was denied last
 *   engine STARTED CRASHES                   how many on this memory; in a row
 *   config BYTES, read BYTES                 that many bytes of YAML follow: what holds, what was read last
 *   from PATH WHERE LINE                     whence a value of `read` is, where that is not the default
 *   store ID BY_ADMIN NAME
 *   blame POOL NS...                         when engines crashed at it
 *   socket NAME FD DEV INO PATH              clients, admin, metrics
 *   segment NAME FD BACKING BYTES WHY        control, journal, region.POOL.REGION
 *   session SLOT ID UID GID READ WRITE FENCE PID FD PIDFD
 *   fd NAME FD                               all others
 *   end
 *
 * A word that the reader does not know is refused by its name, unless it begins with a question mark: such a
 * line may be passed over.  So who adds a line says whether an older build may go on without it.
 */
#ifndef HC_DAEMON_SUP_STATE_H
#define HC_DAEMON_SUP_STATE_H

#include "sup.h"

enum {
	SUP_STATE_FORM = 1,
	SUP_STATE_BYTES_MAX = 8 << 20,
	SUP_STATE_WHY_BYTES = 512,
};

/* What goes over and is no part of struct sup. */
struct sup_state {
	uint32_t layout_major, layout_minor;
	uint64_t daemon_id;
	char release[32];
	int back_fd;                 /* the binary that goes on if the other cannot; -1: none */
	int keeper_fd;               /* pidfd of who holds the word of life meanwhile; -1: none */
	int asker_fd;                /* the tool that asked for the upgrade; -1: none */
	struct config_source source; /* strings on the heap */
};

void sup_state_init(struct sup_state *st);

/* A sealed memfd with all of it; close-on-exec.  Descriptor, or -errno. */
int sup_state_write(const struct sup *sup, const struct sup_state *st);

/* The same as text on the heap, for the caller to free.  0 or -ENOMEM. */
int sup_state_text(const struct sup *sup, const struct sup_state *st, char **ret, size_t *ret_n);

/* As the next one, from text that is terminated, and is written over. */
int sup_state_parse(char *text, size_t n, struct sup *sup, struct sup_state *ret,
	char why[SUP_STATE_WHY_BYTES]);

/* Reads such a memfd.  *sup is as sup_init() leaves it, and gets what is written; sup->source is &ret->source, so *ret
 * has to live as long.  Nothing is opened, mapped or closed.
 * 0; or -errno with one sentence in why: it is no state; -EPROTO: one that this build does not read. */
int sup_state_read(int fd, struct sup *sup, struct sup_state *ret, char why[SUP_STATE_WHY_BYTES]);

/* The one descriptor of it that is needed when the rest cannot be read: sup_state.back_fd.  -1: there is none. */
int sup_state_back(int fd);

/* Clears or sets close-on-exec of every descriptor that is part of it.  0 or -errno. */
int sup_state_inherit(const struct sup *sup, const struct sup_state *st, bool inherit);

#endif
