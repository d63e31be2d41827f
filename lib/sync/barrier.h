/* SPDX-License-Identifier: MIT */
#pragma once

#include <mp/barrier.h>

#include "arena/sleep.h"
#include "base/cleanup.h"
#include "sync/object.h"

struct mp_barrier {
    struct mp_object object;
    uint32_t parties;
    mp_a64 life; /* of this process, in which this handle takes part; 0: it does not */
    struct mp_spin spin;
    int (*action)(void *user);
    void *user;
    uint64_t timeout_ns;
};

/* What lies at a participant's stride. */
struct mp_barrier_share {
    _Alignas(64) mp_a64 handles; /* the share: not 0: it takes part */
    mp_a32 cpu;                  /* CPU + 1 on which it last waited: a hint */
};
