/* SPDX-License-Identifier: MIT */
/*
 * The sweep after deaths. D: a slot that is RETIRED, so its process is gone with all its threads;
 * R: who sweeps.
 *
 *   0. The recovery word is R's: one at a time. Its holder dead: taken over, and everything begins
 *      anew. A slow second sweeper could else act on what it saw before the first one ended.
 *   1. Crates in D's hands: FILL -> EMPTY, DRAIN -> FULL. Extents charged by D: UNBACKED.
 *   2. Directory: what D was building or destroying is undone or finished; lock words that name D
 *      say "the owner died".
 *   3. Rings: a cell TAKEN(D, x): x's word -> LEASED(D), then the cell -> EMPTY. A single
 *      consumer's head is published as far as it had got. All of this before step 4: once a block
 *      is RETURNED it travels, and a cell TAKEN(D, x) left over could no longer be told from a
 *      fresh one.
 *   4. Words: LEASED(D) -> RETURNED, or R's where the queue drops what was held, or has ended.
 *      OWNED(D), ALLOCATED(D) are candidates.
 *   5. Mark: a candidate that a container names is not lost, its word only loses D's name (QUEUED,
 *      FREE).
 *   6. The other candidates become R's and go to crates.
 *   7. All sleep words move and all sleepers wake: whoever D should have woken, or was woken in
 *      vain, looks again.
 *   8. No word names D any more: its slot is free.
 *
 * Every step is a CAS from exactly what was seen, and each may be done twice. If R dies, the next
 * sweeper has one more D. Why a scan beside live traffic is sound: a block leaves a container only
 * after its word was written by the taker, and D is gone, so a word that names D can not come back;
 * a CAS that fails was overtaken by a live owner, which is fine.
 *
 * What is read here may be hostile: numbers are checked against the geometry, every loop is bounded
 * by it.
 */

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "arena/block.h"
#include "arena/directory.h"
#include "arena/liveness.h"
#include "arena/recover.h"
#include "arena/repair.h"
#include "base/clock.h"
#include "base/cleanup.h"
#include "base/mutation.h"

#define ROUNDS_MOST 8

struct sweep {
    struct mp_arena *a;
    uint32_t slot;                            /* R's */
    uint64_t dead[MP_PARTICIPANTS_MAX / 64];  /* the Ds */
    uint8_t *candidates;                      /* a bit a block */
    struct mp_magazine found[MP_CLASSES_MAX]; /* R's, on their way to crates */
};

static bool is_dead(const struct sweep *s, uint32_t slot)
{
    return slot < s->a->geometry.participants && (s->dead[slot / 64] >> (slot % 64) & 1);
}

static bool is_candidate(const struct sweep *s, uint32_t x)
{
    return x < s->a->geometry.blocks && (s->candidates[x / 8] >> (x % 8) & 1);
}

static bool names_dead(const struct sweep *s, uint64_t word)
{
    uint32_t state = mp_block_state(word);

    return (state == MP_BLOCK_OWNED || state == MP_BLOCK_ALLOCATED) &&
           is_dead(s, mp_block_slot(word));
}

/* ---- 1 ---- */

static void sweep_crates(struct sweep *s)
{
    struct mp_arena *a = s->a;

    for (uint32_t c = 0; c < a->geometry.n_classes; c++) {
        const struct mp_class *k = &a->geometry.classes[c];
        uint32_t high = mp_min(mp_load_seqcst(&a->header->classes[c].high), k->crates);

        for (uint32_t i = 0; i < high; i++) {
            mp_a64 *word = &a->crate_words[k->first_crate + i];
            uint64_t w = mp_load_acquire(word);
            uint32_t seq = mp_crate_seq(w);

            if (!is_dead(s, mp_crate_slot(w)))
                continue;
            if (mp_crate_state(w) == MP_CRATE_FILL)
                mp_cas_acqrel(word, &w, mp_crate_word(MP_CRATE_EMPTY, 0, 0, seq));
            else if (mp_crate_state(w) == MP_CRATE_DRAIN)
                mp_cas_acqrel(word, &w,
                              mp_mutation(SWEEP_EMPTIES_DRAIN)
                                  ? mp_crate_word(MP_CRATE_EMPTY, 0, 0, seq)
                                  : mp_crate_word(MP_CRATE_FULL, 0, mp_crate_count(w), seq));
        }
    }
}

