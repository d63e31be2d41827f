/* SPDX-License-Identifier: MIT */
#pragma once

/* Time: nanoseconds on CLOCK_MONOTONIC. Callers give relative timeouts; inside there are only
 * absolute deadlines. */

#include <stdint.h>
#include <time.h>

#include <mp/error.h>

#include "base/macro.h"

static inline uint64_t mp_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

/* 0 stays 0 ("do not wait"), MP_FOREVER stays itself, and so does what would overflow into it. */
static inline uint64_t mp_deadline(uint64_t timeout_ns)
{
    uint64_t now;

    if (timeout_ns == 0 || timeout_ns == MP_FOREVER)
        return timeout_ns;
    now = mp_now_ns();
    return timeout_ns > MP_FOREVER - 1 - now ? MP_FOREVER : now + timeout_ns;
}

static inline struct timespec mp_timespec(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / UINT64_C(1000000000)),
                             .tv_nsec = (long)(ns % UINT64_C(1000000000))};
}
