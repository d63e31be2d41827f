/* SPDX-License-Identifier: MIT */
/* Queues: making, opening, shutting down, destroying, roles, and the fd to poll. */

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "arena/directory.h"
#include "arena/liveness.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "kernel/membarrier.h"
#include "queue/mpmc.h"
#include "queue/spsc.h"
#include "queue/tasks.h"

#define LEAVE_NS MP_MSEC(20)
#define MAXSIZE_DEFAULT 1024u
#define MAXSIZE_MOST (1u << 20)
#define CELLS_LEAST 16u
#define FLAGS_ALL                                                                         \
    ((uint32_t)MP_QUEUE_SINGLE_PRODUCER | MP_QUEUE_SINGLE_CONSUMER | MP_QUEUE_DROP_HELD | \
     MP_QUEUE_JOINABLE)

static_assert((int)MP_QUEUE_SINGLE_PRODUCER == (int)MP_RING_SINGLE_PRODUCER &&
                  (int)MP_QUEUE_SINGLE_CONSUMER == (int)MP_RING_SINGLE_CONSUMER &&
                  (int)MP_QUEUE_DROP_HELD == (int)MP_RING_DROP_HELD,
              "the sweep reads them");

static uint32_t phase_of(uint64_t live, uint32_t phase)
{
    return mp_phase(mp_entry_unpack(live).generation, phase);
}

static bool is_spsc(uint32_t flags)
{
    return (flags & MP_QUEUE_SINGLE_PRODUCER) && (flags & MP_QUEUE_SINGLE_CONSUMER);
}

/* The block of a FULL cell becomes ours, and free. */
static bool empty_cell(struct mp_arena *a, mp_a64 *cell)
{
    uint64_t v = mp_load_acquire(cell);
    uint64_t lap = v >> 26 & MP_LAP_MASK;
    uint32_t x = mp_cell_block(v);

    if (mp_cell_state(v) != MP_CELL_FULL || x >= a->geometry.blocks ||
        !mp_cas_acqrel(cell, &v, mp_cell_taken(a->self->slot, lap, x)))
        return false;
    mp_mpmc_take_back(a, cell, lap, x);
    mp_block_give_anyhow(a, x);
    return true;
}

/* A ring that was used before goes on two laps later, so that what a stale handle still does fits
 * no cell. 0; -EAGAIN: one is at it, so this memory can not be used now. */
static int revive(struct mp_arena *a, struct mp_directory_entry *e, struct mp_ring *ring,
                  uint32_t cells)
{
    bool messages = !is_spsc(mp_load_relaxed(&e->flags)); /* else a FULL cell may be an old one */
    uint64_t lap = 0;

    for (uint32_t i = 0; i < cells && messages; i++)
        empty_cell(a, &ring->cells[i]);
    /* Who takes needs a message: from here on there is none, unless one came in late. */
    if (messages && mp_ring_is_busy(ring, cells))
        return -EAGAIN;
    for (uint32_t i = 0; i < cells; i++)
        lap = mp_max(lap, mp_load_acquire(&ring->cells[i]) >> 26 & MP_LAP_MASK);
    lap += 2;
    for (uint32_t i = 0; i < cells; i++) {
        uint64_t v = mp_load_acquire(&ring->cells[i]);

        if ((messages && mp_cell_state(v) != MP_CELL_EMPTY) ||
            !mp_cas_acqrel(&ring->cells[i], &v, mp_cell_empty(lap)))
            return -EAGAIN;
    }
    mp_store_relaxed(&ring->head, lap * cells);
    mp_store_relaxed(&ring->tail, lap * cells);
    mp_store_relaxed(&ring->producer, 0);
    mp_store_relaxed(&ring->consumer, 0);
    return 0;
}

