/* SPDX-License-Identifier: MIT */
/*
 * Objects with names: made, opened, destroyed.
 *
 * Afterwards a name is either free or that of a whole object, and nothing else is left of the
 * attempt. Those who sleep on what is destroyed are told.
 */

#include <errno.h>
#include <string.h>

#include "arena/block.h"
#include "base/clock.h"
#include "base/macro.h"
#include "crash/crash.h"

#define NAME "object"
#define SPSC (MP_QUEUE_SINGLE_PRODUCER | MP_QUEUE_SINGLE_CONSUMER)
#define SIZE 200u
#define MAXSIZE 16u

struct detail {
    uint32_t flags;    /* of the queue */
    unsigned messages; /* in it */
    unsigned held;     /* of them, received by one who died */
};

static mp_lock *lock;
static mp_queue *queue;

static uint32_t flags_of(const struct point *p)
{
    const struct detail *d = p->scenario->detail;

    return d ? d->flags : 0;
}

/* ---- making and opening ---- */

static int create_lock(struct point *p)
{
    return mp_lock_create(p->arena, NAME, &lock);
}

static int create_queue(struct point *p)
{
    return mp_queue_create(p->arena, NAME,
                           MP_QUEUE_OPTIONS(.maxsize = MAXSIZE, .flags = flags_of(p)), &queue);
}

static int create_block(struct point *p)
{
    void *block;

    return mp_block_create(p->arena, NAME, SIZE, &block);
}

static void join(struct point *p)
{
    crash_must(p, mp_arena_join(p->arena));
}

/* It has a magazine, so that only what is new is stepped. */
static void join_and_allocate(struct point *p)
{
    void *block;

    crash_must(p, mp_block_alloc(p->arena, 1000, 0, &block));
    crash_must(p, mp_block_free(p->arena, block));
    crash_must(p, mp_block_alloc(p->arena, SIZE, 0, &block));
    crash_must(p, mp_block_free(p->arena, block));
}

static void operate_create_lock(struct point *p)
{
    crash_must(p, create_lock(p));
}

static void operate_create_queue(struct point *p)
{
    crash_must(p, create_queue(p));
}

static void operate_create_block(struct point *p)
{
    crash_must(p, create_block(p));
}

static void operate_create_taken(struct point *p)
{
    if (create_lock(p) != -EEXIST)
        mp_store_seqcst(&p->note->stage, 1);
}

static void operate_open(struct point *p)
{
    crash_must(p, mp_lock_open(p->arena, NAME, &lock));
    mp_lock_close(lock);
    crash_must(p, mp_queue_open(p->arena, "queue", &queue));
    mp_queue_close(queue);
}

static void use_lock(struct point *p)
{
    int r = mp_lock_open(p->arena, NAME, &lock);

    if (r == -ENOENT)
        r = create_lock(p);
    if (r < 0) {
        crash_fail(p, "the lock can neither be opened nor made: %d", r);
        return;
    }
    crash_check(p, create_lock(p) == -EEXIST);
    crash_check(p, mp_lock_try(lock) == 0);
    crash_check(p, mp_lock_release(lock) == 0);
    crash_check(p, mp_lock_destroy(lock) == 0);
    lock = mp_lock_close(lock);
}

static void after_lock(struct point *p)
{
    survivors_wait_swept(p);
    crash_check(p, p->note->stage == 0);
    use_lock(p);
}

static void use_queue(struct point *p)
{
    char out[SIZE], in[SIZE];
    int r = mp_queue_open(p->arena, NAME, &queue);
    size_t size;

    if (r == -ENOENT)
        r = create_queue(p);
    if (r < 0) {
        crash_fail(p, "the queue can neither be opened nor made: %d", r);
        return;
    }
    for (unsigned i = 0; i < 2 * MAXSIZE; i++) {
        memset(out, (int)i, sizeof out);
        crash_check(p, mp_queue_put(queue, out, sizeof out, 0) == 0);
        crash_check(p, mp_queue_get(queue, in, sizeof in, 0, &size) == 0 && size == sizeof out &&
                           memcmp(in, out, sizeof out) == 0);
    }
    crash_check(p, mp_queue_get(queue, in, sizeof in, 0, &size) == -EAGAIN);
    crash_check(p, mp_queue_destroy(queue) == 0);
    queue = mp_queue_close(queue);
}

