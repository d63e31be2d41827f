/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Permits: a count whose units have holders.
 *
 * The units that are free stand in one word, W. Who holds how many of the others stands in the
 * ledger, the shares of the semaphore: one cell a slot. Both would have to be written at once; so W
 * carries the last operator's changes along, and they go to its cell when somebody else comes:
 *
 *   W     {F:1, d:6 (biased by 32), q:25, p:11 (slot+1; 0 nobody), WAIT:1, V:20}
 *   cell  {version:19, q:25, count:20}
 *
 * As long as p is the operator, W says with q which tenure of the word this is, and with d how many
 * more it holds by now than its cell says. To acquire or release is then one CAS. The units that a
 * slot holds: count, and d more if it is p and its cell does not have this q.
 *
 *   state of W     who moves it, and how                       a crash leaves  who repairs
 *   {p, d}         p: CAS V-1, d+1 or V+1, d-1                 the same        the sweep, for p
 *   {p, d = 0}     anyone: CAS {me, d'}, q+1: nothing to write
 *   {p, d}         anyone else, or p where d is full:          the same        the next operator,
 *                  CAS F: nobody changes d any more                            or the sweep
 *   {p, d, F}      anyone: cell of p: CAS {count + d, q,       the same        the next operator,
 *                  version + 1}, if it does not have q yet                     or the sweep
 *   {p, d, F},     anyone: CAS {me, d'}, q+1, F away           the same        needs none
 *   cell has q
 *   any            who posts a unit it does not hold: CAS V+1; WAIT changes too: p, d, F, q stay
 *
 * For D, who is dead, the sweep does the same: F, the cell, and then, as long as D's cell has a
 * count, an operation in D's name: CAS {V + what comes back, p = D, d = -count, F}, q+1, and the
 * cell. A sweeper that is killed anywhere in between leaves what the next one goes on with: what
 * was given back is in W and not yet in the cell, or in both. Nothing is given back twice. What
 * comes back does not lift V over the value that the semaphore began with: units that another
 * process released for D are back already.
 *
 * Why a slow helper does no harm: it reads the cell, then W again, and then writes the cell by CAS.
 * If W still said {p, d, F, q} after the cell was read without q, then the cell is written by this
 * CAS, or was written since and the CAS fails: a cell changes only when it gets the q of a frozen
 * W, and the version tells it from all that it was before. The F is what makes this so: a W whose d
 * moves on could be written to the cell by a helper that has slept, after everyone else was done.
 *
 * A tenure whose q is the one that the taker's cell has would look as if it was written: that q is
 * left out. A slot is not used by anybody new before it is swept, so no generation is needed.
 */

#include "arena/arena.h"

#define MP_PERMITS_MAX ((1u << 20) - 1)
#define MP_PERMITS_STRIDE 8u
#define MP_PERMITS_D_MOST 31
#define MP_PERMITS_WAIT (UINT64_C(1) << 20)
#define MP_PERMITS_FROZEN (UINT64_C(1) << 63)
#define MP_PERMITS_Q_MASK ((UINT64_C(1) << 25) - 1)
#define MP_PERMITS_P_SHIFT 21
#define MP_PERMITS_D_SHIFT 57
#define MP_PERMITS_D_ZERO 32
#define MP_CELL_VERSION_SHIFT 45

/* To acquire one in one's own tenure: V-1, d+1. */
#define MP_PERMITS_UNIT ((UINT64_C(1) << MP_PERMITS_D_SHIFT) - 1)

/* At the beginning: frozen and nobody's, so that nobody takes it for his own. */
#define MP_PERMITS_FIRST(v) (MP_PERMITS_FROZEN | mp_permits_word(v, 0, 0, 0, 0))

/* flags of the entry: {limit:30, MP_SEMAPHORE_*:2}. */
#define MP_PERMITS_FLAGS_SHIFT 2
#define MP_PERMITS_FLAG_SIGNALS (1u << 0)

static inline uint32_t mp_permits_free(uint64_t w)
{
    return (uint32_t)w & MP_PERMITS_MAX;
}

static inline uint32_t mp_permits_p(uint64_t w)
{
    return (uint32_t)w >> MP_PERMITS_P_SHIFT;
}

static inline int mp_permits_d(uint64_t w)
{
    return (int)(w >> MP_PERMITS_D_SHIFT & 63) - MP_PERMITS_D_ZERO;
}

static inline uint64_t mp_permits_q(uint64_t w)
{
    return w >> 32 & MP_PERMITS_Q_MASK;
}

static inline uint64_t mp_permits_word(uint32_t units, uint64_t wait, uint32_t p, int d, uint64_t q)
{
    return (uint64_t)(d + MP_PERMITS_D_ZERO) << MP_PERMITS_D_SHIFT | q << 32 |
           (uint64_t)p << MP_PERMITS_P_SHIFT | wait | units;
}

/* For the short ways, a compare each: V and WAIT, and all above it 0 if the tenure is that of this
 * token; not frozen and room for one more; not frozen and d > 0, so p holds one. */
static inline uint32_t mp_permits_mine(uint64_t w, uint32_t token)
{
    return (uint32_t)w ^ token << MP_PERMITS_P_SHIFT;
}

static inline bool mp_permits_has_room(uint64_t w)
{
    return w < UINT64_C(63) << MP_PERMITS_D_SHIFT;
}

static inline bool mp_permits_has_one(uint64_t w)
{
    return w - (UINT64_C(33) << MP_PERMITS_D_SHIFT) < UINT64_C(31) << MP_PERMITS_D_SHIFT;
}

static inline uint32_t mp_cell_count(uint64_t c)
{
    return (uint32_t)c & MP_PERMITS_MAX;
}

static inline uint64_t mp_cell_q(uint64_t c)
{
    return c >> 20 & MP_PERMITS_Q_MASK;
}

/* The q of a tenure that begins now, for the slot of this cell. */
static inline uint64_t mp_permits_next_q(uint64_t w, uint64_t cell)
{
    uint64_t q = (mp_permits_q(w) + 1) & MP_PERMITS_Q_MASK;

    return q == mp_cell_q(cell) ? (q + 1) & MP_PERMITS_Q_MASK : q;
}

/* How many the slot of this cell holds, at the time of w. */
static inline uint32_t mp_permits_held(uint64_t w, uint64_t cell, uint32_t slot)
{
    int held = (int)mp_cell_count(cell);

    if (mp_permits_p(w) == slot + 1 && mp_cell_q(cell) != mp_permits_q(w))
        held += mp_permits_d(w);
    return held > 0 ? (uint32_t)held : 0;
}

/* The tenure that *w speaks of is to be in the cell of its slot, so that another may begin by a CAS
 * from *w. False: W has changed, look again. `cell` is that of p; NULL: p is nobody. */
bool mp_permits_settle(mp_a64 *word, uint64_t *w, mp_a64 *cell);

/* For the sweep: give back what the dead slot holds. */
void mp_permits_repair(struct mp_arena *a, struct mp_directory_entry *e, uint32_t slot);
