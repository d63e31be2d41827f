/* SPDX-License-Identifier: MIT */
/*
 * Blocks: allocation and freeing, crates, extents.
 *
 * Afterwards the whole arena must be there again: two blocks of half its size.
 */

#include <errno.h>
#include <string.h>

#include "arena/block.h"
#include "base/clock.h"
#include "base/macro.h"
#include "crash/crash.h"

#define SIZE 200u
#define BLOCKS_MOST 2048u

struct detail {
    size_t size;     /* what the victim allocates */
    unsigned crates; /* free blocks of this size that the survivor leaves in crates */
    unsigned warm;   /* blocks that the victim has had in its hands */
    unsigned has;    /* those that it has in its hands before the operation */
    unsigned n;      /* how many it allocates or frees under way */
    bool full;       /* the survivor has all other memory */
    bool waits;      /* a survivor waits for a block */
    size_t litter;   /* all memory lies in crates, as blocks of this size */
};

static struct {
    void *blocks[BLOCKS_MOST];
    unsigned n;
} hands;

static const struct detail *detail(const struct point *p)
{
    return p->scenario->detail;
}

static void take(struct point *p, size_t size, unsigned n, uint64_t timeout_ns)
{
    while (n-- > 0 && hands.n < BLOCKS_MOST) {
        if (mp_block_alloc(p->arena, size, timeout_ns, &hands.blocks[hands.n]) < 0)
            return;
        memset(hands.blocks[hands.n++], 0x5a, 64);
    }
}

static void give(struct point *p, unsigned n)
{
    for (; n > 0 && hands.n > 0; n--)
        crash_check(p, mp_block_free(p->arena, hands.blocks[--hands.n]) == 0);
}

/* ---- survivors ---- */

static void wait_for_block(struct point *p, struct survivor *s)
{
    void *block;

    s->result = mp_block_alloc(p->arena, SIZE, MP_FOREVER, &block);
    if (s->result < 0)
        crash_fail(p, "a survivor got no block: %d", s->result);
    else
        crash_check(p, mp_block_free(p->arena, block) == 0);
}

static void begin(struct point *p)
{
    const struct detail *d = detail(p);

    hands.n = 0;
    take(p, d->size, d->crates, 0);
    give(p, d->crates);
    mp_thread_flush(p->arena);
}

static void ready(struct point *p)
{
    const struct detail *d = detail(p);

    if (d->full)
        take(p, d->size, BLOCKS_MOST, 0);
    if (d->litter) {
        take(p, d->litter, BLOCKS_MOST, 0);
        give(p, BLOCKS_MOST);
        mp_thread_flush(p->arena);
    }
    if (d->waits)
        survivor_wait_asleep(survivor_start(p, wait_for_block));
}

static void give_one(struct point *p)
{
    give(p, 1);
}

/* ---- victims ---- */

static void prepare(struct point *p)
{
    const struct detail *d = detail(p);

    crash_must(p, mp_arena_join(p->arena));
    hands.n = 0;
    take(p, d->size, d->warm, 0);
    give(p, d->warm - d->has);
}

static void allocate(struct point *p)
{
    take(p, detail(p)->size, detail(p)->n, 0);
}

static void allocate_waiting(struct point *p)
{
    take(p, detail(p)->size, detail(p)->n, MP_FOREVER);
}

static void free_some(struct point *p)
{
    give(p, detail(p)->n);
}

/* ---- after the kill ---- */

static void after(struct point *p)
{
    void *half[2];

    survivors_join(p);
    survivors_wait_swept(p);
    give(p, BLOCKS_MOST);
    for (unsigned i = 0; i < 2; i++) {
        int r = mp_block_alloc(p->arena, mp_arena_max_block(p->arena), 0, &half[i]);

        if (r < 0)
            crash_fail(p, "half %u of the arena is not to be had: %d", i, r);
        else
            p->held++;
    }
    audit_arena(p);
    for (unsigned i = 0; p->held > 0; i++, p->held--)
        crash_check(p, mp_block_free(p->arena, half[i]) == 0);
    take(p, SIZE, 8, 0);
    give(p, 8);
}

/* clang-format off */
#define CASE(text, how, ...)                                                                  \
    {.name = text, .detail = &(const struct detail){__VA_ARGS__}, .begin = begin,             \
     .prepare = prepare, .ready = ready, .operate = how, .after = after}

static const struct scenario scenarios[] = {
    CASE("block: allocate", allocate, .size = SIZE, .crates = 8, .warm = 1, .n = 1),
    CASE("block: allocate, first use", allocate, .size = SIZE, .crates = 8, .n = 1),
    CASE("block: allocate, refill from a crate", allocate, .size = SIZE, .crates = 8, .warm = 4,
        .has = 4, .n = 1),
    CASE("block: allocate, back an extent", allocate, .size = SIZE, .warm = 1, .has = 1, .n = 1),
    CASE("block: allocate, take memory from others", allocate, .size = SIZE, .warm = 1, .has = 1,
        .litter = 8192, .n = 1),
    CASE("block: free", free_some, .size = SIZE, .crates = 8, .warm = 1, .has = 1, .n = 1),
    CASE("block: free, flush to a crate", free_some, .size = SIZE, .crates = 12, .warm = 10,
        .has = 5, .n = 1),
    CASE("block: free, one block a crate", free_some, .size = 4000, .crates = 4, .warm = 3,
        .has = 3,
        .n = 2),
    CASE("block: free, somebody waits", free_some, .size = SIZE, .warm = 4, .has = 4, .n = 1,
        .full = true, .waits = true),
    {.name = "block: allocate, wait for memory",
     .detail = &(const struct detail){.size = SIZE, .warm = 1, .has = 1, .n = 1, .full = true},
     .begin = begin, .prepare = prepare, .ready = ready, .operate = allocate_waiting,
     .asleep = give_one, .after = after},
    {.name = "block: back an extent of many crates",
     .detail = &(const struct detail){.size = 64, .n = 1},
     .begin = begin, .prepare = prepare, .ready = ready, .operate = allocate, .after = after,
     .size = 1 << 20},
};
/* clang-format on */

const struct group crash_blocks = {"blocks", scenarios, MP_ARRAY_SIZE(scenarios)};
