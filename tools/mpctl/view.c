/* SPDX-License-Identifier: MIT */
/*
 * A look into one arena.
 *
 * Everything is read by pread() into private memory, not through a mapping: reading a mapped hole
 * of a sparse memfd gives it a page of memory, and where another process may cut the file short it
 * faults. pread() does neither. So a look leaves no trace in the arena, and what was checked stays
 * as it was checked.
 *
 * The rules are those of mp_arena_map(): sealed, of the size that its three numbers give, of our
 * version and layout. From then on every number that is read is checked against the geometry
 * before it is used as an index; counts that only bound a search are cut to it.
 *
 * The copies of one look are not of one instant. Words that must fit each other (a lock's and its
 * owner's slot) are read again where they tell something alarming; see look.c.
 *
 * How long a look takes is bounded too, whatever is written there: the geometry bounds all but the
 * cells of rings and the shares of sync objects, since many entries may name one block; for these
 * there is a budget.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/macro.h"
#include "kernel/memfd.h"
#include "view.h"

#define WORDS_MAX (UINT64_C(128) << 20) /* 1 GiB of cells and shares */

void view_read(struct view *v, uint64_t offset, void *ret_bytes, size_t n)
{
    size_t done = 0;

    while (done < n) {
        ssize_t got =
            pread(v->found->fd, (char *)ret_bytes + done, n - done, (off_t)(offset + done));

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            v->error = got < 0 ? -errno : -EIO;
            memset((char *)ret_bytes + done, 0, n - done);
            return;
        }
        done += (size_t)got;
    }
}

uint64_t view_word(struct view *v, uint64_t offset)
{
    uint64_t page = offset / VIEW_PAGE * VIEW_PAGE;
    unsigned i = (unsigned)(offset / VIEW_PAGE % VIEW_PAGES);
    uint64_t word;

    if (v->at[i] != page + 1) {
        view_read(v, page, v->pages[i], VIEW_PAGE);
        v->at[i] = page + 1;
    }
    memcpy(&word, &v->pages[i][offset % VIEW_PAGE], sizeof word);
    return word;
}

/* ---- opening ---- */

static int read_geometry(struct view *v, uint64_t bytes, const char **ret_why)
{
    const struct mp_header *h = &v->header;

    *ret_why = "it does not begin as one";
    if (bytes < sizeof *h)
        return -EPROTO;
    view_read(v, 0, &v->header, sizeof v->header);
    if (v->error)
        return v->error;
    if (h->magic != MP_MAGIC)
        return -EPROTO;
    *ret_why = "it is of another version of libmp";
    if (h->version != MP_VERSION || h->fingerprint != mp_geometry_fingerprint())
        return -EPROTO;
    *ret_why = "its sizes do not fit each other";
    if (mp_geometry_compute(h->size, h->participants, h->objects, &v->g) < 0 ||
        h->total != v->g.total || bytes != v->g.total || h->size != v->g.size)
        return -EPROTO;
    return 0;
}

/* A copy of a region. NULL: no memory. */
static void *copy_region(struct view *v, uint64_t offset, size_t n)
{
    void *copy = aligned_alloc(64, MP_ALIGN_UP(mp_max(n, (size_t)1), (size_t)64));

    if (copy)
        view_read(v, offset, copy, n);
    return copy;
}

static int copy_regions(struct view *v)
{
    const struct mp_geometry *g = &v->g;

    v->n_entries = mp_min(mp_load_relaxed(&v->header.objects_high), g->objects);
    v->entries = copy_region(v, g->directory_offset, v->n_entries * sizeof *v->entries);
    v->extents = copy_region(v, g->extents_offset, g->extents * sizeof *v->extents);
    v->slots = copy_region(v, g->slots_offset, g->participants * sizeof *v->slots);
    v->waits = copy_region(v, g->waits_offset,
                           (size_t)g->participants * MP_WAIT_RECORDS_PER_SLOT * sizeof *v->waits);
    if (!v->entries || !v->extents || !v->slots || !v->waits)
        return -ENOMEM;
    return v->error;
}

