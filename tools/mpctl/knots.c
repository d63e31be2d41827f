/* SPDX-License-Identifier: MIT */
/*
 * Deadlocks in the graph of who waits for whom.
 *
 * A wait is stuck while nobody who could end it is free to do so. So all waits are taken for stuck
 * at first, and those are struck out that somebody can end; then those that the waiters of these
 * can end, and so on. Waits that are left wait for each other: among them are rings (or several
 * that are joined), and those who wait behind a ring. A ring is a strongly connected part; where
 * several can end one wait, all of them are in it, or behind another.
 *
 * This is done twice. Certain: a process is stuck when each of its threads that runs the program is
 * in a wait that is stuck. Possible: when one is; the others may be the ones to end the wait, since
 * a word does not tell which thread it was. That is so in each program of many threads which uses a
 * lock much, so what is possible within one process alone is not told.
 */

#include <errno.h>
#include <stdlib.h>

#include "base/macro.h"
#include "graph.h"

/* ---- what is stuck ---- */

static const struct agent *agent_of(const struct graph *g, const struct edge *e)
{
    return e->thread == NONE ? &g->processes[e->process].agent : &g->threads[e->thread].agent;
}

static bool is_blocked(const struct target *t)
{
    return t->all ? t->stuck > 0 && t->stuck == t->holders : t->stuck > 0;
}

static void begin_agent(struct agent *a, size_t needed)
{
    a->hops = 0;
    a->needed = needed;
}

static void begin(struct graph *g, bool certain)
{
    for (size_t i = 0; i < g->n_processes; i++)
        begin_agent(&g->processes[i].agent, certain ? g->processes[i].workers : 1);
    for (size_t i = 0; i < g->n_threads; i++)
        begin_agent(&g->threads[i].agent, 1);
    for (size_t i = 0; i < g->n_hops; i++) {
        struct hop *hop = &g->hops[i];

        hop->stuck = hop->confirmed && !(certain && g->threads[hop->thread].doubtful);
        g->processes[hop->process].agent.hops += hop->stuck;
        g->threads[hop->thread].agent.hops += hop->stuck;
    }
    for (size_t i = 0; i < g->n_processes; i++)
        g->processes[i].agent.stuck = g->processes[i].agent.hops > 0 &&
                                      g->processes[i].agent.hops >= g->processes[i].agent.needed;
    for (size_t i = 0; i < g->n_threads; i++)
        g->threads[i].agent.stuck = g->threads[i].agent.hops > 0;
    for (size_t i = 0; i < g->n_targets; i++) {
        struct target *t = &g->targets[i];

        t->stuck = 0;
        for (size_t e = t->first_edge; e < t->first_edge + t->n_edges; e++)
            t->stuck += agent_of(g, &g->edges[e])->stuck;
        t->blocked = is_blocked(t);
    }
}

/* Targets that are blocked no more: a stack of them, each at most once. */
struct freed {
    size_t *targets;
    size_t n;
};

static void unstick(struct graph *g, struct agent *a, struct freed *freed)
{
    a->hops--;
    if (!a->stuck || a->hops >= a->needed)
        return;
    a->stuck = false;
    for (size_t e = a->first_edge; e != NONE; e = g->edges[e].next) {
        struct target *t = &g->targets[g->edges[e].target];

        t->stuck--;
        if (!t->blocked || is_blocked(t))
            continue;
        t->blocked = false;
        freed->targets[freed->n++] = g->edges[e].target;
    }
}

static int strike_out(struct graph *g, bool certain)
{
    _cleanup_free_ size_t *targets = calloc(g->n_targets + 1, sizeof *targets);
    struct freed freed = {targets, 0};

    if (!targets)
        return -ENOMEM;
    begin(g, certain);
    for (size_t i = 0; i < g->n_targets; i++)
        if (!g->targets[i].blocked)
            targets[freed.n++] = i;
    while (freed.n > 0) {
        const struct target *t = &g->targets[targets[--freed.n]];

        for (size_t h = t->first_hop; h != NONE; h = g->hops[h].next_of_target) {
            struct hop *hop = &g->hops[h];

            if (!hop->stuck)
                continue;
            hop->stuck = false;
            unstick(g, &g->processes[hop->process].agent, &freed);
            unstick(g, &g->threads[hop->thread].agent, &freed);
        }
    }
    return 0;
}

/* ---- rings ---- */

/*
 * Tarjan's way to strongly connected parts, without recursion. The points are the hops and, behind
 * them, the processes: a hop leads to the process that holds what it waits for, and a process to
 * its hops, so that there are no more lines than edges and hops.
 */
struct point {
    size_t number; /* in the order in which they were met, from 1; 0: not yet */
    size_t low;
    size_t from; /* where we came from */
    size_t at;   /* of the lines that lead on, the next one: an edge, or a hop */
    bool open;   /* on the stack of those whose part is not known yet */
};

