/* SPDX-License-Identifier: MIT */
/*
 * Joinable queues: which tasks are not done, and waiting until none is left.
 *
 * Nothing counts them: a count beside the words would be wrong whenever somebody dies between the
 * two. A message that was committed *is* the record of a task that is not done, wherever it is:
 *
 *   where the task is     where it goes, by which atomic          a crash leaves   the sweep
 *   cell FULL(l, x)       TAKEN(C): take, CAS                     FULL
 *   cell TAKEN(C, l, x)   word of x LEASED(C), then cell EMPTY    TAKEN(D)         the same
 *   word LEASED(C)        OWNED(C), release: it is done           LEASED(D)        RETURNED, or
 *                                                                                  dropped: done
 *   word RETURNED         LEASED(C): take, CAS                    LEASED(D)        the same
 *
 * So a message stays LEASED until its consumer is done: where it was received, until it is
 * released; where it was copied out, until task_done. Which those are is in a list of the process's
 * own: when it dies, the list goes, and the words give all of it back.
 *
 * Is none left? One look at all cells and all words does not tell: a task may put another one into
 * a cell that was looked at already, and end before its word is looked at. Therefore: all cells,
 * then all words, then all cells once more. If each was EMPTY both times, in the same lap, then
 * nothing was put and nothing taken between the two looks; so in between tasks could only end, each
 * word that said nothing of a task went on to say nothing, and at the second look none was left.
 *
 * Who ends a task, and finds somebody waiting, wakes them, unless it sees another task of this
 * queue: who ends that one comes here as well. Those who wait remember one task and look at it
 * first, so that a wake in vain costs little. All other ways for a task to end (dropped by the
 * sweep, by a shutdown, taken back by a producer that was late) wake them, too.
 */

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mutation.h"
#include "queue/tasks.h"

#define TRIES_MOST 1000u
#define TASKS_FIRST 16u

/* ---- what this process got and is not done with ---- */

struct task {
    uint32_t block;
    uint32_t tid; /* of the thread that got it */
};

struct mp_tasks {
    struct mp_tasks *former; /* of earlier participations, like that of the parent before a fork:
                                perhaps locked there, so never touched again before the end */
    uint64_t life;
    pthread_mutex_t mutex;
    uint32_t first, end, room;
    struct task *tasks; /* from first to end, oldest first */
};

static void free_tasks(struct mp_tasks *t)
{
    free(t->tasks);
    free(t);
}

static struct mp_tasks *find_tasks(struct mp_queue *q)
{
    struct mp_tasks *t = atomic_load_explicit(&q->tasks, memory_order_acquire);

    return t && t->life == mp_load_acquire(&q->self->life) ? t : NULL;
}

static struct mp_tasks *make_tasks(struct mp_queue *q)
{
    struct mp_tasks *former = atomic_load_explicit(&q->tasks, memory_order_acquire);
    struct mp_tasks *t = find_tasks(q);

    if (mp_likely(t))
        return t;
    t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->life = mp_load_acquire(&q->self->life);
    t->former = former;
    pthread_mutex_init(&t->mutex, NULL);
    if (atomic_compare_exchange_strong(&q->tasks, &former, t))
        return t;
    free_tasks(t); /* another thread was first */
    return former;
}

/* Room for one more. */
static bool make_room(struct mp_tasks *t)
{
    uint32_t n = t->end - t->first;
    uint32_t room = t->room ? t->room * 2 : TASKS_FIRST;
    struct task *tasks;

    if (mp_likely(t->end < t->room))
        return true;
    if (t->first >= t->room / 2 && t->first > 0) {
        memmove(t->tasks, t->tasks + t->first, n * sizeof t->tasks[0]);
    } else {
        tasks = reallocarray(t->tasks, room, sizeof tasks[0]);
        if (!tasks)
            return false;
        memmove(tasks, tasks + t->first, n * sizeof tasks[0]);
        t->tasks = tasks;
        t->room = room;
    }
    t->first = 0;
    t->end = n;
    return true;
}

