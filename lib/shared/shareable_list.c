/* SPDX-License-Identifier: MIT */
/*
 * ShareableList: Python's layout of a list in named shared memory.
 *
 *   0                  int64_t: number of items, N
 *   8                  N + 1 offsets of 8 bytes into the data; the last is the size of all of it
 *   8 (N + 2)          the data: items one after the other, each room a multiple of 8 (list_item.c)
 *   ... + offset[N]    N formats of 8 bytes
 *   ... + 8 N          N transform codes of 1 byte
 *
 * The mapping is not touched here: all goes by pread() and pwrite(), which fail instead of faulting
 * where the segment was truncated. The offsets are kept in the handle and never read again, so
 * nothing that others write makes a call reach beyond the item it was meant for.
 */

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/macro.h"
#include "shared/list_item.h"
#include "shared/shareable_list.h"
#include "shared/shared_memory.h"

/* What an item takes at least: offset, value, format, transform. */
#define BYTES_PER_ITEM (8u + MP_LIST_ITEM_UNIT + 8u + 1u)
#define BYTES_BESIDE 16u
/* Forms are looked at so many at a time. */
#define AT_ONCE 256u

static mp_shareable_list *new_handle(mp_shared_memory *memory, size_t n)
{
    mp_shareable_list *l = malloc(sizeof *l + (n + 1) * sizeof l->offset[0]);

    if (!l)
        return NULL;
    l->memory = memory;
    l->owned = false;
    l->n = n;
    l->data = (n + 2) * 8;
    return l;
}

/* Once the offsets are known. */
static void set_places(mp_shareable_list *l)
{
    l->formats = l->data + l->offset[l->n];
    l->codes = l->formats + l->n * 8;
}

static size_t total(const mp_shareable_list *l)
{
    return l->codes + l->n;
}

/* ---- making ---- */

/* A handle on what the list will be; its memory comes later. */
static int lay_out(const struct mp_list_item *items, size_t n, mp_shareable_list **ret_list)
{
    _cleanup_(mp_shareable_list_closep) mp_shareable_list *l = NULL;
    size_t end = 0;

    if (n > (SSIZE_MAX - BYTES_BESIDE) / BYTES_PER_ITEM)
        return -EINVAL;
    l = new_handle(NULL, n);
    if (!l)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        int r = mp_list_item_check(&items[i], MP_LIST_ITEM_SIZE_MAX);

        if (r < 0)
            return r;
        l->offset[i] = end;
        if (__builtin_add_overflow(end, mp_list_item_room(&items[i]), &end))
            return -EINVAL;
    }
    l->offset[n] = end;
    if (end > SSIZE_MAX - BYTES_BESIDE - n * (BYTES_PER_ITEM - MP_LIST_ITEM_UNIT))
        return -EINVAL;
    set_places(l);
    *ret_list = mp_take_ptr(l);
    return 0;
}

static void put_item(const mp_shareable_list *l, size_t i, const struct mp_list_item *item,
                     char *image)
{
    struct mp_list_item_form form = mp_list_item_form(item, mp_list_room(l, i));
    char *value = image + l->data + l->offset[i];

    if (item->type != MP_LIST_ITEM_STRING && item->type != MP_LIST_ITEM_BYTES)
        mp_list_item_pack(item, value);
    else if (item->size > 0)
        memcpy(value, item->data, item->size);
    memcpy(image + l->formats + i * 8, form.format, sizeof form.format);
    image[l->codes + i] = form.transform;
}

/* All bytes of the list, to be freed; NULL: no memory. */
static char *draw(const mp_shareable_list *l, const struct mp_list_item *items)
{
    char *image = calloc(1, total(l));
    int64_t number = (int64_t)l->n;

    if (!image)
        return NULL;
    memcpy(image, &number, sizeof number);
    for (size_t i = 0; i <= l->n; i++) {
        number = (int64_t)l->offset[i];
        memcpy(image + 8 + i * 8, &number, sizeof number);
    }
    for (size_t i = 0; i < l->n; i++)
        put_item(l, i, &items[i], image);
    return image;
}

static int prepare(const struct mp_list_item *items, size_t n, mp_shareable_list **ret_list,
                   char **ret_image)
{
    _cleanup_(mp_shareable_list_closep) mp_shareable_list *l = NULL;
    int r;

    if (!items && n > 0)
        return -EINVAL;
    r = lay_out(items, n, &l);
    if (r < 0)
        return r;
    *ret_image = draw(l, items);
    if (!*ret_image)
        return -ENOMEM;
    *ret_list = mp_take_ptr(l);
    return 0;
}

int mp_shareable_list_create(const char *name, const struct mp_list_item *items, size_t n,
                             mp_shareable_list **ret_list)
{
    _cleanup_(mp_shareable_list_closep) mp_shareable_list *l = NULL;
    _cleanup_free_ char *image = NULL;
    int r;

    if (!ret_list)
        return -EINVAL;
    r = prepare(items, n, &l, &image);
    if (r < 0)
        return r;
    r = mp_shared_memory_build(name, total(l), image, total(l), &l->memory);
    if (r < 0)
        return r;
    l->owned = true;
    *ret_list = mp_take_ptr(l);
    return 0;
}

