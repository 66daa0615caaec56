/* grow.pml - index growth under readers that hold an old table (P5, P6, P7).
 *
 * Table areas of one bucket with two slots.  `table` is the table word; next[t] leads from a table to
 * the one that it is being moved to.  A reader looks key K up; a second key, L, only fills a slot, so
 * that a bucket can be half moved.  A slot holds 0, an item of K (1, 2), L's item, or MOVED.
 *
 *    table -> t --next--> n      reader: load table, pin it, load table again;
 *             |           |              unmoved slots of t; if any was MOVED, the slots of n;
 *           slots       slots            pin the item, slot again, table again, use, unpin
 *
 *    engine: format n, next[t] = n, each slot: copy, then MOVED (empty ones too), table = n, retire t
 *
 * The memory of a retired table is used for something else as soon as it is free: its slots then are
 * anybody's bytes, until the same area is a table again.  Pins wait in a store buffer (pins.pml).
 * A crash is between any two stores of a bucket's migration; what a new engine does about items that
 * no slot names is in adopt.pml.
 *
 * Proved: a key that is there at every moment is found; what is found is no older than what was
 * acknowledged before the call; neither a forged slot nor a free item is used.
 *
 * holds   -                   one growth, mutations at any point; the engine may die in the bucket
 * holds   TWICE               two growths, no crash; the second may use the first table's memory again
 * reaches REACH_MOVED         an item was found by way of a MOVED slot
 * reaches REACH_HELD          a retired table was found pinned
 * reaches TWICE,REACH_BACK    the same area became the table again while a call had it loaded
 * reaches REACH_HALF          a new engine found a bucket half moved
 * catches NO_MOVED            slots are copied and left as they were
 * catches MOVED_FIRST         MOVED is stored before the copy
 * catches EMPTY_KEPT          empty slots of a moved bucket are not marked
 * catches MUTATE_HALF         a key is set in the new table while its bucket is half moved
 * catches STOP_AT_MOVED       the reader goes to the new table at the first MOVED that it meets
 * catches NO_SLOT_RECHECK     the slot is not loaded again after the pin
 * catches TWICE,NO_WORD_RECHECK   the table word is not loaded again after the item's pin
 * catches TWICE,NO_MISS_RECHECK     nor after a miss
 * catches TWICE,NO_TABLE_PIN  the call has no pin of its own for the table
 * catches TWICE,NO_TABLE_RECHECK  the table word is not loaded again after the table's pin, before its slots
 * holds   TWICE,NO_TABLE_RECHECK,WORD_UNIQUE  ... which is safe while a table word never recurs
 * holds   TWICE,NO_TABLE_PIN,WORD_UNIQUE  and so is this, where a table's memory is never punched (P30)
 * holds   TWICE,PUNCH         free tables may be punched (P30): none that a table in limbo leads to is free
 * catches TWICE,PUNCH,NEXT_NOT_HELD  a table is freed although a pinned one leads to it
 * catches TWICE,PUNCH,WORD_UNIQUE,NO_TABLE_RECHECK  the slots of an unchecked table are looked at
 * catches TWICE,TABLE_AT_ONCE the table's memory is reused without limbo
 * catches NO_BARRIER          the engine scans without a barrier
 * catches WORD_FIRST          the table word changes before the bucket has been moved
 * catches NO_FINISH           a new engine changes a half-moved bucket before finishing it
 * catches FINISH_BLIND        it finishes it without looking which slots had been copied
 */
#define N_ITEMS 2
#define L_ITEM 3
#define MOVED 9
#define N_SLOTS 2
#ifdef TWICE
#define N_TABLES 3
#define N_GROWTHS 2
#define N_MUTATIONS 1
#define N_TRIES 1
#else
#define N_TABLES 2
#define N_GROWTHS 1
#define N_MUTATIONS 2
#define N_TRIES 2
#endif

/* WORD_UNIQUE: the table word has something in it that never recurs (here: how many there were) */
#ifdef WORD_UNIQUE
#define SAME_TABLE (table == t && installs == n_installs)
#define COUNT_INSTALLS
#else
#define SAME_TABLE (table == t)
#endif
#ifdef REACH_BACK
#define COUNT_INSTALLS
#endif