int mp_tasks_keep(struct mp_queue *q, uint32_t x)
{
    struct mp_tasks *t;
    bool kept;

    if (mp_mutation(GET_IS_DONE))
        return mp_tasks_end(q, x);
    t = make_tasks(q);
    if (!t)
        return -ENOMEM;
    pthread_mutex_lock(&t->mutex);
    kept = make_room(t);
    if (kept)
        t->tasks[t->end++] = (struct task){.block = x, .tid = mp_thread_id(q->arena)};
    pthread_mutex_unlock(&t->mutex);
    return kept ? 0 : -ENOMEM;
}

/* The oldest that this thread got; where it has none, the oldest of the process. */
static bool take_task(struct mp_tasks *t, uint32_t tid, uint32_t *ret_block)
{
    bool any;

    pthread_mutex_lock(&t->mutex);
    any = t->first < t->end;
    if (any) {
        uint32_t i = t->first;

        while (i < t->end && t->tasks[i].tid != tid)
            i++;
        if (i == t->end)
            i = t->first;
        *ret_block = t->tasks[i].block;
        memmove(t->tasks + t->first + 1, t->tasks + t->first, (i - t->first) * sizeof t->tasks[0]);
        t->first++;
    }
    pthread_mutex_unlock(&t->mutex);
    return any;
}

static bool has_tasks(struct mp_queue *q)
{
    struct mp_tasks *t = find_tasks(q);
    bool any;

    if (!t)
        return false;
    pthread_mutex_lock(&t->mutex);
    any = t->first < t->end;
    pthread_mutex_unlock(&t->mutex);
    return any;
}

/* As mp_queue_abandon(). */
static void give_back(struct mp_queue *q, uint32_t x)
{
    uint32_t deliveries = mp_block_deliveries(mp_load_relaxed(&q->words[x]));

    if ((q->flags & MP_QUEUE_DROP_HELD) || mp_queue_check(q, true) < 0) {
        mp_store_release(&q->words[x], mp_block_owned(q->arena));
        mp_block_give_anyhow(q->arena, x);
        mp_tasks_wake(q);
        return;
    }
    mp_store_release(&q->words[x], mp_block_word(MP_BLOCK_RETURNED, 0, deliveries, 0));
    mp_ring_add_returned(q->ring);
    mp_sleep_wake_slow(&q->ring->filled);
}

void mp_tasks_close(struct mp_queue *q)
{
    struct mp_tasks *t = find_tasks(q);

    while (t && t->first < t->end) {
        uint32_t x = t->tasks[t->first++].block;

        give_back(q, x);
    }
    t = atomic_exchange(&q->tasks, NULL);
    while (t) {
        struct mp_tasks *former = t->former;

        free_tasks(t);
        t = former;
    }
}

/* ---- is any left? ---- */

/* Is there a task in block x? The word is looked at again after the meta, as the block may have
 * become another queue's in between. */
static bool is_task(const struct mp_queue *q, uint32_t x)
{
    uint64_t w = mp_load_acquire(&q->words[x]);

    /* Not for ever: somebody hostile may write there. */
    for (uint32_t tries = 0; tries < TRIES_MOST; tries++) {
        uint64_t seen = w;
        bool ours;

        if (mp_block_state(w) != MP_BLOCK_LEASED && mp_block_state(w) != MP_BLOCK_RETURNED)
            return false;
        ours = (mp_load_acquire(&q->meta[x]) & 0xffffff) == q->meta_queue;
        w = mp_load_acquire(&q->words[x]);
        if (w == seen)
            return ours;
    }
    return true;
}

/* All cells EMPTY, and the sum of their laps, which only grow. */
static bool all_empty(const struct mp_queue *q, uint64_t *ret_laps)
{
    uint64_t head = mp_load_relaxed(&q->ring->head);
    uint64_t laps = 0;

    for (uint32_t i = 0; i < q->cells; i++) {
        uint64_t v = mp_load_acquire(&q->ring->cells[(head + i) & (q->cells - 1)]);

        if (mp_cell_state(v) != MP_CELL_EMPTY)
            return false;
        laps += v;
    }
    *ret_laps = laps;
    return true;
}

