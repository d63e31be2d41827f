/* SPDX-License-Identifier: MIT */
#pragma once

/* What a worker is started with, and the entry that it runs. */

#include <mp/process.h>

#define MP_WORKER_VERSION 1u

/* Followed by the initializer's name (padded to 16) and its data. The first arena passed is the
 * pool's; the others are for the initializer. */
struct mp_worker_args {
    uint32_t version;
    uint32_t row; /* in the page */
    uint32_t id;
    uint32_t max_tasks;
    uint64_t initializer; /* its address, for a forked worker; 0: none */
    uint32_t name_size;   /* of the initializer's name, NUL included; 0: forked */
    uint32_t pad;
    uint64_t init_size;
    uint64_t spare;
};

#define MP_WORKER_NAME_ROOM(size) MP_ALIGN_UP((size_t)(size), (size_t)16)

extern mp_entry_fn *const mp_worker_entry;
