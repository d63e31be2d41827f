/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The handle of an arena: one a process and arena, shared by all who opened it there.
 *
 * What belongs to this participation alone (slot, generation, token) lies in `self`, in a page that
 * every fork wipes: in a child it reads 0, so the fast paths miss and the slow path
 * (mp_arena_enter) takes part anew. No atfork handler is needed, and none would be called after a
 * raw clone.
 */

#include <stdbool.h>
#include <sys/types.h>

#include "arena/geometry.h"
#include "arena/layout.h"
#include "arena/token.h"
#include "base/macro.h"

struct mp_self {
    mp_a32 token; /* 0: this process does not take part (yet) */
    uint32_t slot;
    uint32_t generation;
    uint32_t fence;  /* 1: this process is not registered for membarrier and must fence itself */
    mp_a64 life;     /* never the same in a process and its forked children; 0 with token */
    mp_a32 sleepers; /* threads asleep, or about to be */
    mp_a32 looking;  /* 1: the keeper looks for deaths each second (arena/sleep.h) */
};

/* What the keeper knows of an arena that it has joined; for its thread alone. */
struct mp_watch {
    struct mp_watch *next;
    struct mp_arena *arena;
    uint64_t retry_ns; /* a death that could not be confirmed: not before this time again */
    uint64_t backoff_ns;
    uint64_t look_ns; /* when to look for deaths next; 0: not at all */
};

struct mp_arena {
    struct mp_arena *next;
    struct mp_watch watch;
    uint32_t references; /* under the keeper's lock */
    int fd;
    int byte_fd; /* own description of the memfd, for the byte lock (arena/liveness.c); -1 */
    dev_t device;
    ino_t inode;
    char *base;
    struct mp_self *self;
    struct mp_header *header;
    struct mp_slot *slots;
    struct mp_wait_record *waits;
    struct mp_directory_entry *directory;
    mp_a32 *extents;
    mp_a64 *crate_words;
    struct mp_crate *crates;
    mp_a64 *words;
    mp_a64 *meta;
    struct mp_geometry geometry;
    char name[MP_NAME_MAX + 1];
};

/* Private pages lie right below each arena, at one distance from the slots: the kernel's robust
 * list wants one offset. */
#define MP_PRIVATE_BYTES ((size_t)128 << 10)

static inline struct robust_list *mp_arena_node(const struct mp_arena *a, uint32_t slot)
{
    return (struct robust_list *)(void *)((char *)&a->slots[slot].state - MP_PRIVATE_BYTES);
}

/* The token of this process; takes part first where needed. 0 and the error in *ret_error. */
uint32_t mp_arena_enter_slow(struct mp_arena *a, int *ret_error);

static inline uint32_t mp_arena_enter(struct mp_arena *a, int *ret_error)
{
    uint32_t t = mp_load_acquire(&a->self->token); /* and what else self says */

    return mp_likely(t) ? t : mp_arena_enter_slow(a, ret_error);
}

static inline uint32_t mp_arena_slots_high(const struct mp_arena *a)
{
    return mp_min(mp_load_seqcst(&a->header->high), a->geometry.participants);
}

static inline uint32_t mp_arena_objects_high(const struct mp_arena *a)
{
    return mp_min(mp_load_seqcst(&a->header->objects_high), a->geometry.objects);
}

/* The block's memory; x was checked. */
static inline void *mp_arena_block(const struct mp_arena *a, const struct mp_class *k, uint32_t x)
{
    return a->base + k->offset + (uint64_t)(x - k->first) * k->block_size;
}

/* Keep an arena of this process from being unmapped, if it is still in this life. True: to be
 * let go of soon. */
bool mp_arena_hold(const struct mp_arena *a, uint64_t life);
void mp_arena_let_go(void);

/* Is this descriptor one of the arena's memfd? A program that closes what it does not know may have
 * another file under its number by now. */
bool mp_arena_is_fd(const struct mp_arena *a, int fd);

/* Close one of ours, if it still is. *fd is -1 afterwards. */
void mp_arena_close_fd(const struct mp_arena *a, int *fd);

/* A name is 1 to MP_NAME_MAX printable ASCII characters. */
bool mp_name_is_valid(const char *name);

/* Copies a name out of shared memory, bounded, with anything unprintable as '?'. */
void mp_name_copy(char ret[MP_NAME_MAX + 1], const char *shared, size_t size);

/* Check and map a memfd without taking part. The handle is freed with mp_arena_unmap(). As
 * mp_arena_attach(). */
int mp_arena_map(int fd, struct mp_arena **ret);
void mp_arena_unmap(struct mp_arena *a);
