/* SPDX-License-Identifier: MIT */
/*
 * Stress at events: a leader lets the others go from round to round, by one event in even rounds
 * and another one in odd ones; the last one to be back sets a third.
 *
 * In most rounds the event stays set until all are back. In others the leader waits until all
 * sleep, sets it and clears it at once: they must go all the same. Who is missed is missed for
 * ever, as the next round begins only when all are back.
 */

#undef NDEBUG
#include <assert.h>
#include <errno.h>

#include "base/until.h"
#include "stress/stress.h"

#define WORKERS 4u /* as many as there are records of sleeps for the threads of a process */
#define PULSE 4u   /* each fourth round */

struct shared {
    uint64_t round;         /* by the leader, before it sets the event */
    bool over;              /* so, too */
    uint64_t seen[WORKERS]; /* the round that each one was in, by itself */
    _Atomic(uint32_t) away;
};

static mp_arena *in;
static mp_event *go[2], *back;
static struct shared *shared;

static void begin(mp_arena *arena, void *memory)
{
    in = arena;
    shared = memory;
    for (int i = 0; i < 2; i++)
        assert(mp_event_create(arena, NULL, &go[i]) == 0);
    assert(mp_event_create(arena, NULL, &back) == 0);
}

static void lead(struct worker *w)
{
    bool over = false;

    for (uint64_t round = 1; !over; round++) {
        bool pulse = round % PULSE == 0;

        over = !stress_turn(w);
        /* Asleep, or just about to be: in any case their calls have begun. */
        if (pulse)
            until(sleepers(in, MP_WAIT_EVENT) == WORKERS - 1);
        assert(mp_event_clear(back) == 0);
        shared->round = round;
        shared->over = over;
        shared->away = WORKERS - 1;
        assert(mp_event_set(go[round % 2]) == 0);
        if (pulse)
            assert(mp_event_clear(go[round % 2]) == 0);
        assert(mp_event_wait(back, PATIENCE) == 0);
        for (uint32_t i = 1; i < WORKERS; i++)
            assert(shared->seen[i] == round);
        assert(mp_event_is_set(go[round % 2]) == !pulse);
        assert(mp_event_clear(go[round % 2]) == 0);
    }
}

static void wait_for(struct worker *w, uint64_t round)
{
    uint64_t timeout_ns;
    int r;

    do {
        timeout_ns = round % PULSE == 0 ? PATIENCE : stress_timeout(w);
        r = mp_event_wait(go[round % 2], timeout_ns);
    } while ((r == -ETIMEDOUT || r == -EAGAIN) && timeout_ns != PATIENCE);
    assert(r == 0);
}

static void follow(struct worker *w)
{
    bool over = false;

    for (uint64_t round = 1; !over; round++) {
        wait_for(w, round);
        assert(shared->round == round);
        over = shared->over;
        stress_work(w);
        shared->seen[w->index] = round;
        if (--shared->away == 0)
            assert(mp_event_set(back) == 0);
    }
}

static void lead_or_follow(struct worker *w)
{
    stress_holds(w, true); /* the others wait for each of them, wherever it is */
    if (w->index == 0)
        lead(w);
    else
        follow(w);
}

static void end(uint64_t turns, uint32_t killed)
{
    (void)killed;
    assert(shared->away == 0 && shared->round == turns + 1);
    for (int i = 0; i < 2; i++)
        go[i] = mp_event_close(go[i]);
    back = mp_event_close(back);
}

int main(int argc, char **argv)
{
    static const struct stress stress = {.name = "event",
                                         .workers = WORKERS,
                                         .size = sizeof *shared,
                                         .begin = begin,
                                         .work = lead_or_follow,
                                         .end = end};

    return stress_main(&stress, argc, argv);
}
