/* SPDX-License-Identifier: MIT */
/*
 * Those who sweep are killed, too.
 *
 * Somebody dies in the middle of something, with one of everything in its hands. Another, the
 * victim here, retires it and sweeps after it, and is killed after each of its instructions. A
 * third has to find both.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>

#include "arena/block.h"
#include "arena/directory.h"
#include "arena/liveness.h"
#include "base/clock.h"
#include "base/macro.h"
#include "crash/crash.h"
#include "queue/queue.h"

#define SPSC (MP_QUEUE_SINGLE_PRODUCER | MP_QUEUE_SINGLE_CONSUMER)
#define MAXSIZE 16u
#define SIZE 200u
#define STOCK 16u
#define HELD 8u

/* Numbers of messages: those in the queue for many, in that for one, and in one to be destroyed. */
#define MANY LEDGER_SURVIVORS
#define ONE (LEDGER_SURVIVORS + 20)
#define OLD (LEDGER_SURVIVORS + 40)
#define EACH 5u

/* How somebody dies. */
struct death {
    void (*prepare)(struct point *p);
    void (*operate)(struct point *p);
    bool (*middle)(const struct point *p); /* it is killed as soon as this is so */
    void (*outcome)(struct point *p);      /* what may have become of what it did */
};

struct detail {
    struct death deaths[8];
};

static mp_queue *single, *old;
static mp_lock *lock;
static struct receipts receipts;
static struct survey ways[MP_ARRAY_SIZE(((struct detail *)0)->deaths)];
static const struct scenario *ways_of; /* the scenario that the ways are of */
static uint32_t dead;                  /* the slot of the one who is about to die */
static void *blocks[STOCK];

static const struct detail *detail(const struct point *p)
{
    return p->scenario->detail;
}

static void now(struct point *p, uint32_t number, uint32_t state)
{
    mp_store_seqcst(&p->note->ledger.state[number], state);
}

/* ---- those who die first ---- */

static void join(struct point *p)
{
    crash_must(p, mp_arena_join(p->arena));
}

static void hold_blocks(struct point *p)
{
    for (unsigned i = 0; i < HELD; i++)
        crash_must(p, mp_block_alloc(p->arena, SIZE, 0, &blocks[i]));
}

static void hold_one_of_each(struct point *p)
{
    struct mp_message m;
    void *block;

    crash_must(p, mp_lock_acquire(lock, 0));
    crash_must(p, mp_queue_receive(p->queue, 0, &m));
    now(p, MANY, MESSAGE_HELD);
    crash_must(p, mp_queue_receive(single, 0, &m));
    crash_must(p, mp_queue_release(single, &m));
    now(p, ONE, MESSAGE_DONE);
    crash_must(p, mp_queue_receive(single, 0, &m));
    now(p, ONE + 1, MESSAGE_HELD);
    crash_must(p, mp_queue_loan(p->queue, SIZE, 0, &m));
    hold_blocks(p);
    crash_must(p, mp_block_alloc(p->arena, 1000, 0, &block));
}

static void refill(struct point *p)
{
    for (unsigned i = HELD; i < HELD + 5; i++)
        crash_must(p, mp_block_alloc(p->arena, SIZE, 0, &blocks[i]));
}

static void flush(struct point *p)
{
    for (unsigned i = 0; i < HELD; i++)
        crash_must(p, mp_block_free(p->arena, blocks[i]));
}

static void receive(struct point *p)
{
    struct mp_message m;

    mp_queue_receive(p->queue, 0, &m);
}

static void make_block(struct point *p)
{
    void *block;

    mp_block_create(p->arena, "new", SIZE, &block);
}

static void destroy_queue(struct point *p)
{
    (void)p;
    mp_queue_destroy(old);
}

static void destroy_single(struct point *p)
{
    (void)p;
    mp_queue_destroy(single);
}

static void destroy_block(struct point *p)
{
    mp_block_destroy(p->arena, "block");
}

static void back_extent(struct point *p)
{
    void *block;

    mp_block_alloc(p->arena, 9000, 0, &block);
}

/* ---- where it dies ---- */

static bool any_crate(const struct point *p, uint32_t state)
{
    for (uint32_t i = 0; i < p->arena->geometry.crates; i++) {
        uint64_t w = mp_load_relaxed(&p->arena->crate_words[i]);

        if (mp_crate_state(w) == state && mp_crate_slot(w) == dead)
            return true;
    }
    return false;
}

static bool in_refill(const struct point *p)
{
    return any_crate(p, MP_CRATE_DRAIN);
}

static bool in_flush(const struct point *p)
{
    return any_crate(p, MP_CRATE_FILL);
}

