/* SPDX-License-Identifier: MIT */
#pragma once

/* A look into one arena: read only, from outside, believing nothing. */

#include <stdbool.h>
#include <stdint.h>

#include "arena/geometry.h"
#include "arena/layout.h"
#include "base/cleanup.h"
#include "find.h"

#define VIEW_PAGES 64u
#define VIEW_PAGE 4096u
#define VIEW_BLOCK_SET (UINT64_C(1) << 63) /* in a directory entry: it names a block */

struct view {
    const struct found *found;
    struct mp_geometry g;
    uint64_t resident; /* bytes that the memfd takes now */
    int error;         /* of a read that failed; what it would have read is 0 */

    /* Copies. Their sizes are the geometry's, that of the directory as far as it was used. */
    struct mp_header header;
    struct mp_slot *slots;
    struct mp_wait_record *waits;
    struct mp_directory_entry *entries;
    uint32_t n_entries;
    mp_a32 *extents;

    struct seen_slot *seen; /* what look.c knows of each slot; NULL: nothing yet */
    uint32_t *returned; /* for each entry: blocks that wait to be delivered again; NULL: not yet */
    uint64_t budget;    /* words of rings and shares that will still be looked at */
    uint64_t at[VIEW_PAGES]; /* what is in pages[]: offset + 1; 0: nothing */
    _Alignas(64) char pages[VIEW_PAGES][VIEW_PAGE];
};

/* 0; -EPROTO and why it is no arena, or none that this program can read; -ENOMEM, -errno. */
int view_open(const struct found *found, struct view **ret_view, const char **ret_why);
struct view *view_free(struct view *view);

/* Bytes at an offset; beyond the end, or where reading fails, 0. */
void view_read(struct view *view, uint64_t offset, void *ret_bytes, size_t n);

/* An aligned word, through a small cache. */
uint64_t view_word(struct view *view, uint64_t offset);

/* Where the block lies, if there is such a block with memory behind it; else 0. */
uint64_t view_block(const struct view *view, uint64_t block, uint32_t *ret_class);

/* Bytes that are cut into blocks, or about to be. */
uint64_t view_used(const struct view *view);

bool view_extent_is_backed(const struct view *view, const struct mp_class *class, uint32_t extent);

/* Messages of the queue with this index that wait to be delivered again. */
uint32_t view_returned(struct view *view, uint32_t index);

static inline void view_freep(struct view **view)
{
    view_free(*view);
}
#define _cleanup_view_ _cleanup_(view_freep)
