/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What is done to a queue, written as letters, for the victim and for the survivors:
 *
 *   p  put                 g  get                  w  as many as the ring has cells, in and out
 *   l  loan                c  commit the loan      a  abandon the loan
 *   r  receive             f  release the oldest   b  give the oldest back, to be received again
 *   P  put a batch of 3    G  get a batch of 3
 *   h  get, and hold       e  end the oldest task  j  join: what came of it goes to note.stage
 *   z  shut down at once   C  close the handle
 * and for the survivors alone:
 *   x  put until it is full                        k  leave free blocks in crates
 *   s  a thread sleeps in get                      t  a thread sleeps in put
 *   J  a thread sleeps in join
 *   m  take all free memory                        n  give it back
 *   d  a consumer receives a message and dies
 *   o  two laps, while the victim is stopped: nothing may wait for it
 */

#include "crash/crash.h"
#include "queue/queue.h"

#define MAXSIZE 16u
#define HANDS 32u

struct detail {
    uint32_t flags;
    uint32_t size;         /* 0: SIZE */
    const char *before;    /* survivors, before there is a victim */
    const char *prepare;   /* the victim, not stepped */
    const char *ready;     /* survivors, once it has prepared */
    const char *operate;   /* the victim, stepped */
    const char *asleep;    /* survivors, when the victim sleeps */
    const char *meanwhile; /* survivors, while it stands where it will be killed */
    bool ends;             /* somebody shuts it down: no answer is wrong */
};

/* What a process has in its hands. A forked victim begins with the survivors' and drops it. */
struct hands {
    struct mp_message loans[HANDS];
    struct mp_message held[HANDS];
    uint32_t tasks[HANDS]; /* numbers of those that were got from a joinable queue */
    unsigned n_loans, n_held, n_tasks;
    uint32_t next; /* number of the next message */
    uint64_t timeout_ns;
    bool victim;
    void *blocks[1024];
    unsigned n_blocks;
};

extern struct hands hands;
extern struct receipts receipts;

static inline const struct detail *letters_detail(const struct point *p)
{
    return p->scenario->detail;
}

void letters_play(struct point *p, const char *letters);

/* The functions of a scenario; all but after(). */
void letters_begin(struct point *p);
void letters_prepare(struct point *p);
void letters_ready(struct point *p);
void letters_operate(struct point *p);
void letters_asleep(struct point *p);
void letters_meanwhile(struct point *p);

/* Survivors asleep in get, and in join. */
void letters_collect_one(struct point *p, struct survivor *s);
void letters_join(struct point *p, struct survivor *s);

/* Give back what `m` took. */
void letters_give_memory(struct point *p);

#define LETTERS(...)                                                                \
    .detail = &(const struct detail){__VA_ARGS__}, .begin = letters_begin,          \
    .prepare = letters_prepare, .ready = letters_ready, .operate = letters_operate, \
    .asleep = letters_asleep
