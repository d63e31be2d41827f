/* SPDX-License-Identifier: MIT */
/*
 * mpctl pools: how much they have to do, and who does it.
 *
 * A pool's arena has a block named "pool": the page of lib/pool/layout.h. It is read like all else,
 * as numbers to print; of its rows there are no more than the block has room for.
 */

#include <string.h>

#include "base/clock.h"
#include "base/macro.h"
#include "kernel/pidfd.h"
#include "mpctl.h"
#include "pool/layout.h"

static const struct column columns[] = {
    {"name", "NAME", 0},
    {"inode", "INODE", COLUMN_RIGHT | COLUMN_WIDE},
    {"parent_pid", "PARENT", COLUMN_RIGHT},
    {"parent_command", "COMMAND", 0},
    {"state", "STATE", 0},
    {"alive", "ALIVE", COLUMN_RIGHT},
    {"workers", "WORKERS", COLUMN_RIGHT},
    {"idle", "IDLE", COLUMN_RIGHT},
    {"jobs", "JOBS", COLUMN_RIGHT},
    {"queued", "QUEUED", COLUMN_RIGHT},
    {"done", "DONE", COLUMN_RIGHT},
    {"deaths", "DEATHS", COLUMN_RIGHT},
    {"retried", "RETRIED", COLUMN_RIGHT},
    {"memory", "MEMORY", COLUMN_RIGHT | COLUMN_WIDE},
    {"memory_max", "MEMORY-MAX", COLUMN_RIGHT | COLUMN_WIDE},
};

const struct column worker_columns[WORKER_COLUMNS] = {
    {"id", "ID", COLUMN_RIGHT},
    {"pid", "PID", COLUMN_RIGHT},
    {"state", "STATE", 0},
    {"done", "DONE", COLUMN_RIGHT},
    {"job", "JOB", COLUMN_RIGHT},
    {"first", "FIRST", COLUMN_RIGHT},
    {"count", "COUNT", COLUMN_RIGHT},
    {"running_ms", "FOR", COLUMN_RIGHT},
};

static const char *word_of(const char *const *words, size_t n, uint32_t i)
{
    return i < n && words[i] ? words[i] : "unknown";
}

static const char *pool_state(uint32_t state)
{
    static const char *const words[] = {
        [MP_POOL_OPEN] = "open",
        [MP_POOL_CLOSED] = "closed",
        [MP_POOL_TERMINATED] = "terminated",
        [MP_POOL_BROKEN] = "broken",
        [MP_POOL_ENDED] = "ended",
    };

    return word_of(words, MP_ARRAY_SIZE(words), state);
}

static const char *worker_state(uint32_t state)
{
    static const char *const words[] = {
        [MP_WORKER_NONE] = "none",
        [MP_WORKER_STARTING] = "starting",
        [MP_WORKER_INITIALIZING] = "initializing",
        [MP_WORKER_IDLE] = "idle",
        [MP_WORKER_RUNNING] = "running",
        [MP_WORKER_RETIRED] = "retired",
        [MP_WORKER_FAILED] = "failed",
        [MP_WORKER_ENDING] = "ending",
        [MP_WORKER_DEAD] = "dead",
    };

    return word_of(words, MP_ARRAY_SIZE(words), state);
}

/* Where the page is, a copy of its head, and how many rows follow. 0: there is none. */
static uint64_t find_page(struct view *v, struct mp_pool_page *ret_page, uint32_t *ret_rows)
{
    char name[OBJECT_NAME_MAX];

    for (uint32_t i = 0; i < v->n_entries; i++) {
        uint64_t size, at;

        if (!look_is_object(v, i, MP_KIND_BLOCK, name) || strcmp(name, MP_POOL_PAGE) != 0)
            continue;
        at = look_block(v, i, &size);
        if (!at || size < sizeof *ret_page)
            continue;
        view_read(v, at, ret_page, sizeof *ret_page);
        if (mp_load_relaxed(&ret_page->magic) != MP_POOL_MAGIC ||
            ret_page->version != MP_POOL_VERSION ||
            ret_page->row_size != sizeof(struct mp_pool_row))
            continue;
        *ret_rows = mp_min(ret_page->rows, MP_POOL_WORKERS_MAX);
        *ret_rows = (uint32_t)mp_min((uint64_t)*ret_rows,
                                     (size - sizeof *ret_page) / sizeof(struct mp_pool_row));
        return at;
    }
    return 0;
}

static uint32_t read_row(struct view *v, uint64_t at, uint32_t i, struct mp_pool_row *ret_row)
{
    view_read(v, at + sizeof(struct mp_pool_page) + i * sizeof *ret_row, ret_row, sizeof *ret_row);
    return mp_load_relaxed(&ret_row->state);
}

