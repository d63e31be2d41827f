/* SPDX-License-Identifier: MIT */
#pragma once

#include <mp/rwlock.h>

#include "base/cleanup.h"
#include "sync/word.h"

struct mp_rwlock {
    struct mp_object object;
    mp_a32 *drain;    /* sleep word of the writer that waits for readers to leave */
    mp_a32 *readers;  /* sleep word of readers */
    mp_a32 *may_read; /* `tag`: there may be readers; 0: there are none */
    uint32_t tag;     /* of this life of the entry, never 0 */
};