static bool any_taken(const struct point *p, const mp_queue *queue, uint32_t state)
{
    for (uint32_t i = 0; i < queue->cells; i++) {
        uint64_t v = mp_load_relaxed(&queue->ring->cells[i]);

        if (mp_cell_state(v) == MP_CELL_TAKEN && mp_cell_slot(v) == dead &&
            mp_block_state(mp_load_relaxed(&p->arena->words[mp_cell_block(v)])) == state)
            return true;
    }
    return false;
}

static bool in_take(const struct point *p)
{
    return any_taken(p, p->queue, MP_BLOCK_OWNED);
}

static bool in_take_written(const struct point *p)
{
    return any_taken(p, p->queue, MP_BLOCK_LEASED);
}

static bool in_drain(const struct point *p)
{
    return any_taken(p, old, MP_BLOCK_OWNED);
}

static bool any_entry(const struct point *p, uint32_t state, bool with_block)
{
    for (uint32_t i = 0; i < mp_arena_objects_high(p->arena); i++) {
        const struct mp_directory_entry *e = &p->arena->directory[i];
        struct mp_entry_word w = mp_entry_unpack(mp_load_relaxed(&e->state));

        if (w.state == state && w.slot == dead && (mp_load_relaxed(&e->block) != 0) == with_block)
            return true;
    }
    return false;
}

static bool in_building(const struct point *p)
{
    return any_entry(p, MP_ENTRY_BUILDING, true);
}

static bool in_claim(const struct point *p)
{
    return any_entry(p, MP_ENTRY_CLAIMED, true);
}

static bool in_dying(const struct point *p)
{
    return any_entry(p, MP_ENTRY_DYING, true);
}

static bool in_dying_single(const struct point *p)
{
    return in_dying(p) && mp_load_relaxed(&single->ring->phase) != single->phase;
}

static bool in_backing(const struct point *p)
{
    for (uint32_t e = 0; e < p->arena->geometry.extents; e++)
        if (mp_load_relaxed(&p->arena->extents[e]) == mp_extent_word(MP_EXTENT_CHARGED, dead))
            return true;
    return false;
}

/* ---- what may have become of it ---- */

static void may_be_marked(struct point *p)
{
    uint32_t many = mp_load_seqcst(&p->note->ledger.many);

    ledger_begin(&p->note->ledger, DOING_RECEIVE, 0, many + 1);
}

static void old_is_gone(struct point *p)
{
    for (uint32_t i = 0; i < EACH; i++)
        now(p, OLD + i, MESSAGE_DONE);
}

static void single_is_gone(struct point *p)
{
    for (uint32_t i = 0; i < EACH; i++)
        now(p, ONE + i, MESSAGE_DONE);
}

/* ---- survivors ---- */

static void send(struct point *p, mp_queue *queue, uint32_t number)
{
    char bytes[SIZE];

    ledger_fill(bytes, sizeof bytes, number);
    crash_must(p, mp_queue_put(queue, bytes, sizeof bytes, 0));
    now(p, number, MESSAGE_SENT);
}

static void begin(struct point *p)
{
    void *block;

    memset(&receipts, 0, sizeof receipts);
    crash_must(p, mp_lock_create(p->arena, "lock", &lock));
    crash_must(p,
               mp_queue_create(p->arena, "many", MP_QUEUE_OPTIONS(.maxsize = MAXSIZE), &p->queue));
    crash_must(p, mp_queue_create(p->arena, "one",
                                  MP_QUEUE_OPTIONS(.maxsize = MAXSIZE, .flags = SPSC), &single));
    crash_must(p, mp_queue_create(p->arena, "old", MP_QUEUE_OPTIONS(.maxsize = MAXSIZE), &old));
    crash_must(p, mp_block_create(p->arena, "block", SIZE, &block));
    for (uint32_t i = 0; i < EACH; i++) {
        send(p, p->queue, MANY + i);
        send(p, single, ONE + i);
        send(p, old, OLD + i);
    }
    single = mp_queue_close(single); /* leaves the role to others */
    crash_must(p, mp_queue_open(p->arena, "one", &single));
    for (unsigned i = 0; i < STOCK; i++)
        crash_must(p, mp_block_alloc(p->arena, SIZE, 0, &blocks[i]));
    for (unsigned i = 0; i < STOCK; i++)
        crash_must(p, mp_block_free(p->arena, blocks[i]));
    mp_thread_flush(p->arena);
}

static void acquire(struct point *p, struct survivor *s)
{
    (void)p;
    s->result = mp_lock_acquire(lock, MP_FOREVER);
    if (s->result != MP_OWNER_DIED)
        crash_fail(p, "the lock's owner died, and the one who waits got %d", s->result);
    if (s->result >= 0)
        crash_check(p, mp_lock_release(lock) == 0);
}

/* The one who will sweep has its keeper stopped, so that nothing happens before it is stepped. The
 * first to die comes after it in the ring, so nobody else watches it. */