static void sweep_extents(struct sweep *s)
{
    struct mp_arena *a = s->a;

    for (uint32_t e = 0; e < a->geometry.extents; e++) {
        uint32_t w = mp_load_acquire(&a->extents[e]);

        if ((w & 3) == MP_EXTENT_CHARGED && is_dead(s, w >> 4 & 0x3ff) &&
            !mp_mutation(SWEEP_LEAVES_EXTENTS))
            mp_cas_seqcst(&a->extents[e], &w, MP_EXTENT_UNBACKED);
    }
}

/* ---- 2 ---- */

static void found_block(struct sweep *s, uint32_t x)
{
    uint32_t c = mp_geometry_block_class(&s->a->geometry, x);
    struct mp_magazine *m = &s->found[c];

    m->blocks[m->n++] = x;
    if (m->n >= s->a->geometry.classes[c].batch)
        mp_block_flush(s->a, c, m, s->a->geometry.classes[c].batch);
}

static void flush_found(struct sweep *s)
{
    for (uint32_t c = 0; c < s->a->geometry.n_classes; c++)
        if (s->found[c].n)
            mp_block_flush(s->a, c, &s->found[c], s->found[c].n);
}

static uint64_t owned_by_us(const struct sweep *s)
{
    return mp_block_word(MP_BLOCK_OWNED, s->slot, 0, mp_block_turn_next());
}

static bool is_spsc(const struct mp_directory_entry *e)
{
    const uint32_t both = MP_RING_SINGLE_PRODUCER | MP_RING_SINGLE_CONSUMER;

    return (mp_load_relaxed(&e->flags) & both) == both;
}

/* One message at this position that the single consumer had taken, by the tag in the block's
 * word? */
static bool spsc_taken(const struct sweep *s, struct mp_ring *ring, uint32_t cells,
                       uint64_t position, uint32_t consumer)
{
    uint64_t v = mp_load_acquire(&ring->cells[position & (cells - 1)]);
    uint32_t x = mp_cell_block(v);
    uint64_t w;

    if (x >= s->a->geometry.blocks || !mp_cell_is_full(v, position / cells))
        return false;
    w = mp_load_acquire(&s->a->words[x]);
    return (mp_block_state(w) == MP_BLOCK_LEASED || mp_block_state(w) == MP_BLOCK_OWNED) &&
           mp_block_slot(w) == consumer && mp_block_seq(w) == mp_position_tag(position);
}

static void sweep_head(struct sweep *s, struct mp_ring *ring, uint32_t cells)
{
    uint32_t consumer = mp_load_acquire(&ring->consumer);
    uint64_t head = mp_load_acquire(&ring->head);
    uint64_t reached = head;

    if (consumer == 0 || !is_dead(s, mp_token_slot(consumer)))
        return;
    while (reached - head < cells && spsc_taken(s, ring, cells, reached, mp_token_slot(consumer)))
        reached++;
    if (reached != head)
        mp_cas_acqrel(&ring->head, &head, reached);
}

/* What is in a ring for one producer and one consumer, both of whom were D. */
static void sweep_spsc_messages(struct sweep *s, struct mp_ring *ring, uint32_t cells)
{
    uint64_t head;

    sweep_head(s, ring, cells);
    head = mp_load_acquire(&ring->head);
    for (uint32_t i = 0; i < cells; i++, head++) {
        uint64_t v = mp_load_acquire(&ring->cells[head & (cells - 1)]);
        uint32_t x = mp_cell_block(v);

        if (!mp_cell_is_full(v, head / cells) || x >= s->a->geometry.blocks)
            break;
        /* Our name first, then out of the ring. */
        mp_store_release(&s->a->words[x], owned_by_us(s));
        mp_store_release(&ring->head, head + 1);
        found_block(s, x);
    }
}

/* The messages of a queue whose destroyer died. */
static void sweep_messages(struct sweep *s, struct mp_directory_entry *e, uint32_t generation)
{
    uint32_t cells;
    struct mp_ring *ring = mp_directory_ring(s->a, e, &cells);

    if (!ring)
        return;
    mp_store_seqcst(&ring->phase, mp_phase(generation, MP_PHASE_DESTROYED));
    if (is_spsc(e)) {
        sweep_spsc_messages(s, ring, cells);
        return;
    }
    for (uint32_t i = 0; i < cells; i++) {
        uint64_t v = mp_load_acquire(&ring->cells[i]);
        uint64_t lap = v >> 26 & MP_LAP_MASK;
        uint32_t x = mp_cell_block(v);

        if (mp_cell_state(v) != MP_CELL_FULL || x >= s->a->geometry.blocks ||
            !mp_cas_acqrel(&ring->cells[i], &v, mp_cell_taken(s->slot, lap, x)))
            continue;
        /* As mp_mpmc_take_back(): somebody late may help us, and take us for a consumer. */
        v = mp_cell_taken(s->slot, lap, x);
        mp_store_release(&s->a->words[x], owned_by_us(s));
        mp_cas_acqrel(&ring->cells[i], &v, mp_cell_empty(lap + 1));
        mp_store_release(&s->a->words[x], owned_by_us(s));
        found_block(s, x);
    }
}

