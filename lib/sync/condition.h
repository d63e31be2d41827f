/* SPDX-License-Identifier: MIT */
#pragma once

#include <mp/condition.h>

#include "arena/sleep.h"
#include "base/cleanup.h"
#include "sync/lock.h"
#include "sync/rlock.h"

struct mp_condition {
    struct mp_object object;
    struct mp_spin spin;
};
