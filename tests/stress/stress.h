/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Workers at an object, under stress, and what must be true all the time.
 *
 *     static void work(struct worker *w)
 *     {
 *         while (stress_turn(w)) {
 *             ... with assert() ...
 *         }
 *     }
 *
 * The same workers are threads first, which is what ThreadSanitizer can see. Then they are
 * processes, of which one after another is stopped wherever it is, and goes on later: nobody may
 * notice. Last, where a stress says how to go on after deaths, they are processes that are killed
 * and replaced.
 */

#include <stdbool.h>
#include <stdint.h>

#include <mp/mp.h>

#include "base/carrier.h"

#define WORKERS_MOST 16u
#define PATIENCE MP_SEC(30)

enum stress_mode { STRESS_THREADS, STRESS_STOPPED, STRESS_KILLED };

struct stress_run;

struct worker {
    struct stress_run *run;
    uint32_t index;
    uint32_t seed;
    bool begun;
};

struct stress {
    const char *name;
    uint32_t workers;

    /* Make the objects. `shared` is memory for all workers, `size` bytes of zeroes. */
    size_t size;
    void (*begin)(mp_arena *arena, void *shared);

    void (*work)(struct worker *w);

    /* No turn begins any more: let those go who wait for what would have come. May be NULL. */
    void (*finish)(void);

    /* All are over: the counts. Of all turns that workers began, so many ended; those of workers
     * that were killed may be missing there. Then the objects are closed. */
    void (*end)(uint64_t turns, uint32_t killed);

    uint32_t rounds; /* of fifty deaths; 0: nobody is killed */
};

/* NAME [SECONDS]: threads for so long, stopped processes for twice as long. 0; 1 when something was
 * left behind. */
int stress_main(const struct stress *stress, int argc, char **argv);

/* Is there another turn? The former one counts. */
bool stress_turn(struct worker *w);

/* No more turns, for those who have to end with one another. */
bool stress_is_over(const struct worker *w);

/* It has something now that others wait for, or has not. */
void stress_holds(const struct worker *w, bool holds);

enum stress_mode stress_mode(const struct worker *w);

/* Do something for a moment, which now and then is a long one. */
void stress_work(struct worker *w);

/* 0 to sides - 1. */
uint32_t stress_dice(struct worker *w, uint32_t sides);

/* Mostly PATIENCE, which never passes; now and then a short one, which may. */
uint64_t stress_timeout(struct worker *w);

/* 1000 turns are a few microseconds. */
void stress_spin(uint32_t turns);
