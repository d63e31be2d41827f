/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What lies in an arena, word by word. Everything here is shared with processes that may die at any
 * instruction or write anything anywhere, so:
 *
 *   - Ownership is one atomic word that names its owner's participant slot. A slot is used again
 *     only after a sweep (arena/recover.c) has removed its name from every word; so a slot number
 *     alone says who. Only the words of sync objects carry a generation instead (arena/token.h):
 *     they are void the moment the generation moves, before any sweep.
 *   - Geometry (sizes, counts, offsets) is computed from three numbers when the arena is created or
 *     attached (arena/geometry.c), kept in the handle, and never read again.
 *   - A reader loads a word once, checks it against the geometry, and uses the copy.
 *
 * The regions, in this order, each aligned to 4096:
 *
 *   header | slots | wait records | directory | extent words | crate words | crates | block words |
 *   block meta | blocks
 */

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include <mp/arena.h>

#include "base/atomic.h"

#define MP_MAGIC UINT64_C(0x31414e4552415f70) /* "p_ARENA1" */
#define MP_VERSION 1u

/* Sizes of blocks are 64 << class. */
#define MP_CLASSES_MAX 34
#define MP_BLOCK_MIN 64u
#define MP_CLASS_BLOCKS_MAX (1u << 19)
#define MP_BLOCKS_MAX (1u << 24)

#define MP_CRATE_SIZE 30u

/* ---- the header ---- */

struct mp_class_control {
    mp_a32 hint;   /* where the search for a full or an empty crate starts */
    mp_a32 high;   /* one past the highest crate ever filled */
    mp_a32 extent; /* where the search for an extent starts */
    uint32_t pad[13];
};
static_assert(sizeof(struct mp_class_control) == 64, "one line each");

struct mp_header {
    uint64_t magic;
    uint32_t version;
    uint32_t fingerprint; /* of all layouts here (arena/geometry.c) */
    uint64_t total;       /* bytes of the memfd */
    uint64_t size;        /* the three numbers that give the geometry */
    uint32_t participants;
    uint32_t objects;
    char name[MP_NAME_MAX + 1];
    uint64_t creator_start;
    uint32_t creator_pid;
    uint32_t pad0;
    uint64_t created_ns;        /* CLOCK_REALTIME */
    _Alignas(64) mp_a32 deaths; /* counts the retired; who waits for a death waits for this */
    _Alignas(64) mp_a32 high;   /* slots ever used: bound of the scans, clamped to the geometry's */
    mp_a32 next_slot;           /* where the search for a free slot starts: a hint */
    mp_a32 objects_high;        /* directory entries ever used */
    mp_a32 next_object;         /* where the search for a free entry starts: a hint */
    _Alignas(64) mp_a32 recovery; /* token of the one who sweeps */
    mp_a32 fence;              /* not 0: somebody cannot run membarrier, so publishers must fence */
    _Alignas(64) mp_a32 freed; /* sleep word: those who wait for memory (arena/sleep.h) */
    _Alignas(64) struct mp_class_control classes[MP_CLASSES_MAX];
};
static_assert(offsetof(struct mp_header, deaths) == 128, "layout");
static_assert(sizeof(struct mp_header) <= 4096, "one page");

/* ---- participants ---- */

/*
 * state = {generation:32 high, live:32 low}; `live` is the kernel's robust word.
 *
 *   state            who moves it, and how                       a crash leaves   repaired by
 *   {g, 0}           free: an attaching keeper, CAS {g, tid|W}   OWNER_DIED       watcher, scans
 *   {g, tid|W}       live: the kernel, or its keeper (detach,    OWNER_DIED       watcher, scans
 *                    with id 0), {g, tid|W|DIED}
 *   {g, tid|W|DIED}  who saw the process gone, CAS               the same         the next one
 *                    {g+1, RETIRED}
 *   {g+1, RETIRED}   the sweeper once no word names the slot,    the same         the next sweeper
 *                    CAS {g+1, 0}; or, where no slot is free,
 *                    an attaching keeper, which then sweeps
 */