int mp_shareable_list_create_in(mp_shared_memory *memory, const struct mp_list_item *items,
                                size_t n, mp_shareable_list **ret_list)
{
    _cleanup_(mp_shareable_list_closep) mp_shareable_list *l = NULL;
    _cleanup_free_ char *image = NULL;
    int r;

    if (!memory || !ret_list)
        return -EINVAL;
    r = prepare(items, n, &l, &image);
    if (r < 0)
        return r;
    if (total(l) > mp_shared_memory_size(memory))
        return -EMSGSIZE;
    r = mp_shared_memory_write(memory, 0, image, total(l));
    if (r < 0)
        return r;
    l->memory = memory;
    *ret_list = mp_take_ptr(l);
    return 0;
}

/* ---- opening ---- */

/* The offsets rise from 0 by multiples of 8, and all that follows them lies in the segment. */
static int read_offsets(mp_shareable_list *l)
{
    size_t most = mp_shared_memory_size(l->memory) - BYTES_BESIDE -
                  l->n * (BYTES_PER_ITEM - MP_LIST_ITEM_UNIT);
    uint64_t before = 0;
    int r;

    static_assert(sizeof l->offset[0] == 8, "offsets of 64 bits");
    r = mp_shared_memory_read(l->memory, 8, l->offset, (l->n + 1) * 8);
    if (r < 0)
        return r;
    if (l->offset[0] != 0)
        return -EPROTO;
    for (size_t i = 1; i <= l->n; i++) {
        uint64_t offset = l->offset[i];

        if (offset <= before || offset % MP_LIST_ITEM_UNIT != 0 || offset > most)
            return -EPROTO;
        before = offset;
    }
    return 0;
}

/* Of n items from the first on, which are at most AT_ONCE. */
static int check_some(const mp_shareable_list *l, size_t first, size_t n)
{
    char formats[AT_ONCE][8];
    int8_t codes[AT_ONCE];
    int r;

    r = mp_shared_memory_read(l->memory, l->formats + first * 8, formats, n * 8);
    if (r < 0)
        return r;
    r = mp_shared_memory_read(l->memory, l->codes + first, codes, n);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i++) {
        struct mp_list_item_form form = {.transform = codes[i]};
        uint32_t type;
        size_t size;

        memcpy(form.format, formats[i], sizeof form.format);
        r = mp_list_item_read_form(&form, mp_list_room(l, first + i), &type, &size);
        if (r < 0)
            return r;
    }
    return 0;
}

static int check_forms(const mp_shareable_list *l)
{
    for (size_t i = 0; i < l->n; i += AT_ONCE) {
        int r = check_some(l, i, mp_min(l->n - i, (size_t)AT_ONCE));

        if (r < 0)
            return r;
    }
    return 0;
}

int mp_shareable_list_open_in(mp_shared_memory *memory, mp_shareable_list **ret_list)
{
    _cleanup_(mp_shareable_list_closep) mp_shareable_list *l = NULL;
    size_t size;
    int64_t n;
    int r;

    if (!memory || !ret_list)
        return -EINVAL;
    size = mp_shared_memory_size(memory);
    if (size < BYTES_BESIDE)
        return -EPROTO;
    r = mp_shared_memory_read(memory, 0, &n, sizeof n);
    if (r < 0)
        return r;
    if (n < 0 || (uint64_t)n > (size - BYTES_BESIDE) / BYTES_PER_ITEM)
        return -EPROTO;
    l = new_handle(memory, (size_t)n);
    if (!l)
        return -ENOMEM;
    r = read_offsets(l);
    if (r < 0)
        return r;
    set_places(l);
    r = check_forms(l);
    if (r < 0)
        return r;
    *ret_list = mp_take_ptr(l);
    return 0;
}

int mp_shareable_list_open(const char *name, mp_shareable_list **ret_list)
{
    _cleanup_(mp_shared_memory_closep) mp_shared_memory *memory = NULL;
    mp_shareable_list *l;
    int r;

    if (!ret_list)
        return -EINVAL;
    r = mp_shared_memory_open(name, &memory);
    if (r < 0)
        return r;
    r = mp_shareable_list_open_in(memory, &l);
    if (r < 0)
        return r;
    mp_take_ptr(memory);
    l->owned = true;
    *ret_list = l;
    return 0;
}

mp_shareable_list *mp_shareable_list_close(mp_shareable_list *list)
{
    if (!list)
        return NULL;
    if (list->owned)
        mp_shared_memory_close(list->memory);
    free(list);
    return NULL;
}

mp_shared_memory *mp_shareable_list_memory(const mp_shareable_list *list)
{
    return list ? list->memory : NULL;
}

size_t mp_shareable_list_length(const mp_shareable_list *list)
{
    return list ? list->n : 0;
}

size_t mp_shareable_list_room(const mp_shareable_list *list, size_t index)
{
    return list && index < list->n ? mp_list_room(list, index) : 0;
}
