/* SPDX-License-Identifier: MIT */
/*
 * Messages: loan and commit, receive and release, put and get, and batches of each.
 *
 * A message in the caller's hands remembers the participation that it belongs to: in a forked child
 * it is the parent's.
 */

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "queue/queue.h"

/* mp_message.block: {class:8, block:24} */
static uint32_t pack(uint32_t class, uint32_t x)
{
    return class << 24 | x;
}

static uint32_t block_of(const struct mp_message *m)
{
    return m->block & 0xffffff;
}

static uint32_t class_of(const struct mp_message *m)
{
    return m->block >> 24;
}

/* Is it ours, and is it a message at all? 0 and the thread; -EINVAL, -ECHILD. */
static inline int check_message(const struct mp_queue *q, const struct mp_message *m,
                                struct mp_thread **ret)
{
    int r = 0;

    if (mp_unlikely(!q || !m || m->owner == 0 || class_of(m) >= q->arena->geometry.n_classes ||
                    block_of(m) >= q->arena->geometry.blocks))
        return -EINVAL;
    if (mp_unlikely(m->owner != mp_load_relaxed(&q->arena->self->life)))
        return -ECHILD;
    *ret = mp_thread_get(q->arena, &r);
    return mp_likely(*ret) ? 0 : r;
}

static int loan_stops(const void *queue)
{
    return mp_queue_check(queue, false);
}

static inline int loan(struct mp_queue *q, size_t size, uint64_t deadline_ns, struct mp_message *m)
{
    struct mp_arena *a = q->arena;
    uint32_t class = mp_geometry_class(&a->geometry, size);
    struct mp_thread *t;
    uint32_t x;
    int r = 0;

    if (mp_unlikely(class == a->geometry.n_classes || size > q->message_max))
        return -EMSGSIZE;
    t = mp_thread_get(a, &r);
    if (mp_unlikely(!t))
        return r;
    r = mp_queue_role(q, false);
    if (mp_unlikely(r < 0))
        return r;
    r = mp_queue_check(q, false);
    if (mp_unlikely(r < 0))
        return r;
    if (mp_unlikely(mp_block_take(a, t, class, &x) < 0)) {
        r = mp_block_wait(a, t, class, deadline_ns, loan_stops, q, &class, &x);
        if (r < 0)
            return r;
    }
    m->data = mp_arena_block(a, &a->geometry.classes[class], x);
    m->size = size;
    m->deliveries = 0;
    m->block = pack(class, x);
    m->owner = t->life;
    return 0;
}

static inline int commit(struct mp_queue *q, struct mp_message *m, uint64_t deadline_ns)
{
    struct mp_arena *a = q->arena;
    uint32_t x = block_of(m);
    int r;

    mp_store_relaxed(&a->meta[x], mp_block_meta(m->size, q->index));
    r = mp_likely(q->spsc) ? mp_spsc_put(q, x, deadline_ns) : mp_mpmc_put(q, x, deadline_ns);
    if (mp_likely(r == 0))
        m->owner = 0;
    return r;
}

static inline int receive(struct mp_queue *q, uint64_t capacity, uint64_t deadline_ns,
                          struct mp_message *m)
{
    struct mp_arena *a = q->arena;
    struct mp_taken taken;
    struct mp_thread *t;
    uint32_t class;
    int r = 0;

    t = mp_thread_get(a, &r);
    if (mp_unlikely(!t))
        return r;
    r = mp_queue_role(q, true);
    if (mp_unlikely(r < 0))
        return r;
    r = q->spsc ? mp_spsc_take(q, capacity, deadline_ns, &taken)
                : mp_mpmc_take(q, capacity, deadline_ns, &taken);
    if (mp_unlikely(r < 0))
        return r;
    class = mp_geometry_block_class(&a->geometry, taken.block);
    m->data = mp_arena_block(a, &a->geometry.classes[class], taken.block);
    m->size = taken.length;
    m->deliveries = taken.deliveries;
    m->block = pack(class, taken.block);
    m->owner = t->life;
    return 0;
}

static inline void release(struct mp_queue *q, struct mp_thread *t, struct mp_message *m)
{
    uint32_t x = block_of(m);

    m->owner = 0;
    if (q->spsc) {
        mp_spsc_release(q, t, class_of(m), x);
        return;
    }
    mp_store_release(&q->arena->words[x],
                     mp_block_word(MP_BLOCK_OWNED, q->arena->self->slot, 0, 0));
    mp_block_give(q->arena, t, class_of(m), x);
}

