/* SPDX-License-Identifier: MIT */
/*
 * A model of the robust lock (lib/sync/lock.c) and of the part of the sweep that repairs it
 * (lib/arena/recover.c), for spin. tests/model/model.sh runs it.
 *
 * Modelled: three processes of one thread each, which take the lock up to ROUNDS times in a life;
 * each may be killed at any step, KILLS times in all. Each step is one access to shared memory or
 * one system call. FUTEX_WAIT compares and sleeps in one step; FUTEX_WAKE 1 takes any sleeper, also
 * one that was killed and has not left the queue. An acquire waits for ever, or may time out at any
 * moment of its sleep, or is a try. A death is confirmed some time later (the slot's generation
 * moves), and a sweep follows some time after that: it writes DIED over the name of the dead,
 * keeping the flag, wakes all sleepers and frees the slots that were retired when it began. The
 * sweeper may be killed as well, and the next one begins anew. A new process may take a freed slot,
 * under the next generation.
 *
 * Not modelled: memory orders (the steps are sequentially consistent), spinning, the second at
 * which each sleep is cut (without it all has to work), several threads in a process, a release by
 * somebody else than the owner, destroying the lock, hostile writers, generations that wrap.
 *
 * Proved: never two owners; who takes the lock is told of a death exactly when an owner has died
 * since the last one was told; and where nothing can move any more, nobody who lives is asleep:
 * spin calls that an invalid end state. An end state has a label that begins with "end".
 *
 * RUN -DKILLS=1
 * RUN -DKILLS=0 -DROUNDS=2
 * RUN -DKILLS=2 -DSWEEPERS_KILLED=0
 *
 * A waiter that was chosen and killed takes the wake-up with it:
 * MUTANT SWEEP_WAKES_NOBODY
 * MUTANT SWEEP_WAKES_OF_DEAD # the same for the lock that does not name the dead
 * Who has seen the owner alive, and is about to sleep, sleeps on the name of the dead:
 * MUTANT SWEEP_LEAVES_NAME
 * MUTANT SWEEP_TRIES_ONCE # its CAS failed because that one put up the flag
 * MUTANT SWEEP_WAKES_FIRST
 * One that has slept takes the lock without the flag of the other sleepers:
 * MUTANT FLAG_NOT_KEPT
 * One that gives up does not put up again what its waker took down:
 * MUTANT TIMEOUT_DROPS_FLAG -DROUNDS=2
 * The next owner is not told:
 * MUTANT SWALLOWS
 * A process is declared dead while it still runs:
 * MUTANT UNCONFIRMED
 *
 * That the sweep keeps the flag is not needed: it wakes all who could miss it.
 */

#ifndef KILLS
#define KILLS 1
#endif
#ifndef ROUNDS
#define ROUNDS 1
#endif
#ifndef SWEEPERS_KILLED
#define SWEEPERS_KILLED 1
#endif

#define PARTICIPANTS 3
#define DIED 255

/* Of a slot. */
#define ALIVE 0
#define KILLED 1 /* runs no more, but may still stand in the futex's queue */
#define RETIRED 2
#define FREE 3
#define IDLE 4 /* alive and at its end */

#define TOKEN(slot, g) ((g) << 2 | (slot) + 1)
#define IS_DEAD(token) ((token) >> 2 != generation[((token) & 3) - 1])

/* The lock word. */
byte owner;
bit flag;

byte state[PARTICIPANTS];
byte generation[PARTICIPANTS];
bit asleep[PARTICIPANTS];
byte kills, sweepers_killed;

/* What only the proof knows. */
byte holder; /* slot + 1 */
bit untold;  /* an owner has died, and nobody was told */

inline wake_one()
{
    if
    :: asleep[0] -> asleep[0] = 0
    :: asleep[1] -> asleep[1] = 0
    :: asleep[2] -> asleep[2] = 0
    :: else
    fi
}

inline wake_all()
{
    asleep[0] = 0;
    asleep[1] = 0;
    asleep[2] = 0
}

/* Part of the step of a CAS that succeeded. */
inline taken(with_flag, told)
{
    assert(holder == 0);
    assert(told == untold);
    holder = me + 1;
    untold = 0;
    owner = TOKEN(me, born);
    flag = with_flag;
    v = 0;
    up = 0;
    slept = 0;
    last = 0
}

