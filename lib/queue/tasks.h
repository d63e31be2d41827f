/* SPDX-License-Identifier: MIT */
#pragma once

/* What joinable queues have more than others. The protocol stands in tasks.c. */

#include "queue/queue.h"

void mp_tasks_wake_slow(struct mp_queue *q);

/* A task has ended: perhaps it was the last one that somebody waits for. */
static inline void mp_tasks_wake(struct mp_queue *q)
{
    mp_sleep_fence(q->arena, false); /* pairs with the membarrier of mp_queue_join */
    if (mp_unlikely(mp_load_relaxed(&q->ring->joined) & 1))
        mp_tasks_wake_slow(q);
}

/* The message in block x, LEASED to us, was copied out: it is ours until mp_queue_task_done().
 * 0; -ENOMEM. */
int mp_tasks_keep(struct mp_queue *q, uint32_t x);

/* The task in block x, LEASED to us, is done: the block is free. 0; -ENOMEM: not done. */
int mp_tasks_end(struct mp_queue *q, uint32_t x);

/* What was kept with this handle goes back to be delivered again. */
void mp_tasks_close(struct mp_queue *q);

/* How many tasks are not done: exact while nobody is at work. */
uint64_t mp_tasks_count(const struct mp_queue *q);
