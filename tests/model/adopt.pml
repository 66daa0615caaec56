/* adopt.pml - an engine dies at any instruction, the next one goes on (P15, P16, P19, P22).
 *
 * One slot, two items, one client that connects and reads.  What an engine knows of limbo, of batches
 * and of items being filled is its private memory, and gone with it.  What the next one finds: the slot,
 * and the sessions that the supervisor holds.
 *
 *    supervisor: held        a session is here before its client gets its segment
 *    engine 1: dies anywhere  -->  engine 2: takes the lock; what no slot names is limbo
 *
 * Proved: an item that passed the re-check stays as it is until unpinned, whoever is the engine;
 * no call returns less than what was acknowledged; the dead engine's limbo is freed in the end.
 * An adopting engine may also unlink an item itself: it is damaged, or its store has been cleared.
 *
 * holds   -                  the first engine dies at any step, or not at all until it has finished
 * holds   SCAN_BEFORE        pins are scanned before slots are looked at: what neither names is free
 * reaches REACH_HALF         the second engine finds an item that was being filled
 * reaches REACH_HELD         the second engine finds an item pinned that no slot names
 * reaches REACH_JOINED       the client reads in a session that it got from the first engine, by the second
 * catches FREE_UNNAMED       what no slot names is free at once
 * catches SCAN_BEFORE,DROP_FREE  what adoption itself unlinks is freed by the scan that came before
 * catches NO_BARRIER         the second engine scans without a barrier
 * catches DROP_ZERO          a session whose pin reads zero at adoption is not scanned any more
 * catches SEND_FIRST         the client gets its segment before the supervisor holds the session
 * catches NO_LOCK            the second engine does not wait for the first one's end
 */
#define N_ITEMS 2
#define N_MUTATIONS 2 /* of each engine */

#define FREE 0
#define USED 1
#define LIMBO 2

byte slot, pin;
chan buf = [2] of { byte };
byte word_a[N_ITEMS + 1], word_b[N_ITEMS + 1];

bool lock = 1;  /* the first engine holds it */
bool held_by_sup, sent, killed;

#ifdef NO_LOCK
bool killed_at_all;
#endif
#ifdef REACH_JOINED
bool joined;
#endif

byte state[N_ITEMS + 1]; /* what the items are; for the assertions, and what engine 2 must not look at */
byte version, acked;
bool reader_ended;

/* one engine's private memory; a new engine begins with nothing */
typedef private {
	byte limbo, free, filling, has_session
};
private own[2];

active proctype Buffer()
{
end:	do
	:: atomic { buf?pin }
	od
}

/* e's barrier and scan; what is not pinned by a session that it knows is free */
inline reclaim(e)
{
	d_step { batch = own[e].limbo; own[e].limbo = 0 }
#ifdef NO_BARRIER
	if
	:: e == 1 -> skip
	:: else -> d_step { do :: nempty(buf) -> buf?pin :: empty(buf) -> break od }
	fi;
#else
	d_step { do :: nempty(buf) -> buf?pin :: empty(buf) -> break od } /* engine:barrier */
#endif
	held = 0;
	if
	:: own[e].has_session -> held = 1 << pin
	:: else -> skip
	fi; /* engine:scanned */
#ifdef REACH_HELD
	assert(!(e == 1 && own[1].free == 0 && (held & batch)));
#endif
	d_step {
		i = 1;
		do
		:: i <= N_ITEMS ->
			if
			:: (batch & (1 << i)) && !(held & (1 << i)) ->
				state[i] = FREE; word_a[i] = 0;
				own[e].free = own[e].free | (1 << i)
			:: else -> own[e].limbo = own[e].limbo | (batch & (1 << i))
			fi;
			i++
		:: else -> break
		od;
		i = 0; batch = 0; held = 0
	} /* engine:freed */
}

inline set(e)
{
	d_step {
		i = (own[e].free & 2 -> 1 : (own[e].free & 4 -> 2 : 0));
		own[e].free = own[e].free & ~(1 << i);
		own[e].filling = i
	}
	if
	:: i != 0 ->
		atomic { state[i] = USED; version++; v = version; word_a[i] = v }
		word_b[i] = v;
		atomic { old = slot; slot = i; acked = version } /* set:published */
		d_step {
			if
			:: old != 0 -> state[old] = LIMBO; own[e].limbo = own[e].limbo | (1 << old)
			:: else -> skip
			fi;
			own[e].filling = 0; old = 0; i = 0; v = 0
		} /* engine:retired */
	:: else -> i = 0
	fi
}

