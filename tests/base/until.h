/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Waiting for conditions, never for time: what is awaited is looked at each millisecond, and a test
 * that waits in vain for half a minute says for what, and aborts.
 */

#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "arena/arena.h"
#include "base/clock.h"

#define until(condition)                                                                 \
    do {                                                                                 \
        uint64_t until_ = mp_deadline(MP_SEC(30));                                       \
        while (!(condition)) {                                                           \
            if (mp_now_ns() > until_) {                                                  \
                fprintf(stderr, "%s:%d: in vain: %s\n", __FILE__, __LINE__, #condition); \
                abort();                                                                 \
            }                                                                            \
            poll(NULL, 0, 1);                                                            \
        }                                                                                \
    } while (0)

/* How many are asleep for this kind of thing (MP_WAIT_*), or just about to be. */
static inline unsigned sleepers(const mp_arena *a, uint32_t kind)
{
    unsigned n = 0;

    for (uint32_t i = 0; i < a->geometry.participants * MP_WAIT_RECORDS_PER_SLOT; i++) {
        uint64_t who = mp_load_acquire(&a->waits[i].who);
        const struct mp_slot *s = &a->slots[i / MP_WAIT_RECORDS_PER_SLOT];

        if (who == 0 || who >> 32 != (mp_load_acquire(&s->state) >> 32) + 1)
            continue;
        n += (mp_load_relaxed(&a->waits[i].what) >> 16 & 0xff) == kind;
    }
    return n;
}

static inline uint32_t participants(const mp_arena *a)
{
    struct mp_arena_stats s;

    return mp_arena_stats(a, &s) == 0 ? s.participants : UINT32_MAX;
}

/* Are there n participants, and is everything swept that others left? */
static inline bool settled(const mp_arena *a, uint32_t n)
{
    uint32_t taken = 0;

    for (uint32_t i = 0; i < mp_arena_slots_high(a); i++)
        taken += (uint32_t)mp_load_seqcst(&a->slots[i].state) != 0;
    return taken == n && participants(a) == n && mp_load_seqcst(&a->header->recovery) == 0;
}

static inline uint64_t deaths(const mp_arena *a)
{
    struct mp_arena_stats s;

    return mp_arena_stats(a, &s) == 0 ? s.deaths : UINT64_MAX;
}
