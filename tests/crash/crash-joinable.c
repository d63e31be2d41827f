/* SPDX-License-Identifier: MIT */
/*
 * Joinable queues.
 *
 * Whoever dies, the tasks that are left are exactly the messages that can still be received and
 * those that survivors have; those who join wait for all of them, go with the last one, and need
 * nobody's help for that.
 */

#include <errno.h>

#include "base/clock.h"
#include "base/macro.h"
#include "crash/letters.h"

#define JOINABLE MP_QUEUE_JOINABLE

static uint64_t tasks_left(struct point *p)
{
    struct mp_queue_stats s;

    crash_must(p, mp_queue_stats(p->queue, &s));
    return s.unfinished;
}

/* Do all agree on whether any is left? One who joins and could go must do so by itself. */
static void check_left(struct point *p, bool any)
{
    unsigned held = hands.n_held + hands.n_tasks;
    uint64_t left = tasks_left(p);
    int size = mp_queue_size(p->queue);

    if (size < 0 || left != held + (unsigned)size)
        crash_fail(p, "%llu tasks are left, not %d in the queue and %u in hands",
                   (unsigned long long)left, size, held);
    if (any != (left > 0))
        crash_fail(p, "%llu tasks are left", (unsigned long long)left);
    for (unsigned i = 0; any && i < p->n_survivors; i++)
        if (mp_load_seqcst(&p->survivors[i].done))
            crash_fail(p, "a survivor has joined too early");
    crash_check(p, mp_queue_join(p->queue, any ? 0 : survivors_timeout(p)) == (any ? -EAGAIN : 0));
    if (!any)
        survivors_join(p);
}

/* The survivors end all tasks, one after the other. */
static void end_all(struct point *p)
{
    while (mp_queue_size(p->queue) > 0)
        letters_play(p, "r");
    while (hands.n_held + hands.n_tasks > 0) {
        check_left(p, true);
        letters_play(p, hands.n_held ? "f" : "e");
    }
    check_left(p, false);
}

static void after(struct point *p)
{
    survivors_wait_swept(p);
    hands.timeout_ns = 0;
    end_all(p);
    ledger_check(p, &receipts, letters_detail(p)->flags & MP_QUEUE_DROP_HELD);

    /* And on it goes. */
    letters_play(p, "phpr");
    check_left(p, true);
    end_all(p);
}

/* There was a task all the time. */
static void after_none(struct point *p)
{
    crash_check(p, mp_load_seqcst(&p->note->stage) == 0);
    after(p);
}

/* It slept until there was none. */
static void after_one(struct point *p)
{
    if (mp_load_seqcst(&p->note->done))
        crash_check(p, mp_load_seqcst(&p->note->stage) == 1);
    after(p);
}

/* What was in the queue is gone; what survivors hold is left. */
static void after_end(struct point *p)
{
    survivors_wait_swept(p);
    hands.timeout_ns = 0;
    crash_must(p, mp_queue_shutdown(p->queue, 1));
    mp_queue_join(p->queue, 0); /* drops what came late, and that has to be told to all */
    end_all(p);
}

/* clang-format off */
#define CASE(text, ...) {.name = text, LETTERS(__VA_ARGS__), .after = after}
#define CASE_BESIDE(text, ...)                                                              \
    {.name = text, LETTERS(__VA_ARGS__), .meanwhile = letters_meanwhile, .after = after}
#define CASE_JOIN(text, ...)                                                                \
    {.name = text, LETTERS(__VA_ARGS__), .meanwhile = letters_meanwhile, .goes_on = true,   \
     .anywhere = true, .after = after_none}
#define CASE_END(text, ...)                                                                 \
    {.name = text, LETTERS(__VA_ARGS__, .ends = true), .meanwhile = letters_meanwhile,      \
     .after = after_end},                                                                   \
    {.name = text ", goes on", LETTERS(__VA_ARGS__, .ends = true),                          \
     .meanwhile = letters_meanwhile, .goes_on = true, .anywhere = true, .after = after_end}

