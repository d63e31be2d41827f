/* SPDX-License-Identifier: MIT */
#pragma once

/* What the tests of the barrier have in common; after cmocka. */

#include <mp/mp.h>

#include "base/carrier.h"

#define PATIENCE MP_SEC(20)
#define N 5 /* parties, as CPython's */

/* What the parts have seen, in a block of the arena. */
struct seen {
    _Atomic(int) first;  /* before a wait */
    _Atomic(int) second; /* after it */
    _Atomic(int) sum;    /* of indices */
    _Atomic(int) which;  /* a bit for each index */
    _Atomic(int) broken;
    _Atomic(int) timed_out;
    _Atomic(int) acted;
};

static inline mp_arena *make_arena(void)
{
    mp_arena *arena;

    assert_int_equal(
        mp_arena_create("barrier",
                        MP_ARENA_OPTIONS(.size = 1 << 20, .participants = 32, .objects = 16),
                        &arena),
        0);
    return arena;
}

static inline mp_barrier *make_barrier(mp_arena *arena, uint32_t parties)
{
    mp_barrier *barrier;

    assert_int_equal(mp_barrier_create(arena, "barrier", parties, NULL, &barrier), 0);
    return barrier;
}

static inline struct seen *make_seen(mp_arena *arena)
{
    void *shared;

    assert_int_equal(mp_block_create(arena, "seen", sizeof(struct seen), &shared), 0);
    return shared;
}

static inline mp_barrier *open_barrier(struct part *part, const char *name, struct seen **ret_seen)
{
    mp_barrier *barrier;
    void *shared;

    assert(mp_barrier_open(part->arena, name, NULL, &barrier) == 0);
    assert(mp_block_open(part->arena, "seen", &shared, NULL) == 0);
    *ret_seen = shared;
    return barrier;
}