void crash_hold_keeper(struct point *p)
{
    struct victim keeper = {.pid = p->victim.pid};

    crash_until(p, (keeper.tid = crash_thread(keeper.pid, "mp-keeper")) != 0, "a keeper");
    crash_until(p, stepper_state(keeper.pid, keeper.tid) == 'S', "a keeper asleep");
    crash_must(p, stepper_seize(&keeper));
    p->victim.held = keeper.tid;
}

static void die(struct point *p, const struct death *d, struct survey *way)
{
    struct mp_arena *a = p->arena;
    struct victim v;

    crash_fork(p, &v, d->prepare, d->operate);
    for (dead = 0; (mp_load_seqcst(&a->slots[dead].id) & 0xffffffff) != (uint64_t)v.pid; dead++)
        if (dead + 1 == a->geometry.participants)
            crash_abort(p, "one who is to die takes no part");
    if (d->prepare == hold_one_of_each)
        survivor_wait_asleep(survivor_start(p, acquire));
    crash_step_until(p, &v, d->middle, way);
    stepper_kill(&v);
    if (d->outcome)
        d->outcome(p);
}

static void ready(struct point *p)
{
    const struct death *deaths = detail(p)->deaths;

    for (unsigned i = 0; i < MP_ARRAY_SIZE(ways) && ways_of != p->scenario; i++)
        survey_free(&ways[i]);
    ways_of = p->scenario;
    crash_hold_keeper(p);
    for (unsigned i = 0; i < MP_ARRAY_SIZE(ways) && deaths[i].operate; i++)
        die(p, &deaths[i], &ways[i]);
}

/* The keeper that was stopped is the victim: it goes on, and finds that its neighbour died. */
static void ready_keeper(struct point *p)
{
    ready(p);
    p->victim.tid = p->victim.held;
    p->victim.held = p->victim.pid;
    p->victim.in_call = true;
    mp_store_seqcst(&p->note->done, 1); /* nobody asked it: it is done when it sleeps */
}

static void sweep(struct point *p)
{
    mp_liveness_check(p->arena);
}

/* ---- after the kill ---- */

static void collect(struct point *p, mp_queue *queue, bool in_order)
{
    struct mp_message m;
    int r;

    while ((r = mp_queue_receive(queue, 0, &m)) == 0) {
        ledger_receipt(p, &receipts,
                       m.size == SIZE && ledger_is_whole(m.data, m.size)
                           ? ledger_read(m.data, m.size)
                           : LEDGER_MESSAGES,
                       m.deliveries, in_order);
        crash_check(p, mp_queue_release(queue, &m) == 0);
    }
    crash_check(p, r == -EAGAIN || r == -ESTALE);
}

static void after(struct point *p)
{
    void *block;

    survivors_join(p);
    survivors_wait_swept(p);
    collect(p, p->queue, true);
    collect(p, single, false);
    collect(p, old, false);
    ledger_check(p, &receipts, false);
    crash_check(p, mp_lock_try(lock) == 0);
    crash_check(p, mp_lock_release(lock) == 0);
    if (mp_block_create(p->arena, "new", SIZE, &block) < 0)
        crash_fail(p, "a block with a name can not be made any more");
    lock = mp_lock_close(lock);
    single = mp_queue_close(single);
    old = mp_queue_close(old);
}

/* clang-format off */
#define CASE(text, ...)                                                                       \
    {.name = text, .detail = &(const struct detail){{__VA_ARGS__}}, .begin = begin,           \
     .prepare = join, .ready = ready, .operate = sweep, .after = after, .states = true,       \
     .participants = 12}

static const struct scenario scenarios[] = {
    CASE("sweep: after one who had one of each",
        {hold_one_of_each, refill, in_refill, NULL}),
    {.name = "sweep: by the keeper",
     .detail = &(const struct detail){{{hold_one_of_each, flush, in_flush, NULL}}},
     .begin = begin, .prepare = join, .ready = ready_keeper, .operate = sweep, .after = after,
     .states = true, .keeper = true},
    CASE("sweep: after seven who died in the middle",
        {hold_one_of_each, flush, in_flush, NULL},
        {join, receive, in_take, may_be_marked},
        {join, receive, in_take_written, may_be_marked},
        {join, make_block, in_building, NULL},
        {join, destroy_queue, in_drain, old_is_gone},
        {join, destroy_block, in_dying, NULL},
        {join, back_extent, in_backing, NULL}),
    CASE("sweep: after three who died in the middle",
        {hold_blocks, refill, in_refill, NULL},
        {join, make_block, in_claim, NULL},
        {join, destroy_single, in_dying_single, single_is_gone}),
};
/* clang-format on */

const struct group crash_recovery = {"recovery", scenarios, MP_ARRAY_SIZE(scenarios)};