static const struct scenario scenarios[] = {
    CASE_BESIDE("joinable: put", .flags = JOINABLE, .before = "kph", .ready = "J",
        .operate = "p", .meanwhile = "g"),
    CASE_BESIDE("joinable: get", .flags = JOINABLE, .before = "ppph", .ready = "J",
        .operate = "h", .meanwhile = "pg"),
    CASE("joinable: get, hold", .flags = JOINABLE, .before = "ppph", .prepare = "h",
        .ready = "J", .operate = "h"),
    CASE("joinable: get, dropped", .flags = JOINABLE | MP_QUEUE_DROP_HELD, .before = "pp",
        .prepare = "h", .ready = "J", .operate = "hee"),
    CASE("joinable: get, asleep", .flags = JOINABLE, .before = "ph", .ready = "J",
        .operate = "he", .asleep = "p"),
    CASE("joinable: get what a dead one had", .flags = JOINABLE, .before = "ppdp", .ready = "J",
        .operate = "he"),
    CASE_BESIDE("joinable: task_done", .flags = JOINABLE, .before = "ppph", .prepare = "hh",
        .ready = "J", .operate = "e", .meanwhile = "pg"),
    CASE("joinable: task_done, the last", .flags = JOINABLE, .before = "pp", .prepare = "hh",
        .ready = "JJ", .operate = "ee"),
    CASE("joinable: task_done, puts another", .flags = JOINABLE, .before = "p", .prepare = "h",
        .ready = "J", .operate = "pehe"),
    CASE("joinable: release, the last", .flags = JOINABLE, .before = "p", .prepare = "r",
        .ready = "JJ", .operate = "f"),
    CASE("joinable: release, dropped", .flags = JOINABLE | MP_QUEUE_DROP_HELD, .before = "pp",
        .prepare = "r", .ready = "J", .operate = "frf"),
    CASE_BESIDE("joinable: give back", .flags = JOINABLE, .before = "pp", .prepare = "r",
        .ready = "J", .operate = "b", .meanwhile = "p"),
    CASE("joinable: close", .flags = JOINABLE, .before = "ppph", .prepare = "hh", .ready = "J",
        .operate = "C"),
    CASE("joinable: close, dropped", .flags = JOINABLE | MP_QUEUE_DROP_HELD, .before = "pp",
        .prepare = "hh", .ready = "J", .operate = "C"),
    {.name = "joinable: join, asleep",
     LETTERS(.flags = JOINABLE, .before = "ph", .operate = "j", .asleep = "e"),
     .after = after_one},
    {.name = "joinable: join, asleep, woken in vain",
     LETTERS(.flags = JOINABLE, .before = "phph", .operate = "j", .asleep = "epgpref"),
     .after = after},
    CASE_JOIN("joinable: join, a task puts another", .flags = JOINABLE, .before = "ph",
        .operate = "j", .meanwhile = "pe"),
    CASE_JOIN("joinable: join, a task moves on", .flags = JOINABLE, .before = "pr",
        .operate = "j", .meanwhile = "br"),
    CASE_JOIN("joinable: join, tasks take turns", .flags = JOINABLE, .before = "ph",
        .operate = "j", .meanwhile = "pphee"),
    CASE_END("joinable: shut down at once", .flags = JOINABLE, .before = "pphrbpp", .ready = "J",
        .operate = "z", .meanwhile = "e"),
    CASE_END("joinable: put, shut down", .flags = JOINABLE, .before = "kph", .ready = "J",
        .operate = "p", .meanwhile = "ze"),
    CASE_END("joinable: get, shut down", .flags = JOINABLE, .before = "pp", .ready = "J",
        .operate = "he", .meanwhile = "z"),
};
/* clang-format on */

const struct group crash_joinable = {"joinable", scenarios, MP_ARRAY_SIZE(scenarios)};
