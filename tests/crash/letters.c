/* SPDX-License-Identifier: MIT */
/* What is done to a queue, letter by letter. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/macro.h"
#include "crash/letters.h"

#define SIZE 200u /* bytes; blocks of 256, which travel by fours in the smallest arena */
#define STOCK 12u

struct hands hands;
struct receipts receipts;

static uint32_t size_of(const struct point *p)
{
    return letters_detail(p)->size ? letters_detail(p)->size : SIZE;
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
    if (r < 0 && r != -EAGAIN && !(r == -EPIPE && letters_detail(p)->ends))
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
    bool drop = letters_detail(p)->flags & MP_QUEUE_DROP_HELD;

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

/* In a joinable queue: it stays in our hands. */
static void get_task(struct point *p)
{
    static char bytes[4096];
    size_t size;

    begin_doing(p, DOING_RECEIVE, 0, 1);
    if (is_fine(p, mp_queue_get(p->queue, bytes, size_of(p), hands.timeout_ns, &size))) {
        hands.tasks[hands.n_tasks++] = ledger_read(bytes, size);
        arrived(p, bytes, size, 1, MESSAGE_HELD);
    }
    end_doing(p);
}

static void end_task(struct point *p)
{
    uint32_t number = hands.tasks[0];

    memmove(hands.tasks, hands.tasks + 1, --hands.n_tasks * sizeof hands.tasks[0]);
    begin_doing(p, DOING_RELEASE, number, 1);
    crash_must(p, mp_queue_task_done(p->queue));
    if (hands.victim)
        now(p, number, MESSAGE_DONE);
    end_doing(p);
}

static void join(struct point *p)
{
    int r = mp_queue_join(p->queue, hands.timeout_ns);

    if (r == 0)
        mp_store_seqcst(&p->note->stage, 1);
    else if (r != -EAGAIN)
        crash_fail(p, "join: %d", r);
}

/* ---- letters of the survivors ---- */

void letters_join(struct point *p, struct survivor *s)
{
    s->result = mp_queue_join(p->queue, MP_FOREVER);
    if (s->result < 0)
        crash_fail(p, "a survivor could not join: %d", s->result);
}

void letters_collect_one(struct point *p, struct survivor *s)
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

void letters_give_memory(struct point *p)
{
    while (hands.n_blocks)
        crash_must(p, mp_block_free(p->arena, hands.blocks[--hands.n_blocks]));
}

static void become_user(struct point *p)
{
    memset(&hands, 0, sizeof hands);
    hands.victim = true;
    crash_must(p, mp_arena_join(p->arena));
}

static void receive_and_stop(struct point *p)
{
    become_user(p);
    letters_play(p, "r");
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
            letters_play(p, "pg");
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
    case 'h':
        get_task(p);
        break;
    case 'e':
        if (hands.n_tasks)
            end_task(p);
        break;
    case 'j':
        join(p);
        break;
    case 'J':
        survivor_wait_asleep(survivor_start(p, letters_join));
        break;
    case 'z':
        crash_must(p, mp_queue_shutdown(p->queue, 1));
        break;
    case 'C':
        p->queue = mp_queue_close(p->queue);
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
        survivor_wait_asleep(survivor_start(p, letters_collect_one));
        break;
    case 't':
        survivor_wait_asleep(survivor_start(p, send_one));
        break;
    case 'm':
        take_memory(p);
        break;
    case 'n':
        letters_give_memory(p);
        break;
    case 'd':
        dead_consumer(p);
        break;
    case 'o':
        laps(p);
        break;
    }
}

void letters_play(struct point *p, const char *letters)
{
    for (; letters && *letters; letters++)
        play_one(p, *letters);
}

/* ---- a scenario ---- */

void letters_begin(struct point *p)
{
    memset(&hands, 0, sizeof hands);
    memset(&receipts, 0, sizeof receipts);
    hands.next = LEDGER_SURVIVORS;
    crash_must(
        p, mp_queue_create(p->arena, "queue",
                           MP_QUEUE_OPTIONS(.maxsize = MAXSIZE, .flags = letters_detail(p)->flags),
                           &p->queue));
    letters_play(p, letters_detail(p)->before);
}

void letters_prepare(struct point *p)
{
    become_user(p);
    letters_play(p, letters_detail(p)->prepare);
    hands.timeout_ns = letters_detail(p)->asleep ? MP_FOREVER : 0;
}

void letters_ready(struct point *p)
{
    letters_play(p, letters_detail(p)->ready);
}

void letters_operate(struct point *p)
{
    letters_play(p, letters_detail(p)->operate);
}

void letters_asleep(struct point *p)
{
    letters_play(p, letters_detail(p)->asleep);
}

void letters_meanwhile(struct point *p)
{
    letters_play(p, letters_detail(p)->meanwhile);
}
