/* SPDX-License-Identifier: MIT */
#ifndef MP_SHAREABLE_LIST_H
#define MP_SHAREABLE_LIST_H

/*
 * ShareableList of Python's multiprocessing.shared_memory: a list of a fixed length in named shared
 * memory, whose items may be changed and may change their type.
 *
 *     const struct mp_list_item items[] = {mp_list_item_string("howdy"), mp_list_item_integer(42)};
 *     mp_shareable_list_create("settings", items, 2, &list);
 *
 *     settings = ShareableList(name="settings")             the same list, in Python
 *     settings[1] = 43
 *
 *     mp_shareable_list_get(list, 1, NULL, 0, &item);       item.integer is 43
 *
 * Strings are UTF-8. Each string or bytes item has room for what it was made with and 1 to 8 bytes
 * more, each other item has room for 8 bytes; this stays so for the life of the list. Zero bytes at
 * the end of a string or of bytes can not be told from that room: whoever reads, here and in
 * Python, is given the item without them. (Python reserves the room of a string by its characters,
 * and cuts one that takes more bytes. Such an item, where the cut went through a character, gives
 * -EPROTO here and a UnicodeDecodeError there.)
 *
 * Of what lies in the segment nothing is believed. Number, offsets and room of the items are
 * checked when the list is opened, and kept in the handle; format and value of an item are copied
 * out each time, and checked then.
 *
 * A process that is killed while it changes an item leaves the old value, None, or the new one.
 *
 * What the segment's name means, and who takes it away, stands in mp/shared_memory.h; so does who
 * may call what from where. No function here faults where somebody truncated the segment: -ESTALE.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <mp/shared_memory.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

typedef struct mp_shareable_list mp_shareable_list;

/** What an item can be. */
enum {
    MP_LIST_ITEM_NONE = 0,    /* None */
    MP_LIST_ITEM_BOOL = 1,    /* integer is 0 or 1 */
    MP_LIST_ITEM_INTEGER = 2, /* int of 64 bits, in integer */
    MP_LIST_ITEM_DOUBLE = 3,  /* float, in real */
    MP_LIST_ITEM_STRING = 4,  /* str: size bytes of UTF-8 at data */
    MP_LIST_ITEM_BYTES = 5,   /* bytes: size bytes at data */
};

/** An item on its way into a list or out of it. Fields that its type does not use are ignored going
 * in, and zero coming out. */
struct mp_list_item {
    uint32_t type;    /* MP_LIST_ITEM_* */
    size_t size;      /* bytes at data */
    const void *data; /* may be NULL when size is 0 */
    int64_t integer;
    double real;
};

/** Longest string or bytes item, in bytes. */
#define MP_LIST_ITEM_SIZE_MAX 9999991

static inline struct mp_list_item mp_list_item_none(void)
{
    struct mp_list_item item = {MP_LIST_ITEM_NONE, 0, NULL, 0, 0.0};
    return item;
}

static inline struct mp_list_item mp_list_item_bool(bool value)
{
    struct mp_list_item item = {MP_LIST_ITEM_BOOL, 0, NULL, value ? 1 : 0, 0.0};
    return item;
}

static inline struct mp_list_item mp_list_item_integer(int64_t value)
{
    struct mp_list_item item = {MP_LIST_ITEM_INTEGER, 0, NULL, value, 0.0};
    return item;
}

static inline struct mp_list_item mp_list_item_double(double value)
{
    struct mp_list_item item = {MP_LIST_ITEM_DOUBLE, 0, NULL, 0, value};
    return item;
}

/** Borrows the string, which must not be NULL. */
static inline struct mp_list_item mp_list_item_string(const char *value)
{
    struct mp_list_item item = {MP_LIST_ITEM_STRING, strlen(value), value, 0, 0.0};
    return item;
}

/** Borrows the bytes. */
static inline struct mp_list_item mp_list_item_bytes(const void *data, size_t size)
{
    struct mp_list_item item = {MP_LIST_ITEM_BYTES, size, data, 0, 0.0};
    return item;
}

/**
 * mp_shareable_list_create() - make a list in a new segment: ShareableList(items, name=name).
 * @name: as mp_shared_memory_create(); NULL makes one up
 * @items: copied
 * @n: 0 to what fits in SSIZE_MAX bytes
 * @ret_list: a handle, to be closed with mp_shareable_list_close()
 *
 * The name appears when the list is complete (see mp_shared_memory_create()).
 *
 * Return: 0; -EINVAL (a type that is none, a string that is not UTF-8, a NULL with a size),
 * -EMSGSIZE (an item is longer than MP_LIST_ITEM_SIZE_MAX), and as mp_shared_memory_create().
 */
int mp_shareable_list_create(const char *name, const struct mp_list_item *items, size_t n,
                             mp_shareable_list **ret_list);