struct mp_slot {
    _Alignas(64) mp_a64 state;
    mp_a64 id; /* {generation+1:32, pid:32}: believed only if the tag fits the state's generation */
    mp_a64 start;     /* start time of the process, written before id */
    mp_a32 namespace; /* inode of its pid namespace */
    mp_a32 poke;      /* moved to make its keeper look round */
    mp_a32 flags;
    char name[20]; /* of the process, for people */
};
static_assert(sizeof(struct mp_slot) == 64 && offsetof(struct mp_slot, state) == 0, "layout");

#define MP_LIVE_TID 0x3fffffffu
#define MP_LIVE_RETIRED 0x3fffffffu /* no thread has this id */

/* Who is asleep for what, for people to look at: written before a sleep, not read by the
 * library. */
struct mp_wait_record {
    mp_a64 who;  /* {generation+1:32, tid:32}: of the slot that it lies with; 0: free */
    mp_a64 what; /* {since in ms:40, kind of wait:8 (MP_WAIT_*), directory index:16} */
    mp_a64 part; /* of that object: the number of a lock of many */
};

enum {
    MP_WAIT_LOCK = 1,
    MP_WAIT_NOT_EMPTY,
    MP_WAIT_NOT_FULL,
    MP_WAIT_BLOCK,
    MP_WAIT_RLOCK,
    MP_WAIT_WRITE,
    MP_WAIT_READ,
    MP_WAIT_SEMAPHORE,
    MP_WAIT_CONDITION,
    MP_WAIT_EVENT,
    MP_WAIT_BARRIER,
    MP_WAIT_ANY, /* of several objects: the first one */
    MP_WAIT_JOIN,
    MP_WAIT_VALUE, /* for the lock of one */
    MP_WAIT_ARRAY,
    MP_WAIT_MAP,
    MP_WAIT_LOCKS, /* one of many */
};

#define MP_WAIT_RECORDS_PER_SLOT 4u

/* ---- the directory of objects ---- */

enum mp_kind {
    MP_KIND_NONE = 0,
    MP_KIND_LOCK = 1,
    MP_KIND_QUEUE = 2,
    MP_KIND_BLOCK = 3,
    MP_KIND_RLOCK = 4,
    MP_KIND_RWLOCK = 5,
    MP_KIND_SEMAPHORE = 6,
    MP_KIND_CONDITION = 7,
    MP_KIND_EVENT = 8,
    MP_KIND_BARRIER = 9,
    MP_KIND_LOCKS = 10,
    MP_KIND_VALUE = 11,
    MP_KIND_ARRAY = 12,
    MP_KIND_MAP = 13,
};

/*
 * state = {generation:32, kind:8, spare:8, slot:10, 0:2, state:4}; every change of use moves the
 * generation, so a handle compares the whole word with the one that it was opened on.
 *
 *   state        who moves it, and how                        a crash leaves   the sweep makes it
 *   FREE         creator: CAS BUILDING(me)
 *   DORMANT      creator of one whose memory is as large:
 *                CAS REVIVING(me)
 *   BUILDING(P)  P: CLAIMED(P) once name and content stand    BUILDING(D)      FREE
 *   REVIVING(P)  the same                                     REVIVING(D)      DORMANT
 *   CLAIMED(P)   P: LIVE if the name is its own, else back    CLAIMED(D)       FREE, or DORMANT
 *   LIVE         destroyer: CAS DYING(me)
 *   DYING(P)     P: FREE, or DORMANT; generation + 1          DYING(D)         the same, and
 *                                                                              sleepers are woken
 *
 * The memory of a queue's cells, and of shares, is never used for anything else (type-stable): a
 * handle to a destroyed object may still touch it. `block` is a container (arena/block.h): the
 * entry names its block from BUILDING on.
 */
enum {
    MP_ENTRY_FREE = 0,
    MP_ENTRY_DORMANT,
    MP_ENTRY_BUILDING,
    MP_ENTRY_REVIVING,
    MP_ENTRY_CLAIMED,
    MP_ENTRY_LIVE,
    MP_ENTRY_DYING,
};

