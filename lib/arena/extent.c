/* SPDX-License-Identifier: MIT */
/*
 * Extents: how much of the arena each class has (the table of states is in arena/layout.h).
 *
 * The sum over all extents that are not UNBACKED never exceeds the size of the arena, without a
 * lock and without a counter that a crash could leave wrong: an extent is charged first, by one CAS
 * that names us, then the words are summed; if that is too much the charge is taken back. Two that
 * charge the last room at once may both take it back; each then tries again.
 *
 * A class with no memory left takes it from others: drain their crates, look for extents whose
 * blocks are all ours, punch them out, put the rest back.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arena/block.h"
#include "base/mutation.h"
#include "base/cleanup.h"

uint64_t mp_extent_sum(const struct mp_arena *a)
{
    uint64_t sum = 0;

    for (uint32_t c = 0; c < a->geometry.n_classes; c++) {
        const struct mp_class *k = &a->geometry.classes[c];
        uint32_t n = 0;

        for (uint32_t e = 0; e < k->extents; e++)
            n += (mp_load_seqcst(&a->extents[k->first_extent + e]) & 3) != MP_EXTENT_UNBACKED;
        sum += n * (k->block_size << k->extent_shift);
    }
    return sum;
}

/* Charge an extent of this class to us. Its number in the class; -ENOBUFS. */
static int64_t charge(struct mp_arena *a, uint32_t class)
{
    const struct mp_class *k = &a->geometry.classes[class];
    uint32_t e = mp_load_relaxed(&a->header->classes[class].extent);
    uint32_t mine = mp_extent_word(MP_EXTENT_CHARGED, a->self->slot);

    if (e >= k->extents)
        e = 0;
    for (uint32_t i = 0; i < k->extents; i++, e = e + 1 == k->extents ? 0 : e + 1) {
        mp_a32 *word = &a->extents[k->first_extent + e];
        uint32_t w = mp_load_relaxed(word);

        if ((w & 3) != MP_EXTENT_UNBACKED || !mp_cas_seqcst(word, &w, mine))
            continue;
        if (mp_extent_sum(a) > a->geometry.size) {
            mp_store_seqcst(word, MP_EXTENT_UNBACKED);
            return -ENOBUFS;
        }
        mp_store_relaxed(&a->header->classes[class].extent, e + 1);
        return e;
    }
    return -ENOBUFS;
}

int mp_extent_back(struct mp_arena *a, struct mp_thread *t, uint32_t class)
{
    const struct mp_class *k = &a->geometry.classes[class];
    struct mp_magazine *m = &t->magazines[class];
    uint64_t owned = mp_block_owned(a);
    int64_t e = charge(a, class);
    uint32_t first;

    if (e < 0)
        return (int)e;
    first = k->first + (uint32_t)e * k->extent_blocks;
    if (mp_mutation(BACKED_FIRST))
        mp_store_release(&a->extents[k->first_extent + e], MP_EXTENT_BACKED);
    for (uint32_t b = 0; b < k->extent_blocks; b++)
        mp_store_relaxed(&a->words[first + b], owned);
    /* Release: who sees it backed sees our name in every word. */
    mp_store_release(&a->extents[k->first_extent + e], MP_EXTENT_BACKED);
    for (uint32_t b = k->extent_blocks; b-- > 0;) {
        m->blocks[m->n++] = first + b;
        if (m->n > k->batch && b > 0)
            mp_block_flush(a, class, m, k->batch);
    }
    return 0;
}

/* ---- trim ---- */

struct haul {
    uint32_t *blocks;
    uint32_t n;
    uint32_t room;
};

static void haul_clear(struct haul *h)
{
    free(h->blocks);
}

/* Is there an extent whose blocks are all in crates or in our magazine? Only looks: who takes
 * what others look for, and puts it back, wakes them in vain, and itself. */