/* *x: a block with a task, if one was seen the last time; UINT32_MAX: none. */
static bool is_any_left(const struct mp_queue *q, uint32_t *x)
{
    uint64_t before, after;

    if (*x != UINT32_MAX && is_task(q, *x))
        return true;
    *x = UINT32_MAX;
    if (!all_empty(q, &before) || mp_ring_count_blocks(q, is_task, 1, x) > 0)
        return true;
    return !mp_mutation(JOIN_LOOKS_ONCE) && (!all_empty(q, &after) || after != before);
}

uint64_t mp_tasks_count(const struct mp_queue *q)
{
    uint32_t last;

    return mp_ring_count_cells(q) + mp_ring_count_blocks(q, is_task, UINT64_MAX, &last);
}

/* ---- waiting ---- */

/* Another task that somebody has to end, and then comes here, too? The list is asked under its
 * mutex: of two who end the last two tasks one comes second, and finds it empty; by then the word
 * of the other's task is written. */
static bool is_more_to_come(struct mp_queue *q)
{
    uint64_t p = mp_load_relaxed(&q->consume);

    return mp_cell_is_full(mp_load_acquire(&q->ring->cells[p & (q->cells - 1)]), p >> q->shift) ||
           has_tasks(q);
}

MP_NOINLINE void mp_tasks_wake_slow(struct mp_queue *q)
{
    atomic_thread_fence(memory_order_seq_cst); /* what ended is seen before we look at others */
    if (!is_more_to_come(q) && !mp_mutation(LAST_TASK_UNTOLD))
        mp_sleep_wake_all(&q->ring->joined);
}

int mp_tasks_end(struct mp_queue *q, uint32_t x)
{
    struct mp_arena *a = q->arena;
    int r = 0;
    struct mp_thread *t = mp_thread_get(a, &r);

    if (mp_unlikely(!t))
        return r;
    /* Release: what was done for the task; pairs with the acquire in is_task(). */
    mp_store_release(&q->words[x], mp_block_owned(a));
    mp_tasks_wake(q);
    mp_block_give(a, t, mp_geometry_block_class(&a->geometry, x), x);
    return 0;
}

int mp_queue_task_done(mp_queue *queue)
{
    struct mp_tasks *t;
    uint32_t x;
    int r = 0;

    if (!queue || !mp_queue_is_joinable(queue))
        return -EINVAL;
    t = find_tasks(queue);
    if (!t)
        return -EOVERFLOW;
    /* Before anything is taken from the list. */
    if (!mp_thread_get(queue->arena, &r))
        return r;
    if (!take_task(t, mp_thread_id(queue->arena), &x))
        return -EOVERFLOW;
    return mp_tasks_end(queue, x);
}

/* After a shutdown at once nobody may take any more. What came in late, or back from the dead, is
 * dropped by whoever waits. */
static void drop_rest(struct mp_queue *q)
{
    if ((mp_load_seqcst(&q->ring->phase) & 3) == MP_PHASE_ENDED && mp_queue_drain(q))
        mp_sleep_wake_all(&q->ring->joined);
}

/* 1: all is done; 0: not yet; -ESTALE. */
static int look(struct mp_queue *q, uint32_t *x)
{
    if (mp_queue_phase_slow(q, true) == -ESTALE)
        return -ESTALE;
    drop_rest(q);
    return !is_any_left(q, x);
}

int mp_queue_join(mp_queue *queue, uint64_t timeout_ns)
{
    uint64_t deadline = mp_deadline(timeout_ns);
    uint32_t x = UINT32_MAX;
    bool last = false;
    int r = 0;

    if (!queue || !mp_queue_is_joinable(queue))
        return -EINVAL;
    if (!mp_arena_enter(queue->arena, &r))
        return r;
    for (;;) {
        uint32_t value;

        r = look(queue, &x);
        if (r != 0)
            break;
        if (deadline == 0 || last)
            return last ? -ETIMEDOUT : -EAGAIN;
        value = mp_sleep_arm(queue->arena, &queue->ring->joined);
        r = look(queue, &x);
        if (r != 0)
            break;
        last = mp_sleep_on(queue->arena, &queue->ring->joined, value, deadline, MP_WAIT_JOIN,
                           queue->index) == -ETIMEDOUT;
    }
    return mp_min(r, 0);
}
