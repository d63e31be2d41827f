/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Blocks: the memory of an arena, in sizes of 64 << class.
 *
 * A block belongs to whoever its word names, until a *container* names the block: a full crate, a
 * ring's cell, a directory entry. Membership in a container wins over the word. A hand-over never
 * clears the giver's name first: the giver's word stays as it is, the container's word is changed
 * by one atomic, and the taker writes the block's word before it empties the container. So at each
 * instant at least one word names the block, and a crash needs no undo, only a look at the words.
 *
 *   from -> to                who, by which atomic   a crash leaves        repaired by
 *   crate FULL -> DRAIN(P)    P, CAS                 DRAIN(D)              DRAIN(D) -> FULL
 *   word -> OWNED(P), each    P, plain               the crate names it    the same
 *   crate DRAIN(P) -> EMPTY   P, release             OWNED(D)              sweep
 *   OWNED(P) -> ALLOCATED(P)  P, plain               ALLOCATED(D)          sweep
 *   crate EMPTY -> FILL(P)    P, CAS                 FILL(D), OWNED(D)     FILL(D) -> EMPTY, sweep
 *   entries; FILL -> FULL     P, plain; release      FULL names them       they become FREE
 *   (rings: see queue/mpmc.c and queue/spsc.c)
 *
 * Each thread has a magazine of blocks for each class, last freed first: they may still be in the
 * cache. Free blocks travel in crates of up to 30, one CAS at each end. Classes whose blocks are
 * few or large have no magazine to speak of, so that no thread sits on what another needs. A thread
 * that ends gives its magazine back.
 *
 * Starving: who finds no memory raises mp_header.freed; as long as anybody may starve, each free
 * goes to a crate at once.
 */

#include "arena/arena.h"
#include "arena/sleep.h"

struct mp_magazine {
    uint32_t n;
    uint32_t blocks[63]; /* at most 2 * MP_CRATE_SIZE + 1 */
};

/* What one thread keeps of one participation. */
struct mp_thread {
    struct mp_thread *next;
    struct mp_arena *arena;
    uint64_t life;
    struct mp_magazine magazines[];
};

extern _Thread_local struct mp_thread *mp_thread_current;

/* Moved whenever a block becomes OWNED or QUEUED, so that its word is never again what it was: who
 * helps a taker (queue/mpmc.c) may be stopped between his look at the word and his CAS. */
extern _Thread_local uint32_t mp_block_turn;

static inline uint32_t mp_block_turn_next(void)
{
    return mp_block_turn++ & 0x7fffffff;
}

/* Not as other threads. */
void mp_block_turn_begin(void);

static inline uint64_t mp_block_owned(const struct mp_arena *a)
{
    return mp_block_word(MP_BLOCK_OWNED, a->self->slot, 0, mp_block_turn_next());
}

struct mp_thread *mp_thread_get_slow(struct mp_arena *a, int *ret_error);

/* This thread's part in the arena; takes part first where needed. NULL and the error. */
static inline struct mp_thread *mp_thread_get(struct mp_arena *a, int *ret_error)
{
    struct mp_thread *t = mp_thread_current;

    /* `life` is never the same twice, so it tells the arena as well; it reads 0 in a forked
     * child. */
    if (mp_likely(t && t->life == mp_load_acquire(&a->self->life)))
        return t;
    return mp_thread_get_slow(a, ret_error);
}

/* Empty some full crate of a class into a magazine. False: there is none. */
bool mp_block_drain(struct mp_arena *a, uint32_t class, struct mp_magazine *m);

/* The block that a pointer points to. 0; -EINVAL. */
int mp_block_find(const struct mp_arena *a, const void *p, uint32_t *ret_class,
                  uint32_t *ret_block);

/* The same for a thread that can perhaps have no magazine. */
void mp_block_give_anyhow(struct mp_arena *a, uint32_t x);

int mp_block_refill(struct mp_arena *a, struct mp_thread *t, uint32_t class);
void mp_block_flush(struct mp_arena *a, uint32_t class, struct mp_magazine *m, uint32_t n);
void mp_block_give_slow(struct mp_arena *a, struct mp_thread *t, uint32_t class);

/* A block of a class, OWNED by us. 0; -ENOBUFS. */
static inline int mp_block_take(struct mp_arena *a, struct mp_thread *t, uint32_t class,
                                uint32_t *ret_block)
{
    struct mp_magazine *m = &t->magazines[class];

    if (mp_unlikely(m->n == 0)) {
        int r = mp_block_refill(a, t, class);

        if (r < 0)
            return r;
    }
    *ret_block = m->blocks[--m->n];
    return 0;
}

/* Give an OWNED block back. */
static inline void mp_block_give(struct mp_arena *a, struct mp_thread *t, uint32_t class,
                                 uint32_t block)
{
    struct mp_magazine *m = &t->magazines[class];
    uint32_t batch = a->geometry.classes[class].batch;

    m->blocks[m->n++] = block;
    if (mp_unlikely(m->n >= 2 * batch || batch == 1 || (mp_load_relaxed(&a->header->freed) & 1)))
        mp_block_give_slow(a, t, class);
}

/* As mp_block_take, waiting for others; takes a larger class where this one can not be had. 0 and
 * the class; -ENOBUFS (deadline 0), -ETIMEDOUT, or what `stop` (may be NULL) says, asked before
 * each sleep. */
int mp_block_wait(struct mp_arena *a, struct mp_thread *t, uint32_t class, uint64_t deadline_ns,
                  int (*stop)(const void *), const void *user, uint32_t *ret_class,
                  uint32_t *ret_block);

/* When this thread ends, its magazines are to be given back, and the keeper is to hear of it.
 * False: no memory. */
bool mp_thread_hook(void);

/* Give this thread's magazines of an arena back. */
void mp_thread_flush(struct mp_arena *a);

/* ---- extents (arena/extent.c) ---- */

/* Back one more extent of a class and own its blocks: some into the magazine, the rest into
 * crates. 0; -ENOBUFS. */
int mp_extent_back(struct mp_arena *a, struct mp_thread *t, uint32_t class);

/* Take memory away from classes that do not use it. True: some extent is free for others now. */
bool mp_extent_trim(struct mp_arena *a, struct mp_thread *t);

/* Bytes charged by all extents. */
uint64_t mp_extent_sum(const struct mp_arena *a);

static inline bool mp_block_is_backed(const struct mp_arena *a, const struct mp_class *k,
                                      uint32_t x)
{
    return (mp_load_acquire(&a->extents[k->first_extent + ((x - k->first) >> k->extent_shift)]) &
            3) == MP_EXTENT_BACKED;
}
