/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Who waits for whom: the threads that are asleep for a lock, rlock, rwlock or a semaphore of
 * permits, in all arenas, and those who could end their waits. See graph.c and knots.c.
 */

#include "mpctl.h"
#include "tasks.h"

#define NONE SIZE_MAX

/* Somebody who can end waits: any thread of a process, or just one thread. */
struct agent {
    size_t first_edge; /* of those for what it holds */
    size_t hops;       /* waits of its threads that are stuck */
    size_t needed;     /* as many of them make it stuck */
    bool stuck;
};

struct process {
    pid_t pid;
    uint64_t start;
    struct task *tasks;
    size_t n_tasks;
    size_t first_task; /* in graph.tasks */
    size_t first_hop;
    size_t workers; /* threads that can do something */
    struct agent agent;
};

/* What is known of one thread, beside what /proc said. */
struct thread {
    size_t hop;    /* NONE: it does not wait */
    bool doubtful; /* it has two records */
    struct agent agent;
};

/* An object in one of the ways to wait for it. */
struct target {
    size_t object;
    bool readers; /* of a rwlock: until they have left; else until who has the word gives it up */
    bool all;     /* each holder can end the wait, so it lasts while all are stuck; else they all
                     have to, so it lasts while one is */
    size_t first_edge, n_edges;
    size_t holders; /* also those of whom nobody waits, who have no edge */
    size_t stuck;   /* of its edges: those of agents that are */
    size_t first_hop;
    bool blocked;
};

struct edge {
    size_t target;
    size_t process;
    size_t thread; /* in graph.threads; NONE: any of the process */
    size_t next;   /* of the same agent */
};

struct object {
    size_t view;
    uint32_t index;
    uint64_t part;
    char name[OBJECT_NAME_MAX + 24]; /* of many: with its number */
    struct sync_facts facts;
};

/* A thread that waits. */
struct hop {
    size_t view, process, thread, target;
    size_t next_of_process, next_of_target;
    pid_t tid; /* here */
    struct wait wait;
    bool confirmed; /* it was asleep all the while that we looked */
    bool stuck;
    size_t knot;  /* number of its deadlock, from 1; 0: it is in none */
    bool certain; /* that one */
};

struct graph {
    struct view **views;
    size_t n_views;
    struct process *processes;
    size_t n_processes;
    struct thread *threads; /* of all processes, one after the other */
    size_t n_threads;
    struct object *objects;
    size_t n_objects;
    struct target *targets;
    size_t n_targets;
    struct edge *edges;
    size_t n_edges;
    struct hop *hops;
    size_t n_hops;
    bool complained;  /* of an arena that was asked for */
    size_t unsettled; /* waits that were there, but moved while we looked */
};

/* Look at all arenas that were found. 0; -ENOMEM, or what opening or reading says. */
int graph_read(const struct ctl *ctl, const struct found *asked, struct graph *graph);
void graph_deinit(struct graph *graph);
#define _cleanup_graph_ _cleanup_(graph_deinit)

/* The thread of a holding as it is called here. 0: it is not known. */
pid_t graph_outer_tid(const struct graph *graph, const struct holding *holding);

/* Fill in hop.knot and hop.certain. 0, and how many deadlocks there are; -ENOMEM. */
int graph_find_knots(struct graph *graph, size_t *ret_knots);

/* The hops after hop h, one a call. `at` begins as {0}; NONE: there are no more. */
struct walk {
    size_t edge, hop;
    bool inside; /* `hop` is the next one of the process of the last edge */
};
size_t graph_next_hop(const struct graph *graph, size_t h, struct walk *at);

/* Room for one more. NULL: no memory. */
void *grow(void **array, size_t *n, size_t size);
