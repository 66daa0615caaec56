/* pins.pml - pins and limbo: no item is reused while a reader may still look at it (P2).
 *
 * One slot, two item offsets (so that the same offset comes back), readers with one pin cell
 * each.  A reader's stores to its pin wait in a store buffer, first in first out, which empties at
 * any moment, or all at once by the engine's membarrier.
 *
 *    slot -> offset             reader: load slot, pin, fence, load slot again, use, unpin
 *    pin[r] <- buf[r] <- store  engine: publish|delete, retire, barrier, scan, free, fill again
 *
 * Proved: an item that passed the re-check stays as it is until unpinned; no call returns something
 * older than what was acknowledged before it began; limbo is empty once nobody pins.
 *
 * holds   -                  one reader that tries twice: compiler barrier, and membarrier in the engine
 * holds   TWO                two readers that try once
 * holds   FENCE              full fence in the reader, none in the engine (P17)
 * reaches REACH_AGAIN        the offset came back between load and re-check, and was used
 * reaches REACH_HELD         a scan left a pinned item in limbo
 * reaches REACH_CHANGED      a re-check failed
 * catches NO_RECHECK         the reader uses what it pinned without looking at the slot again
 * catches PIN_LATE           no compiler barrier: the pin's store sinks below the re-check
 * catches RECHECK_RELAXED    the second load of the slot is no acquire: an item's word is loaded early
 * catches UNPIN_RELAXED      the unpin is no release: it overtakes the last load of the item
 * catches PUBLISH_RELAXED    the publish is no release: it overtakes a store into the item
 * catches NO_BARRIER         the engine scans without a barrier
 * catches SCAN_FIRST         the engine scans, then does the barrier
 * catches BATCH_OPEN         what is retired between barrier and scan joins the batch
 * catches NO_SCAN            the engine frees after the barrier without looking at pins
 * catches TWO,SCAN_ONE       the scan leaves out a cell
 * catches RETIRE_FIRST       an item is retired before its slot has changed
 * catches FORGET_HELD        an item found pinned is dropped from limbo and never freed
 * catches FENCE,NO_FENCE     a client that promised full fences does none
 */
#ifdef TWO
#define N_READERS 2
#define N_TRIES 1
#else
#define N_READERS 1
#define N_TRIES 2
#endif
#define N_ITEMS 2
#define N_MUTATIONS 3

#define FREE 0
#define USED 1 /* being filled, or named by the slot */
#define LIMBO 2

byte slot;
byte pin[N_READERS];
chan buf[N_READERS] = [2] of { byte }; /* the reader's stores to its pin that nobody sees yet */

/* an item is two words; equal when it is complete; the allocator scribbles on a free one */
byte word_a[N_ITEMS + 1], word_b[N_ITEMS + 1];

/* not in memory: what the assertions compare with */
byte state[N_ITEMS + 1];
byte version, acked, deleted;
byte n_done;

#ifdef NO_BARRIER
#define BARRIER(r) skip
#else
#ifdef FENCE
#define BARRIER(r) skip
#else
#define BARRIER(r) drain(r)
#endif
#endif

inline drain(r)
{
	d_step {
		do
		:: nempty(buf[r]) -> buf[r]?pin[r]
		:: empty(buf[r]) -> break
		od
	}
}

proctype Buffer(byte r)
{
end:	do
	:: atomic { buf[r]?pin[r] }
	od
}

inline retire(i)
{
	state[i] = LIMBO;
	batch_next = batch_next | (1 << i) /* engine:retired */
}

inline scan()
{
	held = 0;
	held = held | (1 << pin[0]);
#ifdef TWO
#ifndef SCAN_ONE
	held = held | (1 << pin[1]);
#endif
#endif
	skip /* engine:scanned */
}

