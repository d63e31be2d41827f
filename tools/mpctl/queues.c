/* SPDX-License-Identifier: MIT */
/* mpctl queues: how deep they are, and who waits at which end. */

#include <errno.h>

#include <mp/queue.h>

#include "base/macro.h"
#include "mpctl.h"

static const struct column columns[] = {
    ARENA_COLUMNS,
    {"name", "NAME", 0},
    {"depth", "DEPTH", COLUMN_RIGHT},
    {"returned", "RETURNED", COLUMN_RIGHT | COLUMN_WIDE},
    {"maxsize", "MAXSIZE", COLUMN_RIGHT},
    {"message_max", "MESSAGE-MAX", COLUMN_RIGHT},
    {"state", "STATE", 0},
    {"flags", "FLAGS", 0},
    {"producer_pid", "PRODUCER", COLUMN_RIGHT | COLUMN_WIDE},
    {"consumer_pid", "CONSUMER", COLUMN_RIGHT | COLUMN_WIDE},
    {"waiting_consumers", "WAITING-CONSUMERS", COLUMN_TRUNC},
    {"waiting_producers", "WAITING-PRODUCERS", COLUMN_TRUNC},
};

static void put_flags(struct table *t, uint32_t flags)
{
    static const struct {
        uint32_t flag;
        const char *word;
    } known[] = {
        {MP_QUEUE_SINGLE_PRODUCER, "single-producer"},
        {MP_QUEUE_SINGLE_CONSUMER, "single-consumer"},
        {MP_QUEUE_DROP_HELD, "drop-held"},
        {MP_QUEUE_JOINABLE, "joinable"},
    };
    const char *words[MP_ARRAY_SIZE(known) + 1] = {NULL};
    size_t n = 0;

    for (size_t i = 0; i < MP_ARRAY_SIZE(known); i++)
        if (flags & known[i].flag)
            words[n++] = known[i].word;
    put_words(t, words);
}

static void put_state(struct table *t, enum queue_state state)
{
    static const char *const words[] = {"open", "shut-down", "ended", "damaged"};

    put_text(t, words[state]);
    if (state == QUEUE_DAMAGED)
        put_color(t, "red");
}

static void put_queue(struct view *v, struct table *t, const struct waits *waits, uint32_t i,
                      const char *name)
{
    struct queue_facts f;

    look_queue(v, i, &f);
    put_arena(t, v);
    put_text(t, name);
    if (f.depth == DEPTH_UNKNOWN) {
        put_null(t);
        put_null(t);
    } else {
        put_number(t, f.depth);
        put_number(t, f.returned);
    }
    put_number(t, f.maxsize);
    put_size(t, f.message_max);
    put_state(t, f.state);
    put_flags(t, f.flags);
    put_pid(t, &f.producer);
    put_pid(t, &f.consumer);
    put_waiters(t, waits, 1u << MP_WAIT_NOT_EMPTY, i);
    put_waiters(t, waits, 1u << MP_WAIT_NOT_FULL, i);
}

static int look(struct view *v, struct table *t)
{
    _cleanup_waits_ struct waits waits = {0};
    char name[OBJECT_NAME_MAX];
    int r = look_waits(v, &waits);

    for (uint32_t i = 0; r == 0 && i < v->n_entries; i++)
        if (look_is_object(v, i, MP_KIND_QUEUE, name))
            put_queue(v, t, &waits, i, name);
    return r;
}

const struct lister queues_lister = {"queues", columns, MP_ARRAY_SIZE(columns), .look = look};
