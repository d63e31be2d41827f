/* SPDX-License-Identifier: MIT */
#pragma once

/* Who lives: taking and leaving a slot, confirming a death, retiring the dead. */

#include <stdbool.h>

#include "arena/arena.h"

/* Called by the keeper thread alone. 0; -EUSERS. */
int mp_slot_join(struct mp_arena *a, uint32_t tid);
void mp_slot_leave(struct mp_arena *a);

/* If the slot is marked OWNER_DIED and its process is seen gone within wait_ns: retire it. True:
 * it was retired. */
bool mp_slot_reap(struct mp_arena *a, uint32_t slot, uint64_t wait_ns);

/* Look at all slots, retire the dead, sweep after them. For those whose sleep was long. */
void mp_liveness_check(struct mp_arena *a);

/* The next slot in the ring that lives (or has died and is not retired); our own if there is no
 * other. */
uint32_t mp_slot_next(const struct mp_arena *a, uint32_t slot);

/* Has it waited for a sweep since its participant died? */
static inline bool mp_slot_is_retired(const struct mp_arena *a, uint32_t slot)
{
    return slot < a->geometry.participants &&
           (uint32_t)mp_load_seqcst(&a->slots[slot].state) == MP_LIVE_RETIRED;
}

/* 1: the owner named by this token is dead (or nobody, and the next is to be told); 0: it lives;
 * -1: it names no slot. */
static inline int mp_token_dead(const struct mp_arena *a, uint32_t token)
{
    uint32_t slot;
    uint64_t state;

    if (token == MP_TOKEN_DIED)
        return 1;
    slot = mp_token_slot(token);
    if (slot >= a->geometry.participants)
        return -1;
    /* Pairs with the CAS that retires. */
    state = mp_load_acquire(&a->slots[slot].state);
    return mp_token_tag((uint32_t)(state >> 32)) != mp_token_generation_tag(token) ||
           (uint32_t)state == 0;
}