inline reclaim()
{
	d_step { batch = batch_next; batch_next = 0 }
#ifdef SCAN_FIRST
	scan();
#endif
	BARRIER(0);
#ifdef TWO
	BARRIER(1);
#endif
	skip; /* engine:barrier */
#ifdef BATCH_OPEN
	if
	:: slot != 0 && n_mutations < N_MUTATIONS -> n_mutations++; delete()
	:: skip
	fi;
	d_step { batch = batch | batch_next; batch_next = 0 }
#endif
#ifdef NO_SCAN
	held = 0;
#else
#ifndef SCAN_FIRST
	scan();
#endif
#endif
	d_step {
		i = 1;
		do
		:: i <= N_ITEMS ->
			if
			:: (batch & (1 << i)) && !(held & (1 << i)) ->
				state[i] = FREE;
				word_a[i] = 0
			:: (batch & (1 << i)) && (held & (1 << i)) ->
#ifdef REACH_HELD
				assert(false);
#endif
#ifndef FORGET_HELD
				batch_next = batch_next | (1 << i)
#endif
			:: else -> skip
			fi;
			i++
		:: else -> break
		od;
		batch = 0; held = 0; i = 0
	} /* engine:freed */
}

inline set()
{
	if
	:: state[1] == FREE -> i = 1
	:: state[2] == FREE -> i = 2
	:: else -> i = 0 /* out of memory: an error to the caller */
	fi;
	if
	:: i != 0 ->
		atomic { state[i] = USED; version++; word_a[i] = version }
		old = slot;
#ifdef RETIRE_FIRST
		if :: old != 0 -> retire(old); reclaim(); i = 3 - old :: else -> skip fi;
#endif
#ifdef PUBLISH_RELAXED
		atomic { slot = i; acked = version }
		word_b[i] = version;
#else
		word_b[i] = version;
		atomic { slot = i; acked = version } /* set:published */
#endif
#ifndef RETIRE_FIRST
		if :: old != 0 -> retire(old) :: else -> skip fi;
#endif
		old = 0; i = 0
	:: else -> skip
	fi
}

inline delete()
{
	atomic { old = slot; slot = 0; version++; acked = version; deleted = version } /* delete:published */
	d_step { retire(old); old = 0 }
}

proctype Engine()
{
	byte i, old, batch, batch_next, held, n_mutations;

	do
	:: n_mutations < N_MUTATIONS -> n_mutations++; set()
	:: n_mutations < N_MUTATIONS && slot != 0 -> n_mutations++; delete()
	:: batch_next != 0 && n_mutations < N_MUTATIONS -> reclaim()
	:: n_mutations == N_MUTATIONS -> break
	od;
	reclaim();
	n_done == N_READERS && pin[0] == 0 && pin[N_READERS - 1] == 0;
	reclaim();
	assert(state[1] != LIMBO && state[2] != LIMBO)
}

proctype Reader(byte r)
{
	byte s, x, y, low, n_tries;
#ifdef REACH_AGAIN
	byte loaded_version;
#endif

	low = acked;
again:	if
	:: n_tries == N_TRIES -> goto done /* a named result */
	:: else -> n_tries++
	fi;
#ifdef REACH_AGAIN
	atomic { s = slot; loaded_version = word_b[s] };
#else
	s = slot;
#endif
	if
	:: s == 0 -> assert(deleted >= low); goto done
	:: else -> skip
	fi;
#ifndef PIN_LATE
	buf[r]!s; /* reader:pinned */
#ifdef FENCE
#ifndef NO_FENCE
	empty(buf[r]);
#endif
#endif
#endif
#ifdef RECHECK_RELAXED
	x = word_a[s];
#endif
#ifndef NO_RECHECK
	if
	:: slot != s ->
#ifdef REACH_CHANGED
		assert(false);
#endif
		s = 0;
		goto again
	:: else -> skip /* reader:rechecked */
	fi;
#endif
#ifdef PIN_LATE
	buf[r]!s;
#endif
#ifndef RECHECK_RELAXED
	atomic { x = word_a[s]; assert(state[s] != FREE) }
#endif
#ifdef UNPIN_RELAXED
	buf[r]!0;
#endif
	atomic { y = word_b[s]; assert(state[s] != FREE) } /* reader:used */
	assert(x == y && x >= low);
#ifdef REACH_AGAIN
	assert(y == loaded_version);
#endif
done:	atomic { buf[r]!0; n_done++; s = 0; x = 0; y = 0; low = 0 } /* reader:unpinned */
}

init {
	atomic {
		version = 1; acked = 1; slot = 1; state[1] = USED; word_a[1] = 1; word_b[1] = 1;
		run Buffer(0);
		run Reader(0);
#ifdef TWO
		run Buffer(1);
		run Reader(1);
#endif
		run Engine()
	}
}
