/* SPDX-License-Identifier: MIT */
/* Queues, of both kinds. What is done to them is written in letters: see letters.h. */

#include "base/clock.h"
#include "base/macro.h"
#include "crash/letters.h"

#define SPSC (MP_QUEUE_SINGLE_PRODUCER | MP_QUEUE_SINGLE_CONSUMER)
#define AFTERWARDS 20u

/* Is there something that a survivor asleep could do? If so it must notice by itself. */
static bool is_ready(const struct point *p, const struct survivor *s)
{
    const struct mp_ring *ring = p->queue->ring;
    uint32_t full = 0;

    if (s->work == letters_collect_one)
        return mp_ring_depth(p->queue) > 0;
    if (p->queue->spsc)
        return mp_load_relaxed(&p->queue->produce) - mp_load_seqcst(&ring->head) < MAXSIZE;
    for (uint32_t i = 0; i < p->queue->cells; i++)
        full += mp_cell_state(mp_load_seqcst(&ring->cells[i])) != MP_CELL_EMPTY;
    return full < MAXSIZE;
}

static struct survivor *next_asleep(struct point *p)
{
    for (unsigned i = 0; i < p->n_survivors; i++)
        if (!mp_load_seqcst(&p->survivors[i].done))
            return &p->survivors[i];
    return NULL;
}

/* Those asleep who could go on must do so; the others are given something. */
static void wake_survivors(struct point *p)
{
    struct survivor *s;

    while ((s = next_asleep(p))) {
        if (!is_ready(p, s))
            letters_play(p, s->work == letters_collect_one ? "p" : "g");
        if (mp_now_ns() - p->killed_ns > SURVIVORS_NS)
            crash_abort(p, "a survivor sleeps though it could go on");
        crash_pause();
    }
    survivors_join(p);
}

static void drain(struct point *p)
{
    uint32_t before;

    do {
        before = 0;
        for (uint32_t i = 0; i < LEDGER_MESSAGES; i++)
            before += mp_load_relaxed(&receipts.got[i]);
        letters_play(p, "g");
        for (uint32_t i = 0; i < LEDGER_MESSAGES; i++)
            before -= mp_load_relaxed(&receipts.got[i]);
    } while (before != 0);
}

static void after(struct point *p)
{
    survivors_wait_swept(p);
    wake_survivors(p);
    hands.timeout_ns = 0;
    letters_give_memory(p);
    letters_play(p, "ffffffff");
    drain(p);
    ledger_check(p, &receipts, letters_detail(p)->flags & MP_QUEUE_DROP_HELD);

    /* And on it goes. */
    for (unsigned i = 0; i < AFTERWARDS; i++) {
        uint32_t number = hands.next;

        letters_play(p, "pg");
        if (mp_load_seqcst(&receipts.got[number]) != 1)
            crash_fail(p, "afterwards a message does not come");
    }
}

/* clang-format off */
#define CASE(text, ...) {.name = text, LETTERS(__VA_ARGS__), .after = after}
#define CASE_POLLS(text, ...) {.name = text, LETTERS(__VA_ARGS__), .polls = 4000, .after = after}
#define CASE_BESIDE(text, ...)                                                              \
    {.name = text, LETTERS(__VA_ARGS__), .meanwhile = letters_meanwhile, .after = after}

#define CASE_STOPPED(text, ...)                                                             \
    CASE_BESIDE(text, __VA_ARGS__, .meanwhile = "ox"),                                      \
    {.name = text ", goes on", LETTERS(__VA_ARGS__, .meanwhile = "ox"),                     \
     .meanwhile = letters_meanwhile, .goes_on = true, .after = after}

