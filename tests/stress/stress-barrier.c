/* SPDX-License-Identifier: MIT */
/*
 * Stress at a barrier: workers go from phase to phase, in step.
 *
 * A phase has two waits. Between them each sees that all have come to this phase and none has left
 * it; after the second one, that each number was given out once. The action counts all of them.
 */

#undef NDEBUG
#include <assert.h>

#include "stress/stress.h"

#define PARTIES 5u
#define ALL ((1u << PARTIES) - 1)

struct shared {
    uint64_t phase[PARTIES];      /* where each one is: written by itself */
    uint64_t acted;               /* by the action */
    _Atomic(uint32_t) numbers[2]; /* given out by the first wait, of even and of odd phases */
    bool over;                    /* between the waits, by who had number 0 */
};

static mp_barrier *barrier;
static struct shared *shared;

static int act(void *user)
{
    (void)user;
    shared->acted++;
    return 0;
}

static void begin(mp_arena *arena, void *memory)
{
    shared = memory;
    assert(mp_barrier_create(arena, NULL, PARTIES, MP_BARRIER_OPTIONS(.action = act), &barrier) ==
           0);
}

static void step(struct worker *w)
{
    uint64_t phase = ++shared->phase[w->index];
    int r = mp_barrier_wait(barrier, PATIENCE);

    assert(r >= 0 && r < (int)PARTIES);
    assert(shared->acted == 2 * phase - 1);
    assert(!(shared->numbers[phase % 2] & 1u << r));
    shared->numbers[phase % 2] |= 1u << r;
    if (r == 0) {
        shared->numbers[(phase + 1) % 2] = 0;
        shared->over = stress_is_over(w);
    }
    for (uint32_t i = 0; i < PARTIES; i++)
        assert(shared->phase[i] == phase);
    stress_work(w);
    assert(mp_barrier_wait(barrier, PATIENCE) >= 0);
    assert(shared->acted == 2 * phase);
    assert(shared->numbers[phase % 2] == ALL);
}

static void go_on(struct worker *w)
{
    stress_holds(w, true); /* the others wait for each of them, wherever it is */
    do {
        stress_turn(w);
        step(w);
    } while (!shared->over);
}

static void end(uint64_t turns, uint32_t killed)
{
    (void)turns;
    (void)killed;
    for (uint32_t i = 0; i < PARTIES; i++)
        assert(2 * shared->phase[i] == shared->acted);
    barrier = mp_barrier_close(barrier);
}

int main(int argc, char **argv)
{
    static const struct stress stress = {.name = "barrier",
                                         .workers = PARTIES,
                                         .size = sizeof *shared,
                                         .begin = begin,
                                         .work = go_on,
                                         .end = end};

    return stress_main(&stress, argc, argv);
}
