/* SPDX-License-Identifier: MIT */
/*
 * What the words of an arena say: who takes part, who waits, queues and blocks. (For the objects to
 * synchronise with: sync.c.)
 *
 * What /proc tells of a participant is asked once as long as its slot stays as it is: there may be
 * many words that name it.
 */

#include <errno.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mp/queue.h>

#include "arena/token.h"
#include "base/clock.h"
#include "base/macro.h"
#include "kernel/pidfd.h"
#include "look.h"

#define CELLS_MAX (UINT64_C(1) << 20) /* as mp_queue_create() allows */

/* ---- participants ---- */

/* Its process here: one of the holders, or, where it holds the arena no more, by its pid. */
static void find_process(const struct view *v, struct participant *p)
{
    const struct found *f = v->found;

    for (size_t i = 0; i < f->n_holders; i++) {
        const struct holder *h = &f->holders[i];

        /* 0: the namespace could not be told. */
        if (h->start == p->start && h->inner_pid == p->inner_pid &&
            (h->namespace == p->namespace || h->namespace == 0))
            p->pid = h->pid;
    }
    if (!p->pid && p->namespace == mp_task_pid_namespace())
        p->pid = p->inner_pid;
    if (p->pid) {
        p->process = mp_task_state(p->pid);
        if (mp_task_start(p->pid) != p->start)
            p->process = 0;
    }
}

enum participant_state participant_state_of(uint32_t live)
{
    if (live == 0)
        return PARTICIPANT_NONE;
    if (live == MP_LIVE_RETIRED)
        return PARTICIPANT_RETIRED;
    return live & FUTEX_OWNER_DIED ? PARTICIPANT_DYING : PARTICIPANT_LIVE;
}

static struct participant explain_slot(const struct view *v, uint32_t slot)
{
    const struct mp_slot *s = &v->slots[slot];
    uint64_t state = mp_load_relaxed(&s->state), id = mp_load_relaxed(&s->id);
    struct participant p = {
        .slot = slot,
        .generation = (uint32_t)(state >> 32),
        .state = participant_state_of((uint32_t)state),
    };
    uint32_t pid = (uint32_t)id;

    /* Retiring moved the generation, so the tag is that of the one that was. */
    p.known = p.state != PARTICIPANT_NONE && pid > 0 && pid <= INT32_MAX &&
              (uint32_t)(id >> 32) == p.generation + (p.state != PARTICIPANT_RETIRED);
    if (p.known) {
        p.inner_pid = (pid_t)pid;
        p.namespace = mp_load_relaxed(&s->namespace);
        p.start = mp_load_relaxed(&s->start);
        text_escape(p.name, sizeof p.name, s->name, sizeof s->name);
        find_process(v, &p);
    }
    return p;
}

struct seen_slot {
    bool seen;
    char slot[sizeof(struct mp_slot)]; /* as it was */
    struct participant participant;
};

void look_participant(struct view *v, uint32_t slot, struct participant *ret_participant)
{
    struct seen_slot *seen;

    if (!v->seen)
        v->seen = calloc(v->g.participants, sizeof *v->seen);
    if (!v->seen) {
        v->error = -ENOMEM;
        *ret_participant = (struct participant){0};
        return;
    }
    seen = &v->seen[slot];
    if (!seen->seen || memcmp(seen->slot, &v->slots[slot], sizeof seen->slot) != 0) {
        seen->seen = true;
        memcpy(seen->slot, &v->slots[slot], sizeof seen->slot);
        seen->participant = explain_slot(v, slot);
    }
    *ret_participant = seen->participant;
}

const char *participant_state_word(enum participant_state state)
{
    static const char *const words[] = {"none", "live", "dying", "retired"};

    return words[state];
}

static uint64_t slot_offset(const struct view *v, uint32_t slot)
{
    return v->g.slots_offset + slot * sizeof(struct mp_slot);
}

void look_slot(struct view *v, uint32_t slot, struct participant *ret_participant)
{
    view_read(v, slot_offset(v, slot), &v->slots[slot], sizeof v->slots[slot]);
    look_participant(v, slot, ret_participant);
}

void look_token(struct view *v, uint32_t token, struct participant *ret)
{
    uint32_t slot = mp_token_slot(token);

    *ret = (struct participant){0};
    if (token == 0 || slot >= v->g.participants)
        return;
    look_slot(v, slot, ret);
    if (mp_token_tag(ret->generation) != mp_token_generation_tag(token) ||
        (ret->state != PARTICIPANT_LIVE && ret->state != PARTICIPANT_DYING))
        *ret = (struct participant){0};
}

/* ---- waits ---- */