#define SLOT(t, j) cell[(t) * N_SLOTS + (j)]
#define IS_K(s) ((s) == 1 || (s) == 2)
#define ITEM_BIT(i) (1 << (i))
#define TABLE_BIT(t) (1 << (N_ITEMS + 1 + (t)))

/* a table that a pinned table leads to is reached without a pin of its own */
#ifdef PUNCH
#define LEADS_TO(a, t) (table_state[a] == LIMBO && next[a] == (t) && (a) != (t))
#ifdef NEXT_NOT_HELD
#define IS_LED_TO(t) false
#else
#define IS_LED_TO(t) (LEADS_TO(0, t) || LEADS_TO(1, t) || LEADS_TO(2, t))
#endif
#define LOOK(t) assert(table_state[t] != FREE)
#else
#define IS_LED_TO(t) false
#define LOOK(t) skip
#endif

#define FREE 0
#define USED 1
#define LIMBO 2

byte table;                        /* the table word */
byte cell[N_TABLES * N_SLOTS];     /* the slots of all areas */
byte next[N_TABLES];
byte pin[2];                       /* 0: the item's, 1: the table's (area + 1) */
chan buf = [4] of { byte, byte };
byte word[N_ITEMS + 2]; /* an item: its version, 0 once the allocator has scribbled on it */

byte state[N_ITEMS + 2], table_state[N_TABLES];
byte version, acked, deleted;
#ifdef COUNT_INSTALLS
byte n_installs;
#endif
bool done;

inline barrier()
{
#ifndef NO_BARRIER
	d_step {
		do
		:: buf?[0, _] -> buf?0, pin[0]
		:: buf?[1, _] -> buf?1, pin[1]
		:: empty(buf) -> break
		od
	}
#endif
	skip /* engine:barrier */
}

active proctype Buffer()
{
end:	do
	:: atomic { buf?0, pin[0] }
	:: atomic { buf?1, pin[1] }
	od
}

/* the area is used for something else: whoever reads a slot there reads anything */
inline forge(t)
{
	if
	:: SLOT(t, 0) = 1; SLOT(t, 1) = 0
	:: SLOT(t, 0) = 0; SLOT(t, 1) = 2
	:: SLOT(t, 0) = 0; SLOT(t, 1) = 0
	fi;
	next[t] = t
}

inline reclaim()
{
	d_step { batch = limbo; limbo = 0 }
	barrier();
	held = ITEM_BIT(pin[0]);
	if :: pin[1] != 0 -> held = held | TABLE_BIT(pin[1] - 1) :: else -> skip fi; /* engine:scanned */
	atomic {
		i = 1;
		do
		:: i <= N_ITEMS ->
			if
			:: (batch & ITEM_BIT(i)) && !(held & ITEM_BIT(i)) ->
				state[i] = FREE; word[i] = 0
			:: else -> limbo = limbo | (batch & ITEM_BIT(i))
			fi;
			i++
		:: else -> break
		od;
		i = 0;
		do
		:: i < N_TABLES ->
			if
			:: (batch & TABLE_BIT(i)) && !(held & TABLE_BIT(i)) && !IS_LED_TO(i) ->
				table_state[i] = FREE; forge(i)
			:: else ->
#ifdef REACH_HELD
				assert(!(batch & TABLE_BIT(i)));
#endif
				limbo = limbo | (batch & TABLE_BIT(i))
			fi;
			i++
		:: else -> break
		od;
		batch = 0; held = 0; i = 0
	} /* engine:freed */
}

/* K's slot in area t, or the first empty one; N_SLOTS if there is neither */
inline find(t)
{
	d_step {
		if
		:: IS_K(SLOT(t, 0)) -> j = 0
		:: !IS_K(SLOT(t, 0)) && IS_K(SLOT(t, 1)) -> j = 1
		:: else ->
			if
			:: SLOT(t, 0) == 0 -> j = 0
			:: SLOT(t, 0) != 0 && SLOT(t, 1) == 0 -> j = 1
			:: else -> j = N_SLOTS
			fi
		fi
	}
}