static bool has_process(uint32_t state)
{
    return state >= MP_WORKER_STARTING && state <= MP_WORKER_ENDING;
}

/* The process of that pid in the parent's pid namespace, as a participant is told. */
static struct participant find_worker(const struct view *v, uint32_t inner_pid, uint32_t namespace)
{
    struct participant p = {.inner_pid = (pid_t)(inner_pid & INT32_MAX), .namespace = namespace};

    for (size_t i = 0; i < v->found->n_holders; i++) {
        const struct holder *h = &v->found->holders[i];

        if (h->inner_pid == p.inner_pid && h->namespace == namespace)
            p.pid = h->pid;
    }
    if (!p.pid && namespace == mp_task_pid_namespace())
        p.pid = p.inner_pid;
    return p;
}

/* The parent among the holders. NULL: it is gone, or can not be told. */
static const struct holder *find_parent(const struct view *v, const struct mp_pool_page *page)
{
    for (size_t i = 0; i < v->found->n_holders; i++) {
        const struct holder *h = &v->found->holders[i];

        if ((uint32_t)h->inner_pid == page->parent_pid && h->start == page->parent_start)
            return h;
    }
    return NULL;
}

static void put_pool(struct view *v, struct table *t, const struct mp_pool_page *page, uint64_t at,
                     uint32_t rows)
{
    const struct holder *parent = find_parent(v, page);
    uint32_t alive = 0, idle = 0, state = mp_load_relaxed(&page->state);

    for (uint32_t i = 0; i < rows; i++) {
        struct mp_pool_row row;
        uint32_t row_state = read_row(v, at, i, &row);

        alive += has_process(row_state);
        idle += row_state == MP_WORKER_IDLE;
    }
    put_arena(t, v);
    put_number(t, parent ? (uint64_t)parent->pid : page->parent_pid);
    put_text(t, parent ? parent->command : NULL);
    put_text(t, pool_state(state));
    if (state != MP_POOL_OPEN && state != MP_POOL_CLOSED)
        put_color(t, "red");
    put_number(t, alive);
    put_number(t, rows);
    put_number(t, idle);
    put_number(t, mp_load_relaxed(&page->jobs));
    put_number(t, mp_load_relaxed(&page->queued));
    put_number(t, mp_load_relaxed(&page->done));
    put_number(t, mp_load_relaxed(&page->deaths));
    put_number(t, mp_load_relaxed(&page->retried));
    put_size(t, mp_load_relaxed(&page->memory));
    put_size(t, mp_load_relaxed(&page->memory_max));
}

static int look(struct view *v, struct table *t)
{
    struct mp_pool_page page;
    uint32_t rows;
    uint64_t at = find_page(v, &page, &rows);

    if (at)
        put_pool(v, t, &page, at, rows);
    return 0;
}

const struct lister pools_lister = {"pools", columns, MP_ARRAY_SIZE(columns), .look = look};

/* ---- the workers of one ---- */

static void put_worker(struct table *t, const struct participant *p, const struct mp_pool_row *row)
{
    uint32_t state = mp_load_relaxed(&row->state);
    uint64_t since = mp_load_relaxed(&row->since_ns), now = mp_now_ns();

    put_number(t, mp_load_relaxed(&row->id));
    put_pid(t, p);
    put_text(t, worker_state(state));
    if (state == MP_WORKER_FAILED || state == MP_WORKER_DEAD)
        put_color(t, "red");
    put_number(t, mp_load_relaxed(&row->done));
    if (state != MP_WORKER_RUNNING) {
        for (unsigned i = 0; i < 4; i++)
            put_null(t);
        return;
    }
    put_number(t, mp_load_relaxed(&row->job));
    put_number(t, mp_load_relaxed(&row->first));
    put_number(t, mp_load_relaxed(&row->count));
    put_span(t, now > since ? (now - since) / 1000000 : 0);
}

int look_workers(struct view *v, struct table *t)
{
    const struct holder *parent;
    struct mp_pool_page page;
    uint32_t rows;
    uint64_t at = find_page(v, &page, &rows);

    if (!at)
        return 0;
    parent = find_parent(v, &page);
    for (uint32_t i = 0; i < rows; i++) {
        struct participant p;
        struct mp_pool_row row;

        if (read_row(v, at, i, &row) == MP_WORKER_NONE)
            continue;
        p = find_worker(v, mp_load_relaxed(&row.pid), parent ? parent->namespace : 0);
        put_worker(t, &p, &row);
    }
    return 0;
}
