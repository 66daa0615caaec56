/* revoke.pml - taking memory back from a client that holds it too long (P12).
 *
 * One slot, two items, one reader.  A pin is (generation, item); the generation is a word that only
 * the engine writes.  To revoke, the engine bumps it, does a barrier, and from then on ignores pins of
 * another generation; the reader finds out by looking at the word again after it has copied.
 *
 *    gen -> g    reader: load gen, slot; pin (g, item); slot again; copy; gen again: still g? then good
 *    gen + 1     engine: bump, barrier, scan without older pins, reuse
 *
 * A pin has room for a few bits of the generation only: here for one, so that a second revocation makes
 * an old pin look new.  The engine's store to gen waits in a buffer that is not ordered with its other
 * stores (arm64), until it is flushed or a barrier comes.
 *
 * Proved: a copy that is called good is the item that the slot named when it was pinned; nobody reads
 * punched memory; a call during which nothing was revoked is not told so; limbo ends in spite of a pin.
 *
 * holds   -                  a reader that may stop for ever with its pin set; two revocations
 * reaches REACH_REVOKED      a copy was found not to be good
 * reaches REACH_SCRIBBLED    ... and it was not
 * reaches REACH_WRAPPED      an old pin looked like a new one to a scan
 * catches NO_CHECK           the generation is not looked at after the copy
 * catches CHECK_EARLY        it is, but the last word is loaded later: no acquire fence
 * catches CHECK_FEW_BITS     only those bits are compared that fit a pin
 * catches CHECK_OTHER        what is compared is not the generation in the pin, but one loaded later
 * catches KEPT_GENERATION    the generation is loaded once for all calls, not in each
 * catches NO_BARRIER         bump, and reuse without a barrier
 * catches IGNORE_ALL         pins of the new generation are ignored too
 * catches BUMP_LATE          older pins are ignored before the bump
 * catches PUNCH_REVOKED      memory that an ignored pin names is punched
 */
#define N_ITEMS 2
#define N_MUTATIONS 2
#define N_REVOKES 2

#define FREE 0
#define USED 1
#define LIMBO 2
#define HOLE 3

#define PIN(g, i) (((g) & 1) << 2 | (i))
#define PIN_ITEM(p) ((p) & 3)
#define PIN_GEN(p) ((p) >> 2)

byte slot, gen;
byte pin;
byte word_a[N_ITEMS + 1], word_b[N_ITEMS + 1];
chan buf = [2] of { byte };     /* the reader's stores to its pin */
chan gen_buf = [2] of { byte }; /* the engine's to gen */

byte state[N_ITEMS + 1];
byte version;
byte n_bumped; /* the generation as the engine knows it */
#ifdef REACH_WRAPPED
byte pinned_gen = 9;
#endif

active proctype Buffer()
{
end:	do
	:: atomic { buf?pin }
	:: atomic { gen_buf?gen }
	od
}

inline barrier()
{
	d_step {
		do
		:: nempty(buf) -> buf?pin
		:: nempty(gen_buf) -> gen_buf?gen
		:: empty(buf) && empty(gen_buf) -> break
		od
	} /* engine:barrier */
}

inline scan()
{
	atomic {
		held = 0;
		p = pin;
		if
#ifdef IGNORE_ALL
		:: n_bumped > 0 -> skip
#endif
#ifdef BUMP_LATE
		:: ignoring -> skip
#endif
		:: p != 0 && PIN_GEN(p) == (n_bumped & 1) ->
			held = 1 << PIN_ITEM(p);
#ifdef REACH_WRAPPED
			assert(!(n_bumped == 2 && PIN_GEN(p) == 0 && pinned_gen == 0))
#endif
		:: else -> skip
		fi;
		p = 0
	} /* engine:scanned */
}

inline free_unpinned()
{
	scan();
	d_step {
		i = 1;
		do
		:: i <= N_ITEMS ->
			if
			:: (batch & (1 << i)) && !(held & (1 << i)) -> state[i] = FREE; word_a[i] = 0
			:: else -> limbo = limbo | (batch & (1 << i))
			fi;
			i++
		:: else -> break
		od;
		i = 0; batch = 0; held = 0;
		scanned = limbo
	} /* engine:freed */
}

inline reclaim()
{
	d_step { batch = limbo; limbo = 0 }
	barrier();
	free_unpinned()
}

