/* SPDX-License-Identifier: MIT */
/*
 * A model of the condition's protocol, for spin. tests/model/model.sh runs it.
 *
 * The protocol. Waiters come in groups, numbered. One 64-bit word {tokens, open}: those who come
 * now are of group `open`; of the group before, `tokens` may go; all earlier ones have been
 * notified. So a waiter of group g has been notified if open - g >= 2, or if open - g == 1 and it
 * gets a token. Two futexes, by the group's lowest bit: only hints, which count every wake. A cell
 * a slot: {generation, waiters of the last two groups}, written by its own process under the lock.
 *
 *   wait      under the lock: g = open, cell + 1; release; sleep on g's futex until notified or
 *             there is a token; take the lock first, then the token, or sleep again (who was told
 *             of a death and sleeps again releases as DIED); cell - 1
 *   notify    under the lock: count the live cells of both groups, a and b; the older group is
 *             served first: tokens + n < a: that many tokens. Else it is closed as notified, and
 *             what is left of n goes to the younger one, which thereby becomes the older one
 *             (open + 1), or, if it reaches for all of that as well, is closed too (open + 2). One
 *             CAS. Then the futexes of the groups concerned move, and wake as many or all. All of
 *             it before the lock is released
 *   timeout   under the lock: notified or a token after all: 0; else cell - 1, -ETIMEDOUT
 *   sweep     a dead process waited, in another group than the open one: all are notified (tokens
 *             = 0, open + 2), as the notification that he got may have been for somebody else. In
 *             any case both futexes move, and wake all
 *
 * So a wait may end without a notification where somebody died who waited too. All else is exact.
 * One pool of tokens for all (ONE_POOL below) is not enough: a waits, notify; b and c come, notify;
 * b and c take both tokens, and a, who alone was meant by the first, sleeps on.
 *
 * Modelled: three waiters of one thread each that come in turn, wait once, and may time out at any
 * moment of their sleep; a notifier, which notifies one or all, NOTIFIES times at most; any of
 * them is killed at any step, KILLS times in all; a sweep some time after each death; a new process
 * in a freed slot (REBIRTH). Each step is one access to shared memory or one system call, but for
 * these: the lock is one step (lock.pml is its model), a cell is written in one step, and the
 * notifier counts the cells in one.
 *
 * Not modelled: memory orders, the second at which each sleep is cut, several threads in a process,
 * rlocks, the death of a sweeper (each of its steps may be done twice), hostile writers, numbers
 * that wrap.
 *
 * Proved: who returns was waiting when there was a notification for him, and each notification is
 * used once (check_returned); where nothing can move any more, nobody waits who was waiting when
 * there was a notification that nobody else has had (check_owed): the chosen waiter's death
 * included; nobody is stuck elsewhere; the lock has one owner, and its user is told of a death
 * exactly when there was one.
 *
 * RUN -DKILLS=0 -DNOTIFIES=2
 * RUN -DNOTIFIES=2 -DTIMEOUTS=0 -DNOTIFY_ALL=0
 * RUN -DNOTIFIES=1 -DTIMEOUTS=0 -DREBIRTH=1
 *
 * Newcomers take the tokens of those who were there first:
 * MUTANT ONE_POOL -DKILLS=0
 * More tokens than waiters, left for those who come later:
 * MUTANT NO_MIN -DKILLS=0
 * The chosen waiter takes the notification with it, or the notifier the wake-up:
 * MUTANT SWEEP_WAKES_NOBODY -DNOTIFIES=1
 * MUTANT SWEEP_MOVES_NOTHING -DNOTIFIES=1 # who is about to sleep misses the sweep
 * MUTANT SWEEP_PASSES_NOTHING_ON -DTIMEOUTS=0 -DNOTIFY_ALL=0
 * The same with one notification; the sweep above makes up for this, too:
 * MUTANT TOKEN_BEFORE_LOCK -DSWEEP_PASSES_NOTHING_ON -DNOTIFIES=1 -DTIMEOUTS=0
 * A waiter that sleeps again keeps to itself what it was told:
 * MUTANT SWALLOWS -DNOTIFIES=1 -DNOTIFY_ALL=0
 */

#ifndef KILLS
#define KILLS 1
#endif
#ifndef NOTIFIES
#define NOTIFIES 2
#endif

#ifndef TIMEOUTS
#define TIMEOUTS 1
#endif
#ifndef NOTIFY_ALL
#define NOTIFY_ALL 1
#endif
#ifndef REBIRTH
#define REBIRTH 0
#endif

#define WAITERS 3
#define NOTIFIER 3
#define SLOTS 4
#define UNITS (NOTIFIES * WAITERS)
#define DIED 255

/* Of a slot. */
#define ALIVE 0
#define KILLED 1 /* runs no more, but may still stand in the futex's queue */
#define RETIRED 2
#define FREE 3
#define IDLE 4 /* alive and at its end */