struct mp_entry_word {
    uint32_t generation;
    uint32_t kind;
    uint32_t slot;
    uint32_t state;
};

static inline uint64_t mp_entry_pack(struct mp_entry_word w)
{
    return (uint64_t)w.generation << 32 | (uint64_t)(w.kind & 0xff) << 24 |
           (uint64_t)(w.slot & 0x3ff) << 6 | (w.state & 0xf);
}

static inline struct mp_entry_word mp_entry_unpack(uint64_t v)
{
    return (struct mp_entry_word){
        .generation = (uint32_t)(v >> 32),
        .kind = (uint32_t)(v >> 24) & 0xff,
        .slot = (uint32_t)(v >> 6) & 0x3ff,
        .state = (uint32_t)v & 0xf,
    };
}

struct mp_directory_entry {
    _Alignas(64) mp_a64 state;
    mp_a32 word; /* lock, rlock, rwlock, value, array, map: the word itself; condition: its futex */
    mp_a32 flags; /* queue: MP_QUEUE_*; semaphore: its kind; barrier: parties;
                     condition: waiters?; value, array: {type, MP_VALUE_*} */
    mp_a64 block; /* {1:1 high, block number:32}; 0: none. Sync objects: their shares, see below */
    mp_a64 size;  /* block: bytes asked for; queue: longest message; shares: bytes a slot; value,
                     array: bytes an item; map: longest key << 32 | longest value */
    mp_a64 cells; /* queue: cells in the ring (a power of two) << 32 | maxsize; barrier: the phase
                     last reset, + 1; value, array: items; map: most entries */
    mp_a64 value; /* the state of a semaphore, condition, event, barrier; rlock, value, array:
                     {count, thread}; rwlock: two sleep words */
    mp_a32 waiter_cpu; /* sync objects: CPU + 1 on which one last waited; hints, for the spin */
    mp_a32 waker_cpu;  /* and on which one last woke another */
    char pad[8];
    char name[MP_NAME_MAX + 1];
    char pad1[16];
};
static_assert(sizeof(struct mp_directory_entry) == 128, "two lines");

#define MP_LOCKS_SLEEPS 64u           /* sleep words at the beginning of the memory of many locks */
#define MP_VALUE_DESTROYED UINT64_MAX /* no state of any sync object */

/*
 * Shares: what each participant has of a sync object, in a block of the entry's: one word a slot,
 * at a stride of `size` bytes. Only threads of that participant write it, and the sweep, once the
 * participant is gone: so what it had comes back without a trace of it left in other words.
 */

/* Of a rwlock: {low bits of the entry's generation:32, threads that read:32}. What a reader adds to
 * the share of a lock that is gone by then, it does not take out of another's. */
static inline uint32_t mp_share_readers(uint64_t share)
{
    return (uint32_t)share;
}

/* The low bits of a barrier's value (sync/barrier.c), as far as the sweep has to know them. */
#define MP_BARRIER_SLEEPERS UINT64_C(1)
#define MP_BARRIER_BROKEN UINT64_C(2)

static inline uint64_t mp_barrier_break(uint64_t v)
{
    return (v & ~(UINT64_C(0xffff) << 32 | MP_BARRIER_SLEEPERS)) | MP_BARRIER_BROKEN;
}

/* ---- blocks ---- */

/*
 * Word of an extent, the unit in which memory is given to a class: {slot:10 << 4, state:2}.
 *
 *   state        who moves it, and how                          a crash leaves  the sweep makes it
 *   UNBACKED     anyone short of blocks: CAS CHARGED(me)
 *   CHARGED(P)   P: BACKED once its block words say OWNED(P),   CHARGED(D)      UNBACKED
 *                or UNBACKED when the sum is over the size
 *   BACKED       who holds all its blocks: CAS CHARGED(me),     CHARGED(D)      UNBACKED
 *                then punches a hole and goes to UNBACKED
 */
