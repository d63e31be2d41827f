/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <mp/shareable_list.h>

/* How an item stands in a list: its format as Python's struct module writes it, what becomes of the
 * bytes after unpacking, and the bytes that they are at most. */
struct mp_list_item_form {
    char format[8];
    int8_t transform;
};

enum {
    MP_TRANSFORM_AS_IS = 0,
    MP_TRANSFORM_STRING = 1,
    MP_TRANSFORM_BYTES = 2,
    MP_TRANSFORM_NONE = 3,
};

/* The room of items that are neither string nor bytes, and what that of all is a multiple of. */
#define MP_LIST_ITEM_UNIT 8u

/* The most that the eight characters of a format can tell. */
#define MP_LIST_ITEM_ROOM_MAX 9999992u

/* Is this an item that a list can hold? 0; -EINVAL, -EMSGSIZE (it needs more room). */
int mp_list_item_check(const struct mp_list_item *item, size_t room);

/* The room that an item is given in a new list. */
size_t mp_list_item_room(const struct mp_list_item *item);

/* The form of an item that has so much room, which mp_list_item_check() found enough. */
struct mp_list_item_form mp_list_item_form(const struct mp_list_item *item, size_t room);

/* The eight bytes of an item that is neither string nor bytes. */
void mp_list_item_pack(const struct mp_list_item *item, char ret_value[MP_LIST_ITEM_UNIT]);

/* What a form says: the type, and how many bytes of the room are the value. 0, or -EPROTO. */
int mp_list_item_read_form(const struct mp_list_item_form *form, size_t room, uint32_t *ret_type,
                           size_t *ret_size);

/* The other way from mp_list_item_pack(). */
struct mp_list_item mp_list_item_unpack(uint32_t type, const char value[MP_LIST_ITEM_UNIT]);

/* Equal, as Python's == says. */
bool mp_list_item_equal(const struct mp_list_item *a, const struct mp_list_item *b);

/* Is this UTF-8 that Python decodes: no overlong forms, no surrogates, up to U+10FFFF? */
bool mp_utf8_is_valid(const void *data, size_t size);