static int initialize_ring(struct mp_arena *a, struct mp_directory_entry *e, void *memory,
                           const struct mp_object_spec *spec, bool revived)
{
    struct mp_ring *ring = memory;
    uint32_t cells = (uint32_t)(spec->cells >> 32);
    int r;

    if (revived) {
        r = revive(a, e, ring, cells);
        if (r < 0)
            return r;
    } else {
        memset(ring, 0, sizeof *ring);
        for (uint32_t i = 0; i < cells; i++)
            mp_store_relaxed(&ring->cells[i], mp_cell_empty(0));
    }
    mp_store_seqcst(&ring->phase, phase_of(mp_load_relaxed(&e->state), MP_PHASE_OPEN));
    return 0;
}

static void unopenp(struct mp_queue **q)
{
    if (*q)
        free((*q)->pending);
    free(*q);
}

static int new_queue(struct mp_arena *a, uint32_t index, uint64_t live, mp_queue **ret_queue)
{
    _cleanup_(unopenp) struct mp_queue *q = NULL;
    struct mp_directory_entry *e = &a->directory[index];
    uint64_t cells = mp_load_relaxed(&e->cells);
    uint64_t produce, consume;

    q = aligned_alloc(64, sizeof *q);
    if (!q)
        return -ENOMEM;
    memset(q, 0, sizeof *q);
    q->arena = a;
    q->ring = mp_directory_ring(a, e, &q->cells);
    q->flags = mp_load_relaxed(&e->flags);
    q->maxsize = (uint32_t)cells;
    if (!q->ring || q->maxsize == 0 || q->maxsize > q->cells || (q->flags & ~FLAGS_ALL))
        return -EPROTO;
    q->self = a->self;
    q->words = a->words;
    q->meta = a->meta;
    q->quarter = q->maxsize < 8 ? 1 : 1u << (29 - __builtin_clz(q->maxsize)); /* a power of two */
    q->shift = (uint32_t)__builtin_ctz(q->cells);
    q->index = index;
    q->meta_queue = mp_meta_queue(index, mp_entry_unpack(live).generation);
    mp_store_relaxed(&q->producer_life, MP_NO_LIFE);
    mp_store_relaxed(&q->consumer_life, MP_NO_LIFE);
    q->live = live;
    q->phase = phase_of(live, MP_PHASE_OPEN);
    q->spsc = is_spsc(q->flags);
    if (q->spsc && mp_queue_is_joinable(q))
        return -EPROTO;
    q->message_max = mp_min(mp_load_relaxed(&e->size), mp_arena_max_block(a));
    mp_name_copy(q->name, e->name, sizeof e->name);
    if (q->spsc) {
        q->pending = calloc((size_t)q->cells + 1, sizeof *q->pending);
        if (!q->pending)
            return -ENOMEM;
    } else {
        mp_ring_find(q, &produce, &consume);
        mp_store_relaxed(&q->produce, produce);
        mp_store_relaxed(&q->consume, consume);
    }
    *ret_queue = mp_take_ptr(q);
    return 0;
}

/* A message that is to be delivered again becomes ours, and free. */
static bool drop_returned(const struct mp_queue *q, uint32_t x)
{
    uint64_t w = mp_load_acquire(&q->words[x]);

    if (mp_block_state(w) != MP_BLOCK_RETURNED || !mp_queue_owns(q, x) ||
        !mp_cas_acqrel(&q->words[x], &w, mp_block_owned(q->arena)))
        return false;
    mp_block_give_anyhow(q->arena, x);
    return true;
}

/* As the consumer takes and releases, but whatever the phase. */
static void drain_spsc(struct mp_queue *q)
{
    for (uint32_t i = 0; i < q->cells; i++) {
        uint64_t p = mp_load_relaxed(&q->consume);
        uint64_t v = mp_load_acquire(&q->ring->cells[p & (q->cells - 1)]);
        struct mp_taken taken = {.block = mp_cell_block(v)};

        if (!mp_cell_is_full(v, p >> q->shift) || taken.block >= q->arena->geometry.blocks)
            break;
        mp_queue_length(q, taken.block, &taken.class);
        mp_store_release(&q->words[taken.block],
                         mp_block_word(MP_BLOCK_LEASED, q->self->slot, 1, mp_position_tag(p)));
        mp_store_relaxed(&q->consume, p + 1);
        if (!mp_spsc_release_fast(q, taken.block)) {
            mp_store_release(&q->words[taken.block], mp_block_owned(q->arena));
            mp_block_give_anyhow(q->arena, taken.block);
        }
    }
    mp_spsc_publish(q);
}

