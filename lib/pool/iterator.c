/* SPDX-License-Identifier: MIT */
/*
 * imap: results one by one, while the input is read as workers need it.
 *
 * The input is read on the user's thread, in mp_iterator_next(), into pieces of `chunksize` items.
 * At most four pieces a worker are between the input and the user, so neither a fast input nor a
 * slow user can fill the memory. A piece belongs to the iterator all the time: it is unsent, on its
 * way, or done; in the order of the input, and, for imap_unordered, in the order in which they came
 * back as well. Consumed pieces are used again.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/macro.h"
#include "pool/pool.h"

/* Room for results that every piece has, whatever its items take. */
#define ROOM_MIN 1024u

/* ---- pieces ---- */

/* With the lock, or with a piece that has no loan. */
static void empty_piece(mp_pool *p, struct mp_piece *piece)
{
    for (uint32_t i = 0; i < piece->count; i++)
        free(piece->answers[i].failure);
    free(piece->copy);
    piece->copy = NULL;
    piece->count = 0;
    piece->done = false;
    mp_pool_take_back(p, &piece->loan);
}

static struct mp_piece *get_piece(struct mp_iterator *it)
{
    uint64_t room = mp_max(it->job.chunksize * it->shape.stride[0], (uint64_t)ROOM_MIN);
    struct mp_piece *piece = it->spare;

    if (piece) {
        it->spare = piece->next;
        piece->next = NULL;
        return piece;
    }
    piece = malloc(sizeof *piece + room + it->job.chunksize * sizeof *piece->answers);
    if (!piece)
        return NULL;
    *piece = (struct mp_piece){.room = room};
    piece->answers = (struct mp_answer *)(void *)(piece->items + room);
    return piece;
}

int mp_piece_keep(struct mp_piece *piece, const void *results, uint64_t bytes)
{
    piece->results = piece->items; /* the items are not needed any more */
    if (bytes > piece->room) {
        piece->copy = malloc(bytes);
        if (!piece->copy)
            return -ENOMEM;
        piece->results = piece->copy;
    }
    if (bytes)
        memcpy(piece->results, results, bytes);
    return 0;
}

static void append_piece(struct mp_iterator *it, struct mp_piece *piece)
{
    piece->next = NULL;
    piece->previous = it->newest;
    if (it->newest)
        it->newest->next = piece;
    else
        it->oldest = piece;
    it->newest = piece;
    if (!it->unsent)
        it->unsent = piece;
}

static void remove_piece(struct mp_iterator *it, struct mp_piece *piece)
{
    if (piece->next)
        piece->next->previous = piece->previous;
    else
        it->newest = piece->previous;
    if (piece->previous)
        piece->previous->next = piece->next;
    else
        it->oldest = piece->next;
}

/* ---- what the pool tells an iterator, with the lock ---- */

void mp_iterator_launched(struct mp_iterator *it)
{
    it->unsent = it->unsent->next;
    it->flying++;
}

static void move_events(struct mp_iterator *it)
{
    mp_pool_notify(it->job.pool, &it->events, (mp_load_relaxed(&it->events) & ~1u) + 2);
}

static void finish_if_done(struct mp_iterator *it)
{
    if (it->input_ended && !it->unsent && it->flying == 0)
        mp_job_finish(&it->job, 0);
}

void mp_iterator_arrive(struct mp_iterator *it, struct mp_piece *piece)
{
    piece->done = true;
    piece->next_done = NULL;
    *it->done_tail = piece;
    it->done_tail = &piece->next_done;
    it->flying--;
    move_events(it);
    finish_if_done(it);
}

void mp_iterator_end(struct mp_iterator *it)
{
    if (!it->input_ended)
        it->job.pool->n_feeding--;
    it->input_ended = true;
    move_events(it);
}

static void free_pieces(mp_pool *p, struct mp_piece *piece)
{
    struct mp_piece *next;

    for (; piece; piece = next) {
        next = piece->next;
        empty_piece(p, piece);
        free(piece);
    }
}

void mp_iterator_clear(struct mp_iterator *it)
{
    free_pieces(it->job.pool, it->oldest);
    free_pieces(it->job.pool, it->current);
    free_pieces(it->job.pool, it->spare);
}

/* ---- making one ---- */