static const struct scenario mpmc[] = {
    CASE("mpmc: loan", .prepare = "p", .operate = "l"),
    CASE("mpmc: loan, refill from a crate", .before = "kpp", .operate = "l"),
    CASE("mpmc: abandon a loan", .prepare = "l", .operate = "a"),
    CASE_BESIDE("mpmc: commit", .prepare = "pl", .operate = "c", .meanwhile = "pg"),
    CASE("mpmc: commit, consumer asleep", .prepare = "l", .ready = "s", .operate = "c"),
    CASE("mpmc: commit, two consumers asleep", .prepare = "l", .ready = "ss", .operate = "c"),
    CASE_BESIDE("mpmc: put", .before = "kwp", .operate = "p", .meanwhile = "gp"),
    CASE_POLLS("mpmc: put, full", .before = "kwx", .prepare = "la", .operate = "p", .asleep = "g"),
    CASE_POLLS("mpmc: put, full, another asleep", .before = "kx", .ready = "t", .prepare = "la",
        .operate = "p", .asleep = "gg"),
    CASE_BESIDE("mpmc: put a batch", .before = "kp", .operate = "P", .meanwhile = "g"),
    CASE_BESIDE("mpmc: receive", .before = "kwppp", .operate = "r", .meanwhile = "gp"),
    CASE("mpmc: receive, producer asleep", .before = "x", .ready = "t", .operate = "r"),
    CASE("mpmc: receive, asleep", .operate = "r", .asleep = "p"),
    CASE("mpmc: receive, asleep behind another", .ready = "s", .operate = "r", .asleep = "pp"),
    CASE("mpmc: receive, asleep before another", .operate = "r", .asleep = "spp"),
    CASE_BESIDE("mpmc: receive what a dead one had", .before = "ppdp", .operate = "r",
        .meanwhile = "g"),
    CASE_BESIDE("mpmc: release", .before = "kppp", .prepare = "r", .operate = "f",
        .meanwhile = "gp"),
    CASE_BESIDE("mpmc: release, flush to a crate", .before = "pppppppppp",
        .prepare = "rrrrrrrrfffffff", .operate = "f", .meanwhile = "mn"),
    CASE_BESIDE("mpmc: give back", .before = "pp", .prepare = "r", .operate = "b",
        .meanwhile = "g"),
    CASE("mpmc: give back, consumer asleep", .before = "p", .prepare = "r", .ready = "s",
        .operate = "b"),
    CASE_BESIDE("mpmc: get", .before = "kwppp", .operate = "g", .meanwhile = "gp"),
    CASE("mpmc: get, asleep", .operate = "g", .asleep = "p"),
    CASE_BESIDE("mpmc: get a batch", .before = "wpppp", .operate = "G", .meanwhile = "gp"),
    CASE_BESIDE("mpmc: receive and release, dropped", .flags = MP_QUEUE_DROP_HELD, .before = "ppp",
        .operate = "rf", .meanwhile = "gp"),
    CASE_STOPPED("mpmc: loan, commit, stopped", .before = "kw", .operate = "lc"),
    CASE_STOPPED("mpmc: receive, release, stopped", .before = "kwp", .operate = "rf"),
    CASE_STOPPED("mpmc: give back, stopped", .before = "kwp", .prepare = "r", .operate = "b"),
    CASE("mpmc: everything", .before = "kppp", .prepare = "p",
        .operate = "plcrrgfPrGfplcrfpgplaplcrrff"),
};

static const struct scenario spsc[] = {
    CASE_BESIDE("spsc: loan", .flags = SPSC, .prepare = "p", .operate = "l", .meanwhile = "g"),
    CASE("spsc: loan, first use", .flags = SPSC, .before = "k", .operate = "l"),
    CASE_BESIDE("spsc: commit", .flags = SPSC, .prepare = "ppl", .operate = "c", .meanwhile = "gg"),
    CASE("spsc: commit, consumer asleep", .flags = SPSC, .prepare = "l", .ready = "s",
        .operate = "c"),
    CASE_BESIDE("spsc: put", .flags = SPSC, .before = "k", .prepare = "p", .operate = "p",
        .meanwhile = "gg"),
    CASE_POLLS("spsc: put, full", .flags = SPSC, .prepare = "x", .operate = "p", .asleep = "g"),
    CASE("spsc: put, full, consumer at work", .flags = SPSC, .prepare = "x", .ready = "r",
        .operate = "p"),
    CASE_BESIDE("spsc: put a batch", .flags = SPSC, .before = "k", .operate = "P",
        .meanwhile = "g"),
    CASE_BESIDE("spsc: receive", .flags = SPSC, .before = "kppp", .operate = "r", .meanwhile = "p"),
    CASE("spsc: receive, asleep", .flags = SPSC, .operate = "r", .asleep = "p"),
    CASE("spsc: receive, producer asleep", .flags = SPSC, .before = "x", .ready = "t",
        .operate = "rrfrrfff"),
    CASE_BESIDE("spsc: receive after a dead one", .flags = SPSC, .before = "ppppd",
        .operate = "rrr", .meanwhile = "p"),
    CASE_BESIDE("spsc: release", .flags = SPSC, .before = "ppp", .prepare = "r", .operate = "f",
        .meanwhile = "p"),
    CASE_BESIDE("spsc: release, publishes", .flags = SPSC, .before = "ppppppp", .prepare = "rrrff",
        .operate = "rf", .meanwhile = "mn"),
    CASE_BESIDE("spsc: release, one block a crate", .flags = SPSC, .size = 4000,
        .before = "ppppppp",
        .prepare = "rrrff", .operate = "rf", .meanwhile = "m"),
    CASE_BESIDE("spsc: give back", .flags = SPSC, .before = "ppp", .prepare = "rr",
        .operate = "b", .meanwhile = "p"),
    CASE_BESIDE("spsc: get", .flags = SPSC, .before = "pppp", .operate = "gg", .meanwhile = "p"),
    CASE("spsc: get, asleep", .flags = SPSC, .operate = "g", .asleep = "p"),
    CASE_BESIDE("spsc: get a batch", .flags = SPSC, .before = "ppppp", .operate = "G",
        .meanwhile = "p"),
    CASE("spsc: both ends", .flags = SPSC, .before = "k", .prepare = "p",
        .operate = "plcrfPGpprrrffgfplcrf"),
};
/* clang-format on */

const struct group crash_mpmc = {"mpmc", mpmc, MP_ARRAY_SIZE(mpmc)};
const struct group crash_spsc = {"spsc", spsc, MP_ARRAY_SIZE(spsc)};
