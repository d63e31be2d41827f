/* SPDX-License-Identifier: MIT */
#pragma once

#include <mp/rlock.h>

#include "base/cleanup.h"
#include "sync/word.h"

struct mp_rlock {
    struct mp_object object;
    uint32_t wait; /* MP_WAIT_*: what people are told that it is waited for */
};

/* For a condition: let go of it whole, whatever the depth, and take it back as deep as it was. */
uint64_t mp_rlock_release_whole(struct mp_rlock *l);
void mp_rlock_restore(struct mp_rlock *l, uint64_t whole);
bool mp_rlock_is_mine(const struct mp_rlock *l);
