/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>

#include <mp/shareable_list.h>

#include "base/macro.h"
#include "shared/list_item.h"

struct mp_shareable_list {
    mp_shared_memory *memory;
    bool owned; /* the memory's handle is ours to close */
    size_t n;
    size_t data;     /* where in the segment the data begins, */
    size_t formats;  /* the formats, */
    size_t codes;    /* and the transform codes */
    size_t offset[]; /* n + 1, into the data */
};

static inline size_t mp_list_room(const mp_shareable_list *l, size_t i)
{
    return mp_min(l->offset[i + 1] - l->offset[i], (size_t)MP_LIST_ITEM_ROOM_MAX);
}