/* What the user asked for. */
struct wish {
    mp_task_fn *fn;
    mp_next_fn *input;
    void *user;
    size_t item_size;
    size_t result_size;
    const struct mp_async_options *options;
    bool unordered;
};

static int set_up(mp_pool *p, const struct wish *w, size_t chunksize, struct mp_iterator *it)
{
    uint64_t most;
    int r;

    it->job.pool = p;
    it->job.kind = MP_JOB_IMAP;
    it->job.references = 1;
    it->job.size[0] = w->item_size;
    it->job.result_size = w->result_size;
    it->input = w->input;
    it->user = w->user;
    it->unordered = w->unordered;
    it->most = p->workers * 4;
    it->done_tail = &it->done;
    r = mp_job_set_function(&it->job, w->fn);
    if (r < 0)
        return r;
    most = mp_job_chunk_most(&it->job);
    it->job.chunksize = mp_min(chunksize ? chunksize : 1, most);
    mp_job_shape(&it->job, &it->shape);
    return mp_shape_compute(&it->shape, p->chunk_limit);
}

static int make(mp_pool *p, const struct wish *w, mp_iterator **ret_iterator)
{
    _cleanup_free_ struct mp_iterator *it = NULL;
    struct mp_async_options o;
    int r;

    r = mp_pool_check(p);
    if (r < 0)
        return r;
    if (!w->fn || !w->input || !ret_iterator)
        return -EINVAL;
    r = mp_async_options_read(w->options, &o);
    if (r < 0)
        return r;
    if (o.callback) /* there is no one result to be told of */
        return -EINVAL;

    it = calloc(1, sizeof *it);
    if (!it)
        return -ENOMEM;
    r = set_up(p, w, o.chunksize, it);
    if (r < 0)
        return r;
    mp_pool_lock(p);
    r = mp_job_open(&it->job);
    if (r == 0)
        p->n_feeding++;
    mp_pool_unlock(p);
    if (r < 0)
        return r;
    *ret_iterator = mp_take_ptr(it);
    return 0;
}

int mp_pool_imap(mp_pool *pool, mp_task_fn *fn, mp_next_fn *next, void *user, size_t item_size,
                 size_t result_size, const struct mp_async_options *options,
                 mp_iterator **ret_iterator)
{
    struct wish w = {
        .fn = fn,
        .input = next,
        .user = user,
        .item_size = item_size,
        .result_size = result_size,
        .options = options,
        .unordered = false,
    };

    return make(pool, &w, ret_iterator);
}

int mp_pool_imap_unordered(mp_pool *pool, mp_task_fn *fn, mp_next_fn *next, void *user,
                           size_t item_size, size_t result_size,
                           const struct mp_async_options *options, mp_iterator **ret_iterator)
{
    struct wish w = {
        .fn = fn,
        .input = next,
        .user = user,
        .item_size = item_size,
        .result_size = result_size,
        .options = options,
        .unordered = true,
    };

    return make(pool, &w, ret_iterator);
}

/* ---- using one ---- */

/* Reads up to a piece from the input. Returns how the input ended, or 0. */
static int read_input(struct mp_iterator *it, struct mp_piece *piece)
{
    size_t item_size = (size_t)it->shape.size[0];

    while (piece->count < it->job.chunksize) {
        char *item = piece->items + piece->count * it->shape.stride[0];
        ssize_t n = it->input(it->user, item, item_size);

        if (n < 0)
            return n < -4095 ? -EINVAL : (int)n;
        if ((size_t)n > item_size)
            return -EINVAL;
        piece->answers[piece->count++] = (struct mp_answer){.size = (uint64_t)n};
    }
    return 0;
}

/* One more piece for the pool. */
static void pull(struct mp_iterator *it)
{
    mp_pool *p = it->job.pool;
    struct mp_piece *piece = get_piece(it);
    int r = -ENOMEM;

    if (piece) {
        piece->first = it->pulled;
        r = read_input(it, piece);
        it->pulled += piece->count;
    }
    mp_pool_lock(p);
    if (piece && piece->count > 0 && it->job.open) {
        append_piece(it, piece);
        it->given++;
        mp_job_set_pending(&it->job);
        mp_pool_feed(p);
    } else if (piece) {
        empty_piece(p, piece);
        piece->next = it->spare;
        it->spare = piece;
    }
    if (r < 0 && it->job.open) {
        it->input_error = r == -ENODATA ? 0 : r;
        it->input_ended = true;
        p->n_feeding--;
        finish_if_done(it);
    }
    mp_pool_unlock(p);
}

