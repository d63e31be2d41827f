/* SPDX-License-Identifier: MIT */
/*
 * Items of a ShareableList, as bytes.
 *
 *   type     format        transform   the bytes
 *   None     "xxxxxx?x"    3           nothing counts
 *   bool     "xxxxxxx?"    0           the eighth is not zero
 *   int      "q"           0           int64_t
 *   float    "d"           0           double
 *   str      "%ds"         1           UTF-8, zeros to the end of its room
 *   bytes    "%ds"         2           the bytes, zeros to the end of their room
 *
 * A format is padded with zeros to eight bytes. All is in the byte order of the machine. Transform
 * 3 is None whatever the format says: that is what a change of type goes by (list_access.c).
 * Nothing else may disagree: a number with the transform of a string is no item.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/macro.h"
#include "shared/list_item.h"

static bool has_data(uint32_t type)
{
    return type == MP_LIST_ITEM_STRING || type == MP_LIST_ITEM_BYTES;
}

int mp_list_item_check(const struct mp_list_item *item, size_t room)
{
    if (item->type > MP_LIST_ITEM_BYTES)
        return -EINVAL;
    if (!has_data(item->type))
        return 0;
    if (!item->data && item->size > 0)
        return -EINVAL;
    if (item->size > room)
        return -EMSGSIZE;
    if (item->type == MP_LIST_ITEM_STRING && !mp_utf8_is_valid(item->data, item->size))
        return -EINVAL;
    return 0;
}

size_t mp_list_item_room(const struct mp_list_item *item)
{
    return has_data(item->type) ? (item->size / MP_LIST_ITEM_UNIT + 1) * MP_LIST_ITEM_UNIT
                                : MP_LIST_ITEM_UNIT;
}

struct mp_list_item_form mp_list_item_form(const struct mp_list_item *item, size_t room)
{
    static const struct mp_list_item_form plain[] = {
        [MP_LIST_ITEM_NONE] = {"xxxxxx?x", MP_TRANSFORM_NONE},
        [MP_LIST_ITEM_BOOL] = {"xxxxxxx?", MP_TRANSFORM_AS_IS},
        [MP_LIST_ITEM_INTEGER] = {"q", MP_TRANSFORM_AS_IS},
        [MP_LIST_ITEM_DOUBLE] = {"d", MP_TRANSFORM_AS_IS},
    };
    struct mp_list_item_form form = {
        .transform = item->type == MP_LIST_ITEM_STRING ? MP_TRANSFORM_STRING : MP_TRANSFORM_BYTES};
    char digits[16] = {0};

    if (!has_data(item->type))
        return plain[item->type];
    snprintf(digits, sizeof digits, "%us", (unsigned)mp_min(room, (size_t)MP_LIST_ITEM_ROOM_MAX));
    memcpy(form.format, digits, sizeof form.format);
    return form;
}

void mp_list_item_pack(const struct mp_list_item *item, char ret_value[MP_LIST_ITEM_UNIT])
{
    memset(ret_value, 0, MP_LIST_ITEM_UNIT);
    if (item->type == MP_LIST_ITEM_BOOL)
        ret_value[7] = item->integer != 0;
    else if (item->type == MP_LIST_ITEM_INTEGER)
        memcpy(ret_value, &item->integer, sizeof item->integer);
    else if (item->type == MP_LIST_ITEM_DOUBLE)
        memcpy(ret_value, &item->real, sizeof item->real);
}

struct mp_list_item mp_list_item_unpack(uint32_t type, const char value[MP_LIST_ITEM_UNIT])
{
    struct mp_list_item item = {.type = type};

    if (type == MP_LIST_ITEM_BOOL)
        item.integer = value[7] != 0;
    else if (type == MP_LIST_ITEM_INTEGER)
        memcpy(&item.integer, value, sizeof item.integer);
    else if (type == MP_LIST_ITEM_DOUBLE)
        memcpy(&item.real, value, sizeof item.real);
    return item;
}

/* The number in "%ds", one to seven digits and zeros behind it; 0: it is something else. */
static size_t string_size(const char format[8])
{
    size_t size = 0;
    int i = 0;

    for (; i < 7 && format[i] >= '0' && format[i] <= '9'; i++)
        size = size * 10 + (size_t)(format[i] - '0');
    if (format[i++] != 's')
        return 0;
    for (; i < 8; i++)
        if (format[i] != '\0')
            return 0;
    return size;
}