/* After a -EAGAIN: whoever polls wants to know of the next message. */
static int nothing_there(struct mp_queue *q, int r)
{
    if (r == -EAGAIN && q->poller && q->poller_life == mp_load_relaxed(&q->arena->self->life))
        mp_keeper_rearm(q->poller);
    return r;
}

/* ---- zero copy ---- */

int mp_queue_loan(mp_queue *queue, size_t size, uint64_t timeout_ns, struct mp_message *ret_message)
{
    struct mp_message m;
    int r;

    if (mp_unlikely(!queue || !ret_message))
        return -EINVAL;
    r = loan(queue, size, mp_deadline(timeout_ns), &m);
    if (mp_likely(r == 0))
        *ret_message = m;
    return r;
}

int mp_queue_commit(mp_queue *queue, struct mp_message *message, uint64_t timeout_ns)
{
    struct mp_thread *t;
    int r = check_message(queue, message, &t);

    if (mp_unlikely(r < 0))
        return r;
    r = mp_queue_role(queue, false);
    if (mp_unlikely(r < 0))
        return r;
    if (mp_unlikely(message->size > queue->arena->geometry.classes[class_of(message)].block_size ||
                    message->size > queue->message_max))
        return -EMSGSIZE;
    if (mp_unlikely(message->deliveries != 0))
        return -EINVAL; /* received, not loaned */
    return commit(queue, message, mp_deadline(timeout_ns));
}

int mp_queue_receive(mp_queue *queue, uint64_t timeout_ns, struct mp_message *ret_message)
{
    struct mp_message m;
    int r;

    if (mp_unlikely(!queue || !ret_message))
        return -EINVAL;
    r = receive(queue, UINT64_MAX, mp_deadline(timeout_ns), &m);
    if (mp_unlikely(r < 0))
        return nothing_there(queue, r);
    *ret_message = m;
    return 0;
}

int mp_queue_release(mp_queue *queue, struct mp_message *message)
{
    struct mp_thread *t;
    int r = check_message(queue, message, &t);

    if (mp_unlikely(r < 0))
        return r;
    if (mp_unlikely(message->deliveries == 0))
        return -EINVAL; /* loaned, not received */
    release(queue, t, message);
    return 0;
}

int mp_queue_abandon(mp_queue *queue, struct mp_message *message)
{
    struct mp_arena *a;
    struct mp_thread *t;
    uint32_t x;
    int r = check_message(queue, message, &t);

    if (r < 0)
        return r;
    a = queue->arena;
    x = block_of(message);
    if (message->deliveries == 0) {
        message->owner = 0;
        mp_block_give(a, t, class_of(message), x);
        return 0;
    }
    if ((queue->flags & MP_QUEUE_DROP_HELD) || mp_queue_check(queue, true) < 0) {
        release(queue, t, message);
        return 0;
    }
    /* Its position must be published before the block is anybody's. */
    if (queue->spsc && mp_load_relaxed(&queue->consumer_life) == t->life)
        mp_spsc_publish(queue, t);
    mp_store_release(&a->words[x], mp_block_word(MP_BLOCK_RETURNED, 0, message->deliveries, 0));
    atomic_fetch_add(&queue->ring->returned, 1);
    message->owner = 0;
    mp_sleep_wake_slow(&queue->ring->filled);
    return 0;
}

/* ---- with a copy ---- */

static inline int put(struct mp_queue *q, const void *data, size_t size, uint64_t deadline_ns)
{
    struct mp_message m;
    int r = loan(q, size, deadline_ns, &m);

    if (mp_unlikely(r < 0))
        return r;
    if (size)
        memcpy(m.data, data, size);
    r = commit(q, &m, deadline_ns);
    if (mp_unlikely(r < 0))
        mp_queue_abandon(q, &m);
    return r;
}

int mp_queue_put(mp_queue *queue, const void *data, size_t size, uint64_t timeout_ns)
{
    if (mp_unlikely(!queue || (!data && size)))
        return -EINVAL;
    return put(queue, data, size, mp_deadline(timeout_ns));
}