static void after_queue(struct point *p)
{
    survivors_wait_swept(p);
    use_queue(p);
    use_queue(p);
}

static void after_block(struct point *p)
{
    size_t size;
    void *block;
    int r;

    survivors_wait_swept(p);
    r = mp_block_open(p->arena, NAME, &block, &size);
    if (r == 0) {
        static const char zeroes[SIZE];

        crash_check(p, size == SIZE && memcmp(block, zeroes, SIZE) == 0);
        memset(block, 1, size);
        crash_check(p, mp_block_destroy(p->arena, NAME) == 0);
    } else if (r != -ENOENT) {
        crash_fail(p, "the block is neither there nor not: %d", r);
    }
    crash_check(p, mp_block_create(p->arena, NAME, SIZE, &block) == 0);
    crash_check(p, mp_block_destroy(p->arena, NAME) == 0);
}

/* ---- destroying ---- */

static void wait_for_lock(struct point *p, struct survivor *s)
{
    s->result = mp_lock_acquire(p->lock, MP_FOREVER);
    if (s->result != -ESTALE)
        crash_fail(p, "the lock was destroyed, and its waiter got %d", s->result);
}

static void wait_for_message(struct point *p, struct survivor *s)
{
    struct mp_message m;

    s->result = mp_queue_receive(p->queue, MP_FOREVER, &m);
    if (s->result != -ESTALE && s->result != -EPIPE)
        crash_fail(p, "the queue was destroyed, and its consumer got %d", s->result);
}

static void begin_lock(struct point *p)
{
    crash_must(p, mp_lock_create(p->arena, NAME, &p->lock));
    crash_must(p, mp_lock_acquire(p->lock, 0));
    survivor_wait_asleep(survivor_start(p, wait_for_lock));
}

static void begin_held_name(struct point *p)
{
    crash_must(p, mp_lock_create(p->arena, NAME, &p->lock));
    crash_must(p,
               mp_queue_create(p->arena, "queue", MP_QUEUE_OPTIONS(.maxsize = MAXSIZE), &p->queue));
}

static void hold_messages(struct point *p)
{
    const struct detail *d = p->scenario->detail;
    struct mp_message m;

    for (unsigned i = 0; i < d->held; i++)
        crash_must(p, mp_queue_receive(p->queue, 0, &m));
}

static void nothing(struct point *p)
{
    (void)p;
}

static void fill_queue(struct point *p)
{
    const struct detail *d = p->scenario->detail;
    char bytes[SIZE] = {0};
    struct victim v;

    for (unsigned i = 0; i < d->messages; i++)
        crash_must(p, mp_queue_put(p->queue, bytes, sizeof bytes, 0));
    if (d->held == 0)
        return;
    crash_fork(p, &v, hold_messages, nothing);
    stepper_kill(&v);
    crash_until(p, survivors_are_alone(p), "the sweep after the first consumer");
}

static void begin_queue(struct point *p)
{
    crash_must(p, mp_queue_create(p->arena, NAME,
                                  MP_QUEUE_OPTIONS(.maxsize = MAXSIZE, .flags = flags_of(p)),
                                  &p->queue));
    fill_queue(p);
    if (!flags_of(p) && p->scenario->detail &&
        !((const struct detail *)p->scenario->detail)->messages)
        survivor_wait_asleep(survivor_start(p, wait_for_message));
}

/* Its memory is used again by the next queue with as many cells. */
static void begin_dormant(struct point *p)
{
    begin_queue(p);
    crash_must(p, mp_queue_destroy(p->queue));
    p->queue = mp_queue_close(p->queue);
}

