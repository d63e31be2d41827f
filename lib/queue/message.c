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
#include "queue/mpmc.h"
#include "queue/spsc.h"
#include "queue/tasks.h"

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

/* Is it a message, and ours? 0; -EINVAL, -ECHILD. Its block number was written by us then. */
static MP_INLINE int check_message(const struct mp_queue *q, const struct mp_message *m)
{
    if (mp_unlikely(!q || !m || m->owner == 0))
        return -EINVAL;
    return mp_likely(m->owner == mp_load_relaxed(&q->self->life)) ? 0 : -ECHILD;
}

static int loan_stops(const void *queue)
{
    return mp_queue_check(queue, false);
}

static MP_INLINE void open_loan(const struct mp_queue *q, struct mp_message *m, uint32_t class,
                                uint32_t x, size_t size, uint64_t life)
{
    m->data = q->arena->base + mp_geometry_offset(&q->arena->geometry, class, x);
    m->size = size;
    m->deliveries = 0;
    m->block = pack(class, x);
    m->owner = life;
}

static MP_NOINLINE int loan_slow(struct mp_queue *q, size_t size, uint64_t deadline_ns,
                                 struct mp_message *m)
{
    struct mp_arena *a = q->arena;
    uint32_t class = mp_geometry_class(&a->geometry, size);
    struct mp_thread *t;
    uint32_t x;
    int r = 0;

    if (class == a->geometry.n_classes || size > q->message_max)
        return -EMSGSIZE;
    t = mp_thread_get(a, &r);
    if (!t)
        return r;
    r = mp_queue_role(q, false);
    if (r == 0)
        r = mp_queue_check(q, false);
    if (r == 0 && mp_block_take(a, t, class, &x) < 0)
        r = mp_block_wait(a, t, class, deadline_ns, loan_stops, q, &class, &x);
    if (r < 0)
        return r;
    open_loan(q, m, class, x, size, t->life);
    return 0;
}

static MP_INLINE int loan(struct mp_queue *q, size_t size, uint64_t deadline_ns,
                          struct mp_message *m)
{
    struct mp_thread *t = mp_thread_current;
    uint64_t life = mp_load_acquire(&q->self->life);
    struct mp_magazine *magazine;
    uint32_t class;

    if (mp_unlikely(!t || t->life != life || mp_load_relaxed(&q->producer_life) != life ||
                    size > q->message_max || mp_load_relaxed(&q->ring->phase) != q->phase))
        return loan_slow(q, size, deadline_ns, m);
    class = mp_geometry_class(&q->arena->geometry, size); /* there is one up to message_max */
    magazine = &t->magazines[class];
    if (mp_unlikely(magazine->n == 0))
        return loan_slow(q, size, deadline_ns, m);
    open_loan(q, m, class, magazine->blocks[--magazine->n], size, life);
    return 0;
}

static MP_INLINE int commit(struct mp_queue *q, struct mp_message *m, uint64_t deadline_ns)
{
    uint32_t x = block_of(m);
    int r;

    mp_store_relaxed(&q->meta[x], mp_block_meta(m->size, q->meta_queue));
    if (q->spsc) {
        r = mp_likely(mp_spsc_put_fast(q, x)) ? 0 : mp_spsc_put(q, x, deadline_ns);
    } else {
        r = mp_mpmc_put_fast(q, x);
        if (mp_likely(r > 0))
            r = 0;
        else if (r == 0)
            r = mp_mpmc_put(q, x, deadline_ns);
    }
    if (mp_likely(r == 0))
        m->owner = 0;
    return r;
}

static MP_NOINLINE int take_slow(struct mp_queue *q, uint64_t capacity, uint64_t deadline_ns,
                                 struct mp_taken *ret)
{
    int r = mp_queue_role(q, true);

    if (r < 0)
        return r;
    return q->spsc ? mp_spsc_take(q, capacity, deadline_ns, ret)
                   : mp_mpmc_take(q, capacity, deadline_ns, ret);
}

static MP_INLINE int receive(struct mp_queue *q, uint64_t capacity, uint64_t deadline_ns,
                             struct mp_message *m)
{
    struct mp_taken taken;
    int r;

    if (mp_unlikely(mp_load_relaxed(&q->consumer_life) != mp_load_acquire(&q->self->life) ||
                    !(q->spsc ? mp_spsc_take_fast(q, capacity, &taken)
                              : mp_mpmc_take_fast(q, capacity, &taken)))) {
        r = take_slow(q, capacity, deadline_ns, &taken);
        if (r < 0)
            return r;
    }
    m->data = q->arena->base + mp_geometry_offset(&q->arena->geometry, taken.class, taken.block);
    m->size = taken.length;
    m->deliveries = taken.deliveries;
    m->block = pack(taken.class, taken.block);
    m->owner = mp_load_relaxed(&q->self->life);
    return 0;
}

/* Was it taken by this thread, with this handle? */
static MP_INLINE bool is_taker(const struct mp_queue *q, const struct mp_message *m)
{
    return mp_likely(mp_load_relaxed(&q->consumer_life) == m->owner && mp_spsc_is_taker(q));
}

/* The message was checked. `done`: with the task as well, where the queue is joinable. 0; -ENOMEM:
 * this thread can not have a magazine. */