int look_waits(struct view *v, struct waits *ret_waits)
{
    uint64_t now_ms = mp_now_ns() / 1000000;

    for (uint32_t i = 0; i < v->g.participants * MP_WAIT_RECORDS_PER_SLOT; i++) {
        uint64_t who = mp_load_relaxed(&v->waits[i].who), what;
        struct wait w = {.tid = (pid_t)(uint32_t)who, .record = i}, *more;

        if (who == 0 || w.tid <= 0)
            continue;
        look_participant(v, i / MP_WAIT_RECORDS_PER_SLOT, &w.who);
        /* Else it is of one that had the slot before. */
        if ((uint32_t)(who >> 32) != w.who.generation + 1 ||
            (w.who.state != PARTICIPANT_LIVE && w.who.state != PARTICIPANT_DYING))
            continue;
        what = mp_load_relaxed(&v->waits[i].what);
        w.kind = (uint32_t)(what >> 16) & 0xff;
        w.object = (uint32_t)what & 0xffff;
        w.part = mp_load_relaxed(&v->waits[i].part);
        w.ms = (now_ms - (what >> 24)) & ((UINT64_C(1) << 40) - 1);
        if (w.ms >> 39)
            w.ms = 0; /* begun since we read the clock */
        more = reallocarray(ret_waits->list, ret_waits->n + 1, sizeof *more);
        if (!more)
            return -ENOMEM;
        ret_waits->list = more;
        more[ret_waits->n++] = w;
    }
    return 0;
}

void waits_deinit(struct waits *waits)
{
    free(waits->list);
}

static const struct {
    const char *word;
    enum mp_kind object;
} wait_kinds[] = {
    [MP_WAIT_LOCK] = {"lock", MP_KIND_LOCK},
    [MP_WAIT_NOT_EMPTY] = {"message", MP_KIND_QUEUE},
    [MP_WAIT_NOT_FULL] = {"room", MP_KIND_QUEUE},
    [MP_WAIT_BLOCK] = {"memory", MP_KIND_NONE},
    [MP_WAIT_RLOCK] = {"rlock", MP_KIND_RLOCK},
    [MP_WAIT_WRITE] = {"write", MP_KIND_RWLOCK},
    [MP_WAIT_READ] = {"read", MP_KIND_RWLOCK},
    [MP_WAIT_SEMAPHORE] = {"semaphore", MP_KIND_SEMAPHORE},
    [MP_WAIT_CONDITION] = {"condition", MP_KIND_CONDITION},
    [MP_WAIT_EVENT] = {"event", MP_KIND_EVENT},
    [MP_WAIT_BARRIER] = {"barrier", MP_KIND_BARRIER},
    [MP_WAIT_ANY] = {"any", MP_KIND_NONE}, /* the first of several, of any kind */
    [MP_WAIT_JOIN] = {"join", MP_KIND_QUEUE},
    [MP_WAIT_VALUE] = {"value", MP_KIND_VALUE},
    [MP_WAIT_ARRAY] = {"array", MP_KIND_ARRAY},
    [MP_WAIT_MAP] = {"map", MP_KIND_MAP},
    [MP_WAIT_LOCKS] = {"lock", MP_KIND_LOCKS},
};

static_assert(MP_ARRAY_SIZE(wait_kinds) <= 32, "a bit each");

const char *wait_kind_word(uint32_t kind, char buffer[static 12])
{
    if (kind < MP_ARRAY_SIZE(wait_kinds) && wait_kinds[kind].word)
        return wait_kinds[kind].word;
    snprintf(buffer, 12, "%u", kind);
    return buffer;
}

enum mp_kind wait_object_kind(uint32_t kind)
{
    return kind < MP_ARRAY_SIZE(wait_kinds) ? wait_kinds[kind].object : MP_KIND_NONE;
}

uint32_t wait_kinds_for(enum mp_kind object)
{
    uint32_t kinds = 0;

    for (uint32_t i = 0; i < MP_ARRAY_SIZE(wait_kinds); i++)
        if (wait_kinds[i].object == object && object != MP_KIND_NONE)
            kinds |= 1u << i;
    return kinds;
}

/* ---- objects ---- */

bool look_is_object(const struct view *v, uint32_t i, enum mp_kind kind,
                    char ret_name[OBJECT_NAME_MAX])
{
    const struct mp_directory_entry *e = &v->entries[i];
    struct mp_entry_word w = mp_entry_unpack(mp_load_relaxed(&e->state));

    if (w.state != MP_ENTRY_LIVE || w.kind != (uint32_t)kind)
        return false;
    text_escape(ret_name, OBJECT_NAME_MAX, e->name, sizeof e->name);
    return true;
}

uint32_t look_count_objects(const struct view *v)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < v->n_entries; i++)
        n += mp_entry_unpack(mp_load_relaxed(&v->entries[i].state)).state == MP_ENTRY_LIVE;
    return n;
}

/* ---- queues ---- */

static bool is_spsc(uint32_t flags)
{
    return (flags & MP_QUEUE_SINGLE_PRODUCER) && (flags & MP_QUEUE_SINGLE_CONSUMER);
}