/* An entry that D had in its hands. */
static void sweep_entry(struct sweep *s, struct mp_directory_entry *e, uint64_t v)
{
    struct mp_entry_word w = mp_entry_unpack(v);
    uint32_t x = mp_directory_block(s->a, e);
    bool keep = w.state == MP_ENTRY_REVIVING ||
                (w.state != MP_ENTRY_BUILDING && mp_kind_keeps_memory(w.kind) && x != UINT32_MAX);

    if (w.state == MP_ENTRY_DYING) {
        atomic_exchange(&e->word, MP_TOKEN_DESTROYED);
        atomic_exchange(&e->value, MP_VALUE_DESTROYED);
        if (w.kind == MP_KIND_QUEUE)
            sweep_messages(s, e, w.generation);
        mp_directory_wake(s->a, e);
    }
    if (!keep && x != UINT32_MAX) {
        /* Our name in the block, whatever it says, before it leaves the entry; the sweep of a
         * dead R finds it again. */
        mp_store_release(&s->a->words[x], owned_by_us(s));
        mp_store_release(&e->block, 0);
    }
    w.generation++;
    w.slot = 0;
    w.state = keep ? MP_ENTRY_DORMANT : MP_ENTRY_FREE;
    if (mp_cas_seqcst(&e->state, &v, mp_entry_pack(w)) && !keep && x != UINT32_MAX)
        found_block(s, x);
}

static void sweep_directory(struct sweep *s)
{
    struct mp_arena *a = s->a;

    for (uint32_t i = 0; i < mp_arena_objects_high(a); i++) {
        struct mp_directory_entry *e = &a->directory[i];
        uint64_t v = mp_load_seqcst(&e->state);
        struct mp_entry_word w = mp_entry_unpack(v);

        if (w.state == MP_ENTRY_BUILDING || w.state == MP_ENTRY_REVIVING ||
            w.state == MP_ENTRY_CLAIMED || w.state == MP_ENTRY_DYING) {
            if (is_dead(s, w.slot))
                sweep_entry(s, e, v);
            continue;
        }
        if (w.state != MP_ENTRY_LIVE)
            continue;
        mp_repair_owner(a, e, w.kind);
        for (uint32_t slot = 0; slot < mp_arena_slots_high(a); slot++)
            if (is_dead(s, slot))
                mp_repair_shares(a, e, w.kind, slot);
    }
}

/* ---- 3 ---- */

static void sweep_taken(struct sweep *s, struct mp_ring *ring, uint32_t cells)
{
    struct mp_arena *a = s->a;

    for (uint32_t i = 0; i < cells; i++) {
        mp_a64 *cell = &ring->cells[i];
        uint64_t v = mp_load_acquire(cell);
        uint32_t x = mp_cell_block(v);
        uint64_t w, lap;

        if (mp_cell_state(v) != MP_CELL_TAKEN || !is_dead(s, mp_cell_slot(v)))
            continue;
        if (x < a->geometry.blocks) {
            w = mp_load_acquire(&a->words[x]);
            if (mp_block_state(w) == MP_BLOCK_OWNED || mp_block_state(w) == MP_BLOCK_QUEUED)
                mp_cas_acqrel(&a->words[x], &w,
                              mp_block_word(MP_BLOCK_LEASED, mp_cell_slot(v), 1, 0));
        }
        lap = mp_cell_taken_lap(v, mp_load_relaxed(&ring->tail) / cells);
        mp_cas_acqrel(cell, &v, mp_cell_empty(lap + 1));
    }
}

/* Only the roles of those whose rings this sweep has put in order. */
static void sweep_role(struct sweep *s, mp_a32 *word)
{
    uint32_t token = mp_load_acquire(word);

    if (token != 0 && mp_token_dead(s->a, token) != 0 &&
        (is_dead(s, mp_token_slot(token)) || mp_token_slot(token) >= s->a->geometry.participants))
        mp_cas_seqcst(word, &token, 0);
}

