/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The words of a condition, as its protocol (sync/condition.c) and the sweep have to know them.
 *
 * State (entry's value): {tokens:32, open:32}. Who comes now is of group `open`; of the group
 * before it `tokens` may go; all of earlier groups may.
 *
 * Share of a participant: {group:24, older:20, younger:20}: how many of its threads wait in the
 * group named (low bits), and in the one before it.
 */

#include "arena/layout.h"

#define MP_GROUP_MASK ((1u << 24) - 1)
#define MP_WAITERS_MOST ((1u << 20) - 1)

struct mp_waiting {
    uint32_t group;
    uint32_t older;
    uint32_t younger;
};

static inline uint64_t mp_waiting_pack(struct mp_waiting w)
{
    return (uint64_t)w.group << 40 | (uint64_t)(w.older & MP_WAITERS_MOST) << 20 |
           (w.younger & MP_WAITERS_MOST);
}

/* A share as it reads when group `open` is the youngest. Those of groups that have been notified
 * fall out. One that is ahead of `open` is taken as it is: a sweep moved the group meanwhile. One
 * without waiters is of no group: its number may be so old that it looks as if it was ahead. */
static inline struct mp_waiting mp_waiting_unpack(uint64_t share, uint32_t open)
{
    struct mp_waiting w = {
        .group = open,
        .older = (uint32_t)(share >> 20) & MP_WAITERS_MOST,
        .younger = (uint32_t)share & MP_WAITERS_MOST,
    };
    uint32_t behind = (open - (uint32_t)(share >> 40)) & MP_GROUP_MASK;

    if (share << 24 == 0)
        return w;
    if (behind >= 1u << 23) {
        w.group = open + ((1u << 24) - behind);
    } else if (behind > 0) {
        w.older = behind == 1 ? w.younger : 0;
        w.younger = 0;
    }
    return w;
}
