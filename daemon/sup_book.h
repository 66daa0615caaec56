/* sup_book.h - the book: what a supervisor wrote for the one that starts behind its death (sup_store.c).
 *
 *   0      magic, which of two texts counts, and how long they are
 *   4096   the directory as it was made (sup_memory_mend)
 *   ...    two texts, each as of sup_state.h; what it says of descriptors are the dead one's numbers
 */
#ifndef HC_DAEMON_SUP_BOOK_H
#define HC_DAEMON_SUP_BOOK_H

#include "layout/l_control.h"

#define SUP_BOOK_MAGIC "hypercached-bk1" /* with its NUL: 16 bytes */

struct sup_book {
	char magic[16];
	shm_u32 whole; /* 1: all that the text names is in the store */
	shm_u32 at;    /* the text that counts; 0 or 1 */
	shm_u64 text_bytes[2];
	uint8_t pad[4096 - 40];
	struct shm_control born;
};
SHM_AT(sup_book, born, 4096);

#define SUP_BOOK_TEXT_BYTES (UINT64_C(1) << 20)
#define SUP_BOOK_TEXT_OFF ((sizeof(struct sup_book) + 4095) / 4096 * 4096)
#define SUP_BOOK_BYTES (SUP_BOOK_TEXT_OFF + 2 * SUP_BOOK_TEXT_BYTES)

#endif