static inline int get(struct mp_queue *q, void *buffer, size_t capacity, uint64_t deadline_ns,
                      size_t *ret_size)
{
    struct mp_message m;
    struct mp_thread *t;
    int r = receive(q, capacity, deadline_ns, &m);

    if (mp_unlikely(r < 0))
        return r;
    if (mp_unlikely(m.size >
                    capacity)) { /* its length was changed between our look and the take: hostile */
        mp_queue_abandon(q, &m);
        return -EMSGSIZE;
    }
    if (m.size)
        memcpy(buffer, m.data, m.size);
    if (ret_size)
        *ret_size = m.size;
    t = mp_thread_current; /* receive() has seen to it */
    release(q, t, &m);
    return 0;
}

int mp_queue_get(mp_queue *queue, void *buffer, size_t capacity, uint64_t timeout_ns,
                 size_t *ret_size)
{
    int r;

    if (mp_unlikely(!queue || (!buffer && capacity)))
        return -EINVAL;
    r = get(queue, buffer, capacity, mp_deadline(timeout_ns), ret_size);
    return mp_likely(r == 0) ? 0 : nothing_there(queue, r);
}

/* ---- batches: only the first waits ---- */

int mp_queue_put_batch(mp_queue *queue, const void *data, size_t size, uint32_t n,
                       uint64_t timeout_ns)
{
    uint64_t deadline = mp_deadline(timeout_ns);
    uint32_t done = 0;

    if (!queue || (!data && size) || n == 0 || n > INT32_MAX || (size && n > SIZE_MAX / size))
        return -EINVAL;
    while (done < n) {
        int r = put(queue, (const char *)data + done * size, size, done ? 0 : deadline);

        if (r < 0)
            return done ? (int)done : r;
        done++;
    }
    return (int)done;
}

int mp_queue_get_batch(mp_queue *queue, void *buffer, size_t stride, size_t *ret_sizes, uint32_t n,
                       uint64_t timeout_ns)
{
    uint64_t deadline = mp_deadline(timeout_ns);
    uint32_t done = 0;

    if (!queue || (!buffer && stride) || n == 0 || n > INT32_MAX ||
        (stride && n > SIZE_MAX / stride))
        return -EINVAL;
    while (done < n) {
        int r = get(queue, (char *)buffer + done * stride, stride, done ? 0 : deadline,
                    ret_sizes ? &ret_sizes[done] : NULL);

        if (r < 0)
            return done ? (int)done : nothing_there(queue, r);
        done++;
    }
    return (int)done;
}

int mp_queue_loan_batch(mp_queue *queue, size_t size, uint32_t n, uint64_t timeout_ns,
                        struct mp_message *ret_messages)
{
    uint64_t deadline = mp_deadline(timeout_ns);
    uint32_t done = 0;

    if (!queue || !ret_messages || n == 0 || n > INT32_MAX)
        return -EINVAL;
    while (done < n) {
        int r = loan(queue, size, done ? 0 : deadline, &ret_messages[done]);

        if (r < 0)
            return done ? (int)done : r;
        done++;
    }
    return (int)done;
}

int mp_queue_commit_batch(mp_queue *queue, struct mp_message *messages, uint32_t n,
                          uint64_t timeout_ns)
{
    uint32_t done = 0;

    if (!queue || !messages || n == 0 || n > INT32_MAX)
        return -EINVAL;
    while (done < n) {
        int r = mp_queue_commit(queue, &messages[done], done ? 0 : timeout_ns);

        if (r < 0)
            return done ? (int)done : r;
        done++;
    }
    return (int)done;
}

int mp_queue_receive_batch(mp_queue *queue, uint32_t n, uint64_t timeout_ns,
                           struct mp_message *ret_messages)
{
    uint64_t deadline = mp_deadline(timeout_ns);
    uint32_t done = 0;

    if (!queue || !ret_messages || n == 0 || n > INT32_MAX)
        return -EINVAL;
    while (done < n) {
        int r = receive(queue, UINT64_MAX, done ? 0 : deadline, &ret_messages[done]);

        if (r < 0)
            return done ? (int)done : nothing_there(queue, r);
        done++;
    }
    return (int)done;
}

int mp_queue_release_batch(mp_queue *queue, struct mp_message *messages, uint32_t n)
{
    int r = 0;

    if (!queue || !messages)
        return -EINVAL;
    for (uint32_t i = 0; i < n; i++) {
        int q = mp_queue_release(queue, &messages[i]);

        if (q < 0 && r == 0)
            r = q;
    }
    return r;
}
