/* SPDX-License-Identifier: MIT */
/*
 * Who waits for whom, as one picture of a time at which it was so, though nobody was stopped.
 *
 *   1. the wait records of all arenas, and the threads of each process that has one: how often each
 *      was taken off a CPU so far
 *   2. the records once more; of what each is about: who holds it
 *   3. the threads once more
 *
 * A thread that slept from 1 to 3 (tasks.c) did all the time what its record said in 2. So while 2
 * was read all these waits were there at once, and what only such threads could change did not
 * change. Others are left out and counted: a wait that passes is not to be mistaken for one that
 * does not, and the caller may look again.
 *
 * Words name the process that holds an object, and only a rlock says which thread. So who can end a
 * wait is any thread of the holder's process, or just one; a process that is being killed, one that
 * can not be looked at, and one none of whose threads waits, could always do so.
 *
 * Records name what others may have written there: only threads that /proc has, in processes that
 * have been where they say, are believed. That also bounds what is kept.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/macro.h"
#include "graph.h"
#include "kernel/pidfd.h"

void *grow(void **array, size_t *n, size_t size)
{
    char *more = reallocarray(*array, *n + 1, size);

    if (!more)
        return NULL;
    *array = more;
    more += *n * size;
    memset(more, 0, size);
    ++*n;
    return more;
}

#define GROW(g, what) grow((void **)&(g)->what, &(g)->n_##what, sizeof *(g)->what)

void graph_deinit(struct graph *g)
{
    for (size_t i = 0; i < g->n_views; i++)
        view_free(g->views[i]);
    for (size_t i = 0; i < g->n_processes; i++)
        free(g->processes[i].tasks);
    for (size_t i = 0; i < g->n_objects; i++)
        sync_facts_deinit(&g->objects[i].facts);
    free(g->views);
    free(g->processes);
    free(g->threads);
    free(g->objects);
    free(g->targets);
    free(g->edges);
    free(g->hops);
    *g = (struct graph){0};
}

/* ---- 1: records and threads ---- */

/* NONE: it is none that waits, or its threads can not be told. */
static size_t find_process(const struct graph *g, const struct participant *p)
{
    for (size_t i = 0; i < g->n_processes; i++)
        if (g->processes[i].pid == p->pid && g->processes[i].start == p->start)
            return i;
    return NONE;
}

static bool is_there(const struct participant *p)
{
    return p->state == PARTICIPANT_LIVE && p->known && p->pid > 0 && p->process != 0;
}

/* 0 and its number; or NONE: it can not be looked at. */
static int add_process(struct graph *g, const struct participant *who, size_t *ret_process)
{
    _cleanup_free_ struct task *tasks = NULL;
    size_t at = is_there(who) ? find_process(g, who) : NONE, n;
    struct process *p;
    int r;

    *ret_process = at;
    if (at != NONE || !is_there(who))
        return 0;
    r = tasks_read(who->pid, &tasks, &n);
    if (r < 0)
        return r == -ENOMEM ? r : 0;
    p = GROW(g, processes);
    if (!p)
        return -ENOMEM;
    *p = (struct process){
        .pid = who->pid,
        .start = who->start,
        .tasks = mp_take_ptr(tasks),
        .n_tasks = n,
        .first_hop = NONE,
        .agent = {.first_edge = NONE},
    };
    *ret_process = g->n_processes - 1;
    return 0;
}

static int add_hop(struct graph *g, const struct wait *w)
{
    struct process *p;
    struct task *task;
    struct hop *hop;
    size_t process;
    int r = add_process(g, &w->who, &process);

    if (r < 0 || process == NONE)
        return r;
    p = &g->processes[process];
    task = tasks_find_inner(p->tasks, p->n_tasks, w->tid);
    if (!task || task->helper)
        return 0;
    hop = GROW(g, hops);
    if (!hop)
        return -ENOMEM;
    *hop = (struct hop){
        .view = g->n_views - 1,
        .process = process,
        .thread = (size_t)(task - p->tasks), /* of its process, as yet */
        .target = NONE,
        .next_of_process = NONE,
        .next_of_target = NONE,
        .tid = task->tid,
        .wait = *w,
    };
    return 0;
}

static int read_arena(const struct ctl *ctl, const struct found *found, bool asked, struct graph *g)
{
    _cleanup_waits_ struct waits waits = {0};
    _cleanup_view_ struct view *v = NULL;
    struct view **place;
    int r;

    if (found->n_holders == 0)
        return 0;
    r = ctl_open(ctl, found, asked, &v);
    g->complained = r < 0 && asked;
    if (r < 0)
        return asked || r == -ENOMEM ? r : 0;
    r = look_waits(v, &waits);
    if (r < 0 || waits.n == 0)
        return r ? r : v->error;
    place = GROW(g, views);
    if (!place)
        return -ENOMEM;
    *place = mp_take_ptr(v);
    for (size_t i = 0; r == 0 && i < waits.n; i++)
        r = add_hop(g, &waits.list[i]);
    return r;
}

