/* SPDX-License-Identifier: MIT */
#pragma once

/* Ownership of locals: _cleanup_ frees at the end of the scope, mp_take_*() hands over. */

#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))

static inline void mp_freep(void *p)
{
    free(*(void **)p);
}

static inline void mp_closep(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

#define _cleanup_free_ _cleanup_(mp_freep)
#define _cleanup_close_ _cleanup_(mp_closep)

#define mp_take_ptr(p)               \
    ({                               \
        __typeof__(p) *take_ = &(p); \
        __typeof__(p) had_ = *take_; \
        *take_ = NULL;               \
        had_;                        \
    })

static inline int mp_take_fd(int *fd)
{
    int had = *fd;

    *fd = -1;
    return had;
}