static void take_piece(struct mp_iterator *it, struct mp_piece *piece)
{
    if (it->unordered) {
        it->done = piece->next_done;
        if (!it->done)
            it->done_tail = &it->done;
    }
    remove_piece(it, piece);
    piece->next = NULL;
    it->given--;
    it->current = piece;
    it->position = 0;
}

enum step { STEP_GIVE, STEP_PULL, STEP_END, STEP_WAIT };

/* What to do next. What came back goes to the user first as long as there is enough on its way to
 * keep the workers busy. */
static enum step next_step(struct mp_iterator *it, uint32_t *ret_seen)
{
    mp_pool *p = it->job.pool;
    struct mp_piece *piece;
    enum step step = STEP_WAIT;
    bool can_pull;

    mp_pool_lock(p);
    can_pull = !it->input_ended && it->given < it->most;
    piece = it->unordered ? it->done : it->oldest;
    if (piece && piece->done && (!can_pull || it->flying >= p->workers * 2)) {
        take_piece(it, piece);
        step = STEP_GIVE;
    } else if (can_pull) {
        step = STEP_PULL;
    } else if (!it->job.open) {
        step = STEP_END;
    }
    *ret_seen = mp_load_relaxed(&it->events) & ~1u;
    mp_pool_unlock(p);
    return step;
}

static void drop_current(struct mp_iterator *it)
{
    mp_pool *p = it->job.pool;

    if (it->current->loan.block) {
        mp_pool_lock(p);
        empty_piece(p, it->current);
        mp_pool_unlock(p);
    } else {
        empty_piece(p, it->current);
    }
    it->current->next = it->spare;
    it->spare = it->current;
    it->current = NULL;
}

static void give_item(struct mp_iterator *it, struct mp_item *ret_item)
{
    const struct mp_piece *piece = it->current;
    uint32_t i = it->position++;
    const struct mp_answer *answer = &piece->answers[i];

    *ret_item = (struct mp_item){
        .index = piece->first + i,
        .error = answer->error,
        .data = piece->results + i * it->shape.result_stride,
        .size = answer->size,
    };
    if (answer->error) {
        ret_item->data = NULL;
        ret_item->failure =
            answer->failure ? *answer->failure
                            : (struct mp_failure){.error = answer->error, .index = ret_item->index};
    }
}

/* After the last item. */
static int end_of(struct mp_iterator *it)
{
    int r = it->input_error;

    it->input_error = 0;
    return r ? r : it->job.failure.error;
}

int mp_iterator_next(mp_iterator *it, uint64_t timeout_ns, struct mp_item *ret_item)
{
    uint64_t deadline;
    uint32_t seen;
    int r;

    if (!it || !ret_item)
        return -EINVAL;
    r = mp_pool_check(it->job.pool);
    if (r < 0)
        return r;
    deadline = mp_deadline(timeout_ns);
    if (it->current && it->position == it->current->count)
        drop_current(it);
    for (;;) {
        if (it->current) {
            give_item(it, ret_item);
            return 1;
        }
        switch (next_step(it, &seen)) {
        case STEP_GIVE:
            break;
        case STEP_PULL:
            pull(it);
            break;
        case STEP_END:
            return end_of(it);
        case STEP_WAIT:
            /* The thread that would make something arrive must not wait for it. */
            r = mp_pool_wait(&it->events, seen,
                             mp_pool_is_result_thread(it->job.pool) ? 0 : deadline);
            if (r < 0)
                return r;
        }
    }
}

mp_iterator *mp_iterator_free(mp_iterator *it)
{
    mp_pool *p;

    if (!it || mp_pool_check(it->job.pool) < 0)
        return NULL;
    p = it->job.pool;
    mp_pool_lock(p);
    if (it->job.open) {
        if (!it->input_ended)
            p->n_feeding--;
        it->input_ended = true;
        it->unsent = NULL; /* what is on its way runs on */
        mp_job_unset_pending(&it->job);
        finish_if_done(it);
    }
    mp_pool_unlock(p);
    mp_job_release(&it->job);
    return NULL;
}