/* Where the ring is, and how many cells it has. 0: nonsense. */
static uint64_t find_ring(const struct view *v, const struct mp_directory_entry *e,
                          uint64_t *ret_cells)
{
    uint64_t block = mp_load_relaxed(&e->block), cells = mp_load_relaxed(&e->cells) >> 32, at;
    uint32_t class;

    if (!(block & VIEW_BLOCK_SET) || cells == 0 || cells > CELLS_MAX || (cells & (cells - 1)))
        return 0;
    at = view_block(v, block & ~VIEW_BLOCK_SET, &class);
    if (!at || sizeof(struct mp_ring) + cells * sizeof(mp_a64) > v->g.classes[class].block_size)
        return 0;
    *ret_cells = cells;
    return at;
}

/* Messages in the cells, as lib/queue/ring.c counts them. */
static uint64_t count_cells(struct view *v, const struct mp_ring *ring, const uint64_t *cells,
                            uint64_t n_cells, bool spsc)
{
    unsigned shift = (unsigned)__builtin_ctzll(n_cells);
    uint64_t head = mp_load_relaxed(&ring->head), n = 0;

    for (uint64_t i = 0; i < n_cells; i++) {
        uint64_t p = head + i, cell = cells[spsc ? p & (n_cells - 1) : i], word;
        uint32_t x = mp_cell_block(cell);

        if (!spsc) {
            n += mp_cell_state(cell) == MP_CELL_FULL;
            continue;
        }
        if (x >= v->g.blocks || cell != mp_cell_full(p >> shift, x))
            break;
        /* Taken, though the consumer has not published it. */
        word = view_word(v, v->g.words_offset + x * sizeof word);
        n += mp_block_seq(word) != mp_position_tag(p);
    }
    return n;
}

static uint64_t look_depth(struct view *v, const struct mp_ring *ring, uint64_t at,
                           uint64_t n_cells, bool spsc)
{
    _cleanup_free_ uint64_t *cells = NULL;

    if (n_cells > v->budget)
        return DEPTH_UNKNOWN;
    v->budget -= n_cells;
    cells = calloc(n_cells, sizeof *cells);
    if (!cells) {
        v->error = -ENOMEM;
        return DEPTH_UNKNOWN;
    }
    view_read(v, at + sizeof *ring, cells, n_cells * sizeof *cells);
    return count_cells(v, ring, cells, n_cells, spsc);
}

static enum queue_state explain_phase(uint32_t phase, uint32_t generation)
{
    if (phase >> 2 != (generation & (UINT32_MAX >> 2)))
        return QUEUE_DAMAGED;
    switch (phase & 3) {
    case MP_PHASE_OPEN:
        return QUEUE_OPEN;
    case MP_PHASE_SHUT:
        return QUEUE_SHUT_DOWN;
    default:
        return QUEUE_ENDED;
    }
}

void look_queue(struct view *v, uint32_t index, struct queue_facts *ret_facts)
{
    const struct mp_directory_entry *e = &v->entries[index];
    uint32_t generation = mp_entry_unpack(mp_load_relaxed(&e->state)).generation;
    struct queue_facts f = {
        .state = QUEUE_DAMAGED,
        .depth = DEPTH_UNKNOWN,
        .maxsize = (uint32_t)mp_load_relaxed(&e->cells),
        .flags = mp_load_relaxed(&e->flags),
        .message_max = mp_load_relaxed(&e->size),
    };
    struct mp_ring ring;
    uint64_t cells, at = find_ring(v, e, &cells);

    if (at && f.maxsize != 0 && f.maxsize <= cells) {
        view_read(v, at, &ring, sizeof ring);
        f.state = explain_phase(mp_load_relaxed(&ring.phase), generation);
        f.depth = look_depth(v, &ring, at, cells, is_spsc(f.flags));
        if (f.depth != DEPTH_UNKNOWN && mp_load_relaxed(&ring.returned)) {
            f.returned = view_returned(v, index);
            f.depth += f.returned;
        }
        look_token(v, mp_load_relaxed(&ring.producer), &f.producer);
        look_token(v, mp_load_relaxed(&ring.consumer), &f.consumer);
    }
    *ret_facts = f;
}

uint64_t look_block(const struct view *v, uint32_t index, uint64_t *ret_size)
{
    const struct mp_directory_entry *e = &v->entries[index];
    uint64_t block = mp_load_relaxed(&e->block), size = mp_load_relaxed(&e->size), at;
    uint32_t class;

    if (!(block & VIEW_BLOCK_SET))
        return 0;
    at = view_block(v, block & ~VIEW_BLOCK_SET, &class);
    if (!at)
        return 0;
    *ret_size = mp_min(size, v->g.classes[class].block_size);
    return at;
}
