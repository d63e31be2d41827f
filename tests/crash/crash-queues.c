/* SPDX-License-Identifier: MIT */
/*
 * Queues, of both kinds.
 *
 * What is done to a queue is written as letters, for the victim and for the survivors:
 *
 *   p  put                 g  get                  w  as many as the ring has cells, in and out
 *   l  loan                c  commit the loan      a  abandon the loan
 *   r  receive             f  release the oldest   b  give the oldest back, to be received again
 *   P  put a batch of 3    G  get a batch of 3
 * and for the survivors alone:
 *   x  put until it is full                        k  leave free blocks in crates
 *   s  a thread sleeps in get                      t  a thread sleeps in put
 *   m  take all free memory                        n  give it back
 *   d  a consumer receives a message and dies
 *   o  two laps, while the victim is stopped: nothing may wait for it
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/macro.h"
#include "crash/crash.h"
#include "queue/queue.h"

#define SPSC (MP_QUEUE_SINGLE_PRODUCER | MP_QUEUE_SINGLE_CONSUMER)
#define MAXSIZE 16u
#define SIZE 200u /* bytes; blocks of 256, which travel by fours in the smallest arena */
#define HANDS 32u
#define STOCK 12u
#define AFTERWARDS 20u

struct detail {
    uint32_t flags;
    uint32_t size;         /* 0: SIZE */
    const char *before;    /* survivors, before there is a victim */
    const char *prepare;   /* the victim, not stepped */
    const char *ready;     /* survivors, once it has prepared */
    const char *operate;   /* the victim, stepped */
    const char *asleep;    /* survivors, when the victim sleeps */
    const char *meanwhile; /* survivors, while it stands where it will be killed */
};

/* What a process has in its hands. A forked victim begins with the survivors' and drops it. */
static struct {
    struct mp_message loans[HANDS];
    struct mp_message held[HANDS];
    unsigned n_loans, n_held;
    uint32_t next; /* number of the next message */
    uint64_t timeout_ns;
    bool victim;
    void *blocks[1024];
    unsigned n_blocks;
} hands;

static struct receipts receipts;

static const struct detail *detail(const struct point *p)
{
    return p->scenario->detail;
}

static uint32_t size_of(const struct point *p)
{
    return detail(p)->size ? detail(p)->size : SIZE;
}

static void now(struct point *p, uint32_t number, uint32_t state)
{
    mp_store_seqcst(&p->note->ledger.state[number], state);
}

static void begin_doing(struct point *p, uint32_t doing, uint32_t which, uint32_t many)
{
    if (hands.victim)
        ledger_begin(&p->note->ledger, doing, which, many);
}

static void end_doing(struct point *p)
{
    if (hands.victim)
        ledger_end(&p->note->ledger);
}

/* A consumer may have said already what became of it. */
static void sent(struct point *p, uint32_t number)
{
    uint32_t none = MESSAGE_NONE;

    mp_cas_seqcst(&p->note->ledger.state[number], &none, MESSAGE_SENT);
}

/* For a non-waiting user, full and empty are answers. */
static bool is_fine(struct point *p, int r)
{
    if (r < 0 && r != -EAGAIN)
        crash_fail(p, "an operation on the queue failed: %d", r);
    return r >= 0;
}

/* ---- letters ---- */

static void put(struct point *p, uint32_t many)
{
    static char bytes[3 * 4096];
    uint32_t size = size_of(p);
    uint32_t first = hands.next;
    int r;

    for (uint32_t i = 0; i < many; i++)
        ledger_fill(bytes + i * size, size, first + i);
    begin_doing(p, DOING_COMMIT, first, many);
    r = many == 1 ? mp_queue_put(p->queue, bytes, size, hands.timeout_ns)
                  : mp_queue_put_batch(p->queue, bytes, size, many, hands.timeout_ns);
    if (is_fine(p, r)) {
        hands.next += many == 1 ? 1 : (uint32_t)r;
        for (uint32_t i = first; i < hands.next; i++)
            sent(p, i);
    }
    end_doing(p);
}