int view_open(const struct found *found, struct view **ret_view, const char **ret_why)
{
    _cleanup_view_ struct view *v = NULL;
    struct stat st;
    uint64_t bytes;
    int r;

    *ret_why = "it is no memfd";
    if (found->alien)
        return -EPROTO;
    *ret_why = NULL;
    if (found->fd < 0)
        return found->error;
    v = aligned_alloc(64, sizeof *v);
    if (!v)
        return -ENOMEM;
    memset(v, 0, offsetof(struct view, pages));
    v->found = found;
    v->budget = WORDS_MAX;
    r = mp_memfd_check(found->fd, &bytes);
    if (r == -EPROTO)
        *ret_why = "it is not sealed as one";
    if (r < 0)
        return r;
    r = read_geometry(v, bytes, ret_why);
    if (r < 0)
        return r;
    *ret_why = NULL;
    r = copy_regions(v);
    if (r < 0)
        return r;
    if (fstat(found->fd, &st) == 0)
        v->resident = (uint64_t)st.st_blocks * 512;
    *ret_view = mp_take_ptr(v);
    return 0;
}

struct view *view_free(struct view *v)
{
    if (!v)
        return NULL;
    free(v->slots);
    free(v->waits);
    free(v->entries);
    free(v->extents);
    free(v->returned);
    free(v->seen);
    free(v);
    return NULL;
}

/* ---- memory ---- */

bool view_extent_is_backed(const struct view *v, const struct mp_class *class, uint32_t extent)
{
    return (mp_load_relaxed(&v->extents[class->first_extent + extent]) & 3) == MP_EXTENT_BACKED;
}

uint64_t view_block(const struct view *v, uint64_t block, uint32_t *ret_class)
{
    const struct mp_class *k;
    uint32_t class, i;

    if (block >= v->g.blocks)
        return 0;
    class = mp_geometry_block_class(&v->g, (uint32_t)block);
    k = &v->g.classes[class];
    i = (uint32_t)block - k->first;
    if (!view_extent_is_backed(v, k, i >> k->extent_shift))
        return 0;
    *ret_class = class;
    return k->offset + i * k->block_size;
}

uint64_t view_used(const struct view *v)
{
    uint64_t sum = 0;

    for (uint32_t c = 0; c < v->g.n_classes; c++) {
        const struct mp_class *k = &v->g.classes[c];

        for (uint32_t e = 0; e < k->extents; e++)
            if ((mp_load_relaxed(&v->extents[k->first_extent + e]) & 3) != MP_EXTENT_UNBACKED)
                sum += k->block_size << k->extent_shift;
    }
    return sum;
}

static uint32_t generation_of(const struct view *v, uint32_t index)
{
    return mp_entry_unpack(mp_load_relaxed(&v->entries[index].state)).generation;
}

static void count_returned(struct view *v, const struct mp_class *k, uint32_t extent)
{
    uint64_t first = k->first + (uint64_t)extent * k->extent_blocks;

    for (uint64_t x = first; x < first + k->extent_blocks; x++) {
        uint64_t word = view_word(v, v->g.words_offset + x * sizeof word);
        uint32_t queue, index;

        if (mp_block_state(word) != MP_BLOCK_RETURNED)
            continue;
        queue = (uint32_t)view_word(v, v->g.meta_offset + x * sizeof word) & 0xffffff;
        index = queue & 0xffff;
        if (index < v->n_entries && mp_meta_queue(index, generation_of(v, index)) == queue)
            v->returned[index]++;
    }
}

uint32_t view_returned(struct view *v, uint32_t index)
{
    if (!v->returned) {
        v->returned = calloc(v->n_entries, sizeof *v->returned);
        if (!v->returned) {
            v->error = -ENOMEM;
            return 0;
        }
        for (uint32_t c = 0; c < v->g.n_classes; c++)
            for (uint32_t e = 0; e < v->g.classes[c].extents; e++)
                if (view_extent_is_backed(v, &v->g.classes[c], e))
                    count_returned(v, &v->g.classes[c], e);
    }
    return v->returned[index];
}