struct search {
    struct graph *g;
    struct point *points;
    size_t *open;
    size_t n_open, met, knots;
    bool certain;
};

static size_t first_line(const struct search *s, size_t point)
{
    const struct graph *g = s->g;

    if (point >= g->n_hops)
        return g->processes[point - g->n_hops].first_hop;
    return g->targets[g->hops[point].target].first_edge;
}

/* The point that the next line leads to; NONE: there are no more lines. */
static size_t follow_line(const struct search *s, size_t point)
{
    const struct graph *g = s->g;
    size_t *at = &s->points[point].at;
    const struct target *t;

    if (point >= g->n_hops) {
        while (*at != NONE && !g->hops[*at].stuck)
            *at = g->hops[*at].next_of_process;
        if (*at == NONE)
            return NONE;
        point = *at;
        *at = g->hops[point].next_of_process;
        return point;
    }
    t = &g->targets[g->hops[point].target];
    while (*at < t->first_edge + t->n_edges) {
        const struct edge *e = &g->edges[(*at)++];

        if (!agent_of(g, e)->stuck)
            continue;
        if (e->thread == NONE)
            return g->n_hops + e->process;
        if (g->hops[g->threads[e->thread].hop].stuck)
            return g->threads[e->thread].hop;
    }
    return NONE;
}

/* The part whose first point this is: a deadlock? */
static void close_part(struct search *s, size_t point)
{
    struct graph *g = s->g;
    size_t first = s->n_open, hops = 0, process = NONE;
    bool told = false, several = false;

    do {
        size_t member = s->open[--first];

        s->points[member].open = false;
        if (member >= g->n_hops)
            continue;
        hops++;
        told |= g->hops[member].knot != 0;
        several |= process != NONE && process != g->hops[member].process;
        process = g->hops[member].process;
    } while (s->open[first] != point);
    /* What is certain has been told, and one point alone is no ring. */
    if (hops > 0 && s->n_open - first > 1 && !told && (s->certain || several)) {
        s->knots++;
        for (size_t i = first; i < s->n_open; i++)
            if (s->open[i] < g->n_hops) {
                g->hops[s->open[i]].knot = s->knots;
                g->hops[s->open[i]].certain = s->certain;
            }
    }
    s->n_open = first;
}

static void meet(struct search *s, size_t point, size_t from)
{
    s->points[point] = (struct point){++s->met, s->met, from, first_line(s, point), true};
    s->open[s->n_open++] = point;
}

static void search_from(struct search *s, size_t start)
{
    struct point *points = s->points;
    size_t here = start;

    meet(s, start, NONE);
    while (here != NONE) {
        size_t next = follow_line(s, here), from = points[here].from;

        if (next != NONE && points[next].number == 0) {
            meet(s, next, here);
            here = next;
        } else if (next != NONE) {
            if (points[next].open)
                points[here].low = mp_min(points[here].low, points[next].number);
        } else {
            if (points[here].low == points[here].number)
                close_part(s, here);
            if (from != NONE)
                points[from].low = mp_min(points[from].low, points[here].low);
            here = from;
        }
    }
}

static int find_rings(struct graph *g, bool certain, size_t *knots)
{
    size_t n = g->n_hops + g->n_processes;
    _cleanup_free_ struct point *points = calloc(n + 1, sizeof *points);
    _cleanup_free_ size_t *open = calloc(n + 1, sizeof *open);
    struct search s = {.g = g, .points = points, .open = open, .knots = *knots, .certain = certain};

    if (!points || !open)
        return -ENOMEM;
    for (size_t i = 0; i < g->n_hops; i++)
        if (g->hops[i].stuck && points[i].number == 0)
            search_from(&s, i);
    *knots = s.knots;
    return 0;
}

int graph_find_knots(struct graph *g, size_t *ret_knots)
{
    int r;

    *ret_knots = 0;
    r = strike_out(g, true);
    if (r == 0)
        r = find_rings(g, true, ret_knots);
    if (r == 0)
        r = strike_out(g, false);
    return r < 0 ? r : find_rings(g, false, ret_knots);
}

size_t graph_next_hop(const struct graph *g, size_t h, struct walk *at)
{
    const struct target *t = &g->targets[g->hops[h].target];

    for (;;) {
        const struct edge *e;

        if (at->inside && at->hop != NONE) {
            size_t next = at->hop;

            at->hop = g->hops[next].next_of_process;
            return next;
        }
        at->inside = false;
        if (at->edge == t->n_edges)
            return NONE;
        e = &g->edges[t->first_edge + at->edge++];
        if (e->thread == NONE) {
            at->inside = true;
            at->hop = g->processes[e->process].first_hop;
        } else if (g->threads[e->thread].hop != NONE) {
            return g->threads[e->thread].hop;
        }
    }
}
