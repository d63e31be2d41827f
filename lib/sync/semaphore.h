/* SPDX-License-Identifier: MIT */
#pragma once

#include <mp/semaphore.h>

#include "arena/permits.h"
#include "arena/sleep.h"
#include "base/cleanup.h"
#include "sync/object.h"

struct mp_semaphore {
    struct mp_object object;
    bool signals;
    uint32_t limit;   /* of free units */
    uint64_t units;   /* which bits of the state are the free units */
    uint64_t waiting; /* and which says that somebody may be asleep */
    mp_a32 *futex;
    struct mp_spin spin;
};
