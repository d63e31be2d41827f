/* SPDX-License-Identifier: MIT */
#pragma once

#include <mp/lock.h>

#include "base/cleanup.h"
#include "sync/word.h"

struct mp_lock {
    struct mp_object object;
};
