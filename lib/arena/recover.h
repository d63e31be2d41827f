/* SPDX-License-Identifier: MIT */
#pragma once

/* The sweep: remove the names of the retired from all words, give back what they held, wake
 * everybody, free their slots. */

#include "arena/arena.h"

/* Is there anything to sweep? */
bool mp_recover_is_due(const struct mp_arena *a);

/* Sweep if there is anything to sweep and nobody alive does it already. */
void mp_recover(struct mp_arena *a);

/* Wake everybody who sleeps in the arena, to look again. */
void mp_recover_wake(struct mp_arena *a);

/* As mp_recover(), for a keeper that has just taken a RETIRED slot: the words that name the slot
 * are its predecessor's. 0; -EAGAIN: somebody else sweeps and did not end within a second. */
int mp_recover_adopted(struct mp_arena *a, uint32_t slot, uint32_t token);