static void begin_block(struct point *p)
{
    crash_must(p, create_block(p));
}

/* Single ends are the victim's, and so are the messages. */
static void join_with_messages(struct point *p)
{
    join(p);
    if (flags_of(p))
        for (unsigned i = 0; i < 3; i++)
            crash_must(p, mp_queue_put(p->queue, "x", 1, 0));
}

static void operate_destroy_lock(struct point *p)
{
    mp_lock_destroy(p->lock);
}

static void operate_destroy_queue(struct point *p)
{
    mp_queue_destroy(p->queue);
}

static void operate_shutdown(struct point *p)
{
    mp_queue_shutdown(p->queue, 0);
}

static void operate_shutdown_now(struct point *p)
{
    mp_queue_shutdown(p->queue, 1);
}

static void operate_destroy_block(struct point *p)
{
    mp_block_destroy(p->arena, NAME);
}

/* It is gone, or whole: then we destroy it. */
static void after_destroy_lock(struct point *p)
{
    int r;

    survivors_wait_swept(p);
    r = mp_lock_destroy(p->lock);
    crash_check(p, r == 0 || r == -ESTALE);
    survivors_join(p);
    use_lock(p);
}

static void after_destroy_queue(struct point *p)
{
    int r;

    survivors_wait_swept(p);
    r = mp_queue_destroy(p->queue);
    crash_check(p, r == 0 || r == -ESTALE);
    survivors_join(p);
    use_queue(p);
}

/* clang-format off */
#define WITH(...) &(const struct detail){__VA_ARGS__}

static const struct scenario scenarios[] = {
    {.name = "directory: make a lock", .prepare = join, .operate = operate_create_lock,
     .after = after_lock},
    {.name = "directory: make a lock, name taken", .begin = begin_held_name, .prepare = join,
     .operate = operate_create_taken, .after = after_lock},
    {.name = "directory: open", .begin = begin_held_name, .prepare = join, .operate = operate_open,
     .after = after_lock},
    {.name = "directory: make a queue", .prepare = join_and_allocate,
     .operate = operate_create_queue, .after = after_queue},
    {.name = "directory: make a queue of an old one", .detail = WITH(.messages = 3),
     .begin = begin_dormant, .prepare = join_and_allocate, .operate = operate_create_queue,
     .after = after_queue},
    {.name = "directory: make a block", .prepare = join_and_allocate,
     .operate = operate_create_block, .after = after_block},
    {.name = "directory: destroy a lock, waiter asleep", .begin = begin_lock, .prepare = join,
     .operate = operate_destroy_lock, .after = after_destroy_lock},
    {.name = "directory: destroy a queue, consumer asleep", .detail = WITH(.messages = 0),
     .begin = begin_queue, .prepare = join, .operate = operate_destroy_queue,
     .after = after_destroy_queue},
    {.name = "directory: destroy a queue with messages", .detail = WITH(.messages = 5, .held = 2),
     .begin = begin_queue, .prepare = join, .operate = operate_destroy_queue,
     .after = after_destroy_queue},
    {.name = "directory: destroy an spsc queue", .detail = WITH(.flags = SPSC),
     .begin = begin_queue, .prepare = join_with_messages, .operate = operate_destroy_queue,
     .after = after_destroy_queue},
    {.name = "directory: shut a queue down, consumer asleep", .detail = WITH(.messages = 0),
     .begin = begin_queue, .prepare = join, .operate = operate_shutdown,
     .after = after_destroy_queue},
    {.name = "directory: shut a queue down now", .detail = WITH(.messages = 5, .held = 2),
     .begin = begin_queue, .prepare = join, .operate = operate_shutdown_now,
     .after = after_destroy_queue},
    {.name = "directory: destroy a block", .begin = begin_block, .prepare = join_and_allocate,
     .operate = operate_destroy_block, .after = after_block},
};
/* clang-format on */

const struct group crash_directory = {"directory", scenarios, MP_ARRAY_SIZE(scenarios)};
