/* SPDX-License-Identifier: MIT */
/* The ledger of a semaphore: what is needed for the dead, and by those who take the word over. */

#include "arena/directory.h"
#include "arena/permits.h"
#include "base/mutation.h"

/* A CAS fails when somebody alive did something, so that many in a row are not met by chance. */
#define TRIES_MOST 100000u

/* All but V and WAIT. */
#define TENURE (~(uint64_t)(MP_PERMITS_MAX | MP_PERMITS_WAIT))

static uint64_t written(uint64_t c, uint64_t w)
{
    int count = (int)mp_cell_count(c) + mp_permits_d(w);

    count = mp_max(0, mp_min(count, (int)MP_PERMITS_MAX));
    return ((c >> MP_CELL_VERSION_SHIFT) + 1) << MP_CELL_VERSION_SHIFT | mp_permits_q(w) << 20 |
           (uint64_t)count;
}

/* W was frozen as w: write the cell, if nobody has. */
static void write_cell(const mp_a64 *word, uint64_t w, mp_a64 *cell)
{
    uint64_t c = mp_load_seqcst(cell);

    while (mp_cell_q(c) != mp_permits_q(w)) {
        /* Only now it is sure that the cell was without q while W was frozen. */
        if ((mp_load_seqcst(word) ^ w) & TENURE)
            return;
        if (mp_cas_seqcst(cell, &c, written(c, w)))
            return;
    }
}

bool mp_permits_settle(mp_a64 *word, uint64_t *w, mp_a64 *cell)
{
    if (!cell || mp_permits_d(*w) == 0 || mp_mutation(TENURE_FORGOTTEN))
        return true;
    if (!(*w & MP_PERMITS_FROZEN) && !mp_mutation(TENURE_UNFROZEN)) {
        if (!mp_cas_seqcst(word, w, *w | MP_PERMITS_FROZEN))
            return false;
        *w |= MP_PERMITS_FROZEN;
    }
    write_cell(word, *w, cell);
    return true;
}

/* A part of what D holds: in its name, and frozen at once. */
static uint64_t given_back(uint64_t w, uint64_t c, uint32_t slot, uint32_t limit)
{
    uint32_t part = mp_min(mp_cell_count(c), (uint32_t)MP_PERMITS_D_MOST);
    uint32_t units = mp_permits_free(w);

    units = mp_max(units, mp_min(units + part, limit));
    if (mp_mutation(PERMITS_RETURN_UNTOLD))
        return (w & TENURE) | (w & MP_PERMITS_WAIT) | units;
    return mp_permits_word(units, w & MP_PERMITS_WAIT, slot + 1, -(int)part,
                           mp_permits_next_q(w, c)) |
           MP_PERMITS_FROZEN;
}

void mp_permits_repair(struct mp_arena *a, struct mp_directory_entry *e, uint32_t slot)
{
    mp_a64 *mine = mp_directory_share(a, e, slot);
    uint32_t flags = mp_load_relaxed(&e->flags);
    uint32_t limit = mp_min(flags >> MP_PERMITS_FLAGS_SHIFT, MP_PERMITS_MAX);

    if (!mine || (flags & MP_PERMITS_FLAG_SIGNALS))
        return; /* signals have no holders; or the entry is spoiled */
    for (uint32_t tries = 0; tries < TRIES_MOST; tries++) {
        uint64_t w = mp_load_seqcst(&e->value);
        uint32_t p = mp_permits_p(w);
        uint64_t c;

        if (w == MP_VALUE_DESTROYED)
            return;
        c = mp_load_seqcst(mine);
        if (mp_cell_count(c) == 0 && (p != slot + 1 || mp_cell_q(c) == mp_permits_q(w)))
            return;
        if (p == slot + 1 && mp_permits_d(w) == 0 && mp_cell_count(c) == 0)
            return;
        if (!mp_permits_settle(&e->value, &w, p ? mp_directory_share(a, e, p - 1) : NULL))
            continue;
        c = mp_load_seqcst(mine);
        if (mp_cell_count(c) == 0)
            return;
        if (mp_cas_seqcst(&e->value, &w, given_back(w, c, slot, limit)) &&
            mp_mutation(PERMITS_RETURN_UNTOLD))
            mp_store_seqcst(mine, 0);
    }
}
