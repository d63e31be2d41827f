/* SPDX-License-Identifier: MIT */
#ifndef MP_WAITABLE_H
#define MP_WAITABLE_H

/*
 * Something that mp_wait() waits for. Each object says what can be waited for in it by a function
 * of its own header that gives one of these: mp_queue_readable(), mp_event_waitable() and so on.
 * It is a small value to be copied freely; it holds nothing, and is good as long as the handle that
 * it was made from. NULL gives one that mp_wait() refuses.
 */

#include <stdint.h>

#include <mp/arena.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mp_waitable_type;

struct mp_waitable {
    /** What mp_wait() says of it: 0 not ready; positive: ready (of a descriptor: its events, as
     * poll(2) gives them); negative errno: it will never be ready, such as -ESTALE. */
    int ready;

    /* private from here on */
    int fd;
    int events;
    uint32_t kind;
    uint32_t index;
    uint64_t value;
    void *object;
    mp_arena *arena;
    void *word;
    const struct mp_waitable_type *type;
};

#ifdef __cplusplus
}
#endif

#endif