static void sweep_rings(struct sweep *s)
{
    struct mp_arena *a = s->a;

    for (uint32_t i = 0; i < mp_arena_objects_high(a); i++) {
        struct mp_directory_entry *e = &a->directory[i];
        struct mp_entry_word w = mp_entry_unpack(mp_load_seqcst(&e->state));
        struct mp_ring *ring;
        uint32_t cells;

        if (w.kind != MP_KIND_QUEUE || w.state == MP_ENTRY_FREE || w.state == MP_ENTRY_BUILDING)
            continue;
        ring = mp_directory_ring(a, e, &cells);
        if (!ring)
            continue;
        if (is_spsc(e))
            sweep_head(s, ring, cells);
        else
            sweep_taken(s, ring, cells);
        /* After the head: who takes the role over begins there. */
        sweep_role(s, &ring->producer);
        sweep_role(s, &ring->consumer);
    }
}

/* ---- 4 ---- */

/* The ring of the queue that a block's meta names. NULL: that queue is gone. */
static struct mp_ring *ring_of(struct sweep *s, uint32_t meta, bool *ret_drop)
{
    uint32_t object = meta & 0xffff;
    struct mp_directory_entry *e;
    struct mp_entry_word w;
    struct mp_ring *ring;
    uint32_t cells;

    if (object >= s->a->geometry.objects)
        return NULL;
    e = &s->a->directory[object];
    w = mp_entry_unpack(mp_load_seqcst(&e->state));
    if (w.kind != MP_KIND_QUEUE || w.state != MP_ENTRY_LIVE ||
        mp_meta_queue(object, w.generation) != (meta & 0xffffff))
        return NULL;
    ring = mp_directory_ring(s->a, e, &cells);
    /* Nobody may take it again, either, once all that was in the queue was dropped. */
    *ret_drop = (mp_load_relaxed(&e->flags) & MP_RING_DROP_HELD) ||
                (ring && (mp_load_relaxed(&ring->phase) & 3) == MP_PHASE_ENDED);
    return ring;
}

static void sweep_leased(struct sweep *s, uint32_t x, uint64_t w)
{
    bool drop = false;
    struct mp_ring *ring = ring_of(s, (uint32_t)mp_load_relaxed(&s->a->meta[x]), &drop);

    if (mp_mutation(SWEEP_KEEPS_LEASES) && mp_block_state(w) == MP_BLOCK_LEASED)
        return;
    if (ring && mp_block_state(w) == MP_BLOCK_RETURNED) {
        if (mp_mutation(SWEEP_HINTS_ONCE))
            return;
        /* An earlier sweeper may have died before the hint. */
        mp_ring_add_returned(ring);
        return;
    }
    if (!ring || drop) {
        if (mp_cas_acqrel(&s->a->words[x], &w, owned_by_us(s)))
            found_block(s, x);
        return;
    }
    if (mp_cas_acqrel(&s->a->words[x], &w,
                      mp_block_word(MP_BLOCK_RETURNED, 0, mp_block_deliveries(w), 0)))
        mp_ring_add_returned(ring);
}

static void sweep_words(struct sweep *s)
{
    struct mp_arena *a = s->a;

    for (uint32_t c = 0; c < a->geometry.n_classes; c++) {
        const struct mp_class *k = &a->geometry.classes[c];

        for (uint32_t b = 0; b < k->blocks; b++) {
            uint32_t x = k->first + b;
            uint64_t w;

            if ((b & (k->extent_blocks - 1)) == 0 && !mp_block_is_backed(a, k, x)) {
                b += k->extent_blocks - 1;
                continue;
            }
            w = mp_load_acquire(&a->words[x]);
            if ((mp_block_state(w) == MP_BLOCK_LEASED && is_dead(s, mp_block_slot(w))) ||
                mp_block_state(w) == MP_BLOCK_RETURNED)
                sweep_leased(s, x, w);
            else if (names_dead(s, w))
                s->candidates[x / 8] |= (uint8_t)(1u << (x % 8));
        }
    }
}

/* ---- 5 ---- */

/* A container names x: the word loses the name of the dead. A CAS that fails: a live taker has
 * it. */