/**
 * mp_shareable_list_open() - open a list by the name of its segment: ShareableList(name=name).
 * @ret_list: a handle, to be closed with mp_shareable_list_close()
 *
 * One that Python is just about to make may be found empty (-EAGAIN), or with no items.
 *
 * Return: 0; -EPROTO (not a list, or a spoilt one); as mp_shared_memory_open(); -ESTALE (truncated
 * meanwhile).
 */
int mp_shareable_list_open(const char *name, mp_shareable_list **ret_list);

/**
 * mp_shareable_list_create_in() - make a list in a segment that is there, over what it holds.
 * @memory: borrowed: close it after the list
 *
 * Others must not use the segment as a list meanwhile.
 *
 * Return: 0; -EINVAL, -EMSGSIZE (an item, or the list for the segment), -ENOMEM, -ESTALE, -ENOSPC,
 * -EFBIG. After the last two the segment may be half written.
 */
int mp_shareable_list_create_in(mp_shared_memory *memory, const struct mp_list_item *items,
                                size_t n, mp_shareable_list **ret_list);

/** mp_shareable_list_open_in() - the list in a segment that is open. @memory is borrowed: close it
 * after the list. Return: 0; -EINVAL, -EPROTO, -ESTALE, -ENOMEM. */
int mp_shareable_list_open_in(mp_shared_memory *memory, mp_shareable_list **ret_list);

/** mp_shareable_list_close() - drop the handle, and that of its segment unless it was borrowed; the
 * list stays until its segment is unlinked. NULL is fine. Return: NULL. */
mp_shareable_list *mp_shareable_list_close(mp_shareable_list *list);

/** mp_shareable_list_memory() - its segment: ShareableList.shm, to ask for its name or to unlink
 * it. Return: a handle that lives as long as the list's; NULL for NULL. */
mp_shared_memory *mp_shareable_list_memory(const mp_shareable_list *list);

/** mp_shareable_list_length() - how many items it has: len(list). Return: the number; 0 for NULL.
 */
size_t mp_shareable_list_length(const mp_shareable_list *list);

/** mp_shareable_list_room() - the bytes that an item has room for; a buffer of one more is large
 * enough for whatever mp_shareable_list_get() finds there. Return: at least 8; 0 for NULL or an
 * index beyond the end. */
size_t mp_shareable_list_room(const mp_shareable_list *list, size_t index);

/**
 * mp_shareable_list_get() - read an item: list[index].
 * @index: 0 to length - 1
 * @buffer: a string or bytes are copied to it, and the item's data points there; a string is
 * followed by a NUL, and may have others inside. May be NULL when @capacity is 0. What it holds
 * after an error, and beyond the item, is not said.
 * @capacity: of buffer, in bytes
 *
 * Return: 0; -EINVAL, -ERANGE (IndexError), -EMSGSIZE (it is longer than capacity; a string needs
 * one byte more), -EPROTO (it makes no sense: not UTF-8, or overwritten, or just being changed by
 * somebody else), -ESTALE (the segment was truncated).
 */
int mp_shareable_list_get(const mp_shareable_list *list, size_t index, void *buffer,
                          size_t capacity, struct mp_list_item *ret_item);

/**
 * mp_shareable_list_set() - change an item: list[index] = item.
 * @item: of any type; a string or bytes must fit the room that is there, whatever type it had
 *
 * A number or bool that replaces one of its own type does so in one write; any other change is made
 * by way of None.
 *
 * Return: 0; -EINVAL (a type that is none, a string that is not UTF-8, a NULL with a size), -ERANGE
 * (IndexError), -EMSGSIZE (ValueError: exceeds the room), -ESTALE, -ENOSPC, -EFBIG, -ENOMEM. After
 * the last four the item may be None.
 */
int mp_shareable_list_set(mp_shareable_list *list, size_t index, const struct mp_list_item *item);

/**
 * mp_shareable_list_count() - how many items equal this one: list.count(item).
 *
 * Equal is as Python's ==: numbers and bools by their value, so 1, 1.0 and True are equal, and a
 * NaN equals nothing; strings only strings and bytes only bytes.
 *
 * Return: 0; -EINVAL (as mp_shareable_list_set()), -EPROTO (an item makes no sense), -ESTALE,
 * -ENOMEM.
 */
int mp_shareable_list_count(const mp_shareable_list *list, const struct mp_list_item *item,
                            size_t *ret_count);

/** mp_shareable_list_index() - the first item that equals this one: list.index(item). Return: 0;
 * -ENOENT (ValueError: there is none); as mp_shareable_list_count(). */
int mp_shareable_list_index(const mp_shareable_list *list, const struct mp_list_item *item,
                            size_t *ret_index);

static inline void mp_shareable_list_closep(mp_shareable_list **list)
{
    if (*list)
        mp_shareable_list_close(*list);
}

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