inline set(t)
{
	if
	:: state[1] == FREE -> i = 1
	:: state[1] != FREE && state[2] == FREE -> i = 2
	:: else -> i = 0 /* out of memory */
	fi;
	find(t);
	if
	:: i != 0 && j < N_SLOTS ->
		/* half-filled items are the matter of pins.pml */
		d_step { state[i] = USED; version++; word[i] = version };
		atomic { o = SLOT(t, j); SLOT(t, j) = i; acked = version } /* set:published */
		d_step {
			if
			:: o != 0 -> state[o] = LIMBO; limbo = limbo | ITEM_BIT(o)
			:: else -> skip
			fi;
			o = 0
		} /* engine:retired */
	:: else -> skip
	fi;
	d_step { i = 0; j = 0 }
}

inline delete(t)
{
	find(t);
	if
	:: j < N_SLOTS && IS_K(SLOT(t, j)) ->
		atomic { o = SLOT(t, j); SLOT(t, j) = 0; version++; acked = version; deleted = version } /* delete:published */
		d_step { state[o] = LIMBO; limbo = limbo | ITEM_BIT(o); o = 0 }
	:: else -> skip
	fi;
	d_step { i = 0; j = 0 }
}

/* some, or no, mutations of the bucket in area t */
inline mutate(t)
{
	do
	:: n_mutations < N_MUTATIONS -> n_mutations++; set(t)
	:: n_mutations < N_MUTATIONS -> n_mutations++; delete(t)
	:: n_mutations < N_MUTATIONS && limbo != 0 -> reclaim()
	:: break
	od
}

/* where slot word w goes in area n: where a dead engine had put it, else the first empty slot */
inline place(w)
{
	d_step {
		if
#ifndef FINISH_BLIND
		:: SLOT(n, 0) == w -> i = 0
		:: SLOT(n, 0) != w && SLOT(n, 1) == w -> i = 1
#endif
		:: else -> i = (SLOT(n, 0) == 0 -> 0 : 1)
		fi
	}
}

#ifdef TWICE
#define MAY_DIE skip
#else
#define MAY_DIE if :: !crashed -> crashed = true; goto half :: skip fi
#endif

/* 0 needs no copy */
inline copy(k)
{
	if
	:: SLOT(table, k) == MOVED || SLOT(table, k) == 0 -> skip
	:: else ->
#ifdef MOVED_FIRST
		o = SLOT(table, k);
		SLOT(table, k) = MOVED;
		place(o);
		SLOT(n, i) = o;
		d_step { i = 0; o = 0 }
#else
		place(SLOT(table, k));
		SLOT(n, i) = SLOT(table, k); /* grow:copied */
		i = 0;
#endif
		MAY_DIE
	fi
}

inline mark(k)
{
	if
	:: SLOT(table, k) == MOVED -> skip
#ifdef EMPTY_KEPT
	:: SLOT(table, k) == 0 -> skip
#endif
	:: else ->
#ifndef NO_MOVED
		SLOT(table, k) = MOVED; /* grow:moved */
#endif
		MAY_DIE
	fi
}

/* slot by slot, or all are copied and then all are marked */
inline migrate_bucket()
{
	copy(0);
	if
	:: mark(0)
	:: skip
	fi;
#ifdef MUTATE_HALF
	mutate(n);
#endif
	copy(1);
	mark(0);
	mark(1)
}

