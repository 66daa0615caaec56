/* hc_thread.c - blocks claimed and given back; see hc_thread.h. */
#include "hc_thread.h"
#include "hc_probe.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

_Thread_local struct hc_held hc_held[HC_HELD_MAX];

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER; /* sessions, states of blocks */
static struct hc_threads *sessions;
static uint64_t last_serial;
static pthread_key_t end_key;
static bool end_key_made;

static struct hc_threads *session_by_serial(uint64_t serial)
{
	for (struct hc_threads *t = sessions; t; t = t->next)
		if (t->serial == (serial & ~HC_ARMED))
			return t;
	return NULL;
}

/* A thread ends: its blocks go back to the sessions that still live. */
static void thread_ended(void *arg)
{
	struct hc_held *h = arg;

	(void)pthread_mutex_lock(&registry_lock);
	for (int i = 0; i < HC_HELD_MAX; i++) {
		struct hc_threads *t = h[i].serial ? session_by_serial(h[i].serial) : NULL;
		if (t && !hc_forked(t->hc))
			h[i].thread->owned = false;
		h[i].serial = 0;
	}
	(void)pthread_mutex_unlock(&registry_lock);
}

/* A fork in the middle of another thread's claim must not leave the child a locked mutex. */
static void before_fork(void) { (void)pthread_mutex_lock(&registry_lock); }
static void after_fork(void) { (void)pthread_mutex_unlock(&registry_lock); }

static bool make_end_key(void)
{
	return pthread_atfork(before_fork, after_fork, after_fork) == 0 &&
	       pthread_key_create(&end_key, thread_ended) == 0;
}

__attribute__((destructor)) static void library_unloaded(void)
{
	if (end_key_made)
		(void)pthread_key_delete(end_key);
}

struct hc_threads *hc_threads_new(struct hc *hc)
{
	size_t bytes = sizeof(struct hc_threads) + hc->n_blocks * sizeof(struct hc_thread);
	struct shm_block *block = (struct shm_block *)(void *)(hc->seg + 1);
	struct hc_threads *t = aligned_alloc(SHM_LINE, bytes); /* both sizes are whole lines */

	if (!t)
		return NULL;
	memset(t, 0, bytes);
	t->hc = hc;
	t->n = hc->n_blocks;
	for (uint32_t i = 0; i < t->n; i++) {
		t->thread[i].hc = hc;
		t->thread[i].fork_word = hc->fork_word;
		t->thread[i].view_cell = &block[i].pin[SHM_PIN_VIEW];
		t->thread[i].reader = (struct shm_reader){.block = &block[i],
			.pin_gen = &hc->ctl->pin_gen[hc->slot],
			.time_off_ns = hc->time_off_ns,
			.full_fence = hc->full_fence};
	}
	(void)pthread_mutex_lock(&registry_lock);
	if (!end_key_made)
		end_key_made = make_end_key();
	t->serial = ++last_serial;
	t->next = sessions;
	sessions = t;
	bool ok = end_key_made;
	(void)pthread_mutex_unlock(&registry_lock);
	if (!ok) {
		hc_threads_free(t);
		return NULL;
	}
	return t;
}

uint64_t hc_threads_serial(const struct hc_threads *t) { return t->serial; }

void hc_threads_free(struct hc_threads *t)
{
	if (!t)
		return;
	(void)pthread_mutex_lock(&registry_lock);
	for (struct hc_threads **p = &sessions; *p; p = &(*p)->next)
		if (*p == t) {
			*p = t->next;
			break;
		}
	(void)pthread_mutex_unlock(&registry_lock);
	free(t);
}

/* May the block be given to a thread?  Not while somebody holds a view in it. */
static bool block_is_free(struct hc_thread *th)
{
	if (th->owned)
		return false;
	for (int i = 0; i < SHM_BLOCK_PINS; i++)
		if (shm_load_acq(&th->reader.block->pin[i]) != 0) /* acq:pin.word */
			return false;
	return true;
}

static struct hc_thread *claim_locked(struct hc_threads *t)
{
	for (uint32_t i = 0; i < t->n; i++) {
		struct hc_thread *th = &t->thread[i];
		if (!block_is_free(th))
			continue;
		th->owned = true;
		if (shm_load32_rlx(&t->hc->seg->blocks_used) < i + 1)
			/* rel:client.blocks: before the first pin of this block (l_client.h). */
			shm_store32_rel(&t->hc->seg->blocks_used, i + 1);
		return th;
	}
	return NULL;
}

int hc_thread_claim(struct hc_threads *t, struct hc_thread **ret)
{
	int slot = -1;

	(void)pthread_mutex_lock(&registry_lock);
	for (int i = 0; i < HC_HELD_MAX; i++)
		if (hc_held[i].serial == 0 || !session_by_serial(hc_held[i].serial))
			slot = slot < 0 ? i : slot;
	int e = slot < 0 ? HC_E_THREADS : 0;
	if (e == 0 && pthread_setspecific(end_key, hc_held) != 0)
		e = HC_E_NO_MEMORY;
	struct hc_thread *th = e == 0 ? claim_locked(t) : NULL;
	if (th) {
		hc_held[slot] = hc_held[0];
		hc_held[0] = (struct hc_held){.serial = t->serial, .thread = th};
	} else if (e == 0) {
		e = HC_E_THREADS;
	}
	(void)pthread_mutex_unlock(&registry_lock);
	if (th && hc_probe_reads())
		hc_probe_count(th, 0, false); /* its first read may be told of already */
	*ret = th;
	return e;
}
