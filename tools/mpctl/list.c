/* SPDX-License-Identifier: MIT */
/* mpctl list: the arenas there are. */

#include <stdio.h>
#include <time.h>

#include "base/macro.h"
#include "kernel/pidfd.h"
#include "mpctl.h"

#define PIDS_MAX 6 /* in a table; JSON has all */

static const struct column columns[] = {
    {"name", "NAME", 0},
    {"inode", "INODE", COLUMN_RIGHT},
    {"device", "DEVICE", COLUMN_RIGHT | COLUMN_WIDE},
    {"size", "SIZE", COLUMN_RIGHT},
    {"used", "USED", COLUMN_RIGHT},
    {"resident", "RESIDENT", COLUMN_RIGHT | COLUMN_WIDE},
    {"participants", "PARTICIPANTS", COLUMN_RIGHT},
    {"participants_max", "PARTICIPANTS-MAX", COLUMN_RIGHT | COLUMN_WIDE},
    {"deaths", "DEATHS", COLUMN_RIGHT | COLUMN_WIDE},
    {"objects", "OBJECTS", COLUMN_RIGHT},
    {"objects_max", "OBJECTS-MAX", COLUMN_RIGHT | COLUMN_WIDE},
    {"age_ms", "AGE", COLUMN_RIGHT},
    {"creator_pid", "CREATOR", COLUMN_RIGHT},
    {"creator_command", "COMMAND", 0},
    {"processes", "PROCESSES", COLUMN_TRUNC},
};

static const struct column process_columns[] = {
    {"pid", "PID", COLUMN_RIGHT},
    {"command", "COMMAND", 0},
};

static uint32_t count_live(struct view *v)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < v->g.participants; i++) {
        uint32_t live = (uint32_t)mp_load_relaxed(&v->slots[i].state);

        n += participant_state_of(live) == PARTICIPANT_LIVE;
    }
    return n;
}

static void put_age(struct table *t, const struct view *v)
{
    struct timespec now;
    uint64_t now_ns;

    clock_gettime(CLOCK_REALTIME, &now);
    now_ns = (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
    put_span(t, now_ns > v->header.created_ns ? (now_ns - v->header.created_ns) / 1000000 : 0);
}

/* The pid in the header is as its own pid namespace has it; which one that was is not said. */
static void put_creator(struct table *t, const struct view *v)
{
    uint32_t pid = v->header.creator_pid;
    uint64_t start = v->header.creator_start;
    char command[PROC_COMMAND_MAX];

    for (size_t i = 0; i < v->found->n_holders; i++) {
        const struct holder *h = &v->found->holders[i];

        if ((uint32_t)h->inner_pid == pid && h->start == start) {
            put_number(t, (uint64_t)h->pid);
            put_text(t, h->command);
            return;
        }
    }
    put_number(t, pid);
    /* The command first: if the start time still fits after it, both are of this process. */
    proc_command((pid_t)(pid & INT32_MAX), command);
    put_text(t, mp_task_start((pid_t)(pid & INT32_MAX)) == start ? command : NULL);
}

static void put_processes(struct table *t, const struct found *f)
{
    _cleanup_table_ struct table *rows = table_new(process_columns, MP_ARRAY_SIZE(process_columns));
    char text[PIDS_MAX * 12 + 32] = "";
    size_t at = 0;

    for (size_t i = 0; rows && i < f->n_holders; i++) {
        put_number(rows, (uint64_t)f->holders[i].pid);
        put_text(rows, f->holders[i].command);
        if (i < PIDS_MAX)
            at += (size_t)snprintf(text + at, sizeof text - at, "%s%d", i ? "," : "",
                                   (int)f->holders[i].pid);
        else if (i == PIDS_MAX)
            snprintf(text + at, sizeof text - at, " and %zu more", f->n_holders - PIDS_MAX);
    }
    put_table_consume(t, text, mp_take_ptr(rows));
}

static int look(struct view *v, struct table *t)
{
    put_text(t, v->found->name);
    put_number(t, v->found->inode);
    put_number(t, v->found->device);
    put_size(t, v->g.size);
    put_size(t, view_used(v));
    put_size(t, v->resident);
    put_number(t, count_live(v));
    put_number(t, v->g.participants);
    put_number(t, mp_load_relaxed(&v->header.deaths));
    put_number(t, look_count_objects(v));
    put_number(t, v->g.objects);
    put_age(t, v);
    put_creator(t, v);
    put_processes(t, v->found);
    return 0;
}

const struct lister list_lister = {"arenas", columns, MP_ARRAY_SIZE(columns), .look = look};
