/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The keeper: one small thread a process that holds the participations, watches the next
 * participant of each arena, and turns sleep words into eventfds for those who poll.
 */

#include <linux/futex.h>
#include <stdint.h>

#include "arena/waitable.h"

/* Take part in, or leave, an arena: done by the keeper, which is started where there is none. 0;
 * -EUSERS, -EAGAIN, -ENOMEM. */
int mp_keeper_join(struct mp_arena *a);
int mp_keeper_leave(struct mp_arena *a);

/* The lock over the process's list of arenas and over requests: free in a forked child, whoever
 * held it in the parent. */
int mp_keeper_lock(void);
void mp_keeper_unlock(void);

/* Somebody of this process is about to sleep: look for deaths each second until nobody does. */
void mp_keeper_look(struct mp_arena *a);

/* For the keeper thread: its robust list. */
struct robust_list_head *mp_keeper_list(void);

/* Inode of our pid namespace; 0 before the keeper runs. */
uint32_t mp_keeper_namespace(void);

/* This thread will call mp_keeper_thread_ends(). */
void mp_keeper_thread_tells(void);

/* A thread that used libmp ends: if main has ended too, the keeper looks whether it is the last. */
void mp_keeper_thread_ends(void);

/* An eventfd that is written once when the waitable, a word, is ready. */
struct mp_poller {
    struct mp_poller *next; /* the keeper's */
    struct mp_waitable what;
    uint64_t life; /* the participation that it was made in */
    int event_fd;
    mp_a32 armed; /* 1: the keeper watches; 0: the eventfd was written */
};

int mp_keeper_poll(struct mp_poller *p);   /* start watching */
int mp_keeper_unpoll(struct mp_poller *p); /* stop: afterwards the keeper knows nothing of it */
void mp_keeper_rearm(struct mp_poller *p); /* watch again */
