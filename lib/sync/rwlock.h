/* SPDX-License-Identifier: MIT */
#pragma once

#include <mp/rwlock.h>

#include "base/cleanup.h"
#include "sync/word.h"

struct mp_rwlock {
    struct mp_object object;
    mp_a32 *drain;   /* sleep word of the writer that waits for readers to leave */
    mp_a32 *readers; /* sleep word of readers */
};