bool mp_queue_drain(struct mp_queue *q)
{
    bool any = false;
    uint32_t last;

    for (uint32_t i = 0; i < q->cells && !q->spsc; i++)
        any |= empty_cell(q->arena, &q->ring->cells[i]);
    if (q->spsc)
        drain_spsc(q);
    /* Once round, and not until there is none: somebody hostile may go on writing them. */
    return mp_ring_count_blocks(q, drop_returned, UINT64_MAX, &last) > 0 || any;
}

static int check_options(const mp_arena *arena, const struct mp_queue_options *o)
{
    if (o->maxsize > MAXSIZE_MOST || (o->flags & ~FLAGS_ALL))
        return -EINVAL;
    if (is_spsc(o->flags) && (o->flags & MP_QUEUE_JOINABLE))
        return -EINVAL;
    if (o->message_max > mp_arena_max_block(arena))
        return -EMSGSIZE;
    return 0;
}

int mp_queue_create(mp_arena *arena, const char *name, const struct mp_queue_options *options,
                    mp_queue **ret_queue)
{
    struct mp_queue_options o = {0};
    struct mp_object_spec spec = {
        .name = name, .kind = MP_KIND_QUEUE, .initialize = initialize_ring};
    uint32_t index, maxsize;
    uint64_t live, cells;
    int r;

    if (!arena || !ret_queue || (options && options->struct_size < sizeof o))
        return -EINVAL;
    if (options)
        o = *options;
    r = check_options(arena, &o);
    if (r < 0)
        return r;
    maxsize = o.maxsize ? o.maxsize : MAXSIZE_DEFAULT;
    cells = mp_max(maxsize, CELLS_LEAST);
    cells = UINT64_C(1) << (64 - (uint32_t)__builtin_clzll(cells - 1));
    spec.flags = o.flags;
    spec.size = o.message_max ? o.message_max : mp_arena_max_block(arena);
    spec.cells = cells << 32 | maxsize;
    spec.memory = sizeof(struct mp_ring) + cells * sizeof(mp_a64);
    r = mp_directory_create(arena, &spec, &index, &live);
    if (r < 0)
        return r == -EMSGSIZE ? -ENOBUFS : r;
    r = new_queue(arena, index, live, ret_queue);
    if (r < 0) {
        mp_directory_destroy(arena, index, live, NULL, NULL);
        return r;
    }
    return 0;
}

int mp_queue_open(mp_arena *arena, const char *name, mp_queue **ret_queue)
{
    uint32_t index;
    uint64_t live;
    int r = 0;

    if (!arena || !name || !ret_queue)
        return -EINVAL;
    if (!mp_arena_enter(arena, &r))
        return r;
    r = mp_directory_open(arena, name, MP_KIND_QUEUE, &index, &live);
    if (r < 0)
        return r;
    return new_queue(arena, index, live, ret_queue);
}

mp_queue *mp_queue_close(mp_queue *queue)
{
    struct mp_poller *p;

    if (!queue)
        return NULL;
    if (mp_queue_is_joinable(queue))
        mp_tasks_close(queue);
    mp_queue_leave_roles(queue);
    p = atomic_load(&queue->poller);
    if (p) {
        /* In a forked child the parent's keeper has it, and the fd is a copy. */
        if (p->life == mp_load_relaxed(&queue->self->life))
            mp_keeper_unpoll(p);
        close(p->event_fd);
        free(p);
    }
    free(queue->pending);
    free(queue);
    return NULL;
}