byte state[SLOTS];
byte generation[SLOTS];

/* The lock. */
byte owner;

#define TOKEN(slot) (generation[slot] << 3 | (slot) + 1)
#define IS_DEAD(token) ((token) >> 3 != generation[((token) & 7) - 1])
#define CAN_BE_TAKEN (owner == 0 || owner == DIED || IS_DEAD(owner))

/* The condition: one word {tokens, open}, changed by one CAS; two futexes, which are only hints; a
 * cell a slot. */
byte tokens;
byte open = 2;
bit unmoved[WAITERS]; /* the futex has not moved since this one loaded it */
byte cell_tag[WAITERS]; /* generation + 1 */
byte cell_group[WAITERS];
bit cell_waits[WAITERS];

bit asleep[WAITERS];
bit waits_on[WAITERS]; /* which futex */
byte kills;
byte come; /* the waiters are alike: they come in turn */

#ifdef ONE_POOL
#define FUTEX_OF(group) 0
#define IS_NOTIFIED(group) false
#define MAY_TAKE(group) (tokens > 0 && open != (group))
#else
#define FUTEX_OF(group) ((group) & 1)
#define IS_NOTIFIED(group) (open - (group) >= 2)
#define MAY_TAKE(group) (tokens > 0 && open - (group) == 1)
#endif

/* What only the proof knows. Each notification is as many units as it wakes waiters, numbered from
 * 1; who waits is owed one of those from `since` on. */
byte holder;
bit untold;
bit waits[WAITERS];
bit freed[WAITERS]; /* woken by the sweep, without a unit */
byte since[WAITERS];
byte units;
byte returned[UNITS + 2]; /* how many of those since ... have had a unit */

/* No more have returned than there were units since they came. */
inline check_returned()
{
    d_step {
        i = units + 1;
        n = 0;
        do
        :: i >= 1 ->
            n = n + returned[i];
            assert(n <= units + 1 - i);
            i--
        :: else -> break
        od;
        i = 0;
        n = 0
    }
}

/* Nobody waits who could have had a unit: all units since some time before he came went to those
 * who came since then. */
inline check_owed(w)
{
    d_step {
        i = units + 1;
        n = 0;
        satisfied = 0;
        do
        :: i >= 1 ->
            n = n + returned[i];
            if
            :: i <= since[w] && n == units + 1 - i -> satisfied = 1
            :: else
            fi;
            i--
        :: else -> break
        od;
        assert(satisfied && !freed[w]);
        i = 0;
        n = 0;
        satisfied = 0
    }
}

/* What nobody looks at is always the same, which keeps the states few. */
inline clear_cell(slot)
{
    cell_waits[slot] = 0;
    cell_group[slot] = 0;
    cell_tag[slot] = 0
}

inline wake_one(which)
{
    if
    :: asleep[0] && waits_on[0] == which -> asleep[0] = 0
    :: asleep[1] && waits_on[1] == which -> asleep[1] = 0
    :: asleep[2] && waits_on[2] == which -> asleep[2] = 0
    :: else
    fi
}

#define MOVE(i, which) unmoved[i] = (waits_on[i] == which -> 0 : unmoved[i])

inline move(which)
{
    MOVE(0, which);
    MOVE(1, which);
    MOVE(2, which)
}

#define WAKE(i, which) asleep[i] = (waits_on[i] == which -> 0 : asleep[i])

inline wake_all(which)
{
    WAKE(0, which);
    WAKE(1, which);
    WAKE(2, which)
}

/* The user has the lock, and knows whether somebody died. */
inline user_is_told(told)
{
    assert(told == untold);
    untold = 0
}

inline acquire_lock(told)
{
    CAN_BE_TAKEN -> told = (owner != 0);
    assert(holder == 0);
    owner = TOKEN(me);
    holder = me + 1
}

inline forget(slot)
{
    waits[slot] = 0;
    freed[slot] = 0;
    since[slot] = 0
}

inline release_lock(to)
{
    assert(holder == me + 1 && owner == TOKEN(me));
    owner = to;
    holder = 0
}

#define NOBODY_WAITS (!waits[0] && !waits[1] && !waits[2])
#define IS_SWEPT(i) (state[i] != KILLED && state[i] != RETIRED)
#define ALL_SWEPT (IS_SWEPT(0) && IS_SWEPT(1) && IS_SWEPT(2) && IS_SWEPT(3))

/* From here on who dies has been notified, and dies as the owner of the lock. */
inline was_notified()
{
    if
    :: !freed[me] -> returned[since[me]]++; check_returned()
    :: else
    fi;
    waits[me] = 0;
    freed[me] = 0;
    since[me] = 0
}

