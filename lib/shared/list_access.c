/* SPDX-License-Identifier: MIT */
/*
 * Items of a ShareableList, read and changed in place.
 *
 * An item is three things (format, value, transform) and no lock is in the layout. A change is made
 * in this order, of which any beginning is an item that Python can read as well:
 *
 *   write                what a reader finds, and what a crash after it leaves
 *   transform := None    None, whatever format and value say
 *   format, value        None
 *   transform := new     the new item
 *
 * A number that replaces one of its own type is one write of 8 bytes. A reader beside it may still
 * meet an old format and a new value: then it gets a wrong value or -EPROTO, as Python gets, but
 * never one that was not checked.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "shared/shareable_list.h"

#define CHUNK 256u

static bool has_data(uint32_t type)
{
    return type == MP_LIST_ITEM_STRING || type == MP_LIST_ITEM_BYTES;
}

/* Copied out, and not checked yet. */
static int read_form(const mp_shareable_list *l, size_t i, struct mp_list_item_form *ret_form)
{
    struct mp_list_item_form form;
    int r;

    r = mp_shared_memory_read(l->memory, l->formats + i * 8, form.format, sizeof form.format);
    if (r < 0)
        return r;
    r = mp_shared_memory_read(l->memory, l->codes + i, &form.transform, sizeof form.transform);
    if (r < 0)
        return r;
    *ret_form = form;
    return 0;
}

/* 1: size bytes of the segment are zero; 0; a negative errno. */
static int are_zero(const mp_shareable_list *l, size_t at, size_t size)
{
    while (size > 0) {
        char some[CHUNK];
        size_t n = mp_min(size, sizeof some);
        int r = mp_shared_memory_read(l->memory, at, some, n);

        if (r < 0)
            return r;
        for (size_t i = 0; i < n; i++)
            if (some[i] != '\0')
                return 0;
        at += n;
        size -= n;
    }
    return 1;
}

static int get_data(const mp_shareable_list *l, size_t at, size_t size, uint32_t type, char *buffer,
                    size_t capacity, struct mp_list_item *ret_item)
{
    size_t n = mp_min(size, capacity);
    int r;

    r = mp_shared_memory_read(l->memory, at, buffer, n);
    if (r < 0)
        return r;
    r = are_zero(l, at + n, size - n);
    if (r < 0)
        return r;
    if (r == 0)
        return -EMSGSIZE;
    while (n > 0 && buffer[n - 1] == '\0')
        n--;
    if (type == MP_LIST_ITEM_STRING) {
        if (n == capacity)
            return -EMSGSIZE;
        if (!mp_utf8_is_valid(buffer, n))
            return -EPROTO;
        buffer[n] = '\0';
    }
    *ret_item = (struct mp_list_item){.type = type, .size = n, .data = buffer};
    return 0;
}

int mp_shareable_list_get(const mp_shareable_list *list, size_t index, void *buffer,
                          size_t capacity, struct mp_list_item *ret_item)
{
    struct mp_list_item_form form;
    char value[MP_LIST_ITEM_UNIT];
    uint32_t type;
    size_t at, size;
    int r;

    if (!list || (!buffer && capacity > 0) || !ret_item)
        return -EINVAL;
    if (index >= list->n)
        return -ERANGE;
    r = read_form(list, index, &form);
    if (r < 0)
        return r;
    r = mp_list_item_read_form(&form, mp_list_room(list, index), &type, &size);
    if (r < 0)
        return r;
    at = list->data + list->offset[index];
    if (has_data(type))
        return get_data(list, at, size, type, buffer, capacity, ret_item);
    r = mp_shared_memory_read(list->memory, at, value, sizeof value);
    if (r < 0)
        return r;
    *ret_item = mp_list_item_unpack(type, value);
    return 0;
}

static int write_code(mp_shareable_list *l, size_t i, int8_t code)
{
    return mp_shared_memory_write(l->memory, l->codes + i, &code, sizeof code);
}