static bool any_whole(const struct mp_arena *a, const struct mp_thread *t, uint32_t class,
                      uint32_t *counts)
{
    const struct mp_class *k = &a->geometry.classes[class];
    const struct mp_magazine *m = &t->magazines[class];
    uint32_t high = mp_min(mp_load_relaxed(&a->header->classes[class].high), k->crates);

    for (uint32_t i = 0; i < m->n; i++)
        counts[(m->blocks[i] - k->first) >> k->extent_shift]++;
    for (uint32_t i = 0; i < high; i++) {
        const struct mp_crate *crate = &a->crates[k->first_crate + i];
        uint64_t w = mp_load_acquire(&a->crate_words[k->first_crate + i]);
        uint32_t n = mp_crate_state(w) == MP_CRATE_FULL ? mp_min(mp_crate_count(w), k->batch) : 0;

        for (uint32_t b = 0; b < n; b++) {
            uint32_t x = mp_load_relaxed(&crate->blocks[b]) - k->first;

            if (x < k->blocks)
                counts[x >> k->extent_shift]++;
        }
    }
    for (uint32_t e = 0; e < k->extents; e++)
        if (counts[e] >= k->extent_blocks)
            return true;
    return false;
}

/* Everything that is free in a class, into our hands. No more than there is: somebody may fill
 * crates with nonsense as fast as we empty them. */
static int haul_class(struct mp_arena *a, struct mp_thread *t, uint32_t class, struct haul *h)
{
    const struct mp_class *k = &a->geometry.classes[class];
    struct mp_magazine *m = &t->magazines[class];

    do {
        if (h->n + m->n > h->room) {
            uint32_t room = mp_max(h->room * 2, 256u);
            uint32_t *more = realloc(h->blocks, room * sizeof *more);

            if (!more)
                return -ENOMEM;
            h->blocks = more;
            h->room = room;
        }
        while (m->n)
            h->blocks[h->n++] = m->blocks[--m->n];
    } while (h->n < k->blocks && mp_block_drain(a, class, m));
    return 0;
}

static bool release_extent(struct mp_arena *a, const struct mp_class *k, uint32_t e)
{
    mp_a32 *word = &a->extents[k->first_extent + e];
    uint64_t bytes = k->block_size << k->extent_shift;
    uint32_t w = MP_EXTENT_BACKED;

    /* All its blocks are ours, so nobody else has business with it. From CHARGED on its block
     * words mean nothing. */
    if (!mp_cas_seqcst(word, &w, mp_extent_word(MP_EXTENT_CHARGED, a->self->slot)))
        return false;
    /* Through the mapping, not the fd, whose number may be another file's in a program that closes
     * what it does not know. An extent smaller than a page stays ours by the kernel's count:
     * madvise() rounds its length up, and the neighbour's messages would be wiped. */
    if (bytes % (uint64_t)getpagesize() == 0)
        (void)madvise(a->base + k->offset + e * bytes, bytes, MADV_REMOVE);
    mp_store_seqcst(word, MP_EXTENT_UNBACKED);
    return true;
}

static bool trim_class(struct mp_arena *a, struct mp_thread *t, uint32_t class)
{
    const struct mp_class *k = &a->geometry.classes[class];
    struct mp_magazine *m = &t->magazines[class];
    _cleanup_(haul_clear) struct haul h = {0};
    _cleanup_free_ uint32_t *counts = calloc(k->extents, sizeof *counts);
    bool any = false;
    int r;

    if (!counts || !any_whole(a, t, class, counts))
        return false;
    memset(counts, 0, k->extents * sizeof *counts);
    r = haul_class(a, t, class, &h);
    for (uint32_t i = 0; i < h.n; i++)
        counts[(h.blocks[i] - k->first) >> k->extent_shift]++;
    for (uint32_t e = 0; r == 0 && e < k->extents; e++) {
        /* A block number that stands twice in spoiled crates must not count for another. */
        bool whole = counts[e] == k->extent_blocks && release_extent(a, k, e);

        counts[e] = whole ? UINT32_MAX : 0;
        any |= whole;
    }
    for (uint32_t i = 0; i < h.n; i++) {
        if (counts[(h.blocks[i] - k->first) >> k->extent_shift] == UINT32_MAX)
            continue;
        m->blocks[m->n++] = h.blocks[i];
        if (m->n >= k->batch)
            mp_block_flush(a, class, m, k->batch);
    }
    return any;
}

bool mp_extent_trim(struct mp_arena *a, struct mp_thread *t)
{
    bool any = false;

    for (uint32_t c = 0; c < a->geometry.n_classes; c++)
        any |= trim_class(a, t, c);
    if (any)
        mp_sleep_wake_all(&a->header->freed); /* others may want some of it */
    return any;
}