static void mark(struct sweep *s, uint32_t x, uint32_t state)
{
    uint64_t w;

    if (!is_candidate(s, x))
        return;
    s->candidates[x / 8] &= (uint8_t) ~(1u << (x % 8));
    w = mp_load_acquire(&s->a->words[x]);
    if (names_dead(s, w))
        mp_cas_acqrel(&s->a->words[x], &w, mp_block_word(state, 0, 0, mp_block_turn_next()));
}

static void mark_ring(struct sweep *s, struct mp_ring *ring, uint32_t cells)
{
    for (uint32_t i = 0; i < cells && !mp_mutation(SWEEP_BLIND_TO_CELLS); i++) {
        uint64_t v = mp_load_acquire(&ring->cells[i]);

        if (mp_cell_state(v) != MP_CELL_EMPTY)
            mark(s, mp_cell_block(v), MP_BLOCK_QUEUED);
    }
}

/* A cell of a single consumer keeps its FULL word after the take: only those from head on count,
 * and head may move on under us. Not for ever: somebody hostile may move it. */
static void mark_spsc(struct sweep *s, struct mp_ring *ring, uint32_t cells)
{
    uint64_t position = mp_load_acquire(&ring->head);
    uint64_t end = position + cells;

    for (uint64_t turn = 0; turn < 4 * (uint64_t)cells && position < end; turn++) {
        uint64_t v = mp_load_acquire(&ring->cells[position & (cells - 1)]);
        uint64_t head;

        if (mp_cell_is_full(v, position / cells)) {
            mark(s, mp_cell_block(v), MP_BLOCK_QUEUED);
            position++;
            continue;
        }
        head = mp_load_acquire(&ring->head);
        if (head <= position)
            break;
        position = head;
        end = head + cells;
    }
}

static void mark_directory(struct sweep *s)
{
    struct mp_arena *a = s->a;

    for (uint32_t i = 0; i < mp_arena_objects_high(a); i++) {
        struct mp_directory_entry *e = &a->directory[i];
        struct mp_entry_word w = mp_entry_unpack(mp_load_seqcst(&e->state));
        struct mp_ring *ring;
        uint32_t cells;

        if (w.state == MP_ENTRY_FREE)
            continue;
        mark(s, mp_directory_block(a, e), MP_BLOCK_QUEUED);
        if (w.kind != MP_KIND_QUEUE || w.state == MP_ENTRY_BUILDING)
            continue;
        ring = mp_directory_ring(a, e, &cells);
        if (ring && is_spsc(e))
            mark_spsc(s, ring, cells);
        else if (ring)
            mark_ring(s, ring, cells);
    }
}

static void mark_crate(struct sweep *s, const struct mp_class *k, uint32_t i)
{
    mp_a64 *word = &s->a->crate_words[k->first_crate + i];
    struct mp_crate *crate = &s->a->crates[k->first_crate + i];

    /* Entries count if the word is the same before and after reading them. Each try that fails had
     * a live thread at work on the crate; a hostile one may keep us from marking, and loses those
     * blocks for itself only. */
    for (int tries = 0; tries < 64; tries++) {
        uint64_t w = mp_load_acquire(word);
        uint32_t blocks[MP_CRATE_SIZE];
        uint32_t n = mp_min(mp_crate_count(w), k->batch);

        if (mp_crate_state(w) != MP_CRATE_FULL && mp_crate_state(w) != MP_CRATE_DRAIN)
            return;
        for (uint32_t b = 0; b < n; b++)
            blocks[b] = mp_load_relaxed(&crate->blocks[b]);
        atomic_thread_fence(memory_order_acquire);
        if (mp_load_relaxed(word) != w)
            continue;
        for (uint32_t b = 0; b < n; b++)
            mark(s, blocks[b], MP_BLOCK_FREE);
        return;
    }
}

static void mark_crates(struct sweep *s)
{
    for (uint32_t c = 0; c < s->a->geometry.n_classes; c++) {
        const struct mp_class *k = &s->a->geometry.classes[c];
        uint32_t high = mp_min(mp_load_seqcst(&s->a->header->classes[c].high), k->crates);

        for (uint32_t i = 0; i < high && !mp_mutation(SWEEP_BLIND_TO_CRATES); i++)
            mark_crate(s, k, i);
    }
}

/* ---- 6 to 8 ---- */

static void take_candidates(struct sweep *s)
{
    uint32_t bytes = (s->a->geometry.blocks + 7) / 8;

    for (uint32_t i = 0; i < bytes; i++) {
        if (mp_likely(s->candidates[i] == 0))
            continue;
        for (uint32_t x = i * 8; x < i * 8 + 8; x++) {
            uint64_t w;

            if (!is_candidate(s, x))
                continue;
            w = mp_load_acquire(&s->a->words[x]);
            if (names_dead(s, w) && mp_cas_acqrel(&s->a->words[x], &w, owned_by_us(s)))
                found_block(s, x);
        }
    }
}