/* End it for this generation. 0; -ESTALE. */
static int set_phase(struct mp_queue *q, uint32_t phase)
{
    uint32_t p = mp_load_seqcst(&q->ring->phase);

    do {
        if (p >> 2 != q->phase >> 2 || (p & 3) == MP_PHASE_DESTROYED)
            return -ESTALE;
        if ((p & 3) >= phase)
            return 0;
    } while (!mp_cas_seqcst(&q->ring->phase, &p, phase_of(q->live, phase)));
    /* A producer's plain stores from before it saw the phase are visible to consumers that see
     * it after this. */
    mp_membarrier();
    return 0;
}

static void wake(struct mp_queue *q)
{
    mp_sleep_wake_all(&q->ring->filled);
    mp_sleep_wake_all(&q->ring->drained);
    mp_sleep_wake_all(&q->ring->joined);
    mp_sleep_wake_all(&q->arena->header->freed);
}

int mp_queue_shutdown(mp_queue *queue, int now)
{
    int r = 0;

    if (!queue)
        return -EINVAL;
    if (!mp_arena_enter(queue->arena, &r))
        return r;
    r = set_phase(queue, now ? MP_PHASE_ENDED : MP_PHASE_SHUT);
    if (r < 0)
        return r;
    /* Where there is a single consumer only that one may take: what is left goes when the queue
     * is destroyed. */
    if (now && !queue->spsc)
        mp_queue_drain(queue);
    wake(queue);
    return 0;
}

/* The entry is ours alone, so from here on a crash is finished by the sweep. */
static void end(void *queue)
{
    struct mp_queue *q = queue;

    set_phase(q, MP_PHASE_DESTROYED);
    mp_queue_drain(q);
    wake(q);
}

/* A role is used by one thread: another one that has it may be in the middle of a message. A thread
 * that was joined is still there for a moment, on its way out of the kernel. */
static bool is_in_other_hands(uint32_t tid)
{
    uint64_t deadline = mp_now_ns() + LEAVE_NS;

    if (tid == 0 || tid == (uint32_t)gettid())
        return false;
    while (tgkill(getpid(), (pid_t)tid, 0) == 0) {
        if (mp_now_ns() >= deadline)
            return true;
        sched_yield();
    }
    return false;
}

static int take_both_roles(struct mp_queue *q)
{
    int r = mp_queue_role(q, false);

    if (r == 0)
        r = mp_queue_role(q, true);
    if (r < 0)
        return r;
    return is_in_other_hands(q->producer_tid) || is_in_other_hands(q->consumer_tid) ? -EBUSY : 0;
}

int mp_queue_destroy(mp_queue *queue)
{
    struct mp_arena *a;
    int r = 0;

    if (!queue)
        return -EINVAL;
    a = queue->arena;
    if (!mp_arena_enter(a, &r))
        return r;
    if (mp_load_seqcst(&a->directory[queue->index].state) != queue->live)
        return -ESTALE;
    if (queue->spsc) {
        r = take_both_roles(queue);
        if (r < 0)
            return r;
    }
    return mp_directory_destroy(a, queue->index, queue->live, end, queue);
}

/* ---- roles ---- */

static void begin_producing(struct mp_queue *q)
{
    uint64_t head = mp_load_acquire(&q->ring->head);
    uint64_t p = head;

    /* The tail is not published: it is where the cells of this lap end. */
    while (p - head < q->cells) {
        uint64_t v = mp_load_acquire(&q->ring->cells[p & (q->cells - 1)]);

        if (v != mp_cell_full(p >> q->shift, mp_cell_block(v)))
            break;
        p++;
    }
    mp_store_relaxed(&q->head_seen, head);
    mp_store_relaxed(&q->produce, p);
}

