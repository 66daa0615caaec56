/* dirs.pml - items that are reached through another item (P8), and pins that move (P11).
 *
 * A root slot names a directory; a directory, which is immutable, names children.  The engine replaces
 * the directory twice, and each replacement drops a child.  A reader pins the directory, then either
 * pins a child and lets the directory go, or uses a child under the directory's pin alone.
 *
 *    root -> 1: [A B] -> 2: [B] -> 3: []        A is dropped by 2, B by 3, though 1 may still be pinned
 *
 * The engine's scan loads pin cells in any order.  Pins wait in a store buffer (pins.pml).
 *
 * Proved: a child that is used is not free, and is the child that the directory named; limbo ends.
 *
 * holds   -                  both ways of reading, at any point of both replacements
 * reaches REACH_HELD         a child waits for a directory in limbo, though nobody pins the child
 * reaches REACH_OLDEST       ... one that is older than the directory that it was dropped from
 * reaches REACH_CHANGED      the root had changed when the child was pinned
 * catches NO_DIR_RECHECK     the root is not loaded again after the directory's pin
 * catches ENTRY_RECHECK      after the child's pin the directory's entry is loaded again, not the root
 * catches NO_HOLD            children leave limbo without regard to directories
 * catches HOLD_LAST          a child waits only for the directory that it was dropped from
 * catches MOVE_PIN           the child's pin moves to another cell before use
 * catches NO_BARRIER         the engine scans without a barrier
 */
#define A 1
#define B 2
#define N_DIRS 3

#define DIR_BIT(d) (1 << ((d) - 1))
#define CHILD_BIT(c) (1 << (N_DIRS + (c) - 1))

byte root = 1;
byte entry[(N_DIRS + 1) * 2]; /* two of each directory */
#define ENTRY(d, k) entry[(d) * 2 + (k)]

/* cells: 0 the directory's pin, 1 the child's, 2 one that the child's may move to */
byte pin[3]; /* as bits: 0 none */
chan buf = [4] of { byte, byte };

byte in_limbo, freed; /* bits of what is there */
byte n_ended;

active proctype Buffer()
{
end:	do
	:: atomic { buf?0, pin[0] }
	:: atomic { buf?1, pin[1] }
#ifdef MOVE_PIN
	:: atomic { buf?2, pin[2] }
#endif
	od
}

inline barrier()
{
#ifndef NO_BARRIER
	d_step {
		do
		:: buf?[0, _] -> buf?0, pin[0]
		:: buf?[1, _] -> buf?1, pin[1]
		:: buf?[2, _] -> buf?2, pin[2]
		:: empty(buf) -> break
		od
	}
#endif
	skip /* engine:barrier */
}

/* the children that directory d names, as it was written */
#define CHILDREN(d) ((d) == 1 -> CHILD_BIT(A) | CHILD_BIT(B) : ((d) == 2 -> CHILD_BIT(B) : 0))

/* memory that is used for something else; a free directory's entries name anything */
inline free_all(bits)
{
	atomic {
		freed = freed | (bits);
		in_limbo = in_limbo & ~(bits);
		if
		:: (bits) & DIR_BIT(1) -> ENTRY(1, 0) = B; ENTRY(1, 1) = A
		:: else -> skip
		fi;
		if
		:: (bits) & DIR_BIT(2) -> ENTRY(2, 0) = A; ENTRY(2, 1) = A
		:: else -> skip
		fi
	}
}

inline scan()
{
	held = 0;
	if
	:: held = held | pin[0]; held = held | pin[1]; held = held | pin[2]
	:: held = held | pin[2]; held = held | pin[1]; held = held | pin[0]
	fi /* engine:scanned */
}

inline reclaim()
{
	batch = in_limbo;
	barrier();
	scan();
	d_step {
		batch = batch & ~held;
#ifndef NO_HOLD
		/* a directory that stays keeps what it names */
		if
		:: (in_limbo & ~batch) & DIR_BIT(1) ->
#ifndef HOLD_LAST
#ifdef REACH_OLDEST
			assert(!(batch & CHILD_BIT(B)));
#endif
			batch = batch & ~CHILDREN(1)
#else
			batch = batch & ~CHILD_BIT(A)
#endif
		:: else -> skip
		fi;
		if
		:: (in_limbo & ~batch) & DIR_BIT(2) ->
#ifdef REACH_HELD
			assert(!(batch & CHILDREN(2)));
#endif
			batch = batch & ~CHILDREN(2)
		:: else -> skip
		fi;
#endif
		held = 0
	}
	free_all(batch); /* engine:freed */
	batch = 0
}

proctype Engine()
{
	byte held, batch;

	root = 2; /* set:published */
	in_limbo = in_limbo | DIR_BIT(1) | CHILD_BIT(A); /* engine:retired */
	if
	:: reclaim()
	:: skip
	fi;
	root = 3;
	in_limbo = in_limbo | DIR_BIT(2) | CHILD_BIT(B);
	reclaim();
	if
	:: in_limbo != 0 -> reclaim()
	:: skip
	fi;
	n_ended == 1 && pin[0] == 0 && pin[1] == 0 && pin[2] == 0;
	reclaim();
	assert(in_limbo == 0)
}

proctype Reader()
{
	byte d, c, k;

	d = root;
	buf!0, DIR_BIT(d); /* reader:pinned */
#ifndef NO_DIR_RECHECK
	if :: root != d -> goto out :: else -> skip fi; /* reader:rechecked */
#endif
	if
	:: k = 0
	:: k = 1
	fi;
	atomic { c = ENTRY(d, k); assert(!(freed & DIR_BIT(d))) }
	if :: c == 0 -> goto out :: else -> skip fi;
	if
	:: /* under the directory's pin */
		assert(!(freed & CHILD_BIT(c)));
		goto out
	:: skip
	fi;
	buf!1, CHILD_BIT(c);
#ifdef ENTRY_RECHECK
	if :: ENTRY(d, k) != c -> goto out :: else -> skip fi;
#else
	if
	:: root != d ->
#ifdef REACH_CHANGED
		assert(false);
#endif
		goto out
	:: else -> skip
	fi;
#endif
	buf!0, 0; /* the directory is let go */
#ifdef MOVE_PIN
	buf!2, CHILD_BIT(c);
	buf!1, 0;
#endif
	assert(!(freed & CHILD_BIT(c))); /* reader:used */
out:	buf!0, 0;
	buf!1, 0;
#ifdef MOVE_PIN
	buf!2, 0;
#endif
	n_ended++ /* reader:unpinned */
}

init {
	atomic {
		ENTRY(1, 0) = A; ENTRY(1, 1) = B; ENTRY(2, 1) = B;
		run Reader();
		run Engine()
	}
}