static void loan(struct point *p)
{
    struct mp_message *m = &hands.loans[hands.n_loans];

    if (is_fine(p, mp_queue_loan(p->queue, size_of(p), hands.timeout_ns, m))) {
        ledger_fill(m->data, m->size, hands.next++);
        hands.n_loans++;
    }
}

static void commit(struct point *p)
{
    struct mp_message *m = &hands.loans[hands.n_loans - 1];
    uint32_t number = ledger_read(m->data, m->size);

    begin_doing(p, DOING_COMMIT, number, 1);
    if (is_fine(p, mp_queue_commit(p->queue, m, hands.timeout_ns))) {
        sent(p, number);
        hands.n_loans--;
    }
    end_doing(p);
}

/* A message is here: a victim says so, a survivor takes it down. */
static void arrived(struct point *p, const void *data, size_t size, uint32_t deliveries,
                    uint32_t state)
{
    uint32_t number = size == size_of(p) ? ledger_read(data, size) : LEDGER_MESSAGES;

    if (!hands.victim)
        ledger_receipt(p, &receipts, ledger_is_whole(data, size) ? number : LEDGER_MESSAGES,
                       deliveries, true);
    else if (number == LEDGER_MESSAGES)
        crash_fail(p, "the victim got a message that is spoiled");
    else
        now(p, number, state);
}

static void receive(struct point *p)
{
    struct mp_message *m = &hands.held[hands.n_held];

    begin_doing(p, DOING_RECEIVE, 0, 1);
    if (is_fine(p, mp_queue_receive(p->queue, hands.timeout_ns, m))) {
        arrived(p, m->data, m->size, m->deliveries, MESSAGE_HELD);
        hands.n_held++;
    }
    end_doing(p);
}

static void let_go(struct point *p, bool again)
{
    struct mp_message m = hands.held[0];
    uint32_t number = ledger_read(m.data, m.size);
    bool drop = detail(p)->flags & MP_QUEUE_DROP_HELD;

    memmove(hands.held, hands.held + 1, --hands.n_held * sizeof hands.held[0]);
    if (!again)
        begin_doing(p, DOING_RELEASE, number, 1);
    is_fine(p, again ? mp_queue_abandon(p->queue, &m) : mp_queue_release(p->queue, &m));
    if (hands.victim || again)
        now(p, number, again && !drop ? MESSAGE_RETURNED : MESSAGE_DONE);
    if (!hands.victim && again)
        mp_store_seqcst(&receipts.got[number], 0);
    end_doing(p);
}

static void get(struct point *p, uint32_t many)
{
    static char bytes[3 * 4096];
    size_t sizes[3];
    uint32_t size = size_of(p);
    int n;

    /* A survivor looks at the marks, which get does not tell. */
    if (!hands.victim) {
        unsigned before = hands.n_held;

        receive(p);
        if (hands.n_held > before)
            let_go(p, false);
        return;
    }
    begin_doing(p, DOING_GET, 0, many);
    if (many == 1)
        n = mp_queue_get(p->queue, bytes, size, hands.timeout_ns, sizes) == 0;
    else
        n = mp_queue_get_batch(p->queue, bytes, size, sizes, many, hands.timeout_ns);
    for (int i = 0; i < n; i++)
        arrived(p, bytes + (size_t)i * size, sizes[i], 1, MESSAGE_DONE);
    end_doing(p);
}

/* ---- letters of the survivors ---- */

static void collect_one(struct point *p, struct survivor *s)
{
    struct mp_message m;

    s->result = mp_queue_receive(p->queue, MP_FOREVER, &m);
    if (s->result < 0) {
        crash_fail(p, "a survivor received nothing: %d", s->result);
        return;
    }
    ledger_receipt(p, &receipts,
                   m.size == size_of(p) && ledger_is_whole(m.data, m.size)
                       ? ledger_read(m.data, m.size)
                       : LEDGER_MESSAGES,
                   m.deliveries, false);
    mp_queue_release(p->queue, &m);
}