static void begin_consuming(struct mp_queue *q)
{
    uint64_t head = mp_load_acquire(&q->ring->head);

    mp_store_relaxed(&q->head_published, head);
    mp_store_relaxed(&q->consume, head);
    q->n_pending = 0;
    /* A former consumer may have died between its wish and the membarrier. */
    mp_store_seqcst(&q->ring->fence, 0);
}

MP_NOINLINE int mp_queue_take_role(struct mp_queue *q, bool consuming)
{
    struct mp_arena *a = q->arena;
    mp_a32 *word = consuming ? &q->ring->consumer : &q->ring->producer;
    mp_a64 *life = consuming ? &q->consumer_life : &q->producer_life;
    uint32_t flag = consuming ? MP_QUEUE_SINGLE_CONSUMER : MP_QUEUE_SINGLE_PRODUCER;
    uint32_t v = mp_load_acquire(word);
    uint64_t deadline;
    int r = 0;
    uint32_t token = mp_arena_enter(a, &r);

    if (!token)
        return r;
    if (!(q->flags & flag)) {
        mp_store_release(life, mp_load_relaxed(&a->self->life));
        return 0;
    }
    deadline = mp_now_ns() + MP_SEC(1);
    /* The sweep empties the word of a dead one, after it has put the ring in order. */
    if (v != 0 && v != token)
        mp_liveness_check(a);
    while ((v = mp_load_acquire(word)) != 0 && mp_token_dead(a, v) != 0 && mp_now_ns() < deadline) {
        mp_liveness_check(a);
        sched_yield(); /* another process sweeps */
    }
    if (v != 0 || !mp_cas_seqcst(word, &v, token))
        return -EBUSY;
    if (q->spsc) {
        if (consuming)
            begin_consuming(q);
        else
            begin_producing(q);
    }
    *(consuming ? &q->consumer_tid : &q->producer_tid) = (uint32_t)gettid();
    mp_store_release(life, mp_load_relaxed(&a->self->life));
    return 0;
}

void mp_queue_leave_roles(struct mp_queue *q)
{
    struct mp_arena *a = q->arena;
    uint64_t life = mp_load_relaxed(&a->self->life);
    uint32_t token = mp_load_relaxed(&a->self->token);
    uint32_t v = token;

    if (life == 0)
        return;
    if ((q->flags & MP_QUEUE_SINGLE_CONSUMER) && mp_load_relaxed(&q->consumer_life) == life) {
        if (q->spsc)
            mp_spsc_publish(q);
        mp_cas_seqcst(&q->ring->consumer, &v, 0);
    }
    v = token;
    if ((q->flags & MP_QUEUE_SINGLE_PRODUCER) && mp_load_relaxed(&q->producer_life) == life)
        mp_cas_seqcst(&q->ring->producer, &v, 0);
}

/* ---- polling ---- */

static uint32_t arm_readable(const struct mp_waitable *w)
{
    const struct mp_queue *q = w->object;

    return q->spsc ? mp_sleep_arm(q->arena, w->word) : mp_sleep_arm_fenced(w->word);
}

static uint32_t arm_writable(const struct mp_waitable *w)
{
    return mp_sleep_arm(w->arena, w->word);
}

static int answer(const struct mp_queue *q, bool ready)
{
    return mp_queue_phase_slow(q, true) == -ESTALE ? -ESTALE : ready;
}

static int readable_ready(const struct mp_waitable *w)
{
    return answer(w->object, mp_ring_is_readable(w->object));
}

static int writable_ready(const struct mp_waitable *w)
{
    return answer(w->object, mp_ring_is_writable(w->object));
}

static const struct mp_waitable_type readable = {.arm = arm_readable, .ready = readable_ready};
static const struct mp_waitable_type writable = {
    .arm = arm_writable, .ready = writable_ready, .look_ns = MP_QUEUE_ROOM_LOOK_NS};