/* The type of a format, bytes for both that have data; MP_LIST_ITEM_BYTES + 1: none. */
static uint32_t type_of(const struct mp_list_item_form *form, size_t room, size_t *ret_size)
{
    *ret_size = MP_LIST_ITEM_UNIT;
    for (uint32_t type = MP_LIST_ITEM_NONE; type <= MP_LIST_ITEM_DOUBLE; type++) {
        struct mp_list_item_form known = mp_list_item_form(&(struct mp_list_item){.type = type}, 0);

        if (memcmp(form->format, known.format, sizeof known.format) == 0)
            return type;
    }
    *ret_size = string_size(form->format);
    return *ret_size > 0 && *ret_size <= room ? MP_LIST_ITEM_BYTES : MP_LIST_ITEM_BYTES + 1;
}

int mp_list_item_read_form(const struct mp_list_item_form *form, size_t room, uint32_t *ret_type,
                           size_t *ret_size)
{
    size_t size;
    uint32_t type = type_of(form, room, &size);
    bool fits;

    switch (form->transform) {
    case MP_TRANSFORM_AS_IS:
        fits = type >= MP_LIST_ITEM_BOOL && type <= MP_LIST_ITEM_DOUBLE;
        break;
    case MP_TRANSFORM_STRING:
        fits = type == MP_LIST_ITEM_BYTES;
        type = MP_LIST_ITEM_STRING;
        break;
    case MP_TRANSFORM_BYTES:
        fits = type == MP_LIST_ITEM_BYTES;
        break;
    case MP_TRANSFORM_NONE:
        fits = type <= MP_LIST_ITEM_BYTES;
        type = MP_LIST_ITEM_NONE;
        break;
    default:
        fits = false;
    }
    if (!fits)
        return -EPROTO;
    *ret_type = type;
    *ret_size = type == MP_LIST_ITEM_NONE ? MP_LIST_ITEM_UNIT : size;
    return 0;
}

/* Exactly: most of the large integers have no double of their own. */
static bool same_number(int64_t integer, double real)
{
    if (!(real >= -0x1p63 && real < 0x1p63))
        return false;
    return (int64_t)real == integer && (double)(int64_t)real == real;
}

bool mp_list_item_equal(const struct mp_list_item *a, const struct mp_list_item *b)
{
    if (has_data(a->type) || has_data(b->type))
        return a->type == b->type && a->size == b->size &&
               (a->size == 0 || memcmp(a->data, b->data, a->size) == 0);
    if (a->type == MP_LIST_ITEM_NONE || b->type == MP_LIST_ITEM_NONE)
        return a->type == b->type;
    if (a->type == MP_LIST_ITEM_DOUBLE && b->type == MP_LIST_ITEM_DOUBLE)
        return a->real == b->real;
    if (a->type == MP_LIST_ITEM_DOUBLE)
        return same_number(b->integer, a->real);
    if (b->type == MP_LIST_ITEM_DOUBLE)
        return same_number(a->integer, b->real);
    return a->integer == b->integer;
}

bool mp_utf8_is_valid(const void *data, size_t size)
{
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    const unsigned char *p = data;

    for (size_t i = 0; i < size;) {
        unsigned char first = p[i++];
        unsigned more = first < 0x80 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
        uint32_t c = more == 0 ? first : first & (0x3fu >> more);

        if ((first >= 0x80 && first < 0xc2) || first > 0xf4 || more > size - i)
            return false;
        for (unsigned k = 0; k < more; k++, i++) {
            if ((p[i] & 0xc0) != 0x80)
                return false;
            c = c << 6 | (p[i] & 0x3f);
        }
        if (c < least[more] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
            return false;
    }
    return true;
}