enum { MP_EXTENT_UNBACKED = 0, MP_EXTENT_CHARGED = 1, MP_EXTENT_BACKED = 2 };

static inline uint32_t mp_extent_word(uint32_t state, uint32_t slot)
{
    return slot << 4 | state;
}

/* Word of a block: {seq:32, deliveries:8, spare:8, slot:10, 0:2, state:4}. See arena/block.h for
 * who may move it. */
enum {
    MP_BLOCK_FREE = 0,
    MP_BLOCK_OWNED,     /* in a magazine, or loaned */
    MP_BLOCK_ALLOCATED, /* mp_block_alloc, or named by a directory entry */
    MP_BLOCK_QUEUED,
    MP_BLOCK_LEASED,
    MP_BLOCK_RETURNED,
};

static inline uint64_t mp_block_word(uint32_t state, uint32_t slot, uint32_t deliveries,
                                     uint32_t seq)
{
    return (uint64_t)seq << 32 | (uint64_t)(deliveries & 0xff) << 24 |
           (uint64_t)(slot & 0x3ff) << 6 | state;
}

static inline uint32_t mp_block_state(uint64_t w)
{
    return (uint32_t)w & 0xf;
}

static inline uint32_t mp_block_slot(uint64_t w)
{
    return (uint32_t)(w >> 6) & 0x3ff;
}

static inline uint32_t mp_block_deliveries(uint64_t w)
{
    return (uint32_t)(w >> 24) & 0xff;
}

static inline uint32_t mp_block_seq(uint64_t w)
{
    return (uint32_t)(w >> 32);
}

/* The seq of a block that a single consumer took at this position; that of all others is below
 * it. */
static inline uint32_t mp_position_tag(uint64_t position)
{
    return (uint32_t)position | 0x80000000u;
}

/* Meta of a block: {length:40, low bits of the queue's generation:8, its directory index:16};
 * written by the owner before a commit. The low 24 bits tell which queue it belongs to. */
static inline uint64_t mp_block_meta(uint64_t length, uint32_t queue)
{
    return length << 24 | (queue & 0xffffff);
}

static inline uint32_t mp_meta_queue(uint32_t object, uint32_t generation)
{
    return (generation & 0xff) << 16 | (object & 0xffff);
}

/* Word of a crate: {seq:32, count:8, spare:8, slot:10, 0:2, state:4}. */
enum { MP_CRATE_EMPTY = 0, MP_CRATE_FULL, MP_CRATE_FILL, MP_CRATE_DRAIN };

static inline uint64_t mp_crate_word(uint32_t state, uint32_t slot, uint32_t count, uint32_t seq)
{
    return (uint64_t)seq << 32 | (uint64_t)(count & 0xff) << 24 | (uint64_t)(slot & 0x3ff) << 6 |
           state;
}

#define mp_crate_state mp_block_state
#define mp_crate_slot mp_block_slot
#define mp_crate_count mp_block_deliveries
#define mp_crate_seq mp_block_seq

struct mp_crate {
    mp_a32 blocks[32];
};
static_assert(sizeof(struct mp_crate) == 128 && MP_CRATE_SIZE <= 32, "layout");

/* ---- rings ---- */

/*
 * A ring lies in a block of its own: this header, then the cells. Cell: EMPTY and FULL {lap:38,
 * block:24, state:2}, TAKEN {slot:10, lap:28, block:24, state:2}. See queue/mpmc.c and queue/spsc.c
 * for who may move them.
 */
enum { MP_CELL_EMPTY = 0, MP_CELL_FULL = 1, MP_CELL_TAKEN = 2 };

#define MP_LAP_MASK ((UINT64_C(1) << 38) - 1)
#define MP_LAP28_MASK ((UINT64_C(1) << 28) - 1)

static inline uint64_t mp_cell_empty(uint64_t lap)
{
    return lap << 26; /* what is over 38 bits falls out */
}

static inline uint64_t mp_cell_full(uint64_t lap, uint32_t block)
{
    return lap << 26 | (uint64_t)block << 2 | MP_CELL_FULL;
}