static void send_one(struct point *p, struct survivor *s)
{
    char bytes[4096];
    uint32_t number = LEDGER_THREADS + (uint32_t)(s - p->survivors);

    ledger_fill(bytes, size_of(p), number);
    s->result = mp_queue_put(p->queue, bytes, size_of(p), MP_FOREVER);
    if (s->result < 0)
        crash_fail(p, "a survivor could not put: %d", s->result);
    else
        sent(p, number);
}

static void stock(struct point *p)
{
    void *blocks[STOCK];

    for (unsigned i = 0; i < STOCK; i++)
        crash_must(p, mp_block_alloc(p->arena, size_of(p), 0, &blocks[i]));
    for (unsigned i = 0; i < STOCK; i++)
        crash_must(p, mp_block_free(p->arena, blocks[i]));
    mp_thread_flush(p->arena);
}

static void take_memory(struct point *p)
{
    while (hands.n_blocks < MP_ARRAY_SIZE(hands.blocks) &&
           mp_block_alloc(p->arena, size_of(p), 0, &hands.blocks[hands.n_blocks]) == 0) {
        memset(hands.blocks[hands.n_blocks], 0xee, size_of(p));
        hands.n_blocks++;
    }
}

static void give_memory(struct point *p)
{
    while (hands.n_blocks)
        crash_must(p, mp_block_free(p->arena, hands.blocks[--hands.n_blocks]));
}

static void play(struct point *p, const char *letters);

static void become_user(struct point *p)
{
    memset(&hands, 0, sizeof hands);
    hands.victim = true;
    crash_must(p, mp_arena_join(p->arena));
}

static void receive_and_stop(struct point *p)
{
    become_user(p);
    play(p, "r");
}

static void nothing(struct point *p)
{
    (void)p;
}

static void dead_consumer(struct point *p)
{
    struct victim v;

    crash_fork(p, &v, receive_and_stop, nothing);
    stepper_kill(&v);
    crash_until(p, survivors_are_alone(p), "the sweep after the first consumer");
    for (uint32_t i = 0; i < LEDGER_MESSAGES; i++)
        if (mp_load_seqcst(&p->note->ledger.state[i]) == MESSAGE_HELD)
            now(p, i, MESSAGE_RETURNED);
}

/* Nobody waits here, so whatever does not succeed would have had to wait. */
static void laps(struct point *p)
{
    for (unsigned i = 0; i < 2 * MAXSIZE; i++) {
        uint32_t first = hands.next;
        unsigned held = hands.n_held;

        put(p, 1);
        receive(p);
        if (hands.next == first || hands.n_held == held) {
            crash_fail(p, "a stopped participant holds others up");
            return;
        }
        let_go(p, false);
    }
}

static void play_one(struct point *p, char letter)
{
    uint32_t first = hands.next;

    switch (letter) {
    case 'p':
        put(p, 1);
        break;
    case 'P':
        put(p, 3);
        break;
    case 'g':
        get(p, 1);
        break;
    case 'G':
        get(p, 3);
        break;
    case 'w':
        for (unsigned i = 0; i < MAXSIZE; i++)
            play(p, "pg");
        break;
    case 'l':
        loan(p);
        break;
    case 'c':
        if (hands.n_loans)
            commit(p);
        break;
    case 'a':
        if (hands.n_loans)
            is_fine(p, mp_queue_abandon(p->queue, &hands.loans[--hands.n_loans]));
        break;
    case 'r':
        receive(p);
        break;
    case 'f':
    case 'b':
        if (hands.n_held)
            let_go(p, letter == 'b');
        break;
    case 'x':
        do {
            first = hands.next;
            put(p, 1);
        } while (hands.next > first);
        break;
    case 'k':
        stock(p);
        break;
    case 's':
        survivor_wait_asleep(survivor_start(p, collect_one));
        break;
    case 't':
        survivor_wait_asleep(survivor_start(p, send_one));
        break;
    case 'm':
        take_memory(p);
        break;
    case 'n':
        give_memory(p);
        break;
    case 'd':
        dead_consumer(p);
        break;
    case 'o':
        laps(p);
        break;
    }
}