/* All processes are known: number their threads. */
static int number_threads(struct graph *g)
{
    for (size_t i = 0; i < g->n_processes; i++) {
        struct process *p = &g->processes[i];

        p->first_task = g->n_threads;
        g->n_threads += p->n_tasks;
    }
    g->threads = calloc(mp_max(g->n_threads, (size_t)1), sizeof *g->threads);
    if (!g->threads)
        return -ENOMEM;
    for (size_t i = 0; i < g->n_threads; i++)
        g->threads[i] = (struct thread){.hop = NONE, .agent = {.first_edge = NONE}};
    for (size_t i = 0; i < g->n_hops; i++) {
        struct hop *hop = &g->hops[i];
        struct process *p = &g->processes[hop->process];
        struct thread *thread;

        hop->thread += p->first_task;
        thread = &g->threads[hop->thread];
        thread->doubtful = thread->hop != NONE;
        thread->hop = i;
        hop->next_of_process = p->first_hop;
        p->first_hop = i;
    }
    return 0;
}

/* ---- 2: what they are about ---- */

/* Is the record as it was? */
static bool is_recorded(struct graph *g, const struct hop *hop)
{
    struct view *v = g->views[hop->view];
    const struct mp_wait_record *before = &v->waits[hop->wait.record];
    struct mp_wait_record now;

    view_read(v, v->g.waits_offset + hop->wait.record * sizeof now, &now, sizeof now);
    return mp_load_relaxed(&now.who) == mp_load_relaxed(&before->who) &&
           mp_load_relaxed(&now.what) == mp_load_relaxed(&before->what) &&
           mp_load_relaxed(&now.part) == mp_load_relaxed(&before->part);
}

/* What the hop is for, with those who hold it. 0; NONE: nothing of the kind. */
static int find_object(struct graph *g, const struct hop *hop, size_t *ret_object)
{
    struct view *v = g->views[hop->view];
    enum mp_kind kind = wait_object_kind(hop->wait.kind);
    uint32_t index = hop->wait.object;
    struct object *o;
    int r;

    *ret_object = NONE;
    for (size_t i = 0; i < g->n_objects; i++)
        if (g->objects[i].view == hop->view && g->objects[i].index == index &&
            g->objects[i].part == hop->wait.part) {
            if (g->objects[i].facts.kind == kind)
                *ret_object = i;
            return 0;
        }
    if (index >= v->n_entries || !sync_kind_word(kind))
        return 0;
    o = GROW(g, objects);
    if (!o)
        return -ENOMEM;
    o->view = hop->view;
    o->index = index;
    o->part = hop->wait.part;
    r = kind == MP_KIND_LOCKS ? sync_look_one(v, index, o->part, &o->facts)
                              : sync_look(v, index, &o->facts);
    if (r <= 0) {
        g->n_objects--;
        return r;
    }
    if (o->facts.kind != kind || !look_is_object(v, index, kind, o->name))
        return 0;
    if (kind == MP_KIND_LOCKS)
        snprintf(o->name + strlen(o->name), 24, "[%llu]", (unsigned long long)o->part);
    *ret_object = g->n_objects - 1;
    return 0;
}

/* Does the holding keep those from going on who wait for this? */
static bool keeps(const struct target *t, const struct holding *h)
{
    return h->role != ROLE_MEMBER && (h->role == ROLE_READER) == t->readers;
}

static int add_edge(struct graph *g, size_t target, const struct holding *h, enum sync_shape shape)
{
    size_t process = is_there(&h->who) ? find_process(g, &h->who) : NONE, thread = NONE;
    struct process *p;
    struct agent *agent;
    struct edge *edge;

    g->targets[target].holders++;
    if (process == NONE)
        return 0;
    p = &g->processes[process];
    if (shape == SHAPE_RLOCK) {
        const struct task *task = tasks_find_inner(p->tasks, p->n_tasks, h->tid);

        if (!task)
            return 0;
        thread = p->first_task + (size_t)(task - p->tasks);
    }
    edge = GROW(g, edges);
    if (!edge)
        return -ENOMEM;
    agent = thread == NONE ? &p->agent : &g->threads[thread].agent;
    *edge = (struct edge){target, process, thread, agent->first_edge};
    agent->first_edge = g->n_edges - 1;
    g->targets[target].n_edges++;
    return 0;
}