inline revoke()
{
#ifdef BUMP_LATE
	ignoring = true;
	reclaim();
	ignoring = false;
	atomic { n_bumped++; gen_buf!n_bumped }
	barrier()
#else
	atomic { n_bumped++; gen_buf!n_bumped }
#ifdef NO_BARRIER
	/* these have had a barrier since they were unlinked: it is the bump that has had none */
	d_step { batch = limbo & scanned; limbo = limbo & ~scanned }
	free_unpinned()
#else
	reclaim()
#endif
#endif
}

inline set()
{
	if
	:: state[1] == FREE || state[1] == HOLE -> i = 1
	:: state[2] == FREE || state[2] == HOLE -> i = 2
	:: else -> i = 0
	fi;
	if
	:: i != 0 ->
		atomic { state[i] = USED; version++; word_a[i] = version }
		word_b[i] = version;
		d_step {
			p = slot; slot = i; /* set:published */
			state[p] = LIMBO; limbo = limbo | (1 << p); /* engine:retired */
			p = 0; i = 0
		}
	:: else -> skip
	fi
}

/* gives the memory of a free item back: only when no pin at all names it, of whatever generation */
inline punch()
{
	if
	:: state[1] == FREE -> i = 1
	:: state[2] == FREE -> i = 2
	:: else -> i = 0
	fi;
	if
	:: i != 0 ->
		barrier();
#ifdef PUNCH_REVOKED
		scan();
		if :: held & (1 << i) -> skip :: else -> state[i] = HOLE fi;
#else
		if :: PIN_ITEM(pin) == i -> skip :: else -> state[i] = HOLE fi;
#endif
		d_step { held = 0; i = 0 }
	:: else -> skip
	fi
}

proctype Engine()
{
	byte i, p, limbo, batch, held, n_mutations, n_punches;
	byte scanned; /* of limbo: was found pinned by an earlier scan */
#ifdef BUMP_LATE
	bool ignoring;
#endif

	do
	:: n_mutations < N_MUTATIONS -> n_mutations++; set()
	:: n_bumped < N_REVOKES -> revoke()
	:: limbo != 0 -> reclaim()
	:: n_punches < 1 -> n_punches++; punch()
	:: n_mutations == N_MUTATIONS && n_bumped == N_REVOKES -> break
	od;
	/* a pin that never goes ends by one more revocation, if it looks new */
	reclaim();
	if
	:: limbo != 0 ->
		atomic { n_bumped++; gen_buf!n_bumped }
		reclaim()
	:: else -> skip
	fi;
	assert(limbo == 0)
}

proctype Reader()
{
	byte g, s, x, y, was;
	byte gen_at_start;

	atomic {
		gen_at_start = gen;
#ifndef KEPT_GENERATION
		g = gen
#endif
	}
	s = slot;
	buf!PIN(g, s); /* reader:pinned */
#ifdef REACH_WRAPPED
	pinned_gen = g;
#endif
	atomic {
		if
		:: slot != s -> goto out
		:: else -> was = word_b[s]
		fi /* reader:rechecked */
	}
#ifdef CHECK_OTHER
	g = gen;
#endif
	if
	:: true -> goto stopped
	:: true -> skip
	fi;
	atomic { x = word_a[s]; assert(state[s] != HOLE) }
#ifdef CHECK_EARLY
	if :: gen != g -> goto out :: else -> skip fi;
#endif
	atomic { y = word_b[s]; assert(state[s] != HOLE) } /* reader:used */
#ifndef CHECK_EARLY
#ifndef NO_CHECK
	atomic {
		if
#ifdef CHECK_FEW_BITS
		:: (gen & 1) != (g & 1) ->
#else
		:: gen != g ->
#endif
#ifdef REACH_REVOKED
			assert(false);
#endif
#ifdef REACH_SCRIBBLED
			assert(x == was && y == was);
#endif
			assert(gen != gen_at_start);
			goto out
		:: else -> skip
		fi
	}
#endif
#endif
	assert(x == was && y == was);
out:	buf!0; /* reader:unpinned */
stopped:
	skip
}

init {
	atomic {
		slot = 1; state[1] = USED; version = 1; word_a[1] = 1; word_b[1] = 1;
		run Reader();
		run Engine()
	}
}
