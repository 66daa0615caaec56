/* feed.pml - the change feed: what a reader takes is whole, and each change is said once (P23, P28).
 *
 * A ring of two entries of two words each; a writer that makes four changes, dies up to twice between any two
 * stores, and is followed by one that completes what was intended; a reader that may be slow.
 *
 *    change k:  intent (k, number) -> slot = k -> [tail] -> words -> head -> result = k -> intent = 0
 *    reader:    head; words; tail: is it past them?  then it was overtaken, and goes to where tail leads
 *
 * Stores are seen in their order: what a weaker machine may do besides is the fences' part (P28), and is planted
 * here one by one: TAIL_LATE, HEAD_EARLY, TAIL_FIRST.
 *
 * Proved: what counts as read is one entry, whole; taken and lost together are all that was written, in order;
 * whatever dies, each change is in the feed once, and has its result.
 *
 * holds   -               a slow reader, two deaths
 * reaches REACH_LAPPED    the reader was overtaken
 * reaches REACH_COMPLETED a new engine said what a dead one had not
 * reaches REACH_SAID      ... and found that it had been said
 * catches NO_TAIL         the reader does not look at tail behind the copy
 * catches TAIL_FIRST      it looks before the copy: no acquire fence
 * catches TAIL_LATE       the writer stores tail behind the words: no release fence
 * catches HEAD_EARLY      it stores head before the words: no release
 * catches NOT_COMPLETED   a new engine completes the result alone
 * catches SAID_AGAIN      it does not look whether the entry was written
 */
#define N 2
#define CHANGES 4
#define DEATHS 2

byte head, tail;
byte word_a[N], word_b[N];
byte slot, intent, number, result;
byte said[CHANGES + 1];
byte deaths;

/* One entry about change k.  Between any two stores the writer may die: it then stays where it is, and
 * `dead` sends it to its successor. */
#define MAY_DIE \
	if \
	:: deaths < DEATHS -> deaths++; goto adopt \
	:: skip \
	fi

active proctype Writer()
{
	byte k = 1, i;

change:
	do
	:: k > CHANGES -> goto done
	:: else ->
		atomic { intent = k; number = head + 1 }
		MAY_DIE;
		slot = k;
		MAY_DIE;
say:
#ifndef TAIL_LATE
		if
		:: head + 1 - tail > N -> tail++
		:: else
		fi;
		/* feed:tail */
		MAY_DIE;
#endif
		i = head % N;
#ifdef HEAD_EARLY
		atomic { head++; said[k]++ }
#endif
		word_a[i] = k;
		word_b[i] = k;
#ifdef TAIL_LATE
		if
		:: head + 1 - tail > N -> tail++
		:: else
		fi;
#endif
		/* feed:written */
		MAY_DIE;
#ifndef HEAD_EARLY
		atomic { head++; said[k]++ }
#endif
		/* feed:published */
		MAY_DIE;
finish:
		result = k;
		MAY_DIE;
		intent = 0;
		k++
	od;
adopt:
	if
	:: intent != 0 && slot == intent ->
		k = intent;
#ifdef NOT_COMPLETED
		goto finish
#else
		if
#ifndef SAID_AGAIN
		:: head >= number ->
#ifdef REACH_SAID
			assert(false);
#endif
			goto finish
#endif
#ifdef SAID_AGAIN
		:: true ->
#else
		:: head < number ->
#endif
#ifdef REACH_COMPLETED
			assert(false);
#endif
			goto say
		fi
#endif
	:: else -> /* it did not happen: whoever asked for it asks again */
		intent = 0;
		k = result + 1;
		goto change
	fi;
done:
	i = 1;
	do
	:: i > CHANGES -> break
	:: else -> assert(said[i] == 1); i++
	od;
	assert(result == CHANGES && head == CHANGES)
}

active proctype Reader()
{
	byte p, h, a, b, t;

	do
	:: p == CHANGES -> break
	:: else ->
		h = head;
		if
		:: h == p -> skip
		:: else ->
#ifdef TAIL_FIRST
			t = tail;
#endif
			a = word_a[p % N];
			b = word_b[p % N];
			/* feed:head-copied */
#ifndef TAIL_FIRST
			t = tail;
#endif
#ifdef NO_TAIL
			t = 0;
#endif
			if
			:: t > p ->
#ifdef REACH_LAPPED
				assert(false);
#endif
				p = t
			:: else ->
				assert(a == p + 1 && b == p + 1);
				p++
			fi
		fi
	od
}