proctype waiter(byte me)
{
    byte group, v, i, n;
    bit told, last, satisfied;

life:
    {
        atomic {
            come >= me;
            acquire_lock(told);
            user_is_told(told);
            told = 0;
            group = open;
            waits[me] = 1;
            since[me] = units + 1;
            waits_on[me] = FUTEX_OF(group);
            if
            :: come == me -> come++
            :: else
            fi
        }
        atomic {
            cell_tag[me] = generation[me] + 1;
            cell_group[me] = group;
            cell_waits[me] = 1
        }
        atomic { release_lock(0) }
look:
        unmoved[me] = 1;
        atomic {
            if
            :: IS_NOTIFIED(group) || MAY_TAKE(group) -> unmoved[me] = 0; goto lock
            :: else
            fi
        }
        atomic {
            asleep[me] = unmoved[me];
            unmoved[me] = 0;
            if
            :: TIMEOUTS -> goto sleep_limited
            :: true
            fi
        }
end_asleep:
        !asleep[me] -> goto look;
sleep_limited:
        atomic {
            if
            :: !asleep[me] -> goto look
            :: asleep[me] = 0; last = 1
            fi
        }
lock:
#ifdef TOKEN_BEFORE_LOCK
        atomic {
            if
            :: MAY_TAKE(group) -> tokens--; goto lock_with_token
            :: else
            fi
        }
#endif
        atomic { acquire_lock(told) }
token:
        atomic {
            v = tokens;
            if
            :: IS_NOTIFIED(group) -> was_notified(); goto leave
            :: MAY_TAKE(group)
            :: else ->
                if
                :: last ->
                    waits[me] = 0;
                    if
                    :: NOBODY_WAITS && ALL_SWEPT && !freed[me] -> check_owed(me)
                    :: else
                    fi;
                    freed[me] = 0;
                    since[me] = 0;
                    goto leave
                :: else -> goto back
                fi
            fi
        }
        atomic {
            if
            :: MAY_TAKE(group) && tokens == v -> tokens--; was_notified(); goto leave
            :: else -> goto token
            fi
        }
#ifdef TOKEN_BEFORE_LOCK
lock_with_token:
        atomic { acquire_lock(told); was_notified(); goto leave }
#endif
back:
        atomic {
#ifdef SWALLOWS
            release_lock(0);
#else
            release_lock((told -> DIED : 0));
#endif
            told = 0;
            v = 0;
            goto look
        }
leave:
        atomic { clear_cell(me) }
        atomic {
            user_is_told(told);
            release_lock(0)
        }
        atomic { state[me] = IDLE; waits_on[me] = 0; group = 0; v = 0; told = 0; last = 0 }
end_idle:
        false
    } unless {
        state[me] == KILLED
    };
    /* A keeper sees that the process is gone. */
    atomic {
        group = 0;
        v = 0;
        told = 0;
        last = 0;
        asleep[me] = 0;
        unmoved[me] = 0;
        waits_on[me] = 0;
        state[me] = RETIRED;
        generation[me]++
    }
end_dead:
    atomic {
        REBIRTH && state[me] == FREE -> state[me] = ALIVE;
        goto life
    }
}

#define COUNT(i)                                                       \
    if                                                                 \
    :: cell_waits[i] && cell_tag[i] == generation[i] + 1 ->            \
        if                                                             \
        :: cell_group[i] == k -> b++                                   \
        :: OLD(cell_group[i]) -> a++                                   \
        :: else                                                        \
        fi                                                             \
    :: else                                                            \
    fi

#ifdef ONE_POOL
#define OLD(group) (group) != k
#else
#define OLD(group) (group) == k - 1
#endif

#ifdef NO_MIN
#define KEEP_SURPLUS true
#else
#define KEEP_SURPLUS false
#endif

#define MIN(x, y) ((x) < (y) -> (x) : (y))