/* a client that has no session yet gets one */
inline connect(e)
{
#ifdef SEND_FIRST
	atomic { sent = true; own[e].has_session = true }
	held_by_sup = true
#else
	own[e].has_session = true;
	held_by_sup = true; /* acknowledged */
	sent = true
#endif
}

inline serve(e)
{
	do
	:: n_mutations < N_MUTATIONS -> n_mutations++; set(e)
	:: !sent -> connect(e)
	:: own[e].limbo != 0 && n_mutations < N_MUTATIONS -> reclaim(e)
	:: n_mutations == N_MUTATIONS && sent -> break
	od
}

proctype Engine1()
{
	byte i, v, old, batch, held, n_mutations;

	{
		serve(0)
	} unless {
		killed
	}
	/* the kernel drops the lock at the very end; a hung engine goes on until it has really gone */
	lock = 0
}

/* kills the first engine, now or later */
proctype Supervisor()
{
#ifdef NO_LOCK
	/* it was believed to be dead */
	killed_at_all = true;
#else
	killed = true
#endif
}

proctype Engine2()
{
	byte i, v, old, batch, held, n_mutations;

#ifdef NO_LOCK
	killed_at_all;
#else
	atomic { !lock -> lock = 1 }
#endif
	d_step {
		own[1].has_session = held_by_sup;
#ifdef DROP_ZERO
		own[1].has_session = held_by_sup && pin != 0
#endif
	}
	held = 255;
#ifdef SCAN_BEFORE
	d_step { do :: nempty(buf) -> buf?pin :: empty(buf) -> break od }
	held = (own[1].has_session -> 1 << pin : 0);
#endif
	d_step {
		i = 1;
		do
		:: i <= N_ITEMS ->
#ifdef REACH_HALF
			assert(!(state[i] == USED && word_a[i] != word_b[i]));
#endif
			if
			:: slot == i -> skip
#ifdef FREE_UNNAMED
			:: slot != i ->
#else
			:: slot != i && !(held & (1 << i)) ->
#endif
				own[1].free = own[1].free | (1 << i); state[i] = FREE; word_a[i] = 0
			:: else -> own[1].limbo = own[1].limbo | (1 << i); state[i] = LIMBO
			fi;
			i++
		:: else -> break
		od;
		i = 0
	}
	if
	:: atomic { old = slot; slot = 0 }
		d_step {
#ifdef DROP_FREE
			if
			:: !(held & (1 << old)) -> own[1].free = own[1].free | (1 << old); state[old] = FREE; word_a[old] = 0
			:: else -> own[1].limbo = own[1].limbo | (1 << old); state[old] = LIMBO
			fi;
#else
			own[1].limbo = own[1].limbo | (1 << old); state[old] = LIMBO;
#endif
			old = 0
		}
	:: skip
	fi;
	held = 0;
#ifdef REACH_JOINED
	if :: sent -> joined = true :: else -> skip fi;
#endif
	serve(1);
	reclaim(1);
	reader_ended && pin == 0;
	reclaim(1);
	assert(own[1].limbo == 0 && state[1] != LIMBO && state[2] != LIMBO)
}

proctype Reader()
{
	byte s, x, y, low;

	sent;
	low = acked;
	s = slot;
	if :: s == 0 -> goto out :: else -> skip fi; /* dropped at adoption: a miss */
	buf!s; /* reader:pinned */
	if
	:: slot != s -> goto out /* reader:rechecked */
	:: else -> skip
	fi;
#ifdef REACH_JOINED
	assert(!joined);
#endif
	atomic { x = word_a[s]; assert(state[s] != FREE) }
	atomic { y = word_b[s]; assert(state[s] != FREE) } /* reader:used */
	assert(x == y && x >= low);
out:	atomic { buf!0; reader_ended = true } /* reader:unpinned */
}

init {
	atomic {
		slot = 1; state[1] = USED; version = 1; acked = 1; word_a[1] = 1; word_b[1] = 1;
		own[0].free = 4;
		run Reader();
		run Engine1();
		run Supervisor();
		run Engine2()
	}
}