proctype participant(byte me)
{
    byte born, rounds, v;
    bit up, slept, last;

life:
    {
        if
        :: true
        :: goto out
        fi;
acquire:
        atomic {
            v = owner;
            up = flag;
            if
            :: v == 0 -> goto take
            :: v == DIED -> goto take_over
            :: else
            fi
        }
        atomic {
            if
            :: IS_DEAD(v) -> goto take_over
            :: else
            fi;
            if
            :: !slept && !last -> goto out /* a try */
            :: last && (up || !slept) -> goto out
#ifdef TIMEOUT_DROPS_FLAG
            :: last -> goto out
#endif
            :: !last && up -> goto sleep
            :: !up && (slept || !last)
            fi
        }
        atomic {
            if
            :: owner != v || flag != up -> goto acquire
            :: else
            fi;
            flag = 1;
            if
            :: last -> goto out
            :: else
            fi
        }
sleep:
        atomic {
            asleep[me] = (owner == v && flag);
            slept = 1;
            v = 0;
            up = 0;
            if
            :: goto sleep_limited
            :: true
            fi
        }
        !asleep[me] -> goto acquire;
sleep_limited:
        atomic {
            if
            :: !asleep[me]
            :: asleep[me] = 0; last = 1 /* perhaps woken, and out of time as well */
            fi;
            goto acquire
        }
take:
        atomic {
            if
            :: owner != 0 -> goto acquire
            :: else /* the flag is down */
            fi;
#ifdef FLAG_NOT_KEPT
            taken(0, 0);
#else
            taken(slept, 0);
#endif
            goto release
        }
take_over:
        atomic {
            if
            :: owner != v || flag != up -> goto acquire
            :: else
            fi;
#ifdef SWALLOWS
            taken(up | slept, 0)
#else
            taken(up | slept, 1)
#endif
        }
release:
        atomic {
            assert(holder == me + 1 && owner == TOKEN(me, born));
            holder = 0;
            up = flag;
            owner = 0;
            flag = 0;
            if
            :: !up -> goto out
            :: else -> up = 0
            fi
        }
        atomic { wake_one() }
out:
        atomic {
            v = 0;
            up = 0;
            slept = 0;
            last = 0;
            rounds++;
            if
            :: rounds < ROUNDS -> goto acquire
            :: state[me] = IDLE
            fi
        }
end_idle:
        false
    } unless {
        state[me] == KILLED
    };
    /* A keeper sees that the process is gone. */
    atomic {
        v = 0;
        up = 0;
        slept = 0;
        last = 0;
        asleep[me] = 0;
        state[me] = RETIRED;
        generation[me]++
    }
end_dead:
    atomic {
        state[me] == FREE;
        if
        :: true -> state[me] = ALIVE; born = generation[me]; rounds = ROUNDS - 1; goto life
        :: true /* nobody comes */
        fi
    }
}

#define KILL(i)                                                        \
    atomic {                                                           \
        kills < KILLS && state[i] == ALIVE -> kills++;                 \
        state[i] = KILLED;                                             \
        if                                                             \
        :: holder == i + 1 -> holder = 0; untold = 1                   \
        :: else                                                        \
        fi                                                             \
    }

proctype killer()
{
end:
    do
    :: KILL(0)
    :: KILL(1)
    :: KILL(2)
#ifdef UNCONFIRMED
    :: atomic { state[0] == ALIVE && generation[0] == 0 -> generation[0] = 1 }
#endif
    od
}

proctype sweeper()
{
    byte v;
    bit up;
    bit swept[PARTICIPANTS];

end:
    do
    :: atomic {
            state[0] == RETIRED || state[1] == RETIRED || state[2] == RETIRED;
            swept[0] = state[0] == RETIRED;
            swept[1] = state[1] == RETIRED;
            swept[2] = state[2] == RETIRED
        }
#ifdef SWEEP_WAKES_FIRST
        atomic { wake_all() }
#endif
look:
        atomic {
            v = owner;
            up = flag;
            if
            :: v == 0 || v == DIED -> goto wake
            :: else
            fi
        }
        atomic {
            if
            :: !IS_DEAD(v) -> goto wake
            :: else
            fi
        }
#ifndef SWEEP_LEAVES_NAME
        atomic {
            if
            :: owner == v && flag == up ->
                owner = DIED
            :: else ->
#ifdef SWEEP_TRIES_ONCE
                skip
#else
                goto look
#endif
            fi
        }
#endif
#ifdef SWEEP_WAKES_OF_DEAD
        atomic { wake_all() }
#endif
wake:
        atomic {
            v = 0;
            up = 0;
#if !defined(SWEEP_WAKES_NOBODY) && !defined(SWEEP_WAKES_OF_DEAD) && !defined(SWEEP_WAKES_FIRST)
            wake_all();
#endif
            if
            /* The sweeper is killed here or earlier; waking twice is no more than waking. */
            :: sweepers_killed < SWEEPERS_KILLED -> sweepers_killed++; goto end
            :: true
            fi
        }
        atomic {
            if
            :: swept[0] -> state[0] = FREE; swept[0] = 0
            :: else
            fi;
            if
            :: swept[1] -> state[1] = FREE; swept[1] = 0
            :: else
            fi;
            if
            :: swept[2] -> state[2] = FREE; swept[2] = 0
            :: else
            fi
        }
    od
}

init {
    atomic {
        run participant(0);
        run participant(1);
        run participant(2);
        run killer();
        run sweeper()
    }
}