static inline uint64_t mp_cell_taken(uint32_t slot, uint64_t lap, uint32_t block)
{
    return (uint64_t)slot << 54 | (lap & MP_LAP28_MASK) << 26 | (uint64_t)block << 2 |
           MP_CELL_TAKEN;
}

/* Is there a message of this lap in the cell, in whichever block? */
static inline bool mp_cell_is_full(uint64_t v, uint64_t lap)
{
    return (v & ~(UINT64_C(0xffffff) << 2)) == mp_cell_full(lap, 0);
}

static inline uint32_t mp_cell_state(uint64_t v)
{
    return (uint32_t)v & 3;
}

static inline uint32_t mp_cell_block(uint64_t v)
{
    return (uint32_t)(v >> 2) & 0xffffff;
}

static inline uint64_t mp_cell_lap28(uint64_t v)
{
    return v >> 26 & MP_LAP28_MASK;
}

static inline uint32_t mp_cell_slot(uint64_t v)
{
    return (uint32_t)(v >> 54);
}

/* The lap of a TAKEN cell, of which it has the low 28 bits: the one nearest to `near`. */
static inline uint64_t mp_cell_taken_lap(uint64_t v, uint64_t near)
{
    const uint64_t half = UINT64_C(1) << 27;

    return near + ((mp_cell_lap28(v) - near + half) & MP_LAP28_MASK) - half;
}

/* What the sweep has to know of a queue's flags: the same as MP_QUEUE_*. */
enum {
    MP_RING_SINGLE_PRODUCER = 1u << 0,
    MP_RING_SINGLE_CONSUMER = 1u << 1,
    MP_RING_DROP_HELD = 1u << 2,
};

enum { MP_PHASE_OPEN = 0, MP_PHASE_SHUT = 1, MP_PHASE_ENDED = 2, MP_PHASE_DESTROYED = 3 };

static inline uint32_t mp_phase(uint32_t generation, uint32_t phase)
{
    return generation << 2 | phase;
}

struct mp_ring {
    _Alignas(64) mp_a64 tail; /* mpmc: hint: messages ever committed */
    _Alignas(64) mp_a64 head; /* mpmc: hint: messages ever taken; spsc: published by the consumer */
    _Alignas(64) mp_a32 filled; /* sleep word of consumers */
    mp_a32 returned;            /* {count:31, there may be RETURNED blocks:1}: a hint */
    mp_a32 phase;               /* {generation of the entry:30, MP_PHASE_*:2} */
    mp_a32 consumer_cpu; /* CPU + 1 on which a consumer last waited, or woke a producer: hint */
    mp_a32 producer_cpu;
    mp_a32 fence;                 /* spsc: 1: the producer is to fence (queue/ring.c) */
    _Alignas(64) mp_a32 drained;  /* sleep word of producers */
    _Alignas(64) mp_a32 producer; /* tokens of the single producer and consumer, where declared */
    mp_a32 consumer;
    mp_a32 joined; /* sleep word of those who wait until all tasks are done */
    uint32_t pad[13];
    mp_a64 cells[];
};
static_assert(sizeof(struct mp_ring) == 320, "layout");

/* One more block is RETURNED. The count moves, so that who found none does not clear the flag over
 * it. */
static inline void mp_ring_add_returned(struct mp_ring *ring)
{
    atomic_fetch_add(&ring->returned, 2);
    atomic_fetch_or(&ring->returned, 1);
}

/* Is somebody between taking a message and emptying its cell? */
static inline bool mp_ring_is_busy(const struct mp_ring *ring, uint32_t cells)
{
    for (uint32_t i = 0; i < cells; i++)
        if (mp_cell_state(mp_load_acquire(&ring->cells[i])) == MP_CELL_TAKEN)
            return true;
    return false;
}

static inline bool mp_ring_has_returned(const struct mp_ring *ring)
{
    return mp_load_relaxed(&ring->returned) & 1;
}