static void play(struct point *p, const char *letters)
{
    for (; letters && *letters; letters++)
        play_one(p, *letters);
}

/* ---- a scenario ---- */

static void begin(struct point *p)
{
    memset(&hands, 0, sizeof hands);
    memset(&receipts, 0, sizeof receipts);
    hands.next = LEDGER_SURVIVORS;
    crash_must(p, mp_queue_create(p->arena, "queue",
                                  MP_QUEUE_OPTIONS(.maxsize = MAXSIZE, .flags = detail(p)->flags),
                                  &p->queue));
    play(p, detail(p)->before);
}

static void prepare(struct point *p)
{
    become_user(p);
    play(p, detail(p)->prepare);
    hands.timeout_ns = detail(p)->asleep ? MP_FOREVER : 0;
}

static void ready(struct point *p)
{
    play(p, detail(p)->ready);
}

static void operate(struct point *p)
{
    play(p, detail(p)->operate);
}

static void asleep(struct point *p)
{
    play(p, detail(p)->asleep);
}

static void meanwhile(struct point *p)
{
    play(p, detail(p)->meanwhile);
}

/* Is there something that a survivor asleep could do? If so it must notice by itself. */
static bool is_ready(const struct point *p, const struct survivor *s)
{
    const struct mp_ring *ring = p->queue->ring;
    uint32_t full = 0;

    if (s->work == collect_one)
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
            play(p, s->work == collect_one ? "p" : "g");
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
        play(p, "g");
        for (uint32_t i = 0; i < LEDGER_MESSAGES; i++)
            before -= mp_load_relaxed(&receipts.got[i]);
    } while (before != 0);
}

static void after(struct point *p)
{
    survivors_wait_swept(p);
    wake_survivors(p);
    hands.timeout_ns = 0;
    give_memory(p);
    play(p, "ffffffff");
    drain(p);
    ledger_check(p, &receipts, detail(p)->flags & MP_QUEUE_DROP_HELD);

    /* And on it goes. */
    for (unsigned i = 0; i < AFTERWARDS; i++) {
        uint32_t number = hands.next;

        play(p, "pg");
        if (mp_load_seqcst(&receipts.got[number]) != 1)
            crash_fail(p, "afterwards a message does not come");
    }
}

/* clang-format off */
#define CASE(text, ...)                                                                     \
    {.name = text, .detail = &(const struct detail){__VA_ARGS__}, .begin = begin,           \
     .prepare = prepare, .ready = ready, .operate = operate, .asleep = asleep, .after = after}
#define CASE_POLLS(text, ...)                                                               \
    {.name = text, .detail = &(const struct detail){__VA_ARGS__}, .begin = begin,           \
     .prepare = prepare, .ready = ready, .operate = operate, .asleep = asleep,              \
     .polls = 4000, .after = after}
#define CASE_BESIDE(text, ...)                                                              \
    {.name = text, .detail = &(const struct detail){__VA_ARGS__}, .begin = begin,           \
     .prepare = prepare, .ready = ready, .operate = operate, .asleep = asleep,              \
     .meanwhile = meanwhile, .after = after}

#define CASE_STOPPED(text, ...)                                                             \
    {.name = text, .detail = &(const struct detail){__VA_ARGS__, .meanwhile = "ox"},         \
     .begin = begin, .prepare = prepare, .ready = ready, .operate = operate,                \
     .asleep = asleep, .meanwhile = meanwhile, .after = after},                             \
    {.name = text ", goes on", .detail = &(const struct detail){__VA_ARGS__, .meanwhile = "ox"}, \
     .begin = begin, .prepare = prepare, .ready = ready, .operate = operate,                \
     .asleep = asleep, .meanwhile = meanwhile, .goes_on = true, .after = after}

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
