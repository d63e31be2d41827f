/* SPDX-License-Identifier: MIT */
/* Those who stay: threads of the tracer, and what they wait for. */

#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "arena/liveness.h"
#include "base/clock.h"
#include "crash/crash.h"

static void *survive(void *user)
{
    struct survivor *s = user;

    mp_store_seqcst(&s->tid, (uint32_t)syscall(SYS_gettid));
    s->work(s->point, s);
    mp_store_seqcst(&s->done, 1);
    return NULL;
}

struct survivor *survivor_start(struct point *p, void (*work)(struct point *, struct survivor *))
{
    struct survivor *s = &p->survivors[p->n_survivors++];

    s->point = p;
    s->work = work;
    if (pthread_create(&s->thread, NULL, survive, s) != 0)
        crash_abort(p, "no thread");
    return s;
}

/* Whoever sleeps in the library has a record of it in the arena, and is then seen asleep. */
static bool is_asleep(const struct survivor *s)
{
    const struct mp_arena *a = s->point->arena;
    uint32_t tid = mp_load_seqcst(&s->tid);
    bool recorded = false;

    for (uint32_t i = 0; i < MP_WAIT_RECORDS_PER_SLOT; i++)
        recorded |= (uint32_t)mp_load_seqcst(
                        &a->waits[a->self->slot * MP_WAIT_RECORDS_PER_SLOT + i].who) == tid;
    return tid && recorded && stepper_state(getpid(), (pid_t)tid) == 'S';
}

void survivor_wait_asleep(struct survivor *s)
{
    crash_until(s->point, is_asleep(s) || mp_load_seqcst(&s->done), "a survivor asleep");
}

uint64_t survivors_timeout(const struct point *p)
{
    uint64_t now = mp_now_ns();

    return p->killed_ns + 2 * SURVIVORS_NS > now ? p->killed_ns + 2 * SURVIVORS_NS - now : 1;
}

void survivors_join(struct point *p)
{
    for (unsigned i = 0; i < p->n_survivors; i++) {
        struct survivor *s = &p->survivors[i];

        while (!mp_load_seqcst(&s->done)) {
            if (mp_now_ns() - p->killed_ns > SURVIVORS_NS)
                crash_abort(p, "survivor %u still waits, long after the kill", i);
            crash_pause();
        }
        pthread_join(s->thread, NULL);
    }
    p->n_survivors = 0;
}

bool survivors_are_alone(const struct point *p)
{
    const struct mp_arena *a = p->arena;

    for (uint32_t s = 0; s < a->geometry.participants; s++)
        if (s != a->self->slot && (uint32_t)mp_load_seqcst(&a->slots[s].state) != 0)
            return false;
    return mp_load_seqcst(&a->header->recovery) == 0;
}

static void still_there(struct point *p)
{
    const struct mp_arena *a = p->arena;

    for (uint32_t s = 0; s < a->geometry.participants; s++)
        printf("slot %u: %#llx\n", s, (unsigned long long)mp_load_seqcst(&a->slots[s].state));
    printf("recovery: %#x\n", mp_load_seqcst(&a->header->recovery));
    crash_abort(p, "the dead are not swept away long after the kill");
}

void survivors_wait_swept(struct point *p)
{
    while (!survivors_are_alone(p)) {
        if (mp_now_ns() - p->killed_ns > SURVIVORS_NS)
            still_there(p);
        crash_pause();
    }
}