static int add_target(struct graph *g, size_t object, bool readers, size_t *ret_target)
{
    const struct sync_facts *f = &g->objects[object].facts;
    struct target *t = GROW(g, targets);
    int r = 0;

    if (!t)
        return -ENOMEM;
    *t = (struct target){
        .object = object,
        .readers = readers,
        .all = f->shape == SHAPE_SEMAPHORE,
        .first_edge = g->n_edges,
        .first_hop = NONE,
    };
    *ret_target = g->n_targets - 1;
    /* A semaphore that has units, or holders that we do not know: somebody may go on. */
    if (t->all && (f->units > 0 || !f->complete))
        t->holders++;
    for (size_t i = 0; r == 0 && i < f->n; i++)
        if (keeps(t, &f->holdings[i]))
            r = add_edge(g, *ret_target, &f->holdings[i], f->shape);
    return r;
}

/* A writer that has the word waits for readers; as do, through it, other writers of its process. */
static bool waits_for_readers(const struct hop *hop, const struct sync_facts *f)
{
    return hop->wait.kind == MP_WAIT_WRITE && f->units > 0 && f->owner.state == PARTICIPANT_LIVE &&
           f->owner.slot == hop->wait.who.slot;
}

static int find_target(struct graph *g, size_t h)
{
    struct hop *hop = &g->hops[h];
    size_t object, target = NONE;
    bool readers;
    int r = find_object(g, hop, &object);

    if (r < 0 || object == NONE || g->objects[object].facts.signals)
        return r;
    switch (g->objects[object].facts.shape) {
    case SHAPE_LOCK:
    case SHAPE_RLOCK:
    case SHAPE_RWLOCK:
    case SHAPE_SEMAPHORE:
        break;
    default:
        return 0; /* anybody may end these */
    }
    readers = waits_for_readers(hop, &g->objects[object].facts);
    for (size_t i = 0; i < g->n_targets && target == NONE; i++)
        if (g->targets[i].object == object && g->targets[i].readers == readers)
            target = i;
    if (target == NONE)
        r = add_target(g, object, readers, &target);
    if (r < 0)
        return r;
    hop->target = target;
    hop->next_of_target = g->targets[target].first_hop;
    g->targets[target].first_hop = h;
    return 0;
}

static int find_targets(struct graph *g)
{
    for (size_t i = 0; i < g->n_hops; i++) {
        int r = 0;

        if (is_recorded(g, &g->hops[i]))
            r = find_target(g, i);
        else
            g->unsettled++;
        if (r < 0)
            return r;
    }
    return 0;
}

pid_t graph_outer_tid(const struct graph *g, const struct holding *h)
{
    size_t process = h->tid ? find_process(g, &h->who) : NONE;
    const struct task *task;

    if (process == NONE)
        return 0;
    task = tasks_find_inner(g->processes[process].tasks, g->processes[process].n_tasks, h->tid);
    return task ? task->tid : 0;
}

/* ---- 3: did they sleep all the while ---- */

static int confirm_process(struct graph *g, size_t process)
{
    struct process *p = &g->processes[process];
    _cleanup_free_ struct task *now = NULL;
    size_t n;
    int r = tasks_read(p->pid, &now, &n);

    if (r == -ENOMEM)
        return r;
    if (r < 0 || mp_task_start(p->pid) != p->start) {
        p->workers = NONE;
        return 0; /* it has ended */
    }
    for (size_t i = 0; i < n; i++)
        p->workers += !now[i].helper;
    for (size_t i = p->first_hop; i != NONE; i = g->hops[i].next_of_process) {
        struct hop *hop = &g->hops[i];
        const struct task *before = &p->tasks[hop->thread - p->first_task];
        const struct task *after = tasks_find(now, n, hop->tid);

        hop->confirmed = hop->target != NONE && after && task_slept(before, after);
        g->unsettled += hop->target != NONE && !hop->confirmed;
    }
    return 0;
}

int graph_read(const struct ctl *ctl, const struct found *asked, struct graph *g)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < ctl->findings.n; i++) {
        const struct found *found = &ctl->findings.found[i];

        r = read_arena(ctl, found, found == asked, g);
    }
    if (r == 0)
        r = number_threads(g);
    if (r == 0)
        r = find_targets(g);
    for (size_t i = 0; r == 0 && i < g->n_processes; i++)
        r = confirm_process(g, i);
    for (size_t i = 0; r == 0 && i < g->n_views; i++)
        r = g->views[i]->error;
    return r;
}
