/* SPDX-License-Identifier: MIT */
/*
 * A model of who comes in at a lock of readers and writers (lib/sync/rwlock.c), for spin.
 * tests/model/model.sh runs it.
 *
 * Modelled: three processes of one thread each, which read or write up to ROUNDS times; each may be
 * killed at any step, KILLS times in all. Each step is one access to shared memory. A death is
 * confirmed some time later; a sweep follows some time after that, which writes DIED over the name
 * of the dead and empties its share. Who waits looks again and again, or gives up at any moment.
 *
 * Not modelled: memory orders (the steps are sequentially consistent), sleeping and waking, several
 * threads in a process, destroying the lock, hostile writers.
 *
 * Proved: nobody is in beside a writer, unless a dead one's share is what stands for it; and who
 * writes is told of a death exactly when a writer has died since the last one was told, and so is
 * who reads until then. (A reader may be told by a word of DIED that a writer has taken meanwhile
 * only to give it back: the telling is the word's.)
 *
 * RUN -DKILLS=1
 * RUN -DKILLS=0 -DROUNDS=2
 *
 * That there may be readers stands in a word of its own, as it once did:
 * MUTANT FLAG_APART -DKILLS=0 -DROUNDS=2
 * MUTANT LOOKS_FIRST # a reader looks at the lock before its share is up
 * MUTANT UNANNOUNCED # it comes in at a free lock, and leaves it as it is
 * MUTANT LOOKS_ONCE # a writer that the reader saw leaves, then dies, and does not have it any more
 * MUTANT GIVES_BACK_FREE # a writer that does not wait for the readers says that there are none
 * MUTANT DEAD_UNDRAINED # who takes a dead one's lock does not wait for readers
 * MUTANT SHARE_FIRST # a sweep empties the share of one that lives
 */

#ifndef KILLS
#define KILLS 1
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif

#define PARTICIPANTS 3

/* The word: free, free but for readers, the last writer died, or who has it. */
#define FREE 0
#define READ 1
#define DIED 2
#define OWNED(slot) (3 + (slot))

#define ALIVE 0
#define KILLED 1
#define DEAD 2 /* and known to be */

byte word;
byte flag_apart; /* FLAG_APART: there may be readers */
bit share[PARTICIPANTS];
byte state[PARTICIPANTS];
byte kills;

/* What only the proof knows. */
byte inside[PARTICIPANTS]; /* 1: as a reader, 2: as a writer */
byte writers, readers;     /* how many are */
bit untold;

#define IS_DEAD(v) ((v) == DIED || (v) >= OWNED(0) && state[(v) - OWNED(0)] == DEAD)

proctype participant(byte me)
{
    byte rounds, v, i, before;

life:
    {
        skip;
begin:
        if
        :: rounds == ROUNDS -> goto out
        :: else -> rounds++
        fi;
        if
        :: goto write
        :: true
        fi;

        /* ---- to read ---- */
look:
#ifdef LOOKS_FIRST
        v = word;
        share[me] = 1;
#else
        share[me] = 1;
        v = word;
#endif
#ifdef FLAG_APART
        if
        :: v == FREE ->
            if
            :: flag_apart
            :: else ->
                flag_apart = 1;
                v = word
            fi
        :: else
        fi;
        if
        :: v == FREE -> v = READ
        :: else
        fi;
#elif defined(UNANNOUNCED)
        if
        :: v == FREE -> v = READ
        :: else
        fi;
#else
        atomic {
            if
            :: v == FREE ->
                if
                :: word == FREE -> word = READ; v = READ
                :: else -> v = word
                fi
            :: else
            fi
        }
#endif
        if
        :: v != READ && !IS_DEAD(v) -> v = 0; goto withdraw
        :: else
        fi;
#ifndef LOOKS_ONCE
        atomic {
            if
            :: v != READ && word != v -> v = 0; goto withdraw
            :: else
            fi
        }
#endif
        d_step {
            assert(writers == 0);
            readers++;
            inside[me] = 1;
            v = 0
        }
        d_step {
            readers--;
            inside[me] = 0
        }
        share[me] = 0;
        goto begin;
withdraw:
        share[me] = 0;
        if
        :: goto look
        :: goto begin
        fi;

        /* ---- to write ---- */
write:
        v = word;
take:
        atomic {
            if
            :: v != FREE && v != READ && !IS_DEAD(v) -> v = 0; goto write_or_not
            :: else
            fi
        }
        atomic {
            if
            :: word != v -> v = word; goto take
            :: else
            fi;
            before = v;
            if
            :: v != READ && v != FREE -> before = DIED
            :: else
            fi;
            word = OWNED(me);
            v = 0
        }
#ifdef FLAG_APART
        if
        :: before == FREE && flag_apart -> before = READ
        :: else
        fi;
#endif
        if
        :: before == FREE -> goto written
#ifdef DEAD_UNDRAINED
        :: before == DIED -> goto written
#endif
        :: else
        fi;
drain:
        i = 0;
        do
        :: i == PARTICIPANTS -> i = 0; break
        :: i < PARTICIPANTS ->
            if
            :: share[i] -> i = 0; goto drain_or_not
            :: else -> i++
            fi
        od;
#ifdef FLAG_APART
        if
        :: before == READ -> before = FREE; flag_apart = 0
        :: else
        fi;
#endif
written:
        atomic {
            assert(readers == 0 && writers == 0);
            assert((before == DIED) == untold);
            writers++;
            inside[me] = 2;
            untold = 0;
            before = 0
        }
        d_step {
            writers--;
            inside[me] = 0;
            word = FREE
        }
        goto begin;
drain_or_not:
        if
        :: goto drain
        :: true
        fi;
#if defined(GIVES_BACK_FREE) || defined(FLAG_APART)
        if
        :: before == READ -> before = FREE
        :: else
        fi;
#endif
        d_step {
            word = before;
            before = 0
        }
        goto begin;
write_or_not:
        if
        :: goto write
        :: goto begin
        fi;
out:
        skip
    } unless {
        state[me] != ALIVE
    }
}

proctype killer()
{
    byte i;

    do
    :: kills < KILLS ->
        if
        :: i = 0
        :: i = 1
        :: i = 2
        fi;
#ifdef SHARE_FIRST
        share[i] = 0;
#endif
        atomic {
            kills++;
            if
            :: state[i] == ALIVE ->
                state[i] = KILLED;
                if
                :: word == OWNED(i) -> untold = 1
                :: else
                fi;
                if
                :: inside[i] == 1 -> readers--
                :: inside[i] == 2 -> writers--
                :: else
                fi;
                inside[i] = 0
            :: else
            fi
        }
        if
        :: state[i] == KILLED ->
            state[i] = DEAD;
            d_step {
                if
                :: word == OWNED(i) -> word = DIED
                :: else
                fi
            }
            share[i] = 0
        :: else
        fi
    :: else -> break
    od
}

init {
    atomic {
        run participant(0);
        run participant(1);
        run participant(2);
        run killer()
    }
}