/* The bytes of an item and zeros to the end of its room. */
static int write_value(mp_shareable_list *l, size_t i, const struct mp_list_item *item)
{
    _cleanup_free_ char *large = NULL;
    char small[MP_LIST_ITEM_UNIT], *value = small;
    size_t size = sizeof small;

    if (has_data(item->type)) {
        size = mp_list_room(l, i);
        value = large = calloc(1, size);
        if (!large)
            return -ENOMEM;
        if (item->size > 0)
            memcpy(large, item->data, item->size);
    } else {
        mp_list_item_pack(item, small);
    }
    return mp_shared_memory_write(l->memory, l->data + l->offset[i], value, size);
}

static bool is_same_number(const struct mp_list_item_form *a, const struct mp_list_item_form *b)
{
    return a->transform == MP_TRANSFORM_AS_IS && b->transform == MP_TRANSFORM_AS_IS &&
           memcmp(a->format, b->format, sizeof a->format) == 0;
}

int mp_shareable_list_set(mp_shareable_list *list, size_t index, const struct mp_list_item *item)
{
    struct mp_list_item_form before, after;
    int r;

    if (!list || !item)
        return -EINVAL;
    if (index >= list->n)
        return -ERANGE;
    r = mp_list_item_check(item, mp_list_room(list, index));
    if (r < 0)
        return r;
    r = read_form(list, index, &before);
    if (r < 0)
        return r;
    after = mp_list_item_form(item, mp_list_room(list, index));
    if (is_same_number(&before, &after))
        return write_value(list, index, item);
    r = write_code(list, index, MP_TRANSFORM_NONE);
    if (r < 0)
        return r;
    r = mp_shared_memory_write(list->memory, list->formats + index * 8, after.format,
                               sizeof after.format);
    if (r < 0)
        return r;
    r = write_value(list, index, item);
    if (r < 0 || after.transform == MP_TRANSFORM_NONE)
        return r;
    return write_code(list, index, after.transform);
}

/* Counts the items that equal this one, or goes to the first of them. */
static int search(const mp_shareable_list *l, const struct mp_list_item *item, bool first,
                  size_t *ret_count, size_t *ret_index)
{
    _cleanup_free_ char *buffer = NULL;
    struct mp_list_item wanted, found;
    size_t most = 0, count = 0;
    int r;

    if (!l || !item)
        return -EINVAL;
    r = mp_list_item_check(item, SIZE_MAX);
    if (r < 0)
        return r;
    wanted = *item;
    if (wanted.type == MP_LIST_ITEM_BOOL)
        wanted.integer = wanted.integer != 0;
    for (size_t i = 0; i < l->n; i++)
        most = mp_max(most, mp_list_room(l, i));
    buffer = malloc(most + 1);
    if (!buffer)
        return -ENOMEM;
    for (size_t i = 0; i < l->n; i++) {
        r = mp_shareable_list_get(l, i, buffer, most + 1, &found);
        if (r < 0)
            return r;
        if (!mp_list_item_equal(&wanted, &found))
            continue;
        count++;
        *ret_index = i;
        if (first)
            break;
    }
    *ret_count = count;
    return 0;
}

int mp_shareable_list_count(const mp_shareable_list *list, const struct mp_list_item *item,
                            size_t *ret_count)
{
    size_t count, index;
    int r;

    if (!ret_count)
        return -EINVAL;
    r = search(list, item, false, &count, &index);
    if (r < 0)
        return r;
    *ret_count = count;
    return 0;
}

int mp_shareable_list_index(const mp_shareable_list *list, const struct mp_list_item *item,
                            size_t *ret_index)
{
    size_t count, index;
    int r;

    if (!ret_index)
        return -EINVAL;
    r = search(list, item, true, &count, &index);
    if (r < 0)
        return r;
    if (count == 0)
        return -ENOENT;
    *ret_index = index;
    return 0;
}