proctype Engine()
{
	byte i, j, o, n, limbo, batch, held, n_mutations, n_growths;
	bool crashed;

	do
	:: n_growths < N_GROWTHS ->
		/* a free area; any */
		if
		:: table_state[0] == FREE -> n = 0
		:: table_state[1] == FREE -> n = 1
#ifdef TWICE
		:: table_state[2] == FREE -> n = 2
#endif
		fi;
		d_step { table_state[n] = USED; SLOT(n, 0) = 0; SLOT(n, 1) = 0; next[n] = n }
		next[table] = n;
#ifdef WORD_FIRST
		j = table;
		table = n; /* readers begin in the new table, before there is anything in it */
		SLOT(n, 0) = SLOT(j, 0);
		SLOT(n, 1) = SLOT(j, 1);
		goto moved;
#endif
		mutate(table);
		migrate_bucket();
		goto moved;
half:		skip;
#ifdef REACH_HALF
		assert(!(SLOT(table, 0) == MOVED && SLOT(table, 1) != MOVED));
#endif
#ifdef NO_FINISH
		d_step { i = 0; o = 0 }
		mutate(table);
		skip;
#endif
		d_step { i = 0; o = 0 }
		migrate_bucket();
moved:		mutate(n);
		atomic {
#ifndef WORD_FIRST
			j = table; table = n;
#endif
#ifdef COUNT_INSTALLS
			n_installs++;
#endif
			skip
		} /* grow:table-published */
		d_step { table_state[j] = LIMBO; limbo = limbo | TABLE_BIT(j) } /* grow:table-retired */
#ifdef TABLE_AT_ONCE
		atomic { limbo = limbo & ~TABLE_BIT(j); table_state[j] = FREE; forge(j) }
#endif
		d_step { j = 0; n_growths++; n = 0 }
		reclaim()
	:: else -> break
	od;
	mutate(table);
	reclaim();
	done && pin[0] == 0 && pin[1] == 0;
	reclaim();
#ifdef PUNCH
	reclaim();
#endif
	assert(limbo == 0)
}

proctype Reader()
{
	byte t, at, j, s, low, n_tries;
	bool moved;
#ifdef COUNT_INSTALLS
	byte installs;
#endif

	low = acked;
again:	if
	:: n_tries == N_TRIES -> goto out /* a named result */
	:: else -> d_step { n_tries++; s = 0; j = 0; moved = false; at = 0; t = 0 }
	fi;
#ifdef COUNT_INSTALLS
	atomic { t = table; at = t; installs = n_installs }
#else
	atomic { t = table; at = t }
#endif
#ifndef NO_TABLE_PIN
	buf!1, t + 1; /* reader:table-pinned */
#ifndef NO_TABLE_RECHECK
	if :: !SAME_TABLE -> goto again :: else -> skip fi;
#endif
#endif
look:	do
	:: j < N_SLOTS ->
		atomic { LOOK(at); s = SLOT(at, j) }
		if
		:: IS_K(s) -> goto found
		:: s == MOVED ->
			moved = true;
#ifdef STOP_AT_MOVED
			break
#endif
		:: else -> skip
		fi;
		j++
	:: else -> break
	od;
	if
	:: moved && at == t ->
		atomic { LOOK(t); at = next[t]; moved = false; j = 0; s = 0 }
		goto look
	:: else -> skip
	fi;
	/* a miss; a table that has itself been moved on is one too, until the word says so */
#ifndef NO_MISS_RECHECK
	if :: !SAME_TABLE -> goto again :: else -> skip fi;
#endif
	assert(deleted > 0 && deleted >= low);
	goto out;
found:	buf!0, s; /* reader:pinned */
#ifndef NO_SLOT_RECHECK
	LOOK(at);
	if :: SLOT(at, j) != s -> goto again :: else -> skip fi;
#endif
#ifndef NO_WORD_RECHECK
	if
	:: !SAME_TABLE -> goto again
#ifdef REACH_BACK
	:: SAME_TABLE && installs != n_installs -> assert(false)
#endif
	:: else -> skip
	fi; /* reader:rechecked */
#endif
#ifdef REACH_MOVED
	assert(at == t);
#endif
	/* "later" may be at any moment until the unpin: one look is enough */
	assert(state[s] != FREE && word[s] >= low); /* reader:used */
out:	buf!0, 0; /* reader:unpinned */
	atomic { buf!1, 0; done = true; t = 0; at = 0; j = 0; s = 0; low = 0; moved = 0 }
}

init {
	atomic {
		if
		:: SLOT(0, 0) = 1
#ifndef TWICE
		:: SLOT(0, 0) = 1; SLOT(0, 1) = L_ITEM
#endif
		:: SLOT(0, 1) = 1; SLOT(0, 0) = L_ITEM
		fi;
		state[1] = USED; version = 1; acked = 1; word[1] = 1;
		table_state[0] = USED;
		run Reader();
		run Engine()
	}
}
