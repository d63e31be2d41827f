/* SPDX-License-Identifier: MIT */
/*
 * mpctl deadlocks: threads that wait for each other, across processes and arenas.
 *
 * A row is a thread that waits and who holds what it waits for; rows of one deadlock follow each
 * other as its threads wait for each other. All arenas are looked at, also where one is named: then
 * only deadlocks that it is part of are told.
 *
 * Waits for a lock, rlock, rwlock, permits, a value, an array or a map are looked at. Others may be
 * ended by anybody; of one that is for several things at once, or for one of many locks (mp_locks),
 * is not recorded for which.
 *
 * What is certain is so at the time of the look, and as long as those who hold something are those
 * who release it. A wait may have a timeout, which is not known here: it ends with it.
 *
 * A wait that began or ended while we looked is left out; it may be that of a thread that was woken
 * to look for itself, as libmp does each second, and sleeps on. So as long as there are such waits
 * we look again, after a while, and tell what showed most.
 */

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/macro.h"
#include "graph.h"

#define LOOKS_MOST 5u

static const struct column columns[] = {
    {"deadlock", "NO", COLUMN_RIGHT},
    {"verdict", "VERDICT", 0},
    {"pid", "PID", COLUMN_RIGHT},
    {"tid", "TID", COLUMN_RIGHT},
    {"name", "NAME", 0},
    {"process", "PROCESS", 0},
    {"slot", "SLOT", COLUMN_RIGHT | COLUMN_WIDE},
    {"waits_for", "WAITS-FOR", 0},
    {"arena", "ARENA", 0},
    {"inode", "INODE", COLUMN_RIGHT | COLUMN_WIDE},
    {"object", "OBJECT", 0},
    {"object_kind", "OBJECT-KIND", COLUMN_WIDE},
    {"waited_ms", "FOR", COLUMN_RIGHT},
    {"holders", "HELD-BY", COLUMN_TRUNC},
};

/* ---- a row ---- */

/* Of what holds it, only what keeps this wait from ending; threads as they are called here. */
static void put_keepers(struct table *t, const struct graph *g, const struct sync_facts *f,
                        bool readers)
{
    _cleanup_free_ struct holding *kept = calloc(f->n + 1, sizeof *kept);
    struct sync_facts some = {.kind = f->kind, .shape = f->shape, .holdings = kept};

    for (size_t i = 0; kept && i < f->n; i++)
        if ((f->holdings[i].role == ROLE_READER) == readers) {
            kept[some.n] = f->holdings[i];
            kept[some.n].tid = graph_outer_tid(g, &f->holdings[i]);
            some.n++;
        }
    put_holders(t, &some);
}

static void put_hop(struct table *t, const struct graph *g, const struct hop *hop, size_t number)
{
    const struct target *target = &g->targets[hop->target];
    const struct object *object = &g->objects[target->object];
    const struct found *found = g->views[hop->view]->found;
    char word[12];

    put_number(t, number);
    put_text(t, hop->certain ? "certain" : "possible");
    put_color(t, hop->certain ? "red" : "yellow");
    put_pid(t, &hop->wait.who);
    put_number(t, (uint64_t)hop->tid);
    put_text(t, hop->wait.who.name);
    put_process(t, &hop->wait.who);
    put_number(t, hop->wait.who.slot);
    put_text(t, wait_kind_word(hop->wait.kind, word));
    put_text(t, found->name);
    put_number(t, found->inode);
    put_text(t, object->name);
    put_text(t, sync_kind_word(object->facts.kind));
    put_span(t, hop->wait.ms);
    put_keepers(t, g, &object->facts, target->readers);
}

/* ---- in order ---- */

struct member {
    size_t hop;
    size_t knot;
    pid_t pid, tid;
};

static int by_knot_and_pid(const void *a, const void *b)
{
    const struct member *x = a, *y = b;

    if (x->knot != y->knot)
        return (x->knot > y->knot) - (x->knot < y->knot);
    if (x->pid != y->pid)
        return (x->pid > y->pid) - (x->pid < y->pid);
    return (x->tid > y->tid) - (x->tid < y->tid);
}

