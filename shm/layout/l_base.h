/* l_base.h - the vocabulary of the layout headers.
 *
 *   plain field       does not change while anybody may look at it: written
 *                     before the structure is published, or guarded by what
 *                     its comment names.
 *   shm_u32, shm_u64  another process may write it at any instant.  A struct of
 *                     one member on purpose: arithmetic on it does not compile;
 *                     only shm/atomic.h touches `.v`.
 *   unit              16 bytes.  Offsets inside a pool are 44-bit numbers of
 *                     units from the pool's start (256 TiB); 0 is "none".
 *
 * A field's comment reads  [W: who, when; R: who] meaning, unit, range.
 * Roles: sup (supervisor), eng (engine), cli (the client whose segment it is),
 * all, none.  There are no addresses in shared memory.
 *
 * Little-endian machines only (x86-64, arm64); the segment header says so.
 * Needs <stdint.h> and <stddef.h> alone: compiles as C11, C++17 and BPF C.
 */
#ifndef HC_LAYOUT_BASE_H
#define HC_LAYOUT_BASE_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
	uint32_t v;
} shm_u32;
typedef struct {
	uint64_t v;
} shm_u64;

#define SHM_LINE 64u      /* bytes that must not be shared by two writers */
#define SHM_UNIT 16u      /* bytes of one offset step */
#define SHM_PAGE 4096u    /* bytes of a pool page, whatever backs it */
#define SHM_NAME_BYTES 32 /* names of pools and stores, with the final 0 */

#ifdef __cplusplus
#define SHM_ASSERT(c) static_assert(c, #c)
#else
#define SHM_ASSERT(c) _Static_assert(c, #c)
#endif

/* The SHM_AT lines under a struct are its ABI: they feed the golden table
 * (tests/golden/layout.md), and whoever changes one bumps a layout version. */
#define SHM_AT(t, field, o) SHM_ASSERT(offsetof(struct t, field) == (o))
#define SHM_SIZE(t, n) SHM_ASSERT(sizeof(struct t) == (n))

#endif