static struct mp_waitable waitable(mp_queue *q, mp_a32 *word, const struct mp_waitable_type *type)
{
    return (struct mp_waitable){
        .fd = -1,
        .kind = MP_WAITABLE_WORD,
        .object = q,
        .arena = q->arena,
        .index = q->index,
        .word = word,
        .type = type,
    };
}

struct mp_waitable mp_queue_readable(mp_queue *queue)
{
    return queue ? waitable(queue, &queue->ring->filled, &readable)
                 : (struct mp_waitable){.fd = -1};
}

struct mp_waitable mp_queue_writable(mp_queue *queue)
{
    return queue ? waitable(queue, &queue->ring->drained, &writable)
                 : (struct mp_waitable){.fd = -1};
}

static void free_poller(struct mp_poller *p)
{
    if (p->event_fd >= 0)
        close(p->event_fd);
    free(p);
}

static void free_pollerp(struct mp_poller **p)
{
    if (*p)
        free_poller(*p);
}

static int new_poller(struct mp_queue *q, struct mp_poller **ret)
{
    _cleanup_(free_pollerp) struct mp_poller *p = calloc(1, sizeof *p);
    int r;

    if (!p)
        return -ENOMEM;
    p->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (p->event_fd < 0)
        return -errno;
    p->what = mp_queue_readable(q);
    p->life = mp_load_acquire(&q->self->life);
    mp_store_relaxed(&p->armed, 1);
    r = mp_keeper_poll(p);
    if (r < 0)
        return r;
    *ret = mp_take_ptr(p);
    return 0;
}

int mp_queue_fd(mp_queue *queue)
{
    struct mp_poller *had, *p = NULL;
    int r = 0;

    if (!queue)
        return -EINVAL;
    if (!mp_arena_enter(queue->arena, &r))
        return r;
    if (mp_queue_phase_slow(queue, true) == -ESTALE)
        return -ESTALE;
    had = atomic_load(&queue->poller);
    if (had && had->life == mp_load_acquire(&queue->self->life))
        return had->event_fd;
    r = new_poller(queue, &p);
    if (r < 0)
        return r;
    if (atomic_compare_exchange_strong(&queue->poller, &had, p)) {
        if (had)
            free_poller(had); /* the parent's, inherited: the keeper here knows nothing of it */
        return p->event_fd;
    }
    /* Another thread was first. */
    mp_keeper_unpoll(p);
    free_poller(p);
    return had->event_fd;
}

/* ---- to look at ---- */

int mp_queue_stats(const mp_queue *queue, struct mp_queue_stats *ret_stats)
{
    uint32_t phase;

    if (!queue || !ret_stats)
        return -EINVAL;
    if (mp_queue_phase_slow(queue, true) == -ESTALE)
        return -ESTALE;
    phase = mp_load_relaxed(&queue->ring->phase) & 3;
    *ret_stats = (struct mp_queue_stats){
        .depth = mp_ring_depth(queue),
        .maxsize = queue->maxsize,
        .message_max = queue->message_max,
        .flags = queue->flags,
        .shut_down = phase,
        .unfinished = mp_queue_is_joinable(queue) ? mp_tasks_count(queue) : 0,
    };
    return 0;
}

static int check_to_look(const mp_queue *queue)
{
    if (!queue)
        return -EINVAL;
    return mp_queue_phase_slow(queue, true) == -ESTALE ? -ESTALE : 0;
}

int mp_queue_size(const mp_queue *queue)
{
    int r = check_to_look(queue);

    return r < 0 ? r : (int)mp_ring_depth(queue);
}

int mp_queue_is_empty(const mp_queue *queue)
{
    int r = mp_queue_size(queue);

    return r < 0 ? r : r == 0;
}

int mp_queue_is_full(const mp_queue *queue)
{
    int r = check_to_look(queue);

    return r < 0 ? r : mp_ring_count_cells(queue) >= queue->maxsize;
}

const char *mp_queue_name(const mp_queue *queue)
{
    return queue ? queue->name : NULL;
}