void mp_recover_wake(struct mp_arena *a)
{
    if (mp_mutation(SWEEP_WAKES_NOBODY))
        return;
    mp_sleep_wake_all(&a->header->freed);
    for (uint32_t i = 0; i < mp_arena_objects_high(a); i++)
        mp_directory_wake(a, &a->directory[i]);
}

static void free_slots(struct sweep *s)
{
    for (uint32_t i = 0; i < s->a->geometry.participants; i++) {
        uint64_t state;

        if (!is_dead(s, i))
            continue;
        state = mp_load_seqcst(&s->a->slots[i].state);
        if ((uint32_t)state == MP_LIVE_RETIRED)
            mp_cas_seqcst(&s->a->slots[i].state, &state, state & ~UINT64_C(0xffffffff));
    }
}

static void sweep(struct sweep *s)
{
    if (mp_mutation(SLOT_FREED_FIRST))
        free_slots(s);
    sweep_crates(s);
    sweep_extents(s);
    sweep_directory(s);
    sweep_rings(s);
    /* What was found so far goes into crates first: where R has taken over the slot of a D, these
     * blocks would else look like D's, and be found again. */
    flush_found(s);
    sweep_words(s);
    mark_directory(s);
    mark_crates(s);
    take_candidates(s);
    flush_found(s);
    mp_recover_wake(s->a);
    free_slots(s);
}

static bool collect_dead(struct sweep *s)
{
    bool any = false;

    for (uint32_t i = 0; i < mp_arena_slots_high(s->a); i++)
        if ((uint32_t)mp_load_seqcst(&s->a->slots[i].state) == MP_LIVE_RETIRED) {
            s->dead[i / 64] |= UINT64_C(1) << (i % 64);
            any = true;
        }
    return any;
}

/* One at a time. False: somebody alive does it. */
static bool enter(struct mp_arena *a, uint32_t token)
{
    uint32_t v = mp_load_seqcst(&a->header->recovery);

    if (v != 0 && (mp_token_dead(a, v) == 0 || mp_mutation(SWEEPER_FOR_EVER)))
        return false;
    return mp_cas_seqcst(&a->header->recovery, &v, token);
}

/* Mapped, not from malloc: this is the keeper's thread, which nobody's fork waits for, and a forked
 * child should not find the allocator's locks taken. */
static int sweep_as(struct mp_arena *a, uint32_t slot, int adopted)
{
    size_t bytes = sizeof(struct sweep) + (a->geometry.blocks + 7) / 8;
    struct sweep *s;

    s = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (s == MAP_FAILED)
        return -ENOMEM;
    s->a = a;
    s->slot = slot;
    s->candidates = (uint8_t *)(s + 1);
    collect_dead(s);
    if (adopted)
        s->dead[slot / 64] |= UINT64_C(1) << (slot % 64);
    sweep(s);
    munmap(s, bytes);
    return 0;
}

bool mp_recover_is_due(const struct mp_arena *a)
{
    for (uint32_t i = 0; i < mp_arena_slots_high(a); i++)
        if ((uint32_t)mp_load_seqcst(&a->slots[i].state) == MP_LIVE_RETIRED)
            return true;
    return false;
}

void mp_recover(struct mp_arena *a)
{
    uint32_t token = mp_load_acquire(&a->self->token);
    int r = 0;

    if (token == 0)
        return;
    /* Those retired while somebody swept are seen by the sweeper after it has left, or by us now.
     * Not for ever: the slots may be written to by somebody hostile. */
    for (int round = 0; round < ROUNDS_MOST && r == 0 && mp_recover_is_due(a) && enter(a, token);
         round++) {
        r = sweep_as(a, a->self->slot, 0);
        mp_store_seqcst(&a->header->recovery, 0);
    }
}

int mp_recover_adopted(struct mp_arena *a, uint32_t slot, uint32_t token)
{
    uint64_t deadline = mp_now_ns() + MP_SEC(1);
    int r;

    while (!enter(a, token)) {
        if (mp_now_ns() > deadline)
            return -EAGAIN;
        sched_yield();
    }
    r = sweep_as(a, slot, 1);
    mp_store_seqcst(&a->header->recovery, 0);
    return r;
}