/* All waits that are in a deadlock. NULL: no memory. */
static struct member *list_members(const struct graph *g, size_t *ret_n)
{
    struct member *members = calloc(g->n_hops + 1, sizeof *members);
    size_t n = 0;

    for (size_t i = 0; members && i < g->n_hops; i++)
        if (g->hops[i].knot)
            members[n++] = (struct member){i, g->hops[i].knot, g->processes[g->hops[i].process].pid,
                                           g->hops[i].tid};
    if (n)
        qsort(members, n, sizeof *members, by_knot_and_pid);
    *ret_n = n;
    return members;
}

/* One that h waits for and that was not told yet. NONE: there is none. */
static size_t next_untold(const struct graph *g, const bool *told, size_t h)
{
    struct walk walk = {0};
    size_t next;

    do
        next = graph_next_hop(g, h, &walk);
    while (next != NONE && (g->hops[next].knot != g->hops[h].knot || told[next]));
    return next;
}

static bool is_asked_for(const struct graph *g, const struct member *members, size_t n,
                         const struct found *one)
{
    for (size_t i = 0; i < n; i++)
        if (!one || g->views[g->hops[members[i].hop].view]->found == one)
            return true;
    return false;
}

/* One deadlock, as it goes round from the thread with the least pid; then, where rings are joined,
 * from the next one that is left. */
static void tell_knot(struct table *t, const struct graph *g, const struct member *members,
                      size_t n, bool *told, size_t number)
{
    for (size_t i = 0; i < n; i++)
        for (size_t h = members[i].hop; h != NONE && !told[h]; h = next_untold(g, told, h)) {
            told[h] = true;
            put_hop(t, g, &g->hops[h], number);
        }
}

static int tell(struct table *t, const struct graph *g, const struct found *one, size_t *ret_told)
{
    size_t n = 0, number = 0;
    _cleanup_free_ struct member *members = list_members(g, &n);
    _cleanup_free_ bool *told = calloc(g->n_hops + 1, sizeof *told);

    if (!members || !told)
        return -ENOMEM;
    for (size_t first = 0, end; first < n; first = end) {
        for (end = first; end < n && members[end].knot == members[first].knot;)
            end++;
        if (is_asked_for(g, members + first, end - first, one))
            tell_knot(t, g, members + first, end - first, told, ++number);
    }
    *ret_told = number;
    return 0;
}

/* ---- the verb ---- */

/* One look, kept if it shows more than the best one so far. 1: there is more to be seen. */
static int look_once(const struct ctl *ctl, const struct found *one, struct graph *best,
                     size_t *best_members)
{
    _cleanup_graph_ struct graph g = {0};
    _cleanup_free_ struct member *members = NULL;
    size_t knots, n, unsettled;
    int r = graph_read(ctl, one, &g);

    best->complained |= g.complained;
    if (r == 0)
        r = graph_find_knots(&g, &knots);
    if (r < 0)
        return r;
    members = list_members(&g, &n);
    if (!members)
        return -ENOMEM;
    unsettled = g.unsettled;
    if (n > *best_members) {
        graph_deinit(best);
        *best = g;
        *best_members = n;
        g = (struct graph){0};
    }
    return unsettled > 0;
}

static int look_all(const struct ctl *ctl, const struct found *one, struct table *t)
{
    _cleanup_graph_ struct graph best = {0};
    struct ctl quietly = *ctl;
    size_t members = 0, told = 0;
    int r = 1;

    for (unsigned i = 0; i < LOOKS_MOST && r > 0; i++) {
        /* Whoever was just woken is to get a turn, and falls asleep again. */
        if (i > 0)
            poll(NULL, 0, 1 << 2 * (i - 1));
        r = look_once(&quietly, one, &best, &members);
        quietly.quiet = true;
    }
    if (r >= 0)
        r = tell(t, &best, one, &told);
    if (r < 0 && !best.complained)
        complain("%s", strerror(-r));
    return r < 0 || told > 0 ? EXIT_FAILED : EXIT_OK;
}

const struct lister deadlocks_lister = {"waits in deadlocks", columns, MP_ARRAY_SIZE(columns),
                                        .look_all = look_all};
