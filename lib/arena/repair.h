/* SPDX-License-Identifier: MIT */
#pragma once

/* What the sweep does to a sync object for one who died. Their protocols stand in sync/. */

#include "arena/arena.h"

/* Whoever owned it: if dead, the next is to be told. */
void mp_repair_owner(struct mp_arena *a, struct mp_directory_entry *e, uint32_t kind);

/* What the dead slot had of it. May be done twice; those who wait are woken afterwards. */
void mp_repair_shares(struct mp_arena *a, struct mp_directory_entry *e, uint32_t kind,
                      uint32_t slot);