static MP_INLINE int release(struct mp_queue *q, struct mp_message *m, bool done)
{
    uint32_t x = block_of(m);
    struct mp_thread *t;
    int r = 0;

    if (mp_unlikely(!mp_queue_owns(q, x)))
        return -EINVAL; /* received from another queue */
    if (q->spsc && is_taker(q, m) && mp_likely(mp_spsc_release_fast(q, x))) {
        m->owner = 0;
        return 0;
    }
    if (mp_unlikely(mp_queue_is_joinable(q))) {
        r = done ? mp_tasks_end(q, x) : mp_tasks_keep(q, x);
        if (mp_likely(r == 0))
            m->owner = 0;
        return r;
    }
    t = mp_thread_get(q->arena, &r);
    if (mp_unlikely(!t))
        return r;
    if (q->spsc && !is_taker(q, m))
        mp_spsc_publish_aside(q);
    m->owner = 0;
    mp_store_release(&q->words[x], mp_block_owned(q->arena));
    mp_block_give(q->arena, t, class_of(m), x);
    return 0;
}

/* It ended without a message. */
static int nothing_there(struct mp_queue *q, int r)
{
    struct mp_poller *p = atomic_load_explicit(&q->poller, memory_order_acquire);

    /* Whoever polls wants to know of the next message. */
    if (r == -EAGAIN && p && p->life == mp_load_relaxed(&q->self->life))
        mp_keeper_rearm(p);
    /* We were woken for a message that is too long for us: somebody else may want it. */
    if (r == -EMSGSIZE)
        mp_sleep_wake_slow(&q->ring->filled);
    return r;
}

/* ---- zero copy ---- */

int mp_queue_loan(mp_queue *queue, size_t size, uint64_t timeout_ns, struct mp_message *ret_message)
{
    if (mp_unlikely(!queue || !ret_message))
        return -EINVAL;
    return loan(queue, size, mp_deadline(timeout_ns), ret_message);
}

int mp_queue_commit(mp_queue *queue, struct mp_message *message, uint64_t timeout_ns)
{
    int r = check_message(queue, message);

    if (mp_unlikely(r < 0))
        return r;
    if (mp_unlikely(mp_load_relaxed(&queue->producer_life) != message->owner)) {
        r = mp_queue_role(queue, false);
        if (r < 0)
            return r;
    }
    if (mp_unlikely(message->size > (uint64_t)MP_BLOCK_MIN << class_of(message) ||
                    message->size > queue->message_max))
        return -EMSGSIZE;
    if (mp_unlikely(message->deliveries != 0))
        return -EINVAL; /* received, not loaned */
    return commit(queue, message, mp_deadline(timeout_ns));
}

int mp_queue_receive(mp_queue *queue, uint64_t timeout_ns, struct mp_message *ret_message)
{
    int r;

    if (mp_unlikely(!queue || !ret_message))
        return -EINVAL;
    r = receive(queue, UINT64_MAX, mp_deadline(timeout_ns), ret_message);
    return mp_likely(r == 0) ? 0 : nothing_there(queue, r);
}

int mp_queue_release(mp_queue *queue, struct mp_message *message)
{
    int r = check_message(queue, message);

    if (mp_unlikely(r < 0))
        return r;
    if (mp_unlikely(message->deliveries == 0))
        return -EINVAL; /* loaned, not received */
    return release(queue, message, true);
}

int mp_queue_abandon(mp_queue *queue, struct mp_message *message)
{
    struct mp_arena *a;
    struct mp_thread *t;
    uint32_t x;
    int r = check_message(queue, message);

    if (r < 0)
        return r;
    a = queue->arena;
    x = block_of(message);
    if (message->deliveries == 0) {
        t = mp_thread_get(a, &r);
        if (!t)
            return r;
        message->owner = 0;
        mp_block_give(a, t, class_of(message), x);
        return 0;
    }
    /* The consumers of this queue are told, so it must be one of its messages. */
    if (!mp_queue_owns(queue, x))
        return -EINVAL;
    if ((queue->flags & MP_QUEUE_DROP_HELD) || mp_queue_check(queue, true) < 0)
        return release(queue, message, true);
    /* Its position must be published before the block is anybody's. */
    if (queue->spsc && is_taker(queue, message))
        mp_spsc_publish(queue);
    else if (queue->spsc)
        mp_spsc_publish_aside(queue);
    mp_store_release(&a->words[x], mp_block_word(MP_BLOCK_RETURNED, 0, message->deliveries, 0));
    mp_ring_add_returned(queue->ring);
    message->owner = 0;
    mp_sleep_wake_slow(&queue->ring->filled);
    return 0;
}

/* ---- with a copy ---- */

static MP_INLINE int put(struct mp_queue *q, const void *data, size_t size, uint64_t deadline_ns)
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

static MP_INLINE int get(struct mp_queue *q, void *buffer, size_t capacity, uint64_t deadline_ns,
                         size_t *ret_size)
{
    struct mp_message m;
    int r = receive(q, capacity, deadline_ns, &m);

    if (mp_unlikely(r < 0))
        return r;
    if (mp_unlikely(m.size > capacity)) { /* changed between our look and the take: hostile */
        mp_queue_abandon(q, &m);
        return -EMSGSIZE;
    }
    if (m.size)
        memcpy(buffer, m.data, m.size);
    r = release(q, &m, false);
    if (mp_unlikely(r < 0))
        mp_queue_abandon(q, &m);
    else if (ret_size)
        *ret_size = m.size;
    return r;
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

int mp_queue_put_nowait(mp_queue *queue, const void *data, size_t size)
{
    return mp_queue_put(queue, data, size, 0);
}

int mp_queue_get_nowait(mp_queue *queue, void *buffer, size_t capacity, size_t *ret_size)
{
    return mp_queue_get(queue, buffer, capacity, 0, ret_size);
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