proctype notifier(byte me)
{
    byte turns, n, rest, a, b, t, k, old, young;
    bit told;

    {
        do
        :: turns < NOTIFIES ->
            atomic {
                acquire_lock(told);
                user_is_told(told);
                told = 0;
                turns++;
                if
                :: n = 1
                :: NOTIFY_ALL -> n = WAITERS
                fi
            }
scan:
            atomic {
                t = tokens;
                k = open;
                a = 0;
                b = 0;
                COUNT(0);
                COUNT(1);
                COUNT(2)
            }
            atomic {
                if
                :: tokens != t || open != k -> goto scan
                :: a + b == 0 -> n = 0; t = 0; goto notified
                :: else
                fi;
                /* How many of each group to wake; WAITERS: all. */
                rest = n;
                old = 0;
                young = 0;
#ifdef ONE_POOL
                tokens = MIN(t + n, a + b);
                open = k + 1;
                old = (tokens == a + b -> WAITERS : n);
#else
#ifndef NO_MIN
                t = MIN(t, a);
#endif
                if
                :: t + rest < a -> old = rest; tokens = t + rest
                :: else ->
                    old = WAITERS;
                    rest = rest - (a - t);
                    if
                    :: rest < b || KEEP_SURPLUS -> young = rest; tokens = rest; open = k + 1
                    :: else -> young = WAITERS; tokens = 0; open = k + 2
                    fi
                fi;
#endif
                units = units + MIN(n, waits[0] + waits[1] + waits[2]);
                n = 0;
                rest = 0;
                a = 0;
                b = 0;
                t = 0
            }
            if
            :: old == 0
            :: else ->
                atomic { move(FUTEX_OF(k - 1)) }
wake_old:
                atomic {
                    if
                    :: old == WAITERS -> wake_all(FUTEX_OF(k - 1)); old = 0
                    :: else -> wake_one(FUTEX_OF(k - 1)); old--
                    fi;
                    if
                    :: old > 0 -> goto wake_old
                    :: else
                    fi
                }
            fi;
            if
            :: young == 0
            :: else ->
                atomic { move(FUTEX_OF(k)) }
wake_young:
                atomic {
                    if
                    :: young == WAITERS -> wake_all(FUTEX_OF(k)); young = 0
                    :: else -> wake_one(FUTEX_OF(k)); young--
                    fi;
                    if
                    :: young > 0 -> goto wake_young
                    :: else
                    fi
                }
            fi;
notified:
            atomic { release_lock(0); k = 0 }
        :: break
        od;
        state[me] = IDLE;
end_idle:
        false
    } unless {
        state[me] == KILLED
    };
    atomic {
        n = 0; rest = 0; a = 0; b = 0; t = 0; k = 0; old = 0; young = 0; told = 0;
        state[me] = RETIRED;
        generation[me]++
    }
}

#define KILL(i)                                                        \
    atomic {                                                           \
        kills < KILLS && state[i] == ALIVE && (i == NOTIFIER || i < come); \
        kills++;                                                       \
        state[i] = KILLED;                                             \
        if                                                             \
        :: holder == i + 1 -> holder = 0; untold = 1                   \
        :: else                                                        \
        fi;                                                            \
        if                                                             \
        :: i < WAITERS -> forget(i % WAITERS)                       \
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
    :: KILL(NOTIFIER)
    od
}

proctype sweeper()
{
    byte i, v, k;
    bit swept[SLOTS];

end:
    do
    :: atomic {
            state[0] == RETIRED || state[1] == RETIRED || state[2] == RETIRED ||
                state[3] == RETIRED;
            swept[0] = state[0] == RETIRED;
            swept[1] = state[1] == RETIRED;
            swept[2] = state[2] == RETIRED;
            swept[3] = state[3] == RETIRED
        }
        atomic {
            if
            :: owner != 0 && owner != DIED && IS_DEAD(owner) -> owner = DIED
            :: else
            fi
        }
cells:
        atomic {
            do
            :: i < WAITERS ->
                if
                :: swept[i] && cell_waits[i] && cell_tag[i] == generation[i] -> break
                :: else -> i++
                fi
            :: else -> i = 0; goto wake
            od;
            v = tokens;
            k = open
        }
#if !defined(ONE_POOL) && !defined(SWEEP_PASSES_NOTHING_ON)
        atomic {
            if
            :: cell_group[i] == k
            :: else ->
                if
                :: tokens != v || open != k -> goto cells
                :: else
                fi;
                tokens = 0;
                open = k + 2;
                freed[0] = waits[0];
                freed[1] = waits[1];
                freed[2] = waits[2]
            fi
        }
#endif
        atomic { clear_cell(i); v = 0; k = 0; i = 0; goto cells }
wake:
#ifndef SWEEP_WAKES_NOBODY
#ifndef SWEEP_MOVES_NOTHING
        atomic { move(0); move(1) }
#endif
        atomic { wake_all(0); wake_all(1) }
#endif
        atomic {
            i = 0;
            do
            :: i < SLOTS ->
                if
                :: swept[i] -> state[i] = FREE; swept[i] = 0
                :: else
                fi;
                i++
            :: else -> break
            od;
            i = 0
        }
    od
}

/* When nothing moves any more. */
proctype judge()
{
    byte i, n;
    bit satisfied;

    atomic {
        timeout;
        if
        :: waits[0] -> check_owed(0)
        :: else
        fi;
        if
        :: waits[1] -> check_owed(1)
        :: else
        fi;
        if
        :: waits[2] -> check_owed(2)
        :: else
        fi
    }
}

init {
    atomic {
        run waiter(0);
        run waiter(1);
        run waiter(2);
        run notifier(NOTIFIER);
        run killer();
        run sweeper();
        run judge()
    }
}
